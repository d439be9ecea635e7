//! Descriptors among bytes.
use crate::support::{Log, Noting, run_until, short};
use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};
use twistor::{address::Address, failure::Failure, prelude::*, reactor::Reactor};

#[protocol]
struct Fds {
    #[init(Log::new())]
    log: Log,
}

#[protocol]
impl Fds {
    fn file_descriptor_received(&mut self, descriptor: OwnedFd, transport: &Transport) {
        self.log.add("fd");
        drop(descriptor);
        transport.abort_connection();
    }
    fn data_received(&mut self, data: &[u8]) {
        self.log.add(format!("data {}", String::from_utf8_lossy(data)));
    }
    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
    }
}

#[protocol]
struct FdsPause {
    #[init(Log::new())]
    log: Log,
}

#[protocol]
impl FdsPause {
    fn file_descriptor_received(&mut self, descriptor: OwnedFd, transport: &Transport) {
        self.log.add("fd");
        drop(descriptor);
        transport.pause_producing();
    }
    fn data_received(&mut self, data: &[u8]) {
        self.log.add(format!("data {}", String::from_utf8_lossy(data)));
    }
}

#[test]
fn an_abort_in_a_descriptor_handler_delivers_no_data_behind_it() {
    let reactor = Reactor::new().unwrap();
    let (x, y) = UnixStream::pair().unwrap();
    let log = Log::new();
    let l = log.clone();
    let _a = reactor
        .adopt_stream_connection(OwnedFd::from(x), move |_: &Address| Fds { log: l.clone() })
        .unwrap();
    let b = reactor
        .adopt_stream_connection(OwnedFd::from(y), Noting::factory(&Log::new(), Noting::nothing))
        .unwrap();
    for _ in 0..2 {
        b.send_file_descriptor(std::fs::File::open("/dev/null").unwrap());
    }
    b.write("xy");
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.last().is_some_and(|l| l.starts_with("lost"))
    });
    assert_eq!(seen, ["fd", "lost ConnectionAborted"]);
    reactor.close();
}

#[test]
fn three_hundred_descriptors_go_through_in_several_messages() {
    let reactor = Reactor::new().unwrap();
    let (x, y) = UnixStream::pair().unwrap();
    let log = Log::new();
    let _a = reactor
        .adopt_stream_connection(OwnedFd::from(x), Noting::factory(&Log::new(), Noting::nothing))
        .unwrap();
    let b = reactor
        .adopt_stream_connection(OwnedFd::from(y), Noting::factory(&log, Noting::nothing))
        .unwrap();
    log.take();
    for _ in 0..300 {
        b.send_file_descriptor(std::fs::File::open("/dev/null").unwrap());
    }
    b.write([b'x'; 300]);
    for _ in 0..5 {
        reactor.iterate(Duration::from_millis(5)).unwrap();
    }
    assert_eq!(log.take(), [""; 0]);
    reactor.close();
}

#[test]
fn a_pause_in_a_descriptor_handler_holds_back_the_data_behind_it() {
    let reactor = Reactor::new().unwrap();
    let (x, y) = UnixStream::pair().unwrap();
    let log = Log::new();
    let l = log.clone();
    let _a = reactor
        .adopt_stream_connection(OwnedFd::from(x), move |_: &Address| FdsPause { log: l.clone() })
        .unwrap();
    let b = reactor
        .adopt_stream_connection(OwnedFd::from(y), Noting::factory(&Log::new(), Noting::nothing))
        .unwrap();
    b.send_file_descriptor(std::fs::File::open("/dev/null").unwrap());
    b.write("xy");
    for _ in 0..5 {
        reactor.iterate(Duration::from_millis(5)).unwrap();
    }
    let seen = log.take();
    reactor.close();
    assert_eq!(seen, ["fd"]);
}

#[test]
fn write_sequence_with_too_few_bytes_for_its_descriptors_overruns_as_write_does() {
    let reactor = Reactor::new().unwrap();
    let (x, y) = UnixStream::pair().unwrap();
    let (la, lb) = (Log::new(), Log::new());
    let _a = reactor
        .adopt_stream_connection(OwnedFd::from(x), Noting::factory(&la, Noting::nothing))
        .unwrap();
    let b = reactor
        .adopt_stream_connection(OwnedFd::from(y), Noting::factory(&lb, Noting::nothing))
        .unwrap();
    lb.take();
    for _ in 0..3 {
        b.send_file_descriptor(std::fs::File::open("/dev/null").unwrap());
    }
    b.write_sequence(["x"]);
    for _ in 0..5 {
        reactor.iterate(Duration::from_millis(5)).unwrap();
    }
    let seen = lb.take();
    reactor.close();
    assert_eq!(seen, ["lost FileDescriptorOverrun"], "as with write");
}

//! Pipes between two connections.
use crate::support::{Log, Noting, Pair, Reports, Source, connected, total};
use std::{
    io::Read,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};
use twistor::{
    address::Address,
    prelude::*,
    protocol::{ProducerKind, pipe},
    reactor::Reactor,
    testing::MemoryReactor,
};

#[protocol]
struct FdsPipe {
    log: Log,
}

#[protocol]
impl FdsPipe {
    fn file_descriptor_received(&mut self, transport: &Transport) {
        self.log.add("fd");
        transport.pause_producing();
    }
    fn data_received(&mut self, data: &[u8]) {
        self.log.add(format!("data {}", String::from_utf8_lossy(data)));
    }
}

#[protocol]
struct Half {
    log: Log,
}

#[protocol]
impl Half {
    fn data_received(&mut self) {
        self.log.add("data");
    }
    fn read_connection_lost(&mut self) {
        self.log.add("read lost");
    }
}

struct Piped {
    memory: MemoryReactor,
    left: Handle<Noting>,
    right: Handle<Noting>,
    a: Transport,
    b: Transport,
    al: Log,
    ar: Log,
    between: Log,
}

fn piped() -> Piped {
    let memory = MemoryReactor::new();
    memory.set_send_buffer(1000);
    let (al, ar, between) = (Log::new(), Log::new(), Log::new());
    let (left, one) = connected(&memory, &between, &al);
    let (right, other) = connected(&memory, &between, &ar);
    for log in [&al, &ar, &between] {
        log.take();
    }
    Piped {
        memory,
        a: one.transport().clone(),
        b: other.transport().clone(),
        left,
        right,
        al,
        ar,
        between,
    }
}

#[test]
fn a_side_paused_by_its_pipe_reads_again_when_it_is_piped_elsewhere() {
    let pair = Pair::new(1000);
    let (memory, la, a, _) = (&pair.memory, &pair.client, &pair.server, &pair.at_client);
    let (at_b, at_lb) = (Log::new(), Log::new());
    let (lb, b) = connected(memory, &at_b, &at_lb);
    let (cl, cs) = (Log::new(), Log::new());
    let (_lc, c) = connected(memory, &cs, &cl);
    cl.take();
    lb.pause_producing();
    pipe(a.transport(), b.transport());
    b.transport().set_write_marks(0, 500);
    la.write("x".repeat(5000));
    memory.settle();
    pipe(a.transport(), c.transport());
    memory.settle();
    la.write("hello");
    memory.settle();
    memory.advance(Duration::from_secs(60));
    assert!(total(&cl.take()) > 5, "a is never read again");
}

#[test]
fn piping_an_aborted_connection_closes_the_other_side() {
    let pair = Pair::new(1000);
    let (memory, _la, a, _) = (&pair.memory, &pair.client, &pair.server, &pair.at_client);
    let (x, y) = (Log::new(), Log::new());
    let (_lb, b) = connected(memory, &x, &y);
    y.take();
    a.abort_connection();
    pipe(a.transport(), b.transport());
    memory.advance(Duration::from_secs(60));
    assert_eq!(y.take(), ["lost ConnectionDone"]);
}

#[test]
fn bytes_behind_a_descriptor_go_into_a_pipe_made_meanwhile() {
    let reactor = Reactor::new().unwrap();
    let (one, two) = UnixStream::pair().unwrap();
    let (three, mut end) = UnixStream::pair().unwrap();
    let log = Log::new();
    let into = log.clone();
    let a = reactor
        .adopt_stream_connection(OwnedFd::from(one), move |_: &Address| FdsPipe {
            log: into.clone(),
        })
        .unwrap();
    let b = reactor
        .adopt_stream_connection(OwnedFd::from(two), Noting::factory(&Log::new(), Noting::nothing))
        .unwrap();
    let c = reactor
        .adopt_stream_connection(
            OwnedFd::from(three),
            Noting::factory(&Log::new(), Noting::nothing),
        )
        .unwrap();
    b.send_file_descriptor(std::fs::File::open("/dev/null").unwrap());
    b.write("xy");
    for _ in 0..5 {
        reactor.iterate(Duration::from_millis(5)).unwrap();
    }
    assert_eq!(log.take(), ["fd"]);
    pipe(a.transport(), c.transport());
    a.resume_producing();
    for _ in 0..5 {
        reactor.iterate(Duration::from_millis(5)).unwrap();
    }
    end.set_nonblocking(true).unwrap();
    let mut buf = [0; 10];
    let got = end.read(&mut buf).ok();
    let seen = log.take();
    reactor.close();
    assert_eq!((got, seen), (Some(2), vec![]));
}

#[test]
fn a_pipe_made_after_the_peers_end_passes_the_end_on() {
    let reactor = Reactor::new().unwrap();
    let (one, peer_a) = UnixStream::pair().unwrap();
    let (other, mut peer_b) = UnixStream::pair().unwrap();
    let log = Log::new();
    let l = log.clone();
    let a = reactor
        .adopt_stream_connection(OwnedFd::from(one), move |_: &Address| Half { log: l.clone() })
        .unwrap();
    peer_a.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..5 {
        reactor.iterate(Duration::from_millis(5)).unwrap();
    }
    assert_eq!(log.take(), ["read lost"]);
    let b = reactor
        .adopt_stream_connection(
            OwnedFd::from(other),
            Noting::factory(&Log::new(), Noting::nothing),
        )
        .unwrap();
    pipe(a.transport(), b.transport());
    for _ in 0..20 {
        reactor.iterate(Duration::from_millis(5)).unwrap();
    }
    peer_b.set_nonblocking(true).unwrap();
    let got = peer_b.read(&mut [0; 10]).map_err(|e| e.kind());
    reactor.close();
    assert_eq!(got, Ok(0), "the end of a's peer is the end of b's writing");
}

#[test]
fn piping_twice_to_the_same_side_changes_nothing() {
    let p = piped();
    pipe(&p.a, &p.b);
    pipe(&p.a, &p.b);
    p.left.write("hello");
    p.memory.advance(Duration::from_secs(60));
    assert!(p.a.is_connected() && p.b.is_connected());
}

#[test]
fn piping_to_another_side_stops_the_first() {
    let p = piped();
    let (lc, c, logc) = {
        let l = Log::new();
        let (x, y) = connected(&p.memory, &p.between, &l);
        (x, y.transport().clone(), l)
    };
    p.between.take();
    logc.take();
    pipe(&p.a, &p.b);
    pipe(&p.a, &c);
    p.left.write("hello");
    p.memory.advance(Duration::from_secs(60));
    assert_eq!(logc.take(), ["data hello"]);
    assert_eq!(p.ar.take(), ["lost ConnectionDone"], "the old partner was stopped, and closes");
    assert!(p.a.is_connected());
    drop(lc);
}

#[test]
fn a_connection_piped_to_itself_is_a_misuse_that_changes_nothing() {
    let reports = Reports::new();
    let p = piped();
    pipe(&p.a, &p.a);
    p.left.write("hello");
    p.memory.advance(Duration::from_secs(60));
    p.left.lose_connection();
    p.memory.advance(Duration::from_secs(60));
    assert_eq!(p.between.take(), ["data hello", "lost ConnectionDone"]);
    assert!(reports.take()[0].contains("cannot be piped to itself"));
}

#[test]
fn closing_one_side_of_a_pipe_closes_both() {
    let p = piped();
    pipe(&p.a, &p.b);
    p.a.lose_connection();
    p.memory.advance(Duration::from_secs(3600));
    assert_eq!(p.al.take(), ["lost ConnectionDone"]);
    assert_eq!(p.ar.take(), ["lost ConnectionDone"]);
}

#[test]
fn own_producer_registered_after_pipe_is_stopped_at_loss() {
    let p = piped();
    let log = Log::new();
    pipe(&p.a, &p.b);
    p.a.unregister_producer();
    p.a.register_producer(Source::new(&log, || ()), ProducerKind::Push).unwrap();
    p.a.abort_connection();
    p.memory.settle();
    assert_eq!(log.take(), ["stop"]);
}

#[test]
fn a_half_close_waits_for_a_paused_side_of_the_pipe() {
    // the end of file arrives while the other side still has a queue
    let p = piped();
    pipe(&p.a, &p.b);
    p.right.pause_producing();
    p.left.write([b'x'; 5000]);
    p.left.lose_write_connection();
    p.memory.advance(Duration::from_secs(1));
    p.right.resume_producing();
    p.memory.advance(Duration::from_secs(1));
    let got: usize = p.ar.take().iter().filter_map(|l| l.strip_prefix("data ")).map(str::len).sum();
    assert_eq!(got, 5000);
}

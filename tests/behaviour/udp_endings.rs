//! Closing datagram ports.
use crate::support::{Log, Reports, Scratch, run_until, watch};
use std::{cell::RefCell, net::Ipv4Addr, os::unix::net::UnixDatagram, rc::Rc, time::Duration};
use twistor::{
    address::Address,
    failure::Failure,
    reactor::Reactor,
    transport::{DatagramPort, DatagramProtocol, DatagramTransport, ListenUnixOptions, UdpOptions},
};

struct Dg {
    log: Log,
    port: Rc<RefCell<Option<DatagramPort<Dg>>>>,
    in_stop: bool,
}

impl DatagramProtocol for Dg {
    fn datagram_received(&mut self, d: &[u8], _f: &Address, _t: &DatagramTransport) {
        self.log.add(format!("got {}", String::from_utf8_lossy(d)));
    }
    fn stop_protocol(&mut self) {
        self.log.add("stop");
        if self.in_stop {
            let p = self.port.take();
            if let Some(p) = p {
                p.stop_listening().add_both(|_| Ok::<(), Failure>(())).detach();
            }
        }
    }
}

#[test]
fn stop_listening_inside_stop_protocol_is_quiet() {
    let reactor = Reactor::new().unwrap();
    let (log, slot, reports) = (Log::new(), Rc::new(RefCell::new(None)), Reports::new());
    let port = reactor
        .listen_udp(
            (Ipv4Addr::LOCALHOST, 0),
            Dg { log: log.clone(), port: slot.clone(), in_stop: true },
            &UdpOptions::default(),
        )
        .unwrap();
    *slot.borrow_mut() = Some(port.clone());
    port.transport().stop_listening();
    run_until(&reactor, || !log.take().is_empty());
    assert_eq!(reports.take(), [""; 0]);
    assert!(port.try_with(|_| ()).is_err(), "its own call has got it back");
    reactor.close();
}

#[test]
fn t_271_a_datagram_behind_an_error_is_read() {
    let (reactor, scratch, log) = (Reactor::new().unwrap(), Scratch::new(), Log::new());
    let reports = Reports::new();
    let (a, b, c) = (scratch.path("a"), scratch.path("b"), scratch.path("c"));
    let bs = UnixDatagram::bind(&b).unwrap();
    let _cs = UnixDatagram::bind(&c).unwrap();
    let port = reactor
        .connect_unix_datagram(
            &b,
            a.clone(),
            Dg { log: log.clone(), port: Rc::default(), in_stop: false },
            &ListenUnixOptions::default(),
        )
        .unwrap();
    reactor.iterate(Duration::ZERO).unwrap();
    port.transport().write("unread", None).unwrap();
    bs.connect(&a).unwrap();
    bs.connect(&c).unwrap();
    bs.send_to(b"hello", &a).unwrap();
    for _ in 0..20 {
        reactor.iterate(Duration::from_millis(10)).unwrap();
    }
    assert_eq!(log.take(), ["got hello"]);
    assert_eq!(reports.take().len(), 1, "the error is told of");
    drop(port);
    reactor.close();
}

#[test]
fn stop_listening_inside_a_try_with_after_the_end_is_accepted() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let port = reactor
        .listen_udp(
            (Ipv4Addr::LOCALHOST, 0),
            Dg { log: log.clone(), port: Rc::default(), in_stop: false },
            &UdpOptions::default(),
        )
        .unwrap();
    port.transport().stop_listening();
    run_until(&reactor, || !log.take().is_empty());
    let _ = watch(port.try_with(|_| port.stop_listening()).unwrap());
    reactor.close();
}

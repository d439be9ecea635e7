//! Producers, and `drained`, at the end of a connection.
use crate::support::{
    Log, Noting, Pair, Reports, Source, accepted, keep_made, run_until, short, total, watch,
};
use std::{
    cell::{Cell, RefCell},
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    rc::Rc,
    time::Duration,
};
use twistor::{
    address::Address,
    failure::Failure,
    prelude::*,
    protocol::{Producer, ProducerKind},
    reactor::Reactor,
    transport::ListenTcpOptions,
};

struct Abort(Transport);

impl Producer for Abort {
    fn resume_producing(&self) {
        self.0.abort_connection();
    }
    fn stop_producing(&self) {}
}

/// A pull producer that writes three pieces to `transport` and finishes.
fn three_pieces(transport: &Transport) -> Rc<Source> {
    let (to, written) = (transport.clone(), Cell::new(0));
    Source::new(&Log::new(), move || {
        if written.replace(written.get() + 1) < 3 {
            to.write("piece ");
        } else {
            to.unregister_producer();
        }
    })
}

#[protocol]
struct Half {
    #[init(Log::new())]
    log: Log,
    #[init(Rc::default())]
    keep: Rc<RefCell<Option<Transport>>>,
}

#[protocol]
impl Half {
    fn connection_made(&mut self, transport: &Transport) {
        *self.keep.borrow_mut() = Some(transport.clone());
    }
    fn data_received(&mut self, data: &[u8]) {
        self.log.add(format!("data {}", String::from_utf8_lossy(data)));
    }
    fn read_connection_lost(&mut self, transport: &Transport) {
        self.log.add("read lost");
        transport.register_producer(three_pieces(transport), ProducerKind::Pull).unwrap();
        transport.lose_connection();
    }
    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
    }
}

#[test]
fn what_a_drained_callback_writes_goes_out_before_the_end_it_asks_for() {
    for half in [false, true] {
        let pair = Pair::new(100);
        let (memory, _client, server, at_client) =
            (&pair.memory, &pair.client, &pair.server, &pair.at_client);
        let to = server.transport().clone();
        to.write("x".repeat(500));
        let inside = to.clone();
        let ends = move |()| {
            inside.write("y".repeat(500));
            if half {
                inside.lose_write_connection();
            } else {
                inside.lose_connection();
            }
            Ok(())
        };
        to.drained().add_callback(ends).detach();
        memory.advance(Duration::from_secs(60));
        let seen = at_client.take();
        assert_eq!((total(&seen), seen.last().unwrap().as_str()), (1000, "lost ConnectionDone"));
    }
}

#[test]
fn a_close_from_a_drained_callback_leaves_no_timer() {
    let pair = Pair::new(100);
    let (memory, client, server, at_client) =
        (&pair.memory, &pair.client, &pair.server, &pair.at_client);
    let t = server.transport().clone();
    t.write("x".repeat(500));
    let u = t.clone();
    client.pause_producing();
    t.drained()
        .add_callback(move |()| {
            u.lose_connection();
            Ok(())
        })
        .detach();
    memory.settle();
    client.resume_producing();
    memory.settle();
    let left = memory.reactor().delayed_calls();
    assert!(left.is_empty(), "{left:?} {:?}", at_client.take());
}

#[test]
fn drained_fails_when_the_producer_aborts_as_it_resumes() {
    let pair = Pair::new(100);
    let (memory, _client, server, _) = (&pair.memory, &pair.client, &pair.server, &pair.at_client);
    let t = server.transport().clone();
    t.set_write_marks(250, 300);
    t.register_producer(Rc::new(Abort(t.clone())), ProducerKind::Push).unwrap();
    t.write("x".repeat(1000));
    let d = watch(t.drained());
    t.set_write_marks(250, 300);
    memory.settle();
    let _ = d.failure();
}

#[test]
fn a_panic_in_a_producer_closes_the_connection_also_after_lose_connection() {
    let pair = Pair::new(1000);
    let _reports = Reports::new();
    let log = Log::new();
    let to = pair.server.transport().clone();
    let n = Cell::new(0);
    pair.server
        .register_producer(
            Source::new(&log, move || {
                n.set(n.get() + 1);
                assert!(n.get() < 3, "bang");
                to.write("piece");
            }),
            ProducerKind::Pull,
        )
        .unwrap();
    pair.server.lose_connection();
    pair.memory.advance(Duration::from_secs(3600));
    assert_eq!(
        pair.at_server.take(),
        ["lost Panicked"],
        "a panic in a producer costs the connection"
    );
}

#[test]
fn a_failure_does_not_wait_for_the_producer() {
    let pair = Pair::new(1000);
    let log = Log::new();
    pair.server.register_producer(Source::new(&log, || ()), ProducerKind::Push).unwrap();
    pair.server.lose_connection();
    pair.server.fail(crate::support::Bang("enough"));
    pair.memory.advance(Duration::from_secs(3600));
    assert_eq!(pair.at_server.take(), ["lost Bang"]);
}

#[test]
fn a_peer_that_has_half_closed_gets_everything_that_the_producer_makes() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let l = log.clone();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| Half { log: l.clone(), keep: Rc::default() },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let mut c = TcpStream::connect(port.host().socket_addr().unwrap()).unwrap();
    c.write_all(b"request").unwrap();
    c.shutdown(std::net::Shutdown::Write).unwrap();
    c.set_nonblocking(true).unwrap();
    let mut got = Vec::new();
    run_until(&reactor, || {
        let mut b = [0; 100];
        match c.read(&mut b) {
            Ok(0) => true,
            Ok(n) => {
                got.extend_from_slice(&b[..n]);
                false
            }
            Err(_) => false,
        }
    });
    assert_eq!(String::from_utf8(got).unwrap(), "piece piece piece ");
    reactor.close();
}

#[test]
fn lose_write_connection_waits_for_a_pull_producer() {
    let pair = Pair::new(1000);
    let pieces = three_pieces(pair.server.transport());
    pair.server.register_producer(pieces, ProducerKind::Pull).unwrap();
    pair.server.lose_write_connection();
    pair.memory.advance(Duration::from_secs(3600));
    let seen = pair.at_client.take();
    assert_eq!(seen.join("").replace("data ", ""), "piece piece piece lost ConnectionDone");
}

#[test]
fn a_producer_registered_after_a_half_close_does_not_delay_the_loss() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    keep_made();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            Noting::factory(&log, Noting::nothing),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let at = port.host().socket_addr().unwrap();
    let _c = TcpStream::connect(at).unwrap();
    run_until(&reactor, || !log.take().is_empty());
    let s = accepted(at.port());
    s.lose_connection();
    reactor.iterate(Duration::ZERO).unwrap();
    let to = s.transport().clone();
    let pl = Log::new();
    s.register_producer(Source::new(&pl, move || to.write("late")), ProducerKind::Pull).unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        !seen.is_empty()
    });
    assert_eq!(seen, ["lost ConnectionDone"]);
    reactor.close();
}

#[test]
fn a_write_after_an_abort_goes_nowhere() {
    let pair = Pair::new(1000);
    pair.server.register_producer(Source::new(&Log::new(), || ()), ProducerKind::Push).unwrap();
    pair.server.lose_connection();
    pair.server.abort_connection();
    pair.server.write("late");
    pair.memory.settle();
    assert_eq!(pair.at_client.take(), ["lost ConnectionLost"]);
}

#[test]
fn drained_succeeds_when_a_half_closed_peer_has_taken_everything() {
    let pair = Pair::new(1000);
    pair.client.pause_producing();
    pair.server.write([b'x'; 3000]);
    let d = watch(pair.server.drained());
    pair.client.lose_write_connection();
    pair.memory.advance(Duration::from_secs(1));
    pair.client.resume_producing();
    pair.memory.advance(Duration::from_secs(1));
    let got: usize =
        pair.at_client.take().iter().filter_map(|l| l.strip_prefix("data ")).map(str::len).sum();
    assert_eq!(got, 3000);
    d.value();
}

//! What a second review has found, in the delivery, the pipe and the fakes: each test says what
//! holds now.
use crate::support::{Log, Noting, run_until, watch};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    rc::Rc,
    time::Duration,
};
use twistor::{
    address::Address,
    prelude::*,
    protocol::{Producer, ProducerKind, pipe},
    testing::{Clock, MemoryReactor, StringTransport},
    transport::{ConnectTcpOptions, ListenTcpOptions},
};

fn pair(buffer: usize, port: u16) -> (MemoryReactor, Handle<Noting>, Handle<Noting>, Log) {
    let memory = MemoryReactor::new();
    memory.set_send_buffer(buffer);
    let (c, s) = (Log::new(), Log::new());
    let (client, server) = crate::flow::connected(&memory, port, &s, &c);
    c.take();
    s.take();
    (memory, client, server, c)
}
fn total(l: &[String]) -> usize {
    l.iter().filter_map(|l| l.strip_prefix("data ")).map(str::len).sum()
}

#[test]
fn what_a_drained_callback_writes_goes_out_before_the_end_it_asks_for() {
    for half in [false, true] {
        let (memory, _client, server, at_client) = pair(100, 80);
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
fn drained_then_lose_leaves_timer() {
    let (memory, client, server, at_client) = pair(100, 80);
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

struct Abort(Transport);
impl Producer for Abort {
    fn resume_producing(&self) {
        self.0.abort_connection();
    }
    fn stop_producing(&self) {}
}
#[test]
fn drained_after_abort_in_resume() {
    let (memory, _client, server, _) = pair(100, 80);
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
fn repipe_while_paused() {
    let (memory, la, a, _) = pair(1000, 80);
    let (at_b, at_lb) = (Log::new(), Log::new());
    let (lb, b) = crate::flow::connected(&memory, 81, &at_b, &at_lb);
    let (cl, cs) = (Log::new(), Log::new());
    let (_lc, c) = crate::flow::connected(&memory, 82, &cs, &cl);
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
fn pipe_after_abort() {
    let (memory, _la, a, _) = pair(1000, 80);
    let (x, y) = (Log::new(), Log::new());
    let (_lb, b) = crate::flow::connected(&memory, 81, &x, &y);
    y.take();
    a.abort_connection();
    pipe(a.transport(), b.transport());
    memory.advance(Duration::from_secs(60));
    assert_eq!(y.take(), ["lost ConnectionDone"]);
}

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
#[test]
fn kept_and_pipe() {
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

#[protocol]
struct Waits {
    log: Log,
}
#[protocol]
impl Waits {
    #[inline_callbacks]
    #[cancel_on_loss]
    fn data_received(this: Handle<Self>) -> Deferred<()> {
        let log = yield_!(this.with(|me| me.log.clone()))?;
        log.add("begun");
        let (never, _keep) = Deferred::<()>::new();
        let r = yield_!(never);
        log.add(if r.is_ok() { "ok" } else { "cancelled" });
        return_value!(())
    }
}
fn real(same: bool) -> Vec<String> {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let l = log.clone();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| Waits { log: l.clone() },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let mut c = TcpStream::connect(port.host().socket_addr().unwrap()).unwrap();
    let mut seen = Vec::new();
    let mut run = |what: &str| {
        run_until(&reactor, || {
            seen.extend(log.take());
            seen.last().is_some_and(|last| last == what)
        });
    };
    c.write_all(b"x").unwrap();
    if !same {
        run("begun");
    }
    drop(c);
    run("cancelled");
    reactor.close();
    seen
}
#[test]
fn fin_later() {
    assert_eq!(real(false), ["begun", "cancelled"]);
}
#[test]
fn fin_with_the_message() {
    assert_eq!(real(true), ["begun", "cancelled"]);
}
#[test]
fn string_transport_end_cancels() {
    let log = Log::new();
    let l = log.clone();
    let t = StringTransport::new();
    let _h = t.connect(move |_: &Address| Waits { log: l.clone() }, &Clock::new());
    t.receive("x");
    t.end();
    assert_eq!(log.take(), ["begun", "cancelled"]);
}
#[test]
fn string_transport_reset_cancels() {
    let log = Log::new();
    let l = log.clone();
    let t = StringTransport::new();
    let _h = t.connect(move |_: &Address| Waits { log: l.clone() }, &Clock::new());
    t.receive("x");
    t.reset();
    assert_eq!(log.take(), ["begun", "cancelled"]);
}
#[test]
fn memory_lose_cancels_at_once() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let l = log.clone();
    let place: SocketAddr = ([127, 0, 0, 1], 90).into();
    let _p = memory
        .reactor()
        .listen_tcp(
            place,
            move |_: &Address| Waits { log: l.clone() },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let client = watch(memory.reactor().connect_tcp(
        place,
        Noting::factory(&Log::new(), Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    let client = client.value();
    client.write("x");
    memory.settle();
    client.lose_connection();
    memory.settle();
    assert_eq!(log.take(), ["begun", "cancelled"]);
}

#[test]
fn clock_advance_alone() {
    let log = Log::new();
    let t = StringTransport::new();
    let clock = Clock::new();
    let h = t.connect(Noting::factory(&log, Noting::nothing), &clock);
    let u = h.transport().clone();
    twistor::time::ReactorTime::schedule(
        &clock,
        Duration::from_secs(5),
        Box::new(move || u.abort_connection()),
    );
    clock.advance(Duration::from_secs(5));
    assert_eq!(log.take(), ["made", "lost ConnectionAborted"]);
}

#[test]
fn raised_send_buffer() {
    let (memory, client, server, at_client) = pair(100, 80);
    client.pause_producing();
    memory.settle();
    server.write("x".repeat(1000));
    memory.settle();
    memory.set_send_buffer(5000);
    client.resume_producing();
    memory.advance(Duration::from_secs(60));
    assert_eq!(total(&at_client.take()), 1000);
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
#[test]
fn pipe_of_a_half_closed() {
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
fn linger_in_clock() {
    let (log, clock, t) = (Log::new(), Clock::new(), StringTransport::new());
    let h = t.connect(Noting::factory(&log, Noting::nothing), &clock);
    h.lose_connection();
    assert!(t.is_disconnecting());
    let calls = clock.delayed_calls();
    clock.advance(Duration::from_secs(2));
    let after = log.take();
    t.untaken();
    t.take();
    assert_eq!(
        (calls.len(), after, log.take()),
        (0, vec!["made".to_owned(), "lost ConnectionDone".to_owned()], vec![])
    );
}
#[test]
fn each_message_before_the_end_is_begun_and_cancelled() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let l = log.clone();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| Slow { log: l.clone() },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let mut c = TcpStream::connect(port.host().socket_addr().unwrap()).unwrap();
    c.write_all(b"one\ntwo\nthree\n").unwrap();
    drop(c);
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.len() == 6
    });
    reactor.close();
    assert_eq!(
        seen,
        [
            "begun one",
            "cancelled one",
            "begun two",
            "cancelled two",
            "begun three",
            "cancelled three"
        ]
    );
}
#[protocol(lines(delimiter = b"\n"))]
struct Slow {
    log: Log,
}
#[protocol]
impl Slow {
    #[inline_callbacks]
    #[cancel_on_loss]
    fn line_received(this: Handle<Self>, line: Vec<u8>) -> Deferred<()> {
        let log = yield_!(this.with(|me| me.log.clone()))?;
        let line = String::from_utf8_lossy(&line).into_owned();
        log.add(format!("begun {line}"));
        let reactor = twistor::reactor::Reactor::current().unwrap();
        let r = yield_!(twistor::task::defer_later(&reactor, Duration::from_millis(50), || Ok(())));
        log.add(format!("{} {line}", if r.is_ok() { "done" } else { "cancelled" }));
        return_value!(())
    }
}
#[protocol(lines(delimiter = b"\n"))]
struct Backpressure {
    log: Log,
}
#[protocol]
impl Backpressure {
    fn line_received(&mut self, line: &[u8], transport: &Transport) {
        self.log.add(String::from_utf8_lossy(line));
        transport.write(vec![b'x'; 8 << 20]);
        transport.pause_producing();
        let t = transport.clone();
        transport
            .drained()
            .add_callback(move |()| {
                t.resume_producing();
                Ok(())
            })
            .detach();
    }
}
#[test]
fn lines_behind_a_pause_and_the_end() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let l = log.clone();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| Backpressure { log: l.clone() },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let mut c = TcpStream::connect(port.host().socket_addr().unwrap()).unwrap();
    c.write_all(b"a\nb\nc\n").unwrap();
    c.shutdown(std::net::Shutdown::Write).unwrap();
    let reader = std::thread::spawn(move || {
        let mut v = Vec::new();
        let _ = c.read_to_end(&mut v);
        v.len()
    });
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.len() == 3 && reader.is_finished()
    });
    reactor.close();
    let got = reader.join().unwrap();
    assert_eq!((seen, got), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], 3 * (8 << 20)));
}

#[test]
fn a_bulk_sender_has_its_share_of_a_turn_and_goes_on_in_the_next() {
    let memory = MemoryReactor::new();
    memory.set_send_buffer(8 << 20);
    let seen = Log::new();
    let at = seen.clone();
    struct Lengths(Log);
    impl Protocol for Lengths {
        type Framing = twistor::protocol::Raw;

        fn message_received(&mut self, _this: &Handle<Self>, data: &[u8]) {
            self.0.add(data.len());
        }
    }
    let reactor = memory.reactor();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| Lengths(at.clone()),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let connect = || {
        let client = Noting::factory(&Log::new(), Noting::nothing);
        watch(reactor.connect_tcp(
            port.host().socket_addr().unwrap(),
            client,
            &ConnectTcpOptions::default(),
        ))
    };
    let (bulk, small) = (connect(), connect());
    memory.settle();
    bulk.value().write(vec![b'x'; 2 << 20]);
    small.value().write("x");
    memory.settle();
    let lengths: Vec<usize> = seen.take().iter().map(|length| length.parse().unwrap()).collect();
    let before: usize = lengths.iter().take_while(|length| **length > 1).sum();
    assert_eq!(before, 8 * 96 * 1024, "{lengths:?}");
    assert_eq!(lengths.iter().sum::<usize>(), (2 << 20) + 1, "and nothing is lost");
}

/// A handler that closes the writing side, or the reactor, when its data has come together with the
/// peer's end.
#[protocol]
struct Busy {
    #[init(Log::new())]
    log: Log,
    closes: bool,
}

#[protocol]
impl Busy {
    #[inline_callbacks]
    fn data_received(this: Handle<Self>, _data: Vec<u8>) -> Deferred<()> {
        let (log, closes) = yield_!(this.with(|busy| (busy.log.clone(), busy.closes)))?;
        let reactor = Reactor::current().unwrap();
        if closes {
            reactor.close();
            return_value!(());
        }
        log.add("data");
        this.lose_write_connection();
        let later = log.clone();
        reactor.call_later(Duration::ZERO, move || later.add("a later turn"));
        let (waits, resolver) = Deferred::<()>::new();
        reactor.call_later(Duration::from_millis(20), move || resolver.callback(()));
        yield_!(waits)
    }

    fn read_connection_lost(&mut self) {
        self.log.add("read lost");
    }

    fn write_connection_lost(&mut self) {
        self.log.add("write lost");
    }

    #[inline_callbacks]
    fn connection_lost(this: Handle<Self>) -> Deferred<()> {
        CALLED.set(CALLED.get() + 1);
        return_value!(drop(this))
    }
}

thread_local! {
    static CALLED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// What a `Busy` notes of data that has come together with the end.
fn served_with_the_end(closes: bool) -> Vec<String> {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let into = log.clone();
    let build = move |_: &Address| Busy { log: into.clone(), closes };
    let port =
        reactor.listen_tcp((Ipv4Addr::LOCALHOST, 0), build, &ListenTcpOptions::default()).unwrap();
    let mut peer = TcpStream::connect(port.host().socket_addr().unwrap()).unwrap();
    peer.write_all(b"x").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..10 {
        let _ = reactor.iterate(Duration::from_millis(10));
    }
    log.take()
}

#[test]
fn the_end_of_writing_is_told_in_a_later_turn_also_when_the_peer_s_end_came_with_the_data() {
    let seen = served_with_the_end(false);
    let at = |what: &str| seen.iter().position(|seen| seen == what);
    assert!(at("a later turn").unwrap() < at("write lost").unwrap(), "{seen:?}");
}

#[test]
fn a_reactor_that_a_handler_closes_calls_no_other_handler_of_it() {
    served_with_the_end(true);
    assert_eq!(CALLED.get(), 0);
}

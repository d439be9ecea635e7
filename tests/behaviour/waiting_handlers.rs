//! Coroutine handlers, and the close of their connections.
use crate::support::{Log, Noting, connect_to, run_until, short, watch};
use std::{
    cell::{Cell, RefCell},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    rc::Rc,
    time::Duration,
};
use twistor::{
    address::Address,
    error::CancelledError,
    prelude::*,
    protocol::NotNow,
    reactor::Reactor,
    testing::{Clock, MemoryReactor, StringTransport},
    transport::{ConnectTcpOptions, ListenTcpOptions},
};

thread_local! { static DROPS: Cell<u32> = const { Cell::new(0) }; }

#[derive(Default)]
struct CountDrop;

impl Drop for CountDrop {
    fn drop(&mut self) {
        DROPS.set(DROPS.get() + 1);
    }
}

#[protocol]
struct Waiting {
    log: Log,
}

#[protocol]
impl Waiting {
    #[inline_callbacks]
    #[cancel_on_loss]
    fn data_received(this: Handle<Self>) -> Deferred<()> {
        let log = yield_!(this.with(|waiting| waiting.log.clone()))?;
        log.add("begun");
        let (never, _keep) = Deferred::<()>::new();
        let result = yield_!(never);
        log.add(result.unwrap_err().check::<CancelledError>());
        return_value!(())
    }
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

fn served_over_tcp(same: bool) -> Vec<String> {
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

/// A handler that closes the sending direction, or the reactor, when its data came together with
/// the peer's end of file.
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

/// Returns what a `Busy` records for data that came together with the end of file.
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

#[protocol]
struct HalfCo {
    #[init(Log::new())]
    log: Log,
    #[init(Rc::default())]
    gate: Rc<RefCell<Option<twistor::defer::Resolver<()>>>>,
}

#[protocol]
impl HalfCo {
    #[inline_callbacks]
    #[cancel_on_loss]
    fn data_received(this: Handle<Self>) -> Deferred<()> {
        let (gate, log) = yield_!(this.with(|me| (me.gate.clone(), me.log.clone())))?;
        let (wait, resolver) = Deferred::<()>::new();
        *gate.borrow_mut() = Some(resolver);
        log.add("waiting");
        let r = yield_!(wait);
        log.add(if r.is_ok() { "answered" } else { "cancelled" });
        this.write("answer");
        return_value!(())
    }
    fn read_connection_lost(&mut self) {
        self.log.add("read lost");
    }
}

#[protocol(lines(delimiter = b"\n"))]
struct TwoLines {
    log: Log,
    gate: Rc<RefCell<Vec<twistor::defer::Resolver<()>>>>,
}

#[protocol]
impl TwoLines {
    #[inline_callbacks]
    #[cancel_on_loss]
    fn line_received(this: Handle<Self>, line: Vec<u8>) -> Deferred<()> {
        let (gate, log) = yield_!(this.with(|me| (me.gate.clone(), me.log.clone())))?;
        let (wait, resolver) = Deferred::<()>::new();
        gate.borrow_mut().push(resolver);
        let line = String::from_utf8_lossy(&line).into_owned();
        log.add(format!("begun {line}"));
        let r = yield_!(wait);
        log.add(format!("{} {line}", if r.is_ok() { "done" } else { "cancelled" }));
        return_value!(())
    }
}

#[test]
fn a_connection_lost_coroutine_that_ends_inside_a_call_drops_the_protocol_once() {
    #[protocol]
    struct Lasting {
        open: Option<twistor::defer::Resolver<()>>,
        handles: Rc<RefCell<Option<Handle<Lasting>>>>,
        _counted: CountDrop,
    }
    #[protocol]
    impl Lasting {
        fn connection_made(&mut self, this: &Handle<Self>) {
            *self.handles.borrow_mut() = Some(this.clone());
        }
        #[inline_callbacks]
        fn connection_lost(this: Handle<Self>) -> Deferred<()> {
            let gate = yield_!(this.with(|me| {
                let (gate, open) = Deferred::new();
                me.open = Some(open);
                Rc::new(Cell::new(Some(gate)))
            }))?;
            yield_!(gate.take().unwrap())?;
            return_value!(())
        }
    }
    let memory = MemoryReactor::new();
    let handles = Rc::new(RefCell::new(None));
    let h = handles.clone();
    let client = connect_to(&memory, move |_: &Address| Lasting {
        open: None,
        handles: h.clone(),
        _counted: CountDrop,
    });
    client.lose_connection();
    memory.settle();
    let server: Handle<Lasting> = handles.take().unwrap();
    server
        .call(|me| {
            me.open.take().unwrap().callback(());
        })
        .detach();
    memory.settle();
    assert_eq!(DROPS.get(), 1, "the protocol is dropped when connection_lost has finished");
    assert!(matches!(server.try_with(|_| ()), Err(NotNow::Lost(_))));
}

#[test]
fn a_connection_lost_coroutine_that_never_waits_still_cancels_the_handlers_that_do() {
    #[protocol]
    struct Both {
        log: Log,
    }
    #[protocol]
    impl Both {
        #[inline_callbacks]
        #[cancel_on_loss]
        fn connection_made(this: Handle<Self>) -> Deferred<()> {
            let log = yield_!(this.with(|both| both.log.clone()))?;
            let (never, _keep) = Deferred::<()>::new();
            let result = yield_!(never);
            log.add(result.unwrap_err().check::<CancelledError>());
            return_value!(())
        }
        #[inline_callbacks]
        fn connection_lost(_this: Handle<Self>) -> Deferred<()> {
            return_value!(())
        }
    }
    let memory = MemoryReactor::new();
    let log = Log::new();
    let noted = log.clone();
    let client = connect_to(&memory, move |_: &Address| Both { log: noted.clone() });
    client.lose_connection();
    memory.settle();
    assert_eq!(log.take(), ["true"]);
}

#[test]
fn cancel_on_loss_reaches_a_message_handler_that_holds_the_input_back() {
    for abort in [false, true] {
        let (memory, log) = (MemoryReactor::new(), Log::new());
        let noted = log.clone();
        let client = connect_to(&memory, move |_: &Address| Waiting { log: noted.clone() });
        client.write(b"x");
        memory.settle();
        if abort {
            client.abort_connection();
        } else {
            client.lose_connection();
        }
        memory.advance(Duration::from_secs(3600));
        assert_eq!(log.take(), ["begun", "true"]);
    }
}

#[test]
fn the_peers_end_cancels_a_handler_that_waits() {
    assert_eq!(served_over_tcp(false), ["begun", "cancelled"]);
}

#[test]
fn the_peers_end_cancels_a_handler_that_its_own_message_started() {
    assert_eq!(served_over_tcp(true), ["begun", "cancelled"]);
}

#[test]
fn the_end_of_a_string_transport_cancels_a_handler_that_waits() {
    let log = Log::new();
    let l = log.clone();
    let t = StringTransport::new();
    let _h = t.connect(move |_: &Address| Waits { log: l.clone() }, &Clock::new());
    t.receive("x");
    t.end();
    assert_eq!(log.take(), ["begun", "cancelled"]);
}

#[test]
fn a_reset_of_a_string_transport_cancels_a_handler_that_waits() {
    let log = Log::new();
    let l = log.clone();
    let t = StringTransport::new();
    let _h = t.connect(move |_: &Address| Waits { log: l.clone() }, &Clock::new());
    t.receive("x");
    t.reset();
    assert_eq!(log.take(), ["begun", "cancelled"]);
}

#[test]
fn the_end_of_a_connection_in_memory_cancels_a_handler_that_waits_without_time_passing() {
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
fn the_peers_end_drops_the_messages_behind_a_handler_that_it_cancels() {
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
        seen.len() >= 2
    });
    // what was held back would have started by then
    reactor.iterate(Duration::ZERO).unwrap();
    reactor.iterate(Duration::ZERO).unwrap();
    seen.extend(log.take());
    reactor.close();
    assert_eq!(seen, ["begun one", "cancelled one"]);
}

#[test]
fn lines_that_wait_behind_a_pause_are_delivered_before_the_peers_end() {
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
fn write_connection_lost_is_called_in_a_later_turn_also_when_the_peer_s_end_came_with_the_data() {
    let seen = served_with_the_end(false);
    let at = |what: &str| seen.iter().position(|seen| seen == what);
    assert!(at("a later turn").unwrap() < at("write lost").unwrap(), "{seen:?}");
}

#[test]
fn a_reactor_that_a_handler_closes_calls_no_other_handler_of_it() {
    served_with_the_end(true);
    assert_eq!(CALLED.get(), 0);
}

#[test]
fn closing_one_direction_cancels_no_handler() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let gate = Rc::new(RefCell::new(None));
    let (l, g) = (log.clone(), gate.clone());
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| HalfCo { log: l.clone(), gate: g.clone() },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let mut c = TcpStream::connect(port.host().socket_addr().unwrap()).unwrap();
    c.write_all(b"request").unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        !seen.is_empty()
    });
    c.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..5 {
        reactor.iterate(Duration::from_millis(20)).unwrap();
    }
    seen.extend(log.take());
    assert_eq!(seen, ["waiting"], "the connection is not lost");
    reactor.close();
}

#[test]
fn a_line_that_was_held_back_is_handled_and_not_cancelled() {
    let memory = MemoryReactor::new();
    let (log, gate) = (Log::new(), Rc::new(RefCell::new(Vec::new())));
    let (l, g) = (log.clone(), gate.clone());
    let reactor = memory.reactor();
    let place: SocketAddr = ([127, 0, 0, 1], 90).into();
    let _p = reactor
        .listen_tcp(
            place,
            move |_: &Address| TwoLines { log: l.clone(), gate: g.clone() },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let client = watch(reactor.connect_tcp(
        place,
        Noting::factory(&Log::new(), Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    client.value().write("one\ntwo\n");
    memory.settle();
    assert_eq!(log.take(), ["begun one"]);
    let first = gate.borrow_mut().pop().unwrap();
    first.callback(());
    memory.settle();
    assert_eq!(log.take(), ["done one", "begun two"]);
    reactor.close();
}

/// Begins each line, waits, and records the reason of the loss.
type Resolvers = Rc<RefCell<Vec<twistor::defer::Resolver<()>>>>;

#[protocol(lines(delimiter = b"\n"))]
struct Begins {
    log: Log,
    waits: Resolvers,
}

#[protocol]
impl Begins {
    #[inline_callbacks]
    fn line_received(this: Handle<Self>, line: Vec<u8>) -> Deferred<()> {
        let (log, waits) = yield_!(this.with(|me| (me.log.clone(), me.waits.clone())))?;
        log.add(format!("begun {}", String::from_utf8_lossy(&line)));
        let (wait, resolver) = Deferred::new();
        waits.borrow_mut().push(resolver);
        yield_!(wait)
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
    }
}

#[protocol(lines(delimiter = b"\n"))]
struct Cancels {
    log: Log,
}

#[protocol]
impl Cancels {
    #[inline_callbacks]
    #[cancel_on_loss]
    fn line_received(this: Handle<Self>, line: Vec<u8>) -> Deferred<()> {
        let log = yield_!(this.with(|me| me.log.clone()))?;
        log.add(format!("begun {}", String::from_utf8_lossy(&line)));
        let (wait, _kept) = Deferred::<()>::with_canceller(move |_| log.add("cancelled"));
        yield_!(wait)
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
    }
}

// Kind: what ends a handler is the loss, so the loss has its own reason first. (An unexpected report
// fails the test.)
#[test]
fn a_loss_that_cancels_a_handler_keeps_its_own_reason_and_reports_nothing() {
    for (reset, reason) in [(false, "lost ConnectionDone"), (true, "lost ConnectionLost")] {
        let (log, transport) = (Log::new(), StringTransport::new());
        let into = log.clone();
        let build = move |_: &Address| Cancels { log: into.clone() };
        let handle = transport.connect(build, &Clock::new());
        transport.receive("one\ntwo\nthree\n");
        if reset {
            transport.reset();
        } else {
            transport.end();
        }
        assert_eq!(log.take(), ["begun one", reason, "cancelled"]);
        assert!(!handle.is_connected());
    }
}

// Kind: input that waits is dropped once the loss is known, whatever it waits for.
#[test]
fn a_reset_drops_the_messages_that_wait_behind_a_handler_or_a_pause() {
    for pause in [false, true] {
        let (log, transport, waits) = (Log::new(), StringTransport::new(), Resolvers::default());
        let (into, kept) = (log.clone(), waits.clone());
        let build = move |_: &Address| Begins { log: into.clone(), waits: kept.clone() };
        let handle = transport.connect(build, &Clock::new());
        if pause {
            handle.pause_producing();
        }
        transport.receive("one\ntwo\nthree\n");
        transport.reset();
        assert!(!handle.is_connected());
        let begun = if pause {
            &["lost ConnectionLost"][..]
        } else {
            &["begun one", "lost ConnectionLost"]
        };
        assert_eq!(log.take(), begun);
        for resolver in waits.take() {
            resolver.callback(());
        }
        handle.resume_producing();
        assert!(log.take().is_empty());
    }
}

#[test]
fn a_clean_end_waits_for_the_messages_that_wait_behind_a_handler() {
    let (log, transport, waits) = (Log::new(), StringTransport::new(), Resolvers::default());
    let (into, kept) = (log.clone(), waits.clone());
    let build = move |_: &Address| Begins { log: into.clone(), waits: kept.clone() };
    let clock = Clock::new();
    let _handle = transport.connect(build, &clock);
    transport.receive("one\ntwo\n");
    transport.end();
    assert_eq!(log.take(), ["begun one"]);
    for next in ["begun two", "lost ConnectionDone"] {
        for resolver in waits.take() {
            resolver.callback(());
        }
        clock.advance(Duration::ZERO);
        assert_eq!(log.take(), [next]);
    }
}

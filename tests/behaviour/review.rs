//! Review.
#![allow(clippy::all, clippy::pedantic, clippy::nursery, unused, clippy::restriction)]
use crate::support::{Bang, Log, Noting, Reports, on_small_stack, run_until, short, watch};
use futures::{channel::oneshot, executor::LocalPool, task::LocalSpawnExt};
use std::{
    cell::{Cell, RefCell},
    future::{Future, IntoFuture},
    io::{Read, Write},
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};
use twistor::{
    defer::gather_results,
    error::*,
    prelude::*,
    protocol::{Encoder, Factory as _, Framing, Input, NotNow},
    reactor::Reactor,
    testing::MemoryReactor,
    transport::{ConnectOptions, DEFAULT_BACKLOG},
};

// 1
#[test]
fn banner_that_is_there_with_the_connect_event() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut s, _) = listener.accept().unwrap();
        s.write_all(b"220 hello").unwrap();
        std::thread::sleep(Duration::from_secs(3));
    });
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    reactor.connect_tcp(at, Noting::factory(&log, Noting::nothing), &ConnectOptions::default()).map(drop).detach();
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        reactor.iterate(Duration::from_millis(10)).unwrap();
    }
    let seen = log.take();
    reactor.close();
    server.join().unwrap();
    assert_eq!(seen, ["made", "data 220 hello"]);
}

// 2
#[test]
fn reset_in_a_handler_counts_from_now() {
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let fired = Rc::new(Cell::new(None));
    let start = Instant::now();
    let note = fired.clone();
    let stop = reactor.clone();
    let idle = reactor.call_later(Duration::from_millis(400), move || {
        note.set(Some(start.elapsed()));
        stop.stop().unwrap();
    });
    struct Resetting(twistor::time::DelayedCall);
    impl Protocol for Resetting {
        type Framing = twistor::protocol::Raw;
        fn message_received(&mut self, _: &Handle<Self>, _: &[u8]) {
            self.0.reset(Duration::from_millis(400)).unwrap();
        }
    }
    let port = reactor
        .listen_tcp((Ipv4Addr::LOCALHOST, 0), move |_: &Address| Resetting(idle.clone()), DEFAULT_BACKLOG)
        .unwrap();
    let at = port.host().socket_addr().unwrap();
    let mut client = std::net::TcpStream::connect(at).unwrap();
    let t = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        client.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(600));
    });
    reactor.run().unwrap();
    reactor.close();
    t.join().unwrap();
    assert!(fired.get().unwrap() >= Duration::from_millis(650), "{:?}", fired.get());
}

#[derive(Default)]
struct Bad;
impl Framing for Bad {
    type Message<'a> = &'a [u8];
    fn decode<'a>(&mut self, _: Input<'a>) -> Result<Option<(&'a [u8], usize)>, Failure> {
        panic!("decode");
    }
}
struct BadOne;
impl Protocol for BadOne {
    type Framing = Bad;
}

fn connect<F: IntoFactory2>(memory: &MemoryReactor, f: F) -> Handle<Noting> {
    f.go(memory)
}
trait IntoFactory2 {
    fn go(self, memory: &MemoryReactor) -> Handle<Noting>;
}
impl<F: twistor::protocol::IntoFactory> IntoFactory2 for F {
    fn go(self, memory: &MemoryReactor) -> Handle<Noting> {
        let reactor = memory.reactor();
        let port = reactor.listen_tcp((Ipv4Addr::LOCALHOST, 0), self, DEFAULT_BACKLOG).unwrap();
        let log = Log::new();
        let c = watch(reactor.connect_tcp(
            port.host().socket_addr().unwrap(),
            Noting::factory(&log, Noting::nothing),
            &ConnectOptions::default(),
        ));
        memory.settle();
        c.value()
    }
}

// 3
#[test]
fn panic_in_decode() {
    let reports = Reports::new();
    let memory = MemoryReactor::new();
    let client = connect(&memory, |_: &Address| BadOne);
    client.write(b"x");
    assert!(catch_unwind(AssertUnwindSafe(|| memory.settle())).is_ok());
    assert!(!client.is_connected());
    drop(reports.take());
}

// 4a
#[inline_callbacks]
fn foreign(receiver: oneshot::Receiver<u32>) -> Deferred<u32> {
    return_value!(receiver.await?)
}

#[test]
fn a_dropped_reactor_leaves_a_dead_door() {
    drop(MemoryReactor::new());
    let memory = MemoryReactor::new();
    let (sender, receiver) = oneshot::channel();
    let result = watch(foreign(receiver));
    sender.send(5).unwrap();
    memory.settle();
    assert_eq!(result.value(), 5);
}

// 4b
#[test]
fn a_close_inside_run_leaves_a_dead_door() {
    let first = MemoryReactor::new().reactor();
    let f = first.clone();
    first.call_when_running(move || f.close());
    let _ = first.run();
    let memory = MemoryReactor::new();
    let (sender, receiver) = oneshot::channel();
    let result = watch(foreign(receiver));
    sender.send(5).unwrap();
    memory.settle();
    assert_eq!(result.value(), 5);
}

// 5
thread_local! { static DROPS: Cell<u32> = const { Cell::new(0) }; }
#[derive(Default)]
struct CountDrop;
impl Drop for CountDrop {
    fn drop(&mut self) {
        DROPS.set(DROPS.get() + 1);
    }
}

#[test]
fn lingering_coroutine_that_ends_inside_a_call() {
    #[protocol]
    struct Lasting {
        open: Option<twistor::defer::Resolver<()>>,
        handles: Rc<RefCell<Option<Handle<Lasting>>>>,
        c: CountDrop,
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
    let client = connect(&memory, move |_: &Address| Lasting { open: None, handles: h.clone(), c: CountDrop });
    client.lose_connection();
    memory.settle();
    let server: Handle<Lasting> = handles.take().unwrap();
    server.call(|me| {
        me.open.take().unwrap().callback(());
    }).detach();
    memory.settle();
    assert_eq!(DROPS.get(), 1, "the protocol is dropped when connection_lost has finished");
    assert!(matches!(server.try_get(|_| ()), Err(NotNow::Lost(_))));
}

// 6
#[test]
fn connection_lost_as_a_ready_coroutine_and_cancel_on_loss() {
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
        fn connection_lost(this: Handle<Self>) -> Deferred<()> {
            return_value!(())
        }
    }
    let memory = MemoryReactor::new();
    let log = Log::new();
    let noted = log.clone();
    let client = connect(&memory, move |_: &Address| Both { log: noted.clone() });
    client.lose_connection();
    memory.settle();
    assert_eq!(log.take(), ["true"]);
}

// 7
#[test]
fn cancel_on_loss_of_a_message_handler() {
    #[protocol]
    struct Both {
        log: Log,
    }
    #[protocol]
    impl Both {
        #[inline_callbacks]
        #[cancel_on_loss]
        fn data_received(this: Handle<Self>, data: Vec<u8>) -> Deferred<()> {
            let log = yield_!(this.with(|both| both.log.clone()))?;
            log.add("begun");
            let (never, _keep) = Deferred::<()>::new();
            let result = yield_!(never);
            log.add(result.unwrap_err().check::<CancelledError>());
            return_value!(())
        }
    }
    let memory = MemoryReactor::new();
    let log = Log::new();
    let noted = log.clone();
    let client = connect(&memory, move |_: &Address| Both { log: noted.clone() });
    client.write(b"x");
    memory.settle();
    client.lose_connection();
    memory.settle();
    memory.advance(Duration::from_secs(3600));
    assert_eq!(log.take(), ["begun", "true"]);
}

#[test]
fn abort_of_peer_and_cancel_on_loss_of_a_message_handler() {
    #[protocol]
    struct Both {
        log: Log,
    }
    #[protocol]
    impl Both {
        #[inline_callbacks]
        #[cancel_on_loss]
        fn data_received(this: Handle<Self>, data: Vec<u8>) -> Deferred<()> {
            let log = yield_!(this.with(|both| both.log.clone()))?;
            log.add("begun");
            let (never, _keep) = Deferred::<()>::new();
            let result = yield_!(never);
            log.add(result.unwrap_err().check::<CancelledError>());
            return_value!(())
        }
    }
    let memory = MemoryReactor::new();
    let log = Log::new();
    let noted = log.clone();
    let client = connect(&memory, move |_: &Address| Both { log: noted.clone() });
    client.write(b"x");
    memory.settle();
    client.abort_connection();
    memory.settle();
    memory.advance(Duration::from_secs(3600));
    assert_eq!(log.take(), ["begun", "true"]);
}

// 9
#[test]
fn abandoned_by_a_lost_connection_has_the_reason_as_its_source() {
    #[protocol]
    struct Asker {
        waiting: Vec<twistor::defer::Resolver<u32>>,
        handles: Rc<RefCell<Option<Handle<Asker>>>>,
    }
    #[protocol]
    impl Asker {
        fn connection_made(&mut self, this: &Handle<Self>) {
            *self.handles.borrow_mut() = Some(this.clone());
        }
    }
    let memory = MemoryReactor::new();
    let handles = Rc::new(RefCell::new(None));
    let h = handles.clone();
    let client = connect(&memory, move |_: &Address| Asker { waiting: vec![], handles: h.clone() });
    let server: Handle<Asker> = handles.take().unwrap();
    let answer = watch(server.call(|me| {
        let (d, r) = Deferred::new();
        me.waiting.push(r);
        d
    }));
    client.lose_connection();
    memory.settle();
    let failure = answer.failure();
    assert!(failure.check::<AbandonedError>());
    assert!(std::error::Error::source(failure.value()).is_some(), "source() is the reason of the loss");
}

// 10
#[test]
fn set_line_mode_with_rest_outside_a_handler() {
    #[protocol(lines(delimiter = b"\n"))]
    struct L {
        log: Log,
        #[transport]
        transport: Transport,
    }
    #[protocol]
    impl L {
        fn line_received(&mut self, line: &[u8]) {
            self.log.add(String::from_utf8_lossy(line));
            self.transport.set_raw_mode();
        }
        fn raw_data_received(&mut self, data: &[u8]) {
            let (t, rest) = (self.transport.clone(), data.to_vec());
            let reactor = Reactor::current().unwrap();
            reactor.call_later(Duration::from_secs(1), move || t.set_line_mode(rest));
        }
    }
    let memory = MemoryReactor::new();
    let log = Log::new();
    let noted = log.clone();
    let client = connect(&memory, move |_: &Address| L { log: noted.clone(), transport: Transport::default() });
    client.write(b"one\ntwo\n");
    memory.settle();
    assert_eq!(log.take(), ["one"]);
    memory.advance(Duration::from_secs(10));
    assert_eq!(log.take(), ["two"]);
}

// 11
#[test]
fn close_inside_build_protocol() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let log = Log::new();
    let (r, l) = (reactor.clone(), log.clone());
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| {
                r.close();
                Noting { log: l.clone(), on_data: Noting::nothing }
            },
            DEFAULT_BACKLOG,
        )
        .unwrap();
    let log = Log::new();
    reactor
        .connect_tcp(port.host().socket_addr().unwrap(), Noting::factory(&log, Noting::nothing), &ConnectOptions::default())
        .map(drop)
        .detach();
    let r = reactor.clone();
    let done = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..4 {
            let _ = reactor.iterate(Duration::ZERO);
        }
    }));
    assert!(done.is_ok());
}

// 12
#[test]
fn close_inside_a_handler() {
    struct Own {
        me: Option<Handle<Own>>,
        c: CountDrop,
    }
    impl Protocol for Own {
        type Framing = twistor::protocol::Raw;
        fn connection_made(&mut self, this: &Handle<Self>) {
            self.me = Some(this.clone());
        }
        fn message_received(&mut self, _: &Handle<Self>, _: &[u8]) {
            Reactor::current().unwrap().close();
        }
    }
    DROPS.set(0);
    let memory = MemoryReactor::new();
    let client = connect(&memory, |_: &Address| Own { me: None, c: CountDrop });
    client.write(b"x");
    for _ in 0..4 {
        let _ = memory.reactor().iterate(Duration::ZERO);
    }
    drop(client);
    drop(memory);
    assert_eq!(DROPS.get(), 1);
}

// 13
struct PanickyWaker;
impl Wake for PanickyWaker {
    fn wake(self: Arc<Self>) {
        panic!("wake");
    }
}

#[test]
fn panicking_waker() {
    let waker: Waker = Arc::new(PanickyWaker).into();
    let mut escaped = 0;
    let mut waits = vec![];
    for _ in 0..70 {
        let (d, r) = Deferred::<u32>::new();
        let mut wait = d.map(|n| n).into_future();
        assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&waker)).is_pending());
        escaped += u32::from(catch_unwind(AssertUnwindSafe(|| r.callback(1))).is_err());
        waits.push(wait);
    }
    let (d, r) = Deferred::<u32>::new();
    let ok = watch(d.map(|n| n));
    r.callback(7);
    let wedged = ok.is_pending();
    assert!(!wedged, "nothing fires any more in this thread (escaped {escaped})");
    assert_eq!(escaped, 0);
}

// 14
#[inline_callbacks]
fn trivial() -> Deferred<u32> {
    return_value!(1)
}
struct StartsOnDrop;
impl Wake for StartsOnDrop {
    fn wake(self: Arc<Self>) {}
}
impl Drop for StartsOnDrop {
    fn drop(&mut self) {
        trivial().detach();
    }
}
#[test]
fn a_waker_whose_drop_starts_a_coroutine() {
    #[inline_callbacks]
    fn outer(d: Deferred<u32>) -> Deferred<u32> {
        let mut wait = d.into_future();
        let mut first = true;
        let got = std::future::poll_fn(|cx| {
            if first {
                first = false;
                let w: Waker = Arc::new(StartsOnDrop).into();
                assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&w)).is_pending());
            }
            Pin::new(&mut wait).poll(cx)
        })
        .await?;
        return_value!(got)
    }
    let (d, r) = Deferred::new();
    let out = watch(outer(d));
    r.callback(3);
    assert_eq!(out.value(), 3);
}

// 15
#[test]
fn executor_polls_a_coroutine_that_waits_first_for_a_deferred_then_for_a_foreign_future() {
    #[inline_callbacks]
    fn both(d: Deferred<u32>, receiver: oneshot::Receiver<u32>) -> Deferred<u32> {
        let a = yield_!(d)?;
        let b = receiver.await?;
        return_value!(a + b)
    }
    let mut pool = LocalPool::new();
    let (d, r) = Deferred::new();
    let (sender, receiver) = oneshot::channel();
    let out = Rc::new(Cell::new(None));
    let into = out.clone();
    pool.spawner().spawn_local(async move { into.set(Some(both(d, receiver).await.map_err(|f| f.to_string()))) }).unwrap();
    pool.run_until_stalled();
    r.callback(1);
    pool.run_until_stalled();
    sender.send(2).unwrap();
    pool.run_until_stalled();
    assert_eq!(out.take(), Some(Ok(3)));
}

// 16
#[test]
fn when_stopped_of_a_closed_reactor() {
    let reactor = MemoryReactor::new().reactor();
    reactor.close();
    let out = watch(reactor.when_stopped());
    assert!(!out.is_pending());
}

#[test]
fn call_when_running_of_a_closed_reactor_is_dropped() {
    DROPS.set(0);
    let reactor = MemoryReactor::new().reactor();
    reactor.close();
    let (c, r) = (CountDrop, reactor.clone());
    reactor.call_when_running(move || drop((c, r)));
    drop(reactor);
    assert_eq!(DROPS.get(), 1);
}

// 17
#[derive(Debug)]
struct TouchesOnDrop(std::thread::ThreadId);
impl std::fmt::Display for TouchesOnDrop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("x")
    }
}
impl std::error::Error for TouchesOnDrop {}
thread_local! { static T: RefCell<Option<Transport>> = const { RefCell::new(None) }; }
impl Drop for TouchesOnDrop {
    fn drop(&mut self) {
        let t = T.with(|t| t.borrow().clone());
        if let Some(t) = t {
            t.fail(Bang("again"));
        }
    }
}
#[test]
fn an_error_whose_drop_touches_the_transport() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect(&memory, Noting::factory(&log, Noting::nothing));
    T.with(|t| *t.borrow_mut() = Some(client.transport().clone()));
    client.fail(TouchesOnDrop(std::thread::current().id()));
    let ok = catch_unwind(AssertUnwindSafe(|| client.fail(Bang("second")))).is_ok();
    T.with(|t| t.borrow_mut().take());
    assert!(ok);
}

// 17b
#[test]
fn the_first_reason_counts() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect(&memory, Noting::factory(&log, |this, _| {
        this.fail(Bang("first"));
        this.fail(Bang("second"));
    }));
    client.write(b"x");
    memory.settle();
    assert_eq!(log.take(), ["made", "data x", "lost Bang"]);
}

// 18
#[test]
fn shared_resolver_reentered_by_the_drop_of_the_canceller() {
    struct OnDrop(Rc<RefCell<Option<twistor::defer::SharedResolver<u32>>>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            if let Some(r) = self.0.take() {
                let _ = r.callback(99);
            }
        }
    }
    let cell = Rc::new(RefCell::new(None));
    let guard = OnDrop(cell.clone());
    let (d, r) = Deferred::<u32>::with_canceller(move |_| drop(guard));
    let r = r.shared();
    *cell.borrow_mut() = Some(r.clone());
    let out = watch(d);
    let first = r.callback(1);
    assert!(first.is_ok());
    assert_eq!(out.value(), 1, "callback(1) said Ok");
}

// 19
#[test]
fn abandoned_that_passed_a_callback_is_reported() {
    let reports = Reports::new();
    let (d, r) = Deferred::<u32>::new();
    d.add_both(|r| r).detach();
    drop(r);
    assert_eq!(reports.take().len(), 1);
}

// 20
#[test]
fn gather_of_many_is_linear() {
    let time = |n: usize| {
        let (ds, mut rs): (Vec<_>, Vec<_>) = (0..n).map(|_| Deferred::<u32>::new()).unzip();
        let out = watch(gather_results(ds));
        let start = Instant::now();
        // the last first: the worst case
        while let Some(r) = rs.pop() {
            r.callback(1);
        }
        assert_eq!(out.value().len(), n);
        start.elapsed()
    };
    let (a, b) = (time(2_000), time(16_000));
    assert!(b < a * 24, "2000: {a:?}, 16000: {b:?}");
}

// 21
#[test]
fn try_get_that_panics_drains() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect(&memory, Noting::factory(&log, Noting::nothing));
    let ran = Rc::new(Cell::new(0));
    let (c, r) = (client.clone(), ran.clone());
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _ = client.try_get(|_| {
            let r = r.clone();
            c.tell(move |_| r.set(r.get() + 1));
            panic!("x");
        });
    }));
    let r = ran.clone();
    client.tell(move |_| r.set(r.get() + 1));
    memory.settle();
    assert_eq!(ran.get(), 2);
}

// 22
#[test]
fn iterate_after_a_stop_waits() {
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let r = reactor.clone();
    reactor.call_when_running(move || r.stop().unwrap());
    reactor.run().unwrap();
    let start = Instant::now();
    reactor.iterate(Duration::from_millis(100)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(90), "{:?}", start.elapsed());
}

// 23
#[test]
fn close_while_a_name_is_looked_up() {
    let reactor = Reactor::new().unwrap();
    let endpoint = twistor::endpoints::Tcp4ClientEndpoint::new(&reactor, "localhost", 9).endpoint();
    let log = Log::new();
    let out = watch(endpoint.connect(Noting::factory(&log, Noting::nothing)).map(drop));
    reactor.close();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!out.is_pending());
}

// 24
#[test]
fn a_ring_from_another_thread_without_a_reactor() {
    std::thread::spawn(|| {
        let reports = Reports::new();
        let (sender, receiver) = oneshot::channel();
        let result = watch(foreign(receiver));
        std::thread::spawn(move || sender.send(5).unwrap()).join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let memory = MemoryReactor::new();
        memory.settle();
        assert!(!result.is_pending());
    })
    .join()
    .unwrap();
}

// 25
#[test]
fn cancel_of_a_circle_ends() {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (d1, r1) = Deferred::<u32>::new();
        let (d2, r2) = Deferred::<u32>::new();
        let (c1, c2) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(None)));
        let (x2, x1) = (c2.clone(), c1.clone());
        let a = d1.add_callback(move |_| -> Deferred<u32> { x2.take().unwrap() });
        let b = d2.add_callback(move |_| -> Deferred<u32> { x1.take().unwrap() });
        let h = a.canceller();
        *c1.borrow_mut() = Some(a);
        *c2.borrow_mut() = Some(b);
        r1.callback(1);
        r2.callback(1);
        h.cancel();
        send.send(()).unwrap();
    });
    assert!(receive.recv_timeout(Duration::from_secs(2)).is_ok(), "cancel walks in a circle for ever");
}

// 26
#[test]
fn queued_calls_at_depth_64() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect(&memory, Noting::factory(&log, Noting::nothing));
    let out = Log::new();
    fn deep(n: u32, f: Box<dyn FnOnce()>) {
        if n == 0 {
            return f();
        }
        let (d, r) = Deferred::<()>::new();
        d.map(move |()| deep(n - 1, f)).detach();
        r.callback(());
    }
    let (c, o) = (client.clone(), out.clone());
    deep(
        64,
        Box::new(move || {
            let (c2, o2) = (c.clone(), o.clone());
            c.tell(move |_| {
                let o3 = o2.clone();
                c2.tell(move |_| o3.add("inner"));
                o2.add("outer");
            });
            o.add("outer returned");
            let o4 = o.clone();
            c.tell(move |_| o4.add("later"));
        }),
    );
    assert_eq!(out.take(), ["outer", "inner", "outer returned", "later"]);
}

// 28
#[test]
fn cancel_inside_build_protocol_ends_the_attempt() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let slog = Log::new();
    let port = reactor.listen_tcp((Ipv4Addr::LOCALHOST, 0), Noting::factory(&slog, Noting::nothing), DEFAULT_BACKLOG).unwrap();
    let handle: Rc<RefCell<Option<twistor::defer::CancelHandle>>> = Rc::default();
    let (h, log) = (handle.clone(), Log::new());
    let l = log.clone();
    let d = reactor.connect_tcp(
        port.host().socket_addr().unwrap(),
        move |_: &Address| {
            h.borrow().as_ref().unwrap().cancel();
            Noting { log: l.clone(), on_data: Noting::nothing }
        },
        &ConnectOptions::default(),
    );
    *handle.borrow_mut() = Some(d.canceller());
    let out = watch(d.map(drop));
    memory.settle();
    assert!(out.failure().check::<ConnectingCancelledError>());
    assert!(log.take().is_empty(), "no connection for a cancelled attempt");
}

// B
#[test]
fn b_first_reason() {
    struct N(Log);
    impl Protocol for N {
        type Framing = twistor::protocol::Raw;
        fn message_received(&mut self, this: &Handle<Self>, _: &[u8]) {
            this.fail(Bang("first"));
            this.fail(Bang("second"));
        }
        fn connection_lost(&mut self, _: &Handle<Self>, reason: &Failure) {
            self.0.add(reason);
        }
    }
    let memory = MemoryReactor::new();
    let log = Log::new();
    let l = log.clone();
    let client = connect(&memory, move |_: &Address| N(l.clone()));
    client.write(b"x");
    memory.settle();
    assert_eq!(log.take(), ["first"]);
}

// C
#[test]
fn b_memory_closing_with_a_queue_and_a_reset() {
    struct N(Log);
    impl Protocol for N {
        type Framing = twistor::protocol::Raw;
        fn connection_made(&mut self, this: &Handle<Self>) {
            this.write(vec![0; 300_000]);
            this.lose_connection();
        }
        fn connection_lost(&mut self, _: &Handle<Self>, reason: &Failure) {
            self.0.add("lost");
        }
    }
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let log = Log::new();
    let l = log.clone();
    let port = reactor.listen_tcp((Ipv4Addr::LOCALHOST, 0), move |_: &Address| N(l.clone()), DEFAULT_BACKLOG).unwrap();
    struct C;
    impl Protocol for C {
        type Framing = twistor::protocol::Raw;
        fn connection_made(&mut self, this: &Handle<Self>) {
            this.pause_producing();
        }
    }
    let c = watch(reactor.connect_tcp(port.host().socket_addr().unwrap(), |_: &Address| C, &ConnectOptions::default()));
    memory.settle();
    c.value().abort_connection();
    memory.settle();
    memory.advance(Duration::from_secs(100));
    assert_eq!(log.take(), ["lost"]);
}

// D
#[test]
fn b_resume_inside_a_call_delivers_right_after_it() {
    #[protocol(lines(delimiter = b"\n"))]
    struct L {
        log: Log,
        handles: Rc<RefCell<Option<Handle<L>>>>,
    }
    #[protocol]
    impl L {
        fn connection_made(&mut self, this: &Handle<Self>) {
            *self.handles.borrow_mut() = Some(this.clone());
        }
        fn line_received(&mut self, transport: &Transport, line: &[u8]) {
            self.log.add(String::from_utf8_lossy(line));
            transport.pause_producing();
        }
    }
    let memory = MemoryReactor::new();
    let (log, handles) = (Log::new(), Rc::new(RefCell::new(None)));
    let (l, h) = (log.clone(), handles.clone());
    let client = connect(&memory, move |_: &Address| L { log: l.clone(), handles: h.clone() });
    client.write(b"one\ntwo\n");
    memory.settle();
    assert_eq!(log.take(), ["one"]);
    let server: Handle<L> = handles.take().unwrap();
    let t = server.transport().clone();
    server.tell(move |_| t.resume_producing());
    assert_eq!(log.take(), ["two"]);
}

// E
#[test]
fn b_no_delay_after_the_end() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect(&memory, Noting::factory(&log, Noting::nothing));
    client.lose_connection();
    memory.advance(Duration::from_secs(10));
    assert!(client.set_tcp_no_delay(true).unwrap_err().check::<ConnectionDone>());
}

// F
#[test]
fn b_calls_behind_a_close_are_dropped() {
    let reactor = MemoryReactor::new().reactor();
    let ran = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let r = ran.clone();
    reactor.remote().call_from_thread(|| Reactor::current().unwrap().close());
    reactor.remote().call_from_thread(move || r.store(true, std::sync::atomic::Ordering::SeqCst));
    let _ = reactor.iterate(Duration::ZERO);
    assert!(!ran.load(std::sync::atomic::Ordering::SeqCst));
}

// G
#[test]
fn c_thread_teardown() {
    thread_local! { static KEEP: RefCell<Vec<twistor::defer::Resolver<()>>> = const { RefCell::new(Vec::new()) }; }
    #[inline_callbacks]
    fn waits(d: Deferred<()>) -> Deferred<()> {
        let _ = yield_!(d);
        return_value!(())
    }
    std::thread::spawn(|| {
        KEEP.with(|k| k.borrow_mut().clear());
        let (d, r) = Deferred::new();
        waits(d).detach();
        KEEP.with(|k| k.borrow_mut().push(r));
    })
    .join()
    .unwrap();
}

// H
#[test]
fn d_nested_cancellers() {
    on_small_stack(|| {
        let (mut first, mut inner) = Deferred::<()>::new();
        first.detach();
        for _ in 0..100_000 {
            let (d, r) = Deferred::<()>::with_canceller(move |_| drop(inner));
            d.detach();
            inner = r;
        }
        drop(inner);
    });
}

// I
struct Counter {
    n: std::sync::atomic::AtomicU32,
    waker: std::sync::Mutex<Option<Waker>>,
}
struct Until(Arc<Counter>, u32, bool);
impl Future for Until {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.2 {
            *self.0.waker.lock().unwrap() = Some(cx.waker().clone());
            self.2 = true;
        }
        if self.0.n.load(std::sync::atomic::Ordering::Acquire) >= self.1 { Poll::Ready(()) } else { Poll::Pending }
    }
}
#[inline_callbacks]
fn until(u: Until) -> Deferred<()> {
    u.await;
    return_value!(())
}
#[test]
fn e_ring_stress() {
    let memory = Reactor::new().unwrap();
    memory.handle_signals(false);
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < Duration::from_secs(15) {
        rounds += 1;
        let c = Arc::new(Counter { n: 0.into(), waker: std::sync::Mutex::new(None) });
        let t = c.clone();
        let out = watch(until(Until(c.clone(), 200, false)));
        let waker = c.waker.lock().unwrap().clone().unwrap();
        let th = std::thread::spawn(move || {
            for i in 0..200u32 {
                t.n.store(i + 1, std::sync::atomic::Ordering::Release);
                waker.wake_by_ref();
                for _ in 0..(i * 7 % 300) {
                    std::hint::spin_loop();
                }
            }
        });
        while !th.is_finished() {
            memory.iterate(Duration::ZERO).unwrap();
        }
        th.join().unwrap();
        for _ in 0..5 {
            memory.iterate(Duration::ZERO).unwrap();
        }
        assert!(!out.is_pending(), "the last ring was lost in round {rounds}");
    }
    eprintln!("rounds {rounds}");
}

// J
#[test]
fn b_on_loss_does_not_grow() {
    #[protocol]
    struct Many {
        log: Log,
    }
    #[protocol]
    impl Many {
        #[inline_callbacks]
        #[cancel_on_loss]
        fn data_received(this: Handle<Self>, data: Vec<u8>) -> Deferred<()> {
            let big = [0u8; 16 * 1024];
            let (d, r) = Deferred::<()>::new();
            Reactor::current().unwrap().call_later(Duration::from_millis(1), move || r.callback(()));
            yield_!(d)?;
            std::hint::black_box(&big);
            return_value!(())
        }
    }
    let rss = || {
        let s = std::fs::read_to_string("/proc/self/statm").unwrap();
        s.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
    };
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect(&memory, move |_: &Address| Many { log: log.clone() });
    let go = |n: u32| {
        for _ in 0..n {
            client.write(b"x");
            memory.advance(Duration::from_millis(2));
        }
    };
    go(100);
    let before = rss();
    go(2000);
    let after = rss();
    assert!(after < before + 4000, "KiB before {before}, after {after}");
}

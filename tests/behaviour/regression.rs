//! Mistakes that were made once and stay mended.
use crate::support::{Bang, Log, Noting, Reports, on_small_stack, run_until, watch};
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
    task::{Context, Wake, Waker},
    time::Duration,
};
use twistor::{
    error::*,
    prelude::*,
    protocol::{Framing, Input, IntoFactory, NotNow},
    reactor::Reactor,
    testing::MemoryReactor,
    transport::{ConnectTcpOptions, ListenTcpOptions},
};

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

/// A client of `factory`, in memory.
fn connect(memory: &MemoryReactor, factory: impl IntoFactory) -> Handle<Noting> {
    let reactor = memory.reactor();
    let port = reactor
        .listen_tcp((Ipv4Addr::LOCALHOST, 0), factory, &ListenTcpOptions::default())
        .unwrap();
    let client = Noting::factory(&Log::new(), Noting::nothing);
    let connected = watch(reactor.connect_tcp(
        port.host().socket_addr().unwrap(),
        client,
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    connected.value()
}

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

#[inline_callbacks]
fn foreign(receiver: oneshot::Receiver<u32>) -> Deferred<u32> {
    return_value!(receiver.await?)
}

/// A reactor that is made now is the thread's door.
#[track_caller]
fn a_new_reactor_hears_a_foreign_wake() {
    let memory = MemoryReactor::new();
    let (sender, receiver) = oneshot::channel();
    let result = watch(foreign(receiver));
    sender.send(5).unwrap();
    memory.settle();
    assert_eq!(result.value(), 5);
}

#[test]
fn a_dropped_reactor_leaves_a_dead_door() {
    drop(MemoryReactor::new());
    a_new_reactor_hears_a_foreign_wake();
}

#[test]
fn a_close_inside_run_leaves_a_dead_door() {
    let first = MemoryReactor::new().reactor();
    let f = first.clone();
    first.call_when_running(move || f.close());
    let _ = first.run();
    a_new_reactor_hears_a_foreign_wake();
}

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
    let client = connect(&memory, move |_: &Address| Lasting {
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
        fn connection_lost(_this: Handle<Self>) -> Deferred<()> {
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

#[test]
fn cancel_on_loss_reaches_a_message_handler_that_holds_the_input_back() {
    for abort in [false, true] {
        let (memory, log) = (MemoryReactor::new(), Log::new());
        let noted = log.clone();
        let client = connect(&memory, move |_: &Address| Waiting { log: noted.clone() });
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
    assert!(
        std::error::Error::source(failure.value()).is_some(),
        "source() is the reason of the loss"
    );
}

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
    let client = connect(&memory, move |_: &Address| L {
        log: noted.clone(),
        transport: Transport::default(),
    });
    client.write(b"one\ntwo\n");
    memory.settle();
    assert_eq!(log.take(), ["one"]);
    memory.advance(Duration::from_secs(10));
    assert_eq!(log.take(), ["two"]);
}

#[test]
fn close_inside_build_protocol() {
    let reports = Reports::new();
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
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let log = Log::new();
    reactor
        .connect_tcp(
            port.host().socket_addr().unwrap(),
            Noting::factory(&log, Noting::nothing),
            &ConnectTcpOptions::default(),
        )
        .map(drop)
        .detach();
    let _r = reactor.clone();
    let done = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..4 {
            let _ = reactor.iterate(Duration::ZERO);
        }
    }));
    assert!(done.is_ok());
    assert_eq!(reports.take().len(), 1, "the connect that nobody waits for");
}

#[test]
fn close_inside_a_handler() {
    struct Own {
        me: Option<Handle<Own>>,
        _counted: CountDrop,
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
    let client = connect(&memory, |_: &Address| Own { me: None, _counted: CountDrop });
    client.write(b"x");
    for _ in 0..4 {
        let _ = memory.reactor().iterate(Duration::ZERO);
    }
    drop(client);
    drop(memory);
    assert_eq!(DROPS.get(), 1);
}

struct PanickyWaker;
impl Wake for PanickyWaker {
    fn wake(self: Arc<Self>) {
        panic!("wake");
    }
}

#[test]
fn panicking_waker() {
    let reports = Reports::new();
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
    assert_eq!((escaped, reports.take().len()), (0, 70));
}

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
    pool.spawner()
        .spawn_local(
            async move { into.set(Some(both(d, receiver).await.map_err(|f| f.to_string()))) },
        )
        .unwrap();
    pool.run_until_stalled();
    r.callback(1);
    pool.run_until_stalled();
    sender.send(2).unwrap();
    pool.run_until_stalled();
    assert_eq!(out.take(), Some(Ok(3)));
}

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

#[derive(Debug)]
struct TouchesOnDrop;
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
    client.fail(TouchesOnDrop);
    let ok = catch_unwind(AssertUnwindSafe(|| client.fail(Bang("second")))).is_ok();
    T.with(|t| t.borrow_mut().take());
    assert!(ok);
}

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

#[test]
fn abandoned_that_passed_a_callback_is_reported() {
    let reports = Reports::new();
    let (d, r) = Deferred::<u32>::new();
    d.add_both(|r| r).detach();
    drop(r);
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn try_get_that_panics_drains() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect(&memory, Noting::factory(&log, Noting::nothing));
    let ran = Rc::new(Cell::new(0));
    let (c, r) = (client.clone(), ran.clone());
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _ = client.try_with(|_| {
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

#[test]
fn close_while_a_name_is_looked_up() {
    let reactor = Reactor::new().unwrap();
    let endpoint = twistor::endpoints::Tcp4ClientEndpoint::new(&reactor, "localhost", 9).endpoint();
    let log = Log::new();
    let out = watch(endpoint.connect(Noting::factory(&log, Noting::nothing)).map(drop));
    reactor.close();
    assert!(!out.is_pending());
}

#[test]
fn a_ring_from_another_thread_without_a_reactor() {
    std::thread::spawn(|| {
        let _reports = Reports::new();
        let (sender, receiver) = oneshot::channel();
        let result = watch(foreign(receiver));
        std::thread::spawn(move || sender.send(5).unwrap()).join().unwrap();
        let memory = MemoryReactor::new();
        memory.settle();
        assert!(!result.is_pending());
    })
    .join()
    .unwrap();
}

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
    assert!(
        receive.recv_timeout(Duration::from_secs(2)).is_ok(),
        "cancel walks in a circle for ever"
    );
}

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

#[test]
fn cancel_inside_build_protocol_ends_the_attempt() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let slog = Log::new();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            Noting::factory(&slog, Noting::nothing),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let handle: Rc<RefCell<Option<twistor::defer::CancelHandle>>> = Rc::default();
    let (h, log) = (handle.clone(), Log::new());
    let l = log.clone();
    let d = reactor.connect_tcp(
        port.host().socket_addr().unwrap(),
        move |_: &Address| {
            h.borrow().as_ref().unwrap().cancel();
            Noting { log: l.clone(), on_data: Noting::nothing }
        },
        &ConnectTcpOptions::default(),
    );
    *handle.borrow_mut() = Some(d.canceller());
    let out = watch(d.map(drop));
    memory.settle();
    assert!(out.failure().check::<ConnectingCancelledError>());
    assert!(log.take().is_empty(), "no connection for a cancelled attempt");
}

#[test]
fn first_reason() {
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

#[test]
fn memory_closing_with_a_queue_and_a_reset() {
    struct N(Log);
    impl Protocol for N {
        type Framing = twistor::protocol::Raw;
        fn connection_made(&mut self, this: &Handle<Self>) {
            this.write(vec![0; 300_000]);
            this.lose_connection();
        }
        fn connection_lost(&mut self, _: &Handle<Self>, _reason: &Failure) {
            self.0.add("lost");
        }
    }
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let log = Log::new();
    let l = log.clone();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| N(l.clone()),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    struct C;
    impl Protocol for C {
        type Framing = twistor::protocol::Raw;
        fn connection_made(&mut self, this: &Handle<Self>) {
            this.pause_producing();
        }
    }
    let c = watch(reactor.connect_tcp(
        port.host().socket_addr().unwrap(),
        |_: &Address| C,
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    c.value().abort_connection();
    memory.settle();
    memory.advance(Duration::from_secs(100));
    assert_eq!(log.take(), ["lost"]);
}

#[test]
fn resume_inside_a_call_delivers_right_after_it() {
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

#[test]
fn no_delay_after_the_end() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect(&memory, Noting::factory(&log, Noting::nothing));
    client.lose_connection();
    memory.advance(Duration::from_secs(10));
    assert!(client.set_tcp_no_delay(true).unwrap_err().check::<ConnectionDone>());
}

#[test]
fn calls_behind_a_close_are_dropped() {
    let reactor = MemoryReactor::new().reactor();
    let ran = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let r = ran.clone();
    reactor.remote().call_from_thread(|| Reactor::current().unwrap().close());
    reactor.remote().call_from_thread(move || r.store(true, std::sync::atomic::Ordering::SeqCst));
    let _ = reactor.iterate(Duration::ZERO);
    assert!(!ran.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn thread_teardown() {
    thread_local! {
        static KEEP: RefCell<Vec<twistor::defer::Resolver<()>>> =
            const { RefCell::new(Vec::new()) };
    }
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

#[test]
fn nested_cancellers() {
    on_small_stack(|| {
        let (first, mut inner) = Deferred::<()>::new();
        first.detach();
        for _ in 0..100_000 {
            let (d, r) = Deferred::<()>::with_canceller(move |_| drop(inner));
            d.detach();
            inner = r;
        }
        drop(inner);
    });
}

#[test]
fn what_came_with_the_connect_event_is_read() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let (sent, is_sent) = std::sync::mpsc::channel();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 hello").unwrap();
        sent.send(()).unwrap();
        // keeps the connection until the other side has seen it
        let _ = is_done.recv();
    });
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    reactor
        .connect_tcp(at, Noting::factory(&log, Noting::nothing), &ConnectTcpOptions::default())
        .map(drop)
        .detach();
    is_sent.recv().unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.len() == 2
    });
    assert_eq!(seen, ["made", "data 220 hello"]);
    drop(done);
    server.join().unwrap();
}

#[test]
fn a_reset_in_a_handler_counts_from_now_and_not_from_before_the_wait() {
    struct Resetting(twistor::time::DelayedCall);
    impl Protocol for Resetting {
        type Framing = twistor::protocol::Raw;
        fn message_received(&mut self, this: &Handle<Self>, _: &[u8]) {
            self.0.reset(Duration::from_secs(100)).unwrap();
            this.write("reset");
        }
    }
    let reactor = Reactor::new().unwrap();
    let idle = reactor.call_later(Duration::from_secs(50), || ());
    let given = idle.clone();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| Resetting(given.clone()),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let at = port.host().socket_addr().unwrap();
    let peer = std::thread::spawn(move || {
        let mut peer = std::net::TcpStream::connect(at).unwrap();
        // the message comes while the reactor has been waiting for a while
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(Duration::from_millis(300));
        peer.write_all(b"x").unwrap();
        peer.read_exact(&mut [0; 5]).unwrap();
    });
    let before = reactor.seconds();
    run_until(&reactor, || idle.time() > Duration::from_secs(60));
    assert!(
        idle.time() >= before + Duration::from_millis(100_290),
        "{:?} after {before:?}",
        idle.time()
    );
    peer.join().unwrap();
}

#[test]
fn iterate_after_a_stop_waits() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    reactor.run().unwrap();
    reactor.iterate(Duration::from_millis(100)).unwrap();
    assert_eq!(reactor.seconds(), Duration::from_millis(100));
}

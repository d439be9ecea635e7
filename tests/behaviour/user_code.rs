//! Panics, drops and unusual calls in user code: they affect its connection, and nothing else.
use crate::support::{Bang, Log, Noting, Pair, Reports, connect_to, watch};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};
use twistor::{
    address::Address,
    error::AbandonedError,
    failure::Failure,
    prelude::*,
    protocol::{Factory, Framing, Input, Producer, ProducerKind},
    testing::MemoryReactor,
    transport::{ClientFactory, ConnectTcpOptions, Connector, ListenTcpOptions},
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
fn a_panic_in_a_framing_closes_the_connection_and_not_the_reactor() {
    let reports = Reports::new();
    let memory = MemoryReactor::new();
    let client = connect_to(&memory, |_: &Address| BadOne);
    client.write(b"x");
    assert!(catch_unwind(AssertUnwindSafe(|| memory.settle())).is_ok());
    assert!(!client.is_connected());
    drop(reports.take());
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
    let client =
        connect_to(&memory, move |_: &Address| Asker { waiting: vec![], handles: h.clone() });
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
fn an_error_whose_drop_fails_the_connection_again_is_dropped_safely() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect_to(&memory, Noting::factory(&log, Noting::nothing));
    T.with(|t| *t.borrow_mut() = Some(client.transport().clone()));
    client.fail(TouchesOnDrop);
    let ok = catch_unwind(AssertUnwindSafe(|| client.fail(Bang("second")))).is_ok();
    T.with(|t| t.borrow_mut().take());
    assert!(ok);
}

#[test]
fn calls_queued_inside_a_try_with_that_panics_still_run() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect_to(&memory, Noting::factory(&log, Noting::nothing));
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
fn calls_at_the_depth_limit_of_callbacks_keep_their_order() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect_to(&memory, Noting::factory(&log, Noting::nothing));
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
fn the_first_reason_given_is_the_reason_of_the_loss() {
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
    let client = connect_to(&memory, move |_: &Address| N(l.clone()));
    client.write(b"x");
    memory.settle();
    assert_eq!(log.take(), ["first"]);
}

struct PanicsOnDrop;

impl Producer for PanicsOnDrop {
    fn resume_producing(&self) {}

    fn stop_producing(&self) {}
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("drop of a producer");
    }
}

#[test]
fn a_panic_in_the_drop_of_a_producer_does_not_reach_the_reactor() {
    let pair = Pair::new(1000);
    let _reports = Reports::new();
    pair.server.register_producer(Rc::new(PanicsOnDrop), ProducerKind::Push).unwrap();
    pair.server.abort_connection();
    let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pair.memory.settle()));
    assert!(r.is_ok(), "the panic reached the loop");
    assert_eq!(pair.at_server.take(), ["lost ConnectionAborted"]);
}

#[test]
fn a_panic_in_the_drop_of_an_unwanted_protocol_does_not_reach_the_reactor() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("drop of a protocol");
        }
    }
    impl twistor::protocol::Protocol for Bad {
        type Framing = twistor::protocol::Raw;
    }
    struct F(RefCell<Option<Connector>>);
    impl Factory for F {
        type Protocol = Bad;
        fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Bad> {
            let c = self.0.borrow().clone();
            c.unwrap().stop_connecting().unwrap();
            Some(Bad)
        }
    }
    impl ClientFactory for F {
        fn started_connecting(self: &Rc<Self>, c: &Connector) {
            *self.0.borrow_mut() = Some(c.clone());
        }
    }
    let _r = Reports::new();
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let place: SocketAddr = ([127, 0, 0, 1], 90).into();
    let _p = reactor
        .listen_tcp(
            place,
            Noting::factory(&Log::new(), Noting::nothing),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let _c = Connector::tcp(&reactor, place, F(RefCell::default()), &ConnectTcpOptions::default());
    let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| memory.settle()));
    assert!(r.is_ok(), "the panic reached the loop");
}

//! Closing a reactor, from wherever user code may do it.
use crate::support::{Log, Noting, Reports, connect_to, watch};
use std::{
    cell::{Cell, RefCell},
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use twistor::{
    address::Address,
    prelude::*,
    reactor::Reactor,
    testing::MemoryReactor,
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

#[test]
fn a_factory_may_close_the_reactor_in_build_protocol() {
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
fn a_handler_that_closes_the_reactor_leaves_no_protocol_behind() {
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
    let client = connect_to(&memory, |_: &Address| Own { me: None, _counted: CountDrop });
    client.write(b"x");
    for _ in 0..4 {
        let _ = memory.reactor().iterate(Duration::ZERO);
    }
    drop(client);
    drop(memory);
    assert_eq!(DROPS.get(), 1);
}

#[test]
fn when_stopped_of_a_closed_reactor_has_its_result() {
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

#[test]
fn an_attempt_that_waits_for_a_name_fails_when_the_reactor_closes() {
    let reactor = Reactor::new().unwrap();
    let endpoint = twistor::endpoints::Tcp4ClientEndpoint::new(&reactor, "localhost", 9).endpoint();
    let log = Log::new();
    let out = watch(endpoint.connect(Noting::factory(&log, Noting::nothing)).map(drop));
    reactor.close();
    assert!(!out.is_pending());
}

#[test]
fn calls_from_threads_behind_a_close_are_dropped() {
    let reactor = MemoryReactor::new().reactor();
    let ran = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let r = ran.clone();
    reactor.remote().call_from_thread(|| Reactor::current().unwrap().close());
    reactor.remote().call_from_thread(move || r.store(true, std::sync::atomic::Ordering::SeqCst));
    let _ = reactor.iterate(Duration::ZERO);
    assert!(!ran.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn iterate_after_a_run_that_was_stopped_waits_its_time() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    reactor.run().unwrap();
    reactor.iterate(Duration::from_millis(100)).unwrap();
    assert_eq!(reactor.seconds(), Duration::from_millis(100));
}

// Kind: what user code may call it may also call while its thread ends.
#[test]
fn a_thread_local_that_outlives_the_runtime_s_may_use_it_in_its_drop() {
    struct Late(Option<(Reactor, Handle<Noting>)>);
    impl Drop for Late {
        fn drop(&mut self) {
            assert!(Reactor::current().is_none());
            let (reactor, handle) = self.0.take().unwrap();
            assert!(!reactor.remote().is_in_reactor_thread());
            handle.write("late");
            handle.abort_connection();
            reactor.close();
        }
    }
    thread_local! {
        static LATE: RefCell<Late> = const { RefCell::new(Late(None)) };
    }
    std::thread::spawn(|| {
        // touched first, so it is dropped last
        LATE.with_borrow(|late| assert!(late.0.is_none()));
        let memory = MemoryReactor::new();
        let handle = connect_to(&memory, Noting::factory(&Log::new(), Noting::nothing));
        LATE.with_borrow_mut(|late| late.0 = Some((memory.reactor(), handle)));
    })
    .join()
    .unwrap();
}

#[test]
fn a_memory_reactor_that_is_closed_has_nothing_left_to_do() {
    let memory = MemoryReactor::new();
    memory.reactor().close();
    memory.settle();
    memory.advance(Duration::from_secs(1));
}

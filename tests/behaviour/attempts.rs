//! Attempts to connect that end early: cancelled, stopped, or closed with their reactor.
use crate::support::{Log, Noting, Reports, run_until, short, watch};
use std::{
    cell::{Cell, RefCell},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    rc::Rc,
    time::Duration,
};
use twistor::{
    address::Address,
    error::ConnectingCancelledError,
    failure::Failure,
    prelude::*,
    protocol::Factory,
    reactor::Reactor,
    testing::MemoryReactor,
    transport::{ClientFactory, ConnectTcpOptions, Connector, ConnectorState, ListenTcpOptions},
};

struct Flag(Rc<Cell<u32>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[protocol]
struct Dropped {
    #[init(Rc::new(Flag(Rc::default())))]
    flag: Rc<Flag>,
}

#[protocol]
impl Dropped {
    fn data_received(&mut self, _data: &[u8]) {
        let _ = &self.flag;
    }
}

/// Records its calls, and runs the test's function when it is started.
struct Telling {
    log: Log,
    on_start: RefCell<Option<Box<dyn Fn()>>>,
    flag: Option<Flag>,
}

impl Factory for Telling {
    type Protocol = Noting;
    fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Noting> {
        Some(Noting { log: self.log.clone(), on_data: Noting::nothing })
    }
    fn start_factory(&self) {
        self.log.add("start");
        let f = self.on_start.take();
        if let Some(f) = f {
            f();
        }
    }
    fn stop_factory(&self) {
        self.log.add("stop");
    }
}

impl ClientFactory for Telling {
    fn started_connecting(self: &Rc<Self>, _c: &Connector) {
        self.log.add("started");
    }
    fn client_connection_failed(self: &Rc<Self>, _c: &Connector, r: &Failure) {
        self.log.add(format!("failed {}", short(r)));
    }
    fn client_connection_lost(self: &Rc<Self>, _c: &Connector, r: &Failure) {
        self.log.add(format!("client lost {}", short(r)));
    }
}

fn telling(log: &Log) -> Telling {
    Telling { log: log.clone(), on_start: RefCell::default(), flag: None }
}

#[test]
fn an_attempt_cancelled_in_build_protocol_makes_no_connection() {
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
fn an_attempt_cancelled_in_build_protocol_frees_its_factory_and_protocol() {
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
    let dropped = Rc::new(Cell::new(0));
    let canceller: Rc<RefCell<Option<twistor::defer::CancelHandle>>> = Rc::default();
    let (d, c) = (Flag(dropped.clone()), canceller.clone());
    let d = Rc::new(d);
    let attempt = reactor.connect_tcp(
        place,
        move |_: &Address| {
            if let Some(c) = c.take() {
                c.cancel();
            }
            Dropped { flag: d.clone() }
        },
        &ConnectTcpOptions::default(),
    );
    *canceller.borrow_mut() = Some(attempt.canceller());
    let o = watch(attempt);
    memory.settle();
    assert_eq!(short(&o.into_failure()), "ConnectingCancelledError");
    reactor.close();
    drop((memory, reactor));
    assert_eq!(dropped.get(), 1, "protocol and factory are freed");
}

#[test]
fn an_attempt_cancelled_in_connection_made_ends_the_connection_without_an_owner() {
    struct Canc {
        c: Rc<RefCell<Option<twistor::defer::CancelHandle>>>,
        log: Log,
    }
    impl twistor::protocol::Protocol for Canc {
        type Framing = twistor::protocol::Raw;
        fn connection_made(&mut self, _this: &Handle<Self>) {
            let c = self.c.take();
            if let Some(c) = c {
                c.cancel();
            }
        }
        fn connection_lost(&mut self, _this: &Handle<Self>, reason: &Failure) {
            self.log.add(short(reason));
        }
    }
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
    let canceller: Rc<RefCell<Option<twistor::defer::CancelHandle>>> = Rc::default();
    let (c, log) = (canceller.clone(), Log::new());
    let l = log.clone();
    let attempt = reactor.connect_tcp(
        place,
        move |_: &Address| Canc { c: c.clone(), log: l.clone() },
        &ConnectTcpOptions::default(),
    );
    *canceller.borrow_mut() = Some(attempt.canceller());
    let o = watch(attempt);
    memory.advance(Duration::from_secs(60));
    assert_eq!(short(&o.into_failure()), "ConnectingCancelledError");
    let seen = log.take();
    reactor.close();
    assert_eq!(seen.len(), 1, "nobody has the connection: it ends");
}

#[test]
fn a_reactor_that_closes_after_stop_connecting_stops_the_factory() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let log = Log::new();
    let place: SocketAddr = ([127, 0, 0, 1], 90).into();
    let connector = Connector::tcp(&reactor, place, telling(&log), &ConnectTcpOptions::default());
    connector.stop_connecting().unwrap();
    reactor.close();
    assert_eq!(log.take(), ["start", "started", "stop"]);
}

#[test]
fn a_disconnect_in_start_factory_ends_the_attempt() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let at = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let place = at.local_addr().unwrap();
    let f = Rc::new(telling(&log));
    let connector = Connector::tcp(&reactor, place, f.clone(), &ConnectTcpOptions::default());
    connector.stop_connecting().unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.last().is_some_and(|l| l == "stop")
    });
    let again = connector.clone();
    *f.on_start.borrow_mut() = Some(Box::new(move || again.disconnect()));
    connector.connect().unwrap();
    for _ in 0..10 {
        reactor.iterate(Duration::from_millis(10)).unwrap();
    }
    assert_eq!(connector.state(), ConnectorState::Disconnected);
    reactor.close();
}

#[test]
fn a_forgotten_reactor_frees_its_connectors_and_their_factories() {
    let reports = Reports::new();
    let dropped = Rc::new(Cell::new(0));
    let at = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let place = at.local_addr().unwrap();
    {
        let reactor = Reactor::new().unwrap();
        let mut f = telling(&Log::new());
        f.flag = Some(Flag(dropped.clone()));
        let c = Connector::tcp(&reactor, place, f, &ConnectTcpOptions::default());
        drop(c);
        drop(reactor);
    }
    assert_eq!(dropped.get(), 1, "a reactor that is forgotten frees what it has");
    // for comparison
    let other = Rc::new(Cell::new(0));
    {
        let reactor = Reactor::new().unwrap();
        let mut f = telling(&Log::new());
        f.flag = Some(Flag(other.clone()));
        reactor.connect_tcp(place, f, &ConnectTcpOptions::default()).detach();
    }
    assert_eq!((other.get(), reports.take().len()), (1, 1), "the attempt that was given up");
}

#[test]
fn a_connector_on_a_closed_reactor_refuses_to_connect() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    reactor.close();
    let log = Log::new();
    let place: SocketAddr = ([127, 0, 0, 1], 90).into();
    let c = Connector::tcp(&reactor, place, telling(&log), &ConnectTcpOptions::default());
    assert!(c.connect().unwrap_err().check::<twistor::error::ReactorClosed>());
    let seen = log.take();
    assert!(
        !seen.iter().any(|l| l == "started") || seen.iter().any(|l| l.starts_with("failed")),
        "{seen:?}"
    );
}

#[test]
fn a_factory_at_the_address_of_a_freed_one_is_started() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let place: SocketAddr = ([127, 0, 0, 1], 90).into();
    let f = Rc::new(telling(&Log::new()));
    let old = Rc::as_ptr(&f);
    let connector = Connector::tcp(&reactor, place, f, &ConnectTcpOptions::default());
    connector.stop_connecting().unwrap();
    reactor.close();
    let log = Log::new();
    let mut keep = Vec::with_capacity(20_000);
    drop((reactor, memory, connector));
    for _ in 0..10_000 {
        let f = Rc::new(telling(&log));
        if Rc::as_ptr(&f) == old {
            let memory = MemoryReactor::new();
            let _p = memory.reactor().listen_tcp(place, f, &ListenTcpOptions::default()).unwrap();
            let seen = log.take();
            memory.reactor().close();
            assert_eq!(seen, ["start"], "the first port of a new factory starts it");
            return;
        }
        keep.push(f);
    }
}

#[test]
fn a_stopped_connector_is_freed() {
    for settle in [true, false] {
        let dropped = Rc::new(Cell::new(0));
        let memory = MemoryReactor::new();
        let reactor = memory.reactor();
        let place: SocketAddr = ([127, 0, 0, 1], 90).into();
        let mut f = telling(&Log::new());
        f.flag = Some(Flag(dropped.clone()));
        let connector = Connector::tcp(&reactor, place, f, &ConnectTcpOptions::default());
        connector.stop_connecting().unwrap();
        if settle {
            memory.settle();
        }
        reactor.close();
        drop((connector, reactor, memory));
        assert_eq!(dropped.get(), 1, "{settle}");
    }
}

#[test]
fn a_factory_may_close_the_reactor_in_start_factory() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let log = Log::new();
    let place: SocketAddr = ([127, 0, 0, 1], 90).into();
    let f = Rc::new(telling(&log));
    let r = reactor.clone();
    *f.on_start.borrow_mut() = Some(Box::new(move || r.close()));
    let _ = watch(reactor.connect_tcp(place, f.clone(), &ConnectTcpOptions::default()));
    assert_eq!(log.take(), ["start", "stop"]);
}

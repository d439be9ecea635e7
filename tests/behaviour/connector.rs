//! Clients that connect more than once, and the events of their factory.
use crate::support::{Log, Noting, Reports, run_until, short};
use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};
use twistor::{
    address::Address,
    error::{ConnectError, NotConnectingError, RuntimeError, TimeoutError, UserError},
    failure::Failure,
    protocol::Factory,
    reactor::Reactor,
    transport::{
        ClientFactory, ConnectTcpOptions, Connector, ConnectorState, ListenTcpOptions, Port,
    },
};

type Told = Box<dyn Fn(&Connector)>;

/// Records its calls, and then runs the test's function.
struct Client {
    log: Log,
    on_started: Told,
    on_failed: Told,
    on_lost: Told,
    seen: RefCell<Vec<Address>>,
}

impl Client {
    fn new(log: &Log) -> Self {
        let nothing = || Box::new(|_: &Connector| ()) as Told;
        Self {
            log: log.clone(),
            on_started: nothing(),
            on_failed: nothing(),
            on_lost: nothing(),
            seen: RefCell::default(),
        }
    }
}

impl Factory for Client {
    type Protocol = Noting;

    fn build_protocol(self: &Rc<Self>, peer: &Address) -> Option<Noting> {
        self.seen.borrow_mut().push(peer.clone());
        Some(Noting { log: self.log.clone(), on_data: Noting::nothing })
    }

    fn start_factory(&self) {
        self.log.add("start");
    }

    fn stop_factory(&self) {
        self.log.add("stop");
    }
}

impl ClientFactory for Client {
    fn started_connecting(self: &Rc<Self>, connector: &Connector) {
        self.log.add(format!("started {:?}", connector.state()));
        (self.on_started)(connector);
    }

    fn client_connection_failed(self: &Rc<Self>, connector: &Connector, reason: &Failure) {
        self.log.add(format!("failed {} {:?}", short(reason), connector.state()));
        (self.on_failed)(connector);
    }

    fn client_connection_lost(self: &Rc<Self>, connector: &Connector, reason: &Failure) {
        self.log.add(format!("client lost {} {:?}", short(reason), connector.state()));
        (self.on_lost)(connector);
    }
}

fn served(reactor: &Reactor, log: &Log) -> (Port, SocketAddr) {
    let closes = |this: &twistor::protocol::Handle<Noting>, _: &[u8]| this.lose_connection();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            Noting::factory(log, closes),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let at = port.host().socket_addr().unwrap();
    (port, at)
}

fn options() -> ConnectTcpOptions {
    ConnectTcpOptions::default()
}

/// Returns a real reactor, and an address where no program listens.
fn nobody() -> (Reactor, SocketAddr) {
    let reactor = Reactor::new().unwrap();
    let (port, at) = served(&reactor, &Log::new());
    port.stop_listening().detach();
    (reactor, at)
}

fn until(reactor: &Reactor, log: &Log, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    run_until(reactor, || {
        seen.extend(log.take());
        seen.last().is_some_and(|line| line == last)
    });
    seen
}

#[test]
fn t_039_t_042_t_057_one_connector_goes_through_the_whole_life_of_a_connection() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (port, at) = served(&reactor, &Log::new());
    let connector = Connector::tcp(&reactor, at, Client::new(&log), &options());
    assert_eq!(connector.destination(), Address::from(at));
    assert_eq!(log.take(), ["start", "started Connecting"], "inside the call");
    until(&reactor, &log, "made");
    assert_eq!(connector.state(), ConnectorState::Connected);
    assert_eq!(connector.transport().peer(), Address::from(at));
    connector.transport().write("close it");
    let seen = until(&reactor, &log, "stop");
    assert_eq!(seen, ["lost ConnectionDone", "client lost ConnectionDone Disconnected", "stop"]);
    assert!(!connector.transport().is_connected());
    port.stop_listening().detach();
}

#[test]
fn r_103_the_text_of_a_connector_has_its_destination_and_state() {
    let (reactor, at) = nobody();
    let log = Log::new();
    let connector = Connector::tcp(&reactor, at, Client::new(&log), &options());
    assert_eq!(format!("{connector:?}"), format!("<Connector to {at}, connecting>"));
    until(&reactor, &log, "stop");
    assert_eq!(format!("{connector:?}"), format!("<Connector to {at}, disconnected>"));
}

#[test]
fn t_040_stop_connecting_in_started_connecting_is_a_user_error_in_a_later_turn() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (_port, at) = served(&reactor, &Log::new());
    let mut client = Client::new(&log);
    client.on_started = Box::new(|connector| {
        connector.stop_connecting().unwrap();
        let failure = connector.stop_connecting().unwrap_err();
        assert!(failure.check::<NotConnectingError>() && failure.check::<RuntimeError>());
    });
    let connector = Connector::tcp(&reactor, at, client, &options());
    assert_eq!(log.take(), ["start", "started Connecting"]);
    let seen = until(&reactor, &log, "stop");
    assert_eq!(seen, ["failed UserError Disconnected", "stop"]);
    assert!(connector.stop_connecting().unwrap_err().check::<NotConnectingError>());
    assert!(Failure::new(UserError::new()).check::<ConnectError>());
    reactor.close();
}

#[test]
fn t_041_t_050_connecting_again_in_connection_lost_continues_with_a_started_factory() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (port, at) = served(&reactor, &Log::new());
    let mut client = Client::new(&log);
    let gone = RefCell::new(Some(port));
    client.on_lost = Box::new(move |connector| {
        if let Some(port) = gone.take() {
            port.stop_listening().detach();
        }
        connector.connect().unwrap();
        assert!(connector.connect().unwrap_err().check::<RuntimeError>());
    });
    let connector = Connector::tcp(&reactor, at, client, &options());
    until(&reactor, &log, "made");
    connector.disconnect();
    let seen = until(&reactor, &log, "stop");
    let expected = [
        "lost ConnectionDone",
        "client lost ConnectionDone Disconnected",
        "started Connecting",
        "failed ConnectionRefusedError Disconnected",
        "stop",
    ];
    assert_eq!(seen, expected, "started once, stopped once");
}

#[test]
fn t_043_t_044_the_reactor_can_be_stopped_from_either_side_of_an_attempt() {
    let (reactor, at) = nobody();
    let log = Log::new();
    let mut client = Client::new(&log);
    let stops = reactor.clone();
    client.on_failed = Box::new(move |_| stops.stop().unwrap());
    let _connector = Connector::tcp(&reactor, at, client, &options());
    reactor.run().unwrap();
    assert_eq!(
        log.take(),
        ["start", "started Connecting", "failed ConnectionRefusedError Disconnected", "stop"]
    );

    let (_port, at) = served(&reactor, &Log::new());
    let stops = reactor.clone();
    let stopping = reactor.connect_tcp(at, move |_: &Address| Stops(stops.clone()), &options());
    stopping.detach();
    reactor.run().unwrap();
    reactor.close();

    struct Stops(Reactor);
    impl twistor::protocol::Protocol for Stops {
        type Framing = twistor::protocol::Raw;
        fn connection_made(&mut self, _this: &twistor::protocol::Handle<Self>) {
            self.0.stop().unwrap();
        }
    }
}

#[test]
fn an_attempt_that_takes_too_long_is_reported_as_a_timeout() {
    // a listener with a full backlog does not answer another SYN
    let stream =
        || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let deaf = stream();
    deaf.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    deaf.listen(0).unwrap();
    let at = deaf.local_addr().unwrap();
    let _fill: Vec<_> = (0..3)
        .map(|_| {
            let socket = stream();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&at);
            socket
        })
        .collect();
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let quick = options().timeout(Duration::from_millis(50));
    let _connector = Connector::tcp(&reactor, at.as_socket().unwrap(), Client::new(&log), &quick);
    let seen = until(&reactor, &log, "stop");
    assert_eq!(seen, ["start", "started Connecting", "failed TimeoutError Disconnected", "stop"]);
    assert!(Failure::new(TimeoutError::new()).check::<UserError>());
}

#[test]
fn t_037_t_056_factory_and_transport_see_the_numeric_address_and_the_chosen_local_one() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (port, at) = served(&reactor, &Log::new());
    let client = Rc::new(Client::new(&log));
    let from = SocketAddr::from(([127, 0, 0, 2], 0));
    let connector = Connector::tcp(&reactor, at, client.clone(), &options().bind_address(from));
    until(&reactor, &log, "made");
    assert_eq!(*client.seen.borrow(), [port.host()]);
    assert_eq!(connector.transport().peer(), port.host());
    assert_eq!(connector.transport().host().host(), "127.0.0.2");
    reactor.close();
    assert_eq!(
        log.take().last().unwrap(),
        "stop",
        "a closed reactor stops the factory without another word"
    );
}

#[test]
fn disconnect_stops_an_attempt_or_closes_a_connection() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (_port, at) = served(&reactor, &Log::new());
    let connector = Connector::tcp(&reactor, at, Client::new(&log), &options());
    connector.disconnect();
    connector.disconnect();
    assert!(until(&reactor, &log, "stop").contains(&"failed UserError Disconnected".to_owned()));
    connector.disconnect();
    connector.connect().unwrap();
    until(&reactor, &log, "made");
    connector.disconnect();
    assert_eq!(until(&reactor, &log, "stop").len(), 3);
    reactor.close();
}

#[test]
fn a_connection_made_that_panics_is_reported_as_lost_and_not_as_failed() {
    struct Panics(Log);
    struct Panicking;
    impl twistor::protocol::Protocol for Panicking {
        type Framing = twistor::protocol::Raw;
        fn connection_made(&mut self, _this: &twistor::protocol::Handle<Self>) {
            panic!("no");
        }
    }
    impl Factory for Panics {
        type Protocol = Panicking;
        fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Panicking> {
            Some(Panicking)
        }
    }
    impl ClientFactory for Panics {
        fn client_connection_failed(self: &Rc<Self>, _: &Connector, _: &Failure) {
            self.0.add("failed");
        }
        fn client_connection_lost(self: &Rc<Self>, _: &Connector, reason: &Failure) {
            self.0.add(format!("lost {}", short(reason)));
        }
    }
    let reports = Reports::new();
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (_port, at) = served(&reactor, &Log::new());
    let _connector = Connector::tcp(&reactor, at, Panics(log.clone()), &options());
    assert_eq!(until(&reactor, &log, "lost Panicked").len(), 1);
    assert_eq!(reports.take().len(), 1);
    reactor.close();
}

#[test]
fn a_panic_in_the_factory_is_reported_and_the_connector_continues() {
    let reports = Reports::new();
    let (reactor, at) = nobody();
    let log = Log::new();
    let mut client = Client::new(&log);
    client.on_started = Box::new(|_| panic!("bad start"));
    client.on_failed = Box::new(|_| panic!("bad end"));
    let connector = Connector::tcp(&reactor, at, client, &options());
    let seen = until(&reactor, &log, "stop");
    assert_eq!(
        seen,
        ["start", "started Connecting", "failed ConnectionRefusedError Disconnected", "stop"]
    );
    assert_eq!(reports.take().len(), 2);
    assert_eq!(connector.state(), ConnectorState::Disconnected);
}

//! TCP, over the operating system and over memory.
use crate::support::{Log, Noting, Reports, connect_to, run_until, short, watch};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    time::Duration,
};
use twistor::{
    address::Address,
    error::{
        CannotListenError, ConnectBindError, ConnectError, ConnectingCancelledError,
        ConnectionDone, ConnectionRefusedError, NoProtocol, NotListeningError, Panicked,
        TimeoutError,
    },
    failure::Failure,
    protocol::{Factory, Handle, Protocol, Raw},
    reactor::Reactor,
    testing::MemoryReactor,
    transport::{ConnectTcpOptions, ListenTcpOptions, Port},
};

const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn at(port: &Port) -> SocketAddr {
    port.host().socket_addr().unwrap()
}

/// Returns a real reactor and a port whose connections run `on_data`.
fn served(log: &Log, on_data: fn(&Handle<Noting>, &[u8])) -> (Reactor, Port) {
    let reactor = Reactor::new().unwrap();
    let port = reactor
        .listen_tcp(LOCAL, Noting::factory(log, on_data), &ListenTcpOptions::default())
        .unwrap();
    (reactor, port)
}

/// Returns everything that the peer reads up to the end of file, while the reactor runs.
fn read_to_end(reactor: &Reactor, peer: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    peer.set_nonblocking(true).unwrap();
    let mut all = Vec::new();
    let mut end = None;
    run_until(reactor, || {
        let mut buffer = vec![0; 65536];
        loop {
            match peer.read(&mut buffer) {
                Ok(0) => end = Some(Ok(())),
                Ok(n) => {
                    all.extend_from_slice(&buffer[..n]);
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => end = Some(Err(error)),
            }
            return end.is_some();
        }
    });
    end.unwrap().map(|()| all)
}

/// Runs one echo over either kind of reactor, and returns what both sides see.
fn echo_over(reactor: &Reactor, turn: impl Fn()) -> (Vec<String>, Vec<String>) {
    let (served, asked) = (Log::new(), Log::new());
    let port = reactor
        .listen_tcp(LOCAL, Noting::factory(&served, Noting::echo), &ListenTcpOptions::default())
        .unwrap();
    let client = Noting::factory(&asked, |this, data| {
        if data.ends_with(b"bye") {
            this.lose_connection();
        }
    });
    let connected = watch(reactor.connect_tcp(at(&port), client, &ConnectTcpOptions::default()));
    while connected.is_pending() {
        turn();
    }
    connected.value().write("hello, bye");
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    while at_server
        .iter()
        .chain(&at_client)
        .filter(|line: &&String| line.starts_with("lost"))
        .count()
        != 2
    {
        turn();
        at_server.extend(served.take());
        at_client.extend(asked.take());
    }
    port.stop_listening().detach();
    (at_server, at_client)
}

#[test]
fn the_same_echo_over_the_system_and_over_memory() {
    let real = Reactor::new().unwrap();
    let memory = MemoryReactor::new();
    let over_system = echo_over(&real, || real.iterate(Duration::from_millis(50)).unwrap());
    let over_memory = echo_over(&memory.reactor(), || memory.settle());
    assert_eq!(over_system, over_memory);
    assert_eq!(over_system.0, ["made", "data hello, bye", "lost ConnectionDone"]);
    assert_eq!(over_system.1, ["made", "data hello, bye", "lost ConnectionDone"]);
}

#[test]
fn t_001_t_013_t_014_a_port_says_where_it_really_listens() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let listen = |at: SocketAddr| {
        reactor
            .listen_tcp(at, Noting::factory(&log, Noting::nothing), &ListenTcpOptions::default())
            .unwrap()
    };
    assert_eq!(ListenTcpOptions::default().backlog, 50);
    let any = listen((Ipv4Addr::UNSPECIFIED, 0).into());
    assert!(matches!(any.host(), Address::IPv4(at) if at.port() != 0));
    let six = listen((Ipv6Addr::LOCALHOST, 0).into());
    assert!(
        matches!(six.host(), Address::IPv6(at) if at.ip() == &Ipv6Addr::LOCALHOST && at.port() != 0)
    );
    for port in [any, six] {
        watch(port.stop_listening()).value();
    }
}

#[test]
fn t_002_after_stopping_the_same_port_can_be_bound_again_and_a_second_stop_is_an_error() {
    let (reactor, port) = served(&Log::new(), Noting::nothing);
    let address = at(&port);
    watch(port.stop_listening()).value();
    let again = reactor
        .listen_tcp(
            address,
            Noting::factory(&Log::new(), Noting::nothing),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    assert_eq!(at(&again), address);
    let failure = watch(port.stop_listening()).failure();
    assert!(failure.check::<NotListeningError>());
    assert_eq!(failure.frames()[0].location().file(), file!(), "it names the caller's line");
    again.stop_listening().detach();
}

#[test]
fn t_003_r_102_the_text_of_a_port_has_its_number_until_it_is_stopped() {
    let (_reactor, port) = served(&Log::new(), Noting::nothing);
    let number = port.host().port().to_string();
    assert!(format!("{port:?}").contains(&number));
    port.stop_listening().detach();
    assert!(!format!("{port:?}").contains(&number));
}

#[test]
fn t_010_an_address_in_use_is_cannot_listen_error_with_the_address() {
    let (reactor, port) = served(&Log::new(), Noting::nothing);
    let failure = reactor
        .listen_tcp(
            at(&port),
            Noting::factory(&Log::new(), Noting::nothing),
            &ListenTcpOptions::default(),
        )
        .unwrap_err();
    assert!(failure.check::<CannotListenError>());
    assert!(
        failure.to_string().contains(&format!("127.0.0.1:{}", port.host().port())),
        "{failure}"
    );
}

/// A factory that records its start and stop.
struct Counted {
    log: Log,
}

impl Factory for Counted {
    type Protocol = Noting;

    fn build_protocol(self: &Rc<Self>, peer: &Address) -> Option<Noting> {
        self.log.add(format!("build for {}", peer.host()));
        Some(Noting { log: self.log.clone(), on_data: Noting::nothing })
    }

    fn start_factory(&self) {
        self.log.add("start");
    }

    fn stop_factory(&self) {
        self.log.add("stop");
    }
}

#[test]
fn t_011_p_009_a_factory_on_three_ports_starts_once_and_stops_with_the_last() {
    let (memory, log) = (MemoryReactor::new(), Log::new());
    let factory = Rc::new(Counted { log: log.clone() });
    let ports: Vec<_> = (0..3)
        .map(|_| {
            memory
                .reactor()
                .listen_tcp(LOCAL, factory.clone(), &ListenTcpOptions::default())
                .unwrap()
        })
        .collect();
    assert_eq!(log.take(), ["start"]);
    for port in &ports[..2] {
        watch(port.stop_listening()).value();
    }
    assert!(log.take().is_empty());
    watch(ports[2].stop_listening()).value();
    assert_eq!(log.take(), ["stop"]);
}

#[test]
fn t_006_a_stop_factory_that_panics_fails_stop_listening() {
    struct Bad;
    impl Factory for Bad {
        type Protocol = Noting;
        fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Noting> {
            None
        }
        fn stop_factory(&self) {
            panic!("in stop");
        }
    }
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_tcp(LOCAL, Bad, &ListenTcpOptions::default()).unwrap();
    assert!(watch(port.stop_listening()).failure().check::<Panicked>());
}

#[test]
fn t_012_a_client_factory_starts_with_the_attempt_and_stops_with_the_connection() {
    let (memory, served, log) = (MemoryReactor::new(), Log::new(), Log::new());
    let reactor = memory.reactor();
    let port = reactor
        .listen_tcp(LOCAL, Noting::factory(&served, Noting::nothing), &ListenTcpOptions::default())
        .unwrap();
    let connected = watch(reactor.connect_tcp(
        at(&port),
        Counted { log: log.clone() },
        &ConnectTcpOptions::default(),
    ));
    assert_eq!(log.take(), ["start"]);
    memory.settle();
    assert_eq!(log.take(), ["build for 127.0.0.1", "made"]);
    connected.value().lose_connection();
    memory.settle();
    assert_eq!(log.take(), ["lost ConnectionDone", "stop"]);
}

#[test]
fn t_016_t_018_t_055_addresses_are_those_of_the_socket() {
    let log = Log::new();
    let reactor = Reactor::new().unwrap();
    let port = reactor
        .listen_tcp(LOCAL, Counted { log: log.clone() }, &ListenTcpOptions::default())
        .unwrap();
    let connected = watch(reactor.connect_tcp(
        at(&port),
        Noting::factory(&Log::new(), Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    run_until(&reactor, || !connected.is_pending());
    let client = connected.value();
    assert_eq!(client.peer(), port.host());
    assert_eq!(client.host().host(), "127.0.0.1");
    run_until(&reactor, || log.take().contains(&"build for 127.0.0.1".to_owned()));
    client.abort_connection();
    assert_eq!(client.peer(), port.host(), "still there after the end");
}

#[test]
fn t_036_e_011_a_factory_that_refuses_fails_the_connect_and_closes_gracefully() {
    struct Refusing;
    impl Factory for Refusing {
        type Protocol = Noting;
        fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Noting> {
            None
        }
    }
    let log = Log::new();
    let (reactor, port) = served(&log, Noting::nothing);
    let connected = watch(reactor.connect_tcp(at(&port), Refusing, &ConnectTcpOptions::default()));
    run_until(&reactor, || !connected.is_pending());
    assert!(connected.failure().check::<NoProtocol>());
    let mut lines = Vec::new();
    run_until(&reactor, || {
        lines.extend(log.take());
        lines.len() == 2
    });
    assert_eq!(lines, ["made", "lost ConnectionDone"]);
}

#[test]
fn e_010_a_build_protocol_that_panics_fails_the_connect_with_it() {
    let (reactor, port) = served(&Log::new(), Noting::nothing);
    let bad = |_: &Address| -> Noting { panic!("no protocol today") };
    let connected = watch(reactor.connect_tcp(at(&port), bad, &ConnectTcpOptions::default()));
    run_until(&reactor, || !connected.is_pending());
    assert!(connected.failure().to_string().contains("no protocol today"));
}

#[test]
fn t_045_a_port_may_be_stopped_inside_its_factory_and_the_client_is_lost_cleanly() {
    let (log, reactor) = (Log::new(), Reactor::new().unwrap());
    let port: Rc<std::cell::RefCell<Option<Port>>> = Rc::default();
    let (inside, noted) = (port.clone(), log.clone());
    let factory = move |_: &Address| {
        inside.take().unwrap().stop_listening().detach();
        Noting { log: noted.clone(), on_data: |this, _| this.lose_connection() }
    };
    let listening = reactor.listen_tcp(LOCAL, factory, &ListenTcpOptions::default()).unwrap();
    *port.borrow_mut() = Some(listening.clone());
    let client = Log::new();
    let connected = watch(reactor.connect_tcp(
        at(&listening),
        Noting::factory(&client, Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    run_until(&reactor, || !connected.is_pending());
    connected.value().write("close");
    let mut lines = Vec::new();
    run_until(&reactor, || {
        lines.extend(client.take());
        lines.len() == 2
    });
    assert_eq!(lines, ["made", "lost ConnectionDone"]);
}

#[test]
fn t_047_f_038_t_048_a_refused_connection_is_named_and_reported_in_a_later_turn() {
    let reactor = Reactor::new().unwrap();
    let free = TcpListener::bind(LOCAL).unwrap().local_addr().unwrap();
    let connected = watch(reactor.connect_tcp(
        free,
        Noting::factory(&Log::new(), Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    assert!(connected.is_pending(), "never inside the call");
    run_until(&reactor, || !connected.is_pending());
    let failure = connected.failure();
    assert!(failure.check::<ConnectionRefusedError>() && failure.check::<ConnectError>());
    assert_eq!(failure.downcast_ref::<ConnectionRefusedError>().unwrap().os_error(), Some(111));
    assert_eq!(
        failure.to_string(),
        format!("Connection was refused by other side: 111: Connection refused: {free}.")
    );
}

#[test]
fn t_049_when_the_limit_passes_the_attempt_is_dropped() {
    // a listener with a full backlog does not answer another SYN
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    deaf.bind(&SocketAddr::from(LOCAL).into()).unwrap();
    deaf.listen(0).unwrap();
    let address = deaf.local_addr().unwrap().as_socket().unwrap();
    let fill: Vec<_> = (0..3)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let reactor = Reactor::new().unwrap();
    let options = ConnectTcpOptions::default().timeout(Duration::from_millis(100));
    assert_eq!(ConnectTcpOptions::default().timeout, Duration::from_secs(30));
    let connected = watch(reactor.connect_tcp(
        address,
        Noting::factory(&Log::new(), Noting::nothing),
        &options,
    ));
    run_until(&reactor, || !connected.is_pending());
    let failure = connected.failure();
    assert!(
        failure.check::<TimeoutError>() && failure.to_string().contains(&address.to_string()),
        "{failure}"
    );
    drop(fill);
}

#[test]
fn e_003_cancelling_an_attempt_names_the_address() {
    let (reactor, port) = served(&Log::new(), Noting::nothing);
    let attempt = reactor.connect_tcp(
        at(&port),
        Noting::factory(&Log::new(), Noting::nothing),
        &ConnectTcpOptions::default(),
    );
    attempt.cancel();
    let failure = watch(attempt).failure();
    assert_eq!(failure.downcast_ref::<ConnectingCancelledError>().unwrap().address(), &port.host());
    assert!(reactor.delayed_calls().is_empty(), "no timer is left");
}

#[test]
fn t_054_a_local_address_in_use_is_connect_bind_error() {
    let (reactor, port) = served(&Log::new(), Noting::nothing);
    let options = ConnectTcpOptions::default().bind_address(at(&port));
    let connected = watch(reactor.connect_tcp(
        at(&port),
        Noting::factory(&Log::new(), Noting::nothing),
        &options,
    ));
    run_until(&reactor, || !connected.is_pending());
    assert!(connected.failure().check::<ConnectBindError>());
}

#[test]
fn t_061_t_072_everything_written_arrives_in_order_and_then_the_end() {
    let (reactor, port) = served(&Log::new(), |this, _| {
        this.write("one ");
        this.write_sequence(["two ", "three"]);
        this.lose_connection();
        this.write(" four");
    });
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"go").unwrap();
    assert_eq!(read_to_end(&reactor, &mut peer).unwrap(), b"one two three four");
}

#[test]
fn t_063_a_large_write_and_a_byte_after_it_arrive_complete() {
    const MANY: usize = (60 << 20) - 1;
    let (reactor, port) = served(&Log::new(), |this, _| {
        this.write(vec![b'x'; MANY]);
        let transport = this.transport().clone();
        Reactor::current().unwrap().call_later(Duration::from_millis(1), move || {
            transport.write("y");
            transport.lose_connection();
        });
    });
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"go").unwrap();
    let all = read_to_end(&reactor, &mut peer).unwrap();
    assert_eq!((all.len(), all.last()), (MANY + 1, Some(&b'y')));
}

#[test]
fn t_064_t_066_writes_after_the_end_and_in_connection_lost_do_nothing() {
    struct Late(Log);
    impl Protocol for Late {
        type Framing = Raw;
        fn connection_lost(&mut self, this: &Handle<Self>, _reason: &Failure) {
            this.write("late");
            this.write_sequence(["later"]);
            this.lose_connection();
            self.0.add("lost");
        }
    }
    let (log, reactor) = (Log::new(), Reactor::new().unwrap());
    let noted = log.clone();
    let port = reactor
        .listen_tcp(LOCAL, move |_: &Address| Late(noted.clone()), &ListenTcpOptions::default())
        .unwrap();
    drop(TcpStream::connect(at(&port)).unwrap());
    run_until(&reactor, || log.take() == ["lost"]);
}

#[test]
fn t_067_after_the_loss_the_protocol_is_dropped_whoever_holds_a_handle() {
    struct Held {
        _counted: Rc<()>,
    }
    impl Protocol for Held {
        type Framing = Raw;
    }
    let (memory, held) = (MemoryReactor::new(), Rc::new(()));
    let reactor = memory.reactor();
    let inside = held.clone();
    let port = reactor
        .listen_tcp(
            LOCAL,
            move |_: &Address| Held { _counted: inside.clone() },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let own = held.clone();
    let connected = watch(reactor.connect_tcp(
        at(&port),
        move |_: &Address| Held { _counted: own.clone() },
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    let handle = connected.value();
    assert_eq!(Rc::strong_count(&held), 5, "each factory holds one, and each protocol");
    handle.lose_connection();
    memory.settle();
    assert!(handle.try_with(|_| ()).is_err());
    port.stop_listening().detach();
    drop(port);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn t_080_t_081_resume_after_the_end_was_asked_for_reads_nothing() {
    let log = Log::new();
    let (reactor, port) = served(&log, |this, _| {
        this.pause_producing();
        this.lose_connection();
        this.resume_producing();
    });
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"first").unwrap();
    run_until(&reactor, || log.take().contains(&"data first".to_owned()));
    peer.write_all(b"second").unwrap();
    assert_eq!(read_to_end(&reactor, &mut peer).unwrap(), b"");
    drop(peer);
    let mut lines = Vec::new();
    run_until(&reactor, || {
        lines.extend(log.take());
        !lines.is_empty()
    });
    assert_eq!(lines, ["lost ConnectionDone"]);
}

#[test]
fn t_083_a_paused_transport_reports_the_peers_end_of_file_after_the_resume() {
    let log = Log::new();
    let (reactor, port) = served(&log, |this, _| this.pause_producing());
    let connected = TcpStream::connect(at(&port)).unwrap();
    (&connected).write_all(b"x").unwrap();
    run_until(&reactor, || log.take().contains(&"data x".to_owned()));
    drop(connected);
    for _ in 0..5 {
        reactor.iterate(Duration::ZERO).unwrap();
    }
    assert!(log.take().is_empty());
}

#[test]
fn t_086_after_lose_connection_nothing_more_is_delivered() {
    let log = Log::new();
    let (reactor, port) = served(&log, |this, _| this.lose_connection());
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"one").unwrap();
    run_until(&reactor, || log.take().contains(&"data one".to_owned()));
    peer.write_all(b"two").unwrap();
    assert_eq!(read_to_end(&reactor, &mut peer).unwrap(), b"");
    drop(peer);
    run_until(&reactor, || log.take() == ["lost ConnectionDone"]);
}

#[test]
fn t_089_a_peer_that_half_closes_still_gets_every_byte() {
    const MANY: usize = 4 << 20;
    let (reactor, port) = served(&Log::new(), |this, _| this.write(vec![b'x'; MANY]));
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"all of it").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&reactor, &mut peer).unwrap().len(), MANY);
}

#[test]
fn a_close_with_unread_input_does_not_lose_the_last_bytes() {
    let (reactor, port) = served(&Log::new(), |this, _| {
        this.write(vec![b'x'; 60_000]);
        this.lose_connection();
    });
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"go").unwrap();
    for _ in 0..3 {
        reactor.iterate(Duration::from_millis(20)).unwrap();
        peer.write_all(&[b'?'; 1000]).unwrap();
    }
    assert_eq!(read_to_end(&reactor, &mut peer).unwrap().len(), 60_000);
}

#[test]
fn t_094_t_095_t_096_abort_drops_everything_resets_and_reports_once_in_a_later_turn() {
    let log = Log::new();
    let (reactor, port) = served(&log, |this, _| {
        this.write("before");
        this.abort_connection();
        this.abort_connection();
        this.lose_connection();
        this.write("after");
    });
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"x").unwrap();
    let read = read_to_end(&reactor, &mut peer);
    assert!(read.is_err() || read.is_ok_and(|all| !all.ends_with(b"after")));
    let mut lines = Vec::new();
    run_until(&reactor, || {
        lines.extend(log.take());
        lines.last().is_some_and(|line| line.starts_with("lost"))
    });
    assert_eq!(lines, ["made", "data x", "lost ConnectionAborted"]);
    assert!(reactor.delayed_calls().is_empty());
}

#[test]
fn t_098_abort_works_while_the_peer_reads_nothing() {
    let log = Log::new();
    let (reactor, port) = served(&log, |this, _| {
        this.write(vec![b'x'; 32 << 20]);
        this.abort_connection();
    });
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"x").unwrap();
    let mut lines = Vec::new();
    run_until(&reactor, || {
        lines.extend(log.take());
        lines.len() == 3
    });
    assert_eq!(lines[2], "lost ConnectionAborted");
}

#[test]
fn t_099_a_panic_after_an_abort_is_the_reason_and_reported_once() {
    let (log, reports) = (Log::new(), Reports::new());
    let (reactor, port) = served(&log, |this, _| {
        this.abort_connection();
        panic!("in data_received");
    });
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"x").unwrap();
    let mut lines = Vec::new();
    run_until(&reactor, || {
        lines.extend(log.take());
        lines.last().is_some_and(|line| line.starts_with("lost"))
    });
    assert_eq!(lines, ["made", "data x", "lost Panicked"]);
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn a_panicking_handler_closes_its_own_connection_only() {
    let (log, reports) = (Log::new(), Reports::new());
    let (reactor, port) = served(&log, |this, data| {
        assert_ne!(data, b"bad", "bad input");
        this.write(data);
    });
    let mut bad = TcpStream::connect(at(&port)).unwrap();
    let mut good = TcpStream::connect(at(&port)).unwrap();
    bad.write_all(b"bad").unwrap();
    assert_eq!(read_to_end(&reactor, &mut bad).unwrap(), b"");
    good.write_all(b"good").unwrap();
    good.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&reactor, &mut good).unwrap(), b"good");
    let reports = reports.take();
    let address = bad.local_addr().unwrap().to_string();
    assert!(
        reports.len() == 1 && reports[0].contains(&address),
        "the report names the peer: {reports:?}"
    );
}

#[test]
fn a_peer_that_resets_in_the_middle_is_connection_lost_and_the_server_continues() {
    let log = Log::new();
    let (reactor, port) = served(&log, Noting::echo);
    let mut rude = TcpStream::connect(at(&port)).unwrap();
    rude.write_all(b"half a mess").unwrap();
    run_until(&reactor, || log.take().contains(&"data half a mess".to_owned()));
    socket2::SockRef::from(&rude).set_linger(Some(Duration::ZERO)).unwrap();
    drop(rude);
    run_until(&reactor, || log.take() == ["lost ConnectionLost"]);
    let mut next = TcpStream::connect(at(&port)).unwrap();
    next.write_all(b"still there?").unwrap();
    next.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&reactor, &mut next).unwrap(), b"still there?");
}

#[test]
fn lose_connection_in_connection_made_sends_what_was_written_and_reads_nothing() {
    struct Brief(Log);
    impl Protocol for Brief {
        type Framing = Raw;
        fn connection_made(&mut self, this: &Handle<Self>) {
            this.write("hello");
            this.lose_connection();
            self.0.add("made");
        }
        fn message_received(&mut self, _this: &Handle<Self>, _data: &[u8]) {
            self.0.add("data");
        }
        fn connection_lost(&mut self, _this: &Handle<Self>, reason: &Failure) {
            self.0.add(short(reason));
        }
    }
    let (memory, log, client) = (MemoryReactor::new(), Log::new(), Log::new());
    let reactor = memory.reactor();
    let noted = log.clone();
    let port = reactor
        .listen_tcp(LOCAL, move |_: &Address| Brief(noted.clone()), &ListenTcpOptions::default())
        .unwrap();
    let connected = watch(reactor.connect_tcp(
        at(&port),
        Noting::factory(&client, Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    connected.value().write("too late");
    memory.settle();
    assert_eq!(log.take(), ["made", "ConnectionDone"]);
    assert_eq!(client.take(), ["made", "data hello", "lost ConnectionDone"]);
}

#[test]
fn a_closed_reactor_drops_everything_without_a_handler_call() {
    let (memory, log) = (MemoryReactor::new(), Log::new());
    let reactor = memory.reactor();
    let port = reactor
        .listen_tcp(LOCAL, Noting::factory(&log, Noting::nothing), &ListenTcpOptions::default())
        .unwrap();
    let connected = watch(reactor.connect_tcp(
        at(&port),
        Noting::factory(&log, Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    let handle = connected.value();
    log.take();
    reactor.close();
    assert!(log.take().is_empty());
    assert!(!handle.is_connected());
    assert!(watch(handle.with(|_| ())).failure().to_string().contains("the reactor was closed"));
    assert!(
        reactor
            .listen_tcp(LOCAL, Noting::factory(&log, Noting::nothing), &ListenTcpOptions::default())
            .is_err()
    );
}

#[test]
fn keep_alive_and_no_delay_can_be_set() {
    let (reactor, port) = served(&Log::new(), Noting::nothing);
    let connected = watch(reactor.connect_tcp(
        at(&port),
        Noting::factory(&Log::new(), Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    run_until(&reactor, || !connected.is_pending());
    let client = connected.value();
    client.set_tcp_keep_alive(true).unwrap();
    client.set_tcp_no_delay(false).unwrap();
    client.abort_connection();
    run_until(&reactor, || client.try_with(|_| ()).is_err());
    assert!(client.set_tcp_keep_alive(true).is_err());
}

#[test]
fn a_close_with_bytes_queued_ends_when_the_peer_resets() {
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
fn options_of_a_closed_connection_fail_with_the_reason_of_its_end() {
    let memory = MemoryReactor::new();
    let log = Log::new();
    let client = connect_to(&memory, Noting::factory(&log, Noting::nothing));
    client.lose_connection();
    memory.advance(Duration::from_secs(10));
    assert!(client.set_tcp_no_delay(true).unwrap_err().check::<ConnectionDone>());
}

#[test]
fn input_that_comes_with_the_connect_event_is_read() {
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
fn a_bulk_sender_is_limited_to_its_budget_of_a_turn_and_continues_in_the_next() {
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

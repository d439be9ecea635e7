//! UDP: ports, connected ones, broadcast, multicast, errors.
use crate::support::{Log, Logged, Reports, run_until, watch};
use std::{
    cell::Cell,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    rc::Rc,
};
use twistor::{
    address::Address,
    error::{
        CannotListenError, InvalidAddressError, MessageLengthError, MulticastJoinError,
        NotListeningError, ReactorClosed, RuntimeError, ValueError,
    },
    protocol::NotNow,
    reactor::Reactor,
    transport::{
        DatagramPort, DatagramProtocol, DatagramTransport, MulticastInterface, UdpOptions,
    },
};

const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

type OnDatagram = fn(&[u8], &Address, &DatagramTransport);

/// Records its events, and runs the test's function when a datagram arrives.
struct Notes {
    log: Log,
    on_datagram: OnDatagram,
}

impl Notes {
    fn new(log: &Log) -> Self {
        Self { log: log.clone(), on_datagram: |_, _, _| () }
    }

    fn doing(log: &Log, on_datagram: OnDatagram) -> Self {
        Self { log: log.clone(), on_datagram }
    }
}

impl DatagramProtocol for Notes {
    fn start_protocol(&mut self, transport: &DatagramTransport) {
        assert!(transport.is_listening());
        self.log.add("start");
    }

    fn datagram_received(
        &mut self,
        datagram: &[u8],
        from: &Address,
        transport: &DatagramTransport,
    ) {
        let text = if datagram.len() > 100 {
            format!("{} bytes", datagram.len())
        } else {
            String::from_utf8_lossy(datagram).into_owned()
        };
        self.log.add(format!("{text} from {}", from.port()));
        (self.on_datagram)(datagram, from, transport);
    }

    fn connection_refused(&mut self, _transport: &DatagramTransport) {
        self.log.add("refused");
    }

    fn stop_protocol(&mut self) {
        self.log.add("stop");
    }
}

fn open(reactor: &Reactor, protocol: Notes) -> DatagramPort<Notes> {
    reactor.listen_udp(LOCAL, protocol, &UdpOptions::default()).unwrap()
}

/// Runs until `log` has `count` lines.
fn lines(reactor: &Reactor, log: &Log, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    run_until(reactor, || {
        seen.extend(log.take());
        seen.len() >= count
    });
    seen
}

/// A port number where no program listens.
fn nobody() -> Address {
    UdpSocket::bind(LOCAL).unwrap().local_addr().unwrap().into()
}

#[test]
fn t_246_t_257_t_263_a_port_starts_its_protocol_logs_and_stops_it_in_a_later_turn() {
    let (reactor, log, logged) = (Reactor::new().unwrap(), Log::new(), Logged::new());
    let port = open(&reactor, Notes::new(&log));
    let host = port.host();
    assert_eq!(log.take(), ["start"]);
    assert_eq!(logged.take(), [format!("INFO Notes starting on {host}")]);
    assert_eq!(format!("{port:?}"), format!("<Notes on {host}>"));
    assert_eq!(format!("{:?}", port.transport()), format!("<DatagramTransport on {host}>"));
    let stopped = watch(port.stop_listening());
    assert_eq!(logged.take(), [format!("INFO (UDP Port {} Closed)", host.port())]);
    assert!(stopped.is_pending() && log.take().is_empty(), "not inside the call");
    assert!(watch(port.stop_listening()).into_failure().check::<NotListeningError>());
    run_until(&reactor, || !stopped.is_pending());
    assert_eq!(log.take(), ["stop"]);
    // the protocol is returned by value, and can be used again
    let protocol = stopped.into_value();
    let again =
        reactor.listen_udp(host.socket_addr().unwrap(), protocol, &UdpOptions::default()).unwrap();
    assert_eq!((log.take(), again.host()), (vec!["start".to_owned()], host));
    assert!(matches!(port.try_with(|_| ()), Err(NotNow::Lost(_))));
    assert!(watch(port.stop_listening()).into_failure().check::<NotListeningError>());
    reactor.close();
    assert!(
        reactor
            .listen_udp(LOCAL, Notes::new(&log), &UdpOptions::default())
            .unwrap_err()
            .check::<ReactorClosed>()
    );
}

#[test]
fn t_248_an_address_in_use_is_cannot_listen_error() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = open(&reactor, Notes::new(&log));
    let taken = reactor
        .listen_udp(port.host().socket_addr().unwrap(), Notes::new(&log), &UdpOptions::default())
        .unwrap_err();
    assert!(
        taken.check::<CannotListenError>() && taken.to_string().contains(&port.host().to_string()),
        "{taken}"
    );
    reactor.close();
}

#[test]
fn t_249_t_259_datagrams_keep_their_boundaries_and_come_with_their_sender() {
    let (reactor, at_server, at_client) = (Reactor::new().unwrap(), Log::new(), Log::new());
    let server = open(
        &reactor,
        Notes::doing(&at_server, |datagram, from, transport| {
            transport.write(datagram, from).unwrap();
        }),
    );
    assert!(matches!(server.host(), Address::IPv4(at) if at.port() != 0));
    let client = open(&reactor, Notes::new(&at_client));
    client.transport().write("one", &server.host()).unwrap();
    client.transport().write("", &server.host()).unwrap();
    client.transport().write(vec![b'x'; 65_507], &server.host()).unwrap();
    let (to, from) = (server.host().port(), client.host().port());
    let seen = lines(&reactor, &at_client, 4);
    assert_eq!(
        seen[1..],
        [format!("one from {to}"), format!(" from {to}"), format!("65507 bytes from {to}")]
    );
    assert_eq!(
        at_server.take()[1..],
        [format!("one from {from}"), format!(" from {from}"), format!("65507 bytes from {from}")]
    );
    let failure = client.transport().write(vec![b'x'; 65_508], &server.host()).unwrap_err();
    assert!(
        failure.check::<MessageLengthError>() && failure.to_string().contains("65508"),
        "{failure}"
    );
    let failure = client.transport().write("to whom", None).unwrap_err();
    assert!(failure.check::<RuntimeError>(), "{failure}");

    // connected: no address, or the peer's
    client.transport().connect(&server.host()).unwrap();
    assert_eq!(client.transport().peer(), Some(server.host()));
    client.transport().write("two", None).unwrap();
    client.transport().write("three", &server.host()).unwrap();
    assert!(
        client.transport().write("four", &nobody()).unwrap_err().check::<InvalidAddressError>()
    );
    assert_eq!(
        lines(&reactor, &at_client, 2),
        [format!("two from {to}"), format!("three from {to}")]
    );
    // and it receives from no other
    let stranger = UdpSocket::bind(LOCAL).unwrap();
    stranger.send_to(b"psst", client.host().socket_addr().unwrap()).unwrap();
    client.transport().write("five", None).unwrap();
    assert_eq!(lines(&reactor, &at_client, 1), [format!("five from {to}")]);
    reactor.close();
}

#[test]
fn t_250_t_270_a_connected_port_is_notified_that_no_program_listens_and_continues() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = open(&reactor, Notes::new(&log));
    port.transport().connect(&nobody()).unwrap();
    assert_eq!(log.take(), ["start"]);
    for _ in 0..2 {
        port.transport().write("hello?", None).unwrap();
        assert_eq!(lines(&reactor, &log, 1), ["refused"]);
    }
    assert!(port.transport().is_listening());
    reactor.close();
}

#[test]
fn t_251_a_refused_send_does_not_stop_later_reads_of_an_unconnected_port() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = open(&reactor, Notes::new(&log));
    port.transport().write("hello?", &nobody()).unwrap();
    let peer = UdpSocket::bind(LOCAL).unwrap();
    peer.send_to(b"here", port.host().socket_addr().unwrap()).unwrap();
    let seen = lines(&reactor, &log, 2);
    assert_eq!(
        seen,
        ["start".to_owned(), format!("here from {}", peer.local_addr().unwrap().port())]
    );
    reactor.close();
}

#[test]
fn t_252_t_265_t_266_wrong_addresses_are_invalid_address_error() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let four = open(&reactor, Notes::new(&log));
    let six = reactor
        .listen_udp((Ipv6Addr::LOCALHOST, 0), Notes::new(&log), &UdpOptions::default())
        .unwrap();
    let name = Address::Hostname("localhost".into(), 80);
    for (port, other) in [(&four, six.host()), (&six, four.host())] {
        for wrong in [&name, &other, &Address::Unix(None)] {
            for failure in [
                port.transport().write("x", wrong).unwrap_err(),
                port.transport().connect(wrong).unwrap_err(),
            ] {
                assert!(
                    failure.check::<InvalidAddressError>() && failure.check::<ValueError>(),
                    "{failure}"
                );
                assert!(failure.to_string().contains(&wrong.to_string()), "{failure}");
            }
        }
    }
    four.transport().connect(&four.host()).unwrap();
    let again = four.transport().connect(&nobody()).unwrap_err();
    assert!(again.check::<RuntimeError>(), "{again}");
    reactor.close();
}

#[test]
fn t_253_a_panic_in_a_handler_is_reported_and_the_port_stays_open() {
    let reports = Reports::new();
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = open(
        &reactor,
        Notes::doing(&log, |datagram, _, _| assert!(datagram != b"bad", "a bad one")),
    );
    let to = port.host();
    for datagram in ["bad", "good"] {
        port.transport().write(datagram, &to).unwrap();
    }
    let seen = lines(&reactor, &log, 3);
    assert_eq!(seen[1..], [format!("bad from {}", to.port()), format!("good from {}", to.port())]);
    let seen = reports.take();
    assert!(
        seen.len() == 1 && seen[0].contains("a bad one") && seen[0].contains("datagram_received"),
        "{seen:?}"
    );
    reactor.close();
}

#[test]
fn t_254_t_267_broadcast_is_refused_until_it_is_allowed() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = open(&reactor, Notes::new(&log));
    let everybody = Address::from(SocketAddr::from((Ipv4Addr::BROADCAST, 9)));
    assert!(!port.transport().broadcast_allowed().unwrap());
    assert!(port.transport().write("x", &everybody).is_err());
    port.transport().set_broadcast_allowed(true).unwrap();
    assert!(port.transport().broadcast_allowed().unwrap());
    port.transport().set_broadcast_allowed(false).unwrap();
    assert!(!port.transport().broadcast_allowed().unwrap());
    reactor.close();
}

#[test]
fn t_256_stopping_inside_a_handler_ends_the_reading_there() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = open(&reactor, Notes::doing(&log, |_, _, transport| transport.stop_listening()));
    for datagram in ["one", "two"] {
        port.transport().write(datagram, &port.host()).unwrap();
    }
    let seen = lines(&reactor, &log, 3);
    assert_eq!(
        seen,
        ["start".to_owned(), format!("one from {}", port.host().port()), "stop".to_owned()]
    );
    let failure = port.transport().write("x", &port.host()).unwrap_err();
    assert!(failure.check::<NotListeningError>());
    assert!(port.transport().ttl().unwrap_err().check::<NotListeningError>());
    // the protocol is still returned
    assert!(port.try_with(|notes| notes.log.clone()).is_ok());
    watch(port.stop_listening()).into_value();
    assert!(port.try_with(|_| ()).is_err());
    reactor.close();
}

#[test]
fn t_262_the_pieces_of_a_sequence_are_one_datagram() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = open(&reactor, Notes::new(&log));
    port.transport().write_sequence(["he", "l", "lo"], &port.host()).unwrap();
    assert_eq!(lines(&reactor, &log, 2)[1], format!("hello from {}", port.host().port()));
    reactor.close();
}

#[test]
fn t_264_ipv6_ports_send_and_receive_unconnected_and_connected() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let six = |log: &Log| {
        reactor
            .listen_udp((Ipv6Addr::LOCALHOST, 0), Notes::new(log), &UdpOptions::default())
            .unwrap()
    };
    let (server, client) = (six(&log), six(&Log::new()));
    assert!(matches!(server.host(), Address::IPv6(at) if at.ip() == &Ipv6Addr::LOCALHOST));
    client.transport().write("one", &server.host()).unwrap();
    client.transport().connect(&server.host()).unwrap();
    client.transport().write("two", None).unwrap();
    let from = client.host().port();
    assert_eq!(
        lines(&reactor, &log, 3)[1..],
        [format!("one from {from}"), format!("two from {from}")]
    );
    reactor.close();
}

#[test]
fn t_269_many_datagrams_are_read_in_order_and_others_have_their_turn_between() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = open(&reactor, Notes::new(&log));
    // more than one event reads
    for number in 0..150 {
        port.transport().write(number.to_string(), &port.host()).unwrap();
    }
    let turns = Rc::new(Cell::new(0));
    let (count, again) = (turns.clone(), reactor.clone());
    fn tick(reactor: &Reactor, turns: Rc<Cell<u32>>) {
        let again = reactor.clone();
        turns.set(turns.get() + 1);
        if turns.get() < 100 {
            reactor.call_later(std::time::Duration::ZERO, move || tick(&again, turns));
        }
    }
    tick(&again, count);
    let seen = lines(&reactor, &log, 151);
    let numbers: Vec<_> = seen[1..]
        .iter()
        .map(|line| line.split(' ').next().unwrap().parse::<u32>().unwrap())
        .collect();
    assert_eq!(numbers, (0..150).collect::<Vec<_>>());
    assert!(turns.get() >= 3, "{}", turns.get());
    reactor.close();
}

#[test]
fn t_272_t_273_t_274_multicast_options_have_their_defaults_and_can_be_changed() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = open(&reactor, Notes::new(&log));
    let transport = port.transport();
    assert_eq!((transport.ttl().unwrap(), transport.loopback_mode().unwrap()), (1, true));
    assert_eq!(transport.outgoing_interface().unwrap(), Ipv4Addr::UNSPECIFIED);
    transport.set_ttl(3).unwrap();
    transport.set_loopback_mode(false).unwrap();
    transport.set_outgoing_interface(Ipv4Addr::LOCALHOST).unwrap();
    assert_eq!((transport.ttl().unwrap(), transport.loopback_mode().unwrap()), (3, false));
    assert_eq!(transport.outgoing_interface().unwrap(), Ipv4Addr::LOCALHOST);
    reactor.close();
}

#[test]
fn t_275_t_276_t_277_what_is_sent_to_a_group_reaches_every_port_that_has_joined_it() {
    let group = Ipv4Addr::new(225, 0, 0, 250);
    let (reactor, one, other) = (Reactor::new().unwrap(), Log::new(), Log::new());
    let several = UdpOptions::default().listen_multiple(true);
    let first = reactor.listen_udp((Ipv4Addr::UNSPECIFIED, 0), Notes::new(&one), &several).unwrap();
    let number = first.host().port();
    let second =
        reactor.listen_udp((Ipv4Addr::UNSPECIFIED, number), Notes::new(&other), &several).unwrap();
    for port in [&first, &second] {
        port.transport().join_group(group, Ipv4Addr::LOCALHOST).unwrap();
    }
    first.transport().set_outgoing_interface(Ipv4Addr::LOCALHOST).unwrap();
    let to = Address::from(SocketAddr::from((group, number)));
    first.transport().write("hello", &to).unwrap();
    for log in [&one, &other] {
        assert_eq!(lines(&reactor, log, 2)[1], format!("hello from {number}"));
    }
    second.transport().leave_group(group, Ipv4Addr::LOCALHOST).unwrap();
    let twice = second.transport().leave_group(group, Ipv4Addr::LOCALHOST).unwrap_err();
    assert!(twice.check::<MulticastJoinError>());
    let wrong =
        second.transport().join_group(Ipv4Addr::LOCALHOST, MulticastInterface::Any).unwrap_err();
    assert!(
        wrong.check::<MulticastJoinError>() && wrong.to_string().contains("127.0.0.1"),
        "{wrong}"
    );
    reactor.close();
}

#[test]
fn an_ipv6_group_is_joined_by_the_number_of_an_interface() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = reactor
        .listen_udp((Ipv6Addr::UNSPECIFIED, 0), Notes::new(&log), &UdpOptions::default())
        .unwrap();
    let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0x1234);
    // the loopback interface is the first
    port.transport().join_group(group, MulticastInterface::Index(1)).unwrap();
    // not every machine can send such a datagram, but each knows which groups were joined
    assert!(
        port.transport()
            .join_group(group, MulticastInterface::Index(1))
            .unwrap_err()
            .check::<MulticastJoinError>()
    );
    port.transport().leave_group(group, MulticastInterface::Index(1)).unwrap();
    let wrong = port.transport().join_group(group, Ipv4Addr::LOCALHOST).unwrap_err();
    assert!(
        wrong.check::<MulticastJoinError>() && wrong.to_string().contains("IPv6 by its number"),
        "{wrong}"
    );
    reactor.close();
}

// Kind: a value that the system would change silently is an error.
#[test]
fn a_number_of_hops_out_of_range_is_refused() {
    let reactor = Reactor::new().unwrap();
    let port = open(&reactor, Notes::new(&Log::new()));
    for hops in [256, u32::MAX] {
        let failure = port.transport().set_ttl(hops).unwrap_err();
        assert!(failure.check::<ValueError>(), "{failure}");
    }
    assert_eq!(port.transport().ttl().unwrap(), 1);
    port.transport().set_ttl(255).unwrap();
    assert_eq!(port.transport().ttl().unwrap(), 255);
}

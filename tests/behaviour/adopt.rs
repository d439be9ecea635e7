//! Adopting open descriptors.
use crate::support::{Log, Noting, Scratch, run_until, watch};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
    rc::Rc,
    time::Duration,
};
use twistor::{
    address::Address,
    error::{NoProtocol, ReactorClosed, RuntimeError, UnsupportedAddressFamily, ValueError},
    protocol::Factory,
    reactor::Reactor,
    transport::{DatagramProtocol, DatagramTransport},
};

const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

#[test]
fn t_104_an_adopted_port_serves_and_stopping_it_leaves_other_copies_listening() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let original = TcpListener::bind(LOCAL).unwrap();
    let at = original.local_addr().unwrap();
    let copy = OwnedFd::from(original.try_clone().unwrap());
    let port = reactor.adopt_stream_port(copy, Noting::factory(&log, Noting::echo)).unwrap();
    assert_eq!(port.host(), Address::from(at));
    let mut client = TcpStream::connect(at).unwrap();
    client.write_all(b"hello").unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.len() == 2
    });
    assert_eq!(seen, ["made", "data hello"]);
    watch(port.stop_listening()).value();
    assert!(
        port.start_listening().unwrap_err().check::<RuntimeError>(),
        "adopted ports cannot be reopened"
    );
    let _late = TcpStream::connect(at).unwrap();
    original.set_nonblocking(false).unwrap();
    original.accept().unwrap();
    reactor.close();
}

#[test]
fn an_adopted_connection_is_made_at_once_and_receives_what_has_arrived_before() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (mut peer, ours) = UnixStream::pair().unwrap();
    peer.write_all(b"early").unwrap();
    let handle = reactor
        .adopt_stream_connection(OwnedFd::from(ours), Noting::factory(&log, Noting::echo))
        .unwrap();
    assert_eq!(log.take(), ["made"]);
    assert_eq!((handle.peer(), handle.host()), (Address::Unix(None), Address::Unix(None)));
    run_until(&reactor, || log.take() == ["data early"]);
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 5];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"early");
    drop(peer);
    run_until(&reactor, || log.take() == ["lost ConnectionDone"]);
    reactor.close();
}

#[test]
fn t_107_an_adopted_unix_server_connection_knows_its_path() {
    let (reactor, log, scratch) = (Reactor::new().unwrap(), Log::new(), Scratch::new());
    let path = scratch.path("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let _peer = UnixStream::connect(&path).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let handle = reactor
        .adopt_stream_connection(OwnedFd::from(ours), Noting::factory(&log, Noting::echo))
        .unwrap();
    assert_eq!(
        (handle.host(), handle.peer()),
        (Address::Unix(Some(path.clone())), Address::Unix(None))
    );
    assert!(format!("{:?}", handle.transport()).contains(&path.display().to_string()));
    reactor.close();
}

#[test]
fn t_106_a_factory_that_refuses_an_adopted_connection_closes_it() {
    struct Refuses(Log);
    impl Factory for Refuses {
        type Protocol = Noting;
        fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Noting> {
            None
        }
        fn stop_factory(&self) {
            self.0.add("stop");
        }
    }
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (mut peer, ours) = UnixStream::pair().unwrap();
    let failure =
        reactor.adopt_stream_connection(OwnedFd::from(ours), Refuses(log.clone())).unwrap_err();
    assert!(failure.check::<NoProtocol>());
    assert_eq!(log.take(), ["stop"]);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    reactor.close();
}

struct Notes(Log);

impl DatagramProtocol for Notes {
    fn datagram_received(
        &mut self,
        datagram: &[u8],
        _from: &Address,
        _transport: &DatagramTransport,
    ) {
        self.0.add(String::from_utf8_lossy(datagram));
    }
}

#[test]
fn an_adopted_datagram_port_receives_what_is_sent_to_its_socket() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let original = UdpSocket::bind(LOCAL).unwrap();
    let at = original.local_addr().unwrap();
    let port = reactor
        .adopt_datagram_port(OwnedFd::from(original.try_clone().unwrap()), Notes(log.clone()))
        .unwrap();
    assert_eq!(port.host(), Address::from(at));
    UdpSocket::bind(LOCAL).unwrap().send_to(b"hello", at).unwrap();
    run_until(&reactor, || log.take() == ["hello"]);
    let stopped = watch(port.stop_listening());
    run_until(&reactor, || !stopped.is_pending());
    // our copy is closed, and the original still receives
    original.set_nonblocking(false).unwrap();
    original.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    UdpSocket::bind(LOCAL).unwrap().send_to(b"again", at).unwrap();
    assert_eq!(original.recv(&mut [0; 10]).unwrap(), 5);
    reactor.close();
}

#[test]
fn t_102_t_103_an_unsuitable_descriptor_is_an_error_that_names_its_kind() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let factory = || Noting::factory(&log, Noting::echo);
    let stream = || OwnedFd::from(UnixStream::pair().unwrap().0);
    let port = || OwnedFd::from(TcpListener::bind(LOCAL).unwrap());
    let datagrams = || OwnedFd::from(UdpSocket::bind(LOCAL).unwrap());
    let wrong = [
        (
            reactor.adopt_stream_port(datagrams(), factory()).unwrap_err(),
            "a datagram socket at 127.0.0.1",
        ),
        (
            reactor.adopt_stream_connection(port(), factory()).unwrap_err(),
            "a stream socket at 127.0.0.1",
        ),
        (
            reactor.adopt_datagram_port(stream(), Notes(log.clone())).unwrap_err(),
            "a connection with (unnamed)",
        ),
    ];
    for (failure, text) in wrong {
        assert!(failure.check::<ValueError>() && failure.to_string().contains(text), "{failure}");
    }
    let netlink = || {
        rustix::net::socket(
            rustix::net::AddressFamily::NETLINK,
            rustix::net::SocketType::DGRAM,
            None,
        )
        .unwrap()
    };
    for failure in [
        reactor.adopt_stream_port(netlink(), factory()).unwrap_err(),
        reactor.adopt_stream_connection(netlink(), factory()).unwrap_err(),
        reactor.adopt_datagram_port(netlink(), Notes(log.clone())).unwrap_err(),
    ] {
        assert!(failure.check::<UnsupportedAddressFamily>(), "{failure}");
    }
    // not a socket
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    assert!(reactor.adopt_stream_port(file(), factory()).unwrap_err().check::<std::io::Error>());
    reactor.close();
    assert!(reactor.adopt_stream_port(port(), factory()).unwrap_err().check::<ReactorClosed>());
}

#[test]
fn a_socket_that_does_not_listen_is_not_adopted_as_a_port() {
    let reactor = Reactor::new().unwrap();
    let c = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    c.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let r =
        reactor.adopt_stream_port(OwnedFd::from(c), Noting::factory(&Log::new(), Noting::nothing));
    assert!(r.is_err(), "{r:?}");
    reactor.close();
}

#[test]
fn events_of_a_copy_do_not_reach_the_next_owner_of_the_slot() {
    // ours is closed and a copy lives on, whose events must not reach the slot's next owner
    let reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let copy = ours.try_clone().unwrap();
    let adopted = reactor
        .adopt_stream_connection(OwnedFd::from(ours), Noting::factory(&Log::new(), Noting::nothing))
        .unwrap();
    reactor.iterate(Duration::ZERO).unwrap();
    adopted.abort_connection();
    for _ in 0..3 {
        reactor.iterate(Duration::ZERO).unwrap();
    }
    let log = Log::new();
    let into = log.clone();
    let (_writer, reader) = twistor::reactor::mio::unix::pipe::new().unwrap();
    let added = reactor
        .add_source(reader, twistor::reactor::mio::Interest::READABLE, move |_, ready| {
            into.add(format!("{ready:?}"));
        })
        .unwrap();
    theirs.write_all(b"to the copy").unwrap();
    for _ in 0..3 {
        reactor.iterate(Duration::from_millis(10)).unwrap();
    }
    let seen = log.take();
    drop((added, copy));
    reactor.close();
    assert_eq!(seen, [""; 0]);
}

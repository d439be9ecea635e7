//! Ports: their texts, stopping and starting again; options of connections.
use crate::support::{Log, Logged, Noting, Reports, run_until, short, watch};
use std::{
    cell::{Cell, RefCell},
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream},
    rc::Rc,
};
use twistor::{
    address::Address,
    error::{CannotListenError, ConnectionRefusedError, Panicked, ReactorClosed, RuntimeError},
    protocol::{Factory, Handle, Protocol, Raw},
    reactor::Reactor,
    transport::{ConnectTcpOptions, ListenTcpOptions, Port},
};

const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn at(port: &Port) -> SocketAddr {
    port.host().socket_addr().unwrap()
}

/// Returns whether a client of `port` is served: it sends and receives an echo.
fn serves(reactor: &Reactor, port: &Port) -> bool {
    let log = Log::new();
    let client = watch(reactor.connect_tcp(
        at(port),
        Noting::factory(&log, Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    run_until(reactor, || !client.is_pending());
    let client = client.value();
    client.write("hello");
    let mut echoed = false;
    run_until(reactor, || {
        echoed |= log.take().contains(&"data hello".to_owned());
        echoed
    });
    client.abort_connection();
    true
}

/// A factory that panics when it is stopped, as often as the test says.
struct Room {
    panics: Cell<u32>,
    log: Log,
}

impl Factory for Room {
    type Protocol = Noting;

    fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Noting> {
        Some(Noting { log: Log::new(), on_data: Noting::echo })
    }

    fn start_factory(&self) {
        self.log.add("start");
    }

    fn stop_factory(&self) {
        self.log.add("stop");
        if self.panics.get() > 0 {
            self.panics.set(self.panics.get() - 1);
            panic!("cannot stop");
        }
    }
}

fn room(log: &Log, panics: u32) -> Rc<Room> {
    Rc::new(Room { panics: Cell::new(panics), log: log.clone() })
}

#[test]
fn t_005_a_stopped_port_can_be_started_again_at_the_same_address() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = reactor.listen_tcp(LOCAL, room(&log, 0), &ListenTcpOptions::default()).unwrap();
    let first = port.host();
    assert!(port.start_listening().unwrap_err().check::<RuntimeError>(), "it listens");
    watch(port.stop_listening()).value();
    port.start_listening().unwrap();
    assert_eq!(port.host(), first);
    assert!(serves(&reactor, &port));
    watch(port.stop_listening()).value();
    assert_eq!(log.take(), ["start", "stop", "start", "stop"]);
    let taken = reactor.listen_tcp(at(&port), room(&log, 0), &ListenTcpOptions::default()).unwrap();
    assert!(port.start_listening().unwrap_err().check::<CannotListenError>());
    taken.stop_listening().detach();
    reactor.close();
    assert!(port.start_listening().unwrap_err().check::<ReactorClosed>());
}

#[test]
fn t_007_after_a_stop_factory_that_panicked_the_port_can_be_started_again() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = reactor.listen_tcp(LOCAL, room(&log, 1), &ListenTcpOptions::default()).unwrap();
    assert!(watch(port.stop_listening()).failure().check::<Panicked>());
    port.start_listening().unwrap();
    assert!(serves(&reactor, &port));
    watch(port.stop_listening()).value();
    reactor.close();
}

#[test]
fn t_008_t_009_a_closed_reactor_closes_its_ports_and_reports_a_stop_factory_that_panics() {
    let reports = Reports::new();
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = reactor.listen_tcp(LOCAL, room(&log, 1), &ListenTcpOptions::default()).unwrap();
    let address = at(&port);
    reactor.close();
    assert_eq!(log.take(), ["start", "stop"]);
    assert!(reports.take()[0].contains("cannot stop"));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let other = Reactor::new().unwrap();
    let late = watch(other.connect_tcp(
        address,
        Noting::factory(&log, Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    run_until(&other, || !late.is_pending());
    assert!(late.failure().check::<ConnectionRefusedError>());
}

#[test]
fn p_007_p_008_starting_and_stopping_a_factory_is_logged_before_its_method_is_called() {
    let (reactor, log, logged) = (Reactor::new().unwrap(), Log::new(), Logged::new());
    let factory = || {
        let lines: Vec<_> =
            logged.take().into_iter().filter(|line| line.contains(" factory ")).collect();
        assert!(lines[0].ends_with("Room"), "{lines:?}");
        lines[0].split(' ').nth(1).unwrap().to_owned()
    };
    let port = reactor.listen_tcp(LOCAL, room(&log, 0), &ListenTcpOptions::default()).unwrap();
    assert_eq!((factory().as_str(), log.take()), ("Starting", vec!["start".to_owned()]));
    watch(port.stop_listening()).value();
    assert_eq!((factory().as_str(), log.take()), ("Stopping", vec!["stop".to_owned()]));
    reactor.close();
}

#[test]
fn t_020_t_021_starting_and_stopping_a_port_is_logged() {
    let (reactor, log, logged) = (Reactor::new().unwrap(), Log::new(), Logged::new());
    let port = reactor.listen_tcp(LOCAL, room(&log, 0), &ListenTcpOptions::default()).unwrap();
    let host = port.host();
    assert_eq!(logged.take()[0], format!("INFO Room starting on {host}"));
    watch(port.stop_listening()).value();
    assert_eq!(logged.take()[0], format!("INFO (TCP Port {} Closed)", host.port()));
    // a closure has no name, so its protocol's is shown
    let port = reactor
        .listen_tcp(LOCAL, Noting::factory(&log, Noting::nothing), &ListenTcpOptions::default())
        .unwrap();
    assert_eq!(logged.take()[0], format!("INFO Noting starting on {}", port.host()));
    reactor.close();
}

#[test]
fn t_015_t_121_an_address_with_a_scope_keeps_it_in_its_text() {
    let at = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 80, 0, 2);
    let address = Address::from(SocketAddr::V6(at));
    assert_eq!(
        (address.host().as_str(), address.to_string().as_str()),
        ("fe80::1%2", "[fe80::1%2]:80")
    );
    assert_eq!(address.socket_addr(), Some(SocketAddr::V6(at)));
    assert!(
        "[fe80::1%2]:80".parse::<SocketAddr>().is_ok()
            && "[fe80::1%2%3]:80".parse::<SocketAddr>().is_err()
    );
}

#[test]
fn t_017_build_protocol_receives_the_ipv6_address_of_the_peer() {
    let reactor = Reactor::new().unwrap();
    let seen = Rc::new(std::cell::RefCell::new(None));
    let into = seen.clone();
    let factory = move |peer: &Address| {
        *into.borrow_mut() = Some(peer.clone());
        Noting { log: Log::new(), on_data: Noting::nothing }
    };
    let port = reactor
        .listen_tcp((Ipv6Addr::LOCALHOST, 0), factory, &ListenTcpOptions::default())
        .unwrap();
    let client = TcpStream::connect(at(&port)).unwrap();
    run_until(&reactor, || seen.borrow().is_some());
    assert_eq!(seen.take(), Some(Address::from(client.local_addr().unwrap())));
    reactor.close();
}

#[test]
fn t_053_keep_alive_is_off_by_default_and_can_be_set_and_cleared_on_both_sides() {
    struct Sets(Log);
    impl Protocol for Sets {
        type Framing = Raw;
        fn connection_made(&mut self, this: &Handle<Self>) {
            let mut seen = vec![this.tcp_keep_alive().unwrap()];
            for yes in [true, false] {
                this.set_tcp_keep_alive(yes).unwrap();
                seen.push(this.tcp_keep_alive().unwrap());
            }
            assert!(this.tcp_no_delay().unwrap(), "small writes go out at once");
            self.0.add(format!("{seen:?}"));
        }
    }
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (one, other) = (log.clone(), log.clone());
    let port = reactor
        .listen_tcp(LOCAL, move |_: &Address| Sets(one.clone()), &ListenTcpOptions::default())
        .unwrap();
    reactor
        .connect_tcp(
            at(&port),
            move |_: &Address| Sets(other.clone()),
            &ConnectTcpOptions::default(),
        )
        .detach();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.len() == 2
    });
    assert_eq!(seen, ["[false, true, false]"; 2]);
    reactor.close();
}

#[test]
fn t_062_a_paused_transport_that_writes_to_a_closed_peer_is_lost() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let factory = Noting::factory(&log, |this, _| this.pause_producing());
    crate::support::keep_made();
    let port = reactor.listen_tcp(LOCAL, factory, &ListenTcpOptions::default()).unwrap();
    let mut peer = TcpStream::connect(at(&port)).unwrap();
    peer.write_all(b"x").unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.len() == 2
    });
    let this = crate::support::accepted(port.host().port());
    drop(peer);
    run_until(&reactor, || {
        // the first write is answered by a reset, and the next one finds it
        this.write("anybody?");
        seen.extend(log.take());
        seen.len() == 3
    });
    assert_eq!(seen[2], "lost ConnectionLost");
    reactor.close();
}

#[test]
fn t_101_an_abort_resets_and_an_orderly_close_does_not() {
    for abort in [true, false] {
        let (reactor, log) = (Reactor::new().unwrap(), Log::new());
        let ends: fn(&Handle<Noting>, &[u8]) = if abort {
            |this, _| this.abort_connection()
        } else {
            |this, _| this.lose_connection()
        };
        let port = reactor
            .listen_tcp(LOCAL, Noting::factory(&log, ends), &ListenTcpOptions::default())
            .unwrap();
        let mut peer = TcpStream::connect(at(&port)).unwrap();
        peer.write_all(b"x").unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut end = None;
        run_until(&reactor, || {
            end = match peer.read(&mut [0; 10]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                other => Some(other.map_err(|error| error.kind())),
            };
            end.is_some()
        });
        assert_eq!(end.unwrap(), if abort { Err(ErrorKind::ConnectionReset) } else { Ok(0) });
        reactor.close();
    }
}

#[test]
fn t_085_after_the_loss_the_socket_is_closed() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let port = reactor
        .listen_tcp(LOCAL, Noting::factory(&log, Noting::echo), &ListenTcpOptions::default())
        .unwrap();
    let client = watch(reactor.connect_tcp(
        at(&port),
        Noting::factory(&log, Noting::nothing),
        &ConnectTcpOptions::default(),
    ));
    run_until(&reactor, || !client.is_pending());
    let client = client.value();
    client.lose_connection();
    let mut lost = 0;
    run_until(&reactor, || {
        lost += log.take().iter().filter(|line| line.starts_with("lost")).count();
        lost == 2
    });
    assert!(client.set_tcp_no_delay(true).unwrap_err().check::<twistor::error::ConnectionDone>());
    assert_eq!(short(&client.tcp_keep_alive().unwrap_err()), "ConnectionDone");
    reactor.close();
}

#[test]
fn the_text_of_a_transport_names_both_ends() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    crate::support::keep_made();
    let port = reactor
        .listen_tcp(LOCAL, Noting::factory(&log, Noting::echo), &ListenTcpOptions::default())
        .unwrap();
    let peer = TcpStream::connect(at(&port)).unwrap();
    run_until(&reactor, || !log.take().is_empty());
    let this = crate::support::accepted(port.host().port());
    assert_eq!(
        format!("{:?}", this.transport()),
        format!("<Transport {} to {}>", port.host(), peer.local_addr().unwrap())
    );
    assert!(format!("{this:?}").contains("Noting"), "{this:?}");
    reactor.close();
}

#[test]
fn a_port_may_be_stopped_and_started_again_in_its_own_factory() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let slot: Rc<RefCell<Option<twistor::transport::Port>>> = Rc::default();
    let (s, l, r) = (slot.clone(), log.clone(), reactor.clone());
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| {
                if let Some(port) = s.take() {
                    port.stop_listening().detach();
                    let _other = r
                        .listen_tcp(
                            (Ipv4Addr::LOCALHOST, 0),
                            Noting::factory(&Log::new(), Noting::nothing),
                            &ListenTcpOptions::default(),
                        )
                        .unwrap();
                    port.start_listening().unwrap();
                }
                Noting { log: l.clone(), on_data: Noting::echo }
            },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    *slot.borrow_mut() = Some(port.clone());
    let at = port.host().socket_addr().unwrap();
    let mut c = TcpStream::connect(at).unwrap();
    c.write_all(b"one").unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.iter().any(|l| l == "data one")
    });
    let mut c2 = TcpStream::connect(at).unwrap();
    c2.write_all(b"two").unwrap();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.iter().any(|l| l == "data two")
    });
    reactor.close();
}

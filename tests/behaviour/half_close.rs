//! Closing one direction, over the operating system.
use crate::support::{Log, Reports, run_until, short};
use std::net::{Ipv4Addr, SocketAddr};
use twistor::{
    address::Address,
    failure::Failure,
    prelude::*,
    protocol::Protocol,
    transport::{ConnectTcpOptions, ListenTcpOptions, Port},
};

/// A half-closeable protocol that runs the test's function for each event.
#[protocol]
struct Halves {
    #[init(Log::new())]
    log: Log,
    #[init(|_| ())]
    on_made: fn(&Transport),
    #[init(|_| ())]
    on_read_lost: fn(&Transport),
    #[init(|_| ())]
    on_write_lost: fn(&Transport),
}

#[protocol]
impl Halves {
    fn connection_made(&mut self, transport: &Transport) {
        (self.on_made)(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.log.add(format!("data {}", String::from_utf8_lossy(data)));
    }

    fn read_connection_lost(&mut self, transport: &Transport) {
        self.log.add("read lost");
        (self.on_read_lost)(transport);
    }

    fn write_connection_lost(&mut self, transport: &Transport) {
        self.log.add("write lost");
        (self.on_write_lost)(transport);
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
    }
}

/// A protocol that is not half-closeable and runs the test's function for each event.
#[protocol]
struct Whole {
    #[init(Log::new())]
    log: Log,
}

#[protocol]
impl Whole {
    fn data_received(&mut self, data: &[u8]) {
        self.log.add(format!("data {}", String::from_utf8_lossy(data)));
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
    }
}

type Told = fn(&Transport);

fn nothing(_: &Transport) {}

fn halves(
    log: &Log,
    on_made: Told,
    on_read_lost: Told,
    on_write_lost: Told,
) -> impl Fn(&Address) -> Halves + 'static {
    let log = log.clone();
    move |_| Halves { log: log.clone(), on_made, on_read_lost, on_write_lost }
}

fn listen<P: Protocol>(
    reactor: &Reactor,
    factory: impl Fn(&Address) -> P + 'static,
) -> (Port, SocketAddr) {
    let port = reactor
        .listen_tcp((Ipv4Addr::LOCALHOST, 0), factory, &ListenTcpOptions::default())
        .unwrap();
    let at = port.host().socket_addr().unwrap();
    (port, at)
}

/// Runs a server and a client until both have lost their connection, or until `done`.
fn run<S: Protocol, C: Protocol>(
    server: impl Fn(&Address) -> S + 'static,
    client: impl Fn(&Address) -> C + 'static,
    logs: [&Log; 2],
    done: [&str; 2],
) -> [Vec<String>; 2] {
    let reactor = Reactor::new().unwrap();
    let (_port, at) = listen(&reactor, server);
    reactor.connect_tcp(at, client, &ConnectTcpOptions::default()).detach();
    let mut seen = [Vec::new(), Vec::new()];
    run_until(&reactor, || {
        for (seen, log) in seen.iter_mut().zip(logs) {
            seen.extend(log.take());
        }
        seen.iter().zip(done).all(|(seen, done)| seen.last().is_some_and(|line| line == done))
    });
    reactor.close();
    seen
}

#[test]
fn t_087_closing_the_sending_direction_notifies_both_sides_and_drops_later_writes() {
    let (at_server, at_client) = (Log::new(), Log::new());
    let says_hello: Told = |transport| {
        transport.write("hello");
        transport.lose_write_connection();
        transport.lose_write_connection();
        transport.write("dropped");
        transport.write_sequence(["dropped", "too"]);
        assert_eq!(transport.queued(), 0);
        assert!(transport.is_connected(), "the other half is open");
    };
    let server = halves(&at_server, nothing, |transport| transport.write("still here"), nothing);
    let client = halves(&at_client, says_hello, nothing, nothing);
    let [server, client] =
        run(server, client, [&at_server, &at_client], ["read lost", "data still here"]);
    assert_eq!(server, ["data hello", "read lost"]);
    assert_eq!(client, ["write lost", "data still here"]);
}

#[test]
fn t_088_a_server_that_half_closes_still_reads() {
    let (at_server, at_client) = (Log::new(), Log::new());
    let server = halves(&at_server, Transport::lose_write_connection, nothing, nothing);
    let client =
        halves(&at_client, nothing, |transport| transport.write("are you there?"), nothing);
    let [server, client] =
        run(server, client, [&at_server, &at_client], ["data are you there?", "read lost"]);
    assert_eq!(server, ["write lost", "data are you there?"]);
    assert_eq!(client, ["read lost"]);
}

#[test]
fn the_connection_is_closed_when_both_directions_are() {
    let (at_server, at_client) = (Log::new(), Log::new());
    let server = halves(&at_server, nothing, Transport::lose_write_connection, nothing);
    let client = halves(&at_client, Transport::lose_write_connection, nothing, nothing);
    let [server, client] =
        run(server, client, [&at_server, &at_client], ["lost ConnectionDone"; 2]);
    assert_eq!(server, ["read lost", "write lost", "lost ConnectionDone"]);
    assert_eq!(client, ["write lost", "read lost", "lost ConnectionDone"]);
}

#[test]
fn t_093_answering_each_end_with_the_next_closes_without_hanging() {
    let (at_server, at_client) = (Log::new(), Log::new());
    let server =
        halves(&at_server, nothing, Transport::lose_write_connection, Transport::lose_connection);
    let log = at_client.clone();
    let client = move |_: &Address| Closes(log.clone());
    let [server, client] =
        run(server, client, [&at_server, &at_client], ["lost ConnectionDone"; 2]);
    assert_eq!(server, ["read lost", "write lost", "lost ConnectionDone"]);
    assert_eq!(client, ["lost ConnectionDone"]);

    struct Closes(Log);
    impl Protocol for Closes {
        type Framing = twistor::protocol::Raw;
        fn connection_made(&mut self, this: &Handle<Self>) {
            this.lose_connection();
        }
        fn connection_lost(&mut self, _this: &Handle<Self>, reason: &Failure) {
            self.0.add(format!("lost {}", short(reason)));
        }
    }
}

#[test]
fn a_protocol_that_is_not_half_closeable_may_half_close_and_read_on() {
    let (at_server, at_client) = (Log::new(), Log::new());
    let server = halves(&at_server, nothing, |transport| transport.write("answer"), nothing);
    let reactor = Reactor::new().unwrap();
    let (_port, at) = listen(&reactor, server);
    let log = at_client.clone();
    let client = reactor.connect_tcp(
        at,
        move |_: &Address| Whole { log: log.clone() },
        &ConnectTcpOptions::default(),
    );
    client
        .add_callback(|this| {
            this.write("question");
            this.lose_write_connection();
        })
        .detach();
    let (mut served, mut asked) = (Vec::new(), Vec::new());
    run_until(&reactor, || {
        served.extend(at_server.take());
        asked.extend(at_client.take());
        asked.len() == 1
    });
    assert_eq!(asked, ["data answer"]);
    assert_eq!(served, ["data question", "read lost"]);
    reactor.close();
}

#[test]
fn t_090_closing_the_sending_direction_after_the_other_side_has_closed_is_silent() {
    let reports = Reports::new();
    let (at_server, at_client) = (Log::new(), Log::new());
    let server = halves(&at_server, Transport::lose_connection, nothing, nothing);
    let client = halves(&at_client, nothing, Transport::lose_write_connection, nothing);
    let [server, client] =
        run(server, client, [&at_server, &at_client], ["lost ConnectionDone"; 2]);
    assert_eq!(server, ["lost ConnectionDone"]);
    assert_eq!(client, ["read lost", "write lost", "lost ConnectionDone"]);
    assert!(reports.take().is_empty());
}

#[test]
fn t_091_t_092_a_panic_in_either_handler_is_reported_once_and_closes_completely() {
    for in_read in [true, false] {
        let reports = Reports::new();
        let (at_server, at_client) = (Log::new(), Log::new());
        let panics: Told = |_| panic!("not half");
        let [server, client] = if in_read {
            let server = halves(&at_server, nothing, panics, nothing);
            let client = halves(&at_client, Transport::lose_write_connection, nothing, nothing);
            run(server, client, [&at_server, &at_client], ["lost Panicked", "lost ConnectionDone"])
        } else {
            let server = halves(&at_server, Transport::lose_write_connection, nothing, panics);
            let client = halves(&at_client, nothing, nothing, |_| ());
            let closes = halves(&at_client, nothing, Transport::lose_connection, nothing);
            drop(client);
            run(server, closes, [&at_server, &at_client], ["lost Panicked", "lost ConnectionDone"])
        };
        assert_eq!(server[0], if in_read { "read lost" } else { "write lost" });
        assert!(client.contains(&"lost ConnectionDone".to_owned()));
        let seen = reports.take();
        assert!(seen.len() == 1 && seen[0].contains("not half"), "{seen:?}");
    }
}

#[test]
fn a_half_closed_connection_that_is_reset_is_lost() {
    let (at_server, at_client) = (Log::new(), Log::new());
    let server = halves(&at_server, nothing, nothing, nothing);
    let client =
        halves(&at_client, Transport::lose_write_connection, nothing, Transport::abort_connection);
    let [server, client] = run(
        server,
        client,
        [&at_server, &at_client],
        ["lost ConnectionLost", "lost ConnectionAborted"],
    );
    assert_eq!(server, ["read lost", "lost ConnectionLost"]);
    assert_eq!(client, ["write lost", "lost ConnectionAborted"]);
}

#[test]
fn closing_the_sending_direction_waits_for_what_is_queued_and_for_a_producer() {
    use crate::support::{Noting, accepted, keep_made};
    use twistor::{
        protocol::{Producer, ProducerKind},
        testing::MemoryReactor,
    };
    struct Idle;
    impl Producer for Idle {
        fn resume_producing(&self) {}
        fn stop_producing(&self) {}
    }
    let memory = MemoryReactor::new();
    memory.set_send_buffer(10);
    keep_made();
    let (at_server, at_client) = (Log::new(), Log::new());
    let reactor = memory.reactor();
    let place = SocketAddr::from(([127, 0, 0, 1], 80));
    let port = reactor
        .listen_tcp(
            place,
            Noting::factory(&Log::new(), Noting::nothing),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    reactor
        .connect_tcp(
            place,
            halves(&at_client, nothing, nothing, nothing),
            &ConnectTcpOptions::default(),
        )
        .detach();
    memory.settle();
    let server = accepted(80);
    server.register_producer(std::rc::Rc::new(Idle), ProducerKind::Push).unwrap();
    server.write([b'x'; 30]);
    server.lose_write_connection();
    memory.settle();
    assert_eq!(
        at_client.take(),
        ["data xxxxxxxxxx"; 3],
        "the producer may still be about to write"
    );
    server.unregister_producer();
    memory.settle();
    assert_eq!(at_client.take(), ["read lost"]);
    drop((port, at_server));
    reactor.close();
}

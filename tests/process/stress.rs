//! A server under stress: many connections, and hostile peers of every kind. The server runs in
//! this process, the peers in another.
use super::Running;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};
use twistor::{
    address::Address,
    failure::Failure,
    protocol::{Handle, Protocol, Raw},
    reactor::Reactor,
};

thread_local! {
    /// The number of the server's connections.
    static LIVE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Sends back what it receives.
struct Echo;

impl Protocol for Echo {
    type Framing = Raw;

    fn connection_made(&mut self, _this: &Handle<Self>) {
        LIVE.set(LIVE.get() + 1);
    }

    fn message_received(&mut self, this: &Handle<Self>, data: &[u8]) {
        this.write(data);
    }

    fn connection_lost(&mut self, _this: &Handle<Self>, _reason: &Failure) {
        LIVE.set(LIVE.get() - 1);
    }
}

fn served() -> (Reactor, SocketAddr) {
    let reactor = Reactor::new().expect("a reactor");
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            |_: &Address| Echo,
            &twistor::transport::ListenTcpOptions::default().backlog(4096),
        )
        .expect("a port");
    let at = port.host().socket_addr().expect("an address");
    (reactor, at)
}

/// Runs turns until `done`; panics after half a minute.
fn run_until(reactor: &Reactor, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it did not happen within half a minute"
        );
        reactor.iterate(Duration::from_millis(5)).expect("it can wait");
    }
}

/// Raises the limit of descriptors as far as this process may.
fn raise_limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).expect("a limit");
    limit.maximum.unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_connections_are_all_answered_and_all_close() {
    // a machine that allows fewer descriptors gets as many as it allows
    let wanted = usize::try_from(raise_limit().saturating_sub(500).min(10_000)).expect("a number");
    let (reactor, at) = served();
    let mut crowd = Running::command(Command::new(env!("CARGO_BIN_EXE_programs")).args([
        "stress",
        &at.to_string(),
        &wanted.to_string(),
    ]));
    let out = crowd.0.stdout.take().expect("a pipe");
    let said = std::thread::spawn(move || {
        let mut out = out;
        Running::line_of(&mut out)
    });
    run_until(&reactor, || said.is_finished());
    assert_eq!(said.join().expect("a line"), format!("answered {wanted} lost 0"));
    assert_eq!(LIVE.get(), wanted);
    // the peer process exits: every connection is lost, and every slot free again
    drop(crowd.0.stdin.take());
    run_until(&reactor, || LIVE.get() == 0);
    assert_eq!(crowd.end().0, Some(0));
    assert_eq!(
        format!("{reactor:?}"),
        "<Reactor Idle, 1 sources, 0 delayed calls>",
        "the port is left"
    );
    reactor.close();
}

/// The work beside the peers that send one byte at a time.
enum Unkind {
    Reset,
    HalfClose,
    FinInTheMiddle,
    Vanish,
}

fn unkind(at: SocketAddr, how: &Unkind) -> Option<TcpStream> {
    let mut peer = TcpStream::connect(at).expect("it listens");
    match how {
        Unkind::Vanish => return None,
        Unkind::Reset => {
            peer.write_all(b"some").expect("a connection");
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("a socket");
            return None;
        }
        Unkind::HalfClose => peer.shutdown(Shutdown::Write).expect("a socket"),
        Unkind::FinInTheMiddle => {
            peer.write_all(b"half a mess").expect("a connection");
            peer.shutdown(Shutdown::Write).expect("a socket");
        }
    }
    Some(peer)
}

#[test]
fn no_connection_starves_beside_a_bulk_sender_and_nothing_leaks() {
    const DRIBBLERS: usize = 500;
    const ROUNDS: usize = 20;
    raise_limit();
    let (reactor, at) = served();
    let stop = reactor.remote();
    // the peers live in a thread of their own, with blocking sockets
    let peers = std::thread::spawn(move || {
        let mut bulk = TcpStream::connect(at).expect("it listens");
        let mut reader = bulk.try_clone().expect("a socket");
        let sender = std::thread::spawn(move || {
            // until it is shut down from the other thread
            let piece = vec![b'x'; 64 * 1024];
            while bulk.write_all(&piece).is_ok() {}
        });
        let end = reader.try_clone().expect("a socket");
        let bulk_reader = std::thread::spawn(move || {
            let (mut buffer, mut all) = (vec![0; 64 * 1024], 0);
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                all += read;
            }
            all
        });
        let mut dribblers: Vec<_> =
            (0..DRIBBLERS).map(|_| TcpStream::connect(at).expect("it listens")).collect();
        let mut kept = Vec::new();
        let mut times = Vec::with_capacity(DRIBBLERS * ROUNDS);
        for round in 0..ROUNDS {
            for how in [Unkind::Reset, Unkind::HalfClose, Unkind::FinInTheMiddle, Unkind::Vanish] {
                kept.extend(unkind(at, &how));
            }
            let byte = [u8::try_from(round).expect("a small number")];
            for dribbler in &mut dribblers {
                let start = Instant::now();
                dribbler.write_all(&byte).expect("a connection");
                let mut back = [0];
                dribbler.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
                dribbler.read_exact(&mut back).expect("an echo");
                assert_eq!(back, byte);
                times.push(start.elapsed());
            }
        }
        end.shutdown(Shutdown::Both).expect("a socket");
        sender.join().expect("the sender");
        let bulk = bulk_reader.join().expect("the reader");
        for mut peer in kept {
            peer.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
            let mut rest = Vec::new();
            match peer.read_to_end(&mut rest) {
                Ok(_) => assert!(rest.is_empty() || rest == b"half a mess", "{rest:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
        drop(dribblers);
        stop.call_from_thread(|| Reactor::current().expect("it runs").stop().expect("it runs"));
        (times, bulk)
    });
    reactor.run().expect("it can wait");
    let (mut times, bulk) = peers.join().expect("the peers");
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    assert!(bulk > 10 * 64 * 1024, "the bulk sender was served too: {bulk}");
    // one turn reads at most 8 x 96 KiB of the bulk sender, so a slow peer waits for some such
    // turns, and for the machine
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
    run_until(&reactor, || LIVE.get() == 0 && reactor.delayed_calls().is_empty());
    assert_eq!(
        format!("{reactor:?}"),
        "<Reactor Idle, 1 sources, 0 delayed calls>",
        "the port is left"
    );
    reactor.close();
}

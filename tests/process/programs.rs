//! The programs that the process tests run, chosen by the argument.
#[path = "stress_client.rs"]
mod stress;

use std::{cell::RefCell, fs::File, os::fd::OwnedFd, process::ExitCode, time::Duration};
use twistor::{
    error::SystemExit,
    prelude::*,
    reactor::{SystemEvent, TriggerPhase},
    task::{defer_later, react},
    transport::{ConnectUnixOptions, ListenUnixOptions},
};

/// Waits a moment if asked to, then fails with `failure`.
#[inline_callbacks]
fn fails(reactor: Reactor, later: bool, failure: Failure) -> Deferred<()> {
    if later {
        yield_!(defer_later(&reactor, Duration::from_millis(1), || ()))?;
    }
    Err(failure)
}

/// Runs a reactor until it is stopped; the exit code is the signal that stopped it.
fn run(prepare: impl FnOnce(&Reactor)) -> ExitCode {
    let reactor = Reactor::new().expect("a reactor");
    prepare(&reactor);
    reactor.call_when_running(|| println!("running"));
    reactor.run().expect("it can wait");
    ExitCode::from(u8::try_from(reactor.exit_signal().unwrap_or(0)).expect("a small number"))
}

/// Stops without a signal.
fn stops(reactor: &Reactor) {
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().expect("it runs"));
}

/// Never finishes its shutdown.
fn stuck(reactor: &Reactor) {
    reactor.add_system_event_trigger(TriggerPhase::Before, SystemEvent::Shutdown, || {
        println!("stopping");
        let (never, resolver) = Deferred::<()>::new();
        std::mem::forget(resolver);
        never
    });
}

/// Prints each SIGHUP, including one that arrives during a long callback.
fn hangs_up(reactor: &Reactor) {
    const SIGHUP: i32 = 1;
    reactor.on_signal(SIGHUP, || println!("hung up")).expect("a signal");
    reactor.call_later(Duration::ZERO, || {
        let mut line = String::new();
        // a long callback: it waits until the test writes
        std::io::stdin().read_line(&mut line).expect("a line");
        println!("back");
    });
}

/// Returns whether this process handles SIGTERM.
fn catches_sigterm() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("the state of this process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .expect("the signals that are caught");
    u64::from_str_radix(line.trim(), 16).expect("a mask") & (1 << 14) != 0
}

/// Prints before which of its triggers the signal handlers are installed.
fn handlers(reactor: &Reactor) {
    for (phase, name) in [
        (TriggerPhase::Before, "before"),
        (TriggerPhase::During, "during"),
        (TriggerPhase::After, "after"),
    ] {
        reactor.add_system_event_trigger(phase, SystemEvent::Startup, move || {
            println!("{name} {}", catches_sigterm());
        });
    }
    stops(reactor);
}

/// Answers each line of standard input in capitals, on standard output.
#[protocol(lines(delimiter = b"\n"))]
struct Shouts {
    #[transport]
    transport: Transport,
}

#[protocol]
impl Shouts {
    fn line_received(&mut self, line: &[u8]) {
        self.transport.send_line(line.to_ascii_uppercase());
        if line == b"bye" {
            self.transport.lose_connection();
        }
    }

    fn connection_lost(&mut self, reason: &Failure) {
        eprintln!("{reason}");
        println!("nobody reads this");
        Reactor::current().expect("it runs").stop().expect("it runs");
    }
}

/// A protocol on standard input and output.
fn shouts(reactor: &Reactor) -> ExitCode {
    let handle = reactor.standard_io(Shouts::factory()).expect("standard input and output");
    drop(handle);
    reactor.run().expect("it can wait");
    ExitCode::SUCCESS
}

/// Runs a reactor that stops by itself, prints that, and waits for a line of standard input.
fn ends() -> ExitCode {
    let reactor = Reactor::new().expect("a reactor");
    let hup = reactor.on_signal(1, || println!("hung up")).expect("a signal");
    stops(&reactor);
    reactor.run().expect("it can wait");
    hup.stop();
    println!("ended");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    println!("still alive");
    ExitCode::SUCCESS
}

/// Stops while a thread of its pool is blocked for ever.
fn blocked(reactor: &Reactor) {
    reactor
        .thread_pool()
        .call_in_thread(|| {
            println!("blocked");
            loop {
                std::thread::park();
            }
        })
        .expect("a thread");
}

/// Receives descriptors for which this process has no room, and prints why the connection is lost.
#[protocol]
struct Crowded;

#[protocol]
impl Crowded {
    fn file_descriptor_received(&mut self, descriptor: OwnedFd) {
        drop(descriptor);
    }

    fn data_received(&mut self) {
        FILLERS.take();
        println!("data");
    }

    fn connection_lost(&mut self, reason: &Failure) {
        FILLERS.take();
        println!("{reason}");
        Reactor::current().expect("it runs").stop().expect("it runs");
    }
}

thread_local! {
    /// Takes the places of descriptors.
    static FILLERS: RefCell<Vec<File>> = const { RefCell::new(Vec::new()) };
}

/// Sends descriptors to itself while few more may be open.
fn crowded(reactor: &Reactor) {
    let path = std::env::temp_dir().join(format!("crowded-{}.sock", std::process::id()));
    let port = reactor
        .listen_unix(&path, Crowded::factory(), &ListenUnixOptions::default())
        .expect("a port");
    let client = reactor.connect_unix(&path, Crowded::factory(), &ConnectUnixOptions::default());
    client
        .map(move |client| {
            let null = || File::open("/dev/null");
            for _ in 0..8 {
                client.send_file_descriptor(null().expect("a descriptor"));
            }
            client.write("12345678");
            client.flush();
            let mut fillers: Vec<_> = std::iter::from_fn(|| null().ok()).collect();
            fillers.truncate(fillers.len() - 3);
            FILLERS.set(fillers);
            port.stop_listening().detach();
        })
        .detach();
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("shouts") => return shouts(&Reactor::new().expect("a reactor")),
        Some("stress") => return stress::main(),
        Some("stops") => return run(stops),
        Some("ends") => return ends(),
        Some("blocked") => return run(blocked),
        Some("crowded") => return run(crowded),
        Some("waits") => return run(|_| ()),
        Some("stuck") => return run(stuck),
        Some("handlers") => return run(handlers),
        Some("hangs_up") => return run(hangs_up),
        _ => {}
    }
    react(|reactor, args| match args.get(0).unwrap_or_default() {
        "fails" => fails(reactor, false, Failure::message("no")),
        "fails_later" => fails(reactor, true, Failure::message("no")),
        "exits" => fails(reactor, false, SystemExit::new(23).into()),
        "exits_later" => fails(reactor, true, SystemExit::new(23).into()),
        other => Deferred::fail(Failure::message(format!("there is no program `{other}`"))),
    })
}

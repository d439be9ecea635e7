//! The fakes for users' tests: `StringTransport`, and a client and a server connected in memory.
use crate::support::{Bang, Log, Noting, Pair, Reports, short, total, watch};
use std::{cell::Cell, rc::Rc, time::Duration};
use twistor::{
    address::Address,
    prelude::*,
    protocol::{Producer, ProducerKind},
    task::defer_later,
    testing::{Clock, End, StringTransport, pump},
};

#[protocol(lines(delimiter = b"\n"))]
struct Lines {
    #[init(Log::new())]
    log: Log,
}

#[protocol]
impl Lines {
    fn line_received(&mut self, line: &[u8], transport: &Transport) {
        self.log.add(format!("line {}", String::from_utf8_lossy(line)));
        transport.send_line(line.to_ascii_uppercase());
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
    }
}

fn lines(log: &Log) -> impl Fn(&Address) -> Lines + 'static {
    let log = log.clone();
    move |_| Lines { log: log.clone() }
}

#[test]
fn p_118_p_119_a_string_transport_shows_what_was_written_and_where() {
    let (log, transport) = (Log::new(), StringTransport::new());
    let this = transport.connect(lines(&log), &Clock::new());
    assert!(matches!((this.host(), this.peer()), (Address::IPv4(_), Address::IPv4(_))));
    transport.receive("he");
    transport.receive("llo\nyou\nthe");
    assert_eq!(transport.take(), b"HELLO\nYOU\n");
    assert_eq!(transport.take(), b"", "taken once");
    assert!(!transport.is_disconnecting());
    this.lose_connection();
    assert!(transport.is_disconnecting());
    transport.end();
    assert_eq!(log.take(), ["line hello", "line you", "lost ConnectionDone"]);
    let host = Address::Unix(Some("/here".into()));
    let elsewhere = StringTransport::new().addresses(host.clone(), Address::Unix(None));
    let this = elsewhere.connect(lines(&log), &Clock::new());
    assert_eq!((this.host(), this.peer()), (host, Address::Unix(None)));
}

#[test]
fn the_other_side_of_a_string_transport_may_end_or_reset() {
    for (reset, expected) in [(false, "lost ConnectionDone"), (true, "lost ConnectionLost")] {
        let (log, transport) = (Log::new(), StringTransport::new());
        transport.connect(lines(&log), &Clock::new());
        if reset {
            transport.reset();
        } else {
            transport.end();
        }
        assert_eq!(log.take(), [expected]);
    }
}

#[test]
fn p_114_p_115_a_producer_on_a_string_transport_is_paused_by_its_capacity() {
    struct Counts(Log, Transport);
    impl Producer for Counts {
        fn resume_producing(&self) {
            self.0.add("resume");
            self.1.write([b'x'; 4]);
        }
        fn stop_producing(&self) {
            self.0.add("stop");
        }
    }
    let (log, transport) = (Log::new(), StringTransport::new().send_buffer(6));
    let this = transport.connect(lines(&Log::new()), &Clock::new());
    let producer = || Rc::new(Counts(log.clone(), this.transport().clone()));
    this.register_producer(producer(), ProducerKind::Pull).unwrap();
    assert!(this.register_producer(producer(), ProducerKind::Push).is_err());
    assert_eq!(log.take(), ["resume"]);
    assert_eq!(transport.untaken(), 4);
    assert!(transport.take().len() >= 4);
    assert!(log.take().contains(&"resume".to_owned()));
    this.unregister_producer();
    this.unregister_producer();
    this.register_producer(producer(), ProducerKind::Push).unwrap();
    transport.reset();
    assert_eq!(log.take().last().unwrap(), "stop");
}

#[test]
fn a_slow_reader_takes_a_little_at_a_time() {
    let transport = StringTransport::new().send_buffer(10);
    let this = transport.connect(lines(&Log::new()), &Clock::new());
    this.set_write_marks(8, 16);
    this.write([b'x'; 30]);
    let room = watch(this.drained());
    assert_eq!((this.queued(), transport.untaken()), (20, 30));
    assert_eq!((transport.take_up_to(4).len(), this.queued(), room.is_pending()), (4, 16, true));
    assert_eq!((transport.take_up_to(100).len(), this.queued(), room.is_pending()), (10, 6, false));
    room.value();
    assert_eq!((transport.take().len(), transport.take_up_to(1).len()), (16, 0));
}

#[test]
fn p_116_a_protocol_that_pauses_leaves_what_arrives_unread() {
    let (log, transport) = (Log::new(), StringTransport::new());
    let this = transport.connect(lines(&log), &Clock::new());
    this.pause_producing();
    transport.receive("later\n");
    assert_eq!((transport.unread(), log.take()), (6, vec![]));
    this.resume_producing();
    assert_eq!(transport.take(), b"LATER\n");
    assert_eq!((transport.unread(), log.take()), (0, vec!["line later".to_owned()]));
}

#[test]
fn a_string_transport_lives_in_the_time_of_the_test_s_clock() {
    let (clock, transport, log) = (Clock::new(), StringTransport::new(), Log::new());
    let other = Rc::new(Cell::new(false));
    let rings = other.clone();
    clock.call_later(Duration::ZERO, move || rings.set(true));
    let this = transport.connect(lines(&log), &clock);
    transport.receive("hello\n");
    assert!(!other.get(), "no turn of the transport moves the time");
    let closes = this.transport().clone();
    clock.call_later(Duration::from_secs(3), move || closes.lose_connection());
    clock.advance(Duration::from_secs(3));
    // all consequences have happened when `advance` returns, and the transport leaves nothing in
    // the clock
    assert_eq!(log.take(), ["line hello", "lost ConnectionDone"]);
    assert!(other.get() && clock.delayed_calls().is_empty() && transport.is_disconnecting());
    assert_eq!(transport.take(), b"HELLO\n");
    let later = watch(defer_later(&clock, Duration::from_secs(1), || ()));
    drop(transport);
    clock.advance(Duration::from_secs(1));
    later.value();
}

#[test]
#[should_panic(expected = "cannot be delivered")]
fn input_that_cannot_be_delivered_fails_the_test() {
    let transport = StringTransport::new();
    transport.connect(lines(&Log::new()), &Clock::new());
    transport.end();
    transport.receive("too late");
}

#[test]
fn a_pump_delivers_in_chunks_of_the_size_that_was_chosen() {
    for size in [1, 2, 3, 7, 100] {
        let (at_server, at_client) = (Log::new(), Log::new());
        let pump = pump(
            Noting::factory(&at_server, Noting::echo),
            Noting::factory(&at_client, Noting::nothing),
        );
        pump.set_chunk_size(size);
        pump.client().write("a message");
        pump.settle();
        let pieces: Vec<_> = at_server.take().into_iter().skip(1).collect();
        assert_eq!(pieces.len(), 9usize.div_ceil(size), "{pieces:?}");
        assert_eq!(at_client.take().concat().replace("data ", ""), "madea message");
    }
}

#[test]
fn a_pump_cuts_and_resets_at_the_chosen_byte_of_either_side() {
    for (from, reset, at) in [
        (End::Client, false, 3),
        (End::Client, true, 3),
        (End::Server, false, 2),
        (End::Server, true, 0),
    ] {
        let (at_server, at_client) = (Log::new(), Log::new());
        // an echo into a connection that has just closed would be lost instead
        let on_data = if from == End::Server { Noting::echo } else { Noting::nothing };
        let pump = pump(
            Noting::factory(&at_server, on_data),
            Noting::factory(&at_client, Noting::nothing),
        );
        if reset {
            pump.reset_after(from, at);
        } else {
            pump.cut_after(from, at);
        }
        pump.client().write("hello");
        pump.settle();
        let log = if from == End::Client { &at_server } else { &at_client };
        let seen = log.take();
        let got: String = seen.iter().filter_map(|line| line.strip_prefix("data ")).collect();
        assert_eq!(got, "hello"[..at], "{from:?} {reset}");
        let expected = if reset { "ConnectionLost" } else { "ConnectionDone" };
        assert_eq!(seen.last().unwrap(), &format!("lost {expected}"), "{from:?} {reset}");
        assert!(!pump.client().is_connected() && !pump.server().is_connected());
        assert_eq!(pump.reactor().delayed_calls().len(), 0);
    }
}

#[test]
fn any_cut_of_a_line_protocol_gives_the_lines_before_it() {
    let text = "one\ntwo\nthree\n";
    for at in 0..text.len() {
        let log = Log::new();
        let pump = pump(lines(&log), Noting::factory(&Log::new(), Noting::nothing));
        pump.set_chunk_size(2);
        pump.cut_after(End::Client, at);
        pump.client().write(text);
        pump.settle();
        let expected: Vec<_> = text[..at]
            .matches('\n')
            .zip(["line one", "line two", "line three"])
            .map(|(_, line)| line)
            .collect();
        let seen = log.take();
        assert_eq!(seen[..seen.len() - 1], expected, "{at}");
    }
}

#[test]
fn a_pump_moves_the_time_of_both_ends_and_runs_a_turn_at_a_time() {
    let (at_server, at_client) = (Log::new(), Log::new());
    let pump = pump(
        Noting::factory(&at_server, Noting::echo),
        Noting::factory(&at_client, Noting::nothing),
    );
    let rung = watch(defer_later(&pump.reactor(), Duration::from_secs(60), || ()));
    pump.advance(Duration::from_secs(59));
    assert!(rung.is_pending());
    pump.advance(Duration::from_secs(1));
    rung.value();
    at_server.take();
    pump.client().write("hello");
    assert!(format!("{pump:?}").contains("5 bytes on their way to the server"), "{pump:?}");
    pump.turn();
    assert_eq!(at_server.take(), ["data hello"]);
    assert!(format!("{pump:?}").contains("5 to the client"), "{pump:?}");
}

#[test]
fn a_pump_of_a_factory_that_fails_reports_it() {
    let _reports = Reports::new();
    let result = std::panic::catch_unwind(|| {
        let refuses =
            |_: &Address| -> Noting { std::panic::panic_any(Bang("no protocol").to_string()) };
        drop(pump(refuses, Noting::factory(&Log::new(), Noting::nothing)));
    });
    let text = *result.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("no protocol"), "{text}");
}

#[test]
fn a_string_transport_is_served_by_advancing_the_clock_alone() {
    let log = Log::new();
    let t = StringTransport::new();
    let clock = Clock::new();
    let h = t.connect(Noting::factory(&log, Noting::nothing), &clock);
    let u = h.transport().clone();
    twistor::time::ReactorTime::schedule(
        &clock,
        Duration::from_secs(5),
        Box::new(move || u.abort_connection()),
    );
    clock.advance(Duration::from_secs(5));
    assert_eq!(log.take(), ["made", "lost ConnectionAborted"]);
}

#[test]
fn a_larger_send_buffer_counts_for_connections_that_are_open() {
    let pair = Pair::new(100);
    let (memory, client, server, at_client) =
        (&pair.memory, &pair.client, &pair.server, &pair.at_client);
    client.pause_producing();
    memory.settle();
    server.write("x".repeat(1000));
    memory.settle();
    memory.set_send_buffer(5000);
    client.resume_producing();
    memory.advance(Duration::from_secs(60));
    assert_eq!(total(&at_client.take()), 1000);
}

#[test]
fn a_string_transport_leaves_no_linger_timer_in_the_clock() {
    let (log, clock, t) = (Log::new(), Clock::new(), StringTransport::new());
    let h = t.connect(Noting::factory(&log, Noting::nothing), &clock);
    h.lose_connection();
    assert!(t.is_disconnecting());
    let calls = clock.delayed_calls();
    clock.advance(Duration::from_secs(2));
    let after = log.take();
    t.untaken();
    t.take();
    assert_eq!(
        (calls.len(), after, log.take()),
        (0, vec!["made".to_owned(), "lost ConnectionDone".to_owned()], vec![])
    );
}

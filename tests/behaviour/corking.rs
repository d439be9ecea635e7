//! Corking: output of one turn is sent together, and nothing else changes for it.
use crate::support::{Log, short, watch};
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    ops::Deref,
    rc::Rc,
    time::Duration,
};
use twistor::{
    address::Address,
    prelude::*,
    protocol::{Factory, IntoFactory, Producer, ProducerKind, Protocol},
    testing::{Clock, End, Pump, StringTransport, pump},
};

/// A function that answers a line.
type Answer = Rc<dyn Fn(&Transport, &str)>;

/// Concatenates pieces of text made from a range of numbers.
fn text(numbers: std::ops::Range<usize>, piece: impl Fn(usize) -> String) -> String {
    numbers.map(piece).collect::<Vec<_>>().concat()
}

/// A server whose lines a function answers, with storage for it.
#[protocol(lines(delimiter = b"\n", max_length = 1_000_000))]
struct Server {
    #[transport]
    transport: Transport,
    #[init(Rc::new(|_, _| ()))]
    answer: Answer,
    #[init(Log::new())]
    log: Log,
}

#[protocol]
impl Server {
    fn line_received(&mut self, line: &[u8]) {
        (self.answer)(&self.transport, &String::from_utf8_lossy(line));
    }

    fn raw_data_received(&mut self, data: &[u8]) {
        self.transport.write(format!("<{}>", String::from_utf8_lossy(data)));
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
    }
}

/// Keeps everything it receives, beyond the life of its connection.
#[protocol]
struct Client {
    seen: Rc<RefCell<Vec<u8>>>,
}

#[protocol]
impl Client {
    fn data_received(&mut self, data: &[u8]) {
        self.seen.borrow_mut().extend_from_slice(data);
    }
}

/// A server and a client connected in memory, and what the client has received.
struct Joined<S: Protocol> {
    pump: Pump<S, Client>,
    seen: Rc<RefCell<Vec<u8>>>,
}

impl<S: Protocol> Deref for Joined<S> {
    type Target = Pump<S, Client>;

    fn deref(&self) -> &Self::Target {
        &self.pump
    }
}

fn join<F: IntoFactory>(server: F) -> Joined<<F::Factory as Factory>::Protocol> {
    let seen = Rc::<RefCell<Vec<u8>>>::default();
    let kept = seen.clone();
    let pump = pump(server, move |_: &Address| Client { seen: kept.clone() });
    pump.settle();
    Joined { pump, seen }
}

fn pair(answer: impl Fn(&Transport, &str) + 'static) -> (Joined<Server>, Log) {
    let (answer, log): (Answer, _) = (Rc::new(answer), Log::new());
    let kept = log.clone();
    let server = move |_: &Address| Server {
        transport: Transport::default(),
        answer: answer.clone(),
        log: kept.clone(),
    };
    (join(server), log)
}

fn seen<S: Protocol>(pair: &Joined<S>) -> String {
    String::from_utf8(pair.seen.borrow().clone()).unwrap()
}

/// Returns what the server sends, and in how many writes, when the client sends `lines` in one
/// piece.
fn answers(pair: &Joined<Server>, lines: &str) -> (String, usize) {
    let before = (seen(pair).len(), pair.writes(End::Server));
    pair.client().write(lines);
    pair.settle();
    (seen(pair)[before.0..].to_owned(), pair.writes(End::Server) - before.1)
}

#[test]
fn a_hundred_lines_in_one_read_are_answered_in_one_write() {
    let (pair, _) = pair(|transport, line| transport.send_line(line.to_uppercase()));
    let lines: String = text(0..100, |n| format!("line {n}\n"));
    assert_eq!(answers(&pair, &lines), (lines.to_uppercase(), 1));
    assert_eq!(answers(&pair, "one more\n"), ("ONE MORE\n".into(), 1), "one reply waits for none");
}

#[test]
fn a_line_in_two_reads_is_answered_with_the_ones_behind_it() {
    let (pair, _) = pair(|transport, line| transport.send_line(line));
    assert_eq!(answers(&pair, "be"), (String::new(), 0));
    assert_eq!(answers(&pair, "gun\ntwo\nthree\nfo"), ("begun\ntwo\nthree\n".into(), 1));
}

#[test]
fn several_writes_of_one_handler_cost_two() {
    let (pair, _) = pair(|transport, _| (0..50).for_each(|n| transport.write(format!("{n} "))));
    let expected: String = text(0..50, |n| format!("{n} "));
    assert_eq!(answers(&pair, "go\n"), (expected.clone(), 2), "the first leaves at once");
    assert_eq!(answers(&pair, "go\ngo\n"), (expected.repeat(2), 1));
}

#[test]
fn a_broadcast_in_one_turn_costs_each_peer_two_writes() {
    let (pair, _) = pair(|_, _| ());
    let server = pair.server().transport().clone();
    let told = server.clone();
    // from another turn than that of the delivery: a delayed call
    pair.reactor().call_later(Duration::ZERO, move || {
        (0..50).for_each(|n| told.write(format!("news {n}\n")));
    });
    let before = pair.writes(End::Server);
    pair.settle();
    let expected: String = text(0..50, |n| format!("news {n}\n"));
    assert_eq!((seen(&pair), pair.writes(End::Server) - before), (expected, 2));
    // and from several handlers in one turn
    for n in 0..50 {
        let told = server.clone();
        pair.reactor().call_later(Duration::ZERO, move || told.write(format!("{n}")));
    }
    let before = pair.writes(End::Server);
    pair.settle();
    assert_eq!(pair.writes(End::Server) - before, 2);
}

#[test]
fn outside_of_turns_and_in_a_string_transport_every_write_leaves_at_once() {
    let (pair, _) = pair(|_, _| ());
    let before = pair.writes(End::Server);
    (0..5).for_each(|_| pair.server().write("now "));
    assert_eq!(pair.writes(End::Server) - before, 5);
    let transport = StringTransport::new();
    let lengths = Rc::new(Cell::new(0));
    let noted = lengths.clone();
    let answer: Answer = Rc::new(move |transport, _| {
        transport.write("one");
        transport.write("two");
        noted.set(transport.queued());
    });
    let server = move |_: &Address| Server {
        transport: Transport::default(),
        answer: answer.clone(),
        log: Log::new(),
    };
    transport.connect(server, &Clock::new());
    transport.receive("go\n");
    assert_eq!((transport.take(), lengths.get()), (b"onetwo".to_vec(), 0));
}

#[test]
fn flush_sends_what_is_corked_now() {
    let (pair, _) = pair(|transport, line| {
        transport.write(format!("<{line}"));
        transport.write(">");
        transport.flush();
    });
    assert_eq!(answers(&pair, "a\nb\n"), ("<a><b>".into(), 2));
}

#[test]
fn at_most_64_kib_are_corked_and_a_large_write_goes_along() {
    let (pair, _) = pair(|transport, line| {
        let size: usize = line.parse().unwrap();
        transport.write(vec![b'x'; size]);
    });
    pair.set_send_buffer(10_000_000);
    let (text, writes) = answers(&pair, "1000\n60000\n4536\n1\n");
    assert_eq!((text.len(), writes), (65_537, 1), "the last one goes along");
    let (text, writes) = answers(&pair, "1000\n500000\n10\n");
    assert_eq!((text.len(), writes), (501_010, 2));
}

#[test]
fn corked_bytes_do_not_count_as_queued_and_refused_ones_do() {
    let noted = Log::new();
    let log = noted.clone();
    let (pair, _) = pair(move |transport, _| {
        transport.write(vec![b'x'; 60]);
        transport.write(vec![b'y'; 60]);
        log.add(transport.queued());
        transport.flush();
        log.add(transport.queued());
    });
    pair.set_send_buffer(100);
    let (text, _) = answers(&pair, "go\n");
    assert_eq!((text.len(), noted.take()), (120, vec!["0".to_owned(), "20".to_owned()]));
}

#[test]
fn a_mode_change_in_the_middle_of_a_burst_keeps_bytes_and_order() {
    let (pair, _) = pair(|transport, line| {
        transport.send_line(format!("ok {line}"));
        if line == "raw" {
            transport.set_raw_mode();
        }
    });
    assert_eq!(answers(&pair, "a\nraw\nrest\nof it"), ("ok a\nok raw\n<rest\nof it>".into(), 1));
}

#[test]
fn a_pause_in_the_middle_of_a_burst_sends_what_is_corked() {
    let (pair, _) = pair(|transport, line| {
        transport.send_line(line);
        if line == "pause" {
            transport.pause_producing();
        }
    });
    assert_eq!(answers(&pair, "a\npause\nb\nc\n"), ("a\npause\n".into(), 1));
    let before = pair.writes(End::Server);
    pair.server().resume_producing();
    pair.settle();
    assert_eq!((seen(&pair).as_str(), pair.writes(End::Server) - before), ("a\npause\nb\nc\n", 1));
}

/// Answers each line when its Deferred fires, and suspends delivery meanwhile.
#[protocol(lines(delimiter = b"\n"))]
struct Waiting {
    #[init(Rc::default())]
    waits: Rc<RefCell<VecDeque<Resolver<()>>>>,
}

#[protocol]
impl Waiting {
    #[inline_callbacks]
    fn line_received(this: Handle<Self>, line: Vec<u8>) -> Deferred<()> {
        this.send_line(&line);
        this.send_line("...");
        if line == b"wait" {
            let (wait, resolver) = Deferred::new();
            yield_!(this.with(move |this| this.waits.borrow_mut().push_back(resolver)))?;
            yield_!(wait)?;
            this.send_line("done");
        }
        return_value!(())
    }
}

#[test]
fn a_handler_that_waits_in_the_middle_of_a_burst_sends_the_corked_bytes() {
    let pair = join(Waiting::factory());
    pair.client().write("a\nwait\nb\n");
    pair.settle();
    assert_eq!((seen(&pair).as_str(), pair.writes(End::Server)), ("a\n...\nwait\n...\n", 1));
    let resolver = pair.server().try_with(|server| server.waits.borrow_mut().pop_front());
    resolver.unwrap().unwrap().callback(());
    pair.settle();
    assert_eq!(seen(&pair), "a\n...\nwait\n...\ndone\nb\n...\n");
}

#[test]
fn a_close_in_the_middle_of_a_burst_sends_what_was_written_by_the_same_code() {
    let (pair, log) = pair(|transport, line| {
        transport.send_line(line);
        if line == "quit" {
            transport.lose_connection();
            transport.send_line("bye");
        }
    });
    let (text, writes) = answers(&pair, "a\nb\nquit\nnever\n");
    assert_eq!((text.as_str(), writes), ("a\nb\nquit\nbye\n", 1));
    assert_eq!(log.take(), ["lost ConnectionDone"]);
}

#[test]
fn writes_are_dropped_when_the_code_that_closes_has_returned() {
    let later = Log::new();
    let noted = later.clone();
    let (pair, _) = pair(move |transport, line| {
        transport.write(format!("{line} "));
        transport.fail(Failure::message("enough"));
        transport.write("same code ");
        noted.add("closed");
    });
    let _reports = crate::support::Reports::new();
    let (server, reactor) = (pair.server().transport().clone(), pair.reactor());
    // a delayed call of the same turn is separate code
    reactor.call_later(Duration::ZERO, {
        let server = server.clone();
        move || {
            server.lose_connection();
            server.write("one ");
        }
    });
    reactor.call_later(Duration::ZERO, move || server.write("other code"));
    pair.settle();
    assert_eq!(seen(&pair), "one ");
    assert!(later.take().is_empty());
}

#[test]
fn a_queued_call_is_separate_from_the_handler_that_closes() {
    let calls: Rc<RefCell<Option<Handle<Server>>>> = Rc::default();
    let inside = calls.clone();
    let (pair, _) = pair(move |transport, _| {
        transport.write("first ");
        transport.lose_connection();
        if let Some(handle) = &*inside.borrow() {
            handle.tell(|server| server.transport.write("queued"));
        }
        transport.write("last");
    });
    calls.replace(Some(pair.server().clone()));
    let (text, _) = answers(&pair, "go\n");
    assert_eq!(text, "first last");
    calls.take();
}

#[test]
fn an_abort_drops_what_is_corked() {
    let (pair, log) = pair(|transport, line| {
        transport.send_line(line);
        if line == "abort" {
            transport.abort_connection();
        }
    });
    assert_eq!(answers(&pair, "a\nabort\n").0, "");
    assert_eq!(log.take(), ["lost ConnectionAborted"]);
}

#[test]
fn a_half_close_sends_what_is_corked_and_nothing_after_it() {
    let (pair, _) = pair(|transport, line| {
        transport.send_line(line);
        if line == "end" {
            transport.lose_write_connection();
            transport.send_line("never");
        }
    });
    assert_eq!(answers(&pair, "a\nend\n"), ("a\nend\n".into(), 1));
}

/// Produces one piece each time it is resumed.
struct Pieces {
    to: Transport,
    left: Cell<u32>,
}

impl Producer for Pieces {
    fn resume_producing(&self) {
        if self.left.get() == 0 {
            return self.to.unregister_producer();
        }
        self.left.set(self.left.get() - 1);
        self.to.write(format!("p{} ", self.left.get()));
    }

    fn stop_producing(&self) {}
}

#[test]
fn a_pull_producer_registered_in_a_burst_writes_behind_what_is_corked() {
    let (pair, _) = pair(|transport, line| {
        transport.write(format!("{line} "));
        if line == "pull" {
            let pieces = Pieces { to: transport.clone(), left: Cell::new(2) };
            transport.register_producer(Rc::new(pieces), ProducerKind::Pull).unwrap();
        }
    });
    let (text, _) = answers(&pair, "a\npull\nb\n");
    assert_eq!(text, "a pull p1 b p0 ");
}

#[test]
fn drained_and_resume_run_in_a_turn_and_never_inside_a_flush() {
    let log = Log::new();
    let noted = log.clone();
    let (pair, _) = pair(move |transport, _| {
        transport.write(vec![b'x'; 150]);
        let watched = noted.clone();
        watch(transport.drained().map(move |()| watched.add("drained")));
        noted.add("before");
        transport.flush();
        noted.add("after");
    });
    pair.set_send_buffer(100);
    assert_eq!(answers(&pair, "go\n").0.len(), 150);
    assert_eq!(log.take(), ["before", "after", "drained"]);
}

#[derive(Debug, Clone)]
enum Act {
    Write(usize),
    Sequence(Vec<usize>),
    Flush,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0usize..300).prop_map(Act::Write),
        1 => (60_000usize..140_000).prop_map(Act::Write),
        1 => prop::collection::vec(0usize..200, 0..5).prop_map(Act::Sequence),
        1 => Just(Act::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    /// Whatever handlers do in a burst, and for every size of reads and buffers: every byte
    /// arrives, in order.
    #[test]
    fn any_burst_keeps_bytes_and_order(
        acts in prop::collection::vec(prop::collection::vec(act(), 0..6), 1..8),
        room in prop_oneof![1_000usize..2_000, 50_000usize..200_000],
        chunk in prop_oneof![1usize..4, Just(usize::MAX)],
        close in any::<bool>(),
    ) {
        let (script, expected) = (acts.clone(), Rc::new(RefCell::new(Vec::new())));
        let (next, into) = (Cell::new(0u8), expected.clone());
        let (pair, _) = pair(move |transport, line| {
            let piece = |size: usize| {
                next.set((next.get() + 1) % 26);
                let piece = vec![b'a' + next.get(); size];
                into.borrow_mut().extend_from_slice(&piece);
                piece
            };
            let at: usize = line.parse().unwrap();
            for act in &script[at] {
                match act {
                    Act::Write(size) => transport.write(piece(*size)),
                    Act::Sequence(sizes) => {
                        let pieces: Vec<_> = sizes.iter().map(|size| piece(*size)).collect();
                        transport.write_sequence(pieces);
                    }
                    Act::Flush => transport.flush(),
                }
            }
            if close && at + 1 == script.len() {
                transport.lose_connection();
                transport.write(piece(10));
            }
        });
        pair.set_send_buffer(room);
        pair.set_chunk_size(chunk.max(if room > 10_000 { 1_000 } else { 1 }));
        let lines: String = text(0..acts.len(), |n| format!("{n}\n"));
        pair.client().write(lines);
        pair.settle();
        prop_assert!(*pair.seen.borrow() == *expected.borrow());
    }
}

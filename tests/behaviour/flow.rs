//! Producers, marks and pipes.
use crate::support::{
    Log, Noting, Pair, Reports, Source, accepted, connected, keep_made, run_until, short, watch,
};
use proptest::prelude::*;
use std::{cell::Cell, rc::Rc, time::Duration};
use twistor::{
    error::{CancelledError, ConnectionDone, RuntimeError},
    protocol::{
        Consumer, Handle, Producer, ProducerKind, Protocol, Raw, Transport, WriteMarks, pipe,
    },
    reactor::Reactor,
    testing::MemoryReactor,
    transport::{ConnectTcpOptions, ListenTcpOptions},
};

#[test]
fn t_069_a_full_network_keeps_what_is_written_and_is_no_error() {
    let pair = Pair::new(3);
    pair.server.pause_producing();
    pair.client.write("abc");
    pair.client.write("def");
    pair.client.write_sequence(["g", "hi"]);
    pair.memory.settle();
    assert_eq!(
        (pair.client.queued(), pair.client.is_connected(), pair.at_client.take()),
        (6, true, vec![])
    );
    pair.server.resume_producing();
    pair.memory.settle();
    assert_eq!(
        (pair.at_server.take(), pair.client.queued()),
        (vec!["data abc".into(), "data def".into(), "data ghi".into()], 0)
    );
}

#[test]
fn t_074_a_push_producer_is_paused_in_the_write_that_fills_and_resumed_when_it_has_drained() {
    let pair = Pair::new(400);
    let log = Log::new();
    assert_eq!(pair.client.write_marks(), WriteMarks { low: 0, high: 65536 });
    pair.client.set_write_marks(0, 500);
    pair.client.register_producer(Source::new(&log, || ()), ProducerKind::Push).unwrap();
    pair.server.pause_producing();
    pair.client.write_sequence([[b'x'; 500], [b'y'; 500]]);
    assert_eq!((log.take(), pair.client.queued()), (vec!["pause".to_owned()], 600));
    pair.client.write("z");
    assert_eq!(log.take(), [""; 0], "once");
    pair.server.resume_producing();
    pair.memory.settle();
    assert_eq!(
        (log.take(), pair.arrived(), pair.client.queued()),
        (vec!["resume".to_owned()], 1001, 0)
    );
}

#[test]
fn a_full_queue_that_is_not_above_the_high_mark_does_not_pause_the_producer() {
    let pair = Pair::new(100);
    let log = Log::new();
    pair.client.set_write_marks(0, 500);
    pair.client.register_producer(Source::new(&log, || ()), ProducerKind::Push).unwrap();
    pair.client.write([b'x'; 600]);
    assert_eq!((log.take(), pair.client.queued()), (vec![], 500));
    pair.client.write("x");
    assert_eq!(log.take(), ["pause"]);
}

#[test]
fn a_low_mark_resumes_before_the_queue_is_empty() {
    let pair = Pair::new(100);
    let log = Log::new();
    pair.client.set_write_marks(300, 500);
    assert_eq!(pair.client.write_marks(), WriteMarks { low: 300, high: 500 });
    let queued = pair.client.transport().clone();
    let seen = log.clone();
    pair.client
        .register_producer(Source::new(&log, move || seen.add(queued.queued())), ProducerKind::Push)
        .unwrap();
    pair.client.write([b'x'; 700]);
    assert_eq!(log.take(), ["pause"]);
    pair.memory.settle();
    assert_eq!(log.take(), ["resume", "300"]);
    pair.client.set_write_marks(9, 5);
    assert_eq!(
        pair.client.write_marks(),
        WriteMarks { low: 5, high: 5 },
        "a low mark above the high one counts as it"
    );
}

#[test]
fn t_075_r_097_r_099_a_pull_producer_is_asked_at_once_and_each_time_the_piece_before_has_been_sent()
{
    let pair = Pair::new(100);
    let log = Log::new();
    let left = Rc::new(Cell::new(3));
    let to = pair.client.transport().clone();
    pair.client.set_write_marks(0, 10);
    let producer = Source::new(&log, move || {
        if left.get() == 0 {
            to.stop_consuming();
        } else {
            left.set(left.get() - 1);
            // above the high mark, with both kinds of write
            to.write([b'x'; 150]);
            to.write_sequence([[b'y'; 150]]);
        }
    });
    pair.client.register_producer(producer, ProducerKind::Pull).unwrap();
    assert_eq!(log.take(), ["resume"], "inside the registration");
    pair.server.pause_producing();
    pair.memory.settle();
    assert_eq!(
        (log.take(), pair.client.queued()),
        (vec![], 200),
        "not before it has been sent, and never paused"
    );
    pair.server.resume_producing();
    pair.memory.settle();
    assert_eq!(log.take(), ["resume", "resume", "resume"]);
    let lines = pair.at_server.take();
    assert_eq!(
        lines.iter().filter_map(|line| line.strip_prefix("data ")).map(str::len).sum::<usize>(),
        900
    );
    assert_eq!(lines.last().unwrap(), "lost ConnectionDone");
    assert_eq!(pair.at_client.take(), ["lost ConnectionDone"]);
}

#[test]
fn a_pull_producer_that_writes_nothing_is_not_asked_again_until_something_is_written() {
    let pair = Pair::new(100);
    let log = Log::new();
    pair.client.register_producer(Source::new(&log, || ()), ProducerKind::Pull).unwrap();
    pair.memory.settle();
    assert_eq!(log.take(), ["resume"]);
    pair.client.write("now");
    pair.memory.settle();
    assert_eq!(log.take(), ["resume"]);
}

#[test]
fn t_076_r_098_a_second_producer_is_an_error_and_a_lost_transport_stops_its_producer_at_once() {
    let pair = Pair::new(100);
    let log = Log::new();
    let producer = Source::new(&log, || ());
    pair.client.register_producer(producer.clone(), ProducerKind::Push).unwrap();
    let failure = pair.client.register_producer(producer.clone(), ProducerKind::Pull).unwrap_err();
    assert!(
        failure.check::<RuntimeError>()
            && failure.to_string().contains(&pair.client.peer().to_string()),
        "{failure}"
    );
    assert_eq!(log.take(), [""; 0]);
    pair.server.abort_connection();
    pair.memory.settle();
    assert_eq!(log.take(), ["stop"], "the loss stops it");
    pair.client.register_producer(producer.clone(), ProducerKind::Pull).unwrap();
    assert_eq!(log.take(), ["stop"], "at once");
    assert_eq!(Rc::strong_count(&producer), 1, "nothing holds it");
    Transport::default().register_producer(producer, ProducerKind::Pull).unwrap();
    assert_eq!(log.take(), ["stop"]);
}

#[test]
fn the_end_comes_in_its_order_producer_first_then_the_protocol() {
    let pair = Pair::new(100);
    pair.client.register_producer(Source::new(&pair.at_client, || ()), ProducerKind::Push).unwrap();
    pair.server.abort_connection();
    pair.memory.settle();
    assert_eq!(pair.at_client.take(), ["stop", "lost ConnectionLost"]);
}

#[test]
fn t_077_lose_connection_waits_for_the_producer_whose_writes_still_go_out() {
    let pair = Pair::new(100);
    let log = Log::new();
    pair.client.register_producer(Source::new(&log, || ()), ProducerKind::Push).unwrap();
    pair.client.lose_connection();
    pair.memory.settle();
    assert!(!pair.client.is_connected());
    pair.client.write("still ");
    pair.client.write_sequence(["going"]);
    pair.memory.settle();
    assert_eq!(pair.at_server.take(), ["data still going"]);
    pair.client.unregister_producer();
    pair.client.write("dropped");
    pair.memory.settle();
    assert_eq!(pair.at_server.take(), ["lost ConnectionDone"]);
    assert_eq!(
        (log.take(), pair.at_client.take()),
        (vec![], vec!["lost ConnectionDone".to_owned()])
    );
}

#[test]
fn a_failure_of_the_connection_does_not_wait_for_the_producer() {
    let pair = Pair::new(100);
    let log = Log::new();
    pair.client.register_producer(Source::new(&log, || ()), ProducerKind::Push).unwrap();
    pair.client.fail(crate::support::Bang("enough"));
    assert_eq!(log.take(), [""; 0], "in a later turn");
    pair.memory.settle();
    assert_eq!(
        (log.take(), pair.at_client.take()),
        (vec!["stop".to_owned()], vec!["lost Bang".to_owned()])
    );
}

#[test]
fn t_078_unregistering_in_connection_lost_after_a_peer_s_close_does_nothing() {
    struct Unregisters(Log);
    impl Protocol for Unregisters {
        type Framing = Raw;
        fn connection_made(&mut self, this: &Handle<Self>) {
            this.register_producer(Source::new(&self.0, || ()), ProducerKind::Push).unwrap();
            this.lose_connection();
        }
        fn connection_lost(&mut self, this: &Handle<Self>, reason: &twistor::failure::Failure) {
            this.unregister_producer();
            this.write("nobody");
            self.0.add(short(reason));
        }
    }
    let memory = MemoryReactor::new();
    let log = Log::new();
    keep_made();
    let (inside, place) = (log.clone(), ([127, 0, 0, 1], 80));
    let aborts =
        |_: &twistor::address::Address| Noting { log: Log::new(), on_data: Noting::nothing };
    let port = memory.reactor().listen_tcp(place, aborts, &ListenTcpOptions::default()).unwrap();
    let connected = watch(memory.reactor().connect_tcp(
        place,
        move |_: &twistor::address::Address| Unregisters(inside.clone()),
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    drop(connected.value());
    accepted(80).abort_connection();
    memory.settle();
    assert_eq!(log.take(), ["stop", "ConnectionLost"]);
    port.stop_listening().detach();
    memory.reactor().close();
}

#[test]
fn t_079_pausing_stops_the_reading_and_resuming_starts_it_again() {
    let pair = Pair::new(100);
    pair.server.pause_producing();
    pair.client.write("a");
    pair.memory.settle();
    assert_eq!(pair.at_server.take(), [""; 0]);
    pair.server.resume_producing();
    pair.memory.settle();
    assert_eq!(pair.at_server.take(), ["data a"]);
}

#[test]
fn t_097_abort_in_a_pull_producer_stops_it_before_connection_lost_in_a_later_turn() {
    for exchanged in [false, true] {
        let pair = Pair::new(100);
        if exchanged {
            pair.server.write("hello");
            pair.client.write("hello");
            pair.memory.settle();
            pair.at_client.take();
        }
        let (log, to) = (pair.at_client.clone(), pair.client.transport().clone());
        let inside = log.clone();
        let producer = Source::new(&log, move || {
            to.abort_connection();
            inside.add("aborted");
        });
        pair.client.register_producer(producer, ProducerKind::Pull).unwrap();
        assert_eq!(log.take(), ["resume", "aborted"]);
        pair.memory.settle();
        assert_eq!(log.take(), ["stop", "lost ConnectionAborted"]);
    }
}

#[test]
fn t_100_a_panic_in_a_producer_is_the_reason_also_after_an_abort_and_reported_once() {
    let pair = Pair::new(100);
    let reports = Reports::new();
    let to = pair.client.transport().clone();
    let producer = Source::new(&pair.at_client, move || {
        to.abort_connection();
        panic!("no more");
    });
    pair.client.register_producer(producer, ProducerKind::Pull).unwrap();
    pair.memory.settle();
    assert_eq!(pair.at_client.take(), ["resume", "stop", "lost Panicked"]);
    let seen = reports.take();
    assert!(
        seen.len() == 1 && seen[0].contains("no more") && seen[0].contains("resume_producing"),
        "{seen:?}"
    );
}

#[test]
fn a_panic_in_pause_closes_the_connection_and_not_the_writer() {
    let pair = Pair::new(10);
    let reports = Reports::new();
    struct Panics;
    impl Producer for Panics {
        fn pause_producing(&self) {
            panic!("cannot wait");
        }
        fn resume_producing(&self) {}
        fn stop_producing(&self) {}
    }
    pair.client.set_write_marks(0, 10);
    pair.client.register_producer(Rc::new(Panics), ProducerKind::Push).unwrap();
    pair.client.write([b'x'; 100]);
    pair.memory.settle();
    assert_eq!(pair.at_client.take(), ["lost Panicked"]);
    assert_eq!(reports.take().len(), 1);
    assert_eq!(pair.arrived(), 100, "what was written goes out");
}

#[test]
fn r_100_a_push_producer_that_fills_the_queue_in_its_resume_is_paused_in_it_each_time() {
    for sequence in [false, true] {
        let pair = Pair::new(100);
        let log = Log::new();
        pair.client.set_write_marks(0, 500);
        let (to, left) = (pair.client.transport().clone(), Cell::new(3));
        let producer = Source::new(&log, move || {
            if left.replace(left.get() - 1) > 0 {
                if sequence {
                    to.write_sequence([[b'x'; 700]]);
                } else {
                    to.write([b'x'; 700]);
                }
            }
        });
        pair.client.register_producer(producer, ProducerKind::Push).unwrap();
        pair.client.write([b'x'; 700]);
        pair.memory.settle();
        assert_eq!(
            log.take(),
            ["pause", "resume", "pause", "resume", "pause", "resume", "pause", "resume"]
        );
        assert_eq!(pair.arrived(), 2800);
    }
}

#[test]
fn drained_fires_at_the_low_mark_fails_with_the_loss_and_can_be_cancelled() {
    let pair = Pair::new(100);
    assert!(!watch(pair.client.drained()).is_pending(), "nothing is queued");
    pair.client.write([b'x'; 700]);
    let (all, enough) = (watch(pair.client.drained()), pair.client.drained());
    enough.cancel();
    assert!(watch(enough).failure().check::<CancelledError>());
    assert!(all.is_pending());
    pair.memory.settle();
    all.value();
    assert_eq!(pair.arrived(), 700);
    pair.client.write([b'x'; 700]);
    let (lost, cut) = (watch(pair.client.drained()), pair.server.transport());
    cut.abort_connection();
    pair.memory.settle();
    assert_eq!(short(&lost.failure()), "ConnectionLost");
    assert_eq!(short(&watch(pair.client.drained()).failure()), "ConnectionLost");
    assert!(watch(Transport::default().drained()).failure().check::<ConnectionDone>());
}

#[test]
fn a_coroutine_that_waits_for_drained_after_each_piece_queues_no_more_than_one() {
    use twistor::prelude::*;
    #[inline_callbacks]
    fn send(to: Transport, most: Rc<Cell<usize>>) -> Deferred<()> {
        for _ in 0..1000 {
            to.write([b'x'; 250]);
            most.set(most.get().max(to.queued()));
            yield_!(to.drained())?;
        }
        return_value!(())
    }
    let pair = Pair::new(100);
    let most = Rc::new(Cell::new(0));
    let sent = watch(send(pair.client.transport().clone(), most.clone()));
    pair.memory.settle();
    sent.value();
    // 100 bytes of the first piece are sent at once; the next pieces are corked, and sent while it
    // waits
    assert_eq!((pair.arrived(), most.get()), (250_000, 150));
}

#[test]
fn a_reader_that_stops_reading_makes_its_writer_queue_the_high_mark_and_one_chunk() {
    use std::{io::Read, net::TcpStream};
    const CHUNK: usize = 16 * 1024;
    /// More than the operating system's buffers hold, however much they grow.
    const TOTAL: usize = 48 << 20;
    /// Writes chunk after chunk until it is paused.
    struct Fills {
        to: Transport,
        paused: Cell<bool>,
        written: Cell<usize>,
    }
    impl Fills {
        fn fill(&self) {
            while !self.paused.get() && self.written.get() < TOTAL {
                self.written.set(self.written.get() + CHUNK);
                self.to.write(vec![b'x'; CHUNK]);
            }
        }
    }
    impl Producer for Fills {
        fn pause_producing(&self) {
            self.paused.set(true);
        }
        fn resume_producing(&self) {
            self.paused.set(false);
            self.fill();
        }
        fn stop_producing(&self) {}
    }
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    keep_made();
    let port = reactor
        .listen_tcp(
            ([127, 0, 0, 1], 0),
            Noting::factory(&log, Noting::nothing),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let at = port.host().socket_addr().unwrap();
    let mut reader = TcpStream::connect(at).unwrap();
    run_until(&reactor, || !log.take().is_empty());
    let to = accepted(at.port()).transport().clone();
    let fills = Rc::new(Fills { to: to.clone(), paused: Cell::new(false), written: Cell::new(0) });
    to.register_producer(fills.clone(), ProducerKind::Push).unwrap();
    fills.fill();
    for _ in 0..20 {
        reactor.iterate(Duration::from_millis(1)).unwrap();
        assert!(fills.paused.get() && to.queued() <= 65536 + CHUNK, "{}", to.queued());
    }
    // and when the peer reads again, every byte arrives
    reader.set_nonblocking(true).unwrap();
    let (mut all, mut buffer) = (0, vec![0; 65536]);
    run_until(&reactor, || {
        while let Ok(read) = reader.read(&mut buffer) {
            all += read;
        }
        assert!(to.queued() <= 65536 + CHUNK);
        all == TOTAL
    });
    to.unregister_producer();
    reactor.close();
}

/// `left` and `right` are two connections; their inner ends are piped.
struct Piped {
    memory: MemoryReactor,
    left: Handle<Noting>,
    right: Handle<Noting>,
    inner: [Transport; 2],
    at_left: Log,
    at_right: Log,
    between: Log,
}

impl Piped {
    fn new(buffer: usize) -> Self {
        let memory = MemoryReactor::new();
        memory.set_send_buffer(buffer);
        let (at_left, at_right, between) = (Log::new(), Log::new(), Log::new());
        let (left, one) = connected(&memory, &between, &at_left);
        let (right, other) = connected(&memory, &between, &at_right);
        for log in [&at_left, &at_right, &between] {
            log.take();
        }
        let inner = [one.transport().clone(), other.transport().clone()];
        Self { memory, left, right, inner, at_left, at_right, between }
    }

    fn pipe(self) -> Self {
        pipe(&self.inner[0], &self.inner[1]);
        self
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        self.memory.reactor().close();
    }
}

fn bytes(log: &Log) -> usize {
    log.take().iter().filter_map(|line| line.strip_prefix("data ")).map(str::len).sum()
}

#[test]
fn p_060_p_061_a_pipe_carries_bytes_both_ways_with_back_pressure_past_the_protocols() {
    let piped = Piped::new(1000).pipe();
    piped.left.write("to the right");
    piped.right.write("to the left");
    piped.memory.settle();
    assert_eq!(piped.at_right.take(), ["data to the right"]);
    assert_eq!(piped.at_left.take(), ["data to the left"]);
    assert_eq!(piped.between.take(), [""; 0]);
    // the reader stops: the queues in between stay below the high mark plus one read
    piped.inner[1].set_write_marks(0, 2000);
    piped.right.pause_producing();
    piped.left.write(vec![b'x'; 1_000_000]);
    piped.memory.settle();
    let between = piped.inner[1].queued();
    assert!((2001..=3000).contains(&between), "{between}");
    assert_eq!(
        piped.left.queued(),
        1_000_000 - between - 1000 - 1000,
        "the rest waits with the writer, but for the two networks"
    );
    piped.right.resume_producing();
    piped.memory.settle();
    assert_eq!((bytes(&piped.at_right), piped.left.queued()), (1_000_000, 0));
}

#[test]
fn a_pipe_carries_half_closes_and_ends_with_both() {
    let piped = Piped::new(1000).pipe();
    piped.left.write("last words");
    piped.left.lose_write_connection();
    piped.memory.settle();
    // the far side is not half-closeable: its connection closes at the end of file
    assert_eq!(piped.at_right.take(), ["data last words", "lost ConnectionDone"]);
    assert_eq!(piped.at_left.take(), ["lost ConnectionDone"]);
    assert_eq!(piped.between.take(), ["lost ConnectionDone", "lost ConnectionDone"]);
    assert_eq!(piped.inner.each_ref().map(Transport::is_connected), [false, false]);
}

#[test]
fn a_lost_side_closes_the_other_after_its_queue_was_sent() {
    let piped = Piped::new(100).pipe();
    piped.right.pause_producing();
    piped.left.write([b'x'; 1000]);
    piped.memory.settle();
    piped.left.abort_connection();
    piped.memory.settle();
    assert_eq!(piped.between.take(), ["lost ConnectionLost"], "the other is still sending");
    piped.right.resume_producing();
    piped.memory.settle();
    let lines = piped.at_right.take();
    assert_eq!(lines.last().unwrap(), "lost ConnectionDone");
    assert!(
        lines.iter().filter_map(|line| line.strip_prefix("data ")).map(str::len).sum::<usize>()
            >= 800
    );
    assert_eq!(piped.between.take(), ["lost ConnectionDone"]);
}

#[test]
fn piping_with_a_lost_side_closes_the_other() {
    let piped = Piped::new(100);
    piped.left.abort_connection();
    piped.memory.settle();
    let piped = piped.pipe();
    piped.memory.settle();
    assert_eq!(piped.at_right.take(), ["lost ConnectionDone"]);
}

#[test]
fn a_producer_that_was_there_before_the_pipe_is_stopped() {
    let piped = Piped::new(100);
    let log = Log::new();
    piped.inner[1].register_producer(Source::new(&log, || ()), ProducerKind::Push).unwrap();
    let piped = piped.pipe();
    assert_eq!(log.take(), ["stop"]);
    piped.left.write("hello");
    piped.memory.settle();
    assert_eq!(piped.at_right.take(), ["data hello"]);
}

#[test]
fn a_transport_is_a_consumer_and_a_producer() {
    fn feed(to: &dyn Consumer) {
        to.write(b"fed");
    }
    let pair = Pair::new(100);
    feed(pair.client.transport());
    Producer::pause_producing(pair.server.transport());
    pair.memory.settle();
    assert_eq!(pair.at_server.take(), [""; 0]);
    Producer::resume_producing(pair.server.transport());
    pair.memory.settle();
    assert_eq!(pair.at_server.take(), ["data fed"]);
    Producer::stop_producing(pair.server.transport());
    pair.memory.settle();
    assert_eq!(pair.at_client.take(), ["lost ConnectionDone"]);
}

/// The events of a connection whose writes have to wait.
#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Sequence(Vec<usize>),
    Turns(u8),
    Pause,
    Resume,
    Marks(usize, usize),
    Register(bool),
    Unregister,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![Just(0usize), 1usize..40, 300usize..600, 15_000usize..20_000];
    prop_oneof![
        4 => size.clone().prop_map(Step::Write),
        2 => prop::collection::vec(size, 0..5).prop_map(Step::Sequence),
        3 => (1u8..6).prop_map(Step::Turns),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => (0usize..900, 0usize..900).prop_map(|(low, high)| Step::Marks(low, high)),
        1 => any::<bool>().prop_map(Step::Register),
        1 => Just(Step::Unregister),
    ]
}

/// Whether a producer was paused and resumed in alternation, and the queue never above its mark
/// while it was not paused.
fn in_turn(told: &[String]) -> bool {
    let told: Vec<_> = told.iter().filter(|told| *told != "stop").collect();
    told.chunks(2)
        .all(|pair| pair[0] == "pause" && pair.get(1).is_none_or(|next| *next == "resume"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(100)
    })]

    /// Writes, partial flushes, marks, producers and a close keep every byte and their order.
    #[test]
    fn any_interleaving_keeps_bytes_and_order(
        buffer in prop_oneof![50usize..60, 500usize..2000],
        steps in prop::collection::vec(step(), 1..40),
        half in any::<bool>(),
    ) {
        let memory = MemoryReactor::new();
        memory.set_send_buffer(buffer);
        let at_server = Log::new();
        let (client, server) = connected(&memory, &at_server, &Log::new());
        at_server.take();
        let mut expected = String::new();
        let log = Log::new();
        let mut next = 0u8;
        let mut piece = |size: usize, expected: &mut String| {
            next = (next + 1) % 26;
            let piece = String::from_utf8(vec![b'a' + next; size]).unwrap();
            expected.push_str(&piece);
            piece
        };
        let mut registered = false;
        for step in &steps {
            match step {
                Step::Write(size) => client.write(piece(*size, &mut expected)),
                Step::Sequence(sizes) => {
                    let pieces = sizes.iter().map(|size| piece(*size, &mut expected));
                    client.write_sequence(pieces.collect::<Vec<_>>());
                }
                Step::Turns(turns) => (0..*turns)
                    .for_each(|_| memory.reactor().iterate(Duration::ZERO).unwrap()),
                Step::Pause => server.pause_producing(),
                Step::Resume => server.resume_producing(),
                Step::Marks(low, high) => client.set_write_marks(*low, *high),
                Step::Register(push) => {
                    let kind = if *push { ProducerKind::Push } else { ProducerKind::Pull };
                    // pull producers are resumed at their registration too, so only push producers
                    // are recorded
                    let noted = if *push { log.clone() } else { Log::new() };
                    let done = client.register_producer(Source::new(&noted, || ()), kind);
                    prop_assert_eq!(done.is_err(), registered);
                    registered = true;
                }
                Step::Unregister => {
                    client.unregister_producer();
                    registered = false;
                    prop_assert!(in_turn(&log.take()));
                }
            }
            prop_assert!(client.queued() <= expected.len());
            if client.queued() == 0 {
                watch(client.drained()).value();
            }
        }
        let drained = watch(client.drained());
        if half {
            client.lose_write_connection();
        } else {
            client.lose_connection();
        }
        client.unregister_producer();
        client.write("after the end");
        if !half {
            // the same code has requested the close
            expected.push_str("after the end");
        }
        server.resume_producing();
        memory.settle();
        drained.value();
        let seen = at_server.take();
        let data: String = seen.iter().filter_map(|line| line.strip_prefix("data ")).collect();
        prop_assert!(data == expected, "{} bytes of {}", data.len(), expected.len());
        prop_assert_eq!(seen.last().map(String::as_str), Some("lost ConnectionDone"));
        prop_assert!(in_turn(&log.take()));
        memory.reactor().close();
    }
}

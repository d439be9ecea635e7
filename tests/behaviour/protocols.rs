//! `#[protocol]`, factories and handles, over memory.
use crate::support::{Bang, Log, Reports, connect, short, watch};
use std::{cell::RefCell, collections::VecDeque, net::Ipv4Addr, rc::Rc};
use twistor::{
    error::{AbandonedError, CancelledError, ConnectionDone, Panicked},
    prelude::*,
    protocol::{Factory as _, IntoFactory, NotNow},
    testing::MemoryReactor,
    transport::{ConnectTcpOptions, ListenTcpOptions},
};

/// A server with `factory` in memory and a client that records what it receives.
struct Pair {
    memory: MemoryReactor,
    client: Handle<Client>,
    got: Log,
}

#[protocol]
struct Client {
    got: Log,
}

#[protocol]
impl Client {
    fn data_received(&mut self, data: &[u8]) {
        self.got.add(String::from_utf8_lossy(data));
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.got.add(format!("lost {}", short(reason)));
    }
}

fn pair(factory: impl IntoFactory) -> Pair {
    let (memory, got) = (MemoryReactor::new(), Log::new());
    let noted = got.clone();
    let client = connect(&memory, factory, move |_: &Address| Client { got: noted.clone() });
    Pair { memory, client, got }
}

impl Pair {
    fn send(&self, data: &str) -> Vec<String> {
        self.client.write(data);
        self.memory.settle();
        self.got.take()
    }
}

#[derive(Factory, Default)]
#[factory(protocol = Member)]
struct Club {
    log: Log,
    members: RefCell<Vec<Transport>>,
}

#[protocol(lines(delimiter = b"\n", max_length = 20))]
struct Member {
    #[factory]
    club: Rc<Club>,
    #[transport]
    transport: Transport,
    #[init(7)]
    lives: u32,
    name: Option<String>,
}

#[protocol]
impl Member {
    fn connection_made(&mut self) {
        // the field is set before connection_made
        self.club.members.borrow_mut().push(self.transport.clone());
        self.transport.send_line("name?");
    }

    fn line_received(&mut self, transport: &Transport, line: &[u8]) -> Result<(), Bang> {
        match line {
            b"fail" => return Err(Bang("asked to fail")),
            b"panic" => panic!("asked to panic"),
            b"who" => transport.send_line(self.name.as_deref().unwrap_or("nobody")),
            b"lives" => transport.send_line(self.lives.to_string()),
            name => self.name = Some(String::from_utf8_lossy(name).into_owned()),
        }
        Ok(())
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.club.log.add(format!("{} lost: {reason}", self.name.as_deref().unwrap_or("nobody")));
    }
}

#[test]
fn p_001_r_101_fields_are_filled_before_connection_made_and_handlers_called_by_name() {
    let club = Rc::new(Club::default());
    let pair = pair(club.clone());
    assert_eq!(pair.got.take(), ["name?\n"]);
    assert_eq!(pair.send("ada\nwho\nlives\n"), ["ada\n7\n"]);
    assert_eq!(club.members.borrow().len(), 1);
    pair.client.lose_connection();
    pair.memory.settle();
    assert_eq!(club.log.take(), ["ada lost: Connection was closed cleanly."]);
}

#[test]
fn a_handler_that_fails_or_panics_closes_its_connection_and_is_reported_with_its_name() {
    for (line, text) in [("fail\n", "asked to fail"), ("panic\n", "panicked: asked to panic")] {
        let (reports, club) = (Reports::new(), Rc::new(Club::default()));
        let pair = pair(club.clone());
        pair.got.take();
        assert_eq!(pair.send(line), ["lost ConnectionDone"]);
        assert_eq!(club.log.take(), [format!("nobody lost: {text}")]);
        let reports = reports.take();
        assert!(
            reports.len() == 1 && reports[0].contains("Member") && reports[0].contains(text),
            "{reports:?}"
        );
    }
}

#[test]
fn a_line_over_its_limit_closes_the_connection_with_the_limit_and_the_peer_in_the_reason() {
    let club = Rc::new(Club::default());
    let pair = pair(club.clone());
    pair.got.take();
    assert_eq!(pair.send(&"x".repeat(21)), ["lost ConnectionDone"]);
    let lost = club.log.take();
    let peer = pair.client.host();
    assert_eq!(
        lost,
        [format!(
            "nobody lost: Message is too long to send or to receive: a line of at least 21 bytes \
             from {peer}: the limit is 20."
        )]
    );
}

#[protocol(lines)]
struct Asker {
    #[transport]
    transport: Transport,
    waiting: VecDeque<Resolver<String>>,
    log: Log,
}

#[protocol]
impl Asker {
    fn line_received(&mut self, line: &[u8]) {
        if let Some(waiting) = self.waiting.pop_front() {
            waiting.callback(String::from_utf8_lossy(line).into_owned());
        }
        self.log.add("handled");
    }
}

impl Asker {
    fn ask(&mut self, question: &str) -> Deferred<String> {
        let (answer, resolver) = Deferred::new();
        self.waiting.push_back(resolver);
        self.transport.send_line(question);
        answer
    }
}

/// An asker in memory, and the far end that answers by hand.
fn asker() -> (MemoryReactor, Handle<Asker>, Log, Rc<RefCell<Option<Transport>>>) {
    let (memory, log) = (MemoryReactor::new(), Log::new());
    let reactor = memory.reactor();
    let far: Rc<RefCell<Option<Transport>>> = Rc::default();
    let keep = far.clone();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| Far { keep: keep.clone() },
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let noted = log.clone();
    let make = move |_: &Address| Asker {
        transport: Transport::default(),
        waiting: VecDeque::new(),
        log: noted.clone(),
    };
    let connected = watch(reactor.connect_tcp(
        port.host().socket_addr().unwrap(),
        make,
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    (memory, connected.value(), log, far)
}

#[protocol]
struct Far {
    keep: Rc<RefCell<Option<Transport>>>,
}

#[protocol]
impl Far {
    fn connection_made(&mut self, transport: &Transport) {
        *self.keep.borrow_mut() = Some(transport.clone());
    }
}

#[test]
fn a_call_on_a_free_protocol_runs_now_and_one_inside_a_handler_right_after_it() {
    let (memory, asker, log, far) = asker();
    let answer = asker.call(|asker| asker.ask("one"));
    // fired inside line_received: the next call finds the protocol busy
    let again = asker.clone();
    let noted = log.clone();
    let second = watch(answer.add_callback(move |answer| {
        noted.add(format!("answer {answer}"));
        assert!(matches!(again.try_with(|_| ()), Err(NotNow::Busy)));
        let log = noted.clone();
        again.call(move |asker| {
            log.add("second call");
            asker.ask("two")
        })
    }));
    let far = far.take().unwrap();
    far.write("first\r\n");
    memory.settle();
    assert_eq!(log.take(), ["answer first", "handled", "second call"]);
    far.write("second\r\n");
    memory.settle();
    assert_eq!(second.value(), "second");
}

#[test]
fn queued_calls_run_in_order_and_a_cancelled_one_is_removed_without_running() {
    let (memory, asker, log, far) = asker();
    let (inside, noted) = (asker.clone(), log.clone());
    asker
        .call(|asker| asker.ask("go"))
        .map(move |_| {
            for n in 1..=3 {
                let log = noted.clone();
                let call = inside.with(move |_| log.add(n));
                if n == 2 {
                    call.cancel();
                    assert!(watch(call).failure().check::<CancelledError>());
                } else {
                    call.detach();
                }
            }
        })
        .detach();
    far.take().unwrap().write("now\r\n");
    memory.settle();
    assert_eq!(log.take(), ["handled", "1", "3"]);
}

#[test]
fn a_panic_or_failure_in_a_call_belongs_to_its_caller() {
    let (memory, asker, _log, _far) = asker();
    assert!(
        watch(asker.call(|_| -> Result<(), Failure> { Err(Bang("mine").into()) }))
            .failure()
            .check::<Bang>()
    );
    assert!(watch(asker.with(|_| panic!("mine too"))).failure().check::<Panicked>());
    memory.settle();
    assert!(asker.is_connected());
}

#[test]
fn after_the_end_calls_fail_at_once_with_the_reason_and_pending_calls_are_abandoned() {
    let (memory, asker, _log, far) = asker();
    let waiting = watch(asker.call(|asker| asker.ask("never answered")));
    far.take().unwrap().lose_connection();
    memory.settle();
    assert!(
        waiting.failure().check::<AbandonedError>(),
        "the protocol was dropped, and its Resolvers with it"
    );
    assert!(watch(asker.with(|_| ())).failure().check::<ConnectionDone>());
    assert!(matches!(
        asker.try_with(|_| ()),
        Err(NotNow::Lost(reason)) if reason.check::<ConnectionDone>()
    ));
    asker.tell(|_| panic!("not run"));
    asker.send_line("into the void");
}

#[test]
fn a_protocol_may_hold_its_own_handle_and_is_dropped_all_the_same() {
    struct Probe(Log);
    impl Drop for Probe {
        fn drop(&mut self) {
            self.0.add("dropped");
        }
    }
    #[protocol]
    struct Selfish {
        me: Option<Handle<Selfish>>,
        _probe: Probe,
    }
    #[protocol]
    impl Selfish {
        fn connection_made(&mut self, this: &Handle<Self>) {
            self.me = Some(this.clone());
        }
    }
    let log = Log::new();
    let noted = log.clone();
    let pair = pair(move |_: &Address| Selfish { me: None, _probe: Probe(noted.clone()) });
    pair.client.lose_connection();
    pair.memory.settle();
    assert_eq!(log.take(), ["dropped"]);
}

#[protocol(lines)]
struct Slow {
    log: Log,
    #[init(Rc::default())]
    gates: Rc<RefCell<VecDeque<Resolver<()>>>>,
}

#[protocol]
impl Slow {
    #[inline_callbacks]
    fn line_received(this: Handle<Self>, line: Vec<u8>) -> Deferred<()> {
        let text = String::from_utf8(line)?;
        let gate = yield_!(this.call(|slow| {
            let (gate, resolver) = Deferred::new();
            slow.gates.borrow_mut().push_back(resolver);
            slow.log.add("waits");
            Ok(gate)
        }))?;
        yield_!(gate)?;
        if text == "bad" {
            return Err(Bang("bad line").into());
        }
        this.send_line(text.to_uppercase());
        return_value!(())
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(short(reason));
    }
}

#[test]
fn a_coroutine_handler_starts_with_the_protocol_free_and_suspends_the_next_message() {
    let (log, gates) = (Log::new(), Rc::<RefCell<VecDeque<_>>>::default());
    let (noted, waiting) = (log.clone(), gates.clone());
    let pair = pair(move |_: &Address| Slow { log: noted.clone(), gates: waiting.clone() });
    assert!(pair.send("one\r\ntwo\r\n").is_empty());
    assert_eq!(log.take(), ["waits"], "the second line waits for the first");
    let fire = || {
        let gate: Option<Resolver<()>> = gates.borrow_mut().pop_front();
        gate.unwrap().callback(());
        pair.memory.settle();
    };
    fire();
    assert_eq!(
        (pair.got.take(), log.take()),
        (vec!["ONE\r\n".to_owned()], vec!["waits".to_owned()])
    );
    fire();
    assert_eq!(pair.got.take(), ["TWO\r\n"]);
    // a failure closes the connection
    let reports = Reports::new();
    pair.send("bad\r\n");
    fire();
    assert_eq!(log.take(), ["waits", "Bang"]);
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn a_loss_cancels_a_coroutine_handler_only_with_cancel_on_loss() {
    #[protocol]
    struct Both {
        log: Log,
    }
    #[protocol]
    impl Both {
        #[inline_callbacks]
        #[cancel_on_loss]
        fn connection_made(this: Handle<Self>) -> Deferred<()> {
            let log = yield_!(this.with(|both| both.log.clone()))?;
            let (never, _keep) = Deferred::<()>::new();
            let result = yield_!(never);
            log.add(result.unwrap_err().check::<CancelledError>());
            return_value!(())
        }
    }
    let log = Log::new();
    let noted = log.clone();
    let pair = pair(move |_: &Address| Both { log: noted.clone() });
    pair.client.lose_connection();
    pair.memory.settle();
    assert_eq!(log.take(), ["true"]);
}

#[test]
fn a_coroutine_for_connection_lost_keeps_the_protocol_until_it_is_done() {
    #[protocol]
    struct Lasting {
        log: Log,
        gate: Option<Deferred<()>>,
    }
    #[protocol]
    impl Lasting {
        #[inline_callbacks]
        fn connection_lost(this: Handle<Self>) -> Deferred<()> {
            let gate = yield_!(this.with(|lasting| lasting.gate.take()))?.unwrap();
            yield_!(gate)?;
            yield_!(this.with(|lasting| lasting.log.add("still here")))?;
            return_value!(())
        }
    }
    let log = Log::new();
    let (gate, open) = Deferred::new();
    let (noted, gate) = (log.clone(), RefCell::new(Some(gate)));
    let pair = pair(move |_: &Address| Lasting { log: noted.clone(), gate: gate.take() });
    pair.client.lose_connection();
    pair.memory.settle();
    assert!(log.take().is_empty());
    open.callback(());
    assert_eq!(log.take(), ["still here"]);
}

#[test]
fn send_line_on_another_framing_is_sent_as_that_one_does_and_reported_once() {
    #[protocol]
    struct Unframed;
    #[protocol]
    impl Unframed {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) {
            let _ = data;
            transport.send_line("a");
        }
    }
    let reports = Reports::new();
    let pair = pair(Unframed::factory());
    assert_eq!(pair.send("x"), ["a"]);
    assert_eq!(pair.send("x"), ["a"]);
    let seen = reports.take();
    assert_eq!(seen.len(), 1);
    assert!(
        seen[0].contains("`send_line` is for Lines") && seen[0].contains("framed as Raw"),
        "{seen:?}"
    );
}

#[test]
fn a_framing_of_its_own_has_message_received() {
    #[derive(Default)]
    struct Quads;
    impl twistor::protocol::Framing for Quads {
        type Message<'a> = &'a [u8];
        fn decode<'a>(
            &mut self,
            input: twistor::protocol::Input<'a>,
        ) -> Result<Option<(&'a [u8], usize)>, Failure> {
            if input.data.starts_with(b"!") {
                return Err(Bang("no exclamations").into());
            }
            Ok(input.data.get(..4).map(|quad| (quad, 4)))
        }
    }
    #[protocol(framing = Quads)]
    struct Counter;
    #[protocol]
    impl Counter {
        fn message_received(&mut self, transport: &Transport, message: &[u8]) {
            transport.write(message);
            transport.write(";");
        }
    }
    let (reports, pair) = (Reports::new(), pair(Counter::factory()));
    assert_eq!(pair.send("abcdefg"), ["abcd;"]);
    assert_eq!(pair.send("hij"), ["efgh;"]);
    assert_eq!(pair.send("kl!"), ["ijkl;", "lost ConnectionDone"]);
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn p_005_factories_of_every_kind_build() {
    let address = Address::Unix(None);
    assert!(Rc::new(Unit::factory()).build_protocol(&address).is_some());
    let closure = |_: &Address| Unit;
    assert!(closure.into_factory().build_protocol(&address).is_some());
    let shared = Rc::new(Club::default());
    assert!(Rc::ptr_eq(
        &shared.clone().into_factory().build_protocol(&address).unwrap().club,
        &shared
    ));
}

#[protocol]
struct Unit;

#[protocol]
impl Unit {}

#[test]
fn generic_protocols_and_plain_helpers() {
    #[protocol(lines)]
    struct Generic<T: std::fmt::Display + 'static> {
        value: T,
    }
    #[protocol]
    impl<T: std::fmt::Display + 'static> Generic<T> {
        const GREETING: &'static str = "value";

        fn line_received(&self, this: &Handle<Self>) {
            this.send_line(self.shown());
        }

        fn shown(&self) -> String {
            format!("{} {}", Self::GREETING, self.value)
        }
    }
    let pair = pair(|_: &Address| Generic { value: 5 });
    assert_eq!(pair.send("?\r\n"), ["value 5\r\n"]);
}

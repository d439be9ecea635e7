//! Recycled allocations of closed connections, in which nothing of the old connections shows.
use crate::support::{Bang, Log, Noting, Reports, short, watch};
use std::{
    cell::{Cell, RefCell},
    net::Ipv4Addr,
    rc::Rc,
};
use twistor::{
    prelude::*,
    protocol::{Encoder, Factory, Framing, Handle, Input, IntoFactory, Producer, ProducerKind},
    testing::MemoryReactor,
    transport::{ConnectTcpOptions, ListenTcpOptions, Port},
};

fn listen(memory: &MemoryReactor, factory: impl IntoFactory) -> Port {
    memory
        .reactor()
        .listen_tcp((Ipv4Addr::LOCALHOST, 0), factory, &ListenTcpOptions::default())
        .unwrap()
}

/// A client of `port` that records what it receives.
fn connect(memory: &MemoryReactor, port: &Port, log: &Log) -> Handle<Noting> {
    let client = Noting::factory(log, Noting::nothing);
    let connected = watch(memory.reactor().connect_tcp(
        port.host().socket_addr().unwrap(),
        client,
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    connected.value()
}

/// What a connection may do to itself before it closes.
type Mischief = fn(&Handle<Served>);

/// An echo whose connections do the next mischief of their factory, one each.
struct Served {
    house: Rc<House>,
    last: bool,
}

struct House {
    log: Log,
    mischiefs: RefCell<Vec<Mischief>>,
    /// Keeps an echo's connection, if a test wants that.
    kept: RefCell<Vec<Transport>>,
}

impl Factory for House {
    type Protocol = Served;

    fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Served> {
        Some(Served { house: self.clone(), last: self.mischiefs.borrow().is_empty() })
    }
}

impl Protocol for Served {
    type Framing = twistor::basic::Lines;

    fn connection_made(&mut self, this: &Handle<Self>) {
        self.house.log.add(format!(
            "made {} {:?} {} {:?}",
            this.is_connected(),
            this.write_marks(),
            this.queued(),
            String::from_utf8_lossy(&this.unparsed())
        ));
    }

    fn message_received(&mut self, this: &Handle<Self>, line: twistor::basic::Line<'_>) {
        let twistor::basic::Line::Line(line) = line else { return };
        this.send_line(line);
        if !self.last
            && let Some(mischief) = self.house.mischiefs.borrow_mut().pop()
        {
            mischief(this);
        }
    }

    fn connection_lost(&mut self, _this: &Handle<Self>, reason: &Failure) {
        self.house.log.add(format!("lost {}", short(reason)));
    }
}

/// A producer that is never resumed.
struct Quiet;

impl Producer for Quiet {
    fn pause_producing(&self) {}
    fn resume_producing(&self) {}
    fn stop_producing(&self) {}
}

#[test]
fn a_connection_in_a_recycled_allocation_is_as_new() {
    let mischiefs: [(Mischief, &str); 11] = [
        (|_| (), "ConnectionLost"),
        (
            |this| {
                this.pause_producing();
                this.lose_connection();
            },
            "ConnectionDone",
        ),
        (|this| this.set_write_marks(1, 2), "ConnectionLost"),
        (|this| this.set_raw_mode(), "ConnectionLost"),
        (|this| this.replace_unparsed("half a line"), "ConnectionLost"),
        (|this| this.lose_write_connection(), "ConnectionDone"),
        (|this| this.lose_connection(), "ConnectionDone"),
        (|this| this.abort_connection(), "ConnectionAborted"),
        (|this| this.fail(Bang("mischief")), "Bang"),
        (
            |this| this.register_producer(Rc::new(Quiet), ProducerKind::Push).unwrap(),
            "ConnectionLost",
        ),
        (|this| this.write(vec![b'x'; 100_000]), "ConnectionLost"),
    ];
    for (mischief, end) in mischiefs {
        let memory = MemoryReactor::new();
        memory.set_send_buffer(1000);
        let house = Rc::new(House {
            log: Log::new(),
            mischiefs: RefCell::new(vec![mischief]),
            kept: RefCell::default(),
        });
        let (port, mine) = (listen(&memory, house.clone()), Log::new());
        let first = connect(&memory, &port, &mine);
        let fresh = house.log.take();
        first.write("one\r\n");
        memory.settle();
        first.abort_connection();
        memory.advance(std::time::Duration::from_secs(60));
        assert_eq!(house.log.take(), [format!("lost {end}")]);
        mine.take();
        let second = connect(&memory, &port, &mine);
        assert_eq!(house.log.take(), fresh);
        second.write("two\r\n");
        memory.settle();
        second.lose_connection();
        memory.advance(std::time::Duration::from_secs(60));
        assert_eq!(mine.take(), ["made", "data two\r\n", "lost ConnectionDone"], "after {end}");
        assert_eq!(house.log.take(), ["lost ConnectionDone"]);
    }
}

#[test]
fn a_kept_transport_or_handle_still_shows_its_connection() {
    let memory = MemoryReactor::new();
    let house = Rc::new(House {
        log: Log::new(),
        mischiefs: RefCell::new(vec![|this| {
            let kept = this.transport().clone();
            this.tell(move |served| served.house.kept.borrow_mut().push(kept));
        }]),
        kept: RefCell::default(),
    });
    let (port, mine) = (listen(&memory, house.clone()), Log::new());
    let first = connect(&memory, &port, &mine);
    let peer = first.host();
    first.write("one\r\n");
    memory.settle();
    first.lose_connection();
    memory.settle();
    mine.take();
    let second = connect(&memory, &port, &mine);
    let old = house.kept.borrow_mut().pop().unwrap();
    assert!(!old.is_connected());
    assert_eq!(old.peer(), peer);
    assert_ne!(second.host(), peer);
    // late events are not delivered
    old.write("late");
    old.fail(Bang("late"));
    old.abort_connection();
    old.pause_producing();
    second.write("two\r\n");
    memory.settle();
    assert_eq!(mine.take(), ["made", "data two\r\n"]);
    // the client's handle belongs to a closed connection too
    assert!(!first.is_connected());
    assert_eq!(first.host(), peer);
}

thread_local! {
    static DROPS: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// A framing that counts its drops, and those of its encoders.
#[derive(Default)]
struct Counted {
    used: bool,
}

struct CountedEncoder;

impl Framing for Counted {
    type Message<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: Input<'a>) -> Result<Option<(&'a [u8], usize)>, Failure> {
        self.used = true;
        Ok(Some((input.data, input.data.len())))
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        Some(Box::new(CountedEncoder))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.used {
            DROPS.set((DROPS.get().0 + 1, DROPS.get().1));
            panic!("drop of a framing");
        }
    }
}

impl Encoder for CountedEncoder {
    fn encode(&self, message: &[u8], framed: &mut Vec<u8>) -> Result<(), Failure> {
        framed.extend_from_slice(message);
        Ok(())
    }

    fn name(&self) -> &'static str {
        "Counted"
    }
}

impl Drop for CountedEncoder {
    fn drop(&mut self) {
        DROPS.set((DROPS.get().0, DROPS.get().1 + 1));
        panic!("drop of an encoder");
    }
}

struct Framed;

impl Protocol for Framed {
    type Framing = Counted;
}

#[test]
fn a_framing_and_its_encoder_go_with_their_connection_and_a_panic_in_that_is_reported() {
    let reports = Reports::new();
    let memory = MemoryReactor::new();
    let port = listen(&memory, |_: &Address| Framed);
    for count in 1..=3 {
        let client = connect(&memory, &port, &Log::new());
        client.write("x");
        memory.settle();
        client.lose_connection();
        memory.settle();
        assert_eq!(DROPS.get(), (count, count));
        let told = reports.take();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("drop of an encoder") && told[1].contains("drop of a framing"),
            "{told:?}"
        );
    }
}

/// A framing that only `Protocol::framing` creates.
struct Made;

impl Default for Made {
    fn default() -> Self {
        panic!("made by Protocol::framing")
    }
}

impl Framing for Made {
    type Message<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: Input<'a>) -> Result<Option<(&'a [u8], usize)>, Failure> {
        Ok(Some((input.data, input.data.len())))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        DROPS.set((DROPS.get().0 + 1, 0));
    }
}

struct Making;

impl Protocol for Making {
    type Framing = Made;

    fn framing(&self) -> Made {
        Made
    }
}

#[test]
fn no_bound_is_required_of_a_framing_that_the_protocol_makes_itself() {
    let reports = Reports::new();
    let memory = MemoryReactor::new();
    let port = listen(&memory, |_: &Address| Making);
    for count in 1..=3 {
        let client = connect(&memory, &port, &Log::new());
        client.lose_connection();
        memory.settle();
        assert_eq!((DROPS.get().0, reports.take()), (count, Vec::new()));
    }
}

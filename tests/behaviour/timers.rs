//! The timer queue of the clock and the reactor, compared with a sorted list.
use crate::support::{Log, run_until};
use proptest::prelude::*;
use std::{
    cell::Cell,
    io::{Read, Write},
    net::Ipv4Addr,
    rc::Rc,
    time::Duration,
};
use twistor::{prelude::*, task::Clock, time::DelayedCall, transport::ListenTcpOptions};

#[derive(Debug, Clone, Copy)]
enum Op {
    Add(u64),
    /// A call that schedules another one when it runs.
    AddNested(u64, u64),
    Cancel(usize),
    Reset(usize, u64),
    Delay(usize, u64),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let some = 0..20usize;
    prop_oneof![
        4 => (0..8u64).prop_map(Op::Add),
        1 => (0..8u64, 0..4u64).prop_map(|(at, more)| Op::AddNested(at, more)),
        2 => some.clone().prop_map(Op::Cancel),
        2 => (some.clone(), 0..8u64).prop_map(|(call, at)| Op::Reset(call, at)),
        1 => (some, 0..4u64).prop_map(|(call, more)| Op::Delay(call, more)),
        3 => (0..6u64).prop_map(Op::Advance),
    ]
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn run_real(program: &[Op]) -> Vec<String> {
    let (clock, log) = (Clock::new(), Log::new());
    let mut calls: Vec<DelayedCall> = Vec::new();
    for op in program {
        let number = calls.len();
        let (into, time) = (log.clone(), clock.clone());
        let note = move || into.add(format!("{number} at {}", time.seconds().as_secs()));
        match *op {
            Op::Add(at) => calls.push(clock.call_later(seconds(at), note)),
            Op::AddNested(at, more) => {
                let (inside, into) = (clock.clone(), log.clone());
                calls.push(clock.call_later(seconds(at), move || {
                    note();
                    let time = inside.clone();
                    inside.call_later(seconds(more), move || {
                        into.add(format!("{number} again at {}", time.seconds().as_secs()));
                    });
                }));
            }
            Op::Cancel(at) if number > 0 => log.add(calls[at % number].cancel().is_ok()),
            Op::Reset(call, at) if number > 0 => {
                log.add(calls[call % number].reset(seconds(at)).is_ok());
            }
            Op::Delay(call, more) if number > 0 => {
                log.add(calls[call % number].delay(seconds(more)).is_ok());
            }
            Op::Advance(by) => clock.advance(seconds(by)),
            _ => {}
        }
        let due: Vec<_> = clock.delayed_calls().iter().map(|call| call.time().as_secs()).collect();
        log.add(format!("{due:?}"));
    }
    log.take()
}

/// A call of the model: its due time, its order, and its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    due: u64,
    order: u64,
    number: usize,
    nested: Option<u64>,
    again: bool,
}

fn run_model(program: &[Op]) -> Vec<String> {
    let (mut list, mut log, mut now, mut order, mut made) =
        (Vec::<Call>::new(), Vec::new(), 0, 0u64, 0usize);
    for op in program {
        order += 1;
        let find = |list: &[Call], call: usize| {
            list.iter().position(|other| other.number == call % made.max(1) && !other.again)
        };
        match *op {
            Op::Add(at) => {
                list.push(Call { due: now + at, order, number: made, nested: None, again: false });
                made += 1;
            }
            Op::AddNested(at, more) => {
                list.push(Call {
                    due: now + at,
                    order,
                    number: made,
                    nested: Some(more),
                    again: false,
                });
                made += 1;
            }
            Op::Cancel(call) if made > 0 => {
                let at = find(&list, call);
                at.map(|at| list.remove(at));
                log.push(at.is_some().to_string());
            }
            Op::Reset(call, to) if made > 0 => {
                let at = find(&list, call);
                if let Some(at) = at {
                    list[at].due = now + to;
                }
                log.push(at.is_some().to_string());
            }
            Op::Delay(call, more) if made > 0 => {
                let at = find(&list, call);
                if let Some(at) = at {
                    list[at].due += more;
                }
                log.push(at.is_some().to_string());
            }
            Op::Advance(by) => {
                now += by;
                loop {
                    list.sort();
                    let Some(next) = list.first().copied().filter(|next| next.due <= now) else {
                        break;
                    };
                    list.remove(0);
                    let again = if next.again { "again " } else { "" };
                    log.push(format!("{} {again}at {now}", next.number));
                    if let Some(more) = next.nested {
                        order += 1;
                        list.push(Call {
                            due: now + more,
                            order,
                            nested: None,
                            again: true,
                            ..next
                        });
                    }
                }
            }
            _ => {}
        }
        list.sort();
        log.push(format!("{:?}", list.iter().map(|call| call.due).collect::<Vec<_>>()));
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1000)
    })]

    #[test]
    fn any_program_of_timers_does_what_a_sorted_list_does(
        program in prop::collection::vec(op(), 1..60),
    ) {
        prop_assert_eq!(run_real(&program), run_model(&program));
    }
}

#[test]
fn a_million_timers_are_made_cancelled_and_run_and_a_cancelled_one_is_freed_at_once() {
    const MILLION: u64 = 1_000_000;
    let clock = Clock::new();
    let alive = Rc::new(());
    let calls: Vec<_> = (0..MILLION)
        .map(|n| {
            let held = alive.clone();
            // spread over the hour, not in order
            clock.call_later(Duration::from_millis(n * 7919 % 3_600_000), move || drop(held))
        })
        .collect();
    assert_eq!(Rc::strong_count(&alive) as u64, MILLION + 1);
    for call in calls.iter().step_by(2) {
        call.cancel().unwrap();
    }
    assert_eq!(Rc::strong_count(&alive) as u64, MILLION / 2 + 1);
    assert_eq!(clock.delayed_calls().len() as u64, MILLION / 2);
    clock.advance(Duration::from_secs(1800));
    assert!(Rc::strong_count(&alive) > 1);
    clock.advance(Duration::from_secs(1800));
    assert_eq!(Rc::strong_count(&alive), 1);
    assert!(clock.delayed_calls().is_empty() && calls.iter().all(|call| !call.is_active()));
}

#[test]
fn timers_made_in_a_turn_neither_run_in_it_nor_keep_older_ones_from_running() {
    let reactor = twistor::reactor::Reactor::new().unwrap();
    let (ran, made) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for _ in 0..1000 {
        let (again, ran, made) = (reactor.clone(), ran.clone(), made.clone());
        reactor.call_later(Duration::ZERO, move || {
            ran.set(ran.get() + 1);
            again.call_later(Duration::ZERO, move || made.set(made.get() + 1));
        });
    }
    reactor.iterate(Duration::ZERO).unwrap();
    assert_eq!((ran.get(), made.get()), (1000, 0));
    assert_eq!(reactor.delayed_calls().len(), 1000);
    reactor.iterate(Duration::ZERO).unwrap();
    assert_eq!((ran.get(), made.get()), (1000, 1000));
    assert!(reactor.delayed_calls().is_empty());
}

#[test]
fn a_timer_that_is_moved_back_and_forth_runs_once_at_its_last_time() {
    let clock = Clock::new();
    let log = Log::new();
    let noted = log.clone();
    let call = clock.call_later(Duration::from_secs(5), move || noted.add("ran"));
    for n in 0..10_000 {
        call.reset(Duration::from_secs(if n % 2 == 0 { 1 } else { 9 })).unwrap();
    }
    clock.advance(Duration::from_secs(8));
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(clock.delayed_calls(), std::slice::from_ref(&call));
    clock.advance(Duration::from_secs(1));
    assert_eq!(log.take(), ["ran"]);
    assert!(!call.is_active() && clock.delayed_calls().is_empty());
}

#[test]
fn a_reset_in_a_handler_counts_from_this_turn_and_not_from_before_the_wait() {
    struct Resetting(twistor::time::DelayedCall);
    impl Protocol for Resetting {
        type Framing = twistor::protocol::Raw;
        fn message_received(&mut self, this: &Handle<Self>, _: &[u8]) {
            self.0.reset(Duration::from_secs(100)).unwrap();
            this.write("reset");
        }
    }
    let reactor = Reactor::new().unwrap();
    let idle = reactor.call_later(Duration::from_secs(50), || ());
    let given = idle.clone();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| Resetting(given.clone()),
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let at = port.host().socket_addr().unwrap();
    let peer = std::thread::spawn(move || {
        let mut peer = std::net::TcpStream::connect(at).unwrap();
        // the message comes while the reactor has been waiting for a while
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(Duration::from_millis(300));
        peer.write_all(b"x").unwrap();
        peer.read_exact(&mut [0; 5]).unwrap();
    });
    let before = reactor.seconds();
    run_until(&reactor, || idle.time() > Duration::from_secs(60));
    assert!(
        idle.time() >= before + Duration::from_millis(100_290),
        "{:?} after {before:?}",
        idle.time()
    );
    peer.join().unwrap();
}

#[test]
fn calls_moved_to_the_same_instant_run_in_the_order_they_were_made() {
    let (clock, log) = (Clock::new(), Log::new());
    let calls: Vec<_> = (0..3)
        .map(|number| {
            let log = log.clone();
            clock.call_later(Duration::from_secs(number + 1), move || log.add(number))
        })
        .collect();
    calls[1].reset(Duration::from_secs(3)).unwrap();
    calls[0].delay(Duration::from_secs(2)).unwrap();
    clock.advance(Duration::from_secs(3));
    assert_eq!(log.take(), ["0", "1", "2"]);
}

//! The reactor: run, stop, timers, other threads.
use crate::support::{Log, Reports};
use std::{cell::Cell, rc::Rc, time::Duration};
use twistor::{
    error::{ReactorAlreadyRunning, ReactorClosed, ReactorNotRunning, ValueError},
    reactor::Reactor,
    testing::MemoryReactor,
};

const SECOND: Duration = Duration::from_secs(1);

fn memory() -> (MemoryReactor, Reactor, Log) {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    (memory, reactor, Log::new())
}

#[test]
fn r_001_stop_before_run_is_an_error() {
    let (_memory, reactor, _) = memory();
    assert!(reactor.stop().unwrap_err().check::<ReactorNotRunning>());
}

#[test]
fn r_003_calls_for_the_start_run_in_order_and_at_once_while_it_runs() {
    let (_memory, reactor, log) = memory();
    for n in 1..=2 {
        let log = log.clone();
        reactor.call_when_running(move || log.add(n));
    }
    let (inside, noted) = (reactor.clone(), log.clone());
    reactor.call_when_running(move || {
        let log = noted.clone();
        inside.call_when_running(move || log.add("at once"));
        noted.add("after");
        inside.stop().unwrap();
    });
    assert!(log.take().is_empty());
    reactor.run().unwrap();
    assert_eq!(log.take(), ["1", "2", "at once", "after"]);
}

#[test]
fn r_006_stop_only_asks_and_what_is_pending_for_it_runs_later() {
    let (_memory, reactor, log) = memory();
    let noted = log.clone();
    reactor.when_stopped().map(move |()| noted.add("stopped")).detach();
    let (inside, noted) = (reactor.clone(), log.clone());
    reactor.call_later(SECOND, move || {
        inside.stop().unwrap();
        noted.add("asked");
    });
    reactor.run().unwrap();
    assert_eq!(log.take(), ["asked", "stopped"]);
    assert!(!reactor.is_running());
}

#[test]
fn r_008_run_and_iterate_inside_a_turn_are_errors() {
    let (memory, reactor, log) = memory();
    let (inside, noted) = (reactor.clone(), log.clone());
    reactor.call_later(Duration::ZERO, move || {
        noted.add(inside.run().unwrap_err().check::<ReactorAlreadyRunning>());
        noted.add(inside.iterate(SECOND).unwrap_err().check::<ReactorAlreadyRunning>());
    });
    memory.settle();
    assert_eq!(log.take(), ["true", "true"]);
}

#[test]
fn it_runs_again_after_a_stop_and_never_after_a_close() {
    let (_memory, reactor, log) = memory();
    for _ in 0..2 {
        let (inside, noted) = (reactor.clone(), log.clone());
        reactor.call_later(SECOND, move || {
            noted.add("ran");
            inside.stop().unwrap();
        });
        reactor.run().unwrap();
    }
    assert_eq!(log.take(), ["ran", "ran"]);
    reactor.close();
    assert!(reactor.run().unwrap_err().check::<ReactorClosed>());
    assert!(!reactor.call_later(SECOND, || ()).is_active(), "an inert reactor takes no timers");
    assert!(!reactor.remote().call_from_thread(|| ()));
}

#[test]
fn r_013_iterate_with_zero_does_not_wait_for_a_timer() {
    let reactor = Reactor::new().unwrap();
    let call = reactor.call_later(Duration::from_secs(5), || ());
    let before = reactor.seconds();
    reactor.iterate(Duration::ZERO).unwrap();
    assert!(
        call.is_active() && reactor.seconds().checked_sub(before).unwrap() < Duration::from_secs(4)
    );
}

#[test]
fn r_029_r_030_r_032_a_call_s_time_counts_from_the_reactor_s_own_seconds() {
    let (memory, reactor, _) = memory();
    memory.advance(Duration::from_secs(100));
    assert_eq!(reactor.seconds(), Duration::from_secs(100));
    assert_eq!(reactor.call_later(Duration::from_secs(5), || ()).time(), Duration::from_secs(105));
    let real = Reactor::new().unwrap();
    let now = real.seconds();
    let due = real.call_later(Duration::from_secs(10), || ()).time();
    assert!(due >= now + Duration::from_secs(10) && due < now + Duration::from_secs(11));
}

#[test]
fn r_031_r_040_a_call_with_zero_delay_runs_in_a_later_turn_also_from_inside_a_call() {
    let (_memory, reactor, log) = memory();
    let (inside, noted) = (reactor.clone(), log.clone());
    reactor.call_later(Duration::ZERO, move || {
        noted.add("first");
        let log = noted.clone();
        inside.call_later(Duration::ZERO, move || log.add("second"));
    });
    assert!(log.take().is_empty());
    reactor.iterate(Duration::ZERO).unwrap();
    assert_eq!(log.take(), ["first"]);
    reactor.iterate(Duration::ZERO).unwrap();
    assert_eq!(log.take(), ["second"]);
}

#[test]
fn r_033_r_034_reset_and_cancel_on_a_reactor() {
    let (memory, reactor, log) = memory();
    memory.advance(Duration::from_secs(10));
    let noted = log.clone();
    let call = reactor.call_later(Duration::from_secs(50), move || noted.add("ran"));
    call.reset(Duration::from_secs(3)).unwrap();
    assert_eq!(call.time(), Duration::from_secs(13));
    call.cancel().unwrap();
    memory.advance(Duration::from_secs(100));
    assert!(log.take().is_empty());
}

#[test]
fn r_035_r_036_cancelling_again_or_too_late_is_an_error() {
    let (memory, reactor, _) = memory();
    let cancelled = reactor.call_later(SECOND, || ());
    cancelled.cancel().unwrap();
    assert!(cancelled.cancel().unwrap_err().check::<twistor::error::AlreadyCancelled>());
    let called = reactor.call_later(SECOND, || ());
    memory.advance(SECOND);
    assert!(called.cancel().unwrap_err().check::<twistor::error::AlreadyCalled>());
}

#[test]
fn r_037_r_047_the_text_of_a_call_can_be_made_in_every_state() {
    let (memory, reactor, _) = memory();
    let call = reactor.call_later(SECOND, || ());
    assert!(format!("{call:?}").contains("called=0 cancelled=0"));
    memory.advance(SECOND);
    assert!(format!("{call:?}").contains("called=1 cancelled=0"));
    let other = reactor.call_later(SECOND, || ());
    other.cancel().unwrap();
    assert!(format!("{other:?}").contains("called=0 cancelled=1"));
}

#[test]
fn r_038_r_039_the_list_holds_the_pending_calls_and_active_ends_with_the_run() {
    let (memory, reactor, _) = memory();
    let (one, two) = (reactor.call_later(SECOND, || ()), reactor.call_later(SECOND * 2, || ()));
    assert_eq!(reactor.delayed_calls(), [one.clone(), two.clone()]);
    memory.advance(SECOND);
    assert!(!one.is_active() && two.is_active());
    assert_eq!(reactor.delayed_calls(), std::slice::from_ref(&two));
    two.cancel().unwrap();
    assert!(reactor.delayed_calls().is_empty());
}

#[test]
fn r_041_a_delayed_call_may_stop_the_reactor() {
    let reactor = Reactor::new().unwrap();
    let inside = reactor.clone();
    reactor.call_later(Duration::from_millis(1), move || inside.stop().unwrap());
    reactor.run().unwrap();
}

#[test]
fn r_042_a_call_in_the_far_future_does_no_harm() {
    let reactor = Reactor::new().unwrap();
    let far = reactor.call_later(Duration::MAX, || ());
    let inside = reactor.clone();
    reactor.call_later(Duration::from_millis(1), move || inside.stop().unwrap());
    reactor.run().unwrap();
    assert!(far.is_active());
}

#[test]
fn r_046_calls_due_at_the_same_time_are_not_equal() {
    let (_memory, reactor, _) = memory();
    let (one, two) = (reactor.call_later(SECOND, || ()), reactor.call_later(SECOND, || ()));
    assert_ne!(one, two);
    assert_eq!(one, one.clone());
}

#[test]
fn r_107_calls_due_at_the_same_instant_run_in_the_order_they_were_made() {
    let (memory, reactor, log) = memory();
    for n in 0..6 {
        let log = log.clone();
        reactor.call_later(SECOND, move || log.add(n));
    }
    memory.advance(SECOND);
    assert_eq!(log.take(), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn a_panic_in_a_delayed_call_is_reported_and_the_loop_continues() {
    let (memory, reactor, log) = memory();
    let reports = Reports::new();
    reactor.call_later(SECOND, || panic!("in a timer"));
    let noted = log.clone();
    reactor.call_later(SECOND, move || noted.add("ran"));
    memory.advance(SECOND);
    assert_eq!(log.take(), ["ran"]);
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn r_049_r_059_a_call_from_another_thread_wakes_an_idle_reactor_and_runs_in_its_thread() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let home = std::thread::current().id();
    let thread = std::thread::spawn(move || {
        remote.call_from_thread(move || {
            assert_eq!(std::thread::current().id(), home);
            Reactor::current().unwrap().stop().unwrap();
        })
    });
    reactor.run().unwrap();
    assert!(thread.join().unwrap());
}

#[test]
fn r_050_r_060_a_call_made_inside_the_thread_waits_for_the_next_turn() {
    let (_memory, reactor, log) = memory();
    let outer = log.clone();
    let count = Rc::new(Cell::new(0));
    let seen = count.clone();
    // the calls are `Send`, so they record in a thread-local of the test
    thread_local! {
        static TURNS: Cell<u32> = const { Cell::new(0) };
    }
    let remote = reactor.remote();
    let again = reactor.remote();
    remote.call_from_thread(move || {
        TURNS.set(TURNS.get() + 1);
        again.call_from_thread(|| TURNS.set(TURNS.get() + 1));
    });
    reactor.iterate(Duration::ZERO).unwrap();
    seen.set(TURNS.get());
    assert_eq!(count.get(), 1, "the inner call is left for the next turn");
    reactor.iterate(Duration::ZERO).unwrap();
    assert_eq!(TURNS.get(), 2);
    outer.add("done");
}

#[test]
fn r_056_r_057_r_058_a_hundred_calls_run_in_order_and_none_before_the_reactor_does() {
    thread_local! {
        static SEEN: std::cell::RefCell<Vec<u32>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let (memory, reactor, _) = memory();
    for n in 0..100 {
        reactor.remote().call_from_thread(move || SEEN.with_borrow_mut(|seen| seen.push(n)));
    }
    assert!(SEEN.with_borrow(Vec::is_empty));
    memory.settle();
    assert_eq!(SEEN.take(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_memory_reactor_in_which_nothing_can_happen_reports_it() {
    let (_memory, reactor, _) = memory();
    assert!(reactor.run().unwrap_err().to_string().contains("nothing can ever happen"));
}

#[test]
fn r_044_a_turn_waits_for_the_next_timer_and_without_one_as_long_as_it_may() {
    let (_memory, reactor, _) = memory();
    reactor.iterate(1000 * SECOND).unwrap();
    assert_eq!(reactor.seconds(), 1000 * SECOND);
    let start = reactor.seconds();
    let calls: Vec<_> = [50, 10, 100].map(|delay| reactor.call_later(delay * SECOND, || ())).into();
    reactor.iterate(1000 * SECOND).unwrap();
    assert_eq!(reactor.seconds().abs_diff(start), 10 * SECOND);
    calls[0].cancel().unwrap();
    // the due one runs in this turn, which then waits for the last
    reactor.iterate(15 * SECOND).unwrap();
    assert_eq!(reactor.seconds().abs_diff(start), 25 * SECOND);
    reactor.iterate(1000 * SECOND).unwrap();
    assert_eq!(reactor.seconds().abs_diff(start), 100 * SECOND, "75 that were left");
}

#[test]
fn r_045_moving_a_timer_moves_the_wait() {
    let wait = |change: fn(&twistor::time::DelayedCall), passed: u32| {
        let (_memory, reactor, _) = memory();
        let call = reactor.call_later(50 * SECOND, || ());
        reactor.iterate(passed * SECOND).unwrap();
        change(&call);
        reactor.iterate(1000 * SECOND).unwrap();
        reactor.seconds().abs_diff(passed * SECOND)
    };
    assert_eq!(wait(|call| call.reset(15 * SECOND).unwrap(), 25), 15 * SECOND);
    assert_eq!(wait(|call| call.delay(20 * SECOND).unwrap(), 10), 60 * SECOND);
    assert_eq!(wait(|call| call.cancel().unwrap(), 10), 1000 * SECOND);
}

#[test]
fn a_signal_that_cannot_be_handled_is_refused() {
    let reactor = Reactor::new().unwrap();
    for forbidden in [9, 19, 11] {
        let failure = reactor.on_signal(forbidden, || ()).unwrap_err();
        assert!(failure.check::<ValueError>(), "{failure}");
    }
    reactor.close();
    assert!(reactor.on_signal(10, || ()).unwrap_err().check::<ReactorClosed>());
}

//! `LoopingCall` and `defer_later`.
use crate::support::{Bang, Log, Reports, now, watch};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};
use twistor::{
    defer::{Deferred, Resolver},
    error::{AlreadyRunningError, CancelledError, Panicked},
    failure::Failure,
    task::{Clock, LoopingCall, defer_later},
    testing::MemoryReactor,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A loop that records the time of each call, in milliseconds.
fn noting(clock: &Clock) -> (LoopingCall, Log) {
    let (log, time) = (Log::new(), clock.clone());
    let into = log.clone();
    (LoopingCall::new(clock.clone(), move |_| into.add(time.seconds().as_millis())), log)
}

#[test]
fn k_015_it_runs_at_once_and_then_every_interval_until_it_is_stopped() {
    let clock = Clock::new();
    let (looping, log) = noting(&clock);
    let ended = watch(looping.start(ms(100)));
    clock.pump([ms(50); 5]);
    assert_eq!(log.take(), ["0", "100", "200"]);
    assert!(looping.is_running() && ended.is_pending());
    looping.stop();
    let same = ended.value();
    assert!(!same.is_running() && same.interval() == ms(100));
    assert!(clock.delayed_calls().is_empty());
}

#[test]
fn k_016_a_later_start_waits_for_one_interval() {
    let clock = Clock::new();
    let (looping, log) = noting(&clock);
    let ended = watch(looping.start_later(ms(100)));
    clock.pump([ms(50); 5]);
    assert_eq!(log.take(), ["100", "200"]);
    looping.stop();
    ended.value();
}

#[test]
fn k_018_stopped_before_its_first_run_it_runs_nothing() {
    for interval in [ms(0), ms(10_000)] {
        let clock = Clock::new();
        let (looping, log) = noting(&clock);
        let ended = watch(looping.start_later(interval));
        looping.stop();
        ended.value();
        assert!(clock.delayed_calls().is_empty());
        clock.advance(ms(20_000));
        assert!(log.take().is_empty());
    }
}

#[test]
fn k_019_reset_starts_the_wait_again() {
    let clock = Clock::new();
    let (looping, log) = noting(&clock);
    let _ended = looping.start_later(ms(2000));
    clock.advance(ms(1000));
    looping.reset();
    clock.advance(ms(1000));
    assert!(log.take().is_empty());
    clock.advance(ms(1000));
    assert_eq!(log.take(), ["3000"]);
    clock.advance(ms(2000));
    assert_eq!(log.take(), ["5000"], "the grid begins at the reset");
    looping.stop();
}

#[test]
fn k_020_calls_stay_on_the_grid_and_missed_ones_are_skipped() {
    let clock = Clock::new();
    let (log, time) = (Log::new(), clock.clone());
    let (into, takes) = (log.clone(), RefCell::new(vec![ms(1000), ms(2000)]));
    let looping = LoopingCall::new(clock.clone(), move |_| {
        into.add(time.seconds().as_millis());
        // a call that takes a while
        if let Some(time_taken) = takes.borrow_mut().pop() {
            time.advance(time_taken);
        }
    });
    let _ended = looping.start(ms(500));
    clock.advance(ms(500));
    clock.advance(ms(500));
    assert_eq!(log.take(), ["0", "2500", "4000"]);
    looping.stop();
}

#[test]
fn k_021_a_late_reactor_skips_the_intervals_that_have_passed() {
    let clock = Clock::new();
    let (looping, log) = noting(&clock);
    let _ended = looping.start(ms(1000));
    clock.advance(ms(2000));
    clock.advance(ms(1000));
    assert_eq!(log.take(), ["0", "2000", "3000"]);
    looping.stop();
}

#[test]
fn k_023_an_interval_of_0_is_once_a_turn() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let turns = Rc::new(Cell::new(0));
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let looping = LoopingCall::new(reactor.clone(), move |looping| {
        counted.set(counted.get() + 1);
        if counted.get() == 6 {
            looping.stop();
        }
    });
    let ended = watch(looping.start(Duration::ZERO));
    while ended.is_pending() {
        turns.set(turns.get() + 1);
        assert_eq!(count.get(), turns.get());
        reactor.iterate(Duration::ZERO).unwrap();
    }
    assert_eq!(count.get(), 6);
    reactor.close();
}

#[test]
fn k_024_stopped_one_turn_after_a_later_start_it_never_runs() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let looping = LoopingCall::new(reactor.clone(), |_| panic!("it must not run"));
    let ended = watch(looping.start_later(ms(10)));
    reactor.iterate(Duration::ZERO).unwrap();
    looping.stop();
    ended.value();
    assert!(reactor.delayed_calls().is_empty());
    reactor.close();
}

#[test]
fn k_025_k_026_an_error_ends_the_loop_and_fails_its_deferred() {
    for stops in [false, true] {
        let clock = Clock::new();
        let looping = LoopingCall::new(clock.clone(), move |looping| {
            if stops {
                looping.stop();
            }
            Err::<(), _>(Failure::new(Bang("no")))
        });
        assert!(now(looping.start(ms(100))).unwrap_err().check::<Bang>());
        assert!(!looping.is_running() && clock.delayed_calls().is_empty());
    }
    let panics =
        LoopingCall::new(Clock::new(), |_| -> () { std::panic::resume_unwind(Box::new("no")) });
    assert!(now(panics.start(ms(100))).unwrap_err().check::<Panicked>());
    // and it can be started again
    assert!(now(panics.start(ms(100))).unwrap_err().check::<Panicked>());
}

#[test]
fn k_027_the_next_run_waits_for_the_deferred_of_the_last() {
    let clock = Clock::new();
    let (log, time) = (Log::new(), clock.clone());
    let into = log.clone();
    let looping = LoopingCall::new(clock.clone(), move |looping| {
        into.add(time.seconds().as_millis());
        let stops = looping.clone();
        defer_later(&time, ms(1000), move || stops.stop())
    });
    let ended = watch(looping.start(ms(100)));
    clock.advance(ms(500));
    assert!(ended.is_pending());
    clock.advance(ms(500));
    ended.value();
    assert_eq!(log.take(), ["0"]);
    assert!(clock.delayed_calls().is_empty());
}

#[test]
fn k_028_if_that_deferred_fails_so_does_the_loop() {
    let clock = Clock::new();
    let time = clock.clone();
    let looping = LoopingCall::new(clock.clone(), move |_| {
        defer_later(&time, ms(200), || Err::<(), _>(Failure::new(Bang("late"))))
    });
    let ended = watch(looping.start(ms(100)));
    clock.advance(ms(200));
    assert!(ended.failure().check::<Bang>());
    assert!(clock.delayed_calls().is_empty());
}

/// A loop that records the counts it receives.
fn counting(clock: &Clock) -> (LoopingCall, Log) {
    let log = Log::new();
    let into = log.clone();
    (LoopingCall::with_count(clock.clone(), move |_, count| into.add(count)), log)
}

#[test]
fn k_029_k_030_the_count_is_of_grid_points_passed() {
    let clock = Clock::new();
    let (looping, log) = counting(&clock);
    let _ended = looping.start(ms(500));
    clock.advance(ms(510));
    clock.advance(ms(1510));
    assert_eq!(log.take(), ["1", "1", "3"]);
    looping.stop();

    let clock = Clock::new();
    let (looping, log) = counting(&clock);
    let _ended = looping.start_later(ms(1000));
    clock.advance(ms(1000));
    clock.advance(ms(1750));
    clock.advance(ms(251));
    assert_eq!(log.take(), ["1", "1", "1"]);
    looping.stop();
}

// Kind: a count is a difference of times, and whatever moves the grid must not lose any.
#[test]
fn a_reset_and_another_interval_lose_no_count() {
    let clock = Clock::new();
    let (looping, log) = counting(&clock);
    let _ended = looping.start(ms(1000));
    assert_eq!(log.take(), ["1"]);
    clock.advance(ms(900));
    for _ in 0..5 {
        looping.reset();
        clock.advance(ms(900));
    }
    assert!(log.take().is_empty());
    clock.advance(ms(100));
    assert_eq!(log.take(), ["5"], "5500 ms have passed since the last call");
    looping.stop();
}

#[test]
fn the_interval_of_a_running_loop_can_be_changed() {
    let clock = Clock::new();
    let (looping, log) = noting(&clock);
    let _ended = looping.start(ms(1000));
    looping.set_interval(ms(300));
    clock.advance(ms(1000));
    clock.pump([ms(200); 4]);
    assert_eq!(log.take(), ["0", "1000", "1200", "1600", "1800"]);
    assert_eq!(looping.interval(), ms(300));
    looping.stop();
}

#[test]
fn k_031_the_count_is_never_0() {
    let clock = Clock::new();
    let (looping, log) = counting(&clock);
    let _ended = looping.start_later(Duration::from_secs_f64(0.1));
    for _ in 0..10 {
        clock.advance(Duration::from_secs_f64(0.1));
    }
    let rest = Duration::from_secs(1).saturating_sub(clock.seconds());
    clock.advance(rest);
    let counts: Vec<u64> = log.take().iter().map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 10);
    assert!(!counts.contains(&0));
    looping.stop();
}

#[test]
fn k_032_k_033_with_an_interval_of_0_the_count_is_always_1() {
    let clock = Clock::new();
    let log = Log::new();
    let held: Rc<RefCell<Option<Resolver<()>>>> = Rc::default();
    let (into, keep) = (log.clone(), held.clone());
    let looping = LoopingCall::with_count(clock.clone(), move |looping, count| {
        into.add(count);
        if looping.interval() > Duration::ZERO {
            return Deferred::succeed(());
        }
        let (wait, resolver) = Deferred::new();
        *keep.borrow_mut() = Some(resolver);
        wait
    });
    let _ended = looping.start(Duration::ZERO);
    for _ in 0..3 {
        clock.advance(ms(5000));
        let resolver = held.take().unwrap();
        resolver.callback(());
        clock.advance(Duration::ZERO);
    }
    assert_eq!(log.take(), ["1", "1", "1", "1"]);
    looping.stop();
}

#[test]
fn k_035_while_its_deferred_is_pending_nothing_runs_and_the_next_count_has_the_skipped_slots() {
    let clock = Clock::new();
    let (log, time) = (Log::new(), clock.clone());
    let into = log.clone();
    let looping = LoopingCall::with_count(clock.clone(), move |_, count| {
        into.add(count);
        defer_later(&time, ms(250), || ())
    });
    let _ended = looping.start(ms(100));
    clock.pump([ms(50); 6]);
    assert_eq!(log.take(), ["1", "3"]);
    looping.stop();
}

#[test]
fn starting_twice_cancelling_the_deferred_and_an_unreportable_failure() {
    let clock = Clock::new();
    let reports = Reports::new();
    let (looping, log) = noting(&clock);
    let ended = looping.start(ms(100));
    assert!(now(looping.start(ms(100))).unwrap_err().check::<AlreadyRunningError>());
    ended.cancel();
    assert!(now(ended).unwrap_err().check::<CancelledError>());
    assert!(!looping.is_running() && clock.delayed_calls().is_empty());
    assert_eq!(log.take(), ["0"]);
    // it continues, even if nothing holds it
    looping.start(ms(100)).detach();
    drop(looping);
    clock.advance(ms(100));
    assert_eq!(log.take(), ["0", "100"]);
    assert!(reports.take().is_empty());
}

#[test]
fn k_038_k_039_defer_later_calls_at_its_time_and_fires_with_its_result() {
    let clock = Clock::new();
    let log = Log::new();
    let into = log.clone();
    let answer = watch(defer_later(&clock, ms(3000), move || {
        into.add("called");
        Ok(7)
    }));
    clock.advance(ms(2000));
    assert!(log.take().is_empty());
    clock.advance(ms(1000));
    assert_eq!(log.take(), ["called"]);
    assert_eq!(answer.value(), 7);
    let fails = watch(defer_later(&clock, ms(1), || Err::<(), _>(Failure::new(Bang("no")))));
    clock.advance(ms(1));
    assert!(fails.failure().check::<Bang>());
}

#[test]
fn k_040_cancelled_before_its_time_it_never_calls() {
    let clock = Clock::new();
    let answer = defer_later(&clock, ms(3000), || -> () { panic!("it must not run") });
    answer.cancel();
    assert!(clock.delayed_calls().is_empty());
    assert!(now(answer).unwrap_err().check::<CancelledError>());
}

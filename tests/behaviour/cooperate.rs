//! `Cooperator`: work in pieces.
use crate::support::{Bang, Log, Reports, now, watch};
use std::{cell::Cell, rc::Rc, time::Duration};
use twistor::{
    defer::{Deferred, Resolver},
    error::{
        NotPaused, Panicked, SchedulerStopped, TaskDone, TaskFailed, TaskFinished, TaskStopped,
    },
    failure::Failure,
    task::{Clock, CooperativeTask, Cooperator},
};

/// Returns a cooperator that does one piece in each turn, and its clock.
fn one_a_turn() -> (Cooperator, Clock) {
    let clock = Clock::new();
    (Cooperator::with_predicate(clock.clone(), || || true), clock)
}

/// Returns a cooperator that works until everything is done.
fn greedy() -> (Cooperator, Clock) {
    let clock = Clock::new();
    (Cooperator::with_predicate(clock.clone(), || || false), clock)
}

/// Returns an endless iterator that counts its pieces.
fn endless(count: &Rc<Cell<u32>>) -> impl Iterator<Item = ()> + 'static {
    let count = count.clone();
    std::iter::repeat_with(move || count.set(count.get() + 1))
}

#[test]
fn k_052_several_iterators_take_turns() {
    let (cooperator, clock) = greedy();
    let log = Log::new();
    let done: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|name| {
            let log = log.clone();
            watch(cooperator.coiterate((1..=3).map(move |n| log.add(format!("{name}{n}")))))
        })
        .collect();
    clock.advance(Duration::ZERO);
    assert_eq!(
        log.take(),
        ["a1", "b1", "c1", "d1", "a2", "b2", "c2", "d2", "a3", "b3", "c3", "d3"]
    );
    for each in done {
        each.value();
    }
    assert!(clock.delayed_calls().is_empty());
}

#[test]
fn k_053_a_turn_ends_when_the_predicate_reports_it() {
    let clock = Clock::new();
    let turns = Rc::new(Cell::new(0));
    let begun = turns.clone();
    let cooperator = Cooperator::with_predicate(clock.clone(), move || {
        begun.set(begun.get() + 1);
        let mut left = if begun.get() == 1 { 10 } else { 0 };
        move || {
            left -= 1;
            left <= 0
        }
    });
    let (count, stop) = (Rc::new(Cell::new(0)), cooperator.clone());
    let (counted, seen) = (count.clone(), turns.clone());
    let work = (0..100).map(move |_| {
        if seen.get() > 1 {
            stop.stop();
            return;
        }
        counted.set(counted.get() + 1);
    });
    let done = watch(cooperator.coiterate(work));
    clock.advance(Duration::ZERO);
    assert_eq!(count.get(), 10);
    assert!(done.failure().check::<SchedulerStopped>());
}

#[test]
fn k_054_a_stopped_cooperator_refuses_new_work() {
    let (cooperator, clock) = greedy();
    cooperator.stop();
    let count = Rc::new(Cell::new(0));
    assert!(now(cooperator.coiterate(endless(&count))).unwrap_err().check::<SchedulerStopped>());
    let task = cooperator.cooperate(endless(&count));
    assert!(task.stop().unwrap_err().check::<SchedulerStopped>());
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 0);
}

#[test]
fn k_055_stopping_fails_running_tasks_and_stops_their_work() {
    let (cooperator, clock) = greedy();
    let (count, stop) = (Rc::new(Cell::new(0)), cooperator.clone());
    let counted = count.clone();
    let done = watch(cooperator.coiterate(std::iter::repeat_with(move || {
        counted.set(counted.get() + 1);
        if counted.get() == 3 {
            stop.stop();
        }
    })));
    clock.advance(Duration::from_secs(1));
    assert!(done.failure().check::<SchedulerStopped>());
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 3);
}

/// Returns work whose first piece is a Deferred, its resolver, and the number of pieces done.
fn waiting() -> (impl Iterator<Item = Deferred<()>> + 'static, Resolver<()>, Rc<Cell<u32>>) {
    let (wait, resolver) = Deferred::new();
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let mut wait = Some(wait);
    let work = std::iter::repeat_with(move || {
        counted.set(counted.get() + 1);
        wait.take().unwrap_or_else(|| Deferred::succeed(()))
    });
    (work.take(3), resolver, count)
}

#[test]
fn k_056_stopped_while_it_waits_it_is_not_resumed() {
    let (cooperator, clock) = greedy();
    let (work, resolver, count) = waiting();
    let done = watch(cooperator.coiterate(work));
    clock.advance(Duration::ZERO);
    cooperator.stop();
    assert!(done.failure().check::<SchedulerStopped>());
    resolver.callback(());
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 1);
}

#[test]
fn k_058_work_added_when_other_work_ends_schedules_one_call() {
    let clock = Clock::new();
    let cooperator = Cooperator::with_predicate(clock.clone(), || {
        let mut left = 5;
        move || {
            left -= 1;
            left <= 0
        }
    });
    let (again, at_once) = (cooperator.clone(), Rc::new(Cell::new(0)));
    let seen = (at_once.clone(), clock.clone());
    let done = cooperator.coiterate(std::iter::once(())).add_callback(move |()| {
        let done = again.coiterate(std::iter::repeat_n((), 20));
        seen.0.set(seen.1.delayed_calls().len());
        done
    });
    let done = watch(done);
    clock.advance(Duration::ZERO);
    assert!(at_once.get() <= 1);
    done.value();
    assert!(clock.delayed_calls().is_empty());
}

#[test]
fn k_059_without_tasks_no_call_is_scheduled() {
    let (cooperator, clock) = greedy();
    let count = Rc::new(Cell::new(0));
    let task = cooperator.cooperate(endless(&count));
    assert_eq!(clock.delayed_calls().len(), 1);
    task.stop().unwrap();
    assert!(clock.delayed_calls().is_empty());
    let _task = cooperator.cooperate(endless(&count).take(1));
    assert_eq!(clock.delayed_calls().len(), 1);
}

#[test]
fn k_060_running_says_whether_it_was_started_and_not_stopped() {
    let (cooperator, clock) = greedy();
    assert!(cooperator.is_running());
    let later = Cooperator::new_stopped(clock.clone(), || || true);
    assert!(!later.is_running());
    let done = watch(later.coiterate(std::iter::once(())));
    clock.advance(Duration::from_secs(1));
    assert!(done.is_pending());
    later.start().unwrap();
    assert!(later.is_running() && later.start().is_err());
    clock.advance(Duration::from_secs(1));
    done.value();
    later.stop();
    assert!(!later.is_running());
}

#[test]
fn k_062_a_paused_task_does_nothing_and_continues_in_a_later_turn() {
    let (cooperator, clock) = greedy();
    let count = Rc::new(Cell::new(0));
    let task = cooperator.cooperate(endless(&count).take(3));
    task.pause().unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 0);
    task.resume().unwrap();
    assert_eq!(count.get(), 0, "not at once");
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 3);
}

#[test]
fn k_063_k_064_each_pause_needs_a_resume() {
    let (cooperator, clock) = greedy();
    let count = Rc::new(Cell::new(0));
    let task = cooperator.cooperate(endless(&count).take(1));
    assert!(task.resume().unwrap_err().check::<NotPaused>());
    task.pause().unwrap();
    task.pause().unwrap();
    task.resume().unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 0);
    task.resume().unwrap();
    assert!(task.resume().unwrap_err().check::<NotPaused>());
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 1);
}

#[test]
fn k_065_a_task_paused_while_it_waits_continues_after_both() {
    let (cooperator, clock) = greedy();
    let (work, resolver, count) = waiting();
    let task = cooperator.cooperate(work);
    clock.advance(Duration::ZERO);
    task.pause().unwrap();
    resolver.callback(());
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 1);
    task.resume().unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 3);

    let (work, resolver, count) = waiting();
    let task = cooperator.cooperate(work);
    clock.advance(Duration::ZERO);
    task.pause().unwrap();
    task.resume().unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 1);
    resolver.callback(());
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 3);
}

#[test]
fn k_066_when_done_returns_a_new_deferred_at_each_call() {
    let (cooperator, clock) = greedy();
    let task = cooperator.cooperate(std::iter::once(()));
    let one = watch(task.when_done().map(|()| "changed"));
    let two = watch(task.when_done());
    clock.advance(Duration::ZERO);
    assert_eq!(one.value(), "changed");
    two.value();
}

#[test]
fn k_067_when_done_fails_with_the_work_s_error_or_with_the_stop() {
    let (cooperator, clock) = greedy();
    let fails = cooperator.cooperate([Ok(()), Err(Failure::new(Bang("no")))]);
    let failed = watch(fails.when_done());
    let panics = cooperator.cooperate(
        std::iter::once(()).map(|()| -> () { std::panic::resume_unwind(Box::new("no")) }),
    );
    let panicked = watch(panics.when_done());
    let stops = cooperator.cooperate(std::iter::repeat(()));
    let stopped = watch(stops.when_done());
    stops.stop().unwrap();
    assert!(stopped.failure().check::<TaskStopped>());
    clock.advance(Duration::ZERO);
    assert!(failed.failure().check::<Bang>());
    assert!(panicked.failure().check::<Panicked>());
}

#[test]
fn k_068_k_072_a_finished_task_reports_it() {
    let (cooperator, clock) = greedy();
    let done = cooperator.cooperate(std::iter::once(()));
    let failed = cooperator.cooperate([Err::<(), _>(Failure::new(Bang("no")))]);
    clock.advance(Duration::ZERO);
    now(done.when_done()).unwrap();
    assert!(now(failed.when_done()).unwrap_err().check::<Bang>());
    let end = |task: &CooperativeTask| task.stop().unwrap_err();
    assert!(end(&done).check::<TaskDone>() && end(&done).check::<TaskFinished>());
    assert!(
        end(&failed).check::<TaskFailed>() && end(&failed).traceback().ends_with("Caused by: no")
    );
}

#[test]
fn k_069_k_070_after_a_stop_nothing_runs() {
    let (cooperator, clock) = greedy();
    let count = Rc::new(Cell::new(0));
    let task = cooperator.cooperate(endless(&count));
    task.pause().unwrap();
    task.stop().unwrap();
    assert!(task.stop().unwrap_err().check::<TaskStopped>());
    assert!(task.pause().unwrap_err().check::<TaskStopped>());
    task.resume().unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(count.get(), 0);
}

#[test]
fn k_073_when_done_may_stop_the_cooperator() {
    let (cooperator, clock) = greedy();
    let (stop, log) = (cooperator.clone(), Log::new());
    let into = log.clone();
    let task = cooperator.cooperate(std::iter::once(()));
    task.when_done().map(move |()| stop.stop()).detach();
    task.when_done().add_both(move |result| into.add(result.is_ok())).detach();
    clock.advance(Duration::ZERO);
    assert_eq!(log.take(), ["true"]);
}

#[test]
fn work_is_dropped_when_it_finishes_and_a_failure_without_consumers_is_reported() {
    let (cooperator, clock) = greedy();
    let reports = Reports::new();
    let held = Rc::new(());
    let inside = held.clone();
    let task = cooperator.cooperate(std::iter::repeat_with(move || drop(inside.clone())));
    task.stop().unwrap();
    assert_eq!(Rc::strong_count(&held), 1);
    drop(cooperator.cooperate([Err::<(), _>(Failure::new(Bang("lost")))]));
    clock.advance(Duration::ZERO);
    let seen = reports.take();
    assert!(seen.len() == 1 && seen[0].contains("lost"), "{seen:?}");
}

#[test]
fn one_piece_a_turn_leaves_room_for_others() {
    let (cooperator, clock) = one_a_turn();
    let log = Log::new();
    let (pieces, other) = (log.clone(), log.clone());
    let _done = cooperator.coiterate((0..2).map(move |n| pieces.add(n)));
    clock.call_later(Duration::ZERO, move || other.add("other"));
    clock.advance(Duration::ZERO);
    assert_eq!(log.take(), ["0", "other", "1"]);
}

#[test]
fn pausing_and_resuming_gives_a_task_no_second_share() {
    let clock = Clock::new();
    let cooperator = Cooperator::with_predicate(clock.clone(), || {
        let mut left = 60;
        move || {
            left -= 1;
            left == 0
        }
    });
    let (one, two) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let task = cooperator.cooperate(endless(&one).take(200));
    let _other = cooperator.cooperate(endless(&two).take(200));
    for _ in 0..4 {
        task.pause().unwrap();
        task.resume().unwrap();
    }
    let seen = Rc::new(Cell::new((0, 0)));
    let (into, a, b) = (seen.clone(), one.clone(), two.clone());
    clock.call_later(Duration::ZERO, move || into.set((a.get(), b.get())));
    clock.advance(Duration::ZERO);
    assert_eq!(seen.get(), (30, 30), "after the first turn");
    assert_eq!((one.get(), two.get()), (200, 200));
}

//! How loops, cooperative work and waits for locks end: with the reactor, after a restart, and
//! without anything that holds them.
use crate::support::{Bang, Log, Reports, now, watch};
use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};
use twistor::{
    defer::DeferredFilesystemLock,
    error::{AbandonedError, TaskStopped},
    lockfile::{FilesystemLock, LockSystem},
    prelude::*,
    task::{Clock, CooperativeTask, Cooperator, LoopingCall, defer_later, react_on},
    testing::MemoryReactor,
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Returns a cooperator that works until everything is done.
fn greedy() -> (Cooperator, Clock) {
    let clock = Clock::new();
    (Cooperator::with_predicate(clock.clone(), || || false), clock)
}

/// Records its drop.
struct Flag(Rc<Cell<bool>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

// ---- loops that are started again

#[test]
fn a_loop_that_its_function_starts_again_is_one_loop_and_both_deferreds_fire() {
    let (clock, log) = (Clock::new(), Log::new());
    let (into, time, first) = (log.clone(), clock.clone(), Cell::new(true));
    let again: Rc<RefCell<Option<Deferred<LoopingCall>>>> = Rc::default();
    let keep = again.clone();
    let looping = LoopingCall::new(clock.clone(), move |looping| {
        into.add(time.seconds().as_secs());
        if first.replace(false) {
            looping.stop();
            *keep.borrow_mut() = Some(looping.start(secs(1)));
        }
    });
    watch(looping.start(secs(1))).value();
    clock.pump([secs(1); 2]);
    assert_eq!(log.take(), ["0", "1", "2"]);
    assert_eq!(clock.delayed_calls().len(), 1);
    looping.stop();
    now(again.take().unwrap()).unwrap();
    clock.pump([secs(1); 3]);
    assert!(log.take().is_empty() && clock.delayed_calls().is_empty(), "stop stops it");
}

#[test]
fn the_end_of_an_earlier_start_s_call_is_that_start_s_alone() {
    for fails in [false, true] {
        let clock = Clock::new();
        let (held, count) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
        let (keep, first, counted) = (held.clone(), Cell::new(true), count.clone());
        let looping = LoopingCall::new(clock.clone(), move |_| {
            counted.set(counted.get() + 1);
            let (wait, resolver) = Deferred::<()>::new();
            if first.replace(false) {
                *keep.borrow_mut() = Some(resolver);
                wait
            } else {
                Deferred::succeed(())
            }
        });
        let one = watch(looping.start(secs(1)));
        looping.stop();
        let two = watch(looping.start_later(secs(1)));
        // the call of the first start is still in progress, and the second start waits for it
        clock.pump([secs(1); 2]);
        assert_eq!(count.get(), 1);
        let resolver = held.take().unwrap();
        if fails {
            resolver.errback(Bang("old"));
            assert!(one.failure().check::<Bang>());
        } else {
            resolver.callback(());
            one.value();
        }
        assert!(two.is_pending() && looping.is_running());
        assert_eq!(clock.delayed_calls().len(), 1);
        clock.advance(secs(1));
        assert_eq!(count.get(), 2);
        looping.stop();
        two.value();
    }
}

// ---- closing the reactor

#[inline_callbacks]
fn waits_for_a_loop(reactor: Reactor, flag: Flag) -> Deferred<()> {
    let looping = LoopingCall::new(reactor, |_| ());
    let _flag = flag;
    yield_!(looping.start(secs(1)))?;
    return_value!()
}

#[inline_callbacks]
fn waits_for_work(reactor: Reactor, flag: Flag) -> Deferred<()> {
    let cooperator = Cooperator::new(reactor);
    let _flag = flag;
    yield_!(cooperator.coiterate(std::iter::repeat(())))?;
    return_value!()
}

#[inline_callbacks]
fn waits_for_a_lock(reactor: Reactor, path: PathBuf, flag: Flag) -> Deferred<()> {
    let lock = DeferredFilesystemLock::new(path, reactor);
    let _flag = flag;
    let _held = yield_!(lock.defer_until_locked())?;
    return_value!()
}

/// Everything that waits for something of a reactor's is resumed and dropped when the reactor
/// closes.
#[track_caller]
fn ends_with_its_reactor(begin: impl FnOnce(Reactor, Flag) -> Deferred<()>) {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let gone = Rc::new(Cell::new(false));
    let result = watch(begin(reactor.clone(), Flag(gone.clone())));
    reactor.iterate(Duration::ZERO).unwrap();
    assert!(result.is_pending());
    reactor.close();
    assert!(gone.get(), "its frame is left behind");
    assert!(result.failure().check::<AbandonedError>());
}

#[test]
fn a_closed_reactor_ends_what_is_pending_for_a_loop_for_work_and_for_a_lock() {
    ends_with_its_reactor(waits_for_a_loop);
    ends_with_its_reactor(waits_for_work);
    let path = std::env::temp_dir().join(format!("twistor-ends-{}.lock", std::process::id()));
    let mut other = FilesystemLock::new(&path);
    assert!(other.lock().unwrap());
    ends_with_its_reactor(|reactor, flag| waits_for_a_lock(reactor, path, flag));
    other.unlock().unwrap();
}

#[test]
fn a_loop_on_a_closed_reactor_fails_at_once() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    reactor.close();
    let looping = LoopingCall::new(reactor.clone(), |_| ());
    assert!(now(looping.start(secs(1))).unwrap_err().check::<AbandonedError>());
    assert!(!looping.is_running());
    assert!(now(Cooperator::new(reactor).coiterate([()])).unwrap_err().check::<AbandonedError>());
}

#[test]
fn a_main_that_waits_for_its_loop_is_dropped_with_the_program() {
    let (gone, memory) = (Rc::new(Cell::new(false)), MemoryReactor::new());
    let (flag, reactor) = (Flag(gone.clone()), memory.reactor());
    let stop = reactor.clone();
    reactor.call_later(Duration::ZERO, move || stop.stop().unwrap());
    react_on(&reactor, Args::default(), move |reactor, _| waits_for_a_loop(reactor, flag)).unwrap();
    assert!(gone.get());
}

#[test]
fn defer_later_ends_with_its_clock() {
    let (clock, gone) = (Clock::new(), Rc::new(Cell::new(false)));
    let flag = Flag(gone.clone());
    let result = watch(defer_later(&clock, secs(3), move || drop(flag)));
    drop(clock);
    assert!(gone.get());
    assert!(result.failure().check::<AbandonedError>());
}

// ---- cooperative work

#[test]
fn work_continues_even_if_nothing_holds_its_cooperator() {
    let (cooperator, clock) = greedy();
    let (wait, resolver) = Deferred::<()>::new();
    let done = watch(cooperator.coiterate([wait, Deferred::succeed(())]));
    let paused = cooperator.cooperate(std::iter::once(()));
    let resumed = watch(paused.when_done());
    paused.pause().unwrap();
    drop(cooperator);
    clock.advance(secs(1));
    resolver.callback(());
    paused.resume().unwrap();
    clock.advance(secs(1));
    done.value();
    resumed.value();
}

#[test]
fn a_failure_of_work_that_was_stopped_in_the_meantime_is_reported() {
    let (cooperator, clock) = greedy();
    let reports = Reports::new();
    let me: Rc<RefCell<Option<CooperativeTask>>> = Rc::default();
    let itself = me.clone();
    let task = cooperator.cooperate(std::iter::repeat_with(move || -> () {
        itself.borrow().as_ref().unwrap().stop().unwrap();
        std::panic::resume_unwind(Box::new("lost"))
    }));
    *me.borrow_mut() = Some(task);
    clock.advance(secs(1));
    me.take();
    assert_eq!(reports.take().len(), 1, "a panic after it has stopped itself");
    let (wait, resolver) = Deferred::<()>::new();
    let task = cooperator.cooperate([wait]);
    clock.advance(secs(1));
    task.stop().unwrap();
    resolver.errback(Bang("late"));
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn a_task_ends_once_also_when_the_cooperator_is_being_stopped() {
    let (cooperator, clock) = greedy();
    let reports = Reports::new();
    let (wait, resolver) = Deferred::<()>::new();
    let (one, fails) = (cooperator.cooperate(std::iter::repeat(())), cooperator.cooperate([wait]));
    let two = cooperator.cooperate(std::iter::repeat(()));
    let other = two.clone();
    // the end of the first stops one of the others and fails the other
    one.pause().unwrap();
    two.pause().unwrap();
    clock.advance(secs(1));
    one.when_done()
        .add_both(move |_| {
            resolver.errback(Bang("real"));
            other.stop()
        })
        .detach();
    let told = watch(two.when_done());
    cooperator.stop();
    assert!(told.failure().check::<TaskStopped>());
    assert!(now(two.when_done()).unwrap_err().check::<TaskStopped>(), "and it says the same later");
    drop(fails);
    assert!(reports.take().iter().any(|text| text.contains("real")));
}

#[test]
fn a_predicate_that_panics_stalls_no_task() {
    let reports = Reports::new();
    for at_the_start in [true, false] {
        let (clock, first) = (Clock::new(), Rc::new(Cell::new(true)));
        let cooperator = Cooperator::with_predicate(clock.clone(), move || {
            let boom = |wanted: bool| {
                if wanted {
                    std::panic::resume_unwind(Box::new("boom"));
                }
            };
            boom(at_the_start && first.replace(false));
            let first = first.clone();
            move || {
                boom(!at_the_start && first.replace(false));
                false
            }
        });
        let (one, two) =
            (watch(cooperator.coiterate([(), ()])), watch(cooperator.coiterate([(), ()])));
        clock.pump([secs(1); 3]);
        one.value();
        two.value();
    }
    assert_eq!(reports.take().len(), 2);
}

#[test]
fn a_failure_after_when_done_was_cancelled_is_not_reported() {
    let (cooperator, clock) = greedy();
    let reports = Reports::new();
    let (wait, resolver) = Deferred::<()>::new();
    let task = cooperator.cooperate([wait]);
    clock.advance(secs(1));
    let asked = task.when_done();
    asked.cancel();
    drop(asked);
    resolver.errback(Bang("lost"));
    drop(task);
    assert!(reports.take().is_empty());
}

// Kind: a failure that comes after its Deferred was cancelled is a late fire, which is not reported.
#[test]
fn a_failure_after_the_deferred_of_coiterate_was_cancelled_is_not_reported() {
    let reports = Reports::new();
    let clock = Clock::new();
    let cooperator = Cooperator::new(clock.clone());
    let ended = cooperator.coiterate([Err::<(), _>(Failure::new(Bang("late")))]);
    ended.cancel();
    assert!(ended.take_result().unwrap().is_err());
    clock.advance(Duration::ZERO);
    assert!(clock.delayed_calls().is_empty());
    drop(cooperator);
    assert!(reports.take().is_empty());
}

// ---- locks

/// A system that uses the lock while the lock is in use.
struct Curious(Rc<RefCell<Option<DeferredFilesystemLock>>>);

impl LockSystem for Curious {
    fn link(&self, _target: &str, _path: &std::path::Path) -> std::io::Result<()> {
        if let Some(lock) = &*self.0.borrow() {
            assert!(!lock.is_held() && format!("{lock:?}").contains("being tried"));
            assert!(now(lock.defer_until_locked()).is_err(), "it is in use");
        }
        Ok(())
    }

    fn read(&self, _path: &std::path::Path) -> std::io::Result<String> {
        Ok(std::process::id().to_string())
    }

    fn remove(&self, _path: &std::path::Path) -> std::io::Result<()> {
        Ok(())
    }

    fn is_alive(&self, _id: u32) -> std::io::Result<bool> {
        Ok(true)
    }
}

#[test]
fn a_lock_system_may_look_at_its_lock() {
    let slot: Rc<RefCell<Option<DeferredFilesystemLock>>> = Rc::default();
    let lock = DeferredFilesystemLock::with_lock(
        FilesystemLock::with_system("/x", Curious(slot.clone())),
        Clock::new(),
    );
    *slot.borrow_mut() = Some(lock.clone());
    let held = now(lock.defer_until_locked()).unwrap();
    assert!(lock.is_held());
    held.release().unwrap();
    slot.take();
}

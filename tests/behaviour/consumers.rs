//! Gates, several consumers, chaining to a resolver, functions that become Deferreds, futures from
//! and to.
use crate::support::{Bang, Log, Reports, TestDoor, now, watch};
use futures::{channel::oneshot, executor::block_on};
use std::cell::Cell;
use twistor::{
    defer::{ensure_deferred, execute, log_error, maybe_deferred},
    error::{CancelledError, Panicked},
    prelude::*,
};

// ---- pausing

#[test]
fn d_026_an_errback_behind_a_paused_failure_runs_inside_unpause() {
    let log = Log::new();
    let noted = log.clone();
    let (deferred, pause) = Deferred::<()>::fail(Bang("held")).pausable();
    pause.pause();
    deferred.add_errback(move |failure| noted.add(failure)).detach();
    assert!(log.take().is_empty());
    pause.unpause();
    assert_eq!(log.take(), ["held"]);
}

#[test]
fn d_027_pausing_and_unpausing_before_the_fire_runs_nothing() {
    let (deferred, fire) = Deferred::new();
    let (deferred, pause) = deferred.pausable();
    let result = watch(deferred);
    pause.pause();
    pause.unpause();
    pause.unpause();
    assert!(result.is_pending());
    fire.callback(1);
    assert_eq!(result.value(), 1);
}

#[test]
fn d_028_firing_a_paused_inner_one_is_not_enough() {
    let (inner, fire) = Deferred::new();
    let (inner, pause) = inner.pausable();
    pause.pause();
    let outer = watch(Deferred::succeed(1).add_callback(move |_| inner));
    fire.callback(2);
    assert!(outer.is_pending());
    pause.unpause();
    assert_eq!(outer.value(), 2);
}

#[test]
fn d_030_a_returned_one_with_a_result_that_is_paused_makes_the_outer_wait() {
    let (inner, pause) = Deferred::succeed(5).pausable();
    pause.pause();
    let outer = watch(Deferred::succeed(()).add_callback(move |()| inner));
    assert!(outer.is_pending());
    pause.unpause();
    assert_eq!(outer.value(), 5);
}

#[test]
fn pauses_count_and_the_last_pause_dropped_opens_the_gate() {
    let (deferred, pause) = Deferred::succeed(1).pausable();
    pause.pause();
    pause.pause();
    let result = watch(deferred);
    pause.unpause();
    assert!(result.is_pending());
    let other = pause.clone();
    drop(pause);
    assert!(result.is_pending());
    drop(other);
    assert_eq!(result.value(), 1);
}

#[test]
fn a_cancel_passes_an_unfired_gate() {
    let (deferred, _fire) = Deferred::<u32>::new();
    let (deferred, pause) = deferred.pausable();
    pause.pause();
    deferred.cancel();
    let result = watch(deferred);
    assert!(result.is_pending(), "the failure waits in the gate");
    pause.unpause();
    assert!(result.failure().check::<CancelledError>());
}

// ---- chaining to a resolver

#[test]
fn d_042_d_043_the_waiting_relation_is_there_at_once_and_goes_with_the_fire() {
    let (a, resolver_of_a) = Deferred::<u32>::new();
    let (b, fire_b) = Deferred::<u32>::new();
    b.chain(resolver_of_a);
    assert!(format!("{a:?}").contains(" waiting on Deferred at 0x"), "{a:?}");
    fire_b.callback(3);
    assert!(!format!("{a:?}").contains("waiting on"), "{a:?}");
    assert_eq!(now(a).unwrap(), 3);
}

#[test]
fn cancelling_the_waiting_one_reaches_what_was_chained_to_it() {
    let (a, resolver_of_a) = Deferred::<u32>::new();
    let log = Log::new();
    let noted = log.clone();
    let (b, _fire_b) = Deferred::<u32>::with_canceller(move |_| noted.add("b"));
    b.chain(resolver_of_a);
    a.cancel();
    assert_eq!(log.take(), ["b"]);
    assert!(now(a).unwrap_err().check::<CancelledError>());
}

// ---- several consumers

#[test]
fn each_consumer_of_a_shared_one_gets_the_result_before_and_after_the_fire() {
    let (deferred, fire) = Deferred::new();
    let shared = deferred.shared();
    let (one, two) = (watch(shared.get()), watch(shared.get()));
    fire.callback("v".to_owned());
    assert_eq!((one.value(), two.value()), ("v".to_owned(), "v".to_owned()));
    assert_eq!(now(shared.get()).unwrap(), "v");
}

#[test]
fn cancelling_one_branch_fails_that_branch_and_cancelling_all_cancels_the_source() {
    let log = Log::new();
    let noted = log.clone();
    let (deferred, _fire) = Deferred::<u32>::with_canceller(move |_| noted.add("source"));
    let shared = deferred.shared();
    let (one, two) = (shared.get(), shared.get());
    one.cancel();
    assert!(log.take().is_empty());
    assert!(now(one).unwrap_err().check::<CancelledError>());
    two.cancel();
    assert_eq!(log.take(), ["source"]);
    assert!(now(two).unwrap_err().check::<CancelledError>());
}

#[test]
fn a_shared_failure_without_consumers_is_reported_once() {
    let reports = Reports::new();
    drop(Deferred::<u32>::fail(Bang("lost")).shared());
    assert_eq!(reports.take().len(), 1);
    let shared = Deferred::<u32>::fail(Bang("seen")).shared();
    assert!(now(shared.get()).is_err());
    drop(shared);
    assert!(reports.take().is_empty());
}

// ---- looking

#[test]
fn tap_observes_and_take_result_takes_a_result() {
    let log = Log::new();
    let noted = log.clone();
    let tapped =
        Deferred::succeed(3).tap(move |result| noted.add(format!("{:?}", result.unwrap())));
    assert_eq!((now(tapped).unwrap(), log.take()), (3, vec!["3".to_owned()]));
    assert!(now(Deferred::succeed(3).tap(|_| panic!("looking"))).unwrap_err().check::<Panicked>());
    let (pending, fire) = Deferred::new();
    let pending = pending.take_result().unwrap_err();
    fire.callback(1);
    assert_eq!(pending.take_result().unwrap().unwrap(), 1);
}

// ---- functions

#[test]
fn d_052_d_054_d_055_maybe_deferred_of_values_panics_and_failures() {
    assert_eq!(now(maybe_deferred(|| Ok(5))).unwrap(), 5);
    assert!(
        now(maybe_deferred(|| -> Result<u32, Failure> { panic!("inside") }))
            .unwrap_err()
            .check::<Panicked>()
    );
    let failure = Failure::new(Bang("same"));
    let same = failure.clone();
    assert!(now(maybe_deferred(move || Err::<u32, _>(failure))).unwrap_err().is_same(&same));
}

#[test]
fn d_056_d_057_maybe_deferred_passes_a_deferred_s_later_result_through() {
    let (good, fire_good) = Deferred::new();
    let (bad, fire_bad) = Deferred::<u32>::new();
    let (one, two) = (watch(maybe_deferred(move || good)), watch(maybe_deferred(move || bad)));
    fire_good.callback(1);
    fire_bad.errback(Bang("later"));
    assert_eq!(one.value(), 1);
    assert!(two.failure().check::<Bang>());
}

#[test]
fn d_058_d_059_d_060_maybe_deferred_drives_async_work() {
    #[inline_callbacks]
    async fn seven() -> Result<u32, Failure> {
        Ok(7)
    }
    assert_eq!(now(maybe_deferred(seven)).unwrap(), 7);
    let eight = maybe_deferred(|| Deferred::from_future(async { 7 })).add_callback(|n| Ok(n + 1));
    assert_eq!(now(eight).unwrap(), 8);
    let failing = maybe_deferred(|| ensure_deferred(async { Err::<u32, _>(Bang("async")) }));
    assert!(now(failing).unwrap_err().check::<Bang>());
}

#[test]
fn d_061_execute_runs_now_and_unwraps_nothing() {
    let inner = now(execute(|| Ok::<_, Failure>(Deferred::succeed(1)))).unwrap();
    assert_eq!(now(inner).unwrap(), 1);
    assert!(now(execute(|| "x".parse::<u32>())).is_err());
    assert!(
        now(execute(|| -> Result<u32, Failure> { panic!("x") })).unwrap_err().check::<Panicked>()
    );
}

#[test]
fn d_062_d_063_log_error_reports_once_and_returns_the_same_failure() {
    let reports = Reports::new();
    let failure = Failure::new(Bang("logged"));
    assert!(log_error(failure.clone()).is_same(&failure));
    let seen = reports.take();
    assert!(
        seen.len() == 1
            && seen[0].starts_with("Unhandled Error\nTraceback (most recent call last):\n"),
        "{seen:?}"
    );
}

// ---- futures

#[test]
fn d_125_a_failed_deferred_completes_its_future_with_the_same_error() {
    let failure = Failure::new(Bang("same"));
    assert!(
        block_on(Deferred::<u32>::fail(failure.clone()).as_future()).unwrap_err().is_same(&failure)
    );
}

#[test]
fn d_126_d_128_a_deferred_from_a_future_fires_with_it_and_cancelling_it_drops_the_future() {
    let door = TestDoor::install();
    let (send, receive) = oneshot::channel();
    let result = watch(Deferred::from_future(receive));
    assert!(result.is_pending());
    send.send(7).unwrap();
    door.run();
    assert_eq!(result.value(), Ok(7));
    let (send, receive) = oneshot::channel::<u32>();
    let deferred = Deferred::from_future(receive);
    deferred.cancel();
    assert!(send.is_canceled());
    assert!(now(deferred).unwrap_err().check::<CancelledError>());
}

#[test]
fn a_cancel_of_a_foreign_await_arrives_as_an_error_through_from_future() {
    #[inline_callbacks]
    fn waits(foreign: oneshot::Receiver<u32>, caught: std::rc::Rc<Cell<bool>>) -> Deferred<()> {
        let result = yield_!(Deferred::from_future(foreign));
        caught.set(result.unwrap_err().check::<CancelledError>());
        return_value!(())
    }
    let _door = TestDoor::install();
    let (_send, receive) = oneshot::channel();
    let caught = std::rc::Rc::new(Cell::new(false));
    let d = waits(receive, caught.clone());
    d.cancel();
    assert!(caught.get());
    now(d).unwrap();
}

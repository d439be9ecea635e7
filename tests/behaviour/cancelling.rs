//! Cancelling coroutines.
use crate::support::{Bang, Log, now, on_small_stack, watch};
use std::{cell::RefCell, rc::Rc, time::Duration};
use twistor::{error::CancelledError, prelude::*};

/// A Deferred that records its cancellation under `name`.
fn noting(log: &Log, name: &'static str) -> (Deferred<u32>, Resolver<u32>) {
    let log = log.clone();
    Deferred::with_canceller(move |_| log.add(name))
}

#[inline_callbacks]
fn waits(c: Deferred<u32>) -> Deferred<u32> {
    yield_!(c)
}

#[inline_callbacks]
async fn waits_async(c: Deferred<u32>) -> Result<u32, Failure> {
    c.await
}

#[inline_callbacks]
fn nested(c: Deferred<u32>, by_async: bool, first: Option<Deferred<u32>>) -> Deferred<u32> {
    if let Some(first) = first {
        yield_!(first)?;
    }
    if by_async { yield_!(waits_async(c)) } else { yield_!(waits(c)) }
}

#[test]
fn i_030_i_033_cancelling_d_cancels_c_and_its_error_becomes_d_s() {
    let log = Log::new();
    let (c, _fire) = noting(&log, "c");
    let d = waits(c);
    d.cancel();
    assert_eq!(log.take(), ["c"]);
    assert!(now(d).unwrap_err().check::<CancelledError>());
}

#[test]
fn i_031_i_032_i_034_a_cancel_passes_through_a_nested_function_of_either_kind_also_after_a_first_wait()
 {
    for by_async in [false, true] {
        for second in [false, true] {
            let log = Log::new();
            let (c, _fire) = noting(&log, "c");
            let d = nested(c, by_async, second.then(|| Deferred::succeed(0)));
            d.cancel();
            assert_eq!(log.take(), ["c"]);
            assert!(now(d).unwrap_err().check::<CancelledError>());
        }
    }
}

#[test]
fn i_035_i_036_an_error_of_c_s_canceller_can_be_translated() {
    #[inline_callbacks]
    fn translates(c: Deferred<u32>, deep: bool) -> Deferred<u32> {
        let result = if deep { yield_!(nested(c, true, None)) } else { yield_!(c) };
        result.map_err(|failure| {
            if failure.check::<Bang>() { Failure::new(Bang("translated")) } else { failure }
        })
    }
    for deep in [false, true] {
        let (c, _fire) = Deferred::with_canceller(|cancelling| cancelling.errback(Bang("own")));
        let d = translates(c, deep);
        d.cancel();
        assert_eq!(now(d).unwrap_err().to_string(), "translated");
    }
}

#[test]
fn i_037_i_038_an_error_caught_makes_d_succeed() {
    #[inline_callbacks]
    fn recovers(c: Deferred<u32>, deep: bool) -> Deferred<u32> {
        let result = if deep { yield_!(nested(c, false, None)) } else { yield_!(c) };
        match result {
            Err(failure) if failure.check::<CancelledError>() => return_value!(4320),
            other => other,
        }
    }
    for deep in [false, true] {
        let (c, _fire) = Deferred::<u32>::new();
        let d = recovers(c, deep);
        d.cancel();
        assert_eq!(now(d).unwrap(), 4320);
    }
}

#[test]
fn i_039_if_c_s_errback_waits_for_another_d_stays_pending() {
    let (slower, fire_slower) = Deferred::new();
    let (c, _fire) = Deferred::<u32>::new();
    let d = waits(c.add_errback(move |_| slower).map(|n| n + 1));
    let handle = d.canceller();
    let result = watch(d);
    handle.cancel();
    assert!(result.is_pending());
    fire_slower.callback(6543);
    assert_eq!(result.value(), 6544);
}

#[test]
fn i_041_a_caught_cancel_and_a_second_wait_take_a_second_cancel() {
    #[inline_callbacks]
    fn stubborn(first: Deferred<u32>, second: Deferred<u32>) -> Deferred<u32> {
        if yield_!(first).is_err() {
            return yield_!(second);
        }
        return_value!(0)
    }
    let log = Log::new();
    let (first, _first) = noting(&log, "first");
    let (second, _second) = noting(&log, "second");
    let d = stubborn(first, second);
    let handle = d.canceller();
    let result = watch(d);
    handle.cancel();
    assert_eq!(log.take(), ["first"]);
    assert!(result.is_pending());
    handle.cancel();
    assert_eq!(log.take(), ["second"]);
    assert!(result.failure().check::<CancelledError>());
}

#[test]
fn clean_up_after_a_cancel_can_yield() {
    #[inline_callbacks]
    fn tidy(c: Deferred<u32>, clean_up: Deferred<()>, log: Log) -> Deferred<u32> {
        let result = yield_!(c);
        yield_!(clean_up)?;
        log.add("clean");
        result
    }
    let log = Log::new();
    let (c, _fire) = Deferred::<u32>::new();
    let (clean_up, cleaned) = Deferred::new();
    let d = tidy(c, clean_up, log.clone());
    let handle = d.canceller();
    let result = watch(d);
    handle.cancel();
    assert!(result.is_pending() && log.take().is_empty());
    cleaned.callback(());
    assert_eq!(log.take(), ["clean"]);
    assert!(result.failure().check::<CancelledError>());
}

#[test]
fn a_cancel_that_comes_while_it_runs_cancels_the_next_wait() {
    #[inline_callbacks]
    fn cancels_itself(
        handle: std::rc::Rc<std::cell::RefCell<Option<twistor::defer::CancelHandle>>>,
        start: Deferred<()>,
        c: Deferred<u32>,
    ) -> Deferred<u32> {
        yield_!(start)?;
        let handle = handle.take().unwrap();
        handle.cancel();
        yield_!(c)
    }
    let cell = std::rc::Rc::default();
    let (start, go) = Deferred::new();
    let (c, _keep) = Deferred::new();
    let d = cancels_itself(std::rc::Rc::clone(&cell), start, c);
    *cell.borrow_mut() = Some(d.canceller());
    let result = watch(d);
    go.callback(());
    assert!(result.failure().check::<CancelledError>());
}

#[test]
fn two_hundred_thousand_nested_coroutines_start_cancel_and_fire_without_recursion() {
    on_small_stack(|| {
        let (leaf, _fire) = Deferred::<u32>::new();
        let d = (0..200_000).fold(leaf, |inner, _| waits(inner));
        d.cancel();
        assert!(now(d).unwrap_err().check::<CancelledError>());
        let (leaf, fire) = Deferred::<u32>::new();
        let d = (0..200_000).fold(leaf, |inner, _| waits(inner));
        fire.callback(7);
        assert_eq!(now(d).unwrap(), 7);
    });
}

#[test]
fn cancelling_two_deferreds_that_wait_for_each_other_ends() {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (d1, r1) = Deferred::<u32>::new();
        let (d2, r2) = Deferred::<u32>::new();
        let (c1, c2) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(None)));
        let (x2, x1) = (c2.clone(), c1.clone());
        let a = d1.add_callback(move |_| -> Deferred<u32> { x2.take().unwrap() });
        let b = d2.add_callback(move |_| -> Deferred<u32> { x1.take().unwrap() });
        let h = a.canceller();
        *c1.borrow_mut() = Some(a);
        *c2.borrow_mut() = Some(b);
        r1.callback(1);
        r2.callback(1);
        h.cancel();
        send.send(()).unwrap();
    });
    assert!(
        receive.recv_timeout(Duration::from_secs(2)).is_ok(),
        "cancel walks in a circle for ever"
    );
}

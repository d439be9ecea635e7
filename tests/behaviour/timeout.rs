//! `add_timeout`.
use crate::support::{Bang, Log, watch};
use std::{cell::RefCell, rc::Rc, time::Duration};
use twistor::{
    defer::{Deferred, Resolver},
    error::{CancelledError, ConnectError, DeferredTimeoutError, TimeoutError},
    failure::Failure,
    task::Clock,
};

const TEN: Duration = Duration::from_secs(10);
const FIFTEEN: Duration = Duration::from_secs(15);

#[test]
fn d_082_the_chain_continues_after_it() {
    let clock = Clock::new();
    let (deferred, resolver) = Deferred::new();
    let result = watch(
        deferred.add_timeout(Duration::from_secs(5), &clock).add_callback(|n: u32| Ok(n + 1)),
    );
    resolver.callback(1);
    assert_eq!(result.value(), 2);
    assert!(clock.delayed_calls().is_empty(), "the timer ends with the result");
}

#[test]
fn d_083_d_084_an_early_value_ends_the_timer() {
    for custom in [false, true] {
        let (clock, log) = (Clock::new(), Log::new());
        let (deferred, resolver) = Deferred::<&str>::new();
        let (inner, _inner_resolver) = Deferred::<&str>::new();
        let noted = log.clone();
        let limited = if custom {
            deferred.add_timeout_with(TEN, &clock, move |result, _| {
                noted.add("handler");
                result
            })
        } else {
            deferred.add_timeout(TEN, &clock)
        };
        let result = watch(limited.add_callback(move |_| inner));
        resolver.callback("early");
        clock.advance(FIFTEEN);
        assert!(result.is_pending(), "the inner Deferred that came afterwards is not cancelled");
        assert!(log.take().is_empty());
    }
}

#[test]
fn d_085_d_086_an_early_failure_stays_and_ends_the_timer() {
    for custom in [false, true] {
        let (clock, log) = (Clock::new(), Log::new());
        let (deferred, resolver) = Deferred::<u32>::new();
        let (inner, _inner_resolver) = Deferred::<u32>::new();
        let noted = log.clone();
        let limited = if custom {
            deferred.add_timeout_with(TEN, &clock, move |result, _| result)
        } else {
            deferred.add_timeout(TEN, &clock)
        };
        let result = watch(limited.add_errback(move |failure| {
            noted.add(failure);
            inner
        }));
        resolver.errback(Bang("early"));
        clock.advance(FIFTEEN);
        assert!(result.is_pending());
        assert_eq!(log.take(), ["early"]);
    }
}

#[test]
fn d_087_at_the_limit_it_is_cancelled_and_fails_with_timeout_error() {
    let clock = Clock::new();
    let (deferred, _resolver) = Deferred::<u32>::new();
    let line = line!() + 1;
    let result = watch(deferred.add_timeout(TEN, &clock));
    clock.advance(FIFTEEN);
    let failure = result.failure();
    assert!(failure.check::<TimeoutError>());
    assert!(failure.to_string().contains("has no result within 10s"), "{failure}");
    let cause = failure.value().source().unwrap().to_string();
    assert!(
        cause.contains(&format!("{}:{line}:", file!())),
        "the cause names the line that set the limit: {cause}"
    );
}

#[test]
fn d_088_a_custom_handler_makes_the_result() {
    let (clock, log) = (Clock::new(), Log::new());
    let (deferred, _resolver) = Deferred::<&str>::new();
    let noted = log.clone();
    let result = watch(deferred.add_timeout_with(TEN, &clock, move |result, after| {
        noted.add(format!("{} {after:?}", result.unwrap_err().check::<CancelledError>()));
        Ok("OVERRIDDEN")
    }));
    clock.advance(FIFTEEN);
    assert_eq!(result.value(), "OVERRIDDEN");
    assert_eq!(log.take(), ["true 10s"]);
}

#[test]
fn d_089_d_098_a_canceller_that_gives_a_value_wins() {
    let clock = Clock::new();
    let (deferred, _resolver) =
        Deferred::<u32>::with_canceller(|cancelling| cancelling.callback(1));
    let result = watch(deferred.add_callback(|n| Ok(n + 1)).add_timeout(TEN, &clock));
    clock.advance(FIFTEEN);
    assert_eq!(result.value(), 2);
}

#[test]
fn d_090_a_canceller_that_fails_it_otherwise_wins() {
    let clock = Clock::new();
    let (deferred, _resolver) =
        Deferred::<u32>::with_canceller(|cancelling| cancelling.errback(Bang("own")));
    let result = watch(deferred.add_timeout(TEN, &clock));
    clock.advance(FIFTEEN);
    assert!(result.failure().check::<Bang>());
}

#[test]
fn d_091_d_092_a_cancel_before_the_limit_stays_a_cancel() {
    for custom in [false, true] {
        let clock = Clock::new();
        let (deferred, _resolver) = Deferred::<u32>::new();
        let limited = if custom {
            deferred.add_timeout_with(TEN, &clock, |_, _| Ok(0))
        } else {
            deferred.add_timeout(TEN, &clock)
        };
        limited.cancel();
        assert!(clock.delayed_calls().is_empty());
        assert!(watch(limited).failure().check::<CancelledError>());
    }
}

#[test]
fn d_093_d_099_a_custom_handler_wins_over_what_the_canceller_gave() {
    for fails in [true, false] {
        let clock = Clock::new();
        let (deferred, _resolver) = Deferred::<u32>::with_canceller(move |cancelling| {
            if fails { cancelling.errback(Bang("own")) } else { cancelling.callback(1) }
        });
        let result = watch(deferred.add_timeout_with(TEN, &clock, |_, _| Ok(9)));
        clock.advance(FIFTEEN);
        assert_eq!(result.value(), 9);
    }
}

#[test]
fn d_094_an_errback_before_it_sees_the_cancel_and_the_step_makes_a_timeout_of_it() {
    let (clock, log) = (Clock::new(), Log::new());
    let (deferred, _resolver) = Deferred::<u32>::new();
    let noted = log.clone();
    let result = watch(
        deferred
            .add_errback(move |failure| {
                noted.add(failure.check::<CancelledError>());
                Err(failure)
            })
            .add_timeout(TEN, &clock),
    );
    clock.advance(FIFTEEN);
    assert_eq!(log.take(), ["true"]);
    assert!(result.failure().check::<TimeoutError>());
}

#[test]
fn d_095_d_097_an_errback_before_it_may_recover_and_a_custom_handler_runs_all_the_same() {
    let clock = Clock::new();
    let recovering = || Deferred::<u32>::new().0.add_errback(|_| Ok(5));
    // the Resolvers are kept, so that only the limit fires
    let (one, _r1) = Deferred::<u32>::new();
    let (two, _r2) = Deferred::<u32>::new();
    drop(recovering());
    let recovered = watch(one.add_errback(|_| Ok(5)).add_timeout(TEN, &clock));
    let handled = watch(
        two.add_errback(|_| Ok(5))
            .add_timeout_with(TEN, &clock, |result, _| result.map(|n| n * 10)),
    );
    clock.advance(FIFTEEN);
    assert_eq!((recovered.value(), handled.value()), (5, 50));
}

#[test]
fn d_096_a_custom_handler_after_an_errback_that_passes_it_on() {
    let (clock, log) = (Clock::new(), Log::new());
    let (deferred, _resolver) = Deferred::<u32>::new();
    let noted = log.clone();
    let result = watch(
        deferred
            .add_errback(move |failure: Failure| {
                noted.add(failure.check::<CancelledError>());
                Err(failure)
            })
            .add_timeout_with(TEN, &clock, |_, _| Ok(7)),
    );
    clock.advance(FIFTEEN);
    assert_eq!((log.take(), result.value()), (vec!["true".to_owned()], 7));
}

#[test]
fn a_fired_deferred_gets_no_timer() {
    let clock = Clock::new();
    let result = watch(Deferred::succeed(1).add_timeout(TEN, &clock));
    assert!(clock.delayed_calls().is_empty());
    assert_eq!(result.value(), 1);
}

#[test]
fn a_late_answer_after_the_limit_is_dropped_and_the_producer_can_ask() {
    let clock = Clock::new();
    let (deferred, resolver) = Deferred::<u32>::new();
    let result = watch(deferred.add_timeout(TEN, &clock));
    let kept: Rc<RefCell<Option<Resolver<u32>>>> = Rc::new(RefCell::new(Some(resolver)));
    clock.advance(TEN);
    let resolver = kept.take().unwrap();
    assert!(!resolver.is_wanted());
    resolver.callback(1);
    assert!(result.failure().check::<TimeoutError>());
}

// Kind: an error is of the kind of what failed. A time limit on a Deferred says nothing about a
// connection.
#[test]
fn the_error_of_a_time_limit_names_the_deferred_and_the_limit_and_is_no_connect_error() {
    let clock = Clock::new();
    let made = line!() + 1;
    let (deferred, _resolver) = Deferred::<()>::new();
    let set = line!() + 1;
    let limited = deferred.add_timeout(Duration::from_secs(5), &clock);
    clock.advance(Duration::from_secs(5));
    let failure = limited.take_result().unwrap().unwrap_err();
    assert!(failure.check::<DeferredTimeoutError>() && failure.check::<TimeoutError>());
    assert!(!failure.check::<ConnectError>());
    let (text, file) = (failure.to_string(), file!());
    assert!(text.starts_with(&format!("the Deferred made at {file}:{made}:")), "{text}");
    assert!(text.contains(&format!(" has no result within 5s, the limit set at {file}:{set}:")));
}

//! Deferred and Resolver: firing, chaining, cancelling, dropping.
use crate::support::{Bang, Log, Reports, now, on_small_stack, watch};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use twistor::{
    defer::{Deferred, SharedResolver},
    error::{AbandonedError, CancelledError, CircularChainError, Panicked},
    failure::Failure,
};

// ---- firing, callbacks and errbacks

#[test]
fn d_001_a_callback_gets_exactly_the_value() {
    let log = Log::new();
    let (noted, not) = (log.clone(), log.clone());
    let (deferred, resolver) = Deferred::new();
    deferred.add_callbacks(move |text: &str| noted.add(text), move |_| not.add("errback")).detach();
    resolver.callback("hello");
    assert_eq!(log.take(), ["hello"]);
}

#[test]
fn d_004_callbacks_run_in_order_and_each_gets_what_the_one_before_returned() {
    let log = Log::new();
    let (one, two) = (log.clone(), log.clone());
    let (deferred, resolver) = Deferred::new();
    deferred
        .map(move |text: &str| {
            one.add(text);
            text
        })
        .map(move |text| two.add(text))
        .detach();
    resolver.callback("hello");
    assert_eq!(log.take(), ["hello", "hello"]);
}

#[test]
fn d_005_a_callback_lets_a_failure_pass_to_the_next_errback() {
    let failure = Failure::new(Bang("x"));
    let passed = now(Deferred::<u32>::fail(failure.clone()).add_callback(|_| Ok(1))).unwrap_err();
    assert!(passed.is_same(&failure));
}

#[test]
fn d_008_succeed_is_what_a_deferred_fired_by_hand_is() {
    let (by_hand, resolver) = Deferred::new();
    resolver.callback(5);
    assert!(format!("{by_hand:?}").ends_with(" current result: 5>"));
    assert!(format!("{:?}", Deferred::succeed(5)).ends_with(" current result: 5>"));
    assert_eq!((now(by_hand).unwrap(), now(Deferred::succeed(5)).unwrap()), (5, 5));
}

#[test]
fn d_009_an_errback_on_a_failed_deferred_runs_at_once() {
    let log = Log::new();
    let noted = log.clone();
    Deferred::<()>::fail(Bang("fail")).add_errback(move |failure| noted.add(failure)).detach();
    assert_eq!(log.take(), ["fail"]);
}

#[test]
fn d_010_a_callback_that_panics_or_returns_an_error_turns_the_chain() {
    let panicked = now(Deferred::succeed(0).add_callback(|n: u32| Ok(1 / n))).unwrap_err();
    assert_eq!(panicked.downcast_ref::<Panicked>().unwrap().message(), "attempt to divide by zero");
    let returned =
        now(Deferred::succeed(0).add_callback(|_| Err::<u32, _>(Bang("no").into()))).unwrap_err();
    assert!(returned.check::<Bang>());
}

#[test]
fn d_011_one_callback_may_return_a_value_or_a_failure() {
    let failure = Failure::new(Bang("odd"));
    let same = failure.clone();
    let maybe = move |n: u32| if n == 6 { Ok(n + 1) } else { Err(failure) };
    assert_eq!(now(Deferred::succeed(6).add_callback(maybe.clone())).unwrap(), 7);
    let kept = now(Deferred::succeed(5).add_callback(maybe).add_callback(|_| Ok(0))).unwrap_err();
    assert!(kept.is_same(&same));
}

/// The end of a chain, kept so that a running callback can add to it.
type Tail = Rc<RefCell<Option<Deferred<()>>>>;

fn add_to(tail: &Tail, log: &Log, what: &'static str) {
    let log = log.clone();
    let end = tail.take().unwrap();
    *tail.borrow_mut() = Some(end.map(move |()| log.add(what)));
}

#[test]
fn d_012_a_callback_added_inside_a_running_one_goes_to_the_end() {
    let (log, tail) = (Log::new(), Tail::default());
    let (deferred, resolver) = Deferred::new();
    let (noted, end) = (log.clone(), tail.clone());
    let first = deferred.map(move |()| {
        noted.add("1");
        add_to(&end, &noted, "3");
    });
    *tail.borrow_mut() = Some(first);
    add_to(&tail, &log, "2");
    resolver.callback(());
    assert_eq!(log.take(), ["1", "2", "3"]);
}

#[test]
fn d_013_it_never_runs_inside_the_running_callback() {
    let (log, tail) = (Log::new(), Tail::default());
    let (deferred, resolver) = Deferred::new();
    let (noted, end) = (log.clone(), tail.clone());
    *tail.borrow_mut() = Some(deferred.map(move |()| {
        add_to(&end, &noted, "second");
        noted.add("first is done");
    }));
    resolver.callback(());
    assert_eq!(log.take(), ["first is done", "second"]);
}

#[test]
fn d_014_one_added_inside_a_running_one_may_fail_it() {
    let tail = Tail::default();
    let (deferred, resolver) = Deferred::new();
    let end = tail.clone();
    *tail.borrow_mut() = Some(deferred.map(move |()| {
        let chain = end.take().unwrap();
        *end.borrow_mut() = Some(chain.add_callback(|()| Err::<(), _>(Bang("reentrant").into())));
    }));
    resolver.callback(());
    assert_eq!(now(tail.take().unwrap()).unwrap_err().to_string(), "reentrant");
}

// ---- firing twice: does not compile with a Resolver, and is an error with a shared one

#[test]
fn a_shared_resolver_fires_once_and_names_the_first_place() {
    for fails_first in [false, true] {
        for fails_then in [false, true] {
            let (deferred, resolver) = Deferred::<u32>::new();
            let shared = resolver.shared();
            let fire =
                |fails: bool| if fails { shared.errback(Bang("e")) } else { shared.callback(1) };
            assert!(fire(fails_first).is_ok());
            let error = fire(fails_then).unwrap_err();
            assert!(error.to_string().contains(file!()), "{error}");
            assert_eq!(now(deferred).is_err(), fails_first);
        }
    }
}

#[test]
fn the_last_shared_resolver_dropped_fails_the_deferred() {
    let (deferred, resolver) = Deferred::<u32>::new();
    let one = resolver.shared();
    let two = one.clone();
    let result = watch(deferred);
    drop(one);
    assert!(result.is_pending());
    drop(two);
    assert!(result.failure().check::<AbandonedError>());
}

// ---- chaining

#[test]
fn d_029_an_errback_may_return_a_deferred() {
    let (inner, resolver) = Deferred::new();
    let result = watch(Deferred::<u32>::fail(Bang("x")).add_errback(move |_| inner));
    assert!(result.is_pending());
    resolver.callback(3);
    assert_eq!(result.value(), 3);
}

#[test]
fn d_032_the_inner_chain_runs_to_its_end_before_the_outer_continues() {
    let log = Log::new();
    let (c, fire) = Deferred::new();
    let noted = log.clone();
    let b = Deferred::succeed(()).add_callback(move |()| c).map(move |n: u32| {
        noted.add("secondCallback");
        n * 2
    });
    let noted = log.clone();
    let a = Deferred::succeed(()).add_callback(move |()| b).map(move |n| noted.add(n));
    fire.callback(21);
    a.detach();
    assert_eq!(log.take(), ["secondCallback", "42"]);
}

#[test]
fn d_034_what_was_added_to_the_outer_runs_after_the_whole_inner_chain() {
    let log = Log::new();
    let noted = |what: &'static str| {
        let log = log.clone();
        move |()| log.add(what)
    };
    let (inner, fire) = Deferred::new();
    let inner = inner.map(noted("firstCallback")).map(noted("secondCallback"));
    let (outer, start) = Deferred::new();
    let cb = noted("cb");
    outer
        .add_callback(move |()| {
            cb(());
            inner
        })
        .map(noted("final"))
        .detach();
    start.callback(());
    fire.callback(());
    assert_eq!(log.take(), ["cb", "firstCallback", "secondCallback", "final"]);
}

#[test]
fn returned_deferreds_hand_their_result_over() {
    let reports = Reports::new();
    assert_eq!(now(Deferred::succeed(()).add_callback(|()| Deferred::succeed(7))).unwrap(), 7);
    let failed = now(Deferred::succeed(()).add_callback(|()| Deferred::<u32>::fail(Bang("inner"))));
    assert!(failed.unwrap_err().check::<Bang>());
    let (inner, fire) = Deferred::new();
    let outer = watch(Deferred::succeed(()).add_callback(move |()| inner));
    fire.callback(8);
    assert_eq!(outer.value(), 8);
    assert!(reports.take().is_empty(), "nothing is left behind in the inner ones");
}

#[test]
fn d_039_chaining_is_transitive() {
    let (first, fire) = Deferred::new();
    let second = Deferred::succeed(()).add_callback(move |()| first);
    let third = watch(Deferred::succeed(()).add_callback(move |()| second));
    assert!(third.is_pending());
    fire.callback("value");
    assert_eq!(third.value(), "value");
}

#[test]
fn d_040_d_041_callbacks_on_a_waiting_outer_and_on_the_inner_run_in_order() {
    let (inner, fire) = Deferred::new();
    let inner = inner.map(|n: u32| vec![n]);
    let log = Log::new();
    let noted = |what: &'static str| {
        let log = log.clone();
        move |list: Vec<u32>| {
            log.add(format!("{what} {list:?}"));
            list
        }
    };
    let outer = Deferred::succeed(())
        .add_callback(move |()| Deferred::succeed(()).add_callback(move |()| inner));
    outer.map(noted("one")).map(noted("two")).detach();
    assert!(log.take().is_empty());
    fire.callback(4);
    assert_eq!(log.take(), ["one [4]", "two [4]"]);
}

#[test]
fn d_044_d_051_the_debug_text_names_the_deferred_waited_for() {
    let (inner, _fire) = Deferred::<u32>::new();
    let text = format!("{inner:?}");
    let name = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap().to_owned();
    let (start, go) = Deferred::new();
    let outer = start.add_callback(move |()| inner);
    go.callback(());
    assert!(
        format!("{outer:?}").ends_with(&format!(" waiting on {name}>")),
        "{outer:?} waits on {name}"
    );
}

#[test]
fn d_046_a_callback_that_returns_the_deferred_it_makes_fails_it() {
    let cell: Rc<RefCell<Option<Deferred<()>>>> = Rc::default();
    let (deferred, fire) = Deferred::new();
    let inside = cell.clone();
    let circle = deferred.add_callback(move |()| inside.take().unwrap());
    // the handle is moved into its own callback; its drop is visible by its report
    *cell.borrow_mut() = Some(circle);
    let reports = Reports::new();
    fire.callback(());
    let reports = reports.take();
    assert!(
        reports.len() == 1 && reports[0].contains(std::any::type_name::<CircularChainError>()),
        "{reports:?}"
    );
}

#[test]
fn d_047_the_depth_of_the_stack_does_not_grow_with_the_chain() {
    on_small_stack(|| {
        let depth = |links: usize| {
            let (mut deferred, fire) = Deferred::new();
            let at = Rc::new(Cell::new(0usize));
            for _ in 0..links {
                let inner = deferred;
                deferred = Deferred::succeed(()).add_callback(move |()| inner);
            }
            let seen = at.clone();
            deferred
                .map(move |()| {
                    let local = 0u8;
                    seen.set(std::ptr::from_ref(&local) as usize);
                })
                .detach();
            fire.callback(());
            at.get()
        };
        assert_eq!(depth(1), depth(2));
        assert_eq!(depth(1), depth(1_000_000));
    });
}

// ---- text

#[test]
fn d_049_d_050_the_debug_text_shows_an_address_and_the_result() {
    let (deferred, fire) = Deferred::<u32>::new();
    let text = format!("{deferred:?}");
    let address =
        text.strip_prefix("<Deferred at 0x").and_then(|rest| rest.strip_suffix('>')).expect(&text);
    assert!(address.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    fire.callback(7);
    assert_eq!(format!("{deferred:?}"), format!("<Deferred at 0x{address} current result: 7>"));
}

// ---- cancelling

#[test]
fn d_065_cancel_without_a_canceller_fails_with_cancelled_error_at_once() {
    let (deferred, _resolver) = Deferred::<u32>::new();
    let canceller = deferred.canceller();
    let result =
        watch(deferred.add_callback(|_| -> Result<(), Failure> { panic!("no callback runs") }));
    let line = line!() + 1;
    canceller.cancel();
    let failure = result.failure();
    let place = failure.downcast_ref::<CancelledError>().unwrap().location();
    assert_eq!((place.file(), place.line()), (file!(), line), "it says who cancelled");
}

#[test]
fn d_066_d_067_d_070_one_late_fire_of_a_shared_resolver_is_ignored_and_no_more() {
    for fails in [false, true] {
        let (deferred, resolver) = Deferred::<u32>::new();
        let shared = resolver.shared();
        deferred.cancel();
        deferred.cancel();
        let late = if fails { shared.errback(Bang("late")) } else { shared.callback(1) };
        assert!(late.is_ok());
        assert!(shared.callback(2).is_err() && shared.errback(Bang("later")).is_err());
        assert!(now(deferred).unwrap_err().check::<CancelledError>());
    }
}

#[test]
fn d_068_d_069_a_second_cancel_after_an_ignored_fire_changes_nothing() {
    for fails in [false, true] {
        let (deferred, resolver) = Deferred::<u32>::new();
        let shared = resolver.shared();
        let line = line!() + 1;
        deferred.cancel();
        assert!(if fails { shared.errback(Bang("late")) } else { shared.callback(1) }.is_ok());
        deferred.cancel();
        let failure = now(deferred).unwrap_err();
        assert_eq!(
            failure.downcast_ref::<CancelledError>().unwrap().location().line(),
            line,
            "still the first one"
        );
    }
}

#[test]
fn d_071_a_canceller_that_fires_nothing_is_called_once() {
    let log = Log::new();
    let noted = log.clone();
    let (deferred, _resolver) = Deferred::<u32>::with_canceller(move |_| noted.add("cancelled"));
    deferred.cancel();
    deferred.cancel();
    assert_eq!(log.take(), ["cancelled"]);
    assert!(now(deferred).unwrap_err().check::<CancelledError>());
}

#[test]
fn after_a_canceller_every_late_fire_of_a_shared_resolver_is_an_error() {
    let (deferred, resolver) = Deferred::<u32>::with_canceller(|_| ());
    let shared = resolver.shared();
    deferred.cancel();
    assert!(shared.callback(1).is_err());
    assert!(now(deferred).unwrap_err().check::<CancelledError>());
}

#[test]
fn d_074_d_075_cancel_after_firing_does_nothing() {
    for fails in [false, true] {
        let log = Log::new();
        let noted = log.clone();
        let (deferred, resolver) = Deferred::<u32>::with_canceller(move |_| noted.add("cancelled"));
        if fails {
            resolver.errback(Bang("kept"));
        } else {
            resolver.callback(1);
        }
        deferred.cancel();
        assert!(log.take().is_empty());
        let result = now(deferred);
        assert!(if fails { result.unwrap_err().check::<Bang>() } else { result.unwrap() == 1 });
    }
}

#[test]
fn d_076_d_077_a_canceller_may_fire_otherwise() {
    let (one, _one) = Deferred::<u32>::with_canceller(|cancelling| cancelling.errback(Bang("own")));
    one.cancel();
    assert!(now(one).unwrap_err().check::<Bang>());
    let (two, _two) = Deferred::<u32>::with_canceller(|cancelling| cancelling.callback(7));
    two.cancel();
    assert_eq!(now(two).unwrap(), 7);
}

#[test]
fn d_078_cancelling_a_fired_deferred_that_waits_cancels_what_it_awaits() {
    let log = Log::new();
    let (for_inner, for_outer) = (log.clone(), log.clone());
    let (inner, _inner) = Deferred::<u32>::with_canceller(move |_| for_inner.add("inner"));
    let (outer, fire) = Deferred::<()>::with_canceller(move |_| for_outer.add("outer"));
    let outer = outer.add_callback(move |()| inner);
    fire.callback(());
    outer.cancel();
    assert_eq!(log.take(), ["inner"]);
    assert!(now(outer).unwrap_err().check::<CancelledError>());
}

// Kind: a wrapper around another Deferred is told by that Deferred, through its own Resolver, how
// its cancellation went.
#[test]
fn while_the_canceller_runs_the_first_fire_through_the_resolver_counts() {
    for answer in [Ok(7), Err(Failure::new(Bang("own")))] {
        let (inner, fire_inner) = Deferred::<u32>::with_canceller({
            let answer = answer.clone();
            move |cancelling| match answer {
                Ok(value) => cancelling.callback(value),
                Err(failure) => cancelling.errback(failure),
            }
        });
        let cancel_inner = inner.canceller();
        let (outer, resolver) = Deferred::<u32>::with_canceller(move |_| cancel_inner.cancel());
        inner.chain(resolver);
        outer.cancel();
        match (outer.take_result().unwrap(), answer) {
            (Ok(value), Ok(expected)) => assert_eq!(value, expected),
            (Err(failure), Err(_)) => assert!(failure.check::<Bang>()),
            (result, _) => panic!("{result:?}"),
        }
        assert!(!fire_inner.is_wanted());
    }
}

#[test]
fn a_resolver_dropped_by_the_canceller_leaves_the_cancelled_error() {
    let kept = Rc::new(RefCell::new(None));
    let dropped = kept.clone();
    let (deferred, resolver) =
        Deferred::<u32>::with_canceller(move |_| drop(dropped.borrow_mut().take()));
    *kept.borrow_mut() = Some(resolver);
    deferred.cancel();
    assert!(deferred.take_result().unwrap().unwrap_err().check::<CancelledError>());
}

#[test]
fn a_shared_resolver_fires_once_inside_the_canceller_and_not_after_it() {
    let kept: Rc<RefCell<Option<SharedResolver<u32>>>> = Rc::default();
    let (late, results) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(Vec::new())));
    let (inside, noted) = (kept.clone(), results.clone());
    let (deferred, resolver) = Deferred::<u32>::with_canceller(move |_| {
        let resolver = inside.borrow_mut().take().unwrap();
        noted.borrow_mut().push(resolver.callback(1).is_ok());
        noted.borrow_mut().push(resolver.callback(2).is_ok());
    });
    let resolver = resolver.shared();
    *late.borrow_mut() = Some(resolver.clone());
    *kept.borrow_mut() = Some(resolver);
    deferred.cancel();
    assert_eq!(*results.borrow(), [true, false]);
    assert_eq!(deferred.take_result().unwrap().unwrap(), 1);
    assert!(late.take().unwrap().callback(3).is_err());
}

#[test]
fn a_deferred_is_chained_to_a_shared_resolver_that_others_may_fire_first() {
    let (outer, resolver) = Deferred::<u32>::new();
    let shared = resolver.shared();
    let (inner, fire) = Deferred::<u32>::new();
    inner.chain_shared(shared.clone());
    shared.resolve(Ok(1)).unwrap();
    fire.callback(2);
    assert_eq!(outer.take_result().unwrap().unwrap(), 1);

    let (outer, resolver) = Deferred::<u32>::new();
    let (inner, fire) = Deferred::<u32>::new();
    inner.chain_shared(resolver.shared());
    outer.canceller().cancel();
    assert!(!fire.is_wanted(), "cancelling the outer one reaches the inner one");
    assert!(outer.take_result().unwrap().unwrap_err().check::<CancelledError>());
}

#[test]
fn d_079_d_080_firing_drops_the_canceller() {
    for fails in [false, true] {
        let held = Rc::new(());
        let kept = held.clone();
        let (deferred, resolver) = Deferred::<u32>::with_canceller(move |_| drop(kept));
        assert_eq!(Rc::strong_count(&held), 2);
        if fails {
            resolver.errback(Bang("x"));
        } else {
            resolver.callback(1);
        }
        assert_eq!(Rc::strong_count(&held), 1);
        let _ = now(deferred);
    }
}

#[test]
fn a_cancel_that_finds_a_callback_running_cancels_what_it_awaits_next() {
    let (inner, _keep) = Deferred::<u32>::new();
    let (deferred, fire) = Deferred::<()>::new();
    let handle: Rc<RefCell<twistor::defer::CancelHandle>> = Rc::default();
    let inside = handle.clone();
    let chain = deferred.add_callback(move |()| {
        inside.borrow().cancel();
        inner
    });
    *handle.borrow_mut() = chain.canceller();
    let result = watch(chain);
    fire.callback(());
    assert!(result.failure().check::<CancelledError>());

    // and is discarded if the code awaits nothing
    let (deferred, fire) = Deferred::<()>::new();
    let inside = handle.clone();
    let chain = deferred.map(move |()| inside.borrow().cancel());
    *handle.borrow_mut() = chain.canceller();
    let after = chain.add_callback(|()| Deferred::succeed(1));
    fire.callback(());
    assert_eq!(now(after).unwrap(), 1);
}

#[test]
fn a_canceller_handle_covers_what_was_added_before_it_and_nothing_later() {
    let (deferred, fire) = Deferred::<()>::new();
    let (first, _first) = Deferred::<u32>::new();
    let (second, second_fire) = Deferred::<u32>::new();
    let chain = deferred.add_callback(move |()| first);
    let handle = chain.canceller();
    let result = watch(chain.add_errback(move |_| second));
    fire.callback(());
    handle.cancel();
    assert!(result.is_pending(), "the first inner one was cancelled and the errback waits");
    handle.cancel();
    assert!(result.is_pending(), "what came later is not covered");
    second_fire.callback(5);
    assert_eq!(result.value(), 5);
}

#[test]
fn a_panicking_canceller_is_reported_and_the_deferred_fails_all_the_same() {
    let reports = Reports::new();
    let (deferred, _resolver) = Deferred::<u32>::with_canceller(|_| panic!("oh"));
    deferred.cancel();
    assert!(now(deferred).unwrap_err().check::<CancelledError>());
    assert_eq!(reports.take().len(), 1);
}

// ---- dropping and reports

#[test]
fn d_101_an_unconsumed_failure_is_reported_once_when_it_is_dropped() {
    let reports = Reports::new();
    let (deferred, resolver) = Deferred::<u32>::new();
    let made = line!() - 1;
    resolver.errback(Bang("lost"));
    assert!(reports.take().is_empty());
    drop(deferred);
    let seen = reports.take();
    assert!(
        seen.len() == 1 && seen[0].contains(&format!("Deferred made at {}:{made}", file!())),
        "{seen:?}"
    );
    // also if the handle was dropped before the fire
    let (deferred, resolver) = Deferred::<u32>::new();
    deferred.map(|n| n + 1).detach();
    resolver.errback(Bang("lost"));
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn d_103_the_report_begins_with_unhandled_error_and_the_traceback() {
    let reports = Reports::new();
    drop(Deferred::<u32>::fail(Bang("lost")));
    let seen = reports.take();
    assert!(
        seen[0].starts_with("Unhandled Error\nTraceback (most recent call last):\n"),
        "{seen:?}"
    );
}

#[test]
fn d_106_a_failure_handed_to_a_deferred_that_never_fires_is_not_reported() {
    let reports = Reports::new();
    let (never, resolver) = Deferred::<u32>::new();
    let chain = Deferred::<u32>::fail(Bang("handled")).add_errback(move |_| never);
    drop(chain);
    drop(resolver);
    // the AbandonedError has passed no callback
    assert!(reports.take().is_empty());
}

#[test]
fn cancelled_and_untouched_abandoned_failures_are_not_reported_and_touched_ones_are() {
    let reports = Reports::new();
    let (cancelled, _resolver) = Deferred::<u32>::new();
    cancelled.cancel();
    drop(cancelled.map(|n| n));
    let (abandoned, resolver) = Deferred::<u32>::new();
    drop(resolver);
    drop(abandoned);
    assert!(reports.take().is_empty());
    let (waited_for, resolver) = Deferred::<u32>::new();
    waited_for.map(|n| n).detach();
    drop(resolver);
    assert_eq!(reports.take().len(), 1);
}

#[test]
fn callbacks_run_although_the_deferred_was_dropped() {
    let log = Log::new();
    let noted = log.clone();
    let (deferred, resolver) = Deferred::new();
    drop(deferred.map(move |n: u32| noted.add(n)));
    resolver.callback(3);
    assert_eq!(log.take(), ["3"]);
}

/// A value whose drop panics.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn panics_in_drops_of_user_values_do_not_propagate() {
    let reports = Reports::new();
    let (deferred, resolver) = Deferred::<Grenade>::new();
    deferred.cancel();
    resolver.callback(Grenade);
    let _ = now(deferred.map(|_| ()));
    let grenade = Grenade;
    let skipped = Deferred::<u32>::fail(Bang("x")).add_callback(move |n| {
        let _held = &grenade;
        Ok(n)
    });
    assert!(now(skipped).unwrap_err().check::<Bang>());
    assert_eq!(reports.take().len(), 2);
}

// ---- what a kept Resolver does not keep alive

#[test]
fn a_failure_is_reported_when_its_deferred_is_dropped_even_if_a_resolver_is_kept() {
    let reports = Reports::new();
    // cancelled with an error from the canceller
    let (deferred, resolver) = Deferred::<u32>::with_canceller(|right| right.errback(Bang("no")));
    deferred.cancel();
    assert!(reports.take().is_empty());
    drop(deferred);
    assert_eq!(reports.take().len(), 1);
    drop(resolver);
    // fired after the Deferred was dropped, by one of several
    let (deferred, resolver) = Deferred::<u32>::new();
    let resolver = resolver.shared();
    drop(deferred);
    resolver.errback(Bang("no")).unwrap();
    assert_eq!(reports.take().len(), 1);
    assert!(resolver.callback(1).is_err());
    drop(resolver);
    assert!(reports.take().is_empty());
}

#[test]
fn an_unconsumed_value_is_dropped_with_its_deferred_even_if_a_resolver_is_kept() {
    let value = std::rc::Rc::new(());
    let (deferred, resolver) = Deferred::new();
    let resolver = resolver.shared();
    resolver.callback(value.clone()).unwrap();
    assert_eq!(std::rc::Rc::strong_count(&value), 2);
    drop(deferred);
    assert_eq!(std::rc::Rc::strong_count(&value), 1);
}

#[test]
fn a_shared_resolver_fired_again_in_the_drop_of_its_canceller_keeps_its_first_value() {
    struct OnDrop(Rc<RefCell<Option<twistor::defer::SharedResolver<u32>>>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            if let Some(r) = self.0.take() {
                let _ = r.callback(99);
            }
        }
    }
    let cell = Rc::new(RefCell::new(None));
    let guard = OnDrop(cell.clone());
    let (d, r) = Deferred::<u32>::with_canceller(move |_| drop(guard));
    let r = r.shared();
    *cell.borrow_mut() = Some(r.clone());
    let out = watch(d);
    let first = r.callback(1);
    assert!(first.is_ok());
    assert_eq!(out.value(), 1, "callback(1) said Ok");
}

#[test]
fn an_abandoned_deferred_that_passed_a_callback_is_reported() {
    let reports = Reports::new();
    let (d, r) = Deferred::<u32>::new();
    d.add_both(|r| r).detach();
    drop(r);
    assert_eq!(reports.take().len(), 1);
}

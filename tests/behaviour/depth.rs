//! Structures with a million links, on a stack of 2 MiB.
use crate::support::{Bang, Reports, now, on_small_stack, watch};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};
use twistor::{
    defer::{CancelHandle, Deferred, Resolver},
    error::{AbandonedError, CancelledError},
};

const MILLION: usize = 1_000_000;

/// Returns a million Deferreds, each of which gets its result from the one before: the first
/// resolver, and the last Deferred.
fn chained() -> (Resolver<u32>, Deferred<u32>) {
    let (mut last, first) = Deferred::new();
    for _ in 0..MILLION {
        let (next, resolver) = Deferred::new();
        last.chain(resolver);
        last = next;
    }
    (first, last)
}

/// Returns a million callbacks that have each returned the previous Deferred, all kept by a handle
/// that refers to them: the first resolver, the last Deferred, the handles.
fn followed() -> (Resolver<u32>, Deferred<u32>, Vec<CancelHandle>) {
    let (mut last, first) = Deferred::new();
    let mut handles = Vec::with_capacity(MILLION);
    for _ in 0..MILLION {
        let (outer, fire) = Deferred::new();
        let inner = last;
        last = outer.add_callback(move |()| inner);
        handles.push(last.canceller());
        fire.callback(());
    }
    (first, last, handles)
}

#[test]
fn a_million_links_fire() {
    on_small_stack(|| {
        let (first, last) = chained();
        first.callback(7);
        assert_eq!(now(last).unwrap(), 7);
        let (first, last, _handles) = followed();
        first.callback(8);
        assert_eq!(now(last).unwrap(), 8);
    });
}

#[test]
fn a_million_links_fail() {
    on_small_stack(|| {
        let (first, last) = chained();
        first.errback(Bang("x"));
        assert!(now(last).unwrap_err().check::<Bang>());
        let (first, last, _handles) = followed();
        first.errback(Bang("y"));
        assert!(now(last).unwrap_err().check::<Bang>());
    });
}

#[test]
fn a_million_links_cancel() {
    on_small_stack(|| {
        let (first, last) = chained();
        last.cancel();
        assert!(!first.is_wanted(), "it is the first that is cancelled");
        assert!(now(last).unwrap_err().check::<CancelledError>());
        let (first, last, _handles) = followed();
        last.cancel();
        assert!(!first.is_wanted());
        assert!(now(last).unwrap_err().check::<CancelledError>());
    });
}

#[test]
fn a_million_links_are_dropped_from_either_end() {
    on_small_stack(|| {
        let reports = Reports::new();
        let (first, last) = chained();
        drop(first);
        assert!(now(last).unwrap_err().check::<AbandonedError>());
        let (first, last) = chained();
        drop(last);
        drop(first);
        let (first, last, _handles) = followed();
        drop(first);
        assert!(now(last).unwrap_err().check::<AbandonedError>());
        let (first, last, _handles) = followed();
        drop(last);
        drop(first);
        assert!(reports.take().is_empty(), "nothing has passed a callback");
    });
}

#[test]
fn a_million_callbacks_fire_fail_cancel_and_drop_in_constant_stack() {
    on_small_stack(|| {
        let chain = || {
            let (deferred, resolver) = Deferred::<u32>::new();
            ((0..1_000_000).fold(deferred, |chain, _| chain.map(|n| n + 1)), resolver)
        };
        let (fired, resolver) = chain();
        resolver.callback(0);
        assert_eq!(now(fired).unwrap(), 1_000_000);
        let (failed, resolver) = chain();
        resolver.errback(Bang("x"));
        let traceback = now(failed).unwrap_err().traceback();
        assert!(traceback.contains("... 999873 frames omitted ..."), "{traceback}");
        let (cancelled, _resolver) = chain();
        cancelled.cancel();
        assert!(now(cancelled).unwrap_err().check::<CancelledError>());
        let reports = Reports::new();
        let (end_first, resolver) = chain();
        drop(end_first);
        drop(resolver);
        let (start_first, resolver) = chain();
        drop(resolver);
        drop(start_first);
        assert_eq!(reports.take().len(), 2);
    });
}

#[test]
fn an_endless_loop_of_callbacks_that_return_the_next_runs_in_constant_memory() {
    // each turn adds a link in front of the awaited one, which must not leave anything behind
    struct Probe(Rc<Cell<usize>>);
    impl Drop for Probe {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    fn turn(
        next: &Rc<RefCell<VecDeque<Resolver<()>>>>,
        alive: &Rc<Cell<usize>>,
        left: u32,
    ) -> Deferred<()> {
        let (tick, resolver) = Deferred::new();
        next.borrow_mut().push_back(resolver);
        alive.set(alive.get() + 1);
        let (next, alive, probe) = (next.clone(), alive.clone(), Probe(alive.clone()));
        tick.add_callback(move |()| {
            drop(probe);
            if left == 0 { Deferred::succeed(()) } else { turn(&next, &alive, left - 1) }
        })
    }
    on_small_stack(|| {
        let (next, alive) = (Rc::default(), Rc::default());
        let result = watch(turn(&next, &alive, 1_000_000));
        loop {
            let Some(resolver) = next.borrow_mut().pop_front() else { break };
            resolver.callback(());
            assert!(alive.get() <= 2);
        }
        result.value();
    });
}

#[test]
fn a_million_waiters_that_release_one_another_pass_on_a_small_stack() {
    on_small_stack(|| {
        let waiting: Rc<RefCell<VecDeque<Resolver<()>>>> = Rc::default();
        let count = Rc::new(Cell::new(0u32));
        for _ in 0..1_000_000 {
            let (turn, resolver) = Deferred::new();
            waiting.borrow_mut().push_back(resolver);
            let (waiting, count) = (waiting.clone(), count.clone());
            turn.map(move |()| {
                count.set(count.get() + 1);
                let next = waiting.borrow_mut().pop_front();
                if let Some(next) = next {
                    next.callback(());
                }
            })
            .detach();
        }
        let first = waiting.borrow_mut().pop_front().unwrap();
        first.callback(());
        assert_eq!(count.get(), 1_000_000, "all are done when the first fire returns");
    });
}

#[test]
fn a_hundred_thousand_nested_cancellers_are_dropped_on_a_small_stack() {
    on_small_stack(|| {
        let (first, mut inner) = Deferred::<()>::new();
        first.detach();
        for _ in 0..100_000 {
            let (d, r) = Deferred::<()>::with_canceller(move |_| drop(inner));
            d.detach();
            inner = r;
        }
        drop(inner);
    });
}

//! Locks, semaphores and queues.
use crate::support::{Log, now, on_small_stack, watch};
use std::{cell::Cell, rc::Rc};
use twistor::{
    defer::{DeferredLock, DeferredQueue, DeferredSemaphore, QueueOverflow},
    error::{CancelledError, ValueError},
    prelude::*,
};

#[test]
fn c_031_c_032_a_lock_is_held_and_handed_over_inside_release() {
    let lock = DeferredLock::new();
    let first = now(lock.acquire()).unwrap();
    assert!(lock.is_locked());
    let second = watch(lock.acquire());
    assert!(second.is_pending());
    first.release();
    assert!(lock.is_locked());
    let second = second.value();
    second.release();
    assert!(!lock.is_locked());
}

#[test]
fn c_035_c_043_cancelling_an_acquire_that_has_fired_does_nothing() {
    let (lock, semaphore) = (DeferredLock::new(), DeferredSemaphore::new(1).unwrap());
    for acquired in [lock.acquire(), semaphore.acquire()] {
        acquired.cancel();
        assert!(now(acquired).is_ok());
    }
}

#[test]
fn c_036_c_041_a_cancelled_waiter_fails_and_later_releases_skip_it() {
    let lock = DeferredLock::new();
    let held = now(lock.acquire()).unwrap();
    let (cancelled, next) = (lock.acquire(), watch(lock.acquire()));
    cancelled.cancel();
    assert!(now(cancelled).unwrap_err().check::<CancelledError>());
    held.release();
    drop(next.value());
    assert!(!lock.is_locked());
    let semaphore = DeferredSemaphore::new(1).unwrap();
    let held = now(semaphore.acquire()).unwrap();
    let (cancelled, next) = (semaphore.acquire(), watch(semaphore.acquire()));
    cancelled.cancel();
    drop(now(cancelled));
    held.release();
    drop(next.value());
    assert_eq!(semaphore.free(), 1);
}

#[test]
fn c_037_a_lock_is_a_scoped_guard_in_a_coroutine() {
    #[inline_callbacks]
    fn scope(lock: DeferredLock, gate: Deferred<()>) -> Deferred<()> {
        let _held = yield_!(lock.acquire())?;
        yield_!(gate)?;
        return_value!(())
    }
    let lock = DeferredLock::new();
    let (gate, open) = Deferred::new();
    let inside = watch(scope(lock.clone(), gate));
    assert!(lock.is_locked());
    let waiter = watch(lock.acquire());
    open.callback(());
    inside.value();
    assert!(lock.is_locked(), "handed over when the scope ended");
    drop(waiter.value());
    assert!(!lock.is_locked());
}

#[test]
fn c_039_run_gives_the_result_after_f_s_deferred_and_holds_the_token_until_then() {
    let semaphore = DeferredSemaphore::new(1).unwrap();
    let (inner, fire) = Deferred::new();
    let log = Log::new();
    let noted = log.clone();
    let held = now(semaphore.acquire()).unwrap();
    let result = watch(semaphore.run(move || {
        noted.add("called");
        inner
    }));
    assert!(log.take().is_empty());
    held.release();
    assert_eq!((log.take(), semaphore.free()), (vec!["called".to_owned()], 0));
    fire.callback(5);
    assert_eq!((result.value(), semaphore.free()), (5, 1));
    // a panic releases too
    assert!(now(semaphore.run(|| -> Result<(), Failure> { panic!("inside") })).is_err());
    assert_eq!(semaphore.free(), 1);
}

#[test]
fn c_040_thirteen_tokens() {
    let semaphore = DeferredSemaphore::new(13).unwrap();
    let mut held: Vec<_> = (0..13).map(|_| now(semaphore.acquire()).unwrap()).collect();
    let fourteenth = watch(semaphore.acquire());
    assert!(fourteenth.is_pending());
    held.pop().unwrap().release();
    held.push(fourteenth.value());
    for token in held {
        token.release();
    }
    assert_eq!(semaphore.free(), 13);
}

#[test]
fn c_042_a_semaphore_without_tokens_is_an_error() {
    assert!(DeferredSemaphore::new(0).unwrap_err().check::<ValueError>());
}

#[test]
fn c_044_semaphore_scopes_nest() {
    let semaphore = DeferredSemaphore::new(3).unwrap();
    let outer = now(semaphore.acquire()).unwrap();
    assert_eq!(semaphore.free(), 2);
    let fourth = {
        let _inner = now(semaphore.acquire()).unwrap();
        assert_eq!(semaphore.free(), 1);
        let _third = now(semaphore.acquire()).unwrap();
        let fourth = watch(semaphore.acquire());
        assert!(fourth.is_pending());
        fourth
    };
    drop((fourth.value(), outer));
    assert_eq!(semaphore.free(), 3);
}

#[test]
fn c_045_c_048_gets_are_served_by_puts_in_order_inside_put() {
    let queue = DeferredQueue::new();
    let gets: Vec<_> = (0..20).map(|_| watch(queue.get().unwrap())).collect();
    for (n, got) in gets.into_iter().enumerate() {
        queue.put(n).unwrap();
        assert_eq!(got.value(), n);
    }
    for n in 0..20 {
        queue.put(n).unwrap();
    }
    assert_eq!(queue.len(), 20);
    assert_eq!(
        (0..20).map(|_| now(queue.get().unwrap()).unwrap()).collect::<Vec<_>>(),
        (0..20).collect::<Vec<_>>()
    );
}

#[test]
fn c_046_c_047_limits_are_reported_at_once_and_nothing_is_lost() {
    let queue = DeferredQueue::<u32>::with_limits(Some(2), Some(2));
    let gets = [queue.get().unwrap(), queue.get().unwrap()];
    assert!(queue.get().is_err());
    drop(gets);
    queue.put(0).unwrap();
    queue.put(0).unwrap();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    let QueueOverflow(item) = queue.put(3).unwrap_err();
    assert_eq!(item, 3);
    assert_eq!((now(queue.get().unwrap()).unwrap(), now(queue.get().unwrap()).unwrap()), (1, 2));
}

#[test]
fn c_049_limits_of_zero() {
    let unstored = DeferredQueue::with_limits(Some(0), None);
    assert!(unstored.put(1).is_err());
    let got = watch(unstored.get().unwrap());
    unstored.put(2).unwrap();
    assert_eq!(got.value(), 2);
    assert!(DeferredQueue::<u32>::with_limits(None, Some(0)).get().is_err());
}

#[test]
fn c_050_c_051_a_cancelled_get_is_unlinked_and_one_that_has_its_item_keeps_it() {
    let queue = DeferredQueue::new();
    queue.put(1).unwrap();
    let got = queue.get().unwrap();
    got.cancel();
    assert_eq!(now(got).unwrap(), 1);
    let (cancelled, next) = (queue.get().unwrap(), watch(queue.get().unwrap()));
    cancelled.cancel();
    assert!(now(cancelled).unwrap_err().check::<CancelledError>());
    assert_eq!(queue.waiting(), 1);
    queue.put(2).unwrap();
    assert_eq!(next.value(), 2);
}

#[test]
fn a_million_lock_waiters_that_each_release_inside_their_wake_up() {
    on_small_stack(|| {
        let (lock, count) = (DeferredLock::new(), Rc::new(Cell::new(0u32)));
        let held = now(lock.acquire()).unwrap();
        for _ in 0..1_000_000 {
            let count = count.clone();
            lock.acquire()
                .map(move |token| {
                    count.set(count.get() + 1);
                    token.release();
                })
                .detach();
        }
        held.release();
        assert_eq!(count.get(), 1_000_000);
        assert!(!lock.is_locked());
    });
}

#[test]
fn a_hundred_thousand_cancelled_requests_cost_nothing_and_the_others_keep_their_turns() {
    let queue = DeferredQueue::<usize>::new();
    let first = watch(queue.get().unwrap());
    let mut stays = Vec::new();
    for index in 0..100_000 {
        let turn = queue.get().unwrap();
        if index % 10_000 == 0 {
            stays.push(watch(turn));
        } else {
            turn.cancel();
        }
    }
    assert!(format!("{queue:?}").contains("11 wait"), "{queue:?}");
    for item in 0..11 {
        queue.put(item).unwrap();
    }
    assert_eq!(first.value(), 0);
    assert_eq!(
        stays.iter().map(super::support::Outcome::value).collect::<Vec<_>>(),
        (1..11).collect::<Vec<_>>()
    );
}

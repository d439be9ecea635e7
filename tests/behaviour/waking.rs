//! Wake-ups from outside: other executors, other threads, threads without a reactor.
use crate::support::{Reports, watch};
use futures::{channel::oneshot, executor::LocalPool, task::LocalSpawnExt};
use std::{
    cell::{Cell, RefCell},
    future::{Future, IntoFuture},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Wake, Waker},
};
use twistor::{prelude::*, testing::MemoryReactor};

#[inline_callbacks]
fn foreign(receiver: oneshot::Receiver<u32>) -> Deferred<u32> {
    return_value!(receiver.await?)
}

/// A new reactor becomes the thread's remote queue.
#[track_caller]
fn a_new_reactor_receives_a_foreign_wake() {
    let memory = MemoryReactor::new();
    let (sender, receiver) = oneshot::channel();
    let result = watch(foreign(receiver));
    sender.send(5).unwrap();
    memory.settle();
    assert_eq!(result.value(), 5);
}

struct PanickyWaker;

impl Wake for PanickyWaker {
    fn wake(self: Arc<Self>) {
        panic!("wake");
    }
}

#[inline_callbacks]
fn trivial() -> Deferred<u32> {
    return_value!(1)
}

struct StartsOnDrop;

impl Wake for StartsOnDrop {
    fn wake(self: Arc<Self>) {}
}

impl Drop for StartsOnDrop {
    fn drop(&mut self) {
        trivial().detach();
    }
}

#[test]
fn a_wake_from_elsewhere_reaches_the_reactor_made_after_one_that_was_dropped() {
    drop(MemoryReactor::new());
    a_new_reactor_receives_a_foreign_wake();
}

#[test]
fn a_wake_from_elsewhere_reaches_the_reactor_made_after_one_that_closed_inside_its_run() {
    let first = MemoryReactor::new().reactor();
    let f = first.clone();
    first.call_when_running(move || f.close());
    let _ = first.run();
    a_new_reactor_receives_a_foreign_wake();
}

#[test]
fn a_waker_that_panics_is_reported_and_wedges_nothing() {
    let reports = Reports::new();
    let waker: Waker = Arc::new(PanickyWaker).into();
    let mut escaped = 0;
    let mut waits = vec![];
    for _ in 0..70 {
        let (d, r) = Deferred::<u32>::new();
        let mut wait = d.map(|n| n).into_future();
        assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&waker)).is_pending());
        escaped += u32::from(catch_unwind(AssertUnwindSafe(|| r.callback(1))).is_err());
        waits.push(wait);
    }
    let (d, r) = Deferred::<u32>::new();
    let ok = watch(d.map(|n| n));
    r.callback(7);
    let wedged = ok.is_pending();
    assert!(!wedged, "nothing fires any more in this thread (escaped {escaped})");
    assert_eq!((escaped, reports.take().len()), (0, 70));
}

#[test]
fn a_waker_whose_drop_starts_a_coroutine_is_replaced_safely() {
    #[inline_callbacks]
    fn outer(d: Deferred<u32>) -> Deferred<u32> {
        let mut wait = d.into_future();
        let mut first = true;
        let got = std::future::poll_fn(|cx| {
            if first {
                first = false;
                let w: Waker = Arc::new(StartsOnDrop).into();
                assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&w)).is_pending());
            }
            Pin::new(&mut wait).poll(cx)
        })
        .await?;
        return_value!(got)
    }
    let (d, r) = Deferred::new();
    let out = watch(outer(d));
    r.callback(3);
    assert_eq!(out.value(), 3);
}

#[test]
fn executor_polls_a_coroutine_that_waits_first_for_a_deferred_then_for_a_foreign_future() {
    #[inline_callbacks]
    fn both(d: Deferred<u32>, receiver: oneshot::Receiver<u32>) -> Deferred<u32> {
        let a = yield_!(d)?;
        let b = receiver.await?;
        return_value!(a + b)
    }
    let mut pool = LocalPool::new();
    let (d, r) = Deferred::new();
    let (sender, receiver) = oneshot::channel();
    let out = Rc::new(Cell::new(None));
    let into = out.clone();
    pool.spawner()
        .spawn_local(
            async move { into.set(Some(both(d, receiver).await.map_err(|f| f.to_string()))) },
        )
        .unwrap();
    pool.run_until_stalled();
    r.callback(1);
    pool.run_until_stalled();
    sender.send(2).unwrap();
    pool.run_until_stalled();
    assert_eq!(out.take(), Some(Ok(3)));
}

#[test]
fn a_wake_from_another_thread_waits_for_the_first_reactor_of_its_own() {
    std::thread::spawn(|| {
        let _reports = Reports::new();
        let (sender, receiver) = oneshot::channel();
        let result = watch(foreign(receiver));
        std::thread::spawn(move || sender.send(5).unwrap()).join().unwrap();
        let memory = MemoryReactor::new();
        memory.settle();
        assert!(!result.is_pending());
    })
    .join()
    .unwrap();
}

#[test]
fn a_coroutine_that_waits_when_its_thread_ends_is_dropped_quietly() {
    thread_local! {
        static KEEP: RefCell<Vec<twistor::defer::Resolver<()>>> =
            const { RefCell::new(Vec::new()) };
    }
    #[inline_callbacks]
    fn waits(d: Deferred<()>) -> Deferred<()> {
        let _ = yield_!(d);
        return_value!(())
    }
    std::thread::spawn(|| {
        KEEP.with(|k| k.borrow_mut().clear());
        let (d, r) = Deferred::new();
        waits(d).detach();
        KEEP.with(|k| k.borrow_mut().push(r));
    })
    .join()
    .unwrap();
}

//! Foreign futures and combinators inside a coroutine, and Deferreds in a foreign executor.
use crate::support::{Log, now, watch};
use futures::{
    FutureExt,
    channel::oneshot,
    executor::LocalPool,
    future::{Either, join_all, select},
    join, select_biased,
    stream::{FuturesUnordered, StreamExt},
    task::LocalSpawnExt,
};
use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
};
use twistor::{
    error::{CancelledError, NoReactorError},
    prelude::*,
};

#[test]
fn join_waits_for_both_in_any_order() {
    #[inline_callbacks]
    fn both(one: Deferred<u32>, two: Deferred<u32>) -> Deferred<u32> {
        let (one, two) = join!(one.into_future(), two.into_future());
        return_value!(one? + two?)
    }
    for first in [0, 1] {
        let (one, fire_one) = Deferred::new();
        let (two, fire_two) = Deferred::new();
        let result = watch(both(one, two));
        let mut fires = vec![fire_one, fire_two];
        fires.remove(first).callback(20);
        assert!(result.is_pending());
        fires.remove(0).callback(1);
        assert_eq!(result.value(), 21);
    }
}

#[test]
fn a_branch_that_fires_what_the_other_waits_for_is_polled_again_and_never_inside_itself() {
    #[inline_callbacks]
    fn both() -> Deferred<(u32, u32)> {
        let (first, resolver) = Deferred::new();
        let fires = async move {
            resolver.callback(1);
            2
        };
        let (first, second) = join!(first.into_future(), fires);
        return_value!((first?, second))
    }
    assert_eq!(now(both()).unwrap(), (1, 2));
}

#[test]
fn select_drops_the_loser_s_wait_and_a_cancel_reaches_every_wait_in_order() {
    #[inline_callbacks]
    fn first_of(one: Deferred<u32>, two: Deferred<u32>, then: Deferred<()>) -> Deferred<u32> {
        let winner = match select(one.into_future(), two.into_future()).await {
            Either::Left((n, _)) | Either::Right((n, _)) => n?,
        };
        yield_!(then)?;
        return_value!(winner)
    }
    let log = Log::new();
    let noting = |name: &'static str| {
        let log = log.clone();
        Deferred::<u32>::with_canceller(move |_| log.add(name))
    };
    // the loser is not awaited any more: the cancellation reaches the next await alone
    let (one, _one) = noting("one");
    let (two, fire_two) = noting("two");
    let (then, _then) = Deferred::with_canceller({
        let log = log.clone();
        move |_| log.add("then")
    });
    let d = first_of(one, two, then);
    fire_two.callback(5);
    d.cancel();
    assert_eq!(log.take(), ["then"]);
    drop(watch(d));
    // both are awaited: both are cancelled, in the order of the awaits
    let (one, _one) = noting("one");
    let (two, _two) = noting("two");
    let (then, _then) = Deferred::new();
    let d = first_of(one, two, then);
    d.cancel();
    assert_eq!(log.take(), ["one", "two"]);
    assert!(now(d).unwrap_err().check::<CancelledError>());
}

#[test]
fn select_biased_with_fused_waits() {
    #[inline_callbacks]
    fn either(one: Deferred<u32>, two: Deferred<u32>) -> Deferred<u32> {
        let (mut one, mut two) = (one.into_future().fuse(), two.into_future().fuse());
        select_biased! { n = one => n, n = two => n }
    }
    let (one, _one) = Deferred::new();
    let (two, fire) = Deferred::new();
    let result = watch(either(one, two));
    fire.callback(4);
    assert_eq!(result.value(), 4);
}

#[test]
fn futures_unordered_and_join_all_have_wakers_of_their_own() {
    #[inline_callbacks]
    fn sum(all: Vec<Deferred<u32>>) -> Deferred<u32> {
        let mut running: FuturesUnordered<_> =
            all.into_iter().map(IntoFuture::into_future).collect();
        let mut sum = 0;
        while let Some(n) = running.next().await {
            sum += n?;
        }
        return_value!(sum)
    }
    let door = crate::support::TestDoor::install();
    let (all, fires): (Vec<_>, Vec<_>) = (0..40).map(|_| Deferred::new()).unzip();
    let result = watch(sum(all));
    for (n, fire) in fires.into_iter().enumerate() {
        fire.callback(u32::try_from(n).unwrap());
        door.run();
    }
    assert_eq!(result.value(), 780);

    #[inline_callbacks]
    fn joined(all: Vec<Deferred<u32>>) -> Deferred<u32> {
        let results = join_all(all.into_iter().map(IntoFuture::into_future)).await;
        results.into_iter().sum()
    }
    let (many, fires): (Vec<_>, Vec<_>) = (0..40).map(|_| Deferred::new()).unzip();
    let result = watch(joined(many));
    for fire in fires.into_iter().rev() {
        fire.callback(1);
        door.run();
    }
    assert_eq!(result.value(), 40);
}

#[inline_callbacks]
fn foreign(channel: oneshot::Receiver<u32>, log: Log) -> Deferred<u32> {
    struct Noted(Log);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.add("frame dropped");
        }
    }
    let _noted = Noted(log);
    return_value!(channel.await?)
}

#[test]
fn a_foreign_wake_resumes_in_a_later_turn_also_from_another_thread() {
    let door = crate::support::TestDoor::install();
    let (send, receive) = oneshot::channel();
    let result = watch(foreign(receive, Log::new()));
    std::thread::spawn(move || send.send(9).unwrap()).join().unwrap();
    assert!(result.is_pending(), "not inside the wake");
    door.run();
    assert_eq!(result.value(), 9);
}

#[test]
fn cancelled_in_a_foreign_await_the_frame_is_dropped_where_it_stands() {
    let _door = crate::support::TestDoor::install();
    let (send, receive) = oneshot::channel();
    let log = Log::new();
    let d = foreign(receive, log.clone());
    d.cancel();
    assert_eq!(log.take(), ["frame dropped"]);
    assert!(send.is_canceled());
    assert!(now(d).unwrap_err().check::<CancelledError>());
}

#[test]
fn a_future_that_wakes_itself_is_polled_in_later_turns() {
    struct Turns(u32);
    impl Future for Turns {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            if self.0 == 0 {
                return Poll::Ready(());
            }
            self.0 -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    #[inline_callbacks]
    fn turns() -> Deferred<()> {
        Turns(3).await;
        return_value!()
    }
    let door = crate::support::TestDoor::install();
    let result = watch(turns());
    for _ in 0..3 {
        assert!(result.is_pending());
        door.run();
    }
    result.value();
}

#[test]
fn another_executor_polls_a_deferred_and_wakes_coroutines_in_it() {
    let mut pool = LocalPool::new();
    let (deferred, fire) = Deferred::new();
    let (send, receive) = oneshot::channel();
    let log = Log::new();
    let noted = log.clone();
    pool.spawner()
        .spawn_local(async move {
            let through = foreign(receive, Log::new()).map(|n| n + 1).await.unwrap();
            noted.add(deferred.await.unwrap() + through);
        })
        .unwrap();
    pool.run_until_stalled();
    std::thread::spawn(move || send.send(10).unwrap()).join().unwrap();
    pool.run_until_stalled();
    assert!(log.take().is_empty());
    fire.callback(100u32);
    pool.run_until_stalled();
    assert_eq!(log.take(), ["111"]);
}

/// Runs `test` in a `LocalSet` of a current-thread runtime.
fn in_local_set(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[inline_callbacks]
fn foreign_tokio(channel: tokio::sync::oneshot::Receiver<u32>) -> Deferred<u32> {
    return_value!(channel.await?)
}

#[test]
fn a_local_set_of_tokio_polls_a_deferred_that_another_task_fires() {
    in_local_set(async {
        let (deferred, fire) = Deferred::new();
        let waits =
            tokio::task::spawn_local(async move { deferred.map(|n: u32| n + 1).await.unwrap() });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        fire.callback(1);
        assert_eq!(waits.await.unwrap(), 2);
    });
}

#[test]
fn a_local_set_of_tokio_resumes_coroutines_that_other_threads_wake() {
    in_local_set(async {
        let (send, receive) = tokio::sync::oneshot::channel();
        let (send_more, more) = oneshot::channel();
        let both = gather_results((foreign_tokio(receive), foreign(more, Log::new())));
        let thread = std::thread::spawn(move || {
            send.send(3).unwrap();
            send_more.send(4).unwrap();
        });
        assert_eq!(both.await.unwrap(), (3, 4));
        thread.join().unwrap();
    });
}

#[test]
fn a_reactor_resumes_a_coroutine_in_a_oneshot_of_tokio() {
    let door = crate::support::TestDoor::install();
    let (send, receive) = tokio::sync::oneshot::channel();
    let result = watch(foreign_tokio(receive));
    std::thread::spawn(move || send.send(9).unwrap()).join().unwrap();
    assert!(result.is_pending(), "not inside the wake");
    door.run();
    assert_eq!(result.value(), 9);
}

#[test]
fn a_cancel_in_a_local_set_drops_the_foreign_await() {
    in_local_set(async {
        let (send, receive) = tokio::sync::oneshot::channel::<u32>();
        let waits = foreign_tokio(receive);
        let canceller = waits.canceller();
        let task = tokio::task::spawn_local(waits.into_future());
        tokio::task::yield_now().await;
        canceller.cancel();
        assert!(send.is_closed());
        assert!(task.await.unwrap().unwrap_err().check::<CancelledError>());
    });
}

#[test]
fn without_a_reactor_or_an_executor_a_wake_fails_the_result() {
    let (send, receive) = oneshot::channel();
    let result = watch(foreign(receive, Log::new()));
    send.send(1).unwrap();
    assert!(result.failure().check::<NoReactorError>());
}

thread_local! {
    static ON_DROP: std::cell::RefCell<Option<Box<dyn FnOnce()>>> =
        const { std::cell::RefCell::new(None) };
}

/// A waker of an executor that runs a function when it is dropped.
struct Dropper;

impl std::task::Wake for Dropper {
    fn wake(self: std::sync::Arc<Self>) {}
}

impl Drop for Dropper {
    fn drop(&mut self) {
        if let Some(call) = ON_DROP.with_borrow_mut(Option::take) {
            call();
        }
    }
}

#[test]
fn an_executor_s_waker_may_cancel_what_it_was_for_when_it_is_dropped() {
    let (_send, receive) = oneshot::channel();
    let result = foreign(receive, Log::new());
    let canceller = result.canceller();
    let mut wait = result.into_future();
    let first: std::task::Waker = std::sync::Arc::new(Dropper).into();
    assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&first)).is_pending());
    drop(first);
    ON_DROP.set(Some(Box::new(move || canceller.cancel())));
    let noop = std::task::Waker::noop();
    let polled = Pin::new(&mut wait).poll(&mut Context::from_waker(noop));
    let Poll::Ready(Err(failure)) = polled else { panic!("{polled:?}") };
    assert!(failure.check::<CancelledError>());
}

//! Deferreds, coroutines and coordination beside tokio and futures, in one run:
//! `cargo bench -p twistor-suite`, then `ratios.py`.
//!
//! Each side does the same work in its own way. A rival's task is spawned on its own executor and
//! woken through it; a Deferred's callbacks and coroutines run inside the fire. One round is one
//! chain, one coroutine with three waits, one gathering of a thousand, or one hand-over of a lock,
//! a semaphore or an item of a queue.
use criterion::{Criterion, criterion_group, criterion_main};
use futures::{executor::LocalPool, task::LocalSpawnExt};
use std::{
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};
use twistor::{
    defer::{DeferredLock, DeferredQueue, DeferredSemaphore},
    prelude::*,
};

/// The number of waiters for a lock, a semaphore or a gathering.
const MANY: usize = 1000;

/// Runs `round` in a LocalSet of tokio, `rounds` times, and returns the total time.
fn in_tokio<F: Future<Output = ()>>(rounds: u64, round: impl Fn() -> F) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let start = Instant::now();
        for _ in 0..rounds {
            round().await;
        }
        start.elapsed()
    })
}

async fn join(task: JoinHandle<u64>) -> u64 {
    task.await.expect("no panic")
}

/// Runs a task of a LocalPool to completion.
fn in_pool(pool: &mut LocalPool, task: impl Future<Output = ()> + 'static) {
    pool.spawner().spawn_local(task).expect("a pool that runs");
    pool.run_until_stalled();
}

fn chain(c: &mut Criterion) {
    let mut group = c.benchmark_group("pending_chain");
    group.bench_function("twistor", |b| {
        b.iter(|| {
            let (deferred, resolver) = Deferred::new();
            let result = deferred.map(|n: u64| n + 1).map(|n| n + 1).map(|n| n + 1);
            resolver.callback(black_box(1));
            result.take_result()
        });
    });
    group.bench_function("futures", |b| {
        let mut pool = LocalPool::new();
        b.iter(|| {
            let (send, receive) = futures::channel::oneshot::channel::<u64>();
            let task = async move {
                black_box(
                    async { async { receive.await.map(|n| n + 1) }.await.map(|n| n + 1) }
                        .await
                        .map(|n| n + 1),
                )
                .map_or((), drop)
            };
            pool.spawner().spawn_local(task).expect("a pool that runs");
            pool.run_until_stalled();
            let _ = send.send(black_box(1));
            pool.run_until_stalled();
        });
    });
    group.bench_function("tokio", |b| {
        b.iter_custom(|rounds| {
            in_tokio(rounds, || async {
                let (send, receive) = tokio::sync::oneshot::channel::<u64>();
                let task = spawn_local(async {
                    async { async { receive.await.unwrap_or(0) + 1 }.await + 1 }.await + 1
                });
                yield_now().await;
                let _ = send.send(black_box(1));
                black_box(join(task).await);
            })
        });
    });
}

#[inline_callbacks]
fn three(one: Deferred<u64>, two: Deferred<u64>, three: Deferred<u64>) -> Deferred<u64> {
    return_value!(yield_!(one)? + yield_!(two)? + yield_!(three)?)
}

fn yields(c: &mut Criterion) {
    let mut group = c.benchmark_group("pending_yields");
    group.bench_function("twistor", |b| {
        b.iter(|| {
            let ((a, fire_a), (b, fire_b), (c, fire_c)) =
                (Deferred::new(), Deferred::new(), Deferred::new());
            let result = three(a, b, c);
            fire_a.callback(black_box(1));
            fire_b.callback(2);
            fire_c.callback(3);
            result.take_result()
        });
    });
    group.bench_function("futures", |b| {
        use futures::channel::oneshot::channel;
        let mut pool = LocalPool::new();
        b.iter(|| {
            let ((send_a, a), (send_b, b), (send_c, c)) =
                (channel::<u64>(), channel::<u64>(), channel::<u64>());
            in_pool(&mut pool, async move {
                black_box(a.await.unwrap_or(0) + b.await.unwrap_or(0) + c.await.unwrap_or(0));
            });
            for send in [send_a, send_b, send_c] {
                let _ = send.send(black_box(1));
                pool.run_until_stalled();
            }
        });
    });
    group.bench_function("tokio", |b| {
        use tokio::sync::oneshot::channel;
        b.iter_custom(|rounds| {
            in_tokio(rounds, || async {
                let ((send_a, a), (send_b, b), (send_c, c)) =
                    (channel::<u64>(), channel::<u64>(), channel::<u64>());
                let task = spawn_local(async {
                    a.await.unwrap_or(0) + b.await.unwrap_or(0) + c.await.unwrap_or(0)
                });
                for send in [send_a, send_b, send_c] {
                    yield_now().await;
                    let _ = send.send(black_box(1));
                }
                black_box(join(task).await);
            })
        });
    });
}

fn gather(c: &mut Criterion) {
    let mut group = c.benchmark_group("gather_1000");
    group.bench_function("twistor", |b| {
        b.iter(|| {
            let (waiting, fire): (Vec<_>, Vec<_>) = (0..MANY).map(|_| Deferred::new()).unzip();
            let all = gather_results(waiting);
            for resolver in fire {
                resolver.callback(black_box(1u64));
            }
            all.take_result()
        });
    });
    group.bench_function("futures", |b| {
        let mut pool = LocalPool::new();
        b.iter(|| {
            let (send, receive): (Vec<_>, Vec<_>) =
                (0..MANY).map(|_| futures::channel::oneshot::channel()).unzip();
            in_pool(&mut pool, async move {
                black_box(futures::future::join_all(receive).await);
            });
            for send in send {
                let _ = send.send(black_box(1u64));
            }
            pool.run_until_stalled();
        });
    });
    group.bench_function("tokio", |b| {
        b.iter_custom(|rounds| {
            in_tokio(rounds, || async {
                let (send, receive): (Vec<_>, Vec<_>) =
                    (0..MANY).map(|_| tokio::sync::oneshot::channel()).unzip();
                let task =
                    spawn_local(async { futures::future::join_all(receive).await.len() as u64 });
                yield_now().await;
                for send in send {
                    let _ = send.send(black_box(1u64));
                }
                black_box(join(task).await);
            })
        });
    });
}

/// A thousand tasks wait for a held lock, which each then passes to the next.
fn lock(c: &mut Criterion) {
    let mut group = c.benchmark_group("lock_1000");
    group.bench_function("twistor", |b| {
        b.iter(|| {
            let lock = DeferredLock::new();
            let held = lock.acquire().take_result();
            for _ in 0..MANY {
                lock.acquire().map(|mine| drop(black_box(mine))).detach();
            }
            drop(held);
        });
    });
    group.bench_function("futures", |b| {
        let mut pool = LocalPool::new();
        b.iter(|| {
            let lock = Rc::new(futures::lock::Mutex::new(()));
            let held = lock.try_lock();
            for _ in 0..MANY {
                let lock = lock.clone();
                pool.spawner()
                    .spawn_local(async move { drop(black_box(lock.lock().await)) })
                    .expect("a pool that runs");
            }
            pool.run_until_stalled();
            drop(held);
            pool.run_until_stalled();
        });
    });
    group.bench_function("tokio", |b| {
        b.iter_custom(|rounds| {
            in_tokio(rounds, || async {
                let lock = Rc::new(tokio::sync::Mutex::new(()));
                let held = lock.lock().await;
                let mut last = None;
                for _ in 0..MANY {
                    let lock = lock.clone();
                    last = Some(spawn_local(async move { drop(black_box(lock.lock().await)) }));
                }
                yield_now().await;
                drop(held);
                let _ = last.expect("there are many").await;
            })
        });
    });
}

/// A thousand tasks share ten tokens, all of which are held at first.
fn semaphore(c: &mut Criterion) {
    let mut group = c.benchmark_group("semaphore_1000");
    group.bench_function("twistor", |b| {
        b.iter(|| {
            let semaphore = DeferredSemaphore::new(10).expect("tokens");
            let held: Vec<_> = (0..10).map(|_| semaphore.acquire().take_result()).collect();
            for _ in 0..MANY {
                semaphore.acquire().map(|mine| drop(black_box(mine))).detach();
            }
            drop(held);
        });
    });
    group.bench_function("tokio", |b| {
        b.iter_custom(|rounds| {
            in_tokio(rounds, || async {
                let semaphore = Rc::new(tokio::sync::Semaphore::new(10));
                let held = semaphore.acquire_many(10).await;
                let mut last = None;
                for _ in 0..MANY {
                    let semaphore = semaphore.clone();
                    last = Some(spawn_local(
                        async move { drop(black_box(semaphore.acquire().await)) },
                    ));
                }
                yield_now().await;
                drop(held);
                let _ = last.expect("there are many").await;
            })
        });
    });
}

#[inline_callbacks]
fn consume(queue: Rc<DeferredQueue<u64>>) -> Deferred<u64> {
    let mut sum = 0;
    for _ in 0..MANY {
        sum += yield_!(queue.get()?)?;
    }
    return_value!(sum)
}

/// A consumer waits for each of a thousand items.
fn queue(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue_1000");
    group.bench_function("twistor", |b| {
        b.iter(|| {
            let queue = Rc::new(DeferredQueue::new());
            let sum = consume(queue.clone());
            for item in 0..MANY as u64 {
                queue.put(item).expect("no limit");
            }
            sum.take_result()
        });
    });
    group.bench_function("futures", |b| {
        use futures::StreamExt;
        let mut pool = LocalPool::new();
        b.iter(|| {
            let (send, mut receive) = futures::channel::mpsc::unbounded();
            in_pool(&mut pool, async move {
                let mut sum = 0;
                while let Some(item) = receive.next().await {
                    sum += item;
                }
                black_box(sum);
            });
            for item in 0..MANY as u64 {
                send.unbounded_send(item).expect("a consumer");
                pool.run_until_stalled();
            }
            drop(send);
            pool.run_until_stalled();
        });
    });
    group.bench_function("tokio", |b| {
        b.iter_custom(|rounds| {
            in_tokio(rounds, || async {
                let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
                let task = spawn_local(async move {
                    let mut sum = 0;
                    while let Some(item) = receive.recv().await {
                        sum += item;
                    }
                    sum
                });
                for item in 0..MANY as u64 {
                    send.send(item).expect("a consumer");
                    yield_now().await;
                }
                drop(send);
                black_box(join(task).await);
            })
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = chain, yields, gather, lock, semaphore, queue
}
criterion_main!(benches);

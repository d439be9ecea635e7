//! Threads: the pool, and calls in both directions.
use crate::support::{Bang, Log, Reports, expect_report, run_until, watch};
use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::Duration,
};
use twistor::{
    defer::Deferred,
    error::{
        AbandonedError, CancelledError, Panicked, PoolStoppedError, QueueFullError,
        ReactorAlreadyRunning, ReactorClosed, ValueError,
    },
    failure::Failure,
    reactor::Reactor,
    task::defer_later,
    threads::{
        PoolLimits, PoolLoad, ThreadPool, blocking_call_from_thread, call_multiple_in_thread,
        defer_to_thread, defer_to_thread_pool,
    },
};

/// A reactor that runs turns until `result` is there.
fn value<T: std::fmt::Debug + 'static>(
    reactor: &Reactor,
    result: Deferred<T>,
) -> Result<T, Failure> {
    let result = watch(result.add_both(Ok));
    run_until(reactor, || !result.is_pending());
    result.value()
}

/// Runs `reactor` until another thread, which does `work`, has ended.
fn run_beside<T: Send + 'static>(
    reactor: &Reactor,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let remote = reactor.remote();
    let thread = thread::spawn(move || {
        let result = work();
        remote.call_from_thread(|| Reactor::current().unwrap().stop().unwrap());
        result
    });
    reactor.run().unwrap();
    thread.join().unwrap()
}

#[test]
fn r_051_r_053_the_pool_starts_with_the_reactor_and_has_ended_when_run_returns() {
    let reactor = Reactor::new().unwrap();
    let pool = reactor.thread_pool();
    let (send, receive) = channel();
    pool.call_in_thread(move || {
        send.send(thread::current().name().unwrap_or_default().to_owned()).unwrap();
    })
    .unwrap();
    assert!(
        !pool.is_started() && pool.load() == (PoolLoad { threads: 0, waiting: 1 }),
        "it waits for the reactor"
    );
    let (stop, started) = (reactor.clone(), pool.clone());
    reactor.call_when_running(move || {
        assert!(started.is_started());
        stop.stop().unwrap();
    });
    reactor.run().unwrap();
    assert!(!pool.is_started());
    assert_eq!(
        pool.load(),
        PoolLoad { threads: 0, waiting: 0 },
        "the work was done and the threads have ended"
    );
    assert_eq!(receive.recv().unwrap(), "twistor-0");
    // the next run has a pool of its own
    assert!(value(&reactor, defer_to_thread(&reactor, || Ok(1))).is_ok());
    reactor.close();
}

#[test]
fn r_052_the_size_of_the_pool_can_be_suggested() {
    let reactor = Reactor::new().unwrap();
    assert_eq!(reactor.thread_pool().limits(), PoolLimits { minimum: 0, maximum: 10 });
    for size in [17, 34, 4] {
        reactor.suggest_thread_pool_size(size);
        assert_eq!(reactor.thread_pool().limits(), PoolLimits { minimum: 0, maximum: size });
    }
    reactor.close();
}

#[test]
fn r_054_code_can_ask_whether_it_is_in_the_reactor_s_thread() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    assert!(!remote.is_in_reactor_thread(), "no turn is under way");
    let (inside, elsewhere) = (remote.clone(), remote);
    let answers = run_beside(&reactor, move || {
        let remote = inside.clone();
        (
            blocking_call_from_thread(&inside, move || Ok(remote.is_in_reactor_thread())).unwrap(),
            elsewhere.is_in_reactor_thread(),
        )
    });
    assert_eq!(answers, (true, false));
    reactor.close();
}

#[test]
fn r_062_r_063_a_blocking_call_returns_the_value_or_the_error_now_or_later() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    run_beside(&reactor, move || {
        assert_eq!(blocking_call_from_thread(&remote, || Ok("now")).unwrap(), "now");
        let later =
            || defer_later(&Reactor::current().unwrap(), Duration::from_millis(1), || Ok("later"));
        assert_eq!(blocking_call_from_thread(&remote, later).unwrap(), "later");
        let fails = || Err::<(), _>(Failure::new(Bang("now")));
        assert_eq!(
            blocking_call_from_thread(&remote, fails).unwrap_err().downcast_ref(),
            Some(&Bang("now"))
        );
        let fails_later = || {
            defer_later(&Reactor::current().unwrap(), Duration::from_millis(1), || {
                Err::<(), _>(Failure::new(Bang("later")))
            })
        };
        assert_eq!(
            blocking_call_from_thread(&remote, fails_later).unwrap_err().downcast_ref(),
            Some(&Bang("later"))
        );
        let panics = || -> () { std::panic::resume_unwind(Box::new("boom")) };
        assert!(blocking_call_from_thread(&remote, panics).unwrap_err().check::<Panicked>());
    });
    reactor.close();
}

#[test]
fn a_blocking_call_that_could_never_return_is_an_error() {
    let reactor = Reactor::new().unwrap();
    let (remote, log) = (reactor.remote(), Log::new());
    let (inside, noted, stop) = (remote.clone(), log.clone(), reactor.clone());
    reactor.call_when_running(move || {
        noted.add(
            blocking_call_from_thread(&inside, || Ok(1))
                .unwrap_err()
                .check::<ReactorAlreadyRunning>(),
        );
        stop.stop().unwrap();
    });
    reactor.run().unwrap();
    assert_eq!(log.take(), ["true"]);
    reactor.close();
    assert!(blocking_call_from_thread(&remote, || Ok(1)).unwrap_err().check::<ReactorClosed>());
}

#[test]
fn a_blocking_call_in_the_pool_does_not_hold_up_the_stop() {
    let reactor = Reactor::new().unwrap();
    let (remote, stop) = (reactor.remote(), reactor.clone());
    let barrier = Arc::new(Barrier::new(2));
    let reached = barrier.clone();
    let result = watch(
        defer_to_thread(&reactor, move || {
            reached.wait();
            blocking_call_from_thread(&remote, || Ok(5))
        })
        .add_both(Ok),
    );
    reactor.call_when_running(move || {
        stop.stop().unwrap();
        barrier.wait();
    });
    reactor.run().unwrap();
    reactor.close();
    // the call was answered; whether its Deferred fired before the end depends on the turns
    let result = result.value();
    assert!(matches!(result, Ok(5)) || result.unwrap_err().check::<AbandonedError>());
}

#[test]
fn r_064_r_065_work_in_a_thread_fires_in_the_reactor_s_thread() {
    let reactor = Reactor::new().unwrap();
    let here = thread::current().id();
    let sum = defer_to_thread(&reactor, move || {
        assert_ne!(thread::current().id(), here);
        Ok(3 + 4)
    })
    .map(move |sum| {
        assert_eq!(thread::current().id(), here);
        sum
    });
    assert_eq!(value(&reactor, sum).unwrap(), 7);
    let failure =
        value(&reactor, defer_to_thread(&reactor, || Err::<(), _>(Failure::new(Bang("no")))))
            .unwrap_err();
    assert_eq!(failure.downcast_ref(), Some(&Bang("no")));
    let panicked = value(
        &reactor,
        defer_to_thread(&reactor, || -> Result<(), Failure> {
            std::panic::resume_unwind(Box::new("boom"))
        }),
    );
    assert!(panicked.unwrap_err().check::<Panicked>());
    reactor.close();
}

#[test]
fn r_066_several_pieces_run_one_after_the_other_in_one_thread() {
    let reactor = Reactor::new().unwrap();
    let (send, receive) = channel();
    let work: Vec<Box<dyn FnOnce() + Send>> = (0..3)
        .map(|n| {
            let send = send.clone();
            Box::new(move || send.send((n, thread::current().id())).unwrap())
                as Box<dyn FnOnce() + Send>
        })
        .collect();
    reactor.iterate(Duration::ZERO).unwrap();
    call_multiple_in_thread(&reactor, work).unwrap();
    reactor.thread_pool().start();
    let done: Vec<_> =
        (0..3).map(|_| receive.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
    assert_eq!(done.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(done.iter().all(|(_, id)| *id == done[0].1));
    reactor.close();
}

#[test]
fn r_067_work_in_a_pool_of_its_own() {
    let reactor = Reactor::new().unwrap();
    let pool = ThreadPool::named("mine", 0, 1).unwrap();
    pool.start();
    let name = || Ok(thread::current().name().unwrap_or_default().to_owned());
    assert_eq!(value(&reactor, defer_to_thread_pool(&reactor, &pool, name)).unwrap(), "mine-0");
    let failed = value(
        &reactor,
        defer_to_thread_pool(&reactor, &pool, || Err::<(), _>(Failure::new(Bang("no")))),
    );
    assert!(failed.unwrap_err().check::<Bang>());
    pool.stop();
    reactor.close();
}

#[test]
fn r_068_work_given_before_a_run_that_never_comes_is_not_done() {
    let reactor = Reactor::new().unwrap();
    let result =
        watch(defer_to_thread(&reactor, || -> Result<(), Failure> { panic!("it must not run") }));
    reactor.close();
    assert!(result.failure().check::<AbandonedError>());
}

#[test]
fn r_069_the_pool_keeps_its_limits_and_starts_the_least_number_of_threads() {
    for minimum in [0, 3] {
        let pool = ThreadPool::new(minimum, 10).unwrap();
        assert_eq!(
            (pool.limits(), pool.load()),
            (PoolLimits { minimum, maximum: 10 }, PoolLoad::default())
        );
        pool.start();
        assert_eq!(pool.load().threads, minimum);
        pool.stop();
        assert_eq!(pool.load().threads, 0);
        pool.adjust(5, 6).unwrap();
        assert_eq!(
            (pool.limits(), pool.load().threads),
            (PoolLimits { minimum: 5, maximum: 6 }, 0),
            "none while it is stopped"
        );
    }
    for (minimum, maximum) in [(0, 0), (3, 2)] {
        assert!(ThreadPool::new(minimum, maximum).unwrap_err().check::<ValueError>());
    }
}

#[test]
fn r_070_work_given_before_the_start_has_as_many_threads_as_it_needs_and_no_more_than_there_may_be()
{
    for (jobs, threads) in [(5, 5), (50, 10)] {
        let pool = ThreadPool::new(0, 10).unwrap();
        let (done, barrier) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(threads)));
        for n in 0..jobs {
            let (done, barrier) = (done.clone(), barrier.clone());
            pool.call_in_thread(move || {
                if n < threads {
                    barrier.wait();
                }
                done.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
        }
        pool.start();
        assert_eq!(pool.load().threads, threads);
        pool.stop();
        assert_eq!(done.load(Ordering::Relaxed), jobs);
    }
}

#[test]
fn r_071_r_072_panics_are_reported_or_are_the_failure_that_the_callback_gets() {
    let pool = ThreadPool::new(1, 1).unwrap();
    pool.start();
    let (send, receive) = channel();
    // of the work, and of the consumer of its result
    (0..2).for_each(|_| expect_report("Panicked: panicked: boom\n(work in the pool"));
    pool.call_in_thread(|| std::panic::resume_unwind(Box::new("boom"))).unwrap();
    for work in
        [|| Ok(1), || Err(Failure::new(Bang("no"))), || std::panic::resume_unwind(Box::new("boom"))]
    {
        let send = send.clone();
        pool.call_in_thread_with_callback(
            move |result| send.send((result, thread::current().id())).unwrap(),
            work,
        )
        .unwrap();
    }
    pool.call_in_thread_with_callback(|_| std::panic::resume_unwind(Box::new("boom")), || Ok(()))
        .unwrap();
    let results: Vec<_> =
        (0..3).map(|_| receive.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
    assert!(results.iter().all(|(_, id)| *id == results[0].1 && *id != thread::current().id()));
    assert_eq!(results[0].0.as_ref().unwrap(), &1);
    assert!(results[1].0.as_ref().unwrap_err().check::<Bang>());
    assert!(results[2].0.as_ref().unwrap_err().check::<Panicked>());
    // the thread has survived everything
    pool.call_in_thread(move || send.send((Ok(2), thread::current().id())).unwrap()).unwrap();
    assert_eq!(receive.recv_timeout(Duration::from_secs(10)).unwrap().1, results[0].1);
    pool.stop();
}

#[test]
fn r_074_a_job_that_unblocks_the_others_has_a_thread_of_its_own_at_once() {
    let pool = ThreadPool::new(0, 4).unwrap();
    pool.start();
    let barrier = Arc::new(Barrier::new(4));
    for _ in 0..4 {
        let barrier = barrier.clone();
        pool.call_in_thread(move || {
            barrier.wait();
        })
        .unwrap();
    }
    pool.stop();
    assert_eq!(pool.load(), PoolLoad { threads: 0, waiting: 0 });
}

#[test]
fn a_full_queue_refuses_work_and_cancelled_work_is_not_begun() {
    let reactor = Reactor::new().unwrap();
    let reports = Reports::new();
    let pool = ThreadPool::new(0, 1).unwrap();
    pool.set_queue_limit(1);
    let waits = defer_to_thread_pool(&reactor, &pool, || -> Result<(), Failure> {
        panic!("it was cancelled")
    });
    let refused = value(&reactor, defer_to_thread_pool(&reactor, &pool, || Ok(1))).unwrap_err();
    assert!(refused.check::<QueueFullError>());
    assert_eq!(
        refused.to_string(),
        "The queue is full: the pool `twistor` has reached its limit of 1."
    );
    waits.cancel();
    assert!(value(&reactor, waits).unwrap_err().check::<CancelledError>());
    pool.start();
    pool.stop();
    assert!(reports.take().is_empty());
    reactor.close();
}

#[test]
fn a_million_calls_from_four_threads_all_run_in_order_per_thread() {
    const EACH: usize = 250_000;
    thread_local! {
        static SEEN: std::cell::RefCell<[usize; 4]> = const { std::cell::RefCell::new([0; 4]) };
    }
    let reactor = Reactor::new().unwrap();
    let threads: Vec<_> = (0..4)
        .map(|thread_number| {
            let remote = reactor.remote();
            thread::spawn(move || {
                for n in 0..EACH {
                    remote.call_from_thread(move || {
                        SEEN.with_borrow_mut(|seen| {
                            assert_eq!(seen[thread_number], n);
                            seen[thread_number] = n + 1;
                            if seen.iter().sum::<usize>() == 4 * EACH {
                                Reactor::current().unwrap().stop().unwrap();
                            }
                        });
                    });
                }
            })
        })
        .collect();
    reactor.run().unwrap();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(SEEN.with_borrow(|seen| *seen), [EACH; 4]);
    reactor.close();
}

#[test]
fn the_end_of_a_run_answers_blocking_calls_that_wait_for_timers() {
    let reactor = Reactor::new().unwrap();
    let (remote, stop) = (reactor.remote(), reactor.clone());
    let (send, receive) = channel();
    let barrier = Arc::new(Barrier::new(2));
    let reached = barrier.clone();
    let work = move || {
        reached.wait();
        let later =
            || defer_later(&Reactor::current().unwrap(), Duration::from_millis(20), || Ok(5));
        send.send(blocking_call_from_thread(&remote, later)).unwrap();
    };
    reactor.thread_pool().call_in_thread(work).unwrap();
    reactor.call_when_running(move || {
        stop.stop().unwrap();
        barrier.wait();
    });
    reactor.run().unwrap();
    assert_eq!(receive.try_recv().unwrap().unwrap(), 5);
    assert!(!reactor.thread_pool().is_started(), "and no other pool was made");
    reactor.close();
}

#[test]
fn work_for_a_closed_reactor_fails_at_once() {
    let reactor = Reactor::new().unwrap();
    reactor.close();
    assert!(watch(defer_to_thread(&reactor, || Ok(1))).failure().check::<ReactorClosed>());
    let pool = ThreadPool::new(1, 1).unwrap();
    assert!(
        watch(defer_to_thread_pool(&reactor, &pool, || Ok(1))).failure().check::<ReactorClosed>()
    );
}

#[test]
fn a_reactor_inside_another_s_turn_is_in_both_their_threads() {
    let (outer, inner) = (Reactor::new().unwrap(), Reactor::new().unwrap());
    let (stop_outer, run_inner, remote, log) =
        (outer.clone(), inner.clone(), outer.remote(), Log::new());
    let noted = log.clone();
    outer.call_when_running(move || {
        let stop_inner = run_inner.clone();
        run_inner.call_when_running(move || {
            noted.add(blocking_call_from_thread(&remote, || Ok(1)).is_err());
            stop_inner.stop().unwrap();
        });
        run_inner.run().unwrap();
        stop_outer.stop().unwrap();
    });
    outer.run().unwrap();
    assert_eq!(log.take(), ["true"]);
    outer.close();
    inner.close();
}

#[test]
fn a_higher_maximum_is_a_thread_for_what_is_pending() {
    let pool = ThreadPool::new(0, 1).unwrap();
    pool.start();
    let barrier = Arc::new(Barrier::new(2));
    for _ in 0..2 {
        let barrier = barrier.clone();
        pool.call_in_thread(move || {
            barrier.wait();
        })
        .unwrap();
    }
    pool.adjust(0, 2).unwrap();
    pool.stop();
    assert_eq!(pool.load(), PoolLoad { threads: 0, waiting: 0 });
}

#[test]
fn work_that_a_thread_can_take_at_once_does_not_count_as_queued() {
    let pool = ThreadPool::new(0, 2).unwrap();
    pool.set_queue_limit(0);
    pool.start();
    let barrier = Arc::new(Barrier::new(3));
    for _ in 0..2 {
        let barrier = barrier.clone();
        pool.call_in_thread(move || {
            barrier.wait();
        })
        .unwrap();
    }
    assert!(pool.call_in_thread(|| ()).unwrap_err().check::<QueueFullError>());
    barrier.wait();
    pool.stop();
    assert!(ThreadPool::named("a\0b", 0, 1).unwrap_err().check::<ValueError>());
}

// Kind: what has happened before the end is delivered before the end.
#[test]
fn the_results_of_all_work_that_finishes_before_run_returns_are_delivered() {
    let reactor = Reactor::new().unwrap();
    let results: Vec<_> =
        (0..1000).map(|number| watch(defer_to_thread(&reactor, move || Ok(number)))).collect();
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    reactor.run().unwrap();
    for (number, result) in results.iter().enumerate() {
        assert_eq!(result.value(), number);
    }
}

#[test]
fn work_for_a_pool_that_is_stopping_is_refused_with_a_named_error() {
    let reactor = Reactor::new().unwrap();
    let (refused, inside) = (Rc::new(RefCell::new(None)), reactor.clone());
    let into = refused.clone();
    // the result comes while the pool stops, and asks for more work
    let pool = reactor.thread_pool();
    let first = defer_to_thread(&reactor, move || {
        while pool.is_started() {
            thread::yield_now();
        }
        Ok(())
    });
    first
        .add_callback(move |()| defer_to_thread(&inside, || Ok(())))
        .add_errback(move |failure| {
            *into.borrow_mut() = Some(failure.check::<PoolStoppedError>());
            Ok(())
        })
        .detach();
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    reactor.run().unwrap();
    assert_eq!(refused.take(), Some(true));

    let pool = ThreadPool::new(0, 1).unwrap();
    pool.start();
    pool.stop();
    assert!(pool.call_in_thread(|| ()).unwrap_err().check::<PoolStoppedError>());
    pool.start();
    pool.call_in_thread(|| ()).unwrap();
    pool.stop();
}

//! Timers and calls from other threads, beside tokio's, in CPU time.
//!
//! ```text
//! micro timers     1,000,000 live timers
//! micro calls      1,000 calls from a thread in a row
//! ```
//!
//! Each line of output is the work, then nanoseconds of CPU time for one operation: twistor's,
//! tokio's, and the ratio. For system calls run `calls twistor` or `calls tokio` under `strace -f
//! -c`.
#![expect(clippy::print_stdout, reason = "it prints a table")]
use std::{
    cell::Cell,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, Barrier},
    task::{Context, Waker},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use twistor::reactor::Reactor;

const TIMERS: u64 = 1_000_000;

/// Returns the CPU time of this process so far, as the scheduler counts it.
fn cpu() -> f64 {
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0)
    };
    std::fs::read_dir("/proc/self/task").unwrap().flatten().map(of).sum()
}

/// Returns the nanoseconds of CPU time for each of `count` operations.
fn measure(count: u64, work: impl FnOnce()) -> f64 {
    let before = cpu();
    work();
    #[expect(clippy::cast_precision_loss, reason = "a million fits")]
    let count = count as f64;
    (cpu() - before) / count
}

/// Returns a time between one and two hours ahead, not in order.
fn delay(n: u64) -> Duration {
    Duration::from_millis(3_600_000 + n * 7919 % 3_600_000)
}

/// Inserts, resets, cancels and fires.
fn timers_twistor() -> [f64; 4] {
    let reactor = Reactor::new().unwrap();
    let mut calls = Vec::with_capacity(TIMERS as usize);
    let insert = measure(TIMERS, || {
        calls.extend((0..TIMERS).map(|n| reactor.call_later(delay(n), || ())));
    });
    let reset = measure(TIMERS, || {
        for (n, call) in (0..).zip(&calls) {
            call.reset(delay(n) + Duration::from_secs(1)).unwrap();
        }
    });
    let cancel = measure(TIMERS, || {
        for call in calls.drain(..) {
            call.cancel().unwrap();
        }
    });
    reactor.close();
    let reactor = Reactor::new().unwrap();
    let fired = Rc::new(Cell::new(0));
    for n in 0..TIMERS {
        let fired = fired.clone();
        let spread = Duration::from_micros(n * 7919 % 1000);
        reactor.call_later(spread, move || fired.set(fired.get() + 1)).time();
    }
    std::thread::sleep(Duration::from_millis(2));
    let fire = measure(TIMERS, || {
        while fired.get() < TIMERS {
            reactor.iterate(Duration::ZERO).unwrap();
        }
    });
    reactor.close();
    [insert, reset, cancel, fire]
}

/// Inserts and fires tasks that sleep, since that is how tokio schedules a call; resets and cancels
/// the bare `Sleep`.
fn timers_tokio() -> [f64; 4] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (reset, cancel) = runtime.block_on(async {
        let now = Instant::now();
        let mut context = Context::from_waker(Waker::noop());
        let mut sleeps: Vec<Pin<Box<Sleep>>> =
            (0..TIMERS).map(|n| Box::pin(sleep_until(now + delay(n)))).collect();
        for sleep in &mut sleeps {
            // registers it; the budget of a task does not count here
            let _ = pin!(tokio::task::unconstrained(sleep.as_mut())).poll(&mut context);
        }
        let reset = measure(TIMERS, || {
            for (n, sleep) in (0..).zip(&mut sleeps) {
                // to so long from now, as `DelayedCall::reset` does
                sleep.as_mut().reset(Instant::now() + delay(n) + Duration::from_secs(1));
            }
        });
        (reset, measure(TIMERS, || sleeps.clear()))
    });
    let local = tokio::task::LocalSet::new();
    let fired = Rc::new(Cell::new(0));
    let all = fired.clone();
    let (insert, fire) = local.block_on(&runtime, async move {
        let before = cpu();
        let now = Instant::now();
        for n in 0..TIMERS {
            let fired = fired.clone();
            let spread = Duration::from_micros(n * 7919 % 1000);
            tokio::task::spawn_local(async move {
                sleep_until(now + Duration::from_secs(5) + spread).await;
                fired.set(fired.get() + 1);
            });
        }
        // until each has been polled and waits
        for _ in 0..TIMERS / 32 {
            tokio::task::yield_now().await;
        }
        let insert = cpu() - before;
        std::thread::sleep((now + Duration::from_millis(5100)).duration_since(Instant::now()));
        let before = cpu();
        while all.get() < TIMERS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a million fits")]
        let each = |all: f64| all / TIMERS as f64;
        (each(insert), each(cpu() - before))
    });
    [insert, reset, cancel, fire]
}

const CALLS: u64 = 1_000;
const ROUNDS: u64 = 200;

/// `ROUNDS` times `CALLS` calls from one thread in a row, each round awaited.
fn calls_twistor() -> f64 {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let done = Arc::new(Barrier::new(2));
    let at_end = done.clone();
    measure(CALLS * ROUNDS, || {
        let thread = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                for _ in 1..CALLS {
                    remote.call_from_thread(|| ());
                }
                let at_end = at_end.clone();
                remote.call_from_thread(move || {
                    at_end.wait();
                });
                done.wait();
            }
            remote.call_from_thread(|| Reactor::current().unwrap().stop().unwrap());
        });
        reactor.run().unwrap();
        thread.join().unwrap();
    })
}

fn calls_tokio() -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<Box<dyn FnOnce() + Send>>();
    let done = Arc::new(Barrier::new(2));
    let at_end = done.clone();
    measure(CALLS * ROUNDS, || {
        let thread = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                for _ in 1..CALLS {
                    sender.send(Box::new(|| ())).ok().unwrap();
                }
                let at_end = at_end.clone();
                sender
                    .send(Box::new(move || {
                        at_end.wait();
                    }))
                    .ok()
                    .unwrap();
                done.wait();
            }
        });
        runtime.block_on(async {
            while let Some(call) = receiver.recv().await {
                call();
            }
        });
        thread.join().unwrap();
    })
}

fn row(work: &str, ours: f64, theirs: f64) {
    println!("{work:8} twistor {ours:8.1} ns   tokio {theirs:8.1} ns   {:5.2} x", ours / theirs);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["timers"] => {
            let (ours, theirs) = (timers_twistor(), timers_tokio());
            for (work, (ours, theirs)) in
                ["insert", "reset", "cancel", "fire"].iter().zip(ours.iter().zip(theirs))
            {
                row(work, *ours, theirs);
            }
        }
        ["calls"] => row("call", calls_twistor(), calls_tokio()),
        ["calls", "twistor"] => println!("{:.1} ns", calls_twistor()),
        ["calls", "tokio"] => println!("{:.1} ns", calls_tokio()),
        _ => println!("usage: micro timers | calls [twistor|tokio]"),
    }
}

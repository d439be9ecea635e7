//! `LoopingCall`: a function that is called repeatedly.
use crate::{
    defer::{Deferred, IntoDeferred, Resolver, maybe_deferred},
    error::AlreadyRunningError,
    failure::Failure,
    time::ReactorTime,
    timers::WeakCall,
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    panic::Location,
    rc::{Rc, Weak},
    time::Duration,
};

/// A function that is called repeatedly, at a fixed interval. Cloning it is cheap, and dropping it
/// stops nothing.
///
/// Calls are due at the start plus whole multiples of the interval. If a call takes longer than the
/// interval, or the reactor is late, the multiples that have passed are skipped and not made up
/// for. If the function returns a Deferred, the next call waits for it. An error or a panic ends
/// the loop and fails the Deferred of [`start`](Self::start).
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use twistor::task::{Clock, LoopingCall};
///
/// let clock = Clock::new(); // in a program: reactor.clone()
/// let count = Rc::new(Cell::new(0));
/// let counted = count.clone();
/// let looping = LoopingCall::new(clock.clone(), move |looping| {
///     counted.set(counted.get() + 1);
///     if counted.get() == 3 {
///         looping.stop();
///     }
/// });
/// let ended = looping.start(Duration::from_secs(1));
/// clock.pump([Duration::from_secs(1); 5]);
/// assert_eq!(count.get(), 3);
/// assert!(ended.take_result().unwrap().is_ok());
/// ```
#[derive(Clone)]
#[doc(alias = "twisted.internet.task.LoopingCall")]
pub struct LoopingCall(Rc<Inner>);

type Body = Box<dyn FnMut(&LoopingCall, u64) -> Deferred<()>>;

struct Inner {
    /// `None` while it is being called.
    body: RefCell<Option<Body>>,
    clock: Box<dyn ReactorTime>,
    created_at: &'static Location<'static>,
    interval: Cell<Duration>,
    /// A call of the function is running or its Deferred is pending, of this start or an earlier
    /// one.
    busy: Cell<bool>,
    run: RefCell<Weak<Run>>,
}

/// State of one `start()`. The pending timer or the call in progress owns it, so that dropping that
/// owner, as a closing reactor does, ends the loop and fails its Deferred.
struct Run {
    /// The time from which the multiples of the interval are counted.
    begun: Cell<Duration>,
    /// The time of the last call, before the first one that of the call that it follows, in
    /// nanoseconds: a time and not a multiple, so that a reset or another interval loses none.
    last_call: Cell<i128>,
    stopped: Cell<bool>,
    next: Cell<Option<WeakCall>>,
    ended: Cell<Option<Resolver<LoopingCall>>>,
}

impl LoopingCall {
    /// Creates a loop, not started, that passes itself to `f`, so that `f` can stop it.
    #[track_caller]
    pub fn new<R: IntoDeferred>(
        clock: impl ReactorTime + 'static,
        mut f: impl FnMut(&Self) -> R + 'static,
    ) -> Self {
        Self::with_count(clock, move |looping, _| f(looping))
    }

    /// Creates a loop whose function also receives the number of intervals since its last call: 1,
    /// or more if calls were skipped. With an interval of 0 the number is always 1.
    #[doc(alias = "withCount")]
    #[track_caller]
    pub fn with_count<R: IntoDeferred>(
        clock: impl ReactorTime + 'static,
        mut f: impl FnMut(&Self, u64) -> R + 'static,
    ) -> Self {
        Self(Rc::new(Inner {
            body: RefCell::new(Some(Box::new(move |looping, count| {
                f(looping, count).into_deferred().map(drop)
            }))),
            clock: Box::new(clock),
            created_at: Location::caller(),
            interval: Cell::new(Duration::ZERO),
            busy: Cell::new(false),
            run: RefCell::default(),
        }))
    }

    /// Starts the loop: calls the function at once and then every `interval`, where 0 means once a
    /// turn. The Deferred fires with this handle when the loop is stopped. If a call of an earlier
    /// start is still in progress, the first call is due after one interval, or when that call has
    /// finished.
    ///
    /// # Errors
    /// Fails with the error of the function, with [`AlreadyRunningError`] if the loop is running,
    /// and with [`AbandonedError`](crate::error::AbandonedError) if the reactor is closed.
    ///
    /// # Cancellation
    /// Stops the loop.
    #[track_caller]
    pub fn start(&self, interval: Duration) -> Deferred<Self> {
        self.begin(interval, true)
    }

    /// Starts the loop with the first call after one interval.
    #[track_caller]
    pub fn start_later(&self, interval: Duration) -> Deferred<Self> {
        self.begin(interval, false)
    }

    #[track_caller]
    fn begin(&self, interval: Duration, now: bool) -> Deferred<Self> {
        let inner = &self.0;
        if self.is_running() {
            return Deferred::fail(AlreadyRunningError::with_text(format!(
                "the looping call made at {}",
                inner.created_at
            )));
        }
        inner.interval.set(interval);
        let begun = inner.clock.seconds();
        let before = if now { interval } else { Duration::ZERO };
        let run = Rc::new(Run {
            begun: Cell::new(begun),
            last_call: Cell::new(signed(begun) - signed(before)),
            stopped: Cell::new(false),
            next: Cell::new(None),
            ended: Cell::new(None),
        });
        let weak = Rc::downgrade(&run);
        *inner.run.borrow_mut() = weak.clone();
        let (ended, resolver) = Deferred::with_canceller(move |_| {
            if let Some(run) = weak.upgrade() {
                run.stopped.set(true);
                drop(run.ended.take());
                run.cancel_next();
            }
        });
        run.ended.set(Some(resolver));
        if now {
            self.call(run);
        } else {
            self.schedule(run);
        }
        ended
    }

    /// Stops the loop. No further call is made, and the Deferred of [`start`](Self::start) fires,
    /// at once or when the call in progress has finished. If the loop is not running this does
    /// nothing.
    pub fn stop(&self) {
        if let Some(run) = self.run().filter(|run| !run.stopped.replace(true))
            && run.cancel_next()
        {
            self.end(&run, Ok(()));
        }
    }

    /// Restarts the wait for the next call, which is due one interval from now; later calls are
    /// counted from now as well. While a call is in progress this does nothing.
    pub fn reset(&self) {
        if let Some(run) = self.run().filter(|run| !run.stopped.get())
            && run.cancel_next()
        {
            run.begun.set(self.0.clock.seconds());
            self.schedule(run);
        }
    }

    /// Returns whether the loop was started and has neither been stopped nor ended by an error.
    #[doc(alias = "running")]
    pub fn is_running(&self) -> bool {
        self.run().is_some_and(|run| !run.stopped.get())
    }

    /// Returns the interval.
    pub fn interval(&self) -> Duration {
        self.0.interval.get()
    }

    /// Sets the interval of a running loop, from the call after the next one on. A new start sets
    /// it as well.
    ///
    /// Due times are then the start plus whole multiples of the new interval.
    pub fn set_interval(&self, interval: Duration) {
        self.0.interval.set(interval);
    }

    fn run(&self) -> Option<Rc<Run>> {
        self.0.run.borrow().upgrade()
    }

    fn schedule(&self, run: Rc<Run>) {
        let inner = &self.0;
        let interval = inner.interval.get();
        let passed = inner.clock.seconds().saturating_sub(run.begun.get());
        // up to the next multiple
        let over = passed.as_nanos().checked_rem(interval.as_nanos()).unwrap_or(0);
        let wait = interval.saturating_sub(nanos(over));
        let (again, next) = (self.clone(), Rc::downgrade(&run));
        let call = inner.clock.schedule(wait, Box::new(move || again.call(run)));
        // a closed reactor has dropped it already
        if let Some(run) = next.upgrade() {
            run.next.set(Some(call.into()));
        }
    }

    fn call(&self, run: Rc<Run>) {
        let inner = &self.0;
        run.next.take();
        let body = if inner.busy.get() { None } else { inner.body.take() };
        let Some(mut body) = body else { return self.schedule(run) };
        inner.busy.set(true);
        let count = run.count(inner.clock.seconds(), inner.interval.get());
        // user code
        let result = maybe_deferred(|| body(self, count));
        *inner.body.borrow_mut() = Some(body);
        let looping = self.clone();
        result.add_both(move |result| looping.has_run(run, result)).detach();
    }

    fn has_run(&self, run: Rc<Run>, result: Result<(), Failure>) {
        self.0.busy.set(false);
        if result.is_err() {
            run.stopped.set(true);
        }
        if run.stopped.get() {
            self.end(&run, result);
        } else {
            self.schedule(run);
        }
    }

    fn end(&self, run: &Run, result: Result<(), Failure>) {
        match run.ended.take() {
            // user code
            Some(resolver) => resolver.resolve(result.map(|()| self.clone())),
            // the Deferred was cancelled: a failure can only be reported
            None => Deferred::ready(result, self.0.created_at).detach(),
        }
    }
}

impl Run {
    /// Cancels the next call. Returns `false` if a call is in progress. The caller holds the run,
    /// which the cancelled call owned.
    fn cancel_next(&self) -> bool {
        self.next.take().is_some_and(|next| {
            next.cancel();
            true
        })
    }

    /// Returns the number of intervals since the last call.
    fn count(&self, now: Duration, interval: Duration) -> u64 {
        let (now, begun) = (signed(now), signed(self.begun.get()));
        let last = self.last_call.replace(now);
        let multiple = |time: i128| (time - begun).checked_div(signed(interval));
        match (multiple(now), multiple(last)) {
            (Some(now), Some(last)) => u64::try_from(now - last).unwrap_or(0).max(1),
            _ => 1,
        }
    }
}

/// Returns the nanoseconds of a time, which may then be subtracted from an earlier one.
fn signed(time: Duration) -> i128 {
    time.as_nanos().cast_signed()
}

/// Converts to a Duration; the number is less than an interval, which is one.
fn nanos(count: u128) -> Duration {
    Duration::new(
        u64::try_from(count / 1_000_000_000).unwrap_or(u64::MAX),
        u32::try_from(count % 1_000_000_000).unwrap_or(0),
    )
}

impl fmt::Debug for LoopingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_running() { "running" } else { "stopped" };
        write!(
            f,
            "<LoopingCall every {:?}, {state}, made at {}>",
            self.interval(),
            self.0.created_at
        )
    }
}

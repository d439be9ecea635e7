//! `LoopingCall`: a function that runs again and again.
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

/// A function that runs again and again, an interval apart. A cheap handle; dropping it stops
/// nothing.
///
/// The runs stay on the grid of the start and whole intervals. A run that takes longer than that,
/// or a reactor that is late, skips the slots that have passed: they are not made up for. If the
/// function returns a Deferred, the next run waits for it. An error, or a panic, ends the loop and
/// fails the Deferred of [`start`](Self::start).
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
    /// A call of the function, or its Deferred, has not ended: of this start or of one before.
    busy: Cell<bool>,
    run: RefCell<Weak<Run>>,
}

/// One start. It belongs to whatever makes it go on: the timer of the next call, or the end of the
/// one that is under way. If that is dropped, as when the reactor is closed, the start ends with
/// it, and its Deferred fails.
struct Run {
    /// The grid begins here.
    begun: Cell<Duration>,
    /// The slot of the last call; the first one counts from the slot before it.
    last_slot: Cell<i128>,
    stopped: Cell<bool>,
    next: Cell<Option<WeakCall>>,
    ended: Cell<Option<Resolver<LoopingCall>>>,
}

impl LoopingCall {
    /// A loop that calls `f` with itself, so that `f` can stop it. It does not run yet.
    #[track_caller]
    pub fn new<R: IntoDeferred>(
        clock: impl ReactorTime + 'static,
        mut f: impl FnMut(&Self) -> R + 'static,
    ) -> Self {
        Self::with_count(clock, move |looping, _| f(looping))
    }

    /// The same for a function that is also told how many slots have come since its last run: 1,
    /// and more after slots that were skipped. With an interval of 0 it is always 1.
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

    /// Runs it now and then every `interval`; 0 is once a turn. The Deferred fires with this handle
    /// when the loop is stopped. If a call of an earlier start is still under way, the first one
    /// comes an interval later, or when that has ended.
    ///
    /// # Errors
    /// What the function fails with. [`AlreadyRunningError`] if it runs.
    /// [`AbandonedError`](crate::error::AbandonedError) if the reactor is closed.
    ///
    /// # Cancellation
    /// Stops the loop.
    #[track_caller]
    pub fn start(&self, interval: Duration) -> Deferred<Self> {
        self.begin(interval, true)
    }

    /// The same with the first run after one interval.
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
        let run = Rc::new(Run {
            begun: Cell::new(inner.clock.seconds()),
            last_slot: Cell::new(if now { -1 } else { 0 }),
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

    /// Stops it: no further run, and the Deferred of [`start`](Self::start) fires, right now or
    /// when the run that is under way has ended. On one that does not run it does nothing.
    pub fn stop(&self) {
        if let Some(run) = self.run().filter(|run| !run.stopped.replace(true))
            && run.cancel_next()
        {
            self.end(&run, Ok(()));
        }
    }

    /// Starts the wait for the next run again: it comes one interval from now, and the grid begins
    /// now. While a run is under way it does nothing.
    pub fn reset(&self) {
        if let Some(run) = self.run().filter(|run| !run.stopped.get())
            && run.cancel_next()
        {
            run.begun.set(self.0.clock.seconds());
            run.last_slot.set(0);
            self.schedule(run);
        }
    }

    /// Whether it was started and neither stopped nor ended by an error.
    #[doc(alias = "running")]
    pub fn is_running(&self) -> bool {
        self.run().is_some_and(|run| !run.stopped.get())
    }

    /// The interval of the last start.
    pub fn interval(&self) -> Duration {
        self.0.interval.get()
    }

    fn run(&self) -> Option<Rc<Run>> {
        self.0.run.borrow().upgrade()
    }

    fn schedule(&self, run: Rc<Run>) {
        let inner = &self.0;
        let interval = inner.interval.get();
        let passed = inner.clock.seconds().saturating_sub(run.begun.get());
        // to the next point of the grid
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
            // the Deferred was cancelled: a failure has no other way out
            None => Deferred::ready(result, self.0.created_at).detach(),
        }
    }
}

impl Run {
    /// Takes the next call back; `false` if one is under way. The caller holds the run, which that
    /// call had.
    fn cancel_next(&self) -> bool {
        self.next.take().is_some_and(|next| {
            next.cancel();
            true
        })
    }

    /// How many slots have come since the last call.
    fn count(&self, now: Duration, interval: Duration) -> u64 {
        let passed = now.saturating_sub(self.begun.get()).as_nanos();
        match passed.checked_div(interval.as_nanos()).map(u128::cast_signed) {
            Some(slot) => u64::try_from(slot - self.last_slot.replace(slot)).unwrap_or(0).max(1),
            None => 1,
        }
    }
}

/// Less than an interval, which is a Duration.
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

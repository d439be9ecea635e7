//! `LoopingCall`: a function that runs again and again.
use crate::{
    defer::{Deferred, IntoDeferred, Resolver, maybe_deferred},
    error::AlreadyRunningError,
    failure::Failure,
    time::{DelayedCall, ReactorTime},
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    panic::Location,
    rc::Rc,
    time::Duration,
};

/// A function that runs again and again, an interval apart. A cheap handle; dropping it stops nothing.
///
/// The runs stay on the grid of the start and whole intervals. A run that takes longer than that, or a reactor that is late, skips the slots that have passed: they are not made up
/// for. If the function returns a Deferred, the next run waits for it. An error, or a panic, ends the loop and fails the Deferred of [`start`](Self::start).
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use twistor::task::{Clock, LoopingCall};
///
/// let (clock, count) = (Clock::new(), Rc::new(Cell::new(0)));      // in a program: reactor.clone()
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
    /// `None` while it runs.
    body: RefCell<Option<Body>>,
    clock: Box<dyn ReactorTime>,
    made: &'static Location<'static>,
    interval: Cell<Duration>,
    /// The grid begins here.
    begun: Cell<Duration>,
    /// The slot of the last run; the first one counts from the slot before it.
    last_slot: Cell<i128>,
    running: Cell<bool>,
    next: Cell<Option<DelayedCall>>,
    ended: Cell<Option<Resolver<LoopingCall>>>,
}

impl LoopingCall {
    /// A loop that calls `f` with itself, so that `f` can stop it. It does not run yet.
    #[track_caller]
    pub fn new<R: IntoDeferred>(clock: impl ReactorTime + 'static, mut f: impl FnMut(&Self) -> R + 'static) -> Self {
        Self::with_count(clock, move |looping, _| f(looping))
    }

    /// The same for a function that is also told how many slots have come since its last run: 1, and more after slots that were skipped. With an interval of 0 it is always 1.
    #[doc(alias = "withCount")]
    #[track_caller]
    pub fn with_count<R: IntoDeferred>(clock: impl ReactorTime + 'static, mut f: impl FnMut(&Self, u64) -> R + 'static) -> Self {
        Self(Rc::new(Inner {
            body: RefCell::new(Some(Box::new(move |looping, count| f(looping, count).into_deferred().map(drop)))),
            clock: Box::new(clock),
            made: Location::caller(),
            interval: Cell::new(Duration::ZERO),
            begun: Cell::new(Duration::ZERO),
            last_slot: Cell::new(0),
            running: Cell::new(false),
            next: Cell::new(None),
            ended: Cell::new(None),
        }))
    }

    /// Runs it now and then every `interval`; 0 is once a turn. The Deferred fires with this handle when the loop is stopped.
    ///
    /// # Errors
    /// What the function fails with. [`AlreadyRunningError`] if it runs.
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
        if inner.running.replace(true) {
            return Deferred::fail(AlreadyRunningError::with_text(format!("the looping call made at {}", inner.made)));
        }
        let weak = Rc::downgrade(inner);
        let (ended, resolver) = Deferred::with_canceller(move |_| {
            if let Some(inner) = weak.upgrade() {
                let resolver = inner.ended.take();
                Self(inner).stop();
                drop(resolver);
            }
        });
        inner.ended.set(Some(resolver));
        inner.interval.set(interval);
        inner.begun.set(inner.clock.seconds());
        inner.last_slot.set(if now { -1 } else { 0 });
        if now {
            self.run();
        } else {
            self.schedule();
        }
        ended
    }

    /// Stops it: no further run, and the Deferred of [`start`](Self::start) fires, right now or when the run that is under way has ended. On one that does not run it does nothing.
    pub fn stop(&self) {
        if !self.0.running.replace(false) {
            return;
        }
        if let Some(next) = self.0.next.take() {
            // it has not run: a run takes it out
            let _ = next.cancel();
            self.end(Ok(()));
        }
    }

    /// Starts the wait for the next run again: it comes one interval from now, and the grid begins now. While a run is under way it does nothing.
    pub fn reset(&self) {
        if let Some(next) = self.0.next.take() {
            let _ = next.cancel();
            self.0.begun.set(self.0.clock.seconds());
            self.0.last_slot.set(0);
            self.schedule();
        }
    }

    /// Whether it was started and neither stopped nor ended by an error.
    #[doc(alias = "running")]
    pub fn is_running(&self) -> bool {
        self.0.running.get()
    }

    /// The interval of the last start.
    pub fn interval(&self) -> Duration {
        self.0.interval.get()
    }

    /// How many whole intervals have passed since the start.
    fn slot(&self) -> i128 {
        let passed = self.0.clock.seconds().saturating_sub(self.0.begun.get());
        passed.as_nanos().checked_div(self.0.interval.get().as_nanos()).map_or(0, u128::cast_signed)
    }

    fn schedule(&self) {
        let inner = &self.0;
        let interval = inner.interval.get();
        let passed = inner.clock.seconds().saturating_sub(inner.begun.get());
        // to the next point of the grid
        let over = passed.as_nanos().checked_rem(interval.as_nanos()).unwrap_or(0);
        let wait = interval.saturating_sub(nanos(over));
        let again = self.clone();
        inner.next.set(Some(inner.clock.schedule(wait, Box::new(move || again.run()))));
    }

    fn run(&self) {
        let inner = &self.0;
        inner.next.take();
        let count = if inner.interval.get().is_zero() {
            1
        } else {
            let slot = self.slot();
            u64::try_from(slot - inner.last_slot.replace(slot)).unwrap_or(0).max(1)
        };
        let Some(mut body) = inner.body.take() else {
            // started again inside its own function: that one has to end first
            self.schedule();
            return;
        };
        // user code
        let result = maybe_deferred(|| body(self, count));
        *inner.body.borrow_mut() = Some(body);
        let looping = self.clone();
        result.add_both(move |result| looping.has_run(result)).detach();
    }

    fn has_run(&self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.0.running.set(false);
            self.end(Err(failure));
        } else if self.0.running.get() {
            self.schedule();
        } else {
            self.end(Ok(()));
        }
    }

    fn end(&self, result: Result<(), Failure>) {
        match self.0.ended.take() {
            // user code
            Some(resolver) => resolver.resolve(result.map(|()| self.clone())),
            // the Deferred was cancelled: a failure has no other way out
            None => Deferred::ready(result, self.0.made).detach(),
        }
    }
}

/// Less than an interval, which is a Duration.
fn nanos(count: u128) -> Duration {
    Duration::new(u64::try_from(count / 1_000_000_000).unwrap_or(u64::MAX), u32::try_from(count % 1_000_000_000).unwrap_or(0))
}

impl fmt::Debug for LoopingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_running() { "running" } else { "stopped" };
        write!(f, "<LoopingCall every {:?}, {state}, made at {}>", self.interval(), self.0.made)
    }
}

//! A manual clock for tests.
use crate::{
    time::{DelayedCall, ReactorTime},
    timers::Timers,
};
use std::{fmt, panic::Location, rc::Rc, time::Duration};

/// A clock that stands still until [`advance`](Self::advance) moves it, to test timers without
/// waiting.
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use twistor::task::Clock;
///
/// let clock = Clock::new();
/// let rung = Rc::new(Cell::new(false));
/// let bell = rung.clone();
/// clock.call_later(Duration::from_secs(2), move || bell.set(true));
///
/// clock.advance(Duration::from_secs(1));
/// assert!(!rung.get());
/// clock.advance(Duration::from_secs(1));
/// assert!(rung.get());
/// ```
#[doc(alias = "twisted.internet.task.Clock")]
#[derive(Clone)]
pub struct Clock(Rc<Timers>);

impl Clock {
    /// Creates a clock at 0 seconds without calls.
    pub fn new() -> Self {
        Self(Timers::new())
    }

    /// Returns its queue, for a reactor that uses its time.
    pub(crate) fn timers(&self) -> Rc<Timers> {
        self.0.clone()
    }

    /// Returns the current time.
    pub fn seconds(&self) -> Duration {
        self.0.now()
    }

    /// Runs `call` once, when the clock has been advanced by `delay` from now.
    #[doc(alias = "callLater")]
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.0.add(delay, Box::new(call), Location::caller())
    }

    /// Returns the pending calls, the next one first.
    #[doc(alias = "getDelayedCalls")]
    pub fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.0.pending()
    }

    /// Advances the clock by `by` and runs all calls that are due then, in the order of their due
    /// times; calls due at the same time run in the order in which they were scheduled. Calls that
    /// these schedule for the present time run as well.
    ///
    /// The clock is advanced first, so each call sees the new time, as in Twisted.
    pub fn advance(&self, by: Duration) {
        self.0.set_now(self.0.now().saturating_add(by));
        while self.0.run_due(self.0.all_due()).is_some() {}
        self.0.notify_advanced();
        // calls that were scheduled for the present time
        while self.0.run_due(self.0.all_due()).is_some() {}
    }

    /// [Advances](Self::advance) the clock by each of `steps` in turn.
    pub fn pump(&self, steps: impl IntoIterator<Item = Duration>) {
        for step in steps {
            self.advance(step);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl ReactorTime for Clock {
    fn seconds(&self) -> Duration {
        self.seconds()
    }

    #[track_caller]
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall {
        self.0.add(delay, call, Location::caller())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Clock at {:?}, {} calls>", self.seconds(), self.delayed_calls().len())
    }
}

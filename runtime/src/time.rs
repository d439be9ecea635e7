//! Time as a reactor and a test clock both offer it: now, and calls at a later time.
use crate::{
    error::{AlreadyCalled, AlreadyCancelled},
    failure::Failure,
    timers::Timers,
};
use std::{cell::Cell, fmt, panic::Location, rc::Rc, rc::Weak, time::Duration};

/// A clock that can run a function later: the reactor and [`Clock`](crate::task::Clock).
#[doc(alias = "IReactorTime")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no clock",
    label = "a reactor or a `task::Clock` is wanted here",
    note = "pass `&reactor`, or `&clock` in a test"
)]
pub trait ReactorTime {
    /// The time now, counted from a start of the clock's own; it never runs backwards.
    fn seconds(&self) -> Duration;

    /// Runs `call` once, `delay` from now, in a later turn.
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall;
}

/// What has become of a delayed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Called,
    Cancelled,
}

/// The part that the queue and the [`DelayedCall`] share.
pub(crate) struct Call {
    pub(crate) due: Cell<Duration>,
    /// Orders calls that are due at the same instant: the order in which they were made, or last
    /// moved.
    pub(crate) order: Cell<u64>,
    pub(crate) state: Cell<State>,
    pub(crate) function: Cell<Option<Box<dyn FnOnce()>>>,
    pub(crate) queue: Weak<Timers>,
    pub(crate) made: &'static Location<'static>,
}

/// A call that will run later: cancel it, move it, ask for its time. Dropping this changes nothing.
///
/// ```
/// use std::time::Duration;
/// use twistor::task::Clock;
///
/// let clock = Clock::new();
/// let call = clock.call_later(Duration::from_secs(2), || println!("two seconds later"));
/// assert!(call.active());
/// call.delay(Duration::from_secs(1)).unwrap();
/// assert_eq!(call.time(), Duration::from_secs(3));
/// call.cancel().unwrap();
/// assert!(call.cancel().is_err());
/// ```
#[doc(alias = "IDelayedCall")]
#[derive(Clone)]
pub struct DelayedCall(pub(crate) Rc<Call>);

impl DelayedCall {
    /// Takes the call out of the queue and drops its function.
    ///
    /// # Errors
    /// [`AlreadyCalled`] if it has run or runs now, [`AlreadyCancelled`] if it was cancelled
    /// before.
    pub fn cancel(&self) -> Result<(), Failure> {
        self.pending()?;
        self.0.state.set(State::Cancelled);
        if let Some(queue) = self.0.queue.upgrade() {
            queue.remove(&self.0);
        }
        crate::report::drop_guarded(self.0.function.take());
        Ok(())
    }

    /// Whether the call is still going to run.
    pub fn active(&self) -> bool {
        self.0.state.get() == State::Pending
    }

    /// When it is due, on the clock it was made with.
    #[doc(alias = "getTime")]
    pub fn time(&self) -> Duration {
        self.0.due.get()
    }

    /// Moves it to `delay` from now.
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel).
    pub fn reset(&self, delay: Duration) -> Result<(), Failure> {
        self.pending()?;
        if let Some(queue) = self.0.queue.upgrade() {
            queue.reschedule(&self.0, queue.now().saturating_add(delay));
        }
        Ok(())
    }

    /// Moves it `more` further from where it is.
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel).
    pub fn delay(&self, more: Duration) -> Result<(), Failure> {
        self.pending()?;
        if let Some(queue) = self.0.queue.upgrade() {
            queue.reschedule(&self.0, self.0.due.get().saturating_add(more));
        }
        Ok(())
    }

    /// The line that made the call.
    pub fn made_at(&self) -> &'static Location<'static> {
        self.0.made
    }

    fn pending(&self) -> Result<(), Failure> {
        match self.0.state.get() {
            State::Pending => Ok(()),
            State::Called => Err(AlreadyCalled::new().into()),
            State::Cancelled => Err(AlreadyCancelled::new().into()),
        }
    }
}

/// A [`DelayedCall`] for what the call's own function can reach: it keeps nothing alive.
#[derive(Clone, Default)]
pub(crate) struct WeakCall(Weak<Call>);

impl WeakCall {
    /// Takes the call back, if it has not run.
    pub(crate) fn cancel(&self) {
        if let Some(call) = self.0.upgrade() {
            // an error says that there is nothing to take back
            let _ = DelayedCall(call).cancel();
        }
    }
}

impl From<DelayedCall> for WeakCall {
    fn from(call: DelayedCall) -> Self {
        Self(Rc::downgrade(&call.0))
    }
}

impl PartialEq for DelayedCall {
    /// Whether both are the same call; two calls due at the same time are not equal.
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for DelayedCall {}

impl fmt::Debug for DelayedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.get();
        write!(
            f,
            "<DelayedCall due {:?} called={} cancelled={} made at {}>",
            self.0.due.get(),
            u8::from(state == State::Called),
            u8::from(state == State::Cancelled),
            self.0.made
        )
    }
}

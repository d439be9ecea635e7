//! Deferred: an eventual result, and how it is cancelled. `callback.rs` adds callbacks.
use super::{
    cancel_node::{Awaiting, CancelNode, cancel_from, cancelled_at},
    chain::{Node, Outcome, discard_outcome},
};
use crate::{error::CancelledError, failure::Failure, sealed::Sealed};
use std::{
    fmt,
    panic::Location,
    rc::{Rc, Weak},
};

/// An eventual `Result<T, Failure>` with one consumer. The result is there from the beginning, or
/// comes from a [`Resolver`](super::Resolver) or a coroutine.
///
/// Adding a callback consumes the Deferred and returns a Deferred of the callback's own result, so
/// the type of a chain follows its values. A callback added to a fired Deferred runs at once.
///
/// ```
/// use twistor::{defer::Deferred, failure::Failure};
///
/// let length = Deferred::succeed("42")
///     .and_then(|text| text.parse::<u32>())               // any error becomes a Failure
///     .add_callback(|n| if n > 0 { Ok(n) } else { Err(Failure::message("nothing")) })
///     .add_errback(|failure| {
///         println!("{failure}");
///         Ok(1)
///     });
/// assert_eq!(length.take_result().unwrap().unwrap(), 42);
/// ```
///
/// Dropping a Deferred stops nothing: callbacks that were added run. A failure at the end of a
/// chain is reported once, when it is dropped, with the line that created the Deferred (see
/// [`report`](mod@crate::report)).
///
/// # Cancellation
/// [`cancel`](Self::cancel) reaches the innermost Deferred that is being awaited.
#[must_use = "a failure in it is reported when it is dropped; wait for it with `yield_!`, add an \
    errback, or call `.detach()`"]
pub struct Deferred<T: 'static> {
    /// `None` once the content has been moved out.
    state: Option<DeferredState<T>>,
    created_at: &'static Location<'static>,
}

pub(crate) enum DeferredState<T> {
    Ready(Outcome<T>),
    Pending(Rc<dyn Node<T>>),
}

impl<T: 'static> Deferred<T> {
    /// Creates a Deferred that has fired with `value`, without an allocation.
    #[track_caller]
    pub fn succeed(value: T) -> Self {
        Self::ready(Ok(value), Location::caller())
    }

    /// Creates a Deferred that has fired with a failure.
    #[track_caller]
    pub fn fail(failure: impl Into<Failure>) -> Self {
        Self::ready(Err(failure.into()), Location::caller())
    }

    /// Cancels what this Deferred awaits: the innermost Deferred that has not fired calls its
    /// canceller, or fails with [`CancelledError`]. On a fired Deferred this does nothing.
    ///
    /// Cancelling is a request. The callbacks decide what becomes of it: a coroutine may catch the
    /// error and continue.
    #[track_caller]
    pub fn cancel(&self) {
        if let Some(DeferredState::Pending(source)) = &self.state {
            cancel_from(source.clone(), &cancelled_at(Location::caller()));
        }
    }

    /// Returns a handle that can cancel this Deferred after the Deferred itself has been given
    /// away.
    ///
    /// The handle covers the chain up to this point, including Deferreds that its callbacks return,
    /// and nothing that is added later. Take it last.
    pub fn canceller(&self) -> CancelHandle {
        match &self.state {
            Some(DeferredState::Pending(source)) => {
                CancelHandle(Some(Rc::downgrade(source) as Weak<dyn CancelNode>))
            }
            _ => CancelHandle(None),
        }
    }

    /// Explicitly discards the result; equivalent to dropping the Deferred. A failure is reported.
    pub fn detach(self) {
        drop(self);
    }

    /// Returns the line that created the Deferred.
    pub(super) fn created_at(&self) -> &'static Location<'static> {
        self.created_at
    }

    /// Creates a Deferred that has its outcome.
    pub(crate) fn ready(outcome: Outcome<T>, created_at: &'static Location<'static>) -> Self {
        Self { state: Some(DeferredState::Ready(outcome)), created_at }
    }

    /// Creates a Deferred that awaits `source`.
    pub(crate) fn pending(source: Rc<dyn Node<T>>) -> Self {
        Self { created_at: source.slot().created_at(), state: Some(DeferredState::Pending(source)) }
    }

    /// Creates a Deferred that awaits `source` but has a creation line of its own.
    pub(crate) fn pending_at(
        source: Rc<dyn Node<T>>,
        created_at: &'static Location<'static>,
    ) -> Self {
        Self { state: Some(DeferredState::Pending(source)), created_at }
    }

    /// Returns the outcome if there is one, and otherwise the node.
    #[expect(
        clippy::inline_always,
        reason = "called as a function it stores and reloads the whole Deferred: half the cost of \
            a pending callback, measured"
    )]
    #[inline(always)]
    pub(crate) fn settle(mut self) -> DeferredState<T> {
        let state = self.state.take();
        // the state has been taken, so the drop would have nothing to do
        std::mem::forget(self);
        match state {
            Some(DeferredState::Pending(source)) => match source.slot().take() {
                Some(outcome) => DeferredState::Ready(outcome),
                None => DeferredState::Pending(source),
            },
            Some(ready) => ready,
            // the state is only ever taken from a Deferred that is consumed
            None => unreachable!("a Deferred is used once"),
        }
    }

    /// Returns the node that it awaits, unless it has its outcome.
    pub(crate) fn source(&self) -> Option<Rc<dyn Node<T>>> {
        match &self.state {
            Some(DeferredState::Pending(source)) => Some(source.clone()),
            _ => None,
        }
    }
}

impl<T: 'static> Drop for Deferred<T> {
    fn drop(&mut self) {
        match self.state.take() {
            Some(DeferredState::Ready(outcome)) => discard_outcome(outcome, self.created_at),
            Some(DeferredState::Pending(source)) => source.slot().detach(),
            None => {}
        }
    }
}

impl<T: fmt::Debug + 'static> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = |f: &mut fmt::Formatter<'_>, outcome: &Outcome<T>| match outcome {
            Ok(value) => write!(f, " current result: {value:?}"),
            Err(failure) => write!(f, " current result: {failure:?}"),
        };
        match &self.state {
            Some(DeferredState::Pending(source)) => {
                write!(f, "<Deferred at {:p}", Rc::as_ptr(source).cast::<()>())?;
                if let Some(other) = source.following() {
                    write!(f, " waiting on Deferred at {other:p}")?;
                }
                source
                    .slot()
                    .show(|outcome| outcome.map_or(Ok(()), |outcome| result(f, outcome)))?;
            }
            Some(DeferredState::Ready(outcome)) => {
                write!(f, "<Deferred at {self:p}")?;
                result(f, outcome)?;
            }
            None => f.write_str("<Deferred")?,
        }
        f.write_str(">")
    }
}

/// A handle that cancels a chain from elsewhere, made by [`Deferred::canceller`]. It keeps nothing
/// alive.
#[derive(Clone, Default)]
pub struct CancelHandle(Option<Weak<dyn CancelNode>>);

impl CancelHandle {
    /// Cancels as [`Deferred::cancel`] would have done where the handle was taken. After the chain
    /// has fired this does nothing.
    #[track_caller]
    pub fn cancel(&self) {
        self.cancel_for(&cancelled_at(Location::caller()));
    }

    /// Returns whether there is nothing left to cancel.
    pub(crate) fn is_dead(&self) -> bool {
        self.0
            .as_ref()
            .and_then(Weak::upgrade)
            .is_none_or(|at| matches!(at.awaiting(), Awaiting::Finished))
    }

    pub(crate) fn cancel_for(&self, why: &CancelledError) {
        if let Some(at) = self.0.as_ref().and_then(Weak::upgrade) {
            cancel_from(at, why);
        }
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "<CancelHandle>"
        } else {
            "<CancelHandle of a fired Deferred>"
        })
    }
}

/// The return types of callbacks: `Result<T, Failure>`, `Deferred<T>`, `()`, and `!` (a closure
/// that only panics).
///
/// `Result` with other error types does not implement it, because the type of `|v| Ok(v + 1)` would
/// then be unknown. Use [`and_then`](Deferred::and_then), or `?`, which converts any error into a
/// [`Failure`].
#[diagnostic::on_unimplemented(
    message = "a callback cannot return `{Self}`",
    label = "the function given here returns `{Self}`",
    note = "for a plain value use `.map(..)` or return `Ok(..)`, and on a `Handle` use \
        `.with(..)`; for a `Result` with another error use `.and_then(..)`"
)]
pub trait IntoDeferred {
    /// The value type of the Deferred.
    type Value: 'static;

    /// Converts the result into a Deferred.
    fn into_deferred(self) -> Deferred<Self::Value>;
}

impl<T: 'static> Sealed for Deferred<T> {}

impl<T: 'static> IntoDeferred for Deferred<T> {
    type Value = T;

    fn into_deferred(self) -> Self {
        self
    }
}

impl<T: 'static> IntoDeferred for Result<T, Failure> {
    type Value = T;

    fn into_deferred(self) -> Deferred<T> {
        Deferred::ready(self, Location::caller())
    }
}

impl IntoDeferred for () {
    type Value = ();

    fn into_deferred(self) -> Deferred<()> {
        Deferred::succeed(())
    }
}

/// Names the type `!`, which stable Rust cannot write.
trait Output {
    type Type;
}

impl<R> Output for fn() -> R {
    type Type = R;
}

type Never = <fn() -> ! as Output>::Type;

#[expect(private_interfaces, reason = "the type is `!`; the trait is only the way to write it")]
#[diagnostic::do_not_recommend]
impl IntoDeferred for Never {
    type Value = ();

    fn into_deferred(self) -> Deferred<()> {
        self
    }
}

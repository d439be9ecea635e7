//! Deferred: an eventual result, and how it is cancelled. `callback.rs` has what is put behind it.
use super::{
    cancel_node::{Awaiting, CancelNode, cancel_from, cancelled_at},
    chain::{Node, Outcome, discard_outcome},
};
use crate::{error::CancelledError, failure::Failure};
use std::{
    fmt,
    panic::Location,
    rc::{Rc, Weak},
};

/// An eventual `Result<T, Failure>` with one consumer: a value that is there already, or one that a
/// [`Resolver`](super::Resolver) or a coroutine will bring.
///
/// Adding a callback consumes the Deferred and gives the one of the callback's own result, so a
/// chain's type follows its values. A callback added to a fired Deferred runs at once.
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
/// Dropping a Deferred stops nothing: callbacks already added run. A failure that reaches the end
/// of a chain is reported where it is dropped, once, with the place the Deferred was made (see
/// [`report`](mod@crate::report)).
///
/// # Cancellation
/// [`cancel`](Self::cancel) reaches the innermost Deferred that is being waited for.
#[must_use = "a failure in it is reported when it is dropped; wait for it with `yield_!`, add an \
    errback, or say `.detach()`"]
pub struct Deferred<T: 'static> {
    /// `None` once the content has been moved out.
    state: Option<State<T>>,
    created_at: &'static Location<'static>,
}

pub(crate) enum State<T> {
    Ready(Outcome<T>),
    Pending(Rc<dyn Node<T>>),
}

impl<T: 'static> Deferred<T> {
    /// A Deferred that has fired with `value`. No allocation.
    #[track_caller]
    pub fn succeed(value: T) -> Self {
        Self::ready(Ok(value), Location::caller())
    }

    /// A Deferred that has failed.
    #[track_caller]
    pub fn fail(failure: impl Into<Failure>) -> Self {
        Self::ready(Err(failure.into()), Location::caller())
    }

    /// Cancels what this waits for: the innermost Deferred that has not fired calls its canceller,
    /// or fails with [`CancelledError`]. On a fired Deferred it does nothing.
    ///
    /// It is a request. What comes up the chain is what the callbacks make of it: a coroutine may
    /// catch the error and go on.
    #[track_caller]
    pub fn cancel(&self) {
        if let Some(State::Pending(source)) = &self.state {
            cancel_from(source.clone(), &cancelled_at(Location::caller()));
        }
    }

    /// A handle that cancels what this Deferred waits for, for when the Deferred itself has been
    /// given away.
    ///
    /// It covers the chain up to here, Deferreds returned before this place included, and nothing
    /// that is added later. Take it last.
    pub fn canceller(&self) -> CancelHandle {
        match &self.state {
            Some(State::Pending(source)) => {
                CancelHandle(Some(Rc::downgrade(source) as Weak<dyn CancelNode>))
            }
            _ => CancelHandle(None),
        }
    }

    /// Lets it run by itself: what dropping it does, said aloud. A failure is reported.
    pub fn detach(self) {
        drop(self);
    }

    /// A Deferred whose outcome is here.
    pub(crate) fn ready(outcome: Outcome<T>, created_at: &'static Location<'static>) -> Self {
        Self { state: Some(State::Ready(outcome)), created_at }
    }

    /// A Deferred that waits for `source`.
    pub(crate) fn pending(source: Rc<dyn Node<T>>) -> Self {
        Self { created_at: source.slot().created_at(), state: Some(State::Pending(source)) }
    }

    /// A Deferred that waits for `source`, made at another place than that.
    pub(crate) fn pending_at(
        source: Rc<dyn Node<T>>,
        created_at: &'static Location<'static>,
    ) -> Self {
        Self { state: Some(State::Pending(source)), created_at }
    }

    /// The outcome if there is one by now, else the source.
    #[expect(
        clippy::inline_always,
        reason = "called as a function it stores and reloads the whole Deferred: half the cost of \
            a pending callback, measured"
    )]
    #[inline(always)]
    pub(crate) fn settle(mut self) -> State<T> {
        let state = self.state.take();
        // nothing is left that its drop could end
        std::mem::forget(self);
        match state {
            Some(State::Pending(source)) => match source.slot().take() {
                Some(outcome) => State::Ready(outcome),
                None => State::Pending(source),
            },
            Some(ready) => ready,
            // the content is only ever moved out of a Deferred that is consumed
            None => unreachable!("a Deferred is used once"),
        }
    }

    /// The source it waits for, unless its outcome is here.
    pub(crate) fn source(&self) -> Option<Rc<dyn Node<T>>> {
        match &self.state {
            Some(State::Pending(source)) => Some(source.clone()),
            _ => None,
        }
    }
}

impl<T: 'static> Drop for Deferred<T> {
    fn drop(&mut self) {
        match self.state.take() {
            Some(State::Ready(outcome)) => discard_outcome(outcome, self.created_at),
            Some(State::Pending(source)) => source.slot().detach(),
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
            Some(State::Pending(source)) => {
                write!(f, "<Deferred at {:p}", Rc::as_ptr(source).cast::<()>())?;
                if let Some(other) = source.following() {
                    write!(f, " waiting on Deferred at {other:p}")?;
                }
                source
                    .slot()
                    .show(|outcome| outcome.map_or(Ok(()), |outcome| result(f, outcome)))?;
            }
            Some(State::Ready(outcome)) => {
                write!(f, "<Deferred at {self:p}")?;
                result(f, outcome)?;
            }
            None => f.write_str("<Deferred")?,
        }
        f.write_str(">")
    }
}

/// Cancels a chain from elsewhere: what [`Deferred::canceller`] gives. It keeps nothing alive.
#[derive(Clone, Default)]
pub struct CancelHandle(Option<Weak<dyn CancelNode>>);

impl CancelHandle {
    /// Cancels as [`Deferred::cancel`] would have done at the place where the handle was taken.
    /// After the chain has fired it does nothing.
    #[track_caller]
    pub fn cancel(&self) {
        self.cancel_for(&cancelled_at(Location::caller()));
    }

    /// Whether there is nothing left to cancel.
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

/// What a callback may return: `Result<T, Failure>`, `Deferred<T>`, `()`, and `!` (a closure that
/// only panics).
///
/// It is not implemented for `Result` with other errors, because `|v| Ok(v + 1)` would then have no
/// type; use [`and_then`](Deferred::and_then), or `?`, which makes a [`Failure`] of any error.
#[diagnostic::on_unimplemented(
    message = "a callback cannot return `{Self}`",
    label = "the function given here returns `{Self}`",
    note = "for a plain value use `.map(..)` or return `Ok(..)`, and on a `Handle` use \
        `.with(..)`; for a `Result` with another error use `.and_then(..)`"
)]
pub trait IntoDeferred {
    /// The value that comes when it has fired.
    type Value: 'static;

    /// The Deferred.
    fn into_deferred(self) -> Deferred<Self::Value>;
}

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

/// The type `!`, which cannot be written on stable.
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

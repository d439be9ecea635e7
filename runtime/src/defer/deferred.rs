//! Deferred: an eventual result, and the functions that are put behind it.
use super::{
    chain::{Outcome, Source, ends_here},
    then::{Callback, OnBoth, OnEither, OnFailure, OnValue, Seen, Then, call, for_value},
    upstream::{Up, Upstream, cancel_from, cancelled_at},
};
use crate::{
    error::CancelledError,
    failure::{Failure, Frame},
};
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
    made: &'static Location<'static>,
}

pub(crate) enum State<T> {
    Ready(Outcome<T>),
    Pending(Rc<dyn Source<T>>),
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

    /// Puts `f` behind the value; a failure passes it.
    ///
    /// `f` returns `Result<U, Failure>`, a `Deferred<U>` (whose result takes the place of this
    /// one), or `()`. For a plain value use [`map`](Self::map), for another error type
    /// [`and_then`](Self::and_then). A panic in it becomes a [`Panicked`](crate::error::Panicked)
    /// failure.
    #[doc(alias = "addCallback")]
    #[track_caller]
    pub fn add_callback<R: IntoDeferred>(
        self,
        f: impl FnOnce(T) -> R + 'static,
    ) -> Deferred<R::Value> {
        self.link(OnValue(f), Location::caller())
    }

    /// Puts `f` behind the failure; a value passes it.
    ///
    /// `f` returns the same as for [`add_callback`](Self::add_callback), with this Deferred's own
    /// type of value.
    #[doc(alias = "addErrback")]
    #[track_caller]
    pub fn add_errback<R: IntoDeferred<Value = T>>(
        self,
        f: impl FnOnce(Failure) -> R + 'static,
    ) -> Self {
        self.link(Seen(OnFailure(f)), Location::caller())
    }

    /// Puts `f` behind whatever comes.
    #[doc(alias = "addBoth")]
    #[track_caller]
    pub fn add_both<R: IntoDeferred>(
        self,
        f: impl FnOnce(Result<T, Failure>) -> R + 'static,
    ) -> Deferred<R::Value> {
        self.link(Seen(OnBoth(f)), Location::caller())
    }

    /// Puts `callback` behind the value and `errback` behind the failure: one of the two runs. A
    /// failure of `callback` does not reach `errback`.
    #[doc(alias = "addCallbacks")]
    #[track_caller]
    pub fn add_callbacks<R, S>(
        self,
        callback: impl FnOnce(T) -> R + 'static,
        errback: impl FnOnce(Failure) -> S + 'static,
    ) -> Deferred<R::Value>
    where
        R: IntoDeferred,
        S: IntoDeferred<Value = R::Value>,
    {
        self.link(Seen(OnEither(callback, errback)), Location::caller())
    }

    /// Puts a function behind the value that cannot fail and gives a plain value.
    ///
    /// ```
    /// # use twistor::defer::Deferred;
    /// assert_eq!(Deferred::succeed(20).map(|n| n + 1).take_result().unwrap().unwrap(), 21);
    /// ```
    #[track_caller]
    pub fn map<U: 'static>(self, f: impl FnOnce(T) -> U + 'static) -> Deferred<U> {
        self.link(Plain(f), Location::caller())
    }

    /// Puts a function behind the value that gives a `Result` with any error.
    #[track_caller]
    pub fn and_then<U: 'static, E: Into<Failure>>(
        self,
        f: impl FnOnce(T) -> Result<U, E> + 'static,
    ) -> Deferred<U> {
        self.link(Fallible(f), Location::caller())
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
                CancelHandle(Some(Rc::downgrade(source) as Weak<dyn Upstream>))
            }
            _ => CancelHandle(None),
        }
    }

    /// Lets it run by itself: what dropping it does, said aloud. A failure is reported.
    pub fn detach(self) {
        drop(self);
    }

    /// A Deferred whose outcome is here.
    pub(crate) fn ready(outcome: Outcome<T>, made: &'static Location<'static>) -> Self {
        Self { state: Some(State::Ready(outcome)), made }
    }

    /// A Deferred that waits for `source`.
    pub(crate) fn pending(source: Rc<dyn Source<T>>) -> Self {
        Self { made: source.slot().made(), state: Some(State::Pending(source)) }
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

    /// Puts a callback behind it.
    pub(crate) fn link<U: 'static>(
        self,
        f: impl Callback<T, U>,
        made: &'static Location<'static>,
    ) -> Deferred<U> {
        match self.settle() {
            State::Ready(outcome) => match call(f, outcome, made).settle() {
                // the result of a returned Deferred that has fired is handed over now
                State::Ready(outcome) => Deferred::ready(outcome, made),
                State::Pending(source) => Deferred { state: Some(State::Pending(source)), made },
            },
            State::Pending(source) => Deferred::pending(Then::attach(source, f, made)),
        }
    }

    /// The source it waits for, unless its outcome is here.
    pub(crate) fn source(&self) -> Option<Rc<dyn Source<T>>> {
        match &self.state {
            Some(State::Pending(source)) => Some(source.clone()),
            _ => None,
        }
    }
}

impl<T: 'static> Drop for Deferred<T> {
    fn drop(&mut self) {
        match self.state.take() {
            Some(State::Ready(outcome)) => ends_here(outcome, self.made),
            Some(State::Pending(source)) => source.slot().let_go(),
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
pub struct CancelHandle(Option<Weak<dyn Upstream>>);

impl CancelHandle {
    /// Cancels as [`Deferred::cancel`] would have done at the place where the handle was taken.
    /// After the chain has fired it does nothing.
    #[track_caller]
    pub fn cancel(&self) {
        self.cancel_for(&cancelled_at(Location::caller()));
    }

    /// Whether there is nothing left to cancel.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.as_ref().and_then(Weak::upgrade).is_none_or(|at| matches!(at.upstream(), Up::Over))
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

/// [`Deferred::map`]'s callback.
struct Plain<F>(F);
/// [`Deferred::and_then`]'s callback.
struct Fallible<F>(F);

impl<T, U: 'static, F: FnOnce(T) -> U + 'static> Callback<T, U> for Plain<F> {
    fn call(self, outcome: Outcome<T>, made: &'static Location<'static>) -> Deferred<U> {
        for_value(self.0, outcome, made, |f, value| Deferred::ready(Ok(f(value)), made))
    }

    fn frame(made: &'static Location<'static>) -> Frame {
        Frame::of_closure::<F>(made)
    }
}

impl<T, U: 'static, E: Into<Failure>, F: FnOnce(T) -> Result<U, E> + 'static> Callback<T, U>
    for Fallible<F>
{
    fn call(self, outcome: Outcome<T>, made: &'static Location<'static>) -> Deferred<U> {
        for_value(self.0, outcome, made, |f, value| {
            Deferred::ready(f(value).map_err(Into::into), made)
        })
    }

    fn frame(made: &'static Location<'static>) -> Frame {
        Frame::of_closure::<F>(made)
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

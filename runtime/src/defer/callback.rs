//! Callbacks: the functions that are put behind a Deferred.
use super::{
    chain::Outcome,
    deferred::{Deferred, IntoDeferred, State},
    then::{Callback, OnBoth, OnEither, OnFailure, OnValue, Seen, Then, call, for_value},
};
use crate::failure::{Failure, Frame};
use std::panic::Location;

impl<T: 'static> Deferred<T> {
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

    /// Puts a callback behind it.
    pub(crate) fn link<U: 'static>(
        self,
        f: impl Callback<T, U>,
        created_at: &'static Location<'static>,
    ) -> Deferred<U> {
        match self.settle() {
            State::Ready(outcome) => match call(f, outcome, created_at).settle() {
                // the result of a returned Deferred that has fired is handed over now
                State::Ready(outcome) => Deferred::ready(outcome, created_at),
                State::Pending(source) => Deferred::pending_at(source, created_at),
            },
            State::Pending(source) => Deferred::pending(Then::attach(source, f, created_at)),
        }
    }
}

/// [`Deferred::map`]'s callback.
struct Plain<F>(F);
/// [`Deferred::and_then`]'s callback.
struct Fallible<F>(F);

impl<T, U: 'static, F: FnOnce(T) -> U + 'static> Callback<T, U> for Plain<F> {
    fn call(self, outcome: Outcome<T>, created_at: &'static Location<'static>) -> Deferred<U> {
        for_value(self.0, outcome, created_at, |f, value| Deferred::ready(Ok(f(value)), created_at))
    }

    fn frame(created_at: &'static Location<'static>) -> Frame {
        Frame::of_closure::<F>(created_at)
    }
}

impl<T, U: 'static, E: Into<Failure>, F: FnOnce(T) -> Result<U, E> + 'static> Callback<T, U>
    for Fallible<F>
{
    fn call(self, outcome: Outcome<T>, created_at: &'static Location<'static>) -> Deferred<U> {
        for_value(self.0, outcome, created_at, |f, value| {
            Deferred::ready(f(value).map_err(Into::into), created_at)
        })
    }

    fn frame(created_at: &'static Location<'static>) -> Frame {
        Frame::of_closure::<F>(created_at)
    }
}

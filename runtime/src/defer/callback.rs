//! Callbacks: the functions that are added to a Deferred.
use super::{
    chain::Outcome,
    deferred::{Deferred, DeferredState, IntoDeferred},
    then::{Callback, OnBoth, OnEither, OnFailure, OnValue, Seen, Then, call, for_value},
};
use crate::failure::{Failure, Frame};
use std::panic::Location;

impl<T: 'static> Deferred<T> {
    /// Adds a callback for the value; a failure skips it.
    ///
    /// `f` returns `Result<U, Failure>`, a `Deferred<U>` (whose result becomes the result here), or
    /// `()`. For a plain value use [`map`](Self::map), for another error type
    /// [`and_then`](Self::and_then). A panic in `f` becomes a [`Panicked`](crate::error::Panicked)
    /// failure.
    #[doc(alias = "addCallback")]
    #[track_caller]
    pub fn add_callback<R: IntoDeferred>(
        self,
        f: impl FnOnce(T) -> R + 'static,
    ) -> Deferred<R::Value> {
        self.link(OnValue(f), Location::caller())
    }

    /// Adds an errback for the failure; a value skips it.
    ///
    /// `f` returns the same types as for [`add_callback`](Self::add_callback), with this Deferred's
    /// own value type.
    #[doc(alias = "addErrback")]
    #[track_caller]
    pub fn add_errback<R: IntoDeferred<Value = T>>(
        self,
        f: impl FnOnce(Failure) -> R + 'static,
    ) -> Self {
        self.link(Seen(OnFailure(f)), Location::caller())
    }

    /// Adds one function for both the value and the failure.
    #[doc(alias = "addBoth")]
    #[track_caller]
    pub fn add_both<R: IntoDeferred>(
        self,
        f: impl FnOnce(Result<T, Failure>) -> R + 'static,
    ) -> Deferred<R::Value> {
        self.link(Seen(OnBoth(f)), Location::caller())
    }

    /// Adds `callback` for the value and `errback` for the failure, one of which runs. A failure of
    /// `callback` does not reach `errback`.
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

    /// Adds a function for the value that cannot fail and returns a plain value.
    ///
    /// ```
    /// # use twistor::defer::Deferred;
    /// assert_eq!(Deferred::succeed(20).map(|n| n + 1).take_result().unwrap().unwrap(), 21);
    /// ```
    #[track_caller]
    pub fn map<U: 'static>(self, f: impl FnOnce(T) -> U + 'static) -> Deferred<U> {
        self.link(Plain(f), Location::caller())
    }

    /// Adds a function for the value that returns a `Result` with any error.
    #[track_caller]
    pub fn and_then<U: 'static, E: Into<Failure>>(
        self,
        f: impl FnOnce(T) -> Result<U, E> + 'static,
    ) -> Deferred<U> {
        self.link(Fallible(f), Location::caller())
    }

    /// Adds a callback of any kind.
    pub(crate) fn link<U: 'static>(
        self,
        f: impl Callback<T, U>,
        created_at: &'static Location<'static>,
    ) -> Deferred<U> {
        match self.settle() {
            DeferredState::Ready(outcome) => match call(f, outcome, created_at).settle() {
                // the result of a returned Deferred that has fired is passed on at once
                DeferredState::Ready(outcome) => Deferred::ready(outcome, created_at),
                DeferredState::Pending(source) => Deferred::pending_at(source, created_at),
            },
            DeferredState::Pending(source) => {
                Deferred::pending(Then::attach(source, f, created_at))
            }
        }
    }
}

/// The callback of [`Deferred::map`].
struct Plain<F>(F);
/// The callback of [`Deferred::and_then`].
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

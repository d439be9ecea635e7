//! Calls a function and returns its result as a Deferred.
use super::deferred::{Deferred, IntoDeferred};
use crate::{
    failure::{Failure, Frame},
    report::{guarded, report},
};
use std::panic::Location;

/// Calls `f` and returns a Deferred of its result: a value, a failure, a panic, or the Deferred
/// that it returns.
///
/// ```
/// use twistor::{defer::{Deferred, maybe_deferred}, failure::Failure};
///
/// assert_eq!(maybe_deferred(|| Ok(1)).take_result().unwrap().unwrap(), 1);
/// assert_eq!(maybe_deferred(|| Deferred::succeed(2)).take_result().unwrap().unwrap(), 2);
/// maybe_deferred(|| -> Result<u32, Failure> { panic!("three") })
///     .add_errback(|failure| {
///         assert_eq!(failure.to_string(), "panicked: three");
///         Ok(3)
///     })
///     .detach();
/// ```
#[doc(alias = "maybeDeferred")]
#[track_caller]
pub fn maybe_deferred<R: IntoDeferred>(f: impl FnOnce() -> R) -> Deferred<R::Value> {
    let place = Location::caller();
    // user code
    match guarded(|| Frame::new("maybe_deferred", place), f) {
        Ok(given) => given.into_deferred(),
        Err(failure) => Deferred::ready(Err(failure), place),
    }
}

/// Calls `f` and returns a Deferred that has fired with its result. A Deferred inside the result is
/// not awaited.
///
/// ```
/// use twistor::defer::execute;
/// assert_eq!(execute(|| "42".parse::<u32>()).take_result().unwrap().unwrap(), 42);
/// ```
#[track_caller]
pub fn execute<T: 'static, E: Into<Failure>>(f: impl FnOnce() -> Result<T, E>) -> Deferred<T> {
    let place = Location::caller();
    // user code
    let result =
        guarded(|| Frame::new("execute", place), f).and_then(|result| result.map_err(Into::into));
    Deferred::ready(result, place)
}

/// Reports `failure` and returns it, as an errback that logs failures and passes them on.
///
/// ```
/// use twistor::{defer::{Deferred, log_error}, failure::Failure};
/// # let _sink = twistor::report::push_sink(|_| ());
/// let failed = Deferred::<u32>::fail(Failure::message("seen"));
/// let deferred = failed.add_errback(|failure| Err(log_error(failure)));
/// # deferred.add_errback(|_| Ok(0)).detach();
/// ```
#[doc(alias = "logError")]
#[track_caller]
pub fn log_error(failure: Failure) -> Failure {
    report(failure.clone(), format!("log_error at {}", Location::caller()));
    failure
}

impl<T: 'static> Deferred<T> {
    /// Calls `f` with the result and passes the result on. A panic in `f` fails the chain.
    ///
    /// ```
    /// # use twistor::defer::Deferred;
    /// let five = Deferred::succeed(5).tap(|result| println!("{result:?}"));
    /// assert_eq!(five.take_result().unwrap().unwrap(), 5);
    /// ```
    #[track_caller]
    pub fn tap(self, f: impl FnOnce(Result<&T, &Failure>) + 'static) -> Self {
        self.add_both(move |result| {
            f(result.as_ref());
            result
        })
    }

    /// Returns the result if the Deferred has fired, and otherwise the Deferred.
    ///
    /// # Errors
    /// Returns the Deferred itself while it is pending.
    pub fn take_result(self) -> Result<Result<T, Failure>, Self> {
        match self.settle() {
            super::deferred::DeferredState::Ready(outcome) => Ok(outcome),
            super::deferred::DeferredState::Pending(source) => Err(Self::pending(source)),
        }
    }
}

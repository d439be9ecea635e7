//! Conversions between futures and Deferreds.
use super::{driver::start, wait::Wait};
use crate::{defer::Deferred, failure::Failure};
use std::{
    future::{Future, IntoFuture},
    panic::Location,
};

impl<T: 'static> Deferred<T> {
    /// Starts a future at once and returns a Deferred of its output.
    ///
    /// ```
    /// use twistor::defer::Deferred;
    /// assert_eq!(Deferred::from_future(async { 7 }).take_result().unwrap().unwrap(), 7);
    /// ```
    ///
    /// # Errors
    /// Fails if the future panics, and with [`NoReactorError`](crate::error::NoReactorError) if
    /// nothing can wake it.
    ///
    /// # Cancellation
    /// Cancels the Deferreds that the future awaits. If it awaits something else, the future is
    /// dropped and the Deferred fails with [`CancelledError`](crate::error::CancelledError). In a
    /// coroutine, `yield_!(Deferred::from_future(f))` therefore turns a cancellation into an `Err`.
    #[doc(alias = "fromFuture")]
    #[track_caller]
    pub fn from_future(future: impl Future<Output = T> + 'static) -> Self {
        start("Deferred::from_future", async move { Ok(future.await) }, Location::caller())
    }

    /// Converts the Deferred into a future, for `join!` and similar macros and for other executors.
    #[doc(alias = "asFuture")]
    #[track_caller]
    pub fn as_future(self) -> Wait<T> {
        self.into_future()
    }
}

/// Starts a future of a `Result` at once and returns a Deferred of that result, as
/// `#[inline_callbacks]` does with an `async fn`.
///
/// ```
/// use twistor::defer::ensure_deferred;
/// assert_eq!(ensure_deferred(async { "42".parse::<u32>() }).take_result().unwrap().unwrap(), 42);
/// ```
#[doc(alias = "ensureDeferred")]
#[doc(alias = "fromCoroutine")]
#[track_caller]
pub fn ensure_deferred<T: 'static, E: Into<Failure>>(
    future: impl Future<Output = Result<T, E>> + 'static,
) -> Deferred<T> {
    start("ensure_deferred", async move { future.await.map_err(Into::into) }, Location::caller())
}

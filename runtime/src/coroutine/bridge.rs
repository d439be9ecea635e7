//! From futures to Deferreds and back.
use super::{driver::start, wait::Wait};
use crate::{defer::Deferred, failure::Failure};
use std::{
    future::{Future, IntoFuture},
    panic::Location,
};

impl<T: 'static> Deferred<T> {
    /// Runs a future and gives its output as a Deferred. It starts at once.
    ///
    /// ```
    /// use twistor::defer::Deferred;
    /// assert_eq!(Deferred::from_future(async { 7 }).take_result().unwrap().unwrap(), 7);
    /// ```
    ///
    /// # Errors
    /// A panic of the future, and [`NoReactorError`](crate::error::NoReactorError) if nothing can
    /// wake it.
    ///
    /// # Cancellation
    /// Cancels the Deferreds that it waits for. Where it waits for something else it is dropped,
    /// and the Deferred fails with [`CancelledError`](crate::error::CancelledError): so in a
    /// coroutine `yield_!(Deferred::from_future(f))` turns a cancel into an `Err`.
    #[doc(alias = "fromFuture")]
    #[track_caller]
    pub fn from_future(future: impl Future<Output = T> + 'static) -> Self {
        start("Deferred::from_future", async move { Ok(future.await) }, Location::caller())
    }

    /// The Deferred as a future, for `join!` and its like, and for other executors.
    #[doc(alias = "asFuture")]
    #[track_caller]
    pub fn as_future(self) -> Wait<T> {
        self.into_future()
    }
}

/// Runs a future of a `Result` and gives what is in it as a Deferred, as an `async fn` under
/// [`#[inline_callbacks]`](macro@crate::inline_callbacks) does.
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

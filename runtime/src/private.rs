//! What generated code may call. Not for other use: it changes without notice.
use crate::{
    defer::{Deferred, Outcome},
    failure::Failure,
    inline::start,
};
use std::{future::Future, panic::Location};

/// The return type of a plain `fn` under `#[inline_callbacks]`.
#[diagnostic::on_unimplemented(
    message = "a coroutine returns a `Deferred`, and not `{Self}`",
    label = "write `Deferred<{Self}>` here, or make it an `async fn` that returns a `Result`"
)]
pub trait IsDeferred {
    /// The value it brings.
    type Value: 'static;

    /// The Deferred as that type.
    fn from_deferred(deferred: Deferred<Self::Value>) -> Self;
}

impl<T: 'static> IsDeferred for Deferred<T> {
    type Value = T;

    fn from_deferred(deferred: Self) -> Self {
        deferred
    }
}

/// The return type of an `async fn` under `#[inline_callbacks]`.
#[diagnostic::on_unimplemented(
    message = "an `async fn` under `#[inline_callbacks]` returns a `Result`, and not `{Self}`",
    label = "write `Result<{Self}, Failure>` here"
)]
pub trait IsResult {
    /// The value.
    type Value: 'static;
    /// The error.
    type Error: Into<Failure>;

    /// As the Deferred's own kind of result.
    fn into_outcome(self) -> Outcome<Self::Value>;
}

impl<T: 'static, E: Into<Failure>> IsResult for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_outcome(self) -> Outcome<T> {
        self.map_err(Into::into)
    }
}

/// Starts the coroutine of a plain `fn`.
#[track_caller]
pub fn run<R: IsDeferred, F: Future<Output = Outcome<R::Value>> + 'static>(function: &'static str, frame: F) -> R {
    R::from_deferred(start(function, frame, Location::caller()))
}

/// Starts the coroutine of an `async fn`.
#[track_caller]
pub fn run_async<R: IsResult + 'static, F: Future<Output = R> + 'static>(function: &'static str, frame: F) -> Deferred<R::Value> {
    start(function, async move { frame.await.into_outcome() }, Location::caller())
}

/// The type of a coroutine's body, for a `return` that is never reached: rustc then blames the expression that does not fit it.
pub fn never<R: IsDeferred>() -> Outcome<R::Value> {
    unreachable!("a coroutine's typed return is dead code")
}

/// The same for an `async fn`.
pub fn never_result<R: IsResult>() -> R {
    unreachable!("a coroutine's typed return is dead code")
}

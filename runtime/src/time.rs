//! The interface of clocks: the current time, and calls at a later time.
pub use crate::timers::DelayedCall;
use std::time::Duration;

/// A clock that can run a function later: the reactor and [`Clock`](crate::task::Clock).
#[doc(alias = "IReactorTime")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `ReactorTime`",
    label = "expected a reactor or a `task::Clock`",
    note = "pass `&reactor`, or `&clock` in a test"
)]
pub trait ReactorTime {
    /// Returns the current time, counted from an arbitrary start; it never runs backwards.
    fn seconds(&self) -> Duration;

    /// Runs `call` once, `delay` from now, in a later turn.
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall;
}

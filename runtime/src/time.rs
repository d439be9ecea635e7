//! Time as a reactor and a test clock both offer it: now, and calls at a later time.
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
    /// The time now, counted from a start of the clock's own; it never runs backwards.
    fn seconds(&self) -> Duration;

    /// Runs `call` once, `delay` from now, in a later turn.
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall;
}

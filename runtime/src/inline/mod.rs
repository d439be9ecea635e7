//! Coroutines: functions that wait for Deferreds step by step.
//!
//! `#[inline_callbacks]` lowers a function to rustc's own coroutine (`async move`) and hands it to
//! the driver here. There is no executor: the driver is the Deferred machinery. A coroutine starts
//! at once and runs to the first Deferred that has not fired; that one's slot then holds it, and
//! the fire resumes it.
mod bridge;
mod cell;
mod driver;
mod foreign;
mod wait;

pub use bridge::ensure_deferred;
pub(crate) use driver::start;
pub(crate) use foreign::door_opened;
pub use wait::Wait;

//! Coroutines: functions that wait for Deferreds step by step.
//!
//! `#[inline_callbacks]` lowers a function to rustc's own coroutine (`async move`) and hands it to
//! the driver here. There is no executor: the driver is the Deferred machinery. A coroutine starts
//! at once and runs to the first Deferred that has not fired; that one's slot then holds it, and
//! the fire resumes it.
pub(crate) mod bridge;
mod cell;
mod driver;
mod wait;
mod waker;

pub(crate) use driver::start;
pub use wait::Wait;
pub(crate) use waker::redeliver_missed_wakes;

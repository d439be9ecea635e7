//! Coroutines: functions that await Deferreds step by step.
//!
//! `#[inline_callbacks]` lowers a function to rustc's own coroutine (`async move`) and hands it to
//! the driver here. There is no executor: the driver is part of the Deferred machinery. A coroutine
//! starts at once and runs up to the first Deferred that has not fired. The slot of that Deferred
//! then holds the coroutine, and firing it resumes the coroutine.
pub(crate) mod bridge;
mod cell;
mod driver;
mod wait;
mod waker;

pub(crate) use driver::start;
pub use wait::Wait;
pub(crate) use waker::redeliver_missed_wakes;

//! twistor: Twisted's asynchronous core for Rust.
pub mod address;
pub mod defer;
pub mod error;
pub mod failure;
pub mod prelude;
pub mod report;
pub mod task;
pub mod time;
mod timers;
mod wake;

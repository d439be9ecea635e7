//! Tasks over time: the test clock, and how a program starts.
mod clock;

pub use clock::Clock;

//! Tasks over time: the test clock, and how a program starts.
mod clock;
mod react;

pub use clock::Clock;
pub use react::{Args, react, react_on};

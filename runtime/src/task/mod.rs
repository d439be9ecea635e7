//! Tasks over time: delayed, repeated and cooperative calls, the test clock, and the start of a
//! program.
mod clock;
mod cooperate;
mod later;
mod looping;
mod react;

pub use clock::Clock;
pub use cooperate::{CooperativeTask, Cooperator};
pub use later::defer_later;
pub use looping::LoopingCall;
pub use react::{Args, react, react_on};

//! Tasks over time: later, again and again, a little at a time; the test clock; how a program
//! starts.
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

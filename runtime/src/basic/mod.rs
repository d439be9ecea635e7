//! Framings for common kinds of protocols.
mod lines;

pub use lines::{Line, Lines};

//! Framings that many protocols share.
mod lines;

pub use lines::{Line, Lines};

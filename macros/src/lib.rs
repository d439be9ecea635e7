//! The macros of twistor; use them through the `twistor` crate.

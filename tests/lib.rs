//! The chapters of the guide as documentation tests: each Rust block of each chapter is compiled
//! and run.
//!
//! The build script expands the includes of the chapters (rustdoc would take an include line for
//! code) and writes one module a chapter.
include!(concat!(env!("OUT_DIR"), "/guide.rs"));

#[doc = include_str!("../README.md")]
pub mod readme {}

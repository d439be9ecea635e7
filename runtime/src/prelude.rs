//! What a program imports with one line: `use twistor::prelude::*;`.
pub use crate::{
    address::Address,
    defer::{Deferred, Resolver, gather_results},
    failure::Failure,
    inline_callbacks, return_value, yield_,
};

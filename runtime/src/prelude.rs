//! What a program imports with one line: `use twistor::prelude::*;`.
pub use crate::{
    Factory,
    address::Address,
    defer::{Deferred, Resolver, gather_results},
    failure::Failure,
    inline_callbacks, protocol,
    protocol::{Handle, Protocol, Transport},
    reactor::Reactor,
    return_value, yield_,
};

//! The names that most programs need: `use twistor::prelude::*;`.
pub use crate::{
    Factory,
    address::Address,
    defer::{Deferred, Resolver, gather_results},
    endpoints::{
        ClientEndpoint, ServerEndpoint, client_from_string, connect_protocol, server_from_string,
    },
    failure::Failure,
    inline_callbacks,
    protocol::{Handle, Protocol, Transport},
    reactor::Reactor,
    return_value,
    task::Args,
    yield_,
};
// the macro alone: with the module of the same name, another glob import would be ambiguous
pub use twistor_macros::protocol;

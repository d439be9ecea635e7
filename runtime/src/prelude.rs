//! The names that most programs need: `use twistor::prelude::*;`.
pub use crate::{
    Factory,
    address::Address,
    defer::{Deferred, Resolver, gather_results},
    endpoints::{
        ClientEndpoint, ServerEndpoint, client_from_string, connect_protocol, server_from_string,
    },
    failure::Failure,
    inline_callbacks, protocol,
    protocol::{Handle, Protocol, Transport},
    reactor::Reactor,
    return_value,
    task::Args,
    yield_,
};

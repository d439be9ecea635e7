//! Endpoints: where to listen and where to connect, as values, and as strings.
//!
//! ```
//! use twistor::{endpoints::server_from_string, reactor::Reactor};
//!
//! let reactor = Reactor::new()?;
//! let endpoint = server_from_string(&reactor, "tcp:8007:interface=127.0.0.1")?;
//! assert_eq!(format!("{endpoint:?}"), "<Tcp4ServerEndpoint 127.0.0.1:8007>");
//!
//! let error = server_from_string(&reactor, "tcp:80a").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "malformed endpoint description, at position 4: \
//!      expected a port number, 0 to 65535, and found `80a`\n    tcp:80a\n        ^"
//! );
//! # Ok::<(), twistor::failure::Failure>(())
//! ```
mod endpoint;
mod parse;
mod tcp;

pub use endpoint::{ClientEndpoint, ServerEndpoint, connect_protocol};
pub use parse::{
    InvalidEndpointError, client_from_string, quote_string_argument, server_from_string,
};
pub use tcp::{Tcp4ClientEndpoint, Tcp4ServerEndpoint};

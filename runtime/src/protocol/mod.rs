//! Protocols and transports: what you write, and what you write to.
//!
//! | you write | you are given |
//! |---|---|
//! | [`Protocol`]: what happens when a connection is made, when a message arrives, when the connection is lost | [`Transport`]: write, close, whom you talk to |
//! | [`Factory`]: how a protocol is made for each connection | [`Handle`]: a live protocol, reachable from anywhere in the thread |
//! | [`Framing`]: where a message ends (or one of [`basic`](crate::basic)) | the buffers, limits and delivery of it |
//!
//! [`#[protocol]`](macro@crate::protocol) and [`#[derive(Factory)]`](macro@crate::Factory)
//! implement the traits. Written by hand, an implementation looks like this:
//!
//! ```
//! use twistor::protocol::{Handle, Message, Protocol, Raw};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     type Framing = Raw;
//!
//!     fn message_received(&mut self, this: &Handle<Self>, data: &[u8]) {
//!         this.write(data);
//!     }
//! }
//! ```
mod connection;
mod delivery;
mod factory;
mod fresh;
mod handle;
mod handler_result;
#[expect(clippy::module_inception, reason = "the trait's own file, named after it")]
mod protocol;

pub use crate::stream::{
    Consumer, Encoder, Framing, Input, Producer, ProducerKind, Raw, Transport, WriteMarks, pipe,
};
pub use factory::{Factory, IntoFactory};
pub use fresh::{BuildFrom, Fresh};
pub use handle::{Handle, NotNow};
pub use handler_result::Handled;
pub use protocol::{Message, Protocol};

pub(crate) use connection::{ErasedConnection, OnClosed};
pub(crate) use factory::{ErasedFactory, FactoryAdapter, last_name};
pub(crate) use handler_result::{await_connection_lost, await_handler};

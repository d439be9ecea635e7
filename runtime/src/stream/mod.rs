//! One stream of bytes, whatever carries it: the transport that a protocol is given, and the state
//! behind it. It knows a [`Wire`](crate::reactor::backend::Wire) below and a [`Receiver`] above,
//! never the type of a protocol.
mod buffer;
mod close;
mod descriptors;
mod flow;
mod framing;
mod framing_state;
mod producer;
mod read;
mod state;
#[expect(clippy::module_inception, reason = "the methods of a stream")]
mod stream;
mod transport;
mod write;

pub use framing::{Encoder, Framing, Input, Raw};
pub use producer::{Consumer, Producer, ProducerKind, pipe};
pub use transport::Transport;

pub(crate) use framing_state::Desk;
pub(crate) use state::{READS_PER_TURN, WireStream};
pub(crate) use transport::{Look, Receiver, Stream};

//! One stream of bytes over any wire: the transport that a protocol writes to, and the state behind
//! it. A stream knows a [`Wire`](crate::reactor::backend::Wire) below it and a [`Receiver`] above
//! it, and never the type of a protocol.
mod buffer;
mod close;
mod descriptors;
mod flow;
mod framing;
mod framing_state;
mod pipe;
mod producer;
mod read;
mod state;
mod transport;
mod write;

pub use framing::{Encoder, Framing, Input, Raw};
pub use pipe::pipe;
pub use producer::{Consumer, Producer, ProducerKind, WriteMarks};
pub use transport::Transport;

pub(crate) use framing_state::FramingState;
pub(crate) use read::Receiver;
pub(crate) use state::{NO_SLOT, Stream};

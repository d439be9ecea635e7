//! Framing: the division of a byte stream into messages.
use crate::failure::Failure;

/// Converts bytes to messages, and messages to bytes, on behalf of a protocol's handlers.
///
/// Each connection has its own value. [`decode`](Self::decode) is called repeatedly for the next
/// message of the input, and must return the same messages for every division of the input into
/// reads. [`encoder`](Self::encoder) provides the opposite direction, for the transport.
///
/// ```
/// use twistor::failure::Failure;
/// use twistor::protocol::{Framing, Input};
///
/// /// Messages of exactly four bytes.
/// #[derive(Default)]
/// struct Quads;
///
/// impl Framing for Quads {
///     type Message<'a> = &'a [u8];
///
///     fn decode<'a>(&mut self, input: Input<'a>) -> Result<Option<(&'a [u8], usize)>, Failure> {
///         Ok(input.data.get(..4).map(|quad| (quad, 4)))
///     }
/// }
/// ```
pub trait Framing: Default + 'static {
    /// The type of a message, which borrows from the input.
    type Message<'a>;

    /// The name of the framing in error messages.
    const NAME: &'static str = "a framing of your own";

    /// Whether unused input is kept until more arrives. `false` for [`Raw`], which uses all of it.
    const BUFFERS: bool = true;

    /// Decodes the next message. Returns it with the number of bytes that it takes, or `None` if
    /// more input is needed.
    ///
    /// # Errors
    /// An error means that the input is invalid; it closes the connection with that failure.
    fn decode<'a>(
        &mut self,
        input: Input<'a>,
    ) -> Result<Option<(Self::Message<'a>, usize)>, Failure>;

    /// Creates the encoder for outgoing messages; `None` sends them unchanged.
    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}

/// The argument of [`Framing::decode`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Input<'a> {
    /// The bytes that have arrived and are not parsed yet; never empty.
    pub data: &'a [u8],
    /// Whether a handler has set raw mode.
    pub raw: bool,
    /// The number of bytes at the start of `data` that the last call saw when it returned `None`. A
    /// search can continue there instead of starting again; the framing's cost for a long message
    /// that arrives in many pieces is then linear.
    pub seen: usize,
}

impl<'a> Input<'a> {
    /// Creates an input, for tests of a framing.
    pub fn new(data: &'a [u8], raw: bool) -> Self {
        Self { data, raw, seen: 0 }
    }
}

/// Converts messages to bytes.
pub trait Encoder: 'static {
    /// Appends `message`, framed, to `out`.
    ///
    /// # Errors
    /// Fails if the message cannot be framed, for example because it is too long.
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Failure>;

    /// Returns the name of the framing, as in [`Framing::NAME`].
    fn name(&self) -> &'static str;

    /// Returns the bytes to append to each message, if [`encode`](Self::encode) adds nothing else,
    /// as with the delimiter of a line. Messages are then sent without an intermediate buffer.
    fn trailer(&self) -> Option<&[u8]> {
        None
    }
}

/// The absence of a framing: a handler receives input as it arrives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Framing for Raw {
    type Message<'a> = &'a [u8];
    const NAME: &'static str = "Raw";
    const BUFFERS: bool = false;

    fn decode<'a>(&mut self, input: Input<'a>) -> Result<Option<(&'a [u8], usize)>, Failure> {
        Ok(Some((input.data, input.data.len())))
    }
}

//! Framing: where a message ends.
use crate::failure::Failure;

/// Bytes to messages, and messages to bytes: the part of a protocol that its handlers do not see.
///
/// One value of it lives beside each connection. [`decode`](Self::decode) is asked again and again
/// for the next message in what has arrived; any chunking of the input gives the same messages.
/// [`encoder`](Self::encoder) gives the other direction to the transport.
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
    /// What a handler is given; it borrows from the input.
    type Message<'a>;

    /// What error messages call it.
    const NAME: &'static str = "a framing of your own";

    /// Whether what is left over has to be kept until more arrives. `false` for [`Raw`], which
    /// takes all there is.
    const BUFFERS: bool = true;

    /// The next message and how many bytes of the input it takes, or `None` if more has to arrive
    /// first.
    ///
    /// # Errors
    /// Ends the connection with that failure: the input breaks the rules.
    fn decode<'a>(
        &mut self,
        input: Input<'a>,
    ) -> Result<Option<(Self::Message<'a>, usize)>, Failure>;

    /// How the transport frames what is sent; `None` sends it as it is.
    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}

/// What [`Framing::decode`] looks at.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Input<'a> {
    /// What has arrived and is not parsed yet; never empty.
    pub data: &'a [u8],
    /// Whether a handler has asked for raw mode.
    pub raw: bool,
}

impl<'a> Input<'a> {
    /// An input, for the tests of a framing.
    pub fn new(data: &'a [u8], raw: bool) -> Self {
        Self { data, raw }
    }
}

/// Messages to bytes.
pub trait Encoder: 'static {
    /// Appends `message`, framed, to `out`.
    ///
    /// # Errors
    /// The message cannot be framed: it is too long.
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Failure>;

    /// The name of the framing, as in [`Framing::NAME`].
    fn name(&self) -> &'static str;

    /// The bytes that follow each message, where they are all that [`encode`](Self::encode) adds,
    /// as the delimiter of a line is. Messages are then sent without an intermediate buffer.
    fn trailer(&self) -> Option<&[u8]> {
        None
    }
}

/// No framing: a handler gets what arrives, as it arrives.
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

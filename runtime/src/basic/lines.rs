//! The framing of lines that end with a delimiter.
use crate::{
    failure::Failure,
    protocol::{Encoder, Framing, Input},
};
use memchr::memchr;
use std::borrow::Cow;

/// Splits input into lines that end with a delimiter: `\r\n` by default, with at most 16384 bytes
/// in a line.
///
/// ```
/// use twistor::basic::{Line, Lines};
/// use twistor::protocol::{Framing, Input};
///
/// let mut lines = Lines::default().delimiter(b"\n").max_length(80);
/// let (line, used) = lines.decode(Input::new(b"hello\nwor", false)).unwrap().unwrap();
/// assert_eq!((line, used), (Line::Line(b"hello"), 6));
/// assert!(lines.decode(Input::new(b"wor", false)).unwrap().is_none());
/// ```
///
/// A line that is too long is delivered once, as [`Line::TooLong`], together with all the bytes
/// that have arrived behind it. In raw mode
/// ([`Transport::set_raw_mode`](crate::protocol::Transport::set_raw_mode)) bytes are delivered as
/// they arrive.
#[doc(alias = "LineReceiver")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    delimiter: Cow<'static, [u8]>,
    max_length: usize,
}

/// A message of the [`Lines`] framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Line<'a> {
    /// A line without its delimiter.
    Line(&'a [u8]),
    /// A line over the limit, with all the bytes that have arrived behind it.
    TooLong {
        /// The bytes from the start of the line.
        data: &'a [u8],
        /// The limit that was exceeded, in bytes.
        max_length: usize,
    },
    /// Bytes that arrived in raw mode.
    Raw(&'a [u8]),
}

impl Default for Lines {
    fn default() -> Self {
        Self { delimiter: Cow::Borrowed(b"\r\n"), max_length: 16384 }
    }
}

impl Lines {
    /// Sets the delimiter. An empty one means `\n`.
    #[must_use]
    pub fn delimiter(self, delimiter: impl AsRef<[u8]>) -> Self {
        let delimiter = match delimiter.as_ref() {
            [] => Cow::Borrowed(&b"\n"[..]),
            b"\r\n" => Cow::Borrowed(&b"\r\n"[..]),
            other => Cow::Owned(other.to_vec()),
        };
        Self { delimiter, ..self }
    }

    /// Sets the maximum length of a line, in bytes without the delimiter.
    #[must_use]
    pub fn max_length(self, max_length: usize) -> Self {
        Self { max_length, ..self }
    }

    /// Returns the position of the first delimiter, of which the first `seen` bytes hold at most
    /// the beginning.
    fn find(&self, data: &[u8], seen: usize) -> Option<usize> {
        let (first, others) = self.delimiter.split_first()?;
        let mut from = seen.saturating_sub(others.len());
        loop {
            let at = from + memchr(*first, data.get(from..)?)?;
            let behind = data.get(at + 1..)?;
            // nearly every delimiter has one or two bytes, which are compared faster than a call
            // takes
            let found = match others {
                [] => true,
                [second] => behind.first() == Some(second),
                others => behind.starts_with(others),
            };
            if found {
                return Some(at);
            }
            from = at + 1;
        }
    }
}

impl Framing for Lines {
    type Message<'a> = Line<'a>;
    const NAME: &'static str = "Lines";

    fn decode<'a>(&mut self, input: Input<'a>) -> Result<Option<(Line<'a>, usize)>, Failure> {
        let data = input.data;
        let all = data.len();
        if input.raw {
            return Ok(Some((Line::Raw(data), all)));
        }
        let (most, delimiter) = (self.max_length, self.delimiter.len());
        Ok(match self.find(data, input.seen) {
            Some(end) if end <= most => {
                data.get(..end).map(|line| (Line::Line(line), end + delimiter))
            }
            // even if the last bytes are the start of a delimiter, what comes before them is over
            // the limit
            None if all < most.saturating_add(delimiter) => None,
            _ => Some((Line::TooLong { data, max_length: most }, all)),
        })
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        Some(Box::new(LineEncoder(self.delimiter.clone())))
    }
}

struct LineEncoder(Cow<'static, [u8]>);

impl Encoder for LineEncoder {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        out.extend_from_slice(message);
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn name(&self) -> &'static str {
        Lines::NAME
    }

    fn trailer(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
}

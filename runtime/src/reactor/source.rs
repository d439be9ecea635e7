//! What the poll loop knows of the things it serves: a trait, never a socket.
use std::rc::Rc;

/// What a source has become ready for: one flag a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness(u8);

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
/// The poller says that the other side has ended, or that there is an error.
const CLOSED: u8 = 4;
/// Somebody on this side has it looked at: read on to the end, there may be input that no event
/// will tell of.
const DRAIN: u8 = 8;
/// An earlier turn has read its share and left the rest to this one.
const CONTINUED: u8 = 16;

impl Readiness {
    /// Look again: there may be more to read, or something has changed on this side.
    pub(crate) const AGAIN: Self = Self(READABLE);

    /// Read on to the end.
    pub(crate) const TO_THE_END: Self = Self(READABLE | DRAIN);

    /// There may be room again.
    pub(crate) const WRITABLE: Self = Self(WRITABLE);

    /// Reading goes on in the next turn, for what this one was for.
    pub(crate) fn continued(self) -> Self {
        Self(self.0 | READABLE | CONTINUED)
    }

    /// Whether an earlier turn has left the rest of a read to this one.
    pub(crate) fn is_continued(self) -> bool {
        self.0 & CONTINUED != 0
    }

    #[inline]
    pub(crate) fn new(readable: bool, writable: bool, closed: bool) -> Self {
        Self(
            (u8::from(readable) * READABLE)
                | (u8::from(writable) * WRITABLE)
                | (u8::from(closed) * CLOSED),
        )
    }

    #[inline]
    pub(crate) fn is_readable(self) -> bool {
        self.0 & READABLE != 0
    }

    #[inline]
    pub(crate) fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// Whether a short read does not mean that nothing is left.
    #[inline]
    pub(crate) fn is_to_the_end(self) -> bool {
        self.0 & (CLOSED | DRAIN) != 0
    }

    /// Whether there is input and no end of it.
    #[inline]
    pub(crate) fn is_plain_input(self) -> bool {
        self.0 & (READABLE | CLOSED | DRAIN | CONTINUED) == READABLE
    }
}

/// A thing in a slot of the reactor: a connection, a port, a pipe of signals.
pub(crate) trait Source {
    /// It has become ready. `buffer` is the reactor's one read buffer, lent for this call.
    fn ready(self: Rc<Self>, readiness: Readiness, buffer: &mut [u8]);

    /// Sends what it has corked, and begins a close that it was asked for.
    fn flush_output(&self) {}

    /// What it is, for a test that has left it behind; nothing for what is the reactor's own.
    fn describe(&self) -> Option<String> {
        None
    }

    /// The reactor is being closed: lets go of what it has, and calls no handler.
    fn closed(self: Rc<Self>) {}
}

//! The interface between the poll loop and what it serves, which need not be a socket.
use std::rc::Rc;

/// What a source has become ready for, one flag in each bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness(u8);

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
/// The poller reports the peer's end of file, or an error.
const CLOSED: u8 = 4;
/// This side has asked for the event: read to the end, because there may be input without an event.
const DRAIN: u8 = 8;
/// An earlier turn has used up its read budget and left the rest to this one.
const CONTINUED: u8 = 16;

impl Readiness {
    /// Check again: there may be more to read, or the state has changed on this side.
    pub(crate) const AGAIN: Self = Self(READABLE);

    /// Read on to the end.
    pub(crate) const TO_THE_END: Self = Self(READABLE | DRAIN);

    /// There may be room again.
    pub(crate) const WRITABLE: Self = Self(WRITABLE);

    /// Marks the event as the continuation of an earlier turn's read.
    pub(crate) fn continued(self) -> Self {
        Self(self.0 | READABLE | CONTINUED)
    }

    /// Returns whether an earlier turn has left the rest of a read to this one.
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

    /// Returns whether a short read does not mean that nothing is left.
    #[inline]
    pub(crate) fn is_to_the_end(self) -> bool {
        self.0 & (CLOSED | DRAIN) != 0
    }

    /// Returns whether there is input and no end of file.
    #[inline]
    pub(crate) fn is_plain_input(self) -> bool {
        self.0 & (READABLE | CLOSED | DRAIN | CONTINUED) == READABLE
    }
}

/// The content of a slot of the reactor: a connection, a port, a pipe of signals.
pub(crate) trait Source {
    /// Handles an event. `buffer` is the reactor's one read buffer, borrowed for this call.
    fn ready(self: Rc<Self>, readiness: Readiness, buffer: &mut [u8]);

    /// Sends corked output, and begins a close that was requested.
    fn flush_output(&self) {}

    /// Describes the source for a test that has left it behind; `None` for the reactor's own
    /// sources.
    fn describe(&self) -> Option<String> {
        None
    }

    /// Releases what the source holds, without calling a handler, because the reactor is being
    /// closed.
    fn closed(self: Rc<Self>) {}
}

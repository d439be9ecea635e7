//! From bytes to messages: the loop that delivers, once for every framing.
//!
//! It takes one message, lends the protocol, ends the borrow, runs the calls that were queued, then
//! looks whether it is paused, closing, lost or held. So any chunking of the input gives the same
//! events.
use super::{
    handle::Handle,
    protocol::{Message, Protocol},
};
use crate::{
    error::MessageError,
    failure::{Failure, Frame},
    reactor::source::Readiness,
    report::panicked,
    stream::{Framing, Input, Look, READS_PER_TURN, Receiver},
};
use std::{
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, Location, catch_unwind},
};

impl<P: Protocol> Receiver for Handle<P> {
    fn data(&self, data: &[u8]) {
        self.deliver(data);
    }

    fn is_half_closeable(&self) -> bool {
        P::HALF_CLOSEABLE
    }

    fn descriptor(&self, descriptor: OwnedFd) {
        // user code
        self.guarded("file_descriptor_received", || {
            P::__file_descriptor_received(self, descriptor);
        });
        self.drain();
    }

    fn read_connection_lost(&self) {
        // user code
        self.guarded("read_connection_lost", || P::__read_connection_lost(self));
        self.drain();
    }

    fn write_connection_lost(&self) {
        if P::HALF_CLOSEABLE {
            // user code
            self.guarded("write_connection_lost", || P::__write_connection_lost(self));
            self.drain();
        }
    }
}

impl<P: Protocol> Handle<P> {
    /// Gives what has arrived to the protocol: as it is without a framing, else message by message.
    #[expect(
        clippy::inline_always,
        reason = "the way of every byte: 10 of 250 instructions a message, counted"
    )]
    #[inline(always)]
    pub(super) fn deliver(&self, data: &[u8]) {
        if P::Framing::BUFFERS {
            return self.arrived(data);
        }
        match self.decode(Input::new(data, false)) {
            Ok(Some((message, _))) => {
                // user code
                self.guarded("message_received", || P::__message_received(self, message));
                self.drain();
            }
            Ok(None) => {}
            Err(failure) => self.broken(failure),
        }
    }

    /// Goes on as long as reads fill the buffer and nothing else is to be done, a bounded number of
    /// times.
    #[inline(never)]
    pub(super) fn read_on(&self, mut given: Look, readiness: Readiness, buffer: &mut [u8]) {
        let Some(stream) = self.0.transport.0.as_deref() else { return };
        for left in (0..READS_PER_TURN).rev() {
            match given {
                Look::Read(Ok(read)) if read > 0 => {
                    let Some(data) = buffer.get(..read) else { return };
                    self.deliver(data);
                    if read < buffer.len() {
                        return;
                    }
                }
                Look::Read(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Look::Read(given) => return self.pump(Some(given), readiness, buffer),
                Look::Unusual => return self.pump(None, readiness, buffer),
                Look::Over => return self.end(),
                Look::Held if !P::HALF_CLOSEABLE => return self.cancel_on_loss_now(),
                Look::Held | Look::Done => return,
            }
            if left == 0 {
                return stream.read_later();
            }
            given = stream.look(readiness, buffer, self);
        }
    }

    #[inline(never)]
    fn pump(&self, first: Option<io::Result<usize>>, readiness: Readiness, buffer: &mut [u8]) {
        let Some(stream) = &self.0.transport.0 else { return };
        if !P::HALF_CLOSEABLE && stream.hides_an_end(readiness) {
            self.cancel_on_loss_now();
            if stream.is_reading() {
                // it is looked at again, and what is left unparsed goes first
                return;
            }
        }
        if stream.pump(first, readiness, buffer, self) {
            return self.end();
        }
        if !P::HALF_CLOSEABLE && stream.hides_an_end(readiness) {
            // in a handler of what this look has delivered
            self.cancel_on_loss_now();
        }
    }

    /// Takes what has arrived at a framed protocol.
    ///
    /// Mostly that is one message and nothing else, which is lent out of the read buffer. Only what
    /// it leaves behind is kept, before its handler runs, because that may look at it.
    fn arrived(&self, data: &[u8]) {
        let Some(desk) = self.0.transport.0.as_ref().and_then(|stream| stream.desk()) else {
            return;
        };
        if !desk.is_empty() {
            desk.arrived(data);
            return self.parse();
        }
        let decoded = self.decode(Input::new(data, desk.is_raw()));
        match decoded {
            Ok(Some((message, used))) => {
                let rest = data.get(used..).unwrap_or_default();
                if !rest.is_empty() {
                    desk.arrived(rest);
                }
                desk.set_busy(true);
                // user code
                self.guarded("message_received", || P::__message_received(self, message));
                self.drain();
                desk.set_busy(false);
                if !desk.is_empty() {
                    self.parse();
                }
            }
            Ok(None) => {
                desk.arrived(data);
                self.0.leftover.set(true);
            }
            Err(failure) => self.broken(failure),
        }
    }

    /// Asks the framing, which may be a user's own.
    #[inline]
    fn decode<'a>(&self, input: Input<'a>) -> Decoded<'a, P> {
        // user code
        let decoded = catch_unwind(AssertUnwindSafe(|| self.0.framing.borrow_mut().decode(input)));
        let decoded = decoded.unwrap_or_else(|payload| {
            Err(panicked(payload, Frame::new("decode", Location::caller())))
        });
        match decoded {
            Ok(Some((_, used))) if used == 0 || used > input.data.len() => {
                Err(wrong_length(P::Framing::NAME, used, input.data.len()))
            }
            decoded => decoded,
        }
    }

    /// Delivers the messages that are there.
    pub(super) fn parse(&self) {
        let Some(stream) = &self.0.transport.0 else { return };
        let Some(desk) = stream.desk() else { return };
        if desk.set_busy(true) {
            return;
        }
        while stream.is_reading() {
            let (bytes, start) = desk.bytes();
            let Some(data) = bytes.get(start..).filter(|data| !data.is_empty()) else { break };
            let decoded = self.decode(Input::new(data, desk.is_raw()));
            match decoded {
                Ok(Some((message, used))) => {
                    desk.advance(used);
                    // user code
                    self.guarded("message_received", || P::__message_received(self, message));
                    self.drain();
                }
                Ok(None) => break,
                Err(failure) => {
                    self.broken(failure);
                    break;
                }
            }
        }
        desk.set_busy(false);
        desk.tidy();
        self.0.leftover.set(!desk.is_empty());
    }
}

/// What a framing says of an input.
type Decoded<'a, P> = Result<Option<(Message<'a, P>, usize)>, Failure>;

/// A framing took no bytes for a message, and would give it again for ever; or more than there are.
#[cold]
fn wrong_length(framing: &str, used: usize, there: usize) -> Failure {
    MessageError::with_text(format!("{framing} took {used} of {there} bytes for a message")).into()
}

//! What a stream is given to read, and what else an event can mean.
use super::state::{
    CLOSING, DESCRIPTORS, DISCARDING, ENDED, FLOW, IN_PIECES, KEPT, PEER_ENDED, PIPED, QUEUED,
    REASONED, Reason, TAKES, TOLD, WRITE_TOLD, WireStream,
};
use crate::{
    reactor::source::Readiness,
    stream::{Look, READS_PER_TURN, Receiver, Stream, Transport},
};
use std::io::{self, ErrorKind};

impl WireStream {
    #[inline]
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.with_wire(|wire| wire.read(buffer))
    }

    /// Takes what a read has given and reads on, a bounded number of times.
    pub(super) fn receive(
        &self,
        first: io::Result<usize>,
        readiness: Readiness,
        buffer: &mut [u8],
        receiver: &dyn Receiver,
    ) {
        let mut given = first;
        for left in (0..READS_PER_TURN).rev() {
            match given {
                Ok(0) => return self.peer_ended(receiver),
                Ok(read) => {
                    let data = buffer.get(..read).unwrap_or_default();
                    if self.has(TAKES) && !self.deliver_descriptors(data, receiver) {
                        return;
                    }
                    match self.piped() {
                        Some(other) => other.write(data),
                        None => receiver.data(data),
                    }
                    // a short read says that nothing is left, unless the other side has ended
                    if !self.is_reading()
                        || (read < buffer.len()
                            && !readiness.is_to_the_end()
                            && !self.has(IN_PIECES))
                    {
                        return;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted => {}
                    _ => return self.broken(&error),
                },
            }
            if left == 0 {
                return self.put_off(readiness);
            }
            given = self.read_for(buffer);
        }
    }

    /// Reads, with descriptors if the protocol takes any.
    #[inline]
    pub(super) fn read_for(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has(TAKES) { self.read_with_descriptors(buffer) } else { self.read(buffer) }
    }

    /// Where what arrives goes, if not to the protocol.
    #[inline]
    pub(super) fn piped(&self) -> Option<Transport> {
        if self.has(PIPED) { Self::piped_to(self) } else { None }
    }

    /// A read or a look says that the connection is broken.
    pub(super) fn broken(&self, error: &io::Error) {
        self.end(self.lost(error));
        self.set(TOLD);
    }

    /// A look in the plain state at an event that is not plain input: there may be an end, or there
    /// is only room.
    #[inline(never)]
    pub(super) fn look_for_an_end(
        &self,
        readiness: Readiness,
        buffer: &mut [u8],
        receiver: &dyn Receiver,
    ) -> Look {
        if readiness == Readiness::WRITABLE {
            return Look::Done;
        }
        match self.read_for(buffer) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                self.broken(&error);
            }
            given => self.receive(given, readiness, buffer, receiver),
        }
        if self.has(TOLD) {
            Look::Over
        } else if self.hides_an_end(readiness) {
            // by a handler of what has just been delivered
            Look::Held
        } else {
            Look::Done
        }
    }

    /// Whatever else an event can mean than plain input.
    pub(super) fn pump_unusual(
        &self,
        readiness: Readiness,
        buffer: &mut [u8],
        receiver: &dyn Receiver,
    ) {
        // what resumes the delivery in here has it looked at again, and then what is left unparsed
        // goes first
        let reading = self.is_reading();
        if self.has(WRITE_TOLD) && !self.has(ENDED) {
            self.write_ended(receiver);
        }
        if self.has(ENDED) {
            return self.set(TOLD);
        }
        if self.has(DESCRIPTORS)
            && let Some(reason) = self.overrun()
        {
            self.end(Reason::Made(reason));
            return self.set(TOLD);
        }
        if self.has(REASONED) && self.has(CLOSING) {
            self.stop_producer();
        }
        if readiness.is_writable() && self.has(QUEUED) {
            self.flush();
        }
        if readiness.is_writable() && self.has(FLOW) && !self.has(ENDED) {
            self.eased();
        }
        if self.has(ENDED) {
            return self.set(TOLD);
        }
        if self.has(DISCARDING) {
            self.discard(buffer);
        } else if (readiness.is_readable() || readiness.is_closed()) && reading && self.is_reading()
        {
            if self.has(KEPT) && !self.deliver_kept(receiver) {
                return;
            }
            let given = self.read_for(buffer);
            self.receive(given, readiness, buffer, receiver);
        } else if readiness.is_closed() && self.has(PEER_ENDED | CLOSING) {
            self.look_for_a_break();
        }
    }
}

//! Read side of a stream: events of the poller, and the one read loop.
use super::state::{
    ACCEPTS_DESCRIPTORS, HUNG_UP, Lifecycle, READ_CONTINUES, ReadHalf, SHORT_READS, Stream,
};
use crate::reactor::{backend::Socket as _, source::Readiness};
use rustix::io::Errno;
use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    rc::Rc,
};

/// The maximum number of reads of one stream in a turn.
const READS_PER_TURN: u32 = 8;

/// The recipient of a stream's events: the connection above it.
pub(crate) trait Receiver {
    /// Delivers input.
    fn data(&self, data: &[u8]);

    /// Continues delivery after a pause: input that was left unparsed comes before new input.
    fn deliver_unparsed(&self);

    /// Returns whether the connection stays open when one direction has closed.
    fn is_half_closeable(&self) -> bool;

    /// Called when the peer has closed its sending direction.
    fn read_connection_lost(&self);

    /// Called when this side's requested end of file has been sent.
    fn write_connection_lost(&self);

    /// Delivers a descriptor that came with the bytes that follow.
    fn descriptor(&self, descriptor: OwnedFd);

    /// Returns whether a handler that is cancelled by the loss is pending. The peer's end of file
    /// then overtakes the input that waits behind that handler.
    fn has_cancel_on_loss(&self) -> bool;
}

impl Stream {
    /// Handles an event. Returns `true` if the stream is closed and `connection_lost` is due.
    #[inline]
    pub(crate) fn on_event<R: Receiver>(
        &self,
        readiness: Readiness,
        buffer: &mut [u8],
        receiver: &R,
    ) -> bool {
        if !self.is_plain_read() || !readiness.is_plain_input() {
            return self.on_event_slow(None, readiness, buffer, receiver);
        }
        let first = self.with_tcp(|tcp| tcp.receive(buffer));
        match first {
            // a short read empties the socket, and an end of file would cause another event
            Ok(read @ 1..) if read < buffer.len() => {
                receiver.data(buffer.get(..read).unwrap_or_default());
                false
            }
            first => self.on_event_slow(Some(first), readiness, buffer, receiver),
        }
    }

    /// Handles every case but a short read of plain input; `first` is the result of the first read.
    #[cold]
    #[inline(never)]
    fn on_event_slow<R: Receiver>(
        &self,
        first: Option<Result<usize, Errno>>,
        readiness: Readiness,
        buffer: &mut [u8],
        receiver: &R,
    ) -> bool {
        if readiness.is_closed() {
            self.set(HUNG_UP, true);
        }
        match first {
            Some(first) => {
                self.receive(first.map_err(io::Error::from), readiness, buffer, receiver);
            }
            None => self.on_other_event(readiness, buffer, receiver),
        }
        if self.is_end_held_back() && !receiver.is_half_closeable() && receiver.has_cancel_on_loss()
        {
            self.skip_to_end(buffer, receiver);
        }
        self.is_lost()
    }

    /// Handles an event that is more than plain input, or an event of a stream that is not in its
    /// plain state.
    ///
    /// Each step may run user code, so each step checks the state again. Their order matters.
    fn on_other_event<R: Receiver>(&self, readiness: Readiness, buffer: &mut [u8], receiver: &R) {
        // 1. input that was left when a handler paused or suspended the delivery is older than new
        //    input
        if readiness.is_to_the_end() {
            receiver.deliver_unparsed();
        }
        // 2. in the plain state there is at most an end of file behind the input, or, with edge
        //    triggering, the first writable event of a new connection
        if self.is_plain_read() {
            if readiness != Readiness::WRITABLE {
                let given = self.with_wire(|wire| wire.read(buffer));
                self.receive(given, readiness, buffer, receiver);
            }
            return;
        }
        // 3. a reset drops the input that waits behind a pause or a suspended delivery, which
        //    nothing reads to the error
        if readiness.is_closed() && self.is_open() && !self.is_reading() {
            self.probe_error();
        }
        // sampled now: code called below may resume the delivery, which reschedules the stream so
        // that unparsed input is parsed before new reads
        let reading = self.is_reading();
        // 4. `write_connection_lost` comes before the `connection_lost` that both closed directions
        //    cause
        self.tell_write_closed(receiver);
        // 5. a method of the transport has closed the stream: this is the later turn
        if self.is_closed() {
            return self.close_now_due();
        }
        // 6. descriptors for which no byte was written could never be sent
        if let Some(reason) = self.overrun() {
            return self.close_now(reason);
        }
        // 7. a given reason means that something has failed: the producer's remaining data is not
        //    wanted
        if self.has_given_reason() && matches!(self.lifecycle(), Lifecycle::Flushing { .. }) {
            self.stop_producer();
        }
        // 8. output before input: sending makes room for the answers to the input
        if readiness.is_writable() {
            self.flush_queue();
            self.below_low_water();
            self.advance_close();
        }
        if self.is_closed() {
            return self.close_now_due();
        }
        self.read_event(readiness, reading, buffer, receiver);
    }

    /// Discards input up to the peer's end, for a handler that the loss cancels.
    #[cold]
    fn skip_to_end<R: Receiver>(&self, buffer: &mut [u8], receiver: &R) {
        for _ in 0..READS_PER_TURN {
            match self.with_wire(|wire| wire.read(buffer)) {
                Ok(0) => return self.peer_ended(receiver),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted => {}
                    _ => return self.close_now(self.loss_reason(&error)),
                },
            }
        }
        self.reschedule(Readiness::AGAIN);
    }

    /// Reads after all other work of an event has been done.
    fn read_event<R: Receiver>(
        &self,
        readiness: Readiness,
        reading: bool,
        buffer: &mut [u8],
        receiver: &R,
    ) {
        let readable = readiness.is_readable() || readiness.is_closed();
        if self.has(READ_CONTINUES) {
            if !readiness.is_continued() {
                // the read budget is used up; an end of file behind the rest must not be forgotten
                if readiness.is_to_the_end() {
                    self.reschedule(readiness);
                }
                return;
            }
            self.set(READ_CONTINUES, false);
        }
        match self.lifecycle() {
            Lifecycle::Lingering => self.discard(buffer),
            Lifecycle::Open { .. } if readable && reading && self.is_reading() => {
                if !self.deliver_arrived(receiver) {
                    return;
                }
                let given = self.read_any(buffer);
                self.receive(given, readiness, buffer, receiver);
            }
            // nothing is read any more that would show a reset
            Lifecycle::Open { read: ReadHalf::Eof, .. } | Lifecycle::Flushing { .. }
                if readiness.is_closed() =>
            {
                self.probe_error();
            }
            _ => {}
        }
    }

    /// Delivers the data of a first read and reads on, a bounded number of times.
    fn receive<R: Receiver>(
        &self,
        first: io::Result<usize>,
        readiness: Readiness,
        buffer: &mut [u8],
        receiver: &R,
    ) {
        let mut given = first;
        for left in (0..READS_PER_TURN).rev() {
            match given {
                Ok(0) => return self.peer_ended(receiver),
                Ok(read) => {
                    let data = buffer.get(..read).unwrap_or_default();
                    if !self.deliver(data, receiver) {
                        return;
                    }
                    // a short read means that nothing is left, unless there may be an end of file
                    // behind it
                    let short = read < buffer.len();
                    if short && !readiness.is_to_the_end() && !self.has(SHORT_READS) {
                        return;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted => {}
                    _ => return self.close_now(self.loss_reason(&error)),
                },
            }
            if left == 0 {
                self.set(READ_CONTINUES, true);
                return self.reschedule(readiness.continued());
            }
            given = self.read_any(buffer);
        }
    }

    /// Passes input to the pipe or the protocol. Returns whether more may be read.
    pub(super) fn deliver<R: Receiver>(&self, data: &[u8], receiver: &R) -> bool {
        if self.has(ACCEPTS_DESCRIPTORS) && !self.deliver_descriptors(data, receiver) {
            return false;
        }
        match self.pipe() {
            Some(other) => other.write(data),
            None => receiver.data(data),
        }
        self.is_reading()
    }

    /// Reads, with descriptors if the protocol accepts any.
    pub(super) fn read_any(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has(ACCEPTS_DESCRIPTORS) {
            self.read_with_descriptors(buffer)
        } else {
            self.with_wire(|wire| wire.read(buffer))
        }
    }

    /// Returns the stream that receives the input instead of the protocol.
    pub(super) fn pipe(&self) -> Option<Rc<Self>> {
        self.cold(|cold| cold.flow.pipe.clone()).flatten()
    }
}

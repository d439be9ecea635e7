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

/// How often a stream is read in one turn before the others have theirs.
const READS_PER_TURN: u32 = 8;

/// What a stream delivers to: the connection above it.
pub(crate) trait Receiver {
    /// Input has arrived.
    fn data(&self, data: &[u8]);

    /// Delivery goes on after a pause: input that was left unparsed comes before new input.
    fn deliver_unparsed(&self);

    /// Whether the end of one direction is not the end of the connection.
    fn is_half_closeable(&self) -> bool;

    /// The peer writes no more.
    fn read_connection_lost(&self);

    /// This side's end of writing, asked for earlier, has been sent.
    fn write_connection_lost(&self);

    /// A descriptor has come with the bytes that are delivered next.
    fn descriptor(&self, descriptor: OwnedFd);

    /// The peer has ended while a handler suspends the delivery, so that the end is not read yet.
    fn end_held_back(&self);
}

impl Stream {
    /// Handles an event. `true`: the stream is closed and `connection_lost` is due.
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
            // a short read leaves nothing behind, and an end would bring another event
            Ok(read @ 1..) if read < buffer.len() => {
                receiver.data(buffer.get(..read).unwrap_or_default());
                false
            }
            first => self.on_event_slow(Some(first), readiness, buffer, receiver),
        }
    }

    /// Everything but a short read of plain input; `first` is what a first read gave.
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
        if self.is_lost() {
            return true;
        }
        if self.is_end_held_back() && !receiver.is_half_closeable() {
            // suspended by a handler of what has just been delivered
            receiver.end_held_back();
        }
        false
    }

    /// An event that is more than plain input, or a stream that is not in its plain state.
    ///
    /// Each step may run user code, so each looks at the state anew. Their order matters.
    fn on_other_event<R: Receiver>(&self, readiness: Readiness, buffer: &mut [u8], receiver: &R) {
        // 1. what was left when a handler paused or suspended the delivery is older than new input
        if readiness.is_to_the_end() {
            receiver.deliver_unparsed();
        }
        // 2. in the plain state there may only be an end behind the input, or, with edges, news
        //    that a new connection has room
        if self.is_plain_read() {
            if readiness != Readiness::WRITABLE {
                let given = self.with_wire(|wire| wire.read(buffer));
                self.receive(given, readiness, buffer, receiver);
            }
            return;
        }
        // 3. handlers that end with the connection do so before anything of the end is delivered
        if self.is_end_held_back() && !receiver.is_half_closeable() {
            receiver.end_held_back();
            if self.is_reading() {
                // this has rescheduled the stream, and unparsed input comes first then
                return;
            }
        }
        // sampled now: code called below may resume the delivery, which reschedules the stream so
        // that unparsed input is parsed before new reads
        let reading = self.is_reading();
        // 4. the end of writing is told before an end that both halves make together
        self.tell_write_closed(receiver);
        // 5. an end from a method of the transport: this is the later turn
        if self.is_closed() {
            return self.close_now_due();
        }
        // 6. descriptors that no byte was written for would never be sent
        if let Some(reason) = self.overrun() {
            return self.close_now(reason);
        }
        // 7. a given reason says that something has failed: nobody needs the rest of the producer
        if self.has_given_reason() && matches!(self.lifecycle(), Lifecycle::Flushing { .. }) {
            self.stop_producer();
        }
        // 8. output before input: what is sent makes room for what the input brings
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

    /// The read side of an event, after all else.
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
                // it has had its share; an end behind the rest must not be forgotten
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
                if !self.deliver_kept(receiver) {
                    return;
                }
                let given = self.read_any(buffer);
                self.receive(given, readiness, buffer, receiver);
            }
            // nothing is read any more that would tell of a reset
            Lifecycle::Open { read: ReadHalf::Eof, .. } | Lifecycle::Flushing { .. }
                if readiness.is_closed() =>
            {
                self.probe_error();
            }
            _ => {}
        }
    }

    /// Takes what a read has given and reads on, a bounded number of times.
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
                    // a short read says that nothing is left, unless there may be an end behind it
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

    /// Hands input over to the pipe or the protocol. Returns whether more may be read.
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

    /// Where input goes, if not to the protocol.
    pub(super) fn pipe(&self) -> Option<Rc<Self>> {
        self.cold(|cold| cold.flow.pipe.clone()).flatten()
    }
}

//! Write side of a stream: directly to the wire, corked, or through the queue.
//!
//! Outside of a turn every write goes to the wire at once. Within a turn the first write of a
//! stream does, unless unparsed bytes of the current read remain; later ones are corked. Corked
//! bytes are sent in one vectored write when the delivery of that read ends, pauses or is
//! suspended, or else at the end of the turn, and in any case before 64 KiB have gathered. So a
//! burst of small replies costs one or two system calls, and a single reply is not delayed.
use super::{
    buffer::{Buffer, SLICES},
    state::{Lifecycle, Stream, WriteHalf},
};
use crate::reactor::{backend::Socket as _, source::Readiness};
use std::io::{self, ErrorKind, IoSlice};

/// The maximum number of corked bytes.
const CORK_LIMIT: usize = 64 * 1024;

/// The maximum number of bytes that are joined on the stack for one write.
const SMALL: usize = 128;

/// The number of bytes that one stream may write directly in a turn, so that other streams get
/// theirs.
const BYTES_PER_TURN: u32 = 768 * 1024;

/// The number of queued bytes that one stream may send in a turn. It is more than a turn reads, so
/// that a queue that has grown can shrink again.
const QUEUED_BYTES_PER_TURN: u32 = 4 * BYTES_PER_TURN;

impl Stream {
    #[inline]
    pub(crate) fn write(&self, data: &[u8]) {
        if !self.is_plain_write() || data.is_empty() || !self.is_first_output() {
            return self.write_slow(data);
        }
        self.sent_this_turn.set(0);
        let given = self.with_tcp(|tcp| tcp.send(data));
        if given != Ok(data.len()) {
            self.queue_rest(given.map_err(io::Error::from), data);
        }
    }

    /// Writes `data` and `trailer` as one piece.
    #[inline]
    pub(crate) fn write_with_trailer(&self, data: &[u8], trailer: &[u8]) {
        let len = data.len() + trailer.len();
        if self.corked.get() && self.push_corked(data, trailer) {
            return;
        }
        let mut small = [0; SMALL];
        match small.get_mut(..len) {
            Some(joined) => {
                let (start, end) = joined.split_at_mut(data.len());
                start.copy_from_slice(data);
                end.copy_from_slice(trailer);
                self.write(joined);
            }
            None => self.write_sequence(&[data, trailer]),
        }
    }

    /// Records output in this turn. Returns whether it is the first, which outside of turns it
    /// always is.
    #[inline]
    fn is_first_output(&self) -> bool {
        let turn = self.turn();
        self.last_output.replace(turn) != turn || turn == 0
    }

    #[inline]
    fn turn(&self) -> u32 {
        self.schedule.as_ref().map_or(0, |schedule| schedule.turn())
    }

    /// Corks even the first write of the turn, because unparsed bytes of the current read remain
    /// and more output is likely.
    #[inline]
    pub(crate) fn expect_output(&self) {
        let turn = self.turn();
        if self.last_output.replace(turn) != turn {
            self.sent_this_turn.set(0);
        }
    }

    /// Writes in any other state than the plain one, or after the first write of the turn.
    #[inline(never)]
    fn write_slow(&self, data: &[u8]) {
        if self.corked.get() {
            return self.cork(data);
        }
        if data.is_empty() || !self.accepts_writes() {
            return;
        }
        if self.has_pull_producer() {
            self.pull_write();
        }
        if !self.is_queue_empty() {
            // the data waits for room
            self.enqueue(data);
        } else if self.has_descriptors() {
            self.enqueue(data);
            // if there are more descriptors than bytes the next turn decides, because more may be
            // written by then
            if self.overrun().is_none() {
                self.send_queue();
            }
        } else if self.may_cork() {
            self.cork(data);
        } else {
            self.expect_output();
            let given = self.with_wire(|wire| wire.write(data));
            if !matches!(given, Ok(sent) if sent == data.len()) {
                return self.queue_rest(given, data);
            }
        }
        self.check_high_water();
    }

    /// Returns whether a write that is not the first of its turn may be corked. A pull producer
    /// writes one piece at a time, for which corking gains nothing.
    fn may_cork(&self) -> bool {
        let turn = self.turn();
        turn != 0 && self.last_output.get() == turn && !self.has_pull_producer()
    }

    /// Adds two pieces to the corked bytes, if there is room.
    fn push_corked(&self, one: &[u8], two: &[u8]) -> bool {
        let mut queue = self.queue.borrow_mut();
        let Some(buffer) = queue.as_mut() else { return false };
        let fits = buffer.len() + one.len() + two.len() <= CORK_LIMIT;
        if fits {
            buffer.push(one);
            buffer.push(two);
        }
        fits
    }

    /// Corks data, or sends it together with the corked bytes if it is too long.
    fn cork(&self, data: &[u8]) {
        let corked = self.queue.borrow().as_ref().map_or(0, |buffer| buffer.len());
        if corked + data.len() > CORK_LIMIT {
            return self.send_along(data);
        }
        if data.is_empty() {
            return;
        }
        self.enqueue(data);
        if !self.corked.replace(true)
            && let Some(schedule) = &self.schedule
        {
            schedule.add_corked(self.slot.get());
        }
    }

    /// Sends the corked bytes and `data` in one write, without copying `data`.
    fn send_along(&self, data: &[u8]) {
        self.corked.set(false);
        if self.has_sent(BYTES_PER_TURN) {
            self.enqueue(data);
            self.reschedule(Readiness::WRITABLE);
            return self.check_high_water();
        }
        let given = {
            let queue = self.queue.borrow();
            // so few bytes are corked that they fit into one or two chunks
            let mut slices = [IoSlice::new(data); SLICES];
            let (corked, _) = slices.split_at_mut(SLICES - 1);
            let count = queue.as_ref().map_or(0, |buffer| buffer.peek(corked));
            if let Some(slice) = slices.get_mut(count) {
                *slice = IoSlice::new(data);
            }
            let slices = slices.get(..=count).unwrap_or_default();
            self.with_wire(|wire| wire.write_vectored(slices))
        };
        let sent = match given {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                // there may be room left, for which no event would come
                self.reschedule(Readiness::WRITABLE);
                0
            }
            Err(error) => return self.close_later(self.loss_reason(&error)),
        };
        self.note_sent(sent);
        let corked = self.queue.borrow().as_ref().map_or(0, |buffer| buffer.len());
        self.consume(sent.min(corked));
        let rest = data.get(sent.saturating_sub(corked)..).unwrap_or_default();
        if !rest.is_empty() {
            self.enqueue(rest);
        }
        self.update();
        self.check_high_water();
    }

    pub(crate) fn write_sequence(&self, data: &[&[u8]]) {
        if !self.accepts_writes() {
            return;
        }
        if self.corked.get() || (self.may_cork() && self.is_plain_write()) {
            for piece in data {
                self.write(piece);
            }
            return;
        }
        let was_empty = self.is_queue_empty();
        for piece in data.iter().filter(|piece| !piece.is_empty()) {
            self.enqueue(piece);
        }
        if !self.is_queue_empty() && self.has_pull_producer() {
            self.pull_write();
        }
        if was_empty && self.overrun().is_none() {
            self.expect_output();
            self.send_queue();
        }
        self.check_high_water();
    }

    /// Returns whether new output is still sent. After a requested close it is, for the user code
    /// that requested the close and for a producer that the close waits for.
    pub(super) fn accepts_writes(&self) -> bool {
        match self.lifecycle() {
            Lifecycle::Open { write: WriteHalf::Open, .. }
            | Lifecycle::Flushing { sealed: false, .. } => true,
            Lifecycle::Open { write: WriteHalf::Closing, .. } | Lifecycle::Flushing { .. } => {
                self.has_producer()
            }
            _ => false,
        }
    }

    /// Returns the number of bytes that wait for room on the wire.
    pub(crate) fn queued(&self) -> usize {
        if self.corked.get() {
            return 0;
        }
        self.queue.borrow().as_ref().map_or(0, |buffer| buffer.len())
    }

    #[inline]
    fn enqueue(&self, data: &[u8]) {
        let mut queue = self.queue.borrow_mut();
        if let Some(buffer) = queue.as_mut() {
            return buffer.push(data);
        }
        let mut buffer = Buffer::take_free();
        buffer.push(data);
        *queue = Some(buffer);
        drop(queue);
        self.update();
    }

    /// Drops the bytes that have not been sent.
    pub(super) fn drop_queue(&self) {
        self.corked.set(false);
        if let Some(buffer) = self.queue.take() {
            buffer.recycle();
        }
    }

    /// Queues the part of `data` that the wire did not accept.
    #[cold]
    #[inline(never)]
    fn queue_rest(&self, given: io::Result<usize>, data: &[u8]) {
        match given {
            Ok(sent) => self.enqueue(data.get(sent..).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.enqueue(data),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.enqueue(data);
                // there may be room left, for which no event would come
                self.reschedule(Readiness::WRITABLE);
            }
            Err(error) => self.close_later(self.loss_reason(&error)),
        }
        self.check_high_water();
    }

    /// Returns whether bytes are corked.
    #[inline]
    pub(crate) fn is_corked(&self) -> bool {
        self.corked.get()
    }

    /// Sends the corked bytes.
    pub(crate) fn flush(&self) {
        if self.corked.replace(false) {
            self.send_queue();
            self.check_high_water();
        }
    }

    /// Sends the corked bytes after user code has returned, and begins a close that it requested.
    pub(crate) fn flush_output(&self) {
        self.flush();
        self.begin_close();
    }

    /// Sends queued bytes inside a method of the transport. No user code may run there, so a stream
    /// with a producer or a waiter is rescheduled.
    fn send_queue(&self) {
        self.flush_queue();
        if self.is_queue_empty() && self.is_watched() {
            self.reschedule(Readiness::WRITABLE);
        }
    }

    /// Sends queued bytes, as far as there is room and within the budget of the turn. Calls no user
    /// code.
    pub(super) fn flush_queue(&self) {
        while !self.is_queue_empty() {
            if self.has_sent(QUEUED_BYTES_PER_TURN) {
                return self.reschedule(Readiness::WRITABLE);
            }
            match self.send_slices() {
                Ok(0) => return,
                Ok(sent) => {
                    self.note_sent(sent);
                    self.consume(sent);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.close_later(self.loss_reason(&error)),
            }
        }
        self.update();
    }

    /// Counts bytes sent in this turn.
    fn note_sent(&self, sent: usize) {
        self.expect_output();
        self.sent_this_turn.set(self.sent_this_turn.get().saturating_add(clamped(sent)));
    }

    /// Returns whether the stream has used up `share` in this turn.
    fn has_sent(&self, share: u32) -> bool {
        let turn = self.turn();
        turn != 0 && self.last_output.get() == turn && self.sent_this_turn.get() >= share
    }

    /// Removes sent bytes from the queue.
    fn consume(&self, sent: usize) {
        let mut queue = self.queue.borrow_mut();
        if let Some(buffer) = queue.as_mut() {
            buffer.consume(sent);
        }
        if let Some(empty) = queue.take_if(|buffer| buffer.is_empty()) {
            drop(queue);
            empty.recycle();
        }
    }

    /// Sends as much of the queue as one write accepts.
    fn send_slices(&self) -> io::Result<usize> {
        let queue = self.queue.borrow();
        let Some(buffer) = queue.as_ref() else { return Ok(0) };
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = buffer.peek(&mut slices);
        let slices = slices.get(..count).unwrap_or_default();
        if self.has_descriptors() {
            return self.write_with_descriptors(slices);
        }
        match slices {
            [one] => self.with_wire(|wire| wire.write(one)),
            many => self.with_wire(|wire| wire.write_vectored(many)),
        }
    }
}

/// Converts to `u32`, saturating: counts far beyond a budget make no difference.
#[inline]
fn clamped(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

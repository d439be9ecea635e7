//! Write side of a stream: straight to the wire while there is room, then through the queue.
use super::{
    buffer::SLICES,
    state::{Lifecycle, Stream, WriteHalf},
};
use crate::reactor::source::Readiness;
use std::io::{self, ErrorKind, IoSlice};

impl Stream {
    #[inline]
    pub(crate) fn write(&self, data: &[u8]) {
        if self.is_plain_write() && !data.is_empty() {
            let given = self.with_wire(|wire| wire.write(data));
            if !matches!(given, Ok(sent) if sent == data.len()) {
                self.queue_rest(given, data);
            }
        } else {
            self.write_slow(data);
        }
    }

    /// A write in any other state than the plain one.
    #[inline(never)]
    fn write_slow(&self, data: &[u8]) {
        if data.is_empty() || !self.accepts_writes() {
            return;
        }
        if self.has_pull_producer() {
            self.pull_write();
        }
        if !self.is_queue_empty() {
            self.enqueue(data);
        } else if self.has_descriptors() {
            self.enqueue(data);
            // with more descriptors than bytes the next turn decides: more may be written by then
            if self.overrun().is_none() {
                self.flush_queue();
            }
        } else {
            let given = self.with_wire(|wire| wire.write(data));
            if !matches!(given, Ok(sent) if sent == data.len()) {
                return self.queue_rest(given, data);
            }
        }
        self.check_high_water();
    }

    pub(crate) fn write_sequence(&self, data: &[&[u8]]) {
        if !self.accepts_writes() {
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
            self.flush_queue();
        }
        self.check_high_water();
    }

    /// Whether what is written still goes out: also a producer's, after the end that waits for it.
    pub(super) fn accepts_writes(&self) -> bool {
        match self.lifecycle() {
            Lifecycle::Open { write: WriteHalf::Open, .. } => true,
            Lifecycle::Open { write: WriteHalf::Closing, .. } | Lifecycle::Flushing { .. } => {
                self.has_producer()
            }
            _ => false,
        }
    }

    /// How many bytes wait for room.
    pub(crate) fn queued(&self) -> usize {
        self.queue.borrow().as_ref().map_or(0, |buffer| buffer.len())
    }

    fn enqueue(&self, data: &[u8]) {
        let first = {
            let mut queue = self.queue.borrow_mut();
            let first = queue.is_none();
            queue.get_or_insert_default().push(data);
            first
        };
        if first {
            self.update();
        }
    }

    /// Queues what the wire did not take of `data`.
    #[inline(never)]
    fn queue_rest(&self, given: io::Result<usize>, data: &[u8]) {
        match given {
            Ok(sent) => self.enqueue(data.get(sent..).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.enqueue(data),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.enqueue(data);
                // there may be room, and then no event will say so
                self.reschedule(Readiness::WRITABLE);
            }
            Err(error) => self.close_later(self.loss_reason(&error)),
        }
        self.check_high_water();
    }

    /// Sends what is queued, as far as there is room, and advances a close that has waited for it.
    pub(super) fn flush_queue(&self) {
        if self.is_queue_empty() {
            return;
        }
        loop {
            match self.send_slices() {
                Ok(0) => return,
                Ok(sent) => {
                    if self.consume(sent) {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.close_later(self.loss_reason(&error)),
            }
        }
        self.update();
        // before an end that was asked for: everything has been sent
        self.fire_drained();
        self.advance_close();
    }

    /// Removes sent bytes from the queue. Returns whether it is empty now.
    fn consume(&self, sent: usize) -> bool {
        let mut queue = self.queue.borrow_mut();
        if let Some(buffer) = queue.as_mut() {
            buffer.consume(sent);
            if !buffer.is_empty() {
                return false;
            }
        }
        queue.take();
        true
    }

    /// One write of as much of the queue as the system takes.
    fn send_slices(&self) -> io::Result<usize> {
        let queue = self.queue.borrow();
        let Some(buffer) = queue.as_ref() else { return Ok(0) };
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = buffer.peek(&mut slices);
        let slices = slices.get(..count).unwrap_or_default();
        if self.has_descriptors() {
            self.write_with_descriptors(slices)
        } else {
            self.with_wire(|wire| wire.write_vectored(slices))
        }
    }
}

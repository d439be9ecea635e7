//! What a stream has to write: at once, as far as there is room, and the rest from its queue.
use super::{
    buffer::SLICES,
    state::{DESCRIPTORS, FLOW, PULLED, QUEUED, WireStream},
};
use crate::reactor::source::Readiness;
use std::io::{self, ErrorKind, IoSlice};

impl WireStream {
    pub(super) fn enqueue(&self, data: &[u8]) {
        self.queue.borrow_mut().get_or_insert_default().push(data);
        self.set(QUEUED);
    }

    /// Whether something was written that has to wait, and somebody cares.
    #[inline]
    pub(super) fn note_queue(&self) {
        if self.has(FLOW) && self.has(QUEUED) {
            self.filled();
        }
    }

    /// Sends what is queued, as far as there is room.
    pub(super) fn flush(&self) {
        loop {
            let sent = {
                let queue = self.queue.borrow();
                let Some(buffer) = queue.as_ref().filter(|buffer| !buffer.is_empty()) else {
                    break;
                };
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = buffer.peek(&mut slices);
                let slices = slices.get(..count).unwrap_or_default();
                if self.has(DESCRIPTORS) {
                    self.write_with_descriptors(slices)
                } else {
                    self.with_wire(|wire| wire.write_vectored(slices))
                }
            };
            match sent {
                Ok(sent) => {
                    if let Some(buffer) = self.queue.borrow_mut().as_mut() {
                        buffer.consume(sent);
                    }
                    if sent == 0 {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.end_later(self.lost(&error));
                    return;
                }
            }
        }
        self.queue.take();
        self.clear(QUEUED);
        if self.has(FLOW) {
            // before an end that was asked for: everything has been sent
            self.tell_drained();
        }
        self.next_of_closing();
    }

    /// A write that did not take everything.
    #[inline(never)]
    pub(super) fn write_rest(&self, given: io::Result<usize>, data: &[u8]) {
        match given {
            Ok(sent) => self.enqueue(data.get(sent..).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.enqueue(data),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.enqueue(data);
                // there may be room, and then no event will say so
                self.put_off(Readiness::WRITABLE);
            }
            Err(error) => self.end_later(self.lost(&error)),
        }
        self.note_queue();
    }

    /// A write in any other state than the plain one.
    #[inline(never)]
    pub(super) fn write_unusual(&self, data: &[u8]) {
        if data.is_empty() || !self.takes_writes() {
            return;
        }
        if self.has(PULLED) {
            self.pulled();
        }
        if self.has(DESCRIPTORS) && !self.has(QUEUED) {
            self.enqueue(data);
            // with more descriptors than bytes the next turn decides: more may be written by then
            if self.overrun().is_none() {
                self.flush();
            }
            return self.note_queue();
        }
        if self.has(QUEUED) {
            self.enqueue(data);
            return self.note_queue();
        }
        let given = self.with_wire(|wire| wire.write(data));
        if !matches!(given, Ok(sent) if sent == data.len()) {
            self.write_rest(given, data);
        }
    }
}

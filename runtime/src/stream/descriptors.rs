//! Descriptors sent and received over a UNIX stream with its bytes.
use super::{
    read::Receiver,
    state::{Descriptors, Reason, Stream},
};
use crate::{error::FileDescriptorOverrun, reactor::source::Readiness};
use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
};

/// The maximum number of descriptors in one message on Linux (`SCM_MAX_FD`).
const PER_MESSAGE: usize = 253;

/// The number of queued descriptors above which a producer is paused.
const CROWD: usize = 64;

impl Stream {
    fn descriptors<R>(&self, work: impl FnOnce(&mut Descriptors) -> R) -> R {
        self.cold_mut(|cold| work(&mut cold.descriptors))
    }

    fn sending(&self) -> usize {
        self.cold(|cold| cold.descriptors.sending.len()).unwrap_or(0)
    }

    /// Returns whether so many descriptors are queued that a producer must pause.
    pub(super) fn is_crowded(&self) -> bool {
        self.sending() > CROWD
    }

    /// Queues a descriptor to be sent with the next byte; the next turn flushes it at the latest.
    pub(crate) fn send_descriptor(&self, descriptor: OwnedFd) {
        if !self.accepts_writes() {
            return;
        }
        // bytes written earlier are sent first
        self.flush();
        self.descriptors(|descriptors| descriptors.sending.push(descriptor));
        if self.sending() == 1 {
            self.update();
            self.reschedule(Readiness::WRITABLE);
        }
        self.above_high_water();
    }

    /// Sends queued bytes with the descriptors that precede them.
    pub(super) fn write_with_descriptors(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut sending = self.descriptors(|descriptors| std::mem::take(&mut descriptors.sending));
        let later = sending.split_off(sending.len().min(PER_MESSAGE));
        let first = slices.first().and_then(|slice| slice.get(..1)).map(IoSlice::new);
        let sent = self.with_wire(|wire| match &first {
            // descriptors beyond the limit go with the bytes that follow
            Some(first) if !later.is_empty() => {
                wire.write_descriptors(std::slice::from_ref(first), &sending)
            }
            _ => wire.write_descriptors(slices, &sending),
        });
        if sent.is_ok() {
            sending.clear();
        }
        sending.extend(later);
        self.descriptors(|descriptors| descriptors.sending = sending);
        sent
    }

    /// Returns the reason to close if more descriptors than bytes are queued, because those could
    /// never be sent.
    pub(super) fn overrun(&self) -> Option<Reason> {
        let (sending, queued) = (self.sending(), self.queued());
        if sending <= queued {
            return None;
        }
        let text = format!("{sending} descriptors for {queued} bytes");
        let error = FileDescriptorOverrun::with_text(text).with_address(self.peer().clone());
        Some(Reason::Made(error.into()))
    }

    /// Reads bytes and the descriptors that come with them.
    pub(super) fn read_with_descriptors(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut arrived = Vec::new();
        let given = self.with_wire(|wire| wire.read_descriptors(buffer, &mut arrived));
        if !arrived.is_empty() {
            self.descriptors(|descriptors| descriptors.arrived.extend(arrived));
        }
        given
    }

    fn next_descriptor(&self) -> Option<OwnedFd> {
        self.cold.borrow_mut().as_mut().and_then(|cold| cold.descriptors.arrived.pop_front())
    }

    /// Delivers the descriptors that arrived before `data`. A handler may pause or suspend the
    /// delivery, which stores `data`, or close the connection. Returns whether `data` may be
    /// delivered.
    pub(super) fn deliver_descriptors<R: Receiver>(&self, data: &[u8], receiver: &R) -> bool {
        while let Some(descriptor) = self.next_descriptor() {
            receiver.descriptor(descriptor);
            if self.is_reading() {
                continue;
            }
            if self.is_open() {
                self.descriptors(|descriptors| descriptors.bytes.extend_from_slice(data));
                self.update();
            } else {
                self.descriptors(|descriptors| descriptors.arrived.clear());
            }
            return false;
        }
        true
    }

    /// Delivers the descriptors and bytes that were stored when a handler paused the delivery.
    /// Returns whether more may be read.
    pub(super) fn deliver_arrived<R: Receiver>(&self, receiver: &R) -> bool {
        let behind = self.cold.borrow_mut().as_mut().map(|cold| {
            let descriptors = &mut cold.descriptors;
            std::mem::take(&mut descriptors.bytes)
        });
        match behind.filter(|behind| !behind.is_empty()) {
            Some(behind) => {
                self.update();
                self.deliver(&behind, receiver)
            }
            None => true,
        }
    }
}

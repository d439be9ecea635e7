//! Descriptors that go over a UNIX stream with its bytes, both ways.
use super::state::{DESCRIPTORS, KEPT, OPEN, WireStream};
use crate::{
    error::FileDescriptorOverrun,
    failure::Failure,
    reactor::source::Readiness,
    stream::{Receiver, Stream},
};
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    os::fd::OwnedFd,
};

/// How many descriptors one message takes: the limit of Linux (`SCM_MAX_FD`).
const PER_MESSAGE: usize = 253;

/// With more descriptors than this the queue counts as full.
const CROWD: usize = 64;

/// Descriptors on their way.
#[derive(Default)]
pub(super) struct Descriptors {
    /// Those that go with the next bytes.
    sending: Vec<OwnedFd>,
    /// Those that have arrived, and the bytes behind them, while the protocol cannot be told.
    arrived: VecDeque<OwnedFd>,
    kept: Vec<u8>,
}

impl WireStream {
    fn descriptors<R>(&self, work: impl FnOnce(&mut Descriptors) -> R) -> R {
        work(&mut self.rare.borrow_mut().get_or_insert_default().descriptors)
    }

    /// Whether so many wait to be sent that a producer should wait.
    pub(super) fn is_crowded(&self) -> bool {
        self.has(DESCRIPTORS) && self.descriptors(|descriptors| descriptors.sending.len() > CROWD)
    }

    /// Keeps a descriptor for the next bytes. It is looked after in the next turn at the latest.
    pub(super) fn keep_descriptor(&self, descriptor: OwnedFd) {
        if !self.takes_writes() {
            return;
        }
        self.descriptors(|descriptors| descriptors.sending.push(descriptor));
        if !self.has(DESCRIPTORS) {
            self.set(DESCRIPTORS);
            self.put_off(Readiness::WRITABLE);
        }
        self.filled();
    }

    /// Sends queued bytes with the descriptors that wait for them.
    pub(super) fn write_with_descriptors(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut sending = self.descriptors(|descriptors| std::mem::take(&mut descriptors.sending));
        let later = sending.split_off(sending.len().min(PER_MESSAGE));
        let first = slices.first().and_then(|slice| slice.get(..1)).map(IoSlice::new);
        let sent = self.with_wire(|wire| match &first {
            // those that are left go with the bytes behind
            Some(first) if !later.is_empty() => {
                wire.write_descriptors(std::slice::from_ref(first), &sending)
            }
            _ => wire.write_descriptors(slices, &sending),
        });
        if sent.is_ok() {
            sending.clear();
        }
        sending.extend(later);
        if sending.is_empty() {
            self.clear(DESCRIPTORS);
        }
        self.descriptors(|descriptors| descriptors.sending = sending);
        sent
    }

    /// Whether there are more descriptors than bytes: those would never be sent.
    pub(super) fn overrun(&self) -> Option<Failure> {
        let count = self.descriptors(|descriptors| descriptors.sending.len());
        let text = format!("{count} descriptors for {} bytes", self.queued());
        (count > self.queued())
            .then(|| FileDescriptorOverrun::with_text(text).with_address(self.peer()).into())
    }

    /// Reads bytes and the descriptors that come with them.
    pub(super) fn read_with_descriptors(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut arrived = Vec::new();
        let given = self.with_wire(|wire| wire.read_descriptors(buffer, &mut arrived));
        self.descriptors(|descriptors| descriptors.arrived.extend(arrived));
        given
    }

    /// Hands over the descriptors that have come before `data`. A handler may pause or hold the
    /// delivery: then `data` is kept until it goes on; it may end it too.
    pub(super) fn deliver_descriptors(&self, data: &[u8], receiver: &dyn Receiver) -> bool {
        while let Some(descriptor) = self.descriptors(|descriptors| descriptors.arrived.pop_front())
        {
            receiver.descriptor(descriptor);
            if self.is_reading() {
                continue;
            }
            if self.has(OPEN) {
                self.descriptors(|descriptors| descriptors.kept.extend_from_slice(data));
                self.set(KEPT);
            } else {
                self.descriptors(|descriptors| descriptors.arrived.clear());
            }
            return false;
        }
        true
    }

    /// Goes on with what a handler has held back among descriptors.
    pub(super) fn deliver_kept(&self, receiver: &dyn Receiver) -> bool {
        self.clear(KEPT);
        let kept = self.descriptors(|descriptors| std::mem::take(&mut descriptors.kept));
        if !self.deliver_descriptors(&kept, receiver) {
            return false;
        }
        match self.piped_to() {
            Some(other) => other.write(kept),
            None => receiver.data(&kept),
        }
        self.is_reading()
    }
}

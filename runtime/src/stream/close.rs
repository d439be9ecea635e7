//! The end of a stream that was asked to close: shut the writing side down, read on to the peer's
//! end, then close.
use super::state::{
    CLOSING, DISCARDING, ENDED, OPEN, PEER_ENDED, PIPED, QUEUED, Reason, TOLD, WRITE_CLOSED,
    WRITE_CLOSING, WRITE_TOLD, WireStream,
};
use crate::{reactor::source::Readiness, stream::Receiver, time::DelayedCall};
use std::{io::ErrorKind, time::Duration};

/// How much a closing stream discards, and for how long, before it stops waiting for the peer's
/// end.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// What a closing stream waits for.
pub(super) struct Lingering {
    left: usize,
    pub(super) timer: DelayedCall,
}

impl WireStream {
    /// Nothing is queued: what an end that was asked for does next.
    pub(super) fn next_of_closing(&self) {
        // who was told that all is sent may have written more, or ended it
        if self.waits_for_producer() || self.has(QUEUED | DISCARDING | ENDED) {
            return;
        }
        if self.has(CLOSING) {
            self.all_sent();
        } else if self.has(WRITE_CLOSING) && !self.has(WRITE_CLOSED) {
            self.end_writing();
        }
    }

    /// The last byte of this side is with the system, and the connection stays for what the other
    /// side has to say.
    fn end_writing(&self) {
        if let Err(error) = self.with_wire(|wire| wire.shutdown()) {
            return self.end_later(self.lost(&error));
        }
        self.set(WRITE_CLOSED | WRITE_TOLD);
        self.put_off(Readiness::AGAIN);
    }

    /// The peer's end has been read.
    pub(super) fn peer_ended(&self, receiver: &dyn Receiver) {
        self.set(PEER_ENDED);
        if let Some(other) = self.piped_to() {
            // its end of writing is the other's; with nothing more to come, the other has no
            // producer
            other.unregister_producer();
            other.lose_write_connection();
        } else if self.has(OPEN) && receiver.is_half_closeable() {
            receiver.read_connection_lost();
        } else if self.has(QUEUED) {
            // a peer that has ended its own side still gets every byte that was written, and none
            // that was not
            self.clear(OPEN);
            self.set(CLOSING);
            self.stop_producer();
        } else {
            self.end(Reason::Done);
            self.set(TOLD);
        }
        self.both_ended();
        if !self.has(ENDED) {
            // a reset may have come right behind it, and nothing is read any more that would say so
            self.look_for_a_break();
        }
    }

    /// Tells that this side's writing has ended.
    pub(super) fn write_ended(&self, receiver: &dyn Receiver) {
        self.clear(WRITE_TOLD);
        if !self.has(PIPED) {
            receiver.write_connection_lost();
        }
        self.both_ended();
    }

    /// With both directions ended there is nothing left to wait for.
    fn both_ended(&self) {
        if self.has(PEER_ENDED) && self.has(WRITE_CLOSED) && !self.has(WRITE_TOLD | ENDED) {
            self.end(Reason::Done);
            self.set(TOLD);
        }
    }

    /// A stream that does not read hears of a broken connection only from the poller.
    pub(super) fn look_for_a_break(&self) {
        match self.with_wire(|wire| wire.connected()) {
            Ok(true) => {}
            // both directions have ended and the system has forgotten it
            Ok(false) if self.has(WRITE_CLOSED) => {}
            Ok(false) => self.broken(&ErrorKind::ConnectionReset.into()),
            Err(error) => self.broken(&error),
        }
    }

    /// The last byte is with the system: end of writing, then wait for the peer's.
    pub(super) fn all_sent(&self) {
        if self.has(PEER_ENDED) {
            self.end_later(Reason::Done);
            return;
        }
        if let Err(error) = self.with_wire(|wire| wire.shutdown()) {
            self.end_later(self.lost(&error));
            return;
        }
        if matches!(self.with_wire(|wire| Ok(wire.lingers())), Ok(false)) {
            return self.end_later(Reason::Done);
        }
        self.set(DISCARDING);
        let Some(core) = self.core.upgrade() else { return };
        let (weak, slot) = (self.core.clone(), self.slot.get());
        let timer = core.timer(LINGER_TIME, move || {
            if let Some(core) = weak.upgrade() {
                core.look_again(slot, Readiness::AGAIN);
            }
        });
        self.rare.borrow_mut().get_or_insert_default().lingering =
            Some(Lingering { left: LINGER_BYTES, timer });
        // there may be input that no new event will tell of
        core.look_again(self.slot.get(), Readiness::TO_THE_END);
    }

    fn lingering<R>(&self, look: impl FnOnce(&mut Lingering) -> R) -> Option<R> {
        self.rare.borrow_mut().as_mut().and_then(|rare| rare.lingering.as_mut()).map(look)
    }

    /// Reads on to the peer's end, or as long as this side waits for it.
    pub(super) fn discard(&self, buffer: &mut [u8]) {
        loop {
            match self.read(buffer) {
                Ok(read) => {
                    let left = self.lingering(|lingering| {
                        lingering.left = lingering.left.saturating_sub(read);
                        lingering.left
                    });
                    if read == 0 || left.unwrap_or(0) == 0 {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.lingering(|lingering| lingering.timer.active()) == Some(true) {
                        return;
                    }
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // everything was sent and the end was asked for: a reset now changes nothing
                Err(_) => break,
            }
        }
        self.end(Reason::Done);
        self.set(TOLD);
    }
}

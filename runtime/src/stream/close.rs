//! How a stream closes: send what is queued, end the writing, read on to the peer's end, close.
use super::{
    read::Receiver,
    state::{Lifecycle, Linger, ReadHalf, Reason, Stream, WriteHalf},
};
use crate::{error::ConnectionAborted, failure::Failure, reactor::source::Readiness};
use std::{io::ErrorKind, time::Duration};

/// How much a lingering stream discards, and for how long, before it stops waiting for the peer's
/// end.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

impl Stream {
    /// Closes the stream when everything has been sent; a `reason` becomes the reason of the loss.
    pub(crate) fn lose_connection(&self, reason: Option<Failure>) {
        if let Some(reason) = reason
            && !self.is_lost()
            && !self.has_given_reason()
        {
            // the first one counts; over that of an abort too, which says less
            let old = self.reason.replace(Some(Reason::Given(reason)));
            drop(old);
        }
        if let Lifecycle::Open { read, .. } = self.lifecycle() {
            self.set_lifecycle(Lifecycle::Flushing { sealed: false, read });
            // nothing is read any more, so nothing more comes from the other side of a pipe
            self.drop_pipe_producer();
            // what the running piece of user code still writes goes out before the end
            if let Some(schedule) = &self.schedule {
                schedule.add_closing(self.slot.get());
            }
        }
        if self.has_given_reason() && self.has_producer() && !self.is_closed() {
            // something has failed: what the producer still has to make is of no use
            self.reschedule(Readiness::AGAIN);
        }
    }

    /// The piece of user code that has asked for the end is over: from now on writes are dropped.
    pub(super) fn begin_close(&self) {
        if let Lifecycle::Flushing { sealed: false, read } = self.lifecycle() {
            self.set_lifecycle(Lifecycle::Flushing { sealed: true, read });
            self.advance_close();
        }
    }

    /// Cuts the connection off: what is queued is dropped, and the peer sees a reset.
    pub(crate) fn abort_connection(&self) {
        if !self.is_closed() {
            // nothing more can be done where the socket refuses: it is closed all the same
            let _ = self.with_wire(|wire| wire.reset_on_drop());
            self.close_later(Reason::Made(ConnectionAborted::new().into()));
        }
    }

    /// Ends this side's writing when everything has been sent; reading goes on.
    pub(crate) fn lose_write_connection(&self) {
        if let Lifecycle::Open { write: WriteHalf::Open, read } = self.lifecycle() {
            self.flush();
            self.set_lifecycle(Lifecycle::Open { write: WriteHalf::Closing, read });
            self.advance_close();
        }
    }

    /// Takes the next step of a close that was asked for, unless it still has to wait: for queued
    /// bytes, or for a producer that has more.
    pub(super) fn advance_close(&self) {
        if !self.is_queue_empty() || self.has_producer() {
            return;
        }
        match self.lifecycle() {
            Lifecycle::Flushing { sealed: true, read } => self.end_connection(read),
            Lifecycle::Open { write: WriteHalf::Closing, read } => self.end_writing(read),
            _ => {}
        }
    }

    /// The last byte is with the system, and the connection stays for what the peer has to say.
    fn end_writing(&self, read: ReadHalf) {
        if let Err(error) = self.with_wire(|wire| wire.shutdown()) {
            return self.close_later(self.loss_reason(&error));
        }
        let write = WriteHalf::Closed { callback_due: true };
        self.set_lifecycle(Lifecycle::Open { write, read });
        self.reschedule(Readiness::AGAIN);
    }

    /// The last byte is with the system: end of writing, then wait for the peer's.
    fn end_connection(&self, read: ReadHalf) {
        if read == ReadHalf::Eof {
            return self.close_later(Reason::Done);
        }
        if let Err(error) = self.with_wire(|wire| wire.shutdown()) {
            return self.close_later(self.loss_reason(&error));
        }
        if matches!(self.with_wire(|wire| Ok(wire.lingers())), Ok(false)) {
            return self.close_later(Reason::Done);
        }
        self.set_lifecycle(Lifecycle::Lingering);
        let (Some(core), Some(schedule)) = (self.core.upgrade(), &self.schedule) else { return };
        let (later, slot) = (schedule.clone(), self.slot.get());
        let timer = core.timer(LINGER_TIME, move || later.reschedule(slot, Readiness::AGAIN));
        self.cold_mut(|cold| cold.linger = Some(Linger { left: LINGER_BYTES, timer }));
        // there may be input that no new event will tell of
        self.reschedule(Readiness::TO_THE_END);
    }

    /// Discards input up to the peer's end, or as long as this side waits for it.
    pub(super) fn discard(&self, buffer: &mut [u8]) {
        loop {
            match self.with_wire(|wire| wire.read(buffer)) {
                Ok(0) => break,
                Ok(read) => {
                    if self.linger_left(read) == 0 {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.is_linger_timer_active() {
                        return;
                    }
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // everything was sent and the end was asked for: a reset now changes nothing
                Err(_) => break,
            }
        }
        self.close_now(Reason::Done);
    }

    /// How much a lingering stream may still discard, after `read` bytes more.
    fn linger_left(&self, read: usize) -> usize {
        self.cold_mut(|cold| {
            cold.linger.as_mut().map_or(0, |linger| {
                linger.left = linger.left.saturating_sub(read);
                linger.left
            })
        })
    }

    fn is_linger_timer_active(&self) -> bool {
        let active =
            self.cold(|cold| cold.linger.as_ref().is_some_and(|linger| linger.timer.is_active()));
        active == Some(true)
    }

    /// The peer's end has been read.
    pub(super) fn peer_ended<R: Receiver>(&self, receiver: &R) {
        let Lifecycle::Open { write, .. } = self.lifecycle() else { return };
        self.set_lifecycle(Lifecycle::Open { write, read: ReadHalf::Eof });
        if let Some(other) = self.pipe() {
            // its end of writing is the other's; with nothing more to come, the other has no
            // producer
            other.unregister_producer();
            other.lose_write_connection();
        } else if receiver.is_half_closeable() {
            receiver.read_connection_lost();
        } else if self.is_queue_empty() {
            self.close_now(Reason::Done);
        } else {
            // a peer that has ended its own side still gets every byte that was written, and none
            // that was not
            self.flush();
            self.set_lifecycle(Lifecycle::Flushing { sealed: true, read: ReadHalf::Eof });
            self.stop_producer();
            self.advance_close();
        }
        self.close_if_both_ended();
        if !self.is_closed() {
            // a reset may have come right behind it, and nothing is read any more that would say so
            self.probe_error();
        }
    }

    /// Tells the protocol that this side's writing has ended, if that is due.
    pub(super) fn tell_write_closed<R: Receiver>(&self, receiver: &R) {
        let due = WriteHalf::Closed { callback_due: true };
        let Lifecycle::Open { write, read } = self.lifecycle() else { return };
        if write == due {
            let write = WriteHalf::Closed { callback_due: false };
            self.set_lifecycle(Lifecycle::Open { write, read });
            if self.pipe().is_none() {
                receiver.write_connection_lost();
            }
            self.close_if_both_ended();
        }
    }

    /// With both directions ended there is nothing left to wait for.
    fn close_if_both_ended(&self) {
        let write = WriteHalf::Closed { callback_due: false };
        if self.lifecycle() == (Lifecycle::Open { write, read: ReadHalf::Eof }) {
            self.close_now(Reason::Done);
        }
    }

    /// While nothing is read, errors surface only through poller events.
    pub(super) fn probe_error(&self) {
        match self.with_wire(|wire| wire.connected()) {
            Ok(true) => {}
            // both directions have ended and the system has forgotten it
            Ok(false) if self.is_writing_closed() => {}
            Ok(false) => {
                self.close_now(self.loss_reason(&ErrorKind::ConnectionReset.into()));
            }
            Err(error) => self.close_now(self.loss_reason(&error)),
        }
    }

    fn is_writing_closed(&self) -> bool {
        matches!(self.lifecycle(), Lifecycle::Open { write: WriteHalf::Closed { .. }, .. })
    }

    /// A stream that a method of the transport has closed: `connection_lost` is due from now on.
    pub(super) fn close_now_due(&self) {
        self.set_lifecycle(Lifecycle::Closed { loss_due: true });
    }

    /// Closes the socket: the transport is dead from now on, for `reason` if there was none before.
    pub(crate) fn close_socket(&self, reason: Option<Failure>) {
        // the addresses still answer afterwards
        self.look_up_host();
        if !self.is_lost() {
            self.close_now(reason.map_or(Reason::Done, Reason::Made));
        }
        self.close_wire();
        if self.cold.borrow().is_some() {
            self.stop_flow();
        }
        if let Some(core) = self.core.upgrade() {
            core.remove(self.slot.get());
        }
    }
}

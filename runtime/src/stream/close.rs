//! Closing a stream: send what is queued, send the end of file, read up to the peer's end of file,
//! close.
use super::{
    read::Receiver,
    state::{Lifecycle, Linger, ReadHalf, Reason, Stream, WriteHalf},
};
use crate::{error::ConnectionAborted, failure::Failure, reactor::source::Readiness};
use std::{io::ErrorKind, time::Duration};

/// The number of bytes that a lingering stream discards, and the time it waits, before it gives up
/// on the peer's end of file.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

impl Stream {
    /// Closes the stream when everything has been sent. `reason`, if given, becomes the reason of
    /// the loss.
    pub(crate) fn lose_connection(&self, reason: Option<Failure>) {
        if let Some(reason) = reason
            && !self.is_lost()
            && !self.has_given_reason()
        {
            // the first given reason counts, also over that of an abort, which says less
            let old = self.reason.replace(Some(Reason::Given(reason)));
            drop(old);
        }
        if let Lifecycle::Open { read, .. } = self.lifecycle() {
            self.set_lifecycle(Lifecycle::Flushing { sealed: false, read });
            // nothing is read any more, so the other side of a pipe will produce nothing more
            self.drop_pipe_producer();
            // output of the running user code is still sent before the close
            if let Some(schedule) = &self.schedule {
                schedule.add_closing(self.slot.get());
            }
        }
        if self.has_given_reason() && self.has_producer() && !self.is_closed() {
            // something has failed: the rest of the producer's data is not wanted
            self.reschedule(Readiness::AGAIN);
        }
    }

    /// Begins a close when the user code that requested it has returned: writes are dropped from
    /// now on.
    pub(super) fn begin_close(&self) {
        if let Lifecycle::Flushing { sealed: false, read } = self.lifecycle() {
            self.set_lifecycle(Lifecycle::Flushing { sealed: true, read });
            self.advance_close();
        }
    }

    /// Closes the stream at once: queued bytes are dropped, and the peer sees a reset.
    pub(crate) fn abort_connection(&self) {
        if !self.is_closed() {
            // if the socket rejects the option, it is closed all the same
            let _ = self.with_wire(|wire| wire.reset_on_drop());
            self.close_later(Reason::Made(ConnectionAborted::new().into()));
        }
    }

    /// Sends an end of file when everything has been sent; reading continues.
    pub(crate) fn lose_write_connection(&self) {
        if let Lifecycle::Open { write: WriteHalf::Open, read } = self.lifecycle() {
            self.flush();
            self.set_lifecycle(Lifecycle::Open { write: WriteHalf::Closing, read });
            self.advance_close();
        }
    }

    /// Takes the next step of a requested close, unless it must wait for queued bytes or for a
    /// producer.
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

    /// Sends the end of file after the last byte, for a half-close: the connection stays open for
    /// input.
    fn end_writing(&self, read: ReadHalf) {
        if let Err(error) = self.with_wire(|wire| wire.shutdown()) {
            return self.close_later(self.loss_reason(&error));
        }
        let write = WriteHalf::Closed { callback_due: true };
        self.set_lifecycle(Lifecycle::Open { write, read });
        self.reschedule(Readiness::AGAIN);
    }

    /// Sends the end of file after the last byte, for a close, and waits for the peer's.
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
        // there may be input for which no new event will come
        self.reschedule(Readiness::TO_THE_END);
    }

    /// Discards input up to the peer's end of file, or until the linger limits are reached.
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
                // everything was sent and the close was requested, so a reset changes nothing now
                Err(_) => break,
            }
        }
        self.close_now(Reason::Done);
    }

    /// Returns how many bytes a lingering stream may still discard, after `read` bytes more.
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

    /// Handles the peer's end of file.
    pub(super) fn peer_ended<R: Receiver>(&self, receiver: &R) {
        let Lifecycle::Open { write, .. } = self.lifecycle() else { return };
        self.set_lifecycle(Lifecycle::Open { write, read: ReadHalf::Eof });
        if let Some(other) = self.pipe() {
            // the piped stream sends an end of file in turn; it gets no more data, so it has no
            // producer
            other.unregister_producer();
            other.lose_write_connection();
        } else if receiver.is_half_closeable() {
            receiver.read_connection_lost();
        } else if self.is_queue_empty() {
            self.close_now(Reason::Done);
        } else {
            // after its end of file the peer must still get every byte that was written before, and
            // none after
            self.flush();
            self.set_lifecycle(Lifecycle::Flushing { sealed: true, read: ReadHalf::Eof });
            self.stop_producer();
            self.advance_close();
        }
        self.close_if_both_ended();
        if !self.is_closed() {
            // a reset may follow at once, and nothing is read any more that would show it
            self.probe_error();
        }
    }

    /// Calls the protocol's `write_connection_lost`, if that is due.
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

    /// Closes the stream if both directions have closed.
    fn close_if_both_ended(&self) {
        let write = WriteHalf::Closed { callback_due: false };
        if self.lifecycle() == (Lifecycle::Open { write, read: ReadHalf::Eof }) {
            self.close_now(Reason::Done);
        }
    }

    /// Checks for an error of the socket. While nothing is read, errors surface only through poller
    /// events.
    pub(super) fn probe_error(&self) {
        match self.with_wire(|wire| wire.connected()) {
            Ok(true) => {}
            // both directions have closed and the system has dropped the connection
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

    /// Makes `connection_lost` due for a stream that a method of the transport has closed.
    pub(super) fn close_now_due(&self) {
        self.set_lifecycle(Lifecycle::Closed { loss_due: true });
    }

    /// Closes the socket, with `reason` if there was no reason before.
    pub(crate) fn close_socket(&self, reason: Option<Failure>) {
        // both addresses can still be asked for afterwards
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

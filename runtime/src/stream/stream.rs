//! What a transport asks of a stream, and how a stream ends. `state.rs` has the flags, one by one;
//! `reading.rs` and `writing.rs` the bytes.
//!
//! ```text
//!            lose_connection                 all is sent                    the peer's end, 64 KiB or 2 s
//!   OPEN ───────────────────▶ CLOSING ─────────────────────▶ DISCARDING ─────────────────────────────────▶ ENDED
//!    │ ▲    the peer's end, with bytes queued │ the peer's end has come                                      ▲
//!    │ └ QUEUED: some bytes wait for room     └──────────────────────────────────────────────────────────────┤
//!    └── the peer's end, a reset, an error, abort_connection ─────────────────────────────────────────────────┘
//! ```
//! Beside it each direction may end by itself, for a protocol that is half-closeable:
//! ```text
//!   OPEN ── lose_write_connection ──▶ WRITE_CLOSING ── all is sent ──▶ WRITE_CLOSED ──┐ both: ENDED
//!   OPEN ── the peer's end ─────────▶ PEER_ENDED ──────────────────────────────────────┘
//! ```
//! Every end that sends what is queued first waits for a registered producer too (`PRODUCING`).
//!
//! `ENDED` becomes `TOLD` when the connection is to call `connection_lost`: at once if the end came
//! from reading, in a later turn if it came from a method of the transport. A close with unread
//! input would reset the connection and cost the peer our tail, so input is read and discarded
//! after the end of writing.
use super::state::{
    CLOSING, DESCRIPTORS, ENDED, HELD, HUNG_UP, MISUSED, OPEN, PAUSED, PEER_ENDED, PRODUCING,
    PULLED, QUEUED, REASONED, Reason, TAKES, TOLD, UNUSUAL, WRITE_CLOSING, WireStream,
};
use crate::{
    address::Address,
    defer::{Deferred, Ends},
    error::{ConnectionAborted, ConnectionDone},
    failure::Failure,
    reactor::{backend::WireOption, source::Readiness},
    stream::{Desk, Encoder, Look, Producer, ProducerKind, Receiver, Stream, Transport},
};
use std::{io, os::fd::OwnedFd, panic::Location, rc::Rc};

impl Ends for WireStream {
    fn reason(&self) -> Option<Failure> {
        if self.has(TOLD) { self.failure() } else { None }
    }
}

impl Stream for WireStream {
    #[inline]
    fn write(&self, data: &[u8]) {
        if self.flags.get() & (OPEN | QUEUED | PULLED | WRITE_CLOSING | DESCRIPTORS) == OPEN
            && !data.is_empty()
        {
            let given = self.with_wire(|wire| wire.write(data));
            if !matches!(given, Ok(sent) if sent == data.len()) {
                self.write_rest(given, data);
            }
        } else {
            self.write_unusual(data);
        }
    }

    fn write_sequence(&self, data: &[&[u8]]) {
        if !self.takes_writes() {
            return;
        }
        let was_queued = self.has(QUEUED);
        for piece in data.iter().filter(|piece| !piece.is_empty()) {
            self.enqueue(piece);
        }
        if self.has(QUEUED) && self.has(PULLED) {
            self.pulled();
        }
        // with more descriptors than bytes the next turn decides: more may be written by then
        if !was_queued && (!self.has(DESCRIPTORS) || self.overrun().is_none()) {
            self.flush();
        }
        self.note_queue();
    }

    fn close(&self, reason: Option<Failure>) {
        if let Some(reason) = reason
            && !self.has(TOLD | REASONED)
        {
            // the first one counts; over that of an abort too, which says less
            self.set(REASONED);
            let old = self.reason.replace(Some(Reason::Made(reason)));
            drop(old);
        }
        let begins = self.has(OPEN);
        if begins {
            self.clear(OPEN);
            self.set(CLOSING);
            // nothing is read any more, so nothing more comes from the other side of a pipe
            self.drop_pipe_producer();
        }
        if self.has(REASONED) && self.has(PRODUCING) && !self.has(ENDED) {
            // something has failed: what the producer still has to make is of no use
            self.put_off(Readiness::AGAIN);
        } else if begins && !self.has(QUEUED) {
            self.next_of_closing();
        }
    }

    fn abort(&self, reason: Option<Failure>) {
        if !self.has(ENDED) {
            // nothing more can be done where the socket refuses: it is closed all the same
            let _ = self.with_wire(|wire| wire.reset_on_drop());
            self.end_later(Reason::Made(reason.unwrap_or_else(|| ConnectionAborted::new().into())));
        }
    }

    fn close_write(&self) {
        if self.has(OPEN) && !self.has(WRITE_CLOSING) {
            self.set(WRITE_CLOSING);
            if !self.has(QUEUED) {
                self.next_of_closing();
            }
        }
    }

    fn register_producer(
        &self,
        producer: Rc<dyn Producer>,
        kind: ProducerKind,
    ) -> Result<(), Failure> {
        self.add_producer(producer, kind)
    }

    fn unregister_producer(&self) {
        self.remove_producer();
    }

    fn pipe_to(&self, to: Transport) {
        self.start_pipe(&to);
    }

    fn pipe_from(&self, source: Transport) {
        self.take_from_pipe(source);
    }

    fn piped_to(&self) -> Option<Transport> {
        self.piped()
    }

    fn unpipe(&self) -> Option<Transport> {
        self.end_pipe()
    }

    fn send_descriptor(&self, descriptor: OwnedFd) {
        self.keep_descriptor(descriptor);
    }

    fn take_descriptors(&self) {
        self.set(TAKES);
    }

    fn queued(&self) -> usize {
        self.queue.borrow().as_ref().map_or(0, |buffer| buffer.len())
    }

    fn set_marks(&self, low: usize, high: usize) {
        self.set_limits(low, high);
    }

    fn marks(&self) -> (usize, usize) {
        self.limits()
    }

    #[track_caller]
    fn drained(&self) -> Deferred<()> {
        self.wait_for_room(Location::caller())
    }

    fn pause(&self) {
        self.set(PAUSED);
    }

    fn hold(&self, yes: bool) {
        let holds = self.holds.get();
        let holds = if yes { holds + 1 } else { holds.saturating_sub(1) };
        self.holds.set(holds);
        if holds > 0 {
            return self.set(HELD);
        }
        self.clear(HELD);
        self.look_again();
    }

    fn resume(&self) {
        if self.has(PAUSED) {
            self.clear(PAUSED);
            self.look_again();
        }
    }

    fn is_open(&self) -> bool {
        self.has(OPEN)
    }

    fn hides_an_end(&self, readiness: Readiness) -> bool {
        if readiness.is_closed() {
            self.set(HUNG_UP);
        }
        self.flags.get() & (OPEN | HELD | PAUSED | HUNG_UP) == OPEN | HELD | HUNG_UP
    }

    fn look_again(&self) {
        if self.is_reading() {
            self.put_off(Readiness::TO_THE_END);
        }
    }

    fn read_later(&self) {
        if self.is_reading() {
            self.put_off(Readiness::AGAIN);
        }
    }

    #[inline]
    fn is_reading(&self) -> bool {
        self.flags.get() & (OPEN | PAUSED | HELD | PEER_ENDED) == OPEN
    }

    fn peer(&self) -> Address {
        self.peer.clone()
    }

    fn host(&self) -> Address {
        self.look_up_host();
        self.host.get().map_or(Address::Unix(None), |host| Address::clone(host))
    }

    fn set_no_delay(&self, yes: bool) -> io::Result<()> {
        self.with_wire(|wire| wire.set_option(WireOption::NoDelay(yes)))
    }

    fn set_keep_alive(&self, yes: bool) -> io::Result<()> {
        self.with_wire(|wire| wire.set_option(WireOption::KeepAlive(yes)))
    }

    fn no_delay(&self) -> io::Result<bool> {
        self.with_wire(|wire| wire.option(WireOption::NoDelay(true)))
    }

    fn keep_alive(&self) -> io::Result<bool> {
        self.with_wire(|wire| wire.option(WireOption::KeepAlive(true)))
    }

    #[inline]
    fn desk(&self) -> Option<&Rc<Desk>> {
        self.desk.get()
    }

    fn first_misuse(&self) -> bool {
        let first = !self.has(MISUSED);
        self.set(MISUSED);
        first
    }

    fn furnish(&self, encoder: Option<Box<dyn Encoder>>) {
        let _ = self.desk.set(Rc::new(Desk::new(encoder)));
    }

    #[inline]
    fn look(&self, readiness: Readiness, buffer: &mut [u8], receiver: &dyn Receiver) -> Look {
        if self.has(UNUSUAL) {
            Look::Unusual
        } else if readiness.is_plain_input() {
            Look::Read(self.read(buffer))
        } else {
            self.look_for_an_end(readiness, buffer, receiver)
        }
    }

    fn pump(
        &self,
        first: Option<io::Result<usize>>,
        readiness: Readiness,
        buffer: &mut [u8],
        receiver: &dyn Receiver,
    ) -> bool {
        match first {
            Some(given) => self.receive(given, readiness, buffer, receiver),
            None => self.pump_unusual(readiness, buffer, receiver),
        }
        self.has(TOLD)
    }

    fn has_ended(&self) -> bool {
        self.has(TOLD)
    }

    fn die(&self, reason: Option<Failure>) {
        // the addresses still answer afterwards
        self.look_up_host();
        if !self.has(ENDED) {
            self.end(reason.map_or(Reason::Done, Reason::Made));
        }
        self.set(TOLD);
        let wire = self.wire.take();
        drop(wire);
        if self.rare.borrow().is_some() {
            let reason = self.failure().unwrap_or_else(|| ConnectionDone::new().into());
            self.stop_flow(&reason);
        }
        if let Some(core) = self.core.upgrade() {
            core.remove(self.slot.get());
        }
    }

    fn retire(self: Rc<Self>) {
        self.keep();
    }
}

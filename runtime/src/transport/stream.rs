//! The byte path of every stream, over a `Wire`. `state.rs` has the flags, one by one.
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
//! `ENDED` becomes `TOLD` when the connection is to call `connection_lost`: at once if the end came from reading, in a later turn if it came
//! from a method of the transport. A close with unread input would reset the connection and cost the peer our tail, so input is read and
//! discarded after the end of writing.
use super::{
    buffer::SLICES,
    state::{
        CLOSING, DESCRIPTORS, DISCARDING, ENDED, FLOW, HELD, HUNG_UP, IN_PIECES, KEPT, MISUSED, OPEN, PAUSED, PEER_ENDED, PIPED, PRODUCING,
        PULLED, QUEUED, REASONED, Reason, TAKES, TOLD, UNUSUAL, WRITE_CLOSING, WRITE_TOLD, WireStream,
    },
};
use crate::{
    address::Address,
    defer::{Deferred, Ends},
    error::{ConnectionAborted, ConnectionDone},
    failure::Failure,
    protocol::{Desk, Encoder, Look, Producer, ProducerKind, READS_PER_TURN, Receiver, Stream, Transport},
    reactor::{backend::WireOption, source::Readiness},
};
use std::{
    io::{self, ErrorKind, IoSlice},
    os::fd::OwnedFd,
    panic::Location,
    rc::Rc,
};

impl WireStream {
    fn enqueue(&self, data: &[u8]) {
        self.queue.borrow_mut().get_or_insert_default().push(data);
        self.set(QUEUED);
    }

    /// Whether something was written that has to wait, and somebody cares.
    #[inline]
    fn note_queue(&self) {
        if self.has(FLOW) && self.has(QUEUED) {
            self.filled();
        }
    }

    /// Sends what is queued, as far as there is room.
    fn flush(&self) {
        loop {
            let sent = {
                let queue = self.queue.borrow();
                let Some(buffer) = queue.as_ref().filter(|buffer| !buffer.is_empty()) else { break };
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = buffer.peek(&mut slices);
                let slices = slices.get(..count).unwrap_or_default();
                if self.has(DESCRIPTORS) { self.write_with_descriptors(slices) } else { self.with_wire(|wire| wire.write_vectored(slices)) }
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

    #[inline]
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.with_wire(|wire| wire.read(buffer))
    }

    /// Takes what a read has given and reads on, a bounded number of times.
    fn receive(&self, first: io::Result<usize>, readiness: Readiness, buffer: &mut [u8], receiver: &dyn Receiver) {
        let mut given = first;
        for left in (0..READS_PER_TURN).rev() {
            match given {
                Ok(0) => return self.peer_ended(receiver),
                Ok(read) => {
                    let data = buffer.get(..read).unwrap_or_default();
                    if self.has(TAKES) && !self.deliver_descriptors(data, receiver) {
                        return;
                    }
                    match self.piped() {
                        Some(other) => other.write(data),
                        None => receiver.data(data),
                    }
                    // a short read says that nothing is left, unless the other side has ended
                    if !self.is_reading() || (read < buffer.len() && !readiness.is_to_the_end() && !self.has(IN_PIECES)) {
                        return;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted => {}
                    _ => return self.broken(&error),
                },
            }
            if left == 0 {
                return self.put_off(readiness);
            }
            given = self.read_for(buffer);
        }
    }

    /// Reads, with descriptors if the protocol takes any.
    #[inline]
    fn read_for(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has(TAKES) { self.read_with_descriptors(buffer) } else { self.read(buffer) }
    }

    /// Where what arrives goes, if not to the protocol.
    #[inline]
    fn piped(&self) -> Option<Transport> {
        if self.has(PIPED) { Self::piped_to(self) } else { None }
    }

    /// A read or a look says that the connection is broken.
    pub(super) fn broken(&self, error: &io::Error) {
        self.end(self.lost(error));
        self.set(TOLD);
    }

    /// A look in the plain state at an event that is not plain input: there may be an end, or there is only room.
    #[inline(never)]
    fn look_for_an_end(&self, readiness: Readiness, buffer: &mut [u8], receiver: &dyn Receiver) -> Look {
        if readiness == Readiness::WRITABLE {
            return Look::Done;
        }
        match self.read_for(buffer) {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => self.broken(&error),
            given => self.receive(given, readiness, buffer, receiver),
        }
        if self.has(TOLD) {
            Look::Over
        } else if self.hides_an_end(readiness) {
            // by a handler of what has just been delivered
            Look::Unusual
        } else {
            Look::Done
        }
    }

    /// Whatever else an event can mean than plain input.
    fn pump_unusual(&self, readiness: Readiness, buffer: &mut [u8], receiver: &dyn Receiver) {
        // what resumes the delivery in here has it looked at again, and then what is left unparsed goes first
        let reading = self.is_reading();
        if self.has(WRITE_TOLD) && !self.has(ENDED) {
            self.write_ended(receiver);
        }
        if self.has(ENDED) {
            return self.set(TOLD);
        }
        if self.has(DESCRIPTORS)
            && let Some(reason) = self.overrun()
        {
            self.end(Reason::Made(reason));
            return self.set(TOLD);
        }
        if self.has(REASONED) && self.has(CLOSING) {
            self.stop_producer();
        }
        if readiness.is_writable() && self.has(QUEUED) {
            self.flush();
        }
        if readiness.is_writable() && self.has(FLOW) && !self.has(ENDED) {
            self.eased();
        }
        if self.has(ENDED) {
            return self.set(TOLD);
        }
        if self.has(DISCARDING) {
            self.discard(buffer);
        } else if (readiness.is_readable() || readiness.is_closed()) && reading && self.is_reading() {
            if self.has(KEPT) && !self.deliver_kept(receiver) {
                return;
            }
            let given = self.read_for(buffer);
            self.receive(given, readiness, buffer, receiver);
        } else if readiness.is_closed() && self.has(PEER_ENDED | CLOSING) {
            self.look_for_a_break();
        }
    }

    /// A write that did not take everything.
    #[inline(never)]
    fn write_rest(&self, given: io::Result<usize>, data: &[u8]) {
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
    fn write_unusual(&self, data: &[u8]) {
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

impl Ends for WireStream {
    fn reason(&self) -> Option<Failure> {
        if self.has(TOLD) { self.failure() } else { None }
    }
}

impl Stream for WireStream {
    #[inline]
    fn write(&self, data: &[u8]) {
        if self.flags.get() & (OPEN | QUEUED | PULLED | WRITE_CLOSING | DESCRIPTORS) == OPEN && !data.is_empty() {
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

    fn register_producer(&self, producer: Rc<dyn Producer>, kind: ProducerKind) -> Result<(), Failure> {
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

    fn pump(&self, first: Option<io::Result<usize>>, readiness: Readiness, buffer: &mut [u8], receiver: &dyn Receiver) -> bool {
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

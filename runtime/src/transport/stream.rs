//! The byte path of every stream, over a [`Wire`].
//!
//! ```text
//!            lose_connection                 all is sent                    the peer's end, 64 KiB or 2 s
//!   OPEN ───────────────────▶ CLOSING ─────────────────────▶ DISCARDING ─────────────────────────────────▶ ENDED
//!    │ ▲    the peer's end, with bytes queued │ the peer's end has come                                      ▲
//!    │ └ QUEUED: some bytes wait for room     └──────────────────────────────────────────────────────────────┤
//!    └── the peer's end, a reset, an error, abort_connection ─────────────────────────────────────────────────┘
//! ```
//! `ENDED` becomes `TOLD` when the connection is to call `connection_lost`: at once if the end came from reading, in a later turn if it came
//! from a method of the transport. A close with unread input would reset the connection and cost the peer our tail, so input is read and
//! discarded after the end of writing.
use super::{
    buffer::{Buffer, SLICES},
    closing::Lingering,
};
use crate::{
    address::Address,
    error::{ConnectionAborted, ConnectionDone, ConnectionLost},
    failure::Failure,
    protocol::{Desk, Encoder, Receiver, Stream},
    reactor::{
        Core,
        backend::{Wire, WireOption},
        source::Readiness,
    },
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    io::{self, ErrorKind, IoSlice},
    rc::{Rc, Weak},
};

/// How often a stream is read in one turn before the others have theirs.
const READS_PER_TURN: u32 = 4;

/// Connected, and nobody on this side has asked for the end.
const OPEN: u16 = 1;
/// Bytes wait for room.
const QUEUED: u16 = 1 << 1;
/// `pause_producing` was called last.
const PAUSED: u16 = 1 << 2;
/// The end was asked for; what is queued is being sent.
const CLOSING: u16 = 1 << 3;
/// The writing side is shut down; input is discarded.
pub(super) const DISCARDING: u16 = 1 << 4;
/// The peer's end has been read.
pub(super) const PEER_ENDED: u16 = 1 << 5;
/// It is over.
const ENDED: u16 = 1 << 6;
/// It is over, and `connection_lost` is due.
pub(super) const TOLD: u16 = 1 << 7;
/// A coroutine handler holds back the next message.
const HELD: u16 = 1 << 8;
/// A call of the wrong framing has been reported.
const MISUSED: u16 = 1 << 9;
/// A handler or a caller has given the reason of the end.
const REASONED: u16 = 1 << 10;
/// What keeps a read from being the plain case.
const UNUSUAL: u16 = QUEUED | PAUSED | CLOSING | DISCARDING | ENDED | HELD;

/// A stream: the socket, the queue, the flags. It never points at a protocol.
pub(super) struct WireStream {
    wire: RefCell<Option<Box<dyn Wire>>>,
    queue: RefCell<Option<Box<Buffer>>>,
    flags: Cell<u16>,
    /// How many coroutine handlers hold back the next message.
    holds: Cell<u16>,
    pub(super) slot: Cell<usize>,
    pub(super) core: Weak<Core>,
    peer: Address,
    host: OnceCell<Box<Address>>,
    reason: RefCell<Option<Failure>>,
    desk: OnceCell<Rc<Desk>>,
    pub(super) lingering: RefCell<Option<Box<Lingering>>>,
    pub(super) me: Weak<Self>,
}

impl WireStream {
    /// A stream over `wire`, whose events come to `slot`.
    pub(super) fn new(wire: Box<dyn Wire>, slot: usize, core: &Rc<Core>, peer: Address, host: Option<Address>) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            wire: RefCell::new(Some(wire)),
            queue: RefCell::new(None),
            flags: Cell::new(OPEN),
            holds: Cell::new(0),
            slot: Cell::new(slot),
            core: Rc::downgrade(core),
            peer,
            host: host.map(|host| OnceCell::from(Box::new(host))).unwrap_or_default(),
            reason: RefCell::new(None),
            desk: OnceCell::new(),
            lingering: RefCell::new(None),
            me: me.clone(),
        })
    }

    /// The reason that a failing handler gave, if one has.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.reason.borrow().clone()
    }

    #[inline]
    pub(super) fn has(&self, flags: u16) -> bool {
        self.flags.get() & flags != 0
    }

    pub(super) fn set(&self, flags: u16) {
        self.flags.set(self.flags.get() | flags);
    }

    fn clear(&self, flags: u16) {
        self.flags.set(self.flags.get() & !flags);
    }

    #[inline]
    pub(super) fn with_wire<R>(&self, work: impl FnOnce(&dyn Wire) -> io::Result<R>) -> io::Result<R> {
        match &*self.wire.borrow() {
            Some(wire) => work(&**wire),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    pub(super) fn put_off(&self, readiness: Readiness) {
        if let Some(core) = self.core.upgrade() {
            core.look_again(self.slot.get(), readiness);
        }
    }

    fn enqueue(&self, data: &[u8]) {
        self.queue.borrow_mut().get_or_insert_default().push(data);
        self.set(QUEUED);
    }

    /// It is over. `connection_lost` gets the first reason there was, or `reason`.
    pub(super) fn end(&self, reason: impl FnOnce() -> Failure) {
        if !self.has(ENDED) {
            self.clear(OPEN | QUEUED);
            self.set(ENDED);
            self.queue.take();
            self.reason.borrow_mut().get_or_insert_with(reason);
        }
    }

    /// It is over, through a method of the transport or a write: told in a later turn.
    pub(super) fn end_later(&self, reason: impl FnOnce() -> Failure) {
        if !self.has(ENDED) {
            self.end(reason);
            self.put_off(Readiness::AGAIN);
        }
    }

    #[cold]
    pub(super) fn lost(&self, error: &io::Error) -> Failure {
        ConnectionLost::from_io(error).with_address(self.peer.clone()).into()
    }

    /// Sends what is queued, as far as there is room.
    fn flush(&self) {
        loop {
            let sent = {
                let queue = self.queue.borrow();
                let Some(buffer) = queue.as_ref().filter(|buffer| !buffer.is_empty()) else { break };
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = buffer.peek(&mut slices);
                self.with_wire(|wire| wire.write_vectored(slices.get(..count).unwrap_or_default()))
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
                    self.end_later(|| self.lost(&error));
                    return;
                }
            }
        }
        self.queue.take();
        self.clear(QUEUED);
        if self.has(CLOSING) {
            self.all_sent();
        }
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
                Ok(0) => return self.peer_ended(),
                Ok(read) => {
                    receiver.data(buffer.get(..read).unwrap_or_default());
                    // a short read says that nothing is left, unless the other side has ended
                    if !self.is_reading() || (read < buffer.len() && !readiness.is_closed()) {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.end(|| self.lost(&error));
                    return self.set(TOLD);
                }
            }
            if left == 0 {
                return self.put_off(readiness);
            }
            given = self.read(buffer);
        }
    }

    /// Whatever else an event can mean than plain input.
    fn pump_unusual(&self, readiness: Readiness, buffer: &mut [u8], receiver: &dyn Receiver) {
        if self.has(ENDED) {
            return self.set(TOLD);
        }
        if readiness.is_writable() && self.has(QUEUED) {
            self.flush();
        }
        if self.has(DISCARDING) {
            self.discard(buffer);
        } else if (readiness.is_readable() || readiness.is_closed()) && self.is_reading() {
            let given = self.read(buffer);
            self.receive(given, readiness, buffer, receiver);
        }
    }

    /// A write that did not take everything.
    #[inline(never)]
    fn write_rest(&self, given: io::Result<usize>, data: &[u8]) {
        match given {
            Ok(sent) => self.enqueue(data.get(sent..).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.enqueue(data),
            // the queue is sent as soon as the system says that there is room, and it says so at once
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.enqueue(data);
                self.flush();
            }
            Err(error) => self.end_later(|| self.lost(&error)),
        }
    }

    fn peer_ended(&self) {
        self.set(PEER_ENDED);
        if self.has(QUEUED) {
            // a peer that has ended its own side still gets every byte
            self.clear(OPEN);
            self.set(CLOSING);
        } else {
            self.end(|| ConnectionDone::new().into());
            self.set(TOLD);
        }
    }
}

impl Stream for WireStream {
    #[inline]
    fn write(&self, data: &[u8]) {
        let flags = self.flags.get();
        if flags & (OPEN | QUEUED) == OPEN && !data.is_empty() {
            let given = self.with_wire(|wire| wire.write(data));
            if !matches!(given, Ok(sent) if sent == data.len()) {
                self.write_rest(given, data);
            }
        } else if flags & OPEN != 0 && !data.is_empty() {
            self.enqueue(data);
        }
    }

    fn write_sequence(&self, data: &[&[u8]]) {
        if self.has(OPEN) {
            for piece in data.iter().filter(|piece| !piece.is_empty()) {
                self.enqueue(piece);
            }
            self.flush();
        }
    }

    fn close(&self, reason: Option<Failure>) {
        if let Some(reason) = reason
            && !self.has(TOLD | REASONED)
        {
            // the first one counts; over that of an abort too, which says less
            self.set(REASONED);
            let old = self.reason.replace(Some(reason));
            drop(old);
        }
        if self.has(OPEN) {
            self.clear(OPEN);
            self.set(CLOSING);
            if !self.has(QUEUED) {
                self.all_sent();
            }
        }
    }

    fn abort(&self, reason: Option<Failure>) {
        if !self.has(ENDED) {
            // nothing more can be done where the socket refuses: it is closed all the same
            let _ = self.with_wire(|wire| wire.reset_on_drop());
            self.end_later(|| reason.unwrap_or_else(|| ConnectionAborted::new().into()));
        }
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

    fn is_held(&self) -> bool {
        self.flags.get() & (OPEN | HELD | PAUSED) == OPEN | HELD
    }

    fn look_again(&self) {
        if self.is_reading() {
            self.put_off(Readiness::TO_THE_END);
        }
    }

    #[inline]
    fn is_reading(&self) -> bool {
        self.flags.get() & (OPEN | PAUSED | HELD) == OPEN
    }

    fn peer(&self) -> Address {
        self.peer.clone()
    }

    fn host(&self) -> Address {
        if let Some(host) = self.host.get() {
            return (**host).clone();
        }
        match self.with_wire(|wire| wire.host()) {
            Ok(host) => (**self.host.get_or_init(|| Box::new(host))).clone(),
            Err(_) => Address::Unix(None),
        }
    }

    fn set_no_delay(&self, yes: bool) -> io::Result<()> {
        self.with_wire(|wire| wire.set_option(WireOption::NoDelay(yes)))
    }

    fn set_keep_alive(&self, yes: bool) -> io::Result<()> {
        self.with_wire(|wire| wire.set_option(WireOption::KeepAlive(yes)))
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
    fn read_first(&self, readiness: Readiness, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        if self.has(UNUSUAL) || !readiness.is_plain_input() { None } else { Some(self.read(buffer)) }
    }

    fn pump(&self, first: Option<io::Result<usize>>, readiness: Readiness, buffer: &mut [u8], receiver: &dyn Receiver) -> bool {
        match first {
            Some(given) => self.receive(given, readiness, buffer, receiver),
            None => self.pump_unusual(readiness, buffer, receiver),
        }
        self.has(TOLD)
    }

    fn ended(&self) -> Option<Failure> {
        if self.has(TOLD) { self.reason.borrow().clone() } else { None }
    }

    fn die(&self, reason: Option<Failure>) {
        // the addresses still answer afterwards
        self.host();
        self.end(|| reason.unwrap_or_else(|| ConnectionDone::new().into()));
        self.set(TOLD);
        let wire = self.wire.take();
        drop(wire);
        if let Some(lingering) = self.lingering.take() {
            // it may have struck already
            let _ = lingering.timer.cancel();
        }
        if let Some(core) = self.core.upgrade() {
            core.remove(self.slot.get());
        }
    }
}

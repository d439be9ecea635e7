//! What a stream is made of: the socket, the queue, the flags. `stream.rs` shows how they change.
use super::framing_state::Desk;
use super::{buffer::Buffer, close::Lingering, descriptors::Descriptors, flow::Flow};
use crate::{
    address::Address,
    error::{ConnectionDone, ConnectionLost},
    failure::{Failure, Frame},
    free_list::Spare,
    reactor::{Core, backend::AnyWire, source::Readiness},
    report::drop_guarded,
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    io::{self, ErrorKind},
    panic::Location,
    rc::{Rc, Weak},
};

/// Connected, and nobody on this side has asked for the end.
pub(super) const OPEN: u32 = 1;
/// Bytes wait for room.
pub(super) const QUEUED: u32 = 1 << 1;
/// `pause_producing` was called last.
pub(super) const PAUSED: u32 = 1 << 2;
/// The end was asked for; what is queued is being sent.
pub(super) const CLOSING: u32 = 1 << 3;
/// The writing side is shut down; input is discarded.
pub(super) const DISCARDING: u32 = 1 << 4;
/// The peer's end has been read.
pub(super) const PEER_ENDED: u32 = 1 << 5;
/// It is over.
pub(super) const ENDED: u32 = 1 << 6;
/// It is over, and `connection_lost` is due.
pub(super) const TOLD: u32 = 1 << 7;
/// A coroutine handler holds back the next message.
pub(super) const HELD: u32 = 1 << 8;
/// A call of the wrong framing has been reported.
pub(super) const MISUSED: u32 = 1 << 9;
/// A handler or a caller has given the reason of the end.
pub(super) const REASONED: u32 = 1 << 10;
/// Somebody wants to know how much is queued: a producer, or who waits for room.
pub(super) const FLOW: u32 = 1 << 11;
/// A producer is registered.
pub(super) const PRODUCING: u32 = 1 << 12;
/// It is a pull producer: its writes are noted.
pub(super) const PULLED: u32 = 1 << 13;
/// What arrives goes to another transport.
pub(super) const PIPED: u32 = 1 << 14;
/// The end of writing was asked for; reading goes on.
pub(super) const WRITE_CLOSING: u32 = 1 << 15;
/// The end of writing has been sent; reading goes on.
pub(super) const WRITE_CLOSED: u32 = 1 << 16;
/// The protocol is to be told of it.
pub(super) const WRITE_TOLD: u32 = 1 << 17;
/// Descriptors go with the next bytes.
pub(super) const DESCRIPTORS: u32 = 1 << 18;
/// The protocol takes descriptors.
pub(super) const TAKES: u32 = 1 << 19;
/// A short read does not say that nothing is left: a UNIX socket gives what lies before the next
/// descriptors, a terminal one line.
pub(super) const IN_PIECES: u32 = 1 << 20;
/// The poller has said that the other side has ended.
pub(super) const HUNG_UP: u32 = 1 << 21;
/// Something that came with descriptors waits for the delivery to go on.
pub(super) const KEPT: u32 = 1 << 22;
/// What keeps a read from being the plain case.
pub(super) const UNUSUAL: u32 = QUEUED
    | PAUSED
    | CLOSING
    | DISCARDING
    | PEER_ENDED
    | ENDED
    | HELD
    | FLOW
    | PIPED
    | WRITE_TOLD
    | DESCRIPTORS
    | IN_PIECES
    | KEPT;

/// Why a stream is over. The failure is made when somebody asks for it: many protocols do not.
pub(super) enum Reason {
    /// `ConnectionDone`
    Done,
    /// `ConnectionLost`, with the number of the system.
    Lost(i32),
    /// It has been made.
    Made(Failure),
}

/// How often a stream is read in one turn before the others have theirs.
pub(crate) const READS_PER_TURN: u32 = 8;

/// What most streams never need.
#[derive(Default)]
pub(super) struct Rare {
    pub(super) flow: Flow,
    pub(super) descriptors: Descriptors,
    pub(super) lingering: Option<Lingering>,
}

/// How many streams that are over a thread keeps the memory of.
const SPARES: usize = 64;

thread_local! {
    static SPARE: Spare<WireStream> = const { Spare::new(SPARES) };
}

/// A stream: the socket, the queue, the flags. It never points at a protocol.
pub(crate) struct WireStream {
    pub(super) wire: RefCell<Option<AnyWire>>,
    pub(super) queue: RefCell<Option<Box<Buffer>>>,
    pub(super) flags: Cell<u32>,
    /// How many coroutine handlers hold back the next message.
    pub(super) holds: Cell<u16>,
    pub(super) slot: Cell<usize>,
    pub(super) core: Weak<Core>,
    pub(crate) peer: Address,
    pub(super) host: OnceCell<Rc<Address>>,
    pub(super) reason: RefCell<Option<Reason>>,
    pub(super) desk: OnceCell<Rc<Desk>>,
    pub(super) rare: RefCell<Option<Box<Rare>>>,
}

impl WireStream {
    /// A stream over `wire`, whose events come to `slot`.
    pub(crate) fn new(
        wire: AnyWire,
        slot: usize,
        core: &Rc<Core>,
        peer: Address,
        host: Option<Rc<Address>>,
    ) -> Rc<Self> {
        let mut stream = SPARE.with(Spare::take).unwrap_or_else(|| Rc::new(Self::blank()));
        // nobody else has it yet
        if let Some(stream) = Rc::get_mut(&mut stream) {
            *stream.flags.get_mut() =
                if matches!(peer, Address::Unix(_)) { OPEN | IN_PIECES } else { OPEN };
            *stream.wire.get_mut() = Some(wire);
            *stream.slot.get_mut() = slot;
            stream.core = Rc::downgrade(core);
            stream.peer = peer;
            stream.host = host.map(OnceCell::from).unwrap_or_default();
        }
        stream
    }

    /// Memory for a stream.
    fn blank() -> Self {
        Self {
            wire: RefCell::new(None),
            queue: RefCell::new(None),
            flags: Cell::new(0),
            holds: Cell::new(0),
            slot: Cell::new(0),
            core: Weak::new(),
            peer: Address::Unix(None),
            host: OnceCell::new(),
            reason: RefCell::new(None),
            desk: OnceCell::new(),
            rare: RefCell::new(None),
        }
    }

    /// Its connection needs it no more: its memory is for another, unless somebody still has it.
    /// All that it had goes now; what [`new`](Self::new) sets may stay.
    pub(super) fn keep(mut self: Rc<Self>) {
        let Some(over) = Rc::get_mut(&mut self) else { return };
        let Self {
            wire,
            queue,
            flags: _,
            holds,
            slot: _,
            core,
            peer: _,
            host: _,
            reason,
            desk,
            rare,
        } = over;
        if wire.get_mut().is_some() {
            return;
        }
        *core = Weak::new();
        *holds.get_mut() = 0;
        if matches!(reason.get_mut(), Some(Reason::Made(_))) {
            // user code: an error of the user's own
            drop_guarded(reason.take());
        }
        *reason.get_mut() = None;
        if queue.get_mut().is_some() || desk.get_mut().is_some() || rare.get_mut().is_some() {
            queue.take();
            // user code: an encoder of the user's own, a producer
            drop_guarded(desk.take());
            drop_guarded(rare.take());
        }
        SPARE.with(|spare| spare.keep(self));
    }

    /// Why it is over or will be, as soon as there is a reason.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let mut reason = self.reason.borrow_mut();
        // no function of the user's has made it, whichever runs now
        let frame = Frame::new("", Location::caller());
        let failure = match reason.as_ref()? {
            Reason::Done => Failure::at(ConnectionDone::new(), frame),
            Reason::Lost(number) => {
                let error = io::Error::from_raw_os_error(*number);
                Failure::at(ConnectionLost::from_io(&error).with_address(self.peer.clone()), frame)
            }
            Reason::Made(failure) => return Some(failure.clone()),
        };
        *reason = Some(Reason::Made(failure.clone()));
        Some(failure)
    }

    #[inline]
    pub(super) fn has(&self, flags: u32) -> bool {
        self.flags.get() & flags != 0
    }

    pub(super) fn set(&self, flags: u32) {
        self.flags.set(self.flags.get() | flags);
    }

    pub(super) fn clear(&self, flags: u32) {
        self.flags.set(self.flags.get() & !flags);
    }

    #[inline]
    pub(super) fn with_wire<R>(
        &self,
        work: impl FnOnce(&AnyWire) -> io::Result<R>,
    ) -> io::Result<R> {
        match &*self.wire.borrow() {
            Some(wire) => work(wire),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Asks the system for this side's address, once.
    #[inline]
    pub(super) fn look_up_host(&self) {
        if self.host.get().is_none() {
            self.ask_for_host();
        }
    }

    #[inline(never)]
    fn ask_for_host(&self) {
        if let Ok(host) = self.with_wire(|wire| wire.host()) {
            let _ = self.host.set(Rc::new(host));
        }
    }

    pub(super) fn put_off(&self, readiness: Readiness) {
        if let Some(core) = self.core.upgrade() {
            core.look_again(self.slot.get(), readiness);
        }
    }

    /// It is over. `connection_lost` gets the first reason there was, or `reason`.
    #[inline]
    pub(super) fn end(&self, reason: Reason) {
        if !self.has(ENDED) {
            if self.has(QUEUED) {
                self.queue.take();
            }
            self.clear(OPEN | QUEUED);
            self.set(ENDED);
            self.reason.borrow_mut().get_or_insert(reason);
        }
    }

    /// It is over, through a method of the transport or a write: told in a later turn.
    pub(super) fn end_later(&self, reason: Reason) {
        if !self.has(ENDED) {
            self.end(reason);
            self.put_off(Readiness::AGAIN);
        }
    }

    #[inline]
    pub(super) fn lost(&self, error: &io::Error) -> Reason {
        match error.raw_os_error() {
            Some(number) => Reason::Lost(number),
            None => self.lost_without_number(error),
        }
    }

    #[cold]
    fn lost_without_number(&self, error: &io::Error) -> Reason {
        Reason::Made(ConnectionLost::from_io(error).with_address(self.peer.clone()).into())
    }
}

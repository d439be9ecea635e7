//! The state of a stream, and its lifecycle.
//!
//! ```text
//!            lose_connection             all is sent            the peer's end, 64 KiB or 2 s
//!   Open ─────────────────▶ Flushing ─────────────▶ Lingering ────────────────▶ Closed
//!    │  the peer's end, with bytes queued ▲    │ the peer's end was read before    ▲
//!    ├────────────────────────────────────┘    └───────────────────────────────────┤
//!    └── the peer's end, a reset, an error, abort_connection ──────────────────────┘
//! ```
//! While the stream is open, each half can close by itself if the protocol is half-closeable:
//! ```text
//!   write: Open ── lose_write_connection ──▶ Closing ── all is sent ──▶ Closed ┐ both: the
//!   read:  Open ── the peer's end ─────────▶ Eof ──────────────────────────────┘ stream is Closed
//! ```
//! A close that sends what is queued also waits for a registered producer. Closing a socket with
//! unread input would reset the connection, and the peer would lose the last bytes. So a stream
//! lingers: after its end of file it reads and discards input.
//!
//! `Closed` has two steps. The stream is closed as soon as nothing more can be sent or received.
//! `connection_lost` is due at once if the read side closed the stream, and in a later turn if a
//! method of the transport did.
use super::{
    buffer::Buffer,
    framing_state::FramingState,
    producer::{Producer, ProducerKind},
};
use crate::{
    address::Address,
    defer::{AbandonCause, Resolver},
    error::{ConnectionDone, ConnectionLost},
    failure::{Failure, Frame},
    free_list::FreeList,
    reactor::{
        Core, Schedule,
        backend::{AnyWire, Backend, Wire, WireOption},
        source::Readiness,
    },
    report::drop_guarded,
    time::DelayedCall,
};
use mio::net::TcpStream;
use rustix::io::Errno;
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    panic::Location,
    rc::{Rc, Weak},
};

/// The lifecycle of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// Connected, and neither side has ended the whole connection.
    Open { write: WriteHalf, read: ReadHalf },
    /// This side has requested the close; queued bytes are still being sent. `sealed` means that
    /// the user code that requested it has returned, and that later writes are dropped.
    Flushing { sealed: bool, read: ReadHalf },
    /// The end of file has been sent; input is discarded until the peer's end of file arrives.
    Lingering,
    /// Nothing more is sent or received. `loss_due` means that `connection_lost` is due or has been
    /// called; before that, a later turn sets it.
    Closed { loss_due: bool },
}

/// The sending half of an open stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteHalf {
    Open,
    /// The end of file was requested; queued bytes are still being sent.
    Closing,
    /// The end of file has been sent. `callback_due` means that `write_connection_lost` must still
    /// be called.
    Closed {
        callback_due: bool,
    },
}

/// The receiving half of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadHalf {
    Open,
    /// The peer's end of file has been read.
    Eof,
}

/// Reading is paused by `pause_producing`.
pub(super) const PAUSED: u8 = 1;
/// The protocol accepts descriptors.
pub(super) const ACCEPTS_DESCRIPTORS: u8 = 1 << 1;
/// A short read does not mean that the socket is empty: a UNIX socket returns the bytes before the
/// next descriptors, a terminal one line.
pub(super) const SHORT_READS: u8 = 1 << 2;
/// The poller has reported the peer's end of file.
pub(super) const HUNG_UP: u8 = 1 << 3;
/// A call meant for another framing has been reported.
pub(super) const MISUSE_REPORTED: u8 = 1 << 4;

/// The read budget of a turn was used up; the next turn continues.
pub(super) const READ_CONTINUES: u8 = 1 << 5;

/// The wire is a TCP socket.
const TCP: u8 = 1 << 6;

/// Plain input needs nothing but a read of the TCP socket.
const PLAIN_READ: u8 = 1;
/// A write goes directly to the TCP socket.
const PLAIN_WRITE: u8 = 1 << 1;

/// The reason of a close. The failure is created on demand, because many protocols do not ask for
/// it.
pub(super) enum Reason {
    /// `ConnectionDone`.
    Done,
    /// `ConnectionLost`, with the operating system's error number.
    Lost(i32),
    /// The failure that was created.
    Made(Failure),
    /// The failure that a handler or a caller gave; it is kept, however the stream closes.
    Given(Failure),
}

/// State that most streams never need.
#[derive(Default)]
pub(super) struct ColdState {
    pub(super) flow: Flow,
    pub(super) descriptors: Descriptors,
    pub(super) linger: Option<Linger>,
}

/// Back-pressure: the producer, the watermarks, `drained()` waiters and the pipe.
pub(super) struct Flow {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) producer: Option<(Rc<dyn Producer>, ProducerKind)>,
    /// Whether the push producer is paused.
    pub(super) paused: bool,
    /// Whether the pull producer has written since it was resumed.
    pub(super) written: bool,
    pub(super) drained: Vec<Resolver<()>>,
    /// The stream that receives the input instead of the protocol.
    pub(super) pipe: Option<Rc<Stream>>,
    /// Whether the producer is the other side of a pipe.
    pub(super) from_pipe: bool,
}

/// The default high watermark.
pub(super) const HIGH_MARK: usize = 64 * 1024;

impl Default for Flow {
    fn default() -> Self {
        Self {
            low: 0,
            high: HIGH_MARK,
            producer: None,
            paused: false,
            written: false,
            drained: Vec::new(),
            pipe: None,
            from_pipe: false,
        }
    }
}

impl Flow {
    /// Returns whether a producer or a waiter depends on the length of the queue.
    fn is_watched(&self) -> bool {
        self.producer.is_some() || !self.drained.is_empty()
    }

    fn has_pull_producer(&self) -> bool {
        matches!(self.producer, Some((_, ProducerKind::Pull)))
    }
}

/// Descriptors that are being sent or received.
#[derive(Default)]
pub(super) struct Descriptors {
    /// Descriptors to send with the next bytes.
    pub(super) sending: Vec<OwnedFd>,
    /// Received descriptors, and the bytes that follow them, while delivery is suspended.
    pub(super) arrived: VecDeque<OwnedFd>,
    pub(super) bytes: Vec<u8>,
}

/// The limits of waiting for the peer's end of file.
pub(super) struct Linger {
    pub(super) left: usize,
    pub(super) timer: DelayedCall,
}

/// The slot number of a stream without a slot.
pub(crate) const NO_SLOT: usize = usize::MAX;

/// The number of unused streams that a thread keeps.
const FREE_STREAMS: usize = 64;

thread_local! {
    static FREE: FreeList<Rc<Stream>> = const { FreeList::new(FREE_STREAMS) };
}

/// A stream of bytes over a wire, with its queue and its lifecycle. It never refers to a protocol.
pub(crate) struct Stream {
    /// The TCP socket, which most wires are. It is taken out during a call, which is cheaper than a
    /// borrow.
    tcp: Cell<Option<TcpStream>>,
    /// Any other wire.
    wire: Cell<Option<Box<dyn Wire>>>,
    /// Bytes that have not been sent; never an empty buffer.
    pub(super) queue: RefCell<Option<Box<Buffer>>>,
    /// Whether the queue is corked: its bytes wait for the end of the delivery or turn, and not for
    /// room on the wire.
    pub(super) corked: Cell<bool>,
    /// The turn of the last output: further output in the same turn is corked.
    pub(super) last_output: Cell<u32>,
    /// The number of bytes sent in that turn, after the first write.
    pub(super) sent_this_turn: Cell<u32>,
    lifecycle: Cell<Lifecycle>,
    flags: Cell<u8>,
    /// Whether each of the two byte paths is plain; derived from all other state by `update`.
    plain: Cell<u8>,
    /// The number of coroutine handlers that suspend the delivery.
    suspensions: Cell<u16>,
    pub(super) slot: Cell<usize>,
    /// Kept in a recycled stream, which nearly always serves the same reactor again.
    pub(super) core: Weak<Core>,
    pub(super) schedule: Option<Rc<Schedule>>,
    peer: Address,
    host: OnceCell<Rc<Address>>,
    pub(super) reason: RefCell<Option<Reason>>,
    framing: OnceCell<Rc<FramingState>>,
    pub(super) cold: RefCell<Option<Box<ColdState>>>,
}

impl Stream {
    /// Creates a stream over `wire`, whose events come to `slot`.
    pub(crate) fn new(
        wire: AnyWire,
        slot: usize,
        core: &Rc<Core>,
        peer: Address,
        host: Option<Rc<Address>>,
    ) -> Rc<Self> {
        let mut stream =
            FREE.try_with(FreeList::take).ok().flatten().unwrap_or_else(|| Rc::new(Self::blank()));
        // nobody else holds the stream yet
        if let Some(stream) = Rc::get_mut(&mut stream) {
            let short = matches!(peer, Address::Unix(_));
            let flags = stream.flags.get_mut();
            *flags = if short { SHORT_READS } else { 0 };
            match wire {
                AnyWire::Tcp(socket) => {
                    *flags |= TCP;
                    *stream.tcp.get_mut() = Some(socket);
                }
                AnyWire::Other(wire) => *stream.wire.get_mut() = Some(wire),
            }
            *stream.slot.get_mut() = slot;
            if stream.core.as_ptr() != Rc::as_ptr(core) {
                stream.core = Rc::downgrade(core);
                stream.schedule = Some(core.schedule.clone());
            }
            *stream.last_output.get_mut() = 0;
            *stream.corked.get_mut() = false;
            stream.peer = peer;
            stream.host = host.map(OnceCell::from).unwrap_or_default();
            *stream.plain.get_mut() = if *flags & TCP == 0 { 0 } else { PLAIN_READ | PLAIN_WRITE };
            *stream.lifecycle.get_mut() =
                Lifecycle::Open { write: WriteHalf::Open, read: ReadHalf::Open };
        }
        stream
    }

    /// Registers the wire with the poller: its events come to `slot`.
    #[inline]
    pub(crate) fn register(&self, backend: &dyn Backend, slot: usize) -> io::Result<()> {
        self.slot.set(slot);
        if let Some(mut tcp) = self.tcp.take() {
            let result = tcp.register(backend, slot);
            std::mem::forget(self.tcp.replace(Some(tcp)));
            return result;
        }
        let Some(mut wire) = self.wire.take() else { return Ok(()) };
        let result = wire.register(backend, slot);
        self.wire.set(Some(wire));
        result
    }

    /// Allocates a stream.
    fn blank() -> Self {
        Self {
            tcp: Cell::new(None),
            wire: Cell::new(None),
            queue: RefCell::new(None),
            corked: Cell::new(false),
            last_output: Cell::new(0),
            sent_this_turn: Cell::new(0),
            lifecycle: Cell::new(Lifecycle::Closed { loss_due: true }),
            flags: Cell::new(0),
            plain: Cell::new(0),
            suspensions: Cell::new(0),
            slot: Cell::new(0),
            core: Weak::new(),
            schedule: None,
            peer: Address::Unix(None),
            host: OnceCell::new(),
            reason: RefCell::new(None),
            framing: OnceCell::new(),
            cold: RefCell::new(None),
        }
    }

    /// Drops owned state and recycles the allocation if this is the last reference. Fields that
    /// [`new`](Self::new) overwrites are left stale.
    pub(crate) fn recycle(mut self: Rc<Self>) {
        let Some(closed) = Rc::get_mut(&mut self) else { return };
        let Self { tcp, wire, queue, suspensions, reason, framing, cold, .. } = closed;
        if tcp.get_mut().is_some() || wire.get_mut().is_some() {
            return;
        }
        *suspensions.get_mut() = 0;
        if let Some(Reason::Made(failure) | Reason::Given(failure)) = reason.get_mut().take() {
            // user code: the user's own error type
            drop_guarded(failure);
        }
        if queue.get_mut().is_some() || framing.get_mut().is_some() || cold.get_mut().is_some() {
            queue.take();
            // user code: the user's own encoder, a producer
            drop_guarded(framing.take());
            drop_guarded(cold.take());
        }
        // while the thread's storage is being torn down there is no list
        let _ = FREE.try_with(|free| free.put(self));
    }

    pub(super) fn lifecycle(&self) -> Lifecycle {
        self.lifecycle.get()
    }

    /// Changes the lifecycle. Every change goes through here.
    pub(super) fn set_lifecycle(&self, lifecycle: Lifecycle) {
        self.lifecycle.set(lifecycle);
        self.update();
    }

    #[inline]
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    pub(super) fn set(&self, flag: u8, on: bool) {
        let flags = self.flags.get();
        self.flags.set(if on { flags | flag } else { flags & !flag });
        if flag & (PAUSED | READ_CONTINUES) != 0 {
            self.update();
        }
    }

    /// Recomputes which of the byte paths are plain. Every change of the state ends with this.
    pub(super) fn update(&self) {
        let Lifecycle::Open { write: half, .. } = self.lifecycle.get() else {
            return self.plain.set(0);
        };
        let tcp = self.has(TCP);
        let mut read = tcp && self.is_reading() && !self.has(READ_CONTINUES);
        read &= half != WriteHalf::Closed { callback_due: true };
        let mut write = tcp && half == WriteHalf::Open;
        if self.is_queue_empty() {
            if let Some(cold) = &*self.cold.borrow() {
                let Descriptors { sending, bytes, .. } = &cold.descriptors;
                read &= !cold.flow.is_watched()
                    && cold.flow.pipe.is_none()
                    && sending.is_empty()
                    && bytes.is_empty();
                write &= !cold.flow.has_pull_producer() && sending.is_empty();
            }
        } else {
            (read, write) = (false, false);
        }
        self.plain.set((u8::from(read) * PLAIN_READ) | (u8::from(write) * PLAIN_WRITE));
    }

    /// Returns whether plain input needs nothing but a read.
    #[inline]
    pub(super) fn is_plain_read(&self) -> bool {
        self.plain.get() & PLAIN_READ != 0
    }

    /// Returns whether a write goes directly to the TCP socket.
    #[inline]
    pub(super) fn is_plain_write(&self) -> bool {
        self.plain.get() & PLAIN_WRITE != 0
    }

    /// Returns whether the stream is connected and this side has not requested a close.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.lifecycle.get(), Lifecycle::Open { .. })
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.lifecycle.get(), Lifecycle::Closed { .. })
    }

    /// Returns whether the stream is closed and `connection_lost` is due or has been called.
    pub(crate) fn is_lost(&self) -> bool {
        self.lifecycle.get() == Lifecycle::Closed { loss_due: true }
    }

    /// Returns whether input is delivered: it is neither paused nor suspended, and there may be
    /// more.
    #[inline]
    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.lifecycle.get(), Lifecycle::Open { read: ReadHalf::Open, .. })
            && !self.has(PAUSED)
            && self.suspensions.get() == 0
    }

    /// Returns whether an end of file waits because a handler suspends the delivery.
    pub(super) fn is_end_held_back(&self) -> bool {
        self.is_open() && self.has(HUNG_UP) && !self.has(PAUSED) && self.suspensions.get() > 0
    }

    pub(super) fn is_queue_empty(&self) -> bool {
        self.queue.borrow().is_none()
    }

    /// Reads the cold state, if there is any.
    pub(super) fn cold<R>(&self, look: impl FnOnce(&ColdState) -> R) -> Option<R> {
        self.cold.borrow().as_deref().map(look)
    }

    /// Changes the cold state, which is created if there is none.
    pub(super) fn cold_mut<R>(&self, work: impl FnOnce(&mut ColdState) -> R) -> R {
        work(self.cold.borrow_mut().get_or_insert_default())
    }

    pub(super) fn has_producer(&self) -> bool {
        self.cold(|cold| cold.flow.producer.is_some()) == Some(true)
    }

    pub(super) fn has_pull_producer(&self) -> bool {
        self.cold(|cold| cold.flow.has_pull_producer()) == Some(true)
    }

    /// Returns whether a producer or a `drained()` waiter depends on the length of the queue.
    pub(super) fn is_watched(&self) -> bool {
        self.cold(|cold| cold.flow.is_watched()) == Some(true)
    }

    /// Returns whether descriptors are queued.
    pub(super) fn has_descriptors(&self) -> bool {
        self.cold(|cold| !cold.descriptors.sending.is_empty()) == Some(true)
    }

    /// Suspends delivery on behalf of a coroutine handler. Suspensions are counted.
    pub(crate) fn suspend_delivery(&self) {
        self.suspensions.set(self.suspensions.get() + 1);
        self.update();
    }

    /// Resumes delivery when a coroutine handler has finished.
    pub(crate) fn resume_delivery(&self) {
        let suspensions = self.suspensions.get().saturating_sub(1);
        self.suspensions.set(suspensions);
        if suspensions == 0 {
            self.update();
            self.reschedule_delivery();
        }
    }

    pub(crate) fn pause_producing(&self) {
        self.set(PAUSED, true);
    }

    pub(crate) fn resume_producing(&self) {
        if self.has(PAUSED) {
            self.set(PAUSED, false);
            self.reschedule_delivery();
        }
    }

    /// Reschedules the delivery of buffered and new input for the next turn, if the stream is
    /// reading.
    pub(crate) fn reschedule_delivery(&self) {
        if self.is_reading() {
            self.reschedule(Readiness::TO_THE_END);
        }
    }

    pub(super) fn reschedule(&self, readiness: Readiness) {
        if let Some(schedule) = &self.schedule {
            schedule.reschedule(self.slot.get(), readiness);
        }
    }

    /// Closes the stream. An earlier reason takes precedence over `reason`.
    #[inline]
    fn close(&self, reason: Reason, loss_due: bool) {
        self.drop_queue();
        self.reason.borrow_mut().get_or_insert(reason);
        self.set_lifecycle(Lifecycle::Closed { loss_due });
    }

    /// Closes the stream from the read side: `connection_lost` is due at the end of the event.
    pub(super) fn close_now(&self, reason: Reason) {
        if self.is_closed() {
            self.close_now_due();
        } else {
            self.close(reason, true);
        }
    }

    /// Closes the stream from a method of the transport or a write: a later turn calls
    /// `connection_lost`.
    pub(super) fn close_later(&self, reason: Reason) {
        if !self.is_closed() {
            self.close(reason, false);
            self.reschedule(Readiness::AGAIN);
        }
    }

    /// Returns why the stream is closed or will be, as soon as there is a reason.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let mut reason = self.reason.borrow_mut();
        // the failure does not come from a function of the user, even if one is running
        let frame = Frame::new("", Location::caller());
        let failure = match reason.as_ref()? {
            Reason::Done => Failure::at(ConnectionDone::new(), frame),
            Reason::Lost(number) => {
                let error = io::Error::from_raw_os_error(*number);
                Failure::at(ConnectionLost::from_io(&error).with_address(self.peer.clone()), frame)
            }
            Reason::Made(failure) | Reason::Given(failure) => return Some(failure.clone()),
        };
        *reason = Some(Reason::Made(failure.clone()));
        Some(failure)
    }

    /// Returns the reason of the loss, or `ConnectionDone` if there is none.
    pub(super) fn failure_or_done(&self) -> Failure {
        self.failure().unwrap_or_else(|| ConnectionDone::new().into())
    }

    /// Returns whether a handler or a caller has given the reason.
    pub(super) fn has_given_reason(&self) -> bool {
        matches!(*self.reason.borrow(), Some(Reason::Given(_)))
    }

    /// Converts an error of the wire into a reason.
    #[expect(clippy::inline_always, reason = "the end of most connections: 30 instructions")]
    #[inline(always)]
    pub(super) fn loss_reason(&self, error: &io::Error) -> Reason {
        match error.raw_os_error() {
            Some(number) => Reason::Lost(number),
            None => {
                Reason::Made(ConnectionLost::from_io(error).with_address(self.peer.clone()).into())
            }
        }
    }

    /// Calls `work` with the wire; fails with `NotConnected` once it is closed.
    pub(super) fn with_wire<R>(
        &self,
        work: impl FnOnce(&dyn Wire) -> io::Result<R>,
    ) -> io::Result<R> {
        if let Some(tcp) = self.tcp.take() {
            let result = work(&tcp);
            self.tcp.set(Some(tcp));
            return result;
        }
        let Some(wire) = self.wire.take() else { return Err(ErrorKind::NotConnected.into()) };
        let result = work(&*wire);
        self.wire.set(Some(wire));
        result
    }

    /// Calls `work` with the TCP socket of a stream in its plain state, which has one.
    #[inline]
    pub(super) fn with_tcp(
        &self,
        work: impl FnOnce(&TcpStream) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let Some(tcp) = self.tcp.take() else { return Err(Errno::NOTCONN) };
        let result = work(&tcp);
        // the cell was empty in the meantime, so there is nothing to drop
        std::mem::forget(self.tcp.replace(Some(tcp)));
        result
    }

    pub(super) fn close_wire(&self) {
        drop((self.tcp.take(), self.wire.take()));
    }

    pub(crate) fn peer(&self) -> &Address {
        &self.peer
    }

    pub(crate) fn host(&self) -> Address {
        self.look_up_host();
        self.host.get().map_or(Address::Unix(None), |host| Address::clone(host))
    }

    /// Looks up this side's address once, and stores it.
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

    pub(crate) fn set_option(&self, option: WireOption) -> io::Result<()> {
        self.with_wire(|wire| wire.set_option(option))
    }

    pub(crate) fn option(&self, option: WireOption) -> io::Result<bool> {
        self.with_wire(|wire| wire.option(option))
    }

    /// Returns the framing state, if the protocol has a framing.
    #[inline]
    pub(crate) fn framing(&self) -> Option<&Rc<FramingState>> {
        self.framing.get()
    }

    /// Sets the framing state.
    pub(crate) fn set_framing(&self, framing: FramingState) {
        let _ = self.framing.set(Rc::new(framing));
    }

    /// Makes reads look for descriptors, because the protocol accepts them.
    pub(crate) fn accept_descriptors(&self) {
        self.set(ACCEPTS_DESCRIPTORS, true);
    }

    /// Returns whether this is the first call meant for another framing.
    pub(crate) fn is_first_misuse(&self) -> bool {
        let first = !self.has(MISUSE_REPORTED);
        self.set(MISUSE_REPORTED, true);
        first
    }
}

impl AbandonCause for Stream {
    fn reason(&self) -> Option<Failure> {
        if self.is_lost() { self.failure() } else { None }
    }
}

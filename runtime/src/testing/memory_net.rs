//! A network in memory: the other implementation of `Backend` and `Wire`.
use crate::{
    address::Address,
    reactor::{
        backend::{
            Alarm, AnyWire, Backend, Bind, Dial, DialError, Event, RawListener, Signals, Wire,
            WireOption,
        },
        source::Readiness,
    },
    task::Clock,
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    io::{self, ErrorKind, IoSlice},
    net::{Ipv4Addr, SocketAddr},
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The default capacity of each direction of a connection, in bytes.
const CAPACITY: usize = 64 * 1024;

/// Ports, connections and the time, in memory.
pub(super) struct Net {
    now: Cell<Duration>,
    /// The manual clock that provides the time, if there is one.
    clock: Option<Clock>,
    events: RefCell<VecDeque<Event>>,
    ports: RefCell<BTreeMap<SocketAddr, Rc<Port>>>,
    next_port: Cell<u16>,
    raised: Arc<AtomicBool>,
    capacity: Cell<usize>,
    /// The maximum number of bytes that one read returns.
    chunk: Cell<usize>,
    me: Weak<Self>,
}

/// A listening port: its slot, and the connections that were not accepted yet.
struct Port {
    at: SocketAddr,
    slot: Cell<Option<usize>>,
    waiting: RefCell<VecDeque<(MemoryWire, Address)>>,
}

/// The way in which a connection breaks.
#[derive(Clone, Copy)]
pub(super) enum Break {
    /// Both directions end with an end of file.
    Cut,
    /// Both sides read a reset.
    Reset,
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    bytes: RefCell<VecDeque<u8>>,
    /// The writer has sent an end of file.
    ended: Cell<bool>,
    /// It was reset.
    reset: Cell<bool>,
    /// A write did not find enough room.
    starved: Cell<bool>,
    /// The number of writes that have added bytes.
    writes: Cell<usize>,
    /// The number of bytes it can still carry, and how it breaks then.
    limit: Cell<Option<(usize, Break)>>,
    reader: Cell<Option<usize>>,
    writer: Cell<Option<usize>>,
}

impl Pipe {
    /// Makes it break after `bytes` more.
    pub(super) fn break_after(&self, bytes: usize, how: Break) {
        self.limit.set(Some((bytes, how)));
    }

    /// Returns the number of writes that have added bytes.
    pub(super) fn writes(&self) -> usize {
        self.writes.get()
    }

    /// Returns the number of bytes in it.
    pub(super) fn len(&self) -> usize {
        self.bytes.borrow().len()
    }
}

impl Net {
    /// Schedules events for both ends of a connection.
    pub(super) fn look_at(&self, pipe: &Pipe) {
        self.tell(pipe.reader.get(), Readiness::AGAIN);
    }

    pub(super) fn new(clock: Option<Clock>) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            now: Cell::new(Duration::ZERO),
            clock,
            events: RefCell::default(),
            ports: RefCell::default(),
            next_port: Cell::new(1024),
            raised: Arc::default(),
            capacity: Cell::new(CAPACITY),
            chunk: Cell::new(usize::MAX),
            me: me.clone(),
        })
    }

    pub(super) fn set_capacity(&self, bytes: usize) {
        self.capacity.set(bytes.max(1));
    }

    pub(super) fn set_chunk(&self, bytes: usize) {
        self.chunk.set(bytes.max(1));
    }

    /// Creates a connection: the wire at `here`, the wire at `there`, and the pipes in both
    /// directions.
    pub(super) fn pair(
        &self,
        here: &Address,
        there: &Address,
    ) -> (MemoryWire, MemoryWire, [Rc<Pipe>; 2]) {
        let (to, back) = (Rc::<Pipe>::default(), Rc::<Pipe>::default());
        let wire = |incoming: &Rc<Pipe>, outgoing: &Rc<Pipe>, host: &Address| MemoryWire {
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            host: host.clone(),
            refused: false,
            lingers: true,
            cut: Cell::new(false),
            net: self.me.clone(),
        };
        (wire(&back, &to, here), wire(&to, &back, there), [to, back])
    }

    pub(super) fn advance(&self, by: Duration) {
        self.now.set(self.now.get().saturating_add(by));
    }

    /// Returns whether events are scheduled.
    pub(super) fn is_busy(&self) -> bool {
        !self.events.borrow().is_empty() || self.raised.load(Ordering::Acquire)
    }

    fn tell(&self, slot: Option<usize>, readiness: Readiness) {
        if let Some(slot) = slot {
            self.events.borrow_mut().push_back(Event { slot, readiness });
        }
    }

    fn free_port(&self) -> u16 {
        let port = self.next_port.get();
        self.next_port.set(port.checked_add(1).unwrap_or(1024));
        port
    }

    fn port_at(&self, to: SocketAddr) -> Option<Rc<Port>> {
        let ports = self.ports.borrow();
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, to.port()));
        ports.get(&to).or_else(|| ports.get(&any)).cloned()
    }
}

fn ip(at: &Address) -> io::Result<SocketAddr> {
    at.socket_addr().ok_or_else(|| {
        io::Error::new(
            ErrorKind::Unsupported,
            format!("MemoryReactor does not support {at}: it supports IP addresses only"),
        )
    })
}

impl Backend for Net {
    fn now(&self) -> Duration {
        self.clock.as_ref().map_or(self.now.get(), Clock::seconds)
    }

    fn wait(&self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event)) -> io::Result<()> {
        let raised = self.raised.swap(false, Ordering::AcqRel);
        // events that the handling of these causes wait for the next turn
        let events = self.events.take();
        if events.is_empty() && !raised {
            if let Some(timeout) = timeout {
                self.advance(timeout);
            } else {
                let text = "no event, no timer and no call is left: \
                            nothing can ever happen in this memory reactor";
                return Err(io::Error::other(text));
            }
        }
        for event in events {
            sink(event);
        }
        Ok(())
    }

    fn alarm(&self) -> Alarm {
        let raised = self.raised.clone();
        Arc::new(move || raised.store(true, Ordering::Release))
    }

    fn listen(&self, bind: &Bind) -> io::Result<Box<dyn RawListener>> {
        let mut at = ip(&bind.at)?;
        if at.port() == 0 {
            at.set_port(self.free_port());
        }
        if self.ports.borrow().contains_key(&at) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let port = Rc::new(Port { at, slot: Cell::new(None), waiting: RefCell::default() });
        self.ports.borrow_mut().insert(at, port.clone());
        Ok(Box::new(MemoryPort { port, net: self.me.clone() }))
    }

    fn connect(&self, dial: &Dial) -> Result<AnyWire, DialError> {
        let to = ip(&dial.to).map_err(DialError::Connect)?;
        let mut from = dial.from.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
        if from.port() == 0 {
            from.set_port(self.free_port());
        }
        let (mut wire, other, _) = self.pair(&from.into(), &dial.to);
        match self.port_at(to) {
            Some(port) => {
                port.waiting.borrow_mut().push_back((other, from.into()));
                self.tell(port.slot.get(), Readiness::AGAIN);
            }
            None => wire.refused = true,
        }
        Ok(AnyWire::new(wire))
    }

    fn signals(&self, _slot: usize, _wanted: &[i32]) -> io::Result<Option<Box<dyn Signals>>> {
        Ok(None)
    }
}

struct MemoryPort {
    port: Rc<Port>,
    net: Weak<Net>,
}

impl RawListener for MemoryPort {
    fn register(&mut self, slot: usize) -> io::Result<()> {
        self.port.slot.set(Some(slot));
        Ok(())
    }

    fn accept(&self) -> io::Result<(AnyWire, Address)> {
        let next = self.port.waiting.borrow_mut().pop_front();
        let (wire, peer) = next.ok_or(ErrorKind::WouldBlock)?;
        Ok((AnyWire::new(wire), peer))
    }

    fn host(&self) -> io::Result<Address> {
        Ok(self.port.at.into())
    }
}

impl Drop for MemoryPort {
    fn drop(&mut self) {
        if let Some(net) = self.net.upgrade() {
            net.ports.borrow_mut().remove(&self.port.at);
        }
        // connections that were not accepted are reset
        for (wire, _) in self.port.waiting.take() {
            wire.cut.set(true);
        }
    }
}

/// One end of a connection.
pub(super) struct MemoryWire {
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
    host: Address,
    refused: bool,
    /// Whether a close waits for the peer's end of file.
    lingers: bool,
    /// Whether dropping it resets the connection.
    cut: Cell<bool>,
    net: Weak<Net>,
}

impl MemoryWire {
    /// Makes a close not wait for the peer's end of file.
    pub(super) fn without_lingering(mut self) -> Self {
        self.lingers = false;
        self
    }

    fn tell(&self, slot: Option<usize>, readiness: Readiness) {
        if let Some(net) = self.net.upgrade() {
            net.tell(slot, readiness);
        }
    }

    /// Breaks the connection: bytes on their way are lost.
    fn break_now(&self, how: Break) {
        for pipe in [&self.incoming, &self.outgoing] {
            pipe.limit.set(None);
            pipe.bytes.borrow_mut().clear();
            match how {
                Break::Cut => pipe.ended.set(true),
                Break::Reset => pipe.reset.set(true),
            }
            self.tell(pipe.reader.get(), Readiness::new(true, true, true));
        }
    }

    fn chunk(&self) -> usize {
        self.net.upgrade().map_or(usize::MAX, |net| net.chunk.get())
    }

    fn capacity(&self) -> usize {
        self.net.upgrade().map_or(CAPACITY, |net| net.capacity.get())
    }
}

impl Wire for MemoryWire {
    fn register(&mut self, _backend: &dyn Backend, slot: usize) -> io::Result<()> {
        self.incoming.reader.set(Some(slot));
        self.outgoing.writer.set(Some(slot));
        self.tell(Some(slot), Readiness::new(true, true, self.refused));
        Ok(())
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let pipe = &self.incoming;
        if pipe.reset.get() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let mut bytes = pipe.bytes.borrow_mut();
        let left = pipe.limit.get().map_or(usize::MAX, |(left, _)| left);
        let count = into.len().min(bytes.len()).min(left).min(self.chunk());
        for (to, byte) in into.iter_mut().zip(bytes.drain(..count)) {
            *to = byte;
        }
        let more = !bytes.is_empty();
        drop(bytes);
        if let Some((left, how)) = pipe.limit.get() {
            pipe.limit.set(Some((left - count, how)));
            if left == count {
                self.break_now(how);
                if count == 0 {
                    return self.read(into);
                }
            }
        }
        if count > 0 {
            if more {
                // a short read after which more is left
                self.tell(pipe.reader.get(), Readiness::AGAIN);
            }
            if pipe.starved.take() {
                self.tell(pipe.writer.get(), Readiness::new(false, true, false));
            }
            Ok(count)
        } else if pipe.ended.get() {
            Ok(0)
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(data)])
    }

    fn write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        let pipe = &self.outgoing;
        if pipe.reset.get() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if pipe.ended.get() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut bytes = pipe.bytes.borrow_mut();
        let before = bytes.len();
        for slice in data {
            let count = slice.len().min(self.capacity().saturating_sub(bytes.len()));
            bytes.extend(slice.iter().take(count));
            if count < slice.len() {
                pipe.starved.set(true);
                break;
            }
        }
        let count = bytes.len() - before;
        drop(bytes);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.writes.set(pipe.writes.get() + 1);
        self.tell(pipe.reader.get(), Readiness::AGAIN);
        Ok(count)
    }

    fn shutdown(&self) -> io::Result<()> {
        if !self.outgoing.ended.replace(true) {
            self.tell(self.outgoing.reader.get(), Readiness::new(true, false, true));
        }
        Ok(())
    }

    fn reset_on_drop(&self) -> io::Result<()> {
        self.cut.set(true);
        Ok(())
    }

    fn connected(&self) -> io::Result<bool> {
        if self.refused {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        if self.incoming.reset.get() { Err(ErrorKind::ConnectionReset.into()) } else { Ok(true) }
    }

    fn host(&self) -> io::Result<Address> {
        Ok(self.host.clone())
    }

    fn set_option(&self, _option: WireOption) -> io::Result<()> {
        Ok(())
    }

    fn lingers(&self) -> bool {
        self.lingers
    }
}

impl Drop for MemoryWire {
    fn drop(&mut self) {
        // as in the operating system, a close with unread input resets the connection
        let reset = self.cut.get() || (self.lingers && !self.incoming.bytes.borrow().is_empty());
        self.incoming.reader.set(None);
        self.outgoing.writer.set(None);
        if reset {
            self.incoming.reset.set(true);
            self.outgoing.reset.set(true);
        }
        // what the peer sends from now on is not read
        self.incoming.ended.set(true);
        self.outgoing.ended.set(true);
        self.tell(self.outgoing.reader.get(), Readiness::new(true, true, true));
    }
}

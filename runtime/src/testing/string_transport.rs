//! A connection whose other side is the test itself.
use super::{
    memory_net::{MemoryWire, Net, Pipe},
    pump::built,
};
use crate::{
    address::Address,
    protocol::{Factory, Handle, IntoFactory, Transport},
    reactor::{
        Reactor,
        backend::{AnyWire, Wire},
    },
    task::Clock,
};
use std::{cell::RefCell, fmt, net::Ipv4Addr, rc::Rc, time::Duration};

/// A connection whose other side is the test: what the protocol writes lies here to be looked at,
/// and what the test gives is what arrives.
///
/// The protocol has a real [`Transport`], with its framing and its producers; only the network is
/// missing, and the time is that of the test's clock: when it is moved, what comes of that has
/// happened when `advance` returns. Asked to close, the connection ends as soon as all has been
/// taken into its room, without waiting for the other side.
///
/// ```
/// use twistor::{prelude::*, testing::{Clock, StringTransport}};
///
/// #[protocol(lines)]
/// struct Shouts;
///
/// #[protocol]
/// impl Shouts {
///     fn line_received(&mut self, line: &[u8], transport: &Transport) {
///         transport.send_line(line.to_ascii_uppercase());
///         transport.lose_connection();
///     }
/// }
///
/// let transport = StringTransport::new();
/// transport.connect(Shouts::factory(), &Clock::new());
/// transport.receive("hel");
/// assert_eq!(transport.take(), b"");
/// transport.receive("lo\r\n");
/// assert_eq!(transport.take(), b"HELLO\r\n");
/// assert!(transport.is_disconnecting());
/// ```
#[doc(alias = "StringTransportWithDisconnection")]
pub struct StringTransport {
    host: Address,
    peer: Address,
    room: usize,
    end: RefCell<Option<Side>>,
}

/// The test's side.
struct Side {
    reactor: Reactor,
    net: Rc<Net>,
    wire: Option<MemoryWire>,
    /// What the protocol has sent, and what it is to read.
    from_protocol: Rc<Pipe>,
    to_protocol: Rc<Pipe>,
    transport: Transport,
    /// Settles it when the clock is moved.
    _moved: Rc<dyn Fn()>,
}

/// How many bytes it has room for in each direction, unless it is told otherwise.
const ROOM: usize = 64 * 1024;

impl StringTransport {
    /// One between 127.0.0.1:80, the protocol's side, and 127.0.0.1:54321.
    pub fn new() -> Self {
        let at = |port| Address::from((Ipv4Addr::LOCALHOST.into(), port));
        Self { host: at(80), peer: at(54321), room: ROOM, end: RefCell::new(None) }
    }

    /// The same between two other addresses, the protocol's first.
    #[must_use]
    pub fn addresses(self, host: Address, peer: Address) -> Self {
        Self { host, peer, ..self }
    }

    /// The same with room for so many bytes in each direction until the other side has taken some:
    /// 65536 at first, and 1 at least.
    #[must_use]
    pub fn room(self, bytes: usize) -> Self {
        Self { room: bytes, ..self }
    }

    /// Has `factory` build a protocol for it, which is told that the connection is made.
    ///
    /// # Panics
    /// If the factory refuses or fails, and if the transport is connected already.
    #[track_caller]
    #[doc(alias = "makeConnection")]
    pub fn connect<F: IntoFactory>(
        &self,
        factory: F,
        clock: &Clock,
    ) -> Handle<<F::Factory as Factory>::Protocol> {
        assert!(self.end.borrow().is_none(), "this transport is connected already");
        let net = Net::new(Some(clock.clone()));
        net.set_capacity(self.room);
        let reactor = Reactor::with_timers(net.clone(), clock.timers());
        reactor.0.schedule.never_cork();
        let (theirs, mut ours, [from_protocol, to_protocol]) = net.pair(&self.host, &self.peer);
        // the test's side has a slot that nobody sits in
        let _ = ours.register(&*net, usize::MAX);
        let handle =
            built(reactor.put_on(AnyWire::new(theirs.without_lingering()), &self.peer, factory));
        let transport = handle.transport().clone();
        let (of, over) = (reactor.clone(), net.clone());
        let moved: Rc<dyn Fn()> = Rc::new(move || settle(&of, &over));
        clock.timers().on_advance(&moved);
        self.end.replace(Some(Side {
            reactor,
            net,
            wire: Some(ours),
            from_protocol,
            to_protocol,
            transport,
            _moved: moved,
        }));
        self.settle();
        handle
    }

    /// Gives `data` to the protocol: as one piece if there is room for it, else in pieces.
    ///
    /// # Panics
    /// If not all of it can arrive: the protocol reads no more, and there is no room left.
    #[track_caller]
    pub fn receive(&self, data: impl AsRef<[u8]>) {
        let mut left = data.as_ref();
        while !left.is_empty() {
            match self.with_wire(|wire| wire.write(left)) {
                Some(Ok(count)) => left = left.get(count..).unwrap_or_default(),
                given => panic!("{} bytes cannot arrive: {given:?}", left.len()),
            }
            self.settle();
        }
    }

    /// What the protocol has written since the last call; not what it goes on to write because this
    /// makes room.
    #[doc(alias = "value")]
    #[doc(alias = "clear")]
    pub fn take(&self) -> Vec<u8> {
        self.settle();
        let mut all = vec![0; self.untaken()];
        let mut taken = 0;
        while let Some(Ok(count @ 1..)) =
            self.with_wire(|wire| wire.read(all.get_mut(taken..).unwrap_or_default()))
        {
            taken += count;
            // there is room again
            self.settle();
        }
        all.truncate(taken);
        all
    }

    /// The same, at most `bytes` of it, as a slow reader would: the rest stays, and so does the
    /// pressure.
    pub fn take_up_to(&self, bytes: usize) -> Vec<u8> {
        self.settle();
        let mut taken = vec![0; bytes.min(self.in_the_room())];
        let count = self.with_wire(|wire| wire.read(&mut taken)).and_then(Result::ok).unwrap_or(0);
        taken.truncate(count);
        self.settle();
        taken
    }

    /// How many bytes lie in the room.
    fn in_the_room(&self) -> usize {
        self.end.borrow().as_ref().map_or(0, |end| end.from_protocol.len())
    }

    /// The other side ends its writing; the protocol reads on to here.
    pub fn end(&self) {
        // it has ended already if this fails
        let _ = self.with_wire(Wire::shutdown);
        self.settle();
    }

    /// The other side goes away with a reset.
    pub fn reset(&self) {
        let wire = self.end.borrow_mut().as_mut().and_then(|end| end.wire.take());
        if let Some(wire) = wire {
            let _ = wire.reset_on_drop();
        }
        self.settle();
    }

    /// Whether the protocol has asked for the end of the connection.
    #[doc(alias = "disconnecting")]
    pub fn is_disconnecting(&self) -> bool {
        self.settle();
        self.end.borrow().as_ref().is_some_and(|end| !end.transport.is_connected())
    }

    /// How many bytes the protocol's side has not read yet, because it has paused or is busy. What
    /// it has read and its framing keeps is not counted.
    #[doc(alias = "producerState")]
    pub fn unread(&self) -> usize {
        self.end.borrow().as_ref().map_or(0, |end| end.to_protocol.len())
    }

    /// How many bytes it has written that [`take`](Self::take) has not taken.
    pub fn untaken(&self) -> usize {
        self.end.borrow().as_ref().map_or(0, |end| end.from_protocol.len() + end.transport.queued())
    }

    fn with_wire<R>(
        &self,
        work: impl FnOnce(&MemoryWire) -> std::io::Result<R>,
    ) -> Option<std::io::Result<R>> {
        let end = self.end.borrow();
        end.as_ref().and_then(|end| end.wire.as_ref()).map(work)
    }

    fn settle(&self) {
        let end = self.end.borrow().as_ref().map(|end| (end.reactor.clone(), end.net.clone()));
        if let Some((reactor, net)) = end {
            settle(&reactor, &net);
        }
    }
}

/// Runs turns until nothing is left to do.
fn settle(reactor: &Reactor, net: &Net) {
    // a handler that looks at its own transport is inside a turn, and that one goes on
    while reactor.iterate(Duration::ZERO).is_ok() && (net.is_busy() || reactor.has_work()) {}
}

impl Default for StringTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.reactor.close();
    }
}

impl fmt::Debug for StringTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<StringTransport {} to {}, {} bytes written>",
            self.host,
            self.peer,
            self.untaken()
        )
    }
}

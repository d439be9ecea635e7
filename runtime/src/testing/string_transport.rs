//! A connection whose peer is the test itself.
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

/// A connection whose peer is the test: the test reads what the protocol has written, and provides
/// what the protocol receives.
///
/// The protocol has a real [`Transport`], with its framing and its producers; only the network is
/// missing. The time is that of the test's clock: when `advance` returns, all consequences have
/// happened. A close that the protocol requests is complete as soon as its output has been written
/// into the buffer; it does not wait for the peer.
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
    send_buffer: usize,
    end: RefCell<Option<Side>>,
}

/// The test's side.
struct Side {
    reactor: Reactor,
    net: Rc<Net>,
    wire: Option<MemoryWire>,
    /// What the protocol has sent, and what it will receive.
    from_protocol: Rc<Pipe>,
    to_protocol: Rc<Pipe>,
    transport: Transport,
    /// Called when the clock is advanced: settles the connection.
    _moved: Rc<dyn Fn()>,
}

/// The default capacity of each direction, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

impl StringTransport {
    /// Creates a connection between 127.0.0.1:80, the protocol's side, and 127.0.0.1:54321.
    pub fn new() -> Self {
        let at = |port| Address::from((Ipv4Addr::LOCALHOST.into(), port));
        Self { host: at(80), peer: at(54321), send_buffer: SEND_BUFFER, end: RefCell::new(None) }
    }

    /// Sets the two addresses, the protocol's first.
    #[must_use]
    pub fn addresses(self, host: Address, peer: Address) -> Self {
        Self { host, peer, ..self }
    }

    /// Sets the capacity of each direction: the number of bytes it holds until the other side has
    /// taken some. The default is 65536, the minimum 1.
    #[must_use]
    pub fn send_buffer(self, bytes: usize) -> Self {
        Self { send_buffer: bytes, ..self }
    }

    /// Connects a protocol that `factory` builds, and calls its `connection_made`.
    ///
    /// # Panics
    /// Panics if the factory refuses or fails, and if the transport is connected already.
    #[track_caller]
    #[doc(alias = "makeConnection")]
    pub fn connect<F: IntoFactory>(
        &self,
        factory: F,
        clock: &Clock,
    ) -> Handle<<F::Factory as Factory>::Protocol> {
        assert!(self.end.borrow().is_none(), "this transport is connected already");
        let net = Net::new(Some(clock.clone()));
        net.set_capacity(self.send_buffer);
        let reactor = Reactor::with_timers(net.clone(), clock.timers());
        reactor.0.schedule.never_cork();
        let (theirs, mut ours, [from_protocol, to_protocol]) = net.pair(&self.host, &self.peer);
        // the test's side has a slot number that no source uses
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

    /// Delivers `data` to the protocol: in one piece if there is room for it, otherwise in several.
    ///
    /// # Panics
    /// Panics if not all of it can be delivered, because the protocol has stopped reading and there
    /// is no room left.
    #[track_caller]
    pub fn receive(&self, data: impl AsRef<[u8]>) {
        let mut left = data.as_ref();
        while !left.is_empty() {
            match self.with_wire(|wire| wire.write(left)) {
                Some(Ok(count)) => left = left.get(count..).unwrap_or_default(),
                given => panic!("{} bytes cannot be delivered: {given:?}", left.len()),
            }
            self.settle();
        }
    }

    /// Returns what the protocol has written since the last call, but not what it continues to
    /// write because this makes room.
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

    /// Returns at most `bytes` of what the protocol has written, as a slow reader would. The rest
    /// stays, and so does the back-pressure.
    pub fn take_up_to(&self, bytes: usize) -> Vec<u8> {
        self.settle();
        let mut taken = vec![0; bytes.min(self.buffered())];
        let count = self.with_wire(|wire| wire.read(&mut taken)).and_then(Result::ok).unwrap_or(0);
        taken.truncate(count);
        self.settle();
        taken
    }

    /// Returns the number of bytes in the buffer.
    fn buffered(&self) -> usize {
        self.end.borrow().as_ref().map_or(0, |end| end.from_protocol.len())
    }

    /// Sends the protocol an end of file behind everything delivered so far.
    pub fn end(&self) {
        // an error means that it was sent before
        let _ = self.with_wire(Wire::shutdown);
        self.settle();
    }

    /// Resets the connection.
    pub fn reset(&self) {
        let wire = self.end.borrow_mut().as_mut().and_then(|end| end.wire.take());
        if let Some(wire) = wire {
            let _ = wire.reset_on_drop();
        }
        self.settle();
    }

    /// Returns whether the protocol has asked to close the connection.
    #[doc(alias = "disconnecting")]
    pub fn is_disconnecting(&self) -> bool {
        self.settle();
        self.end.borrow().as_ref().is_some_and(|end| !end.transport.is_connected())
    }

    /// Returns the number of bytes that the protocol's side has not read yet, because it is paused
    /// or busy. Bytes in the buffer of its framing do not count.
    #[doc(alias = "producerState")]
    pub fn unread(&self) -> usize {
        self.end.borrow().as_ref().map_or(0, |end| end.to_protocol.len())
    }

    /// Returns the number of written bytes that [`take`](Self::take) has not returned yet.
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

/// Runs turns until there is nothing left to do.
fn settle(reactor: &Reactor, net: &Net) {
    // `iterate` fails inside a turn, when a handler looks at its own transport; that turn goes on
    // by itself
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

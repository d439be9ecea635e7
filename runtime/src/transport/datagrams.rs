//! Datagram ports of every kind: the protocol, its transport, and the read loop.
use super::{back_off::BackOff, listener::log_closed};
use crate::{
    address::Address,
    defer::{Deferred, Resolver},
    error::{InvalidAddressError, MessageLengthError, NotListeningError, RuntimeError},
    failure::{Failure, Frame},
    protocol::{NotNow, last_name},
    reactor::{
        Core,
        backend::{DatagramOption, Datagrams, Group},
        source::{Readiness, Source},
    },
    report::{drop_guarded, guarded, report},
};
use rustix::io::Errno;
use std::{
    any::type_name,
    cell::{Cell, RefCell},
    fmt,
    io::{self, ErrorKind},
    panic::Location,
    rc::{Rc, Weak},
};

/// The maximum number of datagrams read for one event.
const READS_PER_TURN: u32 = 64;

/// Handles the events of a datagram port. A panic in a handler is reported, and the port stays
/// open.
///
/// ```
/// use twistor::{address::Address, transport::{DatagramProtocol, DatagramTransport}};
///
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn datagram_received(
///         &mut self,
///         datagram: &[u8],
///         from: &Address,
///         transport: &DatagramTransport,
///     ) {
///         // a datagram that cannot be sent is lost, as on the way
///         let _ = transport.write(datagram, from);
///     }
/// }
/// ```
#[doc(alias = "IDatagramProtocol")]
pub trait DatagramProtocol: Sized + 'static {
    /// Called when the port is open.
    #[doc(alias = "startProtocol")]
    fn start_protocol(&mut self, transport: &DatagramTransport) {
        let _ = transport;
    }

    /// Called for each datagram, with the address of the sender; that of an unnamed UNIX socket is
    /// `Address::Unix(None)`.
    ///
    /// A datagram may be empty. One of more than 98304 bytes, which only UNIX sockets can send, is
    /// reported and dropped.
    #[doc(alias = "datagramReceived")]
    fn datagram_received(&mut self, datagram: &[u8], from: &Address, transport: &DatagramTransport);

    /// Called on a connected port when no program listens at the peer's address.
    #[doc(alias = "connectionRefused")]
    fn connection_refused(&mut self, transport: &DatagramTransport) {
        let _ = transport;
    }

    /// Called when the port is closed.
    #[doc(alias = "stopProtocol")]
    fn stop_protocol(&mut self) {}
}

/// The sending side of a datagram port. Clones are the same port. None of its methods calls a
/// handler.
#[doc(alias = "IUDPTransport")]
#[derive(Clone)]
pub struct DatagramTransport(Rc<Socket>);

struct Socket {
    open: RefCell<Option<Box<dyn Datagrams>>>,
    host: Address,
    peer: RefCell<Option<Address>>,
    core: Weak<Core>,
    slot: Cell<usize>,
    /// A send on a connected port was refused; the handler is called in a later turn.
    refused: Cell<bool>,
    back_off: BackOff,
}

impl DatagramTransport {
    /// Sends one datagram to `to`, or with `None` to the peer of a connected port. It is sent at
    /// once or not at all.
    ///
    /// # Errors
    /// Fails with [`InvalidAddressError`] for a host name, for an address of another kind than the
    /// port's, and on a connected port for any address but the peer's. Fails with
    /// [`MessageLengthError`], with [`NotListeningError`] after the port was closed, and with an
    /// operating-system error, which is [`WouldBlock`](ErrorKind::WouldBlock) if the send buffer is
    /// full. A peer that does not listen is not an error here.
    pub fn write<'a>(
        &self,
        datagram: impl AsRef<[u8]>,
        to: impl Into<Option<&'a Address>>,
    ) -> Result<(), Failure> {
        let (datagram, to) = (datagram.as_ref(), to.into());
        let peer = self.0.peer.borrow().clone();
        let to = match (to, &peer) {
            (Some(to), Some(peer)) if to != peer => {
                return Err(InvalidAddressError::with_text(format!(
                    "the port is connected to {peer}"
                ))
                .with_address(to.clone())
                .into());
            }
            (_, Some(_)) => None,
            (Some(to), None) => Some(self.usable(to)?),
            (None, None) => {
                return Err(RuntimeError::with_text(
                    "a port that is not connected needs an address to send to",
                )
                .into());
            }
        };
        loop {
            match self.with_socket(|socket| socket.send(datagram, to)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    if peer.is_some() && !self.0.refused.replace(true) {
                        self.reschedule();
                    }
                    return Ok(());
                }
                Err(error) if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) => {
                    return Err(MessageLengthError::with_text(format!(
                        "a datagram of {} bytes",
                        datagram.len()
                    ))
                    .into());
                }
                Err(error) => return Err(self.closed_or(error)),
            }
        }
    }

    /// Sends the pieces as one datagram.
    ///
    /// # Errors
    /// Fails as [`write`](Self::write) does.
    #[doc(alias = "writeSequence")]
    pub fn write_sequence<'a, D: AsRef<[u8]>>(
        &self,
        pieces: impl IntoIterator<Item = D>,
        to: impl Into<Option<&'a Address>>,
    ) -> Result<(), Failure> {
        let mut datagram = Vec::new();
        for piece in pieces {
            datagram.extend_from_slice(piece.as_ref());
        }
        self.write(datagram, to)
    }

    /// Connects the port to a peer: from then on it sends to `to` and receives from `to` only, and
    /// `connection_refused` is called if no program listens there.
    ///
    /// # Errors
    /// Fails with [`InvalidAddressError`] for a host name or an address of another kind, with
    /// [`RuntimeError`] if the port is connected already, and with an operating-system error.
    pub fn connect(&self, to: &Address) -> Result<(), Failure> {
        if let Some(peer) = &*self.0.peer.borrow() {
            return Err(RuntimeError::with_text(format!(
                "the port is connected already, to {peer}"
            ))
            .into());
        }
        let to = self.usable(to)?;
        self.with_socket(|socket| socket.connect(to)).map_err(|error| self.closed_or(error))?;
        *self.0.peer.borrow_mut() = Some(to.clone());
        Ok(())
    }

    /// Closes the port; `stop_protocol` is called in a later turn.
    #[doc(alias = "stopListening")]
    pub fn stop_listening(&self) {
        // there is no caller to return the error of the close to
        if let Err(error) = self.close() {
            tracing::warn!("closing the port {}: {error}", self.0.host);
        }
    }

    fn close(&self) -> io::Result<()> {
        let Some(socket) = self.0.open.take() else { return Ok(()) };
        self.0.back_off.cancel();
        let closed = socket.close();
        log_closed("UDP", &self.0.host);
        self.reschedule();
        closed
    }

    /// Returns the local address, with the actual port number if port 0 was requested.
    #[doc(alias = "getHost")]
    pub fn host(&self) -> Address {
        self.0.host.clone()
    }

    /// Returns the peer's address, if the port is connected.
    pub fn peer(&self) -> Option<Address> {
        self.0.peer.borrow().clone()
    }

    /// Returns whether the port is open.
    pub fn is_listening(&self) -> bool {
        self.0.open.borrow().is_some()
    }

    pub(super) fn set_option(&self, option: DatagramOption) -> Result<(), Failure> {
        self.with_socket(|socket| socket.set_option(option)).map_err(|error| self.closed_or(error))
    }

    pub(super) fn option(&self, option: DatagramOption) -> Result<DatagramOption, Failure> {
        self.with_socket(|socket| socket.option(option)).map_err(|error| self.closed_or(error))
    }

    pub(super) fn group(&self, group: &Group) -> io::Result<()> {
        self.with_socket(|socket| socket.group(group))
    }

    fn with_socket<R>(&self, work: impl FnOnce(&dyn Datagrams) -> io::Result<R>) -> io::Result<R> {
        match &*self.0.open.borrow() {
            Some(socket) => work(&**socket),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Converts the error of a call, which is `NotListeningError` on a closed port.
    fn closed_or(&self, error: io::Error) -> Failure {
        if self.is_listening() {
            error.into()
        } else {
            NotListeningError::with_text(self.0.host.to_string()).into()
        }
    }

    /// Returns `to` if this port can send there.
    fn usable<'a>(&self, to: &'a Address) -> Result<&'a Address, Failure> {
        let fits = match (&self.0.host, to) {
            (Address::IPv4(_), Address::IPv4(_))
            | (Address::IPv6(_), Address::IPv6(_))
            | (Address::Unix(_), Address::Unix(Some(_))) => true,
            (_, Address::Hostname(..)) => {
                let text = "expected an address, and found a host name: resolve it first";
                return Err(InvalidAddressError::with_text(text).with_address(to.clone()).into());
            }
            _ => false,
        };
        if fits {
            return Ok(to);
        }
        Err(InvalidAddressError::with_text(format!("the port is bound to {}", self.0.host))
            .with_address(to.clone())
            .into())
    }

    fn reschedule(&self) {
        if let Some(core) = self.0.core.upgrade() {
            core.reschedule(self.0.slot.get(), Readiness::AGAIN);
        }
    }
}

/// An open datagram port with its protocol. Clones are the same port; dropping it changes nothing.
#[must_use = "keep it to stop listening; dropping it does not"]
pub struct DatagramPort<P: 'static>(Rc<Bound<P>>);

struct Bound<P: 'static> {
    transport: DatagramTransport,
    protocol: RefCell<Option<P>>,
    /// The Deferred that returns the protocol.
    stopping: RefCell<Option<Resolver<P>>>,
}

impl<P: DatagramProtocol> DatagramPort<P> {
    /// Opens a port for `protocol` on `socket`.
    pub(super) fn open(
        core: &Rc<Core>,
        mut socket: Box<dyn Datagrams>,
        protocol: P,
        created_at: &'static Location<'static>,
    ) -> io::Result<Self> {
        let host = socket.host()?;
        let slot = core.reserve();
        if let Err(error) = socket.register(slot) {
            core.remove(slot);
            return Err(error);
        }
        core.set_created_at(slot, created_at);
        let transport = DatagramTransport(Rc::new(Socket {
            open: RefCell::new(Some(socket)),
            host,
            peer: RefCell::default(),
            core: Rc::downgrade(core),
            slot: Cell::new(slot),
            refused: Cell::new(false),
            back_off: BackOff::default(),
        }));
        let bound = Rc::new(Bound {
            transport,
            protocol: RefCell::new(Some(protocol)),
            stopping: RefCell::default(),
        });
        core.fill(slot, bound.clone());
        tracing::info!("{} starting on {}", last_name(type_name::<P>()), bound.transport.0.host);
        bound.enter("start_protocol", DatagramProtocol::start_protocol);
        Ok(Self(bound))
    }

    /// Returns the transport.
    pub fn transport(&self) -> &DatagramTransport {
        &self.0.transport
    }

    /// Returns the local address, with the actual port number if port 0 was requested.
    #[doc(alias = "getHost")]
    pub fn host(&self) -> Address {
        self.0.transport.host()
    }

    /// Runs `f` on the protocol now, or returns why it cannot.
    ///
    /// # Errors
    /// Fails with [`NotNow::Busy`] inside one of its handlers, and with [`NotNow::Lost`] after the
    /// protocol was returned.
    pub fn try_with<V>(&self, f: impl FnOnce(&mut P) -> V) -> Result<V, NotNow> {
        match self.0.protocol.try_borrow_mut() {
            Err(_) => Err(NotNow::Busy),
            Ok(mut protocol) => match &mut *protocol {
                // user code
                Some(protocol) => Ok(f(protocol)),
                None => Err(NotNow::Lost(self.not_listening())),
            },
        }
    }

    /// Closes the port, and returns the protocol after its `stop_protocol` has run in a later turn,
    /// so that it can be used again.
    ///
    /// # Errors
    /// Fails with the operating-system error of the close, and with [`NotListeningError`] if the
    /// protocol was returned before.
    #[doc(alias = "stopListening")]
    #[track_caller]
    pub fn stop_listening(&self) -> Deferred<P> {
        if self.0.stopping.borrow().is_some() {
            return Deferred::fail(self.not_listening());
        }
        if let Err(error) = self.0.transport.close() {
            return Deferred::fail(error);
        }
        if self.0.is_released() {
            return match self.0.protocol.try_borrow_mut() {
                Ok(mut held) => held
                    .take()
                    .map_or_else(|| Deferred::fail(self.not_listening()), Deferred::succeed),
                Err(_) => Deferred::fail(NotNow::Busy),
            };
        }
        let (deferred, resolver) = Deferred::new();
        self.0.stopping.replace(Some(resolver));
        deferred
    }

    fn not_listening(&self) -> Failure {
        NotListeningError::with_text(self.host().to_string()).into()
    }
}

impl<P: DatagramProtocol> Bound<P> {
    /// Returns whether the port has given up its slot.
    fn is_released(&self) -> bool {
        self.transport.0.slot.get() == usize::MAX
    }

    /// Runs a handler. A panic in it is reported.
    fn enter(&self, handler: &'static str, run: impl FnOnce(&mut P, &DatagramTransport)) {
        let result = guarded(
            || Frame::new(handler, Location::caller()),
            || {
                // user code
                if let Some(protocol) = &mut *self.protocol.borrow_mut() {
                    run(protocol, &self.transport);
                }
            },
        );
        if let Err(failure) = result {
            report(
                failure,
                format!("{handler} of {}, port {}", type_name::<P>(), self.transport.0.host),
            );
        }
    }

    fn finish(&self) {
        let slot = self.transport.0.slot.get();
        if self.is_released() {
            return;
        }
        if let Some(core) = self.transport.0.core.upgrade() {
            core.remove(slot);
        }
        self.enter("stop_protocol", |protocol, _| protocol.stop_protocol());
        self.transport.0.slot.set(usize::MAX);
        if let Some(resolver) = self.stopping.take()
            && let Some(protocol) = self.protocol.take()
        {
            // user code
            resolver.callback(protocol);
        }
    }

    /// Reports a datagram that did not fit into the read buffer, of which the rest is lost.
    #[cold]
    fn too_long(&self, length: usize, from: &Address, limit: usize) {
        let text = format!("a datagram of {length} bytes: the limit is {limit}");
        report(
            MessageLengthError::with_text(text).with_address(from.clone()).into(),
            format!("reading from the port {}", self.transport.0.host),
        );
    }

    /// Reports an error of the socket, and reads again after a while, because the error may
    /// persist.
    #[cold]
    fn retry_later(&self, error: io::Error) {
        let socket = &self.transport.0;
        let Some(core) = socket.core.upgrade() else { return };
        if socket.back_off.wait(&core, socket.slot.get()) {
            report(error.into(), format!("reading from the port {}", socket.host));
        }
    }

    fn refused(&self) {
        if self.transport.0.peer.borrow().is_some() {
            self.enter("connection_refused", DatagramProtocol::connection_refused);
        }
    }
}

impl<P: DatagramProtocol> Source for Bound<P> {
    fn ready(self: Rc<Self>, _readiness: Readiness, buffer: &mut [u8]) {
        let socket = &self.transport.0;
        if socket.refused.take() {
            self.refused();
        }
        if socket.back_off.is_waiting() {
            return;
        }
        for _ in 0..READS_PER_TURN {
            match self.transport.with_socket(|socket| socket.receive(buffer)) {
                Ok((length, from)) => {
                    socket.back_off.succeeded(|| format!("the port {}", socket.host));
                    match buffer.get(..length) {
                        Some(datagram) => self.enter("datagram_received", |protocol, transport| {
                            protocol.datagram_received(datagram, &from, transport);
                        }),
                        None => self.too_long(length, &from, buffer.len()),
                    }
                }
                Err(_) if !self.transport.is_listening() => return self.finish(),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionRefused => self.refused(),
                    _ => return self.retry_later(error),
                },
            }
        }
        self.transport.reschedule();
    }

    fn describe(&self) -> Option<String> {
        Some(format!("the port {}, of {}", self.transport.0.host, type_name::<P>()))
    }

    fn closed(self: Rc<Self>) {
        let socket = self.transport.0.open.take();
        drop(socket);
        self.transport.0.slot.set(usize::MAX);
        let resolver = self.stopping.take();
        drop(resolver);
        // user code: the drop of the protocol
        let protocol = self.protocol.try_borrow_mut().ok().and_then(|mut held| held.take());
        drop_guarded(protocol);
    }
}

impl<P> Clone for DatagramPort<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P> fmt::Debug for DatagramPort<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, last_name(type_name::<P>()), &self.0.transport)
    }
}

impl fmt::Debug for DatagramTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "DatagramTransport", self)
    }
}

fn describe(f: &mut fmt::Formatter<'_>, name: &str, transport: &DatagramTransport) -> fmt::Result {
    if transport.is_listening() {
        write!(f, "<{name} on {}>", transport.0.host)
    } else {
        write!(f, "<{name}, not listening>")
    }
}

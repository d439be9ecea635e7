//! Connector: the attempts and connections of a client, and the events for its factory.
//!
//! ```text
//!                 connect                    connection made
//!   Disconnected ─────────▶ Connecting ────────────────────▶ Connected
//!        ▲                      │ client_connection_failed        │ client_connection_lost
//!        └──────────────────────┴─────────────────────────────────┘
//! ```
//! The factory may call `connect` again inside either method; if it does not, `stop_factory` is
//! called.
use super::{
    ConnectTcpOptions,
    connecting::{connect, stop_factory},
    listener::erase_factory,
};
use crate::{
    address::Address,
    defer::{CancelHandle, Deferred},
    error::{NotConnectingError, ReactorClosed, RuntimeError, UserError},
    failure::{Failure, Frame},
    protocol::{ErasedConnection, ErasedFactory, Factory, IntoFactory, OnClosed},
    reactor::{Core, Reactor, backend::Dial},
    report::{guarded, report},
    stream::{Stream, Transport},
};
use std::{
    any::type_name,
    cell::{Cell, RefCell},
    fmt,
    net::SocketAddr,
    panic::Location,
    rc::{Rc, Weak},
    time::Duration,
};

/// A factory that receives the events of a [`Connector`], and may connect again.
///
/// ```
/// use std::rc::Rc;
/// use twistor::prelude::*;
/// use twistor::transport::{ClientFactory, Connector};
///
/// #[protocol]
/// #[derive(Default)]
/// struct Client;
/// #[protocol]
/// impl Client {}
///
/// #[derive(Factory)]
/// #[factory(protocol = Client)]
/// struct Again;
///
/// impl ClientFactory for Again {
///     fn client_connection_lost(self: &Rc<Self>, connector: &Connector, reason: &Failure) {
///         println!("lost {}: {reason}; connecting again", connector.destination());
///         let _ = connector.connect();
///     }
/// }
/// ```
#[doc(alias = "protocol.ClientFactory")]
pub trait ClientFactory: Factory {
    /// Called when an attempt begins.
    #[doc(alias = "startedConnecting")]
    fn started_connecting(self: &Rc<Self>, connector: &Connector) {
        let _ = connector;
    }

    /// Called when the attempt has failed, for the reasons of [`Reactor::connect_tcp`], or with
    /// [`UserError`] after [`Connector::stop_connecting`].
    #[doc(alias = "clientConnectionFailed")]
    fn client_connection_failed(self: &Rc<Self>, connector: &Connector, reason: &Failure) {
        let _ = (connector, reason);
    }

    /// Called when the connection has closed, after its protocol's `connection_lost`.
    #[doc(alias = "clientConnectionLost")]
    fn client_connection_lost(self: &Rc<Self>, connector: &Connector, reason: &Failure) {
        let _ = (connector, reason);
    }
}

/// The state of a [`Connector`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectorState {
    /// There is neither an attempt nor a connection.
    Disconnected,
    /// An attempt is in progress.
    Connecting,
    /// There is a connection.
    Connected,
}

/// A [`ClientFactory`], type-erased.
trait Client {
    fn acceptor(&self) -> Rc<dyn ErasedFactory>;
    fn started(&self, connector: &Connector);
    fn failed(&self, connector: &Connector, reason: &Failure);
    fn lost(&self, connector: &Connector, reason: &Failure);
}

struct Typed<F>(Rc<F>);

impl<F: ClientFactory> Typed<F> {
    /// Calls a method of the factory. A panic in it is reported, and the connector continues.
    fn deliver(&self, name: &'static str, call: impl FnOnce(&Rc<F>)) {
        // user code
        if let Err(failure) = guarded(|| Frame::new(name, Location::caller()), || call(&self.0)) {
            report(failure, format!("{name} of {}", type_name::<F>()));
        }
    }
}

impl<F: ClientFactory> Client for Typed<F> {
    fn acceptor(&self) -> Rc<dyn ErasedFactory> {
        erase_factory(self.0.clone())
    }

    fn started(&self, connector: &Connector) {
        self.deliver("started_connecting", |factory| factory.started_connecting(connector));
    }

    fn failed(&self, connector: &Connector, reason: &Failure) {
        self.deliver("client_connection_failed", |factory| {
            factory.client_connection_failed(connector, reason);
        });
    }

    fn lost(&self, connector: &Connector, reason: &Failure) {
        self.deliver("client_connection_lost", |factory| {
            factory.client_connection_lost(connector, reason);
        });
    }
}

/// The function that makes one attempt.
type Dialler = Box<dyn Fn(Rc<dyn ErasedFactory>) -> Deferred<()>>;

/// A client that connects, reports to its [`ClientFactory`], and can connect again. Clones are the
/// same connector; dropping it changes nothing.
///
/// ```no_run
/// # use std::rc::Rc;
/// # use twistor::prelude::*;
/// # use twistor::transport::{ClientFactory, ConnectTcpOptions, Connector};
/// # fn example(reactor: &Reactor, factory: impl ClientFactory) {
/// let to = ([127, 0, 0, 1], 8007);
/// let connector = Connector::tcp(reactor, to, factory, &ConnectTcpOptions::default());
/// println!("{connector:?}"); // <Connector to 127.0.0.1:8007, connecting>
/// # }
/// ```
#[doc(alias = "IConnector")]
#[derive(Clone)]
pub struct Connector(Rc<Inner>);

struct Inner {
    client: Box<dyn Client>,
    acceptor: Rc<dyn ErasedFactory>,
    dial: Dialler,
    destination: Address,
    core: Weak<Core>,
    state: Cell<ConnectorState>,
    attempt: RefCell<Option<CancelHandle>>,
    transport: RefCell<Transport>,
    /// Whether this connector counts as a user of the factory.
    is_counted: Cell<bool>,
    /// Whether `stop_connecting` was called.
    stopping: Cell<bool>,
    /// Whether a method of the connector is running: its events are delivered in a later turn.
    in_method: Cell<bool>,
}

impl Connector {
    /// Connects `factory` to a TCP address.
    #[doc(alias = "connectTCP")]
    #[track_caller]
    pub fn tcp<F: IntoFactory>(
        reactor: &Reactor,
        to: impl Into<SocketAddr>,
        factory: F,
        options: &ConnectTcpOptions,
    ) -> Self
    where
        F::Factory: ClientFactory,
    {
        let dial = Dial {
            to: to.into().into(),
            from: options.bind_address,
            created_at: Location::caller(),
        };
        let (destination, timeout) = (dial.to.clone(), options.timeout);
        Self::start(reactor, destination, factory.into_factory(), move |reactor, acceptor| {
            connect(reactor, &dial, acceptor, timeout)
        })
    }

    /// Connects `factory` to an address of any kind; `dial` makes one attempt.
    pub(super) fn start<F: ClientFactory>(
        reactor: &Reactor,
        destination: Address,
        factory: Rc<F>,
        dial: impl Fn(&Reactor, Rc<dyn ErasedFactory>) -> Deferred<()> + 'static,
    ) -> Self {
        let core = Rc::downgrade(&reactor.0);
        let client = Box::new(Typed(factory));
        let connector = Self(Rc::new(Inner {
            acceptor: client.acceptor(),
            client,
            dial: Box::new(move |acceptor| match core.upgrade() {
                Some(core) => dial(&Reactor(core), acceptor),
                None => Deferred::fail(ReactorClosed::new()),
            }),
            destination,
            core: Rc::downgrade(&reactor.0),
            state: Cell::new(ConnectorState::Disconnected),
            attempt: RefCell::default(),
            transport: RefCell::default(),
            is_counted: Cell::new(false),
            stopping: Cell::new(false),
            in_method: Cell::new(false),
        }));
        // the connector is disconnected, so this fails only on a closed reactor
        let _ = connector.connect();
        connector
    }

    /// Starts another attempt.
    ///
    /// # Errors
    /// Fails with [`RuntimeError`] unless the state is [`ConnectorState::Disconnected`], and with
    /// [`ReactorClosed`].
    pub fn connect(&self) -> Result<(), Failure> {
        let inner = &self.0;
        if inner.state.get() != ConnectorState::Disconnected {
            return Err(RuntimeError::with_text(format!("{self:?} cannot connect")).into());
        }
        if inner.open_core().is_none() {
            return Err(ReactorClosed::new().into());
        }
        inner.state.set(ConnectorState::Connecting);
        inner.stopping.set(false);
        if !inner.is_counted.replace(true) {
            inner.acceptor.start();
        }
        let outer = inner.in_method.replace(true);
        let attempt = (inner.dial)(Rc::new(ConnectorFactory {
            inner: inner.acceptor.clone(),
            connector: self.clone(),
        }));
        let canceller = attempt.canceller();
        inner.attempt.replace(Some(canceller.clone()));
        let ended = self.clone();
        attempt.add_both(move |result| ended.attempt_ended(result)).detach();
        if inner.stopping.get() {
            // stopped by `start_factory`, before the attempt had begun
            canceller.cancel();
        }
        inner.in_method.set(outer);
        inner.client.started(self);
        Ok(())
    }

    /// Stops the attempt: [`ClientFactory::client_connection_failed`] is called with a
    /// [`UserError`], in a later turn.
    ///
    /// # Errors
    /// Fails with [`NotConnectingError`] unless the state is [`ConnectorState::Connecting`].
    #[doc(alias = "stopConnecting")]
    pub fn stop_connecting(&self) -> Result<(), Failure> {
        let inner = &self.0;
        if inner.state.get() != ConnectorState::Connecting || inner.stopping.replace(true) {
            return Err(NotConnectingError::with_text(format!("{self:?}")).into());
        }
        let attempt = inner.attempt.take();
        let outer = inner.in_method.replace(true);
        if let Some(attempt) = attempt {
            attempt.cancel();
        }
        inner.in_method.set(outer);
        Ok(())
    }

    /// Stops the attempt, or closes the connection as [`Transport::lose_connection`] does. The
    /// factory's methods are called as usual.
    pub fn disconnect(&self) {
        match self.0.state.get() {
            ConnectorState::Disconnected => {}
            // an attempt is in progress, so this succeeds
            ConnectorState::Connecting => drop(self.stop_connecting()),
            ConnectorState::Connected => self.transport().lose_connection(),
        }
    }

    /// Returns the address that it connects to.
    #[doc(alias = "getDestination")]
    pub fn destination(&self) -> Address {
        self.0.destination.clone()
    }

    /// Returns the connector's current state.
    pub fn state(&self) -> ConnectorState {
        self.0.state.get()
    }

    /// Returns the transport of its connection, or an unconnected one if there is none.
    pub fn transport(&self) -> Transport {
        self.0.transport.borrow().clone()
    }

    /// Handles the result of the attempt.
    fn attempt_ended(&self, result: Result<(), Failure>) {
        let inner = &self.0;
        inner.attempt.take();
        // if there was a connection, its loss has been or will be reported, even after a failed
        // `connection_made`
        let (ConnectorState::Connecting, Err(failure)) = (inner.state.get(), result) else {
            return;
        };
        inner.state.set(ConnectorState::Disconnected);
        let reason = if inner.stopping.get() {
            UserError::new().with_address(inner.destination.clone()).into()
        } else {
            failure
        };
        let Some(core) = inner.open_core() else { return self.release_factory() };
        let notice = FailureNotice { connector: self.clone(), reason: Some(reason) };
        if !inner.in_method.get() {
            return notice.deliver();
        }
        // a failure inside a method of the connector is reported after that method has returned
        inner.state.set(ConnectorState::Connecting);
        core.timer(Duration::ZERO, move || notice.deliver());
    }

    fn on_connected(&self, transport: Transport) {
        if self.0.state.get() == ConnectorState::Connecting && !self.0.stopping.get() {
            self.0.state.set(ConnectorState::Connected);
            self.0.transport.replace(transport);
        }
    }

    fn lost(&self, reason: &Failure) {
        if self.0.state.get() != ConnectorState::Connected {
            return;
        }
        self.0.state.set(ConnectorState::Disconnected);
        self.0.transport.take();
        if self.0.open_core().is_some() {
            self.0.client.lost(self, reason);
        }
        self.release_factory();
    }

    /// Releases the factory, unless it has connected again.
    fn release_factory(&self) {
        if self.0.state.get() == ConnectorState::Disconnected && self.0.is_counted.replace(false) {
            stop_factory(&self.0.acceptor, &self.0.destination);
        }
    }
}

impl Inner {
    /// Returns the reactor's core, unless the reactor is closed.
    fn open_core(&self) -> Option<Rc<Core>> {
        self.core.upgrade().filter(|core| !core.is_closed())
    }
}

/// A pending `client_connection_failed`. If the reactor closes first it is dropped without a call;
/// the factory is stopped either way.
struct FailureNotice {
    connector: Connector,
    reason: Option<Failure>,
}

impl FailureNotice {
    fn deliver(mut self) {
        if let Some(reason) = self.reason.take() {
            self.connector.0.state.set(ConnectorState::Disconnected);
            self.connector.0.client.failed(&self.connector, &reason);
        }
    }
}

impl Drop for FailureNotice {
    fn drop(&mut self) {
        if self.reason.is_some() {
            self.connector.0.state.set(ConnectorState::Disconnected);
        }
        self.connector.release_factory();
    }
}

/// The factory of the attempts, which tells the connector of connections that are made and lost.
struct ConnectorFactory {
    inner: Rc<dyn ErasedFactory>,
    connector: Connector,
}

impl ErasedFactory for ConnectorFactory {
    fn start(&self) {
        self.inner.start();
    }

    fn stop(&self) -> Result<(), Failure> {
        self.inner.stop()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn accept(
        &self,
        stream: Rc<Stream>,
        peer: &Address,
        on_closed: OnClosed,
    ) -> Result<Rc<dyn ErasedConnection>, Failure> {
        let lost = self.connector.clone();
        let both: OnClosed = Some(Box::new(move |reason| {
            if let Some(on_closed) = on_closed {
                on_closed(reason);
            }
            lost.lost(reason);
        }));
        let connection = self.inner.accept(stream.clone(), peer, both)?;
        self.connector.on_connected(Transport(Some(stream)));
        Ok(connection)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state() {
            ConnectorState::Disconnected => "disconnected",
            ConnectorState::Connecting => "connecting",
            ConnectorState::Connected => "connected",
        };
        write!(f, "<Connector to {}, {state}>", self.0.destination)
    }
}

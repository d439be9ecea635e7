//! Connector: the attempts of a client that may connect more than once, and what its factory hears
//! of them.
//!
//! ```text
//!                 connect                    connection made
//!   Disconnected ─────────▶ Connecting ────────────────────▶ Connected
//!        ▲                      │ client_connection_failed        │ client_connection_lost
//!        └──────────────────────┴─────────────────────────────────┘
//! ```
//! The factory may call `connect` again inside either; if it does not, it is stopped.
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

/// A factory that hears how its connections come and go, and may connect again.
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
    /// An attempt has begun.
    #[doc(alias = "startedConnecting")]
    fn started_connecting(self: &Rc<Self>, connector: &Connector) {
        let _ = connector;
    }

    /// The attempt has failed: for the reasons of [`Reactor::connect_tcp`], or [`UserError`] after
    /// [`Connector::stop_connecting`].
    #[doc(alias = "clientConnectionFailed")]
    fn client_connection_failed(self: &Rc<Self>, connector: &Connector, reason: &Failure) {
        let _ = (connector, reason);
    }

    /// The connection is over, after its protocol's `connection_lost`.
    #[doc(alias = "clientConnectionLost")]
    fn client_connection_lost(self: &Rc<Self>, connector: &Connector, reason: &Failure) {
        let _ = (connector, reason);
    }
}

/// Where a [`Connector`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectorState {
    /// Nothing is under way.
    Disconnected,
    /// An attempt is.
    Connecting,
    /// A connection is there.
    Connected,
}

/// A [`ClientFactory`] without its type.
trait Client {
    fn acceptor(&self) -> Rc<dyn ErasedFactory>;
    fn started(&self, connector: &Connector);
    fn failed(&self, connector: &Connector, reason: &Failure);
    fn lost(&self, connector: &Connector, reason: &Failure);
}

struct Typed<F>(Rc<F>);

impl<F: ClientFactory> Typed<F> {
    /// Runs a method of the factory; a panic in it is reported, and the connector goes on.
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

/// What makes one attempt.
type Dialler = Box<dyn Fn(Rc<dyn ErasedFactory>) -> Deferred<()>>;

/// A client that connects, tells its [`ClientFactory`], and can connect again. A cheap handle;
/// clones are the same connector. Dropping it changes nothing.
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
    /// Whether this connector is one of those that use the factory.
    counted: Cell<bool>,
    /// `stop_connecting` was called.
    stopping: Cell<bool>,
    /// A method of the connector runs: what it brings about is told in a later turn.
    inside: Cell<bool>,
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

    /// Connects `factory` to an address of any kind: `dial` makes one attempt.
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
            counted: Cell::new(false),
            stopping: Cell::new(false),
            inside: Cell::new(false),
        }));
        // it is disconnected; on a closed reactor it stays so
        let _ = connector.connect();
        connector
    }

    /// Begins another attempt.
    ///
    /// # Errors
    /// [`RuntimeError`] unless it is [`ConnectorState::Disconnected`]; [`ReactorClosed`].
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
        if !inner.counted.replace(true) {
            inner.acceptor.start();
        }
        let outer = inner.inside.replace(true);
        let attempt = (inner.dial)(Rc::new(ConnectorFactory {
            inner: inner.acceptor.clone(),
            connector: self.clone(),
        }));
        let canceller = attempt.canceller();
        inner.attempt.replace(Some(canceller.clone()));
        let ended = self.clone();
        attempt.add_both(move |result| ended.attempt_ended(result)).detach();
        if inner.stopping.get() {
            // by `start_factory`, before there was anything to stop
            canceller.cancel();
        }
        inner.inside.set(outer);
        inner.client.started(self);
        Ok(())
    }

    /// Ends the attempt: [`ClientFactory::client_connection_failed`] is told of a [`UserError`], in
    /// a later turn.
    ///
    /// # Errors
    /// [`NotConnectingError`] unless it is [`ConnectorState::Connecting`].
    #[doc(alias = "stopConnecting")]
    pub fn stop_connecting(&self) -> Result<(), Failure> {
        let inner = &self.0;
        if inner.state.get() != ConnectorState::Connecting || inner.stopping.replace(true) {
            return Err(NotConnectingError::with_text(format!("{self:?}")).into());
        }
        let attempt = inner.attempt.take();
        let outer = inner.inside.replace(true);
        if let Some(attempt) = attempt {
            attempt.cancel();
        }
        inner.inside.set(outer);
        Ok(())
    }

    /// Ends whatever is under way: the attempt, or the connection as [`Transport::lose_connection`]
    /// does. The factory hears of it as of any other end.
    pub fn disconnect(&self) {
        match self.0.state.get() {
            ConnectorState::Disconnected => {}
            // it is connecting
            ConnectorState::Connecting => drop(self.stop_connecting()),
            ConnectorState::Connected => self.transport().lose_connection(),
        }
    }

    /// Where it connects to.
    #[doc(alias = "getDestination")]
    pub fn destination(&self) -> Address {
        self.0.destination.clone()
    }

    /// Where it stands.
    pub fn state(&self) -> ConnectorState {
        self.0.state.get()
    }

    /// The transport of its connection; an unconnected one if there is none.
    pub fn transport(&self) -> Transport {
        self.0.transport.borrow().clone()
    }

    /// The attempt is over.
    fn attempt_ended(&self, result: Result<(), Failure>) {
        let inner = &self.0;
        inner.attempt.take();
        // a connection that was made is told of when it is lost, also if its `connection_made` has
        // failed
        let (ConnectorState::Connecting, Err(failure)) = (inner.state.get(), result) else {
            return;
        };
        inner.state.set(ConnectorState::Disconnected);
        let reason = if inner.stopping.get() {
            UserError::new().with_address(inner.destination.clone()).into()
        } else {
            failure
        };
        let Some(core) = inner.open_core() else { return self.over() };
        let notice = FailureNotice { connector: self.clone(), reason: Some(reason) };
        if !inner.inside.get() {
            return notice.deliver();
        }
        // not before the call that has brought it about has returned
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
        self.over();
    }

    /// The factory is done with, unless it has connected again.
    fn over(&self) {
        if self.0.state.get() == ConnectorState::Disconnected && self.0.counted.replace(false) {
            stop_factory(&self.0.acceptor, &self.0.destination);
        }
    }
}

impl Inner {
    /// The reactor's, unless it is closed.
    fn open_core(&self) -> Option<Rc<Core>> {
        self.core.upgrade().filter(|core| !core.is_closed())
    }
}

/// The news that an attempt has failed. A reactor that is closed meanwhile drops it untold, and the
/// factory is stopped all the same.
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
        self.connector.over();
    }
}

/// Sees the connections of a connector being made and lost.
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

//! Ports: accepting connections, backing off when descriptors run out, stopping.
use super::back_off::BackOff;
use crate::{
    address::Address,
    defer::Deferred,
    error::{CannotListenError, NoProtocol, NotListeningError, ReactorClosed, RuntimeError},
    failure::Failure,
    protocol::{ErasedConnection, ErasedFactory, FactoryAdapter, IntoFactory},
    reactor::{
        Core, Reactor,
        backend::{AnyWire, Bind, RawListener},
        source::{Readiness, Source},
    },
    report::report,
    stream::{NO_SLOT, Stream},
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    io::{self, ErrorKind},
    rc::{Rc, Weak},
};

/// The maximum number of connections accepted for one event.
const ACCEPTS_PER_TURN: u32 = 100;

/// The source of a port.
pub(super) struct Listening {
    accept: RefCell<Option<Box<dyn RawListener>>>,
    acceptor: Rc<dyn ErasedFactory>,
    core: Weak<Core>,
    slot: Cell<usize>,
    host: RefCell<Rc<Address>>,
    /// The local address of all its connections, unless it listens on every interface, where the
    /// addresses differ.
    shared_host: RefCell<Option<Rc<Address>>>,
    /// The parameters for reopening it; `None` for an adopted port.
    bind: Option<Bind>,
    back_off: BackOff,
}

/// Erases the type of a factory, and drops the handles of what it builds.
pub(crate) fn erase_factory(factory: impl IntoFactory) -> Rc<dyn ErasedFactory> {
    Rc::new(FactoryAdapter::many(factory.into_factory()))
}

/// Opens a port of any kind.
pub(crate) fn listen(
    reactor: &Reactor,
    bind: Bind,
    acceptor: Rc<dyn ErasedFactory>,
) -> Result<Port, Failure> {
    let port = Port::new(&reactor.0, bind.at.clone(), Some(bind), acceptor);
    port.start_listening()?;
    Ok(port)
}

/// Opens a port on a listening socket that was opened elsewhere.
pub(super) fn adopt(
    core: &Rc<Core>,
    accept: Box<dyn RawListener>,
    acceptor: Rc<dyn ErasedFactory>,
) -> io::Result<Port> {
    let port = Port::new(core, accept.host()?, None, acceptor);
    port.0.open(core, accept)?;
    Ok(port)
}

/// Creates the failure of a port at `at` that could not be opened.
pub(super) fn cannot_listen(at: &Address, error: io::Error) -> Failure {
    CannotListenError::at(at, error).into()
}

impl Source for Listening {
    fn ready(self: Rc<Self>, _readiness: Readiness, _buffer: &mut [u8]) {
        let Some(core) = self.core.upgrade() else { return };
        if self.back_off.is_waiting() {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            // a handler may have stopped the port in the meantime
            let accepted = match &*self.accept.borrow() {
                Some(accept) => accept.accept(),
                None => return,
            };
            match accepted {
                Ok((wire, peer)) => {
                    self.back_off.succeeded(|| format!("the port {}", self.host()));
                    self.serve(&core, wire, peer);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    // this peer has disconnected already
                    ErrorKind::Interrupted
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::ConnectionReset => {}
                    _ => return self.retry_later(&core, &error),
                },
            }
        }
        core.reschedule(self.slot.get(), Readiness::AGAIN);
    }

    fn describe(&self) -> Option<String> {
        Some(format!("the port {}", self.host.borrow()))
    }

    fn closed(self: Rc<Self>) {
        let closed = self.accept.take().map_or(Ok(()), RawListener::close);
        let stopped = self.acceptor.stop();
        for failure in [closed.map_err(Failure::from), stopped].into_iter().filter_map(Result::err)
        {
            report(failure, format!("closing the port {}", self.host.borrow()));
        }
    }
}

impl Listening {
    /// Registers `accept` in a slot of `core` and starts the factory.
    fn open(self: &Rc<Self>, core: &Rc<Core>, mut accept: Box<dyn RawListener>) -> io::Result<()> {
        let host = Rc::new(accept.host()?);
        let any = host.socket_addr().is_some_and(|at| at.ip().is_unspecified());
        self.shared_host.replace((!any).then(|| host.clone()));
        self.host.replace(host);
        let slot = core.sources.borrow_mut().insert(self.clone());
        if let Err(error) = accept.register(slot) {
            core.remove(slot);
            return Err(error);
        }
        if let Some(bind) = &self.bind {
            core.set_created_at(slot, bind.created_at);
        }
        self.slot.set(slot);
        self.back_off.cancel();
        self.accept.replace(Some(accept));
        tracing::info!("{} starting on {}", self.acceptor.name(), self.host());
        self.acceptor.start();
        Ok(())
    }

    fn serve(&self, core: &Rc<Core>, wire: AnyWire, peer: Address) {
        let stream = Stream::new(wire, NO_SLOT, core, peer, self.shared_host.borrow().clone());
        match self.acceptor.accept(stream.clone(), stream.peer(), None) {
            // the factory has closed the reactor
            Ok(connection) if core.is_closed() => connection.closed(),
            Ok(connection) => {
                let slot = core.sources.borrow_mut().insert(connection.clone());
                core.inherit_created_at(slot, self.slot.get());
                match stream.register(&*core.backend, slot) {
                    Ok(()) => connection.on_connected(),
                    Err(error) => self.cannot_watch(&stream, connection, error),
                }
            }
            Err(failure) => {
                if !failure.check::<NoProtocol>() {
                    report(
                        failure,
                        format!("build_protocol for {} on {}", stream.peer(), self.host.borrow()),
                    );
                }
                stream.close_socket(None);
            }
        }
    }

    /// Drops a new connection that cannot be registered with the poller, without calling a handler.
    #[cold]
    fn cannot_watch(
        &self,
        stream: &Stream,
        connection: Rc<dyn ErasedConnection>,
        error: io::Error,
    ) {
        tracing::error!(
            "the connection of {} to {} could not be registered: {error}",
            stream.peer(),
            self.host()
        );
        stream.close_socket(Some(error.into()));
        connection.closed();
    }

    /// Backs off because descriptors or memory have run out, or for an unexpected error: the port
    /// stays open and retries later.
    fn retry_later(&self, core: &Rc<Core>, error: &io::Error) {
        if self.back_off.wait(core, self.slot.get()) {
            let host = self.host();
            tracing::error!("{host} cannot accept connections and will retry: {error}");
        }
    }

    /// Returns the local address. Log subscribers are user code, so nothing is borrowed for them.
    fn host(&self) -> Rc<Address> {
        self.host.borrow().clone()
    }
}

/// An open port. Dropping it changes nothing: it listens until
/// [`stop_listening`](Self::stop_listening).
#[doc(alias = "IListeningPort")]
#[derive(Clone)]
#[must_use = "keep it to stop listening; dropping it does not"]
pub struct Port(Rc<Listening>);

impl Port {
    fn new(
        core: &Rc<Core>,
        host: Address,
        bind: Option<Bind>,
        acceptor: Rc<dyn ErasedFactory>,
    ) -> Self {
        Self(Rc::new(Listening {
            accept: RefCell::new(None),
            acceptor,
            core: Rc::downgrade(core),
            slot: Cell::new(0),
            host: RefCell::new(Rc::new(host)),
            shared_host: RefCell::new(None),
            bind,
            back_off: BackOff::default(),
        }))
    }

    /// Returns the local address, with the actual port number if port 0 was requested.
    #[doc(alias = "getHost")]
    pub fn host(&self) -> Address {
        Address::clone(&self.0.host.borrow())
    }

    /// Listens again after [`stop_listening`](Self::stop_listening), at the same address; if port 0
    /// was requested, with the port number that it had.
    ///
    /// # Errors
    /// Fails with [`CannotListenError`], which holds the address and the operating-system error,
    /// with [`RuntimeError`] if the port is listening or was adopted, and with [`ReactorClosed`].
    #[doc(alias = "startListening")]
    pub fn start_listening(&self) -> Result<(), Failure> {
        let core = self
            .0
            .core
            .upgrade()
            .filter(|core| !core.is_closed())
            .ok_or_else(ReactorClosed::new)?;
        if self.0.accept.borrow().is_some() {
            return Err(
                RuntimeError::with_text(format!("the port {} is listening", self.host())).into()
            );
        }
        let Some(bind) = &self.0.bind else {
            let text = format!("adopted ports cannot be reopened: {}", self.host());
            return Err(RuntimeError::with_text(text).into());
        };
        let bind = Bind { at: self.host(), ..bind.clone() };
        core.backend
            .listen(&bind)
            .and_then(|accept| self.0.open(&core, accept))
            .map_err(|error| cannot_listen(&bind.at, error))
    }

    /// Stops listening: when this returns, the socket is closed and the file of a UNIX socket
    /// removed. Accepted connections stay open.
    ///
    /// # Errors
    /// The Deferred fails with the operating-system error of the close, with a panic of the
    /// factory's `stop_factory`, and with [`NotListeningError`] if the port was stopped before.
    #[doc(alias = "stopListening")]
    #[track_caller]
    pub fn stop_listening(&self) -> Deferred<()> {
        let host = self.host();
        let Some(accept) = self.0.accept.take() else {
            return Deferred::fail(NotListeningError::with_text(host.to_string()));
        };
        let closed = accept.close();
        self.0.back_off.cancel();
        if let Some(core) = self.0.core.upgrade() {
            core.remove(self.0.slot.get());
        }
        log_closed("TCP", &host);
        match (closed, self.0.acceptor.stop()) {
            (Err(error), _) => Deferred::fail(error),
            (Ok(()), Err(failure)) => Deferred::fail(failure),
            (Ok(()), Ok(())) => Deferred::succeed(()),
        }
    }
}

/// Logs that a port is closed; `protocol` is the name of the IP protocol.
pub(super) fn log_closed(protocol: &str, host: &Address) {
    match host {
        Address::Unix(_) => tracing::info!("(UNIX Port {host} Closed)"),
        host => tracing::info!("({protocol} Port {} Closed)", host.port()),
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.accept.borrow().is_some() {
            write!(f, "<Port on {}>", self.0.host.borrow())
        } else {
            f.write_str("<Port, not listening>")
        }
    }
}

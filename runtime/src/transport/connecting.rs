//! An attempt to connect, of every kind: begin, wait for the result, hand the connection over, or
//! report the failure in a later turn.
use crate::{
    address::Address,
    defer::{Deferred, Resolver},
    error::{
        ConnectBindError, ConnectError, ConnectingCancelledError, ConnectionRefusedError,
        NoProtocol, NoRouteError, ReactorClosed, TcpTimedOutError, TimeoutError,
    },
    failure::Failure,
    protocol::{ErasedFactory, Factory, FactoryAdapter, Handle, IntoFactory},
    reactor::{
        Core, Reactor,
        backend::{AnyWire, Dial, DialError, WireOption},
        source::{Readiness, Source},
    },
    report::report,
    stream::Stream,
    time::DelayedCall,
};
use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind},
    rc::{Rc, Weak},
    time::Duration,
};

/// Creates the failure of an attempt to reach `to`, with the class that fits the operating-system
/// error: refused, timed out, no route, or else a plain [`ConnectError`]. It keeps the number and
/// text of that error, or the text alone if there is no number.
///
/// ```
/// use std::io;
/// use twistor::{address::Address, error::ConnectError, transport::connect_error};
///
/// let to = Address::Hostname("example.com".into(), 80);
/// let failure = connect_error(&io::Error::other("no wire"), &to);
/// assert!(failure.check::<ConnectError>());
/// assert_eq!(failure.to_string(), "An error occurred while connecting: no wire: example.com:80.");
/// ```
#[doc(alias = "getConnectError")]
pub fn connect_error(error: &io::Error, to: &Address) -> Failure {
    let to = to.clone();
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            ConnectionRefusedError::from_io(error).with_address(to).into()
        }
        ErrorKind::TimedOut => TcpTimedOutError::from_io(error).with_address(to).into(),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            NoRouteError::from_io(error).with_address(to).into()
        }
        _ => ConnectError::from_io(error).with_address(to).into(),
    }
}

/// Returns the local address of an attempt.
fn bind_address(dial: &Dial) -> Address {
    dial.from.map_or(Address::Unix(None), Address::from)
}

/// Connects with `factory` and returns a Deferred of the protocol's handle; `dial` makes the
/// attempt.
#[track_caller]
pub(crate) fn connect_with<F: IntoFactory>(
    factory: F,
    dial: impl FnOnce(Rc<dyn ErasedFactory>) -> Deferred<()>,
) -> Deferred<Handle<<F::Factory as Factory>::Protocol>> {
    let (acceptor, handle_cell) = with_handle_cell(factory);
    dial(acceptor).and_then(move |()| handle_cell.take().ok_or_else(NoProtocol::new))
}

/// The cell for the handle of a connection.
type HandleCell<F> =
    Rc<RefCell<Option<Handle<<<F as IntoFactory>::Factory as Factory>::Protocol>>>>;

/// Erases the type of a factory, and returns the cell for the handle of what it builds.
pub(super) fn with_handle_cell<F: IntoFactory>(
    factory: F,
) -> (Rc<dyn ErasedFactory>, HandleCell<F>) {
    let handle_cell = HandleCell::<F>::default();
    let keep = handle_cell.clone();
    let acceptor = FactoryAdapter::once(factory.into_factory(), move |handle: &Handle<_>| {
        *keep.borrow_mut() = Some(handle.clone());
    });
    (Rc::new(acceptor), handle_cell)
}

/// Counts one user of the factory less.
pub(super) fn stop_factory(acceptor: &Rc<dyn ErasedFactory>, to: &Address) {
    if let Err(failure) = acceptor.stop() {
        report(failure, format!("the factory of the connection to {to}"));
    }
}

/// An attempt to connect.
struct Connecting {
    core: Weak<Core>,
    slot: Cell<Option<usize>>,
    wire: Cell<Option<AnyWire>>,
    acceptor: Rc<dyn ErasedFactory>,
    to: Address,
    resolver: Cell<Option<Resolver<()>>>,
    timer: Cell<Option<DelayedCall>>,
}

/// Connects to an address of any kind, without the factory's type.
#[track_caller]
pub(crate) fn connect(
    reactor: &Reactor,
    dial: &Dial,
    acceptor: Rc<dyn ErasedFactory>,
    timeout: Duration,
) -> Deferred<()> {
    let core = &reactor.0;
    if core.is_closed() {
        return Deferred::fail(ReactorClosed::new());
    }
    // user code
    acceptor.start();
    if core.is_closed() {
        stop_factory(&acceptor, &dial.to);
        return Deferred::fail(ReactorClosed::new());
    }
    let attempt: Rc<RefCell<Weak<Connecting>>> = Rc::default();
    let cancelled = attempt.clone();
    let (deferred, resolver) = Deferred::with_canceller(move |cancelling| {
        if let Some(attempt) = cancelled.borrow().upgrade() {
            attempt.give_up();
            cancelling.errback(ConnectingCancelledError::new(attempt.to.clone()));
        }
    });
    let connecting = Rc::new(Connecting {
        core: Rc::downgrade(core),
        slot: Cell::new(None),
        wire: Cell::new(None),
        acceptor,
        to: dial.to.clone(),
        resolver: Cell::new(Some(resolver)),
        timer: Cell::new(None),
    });
    *attempt.borrow_mut() = Rc::downgrade(&connecting);
    connecting.begin(core, dial, timeout);
    deferred
}

impl Connecting {
    fn begin(self: Rc<Self>, core: &Rc<Core>, dial: &Dial, timeout: Duration) {
        let slot = core.sources.borrow_mut().insert(self.clone());
        core.set_created_at(slot, dial.created_at);
        self.slot.set(Some(slot));
        let begun = core.backend.connect(dial).and_then(|mut wire| {
            match wire.register(&*core.backend, slot) {
                Ok(()) => Ok(wire),
                Err(error) => Err(DialError::Connect(error)),
            }
        });
        let later = Rc::downgrade(&self);
        let (wait, failure) = match begun {
            Ok(wire) => {
                self.wire.set(Some(wire));
                (
                    timeout,
                    Failure::new(TimeoutError::with_text(format!(
                        "connecting to {} took longer than {timeout:?}",
                        self.to
                    ))),
                )
            }
            // a failure that is known at once is reported in a later turn too
            Err(DialError::Bind(error)) => (
                Duration::ZERO,
                ConnectBindError::from_io(&error).with_address(bind_address(dial)).into(),
            ),
            Err(DialError::Connect(error)) => (Duration::ZERO, connect_error(&error, &self.to)),
        };
        let timer = core.timer(wait, move || {
            if let Some(connecting) = later.upgrade() {
                connecting.fail(failure);
            }
        });
        self.timer.set(Some(timer));
    }

    /// Ends the attempt: closes the socket, frees the slot, and releases the factory.
    fn give_up(&self) {
        let wire = self.wire.take();
        drop(wire);
        if let Some(timer) = self.timer.take() {
            // the timer may be what has called this
            let _ = timer.cancel();
        }
        if let (Some(slot), Some(core)) = (self.slot.take(), self.core.upgrade()) {
            core.remove(slot);
            self.stop_factory();
        }
    }

    fn stop_factory(&self) {
        stop_factory(&self.acceptor, &self.to);
    }

    fn fail(&self, failure: Failure) {
        self.give_up();
        if let Some(resolver) = self.resolver.take() {
            // user code
            resolver.errback(failure);
        }
    }

    fn on_connected(&self, core: &Rc<Core>) {
        let (Some(wire), Some(slot)) = (self.wire.take(), self.slot.take()) else { return };
        if let Some(timer) = self.timer.take() {
            // the timer has not run: it would have taken the wire
            let _ = timer.cancel();
        }
        let _ = wire.set_option(WireOption::NoDelay(true));
        let stream = Stream::new(wire, slot, core, self.to.clone(), None);
        let acceptor = self.acceptor.clone();
        let to = self.to.clone();
        let lost = Box::new(move |_: &Failure| {
            stop_factory(&acceptor, &to);
        });
        let result = match self.acceptor.accept(stream.clone(), &self.to, Some(lost)) {
            // the attempt was cancelled while its protocol was being built
            Ok(connection)
                if self.resolver.take().is_some_and(|resolver| self.put_back(resolver)) =>
            {
                core.remove(slot);
                return connection.closed();
            }
            Ok(connection) if core.fill(slot, connection.clone()) => {
                connection.on_connected();
                if self.resolver.take().is_some_and(|resolver| self.put_back(resolver)) {
                    // cancelled in `connection_made`: the connection has no owner
                    stream.abort_connection();
                }
                // input that came with the connect event has not been read yet
                core.reschedule(slot, Readiness::TO_THE_END);
                stream.failure().map_or(Ok(()), Err)
            }
            Ok(connection) => {
                connection.closed();
                Err(ReactorClosed::new().into())
            }
            Err(failure) => {
                stream.close_socket(None);
                self.stop_factory();
                Err(failure)
            }
        };
        if let Some(resolver) = self.resolver.take() {
            // user code
            resolver.resolve(result);
        }
    }
}

impl Connecting {
    /// Stores the resolver for later. Returns whether the result is no longer wanted.
    fn put_back(&self, resolver: Resolver<()>) -> bool {
        let unwanted = !resolver.is_wanted();
        self.resolver.set(Some(resolver));
        unwanted
    }
}

impl Source for Connecting {
    fn describe(&self) -> Option<String> {
        Some(format!("an attempt to connect to {}", self.to))
    }

    fn ready(self: Rc<Self>, readiness: Readiness, _buffer: &mut [u8]) {
        if !(readiness.is_writable() || readiness.is_closed()) {
            return;
        }
        let Some(core) = self.core.upgrade() else { return };
        let Some(wire) = self.wire.take() else { return };
        let connected = wire.connected();
        self.wire.set(Some(wire));
        match connected {
            Ok(false) => {}
            Ok(true) => self.on_connected(&core),
            Err(error) => self.fail(connect_error(&error, &self.to)),
        }
    }

    fn closed(self: Rc<Self>) {
        self.give_up();
        let resolver = self.resolver.take();
        drop(resolver);
    }
}

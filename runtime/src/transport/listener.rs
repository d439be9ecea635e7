//! Ports: accept, back off when descriptors run out, stop.
use super::stream::WireStream;
use crate::{
    address::Address,
    defer::Deferred,
    error::{NoProtocol, NotListeningError},
    protocol::{Acceptor, Stream},
    reactor::{
        Core,
        backend::{Accept, Wire, WireOption},
        source::{Readiness, Source},
    },
    report::report,
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    io::{self, ErrorKind},
    rc::{Rc, Weak},
    time::Duration,
};

/// How many connections one event accepts before the others have their turn.
const ACCEPTS_PER_TURN: u32 = 100;

/// How long a port waits when the descriptors have run out: the first time, and at most.
const BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// The source of a port.
pub(super) struct Listening {
    accept: RefCell<Option<Box<dyn Accept>>>,
    acceptor: Rc<dyn Acceptor>,
    core: Weak<Core>,
    slot: usize,
    host: Address,
    /// How long the next back-off is; zero while accepting works.
    back_off: Cell<Duration>,
}

/// A slot's source while the real one is being built.
pub(super) struct Vacant;

impl Source for Vacant {
    fn ready(self: Rc<Self>, _readiness: Readiness, _buffer: &mut [u8]) {}
}

/// Puts `accept` into a slot of `core` and tells the factory.
pub(super) fn open(core: &Rc<Core>, mut accept: Box<dyn Accept>, acceptor: Rc<dyn Acceptor>) -> io::Result<Port> {
    let host = accept.host()?;
    let slot = core.sources.borrow_mut().insert(Rc::new(Vacant));
    if let Err(error) = accept.register(slot) {
        core.remove(slot);
        return Err(error);
    }
    let listening = Rc::new(Listening {
        accept: RefCell::new(Some(accept)),
        acceptor,
        core: Rc::downgrade(core),
        slot,
        host,
        back_off: Cell::new(Duration::ZERO),
    });
    core.fill(slot, listening.clone());
    tracing::info!("listening on {}", listening.host);
    listening.acceptor.start();
    Ok(Port(listening))
}

impl Source for Listening {
    fn ready(self: Rc<Self>, _readiness: Readiness, _buffer: &mut [u8]) {
        let Some(core) = self.core.upgrade() else { return };
        for _ in 0..ACCEPTS_PER_TURN {
            // a handler may have stopped the port meanwhile
            let accepted = match &*self.accept.borrow() {
                Some(accept) => accept.accept(),
                None => return,
            };
            match accepted {
                Ok((wire, peer)) => {
                    self.back_off.set(Duration::ZERO);
                    self.serve(&core, wire, peer);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    // that one has gone already
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                    _ => return self.retry_later(&core, &error),
                },
            }
        }
        core.look_again(self.slot, Readiness::AGAIN);
    }

    fn describe(&self) -> Option<String> {
        Some(format!("the port {}", self.host))
    }

    fn closed(self: Rc<Self>) {
        let accept = self.accept.take();
        drop(accept);
        if let Err(failure) = self.acceptor.stop() {
            report(failure, format!("the factory of the port {}", self.host));
        }
    }
}

impl Listening {
    fn serve(&self, core: &Rc<Core>, mut wire: Box<dyn Wire>, peer: Address) {
        // small answers go out at once; a socket that refuses works all the same
        let _ = wire.set_option(WireOption::NoDelay(true));
        let slot = core.sources.borrow_mut().insert(Rc::new(Vacant));
        if let Err(error) = wire.register(slot) {
            core.remove(slot);
            tracing::error!("the connection of {peer} to {} could not be watched: {error}", self.host);
            return;
        }
        let host = (!self.is_any_interface()).then(|| self.host.clone());
        let stream = WireStream::new(wire, slot, core, peer, host);
        match self.acceptor.accept(stream.clone(), &stream.peer(), None) {
            Ok(live) if core.fill(slot, live.clone()) => live.made(),
            // the factory has closed the reactor
            Ok(live) => live.closed(),
            Err(failure) => {
                if !failure.check::<NoProtocol>() {
                    report(failure, format!("build_protocol for {} on {}", stream.peer(), self.host));
                }
                stream.die(None);
            }
        }
    }

    /// Whether the host of a connection can differ from the port's.
    fn is_any_interface(&self) -> bool {
        self.host.socket_addr().is_some_and(|at| at.ip().is_unspecified())
    }

    /// Descriptors or memory have run out, or the system says something unheard of: the port stays, and tries again in a while.
    fn retry_later(&self, core: &Rc<Core>, error: &io::Error) {
        let wait = self.back_off.get();
        if wait.is_zero() {
            tracing::error!("{} cannot accept and will try again: {error}", self.host);
        }
        let wait = (wait * 2).clamp(BACK_OFF, LONGEST_BACK_OFF);
        self.back_off.set(wait);
        let (weak, slot) = (Rc::downgrade(core), self.slot);
        core.timer(wait, move || {
            if let Some(core) = weak.upgrade() {
                core.look_again(slot, Readiness::AGAIN);
            }
        });
    }
}

/// An open port. Dropping it changes nothing: it listens until [`stop_listening`](Self::stop_listening).
#[doc(alias = "IListeningPort")]
#[derive(Clone)]
#[must_use = "keep it to stop listening; it listens all the same if it is dropped"]
pub struct Port(Rc<Listening>);

impl Port {
    /// The address it listens on, with the real port number where 0 was asked for.
    #[doc(alias = "getHost")]
    pub fn host(&self) -> Address {
        self.0.host.clone()
    }

    /// Stops listening: the socket is closed when this returns. Connections that were accepted stay.
    ///
    /// # Errors
    /// The Deferred fails with what the factory's `stop_factory` panicked with, or with [`NotListeningError`] if the port had been stopped
    /// before.
    #[doc(alias = "stopListening")]
    #[track_caller]
    pub fn stop_listening(&self) -> Deferred<()> {
        let Some(accept) = self.0.accept.take() else {
            return Deferred::fail(NotListeningError::with_text(self.0.host.to_string()));
        };
        drop(accept);
        if let Some(core) = self.0.core.upgrade() {
            core.remove(self.0.slot);
        }
        tracing::info!("(TCP Port {} Closed)", self.0.host.port());
        match self.0.acceptor.stop() {
            Ok(()) => Deferred::succeed(()),
            Err(failure) => Deferred::fail(failure),
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.accept.borrow().is_some() { write!(f, "<Port on {}>", self.0.host) } else { f.write_str("<Port, not listening>") }
    }
}

//! TCP: `listen_tcp` and `connect_tcp`.
use super::{
    connecting::{connect, connect_with},
    listener::{Port, erase_factory, listen},
};
use crate::{
    defer::Deferred,
    failure::Failure,
    protocol::{Factory, Handle, IntoFactory},
    reactor::{
        Reactor,
        backend::{Bind, Dial, FileOptions},
    },
};
use std::{net::SocketAddr, panic::Location, time::Duration};

/// The default backlog: the number of connections that may wait to be accepted.
pub const DEFAULT_BACKLOG: u32 = 50;

/// Options of a TCP port.
///
/// ```
/// use twistor::transport::ListenTcpOptions;
///
/// let options = ListenTcpOptions::default().backlog(4096);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenTcpOptions {
    /// The number of connections that may wait to be accepted: 50 by default.
    pub backlog: u32,
}

impl Default for ListenTcpOptions {
    fn default() -> Self {
        Self { backlog: DEFAULT_BACKLOG }
    }
}

impl ListenTcpOptions {
    /// Sets the backlog.
    #[must_use]
    pub fn backlog(self, backlog: u32) -> Self {
        Self { backlog }
    }
}

/// Options of an attempt to connect.
///
/// ```
/// use std::time::Duration;
/// use twistor::transport::ConnectTcpOptions;
///
/// let options = ConnectTcpOptions::default().timeout(Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectTcpOptions {
    /// The time limit: 30 seconds by default.
    pub timeout: Duration,
    /// The local address to connect from; any by default. A port of 0 means any.
    pub bind_address: Option<SocketAddr>,
}

impl Default for ConnectTcpOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), bind_address: None }
    }
}

impl ConnectTcpOptions {
    /// Sets the time limit.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets the local address to connect from.
    #[must_use]
    pub fn bind_address(self, from: SocketAddr) -> Self {
        Self { bind_address: Some(from), ..self }
    }
}

impl Reactor {
    /// Listens on a TCP address and builds a protocol with `factory` for each connection. Port 0
    /// means any free port, which [`Port::host`] returns.
    ///
    /// # Errors
    /// Fails with [`CannotListenError`](crate::error::CannotListenError), which holds the address
    /// and the operating-system error.
    #[doc(alias = "listenTCP")]
    #[track_caller]
    pub fn listen_tcp(
        &self,
        at: impl Into<SocketAddr>,
        factory: impl IntoFactory,
        options: &ListenTcpOptions,
    ) -> Result<Port, Failure> {
        listen(
            self,
            Bind {
                at: at.into().into(),
                backlog: options.backlog,
                file: FileOptions::default(),
                created_at: Location::caller(),
            },
            erase_factory(factory),
        )
    }

    /// Connects to a TCP address and returns a Deferred of the protocol's handle, which fires right
    /// after `connection_made` has returned.
    ///
    /// # Errors
    /// Always fails in a later turn. Fails with
    /// [`ConnectionRefusedError`](crate::error::ConnectionRefusedError) and the other kinds of
    /// [`ConnectError`](crate::error::ConnectError), with
    /// [`TimeoutError`](crate::error::TimeoutError) after the time limit, and with
    /// [`ConnectBindError`](crate::error::ConnectBindError) for the local address. Fails with
    /// [`NoProtocol`](crate::error::NoProtocol) if the factory refuses, and with the failure of
    /// `connection_made`.
    ///
    /// # Cancellation
    /// Stops the attempt and fails with
    /// [`ConnectingCancelledError`](crate::error::ConnectingCancelledError), which has the address.
    #[doc(alias = "connectTCP")]
    #[track_caller]
    pub fn connect_tcp<F: IntoFactory>(
        &self,
        to: impl Into<SocketAddr>,
        factory: F,
        options: &ConnectTcpOptions,
    ) -> Deferred<Handle<<F::Factory as Factory>::Protocol>> {
        let dial = Dial {
            to: to.into().into(),
            from: options.bind_address,
            created_at: Location::caller(),
        };
        connect_with(factory, |acceptor| connect(self, &dial, acceptor, options.timeout))
    }
}

//! The endpoint types that programs pass around, whatever kind of endpoint they hold.
use crate::{
    address::Address,
    defer::Deferred,
    protocol::{ErasedFactory, Factory, Handle, IntoFactory, Protocol},
    transport::{Port, connect_with, erase_factory},
};
use std::{cell::Cell, fmt, panic::Location, rc::Rc};

/// A kind of server endpoint.
pub(crate) trait StreamServer: fmt::Debug {
    fn listen_erased(
        &self,
        acceptor: Rc<dyn ErasedFactory>,
        created_at: &'static Location<'static>,
    ) -> Deferred<Port>;
}

/// A kind of client endpoint.
pub(crate) trait StreamClient: fmt::Debug {
    fn connect_erased(
        &self,
        acceptor: Rc<dyn ErasedFactory>,
        created_at: &'static Location<'static>,
    ) -> Deferred<()>;
}

/// A place to listen, of any kind. Cloning it is cheap.
#[doc(alias = "IStreamServerEndpoint")]
#[derive(Clone)]
pub struct ServerEndpoint(pub(crate) Rc<dyn StreamServer>);

/// A place to connect to, of any kind. Cloning it is cheap.
#[doc(alias = "IStreamClientEndpoint")]
#[derive(Clone)]
pub struct ClientEndpoint(pub(crate) Rc<dyn StreamClient>);

impl ServerEndpoint {
    /// Starts to listen, and builds a protocol with `factory` for each connection. The returned
    /// Deferred has fired already.
    ///
    /// # Errors
    /// Fails with [`CannotListenError`](crate::error::CannotListenError), which holds the address
    /// and the operating-system error.
    #[track_caller]
    pub fn listen(&self, factory: impl IntoFactory) -> Deferred<Port> {
        self.0.listen_erased(erase_factory(factory), Location::caller())
    }
}

impl ClientEndpoint {
    /// Makes one attempt to connect and returns the protocol's handle, right after
    /// `connection_made` has returned.
    ///
    /// # Errors
    /// Fails as [`Reactor::connect_tcp`](crate::reactor::Reactor::connect_tcp) does, and with
    /// [`DnsLookupError`](crate::error::DnsLookupError) for a host name that is not found.
    ///
    /// # Cancellation
    /// Stops the attempt.
    #[track_caller]
    pub fn connect<F: IntoFactory>(
        &self,
        factory: F,
    ) -> Deferred<Handle<<F::Factory as Factory>::Protocol>> {
        let created_at = Location::caller();
        connect_with(factory, |acceptor| self.0.connect_erased(acceptor, created_at))
    }
}

/// A factory that returns one given protocol, once.
struct Once<P>(Cell<Option<P>>);

impl<P: Protocol> Factory for Once<P> {
    type Protocol = P;

    fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<P> {
        self.0.take()
    }
}

/// Connects `protocol` itself to `endpoint`.
///
/// # Errors
/// Fails as [`ClientEndpoint::connect`] does.
///
/// # Cancellation
/// Stops the attempt.
#[doc(alias = "connectProtocol")]
#[track_caller]
pub fn connect_protocol<P: Protocol>(
    endpoint: &ClientEndpoint,
    protocol: P,
) -> Deferred<Handle<P>> {
    endpoint.connect(Once(Cell::new(Some(protocol))))
}

impl fmt::Debug for ServerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

//! Endpoints of any kind.
use crate::{
    address::Address,
    defer::Deferred,
    protocol::{ErasedFactory, Factory, Handle, IntoFactory, Protocol},
    transport::{Port, connect_with, erase_factory},
};
use std::{cell::Cell, fmt, panic::Location, rc::Rc};

/// A kind of place to listen.
pub(crate) trait StreamServer: fmt::Debug {
    fn listen_erased(
        &self,
        acceptor: Rc<dyn ErasedFactory>,
        created_at: &'static Location<'static>,
    ) -> Deferred<Port>;
}

/// A kind of place to connect to.
pub(crate) trait StreamClient: fmt::Debug {
    fn connect_erased(
        &self,
        acceptor: Rc<dyn ErasedFactory>,
        created_at: &'static Location<'static>,
    ) -> Deferred<()>;
}

/// Somewhere to listen, of any kind. A cheap clone.
#[doc(alias = "IStreamServerEndpoint")]
#[derive(Clone)]
pub struct ServerEndpoint(pub(crate) Rc<dyn StreamServer>);

/// Somewhere to connect to, of any kind. A cheap clone.
#[doc(alias = "IStreamClientEndpoint")]
#[derive(Clone)]
pub struct ClientEndpoint(pub(crate) Rc<dyn StreamClient>);

impl ServerEndpoint {
    /// Listens, and builds a protocol with `factory` for each connection. The Deferred has fired
    /// already.
    ///
    /// # Errors
    /// [`CannotListenError`](crate::error::CannotListenError) with the address and what the
    /// operating system said.
    #[track_caller]
    pub fn listen(&self, factory: impl IntoFactory) -> Deferred<Port> {
        self.0.listen_erased(erase_factory(factory), Location::caller())
    }
}

impl ClientEndpoint {
    /// Connects once and gives the protocol's handle, right after its `connection_made` has
    /// returned.
    ///
    /// # Errors
    /// Those of [`Reactor::connect_tcp`](crate::reactor::Reactor::connect_tcp), and
    /// [`DnsLookupError`](crate::error::DnsLookupError) for a name that is not found.
    ///
    /// # Cancellation
    /// Ends the attempt.
    #[track_caller]
    pub fn connect<F: IntoFactory>(
        &self,
        factory: F,
    ) -> Deferred<Handle<<F::Factory as Factory>::Protocol>> {
        let created_at = Location::caller();
        connect_with(factory, |acceptor| self.0.connect_erased(acceptor, created_at))
    }
}

/// Hands out one protocol, once.
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
/// Those of [`ClientEndpoint::connect`].
///
/// # Cancellation
/// Ends the attempt.
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

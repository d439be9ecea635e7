//! Adopting open descriptors: those of a parent process or a service manager, and standard input
//! and output.
use super::{
    connecting::{stop_factory, with_handle_cell},
    datagrams::{DatagramPort, DatagramProtocol},
    listener::{self, Port, erase_factory},
};
use crate::{
    address::Address,
    error::{NoProtocol, ReactorClosed, UnsupportedAddressFamily, ValueError},
    failure::Failure,
    protocol::{ErasedFactory, Factory, Handle, IntoFactory},
    reactor::{
        Core, Reactor,
        backend::{Adopted, AnyWire},
        source::{Readiness, Source},
    },
    stream::Stream,
};
use std::{io, os::fd::OwnedFd, panic::Location, rc::Rc};

impl Reactor {
    /// Serves the connections of an open listening socket, TCP or UNIX. Stopping the port closes
    /// this descriptor only: a copy of it, in this process or another, continues to accept.
    ///
    /// # Errors
    /// Fails with [`UnsupportedAddressFamily`], with [`ValueError`] if the descriptor is not a
    /// listening stream socket, and with an operating-system error.
    #[doc(alias = "adoptStreamPort")]
    pub fn adopt_stream_port(
        &self,
        socket: OwnedFd,
        factory: impl IntoFactory,
    ) -> Result<Port, Failure> {
        match self.adopt(socket)? {
            Adopted::Port(accept) => Ok(listener::adopt(&self.0, accept, erase_factory(factory))?),
            other => Err(unfit(&other, "a port")),
        }
    }

    /// Adopts an open, connected socket, TCP or UNIX, for a protocol of `factory`.
    ///
    /// # Errors
    /// Fails with [`UnsupportedAddressFamily`], with [`ValueError`] if the descriptor is not a
    /// connected stream socket, and with an operating-system error. Also fails with [`NoProtocol`]
    /// if the factory refuses, and with the failure of `build_protocol`.
    #[doc(alias = "adoptStreamConnection")]
    #[track_caller]
    pub fn adopt_stream_connection<F: IntoFactory>(
        &self,
        socket: OwnedFd,
        factory: F,
    ) -> Result<Handle<<F::Factory as Factory>::Protocol>, Failure> {
        match self.adopt(socket)? {
            Adopted::Stream(wire, peer) => self.put_on(wire, &peer, factory),
            other => Err(unfit(&other, "a connection")),
        }
    }

    /// Opens a datagram port on a bound socket, UDP or UNIX.
    ///
    /// # Errors
    /// Fails with [`UnsupportedAddressFamily`], with [`ValueError`] if the descriptor is not a
    /// datagram socket, and with an operating-system error.
    #[doc(alias = "adoptDatagramPort")]
    #[track_caller]
    pub fn adopt_datagram_port<P: DatagramProtocol>(
        &self,
        socket: OwnedFd,
        protocol: P,
    ) -> Result<DatagramPort<P>, Failure> {
        match self.adopt(socket)? {
            Adopted::Datagrams(socket) => {
                Ok(DatagramPort::open(&self.0, socket, protocol, Location::caller())?)
            }
            other => Err(unfit(&other, "a datagram port")),
        }
    }

    /// Connects a protocol of `factory` to the standard input and output of this process, which may
    /// be terminals, pipes or plain files. The protocol receives the input and writes to the
    /// output. An end of file for the output closes descriptor 1, after which `print` writes
    /// nowhere.
    ///
    /// Meanwhile both descriptors are in non-blocking mode, which affects everything else that uses
    /// them; their former mode is restored at the end.
    ///
    /// # Errors
    /// Fails with an operating-system error, with [`NoProtocol`] if the factory refuses, and with
    /// the failure of `build_protocol`.
    #[doc(alias = "StandardIO")]
    #[track_caller]
    pub fn standard_io<F: IntoFactory>(
        &self,
        factory: F,
    ) -> Result<Handle<<F::Factory as Factory>::Protocol>, Failure> {
        self.may_open()?;
        let wire = self.0.backend.standard_io()?;
        let handle = self.put_on(wire, &Address::Unix(None), factory)?;
        Ok(handle)
    }

    fn may_open(&self) -> Result<(), Failure> {
        if self.0.is_closed() { Err(ReactorClosed::new().into()) } else { Ok(()) }
    }

    fn adopt(&self, socket: OwnedFd) -> Result<Adopted, Failure> {
        self.may_open()?;
        match self.0.backend.adopt(socket) {
            Ok(Adopted::Unknown) => Err(UnsupportedAddressFamily::new().into()),
            other => Ok(other?),
        }
    }

    /// Connects a protocol to `wire` at once.
    #[track_caller]
    pub(crate) fn put_on<F: IntoFactory>(
        &self,
        wire: AnyWire,
        peer: &Address,
        factory: F,
    ) -> Result<Handle<<F::Factory as Factory>::Protocol>, Failure> {
        let (acceptor, kept) = with_handle_cell(factory);
        acceptor.start();
        connection(&self.0, wire, peer, &acceptor, Location::caller())?;
        Ok(kept.take().ok_or_else(NoProtocol::new)?)
    }
}

/// Creates the connection over `wire` and calls `connection_made`.
fn connection(
    core: &Rc<Core>,
    mut wire: AnyWire,
    peer: &Address,
    acceptor: &Rc<dyn ErasedFactory>,
    created_at: &'static Location<'static>,
) -> Result<(), Failure> {
    let slot = core.reserve();
    if let Err(error) = wire.register(&*core.backend, slot) {
        core.remove(slot);
        stop_factory(acceptor, peer);
        return Err(error.into());
    }
    core.set_created_at(slot, created_at);
    let stream = Stream::new(wire, slot, core, peer.clone(), None);
    let (factory, at) = (acceptor.clone(), peer.clone());
    let lost = Box::new(move |_: &Failure| stop_factory(&factory, &at));
    match acceptor.accept(stream.clone(), peer, Some(lost)) {
        Ok(connection) if core.fill(slot, connection.clone()) => {
            connection.on_connected();
            // neither input that arrived before the registration nor a plain file causes an event
            core.reschedule(slot, Readiness::TO_THE_END);
            Ok(())
        }
        Ok(connection) => {
            Source::closed(connection);
            Err(ReactorClosed::new().into())
        }
        Err(failure) => {
            stream.close_socket(None);
            stop_factory(acceptor, peer);
            Err(failure)
        }
    }
}

/// Creates the failure for a descriptor of another kind than `wanted`.
fn unfit(found: &Adopted, wanted: &str) -> Failure {
    let found = match found {
        Adopted::Stream(_, peer) => format!("a connection with {peer}"),
        Adopted::Port(accept) => format!("a stream socket at {} that listens", host(accept.host())),
        Adopted::Idle(at) => {
            format!("a stream socket at {at} that is neither connected nor listening")
        }
        Adopted::Datagrams(socket) => format!("a datagram socket at {}", host(socket.host())),
        Adopted::Unknown => "of an unknown address family".to_owned(),
    };
    ValueError::with_text(format!("expected {wanted} to adopt, and the descriptor is {found}"))
        .into()
}

fn host(found: io::Result<Address>) -> String {
    found.map_or_else(|error| error.to_string(), |host| host.to_string())
}

//! Taking over what somebody else has opened: descriptors of a parent process or a service manager;
//! standard input and output.
use super::{
    connecting::{keeping, stop_factory},
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
    /// Serves the connections of a listening socket, TCP or UNIX, that is open already. Stopping
    /// the port closes this descriptor alone: a copy of it, in this process or another, still
    /// accepts.
    ///
    /// # Errors
    /// [`UnsupportedAddressFamily`]; [`ValueError`] if it is no listening stream socket; what the
    /// operating system says.
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

    /// Puts a protocol of `factory` on a connected socket, TCP or UNIX, that is open already.
    ///
    /// # Errors
    /// [`UnsupportedAddressFamily`]; [`ValueError`] if it is no connected stream socket;
    /// [`NoProtocol`] if the factory refuses; what the operating system says, and what a failing
    /// `build_protocol` failed with.
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

    /// Opens a datagram port on a socket, UDP or UNIX, that is bound already.
    ///
    /// # Errors
    /// [`UnsupportedAddressFamily`]; [`ValueError`] if it is no datagram socket; what the operating
    /// system says.
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

    /// Puts a protocol of `factory` on the standard input and output of this process: what arrives
    /// on one is its data, what it writes goes to the other. Terminals, pipes and plain files will
    /// do. Its end of writing closes descriptor 1, and what prints later prints nowhere.
    ///
    /// While it lives the two do not wait, so whatever else uses them has to bear with that; what
    /// they were is put back at the end.
    ///
    /// # Errors
    /// What the operating system says; [`NoProtocol`] if the factory refuses, and what a failing
    /// `build_protocol` failed with.
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

    /// Makes a connection of `wire` at once.
    #[track_caller]
    pub(crate) fn put_on<F: IntoFactory>(
        &self,
        wire: AnyWire,
        peer: &Address,
        factory: F,
    ) -> Result<Handle<<F::Factory as Factory>::Protocol>, Failure> {
        let (acceptor, kept) = keeping(factory);
        acceptor.start();
        connection(&self.0, wire, peer, &acceptor, Location::caller())?;
        Ok(kept.take().ok_or_else(NoProtocol::new)?)
    }
}

/// A connection over `wire`, told that it is made.
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
            // what has arrived before it was registered, or is a file, brings no event
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

/// The descriptor is something else.
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
    ValueError::with_text(format!("{wanted} was to be adopted, and the descriptor is {found}"))
        .into()
}

fn host(found: io::Result<Address>) -> String {
    found.map_or_else(|error| error.to_string(), |host| host.to_string())
}

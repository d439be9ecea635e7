//! UDP and UNIX datagrams: opening ports, and multicast.
use super::{
    datagrams::{DatagramPort, DatagramProtocol, DatagramTransport},
    listener::cannot_listen,
    unix::ListenUnixOptions,
};
use crate::{
    address::Address,
    error::{MulticastJoinError, ReactorClosed, ValueError},
    failure::Failure,
    reactor::{
        Reactor,
        backend::{BindDatagrams, DatagramOption, FileOptions, Group},
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::Location,
    path::PathBuf,
};

/// Options of a UDP port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpOptions {
    /// Whether several ports may be bound to the same address, each of which receives the datagrams
    /// of a group. Off by default.
    #[doc(alias = "listenMultiple")]
    pub listen_multiple: bool,
}

impl UdpOptions {
    /// Sets whether several ports may be bound to the same address.
    #[must_use]
    pub fn listen_multiple(self, yes: bool) -> Self {
        Self { listen_multiple: yes }
    }
}

impl Reactor {
    /// Opens a UDP port for `protocol`. Port 0 means any free one, which [`DatagramPort::host`]
    /// returns.
    ///
    /// ```
    /// use twistor::{address::Address, reactor::Reactor};
    /// use twistor::transport::{DatagramProtocol, DatagramTransport, UdpOptions};
    ///
    /// struct Quiet;
    /// impl DatagramProtocol for Quiet {
    ///     fn datagram_received(&mut self, _: &[u8], _: &Address, _: &DatagramTransport) {}
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// let port = reactor.listen_udp(([127, 0, 0, 1], 0), Quiet, &UdpOptions::default())?;
    /// port.transport().write("to myself", &port.host())?;
    /// # port.stop_listening().detach();
    /// # Ok::<(), twistor::failure::Failure>(())
    /// ```
    ///
    /// # Errors
    /// Fails with [`CannotListenError`](crate::error::CannotListenError), which holds the address
    /// and the operating-system error.
    #[doc(alias = "listenUDP")]
    #[doc(alias = "listenMulticast")]
    #[track_caller]
    pub fn listen_udp<P: DatagramProtocol>(
        &self,
        at: impl Into<SocketAddr>,
        protocol: P,
        options: &UdpOptions,
    ) -> Result<DatagramPort<P>, Failure> {
        let bind = BindDatagrams {
            at: at.into().into(),
            listen_multiple: options.listen_multiple,
            file: FileOptions::default(),
            created_at: Location::caller(),
        };
        self.bind(&bind, protocol)
    }

    /// Opens a UNIX datagram port for `protocol` at `path`, or an unnamed one, which can send but
    /// receives no answers. Closing the port removes the file.
    ///
    /// # Errors
    /// Fails with [`CannotListenError`](crate::error::CannotListenError), which holds the path and
    /// the operating-system error.
    #[doc(alias = "listenUNIXDatagram")]
    #[track_caller]
    pub fn listen_unix_datagram<P: DatagramProtocol>(
        &self,
        path: impl Into<Option<PathBuf>>,
        protocol: P,
        options: &ListenUnixOptions,
    ) -> Result<DatagramPort<P>, Failure> {
        self.bind(
            &BindDatagrams {
                at: Address::Unix(path.into()),
                listen_multiple: false,
                file: options.file(),
                created_at: Location::caller(),
            },
            protocol,
        )
    }

    /// Opens a UNIX datagram port and connects it to the socket at `to`. With `from` the port has
    /// its own path, so that the peer can answer.
    ///
    /// # Errors
    /// Fails with [`CannotListenError`](crate::error::CannotListenError), and with the
    /// operating-system error of the connect.
    #[doc(alias = "connectUNIXDatagram")]
    #[track_caller]
    pub fn connect_unix_datagram<P: DatagramProtocol>(
        &self,
        to: impl Into<PathBuf>,
        from: impl Into<Option<PathBuf>>,
        protocol: P,
        options: &ListenUnixOptions,
    ) -> Result<DatagramPort<P>, Failure> {
        let port = self.listen_unix_datagram(from, protocol, options)?;
        if let Err(failure) = port.transport().connect(&Address::Unix(Some(to.into()))) {
            port.transport().stop_listening();
            return Err(failure);
        }
        Ok(port)
    }

    fn bind<P: DatagramProtocol>(
        &self,
        bind: &BindDatagrams,
        protocol: P,
    ) -> Result<DatagramPort<P>, Failure> {
        let core = &self.0;
        if core.is_closed() {
            return Err(ReactorClosed::new().into());
        }
        let socket = core.backend.bind(bind);
        socket
            .and_then(|socket| DatagramPort::open(core, socket, protocol, bind.created_at))
            .map_err(|error| cannot_listen(&bind.at, error))
    }
}

/// The interface on which a multicast group is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MulticastInterface {
    /// An interface that the operating system chooses.
    Any,
    /// The interface with this address, for IPv4.
    Address(Ipv4Addr),
    /// The interface with this number, for IPv6.
    Index(u32),
}

impl From<Ipv4Addr> for MulticastInterface {
    fn from(address: Ipv4Addr) -> Self {
        Self::Address(address)
    }
}

/// Broadcast and multicast.
impl DatagramTransport {
    /// Sets whether datagrams may be sent to broadcast addresses, such as 255.255.255.255. Off by
    /// default.
    ///
    /// # Errors
    /// Fails with the operating-system error, and with
    /// [`NotListeningError`](crate::error::NotListeningError) after the port was closed. All
    /// functions of this block do.
    #[doc(alias = "setBroadcastAllowed")]
    pub fn set_broadcast_allowed(&self, yes: bool) -> Result<(), Failure> {
        self.set_option(DatagramOption::Broadcast(yes))
    }

    /// Returns whether datagrams may be sent to broadcast addresses.
    #[doc(alias = "getBroadcastAllowed")]
    pub fn broadcast_allowed(&self) -> Result<bool, Failure> {
        Ok(matches!(
            self.option(DatagramOption::Broadcast(false))?,
            DatagramOption::Broadcast(true)
        ))
    }

    /// Joins the multicast group `address`, on one interface or on one that the operating system
    /// chooses.
    ///
    /// # Errors
    /// Fails with [`MulticastJoinError`], which holds the address and the operating-system error:
    /// it is not a multicast address, the group was joined before, the interface does not exist, or
    /// it is identified in the way of the other IP version.
    #[doc(alias = "joinGroup")]
    pub fn join_group(
        &self,
        address: impl Into<IpAddr>,
        interface: impl Into<MulticastInterface>,
    ) -> Result<(), Failure> {
        self.change_group(address.into(), interface.into(), true)
    }

    /// Leaves the multicast group.
    ///
    /// # Errors
    /// Fails with [`MulticastJoinError`] if the group was not joined.
    #[doc(alias = "leaveGroup")]
    pub fn leave_group(
        &self,
        address: impl Into<IpAddr>,
        interface: impl Into<MulticastInterface>,
    ) -> Result<(), Failure> {
        self.change_group(address.into(), interface.into(), false)
    }

    fn change_group(
        &self,
        address: IpAddr,
        interface: MulticastInterface,
        join: bool,
    ) -> Result<(), Failure> {
        let mut group = Group { address, interface: Ipv4Addr::UNSPECIFIED, index: 0, join };
        let fits = match interface {
            MulticastInterface::Any => true,
            MulticastInterface::Address(by) => {
                group.interface = by;
                address.is_ipv4()
            }
            MulticastInterface::Index(by) => {
                group.index = by;
                address.is_ipv6()
            }
        };
        let changed = if fits {
            self.group(&group)
        } else {
            Err(io::Error::other("IPv4 identifies an interface by its address, IPv6 by its number"))
        };
        changed.map_err(|error| {
            MulticastJoinError::from_io(&error).with_address(Address::from((address, 0))).into()
        })
    }

    /// Sets the number of networks that a multicast datagram may cross, 0 to 255: 1 by default.
    #[doc(alias = "setTTL")]
    pub fn set_ttl(&self, hops: u32) -> Result<(), Failure> {
        if hops > 255 {
            let text = format!("invalid number of hops {hops}: expected 0 to 255");
            return Err(ValueError::with_text(text).into());
        }
        self.set_option(DatagramOption::Ttl(hops))
    }

    /// Returns the number of networks that a multicast datagram may cross.
    #[doc(alias = "getTTL")]
    pub fn ttl(&self) -> Result<u32, Failure> {
        let DatagramOption::Ttl(hops) = self.option(DatagramOption::Ttl(0))? else { return Ok(0) };
        Ok(hops)
    }

    /// Sets whether this machine receives its own multicast datagrams. On by default.
    #[doc(alias = "setLoopbackMode")]
    pub fn set_loopback_mode(&self, yes: bool) -> Result<(), Failure> {
        self.set_option(DatagramOption::Loopback(yes))
    }

    /// Returns whether this machine receives its own multicast datagrams.
    #[doc(alias = "getLoopbackMode")]
    pub fn loopback_mode(&self) -> Result<bool, Failure> {
        Ok(matches!(self.option(DatagramOption::Loopback(false))?, DatagramOption::Loopback(true)))
    }

    /// Sets the interface, by its IPv4 address, through which multicast datagrams are sent.
    /// `0.0.0.0`, the default, lets the operating system choose.
    #[doc(alias = "setOutgoingInterface")]
    pub fn set_outgoing_interface(&self, interface: Ipv4Addr) -> Result<(), Failure> {
        self.set_option(DatagramOption::Interface(interface))
    }

    /// Returns the interface through which multicast datagrams are sent.
    #[doc(alias = "getOutgoingInterface")]
    pub fn outgoing_interface(&self) -> Result<Ipv4Addr, Failure> {
        let any = Ipv4Addr::UNSPECIFIED;
        let DatagramOption::Interface(interface) = self.option(DatagramOption::Interface(any))?
        else {
            return Ok(any);
        };
        Ok(interface)
    }
}

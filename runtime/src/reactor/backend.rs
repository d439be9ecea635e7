//! The seam between twistor and whatever carries its bytes and its time.
use super::source::Readiness;
use crate::address::Address;
use mio::net::{TcpStream, UnixStream};
use rustix::io::Errno;
use std::{
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::{Deref, DerefMut},
    os::fd::OwnedFd,
    panic::Location,
    sync::Arc,
    time::Duration,
};

/// An event of a source: the slot it has, and what it is ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) slot: usize,
    pub(crate) readiness: Readiness,
}

/// Ends a wait, from any thread.
pub(crate) type Alarm = Arc<dyn Fn() + Send + Sync>;

/// How a port is opened.
#[derive(Debug, Clone)]
pub(crate) struct Bind {
    /// An IP address or a UNIX path.
    pub(crate) at: Address,
    pub(crate) backlog: u32,
    pub(crate) file: FileOptions,
    /// Who asks for it.
    pub(crate) created_at: &'static Location<'static>,
}

/// How the file of a UNIX socket is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileOptions {
    pub(crate) mode: u32,
    /// Whether a lock file beside it says whose it is.
    pub(crate) want_pid: bool,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { mode: 0o666, want_pid: false }
    }
}

/// How a datagram socket is opened.
#[derive(Debug, Clone)]
pub(crate) struct BindDatagrams {
    /// An IP address, a UNIX path, or an unnamed UNIX address.
    pub(crate) at: Address,
    /// Whether several may be bound to it.
    pub(crate) listen_multiple: bool,
    pub(crate) file: FileOptions,
    /// Who asks for it.
    pub(crate) created_at: &'static Location<'static>,
}

/// How a connection is opened.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) to: Address,
    pub(crate) from: Option<SocketAddr>,
    /// Who asks for it.
    pub(crate) created_at: &'static Location<'static>,
}

/// Time, waiting, and the ways to open something.
pub(crate) trait Backend {
    /// Time since a start of its own; never runs backwards.
    fn now(&self) -> Duration;

    /// Waits until something is ready, an alarm rings, or `timeout` has passed (`None`: without
    /// limit), and hands over the events. It is not called inside itself: a reactor runs one turn
    /// at a time.
    fn wait(&self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event)) -> io::Result<()>;

    /// What ends a wait.
    fn alarm(&self) -> Alarm;

    /// Opens a port; it is not registered yet.
    fn listen(&self, bind: &Bind) -> io::Result<Box<dyn RawListener>>;

    /// Begins to connect; an error here is one of this side. The wire is not registered yet, and
    /// becomes writable when it is decided.
    fn connect(&self, dial: &Dial) -> Result<AnyWire, DialError>;

    /// Opens a datagram socket; it is not registered yet.
    fn bind(&self, bind: &BindDatagrams) -> io::Result<Box<dyn Datagrams>> {
        let _ = bind;
        Err(io::Error::new(io::ErrorKind::Unsupported, "there are no datagrams in memory"))
    }

    /// Takes over a descriptor that somebody else has opened.
    fn adopt(&self, descriptor: OwnedFd) -> io::Result<Adopted> {
        drop(descriptor);
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a reactor over memory knows no descriptors",
        ))
    }

    /// The standard input and output of the process, as one stream.
    fn standard_io(&self) -> io::Result<AnyWire> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a reactor over memory has no standard input and output",
        ))
    }

    /// Has the events of `source` come to `slot`; without `interest` no more.
    fn watch(
        &self,
        source: &mut dyn mio::event::Source,
        slot: usize,
        interest: Option<mio::Interest>,
    ) -> io::Result<()> {
        let _ = (source, slot, interest);
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a reactor over memory knows no sources of the system",
        ))
    }

    /// The pipe of the signals `wanted`, registered in `slot`; `None` where there are no signals.
    fn signals(&self, slot: usize, wanted: &[i32]) -> io::Result<Option<Box<dyn Signals>>>;
}

/// Why a connection could not even begin.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The local address could not be bound.
    Bind(io::Error),
    Connect(io::Error),
}

/// One stream of bytes. Nothing here waits: what cannot be done now is `WouldBlock`.
pub(crate) trait Wire {
    /// The events of `backend` go to `slot` from now on.
    fn register(&mut self, backend: &dyn Backend, slot: usize) -> io::Result<()>;

    fn read(&self, into: &mut [u8]) -> io::Result<usize>;

    fn write(&self, data: &[u8]) -> io::Result<usize>;

    fn write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends the writing side: the other side reads to the end of what was written.
    fn shutdown(&self) -> io::Result<()>;

    /// Dropping it from now on resets the connection.
    fn reset_on_drop(&self) -> io::Result<()>;

    /// How an attempt to connect stands: `Ok(true)` made, `Ok(false)` undecided.
    fn connected(&self) -> io::Result<bool>;

    fn host(&self) -> io::Result<Address>;

    fn set_option(&self, option: WireOption) -> io::Result<()>;

    /// How an option stands; the value in `option` says nothing.
    fn option(&self, option: WireOption) -> io::Result<bool> {
        let _ = option;
        Ok(false)
    }

    /// Sends bytes and, with the first of them, descriptors.
    fn write_descriptors(
        &self,
        data: &[IoSlice<'_>],
        descriptors: &[OwnedFd],
    ) -> io::Result<usize> {
        let _ = (data, descriptors);
        Err(io::Error::new(io::ErrorKind::Unsupported, "only UNIX sockets carry descriptors"))
    }

    /// Reads bytes and the descriptors that came with them.
    fn read_descriptors(
        &self,
        into: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        let _ = descriptors;
        self.read(into)
    }

    /// Whether a close waits for the other side's end, so that nothing of ours is lost to a reset.
    fn lingers(&self) -> bool {
        true
    }
}

/// A socket on the path of every byte: the system's own error numbers, of which nothing is made on
/// the way.
pub(crate) trait Socket {
    fn receive(&self, into: &mut [u8]) -> Result<usize, Errno>;

    fn send(&self, data: &[u8]) -> Result<usize, Errno>;
}

/// A wire of any kind. A TCP socket, as most are, lies in it and costs a connection no allocation
/// of its own.
pub(crate) enum AnyWire {
    Tcp(TcpStream),
    Other(Box<dyn Wire>),
}

impl AnyWire {
    pub(crate) fn new(wire: impl Wire + 'static) -> Self {
        Self::Other(Box::new(wire))
    }
}

impl Deref for AnyWire {
    type Target = dyn Wire;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Tcp(wire) => wire,
            Self::Other(wire) => &**wire,
        }
    }
}

impl DerefMut for AnyWire {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Tcp(wire) => wire,
            Self::Other(wire) => &mut **wire,
        }
    }
}

impl From<TcpStream> for AnyWire {
    fn from(wire: TcpStream) -> Self {
        Self::Tcp(wire)
    }
}

impl From<UnixStream> for AnyWire {
    fn from(wire: UnixStream) -> Self {
        Self::new(wire)
    }
}

/// A descriptor that was taken over: what it turned out to be.
pub(crate) enum Adopted {
    Stream(AnyWire, Address),
    Port(Box<dyn RawListener>),
    Datagrams(Box<dyn Datagrams>),
    /// It is a stream socket at this address that is neither connected nor listening.
    Idle(Address),
    /// It is of a family that is neither IP nor UNIX, or of another type.
    Unknown,
}

/// A datagram socket. What cannot be done now is `WouldBlock`.
pub(crate) trait Datagrams {
    fn register(&mut self, slot: usize) -> io::Result<()>;

    fn receive(&self, into: &mut [u8]) -> io::Result<(usize, Address)>;

    fn send(&self, data: &[u8], to: Option<&Address>) -> io::Result<()>;

    fn connect(&self, to: &Address) -> io::Result<()>;

    fn host(&self) -> io::Result<Address>;

    fn set_option(&self, option: DatagramOption) -> io::Result<()>;

    /// How an option stands; the value in `option` says nothing.
    fn option(&self, option: DatagramOption) -> io::Result<DatagramOption>;

    /// Joins or leaves a multicast group.
    fn group(&self, group: &Group) -> io::Result<()>;

    /// Closes it, with its file if it has one.
    fn close(self: Box<Self>) -> io::Result<()>;
}

/// An option of a datagram socket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DatagramOption {
    Broadcast(bool),
    /// How many networks a multicast datagram crosses.
    Ttl(u32),
    Loopback(bool),
    Interface(Ipv4Addr),
}

/// A multicast group to be joined or left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) address: IpAddr,
    /// By which interface; `0.0.0.0` is any, and IPv6 has a number for it, of which 0 is any.
    pub(crate) interface: Ipv4Addr,
    pub(crate) index: u32,
    pub(crate) join: bool,
}

/// An option of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WireOption {
    NoDelay(bool),
    KeepAlive(bool),
}

/// An open port.
pub(crate) trait RawListener {
    fn register(&mut self, slot: usize) -> io::Result<()>;

    fn accept(&self) -> io::Result<(AnyWire, Address)>;

    fn host(&self) -> io::Result<Address>;

    /// Closes it, with its file if it has one.
    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// The pipe that signals come through.
pub(crate) trait Signals {
    /// The numbers of the signals that have come, in order.
    fn pending(&self) -> Vec<i32>;
}

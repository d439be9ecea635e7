//! The interface to whatever carries the bytes and the time of a reactor.
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

/// An event of a source: the slot of the source, and what it is ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) slot: usize,
    pub(crate) readiness: Readiness,
}

/// Ends a wait, from any thread.
pub(crate) type Alarm = Arc<dyn Fn() + Send + Sync>;

/// The parameters for opening a port.
#[derive(Debug, Clone)]
pub(crate) struct Bind {
    /// An IP address or a UNIX path.
    pub(crate) at: Address,
    pub(crate) backlog: u32,
    pub(crate) file: FileOptions,
    /// The line that asked for it.
    pub(crate) created_at: &'static Location<'static>,
}

/// The file of a UNIX socket, and how it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileOptions {
    pub(crate) mode: u32,
    /// Whether a lock file beside it names its process.
    pub(crate) want_pid: bool,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { mode: 0o666, want_pid: false }
    }
}

/// The parameters for opening a datagram socket.
#[derive(Debug, Clone)]
pub(crate) struct BindDatagrams {
    /// An IP address, a UNIX path, or an unnamed UNIX address.
    pub(crate) at: Address,
    /// Whether several sockets may be bound to the address.
    pub(crate) listen_multiple: bool,
    pub(crate) file: FileOptions,
    /// The line that asked for it.
    pub(crate) created_at: &'static Location<'static>,
}

/// The parameters for opening a connection.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) to: Address,
    pub(crate) from: Option<SocketAddr>,
    /// The line that asked for it.
    pub(crate) created_at: &'static Location<'static>,
}

/// A source of time and events, and the functions that open something.
pub(crate) trait Backend {
    /// Returns the time since an arbitrary start; never runs backwards.
    fn now(&self) -> Duration;

    /// Waits until a source is ready, an alarm is raised, or `timeout` has passed (`None`: without
    /// limit), and passes the events to `sink`. It is never called inside itself, because a reactor
    /// runs one turn at a time.
    fn wait(&self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event)) -> io::Result<()>;

    /// Returns the function that ends a wait.
    fn alarm(&self) -> Alarm;

    /// Opens a port, without registering it.
    fn listen(&self, bind: &Bind) -> io::Result<Box<dyn RawListener>>;

    /// Begins to connect. An error here is one of this machine. The wire is not registered; it
    /// becomes writable when the attempt has succeeded or failed.
    fn connect(&self, dial: &Dial) -> Result<AnyWire, DialError>;

    /// Opens a datagram socket, without registering it.
    fn bind(&self, bind: &BindDatagrams) -> io::Result<Box<dyn Datagrams>> {
        let _ = bind;
        Err(io::Error::new(io::ErrorKind::Unsupported, "MemoryReactor does not support datagrams"))
    }

    /// Takes over a descriptor that was opened elsewhere.
    fn adopt(&self, descriptor: OwnedFd) -> io::Result<Adopted> {
        drop(descriptor);
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "MemoryReactor does not support file descriptors",
        ))
    }

    /// Returns the standard input and output of the process, as one stream.
    fn standard_io(&self) -> io::Result<AnyWire> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "MemoryReactor does not support standard input and output",
        ))
    }

    /// Directs the events of `source` to `slot`; without `interest` there are no more events.
    fn watch(
        &self,
        source: &mut dyn mio::event::Source,
        slot: usize,
        interest: Option<mio::Interest>,
    ) -> io::Result<()> {
        let _ = (source, slot, interest);
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "MemoryReactor does not support sources of the operating system",
        ))
    }

    /// Returns the pipe of the signals `wanted`, registered in `slot`; `None` where there are no
    /// signals.
    fn signals(&self, slot: usize, wanted: &[i32]) -> io::Result<Option<Box<dyn Signals>>>;
}

/// The attempt to connect could not begin.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The local address could not be bound.
    Bind(io::Error),
    Connect(io::Error),
}

/// One stream of bytes. No function blocks: what cannot be done now fails with `WouldBlock`.
pub(crate) trait Wire {
    /// Registers the wire with `backend`: its events come to `slot`.
    fn register(&mut self, backend: &dyn Backend, slot: usize) -> io::Result<()>;

    fn read(&self, into: &mut [u8]) -> io::Result<usize>;

    fn write(&self, data: &[u8]) -> io::Result<usize>;

    fn write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends an end of file: the peer reads up to the last byte that was written.
    fn shutdown(&self) -> io::Result<()>;

    /// Makes the drop of the wire reset the connection.
    fn reset_on_drop(&self) -> io::Result<()>;

    /// Returns the state of an attempt to connect: `Ok(true)` if it has succeeded, `Ok(false)` if
    /// it is undecided.
    fn connected(&self) -> io::Result<bool>;

    fn host(&self) -> io::Result<Address>;

    fn set_option(&self, option: WireOption) -> io::Result<()>;

    /// Reads an option; the value carried by `option` is ignored.
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

    /// Returns whether a close waits for the peer's end of file, so that no sent bytes are lost to
    /// a reset.
    fn lingers(&self) -> bool {
        true
    }
}

/// A socket for the byte paths. It returns the operating system's error numbers, without creating
/// an error value for each.
pub(crate) trait Socket {
    fn receive(&self, into: &mut [u8]) -> Result<usize, Errno>;

    fn send(&self, data: &[u8]) -> Result<usize, Errno>;
}

/// A wire of any kind. TCP sockets are by far the most frequent and are stored inline, which saves
/// each connection an allocation.
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

/// A descriptor that was taken over, by its kind.
pub(crate) enum Adopted {
    Stream(AnyWire, Address),
    Port(Box<dyn RawListener>),
    Datagrams(Box<dyn Datagrams>),
    /// A stream socket at this address that is neither connected nor listening.
    Idle(Address),
    /// A socket of a family that is neither IP nor UNIX, or of another type.
    Unknown,
}

/// A datagram socket. What cannot be done now fails with `WouldBlock`.
pub(crate) trait Datagrams {
    fn register(&mut self, slot: usize) -> io::Result<()>;

    fn receive(&self, into: &mut [u8]) -> io::Result<(usize, Address)>;

    fn send(&self, data: &[u8], to: Option<&Address>) -> io::Result<()>;

    fn connect(&self, to: &Address) -> io::Result<()>;

    fn host(&self) -> io::Result<Address>;

    fn set_option(&self, option: DatagramOption) -> io::Result<()>;

    /// Reads an option; the value carried by `option` is ignored.
    fn option(&self, option: DatagramOption) -> io::Result<DatagramOption>;

    /// Joins or leaves a multicast group.
    fn group(&self, group: &Group) -> io::Result<()>;

    /// Closes the socket, and removes its file if it has one.
    fn close(self: Box<Self>) -> io::Result<()>;
}

/// An option of a datagram socket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DatagramOption {
    Broadcast(bool),
    /// The number of networks that a multicast datagram may cross.
    Ttl(u32),
    Loopback(bool),
    Interface(Ipv4Addr),
}

/// The parameters for joining or leaving a multicast group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) address: IpAddr,
    /// The interface to use: `0.0.0.0` means any. For IPv6 it is a number, of which 0 means any.
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

    /// Closes the port, and removes its file if it has one.
    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// The pipe through which signals arrive.
pub(crate) trait Signals {
    /// Returns the numbers of the signals that have arrived, in order.
    fn pending(&self) -> Vec<i32>;
}

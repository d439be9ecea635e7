//! Streams and ports of the operating system: TCP and UNIX sockets.
use crate::{
    address::Address,
    lockfile::FilesystemLock,
    reactor::backend::{self, AnyWire, Backend, RawListener, Wire, WireOption},
};
use mio::{Interest, Registry, Token, event::Source, net::TcpStream};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use socket2::{SockAddr, SockRef};
use std::{
    ffi::OsString,
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

/// The maximum number of descriptors in one message: Linux sends no more than 253 (`SCM_MAX_FD`).
const MOST_DESCRIPTORS: usize = 253;

/// Room for the control messages that come with bytes: descriptors, and the peer's credentials, with
/// which Linux precedes them on a socket with `SO_PASSCRED`.
const CONTROL_SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS), ScmRights(4));

/// Converts a socket's address. One of a family that is neither IP nor UNIX becomes an unnamed UNIX
/// address.
pub(super) fn address(found: &SockAddr) -> Address {
    match found.as_socket() {
        Some(SocketAddr::V4(at)) => Address::IPv4(at),
        Some(SocketAddr::V6(at)) => Address::IPv6(at),
        None => Address::Unix(unix_path(found.as_abstract_namespace(), found.as_pathname())),
    }
}

/// Returns the path of a UNIX address; a name in the abstract namespace begins with a NUL byte.
pub(super) fn unix_path(name: Option<&[u8]>, path: Option<&Path>) -> Option<PathBuf> {
    match name {
        Some(name) => Some(OsString::from_vec([&[0], name].concat()).into()),
        None => path.map(Path::to_owned),
    }
}

/// Converts into a socket's address.
pub(super) fn socket_address(at: &Address) -> io::Result<SockAddr> {
    match at {
        Address::IPv4(at) => Ok((*at).into()),
        Address::IPv6(at) => Ok((*at).into()),
        Address::Unix(Some(path)) => {
            // the system would take the path to end there
            if path.as_os_str().as_bytes().iter().skip(1).any(|byte| *byte == 0) {
                let text = format!(
                    "`{}` contains NUL, which only an abstract name may begin with",
                    path.to_string_lossy().escape_debug()
                );
                return Err(io::Error::new(ErrorKind::InvalidInput, text));
            }
            SockAddr::unix(path)
        }
        Address::Unix(None) | Address::Hostname(..) => {
            Err(io::Error::new(ErrorKind::InvalidInput, format!("{at} is not a socket address")))
        }
    }
}

/// Returns whether `path` is a name in the abstract namespace, which has no file.
pub(super) fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

/// Every stream socket of the operating system is a wire.
impl<S: Source + AsFd> Wire for S {
    fn register(&mut self, backend: &dyn Backend, slot: usize) -> io::Result<()> {
        backend.watch(self, slot, Some(Interest::READABLE | Interest::WRITABLE))
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self, into)?)
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self, data, SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        // writev(2) has no flag against SIGPIPE
        Ok(sendmsg(self, data, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?)
    }

    fn shutdown(&self) -> io::Result<()> {
        match SockRef::from(self).shutdown(Shutdown::Write) {
            // the peer has disconnected already
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }

    fn reset_on_drop(&self) -> io::Result<()> {
        SockRef::from(self).set_linger(Some(Duration::ZERO))
    }

    fn connected(&self) -> io::Result<bool> {
        let socket = SockRef::from(self);
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn host(&self) -> io::Result<Address> {
        Ok(address(&SockRef::from(self).local_addr()?))
    }

    fn set_option(&self, option: WireOption) -> io::Result<()> {
        let socket = SockRef::from(self);
        match option {
            WireOption::NoDelay(yes) => socket.set_tcp_nodelay(yes),
            WireOption::KeepAlive(yes) => socket.set_keepalive(yes),
        }
    }

    fn option(&self, option: WireOption) -> io::Result<bool> {
        let socket = SockRef::from(self);
        match option {
            WireOption::NoDelay(_) => socket.tcp_nodelay(),
            WireOption::KeepAlive(_) => socket.keepalive(),
        }
    }

    fn write_descriptors(
        &self,
        data: &[IoSlice<'_>],
        descriptors: &[OwnedFd],
    ) -> io::Result<usize> {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut space =
            vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
        Ok(sendmsg(self, data, &mut control, SendFlags::NOSIGNAL)?)
    }

    fn read_descriptors(
        &self,
        into: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        let mut space = vec![MaybeUninit::uninit(); CONTROL_SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got =
            recvmsg(self, &mut [IoSliceMut::new(into)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(got) = message {
                descriptors.extend(got);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            let text = "descriptors were lost on arrival, mostly because no more may be open here";
            return Err(io::Error::other(text));
        }
        Ok(got.bytes)
    }
}

impl backend::Socket for TcpStream {
    #[inline]
    fn receive(&self, into: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(self, into)
    }

    #[inline]
    fn send(&self, data: &[u8]) -> Result<usize, Errno> {
        rustix::net::send(self, data, SendFlags::NOSIGNAL)
    }
}

/// A socket of which another process may have a copy. Closing it does not remove it from the
/// poller, so it is deregistered first.
pub(super) struct SharedSocket<S: Source> {
    pub(super) socket: S,
    pub(super) registry: Rc<Registry>,
}

impl<S: Source> Drop for SharedSocket<S> {
    fn drop(&mut self) {
        // an error means that it was never registered
        let _ = self.registry.deregister(&mut self.socket);
    }
}

impl<S: Source> Source for SharedSocket<S> {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

impl<S: Source + AsFd> AsFd for SharedSocket<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A listening socket: one of mio's two types.
pub(super) trait Listener: Source + AsFd {
    type Stream: Into<AnyWire>;

    /// Accepts the next connection; returns it with the peer's address.
    fn next(&self) -> io::Result<(Self::Stream, Address)>;
}

impl Listener for mio::net::TcpListener {
    type Stream = mio::net::TcpStream;

    fn next(&self) -> io::Result<(Self::Stream, Address)> {
        let (stream, peer) = self.accept()?;
        Ok((stream, peer.into()))
    }
}

impl Listener for mio::net::UnixListener {
    type Stream = mio::net::UnixStream;

    fn next(&self) -> io::Result<(Self::Stream, Address)> {
        let (stream, _) = self.accept()?;
        let peer =
            SockRef::from(&stream).peer_addr().map_or(Address::Unix(None), |peer| address(&peer));
        Ok((stream, peer))
    }
}

/// An open port.
pub(super) struct SystemPort<L: Source> {
    pub(super) listener: L,
    pub(super) registry: Rc<Registry>,
    /// As for a socket that is [`SharedSocket`].
    pub(super) adopted: bool,
    /// The file to remove with it, for a port in the file system.
    pub(super) file: Option<SocketFile>,
}

impl<L: Source> Drop for SystemPort<L> {
    fn drop(&mut self) {
        if self.adopted {
            let _ = self.registry.deregister(&mut self.listener);
        }
    }
}

impl<L: Listener> RawListener for SystemPort<L> {
    fn register(&mut self, slot: usize) -> io::Result<()> {
        self.registry.register(&mut self.listener, Token(slot), Interest::READABLE)
    }

    fn accept(&self) -> io::Result<(AnyWire, Address)> {
        match self.listener.next() {
            Ok((stream, peer)) => Ok((stream.into(), peer)),
            Err(error) if is_connections_own(&error) => Err(ErrorKind::ConnectionAborted.into()),
            Err(error) => Err(error),
        }
    }

    fn host(&self) -> io::Result<Address> {
        Ok(address(&SockRef::from(&self.listener).local_addr()?))
    }

    fn close(mut self: Box<Self>) -> io::Result<()> {
        self.file.take().map_or(Ok(()), SocketFile::remove)
    }
}

/// Returns whether an error of accept(2) belongs to the connection and not to the port: those that
/// its manual page lists as errors of the network, and the refusal by a firewall.
fn is_connections_own(error: &io::Error) -> bool {
    const NETWORK: [Errno; 9] = [
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::PERM,
        Errno::TIMEDOUT,
    ];
    let own = |errno| NETWORK.contains(&errno);
    Errno::from_io_error(error).is_some_and(|errno| own(errno) || is_no_network(errno))
}

/// Returns whether the machine is not on the network, an error that Linux alone has.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_no_network(errno: Errno) -> bool {
    errno == Errno::NONET
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_no_network(_errno: Errno) -> bool {
    false
}

/// The file of a UNIX socket, and the lock that names its owner. Both are removed with the socket.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Identifies the file once it has been created: another file at the same path belongs to
    /// somebody else and is kept.
    identity: Option<(u64, u64)>,
    lock: Option<FilesystemLock>,
}

impl SocketFile {
    /// Prepares `path` for a socket. With a lock file, only one process owns the path, and the
    /// socket file of a dead process is removed.
    pub(super) fn prepare(path: &Path, want_pid: bool) -> io::Result<Self> {
        let mut file = Self { path: path.to_owned(), identity: None, lock: None };
        if want_pid {
            let mut lock = FilesystemLock::new(lock_path(path));
            if !lock.lock()? {
                let text = format!(
                    "lock file `{}` is held by a running process",
                    lock_path(path).display()
                );
                return Err(io::Error::new(ErrorKind::AddrInUse, text));
            }
            let clean = lock.is_clean();
            file.lock = Some(lock);
            // a file that is not a socket is kept, and makes the bind fail
            if !clean
                && std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
            {
                ignore_missing(std::fs::remove_file(path))?;
            }
        }
        Ok(file)
    }

    /// Records the identity of the file after the socket was bound.
    pub(super) fn on_bound(&mut self) -> io::Result<()> {
        self.identity = Some(identity(&self.path)?);
        Ok(())
    }

    pub(super) fn remove(mut self) -> io::Result<()> {
        self.tidy()
    }

    fn tidy(&mut self) -> io::Result<()> {
        let bound = self.identity.take();
        let ours = bound.is_some() && identity(&self.path).ok() == bound;
        let removed = if ours { ignore_missing(std::fs::remove_file(&self.path)) } else { Ok(()) };
        let unlocked = self.lock.take().map_or(Ok(()), |mut lock| lock.unlock());
        removed.and(unlocked.map_err(|failure| io::Error::other(failure.to_string())))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = self.tidy() {
            tracing::warn!("a socket file could not be removed: {error}");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Returns the path of a socket's lock file, which is beside it.
pub(in crate::transport) fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

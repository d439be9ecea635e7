//! The reactor's back end over mio: waiting, and opening the sockets that the other files here read
//! and write.
use super::{
    datagram_sockets::SystemDatagrams,
    signal_pipe::SignalPipe,
    sockets::{
        Listener, SharedSocket, SocketFile, SystemPort, address, is_abstract, socket_address,
    },
    standard_io::StandardIo,
};
use crate::{
    address::Address,
    failure::Failure,
    reactor::{
        Reactor,
        backend::{
            Adopted, Alarm, AnyWire, Backend, Bind, BindDatagrams, Datagrams, Dial, DialError,
            Event, FileOptions, RawListener, Signals,
        },
        source::Readiness,
    },
};
use mio::{
    Events, Interest, Poll, Registry, Token, Waker,
    event::Source,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use std::{
    cell::RefCell,
    fs::Permissions,
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// The maximum number of events in one wait.
const EVENTS: usize = 1024;

/// The token of the alarm. No slot has this number, so its events are not delivered; they only end
/// the wait.
const ALARM: Token = Token(usize::MAX);

struct System {
    poll: RefCell<(Poll, Events)>,
    registry: Rc<Registry>,
    waker: Arc<Waker>,
    start: Instant,
}

impl Reactor {
    /// Creates a reactor over the operating system.
    ///
    /// # Errors
    /// Fails with the operating-system error if there can be no event queue, mostly because no
    /// descriptors are left.
    pub fn new() -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, ALARM)?;
        Ok(Self::over(Rc::new(System {
            poll: RefCell::new((poll, Events::with_capacity(EVENTS))),
            registry: Rc::new(registry),
            waker: Arc::new(waker),
            start: Instant::now(),
        })))
    }
}

impl Backend for System {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait(&self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event)) -> io::Result<()> {
        let (poll, found) = &mut *self.poll.borrow_mut();
        match poll.poll(found, timeout) {
            // interrupted by a signal, whose pipe is readable in the next wait
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in found.iter() {
            let closed = event.is_read_closed() | event.is_error();
            let readiness = Readiness::new(event.is_readable(), event.is_writable(), closed);
            sink(Event { slot: event.token().0, readiness });
        }
        Ok(())
    }

    fn alarm(&self) -> Alarm {
        let waker = self.waker.clone();
        Arc::new(move || {
            // this fails only when the queue is gone, and then nothing waits
            let _ = waker.wake();
        })
    }

    fn listen(&self, bind: &Bind) -> io::Result<Box<dyn RawListener>> {
        let backlog = i32::try_from(bind.backlog).unwrap_or(i32::MAX);
        let Address::Unix(path) = &bind.at else {
            let socket = open(&bind.at, Type::STREAM)?;
            socket.set_reuse_address(true)?;
            socket.bind(&socket_address(&bind.at)?)?;
            // accepted connections inherit it; a socket that rejects it works all the same
            let _ = socket.set_tcp_nodelay(true);
            socket.listen(backlog)?;
            return Ok(self.port(TcpListener::from_std(socket.into()), None, false));
        };
        let (socket, file) = bind_file(&bind.at, path.as_deref(), Type::STREAM, bind.file)?;
        socket.listen(backlog)?;
        Ok(self.port(UnixListener::from_std(socket.into()), file, false))
    }

    fn connect(&self, dial: &Dial) -> Result<AnyWire, DialError> {
        let socket = open(&dial.to, Type::STREAM).map_err(DialError::Connect)?;
        if let Some(from) = dial.from {
            socket.bind(&from.into()).map_err(DialError::Bind)?;
        }
        let unix = matches!(dial.to, Address::Unix(_));
        let begun = socket_address(&dial.to).and_then(|to| socket.connect(&to));
        match begun {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {}
            // on a UNIX socket this means that the peer's backlog is full, and no event would
            // follow
            Err(error) if error.kind() == ErrorKind::WouldBlock && !unix => {}
            Err(error) => return Err(DialError::Connect(error)),
            Ok(()) => {}
        }
        Ok(if unix {
            UnixStream::from_std(socket.into()).into()
        } else {
            TcpStream::from_std(socket.into()).into()
        })
    }

    fn bind(&self, bind: &BindDatagrams) -> io::Result<Box<dyn Datagrams>> {
        let (socket, file) = if let Address::Unix(path) = &bind.at {
            bind_file(&bind.at, path.as_deref(), Type::DGRAM, bind.file)?
        } else {
            let socket = open(&bind.at, Type::DGRAM)?;
            if bind.listen_multiple {
                socket.set_reuse_address(true)?;
                socket.set_reuse_port(true)?;
            }
            socket.bind(&socket_address(&bind.at)?)?;
            (socket, None)
        };
        Ok(Box::new(SystemDatagrams {
            socket,
            registry: self.registry.clone(),
            file,
            adopted: false,
        }))
    }

    fn adopt(&self, descriptor: OwnedFd) -> io::Result<Adopted> {
        let socket = Socket::from(descriptor);
        let host = socket.local_addr()?;
        let unix = match host.domain() {
            Domain::IPV4 | Domain::IPV6 => false,
            Domain::UNIX => true,
            _ => return Ok(Adopted::Unknown),
        };
        socket.set_nonblocking(true)?;
        match socket.r#type()? {
            Type::DGRAM => {
                let registry = self.registry.clone();
                return Ok(Adopted::Datagrams(Box::new(SystemDatagrams {
                    socket,
                    registry,
                    file: None,
                    adopted: true,
                })));
            }
            Type::STREAM => {}
            _ => return Ok(Adopted::Unknown),
        }
        if let Ok(peer) = socket.peer_addr() {
            let peer = address(&peer);
            let registry = self.registry.clone();
            let wire = if unix {
                AnyWire::new(SharedSocket { socket: UnixStream::from_std(socket.into()), registry })
            } else {
                AnyWire::new(SharedSocket { socket: TcpStream::from_std(socket.into()), registry })
            };
            return Ok(Adopted::Stream(wire, peer));
        }
        if !listens(&socket)? {
            return Ok(Adopted::Idle(address(&host)));
        }
        Ok(Adopted::Port(if unix {
            self.port(UnixListener::from_std(socket.into()), None, true)
        } else {
            let _ = socket.set_tcp_nodelay(true);
            self.port(TcpListener::from_std(socket.into()), None, true)
        }))
    }

    fn standard_io(&self) -> io::Result<AnyWire> {
        Ok(AnyWire::new(StandardIo::new(self.registry.clone())?))
    }

    fn watch(
        &self,
        source: &mut dyn Source,
        slot: usize,
        interest: Option<Interest>,
    ) -> io::Result<()> {
        match interest {
            Some(interest) => source.register(&self.registry, Token(slot), interest),
            None => source.deregister(&self.registry),
        }
    }

    fn signals(&self, slot: usize, wanted: &[i32]) -> io::Result<Option<Box<dyn Signals>>> {
        Ok(Some(Box::new(SignalPipe::new(&self.registry, slot, wanted)?)))
    }
}

fn open(at: &Address, kind: Type) -> io::Result<Socket> {
    let domain = match at {
        Address::Unix(_) => Domain::UNIX,
        Address::IPv6(_) => Domain::IPV6,
        Address::IPv4(_) | Address::Hostname(..) => Domain::IPV4,
    };
    let socket = Socket::new(domain, kind, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Returns whether the socket is listening. Where the system does not tell, the first accept does.
fn listens(socket: &Socket) -> io::Result<bool> {
    #[cfg(not(target_vendor = "apple"))]
    return Ok(rustix::net::sockopt::socket_acceptconn(socket)?);
    #[cfg(target_vendor = "apple")]
    {
        let _ = socket;
        Ok(true)
    }
}

/// Binds a UNIX socket to its path, with the requested mode and lock. Without a path it is unnamed.
fn bind_file(
    at: &Address,
    path: Option<&Path>,
    kind: Type,
    options: FileOptions,
) -> io::Result<(Socket, Option<SocketFile>)> {
    let socket = open(at, kind)?;
    let Some(path) = path else { return Ok((socket, None)) };
    if is_abstract(path) {
        socket.bind(&socket_address(at)?)?;
        return Ok((socket, None));
    }
    let (address, mode) = (socket_address(at)?, permissions(options.mode)?);
    let mut file = SocketFile::prepare(path, options.want_pid)?;
    socket.bind(&address)?;
    file.on_bound()?;
    std::fs::set_permissions(path, mode)?;
    Ok((socket, Some(file)))
}

/// Converts a file mode, of which the system would ignore all but the permission bits.
fn permissions(mode: u32) -> io::Result<Permissions> {
    if mode > 0o7777 {
        let text = format!("invalid mode {mode:o}: expected permission bits, at most 7777");
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    Ok(Permissions::from_mode(mode))
}

impl System {
    fn port<L: Listener + 'static>(
        &self,
        listener: L,
        file: Option<SocketFile>,
        adopted: bool,
    ) -> Box<dyn RawListener> {
        Box::new(SystemPort { listener, registry: self.registry.clone(), adopted, file })
    }
}

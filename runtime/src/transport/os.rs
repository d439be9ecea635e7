//! The operating system through mio: the one place that opens, reads, writes and sets options of sockets.
use crate::{
    address::Address,
    failure::Failure,
    reactor::{
        Reactor,
        backend::{Accept, Alarm, Backend, Bind, Dial, DialError, Event, Signals, Wire, WireOption},
        source::Readiness,
    },
};
use mio::{
    Events, Interest, Poll, Registry, Token, Waker,
    net::{TcpListener, TcpStream},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    cell::RefCell,
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// How many events one wait brings at most.
const EVENTS: usize = 1024;

/// The token of the alarm: no slot has it.
const ALARM: Token = Token(usize::MAX);

struct System {
    poll: RefCell<Poll>,
    events: RefCell<Events>,
    registry: Rc<Registry>,
    waker: Arc<Waker>,
    start: Instant,
}

impl Reactor {
    /// A reactor over the operating system.
    ///
    /// # Errors
    /// What the operating system says when it gives no event queue: mostly that there are no descriptors left.
    pub fn new() -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, ALARM)?;
        Ok(Self::over(Rc::new(System {
            poll: RefCell::new(poll),
            events: RefCell::new(Events::with_capacity(EVENTS)),
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
        let mut found = self.events.borrow_mut();
        match self.poll.borrow_mut().poll(&mut found, timeout) {
            // a signal: its pipe is readable in the next wait
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in found.iter() {
            if event.token() != ALARM {
                let closed = event.is_read_closed() || event.is_error();
                let readiness = Readiness::new(event.is_readable(), event.is_writable(), closed);
                sink(Event { slot: event.token().0, readiness });
            }
        }
        Ok(())
    }

    fn alarm(&self) -> Alarm {
        let waker = self.waker.clone();
        Arc::new(move || {
            // it fails only when the queue is gone, and then nobody waits
            let _ = waker.wake();
        })
    }

    fn listen(&self, bind: &Bind) -> io::Result<Box<dyn Accept>> {
        let socket = socket(bind.at)?;
        socket.set_reuse_address(true)?;
        socket.bind(&bind.at.into())?;
        socket.listen(i32::try_from(bind.backlog).unwrap_or(i32::MAX))?;
        let listener = TcpListener::from_std(socket.into());
        Ok(Box::new(SystemPort { listener, registry: self.registry.clone() }))
    }

    fn connect(&self, dial: &Dial) -> Result<Box<dyn Wire>, DialError> {
        let socket = socket(dial.to).map_err(DialError::Connect)?;
        if let Some(from) = dial.from {
            socket.bind(&from.into()).map_err(DialError::Bind)?;
        }
        match socket.connect(&dial.to.into()) {
            Err(error) if error.raw_os_error() != Some(EINPROGRESS) && error.kind() != ErrorKind::WouldBlock => {
                return Err(DialError::Connect(error));
            }
            _ => {}
        }
        let stream = TcpStream::from_std(socket.into());
        Ok(Box::new(SystemWire { stream, registry: self.registry.clone() }))
    }

    fn signals(&self, slot: usize, wanted: &[i32]) -> io::Result<Option<Box<dyn Signals>>> {
        let mut signals = signal_hook_mio::v1_0::Signals::new(wanted)?;
        self.registry.register(&mut signals, Token(slot), Interest::READABLE)?;
        Ok(Some(Box::new(SystemSignals(RefCell::new(signals)))))
    }
}

/// "The connection is being made": std has no stable kind for it. The number of Linux, and of the BSDs and macOS.
const EINPROGRESS: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 115 } else { 36 };

fn socket(at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

struct SystemWire {
    stream: TcpStream,
    registry: Rc<Registry>,
}

impl Wire for SystemWire {
    fn register(&mut self, slot: usize) -> io::Result<()> {
        self.registry.register(&mut self.stream, Token(slot), Interest::READABLE | Interest::WRITABLE)
    }

    #[inline]
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.stream).read(into)
    }

    #[inline]
    fn write(&self, data: &[u8]) -> io::Result<usize> {
        (&self.stream).write(data)
    }

    fn write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.stream).write_vectored(data)
    }

    fn shutdown(&self) -> io::Result<()> {
        match self.stream.shutdown(std::net::Shutdown::Write) {
            // the other side was faster
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }

    fn reset_on_drop(&self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    fn connected(&self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn host(&self) -> io::Result<Address> {
        Ok(self.stream.local_addr()?.into())
    }

    fn set_option(&self, option: WireOption) -> io::Result<()> {
        match option {
            WireOption::NoDelay(yes) => self.stream.set_nodelay(yes),
            WireOption::KeepAlive(yes) => SockRef::from(&self.stream).set_keepalive(yes),
        }
    }
}

struct SystemPort {
    listener: TcpListener,
    registry: Rc<Registry>,
}

impl Accept for SystemPort {
    fn register(&mut self, slot: usize) -> io::Result<()> {
        self.registry.register(&mut self.listener, Token(slot), Interest::READABLE)
    }

    fn accept(&self) -> io::Result<(Box<dyn Wire>, Address)> {
        let (stream, peer) = self.listener.accept()?;
        Ok((Box::new(SystemWire { stream, registry: self.registry.clone() }), peer.into()))
    }

    fn host(&self) -> io::Result<Address> {
        Ok(self.listener.local_addr()?.into())
    }
}

struct SystemSignals(RefCell<signal_hook_mio::v1_0::Signals>);

impl Signals for SystemSignals {
    fn pending(&self) -> Vec<i32> {
        self.0.borrow_mut().pending().collect()
    }
}

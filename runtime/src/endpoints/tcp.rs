//! TCP endpoints.
use super::endpoint::{ClientEndpoint, ServerEndpoint, StreamClient, StreamServer};
use crate::{
    address::Address,
    defer::Deferred,
    error::DnsLookupError,
    protocol::ErasedFactory,
    reactor::{
        NameQuery, Reactor,
        backend::{Bind, Dial, FileOptions},
    },
    transport::{self, ConnectTcpOptions, DEFAULT_BACKLOG, Port},
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::Location,
    rc::Rc,
    time::Duration,
};

/// A TCP port to listen on, by default on every interface and with a backlog of 50.
///
/// ```
/// use twistor::{endpoints::Tcp4ServerEndpoint, reactor::Reactor};
///
/// let reactor = Reactor::new()?;
/// let endpoint = Tcp4ServerEndpoint::new(&reactor, 8007).interface([127, 0, 0, 1]).endpoint();
/// # let _ = endpoint;
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[doc(alias = "TCP4ServerEndpoint")]
#[derive(Clone)]
pub struct Tcp4ServerEndpoint {
    reactor: Reactor,
    at: SocketAddr,
    backlog: u32,
}

impl Tcp4ServerEndpoint {
    /// Creates an endpoint for `port` on every interface; 0 means any free port.
    pub fn new(reactor: &Reactor, port: u16) -> Self {
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self { reactor: reactor.clone(), at, backlog: DEFAULT_BACKLOG }
    }

    /// Sets the interface to listen on.
    #[must_use]
    pub fn interface(mut self, interface: impl Into<IpAddr>) -> Self {
        self.at.set_ip(interface.into());
        self
    }

    /// Sets the backlog: the number of connections that may wait to be accepted.
    #[must_use]
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Converts into a [`ServerEndpoint`].
    pub fn endpoint(self) -> ServerEndpoint {
        ServerEndpoint(Rc::new(self))
    }
}

impl StreamServer for Tcp4ServerEndpoint {
    fn listen_erased(
        &self,
        acceptor: Rc<dyn ErasedFactory>,
        created_at: &'static Location<'static>,
    ) -> Deferred<Port> {
        let bind = Bind {
            at: self.at.into(),
            backlog: self.backlog,
            file: FileOptions::default(),
            created_at,
        };
        match transport::listen(&self.reactor, bind, acceptor) {
            Ok(port) => Deferred::succeed(port),
            Err(failure) => Deferred::fail(failure),
        }
    }
}

impl fmt::Debug for Tcp4ServerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Tcp4ServerEndpoint {}", self.at)?;
        if self.backlog != DEFAULT_BACKLOG {
            write!(f, " backlog={}", self.backlog)?;
        }
        f.write_str(">")
    }
}

/// A TCP host and port to connect to, by default with a time limit of 30 seconds. A host name is
/// resolved; the first IPv4 address of the answer is used, or the first address of any kind if
/// there is none.
///
/// ```
/// use std::time::Duration;
/// use twistor::{endpoints::Tcp4ClientEndpoint, reactor::Reactor};
///
/// let reactor = Reactor::new()?;
/// let endpoint = Tcp4ClientEndpoint::new(&reactor, "127.0.0.1", 8007)
///     .timeout(Duration::from_secs(5))
///     .endpoint();
/// # let _ = endpoint;
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[doc(alias = "TCP4ClientEndpoint")]
#[derive(Clone)]
pub struct Tcp4ClientEndpoint {
    reactor: Reactor,
    host: String,
    port: u16,
    options: ConnectTcpOptions,
}

impl Tcp4ClientEndpoint {
    /// Creates an endpoint for `host` and `port`.
    pub fn new(reactor: &Reactor, host: impl Into<String>, port: u16) -> Self {
        Self {
            reactor: reactor.clone(),
            host: host.into(),
            port,
            options: ConnectTcpOptions::default(),
        }
    }

    /// Sets the time limit of an attempt.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// Sets the local address to connect from; a port of 0 means any.
    #[must_use]
    pub fn bind_address(mut self, from: SocketAddr) -> Self {
        self.options.bind_address = Some(from);
        self
    }

    /// Converts into a [`ClientEndpoint`].
    pub fn endpoint(self) -> ClientEndpoint {
        ClientEndpoint(Rc::new(self))
    }
}

impl StreamClient for Tcp4ClientEndpoint {
    fn connect_erased(
        &self,
        acceptor: Rc<dyn ErasedFactory>,
        created_at: &'static Location<'static>,
    ) -> Deferred<()> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return dial(
                &self.reactor,
                SocketAddr::new(ip, self.port),
                acceptor,
                &self.options,
                created_at,
            );
        }
        let (reactor, options, host) =
            (self.reactor.clone(), self.options.clone(), self.host.clone());
        self.reactor.resolve_host(&NameQuery::new(&self.host, self.port)).add_callback(
            move |found| match found.iter().find(|at| at.is_ipv4()).or(found.first()) {
                Some(to) => dial(&reactor, *to, acceptor, &options, created_at),
                None => Deferred::fail(DnsLookupError::with_text(host)),
            },
        )
    }
}

fn dial(
    reactor: &Reactor,
    to: SocketAddr,
    acceptor: Rc<dyn ErasedFactory>,
    options: &ConnectTcpOptions,
    created_at: &'static Location<'static>,
) -> Deferred<()> {
    transport::connect(
        reactor,
        &Dial { to: to.into(), from: options.bind_address, created_at },
        acceptor,
        options.timeout,
    )
}

impl fmt::Debug for Tcp4ClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Tcp4ClientEndpoint {}", Address::Hostname(self.host.clone(), self.port))?;
        if self.options.timeout != ConnectTcpOptions::default().timeout {
            write!(f, " timeout={:?}", self.options.timeout)?;
        }
        if let Some(from) = self.options.bind_address {
            write!(f, " bind_address={from}")?;
        }
        f.write_str(">")
    }
}

//! Addresses of ports and of the two ends of a connection.
use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// One end of a connection: an IPv4, IPv6 or UNIX address, or a host name that has not been
/// resolved yet.
///
/// `Display` is what a person would type: `127.0.0.1:8007`, `[::1]:8007`, `/run/echo.sock`,
/// `example.com:80`.
///
/// ```
/// use twistor::address::Address;
///
/// let address = Address::from("127.0.0.1:8007".parse::<std::net::SocketAddr>().unwrap());
/// assert_eq!((address.host().as_str(), address.port()), ("127.0.0.1", 8007));
/// assert_eq!(address.to_string(), "127.0.0.1:8007");
/// ```
#[doc(alias = "IAddress")]
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Address {
    /// An IPv4 host and port.
    #[doc(alias = "IPv4Address")]
    IPv4(SocketAddrV4),
    /// An IPv6 host and port, with flow information and scope.
    #[doc(alias = "IPv6Address")]
    IPv6(SocketAddrV6),
    /// The path of a UNIX socket; `None` for an unnamed one. A path that begins with a NUL byte is
    /// a name in Linux's abstract namespace, which has no file.
    #[doc(alias = "UNIXAddress")]
    Unix(Option<PathBuf>),
    /// A host name and a port, before the name has been resolved.
    #[doc(alias = "HostnameAddress")]
    Hostname(String, u16),
}

impl Address {
    /// Returns the port number; 0 for a UNIX address.
    pub fn port(&self) -> u16 {
        match self {
            Self::IPv4(at) => at.port(),
            Self::IPv6(at) => at.port(),
            Self::Unix(_) => 0,
            Self::Hostname(_, port) => *port,
        }
    }

    /// Returns the host as text: a numeric address (with `%scope` if it has one), a path, or a
    /// name.
    pub fn host(&self) -> String {
        match self {
            Self::IPv4(at) => at.ip().to_string(),
            Self::IPv6(at) if at.scope_id() != 0 => format!("{}%{}", at.ip(), at.scope_id()),
            Self::IPv6(at) => at.ip().to_string(),
            Self::Unix(path) => {
                path.as_ref().map_or_else(String::new, |path| path.display().to_string())
            }
            Self::Hostname(name, _) => name.clone(),
        }
    }

    /// Returns the socket address of an IPv4 or IPv6 address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::IPv4(at) => Some(SocketAddr::V4(*at)),
            Self::IPv6(at) => Some(SocketAddr::V6(*at)),
            Self::Unix(_) | Self::Hostname(..) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    /// Keeps an IPv4 address that came in over an IPv6 socket (`::ffff:127.0.0.1`) as IPv6, which
    /// is what the socket is.
    fn from(at: SocketAddr) -> Self {
        match at {
            SocketAddr::V4(at) => Self::IPv4(at),
            SocketAddr::V6(at) => Self::IPv6(at),
        }
    }
}

impl From<(IpAddr, u16)> for Address {
    fn from(at: (IpAddr, u16)) -> Self {
        SocketAddr::from(at).into()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IPv4(at) => at.fmt(f),
            Self::IPv6(at) => at.fmt(f),
            // a name of the abstract namespace is written with `@` for its NUL byte, as netstat(8)
            // does
            Self::Unix(Some(path)) => match path.as_os_str().as_bytes() {
                [0, name @ ..] => write!(f, "@{}", String::from_utf8_lossy(name)),
                _ => path.display().fmt(f),
            },
            Self::Unix(None) => f.write_str("(unnamed)"),
            Self::Hostname(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

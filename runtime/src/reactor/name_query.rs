//! The query to a host-name resolver.
use std::net::SocketAddr;

/// The family of the requested addresses.
#[doc(alias = "addressTypes")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressFamily {
    /// IPv4 and IPv6.
    Any,
    /// IPv4 only.
    IPv4,
    /// IPv6 only.
    IPv6,
}

impl AddressFamily {
    /// Returns whether `at` belongs to this family.
    pub fn contains(self, at: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::IPv4 => at.is_ipv4(),
            Self::IPv6 => at.is_ipv6(),
        }
    }
}

/// The query to a [`HostnameResolver`](super::HostnameResolver).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameQuery {
    /// The host name; never a numeric address.
    pub host: String,
    /// The port of the resulting addresses.
    pub port: u16,
    /// The family of the requested addresses.
    pub family: AddressFamily,
}

impl NameQuery {
    /// Creates a query for addresses of both families.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, family: AddressFamily::Any }
    }

    /// Sets the family of the requested addresses.
    #[must_use]
    pub fn family(self, family: AddressFamily) -> Self {
        Self { family, ..self }
    }
}

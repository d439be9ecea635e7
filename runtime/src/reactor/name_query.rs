//! What a host-name resolver is asked.
use std::net::SocketAddr;

/// Which addresses are wanted.
#[doc(alias = "addressTypes")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressFamily {
    /// Of both kinds.
    Any,
    /// IPv4 alone.
    IPv4,
    /// IPv6 alone.
    IPv6,
}

impl AddressFamily {
    /// Whether `at` is of this family.
    pub fn contains(self, at: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::IPv4 => at.is_ipv4(),
            Self::IPv6 => at.is_ipv6(),
        }
    }
}

/// What a [`HostnameResolver`](super::HostnameResolver) is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameQuery {
    /// The name of the host; never a numeric address.
    pub host: String,
    /// The port that goes into the answers.
    pub port: u16,
    /// Which addresses are wanted.
    pub family: AddressFamily,
}

impl NameQuery {
    /// A query for addresses of both kinds.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, family: AddressFamily::Any }
    }

    /// The same for addresses of one kind.
    #[must_use]
    pub fn family(self, family: AddressFamily) -> Self {
        Self { family, ..self }
    }
}

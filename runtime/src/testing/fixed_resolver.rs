//! A host-name resolver with fixed answers.
use crate::{
    defer::Deferred,
    reactor::{HostnameResolver, NameQuery, Reactor},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// A resolver that knows the given names and no others, so that no query leaves the process.
///
/// ```
/// use twistor::testing::{FixedNameResolver, MemoryReactor};
///
/// let memory = MemoryReactor::new();
/// memory.reactor().install_resolver(FixedNameResolver::new([("example.com", [192, 0, 2, 1])]));
/// let found = memory.reactor().resolve("example.com").take_result().unwrap()?;
/// assert_eq!(found.to_string(), "192.0.2.1");
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct FixedNameResolver(BTreeMap<String, Vec<IpAddr>>);

impl FixedNameResolver {
    /// Creates a resolver with these names. A name that occurs twice has both addresses, in this
    /// order.
    pub fn new<N: Into<String>, A: Into<IpAddr>>(names: impl IntoIterator<Item = (N, A)>) -> Self {
        let mut known = Self::default();
        for (name, address) in names {
            known.0.entry(name.into()).or_default().push(address.into());
        }
        known
    }
}

impl HostnameResolver for FixedNameResolver {
    fn resolve(&self, query: &NameQuery, _reactor: &Reactor) -> Deferred<Vec<SocketAddr>> {
        let found = self.0.get(&query.host).into_iter().flatten();
        Deferred::succeed(found.map(|ip| SocketAddr::new(*ip, query.port)).collect())
    }
}

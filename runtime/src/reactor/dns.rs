//! Host names: the resolver, its time limit, and the operating system's own look-up.
use super::{Reactor, core::Resolve, name_query::NameQuery, remote_deferred::RemoteResolver};
use crate::{
    defer::Deferred,
    error::{DnsLookupError, ReactorClosed, TimeoutError},
    failure::{Failure, Frame},
    report::guarded,
};
use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    panic::Location,
    rc::Rc,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// The number of threads that resolve names, and the number of queued queries.
const THREADS: usize = 4;
const QUEUE: usize = 256;

/// The time limit of a query.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A query, and the resolver of its Deferred.
struct Question {
    host: String,
    port: u16,
    answer: RemoteResolver<Vec<SocketAddr>>,
}

/// Returns the process's pool, which the first query starts.
fn pool() -> io::Result<&'static SyncSender<Question>> {
    static POOL: OnceLock<SyncSender<Question>> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool);
    }
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..THREADS {
        let receiver = receiver.clone();
        thread::Builder::new()
            .name(format!("twistor-names-{number}"))
            .spawn(move || answer(&receiver))?;
    }
    Ok(POOL.get_or_init(|| sender))
}

fn answer(questions: &Mutex<Receiver<Question>>) {
    loop {
        let next = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Question { host, port, answer }) = next else { return };
        // a query that was cancelled or has timed out needs no answer
        if answer.is_wanted() {
            answer.send(
                (host.as_str(), port)
                    .to_socket_addrs()
                    .map(Iterator::collect)
                    .map_err(Failure::from),
            );
        }
    }
}

/// Resolves host names to addresses. The default is [`SystemNameResolver`];
/// [`Reactor::install_resolver`] replaces it.
///
/// ```
/// use std::net::{Ipv4Addr, SocketAddr};
/// use twistor::prelude::*;
/// use twistor::reactor::{HostnameResolver, NameQuery};
///
/// /// Everybody is at home.
/// struct Home;
///
/// impl HostnameResolver for Home {
///     fn resolve(&self, query: &NameQuery, _reactor: &Reactor) -> Deferred<Vec<SocketAddr>> {
///         Deferred::succeed(vec![(Ipv4Addr::LOCALHOST, query.port).into()])
///     }
/// }
///
/// let reactor = Reactor::new()?;
/// reactor.install_resolver(Home);
/// # Ok::<(), Failure>(())
/// ```
#[doc(alias = "IHostnameResolver")]
pub trait HostnameResolver {
    /// Returns the addresses of `query.host`, in the order in which to try them. The reactor
    /// removes addresses of another family than the requested one, and sets the time limit.
    #[doc(alias = "resolveHostName")]
    fn resolve(&self, query: &NameQuery, reactor: &Reactor) -> Deferred<Vec<SocketAddr>>;
}

/// The operating system's look-up: getaddrinfo(3), with its hosts file and search domains. It runs
/// in a small pool of threads, so that a slow answer blocks nothing else.
#[doc(alias = "GAIResolver")]
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNameResolver;

impl HostnameResolver for SystemNameResolver {
    fn resolve(&self, query: &NameQuery, reactor: &Reactor) -> Deferred<Vec<SocketAddr>> {
        reactor.deferred_from_thread(|answer| {
            let question = Question { host: query.host.clone(), port: query.port, answer };
            pool()?
                .try_send(question)
                .map_err(|_| io::Error::other("too many pending name queries"))
        })
    }
}

/// A resolver made from a function that returns one address for a name. If the function fails with
/// [`DnsLookupError`], the name has no addresses.
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr};
/// use twistor::{defer::Deferred, reactor::SimpleNameResolver};
///
/// let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
/// let resolver = SimpleNameResolver(move |_name: &str| Deferred::succeed(localhost));
/// # let _ = resolver;
/// ```
#[doc(alias = "IResolverSimple")]
#[derive(Debug, Clone, Copy)]
pub struct SimpleNameResolver<F>(pub F);

impl<F: Fn(&str) -> Deferred<IpAddr>> HostnameResolver for SimpleNameResolver<F> {
    fn resolve(&self, query: &NameQuery, _reactor: &Reactor) -> Deferred<Vec<SocketAddr>> {
        let port = query.port;
        (self.0)(&query.host).add_both(move |found| match found {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
            Err(failure) if failure.check::<DnsLookupError>() => Ok(Vec::new()),
            Err(failure) => Err(failure),
        })
    }
}

impl Reactor {
    /// Resolves a host name to addresses with the given port, in the order in which to try them. A
    /// numeric host is its own address.
    ///
    /// # Errors
    /// Fails with [`DnsLookupError`], which names the host, if it is not found, has no address of
    /// the requested family, or is not answered within 10 seconds.
    ///
    /// # Cancellation
    /// Fails with [`CancelledError`](crate::error::CancelledError); the answer is discarded.
    #[doc(alias = "nameResolver")]
    pub fn resolve_host(&self, query: &NameQuery) -> Deferred<Vec<SocketAddr>> {
        if let Ok(ip) = query.host.parse() {
            let at = SocketAddr::new(ip, query.port);
            if query.family.contains(&at) {
                return Deferred::succeed(vec![at]);
            }
            return Deferred::fail(DnsLookupError::with_text(format!(
                "`{}` is not an {:?} address",
                query.host, query.family
            )));
        }
        if self.0.is_closed() {
            return Deferred::fail(ReactorClosed::new());
        }
        let resolve = self.0.resolve.borrow().clone();
        // user code
        let asked = guarded(
            || Frame::new("resolve", Location::caller()),
            || match resolve {
                Some(resolve) => resolve(query, self),
                None => SystemNameResolver.resolve(query, self),
            },
        );
        let NameQuery { host, family, .. } = query.clone();
        asked.unwrap_or_else(Deferred::fail).add_timeout(TIME_LIMIT, self).add_both(move |found| {
            let found = found.map(|mut found| {
                found.retain(|at| family.contains(at));
                found
            });
            match found {
                Ok(found) if found.is_empty() => {
                    Err(DnsLookupError::with_text(format!("`{host}` has no address")).into())
                }
                Err(failure) if failure.check::<TimeoutError>() || failure.check::<io::Error>() => {
                    let error = DnsLookupError::with_text(format!("`{host}`: {failure}"));
                    Err(Failure::from(error.caused_by(failure.shared_value())))
                }
                found => found,
            }
        })
    }

    /// Resolves a host name to its first address.
    ///
    /// # Errors
    /// Fails as [`resolve_host`](Self::resolve_host) does.
    ///
    /// # Cancellation
    /// Cancels as [`resolve_host`](Self::resolve_host) does.
    pub fn resolve(&self, host: &str) -> Deferred<IpAddr> {
        let missing = DnsLookupError::with_text(host);
        self.resolve_host(&NameQuery::new(host, 0))
            .add_callback(move |found| Ok(found.first().ok_or(missing)?.ip()))
    }

    /// Replaces the host-name resolver and returns the previous one.
    #[doc(alias = "installNameResolver")]
    pub fn install_resolver(
        &self,
        resolver: impl HostnameResolver + 'static,
    ) -> Rc<dyn HostnameResolver> {
        let resolve: Resolve = Rc::new(move |query, reactor| resolver.resolve(query, reactor));
        match self.0.resolve.replace(Some(resolve)) {
            Some(resolve) => Rc::new(Installed(resolve)),
            None => Rc::new(SystemNameResolver),
        }
    }
}

/// The previously installed resolver.
struct Installed(Resolve);

impl HostnameResolver for Installed {
    fn resolve(&self, query: &NameQuery, reactor: &Reactor) -> Deferred<Vec<SocketAddr>> {
        (self.0)(query, reactor)
    }
}

impl<R: HostnameResolver + ?Sized> HostnameResolver for Rc<R> {
    fn resolve(&self, query: &NameQuery, reactor: &Reactor) -> Deferred<Vec<SocketAddr>> {
        (**self).resolve(query, reactor)
    }
}

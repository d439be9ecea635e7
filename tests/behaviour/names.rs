//! Host names, and their resolvers.
use crate::support::{Bang, Reports, now, run_until, short, watch};
use std::{
    cell::{Cell, RefCell},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    rc::Rc,
    time::Duration,
};
use twistor::{
    defer::{Deferred, Resolver},
    endpoints::client_from_string,
    error::{CancelledError, DnsLookupError, ReactorClosed},
    failure::Failure,
    prelude::*,
    reactor::{AddressFamily, HostnameResolver, NameQuery, Reactor, SimpleNameResolver},
    testing::{FixedNameResolver, MemoryReactor},
};

/// Stores the queries, which the test answers.
#[derive(Default)]
struct Asked {
    questions: RefCell<Vec<(NameQuery, Resolver<Vec<SocketAddr>>)>>,
}

impl HostnameResolver for Asked {
    fn resolve(&self, query: &NameQuery, _reactor: &Reactor) -> Deferred<Vec<SocketAddr>> {
        let (deferred, resolver) = Deferred::new();
        self.questions.borrow_mut().push((query.clone(), resolver));
        deferred
    }
}

fn asked(memory: &MemoryReactor) -> Rc<Asked> {
    let asked = Rc::<Asked>::default();
    memory.reactor().install_resolver(asked.clone());
    asked
}

#[test]
fn r_083_r_090_the_reactor_s_own_resolver_looks_names_up_on_threads_and_answers_in_a_later_turn() {
    let reactor = Reactor::new().unwrap();
    let found = watch(reactor.resolve_host(&NameQuery::new("localhost", 80)));
    assert!(found.is_pending(), "not inside the call");
    run_until(&reactor, || !found.is_pending());
    let found = found.value();
    assert!(
        !found.is_empty() && found.iter().all(|at| at.ip().is_loopback() && at.port() == 80),
        "{found:?}"
    );
    reactor.close();
}

#[test]
fn r_090_installing_a_resolver_returns_the_previous_one() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let mine = Rc::new(FixedNameResolver::new([("one", [192, 0, 2, 1])]));
    let system = reactor.install_resolver(mine);
    assert_eq!(now(reactor.resolve("one")).unwrap().to_string(), "192.0.2.1");
    let back = reactor.install_resolver(system);
    assert_eq!(
        now(back.resolve(&NameQuery::new("one", 7), &reactor)).unwrap()[0].to_string(),
        "192.0.2.1:7"
    );
}

#[test]
fn a_numeric_host_is_its_own_answer() {
    let memory = MemoryReactor::new();
    let asked = asked(&memory);
    let found = now(memory.reactor().resolve_host(&NameQuery::new("::1", 80))).unwrap();
    assert_eq!(found, [SocketAddr::from((Ipv6Addr::LOCALHOST, 80))]);
    assert!(asked.questions.borrow().is_empty());
}

#[test]
fn r_084_r_086_answers_keep_flow_and_scope_and_those_of_another_family_are_left_out() {
    let memory = MemoryReactor::new();
    let asked = asked(&memory);
    let six =
        SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 80, 5, 3));
    let four = SocketAddr::from(([192, 0, 2, 1], 80));
    for (family, expected) in [
        (AddressFamily::Any, vec![six, four]),
        (AddressFamily::IPv6, vec![six]),
        (AddressFamily::IPv4, vec![four]),
    ] {
        let query = NameQuery::new("both", 80).family(family);
        let found = watch(memory.reactor().resolve_host(&query));
        let (question, resolver) = asked.questions.borrow_mut().pop().unwrap();
        assert_eq!(question, query);
        resolver.callback(vec![six, four]);
        assert_eq!(found.value(), expected);
    }
}

#[test]
fn r_088_a_simple_resolver_s_answer_is_one_address_and_its_lookup_error_an_empty_one() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    reactor.install_resolver(SimpleNameResolver(|name: &str| match name {
        "known" => Deferred::succeed(IpAddr::from(Ipv4Addr::new(192, 0, 2, 9))),
        "broken" => Deferred::fail(Bang("no idea")),
        name => Deferred::fail(DnsLookupError::with_text(name)),
    }));
    assert_eq!(
        now(reactor.resolve_host(&NameQuery::new("known", 99))).unwrap()[0].to_string(),
        "192.0.2.9:99"
    );
    let unknown = now(reactor.resolve_host(&NameQuery::new("unknown", 99))).unwrap_err();
    assert!(
        unknown.check::<DnsLookupError>()
            && unknown.to_string().contains("`unknown` has no address"),
        "{unknown}"
    );
    assert_eq!(
        now(reactor.resolve_host(&NameQuery::new("broken", 99))).unwrap_err().to_string(),
        "no idea"
    );
}

#[test]
fn r_089_the_first_address_can_be_asked_for_alone() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    reactor.install_resolver(FixedNameResolver::new([
        ("two", [192, 0, 2, 1]),
        ("two", [192, 0, 2, 2]),
    ]));
    assert_eq!(now(reactor.resolve("two")).unwrap(), IpAddr::from([192, 0, 2, 1]));
    assert!(now(reactor.resolve("none")).unwrap_err().check::<DnsLookupError>());
}

#[test]
fn r_094_an_answer_that_takes_more_than_ten_seconds_comes_too_late() {
    let memory = MemoryReactor::new();
    let asked = asked(&memory);
    let found = watch(memory.reactor().resolve("slow"));
    memory.advance(Duration::from_secs(9));
    assert!(found.is_pending());
    memory.advance(Duration::from_secs(1));
    let failure = found.failure();
    assert!(
        failure.check::<DnsLookupError>() && failure.to_string().contains("`slow`"),
        "{failure}"
    );
    let (_, late) = asked.questions.borrow_mut().pop().unwrap();
    assert!(!late.is_wanted());
    late.callback(vec![]);
    assert!(memory.reactor().delayed_calls().is_empty());
}

#[test]
fn a_cancelled_query_is_discarded() {
    let memory = MemoryReactor::new();
    let asked = asked(&memory);
    let found = memory.reactor().resolve("name");
    found.cancel();
    assert!(watch(found).failure().check::<CancelledError>());
    assert!(!asked.questions.borrow()[0].1.is_wanted());
    assert!(memory.reactor().delayed_calls().is_empty());
}

#[test]
fn a_system_error_is_kept_in_the_lookup_error_and_a_panicking_resolver_stays_a_panic() {
    let memory = MemoryReactor::new();
    let asked = asked(&memory);
    let found = watch(memory.reactor().resolve("gone"));
    asked.questions.borrow_mut().pop().unwrap().1.errback(io::Error::other("no such name"));
    let failure = found.failure();
    assert!(
        failure.check::<DnsLookupError>() && failure.to_string().contains("`gone`: no such name"),
        "{failure}"
    );
    assert!(std::error::Error::source(&*failure.shared_value()).is_some());

    struct Panics;
    impl HostnameResolver for Panics {
        fn resolve(&self, _query: &NameQuery, _reactor: &Reactor) -> Deferred<Vec<SocketAddr>> {
            panic!("no resolver")
        }
    }
    memory.reactor().install_resolver(Panics);
    let failure = now(memory.reactor().resolve("any")).unwrap_err();
    assert_eq!(short(&failure), "Panicked");
    memory.reactor().close();
    assert!(now(memory.reactor().resolve("any")).unwrap_err().check::<ReactorClosed>());
}

#[test]
fn an_endpoint_looks_its_host_up_with_the_reactor_s_resolver() {
    let reports = Reports::new();
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    reactor.install_resolver(FixedNameResolver::new([("chat.example", [127, 0, 0, 1])]));
    #[derive(Default)]
    #[protocol]
    struct Quiet;
    #[protocol]
    impl Quiet {}
    let port = reactor
        .listen_tcp(
            ([127, 0, 0, 1], 80),
            Quiet::factory(),
            &twistor::transport::ListenTcpOptions::default(),
        )
        .unwrap();
    let made = Rc::new(Cell::new(false));
    let into = made.clone();
    let endpoint = client_from_string(&reactor, "tcp:chat.example:80").unwrap();
    endpoint.connect(Quiet::factory()).map(move |_| into.set(true)).detach();
    memory.settle();
    assert!(made.get());
    let missing = watch(
        client_from_string(&reactor, "tcp:other.example:80").unwrap().connect(Quiet::factory()),
    );
    let failure: Failure = missing.into_failure();
    assert!(failure.check::<DnsLookupError>(), "{failure}");
    port.stop_listening().detach();
    reactor.close();
    assert!(reports.take().is_empty());
}

#[test]
fn a_numeric_host_of_the_wrong_family_is_an_error() {
    let memory = MemoryReactor::new();
    let got = watch(
        memory.reactor().resolve_host(&NameQuery::new("127.0.0.1", 80).family(AddressFamily::IPv6)),
    );
    got.failure();
}

//! Endpoints and their string form.
use crate::support::{Log, Noting, run_until, watch};
use std::{net::TcpListener, time::Duration};
use twistor::{
    endpoints::{InvalidEndpointError, Tcp4ClientEndpoint, quote_string_argument},
    error::{CannotListenError, ConnectionRefusedError, DnsLookupError},
    prelude::*,
    task::react_on,
    testing::MemoryReactor,
};

fn server(description: &str) -> Result<String, String> {
    let reactor = MemoryReactor::new().reactor();
    server_from_string(&reactor, description)
        .map(|endpoint| format!("{endpoint:?}"))
        .map_err(|error| error.to_string())
}

fn client(description: &str) -> Result<String, String> {
    let reactor = MemoryReactor::new().reactor();
    client_from_string(&reactor, description)
        .map(|endpoint| format!("{endpoint:?}"))
        .map_err(|error| error.to_string())
}

#[test]
fn e_037_e_038_e_045_server_descriptions() {
    assert_eq!(server("tcp:8000").unwrap(), "<Tcp4ServerEndpoint 0.0.0.0:8000>");
    assert_eq!(
        server("tcp:8000:interface=192.0.2.7").unwrap(),
        "<Tcp4ServerEndpoint 192.0.2.7:8000>"
    );
    assert_eq!(
        server("tcp:8000:backlog=9").unwrap(),
        "<Tcp4ServerEndpoint 0.0.0.0:8000 backlog=9>"
    );
    assert_eq!(
        server("tcp:5001:interface=192.0.2.1:backlog=9").unwrap(),
        "<Tcp4ServerEndpoint 192.0.2.1:5001 backlog=9>"
    );
    assert_eq!(server("tcp:port=8000:interface=").unwrap(), "<Tcp4ServerEndpoint 0.0.0.0:8000>");
    assert_eq!(server(r"tcp:8000:interface=\:\:1").unwrap(), "<Tcp4ServerEndpoint [::1]:8000>");
}

#[test]
fn e_059_e_060_e_061_client_descriptions() {
    assert_eq!(
        client("tcp:host=h.example:port=5001:bindAddress=192.0.2.2:timeout=9").unwrap(),
        "<Tcp4ClientEndpoint h.example:5001 timeout=9s bind_address=192.0.2.2:0>"
    );
    for description in [
        "tcp:h.example:80",
        "tcp:host=h.example:80",
        "tcp:h.example:port=80",
        "tcp:port=80:host=h.example",
    ] {
        assert_eq!(
            client(description).unwrap(),
            "<Tcp4ClientEndpoint h.example:80>",
            "{description}"
        );
    }
}

#[test]
fn e_043_quoting_puts_a_backslash_before_colons_and_backslashes() {
    assert_eq!(quote_string_argument(r"x : y\z"), r"x \: y\\z");
    let quoted = format!("tcp:{}:80", quote_string_argument("::1"));
    assert_eq!(client(&quoted).unwrap(), "<Tcp4ClientEndpoint ::1:80>");
}

#[test]
fn e_053_e_064_an_unknown_type_is_quoted() {
    let error = server("ftp:8000").unwrap_err();
    assert!(
        error.contains("unknown endpoint type `ftp`") && error.contains("at position 0"),
        "{error}"
    );
    assert!(client("").unwrap_err().contains("unknown endpoint type ``"));
}

#[test]
fn a_malformed_description_names_the_position_and_what_was_expected() {
    for (description, position, problem) in [
        ("tcp", 3, "`port` is missing"),
        ("tcp:", 4, "expected a port number, 0 to 65535, and found ``"),
        ("tcp:65536", 4, "expected a port number, 0 to 65535, and found `65536`"),
        ("tcp:port=x", 9, "expected a port number, 0 to 65535, and found `x`"),
        ("tcp:1:interface=here", 16, "expected a numeric address to listen on, and found `here`"),
        (
            "tcp:1:backlog=-1",
            14,
            "expected the number of connections that may wait, and found `-1`",
        ),
        ("tcp:1:backlo=5", 6, "unknown argument `backlo`; expected `port`, `interface`, `backlog`"),
        ("tcp:1:port=2", 6, "`port` is given twice"),
        (
            "tcp:1:::",
            8,
            "expected `name=value` with one of `port`, `interface`, `backlog`, and found ``",
        ),
        ("tcp:1\\", 5, "expected a character after the backslash"),
    ] {
        let reactor = MemoryReactor::new().reactor();
        let failure = server_from_string(&reactor, description).unwrap_err();
        let error = failure.downcast_ref::<InvalidEndpointError>().unwrap();
        assert_eq!((error.position(), error.description()), (position, description), "{failure}");
        assert!(failure.to_string().contains(problem), "{failure}");
    }
    assert!(client("tcp::80").unwrap_err().contains("expected a host name or address"));
    assert!(client("tcp:h:80:9").unwrap_err().contains("expected `name=value`"));
}

#[test]
fn e_006_e_007_listen_has_fired_already_with_a_port_or_with_cannot_listen_error() {
    let reactor = Reactor::new().unwrap();
    let endpoint = server_from_string(&reactor, "tcp:0:interface=127.0.0.1").unwrap();
    let port = watch(endpoint.listen(Noting::factory(&Log::new(), Noting::nothing))).value();
    let taken =
        server_from_string(&reactor, &format!("tcp:{}:interface=127.0.0.1", port.host().port()))
            .unwrap();
    assert!(
        watch(taken.listen(Noting::factory(&Log::new(), Noting::nothing)))
            .failure()
            .check::<CannotListenError>()
    );
}

#[test]
fn e_001_e_002_e_012_connect_returns_the_protocol_or_the_failure_of_the_attempt() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let endpoint = server_from_string(&reactor, "tcp:0:interface=127.0.0.1").unwrap();
    let port = watch(endpoint.listen(Noting::factory(&log, Noting::echo))).value();
    let there =
        client_from_string(&reactor, &format!("tcp:127.0.0.1:{}", port.host().port())).unwrap();
    let connected = watch(there.connect(Noting::factory(&Log::new(), Noting::nothing)));
    run_until(&reactor, || !connected.is_pending());
    assert_eq!(connected.value().peer(), port.host());
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let nowhere = client_from_string(&reactor, &format!("tcp:127.0.0.1:{}", free.port())).unwrap();
    let refused = watch(nowhere.connect(Noting::factory(&Log::new(), Noting::nothing)));
    run_until(&reactor, || !refused.is_pending());
    assert!(refused.failure().check::<ConnectionRefusedError>());
}

#[test]
fn e_013_connect_protocol_connects_exactly_that_one() {
    let reactor = Reactor::new().unwrap();
    let port = watch(
        server_from_string(&reactor, "tcp:0:interface=127.0.0.1")
            .unwrap()
            .listen(Noting::factory(&Log::new(), Noting::echo)),
    )
    .value();
    let log = Log::new();
    let protocol = Noting { log: log.clone(), on_data: |this, _| this.lose_connection() };
    let endpoint = Tcp4ClientEndpoint::new(&reactor, "127.0.0.1", port.host().port())
        .timeout(Duration::from_secs(5))
        .endpoint();
    let connected = watch(connect_protocol(&endpoint, protocol));
    run_until(&reactor, || !connected.is_pending());
    connected.value().write("ping");
    let mut lines = Vec::new();
    run_until(&reactor, || {
        lines.extend(log.take());
        lines.len() == 3
    });
    assert_eq!(lines, ["made", "data ping", "lost ConnectionDone"]);
}

#[test]
fn a_name_is_looked_up_and_one_that_is_not_found_is_dns_lookup_error() {
    let reactor = Reactor::new().unwrap();
    let port = watch(
        server_from_string(&reactor, "tcp:0:interface=127.0.0.1")
            .unwrap()
            .listen(Noting::factory(&Log::new(), Noting::echo)),
    )
    .value();
    let found = watch(
        client_from_string(&reactor, &format!("tcp:localhost:{}", port.host().port()))
            .unwrap()
            .connect(Noting::factory(&Log::new(), Noting::nothing)),
    );
    run_until(&reactor, || !found.is_pending());
    assert_eq!(found.value().peer(), port.host());
    let lost = watch(
        client_from_string(&reactor, "tcp:no-such-host.invalid:80")
            .unwrap()
            .connect(Noting::factory(&Log::new(), Noting::nothing)),
    );
    run_until(&reactor, || !lost.is_pending());
    let failure = lost.failure();
    assert!(
        failure.check::<DnsLookupError>() && failure.to_string().contains("no-such-host.invalid"),
        "{failure}"
    );
}

fn later(reactor: &Reactor, seconds: u64) -> Deferred<()> {
    let (deferred, resolver) = Deferred::new();
    reactor.call_later(Duration::from_secs(seconds), move || resolver.callback(()));
    deferred
}

#[test]
fn k_042_react_runs_until_main_s_deferred_fires() {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let log = Log::new();
    let noted = log.clone();
    reactor.call_later(Duration::from_secs(1), move || noted.add("meanwhile"));
    react_on(&reactor, Args::default(), |reactor, _| later(&reactor, 2)).unwrap();
    assert_eq!(
        (reactor.seconds(), log.take()),
        (Duration::from_secs(2), vec!["meanwhile".to_owned()])
    );
}

#[test]
fn k_043_k_047_a_main_that_has_fired_already_stops_at_once_and_gets_its_arguments() {
    let reactor = MemoryReactor::new().reactor();
    react_on(&reactor, Args::from(["one", "two"]), |_, args| {
        assert_eq!((args.get(0), args.get(1), args.get(2)), (Some("one"), Some("two"), None));
        Deferred::succeed(())
    })
    .unwrap();
    assert_eq!(reactor.seconds(), Duration::ZERO);
}

#[test]
fn k_046_stopped_by_other_code_and_fired_during_the_stop() {
    for fails in [false, true] {
        let reactor = MemoryReactor::new().reactor();
        let result = react_on(&reactor, Args::default(), move |reactor, _| {
            let stop = reactor.clone();
            reactor.call_later(Duration::from_secs(1), move || stop.stop().unwrap());
            reactor.when_stopped().add_callback(move |()| {
                if fails { Err(Failure::message("too bad")) } else { Ok(()) }
            })
        });
        assert_eq!(result.is_err(), fails);
    }
}

#[test]
fn k_050_k_051_stopped_in_the_same_call_and_never_fired() {
    let reactor = MemoryReactor::new().reactor();
    react_on(&reactor, Args::default(), |reactor, _| {
        let (deferred, resolver) = Deferred::new();
        reactor.clone().call_later(Duration::from_secs(1), move || {
            reactor.stop().unwrap();
            resolver.callback(());
        });
        deferred
    })
    .unwrap();
    let reactor = MemoryReactor::new().reactor();
    react_on(&reactor, Args::default(), |reactor, _| {
        let stop = reactor.clone();
        reactor.call_later(Duration::from_secs(1), move || stop.stop().unwrap());
        let (never, resolver) = Deferred::new();
        reactor.call_later(Duration::from_secs(100), move || resolver.callback(()));
        never
    })
    .unwrap();
}

#[test]
fn a_main_that_panics_or_fails_is_an_error() {
    let reactor = MemoryReactor::new().reactor();
    assert!(
        react_on(&reactor, Args::default(), |_, _| panic!("at the start"))
            .unwrap_err()
            .to_string()
            .contains("at the start")
    );
    let reactor = MemoryReactor::new().reactor();
    let failed = react_on(&reactor, Args::default(), |_, args| match args.required(0, "TARGET") {
        Ok(_) => Deferred::succeed(()),
        Err(failure) => Deferred::fail(failure),
    });
    assert_eq!(failed.unwrap_err().to_string(), "missing argument 1: TARGET");
}

// Kind: no input panics, however long.
#[test]
fn the_error_of_a_very_long_description_can_be_displayed() {
    let description = format!("tcp:{}\\", "1".repeat(100_000));
    let failure = server_from_string(&MemoryReactor::new().reactor(), &description).unwrap_err();
    assert!(failure.to_string().ends_with('^'));
}

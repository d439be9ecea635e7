//! `#[twistor::test]`: what passes, and how it fails.
use crate::support::{Bang, watch};
use std::{
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use twistor::{
    defer::Resolver,
    prelude::*,
    task::defer_later,
    testing::{Tested, run_test},
    threads::defer_to_thread,
    transport::{ConnectTcpOptions, ListenTcpOptions},
};

#[protocol]
struct Echo;

#[protocol]
impl Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

#[twistor::test]
fn a_plain_test_passes() {}

#[twistor::test]
fn a_test_that_returns_a_result_passes() -> Result<(), std::num::ParseIntError> {
    "5".parse::<u32>().map(drop)
}

#[twistor::test(timeout = "5s")]
fn a_coroutine_passes_and_its_connections_may_linger(reactor: Reactor) -> Deferred<()> {
    let port = yield_!(
        server_from_string(&reactor, "tcp:0:interface=127.0.0.1")?.listen(Echo::factory())
    )?;
    let client = client_from_string(&reactor, &format!("tcp:{}", port.host()))?;
    let handle = yield_!(connect_protocol(&client, Echo))?;
    handle.transport().lose_connection();
    yield_!(port.stop_listening())
}

#[twistor::test]
async fn an_async_function_is_a_coroutine(reactor: Reactor) -> Result<(), Failure> {
    let sum = defer_to_thread(&reactor, || Ok(3 + 4)).await?;
    assert_eq!(sum, 7);
    Ok(())
}

#[twistor::test]
#[should_panic(expected = "there is no 7")]
fn a_panic_is_what_the_test_has_said(reactor: Reactor) -> Deferred<()> {
    yield_!(defer_later(&reactor, Duration::from_millis(1), || ()))?;
    panic!("there is no {}", 7)
}

/// Returns the message of a failing test.
fn complaint<T: Tested>(test: impl FnOnce(Reactor) -> T + 'static) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| run_test(Duration::from_millis(500), test)))
        .expect_err("it fails");
    panic.downcast_ref::<String>().expect("a text").replace(file!(), "file")
}

#[inline_callbacks]
fn waits(resolver: Deferred<()>) -> Deferred<()> {
    yield_!(resolver)
}

#[test]
fn a_failure_is_shown_with_its_traceback() {
    let text = complaint(|_| waits(Deferred::fail(Bang("no"))));
    assert!(
        text.starts_with("Traceback")
            && text.contains("in behaviour::own_tests::waits")
            && text.ends_with("Bang: no"),
        "{text}"
    );
}

#[test]
fn a_test_that_takes_too_long_says_what_it_awaits() {
    let text = complaint(|_| {
        let (never, resolver) = Deferred::<()>::new();
        std::mem::forget(resolver);
        waits(never)
    });
    assert!(text.starts_with("the test did not finish within 500ms; "), "{text}");
    assert!(text.contains("coroutine behaviour::own_tests::waits, made at file:"), "{text}");
}

#[test]
fn a_port_a_connection_a_call_and_a_coroutine_left_behind_are_named() {
    let (listens, connects) = (line!() + 3, line!() + 9);
    let text = complaint(|reactor| {
        let port = reactor
            .listen_tcp((Ipv4Addr::LOCALHOST, 0), Echo::factory(), &ListenTcpOptions::default())
            .unwrap();
        reactor.call_later(Duration::from_secs(60), || ());
        let (never, resolver): (Deferred<()>, Resolver<()>) = Deferred::new();
        std::mem::forget(resolver);
        waits(never).detach();
        let connected = reactor.connect_tcp(
            port.host().socket_addr().unwrap(),
            Echo::factory(),
            &ConnectTcpOptions::default(),
        );
        connected.map(drop)
    });
    let lines: Vec<_> = text.lines().collect();
    let has = |what: &str| lines.iter().any(|line| line.contains(what));
    let asked = |what: &str, line: u32| {
        lines.iter().any(|found| {
            found.contains(what) && found.contains(&format!(", asked for at file:{line}:"))
        })
    };
    assert!(asked("the test has left the port 127.0.0.1:", listens), "{text}");
    for line in [listens, connects] {
        assert!(asked("the test has left a connection with 127.0.0.1:", line), "{text}");
    }
    assert!(has(", of behaviour::own_tests::Echo, asked for at"), "{text}");
    assert!(has("the test has left a delayed call behind, made at file:"), "{text}");
    assert!(
        has("the test has left a coroutine behind: behaviour::own_tests::waits, made at file:")
            && has(", which waits at file:"),
        "{text}"
    );
}

#[test]
fn an_unconsumed_failure_fails_the_test() {
    let text = complaint(|_| Deferred::<u32>::fail(Bang("lost")).detach());
    assert!(
        text.starts_with("an unhandled failure: Unhandled Error\n") && text.contains("Bang: lost"),
        "{text}"
    );
}

#[test]
fn another_test_s_leftovers_are_not_this_one_s() {
    run_test(Duration::from_secs(5), |_| {
        let (never, resolver) = Deferred::<()>::new();
        let other = watch(waits(never));
        run_test(Duration::from_secs(5), |_| ());
        resolver.callback(());
        other.value();
    });
}

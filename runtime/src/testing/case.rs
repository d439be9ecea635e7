//! The execution of a test marked `#[twistor::test]`.
use crate::{
    defer::{Deferred, debug},
    error::Panicked,
    failure::Failure,
    reactor::Reactor,
    report,
    sealed::Sealed,
};
use std::{
    cell::RefCell,
    fmt::Write as _,
    panic::Location,
    rc::Rc,
    time::{Duration, Instant},
};

/// The return types of tests: nothing, a `Result`, or a Deferred.
#[diagnostic::on_unimplemented(
    message = "a test cannot return `{Self}`",
    label = "this test returns `{Self}`",
    note = "return nothing, a `Result<(), E>`, or a `Deferred<()>`"
)]
pub trait Tested: Sealed {
    #[doc(hidden)]
    fn tested(self) -> Deferred<()>;
}

impl Tested for () {
    fn tested(self) -> Deferred<()> {
        Deferred::succeed(())
    }
}

impl<E: Into<Failure>> Tested for Result<(), E> {
    fn tested(self) -> Deferred<()> {
        Deferred::ready(self.map_err(Into::into), Location::caller())
    }
}

impl Tested for Deferred<()> {
    fn tested(self) -> Deferred<()> {
        self
    }
}

/// The time that a test waits for things that are closing, such as lingering connections.
const GRACE: Duration = Duration::from_secs(1);

/// Runs `test` on its own reactor and panics if the test fails, takes longer than `limit`, or
/// leaves something behind. [`#[twistor::test]`](macro@crate::test) generates this call.
///
/// ```
/// use std::time::Duration;
/// use twistor::{task::defer_later, testing::run_test};
///
/// run_test(Duration::from_secs(5), |reactor| {
///     defer_later(&reactor, Duration::from_millis(1), || ())
/// });
/// ```
///
/// # Panics
/// Panics with a description of what went wrong.
pub fn run_test<T: Tested>(limit: Duration, test: impl FnOnce(Reactor) -> T + 'static) {
    // debugging knows where things that are left behind were created
    let _watch = debug::watch_thread();
    let before = debug::waiting().all().last().map_or(0, debug::Waiter::number);
    let reports = Rc::new(RefCell::new(Vec::new()));
    let into = reports.clone();
    let sink = report::push_sink(move |report| into.borrow_mut().push(report.to_string()));
    let reactor =
        Reactor::new().unwrap_or_else(|failure| panic!("no reactor for the test: {failure:#?}"));
    reactor.handle_signals(false);
    let ended = run_to_the_end(&reactor, limit, test);
    let mut wrong = String::new();
    match ended {
        Some(Ok(())) => wait_for_goodbyes(&reactor),
        Some(Err(failure)) => {
            if let Some(panicked) = failure.downcast_ref::<Panicked>() {
                // first, and as the test has worded it: `should_panic(expected = ..)` looks for it
                let _ = writeln!(wrong, "{}", panicked.message());
            }
            let _ = writeln!(wrong, "{}", failure.traceback());
        }
        None => {
            let _ =
                writeln!(wrong, "the test did not finish within {limit:?}; {}", debug::waiting());
        }
    }
    if wrong.is_empty() {
        leftovers(&reactor, before, &mut wrong);
    }
    reactor.close();
    drop(sink);
    for report in reports.take() {
        let _ = writeln!(wrong, "an unhandled failure: {report}");
    }
    assert!(wrong.is_empty(), "{}", wrong.trim_end());
}

/// Runs the test and returns its outcome; `None` if it took too long.
fn run_to_the_end<T: Tested>(
    reactor: &Reactor,
    limit: Duration,
    test: impl FnOnce(Reactor) -> T + 'static,
) -> Option<Result<(), Failure>> {
    let late = reactor.clone();
    let timer = reactor.call_later(limit, move || late.crash());
    let result = reactor.begin("test", move |reactor| test(reactor).tested(), Reactor::crash);
    let ran = reactor.run();
    // an error means that the timer has run
    let _ = timer.cancel();
    let ended = result.take();
    ran.err().map(Err).or(ended)
}

/// Waits until closing connections have closed.
fn wait_for_goodbyes(reactor: &Reactor) {
    let start = Instant::now();
    while !reactor.leftovers().is_empty()
        && reactor.delayed_calls().len() <= 1
        && start.elapsed() < GRACE
    {
        if reactor.iterate(Duration::from_millis(5)).is_err() {
            break;
        }
    }
}

/// Describes what the test has left behind. Coroutines are numbered; those up to `before` belong to
/// an earlier test in the same thread.
fn leftovers(reactor: &Reactor, before: u64, wrong: &mut String) {
    for source in reactor.leftovers() {
        let _ = writeln!(wrong, "the test has left {source} behind");
    }
    for call in reactor.delayed_calls() {
        let _ =
            writeln!(wrong, "the test has left a delayed call behind, made at {}", call.location());
    }
    let crate::reactor::PoolLoad { threads, waiting } = reactor.thread_load();
    if threads > 0 && waiting > 0 {
        let _ = writeln!(wrong, "the test has left {waiting} pieces of work for threads behind");
    }
    let waiting = debug::waiting();
    for coroutine in waiting
        .all()
        .iter()
        .filter(|waiter| waiter.what() == "coroutine" && waiter.number() > before)
    {
        let at = coroutine
            .waits_at()
            .map(|place| format!(", which waits at {place}"))
            .unwrap_or_default();
        let _ = writeln!(
            wrong,
            "the test has left a coroutine behind: {}, made at {}{at}",
            coroutine.function(),
            coroutine.location()
        );
    }
}

//! Programs that the process tests run: the argument says which.
use std::{process::ExitCode, time::Duration};
use twistor::{
    error::SystemExit,
    prelude::*,
    task::{defer_later, react},
};

/// Waits a moment if it is told to, then fails with `failure`.
#[inline_callbacks]
fn fails(reactor: Reactor, later: bool, failure: Failure) -> Deferred<()> {
    if later {
        yield_!(defer_later(&reactor, Duration::from_millis(1), || ()))?;
    }
    Err(failure)
}

fn main() -> ExitCode {
    react(|reactor, args| match args.get(0).unwrap_or_default() {
        "fails" => fails(reactor, false, Failure::message("no")),
        "fails_later" => fails(reactor, true, Failure::message("no")),
        "exits" => fails(reactor, false, SystemExit::new(23).into()),
        "exits_later" => fails(reactor, true, SystemExit::new(23).into()),
        other => Deferred::fail(Failure::message(format!("there is no program `{other}`"))),
    })
}

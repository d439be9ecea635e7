//! The text of whole tracebacks, compared with `traceback.txt` line by line. After a change here:
//! `TWISTOR_SNAPSHOTS=overwrite cargo test -p twistor-tests traceback`, and read the difference.
use crate::support::now;
use std::{env, fs, path::Path};
use twistor::{
    defer::Deferred,
    error::ConnectionLost,
    failure::{Failure, TracebackDetail},
    inline_callbacks,
};

#[inline_callbacks]
fn first(wait: Deferred<u32>) -> Deferred<u32> {
    return_value!(yield_!(second(wait))? + 1)
}

#[inline_callbacks]
async fn second(wait: Deferred<u32>) -> Result<u32, Failure> {
    let value = third(wait).await?;
    Ok(value + 1)
}

#[inline_callbacks]
fn third(wait: Deferred<u32>) -> Deferred<u32> {
    let value = yield_!(
        fourth(wait)
            // a callback that the failure passes
            .map(|n| n + 1)
    )?;
    return_value!(value)
}

#[inline_callbacks]
async fn fourth(wait: Deferred<u32>) -> Result<u32, Failure> {
    fifth(wait).await
}

#[inline_callbacks]
fn fifth(wait: Deferred<u32>) -> Deferred<u32> {
    yield_!(wait.map(look_up).map(|n| n + 1))
}

fn look_up(index: u32) -> u32 {
    assert!(index < 3, "there is no {index}");
    index
}

#[inline_callbacks]
fn translates(wait: Deferred<u32>) -> Deferred<u32> {
    match yield_!(fifth(wait)) {
        Ok(value) => return_value!(value),
        Err(failure) => Err(ConnectionLost::with_text("the peer sent a bad index")
            .caused_by(failure.shared_value())
            .into()),
    }
}

/// The failure that results from firing the innermost Deferred with an index that panics.
fn failure_of(coroutine: fn(Deferred<u32>) -> Deferred<u32>) -> Failure {
    let (wait, resolver) = Deferred::new();
    let result = coroutine(wait);
    resolver.callback(7);
    now(result).unwrap_err()
}

/// Removes the serial number, which depends on what ran before.
fn without_number(text: &str) -> String {
    let number: String =
        text.chars().skip_while(|c| *c != '#').skip(1).take_while(char::is_ascii_digit).collect();
    text.replace(&format!("#{number} "), "#N ")
}

#[test]
fn five_coroutines_two_callbacks_and_a_panic() {
    let panicked = failure_of(first);
    let translated = failure_of(translates);
    let text = [
        panicked.traceback(),
        panicked.traceback_with(TracebackDetail::Brief),
        translated.traceback(),
        without_number(&translated.traceback_with(TracebackDetail::Verbose)),
    ]
    .join("\n\n")
        + "\n";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("behaviour/traceback.txt");
    if env::var_os("TWISTOR_SNAPSHOTS").is_some_and(|value| value == "overwrite") {
        fs::write(&golden, &text).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap();
    assert!(text == expected, "the tracebacks are:\n{text}\nand should be:\n{expected}");
}

#![allow(dead_code, non_camel_case_types, reason = "the names are only there to be in the way")]
mod core {}
mod std {}
struct Result;
struct Option;
struct Box;
struct Some;
struct Ok;
struct String;
struct Future;

#[twistor::inline_callbacks]
fn wait(d: twistor::defer::Deferred<u32>) -> twistor::defer::Deferred<u32> {
    let n = yield_!(d)?;
    return_value!(n)
}

fn main() {
    wait(twistor::defer::Deferred::succeed(1)).detach();
}

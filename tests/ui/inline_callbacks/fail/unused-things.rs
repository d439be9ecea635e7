#![deny(warnings)]
use twistor::prelude::*;

#[inline_callbacks]
fn never_called(unused: u32, mut unchanged: u32) -> Deferred<u32> {
    let forgotten = unchanged;
    return_value!(unchanged)
}

fn main() {}

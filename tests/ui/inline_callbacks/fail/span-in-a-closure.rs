use twistor::prelude::*;

#[inline_callbacks]
fn wait(d: Deferred<u32>) -> Deferred<u32> {
    let f = move || yield_!(d);
    f()
}

fn main() {}

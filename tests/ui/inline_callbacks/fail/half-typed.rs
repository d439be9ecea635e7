use twistor::prelude::*;

#[inline_callbacks]
fn wait(d: Deferred<u32>) -> Deferred<u32> {
    let n = yield_!(d)?;
    n.
}

fn main() {
    let _ = wait(Deferred::succeed(1));
}

use twistor::prelude::*;

fn number() -> u32 {
    1
}

#[inline_callbacks]
fn wait() -> Deferred<u32> {
    let n = yield_!(number());
    return_value!(n)
}

fn main() {}

use twistor::prelude::*;

#[inline_callbacks]
fn wait(d: Deferred<u32>, early: bool) -> Deferred<u32> {
    if early {
        return_value!("early");
    }
    let text: String = yield_!(d)?;
    return_value!(text)
}

#[inline_callbacks]
fn tail(d: Deferred<u32>) -> Deferred<u32> {
    yield_!(d)?
}

fn main() {}

mod outer {
    pub extern crate twistor as renamed;
}
use outer::renamed::prelude::*;

#[inline_callbacks(crate = crate::outer::renamed)]
fn wait(d: Deferred<u32>) -> Deferred<u32> {
    yield_!(d)
}

fn main() {
    wait(Deferred::succeed(1)).detach();
}

use twistor::prelude::*;

#[inline_callbacks]
fn nothing() -> Deferred<()> {}

fn main() {
    let _ = nothing;
}

use twistor::prelude::*;

#[inline_callbacks]
fn number() -> u32 {
    return_value!(1)
}

fn main() {}

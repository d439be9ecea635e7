use twistor::prelude::*;

#[inline_callbacks(crat = ::twistor)]
fn one() -> Deferred<()> {
    return_value!(())
}

#[inline_callbacks(crate)]
fn two() -> Deferred<()> {
    return_value!(())
}

fn main() {}

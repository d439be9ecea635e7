use twistor::prelude::*;

#[inline_callbacks(crat = ::twistor)]
unsafe fn all<'a>(one: &str, two: &'a [u8]) {}

fn main() {}

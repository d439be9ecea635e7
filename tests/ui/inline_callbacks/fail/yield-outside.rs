use twistor::prelude::*;

fn plain(d: Deferred<u32>) -> u32 {
    yield_!(d).unwrap()
}

fn main() {}

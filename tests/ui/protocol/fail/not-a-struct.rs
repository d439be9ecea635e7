use twistor::prelude::*;

#[protocol]
enum State {
    One,
}

#[protocol]
fn function() {}

fn main() {}

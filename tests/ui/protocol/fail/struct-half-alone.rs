use twistor::prelude::*;

#[protocol]
struct Echo;

fn main() {}

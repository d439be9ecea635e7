use twistor::prelude::*;

#[twistor::main]
fn main(reactor: Reactor, count: u32) {}

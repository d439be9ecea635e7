use twistor::prelude::*;

#[twistor::main]
fn start(reactor: Reactor) -> Deferred<()> {
    yield_!(reactor.when_stopped())
}

fn main() {}

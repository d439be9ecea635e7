use twistor::{prelude::*, threads::defer_to_thread};

fn elsewhere(reactor: &Reactor) -> Deferred<()> {
    let stop = reactor.clone();
    defer_to_thread(reactor, move || stop.stop())
}

fn main() {}

use twistor::prelude::*;

fn main() {
    let _ = Deferred::succeed(1).add_callback(|n| n + 1);
}

use twistor::prelude::*;

fn main() {
    let (deferred, resolver) = Deferred::new();
    resolver.callback(1);
    resolver.callback(2);
    deferred.detach();
}

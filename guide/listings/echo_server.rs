// ANCHOR: all
use twistor::prelude::*;

// ANCHOR: protocol
#[protocol]
struct Echo;

#[protocol]
impl Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}
// ANCHOR_END: protocol

// ANCHOR: main
#[twistor::main]
fn main(reactor: Reactor, args: Args) -> Deferred<()> {
    let description = args.get(0).unwrap_or("tcp:8007:interface=127.0.0.1");
    let port = yield_!(server_from_string(&reactor, description)?.listen(Echo::factory()))?;
    println!("listening on {}", port.host());
    yield_!(reactor.when_stopped())
}
// ANCHOR_END: main
// ANCHOR_END: all

//! An echo server.
//!
//!     cargo run --release --example echo -- tcp:8007:interface=127.0.0.1
//!
//! The argument is an endpoint description, of which this one is the default. The program prints
//! `listening on 127.0.0.1:8007`, sends back what it receives, and stops on SIGINT or SIGTERM.
use twistor::prelude::*;

#[protocol]
struct Echo;

#[protocol]
impl Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

#[twistor::main]
fn main(reactor: Reactor, args: Args) -> Deferred<()> {
    let description = args.get(0).unwrap_or("tcp:8007:interface=127.0.0.1");
    let port = yield_!(server_from_string(&reactor, description)?.listen(Echo::factory()))?;
    println!("listening on {}", port.host());
    yield_!(reactor.when_stopped())
}

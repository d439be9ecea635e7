//! twistor's echo with a line framing, to measure the cost of the framing.
use twistor::prelude::*;

#[protocol(lines)]
struct Echo;

#[protocol]
impl Echo {
    fn line_received(&mut self, transport: &Transport, line: &[u8]) {
        transport.send_line(line);
    }
}

#[twistor::main]
fn main(reactor: Reactor, args: Args) -> Deferred<()> {
    let port = yield_!(
        server_from_string(&reactor, args.required(0, "LISTEN")?)?.listen(Echo::factory())
    )?;
    println!("listening on {}", port.host());
    yield_!(reactor.when_stopped())
}

//! tmp
use twistor::{address::Address, protocol::{Handle, Protocol, Raw}, reactor::Reactor, failure::Failure};
struct Echo;
impl Protocol for Echo {
    type Framing = Raw;
    fn message_received(&mut self, this: &Handle<Self>, data: &[u8]) {
        this.write(data);
    }
}
fn main() -> Result<(), Failure> {
    let arg = std::env::args().nth(1).unwrap_or("8007".into());
    let port: u16 = arg.parse().unwrap();
    let reactor = Reactor::new()?;
    let port = reactor.listen_tcp(([127, 0, 0, 1], port), |_: &Address| Echo, 4096)?;
    println!("listening on {}", port.host());
    reactor.run()
}

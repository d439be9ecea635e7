use twistor::prelude::*;

#[protocol]
struct Echo;

#[protocol]
impl Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.
    }
}

fn main() {}

use twistor::prelude::*;

struct Echo;

#[protocol]
impl Echo {
    fn data_received(&mut self, data: &[u8]) {
        let _ = data;
    }
}

fn main() {}

use twistor::prelude::*;

#[protocol]
struct Echo;

#[protocol]
impl Echo {
    fn data_received(&mut self) -> u32 {
        1
    }
}

fn main() {}

use twistor::prelude::*;

#[protocol]
struct Echo;

#[protocol]
impl Echo {
    fn connection_made(&mut self) {}
}

#[protocol]
impl Echo {
    fn data_received(&mut self) {}
}

fn main() {}

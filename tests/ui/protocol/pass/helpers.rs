//! A helper whose name is close to a handler's: used in the block, public, marked, or in a plain
//! `impl`.
use twistor::prelude::*;

#[protocol]
pub struct Echo;

#[protocol]
impl Echo {
    fn data_received(&mut self, data: &[u8]) {
        self.data_receive(data);
        self.line_receive();
    }

    fn data_receive(&self, _data: &[u8]) {}

    pub fn connection_mad(&self) {}

    #[helper]
    #[allow(dead_code, reason = "a helper that nobody calls is what is tried")]
    fn connection_los(&self) {}
}

impl Echo {
    fn line_receive(&self) {}
}

fn main() {}

use twistor::prelude::*;

#[protocol]
struct Taker;

#[protocol]
impl Taker {
    fn file_descriptor_received(&mut self, _descriptor: &i32) {}
}

fn main() {}

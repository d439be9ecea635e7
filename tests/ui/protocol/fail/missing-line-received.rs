use twistor::prelude::*;

#[protocol(lines)]
struct Raw;

#[protocol]
impl Raw {
    fn raw_data_received(&mut self, data: &[u8]) {
        let _ = data;
    }
}

#[protocol(lines)]
struct Silent;

#[protocol]
impl Silent {}

fn main() {}

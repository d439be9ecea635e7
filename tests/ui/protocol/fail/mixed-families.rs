use twistor::prelude::*;

#[protocol(lines)]
struct Echo;

#[protocol]
impl Echo {
    fn line_received(&mut self, line: &[u8]) {
        let _ = line;
    }

    fn data_received(&mut self, data: &[u8]) {
        let _ = data;
    }
}

fn main() {}

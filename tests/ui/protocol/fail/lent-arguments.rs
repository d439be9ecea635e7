use twistor::prelude::*;

#[protocol(lines)]
struct Echo;

#[protocol]
impl Echo {
    fn connection_made(&mut self, greeting: &str) {}

    fn line_received(&mut self, line: String, transport: Transport) {}

    fn connection_lost(&mut self, reason: Failure) {}
}

fn main() {}

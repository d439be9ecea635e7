use twistor::prelude::*;

#[protocol(lines)]
struct Echo;

#[protocol]
impl Echo {
    fn line_recieved(&mut self, line: &[u8]) {
        let _ = line;
    }

    fn connectionLost(&mut self) {}
}

fn main() {}

use twistor::prelude::*;

#[protocol]
struct Forgotten {
    transport: Transport,
}

#[protocol]
impl Forgotten {
    fn connection_made(&mut self) {
        self.transport.write("hello");
    }
}

#[protocol]
struct Misplaced {
    #[transport]
    count: u32,
}

#[protocol]
impl Misplaced {
    fn connection_made(&mut self) {
        self.count += 1;
    }
}

fn main() {}

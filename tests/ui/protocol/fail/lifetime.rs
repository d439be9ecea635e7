use twistor::prelude::*;

#[protocol]
struct Echo<'a> {
    name: &'a str,
}

fn main() {}

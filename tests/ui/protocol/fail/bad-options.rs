use twistor::prelude::*;

#[protocol(line)]
struct One;

#[protocol]
impl One {}

#[protocol(lines(delimeter = b"\n", max_length))]
struct Two;

#[protocol]
impl Two {
    fn line_received(&mut self) {}
}

#[protocol(netstrings)]
struct Three;

#[protocol(lines)]
impl Three {}

fn main() {}

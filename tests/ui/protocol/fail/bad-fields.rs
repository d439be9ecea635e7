use twistor::prelude::*;

#[protocol]
struct Echo {
    #[transport]
    one: Transport,
    #[transport]
    two: Transport,
    #[init]
    three: u32,
    #[transport]
    #[factory]
    four: Transport,
}

#[protocol]
impl Echo {}

fn main() {}

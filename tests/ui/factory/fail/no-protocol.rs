use twistor::prelude::*;

#[derive(Factory)]
struct Room;

#[derive(Factory)]
#[factory(protcol = Person)]
struct Hall;

fn main() {}

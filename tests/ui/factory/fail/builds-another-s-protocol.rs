use std::rc::Rc;
use twistor::prelude::*;

#[derive(Factory)]
#[factory(protocol = Person)]
struct Room;

#[derive(Factory)]
#[factory(protocol = Person)]
struct Hall;

#[protocol]
struct Person {
    #[factory]
    room: Rc<Hall>,
}

#[protocol]
impl Person {
    fn connection_made(&mut self) {
        let _ = &self.room;
    }
}

fn main() {}

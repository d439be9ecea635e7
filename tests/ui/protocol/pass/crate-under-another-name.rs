mod outer {
    pub extern crate twistor as renamed;
}
use outer::renamed::prelude::*;

#[derive(Factory)]
#[factory(protocol = Echo, crate = crate::outer::renamed)]
struct Room;

#[protocol(lines, crate = crate::outer::renamed)]
struct Echo;

#[protocol(crate = crate::outer::renamed)]
impl Echo {
    fn line_received(&mut self) {}
}

fn main() {}

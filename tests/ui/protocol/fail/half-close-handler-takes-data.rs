use twistor::prelude::*;

#[protocol]
struct Reader;

#[protocol]
impl Reader {
    fn data_received(&mut self, _data: &[u8]) {}

    fn read_connection_lost(&mut self, _rest: &[u8]) {}

    fn write_conection_lost(&mut self) {}
}

fn main() {}

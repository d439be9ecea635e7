use twistor::prelude::*;

#[protocol]
struct Echo;

#[protocol]
impl Echo {
    #[concurrent]
    fn data_received(&mut self) {}

    #[cancel_on_loss]
    fn helper(&self) {}
}

fn main() {}

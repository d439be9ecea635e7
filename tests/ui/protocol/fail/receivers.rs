use twistor::prelude::*;

#[protocol]
struct Echo;

#[protocol]
impl Echo {
    fn connection_made(self) {}

    async fn data_received(&mut self, data: &[u8]) {
        let _ = data;
    }

    fn connection_lost(reason: &Failure) {
        let _ = reason;
    }
}

fn main() {}

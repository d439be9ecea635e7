use twistor::prelude::*;

struct Database(u32);

#[protocol]
struct Session {
    database: Database,
}

#[protocol]
impl Session {
    fn connection_made(&mut self) {
        let _ = self.database.0;
    }
}

fn main() {
    let _ = Session::factory();
}

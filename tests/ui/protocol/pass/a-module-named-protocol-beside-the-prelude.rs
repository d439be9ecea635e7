//! The prelude brings the macro `protocol` and not the module.
mod mine {
    pub mod protocol {
        pub const VERSION: u32 = 1;
    }
}

use mine::*;
use twistor::prelude::*;

#[twistor::prelude::protocol]
struct Quiet;

#[twistor::prelude::protocol]
impl Quiet {}

fn main() {
    let _ = (protocol::VERSION, Quiet::factory());
}

use twistor::prelude::*;

#[inline_callbacks]
struct Number(u32);

fn main() {
    let _ = Number(1).0;
}

use twistor::prelude::*;

#[inline_callbacks]
fn hidden() -> impl Sized {
    return_value!(1)
}

fn main() {
    let _ = hidden;
}

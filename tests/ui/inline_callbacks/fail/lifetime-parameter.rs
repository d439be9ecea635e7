use twistor::prelude::*;

struct Name<'a>(&'a str);

#[inline_callbacks]
fn greet<'a>(name: Name<'a>) -> Deferred<usize> {
    return_value!(name.0.len())
}

fn main() {}

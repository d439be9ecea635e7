use twistor::prelude::*;

#[inline_callbacks]
fn greet(name: &str, names: Vec<&'static str>, show: fn(&str)) -> Deferred<()> {
    show(name);
    return_value!(())
}

fn main() {
    let _ = greet;
}

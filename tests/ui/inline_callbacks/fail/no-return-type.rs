use twistor::prelude::*;

#[inline_callbacks]
fn plain() {}

#[inline_callbacks]
async fn asynchronous() {}

fn main() {}

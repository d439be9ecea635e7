#[twistor::test(timeout = "5 days")]
fn a_strange_limit() {}

#[twistor::test(timeout = 5)]
fn no_unit() {}

#[twistor::test(timout = "5s")]
fn misspelt() {}

#[twistor::test]
fn wrong_argument(args: Args) {}

#[twistor::test]
fn too_many(reactor: Reactor, more: u32) {}

#[twistor::test]
fn generic<T>() {}

#[twistor::test]
#[test]
fn twice() {}

fn main() {}

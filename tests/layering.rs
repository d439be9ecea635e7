//! The layers of ARCHITECTURE.md, held to the `use` paths of the code.
fn main() {}

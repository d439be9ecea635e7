//! Every case of every macro: those in `pass/` compile and run, those in `fail/` give exactly the
//! errors beside them.
//!
//! `TRYBUILD=overwrite cargo test -p twistor-ui-tests` refreshes the `.stderr` files; read the
//! difference before you commit it.

#[test]
fn cases() {
    let cases = trybuild::TestCases::new();
    cases.pass("*/pass/*.rs");
    cases.compile_fail("*/fail/*.rs");
}

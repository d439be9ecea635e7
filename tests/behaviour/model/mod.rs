//! Random programs, run on twistor and on an obvious model: the order of calls, results and reports
//! are equal.
//!
//! A program creates Deferreds, adds callbacks, errbacks and gates to them, fires, fails, cancels,
//! chains and drops them, also from inside callbacks. To avoid circles, results flow from a later
//! Deferred to an earlier one only.
mod obvious;
mod program;
mod real;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(2000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_programs_do_what_the_model_does(
        program in prop::collection::vec(program::op(), 1..60),
    ) {
        let mut model = obvious::Model::default();
        model.run(&program);
        prop_assert_eq!(real::run(&program), model.log);
    }
}

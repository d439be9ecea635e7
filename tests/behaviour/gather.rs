//! `gather_results`.
use crate::support::{Bang, Log, Reports, watch};
use twistor::{
    defer::{Deferred, FirstError, gather_results},
    error::CancelledError,
};

#[test]
fn c_022_values_come_in_the_order_given_whatever_the_order_of_firing() {
    let (one, first) = Deferred::new();
    let (two, second) = Deferred::new();
    let result = watch(gather_results([one, two, Deferred::succeed(3)]));
    second.callback(2);
    assert!(result.is_pending());
    first.callback(1);
    assert_eq!(result.value(), [1, 2, 3]);
}

#[test]
fn vectors_tuples_and_empty_lists_are_gathered() {
    let values = watch(gather_results((1..4).map(Deferred::succeed).collect::<Vec<_>>()));
    assert_eq!(values.value(), vec![1, 2, 3]);
    let (late, resolver) = Deferred::new();
    let mixed = watch(gather_results((Deferred::succeed(1u8), late, Deferred::succeed('c'))));
    resolver.callback("b");
    assert_eq!(mixed.value(), (1u8, "b", 'c'));
    assert_eq!(watch(gather_results(Vec::<Deferred<u32>>::new())).value(), Vec::<u32>::new());
}

#[test]
fn the_first_failure_fails_it_at_once_with_its_index_and_later_ones_are_reported() {
    let reports = Reports::new();
    let (one, first) = Deferred::<u32>::new();
    let (two, second) = Deferred::<u32>::new();
    let result = watch(gather_results([one, two]));
    second.errback(Bang("second"));
    let failure = result.failure();
    let error = failure.downcast_ref::<FirstError>().unwrap();
    assert_eq!((error.index(), error.failure().to_string().as_str()), (1, "second"));
    assert!(reports.take().is_empty());
    first.errback(Bang("first"));
    let reports = reports.take();
    assert!(reports.len() == 1 && reports[0].contains("Bang: first"), "{reports:?}");
}

#[test]
fn a_failure_among_fired_members_leaves_the_others_running() {
    let (log, (late, resolver)) = (Log::new(), Deferred::<u32>::new());
    let noted = log.clone();
    let late = late.map(move |n| {
        noted.add(n);
        n
    });
    let result = watch(gather_results([Deferred::fail(Bang("at once")), late]));
    assert!(result.failure().check::<FirstError>());
    resolver.callback(5);
    assert_eq!(log.take(), ["5"]);
}

#[test]
fn c_025_cancel_goes_to_each_pending_member_and_not_to_the_list() {
    let log = Log::new();
    let member = |name: &'static str| {
        let log = log.clone();
        Deferred::<u32>::with_canceller(move |cancelling| {
            log.add(name);
            cancelling.callback(0);
        })
    };
    let (one, _one) = member("one");
    let (two, _two) = member("two");
    let list = gather_results([one, Deferred::succeed(7), two]);
    list.cancel();
    assert_eq!(log.take(), ["one", "two"]);
    assert_eq!(watch(list).value(), [0, 7, 0]);
}

#[test]
fn c_024_c_016_a_panicking_canceller_does_not_spare_the_others_and_first_error_wraps_the_cancel() {
    let (reports, log) = (Reports::new(), Log::new());
    let noted = log.clone();
    let (one, _one) = Deferred::<u32>::with_canceller(|_| panic!("canceller"));
    let (two, _two) = Deferred::<u32>::with_canceller(move |_| noted.add("two"));
    let list = gather_results([one, two]);
    list.cancel();
    assert_eq!(log.take(), ["two"]);
    let error = watch(list).failure();
    let first = error.downcast_ref::<FirstError>().unwrap();
    assert!(first.index() == 0 && first.failure().check::<CancelledError>());
    let reports = reports.take();
    assert!(reports.len() == 1 && reports[0].contains("panicked: canceller"), "{reports:?}");
}

#[test]
fn c_019_c_020_c_021_first_error_shows_its_index_and_failure_and_is_equal_to_itself_alone() {
    let error = |index: usize| {
        let members = (0..=index).map(|at| {
            if at == index { Deferred::<u32>::fail(Bang("E")) } else { Deferred::succeed(0) }
        });
        watch(gather_results(members.collect::<Vec<_>>())).failure()
    };
    let (third, fifth) = (error(3), error(5));
    let (third, fifth) =
        (third.downcast_ref::<FirstError>().unwrap(), fifth.downcast_ref::<FirstError>().unwrap());
    assert_eq!(format!("{third:?}"), r#"FirstError[#3, Bang("E")]"#);
    assert_eq!(fifth.to_string(), "FirstError[#5, E]");
    assert_eq!(third, &third.clone());
    assert_ne!(third, fifth);
}

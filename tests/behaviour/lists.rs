//! `DeferredList` and `race`.
use crate::support::{Bang, Log, Reports, now, watch};
use twistor::{
    defer::{DeferredList, FailureGroup, FirstError, race},
    error::{CancelledError, EmptyListError},
    prelude::*,
};

/// A member that records its cancellation, and then fires with `value` if there is one.
fn member(
    log: &Log,
    name: &'static str,
    value: Option<&'static str>,
) -> (Deferred<&'static str>, Resolver<&'static str>) {
    let log = log.clone();
    Deferred::with_canceller(move |cancelling| {
        log.add(name);
        if let Some(value) = value {
            cancelling.callback(value);
        }
    })
}

#[test]
fn c_001_a_list_fires_when_all_have_with_their_results_in_order() {
    let (sources, mut fires): (Vec<_>, Vec<_>) = (0..3).map(|_| Deferred::<&str>::new()).unzip();
    let result = watch(DeferredList::new(sources).wait_for_all());
    fires.remove(2).callback("3");
    fires.remove(1).errback(Bang("2"));
    assert!(result.is_pending());
    fires.remove(0).callback("1");
    let results = result.value();
    assert_eq!((results[0].as_ref().unwrap(), results[2].as_ref().unwrap()), (&"1", &"3"));
    assert!(results[1].as_ref().unwrap_err().check::<Bang>());
}

#[test]
fn c_002_an_empty_list_fires_at_once() {
    assert!(now(DeferredList::<u32>::new([]).wait_for_all()).unwrap().is_empty());
    assert!(
        now(DeferredList::<u32>::new([]).fire_on_one_callback())
            .unwrap_err()
            .check::<EmptyListError>()
    );
}

#[test]
fn c_004_c_007_the_first_failure_fails_a_first_error_list_at_once() {
    let (one, fire_one) = Deferred::<u32>::new();
    let (two, fire_two) = Deferred::<u32>::new();
    let (three, _three) = Deferred::<u32>::new();
    let result = watch(DeferredList::new([one, two, three]).fire_on_one_errback());
    fire_one.callback(1);
    assert!(result.is_pending());
    fire_two.errback(Bang("from def2"));
    let failure = result.failure();
    let first = failure.downcast_ref::<FirstError>().unwrap();
    assert_eq!((first.index(), first.failure().to_string().as_str()), (1, "from def2"));
    let failed = DeferredList::new([Deferred::<u32>::fail(Bang("already")), Deferred::new().0])
        .fire_on_one_errback();
    assert!(now(failed).unwrap_err().check::<FirstError>());
}

#[test]
fn c_008_members_that_have_fired_make_the_list_fire_at_once() {
    let list =
        DeferredList::new([Deferred::succeed(1), Deferred::fail(Bang("x")), Deferred::succeed(2)]);
    assert_eq!(now(list.wait_for_all()).unwrap().len(), 3);
}

#[test]
fn late_failures_are_reported_unless_they_are_consumed() {
    for consume in [false, true] {
        let reports = Reports::new();
        let (late, fire) = Deferred::<u32>::new();
        let list = DeferredList::new([Deferred::succeed(1), late]);
        let list = if consume { list.consume_errors() } else { list };
        assert_eq!(now(list.fire_on_one_callback()).unwrap(), (1, 0));
        fire.errback(Bang("late"));
        assert_eq!(reports.take().len(), usize::from(!consume));
    }
}

#[test]
fn c_009_c_010_cancelling_a_list_cancels_every_member_and_the_list_succeeds_with_what_they_answer()
{
    let log = Log::new();
    let ((one, _one), (two, _two)) =
        (member(&log, "one", Some("value")), member(&log, "two", None));
    let list = DeferredList::new([one, two]).wait_for_all();
    list.cancel();
    assert_eq!(log.take(), ["one", "two"]);
    let results = now(list).unwrap();
    assert_eq!(results[0].as_ref().unwrap(), &"value");
    assert!(results[1].as_ref().unwrap_err().check::<CancelledError>());
}

#[test]
fn c_011_c_012_cancelling_a_first_success_list_cancels_every_member_also_after_one_has_answered() {
    let log = Log::new();
    let ((one, _one), (two, _two)) =
        (member(&log, "one", Some("Callback Result")), member(&log, "two", None));
    let list = DeferredList::new([one, two]).fire_on_one_callback();
    list.cancel();
    assert_eq!(log.take(), ["one", "two"]);
    assert_eq!(now(list).unwrap(), ("Callback Result", 0));
}

#[test]
fn c_013_c_014_cancelling_a_first_error_list() {
    let log = Log::new();
    let ((one, _one), (two, _two)) = (member(&log, "one", None), member(&log, "two", None));
    let list = DeferredList::new([one, two]).fire_on_one_errback();
    list.cancel();
    assert_eq!(log.take(), ["one", "two"]);
    let failure = now(list).unwrap_err();
    assert!(failure.downcast_ref::<FirstError>().unwrap().failure().check::<CancelledError>());
    let ((one, _one), (two, _two)) =
        (member(&log, "one", Some("a")), member(&log, "two", Some("b")));
    let list = DeferredList::new([one, two]).fire_on_one_errback();
    list.cancel();
    assert_eq!(now(list).unwrap().into_iter().map(Result::unwrap).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn c_017_c_018_a_list_that_has_fired_ignores_a_cancel() {
    let log = Log::new();
    let (pending, _fire) = member(&log, "pending", None);
    let list = DeferredList::new([Deferred::succeed("x"), pending]).fire_on_one_callback();
    list.cancel();
    let (other, _fire) = member(&log, "other", None);
    let failed = DeferredList::new([Deferred::fail(Bang("x")), other]).fire_on_one_errback();
    failed.cancel();
    assert!(log.take().is_empty());
    assert!(now(list).is_ok() && now(failed).is_err());
}

#[test]
fn c_026_the_winner_of_a_race_cancels_every_loser_once_and_itself_never() {
    for count in 1..=7 {
        for winner in 0..count {
            let log = Log::new();
            let names = ["0", "1", "2", "3", "4", "5", "6"];
            let (members, mut fires): (Vec<_>, Vec<_>) =
                (0..count).map(|index| member(&log, names[index], None)).unzip();
            let result = watch(race(members));
            fires.remove(winner).callback("won");
            assert_eq!(result.value(), (winner, "won"));
            let losers: Vec<_> = (0..count)
                .filter(|index| *index != winner)
                .map(|index| index.to_string())
                .collect();
            assert_eq!(log.take(), losers);
        }
    }
}

#[test]
fn c_027_if_all_fail_the_race_fails_with_their_failures_in_order_and_no_member_is_cancelled() {
    let log = Log::new();
    let (members, fires): (Vec<_>, Vec<_>) =
        ["0", "1"].into_iter().map(|name| member(&log, name, None)).unzip();
    let result = watch(race(members));
    for (fire, text) in fires.into_iter().rev().zip(["second", "first"]) {
        fire.errback(Bang(text));
    }
    let failure = result.failure();
    let group = failure.downcast_ref::<FailureGroup>().unwrap();
    assert_eq!(
        group.failures().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["first", "second"]
    );
    assert_eq!(failure.to_string(), "all 2 Deferreds failed: #0 first, #1 second");
    assert!(log.take().is_empty());
    assert!(now(race(Vec::<Deferred<u32>>::new())).unwrap_err().check::<EmptyListError>());
}

#[test]
fn c_028_c_029_what_a_loser_still_brings_is_ignored() {
    let reports = Reports::new();
    let log = Log::new();
    let ((winner, win), (loser, lose), (fires, _fires)) =
        (member(&log, "w", None), member(&log, "l", None), member(&log, "f", Some("from cancel")));
    let shared = lose.shared();
    let result = watch(race([winner, loser, fires]));
    win.callback("won");
    let _ = shared.errback(Bang("late"));
    assert_eq!(result.value(), (0, "won"));
    assert!(reports.take().is_empty());
}

#[test]
fn c_030_cancelling_a_race_cancels_each_member_once_and_fails_it_with_their_failures() {
    let log = Log::new();
    let ((one, _one), (two, _two)) = (member(&log, "one", None), member(&log, "two", None));
    let result = race([one, two]);
    result.cancel();
    assert_eq!(log.take(), ["one", "two"]);
    let failure = now(result).unwrap_err();
    assert!(
        failure
            .downcast_ref::<FailureGroup>()
            .unwrap()
            .failures()
            .iter()
            .all(twistor::failure::Failure::check::<CancelledError>)
    );
}

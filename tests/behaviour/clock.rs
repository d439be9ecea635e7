//! The test clock.
use crate::support::Log;
use std::{cell::RefCell, rc::Rc, time::Duration};
use twistor::{
    error::{AlreadyCalled, AlreadyCancelled},
    task::Clock,
    time::DelayedCall,
};

fn secs(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

#[test]
fn k_001_a_new_clock_is_at_zero_and_has_no_calls() {
    let clock = Clock::new();
    assert_eq!(clock.seconds(), Duration::ZERO);
    assert!(clock.delayed_calls().is_empty());
}

#[test]
fn k_002_k_004_call_later_returns_a_new_active_call_each_time() {
    let clock = Clock::new();
    let (one, two) = (clock.call_later(secs(1.0), || ()), clock.call_later(secs(1.0), || ()));
    assert_eq!(one.time(), secs(1.0));
    assert!(one.is_active());
    assert_ne!(one, two);
}

#[test]
fn k_003_a_cancelled_call_is_inactive_and_removed_at_once() {
    let clock = Clock::new();
    let log = Log::new();
    let noted = log.clone();
    let call = clock.call_later(secs(1.0), move || noted.add("ran"));
    call.cancel().unwrap();
    assert!(!call.is_active());
    assert!(clock.delayed_calls().is_empty());
    clock.advance(secs(2.0));
    assert!(log.take().is_empty());
    assert!(call.cancel().unwrap_err().check::<AlreadyCancelled>());
}

#[test]
fn k_005_a_call_runs_once_when_it_is_due() {
    let (clock, log) = (Clock::new(), Log::new());
    let noted = log.clone();
    let call = clock.call_later(secs(2.0), move || noted.add("ran"));
    clock.advance(secs(1.0));
    assert!(log.take().is_empty());
    clock.advance(secs(1.0));
    assert_eq!(log.take(), ["ran"]);
    assert!(!call.is_active());
    clock.advance(secs(5.0));
    assert!(log.take().is_empty());
}

#[test]
fn k_006_a_call_counts_as_called_inside_itself() {
    let clock = Clock::new();
    let cell: Rc<RefCell<Option<DelayedCall>>> = Rc::default();
    let (inside, log) = (cell.clone(), Log::new());
    let noted = log.clone();
    let call = clock.call_later(secs(1.0), move || {
        let failure = inside.borrow().as_ref().unwrap().cancel().unwrap_err();
        noted.add(failure.check::<AlreadyCalled>());
    });
    *cell.borrow_mut() = Some(call);
    clock.advance(secs(1.0));
    assert_eq!(log.take(), ["true"]);
}

#[test]
fn k_007_delay_moves_a_call_from_where_it_is() {
    let (clock, log) = (Clock::new(), Log::new());
    let noted = log.clone();
    let call = clock.call_later(secs(1.0), move || noted.add("ran"));
    call.delay(secs(1.0)).unwrap();
    clock.advance(secs(1.5));
    assert!(log.take().is_empty());
    clock.advance(secs(1.0));
    assert_eq!(log.take(), ["ran"]);
}

#[test]
fn k_008_k_009_reset_counts_from_now_later_and_sooner() {
    let (clock, log) = (Clock::new(), Log::new());
    let (noted, too) = (log.clone(), log.clone());
    let later = clock.call_later(secs(2.0), move || noted.add("later"));
    let sooner = clock.call_later(secs(4.0), move || too.add("sooner"));
    sooner.reset(secs(3.0)).unwrap();
    clock.advance(secs(1.0));
    later.reset(secs(3.0)).unwrap();
    clock.advance(secs(2.0));
    assert_eq!(log.take(), ["sooner"]);
    clock.advance(secs(1.0));
    assert_eq!(log.take(), ["later"]);
}

#[test]
fn k_010_the_list_holds_what_is_pending() {
    let clock = Clock::new();
    let (one, two) = (clock.call_later(secs(2.0), || ()), clock.call_later(secs(1.0), || ()));
    assert_eq!(clock.delayed_calls(), [two.clone(), one.clone()]);
    two.cancel().unwrap();
    assert_eq!(clock.delayed_calls(), [one]);
}

#[test]
fn k_012_k_013_a_reset_keeps_calls_in_order_also_from_inside_a_call() {
    let (clock, log) = (Clock::new(), Log::new());
    let noted = |name: &'static str| {
        let log = log.clone();
        move || log.add(name)
    };
    let b = clock.call_later(secs(2.0), noted("b"));
    let reset = b.clone();
    clock.call_later(secs(1.0), move || reset.reset(secs(3.0)).unwrap());
    clock.call_later(secs(3.0), noted("c"));
    clock.pump([secs(1.0); 4]);
    assert_eq!(log.take(), ["c", "b"]);
}

#[test]
fn calls_due_at_one_instant_run_in_the_order_they_were_made() {
    let (clock, log) = (Clock::new(), Log::new());
    for n in 0..6 {
        let log = log.clone();
        clock.call_later(secs(1.0), move || log.add(n));
    }
    clock.advance(secs(1.0));
    assert_eq!(log.take(), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn a_panic_in_a_call_is_reported_and_the_others_run() {
    let (clock, log) = (Clock::new(), Log::new());
    let reports = crate::support::Reports::new();
    let noted = log.clone();
    clock.call_later(secs(1.0), || panic!("in a timer"));
    clock.call_later(secs(1.0), move || noted.add("ran"));
    clock.advance(secs(1.0));
    assert_eq!(log.take(), ["ran"]);
    let reports = reports.take();
    assert!(reports.len() == 1 && reports[0].contains("panicked: in a timer"), "{reports:?}");
}

//! Triggers that run when a reactor starts and stops.
use crate::support::{Bang, Log, Reports, run_until, watch};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};
use twistor::{
    defer::{Deferred, Resolver},
    error::{ReactorNotRunning, ValueError},
    failure::Failure,
    reactor::{
        Reactor,
        SystemEvent::{self, Shutdown, Startup},
        SystemEventTrigger,
        TriggerPhase::{self, After, Before, During},
    },
    testing::MemoryReactor,
};

/// A reactor in memory, and a log.
fn reactor() -> (Reactor, Log) {
    (MemoryReactor::new().reactor(), Log::new())
}

/// A trigger that records `what`.
fn note(
    reactor: &Reactor,
    log: &Log,
    phase: TriggerPhase,
    event: SystemEvent,
    what: &'static str,
) -> SystemEventTrigger {
    let log = log.clone();
    reactor.add_system_event_trigger(phase, event, move || log.add(what))
}

/// Stops the reactor in its first turn.
fn stop_soon(reactor: &Reactor) {
    let stop = reactor.clone();
    reactor.call_later(Duration::ZERO, move || stop.stop().unwrap());
}

/// Adds a pending trigger before the shutdown, and returns its resolver.
fn wait_before_shutdown(reactor: &Reactor) -> Resolver<()> {
    let (wait, resolver) = Deferred::new();
    reactor.add_system_event_trigger(Before, Shutdown, move || wait);
    resolver
}

#[test]
fn r_004_running_is_false_before_the_startup_and_true_during_and_after_it() {
    let (reactor, log) = reactor();
    for phase in [Before, During, After] {
        let (inside, log) = (reactor.clone(), log.clone());
        reactor.add_system_event_trigger(phase, Startup, move || {
            log.add(format!("{phase:?} {}", inside.is_running()));
        });
    }
    stop_soon(&reactor);
    reactor.run().unwrap();
    assert_eq!(log.take(), ["Before false", "During true", "After true"]);
    assert!(!reactor.is_running());
    reactor.close();
}

#[test]
fn r_005_r_015_r_016_run_returns_after_all_phases_of_the_shutdown_in_their_order() {
    let (reactor, log) = reactor();
    for (phase, what) in [
        (After, "a1"),
        (During, "d1"),
        (Before, "b1"),
        (After, "a2"),
        (Before, "b2"),
        (During, "d2"),
    ] {
        note(&reactor, &log, phase, Shutdown, what);
    }
    let (stop, inside) = (reactor.clone(), log.clone());
    reactor.call_later(Duration::ZERO, move || {
        stop.stop().unwrap();
        inside.add("stopped");
    });
    assert!(log.take().is_empty(), "not earlier");
    reactor.run().unwrap();
    assert_eq!(log.take(), ["stopped", "b1", "b2", "d1", "d2", "a1", "a2"]);
    reactor.close();
}

#[test]
fn r_010_run_turns_while_a_trigger_before_the_startup_waits() {
    let (reactor, log) = reactor();
    let (wait, resolver) = Deferred::new();
    reactor.add_system_event_trigger(Before, Startup, move || wait);
    note(&reactor, &log, During, Startup, "started");
    let inside = log.clone();
    reactor.call_when_running(move || inside.add("running"));
    let (first, inside) = (log.clone(), reactor.clone());
    reactor.call_later(Duration::from_secs(5), move || {
        first.add("a turn");
        resolver.callback(());
        stop_soon(&inside);
    });
    reactor.run().unwrap();
    assert_eq!(log.take(), ["a turn", "started", "running"]);
    reactor.close();
}

#[test]
fn r_011_a_crash_ends_the_run_without_triggers() {
    let (reactor, log) = reactor();
    note(&reactor, &log, Before, Shutdown, "shutdown");
    let stopped = watch(reactor.when_stopped());
    let inside = reactor.clone();
    reactor.call_later(Duration::ZERO, move || inside.crash());
    reactor.run().unwrap();
    assert!(log.take().is_empty() && !reactor.is_running());
    stopped.value();
    // and it may be run again: then they are still there
    stop_soon(&reactor);
    reactor.run().unwrap();
    assert_eq!(log.take(), ["shutdown"]);
    reactor.close();
}

#[test]
fn r_017_r_018_the_shutdown_waits_for_every_deferred_of_its_first_phase() {
    let (reactor, log) = reactor();
    let (one, two) = (wait_before_shutdown(&reactor), wait_before_shutdown(&reactor));
    note(&reactor, &log, During, Shutdown, "during");
    for (resolver, after) in [(one, 10), (two, 20)] {
        let (log, inside) = (log.clone(), reactor.clone());
        reactor.call_later(Duration::from_secs(after), move || {
            assert!(
                inside.is_running() && inside.stop().unwrap_err().check::<ReactorNotRunning>(),
                "it has been asked already"
            );
            log.add(after);
            resolver.callback(());
        });
    }
    stop_soon(&reactor);
    reactor.run().unwrap();
    assert_eq!(log.take(), ["10", "20", "during"]);
    reactor.close();
}

#[test]
fn r_019_a_trigger_that_fires_what_an_earlier_one_waits_for_does_not_end_the_phase() {
    let (reactor, log) = reactor();
    let first = wait_before_shutdown(&reactor);
    reactor.add_system_event_trigger(Before, Shutdown, move || first.callback(()));
    let third = wait_before_shutdown(&reactor);
    note(&reactor, &log, During, Shutdown, "during");
    let inside = log.clone();
    reactor.call_later(Duration::from_secs(3), move || {
        inside.add("third");
        third.callback(());
    });
    stop_soon(&reactor);
    reactor.run().unwrap();
    assert_eq!(log.take(), ["third", "during"]);
    reactor.close();
}

#[test]
fn r_021_r_022_a_removed_trigger_does_not_run_and_removing_it_again_is_an_error() {
    let (reactor, log) = reactor();
    let gone = note(&reactor, &log, Before, Shutdown, "gone");
    let stays = note(&reactor, &log, Before, Shutdown, "stays");
    reactor.remove_system_event_trigger(&gone).unwrap();
    assert!(reactor.remove_system_event_trigger(&gone).unwrap_err().check::<ValueError>());
    stop_soon(&reactor);
    reactor.run().unwrap();
    assert_eq!(log.take(), ["stays"]);
    assert!(reactor.remove_system_event_trigger(&stays).is_err());
    reactor.close();
}

#[test]
fn r_024_a_trigger_may_remove_one_that_has_not_run() {
    for (phase, waits) in [(Before, false), (During, false), (After, false), (During, true)] {
        let (reactor, log) = reactor();
        let victim: Rc<RefCell<Option<SystemEventTrigger>>> = Rc::default();
        let (inside, name) = (reactor.clone(), victim.clone());
        let remove =
            move || inside.remove_system_event_trigger(name.borrow().as_ref().unwrap()).unwrap();
        if waits {
            let resolver = wait_before_shutdown(&reactor);
            reactor.call_later(Duration::from_secs(1), move || {
                remove();
                resolver.callback(());
            });
        } else {
            reactor.add_system_event_trigger(Before, Shutdown, remove);
        }
        *victim.borrow_mut() = Some(note(&reactor, &log, phase, Shutdown, "victim"));
        note(&reactor, &log, phase, Shutdown, "next");
        stop_soon(&reactor);
        reactor.run().unwrap();
        assert_eq!(log.take(), ["next"]);
        reactor.close();
    }
}

#[test]
fn r_026_triggers_are_used_up() {
    let (reactor, log) = reactor();
    note(&reactor, &log, During, Startup, "start");
    note(&reactor, &log, During, Shutdown, "stop");
    for _ in 0..2 {
        stop_soon(&reactor);
        reactor.run().unwrap();
    }
    assert_eq!(log.take(), ["start", "stop"]);
    reactor.close();
}

#[test]
fn r_028_a_startup_that_waits_does_not_disturb_the_shutdown() {
    let reports = Reports::new();
    let (reactor, log) = reactor();
    let (wait, resolver) = Deferred::<()>::new();
    reactor.add_system_event_trigger(Before, Startup, move || wait);
    note(&reactor, &log, During, Startup, "started");
    note(&reactor, &log, During, Shutdown, "stopped");
    stop_soon(&reactor);
    reactor.run().unwrap();
    assert_eq!(log.take(), ["stopped"]);
    drop(resolver);
    assert_eq!(reports.take().len(), 1, "the trigger that was given up");
    reactor.close();
}

#[test]
fn a_trigger_that_panics_or_fails_is_reported_and_the_others_run() {
    let (reactor, log) = reactor();
    let reports = Reports::new();
    reactor.add_system_event_trigger(Before, Shutdown, || -> () {
        std::panic::resume_unwind(Box::new("boom"))
    });
    reactor.add_system_event_trigger(Before, Shutdown, || Err::<(), _>(Failure::new(Bang("bad"))));
    note(&reactor, &log, After, Shutdown, "after");
    stop_soon(&reactor);
    reactor.run().unwrap();
    assert_eq!(log.take(), ["after"]);
    let seen = reports.take();
    assert!(seen.len() == 2 && seen[0].contains("boom") && seen[1].contains("bad"), "{seen:?}");
    assert!(seen[1].contains("a trigger Before Shutdown"), "{seen:?}");
    reactor.close();
}

#[test]
fn a_real_reactor_wakes_up_when_the_last_wait_of_the_shutdown_ends() {
    let reactor = Reactor::new().unwrap();
    let resolver = wait_before_shutdown(&reactor);
    let (remote, inside) = (reactor.remote(), reactor.clone());
    let resolver = RefCell::new(Some(resolver));
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    // nothing but this call from another thread can end the wait
    let fire = Rc::new(move || resolver.take().map_or((), |resolver| resolver.callback(())));
    let by_thread = fire.clone();
    inside.call_later(Duration::from_millis(1), move || {
        std::thread::spawn(move || remote.call_from_thread(|| ())).join().unwrap();
        by_thread();
    });
    reactor.run().unwrap();
    drop(fire);
    run_until(&reactor, || true);
    reactor.close();
}

/// Crashes the reactor in its first turn.
fn crash_soon(reactor: &Reactor) {
    let crash = reactor.clone();
    reactor.call_later(Duration::ZERO, move || crash.crash());
}

#[test]
fn pending_triggers_of_a_crashed_run_do_not_affect_the_next() {
    // the shutdown of the first run
    let (reactor, log) = reactor();
    let first = wait_before_shutdown(&reactor);
    let stop = reactor.clone();
    reactor.call_when_running(move || {
        stop.stop().unwrap();
        crash_soon(&stop);
    });
    reactor.run().unwrap();
    let second = wait_before_shutdown(&reactor);
    note(&reactor, &log, During, Shutdown, "during");
    stop_soon(&reactor);
    let inside = log.clone();
    reactor.call_later(Duration::from_secs(1), move || first.callback(()));
    reactor.call_later(Duration::from_secs(2), move || {
        inside.add("second");
        second.callback(());
    });
    reactor.run().unwrap();
    assert_eq!(log.take(), ["second", "during"]);
    reactor.close();
}

#[test]
fn a_startup_that_was_given_up_starts_nothing() {
    let reports = Reports::new();
    let (reactor, log) = reactor();
    let (wait, first) = Deferred::<()>::new();
    reactor.add_system_event_trigger(Before, Startup, move || wait);
    note(&reactor, &log, During, Startup, "during");
    crash_soon(&reactor);
    reactor.run().unwrap();
    first.callback(());
    assert!(log.take().is_empty(), "outside of any run");
    // and it does not end the startup of another run
    let (wait, second) = Deferred::<()>::new();
    reactor.add_system_event_trigger(Before, Startup, move || wait);
    crash_soon(&reactor);
    reactor.run().unwrap();
    drop(second);
    assert!(log.take().is_empty());
    assert!(reports.take()[0].ends_with(
        "AbandonedError: The Resolver was dropped before it fired.\n(a trigger Before Startup)"
    ));
    reactor.close();
}

#[test]
fn turns_by_hand_wait_for_the_startup_as_a_run_does() {
    let (reactor, log) = reactor();
    let (wait, resolver) = Deferred::<()>::new();
    reactor.add_system_event_trigger(Before, Startup, move || wait);
    note(&reactor, &log, During, Startup, "during");
    for _ in 0..3 {
        reactor.iterate(Duration::ZERO).unwrap();
        assert!(log.take().is_empty());
    }
    resolver.callback(());
    reactor.iterate(Duration::ZERO).unwrap();
    assert_eq!(log.take(), ["during"]);
    reactor.close();
}

#[test]
fn a_reactor_that_is_closed_at_its_start_starts_nothing_and_receives_no_signals() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let close = reactor.clone();
    reactor.add_system_event_trigger(Before, Startup, move || close.close());
    note(&reactor, &log, During, Startup, "during");
    reactor.run().unwrap();
    assert!(log.take().is_empty());
    assert!(format!("{reactor:?}").contains(" 0 sources"), "{reactor:?}");
    let held = Rc::new(());
    let inside = held.clone();
    reactor.add_system_event_trigger(Before, Shutdown, move || drop(inside));
    assert_eq!(Rc::strong_count(&held), 1, "a closed reactor keeps nothing");
}

#[test]
fn running_is_false_until_the_startup_is_done_also_when_it_is_asked_to_stop() {
    let (reactor, log) = reactor();
    let reports = Reports::new();
    let (wait, resolver) = Deferred::<()>::new();
    reactor.add_system_event_trigger(Before, Startup, move || wait);
    let (inside, noted) = (reactor.clone(), log.clone());
    reactor.call_later(Duration::ZERO, move || {
        noted.add(inside.is_running());
        inside.stop().unwrap();
        noted.add(inside.is_running());
    });
    reactor.run().unwrap();
    assert_eq!(log.take(), ["false", "false"]);
    drop(resolver);
    assert_eq!(reports.take().len(), 1, "the trigger that was given up");
    reactor.close();
}

/// A value whose drop panics.
struct BadDrop;

impl Drop for BadDrop {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("bad drop"));
    }
}

#[test]
fn drops_that_panic_do_not_keep_a_reactor_from_closing() {
    let reactor = Reactor::new().unwrap();
    let reports = Reports::new();
    for _ in 0..2 {
        let bad = BadDrop;
        reactor.call_when_running(move || drop(bad));
        let bad = BadDrop;
        reactor.add_system_event_trigger(Before, Shutdown, move || drop(bad));
    }
    let bad = BadDrop;
    reactor
        .on_signal(10, move || {
            let _ = &bad;
        })
        .unwrap();
    let timer = reactor.call_later(Duration::from_secs(1), || ());
    reactor.close();
    assert!(!timer.is_active());
    assert_eq!(reports.take().len(), 5);
}

#[test]
fn a_signal_handler_where_there_are_no_signals_takes_no_slot() {
    let (reactor, log) = reactor();
    let handler = reactor.on_signal(10, || ()).unwrap();
    let factory = crate::support::Noting::factory(&log, crate::support::Noting::nothing);
    let _port = reactor
        .listen_tcp(
            (std::net::Ipv4Addr::LOCALHOST, 0),
            factory,
            &twistor::transport::ListenTcpOptions::default(),
        )
        .unwrap();
    let before = format!("{reactor:?}");
    handler.stop();
    assert_eq!(format!("{reactor:?}"), before);
    reactor.close();
}

#[test]
fn a_trigger_of_one_reactor_takes_none_of_another_back() {
    let (one, other) = (MemoryReactor::new().reactor(), MemoryReactor::new().reactor());
    let ran = Rc::new(Cell::new(false));
    let runs = ran.clone();
    let of_one = one.add_system_event_trigger(TriggerPhase::Before, SystemEvent::Shutdown, || ());
    other.add_system_event_trigger(TriggerPhase::Before, SystemEvent::Shutdown, move || {
        runs.set(true);
    });
    assert!(other.remove_system_event_trigger(&of_one).unwrap_err().check::<ValueError>());
    let stop = other.clone();
    other.call_when_running(move || stop.stop().unwrap());
    other.run().unwrap();
    assert!(ran.get());
    one.remove_system_event_trigger(&of_one).unwrap();
}

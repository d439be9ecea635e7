//! Sources of other libraries, and the watchdog.
use crate::support::{Log, Logged, Reports, run_until};
use std::{
    io::{ErrorKind, Read, Write},
    rc::Rc,
    thread,
    time::Duration,
};
use twistor::{
    error::ReactorClosed,
    reactor::{
        Reactor,
        mio::{Interest, unix::pipe},
    },
    testing::MemoryReactor,
};

/// Reads everything that is available.
fn drain(reader: &mut pipe::Receiver) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 100];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => text.extend_from_slice(&buffer[..read]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn t_108_a_source_is_notified_when_it_can_be_read_and_when_it_can_be_written() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (mut writer, reader) = pipe::new().unwrap();
    let into = log.clone();
    reactor
        .add_source(reader, Interest::READABLE, move |reader, ready| {
            let text = drain(reader);
            into.add(format!("{text} readable {} closed {}", ready.readable, ready.closed));
        })
        .unwrap();
    writer.write_all(b"hello").unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        !seen.is_empty()
    });
    assert_eq!(seen, ["hello readable true closed false"]);
    let into = log.clone();
    let added = reactor
        .add_source(writer, Interest::WRITABLE, move |_, ready| {
            into.add(format!("writable {}", ready.writable));
        })
        .unwrap();
    run_until(&reactor, || log.take() == ["writable true"]);
    drop(added.remove().unwrap());
    run_until(&reactor, || log.take().iter().any(|line| line.ends_with("closed true")));
    reactor.close();
}

#[test]
fn t_109_a_source_that_was_removed_is_not_notified_even_if_it_is_ready() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (mut writer, reader) = pipe::new().unwrap();
    let into = log.clone();
    let added =
        reactor.add_source(reader, Interest::READABLE, move |_, _| into.add("ready")).unwrap();
    assert!(format!("{added:?}").contains("sources.rs"), "{added:?}");
    writer.write_all(b"hello").unwrap();
    let mut reader = added.remove().unwrap();
    assert!(added.remove().is_none());
    for _ in 0..3 {
        reactor.iterate(Duration::from_millis(1)).unwrap();
    }
    assert_eq!((log.take(), drain(&mut reader)), (vec![], "hello".to_owned()));
    // it can be added again
    let into = log.clone();
    let again = reactor
        .add_source(reader, Interest::READABLE, move |reader, _| into.add(drain(reader)))
        .unwrap();
    writer.write_all(b"again").unwrap();
    run_until(&reactor, || log.take() == ["again"]);
    drop(again);
    reactor.close();
}

#[test]
fn a_source_may_remove_itself_and_is_dropped_with_its_reactor() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let (mut writer, reader) = pipe::new().unwrap();
    let me = Rc::new(std::cell::RefCell::new(None::<twistor::reactor::UserSource<pipe::Receiver>>));
    let (inside, into) = (me.clone(), log.clone());
    let added = reactor
        .add_source(reader, Interest::READABLE, move |_, _| {
            let removed = inside.take().unwrap().remove();
            into.add(format!("removed {}", removed.is_some()));
        })
        .unwrap();
    *me.borrow_mut() = Some(added);
    writer.write_all(b"x").unwrap();
    run_until(&reactor, || log.take() == ["removed false"]);
    assert_eq!(
        writer.write(b"x").unwrap_err().kind(),
        ErrorKind::BrokenPipe,
        "it was dropped when its handler had returned"
    );

    let (mut writer, reader) = pipe::new().unwrap();
    let _added = reactor.add_source(reader, Interest::READABLE, |_, _| ()).unwrap();
    reactor.close();
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let (_, reader) = pipe::new().unwrap();
    assert!(
        reactor
            .add_source(reader, Interest::READABLE, |_, _| ())
            .unwrap_err()
            .check::<ReactorClosed>()
    );
    let (_, reader) = pipe::new().unwrap();
    let memory = MemoryReactor::new()
        .reactor()
        .add_source(reader, Interest::READABLE, |_, _| ())
        .unwrap_err();
    assert!(memory.to_string().contains("MemoryReactor does not support"), "{memory}");
}

#[test]
fn a_handler_that_panics_is_reported_and_its_source_removed() {
    let reports = Reports::new();
    let reactor = Reactor::new().unwrap();
    let (mut writer, reader) = pipe::new().unwrap();
    reactor.add_source(reader, Interest::READABLE, |_, _| panic!("cannot read")).unwrap();
    writer.write_all(b"x").unwrap();
    run_until(&reactor, || writer.write(b"x").is_err());
    let seen = reports.take();
    assert!(
        seen.len() == 1 && seen[0].contains("cannot read") && seen[0].contains("sources.rs"),
        "{seen:?}"
    );
    reactor.close();
}

/// Blocks the reactor, as a careless callback does.
fn block(duration: Duration) {
    thread::sleep(duration);
}

#[test]
fn the_watchdog_names_what_has_blocked_the_reactor_and_only_that() {
    let (reactor, logged) = (Reactor::new().unwrap(), Logged::new());
    let limit = Duration::from_millis(40);
    reactor.call_later(Duration::ZERO, move || block(limit));
    reactor.iterate(Duration::ZERO).unwrap();
    reactor.iterate(Duration::from_millis(1)).unwrap();
    assert_eq!(logged.take(), [""; 0], "it is off at first");

    reactor.set_slow_callback_duration(limit);
    let line = line!() + 1;
    reactor.call_later(Duration::ZERO, move || block(limit));
    reactor.call_later(Duration::ZERO, || ());
    reactor.iterate(Duration::from_millis(1)).unwrap();
    let seen = logged.take();
    assert!(seen.len() == 1 && seen[0].starts_with("WARN the delayed call made at"), "{seen:?}");
    assert!(
        seen[0].contains(&format!("sources.rs:{line}:")) && seen[0].ends_with("the limit is 40ms"),
        "{seen:?}"
    );

    let remote = reactor.remote();
    remote.call_from_thread(move || block(limit));
    reactor.iterate(Duration::from_millis(1)).unwrap();
    assert!(logged.take()[0].contains("a call from another thread"));

    let (mut writer, reader) = pipe::new().unwrap();
    let _added = reactor.add_source(reader, Interest::READABLE, move |_, _| block(limit)).unwrap();
    writer.write_all(b"x").unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(logged.take());
        !seen.is_empty()
    });
    assert!(seen[0].contains("Receiver added at") && seen[0].contains("sources.rs"), "{seen:?}");
    reactor.set_slow_callback_duration(None);
    reactor.close();
}

//! Failure and the named errors.
use crate::support::Bang;
use std::io;
use twistor::{
    address::Address,
    error::{
        AlreadyCalled, BindError, CannotListenError, ConnectBindError, ConnectError, ConnectingCancelledError, ConnectionAborted,
        ConnectionClosed, ConnectionDone, ConnectionLost, ConnectionRefusedError, NoRouteError, TcpTimedOutError, TimeoutError, UserError,
    },
    failure::Failure,
};

#[test]
fn f_001_trap_takes_the_kind_and_the_failure_keeps_its_own_type() {
    let failure = Failure::new(ConnectionAborted::new());
    let trapped = failure.trap::<ConnectionLost>().unwrap();
    assert!(trapped.type_name().ends_with("::ConnectionAborted"));
}

#[test]
fn f_002_trap_of_another_type_gives_the_identical_error_back() {
    let failure = Failure::new(Bang("one"));
    let back = failure.clone().trap::<ConnectionDone>().unwrap_err();
    assert!(back.is_same(&failure));
}

#[test]
fn f_003_a_failure_made_from_a_value_is_trapped_by_its_type_and_keeps_the_value() {
    let failure = Failure::new(Bang("kept")).trap::<Bang>().unwrap();
    assert_eq!(failure.downcast_ref::<Bang>(), Some(&Bang("kept")));
    assert_eq!(failure.error_message(), "kept");
}

#[test]
fn f_004_check_answers_for_the_type_and_for_nothing_else() {
    let failure = Failure::new(Bang("x"));
    assert!(failure.check::<Bang>());
    assert!(!failure.check::<ConnectionDone>() && !failure.check::<ConnectionClosed>());
}

#[test]
fn f_012_the_debug_text_is_one_line_with_type_and_message() {
    let text = format!("{:?}", Failure::new(Bang("hello")));
    assert_eq!(text, "<Failure behaviour::support::Bang: hello>");
}

#[test]
fn f_013_the_trace_has_a_header_the_frames_and_ends_with_type_and_message() {
    let line = line!() + 1;
    let text = Failure::new(Bang("hello")).traceback();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "Traceback (most recent call last):");
    assert!(lines[1].trim_start().starts_with(&format!("{}:{line}:", file!())), "{}", lines[1]);
    assert_eq!(*lines.last().unwrap(), "behaviour::support::Bang: hello");
}

#[test]
fn clones_share_the_error_and_keep_trails_of_their_own() {
    let one = Failure::new(Bang("x"));
    let two = crate::support::now(twistor::defer::Deferred::<u32>::fail(one.clone()).map(|n| n)).unwrap_err();
    assert!(one.is_same(&two));
    assert_eq!((one.frames().len(), two.frames().len()), (1, 2));
}

#[test]
fn f_029_f_030_kinds() {
    assert!(Failure::new(ConnectionDone::new()).check::<ConnectionClosed>());
    assert!(Failure::new(ConnectionLost::new()).check::<ConnectionClosed>());
    let aborted = Failure::new(ConnectionAborted::new());
    assert!(aborted.check::<ConnectionLost>() && aborted.check::<ConnectionClosed>() && !aborted.check::<ConnectionDone>());
    let busy = io::Error::from(io::ErrorKind::AddrInUse);
    assert!(Failure::new(CannotListenError::new("", 1, busy)).check::<BindError>());
    assert!(Failure::new(NoRouteError::new()).check::<ConnectError>());
    assert!(Failure::new(ConnectionRefusedError::new()).check::<ConnectError>());
    assert!(Failure::new(TcpTimedOutError::new()).check::<ConnectError>());
    assert!(Failure::new(ConnectBindError::new()).check::<ConnectError>());
    assert!(Failure::new(UserError::new()).check::<ConnectError>());
    let late = Failure::new(TimeoutError::new());
    assert!(late.check::<UserError>() && late.check::<ConnectError>());
}

#[test]
fn f_032_every_error_has_a_sentence_and_takes_a_text_after_a_colon() {
    assert_eq!(AlreadyCalled::new().to_string(), "Tried to cancel an already-called event.");
    assert_eq!(ConnectionDone::new().to_string(), "Connection was closed cleanly.");
    assert_eq!(ConnectionDone::with_text("bye").to_string(), "Connection was closed cleanly: bye.");
    assert_eq!(TimeoutError::new().to_string(), "User timeout caused connection failure.");
}

#[test]
fn f_033_a_connect_error_shows_number_then_text() {
    assert_eq!(ConnectError::new().to_string(), "An error occurred while connecting.");
    assert_eq!(ConnectError::with_text("no wire").to_string(), "An error occurred while connecting: no wire.");
    let refused = ConnectError::from_io(&io::Error::from_raw_os_error(111));
    assert_eq!(refused.os_error(), Some(111));
    assert_eq!(refused.to_string(), "An error occurred while connecting: 111: Connection refused.");
}

#[test]
fn f_034_cannot_listen_shows_interface_port_and_cause() {
    let error = CannotListenError::new("eth0", 4242, io::Error::other("in use"));
    assert_eq!(error.to_string(), "Couldn't listen on eth0:4242: in use.");
    assert_eq!((error.interface(), error.port()), ("eth0", 4242));
}

#[test]
fn f_036_a_cancelled_attempt_keeps_its_address() {
    let address = Address::Hostname("example.com".into(), 80);
    let error = ConnectingCancelledError::new(address.clone());
    assert_eq!(error.address(), &address);
    assert_eq!(error.to_string(), "The attempt to connect to example.com:80 was cancelled.");
}

#[test]
fn f_037_aborted_says_that_it_was_here() {
    assert_eq!(ConnectionAborted::new().to_string(), "Connection was aborted locally using abort_connection.");
    assert_eq!(ConnectionAborted::with_text("too slow").to_string(), "Connection was aborted locally using abort_connection: too slow.");
}

//! Failure and the named errors.
use crate::support::Bang;
use std::{
    error::Error, fmt, io, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc,
};
use twistor::{
    address::Address,
    defer::Deferred,
    error::{
        AlreadyCalled, BindError, CannotListenError, ConnectBindError, ConnectError,
        ConnectingCancelledError, ConnectionAborted, ConnectionClosed, ConnectionDone,
        ConnectionLost, ConnectionRefusedError, DnsLookupError, InvalidAddressError, NoRouteError,
        ProcessDone, ProcessTerminated, TcpTimedOutError, TimeoutError, UserError, ValueError,
    },
    failure::{Failure, TracebackDetail},
    inline_callbacks,
    transport::connect_error,
};

#[test]
fn f_001_trap_takes_the_kind_and_the_failure_keeps_its_own_type() {
    let failure = Failure::new(ConnectionAborted::new());
    let trapped = failure.trap::<ConnectionLost>().unwrap();
    assert!(trapped.type_name().ends_with("::ConnectionAborted"));
}

#[test]
fn f_002_trap_of_another_type_returns_the_identical_error() {
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
fn f_013_the_traceback_has_a_header_the_frames_and_ends_with_type_and_message() {
    let line = line!() + 1;
    let text = Failure::new(Bang("hello")).traceback();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "Traceback (most recent call last):");
    assert!(lines[1].trim_start().starts_with(&format!("{}:{line}:", file!())), "{}", lines[1]);
    assert_eq!(*lines.last().unwrap(), "behaviour::support::Bang: hello");
}

#[test]
fn clones_share_the_error_and_have_tracebacks_of_their_own() {
    let one = Failure::new(Bang("x"));
    let two = crate::support::now(twistor::defer::Deferred::<u32>::fail(one.clone()).map(|n| n))
        .unwrap_err();
    assert!(one.is_same(&two));
    assert_eq!((one.frames().len(), two.frames().len()), (1, 2));
}

#[test]
fn f_029_f_030_errors_are_of_their_kinds() {
    assert!(Failure::new(ConnectionDone::new()).check::<ConnectionClosed>());
    assert!(Failure::new(ConnectionLost::new()).check::<ConnectionClosed>());
    let aborted = Failure::new(ConnectionAborted::new());
    assert!(
        aborted.check::<ConnectionLost>()
            && aborted.check::<ConnectionClosed>()
            && !aborted.check::<ConnectionDone>()
    );
    let busy = io::Error::from(io::ErrorKind::AddrInUse);
    assert!(Failure::new(CannotListenError::new("", 1, busy)).check::<BindError>());
    assert!(Failure::new(NoRouteError::new()).check::<ConnectError>());
    assert!(Failure::new(ConnectionRefusedError::new()).check::<ConnectError>());
    assert!(Failure::new(TcpTimedOutError::new()).check::<ConnectError>());
    assert!(Failure::new(ConnectBindError::new()).check::<ConnectError>());
    assert!(Failure::new(UserError::new()).check::<ConnectError>());
    assert!(Failure::new(DnsLookupError::new()).check::<ConnectError>());
    assert!(Failure::new(ProcessDone::new()).check::<ConnectionDone>());
    let killed = ProcessTerminated::new(ExitStatus::from_raw(9));
    assert!(
        Failure::new(killed).check::<ConnectionLost>()
            && Failure::new(killed).check::<ConnectionClosed>()
    );
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
    assert_eq!(
        ConnectError::with_text("no wire").to_string(),
        "An error occurred while connecting: no wire."
    );
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
    assert_eq!(
        ConnectionAborted::new().to_string(),
        "Connection was aborted locally using abort_connection."
    );
    assert_eq!(
        ConnectionAborted::with_text("too slow").to_string(),
        "Connection was aborted locally using abort_connection: too slow."
    );
}

/// Returns a failure with two frames: its creation, and a callback that it has passed.
fn passed() -> Failure {
    crate::support::now(
        twistor::defer::Deferred::<u32>::fail(Failure::new(Bang("hello"))).map(|n| n),
    )
    .unwrap_err()
}

#[test]
fn f_014_the_brief_traceback_has_type_and_message_first_and_a_line_a_frame() {
    let failure = passed();
    let text = failure.traceback_with(TracebackDetail::Brief);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "Traceback: behaviour::support::Bang: hello");
    let expected: Vec<_> = failure
        .frames()
        .iter()
        .rev()
        .map(|frame| {
            format!(
                "  {}:{}:{}",
                frame.location().file(),
                frame.location().line(),
                frame.function()
            )
        })
        .collect();
    assert_eq!(&lines[1..], expected);
    assert_eq!(lines.len(), 3);
    assert!(lines[1].ends_with(":behaviour::failure::passed"), "{}", lines[1]);
}

#[test]
fn f_015_the_verbose_traceback_is_between_lines_with_the_failure_s_number() {
    let number = |failure: &Failure| {
        let text = failure.traceback_with(TracebackDetail::Verbose);
        let lines: Vec<_> = text.lines().collect();
        let number = lines[0]
            .strip_prefix("*--- Failure #")
            .unwrap()
            .strip_suffix(" ---")
            .unwrap()
            .to_owned();
        assert_eq!(lines[lines.len() - 1], format!("*--- End of Failure #{number} ---"));
        assert_eq!(lines[lines.len() - 2], "behaviour::support::Bang: hello");
        assert!(lines.contains(&"  Bang(\"hello\")"), "{text}");
        number.parse::<u64>().unwrap()
    };
    let (one, two) = (passed(), passed());
    assert_ne!(number(&one), number(&two));
    assert_eq!(number(&one), number(&one.clone()), "a clone is the same failure");
}

/// An error whose formatting always panics.
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no message")
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Err(fmt::Error)
    }
}

impl Error for Broken {}

#[test]
fn f_018_a_traceback_can_be_made_of_an_error_whose_text_cannot() {
    let failure = Failure::new(Broken);
    for detail in [TracebackDetail::Brief, TracebackDetail::Normal, TracebackDetail::Verbose] {
        let text = failure.traceback_with(detail);
        assert!(text.contains("behaviour::failure::Broken: (error's Display panicked)"), "{text}");
        assert!(text.contains("failure.rs"), "{text}");
    }
    assert_eq!(
        format!("{failure:?}"),
        "<Failure behaviour::failure::Broken: (error's Display panicked)>"
    );
}

/// An error whose cause is itself, or whose `source` panics.
#[derive(Debug)]
struct Circle(bool);

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("round")
    }
}

impl Error for Circle {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        assert!(self.0, "no source");
        Some(self)
    }
}

#[test]
fn a_traceback_can_be_made_of_an_error_whose_cause_panics_or_is_a_circle() {
    assert!(Failure::new(Circle(false)).traceback().ends_with("Circle: round"));
    assert_eq!(Failure::new(Circle(true)).traceback().matches("Caused by: round").count(), 64);
}

#[inline_callbacks]
fn fails_inside() -> twistor::defer::Deferred<()> {
    yield_!(twistor::defer::Deferred::fail(Bang("inside")))
}

#[test]
fn f_021_a_traceback_lists_the_same_frames_after_its_coroutine_has_gone_and_in_another_thread() {
    let failure = crate::support::now(fails_inside()).unwrap_err();
    let text = failure.traceback();
    assert!(text.contains("fails_inside"), "{text}");
    assert_eq!(std::thread::spawn(move || failure.traceback()).join().unwrap(), text);
}

#[test]
fn f_031_an_invalid_address_is_a_value_error() {
    assert!(Failure::new(InvalidAddressError::new()).check::<ValueError>());
}

#[test]
fn f_035_an_ended_process_shows_its_code_or_its_signal() {
    let exited = ProcessTerminated::new(ExitStatus::from_raw(42 << 8));
    assert_eq!((exited.exit_code(), exited.signal()), (Some(42), None));
    assert_eq!(exited.to_string(), "The process exited with code 42.");
    let killed = ProcessTerminated::new(ExitStatus::from_raw(15));
    assert_eq!((killed.exit_code(), killed.signal()), (None, Some(15)));
    assert_eq!(killed.to_string(), "The process was killed by signal 15 (SIGTERM).");
    assert_eq!(ProcessDone::new().to_string(), "The process exited with code 0.");
}

#[test]
fn f_040_an_error_without_a_number_is_a_plain_connect_error_with_its_text() {
    let to = Address::Hostname("example.com".into(), 80);
    let failure = connect_error(&io::Error::other("no wire"), &to);
    let error = failure.downcast_ref::<ConnectError>().unwrap();
    assert_eq!(error.os_error(), None);
    assert_eq!(error.address(), Some(&to));
    assert_eq!(failure.to_string(), "An error occurred while connecting: no wire: example.com:80.");
}

// Kind: a check that can never be true must not compile. `check::<(A, B)>()` and
// `check::<io::ErrorKind>()` do not: see tests/ui.
#[test]
fn check_any_and_trap_any_ask_for_one_of_several_errors_or_kinds() {
    let failure = Failure::new(ConnectionLost::new());
    assert!(failure.check_any::<(TimeoutError, ConnectionClosed)>());
    assert!(!failure.check_any::<(TimeoutError, ConnectionDone)>());
    assert!(failure.clone().trap_any::<(ConnectionLost,)>().is_ok());
    let other = failure.trap_any::<(TimeoutError, ConnectionDone)>().unwrap_err();
    assert!(other.check::<ConnectionLost>());
}

#[test]
fn a_message_is_its_text_and_nothing_else() {
    let failure = Failure::message("not connected");
    assert_eq!(failure.to_string(), "not connected");
    assert_eq!(failure.error_message(), "not connected");
}

#[test]
fn failures_and_boxed_errors_convert_both_ways() {
    let boxed: Box<dyn Error + Send + Sync> = Box::new(Bang("boom"));
    let failure = Failure::from_boxed(boxed);
    assert_eq!(failure.to_string(), Bang("boom").to_string());

    fn fails() -> Result<(), Box<dyn Error + Send + Sync>> {
        Err(Failure::new(TimeoutError::new().caused_by(Arc::new(Bang("cause")))))?
    }
    let error = fails().unwrap_err();
    assert_eq!(error.to_string(), TimeoutError::new().to_string());
    assert_eq!(error.source().unwrap().to_string(), Bang("cause").to_string());
    let plain: Box<dyn Error> = Failure::message("plain").into();
    assert_eq!(plain.to_string(), "plain");
}

// Kind: whatever user code can make longer without end has a limit.
#[test]
fn a_traceback_keeps_the_first_and_the_last_frames_and_counts_the_others() {
    let mut failure = Failure::message("again");
    let first = failure.frames()[0];
    for _ in 0..100_000 {
        let passed = Deferred::<()>::fail(failure).map(|()| ());
        failure = passed.take_result().unwrap().unwrap_err();
    }
    assert_eq!(failure.frames().len(), 128);
    assert_eq!(failure.frames()[0], first);
    let text = failure.traceback();
    assert_eq!(text.lines().count(), 1 + 128 + 1 + 1);
    assert!(text.contains("\n  ... 99873 frames omitted ...\n"), "{text}");
}

// Kind: an address in a text is written as it would be typed.
#[test]
fn cannot_listen_error_writes_an_ipv6_address_in_brackets() {
    let error = CannotListenError::new("::1", 80, io::Error::other("in use"));
    assert_eq!(error.to_string(), "Couldn't listen on [::1]:80: in use.");
}

//! Reports of failures that nobody consumed, and the guard around user code.
use crate::{
    error::Panicked,
    failure::{Failure, Frame},
};
use std::{
    cell::RefCell,
    fmt,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

/// A failure that nobody consumed, and where it was discarded.
///
/// `Display` is the text that the default sink logs: `Unhandled Error`, the place, the traceback.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The failure.
    pub failure: Failure,
    /// What discarded it: `Deferred made at src/main.rs:10:5`, `connection_lost of …`.
    pub context: String,
    /// The lines that created and fired its Deferred, if [debugging](crate::defer::debug) was on.
    pub debug: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unhandled Error\n")?;
        if let Some(debug) = &self.debug {
            writeln!(f, "(debug:  {debug})")?;
        }
        write!(f, "{}\n({})", self.failure.traceback(), self.context)
    }
}

type Sink = Rc<dyn Fn(&Report)>;

thread_local! {
    static SINKS: RefCell<Vec<Sink>> = const { RefCell::new(Vec::new()) };
}

/// Removes a report sink when it is dropped.
#[must_use = "the sink is removed when this guard is dropped"]
#[derive(Debug)]
pub struct SinkGuard {
    /// The number of sinks below this one.
    below: usize,
}

impl Drop for SinkGuard {
    fn drop(&mut self) {
        let removed = SINKS.try_with(|sinks| {
            let mut sinks = sinks.borrow_mut();
            let below = self.below.min(sinks.len());
            sinks.split_off(below)
        });
        drop(removed);
    }
}

/// Sends this thread's reports to `sink` until the guard is dropped; the sink pushed last receives
/// them. Without a sink, a report is an error event of `tracing`, or a text on standard error where
/// `tracing` has no subscriber.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use twistor::{defer::Deferred, failure::Failure, report};
///
/// let seen = Rc::new(RefCell::new(Vec::new()));
/// let into = seen.clone();
/// let guard = report::push_sink(move |report| into.borrow_mut().push(report.failure.to_string()));
/// drop(Deferred::<u32>::fail(Failure::message("nobody looks")));
/// drop(guard);
/// assert_eq!(*seen.borrow(), ["nobody looks"]);
/// ```
pub fn push_sink(sink: impl Fn(&Report) + 'static) -> SinkGuard {
    SINKS.with_borrow_mut(|sinks| {
        sinks.push(Rc::new(sink));
        SinkGuard { below: sinks.len() - 1 }
    })
}

/// The default sink. A program without a `tracing` subscriber gets its reports on standard error,
/// so that no failure is lost silently.
fn log(report: &Report) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{report}");
    } else {
        // a closed standard error must not stop the program
        let _ = writeln!(std::io::stderr(), "{report}");
    }
}

/// Tells the operator something, in the log or, without a `tracing` subscriber, on standard error.
pub(crate) fn notice(text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::warn!("{text}");
    } else {
        // a closed standard error must not stop the program
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Sends a failure that nobody consumed to the sink, or to `tracing` while the thread's storage is
/// being torn down.
pub(crate) fn report(failure: Failure, context: impl Into<String>) {
    report_with(failure, context.into(), None);
}

/// Sends a failure that nobody consumed to the sink, with what debugging knows about its Deferred.
pub(crate) fn report_with(failure: Failure, context: String, debug: Option<String>) {
    let report = Report { failure, context, debug };
    let sink = SINKS.try_with(|sinks| sinks.borrow().last().cloned()).ok().flatten();
    if let Some(sink) = sink {
        // user code: a sink that panics must not stop the program
        if catch_unwind(AssertUnwindSafe(|| sink(&report))).is_err() {
            log(&report);
        }
    } else {
        log(&report);
    }
}

/// Runs user code; a panic becomes a [`Panicked`] failure whose innermost frame is `frame()`.
pub(crate) fn guarded<R>(
    frame: impl FnOnce() -> Frame,
    run: impl FnOnce() -> R,
) -> Result<R, Failure> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| panicked(payload, frame()))
}

#[cold]
pub(crate) fn panicked(payload: Box<dyn std::any::Any + Send>, frame: Frame) -> Failure {
    let failure = Failure::at(Panicked::new(&*payload), frame);
    drop_guarded(payload);
    failure
}

/// Drops users' values one by one, each guarded: two drops that panic in one container would abort
/// the program.
pub(crate) fn drop_each<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(drop_guarded);
}

/// Drops a user's value; a panic in its `Drop` is reported and does not propagate.
pub(crate) fn drop_guarded<T>(value: T) {
    if std::mem::needs_drop::<T>()
        && let Err(payload) = catch_unwind(AssertUnwindSafe(move || drop(value)))
    {
        let failure = Failure::new(Panicked::new(&*payload));
        // a second panic, from the payload's own drop, cannot be reported
        std::mem::forget(payload);
        report(failure, format!("drop of a {}", std::any::type_name::<T>()));
    }
}

//! Failure: the error value of a Deferred's errback side, with its traceback.
use crate::error::{MessageError, is_kind};
pub use crate::error_tuple::ErrorTuple;
use std::{
    any::{TypeId, type_name},
    backtrace::Backtrace,
    cell::Cell,
    error::Error,
    fmt,
    io::Write as _,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// An error with its traceback: the value on a Deferred's errback side, and what `?` turns any
/// error into.
///
/// A `Failure` is one pointer; a clone increments a count. It is `Send` and `Sync`. Clones share
/// the error, and each has its own traceback: the frames of the callbacks and coroutines that it
/// has passed. The traceback costs nothing until there is an error.
///
/// ```
/// use twistor::failure::Failure;
///
/// fn port(text: &str) -> Result<u16, Failure> {
///     Ok(text.parse()?)
/// }
///
/// let failure = port("80a").unwrap_err();
/// assert!(failure.check::<std::num::ParseIntError>());
/// assert_eq!(failure.to_string(), "invalid digit found in string");
/// assert!(failure.traceback().starts_with("Traceback (most recent call last):\n"));
/// ```
///
/// `Display` writes the error's message, `{:?}` one line with type and message, and `{:#?}` the
/// whole traceback.
#[derive(Clone)]
#[doc(alias = "twisted.python.failure")]
pub struct Failure(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    error: Arc<dyn Error + Send + Sync>,
    type_id: TypeId,
    type_name: &'static str,
    /// Innermost first: where the failure was created, then each frame that it passed.
    trail: Vec<Frame>,
    /// The number of frames that were left out in the middle of the trail.
    omitted: u64,
    backtrace: Option<Arc<Backtrace>>,
    /// Distinguishes two failures with the same text in a log.
    serial: u64,
}

/// The amount of detail in a traceback, for [`Failure::traceback_with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TracebackDetail {
    /// Type and message, then one line of `file:line:function` for each frame.
    Brief,
    /// A header, the frames with the innermost last, type and message, then each cause.
    #[default]
    Normal,
    /// The default form, between lines that carry the failure's serial number, with the
    /// `Debug` text of the error and of its causes.
    Verbose,
}

/// One line of a traceback: a source location and, where it is known, the function.
#[derive(Clone, Copy)]
pub struct Frame {
    /// The name as the compiler writes it. The closure suffixes are cut off when the name is
    /// displayed, which keeps that cost out of each callback.
    function: &'static str,
    location: &'static Location<'static>,
}

impl Frame {
    pub(crate) const fn new(function: &'static str, location: &'static Location<'static>) -> Self {
        Self { function, location }
    }

    /// Returns a frame for the closure type `F`, whose type name contains the enclosing function.
    pub(crate) fn of_closure<F>(location: &'static Location<'static>) -> Self {
        Self::new(type_name::<F>(), location)
    }

    /// Returns the path of the function; empty where it is not known.
    pub fn function(&self) -> &'static str {
        self.function.trim_end_matches("::{{closure}}")
    }

    /// Returns the function's name unshortened, as [`enter_function`] takes it.
    pub(crate) fn raw_function(&self) -> &'static str {
        self.function
    }

    /// Returns the file, line and column.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

impl PartialEq for Frame {
    /// Returns whether both name the same function and location.
    fn eq(&self, other: &Self) -> bool {
        self.function() == other.function() && self.location == other.location
    }
}

impl Eq for Frame {}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.location)?;
        if self.function.is_empty() { Ok(()) } else { write!(f, ", in {}", self.function()) }
    }
}

/// The serial number of the process's next failure.
static SERIAL: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The coroutine or callback that is running: the function in which a new failure is created.
    static FUNCTION: Cell<&'static str> = const { Cell::new("") };
}

/// Returns whether a new failure captures the native stack: with `RUST_LIB_BACKTRACE=1`, but not
/// with `RUST_BACKTRACE`, which many machines set for panics.
fn wants_backtrace() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| std::env::var_os("RUST_LIB_BACKTRACE").is_some_and(|value| value != "0"))
}

/// Sets the function that is running and returns the previous one, which the caller restores.
pub(crate) fn enter_function(name: &'static str) -> &'static str {
    FUNCTION.replace(name)
}

/// Returns the function that is running, for a frame.
pub(crate) fn current_function() -> &'static str {
    FUNCTION.get()
}

impl Failure {
    /// Creates a failure from `error`; the caller's line is the first frame of its traceback.
    #[track_caller]
    pub fn new<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self::at(error, Frame::new(current_function(), Location::caller()))
    }

    /// Creates a failure from `error` whose first frame is `frame`.
    pub(crate) fn at<E: Error + Send + Sync + 'static>(error: E, frame: Frame) -> Self {
        Self(Arc::new(Inner {
            error: Arc::new(error),
            type_id: TypeId::of::<E>(),
            type_name: type_name::<E>(),
            trail: vec![frame],
            omitted: 0,
            backtrace: wants_backtrace().then(|| Arc::new(Backtrace::force_capture())),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        }))
    }

    /// Creates a failure that consists of a text alone.
    ///
    /// ```
    /// let failure = twistor::failure::Failure::message("the cupboard is bare");
    /// assert_eq!(failure.to_string(), "the cupboard is bare");
    /// ```
    #[track_caller]
    pub fn message(text: impl Into<String>) -> Self {
        Self::new(MessageError::new(text))
    }

    /// Creates a failure from an error whose type is not known. [`check`](Self::check) cannot
    /// recognise it, but its message and its causes are kept.
    ///
    /// ```
    /// use twistor::failure::Failure;
    ///
    /// fn parse(text: &str) -> Result<u16, Box<dyn std::error::Error + Send + Sync>> {
    ///     Ok(text.parse()?)
    /// }
    ///
    /// let failure = parse("80a").map_err(Failure::from_boxed).unwrap_err();
    /// assert_eq!(failure.to_string(), "invalid digit found in string");
    /// ```
    #[track_caller]
    pub fn from_boxed(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::new(BoxedError(error))
    }

    /// Returns whether the error is an `E`, or of the kind `E` (see [`error`](crate::error)).
    ///
    /// For one of several errors see [`check_any`](Self::check_any).
    pub fn check<E: Error + 'static>(&self) -> bool {
        self.is(TypeId::of::<E>())
    }

    fn is(&self, wanted: TypeId) -> bool {
        self.0.type_id == wanted || is_kind(self.0.type_id, wanted)
    }

    /// Returns whether the error is one of `E`, a tuple of up to eight errors or kinds.
    ///
    /// ```
    /// use twistor::{error::{ConnectError, TimeoutError}, failure::Failure};
    ///
    /// let failure = Failure::new(TimeoutError::new());
    /// assert!(failure.check_any::<(std::io::Error, ConnectError)>());
    /// ```
    #[doc(alias = "check")]
    pub fn check_any<E: ErrorTuple>(&self) -> bool {
        E::any(&|wanted| self.is(wanted))
    }

    /// Returns the failure if it is an `E` or of that kind, and otherwise an `Err` with the same
    /// failure: `let failure = failure.trap::<E>()?;` continues with the errors that it names and
    /// passes all others on.
    pub fn trap<E: Error + 'static>(self) -> Result<Self, Self> {
        if self.check::<E>() { Ok(self) } else { Err(self) }
    }

    /// Returns the failure if it is one of `E`, a tuple of errors or kinds, and otherwise an `Err`
    /// with the same failure.
    #[doc(alias = "trap")]
    pub fn trap_any<E: ErrorTuple>(self) -> Result<Self, Self> {
        if self.check_any::<E>() { Ok(self) } else { Err(self) }
    }

    /// Returns the error.
    pub fn value(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0.error
    }

    /// Returns the error as a shared pointer, so that it can be the cause of another one.
    pub fn shared_value(&self) -> Arc<dyn Error + Send + Sync> {
        self.0.error.clone()
    }

    /// Returns the error as an `E`, if that is exactly its type.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.error.downcast_ref()
    }

    /// Returns the error's message.
    #[doc(alias = "getErrorMessage")]
    pub fn error_message(&self) -> String {
        self.to_string()
    }

    /// Returns the full path of the error's type.
    pub fn type_name(&self) -> &'static str {
        self.0.type_name
    }

    /// Returns the frames, innermost first: where the failure was created, then each frame that it
    /// passed. Of more than 128 frames it keeps the first and the last, and the traceback says how
    /// many are left out.
    pub fn frames(&self) -> &[Frame] {
        &self.0.trail
    }

    /// Returns whether both hold the same error (and not merely equal ones).
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.error, &other.0.error)
    }

    /// Returns the native stack at the failure's creation, if one was captured: with
    /// `RUST_LIB_BACKTRACE=1`.
    pub fn backtrace(&self) -> Option<&Backtrace> {
        self.0.backtrace.as_deref()
    }

    /// Formats the traceback: a header, the frames with the innermost last, type and message, then
    /// each cause.
    ///
    /// This never fails: if an error's `Display` panics, a note stands in place of its text.
    #[doc(alias = "getTraceback")]
    pub fn traceback(&self) -> String {
        self.traceback_with(TracebackDetail::Normal)
    }

    /// Formats the [`traceback`](Self::traceback) with more or less detail.
    ///
    /// ```
    /// use twistor::failure::{Failure, TracebackDetail};
    ///
    /// let failure = Failure::message("the cupboard is bare");
    /// let brief = failure.traceback_with(TracebackDetail::Brief);
    /// let first = "Traceback: twistor::error::MessageError: the cupboard is bare\n";
    /// assert!(brief.starts_with(first));
    /// ```
    #[doc(alias = "printBriefTraceback")]
    #[doc(alias = "printDetailedTraceback")]
    pub fn traceback_with(&self, detail: TracebackDetail) -> String {
        let verbose = detail == TracebackDetail::Verbose;
        let last = self.headline();
        let omitted = match self.0.omitted {
            0 => None,
            count => Some(format!("  ... {count} frames omitted ...")),
        };
        let frames = |format: fn(&Frame) -> String| {
            let (inner, outer) = self.0.trail.split_at(self.0.trail.len().min(FIRST_FRAMES));
            let outer = outer.iter().rev().map(format);
            outer.chain(omitted.clone()).chain(inner.iter().rev().map(format))
        };
        let mut lines = Vec::new();
        match detail {
            TracebackDetail::Brief => {
                lines.push(format!("Traceback: {last}"));
                lines.extend(frames(|frame| {
                    format!(
                        "  {}:{}:{}",
                        frame.location.file(),
                        frame.location.line(),
                        frame.function()
                    )
                }));
                return lines.join("\n");
            }
            TracebackDetail::Normal => lines.push("Traceback (most recent call last):".to_owned()),
            TracebackDetail::Verbose => lines.push(format!("*--- Failure #{} ---", self.0.serial)),
        }
        lines.extend(frames(|frame| format!("  {frame:?}")));
        if verbose {
            lines.push(format!("  {}", text_of(|| format!("{:?}", self.0.error))));
        } else {
            lines.push(last.clone());
        }
        let mut cause = source_of(&*self.0.error);
        for _ in 0..MAX_CAUSES {
            let Some(error) = cause else { break };
            lines.push(format!(
                "Caused by: {}",
                text_of(|| if verbose { format!("{error:?}") } else { error.to_string() })
            ));
            cause = source_of(error);
        }
        if let Some(backtrace) = &self.0.backtrace {
            lines.push(format!("Backtrace of its creation:\n{backtrace}"));
        }
        if verbose {
            lines.push(last);
            lines.push(format!("*--- End of Failure #{} ---", self.0.serial));
        }
        lines.join("\n")
    }

    /// Formats type and message.
    fn headline(&self) -> String {
        format!("{}: {}", self.0.type_name, text_of(|| self.0.error.to_string()))
    }

    /// Prints [`traceback`](Self::traceback) to standard error.
    #[doc(alias = "printTraceback")]
    pub fn print_traceback(&self) {
        // a closed standard error must not stop the program
        let _ = writeln!(std::io::stderr(), "{}", self.traceback());
    }

    /// Makes `frame` the origin of the failure, for an error that the library creates on behalf of
    /// that line.
    #[must_use]
    pub(crate) fn location(mut self, frame: Frame) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        (inner.trail, inner.omitted) = (vec![frame], 0);
        self
    }

    /// Adds a frame to the traceback. A shared traceback is copied first, so that each clone has
    /// its own.
    #[must_use]
    pub(crate) fn passing(mut self, frame: Frame) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        if inner.trail.len() == MAX_FRAMES {
            inner.trail.remove(FIRST_FRAMES);
            inner.omitted += 1;
        }
        inner.trail.push(frame);
        self
    }
}

/// The maximum number of frames in a traceback, and how many of the innermost are among them. A loop
/// that passes on its last failure would otherwise add frames for ever.
const MAX_FRAMES: usize = 128;
const FIRST_FRAMES: usize = MAX_FRAMES / 2;

/// The maximum number of causes in a traceback, because a user's chain of causes may be circular.
const MAX_CAUSES: usize = 64;

/// Returns the cause of a user's error; `None` if asking for it panics.
fn source_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    unless_it_panics(|| error.source()).flatten()
}

/// Formats a user's error, also if its formatting panics.
fn text_of(make: impl FnOnce() -> String) -> String {
    unless_it_panics(make).unwrap_or_else(|| "(error's Display panicked)".to_owned())
}

fn unless_it_panics<T>(ask: impl FnOnce() -> T) -> Option<T> {
    // user code; the panic payload's drop is user code too, and must not panic again here
    catch_unwind(AssertUnwindSafe(ask)).map_err(std::mem::forget).ok()
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0.error, f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            f.write_str(&self.traceback())
        } else {
            write!(f, "<Failure {}>", self.headline())
        }
    }
}

/// An error whose type is not known.
#[derive(Debug)]
struct BoxedError(Box<dyn Error + Send + Sync>);

impl fmt::Display for BoxedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for BoxedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

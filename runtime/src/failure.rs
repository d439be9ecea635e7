//! Failure: the error value of a Deferred's errback side, with the way it came.
use crate::error::{MessageError, is_kind};
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

/// An error and the way it came: what travels down the errback side of a Deferred, and what `?`
/// makes of any error.
///
/// It is one pointer; a clone counts up. It is `Send` and `Sync`. Clones share the error, and each
/// keeps its own trail: the frames of callbacks and coroutines that it has passed. The trail costs
/// nothing until there is an error.
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
/// `Display` is the error's message, `{:?}` one line with type and message, `{:#?}` the whole
/// traceback.
#[derive(Clone)]
#[doc(alias = "twisted.python.failure")]
pub struct Failure(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    error: Arc<dyn Error + Send + Sync>,
    type_id: TypeId,
    type_name: &'static str,
    /// Innermost first: where the failure was made, then each place that it passed.
    trail: Vec<Frame>,
    backtrace: Option<Arc<Backtrace>>,
    /// Which failure of the process it is: what tells two with the same text apart in a log.
    serial: u64,
}

/// How much a traceback tells: what [`Failure::traceback_with`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TracebackDetail {
    /// Type and message, then a line of `file:line:function` for each frame.
    Brief,
    /// A header, the frames with the innermost last, type and message, then each cause.
    #[default]
    Normal,
    /// The same between lines that carry the failure's serial number, and with the `Debug` text of
    /// the error and of its causes.
    Verbose,
}

/// One step of a traceback: a place in the source, and the function it stands in where that is
/// known.
#[derive(Clone, Copy)]
pub struct Frame {
    /// As the compiler names it: what a closure's name has too much is cut off where somebody reads
    /// it, and not in each callback.
    function: &'static str,
    location: &'static Location<'static>,
}

impl Frame {
    pub(crate) const fn new(function: &'static str, location: &'static Location<'static>) -> Self {
        Self { function, location }
    }

    /// A frame for the closure type `F`: its name tells the function that it was written in.
    pub(crate) fn of_closure<F>(location: &'static Location<'static>) -> Self {
        Self::new(type_name::<F>(), location)
    }

    /// The path of the function, empty where it is not known.
    pub fn function(&self) -> &'static str {
        self.function.trim_end_matches("::{{closure}}")
    }

    /// The same, as [`enter_function`] takes it.
    pub(crate) fn raw_function(&self) -> &'static str {
        self.function
    }

    /// File, line and column.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

impl PartialEq for Frame {
    /// Whether both name the same function and place.
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

/// How many failures the process has made, and one: the next one's number.
static SERIAL: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The coroutine or callback that runs now: the function a new failure is made in.
    static FUNCTION: Cell<&'static str> = const { Cell::new("") };
}

/// Whether a failure captures the native stack of the place where it is made: with
/// `RUST_LIB_BACKTRACE=1` and not with `RUST_BACKTRACE`, which many machines set for panics.
fn wants_backtrace() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| std::env::var_os("RUST_LIB_BACKTRACE").is_some_and(|value| value != "0"))
}

/// Says which function runs from now on and gives back which one ran: the caller puts it back.
pub(crate) fn enter_function(name: &'static str) -> &'static str {
    FUNCTION.replace(name)
}

/// The function that runs now, for a frame.
pub(crate) fn current_function() -> &'static str {
    FUNCTION.get()
}

impl Failure {
    /// A failure that holds `error`; the first frame of its trail is the caller's line.
    #[track_caller]
    pub fn new<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self::at(error, Frame::new(current_function(), Location::caller()))
    }

    /// A failure that holds `error`, made at `frame`.
    pub(crate) fn at<E: Error + Send + Sync + 'static>(error: E, frame: Frame) -> Self {
        Self(Arc::new(Inner {
            error: Arc::new(error),
            type_id: TypeId::of::<E>(),
            type_name: type_name::<E>(),
            trail: vec![frame],
            backtrace: wants_backtrace().then(|| Arc::new(Backtrace::force_capture())),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        }))
    }

    /// A failure that is nothing but a text.
    ///
    /// ```
    /// let failure = twistor::failure::Failure::message("the cupboard is bare");
    /// assert_eq!(failure.to_string(), "Error: the cupboard is bare.");
    /// ```
    #[track_caller]
    pub fn message(text: impl Into<String>) -> Self {
        Self::new(MessageError::with_text(text))
    }

    /// Whether the error is an `E`, or of the kind `E` (see [`error`](crate::error)).
    pub fn check<E: 'static>(&self) -> bool {
        let wanted = TypeId::of::<E>();
        self.0.type_id == wanted || is_kind(self.0.type_id, wanted)
    }

    /// The failure itself if it is an `E` or of that kind, else an `Err` with the same failure:
    /// `let failure = failure.trap::<E>()?;` goes on with the errors that are meant and passes the
    /// others on untouched.
    pub fn trap<E: 'static>(self) -> Result<Self, Self> {
        if self.check::<E>() { Ok(self) } else { Err(self) }
    }

    /// The error.
    pub fn value(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0.error
    }

    /// The error as a shared pointer, to keep it as the cause of another one.
    pub fn shared_value(&self) -> Arc<dyn Error + Send + Sync> {
        self.0.error.clone()
    }

    /// The error as an `E`, if that is exactly its type.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.error.downcast_ref()
    }

    /// The error's message.
    #[doc(alias = "getErrorMessage")]
    pub fn error_message(&self) -> String {
        self.to_string()
    }

    /// The full path of the error's type.
    pub fn type_name(&self) -> &'static str {
        self.0.type_name
    }

    /// The frames, innermost first: where the failure was made, then each place that it passed.
    pub fn frames(&self) -> &[Frame] {
        &self.0.trail
    }

    /// Whether both hold the same error (not an equal one).
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.error, &other.0.error)
    }

    /// The native stack of the place where it was made, if one was captured: with
    /// `RUST_LIB_BACKTRACE=1`.
    pub fn backtrace(&self) -> Option<&Backtrace> {
        self.0.backtrace.as_deref()
    }

    /// The report: a header, the frames with the innermost last, type and message, then each cause.
    ///
    /// It never fails: the text of an error whose `Display` panics is replaced by a note that says
    /// so.
    #[doc(alias = "getTraceback")]
    pub fn traceback(&self) -> String {
        self.traceback_with(TracebackDetail::Normal)
    }

    /// [`traceback`](Self::traceback) with more or less detail.
    ///
    /// ```
    /// use twistor::failure::{Failure, TracebackDetail};
    ///
    /// let failure = Failure::message("the cupboard is bare");
    /// let brief = failure.traceback_with(TracebackDetail::Brief);
    /// let first = "Traceback: twistor::error::MessageError: Error: the cupboard is bare.\n";
    /// assert!(brief.starts_with(first));
    /// ```
    #[doc(alias = "printBriefTraceback")]
    #[doc(alias = "printDetailedTraceback")]
    pub fn traceback_with(&self, detail: TracebackDetail) -> String {
        let verbose = detail == TracebackDetail::Verbose;
        let last = self.headline();
        let frames = self.0.trail.iter().rev();
        let mut lines = Vec::new();
        match detail {
            TracebackDetail::Brief => {
                lines.push(format!("Traceback: {last}"));
                lines.extend(frames.map(|frame| {
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
        lines.extend(frames.map(|frame| format!("  {frame:?}")));
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
            lines.push(format!("Backtrace of the place where it was made:\n{backtrace}"));
        }
        if verbose {
            lines.push(last);
            lines.push(format!("*--- End of Failure #{} ---", self.0.serial));
        }
        lines.join("\n")
    }

    /// Type and message.
    fn headline(&self) -> String {
        format!("{}: {}", self.0.type_name, text_of(|| self.0.error.to_string()))
    }

    /// Prints [`traceback`](Self::traceback) to standard error.
    #[doc(alias = "printTraceback")]
    pub fn print_traceback(&self) {
        // a standard error that is closed is no reason to fall
        let _ = writeln!(std::io::stderr(), "{}", self.traceback());
    }

    /// The same failure, as if made at `frame`: for an error that the library makes on behalf of
    /// that place.
    #[must_use]
    pub(crate) fn location(mut self, frame: Frame) -> Self {
        Arc::make_mut(&mut self.0).trail = vec![frame];
        self
    }

    /// The same failure, one frame longer. A shared trail is copied first, so that clones go their
    /// own ways.
    #[must_use]
    pub(crate) fn passing(mut self, frame: Frame) -> Self {
        Arc::make_mut(&mut self.0).trail.push(frame);
        self
    }
}

/// How many causes a traceback shows at most: a chain of them may be a circle.
const MAX_CAUSES: usize = 64;

/// What a user's error names as its cause; nothing if that panics.
fn source_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    unless_it_panics(|| error.source()).flatten()
}

/// The text of a user's error, also where making it panics.
fn text_of(make: impl FnOnce() -> String) -> String {
    unless_it_panics(make)
        .unwrap_or_else(|| "(its text could not be made: that panicked)".to_owned())
}

fn unless_it_panics<T>(ask: impl FnOnce() -> T) -> Option<T> {
    // user code; the payload's drop is the user's too, and must not panic again here
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

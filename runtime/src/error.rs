//! Named errors: why a connection closed, why an attempt to connect failed, and what was called at
//! the wrong time.
//!
//! Every error is a struct with the name it has in Twisted. Some are *of a kind*: a
//! [`ConnectionDone`] and a [`ConnectionLost`] are both a [`ConnectionClosed`], and
//! [`Failure::check`](crate::failure::Failure::check) answers for the kind as for the type itself.
//! One table says which kinds there are.
//!
//! ```
//! use twistor::error::{ConnectionClosed, ConnectionDone, ConnectionLost};
//! use twistor::failure::Failure;
//!
//! let reason = Failure::new(ConnectionDone::new());
//! assert!(reason.check::<ConnectionClosed>() && !reason.check::<ConnectionLost>());
//! assert_eq!(reason.error_message(), "Connection was closed cleanly.");
//! ```
use crate::address::Address;
use std::{
    any::TypeId, error::Error, fmt, io, os::unix::process::ExitStatusExt, panic::Location,
    process::ExitStatus, sync::Arc, time::Duration,
};

/// The kind of error that covers [`ConnectionDone`], [`ConnectionLost`] and [`ConnectionAborted`].
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionClosed(());

/// The kind of error that covers [`TaskStopped`], [`TaskDone`] and [`TaskFailed`].
#[derive(Debug)]
#[non_exhaustive]
pub struct TaskFinished(());

/// The kind of error that covers [`CannotListenError`].
#[derive(Debug)]
#[non_exhaustive]
pub struct BindError(());

macro_rules! kinds_only {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl Error for $name {}
    )+};
}

// no value of these exists; they are errors so that `check` and `trap` can ask for errors alone
kinds_only!(ConnectionClosed, TaskFinished, BindError);

macro_rules! errors {
    ($($(#[$doc:meta])+ $name:ident: $text:literal;)*) => {$(
        $(#[$doc])+
        ///
        /// The display text is one sentence. The operating system's error number, a text and an
        /// address follow it after colons, where there are any.
        #[derive(Debug, Clone, Default)]
        pub struct $name {
            os_error: Option<i32>,
            text: Option<Box<str>>,
            address: Option<Address>,
            cause: Option<Arc<dyn Error + Send + Sync>>,
        }

        impl $name {
            /// Creates the error with its default sentence.
            pub fn new() -> Self {
                Self::default()
            }

            /// Creates the error with `text` after its default sentence.
            pub fn with_text(text: impl Into<String>) -> Self {
                Self { text: Some(text.into().into_boxed_str()), ..Self::default() }
            }

            /// Creates the error from an operating-system error: its number, if it has one, and its
            /// text.
            pub fn from_io(error: &io::Error) -> Self {
                match error.raw_os_error() {
                    // the text of a number is looked up when it is displayed
                    Some(number) => Self { os_error: Some(number), ..Self::default() },
                    None => Self::with_text(error.to_string()),
                }
            }

            /// Adds the address that the error concerns.
            #[must_use]
            pub fn with_address(self, address: Address) -> Self {
                Self { address: Some(address), ..self }
            }

            /// Returns the address that the error concerns, if it is known.
            pub fn address(&self) -> Option<&Address> {
                self.address.as_ref()
            }

            /// Adds the cause, which [`source`](Error::source) then returns.
            #[must_use]
            pub fn caused_by(self, cause: Arc<dyn Error + Send + Sync>) -> Self {
                Self { cause: Some(cause), ..self }
            }

            /// Returns the operating system's error number, such as `ECONNREFUSED`.
            pub fn os_error(&self) -> Option<i32> {
                self.os_error
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                sentence(f, $text, self.os_error, self.text.as_deref(), self.address.as_ref())
            }
        }

        impl Error for $name {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
            }
        }
    )*};
}

errors! {
    /// The connection was closed in an orderly way, by either side.
    ConnectionDone: "Connection was closed cleanly";
    /// The connection broke: a reset, a network timeout, or an error of the socket.
    ConnectionLost: "Connection to the other side was lost in a non-clean fashion";
    /// The connection was aborted on this side, by `abort_connection`.
    ConnectionAborted: "Connection was aborted locally using abort_connection";
    /// The connection could not be established.
    ConnectError: "An error occurred while connecting";
    /// The connection was refused: no program listens at the address.
    ConnectionRefusedError: "Connection was refused by other side";
    /// The attempt to connect timed out in the operating system.
    #[doc(alias = "TCPTimedOutError")]
    TcpTimedOutError: "TCP connection timed out";
    /// The network has no route to the address.
    NoRouteError: "No route to host";
    /// The local address of an attempt to connect could not be bound.
    ConnectBindError: "Couldn't bind the local address of the connection";
    /// The host name was not found.
    #[doc(alias = "DNSLookupError")]
    DnsLookupError: "DNS lookup failed";
    /// The lock file of a UNIX socket does not name a running process.
    BadFileError: "Nobody is known to listen on the socket";
    /// The connector was asked to stop connecting while it was not connecting.
    NotConnectingError: "Not connecting";
    /// The socket belongs to an address family that is neither IP nor UNIX.
    UnsupportedAddressFamily: "The socket is of an unknown address family";
    /// More descriptors were sent than bytes to carry them.
    FileDescriptorOverrun: "More descriptors than bytes to send them with";
    /// A multicast group could not be joined or left.
    MulticastJoinError: "The multicast group cannot be joined or left";
    /// The caller stopped the attempt to connect.
    UserError: "User aborted connection";
    /// The operation exceeded its time limit.
    TimeoutError: "User timeout caused connection failure";
    /// The message is longer than its protocol allows.
    MessageLengthError: "Message is too long to send or to receive";
    /// The delayed call has run already and cannot be cancelled, reset or delayed.
    AlreadyCalled: "Tried to cancel an already-called event";
    /// The delayed call was cancelled before and cannot be cancelled, reset or delayed again.
    AlreadyCancelled: "Tried to cancel an already-cancelled event";
    /// The factory refused to build a protocol for the connection.
    NoProtocol: "The factory built no protocol for the connection";
    /// The port was asked to stop while it was not listening.
    NotListeningError: "The port is not listening";
    /// The reactor was asked to stop while it was not running.
    ReactorNotRunning: "The reactor is not running";
    /// The reactor was asked to run while it was running.
    ReactorAlreadyRunning: "The reactor is already running";
    /// The reactor has been closed and accepts no more timers, ports or connections.
    ReactorClosed: "The reactor has been closed";
    /// The coroutine awaits a future that no reactor and no executor can wake.
    NoReactorError: "No reactor lives in this thread, and no executor polls the result: nothing \
        can wake this coroutine";
    /// The Resolver was dropped before it fired its Deferred.
    AbandonedError: "The Resolver was dropped before it fired";
    /// The callback returned the very Deferred whose result it computes.
    CircularChainError: "A callback returned the Deferred it is making: the chain would wait for \
        itself";
    /// The first result of an empty list was asked for.
    EmptyListError: "An empty list has no first result";
    /// The call is not allowed in the present state.
    RuntimeError: "The call is not allowed now";
    /// The value is not allowed.
    ValueError: "The value is not allowed";
    /// The address is not of the required sort, such as a host name where a numeric address is
    /// needed.
    InvalidAddressError: "The address is not valid here";
    /// The process exited with code 0.
    ProcessDone: "The process exited with code 0";
    /// The operation was started while it was running.
    AlreadyRunningError: "It is running already";
    /// The cooperator was stopped, and its tasks with it.
    SchedulerStopped: "The cooperator has been stopped";
    /// The task was stopped.
    TaskStopped: "The task has been stopped";
    /// The task has finished.
    TaskDone: "The task is done";
    /// The task has failed.
    TaskFailed: "The task has failed";
    /// The task was resumed while it was not paused.
    NotPaused: "The task is not paused";
    /// The queue of the thread pool is full.
    QueueFullError: "The queue is full";
    /// The thread pool has been stopped and accepts no more work.
    PoolStoppedError: "The thread pool has been stopped";
    /// The lock was asked for again while the same object was waiting for it.
    AlreadyTryingToLockError: "The lock is being waited for already";
    /// The transport was used in a way that the protocol's framing does not support.
    FramingError: "The framing of this connection does not know that call";
}

/// Returns whether an error of type `concrete` is also of the kind `kind`.
pub(crate) fn is_kind(concrete: TypeId, kind: TypeId) -> bool {
    macro_rules! kinds {
        ($($name:ty: $($of:ty),+;)*) => {$(
            if concrete == TypeId::of::<$name>() {
                return $(kind == TypeId::of::<$of>())||+;
            }
        )*};
    }
    kinds! {
        ConnectionDone: ConnectionClosed;
        ConnectionLost: ConnectionClosed;
        ProcessDone: ConnectionDone, ConnectionClosed;
        ProcessTerminated: ConnectionLost, ConnectionClosed;
        InvalidAddressError: ValueError;
        TaskStopped: TaskFinished;
        TaskDone: TaskFinished;
        TaskFailed: TaskFinished;
        DnsLookupError: ConnectError;
        ConnectionAborted: ConnectionLost, ConnectionClosed;
        CannotListenError: BindError;
        ConnectionRefusedError: ConnectError;
        TcpTimedOutError: ConnectError;
        NoRouteError: ConnectError;
        ConnectBindError: ConnectError;
        UserError: ConnectError;
        BadFileError: ConnectError;
        NotConnectingError: RuntimeError;
        FileDescriptorOverrun: ConnectionClosed;
        TimeoutError: UserError, ConnectError;
        DeferredTimeoutError: TimeoutError;
    }
    false
}

fn sentence(
    f: &mut fmt::Formatter<'_>,
    sentence: &str,
    os_error: Option<i32>,
    text: Option<&str>,
    address: Option<&Address>,
) -> fmt::Result {
    f.write_str(sentence)?;
    if let Some(number) = os_error {
        let system = io::Error::from_raw_os_error(number).to_string();
        write!(f, ": {number}: {}", system.trim_end_matches(&format!(" (os error {number})")))?;
    }
    if let Some(text) = text {
        write!(f, ": {}", text.trim_end_matches('.'))?;
    }
    if let Some(address) = address {
        write!(f, ": {address}")?;
    }
    f.write_str(".")
}

/// An error that consists of a text alone, made by `Failure::message`.
#[derive(Debug, Clone)]
pub struct MessageError(Box<str>);

impl MessageError {
    /// Creates the error with `text`, which is its display text as it stands.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into().into_boxed_str())
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for MessageError {}

/// The port could not be opened: the address, and the operating-system error.
#[derive(Debug, Clone)]
pub struct CannotListenError {
    interface: String,
    port: u16,
    /// The whole address, where it is known, for the display text.
    address: Option<Address>,
    cause: Arc<io::Error>,
}

impl CannotListenError {
    /// Creates the error for `interface` (empty means every interface) and `port`.
    pub fn new(interface: impl Into<String>, port: u16, cause: io::Error) -> Self {
        Self { interface: interface.into(), port, address: None, cause: Arc::new(cause) }
    }

    pub(crate) fn at(address: &Address, cause: io::Error) -> Self {
        let (interface, port) = (address.host(), address.port());
        Self { interface, port, address: Some(address.clone()), cause: Arc::new(cause) }
    }

    /// Returns the requested interface; empty means every interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Returns the requested port number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the operating-system error.
    pub fn socket_error(&self) -> &io::Error {
        &self.cause
    }
}

impl fmt::Display for CannotListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, port, address, cause } = self;
        match address {
            Some(address) => write!(f, "Couldn't listen on {address}: {cause}."),
            None if interface.is_empty() => write!(f, "Couldn't listen on any:{port}: {cause}."),
            None if interface.contains(':') => {
                write!(f, "Couldn't listen on [{interface}]:{port}: {cause}.")
            }
            None => write!(f, "Couldn't listen on {interface}:{port}: {cause}."),
        }
    }
}

impl Error for CannotListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

/// The process exited with another code than 0, or was killed by a signal.
///
/// ```
/// use std::process::Command;
/// use twistor::error::ProcessTerminated;
///
/// let status = Command::new("sh").args(["-c", "exit 42"]).status().unwrap();
/// let error = ProcessTerminated::new(status);
/// assert_eq!(error.to_string(), "The process exited with code 42.");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ProcessTerminated {
    status: ExitStatus,
}

impl ProcessTerminated {
    /// Creates the error for a process that has exited with `status`.
    pub fn new(status: ExitStatus) -> Self {
        Self { status }
    }

    /// Returns the exit code; `None` if the process was killed by a signal.
    pub fn exit_code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Returns the number of the signal that killed the process.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

impl fmt::Display for ProcessTerminated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exit_code(), self.signal()) {
            (Some(code), _) => write!(f, "The process exited with code {code}."),
            (None, Some(signal)) => match signal_hook::low_level::signal_name(signal) {
                Some(name) => write!(f, "The process was killed by signal {signal} ({name})."),
                None => write!(f, "The process was killed by signal {signal}."),
            },
            (None, None) => write!(f, "The process exited: {}.", self.status),
        }
    }
}

impl Error for ProcessTerminated {}

/// Ends the program with this exit code, without a message, when a `main` function fails with it.
///
/// ```
/// use twistor::{error::SystemExit, prelude::*};
///
/// #[inline_callbacks]
/// fn serve(reactor: Reactor) -> Deferred<()> {
///     if yield_!(reactor.when_stopped()).is_err() {
///         return Err(SystemExit::new(23).into());
///     }
///     return_value!()
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SystemExit {
    code: u8,
}

impl SystemExit {
    /// Creates the request to exit with `code`.
    pub fn new(code: u8) -> Self {
        Self { code }
    }

    /// Returns the exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for SystemExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The program exits with code {}.", self.code)
    }
}

impl Error for SystemExit {}

/// The attempt to connect was cancelled; the error keeps the address of the attempt.
#[derive(Debug, Clone)]
pub struct ConnectingCancelledError {
    address: Address,
}

impl ConnectingCancelledError {
    /// Creates the error for an attempt to connect to `address`.
    pub fn new(address: Address) -> Self {
        Self { address }
    }

    /// Returns the address of the attempt.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl fmt::Display for ConnectingCancelledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The attempt to connect to {} was cancelled.", self.address)
    }
}

impl Error for ConnectingCancelledError {}

/// What cancelled a Deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelledBy {
    /// A call to `cancel`.
    Caller,
    /// A time limit of this length.
    Timeout(Duration),
    /// A race that another Deferred won.
    Race,
}

/// The Deferred was cancelled; the error says by what, and at which line.
#[derive(Debug, Clone)]
pub struct CancelledError {
    by: CancelledBy,
    place: &'static Location<'static>,
}

impl CancelledError {
    /// Creates the error of a cancellation by the calling line, for a fake that answers as a
    /// cancelled Deferred would.
    ///
    /// ```
    /// use twistor::{defer::Deferred, error::CancelledError};
    ///
    /// let cancelled = Deferred::<u32>::fail(CancelledError::new());
    /// assert!(cancelled.take_result().unwrap().unwrap_err().check::<CancelledError>());
    /// ```
    #[expect(clippy::new_without_default, reason = "a default would lose the calling line")]
    #[track_caller]
    pub fn new() -> Self {
        Self::at(CancelledBy::Caller, Location::caller())
    }

    pub(crate) fn at(by: CancelledBy, place: &'static Location<'static>) -> Self {
        Self { by, place }
    }

    /// Returns what cancelled the Deferred.
    pub fn by(&self) -> CancelledBy {
        self.by
    }

    /// Returns the line that called `cancel` or set the time limit.
    pub fn location(&self) -> &'static Location<'static> {
        self.place
    }
}

impl fmt::Display for CancelledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            CancelledBy::Caller => write!(f, "Cancelled at {}.", self.place),
            CancelledBy::Race => {
                write!(f, "Cancelled by the race at {}, which another Deferred won.", self.place)
            }
            CancelledBy::Timeout(after) => {
                write!(f, "Cancelled by the time limit of {after:?} set at {}.", self.place)
            }
        }
    }
}

impl Error for CancelledError {}

/// A Deferred had no result within its time limit; the error says which Deferred, and where the
/// limit was set.
///
/// It is of the kind [`TimeoutError`], but not a [`ConnectError`]: what was late need not be a
/// connection.
#[doc(alias = "twisted.internet.defer.TimeoutError")]
#[derive(Debug, Clone)]
pub struct DeferredTimeoutError {
    limit: Duration,
    created_at: &'static Location<'static>,
    place: &'static Location<'static>,
    cause: Arc<dyn Error + Send + Sync>,
}

impl DeferredTimeoutError {
    pub(crate) fn new(
        limit: Duration,
        created_at: &'static Location<'static>,
        place: &'static Location<'static>,
        cause: Arc<dyn Error + Send + Sync>,
    ) -> Self {
        Self { limit, created_at, place, cause }
    }

    /// Returns the time limit.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns the line that set the time limit.
    pub fn location(&self) -> &'static Location<'static> {
        self.place
    }
}

impl fmt::Display for DeferredTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, created_at, place, .. } = self;
        write!(
            f,
            "the Deferred made at {created_at} has no result within {limit:?}, the limit set at \
             {place}"
        )
    }
}

impl Error for DeferredTimeoutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

/// A shared resolver was fired a second time; the error names the line that created the Deferred
/// and the line that fired it first.
#[derive(Debug, Clone)]
pub struct AlreadyCalledError {
    pub(crate) created_at: Option<&'static Location<'static>>,
    pub(crate) first: Option<&'static Location<'static>>,
}

impl fmt::Display for AlreadyCalledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The Deferred ")?;
        if let Some(created_at) = self.created_at {
            write!(f, "made at {created_at} ")?;
        }
        match self.first {
            Some(place) => write!(f, "has been fired already, at {place}."),
            None => f.write_str("has been cancelled already."),
        }
    }
}

impl Error for AlreadyCalledError {}

/// User code panicked; the error holds the panic message and says which code it was.
#[derive(Debug, Clone)]
pub struct Panicked {
    message: Box<str>,
}

impl Panicked {
    pub(crate) fn new(payload: &(dyn std::any::Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "(non-string panic payload)".to_owned());
        Self { message: message.into_boxed_str() }
    }

    /// Returns the panic message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.message)
    }
}

impl Error for Panicked {}

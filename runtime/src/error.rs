//! Named ends and misuses: why a connection is over, why an attempt failed, what was called at the
//! wrong time.
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

/// A kind of error: [`ConnectionDone`], [`ConnectionLost`] and [`ConnectionAborted`].
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionClosed;

/// A kind of error: [`TaskStopped`], [`TaskDone`] and [`TaskFailed`].
#[derive(Debug)]
#[non_exhaustive]
pub struct TaskFinished;

/// A kind of error: [`CannotListenError`].
#[derive(Debug)]
#[non_exhaustive]
pub struct BindError;

macro_rules! errors {
    ($($(#[$doc:meta])+ $name:ident: $text:literal;)*) => {$(
        $(#[$doc])+
        ///
        /// Its display text is one sentence; an operating system's number, a text of its own and an
        /// address come after colons.
        #[derive(Debug, Clone, Default)]
        pub struct $name {
            os_error: Option<i32>,
            text: Option<Box<str>>,
            address: Option<Address>,
            cause: Option<Arc<dyn Error + Send + Sync>>,
        }

        impl $name {
            /// The error with its default sentence.
            pub fn new() -> Self {
                Self::default()
            }

            /// The error with `text` after its default sentence.
            pub fn with_text(text: impl Into<String>) -> Self {
                Self { text: Some(text.into().into_boxed_str()), ..Self::default() }
            }

            /// The error with the number (if there is one) and the text of an operating system's
            /// error.
            pub fn from_io(error: &io::Error) -> Self {
                match error.raw_os_error() {
                    // its text is made when somebody reads it
                    Some(number) => Self { os_error: Some(number), ..Self::default() },
                    None => Self::with_text(error.to_string()),
                }
            }

            /// The same error, with the address that it happened with.
            #[must_use]
            pub fn with_address(self, address: Address) -> Self {
                Self { address: Some(address), ..self }
            }

            /// The address that it happened with, if it is known.
            pub fn address(&self) -> Option<&Address> {
                self.address.as_ref()
            }

            /// The same error, with what caused it behind [`source`](Error::source).
            #[must_use]
            pub fn caused_by(self, cause: Arc<dyn Error + Send + Sync>) -> Self {
                Self { cause: Some(cause), ..self }
            }

            /// The operating system's number, such as `ECONNREFUSED`.
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
    /// The connection broke: a reset, a time-out of the network, an error of the socket.
    ConnectionLost: "Connection to the other side was lost in a non-clean fashion";
    /// The connection was cut off on this side, by `abort_connection`.
    ConnectionAborted: "Connection was aborted locally using abort_connection";
    /// A connection could not be made.
    ConnectError: "An error occurred while connecting";
    /// Nobody listens at the address.
    ConnectionRefusedError: "Connection was refused by other side";
    /// The network gave up on the attempt.
    #[doc(alias = "TCPTimedOutError")]
    TcpTimedOutError: "TCP connection timed out";
    /// The network has no way to the address.
    NoRouteError: "No route to host";
    /// The local address chosen for an attempt could not be bound.
    ConnectBindError: "Couldn't bind the local address of the connection";
    /// The name of a host was not found.
    #[doc(alias = "DNSLookupError")]
    DnsLookupError: "DNS lookup failed";
    /// The lock file of a UNIX socket names no process that lives.
    BadFileError: "Nobody is known to listen on the socket";
    /// No attempt to connect was under way.
    NotConnectingError: "Not connecting";
    /// A socket is of a family that is neither IP nor UNIX.
    UnsupportedAddressFamily: "The socket is of an unknown address family";
    /// More descriptors were sent than bytes to carry them.
    FileDescriptorOverrun: "More descriptors than bytes to send them with";
    /// A multicast group could not be joined or left.
    MulticastJoinError: "The multicast group cannot be joined or left";
    /// A caller ended an attempt.
    UserError: "User aborted connection";
    /// Something took longer than it was given.
    TimeoutError: "User timeout caused connection failure";
    /// A message was longer than its protocol allows.
    MessageLengthError: "Message is too long to send or to receive";
    /// A call that has run was cancelled, reset or delayed.
    AlreadyCalled: "Tried to cancel an already-called event";
    /// A cancelled call was cancelled, reset or delayed again.
    AlreadyCancelled: "Tried to cancel an already-cancelled event";
    /// A factory refused to build a protocol for the connection.
    NoProtocol: "The factory built no protocol for the connection";
    /// A port that does not listen was asked to stop.
    NotListeningError: "The port is not listening";
    /// The reactor was asked to stop while it does not run.
    ReactorNotRunning: "The reactor is not running";
    /// `run` was called while the same reactor runs.
    ReactorAlreadyRunning: "The reactor is already running";
    /// The reactor has been closed: it takes no timers, ports or connections any more.
    ReactorClosed: "The reactor has been closed";
    /// A coroutine waits for a future that no reactor and no executor can wake.
    NoReactorError: "No reactor lives in this thread, and no executor polls the result: nothing \
        can wake this coroutine";
    /// A Resolver was dropped before it fired its Deferred.
    AbandonedError: "The Resolver was dropped before it fired";
    /// A callback returned the very Deferred that it is making.
    CircularChainError: "A callback returned the Deferred it is making: the chain would wait for \
        itself";
    /// The first result of an empty list was asked for.
    EmptyListError: "An empty list has no first result";
    /// A call that is not allowed in this state.
    RuntimeError: "The call is not allowed now";
    /// A value is not allowed.
    ValueError: "The value is not allowed";
    /// An address is not one of the sort that is needed: a host name where a numeric address has to
    /// stand.
    InvalidAddressError: "The address is not valid here";
    /// A process has ended with exit code 0.
    ProcessDone: "The process has ended";
    /// What was started runs already.
    AlreadyRunningError: "It is running already";
    /// A cooperator was stopped, and its tasks with it.
    SchedulerStopped: "The cooperator has been stopped";
    /// A task was stopped.
    TaskStopped: "The task has been stopped";
    /// A task has come to its end.
    TaskDone: "The task is done";
    /// A task has failed.
    TaskFailed: "The task has failed";
    /// A task was resumed that is not paused.
    NotPaused: "The task is not paused";
    /// A pool has as much work waiting as it may have.
    QueueFullError: "The queue is full";
    /// A lock object was waited for a second time, while the first waits.
    AlreadyTryingToLockError: "The lock is being waited for already";
    /// A transport was used in a way its protocol's framing has no word for.
    FramingError: "The framing of this connection does not know that call";
    /// An error that is nothing but its text: what `Failure::message` makes.
    MessageError: "Error";
}

/// Whether an error of type `concrete` is of the kind `kind` besides being itself.
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

/// A port could not be opened: where, and what the operating system said.
#[derive(Debug, Clone)]
pub struct CannotListenError {
    interface: String,
    port: u16,
    cause: Arc<io::Error>,
}

impl CannotListenError {
    /// The error for `interface` (empty: every interface) and `port`.
    pub fn new(interface: impl Into<String>, port: u16, cause: io::Error) -> Self {
        Self { interface: interface.into(), port, cause: Arc::new(cause) }
    }

    /// The interface that was asked for; empty means every interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The port number that was asked for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the operating system said.
    pub fn socket_error(&self) -> &io::Error {
        &self.cause
    }
}

impl fmt::Display for CannotListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = if self.interface.is_empty() { "any" } else { &self.interface };
        if let Some(name) = interface.strip_prefix('\0') {
            return write!(f, "Couldn't listen on @{name}: {}.", self.cause);
        }
        if interface.contains('/') {
            // the path of a UNIX socket, which has no port number
            return write!(f, "Couldn't listen on {interface}: {}.", self.cause);
        }
        write!(f, "Couldn't listen on {interface}:{}: {}.", self.port, self.cause)
    }
}

impl Error for CannotListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

/// A process has ended otherwise than with exit code 0: by which code, or by which signal.
///
/// ```
/// use std::process::Command;
/// use twistor::error::ProcessTerminated;
///
/// let status = Command::new("sh").args(["-c", "exit 42"]).status().unwrap();
/// let error = ProcessTerminated::new(status);
/// assert_eq!(error.to_string(), "The process has ended with exit code 42.");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ProcessTerminated {
    status: ExitStatus,
}

impl ProcessTerminated {
    /// The error for a process that has ended with `status`.
    pub fn new(status: ExitStatus) -> Self {
        Self { status }
    }

    /// The exit code; `None` if a signal ended the process.
    pub fn exit_code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The number of the signal that ended the process.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

impl fmt::Display for ProcessTerminated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exit_code(), self.signal()) {
            (Some(code), _) => write!(f, "The process has ended with exit code {code}."),
            (None, Some(signal)) => match signal_hook::low_level::signal_name(signal) {
                Some(name) => write!(f, "The process was ended by signal {signal} ({name})."),
                None => write!(f, "The process was ended by signal {signal}."),
            },
            (None, None) => write!(f, "The process has ended: {}.", self.status),
        }
    }
}

impl Error for ProcessTerminated {}

/// The program is to end with this exit code: what a `main` fails with that has said all there is
/// to say.
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
    /// The end with `code`.
    pub fn new(code: u8) -> Self {
        Self { code }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for SystemExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The program ends with exit code {}.", self.code)
    }
}

impl Error for SystemExit {}

/// An attempt to connect was cancelled: it keeps the address that was being connected to.
#[derive(Debug, Clone)]
pub struct ConnectingCancelledError {
    address: Address,
}

impl ConnectingCancelledError {
    /// The error for an attempt to reach `address`.
    pub fn new(address: Address) -> Self {
        Self { address }
    }

    /// The address that was being connected to.
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

/// Who cancelled a Deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelledBy {
    /// A call of `cancel`.
    Caller,
    /// A time limit of this length.
    Timeout(Duration),
    /// A race that another Deferred has won.
    Race,
}

/// A Deferred was cancelled; it says by whom, and at which line.
#[derive(Debug, Clone)]
pub struct CancelledError {
    by: CancelledBy,
    place: &'static Location<'static>,
}

impl CancelledError {
    pub(crate) fn new(by: CancelledBy, place: &'static Location<'static>) -> Self {
        Self { by, place }
    }

    /// Who cancelled.
    pub fn by(&self) -> CancelledBy {
        self.by
    }

    /// Where: the line that called `cancel`, or that set the time limit.
    pub fn location(&self) -> &'static Location<'static> {
        self.place
    }
}

impl fmt::Display for CancelledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            CancelledBy::Caller => write!(f, "Cancelled at {}.", self.place),
            CancelledBy::Race => {
                write!(f, "Cancelled by the race at {}, which another has won.", self.place)
            }
            CancelledBy::Timeout(after) => {
                write!(f, "Cancelled by the time limit of {after:?} set at {}.", self.place)
            }
        }
    }
}

impl Error for CancelledError {}

/// A shared resolver was fired again: it names the line that made the Deferred, and the one that
/// fired it first.
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

/// User code panicked: the message, and which piece of user code it was.
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
            .unwrap_or_else(|| "(a payload that is no text)".to_owned());
        Self { message: message.into_boxed_str() }
    }

    /// What the panic said.
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

//! UNIX sockets: `listen_unix` and `connect_unix`.
use super::{
    Port,
    connecting::{connect, connect_with},
    connector::{ClientFactory, Connector},
    listener::{erase_factory, listen},
    os::lock_path,
};
use crate::{
    address::Address,
    defer::Deferred,
    error::BadFileError,
    failure::Failure,
    lockfile,
    protocol::{ErasedFactory, Factory, Handle, IntoFactory},
    reactor::{
        Reactor,
        backend::{Bind, Dial, FileOptions},
    },
};
use std::{
    panic::Location,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

/// Options of a UNIX port.
///
/// ```
/// use twistor::transport::ListenUnixOptions;
///
/// let options = ListenUnixOptions::default().mode(0o600).want_pid(true);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenUnixOptions {
    /// The number of connections that may wait to be accepted: 50 by default.
    pub backlog: u32,
    /// The permissions of the socket file: `0o666` by default.
    pub mode: u32,
    /// Whether a lock file, named like the socket with `.lock` appended, names the process that
    /// owns the socket. Off by default. With it, the socket file of a dead process is taken over;
    /// without it, such a file makes the address in use.
    #[doc(alias = "wantPID")]
    pub want_pid: bool,
}

impl Default for ListenUnixOptions {
    fn default() -> Self {
        let FileOptions { mode, want_pid } = FileOptions::default();
        Self { backlog: super::DEFAULT_BACKLOG, mode, want_pid }
    }
}

impl ListenUnixOptions {
    /// Sets the backlog.
    #[must_use]
    pub fn backlog(self, backlog: u32) -> Self {
        Self { backlog, ..self }
    }

    /// Sets the permissions of the socket file.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// Sets whether there is a lock file.
    #[must_use]
    pub fn want_pid(self, yes: bool) -> Self {
        Self { want_pid: yes, ..self }
    }

    pub(super) fn file(&self) -> FileOptions {
        FileOptions { mode: self.mode, want_pid: self.want_pid }
    }
}

/// Options of an attempt to connect to a UNIX socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectUnixOptions {
    /// The time limit: 30 seconds by default.
    pub timeout: Duration,
    /// Whether the lock file of the server must name a running process. Off by default.
    #[doc(alias = "checkPID")]
    pub check_pid: bool,
}

impl Default for ConnectUnixOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), check_pid: false }
    }
}

impl ConnectUnixOptions {
    /// Sets the time limit.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets whether the lock file is checked.
    #[must_use]
    pub fn check_pid(self, yes: bool) -> Self {
        Self { check_pid: yes, ..self }
    }
}

impl Reactor {
    /// Listens on a UNIX socket and builds a protocol with `factory` for each connection. Closing
    /// the port removes the file. On Linux a path that begins with a NUL byte is a name in the
    /// abstract namespace, without a file.
    ///
    /// # Errors
    /// Fails with [`CannotListenError`](crate::error::CannotListenError), which holds the path and
    /// the operating-system error, or names the holder of the lock.
    #[doc(alias = "listenUNIX")]
    #[track_caller]
    pub fn listen_unix(
        &self,
        path: impl Into<PathBuf>,
        factory: impl IntoFactory,
        options: &ListenUnixOptions,
    ) -> Result<Port, Failure> {
        let bind = Bind {
            at: Address::Unix(Some(path.into())),
            backlog: options.backlog,
            file: options.file(),
            created_at: Location::caller(),
        };
        listen(self, bind, erase_factory(factory))
    }

    /// Connects to a UNIX socket and returns a Deferred of the protocol's handle, which fires right
    /// after `connection_made` has returned.
    ///
    /// # Errors
    /// Fails at once with [`BadFileError`] if the lock file does not name a running process. Fails
    /// in a later turn with the kinds of [`ConnectError`](crate::error::ConnectError), with
    /// [`TimeoutError`](crate::error::TimeoutError), with [`NoProtocol`](crate::error::NoProtocol)
    /// if the factory refuses, and with the failure of `connection_made`.
    ///
    /// # Cancellation
    /// Stops the attempt and fails with
    /// [`ConnectingCancelledError`](crate::error::ConnectingCancelledError), which has the address.
    #[doc(alias = "connectUNIX")]
    #[track_caller]
    pub fn connect_unix<F: IntoFactory>(
        &self,
        path: impl Into<PathBuf>,
        factory: F,
        options: &ConnectUnixOptions,
    ) -> Deferred<Handle<<F::Factory as Factory>::Protocol>> {
        let path = path.into();
        let dial = Dial {
            to: Address::Unix(Some(path.clone())),
            from: None,
            created_at: Location::caller(),
        };
        connect_with(factory, |acceptor| attempt(self, &path, &dial, acceptor, options))
    }
}

impl Connector {
    /// Connects `factory` to a UNIX socket. With `check_pid` each attempt checks the lock file
    /// first, and fails with [`BadFileError`] if it does not name a running process.
    #[doc(alias = "connectUNIX")]
    #[track_caller]
    pub fn unix<F: IntoFactory>(
        reactor: &Reactor,
        path: impl Into<PathBuf>,
        factory: F,
        options: &ConnectUnixOptions,
    ) -> Self
    where
        F::Factory: ClientFactory,
    {
        let path = path.into();
        let dial = Dial {
            to: Address::Unix(Some(path.clone())),
            from: None,
            created_at: Location::caller(),
        };
        let (destination, options) = (dial.to.clone(), options.clone());
        Self::start(reactor, destination, factory.into_factory(), move |reactor, acceptor| {
            attempt(reactor, &path, &dial, acceptor, &options)
        })
    }
}

/// Makes one attempt to connect, which checks the lock file first if that was requested.
#[track_caller]
fn attempt(
    reactor: &Reactor,
    path: &Path,
    dial: &Dial,
    acceptor: Rc<dyn ErasedFactory>,
    options: &ConnectUnixOptions,
) -> Deferred<()> {
    if options.check_pid
        && let Err(failure) = check_pid(path)
    {
        return Deferred::fail(failure);
    }
    connect(reactor, dial, acceptor, options.timeout)
}

/// Checks by its lock file that the server of the socket at `path` is running.
fn check_pid(path: &Path) -> Result<(), Failure> {
    let lock = lock_path(path);
    if lockfile::is_locked(&lock)? {
        return Ok(());
    }
    let text = format!("lock file `{}` does not name a running process", lock.display());
    Err(BadFileError::with_text(text).with_address(Address::Unix(Some(path.to_owned()))).into())
}

//! `DeferredFilesystemLock`: a lock between processes that is awaited with a Deferred.
use super::{deferred::Deferred, resolver::Resolver};
use crate::{
    error::AlreadyTryingToLockError, failure::Failure, lockfile::FilesystemLock, report::report,
    time::ReactorTime, timers::WeakCall,
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    path::PathBuf,
    rc::{Rc, Weak},
    time::Duration,
};

/// A [`FilesystemLock`] that is awaited with a Deferred. It is tried at once, and then every second
/// until it is free.
///
/// ```
/// use twistor::{defer::DeferredFilesystemLock, task::Clock};
///
/// let name = format!("twistor-doc-deferred-{}.lock", std::process::id());
/// let path = std::env::temp_dir().join(name);
/// // in a program: reactor.clone() in place of the clock
/// let lock = DeferredFilesystemLock::new(&path, Clock::new());
/// let held = lock.defer_until_locked().take_result().unwrap()?;
/// assert!(lock.is_held());
/// held.release()?;
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[derive(Clone)]
pub struct DeferredFilesystemLock(Rc<Inner>);

struct Inner {
    lock: RefCell<FilesystemLock>,
    /// Copies of the lock's answers, for callers that arrive while the lock is in use.
    held: Cell<bool>,
    clean: Cell<bool>,
    clock: Box<dyn ReactorTime>,
    interval: Cell<Duration>,
    wait: RefCell<Weak<Wait>>,
}

/// A pending request. The timer of the next try owns it, so that the Deferred fails if the timer is
/// dropped, as it is when the reactor closes.
struct Wait {
    resolver: Cell<Option<Resolver<HeldFilesystemLock>>>,
    next: Cell<Option<WeakCall>>,
}

impl DeferredFilesystemLock {
    /// Creates a lock on the file `path` that retries by the time of `clock`.
    pub fn new(path: impl Into<PathBuf>, clock: impl ReactorTime + 'static) -> Self {
        Self::with_lock(FilesystemLock::new(path), clock)
    }

    /// Creates an awaitable lock from a [`FilesystemLock`] and a clock.
    pub fn with_lock(lock: FilesystemLock, clock: impl ReactorTime + 'static) -> Self {
        Self(Rc::new(Inner {
            held: Cell::new(lock.is_held()),
            clean: Cell::new(lock.is_clean()),
            lock: RefCell::new(lock),
            clock: Box::new(clock),
            interval: Cell::new(Duration::from_secs(1)),
            wait: RefCell::default(),
        }))
    }

    /// Sets the interval between tries, beginning with the next one. It is one second by default.
    pub fn set_interval(&self, interval: Duration) {
        self.0.interval.set(interval);
    }

    /// Returns a Deferred that fires with the held lock as soon as nobody else holds it. For a time
    /// limit add [`add_timeout`](Deferred::add_timeout).
    ///
    /// # Errors
    /// Fails with [`AlreadyTryingToLockError`] while this object has a pending request, and as
    /// [`FilesystemLock::lock`] does.
    ///
    /// # Cancellation
    /// Stops trying.
    #[doc(alias = "deferUntilLocked")]
    #[track_caller]
    pub fn defer_until_locked(&self) -> Deferred<HeldFilesystemLock> {
        let inner = &self.0;
        if inner.wait.borrow().strong_count() > 0 {
            return Deferred::fail(inner.in_use());
        }
        match inner.try_once() {
            Ok(Some(held)) => Deferred::succeed(held),
            Ok(None) => {
                let wait = Rc::new(Wait { resolver: Cell::new(None), next: Cell::new(None) });
                let weak = Rc::downgrade(&wait);
                *inner.wait.borrow_mut() = weak.clone();
                let (turn, resolver) = Deferred::with_canceller(move |_| {
                    if let Some(wait) = weak.upgrade() {
                        drop(wait.resolver.take());
                        if let Some(next) = wait.next.take() {
                            next.cancel();
                        }
                    }
                });
                wait.resolver.set(Some(resolver));
                inner.try_later(wait);
                turn
            }
            Err(failure) => Deferred::fail(failure),
        }
    }

    /// Returns whether this object holds the lock.
    #[doc(alias = "locked")]
    pub fn is_held(&self) -> bool {
        self.0.held.get()
    }

    /// Returns whether the previous holder released the lock; `false` if the lock was taken over
    /// from a dead process.
    #[doc(alias = "clean")]
    pub fn is_clean(&self) -> bool {
        self.0.clean.get()
    }
}

impl Inner {
    fn in_use(&self) -> AlreadyTryingToLockError {
        match self.lock.try_borrow() {
            Ok(lock) => AlreadyTryingToLockError::with_text(lock.path().display().to_string()),
            Err(_) => AlreadyTryingToLockError::new(),
        }
    }

    /// Calls `work` with the lock. `work` calls the user's
    /// [`LockSystem`](crate::lockfile::LockSystem), which finds the lock in use if it calls back
    /// here.
    fn with_lock<R>(
        &self,
        work: impl FnOnce(&mut FilesystemLock) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let mut lock = self.lock.try_borrow_mut().map_err(|_| self.in_use())?;
        // user code
        let result = work(&mut lock);
        self.held.set(lock.is_held());
        self.clean.set(lock.is_clean());
        result
    }

    #[track_caller]
    fn try_once(self: &Rc<Self>) -> Result<Option<HeldFilesystemLock>, Failure> {
        let taken = self.with_lock(|lock| Ok(lock.lock()?))?;
        Ok(taken.then(|| HeldFilesystemLock(Some(self.clone()))))
    }

    fn try_later(self: &Rc<Self>, wait: Rc<Wait>) {
        let (inner, weak) = (self.clone(), Rc::downgrade(&wait));
        let next =
            self.clock.schedule(self.interval.get(), Box::new(move || inner.try_again(wait)));
        // if the reactor has closed, it has dropped the request already
        if let Some(wait) = weak.upgrade() {
            wait.next.set(Some(next.into()));
        }
    }

    fn try_again(self: &Rc<Self>, wait: Rc<Wait>) {
        wait.next.take();
        let result = self.try_once();
        // the request may have been cancelled in the meantime
        let Some(resolver) = wait.resolver.take() else { return };
        if matches!(result, Ok(None)) {
            wait.resolver.set(Some(resolver));
            return self.try_later(wait);
        }
        // the request has ended: the user code that runs now may make another one
        drop(wait);
        match result {
            // user code
            Ok(Some(held)) => resolver.callback(held),
            Ok(None) => {}
            // user code
            Err(failure) => resolver.errback(failure),
        }
    }
}

impl fmt::Debug for DeferredFilesystemLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.lock.try_borrow() {
            Ok(lock) => write!(f, "<Deferred{}", &format!("{lock:?}")[1..]),
            Err(_) => f.write_str("<DeferredFilesystemLock, being tried>"),
        }
    }
}

/// A held [`DeferredFilesystemLock`]. Dropping it releases the lock; an error in that is reported.
#[must_use = "dropping it releases the lock"]
pub struct HeldFilesystemLock(Option<Rc<Inner>>);

impl HeldFilesystemLock {
    /// Releases the lock and returns whether that succeeded.
    ///
    /// # Errors
    /// Fails as [`FilesystemLock::unlock`] does.
    #[doc(alias = "unlock")]
    pub fn release(mut self) -> Result<(), Failure> {
        self.0.take().map_or(Ok(()), |inner| inner.with_lock(FilesystemLock::unlock))
    }
}

impl Drop for HeldFilesystemLock {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take()
            && let Err(failure) = inner.with_lock(FilesystemLock::unlock)
        {
            report(failure, format!("release of {:?}", DeferredFilesystemLock(inner)));
        }
    }
}

impl fmt::Debug for HeldFilesystemLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<HeldFilesystemLock>")
    }
}

//! `DeferredFilesystemLock`: waiting for a lock between processes.
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

/// A [`FilesystemLock`] that is waited for with a Deferred: it is tried at once, and then every
/// second until it is free.
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
    /// What the lock says of itself, to be asked while it is at work.
    held: Cell<bool>,
    clean: Cell<bool>,
    clock: Box<dyn ReactorTime>,
    interval: Cell<Duration>,
    wait: RefCell<Weak<Wait>>,
}

/// One who waits. It belongs to the timer of the next try: if that is dropped, as when the reactor
/// is closed, the Deferred fails.
struct Wait {
    resolver: Cell<Option<Resolver<HeldFilesystemLock>>>,
    next: Cell<Option<WeakCall>>,
}

impl DeferredFilesystemLock {
    /// A lock on the file `path` that counts its seconds by `clock`.
    pub fn new(path: impl Into<PathBuf>, clock: impl ReactorTime + 'static) -> Self {
        Self::with_lock(FilesystemLock::new(path), clock)
    }

    /// The same on a lock of your own making.
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

    /// Tries again every `interval` instead of every second, from the next try on.
    pub fn set_interval(&self, interval: Duration) {
        self.0.interval.set(interval);
    }

    /// The lock, when nobody else holds it. For a time limit add
    /// [`add_timeout`](Deferred::add_timeout).
    ///
    /// # Errors
    /// [`AlreadyTryingToLockError`] while this object is being waited for, and those of
    /// [`FilesystemLock::lock`].
    ///
    /// # Cancellation
    /// Ends the tries.
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

    /// Whether this object holds the lock.
    #[doc(alias = "locked")]
    pub fn is_held(&self) -> bool {
        self.0.held.get()
    }

    /// Whether the one before has released it in order; `false` if it was taken over from a process
    /// that had died.
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

    /// Lets `work` have the lock. It calls the user's [`LockSystem`](crate::lockfile::LockSystem),
    /// which finds the lock in use if it comes back here.
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
        // a closed reactor has dropped it already
        if let Some(wait) = weak.upgrade() {
            wait.next.set(Some(next.into()));
        }
    }

    fn try_again(self: &Rc<Self>, wait: Rc<Wait>) {
        wait.next.take();
        let result = self.try_once();
        // it may have been cancelled meanwhile
        let Some(resolver) = wait.resolver.take() else { return };
        if matches!(result, Ok(None)) {
            wait.resolver.set(Some(resolver));
            return self.try_later(wait);
        }
        // nobody waits any more: what runs now may ask again
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

/// A [`DeferredFilesystemLock`] that is held. Dropping it releases it; an error of that is
/// reported.
#[must_use = "dropping it releases the lock"]
pub struct HeldFilesystemLock(Option<Rc<Inner>>);

impl HeldFilesystemLock {
    /// Releases it, and says whether that went well.
    ///
    /// # Errors
    /// Those of [`FilesystemLock::unlock`].
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

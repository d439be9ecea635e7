//! `DeferredFilesystemLock`: waiting for a lock between processes.
use super::{deferred::Deferred, resolver::Resolver};
use crate::{
    error::AlreadyTryingToLockError,
    failure::Failure,
    lockfile::FilesystemLock,
    report::report,
    time::{DelayedCall, ReactorTime},
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

/// A [`FilesystemLock`] that is waited for with a Deferred: it is tried at once, and then every second until it is free.
///
/// ```
/// use twistor::{defer::DeferredFilesystemLock, task::Clock};
///
/// let path = std::env::temp_dir().join(format!("twistor-doc-deferred-{}.lock", std::process::id()));
/// let lock = DeferredFilesystemLock::new(&path, Clock::new());      // in a program: reactor.clone()
/// let held = lock.defer_until_locked().take_result().unwrap()?;
/// assert!(lock.is_held());
/// held.release()?;
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[derive(Clone)]
pub struct DeferredFilesystemLock(Rc<Inner>);

struct Inner {
    lock: RefCell<FilesystemLock>,
    clock: Box<dyn ReactorTime>,
    interval: Cell<Duration>,
    /// Who waits, and the next try.
    waiting: Cell<Option<(Resolver<HeldFilesystemLock>, DelayedCall)>>,
}

impl DeferredFilesystemLock {
    /// A lock on the file `path` that counts its seconds by `clock`.
    pub fn new(path: impl Into<PathBuf>, clock: impl ReactorTime + 'static) -> Self {
        Self::with_lock(FilesystemLock::new(path), clock)
    }

    /// The same on a lock of your own making.
    pub fn with_lock(lock: FilesystemLock, clock: impl ReactorTime + 'static) -> Self {
        Self(Rc::new(Inner {
            lock: RefCell::new(lock),
            clock: Box::new(clock),
            interval: Cell::new(Duration::from_secs(1)),
            waiting: Cell::new(None),
        }))
    }

    /// Tries again every `interval` instead of every second, from the next try on.
    pub fn set_interval(&self, interval: Duration) {
        self.0.interval.set(interval);
    }

    /// The lock, when nobody else holds it. For a time limit add [`add_timeout`](Deferred::add_timeout).
    ///
    /// # Errors
    /// [`AlreadyTryingToLockError`] while this object is being waited for, and those of [`FilesystemLock::lock`].
    ///
    /// # Cancellation
    /// Ends the tries.
    #[doc(alias = "deferUntilLocked")]
    #[track_caller]
    pub fn defer_until_locked(&self) -> Deferred<HeldFilesystemLock> {
        let inner = &self.0;
        if inner.is_waiting() {
            return Deferred::fail(AlreadyTryingToLockError::with_text(inner.lock.borrow().path().display().to_string()));
        }
        match inner.try_once() {
            Ok(Some(held)) => Deferred::succeed(held),
            Ok(None) => {
                let weak = Rc::downgrade(inner);
                let (turn, resolver) = Deferred::with_canceller(move |_| {
                    let gone = weak.upgrade().and_then(|inner| inner.waiting.take());
                    if let Some((resolver, next)) = gone {
                        // it cannot have run: it would have taken the pair
                        let _ = next.cancel();
                        drop(resolver);
                    }
                });
                inner.try_later(resolver);
                turn
            }
            Err(failure) => Deferred::fail(failure),
        }
    }

    /// Whether this object holds the lock.
    #[doc(alias = "locked")]
    pub fn is_held(&self) -> bool {
        self.0.lock.borrow().is_held()
    }

    /// Whether the one before has released it in order; `false` if it was taken over from a process that had died.
    #[doc(alias = "clean")]
    pub fn is_clean(&self) -> bool {
        self.0.lock.borrow().is_clean()
    }
}

impl Inner {
    fn is_waiting(&self) -> bool {
        let waiting = self.waiting.take();
        let some = waiting.is_some();
        self.waiting.set(waiting);
        some
    }

    #[track_caller]
    fn try_once(self: &Rc<Self>) -> Result<Option<HeldFilesystemLock>, Failure> {
        let taken = self.lock.borrow_mut().lock()?;
        Ok(taken.then(|| HeldFilesystemLock(Some(self.clone()))))
    }

    fn try_later(self: &Rc<Self>, resolver: Resolver<HeldFilesystemLock>) {
        // who waits keeps the lock: the try is the way back to it
        let inner = self.clone();
        let next = self.clock.schedule(self.interval.get(), Box::new(move || inner.try_again()));
        self.waiting.set(Some((resolver, next)));
    }

    fn try_again(self: &Rc<Self>) {
        let Some((resolver, _)) = self.waiting.take() else { return };
        match self.try_once() {
            // user code
            Ok(Some(held)) => resolver.callback(held),
            Ok(None) => self.try_later(resolver),
            // user code
            Err(failure) => resolver.errback(failure),
        }
    }
}

impl fmt::Debug for DeferredFilesystemLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Deferred{}", &format!("{:?}", self.0.lock.borrow())[1..])
    }
}

/// A [`DeferredFilesystemLock`] that is held. Dropping it releases it; an error of that is reported.
#[must_use = "dropping it releases the lock"]
pub struct HeldFilesystemLock(Option<Rc<Inner>>);

impl HeldFilesystemLock {
    /// Releases it, and says whether that went well.
    ///
    /// # Errors
    /// Those of [`FilesystemLock::unlock`].
    #[doc(alias = "unlock")]
    pub fn release(mut self) -> Result<(), Failure> {
        self.0.take().map_or(Ok(()), |inner| inner.lock.borrow_mut().unlock())
    }
}

impl Drop for HeldFilesystemLock {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            let unlocked = inner.lock.borrow_mut().unlock();
            if let Err(failure) = unlocked {
                report(failure, format!("release of {:?}", inner.lock.borrow()));
            }
        }
    }
}

impl fmt::Debug for HeldFilesystemLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<HeldFilesystemLock>")
    }
}

//! How other threads reach a reactor.
use super::backend::Alarm;
use crate::remote_queue::{Door, Work};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The calls that came in from other threads.
pub(crate) struct Inbox {
    /// `None` once the reactor is closed.
    calls: Mutex<Option<Vec<Work>>>,
    /// Whether there is something in `calls`: asked each turn without taking the lock.
    waiting: AtomicBool,
    alarm: Alarm,
}

impl Inbox {
    pub(crate) fn new(alarm: Alarm) -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::new(Some(Vec::new())),
            waiting: AtomicBool::new(false),
            alarm,
        })
    }

    /// What has come since the last call.
    pub(crate) fn take(&self) -> Vec<Work> {
        if !self.waiting.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut calls = self.calls();
        self.waiting.store(false, Ordering::Release);
        calls.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes no more calls; those that wait are given to the caller to drop.
    pub(crate) fn close(&self) -> Vec<Work> {
        self.calls().take().unwrap_or_default()
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Option<Vec<Work>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door for Inbox {
    fn is_open(&self) -> bool {
        self.calls().is_some()
    }

    fn hand_in(&self, work: Work) -> bool {
        {
            let mut calls = self.calls();
            let Some(calls) = calls.as_mut() else { return false };
            calls.push(work);
            self.waiting.store(true, Ordering::Release);
        }
        (self.alarm)();
        true
    }
}

/// A reactor as other threads see it: `Send`, `Sync`, a cheap clone.
///
/// ```
/// use twistor::reactor::Reactor;
///
/// let reactor = Reactor::new()?;
/// let remote = reactor.remote();
/// let thread = std::thread::spawn(move || {
///     remote.call_from_thread(|| Reactor::current().unwrap().stop().unwrap());
/// });
/// reactor.run()?;
/// thread.join().unwrap();
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[derive(Clone)]
pub struct Remote(pub(crate) Arc<Inbox>);

impl Remote {
    /// Runs `call` in the reactor's thread, in a later turn; calls of one thread run in their
    /// order. It may be called from any thread, the reactor's own too. `false` says that the
    /// reactor has been closed: the call is dropped unrun.
    #[doc(alias = "callFromThread")]
    pub fn call_from_thread(&self, call: impl FnOnce() + Send + 'static) -> bool {
        self.0.hand_in(Box::new(call))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Remote>")
    }
}

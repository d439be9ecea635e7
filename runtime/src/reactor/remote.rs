//! Access to a reactor from other threads: calls, and results for pending Deferreds.
use super::backend::Alarm;
use crate::{
    remote_queue::{RemoteQueue, Work, WorkFlag},
    report::drop_each,
};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The queue of calls from other threads.
pub(crate) struct Inbox {
    /// `None` once the reactor is closed.
    calls: Mutex<Option<Vec<Work>>>,
    /// Whether `calls` has any. Each turn reads it without taking the lock.
    waiting: AtomicBool,
    work: WorkFlag,
    alarm: Alarm,
}

impl Inbox {
    pub(crate) fn new(alarm: Alarm, work: WorkFlag) -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::new(Some(Vec::new())),
            waiting: AtomicBool::new(false),
            work,
            alarm,
        })
    }

    /// Takes the calls that have arrived since the last time.
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

    /// Closes the queue and returns the pending calls, which the caller drops.
    pub(crate) fn close(&self) -> Vec<Work> {
        self.calls().take().unwrap_or_default()
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Option<Vec<Work>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteQueue for Inbox {
    fn is_open(&self) -> bool {
        self.calls().is_some()
    }

    fn submit(&self, work: Work) -> bool {
        let first = {
            let mut calls = self.calls();
            let Some(calls) = calls.as_mut() else { return false };
            calls.push(work);
            self.waiting.store(true, Ordering::Release);
            calls.len() == 1
        };
        self.work.set();
        // one wake-up is enough until the reactor has taken the calls
        if first {
            (self.alarm)();
        }
        true
    }
}

/// The Resolvers of a reactor that wait for a result from another thread. They stay in this thread,
/// and only their numbers cross.
#[derive(Default)]
pub(crate) struct RemoteDeferreds {
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Box<dyn Any>>>,
}

impl RemoteDeferreds {
    /// Returns the number for the next Resolver.
    pub(super) fn next(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    pub(super) fn insert(&self, number: u64, resolver: Box<dyn Any>) {
        self.waiting.borrow_mut().insert(number, resolver);
    }

    pub(super) fn remove(&self, number: u64) -> Option<Box<dyn Any>> {
        self.waiting.borrow_mut().remove(&number)
    }

    /// Drops all Resolvers, because the reactor is being closed.
    pub(super) fn drop_all(&self) {
        drop_each(self.waiting.take());
    }
}

/// A handle to a reactor for other threads: `Send`, `Sync`, and cheap to clone.
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
    /// Runs `call` in the reactor's thread, in a later turn; calls from one thread run in their
    /// order. It may be called from any thread, including the reactor's own. Returns `false` if the
    /// reactor has been closed; `call` is then dropped without running.
    #[doc(alias = "callFromThread")]
    pub fn call_from_thread(&self, call: impl FnOnce() + Send + 'static) -> bool {
        self.0.submit(Box::new(call))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Remote>")
    }
}

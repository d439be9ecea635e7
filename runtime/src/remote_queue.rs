//! The way by which another thread reaches the thread that owns a coroutine.
//!
//! Deferreds and coroutines never leave their thread. A waker that was handed to foreign code may
//! be woken from any thread; it then submits a piece of work to the [`RemoteQueue`] that the
//! thread's reactor has installed here.
use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Work submitted by another thread; it runs in the thread that owns the queue.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// A queue of work for one thread that any thread can submit to. The work runs in a later turn, in
/// the order of submission.
pub(crate) trait RemoteQueue: Send + Sync {
    /// Submits `work`. Returns `false` if the queue is closed; `work` has then been dropped without
    /// running.
    fn submit(&self, work: Work) -> bool;

    /// Returns whether the queue still accepts work.
    fn is_open(&self) -> bool;
}

/// A flag which says that a turn has work to do. Any thread can set it.
#[derive(Clone, Default)]
pub(crate) struct WorkFlag(Arc<AtomicBool>);

impl WorkFlag {
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }
}

thread_local! {
    static QUEUE: RefCell<Option<Arc<dyn RemoteQueue>>> = const { RefCell::new(None) };
}

/// Returns this thread's queue, if the thread has a reactor.
pub(crate) fn remote_queue() -> Option<Arc<dyn RemoteQueue>> {
    QUEUE.try_with(|queue| queue.borrow().clone()).ok().flatten()
}

/// Installs `queue` for this thread and returns the previous one.
pub(crate) fn install_remote_queue(
    queue: Option<Arc<dyn RemoteQueue>>,
) -> Option<Arc<dyn RemoteQueue>> {
    QUEUE.try_with(|old| old.replace(queue)).ok().flatten()
}

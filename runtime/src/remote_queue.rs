//! How another thread reaches the one that owns a coroutine.
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

/// Work that another thread submits; it runs in the thread that owns the queue.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// A way into one thread from any other: what is submitted runs there, in a later turn, in the
/// order in which it came.
pub(crate) trait RemoteQueue: Send + Sync {
    /// Submits `work`. `false` says that the thread takes no more work; `work` has then been
    /// dropped unrun.
    fn submit(&self, work: Work) -> bool;

    /// Whether it still takes work.
    fn is_open(&self) -> bool;
}

/// A flag that says that a turn has something to do, set from any thread.
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

/// The queue of this thread, if a reactor lives in it.
pub(crate) fn remote_queue() -> Option<Arc<dyn RemoteQueue>> {
    QUEUE.try_with(|queue| queue.borrow().clone()).ok().flatten()
}

/// Installs `queue` in this thread and returns the one that was there.
pub(crate) fn install_remote_queue(
    queue: Option<Arc<dyn RemoteQueue>>,
) -> Option<Arc<dyn RemoteQueue>> {
    QUEUE.try_with(|old| old.replace(queue)).ok().flatten()
}

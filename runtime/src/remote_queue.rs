//! How another thread reaches the one that owns a coroutine.
//!
//! Deferreds and coroutines never leave their thread. A waker that was handed to foreign code may
//! be rung from any thread; it then passes a piece of work through the [`Door`] that the thread's
//! reactor has put here.
use std::{cell::RefCell, sync::Arc};

/// Work that another thread hands in; it runs in the thread that owns the door.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// A way into one thread from any other: what is handed in runs there, in a later turn, in the
/// order it came.
pub(crate) trait Door: Send + Sync {
    /// Hands in `work`. `false` says that the thread takes no more work; `work` has then been
    /// dropped unrun.
    fn hand_in(&self, work: Work) -> bool;

    /// Whether it still takes work.
    fn is_open(&self) -> bool;
}

thread_local! {
    static DOOR: RefCell<Option<Arc<dyn Door>>> = const { RefCell::new(None) };
}

/// The door of this thread, if a reactor lives in it.
pub(crate) fn door() -> Option<Arc<dyn Door>> {
    DOOR.try_with(|door| door.borrow().clone()).ok().flatten()
}

/// Puts `door` into this thread and gives back the one that was there.
pub(crate) fn set_door(door: Option<Arc<dyn Door>>) -> Option<Arc<dyn Door>> {
    DOOR.try_with(|old| old.replace(door)).ok().flatten()
}

//! Wakers for foreign futures: borrowed from a pool, and bound to a coroutine only if foreign code
//! keeps a clone.
use crate::{
    defer::{Step, run},
    remote_queue::{RemoteQueue, remote_queue},
    report::drop_guarded,
};
use slab::Slab;
use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::{Wake, Waker},
    thread::{self, ThreadId},
};

/// The state behind a waker that foreign code may keep and wake from any thread.
struct WakeState {
    /// Set by a wake-up and cleared by the next resumption: wake-ups in between count once.
    woken: AtomicBool,
    bound: Mutex<Bound>,
}

/// What a wake-up resumes.
#[derive(Default)]
struct Bound {
    /// The index in the thread's table of coroutines in a foreign await, and that thread.
    coroutine: Option<(ThreadId, usize)>,
    queue: Option<Arc<dyn RemoteQueue>>,
    /// The waker of the executor that polls the result. It is woken where there is no remote queue.
    executor: Option<Waker>,
}

impl WakeState {
    fn bound(&self) -> std::sync::MutexGuard<'_, Bound> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) {
        let (coroutine, queue, executor) = {
            let bound = self.bound();
            (bound.coroutine, bound.queue.clone(), bound.executor.clone())
        };
        let Some((home, key)) = coroutine else { return };
        if let Some(queue) = queue {
            // in a later turn, in the thread of the coroutine
            if !queue.submit(Box::new(move || resume(key))) {
                // the reactor is closed: the wake-up waits for the thread's next reactor
                self.bound().queue = None;
            }
        } else if let Some(executor) = executor {
            executor.wake();
        } else if home == thread::current().id() {
            fail_unwakeable(key);
        }
    }
}

impl Wake for WakeState {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.call();
        }
    }
}

/// A wake state and its waker. While foreign code holds no clone, the `Arc` counts two. A single
/// pointer, because each poll takes it out of its cell and puts it back.
pub(super) struct PooledWaker(Box<WakerPair>);

struct WakerPair {
    state: Arc<WakeState>,
    waker: Waker,
}

/// A coroutine as the table of foreign awaits sees it.
pub(super) trait Foreign: Step {
    /// Handles a wake-up that neither a reactor nor an executor can deliver: fails the coroutine
    /// with [`NoReactorError`](crate::error::NoReactorError), unless an executor may still come and
    /// poll its result.
    fn fail_unwakeable(self: Rc<Self>);

    /// Calls `work` with the bound waker, if there is one.
    fn with_waker(&self, work: &dyn Fn(&PooledWaker));
}

thread_local! {
    /// Unbound wakers, ready for use.
    static POOL: RefCell<Vec<PooledWaker>> = const { RefCell::new(Vec::new()) };
    /// Owns the coroutines in a foreign await.
    static TABLE: RefCell<Slab<Rc<dyn Foreign>>> = const { RefCell::new(Slab::new()) };
}

/// The number of unbound wakers that a thread keeps.
const POOL_SIZE: usize = 64;

impl PooledWaker {
    /// Takes a waker that foreign code does not hold, from the pool if it has one.
    pub(super) fn take() -> Self {
        POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten().unwrap_or_else(|| {
            let state = Arc::new(WakeState {
                woken: AtomicBool::new(false),
                bound: Mutex::new(Bound::default()),
            });
            Self(Box::new(WakerPair { waker: state.clone().into(), state }))
        })
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.0.waker
    }

    /// Returns whether foreign code has kept a clone of the waker, or has woken it.
    pub(super) fn is_kept_or_woken(&self) -> bool {
        let held = Arc::strong_count(&self.0.state) > 2;
        // a thread that woke and then dropped its clone: its wake-up is visible once its drop is
        fence(Ordering::Acquire);
        held || self.0.state.woken.load(Ordering::Acquire)
    }

    /// Returns the waker to the pool, unless foreign code holds it.
    pub(super) fn give_back(self) {
        if !self.is_kept_or_woken() {
            // while the thread's storage is being torn down there is no pool
            let _ = POOL.try_with(|pool| {
                let mut pool = pool.borrow_mut();
                if pool.len() < POOL_SIZE {
                    pool.push(self);
                }
            });
        }
    }

    /// Binds the waker to `coroutine`, which the table owns from then on. An earlier wake-up
    /// counts. Returns `None` while the thread's storage is being torn down, because then nothing
    /// can own the coroutine.
    pub(super) fn bind(
        &self,
        coroutine: Rc<dyn Foreign>,
        executor: Option<Waker>,
    ) -> Option<usize> {
        let key = TABLE.try_with(|table| table.borrow_mut().insert(coroutine)).ok()?;
        self.replace_bound(Bound {
            coroutine: Some((thread::current().id(), key)),
            queue: remote_queue(),
            executor,
        });
        if self.is_woken() && self.has_listener() {
            self.0.state.call();
        }
        Some(key)
    }

    /// Removes the coroutine from the table; later wake-ups do nothing.
    pub(super) fn unbind(&self, key: usize) {
        self.replace_bound(Bound::default());
        let removed = TABLE.try_with(|table| table.borrow_mut().try_remove(key)).ok().flatten();
        drop_guarded(removed);
    }

    /// Replaces the binding. The old wakers may run foreign code when they are dropped, so that
    /// happens after the lock has been released.
    fn replace_bound(&self, new: Bound) {
        let old = std::mem::replace(&mut *self.0.state.bound(), new);
        drop_guarded(old);
    }

    /// Routes wake-ups to the thread's new reactor, and delivers one that was missed.
    fn open(&self) {
        self.0.state.bound().queue = remote_queue();
        if self.is_woken() {
            self.0.state.call();
        }
    }

    /// Delivers a wake-up that came while the coroutine ran and that neither a reactor nor an
    /// executor has seen.
    pub(super) fn redeliver_missed_wake(&self) {
        if self.is_woken() && !self.has_listener() {
            self.0.state.call();
        }
    }

    /// Clears the wake-up flag of a bound waker before the next poll. (An unbound one has not been
    /// woken.)
    pub(super) fn clear_if(&self, bound: bool) {
        if bound {
            // acquires what the waking thread has published, and cannot be reordered behind the
            // poll
            self.0.state.woken.swap(false, Ordering::AcqRel);
        }
    }

    fn is_woken(&self) -> bool {
        self.0.state.woken.load(Ordering::Acquire)
    }

    /// Routes wake-ups to `executor` where there is no remote queue. Returns whether one has come
    /// already, so that the executor must resume the coroutine now.
    pub(super) fn set_external_waker(&self, executor: Waker) -> bool {
        let (old, alone) = {
            let mut bound = self.0.state.bound();
            if bound.queue.is_none() {
                bound.queue = remote_queue();
            }
            (bound.executor.replace(executor), bound.queue.is_none())
        };
        drop_guarded(old);
        alone && self.is_woken()
    }

    /// Returns whether a wake-up can be delivered.
    fn has_listener(&self) -> bool {
        let bound = self.0.state.bound();
        bound.queue.is_some() || bound.executor.is_some()
    }
}

/// Routes the wake-ups of this thread's coroutines to its new reactor, and delivers those that were
/// missed.
pub(crate) fn redeliver_missed_wakes() {
    let coroutines: Vec<_> = TABLE
        .try_with(|table| table.borrow().iter().map(|(_, coroutine)| coroutine.clone()).collect())
        .unwrap_or_default();
    for coroutine in coroutines {
        coroutine.with_waker(&|state| state.open());
    }
}

fn resume(key: usize) {
    let coroutine = TABLE.try_with(|table| table.borrow().get(key).cloned()).ok().flatten();
    if let Some(coroutine) = coroutine {
        run(coroutine);
    }
}

fn fail_unwakeable(key: usize) {
    let coroutine = TABLE.try_with(|table| table.borrow().get(key).cloned()).ok().flatten();
    if let Some(coroutine) = coroutine {
        coroutine.fail_unwakeable();
    }
}

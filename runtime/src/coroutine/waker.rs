//! Wakers for foreign futures: lent from a pool, and bound to a coroutine only if somebody keeps
//! one.
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

/// A state that foreign code may keep and ring, from any thread.
struct WakeState {
    /// Set by a ring and taken by the next resumption: rings in between are one.
    woken: AtomicBool,
    bound: Mutex<Bound>,
}

/// Whom a state calls.
#[derive(Default)]
struct Bound {
    /// The place in the thread's table of coroutines in a foreign await, and that thread.
    coroutine: Option<(ThreadId, usize)>,
    queue: Option<Arc<dyn RemoteQueue>>,
    /// The waker of the executor that polls the result: it is woken where there is no remote queue.
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
                // the reactor is closed: the ring waits for the next one
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

/// A state with the waker that rings it. As long as nobody else holds it, the `Arc` counts two. One
/// pointer, since each poll takes it out of its place and puts it back.
pub(super) struct PooledWaker(Box<WakerPair>);

struct WakerPair {
    state: Arc<WakeState>,
    waker: Waker,
}

/// A coroutine as the table knows it.
pub(super) trait Foreign: Step {
    /// It was woken and there is neither a reactor nor an executor to resume it: unless an executor
    /// may still come and poll its result, that fails with
    /// [`NoReactorError`](crate::error::NoReactorError).
    fn fail_unwakeable(self: Rc<Self>);

    /// Lends its state, if it has one.
    fn with_waker(&self, work: &dyn Fn(&PooledWaker));
}

thread_local! {
    /// Blank bells.
    static POOL: RefCell<Vec<PooledWaker>> = const { RefCell::new(Vec::new()) };
    /// The coroutines in a foreign await: what owns them.
    static TABLE: RefCell<Slab<Rc<dyn Foreign>>> = const { RefCell::new(Slab::new()) };
}

/// How many blank bells a thread keeps.
const POOL_SIZE: usize = 64;

impl PooledWaker {
    /// A state that nobody holds.
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

    /// Whether foreign code kept it, or has woken it.
    pub(super) fn is_held(&self) -> bool {
        let held = Arc::strong_count(&self.0.state) > 2;
        // whoever rang and then let go of it: the ring is seen with the count
        fence(Ordering::Acquire);
        held || self.0.state.woken.load(Ordering::Acquire)
    }

    /// Gives it back: into the pool if it is blank.
    pub(super) fn give_back(self) {
        if !self.is_held() {
            // while the thread's storage is torn down there is no pool
            let _ = POOL.try_with(|pool| {
                let mut pool = pool.borrow_mut();
                if pool.len() < POOL_SIZE {
                    pool.push(self);
                }
            });
        }
    }

    /// Binds it to `coroutine`, which the table owns from now on. A ring that came before counts.
    /// `None` while the thread's storage is torn down: then nothing can own it.
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

    /// Takes the coroutine out of the table; later rings call nobody.
    pub(super) fn unbind(&self, key: usize) {
        self.replace_bound(Bound::default());
        let gone = TABLE.try_with(|table| table.borrow_mut().try_remove(key)).ok().flatten();
        drop_guarded(gone);
    }

    /// The wakers in the old one may run foreign code when they are dropped: the lock has ended by
    /// then.
    fn replace_bound(&self, new: Bound) {
        let old = std::mem::replace(&mut *self.0.state.bound(), new);
        drop_guarded(old);
    }

    /// A reactor has come into the thread: rings go to it, and one that nobody has heard does now.
    fn open(&self) {
        self.0.state.bound().queue = remote_queue();
        if self.is_woken() {
            self.0.state.call();
        }
    }

    /// Calls for a ring that came while the coroutine ran, where no reactor and no executor has
    /// heard it.
    pub(super) fn redeliver_missed_wake(&self) {
        if self.is_woken() && !self.has_listener() {
            self.0.state.call();
        }
    }

    /// Readies a bound state for the next poll: rings from now on are new ones. (A blank one has not
    /// woken.)
    pub(super) fn clear_if(&self, bound: bool) {
        if bound {
            // acquires what the ringing thread has published, and is not moved behind the poll
            self.0.state.woken.swap(false, Ordering::AcqRel);
        }
    }

    fn is_woken(&self) -> bool {
        self.0.state.woken.load(Ordering::Acquire)
    }

    /// Rings go to `executor` where there is no remote queue. Whether one has come already, for the
    /// executor to resume the coroutine now.
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

    /// Whether somebody hears a ring.
    fn has_listener(&self) -> bool {
        let bound = self.0.state.bound();
        bound.queue.is_some() || bound.executor.is_some()
    }
}

/// A reactor has come into this thread: coroutines that waited for a foreign wake without one go to
/// it.
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

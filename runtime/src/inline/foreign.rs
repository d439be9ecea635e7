//! Wakers for foreign futures: lent from a pool, and bound to a coroutine only if somebody keeps one.
use crate::{
    defer::{Step, run},
    report::drop_guarded,
    wake::{Door, door},
};
use slab::Slab;
use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
    thread::{self, ThreadId},
};

/// A bell that foreign code may keep and ring, from any thread.
struct Bell {
    /// Set by a ring and taken by the next resumption: rings in between are one.
    rung: AtomicBool,
    bound: Mutex<Bound>,
}

/// Whom a bell calls.
#[derive(Default)]
struct Bound {
    /// The place in the thread's table of coroutines in a foreign await, and that thread.
    coroutine: Option<(ThreadId, usize)>,
    door: Option<Arc<dyn Door>>,
    /// The waker of the executor that polls the result: it is woken where there is no door.
    executor: Option<Waker>,
}

impl Bell {
    fn bound(&self) -> std::sync::MutexGuard<'_, Bound> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) {
        let (coroutine, door, executor) = {
            let bound = self.bound();
            (bound.coroutine, bound.door.clone(), bound.executor.clone())
        };
        let Some((home, key)) = coroutine else { return };
        if let Some(door) = door {
            // in a later turn, in the thread of the coroutine; a closed reactor takes it no more, and its coroutine ends with it
            door.hand_in(Box::new(move || resume(key)));
        } else if let Some(executor) = executor {
            executor.wake();
        } else if home == thread::current().id() {
            strand(key);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.call();
        }
    }
}

/// A bell with the waker that rings it. As long as nobody else holds it, the `Arc` counts two.
pub(super) struct Lent {
    bell: Arc<Bell>,
    waker: Waker,
}

/// A coroutine as the table knows it.
pub(super) trait Foreign: Step {
    /// It was rung and there is neither a reactor nor an executor to resume it: unless an executor may still come and poll its result,
    /// that fails with [`NoReactorError`](crate::error::NoReactorError).
    fn strand(self: Rc<Self>);
}

thread_local! {
    /// Blank bells.
    static POOL: RefCell<Vec<Lent>> = const { RefCell::new(Vec::new()) };
    /// The coroutines in a foreign await: what owns them.
    static TABLE: RefCell<Slab<Rc<dyn Foreign>>> = const { RefCell::new(Slab::new()) };
}

/// How many blank bells a thread keeps.
const POOL_SIZE: usize = 64;

impl Lent {
    /// A bell that nobody holds.
    pub(super) fn take() -> Self {
        POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            let bell = Arc::new(Bell { rung: AtomicBool::new(false), bound: Mutex::new(Bound::default()) });
            Self { waker: bell.clone().into(), bell }
        })
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether foreign code kept it, or has rung it.
    pub(super) fn is_held(&self) -> bool {
        Arc::strong_count(&self.bell) > 2 || self.bell.rung.load(Ordering::Acquire)
    }

    /// Gives it back: into the pool if it is blank.
    pub(super) fn give_back(self) {
        if !self.is_held() {
            POOL.with_borrow_mut(|pool| {
                if pool.len() < POOL_SIZE {
                    pool.push(self);
                }
            });
        }
    }

    /// Binds it to `coroutine`, which the table owns from now on. A ring that came before counts.
    pub(super) fn bind(&self, coroutine: Rc<dyn Foreign>) -> usize {
        let key = TABLE.with_borrow_mut(|table| table.insert(coroutine));
        *self.bell.bound() = Bound { coroutine: Some((thread::current().id(), key)), door: door(), executor: None };
        if self.has_rung() && self.has_door() {
            self.bell.call();
        }
        key
    }

    /// Takes the coroutine out of the table; later rings call nobody.
    pub(super) fn unbind(&self, key: usize) {
        *self.bell.bound() = Bound::default();
        let gone = TABLE.with_borrow_mut(|table| table.try_remove(key));
        drop_guarded(gone);
    }

    /// Readies a bound bell for the next poll: rings from now on are new ones. (A blank one has not rung.)
    pub(super) fn listen_if(&self, bound: bool) {
        if bound {
            self.bell.rung.store(false, Ordering::Release);
        }
    }

    fn has_rung(&self) -> bool {
        self.bell.rung.load(Ordering::Acquire)
    }

    /// Rings go to `executor` where there is no door. Whether one has come already, for the executor to resume the coroutine now.
    pub(super) fn assist(&self, executor: &Waker) -> bool {
        let mut bound = self.bell.bound();
        if bound.door.is_none() {
            bound.door = door();
        }
        bound.executor = Some(executor.clone());
        bound.door.is_none() && self.has_rung()
    }

    /// Whether a ring goes through a door, and not to an executor that polls.
    fn has_door(&self) -> bool {
        self.bell.bound().door.is_some()
    }
}

fn resume(key: usize) {
    let coroutine = TABLE.with_borrow(|table| table.get(key).cloned());
    if let Some(coroutine) = coroutine {
        run(coroutine);
    }
}

fn strand(key: usize) {
    let coroutine = TABLE.with_borrow(|table| table.get(key).cloned());
    if let Some(coroutine) = coroutine {
        coroutine.strand();
    }
}

//! The coroutine and its driver: start, step, cancel.
//!
//! ```text
//!              step                    done, panic, forced
//!   Idle ───────────────▶ Running ───────────────────────────▶ Over
//!    ▲                     │    │ step (something it waits for fired while it runs)
//!    └── pending ──────────┘    ▼
//!                             Again ── pending ──▶ Running (polled once more, never inside itself)
//! ```
use super::{
    cell::Pinned,
    waker::{Foreign, PooledWaker},
};
use crate::{
    defer::{Awaiting, CancelNode, Deferred, Node, Outcome, Slot, Step, cancel_from, debug, run},
    error::{AbandonedError, CancelledError, NoReactorError},
    failure::{Failure, Frame, enter_function},
    report::{drop_guarded, panicked},
};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    rc::Rc,
    task::{Context, Poll, Waker},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Running,
    Again,
    Over,
}

/// What a coroutine has besides its frame and its result: the part that an await sees.
pub(super) struct Task {
    /// The path of the function, for tracebacks.
    function: &'static str,
    phase: Cell<Phase>,
    waits: RefCell<Waits>,
    /// A cancel that came while it ran: it meets what the coroutine waits for next.
    kept: Cell<Option<Box<CancelledError>>>,
    /// The bell that foreign code keeps, and the coroutine's place in the thread's table.
    bell: RefCell<Option<(PooledWaker, usize)>>,
    /// The executor that polls what hangs on this coroutine: it hears rings where there is no
    /// reactor.
    executor: RefCell<Option<Waker>>,
}

/// The Deferreds that a coroutine waits for, in the order in which they were awaited. Nearly always
/// there is one.
#[derive(Default)]
struct Waits {
    first: Option<Rc<dyn CancelNode>>,
    more: Vec<Rc<dyn CancelNode>>,
}

impl Task {
    /// Notes that the coroutine waits for `source`.
    pub(super) fn add_wait(&self, source: Rc<dyn CancelNode>) {
        let waits = &mut *self.waits.borrow_mut();
        if waits.first.is_none() && waits.more.is_empty() {
            waits.first = Some(source);
        } else {
            waits.more.push(source);
        }
    }

    /// Notes that it does not wait for `source` any more.
    pub(super) fn remove_wait(&self, source: *const ()) {
        let is_it = |other: &Rc<dyn CancelNode>| std::ptr::addr_eq(Rc::as_ptr(other), source);
        let gone = {
            let waits = &mut *self.waits.borrow_mut();
            match &waits.first {
                Some(first) if is_it(first) => waits.first.take(),
                _ => waits.more.iter().position(is_it).map(|at| waits.more.remove(at)),
            }
        };
        drop(gone);
    }

    /// The bell, out of its place. Nearly always there is none.
    #[inline]
    fn take_bell(&self) -> Option<(PooledWaker, usize)> {
        if self.bell.borrow().is_none() { None } else { self.bell.take() }
    }

    fn up(&self) -> Awaiting {
        let waits = self.waits.borrow();
        match (&waits.first, waits.more.is_empty()) {
            (None, true) => Awaiting::Nothing,
            (Some(first), true) => Awaiting::One(first.clone()),
            (first, false) => Awaiting::Many(first.iter().chain(&waits.more).cloned().collect()),
        }
    }
}

/// A coroutine as an await sees it.
pub(super) trait Coroutine: Step {
    fn task(&self) -> &Task;
}

/// The coroutine that is being polled, and how its own waker is told from others.
#[derive(Clone)]
pub(super) struct Current {
    pub(super) coroutine: Rc<dyn Coroutine>,
    waker: *const (),
}

impl Current {
    /// Whether `waker` is the driver's own: then the coroutine can be resumed inside a fire.
    pub(super) fn owns(&self, waker: &Waker) -> bool {
        waker.data() == self.waker
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// The coroutine that is being polled in this thread.
pub(super) fn current() -> Option<Current> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Puts the coroutine and its function into the thread for one poll.
struct Polling {
    outer: Option<Current>,
    function: &'static str,
}

impl Polling {
    /// `None` while the thread's storage is torn down.
    fn enter(current: Current, function: &'static str) -> Option<Self> {
        let outer = CURRENT.try_with(|slot| slot.replace(Some(current))).ok()?;
        Some(Self { outer, function: enter_function(function) })
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        enter_function(self.function);
        let inner = CURRENT.try_with(|slot| slot.replace(self.outer.take()));
        drop(inner);
    }
}

/// What stands beside the frame.
struct Beside<T> {
    task: Task,
    slot: Slot<T>,
}

type Body<T, F> = Pinned<F, Beside<T>>;

/// Starts a coroutine: runs `frame` to the first Deferred that has not fired. One allocation.
pub(crate) fn start<T, F>(
    function: &'static str,
    frame: F,
    created_at: &'static Location<'static>,
) -> Deferred<T>
where
    T: 'static,
    F: Future<Output = Outcome<T>> + 'static,
{
    let task = Task {
        function,
        phase: Cell::new(Phase::Idle),
        waits: RefCell::default(),
        kept: Cell::new(None),
        bell: RefCell::new(None),
        executor: RefCell::new(None),
    };
    let coroutine = Pinned::new(frame, Beside { task, slot: Slot::new(created_at) });
    debug::note(&coroutine, coroutine.beside.slot.address(), "coroutine", || function, created_at);
    // nobody waits for the result yet, so there is nobody to step next
    let next = coroutine.clone().step();
    debug_assert!(next.is_none(), "a new coroutine has no one waiting");
    match coroutine.beside.slot.take() {
        Some(outcome) => Deferred::ready(outcome, created_at),
        None => Deferred::pending(coroutine),
    }
}

/// What one poll came to.
enum Polled<T> {
    Pending,
    Done(Outcome<T>),
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Body<T, F> {
    fn poll_once(self: &Rc<Self>) -> Polled<T> {
        let task = &self.beside.task;
        let (lent, key) = match task.take_bell() {
            Some((lent, key)) => (lent, Some(key)),
            None => (PooledWaker::take(), None),
        };
        lent.clear_if(key.is_some());
        let polled = {
            let current = Current { coroutine: self.clone(), waker: lent.waker().data() };
            let Some(_polling) = Polling::enter(current, task.function) else {
                // the thread ends: nothing can be polled any more, and the frame is dropped
                return Polled::Done(Err(AbandonedError::new().into()));
            };
            // user code
            catch_unwind(AssertUnwindSafe(|| self.poll(&mut Context::from_waker(lent.waker()))))
        };
        let polled = match polled {
            Ok(Some(Poll::Ready(outcome))) => Polled::Done(outcome),
            Ok(Some(Poll::Pending)) => Polled::Pending,
            // its frame is gone: something has ended it already
            Ok(None) => return Polled::Pending,
            Err(payload) => {
                let created_at = self.beside.slot.created_at();
                Polled::Done(Err(panicked(payload, Frame::new(task.function, created_at))))
            }
        };
        match (&polled, key) {
            (Polled::Done(_), Some(key)) => {
                lent.unbind(key);
                lent.give_back();
            }
            (Polled::Pending, Some(key)) => *task.bell.borrow_mut() = Some((lent, key)),
            (Polled::Pending, None) if lent.is_held() => {
                let executor = task.executor.borrow().clone();
                if let Some(key) = lent.bind(self.clone(), executor) {
                    *task.bell.borrow_mut() = Some((lent, key));
                }
            }
            (_, None) => lent.give_back(),
        }
        polled
    }

    /// Drops the frame, then delivers the result: a lock that a local held is handed on first.
    fn end(self: &Rc<Self>, outcome: Outcome<T>) -> Option<Rc<dyn Step>> {
        let task = &self.beside.task;
        task.phase.set(Phase::Over);
        // user code: drops of locals and arguments
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.clear())) {
            crate::report::report(
                panicked(payload, Frame::new(task.function, self.beside.slot.created_at())),
                format!("drop of what {} held", task.function),
            );
        }
        task.kept.take();
        if let Some((lent, key)) = task.take_bell() {
            lent.unbind(key);
            lent.give_back();
        }
        self.beside.slot.fill(outcome)
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Step for Body<T, F> {
    fn step(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        let phase = &self.beside.task.phase;
        match phase.get() {
            Phase::Idle => {}
            Phase::Running => {
                phase.set(Phase::Again);
                return None;
            }
            Phase::Again | Phase::Over => return None,
        }
        loop {
            phase.set(Phase::Running);
            if let Polled::Done(outcome) = self.poll_once() {
                return self.end(outcome);
            }
            if phase.get() != Phase::Again {
                break;
            }
        }
        phase.set(Phase::Idle);
        self.with_waker(&PooledWaker::redeliver_missed_wake);
        if let Some(why) = self.beside.task.kept.take() {
            cancel_from(self, &why);
        }
        None
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Coroutine for Body<T, F> {
    fn task(&self) -> &Task {
        &self.beside.task
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> CancelNode for Body<T, F> {
    fn awaiting(&self) -> Awaiting {
        match self.beside.task.phase.get() {
            Phase::Idle => self.beside.task.up(),
            Phase::Running | Phase::Again => Awaiting::Running,
            Phase::Over => Awaiting::Finished,
        }
    }

    fn defer_cancel(&self, why: &CancelledError) {
        self.beside.task.kept.set(Some(Box::new(why.clone())));
    }

    fn cancel_leaf(self: Rc<Self>, why: &CancelledError) {
        self.fail(why.clone().into());
    }

    fn set_external_waker(self: Rc<Self>, waker: &Waker) {
        let (known, kept) = (waker.clone(), waker.clone());
        let old = self.beside.task.executor.replace(Some(kept));
        drop_guarded(old);
        let woken = Cell::new(false);
        self.with_waker(&|lent| woken.set(lent.set_external_waker(known.clone())));
        if woken.get() {
            run(self);
        }
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Node<T> for Body<T, F> {
    fn slot(&self) -> &Slot<T> {
        &self.beside.slot
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Foreign for Body<T, F> {
    fn with_waker(&self, work: &dyn Fn(&PooledWaker)) {
        // taken out, so that nothing is borrowed if the work comes back here
        if let Some((lent, key)) = self.beside.task.take_bell() {
            work(&lent);
            if self.beside.task.phase.get() == Phase::Over {
                lent.unbind(key);
                lent.give_back();
            } else {
                *self.beside.task.bell.borrow_mut() = Some((lent, key));
            }
        }
    }

    fn fail_unwakeable(self: Rc<Self>) {
        // the one holder besides the table and this call is a Deferred that an executor may still
        // poll
        let polled_later = !self.beside.slot.has_step() && Rc::strong_count(&self) > 2;
        if self.beside.task.phase.get() == Phase::Idle && !polled_later {
            self.fail(NoReactorError::new().into());
        }
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Body<T, F> {
    /// Ends it where it stands.
    fn fail(self: &Rc<Self>, failure: Failure) {
        if self.beside.task.phase.get() == Phase::Idle
            && let Some(next) = self.end(Err(failure))
        {
            run(next);
        }
    }
}

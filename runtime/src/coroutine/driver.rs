//! The coroutine and its driver: starting, resuming and cancelling it.
//!
//! ```text
//!             step                 returned, panicked, cancelled
//!   Idle ──────────────▶ Running ──────────────────────────────▶ Finished
//!    ▲                    │  │  ▲
//!    └────── pending ─────┘  │  └── pending (polled again, never inside itself)
//!                            └────▶ Again
//!                              step (an awaited Deferred fired while it ran)
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
enum CoroutineState {
    Idle,
    Running,
    Again,
    Finished,
}

/// The untyped data of a coroutine, which its awaits can see: all but the frame and the result.
pub(super) struct CoroutineData {
    /// The path of the function, for tracebacks.
    function: &'static str,
    state: Cell<CoroutineState>,
    waits: RefCell<Waits>,
    /// A cancellation that arrived while the coroutine ran. It cancels what the coroutine awaits
    /// next.
    pending_cancel: Cell<Option<Box<CancelledError>>>,
    /// The waker that foreign code has kept, and the coroutine's index in the thread's table.
    bound_waker: RefCell<Option<(PooledWaker, usize)>>,
    /// The waker of the executor that polls a future of this coroutine's result. It is woken where
    /// there is no reactor.
    executor: RefCell<Option<Waker>>,
}

/// The Deferreds that a coroutine awaits, in the order in which it awaited them. Nearly always
/// there is exactly one.
#[derive(Default)]
struct Waits {
    first: Option<Rc<dyn CancelNode>>,
    more: Vec<Rc<dyn CancelNode>>,
}

impl CoroutineData {
    /// Records that the coroutine awaits `source`.
    pub(super) fn add_wait(&self, source: Rc<dyn CancelNode>) {
        let waits = &mut *self.waits.borrow_mut();
        if waits.first.is_none() && waits.more.is_empty() {
            waits.first = Some(source);
        } else {
            waits.more.push(source);
        }
    }

    /// Records that the coroutine no longer awaits `source`.
    pub(super) fn remove_wait(&self, source: *const ()) {
        let is_it = |other: &Rc<dyn CancelNode>| std::ptr::addr_eq(Rc::as_ptr(other), source);
        let removed = {
            let waits = &mut *self.waits.borrow_mut();
            match &waits.first {
                Some(first) if is_it(first) => waits.first.take(),
                _ => waits.more.iter().position(is_it).map(|at| waits.more.remove(at)),
            }
        };
        drop(removed);
    }

    /// Takes the bound waker. Nearly always there is none.
    #[inline]
    fn take_waker(&self) -> Option<(PooledWaker, usize)> {
        if self.bound_waker.borrow().is_none() { None } else { self.bound_waker.take() }
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

/// A coroutine as its awaits see it.
pub(super) trait Coroutine: Step {
    fn task(&self) -> &CoroutineData;
}

/// The coroutine that is being polled, with what identifies its own waker.
#[derive(Clone)]
pub(super) struct Current {
    pub(super) coroutine: Rc<dyn Coroutine>,
    waker: *const (),
}

impl Current {
    /// Returns whether `waker` is the driver's own, so that a fire can resume the coroutine
    /// directly.
    pub(super) fn owns(&self, waker: &Waker) -> bool {
        waker.data() == self.waker
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Returns the coroutine that is being polled in this thread.
pub(super) fn current() -> Option<Current> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Makes a coroutine and its function the current ones of the thread, for one poll.
struct Polling {
    outer: Option<Current>,
    function: &'static str,
}

impl Polling {
    /// Returns `None` while the thread's storage is being torn down.
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

/// The data beside the frame.
struct Beside<T> {
    task: CoroutineData,
    slot: Slot<T>,
}

type TypedCoroutine<T, F> = Pinned<F, Beside<T>>;

/// Starts a coroutine: runs `frame` up to the first Deferred that has not fired. Allocates once.
pub(crate) fn start<T, F>(
    function: &'static str,
    frame: F,
    created_at: &'static Location<'static>,
) -> Deferred<T>
where
    T: 'static,
    F: Future<Output = Outcome<T>> + 'static,
{
    let task = CoroutineData {
        function,
        state: Cell::new(CoroutineState::Idle),
        waits: RefCell::default(),
        pending_cancel: Cell::new(None),
        bound_waker: RefCell::new(None),
        executor: RefCell::new(None),
    };
    let coroutine = Pinned::new(frame, Beside { task, slot: Slot::new(created_at) });
    debug::note(&coroutine, coroutine.beside.slot.address(), "coroutine", || function, created_at);
    // the result has no consumer yet, so this returns no step
    let next = coroutine.clone().step();
    debug_assert!(next.is_none(), "a new coroutine has no consumer");
    match coroutine.beside.slot.take() {
        Some(outcome) => Deferred::ready(outcome, created_at),
        None => Deferred::pending(coroutine),
    }
}

/// The result of one poll.
enum Polled<T> {
    Pending,
    Done(Outcome<T>),
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> TypedCoroutine<T, F> {
    fn poll_once(self: &Rc<Self>) -> Polled<T> {
        let task = &self.beside.task;
        let (waker, key) = match task.take_waker() {
            Some((waker, key)) => (waker, Some(key)),
            None => (PooledWaker::take(), None),
        };
        waker.clear_if(key.is_some());
        let polled = {
            let current = Current { coroutine: self.clone(), waker: waker.waker().data() };
            let Some(_polling) = Polling::enter(current, task.function) else {
                // the thread is exiting: nothing can be polled any more, and the frame is dropped
                return Polled::Done(Err(AbandonedError::new().into()));
            };
            // user code
            catch_unwind(AssertUnwindSafe(|| self.poll(&mut Context::from_waker(waker.waker()))))
        };
        let polled = match polled {
            Ok(Some(Poll::Ready(outcome))) => Polled::Done(outcome),
            Ok(Some(Poll::Pending)) => Polled::Pending,
            // the frame has been dropped: something has finished the coroutine already
            Ok(None) => return Polled::Pending,
            Err(payload) => {
                let created_at = self.beside.slot.created_at();
                Polled::Done(Err(panicked(payload, Frame::new(task.function, created_at))))
            }
        };
        match (&polled, key) {
            (Polled::Done(_), Some(key)) => {
                waker.unbind(key);
                waker.give_back();
            }
            (Polled::Pending, Some(key)) => *task.bound_waker.borrow_mut() = Some((waker, key)),
            (Polled::Pending, None) if waker.is_kept_or_woken() => {
                let executor = task.executor.borrow().clone();
                if let Some(key) = waker.bind(self.clone(), executor) {
                    *task.bound_waker.borrow_mut() = Some((waker, key));
                }
            }
            (_, None) => waker.give_back(),
        }
        polled
    }

    /// Drops the frame, then delivers the result, so that a lock held by a local variable is
    /// released first.
    fn end(self: &Rc<Self>, outcome: Outcome<T>) -> Option<Rc<dyn Step>> {
        let task = &self.beside.task;
        task.state.set(CoroutineState::Finished);
        // user code: drops of locals and arguments
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.clear())) {
            crate::report::report(
                panicked(payload, Frame::new(task.function, self.beside.slot.created_at())),
                format!("drop of what {} held", task.function),
            );
        }
        task.pending_cancel.take();
        if let Some((waker, key)) = task.take_waker() {
            waker.unbind(key);
            waker.give_back();
        }
        self.beside.slot.fill(outcome)
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Step for TypedCoroutine<T, F> {
    fn step(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        let state = &self.beside.task.state;
        match state.get() {
            CoroutineState::Idle => {}
            CoroutineState::Running => {
                state.set(CoroutineState::Again);
                return None;
            }
            CoroutineState::Again | CoroutineState::Finished => return None,
        }
        loop {
            state.set(CoroutineState::Running);
            if let Polled::Done(outcome) = self.poll_once() {
                return self.end(outcome);
            }
            if state.get() != CoroutineState::Again {
                break;
            }
        }
        state.set(CoroutineState::Idle);
        self.with_waker(&PooledWaker::redeliver_missed_wake);
        if let Some(why) = self.beside.task.pending_cancel.take() {
            cancel_from(self, &why);
        }
        None
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Coroutine for TypedCoroutine<T, F> {
    fn task(&self) -> &CoroutineData {
        &self.beside.task
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> CancelNode for TypedCoroutine<T, F> {
    fn awaiting(&self) -> Awaiting {
        match self.beside.task.state.get() {
            CoroutineState::Idle => self.beside.task.up(),
            CoroutineState::Running | CoroutineState::Again => Awaiting::Running,
            CoroutineState::Finished => Awaiting::Finished,
        }
    }

    fn defer_cancel(&self, why: &CancelledError) {
        self.beside.task.pending_cancel.set(Some(Box::new(why.clone())));
    }

    fn cancel_leaf(self: Rc<Self>, why: &CancelledError) {
        self.fail(why.clone().into());
    }

    fn set_external_waker(self: Rc<Self>, waker: &Waker) {
        let (known, pending_cancel) = (waker.clone(), waker.clone());
        let old = self.beside.task.executor.replace(Some(pending_cancel));
        drop_guarded(old);
        let woken = Cell::new(false);
        self.with_waker(&|waker| woken.set(waker.set_external_waker(known.clone())));
        if woken.get() {
            run(self);
        }
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Node<T> for TypedCoroutine<T, F> {
    fn slot(&self) -> &Slot<T> {
        &self.beside.slot
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> Foreign for TypedCoroutine<T, F> {
    fn with_waker(&self, work: &dyn Fn(&PooledWaker)) {
        // taken out, so that nothing is borrowed if the call re-enters here
        if let Some((waker, key)) = self.beside.task.take_waker() {
            work(&waker);
            if self.beside.task.state.get() == CoroutineState::Finished {
                waker.unbind(key);
                waker.give_back();
            } else {
                *self.beside.task.bound_waker.borrow_mut() = Some((waker, key));
            }
        }
    }

    fn fail_unwakeable(self: Rc<Self>) {
        // the table and this call hold one reference each; a third is a Deferred that an executor
        // may still poll
        let polled_later = !self.beside.slot.has_step() && Rc::strong_count(&self) > 2;
        if self.beside.task.state.get() == CoroutineState::Idle && !polled_later {
            self.fail(NoReactorError::new().into());
        }
    }
}

impl<T: 'static, F: Future<Output = Outcome<T>> + 'static> TypedCoroutine<T, F> {
    /// Finishes the coroutine with a failure, wherever it is suspended.
    fn fail(self: &Rc<Self>, failure: Failure) {
        if self.beside.task.state.get() == CoroutineState::Idle
            && let Some(next) = self.end(Err(failure))
        {
            run(next);
        }
    }
}

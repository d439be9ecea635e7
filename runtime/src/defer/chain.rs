//! The shared cell of a Deferred, and the loop that runs callbacks.
//!
//! A pending Deferred is a chain of *nodes*. Each node has a [`Slot`] for its outcome, and the
//! consumer of that outcome is a [`Step`] in the slot. Firing a node runs its consumer's step,
//! which takes the outcome out of the slot, runs its user code, fills its own slot and returns the
//! next step. So one loop runs a chain of any length, and a value needs no storage on its way.
//!
//! ```text
//!              wait(step)               fill(outcome)             take()
//!   Empty ──────────────▶ Step or Waker ─────────────▶ Done ──────────────▶ Taken
//!     │ │                                               ▲
//!     │ └────────────────── fill(outcome) ──────────────┘
//!     └───── detach() ───▶ Detached ── fill(outcome) ──▶ Taken
//! ```
//! `fill` on a detached slot drops the outcome and reports a failure. `fill` on a slot that was
//! filled before drops the outcome silently.
//!
//! While a link is pending, its two ends own each other. The slot owns the step, so that callbacks
//! run even if nobody kept the Deferred; the step owns the node, so that it can take the outcome.
//! Firing always separates the two, and a [`Resolver`](super::Resolver) always fires, at the latest
//! when it is dropped.
use super::{cancel_node::CancelNode, debug};
use crate::{
    error::{AbandonedError, CancelledError},
    failure::{Failure, Frame},
    report::{drop_guarded, guarded, report, report_with},
};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    panic::Location,
    rc::Rc,
    task::Waker,
};

/// The outcome of a node.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// The depth to which fires nest on the stack. Deeper ones are queued, and run before the fire at
/// this depth returns.
const MAX_DEPTH: u32 = 64;

/// The consumer of a node: it is stepped when the node has its outcome.
pub(crate) trait Step {
    /// Does one piece of work and returns the consumer to step next.
    fn step(self: Rc<Self>) -> Option<Rc<dyn Step>>;

    /// Replaces the node that this step awaits with the one in `source`, an `Option<Rc<dyn
    /// Node<T>>>` for the `T` of this step; the caller puts the step into the new node's slot.
    /// Returns `false` if the step cannot be moved. A coroutine cannot, because its await lies in
    /// the user's frame.
    fn adopt(&self, source: &mut dyn Any) -> bool {
        let _ = source;
        false
    }
}

/// A node whose outcome is a `T`.
pub(crate) trait Node<T>: CancelNode {
    fn slot(&self) -> &Slot<T>;
}

/// The outcome of a node, or its consumer.
pub(crate) struct Slot<T> {
    /// Borrowed only to inspect or exchange the state, never while user code runs.
    state: RefCell<SlotState<T>>,
    /// The line that created the node, for the report of an unhandled failure.
    created_at: &'static Location<'static>,
}

enum SlotState<T> {
    Empty,
    Step(Rc<dyn Step>),
    Waker(Waker),
    /// The Deferred was dropped: the outcome has no consumer.
    Detached,
    Done(Outcome<T>),
    Taken,
}

impl<T> Slot<T> {
    pub(crate) fn new(created_at: &'static Location<'static>) -> Self {
        Self { state: RefCell::new(SlotState::Empty), created_at }
    }

    pub(crate) fn created_at(&self) -> &'static Location<'static> {
        self.created_at
    }

    /// Returns the number by which [`debug`] identifies the node.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Takes the outcome, if there is one.
    #[inline]
    pub(crate) fn take(&self) -> Option<Outcome<T>> {
        let mut state = self.state.borrow_mut();
        // checked first: nearly every second call finds no outcome, and must not move anything
        if !matches!(*state, SlotState::Done(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, SlotState::Taken) {
            SlotState::Done(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Takes the outcome and empties the slot, as if it had never been filled.
    pub(crate) fn take_back(&self) -> Option<Outcome<T>> {
        let outcome = self.take();
        if outcome.is_some() {
            self.state.replace(SlotState::Empty);
        }
        outcome
    }

    /// Returns whether the node has had its outcome, taken or not.
    pub(crate) fn is_fired(&self) -> bool {
        matches!(*self.state.borrow(), SlotState::Done(_) | SlotState::Taken)
    }

    /// Returns whether a callback or a coroutine awaits this node.
    pub(crate) fn has_step(&self) -> bool {
        matches!(*self.state.borrow(), SlotState::Step(_))
    }

    /// Calls `look` with the stored outcome, if there is one.
    pub(crate) fn show<R>(&self, look: impl FnOnce(Option<&Outcome<T>>) -> R) -> R {
        /// Puts the outcome back, also when a user's `Debug` panics.
        struct Back<'a, T>(&'a Slot<T>, Option<Outcome<T>>);
        impl<T> Drop for Back<'_, T> {
            fn drop(&mut self) {
                if let Some(outcome) = self.1.take() {
                    self.0.state.replace(SlotState::Done(outcome));
                }
            }
        }
        let back = Back(self, self.take());
        look(back.1.as_ref())
    }

    /// Makes `step` the consumer. It replaces an earlier one, which a previous poll of the same
    /// await has left.
    pub(crate) fn wait(&self, step: Rc<dyn Step>) {
        debug_assert!(!self.is_fired(), "a filled slot gets no consumer");
        let before = self.state.replace(SlotState::Step(step));
        if !matches!(before, SlotState::Empty) {
            drop_guarded(before);
        }
    }

    /// Makes the task behind `waker` the consumer.
    pub(crate) fn wait_waker(&self, waker: &Waker) {
        if !matches!(&*self.state.borrow(), SlotState::Waker(known) if known.will_wake(waker)) {
            // user code: a foreign waker's clone and drop. The clone may fire this very Deferred
            let waker = waker.clone();
            if !self.is_fired() {
                drop_guarded(self.state.replace(SlotState::Waker(waker)));
            }
        }
    }

    /// Detaches the consumer. A stored outcome is dropped now (and reported if it is a failure),
    /// even if a Resolver keeps the node alive.
    pub(crate) fn detach(&self) {
        let before = {
            let mut state = self.state.borrow_mut();
            let after = if matches!(*state, SlotState::Done(_) | SlotState::Taken) {
                SlotState::Taken
            } else {
                SlotState::Detached
            };
            std::mem::replace(&mut *state, after)
        };
        match before {
            SlotState::Empty | SlotState::Taken | SlotState::Detached => {}
            SlotState::Done(outcome) => {
                discard_from_slot(outcome, self.created_at, self.address());
            }
            waiting => drop_guarded(waiting),
        }
    }

    /// Takes the consumer's step, to move it to another node.
    pub(crate) fn take_step(&self) -> Option<Rc<dyn Step>> {
        if !self.has_step() {
            return None;
        }
        match self.state.replace(SlotState::Empty) {
            SlotState::Step(step) => Some(step),
            _ => None,
        }
    }

    /// Stores the outcome and returns the step of the consumer. If the slot has been filled before,
    /// the outcome is dropped silently.
    pub(crate) fn fill(&self, outcome: Outcome<T>) -> Option<Rc<dyn Step>> {
        if debug::debugging() {
            debug::filled(self.address());
        }
        let before = {
            let mut state = self.state.borrow_mut();
            match *state {
                SlotState::Done(_) | SlotState::Taken => {
                    drop(state);
                    drop_guarded(outcome);
                    return None;
                }
                SlotState::Detached => {
                    *state = SlotState::Taken;
                    drop(state);
                    discard_from_slot(outcome, self.created_at, self.address());
                    return None;
                }
                _ => std::mem::replace(&mut *state, SlotState::Done(outcome)),
            }
        };
        match before {
            SlotState::Step(step) => Some(step),
            SlotState::Waker(waker) => {
                // user code: a foreign waker
                if let Err(failure) =
                    guarded(|| Frame::new("a waker", self.created_at), || waker.wake())
                {
                    report(
                        failure,
                        format!(
                            "the waker of a task that awaits the Deferred made at {}",
                            self.created_at
                        ),
                    );
                }
                None
            }
            _ => None,
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        match self.state.get_mut() {
            SlotState::Empty | SlotState::Taken | SlotState::Detached => return,
            SlotState::Step(_) | SlotState::Waker(_) | SlotState::Done(_) => {}
        }
        match self.state.replace(SlotState::Taken) {
            SlotState::Done(outcome) => {
                discard_from_slot(outcome, self.created_at, self.address());
            }
            other => drop_guarded(other),
        }
    }
}

/// Drops an outcome that has no consumer, and reports a failure.
///
/// Two failures are not reported: a [`CancelledError`], because somebody asked for it, and an
/// [`AbandonedError`] that has passed neither a callback nor a coroutine, because then nobody
/// awaited it.
pub(crate) fn discard_outcome<T>(outcome: Outcome<T>, created_at: &'static Location<'static>) {
    discard_from_slot(outcome, created_at, 0);
}

/// Drops an outcome from the slot at `address`, and reports a failure.
fn discard_from_slot<T>(
    outcome: Outcome<T>,
    created_at: &'static Location<'static>,
    address: usize,
) {
    match outcome {
        Ok(value) => drop_guarded(value),
        Err(failure) => {
            let untouched = failure.check::<AbandonedError>() && failure.frames().len() == 1;
            if !untouched && !failure.check::<CancelledError>() {
                report_with(
                    failure,
                    format!("Deferred made at {created_at}"),
                    debug::history(created_at, address),
                );
            }
        }
    }
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static QUEUE: RefCell<VecDeque<Rc<dyn Step>>> = const { RefCell::new(VecDeque::new()) };
}

/// Runs `first` and all steps that follow from it.
///
/// This is a loop, because a chain of a million links must not need a million stack frames. User
/// code inside a step may fire again: such a call nests on the stack up to [`MAX_DEPTH`] and is
/// queued beyond that.
pub(crate) fn run(first: Rc<dyn Step>) {
    if DEPTH.get() >= MAX_DEPTH {
        let first = QUEUE
            .try_with(|queue| queue.borrow_mut().push_back(first.clone()))
            .map_or(Some(first), |()| None);
        // while the thread's storage is being torn down there is no queue
        return first.map_or((), run_now);
    }
    run_now(first);
}

/// Runs `first` at any depth, for a step that must be complete when this returns.
pub(crate) fn run_now(first: Rc<dyn Step>) {
    /// Restores the depth, also during unwinding.
    struct Deeper(u32);
    impl Drop for Deeper {
        fn drop(&mut self) {
            DEPTH.set(self.0);
        }
    }
    let deeper = Deeper(DEPTH.get());
    DEPTH.set(deeper.0 + 1);
    let mut next = Some(first);
    loop {
        while let Some(step) = next {
            next = step.step();
        }
        // the fire at the greatest depth runs what deeper ones have queued
        if deeper.0 + 1 != MAX_DEPTH {
            break;
        }
        next = QUEUE.try_with(|queue| queue.borrow_mut().pop_front()).ok().flatten();
        if next.is_none() {
            break;
        }
    }
}

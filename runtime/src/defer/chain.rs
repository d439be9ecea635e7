//! The shared cell of a Deferred, and the one loop that runs callbacks.
//!
//! A pending Deferred is a chain of *sources*. Each has a [`Slot`], where its outcome will lie;
//! whoever waits for a source is a [`Step`] in that slot. Firing wakes the step, which *pulls* the
//! outcome out of the slot, runs its piece of user code, fills its own slot and hands back the next
//! step. So a chain of any length runs in one loop, and a value never needs a place of its own on
//! the way.
//!
//! ```text
//!              wait(step)                 fill(outcome)                take()
//!   Empty ───────────────▶ Waiting ───────────────────▶ Done ───────────────▶ Taken
//!     │ │                                                ▲                     (a later fill drops its value)
//!     │ └─────────────────── fill(outcome) ──────────────┘
//!     └──── detach() ────▶ Detached ── fill(outcome) ──▶ Taken                     (the outcome ends here: a failure is reported)
//! ```
//!
//! While a link is pending its two ends hold each other: the slot owns the step, so that callbacks
//! run although nobody kept the Deferred, and the step owns the source, so that it can pull. Every
//! fire takes both ends apart, and a [`Resolver`](super::Resolver) always fires, at the latest when
//! it is dropped.
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

/// An eventual outcome.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// How deep fires nest on the stack; deeper ones are queued, and done before the fire at this depth
/// returns.
const MAX_DEPTH: u32 = 64;

/// Something that waits: it is stepped when the source it waits for has its outcome.
pub(crate) trait Step {
    /// Does one piece of work and returns whoever is to be stepped next.
    fn step(self: Rc<Self>) -> Option<Rc<dyn Step>>;

    /// From now on the source is the one in `source`, an `Option<Rc<dyn Node<T>>>` for the `T`
    /// that this step waits for; the caller puts the step into its slot. `false`: this step cannot
    /// be moved. A coroutine cannot, since its wait lies in the user's frame.
    fn adopt(&self, source: &mut dyn Any) -> bool {
        let _ = source;
        false
    }
}

/// A source of a `T`.
pub(crate) trait Node<T>: CancelNode {
    fn slot(&self) -> &Slot<T>;
}

/// Where a source's outcome lies, and who waits for it.
pub(crate) struct Slot<T> {
    /// Borrowed for a look or an exchange, never while user code runs.
    state: RefCell<SlotState<T>>,
    /// The line that made the source, for the report of a failure that nobody took.
    created_at: &'static Location<'static>,
}

enum SlotState<T> {
    Empty,
    Step(Rc<dyn Step>),
    Waker(Waker),
    /// Its Deferred was dropped: nobody will take the outcome.
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

    /// What [`debug`] knows the source by.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Takes the outcome, if it is there.
    #[inline]
    pub(crate) fn take(&self) -> Option<Outcome<T>> {
        let mut state = self.state.borrow_mut();
        // looked at first: nearly every other call finds nothing, and moves nothing
        if !matches!(*state, SlotState::Done(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, SlotState::Taken) {
            SlotState::Done(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Takes an outcome that lies here back, as if it had not come.
    pub(crate) fn take_back(&self) -> Option<Outcome<T>> {
        let outcome = self.take();
        if outcome.is_some() {
            self.state.replace(SlotState::Empty);
        }
        outcome
    }

    /// Whether the source has had its outcome, taken or not.
    pub(crate) fn is_fired(&self) -> bool {
        matches!(*self.state.borrow(), SlotState::Done(_) | SlotState::Taken)
    }

    /// Whether a callback or a coroutine waits here.
    pub(crate) fn has_step(&self) -> bool {
        matches!(*self.state.borrow(), SlotState::Step(_))
    }

    /// Shows the outcome that lies here.
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

    /// Lets `step` wait here; what waited here before (an earlier poll of the same await) goes.
    pub(crate) fn wait(&self, step: Rc<dyn Step>) {
        debug_assert!(!self.is_fired(), "nobody waits at a slot that has been filled");
        let before = self.state.replace(SlotState::Step(step));
        if !matches!(before, SlotState::Empty) {
            drop_guarded(before);
        }
    }

    /// Lets a foreign task wait here.
    pub(crate) fn wait_waker(&self, waker: &Waker) {
        if !matches!(&*self.state.borrow(), SlotState::Waker(known) if known.will_wake(waker)) {
            // user code: a foreign waker's clone and drop. The clone may fire this very Deferred
            let waker = waker.clone();
            if !self.is_fired() {
                drop_guarded(self.state.replace(SlotState::Waker(waker)));
            }
        }
    }

    /// Whoever was to take the outcome is gone; the source goes on. What lies here ends now,
    /// whoever else keeps the source: a Resolver may.
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

    /// Takes the step that waits here, to hand it to another source.
    pub(crate) fn take_step(&self) -> Option<Rc<dyn Step>> {
        if !self.has_step() {
            return None;
        }
        match self.state.replace(SlotState::Empty) {
            SlotState::Step(step) => Some(step),
            _ => None,
        }
    }

    /// Puts the outcome in and returns whoever is to be stepped. If there is an outcome already,
    /// this one is dropped in silence.
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

/// Drops an outcome that nobody takes; a failure is reported.
///
/// Not reported: a [`CancelledError`], because somebody asked for it, and an [`AbandonedError`]
/// that has passed no callback and no coroutine, because then nobody was waiting.
pub(crate) fn discard_outcome<T>(outcome: Outcome<T>, created_at: &'static Location<'static>) {
    discard_from_slot(outcome, created_at, 0);
}

/// The same, for an outcome that lay in the slot at `address`.
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

/// Steps `first` and everybody that this wakes in turn.
///
/// One loop, because a chain of a million links must not need a million stack frames. User code
/// inside a step may fire again: such a call nests on the stack up to [`MAX_DEPTH`] and is queued
/// beyond.
pub(crate) fn run(first: Rc<dyn Step>) {
    if DEPTH.get() >= MAX_DEPTH {
        let first = QUEUE
            .try_with(|queue| queue.borrow_mut().push_back(first.clone()))
            .map_or(Some(first), |()| None);
        // while the thread's storage is torn down there is no queue
        return first.map_or((), run_now);
    }
    run_now(first);
}

/// [`run`] whatever the depth: for a step that has to be done when this returns.
pub(crate) fn run_now(first: Rc<dyn Step>) {
    /// Counts the depth, also when something unwinds.
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
        // the fire at the greatest depth does what deeper ones have queued
        if deeper.0 + 1 != MAX_DEPTH {
            break;
        }
        next = QUEUE.try_with(|queue| queue.borrow_mut().pop_front()).ok().flatten();
        if next.is_none() {
            break;
        }
    }
}

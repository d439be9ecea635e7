//! A callback node: one allocation that is both the consumer of the node before it and the node
//! whose outcome the callback produces.
//!
//! ```text
//!   Gated(f) ── open ──▶ Opened(f, outcome) ── step: as below
//!
//!                                    f returned a result, which fills the slot
//!   Call(f, source) ── step ──▶ Running ─────────────────────────────────────────▶ Finished
//!                       run f      │                                                  ▲
//!                                  └──▶ Follow(inner) ──────────── step ──────────────┘
//!                                    f returned a pending Deferred
//! ```
//! When a callback returns a Deferred, the node *follows* that Deferred's node. The consumer is
//! then moved to the inner node where possible, and the outer node is dropped. So an endless loop
//! of callbacks that each return the next Deferred needs two nodes and no more.
use super::{
    cancel_node::{Awaiting, CancelNode, cancel_from},
    chain::{Node, Outcome, Slot, Step, run},
    debug,
    deferred::{Deferred, DeferredState, IntoDeferred},
};
use crate::{
    error::{CancelledError, CircularChainError},
    failure::{Failure, Frame, enter_function},
    report::{drop_guarded, panicked},
};
use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    rc::Rc,
};

/// The function of a callback node: converts the outcome before it into the Deferred after it.
pub(crate) trait Callback<T, U>: 'static {
    fn call(self, outcome: Outcome<T>, created_at: &'static Location<'static>) -> Deferred<U>;

    /// Returns the traceback frame of the function that the user wrote.
    fn frame(created_at: &'static Location<'static>) -> Frame;
}

/// A callback for the value; a failure skips it.
pub(crate) struct OnValue<F>(pub(crate) F);
/// A callback for the failure; a value skips it.
pub(crate) struct OnFailure<F>(pub(crate) F);
/// One function for both value and failure.
pub(crate) struct OnBoth<F>(pub(crate) F);
/// A function that receives failures. A failure that it returns unchanged has passed it, and gets
/// its frame.
pub(crate) struct Seen<C>(pub(crate) C);

impl<T, U, C: Callback<T, U>> Callback<T, U> for Seen<C> {
    fn call(self, outcome: Outcome<T>, created_at: &'static Location<'static>) -> Deferred<U> {
        let Err(failure) = &outcome else { return self.0.call(outcome, created_at) };
        let went_in = failure.clone();
        match self.0.call(outcome, created_at).settle() {
            DeferredState::Ready(Err(failure)) if failure.is_same(&went_in) => {
                // dropped first: the remaining reference is unique, and the frame is added without
                // a copy
                drop(went_in);
                Deferred::ready(Err(failure.passing(C::frame(created_at))), created_at)
            }
            DeferredState::Ready(outcome) => Deferred::ready(outcome, created_at),
            DeferredState::Pending(source) => Deferred::pending(source),
        }
    }

    fn frame(created_at: &'static Location<'static>) -> Frame {
        C::frame(created_at)
    }
}

/// One function for the value and another for the failure.
pub(crate) struct OnEither<F, G>(pub(crate) F, pub(crate) G);

impl<T, U, F, R> Callback<T, U> for OnValue<F>
where
    F: FnOnce(T) -> R + 'static,
    R: IntoDeferred<Value = U>,
{
    fn call(self, outcome: Outcome<T>, created_at: &'static Location<'static>) -> Deferred<U> {
        for_value(self.0, outcome, created_at, |f, value| f(value).into_deferred())
    }

    fn frame(created_at: &'static Location<'static>) -> Frame {
        Frame::of_closure::<F>(created_at)
    }
}

impl<T, F, R> Callback<T, T> for OnFailure<F>
where
    F: FnOnce(Failure) -> R + 'static,
    R: IntoDeferred<Value = T>,
{
    fn call(self, outcome: Outcome<T>, created_at: &'static Location<'static>) -> Deferred<T> {
        match outcome {
            Err(failure) => (self.0)(failure).into_deferred(),
            value => {
                drop_guarded(self.0);
                Deferred::ready(value, created_at)
            }
        }
    }

    fn frame(created_at: &'static Location<'static>) -> Frame {
        Frame::of_closure::<F>(created_at)
    }
}

impl<T, U, F, R> Callback<T, U> for OnBoth<F>
where
    F: FnOnce(Outcome<T>) -> R + 'static,
    R: IntoDeferred<Value = U>,
{
    fn call(self, outcome: Outcome<T>, _made: &'static Location<'static>) -> Deferred<U> {
        (self.0)(outcome).into_deferred()
    }

    fn frame(created_at: &'static Location<'static>) -> Frame {
        Frame::of_closure::<F>(created_at)
    }
}

impl<T, U, F, G, R, S> Callback<T, U> for OnEither<F, G>
where
    F: FnOnce(T) -> R + 'static,
    R: IntoDeferred<Value = U>,
    G: FnOnce(Failure) -> S + 'static,
    S: IntoDeferred<Value = U>,
{
    fn call(self, outcome: Outcome<T>, _made: &'static Location<'static>) -> Deferred<U> {
        match outcome {
            Ok(value) => {
                drop_guarded(self.1);
                (self.0)(value).into_deferred()
            }
            Err(failure) => {
                drop_guarded(self.0);
                (self.1)(failure).into_deferred()
            }
        }
    }

    fn frame(created_at: &'static Location<'static>) -> Frame {
        Frame::of_closure::<F>(created_at)
    }
}

pub(crate) struct Then<T, U, F> {
    state: Cell<CallbackState<T, U, F>>,
    slot: Slot<U>,
    /// A cancellation that arrived while the callback ran.
    pending_cancel: Cell<Option<Box<CancelledError>>>,
}

enum CallbackState<T, U, F> {
    Call(F, Rc<dyn Node<T>>),
    /// In a queue, which will open it.
    Gated(F),
    /// Opened by the queue, with the outcome to run with.
    Opened(F, Outcome<T>),
    Running,
    Follow(Rc<dyn Node<U>>),
    Finished,
}

impl<T: 'static, U: 'static, F> Then<T, U, F>
where
    F: Callback<T, U>,
{
    /// Creates the node of callback `f` on `upstream`.
    pub(crate) fn attach(
        upstream: Rc<dyn Node<T>>,
        f: F,
        created_at: &'static Location<'static>,
    ) -> Rc<dyn Node<U>> {
        let node = Rc::new(Self {
            state: Cell::new(CallbackState::Running),
            slot: Slot::new(created_at),
            pending_cancel: Cell::new(None),
        });
        upstream.slot().wait(node.clone());
        node.state.set(CallbackState::Call(f, upstream));
        debug::note(
            &node,
            node.slot.address(),
            "callback",
            || F::frame(created_at).function(),
            created_at,
        );
        node
    }

    /// Creates the node of a callback that runs when a queue opens it.
    pub(super) fn gated(f: F, created_at: &'static Location<'static>) -> Rc<Self> {
        let node = Rc::new(Self {
            state: Cell::new(CallbackState::Gated(f)),
            slot: Slot::new(created_at),
            pending_cancel: Cell::new(None),
        });
        debug::note(
            &node,
            node.slot.address(),
            "callback",
            || F::frame(created_at).function(),
            created_at,
        );
        node
    }

    /// Runs the callback of a gated node with `outcome`, once. Returns `false` if it has run
    /// before.
    pub(super) fn open(&self, outcome: Outcome<T>) -> bool {
        match self.state.replace(CallbackState::Running) {
            CallbackState::Gated(f) => {
                self.state.set(CallbackState::Opened(f, outcome));
                true
            }
            other => {
                self.state.set(other);
                drop_guarded(outcome);
                false
            }
        }
    }

    /// Runs the callback with the outcome of the awaited node.
    fn run(self: Rc<Self>, f: F, outcome: Outcome<T>) -> Option<Rc<dyn Step>> {
        match call(f, outcome, self.slot.created_at()).settle() {
            DeferredState::Ready(outcome) => self.finish(outcome),
            DeferredState::Pending(inner) => self.follow(inner),
        }
    }

    fn peek<R>(&self, look: impl FnOnce(&CallbackState<T, U, F>) -> R) -> R {
        let state = self.state.replace(CallbackState::Running);
        let seen = look(&state);
        self.state.set(state);
        seen
    }

    #[inline]
    fn finish(&self, outcome: Outcome<U>) -> Option<Rc<dyn Step>> {
        self.state.set(CallbackState::Finished);
        self.pending_cancel.take();
        self.slot.fill(outcome)
    }

    fn follow(self: Rc<Self>, inner: Rc<dyn Node<U>>) -> Option<Rc<dyn Step>> {
        if Rc::as_ptr(&inner).cast::<()>() == Rc::as_ptr(&self).cast::<()>() {
            drop(inner);
            return self.finish(Err(CircularChainError::new().into()));
        }
        let pending_cancel = self.pending_cancel.take();
        let again = pending_cancel.is_some().then(|| inner.clone() as Rc<dyn CancelNode>);
        // a CancelHandle that refers to this node must still find the inner one through it
        let named =
            Rc::weak_count(&self) > 0 && Rc::weak_count(&self) > debug::notes(self.slot.address());
        let waiter = if named { None } else { self.slot.take_step() };
        if let Some(waiter) = waiter {
            if waiter.adopt(&mut Some(inner.clone())) {
                self.state.set(CallbackState::Finished);
                inner.slot().wait(waiter);
            } else {
                self.slot.wait(waiter);
                self.state.set(CallbackState::Follow(inner.clone()));
                inner.slot().wait(self.clone());
            }
        } else {
            self.state.set(CallbackState::Follow(inner.clone()));
            inner.slot().wait(self.clone());
        }
        drop(self);
        if let (Some(inner), Some(why)) = (again, pending_cancel) {
            cancel_from(inner, &why);
        }
        None
    }
}

impl<T: 'static, U: 'static, F> Step for Then<T, U, F>
where
    F: Callback<T, U>,
{
    fn step(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        match self.state.replace(CallbackState::Running) {
            CallbackState::Call(f, upstream) => {
                let Some(outcome) = upstream.slot().take() else {
                    self.state.set(CallbackState::Call(f, upstream));
                    return None;
                };
                drop(upstream);
                self.run(f, outcome)
            }
            CallbackState::Opened(f, outcome) => self.run(f, outcome),
            CallbackState::Follow(inner) => {
                let Some(outcome) = inner.slot().take() else {
                    self.state.set(CallbackState::Follow(inner));
                    return None;
                };
                drop(inner);
                self.finish(outcome)
            }
            other => {
                self.state.set(other);
                None
            }
        }
    }

    fn adopt(&self, source: &mut dyn Any) -> bool {
        let state = self.state.replace(CallbackState::Running);
        let (state, old) = match state {
            CallbackState::Call(f, old) => match source.downcast_mut().and_then(Option::take) {
                Some(new) => (CallbackState::Call(f, new), Some(old as Rc<dyn CancelNode>)),
                None => (CallbackState::Call(f, old), None),
            },
            CallbackState::Follow(old) => match source.downcast_mut().and_then(Option::take) {
                Some(new) => (CallbackState::Follow(new), Some(old as Rc<dyn CancelNode>)),
                None => (CallbackState::Follow(old), None),
            },
            other => (other, None),
        };
        self.state.set(state);
        old.is_some()
    }
}

impl<T: 'static, U: 'static, F> CancelNode for Then<T, U, F>
where
    F: Callback<T, U>,
{
    fn awaiting(&self) -> Awaiting {
        self.peek(|state| match state {
            CallbackState::Call(_, upstream) => Awaiting::One(upstream.clone()),
            CallbackState::Follow(inner) => Awaiting::One(inner.clone()),
            CallbackState::Gated(_) => Awaiting::Nothing,
            CallbackState::Running | CallbackState::Opened(..) => Awaiting::Running,
            CallbackState::Finished => Awaiting::Finished,
        })
    }

    fn defer_cancel(&self, why: &CancelledError) {
        self.pending_cancel.set(Some(Box::new(why.clone())));
    }

    fn cancel_leaf(self: Rc<Self>, why: &CancelledError) {
        // the queue finds the callback finished when its turn comes
        if self.open(Err(why.clone().into())) {
            run(self);
        }
    }

    fn following(&self) -> Option<*const ()> {
        self.peek(|state| match state {
            CallbackState::Follow(inner) => Some(Rc::as_ptr(inner).cast()),
            _ => None,
        })
    }
}

impl<T: 'static, U: 'static, F> Node<U> for Then<T, U, F>
where
    F: Callback<T, U>,
{
    fn slot(&self) -> &Slot<U> {
        &self.slot
    }
}

/// Runs the user code of a callback. A panic becomes a failed Deferred.
pub(crate) fn call<T, U, F: Callback<T, U>>(
    f: F,
    outcome: Outcome<T>,
    created_at: &'static Location<'static>,
) -> Deferred<U> {
    let before = enter_function(F::frame(created_at).raw_function());
    // user code
    let given = catch_unwind(AssertUnwindSafe(|| f.call(outcome, created_at)));
    enter_function(before);
    given.unwrap_or_else(|payload| {
        Deferred::ready(Err(panicked(payload, F::frame(created_at))), created_at)
    })
}

/// Applies `run` to a value, and adds the callback's frame to a failure.
pub(crate) fn for_value<T, U, F>(
    f: F,
    outcome: Outcome<T>,
    created_at: &'static Location<'static>,
    run: impl FnOnce(F, T) -> Deferred<U>,
) -> Deferred<U> {
    match outcome {
        Ok(value) => run(f, value),
        Err(failure) => {
            drop_guarded(f);
            Deferred::ready(Err(failure.passing(Frame::of_closure::<F>(created_at))), created_at)
        }
    }
}

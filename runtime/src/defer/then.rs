//! A callback: one allocation that is at once the one who waits for what stands before it and the
//! source of what comes after.
//!
//! ```text
//!   Gated(f) ── open ──▶ Opened(f, outcome) ── step: as below
//!   Call(f, upstream) ── step: pull, run f ──▶ Running ──▶ Over                   f gave a result: it lies in the slot
//!                                                 └──▶ Follow(inner) ── step ──▶ Over      f gave a Deferred that is pending
//! ```
//! Whoever waits for a node that begins to follow is handed over to the inner source if it can be,
//! and the node is gone: an endless loop of callbacks that each return the next Deferred needs two
//! nodes and no more.
use super::{
    cancel_node::{Awaiting, CancelNode, cancel_from},
    chain::{Node, Outcome, Slot, Step, run},
    debug,
    deferred::{Deferred, IntoDeferred, State},
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

/// What stands in a chain: takes the outcome before it and makes the Deferred after it.
pub(crate) trait Callback<T, U>: 'static {
    fn call(self, outcome: Outcome<T>, created_at: &'static Location<'static>) -> Deferred<U>;

    /// The frame for the function that the user wrote.
    fn frame(created_at: &'static Location<'static>) -> Frame;
}

/// A callback for the value; a failure passes it.
pub(crate) struct OnValue<F>(pub(crate) F);
/// A callback for the failure; a value passes it.
pub(crate) struct OnFailure<F>(pub(crate) F);
/// One function for both.
pub(crate) struct OnBoth<F>(pub(crate) F);
/// A function that sees failures: one that comes out as it went in has passed it, and gets its
/// frame.
pub(crate) struct Seen<C>(pub(crate) C);

impl<T, U, C: Callback<T, U>> Callback<T, U> for Seen<C> {
    fn call(self, outcome: Outcome<T>, created_at: &'static Location<'static>) -> Deferred<U> {
        let Err(failure) = &outcome else { return self.0.call(outcome, created_at) };
        let went_in = failure.clone();
        match self.0.call(outcome, created_at).settle() {
            State::Ready(Err(failure)) if failure.is_same(&went_in) => {
                // alone again, so that the frame is added without a copy
                drop(went_in);
                Deferred::ready(Err(failure.passing(C::frame(created_at))), created_at)
            }
            State::Ready(outcome) => Deferred::ready(outcome, created_at),
            State::Pending(source) => Deferred::pending(source),
        }
    }

    fn frame(created_at: &'static Location<'static>) -> Frame {
        C::frame(created_at)
    }
}

/// A function for each.
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
    stage: Cell<Stage<T, U, F>>,
    slot: Slot<U>,
    /// A cancel that came while the callback ran.
    kept: Cell<Option<Box<CancelledError>>>,
}

enum Stage<T, U, F> {
    Call(F, Rc<dyn Node<T>>),
    /// It waits in a queue, which opens it.
    Gated(F),
    /// The queue has opened it, with what it goes on with.
    Opened(F, Outcome<T>),
    Running,
    Follow(Rc<dyn Node<U>>),
    Over,
}

impl<T: 'static, U: 'static, F> Then<T, U, F>
where
    F: Callback<T, U>,
{
    /// Puts `f` behind `upstream`.
    pub(crate) fn attach(
        upstream: Rc<dyn Node<T>>,
        f: F,
        created_at: &'static Location<'static>,
    ) -> Rc<dyn Node<U>> {
        let node = Rc::new(Self {
            stage: Cell::new(Stage::Running),
            slot: Slot::new(created_at),
            kept: Cell::new(None),
        });
        upstream.slot().wait(node.clone());
        node.stage.set(Stage::Call(f, upstream));
        debug::note(
            &node,
            node.slot.address(),
            "callback",
            || F::frame(created_at).function(),
            created_at,
        );
        node
    }

    /// A callback that waits for a queue to open it.
    pub(super) fn gated(f: F, created_at: &'static Location<'static>) -> Rc<Self> {
        let node = Rc::new(Self {
            stage: Cell::new(Stage::Gated(f)),
            slot: Slot::new(created_at),
            kept: Cell::new(None),
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

    /// Runs the callback of a gated node with `outcome`; once, whoever asks for it.
    pub(super) fn open(&self, outcome: Outcome<T>) -> bool {
        match self.stage.replace(Stage::Running) {
            Stage::Gated(f) => {
                self.stage.set(Stage::Opened(f, outcome));
                true
            }
            other => {
                self.stage.set(other);
                drop_guarded(outcome);
                false
            }
        }
    }

    /// Runs the callback with what it has waited for.
    fn run(self: Rc<Self>, f: F, outcome: Outcome<T>) -> Option<Rc<dyn Step>> {
        match call(f, outcome, self.slot.created_at()).settle() {
            State::Ready(outcome) => self.finish(outcome),
            State::Pending(inner) => self.follow(inner),
        }
    }

    fn peek<R>(&self, look: impl FnOnce(&Stage<T, U, F>) -> R) -> R {
        let stage = self.stage.replace(Stage::Running);
        let seen = look(&stage);
        self.stage.set(stage);
        seen
    }

    #[inline]
    fn finish(&self, outcome: Outcome<U>) -> Option<Rc<dyn Step>> {
        self.stage.set(Stage::Over);
        self.kept.take();
        self.slot.fill(outcome)
    }

    fn follow(self: Rc<Self>, inner: Rc<dyn Node<U>>) -> Option<Rc<dyn Step>> {
        if Rc::as_ptr(&inner).cast::<()>() == Rc::as_ptr(&self).cast::<()>() {
            drop(inner);
            return self.finish(Err(CircularChainError::new().into()));
        }
        let kept = self.kept.take();
        let again = kept.is_some().then(|| inner.clone() as Rc<dyn CancelNode>);
        // a CancelHandle that names this node must find the way on through it
        let named =
            Rc::weak_count(&self) > 0 && Rc::weak_count(&self) > debug::notes(self.slot.address());
        let waiter = if named { None } else { self.slot.take_step() };
        if let Some(waiter) = waiter {
            if waiter.adopt(&mut Some(inner.clone())) {
                self.stage.set(Stage::Over);
                inner.slot().wait(waiter);
            } else {
                self.slot.wait(waiter);
                self.stage.set(Stage::Follow(inner.clone()));
                inner.slot().wait(self.clone());
            }
        } else {
            self.stage.set(Stage::Follow(inner.clone()));
            inner.slot().wait(self.clone());
        }
        drop(self);
        if let (Some(inner), Some(why)) = (again, kept) {
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
        match self.stage.replace(Stage::Running) {
            Stage::Call(f, upstream) => {
                let Some(outcome) = upstream.slot().take() else {
                    self.stage.set(Stage::Call(f, upstream));
                    return None;
                };
                drop(upstream);
                self.run(f, outcome)
            }
            Stage::Opened(f, outcome) => self.run(f, outcome),
            Stage::Follow(inner) => {
                let Some(outcome) = inner.slot().take() else {
                    self.stage.set(Stage::Follow(inner));
                    return None;
                };
                drop(inner);
                self.finish(outcome)
            }
            other => {
                self.stage.set(other);
                None
            }
        }
    }

    fn adopt(&self, source: &mut dyn Any) -> bool {
        let stage = self.stage.replace(Stage::Running);
        let (stage, old) = match stage {
            Stage::Call(f, old) => match source.downcast_mut().and_then(Option::take) {
                Some(new) => (Stage::Call(f, new), Some(old as Rc<dyn CancelNode>)),
                None => (Stage::Call(f, old), None),
            },
            Stage::Follow(old) => match source.downcast_mut().and_then(Option::take) {
                Some(new) => (Stage::Follow(new), Some(old as Rc<dyn CancelNode>)),
                None => (Stage::Follow(old), None),
            },
            other => (other, None),
        };
        self.stage.set(stage);
        old.is_some()
    }
}

impl<T: 'static, U: 'static, F> CancelNode for Then<T, U, F>
where
    F: Callback<T, U>,
{
    fn awaiting(&self) -> Awaiting {
        self.peek(|stage| match stage {
            Stage::Call(_, upstream) => Awaiting::One(upstream.clone()),
            Stage::Follow(inner) => Awaiting::One(inner.clone()),
            Stage::Gated(_) => Awaiting::Nothing,
            Stage::Running | Stage::Opened(..) => Awaiting::Running,
            Stage::Over => Awaiting::Finished,
        })
    }

    fn defer_cancel(&self, why: &CancelledError) {
        self.kept.set(Some(Box::new(why.clone())));
    }

    fn cancel_leaf(self: Rc<Self>, why: &CancelledError) {
        // it waits in a queue, which finds it run when its turn comes
        if self.open(Err(why.clone().into())) {
            run(self);
        }
    }

    fn following(&self) -> Option<*const ()> {
        self.peek(|stage| match stage {
            Stage::Follow(inner) => Some(Rc::as_ptr(inner).cast()),
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

/// Runs one piece of user code of a chain: what it gives, or a failed Deferred if it panics.
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

/// What every callback for the value does with an outcome: `f` takes a value through `run`, a
/// failure passes.
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

//! Gated callbacks: a place in a queue together with the Deferred of its result, in one allocation.
use super::{
    chain::{Outcome, Step, run_now},
    deferred::Deferred,
    resolver::abandoned,
    then::{Callback, Then},
};
use crate::failure::Failure;
use std::{panic::Location, rc::Rc};

/// A gated callback, type-erased.
trait Gate: Step {
    /// Runs the callback with `outcome`. Returns `false` if it has run already, or was cancelled.
    fn open(&self, outcome: Outcome<()>) -> bool;
}

impl<U: 'static, F: Callback<(), U>> Gate for Then<(), U, F> {
    fn open(&self, outcome: Outcome<()>) -> bool {
        Self::open(self, outcome)
    }
}

/// The queue's end of a gated callback. Dropping it unopened fails the Deferred with
/// [`AbandonedError`](crate::error::AbandonedError).
pub(crate) struct Ticket {
    gate: Option<Rc<dyn Gate>>,
    created_at: &'static Location<'static>,
}

impl Ticket {
    /// Runs the callback at any depth of nested fires: it has run when this returns.
    pub(crate) fn open(mut self) {
        self.run_with(Ok(()));
    }

    /// Fails the Deferred; the callback is dropped without running.
    pub(crate) fn refuse(mut self, failure: Failure) {
        self.run_with(Err(failure));
    }

    fn run_with(&mut self, outcome: Outcome<()>) {
        if let Some(gate) = self.gate.take()
            && gate.open(outcome)
        {
            run_now(gate);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.gate.is_some() {
            self.run_with(Err(abandoned(self.created_at)));
        }
    }
}

impl<U: 'static> Deferred<U> {
    /// Creates the Deferred of `f`, which runs when the ticket is opened.
    pub(crate) fn gated(
        f: impl Callback<(), U>,
        created_at: &'static Location<'static>,
    ) -> (Self, Ticket) {
        let node = Then::gated(f, created_at);
        (Self::pending(node.clone()), Ticket { gate: Some(node), created_at })
    }
}

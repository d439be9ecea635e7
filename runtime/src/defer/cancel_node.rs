//! Walks from a Deferred to what it awaits, to deliver a cancellation or an external waker.
use crate::error::{CancelledBy, CancelledError};
use std::{panic::Location, rc::Rc, task::Waker};

/// What a node awaits, which is where a cancellation goes.
pub(crate) enum Awaiting {
    /// Nothing: a leaf, or a coroutine that awaits a future other than a Deferred. A cancellation
    /// ends this node itself.
    Nothing,
    /// One other node.
    One(Rc<dyn CancelNode>),
    /// Several other nodes, which are cancelled in this order.
    Many(Vec<Rc<dyn CancelNode>>),
    /// Nothing yet, because its user code is running. A cancellation is kept for what that code
    /// awaits next.
    Running,
    /// Nothing any more: the node has its outcome.
    Finished,
}

/// The untyped side of a node: what it awaits, and how it is cancelled.
pub(crate) trait CancelNode {
    fn awaiting(&self) -> Awaiting;

    /// Keeps a cancellation that found the node [`Awaiting::Running`].
    fn defer_cancel(&self, why: &CancelledError);

    /// Cancels a node that is [`Awaiting::Nothing`].
    fn cancel_leaf(self: Rc<Self>, why: &CancelledError);

    /// Returns the node whose result this callback passes on, if the callback returned a Deferred,
    /// for the debug text.
    fn following(&self) -> Option<*const ()> {
        None
    }

    /// Offers the waker of an executor that polls a result further down the chain. A coroutine in a
    /// foreign await adopts it.
    fn set_external_waker(self: Rc<Self>, waker: &Waker) {
        let _ = waker;
    }
}

/// Visits `from` and all that it awaits, directly or not, in the order of the awaits and without
/// recursion.
fn walk(from: Rc<dyn CancelNode>, mut visit: impl FnMut(Rc<dyn CancelNode>, &Awaiting)) {
    // a stack of the nodes still to visit
    let mut ways = vec![from];
    let mut circle = Circle::default();
    while let Some(at) = ways.pop() {
        if circle.closes(&at) {
            continue;
        }
        let up = at.awaiting();
        match &up {
            Awaiting::One(up) => ways.push(up.clone()),
            Awaiting::Many(ups) => ways.extend(ups.iter().rev().cloned()),
            Awaiting::Nothing | Awaiting::Running | Awaiting::Finished => {}
        }
        visit(at, &up);
    }
}

/// Cancels the innermost nodes that `from` awaits and that have not fired.
pub(crate) fn cancel_from(from: Rc<dyn CancelNode>, why: &CancelledError) {
    walk(from, |at, up| match up {
        Awaiting::Nothing => at.cancel_leaf(why),
        Awaiting::Running => at.defer_cancel(why),
        Awaiting::One(_) | Awaiting::Many(_) | Awaiting::Finished => {}
    });
}

/// Offers `waker` to every coroutine that `from` awaits. A coroutine that awaits a Deferred is
/// included, because its next await may be a foreign one.
pub(crate) fn set_external_waker(from: Rc<dyn CancelNode>, waker: &Waker) {
    walk(from, |at, _| at.set_external_waker(waker));
}

/// Detects a circle during a walk in constant memory: it remembers one node, and replaces it
/// whenever the number of steps reaches a power of two.
#[derive(Default)]
struct Circle {
    remembered: Option<*const ()>,
    steps: u64,
}

impl Circle {
    fn closes(&mut self, at: &Rc<dyn CancelNode>) -> bool {
        let here = Rc::as_ptr(at).cast();
        if self.remembered == Some(here) {
            return true;
        }
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.remembered = Some(here);
        }
        false
    }
}

/// Creates the error of a `cancel` that was called at `place`.
pub(crate) fn cancelled_at(place: &'static Location<'static>) -> CancelledError {
    CancelledError::at(CancelledBy::Caller, place)
}

//! What stands upstream of a source: the way of a cancel, and of a waker from outside.
use crate::error::{CancelledBy, CancelledError};
use std::{panic::Location, rc::Rc, task::Waker};

/// What lies upstream of a source: the way that a cancel takes.
pub(crate) enum Awaiting {
    /// Nothing: this is a leaf, or a coroutine in a foreign await. It is the one to be forced.
    Nothing,
    /// It waits for this one.
    One(Rc<dyn CancelNode>),
    /// It waits for these, in this order.
    Many(Vec<Rc<dyn CancelNode>>),
    /// Its user code runs right now: the cancel is kept for what that code waits for next.
    Running,
    /// It has its outcome.
    Finished,
}

/// The untyped side of a source: where it stands in the chain, and how it is cancelled.
pub(crate) trait CancelNode {
    fn awaiting(&self) -> Awaiting;

    /// Keeps a cancel that met [`Awaiting::Running`].
    fn defer_cancel(&self, why: &CancelledError);

    /// Ends the source that is [`Awaiting::Nothing`].
    fn cancel_leaf(self: Rc<Self>, why: &CancelledError);

    /// The source that a callback's result comes from, where that is another Deferred: for the
    /// debug text.
    fn following(&self) -> Option<*const ()> {
        None
    }

    /// An executor outside polls what hangs on this source, with this waker: a coroutine in a
    /// foreign await takes it as its own.
    fn set_external_waker(self: Rc<Self>, waker: &Waker) {
        let _ = waker;
    }
}

/// Walks up from `from`, in a loop, in the order in which things are waited for, and shows each
/// place with what lies upstream of it.
fn walk(from: Rc<dyn CancelNode>, mut visit: impl FnMut(Rc<dyn CancelNode>, &Awaiting)) {
    // the ways still to walk, the next one last
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

/// Cancels `from`: ends the innermost sources that are not fired.
pub(crate) fn cancel_from(from: Rc<dyn CancelNode>, why: &CancelledError) {
    walk(from, |at, up| match up {
        Awaiting::Nothing => at.cancel_leaf(why),
        Awaiting::Running => at.defer_cancel(why),
        Awaiting::One(_) | Awaiting::Many(_) | Awaiting::Finished => {}
    });
}

/// Offers `waker` to every coroutine that `from` hangs on; also to those that wait for a Deferred
/// now, since their next wait may be a foreign one.
pub(crate) fn set_external_waker(from: Rc<dyn CancelNode>, waker: &Waker) {
    walk(from, |at, _| at.set_external_waker(waker));
}

/// Notices that a walk goes in a circle, in constant memory: it remembers one place, a new one at
/// each power of two of the steps.
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

/// The error of a `cancel` called at `place`.
pub(crate) fn cancelled_at(place: &'static Location<'static>) -> CancelledError {
    CancelledError::new(CancelledBy::Caller, place)
}

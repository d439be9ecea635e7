//! A gate in a chain, in which results wait while it is paused.
use super::{
    cancel_node::{Awaiting, CancelNode},
    chain::{Node, Outcome, Slot, Step, run},
    debug,
    deferred::{Deferred, DeferredState},
};
use crate::error::CancelledError;
use std::{
    cell::Cell,
    fmt,
    panic::Location,
    rc::{Rc, Weak},
};

/// The handle that pauses a chain, returned by [`Deferred::pausable`] beside the Deferred. Pauses
/// are counted.
///
/// Clones control the same gate. When the last of them is dropped, the gate opens for good.
#[derive(Clone)]
pub struct Pause(Rc<Opener>);

/// The gate behind the handle, type-erased.
struct Opener(Weak<dyn Hold>);

trait Hold {
    fn pause(&self);
    /// Removes one pause, or all.
    fn unpause(self: Rc<Self>, all: bool);
}

impl Pause {
    /// Pauses the chain: results that have arrived and were not taken, or arrive later, wait in the
    /// gate.
    pub fn pause(&self) {
        if let Some(gate) = self.0.0.upgrade() {
            gate.pause();
        }
    }

    /// Reverses one [`pause`](Self::pause). Reversing the last one delivers a waiting result before
    /// this returns. Without a pause this does nothing.
    pub fn unpause(&self) {
        if let Some(gate) = self.0.0.upgrade() {
            gate.unpause(false);
        }
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        if let Some(gate) = self.0.upgrade() {
            gate.unpause(true);
        }
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Pause>")
    }
}

struct Gate<T> {
    upstream: Cell<Option<Rc<dyn Node<T>>>>,
    /// The outcome that arrived while the gate was closed.
    held: Cell<Option<Outcome<T>>>,
    pauses: Cell<u32>,
    slot: Slot<T>,
}

impl<T: 'static> Gate<T> {
    /// Passes the outcome on, or stores it while the gate is closed.
    fn on_result(&self, outcome: Outcome<T>) -> Option<Rc<dyn Step>> {
        if self.pauses.get() > 0 {
            self.held.set(Some(outcome));
            None
        } else {
            self.slot.fill(outcome)
        }
    }

    fn waits(&self) -> Option<Rc<dyn Node<T>>> {
        let upstream = self.upstream.take();
        self.upstream.set(upstream.clone());
        upstream
    }
}

impl<T: 'static> Hold for Gate<T> {
    fn pause(&self) {
        self.pauses.set(self.pauses.get() + 1);
        if let Some(outcome) = self.slot.take_back() {
            self.held.set(Some(outcome));
        }
    }

    fn unpause(self: Rc<Self>, all: bool) {
        let pauses = if all { 0 } else { self.pauses.get().saturating_sub(1) };
        self.pauses.set(pauses);
        if pauses == 0
            && let Some(outcome) = self.held.take()
            && let Some(next) = self.slot.fill(outcome)
        {
            run(next);
        }
    }
}

impl<T: 'static> Step for Gate<T> {
    fn step(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        let upstream = self.upstream.take()?;
        let Some(outcome) = upstream.slot().take() else {
            self.upstream.set(Some(upstream));
            return None;
        };
        drop(upstream);
        self.on_result(outcome)
    }

    fn adopt(&self, source: &mut dyn std::any::Any) -> bool {
        let new: Option<Rc<dyn Node<T>>> = source.downcast_mut().and_then(Option::take);
        let adopted = new.is_some();
        if adopted {
            let old = self.upstream.replace(new);
            drop(old);
        }
        adopted
    }
}

impl<T: 'static> CancelNode for Gate<T> {
    fn awaiting(&self) -> Awaiting {
        self.waits().map_or(Awaiting::Finished, |upstream| Awaiting::One(upstream))
    }

    fn defer_cancel(&self, _why: &CancelledError) {
        // never called: a gate runs no user code
    }

    fn cancel_leaf(self: Rc<Self>, _why: &CancelledError) {
        // never called: a gate passes a cancellation on
    }
}

impl<T: 'static> Node<T> for Gate<T> {
    fn slot(&self) -> &Slot<T> {
        &self.slot
    }
}

impl<T> Drop for Gate<T> {
    fn drop(&mut self) {
        if let Some(outcome) = self.held.take() {
            super::chain::discard_outcome(outcome, self.slot.created_at());
        }
    }
}

impl<T: 'static> Deferred<T> {
    /// Inserts a gate at this point of the chain, in which results wait while it is paused.
    ///
    /// ```
    /// use twistor::defer::Deferred;
    ///
    /// let (deferred, pause) = Deferred::succeed(1).pausable();
    /// pause.pause();
    /// deferred.map(|n| println!("{n}")).detach();       // nothing yet
    /// pause.unpause();                                  // prints 1 before it returns
    /// ```
    ///
    /// # Cancellation
    /// A cancellation passes the gate, unless a result waits in it.
    #[doc(alias = "pause")]
    #[track_caller]
    pub fn pausable(self) -> (Self, Pause) {
        let gate = Rc::new(Gate {
            upstream: Cell::new(None),
            held: Cell::new(None),
            pauses: Cell::new(0),
            slot: Slot::new(Location::caller()),
        });
        debug::note(&gate, gate.slot.address(), "gate", || "", gate.slot.created_at());
        match self.settle() {
            DeferredState::Ready(outcome) => {
                // a new gate has no consumer
                let next = gate.slot.fill(outcome);
                debug_assert!(next.is_none(), "a new gate has no consumer");
            }
            DeferredState::Pending(source) => {
                source.slot().wait(gate.clone());
                gate.upstream.set(Some(source));
            }
        }
        let weak: Weak<dyn Hold> = Rc::downgrade(&(gate.clone() as Rc<dyn Hold>));
        (Self::pending(gate), Pause(Rc::new(Opener(weak))))
    }
}

//! The common part of the lists that wait for several Deferreds.
use super::{
    cancel_node::{Awaiting, CancelNode, cancel_from},
    chain::{Node, Outcome, Slot, run},
    debug,
    deferred::Deferred,
    then::OnBoth,
};
use crate::{error::CancelledError, failure::Frame, report::drop_guarded};
use std::{
    cell::{Cell, RefCell},
    panic::Location,
    rc::Rc,
};

/// The effect of a member's outcome on its list.
pub(super) enum Decision<Out> {
    /// The outcome is stored, and the list waits for the others.
    Wait,
    /// The outcome fires the list.
    Fire(Outcome<Out>),
}

/// A list: the outcomes so far in `Store`, and the list's own result.
///
/// The list owns its members. A cancellation goes to each member that has not fired, and never to
/// the list itself.
pub(super) struct Gathering<Store, Out> {
    store: RefCell<Store>,
    missing: Cell<usize>,
    /// Computes the result when every member has fired and none has fired the list.
    finish: fn(Store) -> Outcome<Out>,
    slot: Slot<Out>,
    /// The members in order; `None` for one that has fired.
    members: RefCell<Vec<Option<Rc<dyn CancelNode>>>>,
    /// A cancellation that arrived while the members were being added.
    pending_cancel: Cell<Option<Box<CancelledError>>>,
    filling: Cell<bool>,
    /// Drops outcomes that arrive after the list has fired, instead of passing them down the
    /// member's own chain.
    silent: Cell<bool>,
}

impl<Store: Default + 'static, Out: 'static> Gathering<Store, Out> {
    pub(super) fn new(
        store: Store,
        members: usize,
        finish: fn(Store) -> Outcome<Out>,
        created_at: &'static Location<'static>,
    ) -> Rc<Self> {
        let list = Rc::new(Self {
            store: RefCell::new(store),
            missing: Cell::new(members),
            finish,
            slot: Slot::new(created_at),
            members: RefCell::new(Vec::new()),
            pending_cancel: Cell::new(None),
            filling: Cell::new(true),
            silent: Cell::new(false),
        });
        debug::note(&list, list.slot.address(), "list", || "", created_at);
        list
    }

    /// Makes the list drop late outcomes silently.
    pub(super) fn silence(&self) {
        self.silent.set(true);
    }

    /// Adds member `index`; `decide` returns the effect of its outcome.
    pub(super) fn member<T: 'static>(
        self: &Rc<Self>,
        index: usize,
        member: Deferred<T>,
        decide: impl FnOnce(&mut Store, Outcome<T>) -> Decision<Out> + 'static,
    ) {
        let list = self.clone();
        let created_at = self.slot.created_at();
        let waiting = member.link(
            OnBoth(move |outcome: Outcome<T>| list.on_result(index, outcome, decide)),
            created_at,
        );
        if let Some(source) = waiting.source() {
            let mut members = self.members.borrow_mut();
            let len = members.len().max(index + 1);
            members.resize(len, None);
            members[index] = Some(source);
        }
        waiting.detach();
    }

    fn on_result<T>(
        &self,
        index: usize,
        outcome: Outcome<T>,
        decide: impl FnOnce(&mut Store, Outcome<T>) -> Decision<Out>,
    ) -> Outcome<()> {
        let removed = self.members.borrow_mut().get_mut(index).and_then(Option::take);
        drop(removed);
        if self.slot.is_fired() {
            if !self.silent.get() {
                // the end of the member's own chain reports a failure
                return outcome.map(drop_guarded);
            }
            drop_guarded(outcome);
            return Ok(());
        }
        let decision = decide(&mut self.store.borrow_mut(), outcome);
        match decision {
            Decision::Wait => {
                self.missing.set(self.missing.get() - 1);
                self.finish_if_complete();
            }
            Decision::Fire(outcome) => self.fire(outcome),
        }
        Ok(())
    }

    fn finish_if_complete(&self) {
        if self.missing.get() == 0 && !self.filling.get() && !self.slot.is_fired() {
            let store = self.store.take();
            self.fire((self.finish)(store));
        }
    }

    fn fire(&self, outcome: Outcome<Out>) {
        // the list creates its own errors here, on behalf of the line that created it
        let outcome =
            outcome.map_err(|failure| failure.location(Frame::new("", self.slot.created_at())));
        if let Some(next) = self.slot.fill(outcome) {
            run(next);
        }
    }

    /// Cancels the members that have not fired, in order.
    pub(super) fn cancel_members(&self, why: &CancelledError) {
        let members: Vec<_> = self.members.borrow().iter().flatten().cloned().collect();
        for member in members {
            cancel_from(member, why);
        }
    }

    /// Completes the list after all members have been added.
    pub(super) fn done(self: Rc<Self>) -> Deferred<Out> {
        self.filling.set(false);
        self.finish_if_complete();
        if let Some(why) = self.pending_cancel.take() {
            cancel_from(self.clone(), &why);
        }
        Deferred::pending(self)
    }
}

impl<Store: 'static, Out: 'static> CancelNode for Gathering<Store, Out> {
    fn awaiting(&self) -> Awaiting {
        if self.slot.is_fired() {
            Awaiting::Finished
        } else if self.filling.get() {
            Awaiting::Running
        } else {
            Awaiting::Many(self.members.borrow().iter().flatten().cloned().collect())
        }
    }

    fn defer_cancel(&self, why: &CancelledError) {
        self.pending_cancel.set(Some(Box::new(why.clone())));
    }

    fn cancel_leaf(self: Rc<Self>, _why: &CancelledError) {
        // never called: a list passes a cancellation on to its members
    }
}

impl<Store: 'static, Out: 'static> Node<Out> for Gathering<Store, Out> {
    fn slot(&self) -> &Slot<Out> {
        &self.slot
    }
}

//! Those who wait in line: what locks, semaphores and queues have in common.
use super::{deferred::Deferred, resolver::Resolver};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::{Rc, Weak},
};

/// A line of those who wait for a `T`, in the order in which they asked. A cancelled one leaves it at once.
pub(super) struct Waiting<T: 'static> {
    line: RefCell<BTreeMap<u64, Resolver<T>>>,
    next: Cell<u64>,
    me: Weak<Self>,
}

impl<T: 'static> Waiting<T> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new_cyclic(|me| Self { line: RefCell::default(), next: Cell::new(0), me: me.clone() })
    }

    /// One more at the end of the line.
    #[track_caller]
    pub(super) fn wait(&self) -> Deferred<T> {
        let key = self.next.replace(self.next.get() + 1);
        let line = self.me.clone();
        let (turn, resolver) = Deferred::with_canceller(move |_| {
            let gone = line.upgrade().and_then(|waiting| waiting.line.borrow_mut().remove(&key));
            drop(gone);
        });
        self.line.borrow_mut().insert(key, resolver);
        turn
    }

    /// The first of the line; it is out of it then.
    pub(super) fn first(&self) -> Option<Resolver<T>> {
        self.line.borrow_mut().pop_first().map(|(_, first)| first)
    }

    pub(super) fn len(&self) -> usize {
        self.line.borrow().len()
    }
}

//! Those who wait in line: what locks, semaphores and queues have in common.
use super::{deferred::Deferred, resolver::Resolver};
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::{Rc, Weak},
};

/// A line of those who wait for a `T`, in the order in which they asked. A cancelled one leaves it
/// at once.
pub(super) struct WaitQueue<T: 'static> {
    line: RefCell<Line<T>>,
    me: Weak<Self>,
}

struct Line<T: 'static> {
    /// With ascending numbers; an empty place is one who has left.
    places: VecDeque<(u64, Option<Resolver<T>>)>,
    next: u64,
    empty: usize,
}

impl<T: 'static> WaitQueue<T> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            line: RefCell::new(Line { places: VecDeque::new(), next: 0, empty: 0 }),
            me: me.clone(),
        })
    }

    /// One more at the end of the line.
    #[track_caller]
    pub(super) fn wait(&self) -> Deferred<T> {
        let number = self.line.borrow().next;
        let line = self.me.clone();
        let (turn, resolver) = Deferred::with_canceller(move |_| {
            let gone = line.upgrade().and_then(|waiting| waiting.line.borrow_mut().leave(number));
            drop(gone);
        });
        let line = &mut *self.line.borrow_mut();
        line.next += 1;
        line.places.push_back((number, Some(resolver)));
        turn
    }

    /// The first of the line; it is out of it then.
    pub(super) fn first(&self) -> Option<Resolver<T>> {
        let line = &mut *self.line.borrow_mut();
        loop {
            let (_, first) = line.places.pop_front()?;
            if first.is_some() {
                return first;
            }
            line.empty -= 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        let line = self.line.borrow();
        line.places.len() - line.empty
    }
}

impl<T: 'static> Line<T> {
    fn leave(&mut self, number: u64) -> Option<Resolver<T>> {
        let at = self.places.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let gone = self.places[at].1.take()?;
        self.empty += 1;
        // swept when most have left: the line stays as long as those who wait
        if self.empty > self.places.len() / 2 {
            self.places.retain(|(_, place)| place.is_some());
            self.empty = 0;
        }
        Some(gone)
    }
}

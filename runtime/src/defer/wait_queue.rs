//! The queue of pending requests in locks, semaphores and queues.
use super::{deferred::Deferred, resolver::Resolver};
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::{Rc, Weak},
};

/// Pending requests for a `T`, in order. A cancelled request is removed at once.
pub(super) struct WaitQueue<T: 'static> {
    line: RefCell<Line<T>>,
    me: Weak<Self>,
}

struct Line<T: 'static> {
    /// Numbered in ascending order; an empty entry is a cancelled request.
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

    /// Adds a request at the end.
    #[track_caller]
    pub(super) fn wait(&self) -> Deferred<T> {
        let number = self.line.borrow().next;
        let line = self.me.clone();
        let (turn, resolver) = Deferred::with_canceller(move |_| {
            let removed =
                line.upgrade().and_then(|waiting| waiting.line.borrow_mut().leave(number));
            drop(removed);
        });
        let line = &mut *self.line.borrow_mut();
        line.next += 1;
        line.places.push_back((number, Some(resolver)));
        turn
    }

    /// Removes the oldest request and returns it.
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
        let removed = self.places[at].1.take()?;
        self.empty += 1;
        // cleaned up when most entries are empty, so that the queue stays as long as its requests
        if self.empty > self.places.len() / 2 {
            self.places.retain(|(_, place)| place.is_some());
            self.empty = 0;
        }
        Some(removed)
    }
}

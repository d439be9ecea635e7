//! Memory of what is over, kept for what comes: connections, their streams, the buffers of framed
//! ones.
use std::{cell::RefCell, rc::Rc};

/// Up to `most` values that nobody has any more.
///
/// What comes and goes in crowds is dear to an allocator: it keeps a few pieces of each size at
/// hand, and takes the long way for the others.
pub(crate) struct Spare<T> {
    most: usize,
    kept: RefCell<Vec<Rc<T>>>,
}

impl<T> Spare<T> {
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, kept: RefCell::new(Vec::new()) }
    }

    /// One that was kept: nobody else has it.
    #[inline]
    pub(crate) fn take(&self) -> Option<Rc<T>> {
        self.kept.borrow_mut().pop()
    }

    /// Keeps `over`, unless there are enough.
    #[inline]
    pub(crate) fn keep(&self, over: Rc<T>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < self.most {
            kept.push(over);
        }
    }
}

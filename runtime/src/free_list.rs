//! Free lists that recycle allocations of closed connections, streams and framing buffers.
use std::{cell::RefCell, rc::Rc};

/// Up to `limit` values that nobody else holds any more.
///
/// An allocator keeps a few pieces of each size at hand and takes a slow path for the others, which
/// shows when connections come and go in crowds.
pub(crate) struct FreeList<T> {
    limit: usize,
    free: RefCell<Vec<Rc<T>>>,
}

impl<T> FreeList<T> {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, free: RefCell::new(Vec::new()) }
    }

    /// Takes a value that nobody else holds.
    #[inline]
    pub(crate) fn take(&self) -> Option<Rc<T>> {
        self.free.borrow_mut().pop()
    }

    /// Puts a value that nobody else holds; it is dropped if the list is full.
    #[inline]
    pub(crate) fn put(&self, value: Rc<T>) {
        let mut free = self.free.borrow_mut();
        if free.len() < self.limit {
            free.push(value);
        }
    }
}

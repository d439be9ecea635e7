//! Free lists that recycle allocations of closed connections, streams and buffers.
use std::cell::RefCell;

/// Up to `limit` allocations that nobody else holds any more.
///
/// An allocator keeps a few pieces of each size at hand and takes a slow path for the others, which
/// shows when connections come and go in crowds.
pub(crate) struct FreeList<T> {
    limit: usize,
    free: RefCell<Vec<T>>,
}

impl<T> FreeList<T> {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, free: RefCell::new(Vec::new()) }
    }

    /// Takes an allocation that nobody else holds.
    #[inline]
    pub(crate) fn take(&self) -> Option<T> {
        self.free.borrow_mut().pop()
    }

    /// Puts an allocation that nobody else holds; it is dropped if the list is full.
    #[inline]
    pub(crate) fn put(&self, value: T) {
        let mut free = self.free.borrow_mut();
        if free.len() < self.limit {
            free.push(value);
        }
    }
}

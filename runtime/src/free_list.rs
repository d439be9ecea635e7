//! Free lists that recycle allocations of closed connections, streams and buffers.
use std::cell::RefCell;

/// Up to `limit` unused allocations.
///
/// An allocator has a few pieces of each size at hand and a slow path for all others. The slow path
/// shows when many connections come and go.
pub(crate) struct FreeList<T> {
    limit: usize,
    free: RefCell<Vec<T>>,
}

impl<T> FreeList<T> {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, free: RefCell::new(Vec::new()) }
    }

    /// Takes an allocation from the list; nobody else holds it.
    #[inline]
    pub(crate) fn take(&self) -> Option<T> {
        self.free.borrow_mut().pop()
    }

    /// Puts back an allocation that nobody else holds, or drops it if the list is full.
    #[inline]
    pub(crate) fn put(&self, value: T) {
        let mut free = self.free.borrow_mut();
        if free.len() < self.limit {
            free.push(value);
        }
    }
}

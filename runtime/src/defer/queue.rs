//! `DeferredQueue`: items that are awaited with Deferreds.
use super::{deferred::Deferred, wait_queue::WaitQueue};
use std::{cell::RefCell, collections::VecDeque, error::Error, fmt, panic::Location, rc::Rc};

/// The queue is full; the error returns the item.
pub struct QueueOverflow<T>(pub T);

/// Too many `get` calls are pending: the backlog limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueUnderflow;

impl<T> fmt::Debug for QueueOverflow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueOverflow")
    }
}

impl<T> fmt::Display for QueueOverflow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is full")
    }
}

impl<T> Error for QueueOverflow<T> {}

impl fmt::Display for QueueUnderflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many pending `get` calls (the backlog limit is reached)")
    }
}

impl Error for QueueUnderflow {}

/// A first-in, first-out queue whose items are awaited with Deferreds.
///
/// ```
/// use twistor::defer::DeferredQueue;
///
/// let queue = DeferredQueue::new();
/// queue.get()?.map(|item: &str| println!("{item}")).detach();
/// queue.put("hello").unwrap();                     // prints before it returns
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
pub struct DeferredQueue<T: 'static>(Rc<Items<T>>);

struct Items<T: 'static> {
    stored: RefCell<VecDeque<T>>,
    waiting: Rc<WaitQueue<T>>,
    size: Option<usize>,
    backlog: Option<usize>,
}

impl<T: 'static> DeferredQueue<T> {
    /// Creates a queue without limits.
    pub fn new() -> Self {
        Self::with_limits(None, None)
    }

    /// Creates a queue that stores at most `size` items and has at most `backlog` pending `get`
    /// calls. `None` means no limit.
    pub fn with_limits(size: Option<usize>, backlog: Option<usize>) -> Self {
        Self(Rc::new(Items {
            stored: RefCell::default(),
            waiting: WaitQueue::new(),
            size,
            backlog,
        }))
    }

    /// Fires the oldest pending `get` with `item`, before this returns, or stores the item.
    ///
    /// # Errors
    /// Fails with [`QueueOverflow`], which returns the item, if no `get` is pending and the queue
    /// is full.
    pub fn put(&self, item: T) -> Result<(), QueueOverflow<T>> {
        if let Some(waiting) = self.0.waiting.first() {
            // user code
            waiting.callback(item);
            return Ok(());
        }
        let mut stored = self.0.stored.borrow_mut();
        if self.0.size.is_some_and(|size| stored.len() >= size) {
            return Err(QueueOverflow(item));
        }
        stored.push_back(item);
        Ok(())
    }

    /// Returns a Deferred of the next item.
    ///
    /// # Errors
    /// Fails at once with [`QueueUnderflow`] if the backlog limit is reached.
    ///
    /// # Cancellation
    /// A cancelled `get` is removed: the next item goes to the one behind it.
    #[track_caller]
    pub fn get(&self) -> Result<Deferred<T>, QueueUnderflow> {
        let item = self.0.stored.borrow_mut().pop_front();
        if let Some(item) = item {
            return Ok(Deferred::ready(Ok(item), Location::caller()));
        }
        if self.0.backlog.is_some_and(|backlog| self.0.waiting.len() >= backlog) {
            return Err(QueueUnderflow);
        }
        Ok(self.0.waiting.wait())
    }

    /// Returns the number of stored items.
    #[doc(alias = "pending")]
    pub fn len(&self) -> usize {
        self.0.stored.borrow().len()
    }

    /// Returns whether no item is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of pending `get` calls.
    pub fn waiting(&self) -> usize {
        self.0.waiting.len()
    }
}

impl<T: 'static> Default for DeferredQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: 'static> Clone for DeferredQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: 'static> fmt::Debug for DeferredQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<DeferredQueue, {} stored, {} waiting>", self.len(), self.waiting())
    }
}

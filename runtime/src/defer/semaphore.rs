//! `DeferredSemaphore` and `DeferredLock`: mutual exclusion in the order of the requests.
use super::{
    deferred::{Deferred, IntoDeferred},
    wait_queue::WaitQueue,
};
use crate::{error::ValueError, failure::Failure};
use std::{cell::Cell, fmt, panic::Location, rc::Rc};

/// The tokens of a lock or a semaphore.
struct Tokens {
    free: Cell<usize>,
    limit: usize,
    waiting: Rc<WaitQueue<Token>>,
}

impl Tokens {
    fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self { free: Cell::new(limit), limit, waiting: WaitQueue::new() })
    }

    #[track_caller]
    fn acquire(self: &Rc<Self>) -> Deferred<Token> {
        if self.free.get() > 0 {
            self.free.set(self.free.get() - 1);
            return Deferred::ready(Ok(Token(Some(self.clone()))), Location::caller());
        }
        self.waiting.wait()
    }

    /// Passes a token to the oldest pending request, before this returns, or frees it.
    fn release(self: Rc<Self>) {
        match self.waiting.first() {
            // user code
            Some(waiting) => waiting.callback(Token(Some(self))),
            None => self.free.set(self.free.get() + 1),
        }
    }
}

/// A held token of a [`DeferredSemaphore`], or a held [`DeferredLock`]. Dropping it releases it.
///
/// Releasing passes the token to the oldest pending request, whose callbacks have run before the
/// call returns.
#[must_use = "dropping it releases it"]
pub struct Token(Option<Rc<Tokens>>);

impl Token {
    /// Explicitly releases the token; equivalent to dropping it.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(tokens) = self.0.take() {
            tokens.release();
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Token>")
    }
}

#[track_caller]
fn run_with<R: IntoDeferred>(
    turn: Deferred<Token>,
    f: impl FnOnce() -> R + 'static,
) -> Deferred<R::Value> {
    turn.add_callback(move |token| {
        super::call::maybe_deferred(f).add_both(move |result| {
            token.release();
            result
        })
    })
}

/// A limited number of tokens. Requests beyond that number are pending, and are served in order.
///
/// ```
/// use twistor::defer::DeferredSemaphore;
///
/// let semaphore = DeferredSemaphore::new(2)?;
/// semaphore.run(|| println!("at most two of these at a time")).detach();
/// assert_eq!(semaphore.free(), 2);
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[derive(Clone)]
pub struct DeferredSemaphore(Rc<Tokens>);

impl DeferredSemaphore {
    /// Creates a semaphore with `tokens` tokens.
    ///
    /// # Errors
    /// Fails with [`ValueError`] for 0, because no request could ever be served.
    pub fn new(tokens: usize) -> Result<Self, Failure> {
        if tokens == 0 {
            return Err(
                ValueError::with_text("invalid number of tokens: minimum 1, found 0").into()
            );
        }
        Ok(Self(Tokens::new(tokens)))
    }

    /// Returns a Deferred that fires with a token as soon as one is free.
    ///
    /// # Cancellation
    /// A cancelled request is removed. A token that has been given out is not affected.
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Token> {
        self.0.acquire()
    }

    /// Calls `f` when a token is free, and releases the token when the result of `f` has fired.
    #[track_caller]
    pub fn run<R: IntoDeferred>(&self, f: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
        run_with(self.acquire(), f)
    }

    /// Returns the number of free tokens.
    #[doc(alias = "tokens")]
    pub fn free(&self) -> usize {
        self.0.free.get()
    }

    /// Returns the total number of tokens.
    pub fn limit(&self) -> usize {
        self.0.limit
    }
}

impl fmt::Debug for DeferredSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<DeferredSemaphore, {} of {} free, {} waiting>",
            self.free(),
            self.limit(),
            self.0.waiting.len()
        )
    }
}

/// A lock that is awaited with a Deferred, which fires with a [`Token`].
///
/// ```
/// use twistor::defer::DeferredLock;
///
/// let lock = DeferredLock::new();
/// lock.acquire().map(|held| drop(held)).detach();
/// assert!(!lock.is_locked());
/// ```
#[derive(Clone)]
pub struct DeferredLock(Rc<Tokens>);

impl DeferredLock {
    /// Creates a free lock.
    pub fn new() -> Self {
        Self(Tokens::new(1))
    }

    /// Returns a Deferred that fires with the held lock as soon as it is free.
    ///
    /// # Cancellation
    /// A cancelled request is removed. A lock that has been given out is not affected.
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Token> {
        self.0.acquire()
    }

    /// Calls `f` when the lock is free, and releases the lock when the result of `f` has fired.
    #[track_caller]
    pub fn run<R: IntoDeferred>(&self, f: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
        run_with(self.acquire(), f)
    }

    /// Returns whether the lock is held.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.0.free.get() == 0
    }
}

impl Default for DeferredLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DeferredLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_locked() { "held" } else { "free" };
        write!(f, "<DeferredLock, {state}, {} waiting>", self.0.waiting.len())
    }
}

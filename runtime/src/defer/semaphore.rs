//! `DeferredSemaphore` and `DeferredLock`: one after the other, in the order in which they asked.
use super::{
    deferred::{Deferred, IntoDeferred},
    wait_queue::WaitQueue,
};
use crate::{error::ValueError, failure::Failure};
use std::{cell::Cell, fmt, panic::Location, rc::Rc};

/// What a lock and a semaphore are made of.
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

    /// Hands a token to the next who waits, inside this call, or frees it.
    fn release(self: Rc<Self>) {
        match self.waiting.first() {
            // user code
            Some(waiting) => waiting.callback(Token(Some(self))),
            None => self.free.set(self.free.get() + 1),
        }
    }
}

/// A token of a [`DeferredSemaphore`], or a [`DeferredLock`] that is held. Dropping it releases it.
///
/// Releasing hands it to the next who waits before the call returns: what that one does has been
/// done then.
#[must_use = "dropping it releases it"]
pub struct Token(Option<Rc<Tokens>>);

impl Token {
    /// Releases it: what dropping it does, said aloud.
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

/// A limited number of tokens: those who ask for one more wait, and get it in the order in which
/// they asked.
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
    /// A semaphore of `tokens`.
    ///
    /// # Errors
    /// [`ValueError`] for 0: nobody would ever get one.
    pub fn new(tokens: usize) -> Result<Self, Failure> {
        if tokens == 0 {
            return Err(ValueError::with_text(
                "a semaphore has at least one token, and 0 were given",
            )
            .into());
        }
        Ok(Self(Tokens::new(tokens)))
    }

    /// A token, when one is free.
    ///
    /// # Cancellation
    /// Takes the one who waits out of the line. A token that has been given is not affected.
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Token> {
        self.0.acquire()
    }

    /// Calls `f` when a token is free, and releases it when what `f` returns has fired.
    #[track_caller]
    pub fn run<R: IntoDeferred>(&self, f: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
        run_with(self.acquire(), f)
    }

    /// How many tokens are free.
    #[doc(alias = "tokens")]
    pub fn free(&self) -> usize {
        self.0.free.get()
    }

    /// How many there are in all.
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

/// A lock that is waited for with a Deferred: the holder has a [`Token`].
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
    /// A lock that is free.
    pub fn new() -> Self {
        Self(Tokens::new(1))
    }

    /// The lock, when it is free.
    ///
    /// # Cancellation
    /// Takes the one who waits out of the line. A lock that has been given is not affected.
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Token> {
        self.0.acquire()
    }

    /// Calls `f` when the lock is free, and releases it when what `f` returns has fired.
    #[track_caller]
    pub fn run<R: IntoDeferred>(&self, f: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
        run_with(self.acquire(), f)
    }

    /// Whether somebody holds it.
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

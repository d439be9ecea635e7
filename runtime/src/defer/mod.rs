//! Deferreds: eventual results, and the functions that wait for them.
//!
//! A [`Deferred<T>`] is an eventual `Result<T, Failure>` with one consumer. Its other half, the
//! [`Resolver`], provides the result. Firing is synchronous: when [`Resolver::callback`] returns,
//! every callback that can run has run.
//!
//! ```
//! use twistor::defer::Deferred;
//!
//! let (deferred, resolver) = Deferred::new();
//! let doubled = deferred.add_callback(|n: u32| Ok(n * 2));
//! doubled.add_callback(|n| println!("{n}")).detach();
//! resolver.callback(21);                       // prints 42 before it returns
//! ```
//!
//! | Twisted | here |
//! |---|---|
//! | `Deferred()`, `succeed(x)`, `fail(e)` | [`Deferred::new`], [`Deferred::succeed`], [`Deferred::fail`] |
//! | `d.callback(x)`, `d.errback(e)` | [`Resolver::callback`], [`Resolver::errback`] |
//! | `d.addCallback(f)` and its like | [`Deferred::add_callback`] and its like; each gives the Deferred of the next value |
//! | `d.cancel()` | [`Deferred::cancel`], and [`Deferred::canceller`] to do it from elsewhere |
//! | `gatherResults([a, b])` | [`gather_results([a, b])`](gather_results()) |
mod call;
mod callback;
mod cancel_node;
mod chain;
pub mod debug;
mod deferred;
mod filesystem_lock;
mod gate;
mod gathering;
mod list;
mod pause;
mod queue;
mod race;
mod resolver;
mod semaphore;
mod shared;
mod then;
mod timeout;
mod wait_queue;

pub use crate::coroutine::bridge::ensure_deferred;
pub use call::{execute, log_error, maybe_deferred};
pub use deferred::{CancelHandle, Deferred, IntoDeferred};
pub use filesystem_lock::{DeferredFilesystemLock, HeldFilesystemLock};
pub use list::{FirstError, Gather, gather_results};
pub use pause::Pause;
pub use queue::{DeferredQueue, QueueOverflow, QueueUnderflow};
pub use race::{DeferredList, FailureGroup, race};
pub use resolver::{Cancelling, Resolver, SharedResolver};
pub use semaphore::{DeferredLock, DeferredSemaphore, Token};
pub use shared::Shared;

pub(crate) use cancel_node::{Awaiting, CancelNode, cancel_from, set_external_waker};
pub(crate) use chain::{Node, Outcome, Slot, Step, discard_outcome, run};
pub(crate) use deferred::DeferredState;
pub(crate) use gate::Ticket;
pub(crate) use resolver::{AbandonCause, with_abandon_cause};
pub(crate) use then::OnValue;

//! The reactor: waits for events, timers and other threads, and runs what is due, one turn after
//! the other.
//!
//! A [`Reactor`] is a value and a cheap handle; a program may have several, one a thread. Its back
//! end is a seam: `Reactor::new()` is the operating system through mio, and
//! [`testing::MemoryReactor`](crate::testing::MemoryReactor) is the same reactor over virtual time
//! and memory.
//!
//! ```
//! use std::time::Duration;
//! use twistor::reactor::Reactor;
//!
//! let reactor = Reactor::new()?;
//! let stop = reactor.clone();
//! reactor.call_later(Duration::from_millis(1), move || stop.stop().unwrap());
//! reactor.run()?;
//! # Ok::<(), twistor::failure::Failure>(())
//! ```
mod added;
pub(crate) mod backend;
mod crossing;
mod handle;
mod names;
mod poll;
mod pool;
mod running;
mod signals;
pub(crate) mod source;
mod threads;
mod triggers;
mod watchdog;

pub use added::{AddedSource, Ready};
pub(crate) use handle::Core;
pub use handle::Reactor;
pub use names::{AddressFamily, HostnameResolver, NameQuery, SimpleResolver, SystemResolver};
pub use pool::ThreadPool;
pub use signals::SignalHandler;
pub use threads::Remote;
pub use triggers::{SystemEvent, SystemEventTrigger, TriggerPhase};

/// The library under the reactor, for [`Reactor::add_source`].
pub use mio;

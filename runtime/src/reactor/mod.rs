//! The reactor: waits for events, timers and other threads, and calls what is due, one turn after
//! the other.
//!
//! A [`Reactor`] is a value and a cheap handle; a program may have several, one in each thread. The
//! back end is interchangeable: `Reactor::new()` uses the operating system through mio, and
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
pub(crate) mod backend;
mod core;
mod dns;
mod lifecycle;
mod name_query;
mod remote;
mod remote_deferred;
mod schedule;
mod signals;
pub(crate) mod source;
mod thread_pool;
mod triggers;
mod turn;
mod user_source;
mod watchdog;

pub(crate) use self::core::Core;
pub use self::core::Reactor;
pub use dns::{HostnameResolver, SimpleNameResolver, SystemNameResolver};
pub use name_query::{AddressFamily, NameQuery};
pub use remote::Remote;
pub(crate) use schedule::Schedule;
pub use signals::SignalHandler;
pub use thread_pool::{PoolLimits, PoolLoad, ThreadPool};
pub use triggers::{SystemEvent, SystemEventTrigger, TriggerPhase};
pub use user_source::{Ready, UserSource};

/// The library below the reactor, for [`Reactor::add_source`].
pub use mio;

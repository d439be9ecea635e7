//! Fakes for tests, which twistor's own tests use too: time and connections without an operating
//! system.
//!
//! ```
//! use std::time::Duration;
//! use twistor::testing::MemoryReactor;
//!
//! let memory = MemoryReactor::new();
//! let reactor = memory.reactor();
//! reactor.call_later(Duration::from_secs(60), || println!("an hour is nothing"));
//! memory.advance(Duration::from_secs(3600));
//! assert!(reactor.delayed_calls().is_empty());
//! ```
mod case;
mod fixed_resolver;
mod memory_net;
mod memory_reactor;
mod pump;
mod string_transport;

pub use crate::task::Clock;
pub use case::{Tested, run_test};
pub use fixed_resolver::FixedNameResolver;
pub use memory_reactor::MemoryReactor;
pub use pump::{End, Pump, pump};
pub use string_transport::StringTransport;

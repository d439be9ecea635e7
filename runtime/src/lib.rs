//! twistor: Twisted's asynchronous core for Rust. Deferreds, inline callbacks, protocols and
//! factories, endpoints and a reactor, written down as attribute macros and run by this crate.
//!
//! ```no_run
//! use twistor::prelude::*;
//!
//! #[protocol]
//! struct Echo;
//!
//! #[protocol]
//! impl Echo {
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
//!         transport.write(data);
//!     }
//! }
//!
//! #[twistor::main]
//! fn main(reactor: Reactor) -> Deferred<()> {
//!     let endpoint = server_from_string(&reactor, "tcp:8007:interface=127.0.0.1")?;
//!     let port = yield_!(endpoint.listen(Echo::factory()))?;
//!     println!("listening on {}", port.host());
//!     yield_!(reactor.when_stopped())
//! }
//! ```
//!
//! # The modules, by Twisted's names
//!
//! | module | Twisted | what it is for |
//! |---|---|---|
//! | [`defer`] | `twisted.internet.defer` | results that come later |
//! | [`failure`], [`error`], [`report`](mod@report) | `twisted.python.failure`, `twisted.internet.error`, `twisted.python.log` | errors, and where they go |
//! | [`reactor`] | `twisted.internet.reactor` | the event loop |
//! | [`protocol`](mod@protocol), [`basic`] | `twisted.internet.protocol`, `twisted.protocols.basic` | what happens on a connection |
//! | [`transport`] | `twisted.internet.tcp`, `.unix`, `.udp`, `.stdio` | connections and ports |
//! | [`endpoints`], [`address`] | `twisted.internet.endpoints`, `twisted.internet.address` | where to listen and connect |
//! | [`threads`] | `twisted.internet.threads` | work in other threads, and the way back |
//! | [`lockfile`] | `twisted.python.lockfile` | locks between processes |
//! | [`task`], [`time`] | `twisted.internet.task` | clocks and start-up |
//! | [`testing`] | `twisted.internet.testing` | fakes |
//!
//! # The four paths
//!
//! ```text
//! byte in     reactor/turn > protocol/connection > stream/read > protocol/delivery > your handler
//! byte out    Transport::write > stream/write > stream/buffer > socket
//! value       defer/resolver > defer/chain > defer/then > your callback or errback
//! coroutine   defer/chain > coroutine/driver > your code up to its next unfired Deferred
//! ```
//!
//! User code runs in the thread of the reactor, one piece after the other. A panic in a piece costs
//! what it belongs to: a callback its chain, a handler its connection, a delayed call its report.
//!
#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod address;
pub mod basic;
pub mod coroutine;
pub mod defer;
pub mod endpoints;
pub mod error;
pub mod failure;
mod free_list;
pub mod lockfile;
pub mod prelude;
pub mod protocol;
pub mod reactor;
mod remote_queue;
pub mod report;
mod stream;
pub mod task;
pub mod testing;
pub mod threads;
pub mod time;
mod timers;
pub mod transport;

/// Waits for a Deferred inside a function marked [`#[inline_callbacks]`](macro@inline_callbacks):
/// Twisted's `yield`.
///
/// `yield_!(deferred)` is `deferred.await`: a `Result<T, Failure>`. The attribute rewrites it;
/// elsewhere it is an error.
#[macro_export]
macro_rules! yield_ {
    ($($tokens:tt)*) => {
        ::core::compile_error!(
            "`yield_!` works only inside a function marked `#[inline_callbacks]`"
        )
    };
}

/// Ends a function marked [`#[inline_callbacks]`](macro@inline_callbacks) with a value:
/// `return Ok(value)`.
///
/// `return_value!()` ends it with `()`. The attribute rewrites it; elsewhere it is an error.
#[doc(alias = "returnValue")]
#[macro_export]
macro_rules! return_value {
    ($($tokens:tt)*) => {
        ::core::compile_error!(
            "`return_value!` works only inside a function marked `#[inline_callbacks]`"
        )
    };
}

/// Makes a function that is written step by step return a [`Deferred`](defer::Deferred): Twisted's
/// `inlineCallbacks`.
///
/// Inside, `yield_!(deferred)` waits, and gives a `Result<T, Failure>`; `deferred.await` is the
/// same. `?` converts any error. The function ends with `return_value!(value)`, or with a plain
/// tail expression `Ok(value)`.
///
/// ```
/// use twistor::prelude::*;
///
/// #[inline_callbacks]
/// fn sum(one: Deferred<u32>, two: Deferred<u32>) -> Deferred<u32> {
///     let one = yield_!(one)?;
///     let two = two.await?;
///     return_value!(one + two)
/// }
///
/// let (two, resolver) = Deferred::new();
/// let total = sum(Deferred::succeed(1), two);       // runs up to `two` and waits there
/// resolver.callback(2);                              // goes on inside the fire
/// assert_eq!(total.take_result().unwrap().unwrap(), 3);
/// ```
///
/// The signature you write is the one that callers see. An `async fn` that returns `Result<T, E>`
/// becomes a `fn` that returns `Deferred<T>`.
///
/// It starts at once and runs to the first Deferred that has not fired. There is no executor: the
/// fire resumes it. A call costs one allocation, a yield none. Any other future can be awaited too;
/// a foreign waker resumes the coroutine in a later turn of the reactor.
///
/// What you write, and what the macro writes:
///
/// ```
/// # use twistor::prelude::*;
/// fn sum(one: Deferred<u32>, two: Deferred<u32>) -> Deferred<u32> {
///     twistor::__private::run::<Deferred<u32>, _>(concat!(module_path!(), "::sum"), async move {
///         let one = (one).await?;
///         let two = two.await?;
///         return Ok(one + two)
///     })
/// }
/// # let total = sum(Deferred::succeed(1), Deferred::succeed(2));
/// # assert_eq!(total.take_result().unwrap().unwrap(), 3);
/// ```
///
/// # Options
/// `#[inline_callbacks(crate = ::path::to::twistor)]` for a crate that re-exports twistor under
/// another name.
///
/// # Panics
/// A panic drops the coroutine's frame and fails its Deferred with [`Panicked`](error::Panicked).
///
/// # Cancellation
/// Cancelling the Deferred cancels what the coroutine waits for; the error arrives at the yield,
/// where it can be caught, and clean-up code can yield again. In a foreign future, where nothing
/// can arrive, the frame is dropped and the Deferred fails with
/// [`CancelledError`](error::CancelledError).
#[doc(alias = "inlineCallbacks")]
pub use twistor_macros::inline_callbacks;

/// Makes a protocol of a struct and of its `impl` block: handlers by name instead of a trait.
///
/// On the **struct** it says where messages end and where fields come from:
///
/// - `#[protocol]`: no framing, handler `data_received`.
/// - `#[protocol(lines(delimiter = b"\n", max_length = 1024))]`: lines, handlers `line_received`,
///   `line_length_exceeded`, `raw_data_received`; both options may be left out.
/// - `#[protocol(framing = Quads)]`: a [`Framing`](protocol::Framing) of your own, handler
///   `message_received`.
/// - `#[transport]` on a field: it is given the [`Transport`](protocol::Transport) before
///   `connection_made`.
/// - `#[factory]` on a field: it is given the `Rc` of the factory that built it.
/// - `#[init(expr)]` on a field: its first value; otherwise `Default`.
///
/// On the **impl** it finds the handlers: those above, `connection_made` and `connection_lost`;
/// with `read_connection_lost` or `write_connection_lost` the protocol goes on when one direction
/// has ended, and `file_descriptor_received` takes what comes over a UNIX socket. A handler leaves
/// out what it does not use, takes the rest in any order by type, and may take
/// `transport: &Transport` and `this: &Handle<Self>`. It returns `()`, `Result<(), E>` or
/// `Deferred<()>`; an error is reported and closes the connection with that reason.
///
/// ```
/// use twistor::prelude::*;
///
/// #[protocol(lines)]
/// struct Greeter {
///     #[transport]
///     transport: Transport,
///     #[init(3)]
///     lives: u32,
/// }
///
/// #[protocol]
/// impl Greeter {
///     fn connection_made(&mut self) {
///         self.transport.send_line("What is your name?");
///     }
///
///     fn line_received(&mut self, line: &[u8]) -> Result<(), Failure> {
///         let name = std::str::from_utf8(line)?;
///         self.transport.send_line(format!("hello {name}, {} lives", self.lives));
///         Ok(())
///     }
/// }
///
/// let factory = Greeter::factory();
/// # let _ = factory;
/// ```
///
/// A **coroutine** handler takes `this: Handle<Self>` instead of `self`, and its message owned. It
/// starts with the protocol free, reaches it with `this.call(|greeter| ..)`, and holds back the
/// next message until it is done (`connection_made` excepted). `#[concurrent]` lifts that;
/// `#[cancel_on_loss]` cancels it when the connection is lost.
///
/// ```
/// # use twistor::prelude::*;
/// # fn look_up(name: Vec<u8>) -> Deferred<String> {
/// #     Deferred::succeed(String::from_utf8_lossy(&name).into_owned())
/// # }
/// #[protocol(lines)]
/// struct Finger;
///
/// #[protocol]
/// impl Finger {
///     #[inline_callbacks]
///     fn line_received(this: Handle<Self>, name: Vec<u8>) -> Deferred<()> {
///         let answer = yield_!(look_up(name))?;
///         this.send_line(answer);
///         return_value!(())
///     }
/// }
/// ```
///
/// Any other function in the block is left as it is. A private one whose name is close to a
/// handler's is taken for a misspelt handler; a helper of such a name goes into a plain `impl`, or
/// is marked `#[helper]`.
///
/// Everything it writes can be written by hand: see [`Protocol`](protocol::Protocol).
pub use twistor_macros::protocol;

/// Makes a struct the factory of a protocol: `#[factory(protocol = Person)]` names what it builds
/// for each connection.
///
/// The protocol's `#[factory]` field is given the factory's `Rc`, so what the struct holds is
/// shared by its connections.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use twistor::prelude::*;
///
/// #[derive(Factory, Default)]
/// #[factory(protocol = Visitor)]
/// struct Counter {
///     visits: Cell<u32>,
/// }
///
/// #[protocol]
/// struct Visitor {
///     #[factory]
///     counter: Rc<Counter>,
/// }
///
/// #[protocol]
/// impl Visitor {
///     fn connection_made(&mut self, transport: &Transport) {
///         self.counter.visits.set(self.counter.visits.get() + 1);
///         transport.write(format!("you are number {}\r\n", self.counter.visits.get()));
///         transport.lose_connection();
///     }
/// }
/// ```
pub use twistor_macros::Factory;

/// Makes a coroutine the program's `main`: it is given the reactor and the arguments, and the
/// program ends with its Deferred.
///
/// Both arguments may be left out. The exit code is 0, or 1 with the traceback on standard error;
/// SIGINT and SIGTERM stop the reactor. See [`task::react`].
///
/// ```no_run
/// use twistor::prelude::*;
///
/// #[twistor::main]
/// fn main(reactor: Reactor, args: Args) -> Deferred<()> {
///     println!("hello {}", args.get(0).unwrap_or("world"));
///     yield_!(reactor.when_stopped())
/// }
/// ```
pub use twistor_macros::main;

/// Makes a function a test with a reactor of its own, a time limit, and an eye on what it leaves
/// behind.
///
/// The function takes `reactor: Reactor` or nothing, and returns nothing, a `Result<(), E>`, or a
/// `Deferred<()>`; in the last case, and as an `async fn`, it is a coroutine. The test fails with
/// its error or panic, after `timeout` (`"500ms"`, `"5s"`, `"2m"`; 30 s if it does not say), and if
/// it ends and leaves behind: a port, a connection, a delayed call, work for threads, a coroutine
/// that still waits, a failure that nobody consumed. It says what, and where calls and coroutines
/// were made. `#[should_panic]`, `#[ignore]` and other attributes stay.
///
/// ```
/// use std::time::Duration;
/// use twistor::{prelude::*, task::defer_later};
///
/// #[twistor::test(timeout = "5s")]
/// fn a_moment_passes(reactor: Reactor) -> Deferred<()> {
///     yield_!(defer_later(&reactor, Duration::from_millis(1), || ()))
/// }
/// ```
pub use twistor_macros::test;

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
//! User code runs in the reactor's thread, one call at a time. A panic affects only what the code
//! belongs to: a callback's panic fails its chain, a handler's panic closes its connection, and a
//! delayed call's panic is reported.
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
mod error_tuple;
pub mod failure;
mod free_list;
mod into_error;
pub mod lockfile;
pub mod prelude;
pub mod protocol;
pub mod reactor;
mod remote_queue;
pub mod report;
mod sealed;
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
/// `yield_!(deferred)` is `deferred.await`, a `Result<T, Failure>`. The attribute rewrites it;
/// anywhere else it is an error.
#[macro_export]
macro_rules! yield_ {
    ($($tokens:tt)*) => {
        ::core::compile_error!(
            "`yield_!` works only inside a function marked `#[inline_callbacks]`"
        )
    };
}

/// Returns a value from a function marked [`#[inline_callbacks]`](macro@inline_callbacks), as
/// `return Ok(value)` does.
///
/// `return_value!()` returns `()`. The attribute rewrites it; anywhere else it is an error.
#[doc(alias = "returnValue")]
#[macro_export]
macro_rules! return_value {
    ($($tokens:tt)*) => {
        ::core::compile_error!(
            "`return_value!` works only inside a function marked `#[inline_callbacks]`"
        )
    };
}

/// Turns a function that is written step by step into one that returns a
/// [`Deferred`](defer::Deferred): Twisted's `inlineCallbacks`.
///
/// In its body, `yield_!(deferred)` waits and evaluates to a `Result<T, Failure>`; `deferred.await`
/// means exactly that. `?` converts any error. The function returns with `return_value!(value)`, or
/// with a plain tail expression `Ok(value)`.
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
/// Callers see the signature as written, with one exception: an `async fn` that returns `Result<T,
/// E>` becomes a `fn` that returns `Deferred<T>`.
///
/// The function starts at once and runs up to the first Deferred that has not fired. There is no
/// executor: firing that Deferred resumes the function. A call costs one allocation, a yield none.
/// Any other future can be awaited too; a foreign waker resumes the coroutine in a later turn of
/// the reactor.
///
/// You write this, and the macro generates what stands below it:
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
/// A crate that re-exports twistor under another name writes `#[inline_callbacks(crate =
/// ::path::to::twistor)]`.
///
/// # Panics
/// A panic drops the coroutine's frame and fails its Deferred with [`Panicked`](error::Panicked).
///
/// # Cancellation
/// Cancelling the Deferred cancels what the coroutine awaits. The error arrives at the yield, where
/// it can be caught, and clean-up code can yield again. A foreign future cannot receive an error:
/// its frame is dropped, and the Deferred fails with [`CancelledError`](error::CancelledError).
#[doc(alias = "inlineCallbacks")]
pub use twistor_macros::inline_callbacks;

/// Turns a struct and its `impl` block into a protocol, with handlers found by their names instead
/// of a trait.
///
/// On the **struct** the attribute says how messages are framed and how fields are initialised:
///
/// - `#[protocol]`: no framing; the handler is `data_received`.
/// - `#[protocol(lines(delimiter = b"\n", max_length = 1024))]`: lines; the handlers are
///   `line_received`, `line_length_exceeded` and `raw_data_received`. Both options may be left out.
/// - `#[protocol(framing = Quads)]`: a [`Framing`](protocol::Framing) of your own; the handler is
///   `message_received`.
/// - `#[transport]` on a field: the field receives the [`Transport`](protocol::Transport) before
///   `connection_made`.
/// - `#[factory]` on a field: the field receives the `Rc` of the factory that built the protocol.
/// - `#[init(expr)]` on a field: its initial value, which is `Default` otherwise.
///
/// On the **impl** block it finds the handlers: those named above, `connection_made` and
/// `connection_lost`. With `read_connection_lost` or `write_connection_lost` the connection stays
/// open when one direction has closed. `file_descriptor_received` takes descriptors that arrive
/// over a UNIX socket. A handler omits the arguments it does not use and takes the others in any
/// order, by type; it may also take `transport: &Transport` and `this: &Handle<Self>`. It returns
/// `()`, `Result<(), E>` or `Deferred<()>`; an error is reported and closes the connection with
/// that reason.
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
/// A **coroutine** handler takes `this: Handle<Self>` instead of `self`, and an owned message. It
/// does not borrow the protocol, which it reaches with `this.call(|greeter| ..)`. The next message
/// is delivered when the coroutine has finished (`connection_made` excepted). `#[concurrent]` lifts
/// that restriction; `#[cancel_on_loss]` cancels the coroutine when the connection is lost.
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
/// All other functions in the block stay as they are. A private one whose name resembles a
/// handler's is reported as a misspelt handler; move such a helper into a plain `impl`, or mark it
/// `#[helper]`.
///
/// All generated code can be written by hand: see [`Protocol`](protocol::Protocol).
pub use twistor_macros::protocol;

/// Derives a protocol factory for a struct: `#[factory(protocol = Person)]` names the protocol that
/// it builds for each connection.
///
/// The protocol's `#[factory]` field receives the factory's `Rc`, so the connections share the
/// fields of the struct.
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

/// Turns a coroutine into the program's `main`: it receives the reactor and the arguments, and the
/// program exits when its Deferred fires.
///
/// Both arguments may be left out. The exit code is 0 after a success. A failure exits with 1 and
/// prints its traceback to standard error. SIGINT and SIGTERM stop the reactor. See
/// [`task::react`].
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

/// Turns a function into a test with its own reactor, a time limit, and a check of what it leaves
/// behind.
///
/// The function takes `reactor: Reactor` or nothing, and returns nothing, a `Result<(), E>`, or a
/// `Deferred<()>`; in the last case, and as an `async fn`, it is a coroutine. The test fails if it
/// returns an error or panics, and if it takes longer than `timeout` (`"500ms"`, `"5s"`, `"2m"`; 30
/// s by default). It also fails if it leaves behind a port, a connection, a delayed call, work for
/// threads, a pending coroutine, or a failure that nobody consumed. The message names these, with
/// the lines that created calls and coroutines. `#[should_panic]`, `#[ignore]` and other attributes
/// are kept.
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

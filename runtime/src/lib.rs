//! twistor: Twisted's asynchronous core for Rust.
pub mod address;
pub mod defer;
pub mod error;
pub mod failure;
pub mod inline;
pub mod prelude;
pub mod protocol;
pub mod reactor;
#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod report;
pub mod task;
pub mod testing;
pub mod time;
mod timers;
pub mod transport;
mod wake;

/// Waits for a Deferred inside a function marked [`#[inline_callbacks]`](macro@inline_callbacks): Twisted's `yield`.
///
/// `yield_!(deferred)` is `deferred.await`: a `Result<T, Failure>`. The attribute rewrites it; elsewhere it is an error.
#[macro_export]
macro_rules! yield_ {
    ($($tokens:tt)*) => {
        ::core::compile_error!("`yield_!` works only inside a function marked `#[inline_callbacks]`")
    };
}

/// Ends a function marked [`#[inline_callbacks]`](macro@inline_callbacks) with a value: `return Ok(value)`.
///
/// `return_value!()` ends it with `()`. The attribute rewrites it; elsewhere it is an error.
#[doc(alias = "returnValue")]
#[macro_export]
macro_rules! return_value {
    ($($tokens:tt)*) => {
        ::core::compile_error!("`return_value!` works only inside a function marked `#[inline_callbacks]`")
    };
}

/// Makes a function that is written step by step return a [`Deferred`](defer::Deferred): Twisted's `inlineCallbacks`.
///
/// Inside, `yield_!(deferred)` waits, and gives a `Result<T, Failure>`; `deferred.await` is the same. `?` converts any error. The function
/// ends with `return_value!(value)`, or with a plain tail expression `Ok(value)`.
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
/// total.map(|n| assert_eq!(n, 3)).detach();
/// resolver.callback(2);                              // goes on inside the fire
/// ```
///
/// The signature you write is the one that callers see. An `async fn` that returns `Result<T, E>` becomes a `fn` that returns
/// `Deferred<T>`.
///
/// It starts at once and runs to the first Deferred that has not fired. There is no executor: the fire resumes it. A call costs one
/// allocation, a yield none. Any other future can be awaited too; a foreign waker resumes the coroutine in a later turn of the reactor.
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
/// # sum(Deferred::succeed(1), Deferred::succeed(2)).map(|n| assert_eq!(n, 3)).detach();
/// ```
///
/// # Options
/// `#[inline_callbacks(crate = ::path::to::twistor)]` for a crate that re-exports twistor under another name.
///
/// # Panics
/// A panic drops the coroutine's frame and fails its Deferred with [`Panicked`](error::Panicked).
///
/// # Cancellation
/// Cancelling the Deferred cancels what the coroutine waits for; the error arrives at the yield, where it can be caught, and clean-up code
/// can yield again. In a foreign future, where nothing can arrive, the frame is dropped and the Deferred fails with
/// [`CancelledError`](error::CancelledError).
#[doc(alias = "inlineCallbacks")]
pub use twistor_macros::inline_callbacks;

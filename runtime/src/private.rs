//! Functions and traits for generated code. They may change in any release; do not use them
//! directly.
use crate::{
    coroutine::start,
    defer::{Deferred, Outcome},
    error::{FramingError, MessageLengthError},
    protocol,
};
use std::{future::Future, panic::Location};

/// The return type of a plain `fn` under `#[inline_callbacks]`.
#[diagnostic::on_unimplemented(
    message = "a coroutine returns a `Deferred`, not `{Self}`",
    label = "write `Deferred<{Self}>` here, or make it an `async fn` that returns a `Result`"
)]
pub trait IsDeferred {
    /// The type of the Deferred's result.
    type Value: 'static;

    /// Converts a Deferred into the declared type.
    fn from_deferred(deferred: Deferred<Self::Value>) -> Self;
}

impl<T: 'static> IsDeferred for Deferred<T> {
    type Value = T;

    fn from_deferred(deferred: Self) -> Self {
        deferred
    }
}

/// The return type of an `async fn` under `#[inline_callbacks]`.
#[diagnostic::on_unimplemented(
    message = "an `async fn` under `#[inline_callbacks]` returns a `Result`, not `{Self}`",
    label = "write `Result<{Self}, Failure>` here"
)]
pub trait IsResult {
    /// The success type.
    type Value: 'static;
    /// The error type.
    type Error: Into<Failure>;

    /// Converts the result into the result of a Deferred.
    fn into_outcome(self) -> Outcome<Self::Value>;
}

impl<T: 'static, E: Into<Failure>> IsResult for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_outcome(self) -> Outcome<T> {
        self.map_err(Into::into)
    }
}

/// Starts the coroutine of a plain `fn`.
#[track_caller]
pub fn run<R: IsDeferred, F: Future<Output = Outcome<R::Value>> + 'static>(
    function: &'static str,
    frame: F,
) -> R {
    R::from_deferred(start(function, frame, Location::caller()))
}

/// Starts the coroutine of an `async fn`.
#[track_caller]
pub fn run_async<R: IsResult + 'static, F: Future<Output = R> + 'static>(
    function: &'static str,
    frame: F,
) -> Deferred<R::Value> {
    start(function, async move { frame.await.into_outcome() }, Location::caller())
}

/// Builds the result that `return_value!` returns.
#[inline]
pub fn done<T, E>(value: T) -> Result<T, E> {
    Ok(value)
}

/// Has the type of the body of a plain `fn` coroutine, for an unreachable `return`: rustc then
/// blames the expression that does not match it.
pub fn never<R: IsDeferred>() -> Outcome<R::Value> {
    unreachable!("a coroutine's typed return is dead code")
}

/// Has the type of the body of an `async fn` coroutine, for an unreachable `return`.
pub fn never_result<R: IsResult>() -> R {
    unreachable!("a coroutine's typed return is dead code")
}

/// The struct half of `#[protocol]`: the framing, and the field for the transport.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has `#[protocol]` on its impl, but not on its struct",
    label = "put `#[protocol]` on the struct too"
)]
pub trait Declared {
    /// The type of the framing.
    type Framing: Framing;

    /// Creates the framing of one connection.
    fn framing(&self) -> Self::Framing;

    /// Stores the transport in its field.
    fn attach(&mut self, transport: &Transport);
}

/// A framing whose messages are lines.
#[diagnostic::on_unimplemented(
    message = "this handler is for a `#[protocol(lines)]`, but the struct is framed as `{Self}`",
    label = "never called",
    note = "put `#[protocol(lines)]` on the struct, or handle what its framing gives: \
        `data_received` without a framing, `message_received` for one of your own"
)]
pub trait LineFraming: for<'a> Framing<Message<'a> = Line<'a>> {}

impl LineFraming for Lines {}

/// The framing of an unframed protocol.
#[diagnostic::on_unimplemented(
    message = "`data_received` handles a `#[protocol]` without framing, but the struct is framed \
        as `{Self}`",
    label = "never called",
    note = "handle the messages of the framing: `line_received` for `Lines`, `message_received` for \
        one of your own"
)]
pub trait DataFraming: for<'a> Framing<Message<'a> = &'a [u8]> {}

impl DataFraming for Raw {}

/// A framing whose messages may go unhandled.
#[diagnostic::on_unimplemented(
    message = "the struct is framed as `{Self}`, but nothing handles its messages",
    label = "write `fn line_received(&mut self, line: &[u8])` for `Lines`, or `message_received` \
        for a framing of your own"
)]
pub trait MayIgnore {}

impl MayIgnore for Raw {}

/// Converts the message of a line protocol.
pub fn line<F: LineFraming>(message: F::Message<'_>) -> Line<'_> {
    message
}

/// Converts the message of an unframed protocol.
#[inline]
pub fn data<F: DataFraming>(message: F::Message<'_>) -> &[u8] {
    message
}

/// Checks at compile time that the framing's messages may go unhandled.
pub fn ignore<F: Framing + MayIgnore>() {}

/// Closes the connection because of a line over the limit that no handler takes; the reason
/// contains the limit and the peer.
pub fn line_too_long(transport: &Transport, data: &[u8], max_length: usize) {
    let text = format!(
        "a line of at least {} bytes from {}: the limit is {max_length}",
        data.len(),
        transport.peer()
    );
    transport.fail(MessageLengthError::with_text(text));
}

/// Closes the connection because of raw data that no handler takes.
pub fn no_raw_handler(transport: &Transport, data: &[u8]) {
    let text = format!(
        "{} bytes from {} in raw mode, but there is no `raw_data_received` handler",
        data.len(),
        transport.peer()
    );
    transport.fail(FramingError::with_text(text));
}

/// Converts the value that a handler returned.
#[inline]
pub fn handled<H: Handled>(value: H, transport: &Transport, handler: &'static str) {
    value.handled(transport, handler);
}

/// Registers a coroutine that a handler has started. `HOLD` suspends delivery until it has
/// finished, `CANCEL` cancels it when the connection is lost.
pub fn begun<P: Protocol, const HOLD: bool, const CANCEL: bool>(
    deferred: Deferred<()>,
    this: &Handle<P>,
    handler: &'static str,
) {
    protocol::await_handler::<P, HOLD, CANCEL>(deferred, this, handler);
}

/// Registers a coroutine that `connection_lost` has started.
pub fn lingering<P: Protocol>(deferred: Deferred<()>, this: &Handle<P>, handler: &'static str) {
    protocol::await_connection_lost(deferred, this, handler);
}

/// Returns the reason for which the connection closed.
pub fn loss<P: Protocol>(this: &Handle<P>) -> Failure {
    this.loss()
}

/// Borrows the protocol for a plain handler.
#[inline]
pub fn enter<P: Protocol>(this: &Handle<P>, run: impl FnOnce(&mut P)) {
    this.enter(run);
}

/// Runs a test of `#[twistor::test]`; the limit is in milliseconds.
pub fn test<T: crate::testing::Tested>(
    limit: u64,
    test: impl FnOnce(crate::reactor::Reactor) -> T + 'static,
) {
    crate::testing::run_test(std::time::Duration::from_millis(limit), test);
}

/// Checks at compile time that the impl half of `#[protocol]` exists.
pub const fn is_protocol<P: Protocol>() {}

pub use crate::{
    address::Address,
    basic::{Line, Lines},
    failure::Failure,
    protocol::{BuildFrom, Factory, Framing, Handle, Handled, Message, Protocol, Raw, Transport},
    task::react,
};

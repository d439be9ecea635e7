//! What generated code may call. Not for other use: it changes without notice.
use crate::{
    coroutine::start,
    defer::{Deferred, Outcome},
    error::{FramingError, MessageLengthError},
    protocol,
};
use std::{future::Future, panic::Location};

/// The return type of a plain `fn` under `#[inline_callbacks]`.
#[diagnostic::on_unimplemented(
    message = "a coroutine returns a `Deferred`, and not `{Self}`",
    label = "write `Deferred<{Self}>` here, or make it an `async fn` that returns a `Result`"
)]
pub trait IsDeferred {
    /// The value it brings.
    type Value: 'static;

    /// The Deferred as that type.
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
    message = "an `async fn` under `#[inline_callbacks]` returns a `Result`, and not `{Self}`",
    label = "write `Result<{Self}, Failure>` here"
)]
pub trait IsResult {
    /// The value.
    type Value: 'static;
    /// The error.
    type Error: Into<Failure>;

    /// As the Deferred's own kind of result.
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

/// What `return_value!` returns.
#[inline]
pub fn done<T, E>(value: T) -> Result<T, E> {
    Ok(value)
}

/// The type of a coroutine's body, for a `return` that is never reached: rustc then blames the
/// expression that does not fit it.
pub fn never<R: IsDeferred>() -> Outcome<R::Value> {
    unreachable!("a coroutine's typed return is dead code")
}

/// The same for an `async fn`.
pub fn never_result<R: IsResult>() -> R {
    unreachable!("a coroutine's typed return is dead code")
}

/// What the struct half of `#[protocol]` says: the framing, and where the transport is kept.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has `#[protocol]` on its impl, but not on its struct",
    label = "put `#[protocol]` on the struct too"
)]
pub trait Declared {
    /// The framing.
    type Framing: Framing;

    /// The framing of one connection.
    fn framing(&self) -> Self::Framing;

    /// Keeps the transport.
    fn attach(&mut self, transport: &Transport);
}

/// A framing that gives lines.
#[diagnostic::on_unimplemented(
    message = "this handler is for a `#[protocol(lines)]`, but the struct is framed as `{Self}`",
    label = "never called",
    note = "put `#[protocol(lines)]` on the struct, or handle what its framing gives: \
        `data_received` without a framing, `message_received` for one of your own"
)]
pub trait LineFraming: for<'a> Framing<Message<'a> = Line<'a>> {}

impl LineFraming for Lines {}

/// No framing.
#[diagnostic::on_unimplemented(
    message = "`data_received` handles a `#[protocol]` without framing, but the struct is framed \
        as `{Self}`",
    label = "never called",
    note = "handle what the framing gives: `line_received` for `Lines`, `message_received` for one \
        of your own"
)]
pub trait DataFraming: for<'a> Framing<Message<'a> = &'a [u8]> {}

impl DataFraming for Raw {}

/// A framing whose messages may be left alone.
#[diagnostic::on_unimplemented(
    message = "the struct is framed as `{Self}`, but nothing handles its messages",
    label = "write `fn line_received(&mut self, line: &[u8])` for `Lines`, or `message_received` \
        for a framing of your own"
)]
pub trait MayIgnore {}

impl MayIgnore for Raw {}

/// A line protocol's message.
pub fn line<F: LineFraming>(message: F::Message<'_>) -> Line<'_> {
    message
}

/// An unframed protocol's message.
#[inline]
pub fn data<F: DataFraming>(message: F::Message<'_>) -> &[u8] {
    message
}

/// Nothing is to be handled.
pub fn ignore<F: Framing + MayIgnore>() {}

/// Nothing handles a line over the limit: the connection is closed, with the limit and the peer in
/// its reason.
pub fn line_too_long(transport: &Transport, data: &[u8], max_length: usize) {
    let text = format!(
        "a line of {} bytes or more from {}, the limit is {max_length}",
        data.len(),
        transport.peer()
    );
    transport.fail(MessageLengthError::with_text(text));
}

/// Nothing handles raw data.
pub fn no_raw_handler(transport: &Transport, data: &[u8]) {
    let text = format!(
        "{} bytes from {} in raw mode, and no `raw_data_received` to handle them",
        data.len(),
        transport.peer()
    );
    transport.fail(FramingError::with_text(text));
}

/// Takes what a handler returned.
#[inline]
pub fn handled<H: Handled>(value: H, transport: &Transport, handler: &'static str) {
    value.handled(transport, handler);
}

/// Takes what a coroutine handler has begun; `HOLD` holds back the next message, `CANCEL` ends it
/// with the connection.
pub fn begun<P: Protocol, const HOLD: bool, const CANCEL: bool>(
    deferred: Deferred<()>,
    this: &Handle<P>,
    handler: &'static str,
) {
    protocol::await_handler::<P, HOLD, CANCEL>(deferred, this, handler);
}

/// Takes what a coroutine for `connection_lost` has begun.
pub fn lingering<P: Protocol>(deferred: Deferred<()>, this: &Handle<P>, handler: &'static str) {
    protocol::await_connection_lost(deferred, this, handler);
}

/// Why the connection is over.
pub fn loss<P: Protocol>(this: &Handle<P>) -> Failure {
    this.loss()
}

/// Lends the protocol to a plain handler.
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

/// For the struct half: says that the impl half is missing.
pub const fn is_protocol<P: Protocol>() {}

pub use crate::{
    address::Address,
    basic::{Line, Lines},
    failure::Failure,
    protocol::{BuildFrom, Factory, Framing, Handle, Handled, Message, Protocol, Raw, Transport},
    task::react,
};

//! The return values of handlers, and how they are handled.
use super::{connection::fail_connection, handle::Handle, protocol::Protocol};
use crate::{
    defer::{AbandonCause as _, Deferred},
    error::CancelledError,
    failure::Failure,
    report::report,
    sealed::Sealed,
    stream::Transport,
};

/// The return types of handlers: `()`, `Result<(), E>` with any error, or `Deferred<()>`.
///
/// An error, whenever it comes, is reported and closes the connection with that reason.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "a handler returns `()`, `Result<(), E>` or `Deferred<()>`"
)]
pub trait Handled: Sealed {
    #[doc(hidden)]
    fn handled(self, transport: &Transport, handler: &'static str);
}

impl Handled for () {
    #[inline]
    fn handled(self, _transport: &Transport, _handler: &'static str) {}
}

impl<E: Into<Failure>> Handled for Result<(), E> {
    #[inline]
    fn handled(self, transport: &Transport, handler: &'static str) {
        if let Err(error) = self {
            fail_connection(transport, error.into(), handler);
        }
    }
}

impl Handled for Deferred<()> {
    fn handled(self, transport: &Transport, handler: &'static str) {
        let transport = transport.clone();
        self.add_errback(move |failure| {
            failed_later(&transport, failure, handler);
            Ok(())
        })
        .detach();
    }
}

/// Closes the connection because a coroutine handler has failed. After the loss the failure is
/// reported, unless it is the reason of the loss itself.
fn failed_later(transport: &Transport, failure: Failure, handler: &'static str) {
    match transport.0.as_ref().and_then(|stream| stream.reason()) {
        None => fail_connection(transport, failure, handler),
        Some(reason) if reason.is_same(&failure) => {}
        // the loss has cancelled it
        Some(_) if failure.check::<CancelledError>() => {}
        Some(_) => {
            let peer = transport.peer();
            report(failure, format!("{handler}, after the connection with {peer} had closed"));
        }
    }
}

/// Registers the Deferred of a coroutine handler.
///
/// With `SUSPEND` the next message is delivered when it has fired. With `CANCEL` the loss of the
/// connection cancels it.
pub(crate) fn await_handler<P: Protocol, const SUSPEND: bool, const CANCEL: bool>(
    result: Deferred<()>,
    this: &Handle<P>,
    handler: &'static str,
) {
    let Some(stream) = &this.transport().0 else { return };
    if CANCEL {
        this.cancel_on_loss(result.canceller());
    }
    if !SUSPEND {
        return result.handled(this.transport(), handler);
    }
    stream.suspend_delivery();
    let handle = this.clone();
    let finished = result.add_both(move |result| {
        if let Some(stream) = &handle.transport().0 {
            stream.resume_delivery();
        }
        result
    });
    finished.handled(this.transport(), handler);
}

/// Registers the Deferred of a coroutine `connection_lost`: the protocol lives until it has fired.
pub(crate) fn await_connection_lost<P: Protocol>(
    result: Deferred<()>,
    this: &Handle<P>,
    handler: &'static str,
) {
    // if it has fired already there is nothing to wait for
    let pending = match result.take_result() {
        Ok(result) => return finished(result, this, handler),
        Err(pending) => pending,
    };
    this.wait_for_connection_lost();
    let handle = this.clone();
    pending
        .add_both(move |result| {
            handle.connection_lost_finished();
            finished(result, &handle, handler);
        })
        .detach();
}

/// Reports a failure of `connection_lost`, unless it is the reason of the loss itself.
fn finished<P: Protocol>(result: Result<(), Failure>, this: &Handle<P>, handler: &'static str) {
    if let Err(failure) = result
        && this.reason().is_none_or(|reason| !reason.is_same(&failure))
    {
        report(failure, handler);
    }
}

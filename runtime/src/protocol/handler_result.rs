//! What a handler gives back.
use super::{connection::failed, handle::Handle, protocol::Protocol};
use crate::{defer::Deferred, failure::Failure, report::report, stream::Transport};

/// What a handler may return: `()`, `Result<(), E>` with any error, or `Deferred<()>`.
///
/// An error, now or later, is reported and closes the connection with that reason.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "a handler returns `()`, `Result<(), E>` or `Deferred<()>`"
)]
pub trait Handled {
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
            failed(transport, error.into(), handler);
        }
    }
}

impl Handled for Deferred<()> {
    fn handled(self, transport: &Transport, handler: &'static str) {
        let transport = transport.clone();
        self.add_errback(move |failure| {
            ended(&transport, failure, handler);
            Ok(())
        })
        .detach();
    }
}

/// The failure of a handler that ended later: it closes the connection. After the loss it is
/// reported, unless it is that very reason.
fn ended(transport: &Transport, failure: Failure, handler: &'static str) {
    match transport.0.as_ref().and_then(|stream| stream.reason()) {
        None => failed(transport, failure, handler),
        Some(reason) if reason.is_same(&failure) => {}
        Some(_) => report(
            failure,
            format!("{handler}, after the end of the connection with {}", transport.peer()),
        ),
    }
}

/// What a coroutine handler has begun.
///
/// `HOLD`: the next message waits until it is done. `CANCEL`: the loss of the connection cancels
/// it.
pub(crate) fn begun<P: Protocol, const HOLD: bool, const CANCEL: bool>(
    begun: Deferred<()>,
    this: &Handle<P>,
    handler: &'static str,
) {
    let Some(stream) = &this.transport().0 else { return };
    if CANCEL {
        this.cancel_on_loss(begun.canceller());
    }
    if !HOLD {
        return begun.handled(this.transport(), handler);
    }
    stream.hold(true);
    let handle = this.clone();
    let done = begun.add_both(move |result| {
        if let Some(stream) = &handle.transport().0 {
            stream.hold(false);
        }
        result
    });
    done.handled(this.transport(), handler);
}

/// What a coroutine for `connection_lost` has begun: the protocol lives until it is done.
pub(crate) fn lingering<P: Protocol>(begun: Deferred<()>, this: &Handle<P>, handler: &'static str) {
    // one that has ended already needs no lingering: the end is under way
    let begun = match begun.take_result() {
        Ok(result) => return finished(result, this, handler),
        Err(pending) => pending,
    };
    this.linger();
    let handle = this.clone();
    begun
        .add_both(move |result| {
            handle.lingered();
            finished(result, &handle, handler);
        })
        .detach();
}

/// A failure of a `connection_lost` is reported, unless it is the reason of the loss itself.
fn finished<P: Protocol>(result: Result<(), Failure>, this: &Handle<P>, handler: &'static str) {
    if let Err(failure) = result
        && this.reason().is_none_or(|reason| !reason.is_same(&failure))
    {
        report(failure, handler);
    }
}

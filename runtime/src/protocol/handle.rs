//! Handle: a reference to a live protocol from anywhere in its thread.
use super::{connection::Connection, protocol::Protocol};
use crate::{
    defer::{Deferred, IntoDeferred, OnValue},
    error::MessageError,
    failure::{Failure, Frame},
    report::guarded,
    stream::Transport,
};
use std::{fmt, ops::Deref, panic::Location, rc::Rc};

/// A live protocol, reachable from anywhere in its thread. Cloning it is cheap, and it derefs to
/// the [`Transport`], so `handle.write(..)` works.
///
/// A call runs at once if the protocol is free. Otherwise it runs right after the handler or call
/// that is using the protocol, in order, and before the next message. A handle keeps nothing alive:
/// the protocol is dropped when its connection has closed, and later calls fail at once with the
/// reason.
///
/// ```no_run
/// use twistor::prelude::*;
/// # use twistor::protocol::Protocol;
/// # #[derive(Default)] struct Counter { lines: u32 }
/// # impl Protocol for Counter { type Framing = twistor::protocol::Raw; }
///
/// #[inline_callbacks]
/// fn count(counter: Handle<Counter>) -> Deferred<u32> {
///     let lines = yield_!(counter.with(|counter| counter.lines))?;
///     counter.write(format!("{lines} lines so far\r\n"));
///     return_value!(lines)
/// }
/// ```
#[doc(alias = "protocol")]
pub struct Handle<P: Protocol>(pub(crate) Rc<Connection<P>>);

/// Why [`Handle::try_with`] could not run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NotNow {
    /// A handler or a call is using the protocol.
    Busy,
    /// The connection has closed, for this reason.
    Lost(Failure),
}

impl From<NotNow> for Failure {
    fn from(not_now: NotNow) -> Self {
        match not_now {
            NotNow::Busy => {
                MessageError::new("the protocol is busy: a handler or a call is using it").into()
            }
            NotNow::Lost(reason) => reason,
        }
    }
}

impl<P: Protocol> Handle<P> {
    /// Runs `f` on the protocol and returns a Deferred of its result: a `Result`, a `Deferred`, or
    /// `()`.
    ///
    /// Nothing is allocated when the protocol is free. A panic or a failure of `f` goes to the
    /// caller and not to the connection. If `f` returns a Deferred, the protocol is free while that
    /// is pending.
    ///
    /// # Errors
    /// After the connection has closed, fails at once with the reason of the loss.
    ///
    /// # Cancellation
    /// Cancelling a queued call removes it.
    #[track_caller]
    pub fn call<R: IntoDeferred + 'static>(
        &self,
        f: impl FnOnce(&mut P) -> R + 'static,
    ) -> Deferred<R::Value> {
        let place = Location::caller();
        if self.is_free() {
            self.call_now(f, place)
        } else {
            let this = self.clone();
            let call = OnValue(move |()| this.call_now(f, place));
            let (deferred, ticket) = Deferred::gated(call, place);
            self.enqueue(ticket);
            deferred
        }
    }

    /// Runs `f` on the protocol and returns a Deferred of its plain value; otherwise as
    /// [`call`](Self::call).
    #[track_caller]
    pub fn with<V: 'static>(&self, f: impl FnOnce(&mut P) -> V + 'static) -> Deferred<V> {
        self.call(|protocol| Ok(f(protocol)))
    }

    /// Runs `f` on the protocol without waiting for it. After the connection has closed, `f` is
    /// dropped without running.
    #[track_caller]
    pub fn tell(&self, f: impl FnOnce(&mut P) + 'static) {
        // a closed connection is not an error here, because the caller does not wait for a result
        self.with(f)
            .add_errback(|failure| {
                if failure.check::<crate::error::Panicked>() { Err(failure) } else { Ok(()) }
            })
            .detach();
    }

    /// Runs `f` on the protocol now, or returns why it cannot.
    ///
    /// # Errors
    /// Fails with [`NotNow::Busy`] inside a handler or a call of the same protocol, and with
    /// [`NotNow::Lost`] after the connection has closed.
    pub fn try_with<V>(&self, f: impl FnOnce(&mut P) -> V) -> Result<V, NotNow> {
        /// Runs queued calls, also when `f` panics.
        struct Drain<'a, P: Protocol>(&'a Handle<P>);
        impl<P: Protocol> Drop for Drain<'_, P> {
            fn drop(&mut self) {
                self.0.after_user_code();
            }
        }
        // declared first, so that the borrow has ended when it is dropped
        let _drain = Drain(self);
        match self.0.protocol.try_borrow_mut() {
            Err(_) => Err(NotNow::Busy),
            Ok(mut protocol) => match &mut *protocol {
                // user code
                Some(protocol) => Ok(f(protocol)),
                None => Err(NotNow::Lost(self.loss())),
            },
        }
    }

    /// Returns the transport.
    pub fn transport(&self) -> &Transport {
        &self.0.transport
    }

    fn call_now<R: IntoDeferred + 'static>(
        &self,
        f: impl FnOnce(&mut P) -> R + 'static,
        place: &'static Location<'static>,
    ) -> Deferred<R::Value> {
        let given = match self.0.protocol.try_borrow_mut() {
            Ok(mut protocol) => match &mut *protocol {
                // user code
                Some(protocol) => guarded(|| Frame::new("Handle::call", place), || f(protocol)),
                None => Err(self.loss()),
            },
            Err(_) => Err(NotNow::Busy.into()),
        };
        self.after_user_code();
        match given {
            Ok(given) => given.into_deferred(),
            Err(failure) => Deferred::ready(Err(failure), place),
        }
    }
}

impl<P: Protocol> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: Protocol> Deref for Handle<P> {
    type Target = Transport;

    fn deref(&self) -> &Transport {
        self.transport()
    }
}

impl<P: Protocol> fmt::Debug for Handle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Handle of a {} on {:?}>", std::any::type_name::<P>(), self.transport())
    }
}

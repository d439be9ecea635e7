//! Handle: a live protocol, from anywhere in its thread.
use super::{connection::Connection, protocol::Protocol};
use crate::{
    defer::{Deferred, IntoDeferred, OnValue},
    error::MessageError,
    failure::{Failure, Frame},
    report::guarded,
    stream::Transport,
};
use std::{fmt, ops::Deref, panic::Location, rc::Rc};

/// A live protocol, reachable from anywhere in the thread. A cheap clone; it derefs to the
/// [`Transport`], so `handle.write(..)` works.
///
/// A call runs now if the protocol is free, else right after the handler or call that has it, in
/// order, before the next message. Holding a handle keeps nothing alive: the protocol is dropped
/// when its connection has ended, and later calls fail at once with the reason.
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

/// Why [`Handle::try_with`] could not look now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NotNow {
    /// A handler or a call has the protocol.
    Busy,
    /// The connection is over: why.
    Lost(Failure),
}

impl From<NotNow> for Failure {
    fn from(not_now: NotNow) -> Self {
        match not_now {
            NotNow::Busy => {
                MessageError::with_text("the protocol is busy: a handler or a call has it").into()
            }
            NotNow::Lost(reason) => reason,
        }
    }
}

impl<P: Protocol> Handle<P> {
    /// Runs `f` on the protocol and gives what it returns: a `Result`, a `Deferred`, or `()`.
    ///
    /// Nothing is allocated when the protocol is free. A panic in `f`, or its failure, belongs to
    /// the caller and not to the connection. A Deferred that it returns is waited for outside, with
    /// the protocol free.
    ///
    /// # Errors
    /// After the end of the connection the reason of the loss, at once.
    ///
    /// # Cancellation
    /// Cancelling a call that is still queued takes it out unrun.
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

    /// [`call`](Self::call) for a plain value.
    #[track_caller]
    pub fn with<V: 'static>(&self, f: impl FnOnce(&mut P) -> V + 'static) -> Deferred<V> {
        self.call(|protocol| Ok(f(protocol)))
    }

    /// Runs `f` on the protocol and waits for nothing. After the end of the connection it is
    /// dropped unrun.
    #[track_caller]
    pub fn tell(&self, f: impl FnOnce(&mut P) + 'static) {
        // a connection that is over is no news to somebody who waits for nothing
        self.with(f)
            .add_errback(|failure| {
                if failure.check::<crate::error::Panicked>() { Err(failure) } else { Ok(()) }
            })
            .detach();
    }

    /// Looks at the protocol now or not at all.
    ///
    /// # Errors
    /// [`NotNow::Busy`] inside a handler or a call of the same protocol, [`NotNow::Lost`] after the
    /// end.
    pub fn try_with<V>(&self, f: impl FnOnce(&mut P) -> V) -> Result<V, NotNow> {
        /// Lets queued calls in also when the look panics.
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

    /// The writing side.
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

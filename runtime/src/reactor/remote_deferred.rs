//! Deferreds that another thread fires.
use super::{Reactor, remote::Remote};
use crate::{
    defer::{Deferred, Resolver},
    error::ReactorClosed,
    failure::Failure,
};
use std::{
    marker::PhantomData,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Fires a Deferred from another thread. Dropping it unused fails the Deferred with
/// [`AbandonedError`](crate::error::AbandonedError).
pub(crate) struct RemoteResolver<T: Send + 'static> {
    remote: Remote,
    number: u64,
    wanted: Arc<AtomicBool>,
    sent: bool,
    _value: PhantomData<fn(T)>,
}

impl<T: Send + 'static> RemoteResolver<T> {
    /// Returns whether the result is still wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Fires the Deferred with `result`, in a later turn of its reactor.
    pub(crate) fn send(mut self, result: Result<T, Failure>) {
        self.submit(Some(result));
    }

    fn submit(&mut self, result: Option<Result<T, Failure>>) {
        self.sent = true;
        let number = self.number;
        // a closed reactor drops the call; an open one runs it in one of its turns
        self.remote.call_from_thread(move || {
            let resolver =
                Reactor::current().and_then(|reactor| reactor.0.remote_deferreds.remove(number));
            if let Some(resolver) =
                resolver.and_then(|resolver| resolver.downcast::<Resolver<T>>().ok())
                && let Some(result) = result
            {
                // user code
                resolver.resolve(result);
            }
        });
    }
}

impl<T: Send + 'static> Drop for RemoteResolver<T> {
    fn drop(&mut self) {
        if !self.sent {
            self.submit(None);
        }
    }
}

impl Reactor {
    /// Returns a Deferred that another thread fires: `start` hands the resolver over, or fails. On
    /// a closed reactor `start` is not called.
    #[track_caller]
    pub(crate) fn deferred_from_thread<T: Send + 'static, E: Into<Failure>>(
        &self,
        start: impl FnOnce(RemoteResolver<T>) -> Result<(), E>,
    ) -> Deferred<T> {
        if self.0.is_closed() {
            return Deferred::fail(ReactorClosed::new());
        }
        let table = &self.0.remote_deferreds;
        let number = table.next();
        let wanted = Arc::new(AtomicBool::new(true));
        let (core, asked) = (Rc::downgrade(&self.0), wanted.clone());
        let (deferred, resolver) = Deferred::with_canceller(move |_| {
            asked.store(false, Ordering::Relaxed);
            let removed = core.upgrade().and_then(|core| core.remote_deferreds.remove(number));
            drop(removed);
        });
        table.insert(number, Box::new(resolver));
        match start(RemoteResolver {
            remote: self.remote(),
            number,
            wanted,
            sent: false,
            _value: PhantomData,
        }) {
            Ok(()) => deferred,
            Err(error) => {
                deferred.cancel();
                deferred.detach();
                Deferred::fail(error)
            }
        }
    }
}

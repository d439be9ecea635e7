//! Deferreds that another thread fires.
use super::{Reactor, remote::Remote};
use crate::{
    defer::{Deferred, Resolver},
    error::ReactorClosed,
    failure::Failure,
    report::drop_each,
};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    marker::PhantomData,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The Resolvers of a reactor that wait for an answer out of another thread: they stay here, and
/// only their number crosses.
#[derive(Default)]
pub(crate) struct Crossings {
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Box<dyn Any>>>,
}

impl Crossings {
    /// The reactor is being closed: nobody will bring the answers.
    pub(super) fn forget_all(&self) {
        drop_each(self.waiting.take());
    }

    fn remove(&self, number: u64) -> Option<Box<dyn Any>> {
        self.waiting.borrow_mut().remove(&number)
    }
}

/// The right to answer, for another thread. Dropped without an answer, it lets the Deferred fail
/// with [`AbandonedError`](crate::error::AbandonedError).
pub(crate) struct Answer<T: Send + 'static> {
    remote: Remote,
    number: u64,
    wanted: Arc<AtomicBool>,
    sent: bool,
    _value: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Answer<T> {
    /// Whether the Deferred was not cancelled.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Fires the Deferred in a later turn of its reactor, with what has come in this thread.
    pub(crate) fn send(mut self, result: Result<T, Failure>) {
        self.hand_in(Some(result));
    }

    fn hand_in(&mut self, result: Option<Result<T, Failure>>) {
        self.sent = true;
        let number = self.number;
        // a closed reactor has no use for the answer; an open one runs this call in its own turn
        self.remote.call_from_thread(move || {
            let resolver =
                Reactor::current().and_then(|reactor| reactor.0.crossings.remove(number));
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

impl<T: Send + 'static> Drop for Answer<T> {
    fn drop(&mut self) {
        if !self.sent {
            self.hand_in(None);
        }
    }
}

impl Reactor {
    /// A Deferred that another thread fires: `give` hands the right to do so over, or says why it
    /// cannot. A closed reactor asks nobody.
    #[track_caller]
    pub(crate) fn ask<T: Send + 'static, E: Into<Failure>>(
        &self,
        give: impl FnOnce(Answer<T>) -> Result<(), E>,
    ) -> Deferred<T> {
        if self.0.is_closed() {
            return Deferred::fail(ReactorClosed::new());
        }
        let crossings = &self.0.crossings;
        let number = crossings.next.replace(crossings.next.get() + 1);
        let wanted = Arc::new(AtomicBool::new(true));
        let (core, asked) = (Rc::downgrade(&self.0), wanted.clone());
        let (deferred, resolver) = Deferred::with_canceller(move |_| {
            asked.store(false, Ordering::Relaxed);
            let gone = core.upgrade().and_then(|core| core.crossings.remove(number));
            drop(gone);
        });
        crossings.waiting.borrow_mut().insert(number, Box::new(resolver));
        match give(Answer {
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

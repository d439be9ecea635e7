//! Time limits on what a chain waits for.
use super::{
    deferred::{Deferred, DeferredState, IntoDeferred},
    then::OnBoth,
};
use crate::{
    error::{CancelledBy, CancelledError, DeferredTimeoutError},
    failure::Failure,
    time::ReactorTime,
};
use std::{cell::Cell, panic::Location, rc::Rc, time::Duration};

impl<T: 'static> Deferred<T> {
    /// Sets a time limit on the chain so far: after the time `after` it is cancelled, and the
    /// resulting [`CancelledError`] becomes a [`DeferredTimeoutError`], which is of the kind
    /// [`TimeoutError`](crate::error::TimeoutError).
    ///
    /// Any other result is kept: a value from the canceller, an error of its own, or the result of
    /// a coroutine that has recovered. Callbacks added later are not covered: the timer stops when
    /// the chain before it has its result. On a fired Deferred no timer is started.
    ///
    /// ```
    /// use std::time::Duration;
    /// use twistor::{defer::Deferred, error::TimeoutError, task::Clock};
    ///
    /// let clock = Clock::new();
    /// let (deferred, _resolver) = Deferred::<u32>::new();
    /// let limited = deferred.add_timeout(Duration::from_secs(10), &clock);
    /// clock.advance(Duration::from_secs(10));
    /// limited.add_errback(|failure| {
    ///     assert!(failure.check::<TimeoutError>());
    ///     Ok(0)
    /// });
    /// ```
    #[doc(alias = "addTimeout")]
    #[track_caller]
    pub fn add_timeout(self, after: Duration, clock: &(impl ReactorTime + ?Sized)) -> Self {
        let (created_at, place) = (self.created_at(), Location::caller());
        self.limited(after, clock, place, move |result, after| match result {
            Err(failure) if failure.check::<CancelledError>() => {
                let cause = failure.shared_value();
                Err(DeferredTimeoutError::new(after, created_at, place, cause).into())
            }
            other => other,
        })
    }

    /// Sets a time limit with a handler of your own. After the limit, `handler` receives the
    /// chain's result and the limit, and what it returns is the result, even if an earlier errback
    /// had turned the cancellation into a value.
    #[track_caller]
    pub fn add_timeout_with<R: IntoDeferred<Value = T>>(
        self,
        after: Duration,
        clock: &(impl ReactorTime + ?Sized),
        handler: impl FnOnce(Result<T, Failure>, Duration) -> R + 'static,
    ) -> Self {
        self.limited(after, clock, Location::caller(), handler)
    }

    fn limited<R: IntoDeferred<Value = T>>(
        self,
        after: Duration,
        clock: &(impl ReactorTime + ?Sized),
        place: &'static Location<'static>,
        handler: impl FnOnce(Result<T, Failure>, Duration) -> R + 'static,
    ) -> Self {
        let source = match self.settle() {
            DeferredState::Ready(outcome) => return Self::ready(outcome, place),
            DeferredState::Pending(source) => source,
        };
        let limited = Self::pending(source);
        let canceller = limited.canceller();
        let expired = Rc::new(Cell::new(false));
        let expiry = expired.clone();
        let timer = clock.schedule(
            after,
            Box::new(move || {
                expiry.set(true);
                canceller.cancel_for(&CancelledError::at(CancelledBy::Timeout(after), place));
            }),
        );
        let ended = move |result: Result<T, Failure>| {
            if expired.get() {
                handler(result, after).into_deferred()
            } else {
                // the timer cannot have run, so this cannot fail
                let _ = timer.cancel();
                result.into_deferred()
            }
        };
        limited.link(OnBoth(ended), place)
    }
}

//! `defer_later`: a delayed call whose result is a Deferred.
use crate::{
    defer::{Deferred, IntoDeferred},
    time::ReactorTime,
    timers::WeakCall,
};
use std::{cell::Cell, rc::Rc, time::Duration};

/// Calls `f` after `delay` and returns a Deferred of its result.
///
/// ```
/// use std::time::Duration;
/// use twistor::task::{Clock, defer_later};
///
/// let clock = Clock::new();                        // in a program: the reactor
/// let answer = defer_later(&clock, Duration::from_secs(3), || Ok(42));
/// clock.advance(Duration::from_secs(3));
/// assert_eq!(answer.take_result().unwrap().unwrap(), 42);
/// ```
///
/// To only wait, write `defer_later(&clock, delay, || ())`.
///
/// # Errors
/// Fails with the error of `f`, and with its panic.
///
/// # Cancellation
/// Cancels the call before it has run; afterwards the Deferred that `f` has returned.
#[doc(alias = "deferLater")]
#[track_caller]
pub fn defer_later<R: IntoDeferred>(
    clock: &(impl ReactorTime + ?Sized),
    delay: Duration,
    f: impl FnOnce() -> R + 'static,
) -> Deferred<R::Value> {
    let timer: Rc<Cell<Option<WeakCall>>> = Rc::default();
    let taken_back = timer.clone();
    let (time, resolver) = Deferred::with_canceller(move |_| {
        if let Some(timer) = taken_back.take() {
            timer.cancel();
        }
    });
    timer.set(Some(clock.schedule(delay, Box::new(move || resolver.callback(()))).into()));
    time.add_callback(move |()| f())
}

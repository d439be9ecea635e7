//! Work in other threads, and calls back into the reactor's thread.
//!
//! All objects of twistor belong to the reactor's thread. Blocking work goes to the thread pool
//! with [`defer_to_thread`], which returns a Deferred of the result. Other threads reach the
//! reactor through its [`Remote`].
//!
//! ```
//! use twistor::{prelude::*, threads::defer_to_thread};
//!
//! #[inline_callbacks]
//! fn sum(reactor: Reactor) -> Deferred<u64> {
//!     let sum = yield_!(defer_to_thread(&reactor, || Ok((1..=1000u64).sum())))?;
//!     return_value!(sum)
//! }
//! ```
pub use crate::reactor::{PoolLimits, PoolLoad, ThreadPool};
use crate::{
    defer::{Deferred, IntoDeferred, maybe_deferred},
    error::{ReactorAlreadyRunning, ReactorClosed},
    failure::{Failure, Frame},
    reactor::{Reactor, Remote},
    report::guarded,
};
use std::{panic::Location, sync::mpsc::sync_channel};

/// Runs `work` in the reactor's thread pool and returns a Deferred that fires with its result, in a
/// turn of the reactor.
///
/// `work` and its result cross threads, so both must be `Send`. Deferreds, protocols and transports
/// are not, and the compiler rejects them.
///
/// # Errors
/// Fails with the error of `work`, with its panic, and with
/// [`QueueFullError`](crate::error::QueueFullError).
///
/// # Cancellation
/// Work that has not started is removed from the queue. Work that has started runs to its end, and
/// its result is dropped.
#[doc(alias = "deferToThread")]
#[track_caller]
pub fn defer_to_thread<T: Send + 'static>(
    reactor: &Reactor,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Deferred<T> {
    defer_to_thread_pool(reactor, &reactor.thread_pool(), work)
}

/// Runs `work` in a thread pool of your own and returns a Deferred that fires with its result.
#[doc(alias = "deferToThreadPool")]
#[track_caller]
pub fn defer_to_thread_pool<T: Send + 'static>(
    reactor: &Reactor,
    pool: &ThreadPool,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Deferred<T> {
    let place = Location::caller();
    reactor.deferred_from_thread(|answer| {
        pool.call_in_thread(move || {
            if answer.is_wanted() {
                // user code
                let result = guarded(|| Frame::new("defer_to_thread", place), work)
                    .and_then(|result| result);
                answer.send(result);
            }
        })
    })
}

/// Runs all of `work` one after the other in one thread of the reactor's pool. A panic is reported,
/// and the next piece of work runs.
///
/// # Errors
/// Fails with [`QueueFullError`](crate::error::QueueFullError).
#[doc(alias = "callMultipleInThread")]
pub fn call_multiple_in_thread(
    reactor: &Reactor,
    work: Vec<Box<dyn FnOnce() + Send>>,
) -> Result<(), Failure> {
    reactor.thread_pool().call_in_thread(move || {
        for piece in work {
            // user code
            if let Err(failure) =
                guarded(|| Frame::new("call_multiple_in_thread", Location::caller()), piece)
            {
                crate::report::report(failure, "a piece of work in a thread");
            }
        }
    })
}

/// Runs `f` in the reactor's thread and blocks this one until there is a result: what `f` returns,
/// or what its Deferred fires with.
///
/// ```
/// use twistor::{prelude::*, threads::blocking_call_from_thread};
///
/// let reactor = Reactor::new()?;
/// let remote = reactor.remote();
/// let thread = std::thread::spawn(move || {
///     let answer = blocking_call_from_thread(&remote, || Ok(42));
///     remote.call_from_thread(|| Reactor::current().unwrap().stop().unwrap());
///     answer
/// });
/// reactor.run()?;
/// assert_eq!(thread.join().unwrap()?, 42);
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// Fails with the error of `f`, with [`ReactorClosed`] if the reactor closes before there is a
/// result, and with [`ReactorAlreadyRunning`] in the reactor's own thread, which would wait for
/// itself.
#[doc(alias = "blockingCallFromThread")]
pub fn blocking_call_from_thread<R>(
    remote: &Remote,
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<R::Value, Failure>
where
    R: IntoDeferred,
    R::Value: Send,
{
    if remote.is_in_reactor_thread() {
        return Err(ReactorAlreadyRunning::with_text(
            "a blocking call in the reactor's own thread would wait for itself",
        )
        .into());
    }
    let (send, receive) = sync_channel(1);
    remote.call_from_thread(move || {
        // user code
        let result = maybe_deferred(f);
        result
            .add_both(move |result| {
                // the other thread blocks on this channel alone
                let _ = send.send(result);
            })
            .detach();
    });
    receive.recv().unwrap_or_else(|_| Err(ReactorClosed::new().into()))
}

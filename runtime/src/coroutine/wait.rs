//! The await of a Deferred.
use super::driver::{Coroutine, current};
use crate::{
    defer::{Deferred, DeferredState, Node, Outcome, debug, discard_outcome, set_external_waker},
    failure::{Failure, Frame, current_function},
};
use std::{
    fmt,
    future::{Future, IntoFuture},
    panic::Location,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

/// The future of a Deferred: what `.await` and `yield_!` poll, and what `deferred.into_future()`
/// gives to `join!` and similar macros.
///
/// Dropping it stops nothing: the Deferred's callbacks still run.
#[must_use = "futures do nothing unless awaited"]
pub struct Wait<T: 'static> {
    state: AwaitState<T>,
    /// The line of the `.await`, a frame of the traceback.
    place: &'static Location<'static>,
}

enum AwaitState<T> {
    Ready(Outcome<T>),
    Pending(Rc<dyn Node<T>>, Registered),
    Over,
}

/// The coroutine that has recorded this await for its cancellation.
type Registered = Option<Weak<dyn Coroutine>>;

impl<T: 'static> IntoFuture for Deferred<T> {
    type Output = Result<T, Failure>;
    type IntoFuture = Wait<T>;

    #[track_caller]
    fn into_future(self) -> Wait<T> {
        let state = match self.settle() {
            DeferredState::Ready(outcome) => AwaitState::Ready(outcome),
            DeferredState::Pending(source) => AwaitState::Pending(source, None),
        };
        Wait { state, place: Location::caller() }
    }
}

/// A `Wait` keeps its parts behind pointers and never hands them out pinned.
impl<T: 'static> Unpin for Wait<T> {}

impl<T: 'static> Future for Wait<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // inspected in place: a pending await is polled twice at least, and does not move
        if let AwaitState::Pending(source, registered) = &mut this.state {
            let outcome = source.slot().take().or_else(|| register(source, registered, cx.waker()));
            let Some(outcome) = outcome else {
                debug::awaited(source.slot().address(), this.place);
                return Poll::Pending;
            };
            unregister(source, registered);
            this.state = AwaitState::Over;
            return Poll::Ready(passing(outcome, this.place));
        }
        match std::mem::replace(&mut this.state, AwaitState::Over) {
            AwaitState::Ready(outcome) => Poll::Ready(passing(outcome, this.place)),
            AwaitState::Pending(..) | AwaitState::Over => {
                panic!("the await of a Deferred was polled after it was ready")
            }
        }
    }
}

/// Adds the frame of this await to a failure that passes it.
fn passing<T>(outcome: Outcome<T>, place: &'static Location<'static>) -> Outcome<T> {
    outcome.map_err(|failure| failure.passing(Frame::new(current_function(), place)))
}

/// Registers at `source`: directly, so that the fire resumes the coroutine, if the waker is the
/// driver's own, and otherwise with that waker. Offering the waker to foreign code may produce the
/// outcome.
fn register<T: 'static>(
    source: &Rc<dyn Node<T>>,
    registered: &mut Registered,
    waker: &Waker,
) -> Option<Outcome<T>> {
    let Some(current) = current() else {
        unregister(source, registered);
        source.slot().wait_waker(waker);
        set_external_waker(source.clone(), waker);
        return source.slot().take();
    };
    let mut came = None;
    if current.owns(waker) {
        source.slot().wait(current.coroutine.clone());
    } else {
        source.slot().wait_waker(waker);
        // the waker's own code may have fired it
        came = source.slot().take();
    }
    if !registered
        .as_ref()
        .is_some_and(|known| std::ptr::addr_eq(known.as_ptr(), Rc::as_ptr(&current.coroutine)))
    {
        unregister(source, registered);
        current.coroutine.task().add_wait(source.clone());
        *registered = Some(Rc::downgrade(&current.coroutine));
    }
    came
}

fn unregister<T: 'static>(source: &Rc<dyn Node<T>>, registered: &mut Registered) {
    if let Some(coroutine) = registered.take().and_then(|known| known.upgrade()) {
        coroutine.task().remove_wait(Rc::as_ptr(source).cast());
    }
}

impl<T: 'static> Drop for Wait<T> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, AwaitState::Over) {
            AwaitState::Ready(outcome) => discard_outcome(outcome, self.place),
            AwaitState::Pending(source, mut registered) => {
                unregister(&source, &mut registered);
                source.slot().detach();
            }
            AwaitState::Over => {}
        }
    }
}

impl<T: 'static> fmt::Debug for Wait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<await at {}>", self.place)
    }
}

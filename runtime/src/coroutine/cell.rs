//! The frame of a coroutine, pinned where it lies. The one file with `unsafe` code.
//!
//! A coroutine and its result slot share one allocation, an `Rc`. The frame must not move between
//! polls, must not be polled by two callers at once, and must be dropped in place. All three are
//! held here, whatever the driver does.
use std::{
    cell::{Cell, UnsafeCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// A future inside an `Rc`, together with what the driver keeps beside it.
///
/// Invariants:
/// - It is made by [`new`](Self::new) alone, straight into an `Rc`, and no function gives it back
///   by value or lends it as `&mut`. The driver never calls `Rc::try_unwrap`, `Rc::into_inner` or
///   `Rc::get_mut` on it. So the frame stays where it is until it is dropped.
/// - A reference to the frame exists only while `busy` is set, and is made only by whoever set it.
pub(super) struct Pinned<F, Beside> {
    frame: UnsafeCell<Option<F>>,
    busy: Cell<bool>,
    pub(super) beside: Beside,
}

/// Clears `busy` also when the user's code panics.
struct Busy<'a>(&'a Cell<bool>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl<F: Future, Beside> Pinned<F, Beside> {
    pub(super) fn new(frame: F, beside: Beside) -> Rc<Self> {
        Rc::new(Self { frame: UnsafeCell::new(Some(frame)), busy: Cell::new(false), beside })
    }

    fn enter(&self) -> Option<Busy<'_>> {
        if self.busy.replace(true) { None } else { Some(Busy(&self.busy)) }
    }

    /// Polls the frame. `None` if it is being polled or dropped right now, or is gone.
    #[expect(unsafe_code, reason = "pinning a field of an Rc has no safe form")]
    pub(super) fn poll(self: &Rc<Self>, cx: &mut Context<'_>) -> Option<Poll<F::Output>> {
        let _busy = self.enter()?;
        // SAFETY: `busy` was clear and is set by us, so by the second invariant no other reference
        // to the frame exists; the frame lies in an `UnsafeCell`, so making a unique one from
        // `&self` is allowed. `_busy` outlives it.
        let frame = unsafe { &mut *self.frame.get() };
        let future = frame.as_mut()?;
        // SAFETY: by the first invariant the frame is not moved from here until it is dropped,
        // which `clear` and `Rc` do in place.
        let future = unsafe { Pin::new_unchecked(future) };
        Some(future.poll(cx))
    }

    /// Drops the frame where it lies. `false` if it is being polled or dropped right now.
    #[expect(unsafe_code, reason = "dropping a pinned field in place goes through the same cell")]
    pub(super) fn clear(self: &Rc<Self>) -> bool {
        let Some(_busy) = self.enter() else { return false };
        // SAFETY: as in `poll`; writing `None` over it drops the frame in place, and a pinned value
        // may be dropped so.
        unsafe { *self.frame.get() = None };
        true
    }
}

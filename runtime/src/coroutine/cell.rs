//! The pinned frame of a coroutine. This is the only file with `unsafe` code.
//!
//! A coroutine and its result slot share one allocation, an `Rc`. The frame must not move between
//! polls, must not be polled by two callers at once, and must be dropped in place. This file
//! guarantees all three, whatever the driver does.
use std::{
    cell::{Cell, UnsafeCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// A future inside an `Rc`, with the driver's data beside it.
///
/// Invariants:
/// - The cell is created by [`new`](Self::new) alone, directly in an `Rc`, and no function returns
///   it by value or as `&mut`. The driver never calls `Rc::try_unwrap`, `Rc::into_inner` or
///   `Rc::get_mut` on it. So the frame does not move until it is dropped.
/// - A reference to the frame exists only while `busy` is set, and only the code that set `busy`
///   creates one.
pub(super) struct Pinned<F, Beside> {
    frame: UnsafeCell<Option<F>>,
    busy: Cell<bool>,
    pub(super) beside: Beside,
}

/// Clears `busy`, also when the user's code panics.
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

    /// Polls the frame. Returns `None` if the frame is being polled or dropped, or has been
    /// dropped.
    #[expect(unsafe_code, reason = "pinning a field of an Rc has no safe form")]
    pub(super) fn poll(self: &Rc<Self>, cx: &mut Context<'_>) -> Option<Poll<F::Output>> {
        let _busy = self.enter()?;
        // SAFETY: `busy` was clear and this call has set it, so by the second invariant no other
        // reference to the frame exists. The frame lies in an `UnsafeCell`, so a unique reference
        // may be made from `&self`. `_busy` outlives it.
        let frame = unsafe { &mut *self.frame.get() };
        let future = frame.as_mut()?;
        // SAFETY: by the first invariant the frame does not move until it is dropped, which `clear`
        // and `Rc` do in place.
        let future = unsafe { Pin::new_unchecked(future) };
        Some(future.poll(cx))
    }

    /// Drops the frame in place. Returns `false` if the frame is being polled or dropped.
    #[expect(unsafe_code, reason = "dropping a pinned field in place goes through the same cell")]
    pub(super) fn clear(self: &Rc<Self>) -> bool {
        let Some(_busy) = self.enter() else { return false };
        // SAFETY: as in `poll`; assigning `None` drops the frame in place, which is allowed for a
        // pinned value.
        unsafe { *self.frame.get() = None };
        true
    }
}

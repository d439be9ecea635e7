//! One turn of the reactor.
//!
//! The order of a turn:
//! 1. calls from other threads, those that were there when the turn began;
//! 2. delayed calls that are due and were made before the turn, in the order of their time, then of
//!    their making;
//! 3. what an earlier turn put off: connections to look at again, ends to tell;
//! 4. the wait: without limit if nothing is to be done, until the next delayed call, or not at all
//!    if something was put off;
//! 5. the events, in the order in which the system gives them.
//!
//! Whatever runs in a turn and puts something off puts it off to the next one.
use super::{backend::Event, core::Core, source::Readiness};
use crate::{
    failure::Frame,
    report::{drop_guarded, guarded, report},
};
use std::{panic::Location, rc::Rc, time::Duration};

/// The length of the read buffer: one a reactor. A message of 64 KiB fits in with room to spare, so
/// that its read is a short one and says itself that nothing is left.
const READ_BUFFER: usize = 96 * 1024;

/// The longest wait: beyond it a timer is looked at again.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a turn works with, kept from one to the next.
pub(crate) struct Desk {
    buffer: Box<[u8]>,
    again: Vec<Event>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; READ_BUFFER].into_boxed_slice(), again: Vec::new() }
    }
}

impl Core {
    /// Runs one turn that waits for at most `limit`.
    #[inline]
    pub(crate) fn turn(&self, desk: &mut Desk, limit: Option<Duration>) -> std::io::Result<()> {
        if self.is_idle() { self.wait(desk, limit) } else { self.busy_turn(desk, limit) }
    }

    /// Whether there is nothing to do in a turn but to wait: mostly so under load, and then each of
    /// them asks for it once.
    fn is_idle(&self) -> bool {
        self.has_no_slots_to_free()
            && !self.inbox.is_waiting()
            && self.timers.is_empty()
            && self.again.borrow().is_empty()
            && self.slow.get().is_none()
            && !self.is_in_a_hurry()
    }

    fn wait(&self, desk: &mut Desk, timeout: Option<Duration>) -> std::io::Result<()> {
        let buffer = &mut *desk.buffer;
        self.backend.wait(timeout, &mut |event| self.dispatch(event, buffer))
    }

    #[inline(never)]
    fn busy_turn(&self, desk: &mut Desk, limit: Option<Duration>) -> std::io::Result<()> {
        self.free_slots();
        if self.inbox.is_waiting() {
            self.calls_from_threads();
        }
        let mark = self.timers.begin_turn();
        if let Some(slow) = self.slow.get() {
            return self.watched_turn(desk, limit, mark, slow);
        }
        if let Some(mark) = mark {
            while self.timers.run_due(mark).is_some() {}
        }
        self.put_off(desk, |event, buffer| self.dispatch(event, buffer));
        self.wait(desk, self.timeout(limit))
    }

    /// The rest of a turn with the watchdog looking on.
    fn watched_turn(
        &self,
        desk: &mut Desk,
        limit: Option<Duration>,
        mark: Option<u64>,
        slow: Duration,
    ) -> std::io::Result<()> {
        let dispatch = |event: Event, buffer: &mut [u8]| {
            // before the call, which may end it
            let what = self.sources.borrow().get(event.slot).and_then(|source| source.describe());
            self.watched(slow, || self.dispatch(event, buffer), |()| what);
        };
        let named = |made: &Option<_>| made.map(|made| format!("the delayed call made at {made}"));
        if let Some(mark) = mark {
            while self.watched(slow, || self.timers.run_due(mark), named).is_some() {}
        }
        self.put_off(desk, dispatch);
        let timeout = self.timeout(limit);
        let buffer = &mut *desk.buffer;
        self.backend.wait(timeout, &mut |event| dispatch(event, buffer))
    }

    pub(super) fn calls_from_threads(&self) {
        for call in self.inbox.take() {
            if self.is_closed() {
                drop_guarded(call);
                continue;
            }
            // user code
            let run = || guarded(|| Frame::new("call_from_thread", Location::caller()), call);
            let ran = match self.slow.get() {
                None => run(),
                Some(slow) => {
                    self.watched(slow, run, |_| Some("a call from another thread".to_owned()))
                }
            };
            if let Err(failure) = ran {
                report(failure, "a call from another thread");
            }
        }
    }

    #[inline]
    fn put_off(&self, desk: &mut Desk, dispatch: impl Fn(Event, &mut [u8])) {
        std::mem::swap(&mut *self.again.borrow_mut(), &mut desk.again);
        for event in &desk.again {
            dispatch(*event, &mut desk.buffer);
        }
        desk.again.clear();
    }

    fn timeout(&self, limit: Option<Duration>) -> Option<Duration> {
        if self.is_in_a_hurry() || self.inbox.is_waiting() || !self.again.borrow().is_empty() {
            return Some(Duration::ZERO);
        }
        let timer = self
            .timers
            .next_due()
            .map(|due| due.saturating_sub(self.backend.now()).min(LONGEST_WAIT));
        match (timer, limit) {
            (Some(timer), Some(limit)) => Some(timer.min(limit)),
            (timer, limit) => timer.or(limit),
        }
    }

    #[inline]
    fn dispatch(&self, event: Event, buffer: &mut [u8]) {
        let source = self.sources.borrow().get(event.slot).map(Rc::clone);
        if let Some(source) = source {
            source.ready(event.readiness, buffer);
        }
    }

    /// Has the source in `slot` looked at in the next turn.
    pub(crate) fn reschedule(&self, slot: usize, readiness: Readiness) {
        self.again.borrow_mut().push(Event { slot, readiness });
    }
}

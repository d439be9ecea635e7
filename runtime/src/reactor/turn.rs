//! One turn of the reactor.
//!
//! The order of a turn:
//! 1. calls from other threads that were queued when the turn began;
//! 2. delayed calls that are due and were added before the turn, by due time, then in the order of
//!    their adding;
//! 3. what an earlier turn has rescheduled: connections to check again, callbacks that are due;
//! 4. the wait: until the next delayed call, without limit if there is none, or not at all if
//!    something was rescheduled;
//! 5. the events, in the order in which the system returns them;
//! 6. corked output, which is also sent before the wait.
//!
//! What is rescheduled during a turn runs in the next one. Closes that user code requests begin
//! when that code returns.
use super::{backend::Event, core::Core, schedule::TurnScratch, source::Readiness};
use crate::{
    failure::Frame,
    report::{drop_guarded, guarded, report},
};
use std::{io, panic::Location, rc::Rc, time::Duration};

/// The longest wait, after which the timers are checked again.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

impl Core {
    /// Runs one turn that waits for at most `limit`.
    #[inline]
    pub(crate) fn turn(
        &self,
        scratch: &mut TurnScratch,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        self.schedule.begin_turn();
        // most turns have nothing to do but wait, which one check shows
        let result = if self.schedule.has_work() {
            self.busy_turn(scratch, limit)
        } else {
            self.wait(scratch, limit)
        };
        if self.schedule.has_corked() {
            self.send_corked();
        }
        self.schedule.end_turn();
        result
    }

    fn wait(&self, scratch: &mut TurnScratch, timeout: Option<Duration>) -> io::Result<()> {
        let buffer = &mut *scratch.buffer;
        self.backend.wait(timeout, &mut |event| self.dispatch(event, buffer))
    }

    #[inline(never)]
    fn busy_turn(&self, scratch: &mut TurnScratch, limit: Option<Duration>) -> io::Result<()> {
        // cleared first: work that arrives during the checks sets it again
        self.schedule.clear_work();
        self.free_slots();
        self.begin_closes();
        self.calls_from_threads();
        let result = match self.slow.get() {
            Some(slow) => self.watched_turn(scratch, limit, slow),
            None => self.plain_turn(scratch, limit),
        };
        if !self.timers.is_empty() || self.slow.get().is_some() || self.must_not_wait() {
            self.schedule.set_work();
        }
        result
    }

    /// Runs the rest of a turn, after the calls from other threads.
    fn plain_turn(&self, scratch: &mut TurnScratch, limit: Option<Duration>) -> io::Result<()> {
        if let Some(mark) = self.timers.begin_turn() {
            while self.timers.run_due(mark).is_some() {
                self.begin_closes();
            }
        }
        self.run_rescheduled(scratch, |event, buffer| self.dispatch(event, buffer));
        self.send_corked();
        self.wait(scratch, self.timeout(limit))
    }

    /// Runs the rest of a turn under the watchdog.
    fn watched_turn(
        &self,
        scratch: &mut TurnScratch,
        limit: Option<Duration>,
        slow: Duration,
    ) -> io::Result<()> {
        let dispatch = |event: Event, buffer: &mut [u8]| {
            // described before the call, which may remove it
            let what = self.sources.borrow().get(event.slot).and_then(|source| source.describe());
            self.watched(slow, || self.dispatch(event, buffer), |()| what);
        };
        let named = |created_at: &Option<_>| {
            created_at.map(|site| format!("the delayed call made at {site}"))
        };
        if let Some(mark) = self.timers.begin_turn() {
            while self.watched(slow, || self.timers.run_due(mark), named).is_some() {
                self.begin_closes();
            }
        }
        self.run_rescheduled(scratch, dispatch);
        self.send_corked();
        let timeout = self.timeout(limit);
        let buffer = &mut *scratch.buffer;
        self.backend.wait(timeout, &mut |event| dispatch(event, buffer))
    }

    pub(super) fn calls_from_threads(&self) {
        if !self.inbox.is_waiting() {
            return;
        }
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
            self.begin_closes();
        }
    }

    fn run_rescheduled(&self, scratch: &mut TurnScratch, dispatch: impl Fn(Event, &mut [u8])) {
        self.schedule.swap_events(&mut scratch.events);
        for event in &scratch.events {
            dispatch(*event, &mut scratch.buffer);
        }
        scratch.events.clear();
    }

    fn timeout(&self, limit: Option<Duration>) -> Option<Duration> {
        if self.must_not_wait() || self.inbox.is_waiting() || self.schedule.has_events() {
            return Some(Duration::ZERO);
        }
        let until_due = |due: Duration| due.saturating_sub(self.backend.now()).min(LONGEST_WAIT);
        let timer = self.timers.next_due().map(until_due);
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
            if self.schedule.has_closing() {
                self.begin_closes();
            }
        }
    }

    /// Begins the closes that the user code which has just returned requested.
    fn begin_closes(&self) {
        if self.schedule.has_closing() {
            self.schedule.drain_closing(|slot| self.flush_output(slot));
        }
    }

    /// Sends the corked output of all connections.
    fn send_corked(&self) {
        if self.schedule.has_corked() {
            self.schedule.drain_corked(|slot| self.flush_output(slot));
        }
    }

    #[cold]
    fn flush_output(&self, slot: usize) {
        let source = self.sources.borrow().get(slot).map(Rc::clone);
        if let Some(source) = source {
            source.flush_output();
        }
    }

    /// Schedules a call of the source in `slot` for the next turn.
    pub(crate) fn reschedule(&self, slot: usize, readiness: Readiness) {
        self.schedule.reschedule(slot, readiness);
    }
}

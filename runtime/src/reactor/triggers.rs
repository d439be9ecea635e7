//! Triggers that run when a reactor starts and stops.
use crate::{
    defer::{Deferred, DeferredList, IntoDeferred, maybe_deferred},
    error::ValueError,
    failure::Failure,
    report::{drop_each, drop_guarded, report},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

/// An event of the reactor that has triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SystemEvent {
    /// The reactor starts: `run` was called.
    Startup,
    /// The reactor stops.
    Shutdown,
}

/// The phase in which a trigger runs: all triggers of a phase run before those of the next, in the
/// order in which they were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriggerPhase {
    /// The first phase. The other phases wait for the Deferreds that its triggers return.
    Before,
    /// The second phase: the event itself.
    During,
    /// The last phase.
    After,
}

/// Identifies a trigger, to remove it: returned by
/// [`add_system_event_trigger`](super::Reactor::add_system_event_trigger). Dropping it changes
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemEventTrigger {
    event: SystemEvent,
    phase: TriggerPhase,
    number: u64,
}

type Function = Box<dyn FnOnce() -> Deferred<()>>;
type Queue = RefCell<VecDeque<(u64, Function)>>;

/// The triggers of a reactor, by event and phase.
#[derive(Default)]
pub(super) struct Triggers {
    queues: [[Queue; 3]; 2],
}

thread_local! {
    /// The number of the next trigger. All reactors of a thread share it, so that an id never
    /// matches a trigger of another reactor.
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

impl Triggers {
    fn queue(&self, event: SystemEvent, phase: TriggerPhase) -> &Queue {
        &self.queues[event as usize][phase as usize]
    }

    pub(super) fn add<R: IntoDeferred>(
        &self,
        event: SystemEvent,
        phase: TriggerPhase,
        f: impl FnOnce() -> R + 'static,
    ) -> SystemEventTrigger {
        let number = NEXT.replace(NEXT.get() + 1);
        self.queue(event, phase)
            .borrow_mut()
            .push_back((number, Box::new(move || f().into_deferred().map(drop))));
        SystemEventTrigger { event, phase, number }
    }

    pub(super) fn remove(&self, trigger: &SystemEventTrigger) -> Result<(), Failure> {
        let queue = self.queue(trigger.event, trigger.phase);
        let at = queue.borrow().iter().position(|(number, _)| *number == trigger.number);
        let removed = at.and_then(|at| queue.borrow_mut().remove(at));
        if removed.is_none() {
            let text = format!(
                "the trigger {:?} {:?} has run or was removed",
                trigger.phase, trigger.event
            );
            return Err(ValueError::with_text(text).into());
        }
        drop_guarded(removed);
        Ok(())
    }

    /// Runs the triggers of one phase in order and removes them. A trigger that is removed
    /// meanwhile does not run.
    pub(super) fn run(&self, event: SystemEvent, phase: TriggerPhase) -> Deferred<()> {
        let mut waits = Vec::new();
        loop {
            let next = self.queue(event, phase).borrow_mut().pop_front();
            let Some((_, function)) = next else { break };
            // user code; an error is reported, and the other triggers run
            waits.push(maybe_deferred(function).add_errback(move |failure| {
                report(failure, format!("a trigger {phase:?} {event:?}"));
                Ok(())
            }));
        }
        if waits.is_empty() {
            return Deferred::succeed(());
        }
        DeferredList::new(waits).wait_for_all().map(drop)
    }

    /// Drops all triggers, because the reactor is being closed.
    pub(super) fn drop_all(&self) {
        for queue in self.queues.iter().flatten() {
            drop_each(queue.take());
        }
    }
}

//! The work that is scheduled for the rest of a turn and for the next turn. Every stream holds a
//! reference to it.
use super::{backend::Event, source::Readiness};
use crate::remote_queue::WorkFlag;
use std::cell::{Cell, RefCell};

/// The length of the reactor's read buffer. A message of 64 KiB fits with room to spare, so reading
/// it is a short read, which shows that nothing is left.
const READ_BUFFER: usize = 96 * 1024;

/// The buffers of a turn, kept from one turn to the next.
pub(crate) struct TurnScratch {
    pub(super) buffer: Box<[u8]>,
    pub(super) events: Vec<Event>,
}

impl TurnScratch {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; READ_BUFFER].into_boxed_slice(), events: Vec::new() }
    }
}

/// The work that is due later in this turn or in the next one.
pub(crate) struct Schedule {
    /// The number of the present turn; 0 outside of turns.
    turn: Cell<u32>,
    /// The number of the last turn.
    last_turn: Cell<u32>,
    /// Whether streams may cork their output.
    corks: Cell<bool>,
    /// Set, from any thread, by everything that gives a turn work besides waiting. Most turns find
    /// it clear and check nothing else.
    work: WorkFlag,
    /// The events for the next turn.
    events: RefCell<Vec<Event>>,
    /// The connections with corked output, in the order in which they were corked.
    corked: Slots,
    /// The connections that the running user code has asked to close.
    closing: Slots,
}

/// A list of slots, with a flag that tells quickly whether it is empty.
#[derive(Default)]
struct Slots {
    slots: RefCell<Vec<usize>>,
    any: Cell<bool>,
}

impl Slots {
    fn push(&self, slot: usize) {
        self.slots.borrow_mut().push(slot);
        self.any.set(true);
    }

    /// Calls `visit` for each slot, including slots that are added meanwhile.
    #[cold]
    fn drain(&self, mut visit: impl FnMut(usize)) {
        let mut at = 0;
        loop {
            let slot = self.slots.borrow().get(at).copied();
            let Some(slot) = slot else { break };
            visit(slot);
            at += 1;
        }
        self.slots.borrow_mut().clear();
        self.any.set(false);
    }
}

impl Schedule {
    pub(super) fn new(work: WorkFlag) -> Self {
        Self {
            turn: Cell::new(0),
            last_turn: Cell::new(0),
            corks: Cell::new(true),
            work,
            events: RefCell::default(),
            corked: Slots::default(),
            closing: Slots::default(),
        }
    }

    /// Makes streams write at once, as outside of turns, for a connection to a test.
    pub(crate) fn never_cork(&self) {
        self.corks.set(false);
    }

    #[inline]
    pub(super) fn begin_turn(&self) {
        if self.corks.get() {
            // 0 means "no turn"
            let turn = self.last_turn.get().wrapping_add(1).max(1);
            self.last_turn.set(turn);
            self.turn.set(turn);
        }
    }

    #[inline]
    pub(super) fn end_turn(&self) {
        self.turn.set(0);
    }

    /// Returns the number of the turn if output may be corked in it, and otherwise 0.
    #[inline]
    pub(crate) fn turn(&self) -> u32 {
        self.turn.get()
    }

    /// Returns whether a turn has work besides waiting.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        self.work.is_set()
    }

    pub(super) fn set_work(&self) {
        self.work.set();
    }

    pub(super) fn clear_work(&self) {
        self.work.clear();
    }

    /// Schedules a call of the source in `slot` for the next turn.
    pub(crate) fn reschedule(&self, slot: usize, readiness: Readiness) {
        self.events.borrow_mut().push(Event { slot, readiness });
        self.work.set();
    }

    /// Returns whether the next turn must not wait.
    pub(super) fn has_events(&self) -> bool {
        !self.events.borrow().is_empty()
    }

    /// Swaps the scheduled events with the empty list `events`.
    pub(super) fn swap_events(&self, events: &mut Vec<Event>) {
        std::mem::swap(&mut *self.events.borrow_mut(), events);
    }

    /// Schedules sending of corked output for the end of the turn, or before the turn waits.
    pub(crate) fn add_corked(&self, slot: usize) {
        self.corked.push(slot);
    }

    #[inline]
    pub(super) fn has_corked(&self) -> bool {
        self.corked.any.get()
    }

    pub(super) fn drain_corked(&self, visit: impl FnMut(usize)) {
        self.corked.drain(visit);
    }

    /// Schedules the begin of a close for when the user code that requested it returns; outside of
    /// turns, for the start of the next turn.
    pub(crate) fn add_closing(&self, slot: usize) {
        self.closing.push(slot);
        self.work.set();
    }

    #[inline]
    pub(super) fn has_closing(&self) -> bool {
        self.closing.any.get()
    }

    pub(super) fn drain_closing(&self, visit: impl FnMut(usize)) {
        self.closing.drain(visit);
    }
}

//! What the rest of a turn and the next one have to do. Every stream holds it.
use super::{backend::Event, source::Readiness};
use crate::remote_queue::WorkFlag;
use std::cell::{Cell, RefCell};

/// The length of the read buffer: one a reactor. A message of 64 KiB fits in with room to spare, so
/// that its read is a short one and says itself that nothing is left.
const READ_BUFFER: usize = 96 * 1024;

/// What a turn works with, kept from one to the next.
pub(crate) struct TurnScratch {
    pub(super) buffer: Box<[u8]>,
    pub(super) events: Vec<Event>,
}

impl TurnScratch {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; READ_BUFFER].into_boxed_slice(), events: Vec::new() }
    }
}

/// What is due later in this turn or in the next one.
pub(crate) struct Schedule {
    /// The number of the turn under way; 0 outside of turns.
    turn: Cell<u32>,
    /// The number of the last turn.
    last_turn: Cell<u32>,
    /// Whether streams may cork their output.
    corks: Cell<bool>,
    /// Set by whatever gives a turn something to do besides waiting, from any thread: mostly it is
    /// clear, and then one look at it is all that a turn does.
    work: WorkFlag,
    /// What the next turn looks at.
    events: RefCell<Vec<Event>>,
    /// The connections with corked output, in the order in which they were corked.
    corked: Slots,
    /// The connections that the running piece of user code has asked to close.
    closing: Slots,
}

/// Slots to be looked at, and a quick look whether there are any.
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

    /// Calls `visit` for each slot, also for those that are added meanwhile.
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

    /// Streams write at once, as outside of turns: for a connection whose other side is a test.
    pub(crate) fn never_cork(&self) {
        self.corks.set(false);
    }

    #[inline]
    pub(super) fn begin_turn(&self) {
        if self.corks.get() {
            // 0 stands for none
            let turn = self.last_turn.get().wrapping_add(1).max(1);
            self.last_turn.set(turn);
            self.turn.set(turn);
        }
    }

    #[inline]
    pub(super) fn end_turn(&self) {
        self.turn.set(0);
    }

    /// The number of the turn in which output may be corked; 0 where it is not.
    #[inline]
    pub(crate) fn turn(&self) -> u32 {
        self.turn.get()
    }

    /// Whether a turn has something to do besides waiting.
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

    /// Has the source in `slot` called in the next turn.
    pub(crate) fn reschedule(&self, slot: usize, readiness: Readiness) {
        self.events.borrow_mut().push(Event { slot, readiness });
        self.work.set();
    }

    /// Whether the next turn must not wait.
    pub(super) fn has_events(&self) -> bool {
        !self.events.borrow().is_empty()
    }

    /// Exchanges what has been scheduled for the empty list in `events`.
    pub(super) fn swap_events(&self, events: &mut Vec<Event>) {
        std::mem::swap(&mut *self.events.borrow_mut(), events);
    }

    /// Has corked output sent at the end of the turn, or before it waits.
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

    /// Has a close begin as soon as the piece of user code that asks for it returns; outside of
    /// turns, at the start of the next one.
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

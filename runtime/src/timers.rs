//! The timer queue: calls in order of due time, each of which can be cancelled or moved.
//!
//! A four-ary heap ordered by due time and then by order of insertion. Cancelling a call drops its
//! function at once and leaves a *ghost*, its entry, in the heap. Ghosts are skipped when they
//! surface, and purged when they are three quarters of the heap. Moving a call to a later time only
//! changes the call: its entry moves when it surfaces. The reactor and the test clock use this one
//! queue, with different sources of time.
use crate::{
    error::{AlreadyCalled, AlreadyCancelled},
    failure::{Failure, Frame},
    remote_queue::WorkFlag,
    report::{drop_guarded, guarded, report},
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt,
    panic::Location,
    rc::{Rc, Weak},
    time::Duration,
};

/// The state of a delayed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallState {
    Pending,
    Called,
    Cancelled,
}

/// The data that the queue and the [`DelayedCall`] share.
struct Call {
    due: Cell<Duration>,
    /// Orders calls that are due at the same instant: the order in which they were added.
    order: u64,
    /// The number of the step that added or last moved the call.
    moved: Cell<u64>,
    /// The version of the call's valid entry in the heap; any other entry is a ghost.
    entry: Cell<u64>,
    state: Cell<CallState>,
    function: Cell<Option<Box<dyn FnOnce()>>>,
    queue: Weak<Timers>,
    created_at: &'static Location<'static>,
}

/// An entry of the heap.
struct Entry {
    /// The due time in nanoseconds, at most some five hundred years.
    due: u64,
    order: u64,
    /// [`Call::moved`] when the entry was made.
    version: u64,
    call: Rc<Call>,
}

impl Entry {
    fn new(call: Rc<Call>) -> Self {
        let due = nanoseconds(call.due.get());
        let (order, version) = (call.order, call.moved.get());
        call.entry.set(version);
        Self { due, order, version, call }
    }

    /// Returns whether the call was cancelled, or has a newer entry.
    fn is_ghost(&self) -> bool {
        self.call.state.get() != CallState::Pending || self.call.entry.get() != self.version
    }

    /// Returns whether the call was moved to a later time.
    fn is_early(&self) -> bool {
        self.call.moved.get() != self.version
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A four-ary heap: half as deep as a binary one, and the four children lie side by side.
#[derive(Default)]
struct Heap {
    entries: Vec<Entry>,
}

/// The number of children of an entry.
const CHILDREN: usize = 4;

impl Heap {
    fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.sift_up(self.entries.len() - 1);
    }

    fn pop(&mut self) -> Option<Entry> {
        if self.entries.is_empty() {
            return None;
        }
        let first = self.entries.swap_remove(0);
        self.sift_down(0);
        Some(first)
    }

    /// Replaces the first entry.
    fn replace_first(&mut self, entry: Entry) {
        if let Some(first) = self.entries.first_mut() {
            *first = entry;
            self.sift_down(0);
        }
    }

    /// Returns whether the first of two entries runs before the second.
    #[inline]
    fn is_before(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.entries[one], &self.entries[other]);
        one.due < other.due || one.due == other.due && one.order < other.order
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if !self.is_before(at, parent) {
                break;
            }
            self.entries.swap(parent, at);
            at = parent;
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let first = at * CHILDREN + 1;
            let end = (first + CHILDREN).min(self.entries.len());
            if first >= end {
                break;
            }
            let mut next = first;
            let mut child = first + 1;
            while child < end {
                if self.is_before(child, next) {
                    next = child;
                }
                child += 1;
            }
            if !self.is_before(next, at) {
                break;
            }
            self.entries.swap(at, next);
            at = next;
        }
    }

    /// Removes all ghosts.
    fn purge(&mut self) {
        self.entries.retain(|entry| !entry.is_ghost());
        for at in (0..self.entries.len().div_ceil(CHILDREN)).rev() {
            self.sift_down(at);
        }
    }
}

/// The smallest heap that is purged.
const LEAST_PURGED: usize = 64;

/// Marks the calls that a turn runs: those that are due at one time and were added before it.
#[derive(Clone, Copy)]
pub(crate) struct TurnMark {
    now: u64,
    step: u64,
}

/// A queue of delayed calls, over the time of a clock or of [`set_now`](Self::set_now).
#[derive(Default)]
pub(crate) struct Timers {
    heap: RefCell<Heap>,
    /// The number of pending calls.
    live: Cell<usize>,
    /// Entries that are due but were added or moved in this turn; they run in the next one.
    set_aside: RefCell<Vec<Entry>>,
    steps: Cell<u64>,
    now: Cell<Duration>,
    /// The reactor's source of time, because `now` is stale between turns. A manual clock has none.
    clock: OnceCell<Box<dyn Fn() -> Duration>>,
    /// Callbacks run after a manual clock is advanced.
    advance_listeners: RefCell<Vec<Weak<dyn Fn()>>>,
    /// Set when a call is added, so that a turn has work to do.
    work: WorkFlag,
    /// A weak reference to the queue, for the calls it creates.
    me: Weak<Self>,
}

impl Timers {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new_cyclic(|me| Self { me: me.clone(), ..Self::default() })
    }

    /// Creates a queue whose time comes from `clock`.
    pub(crate) fn with_clock(clock: impl Fn() -> Duration + 'static) -> Rc<Self> {
        let timers = Self::new();
        let _ = timers.clock.set(Box::new(clock));
        timers
    }

    /// Returns the current time, by which calls are added and moved.
    pub(crate) fn now(&self) -> Duration {
        if let Some(clock) = self.clock.get() {
            self.now.set(clock());
        }
        self.now.get()
    }

    /// Returns the flag that is set when a call is added.
    pub(crate) fn work(&self) -> &WorkFlag {
        &self.work
    }

    /// Returns whether the time moves only when a test moves it.
    pub(crate) fn is_manual(&self) -> bool {
        self.clock.get().is_none()
    }

    /// Calls `call` whenever a manual clock has been advanced, for as long as `call` is alive.
    pub(crate) fn on_advance(&self, call: &Rc<dyn Fn()>) {
        self.advance_listeners.borrow_mut().push(Rc::downgrade(call));
    }

    /// Calls the listeners after a manual clock has been advanced.
    pub(crate) fn notify_advanced(&self) {
        self.advance_listeners.borrow_mut().retain(|call| call.strong_count() > 0);
        let calls: Vec<_> =
            self.advance_listeners.borrow().iter().filter_map(Weak::upgrade).collect();
        for call in calls {
            call();
        }
    }

    pub(crate) fn set_now(&self, now: Duration) {
        self.now.set(now);
    }

    /// Adds a call that is due `delay` from now.
    pub(crate) fn add(
        &self,
        delay: Duration,
        function: Box<dyn FnOnce()>,
        created_at: &'static Location<'static>,
    ) -> DelayedCall {
        let order = self.next_step();
        let call = Rc::new(Call {
            due: Cell::new(self.now().saturating_add(delay)),
            order,
            moved: Cell::new(order),
            entry: Cell::new(order),
            state: Cell::new(CallState::Pending),
            function: Cell::new(Some(function)),
            queue: self.me.clone(),
            created_at,
        });
        self.heap.borrow_mut().push(Entry::new(call.clone()));
        self.live.set(self.live.get() + 1);
        self.work.set();
        DelayedCall(call)
    }

    /// Counts a cancelled call, whose entry has become a ghost.
    fn cancelled(&self) {
        self.live.set(self.live.get() - 1);
        self.purge();
    }

    /// Removes the ghosts if they are three quarters of the heap. Their functions have been dropped
    /// already, so no user code runs.
    fn purge(&self) {
        let mut heap = self.heap.borrow_mut();
        let entries = heap.entries.len();
        if entries >= LEAST_PURGED && entries / 4 > self.live.get() {
            heap.purge();
        }
    }

    fn reschedule(&self, call: &Rc<Call>, due: Duration) {
        let later = due >= call.due.get();
        call.due.set(due);
        call.moved.set(self.next_step());
        // the entry for the earlier time moves when it surfaces
        if !later {
            self.heap.borrow_mut().push(Entry::new(call.clone()));
            self.purge();
        }
    }

    /// Returns whether no call is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.get() == 0
    }

    /// Removes ghosts and moves early entries until the first entry is valid.
    fn settle(heap: &mut Heap) {
        while let Some(first) = heap.entries.first() {
            if first.is_ghost() {
                drop(heap.pop());
            } else if first.is_early() {
                let call = first.call.clone();
                heap.replace_first(Entry::new(call));
            } else {
                return;
            }
        }
    }

    /// Returns when the next call is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let mut heap = self.heap.borrow_mut();
        Self::settle(&mut heap);
        heap.entries.first().map(|first| first.call.due.get())
    }

    /// Returns the pending calls, the next one first.
    pub(crate) fn pending(&self) -> Vec<DelayedCall> {
        let (heap, aside) = (self.heap.borrow(), self.set_aside.borrow());
        let live = heap.entries.iter().chain(aside.iter()).filter(|entry| !entry.is_ghost());
        let mut calls: Vec<_> = live.map(|entry| DelayedCall(entry.call.clone())).collect();
        calls.sort_by_key(|call| (call.0.due.get(), call.0.order));
        calls
    }

    /// Sets the one time for all calls of a turn, and marks the calls that were added or moved before it.
    /// Returns `None`, without reading the clock, if no call is pending or if the clock is manual.
    pub(crate) fn begin_turn(&self) -> Option<TurnMark> {
        if self.is_manual() || self.is_empty() {
            return None;
        }
        Some(TurnMark { now: nanoseconds(self.now()), step: self.steps.get() })
    }

    /// Marks all calls that are due, whenever they were added or moved, for a manual clock.
    pub(crate) fn all_due(&self) -> TurnMark {
        TurnMark { now: nanoseconds(self.now.get()), step: u64::MAX }
    }

    /// Runs the next call that `mark` covers, and returns the line that scheduled it; `None` if
    /// there is none. The call is removed before it runs, so that it counts as called inside its
    /// own function.
    pub(crate) fn run_due(&self, mark: TurnMark) -> Option<&'static Location<'static>> {
        let call = self.take_due(mark)?;
        call.state.set(CallState::Called);
        self.live.set(self.live.get() - 1);
        if let Some(function) = call.function.take() {
            let created_at = call.created_at;
            // user code
            let called = guarded(|| Frame::new("call_later", created_at), function);
            if let Err(failure) = called {
                report(failure, format!("a delayed call made at {created_at}"));
            }
        }
        Some(call.created_at)
    }

    /// Removes the next call that `mark` covers, and returns it.
    fn take_due(&self, mark: TurnMark) -> Option<Rc<Call>> {
        let mut heap = self.heap.borrow_mut();
        loop {
            Self::settle(&mut heap);
            if heap.entries.first().is_none_or(|first| first.due > mark.now) {
                break;
            }
            let first = heap.pop()?;
            if first.version < mark.step {
                return Some(first.call);
            }
            // added or moved in this turn: it must not keep those behind it from running
            self.set_aside.borrow_mut().push(first);
        }
        for entry in self.set_aside.borrow_mut().drain(..) {
            heap.push(entry);
        }
        None
    }

    /// Removes every call without running it; the caller drops them while nothing is borrowed.
    pub(crate) fn take_all(&self) -> Vec<DelayedCall> {
        let calls = self.pending();
        self.heap.take();
        self.set_aside.take();
        calls
    }

    fn next_step(&self) -> u64 {
        let step = self.steps.get();
        self.steps.set(step + 1);
        step
    }
}

/// A call scheduled for later, which can be cancelled or moved. Dropping it changes nothing.
///
/// ```
/// use std::time::Duration;
/// use twistor::task::Clock;
///
/// let clock = Clock::new();
/// let call = clock.call_later(Duration::from_secs(2), || println!("two seconds later"));
/// assert!(call.is_active());
/// call.delay(Duration::from_secs(1)).unwrap();
/// assert_eq!(call.time(), Duration::from_secs(3));
/// call.cancel().unwrap();
/// assert!(call.cancel().is_err());
/// ```
#[doc(alias = "IDelayedCall")]
#[derive(Clone)]
pub struct DelayedCall(Rc<Call>);

impl DelayedCall {
    /// Cancels the call and drops its function.
    ///
    /// # Errors
    /// Fails with [`AlreadyCalled`] if the call has run or is running, and with
    /// [`AlreadyCancelled`] if it was cancelled before.
    pub fn cancel(&self) -> Result<(), Failure> {
        self.pending()?;
        self.0.state.set(CallState::Cancelled);
        if let Some(queue) = self.0.queue.upgrade() {
            queue.cancelled();
        }
        drop_guarded(self.0.function.take());
        Ok(())
    }

    /// Returns whether the call is still pending.
    pub fn is_active(&self) -> bool {
        self.0.state.get() == CallState::Pending
    }

    /// Returns when the call is due, on the clock it was scheduled with.
    #[doc(alias = "getTime")]
    pub fn time(&self) -> Duration {
        self.0.due.get()
    }

    /// Moves the call to `delay` from now.
    ///
    /// # Errors
    /// Fails as [`cancel`](Self::cancel) does.
    pub fn reset(&self, delay: Duration) -> Result<(), Failure> {
        self.pending()?;
        if let Some(queue) = self.0.queue.upgrade() {
            queue.reschedule(&self.0, queue.now().saturating_add(delay));
        }
        Ok(())
    }

    /// Moves the call `more` beyond its present time.
    ///
    /// # Errors
    /// Fails as [`cancel`](Self::cancel) does.
    pub fn delay(&self, more: Duration) -> Result<(), Failure> {
        self.pending()?;
        if let Some(queue) = self.0.queue.upgrade() {
            queue.reschedule(&self.0, self.0.due.get().saturating_add(more));
        }
        Ok(())
    }

    /// Returns the line that scheduled the call.
    pub fn location(&self) -> &'static Location<'static> {
        self.0.created_at
    }

    fn pending(&self) -> Result<(), Failure> {
        match self.0.state.get() {
            CallState::Pending => Ok(()),
            CallState::Called => Err(AlreadyCalled::new().into()),
            CallState::Cancelled => Err(AlreadyCancelled::new().into()),
        }
    }
}

/// A weak [`DelayedCall`] for objects that the call's own function owns.
#[derive(Clone, Default)]
pub(crate) struct WeakCall(Weak<Call>);

impl WeakCall {
    /// Cancels the call, if it has not run.
    pub(crate) fn cancel(&self) {
        if let Some(call) = self.0.upgrade() {
            // an error means that there is nothing to cancel
            let _ = DelayedCall(call).cancel();
        }
    }
}

impl From<DelayedCall> for WeakCall {
    fn from(call: DelayedCall) -> Self {
        Self(Rc::downgrade(&call.0))
    }
}

impl PartialEq for DelayedCall {
    /// Returns whether both are the same call; two calls due at the same time are not equal.
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for DelayedCall {}

impl fmt::Debug for DelayedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.get();
        write!(
            f,
            "<DelayedCall due {:?} called={} cancelled={} made at {}>",
            self.0.due.get(),
            u8::from(state == CallState::Called),
            u8::from(state == CallState::Cancelled),
            self.0.created_at
        )
    }
}

//! The timer queue: calls in order of their time, each of which can be cancelled or moved.
//!
//! A four-ary heap ordered by (due time, order of making). Cancelling a call drops its function at
//! once and leaves its entry behind as a ghost; ghosts are skipped where they surface and purged
//! when they are three quarters of the heap. Moving a call to a later time only notes that: its
//! entry moves when it surfaces. The test clock and the reactor use the same queue and differ in
//! where "now" comes from.
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

/// What has become of a delayed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Called,
    Cancelled,
}

/// The part that the queue and the [`DelayedCall`] share.
struct Call {
    due: Cell<Duration>,
    /// Orders calls that are due at the same instant: the order in which they were made, or last
    /// moved.
    order: Cell<u64>,
    /// The order of the entry that stands for the call in the heap; any other entry is a ghost.
    entry: Cell<u64>,
    state: Cell<State>,
    function: Cell<Option<Box<dyn FnOnce()>>>,
    queue: Weak<Timers>,
    created_at: &'static Location<'static>,
}

/// A call's place in the heap.
struct Entry {
    /// The due time in nanoseconds. One beyond five hundred years counts as that.
    due: u64,
    order: u64,
    call: Rc<Call>,
}

impl Entry {
    fn new(call: Rc<Call>) -> Self {
        let due = nanoseconds(call.due.get());
        let order = call.order.get();
        call.entry.set(order);
        Self { due, order, call }
    }

    /// Whether its call was cancelled, or has another entry.
    fn is_ghost(&self) -> bool {
        self.call.state.get() != State::Pending || self.call.entry.get() != self.order
    }

    /// Whether its call was moved to a later time.
    fn is_early(&self) -> bool {
        self.call.order.get() != self.order
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

/// How many children an entry has.
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

    /// Whether the first of two entries runs before the other.
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

/// The least size of a heap that is purged.
const LEAST_PURGED: usize = 64;

/// What a turn runs: the calls that are due at one time and were made before it.
#[derive(Clone, Copy)]
pub(crate) struct TurnMark {
    now: u64,
    order: u64,
}

/// A queue of delayed calls over the time that [`set_now`](Self::set_now) tells it.
#[derive(Default)]
pub(crate) struct Timers {
    heap: RefCell<Heap>,
    /// How many calls are pending.
    live: Cell<usize>,
    /// Entries that are due but were made in this turn: they wait for the next one.
    set_aside: RefCell<Vec<Entry>>,
    orders: Cell<u64>,
    now: Cell<Duration>,
    /// Where the time of a reactor comes from: between turns `now` grows old. A test clock has none
    /// and stands still.
    clock: OnceCell<Box<dyn Fn() -> Duration>>,
    /// Callbacks run after a manual clock is advanced.
    advance_listeners: RefCell<Vec<Weak<dyn Fn()>>>,
    /// Set when a call is added: a turn has something to do.
    work: WorkFlag,
    /// Weak to itself, for the calls it makes.
    me: Weak<Self>,
}

impl Timers {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new_cyclic(|me| Self { me: me.clone(), ..Self::default() })
    }

    /// A queue whose time is what `clock` says.
    pub(crate) fn with_clock(clock: impl Fn() -> Duration + 'static) -> Rc<Self> {
        let timers = Self::new();
        let _ = timers.clock.set(Box::new(clock));
        timers
    }

    /// The time now: calls are made and moved by it.
    pub(crate) fn now(&self) -> Duration {
        if let Some(clock) = self.clock.get() {
            self.now.set(clock());
        }
        self.now.get()
    }

    /// What is set when a call is added.
    pub(crate) fn work(&self) -> &WorkFlag {
        &self.work
    }

    /// Whether the time moves only when a test moves it.
    pub(crate) fn is_manual(&self) -> bool {
        self.clock.get().is_none()
    }

    /// Has `call` called whenever a test has moved the time, as long as it lives.
    pub(crate) fn on_advance(&self, call: &Rc<dyn Fn()>) {
        self.advance_listeners.borrow_mut().push(Rc::downgrade(call));
    }

    /// Calls the listeners of a manual clock after it was moved.
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

    /// Adds a call `delay` from now.
    pub(crate) fn add(
        &self,
        delay: Duration,
        function: Box<dyn FnOnce()>,
        created_at: &'static Location<'static>,
    ) -> DelayedCall {
        let order = self.next_order();
        let call = Rc::new(Call {
            due: Cell::new(self.now().saturating_add(delay)),
            order: Cell::new(order),
            entry: Cell::new(order),
            state: Cell::new(State::Pending),
            function: Cell::new(Some(function)),
            queue: self.me.clone(),
            created_at,
        });
        self.heap.borrow_mut().push(Entry::new(call.clone()));
        self.live.set(self.live.get() + 1);
        self.work.set();
        DelayedCall(call)
    }

    /// A call was cancelled: its entry is a ghost from now on.
    fn cancelled(&self) {
        self.live.set(self.live.get() - 1);
        self.purge();
    }

    /// Removes the ghosts if they are three quarters of the heap. Their functions are gone already,
    /// so no user code runs.
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
        call.order.set(self.next_order());
        // an entry for an earlier time moves when it surfaces
        if !later {
            self.heap.borrow_mut().push(Entry::new(call.clone()));
            self.purge();
        }
    }

    /// Whether no call is to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.get() == 0
    }

    /// Removes ghosts and moves early entries until the first one is right.
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

    /// When the next call is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let mut heap = self.heap.borrow_mut();
        Self::settle(&mut heap);
        heap.entries.first().map(|first| first.call.due.get())
    }

    /// The calls that are still to run, the next one first.
    pub(crate) fn pending(&self) -> Vec<DelayedCall> {
        let (heap, aside) = (self.heap.borrow(), self.set_aside.borrow());
        let live = heap.entries.iter().chain(aside.iter()).filter(|entry| !entry.is_ghost());
        let mut calls: Vec<_> = live.map(|entry| DelayedCall(entry.call.clone())).collect();
        calls.sort_by_key(|call| (call.0.due.get(), call.0.order.get()));
        calls
    }

    /// Sets the one time for all calls of a turn, and marks which calls were made before it.
    /// Nothing if there are none to run, or if only a test moves the time; then no clock is looked
    /// at.
    pub(crate) fn begin_turn(&self) -> Option<TurnMark> {
        if self.is_manual() || self.is_empty() {
            return None;
        }
        Some(TurnMark { now: nanoseconds(self.now()), order: self.orders.get() })
    }

    /// What is due now, whenever it was made: for a manual clock.
    pub(crate) fn all_due(&self) -> TurnMark {
        TurnMark { now: nanoseconds(self.now.get()), order: u64::MAX }
    }

    /// Runs the next call that `mark` covers, and returns where it was made; `None` when there is
    /// none. Each is removed before it runs, so that it counts as called inside its own function.
    pub(crate) fn run_due(&self, mark: TurnMark) -> Option<&'static Location<'static>> {
        let call = self.take_due(mark)?;
        call.state.set(State::Called);
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

    /// Removes the next call that `mark` covers.
    fn take_due(&self, mark: TurnMark) -> Option<Rc<Call>> {
        let mut heap = self.heap.borrow_mut();
        loop {
            Self::settle(&mut heap);
            if heap.entries.first().is_none_or(|first| first.due > mark.now) {
                break;
            }
            let first = heap.pop()?;
            if first.order < mark.order {
                return Some(first.call);
            }
            // made in this turn: it must not keep those behind it from running
            self.set_aside.borrow_mut().push(first);
        }
        for entry in self.set_aside.borrow_mut().drain(..) {
            heap.push(entry);
        }
        None
    }

    /// Removes every call unrun; the caller drops them with nothing borrowed.
    pub(crate) fn take_all(&self) -> Vec<DelayedCall> {
        let calls = self.pending();
        self.heap.take();
        self.set_aside.take();
        calls
    }

    fn next_order(&self) -> u64 {
        let order = self.orders.get();
        self.orders.set(order + 1);
        order
    }
}

/// A call that will run later: cancel it, move it, ask for its time. Dropping this changes nothing.
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
    /// [`AlreadyCalled`] if it has run or runs now, [`AlreadyCancelled`] if it was cancelled
    /// before.
    pub fn cancel(&self) -> Result<(), Failure> {
        self.pending()?;
        self.0.state.set(State::Cancelled);
        if let Some(queue) = self.0.queue.upgrade() {
            queue.cancelled();
        }
        drop_guarded(self.0.function.take());
        Ok(())
    }

    /// Whether the call is still going to run.
    pub fn is_active(&self) -> bool {
        self.0.state.get() == State::Pending
    }

    /// When it is due, on the clock it was made with.
    #[doc(alias = "getTime")]
    pub fn time(&self) -> Duration {
        self.0.due.get()
    }

    /// Moves it to `delay` from now.
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel).
    pub fn reset(&self, delay: Duration) -> Result<(), Failure> {
        self.pending()?;
        if let Some(queue) = self.0.queue.upgrade() {
            queue.reschedule(&self.0, queue.now().saturating_add(delay));
        }
        Ok(())
    }

    /// Moves it `more` further from where it is.
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel).
    pub fn delay(&self, more: Duration) -> Result<(), Failure> {
        self.pending()?;
        if let Some(queue) = self.0.queue.upgrade() {
            queue.reschedule(&self.0, self.0.due.get().saturating_add(more));
        }
        Ok(())
    }

    /// The line that made the call.
    pub fn location(&self) -> &'static Location<'static> {
        self.0.created_at
    }

    fn pending(&self) -> Result<(), Failure> {
        match self.0.state.get() {
            State::Pending => Ok(()),
            State::Called => Err(AlreadyCalled::new().into()),
            State::Cancelled => Err(AlreadyCancelled::new().into()),
        }
    }
}

/// A [`DelayedCall`] for what the call's own function can reach: it keeps nothing alive.
#[derive(Clone, Default)]
pub(crate) struct WeakCall(Weak<Call>);

impl WeakCall {
    /// Takes the call back, if it has not run.
    pub(crate) fn cancel(&self) {
        if let Some(call) = self.0.upgrade() {
            // an error says that there is nothing to take back
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
    /// Whether both are the same call; two calls due at the same time are not equal.
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
            u8::from(state == State::Called),
            u8::from(state == State::Cancelled),
            self.0.created_at
        )
    }
}

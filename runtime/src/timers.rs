//! The timer queue: calls in order of their time, each of which can be taken out or moved.
//!
//! A balanced tree keyed by (due time, order): insert, remove and "what is next" are O(log n), and
//! a cancelled call is gone from it at once. The test clock and the reactor use the same queue and
//! differ in where "now" comes from.
use crate::{
    failure::Frame,
    remote_queue::WorkFlag,
    report::{guarded, report},
    time::{Call, DelayedCall, State},
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    panic::Location,
    rc::{Rc, Weak},
    time::Duration,
};

/// A queue of delayed calls over the time that [`set_now`](Self::set_now) tells it.
#[derive(Default)]
pub(crate) struct Timers {
    calls: RefCell<BTreeMap<(Duration, u64), Rc<Call>>>,
    orders: Cell<u64>,
    now: Cell<Duration>,
    /// Where the time of a reactor comes from: between turns `now` grows old. A test clock has none
    /// and stands still.
    clock: OnceCell<Box<dyn Fn() -> Duration>>,
    /// Who lives in the time of a test clock: called when it has been moved.
    advance_listeners: RefCell<Vec<Weak<dyn Fn()>>>,
    /// Tells the reactor of it that a turn has something to do.
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

    /// Tells those who live in this time that it was moved.
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
        made: &'static Location<'static>,
    ) -> DelayedCall {
        let call = Rc::new(Call {
            due: Cell::new(self.now().saturating_add(delay)),
            order: Cell::new(self.next_order()),
            state: Cell::new(State::Pending),
            function: Cell::new(Some(function)),
            queue: self.me.clone(),
            made,
        });
        self.calls.borrow_mut().insert((call.due.get(), call.order.get()), call.clone());
        self.work.set();
        DelayedCall(call)
    }

    pub(crate) fn remove(&self, call: &Call) {
        self.calls.borrow_mut().remove(&(call.due.get(), call.order.get()));
    }

    pub(crate) fn reschedule(&self, call: &Rc<Call>, due: Duration) {
        self.remove(call);
        call.due.set(due);
        call.order.set(self.next_order());
        self.calls.borrow_mut().insert((due, call.order.get()), call.clone());
    }

    /// Whether no call is to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.borrow().is_empty()
    }

    /// When the next call is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.calls.borrow().first_key_value().map(|((due, _), _)| *due)
    }

    /// The calls that are still to run, the next one first.
    pub(crate) fn pending(&self) -> Vec<DelayedCall> {
        self.calls.borrow().values().cloned().map(DelayedCall).collect()
    }

    /// Sets the one time for all calls of a turn and gives a mark for [`run_due`](Self::run_due):
    /// how many calls have been made so far. Nothing if there are none to run, or if only a test
    /// moves the time; then no clock is looked at.
    pub(crate) fn begin_turn(&self) -> Option<u64> {
        if self.is_manual() || self.is_empty() {
            return None;
        }
        self.now();
        Some(self.orders.get())
    }

    /// Runs the next call that is due now and was made before `mark`, and says where that was made;
    /// `None` when there is none. Each is taken out before it runs, so that it counts as called
    /// inside its own function.
    pub(crate) fn run_due(&self, mark: u64) -> Option<&'static Location<'static>> {
        let call = {
            let mut calls = self.calls.borrow_mut();
            // one time for all calls of a turn
            let now = self.now.get();
            // within one due time the order grows, so calls made since the mark stand behind the
            // older ones of the same time only
            let (&key, _) =
                calls.range(..=(now, u64::MAX)).find(|((_, order), _)| *order < mark)?;
            calls.remove(&key)
        };
        let call = call?;
        call.state.set(State::Called);
        if let Some(function) = call.function.take() {
            // user code
            let made = call.made;
            if let Err(failure) = guarded(|| Frame::new("call_later", made), function) {
                report(failure, format!("a delayed call made at {made}"));
            }
        }
        Some(call.made)
    }

    /// Takes every call out unrun; the caller drops them with nothing borrowed.
    pub(crate) fn take_all(&self) -> Vec<DelayedCall> {
        let calls = std::mem::take(&mut *self.calls.borrow_mut());
        calls.into_values().map(DelayedCall).collect()
    }

    fn next_order(&self) -> u64 {
        let order = self.orders.get();
        self.orders.set(order + 1);
        order
    }
}

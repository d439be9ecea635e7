//! Reactor: what it is made of; timers, other threads, its end.
use super::{
    backend::{Backend, Event},
    dns::{HostnameResolver, SystemResolver},
    lifecycle::Stage,
    remote::{Inbox, Remote},
    remote_deferred::Crossings,
    source::Source,
    thread_pool::ThreadPool,
    triggers::Triggers,
    turn::Desk,
};
use crate::{
    defer::{CancelHandle, Resolver, debug::debugging},
    remote_queue::{Door, door, set_door},
    report::{drop_each, drop_guarded},
    time::{DelayedCall, ReactorTime},
    timers::Timers,
};
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    fmt,
    panic::Location,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// An event loop: it waits for sockets, timers and other threads, and calls what is due. A cheap
/// handle; clones are the same reactor.
///
/// Everything it calls runs in the thread of [`run`](Self::run), one after the other. A panic in a
/// piece of user code costs that piece: a timer its report, a handler its connection.
#[derive(Clone)]
pub struct Reactor(pub(crate) Rc<Core>);

type Calls = RefCell<VecDeque<Box<dyn FnOnce()>>>;

/// What the handles share.
pub(crate) struct Core {
    pub(crate) backend: Rc<dyn Backend>,
    pub(crate) sources: RefCell<Slab<Rc<dyn Source>>>,
    /// The slots that were left in this turn: an event that is on its way to one must not reach the
    /// next who takes it.
    left: RefCell<Vec<usize>>,
    /// What lies in a slot that was left, and in one whose source is still being built.
    nobody: Rc<dyn Source>,
    nobody_yet: Rc<dyn Source>,
    /// Where what lies in a slot was asked for, while debugging is on.
    made: RefCell<HashMap<usize, &'static Location<'static>>>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) again: RefCell<Vec<Event>>,
    pub(super) phase: Cell<Phase>,
    /// How far a run has come: see `running.rs`.
    pub(super) stage: Cell<Stage>,
    pub(super) triggers: Triggers,
    pub(super) when_running: Calls,
    pub(super) when_stopped: RefCell<Vec<Resolver<()>>>,
    pub(super) desk: Cell<Option<Box<Desk>>>,
    pub(crate) crossings: Crossings,
    pub(super) pool: RefCell<Option<ThreadPool>>,
    pub(super) pool_size: Cell<usize>,
    pub(super) handles_signals: Cell<bool>,
    pub(super) signals_installed: Cell<bool>,
    pub(super) exit_signal: Cell<Option<i32>>,
    /// Which run it is, and whether its startup is done.
    pub(super) run: Cell<u64>,
    pub(super) started: Cell<bool>,
    pub(super) resolver: RefCell<Rc<dyn HostnameResolver>>,
    /// How long a piece of user code may take before the watchdog names it.
    pub(super) slow: Cell<Option<Duration>>,
    /// The startup that waits for its first triggers.
    pub(super) waiting_startup: RefCell<Option<CancelHandle>>,
}

/// How many threads a reactor's pool has at most, unless it is told otherwise.
const DEFAULT_POOL_SIZE: usize = 10;

/// What may be done with a reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Running,
    Closed,
}

impl Reactor {
    pub(crate) fn over(backend: Rc<dyn Backend>) -> Self {
        let clock = backend.clone();
        Self::with_timers(backend, Timers::with_clock(move || clock.now()))
    }

    /// A reactor whose delayed calls lie in `timers`. Those of a test clock run when the test moves
    /// it, and in no turn.
    pub(crate) fn with_timers(backend: Rc<dyn Backend>, timers: Rc<Timers>) -> Self {
        let inbox = Inbox::new(backend.alarm());
        if !door().is_some_and(|door| door.is_open()) {
            set_door(Some(inbox.clone()));
            // coroutines that were rung before there was a reactor
            crate::coroutine::door_opened();
        }
        Self(Rc::new(Core {
            backend,
            sources: RefCell::default(),
            left: RefCell::default(),
            nobody: Rc::new(Nobody),
            nobody_yet: Rc::new(Nobody),
            made: RefCell::default(),
            timers,
            inbox,
            again: RefCell::default(),
            phase: Cell::new(Phase::Idle),
            stage: Cell::new(Stage::Idle),
            triggers: Triggers::default(),
            when_running: RefCell::default(),
            when_stopped: RefCell::default(),
            desk: Cell::new(None),
            crossings: Crossings::default(),
            pool: RefCell::new(None),
            pool_size: Cell::new(DEFAULT_POOL_SIZE),
            handles_signals: Cell::new(true),
            signals_installed: Cell::new(false),
            exit_signal: Cell::new(None),
            run: Cell::new(0),
            started: Cell::new(false),
            resolver: RefCell::new(Rc::new(SystemResolver)),
            slow: Cell::new(None),
            waiting_startup: RefCell::default(),
        }))
    }

    /// Runs `call` once, `delay` from now, in a later turn.
    #[doc(alias = "callLater")]
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.add_timer(delay, Box::new(call), Location::caller())
    }

    fn add_timer(
        &self,
        delay: Duration,
        call: Box<dyn FnOnce()>,
        made: &'static Location<'static>,
    ) -> DelayedCall {
        let core = &self.0;
        let timer = core.timers.add(delay, call, made);
        if core.phase.get() == Phase::Closed {
            // an inert reactor takes it and drops it
            let _ = timer.cancel();
        }
        timer
    }

    /// The delayed calls that are still to run, the next one first.
    #[doc(alias = "getDelayedCalls")]
    pub fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.0.timers.pending()
    }

    /// Time since the reactor was made.
    pub fn seconds(&self) -> Duration {
        self.0.backend.now()
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote {
        Remote(self.0.inbox.clone())
    }

    /// Ends the reactor for good: drops its connections, ports, timers and waiting calls.
    /// Connections get no handler call; what waits for one of them fails. Code that this wakes
    /// finds an inert reactor: it takes no timers, ports or connections.
    pub fn close(&self) {
        let core = &self.0;
        if core.phase.replace(Phase::Closed) == Phase::Closed {
            return;
        }
        core.stage.set(Stage::Over);
        core.triggers.drop_all();
        let sources: Vec<_> = core.sources.borrow_mut().drain().collect();
        core.left.take();
        for source in sources {
            source.closed();
        }
        leave_door(&core.inbox);
        drop_each(core.inbox.close());
        if !core.timers.is_still() {
            for timer in core.timers.take_all() {
                let _ = timer.cancel();
            }
        }
        drop_each(core.when_running.take());
        drop_each(core.when_stopped.take());
        core.crossings.forget_all();
        self.stop_pool(|| core.calls_from_threads());
    }
}

/// Sits in a slot that has no source.
struct Nobody;

impl Source for Nobody {
    fn ready(self: Rc<Self>, _readiness: super::source::Readiness, _buffer: &mut [u8]) {}
}

impl Drop for Core {
    fn drop(&mut self) {
        // a reactor that is forgotten without `close` must not stay the thread's door
        leave_door(&self.inbox);
        drop_each(self.inbox.close());
        if let Some(pool) = self.pool.get_mut() {
            // nobody is there to wait for its threads, which end when their work is done
            pool.let_go();
        }
    }
}

/// Takes `inbox` out of the thread if it is its door.
fn leave_door(inbox: &Arc<Inbox>) {
    if door().is_some_and(|door| Arc::ptr_eq(&door, &(inbox.clone() as Arc<dyn Door>))) {
        set_door(None);
    }
}

impl Reactor {
    /// The reactor's pool of threads: up to 10 unless
    /// [`suggest_thread_pool_size`](Self::suggest_thread_pool_size) has said otherwise. Its threads
    /// start with the reactor, or when work needs them, and have ended when [`run`](Self::run)
    /// returns; work that was given by then is done.
    #[doc(alias = "getThreadPool")]
    pub fn thread_pool(&self) -> ThreadPool {
        let core = &self.0;
        let pool = core
            .pool
            .borrow_mut()
            .get_or_insert_with(|| ThreadPool::of_reactor(core.pool_size.get()))
            .clone();
        if core.phase.get() == Phase::Running
            && core.stage.get() != Stage::Over
            && !pool.is_started()
        {
            pool.start();
        }
        pool
    }

    /// Lets the reactor's pool have up to `size` threads; 0 counts as 1.
    #[doc(alias = "suggestThreadPoolSize")]
    pub fn suggest_thread_pool_size(&self, size: usize) {
        let size = size.max(1);
        self.0.pool_size.set(size);
        if let Some(pool) = &*self.0.pool.borrow() {
            // 0 to at least 1 is a size that can be
            let _ = pool.adjust(0, size);
        }
    }

    /// Starts a pool that was asked for before the reactor ran.
    pub(super) fn start_pool(&self) {
        let pool = self.0.pool.borrow().clone();
        if let Some(pool) = pool {
            pool.start();
        }
    }

    /// Ends the pool's threads; the next run has a pool of its own.
    pub(super) fn stop_pool(&self, meanwhile: impl FnMut()) {
        // it stays in its place until it has ended: no other is made meanwhile
        let pool = self.0.pool.borrow().clone();
        if let Some(pool) = pool {
            pool.stop_meanwhile(meanwhile);
        }
        let gone = self.0.pool.take();
        drop_guarded(gone);
    }

    /// What lives in it: ports, connections, attempts, signal handlers.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let (sources, made) = (self.0.sources.borrow(), self.0.made.borrow());
        let place = |slot| {
            made.get(&slot).map(|place| format!(", asked for at {place}")).unwrap_or_default()
        };
        sources
            .iter()
            .filter_map(|(slot, source)| Some(source.describe()? + &place(slot)))
            .collect()
    }

    /// How many threads its pool has, and how much work waits for one.
    pub(crate) fn thread_load(&self) -> (usize, usize) {
        self.0.pool.borrow().as_ref().map_or((0, 0), ThreadPool::load)
    }

    /// Whether a turn has something to do without waiting for anything.
    pub(crate) fn has_work(&self) -> bool {
        let core = &self.0;
        let due = || {
            !core.timers.is_still()
                && core.timers.next_due().is_some_and(|due| due <= core.backend.now())
        };
        core.inbox.is_waiting() || !core.again.borrow().is_empty() || due()
    }
}

impl Core {
    /// A delayed call of the runtime's own.
    #[track_caller]
    pub(crate) fn timer(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.timers.add(delay, Box::new(call), Location::caller())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.get() == Phase::Closed
    }

    /// Takes a slot for a source that is still being built.
    pub(crate) fn reserve(&self) -> usize {
        self.sources.borrow_mut().insert(self.nobody_yet.clone())
    }

    /// Puts `source` into `slot`, which was taken for it. `false` if the reactor was closed
    /// meanwhile.
    pub(crate) fn fill(&self, slot: usize, source: Rc<dyn Source>) -> bool {
        let old = match self.sources.borrow_mut().get_mut(slot) {
            Some(place) => std::mem::replace(place, source),
            None => return false,
        };
        drop(old);
        true
    }

    /// Remembers where what lies in `slot` was asked for, if debugging is on.
    pub(crate) fn note_made(&self, slot: usize, made: &'static Location<'static>) {
        if debugging() {
            self.made.borrow_mut().insert(slot, made);
        }
    }

    /// Lets `slot` have the place of `other`: what comes out of a port was asked for where the port
    /// was.
    pub(crate) fn note_made_by(&self, slot: usize, other: usize) {
        if debugging() {
            let made = self.made.borrow().get(&other).copied();
            if let Some(made) = made {
                self.note_made(slot, made);
            }
        }
    }

    /// Takes the source out of `slot`.
    pub(crate) fn remove(&self, slot: usize) -> Option<Rc<dyn Source>> {
        if !self.made.borrow().is_empty() {
            self.made.borrow_mut().remove(&slot);
        }
        let mut sources = self.sources.borrow_mut();
        let place = sources.get_mut(slot).filter(|source| !Rc::ptr_eq(source, &self.nobody))?;
        self.left.borrow_mut().push(slot);
        Some(std::mem::replace(place, self.nobody.clone()))
    }

    /// Gives the slots back that were left before this turn.
    pub(super) fn free_slots(&self) {
        let mut sources = self.sources.borrow_mut();
        for slot in self.left.borrow_mut().drain(..) {
            sources.try_remove(slot);
        }
    }

    #[inline]
    pub(super) fn has_no_slots_to_free(&self) -> bool {
        self.left.borrow().is_empty()
    }
}

impl ReactorTime for Reactor {
    fn seconds(&self) -> Duration {
        self.seconds()
    }

    #[track_caller]
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall {
        self.add_timer(delay, call, Location::caller())
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<Reactor {:?}, {} sources, {} delayed calls>",
            self.0.phase.get(),
            self.0.sources.borrow().len() - self.0.left.borrow().len(),
            self.delayed_calls().len()
        )
    }
}

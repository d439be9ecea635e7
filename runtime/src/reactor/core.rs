//! Reactor: what it is made of; timers, other threads, its end.
use super::{
    backend::Backend,
    name_query::NameQuery,
    remote::{Inbox, Remote, RemoteDeferreds},
    schedule::{Schedule, TurnScratch},
    source::{Readiness, Source},
    thread_pool::{PoolLoad, ThreadPool},
    triggers::Triggers,
};
use crate::{
    defer::{CancelHandle, Deferred, Resolver, debug::debugging},
    remote_queue::{RemoteQueue, WorkFlag, install_remote_queue, remote_queue},
    report::{drop_each, drop_guarded},
    time::{DelayedCall, ReactorTime},
    timers::Timers,
};
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    fmt,
    net::SocketAddr,
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

/// How host names are looked up: [`HostnameResolver`](super::HostnameResolver) without its type.
pub(super) type Resolve = Rc<dyn Fn(&NameQuery, &Reactor) -> Deferred<Vec<SocketAddr>>>;

/// What the handles share.
pub(crate) struct Core {
    pub(crate) backend: Rc<dyn Backend>,
    pub(crate) sources: RefCell<Slab<Rc<dyn Source>>>,
    /// The slots that were freed in this turn: an event that is on its way to one must not reach
    /// the next who takes it.
    freed_this_turn: RefCell<Vec<usize>>,
    /// What lies in a freed slot, and in one whose source is still being built.
    vacant: Rc<dyn Source>,
    reserved: Rc<dyn Source>,
    /// Where what lies in a slot was asked for, while debugging is on.
    created_at: RefCell<HashMap<usize, &'static Location<'static>>>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) schedule: Rc<Schedule>,
    pub(super) phase: Cell<RunPhase>,
    pub(super) triggers: Triggers,
    pub(super) when_running: Calls,
    pub(super) when_stopped: RefCell<Vec<Resolver<()>>>,
    pub(super) scratch: Cell<Option<TurnScratch>>,
    pub(crate) remote_deferreds: RemoteDeferreds,
    pub(super) pool: RefCell<Option<ThreadPool>>,
    pub(super) pool_size: Cell<usize>,
    pub(super) handles_signals: Cell<bool>,
    pub(super) signals_installed: Cell<bool>,
    pub(super) exit_signal: Cell<Option<i32>>,
    /// Which run it is.
    pub(super) run: Cell<u64>,
    /// `None` asks the system.
    pub(super) resolve: RefCell<Option<Resolve>>,
    /// How long a piece of user code may take before the watchdog names it.
    pub(super) slow: Cell<Option<Duration>>,
    /// The startup that waits for its first triggers.
    pub(super) waiting_startup: RefCell<Option<CancelHandle>>,
}

/// How many threads a reactor's pool has at most, unless it is told otherwise.
const DEFAULT_POOL_SIZE: usize = 10;

/// How far a reactor has come: exactly one of these at a time. `lifecycle.rs` draws the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunPhase {
    /// It does not run, and may be run.
    Idle,
    /// The triggers before the startup have not all finished.
    Starting,
    /// The startup is done.
    Running,
    /// It was asked to stop, in this turn. `started`: its startup was done by then, or is now.
    Stopping { started: bool },
    /// The triggers before the shutdown have not all finished.
    ShuttingDown { started: bool },
    /// The run returns after this turn.
    Stopped,
    /// It never runs again.
    Closed,
}

impl RunPhase {
    /// Whether turns go on.
    pub(super) fn is_under_way(self) -> bool {
        !matches!(self, Self::Idle | Self::Stopped | Self::Closed)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Closed => "Closed",
            _ => "Running",
        }
    }
}

impl Reactor {
    pub(crate) fn over(backend: Rc<dyn Backend>) -> Self {
        let clock = backend.clone();
        Self::with_timers(backend, Timers::with_clock(move || clock.now()))
    }

    /// A reactor whose delayed calls lie in `timers`. Those of a test clock run when the test moves
    /// it, and in no turn.
    pub(crate) fn with_timers(backend: Rc<dyn Backend>, timers: Rc<Timers>) -> Self {
        // several reactors may live in the time of one test clock, so that has no say here
        let work = if timers.is_manual() { WorkFlag::default() } else { timers.work().clone() };
        let inbox = Inbox::new(backend.alarm(), work.clone());
        if !remote_queue().is_some_and(|queue| queue.is_open()) {
            install_remote_queue(Some(inbox.clone()));
            // coroutines that were woken before there was a reactor
            crate::coroutine::redeliver_missed_wakes();
        }
        Self(Rc::new(Core {
            backend,
            sources: RefCell::default(),
            freed_this_turn: RefCell::default(),
            vacant: Rc::new(Vacant),
            reserved: Rc::new(Vacant),
            created_at: RefCell::default(),
            timers,
            inbox,
            schedule: Rc::new(Schedule::new(work)),
            phase: Cell::new(RunPhase::Idle),
            triggers: Triggers::default(),
            when_running: RefCell::default(),
            when_stopped: RefCell::default(),
            scratch: Cell::new(None),
            remote_deferreds: RemoteDeferreds::default(),
            pool: RefCell::new(None),
            pool_size: Cell::new(DEFAULT_POOL_SIZE),
            handles_signals: Cell::new(true),
            signals_installed: Cell::new(false),
            exit_signal: Cell::new(None),
            run: Cell::new(0),
            resolve: RefCell::new(None),
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
        created_at: &'static Location<'static>,
    ) -> DelayedCall {
        let core = &self.0;
        let timer = core.timers.add(delay, call, created_at);
        if core.is_closed() {
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
        if core.phase.replace(RunPhase::Closed) == RunPhase::Closed {
            return;
        }
        core.schedule.set_work();
        core.triggers.drop_all();
        let sources: Vec<_> = core.sources.borrow_mut().drain().collect();
        core.freed_this_turn.take();
        for source in sources {
            source.closed();
        }
        uninstall_remote_queue(&core.inbox);
        drop_each(core.inbox.close());
        if !core.timers.is_manual() {
            for timer in core.timers.take_all() {
                let _ = timer.cancel();
            }
        }
        drop_each(core.when_running.take());
        drop_each(core.when_stopped.take());
        core.remote_deferreds.drop_all();
        self.stop_pool(|| core.calls_from_threads());
    }
}

/// Stands in a slot that has no source.
struct Vacant;

impl Source for Vacant {
    fn ready(self: Rc<Self>, _readiness: Readiness, _buffer: &mut [u8]) {}
}

impl Drop for Core {
    fn drop(&mut self) {
        // a reactor that is forgotten without `close` must not stay the thread's queue
        uninstall_remote_queue(&self.inbox);
        drop_each(self.inbox.close());
        if let Some(pool) = self.pool.get_mut() {
            // nobody is there to wait for its threads, which end when their work is done
            pool.release_threads();
        }
    }
}

/// Removes `inbox` from the thread if it is its remote queue.
fn uninstall_remote_queue(inbox: &Arc<Inbox>) {
    let inbox: Arc<dyn RemoteQueue> = inbox.clone();
    if remote_queue().is_some_and(|queue| Arc::ptr_eq(&queue, &inbox)) {
        install_remote_queue(None);
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
        if core.phase.get().is_under_way() && !pool.is_started() {
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
        let (sources, created_at) = (self.0.sources.borrow(), self.0.created_at.borrow());
        let place = |slot| {
            created_at.get(&slot).map(|place| format!(", asked for at {place}")).unwrap_or_default()
        };
        sources
            .iter()
            .filter_map(|(slot, source)| Some(source.describe()? + &place(slot)))
            .collect()
    }

    /// How many threads its pool has, and how much work waits for one.
    pub(crate) fn thread_load(&self) -> PoolLoad {
        self.0.pool.borrow().as_ref().map_or(PoolLoad::default(), ThreadPool::load)
    }

    /// Whether a turn has something to do without waiting for anything.
    pub(crate) fn has_work(&self) -> bool {
        let core = &self.0;
        let due = || {
            !core.timers.is_manual()
                && core.timers.next_due().is_some_and(|due| due <= core.backend.now())
        };
        core.inbox.is_waiting() || core.schedule.has_events() || due()
    }
}

impl Core {
    /// A delayed call of the runtime's own.
    #[track_caller]
    pub(crate) fn timer(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.timers.add(delay, Box::new(call), Location::caller())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.get() == RunPhase::Closed
    }

    /// Takes a slot for a source that is still being built.
    pub(crate) fn reserve(&self) -> usize {
        self.sources.borrow_mut().insert(self.reserved.clone())
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
    pub(crate) fn set_created_at(&self, slot: usize, created_at: &'static Location<'static>) {
        if debugging() {
            self.created_at.borrow_mut().insert(slot, created_at);
        }
    }

    /// Lets `slot` have the place of `other`: what comes out of a port was asked for where the port
    /// was.
    pub(crate) fn inherit_created_at(&self, slot: usize, other: usize) {
        if debugging() {
            let created_at = self.created_at.borrow().get(&other).copied();
            if let Some(created_at) = created_at {
                self.set_created_at(slot, created_at);
            }
        }
    }

    /// Removes the source from `slot`.
    pub(crate) fn remove(&self, slot: usize) -> Option<Rc<dyn Source>> {
        if !self.created_at.borrow().is_empty() {
            self.created_at.borrow_mut().remove(&slot);
        }
        let mut sources = self.sources.borrow_mut();
        let place = sources.get_mut(slot).filter(|source| !Rc::ptr_eq(source, &self.vacant))?;
        self.freed_this_turn.borrow_mut().push(slot);
        self.schedule.set_work();
        Some(std::mem::replace(place, self.vacant.clone()))
    }

    /// Frees the slots that were left before this turn.
    pub(super) fn free_slots(&self) {
        let mut sources = self.sources.borrow_mut();
        for slot in self.freed_this_turn.borrow_mut().drain(..) {
            sources.try_remove(slot);
        }
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
            "<Reactor {}, {} sources, {} delayed calls>",
            self.0.phase.get().name(),
            self.0.sources.borrow().len() - self.0.freed_this_turn.borrow().len(),
            self.delayed_calls().len()
        )
    }
}

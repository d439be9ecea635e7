//! Reactor: its parts, timers, thread pool, slots, and how it closes.
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

/// An event loop: it waits for sockets, timers and other threads, and calls what is due. Cloning it
/// is cheap; clones are the same reactor.
///
/// All calls happen one at a time, in the thread of [`run`](Self::run). A panic affects only the
/// code that panics: a timer's panic is reported, and a handler's panic closes its connection.
#[derive(Clone)]
pub struct Reactor(pub(crate) Rc<Core>);

type Calls = RefCell<VecDeque<Box<dyn FnOnce()>>>;

/// The installed [`HostnameResolver`](super::HostnameResolver), type-erased.
pub(super) type Resolve = Rc<dyn Fn(&NameQuery, &Reactor) -> Deferred<Vec<SocketAddr>>>;

/// The state that the handles share.
pub(crate) struct Core {
    pub(crate) backend: Rc<dyn Backend>,
    pub(crate) sources: RefCell<Slab<Rc<dyn Source>>>,
    /// The slots that were freed in this turn. They are not reused before the next one, because an
    /// event for the old source may be on its way.
    freed_this_turn: RefCell<Vec<usize>>,
    /// The content of a free slot, and of one whose source is being built.
    vacant: Rc<dyn Source>,
    reserved: Rc<dyn Source>,
    /// The lines that asked for the sources in the slots, while debugging is on.
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
    /// The slot of the reactor's own signal handlers, during a run.
    pub(super) signals: Cell<Option<usize>>,
    /// Set by a signal that must end the wait for the thread pool.
    pub(super) gives_up: Cell<bool>,
    pub(super) exit_signal: Cell<Option<i32>>,
    /// The number of the present run.
    pub(super) run: Cell<u64>,
    /// `None` resolves names with the operating system.
    pub(super) resolve: RefCell<Option<Resolve>>,
    /// The time after which the watchdog reports user code that blocks.
    pub(super) slow: Cell<Option<Duration>>,
    /// The startup, while it waits for its first triggers.
    pub(super) waiting_startup: RefCell<Option<CancelHandle>>,
}

/// The default maximum number of threads in a reactor's pool.
const DEFAULT_POOL_SIZE: usize = 10;

/// The phase of a reactor. `lifecycle.rs` draws the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunPhase {
    /// Not running; it may be run.
    Idle,
    /// Waiting for the triggers before the startup.
    Starting,
    /// Running, after the startup.
    Running,
    /// Asked to stop in this turn. `started`: the startup has finished, or finishes in this turn.
    Stopping { started: bool },
    /// Waiting for the triggers before the shutdown.
    ShuttingDown { started: bool },
    /// The run returns after this turn.
    Stopped,
    /// Closed: it never runs again.
    Closed,
}

impl RunPhase {
    /// Returns whether turns continue.
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

    /// Creates a reactor whose delayed calls are in `timers`. If those are manual, they run when a
    /// test advances the clock, and not in a turn.
    pub(crate) fn with_timers(backend: Rc<dyn Backend>, timers: Rc<Timers>) -> Self {
        // several reactors may share one manual clock, so its flag says nothing about this one
        let work = if timers.is_manual() { WorkFlag::default() } else { timers.work().clone() };
        let inbox = Inbox::new(backend.alarm(), work.clone());
        if !remote_queue().is_some_and(|queue| queue.is_open()) {
            install_remote_queue(Some(inbox.clone()));
            // coroutines may have been woken before the thread had a reactor
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
            signals: Cell::new(None),
            gives_up: Cell::new(false),
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
            // a closed reactor accepts the call and drops it
            let _ = timer.cancel();
        }
        timer
    }

    /// Returns the pending delayed calls, the next one first.
    #[doc(alias = "getDelayedCalls")]
    pub fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.0.timers.pending()
    }

    /// Returns the time since the reactor was created.
    pub fn seconds(&self) -> Duration {
        self.0.backend.now()
    }

    /// Returns a handle for other threads.
    pub fn remote(&self) -> Remote {
        Remote(self.0.inbox.clone())
    }

    /// Closes the reactor for good: drops its connections, ports, timers and pending calls.
    /// Handlers are not called; Deferreds of a connection fail. Code that this resumes finds a
    /// reactor that accepts no timers, ports or connections.
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
        self.stop_pool(|| {
            core.calls_from_threads();
            true
        });
    }
}

/// The source in a slot that has none.
struct Vacant;

impl Source for Vacant {
    fn ready(self: Rc<Self>, _readiness: Readiness, _buffer: &mut [u8]) {}
}

impl Drop for Core {
    fn drop(&mut self) {
        // a reactor that was dropped without `close` must not remain the thread's queue
        uninstall_remote_queue(&self.inbox);
        drop_each(self.inbox.close());
        if let Some(pool) = self.pool.get_mut() {
            // nothing waits for the threads here; they exit when their work is done
            pool.release_threads();
        }
    }
}

/// Uninstalls `inbox` if it is the thread's remote queue.
fn uninstall_remote_queue(inbox: &Arc<Inbox>) {
    let inbox: Arc<dyn RemoteQueue> = inbox.clone();
    if remote_queue().is_some_and(|queue| Arc::ptr_eq(&queue, &inbox)) {
        install_remote_queue(None);
    }
}

impl Reactor {
    /// Returns the reactor's thread pool, which has up to 10 threads unless
    /// [`suggest_thread_pool_size`](Self::suggest_thread_pool_size) was called. Its threads start
    /// with the reactor, or when work needs them. When [`run`](Self::run) returns, all work given
    /// to the pool has been done and its threads have exited.
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

    /// Sets the maximum number of threads in the reactor's pool; 0 counts as 1.
    #[doc(alias = "suggestThreadPoolSize")]
    pub fn suggest_thread_pool_size(&self, size: usize) {
        let size = size.max(1);
        self.0.pool_size.set(size);
        if let Some(pool) = &*self.0.pool.borrow() {
            // 0 and at least 1 are always valid limits
            let _ = pool.adjust(0, size);
        }
    }

    /// Starts a pool that was used before the reactor ran.
    pub(super) fn start_pool(&self) {
        let pool = self.0.pool.borrow().clone();
        if let Some(pool) = pool {
            pool.start();
        }
    }

    /// Stops the pool's threads; the next run creates a new pool.
    pub(super) fn stop_pool(&self, mut meanwhile: impl FnMut() -> bool) {
        // the pool stays in its place until it has stopped, so that no second one is created
        let pool = self.0.pool.borrow().clone();
        if let Some(pool) = pool {
            pool.stop_meanwhile(&mut meanwhile);
            // the results of the last pieces of work
            meanwhile();
        }
        let removed = self.0.pool.take();
        drop_guarded(removed);
    }

    /// Describes what it contains: ports, connections, attempts to connect, signal handlers.
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

    /// Returns the number of threads in its pool, and how much work is queued.
    pub(crate) fn thread_load(&self) -> PoolLoad {
        self.0.pool.borrow().as_ref().map_or(PoolLoad::default(), ThreadPool::load)
    }

    /// Returns whether a turn has work to do without waiting.
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
    /// Schedules a call of the runtime's own.
    #[track_caller]
    pub(crate) fn timer(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.timers.add(delay, Box::new(call), Location::caller())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.get() == RunPhase::Closed
    }

    /// Reserves a slot for a source that is being built.
    pub(crate) fn reserve(&self) -> usize {
        self.sources.borrow_mut().insert(self.reserved.clone())
    }

    /// Puts `source` into its reserved slot. Returns `false` if the reactor was closed in the
    /// meantime.
    pub(crate) fn fill(&self, slot: usize, source: Rc<dyn Source>) -> bool {
        let old = match self.sources.borrow_mut().get_mut(slot) {
            Some(place) => std::mem::replace(place, source),
            None => return false,
        };
        drop(old);
        true
    }

    /// Records the line that asked for the source in `slot`, if debugging is on.
    pub(crate) fn set_created_at(&self, slot: usize, created_at: &'static Location<'static>) {
        if debugging() {
            self.created_at.borrow_mut().insert(slot, created_at);
        }
    }

    /// Copies the line of `other` to `slot`: a connection has the line of its port.
    pub(crate) fn inherit_created_at(&self, slot: usize, other: usize) {
        if debugging() {
            let created_at = self.created_at.borrow().get(&other).copied();
            if let Some(created_at) = created_at {
                self.set_created_at(slot, created_at);
            }
        }
    }

    /// Removes the source from `slot` and returns it.
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

    /// Makes the slots that earlier turns have freed available.
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

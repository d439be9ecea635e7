//! Reactor: run, stop, timers, other threads.
use super::{
    backend::{Backend, Event},
    names::LookUps,
    poll::Desk,
    signals,
    source::Source,
    threads::{Inbox, Remote},
};
use crate::{
    defer::{Deferred, Resolver},
    error::{ReactorAlreadyRunning, ReactorClosed, ReactorNotRunning},
    failure::{Failure, Frame},
    report::{drop_guarded, guarded, report},
    time::{DelayedCall, ReactorTime},
    timers::Timers,
    wake::{Door, door, set_door},
};
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    panic::Location,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// An event loop: it waits for sockets, timers and other threads, and calls what is due. A cheap handle; clones are the same reactor.
///
/// Everything it calls runs in the thread of [`run`](Self::run), one after the other. A panic in a piece of user code costs that piece: a
/// timer its report, a handler its connection.
#[derive(Clone)]
pub struct Reactor(pub(crate) Rc<Core>);

type Calls = RefCell<VecDeque<Box<dyn FnOnce()>>>;

/// What the handles share.
pub(crate) struct Core {
    pub(crate) backend: Rc<dyn Backend>,
    pub(crate) sources: RefCell<Slab<Rc<dyn Source>>>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) again: RefCell<Vec<Event>>,
    pub(crate) stopping: Cell<bool>,
    phase: Cell<Phase>,
    when_running: Calls,
    when_stopped: RefCell<Vec<Resolver<()>>>,
    desk: Cell<Option<Box<Desk>>>,
    pub(crate) look_ups: LookUps,
    handles_signals: Cell<bool>,
    signals_installed: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Running,
    Closed,
}

thread_local! {
    /// The reactors that run in this thread, the innermost last.
    static RUNNING: RefCell<Vec<Reactor>> = const { RefCell::new(Vec::new()) };
}

/// Puts a reactor into the thread while it runs.
struct InThread {
    door: Option<Arc<dyn Door>>,
    core: Rc<Core>,
}

impl InThread {
    fn enter(reactor: &Reactor) -> Self {
        RUNNING.with_borrow_mut(|running| running.push(reactor.clone()));
        reactor.0.phase.set(Phase::Running);
        Self { door: set_door(Some(reactor.0.inbox.clone())), core: reactor.0.clone() }
    }
}

impl Drop for InThread {
    fn drop(&mut self) {
        // a reactor that has run stays the thread's door unless another one was there
        if let Some(door) = self.door.take().filter(|door| door.is_open()) {
            set_door(Some(door));
        }
        if self.core.phase.get() == Phase::Running {
            self.core.phase.set(Phase::Idle);
        }
        let gone = RUNNING.with_borrow_mut(Vec::pop);
        drop(gone);
    }
}

impl Reactor {
    pub(crate) fn over(backend: Rc<dyn Backend>) -> Self {
        let inbox = Inbox::new(backend.alarm());
        if !door().is_some_and(|door| door.is_open()) {
            set_door(Some(inbox.clone()));
            // coroutines that were rung before there was a reactor
            crate::inline::door_opened();
        }
        let clock = backend.clone();
        Self(Rc::new(Core {
            backend,
            sources: RefCell::default(),
            timers: Timers::with_clock(move || clock.now()),
            inbox,
            again: RefCell::default(),
            stopping: Cell::new(false),
            phase: Cell::new(Phase::Idle),
            when_running: RefCell::default(),
            when_stopped: RefCell::default(),
            desk: Cell::new(None),
            look_ups: LookUps::default(),
            handles_signals: Cell::new(true),
            signals_installed: Cell::new(false),
        }))
    }

    /// The reactor that runs in this thread right now, for code that was given none.
    ///
    /// ```
    /// assert!(twistor::reactor::Reactor::current().is_none());
    /// ```
    pub fn current() -> Option<Self> {
        RUNNING.with_borrow(|running| running.last().cloned())
    }

    /// Runs turns until [`stop`](Self::stop), SIGINT or SIGTERM. It may be run again afterwards: connections, ports and timers are still
    /// there.
    ///
    /// # Errors
    /// [`ReactorAlreadyRunning`] inside a turn of the same reactor, [`ReactorClosed`] after [`close`](Self::close), and what the operating
    /// system says when waiting itself fails.
    pub fn run(&self) -> Result<(), Failure> {
        self.may_run()?;
        let core = &self.0;
        if !core.signals_installed.replace(true) {
            signals::install(core, core.handles_signals.get())?;
        }
        core.stopping.set(false);
        let _in_thread = InThread::enter(self);
        let mut desk = core.desk.take().unwrap_or_else(|| Box::new(Desk::new()));
        self.start_up();
        let mut result = Ok(());
        while !core.stopping.get() && core.phase.get() == Phase::Running {
            result = core.turn(&mut desk, None);
            if result.is_err() {
                break;
            }
        }
        core.desk.set(Some(desk));
        self.shut_down();
        Ok(result?)
    }

    /// Runs one turn that waits for at most `delay`.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn iterate(&self, delay: Duration) -> Result<(), Failure> {
        self.may_run()?;
        self.0.stopping.set(false);
        let _in_thread = InThread::enter(self);
        let mut desk = self.0.desk.take().unwrap_or_else(|| Box::new(Desk::new()));
        self.start_up();
        let result = self.0.turn(&mut desk, Some(delay));
        self.0.desk.set(Some(desk));
        Ok(result?)
    }

    /// [`stop`](Self::stop) where it does not matter whether it runs.
    pub(crate) fn request_stop(&self) {
        self.0.request_stop();
    }

    /// Whether a turn has something to do without waiting for anything.
    pub(crate) fn has_work(&self) -> bool {
        let core = &self.0;
        core.inbox.is_waiting() || !core.again.borrow().is_empty() || core.timers.next_due().is_some_and(|due| due <= core.backend.now())
    }

    fn may_run(&self) -> Result<(), Failure> {
        match self.0.phase.get() {
            Phase::Idle => Ok(()),
            Phase::Running => Err(ReactorAlreadyRunning::new().into()),
            Phase::Closed => Err(ReactorClosed::new().into()),
        }
    }

    fn start_up(&self) {
        loop {
            let call = self.0.when_running.borrow_mut().pop_front();
            let Some(call) = call else { break };
            // user code
            if let Err(failure) = guarded(|| Frame::new("call_when_running", Location::caller()), call) {
                report(failure, "a call at the start of the reactor");
            }
        }
    }

    fn shut_down(&self) {
        let waiting = self.0.when_stopped.take();
        for resolver in waiting {
            // user code
            resolver.callback(());
        }
    }

    /// Asks the reactor to stop: [`run`](Self::run) returns after the turn that this is called in.
    ///
    /// # Errors
    /// [`ReactorNotRunning`] if it does not run.
    pub fn stop(&self) -> Result<(), Failure> {
        if self.is_running() {
            self.0.request_stop();
            Ok(())
        } else {
            Err(ReactorNotRunning::new().into())
        }
    }

    /// Whether it is in [`run`](Self::run) or [`iterate`](Self::iterate).
    #[doc(alias = "running")]
    pub fn is_running(&self) -> bool {
        self.0.phase.get() == Phase::Running
    }

    /// A Deferred that fires when the reactor stops, right before [`run`](Self::run) returns.
    ///
    /// # Errors
    /// [`ReactorClosed`] after [`close`](Self::close).
    ///
    /// # Cancellation
    /// Fails with [`CancelledError`](crate::error::CancelledError) and changes nothing else.
    #[track_caller]
    pub fn when_stopped(&self) -> Deferred<()> {
        if self.0.is_closed() {
            return Deferred::fail(ReactorClosed::new());
        }
        let (deferred, resolver) = Deferred::new();
        let mut waiting = self.0.when_stopped.borrow_mut();
        waiting.retain(Resolver::is_wanted);
        waiting.push(resolver);
        deferred
    }

    /// Runs `call` at the start of [`run`](Self::run), in the order given; at once if the reactor runs.
    #[doc(alias = "callWhenRunning")]
    pub fn call_when_running(&self, call: impl FnOnce() + 'static) {
        if self.is_running() {
            // user code
            call();
        } else if self.0.is_closed() {
            drop_guarded(call);
        } else {
            self.0.when_running.borrow_mut().push_back(Box::new(call));
        }
    }

    /// Runs `call` once, `delay` from now, in a later turn.
    #[doc(alias = "callLater")]
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.add_timer(delay, Box::new(call), Location::caller())
    }

    fn add_timer(&self, delay: Duration, call: Box<dyn FnOnce()>, made: &'static Location<'static>) -> DelayedCall {
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

    /// Whether [`run`](Self::run) lets SIGINT and SIGTERM stop it; it does unless told otherwise before the first run.
    #[doc(alias = "installSignalHandlers")]
    pub fn handle_signals(&self, yes: bool) {
        self.0.handles_signals.set(yes);
    }

    /// Ends the reactor for good: drops its connections, ports, timers and waiting calls. Connections get no handler call; what waits for
    /// one of them fails. Code that this wakes finds an inert reactor: it takes no timers, ports or connections.
    pub fn close(&self) {
        let core = &self.0;
        if core.phase.replace(Phase::Closed) == Phase::Closed {
            return;
        }
        core.stopping.set(true);
        let sources: Vec<_> = core.sources.borrow_mut().drain().collect();
        for source in sources {
            source.closed();
        }
        leave_door(&core.inbox);
        drop_guarded(core.inbox.close());
        for timer in core.timers.take_all() {
            let _ = timer.cancel();
        }
        drop_guarded(core.when_running.take());
        drop_guarded(core.when_stopped.take());
        core.look_ups.forget_all();
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // a reactor that is forgotten without `close` must not stay the thread's door
        leave_door(&self.inbox);
        drop_guarded(self.inbox.close());
    }
}

/// Takes `inbox` out of the thread if it is its door.
fn leave_door(inbox: &Arc<Inbox>) {
    if door().is_some_and(|door| Arc::ptr_eq(&door, &(inbox.clone() as Arc<dyn Door>))) {
        set_door(None);
    }
}

impl Core {
    pub(crate) fn request_stop(&self) {
        self.stopping.set(true);
    }

    /// A delayed call of the runtime's own.
    #[track_caller]
    pub(crate) fn timer(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.timers.add(delay, Box::new(call), Location::caller())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.get() == Phase::Closed
    }

    /// Puts `source` into `slot`, which was taken for it. `false` if the reactor was closed meanwhile.
    pub(crate) fn fill(&self, slot: usize, source: Rc<dyn Source>) -> bool {
        let old = match self.sources.borrow_mut().get_mut(slot) {
            Some(place) => std::mem::replace(place, source),
            None => return false,
        };
        drop(old);
        true
    }

    /// Takes the source out of `slot`.
    pub(crate) fn remove(&self, slot: usize) -> Option<Rc<dyn Source>> {
        self.sources.borrow_mut().try_remove(slot)
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
            self.0.sources.borrow().len(),
            self.delayed_calls().len()
        )
    }
}

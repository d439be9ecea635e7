//! Running a reactor: startup, turns, shutdown.
//!
//! ```text
//!       run        before-startup        stop             before-shutdown
//!                  triggers done                          triggers done
//!  Idle ──▶ Starting ──▶ Running ──▶ Stopping ──▶ ShuttingDown ──▶ Stopped
//!               └─────── crash: from anywhere straight to Stopped ────┘
//! ```
//! Turns continue from `Starting` to `ShuttingDown`, so that the Deferreds of the triggers can
//! fire. `close` leads from every phase to Closed.
use super::{
    Reactor,
    core::{Core, RunPhase},
    remote::Remote,
    schedule::TurnScratch,
    signals,
    triggers::{SystemEvent, SystemEventTrigger, TriggerPhase},
};
use crate::{
    defer::{Deferred, IntoDeferred},
    error::{ReactorAlreadyRunning, ReactorClosed, ReactorNotRunning},
    failure::{Failure, Frame},
    remote_queue::{RemoteQueue, install_remote_queue},
    report::{drop_guarded, guarded, report},
};
use std::{
    cell::{Cell, RefCell},
    panic::Location,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

thread_local! {
    /// The reactors that are running in this thread, the innermost last.
    static RUNNING: RefCell<Vec<Reactor>> = const { RefCell::new(Vec::new()) };
}

/// Makes a reactor the current one of the thread while it runs.
struct InThread {
    queue: Option<Arc<dyn RemoteQueue>>,
    core: Rc<Core>,
}

impl InThread {
    fn enter(reactor: &Reactor) -> Self {
        RUNNING.with_borrow_mut(|running| running.push(reactor.clone()));
        reactor.0.phase.set(RunPhase::Starting);
        let queue = install_remote_queue(Some(reactor.0.inbox.clone()));
        Self { queue, core: reactor.0.clone() }
    }
}

impl Drop for InThread {
    fn drop(&mut self) {
        // after a run the reactor keeps the thread's queue, unless there was another one before
        if let Some(queue) = self.queue.take().filter(|queue| queue.is_open()) {
            install_remote_queue(Some(queue));
        }
        if !self.core.is_closed() {
            self.core.phase.set(RunPhase::Idle);
        }
        let left = RUNNING.with_borrow_mut(Vec::pop);
        drop(left);
    }
}

impl Reactor {
    /// Returns the reactor that is running in this thread, for code that was not given one.
    ///
    /// ```
    /// assert!(twistor::reactor::Reactor::current().is_none());
    /// ```
    pub fn current() -> Option<Self> {
        // while the thread's storage is being torn down no reactor is running
        RUNNING.try_with(|running| running.borrow().last().cloned()).ok().flatten()
    }

    /// Runs turns until [`stop`](Self::stop), SIGINT or SIGTERM. It may be run again afterwards;
    /// connections, ports and timers are kept. While it runs, SIGINT and SIGTERM are handled; afterwards
    /// they have their former action again.
    ///
    /// # Errors
    /// Fails with [`ReactorAlreadyRunning`] inside a turn of the same reactor, with
    /// [`ReactorClosed`] after [`close`](Self::close), and with the operating-system error if
    /// waiting fails.
    pub fn run(&self) -> Result<(), Failure> {
        self.may_run()?;
        let core = &self.0;
        let _in_thread = InThread::enter(self);
        core.exit_signal.set(None);
        let mut scratch = core.take_scratch();
        let mut result = self.start_up(true);
        while result.is_ok() {
            match core.phase.get() {
                RunPhase::Starting | RunPhase::Running | RunPhase::ShuttingDown { .. } => {
                    result = core.turn(&mut scratch, None).map_err(Failure::from);
                }
                RunPhase::Stopping { .. } => self.shut_down(),
                RunPhase::Idle | RunPhase::Stopped | RunPhase::Closed => break,
            }
        }
        if !core.is_closed() {
            core.phase.set(RunPhase::Stopped);
            let waiting = core.when_stopped.take();
            for resolver in waiting {
                // user code
                resolver.callback(());
            }
        }
        core.gives_up.set(false);
        // a thread may be in a blocking call into this one, whose answer needs turns
        self.stop_pool(|| {
            drop(core.turn(&mut scratch, Some(Duration::ZERO)));
            !core.gives_up.get()
        });
        core.scratch.set(Some(scratch));
        // from here on the signals have their former action again
        let signals = core.signals.take().and_then(|slot| core.remove(slot));
        drop(signals);
        core.next_run();
        result
    }

    /// Runs one turn that waits for at most `delay`. Calls registered with
    /// [`call_when_running`](Self::call_when_running) and startup triggers that have not run yet
    /// run first; shutdown triggers do not run.
    ///
    /// # Errors
    /// Fails as [`run`](Self::run) does.
    pub fn iterate(&self, delay: Duration) -> Result<(), Failure> {
        self.may_run()?;
        let _in_thread = InThread::enter(self);
        let mut scratch = self.0.take_scratch();
        let result = self
            .start_up(false)
            .and_then(|()| self.0.turn(&mut scratch, Some(delay)).map_err(Failure::from));
        self.0.scratch.set(Some(scratch));
        result
    }

    /// Runs `main` at the start of the next run, and `end` when its Deferred has fired. The result
    /// is stored in the returned cell. A panic of `main` is a failure.
    pub(crate) fn begin(
        &self,
        name: &'static str,
        main: impl FnOnce(Self) -> Deferred<()> + 'static,
        end: impl FnOnce(&Self) + 'static,
    ) -> Rc<Cell<Option<Result<(), Failure>>>> {
        let result: Rc<Cell<Option<Result<(), Failure>>>> = Rc::default();
        let (inside, into, place) = (self.clone(), result.clone(), Location::caller());
        self.call_when_running(move || {
            let given = inside.clone();
            // user code
            let begun = guarded(|| Frame::new(name, place), || main(given))
                .unwrap_or_else(|failure| Deferred::ready(Err(failure), place));
            begun
                .add_both(move |ended| {
                    into.set(Some(ended));
                    end(&inside);
                })
                .detach();
        });
        result
    }

    /// Stops the reactor if it is running.
    pub(crate) fn request_stop(&self) {
        self.0.request_stop();
    }

    fn may_run(&self) -> Result<(), Failure> {
        match self.0.phase.get() {
            RunPhase::Idle => Ok(()),
            RunPhase::Closed => Err(ReactorClosed::new().into()),
            _ => Err(ReactorAlreadyRunning::new().into()),
        }
    }

    fn start_up(&self, signals: bool) -> Result<(), Failure> {
        let core = &self.0;
        if core.waiting_startup.borrow().as_ref().is_some_and(|waiting| !waiting.is_dead()) {
            // an earlier `iterate` has begun the startup, whose triggers are still pending
            return Ok(());
        }
        let run = core.next_run();
        let before = core.triggers.run(SystemEvent::Startup, TriggerPhase::Before);
        match before.take_result() {
            Ok(_) => self.started(signals, run),
            Err(waiting) => {
                let reactor = self.clone();
                // an error here comes from the reactor itself and cannot be returned to a caller
                let waiting = waiting.add_callback(move |()| reactor.started(signals, run));
                *core.waiting_startup.borrow_mut() = Some(waiting.canceller());
                waiting.detach();
                Ok(())
            }
        }
    }

    fn started(&self, signals: bool, run: u64) -> Result<(), Failure> {
        let core = &self.0;
        if core.run.get() != run {
            // that run has ended: its triggers have finished too late
            return Ok(());
        }
        core.phase.set(match core.phase.get() {
            RunPhase::Starting => RunPhase::Running,
            RunPhase::Stopping { .. } => RunPhase::Stopping { started: true },
            RunPhase::ShuttingDown { .. } => RunPhase::ShuttingDown { started: true },
            // it has crashed or was closed in the meantime
            _ => return Ok(()),
        });
        if signals {
            core.signals.set(signals::install(core, core.handles_signals.get())?);
        }
        self.start_pool();
        core.triggers.run(SystemEvent::Startup, TriggerPhase::During).detach();
        core.triggers.run(SystemEvent::Startup, TriggerPhase::After).detach();
        loop {
            let call = core.when_running.borrow_mut().pop_front();
            let Some(call) = call else { break };
            // user code
            if let Err(failure) =
                guarded(|| Frame::new("call_when_running", Location::caller()), call)
            {
                report(failure, "a call registered with call_when_running");
            }
        }
        Ok(())
    }

    fn shut_down(&self) {
        let RunPhase::Stopping { started } = self.0.phase.get() else { return };
        self.0.phase.set(RunPhase::ShuttingDown { started });
        let (reactor, run) = (self.clone(), self.0.run.get());
        let before = self.0.triggers.run(SystemEvent::Shutdown, TriggerPhase::Before);
        before.map(move |()| reactor.shutdown_finished(run)).detach();
    }

    fn shutdown_finished(&self, run: u64) {
        let core = &self.0;
        if !matches!(core.phase.get(), RunPhase::ShuttingDown { .. }) || core.run.get() != run {
            // it has crashed or was closed in the meantime
            return;
        }
        core.triggers.run(SystemEvent::Shutdown, TriggerPhase::During).detach();
        core.triggers.run(SystemEvent::Shutdown, TriggerPhase::After).detach();
        if !core.is_closed() {
            core.end_run();
        }
    }

    /// Asks the reactor to stop. After the present turn the shutdown triggers run, and when those
    /// have finished [`run`](Self::run) returns.
    ///
    /// # Errors
    /// Fails with [`ReactorNotRunning`] if the reactor is not running, or has been asked to stop
    /// already.
    pub fn stop(&self) -> Result<(), Failure> {
        if matches!(self.0.phase.get(), RunPhase::Starting | RunPhase::Running) {
            self.0.request_stop();
            Ok(())
        } else {
            Err(ReactorNotRunning::new().into())
        }
    }

    /// Ends [`run`](Self::run) after the present turn without running any shutdown trigger, for
    /// when those cannot be trusted. On a reactor that is not running this does nothing.
    pub fn crash(&self) {
        if self.0.phase.get().is_under_way() {
            self.0.end_run();
        }
    }

    /// Returns whether the reactor is running: from the end of the triggers before the startup to
    /// the end of [`run`](Self::run) or [`iterate`](Self::iterate).
    #[doc(alias = "running")]
    pub fn is_running(&self) -> bool {
        matches!(
            self.0.phase.get(),
            RunPhase::Running
                | RunPhase::Stopping { started: true }
                | RunPhase::ShuttingDown { started: true }
        )
    }

    /// Returns the signal that stopped the last [`run`](Self::run), if a signal did.
    #[doc(alias = "_exitSignal")]
    pub fn exit_signal(&self) -> Option<i32> {
        self.0.exit_signal.get()
    }

    /// Runs `f` when the reactor starts or stops, in one of three phases. All triggers of a phase
    /// run in the order in which they were added; then the next phase begins. The later phases wait
    /// for the Deferreds that triggers of [`TriggerPhase::Before`] return; turns continue
    /// meanwhile. Each trigger runs once, even if the reactor runs again. An error or a panic in a
    /// trigger is reported, and the other triggers run.
    ///
    /// ```
    /// use twistor::reactor::{Reactor, SystemEvent, TriggerPhase};
    ///
    /// let reactor = Reactor::new()?;
    /// reactor.add_system_event_trigger(TriggerPhase::Before, SystemEvent::Shutdown, || {
    ///     println!("saving");
    /// });
    /// let stop = reactor.clone();
    /// reactor.call_when_running(move || stop.stop().unwrap());
    /// reactor.run()?;                                              // prints before it returns
    /// # Ok::<(), twistor::failure::Failure>(())
    /// ```
    #[doc(alias = "addSystemEventTrigger")]
    pub fn add_system_event_trigger<R: IntoDeferred>(
        &self,
        phase: TriggerPhase,
        event: SystemEvent,
        f: impl FnOnce() -> R + 'static,
    ) -> SystemEventTrigger {
        if self.0.is_closed() {
            // it will never run, so it is dropped
            drop_guarded(f);
            return self.0.triggers.add(event, phase, || ());
        }
        self.0.triggers.add(event, phase, f)
    }

    /// Removes a trigger. A phase that is already running skips it.
    ///
    /// # Errors
    /// Fails with [`ValueError`](crate::error::ValueError) if the trigger has run or was removed
    /// before.
    #[doc(alias = "removeSystemEventTrigger")]
    pub fn remove_system_event_trigger(&self, trigger: &SystemEventTrigger) -> Result<(), Failure> {
        self.0.triggers.remove(trigger)
    }

    /// Returns a Deferred that fires when the reactor stops: after the shutdown triggers, or a
    /// crash, and right before [`run`](Self::run) returns.
    ///
    /// # Errors
    /// Fails with [`ReactorClosed`] after [`close`](Self::close).
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
        waiting.retain(crate::defer::Resolver::is_wanted);
        waiting.push(resolver);
        deferred
    }

    /// Runs `call` at the start of [`run`](Self::run), in order, or at once if the reactor is
    /// running.
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

    /// Sets whether SIGINT and SIGTERM stop [`run`](Self::run). They do by default; call this
    /// before the first run.
    #[doc(alias = "installSignalHandlers")]
    pub fn handle_signals(&self, yes: bool) {
        self.0.handles_signals.set(yes);
    }
}

impl Remote {
    /// Returns whether the caller is in the reactor's thread, inside one of its turns.
    #[doc(alias = "isInIOThread")]
    pub fn is_in_reactor_thread(&self) -> bool {
        let is_running = |running: &RefCell<Vec<Reactor>>| {
            running.borrow().iter().any(|reactor| Arc::ptr_eq(&reactor.0.inbox, &self.0))
        };
        RUNNING.try_with(is_running).unwrap_or(false)
    }
}

impl Core {
    /// Numbers the run that begins, so that pending work of an earlier run is ignored.
    fn next_run(&self) -> u64 {
        self.run.set(self.run.get() + 1);
        self.run.get()
    }

    pub(crate) fn request_stop(&self) {
        let started = match self.phase.get() {
            RunPhase::Starting => false,
            RunPhase::Running => true,
            _ => return,
        };
        self.phase.set(RunPhase::Stopping { started });
        self.schedule.set_work();
    }

    /// Makes the run return after this turn.
    fn end_run(&self) {
        self.phase.set(RunPhase::Stopped);
        self.schedule.set_work();
    }

    fn take_scratch(&self) -> TurnScratch {
        self.scratch.take().unwrap_or_else(TurnScratch::new)
    }

    /// Stops the reactor because of SIGINT or SIGTERM. A second signal, while shutdown triggers are
    /// pending, ends the run without them.
    pub(super) fn stop_by_signal(&self, signal: i32) {
        self.exit_signal.set(Some(signal));
        if matches!(self.phase.get(), RunPhase::ShuttingDown { .. }) {
            tracing::warn!("received signal {signal} while stopping: stopping without waiting");
            self.end_run();
        } else if self.phase.get() == RunPhase::Stopped {
            tracing::warn!("received signal {signal} while stopping: not waiting for threads");
            self.gives_up.set(true);
        } else {
            tracing::info!("received signal {signal}, stopping");
            self.request_stop();
        }
    }

    /// Returns whether the turn must not wait.
    pub(super) fn must_not_wait(&self) -> bool {
        matches!(self.phase.get(), RunPhase::Stopping { .. } | RunPhase::Stopped | RunPhase::Closed)
    }
}

//! `Cooperator`: long work in small pieces, between which everything else continues.
use crate::{
    defer::{Deferred, IntoDeferred, Resolver, maybe_deferred},
    error::{
        AbandonedError, AlreadyRunningError, NotPaused, SchedulerStopped, TaskDone, TaskFailed,
        TaskStopped,
    },
    failure::{Failure, Frame},
    report::{drop_guarded, guarded, report},
    time::ReactorTime,
    timers::WeakCall,
};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    fmt,
    panic::Location,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

/// Called after each piece of work; returns whether the budget of this turn is used up.
type Enough = Box<dyn FnMut() -> bool>;

/// Runs iterators one piece at a time, in rotation, within a time budget for each turn of the
/// reactor: 10 ms by default. Cloning it is cheap.
///
/// A piece is one `next()` of an iterator. If it returns a Deferred, the task waits for that before
/// its next piece; an `Err` fails the task.
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use twistor::task::{Clock, Cooperator};
///
/// let clock = Clock::new();                            // in a program: reactor.clone()
/// let cooperator = Cooperator::new(clock.clone());
/// let sum = Rc::new(Cell::new(0));
/// let into = sum.clone();
/// let done = cooperator.coiterate((1..=4).map(move |n| into.set(into.get() + n)));
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(sum.get(), 10);
/// assert!(done.take_result().unwrap().is_ok());
/// ```
#[derive(Clone)]
#[doc(alias = "twisted.internet.task.Cooperator")]
pub struct Cooperator(Rc<Inner>);

struct Inner {
    clock: Box<dyn ReactorTime>,
    enough: Box<dyn Fn() -> Enough>,
    state: Cell<CooperatorState>,
    /// The tasks that can run, the next one first. An entry whose task was removed since is
    /// skipped.
    ready: RefCell<VecDeque<(u64, Rc<Task>)>>,
    /// The number of entries whose tasks were not removed.
    count: Cell<usize>,
    /// All unfinished tasks, for `stop`. A task is owned by whatever makes it continue.
    alive: RefCell<HashMap<u64, Weak<Task>>>,
    next: Cell<u64>,
    tick: Cell<Option<WeakCall>>,
}

/// The pending work of the next turn. Dropping it, as a closing reactor does, fails the tasks that
/// wait for it.
struct Tick(Option<Rc<Inner>>);

impl Drop for Tick {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            inner.count.set(0);
            let ready = inner.ready.take();
            for (_, task) in ready
                .iter()
                .filter(|(turn, task)| task.turn.get() == *turn && task.queued.replace(false))
            {
                task.clone().finish(TaskOutcome::Failed(AbandonedError::new().into()));
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CooperatorState {
    New,
    Started,
    Stopped,
}

impl Cooperator {
    /// Creates a cooperator that works in the turns of `clock`, for 10 ms in each.
    pub fn new(clock: impl ReactorTime + 'static) -> Self {
        Self::with_predicate(clock, || {
            let end = Instant::now() + Duration::from_millis(10);
            move || Instant::now() >= end
        })
    }

    /// Creates a cooperator with a budget of your own. `begin` is called at the start of each
    /// turn's work, and returns a function that is called after each piece and says whether to stop
    /// for this turn.
    pub fn with_predicate<E: FnMut() -> bool + 'static>(
        clock: impl ReactorTime + 'static,
        begin: impl Fn() -> E + 'static,
    ) -> Self {
        let new = Self::new_stopped(clock, begin);
        new.0.state.set(CooperatorState::Started);
        new
    }

    /// Creates a cooperator with a budget of your own that does nothing until
    /// [`start`](Self::start).
    pub fn new_stopped<E: FnMut() -> bool + 'static>(
        clock: impl ReactorTime + 'static,
        begin: impl Fn() -> E + 'static,
    ) -> Self {
        Self(Rc::new(Inner {
            clock: Box::new(clock),
            enough: Box::new(move || Box::new(begin())),
            state: Cell::new(CooperatorState::New),
            ready: RefCell::default(),
            count: Cell::new(0),
            alive: RefCell::default(),
            next: Cell::new(0),
            tick: Cell::new(None),
        }))
    }

    /// Adds an iterator and returns the handle of its task. The first piece runs in a later turn.
    pub fn cooperate<I>(&self, work: I) -> CooperativeTask
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: IntoDeferred<Value = ()>,
    {
        let mut work = work.into_iter();
        let task = Rc::new(Task {
            work: RefCell::new(Some(Box::new(move || {
                work.next().map(IntoDeferred::into_deferred)
            }))),
            end: RefCell::new(None),
            waiting: RefCell::default(),
            pauses: Cell::new(0),
            in_progress: Cell::new(false),
            queued: Cell::new(false),
            turn: Cell::new(0),
            has_consumer: Cell::new(false),
            number: self.0.next.replace(self.0.next.get() + 1),
            cooperator: Rc::downgrade(&self.0),
        });
        if self.0.state.get() == CooperatorState::Stopped {
            task.clone().finish(TaskOutcome::Refused(SchedulerStopped::new().into()));
        } else {
            self.0.alive.borrow_mut().insert(task.number, Rc::downgrade(&task));
            self.0.make_ready(&task);
        }
        CooperativeTask(task, self.0.clone())
    }

    /// Adds an iterator and returns a Deferred that fires when the iterator has finished.
    ///
    /// # Errors
    /// Fails with [`SchedulerStopped`] after [`stop`](Self::stop), with [`AbandonedError`] if the
    /// reactor is closed, and with the error of the iterator.
    ///
    /// # Cancellation
    /// Fails this Deferred and changes nothing else: to stop the work use
    /// [`cooperate`](Self::cooperate).
    #[track_caller]
    pub fn coiterate<I>(&self, work: I) -> Deferred<()>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: IntoDeferred<Value = ()>,
    {
        self.cooperate(work).when_done()
    }

    /// Starts to work.
    ///
    /// # Errors
    /// Fails with [`AlreadyRunningError`] if it is working.
    pub fn start(&self) -> Result<(), Failure> {
        if self.is_running() {
            return Err(AlreadyRunningError::with_text("the cooperator").into());
        }
        self.0.state.set(CooperatorState::Started);
        self.0.schedule();
        Ok(())
    }

    /// Stops all work: each task fails with [`SchedulerStopped`], and new ones are rejected.
    pub fn stop(&self) {
        self.0.state.set(CooperatorState::Stopped);
        let mut alive: Vec<_> = self
            .0
            .alive
            .take()
            .into_iter()
            .filter_map(|(number, task)| Some((number, task.upgrade()?)))
            .collect();
        alive.sort_unstable_by_key(|(number, _)| *number);
        for (_, task) in alive {
            task.finish(TaskOutcome::Refused(SchedulerStopped::new().into()));
        }
    }

    /// Returns whether it was started and not stopped.
    #[doc(alias = "running")]
    pub fn is_running(&self) -> bool {
        self.0.state.get() == CooperatorState::Started
    }
}

impl fmt::Debug for Cooperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Cooperator with {} tasks>", self.0.alive.borrow().len())
    }
}

impl Inner {
    fn make_ready(self: &Rc<Self>, task: &Rc<Task>) {
        if !task.queued.replace(true) {
            self.count.set(self.count.get() + 1);
            task.turn.set(task.turn.get() + 1);
            self.ready.borrow_mut().push_back((task.turn.get(), task.clone()));
        }
        self.schedule();
    }

    fn schedule(self: &Rc<Self>) {
        let tick = self.tick.take();
        if tick.is_some() || self.state.get() != CooperatorState::Started || self.count.get() == 0 {
            self.tick.set(tick);
            return;
        }
        let mut tick = Tick(Some(self.clone()));
        let call = self.clock.schedule(
            Duration::ZERO,
            Box::new(move || {
                if let Some(inner) = tick.0.take() {
                    inner.run();
                }
            }),
        );
        // a closed reactor has dropped the call, and the tasks with it
        if call.is_active() {
            self.tick.set(Some(call.into()));
        }
    }

    /// Does the work of one turn.
    fn run(self: &Rc<Self>) {
        self.tick.take();
        let place = Location::caller();
        // user code
        let mut enough = guarded(|| Frame::new("Cooperator", place), || (self.enough)());
        while let Ok(is_enough) = &mut enough {
            let task = self.ready.borrow_mut().pop_front();
            let Some((turn, task)) = task else { break };
            // removed, and perhaps added again further back
            if task.turn.get() != turn || !task.queued.replace(false) {
                continue;
            }
            self.count.set(self.count.get() - 1);
            task.piece(self);
            // user code
            match guarded(|| Frame::new("Cooperator", place), is_enough) {
                Ok(false) => {}
                Ok(true) => break,
                Err(failure) => enough = Err(failure),
            }
        }
        if let Err(failure) = enough {
            report(failure, "the predicate of a cooperator");
        }
        self.schedule();
    }

    /// Removes a task from those that can run.
    fn remove_ready(&self, task: &Task) {
        if task.queued.replace(false) {
            self.count.set(self.count.get() - 1);
        }
        if self.count.get() == 0 {
            let skipped = self.ready.take();
            let tick = self.tick.take();
            if let Some(tick) = tick {
                tick.cancel();
            }
            drop(skipped);
        }
    }
}

/// The iterator, type-erased.
type Work = Box<dyn FnMut() -> Option<Deferred<()>>>;

/// The result of a task.
#[derive(Clone)]
enum TaskOutcome {
    Done,
    Failed(Failure),
    Stopped,
    Refused(Failure),
}

struct Task {
    /// `None` while a piece runs, and after the task has finished.
    work: RefCell<Option<Work>>,
    end: RefCell<Option<TaskOutcome>>,
    waiting: RefCell<Vec<Resolver<()>>>,
    pauses: Cell<u32>,
    /// A piece is running, or its Deferred is pending.
    in_progress: Cell<bool>,
    /// The task has an entry among those that can run, with this number.
    queued: Cell<bool>,
    turn: Cell<u64>,
    /// A Deferred of the outcome was given out, which reports a failure or was cancelled.
    has_consumer: Cell<bool>,
    number: u64,
    cooperator: Weak<Inner>,
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(TaskOutcome::Failed(failure)) = self.end.get_mut().take()
            && !self.has_consumer.get()
        {
            report(failure, "a cooperative task without a consumer");
        }
    }
}

impl Task {
    /// Runs one piece. Its completion keeps the cooperator alive.
    fn piece(self: Rc<Self>, cooperator: &Rc<Inner>) {
        let Some(mut work) = self.work.take() else { return };
        self.in_progress.set(true);
        let exhausted = Rc::new(Cell::new(false));
        let (at_end, task) = (exhausted.clone(), self.clone());
        // user code
        let piece = maybe_deferred(move || {
            let next = work();
            if next.is_some() && task.end.borrow().is_none() {
                *task.work.borrow_mut() = Some(work);
            } else {
                at_end.set(next.is_none());
            }
            next.unwrap_or_else(|| Deferred::succeed(()))
        });
        let cooperator = cooperator.clone();
        piece
            .add_both(move |result| self.piece_ended(&cooperator, result, exhausted.get()))
            .detach();
    }

    fn piece_ended(
        self: Rc<Self>,
        cooperator: &Rc<Inner>,
        result: Result<(), Failure>,
        exhausted: bool,
    ) {
        self.in_progress.set(false);
        match result {
            // stopped meanwhile: nobody awaits the result, but a failure is not lost
            result if self.end.borrow().is_some() => {
                Deferred::ready(result, Location::caller()).detach();
            }
            Err(failure) => self.finish(TaskOutcome::Failed(failure)),
            Ok(()) if exhausted => self.finish(TaskOutcome::Done),
            Ok(()) => self.make_ready_again(cooperator),
        }
    }

    fn make_ready_again(self: &Rc<Self>, cooperator: &Rc<Inner>) {
        if self.pauses.get() == 0 && !self.in_progress.get() && self.end.borrow().is_none() {
            cooperator.make_ready(self);
        }
    }

    fn finish(self: Rc<Self>, end: TaskOutcome) {
        if self.end.borrow().is_some() {
            // finished by what the completion of an earlier task has called
            return;
        }
        let outcome = end.outcome();
        *self.end.borrow_mut() = Some(end);
        if let Some(cooperator) = self.cooperator.upgrade() {
            cooperator.alive.borrow_mut().remove(&self.number);
            cooperator.remove_ready(&self);
        }
        drop_guarded(self.work.take());
        for resolver in self.waiting.take() {
            // user code
            resolver.resolve(outcome.clone());
        }
    }
}

impl TaskOutcome {
    fn outcome(&self) -> Result<(), Failure> {
        match self {
            Self::Done => Ok(()),
            Self::Failed(failure) | Self::Refused(failure) => Err(failure.clone()),
            Self::Stopped => Err(TaskStopped::new().into()),
        }
    }

    /// Creates the error of `stop` and `pause` on a finished task.
    fn finished(&self) -> Failure {
        match self {
            Self::Done => TaskDone::new().into(),
            Self::Failed(failure) => TaskFailed::new().caused_by(failure.shared_value()).into(),
            Self::Stopped => TaskStopped::new().into(),
            Self::Refused(failure) => failure.clone(),
        }
    }
}

/// The task of an iterator in a [`Cooperator`]. Cloning it is cheap, and dropping it stops nothing.
#[derive(Clone)]
pub struct CooperativeTask(Rc<Task>, Rc<Inner>);

impl CooperativeTask {
    /// Returns a new Deferred that fires when the iterator has finished.
    ///
    /// # Errors
    /// Fails with the error of the iterator, with [`TaskStopped`] after [`stop`](Self::stop), and
    /// with [`SchedulerStopped`] if the cooperator was stopped.
    ///
    /// # Cancellation
    /// Fails this Deferred and changes nothing else.
    #[doc(alias = "whenDone")]
    #[track_caller]
    pub fn when_done(&self) -> Deferred<()> {
        let ended = self.0.end.borrow().as_ref().map(TaskOutcome::outcome);
        self.0.has_consumer.set(true);
        match ended {
            Some(Ok(())) => Deferred::succeed(()),
            Some(Err(failure)) => Deferred::fail(failure),
            None => {
                let (deferred, resolver) = Deferred::new();
                let mut waiting = self.0.waiting.borrow_mut();
                waiting.retain(Resolver::is_wanted);
                waiting.push(resolver);
                deferred
            }
        }
    }

    /// Pauses the work until [`resume`](Self::resume). Pauses are counted.
    ///
    /// # Errors
    /// Fails with [`TaskStopped`], [`TaskDone`] or [`TaskFailed`] if the task has finished; each is
    /// a [`TaskFinished`](crate::error::TaskFinished).
    pub fn pause(&self) -> Result<(), Failure> {
        self.check_end()?;
        self.0.pauses.set(self.0.pauses.get() + 1);
        self.1.remove_ready(&self.0);
        Ok(())
    }

    /// Reverses one [`pause`](Self::pause). After the last one the work continues in the next turn.
    ///
    /// # Errors
    /// Fails with [`NotPaused`] if the task is not paused.
    pub fn resume(&self) -> Result<(), Failure> {
        match self.0.pauses.get() {
            0 => Err(NotPaused::new().into()),
            pauses => {
                self.0.pauses.set(pauses - 1);
                self.0.make_ready_again(&self.1);
                Ok(())
            }
        }
    }

    /// Stops the task: no further piece runs.
    ///
    /// # Errors
    /// Fails as [`pause`](Self::pause) does.
    pub fn stop(&self) -> Result<(), Failure> {
        self.check_end()?;
        self.0.clone().finish(TaskOutcome::Stopped);
        Ok(())
    }

    fn check_end(&self) -> Result<(), Failure> {
        self.0.end.borrow().as_ref().map_or(Ok(()), |end| Err(end.finished()))
    }
}

impl fmt::Debug for CooperativeTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.0.end.borrow() {
            None if self.0.pauses.get() > 0 => "paused",
            None => "running",
            Some(TaskOutcome::Done) => "done",
            Some(TaskOutcome::Failed(_)) => "failed",
            Some(TaskOutcome::Stopped | TaskOutcome::Refused(_)) => "stopped",
        };
        write!(f, "<CooperativeTask, {state}>")
    }
}

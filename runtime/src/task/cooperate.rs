//! `Cooperator`: long work in small pieces, so that everything else goes on in between.
use crate::{
    defer::{Deferred, IntoDeferred, Resolver, maybe_deferred},
    error::{AlreadyRunningError, NotPaused, SchedulerStopped, TaskDone, TaskFailed, TaskStopped},
    failure::Failure,
    report::{drop_guarded, report},
    time::{DelayedCall, ReactorTime},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

/// Asked after each piece of work whether this turn's share is used up.
type Enough = Box<dyn FnMut() -> bool>;

/// Runs iterators a piece at a time, in turn, within a share of each turn of the reactor: 10 ms unless you say otherwise. A cheap handle.
///
/// A piece is one `next()` of an iterator. If it gives a Deferred, the task waits for that before its next piece; an `Err` fails the task.
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
    state: Cell<State>,
    /// The tasks that can do a piece of work, the next one first.
    ready: RefCell<VecDeque<Rc<Task>>>,
    /// All tasks that have not finished.
    alive: RefCell<Vec<Rc<Task>>>,
    tick: Cell<Option<DelayedCall>>,
    me: Weak<Self>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Started,
    Stopped,
}

impl Cooperator {
    /// A cooperator that works in the turns of `clock`, for 10 ms in each.
    pub fn new(clock: impl ReactorTime + 'static) -> Self {
        Self::with_predicate(clock, || {
            let end = Instant::now() + Duration::from_millis(10);
            move || Instant::now() >= end
        })
    }

    /// The same with a limit of your own: `begin` is called at the start of each turn's share and gives the function that is asked after each piece whether that was enough.
    pub fn with_predicate<E: FnMut() -> bool + 'static>(clock: impl ReactorTime + 'static, begin: impl Fn() -> E + 'static) -> Self {
        let new = Self::new_stopped(clock, begin);
        new.0.state.set(State::Started);
        new
    }

    /// The same, which begins to work with [`start`](Self::start).
    pub fn new_stopped<E: FnMut() -> bool + 'static>(clock: impl ReactorTime + 'static, begin: impl Fn() -> E + 'static) -> Self {
        Self(Rc::new_cyclic(|me| Inner {
            clock: Box::new(clock),
            enough: Box::new(move || Box::new(begin())),
            state: Cell::new(State::New),
            ready: RefCell::default(),
            alive: RefCell::default(),
            tick: Cell::new(None),
            me: me.clone(),
        }))
    }

    /// Takes on an iterator and gives the handle of its task. The first piece is done in a later turn.
    pub fn cooperate<I>(&self, work: I) -> CooperativeTask
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: IntoDeferred<Value = ()>,
    {
        let mut work = work.into_iter();
        let task = Rc::new(Task {
            work: RefCell::new(Some(Box::new(move || work.next().map(IntoDeferred::into_deferred)))),
            end: RefCell::new(None),
            waiting: RefCell::default(),
            pauses: Cell::new(0),
            held: Cell::new(false),
            told: Cell::new(false),
            cooperator: self.0.me.clone(),
        });
        if self.0.state.get() == State::Stopped {
            task.clone().finish(End::Refused(SchedulerStopped::new().into()));
        } else {
            self.0.alive.borrow_mut().push(task.clone());
            self.0.make_ready(task.clone());
        }
        CooperativeTask(task)
    }

    /// Takes on an iterator and gives a Deferred that fires when it has come to its end.
    ///
    /// # Errors
    /// [`SchedulerStopped`] after [`stop`](Self::stop), and what the iterator fails with.
    ///
    /// # Cancellation
    /// Fails this Deferred and changes nothing else: to stop the work use [`cooperate`](Self::cooperate).
    #[track_caller]
    pub fn coiterate<I>(&self, work: I) -> Deferred<()>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: IntoDeferred<Value = ()>,
    {
        self.cooperate(work).when_done()
    }

    /// Begins to work.
    ///
    /// # Errors
    /// [`AlreadyRunningError`] if it does.
    pub fn start(&self) -> Result<(), Failure> {
        if self.is_running() {
            return Err(AlreadyRunningError::with_text("the cooperator").into());
        }
        self.0.state.set(State::Started);
        self.0.schedule();
        Ok(())
    }

    /// Stops all work: each task fails with [`SchedulerStopped`], and new ones are refused.
    pub fn stop(&self) {
        self.0.state.set(State::Stopped);
        let ready = self.0.ready.take();
        let alive = self.0.alive.take();
        self.0.unschedule();
        for task in alive {
            task.finish(End::Refused(SchedulerStopped::new().into()));
        }
        drop(ready);
    }

    /// Whether it works: started and not stopped.
    #[doc(alias = "running")]
    pub fn is_running(&self) -> bool {
        self.0.state.get() == State::Started
    }
}

impl fmt::Debug for Cooperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Cooperator with {} tasks>", self.0.alive.borrow().len())
    }
}

impl Inner {
    fn make_ready(&self, task: Rc<Task>) {
        self.ready.borrow_mut().push_back(task);
        self.schedule();
    }

    fn schedule(&self) {
        let tick = self.tick.take();
        let wanted = self.state.get() == State::Started && !self.ready.borrow().is_empty();
        if tick.is_some() || !wanted {
            self.tick.set(tick);
            return;
        }
        let me = self.me.upgrade();
        // the tick keeps the cooperator while there is work
        self.tick.set(me.map(|me| self.clock.schedule(Duration::ZERO, Box::new(move || me.run()))));
    }

    fn unschedule(&self) {
        if let Some(tick) = self.tick.take() {
            // it has not run: a run takes it out
            let _ = tick.cancel();
        }
    }

    /// One turn's share.
    fn run(&self) {
        self.tick.take();
        let mut enough = (self.enough)();
        loop {
            let task = self.ready.borrow_mut().pop_front();
            let Some(task) = task else { break };
            task.piece();
            // user code
            if enough() {
                break;
            }
        }
        self.schedule();
    }

    /// Takes a task out of those that can work.
    fn put_aside(&self, task: &Rc<Task>) {
        self.ready.borrow_mut().retain(|other| !Rc::ptr_eq(other, task));
        if self.ready.borrow().is_empty() {
            self.unschedule();
        }
    }
}

/// The iterator, without its type.
type Work = Box<dyn FnMut() -> Option<Deferred<()>>>;

/// How a task has ended.
#[derive(Clone)]
enum End {
    Done,
    Failed(Failure),
    Stopped,
    Refused(Failure),
}

struct Task {
    /// `None` while it does a piece, and when it has ended.
    work: RefCell<Option<Work>>,
    end: RefCell<Option<End>>,
    waiting: RefCell<Vec<Resolver<()>>>,
    pauses: Cell<u32>,
    /// A piece has not ended: it runs, or its Deferred is waited for.
    held: Cell<bool>,
    /// Somebody has been given the outcome.
    told: Cell<bool>,
    cooperator: Weak<Inner>,
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(End::Failed(failure)) = self.end.get_mut().take()
            && !self.told.get()
        {
            report(failure, "a cooperative task that nobody has asked about");
        }
    }
}

impl Task {
    fn piece(self: Rc<Self>) {
        let Some(mut work) = self.work.take() else { return };
        self.held.set(true);
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
        piece.add_both(move |result| self.piece_ended(result, exhausted.get())).detach();
    }

    fn piece_ended(self: Rc<Self>, result: Result<(), Failure>, exhausted: bool) {
        self.held.set(false);
        match result {
            _ if self.end.borrow().is_some() => {}
            Err(failure) => self.finish(End::Failed(failure)),
            Ok(()) if exhausted => self.finish(End::Done),
            Ok(()) => self.go_on(),
        }
    }

    fn go_on(self: Rc<Self>) {
        if self.pauses.get() == 0
            && !self.held.get()
            && self.end.borrow().is_none()
            && let Some(cooperator) = self.cooperator.upgrade()
        {
            cooperator.make_ready(self);
        }
    }

    fn finish(self: Rc<Self>, end: End) {
        let outcome = end.outcome();
        *self.end.borrow_mut() = Some(end);
        if let Some(cooperator) = self.cooperator.upgrade() {
            cooperator.alive.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self));
            cooperator.put_aside(&self);
        }
        drop_guarded(self.work.take());
        let waiting = self.waiting.take();
        if !waiting.is_empty() {
            self.told.set(true);
        }
        for resolver in waiting {
            // user code
            resolver.resolve(outcome.clone());
        }
    }
}

impl End {
    fn outcome(&self) -> Result<(), Failure> {
        match self {
            Self::Done => Ok(()),
            Self::Failed(failure) | Self::Refused(failure) => Err(failure.clone()),
            Self::Stopped => Err(TaskStopped::new().into()),
        }
    }

    /// What `stop` and `pause` say afterwards.
    fn finished(&self) -> Failure {
        match self {
            Self::Done => TaskDone::new().into(),
            Self::Failed(failure) => TaskFailed::new().caused_by(failure.shared_value()).into(),
            Self::Stopped => TaskStopped::new().into(),
            Self::Refused(failure) => failure.clone(),
        }
    }
}

/// An iterator that a [`Cooperator`] works on. A cheap handle; dropping it stops nothing.
#[derive(Clone)]
pub struct CooperativeTask(Rc<Task>);

impl CooperativeTask {
    /// A Deferred that fires when the iterator has come to its end; each call gives a new one.
    ///
    /// # Errors
    /// What the iterator fails with, [`TaskStopped`] after [`stop`](Self::stop), [`SchedulerStopped`] if the cooperator was stopped.
    ///
    /// # Cancellation
    /// Fails this Deferred and changes nothing else.
    #[doc(alias = "whenDone")]
    #[track_caller]
    pub fn when_done(&self) -> Deferred<()> {
        let ended = self.0.end.borrow().as_ref().map(End::outcome);
        self.0.told.set(self.0.told.get() || ended.is_some());
        match ended {
            Some(Ok(())) => Deferred::succeed(()),
            Some(Err(failure)) => Deferred::fail(failure),
            None => {
                let (deferred, resolver) = Deferred::new();
                self.0.waiting.borrow_mut().push(resolver);
                deferred
            }
        }
    }

    /// Holds the work until [`resume`](Self::resume). Pauses count.
    ///
    /// # Errors
    /// [`TaskStopped`], [`TaskDone`] or [`TaskFailed`] if it has ended; all are a [`TaskFinished`](crate::error::TaskFinished).
    pub fn pause(&self) -> Result<(), Failure> {
        self.check_end()?;
        self.0.pauses.set(self.0.pauses.get() + 1);
        if let Some(cooperator) = self.0.cooperator.upgrade() {
            cooperator.put_aside(&self.0);
        }
        Ok(())
    }

    /// Takes one [`pause`](Self::pause) back. With the last one the work goes on in the next turn.
    ///
    /// # Errors
    /// [`NotPaused`] without a pause.
    pub fn resume(&self) -> Result<(), Failure> {
        match self.0.pauses.get() {
            0 => Err(NotPaused::new().into()),
            pauses => {
                self.0.pauses.set(pauses - 1);
                self.0.clone().go_on();
                Ok(())
            }
        }
    }

    /// Ends the task; no piece is done any more.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub fn stop(&self) -> Result<(), Failure> {
        self.check_end()?;
        self.0.clone().finish(End::Stopped);
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
            Some(End::Done) => "done",
            Some(End::Failed(_)) => "failed",
            Some(End::Stopped | End::Refused(_)) => "stopped",
        };
        write!(f, "<CooperativeTask, {state}>")
    }
}

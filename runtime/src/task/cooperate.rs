//! `Cooperator`: long work in small pieces, so that everything else goes on in between.
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

/// Asked after each piece of work whether this turn's share is used up.
type Enough = Box<dyn FnMut() -> bool>;

/// Runs iterators a piece at a time, in turn, within a share of each turn of the reactor: 10 ms
/// unless you say otherwise. A cheap handle.
///
/// A piece is one `next()` of an iterator. If it gives a Deferred, the task waits for that before
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
    state: Cell<State>,
    /// The tasks that can do a piece of work, the next one first. One that has been put aside since
    /// is passed over.
    ready: RefCell<VecDeque<(u64, Rc<Task>)>>,
    /// How many of them have not been put aside.
    count: Cell<usize>,
    /// All tasks that have not ended: for the stop. They belong to whatever makes them go on.
    alive: RefCell<HashMap<u64, Weak<Task>>>,
    next: Cell<u64>,
    tick: Cell<Option<WeakCall>>,
}

/// A turn's share that is to come. If it is dropped instead, as when the reactor is closed, the
/// tasks that wait for it fail.
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
                task.clone().finish(End::Failed(AbandonedError::new().into()));
            }
        }
    }
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

    /// The same with a limit of your own: `begin` is called at the start of each turn's share and
    /// gives the function that is asked after each piece whether that was enough.
    pub fn with_predicate<E: FnMut() -> bool + 'static>(
        clock: impl ReactorTime + 'static,
        begin: impl Fn() -> E + 'static,
    ) -> Self {
        let new = Self::new_stopped(clock, begin);
        new.0.state.set(State::Started);
        new
    }

    /// The same, which begins to work with [`start`](Self::start).
    pub fn new_stopped<E: FnMut() -> bool + 'static>(
        clock: impl ReactorTime + 'static,
        begin: impl Fn() -> E + 'static,
    ) -> Self {
        Self(Rc::new(Inner {
            clock: Box::new(clock),
            enough: Box::new(move || Box::new(begin())),
            state: Cell::new(State::New),
            ready: RefCell::default(),
            count: Cell::new(0),
            alive: RefCell::default(),
            next: Cell::new(0),
            tick: Cell::new(None),
        }))
    }

    /// Takes on an iterator and gives the handle of its task. The first piece is done in a later
    /// turn.
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
            held: Cell::new(false),
            queued: Cell::new(false),
            turn: Cell::new(0),
            told: Cell::new(false),
            number: self.0.next.replace(self.0.next.get() + 1),
            cooperator: Rc::downgrade(&self.0),
        });
        if self.0.state.get() == State::Stopped {
            task.clone().finish(End::Refused(SchedulerStopped::new().into()));
        } else {
            self.0.alive.borrow_mut().insert(task.number, Rc::downgrade(&task));
            self.0.make_ready(&task);
        }
        CooperativeTask(task, self.0.clone())
    }

    /// Takes on an iterator and gives a Deferred that fires when it has come to its end.
    ///
    /// # Errors
    /// [`SchedulerStopped`] after [`stop`](Self::stop), [`AbandonedError`] if the reactor is
    /// closed, and what the iterator fails with.
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
        let mut alive: Vec<_> = self
            .0
            .alive
            .take()
            .into_iter()
            .filter_map(|(number, task)| Some((number, task.upgrade()?)))
            .collect();
        alive.sort_unstable_by_key(|(number, _)| *number);
        for (_, task) in alive {
            task.finish(End::Refused(SchedulerStopped::new().into()));
        }
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
        if tick.is_some() || self.state.get() != State::Started || self.count.get() == 0 {
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
        // a closed reactor has dropped it already, and with it the tasks
        if call.is_active() {
            self.tick.set(Some(call.into()));
        }
    }

    /// One turn's share.
    fn run(self: &Rc<Self>) {
        self.tick.take();
        let place = Location::caller();
        // user code
        let mut enough = guarded(|| Frame::new("Cooperator", place), || (self.enough)());
        while let Ok(is_enough) = &mut enough {
            let task = self.ready.borrow_mut().pop_front();
            let Some((turn, task)) = task else { break };
            // put aside, and perhaps taken in again further behind
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

    /// Takes a task out of those that can work.
    fn put_aside(&self, task: &Task) {
        if task.queued.replace(false) {
            self.count.set(self.count.get() - 1);
        }
        if self.count.get() == 0 {
            let passed_over = self.ready.take();
            let tick = self.tick.take();
            if let Some(tick) = tick {
                tick.cancel();
            }
            drop(passed_over);
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
    /// It is among the ready ones, in the place that has this number.
    queued: Cell<bool>,
    turn: Cell<u64>,
    /// Somebody has been given the outcome.
    told: Cell<bool>,
    number: u64,
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
    /// One piece of work; its end keeps the cooperator.
    fn piece(self: Rc<Self>, cooperator: &Rc<Inner>) {
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
        self.held.set(false);
        match result {
            // stopped meanwhile: nobody is waiting, but a failure is not lost
            result if self.end.borrow().is_some() => {
                Deferred::ready(result, Location::caller()).detach();
            }
            Err(failure) => self.finish(End::Failed(failure)),
            Ok(()) if exhausted => self.finish(End::Done),
            Ok(()) => self.go_on(cooperator),
        }
    }

    fn go_on(self: &Rc<Self>, cooperator: &Rc<Inner>) {
        if self.pauses.get() == 0 && !self.held.get() && self.end.borrow().is_none() {
            cooperator.make_ready(self);
        }
    }

    fn finish(self: Rc<Self>, end: End) {
        if self.end.borrow().is_some() {
            // ended by what an earlier one's end has called
            return;
        }
        let outcome = end.outcome();
        *self.end.borrow_mut() = Some(end);
        if let Some(cooperator) = self.cooperator.upgrade() {
            cooperator.alive.borrow_mut().remove(&self.number);
            cooperator.put_aside(&self);
        }
        drop_guarded(self.work.take());
        let waiting = self.waiting.take();
        if waiting.iter().any(Resolver::is_wanted) {
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
pub struct CooperativeTask(Rc<Task>, Rc<Inner>);

impl CooperativeTask {
    /// A Deferred that fires when the iterator has come to its end; each call gives a new one.
    ///
    /// # Errors
    /// What the iterator fails with, [`TaskStopped`] after [`stop`](Self::stop),
    /// [`SchedulerStopped`] if the cooperator was stopped.
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
                let mut waiting = self.0.waiting.borrow_mut();
                waiting.retain(Resolver::is_wanted);
                waiting.push(resolver);
                deferred
            }
        }
    }

    /// Holds the work until [`resume`](Self::resume). Pauses count.
    ///
    /// # Errors
    /// [`TaskStopped`], [`TaskDone`] or [`TaskFailed`] if it has ended; all are a
    /// [`TaskFinished`](crate::error::TaskFinished).
    pub fn pause(&self) -> Result<(), Failure> {
        self.check_end()?;
        self.0.pauses.set(self.0.pauses.get() + 1);
        self.1.put_aside(&self.0);
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
                self.0.go_on(&self.1);
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

//! A pool of threads for what blocks.
use crate::{
    error::{QueueFullError, ValueError},
    failure::{Failure, Frame},
    report::{drop_guarded, guarded, report},
};
use std::{
    cell::Cell,
    collections::VecDeque,
    fmt,
    panic::Location,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a pool that is being stopped is waited for at a time.
const MEANWHILE: Duration = Duration::from_millis(5);

/// Work for a thread.
type Job = Box<dyn FnOnce() + Send>;

/// Threads for what blocks: files, databases, long calculations. `Send`, `Sync`, a cheap clone.
///
/// Threads are started as work needs them, up to the maximum, and wait for more until the pool is
/// stopped. A panic in a piece of work is reported and costs that piece. Most programs use the one
/// that every reactor has: [`Reactor::thread_pool`](super::Reactor::thread_pool).
///
/// ```
/// use twistor::threads::ThreadPool;
///
/// let pool = ThreadPool::new(0, 4)?;
/// pool.start();
/// let (send, receive) = std::sync::mpsc::channel();
/// pool.call_in_thread(move || send.send(6 * 7).unwrap())?;
/// assert_eq!(receive.recv(), Ok(42));
/// pool.stop();
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[derive(Clone)]
#[doc(alias = "twisted.python.threadpool")]
pub struct ThreadPool(Arc<Shared>);

/// How many threads a [`ThreadPool`] may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Threads that the pool keeps although there is no work.
    pub minimum: usize,
    /// The most threads it has.
    pub maximum: usize,
}

/// What a [`ThreadPool`] has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolLoad {
    /// How many threads there are.
    pub threads: usize,
    /// How much work waits for one.
    pub waiting: usize,
}

struct Shared {
    state: Mutex<State>,
    /// There is work, or the number of threads is to change.
    changed: Condvar,
    name: String,
}

struct State {
    minimum: usize,
    maximum: usize,
    limit: usize,
    queue: VecDeque<Job>,
    workers: usize,
    /// How many do a piece of work.
    busy: usize,
    started: bool,
    handles: Vec<JoinHandle<()>>,
}

impl State {
    /// How many threads have nothing to do, or have not begun.
    fn idle(&self) -> usize {
        self.workers - self.busy
    }
}

impl ThreadPool {
    /// A pool of at least `minimum` and at most `maximum` threads, not started yet. Work may be
    /// given to it; it waits for the start.
    ///
    /// # Errors
    /// [`ValueError`] if the maximum is 0 or less than the minimum.
    pub fn new(minimum: usize, maximum: usize) -> Result<Self, Failure> {
        Self::named("twistor", minimum, maximum)
    }

    /// The same with a name for its threads, which a debugger shows.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn named(name: impl Into<String>, minimum: usize, maximum: usize) -> Result<Self, Failure> {
        check(minimum, maximum)?;
        let name = name.into();
        if name.contains('\0') {
            return Err(ValueError::with_text("the name of a thread has no NUL in it").into());
        }
        Ok(Self::with(name, minimum, maximum))
    }

    fn with(name: String, minimum: usize, maximum: usize) -> Self {
        let state = State {
            minimum,
            maximum,
            limit: usize::MAX,
            queue: VecDeque::new(),
            workers: 0,
            busy: 0,
            started: false,
            handles: Vec::new(),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), name }))
    }

    /// The pool of a reactor. `maximum` is not 0.
    pub(super) fn of_reactor(maximum: usize) -> Self {
        Self::with("twistor".to_owned(), 0, maximum)
    }

    /// Lets at most `limit` pieces of work wait for a thread; without this there is no limit.
    pub fn set_queue_limit(&self, limit: usize) {
        self.state().limit = limit;
    }

    /// Starts the minimum of threads, and those that the waiting work needs.
    pub fn start(&self) {
        let mut state = self.state();
        state.started = true;
        let wanted = state.queue.len().clamp(state.minimum, state.maximum);
        while state.workers < wanted && self.add_worker(&mut state) {}
    }

    /// Lets the work that was given finish, ends the threads and waits for them. Called from one of
    /// the pool's own threads it waits for the others.
    pub fn stop(&self) {
        self.release_threads();
        let handles = std::mem::take(&mut self.state().handles);
        for handle in handles {
            if handle.thread().id() != thread::current().id() {
                // a worker has no panics of its own
                let _ = handle.join();
            }
        }
        // another who stops it may have the handles
        let own = usize::from(WORKS_FOR.get() == self.0.address());
        let mut state = self.state();
        while !state.started && state.workers > own {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// [`stop`](Self::stop) for a thread that the work may be waiting for: calls `meanwhile` again
    /// and again until all threads have ended.
    pub(super) fn stop_meanwhile(&self, mut meanwhile: impl FnMut()) {
        self.release_threads();
        let mut state = self.state();
        while state.workers > 0 {
            let (back, waited) = self
                .0
                .changed
                .wait_timeout(state, MEANWHILE)
                .unwrap_or_else(PoisonError::into_inner);
            state = back;
            if waited.timed_out() {
                drop(state);
                meanwhile();
                state = self.state();
            }
        }
        drop(state);
        self.stop();
    }

    /// Lets the threads end when their work is done, without waiting for them.
    pub(super) fn release_threads(&self) {
        self.state().started = false;
        self.0.changed.notify_all();
    }

    /// Changes the limits. Threads beyond a lower maximum end when they are idle.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    #[doc(alias = "adjustPoolsize")]
    pub fn adjust(&self, minimum: usize, maximum: usize) -> Result<(), Failure> {
        check(minimum, maximum)?;
        let mut state = self.state();
        (state.minimum, state.maximum) = (minimum, maximum);
        if state.started {
            // those that there have to be, and those that waiting work can now have
            let wanted = (state.workers + state.queue.len().saturating_sub(state.idle()))
                .clamp(minimum, maximum);
            while state.workers < wanted && self.add_worker(&mut state) {}
        }
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Runs `work` in a thread of the pool. A panic in it is reported.
    ///
    /// # Errors
    /// [`QueueFullError`] if as much work waits as may; `work` is dropped then.
    #[doc(alias = "callInThread")]
    pub fn call_in_thread(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let mut state = self.state();
        // what a thread can take at once does not wait
        let free = if state.started { state.maximum.saturating_sub(state.busy) } else { 0 };
        if state.queue.len() >= state.limit.saturating_add(free) {
            let text =
                format!("{} pieces of work wait for the pool `{}`", state.queue.len(), self.0.name);
            drop(state);
            drop_guarded(work);
            return Err(QueueFullError::with_text(text).into());
        }
        state.queue.push_back(Box::new(work));
        // each idle thread takes one of those that wait
        if state.started && state.queue.len() > state.idle() && state.workers < state.maximum {
            self.add_worker(&mut state);
        }
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Runs `work` in a thread of the pool, and `on_result` with its outcome in the same thread. A
    /// panic in `work` is a failure; one in `on_result` is reported.
    ///
    /// # Errors
    /// As for [`call_in_thread`](Self::call_in_thread).
    #[doc(alias = "callInThreadWithCallback")]
    #[track_caller]
    pub fn call_in_thread_with_callback<T>(
        &self,
        on_result: impl FnOnce(Result<T, Failure>) + Send + 'static,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let place = Location::caller();
        // user code
        self.call_in_thread(move || {
            on_result(
                guarded(|| Frame::new("call_in_thread", place), work).and_then(|result| result),
            );
        })
    }

    /// The least and the greatest number of threads.
    pub fn limits(&self) -> PoolLimits {
        let state = self.state();
        PoolLimits { minimum: state.minimum, maximum: state.maximum }
    }

    /// How many threads there are, and how much work waits for one.
    pub fn load(&self) -> PoolLoad {
        let state = self.state();
        PoolLoad { threads: state.workers, waiting: state.queue.len() }
    }

    /// Whether it was started and not stopped.
    pub fn is_started(&self) -> bool {
        self.state().started
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more thread; `false` if the system gives none. Those that there are go on then; without
    /// any the failure is reported.
    fn add_worker(&self, state: &mut State) -> bool {
        let shared = self.0.clone();
        let name = format!("{}-{}", self.0.name, state.workers);
        state.handles.retain(|handle| !handle.is_finished());
        match thread::Builder::new().name(name).spawn(move || shared.work()) {
            Ok(handle) => {
                state.workers += 1;
                state.handles.push(handle);
                true
            }
            Err(error) => {
                if state.workers == 0 {
                    report(
                        error.into(),
                        format!("the pool `{}` has no thread, and its work waits", self.0.name),
                    );
                }
                false
            }
        }
    }
}

thread_local! {
    /// The pool that this thread is of.
    static WORKS_FOR: Cell<usize> = const { Cell::new(0) };
}

impl Shared {
    /// What a pool is known by.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// What a thread of the pool does.
    fn work(&self) {
        WORKS_FOR.set(self.address());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = state.queue.pop_front() {
                state.busy += 1;
                drop(state);
                // user code
                if let Err(failure) =
                    guarded(|| Frame::new("call_in_thread", Location::caller()), job)
                {
                    report(failure, format!("work in the pool `{}`", self.name));
                }
                state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.busy -= 1;
            } else if !state.started || state.workers > state.maximum {
                state.workers -= 1;
                drop(state);
                self.changed.notify_all();
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

fn check(minimum: usize, maximum: usize) -> Result<(), Failure> {
    if maximum == 0 || minimum > maximum {
        return Err(ValueError::with_text(format!(
            "a pool of {minimum} to {maximum} threads cannot be"
        ))
        .into());
    }
    Ok(())
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PoolLoad { threads: workers, waiting } = self.load();
        write!(f, "<ThreadPool {}, {workers} threads, {waiting} waiting>", self.0.name)
    }
}

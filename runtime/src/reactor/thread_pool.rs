//! A pool of threads for blocking work.
use crate::{
    error::{PoolStoppedError, QueueFullError, ValueError},
    failure::{Failure, Frame},
    report::{drop_guarded, guarded, notice, report},
};
use std::{
    cell::Cell,
    collections::VecDeque,
    fmt,
    panic::Location,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The time for which `stop_meanwhile` waits before it calls its function again.
const MEANWHILE: Duration = Duration::from_millis(5);

/// The time after which a stop says what it is waiting for.
const NOTICE: Duration = Duration::from_secs(3);

/// Work for a thread.
type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads for blocking work: files, databases, long calculations. It is `Send`, `Sync`,
/// and cheap to clone.
///
/// Threads are started as work needs them, up to the maximum, and stay until the pool is stopped. A
/// panic in a piece of work is reported and affects nothing else. Most programs use the pool that
/// every reactor has: [`Reactor::thread_pool`](super::Reactor::thread_pool).
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
pub struct ThreadPool(Arc<PoolCell>);

/// The minimum and maximum number of threads in a [`ThreadPool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// The number of threads that the pool keeps even without work.
    pub minimum: usize,
    /// The maximum number of threads.
    pub maximum: usize,
}

/// The present load of a [`ThreadPool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolLoad {
    /// The number of threads.
    pub threads: usize,
    /// The number of queued pieces of work.
    pub waiting: usize,
}

struct PoolCell {
    state: Mutex<PoolState>,
    /// Notified when there is work, and when the number of threads must change.
    changed: Condvar,
    name: String,
}

struct PoolState {
    minimum: usize,
    maximum: usize,
    limit: usize,
    queue: VecDeque<Job>,
    workers: usize,
    /// The number of threads that are working.
    busy: usize,
    phase: PoolPhase,
    handles: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PoolPhase {
    /// Not started yet: work is queued.
    New,
    Started,
    /// Work is refused; the threads exit when the queue is empty.
    Stopped,
}

impl PoolState {
    /// Returns the number of threads that are idle, or have not begun.
    fn idle(&self) -> usize {
        self.workers - self.busy
    }
}

impl ThreadPool {
    /// Creates a pool of at least `minimum` and at most `maximum` threads, which is not started. It
    /// queues work that it is given before the start.
    ///
    /// # Errors
    /// Fails with [`ValueError`] if the maximum is 0 or less than the minimum.
    pub fn new(minimum: usize, maximum: usize) -> Result<Self, Failure> {
        Self::named("twistor", minimum, maximum)
    }

    /// Creates a pool whose threads have a name, which debuggers show.
    ///
    /// # Errors
    /// Fails as [`new`](Self::new) does, and if the name contains a NUL byte.
    pub fn named(name: impl Into<String>, minimum: usize, maximum: usize) -> Result<Self, Failure> {
        check(minimum, maximum)?;
        let name = name.into();
        if name.contains('\0') {
            return Err(ValueError::with_text("thread names must not contain NUL").into());
        }
        Ok(Self::with(name, minimum, maximum))
    }

    fn with(name: String, minimum: usize, maximum: usize) -> Self {
        let state = PoolState {
            minimum,
            maximum,
            limit: usize::MAX,
            queue: VecDeque::new(),
            workers: 0,
            busy: 0,
            phase: PoolPhase::New,
            handles: Vec::new(),
        };
        Self(Arc::new(PoolCell { state: Mutex::new(state), changed: Condvar::new(), name }))
    }

    /// Creates the pool of a reactor. `maximum` is not 0.
    pub(super) fn of_reactor(maximum: usize) -> Self {
        Self::with("twistor".to_owned(), 0, maximum)
    }

    /// Limits the number of queued pieces of work. There is no limit by default.
    pub fn set_queue_limit(&self, limit: usize) {
        self.state().limit = limit;
    }

    /// Starts the minimum number of threads, and those that queued work needs.
    pub fn start(&self) {
        let mut state = self.state();
        state.phase = PoolPhase::Started;
        let wanted = state.queue.len().clamp(state.minimum, state.maximum);
        self.grow(state, wanted);
    }

    /// Stops the pool: waits until all queued work is done and the threads have exited. Called from
    /// one of the pool's own threads it waits for the others.
    pub fn stop(&self) {
        self.release_threads();
        let handles = std::mem::take(&mut self.state().handles);
        for handle in handles {
            if handle.thread().id() != thread::current().id() {
                // a worker catches all panics, so the join cannot fail
                let _ = handle.join();
            }
        }
        // another caller of `stop` may hold the handles
        let own = usize::from(WORKS_FOR.get() == self.0.address());
        let mut state = self.state();
        while state.phase != PoolPhase::Started && state.workers > own {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Stops the pool from a thread that the work may depend on: calls `meanwhile` repeatedly until
    /// all threads have exited, or until it returns `false`.
    pub(super) fn stop_meanwhile(&self, mut meanwhile: impl FnMut() -> bool) {
        self.release_threads();
        let (began, mut noticed) = (Instant::now(), false);
        let mut state = self.state();
        while state.workers > 0 {
            let (back, waited) = self
                .0
                .changed
                .wait_timeout(state, MEANWHILE)
                .unwrap_or_else(PoisonError::into_inner);
            state = back;
            if waited.timed_out() {
                let (busy, queued) = (state.busy, state.queue.len());
                drop(state);
                if !noticed && began.elapsed() > NOTICE {
                    noticed = true;
                    notice(&format!(
                        "stopping waits for the pool `{}`: {busy} pieces of work are running and \
                         {queued} are queued; a second signal ends the wait",
                        self.0.name
                    ));
                }
                if !meanwhile() {
                    return;
                }
                state = self.state();
            }
        }
        drop(state);
        self.stop();
    }

    /// Makes the threads exit when their work is done, without waiting for them.
    pub(super) fn release_threads(&self) {
        self.state().phase = PoolPhase::Stopped;
        self.0.changed.notify_all();
    }

    /// Sets the limits. Threads beyond a lower maximum exit when they are idle.
    ///
    /// # Errors
    /// Fails as [`new`](Self::new) does.
    #[doc(alias = "adjustPoolsize")]
    pub fn adjust(&self, minimum: usize, maximum: usize) -> Result<(), Failure> {
        check(minimum, maximum)?;
        let mut state = self.state();
        (state.minimum, state.maximum) = (minimum, maximum);
        if state.phase == PoolPhase::Started {
            // the minimum, and what queued work can use within the new maximum
            let wanted = (state.workers + state.queue.len().saturating_sub(state.idle()))
                .clamp(minimum, maximum);
            self.grow(state, wanted);
        } else {
            drop(state);
        }
        self.0.changed.notify_all();
        Ok(())
    }

    /// Runs `work` in a thread of the pool. A panic in it is reported.
    ///
    /// # Errors
    /// Fails with [`QueueFullError`] if the queue limit is reached, and with [`PoolStoppedError`]
    /// after a stop; `work` is then dropped.
    #[doc(alias = "callInThread")]
    pub fn call_in_thread(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let mut state = self.state();
        let started = state.phase == PoolPhase::Started;
        if state.phase == PoolPhase::Stopped {
            drop(state);
            drop_guarded(work);
            return Err(PoolStoppedError::with_text(format!("`{}`", self.0.name)).into());
        }
        // work that a thread can take at once does not count as queued
        let free = if started { state.maximum.saturating_sub(state.busy) } else { 0 };
        if state.queue.len() >= state.limit.saturating_add(free) {
            let text =
                format!("the pool `{}` has reached its limit of {}", self.0.name, state.limit);
            drop(state);
            drop_guarded(work);
            return Err(QueueFullError::with_text(text).into());
        }
        state.queue.push_back(Box::new(work));
        // each idle thread takes one piece from the queue
        if started && state.queue.len() > state.idle() && state.workers < state.maximum {
            let wanted = state.workers + 1;
            self.grow(state, wanted);
        } else {
            drop(state);
        }
        self.0.changed.notify_one();
        Ok(())
    }

    /// Runs `work` in a thread of the pool, and `on_result` with its result in the same thread. A
    /// panic in `work` becomes a failure; one in `on_result` is reported.
    ///
    /// # Errors
    /// Fails as [`call_in_thread`](Self::call_in_thread) does.
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

    /// Returns the minimum and maximum number of threads.
    pub fn limits(&self) -> PoolLimits {
        let state = self.state();
        PoolLimits { minimum: state.minimum, maximum: state.maximum }
    }

    /// Returns the number of threads and of queued pieces of work.
    pub fn load(&self) -> PoolLoad {
        let state = self.state();
        PoolLoad { threads: state.workers, waiting: state.queue.len() }
    }

    /// Returns whether the pool was started and not stopped.
    pub fn is_started(&self) -> bool {
        self.state().phase == PoolPhase::Started
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts threads until there are `wanted`, or until the system refuses. The existing threads
    /// then continue; if there are none, the failure is reported, after the lock was released.
    fn grow(&self, mut state: MutexGuard<'_, PoolState>, wanted: usize) {
        state.handles.retain(|handle| !handle.is_finished());
        let mut refused = None;
        while state.workers < wanted && refused.is_none() {
            let shared = self.0.clone();
            let name = format!("{}-{}", self.0.name, state.workers);
            match thread::Builder::new().name(name).spawn(move || shared.work()) {
                Ok(handle) => {
                    state.workers += 1;
                    state.handles.push(handle);
                }
                Err(error) => refused = Some(error),
            }
        }
        let none = state.workers == 0;
        drop(state);
        if let Some(error) = refused.filter(|_| none) {
            report(
                error.into(),
                format!(
                    "the pool `{}` cannot start a thread, and its work stays queued",
                    self.0.name
                ),
            );
        }
    }
}

thread_local! {
    /// The pool to which this thread belongs.
    static WORKS_FOR: Cell<usize> = const { Cell::new(0) };
}

impl PoolCell {
    /// Returns the number that identifies the pool.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Runs a thread of the pool.
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
            } else if state.phase != PoolPhase::Started || state.workers > state.maximum {
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
            "invalid pool size: minimum {minimum}, maximum {maximum}"
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

//! One Deferred for several consumers.
use super::{
    cancel_node::cancelled_at,
    chain::{Outcome, discard_outcome},
    deferred::{CancelHandle, Deferred},
    resolver::Resolver,
    then::OnBoth,
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    panic::Location,
    rc::{Rc, Weak},
};

/// A Deferred with several consumers, made by [`Deferred::shared`]. Cloning it is cheap.
pub struct Shared<T: Clone + 'static>(Rc<Branches<T>>);

struct Branches<T: Clone + 'static> {
    state: RefCell<Progress<T>>,
    /// The number of pending branches that were not cancelled.
    wanted: Cell<usize>,
    source: RefCell<CancelHandle>,
    created_at: &'static Location<'static>,
}

enum Progress<T: 'static> {
    For(Vec<Resolver<T>>),
    /// The outcome, and whether a branch has received it.
    Done(Rc<Outcome<T>>, bool),
}

impl<T: Clone + 'static> Branches<T> {
    fn on_result(&self, outcome: Outcome<T>) {
        // in an `Rc`, so that nothing is borrowed while a user's `clone` runs
        let outcome = Rc::new(outcome);
        let waiting = match std::mem::replace(
            &mut *self.state.borrow_mut(),
            Progress::Done(outcome.clone(), false),
        ) {
            Progress::For(waiting) => waiting,
            Progress::Done(..) => Vec::new(),
        };
        if !waiting.is_empty() {
            self.taken();
        }
        for branch in waiting {
            // user code
            branch.resolve((*outcome).clone());
        }
    }

    fn taken(&self) {
        if let Progress::Done(_, taken) = &mut *self.state.borrow_mut() {
            *taken = true;
        }
    }

    /// Counts a cancelled branch. When all branches are cancelled, so is the source.
    fn cancelled(&self, place: &'static Location<'static>) {
        self.wanted.set(self.wanted.get().saturating_sub(1));
        if self.wanted.get() == 0 {
            let source = self.source.borrow().clone();
            source.cancel_for(&cancelled_at(place));
        }
    }
}

impl<T: Clone + 'static> Drop for Branches<T> {
    fn drop(&mut self) {
        if let Progress::Done(outcome, false) =
            std::mem::replace(self.state.get_mut(), Progress::For(Vec::new()))
            && let Ok(outcome) = Rc::try_unwrap(outcome)
        {
            discard_outcome(outcome, self.created_at);
        }
    }
}

impl<T: Clone + 'static> Shared<T> {
    /// Returns a Deferred of the result for one consumer. Each consumer gets a clone.
    ///
    /// # Cancellation
    /// Cancelling a branch fails it. When all branches are cancelled, the source is cancelled too.
    #[track_caller]
    pub fn get(&self) -> Deferred<T> {
        let place = Location::caller();
        let ready = match &*self.0.state.borrow() {
            Progress::Done(outcome, _) => Some(outcome.clone()),
            Progress::For(_) => None,
        };
        if let Some(outcome) = ready {
            self.0.taken();
            return Deferred::ready((*outcome).clone(), place);
        }
        let weak: Weak<Branches<T>> = Rc::downgrade(&self.0);
        let (branch, resolver) = Deferred::with_canceller(move |_| {
            if let Some(branches) = weak.upgrade() {
                branches.cancelled(place);
            }
        });
        self.0.wanted.set(self.0.wanted.get() + 1);
        if let Progress::For(waiting) = &mut *self.0.state.borrow_mut() {
            waiting.push(resolver);
        }
        branch
    }
}

impl<T: Clone + 'static> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone + 'static> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Shared Deferred made at {}>", self.0.created_at)
    }
}

impl<T: Clone + 'static> Deferred<T> {
    /// Shares the result between several consumers, each of which calls [`Shared::get`].
    ///
    /// ```
    /// use twistor::defer::Deferred;
    ///
    /// let (deferred, resolver) = Deferred::new();
    /// let shared = deferred.shared();
    /// let (one, two) = (shared.get(), shared.get());
    /// resolver.callback(5);
    /// assert_eq!(one.take_result().unwrap().unwrap(), 5);
    /// assert_eq!(two.take_result().unwrap().unwrap(), 5);
    /// ```
    #[track_caller]
    pub fn shared(self) -> Shared<T> {
        let created_at = Location::caller();
        let branches = Rc::new(Branches {
            state: RefCell::new(Progress::For(Vec::new())),
            wanted: Cell::new(0),
            source: RefCell::default(),
            created_at,
        });
        *branches.source.borrow_mut() = self.canceller();
        let into = branches.clone();
        self.link(OnBoth(move |outcome: Outcome<T>| into.on_result(outcome)), created_at).detach();
        Shared(branches)
    }
}

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

/// A Deferred with several consumers: what [`Deferred::shared`] gives. A cheap clone.
pub struct Shared<T: Clone + 'static>(Rc<Branches<T>>);

struct Branches<T: Clone + 'static> {
    state: RefCell<Waiting<T>>,
    /// How many branches wait and were not cancelled.
    wanted: Cell<usize>,
    source: RefCell<CancelHandle>,
    created_at: &'static Location<'static>,
}

enum Waiting<T: 'static> {
    For(Vec<Resolver<T>>),
    /// The outcome, and whether a branch has been given it.
    Done(Rc<Outcome<T>>, bool),
}

impl<T: Clone + 'static> Branches<T> {
    fn on_result(&self, outcome: Outcome<T>) {
        // shared, so that no borrow is held while a user's `clone` runs
        let outcome = Rc::new(outcome);
        let waiting = match std::mem::replace(
            &mut *self.state.borrow_mut(),
            Waiting::Done(outcome.clone(), false),
        ) {
            Waiting::For(waiting) => waiting,
            Waiting::Done(..) => Vec::new(),
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
        if let Waiting::Done(_, taken) = &mut *self.state.borrow_mut() {
            *taken = true;
        }
    }

    /// A branch was cancelled: with the last one, so is the source.
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
        if let Waiting::Done(outcome, false) =
            std::mem::replace(self.state.get_mut(), Waiting::For(Vec::new()))
            && let Ok(outcome) = Rc::try_unwrap(outcome)
        {
            discard_outcome(outcome, self.created_at);
        }
    }
}

impl<T: Clone + 'static> Shared<T> {
    /// A Deferred of the same result, for one consumer. Each gets a clone.
    ///
    /// # Cancellation
    /// Fails this one. When all that were given out are cancelled, the source is cancelled too.
    #[track_caller]
    pub fn get(&self) -> Deferred<T> {
        let place = Location::caller();
        let ready = match &*self.0.state.borrow() {
            Waiting::Done(outcome, _) => Some(outcome.clone()),
            Waiting::For(_) => None,
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
        if let Waiting::For(waiting) = &mut *self.0.state.borrow_mut() {
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
    /// Lets several consumers have the result: each asks [`Shared::get`].
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
            state: RefCell::new(Waiting::For(Vec::new())),
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

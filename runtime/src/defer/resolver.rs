//! Resolver: the firing half of a Deferred. It owns the leaf, the first node of a chain.
use super::{
    cancel_node::{Awaiting, CancelNode},
    chain::{Node, Outcome, Slot, run, run_now},
    debug,
    deferred::Deferred,
    then::OnBoth,
};
use crate::{
    error::{AbandonedError, AlreadyCalledError, CancelledError},
    failure::{Failure, Frame, current_function},
    report::{drop_guarded, guarded, report},
};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt,
    panic::Location,
    rc::{Rc, Weak},
};

/// The first node of a chain, made by [`Deferred::new`].
struct Leaf<T, C> {
    slot: Slot<T>,
    canceller: Cell<Option<C>>,
    state: Cell<LeafState>,
    /// The Deferred whose result it will receive, after [`Deferred::chain`].
    chained: Cell<Option<Weak<dyn CancelNode>>>,
}

impl<T, C> Leaf<T, C> {
    /// Returns the chained node, while it has not fired.
    fn chained(&self) -> Option<Rc<dyn CancelNode>> {
        let chained = self.chained.take();
        let up = chained.as_ref().and_then(Weak::upgrade);
        self.chained.set(chained);
        up
    }
}

/// The state of a leaf, beyond that of its slot.
#[derive(Clone, Copy)]
enum LeafState {
    Open,
    Fired(&'static Location<'static>),
    /// The canceller is running, during which the Resolver may still fire.
    Cancelling,
    /// Cancelled without a canceller: one late fire is accepted silently.
    Cancelled,
    /// Cancelled through its canceller.
    CancelledByCanceller,
}

/// A leaf without its canceller's type.
trait Fire<T>: Node<T> {
    fn state(&self) -> LeafState;
    fn set_state(&self, state: LeafState);
    /// Fires, unless the leaf has been fired, or cancelled and its canceller has returned. `now` means at any depth of nested
    /// fires. The canceller is dropped afterwards: its task has ended, and so has any cycle through
    /// it.
    fn fire(&self, outcome: Outcome<T>, place: &'static Location<'static>, now: bool);
    fn chain_to(&self, source: Option<Weak<dyn CancelNode>>);
}

impl<T: 'static, C: FnOnce(Cancelling<T>) + 'static> Fire<T> for Leaf<T, C> {
    fn state(&self) -> LeafState {
        self.state.get()
    }

    fn set_state(&self, state: LeafState) {
        self.state.set(state);
    }

    fn chain_to(&self, source: Option<Weak<dyn CancelNode>>) {
        self.chained.set(source);
    }

    fn fire(&self, outcome: Outcome<T>, place: &'static Location<'static>, now: bool) {
        // taken out first, so that what its drop fires finds a leaf that has fired
        let canceller = self.canceller.take();
        if matches!(self.state.get(), LeafState::Open | LeafState::Cancelling) {
            self.state.set(LeafState::Fired(place));
            let _firing = debug::firing(place);
            match self.slot.fill(outcome) {
                Some(next) if now => run_now(next),
                Some(next) => run(next),
                None => {}
            }
        } else {
            drop_guarded(outcome);
        }
        drop_canceller(canceller);
    }
}

impl<T: 'static, C: FnOnce(Cancelling<T>) + 'static> Node<T> for Leaf<T, C> {
    fn slot(&self) -> &Slot<T> {
        &self.slot
    }
}

impl<T: 'static, C: FnOnce(Cancelling<T>) + 'static> CancelNode for Leaf<T, C> {
    fn awaiting(&self) -> Awaiting {
        if self.slot.is_fired() {
            return Awaiting::Finished;
        }
        self.chained().map_or(Awaiting::Nothing, Awaiting::One)
    }

    fn defer_cancel(&self, _why: &CancelledError) {
        // never called: a leaf runs no user code
    }

    fn following(&self) -> Option<*const ()> {
        if self.slot.is_fired() {
            None
        } else {
            self.chained().map(|source| Rc::as_ptr(&source).cast())
        }
    }

    fn cancel_leaf(self: Rc<Self>, why: &CancelledError) {
        if !matches!(self.state.get(), LeafState::Open) {
            // its canceller is running, and has cancelled it again
            return;
        }
        let canceller = self.canceller.take();
        self.state.set(LeafState::Cancelled);
        if let Some(canceller) = canceller {
            self.state.set(LeafState::Cancelling);
            let right = Cancelling(self.clone());
            // user code
            if let Err(failure) =
                guarded(|| Frame::of_closure::<C>(self.slot.created_at()), || canceller(right))
            {
                report(
                    failure,
                    format!("canceller of the Deferred made at {}", self.slot.created_at()),
                );
            }
            if matches!(self.state.get(), LeafState::Cancelling) {
                self.state.set(LeafState::CancelledByCanceller);
            }
        }
        let _firing = debug::firing(why.location());
        fill(&*self, Err(why.clone().into()));
    }
}

fn fill<T>(leaf: &dyn Fire<T>, outcome: Outcome<T>) {
    if let Some(next) = leaf.slot().fill(outcome) {
        run(next);
    }
}

/// The firing half of a [`Deferred`]: fires it once, with a value or a failure.
///
/// Firing is synchronous: when [`callback`](Self::callback) returns, every callback that can run
/// has run. So end your own borrows first, because callbacks may call you back. (Fires that user
/// code makes inside a callback nest 64 deep on the stack. Deeper ones are queued, and have run
/// before the fire at that depth returns.)
///
/// Dropping a Resolver unfired fails its Deferred with [`AbandonedError`], so that nothing waits
/// for ever.
///
/// ```
/// use twistor::defer::Deferred;
///
/// let (deferred, resolver) = Deferred::<u32>::new();
/// drop(resolver);
/// deferred.add_errback(|failure| {
///     assert_eq!(failure.to_string(), "The Resolver was dropped before it fired.");
///     Ok(0)
/// });
/// ```
#[must_use = "a Resolver that is dropped fails its Deferred with AbandonedError"]
pub struct Resolver<T: 'static> {
    leaf: Option<Rc<dyn Fire<T>>>,
}

/// The right to fire a Deferred that is being cancelled, passed to its canceller. If the canceller
/// fires nothing, the Deferred fails with [`CancelledError`].
pub struct Cancelling<T: 'static>(Rc<dyn Fire<T>>);

/// The canceller type of a leaf that has none.
pub(super) type NoCanceller<T> = fn(Cancelling<T>);

/// Creates a leaf and its resolver.
pub(super) fn leaf<T: 'static, C>(
    canceller: Option<C>,
    created_at: &'static Location<'static>,
) -> (Rc<dyn Node<T>>, Resolver<T>)
where
    C: FnOnce(Cancelling<T>) + 'static,
{
    let leaf = Rc::new(Leaf {
        slot: Slot::new(created_at),
        canceller: Cell::new(canceller),
        state: Cell::new(LeafState::Open),
        chained: Cell::new(None),
    });
    debug::note(
        &leaf,
        leaf.slot.address(),
        "Deferred",
        || Frame::new(current_function(), created_at).function(),
        created_at,
    );
    (leaf.clone(), Resolver { leaf: Some(leaf) })
}

impl<T: 'static> Resolver<T> {
    /// Fires the Deferred with `value`. After a cancellation this does nothing.
    #[track_caller]
    pub fn callback(mut self, value: T) {
        if let Some(leaf) = self.leaf.take() {
            leaf.fire(Ok(value), Location::caller(), false);
        }
    }

    /// Fires the Deferred with a failure. After a cancellation this does nothing.
    #[track_caller]
    pub fn errback(mut self, failure: impl Into<Failure>) {
        let failure = failure.into();
        if let Some(leaf) = self.leaf.take() {
            leaf.fire(Err(failure), Location::caller(), false);
        }
    }

    /// Fires the Deferred with a value or a failure. After a cancellation this does nothing.
    #[track_caller]
    pub fn resolve(mut self, result: Result<T, Failure>) {
        if let Some(leaf) = self.leaf.take() {
            leaf.fire(result, Location::caller(), false);
        }
    }

    /// Returns whether the result is still wanted: `false` once the Deferred has been cancelled. A
    /// producer that queues Resolvers can drop the unwanted ones.
    pub fn is_wanted(&self) -> bool {
        self.leaf.as_ref().is_some_and(|leaf| !leaf.slot().is_fired())
    }

    /// Converts into a resolver that can be cloned. Firing it a second time is an error at run time
    /// instead of compile time.
    pub fn shared(mut self) -> SharedResolver<T> {
        SharedResolver(Rc::new(Self { leaf: self.leaf.take() }))
    }
}

/// The depth to which drops of cancellers nest; deeper ones are queued, and the outermost drop runs
/// them.
const MAX_DROPS: u32 = 64;

/// Drops a canceller. It may own the Resolver of another Deferred with a canceller, and so on,
/// which must not recurse without limit.
fn drop_canceller<C: 'static>(canceller: Option<C>) {
    if canceller.is_none() || !std::mem::needs_drop::<C>() {
        return;
    }
    let depth = DROPS.get();
    if depth >= MAX_DROPS {
        let mut canceller = canceller;
        let queued = LATE_DROPS.try_with(|late| late.borrow_mut().push(Box::new(canceller.take())));
        if queued.is_err() {
            drop_guarded(canceller);
        }
        return;
    }
    DROPS.set(depth + 1);
    drop_guarded(canceller);
    DROPS.set(depth);
    if depth > 0 {
        return;
    }
    while let Some(next) = LATE_DROPS.try_with(|late| late.borrow_mut().pop()).ok().flatten() {
        DROPS.set(1);
        drop_guarded(next);
        DROPS.set(0);
    }
}

thread_local! {
    static DROPS: Cell<u32> = const { Cell::new(0) };
    static LATE_DROPS: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
    /// The cause of Resolvers that are being dropped unfired.
    static ABANDON_CAUSE: RefCell<Option<Rc<dyn AbandonCause>>> = const { RefCell::new(None) };
}

/// An object whose end abandons Resolvers, such as a connection. It creates the failure only when
/// asked.
pub(crate) trait AbandonCause {
    /// Returns why the object has ended, once it has.
    fn reason(&self) -> Option<Failure>;
}

/// Runs `work`, which drops Resolvers because `what` has ended: each [`AbandonedError`] gets that
/// reason as its source.
pub(crate) fn with_abandon_cause<R>(
    what: Option<Rc<dyn AbandonCause>>,
    work: impl FnOnce() -> R,
) -> R {
    struct Back(Option<Rc<dyn AbandonCause>>);
    impl Drop for Back {
        fn drop(&mut self) {
            let old = ABANDON_CAUSE.try_with(|loss| loss.replace(self.0.take()));
            drop(old);
        }
    }
    let _back = Back(ABANDON_CAUSE.try_with(|loss| loss.replace(what)).ok().flatten());
    work()
}

/// Creates the failure of a Deferred made at `created_at` whose Resolver was dropped unfired.
pub(super) fn abandoned(created_at: &'static Location<'static>) -> Failure {
    let cause = ABANDON_CAUSE.try_with(|cause| cause.borrow().clone()).ok().flatten();
    let error = AbandonedError::new();
    let error = match cause.and_then(|cause| cause.reason()) {
        Some(reason) => error.caused_by(reason.shared_value()),
        None => error,
    };
    // a drop has no caller to name
    Failure::at(error, Frame::new("the drop of the Resolver made here", created_at))
}

impl<T: 'static> Drop for Resolver<T> {
    fn drop(&mut self) {
        if let Some(leaf) = self.leaf.take()
            && matches!(leaf.state(), LeafState::Open)
        {
            let created_at = leaf.slot().created_at();
            leaf.fire(Err(abandoned(created_at)), created_at, false);
        }
    }
}

impl<T: 'static> fmt::Debug for Resolver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.leaf {
            Some(leaf) => {
                write!(f, "<Resolver of the Deferred made at {}>", leaf.slot().created_at())
            }
            None => f.write_str("<Resolver, fired>"),
        }
    }
}

impl<T: 'static> Cancelling<T> {
    /// Fires the Deferred with `value` instead of [`CancelledError`].
    pub fn callback(self, value: T) {
        fill(&*self.0, Ok(value));
    }

    /// Fires the Deferred with this failure instead of [`CancelledError`].
    #[track_caller]
    pub fn errback(self, failure: impl Into<Failure>) {
        fill(&*self.0, Err(failure.into()));
    }
}

impl<T: 'static> fmt::Debug for Cancelling<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Cancelling of the Deferred made at {}>", self.0.slot().created_at())
    }
}

/// A [`Resolver`] that can be cloned: the first clone fires, and the others get an error.
///
/// ```
/// use twistor::defer::Deferred;
///
/// let (deferred, resolver) = Deferred::new();
/// let (one, other) = (resolver.shared(), ());
/// let two = one.clone();
/// assert!(one.callback(1).is_ok());
/// assert!(two.callback(2).unwrap_err().to_string().contains(" has been fired already, at "));
/// # let _ = (deferred, other);
/// ```
pub struct SharedResolver<T: 'static>(Rc<Resolver<T>>);

impl<T: 'static> SharedResolver<T> {
    /// Fires the Deferred with `value`.
    ///
    /// # Errors
    /// Fails with [`AlreadyCalledError`] if the Deferred has been fired. After a cancellation one
    /// late fire is accepted and dropped, unless the Deferred has a canceller: the canceller knew
    /// of the cancellation, so a fire after it is an error.
    #[track_caller]
    pub fn callback(&self, value: T) -> Result<(), AlreadyCalledError> {
        self.resolve(Ok(value))
    }

    /// Fires the Deferred with a failure.
    ///
    /// # Errors
    /// Fails as [`callback`](Self::callback) does.
    #[track_caller]
    pub fn errback(&self, failure: impl Into<Failure>) -> Result<(), AlreadyCalledError> {
        self.resolve(Err(failure.into()))
    }

    /// Fires the Deferred with a value or a failure.
    ///
    /// # Errors
    /// Fails as [`callback`](Self::callback) does.
    #[track_caller]
    pub fn resolve(&self, outcome: Result<T, Failure>) -> Result<(), AlreadyCalledError> {
        let Some(leaf) = &self.0.leaf else {
            return Err(AlreadyCalledError { created_at: None, first: None });
        };
        let created_at = Some(leaf.slot().created_at());
        match leaf.state() {
            LeafState::Open | LeafState::Cancelling => {
                leaf.fire(outcome, Location::caller(), false);
            }
            // the one late fire; the next one finds the leaf fired
            LeafState::Cancelled => {
                leaf.set_state(LeafState::Fired(Location::caller()));
                drop_guarded(outcome);
            }
            LeafState::CancelledByCanceller => {
                return Err(AlreadyCalledError { created_at, first: None });
            }
            LeafState::Fired(first) => {
                return Err(AlreadyCalledError { created_at, first: Some(first) });
            }
        }
        Ok(())
    }

    /// Returns whether the result is still wanted.
    pub fn is_wanted(&self) -> bool {
        self.0.is_wanted()
    }
}

impl<T: 'static> Clone for SharedResolver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: 'static> fmt::Debug for SharedResolver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<T: 'static> Deferred<T> {
    /// Fires `to` with the result of this Deferred.
    ///
    /// From then on the Deferred of `to` awaits this one: the debug text shows that, and cancelling
    /// it reaches this one.
    ///
    /// ```
    /// use twistor::defer::Deferred;
    ///
    /// let (waiting, resolver) = Deferred::new();
    /// Deferred::succeed(7).chain(resolver);
    /// assert_eq!(waiting.take_result().unwrap().unwrap(), 7);
    /// ```
    #[doc(alias = "chainDeferred")]
    #[track_caller]
    pub fn chain(self, to: Resolver<T>) {
        let leaf = to.leaf.clone();
        self.chain_to(leaf, move |outcome| to.resolve(outcome));
    }

    /// Fires `to` with the result of this Deferred, unless `to` has been fired by then.
    ///
    /// Otherwise this is [`chain`](Self::chain).
    #[track_caller]
    pub fn chain_shared(self, to: SharedResolver<T>) {
        let leaf = to.0.leaf.clone();
        self.chain_to(leaf, move |outcome| drop(to.resolve(outcome)));
    }

    #[track_caller]
    fn chain_to(self, leaf: Option<Rc<dyn Fire<T>>>, fire: impl FnOnce(Outcome<T>) + 'static) {
        let waiting = self.link(OnBoth(fire), Location::caller());
        if let (Some(leaf), Some(source)) = (leaf, waiting.source()) {
            leaf.chain_to(Some(Rc::downgrade(&(source as Rc<dyn CancelNode>))));
        }
        waiting.detach();
    }

    /// Creates a pending Deferred and the [`Resolver`] that fires it, with one allocation.
    ///
    /// ```
    /// let (deferred, resolver) = twistor::defer::Deferred::new();
    /// deferred.add_callback(|name: &str| println!("hello {name}")).detach();
    /// resolver.callback("twistor");
    /// ```
    #[track_caller]
    pub fn new() -> (Self, Resolver<T>) {
        let (source, resolver) = leaf::<T, NoCanceller<T>>(None, Location::caller());
        (Self::pending(source), resolver)
    }

    /// Creates a pending Deferred that can stop the work behind it: `canceller` runs once if the
    /// Deferred is cancelled before it has fired.
    ///
    /// The canceller may fire the Deferred through the [`Cancelling`] that it receives, or through
    /// the Resolver; if it does neither, the Deferred fails with [`CancelledError`]. This, too, takes one allocation. A panic in the
    /// canceller is reported, and the Deferred fails all the same.
    ///
    /// ```
    /// use twistor::defer::Deferred;
    ///
    /// let (deferred, _resolver) =
    ///     Deferred::<u32>::with_canceller(|cancelling| cancelling.callback(0));
    /// deferred.cancel();
    /// assert_eq!(deferred.take_result().unwrap().unwrap(), 0);
    /// ```
    #[track_caller]
    pub fn with_canceller(canceller: impl FnOnce(Cancelling<T>) + 'static) -> (Self, Resolver<T>) {
        let (source, resolver) = leaf(Some(canceller), Location::caller());
        (Self::pending(source), resolver)
    }
}

//! Resolver: the firing half of a Deferred. It holds the leaf, where every chain begins.
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

/// Where a chain begins: what [`Deferred::new`] makes.
struct Leaf<T, C> {
    slot: Slot<T>,
    canceller: Cell<Option<C>>,
    phase: Cell<Phase>,
    /// The Deferred whose result it will get, after [`Deferred::chain`].
    chained: Cell<Option<Weak<dyn CancelNode>>>,
}

impl<T, C> Leaf<T, C> {
    /// The source that was chained to it, while that has not fired.
    fn chained(&self) -> Option<Rc<dyn CancelNode>> {
        let chained = self.chained.take();
        let up = chained.as_ref().and_then(Weak::upgrade);
        self.chained.set(chained);
        up
    }
}

/// What has happened to a leaf, beyond what its slot knows.
#[derive(Clone, Copy)]
enum Phase {
    Open,
    Fired(&'static Location<'static>),
    /// Cancelled without a canceller: a shared resolver may fire once more and is not told off.
    Cancelled,
    /// Cancelled through its canceller.
    CancelledByCanceller,
}

/// A leaf without its canceller's type.
trait Fire<T>: Node<T> {
    fn phase(&self) -> Phase;
    fn set_phase(&self, phase: Phase);
    /// Fires, unless that has been done or a cancel has come; `now`: whatever the depth of nested
    /// fires. The canceller is dropped afterwards: firing ends its task, and with it any cycle
    /// through it.
    fn fire(&self, outcome: Outcome<T>, place: &'static Location<'static>, now: bool);
    fn chain_to(&self, source: Option<Weak<dyn CancelNode>>);
}

impl<T: 'static, C: FnOnce(Cancelling<T>) + 'static> Fire<T> for Leaf<T, C> {
    fn phase(&self) -> Phase {
        self.phase.get()
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
    }

    fn chain_to(&self, source: Option<Weak<dyn CancelNode>>) {
        self.chained.set(source);
    }

    fn fire(&self, outcome: Outcome<T>, place: &'static Location<'static>, now: bool) {
        // taken out first: what its drop fires finds a leaf that has fired
        let canceller = self.canceller.take();
        if matches!(self.phase.get(), Phase::Open) {
            self.phase.set(Phase::Fired(place));
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
        // never asked: a leaf runs no code
    }

    fn following(&self) -> Option<*const ()> {
        if self.slot.is_fired() {
            None
        } else {
            self.chained().map(|source| Rc::as_ptr(&source).cast())
        }
    }

    fn cancel_leaf(self: Rc<Self>, why: &CancelledError) {
        if !matches!(self.phase.get(), Phase::Open) {
            // its canceller is running and has cancelled it again
            return;
        }
        let canceller = self.canceller.take();
        self.phase.set(if canceller.is_some() {
            Phase::CancelledByCanceller
        } else {
            Phase::Cancelled
        });
        if let Some(canceller) = canceller {
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
/// Firing is synchronous: when [`callback`](Self::callback) returns, all that could run has run.
/// (Fires that user code makes from inside nest 64 deep on the stack; deeper ones are queued and
/// done before the fire at that depth returns.) So end your own borrows first: what runs may call
/// you back.
///
/// A Resolver that is dropped unfired fails its Deferred with [`AbandonedError`]: nothing waits for
/// ever in silence.
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

/// The right to fire that a canceller is given. If it fires nothing, the Deferred fails with
/// [`CancelledError`].
pub struct Cancelling<T: 'static>(Rc<dyn Fire<T>>);

/// The canceller of a leaf that has none.
pub(super) type NoCanceller<T> = fn(Cancelling<T>);

/// Makes a leaf and its resolver.
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
        phase: Cell::new(Phase::Open),
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
    /// Fires the Deferred with `value`. After a cancel it does nothing.
    #[track_caller]
    pub fn callback(mut self, value: T) {
        if let Some(leaf) = self.leaf.take() {
            leaf.fire(Ok(value), Location::caller(), false);
        }
    }

    /// Fires the Deferred with a failure. After a cancel it does nothing.
    #[track_caller]
    pub fn errback(mut self, failure: impl Into<Failure>) {
        let failure = failure.into();
        if let Some(leaf) = self.leaf.take() {
            leaf.fire(Err(failure), Location::caller(), false);
        }
    }

    /// Fires with whichever it is.
    #[track_caller]
    pub fn resolve(mut self, result: Result<T, Failure>) {
        if let Some(leaf) = self.leaf.take() {
            leaf.fire(result, Location::caller(), false);
        }
    }

    /// Whether anybody still wants the result: `false` once the Deferred has been cancelled. A
    /// producer that keeps Resolvers in a queue drops those that are not wanted.
    pub fn is_wanted(&self) -> bool {
        self.leaf.as_ref().is_some_and(|leaf| !leaf.slot().is_fired())
    }

    /// A resolver for several places: it can be cloned, and firing it a second time is an error
    /// instead of a compile error.
    pub fn shared(mut self) -> SharedResolver<T> {
        SharedResolver(Rc::new(Self { leaf: self.leaf.take() }))
    }
}

/// How deep drops of cancellers nest; deeper ones are queued and done by the outermost.
const MAX_DROPS: u32 = 64;

/// Drops a canceller. It may hold the Resolver of another Deferred with a canceller, and so on:
/// that must not recurse without end.
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
    /// What was lost, while what it held is dropped.
    static ABANDON_CAUSE: RefCell<Option<Rc<dyn AbandonCause>>> = const { RefCell::new(None) };
}

/// What ends for a reason, which is a failure as soon as somebody asks for it: a connection.
pub(crate) trait AbandonCause {
    /// Why it is over, once it is.
    fn reason(&self) -> Option<Failure>;
}

/// Runs `work`, in which the loss of `what` makes Resolvers impossible to answer: what they are
/// dropped with has its reason as their source.
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

/// The failure of a Deferred made at `created_at` whose firing half is dropped.
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
            && !leaf.slot().is_fired()
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

/// A [`Resolver`] for several places: the first of them fires, the others are told.
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
    /// [`AlreadyCalledError`] if it has been fired. After a cancel one late fire is `Ok` and
    /// dropped, unless the Deferred has a canceller: that one was told, and a fire after it is an
    /// error.
    #[track_caller]
    pub fn callback(&self, value: T) -> Result<(), AlreadyCalledError> {
        self.resolve(Ok(value))
    }

    /// Fires the Deferred with a failure.
    ///
    /// # Errors
    /// As for [`callback`](Self::callback).
    #[track_caller]
    pub fn errback(&self, failure: impl Into<Failure>) -> Result<(), AlreadyCalledError> {
        self.resolve(Err(failure.into()))
    }

    #[track_caller]
    fn resolve(&self, outcome: Outcome<T>) -> Result<(), AlreadyCalledError> {
        let Some(leaf) = &self.0.leaf else {
            return Err(AlreadyCalledError { created_at: None, first: None });
        };
        let created_at = Some(leaf.slot().created_at());
        match leaf.phase() {
            Phase::Open => leaf.fire(outcome, Location::caller(), false),
            // the one late fire; the next finds it fired
            Phase::Cancelled => {
                leaf.set_phase(Phase::Fired(Location::caller()));
                drop_guarded(outcome);
            }
            Phase::CancelledByCanceller => {
                return Err(AlreadyCalledError { created_at, first: None });
            }
            Phase::Fired(first) => {
                return Err(AlreadyCalledError { created_at, first: Some(first) });
            }
        }
        Ok(())
    }

    /// Whether anybody still wants the result.
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
    /// The Deferred of `to` waits for this one from now on: its debug text says so, and cancelling
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
        let place = Location::caller();
        let leaf = to.leaf.clone();
        let waiting = self.link(OnBoth(move |outcome: Outcome<T>| to.resolve(outcome)), place);
        if let (Some(leaf), Some(source)) = (leaf, waiting.source()) {
            leaf.chain_to(Some(Rc::downgrade(&(source as Rc<dyn CancelNode>))));
        }
        waiting.detach();
    }

    /// A Deferred that has not fired, and the [`Resolver`] that will fire it. One allocation.
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

    /// A Deferred that knows how to give up what it waits for: `canceller` runs once if it is
    /// cancelled before it has fired.
    ///
    /// The canceller may fire through the [`Cancelling`] it is given; if it does not, the Deferred
    /// fails with [`CancelledError`]. Still one allocation. A panic in it is reported, and the
    /// Deferred fails all the same.
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

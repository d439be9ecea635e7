//! Waiting for many: `gather_results`.
use super::{
    chain::{Outcome, Slot, Source, Up, Upstream, cancel_from, run},
    deferred::Deferred,
    then::OnBoth,
};
use crate::{error::CancelledError, failure::Failure, report::drop_guarded};
use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    panic::Location,
    rc::Rc,
};

/// The first member of a list to fail: which one it was, and its failure.
#[derive(Clone)]
pub struct FirstError {
    index: usize,
    failure: Failure,
}

impl FirstError {
    /// The member's place in the list, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The member's failure.
    #[doc(alias = "subFailure")]
    pub fn failure(&self) -> &Failure {
        &self.failure
    }
}

impl fmt::Display for FirstError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FirstError[#{}, {}]", self.index, self.failure)
    }
}

impl fmt::Debug for FirstError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FirstError[#{}, {:?}]", self.index, self.failure.value())
    }
}

impl PartialEq for FirstError {
    /// Whether it is the same failure of the same member.
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.failure.is_same(&other.failure)
    }
}

impl Eq for FirstError {}

impl Error for FirstError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.failure.value())
    }
}

/// The common part of a list: what has come so far in `Store`, and the result it will have.
struct Gathering<Store, Out> {
    store: RefCell<Store>,
    missing: Cell<usize>,
    finish: fn(Store) -> Option<Out>,
    slot: Slot<Out>,
    /// The members that have not fired, in order.
    members: RefCell<Vec<(usize, Rc<dyn Upstream>)>>,
    /// A cancel that came while the members were being put in.
    kept: Cell<Option<Box<CancelledError>>>,
    filling: Cell<bool>,
}

impl<Store: Default + 'static, Out: 'static> Gathering<Store, Out> {
    fn new(store: Store, members: usize, finish: fn(Store) -> Option<Out>, made: &'static Location<'static>) -> Rc<Self> {
        Rc::new(Self {
            store: RefCell::new(store),
            missing: Cell::new(members),
            finish,
            slot: Slot::new(made),
            members: RefCell::new(Vec::new()),
            kept: Cell::new(None),
            filling: Cell::new(true),
        })
    }

    /// Puts member `index` in; `keep` stores its value.
    fn member<T: 'static>(self: &Rc<Self>, index: usize, member: Deferred<T>, keep: impl FnOnce(&mut Store, T) + 'static) {
        let list = self.clone();
        let made = self.slot.made();
        let waiting = member.link(OnBoth(move |outcome: Outcome<T>| list.came(index, outcome, keep)), made);
        if let Some(source) = waiting.source() {
            self.members.borrow_mut().push((index, source));
        }
        waiting.detach();
    }

    fn came<T>(&self, index: usize, outcome: Outcome<T>, keep: impl FnOnce(&mut Store, T)) -> Outcome<()> {
        self.members.borrow_mut().retain(|(at, _)| *at != index);
        match outcome {
            Ok(value) if self.slot.is_fired() => drop_guarded(value),
            Ok(value) => {
                keep(&mut self.store.borrow_mut(), value);
                self.missing.set(self.missing.get() - 1);
                self.finish_if_complete();
            }
            // the list has failed already: this one goes on down the member's own chain, whose end reports it
            Err(failure) if self.slot.is_fired() => return Err(failure),
            Err(failure) => self.fire(Err(FirstError { index, failure }.into())),
        }
        Ok(())
    }

    fn finish_if_complete(&self) {
        if self.missing.get() == 0 && !self.filling.get() && !self.slot.is_fired() {
            let store = self.store.take();
            if let Some(all) = (self.finish)(store) {
                self.fire(Ok(all));
            }
        }
    }

    fn fire(&self, outcome: Outcome<Out>) {
        if let Some(next) = self.slot.fill(outcome) {
            run(next);
        }
    }

    /// All members are in.
    fn done(self: Rc<Self>) -> Deferred<Out> {
        self.filling.set(false);
        self.finish_if_complete();
        if let Some(why) = self.kept.take() {
            cancel_from(self.clone(), &why);
        }
        Deferred::pending(self)
    }
}

impl<Store: 'static, Out: 'static> Upstream for Gathering<Store, Out> {
    fn upstream(&self) -> Up {
        if self.slot.is_fired() {
            Up::Over
        } else if self.filling.get() {
            Up::Busy
        } else {
            Up::Many(self.members.borrow().iter().map(|(_, member)| member.clone()).collect())
        }
    }

    fn keep_cancel(&self, why: &CancelledError) {
        self.kept.set(Some(Box::new(why.clone())));
    }

    fn force(self: Rc<Self>, _why: &CancelledError) {
        // never asked: a list passes a cancel on to its members
    }
}

impl<Store: 'static, Out: 'static> Source<Out> for Gathering<Store, Out> {
    fn slot(&self) -> &Slot<Out> {
        &self.slot
    }
}

/// What [`gather_results`] takes: an array, a vector, or a tuple of up to eight Deferreds of different types.
#[diagnostic::on_unimplemented(
    message = "`gather_results` cannot wait for `{Self}`",
    label = "an array, a `Vec` or a tuple of Deferreds is wanted here",
    note = "of an iterator make a vector: `.collect::<Vec<_>>()`"
)]
pub trait Gather {
    /// The values, in the same shape.
    type Values: 'static;

    #[doc(hidden)]
    fn gather(self, made: &'static Location<'static>) -> Deferred<Self::Values>;
}

/// Waits for all and gives their values, in the order and the shape in which the Deferreds were given.
///
/// ```
/// use twistor::defer::{Deferred, gather_results};
///
/// let both = gather_results((Deferred::succeed(1), Deferred::succeed("two")));
/// both.map(|(one, two)| assert_eq!((one, two), (1, "two"))).detach();
/// ```
///
/// # Errors
/// The first failure fails the list at once with [`FirstError`]. The other members run on; a failure that one of them has later is reported.
///
/// # Cancellation
/// Goes to every member that has not fired.
#[doc(alias = "gatherResults")]
#[track_caller]
pub fn gather_results<G: Gather>(deferreds: G) -> Deferred<G::Values> {
    deferreds.gather(Location::caller())
}

impl<T: 'static> Gather for Vec<Deferred<T>> {
    type Values = Vec<T>;

    fn gather(self, made: &'static Location<'static>) -> Deferred<Vec<T>> {
        let empty: Vec<Option<T>> = self.iter().map(|_| None).collect();
        let list = Gathering::new(empty, self.len(), |all| all.into_iter().collect::<Option<Vec<T>>>(), made);
        for (index, member) in self.into_iter().enumerate() {
            list.member(index, member, move |store, value| store[index] = Some(value));
        }
        list.done()
    }
}

impl<T: 'static, const N: usize> Gather for [Deferred<T>; N] {
    type Values = [T; N];

    fn gather(self, made: &'static Location<'static>) -> Deferred<[T; N]> {
        let empty: Vec<Option<T>> = self.iter().map(|_| None).collect();
        let list = Gathering::new(empty, N, |all| all.into_iter().collect::<Option<Vec<T>>>().and_then(|all| all.try_into().ok()), made);
        for (index, member) in self.into_iter().enumerate() {
            list.member(index, member, move |store, value| store[index] = Some(value));
        }
        list.done()
    }
}

macro_rules! gather_tuple {
    ($count:literal: $($name:ident $index:tt),+) => {
        impl<$($name: 'static),+> Gather for ($(Deferred<$name>,)+) {
            type Values = ($($name,)+);

            fn gather(self, made: &'static Location<'static>) -> Deferred<Self::Values> {
                let list = Gathering::new(
                    <($(Option<$name>,)+)>::default(),
                    $count,
                    |all| Some(($(all.$index?,)+)),
                    made,
                );
                $(list.member($index, self.$index, |store, value| store.$index = Some(value));)+
                list.done()
            }
        }
    };
}

gather_tuple!(1: A 0);
gather_tuple!(2: A 0, B 1);
gather_tuple!(3: A 0, B 1, C 2);
gather_tuple!(4: A 0, B 1, C 2, D 3);
gather_tuple!(5: A 0, B 1, C 2, D 3, E 4);
gather_tuple!(6: A 0, B 1, C 2, D 3, E 4, F 5);
gather_tuple!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
gather_tuple!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

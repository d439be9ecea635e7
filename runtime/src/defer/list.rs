//! `gather_results`: waiting for all of several Deferreds.
use super::{
    chain::Outcome,
    deferred::Deferred,
    gathering::{Decision, Gathering},
};
use crate::{failure::Failure, sealed::Sealed};
use std::{error::Error, fmt, panic::Location};

/// The failure of the first member of a list to fail, with the member's index.
#[derive(Clone)]
pub struct FirstError {
    index: usize,
    failure: Failure,
}

impl FirstError {
    /// Returns the member's index in the list, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the member's failure.
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
    /// Returns whether both are the same failure of the same member.
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

/// Stores a value; the first failure fires the list.
pub(super) fn all_or_first<T, Out>(
    index: usize,
    outcome: Outcome<T>,
    keep: impl FnOnce(T),
) -> Decision<Out> {
    match outcome {
        Ok(value) => {
            keep(value);
            Decision::Wait
        }
        Err(failure) => Decision::Fire(Err(FirstError { index, failure }.into())),
    }
}

/// Creates the failure of an unfinished list, which cannot occur: a list finishes when every member
/// has fired.
fn incomplete() -> Failure {
    Failure::message("a member of the list is missing")
}

/// The argument of [`gather_results`]: an array, a vector, or a tuple of up to eight Deferreds of
/// different types.
#[diagnostic::on_unimplemented(
    message = "`gather_results` cannot wait for `{Self}`",
    label = "expected an array, a `Vec` or a tuple of Deferreds",
    note = "collect an iterator into a vector: `.collect::<Vec<_>>()`"
)]
pub trait Gather: Sealed {
    /// The type of the values, in the same shape.
    type Values: 'static;

    #[doc(hidden)]
    fn gather(self, created_at: &'static Location<'static>) -> Deferred<Self::Values>;
}

/// Waits for all Deferreds and returns their values, in the same order and shape.
///
/// ```
/// use twistor::defer::{Deferred, gather_results};
///
/// let both = gather_results((Deferred::succeed(1), Deferred::succeed("two")));
/// assert_eq!(both.take_result().unwrap().unwrap(), (1, "two"));
/// ```
///
/// # Errors
/// The first failure fails the list at once with [`FirstError`]. The other members continue; a
/// later failure of one of them is reported.
///
/// # Cancellation
/// A cancellation goes to every member that has not fired.
#[doc(alias = "gatherResults")]
#[track_caller]
pub fn gather_results<G: Gather>(deferreds: G) -> Deferred<G::Values> {
    deferreds.gather(Location::caller())
}

impl<T: 'static> Sealed for Vec<Deferred<T>> {}

impl<T: 'static> Gather for Vec<Deferred<T>> {
    type Values = Vec<T>;

    fn gather(self, created_at: &'static Location<'static>) -> Deferred<Vec<T>> {
        let empty: Vec<Option<T>> = self.iter().map(|_| None).collect();
        let list = Gathering::new(
            empty,
            self.len(),
            |all| all.into_iter().collect::<Option<Vec<T>>>().ok_or_else(incomplete),
            created_at,
        );
        for (index, member) in self.into_iter().enumerate() {
            list.member(index, member, move |store, outcome| {
                all_or_first(index, outcome, |value| store[index] = Some(value))
            });
        }
        list.done()
    }
}

impl<T: 'static, const N: usize> Sealed for [Deferred<T>; N] {}

impl<T: 'static, const N: usize> Gather for [Deferred<T>; N] {
    type Values = [T; N];

    fn gather(self, created_at: &'static Location<'static>) -> Deferred<[T; N]> {
        let empty: Vec<Option<T>> = self.iter().map(|_| None).collect();
        let list = Gathering::new(
            empty,
            N,
            |all| {
                all.into_iter()
                    .collect::<Option<Vec<T>>>()
                    .and_then(|all| all.try_into().ok())
                    .ok_or_else(incomplete)
            },
            created_at,
        );
        for (index, member) in self.into_iter().enumerate() {
            list.member(index, member, move |store, outcome| {
                all_or_first(index, outcome, |value| store[index] = Some(value))
            });
        }
        list.done()
    }
}

macro_rules! gather_tuple {
    ($count:literal: $($name:ident $index:tt),+) => {
        impl<$($name: 'static),+> Sealed for ($(Deferred<$name>,)+) {}

        impl<$($name: 'static),+> Gather for ($(Deferred<$name>,)+) {
            type Values = ($($name,)+);

            fn gather(self, created_at: &'static Location<'static>) -> Deferred<Self::Values> {
                let list = Gathering::new(
                    <($(Option<$name>,)+)>::default(),
                    $count,
                    |all| (move || Some(($(all.$index?,)+)))().ok_or_else(incomplete),
                    created_at,
                );
                $(list.member($index, self.$index, |store, outcome| {
                    all_or_first($index, outcome, |value| store.$index = Some(value))
                });)+
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

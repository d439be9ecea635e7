//! `DeferredList` with its modes, and `race`.
use super::{
    chain::Outcome,
    deferred::Deferred,
    gathering::{Decision, Gathering},
    list::all_or_first,
};
use crate::{
    error::{CancelledBy, CancelledError, EmptyListError},
    failure::Failure,
};
use std::{error::Error, fmt, panic::Location};

/// Every member of a list has failed; the error holds all failures, in the order of the list.
#[derive(Debug, Clone)]
pub struct FailureGroup {
    failures: Vec<Failure>,
}

impl FailureGroup {
    /// Returns the failures, in the order of the list.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }
}

impl fmt::Display for FailureGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all {} Deferreds failed", self.failures.len())?;
        for (index, failure) in self.failures.iter().enumerate() {
            write!(f, "{} #{index} {failure}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

impl Error for FailureGroup {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failures.first().map(|failure| failure.value() as &(dyn Error + 'static))
    }
}

/// Waits for several Deferreds of one type, in one of three ways.
///
/// ```
/// use twistor::{defer::{Deferred, DeferredList}, failure::Failure};
///
/// let list = DeferredList::new([Deferred::succeed(1), Deferred::fail(Failure::message("two"))]);
/// list.wait_for_all()
///     .map(|results| {
///         assert_eq!(*results[0].as_ref().unwrap(), 1);
///         assert_eq!(results[1].as_ref().unwrap_err().to_string(), "two");
///     })
///     .detach();
/// ```
///
/// The list owns its members. A member's failure after the list has fired is reported, unless
/// [`consume_errors`](Self::consume_errors) was called.
///
/// # Cancellation
/// A cancellation goes to each member that has not fired, and never to the list itself: the list
/// fires with what the members make of it. A list that has fired does not pass it on.
#[must_use = "choose what to wait for: `wait_for_all`, `fire_on_one_callback` or \
    `fire_on_one_errback`"]
pub struct DeferredList<T: 'static> {
    members: Vec<Deferred<T>>,
    consume_errors: bool,
}

impl<T: 'static> DeferredList<T> {
    /// Creates a list of `members`.
    pub fn new(members: impl IntoIterator<Item = Deferred<T>>) -> Self {
        Self { members: members.into_iter().collect(), consume_errors: false }
    }

    /// Drops failures that come after the list has fired, instead of reporting them.
    #[doc(alias = "consumeErrors")]
    pub fn consume_errors(self) -> Self {
        Self { consume_errors: true, ..self }
    }

    /// Fires when every member has fired, with their results in order. An empty list fires at once.
    #[track_caller]
    pub fn wait_for_all(self) -> Deferred<Vec<Result<T, Failure>>> {
        self.gather(all_results, |store, index, outcome| {
            store[index] = Some(outcome);
            Decision::Wait
        })
    }

    /// Fires with the value of the first member to succeed, and its index.
    ///
    /// # Errors
    /// Fails with [`FailureGroup`] if all members fail, and at once with [`EmptyListError`] if
    /// there are none.
    #[doc(alias = "fireOnOneCallback")]
    #[track_caller]
    pub fn fire_on_one_callback(self) -> Deferred<(T, usize)> {
        if self.members.is_empty() {
            return Deferred::fail(EmptyListError::new());
        }
        self.gather(all_failed, first_value)
    }

    /// Fires when every member has succeeded, with their values in order.
    ///
    /// # Errors
    /// The first failure fails the list at once with [`FirstError`](super::FirstError).
    #[doc(alias = "fireOnOneErrback")]
    #[track_caller]
    pub fn fire_on_one_errback(self) -> Deferred<Vec<Result<T, Failure>>> {
        self.gather(all_results, |store, index, outcome| {
            all_or_first(index, outcome, |value| store[index] = Some(Ok(value)))
        })
    }

    #[track_caller]
    fn gather<Out: 'static>(
        self,
        finish: fn(Store<T>) -> Outcome<Out>,
        decide: Decide<T, Out>,
    ) -> Deferred<Out> {
        let list =
            Gathering::new(empty(&self.members), self.members.len(), finish, Location::caller());
        if self.consume_errors {
            list.silence();
        }
        for (index, member) in self.members.into_iter().enumerate() {
            list.member(index, member, move |store, outcome| decide(store, index, outcome));
        }
        list.done()
    }
}

impl<T: 'static> fmt::Debug for DeferredList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<DeferredList of {}>", self.members.len())
    }
}

/// The outcomes so far, by member.
type Store<T> = Vec<Option<Outcome<T>>>;
type Decide<T, Out> = fn(&mut Store<T>, usize, Outcome<T>) -> Decision<Out>;

fn empty<T>(members: &[Deferred<T>]) -> Store<T> {
    members.iter().map(|_| None).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "the other modes of a list can fail")]
fn all_results<T>(store: Store<T>) -> Outcome<Vec<Outcome<T>>> {
    Ok(store.into_iter().flatten().collect())
}

fn first_value<T>(store: &mut Store<T>, index: usize, outcome: Outcome<T>) -> Decision<(T, usize)> {
    match outcome {
        Ok(value) => Decision::Fire(Ok((value, index))),
        failed => {
            store[index] = Some(failed);
            Decision::Wait
        }
    }
}

fn all_failed<T, Out>(store: Store<T>) -> Outcome<Out> {
    let failures = store.into_iter().flatten().filter_map(Result::err).collect();
    Err(FailureGroup { failures }.into())
}

/// Fires with the first value and cancels the other members, whose later results are dropped
/// silently.
///
/// ```
/// use twistor::defer::{Deferred, race};
///
/// let (slow, _resolver) = Deferred::new();
/// let first = race([slow, Deferred::succeed("fast")]);
/// assert_eq!(first.take_result().unwrap().unwrap(), (1, "fast"));
/// ```
///
/// # Errors
/// Fails with [`FailureGroup`] if all members fail, and at once with [`EmptyListError`] if there
/// are none.
///
/// # Cancellation
/// A cancellation goes to each member that has not fired.
#[track_caller]
pub fn race<T: 'static>(members: impl IntoIterator<Item = Deferred<T>>) -> Deferred<(usize, T)> {
    let place = Location::caller();
    let members: Vec<_> = members.into_iter().collect();
    if members.is_empty() {
        return Deferred::fail(EmptyListError::new());
    }
    let list = Gathering::new(empty(&members), members.len(), all_failed, place);
    list.silence();
    for (index, member) in members.into_iter().enumerate() {
        list.member(index, member, move |store, outcome| first_value(store, index, outcome));
    }
    let losers = list.clone();
    list.done().map(move |(value, index)| {
        losers.cancel_members(&CancelledError::at(CancelledBy::Race, place));
        (index, value)
    })
}

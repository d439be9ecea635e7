//! A random program: its operations, and how it is generated.
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Make(Canceller),
    Add(Side, usize, Act),
    Gate(usize),
    Pause(usize),
    Unpause(usize),
    OpenForGood(usize),
    TakeHandle(usize),
    Chain(usize, usize),
    Cancel(usize),
    DropTail(usize),
    Take(usize),
    Do(Effect),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Canceller {
    None,
    Silent,
    Value,
    Failure,
    Panics,
}

/// The outcomes that an added function receives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Value,
    Failure,
    Both,
}

/// What an added function does: perhaps an operation on another Deferred, then its result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Value,
    Fail,
    Panic,
    /// The value plus one, or the failure unchanged.
    Pass,
    Return(usize),
    Effect(Effect),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    Fire(usize),
    Fail(usize),
    Abandon(usize),
    CancelHandle(usize),
}

pub(super) fn effect() -> impl Strategy<Value = Effect> {
    prop_oneof![
        4 => (0..8usize).prop_map(Effect::Fire),
        2 => (0..8usize).prop_map(Effect::Fail),
        1 => (0..8usize).prop_map(Effect::Abandon),
        1 => (0..4usize).prop_map(Effect::CancelHandle),
    ]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let canceller = prop_oneof![
        4 => Just(Canceller::None),
        1 => Just(Canceller::Silent),
        1 => Just(Canceller::Value),
        1 => Just(Canceller::Failure),
        1 => Just(Canceller::Panics),
    ];
    let side = prop_oneof![Just(Side::Value), Just(Side::Failure), Just(Side::Both)];
    let act = prop_oneof![
        3 => Just(Act::Value),
        1 => Just(Act::Fail),
        1 => Just(Act::Panic),
        2 => Just(Act::Pass),
        3 => (0..8usize).prop_map(Act::Return),
        3 => effect().prop_map(Act::Effect),
    ];
    let one = 0..8usize;
    prop_oneof![
        4 => canceller.prop_map(Op::Make),
        8 => (side, one.clone(), act).prop_map(|(side, at, act)| Op::Add(side, at, act)),
        2 => one.clone().prop_map(Op::Gate),
        2 => one.clone().prop_map(Op::Pause),
        2 => one.clone().prop_map(Op::Unpause),
        1 => one.clone().prop_map(Op::OpenForGood),
        2 => one.clone().prop_map(Op::TakeHandle),
        2 => (one.clone(), one.clone()).prop_map(|(from, to)| Op::Chain(from, to)),
        2 => one.clone().prop_map(Op::Cancel),
        1 => one.clone().prop_map(Op::DropTail),
        1 => one.prop_map(Op::Take),
        6 => effect().prop_map(Op::Do),
    ]
}

/// A failure as both sides see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    User,
    Cancelled,
    Abandoned,
    Panicked,
}

/// Picks one of a program's objects, modulo their number.
pub(super) fn pick<T>(from: &mut [Option<T>], at: usize) -> Option<T> {
    if from.is_empty() { None } else { from[at % from.len()].take() }
}

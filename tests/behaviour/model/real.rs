//! Runs the program on twistor.
use super::program::{Act, Canceller, Effect, Op, Side, Why, pick};
use crate::support::Log;
use std::{cell::RefCell, rc::Rc};
use twistor::{
    defer::{CancelHandle, Deferred, Pause, Resolver},
    error::{AbandonedError, CancelledError, Panicked},
    failure::Failure,
    report,
};

fn why(failure: &Failure) -> Why {
    if failure.check::<CancelledError>() {
        Why::Cancelled
    } else if failure.check::<AbandonedError>() {
        Why::Abandoned
    } else if failure.check::<Panicked>() {
        Why::Panicked
    } else {
        Why::User
    }
}

/// The state of the program on twistor.
#[derive(Default)]
struct Real {
    tails: Vec<Option<Deferred<u32>>>,
    resolvers: Vec<Option<Resolver<u32>>>,
    pauses: Vec<Option<Pause>>,
    handles: Vec<CancelHandle>,
    added: usize,
}

type World = Rc<RefCell<Real>>;

fn make_real(canceller: Canceller, index: usize, log: &Log) -> (Deferred<u32>, Resolver<u32>) {
    let log = log.clone();
    match canceller {
        Canceller::None => Deferred::new(),
        _ => Deferred::with_canceller(move |right| {
            log.add(format!("canceller {index}"));
            match canceller {
                Canceller::Value => right.callback(99),
                Canceller::Failure => right.errback(Failure::message("no")),
                Canceller::Panics => std::panic::resume_unwind(Box::new("no")),
                Canceller::None | Canceller::Silent => {}
            }
        }),
    }
}

fn effect_real(world: &World, effect: Effect) {
    match effect {
        Effect::Fire(at) => {
            let resolver = pick(&mut world.borrow_mut().resolvers, at);
            if let Some(resolver) = resolver {
                resolver.callback(7);
            }
        }
        Effect::Fail(at) => {
            let resolver = pick(&mut world.borrow_mut().resolvers, at);
            if let Some(resolver) = resolver {
                resolver.errback(Failure::message("no"));
            }
        }
        Effect::Abandon(at) => {
            let resolver = pick(&mut world.borrow_mut().resolvers, at);
            drop(resolver);
        }
        Effect::CancelHandle(at) => {
            let handles = world.borrow().handles.clone();
            if let Some(handle) = handles.get(at) {
                handle.cancel();
            }
        }
    }
}

/// What an added function of Deferred `chain` does with its outcome.
fn act_real(
    world: &World,
    log: &Log,
    label: usize,
    chain: usize,
    act: Act,
    got: Result<u32, Failure>,
) -> Deferred<u32> {
    log.add(format!("{label} got {:?}", got.as_ref().map_err(why)));
    match act {
        Act::Value => Deferred::succeed(1),
        Act::Fail => Deferred::fail(Failure::message("no")),
        Act::Panic => std::panic::resume_unwind(Box::new("no")),
        Act::Pass => match got {
            Ok(value) => Deferred::succeed(value + 1),
            Err(failure) => Deferred::fail(failure),
        },
        Act::Return(other) => {
            let tails = world.borrow().tails.len();
            let inner = if other % tails > chain {
                pick(&mut world.borrow_mut().tails, other)
            } else {
                None
            };
            inner.unwrap_or_else(|| Deferred::succeed(2))
        }
        Act::Effect(effect) => {
            effect_real(world, effect);
            Deferred::succeed(3)
        }
    }
}

pub(super) fn run(program: &[Op]) -> Vec<String> {
    let log = Log::new();
    let reports = log.clone();
    let _sink =
        report::push_sink(move |report| reports.add(format!("report {:?}", why(&report.failure))));
    let world = World::default();
    let put = |at: usize, tail: Option<Deferred<u32>>| world.borrow_mut().tails[at] = tail;
    for op in program {
        let count = world.borrow().tails.len();
        let take = |at: usize| {
            (count > 0)
                .then(|| pick(&mut world.borrow_mut().tails, at).map(|tail| (at % count, tail)))
                .flatten()
        };
        match *op {
            Op::Make(canceller) => {
                let (tail, resolver) = make_real(canceller, count, &log);
                world.borrow_mut().tails.push(Some(tail));
                world.borrow_mut().resolvers.push(Some(resolver));
            }
            Op::Add(side, at, act) => {
                if let Some((chain, tail)) = take(at) {
                    let label = world.borrow().added;
                    world.borrow_mut().added += 1;
                    let (inside, seen) = (world.clone(), log.clone());
                    let run = move |got| act_real(&inside, &seen, label, chain, act, got);
                    let next = match side {
                        Side::Value => tail.add_callback(move |value| run(Ok(value))),
                        Side::Failure => tail.add_errback(move |failure| run(Err(failure))),
                        Side::Both => tail.add_both(run),
                    };
                    put(chain, Some(next));
                }
            }
            Op::Gate(at) => {
                if let Some((chain, tail)) = take(at) {
                    let (next, pause) = tail.pausable();
                    world.borrow_mut().pauses.push(Some(pause));
                    put(chain, Some(next));
                }
            }
            Op::Pause(at) | Op::Unpause(at) => {
                let pauses = world.borrow().pauses.clone();
                if let Some(Some(pause)) = pauses.get(at) {
                    if matches!(op, Op::Pause(_)) { pause.pause() } else { pause.unpause() }
                }
            }
            Op::OpenForGood(at) => {
                let pause = pick(&mut world.borrow_mut().pauses, at);
                drop(pause);
            }
            Op::TakeHandle(at) => {
                if let Some((chain, tail)) = take(at) {
                    world.borrow_mut().handles.push(tail.canceller());
                    put(chain, Some(tail));
                }
            }
            Op::Chain(from, to) => {
                if count > 0
                    && from % count > to % count
                    && world.borrow().resolvers[to % count].is_some()
                    && let Some((_, tail)) = take(from)
                {
                    let resolver = pick(&mut world.borrow_mut().resolvers, to).unwrap();
                    tail.chain(resolver);
                }
            }
            Op::Cancel(at) => {
                if let Some((chain, tail)) = take(at) {
                    let handle = tail.canceller();
                    put(chain, Some(tail));
                    handle.cancel();
                }
            }
            Op::DropTail(at) => drop(take(at)),
            Op::Take(at) => {
                if let Some((chain, tail)) = take(at) {
                    match tail.take_result() {
                        Ok(result) => log.add(format!(
                            "{chain} took {:?}",
                            result.map_err(|failure| why(&failure))
                        )),
                        Err(tail) => put(chain, Some(tail)),
                    }
                }
            }
            Op::Do(effect) => effect_real(&world, effect),
        }
    }
    let tails = std::mem::take(&mut world.borrow_mut().tails);
    let count = tails.len();
    // the drops may run callbacks that look for tails
    world.borrow_mut().tails.resize_with(count, || None);
    drop(tails);
    for at in 0..count {
        effect_real(&world, Effect::Abandon(at));
    }
    let pauses = std::mem::take(&mut world.borrow_mut().pauses);
    drop(pauses);
    log.take()
}

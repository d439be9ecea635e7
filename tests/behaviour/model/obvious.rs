//! The model: a node for each Deferred ever created. Every node that can continue does, until none
//! can.
use super::program::{Act, Canceller, Effect, Op, Side, Why, pick};

/// An outcome in the model: a failure says whether it has passed anything since its creation.
type Out = Result<u32, (Why, bool)>;

enum Kind {
    Leaf { canceller: Canceller, cancelled: bool, chained: Option<usize> },
    Add { side: Side, act: Act, label: usize, chain: usize, up: usize },
    Follow { inner: usize },
    Gate { up: usize, pauses: u32, stored: Option<Out> },
    Link { up: usize, to: usize },
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact of its own; the model is to be obvious"
)]
struct Node {
    kind: Kind,
    /// The node has its outcome, taken or not.
    fired: bool,
    outcome: Option<Out>,
    /// A function of the node is running.
    running: bool,
    /// A cancellation arrived while the function ran.
    kept: bool,
    /// The node has a consumer.
    waited: bool,
    /// The program holds the Deferred.
    held: bool,
}

/// The model: a node for each Deferred ever created. Every node that can continue does, until none
/// can.
#[derive(Default)]
pub(super) struct Model {
    nodes: Vec<Node>,
    pub(super) log: Vec<String>,
    tails: Vec<Option<usize>>,
    resolvers: Vec<Option<usize>>,
    pauses: Vec<Option<usize>>,
    handles: Vec<Option<usize>>,
    added: usize,
}

impl Model {
    fn node(&mut self, kind: Kind, held: bool) -> usize {
        self.nodes.push(Node {
            kind,
            fired: false,
            outcome: None,
            running: false,
            kept: false,
            waited: false,
            held,
        });
        self.nodes.len() - 1
    }

    /// Adds a node to `up`.
    fn behind(&mut self, up: usize, kind: Kind, held: bool) -> usize {
        self.nodes[up].held = false;
        self.nodes[up].waited = true;
        self.node(kind, held)
    }

    fn up(&self, at: usize) -> Option<usize> {
        match self.nodes[at].kind {
            Kind::Leaf { .. } => None,
            Kind::Add { up, .. } | Kind::Gate { up, .. } | Kind::Link { up, .. } => Some(up),
            Kind::Follow { inner } => Some(inner),
        }
    }

    fn go_on(&mut self) {
        let ready = |model: &Self, at: usize| {
            let node = &model.nodes[at];
            !node.fired
                && !node.running
                && model.up(at).is_some_and(|up| model.nodes[up].outcome.is_some())
        };
        while let Some(at) = (0..self.nodes.len()).find(|at| ready(self, *at)) {
            self.step(at);
        }
    }

    fn step(&mut self, at: usize) {
        let up = self.up(at).unwrap();
        let out = self.nodes[up].outcome.take().unwrap();
        self.nodes[at].running = true;
        let given = match self.nodes[at].kind {
            Kind::Leaf { .. } => unreachable!("a leaf waits for nobody"),
            Kind::Follow { .. } => Ok(out),
            Kind::Gate { .. } => {
                self.nodes[at].running = false;
                return self.arrive(at, out);
            }
            Kind::Link { to, .. } => {
                self.nodes[at].fired = true;
                return self.fire(to, out);
            }
            Kind::Add { side, act, label, chain, .. } => match (side, out) {
                (Side::Value, Err((why, _))) => Ok(Err((why, true))),
                (Side::Failure, Ok(value)) => Ok(Ok(value)),
                _ => self.act(label, chain, act, out),
            },
        };
        self.nodes[at].running = false;
        let kept = std::mem::take(&mut self.nodes[at].kept);
        match given {
            Ok(out) => self.fill(at, out),
            Err(inner) => {
                self.nodes[inner].held = false;
                self.nodes[inner].waited = true;
                self.nodes[at].kind = Kind::Follow { inner };
                if kept {
                    self.cancel(inner);
                }
            }
        }
    }

    /// The result of an added function: an outcome, or another Deferred.
    fn act(&mut self, label: usize, chain: usize, act: Act, got: Out) -> Result<Out, usize> {
        self.log.push(format!("{label} got {:?}", got.map_err(|(why, _)| why)));
        match act {
            Act::Value => Ok(Ok(1)),
            Act::Fail => Ok(Err((Why::User, false))),
            Act::Panic => Ok(Err((Why::Panicked, false))),
            Act::Pass => Ok(got.map(|value| value + 1).map_err(|(why, _)| (why, true))),
            Act::Return(other) => {
                let inner = if other % self.tails.len() > chain {
                    pick(&mut self.tails, other)
                } else {
                    None
                };
                inner.map_or(Ok(Ok(2)), Err)
            }
            Act::Effect(effect) => {
                self.effect(effect);
                Ok(Ok(3))
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        let (Effect::Fire(at) | Effect::Fail(at) | Effect::Abandon(at)) = effect else {
            let Effect::CancelHandle(at) = effect else { unreachable!() };
            if let Some(Some(node)) = self.handles.get(at).copied() {
                self.cancel(node);
            }
            return;
        };
        let out = match effect {
            Effect::Fire(_) => Ok(7),
            Effect::Fail(_) => Err((Why::User, false)),
            _ => Err((Why::Abandoned, false)),
        };
        if let Some(leaf) = pick(&mut self.resolvers, at) {
            self.fire(leaf, out);
        }
    }

    fn fire(&mut self, leaf: usize, out: Out) {
        let Kind::Leaf { cancelled, .. } = self.nodes[leaf].kind else { unreachable!() };
        if !cancelled {
            self.fill(leaf, out);
        }
        self.go_on();
    }

    /// Sets the outcome of a node; at the end of an unheld chain it is discarded.
    fn fill(&mut self, at: usize, out: Out) {
        let node = &mut self.nodes[at];
        if node.fired {
            return;
        }
        node.fired = true;
        node.outcome = Some(out);
        self.end_if_alone(at);
    }

    fn end_if_alone(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.waited || node.held {
            return;
        }
        let stored =
            if let Kind::Gate { stored, .. } = &mut node.kind { stored.take() } else { None };
        if let Some(Err((why, touched))) = node.outcome.take().or(stored)
            && why != Why::Cancelled
            && (why != Why::Abandoned || touched)
        {
            self.log.push(format!("report {why:?}"));
        }
    }

    fn arrive(&mut self, gate: usize, out: Out) {
        let Kind::Gate { pauses, stored, .. } = &mut self.nodes[gate].kind else { unreachable!() };
        if *pauses > 0 {
            *stored = Some(out);
            // a walk finds nothing to cancel
            self.nodes[gate].fired = true;
            self.end_if_alone(gate);
        } else {
            self.fill(gate, out);
        }
    }

    fn pause(&mut self, gate: usize) {
        let Node { kind: Kind::Gate { pauses, stored, .. }, outcome, .. } = &mut self.nodes[gate]
        else {
            unreachable!()
        };
        *pauses += 1;
        if let Some(out) = outcome.take() {
            *stored = Some(out);
        }
    }

    fn unpause(&mut self, gate: usize, all: bool) {
        let Kind::Gate { pauses, stored, .. } = &mut self.nodes[gate].kind else { unreachable!() };
        *pauses = if all { 0 } else { pauses.saturating_sub(1) };
        if *pauses == 0
            && let Some(out) = stored.take()
        {
            self.nodes[gate].fired = false;
            self.fill(gate, out);
            self.go_on();
        }
    }

    fn cancel(&mut self, from: usize) {
        let mut at = from;
        loop {
            let node = &mut self.nodes[at];
            if node.fired {
                return;
            }
            if node.running {
                node.kept = true;
                return;
            }
            match node.kind {
                Kind::Leaf { chained: Some(link), .. } => at = link,
                Kind::Leaf { canceller, ref mut cancelled, .. } => {
                    if std::mem::replace(cancelled, true) {
                        return;
                    }
                    let out = self.run_canceller(at, canceller);
                    self.fill(at, out);
                    return self.go_on();
                }
                Kind::Follow { inner } => at = inner,
                Kind::Add { up, .. } | Kind::Gate { up, .. } | Kind::Link { up, .. } => at = up,
            }
        }
    }

    fn run_canceller(&mut self, leaf: usize, canceller: Canceller) -> Out {
        if !matches!(canceller, Canceller::None) {
            // the n-th Deferred is the n-th leaf
            let number = self.nodes[..leaf]
                .iter()
                .filter(|node| matches!(node.kind, Kind::Leaf { .. }))
                .count();
            self.log.push(format!("canceller {number}"));
        }
        match canceller {
            Canceller::None | Canceller::Silent => Err((Why::Cancelled, false)),
            Canceller::Value => Ok(99),
            Canceller::Failure => Err((Why::User, false)),
            Canceller::Panics => {
                self.log.push("report Panicked".to_owned());
                Err((Why::Cancelled, false))
            }
        }
    }

    fn drop_tail(&mut self, tail: usize) {
        self.nodes[tail].held = false;
        self.end_if_alone(tail);
    }

    pub(super) fn run(&mut self, program: &[Op]) {
        for op in program {
            self.one(*op);
            self.go_on();
        }
        let count = self.tails.len();
        let tails = std::mem::take(&mut self.tails);
        self.tails.resize(count, None);
        for tail in tails.into_iter().flatten() {
            self.drop_tail(tail);
        }
        for at in 0..count {
            self.effect(Effect::Abandon(at));
        }
        for gate in std::mem::take(&mut self.pauses).into_iter().flatten() {
            self.unpause(gate, true);
        }
    }

    fn one(&mut self, op: Op) {
        let count = self.tails.len();
        let tail = |model: &Self, at: usize| {
            (count > 0).then(|| model.tails[at % count].map(|tail| (at % count, tail))).flatten()
        };
        match op {
            Op::Make(canceller) => {
                let leaf =
                    self.node(Kind::Leaf { canceller, cancelled: false, chained: None }, true);
                self.tails.push(Some(leaf));
                self.resolvers.push(Some(leaf));
            }
            Op::Add(side, at, act) => {
                if let Some((chain, up)) = tail(self, at) {
                    let label = self.added;
                    self.added += 1;
                    // the Deferred has been moved into the call that adds, so a function that runs
                    // at once does not find it
                    self.tails[chain] = None;
                    let fired = self.nodes[up].outcome.is_some();
                    let next = self.behind(up, Kind::Add { side, act, label, chain, up }, true);
                    self.go_on();
                    // what a function that runs at once returns is the result itself
                    let next = match self.nodes[next].kind {
                        Kind::Follow { inner } if fired && !self.nodes[next].fired => {
                            self.nodes[next].fired = true;
                            self.nodes[inner].waited = false;
                            self.nodes[inner].held = true;
                            inner
                        }
                        _ => next,
                    };
                    self.tails[chain] = Some(next);
                }
            }
            Op::Gate(at) => {
                if let Some((chain, up)) = tail(self, at) {
                    let gate = self.behind(up, Kind::Gate { up, pauses: 0, stored: None }, true);
                    self.tails[chain] = Some(gate);
                    self.pauses.push(Some(gate));
                }
            }
            Op::Pause(at) => {
                if let Some(Some(gate)) = self.pauses.get(at).copied() {
                    self.pause(gate);
                }
            }
            Op::Unpause(at) => {
                if let Some(Some(gate)) = self.pauses.get(at).copied() {
                    self.unpause(gate, false);
                }
            }
            Op::OpenForGood(at) => {
                if let Some(gate) = pick(&mut self.pauses, at) {
                    self.unpause(gate, true);
                }
            }
            Op::TakeHandle(at) => {
                if let Some((_, node)) = tail(self, at) {
                    self.handles.push(Some(node));
                }
            }
            Op::Chain(from, to) => {
                if count > 0
                    && from % count > to % count
                    && self.resolvers[to % count].is_some()
                    && let Some((chain, up)) = tail(self, from)
                {
                    self.tails[chain] = None;
                    let to = pick(&mut self.resolvers, to).unwrap();
                    let link = self.behind(up, Kind::Link { up, to }, false);
                    if let Kind::Leaf { chained, .. } = &mut self.nodes[to].kind {
                        *chained = Some(link);
                    }
                }
            }
            Op::Cancel(at) => {
                if let Some((_, node)) = tail(self, at) {
                    self.cancel(node);
                }
            }
            Op::DropTail(at) => {
                if let Some((chain, node)) = tail(self, at) {
                    self.tails[chain] = None;
                    self.drop_tail(node);
                }
            }
            Op::Take(at) => {
                if let Some((chain, node)) = tail(self, at)
                    && let Some(out) = self.nodes[node].outcome.take()
                {
                    self.log.push(format!("{chain} took {:?}", out.map_err(|(why, _)| why)));
                    self.tails[chain] = None;
                }
            }
            Op::Do(effect) => self.effect(effect),
        }
    }
}

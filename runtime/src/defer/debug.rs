//! What waits, and for what: the question when a program stands still.
//!
//! Debugging is off until [`set_debugging`] or `TWISTOR_DEBUG=1` in the environment switches it on.
//! From then on each pending Deferred, callback and coroutine that is made is remembered, and
//! [`waiting`] shows those of this thread as a tree: where each was made, where it waits, and for
//! what. With `TWISTOR_DEBUG=1` a running reactor prints it to standard error on SIGUSR1.
//!
//! ```
//! use twistor::{defer::debug, prelude::*};
//!
//! #[inline_callbacks]
//! fn answer(question: Deferred<u32>) -> Deferred<u32> {
//!     return_value!(yield_!(question)? + 1)
//! }
//!
//! debug::set_debugging(true);
//! let (question, _resolver) = Deferred::new();
//! let _answer = answer(question);
//! println!("{}", debug::waiting());
//! # let text = debug::waiting().to_string();
//! # assert!(text.starts_with("2 wait:\n#2 coroutine "), "{text}");
//! # debug::set_debugging(false);
//! ```
//!
//! ```text
//! 2 wait:
//! #2 coroutine client::answer, made at src/main.rs:10:15
//!   waits at src/main.rs:5:19 for #1 Deferred, made at src/main.rs:9:29
//! ```
//!
//! A Deferred that stands there for long is one whose Resolver somebody keeps and does not use. A
//! chain that ends in itself is marked as a circle. Reports of failures begin with where their
//! Deferred was made and fired. Switched off, it costs a look at one flag; switched on, some memory
//! and a look-up for each Deferred.
use super::cancel_node::{Awaiting, CancelNode};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    fmt,
    io::Write as _,
    panic::Location,
    rc::{Rc, Weak},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

type Place = &'static Location<'static>;

/// 0: nobody has asked yet, and the environment decides.
static STATE: AtomicU8 = AtomicU8::new(0);
const OFF: u8 = 1;
const ON: u8 = 2;
/// In the threads that a test watches.
const SOME: u8 = 3;

/// Whether it is on in all threads, and how many threads are watched.
static WANTED: Mutex<(bool, usize)> = Mutex::new((false, 0));

/// Whether debugging is on.
#[doc(alias = "getDebugging")]
#[inline]
pub fn debugging() -> bool {
    match STATE.load(Ordering::Relaxed) {
        OFF => false,
        ON => true,
        SOME => WATCHED.get(),
        _ => ask_environment(),
    }
}

#[cold]
fn ask_environment() -> bool {
    want(|_| ());
    debugging()
}

fn want(change: impl FnOnce(&mut (bool, usize))) {
    let mut wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
    if STATE.load(Ordering::Relaxed) == 0 {
        wanted.0 |= wanted_by_environment();
    }
    change(&mut wanted);
    let state = match *wanted {
        (true, _) => ON,
        (false, 0) => OFF,
        (false, _) => SOME,
    };
    STATE.store(state, Ordering::Relaxed);
}

/// Switches debugging on in this thread alone, for as long as the guard lives.
pub(crate) fn watch_thread() -> Watch {
    want(|wanted| wanted.1 += 1);
    Watch { outer: WATCHED.replace(true) }
}

pub(crate) struct Watch {
    outer: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.set(self.outer);
        want(|wanted| wanted.1 -= 1);
    }
}

/// Whether `TWISTOR_DEBUG=1` is set.
pub(crate) fn wanted_by_environment() -> bool {
    std::env::var_os("TWISTOR_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Switches debugging on or off, in all threads. What was made while it was off is not shown.
#[doc(alias = "setDebugging")]
pub fn set_debugging(on: bool) {
    want(|wanted| wanted.0 = on);
    if !on {
        // what this thread remembers keeps memory; weak pointers run nobody's code
        with(|table| *table = Table::default());
    }
}

/// What is remembered of one source.
struct Entry {
    node: Weak<dyn CancelNode>,
    number: u64,
    what: &'static str,
    function: &'static str,
    created_at: Place,
    awaited: Option<Place>,
    fired: Option<Place>,
}

impl Entry {
    /// The entry for others to see, before it is known what it waits for.
    fn waiter(&self) -> Waiter {
        Waiter {
            number: self.number,
            what: self.what,
            function: self.function,
            created_at: self.created_at,
            waits_for: Vec::new(),
            running: false,
            in_a_future: false,
        }
    }
}

#[derive(Default)]
struct Table {
    /// By the address of the source's slot: a node that is remembered keeps its address.
    entries: HashMap<usize, Entry>,
    next: u64,
    /// At this size those that are gone are swept out.
    sweep_at: usize,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
    /// Whether a test watches this thread.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// The line that fires right now.
    static FIRING: Cell<Option<Place>> = const { Cell::new(None) };
}

fn with<R>(work: impl FnOnce(&mut Table) -> R) -> Option<R> {
    TABLE
        .try_with(|table| table.try_borrow_mut().ok().map(|mut table| work(&mut table)))
        .ok()
        .flatten()
}

/// Remembers a source that has just been made.
#[inline]
pub(crate) fn note<N: CancelNode + 'static>(
    node: &Rc<N>,
    slot: usize,
    what: &'static str,
    function: impl FnOnce() -> &'static str,
    created_at: Place,
) {
    if debugging() {
        remember(Rc::downgrade(node) as Weak<dyn CancelNode>, slot, what, function(), created_at);
    }
}

#[cold]
fn remember(
    node: Weak<dyn CancelNode>,
    slot: usize,
    what: &'static str,
    function: &'static str,
    created_at: Place,
) {
    with(|table| {
        if table.entries.len() >= table.sweep_at {
            table.entries.retain(|_, entry| entry.node.strong_count() > 0);
            table.sweep_at = (table.entries.len() * 2).max(64);
        }
        table.next += 1;
        // the library's own callbacks have names that say nothing to its user
        let function = if function.starts_with("twistor::") { "" } else { function };
        let number = table.next;
        table.entries.insert(
            slot,
            Entry { node, number, what, function, created_at, awaited: None, fired: None },
        );
    });
}

/// How many weak pointers to the node are ours.
#[cold]
pub(super) fn notes(slot: usize) -> usize {
    with(|table| usize::from(table.entries.contains_key(&slot))).unwrap_or(0)
}

/// A coroutine awaits the source at `place`.
#[inline]
pub(crate) fn awaited(slot: usize, place: Place) {
    if debugging() {
        with(|table| table.entries.get_mut(&slot).map(|entry| entry.awaited = Some(place)));
    }
}

/// The source has its outcome.
#[cold]
pub(super) fn filled(slot: usize) {
    with(|table| table.entries.get_mut(&slot).map(|entry| entry.fired = FIRING.get()));
}

/// `place` fires until the guard is dropped; `None` with debugging off.
#[inline]
pub(super) fn firing(place: Place) -> Option<Firing> {
    debugging().then(|| Firing { outer: FIRING.replace(Some(place)) })
}

/// Puts back who fired before.
pub(super) struct Firing {
    outer: Option<Place>,
}

impl Drop for Firing {
    fn drop(&mut self) {
        FIRING.set(self.outer);
    }
}

/// For a report: where the Deferred was fired and made. The slot is 0 for one that was made with
/// its outcome.
pub(super) fn history(created_at: Place, slot: usize) -> Option<String> {
    if !debugging() {
        return None;
    }
    let fired = with(|table| table.entries.get(&slot).and_then(|entry| entry.fired)).flatten();
    Some(format!("I: fired at {}, C: made at {created_at}", fired.unwrap_or(created_at)))
}

/// One that waits.
#[derive(Debug, Clone)]
pub struct Waiter {
    number: u64,
    what: &'static str,
    function: &'static str,
    created_at: Place,
    /// For whom, and at which await.
    waits_for: Vec<(u64, Option<Place>)>,
    running: bool,
    /// It waits for no Deferred at all.
    in_a_future: bool,
}

impl Waiter {
    /// Its number, counted from 1 in each thread.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it is: `Deferred`, `callback`, `coroutine`, `list`, `gate`.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// The path of its function; for a Deferred, the coroutine or callback that made it. Empty
    /// where there is none.
    pub fn function(&self) -> &'static str {
        self.function
    }

    /// Where it was made.
    pub fn location(&self) -> &'static Location<'static> {
        self.created_at
    }

    /// The `yield_!` or `.await` that it stands at, for a coroutine that waits for one Deferred or
    /// more (the first of them).
    pub fn waits_at(&self) -> Option<&'static Location<'static>> {
        self.waits_for.first().and_then(|(_, place)| *place)
    }

    /// The numbers of those that it waits for.
    pub fn waits_for(&self) -> impl Iterator<Item = u64> {
        self.waits_for.iter().map(|(number, _)| *number)
    }
}

impl fmt::Display for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}", self.number, self.what)?;
        if !self.function.is_empty() {
            let by = if self.what == "Deferred" { " of" } else { "" };
            write!(f, "{by} {}", self.function)?;
        }
        write!(f, ", made at {}", self.created_at)
    }
}

/// What waits in this thread: `Display` is the tree.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Vec<Waiter>);

impl Waiting {
    /// All of them, in the order in which they were made.
    pub fn all(&self) -> &[Waiter] {
        &self.0
    }
}

/// What waits in this thread right now, of what was made while debugging was on.
pub fn waiting() -> Waiting {
    let known: Vec<_> = with(|table| {
        let live = table
            .entries
            .values()
            .filter_map(|entry| Some((entry.node.upgrade()?, entry.awaited, entry.waiter())));
        live.collect()
    })
    .unwrap_or_default();
    let by_node: HashMap<*const (), (u64, Option<Place>)> = known
        .iter()
        .map(|(node, awaited, waiter)| (Rc::as_ptr(node).cast(), (waiter.number, *awaited)))
        .collect();
    let mut all = Vec::new();
    for (node, _, waiter) in &known {
        let mut waiter = waiter.clone();
        let is_coroutine = waiter.what == "coroutine";
        let ups = match node.awaiting() {
            Awaiting::Finished => continue,
            Awaiting::Running => {
                waiter.running = true;
                Vec::new()
            }
            Awaiting::Nothing => {
                waiter.in_a_future = is_coroutine;
                Vec::new()
            }
            Awaiting::One(up) => vec![up],
            Awaiting::Many(ups) => ups,
        };
        let ups = ups.iter().filter_map(|up| by_node.get(&Rc::as_ptr(up).cast()));
        waiter.waits_for =
            ups.map(|(number, awaited)| (*number, awaited.filter(|_| is_coroutine))).collect();
        all.push(waiter);
    }
    all.sort_unstable_by_key(|waiter| waiter.number);
    Waiting(all)
}

/// Prints [`waiting`] to standard error.
pub fn print_waiting() {
    // a standard error that is closed is no reason to fall
    let _ = writeln!(std::io::stderr(), "{}", waiting());
}

/// Deeper lines are not indented further.
const MAX_INDENT: usize = 32;

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0 => return f.write_str("nothing waits"),
            1 => f.write_str("1 waits:")?,
            count => write!(f, "{count} wait:")?,
        }
        let by_number: HashMap<u64, &Waiter> =
            self.0.iter().map(|waiter| (waiter.number, waiter)).collect();
        let awaited: HashSet<u64> = self.0.iter().flat_map(Waiter::waits_for).collect();
        let mut tree = Tree { by_number, shown: HashSet::new(), path: Vec::new() };
        // first those that nobody waits for; what is left then stands in circles
        for root in self.0.iter().filter(|waiter| !awaited.contains(&waiter.number)).chain(&self.0)
        {
            if !tree.shown.contains(&root.number) {
                write!(f, "\n{root}")?;
                tree.below(f, root)?;
            }
        }
        Ok(())
    }
}

/// A walk through what waits; a loop, because a chain may be a million long.
struct Tree<'a> {
    by_number: HashMap<u64, &'a Waiter>,
    /// Who has a line of its own.
    shown: HashSet<u64>,
    /// From the root to here.
    path: Vec<u64>,
}

impl<'a> Tree<'a> {
    fn below(&mut self, f: &mut fmt::Formatter<'_>, root: &'a Waiter) -> fmt::Result {
        // the edges still to show, the next one last: to whom, at which await, how deep
        let mut edges = Vec::new();
        self.path.clear();
        self.show(f, root, 0, &mut edges)?;
        while let Some((to, place, depth)) = edges.pop() {
            self.path.truncate(depth);
            write!(f, "\n{:indent$}waits ", "", indent = (depth * 2).min(MAX_INDENT))?;
            if let Some(place) = place {
                write!(f, "at {place} ")?;
            }
            match self.by_number.get(&to).copied() {
                None => write!(f, "for #{to}")?,
                Some(waiter) if self.shown.contains(&to) => {
                    let circle = if self.path.contains(&to) { ": a circle" } else { "" };
                    write!(f, "for #{} (above{circle})", waiter.number)?;
                }
                Some(waiter) => {
                    write!(f, "for {waiter}")?;
                    self.show(f, waiter, depth, &mut edges)?;
                }
            }
        }
        Ok(())
    }

    fn show(
        &mut self,
        f: &mut fmt::Formatter<'_>,
        waiter: &Waiter,
        depth: usize,
        edges: &mut Vec<(u64, Option<Place>, usize)>,
    ) -> fmt::Result {
        self.shown.insert(waiter.number);
        self.path.push(waiter.number);
        if waiter.running {
            f.write_str(", runs")?;
        } else if waiter.in_a_future {
            f.write_str(", waits for a future that is no Deferred")?;
        }
        edges.extend(waiter.waits_for.iter().rev().map(|(to, place)| (*to, *place, depth + 1)));
        Ok(())
    }
}

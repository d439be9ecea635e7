//! Shows what is pending and what it waits for, to find out why a program has stopped making
//! progress.
//!
//! Debugging is off until [`set_debugging`] or `TWISTOR_DEBUG=1` in the environment switches it on.
//! From then on every new Deferred, callback and coroutine is tracked while it is pending.
//! [`waiting`] shows those of this thread as a tree: where each was created, where it waits, and
//! for what. With `TWISTOR_DEBUG=1` a running reactor prints the tree to standard error on SIGUSR1.
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
//! A Deferred that stays in the tree for long has a Resolver that was kept and never fired. A chain
//! that leads back to itself is marked as a circle. Reports of failures begin with the lines that
//! created and fired their Deferred. Switched off, debugging costs one test of a flag; switched on,
//! it costs memory and a table look-up for each Deferred.
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

/// 0: not decided yet, so the environment is consulted.
static STATE: AtomicU8 = AtomicU8::new(0);
const OFF: u8 = 1;
const ON: u8 = 2;
/// On in the threads that a test watches.
const SOME: u8 = 3;

/// Whether debugging is on in all threads, and the number of watched threads.
static WANTED: Mutex<(bool, usize)> = Mutex::new((false, 0));

/// Returns whether debugging is on.
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

/// Switches debugging on in this thread alone, until the guard is dropped.
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

/// Returns whether `TWISTOR_DEBUG=1` is set.
pub(crate) fn wanted_by_environment() -> bool {
    std::env::var_os("TWISTOR_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Switches debugging on or off, in all threads. Deferreds created while it was off are not shown.
#[doc(alias = "setDebugging")]
pub fn set_debugging(on: bool) {
    want(|wanted| wanted.0 = on);
    if !on {
        // the table keeps allocations alive; dropping weak pointers runs no user code
        with(|table| *table = Table::default());
    }
}

/// The record of one node.
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
    /// Converts the record for the user, before it is known what the node waits for.
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
    /// Keyed by the address of the node's slot, which does not change while the node is recorded.
    entries: HashMap<usize, Entry>,
    next: u64,
    /// The size at which records of finished nodes are removed.
    sweep_at: usize,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
    /// Whether a test watches this thread.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// The line that is firing a Deferred.
    static FIRING: Cell<Option<Place>> = const { Cell::new(None) };
}

fn with<R>(work: impl FnOnce(&mut Table) -> R) -> Option<R> {
    TABLE
        .try_with(|table| table.try_borrow_mut().ok().map(|mut table| work(&mut table)))
        .ok()
        .flatten()
}

/// Records a node that has just been created.
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
        // the names of the library's own callbacks mean nothing to its user
        let function = if function.starts_with("twistor::") { "" } else { function };
        let number = table.next;
        table.entries.insert(
            slot,
            Entry { node, number, what, function, created_at, awaited: None, fired: None },
        );
    });
}

/// Returns how many weak pointers to the node the table holds.
#[cold]
pub(super) fn notes(slot: usize) -> usize {
    with(|table| usize::from(table.entries.contains_key(&slot))).unwrap_or(0)
}

/// Records that a coroutine awaits the node at `place`.
#[inline]
pub(crate) fn awaited(slot: usize, place: Place) {
    if debugging() {
        with(|table| table.entries.get_mut(&slot).map(|entry| entry.awaited = Some(place)));
    }
}

/// Records that the node has its outcome.
#[cold]
pub(super) fn filled(slot: usize) {
    with(|table| table.entries.get_mut(&slot).map(|entry| entry.fired = FIRING.get()));
}

/// Records `place` as the line that fires, until the guard is dropped; `None` with debugging off.
#[inline]
pub(super) fn firing(place: Place) -> Option<Firing> {
    debugging().then(|| Firing { outer: FIRING.replace(Some(place)) })
}

/// Restores the previous firing line.
pub(super) struct Firing {
    outer: Option<Place>,
}

impl Drop for Firing {
    fn drop(&mut self) {
        FIRING.set(self.outer);
    }
}

/// Returns the lines that fired and created a Deferred, for a report. The slot is 0 for one that
/// was created with its outcome.
pub(super) fn history(created_at: Place, slot: usize) -> Option<String> {
    if !debugging() {
        return None;
    }
    let fired = with(|table| table.entries.get(&slot).and_then(|entry| entry.fired)).flatten();
    Some(format!("I: fired at {}, C: made at {created_at}", fired.unwrap_or(created_at)))
}

/// A pending Deferred, callback or coroutine.
#[derive(Debug, Clone)]
pub struct Waiter {
    number: u64,
    what: &'static str,
    function: &'static str,
    created_at: Place,
    /// The numbers of what it waits for, and the awaits.
    waits_for: Vec<(u64, Option<Place>)>,
    running: bool,
    /// Waits for a future other than a Deferred.
    in_a_future: bool,
}

impl Waiter {
    /// Returns its number, counted from 1 in each thread.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns its kind: `Deferred`, `callback`, `coroutine`, `list` or `gate`.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Returns the path of its function; for a Deferred, of the coroutine or callback that created
    /// it. Empty where there is none.
    pub fn function(&self) -> &'static str {
        self.function
    }

    /// Returns the line that created it.
    pub fn location(&self) -> &'static Location<'static> {
        self.created_at
    }

    /// Returns the `yield_!` or `.await` at which a coroutine is suspended, if it awaits a Deferred
    /// (the first one of several).
    pub fn waits_at(&self) -> Option<&'static Location<'static>> {
        self.waits_for.first().and_then(|(_, place)| *place)
    }

    /// Returns the numbers of what it waits for.
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

/// The pending Deferreds, callbacks and coroutines of a thread; `Display` writes the tree.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Vec<Waiter>);

impl Waiting {
    /// Returns all of them, in the order of their creation.
    pub fn all(&self) -> &[Waiter] {
        &self.0
    }
}

/// Returns what is pending in this thread, as far as it was created while debugging was on.
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
    // a closed standard error must not stop the program
    let _ = writeln!(std::io::stderr(), "{}", waiting());
}

/// The maximum indentation of a line.
const MAX_INDENT: usize = 32;

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0 if debugging() => return f.write_str("nothing waits"),
            0 => return f.write_str("debugging is off, so nothing is known: set TWISTOR_DEBUG=1"),
            1 => f.write_str("1 waits:")?,
            count => write!(f, "{count} wait:")?,
        }
        let by_number: HashMap<u64, &Waiter> =
            self.0.iter().map(|waiter| (waiter.number, waiter)).collect();
        let awaited: HashSet<u64> = self.0.iter().flat_map(Waiter::waits_for).collect();
        let mut tree = Tree { by_number, shown: HashSet::new(), path: Vec::new() };
        // first the ones that nothing awaits; those left after that are in circles
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

/// A walk through the tree, as a loop, because a chain may have a million links.
struct Tree<'a> {
    by_number: HashMap<u64, &'a Waiter>,
    /// The entries that have a line already.
    shown: HashSet<u64>,
    /// The entries from the root to the present one.
    path: Vec<u64>,
}

impl<'a> Tree<'a> {
    fn below(&mut self, f: &mut fmt::Formatter<'_>, root: &'a Waiter) -> fmt::Result {
        // a stack of the edges still to show: the entry, the await, and the depth
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
            f.write_str(", awaits a future other than a Deferred")?;
        }
        edges.extend(waiter.waits_for.iter().rev().map(|(to, place)| (*to, *place, depth + 1)));
        Ok(())
    }
}

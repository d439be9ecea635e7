//! Allocation budgets: what each thing costs, counted.
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};
use twistor::defer::Deferred;

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "a counting allocator is a GlobalAlloc")]
// SAFETY: every call is passed on to the system's allocator unchanged; counting touches a thread-local without destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's own promise about `layout`
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's own promise about `at` and `layout`
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's own promise about `at`, `layout` and `size`
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes.
fn allocations<R>(work: impl FnOnce() -> R) -> usize {
    let before = COUNT.get();
    let kept = work();
    let made = COUNT.get() - before;
    drop(kept);
    made
}

#[test]
fn succeed_and_three_callbacks_make_none() {
    let made = allocations(|| Deferred::succeed(1u64).add_callback(|n| Ok(n + 1)).map(|n| n + 1).add_callback(|n| Ok(n + 1)).detach());
    assert_eq!(made, 0);
}

#[test]
fn a_pending_deferred_with_n_callbacks_makes_n_plus_one() {
    for n in [0usize, 1, 3, 10] {
        let made = allocations(|| {
            let (deferred, resolver) = Deferred::<u64>::new();
            let chain = (0..n).fold(deferred, |chain, _| chain.add_callback(|n| Ok(n + 1)));
            resolver.callback(0);
            chain
        });
        assert_eq!(made, n + 1);
    }
}

#[test]
fn a_canceller_lies_in_the_leaf() {
    let word = 5u64;
    let made = allocations(|| Deferred::<u64>::with_canceller(move |cancelling| cancelling.callback(word)));
    assert_eq!(made, 1);
}

#[test]
fn following_a_returned_deferred_makes_none_of_its_own() {
    let made = allocations(|| {
        let (inner, fire_inner) = Deferred::<u64>::new();
        let (outer, fire) = Deferred::<()>::new();
        let chain = outer.add_callback(move |()| inner);
        fire.callback(());
        fire_inner.callback(1);
        chain
    });
    assert_eq!(made, 3, "two Deferreds and one callback");
}

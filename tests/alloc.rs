//! Allocation budgets: the number of allocations of each operation.
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    rc::Rc,
    time::Duration,
};
use twistor::{
    prelude::*,
    testing::MemoryReactor,
    transport::{ConnectTcpOptions, ListenTcpOptions},
};

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "a counting allocator is a GlobalAlloc")]
// SAFETY: every call is passed on to the system's allocator unchanged; counting touches a
// thread-local without destructor.
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

/// Returns the number of allocations of `work`.
fn allocations<R>(work: impl FnOnce() -> R) -> usize {
    let before = COUNT.get();
    let kept = work();
    let made = COUNT.get() - before;
    drop(kept);
    made
}

#[test]
fn succeed_and_three_callbacks_make_none() {
    let made = allocations(|| {
        Deferred::succeed(1u64)
            .add_callback(|n| Ok(n + 1))
            .map(|n| n + 1)
            .add_callback(|n| Ok(n + 1))
            .detach();
    });
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
fn a_canceller_is_stored_in_the_leaf() {
    let word = 5u64;
    let made = allocations(|| {
        Deferred::<u64>::with_canceller(move |cancelling| cancelling.callback(word))
    });
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

#[inline_callbacks]
fn three_yields(one: Deferred<u64>, two: Deferred<u64>, three: Deferred<u64>) -> Deferred<u64> {
    return_value!(yield_!(one)? + yield_!(two)? + yield_!(three)?)
}

#[test]
fn a_coroutine_with_ready_yields_makes_one() {
    let ready = || three_yields(Deferred::succeed(1), Deferred::succeed(2), Deferred::succeed(3));
    // the first call fills the pool of wakers
    ready().detach();
    assert_eq!(allocations(ready), 1);
}

#[test]
fn a_coroutine_with_pending_yields_makes_one_besides_the_deferreds_own() {
    let run = || {
        let (one, fire_one) = Deferred::new();
        let (two, fire_two) = Deferred::new();
        let (three, fire_three) = Deferred::new();
        let result = three_yields(one, two, three);
        fire_one.callback(1);
        fire_two.callback(2);
        fire_three.callback(3);
        result
    };
    run().detach();
    assert_eq!(allocations(run), 3 + 1);
}

#[protocol]
struct Counter {
    count: u64,
}

#[protocol]
impl Counter {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.count += 1;
        transport.write(data);
    }
}

/// Returns a handle of a live `Counter`, in memory.
fn counter() -> (MemoryReactor, Handle<Counter>) {
    let memory = MemoryReactor::new();
    let reactor = memory.reactor();
    let port = reactor
        .listen_tcp((Ipv4Addr::LOCALHOST, 0), Counter::factory(), &ListenTcpOptions::default())
        .unwrap();
    let kept: Rc<RefCell<Option<Handle<Counter>>>> = Rc::default();
    let keep = kept.clone();
    reactor
        .connect_tcp(
            port.host().socket_addr().unwrap(),
            Counter::factory(),
            &ConnectTcpOptions::default(),
        )
        .map(move |handle| *keep.borrow_mut() = Some(handle))
        .detach();
    memory.settle();
    let handle = kept.take().unwrap();
    (memory, handle)
}

#[test]
fn a_call_on_a_free_protocol_makes_none_and_a_queued_one_one() {
    let (_memory, handle) = counter();
    let made = allocations(|| handle.call(|counter| Ok(counter.count)));
    assert_eq!(made, 0);
    let inside = handle.clone();
    let queued = Rc::new(Cell::new(usize::MAX));
    let seen = queued.clone();
    handle.tell(move |_| {
        // the queue itself grows once
        inside.with(|counter| counter.count).detach();
        seen.set(allocations(|| inside.with(|counter| counter.count).detach()));
    });
    assert_eq!(queued.get(), 1);
}

/// Returns a port of `Counter`s over real sockets, and its address.
fn serve() -> (Reactor, SocketAddr) {
    let reactor = Reactor::new().unwrap();
    let port = reactor
        .listen_tcp((Ipv4Addr::LOCALHOST, 0), Counter::factory(), &ListenTcpOptions::default())
        .unwrap();
    let at = port.host().socket_addr().unwrap();
    (reactor, at)
}

fn connect(at: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect(at).unwrap();
    peer.set_nonblocking(true).unwrap();
    peer
}

/// Sends a message and waits for the echo.
fn echo(reactor: &Reactor, peer: &mut TcpStream) {
    peer.write_all(&[b'x'; 64]).unwrap();
    let mut got = 0;
    while got < 64 {
        reactor.iterate(Duration::from_millis(10)).unwrap();
        match peer.read(&mut [0; 64]) {
            Ok(read) => got += read,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn an_echoed_message_makes_none_over_real_sockets() {
    let (reactor, at) = serve();
    let mut peer = connect(at);
    let mut echoes = |count: usize| (0..count).for_each(|_| echo(&reactor, &mut peer));
    echoes(10);
    assert_eq!(allocations(|| echoes(1000)), 0);
}

#[test]
fn a_connection_that_comes_and_goes_makes_none_over_real_sockets() {
    let (reactor, at) = serve();
    let idle = format!("{reactor:?}");
    let come_and_go = |count: usize| {
        for _ in 0..count {
            let mut peer = connect(at);
            echo(&reactor, &mut peer);
            drop(peer);
            // the close, and the turn that frees the slot
            reactor.iterate(Duration::from_secs(1)).unwrap();
            reactor.iterate(Duration::ZERO).unwrap();
        }
    };
    come_and_go(10);
    assert_eq!(allocations(|| come_and_go(100)), 0);
    assert_eq!(format!("{reactor:?}"), idle);
}

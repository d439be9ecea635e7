//! A reactor over virtual time and memory.
use super::memory_net::Net;
use crate::{error::ReactorClosed, reactor::Reactor};
use std::{fmt, rc::Rc, time::Duration};

/// A [`Reactor`] over virtual time and connections in memory: it is deterministic, and an hour of
/// its time passes at once.
///
/// `listen_tcp` and `connect_tcp` work with each other. A port can be in use, and a connection
/// refused or reset, as on a real network. Time moves when [`advance`](Self::advance) moves it, and
/// inside [`Reactor::run`], which jumps to the next timer when there is nothing else to do. A `run`
/// in which nothing can happen any more returns an error that says so.
#[doc(alias = "MemoryReactorClock")]
pub struct MemoryReactor {
    net: Rc<Net>,
    reactor: Reactor,
}

impl MemoryReactor {
    /// Creates a reactor at 0 seconds.
    pub fn new() -> Self {
        Self::with_net().0
    }

    /// Creates a reactor, and returns the network below it too.
    pub(super) fn with_net() -> (Self, Rc<Net>) {
        let net = Net::new(None);
        (Self { reactor: Reactor::over(net.clone()), net: net.clone() }, net)
    }

    /// Returns the reactor.
    pub fn reactor(&self) -> Reactor {
        self.reactor.clone()
    }

    /// Sets the capacity of each direction of a connection: the number of bytes it holds until the
    /// reader has read some. The default is 65536, the minimum 1. A small number makes every write
    /// a partial one.
    #[doc(alias = "SO_SNDBUF")]
    pub fn set_send_buffer(&self, bytes: usize) {
        self.net.set_capacity(bytes);
    }

    /// Runs turns until there is nothing left to do now; timers that are due run.
    ///
    /// # Panics
    /// Panics inside a turn of the same reactor.
    pub fn settle(&self) {
        loop {
            self.turn();
            if !self.net.is_busy() && !self.reactor.has_work() {
                break;
            }
        }
    }

    /// Runs one turn that does not wait.
    ///
    /// # Panics
    /// Panics inside a turn of the same reactor.
    pub fn turn(&self) {
        match self.reactor.iterate(Duration::ZERO) {
            // a closed reactor has nothing left to do
            Err(failure) if !failure.check::<ReactorClosed>() => panic!("{failure}"),
            _ => {}
        }
    }

    /// Advances the time by `by` and runs everything that is due, in the order of due times, with
    /// all its consequences.
    ///
    /// # Panics
    /// Panics as [`settle`](Self::settle) does.
    pub fn advance(&self, by: Duration) {
        let end = self.reactor.seconds().saturating_add(by);
        self.settle();
        while let Some(due) = self
            .reactor
            .delayed_calls()
            .first()
            .map(crate::time::DelayedCall::time)
            .filter(|due| *due <= end)
        {
            self.net.advance(due.saturating_sub(self.reactor.seconds()));
            self.settle();
        }
        self.net.advance(end.saturating_sub(self.reactor.seconds()));
    }
}

impl Default for MemoryReactor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryReactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<MemoryReactor at {:?}: {:?}>", self.reactor.seconds(), self.reactor)
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryReactor;
    use crate::{
        address::Address,
        protocol::{Protocol, Raw},
        reactor::backend::{AnyWire, Backend, Wire, WireOption},
    };
    use std::{
        cell::{Cell, RefCell},
        io::{self, ErrorKind, IoSlice},
        rc::Rc,
    };

    /// Accepts no bytes for as long as the flag is set, without an error.
    struct Full {
        full: Rc<Cell<bool>>,
        taken: Rc<RefCell<Vec<u8>>>,
    }

    impl Wire for Full {
        fn register(&mut self, _backend: &dyn Backend, _slot: usize) -> io::Result<()> {
            Ok(())
        }

        fn read(&self, _into: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }

        fn write(&self, data: &[u8]) -> io::Result<usize> {
            if self.full.get() {
                return Ok(0);
            }
            self.taken.borrow_mut().extend_from_slice(data);
            Ok(data.len())
        }

        fn write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
            data.first().map_or(Ok(0), |first| self.write(first))
        }

        fn shutdown(&self) -> io::Result<()> {
            Ok(())
        }

        fn reset_on_drop(&self) -> io::Result<()> {
            Ok(())
        }

        fn connected(&self) -> io::Result<bool> {
            Ok(true)
        }

        fn host(&self) -> io::Result<Address> {
            Ok(Address::Unix(None))
        }

        fn set_option(&self, _option: WireOption) -> io::Result<()> {
            Ok(())
        }
    }

    struct Quiet;

    impl Protocol for Quiet {
        type Framing = Raw;
    }

    #[test]
    fn a_system_that_takes_no_byte_keeps_the_data_and_is_no_error() {
        let memory = MemoryReactor::new();
        let (full, taken) = (Rc::new(Cell::new(true)), Rc::<RefCell<Vec<u8>>>::default());
        let wire = Full { full: full.clone(), taken: taken.clone() };
        let handle = memory
            .reactor()
            .put_on(AnyWire::new(wire), &Address::Unix(None), |_: &Address| Quiet)
            .unwrap();
        handle.write("hello");
        handle.write_sequence([" ", "you"]);
        memory.settle();
        assert_eq!((handle.queued(), handle.is_connected()), (9, true));
        full.set(false);
        handle.set_write_marks(0, 1);
        let drained = handle.drained();
        memory.reactor().0.reschedule(0, crate::reactor::source::Readiness::WRITABLE);
        memory.settle();
        assert_eq!(taken.borrow().as_slice(), b"hello you");
        assert!(drained.take_result().is_ok() && handle.is_connected());
        memory.reactor().close();
    }
}

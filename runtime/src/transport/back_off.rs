//! Backing off from an error that may persist: it is logged once, then counted.
use crate::{
    reactor::{Core, source::Readiness},
    timers::DelayedCall,
};
use std::{cell::Cell, fmt, rc::Rc, time::Duration};

/// The first and the longest time between two attempts.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// The state of a source that may be backing off.
#[derive(Default)]
pub(super) struct BackOff {
    /// The duration of the last wait; zero while everything works.
    last: Cell<Duration>,
    /// The number of errors since everything worked.
    errors: Cell<u64>,
    /// The timer that ends the wait.
    retry: Cell<Option<DelayedCall>>,
}

impl BackOff {
    /// Waits before the source in `slot` is called again. Returns whether this is the first error
    /// in a row, which the caller reports.
    pub(super) fn wait(&self, core: &Rc<Core>, slot: usize) -> bool {
        let last = self.last.get();
        let wait = (last * 2).clamp(FIRST, LONGEST);
        self.last.set(wait);
        self.errors.set(self.errors.get() + 1);
        let weak = Rc::downgrade(core);
        let retry = core.timer(wait, move || {
            if let Some(core) = weak.upgrade() {
                core.reschedule(slot, Readiness::AGAIN);
            }
        });
        if let Some(old) = self.retry.replace(Some(retry)) {
            // the timer may be what has called this
            let _ = old.cancel();
        }
        last.is_zero()
    }

    /// Ends the back-off after a success, and logs how many errors there were. `what` names the
    /// source.
    #[inline]
    pub(super) fn succeeded(&self, what: impl FnOnce() -> String) {
        if !self.last.get().is_zero() {
            self.recovered(&what());
        }
    }

    #[cold]
    fn recovered(&self, what: &dyn fmt::Display) {
        self.last.set(Duration::ZERO);
        let errors = self.errors.take();
        tracing::info!("{what} works again after {errors} errors");
    }

    /// Ends the back-off because the source is closed or opened again.
    pub(super) fn cancel(&self) {
        self.last.set(Duration::ZERO);
        self.errors.set(0);
        if let Some(retry) = self.retry.take() {
            // the timer may have run
            let _ = retry.cancel();
        }
    }

    /// Returns whether the source is waiting.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        !self.last.get().is_zero() && self.is_timer_active()
    }

    #[cold]
    fn is_timer_active(&self) -> bool {
        let retry = self.retry.take();
        let waiting = retry.as_ref().is_some_and(DelayedCall::is_active);
        self.retry.set(retry);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        address::Address,
        reactor::backend::{DatagramOption, Datagrams, Group},
        report,
        testing::MemoryReactor,
        transport::{DatagramPort, DatagramProtocol, DatagramTransport},
    };
    use std::{cell::RefCell, io, net::Ipv4Addr, panic::Location, rc::Rc, time::Duration};

    /// A datagram socket whose every read fails, until `working`.
    struct Broken {
        reads: Rc<RefCell<u32>>,
        working: Rc<RefCell<bool>>,
    }

    impl Datagrams for Broken {
        fn register(&mut self, _slot: usize) -> io::Result<()> {
            Ok(())
        }

        fn receive(&self, _into: &mut [u8]) -> io::Result<(usize, Address)> {
            *self.reads.borrow_mut() += 1;
            let working = *self.working.borrow();
            Err(if working { io::ErrorKind::WouldBlock } else { io::ErrorKind::OutOfMemory }.into())
        }

        fn send(&self, _data: &[u8], _to: Option<&Address>) -> io::Result<()> {
            Ok(())
        }

        fn connect(&self, _to: &Address) -> io::Result<()> {
            Ok(())
        }

        fn host(&self) -> io::Result<Address> {
            Ok(std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into())
        }

        fn set_option(&self, _option: DatagramOption) -> io::Result<()> {
            Ok(())
        }

        fn option(&self, option: DatagramOption) -> io::Result<DatagramOption> {
            Ok(option)
        }

        fn group(&self, _group: &Group) -> io::Result<()> {
            Ok(())
        }

        fn close(self: Box<Self>) -> io::Result<()> {
            Ok(())
        }
    }

    struct Ignores;

    impl DatagramProtocol for Ignores {
        fn datagram_received(&mut self, _: &[u8], _: &Address, _: &DatagramTransport) {}
    }

    // Kind: an error that persists is reported once and then counted, with a wait between attempts.
    #[test]
    fn an_error_that_stays_on_a_datagram_socket_is_reported_once_and_waited_for() {
        let reports = Rc::new(RefCell::new(Vec::new()));
        let into = reports.clone();
        let _sink = report::push_sink(move |report| into.borrow_mut().push(report.to_string()));
        let memory = MemoryReactor::new();
        let core = memory.reactor().0;
        let (reads, working) = (Rc::<RefCell<u32>>::default(), Rc::<RefCell<bool>>::default());
        let socket = Broken { reads: reads.clone(), working: working.clone() };
        let port =
            DatagramPort::open(&core, Box::new(socket), Ignores, Location::caller()).unwrap();
        core.reschedule(core.sources.borrow().len() - 1, super::Readiness::AGAIN);
        memory.settle();
        memory.advance(Duration::from_secs(10));
        // after 50, 100, 200, 400, 800 ms and then each second
        assert!((12..=16).contains(&*reads.borrow()), "{}", reads.borrow());
        assert_eq!(reports.borrow().len(), 1, "{reports:?}");
        *working.borrow_mut() = true;
        memory.advance(Duration::from_secs(1));
        let before = *reads.borrow();
        memory.advance(Duration::from_secs(10));
        assert_eq!(*reads.borrow(), before, "no timer is left");
        drop(port);
    }
}

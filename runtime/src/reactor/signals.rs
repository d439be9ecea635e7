//! Signals: SIGINT and SIGTERM stop the reactor, others call the handlers of the program. With
//! `TWISTOR_DEBUG=1`, SIGUSR1 prints what is pending.
use super::{
    Reactor,
    backend::Signals,
    core::Core,
    source::{Readiness, Source},
};
use crate::{
    defer::debug,
    error::{ReactorClosed, ValueError},
    failure::{Failure, Frame},
    report::{drop_guarded, guarded, report},
};
use signal_hook::consts::{FORBIDDEN, SIGINT, SIGTERM, SIGUSR1};
use std::{
    cell::{Cell, RefCell},
    fmt, io,
    panic::Location,
    rc::{Rc, Weak},
};

/// The function to call for each signal.
type Handler = Box<dyn FnMut(i32)>;

struct OnSignal {
    signals: Box<dyn Signals>,
    /// `None` while it runs.
    handler: RefCell<Option<Handler>>,
    /// The line that added it; `None` for the reactor's own.
    created_at: Option<&'static Location<'static>>,
}

impl Drop for OnSignal {
    fn drop(&mut self) {
        drop_guarded(self.handler.take());
    }
}

/// Installs the reactor's handlers, those for SIGINT and SIGTERM only if `stop` is set, and returns
/// their slot.
pub(super) fn install(core: &Rc<Core>, stop: bool) -> io::Result<Option<usize>> {
    let mut wanted = Vec::new();
    if stop {
        wanted.extend([SIGINT, SIGTERM]);
    }
    if debug::wanted_by_environment() {
        wanted.push(SIGUSR1);
    }
    let weak = Rc::downgrade(core);
    let handler = move |signal| {
        if signal == SIGUSR1 {
            debug::print_waiting();
        } else if let Some(core) = weak.upgrade() {
            core.stop_by_signal(signal);
        }
    };
    if wanted.is_empty() {
        return Ok(None);
    }
    listen(core, &wanted, Box::new(handler), None)
}

fn listen(
    core: &Rc<Core>,
    wanted: &[i32],
    handler: Handler,
    created_at: Option<&'static Location<'static>>,
) -> io::Result<Option<usize>> {
    let slot = core.sources.borrow().vacant_key();
    if let Some(signals) = core.backend.signals(slot, wanted)? {
        let source =
            Rc::new(OnSignal { signals, handler: RefCell::new(Some(handler)), created_at });
        let given = core.sources.borrow_mut().insert(source);
        debug_assert_eq!(given, slot, "nothing came in between");
        return Ok(Some(slot));
    }
    // this back end has no signals, so the slot is free again
    Ok(None)
}

impl Source for OnSignal {
    fn describe(&self) -> Option<String> {
        self.created_at.map(|created_at| format!("a signal handler made at {created_at}"))
    }

    fn ready(self: Rc<Self>, _readiness: Readiness, _buffer: &mut [u8]) {
        for signal in self.signals.pending() {
            let handler = self.handler.take();
            let Some(mut handler) = handler else { return };
            // user code
            let called = guarded(
                || Frame::new("on_signal", self.created_at.unwrap_or(Location::caller())),
                || handler(signal),
            );
            *self.handler.borrow_mut() = Some(handler);
            if let Err(failure) = called {
                report(failure, self.describe().unwrap_or_default());
            }
        }
    }
}

/// A signal handler added with [`Reactor::on_signal`]. Dropping it changes nothing.
pub struct SignalHandler {
    core: Weak<Core>,
    slot: Cell<Option<usize>>,
    signal: i32,
}

impl SignalHandler {
    /// Removes the handler. If it was the last one of its signal, the signal has its former action
    /// again.
    pub fn stop(&self) {
        if let (Some(core), Some(slot)) = (self.core.upgrade(), self.slot.take()) {
            let removed = core.remove(slot);
            drop(removed);
        }
    }
}

impl fmt::Debug for SignalHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<SignalHandler of signal {}>", self.signal)
    }
}

impl Reactor {
    /// Calls `f` in a turn of the reactor each time the process receives `signal`. A signal that
    /// arrives during a long callback is not lost; several of the same number before a turn cause
    /// one call.
    ///
    /// `signal` is a number such as `signal_hook::consts::SIGHUP`.
    ///
    /// ```
    /// use twistor::reactor::Reactor;
    ///
    /// const SIGHUP: i32 = 1;
    /// let reactor = Reactor::new()?;
    /// reactor.on_signal(SIGHUP, || println!("reading the configuration again"))?;
    /// # Ok::<(), twistor::failure::Failure>(())
    /// ```
    ///
    /// # Errors
    /// Fails with [`ValueError`] for a signal that cannot be handled (SIGKILL, SIGSTOP, SIGSEGV,
    /// SIGILL, SIGFPE), with [`ReactorClosed`], and with an operating-system error.
    #[track_caller]
    pub fn on_signal(
        &self,
        signal: i32,
        mut f: impl FnMut() + 'static,
    ) -> Result<SignalHandler, Failure> {
        if FORBIDDEN.contains(&signal) {
            return Err(ValueError::with_text(format!("signal {signal} cannot be handled")).into());
        }
        if self.0.is_closed() {
            return Err(ReactorClosed::new().into());
        }
        let slot = listen(&self.0, &[signal], Box::new(move |_| f()), Some(Location::caller()))?;
        Ok(SignalHandler { core: Rc::downgrade(&self.0), slot: Cell::new(slot), signal })
    }
}

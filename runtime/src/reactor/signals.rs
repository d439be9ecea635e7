//! SIGINT and SIGTERM stop the reactor; with `TWISTOR_DEBUG=1`, SIGUSR1 shows what waits.
use super::{
    backend::Signals,
    handle::Core,
    source::{Readiness, Source},
};
use crate::defer::debug;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::{
    io,
    rc::{Rc, Weak},
};

struct OnSignal {
    signals: Box<dyn Signals>,
    core: Weak<Core>,
}

/// Lets the signals of this process reach `core` from now on; those that stop it only if `stop`.
pub(super) fn install(core: &Rc<Core>, stop: bool) -> io::Result<()> {
    let mut wanted = Vec::new();
    if stop {
        wanted.extend([SIGINT, SIGTERM]);
    }
    if debug::wanted_by_environment() {
        wanted.push(SIGUSR1);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let slot = core.sources.borrow().vacant_key();
    if let Some(signals) = core.backend.signals(slot, &wanted)? {
        let source = Rc::new(OnSignal { signals, core: Rc::downgrade(core) });
        let given = core.sources.borrow_mut().insert(source);
        debug_assert_eq!(given, slot, "nothing came in between");
    }
    Ok(())
}

impl Source for OnSignal {
    fn ready(self: Rc<Self>, _readiness: Readiness, _buffer: &mut [u8]) {
        let Some(core) = self.core.upgrade() else { return };
        for signal in self.signals.pending() {
            if signal == SIGUSR1 {
                debug::print_waiting();
            } else {
                tracing::info!("received signal {signal}, stopping");
                core.request_stop();
            }
        }
    }
}

//! SIGINT and SIGTERM stop the reactor.
use super::{
    backend::Signals,
    handle::Core,
    source::{Readiness, Source},
};
use std::{
    io,
    rc::{Rc, Weak},
};

struct StopOnSignal {
    signals: Box<dyn Signals>,
    core: Weak<Core>,
}

/// Lets the signals of this process stop `core` from now on.
pub(super) fn install(core: &Rc<Core>) -> io::Result<()> {
    let slot = core.sources.borrow().vacant_key();
    if let Some(signals) = core.backend.signals(slot)? {
        let source = Rc::new(StopOnSignal { signals, core: Rc::downgrade(core) });
        let given = core.sources.borrow_mut().insert(source);
        debug_assert_eq!(given, slot, "nothing came in between");
    }
    Ok(())
}

impl Source for StopOnSignal {
    fn ready(self: Rc<Self>, _readiness: Readiness, _buffer: &mut [u8]) {
        let Some(core) = self.core.upgrade() else { return };
        for signal in self.signals.pending() {
            tracing::info!("received signal {signal}, stopping");
            core.request_stop();
        }
    }
}

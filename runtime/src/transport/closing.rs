//! The end of a stream that was asked to close: shut the writing side down, read on to the peer's end, then close.
use super::stream::{DISCARDING, PEER_ENDED, TOLD, WireStream};
use crate::{error::ConnectionDone, reactor::source::Readiness, time::DelayedCall};
use std::{io::ErrorKind, time::Duration};

/// How much a closing stream discards, and for how long, before it stops waiting for the peer's end.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// What a closing stream waits for.
pub(super) struct Lingering {
    left: usize,
    pub(super) timer: DelayedCall,
}

impl WireStream {
    /// The last byte is with the system: end of writing, then wait for the peer's.
    pub(super) fn all_sent(&self) {
        if self.has(PEER_ENDED) {
            self.end_later(|| ConnectionDone::new().into());
            return;
        }
        if let Err(error) = self.with_wire(|wire| wire.shutdown()) {
            self.end_later(|| self.lost(&error));
            return;
        }
        self.set(DISCARDING);
        let Some(core) = self.core.upgrade() else { return };
        let me = self.me.clone();
        let timer = core.timer(LINGER_TIME, move || {
            if let Some(stream) = me.upgrade() {
                stream.end_later(|| ConnectionDone::new().into());
            }
        });
        self.lingering.replace(Some(Box::new(Lingering { left: LINGER_BYTES, timer })));
        // there may be input that no new event will tell of
        core.look_again(self.slot.get(), Readiness::TO_THE_END);
    }

    pub(super) fn discard(&self, buffer: &mut [u8]) {
        loop {
            match self.read(buffer) {
                Ok(read) => {
                    let mut lingering = self.lingering.borrow_mut();
                    let left = lingering.as_mut().map_or(0, |lingering| {
                        lingering.left = lingering.left.saturating_sub(read);
                        lingering.left
                    });
                    if read == 0 || left == 0 {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // everything was sent and the end was asked for: a reset now changes nothing
                Err(_) => break,
            }
        }
        self.end(|| ConnectionDone::new().into());
        self.set(TOLD);
    }
}

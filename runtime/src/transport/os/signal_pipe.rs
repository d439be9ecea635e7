//! Signals of the process as a source of events, and their actions when nothing handles them.
use crate::reactor::backend::Signals;
use mio::{Interest, Registry, Token};
use signal_hook::flag::register_conditional_default;
use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A pipe through which signals of the process arrive.
pub(super) struct SignalPipe {
    signals: RefCell<signal_hook_mio::v1_0::Signals>,
    wanted: Vec<i32>,
}

/// A signal that this process has handled at some time. The handler of `signal-hook` stays installed
/// for ever; while no pipe takes the signal, the handler does what the system would have done.
struct Handled {
    pipes: usize,
    /// Whether the default action is taken; `None` for a signal that did not have it before.
    default: Option<Arc<AtomicBool>>,
}

fn handled() -> MutexGuard<'static, HashMap<i32, Handled>> {
    static HANDLED: LazyLock<Mutex<HashMap<i32, Handled>>> = LazyLock::new(Mutex::default);
    HANDLED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SignalPipe {
    pub(super) fn new(registry: &Registry, slot: usize, wanted: &[i32]) -> io::Result<Self> {
        let mut handled = handled();
        for signal in wanted {
            if !handled.contains_key(signal) {
                let default = has_default_action(*signal).then(Arc::<AtomicBool>::default);
                if let Some(default) = &default {
                    // a signal whose default action is not known keeps being ignored
                    let _ = register_conditional_default(*signal, default.clone());
                }
                handled.insert(*signal, Handled { pipes: 0, default });
            }
        }
        let mut signals = signal_hook_mio::v1_0::Signals::new(wanted)?;
        registry.register(&mut signals, Token(slot), Interest::READABLE)?;
        for signal in wanted {
            if let Some(signal) = handled.get_mut(signal) {
                signal.pipes += 1;
                signal.set_default(false);
            }
        }
        Ok(Self { signals: RefCell::new(signals), wanted: wanted.to_vec() })
    }
}

impl Signals for SignalPipe {
    fn pending(&self) -> Vec<i32> {
        self.signals.borrow_mut().pending().collect()
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        let mut handled = handled();
        for signal in &self.wanted {
            if let Some(signal) = handled.get_mut(signal) {
                signal.pipes -= 1;
                signal.set_default(signal.pipes == 0);
            }
        }
    }
}

impl Handled {
    fn set_default(&self, yes: bool) {
        if let Some(default) = &self.default {
            default.store(yes, Ordering::SeqCst);
        }
    }
}

/// Returns whether the process neither ignores nor handles the signal. Where the system does not
/// tell, that is assumed.
fn has_default_action(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    ["SigIgn:", "SigCgt:"].iter().all(|name| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 0)
    })
}

//! The watchdog: names user code that blocks the reactor.
use super::{Core, Reactor};
use std::time::Duration;

impl Reactor {
    /// Logs a warning naming any callback that blocks the reactor for `limit` or longer: the
    /// connection, the port, or the line that scheduled a delayed call. No other connection is
    /// served while a callback runs. `None`, the default, reads no clock and costs nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use twistor::reactor::Reactor;
    ///
    /// let reactor = Reactor::new()?;
    /// reactor.set_slow_callback_duration(Duration::from_millis(200));
    /// # Ok::<(), twistor::failure::Failure>(())
    /// ```
    #[doc(alias = "slow_callback_duration")]
    pub fn set_slow_callback_duration(&self, limit: impl Into<Option<Duration>>) {
        self.0.slow.set(limit.into());
        self.0.schedule.set_work();
    }
}

impl Core {
    /// Runs a part of a turn and measures it; `what` names the user code that ran, if any did.
    pub(super) fn watched<R>(
        &self,
        limit: Duration,
        run: impl FnOnce() -> R,
        what: impl FnOnce(&R) -> Option<String>,
    ) -> R {
        let start = self.backend.now();
        let ran = run();
        let took = self.backend.now().saturating_sub(start);
        if took >= limit
            && let Some(what) = what(&ran)
        {
            tracing::warn!("{what} has blocked the reactor for {took:?}; the limit is {limit:?}");
        }
        ran
    }
}

//! The watchdog: names what keeps the reactor from everything else.
use super::{Core, Reactor};
use std::time::Duration;

impl Reactor {
    /// Has a warning logged for every piece of user code that keeps the reactor busy for `limit` or
    /// longer, with what it was: the connection, the port, the place where a delayed call was made.
    /// While such a piece runs no other connection is served. `None`, as at first, looks at no
    /// clock and costs nothing.
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
    /// Runs a piece of a turn with an eye on the clock; `what` names it, if it says what it has
    /// run.
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
            tracing::warn!("{what} has kept the reactor busy for {took:?}; the limit is {limit:?}");
        }
        ran
    }
}

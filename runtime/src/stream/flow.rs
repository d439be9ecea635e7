//! Back-pressure: the producer, the watermarks, and `drained()` waiters.
//!
//! A producer's methods are user code. `pause_producing` runs inside the write that fills the
//! queue, and the first `resume_producing` of a pull producer inside its registration. All other
//! calls come from a turn of the reactor, while nothing is borrowed.
use super::{
    producer::{Producer, ProducerKind, WriteMarks},
    state::{Flow, HIGH_MARK, Lifecycle, Stream, WriteHalf},
};
use crate::{
    defer::{Deferred, Resolver},
    error::RuntimeError,
    failure::{Failure, Frame},
    reactor::source::Readiness,
    report::{drop_guarded, guarded, report},
};
use std::{panic::Location, rc::Rc};

impl Stream {
    pub(super) fn flow<R>(&self, work: impl FnOnce(&mut Flow) -> R) -> R {
        self.cold_mut(|cold| work(&mut cold.flow))
    }

    /// Calls a method of the producer. A panic in it closes the connection.
    pub(super) fn call_producer(
        &self,
        producer: Rc<dyn Producer>,
        name: &'static str,
        call: impl FnOnce(&dyn Producer),
    ) {
        // user code
        let called = guarded(|| Frame::new(name, Location::caller()), || call(&*producer));
        if let Err(failure) = called {
            let peer = self.peer();
            report(failure.clone(), format!("{name} of the producer, connection with {peer}"));
            self.lose_connection(Some(failure));
        }
        // user code: the drop of a producer
        drop_guarded(producer);
    }

    /// Checks the queue after a write that could not be sent completely, and pauses the producer if
    /// the queue is too long.
    #[inline]
    pub(super) fn check_high_water(&self) {
        if !self.is_queue_empty() && self.is_watched() {
            self.above_high_water();
        }
    }

    /// Pauses the push producer if more than the high mark is queued.
    pub(super) fn above_high_water(&self) {
        let (queued, crowded) = (self.queued(), self.is_crowded());
        let producer = self.flow(|flow| match &flow.producer {
            Some((producer, ProducerKind::Push))
                if (crowded || queued > flow.high) && !flow.paused =>
            {
                flow.paused = true;
                Some(producer.clone())
            }
            _ => None,
        });
        if let Some(producer) = producer {
            self.call_producer(producer, "pause_producing", |producer| producer.pause_producing());
        }
    }

    /// Records that a pull producer has written. A later turn asks for the next piece when this one
    /// has been sent.
    pub(super) fn pull_write(&self) {
        if !self.flow(|flow| std::mem::replace(&mut flow.written, true)) {
            self.reschedule(Readiness::WRITABLE);
        }
    }

    /// Resumes the producer and fires the `drained()` waiters, if the queue is short enough. Runs
    /// in a turn of the reactor.
    pub(super) fn below_low_water(&self) {
        if self.is_closed() || !self.is_watched() {
            return;
        }
        let queued = self.queued();
        let producer = self.flow(|flow| {
            let due = match &flow.producer {
                Some((_, ProducerKind::Push)) => flow.paused && queued <= flow.low,
                Some((_, ProducerKind::Pull)) => flow.written && queued == 0,
                None => false,
            };
            if !due {
                return None;
            }
            // cleared before the call, which may fill the queue again
            flow.paused = false;
            flow.written = false;
            flow.producer.as_ref().map(|(producer, _)| producer.clone())
        });
        if let Some(producer) = producer {
            let resume = |producer: &dyn Producer| producer.resume_producing();
            self.call_producer(producer, "resume_producing", resume);
        }
        self.fire_drained();
    }

    /// Fires the `drained()` waiters, if the queue is short enough.
    pub(super) fn fire_drained(&self) {
        // a closed stream has dropped its queue without sending it
        if self.is_closed() || !self.is_watched() {
            return;
        }
        let queued = self.queued();
        let drained = self.flow(|flow| {
            if queued <= flow.low { std::mem::take(&mut flow.drained) } else { Vec::new() }
        });
        self.update();
        for resolver in drained {
            // user code
            resolver.callback(());
        }
    }

    pub(crate) fn register_producer(
        &self,
        producer: Rc<dyn Producer>,
        kind: ProducerKind,
    ) -> Result<(), Failure> {
        if self.takes_no_producer() {
            self.call_producer(producer, "stop_producing", |producer| producer.stop_producing());
            return Ok(());
        }
        if self.has_producer() {
            let text =
                format!("a producer is already registered on the connection with {}", self.peer());
            return Err(RuntimeError::with_text(text).into());
        }
        // the pieces of a pull producer are not corked, so nothing may be corked when it registers
        self.flush();
        self.flow(|flow| {
            flow.producer = Some((producer.clone(), kind));
            (flow.paused, flow.written, flow.from_pipe) = (false, false, false);
        });
        self.update();
        match kind {
            ProducerKind::Pull => {
                let resume = |producer: &dyn Producer| producer.resume_producing();
                self.call_producer(producer, "resume_producing", resume);
            }
            ProducerKind::Push => self.above_high_water(),
        }
        Ok(())
    }

    /// Returns whether data of a producer could not be sent any more.
    fn takes_no_producer(&self) -> bool {
        matches!(
            self.lifecycle(),
            Lifecycle::Open { write: WriteHalf::Closed { .. }, .. }
                | Lifecycle::Lingering
                | Lifecycle::Closed { .. }
        )
    }

    /// Removes the producer, which has finished, and begins a close that waited for it.
    pub(crate) fn unregister_producer(&self) {
        let Some(producer) = self.take_producer() else { return };
        // user code: the drop of a producer
        drop_guarded(producer);
        self.advance_close();
    }

    /// Removes the producer without advancing a close that waited for it.
    pub(super) fn take_producer(&self) -> Option<Rc<dyn Producer>> {
        let taken = self.cold.borrow_mut().as_mut().and_then(|cold| cold.flow.producer.take());
        self.update();
        taken.map(|(producer, _)| producer)
    }

    /// Stops the producer, and advances a close that waited for it.
    pub(super) fn stop_producer(&self) {
        let from_pipe = self.cold(|cold| cold.flow.from_pipe) == Some(true);
        let Some(producer) = self.take_producer() else { return };
        if !from_pipe {
            self.call_producer(producer, "stop_producing", |producer| producer.stop_producing());
        }
        self.advance_close();
    }

    #[track_caller]
    pub(crate) fn drained(&self) -> Deferred<()> {
        if self.is_closed() {
            return Deferred::fail(self.failure_or_done());
        }
        // corked bytes are sent first, so that a coroutine that waits after each piece never queues
        // more than one
        self.flush();
        if self.queued() <= self.write_marks().low {
            return Deferred::succeed(());
        }
        let (deferred, resolver) = Deferred::new();
        self.flow(|flow| {
            flow.drained.retain(Resolver::is_wanted);
            flow.drained.push(resolver);
        });
        self.update();
        deferred
    }

    pub(crate) fn write_marks(&self) -> WriteMarks {
        self.cold(|cold| WriteMarks { low: cold.flow.low, high: cold.flow.high })
            .unwrap_or(WriteMarks { low: 0, high: HIGH_MARK })
    }

    pub(crate) fn set_write_marks(&self, low: usize, high: usize) {
        self.flow(|flow| (flow.low, flow.high) = (low, high));
        if self.is_watched() {
            self.above_high_water();
            // the queue may be below the new low mark: a later turn acts on that
            self.reschedule(Readiness::WRITABLE);
        }
    }

    /// Stops the producer, the pipe, the waiters and the linger timer when the connection is lost.
    #[inline(never)]
    pub(super) fn stop_flow(&self) {
        let reason = self.failure_or_done();
        let Some(mut cold) = self.cold.take() else { return };
        if let Some((producer, _)) = cold.flow.producer.take()
            && !cold.flow.from_pipe
        {
            self.call_producer(producer, "stop_producing", |producer| producer.stop_producing());
        }
        if let Some(other) = cold.flow.pipe.take() {
            other.unregister_producer();
            other.lose_connection(None);
        }
        for resolver in cold.flow.drained {
            // user code
            resolver.errback(reason.clone());
        }
        if let Some(linger) = cold.linger {
            // the timer may have fired already
            let _ = linger.timer.cancel();
        }
    }
}

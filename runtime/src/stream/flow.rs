//! How much a stream takes: its producer, its marks, who waits for room, and where its input is
//! piped to.
//!
//! A producer's methods are user code. `pause_producing` runs inside the write that fills the
//! queue, the first `resume_producing` of a pull producer inside its registration; everything else
//! in a turn of the reactor, with no borrow held.
use super::state::{
    CLOSING, DISCARDING, ENDED, FLOW, OPEN, PEER_ENDED, PIPED, PRODUCING, PULLED, QUEUED,
    WRITE_CLOSED, WRITE_CLOSING, WireStream,
};
use crate::{
    defer::{Deferred, Resolver},
    error::RuntimeError,
    failure::{Failure, Frame},
    reactor::source::Readiness,
    report::{drop_guarded, guarded, report},
    stream::{Producer, ProducerKind, Stream, Transport},
};
use std::{panic::Location, rc::Rc};

/// The high mark of a stream, unless it is told otherwise.
const HIGH_MARK: usize = 64 * 1024;

/// What a stream needs as soon as somebody cares how much is queued.
pub(super) struct Flow {
    low: usize,
    high: usize,
    producer: Option<(Rc<dyn Producer>, ProducerKind)>,
    /// Whether the push producer was paused last.
    paused: bool,
    /// Whether the pull producer has written since it was resumed.
    written: bool,
    drained: Vec<Resolver<()>>,
    pipe: Option<Transport>,
    /// Whether the producer is the other side of a pipe.
    from_pipe: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            low: 0,
            high: HIGH_MARK,
            producer: None,
            paused: false,
            written: false,
            drained: Vec::new(),
            from_pipe: false,
            pipe: None,
        }
    }
}

impl WireStream {
    fn flow<R>(&self, work: impl FnOnce(&mut Flow) -> R) -> R {
        work(&mut self.rare.borrow_mut().get_or_insert_default().flow)
    }

    /// Calls a method of the producer; a panic in it costs the connection.
    fn produce(
        &self,
        producer: Rc<dyn Producer>,
        name: &'static str,
        call: impl FnOnce(&dyn Producer),
    ) {
        // user code
        if let Err(failure) = guarded(|| Frame::new(name, Location::caller()), || call(&*producer))
        {
            report(
                failure.clone(),
                format!("{name} of the producer, connection with {}", self.peer()),
            );
            self.close(Some(failure));
        }
        // user code: the drop of a producer
        drop_guarded(producer);
    }

    /// The queue has become longer, inside a write.
    pub(super) fn filled(&self) {
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
            self.produce(producer, "pause_producing", |producer| producer.pause_producing());
        }
    }

    /// A pull producer has written: it is asked again when that has been sent, in a later turn.
    pub(super) fn pulled(&self) {
        if !self.flow(|flow| std::mem::replace(&mut flow.written, true)) {
            self.put_off(Readiness::WRITABLE);
        }
    }

    /// The queue may have become shorter: lets the producer go on, and who waits for room. Runs in
    /// a turn of the reactor.
    pub(super) fn eased(&self) {
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
            // before the call, in which it may fill the queue again
            flow.paused = false;
            flow.written = false;
            flow.producer.as_ref().map(|(producer, _)| producer.clone())
        });
        if let Some(producer) = producer {
            self.produce(producer, "resume_producing", |producer| producer.resume_producing());
        }
        self.tell_drained();
    }

    /// Fires for those who wait for room, if there is.
    pub(super) fn tell_drained(&self) {
        if self.has(ENDED) {
            // nothing was sent: it was thrown away
            return;
        }
        let queued = self.queued();
        let drained = self.flow(|flow| {
            if queued <= flow.low { std::mem::take(&mut flow.drained) } else { Vec::new() }
        });
        for resolver in drained {
            // user code
            resolver.callback(());
        }
        self.watch_flow();
    }

    /// Keeps the flag that has the queue watched.
    fn watch_flow(&self) {
        let watched = self.flow(|flow| flow.producer.is_some() || !flow.drained.is_empty());
        if watched {
            self.set(FLOW);
        } else {
            self.clear(FLOW);
        }
    }

    pub(super) fn add_producer(
        &self,
        producer: Rc<dyn Producer>,
        kind: ProducerKind,
    ) -> Result<(), Failure> {
        if self.has(ENDED | DISCARDING | WRITE_CLOSED) {
            self.produce(producer, "stop_producing", |producer| producer.stop_producing());
            return Ok(());
        }
        if self.has(PRODUCING) {
            let text =
                format!("a producer is registered already on the connection with {}", self.peer());
            return Err(RuntimeError::with_text(text).into());
        }
        self.flow(|flow| {
            flow.producer = Some((producer.clone(), kind));
            (flow.paused, flow.written, flow.from_pipe) = (false, false, false);
        });
        self.set(PRODUCING | FLOW);
        match kind {
            ProducerKind::Pull => {
                self.set(PULLED);
                self.produce(producer, "resume_producing", |producer| producer.resume_producing());
            }
            ProducerKind::Push => self.filled(),
        }
        Ok(())
    }

    /// The producer is done: a close that has waited for it begins.
    pub(super) fn remove_producer(&self) {
        if !self.has(PRODUCING) {
            return;
        }
        let gone = self.producer_out();
        // user code: the drop of a producer
        drop_guarded(gone);
        if !self.has(QUEUED) {
            self.next_of_closing();
        }
    }

    /// Takes the producer out without a close that has waited for it.
    pub(super) fn producer_out(&self) -> Option<Rc<dyn Producer>> {
        if !self.has(PRODUCING) {
            return None;
        }
        self.clear(PRODUCING | PULLED);
        let gone = self.flow(|flow| flow.producer.take());
        self.watch_flow();
        gone.map(|(producer, _)| producer)
    }

    /// Stops a producer of no more use, and goes on with a close that has waited for it.
    pub(super) fn stop_producer(&self) {
        let from_pipe = self.flow(|flow| flow.from_pipe);
        let Some(producer) = self.producer_out() else { return };
        if !from_pipe {
            self.produce(producer, "stop_producing", |producer| producer.stop_producing());
        }
        if !self.has(QUEUED) {
            self.next_of_closing();
        }
    }

    pub(super) fn wait_for_room(&self, place: &'static Location<'static>) -> Deferred<()> {
        if self.has(ENDED) {
            let reason =
                self.failure().unwrap_or_else(|| crate::error::ConnectionDone::new().into());
            return Deferred::ready(Err(reason), place);
        }
        if self.queued() <= self.flow(|flow| flow.low) {
            return Deferred::ready(Ok(()), place);
        }
        let (deferred, resolver) = Deferred::new();
        self.flow(|flow| {
            flow.drained.retain(Resolver::is_wanted);
            flow.drained.push(resolver);
        });
        self.set(FLOW);
        deferred
    }

    pub(super) fn limits(&self) -> (usize, usize) {
        match &*self.rare.borrow() {
            Some(rare) => (rare.flow.low, rare.flow.high),
            None => (0, HIGH_MARK),
        }
    }

    pub(super) fn set_limits(&self, low: usize, high: usize) {
        self.flow(|flow| (flow.low, flow.high) = (low, high));
        if self.has(FLOW) {
            self.filled();
            // a higher low mark may be reached already: told in a later turn
            self.put_off(Readiness::WRITABLE);
        }
    }

    /// What arrives goes to `to` from now on.
    pub(super) fn start_pipe(&self, to: &Transport) {
        if self.has(ENDED) {
            to.unregister_producer();
            return to.lose_connection();
        }
        self.flow(|flow| flow.pipe = Some(to.clone()));
        self.set(PIPED);
        if self.has(PEER_ENDED) {
            // its end came before
            to.unregister_producer();
            to.lose_write_connection();
        }
        self.look_again();
    }

    /// The other side of a pipe is what is written here from now on; a producer that was there
    /// before is stopped.
    pub(super) fn take_from_pipe(&self, source: Transport) {
        if let Some(old) = self.producer_out() {
            self.produce(old, "stop_producing", |producer| producer.stop_producing());
        }
        // the old one may have put another in its place
        if self.add_producer(Rc::new(source), ProducerKind::Push).is_ok() {
            self.flow(|flow| flow.from_pipe = true);
        }
    }

    /// The other side of a pipe is no producer any more; a producer of somebody else's is waited
    /// for.
    pub(super) fn drop_pipe_producer(&self) {
        if self.has(PIPED) && self.flow(|flow| flow.from_pipe) {
            let gone = self.producer_out();
            drop(gone);
        }
    }

    /// What arrives goes to the protocol again, and where it went before is told; the other side is
    /// no producer any more.
    pub(super) fn end_pipe(&self) -> Option<Transport> {
        let other = self.piped_to()?;
        if self.flow(|flow| flow.from_pipe && std::mem::take(&mut flow.paused)) {
            // by this side, which will not say that there is room again
            other.resume_producing();
        }
        self.drop_pipe_producer();
        self.clear(PIPED);
        self.flow(|flow| flow.pipe = None);
        Some(other)
    }

    /// Where what arrives goes, if it is piped.
    pub(super) fn piped_to(&self) -> Option<Transport> {
        self.rare.borrow().as_ref().and_then(|rare| rare.flow.pipe.clone())
    }

    /// The connection is lost: stops the producer, the pipe, and who waits for room.
    #[inline(never)]
    pub(super) fn stop_flow(&self, reason: &Failure) {
        let Some(mut rare) = self.rare.take() else { return };
        self.clear(FLOW | PRODUCING | PULLED | PIPED);
        if let Some((producer, _)) = rare.flow.producer.take()
            && !rare.flow.from_pipe
        {
            self.produce(producer, "stop_producing", |producer| producer.stop_producing());
        }
        if let Some(other) = rare.flow.pipe.take() {
            other.unregister_producer();
            other.lose_connection();
        }
        for resolver in rare.flow.drained {
            // user code
            resolver.errback(reason.clone());
        }
        if let Some(lingering) = rare.lingering {
            // it may have struck already
            let _ = lingering.timer.cancel();
        }
    }

    /// Whether the end of writing waits for a producer.
    pub(super) fn waits_for_producer(&self) -> bool {
        self.has(PRODUCING)
    }

    /// Whether what is written still goes out: also a producer's, after the end that waits for it.
    pub(super) fn takes_writes(&self) -> bool {
        if self.has(ENDED | DISCARDING | WRITE_CLOSED) {
            return false;
        }
        self.has(PRODUCING) && self.has(OPEN | CLOSING)
            || self.has(OPEN) && !self.has(WRITE_CLOSING)
    }
}

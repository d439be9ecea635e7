//! How much a stream takes: its producer, its marks, who waits for room, and where its input is piped to.
//!
//! A producer's methods are user code. `pause_producing` runs inside the write that fills the queue, the first `resume_producing` of a pull
//! producer inside its registration; everything else in a turn of the reactor, with no borrow held.
use super::stream::{CLOSING, DESCRIPTORS, ENDED, FLOW, OPEN, PEER_ENDED, PIPED, PRODUCING, PULLED, QUEUED, WRITE_CLOSING, WireStream};
use crate::{
    defer::{Deferred, Resolver},
    error::{FileDescriptorOverrun, RuntimeError},
    failure::{Failure, Frame},
    protocol::{Producer, ProducerKind, Stream, Transport},
    reactor::source::Readiness,
    report::{guarded, report},
};
use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    panic::Location,
    rc::Rc,
};

/// With more descriptors than this the queue counts as full.
const MOST_DESCRIPTORS: usize = 64;

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
    /// The descriptors that go with the next bytes.
    descriptors: Vec<OwnedFd>,
    pipe: Option<Transport>,
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
            descriptors: Vec::new(),
            pipe: None,
        }
    }
}

impl WireStream {
    fn flow<R>(&self, work: impl FnOnce(&mut Flow) -> R) -> R {
        work(&mut self.rare.borrow_mut().get_or_insert_default().flow)
    }

    /// Calls a method of the producer; a panic in it costs the connection.
    fn produce(&self, producer: &Rc<dyn Producer>, name: &'static str, call: impl FnOnce(&dyn Producer)) {
        // user code
        if let Err(failure) = guarded(|| Frame::new(name, Location::caller()), || call(&**producer)) {
            report(failure.clone(), format!("{name} of the producer, connection with {}", self.peer()));
            self.close(Some(failure));
        }
    }

    /// The queue has become longer, inside a write.
    pub(super) fn filled(&self) {
        let queued = self.queued();
        let producer = self.flow(|flow| match &flow.producer {
            Some((producer, ProducerKind::Push)) if flow.descriptors.len() > MOST_DESCRIPTORS && !flow.paused => {
                flow.paused = true;
                Some(producer.clone())
            }
            Some((producer, ProducerKind::Push)) if queued > flow.high && !flow.paused => {
                flow.paused = true;
                Some(producer.clone())
            }
            _ => None,
        });
        if let Some(producer) = producer {
            self.produce(&producer, "pause_producing", |producer| producer.pause_producing());
        }
    }

    /// Keeps a descriptor for the next bytes. It is looked after in the next turn at the latest.
    pub(super) fn keep_descriptor(&self, descriptor: OwnedFd) {
        if self.has(WRITE_CLOSING) || !self.takes_writes() {
            return;
        }
        self.flow(|flow| flow.descriptors.push(descriptor));
        if !self.has(DESCRIPTORS) {
            self.set(DESCRIPTORS);
            self.put_off(Readiness::WRITABLE);
        }
        self.filled();
    }

    /// Sends queued bytes with the descriptors that wait for them. More descriptors than bytes end the connection: they would never be sent.
    pub(super) fn write_with_descriptors(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let descriptors = self.flow(|flow| std::mem::take(&mut flow.descriptors));
        let sent = self.with_wire(|wire| wire.write_descriptors(slices, &descriptors));
        match sent {
            Ok(_) => self.clear(DESCRIPTORS),
            Err(_) => self.flow(|flow| flow.descriptors = descriptors),
        }
        sent
    }

    /// Whether there are more descriptors than bytes.
    pub(super) fn overrun(&self) -> Option<Failure> {
        let descriptors = self.flow(|flow| flow.descriptors.len());
        let text = format!("{descriptors} descriptors for {} bytes", self.queued());
        (descriptors > self.queued()).then(|| FileDescriptorOverrun::with_text(text).with_address(self.peer()).into())
    }

    /// A pull producer has written: it is asked again when that has been sent, in a later turn.
    pub(super) fn pulled(&self) {
        if !self.flow(|flow| std::mem::replace(&mut flow.written, true)) {
            self.put_off(Readiness::WRITABLE);
        }
    }

    /// The queue may have become shorter: lets the producer go on, and who waits for room. Runs in a turn of the reactor.
    pub(super) fn eased(&self) {
        let queued = self.queued();
        let (drained, producer) = self.flow(|flow| {
            let drained = if queued <= flow.low { std::mem::take(&mut flow.drained) } else { Vec::new() };
            let due = match &flow.producer {
                Some((_, ProducerKind::Push)) => flow.paused && queued <= flow.low,
                Some((_, ProducerKind::Pull)) => flow.written && queued == 0,
                None => false,
            };
            if !due {
                return (drained, None);
            }
            // before the call, in which it may fill the queue again
            flow.paused = false;
            flow.written = false;
            (drained, flow.producer.as_ref().map(|(producer, _)| producer.clone()))
        });
        if let Some(producer) = producer {
            self.produce(&producer, "resume_producing", |producer| producer.resume_producing());
        }
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

    pub(super) fn add_producer(&self, producer: &Rc<dyn Producer>, kind: ProducerKind) -> Result<(), Failure> {
        if self.has(ENDED) {
            // user code
            self.produce(producer, "stop_producing", |producer| producer.stop_producing());
            return Ok(());
        }
        if self.has(PRODUCING) {
            let text = format!("a producer is registered already on the connection with {}", self.peer());
            return Err(RuntimeError::with_text(text).into());
        }
        self.flow(|flow| {
            flow.producer = Some((producer.clone(), kind));
            flow.paused = false;
            flow.written = false;
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
        let gone = self.flow(|flow| flow.producer.take());
        self.clear(PRODUCING | PULLED);
        self.watch_flow();
        // user code: the drop of a producer
        crate::report::drop_guarded(gone);
        if !self.has(QUEUED) {
            self.next_of_closing();
        }
    }

    pub(super) fn wait_for_room(&self, place: &'static Location<'static>) -> Deferred<()> {
        if self.has(ENDED) {
            let reason = self.failure().unwrap_or_else(|| crate::error::ConnectionDone::new().into());
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

    pub(super) fn start_pipe(&self, to: Transport) {
        if self.has(ENDED) {
            return;
        }
        if let Some(me) = self.me.upgrade() {
            let source: Rc<dyn Producer> = Rc::new(Transport(Some(me)));
            if let Some(target) = &to.0 {
                let old = target.take_producer();
                if let Some(old) = old {
                    // user code
                    self.produce(&old, "stop_producing", |producer| producer.stop_producing());
                }
                // it has none now
                let _ = target.register_producer(source, ProducerKind::Push);
            }
        }
        self.flow(|flow| flow.pipe = Some(to));
        self.set(PIPED);
        self.look_again();
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

    /// Stops a producer whose connection has failed, and goes on with the close.
    pub(super) fn stop_producer(&self) {
        if let Some(producer) = self.producer_out() {
            self.produce(&producer, "stop_producing", |producer| producer.stop_producing());
            if !self.has(QUEUED) {
                self.next_of_closing();
            }
        }
    }

    /// Where what arrives goes, if it is piped.
    pub(super) fn piped_to(&self) -> Option<Transport> {
        self.rare.borrow().as_ref().and_then(|rare| rare.flow.pipe.clone())
    }

    /// The connection is lost: stops the producer, the pipe, and who waits for room.
    pub(super) fn stop_flow(&self, reason: &Failure) {
        let Some(mut rare) = self.rare.take() else { return };
        self.clear(FLOW | PRODUCING | PULLED | PIPED);
        if let Some((producer, _)) = rare.flow.producer.take()
            && rare.flow.pipe.is_none()
        {
            self.produce(&producer, "stop_producing", |producer| producer.stop_producing());
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

    /// Whether the end of writing waits for a producer. The end of the peer does not: nobody reads what it would make.
    pub(super) fn waits_for_producer(&self) -> bool {
        self.has(PRODUCING) && !self.has(PEER_ENDED)
    }

    /// Whether what is written still goes out: also a producer's, after the close that waits for it.
    pub(super) fn takes_writes(&self) -> bool {
        self.has(OPEN) || (self.has(CLOSING) && self.has(PRODUCING))
    }
}

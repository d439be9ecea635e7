//! Pipes between two connections, with back-pressure.
use super::{
    producer::{Producer, ProducerKind},
    state::{Lifecycle, ReadHalf, Stream},
    transport::Transport,
};
use crate::{error::RuntimeError, report::report};
use std::{panic::Location, rc::Rc};

/// Forwards the input of each connection to the other, in constant memory. A side that cannot send
/// pauses the other side. An end of file is passed on as an end of file, and when one side is lost,
/// the other is closed after its queued bytes have been sent.
///
/// Unparsed input is forwarded first. From then on the two protocols receive no messages, only
/// `connection_lost`. A producer that was registered on either side is stopped. If either was piped
/// before, the other end of that pipe is closed. Piping the same pair again does nothing; piping a
/// connection to itself is a misuse, which is reported.
///
/// ```no_run
/// use twistor::prelude::*;
///
/// # fn example(inbound: Transport, outbound: Transport) {
/// twistor::protocol::pipe(&inbound, &outbound);
/// # }
/// ```
#[doc(alias = "portforward")]
#[track_caller]
pub fn pipe(one: &Transport, other: &Transport) {
    if is_same(one.0.as_ref(), other.0.as_ref()) {
        let text = format!("a connection cannot be piped to itself: {one:?}");
        let place = format!("called at {}", Location::caller());
        return report(RuntimeError::with_text(text).into(), place);
    }
    let goes_to = |from: &Transport, to: &Transport| {
        let target = from.0.as_ref().and_then(|stream| stream.pipe());
        target.is_some() && is_same(target.as_ref(), to.0.as_ref())
    };
    if goes_to(one, other) && goes_to(other, one) {
        // the two are piped already
        return;
    }
    for end in [one, other] {
        leave(end);
    }
    for (from, to) in [(one, other), (other, one)] {
        let unparsed = from.clear_line_buffer();
        let (Some(stream), Some(target)) = (&from.0, &to.0) else { continue };
        if !unparsed.is_empty() {
            target.write(&unparsed);
        }
        target.pipe_from(stream);
        stream.pipe_to(target);
    }
    for (from, to) in [(one, other), (other, one)] {
        if from.0.as_ref().is_none_or(|stream| stream.is_lost()) {
            to.unregister_producer();
            to.lose_connection();
        }
    }
}

fn is_same(one: Option<&Rc<Stream>>, other: Option<&Rc<Stream>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Rc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// Removes `end` from its present pipe, if it has one; the other end of that pipe is closed.
fn leave(end: &Transport) {
    let partner = end.0.as_ref().and_then(|stream| stream.unpipe());
    if let Some(partner) = partner {
        drop(partner.unpipe());
        partner.lose_connection(None);
    }
}

/// The other side of a pipe, as the producer for this side.
struct PipeEnd(Rc<Stream>);

impl Producer for PipeEnd {
    fn pause_producing(&self) {
        self.0.pause_producing();
    }

    fn resume_producing(&self) {
        self.0.resume_producing();
    }

    fn stop_producing(&self) {
        self.0.lose_connection(None);
    }
}

impl Stream {
    /// Forwards all further input to `to`.
    fn pipe_to(&self, to: &Rc<Self>) {
        if self.is_closed() {
            to.unregister_producer();
            return to.lose_connection(None);
        }
        self.flow(|flow| flow.pipe = Some(to.clone()));
        self.update();
        let eof = ReadHalf::Eof;
        if matches!(
            self.lifecycle(),
            Lifecycle::Open { read, .. } | Lifecycle::Flushing { read, .. } if read == eof
        ) {
            // the end of file came before
            to.unregister_producer();
            to.lose_write_connection();
        }
        self.reschedule_delivery();
    }

    /// Makes `source` the producer; the previous producer is stopped.
    fn pipe_from(&self, source: &Rc<Self>) {
        if let Some(old) = self.take_producer() {
            self.call_producer(old, "stop_producing", |producer| producer.stop_producing());
        }
        // stopping the previous producer may have registered another one
        let end = Rc::new(PipeEnd(source.clone()));
        if self.register_producer(end, ProducerKind::Push).is_ok() {
            self.flow(|flow| flow.from_pipe = true);
        }
    }

    /// Unregisters the other side of a pipe as the producer; any other producer stays.
    pub(super) fn drop_pipe_producer(&self) {
        let piped = self.cold(|cold| cold.flow.pipe.is_some() && cold.flow.from_pipe) == Some(true);
        if piped {
            let producer = self.take_producer();
            drop(producer);
        }
    }

    /// Ends the pipe on this side and returns the stream it led to. Input goes to the protocol
    /// again, and the other side is no longer a producer.
    fn unpipe(&self) -> Option<Rc<Self>> {
        let other = self.pipe()?;
        if self.flow(|flow| flow.from_pipe && std::mem::take(&mut flow.paused)) {
            // it may have been paused by this side, which will not resume it any more
            other.resume_producing();
        }
        self.drop_pipe_producer();
        self.flow(|flow| flow.pipe = None);
        self.update();
        Some(other)
    }
}

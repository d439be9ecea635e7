//! Flow control: who makes bytes, and who takes them.
use super::transport::Transport;
use crate::{error::RuntimeError, failure::Failure, report::report};
use std::{panic::Location, rc::Rc};

/// Something that makes bytes and can be asked to wait. Register it with a [`Transport`], which then tells it when to go on.
///
/// Its methods may be called inside [`Transport::write`] and [`Transport::register_producer`], hence `&self`: what it changes lies in a `Cell`.
/// A panic in one of them costs the connection.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use twistor::protocol::{Producer, ProducerKind, Transport};
///
/// /// Sends a million numbers, as fast as the other side takes them.
/// struct Numbers {
///     next: Cell<u32>,
///     transport: Transport,
/// }
///
/// impl Producer for Numbers {
///     fn resume_producing(&self) {
///         self.transport.write(format!("{}\r\n", self.next.replace(self.next.get() + 1)));
///         if self.next.get() == 1_000_000 {
///             self.transport.unregister_producer();
///         }
///     }
///
///     fn stop_producing(&self) {}
/// }
///
/// # let transport = Transport::default();
/// let numbers = Numbers { next: Cell::new(0), transport: transport.clone() };
/// transport.register_producer(Rc::new(numbers), ProducerKind::Pull)?;
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[doc(alias = "IPushProducer")]
#[doc(alias = "IPullProducer")]
pub trait Producer {
    /// Wait: enough is queued. Never called on a [`ProducerKind::Pull`] producer.
    #[doc(alias = "pauseProducing")]
    fn pause_producing(&self) {}

    /// A push producer may go on; a pull producer makes one piece.
    #[doc(alias = "resumeProducing")]
    fn resume_producing(&self);

    /// Nobody takes anything any more: the connection is lost.
    #[doc(alias = "stopProducing")]
    fn stop_producing(&self);
}

/// How a [`Producer`] works.
#[doc(alias = "streaming")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProducerKind {
    /// By itself, until it is paused: a streaming producer.
    Push,
    /// Piece by piece: each time it is resumed it makes one.
    Pull,
}

/// What takes bytes and tells their producer how much it can take: every [`Transport`].
#[doc(alias = "IConsumer")]
pub trait Consumer {
    /// `producer` is what the bytes come from.
    ///
    /// # Errors
    /// [`RuntimeError`](crate::error::RuntimeError) while another one is registered.
    fn register_producer(&self, producer: Rc<dyn Producer>, kind: ProducerKind) -> Result<(), Failure>;

    /// The producer is done.
    fn unregister_producer(&self);

    /// Takes a piece.
    fn write(&self, data: &[u8]);
}

impl Consumer for Transport {
    fn register_producer(&self, producer: Rc<dyn Producer>, kind: ProducerKind) -> Result<(), Failure> {
        self.register_producer(producer, kind)
    }

    fn unregister_producer(&self) {
        self.unregister_producer();
    }

    fn write(&self, data: &[u8]) {
        self.write(data);
    }
}

/// A connection as the source of what arrives on it: pausing it stops its reading, stopping it closes it.
impl Producer for Transport {
    fn pause_producing(&self) {
        self.pause_producing();
    }

    fn resume_producing(&self) {
        self.resume_producing();
    }

    fn stop_producing(&self) {
        self.lose_connection();
    }
}

/// Carries what arrives on each connection to the other, in constant memory: what one side cannot take yet pauses the other, the end of one
/// side's writing becomes the end of the other's, and when one is lost the other is closed, after what was queued for it.
///
/// What has arrived and is not parsed yet goes over first. From then on the protocols of the two get no messages, only `connection_lost`. A
/// producer that was registered on one of them is stopped, and if one was piped before, the other side of that is closed. A pair that is piped
/// already stays so; a connection piped to itself is a misuse, which is reported.
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
    if one.is_same(other) {
        let text = format!("a connection cannot be piped to itself: {one:?}");
        return report(RuntimeError::with_text(text).into(), format!("called at {}", Location::caller()));
    }
    let goes_to = |from: &Transport| from.0.as_ref().and_then(|stream| stream.piped_to());
    if goes_to(one).is_some_and(|to| to.is_same(other)) && goes_to(other).is_some_and(|to| to.is_same(one)) {
        // they are piped already
        return;
    }
    for end in [one, other] {
        leave(end);
    }
    for (from, to) in [(one, other), (other, one)] {
        let waiting = from.clear_line_buffer();
        let (Some(stream), Some(target)) = (&from.0, &to.0) else { continue };
        if !waiting.is_empty() {
            to.write(waiting);
        }
        target.pipe_from(from.clone());
        stream.pipe_to(to.clone());
    }
    for (from, to) in [(one, other), (other, one)] {
        if from.is_lost() {
            to.unregister_producer();
            to.lose_connection();
        }
    }
}

/// Takes `end` out of a pipe that it is part of; whoever was at the other side is closed.
fn leave(end: &Transport) {
    let partner = end.0.as_ref().and_then(|stream| stream.unpipe());
    if let Some(partner) = partner {
        if let Some(stream) = &partner.0 {
            drop(stream.unpipe());
        }
        partner.lose_connection();
    }
}

//! Flow control: who makes bytes, and who takes them.
use super::transport::Transport;
use crate::{
    defer::Deferred,
    error::{ConnectionDone, RuntimeError},
    failure::Failure,
    report::report,
};
use std::{panic::Location, rc::Rc};

/// Something that makes bytes and can be asked to wait. Register it with a [`Transport`], which
/// then tells it when to go on.
///
/// Its methods may be called inside [`Transport::write`] and [`Transport::register_producer`],
/// hence `&self`: what it changes lies in a `Cell`. A panic in one of them costs the connection.
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
    fn register_producer(
        &self,
        producer: Rc<dyn Producer>,
        kind: ProducerKind,
    ) -> Result<(), Failure>;

    /// The producer is done.
    fn unregister_producer(&self);

    /// Takes a piece.
    fn write(&self, data: &[u8]);
}

/// Flow control.
impl Transport {
    /// From now on `producer` is told how much this connection takes.
    ///
    /// A push producer is paused when a write leaves more than the [high
    /// mark](Self::set_write_marks) queued, inside that write, and resumed when at most the low
    /// mark is. A pull producer is asked for a piece at once and then each time the piece before
    /// has been sent. [`lose_connection`](Self::lose_connection) waits until the producer is
    /// [unregistered](Self::unregister_producer); a lost connection stops it, and one that is lost
    /// already stops it at once.
    ///
    /// # Errors
    /// [`RuntimeError`](crate::error::RuntimeError) while another one is registered.
    #[doc(alias = "registerProducer")]
    #[track_caller]
    pub fn register_producer(
        &self,
        producer: Rc<dyn Producer>,
        kind: ProducerKind,
    ) -> Result<(), Failure> {
        if let Some(stream) = &self.0 {
            return stream.register_producer(producer, kind);
        }
        // user code
        producer.stop_producing();
        Ok(())
    }

    /// The producer has made all it had to make. A connection that was asked to close now does.
    #[doc(alias = "unregisterProducer")]
    pub fn unregister_producer(&self) {
        if let Some(stream) = &self.0 {
            stream.unregister_producer();
        }
    }

    /// Takes nothing more: the producer is unregistered and the connection closed.
    #[doc(alias = "stopConsuming")]
    pub fn stop_consuming(&self) {
        self.unregister_producer();
        self.lose_connection();
    }

    /// How many bytes are queued here because the system does not take them yet.
    pub fn queued(&self) -> usize {
        self.0.as_ref().map_or(0, |stream| stream.queued())
    }

    /// Sets the marks of this connection's queue, in bytes: above `high` a push producer is paused,
    /// at `low` or below it goes on and [`drained`](Self::drained) fires. At first 0 and 65536. A
    /// `low` above `high` counts as `high`.
    #[doc(alias = "bufferSize")]
    pub fn set_write_marks(&self, low: usize, high: usize) {
        if let Some(stream) = &self.0 {
            stream.set_marks(low.min(high), high);
        }
    }

    /// The low and the high mark of this connection's queue, in bytes.
    pub fn write_marks(&self) -> (usize, usize) {
        self.0.as_ref().map_or((0, 0), |stream| stream.marks())
    }

    /// A Deferred that fires when at most the low mark is queued: with the marks as they are at
    /// first, when the system has taken everything. It has fired already if that is so now. A
    /// coroutine that waits for it after each piece never queues more than one.
    ///
    /// # Errors
    /// The reason of the loss if the connection is lost before; [`ConnectionDone`] if it never was
    /// connected.
    ///
    /// # Cancellation
    /// Fails with [`CancelledError`](crate::error::CancelledError) and changes nothing else.
    #[track_caller]
    pub fn drained(&self) -> Deferred<()> {
        self.0
            .as_ref()
            .map_or_else(|| Deferred::fail(ConnectionDone::new()), |stream| stream.drained())
    }

    /// Whether the two are the same connection.
    fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Rc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether it is over.
    fn is_lost(&self) -> bool {
        self.0.as_ref().is_none_or(|stream| stream.has_ended())
    }
}

impl Consumer for Transport {
    fn register_producer(
        &self,
        producer: Rc<dyn Producer>,
        kind: ProducerKind,
    ) -> Result<(), Failure> {
        self.register_producer(producer, kind)
    }

    fn unregister_producer(&self) {
        self.unregister_producer();
    }

    fn write(&self, data: &[u8]) {
        self.write(data);
    }
}

/// A connection as the source of what arrives on it: pausing it stops its reading, stopping it
/// closes it.
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

/// Carries what arrives on each connection to the other, in constant memory: what one side cannot
/// take yet pauses the other, the end of one side's writing becomes the end of the other's, and
/// when one is lost the other is closed, after what was queued for it.
///
/// What has arrived and is not parsed yet goes over first. From then on the protocols of the two
/// get no messages, only `connection_lost`. A producer that was registered on one of them is
/// stopped, and if one was piped before, the other side of that is closed. A pair that is piped
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
        return report(
            RuntimeError::with_text(text).into(),
            format!("called at {}", Location::caller()),
        );
    }
    let goes_to = |from: &Transport| from.0.as_ref().and_then(|stream| stream.piped_to());
    if goes_to(one).is_some_and(|to| to.is_same(other))
        && goes_to(other).is_some_and(|to| to.is_same(one))
    {
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

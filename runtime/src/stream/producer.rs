//! Producer and Consumer: the source of bytes, and their destination.
use crate::failure::Failure;
use std::rc::Rc;

/// A source of bytes that can be paused. Register it with a [`Transport`](super::Transport), which
/// then calls its methods.
///
/// The methods may be called inside [`Transport::write`](super::Transport::write) and
/// [`Transport::register_producer`](super::Transport::register_producer). They therefore take
/// `&self`, and mutable state belongs in a `Cell`. A panic in one of them closes the connection.
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
    /// Called when enough is queued. Never called on a [`ProducerKind::Pull`] producer.
    #[doc(alias = "pauseProducing")]
    fn pause_producing(&self) {}

    /// Asks a push producer to continue, and a pull producer for one piece.
    #[doc(alias = "resumeProducing")]
    fn resume_producing(&self);

    /// Called when nothing more can be sent, because the connection is lost.
    #[doc(alias = "stopProducing")]
    fn stop_producing(&self);
}

/// The way in which a [`Producer`] works.
#[doc(alias = "streaming")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProducerKind {
    /// Produces until it is paused: a streaming producer.
    Push,
    /// Produces one piece each time it is resumed.
    Pull,
}

/// The watermarks of a connection's queue, in bytes. A push producer is paused when more than
/// `high` is queued, and resumed when at most `low` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteMarks {
    /// The low watermark.
    pub low: usize,
    /// The high watermark.
    pub high: usize,
}

/// A destination of bytes that paces their producer, such as every [`Transport`](super::Transport).
#[doc(alias = "IConsumer")]
pub trait Consumer {
    /// Registers `producer` as the source of the bytes.
    ///
    /// # Errors
    /// Fails with [`RuntimeError`](crate::error::RuntimeError) while another one is registered.
    fn register_producer(
        &self,
        producer: Rc<dyn Producer>,
        kind: ProducerKind,
    ) -> Result<(), Failure>;

    /// Unregisters the producer, which has finished.
    fn unregister_producer(&self);

    /// Writes a piece.
    fn write(&self, data: &[u8]);
}

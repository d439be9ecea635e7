//! Producer and Consumer: who makes bytes, and who takes them.
use crate::failure::Failure;
use std::rc::Rc;

/// Something that makes bytes and can be asked to wait. Register it with a
/// [`Transport`](super::Transport), which
/// then tells it when to go on.
///
/// Its methods may be called inside [`Transport::write`](super::Transport::write) and
/// [`Transport::register_producer`](super::Transport::register_producer), hence `&self`: what it
/// changes lies in a `Cell`. A panic in one of them costs the connection.
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

/// The watermarks of a connection's queue, in bytes: above the high one a push producer is paused,
/// at the low one or below it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteMarks {
    /// The low mark.
    pub low: usize,
    /// The high mark.
    pub high: usize,
}

/// What takes bytes and tells their producer how much it can take: every
/// [`Transport`](super::Transport).
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

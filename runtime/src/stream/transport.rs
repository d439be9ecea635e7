//! Transport: the writing side of a connection.
use super::{
    framing_state::FramingState,
    producer::{Consumer, Producer, ProducerKind, WriteMarks},
    state::Stream,
};
use crate::{
    address::Address,
    defer::Deferred,
    error::{ConnectionDone, FramingError},
    failure::Failure,
    reactor::backend::WireOption,
    report::report,
};
use std::{fmt, io, os::fd::OwnedFd, panic::Location, rc::Rc};

/// The writing side of a connection, whatever carries it and however it is framed. A cheap handle;
/// clones are the same connection.
///
/// No method of it enters a handler, so it may be used anywhere, in the middle of your own borrows
/// too. The loss that closing or aborting brings is told in a later turn. After the end, `write`
/// and the other methods do nothing; [`peer`](Self::peer) and [`host`](Self::host) still answer.
/// `Transport::default()` is one that never was connected.
///
/// ```
/// use twistor::protocol::Transport;
///
/// let transport = Transport::default();
/// transport.write(b"nobody reads this");
/// assert!(!transport.is_connected());
/// ```
#[derive(Clone, Default)]
#[doc(alias = "ITransport")]
pub struct Transport(pub(crate) Option<Rc<Stream>>);

impl Transport {
    /// Sends `data`: at once if it is the first write of its turn and nothing is queued, else
    /// behind what is.
    ///
    /// Within a turn of the reactor, later writes are corked: they leave together when the delivery
    /// of the current read ends, else at the end of the turn, and before there are 64 KiB of them.
    /// So a burst of small replies costs one or two system calls. [`flush`](Self::flush) sends them
    /// now. Outside of a turn every write leaves at once.
    ///
    /// What the piece of code that has called [`lose_connection`](Self::lose_connection) writes
    /// after that still goes out; when it has returned, writes are dropped.
    pub fn write(&self, data: impl AsRef<[u8]>) {
        if let Some(stream) = &self.0 {
            stream.write(data.as_ref());
        }
    }

    /// Sends what is corked now, instead of at the end of the delivery or turn: for an answer that
    /// is needed before a long computation goes on.
    ///
    /// ```no_run
    /// # use twistor::prelude::*;
    /// # fn compute() {}
    /// # fn example(transport: Transport) {
    /// transport.write("HTTP/1.1 103 Early Hints\r\n");
    /// transport.write("Link: </style.css>; rel=preload\r\n\r\n");
    /// transport.flush();
    /// compute();
    /// # }
    /// ```
    pub fn flush(&self) {
        if let Some(stream) = &self.0 {
            stream.flush();
        }
    }

    /// Sends several pieces, one behind the other.
    #[doc(alias = "writeSequence")]
    pub fn write_sequence<D: AsRef<[u8]>>(&self, pieces: impl IntoIterator<Item = D>) {
        if let Some(stream) = &self.0 {
            let pieces: Vec<D> = pieces.into_iter().collect();
            stream.write_sequence(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        }
    }

    /// Sends one message, framed as the connection's protocol frames it; without a framing, as it
    /// is.
    ///
    /// A message that cannot be framed is reported and not sent.
    #[track_caller]
    pub fn send(&self, message: impl AsRef<[u8]>) {
        if let Some(stream) = &self.0 {
            frame(stream, stream.framing(), message.as_ref(), Location::caller());
        }
    }

    /// Sends a line: `line` and the delimiter that the protocol reads.
    ///
    /// On a connection with another framing it is framed as that one does, and the misuse is
    /// reported once.
    #[doc(alias = "sendLine")]
    #[track_caller]
    pub fn send_line(&self, line: impl AsRef<[u8]>) {
        let Some(stream) = &self.0 else { return };
        let framing = stream.framing();
        if !framing.is_some_and(|framing| framing.is_called("Lines")) {
            misused(stream, "send_line", "Lines", Location::caller());
        }
        frame(stream, framing, line.as_ref(), Location::caller());
    }

    /// Closes the connection when everything has been sent: flush, end of writing, the peer's end,
    /// close. Nothing more is delivered. What the same piece of code still writes goes out first.
    #[doc(alias = "loseConnection")]
    pub fn lose_connection(&self) {
        if let Some(stream) = &self.0 {
            stream.lose_connection(None);
        }
    }

    /// Cuts the connection off: what is queued is dropped, the peer sees a reset (over UNIX sockets
    /// an end), and the reason is [`ConnectionAborted`](crate::error::ConnectionAborted).
    #[doc(alias = "abortConnection")]
    pub fn abort_connection(&self) {
        if let Some(stream) = &self.0 {
            stream.abort_connection();
        }
    }

    /// Closes the connection as [`lose_connection`](Self::lose_connection) does, and makes `reason`
    /// the reason of the loss.
    #[track_caller]
    pub fn fail(&self, reason: impl Into<Failure>) {
        let reason = reason.into();
        if let Some(stream) = &self.0 {
            stream.lose_connection(Some(reason));
        }
    }

    /// Ends this side's writing when everything has been sent, and reads on. The other side reads
    /// to the end; a protocol of this side with a handler `write_connection_lost` is told in a
    /// later turn. What is written from now on is dropped.
    ///
    /// When the other side has ended its writing too, the connection is over: [`ConnectionDone`].
    #[doc(alias = "loseWriteConnection")]
    pub fn lose_write_connection(&self) {
        if let Some(stream) = &self.0 {
            stream.lose_write_connection();
        }
    }

    /// Sends a copy of `descriptor` over a UNIX socket, with the next byte that is written: the
    /// other side's handler `file_descriptor_received` gets it before that byte. Something has to
    /// be written in the same turn, at least one byte for each descriptor; the connection is lost
    /// with [`FileDescriptorOverrun`](crate::error::FileDescriptorOverrun) otherwise. This side's
    /// descriptor is closed when the copy is on its way.
    #[doc(alias = "sendFileDescriptor")]
    pub fn send_file_descriptor(&self, descriptor: impl Into<OwnedFd>) {
        if let Some(stream) = &self.0 {
            stream.send_descriptor(descriptor.into());
        }
    }

    /// Delivers nothing more until [`resume_producing`](Self::resume_producing); what the peer
    /// sends waits in the operating system.
    #[doc(alias = "pauseProducing")]
    pub fn pause_producing(&self) {
        if let Some(stream) = &self.0 {
            stream.pause_producing();
        }
    }

    /// Delivers again: what is buffered right after the current handler or call, then what arrives.
    #[doc(alias = "resumeProducing")]
    pub fn resume_producing(&self) {
        if let Some(stream) = &self.0 {
            stream.resume_producing();
        }
    }

    /// From now on a line protocol gets what arrives as raw data.
    #[doc(alias = "setRawMode")]
    pub fn set_raw_mode(&self) {
        if let Some(framing) = self.framing() {
            framing.set_raw(true);
        }
    }

    /// From now on a line protocol gets lines again; `rest`, what raw mode has taken too much, is
    /// parsed first.
    #[doc(alias = "setLineMode")]
    pub fn set_line_mode(&self, rest: impl AsRef<[u8]>) {
        if let Some(framing) = self.framing() {
            framing.set_raw(false);
            framing.push_front(rest.as_ref());
            self.reschedule_unparsed();
        }
    }

    /// What has arrived and is not parsed yet: inside a handler, what comes behind its message.
    #[doc(alias = "recvd")]
    pub fn unparsed(&self) -> Vec<u8> {
        self.framing().map(|framing| framing.unparsed()).unwrap_or_default()
    }

    /// Removes what is not parsed yet and returns it.
    #[doc(alias = "clearLineBuffer")]
    pub fn clear_line_buffer(&self) -> Vec<u8> {
        let taken = self.unparsed();
        self.replace_unparsed(Vec::new());
        taken
    }

    /// Puts `rest` in the place of what is not parsed yet.
    pub fn replace_unparsed(&self, rest: impl Into<Vec<u8>>) {
        if let Some(framing) = self.framing() {
            framing.replace_unparsed(rest.into());
            self.reschedule_unparsed();
        }
    }

    /// Outside of a handler nothing else would parse what was put back.
    fn reschedule_unparsed(&self) {
        if let Some(stream) = &self.0
            && stream.framing().is_some_and(|framing| !framing.is_busy() && !framing.is_empty())
        {
            stream.reschedule_delivery();
        }
    }

    fn framing(&self) -> Option<&Rc<FramingState>> {
        self.0.as_ref().and_then(|stream| stream.framing())
    }

    /// Whether it is connected and nobody on this side has asked for the end.
    pub fn is_connected(&self) -> bool {
        self.0.as_ref().is_some_and(|stream| stream.is_open())
    }

    /// The address of the other side.
    #[doc(alias = "getPeer")]
    pub fn peer(&self) -> Address {
        self.0.as_ref().map_or(Address::Unix(None), |stream| stream.peer().clone())
    }

    /// The address of this side.
    #[doc(alias = "getHost")]
    pub fn host(&self) -> Address {
        self.0.as_ref().map_or(Address::Unix(None), |stream| stream.host())
    }

    /// Sets whether small writes go out at once (`TCP_NODELAY`); they do from the start.
    ///
    /// # Errors
    /// What the operating system says; [`ConnectionDone`] after the end.
    #[doc(alias = "setTcpNoDelay")]
    pub fn set_tcp_no_delay(&self, yes: bool) -> Result<(), Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.set_option(WireOption::NoDelay(yes)))
    }

    /// Whether small writes go out at once.
    ///
    /// # Errors
    /// As for [`set_tcp_no_delay`](Self::set_tcp_no_delay).
    #[doc(alias = "getTcpNoDelay")]
    pub fn tcp_no_delay(&self) -> Result<bool, Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.option(WireOption::NoDelay(true)))
    }

    /// Whether the system probes this connection when it is idle: at first it does not.
    ///
    /// # Errors
    /// As for [`set_tcp_no_delay`](Self::set_tcp_no_delay).
    #[doc(alias = "getTcpKeepAlive")]
    pub fn tcp_keep_alive(&self) -> Result<bool, Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.option(WireOption::KeepAlive(true)))
    }

    /// Sets whether the system probes an idle connection (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// As for [`set_tcp_no_delay`](Self::set_tcp_no_delay).
    #[doc(alias = "setTcpKeepAlive")]
    pub fn set_tcp_keep_alive(&self, yes: bool) -> Result<(), Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.set_option(WireOption::KeepAlive(yes)))
    }
}

/// An option of a connection that is over cannot be set.
fn option_set<T>(result: io::Result<T>) -> Result<T, Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(ConnectionDone::new().into())
        }
        result => Ok(result?),
    }
}

/// Frames a message and sends it.
#[inline]
fn frame(
    stream: &Stream,
    framing: Option<&Rc<FramingState>>,
    message: &[u8],
    place: &'static Location<'static>,
) {
    match framing {
        None => stream.write(message),
        Some(framing) => {
            if let Some(trailer) = framing.trailer() {
                return stream.write_with_trailer(message, trailer);
            }
            if let Err(failure) = framing.encode(message, |framed| stream.write(framed)) {
                report(failure, format!("a message to {}, sent at {place}", stream.peer()));
            }
        }
    }
}

/// Reports, once a connection, that a call is one of another framing.
#[cold]
fn misused(stream: &Stream, call: &str, wanted: &str, place: &'static Location<'static>) {
    if stream.is_first_misuse() {
        let found = stream.framing().map_or("Raw", |framing| framing.name());
        let text = format!(
            "`{call}` is for {wanted}, and the connection to {} is framed as {found}",
            stream.peer()
        );
        report(FramingError::with_text(text).into(), format!("called at {place}"));
    }
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
            stream.set_write_marks(low.min(high), high);
        }
    }

    /// The low and the high mark of this connection's queue, in bytes.
    pub fn write_marks(&self) -> WriteMarks {
        self.0.as_ref().map(|stream| stream.write_marks()).unwrap_or_default()
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

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(stream) => {
                let end = if stream.is_open() { "" } else { ", ended" };
                write!(f, "<Transport {} to {}{end}>", stream.host(), stream.peer())
            }
            None => f.write_str("<Transport, unconnected>"),
        }
    }
}

//! Transport: what a protocol writes to.
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

/// The sending side of a connection, over any wire and with any framing. Cloning it is cheap;
/// clones are the same connection.
///
/// None of its methods calls a handler, so it may be used anywhere, even while you hold borrows.
/// The loss that a close or an abort causes is reported in a later turn. After the connection has
/// closed, `write` and most other methods do nothing; [`peer`](Self::peer) and [`host`](Self::host)
/// still return the addresses. `Transport::default()` is one that was never connected.
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
    /// Sends `data`: at once if this is the first write of the turn and nothing is queued, and
    /// otherwise behind the queue.
    ///
    /// Within a turn of the reactor, later writes are corked. They are sent together when the
    /// delivery of the current read ends, or else at the end of the turn, and in any case before 64
    /// KiB have gathered. So a burst of small replies costs one or two system calls.
    /// [`flush`](Self::flush) sends them at once. Outside of a turn every write is sent at once.
    ///
    /// What the code that has called [`lose_connection`](Self::lose_connection) writes after that
    /// is still sent. When that code has returned, writes are dropped.
    pub fn write(&self, data: impl AsRef<[u8]>) {
        if let Some(stream) = &self.0 {
            stream.write(data.as_ref());
        }
    }

    /// Sends corked bytes now, instead of at the end of the delivery or turn, for a reply that must
    /// not wait for a long computation.
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

    /// Sends several pieces, one after the other.
    #[doc(alias = "writeSequence")]
    pub fn write_sequence<D: AsRef<[u8]>>(&self, pieces: impl IntoIterator<Item = D>) {
        if let Some(stream) = &self.0 {
            let pieces: Vec<D> = pieces.into_iter().collect();
            stream.write_sequence(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        }
    }

    /// Sends one message in the framing of the protocol, or unchanged if it has none.
    ///
    /// A message that cannot be framed is reported and not sent.
    #[track_caller]
    pub fn send(&self, message: impl AsRef<[u8]>) {
        if let Some(stream) = &self.0 {
            frame(stream, stream.framing(), message.as_ref(), Location::caller());
        }
    }

    /// Sends a line: `line` and the delimiter of the protocol.
    ///
    /// On a connection with another framing the line is framed in that way, and the misuse is
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

    /// Closes the connection when everything has been sent. It sends an end of file behind the
    /// queue, waits for the peer's, and closes the socket. Nothing more is delivered. Further
    /// output of the calling code is still sent.
    #[doc(alias = "loseConnection")]
    pub fn lose_connection(&self) {
        if let Some(stream) = &self.0 {
            stream.lose_connection(None);
        }
    }

    /// Closes the connection at once: queued bytes are dropped, the peer sees a reset (over UNIX
    /// sockets an end of file), and the reason is
    /// [`ConnectionAborted`](crate::error::ConnectionAborted).
    #[doc(alias = "abortConnection")]
    pub fn abort_connection(&self) {
        if let Some(stream) = &self.0 {
            stream.abort_connection();
        }
    }

    /// Closes the connection as [`lose_connection`](Self::lose_connection) does, with `reason` as
    /// the reason of the loss.
    #[track_caller]
    pub fn fail(&self, reason: impl Into<Failure>) {
        let reason = reason.into();
        if let Some(stream) = &self.0 {
            stream.lose_connection(Some(reason));
        }
    }

    /// Closes the sending direction when everything has been sent, and continues to receive. The
    /// peer reads an end of file; a handler `write_connection_lost` of this side's protocol is
    /// called in a later turn. Later writes are dropped.
    ///
    /// The connection closes with [`ConnectionDone`] when the peer has closed its sending direction
    /// too.
    #[doc(alias = "loseWriteConnection")]
    pub fn lose_write_connection(&self) {
        if let Some(stream) = &self.0 {
            stream.lose_write_connection();
        }
    }

    /// Sends a copy of `descriptor` over a UNIX socket, with the next byte that is written. The
    /// peer's handler `file_descriptor_received` receives it before that byte. At least one byte
    /// for each descriptor must be written in the same turn; otherwise the connection is lost with
    /// [`FileDescriptorOverrun`](crate::error::FileDescriptorOverrun). The descriptor is closed
    /// here when it has been sent.
    #[doc(alias = "sendFileDescriptor")]
    pub fn send_file_descriptor(&self, descriptor: impl Into<OwnedFd>) {
        if let Some(stream) = &self.0 {
            stream.send_descriptor(descriptor.into());
        }
    }

    /// Pauses delivery until [`resume_producing`](Self::resume_producing) is called; what the peer
    /// sends waits in the operating system.
    #[doc(alias = "pauseProducing")]
    pub fn pause_producing(&self) {
        if let Some(stream) = &self.0 {
            stream.pause_producing();
        }
    }

    /// Resumes delivery: buffered input comes right after the current handler or call, and new
    /// input follows.
    #[doc(alias = "resumeProducing")]
    pub fn resume_producing(&self) {
        if let Some(stream) = &self.0 {
            stream.resume_producing();
        }
    }

    /// Switches a line protocol to raw mode: input is delivered as it arrives.
    #[doc(alias = "setRawMode")]
    pub fn set_raw_mode(&self) {
        if let Some(framing) = self.framing() {
            framing.set_raw(true);
            self.reschedule_unparsed();
        }
    }

    /// Switches a line protocol back to lines; `rest`, the surplus of the raw data, is parsed
    /// first.
    #[doc(alias = "setLineMode")]
    pub fn set_line_mode(&self, rest: impl AsRef<[u8]>) {
        if let Some(framing) = self.framing() {
            framing.set_raw(false);
            framing.push_front(rest.as_ref());
            self.reschedule_unparsed();
        }
    }

    /// Returns the input that is not parsed yet; inside a handler, what follows its message.
    #[doc(alias = "recvd")]
    pub fn unparsed(&self) -> Vec<u8> {
        self.framing().map(|framing| framing.unparsed()).unwrap_or_default()
    }

    /// Removes the input that is not parsed yet, and returns it.
    #[doc(alias = "clearLineBuffer")]
    pub fn clear_line_buffer(&self) -> Vec<u8> {
        let taken = self.unparsed();
        self.replace_unparsed(Vec::new());
        taken
    }

    /// Replaces the input that is not parsed yet with `rest`.
    pub fn replace_unparsed(&self, rest: impl Into<Vec<u8>>) {
        if let Some(framing) = self.framing() {
            framing.replace_unparsed(rest.into());
            self.reschedule_unparsed();
        }
    }

    /// Schedules the parsing of unparsed bytes after a change outside of a handler.
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

    /// Returns whether the connection is open and this side has not asked to close it.
    pub fn is_connected(&self) -> bool {
        self.0.as_ref().is_some_and(|stream| stream.is_open())
    }

    /// Returns the address of the peer.
    #[doc(alias = "getPeer")]
    pub fn peer(&self) -> Address {
        self.0.as_ref().map_or(Address::Unix(None), |stream| stream.peer().clone())
    }

    /// Returns the address of this side.
    #[doc(alias = "getHost")]
    pub fn host(&self) -> Address {
        self.0.as_ref().map_or(Address::Unix(None), |stream| stream.host())
    }

    /// Sets whether small writes are sent at once (`TCP_NODELAY`). It is on by default.
    ///
    /// # Errors
    /// Fails with the operating-system error, and with [`ConnectionDone`] after the connection has
    /// closed.
    #[doc(alias = "setTcpNoDelay")]
    pub fn set_tcp_no_delay(&self, yes: bool) -> Result<(), Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.set_option(WireOption::NoDelay(yes)))
    }

    /// Returns whether small writes are sent at once.
    ///
    /// # Errors
    /// Fails as [`set_tcp_no_delay`](Self::set_tcp_no_delay) does.
    #[doc(alias = "getTcpNoDelay")]
    pub fn tcp_no_delay(&self) -> Result<bool, Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.option(WireOption::NoDelay(true)))
    }

    /// Returns whether the system probes this connection while it is idle. It is off by default.
    ///
    /// # Errors
    /// Fails as [`set_tcp_no_delay`](Self::set_tcp_no_delay) does.
    #[doc(alias = "getTcpKeepAlive")]
    pub fn tcp_keep_alive(&self) -> Result<bool, Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.option(WireOption::KeepAlive(true)))
    }

    /// Sets whether the system probes an idle connection (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// Fails as [`set_tcp_no_delay`](Self::set_tcp_no_delay) does.
    #[doc(alias = "setTcpKeepAlive")]
    pub fn set_tcp_keep_alive(&self, yes: bool) -> Result<(), Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.set_option(WireOption::KeepAlive(yes)))
    }
}

/// Converts the error of setting an option, which is [`ConnectionDone`] on a closed connection.
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

/// Reports, once for each connection, a call that is meant for another framing.
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
    /// Registers `producer`, which the connection then pauses and resumes.
    ///
    /// A push producer is paused when more than the [high mark](Self::set_write_marks) is queued,
    /// inside the write that caused it, and resumed when at most the low mark is. A pull producer
    /// is asked for a piece at once, and for another one each time the last has been sent.
    /// [`lose_connection`](Self::lose_connection) waits until the producer is
    /// [unregistered](Self::unregister_producer). The loss of the connection stops the producer; on
    /// a lost connection it is stopped at once.
    ///
    /// # Errors
    /// Fails with [`RuntimeError`](crate::error::RuntimeError) while another one is registered.
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

    /// Unregisters the producer, which has finished. A connection that was asked to close does so
    /// now.
    #[doc(alias = "unregisterProducer")]
    pub fn unregister_producer(&self) {
        if let Some(stream) = &self.0 {
            stream.unregister_producer();
        }
    }

    /// Unregisters the producer and closes the connection.
    #[doc(alias = "stopConsuming")]
    pub fn stop_consuming(&self) {
        self.unregister_producer();
        self.lose_connection();
    }

    /// Returns the number of bytes that are queued because the operating system does not accept
    /// them yet.
    pub fn queued(&self) -> usize {
        self.0.as_ref().map_or(0, |stream| stream.queued())
    }

    /// Sets the watermarks of this connection's queue, in bytes. Above `high` a push producer is
    /// paused; at `low` or below it is resumed and [`drained`](Self::drained) fires. The defaults
    /// are 0 and 65536. A `low` above `high` counts as `high`.
    #[doc(alias = "bufferSize")]
    pub fn set_write_marks(&self, low: usize, high: usize) {
        if let Some(stream) = &self.0 {
            stream.set_write_marks(low.min(high), high);
        }
    }

    /// Returns the watermarks of this connection's queue, in bytes.
    pub fn write_marks(&self) -> WriteMarks {
        self.0.as_ref().map(|stream| stream.write_marks()).unwrap_or_default()
    }

    /// Returns a Deferred that fires when at most the low mark is queued: with the default marks,
    /// when the operating system has accepted everything. It may have fired already. A coroutine
    /// that awaits it after each piece never queues more than one.
    ///
    /// # Errors
    /// Fails with the reason of the loss if the connection is lost first, and with
    /// [`ConnectionDone`] if it was never connected.
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

/// A connection as the source of its input: pausing it stops reading, and stopping it closes it.
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

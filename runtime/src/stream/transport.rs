//! Transport: the writing side of a connection.
use super::{
    framing_state::Desk,
    producer::{Producer, ProducerKind},
};
use crate::{
    address::Address,
    defer::{Deferred, Ends},
    error::{ConnectionDone, FramingError},
    failure::Failure,
    reactor::source::Readiness,
    report::report,
};
use std::{fmt, os::fd::OwnedFd, panic::Location, rc::Rc};

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
pub struct Transport(pub(crate) Option<Rc<dyn Stream>>);

/// What carries the bytes of a transport.
pub(crate) trait Stream: Ends {
    fn write(&self, data: &[u8]);
    fn write_sequence(&self, data: &[&[u8]]);
    /// Flush, then close, then tell `reason`.
    fn close(&self, reason: Option<Failure>);
    fn abort(&self, reason: Option<Failure>);
    /// Flush, then end the writing side.
    fn close_write(&self);
    fn register_producer(
        &self,
        producer: Rc<dyn Producer>,
        kind: ProducerKind,
    ) -> Result<(), Failure>;
    fn unregister_producer(&self);
    /// What arrives goes to `to` from now on.
    fn pipe_to(&self, to: Transport);
    /// What is written comes from `source` from now on.
    fn pipe_from(&self, source: Transport);
    /// Where what arrives goes, if it is piped.
    fn piped_to(&self) -> Option<Transport>;
    /// Ends a pipe on this side, and says where it went.
    fn unpipe(&self) -> Option<Transport>;
    /// Sends a descriptor with the next byte.
    fn send_descriptor(&self, descriptor: OwnedFd);
    /// The protocol takes descriptors: reads look for them.
    fn take_descriptors(&self);
    /// How many bytes wait for room.
    fn queued(&self) -> usize;
    fn set_marks(&self, low: usize, high: usize);
    fn marks(&self) -> (usize, usize);
    fn drained(&self) -> Deferred<()>;
    fn pause(&self);
    /// A coroutine handler holds back the next message, or lets it go. Holds count.
    fn hold(&self, yes: bool);
    fn resume(&self);
    fn is_open(&self) -> bool;
    /// Whether a coroutine handler holds back, with the next message, that the other side has
    /// ended, as the poller says now or has said before.
    fn hides_an_end(&self, readiness: Readiness) -> bool;
    /// Has the connection looked at in the next turn, if it is reading.
    fn look_again(&self);

    /// Goes on with plain input in the next turn: this one has had its share.
    fn read_later(&self);
    fn is_reading(&self) -> bool;
    fn peer(&self) -> Address;
    fn host(&self) -> Address;
    fn set_no_delay(&self, yes: bool) -> std::io::Result<()>;
    fn set_keep_alive(&self, yes: bool) -> std::io::Result<()>;
    fn no_delay(&self) -> std::io::Result<bool>;
    fn keep_alive(&self) -> std::io::Result<bool>;
    fn desk(&self) -> Option<&Rc<Desk>>;
    /// Whether a call of the wrong framing is the first one.
    fn first_misuse(&self) -> bool;
    /// The protocol is framed: it gets a desk, with this encoder.
    fn furnish(&self, encoder: Option<Box<dyn super::framing::Encoder>>);

    /// What an event is about. In the plain state what there is is read; where there may be an end
    /// behind it, it goes to `receiver`.
    fn look(&self, readiness: Readiness, buffer: &mut [u8], receiver: &dyn Receiver) -> Look;
    /// The reading side: something is ready, and `first` is what a first read gave, if there was
    /// one. What arrives goes to `receiver`. Whether it is over and `connection_lost` is due.
    fn pump(
        &self,
        first: Option<std::io::Result<usize>>,
        readiness: Readiness,
        buffer: &mut [u8],
        receiver: &dyn Receiver,
    ) -> bool;
    /// Whether it is over, and why is known.
    fn has_ended(&self) -> bool;
    /// Closes the socket: the transport is dead from now on, for `reason` if there was none before.
    fn die(&self, reason: Option<Failure>);

    /// Its connection needs it no more: its memory is for another, unless somebody still has it.
    fn retire(self: Rc<Self>);
}

/// What a stream makes of an event at first sight.
pub(crate) enum Look {
    /// Reading is all there is to do: what a read gave.
    Read(std::io::Result<usize>),
    /// Everything is done.
    Done,
    /// It is over, and `connection_lost` is due.
    Over,
    /// Everything is done, and a handler holds back that the other side has ended.
    Held,
    /// Anything else.
    Unusual,
}

/// Who gets what a stream reads.
pub(crate) trait Receiver {
    fn data(&self, data: &[u8]);
    /// Whether the end of one direction is not the end of the connection.
    fn is_half_closeable(&self) -> bool;
    /// The other side writes no more.
    fn read_connection_lost(&self);
    /// A descriptor has come with what is about to be delivered.
    fn descriptor(&self, descriptor: OwnedFd);
    /// The end of this side's writing, asked for earlier, has been sent.
    fn write_connection_lost(&self);
}

impl Transport {
    /// Sends `data`: at once if nothing is queued, else behind what is.
    pub fn write(&self, data: impl AsRef<[u8]>) {
        if let Some(stream) = &self.0 {
            stream.write(data.as_ref());
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
            frame(&**stream, stream.desk(), message.as_ref(), Location::caller());
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
        let desk = stream.desk();
        if !desk.is_some_and(|desk| desk.is_called("Lines")) {
            misused(&**stream, "send_line", "Lines", Location::caller());
        }
        frame(&**stream, desk, line.as_ref(), Location::caller());
    }

    /// Closes the connection when everything has been sent: flush, end of writing, the peer's end,
    /// close. Nothing more is delivered.
    #[doc(alias = "loseConnection")]
    pub fn lose_connection(&self) {
        if let Some(stream) = &self.0 {
            stream.close(None);
        }
    }

    /// Cuts the connection off: what is queued is dropped, the peer sees a reset (over UNIX sockets
    /// an end), and the reason is [`ConnectionAborted`](crate::error::ConnectionAborted).
    #[doc(alias = "abortConnection")]
    pub fn abort_connection(&self) {
        if let Some(stream) = &self.0 {
            stream.abort(None);
        }
    }

    /// Closes the connection as [`lose_connection`](Self::lose_connection) does, and makes `reason`
    /// the reason of the loss.
    #[track_caller]
    pub fn fail(&self, reason: impl Into<Failure>) {
        let reason = reason.into();
        if let Some(stream) = &self.0 {
            stream.close(Some(reason));
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
            stream.close_write();
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
            stream.pause();
        }
    }

    /// Delivers again: what is buffered right after the current handler or call, then what arrives.
    #[doc(alias = "resumeProducing")]
    pub fn resume_producing(&self) {
        if let Some(stream) = &self.0 {
            stream.resume();
        }
    }

    /// From now on a line protocol gets what arrives as raw data.
    #[doc(alias = "setRawMode")]
    pub fn set_raw_mode(&self) {
        if let Some(desk) = self.desk() {
            desk.set_raw(true);
        }
    }

    /// From now on a line protocol gets lines again; `rest`, what raw mode has taken too much, is
    /// parsed first.
    #[doc(alias = "setLineMode")]
    pub fn set_line_mode(&self, rest: impl AsRef<[u8]>) {
        if let Some(desk) = self.desk() {
            desk.set_raw(false);
            desk.push_front(rest.as_ref());
            self.look_at_unparsed();
        }
    }

    /// What has arrived and is not parsed yet: inside a handler, what comes behind its message.
    #[doc(alias = "recvd")]
    pub fn unparsed(&self) -> Vec<u8> {
        self.desk().map(|desk| desk.unparsed()).unwrap_or_default()
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
        if let Some(desk) = self.desk() {
            desk.replace_unparsed(rest.into());
            self.look_at_unparsed();
        }
    }

    /// Outside of a handler nothing else would parse what was put back.
    fn look_at_unparsed(&self) {
        if let Some(stream) = &self.0
            && stream.desk().is_some_and(|desk| !desk.is_busy() && !desk.is_empty())
        {
            stream.look_again();
        }
    }

    fn desk(&self) -> Option<&Rc<Desk>> {
        self.0.as_ref().and_then(|stream| stream.desk())
    }

    /// Whether it is connected and nobody on this side has asked for the end.
    pub fn is_connected(&self) -> bool {
        self.0.as_ref().is_some_and(|stream| stream.is_open())
    }

    /// The address of the other side.
    #[doc(alias = "getPeer")]
    pub fn peer(&self) -> Address {
        self.0.as_ref().map_or(Address::Unix(None), |stream| stream.peer())
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
        option_set(stream.set_no_delay(yes))
    }

    /// Whether small writes go out at once.
    ///
    /// # Errors
    /// As for [`set_tcp_no_delay`](Self::set_tcp_no_delay).
    #[doc(alias = "getTcpNoDelay")]
    pub fn tcp_no_delay(&self) -> Result<bool, Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.no_delay())
    }

    /// Whether the system probes this connection when it is idle: at first it does not.
    ///
    /// # Errors
    /// As for [`set_tcp_no_delay`](Self::set_tcp_no_delay).
    #[doc(alias = "getTcpKeepAlive")]
    pub fn tcp_keep_alive(&self) -> Result<bool, Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.keep_alive())
    }

    /// Sets whether the system probes an idle connection (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// As for [`set_tcp_no_delay`](Self::set_tcp_no_delay).
    #[doc(alias = "setTcpKeepAlive")]
    pub fn set_tcp_keep_alive(&self, yes: bool) -> Result<(), Failure> {
        let stream = self.0.as_ref().ok_or_else(ConnectionDone::new)?;
        option_set(stream.set_keep_alive(yes))
    }
}

/// An option of a connection that is over cannot be set.
fn option_set<T>(result: std::io::Result<T>) -> Result<T, Failure> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
            Err(ConnectionDone::new().into())
        }
        result => Ok(result?),
    }
}

/// Frames a message and sends it.
#[inline]
fn frame(
    stream: &dyn Stream,
    desk: Option<&Rc<Desk>>,
    message: &[u8],
    place: &'static Location<'static>,
) {
    match desk {
        None => stream.write(message),
        Some(desk) => {
            if let Err(failure) = desk.encode(message, |framed| stream.write(framed)) {
                report(failure, format!("a message to {}, sent at {place}", stream.peer()));
            }
        }
    }
}

/// Reports, once a connection, that a call is one of another framing.
#[cold]
fn misused(stream: &dyn Stream, call: &str, wanted: &str, place: &'static Location<'static>) {
    if stream.first_misuse() {
        let found = stream.desk().map_or("Raw", |desk| desk.name());
        let text = format!(
            "`{call}` is for {wanted}, and the connection to {} is framed as {found}",
            stream.peer()
        );
        report(FramingError::with_text(text).into(), format!("called at {place}"));
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

//! Protocol: the functions that a connection calls.
use super::{
    fresh::{BuildFrom, Fresh},
    handle::Handle,
};
use crate::{
    failure::Failure,
    stream::{Framing, Transport},
};
use std::os::fd::OwnedFd;

/// Handles the events of one connection. [`#[protocol]`](macro@crate::protocol) implements this
/// trait from handlers that it finds by name; it can also be implemented by hand.
///
/// The handlers run one at a time: `connection_made` once, `message_received` for each message, and
/// `connection_lost` once. A panic or a failure in a handler closes this connection and no other.
///
/// ```
/// use twistor::{failure::Failure, protocol::{Handle, Protocol, Raw}};
///
/// #[derive(Default)]
/// struct Greeter {
///     bytes: usize,
/// }
///
/// impl Protocol for Greeter {
///     type Framing = Raw;
///
///     fn connection_made(&mut self, this: &Handle<Self>) {
///         this.write("hello\r\n");
///     }
///
///     fn message_received(&mut self, _this: &Handle<Self>, data: &[u8]) {
///         self.bytes += data.len();
///     }
///
///     fn connection_lost(&mut self, _this: &Handle<Self>, reason: &Failure) {
///         println!("{} bytes, then: {reason}", self.bytes);
///     }
/// }
/// ```
#[doc(alias = "IProtocol")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol",
    label = "put `#[protocol]` on its `impl` block, or write `impl Protocol for {Self}`"
)]
pub trait Protocol: Sized + 'static {
    /// The framing of its messages: [`Raw`](super::Raw), [`Lines`](crate::basic::Lines), or one of
    /// your own.
    type Framing: Framing;

    /// Whether the connection stays open after one direction has closed. The protocol then has
    /// [`read_connection_lost`](Self::read_connection_lost) or
    /// [`write_connection_lost`](Self::write_connection_lost). Otherwise the peer's end of file
    /// closes the connection.
    #[doc(alias = "IHalfCloseableProtocol")]
    const HALF_CLOSEABLE: bool = false;

    /// Whether the protocol has [`file_descriptor_received`](Self::file_descriptor_received).
    /// Otherwise descriptors that arrive are closed.
    #[doc(alias = "IFileDescriptorReceiver")]
    const TAKES_DESCRIPTORS: bool = false;

    /// Creates the framing of one connection.
    fn framing(&self) -> Self::Framing {
        Self::Framing::default()
    }

    /// Receives the transport, once and before `connection_made`, so that the protocol can store
    /// it.
    fn attach(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Called when the connection has been established.
    #[doc(alias = "connectionMade")]
    fn connection_made(&mut self, this: &Handle<Self>) {
        let _ = this;
    }

    /// Called for each message.
    #[doc(alias = "dataReceived")]
    fn message_received(&mut self, this: &Handle<Self>, message: Message<'_, Self>) {
        let _ = (this, message);
    }

    /// Called when the connection has closed, with the reason:
    /// [`ConnectionDone`](crate::error::ConnectionDone),
    /// [`ConnectionLost`](crate::error::ConnectionLost),
    /// [`ConnectionAborted`](crate::error::ConnectionAborted), or the failure passed to
    /// [`Transport::fail`]. The transport is closed by then.
    #[doc(alias = "connectionLost")]
    fn connection_lost(&mut self, this: &Handle<Self>, reason: &Failure) {
        let _ = (this, reason);
    }

    /// Called when the peer has closed its sending direction; this side can still write. Only
    /// called if [`HALF_CLOSEABLE`](Self::HALF_CLOSEABLE).
    #[doc(alias = "readConnectionLost")]
    fn read_connection_lost(&mut self, this: &Handle<Self>) {
        let _ = this;
    }

    /// Called when the end of file that [`lose_write_connection`](Transport::lose_write_connection)
    /// requested has been sent; this side still receives. Only called if
    /// [`HALF_CLOSEABLE`](Self::HALF_CLOSEABLE).
    #[doc(alias = "writeConnectionLost")]
    fn write_connection_lost(&mut self, this: &Handle<Self>) {
        let _ = this;
    }

    /// Called for each descriptor that arrives over a UNIX socket, before the byte that it was sent
    /// with is delivered. Only called if [`TAKES_DESCRIPTORS`](Self::TAKES_DESCRIPTORS).
    #[doc(alias = "fileDescriptorReceived")]
    fn file_descriptor_received(&mut self, this: &Handle<Self>, descriptor: OwnedFd) {
        let _ = (this, descriptor);
    }

    /// Returns a factory that builds a new protocol for each connection.
    #[doc(alias = "forProtocol")]
    fn factory() -> Fresh<Self>
    where
        Self: BuildFrom<()>,
    {
        Fresh::new()
    }

    // The connection calls these functions. `#[protocol]` overrides them: a coroutine handler
    // starts while the protocol is not borrowed, and the reason of the loss is only created for a
    // handler that takes it.

    #[doc(hidden)]
    fn __connection_made(this: &Handle<Self>) {
        this.enter(|protocol| protocol.connection_made(this));
    }

    #[doc(hidden)]
    fn __message_received(this: &Handle<Self>, message: Message<'_, Self>) {
        this.enter(|protocol| protocol.message_received(this, message));
    }

    #[doc(hidden)]
    fn __file_descriptor_received(this: &Handle<Self>, descriptor: OwnedFd) {
        this.enter(|protocol| protocol.file_descriptor_received(this, descriptor));
    }

    #[doc(hidden)]
    fn __read_connection_lost(this: &Handle<Self>) {
        this.enter(|protocol| protocol.read_connection_lost(this));
    }

    #[doc(hidden)]
    fn __write_connection_lost(this: &Handle<Self>) {
        this.enter(|protocol| protocol.write_connection_lost(this));
    }

    #[doc(hidden)]
    fn __connection_lost(this: &Handle<Self>) {
        let reason = this.loss();
        this.enter(|protocol| protocol.connection_lost(this, &reason));
    }
}

/// The argument of a protocol's `message_received`.
pub type Message<'a, P> = <<P as Protocol>::Framing as Framing>::Message<'a>;

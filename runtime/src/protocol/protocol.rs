//! Protocol: what a connection calls.
use super::{
    fresh::{BuildFrom, Fresh},
    handle::Handle,
};
use crate::{
    failure::Failure,
    stream::{Framing, Transport},
};
use std::os::fd::OwnedFd;

/// What happens on one connection. [`#[protocol]`](macro@crate::protocol) writes this trait from
/// handlers by name; it can be written by hand too.
///
/// The three handlers run one at a time, in this order: `connection_made` once, `message_received`
/// for each message, `connection_lost` once. A panic or a failure in one costs this connection
/// alone.
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
    /// Where its messages end: [`Raw`](super::Raw), [`Lines`](crate::basic::Lines), or one of your
    /// own.
    type Framing: Framing;

    /// Whether it goes on after one direction has ended: it has
    /// [`read_connection_lost`](Self::read_connection_lost) or
    /// [`write_connection_lost`](Self::write_connection_lost). Otherwise the end of the other
    /// side's writing is the end of the connection.
    #[doc(alias = "IHalfCloseableProtocol")]
    const HALF_CLOSEABLE: bool = false;

    /// Whether it has [`file_descriptor_received`](Self::file_descriptor_received). Otherwise the
    /// system closes descriptors that come.
    #[doc(alias = "IFileDescriptorReceiver")]
    const TAKES_DESCRIPTORS: bool = false;

    /// The framing of one connection.
    fn framing(&self) -> Self::Framing {
        Self::Framing::default()
    }

    /// Is given the transport, once, before `connection_made`: the place to keep it.
    fn attach(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The connection is there.
    #[doc(alias = "connectionMade")]
    fn connection_made(&mut self, this: &Handle<Self>) {
        let _ = this;
    }

    /// A message has arrived.
    #[doc(alias = "dataReceived")]
    fn message_received(&mut self, this: &Handle<Self>, message: Message<'_, Self>) {
        let _ = (this, message);
    }

    /// The connection is over, and why: [`ConnectionDone`](crate::error::ConnectionDone),
    /// [`ConnectionLost`](crate::error::ConnectionLost),
    /// [`ConnectionAborted`](crate::error::ConnectionAborted), or what [`Transport::fail`] was
    /// given. The transport is dead by now.
    #[doc(alias = "connectionLost")]
    fn connection_lost(&mut self, this: &Handle<Self>, reason: &Failure) {
        let _ = (this, reason);
    }

    /// The other side writes no more; this side still may. Called only if
    /// [`HALF_CLOSEABLE`](Self::HALF_CLOSEABLE).
    #[doc(alias = "readConnectionLost")]
    fn read_connection_lost(&mut self, this: &Handle<Self>) {
        let _ = this;
    }

    /// The end of writing that [`lose_write_connection`](Transport::lose_write_connection) asked
    /// for has been sent; what the other side writes still arrives. Called only if
    /// [`HALF_CLOSEABLE`](Self::HALF_CLOSEABLE).
    #[doc(alias = "writeConnectionLost")]
    fn write_connection_lost(&mut self, this: &Handle<Self>) {
        let _ = this;
    }

    /// A descriptor has come over a UNIX socket, before the byte that it was sent with is
    /// delivered. Called only if [`TAKES_DESCRIPTORS`](Self::TAKES_DESCRIPTORS).
    #[doc(alias = "fileDescriptorReceived")]
    fn file_descriptor_received(&mut self, this: &Handle<Self>, descriptor: OwnedFd) {
        let _ = (this, descriptor);
    }

    /// A factory that makes a fresh protocol for each connection.
    #[doc(alias = "forProtocol")]
    fn factory() -> Fresh<Self>
    where
        Self: BuildFrom<()>,
    {
        Fresh::new()
    }

    // What the connection really calls. A handler that is a coroutine starts with the protocol
    // free, and one that does not ask for the reason of the loss saves its making, so `#[protocol]`
    // writes these instead.

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

/// What a protocol's `message_received` is given.
pub type Message<'a, P> = <<P as Protocol>::Framing as Framing>::Message<'a>;

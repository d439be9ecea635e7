//! Transports: connections and ports over every kind of socket.
//!
//! | you want | write |
//! |---|---|
//! | to serve TCP, UNIX sockets, datagrams | [`Reactor::listen_tcp`](crate::reactor::Reactor::listen_tcp), [`listen_unix`](crate::reactor::Reactor::listen_unix), [`listen_udp`](crate::reactor::Reactor::listen_udp) with a [`DatagramProtocol`] |
//! | to connect once | [`Reactor::connect_tcp`](crate::reactor::Reactor::connect_tcp), [`connect_unix`](crate::reactor::Reactor::connect_unix) |
//! | to connect again and again | [`Connector`] with a [`ClientFactory`] |
//! | to stop, and to start again | [`Port`], [`DatagramPort`] |
//! | what is open already | [`adopt_stream_port`](crate::reactor::Reactor::adopt_stream_port) and its like, [`standard_io`](crate::reactor::Reactor::standard_io) |
//!
//! ```
//! use twistor::{protocol::Raw, reactor::Reactor, transport::ListenTcpOptions};
//! # use twistor::protocol::{Handle, Protocol};
//! # struct Echo;
//! # impl Protocol for Echo {
//! #     type Framing = Raw;
//! #     fn message_received(&mut self, this: &Handle<Self>, data: &[u8]) { this.write(data); }
//! # }
//! # use twistor::address::Address;
//!
//! let reactor = Reactor::new()?;
//! let options = ListenTcpOptions::default();
//! let port = reactor.listen_tcp(([127, 0, 0, 1], 0), |_: &Address| Echo, &options)?;
//! println!("listening on {}", port.host());
//! port.stop_listening().detach();
//! # Ok::<(), twistor::failure::Failure>(())
//! ```
mod adopt;
mod back_off;
mod connecting;
mod connector;
mod datagrams;
mod listener;
mod os;
mod tcp;
mod udp;
mod unix;

pub use connecting::connect_error;
pub use connector::{ClientFactory, Connector, ConnectorState};
pub use datagrams::{DatagramPort, DatagramProtocol, DatagramTransport};
pub use listener::Port;
pub use tcp::{ConnectTcpOptions, DEFAULT_BACKLOG, ListenTcpOptions};
pub use udp::{MulticastInterface, UdpOptions};
pub use unix::{ConnectUnixOptions, ListenUnixOptions};

pub(crate) use connecting::{connect, connect_with};
pub(crate) use listener::{erase_factory, listen};

//! A client and a server, connected in memory.
use super::MemoryReactor;
use super::memory_net::{Break, Net, Pipe};
use crate::{
    address::Address,
    failure::Failure,
    protocol::{Factory, Handle, IntoFactory, Protocol},
    reactor::{Reactor, backend::AnyWire},
};
use std::{fmt, net::Ipv4Addr, rc::Rc, time::Duration};

/// One end of a [`Pump`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum End {
    /// The end that connects.
    Client,
    /// The end that listens.
    Server,
}

/// A client and a server protocol, connected in memory over virtual time. The test decides in which
/// pieces bytes arrive, and where the connection breaks.
///
/// ```
/// use twistor::{prelude::*, testing::{End, pump}};
///
/// #[protocol(lines)]
/// struct Asks;
/// #[protocol]
/// impl Asks {
///     fn connection_made(&mut self, transport: &Transport) { transport.send_line("ping"); }
///     fn line_received(&mut self, line: &[u8]) { assert_eq!(line, b"pong"); }
/// }
///
/// #[protocol(lines)]
/// struct Answers;
/// #[protocol]
/// impl Answers {
///     fn line_received(&mut self, _line: &[u8], transport: &Transport) {
///         transport.send_line("pong");
///     }
/// }
///
/// let pump = pump(Answers::factory(), Asks::factory());
/// pump.set_chunk_size(1);                     // every byte by itself
/// pump.reset_after(End::Server, 3);           // three bytes of the answer arrive
/// pump.settle();
/// assert!(!pump.client().is_connected() && !pump.server().is_connected());
/// ```
#[doc(alias = "IOPump")]
#[doc(alias = "connectedServerAndClient")]
pub struct Pump<S: Protocol, C: Protocol> {
    memory: MemoryReactor,
    net: Rc<Net>,
    server: Handle<S>,
    client: Handle<C>,
    from_client: Rc<Pipe>,
    from_server: Rc<Pipe>,
}

/// Connects a server and a client. `connection_made` has been called on both, the server first, and
/// their output is on its way.
///
/// # Panics
/// Panics if one of the factories refuses or fails.
#[track_caller]
pub fn pump<S: IntoFactory, C: IntoFactory>(
    server: S,
    client: C,
) -> Pump<<S::Factory as Factory>::Protocol, <C::Factory as Factory>::Protocol> {
    let (memory, net) = MemoryReactor::with_net();
    let at = |port| Address::from((Ipv4Addr::LOCALHOST.into(), port));
    let (client_at, server_at) = (at(54321), at(80));
    let (client_wire, server_wire, [from_client, from_server]) = net.pair(&client_at, &server_at);
    let reactor = memory.reactor();
    let server = reactor.put_on(AnyWire::new(server_wire), &client_at, server);
    let client = reactor.put_on(AnyWire::new(client_wire), &server_at, client);
    Pump { server: built(server), client: built(client), memory, net, from_client, from_server }
}

#[track_caller]
pub(super) fn built<P: Protocol>(made: Result<Handle<P>, Failure>) -> Handle<P> {
    made.unwrap_or_else(|failure| panic!("the factory has built no protocol: {failure:#?}"))
}

impl<S: Protocol, C: Protocol> Pump<S, C> {
    /// Returns the server's handle.
    pub fn server(&self) -> &Handle<S> {
        &self.server
    }

    /// Returns the client's handle.
    pub fn client(&self) -> &Handle<C> {
        &self.client
    }

    /// Returns the reactor of both.
    pub fn reactor(&self) -> Reactor {
        self.memory.reactor()
    }

    /// Returns the number of writes by `end` that sent something. On a network each is a system
    /// call.
    pub fn writes(&self, end: End) -> usize {
        self.pipe_from(end).writes()
    }

    fn pipe_from(&self, end: End) -> &Pipe {
        match end {
            End::Client => &self.from_client,
            End::Server => &self.from_server,
        }
    }

    /// Sets the maximum number of bytes that a read returns, at least 1.
    pub fn set_chunk_size(&self, bytes: usize) {
        self.net.set_chunk(bytes);
    }

    /// Sets the capacity of each direction, in bytes, beyond which a writer has to wait. The
    /// default is 65536.
    pub fn set_send_buffer(&self, bytes: usize) {
        self.memory.set_send_buffer(bytes);
    }

    /// Makes the connection close with an end of file in both directions when the other end has
    /// read `bytes` more of what `from` sends. Bytes on their way then are lost.
    pub fn cut_after(&self, from: End, bytes: usize) {
        self.break_after(from, bytes, Break::Cut);
    }

    /// Makes both ends read a reset when the other end has read `bytes` more of what `from` sends.
    pub fn reset_after(&self, from: End, bytes: usize) {
        self.break_after(from, bytes, Break::Reset);
    }

    fn break_after(&self, from: End, bytes: usize, how: Break) {
        let pipe = self.pipe_from(from);
        pipe.break_after(bytes, how);
        self.net.look_at(pipe);
    }

    /// Runs one turn: what was on its way when the turn began arrives.
    #[doc(alias = "pump")]
    pub fn turn(&self) {
        self.memory.turn();
    }

    /// Runs turns until there is nothing left to do.
    pub fn settle(&self) {
        self.memory.settle();
    }

    /// Advances the time by `by` and runs everything that is due, with all its consequences.
    pub fn advance(&self, by: Duration) {
        self.memory.advance(by);
    }
}

impl<S: Protocol, C: Protocol> Drop for Pump<S, C> {
    fn drop(&mut self) {
        self.memory.reactor().close();
    }
}

impl<S: Protocol, C: Protocol> fmt::Debug for Pump<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to_server, to_client) = (self.from_client.len(), self.from_server.len());
        write!(
            f,
            "<Pump, {to_server} bytes on their way to the server and {to_client} to the client>"
        )
    }
}

//! The seam between twistor and whatever carries its bytes and its time.
use super::source::Readiness;
use crate::address::Address;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

/// An event of a source: the slot it has, and what it is ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) slot: usize,
    pub(crate) readiness: Readiness,
}

/// Ends a wait, from any thread.
pub(crate) type Alarm = Arc<dyn Fn() + Send + Sync>;

/// How a port is opened.
#[derive(Debug, Clone)]
pub(crate) struct Bind {
    pub(crate) at: SocketAddr,
    pub(crate) backlog: u32,
}

/// How a connection is opened.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<SocketAddr>,
}

/// Time, waiting, and the ways to open something.
pub(crate) trait Backend {
    /// Time since a start of its own; never runs backwards.
    fn now(&self) -> Duration;

    /// Waits until something is ready, an alarm rings, or `timeout` has passed (`None`: without limit), and hands over the events. It is not
    /// called inside itself: a reactor runs one turn at a time.
    fn wait(&self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event)) -> io::Result<()>;

    /// What ends a wait.
    fn alarm(&self) -> Alarm;

    /// Opens a port; it is not registered yet.
    fn listen(&self, bind: &Bind) -> io::Result<Box<dyn Accept>>;

    /// Begins to connect; an error here is one of this side. The wire is not registered yet, and becomes writable when it is decided.
    fn connect(&self, dial: &Dial) -> Result<Box<dyn Wire>, DialError>;

    /// The pipe of the signals `wanted`, registered in `slot`; `None` where there are no signals.
    fn signals(&self, slot: usize, wanted: &[i32]) -> io::Result<Option<Box<dyn Signals>>>;
}

/// Why a connection could not even begin.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The local address could not be bound.
    Bind(io::Error),
    Connect(io::Error),
}

/// One stream of bytes. Nothing here waits: what cannot be done now is `WouldBlock`.
pub(crate) trait Wire {
    /// Events go to `slot` from now on.
    fn register(&mut self, slot: usize) -> io::Result<()>;

    fn read(&self, into: &mut [u8]) -> io::Result<usize>;

    fn write(&self, data: &[u8]) -> io::Result<usize>;

    fn write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends the writing side: the other side reads to the end of what was written.
    fn shutdown(&self) -> io::Result<()>;

    /// Dropping it from now on resets the connection.
    fn reset_on_drop(&self) -> io::Result<()>;

    /// How an attempt to connect stands: `Ok(true)` made, `Ok(false)` undecided.
    fn connected(&self) -> io::Result<bool>;

    fn host(&self) -> io::Result<Address>;

    fn set_option(&self, option: WireOption) -> io::Result<()>;
}

/// An option of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WireOption {
    NoDelay(bool),
    KeepAlive(bool),
}

/// An open port.
pub(crate) trait Accept {
    fn register(&mut self, slot: usize) -> io::Result<()>;

    fn accept(&self) -> io::Result<(Box<dyn Wire>, Address)>;

    fn host(&self) -> io::Result<Address>;
}

/// The pipe that signals come through.
pub(crate) trait Signals {
    /// The numbers of the signals that have come, in order.
    fn pending(&self) -> Vec<i32>;
}

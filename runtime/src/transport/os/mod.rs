//! The operating system through mio: the one place that opens, reads, writes and sets options of
//! sockets.
mod datagram_sockets;
mod sockets;
mod standard_io;
mod system;

pub(super) use sockets::lock_path;

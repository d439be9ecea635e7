//! The operating system through mio. All sockets are opened, read, written and configured here.
mod datagram_sockets;
mod signal_pipe;
mod sockets;
mod standard_io;
mod system;

pub(super) use sockets::lock_path;

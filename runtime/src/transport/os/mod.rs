//! The operating system through mio: the one place that opens, reads, writes and sets options of
//! sockets.
mod datagrams;
mod standard_io;
mod streams;
mod system;

pub(super) use streams::lock_path;

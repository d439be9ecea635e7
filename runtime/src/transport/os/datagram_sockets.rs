//! Datagram sockets of the operating system: UDP and UNIX.
use super::sockets::{SocketFile, address, socket_address, unix_path};
use crate::{
    address::Address,
    reactor::backend::{DatagramOption, Datagrams, Group},
};
use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::net::{RecvFlags, SocketAddrAny, SocketAddrUnix};
use socket2::Socket;
use std::{
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddrV4, SocketAddrV6},
    os::{fd::AsRawFd, unix::ffi::OsStringExt},
    rc::Rc,
};

/// A datagram socket.
pub(super) struct SystemDatagrams {
    pub(super) socket: Socket,
    pub(super) registry: Rc<Registry>,
    pub(super) file: Option<SocketFile>,
    /// As for a stream that is [`SharedSocket`](super::sockets::SharedSocket).
    pub(super) adopted: bool,
}

impl Drop for SystemDatagrams {
    fn drop(&mut self) {
        if self.adopted {
            let _ = self.registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()));
        }
    }
}

impl Datagrams for SystemDatagrams {
    fn register(&mut self, slot: usize) -> io::Result<()> {
        self.registry.register(
            &mut SourceFd(&self.socket.as_raw_fd()),
            Token(slot),
            Interest::READABLE,
        )
    }

    fn receive(&self, into: &mut [u8]) -> io::Result<(usize, Address)> {
        // with TRUNC the length is that of the datagram, even where the buffer is shorter
        let (_, length, from) = rustix::net::recvfrom(&self.socket, into, RecvFlags::TRUNC)?;
        Ok((length, from.map_or(Address::Unix(None), any_address)))
    }

    fn send(&self, data: &[u8], to: Option<&Address>) -> io::Result<()> {
        match to {
            Some(to) => self.socket.send_to(data, &socket_address(to)?)?,
            None => self.socket.send(data)?,
        };
        Ok(())
    }

    fn connect(&self, to: &Address) -> io::Result<()> {
        self.socket.connect(&socket_address(to)?)
    }

    fn host(&self) -> io::Result<Address> {
        Ok(address(&self.socket.local_addr()?))
    }

    fn set_option(&self, option: DatagramOption) -> io::Result<()> {
        let v6 = matches!(self.host()?, Address::IPv6(_));
        match option {
            DatagramOption::Broadcast(yes) => self.socket.set_broadcast(yes),
            DatagramOption::Ttl(hops) if v6 => self.socket.set_multicast_hops_v6(hops),
            DatagramOption::Ttl(hops) => self.socket.set_multicast_ttl_v4(hops),
            DatagramOption::Loopback(yes) if v6 => self.socket.set_multicast_loop_v6(yes),
            DatagramOption::Loopback(yes) => self.socket.set_multicast_loop_v4(yes),
            DatagramOption::Interface(interface) => self.socket.set_multicast_if_v4(&interface),
        }
    }

    fn option(&self, option: DatagramOption) -> io::Result<DatagramOption> {
        let v6 = matches!(self.host()?, Address::IPv6(_));
        Ok(match option {
            DatagramOption::Broadcast(_) => DatagramOption::Broadcast(self.socket.broadcast()?),
            DatagramOption::Ttl(_) if v6 => DatagramOption::Ttl(self.socket.multicast_hops_v6()?),
            DatagramOption::Ttl(_) => DatagramOption::Ttl(self.socket.multicast_ttl_v4()?),
            DatagramOption::Loopback(_) if v6 => {
                DatagramOption::Loopback(self.socket.multicast_loop_v6()?)
            }
            DatagramOption::Loopback(_) => {
                DatagramOption::Loopback(self.socket.multicast_loop_v4()?)
            }
            DatagramOption::Interface(_) => {
                DatagramOption::Interface(self.socket.multicast_if_v4()?)
            }
        })
    }

    fn group(&self, group: &Group) -> io::Result<()> {
        match (group.address, group.join) {
            (IpAddr::V4(address), true) => {
                self.socket.join_multicast_v4(&address, &group.interface)
            }
            (IpAddr::V4(address), false) => {
                self.socket.leave_multicast_v4(&address, &group.interface)
            }
            (IpAddr::V6(address), true) => self.socket.join_multicast_v6(&address, group.index),
            (IpAddr::V6(address), false) => self.socket.leave_multicast_v6(&address, group.index),
        }
    }

    fn close(mut self: Box<Self>) -> io::Result<()> {
        self.file.take().map_or(Ok(()), SocketFile::remove)
    }
}

/// Converts the sender's address of a datagram.
fn any_address(from: SocketAddrAny) -> Address {
    if let Ok(at) = SocketAddrV4::try_from(from.clone()) {
        return Address::IPv4(at);
    }
    if let Ok(at) = SocketAddrV6::try_from(from.clone()) {
        return Address::IPv6(at);
    }
    let Ok(at) = SocketAddrUnix::try_from(from) else { return Address::Unix(None) };
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = at.abstract_name() {
        return Address::Unix(unix_path(Some(name), None));
    }
    Address::Unix(at.path().map(|path| OsString::from_vec(path.to_bytes().to_vec()).into()))
}

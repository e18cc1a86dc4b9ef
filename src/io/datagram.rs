//! UDP sockets for the control plane: one datagram per call, each with the local address that it came to or
//! leaves from. Nothing here is fast; the data plane has [`super::udp`].

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
    sendmsg, setsockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::types::Family;

/// A non-blocking UDP socket bound to one port on every address of one family.
#[derive(Debug)]
pub struct DatagramSocket {
    fd: OwnedFd,
    family: Family,
    port: u16,
}

impl DatagramSocket {
    /// Binds. [`io::ErrorKind::AddrInUse`] where another process has the port.
    pub fn bind(family: Family, port: u16) -> io::Result<Self> {
        let domain = match family {
            Family::Ipv4 => Domain::IPV4,
            Family::Ipv6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        let any: SocketAddr = match family {
            Family::Ipv4 => (Ipv4Addr::UNSPECIFIED, port).into(),
            Family::Ipv6 => {
                socket.set_only_v6(true)?;
                (Ipv6Addr::UNSPECIFIED, port).into()
            }
        };
        socket.bind(&any.into())?;
        match family {
            Family::Ipv4 => setsockopt(&socket, Ipv4PacketInfo, &true)?,
            Family::Ipv6 => setsockopt(&socket, Ipv6RecvPacketInfo, &true)?,
        }
        let port = socket.local_addr()?.as_socket().map_or(port, |addr| addr.port());
        Ok(Self { fd: socket.into(), family, port })
    }

    /// The same in an event loop. Must be called within a tokio runtime.
    pub fn into_async(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the socket owns its descriptor, gives it out by reference only, and neither closes nor
        // replaces it before it is dropped.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// The family it was bound for.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Takes one datagram: its length, its sender, and the local address and port that it was sent to. A
    /// datagram longer than `buffer` is cut, and its full length returned.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
        let mut control = cmsg_space!(nix::libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.fd.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_TRUNC,
        )?;
        let source =
            message.address.as_ref().and_then(to_socket_addr).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "datagram without a sender address")
            })?;
        let mut local = match self.family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        for item in message.cmsgs()? {
            match item {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    local = IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    local = IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                }
                _ => {}
            }
        }
        Ok((message.bytes, source, SocketAddr::new(local, self.port)))
    }

    /// Sends one datagram, from `source` where given, else from the address that the kernel's route prefers.
    /// `destination` and `source` must be of this socket's family.
    pub fn send(&self, source: Option<IpAddr>, destination: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let parts = [IoSlice::new(payload)];
        let fd = self.fd.as_raw_fd();
        let sent = match (destination, source) {
            (SocketAddr::V4(to), None) => send_to(fd, &parts, &[], &SockaddrIn::from(to)),
            (SocketAddr::V4(to), Some(IpAddr::V4(from))) => {
                let info = nix::libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: nix::libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                    ipi_addr: nix::libc::in_addr { s_addr: 0 },
                };
                send_to(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&info)], &SockaddrIn::from(to))
            }
            (SocketAddr::V6(to), None) => send_to(fd, &parts, &[], &SockaddrIn6::from(to)),
            (SocketAddr::V6(to), Some(IpAddr::V6(from))) => {
                let info = nix::libc::in6_pktinfo {
                    ipi6_addr: nix::libc::in6_addr { s6_addr: from.octets() },
                    ipi6_ifindex: 0,
                };
                send_to(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&info)], &SockaddrIn6::from(to))
            }
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "source and destination differ in family",
                ));
            }
        };
        sent.map_err(io::Error::from)
    }
}

fn send_to(
    fd: RawFd,
    parts: &[IoSlice<'_>],
    control: &[ControlMessage<'_>],
    to: &impl nix::sys::socket::SockaddrLike,
) -> nix::Result<()> {
    sendmsg(fd, parts, control, MsgFlags::empty(), Some(to)).map(|_| ())
}

fn to_socket_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    match (addr.as_sockaddr_in(), addr.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4(SocketAddrV4::from(*v4))),
        (_, Some(v6)) => Some(SocketAddr::V6(SocketAddrV6::from(*v6))),
        _ => None,
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for DatagramSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(family: Family, addr: &str) {
        let addr: IpAddr = addr.parse().unwrap();
        let (a, b) = (DatagramSocket::bind(family, 0).unwrap(), DatagramSocket::bind(family, 0).unwrap());
        a.send(Some(addr), SocketAddr::new(addr, b.port), b"hello").unwrap();
        let mut buffer = [0; 4];
        let (len, source, destination) = b.recv(&mut buffer).unwrap();
        assert_eq!((len, &buffer), (5, b"hell"), "cut to the buffer, full length told");
        assert_eq!((source, destination), (SocketAddr::new(addr, a.port), SocketAddr::new(addr, b.port)));
        assert_eq!(b.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn datagrams_carry_their_addresses_in_both_families() {
        round_trip(Family::Ipv4, "127.0.0.1");
        round_trip(Family::Ipv4, "127.9.9.9");
        round_trip(Family::Ipv6, "::1");
    }

    #[test]
    fn a_taken_port_is_said_to_be_taken() {
        let a = DatagramSocket::bind(Family::Ipv4, 0).unwrap();
        assert_eq!(DatagramSocket::bind(Family::Ipv4, a.port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let to = "127.0.0.1:9".parse().unwrap();
        assert!(a.send(Some("::1".parse().unwrap()), to, b"").is_err());
    }
}

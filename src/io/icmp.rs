//! Sending ICMP errors to hosts of the site.
//!
//! Through raw sockets rather than through the TUN: the kernel adds the IP header, chooses the source address
//! by route, and its reverse path checks don't apply.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::control::{ControlBuffer, RawAddress, push_source};
use crate::types::Family;

/// A socket that sends ICMP or ICMPv6 messages.
#[derive(Debug)]
pub struct IcmpSocket {
    socket: Socket,
}

impl IcmpSocket {
    /// Needs CAP_NET_RAW.
    pub fn open(family: Family) -> io::Result<Self> {
        let (domain, protocol) = match family {
            Family::Ipv4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::Ipv6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        // A raw socket would otherwise get a copy of every ICMP message of the system.
        super::udp::drop_all_input(&socket)?;
        Ok(Self { socket })
    }

    /// Sends a message, without IP header, to `destination`. The checksum of an ICMPv6 message is filled in.
    pub fn send(&self, source: IpAddr, destination: IpAddr, message: &[u8]) -> io::Result<()> {
        let mut name = RawAddress::new(destination, 0);
        let mut control = ControlBuffer::new();
        push_source(&mut control, source);
        let part = IoSlice::new(message);
        // SAFETY: a msghdr may be all zero.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = name.as_mut_ptr();
        header.msg_namelen = name.len;
        header.msg_iov = (&raw const part).cast_mut().cast();
        header.msg_iovlen = 1;
        header.msg_controllen = control.used() as _;
        header.msg_control = control.as_mut_ptr();
        // SAFETY: every pointer in `header` is to memory that lives, at the length given, beyond this call.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_can_be_sent_in_both_families() {
        for (family, address, kind) in [(Family::Ipv4, "127.0.0.1", 11), (Family::Ipv6, "::1", 3)] {
            let address: IpAddr = address.parse().unwrap();
            let socket = IcmpSocket::open(family).expect("the tests need CAP_NET_RAW");
            let message = [[kind, 0, 0, 0, 0, 0, 0, 0].as_slice(), &[0x45; 28]].concat();
            socket.send(address, address, &message).unwrap();
            let any: IpAddr = if family == Family::Ipv4 { [0; 4].into() } else { [0u16; 8].into() };
            socket.send(any, address, &message).unwrap();
        }
    }
}

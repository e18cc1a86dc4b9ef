//! Control messages beside datagrams (`cmsg(3)`), written into and read from fixed buffers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Room for the control messages of one datagram, aligned as the kernel wants it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct ControlBuffer {
    bytes: [u8; Self::LEN],
    used: usize,
}

const HEADER: usize = size_of::<libc::cmsghdr>();

impl ControlBuffer {
    /// Enough for addresses, TTL, TOS, segment size and an extended error with the offender's address.
    pub(super) const LEN: usize = 192;

    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::LEN], used: 0 }
    }

    /// Appends a message. What does not fit is left out, which no caller's messages reach.
    pub(super) fn push<T: Copy>(&mut self, level: i32, kind: i32, value: T) {
        let len = HEADER + size_of::<T>();
        let next = self.used + len.next_multiple_of(align_of::<libc::cmsghdr>());
        if next > Self::LEN {
            return;
        }
        // SAFETY: `used` is a multiple of the header's alignment, as is the buffer's address, and the header
        // and the value that follows it end within the buffer, by the check above. A value need not be
        // aligned.
        unsafe {
            let at = self.bytes.as_mut_ptr().add(self.used);
            let mut header: libc::cmsghdr = std::mem::zeroed();
            header.cmsg_len = len as _;
            header.cmsg_level = level;
            header.cmsg_type = kind;
            at.cast::<libc::cmsghdr>().write(header);
            at.add(HEADER).cast::<T>().write_unaligned(value);
        }
        self.used = next;
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The messages in the first `len` bytes: level, type, data.
    pub(super) fn messages(&self, len: usize) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut rest = self.bytes.get(..len).unwrap_or_default();
        std::iter::from_fn(move || {
            let header = rest.get(..HEADER)?;
            // SAFETY: as many initialised bytes as a cmsghdr, which any bytes are a valid value of.
            let header = unsafe { header.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
            let len: usize = header.cmsg_len as _; // u32 with some C libraries
            let data = rest.get(HEADER..len)?;
            rest = rest.get(len.next_multiple_of(align_of::<libc::cmsghdr>())..).unwrap_or_default();
            Some((header.cmsg_level, header.cmsg_type, data))
        })
    }
}

/// The integer at the start of a control message's data, which the kernel sends as 4 bytes or, for some,
/// as 1.
pub(super) fn int(data: &[u8]) -> Option<i32> {
    match data {
        [one] => Some(i32::from(*one)),
        _ => data.first_chunk().map(|b| i32::from_ne_bytes(*b)),
    }
}

/// An address as the kernel takes it, and its length.
#[derive(Clone, Copy)]
pub(super) struct RawAddress {
    storage: libc::sockaddr_storage,
    pub(super) len: libc::socklen_t,
}

impl RawAddress {
    pub(super) const MAX: usize = size_of::<libc::sockaddr_storage>();

    pub(super) fn empty() -> Self {
        // SAFETY: a sockaddr_storage may be all zero.
        Self { storage: unsafe { std::mem::zeroed() }, len: 0 }
    }

    pub(super) fn new(address: IpAddr, port: u16) -> Self {
        let mut raw = Self::empty();
        match address {
            IpAddr::V4(a) => {
                let value = libc::sockaddr_in {
                    sin_family: libc::AF_INET as _,
                    sin_port: port.to_be(),
                    sin_addr: in_addr(a),
                    sin_zero: [0; 8],
                };
                // SAFETY: a sockaddr_storage is large and aligned enough for every kind of address.
                unsafe { (&raw mut raw.storage).cast::<libc::sockaddr_in>().write(value) };
                raw.len = size_of::<libc::sockaddr_in>() as _;
            }
            IpAddr::V6(a) => {
                let value = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as _,
                    sin6_port: port.to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: in6_addr(a),
                    sin6_scope_id: 0,
                };
                // SAFETY: a sockaddr_storage is large and aligned enough for every kind of address.
                unsafe { (&raw mut raw.storage).cast::<libc::sockaddr_in6>().write(value) };
                raw.len = size_of::<libc::sockaddr_in6>() as _;
            }
        }
        raw
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.storage).cast()
    }

    pub(super) fn get(&self) -> Option<SocketAddr> {
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that it is a sockaddr_in; a sockaddr_storage is large and aligned
                // enough.
                let a = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from_bits(u32::from_be(a.sin_addr.s_addr));
                Some((ip, u16::from_be(a.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that it is a sockaddr_in6; a sockaddr_storage is large and aligned
                // enough.
                let a = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in6>().read() };
                Some((Ipv6Addr::from(a.sin6_addr.s6_addr), u16::from_be(a.sin6_port)).into())
            }
            _ => None,
        }
    }
}

pub(super) fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: address.to_bits().to_be() }
}

pub(super) fn in6_addr(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: address.octets() }
}

/// Appends the message that makes a datagram leave from `source`; none for an unspecified address.
pub(super) fn push_source(control: &mut ControlBuffer, source: IpAddr) {
    match source {
        a if a.is_unspecified() => {}
        IpAddr::V4(a) => control.push(
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr(a),
                ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
            },
        ),
        IpAddr::V6(a) => control.push(
            libc::IPPROTO_IPV6,
            libc::IPV6_PKTINFO,
            libc::in6_pktinfo { ipi6_addr: in6_addr(a), ipi6_ifindex: 0 },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_as_written() {
        let mut control = ControlBuffer::new();
        control.push(1, 2, 3i32);
        control.push(4, 5, 6u16);
        control.push(7, 8, [9u8; 20]);
        let read: Vec<_> = control.messages(control.used()).map(|(l, t, d)| (l, t, d.to_vec())).collect();
        assert_eq!(
            read,
            [(1, 2, 3i32.to_ne_bytes().to_vec()), (4, 5, 6u16.to_ne_bytes().to_vec()), (7, 8, vec![9; 20])]
        );
        (0..50).for_each(|_| control.push(1, 1, [0u64; 4]));
        assert!(control.used() <= ControlBuffer::LEN, "what does not fit is left out");
        assert_eq!(control.messages(10).count(), 0);
    }

    #[test]
    fn addresses_survive() {
        for text in ["192.0.2.1:4341", "[2001:db8::1]:4342"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::new(address.ip(), address.port()).get(), Some(address));
        }
        assert_eq!(RawAddress::empty().get(), None);
    }
}

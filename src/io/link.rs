//! Whole frames of one interface: VRRP, ARP and Neighbor Discovery, for which the source MAC address matters.
//!
//! Packet sockets rather than raw IP sockets: they see what comes to the interface's other MAC addresses too,
//! whatever the kernel makes of it, and are not subject to its reverse path checks.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Length of an Ethernet header, which every frame begins with.
pub const ETHERNET_HEADER: usize = 14;

/// Ancillary loads of a classic filter (`linux/filter.h`).
const SKF_AD_OFF: u32 = -0x1000i32 as u32;
const SKF_AD_PKTTYPE: u32 = 4;
const SKF_AD_VLAN_TAG_PRESENT: u32 = 48;

/// A socket that sends any frame by one interface and receives those whose IP payload is of one protocol.
#[derive(Debug)]
pub struct LinkSocket {
    fd: OwnedFd,
    mac: [u8; 6],
    /// Held for their memberships, which switches learn of by IGMP and MLD reports.
    memberships: Vec<Socket>,
}

impl LinkSocket {
    /// For the interface with this index; receives IPv4 and IPv6 packets of this protocol to our MAC
    /// addresses and to these groups. Needs CAP_NET_RAW.
    pub fn open(index: u32, protocol: u8, v4: Ipv4Addr, v6: Ipv6Addr) -> io::Result<Self> {
        let mut this = Self::bound(index, protocol)?;
        let index_signed = i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let [_, v4b, v4c, v4d] = v4.octets();
        let [.., v6a, v6b, v6c, v6d] = v6.octets();
        for group in [[1, 0, 0x5e, v4b & 0x7f, v4c, v4d], [0x33, 0x33, v6a, v6b, v6c, v6d]] {
            // SAFETY: a packet_mreq may be all zero.
            let mut request: libc::packet_mreq = unsafe { std::mem::zeroed() };
            request.mr_ifindex = index_signed;
            request.mr_type = libc::PACKET_MR_MULTICAST as u16;
            request.mr_alen = 6;
            for (to, from) in request.mr_address.iter_mut().zip(group) {
                *to = from;
            }
            set(&this.fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, request)?;
        }
        // A family that the interface does not have needs no report.
        this.memberships = [join_v4(index, v4), join_v6(index, v6)].into_iter().flatten().collect();
        Ok(this)
    }

    /// The same without groups.
    fn bound(index: u32, protocol: u8) -> io::Result<Self> {
        // Protocol 0 receives nothing before the filter is in place.
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is passed; the descriptor that comes back is ours alone.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        attach_filter(&fd, protocol)?;
        // Spares the interface a copy of every packet that it sends; kernels before 4.20 have the filter
        // alone.
        let _ = set(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1i32);
        let index_signed = i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a sockaddr_ll may be all zero.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index_signed;
        let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: a valid address of the length given.
        if unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: room for an address of the length given, which the kernel fills in.
        if unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let [a, b, c, d, e, f, ..] = address.sll_addr;
        Ok(Self { fd, mac: [a, b, c, d, e, f], memberships: Vec::new() })
    }

    /// The same in an event loop. Must be called within a tokio runtime.
    pub fn into_async(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the socket owns its descriptor, gives it out by reference only, and neither closes nor
        // replaces it before it is dropped.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// The interface's own MAC address when it was opened.
    pub const fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Takes one frame with its Ethernet header, and gives its length; a longer one is cut to `buffer`.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the buffer is valid for writes of the length given.
        let len = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        usize::try_from(len).map_err(|_| io::Error::last_os_error())
    }

    /// Sends one frame, which begins with its Ethernet header.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame is valid for reads of the length given.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Sends one frame by an interface, made for its MAC address. Needs CAP_NET_RAW.
pub fn announce(index: u32, frame: impl FnOnce([u8; 6]) -> Vec<u8>) -> io::Result<()> {
    // 255 is no protocol (RFC 3692 aside): nothing is received.
    let socket = LinkSocket::bound(index, u8::MAX)?;
    socket.send(&frame(socket.mac()))
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for LinkSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn set<T>(fd: &OwnedFd, level: i32, option: i32, value: T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: a valid value of the length given, which the kernel copies.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), len) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets pass: what was not sent by ourselves, has no VLAN tag (those belong to other interfaces), and is an
/// IPv4 or IPv6 packet of the protocol without extension headers.
fn attach_filter(fd: &OwnedFd, protocol: u8) -> io::Result<()> {
    let load = |size: u32, at: u32| libc::sock_filter {
        code: (libc::BPF_LD | size | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: at,
    };
    // To the next instruction if equal (or, inverted, if not); `skip` instructions further otherwise.
    let equal = |value: u32, jt: u8, jf: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k: value,
    };
    let give =
        |len: u32| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: len };
    let protocol = u32::from(protocol);
    let mut program = [
        load(libc::BPF_H, SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT),
        equal(0, 0, 9),
        load(libc::BPF_H, SKF_AD_OFF + SKF_AD_PKTTYPE),
        equal(u32::from(libc::PACKET_OUTGOING), 7, 0),
        load(libc::BPF_H, 12),
        equal(libc::ETH_P_IP as u32, 0, 2),
        load(libc::BPF_B, 14 + 9),
        equal(protocol, 4, 3),
        equal(libc::ETH_P_IPV6 as u32, 0, 2),
        load(libc::BPF_B, 14 + 6),
        equal(protocol, 1, 0),
        give(0),
        give(u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, filter)
}

fn join_v4(index: u32, group: Ipv4Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
    Ok(socket)
}

fn join_v6(index: u32, group: Ipv6Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    socket.join_multicast_v6(&group, index)?;
    Ok(socket)
}

//! UDP sockets of the data plane: many datagrams per system call, with TTL, TOS and addresses beside them.
//!
//! Datagrams are never fragmented (the kernel refuses those that exceed the path MTU), and errors from the
//! underlay are read from the sockets' error queues.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::control::{ControlBuffer, RawAddress, int, push_source};
use crate::types::Family;

/// Where and how a datagram is sent.
#[derive(Clone, Copy, Debug)]
pub struct SendTo {
    /// Destination.
    pub remote: IpAddr,
    /// Destination port.
    pub port: u16,
    /// Source; unspecified = the kernel's choice.
    pub source: IpAddr,
    /// TTL or hop limit, 1 to 255.
    pub ttl: u8,
    /// TOS or traffic class, ECN included.
    pub tos: u8,
}

/// What the underlay, or our own kernel, said about datagrams that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendError {
    /// Where they were sent to.
    pub remote: IpAddr,
    /// What was said.
    pub kind: SendErrorKind,
}

/// Kinds of [`SendError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// They may be at most so many bytes, IP header included.
    TooBig(u16),
    /// Net, host or port unreachable.
    Unreachable,
    /// Anything else.
    Other,
}

/// A socket that sends data packets from one port of its own, and receives nothing.
#[derive(Debug)]
pub struct SendSocket {
    socket: Socket,
    family: Family,
}

impl SendSocket {
    /// Opens a socket on a port of the kernel's choice; `zero_checksum`: the UDP checksum is not computed.
    pub fn open(family: Family, zero_checksum: bool, buffer: Option<u32>) -> io::Result<Self> {
        let socket = open(family, 0, false)?;
        let on = 1;
        match family {
            Family::Ipv4 => {
                set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)?;
                set(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, on)?;
            }
            Family::Ipv6 => {
                set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)?;
                set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, on)?;
            }
        }
        if zero_checksum {
            match family {
                Family::Ipv4 => set(&socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, on)?,
                Family::Ipv6 => set(&socket, libc::SOL_UDP, libc::UDP_NO_CHECK6_TX, on)?,
            }
        }
        if let Some(bytes) = buffer {
            force_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes)?;
        }
        drop_all_input(&socket)?;
        Ok(Self { socket, family })
    }

    /// Whether the kernel can cut a send into datagrams (`UDP_SEGMENT`).
    pub fn supports_segmentation(&self) -> bool {
        set(&self.socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
    }

    /// The family of addresses that it sends to.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The local port.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.as_socket().map_or(0, |a| a.port()))
    }

    /// Sends `parts` as one datagram; with `segment`, as datagrams of so many bytes each but the last.
    pub fn send(&self, to: &SendTo, segment: Option<u16>, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut name = RawAddress::new(to.remote, to.port);
        let mut control = ControlBuffer::new();
        push_source(&mut control, to.source);
        let (ttl, tos) = (i32::from(to.ttl), i32::from(to.tos));
        match self.family {
            Family::Ipv4 => {
                control.push(libc::IPPROTO_IP, libc::IP_TTL, ttl);
                control.push(libc::IPPROTO_IP, libc::IP_TOS, tos);
            }
            Family::Ipv6 => {
                control.push(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, ttl);
                control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos);
            }
        }
        if let Some(segment) = segment {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        // SAFETY: a msghdr may be all zero.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = name.as_mut_ptr();
        message.msg_namelen = name.len;
        // An IoSlice has the layout of an iovec, by its documentation; the kernel only reads from it.
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len() as _;
        message.msg_controllen = control.used() as _;
        message.msg_control = control.as_mut_ptr();
        // SAFETY: every pointer in `message` is to memory that lives, at the length given, beyond this call.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes the next error from the queue; `None` when there is no more.
    pub fn next_error(&self) -> io::Result<Option<SendError>> {
        let mut name = RawAddress::empty();
        let mut control = ControlBuffer::new();
        // SAFETY: a msghdr may be all zero.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = name.as_mut_ptr();
        message.msg_namelen = RawAddress::MAX as _;
        message.msg_control = control.as_mut_ptr();
        message.msg_controllen = ControlBuffer::LEN as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the name and control pointers are to memory of the lengths given; there is no iovec to
        // write to.
        if unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags) } < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        let Some(remote) = name.get().map(|a| a.ip()) else {
            return Ok(Some(SendError {
                remote: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                kind: SendErrorKind::Other,
            }));
        };
        let kind = control
            .messages(message.msg_controllen as _)
            .find_map(|m| match m {
                (libc::IPPROTO_IP, libc::IP_RECVERR, data)
                | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, data) => extended_error(data),
                _ => None,
            })
            .unwrap_or(SendErrorKind::Other);
        Ok(Some(SendError { remote, kind }))
    }
}

impl AsFd for SendSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads a `sock_extended_err`.
fn extended_error(data: &[u8]) -> Option<SendErrorKind> {
    let &[e0, e1, e2, e3, origin, kind, code, _, i0, i1, i2, i3] = data.first_chunk::<12>()?;
    let (errno, info) = (i32::from_ne_bytes([e0, e1, e2, e3]), u32::from_ne_bytes([i0, i1, i2, i3]));
    Some(match (origin, kind, code) {
        _ if errno == libc::EMSGSIZE => SendErrorKind::TooBig(info.min(65_535) as u16),
        // Destination unreachable: net, host, port (RFC 792); no route, address, port (RFC 4443 §3.1).
        (libc::SO_EE_ORIGIN_ICMP, 3, 0 | 1 | 3) | (libc::SO_EE_ORIGIN_ICMP6, 1, 0 | 3 | 4) => {
            SendErrorKind::Unreachable
        }
        _ => SendErrorKind::Other,
    })
}

/// What was received together: one datagram, or several from one sender that differ in nothing but their
/// payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where the payloads are in the buffer, one behind the other.
    pub offset: usize,
    /// Their length in all.
    pub len: usize,
    /// Length of each but the last, if the kernel joined several.
    pub segment: Option<u16>,
    /// Who sent them.
    pub remote: SocketAddr,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// TOS or traffic class.
    pub tos: u8,
}

/// A socket that receives data packets on the well-known port, and sends nothing.
#[derive(Debug)]
pub struct ReceiveSocket {
    socket: Socket,
    joined: bool,
}

impl ReceiveSocket {
    /// Binds to `port` on all addresses of a family. `shared`: other sockets of ours bind to it too, and
    /// flows are spread over them. `join`: ask the kernel to join datagrams (`UDP_GRO`), which may be
    /// refused: see [`Self::joins`].
    pub fn bind(
        family: Family,
        port: u16,
        shared: bool,
        join: bool,
        buffer: Option<u32>,
    ) -> io::Result<Self> {
        let socket = open(family, port, shared)?;
        let on = 1;
        match family {
            Family::Ipv4 => {
                set(&socket, libc::IPPROTO_IP, libc::IP_RECVTTL, on)?;
                set(&socket, libc::IPPROTO_IP, libc::IP_RECVTOS, on)?;
            }
            Family::Ipv6 => {
                set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, on)?;
                set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, on)?;
                // Zero checksums are legal here (RFC 6935); without this the kernel drops them.
                set(&socket, libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, on)?;
            }
        }
        if let Some(bytes) = buffer {
            force_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes)?;
        }
        let joined = join && set(&socket, libc::SOL_UDP, libc::UDP_GRO, on).is_ok();
        Ok(Self { socket, joined })
    }

    /// Whether the kernel joins datagrams.
    pub fn joins(&self) -> bool {
        self.joined
    }

    /// The local port.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.as_socket().map_or(0, |a| a.port()))
    }

    /// Takes what has been received, without waiting, into `bytes`, which is divided evenly among the slots
    /// of `batch`. [`io::ErrorKind::WouldBlock`] when there is nothing.
    pub fn receive(&self, batch: &mut ReceiveBatch, bytes: &mut [u8]) -> io::Result<()> {
        batch.received.clear();
        let room = bytes.len() / batch.slots.len().max(1);
        for ((slot, header), chunk) in
            batch.slots.iter_mut().zip(&mut batch.headers).zip(bytes.chunks_exact_mut(room.max(1)))
        {
            slot.part = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: room };
            header.msg_hdr.msg_name = slot.name.as_mut_ptr();
            header.msg_hdr.msg_namelen = RawAddress::MAX as _;
            header.msg_hdr.msg_iov = &raw mut slot.part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = slot.control.as_mut_ptr();
            header.msg_hdr.msg_controllen = ControlBuffer::LEN as _;
        }
        // SAFETY: every header points to its slot's name, control buffer and iovec, and that to its own part
        // of `bytes`; all live beyond this call and have the lengths given. There are as many headers as
        // said.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                batch.headers.as_mut_ptr(),
                batch.headers.len() as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (i, (slot, header)) in batch.slots.iter().zip(&batch.headers).take(count).enumerate() {
            let Some(remote) = slot.name.get() else { continue };
            let mut received = Received {
                offset: i * room,
                len: header.msg_len as usize,
                segment: None,
                remote,
                ttl: None,
                tos: 0,
            };
            for (level, kind, data) in slot.control.messages(header.msg_hdr.msg_controllen as _) {
                let Some(value) = int(data) else { continue };
                match (level, kind) {
                    (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                        received.ttl = u8::try_from(value).ok();
                    }
                    (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                        received.tos = value as u8;
                    }
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        received.segment = u16::try_from(value).ok().filter(|&s| s > 0);
                    }
                    _ => {}
                }
            }
            batch.received.push(received);
        }
        Ok(())
    }
}

impl AsFd for ReceiveSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Memory for what one system call receives, beside the payloads. Stays on the thread that made it.
pub struct ReceiveBatch {
    slots: Vec<Slot>,
    headers: Vec<libc::mmsghdr>,
    received: Vec<Received>,
}

struct Slot {
    name: RawAddress,
    control: ControlBuffer,
    part: libc::iovec,
}

impl ReceiveBatch {
    /// Bytes of memory that it takes for each slot, beside those that are received into.
    pub const SLOT: usize = size_of::<Slot>() + size_of::<libc::mmsghdr>() + size_of::<Received>();

    /// For up to `slots` datagrams, or groups of joined ones, at once.
    pub fn new(slots: usize) -> Self {
        let slot = || Slot {
            name: RawAddress::empty(),
            control: ControlBuffer::new(),
            part: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
        };
        Self {
            slots: (0..slots.max(1)).map(|_| slot()).collect(),
            // SAFETY: an mmsghdr may be all zero.
            headers: vec![unsafe { std::mem::zeroed() }; slots.max(1)],
            received: Vec::with_capacity(slots),
        }
    }

    /// What the last call received.
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    /// Whether the last call filled every slot, so that there may be more.
    pub fn is_full(&self) -> bool {
        self.received.len() == self.slots.len()
    }
}

fn open(family: Family, port: u16, shared: bool) -> io::Result<Socket> {
    let (domain, any): (_, IpAddr) = match family {
        Family::Ipv4 => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        Family::Ipv6 => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if family == Family::Ipv6 {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SocketAddr::new(any, port).into())?;
    Ok(socket)
}

fn set(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the option's value is a valid int for the length of the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets a buffer size beyond the system's limit where we may, up to it otherwise.
fn force_buffer(socket: &Socket, force: i32, ordinary: i32, bytes: u32) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    set(socket, libc::SOL_SOCKET, force, bytes).or_else(|_| set(socket, libc::SOL_SOCKET, ordinary, bytes))
}

/// What is sent to our source ports is nothing we asked for: the kernel drops it, rather than queueing it for
/// nobody.
pub(super) fn drop_all_input(socket: &Socket) -> io::Result<()> {
    let mut program = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: a valid filter program of the length given, which the kernel copies.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &ReceiveSocket, batch: &mut ReceiveBatch, bytes: &mut [u8]) {
        for _ in 0..200 {
            match socket.receive(batch, bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                other => return other.unwrap(),
            }
        }
        panic!("nothing was received");
    }

    fn to(remote: &str, port: u16, ttl: u8, tos: u8) -> SendTo {
        let remote: IpAddr = remote.parse().unwrap();
        SendTo { remote, port, source: remote, ttl, tos }
    }

    #[test]
    fn ttl_tos_and_payload_arrive_in_both_families_with_and_without_checksum() {
        for (family, address) in [(Family::Ipv4, "127.0.0.1"), (Family::Ipv6, "::1")] {
            for zero in [false, true] {
                let receiver = ReceiveSocket::bind(family, 0, false, false, Some(1 << 20)).unwrap();
                let sender = SendSocket::open(family, zero, Some(1 << 20)).unwrap();
                let mut batch = ReceiveBatch::new(4);
                let mut bytes = vec![0; 4 * 2048];
                let parts = [IoSlice::new(b"hea"), IoSlice::new(b"der"), IoSlice::new(b"body")];
                let port = receiver.port().unwrap();
                // ECN bits are the ones that a kernel likes to keep for itself.
                for (ttl, tos) in [(17, 0xb9), (1, 0x03), (255, 0)] {
                    sender.send(&to(address, port, ttl, tos), None, &parts).unwrap();
                    receive(&receiver, &mut batch, &mut bytes);
                    let [got] = batch.received() else { panic!("{:?}", batch.received()) };
                    assert_eq!(bytes[got.offset..got.offset + got.len], *b"headerbody");
                    assert_eq!((got.ttl, got.tos, got.segment), (Some(ttl), tos, None));
                    assert_eq!(
                        got.remote.to_string(),
                        SocketAddr::new(address.parse().unwrap(), sender.port().unwrap()).to_string()
                    );
                }
            }
        }
    }

    #[test]
    fn a_segmented_send_arrives_as_its_datagrams_or_joined() {
        for (family, address) in [(Family::Ipv4, "127.0.0.1"), (Family::Ipv6, "::1")] {
            for join in [false, true] {
                let receiver = ReceiveSocket::bind(family, 0, false, join, None).unwrap();
                let sender = SendSocket::open(family, false, None).unwrap();
                assert!(sender.supports_segmentation() && receiver.joins() == join);
                let payload: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
                let port = receiver.port().unwrap();
                sender.send(&to(address, port, 9, 2), Some(300), &[IoSlice::new(&payload)]).unwrap();
                let (mut batch, mut bytes) = (ReceiveBatch::new(8), vec![0; 8 * 65_536]);
                let mut got: Vec<u8> = Vec::new();
                while got.len() < 1000 {
                    receive(&receiver, &mut batch, &mut bytes);
                    for r in batch.received() {
                        assert_eq!((r.ttl, r.tos), (Some(9), 2));
                        assert_eq!(r.segment, join.then_some(300));
                        got.extend(&bytes[r.offset..r.offset + r.len]);
                    }
                }
                assert_eq!(got, payload);
            }
        }
    }

    #[test]
    fn a_closed_port_is_told_as_unreachable() {
        for (family, address) in [(Family::Ipv4, "127.0.0.1"), (Family::Ipv6, "::1")] {
            let closed = ReceiveSocket::bind(family, 0, false, false, None).unwrap().port().unwrap();
            let sender = SendSocket::open(family, false, None).unwrap();
            assert_eq!(sender.next_error().unwrap(), None);
            sender.send(&to(address, closed, 64, 0), None, &[IoSlice::new(b"x")]).unwrap();
            let remote = address.parse().unwrap();
            assert_eq!(
                sender.next_error().unwrap(),
                Some(SendError { remote, kind: SendErrorKind::Unreachable })
            );
        }
    }

    #[test]
    fn a_datagram_beyond_the_mtu_is_refused_and_the_mtu_told() {
        let sender = SendSocket::open(Family::Ipv4, false, None).unwrap();
        let big = vec![0; 65_507 + 29];
        let error = sender.send(&to("127.0.0.1", 9, 64, 0), None, &[IoSlice::new(&big)]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(
            extended_error(&[90, 0, 0, 0, 2, 3, 4, 0, 0x78, 5, 0, 0, 0, 0, 0, 0]),
            Some(SendErrorKind::TooBig(1400))
        );
    }

    #[test]
    fn a_taken_port_is_an_error_unless_shared() {
        let first = ReceiveSocket::bind(Family::Ipv4, 0, false, false, None).unwrap();
        let port = first.port().unwrap();
        let error = ReceiveSocket::bind(Family::Ipv4, port, false, false, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let first = ReceiveSocket::bind(Family::Ipv4, 0, true, false, None).unwrap();
        ReceiveSocket::bind(Family::Ipv4, first.port().unwrap(), true, false, None).unwrap();
    }
}

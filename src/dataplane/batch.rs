//! What a batch is made of: the memory that packets live in, and the lists of what leaves.

use std::net::{IpAddr, Ipv4Addr};

use super::vnet::VnetHeader;
use crate::fib::Way;

/// A stretch of an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte.
    pub offset: u32,
    /// How many.
    pub len: u32,
}

impl Piece {
    pub(super) fn new(offset: usize, len: usize) -> Self {
        // An arena is far smaller than 4 GiB: see `Arena::new`.
        Self { offset: offset as u32, len: len as u32 }
    }
}

/// The memory of one thread's batch: first a scratch region for headers that are made, then the packets as
/// they were read, one behind the other, each with room for a header before it. Its size is fixed when it is
/// made.
#[derive(Debug)]
pub struct Arena {
    bytes: Box<[u8]>,
    scratch_len: usize,
    scratch_used: usize,
    used: usize,
    pending: usize,
}

impl Arena {
    /// Room before each packet, for the LISP header or what precedes a packet on the TUN.
    pub const HEADROOM: usize = 16;
    /// The longest packet.
    pub const MAX_PACKET: usize = 65_535;
    /// Scratch memory that is always enough for the headers of one super-packet.
    pub const SCRATCH: usize = 384 * 1024;

    /// An arena with `packets` bytes for packets, at least one of the longest, at most 1 GiB.
    pub fn new(packets: usize) -> Self {
        let packets = packets.clamp(Self::HEADROOM * 2 + Self::MAX_PACKET, 1 << 30);
        let mut arena = Self {
            bytes: vec![0; Self::SCRATCH + packets].into_boxed_slice(),
            scratch_len: Self::SCRATCH,
            scratch_used: 0,
            used: 0,
            pending: 0,
        };
        arena.clear();
        arena
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.scratch_used = 0;
        self.used = self.scratch_len;
    }

    /// Forgets what is in the scratch region; the packets stay.
    pub fn clear_scratch(&mut self) {
        self.scratch_used = 0;
    }

    /// Where the next packet is to be read to, preceded by `before` bytes (at most [`Self::HEADROOM`]) of
    /// another header; `None` when there is no more room for the longest packet. Then call [`Self::commit`].
    pub fn slot(&mut self, before: usize) -> Option<&mut [u8]> {
        let packet = self.used.next_multiple_of(16) + Self::HEADROOM;
        self.pending = packet;
        self.bytes.get_mut(packet.checked_sub(before)?..packet + Self::MAX_PACKET)
    }

    /// The packet read into the last [`Self::slot`] is `len` bytes long, without what precedes it.
    pub fn commit(&mut self, len: usize) -> Piece {
        self.used = (self.pending + len).min(self.bytes.len());
        Piece::new(self.pending, len)
    }

    /// The bytes of a piece; none if it lies outside.
    #[inline]
    pub fn get(&self, piece: Piece) -> &[u8] {
        let start = piece.offset as usize;
        self.bytes.get(start..start + piece.len as usize).unwrap_or_default()
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, piece: Piece) -> &mut [u8] {
        let start = piece.offset as usize;
        self.bytes.get_mut(start..start + piece.len as usize).unwrap_or_default()
    }

    /// Writes a header in front of a piece, and gives the piece with it; `None` if there is no room.
    #[inline]
    pub(super) fn prepend<const N: usize>(&mut self, header: [u8; N], piece: Piece) -> Option<Piece> {
        let offset = piece.offset.checked_sub(N as u32)?;
        *self.bytes.get_mut(offset as usize..)?.first_chunk_mut()? = header;
        Some(Piece { offset, len: piece.len + N as u32 })
    }

    /// `len` bytes of scratch memory, and what `piece` holds beside it; `None` when there is no more.
    #[inline]
    pub(super) fn scratch(&mut self, len: usize, piece: Piece) -> Option<(Piece, &mut [u8], &[u8])> {
        let start = self.scratch_used;
        let end = start + len;
        if end > self.scratch_len {
            return None;
        }
        let (made, rest) = self.bytes.split_at_mut_checked(start)?;
        let (room, rest) = rest.split_at_mut_checked(len)?;
        let at = piece.offset as usize;
        let (region, at) = if at < start { (&*made, at) } else { (&*rest, at.checked_sub(end)?) };
        let packet = region.get(at..at + piece.len as usize)?;
        // Headers begin at multiples of 4, as vector loads and stores like it.
        self.scratch_used = end.next_multiple_of(4);
        Some((Piece::new(start, len), room, packet))
    }

    /// How much scratch memory is left.
    pub(super) fn scratch_left(&self) -> usize {
        self.scratch_len.saturating_sub(self.scratch_used)
    }

    /// All bytes: the ETR receives into these in slots of its own making.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// A packet read from a TUN.
#[derive(Clone, Copy, Debug)]
pub struct TunPacket {
    /// Where it is, without what preceded it on the TUN.
    pub piece: Piece,
    /// What preceded it; the default in plain mode.
    pub vnet: VnetHeader,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    piece: Piece,
    next: u32,
}

const END: u32 = u32::MAX;

/// Pieces in order: the first one, and the others in one list that serves a whole batch.
#[derive(Clone, Copy, Debug)]
struct Chain {
    head: Piece,
    next: u32,
    last: u32,
}

impl Chain {
    #[inline]
    fn of(head: Piece) -> Self {
        Self { head, next: END, last: END }
    }

    #[inline]
    fn push(&mut self, links: &mut Vec<Link>, piece: Piece) {
        let at = links.len() as u32;
        links.push(Link { piece, next: END });
        match links.get_mut(self.last as usize) {
            Some(last) => last.next = at,
            None => self.next = at,
        }
        self.last = at;
    }

    fn iter(self, links: &[Link]) -> impl Iterator<Item = Piece> {
        let mut next = self.next;
        let others = std::iter::from_fn(move || {
            let link = links.get(next as usize)?;
            next = link.next;
            Some(link.piece)
        });
        std::iter::once(self.head).chain(others)
    }
}

/// One or more data packets that one system call can send: same addresses, port, TTL and TOS, and all of the
/// same length but the last, which may be shorter.
#[derive(Clone, Debug)]
pub struct SendGroup {
    /// Outer destination.
    pub remote: IpAddr,
    /// Outer source.
    pub source: IpAddr,
    /// Which of the pool's sockets.
    pub port: u16,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// Outer TOS or traffic class.
    pub tos: u8,
    /// UDP payload bytes of each packet but the last.
    pub segment: u16,
    /// How many packets.
    pub segments: u16,
    /// UDP payload bytes in all.
    pub bytes: u32,
    pieces: Chain,
    /// Tells ways apart for the length of a batch.
    way: usize,
    /// Most UDP payload bytes in all: a UDP length field of 16 bits, and for IPv4 a total length of as many
    /// (RFC 768, RFC 791). Zero once nothing can be added.
    limit: u32,
}

/// Where and how a data packet is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) way: &'a Way,
    pub(super) port: u16,
    pub(super) ttl: u8,
    pub(super) tos: u8,
}

impl SendGroup {
    /// None yet.
    const NONE: Self = Self {
        remote: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        port: 0,
        ttl: 0,
        tos: 0,
        segment: 0,
        segments: 0,
        bytes: 0,
        pieces: Chain { head: Piece { offset: 0, len: 0 }, next: END, last: END },
        way: 0,
        limit: 0,
    };

    #[inline]
    fn takes(&self, out: &Outgoing<'_>, len: u32, max_segments: u16) -> bool {
        self.way == std::ptr::from_ref(out.way) as usize
            && (self.ttl, self.tos) == (out.ttl, out.tos)
            && self.bytes + len <= self.limit
            && self.segments < max_segments
            && len <= u32::from(self.segment)
    }
}

/// An ICMP error to be sent to the site, as a message without IP header.
#[derive(Clone, Copy, Debug)]
pub struct IcmpReply {
    /// Who is told.
    pub destination: IpAddr,
    /// Who tells it; unspecified = the kernel's choice.
    pub source: IpAddr,
    /// The message.
    pub message: Piece,
}

/// What an ITR's batch sends.
#[derive(Debug)]
pub struct SendBatch {
    links: Vec<Link>,
    /// Those of this batch, and behind them what is left of earlier ones, to be written over: to push a group
    /// would be to make it elsewhere and copy it.
    groups: Vec<SendGroup>,
    /// How many there are in this batch.
    used: usize,
    /// The group of each port that the next packet may join.
    open: Vec<u32>,
    max_segments: u16,
    /// ICMP errors to the site.
    pub(super) icmp: Vec<IcmpReply>,
}

impl SendBatch {
    /// Most bytes of memory that its lists take, with an arena of 512 KiB for packets and up to 1,024 of
    /// these: a header of at least 28 bytes in [`Arena::SCRATCH`] for every packet that is made, two pieces
    /// each.
    pub const MAX_BYTES: usize = 2 << 20;

    /// For a pool of `ports` sockets, with up to `max_segments` packets per system call (1 = plain mode).
    pub fn new(ports: u16, max_segments: u16) -> Self {
        Self {
            links: Vec::new(),
            groups: Vec::new(),
            used: 0,
            open: vec![END; usize::from(ports.max(1))],
            max_segments: max_segments.max(1),
            icmp: Vec::new(),
        }
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.links.clear();
        self.used = 0;
        self.open.fill(END);
        self.icmp.clear();
    }

    /// Bytes of memory that its lists take.
    pub fn memory(&self) -> usize {
        self.links.capacity() * size_of::<Link>()
            + self.groups.capacity() * size_of::<SendGroup>()
            + self.icmp.capacity() * size_of::<IcmpReply>()
            + size_of_val(&*self.open)
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.used == 0 && self.icmp.is_empty()
    }

    /// What is to be sent, in order.
    pub fn groups(&self) -> &[SendGroup] {
        self.groups.get(..self.used).unwrap_or_default()
    }

    /// The pieces of a group, in order: one or two per packet.
    pub fn pieces(&self, group: &SendGroup) -> impl Iterator<Item = Piece> {
        group.pieces.iter(&self.links)
    }

    /// The ICMP errors to be sent.
    pub fn icmp(&self) -> &[IcmpReply] {
        &self.icmp
    }

    /// Adds a packet: joins it to the last group of its port if that takes it. Packets of one flow all go to
    /// one port and so stay in order; those of others may overtake them.
    #[inline(always)]
    pub(super) fn push(&mut self, out: Outgoing<'_>, head: Piece, body: Option<Piece>) {
        let len = head.len + body.map_or(0, |b| b.len);
        let mut none = END;
        let open = self.open.get_mut(usize::from(out.port)).unwrap_or(&mut none);
        if let Some(group) = self.groups.get_mut(*open as usize)
            && group.takes(&out, len, self.max_segments)
        {
            if len < u32::from(group.segment) {
                group.limit = 0;
            }
            group.segments += 1;
            group.bytes += len;
            group.pieces.push(&mut self.links, head);
            if let Some(body) = body {
                group.pieces.push(&mut self.links, body);
            }
            return;
        }
        let mut pieces = Chain::of(head);
        if let Some(body) = body {
            pieces.push(&mut self.links, body);
        }
        *open = self.used as u32;
        if self.used == self.groups.len() {
            self.groups.push(SendGroup::NONE);
        }
        let Some(group) = self.groups.get_mut(self.used) else { return };
        self.used += 1;
        group.remote = out.way.rloc;
        group.source = out.way.source;
        group.port = out.port;
        group.ttl = out.ttl;
        group.tos = out.tos;
        group.segment = len as u16;
        group.segments = 1;
        group.bytes = len;
        group.pieces = pieces;
        group.way = std::ptr::from_ref(out.way) as usize;
        group.limit = if out.way.rloc.is_ipv4() { 65_535 - 28 } else { 65_535 - 8 };
    }
}

/// A packet or super-packet to be written to a TUN.
#[derive(Clone, Debug)]
pub struct TunWrite {
    /// Which instance, by its place in the configuration.
    pub instance: u16,
    /// What precedes it on a TUN with offloads.
    pub vnet: VnetHeader,
    /// How many inner packets it is.
    pub packets: u16,
    /// Bytes of it, without what precedes it.
    pub bytes: u32,
    pieces: Chain,
}

/// What an ETR's batch writes.
#[derive(Debug, Default)]
pub struct TunBatch {
    links: Vec<Link>,
    writes: Vec<TunWrite>,
}

impl TunBatch {
    /// Most bytes of memory that its lists take, where what was received is at most 512 KiB, or 64 datagrams:
    /// every packet has a LISP and an IP header, 28 bytes at least.
    pub const MAX_BYTES: usize = 2 << 20;

    /// Bytes of memory that its lists take.
    pub fn memory(&self) -> usize {
        self.links.capacity() * size_of::<Link>() + self.writes.capacity() * size_of::<TunWrite>()
    }

    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.links.clear();
        self.writes.clear();
    }

    /// What is to be written, in order.
    pub fn writes(&self) -> &[TunWrite] {
        &self.writes
    }

    /// The pieces of a write, in order.
    pub fn pieces(&self, write: &TunWrite) -> impl Iterator<Item = Piece> {
        write.pieces.iter(&self.links)
    }

    /// Adds a packet of its own; gives its place.
    #[inline]
    pub(super) fn push(&mut self, instance: u16, packet: Piece) -> usize {
        let pieces = Chain::of(packet);
        self.writes.push(TunWrite {
            instance,
            vnet: VnetHeader::default(),
            packets: 1,
            bytes: packet.len,
            pieces,
        });
        self.writes.len() - 1
    }

    /// Adds the payload of one more packet to a write.
    #[inline]
    pub(super) fn append(&mut self, write: usize, payload: Piece) {
        if let Some(write) = self.writes.get_mut(write) {
            write.packets += 1;
            write.bytes += payload.len;
            write.pieces.push(&mut self.links, payload);
        }
    }

    /// Says what precedes a write on the TUN.
    pub(super) fn set_vnet(&mut self, write: usize, vnet: VnetHeader) {
        if let Some(write) = self.writes.get_mut(write) {
            write.vnet = vnet;
        }
    }
}

/// No address, of the family of `like`: the kernel chooses.
pub(super) fn unspecified(like: &IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_lie_one_behind_the_other_with_headroom() {
        let mut arena = Arena::new(200_000);
        let mut ends = Vec::new();
        while let Some(slot) = arena.slot(10) {
            assert_eq!(slot.len(), Arena::MAX_PACKET + 10);
            slot[..10].fill(1);
            slot[10..110].fill(2);
            let piece = arena.commit(100);
            assert_eq!(arena.get(piece), [2; 100]);
            assert_eq!(piece.offset % 16, 0);
            let whole = arena.prepend([3; 8], piece).unwrap();
            assert_eq!(arena.get(whole), [[3; 8].as_slice(), &[2; 100]].concat());
            ends.push(piece.offset);
        }
        assert!(ends.windows(2).all(|w| w[1] - w[0] == 128) && ends.len() > 900);
        arena.clear();
        arena.slot(0).unwrap();
        assert_eq!(arena.commit(1).offset, ends[0]);
    }

    #[test]
    fn groups_hold_what_one_segmented_send_can_carry() {
        let way = Way::new("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let other = Way::new("192.0.2.3".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let out = |port, ttl| Outgoing { way: &way, port, ttl, tos: 0 };
        let mut batch = SendBatch::new(2, 64);
        let mut offset = 0;
        let mut push = |batch: &mut SendBatch, out, len: usize| {
            batch.push(out, Piece::new(offset, 8), Some(Piece::new(offset + 8, len - 8)));
            offset += len;
        };
        push(&mut batch, out(0, 64), 100);
        push(&mut batch, out(1, 64), 100);
        push(&mut batch, out(0, 64), 100);
        push(&mut batch, out(0, 64), 90); // shorter: the last of its group
        push(&mut batch, out(0, 64), 90);
        push(&mut batch, out(0, 63), 90); // another TTL
        push(&mut batch, out(0, 63), 91); // longer
        push(&mut batch, Outgoing { way: &other, ..out(0, 63) }, 91);
        let shape: Vec<_> =
            batch.groups().iter().map(|g| (g.port, g.ttl, g.segment, g.segments, g.bytes)).collect();
        assert_eq!(
            shape,
            [
                (0, 64, 100, 3, 290),
                (1, 64, 100, 1, 100),
                (0, 64, 90, 1, 90),
                (0, 63, 90, 1, 90),
                (0, 63, 91, 1, 91),
                (0, 63, 91, 1, 91)
            ]
        );
        let pieces: Vec<_> = batch.pieces(&batch.groups()[0]).map(|p| p.offset).collect();
        assert_eq!(pieces, [0, 8, 200, 208, 300, 308]);

        batch.clear();
        (0..130).for_each(|_| push(&mut batch, out(0, 1), 50));
        assert_eq!(batch.groups().iter().map(|g| g.segments).collect::<Vec<_>>(), [64, 64, 2]);
        batch.clear();
        (0..60).for_each(|_| push(&mut batch, out(0, 1), 1472));
        assert_eq!(batch.groups().iter().map(|g| g.segments).collect::<Vec<_>>(), [44, 16]);
    }
}

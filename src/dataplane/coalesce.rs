//! Joining packets for the site into super-packets, which the kernel takes as one.
//!
//! Only neighbours of one flow that differ in nothing but what follows from their place in the stream are
//! joined, and only after their checksums have been found right: the kernel computes a super-packet's
//! checksums anew, and so would repair what was damaged on the way.

use super::alike::Mask;
use super::batch::{Piece, TunBatch};
use super::vnet::{Gso, VnetHeader};
use crate::wire::ip::{self, IPV4_HEADER, IPV6_HEADER, Inner, SumFn, protocol};
use crate::wire::udp;

/// How many flows may have a super-packet in the making.
const OPEN: usize = 16;
/// The longest super-packet, IP header included.
const MAX_LEN: usize = 65_535;
/// The most datagrams that the kernel takes as one.
const MAX_DATAGRAMS: u16 = 64;

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// What packets that are joined have in common: all headers but lengths, identification, sequence number, PSH
/// (which closes: the first packet has ACK alone) and checksums. In IPv4, that is version, length and TOS; DF,
/// TTL and protocol; addresses. In IPv6, version, traffic class and flow label; next header, hop limit and
/// addresses. Then ports; for TCP, acknowledgement and offset; window; urgent pointer.
const UDP_V4: Mask<24> = Mask::of(&[0..2, 6..10, 12..24]);
const TCP_V4: Mask<40> = Mask::of(&[0..2, 6..10, 12..24, 28..33, 34..36, 38..40]);
const UDP_V6: Mask<44> = Mask::of(&[0..4, 6..44]);
const TCP_V6: Mask<60> = Mask::of(&[0..4, 6..44, 48..53, 54..56, 58..60]);

/// Joins the packets of one batch.
#[derive(Debug)]
pub(super) struct Coalescer {
    open: Vec<Open>,
    /// Whether the kernel takes super-packets of UDP datagrams.
    udp: bool,
    sum: SumFn,
}

/// A packet that others may be joined to, or a super-packet in the making.
#[derive(Clone, Copy, Debug)]
struct Open {
    flow: u64,
    instance: u16,
    /// Its place in the batch, and that of its first packet in memory.
    write: usize,
    offset: usize,
    /// The sum of the pseudo header, but for the length.
    pseudo: u16,
    segment: Segment,
    /// Payload of each packet, of all, and how many there are.
    step: usize,
    payload: usize,
    count: u16,
    /// Whether the first packet's checksum was found right.
    verified: bool,
    /// The last packet pushed.
    push: bool,
    next_sequence: u32,
    last_id: u16,
    /// Whether all packets have the same identification; `None` while there is only one.
    same_id: Option<bool>,
}

/// What a packet that may be joined is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    v4: bool,
    udp: bool,
    /// IP and transport header.
    header_len: usize,
    sequence: u32,
    push: bool,
    dont_fragment: bool,
    id: u16,
}

impl Segment {
    /// `None` for a packet that stands alone: neither TCP with ACK alone nor UDP with a checksum, without
    /// payload, a fragment, with IP options or extension headers.
    fn of(inner: &Inner, packet: &[u8], udp: bool) -> Option<Self> {
        let v4 = inner.source.is_ipv4();
        let plain = if v4 { IPV4_HEADER } else { IPV6_HEADER };
        if inner.transport != plain || inner.fragment {
            return None;
        }
        let id = if v4 { u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]) } else { 0 };
        let transport = packet.get(plain..inner.len)?;
        let any = Self {
            v4,
            udp: false,
            header_len: plain,
            sequence: 0,
            push: false,
            dont_fragment: inner.dont_fragment,
            id,
        };
        match inner.protocol {
            protocol::TCP => {
                let h = transport.first_chunk::<20>()?;
                let own = usize::from(h[12] >> 4) * 4;
                let good = own >= 20 && own < transport.len() && h[12] & 0x0f == 0 && h[13] & !PSH == ACK;
                good.then_some(Self {
                    header_len: plain + own,
                    sequence: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
                    push: h[13] & PSH != 0,
                    ..any
                })
            }
            protocol::UDP if udp => {
                let h = transport.first_chunk::<8>()?;
                let len = usize::from(u16::from_be_bytes([h[4], h[5]]));
                let good = len == transport.len() && len > udp::HEADER && (h[6], h[7]) != (0, 0);
                good.then_some(Self { udp: true, header_len: plain + udp::HEADER, ..any })
            }
            _ => None,
        }
    }

    /// Whether two packets with headers of these lengths can be joined as far as their headers say.
    fn has_headers_alike(&self, a: &[u8], b: &[u8]) -> bool {
        let options = |fixed: usize| {
            self.header_len == fixed || a.get(fixed..self.header_len) == b.get(fixed..self.header_len)
        };
        match (self.udp, self.v4) {
            (true, true) => UDP_V4.same(a, b),
            (true, false) => UDP_V6.same(a, b),
            (false, true) => TCP_V4.same(a, b) && options(IPV4_HEADER + 20),
            (false, false) => TCP_V6.same(a, b) && options(IPV6_HEADER + 20),
        }
    }

    /// Where the transport header begins.
    fn transport(&self) -> usize {
        if self.v4 { IPV4_HEADER } else { IPV6_HEADER }
    }
}

impl Coalescer {
    pub(super) fn new(udp: bool, sum: SumFn) -> Self {
        Self { open: Vec::with_capacity(OPEN), udp, sum }
    }

    /// Adds the packet of `flow` at `offset` of `bytes`: to a super-packet where that can be, otherwise as a
    /// write of its own. Packets of one flow keep their order.
    pub(super) fn push(
        &mut self,
        instance: u16,
        flow: u64,
        inner: &Inner,
        offset: usize,
        bytes: &mut [u8],
        out: &mut TunBatch,
    ) {
        let packet = bytes.get(offset..offset + inner.len).unwrap_or_default();
        let segment = Segment::of(inner, packet, self.udp);
        let at = self.open.iter().position(|o| o.flow == flow && o.instance == instance);
        if let Some(i) = at {
            if let Some((segment, open)) = segment.zip(self.open.get_mut(i))
                && open.takes(&segment, packet, bytes, self.sum)
            {
                let len = packet.len() - segment.header_len;
                out.append(open.write, Piece::new(offset + segment.header_len, len));
                if open.joined(&segment, len) {
                    self.close(i, bytes, out);
                }
                return;
            }
            self.close(i, bytes, out);
        }
        let write = out.push(instance, Piece::new(offset, inner.len));
        if let Some(segment) = segment.filter(|s| !s.push) {
            if self.open.len() >= OPEN {
                self.close(0, bytes, out);
            }
            self.open.push(Open::new(flow, instance, write, offset, inner, segment));
        }
    }

    /// Completes all super-packets: at the end of a batch.
    pub(super) fn finish(&mut self, bytes: &mut [u8], out: &mut TunBatch) {
        for open in self.open.drain(..) {
            open.complete(bytes, out);
        }
    }

    #[inline(never)]
    fn close(&mut self, i: usize, bytes: &mut [u8], out: &mut TunBatch) {
        if i < self.open.len() {
            self.open.remove(i).complete(bytes, out);
        }
    }
}

impl Open {
    /// Of a packet at `offset`, which is the batch's write number `write`.
    #[inline(never)]
    fn new(flow: u64, instance: u16, write: usize, offset: usize, inner: &Inner, segment: Segment) -> Self {
        let payload = inner.len - segment.header_len;
        Self {
            flow,
            instance,
            write,
            offset,
            pseudo: inner.pseudo_sum(0),
            segment,
            step: payload,
            payload,
            count: 1,
            verified: false,
            push: false,
            next_sequence: segment.sequence.wrapping_add(payload as u32),
            last_id: segment.id,
            same_id: None,
        }
    }

    /// Whether `packet`, one of `bytes`, can be joined.
    fn takes(&mut self, segment: &Segment, packet: &[u8], bytes: &[u8], sum: SumFn) -> bool {
        let len = packet.len() - segment.header_len;
        let fits = segment.udp == self.segment.udp
            && segment.header_len == self.segment.header_len
            && len <= self.step
            && self.segment.header_len + self.payload + len <= MAX_LEN
            && (segment.udp && self.count < MAX_DATAGRAMS
                || !segment.udp && segment.sequence == self.next_sequence);
        if !fits || !self.id_continues(segment.id) {
            return false;
        }
        let Some(first) = bytes.get(self.offset..self.offset + self.segment.header_len + self.step) else {
            return false;
        };
        if !self.segment.has_headers_alike(first, packet) {
            return false;
        }
        self.verified = self.verified || self.is_valid(first, sum);
        self.verified && self.is_valid(packet, sum)
    }

    /// Whether the transport checksum of a packet with the first one's addresses is right.
    fn is_valid(&self, packet: &[u8], sum: SumFn) -> bool {
        let Some(transport) = packet.get(self.segment.transport()..) else { return false };
        ip::add(sum(transport), ip::add(self.pseudo, transport.len() as u16)) == 0xffff
    }

    /// Identifications count up, or stay the same where they mean nothing (DF: RFC 6864 §4.1). IPv6 has
    /// none.
    fn id_continues(&self, id: u16) -> bool {
        if !self.segment.v4 {
            return true;
        }
        let up = id == self.last_id.wrapping_add(1);
        let same = id == self.last_id && self.segment.dont_fragment;
        match self.same_id {
            None => up || same,
            Some(same_before) => {
                if same_before {
                    same
                } else {
                    up
                }
            }
        }
    }

    /// Takes note of a packet that was joined; whether it is the last one.
    fn joined(&mut self, segment: &Segment, len: usize) -> bool {
        self.payload += len;
        self.count += 1;
        self.push = segment.push;
        self.next_sequence = self.next_sequence.wrapping_add(len as u32);
        self.same_id = Some(segment.id == self.last_id);
        self.last_id = segment.id;
        len < self.step || segment.push
    }

    /// Makes the first packet's headers those of the super-packet.
    fn complete(&self, bytes: &mut [u8], out: &mut TunBatch) {
        if self.count < 2 {
            return;
        }
        let transport = self.segment.transport();
        let total = self.segment.header_len + self.payload;
        let Some(header) = bytes.get_mut(self.offset..self.offset + self.segment.header_len) else { return };
        let Some((network, own)) = header.split_at_mut_checked(transport) else { return };
        if self.segment.v4 {
            if let Some(field) = network.get_mut(2..4) {
                field.copy_from_slice(&(total as u16).to_be_bytes());
            }
            ip::write_ipv4_checksum(network);
        } else if let Some(field) = network.get_mut(4..6) {
            field.copy_from_slice(&((total - transport) as u16).to_be_bytes());
        }
        let pseudo = ip::add(self.pseudo, (total - transport) as u16).to_be_bytes();
        let csum_offset = if self.segment.udp {
            let Some(h) = own.first_chunk_mut::<8>() else { return };
            [h[4], h[5]] = ((total - transport) as u16).to_be_bytes();
            [h[6], h[7]] = pseudo;
            6
        } else {
            let Some(h) = own.first_chunk_mut::<20>() else { return };
            h[13] |= if self.push { PSH } else { 0 };
            [h[16], h[17]] = pseudo;
            16
        };
        let gso = match (self.segment.udp, self.segment.v4) {
            (true, _) => Gso::Udp,
            (false, true) => Gso::TcpV4,
            (false, false) => Gso::TcpV6,
        };
        out.set_vnet(
            self.write,
            VnetHeader {
                needs_csum: true,
                gso: Some(gso),
                ecn: false,
                hdr_len: self.segment.header_len as u16,
                gso_size: self.step as u16,
                csum_start: transport as u16,
                csum_offset,
            },
        );
    }
}

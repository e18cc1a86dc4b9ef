//! Joining packets for the site into super-packets, which the kernel takes as one.
//!
//! Only neighbours of one flow that differ in nothing but what follows from their place in the stream are
//! joined, and only after their checksums have been found right: the kernel computes a super-packet's
//! checksums anew, and so would repair what was damaged on the way.

use super::batch::{Piece, TunBatch};
use super::vnet::{Gso, VnetHeader};
use crate::wire::ip::{self, Inner, SumFn, protocol};
use crate::wire::udp;

/// How many flows may have a super-packet in the making.
const OPEN: usize = 16;
/// The longest super-packet, IP header included.
const MAX_LEN: usize = 65_535;
/// The most datagrams that the kernel takes as one.
const MAX_DATAGRAMS: u16 = 64;

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

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
    inner: Inner,
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
    udp: bool,
    header_len: usize,
    sequence: u32,
    push: bool,
    id: u16,
}

impl Segment {
    /// `None` for a packet that stands alone: neither TCP with ACK alone nor UDP with a checksum, without
    /// payload, a fragment, with IP options or extension headers.
    fn of(inner: &Inner, packet: &[u8], udp: bool) -> Option<Self> {
        let plain = if inner.source.is_ipv4() { 20 } else { 40 };
        if inner.transport != plain || inner.fragment {
            return None;
        }
        let id = if plain == 20 { u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]) } else { 0 };
        let transport = packet.get(plain..inner.len)?;
        match inner.protocol {
            protocol::TCP => {
                let h = transport.first_chunk::<20>()?;
                let own = usize::from(h[12] >> 4) * 4;
                let good = own >= 20 && own < transport.len() && h[12] & 0x0f == 0 && h[13] & !PSH == ACK;
                good.then_some(Self {
                    udp: false,
                    header_len: plain + own,
                    sequence: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
                    push: h[13] & PSH != 0,
                    id,
                })
            }
            protocol::UDP if udp => {
                let h = transport.first_chunk::<8>()?;
                let len = usize::from(u16::from_be_bytes([h[4], h[5]]));
                let good = len == transport.len() && len > udp::HEADER && (h[6], h[7]) != (0, 0);
                good.then_some(Self {
                    udp: true,
                    header_len: plain + udp::HEADER,
                    sequence: 0,
                    push: false,
                    id,
                })
            }
            _ => None,
        }
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
                && open.takes(&segment, inner, offset, bytes, self.sum)
            {
                let len = inner.len - segment.header_len;
                out.append(open.write, Piece::new(offset + segment.header_len, len));
                if open.joined(&segment, len) {
                    self.close(i, bytes, out);
                }
                return;
            }
            self.close(i, bytes, out);
        }
        let write = out.push(instance, Piece::new(offset, inner.len));
        let Some(segment) = segment.filter(|s| !s.push) else { return };
        if self.open.len() >= OPEN {
            self.close(0, bytes, out);
        }
        let payload = inner.len - segment.header_len;
        self.open.push(Open {
            flow,
            instance,
            write,
            offset,
            inner: *inner,
            segment,
            step: payload,
            payload,
            count: 1,
            verified: false,
            push: false,
            next_sequence: segment.sequence.wrapping_add(payload as u32),
            last_id: segment.id,
            same_id: None,
        });
    }

    /// Completes all super-packets: at the end of a batch.
    pub(super) fn finish(&mut self, bytes: &mut [u8], out: &mut TunBatch) {
        for open in self.open.drain(..) {
            open.complete(bytes, out);
        }
    }

    fn close(&mut self, i: usize, bytes: &mut [u8], out: &mut TunBatch) {
        if i < self.open.len() {
            self.open.remove(i).complete(bytes, out);
        }
    }
}

impl Open {
    /// Whether the packet at `offset` can be joined.
    fn takes(&mut self, segment: &Segment, inner: &Inner, offset: usize, bytes: &[u8], sum: SumFn) -> bool {
        let len = inner.len - segment.header_len;
        let fits = segment.udp == self.segment.udp
            && segment.header_len == self.segment.header_len
            && len <= self.step
            && self.segment.header_len + self.payload + len <= MAX_LEN
            && (segment.udp && self.count < MAX_DATAGRAMS
                || !segment.udp && segment.sequence == self.next_sequence);
        if !fits || !self.id_continues(segment.id) {
            return false;
        }
        let (Some(first), Some(packet)) =
            (bytes.get(self.offset..self.offset + self.inner.len), bytes.get(offset..offset + inner.len))
        else {
            return false;
        };
        if !same_headers(first, packet, segment) {
            return false;
        }
        self.verified = self.verified || is_valid(&self.inner, first, sum);
        self.verified && is_valid(inner, packet, sum)
    }

    /// Identifications count up, or stay the same where they mean nothing (DF: RFC 6864 §4.1). IPv6 has
    /// none.
    fn id_continues(&self, id: u16) -> bool {
        if self.inner.source.is_ipv6() {
            return true;
        }
        let up = id == self.last_id.wrapping_add(1);
        let same = id == self.last_id && self.inner.dont_fragment;
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
        let transport = self.inner.transport;
        let total = self.segment.header_len + self.payload;
        let Some(header) = bytes.get_mut(self.offset..self.offset + self.segment.header_len) else { return };
        let Some((network, own)) = header.split_at_mut_checked(transport) else { return };
        let v4 = self.inner.source.is_ipv4();
        if v4 {
            if let Some(field) = network.get_mut(2..4) {
                field.copy_from_slice(&(total as u16).to_be_bytes());
            }
            ip::write_ipv4_checksum(network);
        } else if let Some(field) = network.get_mut(4..6) {
            field.copy_from_slice(&((total - transport) as u16).to_be_bytes());
        }
        let pseudo = self.inner.pseudo_sum(total - transport).to_be_bytes();
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
        let gso = match (self.segment.udp, v4) {
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

/// Whether two packets of the same shape differ in nothing but lengths, identification, sequence number, PSH
/// and checksums.
fn same_headers(a: &[u8], b: &[u8], segment: &Segment) -> bool {
    let same = |range: std::ops::Range<usize>| a.get(range.clone()) == b.get(range);
    let network = match a.first() {
        // Version, TOS; DF, TTL, protocol; addresses.
        Some(0x45) => {
            if !(same(0..2) && same(6..10) && same(12..20)) {
                return false;
            }
            20
        }
        // Version, traffic class, flow label; next header, hop limit, addresses.
        Some(first) if first >> 4 == 6 => {
            if !(same(0..4) && same(6..40)) {
                return false;
            }
            40
        }
        _ => return false,
    };
    // Ports; for TCP acknowledgement, offset (PSH closes: the first packet has ACK alone), window, urgent,
    // options.
    same(network..network + 4)
        && (segment.udp
            || same(network + 8..network + 13)
                && same(network + 14..network + 16)
                && same(network + 18..segment.header_len))
}

/// Whether a packet's transport checksum is right.
fn is_valid(inner: &Inner, packet: &[u8], sum: SumFn) -> bool {
    let Some(transport) = packet.get(inner.transport..) else { return false };
    ip::add(sum(transport), inner.pseudo_sum(transport.len())) == 0xffff
}

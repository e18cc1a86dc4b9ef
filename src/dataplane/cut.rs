//! Cutting super-packets from the site into the packets that they stand for. The payload stays where it is:
//! each packet is a new header and a stretch of the super-packet.

use super::batch::{Arena, Piece, SendBatch};
use super::encap::Job;
use super::vnet::{Gso, VnetHeader};
use crate::wire::data;
use crate::wire::ip::{self, Inner, SumFn, protocol};
use crate::wire::udp;

/// The most packets that one super-packet may stand for: 64 KiB of the smallest segments that a TCP sends (48
/// bytes, Linux) are fewer.
const MAX_SEGMENTS: usize = 2048;
/// The longest headers of a super-packet: IPv6 with extension headers, and TCP with options.
const MAX_HEADERS: usize = 160;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Why a super-packet is not cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uncut {
    /// Its headers contradict what the TUN said of it.
    Malformed,
    /// More segments than [`MAX_SEGMENTS`].
    TooManySegments,
    /// Its packets exceed the path MTU.
    TooBig,
}

/// A super-packet, checked and ready to be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Bytes of headers, which every packet has.
    header_len: usize,
    /// Bytes of payload of every packet but the last.
    step: usize,
    /// Bytes of payload in all.
    payload: usize,
    udp: bool,
    /// UDP without checksum stays so.
    no_checksum: bool,
}

impl Cut {
    /// Checks a super-packet. TCP that may be fragmented is cut smaller where it would not fit `mtu`: its
    /// segments' lengths are nobody's business.
    pub(super) fn new(inner: &Inner, vnet: &VnetHeader, packet: &[u8], mtu: usize) -> Result<Self, Uncut> {
        let transport = packet.get(inner.transport..inner.len).ok_or(Uncut::Malformed)?;
        let (wanted, own_header) = match vnet.gso {
            Some(Gso::Udp) => (protocol::UDP, udp::HEADER),
            _ => (protocol::TCP, transport.get(12).map_or(0, |b| usize::from(b >> 4) * 4)),
        };
        let is_udp = wanted == protocol::UDP;
        let header_len = inner.transport + own_header;
        let right_family = match vnet.gso {
            Some(Gso::TcpV4) => inner.source.is_ipv4(),
            Some(Gso::TcpV6) => inner.source.is_ipv6(),
            _ => true,
        };
        let possible = inner.protocol == wanted
            && !inner.fragment
            && right_family
            && (is_udp || own_header >= 20)
            && own_header <= transport.len()
            && header_len <= MAX_HEADERS
            && vnet.gso_size > 0;
        if !possible {
            return Err(Uncut::Malformed);
        }
        let payload = inner.len - header_len;
        let mut step = usize::from(vnet.gso_size);
        if header_len + step.min(payload) > mtu {
            if inner.dont_fragment || is_udp {
                return Err(Uncut::TooBig);
            }
            step = mtu.checked_sub(header_len).filter(|&s| s > 0).ok_or(Uncut::TooBig)?;
        }
        if payload.div_ceil(step) > MAX_SEGMENTS {
            return Err(Uncut::TooManySegments);
        }
        let field = transport.get(6..8).is_some_and(|f| f == [0, 0]);
        Ok(Self { header_len, step, payload, udp: is_udp, no_checksum: is_udp && field && !vnet.needs_csum })
    }

    /// How many packets it is cut into.
    pub(super) fn count(&self) -> usize {
        self.payload.div_ceil(self.step).max(1)
    }

    /// Scratch memory for all headers.
    pub(super) fn scratch(&self) -> usize {
        self.count() * (data::HEADER + self.header_len).next_multiple_of(4)
    }

    /// Adds the packets to `out`. `arena` has [`Self::scratch`] bytes to spare.
    pub(super) fn push(&self, job: &Job<'_>, sum: SumFn, arena: &mut Arena, out: &mut SendBatch) {
        let Job { inner, piece, .. } = job;
        let Some(template) = Template::new(self, inner, arena.get(*piece)) else { return };
        let count = self.count();
        for i in 0..count {
            let start = self.header_len + i * self.step;
            let len = self.step.min(inner.len - start);
            let room = data::HEADER + self.header_len;
            let Some((head, bytes, packet)) = arena.scratch(room, *piece) else { return };
            let Some(payload) = packet.get(start..start + len) else { return };
            let Some((to, header)) = bytes.split_first_chunk_mut() else { return };
            *to = job.lisp;
            template.write(self, i, i + 1 == count, sum(payload), len, header);
            let body = (len > 0).then(|| Piece::new(piece.offset as usize + start, len));
            out.push(job.way, head, body);
        }
    }

    /// Writes the `i`th packet's headers into `header`; gives the range of the super-packet that follows
    /// them.
    pub(super) fn nth(
        &self,
        i: usize,
        inner: &Inner,
        packet: &[u8],
        sum: SumFn,
        header: &mut [u8],
    ) -> Option<std::ops::Range<usize>> {
        let start = self.header_len + i * self.step;
        let payload = start..(start + self.step).min(inner.len);
        let template = Template::new(self, inner, packet)?;
        let words = sum(packet.get(payload.clone())?);
        template.write(
            self,
            i,
            i + 1 == self.count(),
            words,
            payload.len(),
            header.get_mut(..self.header_len)?,
        );
        Some(payload)
    }

    /// Bytes of headers of each packet.
    pub(super) fn header_len(&self) -> usize {
        self.header_len
    }
}

/// The headers of a super-packet, and the sums of what all its packets' headers have in common.
struct Template {
    header: [u8; MAX_HEADERS],
    transport: usize,
    v4: bool,
    id: u16,
    sequence: u32,
    flags: u8,
    /// IPv4 header without length, identification and checksum.
    ip_sum: u16,
    /// Pseudo header without length, and transport header without sequence number, flags, UDP length and
    /// checksum.
    transport_sum: u16,
}

impl Template {
    fn new(cut: &Cut, inner: &Inner, packet: &[u8]) -> Option<Self> {
        let mut header = [0; MAX_HEADERS];
        header.get_mut(..cut.header_len)?.copy_from_slice(packet.get(..cut.header_len)?);
        let v4 = inner.source.is_ipv4();
        let mut blank = header;
        let blank = blank.get_mut(..cut.header_len)?;
        let mut id = 0;
        if v4 {
            id = u16::from_be_bytes([header[4], header[5]]);
            blank.get_mut(2..6)?.fill(0);
            blank.get_mut(10..12)?.fill(0);
        }
        let (mut sequence, mut flags) = (0, 0);
        let (network, transport) = blank.split_at_mut_checked(inner.transport)?;
        if cut.udp {
            transport.get_mut(4..8)?.fill(0);
        } else {
            let fixed = transport.first_chunk_mut::<20>()?;
            sequence = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
            flags = fixed[13];
            fixed[4..8].fill(0);
            fixed[13] = 0;
            fixed[16..18].fill(0);
        }
        Some(Self {
            header,
            transport: inner.transport,
            v4,
            id,
            sequence,
            flags,
            ip_sum: ip::sum(network),
            transport_sum: ip::add(ip::sum(transport), inner.pseudo_sum(0)),
        })
    }

    /// Writes the headers of the `i`th packet, whose payload has `len` bytes and the sum `payload`.
    #[inline]
    fn write(&self, cut: &Cut, i: usize, last: bool, payload: u16, len: usize, header: &mut [u8]) {
        let Some(template) = self.header.get(..header.len()) else { return };
        header.copy_from_slice(template);
        let transport_len = cut.header_len - self.transport + len;
        let Some((network, transport)) = header.split_at_mut_checked(self.transport) else { return };
        if self.v4 {
            let Some(h) = network.first_chunk_mut::<20>() else { return };
            let (total, id) = ((self.transport + transport_len) as u16, self.id.wrapping_add(i as u16));
            [h[2], h[3]] = total.to_be_bytes();
            [h[4], h[5]] = id.to_be_bytes();
            [h[10], h[11]] = (!ip::add(ip::add(self.ip_sum, total), id)).to_be_bytes();
        } else if let Some(h) = network.first_chunk_mut::<40>() {
            [h[4], h[5]] = ((self.transport - 40 + transport_len) as u16).to_be_bytes();
        }
        let mut words = u64::from(self.transport_sum) + u64::from(payload) + transport_len as u64;
        if cut.udp {
            let Some(h) = transport.first_chunk_mut::<8>() else { return };
            [h[4], h[5]] = (transport_len as u16).to_be_bytes();
            words += transport_len as u64;
            let checksum = if cut.no_checksum { 0 } else { udp::nonzero(!ip::fold(words)) };
            [h[6], h[7]] = checksum.to_be_bytes();
        } else {
            let Some(h) = transport.first_chunk_mut::<20>() else { return };
            let sequence = self.sequence.wrapping_add((i * cut.step) as u32);
            let mut flags = self.flags;
            if i > 0 {
                flags &= !CWR;
            }
            if !last {
                flags &= !(FIN | PSH);
            }
            h[4..8].copy_from_slice(&sequence.to_be_bytes());
            h[13] = flags;
            words += u64::from(sequence >> 16) + u64::from(sequence & 0xffff) + u64::from(flags);
            [h[16], h[17]] = (!ip::fold(words)).to_be_bytes();
        }
    }
}

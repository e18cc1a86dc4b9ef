//! Packets that don't fit as they are: super-packets of the kernel, and those that are longer than the path
//! takes.
//!
//! Owns: whether such a packet is cut, fragmented, or answered. How is [`cut`](crate::dataplane::cut)'s and
//! [`fragment`](crate::dataplane::fragment)'s.

use super::{Encapsulator, Full, complete_checksum};
use crate::dataplane::batch::{Arena, Outgoing, Piece, SendBatch, TunPacket};
use crate::dataplane::counters::{Count, DropReason};
use crate::dataplane::cut::{Cut, Uncut};
use crate::dataplane::fragment::Fragments;
use crate::dataplane::vnet::VnetHeader;
use crate::types::Instant;
use crate::wire::data;
use crate::wire::icmp::IcmpError;
use crate::wire::ip::{self, Inner};

/// What a packet gets around it.
pub(super) struct Wrapping<'a> {
    pub(super) lisp: [u8; data::HEADER],
    pub(super) way: Outgoing<'a>,
    /// Largest inner packet.
    pub(super) mtu: u16,
}

/// A packet on its way, its path chosen.
pub(in crate::dataplane) struct Job<'a> {
    pub(in crate::dataplane) inner: &'a Inner,
    pub(in crate::dataplane) piece: Piece,
    pub(in crate::dataplane) lisp: [u8; data::HEADER],
    pub(in crate::dataplane) way: Outgoing<'a>,
    /// Largest inner packet.
    pub(in crate::dataplane) mtu: u16,
}

impl Encapsulator {
    /// A super-packet, or a packet that is too long: cut, fragmented, or answered. Gives how many packets it
    /// became, and their bytes.
    #[inline(never)]
    pub(super) fn large(
        &mut self,
        now: Instant,
        wrapping: &Wrapping<'_>,
        packet: &TunPacket,
        arena: &mut Arena,
        out: &mut SendBatch,
    ) -> Result<(u32, u32), Full> {
        // It was possible to parse before.
        let inner = &Inner::parse(arena.get(packet.piece)).unwrap_or_default();
        let piece = Piece { len: inner.len as u32, ..packet.piece };
        let &Wrapping { lisp, way, mtu } = wrapping;
        let (job, vnet) = (Job { inner, piece, lisp, way, mtu }, &packet.vnet);
        if vnet.gso.is_some() {
            return self.super_packet(now, &job, vnet, arena, out);
        }
        if inner.dont_fragment {
            self.counters.dropped(DropReason::TooBig, 1);
            let error = IcmpError::TooBig { mtu };
            return self.answer(now, error, inner, piece, arena, out).map(|()| (0, 0));
        }
        let is_udp = inner.protocol == ip::protocol::UDP;
        if vnet.needs_csum && !complete_checksum(vnet, is_udp, arena.get_mut(piece), self.sum) {
            self.counters.dropped(DropReason::Malformed, 1);
            return Ok((0, 0));
        }
        self.fragment(&job, inner, piece, arena, out)
    }

    /// Cuts a packet that is too long and may be cut.
    #[cold]
    fn fragment(
        &self,
        job: &Job<'_>,
        inner: &Inner,
        packet: Piece,
        arena: &mut Arena,
        out: &mut SendBatch,
    ) -> Result<(u32, u32), Full> {
        let Some(mut fragments) = Fragments::new(inner, usize::from(job.mtu)) else {
            self.counters.dropped(DropReason::TooBig, 1);
            return Ok((0, 0));
        };
        let room = data::HEADER + inner.transport;
        if arena.scratch_left() < fragments.count * (room + 3) && !out.is_empty() {
            return Err(Full);
        }
        let (mut packets, mut total) = (0, 0);
        while let Some(fragment) = fragments.next() {
            let Some((start, head, bytes)) = arena.scratch(room, packet) else { break };
            let Some((lisp, head)) = head.split_first_chunk_mut() else { break };
            *lisp = job.lisp;
            let Some(len) = fragments.write_header(&fragment, bytes, head) else { break };
            let body = Piece::new(packet.offset as usize + fragment.data.start, fragment.data.len());
            out.push(job.way, Piece { len: (data::HEADER + len) as u32, ..start }, Some(body));
            packets += 1;
            total += (len + fragment.data.len()) as u32;
        }
        self.counters.count(Count::Fragmented, 1);
        Ok((packets, total))
    }

    /// Many packets in one: cut, or answered.
    fn super_packet(
        &mut self,
        now: Instant,
        job: &Job<'_>,
        vnet: &VnetHeader,
        arena: &mut Arena,
        out: &mut SendBatch,
    ) -> Result<(u32, u32), Full> {
        let inner = job.inner;
        let reason = match Cut::new(inner, vnet, arena.get(job.piece), usize::from(job.mtu)) {
            Ok(cut) if cut.scratch() <= arena.scratch_left() => {
                cut.push(job, self.sum, arena, out);
                let count = cut.count();
                return Ok((count as u32, (inner.len + (count - 1) * cut.header_len()) as u32));
            }
            Ok(_) if !out.is_empty() => return Err(Full),
            Ok(_) | Err(Uncut::TooManySegments) => DropReason::TooManySegments,
            Err(Uncut::Malformed) => DropReason::Malformed,
            Err(Uncut::TooBig) if inner.dont_fragment => {
                self.counters.dropped(DropReason::TooBig, 1);
                let error = IcmpError::TooBig { mtu: job.mtu };
                return self.answer(now, error, inner, job.piece, arena, out).map(|()| (0, 0));
            }
            Err(Uncut::TooBig) => return self.cut_and_fragment(job, vnet, arena, out),
        };
        self.counters.dropped(reason, 1);
        Ok((0, 0))
    }

    /// Datagrams of which each is too long and may be fragmented: copied out one by one, as rare as this is.
    #[cold]
    fn cut_and_fragment(
        &self,
        job: &Job<'_>,
        vnet: &VnetHeader,
        arena: &mut Arena,
        out: &mut SendBatch,
    ) -> Result<(u32, u32), Full> {
        let Ok(cut) = Cut::new(job.inner, vnet, arena.get(job.piece), usize::MAX) else {
            self.counters.dropped(DropReason::Malformed, 1);
            return Ok((0, 0));
        };
        // Their copies, and the fragments' headers beside them.
        if arena.scratch_left() < Arena::SCRATCH && !out.is_empty() {
            return Err(Full);
        }
        let (mut packets, mut total) = (0, 0);
        for i in 0..cut.count() {
            let longest = cut.header_len() + usize::from(vnet.gso_size);
            let Some((copy, room, packet)) = arena.scratch(longest, job.piece) else { break };
            let Some(payload) = cut.nth(i, job.inner, packet, self.sum, room) else { break };
            let len = cut.header_len() + payload.len();
            let (Some(from), Some(to)) = (packet.get(payload), room.get_mut(cut.header_len()..len)) else {
                break;
            };
            to.copy_from_slice(from);
            let Ok(inner) = Inner::parse(room) else { break };
            let (n, bytes) = self.fragment(job, &inner, Piece { len: len as u32, ..copy }, arena, out)?;
            packets += n;
            total += bytes;
        }
        Ok((packets, total))
    }
}

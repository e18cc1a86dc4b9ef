//! From the site to the underlay.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::batch::{Arena, IcmpReply, Outgoing, Piece, SendBatch, TunPacket, unspecified};
use super::counters::{Count, Counters, DropReason};
use super::cut::{Cut, Uncut};
use super::fragment::Fragments;
use super::limiter::Limiter;
use super::vnet::VnetHeader;
use super::{DataPlaneConfig, ecn, flow_hash, header};
use crate::fib::{
    Entry, EntryAction, EntryPath, FibGuard, FibReader, HeaderOptions, InstanceFib, Miss, Punt, Stats, Worker,
};
use crate::types::{Action, Eid, InstanceId, Instant};
use crate::wire::data::{self, DataHeader};
use crate::wire::icmp::{self, IcmpError};
use crate::wire::ip::{self, Inner, SumFn};
use crate::wire::udp;

/// The batch has no more room for this packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What all packets of one TUN have in common for the length of a batch.
#[derive(Debug)]
pub struct Turn<'a> {
    iid: InstanceId,
    /// Its table; `None` while it is empty.
    fib: Option<&'a InstanceFib>,
    /// For the punts.
    reader: &'a FibReader,
    now: Instant,
    /// The LISP header of every packet …
    lisp: [u8; data::HEADER],
    /// … unless it says more than the instance.
    options: Option<&'a HeaderOptions>,
}

impl<'a> Turn<'a> {
    /// For packets of `iid` at `now`.
    pub fn new(iid: InstanceId, fib: &'a FibGuard<'_>, reader: &'a FibReader, now: Instant) -> Self {
        let lisp = DataHeader::of_instance(iid).to_bytes();
        Self { iid, fib: fib.instance(iid), reader, now, lisp, options: fib.header_options() }
    }
}

/// How many packets go through each step together.
const AT_ONCE: usize = 16;

/// What is known of a packet so far.
struct Seen<'a> {
    inner: Inner,
    flow: u64,
    route: Route<'a>,
    /// What became of it.
    packets: u64,
    bytes: u64,
}

/// Where a packet goes.
enum Route<'a> {
    /// Not looked up yet.
    Unknown,
    /// Looked up.
    Entry(&'a Entry),
    /// This way, and the entry's counters.
    Path(&'a EntryPath, &'a Stats),
    /// Nowhere, until the control plane has been asked.
    Miss,
    /// Nowhere, as the mapping says; its entry's counters.
    Refused(DropReason, &'a Stats),
    /// Nowhere.
    Drop(DropReason),
}

impl<'a> Seen<'a> {
    #[inline]
    fn new(turn: &Turn<'a>, packet: &[u8]) -> Self {
        let (inner, route) = match Inner::parse(packet) {
            Err(_) => (Inner::default(), Route::Drop(DropReason::Malformed)),
            Ok(inner) => {
                let route = if !ip::is_forwardable(&inner.destination) {
                    Route::Drop(DropReason::NotUnicast)
                } else if !turn
                    .fib
                    .is_some_and(|fib| fib.is_local(&inner.source) || fib.proxies_to(&inner.destination))
                {
                    Route::Drop(DropReason::SourceNotLocal)
                } else {
                    Route::Unknown
                };
                (inner, route)
            }
        };
        Self { flow: flow_hash(&inner, packet), inner, route, packets: 0, bytes: 0 }
    }

    #[inline]
    fn look_up(&mut self, turn: &Turn<'a>) {
        if let Route::Unknown = self.route {
            let entry = turn.fib.and_then(|fib| fib.lookup(&self.inner.destination));
            self.route = entry.map_or(Route::Miss, Route::Entry);
        }
    }

    #[inline]
    fn choose(&mut self, turn: &Turn<'a>) {
        let Route::Entry(entry) = self.route else { return };
        self.route = match &entry.action {
            EntryAction::Forward(choice) => match choice.path(self.flow) {
                Some(path) => Route::Path(path, &entry.stats),
                None => Route::Drop(DropReason::NoPath),
            },
            // It has moved, and where to is forgotten.
            EntryAction::Local if turn.fib.is_some_and(|fib| fib.is_away(&self.inner.destination)) => {
                Route::Miss
            }
            EntryAction::Local => Route::Drop(DropReason::DestinationLocal),
            EntryAction::Negative(action) => match action {
                Action::SendMapRequest => Route::Miss,
                Action::NoAction => Route::Refused(DropReason::NegativeNoAction, &entry.stats),
                Action::NativelyForward => Route::Refused(DropReason::NegativeNativelyForward, &entry.stats),
                Action::Drop | Action::Unassigned(_) => {
                    Route::Refused(DropReason::NegativeDrop, &entry.stats)
                }
                Action::DropPolicyDenied => Route::Refused(DropReason::NegativePolicyDenied, &entry.stats),
                Action::DropAuthFailure => Route::Refused(DropReason::NegativeAuthFailure, &entry.stats),
            },
        };
    }
}

/// One thread's encapsulation.
#[derive(Debug)]
pub struct Encapsulator {
    path_mtu: u16,
    source_ports: u64,
    worker: Worker,
    sum: SumFn,
    icmp_source: (IpAddr, IpAddr),
    icmp_limit: Limiter,
    /// Of punts of misses: for all sources, and for those with the same hash, so that one that tries many destinations
    /// leaves others a chance.
    punt_limit: Limiter,
    punt_limits: Box<[Limiter]>,
    counters: Arc<Counters>,
}

/// Sources of packets whose punts are limited apart.
const PUNT_SOURCES: u64 = 64;

impl Encapsulator {
    /// For the thread `worker`, which counts in `counters`; `sum` is the fastest checksum that there is.
    pub fn new(config: &DataPlaneConfig, worker: Worker, sum: SumFn, counters: Arc<Counters>) -> Self {
        let any = (unspecified(&[0; 4].into()), unspecified(&[0; 16].into()));
        Self {
            path_mtu: config.path_mtu.max(576),
            source_ports: u64::from(config.source_ports.max(1)),
            worker,
            sum,
            icmp_source: (
                config.icmp_source_v4.map_or(any.0, IpAddr::V4),
                config.icmp_source_v6.map_or(any.1, IpAddr::V6),
            ),
            icmp_limit: Limiter::new(config.icmp_rate),
            punt_limit: Limiter::new(config.punt_rate),
            punt_limits: (0..PUNT_SOURCES).map(|_| Limiter::new((config.punt_rate / 4).max(1))).collect(),
            counters,
        }
    }

    /// Takes packets from the site and adds what comes of them to `out`: data packets, ICMP errors, or nothing and a
    /// count. `punt` hands a punt to the control plane, and says whether it could. Gives how many were taken: fewer than
    /// there are where the batch had no more room. Then send it, clear it, and go on with the rest.
    pub fn encapsulate(
        &mut self,
        turn: &Turn<'_>,
        packets: &[TunPacket],
        arena: &mut Arena,
        out: &mut SendBatch,
        mut punt: impl FnMut(Punt) -> bool,
    ) -> usize {
        let mut taken = 0;
        let (mut total_packets, mut total_bytes) = (0, 0);
        for chunk in packets.chunks(AT_ONCE) {
            // Step by step for several packets, not packet by packet: what one step of them waits for in memory, the
            // processor fetches for all at once.
            let mut seen: SmallVec<[Seen<'_>; AT_ONCE]> = SmallVec::new();
            for packet in chunk {
                seen.push(Seen::new(turn, arena.get(packet.piece)));
            }
            for packet in &mut seen {
                packet.look_up(turn);
            }
            for packet in &mut seen {
                packet.choose(turn);
            }
            for (packet, seen) in chunk.iter().zip(&mut seen) {
                match self.emit(turn, packet, seen, arena, out, &mut punt) {
                    Ok((packets, bytes)) => (seen.packets, seen.bytes) = (packets, bytes),
                    Err(Full) => break,
                }
                taken += 1;
            }
            for Seen { route, packets, bytes, .. } in &seen {
                if let Route::Path(path, stats) = route
                    && *packets > 0
                {
                    path.stats.record_as(self.worker, *packets, *bytes, turn.now);
                    stats.record_as(self.worker, *packets, *bytes, turn.now);
                    total_packets += packets;
                    total_bytes += bytes;
                }
            }
            if taken % AT_ONCE != 0 {
                break;
            }
        }
        self.counters.count(Count::EncapsulatedPackets, total_packets);
        self.counters.count(Count::EncapsulatedBytes, total_bytes);
        taken
    }

    /// Adds what comes of one packet to the batch; gives how many packets it became, and their bytes.
    #[inline]
    fn emit(
        &mut self,
        turn: &Turn<'_>,
        packet: &TunPacket,
        seen: &Seen<'_>,
        arena: &mut Arena,
        out: &mut SendBatch,
        mut punt: impl FnMut(Punt) -> bool,
    ) -> Result<(u64, u64), Full> {
        let inner = &seen.inner;
        let path = match &seen.route {
            Route::Path(path, _) => path,
            Route::Drop(reason) => {
                self.counters.dropped(*reason, 1);
                if *reason == DropReason::SourceNotLocal {
                    self.not_local(turn, inner, punt);
                }
                return Ok((0, 0));
            }
            Route::Refused(reason, stats) => {
                self.counters.dropped(*reason, 1);
                stats.record_as(self.worker, 1, inner.len as u64, turn.now);
                return Ok((0, 0));
            }
            Route::Miss => {
                self.counters.dropped(DropReason::NoMapping, 1);
                self.miss(turn, inner, punt);
                return Ok((0, 0));
            }
            Route::Unknown | Route::Entry(_) => return Ok((0, 0)),
        };
        // TTL 1 would die at the first router of the underlay, whose ICMP error the source would never see.
        if inner.ttl <= 1 {
            self.counters.dropped(DropReason::TtlExpired, 1);
            let error = IcmpError::TimeExceeded;
            return self.answer(turn.now, error, inner, packet.piece, arena, out).map(|()| (0, 0));
        }
        let overhead = if path.way.rloc.is_ipv4() { data::OVERHEAD_V4 } else { data::OVERHEAD_V6 };
        let lisp = match (turn.options, turn.fib) {
            (Some(options), Some(fib)) => {
                let way = &path.way;
                let mut counted = |p| self.punt(p, &mut punt);
                header::outgoing(options, fib, turn.iid, inner, way, turn.now, &mut counted)
            }
            _ => turn.lisp,
        };
        let job = Job {
            inner,
            piece: Piece { len: inner.len as u32, ..packet.piece },
            lisp,
            way: Outgoing {
                way: &path.way,
                // The upper half of the product is below the factor: a modulo without division.
                port: (((seen.flow & 0xffff_ffff) * self.source_ports) >> 32) as u16,
                ttl: inner.ttl,
                tos: inner.tos & !ecn::MASK | ecn::encapsulate(inner.tos),
            },
            mtu: path.way.mtu().unwrap_or(self.path_mtu).saturating_sub(overhead),
        };
        match packet.vnet.gso {
            Some(_) => self.super_packet(turn.now, &job, &packet.vnet, arena, out),
            None => self.single(turn.now, &job, &packet.vnet, arena, out),
        }
    }

    #[cold]
    fn miss(&mut self, turn: &Turn<'_>, inner: &Inner, mut punt: impl FnMut(Punt) -> bool) {
        let destination = Eid::new(turn.iid, inner.destination);
        let bits = match inner.source {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ v6.to_bits() as u64,
        };
        // The upper bits of the product depend on all bits of the address.
        let hash = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let Some(of_source) = self.punt_limits.get_mut((hash % PUNT_SOURCES) as usize) else { return };
        // Credit is used up by punts alone, not by packets whose destination is pending.
        if !of_source.would_allow(turn.now) || !self.punt_limit.would_allow(turn.now) {
            self.counters.count(Count::PuntsLimited, 1);
            return;
        }
        match turn.reader.miss(destination, turn.now) {
            Miss::Pending => {}
            Miss::Full => self.counters.count(Count::PuntsLost, 1),
            Miss::Punt => {
                of_source.allow(turn.now);
                self.punt_limit.allow(turn.now);
                if !self.punt(Punt::Miss { source: inner.source, destination }, &mut punt) {
                    turn.reader.unpend(&destination);
                }
            }
        }
    }

    /// A host that is not known to be here sends a packet: perhaps it has just come.
    #[cold]
    fn not_local(&self, turn: &Turn<'_>, inner: &Inner, mut punt: impl FnMut(Punt) -> bool) {
        let source = Eid::new(turn.iid, inner.source);
        if turn.fib.is_some_and(|fib| fib.is_watched(&inner.source))
            && ip::is_forwardable(&inner.source)
            && turn.reader.is_new_source(source, turn.now)
        {
            self.punt(Punt::NewSource { source }, &mut punt);
        }
    }

    /// Hands a punt over and counts it; whether that could be.
    fn punt(&self, what: Punt, punt: &mut impl FnMut(Punt) -> bool) -> bool {
        let delivered = punt(what);
        self.counters.count(if delivered { Count::Punts } else { Count::PuntsLost }, 1);
        delivered
    }

    /// Tells the source of a packet why it was dropped.
    #[cold]
    fn answer(
        &mut self,
        now: Instant,
        error: IcmpError,
        inner: &Inner,
        packet: Piece,
        arena: &mut Arena,
        out: &mut SendBatch,
    ) -> Result<(), Full> {
        let Some((message, room, packet)) = arena.scratch(icmp::MAX_ERROR, packet) else {
            return if out.is_empty() { Ok(()) } else { Err(Full) };
        };
        let Some(len) = icmp::write_error(error, inner, packet, room) else { return Ok(()) };
        if !self.icmp_limit.allow(now) {
            self.counters.count(Count::IcmpNotSent, 1);
            return Ok(());
        }
        out.icmp.push(IcmpReply {
            destination: inner.source,
            source: if inner.source.is_ipv4() { self.icmp_source.0 } else { self.icmp_source.1 },
            message: Piece { len: len as u32, ..message },
        });
        Ok(())
    }

    /// An ordinary packet: sent as it is, fragmented, or answered. Gives how many packets it became, and their bytes.
    #[inline]
    fn single(
        &mut self,
        now: Instant,
        job: &Job<'_>,
        vnet: &VnetHeader,
        arena: &mut Arena,
        out: &mut SendBatch,
    ) -> Result<(u64, u64), Full> {
        let Job { inner, piece, .. } = job;
        if inner.len > usize::from(job.mtu) && inner.dont_fragment {
            self.counters.dropped(DropReason::TooBig, 1);
            let error = IcmpError::TooBig { mtu: job.mtu };
            return self.answer(now, error, inner, *piece, arena, out).map(|()| (0, 0));
        }
        if vnet.needs_csum && !complete_checksum(vnet, inner, arena.get_mut(*piece, 0), self.sum) {
            self.counters.dropped(DropReason::Malformed, 1);
            return Ok((0, 0));
        }
        if inner.len > usize::from(job.mtu) {
            return self.fragment(job, inner, *piece, arena, out);
        }
        let Some(start) = arena.get_mut(*piece, data::HEADER).first_chunk_mut() else { return Ok((0, 0)) };
        *start = job.lisp;
        let whole = Piece::new(piece.offset as usize - data::HEADER, inner.len + data::HEADER);
        out.push(job.way, whole, None);
        Ok((1, inner.len as u64))
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
    ) -> Result<(u64, u64), Full> {
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
            total += (len + fragment.data.len()) as u64;
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
    ) -> Result<(u64, u64), Full> {
        let inner = job.inner;
        let reason = match Cut::new(inner, vnet, arena.get(job.piece), usize::from(job.mtu)) {
            Ok(cut) if cut.scratch() <= arena.scratch_left() => {
                cut.push(job, self.sum, arena, out);
                let count = cut.count();
                return Ok((count as u64, (inner.len + (count - 1) * cut.header_len()) as u64));
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
    ) -> Result<(u64, u64), Full> {
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

/// A packet on its way, its path chosen.
pub(super) struct Job<'a> {
    pub(super) inner: &'a Inner,
    pub(super) piece: Piece,
    pub(super) lisp: [u8; data::HEADER],
    pub(super) way: Outgoing<'a>,
    /// Largest inner packet.
    pub(super) mtu: u16,
}

/// Writes the transport checksum that the sender left to us; `false` if the packet can't have one there.
fn complete_checksum(vnet: &VnetHeader, inner: &Inner, bytes: &mut [u8], sum: SumFn) -> bool {
    let start = usize::from(vnet.csum_start);
    let Some(segment) = bytes.get_mut(start..) else { return false };
    // The field holds the sum of the pseudo header, which so becomes part of this sum.
    let checksum = !sum(segment);
    let checksum = if inner.protocol == ip::protocol::UDP { udp::nonzero(checksum) } else { checksum };
    let at = usize::from(vnet.csum_offset);
    let Some(field) = segment.get_mut(at..at + 2) else { return false };
    field.copy_from_slice(&checksum.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::testing::{Router, forward, prefix, udp, with_tos};
    use super::*;
    use crate::fib::{Dynamic, FibAction, FibUpdate, Proxy};

    fn router() -> Router {
        let mut router = Router::new();
        router.set(0, "10.2.0.0/16", forward("203.0.113.1"));
        router.set(0, "10.3.0.0/16", forward("2001:db8:f::2"));
        router.set(0, "2001:db8:2::/48", forward("203.0.113.1"));
        router.set(7, "10.2.0.0/16", forward("203.0.113.7"));
        router
    }

    #[test]
    fn a_packet_gets_a_lisp_header_and_its_own_ttl_and_tos_outside() {
        let mut router = router();
        let packet = with_tos(udp("10.1.0.1", "10.2.0.1", 17, b"hello"), 0xb9);
        let (sent, _) = router.encap(0, &packet);
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].remote.as_str(), sent[0].ttl, sent[0].tos), ("203.0.113.1", 17, 0xb9));
        assert_eq!(sent[0].payload, [&[0; 8][..], &packet].concat());
        let (sent, _) = router.encap(7, &packet);
        assert_eq!(sent[0].remote, "203.0.113.7");
        assert_eq!(sent[0].payload, [&[8, 0, 0, 0, 0, 0, 7, 0][..], &packet].concat());
        let packet = with_tos(udp("2001:db8:1::1", "2001:db8:2::1", 3, b"six"), 0x2e);
        let (sent, _) = router.encap(0, &packet);
        assert_eq!((sent[0].ttl, sent[0].tos), (3, 0x2e));
        assert_eq!(sent[0].payload[8..], packet);
        assert_eq!(router.counters.totals().counted(Count::EncapsulatedPackets), 3);
        assert_eq!(router.dropped(), None);
    }

    #[test]
    fn bytes_behind_the_packet_are_not_sent() {
        let mut router = router();
        let packet = udp("10.1.0.1", "10.2.0.1", 17, b"hello");
        let (sent, _) = router.encap(0, &[&packet[..], &[9; 20]].concat());
        assert_eq!(sent[0].payload[8..], packet);
    }

    #[test]
    fn packets_that_must_not_leave_are_counted_by_reason() {
        let cases = [
            (udp("10.9.0.1", "10.2.0.1", 9, b""), DropReason::SourceNotLocal),
            (udp("2001:db8:9::1", "2001:db8:2::1", 9, b""), DropReason::SourceNotLocal),
            (udp("10.1.0.1", "10.1.0.2", 9, b""), DropReason::DestinationLocal),
            (udp("10.1.0.1", "239.0.0.1", 9, b""), DropReason::NotUnicast),
            (udp("fe80::1", "ff02::2", 9, b""), DropReason::NotUnicast),
            (udp("10.1.0.1", "10.2.0.1", 9, b"")[..27].to_vec(), DropReason::Malformed),
            (vec![0x50; 40], DropReason::Malformed),
            (vec![], DropReason::Malformed),
            (udp("10.1.0.1", "10.2.0.1", 1, b""), DropReason::TtlExpired),
            (udp("10.1.0.1", "10.4.0.1", 9, b""), DropReason::NoMapping),
        ];
        for (packet, reason) in cases {
            let mut router = router();
            assert_eq!(router.encap(0, &packet).0, [], "{reason}");
            assert_eq!(router.dropped(), Some((reason, 1)));
        }
        let negative = [
            (Action::NoAction, DropReason::NegativeNoAction),
            (Action::NativelyForward, DropReason::NegativeNativelyForward),
            (Action::SendMapRequest, DropReason::NoMapping),
            (Action::Drop, DropReason::NegativeDrop),
            (Action::DropPolicyDenied, DropReason::NegativePolicyDenied),
            (Action::DropAuthFailure, DropReason::NegativeAuthFailure),
            (Action::Unassigned(6), DropReason::NegativeDrop),
        ];
        for (action, reason) in negative {
            let mut router = router();
            router.set(0, "10.4.0.0/16", FibAction::Negative(action));
            assert_eq!(router.encap(0, &udp("10.1.0.1", "10.4.0.1", 9, b"")).0, []);
            assert_eq!(router.dropped(), Some((reason, 1)));
            assert_eq!(router.punts.len(), usize::from(action == Action::SendMapRequest));
        }
    }

    #[test]
    fn a_proxy_itr_takes_packets_of_any_source_to_its_prefixes_alone() {
        let mut router = router();
        for p in ["10.2.0.0/16", "10.5.0.0/16", "2001:db8:2::/48"] {
            let proxy = Proxy::Ingress;
            router.fib.apply(FibUpdate::Proxy { prefix: prefix(0, p), proxy, present: true });
        }
        router.fib.publish();
        for packet in [udp("192.0.2.9", "10.2.0.1", 9, b"4"), udp("2001:db8:9::1", "2001:db8:2::1", 9, b"6")]
        {
            let (sent, _) = router.encap(0, &packet);
            assert_eq!((sent[0].remote.as_str(), &sent[0].payload[8..]), ("203.0.113.1", &packet[..]));
            assert_eq!(router.encap(7, &packet).0, [], "in this instance alone");
        }
        assert_eq!(router.encap(0, &udp("192.0.2.9", "10.3.0.1", 9, b"")).0, [], "not one of its prefixes");
        assert_eq!(router.dropped(), Some((DropReason::SourceNotLocal, 3)));
        router.encap(0, &udp("192.0.2.9", "10.5.0.1", 9, b""));
        let destination = prefix(0, "10.5.0.1/32").first();
        assert_eq!(router.punts, [Punt::Miss { source: "192.0.2.9".parse().unwrap(), destination }]);
    }

    #[test]
    fn packets_for_what_moved_away_are_taken_from_anybody() {
        let mut router = router();
        let packet = udp("198.51.100.9", "10.1.0.5", 9, b"4");
        assert!(router.encap(0, &packet).0.is_empty(), "no source of ours");
        let change = |router: &mut Router, p: &str, what, present| {
            router.fib.apply(FibUpdate::Dynamic { prefix: prefix(0, p), what, present });
            router.fib.publish();
        };
        change(&mut router, "10.1.0.5/32", Dynamic::Away, true);
        assert!(router.encap(0, &packet).0.is_empty(), "where to is to be found out");
        assert!(matches!(router.punts.pop(), Some(Punt::Miss { .. })));
        router.set(0, "10.1.0.5/32", forward("203.0.113.7"));
        assert_eq!(router.encap(0, &packet).0[0].remote, "203.0.113.7");
        assert_eq!(
            router.encap(0, &udp("10.1.0.9", "10.1.0.5", 9, b"4")).0.len(),
            1,
            "neighbours reach it too"
        );
        assert!(router.encap(0, &udp("198.51.100.9", "10.1.0.6", 9, b"4")).0.is_empty());
        change(&mut router, "10.1.0.5/32", Dynamic::Away, false);
        assert!(router.encap(0, &packet).0.is_empty());
    }

    #[test]
    fn a_new_source_that_is_watched_is_told_once() {
        let mut router = router();
        let packet = udp("10.9.0.5", "10.2.0.1", 9, b"4");
        assert!(router.encap(0, &packet).0.is_empty() && router.punts.is_empty());
        let (prefix, what) = (prefix(0, "10.9.0.0/16"), Dynamic::Watched);
        router.fib.apply(FibUpdate::Dynamic { prefix, what, present: true });
        router.fib.publish();
        for _ in 0..3 {
            router.encap(0, &packet);
        }
        let source = Eid::new(InstanceId::DEFAULT, "10.9.0.5".parse().unwrap());
        assert_eq!(router.punts, [Punt::NewSource { source }]);
        router.encap(0, &udp("10.8.0.5", "10.2.0.1", 9, b"4"));
        assert_eq!(router.punts.len(), 1);
        assert_eq!(router.dropped().map(|(reason, _)| reason), Some(DropReason::SourceNotLocal));
    }

    #[test]
    fn a_burst_to_an_unknown_destination_is_punted_once() {
        let mut router = router();
        let packet = udp("10.1.0.1", "10.4.0.1", 9, b"");
        (0..50).for_each(|_| drop(router.encap(7, &packet)));
        let destination = prefix(7, "10.4.0.1/32").first();
        let punt = Punt::Miss { source: "10.1.0.1".parse().unwrap(), destination };
        assert_eq!(router.punts, std::slice::from_ref(&punt));
        router.fib.apply(FibUpdate::Unpend { eid: destination });
        (0..50).for_each(|_| drop(router.encap(7, &packet)));
        assert_eq!(router.punts, [punt.clone(), punt]);
        assert_eq!(router.dropped(), Some((DropReason::NoMapping, 100)));
    }

    #[test]
    fn a_punt_that_found_no_room_is_tried_again_with_the_next_packet() {
        let mut router = router();
        let inner = Inner::parse(&udp("10.1.0.1", "10.4.0.1", 9, b"")).unwrap();
        let guard = router.reader.enter().unwrap();
        let turn = Turn::new(InstanceId::DEFAULT, &guard, &router.reader, router.now);
        let mut asked = 0;
        for delivered in [false, false, true, true] {
            router.encapsulator.miss(&turn, &inner, |_| {
                asked += 1;
                delivered
            });
        }
        assert_eq!(asked, 3);
        assert_eq!(router.counters.totals().counted(Count::PuntsLost), 2);
    }

    #[test]
    fn a_host_that_tries_everything_leaves_others_a_share_of_the_punts() {
        let mut router = Router::with(DataPlaneConfig { punt_rate: 400, ..DataPlaneConfig::default() });
        let mut fib = crate::fib::new(100_000);
        for p in ["10.1.0.0/16", "2001:db8:1::/48"] {
            let prefix = prefix(0, p);
            fib.apply(FibUpdate::Set { prefix, action: FibAction::Local, stats: Arc::default() });
        }
        fib.publish();
        (router.reader, router.fib) = (fib.reader(), fib);
        for n in 0..2000u32 {
            let to = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).to_string();
            router.encap(0, &udp("10.1.0.66", &to, 9, b""));
        }
        assert_eq!(router.punts.len(), 100, "a quarter for one source");
        // A steady stream to one of these, which is pending, uses nothing up.
        (0..2000).for_each(|_| drop(router.encap(0, &udp("10.1.0.7", "11.0.0.1", 9, b""))));
        for n in 0..100u32 {
            let to = std::net::Ipv4Addr::from_bits(0x0c00_0000 + n).to_string();
            router.encap(0, &udp("10.1.0.7", &to, 9, b""));
        }
        assert_eq!(router.punts.len(), 200);
        assert_eq!(router.counters.totals().counted(Count::PuntsLimited), 1900);
        // All of them together get no more than the whole.
        for n in 0..2000u32 {
            let (host, to) = (n % 100, std::net::Ipv4Addr::from_bits(0x0d00_0000 + n));
            router.encap(0, &udp(&format!("10.1.1.{host}"), &to.to_string(), 9, b""));
        }
        assert_eq!(router.punts.len(), 400);
    }

    #[test]
    fn a_dropping_entry_counts_what_it_drops() {
        let mut router = router();
        let stats = Arc::new(Stats::default());
        router.fib.apply(FibUpdate::Set {
            prefix: prefix(0, "10.9.0.0/16"),
            action: FibAction::Negative(Action::Drop),
            stats: Arc::clone(&stats),
        });
        router.fib.publish();
        router.encap(0, &udp("10.1.0.1", "10.9.0.1", 9, b"x"));
        assert_eq!((stats.packets(), stats.last_used()), (1, Some(router.now)));
        assert_eq!(router.dropped(), Some((DropReason::NegativeDrop, 1)));
    }

    #[test]
    fn packets_beyond_the_path_mtu_are_answered_or_fragmented() {
        let mut router = router();
        // 1500 − 36 fits exactly over IPv4, 1500 − 56 over IPv6.
        for (destination, fits) in [("10.2.0.1", 1464), ("10.3.0.1", 1444)] {
            let mut packet = udp("10.1.0.1", destination, 9, &vec![1; fits - 28]);
            assert_eq!(router.encap(0, &packet).0.len(), 1);
            packet = udp("10.1.0.1", destination, 9, &vec![1; fits - 27]);
            packet[6] = 0x40;
            ip::write_ipv4_checksum(&mut packet);
            let (sent, icmp) = router.encap(0, &packet);
            assert_eq!((sent.len(), icmp.len(), icmp[0].0.as_str()), (0, 1, "10.1.0.1"));
            assert_eq!((&icmp[0].1[..2], &icmp[0].1[6..8]), (&[3, 4][..], &(fits as u16).to_be_bytes()[..]));
            packet[6] = 0;
            ip::write_ipv4_checksum(&mut packet);
            let (sent, icmp) = router.encap(0, &packet);
            assert_eq!((sent.len(), icmp.len()), (2, 0));
            for s in &sent {
                let inner = Inner::parse(&s.payload[8..]).unwrap();
                assert!(inner.fragment && inner.len == s.payload.len() - 8 && s.payload.len() <= fits + 8);
                assert!(ip::ipv4_header_is_valid(&s.payload[8..]));
                assert_eq!(s.payload[..8], [0; 8]);
                assert_eq!(s.port, sent[0].port, "fragments of a packet go one way");
            }
        }
        let packet = udp("2001:db8:1::1", "2001:db8:2::1", 9, &[1; 1500]);
        let (sent, icmp) = router.encap(0, &packet);
        assert_eq!((sent.len(), icmp[0].1[0], &icmp[0].1[4..8]), (0, 2, &1464u32.to_be_bytes()[..]));
        // A smaller MTU takes effect with the next packet.
        router.fib.apply(FibUpdate::PathMtu { rloc: "203.0.113.1".parse().unwrap(), mtu: Some(1400) });
        let (sent, icmp) = router.encap(0, &udp("2001:db8:1::1", "2001:db8:2::1", 9, &[1; 1330]));
        assert_eq!((sent.len(), &icmp[0].1[4..8]), (0, &1364u32.to_be_bytes()[..]));
    }

    #[test]
    fn icmp_errors_are_limited_in_rate() {
        let mut router = router();
        let packet = udp("10.1.0.1", "10.2.0.1", 1, b"");
        let answered =
            |router: &mut Router| (0..500).filter(|_| !router.encap(0, &packet).1.is_empty()).count();
        assert_eq!(answered(&mut router), 100);
        router.now += Duration::from_millis(500);
        assert_eq!(answered(&mut router), 50);
        assert_eq!(router.counters.totals().counted(Count::IcmpNotSent), 850);
    }

    #[test]
    fn a_checksum_left_to_us_is_completed() {
        let mut router = router();
        for (source, destination, header) in
            [("10.1.0.1", "10.2.0.1", 20usize), ("2001:db8:1::1", "2001:db8:2::1", 40)]
        {
            let good = udp(source, destination, 9, b"odd");
            let mut partial = good.clone();
            let pseudo = Inner::parse(&good).unwrap().pseudo_sum(11);
            partial[header + 6..header + 8].copy_from_slice(&pseudo.to_be_bytes());
            let vnet = VnetHeader {
                needs_csum: true,
                csum_start: header as u16,
                csum_offset: 6,
                ..VnetHeader::default()
            };
            assert_eq!(router.encap_all(0, &[(partial.clone(), vnet)]).0[0].payload[8..], good);
            let bad = VnetHeader { csum_start: 9000, ..vnet };
            assert_eq!(router.encap_all(0, &[(partial, bad)]).0, []);
        }
        assert_eq!(router.dropped(), Some((DropReason::Malformed, 2)));
    }

    #[test]
    fn counters_of_path_and_entry_count_inner_packets_and_bytes() {
        let mut router = Router::new();
        let FibAction::Forward(paths) = forward("203.0.113.1") else { unreachable!() };
        let (path, entry) = (paths[0].stats.clone(), Arc::default());
        let action = FibAction::Forward(paths);
        router.fib.apply(FibUpdate::Set {
            prefix: prefix(0, "10.2.0.0/16"),
            action,
            stats: Arc::clone(&entry),
        });
        router.fib.publish();
        (0..3).for_each(|_| drop(router.encap(0, &udp("10.1.0.1", "10.2.0.1", 9, &[0; 72]))));
        for stats in [path, entry] {
            assert_eq!((stats.packets(), stats.bytes(), stats.last_used()), (3, 300, Some(router.now)));
        }
    }

    proptest! {
        #[test]
        fn hostile_packets_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            v6: bool, local: bool, needs_csum: bool, csum_start: u16, csum_offset: u16
        ) {
            let mut router = router();
            if let Some(b) = bytes.first_mut() { *b = if v6 { 0x60 } else { 0x40 | *b & 0xf } }
            let len = (bytes.len() as u16).to_be_bytes();
            if local && !v6 && bytes.len() >= 20 {
                bytes[2..4].copy_from_slice(&len);
                bytes[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
            }
            if local && v6 && bytes.len() >= 40 {
                let payload = (bytes.len() - 40) as u16;
                bytes[4..6].copy_from_slice(&payload.to_be_bytes());
                let address = |s: &str| s.parse::<std::net::Ipv6Addr>().unwrap().octets();
                bytes[8..24].copy_from_slice(&address("2001:db8:1::1"));
                bytes[24..40].copy_from_slice(&address("2001:db8:2::1"));
            }
            let vnet = VnetHeader { needs_csum, csum_start, csum_offset, ..VnetHeader::default() };
            let (sent, _) = router.encap_all(0, &[(bytes, vnet)]);
            prop_assert_eq!(sent.len() as u64 + router.counters.totals().dropped_in_all(), 1);
        }
    }
}

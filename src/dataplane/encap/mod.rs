//! From the site to the underlay.

use std::net::IpAddr;
use std::sync::Arc;

use super::batch::{Arena, IcmpReply, Outgoing, Piece, SendBatch, TunPacket, unspecified};
use super::counters::{Count, Counters, DropReason};
use super::cut::{Cut, Uncut};
use super::fragment::Fragments;
use super::glance::{Ends, Glance};
use super::limiter::Limiter;
use super::vnet::VnetHeader;
use super::{DataPlaneConfig, ecn, header};
use crate::fib::{
    Entry, EntryAction, EntryPath, FibGuard, FibReader, HeaderOptions, InstanceFib, LookupCache, Miss, Punt,
    Stats, Worker,
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
#[derive(Clone, Copy)]
struct Seen<'a> {
    glance: Glance,
    route: Route<'a>,
    /// What became of it.
    packets: u32,
    bytes: u32,
}

/// Where a packet goes.
#[derive(Clone, Copy)]
enum Route<'a> {
    /// Not looked up yet.
    Unknown,
    /// As this entry says.
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
    /// Of no packet.
    const NOTHING: Self = Self { glance: Glance::NONE, route: Route::Unknown, packets: 0, bytes: 0 };

    #[inline(always)]
    fn read(&mut self, turn: &Turn<'a>, packet: &[u8]) {
        (self.packets, self.bytes) = (0, 0);
        if self.glance.read(packet).is_none() {
            self.route = Route::Drop(DropReason::Malformed);
            return;
        }
        let (source, destination) = (self.glance.ends.source(), self.glance.ends.destination());
        self.route = if !ip::is_forwardable(&destination) {
            Route::Drop(DropReason::NotUnicast)
        } else if !turn.fib.is_some_and(|fib| fib.is_local(&source) || fib.proxies_to(&destination)) {
            Route::Drop(DropReason::SourceNotLocal)
        } else {
            Route::Unknown
        };
    }

    /// Finds the entry.
    #[inline(always)]
    fn look_up(&mut self, turn: &Turn<'a>, cache: &mut LookupCache) {
        if let Route::Unknown = self.route {
            let entry = turn.fib.and_then(|fib| match self.glance.ends {
                Ends::V4(_, destination) => cache.lookup_v4(fib, destination),
                Ends::V6(_, destination) => cache.lookup_v6(fib, destination),
            });
            self.route = entry.map_or(Route::Miss, Route::Entry);
        }
    }

    /// Of the entry's paths, finds the flow's.
    #[inline(always)]
    fn choose(&mut self, turn: &Turn<'a>) {
        if let Route::Entry(entry) = self.route {
            self.route = match &entry.action {
                EntryAction::Forward(choice) => match choice.path(self.glance.flow) {
                    Some(path) => Route::Path(path, &entry.stats),
                    None => Route::Drop(DropReason::NoPath),
                },
                _ => Route::refused(entry, turn, &self.glance),
            };
        }
    }
}

impl<'a> Route<'a> {
    /// By an entry that has no path.
    #[cold]
    fn refused(entry: &'a Entry, turn: &Turn<'_>, packet: &Glance) -> Self {
        let reason = match &entry.action {
            EntryAction::Forward(_) => return Self::Drop(DropReason::NoPath),
            // It has moved, and where to is forgotten.
            EntryAction::Local if turn.fib.is_some_and(|fib| fib.is_away(&packet.ends.destination())) => {
                return Self::Miss;
            }
            EntryAction::Local => return Self::Drop(DropReason::DestinationLocal),
            EntryAction::Negative(action) => match action {
                Action::SendMapRequest => return Self::Miss,
                Action::NoAction => DropReason::NegativeNoAction,
                Action::NativelyForward => DropReason::NegativeNativelyForward,
                Action::Drop | Action::Unassigned(_) => DropReason::NegativeDrop,
                Action::DropPolicyDenied => DropReason::NegativePolicyDenied,
                Action::DropAuthFailure => DropReason::NegativeAuthFailure,
            },
        };
        Self::Refused(reason, &entry.stats)
    }
}

/// One thread's encapsulation.
#[derive(Debug)]
pub struct Encapsulator {
    path_mtu: u16,
    source_ports: u64,
    worker: Worker,
    pub(super) cache: LookupCache,
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
            cache: LookupCache::new(),
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
        let mut seen = [Seen::NOTHING; AT_ONCE];
        for chunk in packets.chunks(AT_ONCE) {
            // Step by step for several packets, not packet by packet: what one step of them waits for in memory, the
            // processor fetches for all at once.
            let Some(seen) = seen.get_mut(..chunk.len()) else { break };
            for (packet, seen) in chunk.iter().zip(&mut *seen) {
                seen.read(turn, arena.get(packet.piece));
            }
            for seen in &mut *seen {
                seen.look_up(turn, &mut self.cache);
            }
            for seen in &mut *seen {
                seen.choose(turn);
            }
            for (packet, seen) in chunk.iter().zip(&mut *seen) {
                match self.emit(turn, packet, seen, arena, out, &mut punt) {
                    Ok((packets, bytes)) => (seen.packets, seen.bytes) = (packets, bytes),
                    Err(Full) => break,
                }
                taken += 1;
            }
            let (packets, bytes) = self.record(seen, turn.now);
            total_packets += packets;
            total_bytes += bytes;
            if taken % AT_ONCE != 0 {
                break;
            }
        }
        self.counters.count(Count::EncapsulatedPackets, total_packets);
        self.counters.count(Count::EncapsulatedBytes, total_bytes);
        taken
    }

    /// Counts what was sent, in the paths and entries that it took: once for packets of one path that come one behind the
    /// other. Gives packets and bytes in all.
    #[inline]
    fn record(&self, seen: &[Seen<'_>], now: Instant) -> (u64, u64) {
        let (mut total_packets, mut total_bytes) = (0, 0);
        let mut rest = seen;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            let Route::Path(path, stats) = first.route else { continue };
            let (mut packets, mut bytes) = (u64::from(first.packets), u64::from(first.bytes));
            while let Some((next, after)) = rest.split_first()
                && let Route::Path(same, _) = next.route
                && std::ptr::eq(path, same)
            {
                packets += u64::from(next.packets);
                bytes += u64::from(next.bytes);
                rest = after;
            }
            if packets > 0 {
                path.stats.record_as(self.worker, packets, bytes, now);
                stats.record_as(self.worker, packets, bytes, now);
                total_packets += packets;
                total_bytes += bytes;
            }
        }
        (total_packets, total_bytes)
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
        punt: &mut impl FnMut(Punt) -> bool,
    ) -> Result<(u32, u32), Full> {
        let Route::Path(path, _) = seen.route else {
            self.refuse(turn, seen, punt);
            return Ok((0, 0));
        };
        let (glance, way) = (&seen.glance, &*path.way);
        let overhead = if way.rloc.is_ipv4() { data::OVERHEAD_V4 } else { data::OVERHEAD_V6 };
        let mtu = way.mtu().unwrap_or(self.path_mtu).saturating_sub(overhead);
        // TTL 1 would die at the first router of the underlay, whose ICMP error the source would never see.
        if glance.ttl <= 1 {
            self.counters.dropped(DropReason::TtlExpired, 1);
            let inner = Inner::parse(arena.get(packet.piece)).unwrap_or_default();
            let error = IcmpError::TimeExceeded;
            return self.answer(turn.now, error, &inner, packet.piece, arena, out).map(|()| (0, 0));
        }
        let lisp = match (turn.options, turn.fib) {
            (Some(options), Some(fib)) => {
                let mut counted = |p| self.punt(p, punt);
                header::outgoing(options, fib, turn.iid, &glance.ends, way, turn.now, &mut counted)
            }
            _ => turn.lisp,
        };
        let way = Outgoing {
            way,
            // The upper half of the product is below the factor: a modulo without division.
            port: (((glance.flow & 0xffff_ffff) * self.source_ports) >> 32) as u16,
            ttl: glance.ttl,
            tos: glance.tos & !ecn::MASK | ecn::encapsulate(glance.tos),
        };
        let (piece, len) = (Piece { len: glance.len, ..packet.piece }, glance.len);
        if packet.vnet.gso.is_some() || len > u32::from(mtu) {
            return self.large(turn.now, &Wrapping { lisp, way, mtu }, packet, arena, out);
        }
        if packet.vnet.needs_csum {
            let is_udp = glance.protocol == ip::protocol::UDP;
            if !complete_checksum(&packet.vnet, is_udp, arena.get_mut(piece, 0), self.sum) {
                self.counters.dropped(DropReason::Malformed, 1);
                return Ok((0, 0));
            }
        }
        let Some(start) = arena.get_mut(piece, data::HEADER).first_chunk_mut() else { return Ok((0, 0)) };
        *start = lisp;
        out.push(
            way,
            Piece { offset: piece.offset - data::HEADER as u32, len: len + data::HEADER as u32 },
            None,
        );
        Ok((1, len))
    }

    /// Counts a packet that goes nowhere, and tells the control plane where that is for it to change.
    #[cold]
    fn refuse(&mut self, turn: &Turn<'_>, seen: &Seen<'_>, punt: &mut impl FnMut(Punt) -> bool) {
        match seen.route {
            Route::Drop(reason) => {
                self.counters.dropped(reason, 1);
                if reason == DropReason::SourceNotLocal {
                    self.not_local(turn, &seen.glance, punt);
                }
            }
            Route::Refused(reason, stats) => {
                self.counters.dropped(reason, 1);
                stats.record_as(self.worker, 1, u64::from(seen.glance.len), turn.now);
            }
            Route::Miss => {
                self.counters.dropped(DropReason::NoMapping, 1);
                self.miss(turn, &seen.glance, punt);
            }
            Route::Unknown | Route::Entry(_) | Route::Path(..) => {}
        }
    }

    #[cold]
    fn miss(&mut self, turn: &Turn<'_>, packet: &Glance, punt: &mut impl FnMut(Punt) -> bool) {
        let destination = Eid::new(turn.iid, packet.ends.destination());
        let bits = match packet.ends {
            Ends::V4(source, _) => u64::from(source),
            Ends::V6(source, _) => (source >> 64) as u64 ^ source as u64,
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
                if !self.punt(Punt::Miss { source: packet.ends.source(), destination }, punt) {
                    turn.reader.unpend(&destination);
                }
            }
        }
    }

    /// A host that is not known to be here sends a packet: perhaps it has just come.
    #[cold]
    fn not_local(&self, turn: &Turn<'_>, packet: &Glance, punt: &mut impl FnMut(Punt) -> bool) {
        let address = packet.ends.source();
        let source = Eid::new(turn.iid, address);
        if turn.fib.is_some_and(|fib| fib.is_watched(&address))
            && ip::is_forwardable(&address)
            && turn.reader.is_new_source(source, turn.now)
        {
            self.punt(Punt::NewSource { source }, punt);
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

    /// A super-packet, or a packet that is too long: cut, fragmented, or answered. Gives how many packets it became, and
    /// their bytes.
    #[inline(never)]
    fn large(
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
        if vnet.needs_csum && !complete_checksum(vnet, is_udp, arena.get_mut(piece, 0), self.sum) {
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

/// What a packet gets around it.
struct Wrapping<'a> {
    lisp: [u8; data::HEADER],
    way: Outgoing<'a>,
    /// Largest inner packet.
    mtu: u16,
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
fn complete_checksum(vnet: &VnetHeader, is_udp: bool, bytes: &mut [u8], sum: SumFn) -> bool {
    let start = usize::from(vnet.csum_start);
    let Some(segment) = bytes.get_mut(start..) else { return false };
    // The field holds the sum of the pseudo header, which so becomes part of this sum.
    let checksum = !sum(segment);
    let checksum = if is_udp { udp::nonzero(checksum) } else { checksum };
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
        let mut packet = Glance::NONE;
        packet.read(&udp("10.1.0.1", "10.4.0.1", 9, b"")).unwrap();
        let guard = router.reader.enter().unwrap();
        let turn = Turn::new(InstanceId::DEFAULT, &guard, &router.reader, router.now);
        let mut asked = 0;
        for delivered in [false, false, true, true] {
            router.encapsulator.miss(&turn, &packet, &mut |_| {
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
    fn the_lists_of_a_batch_are_bounded() {
        let mut router = router();
        // The most that a packet can become: super-packets of the smallest segments, each sent on its own, and behind
        // them the longest packet that has to be cut into fragments; and more small packets than a batch may have.
        let datagrams = udp("10.1.0.1", "10.2.0.1", 9, &[1; 2048]);
        let mut longest = udp("10.1.0.1", "10.2.0.1", 9, &[1; 65_507]);
        longest[6] = 0; // may be fragmented
        let small = udp("10.1.0.1", "10.2.0.1", 9, b"");
        let single = VnetHeader { gso: Some(super::super::Gso::Udp), gso_size: 1, ..VnetHeader::default() };
        let mut out = SendBatch::new(64, 1);
        for packets in [
            vec![(&datagrams, single); 100],
            vec![(&longest, VnetHeader::default()); 7],
            vec![(&small, VnetHeader::default()); 1024],
        ] {
            let mut arena = Arena::new(512 << 10);
            let mut read = Vec::new();
            for (bytes, vnet) in packets {
                arena.slot(0).unwrap()[..bytes.len()].copy_from_slice(bytes);
                read.push(TunPacket { piece: arena.commit(bytes.len()), vnet });
            }
            out.clear();
            let guard = router.reader.enter().unwrap();
            let turn = Turn::new(InstanceId::DEFAULT, &guard, &router.reader, router.now);
            assert!(router.encapsulator.encapsulate(&turn, &read, &mut arena, &mut out, |_| true) > 0);
            assert!(out.groups().len() > 300);
            assert!(out.memory() <= SendBatch::MAX_BYTES, "{}", out.memory());
        }
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

//! From the site to the underlay.
//!
//! Owns: the way of a batch, and of a packet that fits: its LISP header, and its path's outer headers. Which
//! path that is is found in [`route`]; packets that don't fit are [`large`]'s, those that go nowhere
//! [`refuse`]'s.

mod large;
mod refuse;
mod route;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use super::batch::{Arena, Outgoing, Piece, SendBatch, TunPacket, unspecified};
use super::counters::{Count, Counters, DropReason};
use super::limiter::Limiter;
use super::vnet::VnetHeader;
use super::{DataPlaneConfig, ecn, header};
use crate::fib::{FibGuard, FibReader, HeaderOptions, InstanceFib, LookupCache, Punt, Worker};
use crate::types::{InstanceId, Instant};
use crate::wire::data::{self, DataHeader};
use crate::wire::icmp::IcmpError;
use crate::wire::ip::{self, Inner, SumFn};
use crate::wire::udp;
use large::Wrapping;
use refuse::PUNT_SOURCES;
use route::Seen;

pub(super) use large::Job;

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
    /// Of punts of misses: for all sources, and for those with the same hash, so that one that tries many
    /// destinations leaves others a chance.
    punt_limit: Limiter,
    punt_limits: Box<[Limiter]>,
    counters: Arc<Counters>,
}

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

    /// Takes packets from the site and adds what comes of them to `out`: data packets, ICMP errors, or
    /// nothing and a count. `punt` hands a punt to the control plane, and says whether it could. Gives how
    /// many were taken: fewer than there are where the batch had no more room. Then send it, clear it, and go
    /// on with the rest.
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
        let mut local = None;
        for chunk in packets.chunks(AT_ONCE) {
            // Step by step for several packets, not packet by packet: what one step of them waits for in
            // memory, the processor fetches for all at once.
            let Some(seen) = seen.get_mut(..chunk.len()) else { break };
            for (packet, seen) in chunk.iter().zip(&mut *seen) {
                seen.read(turn, arena.get(packet.piece), &mut local);
            }
            for seen in &mut *seen {
                seen.look_up(turn, &mut self.cache);
            }
            for seen in &mut *seen {
                seen.choose(turn, self.path_mtu);
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

    /// Counts what was sent, in the paths and entries that it took. Gives packets and bytes in all.
    #[inline]
    fn record(&self, seen: &[Seen<'_>], now: Instant) -> (u64, u64) {
        let (mut total_packets, mut total_bytes) = (0, 0);
        for seen in seen.iter().filter(|seen| seen.packets > 0) {
            let (Some(path), Some(entry)) = (seen.path, seen.entry) else { continue };
            let (packets, bytes) = (u64::from(seen.packets), u64::from(seen.bytes));
            path.stats.record_as(self.worker, packets, bytes, now);
            entry.stats.record_as(self.worker, packets, bytes, now);
            total_packets += packets;
            total_bytes += bytes;
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
        let Some(path) = seen.path else {
            self.refuse(turn, seen, punt);
            return Ok((0, 0));
        };
        let (glance, way, mtu) = (&seen.glance, &*path.way, seen.mtu);
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
            if !complete_checksum(&packet.vnet, is_udp, arena.get_mut(piece), self.sum) {
                self.counters.dropped(DropReason::Malformed, 1);
                return Ok((0, 0));
            }
        }
        let Some(whole) = arena.prepend(lisp, piece) else { return Ok((0, 0)) };
        out.push(way, whole, None);
        Ok((1, len))
    }
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

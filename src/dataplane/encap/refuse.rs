//! Packets that go nowhere: counted, and told to whom it concerns.
//!
//! Owns: what the control plane and the packet's source hear of it, and how often, so that a flood of such
//! packets costs neither of them more than a part of its time.

use super::route::{Refusal, Seen};
use super::{Encapsulator, Full, Turn};
use crate::dataplane::batch::{Arena, IcmpReply, Piece, SendBatch};
use crate::dataplane::counters::{Count, DropReason};
use crate::dataplane::glance::{Ends, Glance};
use crate::fib::{Miss, Punt};
use crate::types::{Eid, Instant};
use crate::wire::icmp::{self, IcmpError};
use crate::wire::ip::{self, Inner};

/// Sources of packets whose punts are limited apart.
pub(super) const PUNT_SOURCES: u64 = 64;

impl Encapsulator {
    /// Counts a packet that goes nowhere, and tells the control plane where that is for it to change.
    #[cold]
    pub(super) fn refuse(&mut self, turn: &Turn<'_>, seen: &Seen<'_>, punt: &mut impl FnMut(Punt) -> bool) {
        match seen.refusal {
            Some(Refusal::Drop(DropReason::SourceNotLocal))
                if !ip::is_forwardable(&seen.glance.ends.destination()) =>
            {
                self.counters.dropped(DropReason::NotUnicast, 1);
            }
            Some(Refusal::Drop(reason)) => {
                self.counters.dropped(reason, 1);
                if reason == DropReason::SourceNotLocal {
                    self.not_local(turn, &seen.glance, punt);
                }
            }
            Some(Refusal::Mapping(reason)) => {
                self.counters.dropped(reason, 1);
                if let Some(entry) = seen.entry {
                    entry.stats.record_as(self.worker, 1, u64::from(seen.glance.len), turn.now);
                }
            }
            Some(Refusal::Miss) => {
                self.counters.dropped(DropReason::NoMapping, 1);
                self.miss(turn, &seen.glance, punt);
            }
            None => {}
        }
    }

    #[cold]
    pub(super) fn miss(&mut self, turn: &Turn<'_>, packet: &Glance, punt: &mut impl FnMut(Punt) -> bool) {
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
    pub(super) fn punt(&self, what: Punt, punt: &mut impl FnMut(Punt) -> bool) -> bool {
        let delivered = punt(what);
        self.counters.count(if delivered { Count::Punts } else { Count::PuntsLost }, 1);
        delivered
    }

    /// Tells the source of a packet why it was dropped.
    #[cold]
    pub(super) fn answer(
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
}

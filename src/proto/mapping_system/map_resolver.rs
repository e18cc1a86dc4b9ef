//! The Map-Resolver's own knowledge: which Map-Servers serve which EID-prefixes, and what it forwarded just
//! now.
//!
//! Owns: both. What is done with a Map-Request is decided in [`super`], together with the Map-Server.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::proto::config::{Host, MapResolverConfig};
use crate::proto::eid_table::EidTable;
use crate::types::{Eid, Instant, Nonce};

/// The same Map-Request within this time is a loop or a duplicate: ITRs retransmit after a second at the
/// earliest (RFC 9301 §5.3).
const LOOP_WINDOW: Duration = Duration::from_millis(200);
/// Map-Requests that are remembered for it.
const LOOP_MEMORY: usize = 4096;

/// The role's state.
#[derive(Debug)]
pub(crate) struct MapResolver {
    forward: EidTable<Vec<Host>>,
}

impl MapResolver {
    pub(crate) fn new(config: &MapResolverConfig) -> Self {
        let mut forward = EidTable::default();
        for (prefix, hosts) in &config.forward {
            forward.insert(*prefix, hosts.clone());
        }
        Self { forward }
    }

    pub(crate) fn forward(&self) -> &EidTable<Vec<Host>> {
        &self.forward
    }

    /// The Map-Servers that serve `eid`, in order of preference.
    pub(crate) fn hosts(&self, eid: &Eid) -> &[Host] {
        self.forward.longest(eid).map(|(_, hosts)| hosts.as_slice()).unwrap_or_default()
    }
}

/// Notices Map-Requests that come round again: two Map-Resolvers that each take the other for the Map-Server
/// would otherwise pass one on for ever, as the encapsulation has no hop count that anybody decrements.
#[derive(Debug, Default)]
pub(crate) struct LoopGuard {
    order: VecDeque<(Instant, Nonce, Eid)>,
    known: BTreeSet<(Nonce, Eid)>,
}

impl LoopGuard {
    /// Whether this Map-Request was seen a moment ago; remembers it.
    pub(crate) fn seen(&mut self, now: Instant, nonce: Nonce, eid: Eid) -> bool {
        while let Some((at, nonce, eid)) = self.order.front().copied() {
            if now.saturating_since(at) < LOOP_WINDOW && self.order.len() < LOOP_MEMORY {
                break;
            }
            self.order.pop_front();
            self.known.remove(&(nonce, eid));
        }
        if !self.known.insert((nonce, eid)) {
            return true;
        }
        self.order.push_back((now, nonce, eid));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::InstanceId;

    #[test]
    fn a_request_may_come_again_after_a_second_but_not_at_once() {
        let mut guard = LoopGuard::default();
        let eid = Eid::new(InstanceId::DEFAULT, "10.0.0.1".parse().unwrap());
        assert!(!guard.seen(Instant::ZERO, Nonce(1), eid));
        assert!(guard.seen(Instant::ZERO + Duration::from_millis(5), Nonce(1), eid));
        assert!(!guard.seen(Instant::ZERO, Nonce(2), eid));
        assert!(!guard.seen(Instant::from_secs(1), Nonce(1), eid));
        for nonce in 0..100_000 {
            guard.seen(Instant::from_secs(1), Nonce(nonce), eid);
        }
        assert!(guard.order.len() <= LOOP_MEMORY && guard.known.len() <= LOOP_MEMORY);
    }
}

//! Destinations that were punted and wait for the control plane.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use crate::types::{Eid, EidPrefix, Instant};

/// What to do about a packet whose destination has no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Tell the control plane.
    Punt,
    /// It was told already.
    Pending,
    /// Too many destinations are pending.
    Full,
}

/// The destinations that were punted and neither resolved nor given up since. Bounded; an entry whose punt
/// was lost on the way ages out.
///
/// An ordered map behind a lock, since only misses and their resolution touch it: a covering prefix then
/// clears its whole range in one step, where a hash table would have to be searched through at every FIB
/// update. The count beside the lock lets updates pass by while nothing is pending.
#[derive(Debug)]
pub(super) struct Pending {
    since: Mutex<BTreeMap<Eid, Instant>>,
    count: AtomicUsize,
    limit: usize,
}

impl Pending {
    /// How long a destination stays without being resolved or given up: longer than the control plane's own
    /// first retransmissions, which no second punt should double.
    const MAX_AGE: Duration = Duration::from_secs(5);

    pub(super) fn new(limit: usize) -> Self {
        Self { since: Mutex::default(), count: AtomicUsize::new(0), limit }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Eid, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlock(&self, since: MutexGuard<'_, BTreeMap<Eid, Instant>>) {
        self.count.store(since.len(), Ordering::Release);
    }

    pub(super) fn miss(&self, eid: Eid, now: Instant) -> Miss {
        let fresh = |since: &Instant| now.saturating_since(*since) < Self::MAX_AGE;
        let mut since = self.lock();
        if since.get(&eid).is_some_and(fresh) {
            return Miss::Pending;
        }
        if since.len() >= self.limit && !since.contains_key(&eid) {
            since.retain(|_, t| fresh(t));
            if since.len() >= self.limit {
                return Miss::Full;
            }
        }
        since.insert(eid, now);
        self.unlock(since);
        Miss::Punt
    }

    pub(super) fn clear(&self, eid: &Eid) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut since = self.lock();
            since.remove(eid);
            self.unlock(since);
        }
    }

    pub(super) fn clear_covered(&self, prefix: &EidPrefix) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        // Addresses of a prefix are contiguous in the order of EIDs.
        let last = match prefix.net {
            IpNet::V4(net) => {
                IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits() | net.hostmask().to_bits()))
            }
            IpNet::V6(net) => {
                IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() | net.hostmask().to_bits()))
            }
        };
        let mut since = self.lock();
        let covered: Vec<Eid> =
            since.range(prefix.first()..=Eid::new(prefix.iid, last)).map(|(eid, _)| *eid).collect();
        for eid in covered {
            since.remove(&eid);
        }
        self.unlock(since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::InstanceId;

    fn eid(s: &str) -> Eid {
        Eid::new(InstanceId::DEFAULT, s.parse().unwrap())
    }

    #[test]
    fn a_destination_is_punted_once_until_cleared_or_aged() {
        let pending = Pending::new(10);
        let t = Instant::from_secs(100);
        assert_eq!(pending.miss(eid("10.0.0.1"), t), Miss::Punt);
        assert_eq!(pending.miss(eid("10.0.0.1"), t), Miss::Pending);
        assert_eq!(pending.miss(Eid::new(InstanceId::new(7).unwrap(), eid("10.0.0.1").addr), t), Miss::Punt);
        pending.clear(&eid("10.0.0.1"));
        assert_eq!(pending.miss(eid("10.0.0.1"), t), Miss::Punt);
        assert_eq!(pending.miss(eid("10.0.0.1"), t + Pending::MAX_AGE), Miss::Punt);
    }

    #[test]
    fn a_covering_prefix_clears_exactly_what_it_covers() {
        let pending = Pending::new(10);
        let t = Instant::from_secs(1);
        for s in ["10.0.0.0", "10.0.0.255", "10.0.1.0", "9.255.255.255", "2001:db8::1", "2001:db8:0:1::"] {
            assert_eq!(pending.miss(eid(s), t), Miss::Punt);
        }
        let prefix = |s: &str| EidPrefix::from(s.parse::<IpNet>().unwrap());
        pending.clear_covered(&prefix("10.0.0.0/24"));
        pending.clear_covered(&prefix("2001:db8::/64"));
        pending.clear_covered(&EidPrefix::new(InstanceId::new(7).unwrap(), "0.0.0.0/0".parse().unwrap()));
        let punted = |s| pending.miss(eid(s), t) == Miss::Punt;
        assert!(punted("10.0.0.0") && punted("10.0.0.255") && punted("2001:db8::1"));
        assert!(!punted("10.0.1.0") && !punted("9.255.255.255") && !punted("2001:db8:0:1::"));
    }

    #[test]
    fn the_table_is_bounded_and_aged_entries_make_room() {
        let pending = Pending::new(2);
        let t = Instant::from_secs(1);
        assert_eq!(pending.miss(eid("10.0.0.1"), t), Miss::Punt);
        assert_eq!(pending.miss(eid("10.0.0.2"), t + Duration::from_secs(3)), Miss::Punt);
        assert_eq!(pending.miss(eid("10.0.0.3"), t + Duration::from_secs(3)), Miss::Full);
        assert_eq!(pending.miss(eid("10.0.0.3"), t + Duration::from_secs(6)), Miss::Punt);
        assert_eq!(pending.miss(eid("10.0.0.2"), t + Duration::from_secs(6)), Miss::Pending);
    }
}

//! In which order map-cache entries are thrown out.
//!
//! Owns: the order, which is kept lazily: an entry stands where it belonged when it was last looked at, since
//! the data plane only notes when an entry was used and tells nobody. Whoever looks at the first one puts it
//! where it belongs by now, or finds that it is the right one. That is the second chance of a clock's hand,
//! without walking over entries that are far from being thrown out. Must not know what an entry is.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::types::{EidPrefix, Instant};

/// Entries that are looked at for one that is thrown out, at most: bounds what an entry too many costs.
const LOOKS: usize = 64;
/// Entries that are looked at in one turn for those that are idle.
const IDLE_LOOKS: usize = 512;

/// Where an entry stands. Lower ones go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    /// It has carried packets to somewhere. What has not may be there because of a scan, and may not displace
    /// what has.
    pub(crate) proven: bool,
    /// Since when it has not been used.
    pub(crate) since: Instant,
}

/// The order of the entries that may be thrown out.
#[derive(Debug, Default)]
pub(crate) struct UseOrder {
    unproven: BTreeSet<(Instant, EidPrefix)>,
    proven: BTreeSet<(Instant, EidPrefix)>,
}

impl UseOrder {
    pub(crate) fn insert(&mut self, prefix: EidPrefix, rank: Rank) {
        self.class(rank.proven).insert((rank.since, prefix));
    }

    /// Takes out what was inserted with the same rank.
    pub(crate) fn remove(&mut self, prefix: EidPrefix, rank: Rank) {
        self.class(rank.proven).remove(&(rank.since, prefix));
    }

    /// The entry to throw out, which stays in the order until it is removed. Unproven ones come first, as
    /// long as there are `spared` of them: with fewer, a new entry would be gone before its first packet.
    /// `look` gives the rank that an entry has by now, and has the entry keep it.
    pub(crate) fn victim(
        &mut self,
        spared: usize,
        mut look: impl FnMut(&EidPrefix) -> Option<Rank>,
    ) -> Option<EidPrefix> {
        let mut looks = 0;
        let mut best: Option<(Instant, EidPrefix)> = None;
        loop {
            let few = self.unproven.len() < spared || self.unproven.is_empty();
            let proven = few && !self.proven.is_empty();
            let (since, prefix) = *self.class(proven).first()?;
            let before = Rank { proven, since };
            let rank = look(&prefix).unwrap_or(before);
            if rank == before {
                return Some(prefix);
            }
            self.remove(prefix, before);
            self.insert(prefix, rank);
            if rank.proven != proven {
                // Once in an entry's life, which its installation has paid for.
                continue;
            }
            looks += 1;
            best = best.into_iter().chain([(rank.since, prefix)]).min();
            if looks >= LOOKS {
                // All that were looked at are in use: the one that was used longest ago.
                return best.map(|(_, prefix)| prefix);
            }
        }
    }

    /// An entry that has not been used since `before`; `Err` where looking for one takes more than one turn.
    pub(crate) fn idle(
        &mut self,
        before: Instant,
        mut look: impl FnMut(&EidPrefix) -> Option<Rank>,
    ) -> Result<Option<EidPrefix>, TooMany> {
        for _ in 0..IDLE_LOOKS {
            let firsts = [(false, self.unproven.first()), (true, self.proven.first())];
            let first = firsts.into_iter().find_map(|(proven, first)| {
                first.filter(|(since, _)| *since <= before).map(|(since, prefix)| (proven, *since, *prefix))
            });
            let Some((proven, since, prefix)) = first else { return Ok(None) };
            let was = Rank { proven, since };
            let rank = look(&prefix).unwrap_or(was);
            if rank == was {
                return Ok(Some(prefix));
            }
            self.remove(prefix, was);
            self.insert(prefix, rank);
        }
        Err(TooMany)
    }

    /// When the first entry has been idle for `timeout`, if nothing uses it until then.
    pub(crate) fn next_idle(&self, timeout: Duration) -> Option<Instant> {
        let firsts = self.unproven.first().into_iter().chain(self.proven.first());
        firsts.map(|(since, _)| *since + timeout).min()
    }

    fn class(&mut self, proven: bool) -> &mut BTreeSet<(Instant, EidPrefix)> {
        if proven { &mut self.proven } else { &mut self.unproven }
    }
}

/// There is more to look at than one turn allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn prefix(n: u32) -> EidPrefix {
        EidPrefix::from(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::from_bits(n << 8), 24))
    }

    fn at(secs: u64, proven: bool) -> Rank {
        Rank { proven, since: Instant::from_secs(secs) }
    }

    /// Entries with the rank that they were inserted with, and the one that they have by now.
    fn order(entries: &[(u32, Rank, Rank)]) -> (UseOrder, BTreeMap<EidPrefix, Rank>) {
        let mut order = UseOrder::default();
        let mut ranks = BTreeMap::new();
        for (n, noted, now) in entries {
            order.insert(prefix(*n), *noted);
            ranks.insert(prefix(*n), *now);
        }
        (order, ranks)
    }

    #[test]
    fn the_least_recently_used_goes_first_whatever_was_noted() {
        let (mut order, ranks) = order(&[
            (1, at(1, true), at(90, true)),
            (2, at(2, true), at(20, true)),
            (3, at(30, true), at(30, true)),
        ]);
        let victim = order.victim(0, |p| ranks.get(p).copied());
        assert_eq!(victim, Some(prefix(2)));
        order.remove(prefix(2), at(20, true));
        assert_eq!(order.victim(0, |p| ranks.get(p).copied()), Some(prefix(3)));
    }

    #[test]
    fn what_never_carried_a_packet_goes_before_what_did_but_for_a_few() {
        let entries: Vec<_> = (0..10).map(|n| (n, at(100 + u64::from(n), n < 5), at(100, n < 5))).collect();
        let (mut order, _) = order(&entries);
        for expected in [5, 6, 7] {
            assert_eq!(order.victim(3, |_| None), Some(prefix(expected)));
            order.remove(prefix(expected), at(100 + u64::from(expected), false));
        }
        assert_eq!(order.victim(3, |_| None), Some(prefix(0)), "two are spared");
        assert_eq!(order.victim(0, |_| None), Some(prefix(8)));
    }

    #[test]
    fn a_full_order_of_busy_entries_costs_a_bounded_number_of_looks() {
        let entries: Vec<_> = (0..10_000).map(|n| (n, at(1, true), at(500, true))).collect();
        let (mut order, ranks) = order(&entries);
        let mut looks = 0;
        let victim = order.victim(0, |p| {
            looks += 1;
            ranks.get(p).copied()
        });
        assert!(victim.is_some());
        assert_eq!(looks, LOOKS);
    }

    #[test]
    fn idle_entries_are_found_and_busy_ones_put_back() {
        let (mut order, ranks) = order(&[
            (1, at(1, true), at(90, true)),
            (2, at(2, true), at(2, true)),
            (3, at(3, false), at(50, true)),
        ]);
        assert_eq!(order.next_idle(Duration::from_secs(10)), Some(Instant::from_secs(11)));
        assert_eq!(order.idle(Instant::from_secs(5), |p| ranks.get(p).copied()), Ok(Some(prefix(2))));
        order.remove(prefix(2), at(2, true));
        assert_eq!(order.idle(Instant::from_secs(5), |p| ranks.get(p).copied()), Ok(None));
        assert_eq!(order.next_idle(Duration::from_secs(10)), Some(Instant::from_secs(60)));
        let mut many = UseOrder::default();
        (0..2000).for_each(|n| many.insert(prefix(n), at(1, false)));
        assert_eq!(many.idle(Instant::from_secs(5), |_| Some(at(9, true))), Err(TooMany));
    }
}

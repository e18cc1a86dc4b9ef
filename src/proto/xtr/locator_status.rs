//! Locator-status-bits that other sites send (RFC 9300 §10): which of their locators they say are down.
//!
//! Owns: what was said, and the damping of it. What an entry does without a locator is the map-cache's. Only
//! for the entry of the prefix that said so: another site may have the same locator, and must not be harmed
//! by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::{EidPrefix, Instant, Mapping, Rloc};

/// Entries of which something is remembered.
const MAX_SITES: usize = 4096;
/// Locators that have a bit.
const BITS: usize = 32;

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct LocatorStatus {
    sites: BTreeMap<EidPrefix, Said>,
    /// When damping ends somewhere.
    timers: BTreeSet<(Instant, EidPrefix)>,
}

#[derive(Debug, Default)]
struct Said {
    /// The last bits.
    status: u32,
    /// The locators that are down by them, each since when.
    down: BTreeMap<Rloc, Instant>,
    wake: Option<Instant>,
}

impl LocatorStatus {
    /// The site of `mapping` says which of its locators are up; gives those that are down from now on, if
    /// that is others than `applied`, those that its entry does without: the entry may be a new one, which
    /// knows nothing of the old. A locator goes down at once, and comes up when it has been down for
    /// `damping`: one that flaps is not worth moving flows to and fro for.
    pub(crate) fn told(
        &mut self,
        now: Instant,
        mapping: &Mapping,
        status: u32,
        applied: &BTreeSet<Rloc>,
        damping: Duration,
    ) -> Option<BTreeSet<Rloc>> {
        if !self.sites.contains_key(&mapping.eid) && (status == u32::MAX || self.sites.len() >= MAX_SITES) {
            return None;
        }
        self.sites.entry(mapping.eid).or_default().status = status;
        self.apply(now, mapping, applied, damping)
    }

    /// Takes out a prefix whose damping ends somewhere.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<EidPrefix> {
        let (_, prefix) = self.timers.first().copied().filter(|(at, _)| *at <= now)?;
        self.timers.pop_first();
        if let Some(said) = self.sites.get_mut(&prefix) {
            said.wake = None;
        }
        Some(prefix)
    }

    /// Does what damping held back, as [`Self::told`] does.
    pub(crate) fn apply(
        &mut self,
        now: Instant,
        mapping: &Mapping,
        applied: &BTreeSet<Rloc>,
        damping: Duration,
    ) -> Option<BTreeSet<Rloc>> {
        let said = self.sites.get_mut(&mapping.eid)?;
        said.down.retain(|rloc, _| mapping.locators.iter().take(BITS).any(|l| l.rloc == *rloc));
        let mut wake: Option<Instant> = None;
        for (bit, locator) in mapping.locators.iter().take(BITS).enumerate() {
            let up = said.status >> bit & 1 == 1;
            match said.down.get(&locator.rloc) {
                None if !up => drop(said.down.insert(locator.rloc, now)),
                Some(since) if up && now.saturating_since(*since) >= damping => {
                    said.down.remove(&locator.rloc);
                }
                Some(since) if up => {
                    let over = *since + damping;
                    wake = Some(wake.map_or(over, |wake| wake.min(over)));
                }
                _ => {}
            }
        }
        if let Some(old) = said.wake.take() {
            self.timers.remove(&(old, mapping.eid));
        }
        said.wake = wake;
        self.timers.extend(wake.map(|at| (at, mapping.eid)));
        let down: BTreeSet<Rloc> = said.down.keys().copied().collect();
        if down.is_empty() && said.status == u32::MAX {
            self.sites.remove(&mapping.eid);
        }
        (down != *applied).then_some(down)
    }

    /// The entry of a prefix is gone.
    pub(crate) fn forget(&mut self, prefix: &EidPrefix) {
        if let Some(wake) = self.sites.remove(prefix).and_then(|said| said.wake) {
            self.timers.remove(&(wake, *prefix));
        }
    }

    /// Forgets everything that `keep` doesn't hold for.
    pub(crate) fn retain(&mut self, keep: impl Fn(&EidPrefix) -> bool) {
        let gone: Vec<EidPrefix> = self.sites.keys().filter(|prefix| !keep(prefix)).copied().collect();
        gone.iter().for_each(|prefix| self.forget(prefix));
    }

    /// Whether there is no room for one more site.
    pub(crate) fn is_full(&self) -> bool {
        self.sites.len() >= MAX_SITES
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Action, Locator, MapVersion, Ttl};

    fn mapping(rlocs: &[&str]) -> Mapping {
        Mapping {
            eid: "10.2.0.0/16".parse::<ipnet::IpNet>().unwrap().into(),
            ttl: Ttl(1440),
            action: Action::NoAction,
            authoritative: true,
            version: MapVersion::NONE,
            locators: rlocs.iter().map(|r| Locator::new(r.parse().unwrap(), 1, 50)).collect(),
        }
    }

    fn set(rlocs: &[&str]) -> Option<BTreeSet<Rloc>> {
        Some(rlocs.iter().map(|r| r.parse().unwrap()).collect())
    }

    const DAMPING: Duration = Duration::from_secs(300);

    #[test]
    fn a_locator_goes_down_at_once_and_comes_up_damped() {
        let (mut bits, t) = (LocatorStatus::default(), Instant::from_secs(1000));
        let site = mapping(&["192.0.2.1", "192.0.2.2"]);
        let (none, first, second) = (BTreeSet::new(), set(&["192.0.2.1"]), set(&["192.0.2.2"]));
        let (first, second) = (first.unwrap(), second.unwrap());
        let both = &first | &second;
        assert_eq!(bits.told(t, &site, u32::MAX, &none, DAMPING), None);
        assert_eq!(bits.told(t, &site, !0b10, &none, DAMPING), set(&["192.0.2.2"]));
        assert_eq!(bits.told(t, &site, !0b10, &second, DAMPING), None);
        assert_eq!(bits.next(), None);
        // Up again after a second: held back. Another one may go down meanwhile.
        let t1 = t + Duration::from_secs(1);
        assert_eq!(bits.told(t1, &site, u32::MAX, &second, DAMPING), None);
        assert_eq!(bits.next(), Some(t + DAMPING));
        assert_eq!(bits.told(t1, &site, !0b01, &second, DAMPING), set(&["192.0.2.1", "192.0.2.2"]));
        assert_eq!(bits.pop_due(t + DAMPING), Some(site.eid));
        assert_eq!(bits.apply(t + DAMPING, &site, &both, DAMPING), set(&["192.0.2.1"]));
        assert_eq!(bits.told(t1 + DAMPING, &site, u32::MAX, &first, DAMPING), set(&[]));
        assert_eq!((bits.sites.len(), bits.timers.len()), (0, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_goes_with_the_entry() {
        let (mut bits, t) = (LocatorStatus::default(), Instant::from_secs(1000));
        let mut site = mapping(&["192.0.2.1"]);
        for n in 0..5000u32 {
            site.eid = ipnet::IpNet::new(std::net::Ipv4Addr::from_bits(n << 8).into(), 24).unwrap().into();
            bits.told(t, &site, 0, &BTreeSet::new(), DAMPING);
            bits.told(t, &site, u32::MAX, &BTreeSet::new(), DAMPING);
        }
        assert_eq!((bits.sites.len(), bits.timers.len(), bits.is_full()), (MAX_SITES, MAX_SITES, true));
        bits.retain(|_| false);
        assert_eq!((bits.sites.len(), bits.timers.len()), (0, 0));
    }
}

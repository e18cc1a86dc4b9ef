//! Which natively-forward entries of the map-cache are kept although nobody sees their packets.
//!
//! Owns: the marks of entries that are neither thrown out beside a scan nor let end at their time to live,
//! and the memory of those that went. Must not know what an entry is.
//!
//! The kernel forwards the packets of such an entry itself and counts none of them, so that an entry in
//! steady use looks like one that a scan left behind. What tells the two apart is what follows when the entry
//! is gone: packets to a destination in use come back to us at once, a scan goes on elsewhere. So an entry
//! that is missed soon after it went has proven itself, and each time that it does it is kept twice as long.
//! Others are kept while there is room for it, which a proven one may take. All of them together are a
//! bounded part of the map-cache, and each is asked for again a bounded number of times: then it has to prove
//! itself anew, at the price of the packets of one Map-Request's round trip.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::{EidPrefix, Instant};

/// An entry that is missed within this time after it went is in use.
const MISSED: Duration = Duration::from_secs(60);
/// How often an entry that has not proven itself is asked for again; twice as often for each time that it has
/// …
const REFRESHES: u32 = 2;
/// … up to so many times.
const MAX_LEVEL: u8 = 5;

/// The marks.
#[derive(Debug, Default)]
pub(super) struct Natives {
    /// Each since when, and how often it has proven itself.
    marks: BTreeMap<EidPrefix, (u8, Instant)>,
    /// The first one has the least right to its mark: of several that have not proven themselves the latest,
    /// as the marks that are left are soon a scan's.
    order: BTreeSet<(u8, Reverse<Instant>, EidPrefix)>,
    gone: BTreeMap<EidPrefix, (u8, Instant)>,
    gone_order: BTreeSet<(Instant, EidPrefix)>,
}

impl Natives {
    /// A natively-forward entry is new; of `most` marks it gets one if it may. The one that lost its mark by
    /// that.
    pub(super) fn installed(&mut self, prefix: EidPrefix, now: Instant, most: usize) -> Option<EidPrefix> {
        let before = self.forget_gone(&prefix);
        let level = match before {
            Some((level, at)) if now.saturating_since(at) < MISSED => level.saturating_add(1).min(MAX_LEVEL),
            _ => 0,
        };
        let mut displaced = None;
        if self.marks.len() >= most {
            let first = self.order.first().copied()?;
            if level == 0 || first.0 > level || most == 0 {
                return None;
            }
            self.removed(&first.2);
            displaced = Some(first.2);
        }
        self.removed(&prefix);
        self.marks.insert(prefix, (level, now));
        self.order.insert((level, Reverse(now), prefix));
        displaced
    }

    /// Such an entry went because of its age, or to make room.
    pub(super) fn left(&mut self, prefix: EidPrefix, now: Instant, most: usize) {
        let level = self.removed(&prefix).unwrap_or(0);
        self.forget_gone(&prefix);
        self.gone.insert(prefix, (level, now));
        self.gone_order.insert((now, prefix));
        while self.gone.len() > most
            && let Some((_, oldest)) = self.gone_order.pop_first()
        {
            self.gone.remove(&oldest);
        }
    }

    /// Such an entry went for another reason, or is no longer one. How often it had proven itself.
    pub(super) fn removed(&mut self, prefix: &EidPrefix) -> Option<u8> {
        let (level, since) = self.marks.remove(prefix)?;
        self.order.remove(&(level, Reverse(since), *prefix));
        Some(level)
    }

    /// Takes marks back until there are at most `most`: from whom.
    pub(super) fn shrink(&mut self, most: usize) -> Vec<EidPrefix> {
        let mut lost = Vec::new();
        while self.marks.len() > most
            && let Some((_, _, prefix)) = self.order.first().copied()
        {
            self.removed(&prefix);
            lost.push(prefix);
        }
        lost
    }

    pub(super) fn is_marked(&self, prefix: &EidPrefix) -> bool {
        self.marks.contains_key(prefix)
    }

    /// Whether an entry that was asked for again `times` in a row, with no sign of its use, is so once more.
    pub(super) fn may_refresh(&self, prefix: &EidPrefix, times: u32) -> bool {
        self.marks.get(prefix).is_some_and(|(level, _)| times < REFRESHES << level)
    }

    fn forget_gone(&mut self, prefix: &EidPrefix) -> Option<(u8, Instant)> {
        let (level, at) = self.gone.remove(prefix)?;
        self.gone_order.remove(&(at, *prefix));
        Some((level, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(n: u32) -> EidPrefix {
        EidPrefix::from(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::from_bits(n << 8), 24))
    }

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn marks_are_bounded_and_go_to_those_that_were_missed() {
        let mut natives = Natives::default();
        for n in 0..10_000 {
            let now = at(u64::from(100 - n.min(4)));
            assert_eq!(natives.installed(prefix(n), now, 4), None);
            if n >= 4 {
                natives.left(prefix(n), now, 4);
            }
        }
        assert!((0..4).all(|n| natives.is_marked(&prefix(n))) && natives.marks.len() == 4);
        assert_eq!((natives.gone.len(), natives.gone_order.len()), (4, 4));
        // Missed at once: it takes the place of one that never was.
        assert_eq!(natives.installed(prefix(9_999), at(101), 4), Some(prefix(0)));
        assert!(natives.is_marked(&prefix(9_999)) && !natives.is_marked(&prefix(0)));
        // Missed long after: like a new one.
        assert_eq!(natives.installed(prefix(9_998), at(170), 4), None);
        assert!(!natives.is_marked(&prefix(9_998)));
        assert_eq!(natives.shrink(1).len(), 3);
        assert!(natives.is_marked(&prefix(9_999)), "it has proven itself");
        assert_eq!(natives.installed(prefix(3), at(200), 0), None);
        assert!(!natives.is_marked(&prefix(3)));
    }

    #[test]
    fn each_proof_doubles_the_refreshes_up_to_a_bound() {
        let mut natives = Natives::default();
        let allowed = |natives: &Natives| (0..1000).find(|n| !natives.may_refresh(&prefix(1), *n)).unwrap();
        let mut seen = Vec::new();
        for life in 0..8 {
            natives.installed(prefix(1), at(1000 * life + 1), 10);
            seen.push(allowed(&natives));
            natives.left(prefix(1), at(1000 * (life + 1)), 10);
        }
        assert_eq!(seen, [2, 4, 8, 16, 32, 64, 64, 64]);
    }
}

//! Destinations that are being resolved: one Map-Request each, retransmitted, then at rest.
//!
//! Owns: the table, its bound and its timers, and the nonces that replies must carry. Must not send anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::types::{Eid, EidPrefix, Instant, Nonce};

/// Why a destination is being resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A packet to it waits, or did.
    Miss,
    /// An entry of the map-cache is to be known anew.
    Refresh,
    /// Somebody there sent something, which may be forged: packets to it may follow.
    Expected,
}

/// A destination that is being resolved, or that rests after that failed.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What the Map-Request asks for: the destination itself, or the prefix of the entry to refresh.
    pub asked: EidPrefix,
    /// Source of the packet that missed; `None` for a refresh.
    pub source: Option<IpAddr>,
    /// The nonce that the Map-Reply must have.
    pub nonce: Nonce,
    /// Map-Requests sent.
    pub requests: u32,
    /// Who was asked last.
    pub map_resolver: Option<IpAddr>,
    /// Since when.
    pub started: Instant,
    /// Whether it rests: nothing is sent, and more packets to it are not worth a Map-Request.
    pub resting: bool,
    /// The next retransmission, or the end of the rest.
    pub wake: Instant,
    /// A packet to it was punted, so the data plane waits to hear of it.
    pub(crate) punted: bool,
    pub(crate) reason: Reason,
    /// Invoked by an SMR.
    pub(crate) smr_invoked: bool,
    /// Tries to send, successful or not.
    pub(crate) attempts: u32,
    /// When `map_resolver` was asked.
    pub(crate) sent: Instant,
}

impl Pending {
    /// Whether nobody waits for it, so that it may go to make room for another such one.
    fn is_expected(&self) -> bool {
        self.reason == Reason::Expected && !self.punted && !self.resting
    }
}

/// The table. Keyed by destination: the EID itself, or an EID that depends on the entry to refresh.
#[derive(Debug, Default)]
pub(crate) struct PendingTable {
    entries: BTreeMap<Eid, Pending>,
    by_nonce: BTreeMap<Nonce, Eid>,
    timers: BTreeSet<(Instant, Eid)>,
    resting: BTreeSet<(Instant, Eid)>,
    /// How many wait for each source of packets.
    sources: BTreeMap<IpAddr, usize>,
    /// Those that nobody waits for, each with when it was asked for first.
    expected: BTreeSet<(Instant, Eid)>,
    /// How many are entries of the map-cache to be known anew and don't rest.
    refreshes: usize,
}

impl PendingTable {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many destinations a source of packets has pending, those that rest included.
    pub(crate) fn of_source(&self, source: &IpAddr) -> usize {
        self.sources.get(source).copied().unwrap_or(0)
    }

    /// How many entries of the map-cache are being asked for anew, those that rest not included.
    pub(crate) fn refreshes(&self) -> usize {
        self.refreshes
    }

    /// How many nobody waits for, those that rest not included.
    pub(crate) fn expected(&self) -> usize {
        self.expected.len()
    }

    /// Of those, the one that has had most time to be answered.
    pub(crate) fn first_expected(&self) -> Option<Eid> {
        self.expected.first().map(|(_, eid)| *eid)
    }

    pub(crate) fn get(&self, eid: &Eid) -> Option<&Pending> {
        self.entries.get(eid)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Eid, &Pending)> {
        self.entries.iter()
    }

    pub(crate) fn by_nonce(&self, nonce: Nonce) -> Option<(Eid, &Pending)> {
        let eid = self.by_nonce.get(&nonce)?;
        Some((*eid, self.entries.get(eid)?))
    }

    pub(crate) fn insert(&mut self, eid: Eid, pending: Pending) {
        self.remove(&eid);
        self.timers.insert((pending.wake, eid));
        if pending.resting {
            self.resting.insert((pending.wake, eid));
        } else {
            self.by_nonce.insert(pending.nonce, eid);
        }
        if pending.is_expected() {
            self.expected.insert((pending.started, eid));
        }
        self.refreshes += usize::from(pending.reason == Reason::Refresh && !pending.resting);
        if let Some(source) = pending.source {
            *self.sources.entry(source).or_default() += 1;
        }
        self.entries.insert(eid, pending);
    }

    pub(crate) fn remove(&mut self, eid: &Eid) -> Option<Pending> {
        let pending = self.entries.remove(eid)?;
        self.timers.remove(&(pending.wake, *eid));
        self.resting.remove(&(pending.wake, *eid));
        self.by_nonce.remove(&pending.nonce);
        self.expected.remove(&(pending.started, *eid));
        self.refreshes -= usize::from(pending.reason == Reason::Refresh && !pending.resting);
        if let Some(source) = &pending.source
            && let Some(count) = self.sources.get_mut(source)
        {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(source);
            }
        }
        Some(pending)
    }

    /// The resting destination that would be let go first, to make room for one that doesn't rest.
    pub(crate) fn first_resting(&self) -> Option<Eid> {
        self.resting.first().map(|(_, eid)| *eid)
    }

    /// Takes out a destination whose timer is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Eid, Pending)> {
        let (_, eid) = self.timers.first().copied().filter(|(at, _)| *at <= now)?;
        self.remove(&eid).map(|pending| (eid, pending))
    }

    /// The destinations inside `prefix`.
    pub(crate) fn within(&self, prefix: &EidPrefix) -> Vec<Eid> {
        let (first, last) = (prefix.first(), Eid::new(prefix.iid, prefix.net.broadcast()));
        self.entries.range(first..=last).map(|(eid, _)| *eid).collect()
    }

    pub(crate) fn eids(&self) -> Vec<Eid> {
        self.entries.keys().copied().collect()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }
}

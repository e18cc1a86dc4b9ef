//! Which remote locators can be reached, and from which of our own.
//!
//! Owns: what probes and the underlay said of each way (a pair of our locator and a remote one), and the
//! verdict that follows: from where packets to a locator leave, and whether it is fit for use. When to probe
//! is said in [`super::probe`]. Must not send anything.
//!
//! A locator is up while any way to it is. Once a way to it is known to be down and none to be up, it is
//! down, although there may be ways that were not tried yet: another locator of the same site is the better
//! bet than another way to this one, and probes find out about the ways within a round trip. Where a site has
//! no locator that is up, its locators are used all the same, since what says that they are down may be
//! forged, or be a filter on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smallvec::SmallVec;

use crate::types::{EidPrefix, Family, Instant, Nonce, Rloc};

use super::database::LocalRlocs;

/// Our own locators that ways to a remote one are looked for from.
const MAX_SOURCES: usize = 8;
/// Remote locators that something is remembered of.
pub(super) const MAX_REMOTES: usize = 16_384;

/// What is known of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WayState {
    /// Nothing yet.
    #[default]
    Unprobed,
    /// The last probe was answered.
    Up,
    /// It doesn't lead there.
    Down(Cause),
}

/// Who said that a way is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Probes were not answered.
    Probes,
    /// The underlay, by an ICMP message, or the kernel, which has no route.
    Underlay,
    /// Packets there were not echoed, while others come from the site (RFC 9300 §10.1).
    Echo,
    /// Another xTR of the site found out.
    Peer,
}

/// The way from one of our own locators to a remote one.
#[derive(Clone, Debug)]
pub struct RlocWay {
    /// Our own locator.
    pub source: Rloc,
    /// What is known of it.
    pub state: WayState,
    /// Since when it is in this state.
    pub since: Instant,
    /// Smoothed round trip time of probes (RFC 6298 §2: an eighth of the weight is the last one's).
    pub rtt: Option<Duration>,
    /// Probes sent.
    pub sent: u64,
    /// Probes answered.
    pub answered: u64,
    /// When the last probe was sent.
    pub last_sent: Option<Instant>,
    /// When the last answer came.
    pub last_answered: Option<Instant>,
    /// Probes since the last answer.
    pub unanswered: u32,
    /// When something is to be done about it.
    pub(super) wake: Option<Instant>,
    /// Its turn has come by the rate limit: whatever is due is sent at `wake`.
    pub(super) reserved: bool,
    /// Probes that an answer may still come to.
    pub(super) outstanding: SmallVec<[Outstanding; 2]>,
    /// Until then, a probe's answer counts more than what the underlay says.
    pub(super) trusted_until: Option<Instant>,
}

/// A probe under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub(super) nonce: Nonce,
    pub(super) sent: Instant,
    /// Which EID-prefix it asked for.
    pub(super) asked: EidPrefix,
}

impl RlocWay {
    pub(super) fn new(source: Rloc, now: Instant) -> Self {
        Self {
            source,
            state: WayState::Unprobed,
            since: now,
            rtt: None,
            sent: 0,
            answered: 0,
            last_sent: None,
            last_answered: None,
            unanswered: 0,
            wake: None,
            reserved: false,
            outstanding: SmallVec::new(),
            trusted_until: None,
        }
    }

    /// Whether a probe waits for its answer.
    pub fn pending(&self) -> bool {
        self.unanswered > 0
    }

    pub(super) fn enter(&mut self, state: WayState, now: Instant) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}

/// From where packets to a locator leave, and whether it is fit for use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The source of packets.
    pub source: Rloc,
    /// Whether it is up as far as is known.
    pub up: bool,
}

/// A remote locator.
#[derive(Clone, Debug, Default)]
pub struct RemoteRloc {
    /// The ways to it that something is known of, in order of our locators' addresses.
    pub ways: SmallVec<[RlocWay; 1]>,
    /// It belongs to another xTR of our own site, and is for this prefix among others.
    pub site: Option<EidPrefix>,
    /// The verdict that was last acted on.
    pub(super) acted_on: Option<Verdict>,
    /// The map-cache entry that was asked for last.
    pub(super) cursor: Option<EidPrefix>,
    /// When the mapping system was asked whether there are other locators, as no way leads to this one.
    pub(super) asked_again: Option<Instant>,
}

impl RemoteRloc {
    /// The way from one of our locators.
    pub fn way(&self, source: &Rloc) -> Option<&RlocWay> {
        self.ways.iter().find(|way| way.source == *source)
    }

    pub(super) fn way_mut(&mut self, source: &Rloc) -> Option<&mut RlocWay> {
        self.ways.iter_mut().find(|way| way.source == *source)
    }

    pub(super) fn way_or_new(&mut self, source: Rloc, now: Instant) -> &mut RlocWay {
        let at = match self.ways.iter().position(|way| way.source >= source) {
            Some(at) if self.ways.get(at).is_some_and(|way| way.source == source) => at,
            at => {
                let at = at.unwrap_or(self.ways.len());
                self.ways.insert(at, RlocWay::new(source, now));
                at
            }
        };
        #[allow(clippy::indexing_slicing, reason = "found or inserted there just above")]
        &mut self.ways[at]
    }

    fn state(&self, source: &Rloc) -> WayState {
        self.way(source).map_or(WayState::Unprobed, |way| way.state)
    }

    /// What follows from the ways for `sources`, which are in order of preference and not empty.
    pub(super) fn verdict(&self, sources: &[Rloc]) -> Option<Verdict> {
        let first = *sources.first()?;
        let find = |wanted: fn(WayState) -> bool| sources.iter().copied().find(|s| wanted(self.state(s)));
        if let Some(source) = find(|state| state == WayState::Up) {
            return Some(Verdict { source, up: true });
        }
        if find(|state| matches!(state, WayState::Down(_))).is_none() {
            return Some(Verdict { source: first, up: true });
        }
        let source = find(|state| state == WayState::Unprobed).unwrap_or(first);
        Some(Verdict { source, up: false })
    }
}

/// Every remote locator that something is known of, or that is to be probed.
#[derive(Debug, Default)]
pub(crate) struct Reachability {
    pub(super) remotes: BTreeMap<Rloc, RemoteRloc>,
    /// Locators that came into use or went out of it, of which it isn't decided yet whether they are probed.
    pub(super) fresh: BTreeSet<Rloc>,
    /// Those in use that there was no room for.
    pub(super) refused: BTreeSet<Rloc>,
    /// Those whose verdict may have changed.
    pub(super) touched: BTreeSet<Rloc>,
    /// Of those that were forgotten although they are in use, the verdicts that were last acted on.
    pub(super) forgotten: BTreeMap<Rloc, Verdict>,
    /// Whether we had a locator of IPv4, and of IPv6, when ours changed last.
    pub(super) families: [bool; 2],
    /// What is to be done when: of a remote locator and one of ours.
    pub(super) timers: BTreeSet<(Instant, Rloc, Rloc)>,
    /// Whose answer a nonce belongs to: a remote locator, and one of ours.
    pub(super) nonces: BTreeMap<Nonce, (Rloc, Rloc)>,
    pub(super) prober: super::probe::Prober,
    /// What the site's other xTRs say.
    pub(super) hearsay: super::hearsay::Hearsay,
}

impl Reachability {
    /// The source for packets to `rloc`, and whether that is fit for use; `None` where we have no locator of
    /// its family that is up.
    pub(crate) fn verdict(&self, rloc: &Rloc, local: &LocalRlocs) -> Option<Verdict> {
        match self.remotes.get(rloc) {
            Some(remote) => remote.verdict(&sources(rloc, local)),
            None => Some(Verdict { source: local.of_family(Family::of(rloc))?, up: true }),
        }
    }

    pub(crate) fn get(&self, rloc: &Rloc) -> Option<&RemoteRloc> {
        self.remotes.get(rloc)
    }

    /// All of them, by address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Rloc, &RemoteRloc)> {
        self.remotes.iter()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// Has something done about a way at another time than it was going to be, or never.
    pub(super) fn set_wake(&mut self, rloc: Rloc, source: Rloc, wake: Option<Instant>) {
        let Some(way) = self.remotes.get_mut(&rloc).and_then(|remote| remote.way_mut(&source)) else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut way.wake, wake) {
            self.timers.remove(&(old, rloc, source));
        }
        if let Some(wake) = wake {
            self.timers.insert((wake, rloc, source));
        }
    }

    /// Forgets a remote locator, which makes room for another.
    pub(super) fn forget(&mut self, rloc: &Rloc) {
        let Some(remote) = self.remotes.remove(rloc) else { return };
        for way in &remote.ways {
            self.forget_way(rloc, way);
        }
        self.touched.remove(rloc);
        self.fresh.extend(self.refused.pop_first());
    }

    /// Forgets what is known of a remote locator that is in use, so that the verdict on it may be another.
    pub(super) fn reset(&mut self, rloc: &Rloc) {
        let Some(acted_on) = self.remotes.get(rloc).map(|remote| remote.acted_on) else { return };
        self.forget(rloc);
        self.forgotten.extend(acted_on.map(|verdict| (*rloc, verdict)));
        self.touched.insert(*rloc);
    }

    fn forget_way(&mut self, rloc: &Rloc, way: &RlocWay) {
        if let Some(wake) = way.wake {
            self.timers.remove(&(wake, *rloc, way.source));
        }
        for probe in &way.outstanding {
            self.nonces.remove(&probe.nonce);
        }
    }

    /// Forgets the ways from locators of ours that are no longer up: when they are back, much else may have
    /// changed.
    pub(super) fn forget_sources(&mut self, local: &LocalRlocs) {
        let rlocs: Vec<Rloc> = self.remotes.keys().copied().collect();
        for rloc in rlocs {
            let Some(remote) = self.remotes.get_mut(&rloc) else { continue };
            if remote.ways.iter().all(|way| local.contains(&way.source)) {
                continue;
            }
            let (kept, gone): (SmallVec<[RlocWay; 1]>, SmallVec<[RlocWay; 1]>) =
                std::mem::take(&mut remote.ways).into_iter().partition(|way| local.contains(&way.source));
            remote.ways = kept;
            for way in &gone {
                self.forget_way(&rloc, way);
            }
        }
    }
}

/// Our locators that packets to `rloc` can leave from, best first.
pub(super) fn sources(rloc: &Rloc, local: &LocalRlocs) -> SmallVec<[Rloc; MAX_SOURCES]> {
    let family = Family::of(rloc);
    local.all().iter().copied().filter(|source| Family::of(source) == family).take(MAX_SOURCES).collect()
}

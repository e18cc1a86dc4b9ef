//! One entry of the map-cache: what is known of an EID-prefix of another site, and of its use.
//!
//! Owns: what an entry says of itself. Must not know the other entries, nor what the data plane makes of it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::fib::{Site, SiteState, Stats};
use crate::types::{Action, Instant, Mapping, Rloc};

use super::install::Serial;
use super::use_order::Rank;

/// An entry is in use if a packet matched it within this time.
pub(in crate::proto::xtr) const IN_USE: Duration = Duration::from_secs(60);

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A Map-Reply that was asked for.
    MapReply,
    /// The reply to an RLOC-probe (RFC 9301 §7.1).
    Probe,
    /// A packet or message of the other side, not verified yet (RFC 9300 §9).
    Gleaned,
    /// Another xTR of the site, which had it from a Map-Reply ([`crate::proto::redundancy::sync`]).
    Synchronised,
    /// A snapshot of an earlier life of this router, not confirmed since.
    Snapshot,
    /// The configuration: never expires, is never thrown out or replaced.
    Static,
}

impl Source {
    /// Whether this router asked for it itself, and was answered.
    pub const fn is_solicited(self) -> bool {
        matches!(self, Self::MapReply | Self::Probe)
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As the Map-Reply said it.
    pub mapping: Mapping,
    /// When the entry appeared; refreshing it doesn't change this.
    pub installed: Instant,
    /// When the last Map-Reply for it came.
    pub refreshed: Instant,
    /// When it ends, unless it is refreshed.
    pub expires: Instant,
    /// Where it comes from.
    pub source: Source,
    /// Who answered: the source of the Map-Reply, where there was one, or the xTR of the site that told of
    /// it.
    pub responder: Option<IpAddr>,
    /// Counters of the entry, the same over all refreshes.
    pub stats: Arc<Stats>,
    /// Counters of each locator, in the mapping's order, the same over all refreshes.
    pub locator_stats: Vec<Arc<Stats>>,
    /// When a Map-Request for it was sent last because of an SMR or a send-map-request action.
    pub(crate) asked: Option<Instant>,
    /// Locators that the site's locator-status-bits say are down (RFC 9300 §10).
    pub down_by_status: BTreeSet<Rloc>,
    /// The site echoes nonces (RFC 9300 §10.1), said a Map-Reply of its own.
    pub echoes: bool,
    /// By which message another xTR of the site told it, and whether as its own.
    pub(crate) told: Option<(Serial, bool)>,
    /// What its packets said, the same over all refreshes.
    pub(super) site_state: Arc<SiteState>,
    /// Locators that are EIDs, so that packets to them would have to be encapsulated again, without end.
    pub(super) circular: Vec<Rloc>,
    pub(super) wake: Instant,
    /// The kernel was told to forward its packets natively …
    pub(super) native: bool,
    /// … or not to, although it does so with those of the entry around it.
    pub(super) exception: bool,
    /// How often in a row it was asked for again without a sign of its use.
    pub(super) blind: u32,
    /// Where it stands in the order in which entries are thrown out.
    pub(super) rank: Rank,
}

impl Entry {
    /// Whether a packet matched it within the last minute.
    pub fn in_use(&self, now: Instant) -> bool {
        self.stats.last_used().is_some_and(|used| now.saturating_since(used) < IN_USE)
    }

    /// What is known of the packets of the site, if `rloc` is a locator of it.
    pub(crate) fn site_state(&self, rloc: &Rloc) -> Option<&Arc<SiteState>> {
        let listed = self.mapping.locators.iter().any(|locator| locator.rloc == *rloc);
        listed.then_some(&self.site_state)
    }

    /// What the data plane is to know of it while any option of the header is on.
    pub(super) fn site(&self) -> Site {
        // What comes from there natively comes by any proxy-ITR, not from the proxy-ETRs that we send to.
        let locators = self.mapping.locators.iter().filter(|_| !self.mapping.is_by_proxy());
        Site {
            rlocs: locators.map(|locator| locator.rloc).collect(),
            version: self.mapping.version,
            echoes: self.echoes,
            state: Arc::clone(&self.site_state),
            ..Site::default()
        }
    }

    /// Whether the configuration made it.
    pub fn is_static(&self) -> bool {
        self.source == Source::Static
    }

    /// Whether packets may never go to this locator of it, since its address is an EID.
    pub fn is_circular(&self, rloc: &Rloc) -> bool {
        self.circular.contains(rloc)
    }

    /// Whether the kernel has been told to forward its packets natively.
    pub fn is_native(&self) -> bool {
        self.native
    }

    pub(super) fn wants_native(&self) -> bool {
        self.mapping.is_negative() && self.mapping.action == Action::NativelyForward
    }

    /// Its rank by what it was used for itself.
    pub(super) fn own_rank(&self) -> Rank {
        let used = self.stats.last_used();
        let proven = used.is_some() && !self.mapping.is_negative() && self.source != Source::Gleaned;
        Rank { proven, since: used.map_or(self.installed, |used| used.max(self.installed)) }
    }
}

//! The map-cache: what the mapping system said about other sites, until it expires or nobody uses it, and what the
//! configuration says of them.
//!
//! Owns: the entries and everything of them that reaches the FIB. Must not send messages; when to ask again is the
//! ITR's business ([`Wake`]). Which entry is thrown out first is [`use_order`]'s.

mod natives;
mod use_order;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::fib::{FibAction, FibUpdate, Path, Site, SiteState, Stats};
use crate::proto::context::{Context, is_unicast};
use crate::proto::eid_table::EidTable;
use crate::proto::stats::DropReason;
use smallvec::SmallVec;

use crate::types::{Action, Eid, EidPrefix, InstanceId, Instant, Locator, Mapping, Nonce, Rloc, Ttl};

use super::database::{Database, LocalRlocs};
use super::reachability::{Reachability, Verdict};
use natives::Natives;
use use_order::{Rank, TooMany, UseOrder};

/// Used where the sender leaves the time to live to us (RFC 9301 §5.4): as long as most sites say.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// Used where the configuration gives no limit.
pub(crate) const DEFAULT_LIMIT: usize = 100_000;
/// How long before its end an entry in use is asked for again, at most; a quarter of short lifetimes.
const REFRESH_LEAD: Duration = Duration::from_secs(30);
/// An entry is in use if a packet matched it within this time.
pub(super) const IN_USE: Duration = Duration::from_secs(60);
/// How long what was gleaned is used without being verified (RFC 9300 §9 recommends it).
pub(super) const GLEANED_TIME: Duration = Duration::from_secs(3);
/// EID-prefixes that are remembered to have no mapping any more, so that all of the site's xTRs hear of it.
const MAX_WITHDRAWN: usize = 1024;
/// Entries that may be gleaned at once: none of them takes another's place in a full cache.
const MAX_GLEANED: usize = 1024;
/// More specific entries that are looked at when a less specific one comes.
const MAX_NESTED: usize = 1024;
/// Of a full cache, entries that have not carried packets yet may have one in so many, whatever happens.
const SPARED_SHARE: usize = 8;
/// The same of natively-forward entries that are kept without a sign of their use.
const NATIVE_SHARE: usize = 8;
/// Where there are more idle entries than one turn may look at: when the next turn is.
const IDLE_PAUSE: Duration = Duration::from_millis(20);
/// Paths of an entry that the data plane chooses from: as many as there are locator-status-bits (RFC 9300 §5.3). Each
/// packet's choice looks at all of them, so that a record with 255 locators must not have its way.
pub(super) const MAX_PATHS: usize = 32;

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
    /// Who answered: the source of the Map-Reply, where there was one, or the xTR of the site that told of it.
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
    site_state: Arc<SiteState>,
    /// Locators that are EIDs, so that packets to them would have to be encapsulated again, without end.
    circular: Vec<Rloc>,
    wake: Instant,
    /// The kernel was told to forward its packets natively …
    native: bool,
    /// … or not to, although it does so with those of the entry around it.
    exception: bool,
    /// How often in a row it was asked for again without a sign of its use.
    blind: u32,
    /// Where it stands in the order in which entries are thrown out.
    rank: Rank,
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
    fn site(&self) -> Site {
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

    fn wants_native(&self) -> bool {
        self.mapping.is_negative() && self.mapping.action == Action::NativelyForward
    }

    /// Its rank by what it was used for itself.
    fn own_rank(&self) -> Rank {
        let used = self.stats.last_used();
        let proven = used.is_some() && !self.mapping.is_negative() && self.source != Source::Gleaned;
        Rank { proven, since: used.map_or(self.installed, |used| used.max(self.installed)) }
    }
}

/// What an entry is made of, beside its mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Learnt {
    pub(crate) source: Source,
    pub(crate) responder: Option<IpAddr>,
    /// How long it is valid, where its time to live does not say so, as it was learnt earlier.
    pub(crate) left: Option<Duration>,
    pub(crate) told: Option<Told>,
}

/// What another xTR of the site says of an entry beside its mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// How long it lasts.
    pub(crate) remaining: Duration,
    /// When the mapping system said it.
    pub(crate) since: Instant,
    /// By which message.
    pub(crate) serial: Serial,
    /// Whether that xTR had it by asking.
    pub(crate) own: bool,
}

/// Orders the messages of one xTR: when its session was proved, and the nonce within that.
pub(crate) type Serial = (Instant, Nonce);

/// What there is to tell the site's other xTRs.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Entries that Map-Replies made or refreshed; whether there is anything new about them beside their lifetime.
    pub(crate) learnt: BTreeMap<EidPrefix, bool>,
    /// EID-prefixes of which the mapping system says that they have no mapping of their own any more.
    pub(crate) gone: BTreeSet<EidPrefix>,
    /// Locators that can be reached, or no longer.
    pub(crate) rlocs: BTreeSet<Rloc>,
}

/// What [`MapCache::wake`] found due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The entry ends soon and is in use: it is time to ask again.
    Refresh(EidPrefix),
    /// Nothing for the ITR to do: the entry has ended and is gone, or is about to and not in use.
    Nothing,
}

/// How the cache is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Keeping {
    /// Most entries; 0 = [`DEFAULT_LIMIT`].
    pub(crate) limit: usize,
    /// An entry that has not been used for so long goes; zero = never.
    pub(crate) idle_timeout: Duration,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct MapCache {
    entries: EidTable<Entry>,
    timers: BTreeSet<(Instant, EidPrefix)>,
    order: UseOrder,
    /// The entries that use each RLOC.
    pub(super) rlocs: BTreeMap<Rloc, BTreeSet<EidPrefix>>,
    /// Which of them can be reached.
    pub(crate) reach: Reachability,
    keeping: Keeping,
    /// Not before this time are idle entries looked for.
    idle_pause: Instant,
    /// The entries that were gleaned and not verified yet.
    gleaned: BTreeSet<EidPrefix>,
    /// Kept where somebody reads it.
    pub(super) journal: Option<Journal>,
    /// EID-prefixes without a mapping of their own, and since when the mapping system says so; kept with the journal.
    pub(super) withdrawn: BTreeMap<EidPrefix, Instant>,
    /// Counts what was added, changed or removed.
    changes: u64,
    /// Those that are not thrown out.
    natives: Natives,
}

impl MapCache {
    pub(crate) fn new(keeping: Keeping) -> Self {
        Self {
            entries: EidTable::default(),
            timers: BTreeSet::new(),
            order: UseOrder::default(),
            rlocs: BTreeMap::new(),
            reach: Reachability::default(),
            keeping,
            idle_pause: Instant::ZERO,
            gleaned: BTreeSet::new(),
            journal: None,
            withdrawn: BTreeMap::new(),
            changes: 0,
            natives: Natives::default(),
        }
    }

    /// Takes in other limits and the static entries: those that are no longer configured go.
    pub(crate) fn configure(
        &mut self,
        cx: &mut Context,
        now: Instant,
        keeping: Keeping,
        statics: &[Mapping],
        database: &Database,
    ) {
        self.keeping = keeping;
        let kept: BTreeSet<EidPrefix> = statics.iter().map(|mapping| mapping.eid).collect();
        let gone: Vec<EidPrefix> = self
            .entries
            .iter()
            .filter(|(prefix, entry)| entry.is_static() && !kept.contains(prefix))
            .map(|(prefix, _)| prefix)
            .collect();
        for prefix in gone {
            self.remove(cx, &prefix);
        }
        let learnt = Learnt { source: Source::Static, responder: None, left: None, told: None };
        for mapping in statics {
            let unchanged = |e: &Entry| {
                let by_proxy = e.mapping.is_by_proxy() && mapping.is_negative();
                e.is_static()
                    && e.mapping.action == mapping.action
                    && (by_proxy || e.mapping.locators == mapping.locators)
            };
            if self.entries.get(&mapping.eid).is_some_and(unchanged) {
                continue;
            }
            // Whatever was learnt for the prefix gives way, with its counters, and so does what was inside it.
            self.remove(cx, &mapping.eid);
            self.install(cx, now, mapping.clone(), learnt, database);
            let inside = self.entries.strictly_within(&mapping.eid).filter(|(_, entry)| !entry.is_static());
            let inside: Vec<EidPrefix> = inside.map(|(prefix, _)| prefix).collect();
            for prefix in inside {
                if self.settled(&prefix).is_some() {
                    self.remove(cx, &prefix);
                }
            }
        }
        for prefix in self.natives.shrink(self.most_natives()) {
            self.put_in_order(&prefix);
        }
        while self.entries.len() > self.limit() && self.evict(cx, now, true) {}
    }

    /// The static entry that says what becomes of packets to `prefix`, whatever the mapping system says: the longest
    /// around it, unless what that says is to ask the mapping system.
    pub(crate) fn settled(&self, prefix: &EidPrefix) -> Option<EidPrefix> {
        let (around, entry) = self.entries.covering(prefix).filter(|(_, entry)| entry.is_static()).last()?;
        let asks = entry.mapping.is_negative() && entry.mapping.action == Action::SendMapRequest;
        (!asks).then_some(around)
    }

    /// Our own EID-prefixes, or those that this router is a proxy for, are others than before: so may be the locators
    /// that are EIDs. The entries that have others of these now.
    pub(crate) fn recheck_circular(&mut self, cx: &mut Context, database: &Database) -> Vec<EidPrefix> {
        let other = |(prefix, entry): (EidPrefix, &Entry)| {
            let circular = circular(&entry.mapping, database);
            (circular != entry.circular).then_some((prefix, circular))
        };
        let others: Vec<(EidPrefix, Vec<Rloc>)> = self.entries.iter().filter_map(other).collect();
        let mut changed = Vec::with_capacity(others.len());
        for (prefix, circular) in others {
            if let Some(entry) = self.entries.get_mut(&prefix) {
                entry.circular = circular;
            }
            if let Some(entry) = self.entries.get(&prefix) {
                self.publish(cx, prefix, entry, database.rlocs());
            }
            changed.push(prefix);
        }
        changed
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn limit(&self) -> usize {
        if self.keeping.limit == 0 { DEFAULT_LIMIT } else { self.keeping.limit }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EidPrefix, &Entry)> {
        self.entries.iter()
    }

    /// From the first entry after `prefix` on, or from the start.
    pub(crate) fn after(&self, prefix: Option<EidPrefix>) -> impl Iterator<Item = (EidPrefix, &Entry)> {
        let (start, rest) = match prefix {
            None => (Some(self.entries.iter()), None),
            Some(prefix) => (None, Some(self.entries.iter_after(prefix))),
        };
        start.into_iter().flatten().chain(rest.into_iter().flatten())
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn get(&self, prefix: &EidPrefix) -> Option<&Entry> {
        self.entries.get(prefix)
    }

    pub(crate) fn get_mut(&mut self, prefix: &EidPrefix) -> Option<&mut Entry> {
        self.entries.get_mut(prefix)
    }

    /// A Map-Request for an entry was sent, because of an SMR or what it says of itself.
    pub(crate) fn note_asked(&mut self, prefix: &EidPrefix, now: Instant) {
        if let Some(entry) = self.entries.get_mut(prefix) {
            entry.asked = Some(now);
        }
    }

    /// An EID of an entry that no more specific one has. Where there is none, or it takes long to find, the first.
    pub(crate) fn own_eid(&self, prefix: &EidPrefix) -> Eid {
        let mut own = prefix.first();
        for (inner, _) in self.entries.strictly_within(prefix).take(MAX_NESTED) {
            if inner.first() > own {
                break;
            }
            if inner.contains(&own) {
                match after(&inner).filter(|next| prefix.contains(next)) {
                    Some(next) => own = next,
                    None => return prefix.first(),
                }
            }
        }
        own
    }

    /// Has an entry that is not gone by then looked at again.
    pub(crate) fn wake_at(&mut self, prefix: &EidPrefix, at: Instant) {
        let Some(entry) = self.entries.get_mut(prefix).filter(|entry| !entry.is_static()) else { return };
        self.timers.remove(&(entry.wake, *prefix));
        entry.wake = at.min(entry.expires);
        self.timers.insert((entry.wake, *prefix));
    }

    pub(crate) fn longest(&self, eid: &Eid) -> Option<(EidPrefix, &Entry)> {
        self.entries.longest(eid)
    }

    /// Whether any entry has this locator.
    pub(crate) fn uses(&self, rloc: &Rloc) -> bool {
        self.rlocs.contains_key(rloc)
    }

    /// Adds or refreshes the entry of `mapping.eid`, unless there is a static one or no room. The time to live must
    /// not be 0. Whether it was done.
    pub(crate) fn install(
        &mut self,
        cx: &mut Context,
        now: Instant,
        mapping: Mapping,
        learnt: Learnt,
        database: &Database,
    ) -> bool {
        let prefix = mapping.eid;
        let is_static = learnt.source == Source::Static;
        if !is_static && let Some(fixed) = self.settled(&prefix).filter(|fixed| *fixed != prefix) {
            let detail = format!("{prefix} is inside {fixed}, which is configured");
            cx.drop_with(DropReason::ReplyStatic, None, detail);
            return false;
        }
        match self.entries.get(&prefix) {
            Some(old) if old.is_static() && !is_static => {
                cx.drop_with(DropReason::ReplyStatic, None, format!("{prefix} is configured"));
                return false;
            }
            Some(_) => {}
            None => {
                while self.entries.len() >= self.limit() {
                    if !self.evict(cx, now, learnt.told.is_none()) {
                        if learnt.told.is_none() {
                            cx.drop_with(DropReason::CacheFull, None, prefix.to_string());
                        }
                        return false;
                    }
                }
            }
        }
        let is_gleaned = learnt.source == Source::Gleaned;
        if !is_gleaned {
            self.withdrawn.remove(&prefix);
            // What is known for sure takes the place of what was gleaned (RFC 9300 §9).
            let inside: Vec<EidPrefix> =
                self.gleaned.iter().filter(|p| **p != prefix && prefix.covers(p)).copied().collect();
            for p in inside {
                self.remove(cx, &p);
            }
        }
        let lasts = mapping.ttl.duration().unwrap_or(DEFAULT_TTL);
        let left = learnt.told.map(|told| told.remaining).or(learnt.left);
        let mut expires = now + left.map_or(lasts, |left| left.min(lasts));
        if is_static {
            expires = Instant::FAR_FUTURE;
        } else if is_gleaned {
            expires = now + GLEANED_TIME;
        } else {
            // A less specific entry must not outlive the more specific ones inside it, or it would take over their
            // packets (RFC 9301 §5.5).
            for (_, inner) in self.entries.strictly_within(&prefix).take(MAX_NESTED) {
                expires = expires.min(inner.expires);
            }
        }
        let lifetime = expires.saturating_since(now);
        let lead = REFRESH_LEAD.min(lifetime / 4);
        let wake = match learnt.source {
            Source::Static | Source::Gleaned => expires,
            // Later than the one who had it from the mapping system, so that one of us asks again, not all.
            Source::Synchronised => expires - lead / 2,
            Source::MapReply | Source::Probe | Source::Snapshot => expires - lead,
        };

        let old = self.remove_quietly(&prefix);
        let was_native = old.as_ref().is_some_and(|old| old.wants_native() && !old.is_static());
        let blind = match &old {
            Some(old) if was_native && !old.in_use(now) => old.blind.saturating_add(1),
            _ => 0,
        };
        let locator_stats = mapping
            .locators
            .iter()
            .map(|locator| {
                let known = old.as_ref().and_then(|old| {
                    let at = old.mapping.locators.iter().position(|l| l.rloc == locator.rloc)?;
                    old.locator_stats.get(at).cloned()
                });
                known.unwrap_or_default()
            })
            .collect();
        for locator in &mapping.locators {
            self.rlocs.entry(locator.rloc).or_default().insert(prefix);
            self.reach.fresh.insert(locator.rloc);
        }
        // An answer to a probe mostly says what is known already: nothing that the data plane has to hear of.
        let news = old.as_ref().is_none_or(|old| !forwards_alike(&old.mapping, &mapping));
        if let Some(journal) = self.journal.as_mut().filter(|_| learnt.source.is_solicited()) {
            let news = news || learnt.source == Source::MapReply;
            *journal.learnt.entry(prefix).or_default() |= news;
            journal.gone.remove(&prefix);
        }
        let circular = circular(&mapping, database);
        let mut entry = Entry {
            mapping,
            installed: old.as_ref().map_or(now, |old| old.installed),
            refreshed: learnt.told.map_or(now, |told| told.since),
            expires,
            source: learnt.source,
            responder: learnt.responder,
            told: learnt.told.map(|told| (told.serial, told.own)),
            stats: old.as_ref().map(|old| Arc::clone(&old.stats)).unwrap_or_default(),
            locator_stats,
            asked: old.as_ref().and_then(|old| old.asked),
            down_by_status: old.as_ref().map(|old| old.down_by_status.clone()).unwrap_or_default(),
            echoes: old.as_ref().is_some_and(|old| old.echoes),
            site_state: old.as_ref().map(|old| Arc::clone(&old.site_state)).unwrap_or_default(),
            circular,
            wake,
            native: old.as_ref().is_some_and(|old| old.native),
            exception: old.as_ref().is_some_and(|old| old.exception),
            blind,
            rank: Rank { proven: false, since: now },
        };
        if news {
            self.publish(cx, prefix, &entry, database.rlocs());
        }
        let native = entry.wants_native() && !is_static;
        let displaced = match (was_native, native) {
            (false, true) if learnt.told.is_none() => {
                self.natives.installed(prefix, now, self.most_natives())
            }
            (_, true) => None,
            (_, false) => {
                self.natives.removed(&prefix);
                None
            }
        };
        if !is_static {
            entry.rank = entry.own_rank();
            if !self.natives.is_marked(&prefix) {
                self.order.insert(prefix, entry.rank);
            }
            self.timers.insert((wake, prefix));
        }
        if is_gleaned {
            self.gleaned.insert(prefix);
        }
        self.entries.insert(prefix, entry);
        self.changes += 1;
        if let Some(displaced) = displaced {
            self.put_in_order(&displaced);
        }
        self.update_natives(cx, &prefix);
        true
    }

    /// Uses `rloc` for packets to `eid`, of which nothing is known, until that is verified, but for three seconds at most
    /// (RFC 9300 §9).
    pub(crate) fn glean(
        &mut self,
        cx: &mut Context,
        now: Instant,
        eid: Eid,
        rloc: Rloc,
        database: &Database,
    ) {
        let local = database.rlocs();
        let usable = is_unicast(&rloc) && !local.contains(&rloc) && local.reaches(&rloc);
        if !usable || self.gleaned.len() >= MAX_GLEANED || self.entries.len() >= self.limit() {
            return;
        }
        let mapping = Mapping {
            ttl: Ttl(1),
            // All of the best priority, with a weight of zero.
            locators: vec![Locator::new(rloc, 0, 0)],
            ..Mapping::negative(eid.to_prefix(), Ttl(1), Action::NoAction)
        };
        let learnt = Learnt { source: Source::Gleaned, responder: None, left: None, told: None };
        self.install(cx, now, mapping, learnt, database);
    }

    /// Gives an entry other locators. Nothing else of it changes.
    pub(crate) fn set_locators(
        &mut self,
        cx: &mut Context,
        prefix: &EidPrefix,
        locators: Vec<Locator>,
        database: &Database,
    ) {
        let Some(entry) = self.entries.get_mut(prefix) else { return };
        self.changes += 1;
        for old in &entry.mapping.locators {
            if let Some(users) = self.rlocs.get_mut(&old.rloc) {
                users.remove(prefix);
                if users.is_empty() {
                    self.rlocs.remove(&old.rloc);
                    self.reach.fresh.insert(old.rloc);
                }
            }
        }
        let known = |rloc: &Rloc| {
            let at = entry.mapping.locators.iter().position(|l| l.rloc == *rloc)?;
            entry.locator_stats.get(at).cloned()
        };
        let stats = locators.iter().map(|locator| known(&locator.rloc).unwrap_or_default()).collect();
        for locator in &locators {
            self.rlocs.entry(locator.rloc).or_default().insert(*prefix);
            self.reach.fresh.insert(locator.rloc);
        }
        entry.mapping.locators = locators;
        entry.circular = circular(&entry.mapping, database);
        entry.locator_stats = stats;
        if let Some(entry) = self.entries.get(prefix) {
            self.publish(cx, *prefix, entry, database.rlocs());
            if !entry.wants_native() && self.natives.removed(prefix).is_some() {
                self.put_in_order(prefix);
            }
        }
        self.update_natives(cx, prefix);
    }

    /// Removes the entry of exactly `prefix`; whether there was one.
    pub(crate) fn remove(&mut self, cx: &mut Context, prefix: &EidPrefix) -> bool {
        let Some(entry) = self.remove_quietly(prefix) else { return false };
        self.natives.removed(prefix);
        cx.fib(FibUpdate::Remove { prefix: *prefix });
        if entry.native {
            cx.native(*prefix, false);
        }
        self.update_natives(cx, prefix);
        if entry.exception {
            cx.native_exception(*prefix, false);
        }
        true
    }

    /// Removes the entries that contain `eid` and are more specific than `prefix`: they would hide a newer answer.
    pub(crate) fn remove_hiding(&mut self, cx: &mut Context, now: Instant, eid: &Eid, prefix: &EidPrefix) {
        let hiding: Vec<EidPrefix> = self
            .entries
            .covering(&eid.to_prefix())
            .filter(|(p, entry)| p.len() > prefix.len() && !entry.is_static())
            .map(|(p, _)| p)
            .collect();
        for p in hiding {
            self.remove(cx, &p);
            self.note_gone(p, now);
        }
    }

    /// The mapping system says that there is no mapping of exactly `prefix` any more.
    pub(super) fn note_gone(&mut self, prefix: EidPrefix, now: Instant) {
        if let Some(journal) = &mut self.journal {
            journal.learnt.remove(&prefix);
            journal.gone.insert(prefix);
            self.note_withdrawn(prefix, now);
        }
    }

    /// The mapping system said at `since` that there is no mapping of exactly `prefix`.
    pub(super) fn note_withdrawn(&mut self, prefix: EidPrefix, since: Instant) {
        if self.withdrawn.len() >= MAX_WITHDRAWN
            && let Some(oldest) = self.withdrawn.iter().min_by_key(|(_, at)| **at).map(|(p, _)| *p)
        {
            self.withdrawn.remove(&oldest);
        }
        self.withdrawn.insert(prefix, since);
    }

    /// Removes `prefix` and everything inside it.
    pub(crate) fn remove_within(&mut self, cx: &mut Context, prefix: &EidPrefix) {
        let inside: Vec<EidPrefix> = self.entries.within(prefix).map(|(p, _)| p).collect();
        for p in inside {
            self.remove(cx, &p);
        }
    }

    /// Removes everything that was learnt.
    pub(crate) fn clear(&mut self, cx: &mut Context) {
        let all: Vec<EidPrefix> =
            self.entries.iter().filter(|(_, e)| !e.is_static()).map(|(p, _)| p).collect();
        for p in all {
            self.remove(cx, &p);
        }
    }

    /// Removes everything.
    pub(crate) fn stop(&mut self, cx: &mut Context) {
        let all: Vec<EidPrefix> = self.entries.iter().map(|(p, _)| p).collect();
        for p in all {
            self.remove(cx, &p);
        }
    }

    /// Publishes every entry again, as our own locators have changed, or what the data plane wants to know.
    pub(crate) fn republish(&self, cx: &mut Context, local: &LocalRlocs) {
        for (prefix, entry) in self.entries.iter() {
            if !entry.mapping.is_negative() || cx.options.any() {
                self.publish(cx, prefix, entry, local);
            }
        }
    }

    /// The site of an entry said which of its locators are down.
    pub(crate) fn set_down_by_status(
        &mut self,
        cx: &mut Context,
        prefix: &EidPrefix,
        down: BTreeSet<Rloc>,
        local: &LocalRlocs,
    ) {
        let Some(entry) = self.entries.get_mut(prefix) else { return };
        entry.down_by_status = down;
        if let Some(entry) = self.entries.get(prefix) {
            self.publish(cx, *prefix, entry, local);
        }
    }

    /// Nothing that sites said of their locators counts any more.
    pub(crate) fn all_up(&mut self, cx: &mut Context, local: &LocalRlocs) {
        let held: Vec<EidPrefix> =
            self.entries.iter().filter(|(_, e)| !e.down_by_status.is_empty()).map(|(p, _)| p).collect();
        for prefix in held {
            self.set_down_by_status(cx, &prefix, BTreeSet::new(), local);
        }
    }

    /// The site of an entry says whether it echoes nonces.
    pub(crate) fn set_echoes(&mut self, cx: &mut Context, prefix: &EidPrefix, echoes: bool) {
        let Some(entry) = self.entries.get_mut(prefix).filter(|entry| entry.echoes != echoes) else { return };
        entry.echoes = echoes;
        if cx.options.any() {
            cx.fib(FibUpdate::Site { prefix: *prefix, site: Arc::new(entry.site()) });
        }
    }

    pub(crate) fn is_down(&self, rloc: &Rloc, local: &LocalRlocs) -> bool {
        self.reach.verdict(rloc, local).is_some_and(|verdict| !verdict.up)
    }

    /// Publishes again the entries that have this locator.
    pub(super) fn republish_users(&self, cx: &mut Context, rloc: &Rloc, local: &LocalRlocs) {
        for prefix in self.rlocs.get(rloc).into_iter().flatten() {
            if let Some(entry) = self.entries.get(prefix) {
                self.publish(cx, *prefix, entry, local);
            }
        }
    }

    fn publish(&self, cx: &mut Context, prefix: EidPrefix, entry: &Entry, local: &LocalRlocs) {
        let action = action(entry, local, &self.reach);
        cx.fib(FibUpdate::Set { prefix, action, stats: Arc::clone(&entry.stats) });
        if cx.options.any() {
            cx.fib(FibUpdate::Site { prefix, site: Arc::new(entry.site()) });
        }
    }

    /// Handles one timer that is due, if there is one.
    pub(crate) fn wake(&mut self, cx: &mut Context, now: Instant) -> Option<Wake> {
        let (_, prefix) = self.timers.first().copied().filter(|(at, _)| *at <= now)?;
        self.timers.pop_first();
        let Some(entry) = self.entries.get_mut(&prefix) else { return Some(Wake::Nothing) };
        if entry.expires <= now {
            self.note_native(&prefix, now);
            self.remove(cx, &prefix);
            return Some(Wake::Nothing);
        }
        entry.wake = entry.expires;
        let wanted = entry.in_use(now) || self.natives.may_refresh(&prefix, entry.blind);
        self.timers.insert((entry.expires, prefix));
        Some(if wanted { Wake::Refresh(prefix) } else { Wake::Nothing })
    }

    /// How many natively-forward entries are kept without a sign of their use.
    fn most_natives(&self) -> usize {
        self.limit() / NATIVE_SHARE
    }

    /// An entry is about to go because of its age, or to make room.
    fn note_native(&mut self, prefix: &EidPrefix, now: Instant) {
        if self.entries.get(prefix).is_some_and(|entry| entry.wants_native() && !entry.is_static()) {
            self.natives.left(*prefix, now, self.most_natives());
        }
    }

    /// An entry that could not be thrown out so far can be from now on.
    fn put_in_order(&mut self, prefix: &EidPrefix) {
        if let Some(entry) = self.entries.get_mut(prefix) {
            entry.rank = entry.own_rank();
            self.order.insert(*prefix, entry.rank);
        }
    }

    /// Removes entries that nobody has used for the configured time. A set of overlapping entries goes as a whole: a
    /// less specific one alone would take over the packets of those inside it (RFC 9301 §5.5).
    pub(crate) fn sweep(&mut self, cx: &mut Context, now: Instant) {
        let timeout = self.keeping.idle_timeout;
        if timeout.is_zero() || now < self.idle_pause {
            return;
        }
        let before = now - timeout;
        loop {
            let entries = &mut self.entries;
            match self.order.idle(before, |prefix| look(entries, prefix, now)) {
                Ok(Some(prefix)) => {
                    self.remove_around(cx, now, &prefix, DropReason::CacheIdle);
                }
                Ok(None) => return,
                Err(TooMany) => {
                    self.idle_pause = now + IDLE_PAUSE;
                    return;
                }
            }
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let timers = self.timers.first().map(|(at, _)| *at);
        let timeout = self.keeping.idle_timeout;
        let idle = self.order.next_idle(timeout).filter(|_| !timeout.is_zero());
        let idle = idle.map(|at| at.max(self.idle_pause));
        timers.into_iter().chain(idle).chain(self.reach.next()).min()
    }

    /// The locators of entries that packets were sent to within the last minute, with the entry's prefix.
    pub(crate) fn correspondents(&self, now: Instant) -> impl Iterator<Item = (EidPrefix, Rloc)> {
        self.entries
            .iter()
            .filter(move |(_, entry)| entry.in_use(now))
            .flat_map(|(prefix, entry)| entry.mapping.locators.iter().map(move |l| (prefix, l.rloc)))
    }

    /// The entries that an SMR for `prefix` is about: the one that covers it, and those inside it, `most` at most.
    pub(crate) fn about(&self, prefix: &EidPrefix, most: usize) -> Vec<EidPrefix> {
        let covering = self.entries.longest_covering(prefix).map(|(p, _)| p);
        covering.into_iter().chain(self.entries.strictly_within(prefix).map(|(p, _)| p)).take(most).collect()
    }

    /// Takes the entry out of all tables, telling nobody.
    fn remove_quietly(&mut self, prefix: &EidPrefix) -> Option<Entry> {
        let entry = self.entries.remove(prefix)?;
        self.changes += 1;
        self.gleaned.remove(prefix);
        self.timers.remove(&(entry.wake, *prefix));
        self.order.remove(*prefix, entry.rank);
        for locator in &entry.mapping.locators {
            if let Some(users) = self.rlocs.get_mut(&locator.rloc) {
                users.remove(prefix);
                if users.is_empty() {
                    self.rlocs.remove(&locator.rloc);
                    self.reach.fresh.insert(locator.rloc);
                }
            }
        }
        Some(entry)
    }

    /// Makes room: whether it could. Only with `any` at the cost of an entry that has carried packets: what another
    /// router of the site may need displaces nothing that this one does.
    fn evict(&mut self, cx: &mut Context, now: Instant, any: bool) -> bool {
        let spared = self.limit() / SPARED_SHARE;
        let entries = &mut self.entries;
        match self.order.victim(spared, |prefix| look(entries, prefix, Instant::ZERO)) {
            Some(prefix) if any || !entries.get(&prefix).is_some_and(|entry| entry.rank.proven) => {
                self.remove_around(cx, now, &prefix, DropReason::CacheEvicted)
            }
            Some(_) | None => false,
        }
    }

    /// Removes an entry and the less specific ones around it, and counts them.
    fn remove_around(
        &mut self,
        cx: &mut Context,
        now: Instant,
        prefix: &EidPrefix,
        reason: DropReason,
    ) -> bool {
        let around: Vec<EidPrefix> =
            self.entries.covering(prefix).filter(|(_, e)| !e.is_static()).map(|(p, _)| p).collect();
        for p in &around {
            self.note_native(p, now);
            self.remove(cx, p);
            cx.statistics.count_drop(reason);
        }
        !around.is_empty()
    }

    /// The kernel forwards natively what lies in a natively-forward entry, and must be told of the exceptions inside it,
    /// which it would not know of. Brings `prefix`, which was added, changed or removed, and the entries right inside it
    /// in line with that.
    fn update_natives(&mut self, cx: &mut Context, prefix: &EidPrefix) {
        let outside = self.entries.covering(prefix).filter(|(p, _)| p != prefix).last();
        let outside = outside.is_some_and(|(_, entry)| entry.wants_native());
        let this = self.entries.get(prefix).map(Entry::wants_native);
        // What is right inside: not inside something else that is.
        let mut right_inside: Vec<EidPrefix> = Vec::new();
        for (inner, _) in self.entries.strictly_within(prefix) {
            if right_inside.last().is_none_or(|last| !last.covers(&inner)) {
                right_inside.push(inner);
            }
        }
        for inner in right_inside {
            self.set_routed(cx, &inner, this.unwrap_or(outside));
        }
        self.set_routed(cx, prefix, outside);
    }

    /// Tells the kernel about one entry, which is inside a natively-forward one or not.
    fn set_routed(&mut self, cx: &mut Context, prefix: &EidPrefix, inside_native: bool) {
        let Some(entry) = self.entries.get_mut(prefix) else { return };
        let native = entry.wants_native();
        let exception = inside_native && !native;
        if entry.exception != exception {
            entry.exception = exception;
            cx.native_exception(*prefix, exception);
        }
        if entry.native != native {
            entry.native = native;
            cx.native(*prefix, native);
        }
    }
}

/// The rank that an entry has by now, which it keeps. An entry inside another goes no sooner than that one. What the
/// kernel forwards natively may be in use without our knowing, so that until it expires it is not idle: `now`.
fn look(entries: &mut EidTable<Entry>, prefix: &EidPrefix, now: Instant) -> Option<Rank> {
    let mut rank = entries.get(prefix)?.own_rank();
    for (_, around) in entries.covering(prefix) {
        let theirs = around.own_rank();
        rank.proven |= theirs.proven;
        rank.since = rank.since.max(theirs.since);
        if around.native {
            rank.since = rank.since.max(now);
        }
    }
    entries.get_mut(prefix)?.rank = rank;
    Some(rank)
}

/// The EID after the last one of a prefix.
fn after(prefix: &EidPrefix) -> Option<Eid> {
    let addr = match prefix.net.broadcast() {
        IpAddr::V4(last) => IpAddr::V4(last.to_bits().checked_add(1)?.into()),
        IpAddr::V6(last) => IpAddr::V6(last.to_bits().checked_add(1)?.into()),
    };
    Some(Eid::new(prefix.iid, addr))
}

/// The locators of a mapping that are EIDs.
fn circular(mapping: &Mapping, database: &Database) -> Vec<Rloc> {
    mapping.locators.iter().map(|l| l.rloc).filter(|rloc| is_circular(mapping, rloc, database)).collect()
}

/// Whether a locator is an EID: of this site, of one that this router is a proxy-ITR for, or of the very EID-prefix that
/// it is a locator of. Of other instances the EIDs are no addresses of the underlay. A default mapping covers all locators
/// and means none; what is natively forwarded is no EID-prefix at all, so that a proxy-ETR may well be in it.
fn is_circular(mapping: &Mapping, rloc: &Rloc, database: &Database) -> bool {
    let eid = Eid::new(InstanceId::DEFAULT, *rloc);
    let own = mapping.eid.contains(&eid) && !mapping.eid.is_empty() && !mapping.is_by_proxy();
    database.attracts(&eid) || own
}

/// Whether the data plane does the same with packets of both.
fn forwards_alike(a: &Mapping, b: &Mapping) -> bool {
    let key = |l: &Locator| (l.rloc, l.priority, l.weight, l.reachable);
    !a.is_negative()
        && (a.action, a.version) == (b.action, b.version)
        && a.locators.iter().map(key).eq(b.locators.iter().map(key))
}

/// What the data plane does with packets of this entry.
fn action(entry: &Entry, local: &LocalRlocs, reach: &Reachability) -> FibAction {
    if entry.mapping.is_negative() {
        return FibAction::Negative(match entry.mapping.action {
            // Nowhere to send it.
            Action::NoAction => Action::Drop,
            action => action,
        });
    }
    let mut any_up = false;
    let mut paths: SmallVec<[(Path, bool); 4]> = entry
        .mapping
        .locators
        .iter()
        .zip(&entry.locator_stats)
        .enumerate()
        // The same locator again would have its share twice.
        .filter(|(at, (l, _))| !entry.mapping.locators.iter().take(*at).any(|earlier| earlier.rloc == l.rloc))
        .map(|(_, both)| both)
        .filter(|(locator, _)| {
            let rloc = &locator.rloc;
            locator.usable() && is_unicast(rloc) && !local.contains(rloc) && !entry.is_circular(rloc)
        })
        .filter_map(|(locator, stats)| {
            let Verdict { source, up } = reach.verdict(&locator.rloc, local)?;
            let up = up && !entry.down_by_status.contains(&locator.rloc);
            any_up |= up;
            let path = Path {
                rloc: locator.rloc,
                source,
                priority: locator.priority,
                weight: locator.weight,
                stats: Arc::clone(stats),
            };
            Some((path, up))
        })
        .collect();
    // As if the priority of those that are down were 255 (RFC 9301 §7); but where all are, they are used all the same.
    paths.retain(|(_, up)| *up || !any_up);
    let mut paths: Vec<Path> = paths.into_iter().map(|(path, _)| path).collect();
    if paths.len() > MAX_PATHS {
        paths.sort_by_key(|path| path.priority);
        paths.truncate(MAX_PATHS);
    }
    if paths.is_empty() { FibAction::Negative(Action::Drop) } else { FibAction::Forward(paths) }
}

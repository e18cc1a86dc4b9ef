//! The map-cache: what the mapping system said about other sites, until it expires.
//!
//! Owns: the entries and everything of them that reaches the FIB. Must not send messages; when to ask again is the
//! ITR's business ([`Wake`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::fib::{FibAction, FibUpdate, Path, Site, SiteState, Stats};
use crate::proto::context::{Context, is_unicast};
use crate::proto::eid_table::EidTable;
use crate::proto::stats::DropReason;
use smallvec::SmallVec;

use crate::types::{Action, Eid, EidPrefix, Instant, Locator, Mapping, Rloc};

use super::database::LocalRlocs;
use super::reachability::{Reachability, Verdict};

/// Used where the sender leaves the time to live to us (RFC 9301 §5.4): as long as most sites say.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// Used where the configuration gives no limit.
pub(crate) const DEFAULT_LIMIT: usize = 100_000;
/// How long before its end an entry in use is asked for again, at most; a quarter of short lifetimes.
const REFRESH_LEAD: Duration = Duration::from_secs(30);
/// An entry is in use if a packet matched it within this time.
const IN_USE: Duration = Duration::from_secs(60);
/// More specific entries that are looked at when a less specific one comes.
const MAX_NESTED: usize = 1024;

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
    /// Who answered: the source of the Map-Reply.
    pub responder: IpAddr,
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
    /// What its packets said, the same over all refreshes.
    site_state: Arc<SiteState>,
    wake: Instant,
    /// The kernel was told to forward its packets natively …
    native: bool,
    /// … or not to, although it does so with those of the entry around it.
    exception: bool,
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

    fn wants_native(&self) -> bool {
        self.mapping.is_negative() && self.mapping.action == Action::NativelyForward
    }
}

/// What [`MapCache::wake`] found due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The entry ends soon and is in use: it is time to ask again.
    Refresh(EidPrefix),
    /// Nothing for the ITR to do: the entry has ended and is gone, or is about to and not in use.
    Nothing,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct MapCache {
    entries: EidTable<Entry>,
    timers: BTreeSet<(Instant, EidPrefix)>,
    /// The entries that use each RLOC.
    pub(super) rlocs: BTreeMap<Rloc, BTreeSet<EidPrefix>>,
    /// Which of them can be reached.
    pub(crate) reach: Reachability,
    limit: usize,
}

impl MapCache {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: EidTable::default(),
            timers: BTreeSet::new(),
            rlocs: BTreeMap::new(),
            reach: Reachability::default(),
            limit: or_default(limit),
        }
    }

    pub(crate) fn set_limit(&mut self, cx: &mut Context, limit: usize) {
        self.limit = or_default(limit);
        while self.entries.len() > self.limit {
            self.evict(cx);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EidPrefix, &Entry)> {
        self.entries.iter()
    }

    pub(crate) fn get(&self, prefix: &EidPrefix) -> Option<&Entry> {
        self.entries.get(prefix)
    }

    pub(crate) fn get_mut(&mut self, prefix: &EidPrefix) -> Option<&mut Entry> {
        self.entries.get_mut(prefix)
    }

    pub(crate) fn longest(&self, eid: &Eid) -> Option<(EidPrefix, &Entry)> {
        self.entries.longest(eid)
    }

    /// Whether any entry has this locator.
    pub(crate) fn uses(&self, rloc: &Rloc) -> bool {
        self.rlocs.contains_key(rloc)
    }

    /// Adds or refreshes the entry of `mapping.eid`. The time to live must not be 0.
    pub(crate) fn install(
        &mut self,
        cx: &mut Context,
        now: Instant,
        mapping: Mapping,
        responder: IpAddr,
        local: &LocalRlocs,
    ) {
        let prefix = mapping.eid;
        if self.entries.get(&prefix).is_none() {
            while self.entries.len() >= self.limit {
                self.evict(cx);
            }
        }
        let mut expires = now + mapping.ttl.duration().unwrap_or(DEFAULT_TTL);
        // A less specific entry must not outlive the more specific ones inside it, or it would take over their
        // packets (RFC 9301 §5.5).
        for (_, inner) in self.entries.strictly_within(&prefix).take(MAX_NESTED) {
            expires = expires.min(inner.expires);
        }
        let lifetime = expires.saturating_since(now);
        let wake = expires - REFRESH_LEAD.min(lifetime / 4);

        let old = self.remove_quietly(&prefix);
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
        let entry = Entry {
            mapping,
            installed: old.as_ref().map_or(now, |old| old.installed),
            refreshed: now,
            expires,
            responder,
            stats: old.as_ref().map(|old| Arc::clone(&old.stats)).unwrap_or_default(),
            locator_stats,
            asked: old.as_ref().and_then(|old| old.asked),
            down_by_status: old.as_ref().map(|old| old.down_by_status.clone()).unwrap_or_default(),
            echoes: old.as_ref().is_some_and(|old| old.echoes),
            site_state: old.as_ref().map(|old| Arc::clone(&old.site_state)).unwrap_or_default(),
            wake,
            native: old.as_ref().is_some_and(|old| old.native),
            exception: old.as_ref().is_some_and(|old| old.exception),
        };
        if news {
            self.publish(cx, prefix, &entry, local);
        }
        self.timers.insert((wake, prefix));
        self.entries.insert(prefix, entry);
        self.update_natives(cx, &prefix);
    }

    /// Gives an entry other locators. Nothing else of it changes.
    pub(crate) fn set_locators(
        &mut self,
        cx: &mut Context,
        prefix: &EidPrefix,
        locators: Vec<Locator>,
        local: &LocalRlocs,
    ) {
        let Some(entry) = self.entries.get_mut(prefix) else { return };
        for old in &entry.mapping.locators {
            if let Some(users) = self.rlocs.get_mut(&old.rloc) {
                users.remove(prefix);
                if users.is_empty() {
                    self.rlocs.remove(&old.rloc);
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
        entry.locator_stats = stats;
        if let Some(entry) = self.entries.get(prefix) {
            self.publish(cx, *prefix, entry, local);
        }
        self.update_natives(cx, prefix);
    }

    /// Removes the entry of exactly `prefix`; whether there was one.
    pub(crate) fn remove(&mut self, cx: &mut Context, prefix: &EidPrefix) -> bool {
        let Some(entry) = self.remove_quietly(prefix) else { return false };
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
    pub(crate) fn remove_hiding(&mut self, cx: &mut Context, eid: &Eid, prefix: &EidPrefix) {
        let hiding: Vec<EidPrefix> = self
            .entries
            .covering(&eid.to_prefix())
            .map(|(p, _)| p)
            .filter(|p| p.len() > prefix.len())
            .collect();
        for p in hiding {
            self.remove(cx, &p);
        }
    }

    /// Removes `prefix` and everything inside it.
    pub(crate) fn remove_within(&mut self, cx: &mut Context, prefix: &EidPrefix) {
        let inside: Vec<EidPrefix> = self.entries.within(prefix).map(|(p, _)| p).collect();
        for p in inside {
            self.remove(cx, &p);
        }
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self, cx: &mut Context) {
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
            self.remove(cx, &prefix);
            return Some(Wake::Nothing);
        }
        entry.wake = entry.expires;
        let in_use = entry.in_use(now);
        self.timers.insert((entry.expires, prefix));
        Some(if in_use { Wake::Refresh(prefix) } else { Wake::Nothing })
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let timers = self.timers.first().map(|(at, _)| *at);
        timers.into_iter().chain(self.reach.next()).min()
    }

    /// Takes the entry out of all tables, telling nobody.
    fn remove_quietly(&mut self, prefix: &EidPrefix) -> Option<Entry> {
        let entry = self.entries.remove(prefix)?;
        self.timers.remove(&(entry.wake, *prefix));
        for locator in &entry.mapping.locators {
            if let Some(users) = self.rlocs.get_mut(&locator.rloc) {
                users.remove(prefix);
                if users.is_empty() {
                    self.rlocs.remove(&locator.rloc);
                }
            }
        }
        Some(entry)
    }

    /// Throws out the least recently used entries: a 64th of the cache at once, so that finding them costs each new
    /// entry a look at 64 others and not at all.
    fn evict(&mut self, cx: &mut Context) {
        let mut by_use: Vec<(Instant, EidPrefix)> = self
            .entries
            .iter()
            .map(|(prefix, entry)| {
                (entry.stats.last_used().map_or(entry.refreshed, |used| used.max(entry.installed)), prefix)
            })
            .collect();
        let batch = (by_use.len() / 64).max(1);
        if batch < by_use.len() {
            by_use.select_nth_unstable(batch);
            by_use.truncate(batch);
        }
        by_use.sort_unstable();
        for (_, prefix) in by_use {
            self.remove(cx, &prefix);
            cx.statistics.count_drop(DropReason::CacheEvicted);
        }
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

fn or_default(limit: usize) -> usize {
    if limit == 0 { DEFAULT_LIMIT } else { limit }
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
        .filter(|(locator, _)| {
            locator.usable() && is_unicast(&locator.rloc) && !local.contains(&locator.rloc)
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
    let paths: Vec<Path> = paths.into_iter().map(|(path, _)| path).collect();
    if paths.is_empty() { FibAction::Negative(Action::Drop) } else { FibAction::Forward(paths) }
}

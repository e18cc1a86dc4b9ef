//! How the map-cache learns: an entry is added, refreshed, gleaned, or gets other locators.
//!
//! Owns: which of two mappings of an EID-prefix holds, how long an entry lasts, and what of an older one
//! lives on in it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::proto::context::{Context, is_unicast};
use crate::proto::stats::DropReason;
use crate::types::{Action, Eid, EidPrefix, Instant, Locator, Mapping, Nonce, Rloc, Ttl};

use super::entry::{Entry, Source};
use super::publish::{circular, forwards_alike};
use super::use_order::Rank;
use super::{Database, MAX_NESTED, MapCache};

/// Used where the sender leaves the time to live to us (RFC 9301 §5.4): as long as most sites say.
const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long before its end an entry in use is asked for again, at most; a quarter of short lifetimes.
const REFRESH_LEAD: Duration = Duration::from_secs(30);
/// How long what was gleaned is used without being verified (RFC 9300 §9 recommends it).
pub(in crate::proto::xtr) const GLEANED_TIME: Duration = Duration::from_secs(3);
/// Entries that may be gleaned at once: none of them takes another's place in a full cache.
const MAX_GLEANED: usize = 1024;

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

impl MapCache {
    /// Adds or refreshes the entry of `mapping.eid`, unless there is a static one or no room. The time to
    /// live must not be 0. Whether it was done.
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
            // A less specific entry must not outlive the more specific ones inside it, or it would take over
            // their packets (RFC 9301 §5.5).
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

    /// Uses `rloc` for packets to `eid`, of which nothing is known, until that is verified, but for three
    /// seconds at most (RFC 9300 §9).
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
}

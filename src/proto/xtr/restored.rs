//! What an earlier life of this router knew: entries of a snapshot are used at once, and confirmed soon.
//!
//! Owns: which entries of a snapshot fit this router, and when each is asked for again. While the router was
//! away it may have missed SMRs, so that the mapping system has the last word: entries that packets went to
//! when the snapshot was taken are asked for one after the other at a bounded rate, all others once a packet
//! matches them. Until the answer comes the entry holds, and where none comes it holds until it expires: that
//! the mapping system is gone is a good reason to go on with what is known.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use crate::proto::context::Context;
use crate::proto::redundancy::snapshot::Saved;
use crate::types::{EidPrefix, InstanceId, Instant, Rloc, Ttl};

use super::database::{Database, LocalRlocs};
use super::itr::Itr;
use super::map_cache::{IN_USE, Learnt, Source};
use super::reachability::Cause;

/// Entries that are asked for at once …
const BURST: usize = 5;
/// … and after which time the next ones are.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether entries have come into use …
const WATCH: Duration = Duration::from_secs(1);
/// … and how many of them at a time.
const WATCHED: usize = 5000;
/// An entry in use whose Map-Request was not answered is asked for again after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// What became of entries of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// In the map-cache by now.
    pub taken: usize,
    /// They had expired.
    pub expired: usize,
    /// Of instances that this router does not have, or no longer.
    pub instance: usize,
    /// Of EID-prefixes that are the site's own by now.
    pub own: usize,
    /// Of EID-prefixes that are configured, or of which the mapping system has said something meanwhile.
    pub known: usize,
    /// For which the map-cache has no room.
    pub full: usize,
}

impl std::ops::AddAssign for Restored {
    fn add_assign(&mut self, other: Self) {
        self.taken += other.taken;
        self.expired += other.expired;
        self.instance += other.instance;
        self.own += other.own;
        self.known += other.known;
        self.full += other.full;
    }
}

/// The entries that nobody has confirmed yet. They are told by their [`Source`] alone: what is listed here
/// may be gone, or have been confirmed.
#[derive(Debug, Default)]
pub(crate) struct Unconfirmed {
    /// To be asked for now, in this order.
    queue: VecDeque<EidPrefix>,
    /// To be asked for once they are in use.
    watched: BTreeSet<EidPrefix>,
    /// Where looking at them goes on.
    cursor: Option<EidPrefix>,
    /// When something is to be done.
    wake: Option<Instant>,
    /// When the watched ones are looked at.
    look: Instant,
}

impl Unconfirmed {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.wake
    }

    /// The next so many of the watched ones, which begin again after the last.
    fn next_watched(&mut self) -> Vec<EidPrefix> {
        let after = self.cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let found: Vec<EidPrefix> =
            self.watched.range((after, Bound::Unbounded)).take(WATCHED).copied().collect();
        self.cursor = found.last().copied().filter(|_| found.len() == WATCHED);
        found
    }
}

impl Itr {
    /// Takes in entries of a snapshot that hold, with the times of `now`; those that were used last come
    /// first.
    pub(crate) fn restore(
        &mut self,
        cx: &mut Context,
        now: Instant,
        entries: &[Saved],
        instances: &BTreeSet<InstanceId>,
        database: &Database,
    ) -> Restored {
        let mut all = Restored::default();
        let mut down: BTreeSet<Rloc> = BTreeSet::new();
        for saved in entries {
            let prefix = saved.mapping.eid;
            let reason = if saved.left.is_zero() || saved.mapping.ttl == Ttl::WITHDRAWN {
                &mut all.expired
            } else if !instances.contains(&prefix.iid) {
                &mut all.instance
            } else if database.longest_covering(&prefix).is_some() {
                &mut all.own
            } else if self.cache.get(&prefix).is_some() {
                &mut all.known
            } else if self.cache.len() >= self.cache.limit() {
                // What is used now is worth more than what was used before.
                &mut all.full
            } else {
                let mut mapping = saved.mapping.clone();
                self.proxy_etrs.adopt(&mut mapping);
                let learnt = Learnt {
                    source: Source::Snapshot,
                    responder: saved.responder,
                    left: Some(saved.left),
                    told: None,
                };
                if self.cache.install(cx, now, mapping, learnt, database) {
                    self.cache.set_echoes(cx, &prefix, saved.echoes);
                    down.extend(&saved.down);
                    if saved.idle.is_some_and(|idle| idle < IN_USE) {
                        self.unconfirmed.queue.push_back(prefix);
                    } else {
                        self.unconfirmed.watched.insert(prefix);
                    }
                }
                &mut all.taken
            };
            *reason += 1;
        }
        for rloc in down {
            // Not used until a probe is answered, where there is something better.
            self.unreachable(cx, now, rloc, Cause::Probes, database.rlocs());
        }
        if all.taken > 0 {
            // At the same pace, however small the parts are in which entries come.
            let wake = self.unconfirmed.wake.map_or(now, |wake| wake.min(now + PAUSE));
            self.unconfirmed.wake = Some(wake);
        }
        all
    }

    /// Asks for the entries whose turn it is.
    pub(super) fn confirm(&mut self, cx: &mut Context, now: Instant, local: &LocalRlocs) {
        if self.unconfirmed.wake.is_none_or(|wake| wake > now) {
            return;
        }
        if self.unconfirmed.look <= now {
            self.unconfirmed.look = now + WATCH;
            self.look_for_use(now);
        }
        let mut room = !local.all().is_empty();
        for _ in 0..BURST {
            let Some(prefix) = room.then(|| self.next_to_ask(now)).flatten() else { break };
            if self.refresh(cx, now, prefix, false, local) {
                self.cache.note_asked(&prefix, now);
                // In case there is no answer.
                self.unconfirmed.watched.insert(prefix);
            } else {
                room = false;
                self.unconfirmed.queue.push_back(prefix);
            }
        }
        let unconfirmed = &mut self.unconfirmed;
        unconfirmed.wake = match (unconfirmed.queue.is_empty(), unconfirmed.watched.is_empty()) {
            (false, _) if room => Some(now + PAUSE),
            (true, true) => None,
            _ => Some(unconfirmed.look.max(now + PAUSE)),
        };
    }

    /// The first of the queue that still waits to be confirmed and was not asked for a moment ago.
    fn next_to_ask(&mut self, now: Instant) -> Option<EidPrefix> {
        while let Some(prefix) = self.unconfirmed.queue.pop_front() {
            if self.is_unconfirmed(&prefix) && !self.was_asked(&prefix, now) {
                return Some(prefix);
            }
        }
        None
    }

    /// Puts those of the watched entries first that packets have come to match.
    fn look_for_use(&mut self, now: Instant) {
        for prefix in self.unconfirmed.next_watched() {
            if !self.is_unconfirmed(&prefix) {
                self.unconfirmed.watched.remove(&prefix);
                continue;
            }
            let used = self.cache.get(&prefix).is_some_and(|entry| entry.in_use(now));
            if used && !self.was_asked(&prefix, now) {
                self.unconfirmed.watched.remove(&prefix);
                self.unconfirmed.queue.push_front(prefix);
            }
        }
    }

    fn is_unconfirmed(&self, prefix: &EidPrefix) -> bool {
        self.cache.get(prefix).is_some_and(|entry| entry.source == Source::Snapshot)
    }

    fn was_asked(&self, prefix: &EidPrefix, now: Instant) -> bool {
        let asked = self.cache.get(prefix).and_then(|entry| entry.asked);
        asked.is_some_and(|asked| now.saturating_since(asked) < AGAIN)
    }
}

//! How many entries the map-cache has, and which go to make room for others or since nobody uses them.
//!
//! Owns: the limits. In which order entries go is [`super::use_order`]'s to say, and which natively-forward
//! ones stay although nobody sees their packets is [`super::natives`]'s.

use std::time::Duration;

use crate::proto::context::Context;
use crate::proto::eid_table::EidTable;
use crate::proto::stats::DropReason;
use crate::types::{EidPrefix, Instant};

use super::use_order::{Rank, TooMany};
use super::{Entry, MapCache};

/// Used where the configuration gives no limit.
const DEFAULT_LIMIT: usize = 100_000;
/// Of a full cache, entries that have not carried packets yet may have one in so many, whatever happens.
const SPARED_SHARE: usize = 8;
/// The same of natively-forward entries that are kept without a sign of their use.
const NATIVE_SHARE: usize = 8;
/// Where there are more idle entries than one turn may look at: when the next turn is.
const IDLE_PAUSE: Duration = Duration::from_millis(20);

/// How the cache is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Keeping {
    /// Most entries; 0 = [`DEFAULT_LIMIT`].
    pub(crate) limit: usize,
    /// An entry that has not been used for so long goes; zero = never.
    pub(crate) idle_timeout: Duration,
}

impl MapCache {
    pub(crate) fn limit(&self) -> usize {
        if self.keeping.limit == 0 { DEFAULT_LIMIT } else { self.keeping.limit }
    }

    /// Removes entries that nobody has used for the configured time. A set of overlapping entries goes as a
    /// whole: a less specific one alone would take over the packets of those inside it (RFC 9301 §5.5).
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

    /// Makes room: whether it could. Only with `any` at the cost of an entry that has carried packets: what
    /// another router of the site may need displaces nothing that this one does.
    pub(super) fn evict(&mut self, cx: &mut Context, now: Instant, any: bool) -> bool {
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

    /// How many natively-forward entries are kept without a sign of their use.
    pub(super) fn most_natives(&self) -> usize {
        self.limit() / NATIVE_SHARE
    }

    /// An entry is about to go because of its age, or to make room.
    pub(super) fn note_native(&mut self, prefix: &EidPrefix, now: Instant) {
        if self.entries.get(prefix).is_some_and(|entry| entry.wants_native() && !entry.is_static()) {
            self.natives.left(*prefix, now, self.most_natives());
        }
    }

    /// An entry that could not be thrown out so far can be from now on.
    pub(super) fn put_in_order(&mut self, prefix: &EidPrefix) {
        if let Some(entry) = self.entries.get_mut(prefix) {
            entry.rank = entry.own_rank();
            self.order.insert(*prefix, entry.rank);
        }
    }
}

/// The rank that an entry has by now, which it keeps. An entry inside another goes no sooner than that one.
/// What the kernel forwards natively may be in use without our knowing, so that until it expires it is not
/// idle: `now`.
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

//! The map-cache: what the mapping system said about other sites, until it expires or nobody uses it, and
//! what the configuration says of them.
//!
//! Owns: the table of the entries, in what order they are looked at again, and their removal. What an entry
//! is, is [`entry`]'s to say; how one comes or changes [`install`]'s, which ones go for others [`room`]'s.
//! What of them the data plane hears is made in [`publish`], what the kernel hears in [`native_routes`], and
//! what other xTRs hear is noted in [`journal`]. Must not send messages; when to ask again is the ITR's
//! business ([`Wake`]).

mod entry;
mod install;
mod journal;
mod native_routes;
mod natives;
mod publish;
mod room;
mod use_order;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::fib::FibUpdate;
use crate::proto::context::Context;
use crate::proto::eid_table::EidTable;
use crate::types::{Action, Eid, EidPrefix, Instant, Mapping, Rloc};

use super::database::{Database, LocalRlocs};
use super::reachability::Reachability;
use natives::Natives;
use use_order::UseOrder;

pub(super) use entry::IN_USE;
pub use entry::{Entry, Source};
pub(super) use install::GLEANED_TIME;
pub(crate) use install::{Learnt, Serial, Told};
pub(crate) use journal::Journal;
pub(super) use publish::MAX_PATHS;
pub(crate) use room::Keeping;

/// More specific entries that are looked at when a less specific one comes.
const MAX_NESTED: usize = 1024;

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
    /// EID-prefixes without a mapping of their own, and since when the mapping system says so; kept with the
    /// journal.
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
            // Whatever was learnt for the prefix gives way, with its counters, and so does what was inside
            // it.
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

    /// The static entry that says what becomes of packets to `prefix`, whatever the mapping system says: the
    /// longest around it, unless what that says is to ask the mapping system.
    pub(crate) fn settled(&self, prefix: &EidPrefix) -> Option<EidPrefix> {
        let (around, entry) = self.entries.covering(prefix).filter(|(_, entry)| entry.is_static()).last()?;
        let asks = entry.mapping.is_negative() && entry.mapping.action == Action::SendMapRequest;
        (!asks).then_some(around)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
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

    /// An EID of an entry that no more specific one has. Where there is none, or it takes long to find, the
    /// first.
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

    /// The entries of `prefix` and around it, the outermost first.
    pub(in crate::proto::xtr) fn covering(
        &self,
        prefix: &EidPrefix,
    ) -> impl Iterator<Item = (EidPrefix, &Entry)> {
        self.entries.covering(prefix)
    }

    pub(crate) fn longest(&self, eid: &Eid) -> Option<(EidPrefix, &Entry)> {
        self.entries.longest(eid)
    }

    /// Whether any entry has this locator.
    pub(crate) fn uses(&self, rloc: &Rloc) -> bool {
        self.rlocs.contains_key(rloc)
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

    /// Removes the entries that contain `eid` and are more specific than `prefix`: they would hide a newer
    /// answer.
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

    /// The entries that an SMR for `prefix` is about: the one that covers it, and those inside it, `most` at
    /// most.
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
}

/// The EID after the last one of a prefix.
fn after(prefix: &EidPrefix) -> Option<Eid> {
    let addr = match prefix.net.broadcast() {
        IpAddr::V4(last) => IpAddr::V4(last.to_bits().checked_add(1)?.into()),
        IpAddr::V6(last) => IpAddr::V6(last.to_bits().checked_add(1)?.into()),
    };
    Some(Eid::new(prefix.iid, addr))
}

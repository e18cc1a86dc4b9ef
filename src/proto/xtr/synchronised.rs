//! What the ITR tells the site's other xTRs of its map-cache, and takes from them.
//!
//! Owns: which entries are told, and which of two mappings of one EID-prefix wins. When and how they are told is
//! [`crate::proto::redundancy::sync`]'s business.
//!
//! An entry belongs to the xTR that had it from the mapping system by asking; those of the others are copies. Whoever
//! uses an entry has it refreshed when it ends, its owner some seconds sooner than the others: so nobody need tell who
//! uses what, and an entry whose owner is gone lives on with a new one. Of two mappings the one wins that the mapping
//! system said later. Ages are told in seconds, so that within a second neither is later: then a copy of a copy yields,
//! and of two that both asked, the one with the lower address stays the owner. Of messages of the same xTR the later
//! one wins. What the configuration says is never touched.

use std::net::IpAddr;
use std::time::Duration;

use crate::proto::context::{Context, is_unicast};
use crate::proto::stats::DropReason;
use crate::types::{Action, EidPrefix, Instant, Mapping, Rloc};
use crate::wire::{EidRecord, SyncMapping};

use super::database::Database;
use super::itr::Itr;
use super::map_cache::{Entry, Journal, Learnt, Serial, Source, Told};
use super::pending::Reason;
use super::reachability::{Cause, WayState};

/// Ages are told in whole seconds.
const TIE: Duration = Duration::from_secs(1);
/// So long is what our own probes found out believed rather than what another xTR says.
const OWN_WORD: Duration = Duration::from_secs(30);

/// Who tells of an entry, and by what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Teller {
    /// The xTR.
    pub(crate) address: IpAddr,
    /// Ours, as it knows us.
    pub(crate) ours: IpAddr,
    /// Which of its messages.
    pub(crate) serial: Serial,
}

impl Itr {
    /// Whether what is learnt from now on is noted for [`Self::take_journal`].
    pub(crate) fn keep_journal(&mut self, keep: bool) {
        match (keep, &mut self.cache.journal) {
            (true, journal @ None) => *journal = Some(Journal::default()),
            (true, Some(_)) => {}
            (false, journal) => {
                *journal = None;
                self.cache.withdrawn.clear();
            }
        }
    }

    /// What was noted since.
    pub(crate) fn take_journal(&mut self) -> Journal {
        self.cache.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The EID-prefixes of all entries that may be told, in order: those that this router asked for itself, and with
    /// `copies` those that it was told of, too.
    pub(crate) fn told_prefixes(&self, copies: bool) -> impl Iterator<Item = EidPrefix> {
        self.cache.iter().filter(move |(_, entry)| is_told(entry, copies)).map(|(prefix, _)| prefix)
    }

    /// The EID-prefixes that have no mapping any more, as far as that is remembered.
    pub(crate) fn withdrawn_prefixes(&self) -> impl Iterator<Item = EidPrefix> {
        self.cache.withdrawn.keys().copied()
    }

    /// Since when an EID-prefix is known to have no mapping.
    pub(crate) fn withdrawn(&self, prefix: &EidPrefix) -> Option<Instant> {
        self.cache.withdrawn.get(prefix).copied()
    }

    /// Another xTR has told all that it has, from message `first` on: what it told before, and not since, it has no
    /// longer. What is in use is asked for again, the rest goes. `own`: only what it had by asking was told. What it
    /// told in an earlier session it may just have forgotten.
    pub(crate) fn told_all(
        &mut self,
        cx: &mut Context,
        now: Instant,
        by: IpAddr,
        (session, first): Serial,
        own: bool,
    ) {
        let missing = |entry: &Entry| {
            let by_it = entry.source == Source::Synchronised && entry.responder == Some(by);
            by_it
                && entry.told.is_some_and(|((proved, nonce), told_own)| {
                    proved == session && nonce < first && (told_own || !own)
                })
        };
        let missing: Vec<EidPrefix> =
            self.cache.iter().filter(|(_, entry)| missing(entry)).map(|(prefix, _)| prefix).collect();
        for prefix in missing {
            if self.cache.get(&prefix).is_some_and(|entry| entry.in_use(now)) {
                self.cache.wake_at(&prefix, now);
            } else {
                self.cache.remove(cx, &prefix);
            }
        }
    }

    /// The locators that this router found to be down.
    pub(crate) fn found_down(&self, database: &Database) -> impl Iterator<Item = Rloc> {
        let local = database.rlocs();
        let down = self.cache.reach.iter().filter(move |(rloc, remote)| {
            let told = remote.ways.iter().any(|way| way.state == WayState::Down(Cause::Peer));
            remote.site.is_none() && !told && self.cache.is_down(rloc, local)
        });
        down.map(|(rloc, _)| *rloc)
    }

    /// Whether a locator can be reached, as far as this router knows.
    pub(crate) fn is_reached(&self, rloc: &Rloc, database: &Database) -> bool {
        !self.cache.is_down(rloc, database.rlocs())
    }

    /// An entry as it is told, unless it isn't.
    pub(crate) fn told(&self, prefix: &EidPrefix, copies: bool, now: Instant) -> Option<SyncMapping> {
        let entry = self.cache.get(prefix).filter(|entry| is_told(entry, copies))?;
        let left = entry.expires.saturating_since(now);
        let (seconds, millis) = SyncMapping::time_left(left);
        if (seconds, millis) == (0, 0) {
            return None;
        }
        let mut record = EidRecord::from(&entry.mapping);
        if entry.mapping.is_by_proxy() {
            // The proxy-ETRs are this router's own affair: the mapping system said that there are no locators.
            record.locators.clear();
        }
        Some(SyncMapping {
            copy: !entry.source.is_solicited(),
            echoes: entry.echoes,
            seconds,
            millis,
            inside: 0,
            age: SyncMapping::millis(now.saturating_since(entry.refreshed)),
            record,
        })
    }

    /// Takes in what another xTR of the site tells of a mapping.
    ///
    /// # Errors
    /// If it isn't used, and why.
    pub(crate) fn adopt(
        &mut self,
        cx: &mut Context,
        now: Instant,
        told: &SyncMapping,
        teller: Teller,
        database: &Database,
    ) -> Result<(), DropReason> {
        let (mut mapping, skipped) = told.record.to_mapping().map_err(|_| DropReason::SyncEid)?;
        if skipped > 0 && mapping.is_negative() {
            mapping.action = Action::Drop;
        }
        let prefix = mapping.eid;
        if !database.has_instance(prefix.iid) {
            return Err(DropReason::SyncInstance);
        }
        if database.longest_covering(&prefix).is_some() {
            return Err(DropReason::SyncLocal);
        }
        let since = now - Duration::from_millis(told.age.into());
        match self.cache.get(&prefix) {
            Some(known) => check_newer(known, told, since, teller)?,
            // What was withdrawn since is not believed of somebody who may not know.
            None if !told.is_gone() && self.cache.withdrawn.get(&prefix).is_some_and(|at| *at >= since) => {
                return Err(DropReason::SyncOlder);
            }
            None => {}
        }
        if told.is_gone() {
            let known = self.cache.withdrawn.get(&prefix).copied();
            self.cache.note_withdrawn(prefix, known.map_or(since, |at| at.max(since)));
            return match self.cache.remove(cx, &prefix) {
                true => Ok(()),
                false => Err(DropReason::SyncOlder),
            };
        }
        self.proxy_etrs.adopt(&mut mapping);
        let ask_again = is_ask_again(&mapping);
        let learnt = Learnt {
            source: Source::Synchronised,
            responder: Some(teller.address),
            left: None,
            told: Some(Told { remaining: told.remaining(), since, serial: teller.serial, own: !told.copy }),
        };
        if !self.cache.install(cx, now, mapping, learnt, database) {
            return Err(DropReason::SyncFull);
        }
        self.cache.set_echoes(cx, &prefix, told.echoes);
        if !ask_again {
            self.resolved_by(cx, &prefix);
        }
        Ok(())
    }

    /// Takes in whether another xTR of the site can reach a locator. Our own probes know better, where they do.
    ///
    /// # Errors
    /// If it isn't used, and why.
    pub(crate) fn told_of_locator(
        &mut self,
        cx: &mut Context,
        now: Instant,
        rloc: Rloc,
        up: bool,
        database: &Database,
    ) -> Result<(), DropReason> {
        let local = database.rlocs();
        if !is_unicast(&rloc) || !self.cache.uses(&rloc) {
            return Err(DropReason::SyncLocator);
        }
        let source = self.cache.reach.verdict(&rloc, local).ok_or(DropReason::SyncLocator)?.source;
        let way = self.cache.reach.get(&rloc).and_then(|remote| remote.way(&source));
        let own_word = way.is_some_and(|way| {
            let answered = way.last_answered.is_some_and(|at| now.saturating_since(at) < OWN_WORD);
            way.state == WayState::Up && answered
        });
        // What follows is no news to whom it came from.
        let journal = self.cache.journal.take();
        let result = if up {
            self.revive(cx, now, rloc, database);
            Ok(())
        } else if !own_word && self.unreachable(cx, now, rloc, Cause::Peer, local) {
            Ok(())
        } else {
            Err(DropReason::SyncLocator)
        };
        self.cache.journal = journal;
        result
    }

    /// Nobody else says any more that `rloc` is down.
    fn revive(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, database: &Database) {
        let reach = &mut self.cache.reach;
        let Some(remote) = reach.remotes.get_mut(&rloc) else { return };
        for way in remote.ways.iter_mut().filter(|way| way.state == WayState::Down(Cause::Peer)) {
            way.enter(WayState::Unprobed, now);
            way.unanswered = 0;
        }
        reach.touched.insert(rloc);
        self.cache.act_on_verdicts(cx, database.rlocs());
    }

    /// What waits for a mapping inside `prefix` waits no more, unless a more specific entry is what it waits for.
    fn resolved_by(&mut self, cx: &mut Context, prefix: &EidPrefix) {
        for eid in self.pending.within(prefix) {
            let waits = self.pending.get(&eid).is_some_and(|pending| pending.reason != Reason::Refresh);
            let known = self.cache.longest(&eid).map(|(known, _)| known);
            if waits && known == Some(*prefix) {
                self.finish(cx, &eid);
            }
        }
    }
}

/// Whether other xTRs are told of an entry.
fn is_told(entry: &Entry, copies: bool) -> bool {
    entry.source.is_solicited() || copies && entry.source == Source::Synchronised
}

fn is_ask_again(mapping: &Mapping) -> bool {
    mapping.is_negative() && mapping.action == Action::SendMapRequest
}

/// Whether what is told is newer than what is known, by the rules at the top.
fn check_newer(known: &Entry, told: &SyncMapping, since: Instant, teller: Teller) -> Result<(), DropReason> {
    let by_same = known.responder == Some(teller.address);
    let newer = match known.source {
        Source::Static => return Err(DropReason::SyncStatic),
        // Nobody has confirmed these.
        Source::Gleaned | Source::Snapshot => true,
        Source::Synchronised if by_same => known.told.is_none_or(|(serial, _)| serial < teller.serial),
        Source::Synchronised => {
            !(known.refreshed > since + TIE || told.copy && known.refreshed + TIE > since)
        }
        // Answers that came within a moment: the one that there is a mapping counts.
        Source::MapReply | Source::Probe if told.is_gone() => since > known.refreshed,
        Source::MapReply | Source::Probe => {
            let tie = since + TIE >= known.refreshed && known.refreshed + TIE >= since;
            since > known.refreshed + TIE || tie && !told.copy && teller.address < teller.ours
        }
    };
    if newer { Ok(()) } else { Err(DropReason::SyncOlder) }
}

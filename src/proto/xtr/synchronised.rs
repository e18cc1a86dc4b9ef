//! What the ITR tells the site's other xTRs of its map-cache, and takes from them. Of locators see
//! [`super::hearsay`].
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
//!
//! A mapping alone would have the packets of those inside it (RFC 9301 §5.5). So each tells how many of these there are,
//! and nobody takes it who has fewer: a packet then draws a Map-Request, as it does where nothing is known. Where one
//! that lies inside others can't be taken, those that were told do not stay either.

use std::net::IpAddr;
use std::time::Duration;

use crate::proto::context::Context;
use crate::proto::stats::DropReason;
use crate::types::{Action, EidPrefix, Instant, Mapping};
use crate::wire::{EidRecord, SyncMapping};

use super::database::Database;
use super::hearsay::Hearsay;
use super::itr::Itr;
use super::map_cache::{Entry, Journal, Learnt, Serial, Source, Told};
use super::pending::Reason;

/// Ages are told in whole seconds.
const TIE: Duration = Duration::from_secs(1);
/// Mappings inside another one that are counted.
const MOST_INSIDE: u16 = 4096;
/// What ends so soon is not counted, as it may have ended where it is told.
const ABOUT_TO_END: Duration = Duration::from_secs(2);

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
                self.cache.reach.hearsay = Hearsay::default();
            }
        }
    }

    /// What was noted since.
    pub(crate) fn take_journal(&mut self) -> Journal {
        self.cache.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The EID-prefixes of entries that may be told, in order, from the first entry after `after` on, or from the start:
    /// those that this router asked for itself, and with `copies` those that it was told of, too. About `some` entries
    /// are looked at; but those inside one that was looked at all are. With the last one that was, unless that is the
    /// last of all.
    pub(crate) fn told_after(
        &self,
        after: Option<EidPrefix>,
        copies: bool,
        some: usize,
    ) -> (Vec<EidPrefix>, Option<EidPrefix>) {
        let mut found = Vec::new();
        let mut outermost: Option<EidPrefix> = None;
        let mut last = None;
        for (looked, (prefix, entry)) in self.cache.after(after).enumerate() {
            if !outermost.is_some_and(|outermost| outermost.covers(&prefix)) {
                if looked >= some {
                    return (found, last);
                }
                outermost = Some(prefix);
            }
            last = Some(prefix);
            if is_told(entry, copies) {
                found.push(prefix);
            }
        }
        (found, None)
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
    /// told in an earlier session it may just have forgotten. `some` entries from the first one after `after` on are
    /// looked at; with the last of them, unless that is the last of all.
    pub(crate) fn told_all(
        &mut self,
        cx: &mut Context,
        now: Instant,
        (by, (session, first), own): (IpAddr, Serial, bool),
        after: Option<EidPrefix>,
        some: usize,
    ) -> Option<EidPrefix> {
        let missing = |entry: &Entry| {
            let by_it = entry.source == Source::Synchronised && entry.responder == Some(by);
            by_it
                && entry.told.is_some_and(|((proved, nonce), told_own)| {
                    proved == session && nonce < first && (told_own || !own)
                })
        };
        let mut last = None;
        let mut gone = Vec::new();
        for (looked, (prefix, entry)) in self.cache.after(after).enumerate() {
            if looked >= some {
                break;
            }
            last = (looked + 1 == some).then_some(prefix);
            if missing(entry) {
                gone.push(prefix);
            }
        }
        for prefix in gone {
            self.unlearn(cx, now, &prefix);
        }
        last
    }

    /// A copy that may not hold any more: asked for again if it is in use, or else gone.
    fn unlearn(&mut self, cx: &mut Context, now: Instant, prefix: &EidPrefix) {
        if self.cache.get(prefix).is_some_and(|entry| entry.in_use(now)) {
            self.cache.wake_at(prefix, now);
        } else {
            self.cache.remove(cx, prefix);
        }
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
            inside: self.inside(prefix, now),
            age: SyncMapping::millis(now.saturating_since(entry.refreshed)),
            record,
        })
    }

    /// How many mappings there are inside a prefix that others should know, too.
    fn inside(&self, prefix: &EidPrefix, now: Instant) -> u16 {
        let inside = self.cache.after(Some(*prefix)).take_while(|(inner, _)| prefix.covers(inner));
        let lasting = inside
            .filter(|(_, entry)| is_told(entry, true) && entry.expires.saturating_since(now) > ABOUT_TO_END);
        u16::try_from(lasting.take(MOST_INSIDE.into()).count()).unwrap_or(MOST_INSIDE)
    }

    /// Whether another entry would displace nothing.
    pub(crate) fn has_room(&self) -> bool {
        self.cache.len() < self.cache.limit()
    }

    /// Whether there are as many entries inside a mapping as the xTR has that tells of it.
    pub(crate) fn is_complete(&self, told: &SyncMapping) -> bool {
        told.record.to_mapping().is_ok_and(|(mapping, _)| self.has_inside(&mapping.eid, told.inside))
    }

    fn has_inside(&self, prefix: &EidPrefix, told: u16) -> bool {
        let told = usize::from(told.min(MOST_INSIDE));
        let inside = self.cache.after(Some(*prefix)).take_while(|(inner, _)| prefix.covers(inner));
        inside.filter(|(_, entry)| entry.source != Source::Gleaned).take(told).count() == told
    }

    /// Something inside `prefix`, or that itself, is not known here although others know it: what was learnt of `prefix`
    /// and around it must not have its packets. `for_good`: nor will it be.
    fn uncover(&mut self, cx: &mut Context, now: Instant, prefix: &EidPrefix, for_good: bool) {
        let around = self.cache.covering(prefix).filter(|(_, entry)| !entry.is_static());
        let around: Vec<(EidPrefix, Source)> = around.map(|(p, entry)| (p, entry.source)).collect();
        for (p, source) in around {
            if for_good && source == Source::Synchronised {
                self.cache.remove(cx, &p);
            } else {
                self.unlearn(cx, now, &p);
            }
        }
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
        if self.cache.settled(&prefix).is_some() {
            return Err(DropReason::SyncStatic);
        }
        if !self.has_inside(&prefix, told.inside) {
            self.uncover(cx, now, &prefix, false);
            return Err(DropReason::SyncInside);
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
            self.uncover(cx, now, &prefix, true);
            return Err(DropReason::SyncFull);
        }
        self.cache.set_echoes(cx, &prefix, told.echoes);
        if !ask_again {
            self.resolved_by(cx, &prefix);
        }
        Ok(())
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

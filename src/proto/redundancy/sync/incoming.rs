//! What becomes of the records that a member sends.
//!
//! Owns: what was received in part, and waits for the rest: whole caches, and mappings that came before those inside them.
//! Which of two mappings wins is the ITR's to say ([`crate::proto::xtr`]).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::proto::context::Context;
use crate::proto::event::Event;
use crate::proto::stats::DropReason;
use crate::proto::xtr::database::Database;
use crate::proto::xtr::itr::Itr;
use crate::proto::xtr::map_cache::Serial;
use crate::proto::xtr::synchronised::Teller;
use crate::types::{EidPrefix, Instant, Nonce};
use crate::wire::{CacheSync, SyncMapping, SyncRecord};

use super::member::{ASK_AGAIN, Member, Transferred};

/// Messages of a naive round that are counted.
const MOST_OF_A_ROUND: usize = 1 << 14;
/// Entries of the map-cache that are looked at at a time for what a member has no longer …
const STRIDE: usize = 4096;
/// … and the pause until the next.
const STRIDE_PAUSE: Duration = Duration::from_millis(1);
/// Mappings that wait for those inside them …
const MOST_INCOMPLETE: usize = 64;
/// … and for how long: as long as a message is sent again.
const PATIENCE: Duration = Duration::from_secs(12);
/// Where some do so in vain, the whole cache is asked for, but not more often than this.
const ASK_FOR_ALL: Duration = Duration::from_secs(600);

/// What has come of something larger.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// When a whole cache began to come, and how many records have come.
    transfer: Option<(Instant, u64)>,
    /// The messages of a naive round that have come.
    round: BTreeSet<Nonce>,
    /// It is looked for what the member has no longer.
    sweep: Option<Sweep>,
    /// Mappings whose message came before those of mappings inside them.
    incomplete: Vec<Incomplete>,
}

/// A member has told all that it has; what it told before is no longer there.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    /// The first message of all that.
    first: Serial,
    /// Only what it had by asking was told.
    own: bool,
    /// How far that has been looked for.
    after: Option<EidPrefix>,
    /// When it goes on.
    at: Instant,
}

#[derive(Debug)]
struct Incomplete {
    told: SyncMapping,
    prefix: EidPrefix,
    serial: Serial,
    at: Instant,
}

impl Incoming {
    /// The member has started anew, or is about to tell everything anew.
    pub(super) fn start(&mut self) {
        self.transfer = None;
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        let sweep = self.sweep.as_ref().map(|sweep| sweep.at);
        let given_up = self.incomplete.iter().map(|incomplete| incomplete.at + PATIENCE).min();
        sweep.into_iter().chain(given_up).min()
    }
}

impl Member {
    /// Uses the records of a message: how many could be.
    pub(super) fn take_in(
        &mut self,
        cx: &mut Context,
        now: Instant,
        message: &CacheSync,
        ours: IpAddr,
        itr: &mut Itr,
        database: &Database,
    ) -> u64 {
        let since = self.peer.as_ref().map_or(now, |peer| peer.since);
        let teller = Teller { address: self.address, ours, serial: (since, message.nonce) };
        let mut used = 0;
        for record in &message.records {
            let result = match record {
                SyncRecord::Mapping(told) => self.adopt(cx, now, told, teller, itr, database),
                SyncRecord::Locator { address, up } => match address.to_ip() {
                    Some(rloc) => itr.told_of_locator(cx, now, (rloc, *up), teller, database),
                    None => Err(DropReason::SyncLocator),
                },
                SyncRecord::Hello { .. } | SyncRecord::Whole { .. } => continue,
                SyncRecord::HelloReply { .. } | SyncRecord::Unknown { .. } => Err(DropReason::SyncKind),
            };
            match result {
                Ok(()) => used += 1,
                Err(reason) => {
                    // There may be thousands, so that they are counted only.
                    self.counters.ignored(reason);
                    cx.statistics.count_drop(reason);
                }
            }
        }
        if used > 0 {
            used += self.complete(cx, now, teller, itr, database);
        }
        used
    }

    fn adopt(
        &mut self,
        cx: &mut Context,
        now: Instant,
        told: &SyncMapping,
        teller: Teller,
        itr: &mut Itr,
        database: &Database,
    ) -> Result<(), DropReason> {
        let Ok((mapping, _)) = told.record.to_mapping() else { return Err(DropReason::SyncEid) };
        let prefix = mapping.eid;
        if self.is_overtaken(told, &prefix, teller.serial.1, now) {
            return Err(DropReason::SyncOlder);
        }
        let waiting = &mut self.incoming.incomplete;
        waiting.retain(|waiting| waiting.prefix != prefix);
        let result = itr.adopt(cx, now, told, teller, database);
        if result == Err(DropReason::SyncInside) && waiting.len() < MOST_INCOMPLETE {
            waiting.push(Incomplete { told: told.clone(), prefix, serial: teller.serial, at: now });
        }
        result
    }

    /// Uses mappings that waited for others inside them, which have come: how many could be.
    fn complete(
        &mut self,
        cx: &mut Context,
        now: Instant,
        teller: Teller,
        itr: &mut Itr,
        database: &Database,
    ) -> u64 {
        let mut used = 0;
        let mut waiting = std::mem::take(&mut self.incoming.incomplete);
        // They may be inside each other.
        waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.prefix.len()));
        for incomplete in waiting {
            if !itr.is_complete(&incomplete.told) {
                self.incoming.incomplete.push(incomplete);
                continue;
            }
            let Incomplete { told, prefix, serial, at } = incomplete;
            let Some(told) = told.later(now.saturating_since(at)) else { continue };
            let overtaken = self.is_overtaken(&told, &prefix, serial.1, now);
            if !overtaken && itr.adopt(cx, now, &told, Teller { serial, ..teller }, database).is_ok() {
                used += 1;
            }
        }
        used
    }

    /// Whether it has said later that this mapping is gone. If it says so now, that is remembered.
    fn is_overtaken(&mut self, told: &SyncMapping, prefix: &EidPrefix, nonce: Nonce, now: Instant) -> bool {
        let Some(peer) = &mut self.peer else { return false };
        if told.is_gone() {
            peer.history.withdrawn(*prefix, nonce, now);
        }
        peer.history.is_overtaken(prefix, nonce)
    }

    /// Where it has told all that it has, what it has no longer counts no more.
    pub(super) fn reconcile(
        &mut self,
        cx: &mut Context,
        now: Instant,
        message: &CacheSync,
        itr: &mut Itr,
        database: &Database,
    ) {
        let round = &mut self.incoming.round;
        if message.naive && round.len() < MOST_OF_A_ROUND {
            round.insert(message.nonce);
        }
        let Some(since) = self.peer.as_ref().map(|peer| peer.since).filter(|_| message.end) else { return };
        for record in &message.records {
            let SyncRecord::Whole { first, messages } = record else { continue };
            let came = round.range(*first..).count();
            if *messages == 0 || usize::try_from(*messages).is_ok_and(|messages| messages == came) {
                let first = (since, *first);
                self.incoming.sweep = Some(Sweep { first, own: message.naive, after: None, at: now });
                if !message.naive {
                    itr.told_all_locators(cx, now, self.address, first, database);
                }
            }
        }
        round.clear();
    }

    /// Removes some of what it has no longer.
    pub(super) fn sweep(&mut self, cx: &mut Context, now: Instant, itr: &mut Itr) {
        let Some(mut sweep) = self.incoming.sweep.take_if(|sweep| sweep.at <= now) else { return };
        let told = (self.address, sweep.first, sweep.own);
        if let Some(last) = itr.told_all(cx, now, told, sweep.after, STRIDE) {
            sweep.after = Some(last);
            sweep.at = now + STRIDE_PAUSE;
            self.incoming.sweep = Some(sweep);
        }
    }

    /// Gives up waiting for what does not come. It has been here, perhaps, and went as nobody used it; or it was lost, and
    /// nothing is acknowledged. So all is asked for, where there is room for it.
    pub(super) fn give_up(&mut self, now: Instant, itr: &Itr) {
        let waiting = &mut self.incoming.incomplete;
        let before = waiting.len();
        waiting.retain(|incomplete| incomplete.at + PATIENCE > now);
        let lately = self.received.is_some_and(|received| now.saturating_since(received.at) < ASK_FOR_ALL);
        if waiting.len() < before && !self.wants && !lately && itr.has_room() {
            self.wants = true;
            self.hello_at = now;
        }
    }

    /// A part of its whole cache came.
    pub(super) fn transferred(&mut self, cx: &mut Context, now: Instant, message: &CacheSync) {
        let (started, records) = self.incoming.transfer.unwrap_or((now, 0));
        let of_mappings = |record: &&SyncRecord| !matches!(record, SyncRecord::Whole { .. });
        let records = records + message.records.iter().filter(of_mappings).count() as u64;
        if !message.end {
            self.incoming.transfer = Some((started, records));
            if self.wants && self.unanswered == 0 {
                self.hello_at = self.hello_at.max(now + ASK_AGAIN);
            }
            return;
        }
        self.incoming.transfer = None;
        self.wants = false;
        let took = now.saturating_since(started);
        self.received = Some(Transferred { at: now, records, took });
        cx.event(Event::SyncTransferred { member: self.address, received: true, records, took });
    }
}

//! What one member is told: in which messages, at which pace, and again where it is not acknowledged.
//!
//! Owns: the queue, the transfer under way, and the messages that wait for their acknowledgement. What is to be told is
//! kept as names only; the records are made when a message is sent, so that it tells what holds by then.

use std::collections::BTreeSet;
use std::time::Duration;

use smallvec::SmallVec;

use crate::proto::context::Context;
use crate::proto::xtr::database::Database;
use crate::proto::xtr::itr::Itr;
use crate::types::{Action, EidPrefix, Instant, Mapping, Nonce, Rloc, Ttl};
use crate::wire::{Address, CacheSync, EidRecord, SyncMapping, SyncRecord};

use super::member::Counters;
use super::{To, Voice};

/// Messages under way at once: as many as fit the smallest receive buffer that a system has by default.
pub(super) const WINDOW: usize = 32;
/// Without acknowledgements: so many messages at a time …
const BURST: usize = 32;
/// … and then a pause.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a message's records, so that no link on the way cuts it.
const ROOM: usize = 1400 - 16 - 32 - 16 - END;
/// Bytes of the record that ends a whole cache.
const END: usize = 16;
/// Records of one message.
const MOST_RECORDS: usize = 254;
/// How long what only prolongs an entry waits for others like it.
const LINGER: Duration = Duration::from_secs(1);
/// A message that so many later ones overtook is lost.
const OVERTAKEN: u64 = 3;
/// What waits to be told; with more than that, the whole cache is.
const MOST_QUEUED: usize = 1 << 16;

/// Something to tell, the last of all first: of mappings that lie in each other the inner one, as the outer one alone
/// would have its packets (RFC 9301 §5.5); and locators after the mappings that have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// Whether a locator can be reached.
    Locator(Rloc),
    /// An entry.
    Mapping(EidPrefix),
    /// There is no mapping any more.
    Gone(EidPrefix),
}

/// Why something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It changed.
    Single,
    /// Something else changed.
    Naive,
    /// The member (re)appeared.
    Whole,
}

/// The member is told no more: it does not acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// The whole cache was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) records: u64,
    pub(super) took: Duration,
}

/// What a message is made from.
#[derive(Clone, Copy)]
pub(super) struct Material<'a> {
    pub(super) itr: &'a Itr,
    pub(super) database: &'a Database,
    pub(super) now: Instant,
}

/// What one member is told.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: BTreeSet<Item>,
    due: Option<Instant>,
    /// Without acknowledgements: not before this is anything sent, however urgent.
    resume: Instant,
    /// When the burst under way began, and how many messages it has.
    burst: (Instant, usize),
    transfer: Option<Transfer>,
    /// The whole cache is to be told (naive), once the transfer under way is over.
    again: bool,
    outstanding: Vec<Outstanding>,
    /// How many messages were sent.
    order: u64,
    /// How many items were looked at, to be told.
    #[cfg(test)]
    pub(super) looks: u64,
}

#[derive(Debug)]
struct Transfer {
    kind: Kind,
    /// The last one is told first.
    items: Vec<Item>,
    started: Instant,
    resume: Instant,
    records: u64,
    ended: bool,
    /// The nonce of its first message.
    first: Option<Nonce>,
    /// How many messages were sent.
    messages: u32,
}

/// A message that waits for its acknowledgement.
#[derive(Debug)]
struct Outstanding {
    kind: Kind,
    /// Of the last one of a whole cache: what it ends.
    end: Option<SyncRecord>,
    items: Vec<Item>,
    /// Under which it was sent, the last one last.
    nonces: SmallVec<[Nonce; 2]>,
    order: u64,
    tries: u32,
    wake: Instant,
    /// Later ones overtook it; it is sent again at once.
    overtaken: bool,
}

impl Outgoing {
    /// Has something told soon.
    pub(super) fn queue(&mut self, item: Item, now: Instant, urgent: bool) {
        if let Item::Mapping(prefix) = item {
            self.queue.remove(&Item::Gone(prefix));
        }
        self.queue.insert(item);
        let at = if urgent { now } else { now + LINGER };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether so much waits that it is less to tell everything.
    pub(super) fn is_swamped(&self) -> bool {
        self.queue.len() > MOST_QUEUED
    }

    /// Has the whole cache told, as something was learnt.
    pub(super) fn naive(&mut self) {
        self.again = true;
    }

    /// Has the whole cache told to a member that (re)appeared. `asked`: also where there is nothing in it.
    pub(super) fn whole(&mut self, material: Material<'_>, asked: bool) {
        let Material { itr, database, now } = material;
        let items: Vec<Item> = itr
            .found_down(database)
            .map(Item::Locator)
            .chain(itr.told_prefixes(true).map(Item::Mapping))
            .chain(itr.withdrawn_prefixes().map(Item::Gone))
            .collect();
        self.again = false;
        self.outstanding.clear();
        self.queue.clear();
        self.due = None;
        self.transfer = None;
        if asked || !items.is_empty() {
            self.transfer = Some(Transfer {
                kind: Kind::Whole,
                items,
                started: now,
                resume: now,
                records: 0,
                ended: false,
                first: None,
                messages: 0,
            });
        }
    }

    /// Whether the whole cache is being told to a member that (re)appeared.
    pub(super) fn is_transferring(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.kind == Kind::Whole)
    }

    /// Messages that wait for their acknowledgement.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// An acknowledgement came; whether it was waited for.
    pub(super) fn acknowledged(&mut self, nonce: Nonce, now: Instant) -> bool {
        let Some(at) = self.outstanding.iter().position(|o| o.nonces.contains(&nonce)) else { return false };
        let acked = self.outstanding.remove(at);
        for earlier in &mut self.outstanding {
            if earlier.order + OVERTAKEN <= acked.order && earlier.tries == 1 && !earlier.overtaken {
                earlier.overtaken = true;
                earlier.wake = now;
            }
        }
        true
    }

    /// Sends what is due.
    pub(super) fn act(
        &mut self,
        cx: &mut Context,
        voice: &mut Voice,
        to: To,
        material: Material<'_>,
        counters: &mut Counters,
    ) -> Result<Option<Finished>, Lost> {
        self.repeat(cx, voice, to, material, counters)?;
        self.tell_queued(cx, voice, to, material, counters);
        let mut finished = None;
        loop {
            if self.transfer.is_none() && std::mem::take(&mut self.again) {
                let items = material.itr.told_prefixes(false).map(Item::Mapping).collect();
                let (kind, now) = (Kind::Naive, material.now);
                self.transfer = Some(Transfer {
                    kind,
                    items,
                    started: now,
                    resume: now,
                    records: 0,
                    ended: false,
                    first: None,
                    messages: 0,
                });
            }
            finished = self.transfer(cx, voice, to, material, counters).or(finished);
            if self.transfer.is_some() || !self.again {
                return Ok(finished);
            }
        }
    }

    /// When something is due next.
    pub(super) fn next(&self, ack: bool) -> Option<Instant> {
        let room = self.outstanding.len() < WINDOW;
        let due = self.due.filter(|_| room || !ack).map(|due| due.max(self.resume));
        let repeat = self.outstanding.iter().map(|o| o.wake).min();
        // Elsewhere acknowledgements set the pace.
        let transfer = self.transfer.as_ref().filter(|t| t.kind == Kind::Naive && !ack).map(|t| t.resume);
        due.into_iter().chain(repeat).chain(transfer).min()
    }

    /// Tells again what was not acknowledged in time.
    fn repeat(
        &mut self,
        cx: &mut Context,
        voice: &mut Voice,
        to: To,
        material: Material<'_>,
        counters: &mut Counters,
    ) -> Result<(), Lost> {
        let now = material.now;
        if self.outstanding.iter().all(|o| o.wake > now) {
            return Ok(());
        }
        let (due, waiting): (Vec<Outstanding>, Vec<Outstanding>) =
            std::mem::take(&mut self.outstanding).into_iter().partition(|o| o.wake <= now);
        self.outstanding = waiting;
        for mut lost in due {
            // What is sent again because others overtook it has not waited its time.
            let early = lost.overtaken && lost.tries == 1;
            if !early && lost.tries > RETRIES {
                return Err(Lost);
            }
            let mut items = std::mem::take(&mut lost.items);
            items.reverse();
            let (told, records) = page(&mut items, lost.kind, material);
            for left in items {
                self.queue(left, now, true);
            }
            if records.is_empty() && lost.end.is_none() {
                continue;
            }
            counters.repeated += 1;
            lost.tries += 1;
            self.send(cx, voice, to, now, (Outstanding { items: told, ..lost }, records), counters);
        }
        Ok(())
    }

    fn tell_queued(
        &mut self,
        cx: &mut Context,
        voice: &mut Voice,
        to: To,
        material: Material<'_>,
        counters: &mut Counters,
    ) {
        let now = material.now;
        // Looked at first, as every input to the router comes here.
        while self.due.is_some_and(|due| due.max(self.resume) <= now)
            && !(voice.config.ack && self.outstanding.len() >= WINDOW)
        {
            if !voice.config.ack {
                if now >= self.burst.0 + PAUSE {
                    self.burst = (now, 0);
                }
                if self.burst.1 >= BURST {
                    self.resume = self.burst.0 + PAUSE;
                    return;
                }
                self.burst.1 += 1;
            }
            let (told, records) = page(&mut self.queue, Kind::Single, material);
            #[cfg(test)]
            {
                self.looks += told.len() as u64 + 1;
            }
            if self.queue.is_empty() {
                self.due = None;
            }
            if !records.is_empty() {
                let message = Outstanding::new(Kind::Single, told, None);
                self.send(cx, voice, to, now, (message, records), counters);
            }
        }
    }

    fn transfer(
        &mut self,
        cx: &mut Context,
        voice: &mut Voice,
        to: To,
        material: Material<'_>,
        counters: &mut Counters,
    ) -> Option<Finished> {
        let now = material.now;
        let mut transfer = self.transfer.take()?;
        let acked = transfer.kind == Kind::Whole || voice.config.ack;
        let mut sent = 0;
        loop {
            let first = transfer.first;
            let under_way = self.outstanding.iter().any(|o| {
                o.kind == transfer.kind && first.is_some_and(|first| o.nonces.iter().any(|n| *n >= first))
            });
            if transfer.items.is_empty() && transfer.ended {
                if transfer.kind == Kind::Naive {
                    return None;
                }
                if !under_way {
                    let took = now.saturating_since(transfer.started);
                    return Some(Finished { records: transfer.records, took });
                }
                break;
            }
            if acked && self.outstanding.len() >= WINDOW
                || transfer.items.is_empty() && under_way
                || transfer.resume > now
            {
                break;
            }
            if !acked && sent == BURST {
                transfer.resume = now + PAUSE;
                break;
            }
            let (told, records) = page(&mut transfer.items, transfer.kind, material);
            // The last one says so, and is sent once all others have arrived.
            let end = transfer.items.is_empty() && !under_way;
            if records.is_empty() && !end {
                continue;
            }
            transfer.ended |= end;
            transfer.messages = transfer.messages.saturating_add(1);
            // It is its own first one where it is the only one.
            let first = transfer.first.unwrap_or(voice.coming_nonce());
            let messages = if acked { 0 } else { transfer.messages };
            let end = end.then_some(SyncRecord::Whole { first, messages });
            transfer.records += records.len() as u64;
            sent += 1;
            let message = Outstanding::new(transfer.kind, told, end);
            let nonce = self.send(cx, voice, to, now, (message, records), counters);
            transfer.first = transfer.first.or(nonce);
        }
        self.transfer = Some(transfer);
        None
    }

    fn send(
        &mut self,
        cx: &mut Context,
        voice: &mut Voice,
        to: To,
        now: Instant,
        (mut sent, records): (Outstanding, Vec<SyncRecord>),
        counters: &mut Counters,
    ) -> Option<Nonce> {
        let want_ack = sent.kind == Kind::Whole || voice.config.ack;
        let count = records.len() as u64;
        let message = CacheSync {
            want_ack,
            naive: sent.kind == Kind::Naive,
            smart: sent.kind == Kind::Single,
            transfer: sent.kind == Kind::Whole,
            end: sent.end.is_some(),
            records: records.into_iter().chain(sent.end.clone()).collect(),
            ..CacheSync::default()
        };
        let (nonce, len) = voice.tell(cx, to, message)?;
        counters.sent += 1;
        counters.bytes_sent += len as u64;
        counters.records_sent += count;
        self.order += 1;
        if want_ack {
            sent.order = self.order;
            sent.nonces.push(nonce);
            sent.wake = now + pause(sent.tries);
            self.outstanding.push(sent);
        }
        Some(nonce)
    }
}

impl Outstanding {
    fn new(kind: Kind, items: Vec<Item>, end: Option<SyncRecord>) -> Self {
        Self {
            kind,
            end,
            items,
            nonces: SmallVec::new(),
            order: 0,
            tries: 1,
            wake: Instant::ZERO,
            overtaken: false,
        }
    }
}

/// How often something is told again.
pub(super) const RETRIES: u32 = 3;

/// How long an answer is waited for after so many tries: 1, 2 and 4 seconds.
pub(super) const fn pause(tries: u32) -> Duration {
    Duration::from_secs(match tries {
        0 | 1 => 1,
        2 => 2,
        _ => 4,
    })
}

/// What waits to be told.
trait Waiting {
    /// What comes next.
    fn next(&self) -> Option<Item>;
    /// Takes it out.
    fn advance(&mut self);
}

impl Waiting for Vec<Item> {
    fn next(&self) -> Option<Item> {
        self.last().copied()
    }

    fn advance(&mut self) {
        self.pop();
    }
}

impl Waiting for BTreeSet<Item> {
    fn next(&self) -> Option<Item> {
        self.last().copied()
    }

    fn advance(&mut self) {
        self.pop_last();
    }
}

/// As many records as fit a message, and what they are about; what is no longer there is left out.
fn page(items: &mut impl Waiting, kind: Kind, material: Material<'_>) -> (Vec<Item>, Vec<SyncRecord>) {
    let (mut told, mut records) = (Vec::new(), Vec::new());
    let mut room = ROOM;
    while let Some(item) = items.next() {
        let record = record(item, kind == Kind::Whole, material);
        let Some((record, len)) = record.and_then(|r| r.encoded_len().ok().map(|len| (r, len))) else {
            items.advance();
            continue;
        };
        // One that fits no message goes alone.
        let full = records.len() == MOST_RECORDS || len > room;
        if full && !records.is_empty() {
            break;
        }
        room = room.saturating_sub(len);
        items.advance();
        told.push(item);
        records.push(record);
    }
    (told, records)
}

fn record(item: Item, copies: bool, material: Material<'_>) -> Option<SyncRecord> {
    let Material { itr, database, now } = material;
    match item {
        Item::Mapping(prefix) => itr.told(&prefix, copies, now).map(SyncRecord::Mapping),
        Item::Gone(prefix) => {
            let Some(since) = itr.withdrawn(&prefix) else {
                // It has come back.
                return itr.told(&prefix, false, now).map(SyncRecord::Mapping);
            };
            let gone = Mapping::negative(prefix, Ttl::WITHDRAWN, Action::NoAction);
            let gone = SyncMapping {
                copy: false,
                echoes: false,
                seconds: 0,
                millis: 0,
                inside: 0,
                age: SyncMapping::millis(now.saturating_since(since)),
                record: EidRecord::from(&gone),
            };
            Some(SyncRecord::Mapping(gone))
        }
        Item::Locator(rloc) => {
            Some(SyncRecord::Locator { address: Address::from(rloc), up: itr.is_reached(&rloc, database) })
        }
    }
}

//! What one member is told: in which messages, at which pace, and again where it is not acknowledged.
//!
//! Owns: the queue, and the messages that wait for their acknowledgement. What a message holds is made in
//! [`super::record`], and what of the whole cache comes next is known to [`super::transfer`].

use std::collections::BTreeSet;
use std::time::Duration;

use smallvec::SmallVec;

use crate::proto::context::Context;
use crate::types::{EidPrefix, Instant, Nonce};
use crate::wire::{CacheSync, SyncRecord};

use super::member::Counters;
use super::record::{HEADERS, Item, LEAST_ROOM, Limits, Material, Page, page};
use super::transfer::{Finished, Kind, Transfer};
use super::{To, Voice};

/// Messages under way at once, at first …
pub(super) const WINDOW: usize = 32;
/// … and once these arrive: as many as fit the smallest receive buffer that a system has by default, and as
/// the receiver can tell from replays when they overtake each other ([`crate::auth::replay::ReplayWindow`]).
pub(super) const WIDEST: usize = 64;
/// Lost messages make it no smaller than this.
const NARROWEST: usize = 8;
/// Without acknowledgements: so many messages at a time …
const BURST: usize = 32;
/// … and then a pause.
const PAUSE: Duration = Duration::from_millis(10);
/// How long what only prolongs an entry waits for others like it.
const LINGER: Duration = Duration::from_secs(1);
/// A message that so many later ones overtook is lost.
const OVERTAKEN: u64 = 3;
/// What waits to be told; with more than that, the whole cache is.
const MOST_QUEUED: usize = 1 << 16;
/// Mappings that are not told any more, as they are too large to arrive.
const MOST_LEFT_OUT: usize = 1024;
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

/// The member is told no more: it does not acknowledge a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// When that was sent first.
    pub(super) since: Instant,
    /// Its one mapping, where it was too large for a message with others.
    pub(super) too_large: Option<EidPrefix>,
}

/// What one member is told.
#[derive(Debug)]
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
    /// How many of these there may be.
    window: usize,
    limits: Limits,
    /// How many messages were sent.
    order: u64,
    /// How many items were looked at, to be told.
    #[cfg(test)]
    pub(super) looks: u64,
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
    /// When it was sent first.
    since: Instant,
    order: u64,
    tries: u32,
    wake: Instant,
    /// Later ones overtook it; it is sent again at once.
    overtaken: bool,
    /// Its one record is larger than all of a message's should be.
    too_large: bool,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            queue: BTreeSet::new(),
            due: None,
            resume: Instant::ZERO,
            burst: (Instant::ZERO, 0),
            transfer: None,
            again: false,
            outstanding: Vec::new(),
            window: WINDOW,
            limits: Limits::default(),
            order: 0,
            #[cfg(test)]
            looks: 0,
        }
    }
}

impl Outgoing {
    /// Nothing is to be told any more, until all is told. What is known of the way to the member remains.
    pub(super) fn reset(&mut self) {
        *self = Self { limits: std::mem::take(&mut self.limits), ..Self::default() };
    }

    /// The same, as a message is not acknowledged although it should be: it goes on with smaller ones, one by
    /// one.
    pub(super) fn shrink(&mut self, lost: &Lost) {
        self.reset();
        self.window = 1;
        if let Some(prefix) = lost.too_large.filter(|_| self.limits.left_out.len() < MOST_LEFT_OUT) {
            self.limits.left_out.insert(prefix);
        }
        self.limits.room = (self.limits.room / 2).max(LEAST_ROOM);
    }

    /// Bytes that a message may have, but for one with a single record that is larger.
    pub(super) fn largest(&self) -> usize {
        HEADERS + self.limits.room
    }

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
        self.again = false;
        self.outstanding.clear();
        self.queue.clear();
        self.due = None;
        let mut transfer = Transfer::new(Kind::Whole, material);
        self.transfer = (transfer.refill(material) || asked).then_some(transfer);
    }

    /// Whether the whole cache is being told to a member that (re)appeared.
    pub(super) fn is_transferring(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.kind == Kind::Whole)
    }

    /// Whether there is nothing to tell, and nothing is waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.transfer.is_none() && !self.again && self.queue.is_empty() && self.outstanding.is_empty()
    }

    /// Messages that wait for their acknowledgement.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// What of a whole cache is listed to be told.
    #[cfg(test)]
    pub(super) fn listed(&self) -> usize {
        self.transfer.as_ref().map_or(0, |transfer| transfer.items.len())
    }

    /// Since when a message has waited for its acknowledgement that was sent again, in vain so far.
    pub(super) fn doubtful_since(&self) -> Option<Instant> {
        let again = self.outstanding.iter().filter(|o| o.tries > 1 && !(o.overtaken && o.tries == 2));
        again.map(|o| o.since).max()
    }

    /// An acknowledgement came; whether it was waited for.
    pub(super) fn acknowledged(&mut self, nonce: Nonce, now: Instant) -> bool {
        let Some(at) = self.outstanding.iter().position(|o| o.nonces.contains(&nonce)) else { return false };
        let acked = self.outstanding.remove(at);
        if acked.tries == 1 {
            self.window = (self.window + 1).min(WIDEST);
        }
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
                self.transfer = Some(Transfer::new(Kind::Naive, material));
            }
            finished = self.transfer(cx, voice, to, material, counters).or(finished);
            if self.transfer.is_some() || !self.again {
                return Ok(finished);
            }
        }
    }

    /// When something is due next.
    pub(super) fn next(&self, ack: bool) -> Option<Instant> {
        let room = self.outstanding.len() < self.window;
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
        self.window = (self.window / 2).max(self.window.min(NARROWEST));
        for mut lost in due {
            // What is sent again because others overtook it has not waited its time.
            let early = lost.overtaken && lost.tries == 1;
            if !early && lost.tries > RETRIES {
                let too_large = lost.items.first().filter(|_| lost.too_large);
                let too_large = too_large.and_then(|item| match item {
                    Item::Mapping(prefix) => Some(*prefix),
                    Item::Gone(_) | Item::Locator(_) => None,
                });
                return Err(Lost { since: lost.since, too_large });
            }
            let mut items = std::mem::take(&mut lost.items);
            items.reverse();
            let told = page(&mut items, lost.kind == Kind::Whole, &self.limits, material);
            match &mut self.transfer {
                Some(transfer) if transfer.kind == lost.kind && !transfer.ended => {
                    transfer.items.append(&mut items);
                }
                _ => items.into_iter().for_each(|item| self.queue(item, now, true)),
            }
            if told.records.is_empty() && lost.end.is_none() {
                continue;
            }
            counters.repeated += 1;
            lost.tries += 1;
            self.send(cx, voice, to, now, (lost, told), counters);
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
            && !(voice.config.ack && self.outstanding.len() >= self.window)
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
            let told = page(&mut self.queue, false, &self.limits, material);
            #[cfg(test)]
            {
                self.looks += told.items.len() as u64 + 1;
            }
            if self.queue.is_empty() {
                self.due = None;
            }
            if !told.records.is_empty() {
                self.send(cx, voice, to, now, (Outstanding::new(Kind::Single, now), told), counters);
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
            let more = transfer.refill(material);
            if !more && transfer.ended {
                if transfer.kind == Kind::Naive {
                    return None;
                }
                if !under_way {
                    let took = now.saturating_since(transfer.started);
                    return Some(Finished { records: transfer.records, took });
                }
                break;
            }
            if acked && self.outstanding.len() >= self.window || !more && under_way || transfer.resume > now {
                break;
            }
            if !acked && sent == BURST {
                transfer.resume = now + PAUSE;
                break;
            }
            let told = page(&mut transfer.items, transfer.kind == Kind::Whole, &self.limits, material);
            // The last one says so, and is sent once all others have arrived.
            let end = !transfer.refill(material) && !under_way;
            if told.records.is_empty() && !end {
                continue;
            }
            transfer.ended |= end;
            transfer.messages = transfer.messages.saturating_add(1);
            // It is its own first one where it is the only one.
            let first = transfer.first.unwrap_or(voice.coming_nonce());
            let messages = if acked { 0 } else { transfer.messages };
            let end = end.then_some(SyncRecord::Whole { first, messages });
            transfer.records += told.records.len() as u64;
            sent += 1;
            let message = Outstanding { end, ..Outstanding::new(transfer.kind, now) };
            let nonce = self.send(cx, voice, to, now, (message, told), counters);
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
        (mut sent, Page { items, records }): (Outstanding, Page),
        counters: &mut Counters,
    ) -> Option<Nonce> {
        let want_ack = sent.kind == Kind::Whole || voice.config.ack;
        let count = records.len() as u64;
        let len = |record: &SyncRecord| record.encoded_len().unwrap_or(usize::MAX);
        sent.too_large = matches!(&records[..], [only] if len(only) > self.limits.room);
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
            sent.items = items;
            sent.order = self.order;
            sent.nonces.push(nonce);
            sent.wake = now + pause(sent.tries);
            self.outstanding.push(sent);
        }
        Some(nonce)
    }
}

impl Outstanding {
    fn new(kind: Kind, now: Instant) -> Self {
        Self {
            kind,
            end: None,
            items: Vec::new(),
            nonces: SmallVec::new(),
            since: now,
            order: 0,
            tries: 1,
            wake: now,
            overtaken: false,
            too_large: false,
        }
    }
}

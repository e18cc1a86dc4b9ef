//! One other xTR of the site: whether it is there, which of its messages are believed, and what came of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use rand::RngExt;
use smallvec::SmallVec;

use crate::proto::config::{SyncConfig, SyncMode};
use crate::proto::context::Context;
use crate::proto::event::Event;
use crate::proto::rate::TokenBucket;
use crate::proto::stats::DropReason;
use crate::proto::xtr::database::Database;
use crate::proto::xtr::itr::Itr;
use crate::proto::xtr::map_cache::Journal;
use crate::types::{Instant, Nonce};
use crate::wire::{Address, CacheSync, CacheSyncAck, SyncRecord};

use super::history::History;
use super::incoming::Incoming;
use super::outgoing::{Lost, Outgoing, RETRIES, pause};
use super::record::{Item, Material};
use super::{To, Voice};

/// How often a silent member is asked whether it is back.
const SILENT_HELLO: Duration = Duration::from_secs(1);
/// After so long without progress, the whole cache is asked for again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Challenges that are still good, so that a late answer counts.
const CHALLENGES: usize = 4;
/// What it is told goes on after so long where it was not acknowledged; after twice as long the next time,
/// …
const FIRST_REST: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Hellos per second that are sent or answered because of messages which are not believed, as anybody may
/// have recorded them (bucket of twice as many).
const DOUBTFUL_RATE: u32 = 4;

/// Whether a member is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// Not known yet.
    Unheard,
    /// It answers.
    Up,
    /// It does not.
    Silent,
    /// It does, but what it is told it does not acknowledge.
    Deaf,
    /// It is this very router: one list may serve all of a site's.
    Ourselves,
}

impl MemberState {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unheard => "unheard",
            Self::Up => "up",
            Self::Silent => "silent",
            Self::Deaf => "deaf",
            Self::Ourselves => "this router",
        }
    }
}

/// A whole cache that went or came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// When it was complete.
    pub at: Instant,
    /// Records.
    pub records: u64,
    /// From its beginning to its end.
    pub took: Duration,
}

/// What was counted of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// CacheSyncs sent, Hellos not included.
    pub sent: u64,
    /// Bytes of these, without UDP and IP headers.
    pub bytes_sent: u64,
    /// Records in these.
    pub records_sent: u64,
    /// Of these messages, those sent again.
    pub repeated: u64,
    /// CacheSyncs received and believed, Hellos included.
    pub received: u64,
    /// Records that were used.
    pub records_used: u64,
    /// Hellos sent.
    pub hellos: u64,
    /// Messages, and records, that were not used, by reason.
    pub ignored: BTreeMap<DropReason, u64>,
}

impl Counters {
    pub(super) fn ignored(&mut self, reason: DropReason) {
        *self.ignored.entry(reason).or_default() += 1;
    }
}

/// Another xTR of the site.
#[derive(Debug)]
pub struct Member {
    /// Its address.
    pub address: IpAddr,
    /// Whether it is there.
    pub state: MemberState,
    /// Since when.
    pub since: Instant,
    /// What was counted.
    pub counters: Counters,
    /// The last whole cache that it sent.
    pub received: Option<Transferred>,
    /// The last whole cache that it was sent.
    pub sent: Option<Transferred>,
    /// Its session, once proved.
    pub(super) peer: Option<Peer>,
    challenges: SmallVec<[u64; CHALLENGES]>,
    /// Hellos since the last answer.
    pub(super) unanswered: u32,
    pub(super) hello_at: Instant,
    /// The last sign of its presence: an answer to a Hello, or an acknowledgement of what was sent in this
    /// session.
    proved_at: Option<Instant>,
    /// How often in a row it did not acknowledge what it was told, although it was there.
    refusals: u32,
    /// Not before this is it told anything again.
    resume: Instant,
    doubtful: TokenBucket,
    /// Its whole cache is wanted.
    pub(super) wants: bool,
    /// It is to be sent the whole cache.
    owed: bool,
    /// It has asked for that.
    asked: bool,
    /// Why what it said of locators is to be forgotten.
    forget: Option<Forget>,
    pub(super) incoming: Incoming,
    pub(super) out: Outgoing,
}

/// Why a member's words count no longer.
#[derive(Clone, Copy, Debug)]
enum Forget {
    /// It is not there, and what it said may still be true.
    Silent,
    /// It has another session, and says so itself if it is still true.
    Renewed,
}

#[derive(Debug)]
pub(super) struct Peer {
    session: u64,
    /// When that was proved.
    pub(super) since: Instant,
    pub(super) history: History,
}

impl Member {
    pub(super) fn new(address: IpAddr, now: Instant) -> Self {
        Self {
            address,
            state: MemberState::Unheard,
            since: now,
            counters: Counters::default(),
            received: None,
            sent: None,
            peer: None,
            challenges: SmallVec::new(),
            unanswered: 0,
            hello_at: now,
            proved_at: None,
            refusals: 0,
            resume: now,
            doubtful: TokenBucket::new(DOUBTFUL_RATE, now),
            wants: true,
            owed: false,
            asked: false,
            forget: None,
            incoming: Incoming::default(),
            out: Outgoing::default(),
        }
    }

    /// Messages that wait for their acknowledgement.
    pub fn outstanding(&self) -> usize {
        self.out.outstanding()
    }

    /// Whether its whole cache has not come yet.
    pub const fn is_awaited(&self) -> bool {
        self.wants
    }

    /// Takes in what there is to tell.
    pub(super) fn note(&mut self, now: Instant, mode: SyncMode, journal: &Journal) {
        if !self.is_told(now) {
            // It gets everything once it is there.
            return;
        }
        for (prefix, news) in &journal.learnt {
            match mode {
                SyncMode::Naive if *news => self.out.naive(),
                _ => self.out.queue(Item::Mapping(*prefix), now, *news),
            }
        }
        for prefix in &journal.gone {
            self.out.queue(Item::Gone(*prefix), now, true);
        }
        for rloc in &journal.rlocs {
            self.out.queue(Item::Locator(*rloc), now, true);
        }
        if self.out.is_swamped() {
            self.owed = true;
        }
    }

    /// Does what is due.
    pub(super) fn act(
        &mut self,
        cx: &mut Context,
        now: Instant,
        voice: &mut Voice,
        itr: &Itr,
        database: &Database,
    ) {
        if self.hello_at <= now {
            self.hello(cx, now, voice);
        }
        if !self.is_told(now) {
            return;
        }
        let material = Material { itr, database, now };
        if std::mem::take(&mut self.owed) {
            let asked = std::mem::take(&mut self.asked);
            self.out.whole(material, asked);
        }
        let to = self.to();
        match self.out.act(cx, voice, to, material, &mut self.counters) {
            Ok(None) => {}
            Ok(Some(finished)) => {
                self.refusals = 0;
                let (records, took) = (finished.records, finished.took);
                self.sent = Some(Transferred { at: now, records, took });
                let member = self.address;
                cx.event(Event::SyncTransferred { member, received: false, records, took });
            }
            Err(lost) if self.proved_at.is_some_and(|at| at > lost.since) => self.rest(cx, now, &lost),
            Err(_) => self.lose(cx, now),
        }
        if self.state == MemberState::Deaf && self.resume <= now && self.out.is_idle() {
            // All of it has arrived.
            self.enter(MemberState::Up, now);
        }
        // Is it there at all?
        let doubtful =
            self.out.doubtful_since().is_some_and(|since| self.proved_at.is_none_or(|at| at <= since));
        if doubtful && self.unanswered == 0 {
            self.hello_at = now;
            self.hello(cx, now, voice);
        }
    }

    /// Forgets what it said of locators, where it is not there any more, or not as it was.
    pub(super) fn forget(&mut self, cx: &mut Context, now: Instant, itr: &mut Itr, database: &Database) {
        match (self.forget.take(), &self.peer) {
            (None, _) => {}
            (Some(Forget::Renewed), Some(peer)) => {
                itr.told_all_locators(cx, now, self.address, (peer.since, Nonce(0)), database);
            }
            (Some(_), _) => itr.forget_words(self.address),
        }
    }

    /// Whether it is told what there is to tell at present.
    fn is_told(&self, now: Instant) -> bool {
        match self.state {
            MemberState::Up => true,
            MemberState::Deaf => self.resume <= now,
            MemberState::Unheard | MemberState::Silent | MemberState::Ourselves => false,
        }
    }

    fn enter(&mut self, state: MemberState, now: Instant) {
        self.state = state;
        self.since = now;
    }

    pub(super) fn next(&self, config: &SyncConfig) -> Instant {
        let told = match self.state {
            MemberState::Up => self.out.next(config.ack),
            MemberState::Deaf => {
                Some(self.out.next(config.ack).map_or(self.resume, |at| at.max(self.resume)))
            }
            MemberState::Unheard | MemberState::Silent | MemberState::Ourselves => None,
        };
        told.into_iter().chain(self.incoming.next()).fold(self.hello_at, Instant::min)
    }

    /// A CacheSync that is authentic.
    pub(super) fn heard(
        &mut self,
        cx: &mut Context,
        now: Instant,
        voice: &mut Voice,
        message: &CacheSync,
        ours: IpAddr,
        (itr, database): (&mut Itr, &Database),
    ) -> Result<(), DropReason> {
        if message.session == voice.session {
            // Our own, sent back; or it came to where it was sent to, which is here.
            if ours != self.address {
                return Err(DropReason::SyncSession);
            }
            self.is_ourselves(cx, now, voice);
            return Ok(());
        }
        let hello = message.records.iter().find_map(|record| match record {
            SyncRecord::Hello { challenge, to } => Some((*challenge, to.to_ip() == Some(ours))),
            _ => None,
        });
        let bound = message.receiver == voice.session;
        if hello.map_or(!bound, |(_, is_ours)| !is_ours) {
            return Err(DropReason::SyncMisdirected);
        }
        let from = To { address: self.address, session: message.session };
        let mut reply = Vec::new();
        if let Some((challenge, _)) = hello {
            let to = Address::from(self.address);
            reply.push(SyncRecord::HelloReply { challenge, last: voice.last_nonce(), to });
        }
        let peer = self.peer.as_mut().filter(|peer| peer.session == message.session);
        let known = peer.is_some();
        if peer.is_some_and(|peer| !peer.history.accept(message.nonce, now)) {
            return Err(DropReason::SyncReplayed);
        }
        if !(known && bound) {
            // It has started anew, or we have; or somebody sends what he recorded.
            if !self.doubtful.take(DOUBTFUL_RATE, now) {
                return Err(DropReason::SyncSession);
            }
            if self.unanswered == 0 || self.state == MemberState::Silent {
                self.hello_at = now;
            }
            if reply.is_empty() {
                return Err(DropReason::SyncSession);
            }
            self.asked |= message.request;
            voice.acknowledge(cx, from, message.nonce, reply);
            return Ok(());
        }
        self.counters.received += 1;
        let used = self.take_in(cx, now, message, ours, itr, database);
        self.counters.records_used += used;
        self.reconcile(cx, now, message, itr, database);
        if message.request {
            self.asked = true;
            self.owed |= !self.out.is_transferring();
        }
        if message.transfer {
            self.transferred(cx, now, message);
        }
        if message.want_ack {
            voice.acknowledge(cx, from, message.nonce, reply);
        }
        Ok(())
    }

    /// A CacheSync-Ack that is authentic.
    pub(super) fn acknowledged(
        &mut self,
        cx: &mut Context,
        now: Instant,
        voice: &Voice,
        ack: &CacheSyncAck,
        ours: IpAddr,
    ) -> Result<(), DropReason> {
        if ack.session == voice.session {
            return Err(DropReason::SyncSession);
        }
        if ack.receiver != voice.session {
            return Err(DropReason::SyncMisdirected);
        }
        for record in &ack.records {
            let SyncRecord::HelloReply { challenge, last, to } = record else { continue };
            if to.to_ip() != Some(ours) {
                return Err(DropReason::SyncMisdirected);
            }
            if !self.challenges.contains(challenge) {
                return Err(DropReason::SyncAck);
            }
            self.proved(cx, now, voice, ack.session, History::after(*last, now));
            return Ok(());
        }
        if self.peer.as_ref().is_none_or(|peer| peer.session != ack.session) {
            return Err(DropReason::SyncSession);
        }
        if !self.out.acknowledged(ack.nonce, now) {
            return Err(DropReason::SyncAck);
        }
        // Nobody could have recorded that.
        self.proved_at = Some(now);
        self.unanswered = 0;
        Ok(())
    }

    fn hello(&mut self, cx: &mut Context, now: Instant, voice: &mut Voice) {
        if self.unanswered >= RETRIES && self.state != MemberState::Silent {
            // Or it was us, and that address is no longer ours.
            self.lose(cx, now);
        }
        let challenge = cx.rng.random();
        if self.challenges.len() == CHALLENGES {
            self.challenges.remove(0);
        }
        self.challenges.push(challenge);
        self.unanswered = self.unanswered.saturating_add(1);
        let wait = if self.state == MemberState::Silent { SILENT_HELLO } else { pause(self.unanswered) };
        self.hello_at = now + wait;
        let hello = CacheSync {
            want_ack: true,
            request: self.wants,
            records: vec![SyncRecord::Hello { challenge, to: Address::from(self.address) }],
            ..CacheSync::default()
        };
        if voice.tell(cx, self.to(), hello).is_some() {
            self.counters.hellos += 1;
        }
    }

    /// It is there, and this is its session.
    fn proved(&mut self, cx: &mut Context, now: Instant, voice: &Voice, session: u64, history: History) {
        self.challenges.clear();
        self.unanswered = 0;
        self.proved_at = Some(now);
        let interval = voice.config.hello_interval;
        self.hello_at = now + cx.between(interval * 9 / 10, interval);
        if self.wants {
            self.hello_at = self.hello_at.min(now + ASK_AGAIN);
        }
        let known = self.peer.as_ref().is_some_and(|peer| peer.session == session);
        if !known {
            self.peer = Some(Peer { session, since: now, history });
            self.incoming.start();
            self.forget = Some(Forget::Renewed);
            self.refusals = 0;
            self.out = Outgoing::default();
        }
        if known && matches!(self.state, MemberState::Up | MemberState::Deaf) {
            return;
        }
        self.enter(MemberState::Up, now);
        self.out.reset();
        self.owed = true;
        cx.event(Event::SyncMember { member: self.address, up: true });
    }

    /// It is this router, whose Hello has come back to it.
    fn is_ourselves(&mut self, cx: &mut Context, now: Instant, voice: &Voice) {
        self.challenges.clear();
        self.unanswered = 0;
        self.hello_at = now + voice.config.hello_interval;
        self.wants = false;
        if self.state != MemberState::Ourselves {
            self.enter(MemberState::Ourselves, now);
            self.peer = None;
            cx.event(Event::SyncOurselves { member: self.address });
        }
    }

    /// Whom messages to it are for.
    fn to(&self) -> To {
        To { address: self.address, session: self.peer.as_ref().map_or(0, |peer| peer.session) }
    }

    /// It does not answer.
    fn lose(&mut self, cx: &mut Context, now: Instant) {
        self.enter(MemberState::Silent, now);
        self.forget = Some(Forget::Silent);
        self.unanswered = self.unanswered.max(RETRIES);
        self.hello_at = now + SILENT_HELLO;
        self.wants = true;
        self.incoming.start();
        self.out.reset();
        cx.event(Event::SyncMember { member: self.address, up: false });
    }

    /// It answers, but does not acknowledge what it is told: so it is told all of that later, in smaller
    /// messages.
    fn rest(&mut self, cx: &mut Context, now: Instant, lost: &Lost) {
        self.refusals = self.refusals.saturating_add(1);
        let rest = FIRST_REST * (1 << (self.refusals - 1).min(6));
        let rest = rest.min(LONGEST_REST);
        let bytes = self.out.largest();
        self.out.shrink(lost);
        self.owed = true;
        self.resume = now + rest;
        self.enter(MemberState::Deaf, now);
        cx.event(Event::SyncUnacknowledged { member: self.address, bytes, retry_in: rest });
    }
}

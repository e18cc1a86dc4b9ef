//! What the ITR asks the mapping system for: destinations that packets miss, entries that are to be known
//! anew, and those that packets may go to soon.
//!
//! Owns: which of them are asked for and which are not, so that neither one host nor what may be forged makes
//! the ITR ask without bound (RFC 9301 §5.3), and their retransmission. What has been asked is kept in
//! [`PendingTable`].
//!
//! [`PendingTable`]: crate::proto::xtr::pending::PendingTable

use std::net::{IpAddr, SocketAddr};

use crate::fib::FibUpdate;
use crate::proto::context::{Context, is_unicast};
use crate::proto::control::LigError;
use crate::proto::event::Event;
use crate::proto::rate::TokenBucket;
use crate::proto::stats::DropReason;
use crate::proto::xtr::database::{Database, LocalRlocs};
use crate::proto::xtr::map_cache::GLEANED_TIME;
use crate::proto::xtr::pending::{Pending, Reason};
use crate::types::{Action, Eid, EidPrefix, Instant, Rloc};
use crate::wire::{Address, MapRequest};

use super::Itr;
use super::message::{itr_rlocs, send_request};

/// Entries that one SMR may have asked for again.
const MAX_SOLICITED: usize = 8;
/// SMR-invoked Map-Requests per second, all in all (bucket of twice as many).
const SOLICITED_RATE: u32 = 500;
/// The same of SMRs that don't come from a locator of the entry that they are about: a site that has moved
/// sends such, but so can anybody.
const STRANGERS_RATE: u32 = 20;
/// Map-Requests outstanding that no packet waits for, at most; a quarter of a small table.
const MAX_EXPECTING: usize = 256;
/// Such Map-Requests per second (bucket of twice as many): what they are sent for may be forged.
const EXPECTING_RATE: u32 = 100;

/// What may still be asked for because of messages and packets that may be forged.
#[derive(Debug)]
pub(super) struct Rates {
    /// By SMRs.
    solicited: TokenBucket,
    strangers: TokenBucket,
    /// Without a packet that waits for it.
    expecting: TokenBucket,
}

impl Rates {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            solicited: TokenBucket::new(SOLICITED_RATE, now),
            strangers: TokenBucket::new(STRANGERS_RATE, now),
            expecting: TokenBucket::new(EXPECTING_RATE, now),
        }
    }
}

impl Itr {
    /// Asks again what was not answered in time, and tells the data plane of what has rested for long enough.
    pub(super) fn retry(&mut self, cx: &mut Context, now: Instant, local: &LocalRlocs) {
        while let Some((eid, pending)) = self.pending.pop_due(now) {
            if pending.resting {
                if pending.punted {
                    cx.fib(FibUpdate::Unpend { eid });
                }
            } else {
                self.request(cx, now, eid, pending, local);
            }
        }
    }

    /// Asks a Map-Resolver only to see whether, and how fast, it answers.
    pub(super) fn explore(&mut self, cx: &mut Context, now: Instant, local: &LocalRlocs) {
        let Some((nonce, exploration)) = self.resolvers.explore(cx, now) else { return };
        let request = MapRequest {
            nonce,
            itr_rlocs: itr_rlocs(local),
            records: vec![exploration.prefix.into()],
            ..MapRequest::default()
        };
        let to = (local.control_source(&exploration.resolver, 0), exploration.resolver);
        send_request(cx, &request, exploration.prefix.first(), None, to, local);
    }

    pub(super) fn miss(
        &mut self,
        cx: &mut Context,
        now: Instant,
        source: IpAddr,
        eid: Eid,
        database: &Database,
    ) {
        if database.longest(&eid).is_some() {
            // Became local between the packet and now.
            cx.fib(FibUpdate::Unpend { eid });
            return;
        }
        let mut rest_until = None;
        if let Some((prefix, entry)) = self.cache.longest(&eid) {
            if !(entry.mapping.is_negative() && entry.mapping.action == Action::SendMapRequest) {
                // Resolved between the packet and now.
                cx.fib(FibUpdate::Unpend { eid });
                return;
            }
            let retry = cx.timers.request_retry;
            rest_until = entry.asked.map(|asked| asked + retry).filter(|until| *until > now);
            if rest_until.is_none()
                && let Some(entry) = self.cache.get_mut(&prefix)
            {
                entry.asked = Some(now);
            }
        }
        if let Some(mut pending) = self.pending.remove(&eid) {
            pending.punted = true;
            self.pending.insert(eid, pending);
            return;
        }
        // One host that tries many destinations must leave others a chance.
        let limit = cx.timers.pending_requests;
        if self.pending.len() >= limit * 3 / 4 && self.pending.of_source(&source) >= (limit / 2).max(1) {
            cx.drop(DropReason::PendingSource, None);
            cx.fib(FibUpdate::Unpend { eid });
            return;
        }
        if !self.make_room(cx) {
            cx.drop(DropReason::PendingFull, None);
            cx.fib(FibUpdate::Unpend { eid });
            return;
        }
        // What a proxy-ITR takes for others comes from no EID (RFC 9301 §5.2: no source EID then).
        let is_eid =
            self.config.proxy_for.is_empty() || database.longest(&Eid::new(eid.iid, source)).is_some();
        let pending = self.new_pending(cx, now, eid.to_prefix(), Some(source).filter(|_| is_eid));
        match rest_until {
            // The EID-prefix was asked for a moment ago (RFC 9301 §5.3: once per second).
            Some(until) => {
                self.pending.insert(eid, Pending { resting: true, punted: true, wake: until, ..pending });
            }
            None => self.request(cx, now, eid, Pending { punted: true, ..pending }, database.rlocs()),
        }
    }

    /// Another ITR asked for `ours` on behalf of `eid`: packets to `eid` will follow soon. Asks for it,
    /// unless that is known or there is much else to ask for.
    pub(crate) fn expect(
        &mut self,
        cx: &mut Context,
        now: Instant,
        eid: Eid,
        ours: Option<IpAddr>,
        database: &Database,
    ) {
        let known = database.longest(&eid).is_some()
            || self.cache.longest(&eid).is_some()
            || self.pending.get(&eid).is_some();
        if !self.config.expect_return || known || !is_unicast(&eid.addr) || !self.make_room_expecting(cx, now)
        {
            return;
        }
        let pending = self.new_pending(cx, now, eid.to_prefix(), ours);
        let pending = Pending { reason: Reason::Expected, ..pending };
        self.request(cx, now, eid, pending, database.rlocs());
    }

    /// A packet, or a Map-Request, came from an EID that the cache doesn't cover: asks for it, unless there
    /// is much else to ask for, and uses the locator that it came from meanwhile, if that is wanted. It may
    /// be forged.
    pub(crate) fn unverified(
        &mut self,
        cx: &mut Context,
        now: Instant,
        source: Eid,
        destination: Option<IpAddr>,
        rloc: Rloc,
        database: &Database,
    ) {
        let known = database.longest(&source).is_some() || self.cache.longest(&source).is_some();
        if known || !is_unicast(&source.addr) {
            return;
        }
        let asked = self.pending.get(&source).map(|pending| pending.started);
        if asked.is_none() && !self.make_room_expecting(cx, now) {
            return;
        }
        // Once verification has had its time, nothing more is believed without it.
        if self.config.glean && asked.is_none_or(|at| now.saturating_since(at) < GLEANED_TIME) {
            self.cache.glean(cx, now, source, rloc, database);
        }
        if asked.is_none() {
            let pending = self.new_pending(cx, now, source.to_prefix(), destination);
            let pending = Pending { reason: Reason::Expected, ..pending };
            self.request(cx, now, source, pending, database.rlocs());
        }
    }

    /// The mapping of `eid` has a newer version than the one in the cache, says a packet (RFC 9302 §7.2).
    pub(crate) fn newer(&mut self, cx: &mut Context, now: Instant, eid: &Eid, database: &Database) {
        let Some((prefix, _)) = self.cache.longest(eid) else { return };
        let Some(entry) = self.cache.get(&prefix).filter(|entry| !entry.is_static()) else { return };
        if entry.asked.is_some_and(|asked| now.saturating_since(asked) < cx.timers.request_retry) {
            return;
        }
        // Versions in packets may be forged as SMRs may.
        if self.rates.solicited.take(SOLICITED_RATE, now)
            && self.refresh(cx, now, prefix, false, database.rlocs())
        {
            self.cache.note_asked(&prefix, now);
        }
    }

    /// Asks again for an entry that the map-cache has. Whether it is asked for now: there may be no room for
    /// that, or it may have been asked for in vain until a moment ago.
    pub(in crate::proto::xtr) fn refresh(
        &mut self,
        cx: &mut Context,
        now: Instant,
        prefix: EidPrefix,
        smr: bool,
        local: &LocalRlocs,
    ) -> bool {
        let eid = self.cache.own_eid(&prefix);
        if let Some(known) = self.pending.get(&eid) {
            let again = smr && known.resting;
            if !smr || known.smr_invoked && !again {
                return !known.resting;
            }
            let Some(mut pending) = self.pending.remove(&eid) else { return false };
            pending.smr_invoked = true;
            if again {
                // Who says that the mapping changed also says that somebody is there.
                let punted = pending.punted;
                pending = Pending { smr_invoked: true, punted, ..self.new_pending(cx, now, prefix, None) };
                pending.reason = Reason::Refresh;
                self.request(cx, now, eid, pending, local);
            } else {
                self.pending.insert(eid, pending);
            }
            return true;
        }
        // A part of the table is left for what packets wait for.
        if self.pending.refreshes() >= (cx.timers.pending_requests * 3 / 4).max(1) || !self.make_room(cx) {
            cx.drop(DropReason::PendingFull, None);
            return false;
        }
        let pending = self.new_pending(cx, now, prefix, None);
        let pending = Pending { smr_invoked: smr, reason: Reason::Refresh, ..pending };
        self.request(cx, now, eid, pending, local);
        true
    }

    /// An SMR: the site of `prefix` says that its mapping changed (RFC 9301 §6.1). What is known of it is
    /// asked for again, through the mapping system and at a limited rate, whoever sent the SMR: it proves
    /// nothing. Whether there is anything to ask for.
    pub(crate) fn solicited(
        &mut self,
        cx: &mut Context,
        now: Instant,
        prefix: &EidPrefix,
        peer: SocketAddr,
        local: &LocalRlocs,
    ) -> bool {
        let mut known = false;
        for cached in self.cache.about(prefix, MAX_SOLICITED) {
            let Some(entry) = self.cache.get(&cached).filter(|entry| !entry.is_static()) else {
                continue;
            };
            known = true;
            if entry.asked.is_some_and(|asked| now.saturating_since(asked) < cx.timers.smr_interval) {
                cx.drop(DropReason::SmrRate, Some(peer));
                continue;
            }
            let stranger = entry.mapping.locators.iter().all(|l| l.rloc != peer.ip());
            if stranger && !self.rates.strangers.take(STRANGERS_RATE, now) {
                cx.drop(DropReason::SmrStranger, Some(peer));
                continue;
            }
            if !self.rates.solicited.take(SOLICITED_RATE, now) {
                cx.drop(DropReason::SmrRate, Some(peer));
                continue;
            }
            if self.refresh(cx, now, cached, true, local) {
                self.cache.note_asked(&cached, now);
            }
        }
        known
    }

    /// Something that kept Map-Requests from being sent may be over: tries those that never left again.
    pub(crate) fn kick(&mut self, now: Instant) {
        for eid in self.pending.eids() {
            if self.pending.get(&eid).is_some_and(|p| p.requests == 0 && p.attempts > 0)
                && let Some(mut pending) = self.pending.remove(&eid)
            {
                pending.resting = false;
                pending.attempts = 0;
                pending.wake = now;
                self.pending.insert(eid, pending);
            }
        }
    }

    /// A destination is pending no more: its next miss may be punted.
    pub(in crate::proto::xtr) fn finish(&mut self, cx: &mut Context, eid: &Eid) {
        if self.pending.remove(eid).is_some_and(|p| p.punted) {
            cx.fib(FibUpdate::Unpend { eid: *eid });
        }
    }

    /// Sends a Map-Request, the first or a further one, or lets the destination rest after enough of them
    /// (RFC 9301 §5.3). Inserts it back into the table.
    fn request(
        &mut self,
        cx: &mut Context,
        now: Instant,
        eid: Eid,
        mut pending: Pending,
        local: &LocalRlocs,
    ) {
        if pending.attempts > cx.timers.request_retries {
            cx.event(Event::Unanswered { eid, requests: pending.requests });
            pending.resting = true;
            pending.wake = now + cx.timers.request_rest;
            self.pending.insert(eid, pending);
            return;
        }
        if pending.requests > 0 {
            // Unanswered so far: maybe it is the Map-Resolver's fault.
            if let Some(resolver) = pending.map_resolver {
                self.resolvers.unanswered(cx, now, resolver, pending.sent);
            }
        }
        // Twice as long after every third: 10 retransmissions take half a minute.
        let pause = cx.timers.request_retry.saturating_mul(1 << (pending.attempts / 3).min(16));
        pending.wake = now + cx.between(pause, pause + pause / 10);
        pending.attempts += 1;
        match self.resolvers.choose(cx, &eid, pending.map_resolver, local) {
            Err(LigError::NoLocalRloc) => {
                cx.drop_with(DropReason::NoLocalRloc, None, format!("Map-Request for {eid}"));
            }
            Err(_) => cx.drop_with(DropReason::NoMapResolver, None, format!("Map-Request for {eid}")),
            Ok(resolver) => {
                let source_eid =
                    pending.source.map_or(Address::None, |addr| Address::from(Eid::new(eid.iid, addr)));
                let request = MapRequest {
                    smr_invoked: pending.smr_invoked,
                    nonce: pending.nonce,
                    source_eid,
                    itr_rlocs: itr_rlocs(local),
                    records: vec![pending.asked.into()],
                    ..MapRequest::default()
                };
                let from = local.control_source(&resolver, pending.attempts.saturating_sub(1) as usize);
                send_request(cx, &request, eid, pending.source, (from, resolver), local);
                self.resolvers.asked(cx, now, resolver);
                pending.requests += 1;
                pending.sent = now;
                pending.map_resolver = Some(resolver);
            }
        }
        self.pending.insert(eid, pending);
    }

    fn new_pending(
        &mut self,
        cx: &mut Context,
        now: Instant,
        asked: EidPrefix,
        source: Option<IpAddr>,
    ) -> Pending {
        Pending {
            asked,
            source,
            nonce: cx.nonce(),
            requests: 0,
            map_resolver: None,
            started: now,
            resting: false,
            wake: now,
            punted: false,
            reason: Reason::Miss,
            smr_invoked: false,
            attempts: 0,
            sent: now,
        }
    }

    /// Makes sure that one more destination may become pending, at the cost of one that rests.
    fn make_room(&mut self, cx: &mut Context) -> bool {
        if self.pending.len() < cx.timers.pending_requests {
            return true;
        }
        match self.pending.first_resting() {
            Some(eid) => {
                self.finish(cx, &eid);
                true
            }
            None => false,
        }
    }

    /// Makes sure that one more destination may become pending that no packet waits for, at the cost of an
    /// older one.
    fn make_room_expecting(&mut self, cx: &mut Context, now: Instant) -> bool {
        let most = MAX_EXPECTING.min(cx.timers.pending_requests / 4).max(1);
        if !self.rates.expecting.take(EXPECTING_RATE, now) {
            return false;
        }
        if self.pending.expected() >= most
            && let Some(oldest) = self.pending.first_expected()
        {
            self.finish(cx, &oldest);
        }
        self.make_room(cx)
    }
}

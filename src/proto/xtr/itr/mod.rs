//! The ITR: finds the mapping of every destination that the data plane misses, and keeps those in use fresh.
//!
//! Owns: outstanding Map-Requests and the map-cache. Must not answer requests: that is the ETR's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::fib::{FibUpdate, Punt};
use crate::proto::config::ItrConfig;
use crate::proto::context::{CONTROL_PORT, Context, is_unicast};
use crate::proto::control::{LigAnswer, LigError, Output};
use crate::proto::event::Event;
use crate::proto::rate::TokenBucket;
use crate::proto::stats::DropReason;
use crate::types::{Action, Eid, EidPrefix, Family, Instant, Mapping, Nonce, Rloc, Ttl};
use crate::wire::{Address, Ecm, EidRecord, MapReply, MapRequest, Message};

use super::database::{Database, LocalRlocs};
use super::map_cache::{GLEANED_TIME, Keeping, Learnt, MAX_PATHS, MapCache, Source, Wake};
use super::pending::{Pending, PendingTable, Reason};
use super::proxy::ProxyEtrs;
use super::reachability::Cause;
use super::resolvers::Resolvers;
use super::restored::Unconfirmed;

/// ITR-RLOCs that fit a Map-Request (RFC 9301 §5.2).
const MAX_ITR_RLOCS: usize = 32;
/// Entries that one SMR may have asked for again.
const MAX_SOLICITED: usize = 8;
/// SMR-invoked Map-Requests per second, all in all (bucket of twice as many).
const SOLICITED_RATE: u32 = 500;
/// The same of SMRs that don't come from a locator of the entry that they are about: a site that has moved sends such,
/// but so can anybody.
const STRANGERS_RATE: u32 = 20;
/// Map-Requests of a lig before it gives up.
const LIG_REQUESTS: u32 = 3;
/// Ligs under way at once, and questions where EID-prefixes are that may have moved.
const MAX_LIGS: usize = 64;
const MAX_LOCATES: usize = 4096;
/// Map-Requests outstanding that no packet waits for, at most; a quarter of a small table.
const MAX_EXPECTING: usize = 256;
/// Such Map-Requests per second (bucket of twice as many): what they are sent for may be forged.
const EXPECTING_RATE: u32 = 100;
/// After so long, an entry that there was no room to ask for is tried again.
const REFRESH_AGAIN: Duration = Duration::from_secs(1);
/// How long a path MTU learnt from the underlay is believed (RFC 1191 §6.3, RFC 8201 §4).
const PATH_MTU_LIFETIME: Duration = Duration::from_secs(600);
/// Path MTUs that are remembered.
const MAX_PATH_MTUS: usize = 4096;
/// Smaller path MTUs are not believed: no underlay needs them, and a forged ICMP message could ask for anything.
const MIN_PATH_MTU_IPV4: u16 = 552;
const MIN_PATH_MTU_IPV6: u16 = 1280;

/// The machine.
#[derive(Debug)]
pub(crate) struct Itr {
    config: ItrConfig,
    pub(super) cache: MapCache,
    pub(super) pending: PendingTable,
    ligs: BTreeMap<Nonce, Lig>,
    /// Where EID-prefixes are, that was asked by [`Itr::locate`].
    located: Vec<Located>,
    resolvers: Resolvers,
    /// Path MTUs that the underlay told, each until when it is believed.
    path_mtus: BTreeMap<Rloc, (u16, Instant)>,
    pub(super) proxy_etrs: ProxyEtrs,
    /// What SMRs may still have asked for.
    solicited: TokenBucket,
    strangers: TokenBucket,
    /// What may still be asked for without a packet that waits for it.
    expecting: TokenBucket,
    /// What a snapshot said and nobody has confirmed yet.
    pub(super) unconfirmed: Unconfirmed,
}

/// What the mapping system says of an EID-prefix that may have moved.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) prefix: EidPrefix,
    /// The mapping around it, and who answered; `None` where nobody did.
    pub(crate) answer: Option<(Mapping, SocketAddr)>,
}

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// A command, with its number.
    Command(u64),
    /// Mobility, of this prefix.
    Mobility(EidPrefix),
}

#[derive(Debug)]
struct Lig {
    asker: Asker,
    eid: Eid,
    via: Option<IpAddr>,
    asked: IpAddr,
    requests: u32,
    sent: Instant,
    wake: Instant,
}

impl Itr {
    pub(crate) fn new(cx: &mut Context, now: Instant, config: ItrConfig, database: &Database) -> Self {
        let keeping = keeping(&config);
        let mut cache = MapCache::new(keeping.clone());
        cache.configure(cx, now, keeping, &config.static_entries, database);
        let resolvers = Resolvers::new(&config);
        Self {
            config,
            cache,
            solicited: TokenBucket::new(SOLICITED_RATE, now),
            strangers: TokenBucket::new(STRANGERS_RATE, now),
            expecting: TokenBucket::new(EXPECTING_RATE, now),
            pending: PendingTable::default(),
            ligs: BTreeMap::new(),
            located: Vec::new(),
            resolvers,
            path_mtus: BTreeMap::new(),
            proxy_etrs: ProxyEtrs::default(),
            unconfirmed: Unconfirmed::default(),
        }
    }

    /// The configured proxy-ETRs, or the addresses of their names, may be others now: what goes to them follows.
    pub(crate) fn update_proxy_etrs(&mut self, cx: &mut Context, database: &Database) {
        self.proxy_etrs.update(&self.config.proxy_etrs, &cx.names);
        let stale = self.cache.iter().filter_map(|(prefix, entry)| {
            self.proxy_etrs.changed(&entry.mapping).map(|locators| (prefix, locators))
        });
        let stale: Vec<_> = stale.collect();
        for (prefix, locators) in stale {
            self.cache.set_locators(cx, &prefix, locators, database);
        }
    }

    /// Our own EID-prefixes, or those that this router is a proxy for, are others than before: locators that are among
    /// them are not used, and others are again.
    pub(crate) fn eids_changed(&mut self, cx: &mut Context, database: &Database) {
        for prefix in self.cache.recheck_circular(cx, database) {
            self.complain(cx, &prefix, None, database.rlocs());
        }
    }

    pub(crate) fn cache(&self) -> &MapCache {
        &self.cache
    }

    pub(crate) fn cache_mut(&mut self) -> &mut MapCache {
        &mut self.cache
    }

    pub(crate) fn resolvers(&self) -> &Resolvers {
        &self.resolvers
    }

    pub(crate) fn path_mtu_of(&self, rloc: &Rloc) -> Option<u16> {
        self.path_mtus.get(rloc).map(|(mtu, _)| *mtu)
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = (&Eid, &Pending)> {
        self.pending.iter()
    }

    /// Takes in a new configuration; what the map-cache has learnt stays.
    pub(crate) fn reconfigure(
        &mut self,
        cx: &mut Context,
        now: Instant,
        config: ItrConfig,
        database: &Database,
    ) {
        self.cache.configure(cx, now, keeping(&config), &config.static_entries, database);
        self.resolvers.configure(&config);
        self.config = config;
    }

    /// `prefix` is about to become one of our own: what the map-cache has inside it goes.
    pub(crate) fn becomes_local(&mut self, cx: &mut Context, prefix: &EidPrefix) {
        self.cache.remove_within(cx, prefix);
        for eid in self.pending.within(prefix) {
            self.finish(cx, &eid);
        }
    }

    /// The role ends: nothing of it stays.
    pub(crate) fn stop(&mut self, cx: &mut Context) {
        self.unconfirmed = Unconfirmed::default();
        self.cache.stop(cx);
        for eid in self.pending.eids() {
            self.finish(cx, &eid);
        }
        for (_, lig) in std::mem::take(&mut self.ligs) {
            self.lig_failed(cx, lig.asker, LigError::NoItr);
        }
        for (rloc, _) in std::mem::take(&mut self.path_mtus) {
            cx.fib(FibUpdate::PathMtu { rloc, mtu: None });
        }
    }

    /// Our own locators changed: paths get other sources, and what could not be asked now can.
    pub(crate) fn locators_changed(&mut self, cx: &mut Context, now: Instant, database: &Database) {
        self.probing_locators_changed(cx, now, database.rlocs());
        self.cache.republish(cx, database.rlocs());
        self.kick(now);
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

    pub(crate) fn punt(&mut self, cx: &mut Context, now: Instant, punt: Punt, database: &Database) {
        match punt {
            Punt::Miss { source, destination } => self.miss(cx, now, source, destination, database),
            Punt::PathMtu { rloc, mtu } => self.path_mtu(cx, now, rloc, mtu),
            Punt::Unreachable { rloc } => {
                if !self.unreachable(cx, now, rloc, Cause::Underlay, database.rlocs()) {
                    cx.drop(DropReason::UnreachableUnknown, None);
                }
            }
            // What headers say comes by `super::signals`.
            Punt::NewSource { .. }
            | Punt::Redirected { .. }
            | Punt::Unverified { .. }
            | Punt::LocatorStatus { .. }
            | Punt::StaleVersion { .. }
            | Punt::NewVersion { .. }
            | Punt::EchoDue { .. }
            | Punt::Echoed { .. } => {}
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
        if self.solicited.take(SOLICITED_RATE, now) && self.refresh(cx, now, prefix, false, database.rlocs())
        {
            self.cache.note_asked(&prefix, now);
        }
    }

    /// A packet, or a Map-Request, came from an EID that the cache doesn't cover: asks for it, unless there is much else
    /// to ask for, and uses the locator that it came from meanwhile, if that is wanted. It may be forged.
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

    /// Whether what other sites send is gleaned from.
    pub(crate) fn gleans(&self) -> bool {
        self.config.glean
    }

    /// Packets to a locator arrive: one of them was answered.
    pub(crate) fn arrived(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, database: &Database) {
        self.proven(cx, now, rloc, database.rlocs());
    }

    /// Packets to a locator of the site of `eid` were not answered, although they should have been; `dark` where packets
    /// do come from the site, so that it is those to it that are lost (RFC 9300 §10.1).
    pub(crate) fn silent(
        &mut self,
        cx: &mut Context,
        now: Instant,
        rloc: Rloc,
        eid: &Eid,
        dark: bool,
        database: &Database,
    ) {
        let _ = eid;
        if dark {
            self.unreachable(cx, now, rloc, Cause::Echo, database.rlocs());
        } else {
            self.probe_soon(now, rloc, database.rlocs());
        }
    }

    fn miss(&mut self, cx: &mut Context, now: Instant, source: IpAddr, eid: Eid, database: &Database) {
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

    /// Another ITR asked for `ours` on behalf of `eid`: packets to `eid` will follow soon. Asks for it, unless that is
    /// known or there is much else to ask for.
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

    /// Asks again for an entry that the map-cache has. Whether it is asked for now: there may be no room for that, or
    /// it may have been asked for in vain until a moment ago.
    pub(super) fn refresh(
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

    /// An SMR: the site of `prefix` says that its mapping changed (RFC 9301 §6.1). What is known of it is asked for
    /// again, through the mapping system and at a limited rate, whoever sent the SMR: it proves nothing. Whether there
    /// is anything to ask for.
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
            if stranger && !self.strangers.take(STRANGERS_RATE, now) {
                cx.drop(DropReason::SmrStranger, Some(peer));
                continue;
            }
            if !self.solicited.take(SOLICITED_RATE, now) {
                cx.drop(DropReason::SmrRate, Some(peer));
                continue;
            }
            if self.refresh(cx, now, cached, true, local) {
                self.cache.note_asked(&cached, now);
            }
        }
        known
    }

    pub(crate) fn map_reply(
        &mut self,
        cx: &mut Context,
        now: Instant,
        reply: MapReply,
        source: SocketAddr,
        database: &Database,
    ) {
        if self.resolvers.explored(cx, now, reply.nonce) {
            return;
        }
        if let Some(lig) = self.ligs.remove(&reply.nonce) {
            let took = now.saturating_since(lig.sent);
            self.resolvers.answered(cx, now, lig.asked, (lig.requests == 1).then_some(took));
            let id = match lig.asker {
                Asker::Command(id) => id,
                Asker::Mobility(prefix) => return self.locate_reply(cx, prefix, &reply.records, source),
            };
            let answer = LigAnswer {
                records: reply.records,
                responder: source,
                map_resolver: lig.asked,
                rtt: took,
                requests: lig.requests,
            };
            cx.outputs.push_back(Output::LigReply { id, result: Ok(answer) });
            return;
        }
        if self.is_probe(reply.nonce) {
            return self.probe_reply(cx, now, reply, source, database);
        }
        let Some((eid, pending)) = self.pending.by_nonce(reply.nonce) else {
            cx.drop(DropReason::ReplyNonce, Some(source));
            return;
        };
        let (started, asked, resolver) = (pending.started, pending.asked, pending.map_resolver);
        // Of several Map-Requests it is not known which one is answered (RFC 6298 §3).
        let took = (pending.requests == 1).then(|| now.saturating_since(pending.sent));
        if let Some(resolver) = resolver {
            self.resolvers.answered(cx, now, resolver, took);
        }

        let mut mappings = self.mappings(cx, &reply.records, source);
        // The record that answers is the longest that covers what was asked for, or else the EID; others must be more
        // specific exceptions to it (RFC 9301 §5.5).
        let longest = |of: &dyn Fn(&EidPrefix) -> bool| {
            mappings.iter().filter(|m| of(&m.eid)).max_by_key(|m| m.eid.len())
        };
        let answer = longest(&|p| p.covers(&asked)).or_else(|| longest(&|p| p.contains(&eid)));
        let Some(answer) = answer.map(|m| (m.eid, m.is_negative(), m.action, m.ttl)) else {
            cx.drop_with(DropReason::ReplyNotCovering, Some(source), format!("{eid} was asked for"));
            return;
        };
        let (prefix, negative, action, ttl) = answer;
        if let Some(resolver) = resolver {
            self.resolvers.plan(cx, now, &asked, resolver, database.rlocs());
        }
        cx.event(Event::Resolved {
            eid,
            prefix,
            negative,
            took: now.saturating_since(started),
            responder: source.ip(),
        });

        self.cache.remove_hiding(cx, now, &eid, &prefix);
        // Outermost last, so that its lifetime can respect theirs.
        mappings.sort_by_key(|m| std::cmp::Reverse(m.eid.len()));
        let told: BTreeSet<EidPrefix> = mappings.iter().map(|m| m.eid).collect();
        for mapping in mappings {
            let prefix_of = mapping.eid;
            self.learn(cx, now, mapping, &prefix, (Source::MapReply, source), database);
            self.cache.set_echoes(cx, &prefix_of, reply.echo_nonce);
        }

        // Without an entry that ends the misses, the next packet would ask again at once.
        let ask_again = ttl == Ttl::WITHDRAWN || (negative && action == Action::SendMapRequest);
        for other in self.pending.within(&prefix) {
            // A more specific entry that the answer doesn't speak of still waits for its own.
            let known = self.cache.longest(&other).map(|(known, _)| known);
            if other != eid && known.is_some_and(|known| known.len() > prefix.len() && !told.contains(&known))
            {
                continue;
            }
            let eid = other;
            if !ask_again {
                self.finish(cx, &eid);
            } else if let Some(mut pending) = self.pending.remove(&eid)
                && pending.punted
            {
                pending.resting = true;
                pending.wake = now + cx.timers.request_retry;
                self.pending.insert(eid, pending);
            }
        }
    }

    /// The mappings that a Map-Reply's records say.
    pub(super) fn mappings(
        &self,
        cx: &mut Context,
        records: &[EidRecord],
        source: SocketAddr,
    ) -> Vec<Mapping> {
        let mut mappings: Vec<Mapping> = Vec::with_capacity(records.len());
        for record in records {
            match record.to_mapping() {
                Ok((mut mapping, skipped)) => {
                    if skipped > 0 && mapping.is_negative() {
                        // There are locators, but none that we could send to.
                        mapping.action = Action::Drop;
                    }
                    mappings.push(mapping);
                }
                Err(error) => cx.drop_with(DropReason::ReplyEid, Some(source), error.to_string()),
            }
        }
        mappings
    }

    pub(super) fn learn(
        &mut self,
        cx: &mut Context,
        now: Instant,
        mut mapping: Mapping,
        answer: &EidPrefix,
        (how, source): (Source, SocketAddr),
        database: &Database,
    ) {
        let prefix = mapping.eid;
        if !answer.covers(&prefix) {
            cx.drop_with(DropReason::ReplyUnasked, Some(source), format!("{prefix} is not inside {answer}"));
        } else if let Some((local, _)) = database.longest_covering(&prefix) {
            cx.drop_with(DropReason::ReplyLocal, Some(source), format!("{prefix} is inside our own {local}"));
        } else if mapping.ttl == Ttl::WITHDRAWN {
            if self.cache.get(&prefix).is_some_and(|entry| !entry.is_static()) {
                self.cache.remove(cx, &prefix);
                self.cache.note_gone(prefix, now);
            }
            cx.statistics.count_drop(DropReason::ReplyWithdrawn);
        } else {
            self.proxy_etrs.adopt(&mut mapping);
            let learnt = Learnt { source: how, responder: Some(source.ip()), left: None, told: None };
            if self.cache.install(cx, now, mapping, learnt, database) {
                self.complain(cx, &prefix, Some(source), database.rlocs());
            }
        }
    }

    /// Counts what of an entry's locators must not be used.
    fn complain(&self, cx: &mut Context, prefix: &EidPrefix, source: Option<SocketAddr>, local: &LocalRlocs) {
        let Some(entry) = self.cache.get(prefix) else { return };
        let locators = &entry.mapping.locators;
        let mut say = |reason, rloc: &Rloc| {
            cx.drop_with(reason, source, format!("{rloc} of {prefix}"));
        };
        if let Some(own) = locators.iter().find(|l| local.contains(&l.rloc)) {
            say(DropReason::ReplyLocatorOwn, &own.rloc);
        }
        if let Some(eid) = locators.iter().find(|l| entry.is_circular(&l.rloc)) {
            say(DropReason::ReplyLocatorEid, &eid.rloc);
        }
        if locators.len() > MAX_PATHS {
            let detail = format!("{} locators of {prefix}, {MAX_PATHS} are used", locators.len());
            cx.drop_with(DropReason::ReplyLocators, source, detail);
        }
    }

    pub(crate) fn clear(&mut self, cx: &mut Context, prefix: Option<EidPrefix>) {
        match prefix {
            Some(prefix) => {
                if self.cache.get(&prefix).is_some_and(|entry| !entry.is_static()) {
                    self.cache.remove(cx, &prefix);
                }
            }
            None => self.cache.clear(cx),
        }
    }

    pub(crate) fn lig(
        &mut self,
        cx: &mut Context,
        now: Instant,
        id: u64,
        eid: Eid,
        via: Option<IpAddr>,
        local: &LocalRlocs,
    ) {
        let commands = self.ligs.values().filter(|lig| matches!(lig.asker, Asker::Command(_)));
        if commands.count() >= MAX_LIGS {
            cx.outputs.push_back(Output::LigReply { id, result: Err(LigError::Busy) });
            return;
        }
        let nonce = cx.nonce();
        let asked = via.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let asker = Asker::Command(id);
        let lig = Lig { asker, eid, via, asked, requests: 0, sent: now, wake: now };
        self.send_lig(cx, now, nonce, lig, local);
    }

    /// Asks the mapping system where `prefix` is, which may have moved. What it says comes by [`Self::take_located`].
    pub(crate) fn locate(&mut self, cx: &mut Context, now: Instant, prefix: EidPrefix, local: &LocalRlocs) {
        let asker = Asker::Mobility(prefix);
        if self.ligs.len() >= MAX_LOCATES {
            return self.lig_failed(cx, asker, LigError::Busy);
        }
        let nonce = cx.nonce();
        let asked = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let lig = Lig { asker, eid: prefix.first(), via: None, asked, requests: 0, sent: now, wake: now };
        self.send_lig(cx, now, nonce, lig, local);
    }

    /// Whether there is something to take.
    pub(crate) fn has_located(&self) -> bool {
        !self.located.is_empty()
    }

    /// What came of [`Self::locate`].
    pub(crate) fn take_located(&mut self) -> Vec<Located> {
        std::mem::take(&mut self.located)
    }

    fn locate_reply(
        &mut self,
        cx: &mut Context,
        prefix: EidPrefix,
        records: &[EidRecord],
        source: SocketAddr,
    ) {
        let mappings = self.mappings(cx, records, source);
        let eid = prefix.first();
        let answer = mappings.into_iter().filter(|m| m.eid.contains(&eid)).max_by_key(|m| m.eid.len());
        if answer.is_none() {
            cx.drop_with(DropReason::ReplyNotCovering, Some(source), format!("{prefix} was asked for"));
        }
        self.located.push(Located { prefix, answer: answer.map(|mapping| (mapping, source)) });
    }

    fn lig_failed(&mut self, cx: &mut Context, asker: Asker, error: LigError) {
        match asker {
            Asker::Command(id) => cx.outputs.push_back(Output::LigReply { id, result: Err(error) }),
            Asker::Mobility(prefix) => self.located.push(Located { prefix, answer: None }),
        }
    }

    /// An EID-prefix that was ours is at another site: packets to it go there.
    pub(crate) fn moved_away(
        &mut self,
        cx: &mut Context,
        now: Instant,
        mapping: Mapping,
        source: SocketAddr,
        database: &Database,
    ) {
        let prefix = mapping.eid;
        self.learn(cx, now, mapping, &prefix, (Source::MapReply, source), database);
        for eid in self.pending.within(&prefix) {
            self.finish(cx, &eid);
        }
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, now: Instant, database: &Database) {
        while let Some((eid, pending)) = self.pending.pop_due(now) {
            if pending.resting {
                if pending.punted {
                    cx.fib(FibUpdate::Unpend { eid });
                }
            } else {
                self.request(cx, now, eid, pending, database.rlocs());
            }
        }
        self.probe(cx, now, database);
        while let Some(wake) = self.cache.wake(cx, now) {
            if let Wake::Refresh(prefix) = wake
                && !self.refresh(cx, now, prefix, false, database.rlocs())
            {
                self.cache.wake_at(&prefix, now + REFRESH_AGAIN);
            }
        }
        self.cache.sweep(cx, now);
        self.confirm(cx, now, database.rlocs());
        let due: Vec<Nonce> =
            self.ligs.iter().filter(|(_, lig)| lig.wake <= now).map(|(nonce, _)| *nonce).collect();
        for nonce in due {
            let Some(lig) = self.ligs.remove(&nonce) else { continue };
            if lig.requests >= LIG_REQUESTS {
                self.lig_failed(cx, lig.asker, LigError::TimedOut);
            } else {
                self.send_lig(cx, now, nonce, lig, database.rlocs());
            }
        }
        if let Some((nonce, exploration)) = self.resolvers.explore(cx, now) {
            let request = MapRequest {
                nonce,
                itr_rlocs: itr_rlocs(database.rlocs()),
                records: vec![exploration.prefix.into()],
                ..MapRequest::default()
            };
            let eid = exploration.prefix.first();
            let local = database.rlocs();
            let to = (local.control_source(&exploration.resolver, 0), exploration.resolver);
            send_request(cx, &request, eid, None, to, local);
        }
        let forgotten: Vec<Rloc> =
            self.path_mtus.iter().filter(|(_, (_, until))| *until <= now).map(|(rloc, _)| *rloc).collect();
        for rloc in forgotten {
            self.path_mtus.remove(&rloc);
            cx.fib(FibUpdate::PathMtu { rloc, mtu: None });
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let ligs = self.ligs.values().map(|lig| lig.wake).min();
        let path_mtus = self.path_mtus.values().map(|(_, until)| *until).min();
        let unconfirmed = self.unconfirmed.next();
        [self.pending.next(), self.cache.next(), self.resolvers.next(), unconfirmed, ligs, path_mtus]
            .into_iter()
            .flatten()
            .min()
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

    /// Makes sure that one more destination may become pending that no packet waits for, at the cost of an older one.
    fn make_room_expecting(&mut self, cx: &mut Context, now: Instant) -> bool {
        let most = MAX_EXPECTING.min(cx.timers.pending_requests / 4).max(1);
        if !self.expecting.take(EXPECTING_RATE, now) {
            return false;
        }
        if self.pending.expected() >= most
            && let Some(oldest) = self.pending.first_expected()
        {
            self.finish(cx, &oldest);
        }
        self.make_room(cx)
    }

    /// A destination is pending no more: its next miss may be punted.
    pub(super) fn finish(&mut self, cx: &mut Context, eid: &Eid) {
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
            Err(LigError::NoLocalRloc) => cx.drop(DropReason::NoLocalRloc, None),
            Err(_) => cx.drop(DropReason::NoMapResolver, None),
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

    fn send_lig(&mut self, cx: &mut Context, now: Instant, nonce: Nonce, mut lig: Lig, local: &LocalRlocs) {
        let resolver = match lig.via {
            Some(_) if local.all().is_empty() => Err(LigError::NoLocalRloc),
            Some(via) => Ok(via),
            None => {
                let last = (lig.requests > 0).then_some(lig.asked);
                if let Some(last) = last {
                    self.resolvers.unanswered(cx, now, last, lig.sent);
                }
                self.resolvers.choose(cx, &lig.eid, last, local)
            }
        };
        match resolver {
            Err(error) => self.lig_failed(cx, lig.asker, error),
            Ok(resolver) => {
                let asked = match lig.asker {
                    Asker::Command(_) => lig.eid.to_prefix(),
                    Asker::Mobility(prefix) => prefix,
                };
                let request = MapRequest {
                    nonce,
                    itr_rlocs: itr_rlocs(local),
                    records: vec![asked.into()],
                    ..MapRequest::default()
                };
                let from = local.control_source(&resolver, lig.requests as usize);
                send_request(cx, &request, lig.eid, None, (from, resolver), local);
                if lig.via.is_none() {
                    self.resolvers.asked(cx, now, resolver);
                }
                lig.asked = resolver;
                lig.requests += 1;
                lig.sent = now;
                lig.wake = now + cx.timers.request_retry;
                self.ligs.insert(nonce, lig);
            }
        }
    }

    fn path_mtu(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, mtu: u16) {
        let known = self.path_mtus.contains_key(&rloc);
        if !self.cache.uses(&rloc) || (!known && self.path_mtus.len() >= MAX_PATH_MTUS) {
            cx.drop(DropReason::PathMtuUnknown, None);
            return;
        }
        let least = match rloc {
            IpAddr::V4(_) => MIN_PATH_MTU_IPV4,
            IpAddr::V6(_) => MIN_PATH_MTU_IPV6,
        };
        let mtu = mtu.max(least);
        self.path_mtus.insert(rloc, (mtu, now + PATH_MTU_LIFETIME));
        cx.fib(FibUpdate::PathMtu { rloc, mtu: Some(mtu) });
    }
}

fn keeping(config: &ItrConfig) -> Keeping {
    Keeping { limit: config.map_cache_limit, idle_timeout: config.idle_timeout }
}

/// Where a Map-Reply may go: each of our locators, best first.
pub(crate) fn itr_rlocs(local: &LocalRlocs) -> Vec<Address> {
    local
        .all()
        .iter()
        .filter(|addr| is_unicast(addr))
        .take(MAX_ITR_RLOCS)
        .map(|addr| Address::from(*addr))
        .collect()
}

/// Sends a Map-Request to a Map-Resolver in an encapsulated control message (RFC 9301 §5.8). The inner destination is
/// the EID; the inner source is of its family: one of our locators, else the EID that asks.
fn send_request(
    cx: &mut Context,
    request: &MapRequest,
    eid: Eid,
    source_eid: Option<IpAddr>,
    (from, resolver): (Option<IpAddr>, IpAddr),
    local: &LocalRlocs,
) {
    let family = Family::of(&eid.addr);
    let inner_source = local
        .of_family(family)
        .or(source_eid.filter(|addr| Family::of(addr) == family))
        .unwrap_or(match family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        });
    let payload = match Message::MapRequest(request.clone()).encode() {
        Ok(payload) => payload,
        Err(error) => return cx.drop_with(DropReason::Encode, None, error.to_string()),
    };
    let ecm = Ecm {
        ddt: false,
        security: None,
        source: SocketAddr::new(inner_source, CONTROL_PORT),
        destination: SocketAddr::new(eid.addr, CONTROL_PORT),
        payload,
    };
    cx.send(from, SocketAddr::new(resolver, CONTROL_PORT), &Message::Ecm(ecm));
}

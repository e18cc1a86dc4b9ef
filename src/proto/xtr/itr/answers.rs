//! What Map-Replies say, and what of that the map-cache takes in.
//!
//! Owns: which records of a Map-Reply are believed (RFC 9301 §5.5). Which question it answers is told by its
//! nonce.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::proto::context::Context;
use crate::proto::event::Event;
use crate::proto::stats::DropReason;
use crate::proto::xtr::database::{Database, LocalRlocs};
use crate::proto::xtr::map_cache::{Learnt, MAX_PATHS, Source};
use crate::types::{Action, EidPrefix, Instant, Mapping, Rloc, Ttl};
use crate::wire::{EidRecord, MapReply};

use super::Itr;

impl Itr {
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
        if let Some(lig) = self.ligs.take(reply.nonce) {
            return self.lig_reply(cx, now, &lig, reply, source);
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
        // The record that answers is the longest that covers what was asked for, or else the EID; others must
        // be more specific exceptions to it (RFC 9301 §5.5).
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

    /// The mappings that a Map-Reply's records say.
    pub(in crate::proto::xtr) fn mappings(
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

    pub(in crate::proto::xtr) fn learn(
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
    pub(super) fn complain(
        &self,
        cx: &mut Context,
        prefix: &EidPrefix,
        source: Option<SocketAddr>,
        local: &LocalRlocs,
    ) {
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
}

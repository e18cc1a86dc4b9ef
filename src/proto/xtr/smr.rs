//! Solicit-Map-Requests: tells the ITRs that use our mappings that these changed (RFC 9301 §6.1).
//!
//! Owns: who is told, of what, how often and when. Must not know what it is that changed; what SMRs of other
//! sites lead to is the ITR's ([`super::itr`]).
//!
//! A change is told only once the Map-Servers have confirmed it: the Map-Request that an SMR invokes goes
//! through the mapping system, and would be answered with the old mapping, or forwarded to a locator that is
//! gone. Who is told is every RLOC that this site exchanged packets with in the last minute, and every
//! ITR-RLOC that was answered then. That Map-Request is also the only sign that the SMR arrived, so that
//! those who send none are told again, a few times.
//!
//! Whoever sends after an old version of a mapping is told so as long as it does; that its packets are
//! dropped when that was of no use (RFC 9302 §7.1) is the data plane's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::fib::Sender;
use crate::proto::context::{CONTROL_PORT, Context, is_unicast};
use crate::proto::control::Output;
use crate::proto::event::Event;
use crate::proto::rate::TokenBucket;
use crate::proto::stats::DropReason;
use crate::types::{EidPrefix, Family, InstanceId, Instant, Rloc};
use crate::wire::{Address, MapRequest, Message};

use super::database::LocalRlocs;
use super::itr::itr_rlocs;
use super::map_cache::MapCache;
use super::register::Registrar;

/// Who exchanged packets or messages with the site within this time is told (RFC 9301 §6.1).
const LATELY: Duration = Duration::from_secs(60);
/// How long the Map-Servers' confirmation is waited for: without it, what they know may still lead to the
/// right place.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a registration that nobody confirms: until it has surely arrived.
const UNCONFIRMED: Duration = Duration::from_millis(100);
/// SMRs per second, all in all (bucket of twice as many).
const RATE: u32 = 500;
/// The next try where that rate does not allow one.
const RATE_PAUSE: Duration = Duration::from_millis(20);
/// RLOCs that may be told at once.
const MAX_TARGETS: usize = 16_384;
/// Changes that one RLOC may be told of: with more, it would take longer than the mapping system's own time
/// to tell.
const MAX_CHANGES: usize = 32;
/// ITR-RLOCs that are remembered as having been answered.
const MAX_ASKERS: usize = 4096;
/// ITR-RLOCs of one Map-Request that are remembered.
const MAX_ASKERS_AT_ONCE: usize = 4;

/// The machine.
#[derive(Debug)]
pub(crate) struct Solicitor {
    /// Changed EID-prefixes whose registration is waited for, each since when.
    waiting: BTreeMap<EidPrefix, Instant>,
    /// When the last of these was found to be registered without a confirmation.
    unconfirmed: Option<Instant>,
    /// Changes that the data plane was asked for, to whom they matter.
    asked: Vec<EidPrefix>,
    targets: BTreeMap<Rloc, Target>,
    timers: BTreeSet<(Instant, Rloc)>,
    /// The EID-prefixes that ITR-RLOCs were told of in Map-Replies, each when last.
    askers: BTreeMap<(Rloc, EidPrefix), Instant>,
    bucket: TokenBucket,
}

/// An RLOC to be told.
#[derive(Debug)]
struct Target {
    /// Of what, and how often it was told so far. The first of the least often told is next.
    changes: Vec<(EidPrefix, u32)>,
    wake: Instant,
}

impl Solicitor {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            waiting: BTreeMap::new(),
            unconfirmed: None,
            asked: Vec::new(),
            targets: BTreeMap::new(),
            timers: BTreeSet::new(),
            askers: BTreeMap::new(),
            bucket: TokenBucket::new(RATE, now),
        }
    }

    /// Mappings of ours changed, or are new or gone.
    pub(crate) fn changed(&mut self, now: Instant, prefixes: impl IntoIterator<Item = EidPrefix>) {
        for prefix in prefixes {
            self.waiting.insert(prefix, now);
            self.unconfirmed = None;
            // Whoever has been told of it already was told of something else.
            for target in self.targets.values_mut() {
                target.changes.retain(|(p, _)| *p != prefix);
            }
        }
    }

    /// `rloc` sends after an old mapping of `prefix`, its packets say (RFC 9302 §7.1).
    pub(crate) fn stale(
        &mut self,
        cx: &mut Context,
        now: Instant,
        rloc: Rloc,
        prefix: EidPrefix,
        local: &LocalRlocs,
    ) {
        if cx.timers.smr_attempts > 0 {
            self.target(cx, now, rloc, prefix, true, local);
        }
    }

    /// An ITR was answered for `prefix`, one of ours. If that is because of an SMR, then that has arrived.
    pub(crate) fn answered(&mut self, now: Instant, rlocs: &[Rloc], prefix: &EidPrefix, invoked: bool) {
        for rloc in rlocs.iter().filter(|_| invoked) {
            if let Some(target) = self.targets.get_mut(rloc) {
                target.changes.retain(|(p, _)| !p.covers(prefix) && !prefix.covers(p));
            }
        }
        for rloc in rlocs.iter().take(MAX_ASKERS_AT_ONCE) {
            let key = (*rloc, *prefix);
            if self.askers.len() >= MAX_ASKERS && !self.askers.contains_key(&key) {
                self.askers.retain(|_, at| now.saturating_since(*at) < LATELY);
                if self.askers.len() >= MAX_ASKERS {
                    // An attacker's flood of Map-Requests, most likely: whoever also sends packets is known
                    // by these.
                    return;
                }
            }
            self.askers.insert(key, now);
        }
    }

    /// Who sent data packets to the site lately: the answer to [`Output::ListSenders`].
    pub(crate) fn senders(&mut self, cx: &mut Context, now: Instant, senders: &[Sender], local: &LocalRlocs) {
        for prefix in std::mem::take(&mut self.asked) {
            let same_space = |s: &&Sender| {
                s.destination.iid == prefix.iid && Family::of(&s.destination.addr) == prefix.family()
            };
            let recent = |s: &&Sender| now.saturating_since(s.last) < LATELY;
            for sender in senders.iter().filter(same_space).filter(recent) {
                // Sent there last, so that this is what its packets depend on.
                let urgent = prefix.contains(&sender.destination);
                self.target(cx, now, sender.rloc, prefix, urgent, local);
            }
        }
    }

    pub(crate) fn handle_timeout(
        &mut self,
        cx: &mut Context,
        now: Instant,
        cache: Option<&MapCache>,
        registrar: &Registrar,
        local: &LocalRlocs,
    ) {
        self.begin(cx, now, cache, registrar, local);
        while let Some((at, rloc)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, rloc));
            self.solicit(cx, now, rloc, local);
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let patience = self.waiting.values().map(|since| *since + PATIENCE).min();
        let unconfirmed = self.unconfirmed.map(|since| since + UNCONFIRMED);
        let timers = self.timers.first().map(|(at, _)| *at);
        patience.into_iter().chain(unconfirmed).chain(timers).min()
    }

    /// Starts to tell of the changes that the Map-Servers know by now.
    fn begin(
        &mut self,
        cx: &mut Context,
        now: Instant,
        cache: Option<&MapCache>,
        registrar: &Registrar,
        local: &LocalRlocs,
    ) {
        if cx.timers.smr_attempts == 0 {
            self.waiting.clear();
        }
        if self.waiting.is_empty() {
            return;
        }
        if registrar.wants_no_notify() && self.waiting.keys().all(|p| registrar.knows(p)) {
            let since = *self.unconfirmed.get_or_insert(now);
            if now.saturating_since(since) < UNCONFIRMED && self.waiting.values().all(|w| now < *w + PATIENCE)
            {
                return;
            }
        }
        self.unconfirmed = None;
        let ready: Vec<EidPrefix> = self
            .waiting
            .iter()
            .filter(|(prefix, since)| registrar.knows(prefix) || now >= **since + PATIENCE)
            .map(|(prefix, _)| *prefix)
            .collect();
        if ready.is_empty() {
            return;
        }
        // Each locator once for each EID space, since sites may have many EID-prefixes.
        let sites = cache.into_iter().flat_map(|cache| cache.correspondents(now));
        let sites: BTreeSet<(InstanceId, Family, Rloc)> =
            sites.map(|(site, rloc)| (site.iid, site.family(), rloc)).collect();
        for prefix in &ready {
            self.waiting.remove(prefix);
            // Whoever asked for it knows it.
            let overlaps = |asked: &EidPrefix| asked.covers(prefix) || prefix.covers(asked);
            let askers: Vec<Rloc> = self
                .askers
                .iter()
                .filter(|((_, asked), at)| overlaps(asked) && now.saturating_since(**at) < LATELY)
                .map(|((rloc, _), _)| *rloc)
                .collect();
            for rloc in askers {
                self.target(cx, now, rloc, *prefix, false, local);
            }
            for (iid, family, rloc) in &sites {
                if *iid == prefix.iid && *family == prefix.family() {
                    self.target(cx, now, *rloc, *prefix, false, local);
                }
            }
        }
        self.asked.extend(ready);
        cx.outputs.push_back(Output::ListSenders);
    }

    /// Has an RLOC told of a change.
    fn target(
        &mut self,
        cx: &mut Context,
        now: Instant,
        rloc: Rloc,
        prefix: EidPrefix,
        urgent: bool,
        local: &LocalRlocs,
    ) {
        if !is_unicast(&rloc) || local.contains(&rloc) || !local.reaches(&rloc) {
            return;
        }
        if !self.targets.contains_key(&rloc) {
            if self.targets.len() >= MAX_TARGETS {
                return cx.drop(DropReason::SmrTargets, None);
            }
            self.targets.insert(rloc, Target { changes: Vec::new(), wake: now });
            self.timers.insert((now, rloc));
        }
        let Some(target) = self.targets.get_mut(&rloc) else { return };
        let known = target.changes.iter().position(|(p, _)| *p == prefix);
        if urgent {
            let change = known.map_or((prefix, 0), |at| target.changes.remove(at));
            target.changes.insert(0, change);
        } else if known.is_none() {
            target.changes.push((prefix, 0));
        }
        if target.changes.len() > MAX_CHANGES {
            target.changes.truncate(MAX_CHANGES);
            cx.drop(DropReason::SmrTargets, None);
        }
    }

    /// Tells an RLOC of one change: at most one SMR to it in [`crate::proto::config::Timers::smr_interval`].
    fn solicit(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, local: &LocalRlocs) {
        let (interval, attempts) = (cx.timers.smr_interval, cx.timers.smr_attempts);
        let Some(target) = self.targets.get_mut(&rloc) else { return };
        let next = target.changes.iter_mut().min_by_key(|(_, told)| *told);
        let Some((prefix, told)) = next.map(|(prefix, told)| (*prefix, told)) else {
            // It asked, or was told often enough, and the interval since the last SMR is over.
            self.targets.remove(&rloc);
            return;
        };
        if !self.bucket.take(RATE, now) {
            target.wake = now + RATE_PAUSE;
        } else {
            *told += 1;
            if *told == 1 {
                cx.event(Event::Solicited { prefix, rloc });
            }
            target.changes.retain(|(_, told)| *told < attempts);
            target.wake = now + interval;
            // The EID-prefix that changed is the record, which the Map-Request is to copy, and the source EID
            // as well: receivers differ on where they look for it.
            let request = MapRequest {
                smr: true,
                nonce: cx.nonce(),
                source_eid: Address::from(prefix.first()),
                itr_rlocs: itr_rlocs(local),
                records: vec![prefix.into()],
                ..MapRequest::default()
            };
            let source = local.of_family(Family::of(&rloc));
            cx.send(source, SocketAddr::new(rloc, CONTROL_PORT), &Message::MapRequest(request));
        }
        self.timers.insert((target.wake, rloc));
    }
}

//! The DDT client of a Map-Resolver: follows referrals from the root to the Map-Server of an EID (RFC 8111
//! §7.3).
//!
//! Owns: the referral cache, and the Map-Requests under way. Must not know what sites are registered here.
//!
//! A Map-Referral carries the nonce of the Map-Request that it answers, and the pseudocode of §8.1.1 takes
//! the ITR's. Whoever may ask the Map-Resolver would then know it, and could forge referrals of the root for
//! everybody. So DDT nodes are asked with a nonce of our own, which no text forbids. Map-Servers pass the
//! Map-Request on to an ETR, whose Map-Reply has to carry the ITR's nonce: they are asked with that one, and
//! what they say counts for the one Map-Request only, and is not remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::proto::config::Host;
use crate::proto::context::{CONTROL_PORT, Context, is_unicast};
use crate::proto::eid_table::EidTable;
use crate::proto::request::Origin;
use crate::proto::stats::DropReason;
use crate::types::{Action, Eid, EidPrefix, Instant, Mapping, Nonce, Ttl};
use crate::wire::{Ecm, EidRecord, MapReferral, MapRequest, Message, ReferralRecord};

use super::ddt_node::{Referral, ReferralCounts, Within};
use super::free_prefix::{PrefixSet, free_prefix};
use super::{Question, send};

/// Map-Requests under way; more are dropped. ITRs repeat them.
const MAX_PENDING: usize = 4096;
/// Of these, the ones that came from one address: nobody takes all the room.
const MAX_PENDING_PER_PEER: usize = 256;
/// Referrals that are remembered; those that end first make room.
const MAX_CACHED: usize = 65_536;
/// The longest Map-Request that is followed: none that an ITR sends is longer.
const MAX_REQUEST: usize = 1500;
/// Where the nonce of a Map-Request is (RFC 9301 §5.2).
const NONCE: std::ops::Range<usize> = 4..12;
/// Locators of a referral that are tried.
const MAX_LOCATORS: usize = 8;
/// How long a Map-Referral is waited for, the first time; each round over the locators doubles it. ITRs ask
/// again after a second (RFC 9301 §5.3).
const TIMEOUT: Duration = Duration::from_millis(500);
/// Rounds over the locators of a referral.
const ROUNDS: u32 = 3;
/// Referrals followed for one Map-Request, from the root on (RFC 8111 §7.3.4 leaves the number open): a tree
/// that is deeper would be odd.
const MAX_REFERRALS: u32 = 32;
/// The longest that a referral is remembered, whatever it says (RFC 8111 §6.4: a day).
const LONGEST_TTL: Ttl = Ttl(1440);

/// The role's state.
#[derive(Debug, Default)]
pub(crate) struct DdtResolver {
    roots: Vec<Host>,
    cache: EidTable<Cached>,
    expiry: BTreeSet<(Instant, EidPrefix)>,
    /// By our own nonces.
    pending: BTreeMap<Nonce, Pending>,
    timers: BTreeSet<(Instant, Nonce)>,
    /// Our own nonces by those of the ITRs.
    originals: BTreeMap<Nonce, Nonce>,
    /// Who waits for what: a repetition replaces what it repeats.
    askers: BTreeMap<Asker, Nonce>,
    /// Map-Requests under way by outer source.
    crowd: BTreeMap<IpAddr, usize>,
    /// Map-Referrals that were waited for, by what they say.
    received: ReferralCounts,
}

/// Who wants to know what: outer and inner source, of which the sender of a Map-Request writes the latter as
/// it likes.
type Asker = (IpAddr, Option<IpAddr>, Eid);

/// A referral that a Map-Resolver remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Whom to ask; empty = there is nothing.
    pub to: Vec<IpAddr>,
    /// Whether these are Map-Servers rather than DDT nodes.
    pub map_servers: bool,
    /// Until when it is remembered.
    pub expires: Instant,
}

/// A Map-Request under way.
#[derive(Debug)]
struct Pending {
    /// Our own nonce.
    id: Nonce,
    eid: Eid,
    asked: EidPrefix,
    origin: Origin,
    request: MapRequest,
    ecm: Ecm,
    /// The prefix of the referral that is followed; `None` = the root's.
    prefix: Option<EidPrefix>,
    /// Whom that names.
    to: Vec<IpAddr>,
    /// Whether these are Map-Servers, which are asked with the nonce of the ITR.
    map_servers: bool,
    /// Map-Requests sent to these.
    tries: u32,
    /// Of these, the ones that said that the EID is not registered there.
    refused: BTreeSet<IpAddr>,
    /// Whether the search began at the root, so that there is no better place to begin.
    from_root: bool,
    referrals: u32,
    wake: Instant,
}

impl DdtResolver {
    pub(crate) fn configure(&mut self, roots: &[Host]) {
        if self.roots != roots {
            *self = Self { roots: roots.to_vec(), received: self.received, ..Self::default() };
        }
    }

    /// Whether there is a tree to search.
    pub(crate) const fn is_active(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Map-Requests under way, and referrals remembered.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.pending.len(), self.cache.len())
    }

    /// The referrals that are remembered, in order of prefix.
    pub(crate) fn cache(&self) -> impl Iterator<Item = (EidPrefix, &Cached)> {
        self.cache.iter()
    }

    /// Map-Referrals that were waited for, by what they say.
    pub(crate) const fn received(&self) -> &ReferralCounts {
        &self.received
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let expiry = self.expiry.first().map(|(at, _)| *at);
        timer.into_iter().chain(expiry).min()
    }

    /// A Map-Request of an ITR (RFC 8111 §7.3.1).
    /// Nothing of `known` is told to be a hole.
    pub(crate) fn request(
        &mut self,
        cx: &mut Context,
        now: Instant,
        question: &Question<'_>,
        known: &[&dyn PrefixSet],
    ) {
        let peer = question.origin.peer;
        if question.ecm.payload.len() > MAX_REQUEST {
            return cx.drop(DropReason::DdtPendingFull, Some(peer));
        }
        let (nonce, eid) = (question.request.nonce, question.eid);
        let asker = asker(question.origin, eid);
        let old = self.askers.get(&asker).copied();
        // A nonce of somebody else, by chance or on purpose.
        if self.originals.get(&nonce).is_some_and(|id| Some(*id) != old) {
            return cx.drop(DropReason::RequestLoop, Some(peer));
        }
        let mut ecm = question.ecm.clone();
        ecm.ddt = true;
        ecm.security = None;
        if let Some(mut pending) = old.and_then(|old| self.take(old)) {
            // §8.1.1: the new one takes the old one's place on the way.
            (pending.origin, pending.request, pending.ecm) =
                (*question.origin, question.request.clone(), ecm);
            // However often it is repeated: who stays silent is given up.
            return self.go_on(cx, now, pending);
        }
        let mut pending = Pending {
            id: cx.nonce(),
            eid,
            asked: question.asked,
            origin: *question.origin,
            request: question.request.clone(),
            ecm,
            prefix: None,
            to: Vec::new(),
            map_servers: false,
            tries: 0,
            refused: BTreeSet::new(),
            from_root: true,
            referrals: 0,
            wake: now,
        };
        match self.cache.longest(&eid) {
            Some((prefix, cached)) if cached.to.is_empty() => {
                let left = cached.expires.saturating_since(now).as_secs().div_ceil(60).max(1);
                return negative(cx, now, question, prefix, Ttl(left as u32), known);
            }
            Some((prefix, cached)) => {
                pending.prefix = Some(prefix);
                pending.to = cached.to.clone();
                pending.map_servers = cached.map_servers;
                pending.from_root = false;
            }
            None => pending.to = self.roots(cx),
        }
        let of_peer = self.crowd.get(&peer.ip()).copied().unwrap_or_default();
        if self.pending.len() >= MAX_PENDING || of_peer >= MAX_PENDING_PER_PEER {
            return cx.drop(DropReason::DdtPendingFull, Some(peer));
        }
        self.ask(cx, now, pending);
    }

    /// A Map-Referral (RFC 8111 §7.3.2). Nothing of `known` is told to be a hole, whatever it says.
    pub(crate) fn referral(
        &mut self,
        cx: &mut Context,
        now: Instant,
        referral: &MapReferral,
        source: SocketAddr,
        known: &[&dyn PrefixSet],
    ) {
        let nodes = self.pending.get(&referral.nonce).filter(|pending| !pending.map_servers);
        let original = || self.originals.get(&referral.nonce).and_then(|id| self.pending.get(id));
        let asked = nodes.or_else(|| original().filter(|pending| pending.map_servers));
        // Only who was asked may answer.
        let Some(asked) = asked.filter(|pending| pending.to.contains(&source.ip())) else {
            return cx.drop(DropReason::ReferralUnsolicited, Some(source));
        };
        let covers = |record: &&ReferralRecord| {
            record.record.eid.to_prefix().is_ok_and(|prefix| prefix.contains(&asked.eid))
        };
        let Some(record) = referral.records.iter().find(covers) else {
            return cx.drop(DropReason::ReferralUseless, Some(source));
        };
        let action = Referral::from_bits(record.record.action.bits());
        let (Some(action), Ok(prefix)) = (action, record.record.eid.to_prefix()) else {
            return cx.drop(DropReason::ReferralUseless, Some(source));
        };
        let id = asked.id;
        let Some(mut pending) = self.take(id) else { return };
        self.received.count(action);
        // The ITR knows the nonce as well, and may have forged this: it may spoil its own Map-Request only.
        let is_private = !pending.map_servers;
        // Of what lies outside of the prefix that it was asked about, nobody is to be believed.
        let within =
            |prefix: EidPrefix| pending.prefix.filter(|used| used.len() > prefix.len()).unwrap_or(prefix);
        match action {
            Referral::Node | Referral::MapServer => {
                let to = locators(record);
                // §7.3.4: each referral has to be more specific than the one before.
                let closer = pending.prefix.is_none_or(|used| prefix.len() > used.len());
                if !closer || to.is_empty() || pending.referrals >= MAX_REFERRALS {
                    return self.again(cx, now, pending, DropReason::ReferralLoop, source);
                }
                let map_servers = action == Referral::MapServer;
                if is_private && !record.incomplete {
                    self.remember(now, prefix, (to.clone(), map_servers), record.record.ttl);
                }
                pending.follow(cx, Some(prefix), to, map_servers);
                pending.referrals += 1;
                self.ask(cx, now, pending);
            }
            // A Map-Server that was taken for a DDT node: its ETR's answer has a nonce that the ITR doesn't
            // know.
            Referral::Acknowledged if is_private => {
                let (prefix, to) = (within(prefix), locators(record));
                if !record.incomplete && !to.is_empty() {
                    self.remember(now, prefix, (to, true), record.record.ttl);
                }
                pending.follow(cx, Some(prefix), vec![source.ip()], true);
                self.ask(cx, now, pending);
            }
            Referral::Acknowledged => {}
            Referral::NotRegistered => {
                pending.refused.insert(source.ip());
                if pending.to.iter().any(|to| !pending.refused.contains(to)) {
                    return self.ask(cx, now, pending);
                }
                let (prefix, ttl) = (within(prefix), cx.timers.negative_ttl_unregistered);
                if is_private && !record.incomplete {
                    self.remember(now, prefix, (Vec::new(), false), ttl.min(record.record.ttl));
                }
                pending.refuse(cx, now, prefix, ttl, known);
            }
            Referral::Hole => {
                let (prefix, ttl) = (within(prefix), cx.timers.negative_ttl_unconfigured);
                if is_private {
                    self.remember(now, prefix, (Vec::new(), false), ttl.min(record.record.ttl));
                }
                pending.refuse(cx, now, prefix, ttl, known);
            }
            Referral::NotAuthoritative => {
                self.again(cx, now, pending, DropReason::ReferralNotAuthoritative, source);
            }
        }
    }

    /// Sends again what had no answer, gives up what had none often enough, and forgets referrals that have
    /// ended.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, now: Instant) {
        while let Some((at, prefix)) = self.expiry.first().copied().filter(|(at, _)| *at <= now) {
            self.expiry.remove(&(at, prefix));
            self.cache.remove(&prefix);
        }
        while let Some((_, nonce)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            let Some(pending) = self.take(nonce) else { continue };
            self.go_on(cx, now, pending);
        }
    }

    /// Asks again, or gives up whoever was asked often enough.
    fn go_on(&mut self, cx: &mut Context, now: Instant, pending: Pending) {
        let peer = pending.origin.peer;
        if pending.tries < ROUNDS * pending.to.len() as u32 {
            self.ask(cx, now, pending);
        } else {
            self.again(cx, now, pending, DropReason::ReferralTimeout, peer);
        }
    }

    /// A way that led to nothing: another try from the root, if that is not where it began.
    fn again(
        &mut self,
        cx: &mut Context,
        now: Instant,
        mut pending: Pending,
        reason: DropReason,
        peer: SocketAddr,
    ) {
        if let Some(prefix) = pending.prefix {
            self.forget(&prefix);
        }
        if pending.from_root {
            // RFC 8111 §7.3.2: silently, as to who asked; an answer would be a guess.
            return cx.drop_with(reason, Some(peer), pending.eid.to_string());
        }
        let roots = self.roots(cx);
        pending.follow(cx, None, roots, false);
        pending.from_root = true;
        pending.referrals = 0;
        self.ask(cx, now, pending);
    }

    /// Sends a DDT Map-Request to the next locator, and waits.
    fn ask(&mut self, cx: &mut Context, now: Instant, mut pending: Pending) {
        let peer = pending.origin.peer;
        let willing: Vec<IpAddr> =
            pending.to.iter().copied().filter(|to| !pending.refused.contains(to)).collect();
        let turn = (pending.tries as usize).checked_rem(willing.len()).unwrap_or_default();
        let Some(to) = willing.get(turn) else {
            return cx.drop(DropReason::ForwardUnresolved, Some(peer));
        };
        let mut ecm = pending.ecm.clone();
        if !pending.map_servers
            && let Some(nonce) = ecm.payload.get_mut(NONCE)
        {
            nonce.copy_from_slice(&pending.id.0.to_be_bytes());
        }
        cx.send(None, SocketAddr::new(*to, CONTROL_PORT), &Message::Ecm(ecm));
        let round = pending.tries / willing.len() as u32;
        pending.tries += 1;
        pending.wake = now + TIMEOUT * (1 << round.min(8));
        self.timers.insert((pending.wake, pending.id));
        self.originals.insert(pending.request.nonce, pending.id);
        self.askers.insert(pending.asker(), pending.id);
        *self.crowd.entry(peer.ip()).or_default() += 1;
        self.pending.insert(pending.id, pending);
    }

    fn take(&mut self, nonce: Nonce) -> Option<Pending> {
        let pending = self.pending.remove(&nonce)?;
        self.timers.remove(&(pending.wake, nonce));
        self.originals.remove(&pending.request.nonce);
        self.askers.remove(&pending.asker());
        let peer = pending.origin.peer.ip();
        if let Some(count) = self.crowd.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.crowd.remove(&peer);
            }
        }
        Some(pending)
    }

    fn roots(&self, cx: &Context) -> Vec<IpAddr> {
        let all = self.roots.iter().flat_map(|host| cx.names.addresses(host)).copied();
        all.take(MAX_LOCATORS).collect()
    }

    fn remember(&mut self, now: Instant, prefix: EidPrefix, to: (Vec<IpAddr>, bool), ttl: Ttl) {
        if ttl.0 == 0 {
            return;
        }
        self.forget(&prefix);
        while self.cache.len() >= MAX_CACHED
            && let Some((_, first)) = self.expiry.pop_first()
        {
            self.cache.remove(&first);
        }
        let expires = now + Duration::from_secs(u64::from(ttl.min(LONGEST_TTL).0) * 60);
        let (to, map_servers) = to;
        self.cache.insert(prefix, Cached { to, map_servers, expires });
        self.expiry.insert((expires, prefix));
    }

    fn forget(&mut self, prefix: &EidPrefix) {
        if let Some(old) = self.cache.remove(prefix) {
            self.expiry.remove(&(old.expires, *prefix));
        }
    }
}

impl Pending {
    fn asker(&self) -> Asker {
        asker(&self.origin, self.eid)
    }

    /// Goes to the next ones, who can't have seen the nonce before.
    fn follow(&mut self, cx: &mut Context, prefix: Option<EidPrefix>, to: Vec<IpAddr>, map_servers: bool) {
        self.id = cx.nonce();
        self.prefix = prefix;
        self.to = to;
        self.map_servers = map_servers;
        self.tries = 0;
        self.refused.clear();
    }

    /// Tells who asked that there is nothing.
    fn refuse(&self, cx: &mut Context, now: Instant, prefix: EidPrefix, ttl: Ttl, known: &[&dyn PrefixSet]) {
        let question = Question {
            origin: &self.origin,
            request: &self.request,
            eid: self.eid,
            asked: self.asked,
            ecm: &self.ecm,
            ddt: false,
            local: &EidTable::<()>::default(),
        };
        negative(cx, now, &question, prefix, ttl, known);
    }
}

fn asker(origin: &Origin, eid: Eid) -> Asker {
    (origin.peer.ip(), origin.inner.map(|inner| inner.ip()), eid)
}

fn negative(
    cx: &mut Context,
    now: Instant,
    question: &Question<'_>,
    prefix: EidPrefix,
    ttl: Ttl,
    known: &[&dyn PrefixSet],
) {
    let within = Within(prefix);
    let mut sets: Vec<&dyn PrefixSet> = vec![&within];
    sets.extend(known);
    let prefix = free_prefix(&question.eid, &sets);
    send(cx, now, question, EidRecord::from(&Mapping::negative(prefix, ttl, Action::NativelyForward)));
}

/// Whom a referral names, the best ones first.
fn locators(record: &ReferralRecord) -> Vec<IpAddr> {
    let mut known: Vec<(u8, IpAddr)> = Vec::new();
    for locator in &record.record.locators {
        if let Some(address) = locator.address.to_ip().filter(is_unicast)
            && !known.iter().any(|(_, other)| *other == address)
        {
            known.push((locator.priority, address));
        }
    }
    known.sort_by_key(|(priority, _)| *priority);
    known.into_iter().map(|(_, address)| address).take(MAX_LOCATORS).collect()
}

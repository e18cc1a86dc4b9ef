//! The mapping system: Map-Server, Map-Resolver and DDT node, and what they do together when one process is
//! several.
//!
//! Owns: which Map-Requests are answered, forwarded or refused. Must not know the site's own database.

use std::net::{IpAddr, SocketAddr};

use crate::auth::AuthError;
use crate::proto::config::{DdtConfig, Host};
use crate::proto::context::Context;
use crate::proto::request::{Origin, reply, reply_rloc};
use crate::proto::stats::DropReason;
use crate::types::{Action, Eid, EidPrefix, Family, Instant, Mapping, Ttl};
use crate::wire::{Ecm, EidRecord, MapReferral, MapRequest, Message};

use super::context::CONTROL_PORT;

mod ddt_node;
mod ddt_resolver;
pub(crate) mod free_prefix;
pub(crate) mod map_resolver;
pub(crate) mod map_server;
mod notifier;
mod registration;
mod site;

pub use ddt_node::{Referral, ReferralCounts};
pub use ddt_resolver::Cached as CachedReferral;
pub use registration::Registration;

use ddt_node::DdtNode;
use ddt_resolver::DdtResolver;
use free_prefix::{PrefixSet, free_prefix};
use map_resolver::{LoopGuard, MapResolver};
use map_server::MapServer;

/// The machine: one of the roles, or several.
#[derive(Debug, Default)]
pub(crate) struct MappingSystem {
    pub(crate) server: Option<MapServer>,
    pub(crate) resolver: Option<MapResolver>,
    /// Says who knows more, also for the Map-Server.
    node: Option<DdtNode>,
    /// The Map-Resolver's way through the DDT.
    client: DdtResolver,
    guard: LoopGuard,
    /// Map-Referrals that were sent, by what they say.
    referred: ReferralCounts,
}

/// A Map-Request for one EID.
pub(crate) struct Question<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) request: &'a MapRequest,
    /// The EID asked for; of a prefix, the first one.
    pub(crate) eid: Eid,
    /// The EID-prefix asked for.
    pub(crate) asked: EidPrefix,
    /// What the Map-Request came in, to be passed on.
    pub(crate) ecm: &'a Ecm,
    /// Whether that had the D bit, which is not passed on.
    pub(crate) ddt: bool,
    /// EID-prefixes that exist although neither Map-Server nor Map-Resolver knows them.
    pub(crate) local: &'a dyn PrefixSet,
}

/// What is to be done about a Map-Request.
enum Decision {
    /// The Map-Server has registrations for this prefix.
    Registered(EidPrefix),
    /// A site owns the EID, but nobody has registered it.
    Unregistered,
    /// Another Map-Server knows.
    Forward,
    /// It has to be searched for in the DDT.
    Search,
    /// Nobody knows.
    Unknown,
}

impl MappingSystem {
    pub(crate) fn is_active(&self) -> bool {
        self.server.is_some() || self.resolver.is_some()
    }

    /// Takes in what is to be done about DDT; after the Map-Server and the Map-Resolver.
    pub(crate) fn configure_ddt(&mut self, config: &DdtConfig) {
        self.node = (config.node.is_some() || self.server.is_some()).then(|| DdtNode::new(config));
        let roots: &[Host] = if self.resolver.is_some() { &config.roots } else { &[] };
        self.client.configure(roots);
    }

    /// Whether it answers Map-Requests with the D bit.
    pub(crate) const fn refers(&self) -> bool {
        self.node.is_some()
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub(crate) fn next(&self) -> Option<Instant> {
        let server = self.server.as_ref().and_then(|server| server.next());
        self.client.next().into_iter().chain(server).min()
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, now: Instant) {
        if let Some(server) = &mut self.server {
            server.handle_timeout(cx, now);
        }
        self.client.handle_timeout(cx, now);
    }

    /// A Map-Referral.
    pub(crate) fn map_referral(
        &mut self,
        cx: &mut Context,
        now: Instant,
        referral: &MapReferral,
        source: SocketAddr,
        local: &dyn PrefixSet,
    ) {
        if self.client.is_active() {
            let known = known(&self.server, &self.resolver, local);
            self.client.referral(cx, now, referral, source, &known);
        } else {
            cx.drop(DropReason::NoRole, Some(source));
        }
    }

    /// The Map-Resolver's way through the DDT, if it has one.
    pub(crate) fn ddt_client(&self) -> Option<&DdtResolver> {
        Some(&self.client).filter(|client| client.is_active())
    }

    /// Map-Referrals that were sent, by what they say.
    pub(crate) const fn referred(&self) -> &ReferralCounts {
        &self.referred
    }

    /// DDT Map-Requests that wait, and referrals that are remembered.
    pub(crate) fn ddt_len(&self) -> (usize, usize) {
        self.client.len()
    }

    /// A DDT Map-Request (RFC 8111 §8.3).
    pub(crate) fn ddt_request(&mut self, cx: &mut Context, now: Instant, question: &Question<'_>) {
        let Some(node) = &self.node else { return };
        let peer = question.origin.peer;
        // It is on behalf of who sent it, whatever ITR-RLOC it names: that one's share is taken besides.
        if !cx.admit(peer.ip(), None, peer, now) {
            return;
        }
        let answer = node.answer(&question.asked, self.server.as_ref(), question.origin.local.ip());
        let referral = Message::MapReferral(answer.message(question.request.nonce));
        if answer.referral == Referral::Acknowledged
            && let Some(prefix) = self.server.as_ref().and_then(|s| s.longest_registered(&question.eid))
        {
            self.registered(cx, now, question, &prefix);
        }
        self.referred.count(answer.referral);
        cx.send(None, peer, &referral);
    }

    /// Mask length of the longest prefix around `eid` that is known here: configured, registered or
    /// forwarded.
    pub(crate) fn longest_known(&self, eid: &Eid) -> Option<u8> {
        let server = self.server.as_ref().and_then(|s| s.table().longest_member(eid));
        let resolver = self.resolver.as_ref().and_then(|r| r.forward().longest_member(eid));
        server.into_iter().chain(resolver).map(|prefix| prefix.len()).max()
    }

    pub(crate) fn map_request(&mut self, cx: &mut Context, now: Instant, question: &Question<'_>) {
        let peer = Some(question.origin.peer);
        if question.request.probe {
            // RFC 9301 §5.2: MUST drop.
            return cx.drop(DropReason::ProbeMisdirected, peer);
        }
        match self.decide(&question.eid) {
            Decision::Registered(prefix) => self.registered(cx, now, question, &prefix),
            Decision::Unregistered => self.negative(cx, now, question, cx.timers.negative_ttl_unregistered),
            Decision::Unknown => self.negative(cx, now, question, cx.timers.negative_ttl_unconfigured),
            Decision::Search => {
                let known = known(&self.server, &self.resolver, question.local);
                self.client.request(cx, now, question, &known);
            }
            Decision::Forward => {
                let hosts = self.resolver.as_ref().map(|r| r.hosts(&question.eid)).unwrap_or_default();
                let own = question.origin.local.ip();
                let to = hosts
                    .iter()
                    .find_map(|host| cx.names.addresses(host).iter().copied().find(|addr| *addr != own));
                match to {
                    None => cx.drop(DropReason::ForwardUnresolved, peer),
                    Some(to) => self.forward(cx, now, question, to),
                }
            }
        }
    }

    fn decide(&self, eid: &Eid) -> Decision {
        let registered = self.server.as_ref().and_then(|s| s.longest_registered(eid));
        let owned = self.server.as_ref().and_then(|s| s.longest_owned(eid));
        let forward = self.resolver.as_ref().and_then(|r| r.forward().longest_member(eid));
        let len = |prefix: Option<EidPrefix>| prefix.map(|p| p.len());
        if forward.is_some() && len(forward) > len(registered).max(len(owned)) {
            return Decision::Forward;
        }
        match registered {
            // A more specific part that belongs to somebody else is not what was registered (RFC 9301 §8.3).
            Some(prefix) if Some(prefix.len()) >= len(owned) => Decision::Registered(prefix),
            _ if owned.is_some() => Decision::Unregistered,
            _ if self.client.is_active() => Decision::Search,
            _ => Decision::Unknown,
        }
    }

    /// Answers for the ETRs where one asked for that, else forwards to one of them (RFC 9301 §8.3).
    fn registered(&mut self, cx: &mut Context, now: Instant, question: &Question<'_>, prefix: &EidPrefix) {
        let Some(server) = &self.server else { return };
        let Some(known) = server.table().get(prefix) else { return };
        // A: the ITR wants to hear it from the site itself (RFC 9301 §5.2).
        if known.proxy_reply() && !question.request.authoritative {
            let Some(record) = known.merged() else { return };
            if record.locators.is_empty() {
                return self.negative(cx, now, question, cx.timers.negative_ttl_unregistered);
            }
            // Other prefixes may exist inside: the answer is for the part around the EID that has none.
            let free = free_prefix(&question.eid, &[server.table()]);
            return send(cx, now, question, EidRecord { eid: free.into(), ..record });
        }
        if let Some(etr) = known.etr(cx) {
            self.forward(cx, now, question, etr);
        }
    }

    fn forward(&mut self, cx: &mut Context, now: Instant, question: &Question<'_>, to: IpAddr) {
        let peer = question.origin.peer;
        if self.guard.seen(now, question.request.nonce, question.eid) {
            return cx.drop(DropReason::RequestLoop, Some(peer));
        }
        // A Map-Resolver that follows referrals asks for many ITRs, of which each has its share, besides its
        // own.
        let itr = question.ddt.then(|| reply_rloc(question.request, peer, |_| true)).flatten();
        if cx.admit(itr.unwrap_or(peer.ip()), None, peer, now) {
            cx.send(None, SocketAddr::new(to, CONTROL_PORT), &Message::Ecm(question.ecm.clone()));
        }
    }

    fn negative(&self, cx: &mut Context, now: Instant, question: &Question<'_>, ttl: Ttl) {
        let eid = &question.eid;
        let sets = known(&self.server, &self.resolver, question.local);
        let mut prefix = free_prefix(eid, &sets);
        if self.resolver.is_none() && self.longest_known(eid).is_none() {
            // A Map-Server alone knows its own sites only: the space around the EID may belong to another
            // one.
            prefix = eid.to_prefix();
        }
        send(cx, now, question, EidRecord::from(&Mapping::negative(prefix, ttl, Action::NativelyForward)));
    }
}

/// Everything that is known here.
fn known<'a>(
    server: &'a Option<MapServer>,
    resolver: &'a Option<MapResolver>,
    local: &'a dyn PrefixSet,
) -> Vec<&'a dyn PrefixSet> {
    let mut sets: Vec<&dyn PrefixSet> = vec![local];
    sets.extend(server.as_ref().map(|server| server.table() as &dyn PrefixSet));
    sets.extend(resolver.as_ref().map(|resolver| resolver.forward() as &dyn PrefixSet));
    sets
}

/// Replies to the requester. What we can talk to is what we were just talked to in.
fn send(cx: &mut Context, now: Instant, question: &Question<'_>, record: EidRecord) {
    let family = Family::of(&question.origin.peer.ip());
    let reachable = |addr: &IpAddr| Family::of(addr) == family;
    reply(cx, now, question.origin, question.request, vec![record], reachable);
}

/// How a failed authentication is counted.
pub(crate) fn auth_reason(error: &AuthError) -> DropReason {
    match error {
        AuthError::Decode(error) => DropReason::from(error),
        AuthError::Unauthenticated(_) | AuthError::Mismatch => DropReason::AuthMac,
        AuthError::UnknownKeyId(_) => DropReason::AuthKeyId,
        AuthError::WrongAlgorithm { .. } => DropReason::AuthAlgorithm,
        AuthError::BadLength { .. } => DropReason::AuthLength,
    }
}

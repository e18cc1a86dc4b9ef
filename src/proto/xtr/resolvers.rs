//! Map-Resolvers: which of them is asked for an EID, and how they do.
//!
//! Owns: the choice by EID space, the measured response times, and who is under suspicion of not answering.
//! Must not send anything: the ITR does, and tells what came of it.
//!
//! # Who is asked
//! The Map-Resolvers of the longest configured EID space around the EID, and where there is none, those
//! without an EID space. Mapping systems are independent: one that serves an EID space is never stood in for
//! by one that does not. Within a space the first one is asked, or the one that answered fastest so far. Who
//! leaves a Map-Request unanswered and has answered nothing else since is passed over until it answers again.
//! To find that out, and to measure those that are not asked otherwise, a destination that another one has
//! just resolved is asked for once more, a second later: no packet waits for that answer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::proto::config::{Host, ItrConfig, ResolverSelection};
use crate::proto::context::Context;
use crate::proto::control::LigError;
use crate::proto::eid_table::EidTable;
use crate::proto::event::Event;
use crate::types::{Eid, EidPrefix, Instant, Nonce};

use super::database::LocalRlocs;

/// A Map-Resolver under suspicion is tried again after this time; doubles with every failure.
const SUSPICION: Duration = Duration::from_secs(2);
/// Its upper limit.
const SUSPICION_MAX: Duration = Duration::from_secs(60);
/// With [`ResolverSelection::Fastest`], each is measured this often.
const MEASURE_INTERVAL: Duration = Duration::from_secs(60);
/// Map-Requests in a row without an answer after which that is said.
const SAY_AFTER: u32 = 3;

/// The Map-Resolvers of an ITR.
#[derive(Debug, Default)]
pub(crate) struct Resolvers {
    default: Vec<Host>,
    spaces: EidTable<Vec<Host>>,
    selection: ResolverSelection,
    health: BTreeMap<IpAddr, Health>,
    planned: Option<Exploration>,
    /// Sent and not answered yet.
    exploring: Option<(Nonce, Exploration)>,
}

/// How a Map-Resolver, by address, does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Smoothed time from a Map-Request to its Map-Reply, as RFC 6298 §2 smooths it. It includes the way to
    /// the ETR that answers.
    pub response_time: Option<Duration>,
    /// Map-Requests sent.
    pub requests: u64,
    /// Map-Replies that came for them.
    pub answers: u64,
    /// Map-Requests that were not answered in time.
    pub timeouts: u64,
    /// When the last answer came.
    pub last_answer: Option<Instant>,
    /// Since when it is passed over, as it does not answer.
    pub suspect: Option<Instant>,
    last_asked: Option<Instant>,
    last_measured: Option<Instant>,
    last_miss: Option<Instant>,
    misses: u32,
    explore_at: Instant,
}

/// A Map-Request that only serves to see whether, and how fast, a Map-Resolver answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exploration {
    /// Who is asked.
    pub(crate) resolver: IpAddr,
    /// What for.
    pub(crate) prefix: EidPrefix,
    /// When; once sent, when it counts as unanswered.
    at: Instant,
    sent: Instant,
}

impl Resolvers {
    pub(crate) fn new(config: &ItrConfig) -> Self {
        let mut resolvers = Self::default();
        resolvers.configure(config);
        resolvers
    }

    /// Takes in a configuration; what is known of Map-Resolvers stays.
    pub(crate) fn configure(&mut self, config: &ItrConfig) {
        self.default.clone_from(&config.map_resolvers);
        self.spaces = EidTable::default();
        for (prefix, hosts) in &config.resolver_spaces {
            self.spaces.insert(*prefix, hosts.clone());
        }
        self.selection = config.resolver_selection;
        self.planned = None;
    }

    /// Forgets how those do that no host's address is any more.
    fn prune(&mut self, cx: &Context) {
        let known: Vec<IpAddr> = self.hosts().flat_map(|host| cx.names.addresses(host)).copied().collect();
        self.health.retain(|address, _| known.contains(address));
    }

    /// Every host, with repetitions.
    fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.default.iter().chain(self.spaces.iter().flat_map(|(_, hosts)| hosts))
    }

    /// Those that are responsible for an EID, and their EID space.
    fn responsible(&self, eid: &Eid) -> &[Host] {
        self.spaces.longest(eid).map_or(&self.default, |(_, hosts)| hosts)
    }

    fn candidates(&self, cx: &Context, eid: &Eid, local: &LocalRlocs) -> Vec<IpAddr> {
        let known = || self.responsible(eid).iter().flat_map(|host| cx.names.addresses(host)).copied();
        // Where we have no locator of a family, there may still be a way out in it: better than not asking.
        let reachable: Vec<IpAddr> = known().filter(|addr| local.reaches(addr)).collect();
        if reachable.is_empty() { known().collect() } else { reachable }
    }

    /// Whom to ask for `eid`. `last` did not answer just now.
    pub(crate) fn choose(
        &self,
        cx: &Context,
        eid: &Eid,
        last: Option<IpAddr>,
        local: &LocalRlocs,
    ) -> Result<IpAddr, LigError> {
        if local.all().is_empty() {
            return Err(LigError::NoLocalRloc);
        }
        let all = self.candidates(cx, eid, local);
        let health = |addr: &IpAddr| self.health.get(addr);
        let others: Vec<IpAddr> = all.iter().copied().filter(|addr| Some(*addr) != last).collect();
        let trusted = others.iter().filter(|addr| health(addr).is_none_or(|h| h.suspect.is_none()));
        let chosen = match self.selection {
            ResolverSelection::Order => trusted.copied().next(),
            ResolverSelection::Fastest => trusted
                .copied()
                .min_by_key(|addr| health(addr).and_then(|h| h.response_time).unwrap_or(Duration::MAX)),
        };
        // With everybody under suspicion, take turns.
        let waited_longest =
            || others.iter().copied().min_by_key(|addr| health(addr).and_then(|h| h.last_asked));
        chosen
            .or_else(waited_longest)
            .or(last.filter(|l| all.contains(l)))
            .or(all.first().copied())
            .ok_or(LigError::NoMapResolver)
    }

    /// A Map-Request is on its way.
    pub(crate) fn asked(&mut self, cx: &Context, now: Instant, resolver: IpAddr) {
        if !self.health.contains_key(&resolver) {
            self.prune(cx);
        }
        let health = self.health.entry(resolver).or_default();
        health.requests += 1;
        health.last_asked = Some(now);
    }

    /// A Map-Request that was sent at `sent` has not been answered in time.
    pub(crate) fn unanswered(&mut self, cx: &mut Context, now: Instant, resolver: IpAddr, sent: Instant) {
        let Some(health) = self.health.get_mut(&resolver) else { return };
        health.timeouts += 1;
        // The ETR may be the one that does not answer, if others do; and many at once are one failure.
        let answers = health.last_answer.is_some_and(|at| at > sent);
        if answers || health.last_miss.is_some_and(|at| at >= sent) {
            return;
        }
        health.last_miss = Some(now);
        let pause = SUSPICION.saturating_mul(1 << health.misses.min(16)).min(SUSPICION_MAX);
        health.misses = health.misses.saturating_add(1);
        health.suspect.get_or_insert(now);
        health.explore_at = now + pause;
        if health.misses == SAY_AFTER {
            cx.event(Event::MapResolverSilent { resolver, requests: SAY_AFTER });
        }
        // Maybe it has moved.
        for host in self.default.iter().chain(self.spaces.iter().flat_map(|(_, hosts)| hosts)) {
            cx.names.doubt(host, Some(resolver), now);
        }
    }

    /// An answer came; `took` where it is known which Map-Request it answers.
    pub(crate) fn answered(
        &mut self,
        cx: &mut Context,
        now: Instant,
        resolver: IpAddr,
        took: Option<Duration>,
    ) {
        let Some(health) = self.health.get_mut(&resolver) else { return };
        health.answers += 1;
        health.last_answer = Some(now);
        if health.misses >= SAY_AFTER {
            cx.event(Event::MapResolverBack { resolver });
        }
        health.misses = 0;
        health.suspect = None;
        if let Some(took) = took {
            health.last_measured = Some(now);
            health.response_time = Some(match health.response_time {
                Some(smoothed) => smoothed - smoothed / 8 + took / 8,
                None => took,
            });
        }
    }

    /// `prefix` was just resolved by `by`: a chance to see how another one does that is not asked otherwise.
    pub(crate) fn plan(
        &mut self,
        cx: &Context,
        now: Instant,
        prefix: &EidPrefix,
        by: IpAddr,
        local: &LocalRlocs,
    ) {
        if self.planned.is_some() || self.exploring.is_some() {
            return;
        }
        let measures = self.selection == ResolverSelection::Fastest;
        let worth_it = |addr: &IpAddr| match self.health.get(addr) {
            Some(health) if health.suspect.is_some() => health.explore_at <= now,
            Some(health) => {
                measures && health.last_measured.is_none_or(|at| now.saturating_since(at) >= MEASURE_INTERVAL)
            }
            None => measures,
        };
        let candidates = self.candidates(cx, &prefix.first(), local);
        let other = candidates.into_iter().find(|addr| *addr != by && worth_it(addr));
        // An EID-prefix is asked for once a second at most (RFC 9301 §5.3).
        let at = now + cx.timers.request_retry;
        self.planned =
            other.map(|resolver| Exploration { resolver, prefix: *prefix, at, sent: Instant::ZERO });
    }

    /// An exploration that is due, and the nonce to send it with.
    pub(crate) fn explore(&mut self, cx: &mut Context, now: Instant) -> Option<(Nonce, Exploration)> {
        if let Some((_, lost)) = self.exploring.take_if(|(_, exploration)| exploration.at <= now) {
            self.unanswered(cx, now, lost.resolver, lost.sent);
        }
        let due = self.planned.take_if(|exploration| exploration.at <= now)?;
        let nonce = cx.nonce();
        self.exploring = Some((nonce, Exploration { at: now + cx.timers.request_retry, sent: now, ..due }));
        self.asked(cx, now, due.resolver);
        Some((nonce, due))
    }

    /// Whether `nonce` is that of an exploration, which is over then.
    pub(crate) fn explored(&mut self, cx: &mut Context, now: Instant, nonce: Nonce) -> bool {
        let Some((_, exploration)) = self.exploring.take_if(|(sent, _)| *sent == nonce) else { return false };
        self.answered(cx, now, exploration.resolver, Some(now.saturating_since(exploration.sent)));
        true
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let planned = self.planned.as_ref().map(|exploration| exploration.at);
        let exploring = self.exploring.as_ref().map(|(_, exploration)| exploration.at);
        planned.into_iter().chain(exploring).min()
    }

    /// Every Map-Resolver in the order of the configuration, with the EID space that it is asked for (`None`:
    /// all others), and how each of its addresses does.
    pub(crate) fn states<'a>(
        &'a self,
        cx: &'a Context,
    ) -> impl Iterator<Item = (Option<EidPrefix>, &'a Host, Vec<(IpAddr, Health)>)> {
        let default = self.default.iter().map(|host| (None, host));
        let spaces =
            self.spaces.iter().flat_map(|(space, hosts)| hosts.iter().map(move |h| (Some(space), h)));
        default.chain(spaces).map(|(space, host)| {
            let addresses = cx.names.addresses(host).iter();
            let states = addresses.map(|addr| (*addr, self.health.get(addr).cloned().unwrap_or_default()));
            (space, host, states.collect())
        })
    }
}

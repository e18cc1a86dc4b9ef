//! RLOC-probing (RFC 9301 §7.1): asks remote locators whether they are there, and takes what the underlay
//! says of them.
//!
//! Owns: when a way is probed, and what an answer, or none, means. What follows for the map-cache is said in
//! [`super::reachability`]. Must not choose paths.
//!
//! Every locator of a map-cache entry that carries packets is probed, once however many entries have it, from
//! the locator of ours that packets to it leave from; from better ones too, so that packets return to those;
//! and from all of them while none is known to lead there. A probe that isn't answered is repeated soon, and
//! after some of those the way is down. Then it is probed ever more rarely. All in all no more probes leave
//! than the configured rate allows: with more locators than that, the interval grows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::Duration;

use crate::proto::config::ProbingConfig;
use crate::proto::context::{CONTROL_PORT, Context, is_unicast};
use crate::proto::event::Event;
use crate::proto::stats::DropReason;
use crate::types::{EidPrefix, Family, Instant, Locator, Nonce, Rloc};
use crate::wire::{Address, MapReply, MapRequest, Message};

use super::database::{Database, LocalRlocs};
use super::itr::Itr;
use super::map_cache::{MapCache, Source};
use super::reachability::{
    Cause, MAX_REMOTES, Outstanding, Reachability, RemoteRloc, Verdict, WayState, sources,
};

/// Without probing, an RLOC that the underlay can't reach is spared for so long. With it, so long is an
/// answer to a probe believed rather than the underlay, which anybody may have spoken for.
const UNDERLAY_MEMORY: Duration = Duration::from_secs(30);
/// RLOCs that may be down at once without probing.
const MAX_DOWN: usize = 4096;
/// A new locator is probed within this time, so that a dead one is found soon.
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// An answer is waited for as long as this, also when others were sent since.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Probes of one way whose answers are waited for.
const MAX_OUTSTANDING: usize = 8;
/// Entries with a locator that are looked at, at a time, for one that carries packets.
const MAX_LOOKED_AT: usize = 256;
/// While none of a site's locators is up, the mapping system is asked again this often at most (RFC 9301
/// §5.3: once a second).
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Probes that may leave at once, beyond the steady rate.
const BURST: u32 = 16;

/// The pace of probing.
#[derive(Debug, Default)]
pub(super) struct Prober {
    config: Option<ProbingConfig>,
    /// When the next probe may leave.
    slot: Instant,
    /// Locators of the site's other xTRs that came up or went down.
    site: Vec<(Rloc, bool)>,
}

/// What an answer was to.
struct Answered {
    rloc: Rloc,
    asked: EidPrefix,
    site: bool,
}

impl Itr {
    /// Takes in whether and how to probe, and which locators the site's other xTRs have.
    pub(crate) fn configure_probing(
        &mut self,
        cx: &mut Context,
        now: Instant,
        config: Option<ProbingConfig>,
        database: &Database,
    ) {
        let reach = &mut self.cache.reach;
        if reach.prober.config != config {
            // Other intervals: everything is looked at anew.
            reach.prober.config = config;
            reach.refused.clear();
            let known: Vec<Rloc> = reach.remotes.keys().copied().collect();
            for rloc in known {
                reach.reset(&rloc);
            }
            let used: Vec<Rloc> = self.cache.used_rlocs().map(|(rloc, _)| *rloc).collect();
            for rloc in used {
                self.cache.reach.add(cx, now, rloc, database.rlocs());
            }
        }
        let probed = config.is_some_and(|config| config.site);
        let others = database.others().filter(|(rloc, _)| probed && is_unicast(rloc));
        let others: BTreeMap<Rloc, EidPrefix> = others.collect();
        let reach = &mut self.cache.reach;
        for (rloc, remote) in &mut reach.remotes {
            if remote.site.is_some() && !others.contains_key(rloc) {
                remote.site = None;
                reach.fresh.insert(*rloc);
                // Without probes there is no reason to doubt it.
                reach.prober.site.push((*rloc, true));
            }
        }
        for (rloc, prefix) in others {
            // As many as are configured, and whether or not there is a way to them at the moment.
            reach.insert(cx, now, rloc, database.rlocs());
            if let Some(remote) = reach.remotes.get_mut(&rloc) {
                remote.site = Some(prefix);
            }
        }
        self.cache.act_on_verdicts(cx, database.rlocs());
    }

    /// Other locators of ours are up. The caller publishes every entry, once.
    pub(super) fn probing_locators_changed(&mut self, cx: &mut Context, now: Instant, local: &LocalRlocs) {
        let reach = &mut self.cache.reach;
        reach.forget_sources(local);
        let families = [Family::Ipv4, Family::Ipv6].map(|family| local.of_family(family).is_some());
        if std::mem::replace(&mut reach.families, families) != families {
            // What no locator of ours leads to any more can't be probed; what one leads to now, can.
            reach.refused.retain(|rloc| local.reaches(rloc));
            let lost = |(rloc, remote): (&Rloc, &RemoteRloc)| {
                (remote.site.is_none() && !local.reaches(rloc)).then_some(*rloc)
            };
            let lost: Vec<Rloc> = reach.remotes.iter().filter_map(lost).collect();
            for rloc in lost {
                reach.forget(&rloc);
            }
            let used: Vec<Rloc> = self.cache.used_rlocs().map(|(rloc, _)| *rloc).collect();
            for rloc in used {
                self.cache.reach.add(cx, now, rloc, local);
            }
        }
        let reach = &mut self.cache.reach;
        let all: Vec<Rloc> = reach.remotes.keys().copied().collect();
        for rloc in all {
            reach.touched.insert(rloc);
            reach.arm(cx, now, rloc, local);
        }
        self.cache.note_verdicts(cx, local);
    }

    /// The underlay, or the absence of echoes, says that `rloc` can't be reached (RFC 9301 §7, RFC 9300
    /// §10.1). It is not used for now, where there is something better; probes find out whether that is
    /// true. Whether any entry has the locator.
    pub(super) fn unreachable(
        &mut self,
        cx: &mut Context,
        now: Instant,
        rloc: Rloc,
        cause: Cause,
        local: &LocalRlocs,
    ) -> bool {
        if !self.cache.uses(&rloc) {
            return false;
        }
        let Some(verdict) = self.cache.reach.verdict(&rloc, local) else { return true };
        let reach = &mut self.cache.reach;
        let probing = reach.prober.config.is_some();
        let most = if probing { MAX_REMOTES } else { MAX_DOWN };
        if !reach.remotes.contains_key(&rloc) && reach.remotes.len() >= most {
            return false;
        }
        let way = reach.remotes.entry(rloc).or_default().way_or_new(verdict.source, now);
        if matches!(way.state, WayState::Down(_)) {
            return true;
        }
        if way.trusted_until.is_some_and(|until| until > now) {
            cx.drop(DropReason::UnreachableContradicted, None);
            return true;
        }
        way.enter(WayState::Down(cause), now);
        way.unanswered = 0;
        // Its probe waits for no turn.
        way.reserved = probing;
        let wake = if probing { now } else { now + UNDERLAY_MEMORY };
        reach.set_wake(rloc, verdict.source, Some(wake));
        reach.touched.insert(rloc);
        reach.arm(cx, now, rloc, local);
        self.cache.act_on_verdicts(cx, local);
        true
    }

    /// Packets to `rloc` arrive, as the other side has shown.
    pub(super) fn proven(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, local: &LocalRlocs) {
        let Some(verdict) = self.cache.reach.verdict(&rloc, local).filter(|verdict| !verdict.up) else {
            return;
        };
        let reach = &mut self.cache.reach;
        let Some(way) = reach.remotes.get_mut(&rloc).and_then(|r| r.way_mut(&verdict.source)) else { return };
        way.enter(WayState::Up, now);
        way.unanswered = 0;
        reach.touched.insert(rloc);
        self.cache.act_on_verdicts(cx, local);
    }

    /// Something is odd about `rloc`: a probe is to find out at once what.
    pub(super) fn probe_soon(&mut self, now: Instant, rloc: Rloc, local: &LocalRlocs) {
        let Some(verdict) = self.cache.reach.verdict(&rloc, local) else { return };
        let way = self.cache.reach.get(&rloc).and_then(|remote| remote.way(&verdict.source));
        if way.is_some_and(|way| !way.pending() && self.cache.reach.prober.config.is_some()) {
            self.cache.reach.set_wake(rloc, verdict.source, Some(now));
        }
    }

    /// Sends the probes that are due, and gives up on those that were not answered.
    pub(super) fn probe(&mut self, cx: &mut Context, now: Instant, database: &Database) {
        let local = database.rlocs();
        let suspects = self.cache.reach.suspects();
        self.cache.settle(cx, now, local);
        self.heed(cx, now, suspects, local);
        while let Some((at, rloc, source)) = self.cache.reach.timers.first().copied()
            && at <= now
        {
            self.cache.reach.set_wake(rloc, source, None);
            let site = self.cache.reach.get(&rloc).and_then(|remote| remote.site);
            if site.is_none() && !self.cache.uses(&rloc) {
                self.cache.reach.forget(&rloc);
                continue;
            }
            let asked = match site {
                Some(prefix) => Some(prefix),
                None => self.cache.in_use_behind(&rloc, now),
            };
            self.cache.reach.step(cx, now, (rloc, source), asked, local);
            if let (None, Some(prefix)) = (site, asked)
                && self.cache.is_stranded(now, &rloc, &prefix, local)
            {
                // Perhaps the site is somewhere else by now.
                self.refresh(cx, now, prefix, false, local);
            }
        }
        // There may be room by now.
        self.cache.settle(cx, now, local);
        self.cache.act_on_verdicts(cx, local);
    }

    /// Whether a Map-Reply's nonce is that of a probe.
    pub(super) fn is_probe(&self, nonce: Nonce) -> bool {
        self.cache.reach.nonces.contains_key(&nonce)
    }

    /// An answer to a probe, which refreshes the mapping that it asked for as well.
    pub(super) fn probe_reply(
        &mut self,
        cx: &mut Context,
        now: Instant,
        reply: MapReply,
        source: SocketAddr,
        database: &Database,
    ) {
        // RFC 9301 §5.4: P set, and A in every record.
        if !reply.probe || reply.records.iter().any(|record| !record.authoritative) {
            return cx.drop(DropReason::ProbeReply, Some(source));
        }
        let local = database.rlocs();
        let Some(Answered { rloc, asked, site }) = self.cache.reach.answered(cx, now, reply.nonce) else {
            return;
        };
        self.cache.reach.arm(cx, now, rloc, local);
        let entry = self.cache.get(&asked);
        // A proxy-ETR is no authority on what it forwards, and nobody is on what the configuration says.
        if site || entry.is_none_or(|entry| entry.mapping.is_by_proxy() || entry.is_static()) {
            return self.cache.act_on_verdicts(cx, local);
        }
        let mut mappings = self.mappings(cx, &reply.records, source);
        // Outermost last, so that its lifetime can respect theirs.
        mappings.sort_by_key(|m| std::cmp::Reverse(m.eid.len()));
        let told = mappings.iter().any(|m| m.eid.covers(&asked));
        for mut mapping in mappings {
            mapping.locators.iter_mut().for_each(|l| l.probe = false);
            let prefix = mapping.eid;
            self.learn(cx, now, mapping, &asked, (Source::Probe, source), database);
            self.cache.set_echoes(cx, &prefix, reply.echo_nonce);
        }
        // There is an xTR, but the prefix isn't its own, or no longer. It says so to every probe, and the
        // mapping system what it says every time, so that it is asked as rarely as one that doesn't answer.
        let rest = cx.timers.request_rest;
        let rested = |at: Instant| now.saturating_since(at) >= rest;
        if !told
            && self
                .cache
                .get(&asked)
                .is_some_and(|entry| !entry.is_static() && entry.asked.is_none_or(rested))
            && self.refresh(cx, now, asked, false, local)
        {
            self.cache.note_asked(&asked, now);
        }
        self.cache.act_on_verdicts(cx, local);
    }

    /// The locators of the site's other xTRs that came up or went down since this was asked last.
    pub(crate) fn take_site_changes(&mut self) -> Vec<(Rloc, bool)> {
        std::mem::take(&mut self.cache.reach.prober.site)
    }
}

impl MapCache {
    /// The locators of all entries, in order, each with the number of entries that have it.
    pub(crate) fn used_rlocs(&self) -> impl Iterator<Item = (&Rloc, usize)> {
        self.rlocs.iter().map(|(rloc, users)| (rloc, users.len()))
    }

    /// Has locators that came into use probed, and forgets those that no entry has any more. Without probing
    /// these go by themselves, after [`UNDERLAY_MEMORY`].
    fn settle(&mut self, cx: &mut Context, now: Instant, local: &LocalRlocs) {
        while let Some(rloc) = self.reach.fresh.pop_first() {
            if self.uses(&rloc) {
                self.reach.add(cx, now, rloc, local);
            } else if self.reach.prober.config.is_some() {
                self.reach.refused.remove(&rloc);
                if self.reach.get(&rloc).is_some_and(|remote| remote.site.is_none()) {
                    self.reach.forget(&rloc);
                }
            }
        }
    }

    /// An entry that carries packets and may send them to `rloc`, another one each time.
    fn in_use_behind(&mut self, rloc: &Rloc, now: Instant) -> Option<EidPrefix> {
        let cursor = self.reach.get(rloc).and_then(|remote| remote.cursor);
        let users = self.rlocs.get(rloc)?;
        let after = users.range((cursor.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let mut last = None;
        let found = after.chain(users).take(users.len().min(MAX_LOOKED_AT)).copied().find(|prefix| {
            last = Some(*prefix);
            self.get(prefix).is_some_and(|entry| {
                entry.in_use(now) && entry.mapping.locators.iter().any(|l| l.rloc == *rloc && l.usable())
            })
        });
        if let Some(remote) = self.reach.remotes.get_mut(rloc) {
            remote.cursor = last;
        }
        found
    }

    /// Whether no locator of an entry is up, so that the mapping system had better be asked again, and that
    /// was not said a moment ago.
    fn is_stranded(&mut self, now: Instant, rloc: &Rloc, prefix: &EidPrefix, local: &LocalRlocs) -> bool {
        if !self.is_down(rloc, local) {
            return false;
        }
        let Some(entry) = self.get(prefix) else { return false };
        let is_up = |l: &Locator| l.usable() && self.reach.verdict(&l.rloc, local).is_some_and(|v| v.up);
        if entry.is_static() || entry.mapping.is_by_proxy() || entry.mapping.locators.iter().any(is_up) {
            return false;
        }
        let Some(remote) = self.reach.remotes.get_mut(rloc) else { return false };
        if remote.asked_again.is_some_and(|at| now.saturating_since(at) < ASK_AGAIN) {
            return false;
        }
        remote.asked_again = Some(now);
        true
    }

    /// Brings the FIB in line with the verdicts that changed, and says so.
    pub(super) fn act_on_verdicts(&mut self, cx: &mut Context, local: &LocalRlocs) {
        for rloc in self.note_verdicts(cx, local) {
            self.republish_users(cx, &rloc, local);
        }
    }

    /// Says which verdicts changed, and gives the locators that they are on.
    fn note_verdicts(&mut self, cx: &mut Context, local: &LocalRlocs) -> Vec<Rloc> {
        let mut changed = Vec::new();
        for rloc in std::mem::take(&mut self.reach.touched) {
            let verdict = self.reach.verdict(&rloc, local);
            let mut before = self.reach.forgotten.remove(&rloc);
            let mut site = false;
            if let Some(remote) = self.reach.remotes.get_mut(&rloc) {
                site = remote.site.is_some();
                before = std::mem::replace(&mut remote.acted_on, verdict);
                if before == verdict {
                    continue;
                }
            }
            changed.push(rloc);
            let was_up = before.is_none_or(|before| before.up);
            if let Some(Verdict { up, .. }) = verdict
                && up != was_up
            {
                if site {
                    self.reach.prober.site.push((rloc, up));
                } else if let Some(journal) = &mut self.journal {
                    journal.rlocs.insert(rloc);
                }
                cx.event(match self.reach.get(&rloc) {
                    Some(_) => Event::RemoteLocator { rloc, up },
                    // Nobody knows: what was known of it is too long ago.
                    None => Event::RemoteLocatorRetried { rloc },
                });
            }
        }
        changed
    }
}

impl Reachability {
    /// A locator is used by the map-cache. Where no locator of ours leads to it, it is looked at again once
    /// there is one; where there is no room for it, once there is.
    pub(super) fn add(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, local: &LocalRlocs) {
        if self.prober.config.is_none() || !is_unicast(&rloc) || !local.reaches(&rloc) {
            return;
        }
        if self.remotes.len() >= MAX_REMOTES && !self.remotes.contains_key(&rloc) {
            self.refused.insert(rloc);
            return;
        }
        self.insert(cx, now, rloc, local);
    }

    fn insert(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, local: &LocalRlocs) {
        if self.remotes.contains_key(&rloc) {
            return;
        }
        self.refused.remove(&rloc);
        // What packets do is still as it was said of it before.
        let before = self.forgotten.remove(&rloc);
        let acted_on = before.or_else(|| self.verdict(&rloc, local));
        self.remotes.insert(rloc, RemoteRloc { acted_on, ..RemoteRloc::default() });
        self.arm(cx, now, rloc, local);
    }

    /// Has those ways probed that are worth it and are not yet.
    fn arm(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, local: &LocalRlocs) {
        let Some(config) = self.prober.config else { return };
        let candidates = sources(&rloc, local);
        let Some(remote) = self.remotes.get_mut(&rloc) else { return };
        let Some(verdict) = remote.verdict(&candidates) else { return };
        let first = config.interval.min(FIRST_PROBE);
        for source in worth_probing(&candidates, verdict).iter().copied() {
            let Some(remote) = self.remotes.get_mut(&rloc) else { return };
            if remote.way_or_new(source, now).wake.is_some() {
                continue;
            }
            // At once where packets wait for it, or could go a better way.
            let urgent = !verdict.up || source != verdict.source;
            let wake = if urgent { now } else { now + cx.between(first / 2, first) };
            self.set_wake(rloc, source, Some(wake));
        }
    }

    /// A way's time has come: its last probe was not answered in time, or it is time for the next.
    fn step(
        &mut self,
        cx: &mut Context,
        now: Instant,
        (rloc, source): (Rloc, Rloc),
        asked: Option<EidPrefix>,
        local: &LocalRlocs,
    ) {
        let Some(config) = self.prober.config else {
            // What the underlay said is long ago.
            self.reset(&rloc);
            return;
        };
        let candidates = sources(&rloc, local);
        let Some(remote) = self.remotes.get_mut(&rloc) else { return };
        let Some(way) = remote.way_mut(&source) else { return };
        let down = matches!(way.state, WayState::Down(_));
        if way.unanswered > config.retries && !down && !way.reserved {
            way.enter(WayState::Down(Cause::Probes), now);
            self.touched.insert(rloc);
        }
        let Some(verdict) = remote.verdict(&candidates) else { return };
        let Some(way) = remote.way_mut(&source) else { return };
        if !worth_probing(&candidates, verdict).contains(&source) {
            // What is known of it gets old from here on.
            way.enter(WayState::Unprobed, now);
            way.unanswered = 0;
            way.reserved = false;
            return;
        }
        let Some(asked) = asked else {
            // Nothing is sent there at present.
            if !matches!(way.state, WayState::Down(_)) {
                way.unanswered = 0;
            }
            way.reserved = false;
            let wake = now + config.pause(cx);
            return self.set_wake(rloc, source, Some(wake));
        };
        if !std::mem::take(&mut way.reserved) {
            let turn = self.prober.turn(&config, now);
            if turn > now {
                way.reserved = true;
                return self.set_wake(rloc, source, Some(turn));
            }
        }
        self.send(cx, now, (rloc, source), asked, &config);
        self.arm(cx, now, rloc, local);
    }

    fn send(
        &mut self,
        cx: &mut Context,
        now: Instant,
        (rloc, source): (Rloc, Rloc),
        asked: EidPrefix,
        config: &ProbingConfig,
    ) {
        let Some(way) = self.remotes.get_mut(&rloc).and_then(|remote| remote.way_mut(&source)) else {
            return;
        };
        while let Some(oldest) = way.outstanding.first().copied()
            && (way.outstanding.len() >= MAX_OUTSTANDING || now.saturating_since(oldest.sent) > LONGEST_WAIT)
        {
            way.outstanding.remove(0);
            self.nonces.remove(&oldest.nonce);
        }
        let nonce = cx.nonce();
        way.outstanding.push(Outstanding { nonce, sent: now, asked });
        self.nonces.insert(nonce, (rloc, source));
        way.sent += 1;
        way.last_sent = Some(now);
        way.unanswered = way.unanswered.saturating_add(1);
        let wait = match way.unanswered.checked_sub(config.retries.saturating_add(2)) {
            None => config.timeout,
            // Twice as long after every second.
            Some(more) => {
                let pause = config.pause(cx).saturating_mul(1 << (more / 2).min(16));
                pause.min(config.back_off.max(config.interval))
            }
        };
        self.set_wake(rloc, source, Some(now + wait));
        // RFC 9301 §5.2: no source EID. The one ITR-RLOC is where the probe comes from, so that the answer
        // takes the same way.
        let request = MapRequest {
            probe: true,
            nonce,
            source_eid: Address::None,
            itr_rlocs: vec![Address::from(source)],
            records: vec![asked.into()],
            ..MapRequest::default()
        };
        let to = SocketAddr::new(rloc, CONTROL_PORT);
        cx.send(Some(source), to, &Message::MapRequest(request));
    }

    fn answered(&mut self, cx: &mut Context, now: Instant, nonce: Nonce) -> Option<Answered> {
        let config = self.prober.config?;
        let (rloc, source) = self.nonces.get(&nonce).copied()?;
        let remote = self.remotes.get_mut(&rloc)?;
        let site = remote.site.is_some();
        let way = remote.way_mut(&source)?;
        let probe = *way.outstanding.iter().find(|probe| probe.nonce == nonce)?;
        for probe in std::mem::take(&mut way.outstanding) {
            self.nonces.remove(&probe.nonce);
        }
        let rtt = now.saturating_since(probe.sent);
        way.rtt = Some(way.rtt.map_or(rtt, |smooth| (smooth * 7 + rtt) / 8));
        way.answered += 1;
        way.last_answered = Some(now);
        way.unanswered = 0;
        way.reserved = false;
        if let WayState::Down(Cause::Underlay | Cause::Echo) = way.state {
            way.trusted_until = Some(now + UNDERLAY_MEMORY);
        }
        if way.state != WayState::Up {
            way.enter(WayState::Up, now);
            self.touched.insert(rloc);
        }
        let wake = (probe.sent + config.pause(cx)).max(now);
        self.set_wake(rloc, source, Some(wake));
        Some(Answered { rloc, asked: probe.asked, site })
    }
}

impl Prober {
    /// How often a probe is repeated, where there are any.
    pub(super) fn retries(&self) -> Option<u32> {
        self.config.map(|config| config.retries)
    }

    /// When a probe that is due now may leave, that time being taken by it.
    fn turn(&mut self, config: &ProbingConfig, now: Instant) -> Instant {
        let gap = Duration::from_secs(1) / config.rate.max(1);
        let turn = (self.slot - gap * BURST).max(now);
        self.slot = self.slot.max(now) + gap;
        turn
    }
}

impl ProbingConfig {
    /// From one probe to the next.
    fn pause(&self, cx: &mut Context) -> Duration {
        let shortest = self.interval * 100u32.saturating_sub(self.jitter.into()) / 100;
        cx.between(shortest, self.interval)
    }
}

/// Of the sources for a locator, in order of preference: up to the one in use, or all where none leads there.
fn worth_probing(candidates: &[Rloc], verdict: Verdict) -> &[Rloc] {
    let used = candidates.iter().position(|source| *source == verdict.source && verdict.up);
    used.and_then(|at| candidates.get(..=at)).unwrap_or(candidates)
}

//! EID-prefixes that come to this site and leave it while the routers run.
//!
//! Owns: which of them are here, which have moved elsewhere, and who is believed about that. Must not know
//! how hosts are asked for, nor routes: the runtime is told ([`Output::Probe`], [`Output::DynamicEid`]).
//!
//! # A move
//! The site that an EID-prefix comes to registers it (RFC 9301 §5.6), told by an operator's command or
//! because a host answered on the site's LAN. The Map-Server takes the last word for the right one, and tells
//! whoever had registered the prefix, or one around it (RFC 9301 §5.7). That xTR asks the mapping system
//! itself, as a Map-Notify may have been recorded and sent again, while a Map-Reply has to have the nonce of
//! the question. If the answer has locators of another site alone, it withdraws its own registration, sends
//! on what still comes for the prefix ([`Dynamic::Away`]), and has everybody who sends there ask again
//! ([`super::smr`]).
//!
//! Sending on ends after a while; but a part of an EID-prefix that stays registered here is sent on for as
//! long as the mapping system says that it is elsewhere, which is asked again now and then.
//!
//! # A site that was cut off
//! The last word is right only of who has heard the ones before. A site that was down, whose locators were
//! all down, whose Map-Register nobody confirmed, or who has heard nothing for longer than a registration
//! period, asks before it registers again what may have moved meanwhile, and gives way if somebody else has
//! it. Until there is an answer, what was here stays in use at the site. If nobody answers at all,
//! registering is tried now and then.
//!
//! What a site can't notice itself, being cut off between two Map-Registers and no longer, its Map-Server
//! makes up for: see [`map_server`](crate::proto::mapping_system). With a Map-Server that does not, such a
//! site takes a prefix back that went elsewhere meanwhile, with its next Map-Register, until the other one
//! has it said again.
//!
//! # Where it came from
//! What the old site sends on comes from its locators, whoever sent it first, and would not pass a check of
//! the outer source (RFC 9300 §16). So a site that checks asks the mapping system, before it registers a
//! prefix, where that was until now, and takes packets to it from there too for as long as they are sent on.
//!
//! # Several sites at a time
//! With a priority given, a prefix is registered to be merged (RFC 9301 §5.6) with what other sites register
//! so. Then nobody has to leave: traffic follows the priorities, until one site is told that the prefix is
//! there no more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::fib::{Dynamic, FibUpdate, SourceCheck};
use crate::proto::config::{
    ControlConfig, DatabaseEntry, DetectConfig, DynamicEid, LocatorConfig, LocatorSource,
};
use crate::proto::context::Context;
use crate::proto::control::{Move, MoveError, NeighbourState, Output, Place};
use crate::proto::eid_table::EidTable;
use crate::proto::event::Event;
use crate::proto::persist::{Change, Key, Record};
use crate::proto::rate::TokenBucket;
use crate::types::{Eid, EidPrefix, Instant, Locator, Mapping};
use crate::wire::EidRecord;

use super::database::{Database, Kind};
use super::itr::{Itr, Located, Locating};
use super::register::Registrar;

/// A question to the mapping system that nobody answered is asked again after this time, which doubles …
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// … so often.
const ASK_ATTEMPTS: u32 = 8;
/// A host that is asked for its link-layer address has this time to answer.
const PROBE_TIME: Duration = Duration::from_secs(3);
/// A question that nobody answers at all is asked again no more rarely than this.
const ASK_RARELY: Duration = Duration::from_secs(60);
/// Hosts that may be asked so at once.
const MAX_PROBED: usize = 1024;
/// A host that was found here so often within [`FLAPPING_TIME`] is not taken in again before that is over.
const FLAPPING: u32 = 5;
const FLAPPING_TIME: Duration = Duration::from_secs(60);
/// For so long after a prefix has come here, another site's word may be older than it seems …
const FRESH: Duration = Duration::from_millis(500);
/// … and is contradicted so often.
const INSISTENCE: u32 = 1;
/// Who has a prefix for so short, after having said so repeatedly, has it taken away by somebody who never
/// let go of it.
const CONTESTED_FOR: Duration = Duration::from_secs(5);
/// A host that is here is asked whether it still is so often within the time that it may stay silent.
const PROBES_PER_TIMEOUT: u32 = 4;

/// What the machine works with.
pub(crate) struct World<'a> {
    pub(crate) cx: &'a mut Context,
    pub(crate) now: Instant,
    pub(crate) itr: Option<&'a mut Itr>,
    pub(crate) database: &'a mut Database,
    pub(crate) registrar: &'a mut Registrar,
    /// The EID-prefixes that are here for good.
    pub(crate) fixed: &'a [DatabaseEntry],
    /// What we tell others of the site has changed.
    pub(crate) changed: bool,
}

impl World<'_> {
    /// Whether a prefix that moved elsewhere would be taken for ours, if it were forgotten.
    fn is_home(&self, prefix: &EidPrefix) -> bool {
        self.database.home_of(prefix).is_some() || self.fixed.iter().any(|entry| entry.eid == *prefix)
    }
}

/// An EID-prefix that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// Found out by what it sent, not told by command.
    pub detected: bool,
    /// The priority that was given by command.
    pub priority: Option<u8>,
    /// Since when.
    pub since: Instant,
    /// When a host that was found last answered.
    pub seen: Instant,
    /// When it is asked again, if it was found.
    wake: Instant,
    /// When that it is here was said last, and how often that had to be said again since.
    claimed: Instant,
    insisted: u32,
    /// It may have gone meanwhile: not registered until the mapping system was asked.
    held: bool,
}

impl Here {
    /// Whether it has just come, and another site went on registering it although that was said twice.
    fn is_contested(&self, now: Instant) -> bool {
        self.insisted > 0 && now.saturating_since(self.claimed) < CONTESTED_FOR
    }
}

/// An EID-prefix that moved elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Away {
    /// Its locators there.
    pub locators: Vec<Locator>,
    /// Since when.
    pub since: Instant,
    /// Until when packets are sent on, or the mapping system is asked again.
    pub until: Instant,
}

/// A question to the mapping system.
#[derive(Debug)]
struct Question {
    /// The operator said that it is not here: it leaves, whatever the answer is.
    leaving: bool,
    attempts: u32,
}

/// What there is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A host that was found is asked again, or given up.
    Here,
    /// What moved elsewhere is no longer sent on, or asked for again.
    Away,
    /// A question is asked again.
    Question,
    /// The site that it came from sends on no more.
    Former,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Mobility {
    configs: Vec<DynamicEid>,
    here: EidTable<Here>,
    away: EidTable<Away>,
    questions: BTreeMap<EidPrefix, Question>,
    /// What came here lately, and until when the site that it came from may send on.
    arrived: BTreeMap<EidPrefix, Instant>,
    timers: BTreeSet<(Instant, EidPrefix, Due)>,
    /// Hosts that are asked for their link-layer address, each since when.
    probed: BTreeMap<EidPrefix, Instant>,
    /// How often hosts were taken in lately, and since when that is counted.
    taken_in: BTreeMap<EidPrefix, (Instant, u32)>,
    bucket: TokenBucket,
}

impl Mobility {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            configs: Vec::new(),
            here: EidTable::default(),
            away: EidTable::default(),
            questions: BTreeMap::new(),
            arrived: BTreeMap::new(),
            timers: BTreeSet::new(),
            probed: BTreeMap::new(),
            taken_in: BTreeMap::new(),
            bucket: TokenBucket::new(1, now),
        }
    }

    /// Takes in another configuration, before the database does. What it no longer allows is given up.
    pub(crate) fn configure(
        &mut self,
        cx: &mut Context,
        now: Instant,
        config: &ControlConfig,
        mut itr: Option<&mut Itr>,
        database: &mut Database,
    ) {
        let old = std::mem::replace(&mut self.configs, config.dynamic_eids.clone());
        let watched = |configs: &[DynamicEid]| -> BTreeSet<EidPrefix> {
            configs.iter().filter(|c| c.detect.is_some()).map(|c| c.prefix).collect()
        };
        let (before, after) = (watched(&old), watched(&self.configs));
        for (prefixes, others, present) in [(&before, &after, false), (&after, &before, true)] {
            for prefix in prefixes.difference(others) {
                cx.fib(FibUpdate::Dynamic { prefix: *prefix, what: Dynamic::Watched, present });
            }
        }
        let gone: Vec<EidPrefix> = self.here.iter().map(|(prefix, _)| prefix).collect();
        for prefix in gone {
            let fixed = config.database.iter().any(|entry| entry.eid == prefix);
            match (self.config_of(&prefix).cloned(), self.here.get(&prefix).cloned()) {
                (Some(config), Some(here)) if !fixed && (!here.detected || config.detect.is_some()) => {
                    if !old.contains(&config) {
                        database.put(cx, entry(&config, prefix, here.priority), kind(&here));
                        place(cx, prefix, Some(here_at(&config)));
                        if here.detected {
                            // It has the new time to be silent from now on.
                            self.here.get_mut(&prefix).into_iter().for_each(|here| here.seen = now);
                            self.wake_here(now, prefix, &config);
                        }
                    }
                }
                _ => {
                    // Too much has changed, or nobody would notice any more that a host is gone.
                    self.forget_here(cx, &prefix);
                    cx.event(Event::MovedAway { prefix, rloc: None });
                    database.discard(cx, &prefix, true);
                    place(cx, prefix, None);
                }
            }
        }
        let gone = self.away.iter().map(|(prefix, _)| prefix).filter(|p| self.config_of(p).is_none());
        let gone: Vec<EidPrefix> = gone.collect();
        for prefix in gone {
            self.forget_away(cx, &prefix, itr.as_deref_mut());
            database.discard(cx, &prefix, false);
            place(cx, prefix, None);
        }
    }

    /// What was here before a restart is here again; what was elsewhere is looked for.
    pub(crate) fn restored(&mut self, world: &mut World<'_>, record: &Record) {
        let forgotten = match record {
            Record::Moved { prefix, priority } => {
                let gone = self.arrive(world, *prefix, *priority, false).is_err();
                if !gone && priority.is_none() {
                    // It may have moved while this router was down. What many sites may have does no harm.
                    self.doubt(world, &[*prefix]);
                }
                gone
            }
            Record::Away(prefix) if self.config_of(prefix).is_some() && world.is_home(prefix) => {
                self.ask(world, *prefix, false);
                false
            }
            Record::Away(_) => true,
            _ => false,
        };
        if forgotten {
            world.cx.persist(|| Change::Remove(record.key()));
        }
    }

    /// What is here, in order.
    pub(crate) fn here(&self) -> impl Iterator<Item = (EidPrefix, &Here)> {
        self.here.iter()
    }

    /// What moved elsewhere, in order.
    pub(crate) fn away(&self) -> impl Iterator<Item = (EidPrefix, &Away)> {
        self.away.iter()
    }

    /// Where an EID-prefix moved to, if it did.
    pub(crate) fn away_to(&self, prefix: &EidPrefix) -> Option<&Away> {
        self.away.get(prefix)
    }

    /// The EID-prefix that an EID has moved with.
    pub(crate) fn away_of(&self, eid: &Eid) -> Option<EidPrefix> {
        self.away.longest(eid).map(|(prefix, _)| prefix)
    }

    /// An operator says where an EID-prefix is.
    pub(crate) fn command(
        &mut self,
        world: &mut World<'_>,
        prefix: EidPrefix,
        what: Move,
    ) -> Result<(), MoveError> {
        match what {
            Move::Here { priority } => self.arrive(world, prefix, priority, false),
            Move::Away => {
                self.here.get(&prefix).ok_or(MoveError::NotHere)?;
                self.ask(world, prefix, true);
                Ok(())
            }
        }
    }

    /// Others may have had the last word on prefixes that are here, unheard by us: asks before they are
    /// registered again.
    pub(crate) fn doubt(&mut self, world: &mut World<'_>, prefixes: &[EidPrefix]) {
        for prefix in prefixes {
            let Some(here) = self.here.get_mut(prefix) else { continue };
            here.held = true;
            world.database.hold(prefix, true);
            world.changed = true;
            self.ask(world, *prefix, false);
        }
    }

    /// What is here may be registered again.
    fn release(&mut self, world: &mut World<'_>, prefix: EidPrefix, answered: bool) {
        if let Some(here) = self.here.get_mut(&prefix).filter(|here| here.held) {
            here.held = false;
            world.database.hold(&prefix, false);
            world.registrar.trust(world.cx, world.now, prefix, answered);
            world.changed = true;
        }
    }

    /// A Map-Server says what it now tells of some prefixes: a hint, which is looked into.
    pub(crate) fn told(&mut self, world: &mut World<'_>, records: &[EidRecord]) {
        for record in records {
            let Ok(prefix) = record.eid.to_prefix() else { continue };
            let known = world.database.home_of(&prefix).is_some() || self.away.get(&prefix).is_some();
            if !known || self.config_of(&prefix).is_none() {
                continue;
            }
            let rlocs = record.locators.iter().filter_map(|l| l.address.to_ip());
            let ours = rlocs.into_iter().any(|rloc| self.is_own(world.database, &prefix, &rloc));
            if ours && self.here.get(&prefix).is_some_and(|here| here.priority.is_some()) {
                // Another site has come to share it, has another priority now or has left: who sends here is
                // to know.
                world.database.tell(prefix);
                world.changed = true;
            }
            // That it is ours is what we think as well, unless we don't.
            if !ours || self.away.get(&prefix).is_some() {
                self.ask(world, prefix, false);
            }
        }
    }

    /// The neighbour table says something of a host.
    pub(crate) fn neighbour(
        &mut self,
        world: &mut World<'_>,
        interface: &str,
        address: IpAddr,
        state: NeighbourState,
    ) {
        let on_it = |c: &&DynamicEid| c.interface.as_deref() == Some(interface);
        let config = self.configs.iter().filter(on_it).find_map(|c| {
            let eid = Eid::new(c.prefix.iid, address);
            let longest = self.config_of(&eid.to_prefix()).is_some_and(|l| l.prefix == c.prefix);
            longest.then_some((c, c.detect?))
        });
        let Some((config, detect)) = config.map(|(config, detect)| (config.clone(), detect)) else { return };
        let prefix = Eid::new(config.prefix.iid, address).to_prefix();
        let now = world.now;
        if world.fixed.iter().any(|entry| entry.eid == prefix) {
            return;
        }
        if let Some(here) = self.here.get_mut(&prefix).filter(|_| state == NeighbourState::Reachable) {
            here.seen = now;
            return;
        }
        match (state, self.here.get(&prefix)) {
            (NeighbourState::Reachable, None) if self.is_probed(&prefix, now) => {
                self.probed.remove(&prefix);
                self.found(world, prefix, detect);
            }
            // What was found out before we asked may be about a time when it was here.
            (NeighbourState::Reachable | NeighbourState::Known, None) => self.probe(world.cx, now, prefix),
            (NeighbourState::Reachable | NeighbourState::Known, Some(_)) => {}
            (NeighbourState::Gone, _) => {
                self.probed.remove(&prefix);
            }
        }
    }

    /// A host that is not known to be here sends packets.
    pub(crate) fn sends(&mut self, cx: &mut Context, now: Instant, source: Eid) {
        let prefix = source.to_prefix();
        if self.here.get(&prefix).is_none() && self.config_of(&prefix).is_some_and(|c| c.detect.is_some()) {
            self.probe(cx, now, prefix);
        }
    }

    /// Whether anything is to be done.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, ..)| *at)
    }

    pub(crate) fn handle_timeout(&mut self, world: &mut World<'_>) {
        let located = world.itr.as_mut().map(|itr| itr.take_located()).unwrap_or_default();
        for Located { prefix, why, answer } in located {
            match (why, answer) {
                (Locating::Now, answer) => self.located(world, prefix, answer),
                (Locating::Before, Some((mapping, _))) => self.came_from(world, prefix, &mapping.locators),
                (Locating::Before, None) => {}
            }
        }
        while let Some((at, prefix, due)) = self.timers.first().copied().filter(|(at, ..)| *at <= world.now) {
            self.timers.remove(&(at, prefix, due));
            match due {
                Due::Here if self.here.get(&prefix).is_none_or(|here| here.wake != at) => {}
                Due::Here => self.still_here(world, prefix),
                Due::Away if world.is_home(&prefix) => {
                    // It would be taken for ours again.
                    let config = self.config_of(&prefix);
                    let until = world.now + config.map_or(ASK_AGAIN, |c| c.redirect_time);
                    if let Some(away) = self.away.get_mut(&prefix) {
                        away.until = until;
                        self.timers.insert((until, prefix, Due::Away));
                    }
                    self.ask(world, prefix, false);
                }
                Due::Away => self.end(world, &prefix),
                Due::Question => self.send_question(world, prefix),
                Due::Former if self.arrived.get(&prefix) == Some(&at) => {
                    self.arrived.remove(&prefix);
                    world.changed |= world.database.came_from(&prefix, Vec::new());
                }
                Due::Former => {}
            }
        }
    }

    /// Whether a locator of `prefix` is one of this site.
    fn is_own(&self, database: &Database, prefix: &EidPrefix, rloc: &IpAddr) -> bool {
        let configured = |l: &LocatorConfig| l.source == LocatorSource::Address(*rloc);
        database.rlocs().is_ours(rloc)
            || self.config_of(prefix).is_some_and(|c| c.locators.iter().any(configured))
    }

    /// The longest configured prefix around `prefix`.
    fn config_of(&self, prefix: &EidPrefix) -> Option<&DynamicEid> {
        self.configs.iter().filter(|c| c.prefix.covers(prefix)).max_by_key(|c| c.prefix.len())
    }

    /// An EID-prefix is here from now on, or is to be registered anew.
    fn arrive(
        &mut self,
        world: &mut World<'_>,
        prefix: EidPrefix,
        priority: Option<u8>,
        detected: bool,
    ) -> Result<(), MoveError> {
        let now = world.now;
        let config = self.config_of(&prefix).ok_or(MoveError::NotDynamic)?.clone();
        let fixed = world.fixed.iter().find(|entry| entry.eid == prefix);
        let was_away = self.away.get(&prefix).is_some();
        if fixed.is_some() && !was_away {
            return Err(MoveError::Fixed);
        }
        let old = self.here.get(&prefix).cloned();
        let inside = self.here.iter().filter(|(p, _)| config.prefix.covers(p)).count();
        if old.is_none() && inside >= config.limit {
            return Err(MoveError::Full(config.limit));
        }
        if let Some((other, _)) = self.away.strictly_within(&prefix).next() {
            return Err(MoveError::Overlaps(other));
        }
        self.questions.remove(&prefix);
        let elsewhere = self.known_elsewhere(world, &prefix);
        if was_away {
            self.forget_away(world.cx, &prefix, None);
        }
        if let Some(itr) = &mut world.itr {
            itr.becomes_local(world.cx, &prefix);
        }
        world.cx.event(Event::MovedHere { prefix, detected });
        world.changed = true;
        if let Some(fixed) = fixed {
            world.database.put(world.cx, fixed.clone(), Kind::Fixed);
            place(world.cx, prefix, None);
            self.ask_origin(world, prefix, &config, &elsewhere);
            return Ok(());
        }
        let since = old.as_ref().map_or(now, |old| old.since);
        let again = old.is_some_and(|old| old.priority == priority);
        let here =
            Here { detected, priority, since, seen: now, wake: now, claimed: now, insisted: 0, held: false };
        world.database.put(world.cx, entry(&config, prefix, priority), kind(&here));
        world.registrar.claim(&prefix);
        self.here.insert(prefix, here);
        if again {
            world.registrar.renew(now, &prefix);
        }
        place(world.cx, prefix, Some(here_at(&config)));
        self.ask_origin(world, prefix, &config, &elsewhere);
        if detected {
            self.wake_here(now, prefix, &config);
        } else {
            world.cx.persist(|| Change::Put(Record::Moved { prefix, priority }));
        }
        Ok(())
    }

    /// The locators of another site that an EID-prefix is at as far as is known.
    fn known_elsewhere(&self, world: &World<'_>, prefix: &EidPrefix) -> Vec<Locator> {
        let cached = || {
            let (_, entry) = world.itr.as_ref()?.cache().longest(&prefix.first())?;
            Some(entry.mapping.locators.clone())
        };
        let away = self.away.get(prefix).map(|away| away.locators.clone());
        away.or_else(cached).unwrap_or_default()
    }

    /// A prefix has come here, from where `elsewhere` says unless the mapping system still knows better: what
    /// is sent on from there passes the check of the outer source.
    fn ask_origin(
        &mut self,
        world: &mut World<'_>,
        prefix: EidPrefix,
        config: &DynamicEid,
        elsewhere: &[Locator],
    ) {
        if world.cx.options.source_check == SourceCheck::Off {
            return;
        }
        let until = world.now + config.redirect_time;
        self.arrived.insert(prefix, until);
        self.timers.insert((until, prefix, Due::Former));
        self.came_from(world, prefix, elsewhere);
        if let Some(itr) = &mut world.itr {
            itr.locate(world.cx, world.now, (prefix, Locating::Before), world.database.rlocs());
        }
    }

    fn came_from(&mut self, world: &mut World<'_>, prefix: EidPrefix, locators: &[Locator]) {
        let others =
            locators.iter().map(|l| l.rloc).filter(|rloc| !self.is_own(world.database, &prefix, rloc));
        let others: Vec<IpAddr> = others.collect();
        // Our own registration may have been faster than the question.
        if !others.is_empty() && self.arrived.contains_key(&prefix) {
            world.changed |= world.database.came_from(&prefix, others);
        }
    }

    /// A host has shown that it is here.
    fn found(&mut self, world: &mut World<'_>, prefix: EidPrefix, detect: DetectConfig) {
        let now = world.now;
        if !self.bucket.take(detect.rate, now) {
            // Whoever stays is found again.
            return;
        }
        if self.taken_in.len() >= MAX_PROBED {
            self.taken_in.retain(|_, (since, _)| now.saturating_since(*since) < FLAPPING_TIME);
        }
        let counted = self.taken_in.entry(prefix).or_insert((now, 0));
        if now.saturating_since(counted.0) >= FLAPPING_TIME {
            *counted = (now, 0);
        }
        counted.1 = counted.1.saturating_add(1);
        if counted.1 > FLAPPING {
            if counted.1 == FLAPPING + 1 {
                let again_in = FLAPPING_TIME.saturating_sub(now.saturating_since(counted.0));
                world.cx.event(Event::NotTakenIn { prefix, again_in: Some(again_in) });
            }
            return;
        }
        if let Err(MoveError::Full(_)) = self.arrive(world, prefix, None, true) {
            world.cx.event(Event::NotTakenIn { prefix, again_in: None });
        }
    }

    /// Looks whether a host that was found is still here.
    fn still_here(&mut self, world: &mut World<'_>, prefix: EidPrefix) {
        let now = world.now;
        let config = self.config_of(&prefix).cloned();
        let Some((config, detect)) = config.and_then(|c| Some((c.detect?, c))).map(|(d, c)| (c, d)) else {
            return;
        };
        let Some(here) = self.here.get(&prefix).filter(|here| here.detected) else { return };
        if now.saturating_since(here.seen) >= detect.timeout {
            world.cx.event(Event::Vanished { prefix });
            self.leave(world, &prefix);
            return;
        }
        let interface = config.interface.clone().unwrap_or_default();
        world.cx.outputs.push_back(Output::Probe { interface, address: prefix.first().addr });
        self.wake_here(now, prefix, &config);
    }

    fn wake_here(&mut self, now: Instant, prefix: EidPrefix, config: &DynamicEid) {
        if let (Some(detect), Some(here)) = (config.detect, self.here.get_mut(&prefix)) {
            here.wake = now + detect.timeout / PROBES_PER_TIMEOUT;
            self.timers.insert((here.wake, prefix, Due::Here));
        }
    }

    fn is_probed(&self, prefix: &EidPrefix, now: Instant) -> bool {
        self.probed.get(prefix).is_some_and(|since| now.saturating_since(*since) < PROBE_TIME)
    }

    /// Has a host asked for its link-layer address.
    fn probe(&mut self, cx: &mut Context, now: Instant, prefix: EidPrefix) {
        if self.probed.len() >= MAX_PROBED {
            self.probed.retain(|_, since| now.saturating_since(*since) < PROBE_TIME);
        }
        let interface = self.config_of(&prefix).and_then(|c| c.interface.clone());
        let Some(interface) = interface else { return };
        if self.probed.len() < MAX_PROBED && !self.is_probed(&prefix, now) {
            self.probed.insert(prefix, now);
            cx.outputs.push_back(Output::Probe { interface, address: prefix.first().addr });
        }
    }

    /// Asks the mapping system where a prefix is.
    fn ask(&mut self, world: &mut World<'_>, prefix: EidPrefix, leaving: bool) {
        if let Some(question) = self.questions.get_mut(&prefix) {
            // Not to wait for the turn of a question that nobody has answered yet.
            if !leaving || std::mem::replace(&mut question.leaving, true) {
                return;
            }
            return self.send_question(world, prefix);
        }
        self.questions.insert(prefix, Question { leaving, attempts: 0 });
        self.send_question(world, prefix);
    }

    fn send_question(&mut self, world: &mut World<'_>, prefix: EidPrefix) {
        let (known, local) = (self.config_of(&prefix).is_some(), self.here.get(&prefix).is_some());
        if !known || !(local || self.away.get(&prefix).is_some() || world.is_home(&prefix)) {
            // Nobody wants to know any more.
            self.questions.remove(&prefix);
            return;
        }
        let Some(question) = self.questions.get_mut(&prefix) else { return };
        question.attempts = question.attempts.saturating_add(1);
        match &mut world.itr {
            Some(itr) => {
                itr.locate(world.cx, world.now, (prefix, Locating::Now), world.database.rlocs());
            }
            None => self.located(world, prefix, None),
        }
    }

    /// The mapping system has said where a prefix is, or nobody answered.
    fn located(&mut self, world: &mut World<'_>, prefix: EidPrefix, answer: Option<(Mapping, SocketAddr)>) {
        let Some(Question { leaving, attempts }) = self.questions.remove(&prefix) else { return };
        let held = self.here.get(&prefix).is_some_and(|here| here.held);
        let Some((mapping, source)) = answer else {
            if leaving {
                self.leave(world, &prefix);
            } else if held && (attempts >= ASK_ATTEMPTS || world.itr.is_none()) {
                self.release(world, prefix, false);
            } else if world.itr.is_some() {
                self.questions.insert(prefix, Question { leaving, attempts });
                let rarely = self.config_of(&prefix).map_or(ASK_RARELY, |c| c.redirect_time);
                let pause = if attempts < ASK_ATTEMPTS {
                    ASK_AGAIN.saturating_mul(1 << attempts.saturating_sub(1))
                } else {
                    rarely.clamp(ASK_AGAIN, ASK_RARELY)
                };
                if attempts == ASK_ATTEMPTS {
                    world.cx.event(Event::Unlocated { prefix });
                }
                self.timers.insert((world.now + pause, prefix, Due::Question));
            }
            return;
        };
        let is_own = |l: &Locator| self.is_own(world.database, &prefix, &l.rloc);
        let ours = mapping.locators.iter().any(is_own);
        let locators: Vec<Locator> = mapping.locators.iter().filter(|l| !is_own(l)).cloned().collect();
        // A prefix around it says no more than that our own registration has timed out.
        let around = held && !leaving && mapping.eid != prefix;
        let elsewhere = !locators.is_empty() && (leaving || !ours) && !around;
        if elsewhere && !leaving && !held && self.insist(world, &prefix) {
            return;
        }
        if held && !leaving && !elsewhere {
            self.release(world, prefix, true);
        } else if elsewhere {
            self.gone(world, Mapping { eid: prefix, locators, ..mapping }, source);
        } else if leaving {
            self.leave(world, &prefix);
        } else if self.away.get(&prefix).is_some() {
            self.end(world, &prefix);
        }
    }

    /// The site that a prefix came from may have registered it once more before it heard of the move, as it
    /// does now and then, and so have had the last word: says it again, if it has just come. Whether it did.
    fn insist(&mut self, world: &mut World<'_>, prefix: &EidPrefix) -> bool {
        let Some(here) = self.here.get_mut(prefix) else { return false };
        if world.now.saturating_since(here.claimed) >= FRESH || here.insisted >= INSISTENCE {
            return false;
        }
        here.insisted += 1;
        world.registrar.renew(world.now, prefix);
        true
    }

    /// An EID-prefix is at another site.
    fn gone(&mut self, world: &mut World<'_>, mapping: Mapping, source: SocketAddr) {
        let (prefix, now) = (mapping.eid, world.now);
        let Some(config) = self.config_of(&prefix).cloned() else { return };
        let until = now + config.redirect_time;
        let rloc = best(&mapping.locators);
        if self.here.get(&prefix).is_some_and(|here| here.is_contested(now)) {
            world.cx.event(Event::Contested { prefix, rloc });
        }
        self.forget_here(world.cx, &prefix);
        let known = self.away.get_mut(&prefix).map(|away| {
            let same = away.locators == mapping.locators;
            away.locators.clone_from(&mapping.locators);
            same
        });
        if known.is_none() {
            let away = Away { locators: mapping.locators.clone(), since: now, until };
            self.away.insert(prefix, away);
            self.timers.insert((until, prefix, Due::Away));
            world.cx.event(Event::MovedAway { prefix, rloc });
            if world.is_home(&prefix) {
                world.cx.persist(|| Change::Put(Record::Away(prefix)));
            }
            world.cx.fib(FibUpdate::Dynamic { prefix, what: Dynamic::Away, present: true });
        }
        if known != Some(true) {
            let away = DatabaseEntry { register: false, ttl: mapping.ttl, ..entry(&config, prefix, None) };
            let away = DatabaseEntry { locators: Vec::new(), ..away };
            world.database.put(world.cx, away, Kind::Away(Box::new(mapping.clone())));
            place(world.cx, prefix, Some(Place::Away { interface: config.interface.clone() }));
            world.changed = true;
        }
        if let Some(itr) = &mut world.itr {
            itr.moved_away(world.cx, now, mapping, source, world.database);
        }
    }

    /// An EID-prefix is here no more, and nowhere else as far as is known.
    fn leave(&mut self, world: &mut World<'_>, prefix: &EidPrefix) {
        if self.forget_here(world.cx, prefix) {
            world.cx.event(Event::MovedAway { prefix: *prefix, rloc: None });
            world.database.discard(world.cx, prefix, true);
            place(world.cx, *prefix, None);
            world.changed = true;
        }
    }

    /// What had moved elsewhere is no longer sent on.
    fn end(&mut self, world: &mut World<'_>, prefix: &EidPrefix) {
        if !self.forget_away(world.cx, prefix, world.itr.as_deref_mut()) {
            return;
        }
        world.cx.event(Event::MoveEnded { prefix: *prefix });
        match world.fixed.iter().find(|entry| entry.eid == *prefix) {
            Some(fixed) => world.database.put(world.cx, fixed.clone(), Kind::Fixed),
            None => world.database.discard(world.cx, prefix, false),
        }
        place(world.cx, *prefix, None);
        world.changed = true;
    }

    fn forget_here(&mut self, cx: &mut Context, prefix: &EidPrefix) -> bool {
        let Some(here) = self.here.remove(prefix) else { return false };
        if !here.detected {
            cx.persist(|| Change::Remove(Key::Moved(*prefix)));
        }
        true
    }

    fn forget_away(&mut self, cx: &mut Context, prefix: &EidPrefix, itr: Option<&mut Itr>) -> bool {
        let Some(away) = self.away.remove(prefix) else { return false };
        self.timers.remove(&(away.until, *prefix, Due::Away));
        cx.persist(|| Change::Remove(Key::Away(*prefix)));
        cx.fib(FibUpdate::Dynamic { prefix: *prefix, what: Dynamic::Away, present: false });
        if let Some(itr) = itr {
            itr.becomes_local(cx, prefix);
        }
        true
    }
}

/// The locator that packets go to.
pub(crate) fn best(locators: &[Locator]) -> Option<IpAddr> {
    locators.iter().min_by_key(|l| (l.priority, l.rloc)).map(|l| l.rloc)
}

/// A prefix as the database has it while it is here.
fn entry(config: &DynamicEid, prefix: EidPrefix, priority: Option<u8>) -> DatabaseEntry {
    let with = |l: &LocatorConfig| LocatorConfig { priority: priority.unwrap_or(l.priority), ..l.clone() };
    DatabaseEntry {
        eid: prefix,
        ttl: config.ttl,
        register: true,
        map_servers: config.map_servers.clone(),
        locators: config.locators.iter().map(with).collect(),
    }
}

const fn kind(here: &Here) -> Kind {
    Kind::Mobile { shared: here.priority.is_some(), held: here.held }
}

fn here_at(config: &DynamicEid) -> Place {
    Place::Here { interface: config.interface.clone() }
}

fn place(cx: &mut Context, prefix: EidPrefix, place: Option<Place>) {
    cx.outputs.push_back(Output::DynamicEid { prefix, place });
}

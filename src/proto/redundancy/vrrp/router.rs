//! One virtual router: the state machine of RFC 9568 §6.4, which differs from RFC 3768 §6.4 in its timers
//! only.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Output;
use super::config::{Versions, VirtualRouterConfig};
use super::event::{Cause, Change, DropReason, Event};
use crate::types::{Family, Instant};
use crate::wire::vrrp::{Advertisement, Body, Envelope, Version};

/// A new master tells the link where the addresses are at once, and again after these times, as one frame may
/// be lost.
const ANNOUNCE_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// A master that hears a worse one contradicts at once (RFC 9568 §6.4.3), but not more often than in this
/// part of the interval: forged advertisements shall not make it a source of many.
const CONTRADICT: u32 = 4;

/// The state of RFC 9568 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for its interface.
    Initialize,
    /// Watches the master.
    Backup,
    /// Has the addresses.
    Master,
}

impl State {
    /// In lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Master => "master",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The master that a backup follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// The version that it is followed by.
    pub version: Version,
    /// What it says of its interval.
    pub interval: Duration,
    /// When it advertised last.
    pub heard: Instant,
}

/// What happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Advertisements sent.
    pub sent: u64,
    /// Advertisements received that were taken into account.
    pub received: u64,
    /// Of these, how many had priority 0.
    pub resignations_received: u64,
    /// Sent with priority 0.
    pub resignations_sent: u64,
    /// How often it became master.
    pub became_master: u64,
    /// Version 3 with other addresses than are configured, which is tolerated (RFC 9568 §7.1).
    pub other_addresses: u64,
    /// What was dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

/// A virtual router.
#[derive(Debug)]
pub struct VirtualRouter {
    config: VirtualRouterConfig,
    state: State,
    since: Instant,
    /// Where advertisements come from; none in [`State::Initialize`].
    source: Option<IpAddr>,
    decrement: u16,
    /// Of a backup.
    peer: Option<Peer>,
    /// Since when a backup hears nothing.
    silent_since: Instant,
    /// The master resigned, so that only the skew time is waited for.
    resigned: bool,
    /// Until when a worse master is left in peace.
    preempt_at: Option<Instant>,
    /// Of a master: when the next advertisement is due, and when the last was sent.
    next: Instant,
    last: Instant,
    /// Of a master: the announcements that are still to come.
    announcements: VecDeque<Instant>,
    counters: Counters,
    told: Option<(DropReason, IpAddr)>,
}

impl VirtualRouter {
    pub(super) fn new(config: VirtualRouterConfig) -> Self {
        Self {
            config,
            state: State::Initialize,
            since: Instant::ZERO,
            source: None,
            decrement: 0,
            peer: None,
            silent_since: Instant::ZERO,
            resigned: false,
            preempt_at: None,
            next: Instant::FAR_FUTURE,
            last: Instant::ZERO,
            announcements: VecDeque::new(),
            counters: Counters::default(),
            told: None,
        }
    }

    /// What it was told to do.
    pub const fn config(&self) -> &VirtualRouterConfig {
        &self.config
    }

    /// Its state, and since when.
    pub const fn state(&self) -> (State, Instant) {
        (self.state, self.since)
    }

    /// Its own address on the link.
    pub const fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The master that it follows, as a backup that has heard one.
    pub const fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// What happened so far.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The priority of now: the configured one, less what tracking takes away.
    pub fn priority(&self) -> u8 {
        if self.config.is_owner() {
            return self.config.priority;
        }
        let left = u16::from(self.config.priority).saturating_sub(self.decrement);
        u8::try_from(left).unwrap_or(u8::MAX).max(1)
    }

    /// Skew_Time: the better a backup, the less it waits beyond three intervals (RFC 9568 §6.1; RFC 3768
    /// §6.1).
    pub fn skew(&self) -> Duration {
        let share = 256 - u32::from(self.priority());
        let whole = match self.version() {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.master_interval(),
        };
        whole * share / 256
    }

    /// Master_Down_Interval (Active_Down_Interval): how long a master may be silent.
    pub fn master_down(&self) -> Duration {
        self.master_interval() * 3 + self.skew()
    }

    /// The master's interval: version 3 learns it, version 2 has the same everywhere.
    fn master_interval(&self) -> Duration {
        self.peer.map_or(self.config.interval, |peer| peer.interval)
    }

    /// The version by which the times are counted.
    fn version(&self) -> Version {
        match self.config.versions {
            Versions::V2 => Version::V2,
            // What a master of version 2 alone says counts as if it were said by version 3 (RFC 5798
            // §8.4.2).
            Versions::V3 | Versions::Both => Version::V3,
        }
    }

    /// When [`Self::timeout`] is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Initialize => None,
            State::Backup => Some(self.master_down_at()),
            State::Master => Some(self.announcements.front().map_or(self.next, |at| self.next.min(*at))),
        }
    }

    fn master_down_at(&self) -> Instant {
        self.silent_since + if self.resigned { self.skew() } else { self.master_down() }
    }

    pub(super) fn timeout(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        match self.state {
            State::Initialize => {}
            State::Backup if now >= self.master_down_at() => {
                let cause = match self.peer {
                    _ if self.resigned => Cause::MasterResigned,
                    Some(_) => Cause::MasterSilent,
                    None => Cause::NoMaster,
                };
                self.become_master(now, cause, out);
            }
            State::Backup => {}
            State::Master => {
                if now >= self.next {
                    self.advertise(now, out);
                }
                if self.announcements.front().is_some_and(|at| now >= *at) {
                    self.announcements.pop_front();
                    out.push_back(Output::Announce(self.config.key.clone()));
                }
            }
        }
    }

    /// The interface has an address to send from, has another, or has none any more.
    pub(super) fn set_source(&mut self, now: Instant, source: Option<IpAddr>, out: &mut VecDeque<Output>) {
        let before = std::mem::replace(&mut self.source, source);
        match (self.state, source) {
            (State::Initialize, Some(_)) if self.config.is_owner() => {
                self.become_master(now, Cause::Started, out);
            }
            (State::Initialize, Some(_)) => self.become_backup(now, None, Cause::Started, out),
            (State::Backup | State::Master, None) => {
                // Nobody would hear a resignation.
                self.leave(now, State::Initialize, Cause::InterfaceDown, out);
                self.peer = None;
                self.preempt_at = None;
            }
            (State::Master, Some(_)) if before != source => self.advertise(now, out),
            _ => {}
        }
    }

    /// What is tracked was lost or is back.
    pub(super) fn set_decrement(&mut self, now: Instant, decrement: u16, out: &mut VecDeque<Output>) {
        let from = self.priority();
        self.decrement = decrement;
        let to = self.priority();
        if from == to {
            return;
        }
        self.event(Change::Priority { from, to }, out);
        // Others shall know at once. A backup's deadline follows from the priority by itself.
        if self.state == State::Master {
            self.advertise(now, out);
        }
    }

    /// Ends: a master resigns (RFC 9568 §6.4.3).
    pub(super) fn stop(&mut self, cause: Cause, out: &mut VecDeque<Output>) {
        if self.state == State::Master {
            self.send(0, out);
            self.counters.resignations_sent += 1;
        }
        if self.state != State::Initialize {
            self.leave(self.since, State::Initialize, cause, out);
        }
        self.source = None;
    }

    /// An advertisement with our VRID came in by our interface; the packet itself is right.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        source: IpAddr,
        advertisement: &Advertisement,
        out: &mut VecDeque<Output>,
    ) {
        // Before it starts, a virtual router hears nothing (RFC 9568 §6.4.1).
        if self.state == State::Initialize || self.is_repetition(now, source, advertisement) {
            return;
        }
        if let Err(reason) = self.check(source, advertisement) {
            *self.counters.dropped.entry(reason).or_default() += 1;
            if self.told != Some((reason, source)) {
                self.told = Some((reason, source));
                self.event(Change::Dropped { reason, source }, out);
            }
            return;
        }
        self.counters.received += 1;
        if advertisement.priority == 0 {
            self.counters.resignations_received += 1;
        }
        match self.state {
            State::Initialize => {} // looked at above
            State::Backup => self.backup_hears(now, source, advertisement, out),
            State::Master => self.master_hears(now, source, advertisement, out),
        }
    }

    /// The checks of RFC 9568 §7.1 and RFC 3768 §7.1 that take the configuration.
    fn check(&mut self, source: IpAddr, heard: &Advertisement) -> Result<(), DropReason> {
        let config = &self.config;
        if !config.versions.has(heard.version()) {
            return Err(DropReason::VersionDisabled);
        }
        if config.is_owner() {
            return Err(DropReason::Owner);
        }
        if self.source == Some(source) {
            return Err(DropReason::OwnAddress);
        }
        match heard.body {
            Body::V2 { auth_type: 1.., .. } => return Err(DropReason::Authentication),
            Body::V2 { interval, .. } => {
                // Who speaks both can't say less than a second by version 2.
                let same = v2_interval(config.interval) == interval;
                if interval == 0 || (config.versions == Versions::V2 && !same) {
                    return Err(DropReason::Interval);
                }
            }
            Body::V3 { interval: 0 } => return Err(DropReason::Interval),
            Body::V3 { .. } => {}
        }
        let mut ours = config.addresses.clone();
        let mut theirs = heard.addresses.clone();
        ours.sort_unstable();
        theirs.sort_unstable();
        if ours != theirs {
            match heard.version() {
                // An owner knows best what is its own.
                Version::V2 if !matches!(heard.priority, 0 | 255) => return Err(DropReason::Addresses),
                Version::V2 => {}
                Version::V3 => self.counters.other_addresses += 1,
            }
        }
        Ok(())
    }

    /// Whether a master that speaks both versions says by version 2 what it says by version 3, which alone
    /// counts (RFC 5798 §8.4.2).
    fn is_repetition(&self, now: Instant, source: IpAddr, heard: &Advertisement) -> bool {
        self.config.versions == Versions::Both
            && heard.version() == Version::V2
            && self.peer.is_some_and(|peer| {
                peer.version == Version::V3
                    && peer.address == source
                    && now.saturating_since(peer.heard) < self.master_down()
            })
    }

    fn backup_hears(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Advertisement,
        out: &mut VecDeque<Output>,
    ) {
        if heard.priority == 0 {
            // Only whom we follow can end what we wait for.
            if self.peer.is_none_or(|peer| peer.address == source) {
                self.resigned = true;
                self.silent_since = now;
            }
            return;
        }
        if heard.priority >= self.priority() {
            self.preempt_at = None;
            self.follow(now, source, heard, out);
            return;
        }
        if !self.config.preempt {
            self.follow(now, source, heard, out);
            return;
        }
        let until = *self.preempt_at.get_or_insert(now + self.config.preempt_delay);
        if now < until {
            self.follow(now, source, heard, out);
        }
        // Else it is discarded, and the timer runs out.
    }

    fn master_hears(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Advertisement,
        out: &mut VecDeque<Output>,
    ) {
        let better = match heard.priority.cmp(&self.priority()) {
            std::cmp::Ordering::Greater => true,
            // Of equals, the greater address is the better (RFC 9568 §6.4.3).
            std::cmp::Ordering::Equal => self.source.is_none_or(|own| source > own),
            std::cmp::Ordering::Less => false,
        };
        if heard.priority == 0 {
            self.advertise(now, out);
        } else if better {
            self.become_backup(now, Some((source, heard)), Cause::BetterMaster(source), out);
        } else if now.saturating_since(self.last) >= self.config.interval / CONTRADICT {
            self.advertise(now, out);
        }
    }

    fn follow(&mut self, now: Instant, source: IpAddr, heard: &Advertisement, out: &mut VecDeque<Output>) {
        let interval = match (self.config.versions, heard.version()) {
            (Versions::V2, _) => self.config.interval,
            _ => heard.interval(),
        };
        let peer = Peer {
            address: source,
            priority: heard.priority,
            version: heard.version(),
            interval,
            heard: now,
        };
        let before = self.peer.replace(peer);
        self.silent_since = now;
        self.resigned = false;
        if before.is_none_or(|before| before.address != source) {
            self.event(Change::Master { address: source, priority: heard.priority }, out);
        }
    }

    fn become_master(&mut self, now: Instant, cause: Cause, out: &mut VecDeque<Output>) {
        let from = self.enter(now, State::Master);
        self.counters.became_master += 1;
        self.peer = None;
        self.preempt_at = None;
        self.resigned = false;
        let key = self.config.key.clone();
        // Others learn of it before the system spends time on the addresses.
        self.advertise(now, out);
        out.push_back(Output::Take(key.clone()));
        out.push_back(Output::Announce(key));
        self.announcements = ANNOUNCE_AGAIN.iter().map(|after| now + *after).collect();
        self.event(Change::State { from, to: State::Master, cause }, out);
    }

    fn become_backup(
        &mut self,
        now: Instant,
        master: Option<(IpAddr, &Advertisement)>,
        cause: Cause,
        out: &mut VecDeque<Output>,
    ) {
        self.peer = None;
        self.preempt_at = None;
        self.resigned = false;
        self.silent_since = now;
        self.leave(now, State::Backup, cause, out);
        if let Some((source, heard)) = master {
            self.follow(now, source, heard, out);
        }
    }

    /// Goes to a state in which the addresses are not ours.
    fn leave(&mut self, now: Instant, to: State, cause: Cause, out: &mut VecDeque<Output>) {
        let from = self.enter(now, to);
        if from == State::Master {
            self.announcements.clear();
            out.push_back(Output::Leave(self.config.key.clone()));
        }
        self.event(Change::State { from, to, cause }, out);
    }

    fn enter(&mut self, now: Instant, to: State) -> State {
        self.since = now;
        std::mem::replace(&mut self.state, to)
    }

    fn advertise(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        self.send(self.priority(), out);
        self.last = now;
        self.next = now + self.config.interval;
    }

    fn send(&mut self, priority: u8, out: &mut VecDeque<Output>) {
        let Some(source) = self.source else { return };
        let config = &self.config;
        let centiseconds = u16::try_from(config.interval.as_millis() / 10).unwrap_or(u16::MAX).min(0x0fff);
        let v3 = Body::V3 { interval: centiseconds };
        let v2 = Body::V2 { interval: v2_interval(config.interval), auth_type: 0, auth_data: [0; 8] };
        for (version, body) in [(Version::V3, v3), (Version::V2, v2)] {
            if !config.versions.has(version) || (version == Version::V2 && config.key.family == Family::Ipv6)
            {
                continue;
            }
            let advertisement =
                Advertisement { vrid: config.key.vrid, priority, body, addresses: config.addresses.clone() };
            // It fails only for a configuration that validation lets nobody have.
            if let Ok(message) = advertisement.encode(&Envelope::multicast(source), config.checksum) {
                self.counters.sent += 1;
                out.push_back(Output::Send { key: config.key.clone(), source, message });
            }
        }
    }

    fn event(&self, change: Change, out: &mut VecDeque<Output>) {
        out.push_back(Output::Event(Event { key: self.config.key.clone(), change }));
    }
}

/// The interval in the whole seconds of version 2, at least one.
fn v2_interval(interval: Duration) -> u8 {
    u8::try_from(interval.as_millis().div_ceil(1000)).unwrap_or(u8::MAX).max(1)
}

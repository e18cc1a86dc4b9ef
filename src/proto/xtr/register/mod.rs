//! The ETR's registrations: keeps every Map-Server informed of the database (RFC 9301 §5.6, §5.7, §8.2).
//!
//! Owns: Map-Registers, their nonces and their confirmation. Answers to Map-Requests are in [`super::etr`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::auth::{self, Algorithm};
use crate::proto::config::{EtrConfig, EtrMapServer};
use crate::proto::context::{CONTROL_PORT, Context};
use crate::proto::event::Event;
use crate::proto::mapping_system::auth_reason;
use crate::proto::persist::{Change, Record};
use crate::proto::stats::{DropReason, MessageKind};
use crate::types::{EidPrefix, Family, Instant, Nonce, Ttl};
use crate::wire::{Address, AuthData, EidRecord, LocatorRecord, MapNotify, MapRegister, Message, XtrSite};

use super::database::{Database, Entry, LocalRlocs};

/// Records per Map-Register, at most.
const MAX_RECORDS: usize = 20;
/// Bytes of all records of a Map-Register: what is left of a datagram that no underlay fragments.
pub(super) const MAX_RECORD_BYTES: usize = 1100;
/// Nonces of unconfirmed Map-Registers that a Map-Notify may still answer.
const MAX_OUTSTANDING: usize = 16;
/// Unconfirmed Map-Registers after which a Map-Server counts as unreachable.
const UNREACHABLE_AFTER: u32 = 4;
/// Unconfirmed Map-Registers after which a Map-Server's name is resolved again.
const DOUBT_AFTER: u32 = 2;
/// Withdrawals are sent this often at most; the registration times out in any case.
const WITHDRAW_ATTEMPTS: u32 = 5;
/// How long a prefix may lack a locator that is up before that is said: interfaces come up one after the other.
const LACKING_DELAY: Duration = Duration::from_secs(3);
/// A change is registered within this time: short enough to be felt as at once, long enough to join several changes.
const CHANGE_DELAY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// Unsolicited Map-Notifies of a Map-Server that are known again.
const MAX_UNSOLICITED: usize = 4096;
/// Where no Map-Notify has come for this many registration periods, somebody else may have had the last word meanwhile:
/// a prefix that may move is asked for before it is registered again. Shorter than registrations last (RFC 9301 §5.6).
const DOUBTED_AFTER: (u32, u32) = (3, 2);
/// If nobody can be asked, registering is tried for so long.
const TRIED_FOR: Duration = Duration::from_millis(500);
/// Nonces that are reserved at once: as many Map-Registers as one write to the disk covers.
const NONCE_BLOCK: u64 = 4096;

/// How the registration of a prefix with a Map-Server stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationState {
    /// The Map-Server's name.
    pub map_server: String,
    /// Where it is, if known.
    pub address: Option<IpAddr>,
    /// When the last Map-Register was sent.
    pub last_sent: Option<Instant>,
    /// When a Map-Notify last confirmed the prefix; never where none is wanted.
    pub last_notified: Option<Instant>,
    /// Map-Registers since the last one that was confirmed; 0 where no Map-Notify is wanted.
    pub unanswered: u32,
    /// Whether confirmation by Map-Notify is wanted at all.
    pub want_notify: bool,
    /// The registration as it is now is confirmed, or sent where no confirmation is wanted.
    pub confirmed: bool,
    /// Map-Registers sent since the prefix was last changed.
    pub sent: u64,
    /// Map-Notifies since then that confirmed one.
    pub notified: u64,
    /// The Map-Server's last Map-Notify left this prefix out.
    pub refused: bool,
    /// The Map-Server's last Map-Notify has other locators for this prefix than we registered: another xTR of the site
    /// registers it in another way.
    pub contradicted: bool,
    /// Key ID and algorithm of the last Map-Register that was confirmed, or else of the last one that was sent.
    pub key: Option<(u8, Algorithm)>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Registrar {
    servers: Vec<Server>,
    withdrawals: Vec<Withdrawal>,
    /// Prefixes none of whose locators is up, each when to say so; `None` = said.
    lacking: BTreeMap<EidPrefix, Option<Instant>>,
    first_nonce: u64,
    next_nonce: u64,
    /// Nonces from here on may not be used yet, lest a restart use them again; `None` = nobody remembers anything.
    reserved: Option<Reserved>,
    /// The next change is registered at once.
    hurry: bool,
    /// Prefixes that may move, each from when on it is not registered again before the mapping system was asked.
    trusted: BTreeMap<EidPrefix, Instant>,
}

/// How far nonces are reserved.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    /// On the disk.
    durable: u64,
    /// Asked for.
    asked: u64,
}

#[derive(Debug)]
struct Server {
    config: EtrMapServer,
    /// The ids that it knows us by.
    xtr_site: Option<XtrSite>,
    bundles: Vec<Bundle>,
    /// Reported as unreachable and not confirmed since.
    unreachable: bool,
    /// Prefixes that it tells others differently from what we registered.
    contradicted: BTreeSet<EidPrefix>,
    /// Nonces of its last unsolicited Map-Notifies, in the order in which they came.
    unsolicited: VecDeque<Nonce>,
}

/// What one Map-Register holds.
#[derive(Debug)]
struct Bundle {
    records: Vec<EidRecord>,
    /// They may move, so that they are registered apart from those that stay.
    mobile: bool,
    /// a: merge.
    merge: bool,
    prefixes: Vec<EidPrefix>,
    refused: Vec<EidPrefix>,
    wake: Instant,
    /// Until when registrations are frequent.
    quick_until: Instant,
    attempts: u32,
    unanswered: u32,
    outstanding: Vec<Nonce>,
    last_sent: Option<Instant>,
    last_notified: Option<Instant>,
    sent: u64,
    notified: u64,
    /// Its contents are confirmed.
    confirmed: bool,
    /// Where it was sent last.
    sent_to: Option<IpAddr>,
    /// Of the last Map-Register that was confirmed, else sent.
    key: Option<(u8, Algorithm)>,
}

/// Prefixes that a Map-Server must forget.
#[derive(Debug)]
struct Withdrawal {
    server: EtrMapServer,
    xtr_site: Option<XtrSite>,
    records: Vec<EidRecord>,
    attempts: u32,
    outstanding: Vec<Nonce>,
    wake: Instant,
}

/// A Map-Server, and the ids that it knows us by.
#[derive(Clone, Copy)]
struct Recipient<'a> {
    server: &'a EtrMapServer,
    xtr_site: Option<XtrSite>,
    /// a: merge.
    merge: bool,
}

/// A Map-Register on its way.
struct Sent {
    nonce: Nonce,
    address: IpAddr,
    key: (u8, Algorithm),
}

/// Where a Map-Notify's nonce leads.
enum Answered {
    Bundle(usize, usize),
    Withdrawal(usize),
}

impl Registrar {
    /// `nonce_base` must be greater than every nonce used before by this xTR.
    pub(crate) fn new(nonce_base: u64) -> Self {
        Self {
            servers: Vec::new(),
            withdrawals: Vec::new(),
            lacking: BTreeMap::new(),
            first_nonce: nonce_base,
            next_nonce: nonce_base,
            reserved: None,
            hurry: false,
            trusted: BTreeMap::new(),
        }
    }

    /// The prefixes that are to be registered now, but may be somebody else's since a Map-Server was heard last.
    pub(crate) fn doubted(&self, now: Instant) -> Vec<EidPrefix> {
        let due = self.servers.iter().flat_map(|s| &s.bundles).filter(|b| b.may_be_lost() && b.wake <= now);
        let prefixes = due.flat_map(|b| b.prefixes.iter().copied());
        let mut doubted: Vec<EidPrefix> =
            prefixes.filter(|prefix| self.trusted.get(prefix).is_some_and(|until| *until <= now)).collect();
        doubted.sort_unstable();
        doubted.dedup();
        doubted
    }

    /// A prefix has just come here: that is the last word until a Map-Server was heard.
    pub(crate) fn claim(&mut self, prefix: &EidPrefix) {
        self.trusted.remove(prefix);
    }

    /// The mapping system says that a prefix is not somebody else's or, if not `answered`, nobody says anything.
    pub(crate) fn trust(&mut self, cx: &Context, now: Instant, prefix: EidPrefix, answered: bool) {
        let time = if answered { trusted_for(cx) } else { TRIED_FOR };
        self.trusted.insert(prefix, now + time);
    }

    /// The next [`Self::update`] is about something that packets wait for.
    pub(crate) const fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Has a prefix registered again at once, though nothing of it changed.
    pub(crate) fn renew(&mut self, now: Instant, prefix: &EidPrefix) {
        let bundles = self.servers.iter_mut().flat_map(|s| &mut s.bundles);
        for bundle in bundles.filter(|b| b.prefixes.contains(prefix)) {
            bundle.confirmed = false;
            bundle.attempts = 0;
            bundle.wake = now;
        }
    }

    /// An earlier life had reserved the nonces below `below`, if any; from now on, reservations are remembered.
    pub(crate) fn restored(&mut self, below: Option<u64>) {
        self.next_nonce = self.next_nonce.max(below.unwrap_or(0));
        self.first_nonce = self.next_nonce;
        self.reserved = Some(Reserved { durable: self.next_nonce, asked: self.next_nonce });
    }

    /// The nonces below `below` may be used.
    pub(crate) fn reserved(&mut self, below: u64) {
        if let Some(reserved) = &mut self.reserved {
            reserved.durable = reserved.durable.max(below);
        }
    }

    /// Reserves nonces in time.
    fn reserve(&mut self, cx: &mut Context) {
        let idle = self.servers.iter().all(|s| s.bundles.is_empty()) && self.withdrawals.is_empty();
        let Some(reserved) = &mut self.reserved else { return };
        if !idle && reserved.asked.saturating_sub(self.next_nonce) < NONCE_BLOCK / 2 {
            let below = self.next_nonce.saturating_add(NONCE_BLOCK);
            reserved.asked = below;
            cx.persist(|| Change::Put(Record::RegisterNonce { below }));
        }
    }

    /// Whether the next nonce may be used.
    fn may_send(&self) -> bool {
        self.reserved.is_none_or(|reserved| self.next_nonce < reserved.durable)
    }

    /// Brings the registrations in line with configuration and database: what is new or changed is registered soon,
    /// what is gone is withdrawn, the rest goes on as before.
    pub(crate) fn update(&mut self, cx: &mut Context, now: Instant, config: &EtrConfig, database: &Database) {
        let xtr_site = config.xtr_site.map(|(xtr_id, site_id)| XtrSite { xtr_id, site_id });
        let mut old: Vec<Server> = std::mem::take(&mut self.servers);
        for server in &config.map_servers {
            let known = old.iter().position(|s| s.config.name == server.name).map(|at| old.remove(at));
            let mut known = known.unwrap_or(Server {
                config: server.clone(),
                xtr_site,
                bundles: Vec::new(),
                unreachable: false,
                contradicted: BTreeSet::new(),
                unsolicited: VecDeque::new(),
            });
            if known.config.host != server.host {
                self.withdraw(now, &known, known.bundles.iter().flat_map(|b| &b.records));
                known.bundles.clear();
            } else if known.config != *server || known.xtr_site != xtr_site {
                // Another key or flag: the same records have to be said again.
                known.bundles.iter_mut().for_each(|b| b.confirmed = false);
                known.bundles.iter_mut().for_each(|b| b.wake = now);
            }
            known.config = server.clone();
            self.rebundle(cx, now, &mut known, database);
            known.xtr_site = xtr_site;
            self.servers.push(known);
        }
        self.hurry = false;
        let mut lacking = BTreeMap::new();
        if !self.servers.is_empty() {
            for (prefix, _) in database.iter().filter(|(_, e)| e.config.register && !e.reachable()) {
                let said = self.lacking.get(&prefix).copied();
                lacking.insert(prefix, said.unwrap_or(Some(now + LACKING_DELAY)));
            }
        }
        self.lacking = lacking;
        self.trusted.retain(|prefix, _| database.get(prefix).is_some_and(Entry::is_mobile));
        for gone in old {
            self.withdraw(now, &gone, gone.bundles.iter().flat_map(|b| &b.records));
        }
    }

    /// Whether the Map-Servers know how `prefix` is registered now, or that it is no more, as far as we can tell.
    pub(crate) fn knows(&self, prefix: &EidPrefix) -> bool {
        let mut bundles =
            self.servers.iter().flat_map(|s| &s.bundles).filter(|b| b.prefixes.contains(prefix));
        let is_it = |r: &EidRecord| r.eid.to_prefix().is_ok_and(|p| p == *prefix);
        bundles.all(|b| b.confirmed) && !self.withdrawals.iter().any(|w| w.records.iter().any(is_it))
    }

    /// Whether some Map-Server is not asked to confirm registrations.
    pub(crate) fn wants_no_notify(&self) -> bool {
        self.servers.iter().any(|s| !s.config.want_notify)
    }

    /// Names were resolved: what could not be sent can be now, and a Map-Server that has moved hears of us at once.
    pub(crate) fn kick(&mut self, cx: &Context, now: Instant) {
        for server in &mut self.servers {
            let addresses = cx.names.addresses(&server.config.host);
            for bundle in &mut server.bundles {
                let moved = bundle.sent_to.is_some_and(|address| !addresses.contains(&address));
                if !bundle.confirmed || moved {
                    bundle.confirmed = false;
                    bundle.wake = bundle.wake.min(now);
                    bundle.attempts = 0;
                }
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, now: Instant, rlocs: &LocalRlocs) {
        self.reserve(cx);
        let mut servers = std::mem::take(&mut self.servers);
        for server in &mut servers {
            for bundle in server.bundles.iter_mut().filter(|b| b.wake <= now) {
                if !self.may_send() {
                    break;
                }
                let (config, xtr_site, merge) = (&server.config, server.xtr_site, bundle.merge);
                self.register(cx, now, Recipient { server: config, xtr_site, merge }, bundle, rlocs);
                if bundle.unanswered >= DOUBT_AFTER {
                    cx.names.doubt(&server.config.host, bundle.sent_to, now);
                }
                if bundle.unanswered >= UNREACHABLE_AFTER && !server.unreachable {
                    server.unreachable = true;
                    cx.event(Event::MapServerUnreachable {
                        map_server: server.config.name.clone(),
                        address: address_of(cx, &server.config, 0, rlocs),
                        unanswered: bundle.unanswered,
                    });
                }
            }
        }
        self.servers = servers;
        for (prefix, at) in &mut self.lacking {
            if at.is_some_and(|at| at <= now) {
                *at = None;
                cx.event(Event::NoLocators { prefix: *prefix });
            }
        }

        let (due, mut later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.withdrawals).into_iter().partition(|w| w.wake <= now);
        for mut withdrawal in due {
            if !self.may_send() {
                later.push(withdrawal);
                continue;
            }
            let Withdrawal { server, xtr_site, .. } = &withdrawal;
            let to = Recipient { server, xtr_site: *xtr_site, merge: server.merge };
            let sent = self.send(cx, to, withdrawal.attempts, withdrawal.records.clone(), rlocs);
            remember(&mut withdrawal.outstanding, sent.map(|sent| sent.nonce));
            let pause = cx.timers.register_retry.saturating_mul(1 << withdrawal.attempts.min(16));
            withdrawal.wake = now + pause;
            withdrawal.attempts += 1;
            if withdrawal.attempts < WITHDRAW_ATTEMPTS {
                later.push(withdrawal);
            }
        }
        self.withdrawals = later;
        self.reserve(cx);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let bundles = self.servers.iter().flat_map(|s| &s.bundles).map(|b| b.wake);
        let withdrawals = self.withdrawals.iter().map(|w| w.wake);
        // Without a nonce there is nothing to do but wait for one.
        let registers = bundles.chain(withdrawals).filter(|_| self.may_send());
        registers.chain(self.lacking.values().copied().flatten()).min()
    }

    /// A Map-Notify: the answer to one of our Map-Registers, or unsolicited and then acknowledged (RFC 9301 §5.7). What
    /// an unsolicited one says that is authentic and was not said before in the same message.
    pub(crate) fn map_notify(
        &mut self,
        cx: &mut Context,
        now: Instant,
        notify: MapNotify,
        bytes: &[u8],
        source: SocketAddr,
    ) -> Vec<EidRecord> {
        let mut news = Vec::new();
        let answered = self.answered(notify.nonce);
        let mut candidates: Vec<EtrMapServer> = match answered {
            Some(Answered::Bundle(server, _)) => self.servers.get(server).map(|s| s.config.clone()),
            Some(Answered::Withdrawal(at)) => self.withdrawals.get(at).map(|w| w.server.clone()),
            None => None,
        }
        .into_iter()
        .collect();
        if answered.is_none() {
            // One address may be several times a Map-Server of ours, with different keys.
            let all = self.servers.iter().map(|s| &s.config);
            let there = all.filter(|config| cx.names.addresses(&config.host).contains(&source.ip()));
            candidates.extend(there.cloned());
        }
        let mut authentic = None;
        let mut failure = None;
        for server in candidates {
            // Signed with the key that the Map-Register was signed with (RFC 9301 §5.7), which may have been another one
            // than is in use now.
            let keys = server.keys();
            match auth::verify(bytes, &keys).map(|key| keys.get(key).cloned()) {
                Ok(key) => authentic = authentic.or(key.map(|key| (server, key))),
                Err(error) => failure = failure.or(Some((server, error))),
            }
        }
        let Some((server, key)) = authentic else {
            match failure {
                Some((server, error)) => {
                    let detail = format!("Map-Notify of Map-Server {}: {error}", server.name);
                    cx.drop_with(auth_reason(&error), Some(source), detail);
                }
                None => cx.drop(DropReason::NotifyUnknown, Some(source)),
            }
            return news;
        };
        match answered {
            Some(Answered::Bundle(server, bundle)) => {
                self.confirmed(cx, now, server, bundle, &notify);
                if let Some(bundle) = self.servers.get_mut(server).and_then(|s| s.bundles.get_mut(bundle)) {
                    bundle.key = Some((key.id, key.algorithm));
                }
            }
            Some(Answered::Withdrawal(at)) => drop(self.withdrawals.remove(at)),
            // One of our own nonces, but no longer of interest: a duplicate, or overtaken by a change.
            None if (self.first_nonce..self.next_nonce).contains(&notify.nonce.0) => {
                cx.drop(DropReason::NotifyStale, Some(source));
            }
            None => {
                let known = self.servers.iter_mut().find(|s| s.config.name == server.name);
                let repeated = known.is_none_or(|known| {
                    let repeated = known.unsolicited.contains(&notify.nonce);
                    if !repeated {
                        known.unsolicited.push_back(notify.nonce);
                        if known.unsolicited.len() > MAX_UNSOLICITED {
                            known.unsolicited.pop_front();
                        }
                    }
                    repeated
                });
                // Sent again because the Map-Notify-Ack got lost, or replayed: it says nothing new.
                if !repeated {
                    self.compare(cx, &server.name, &notify.records);
                    news.clone_from(&notify.records);
                }
                if !cx.admit(source.ip(), None, source, now) {
                    return news;
                }
                match auth::seal(Message::MapNotifyAck(notify), &key) {
                    Ok(ack) => {
                        let to = SocketAddr::new(source.ip(), CONTROL_PORT);
                        cx.send_encoded(MessageKind::MapNotifyAck, None, to, ack);
                    }
                    Err(error) => cx.drop_with(DropReason::Encode, Some(source), error.to_string()),
                }
            }
        }
        news
    }

    /// How the registrations of every prefix stand, in the order of the configured Map-Servers.
    pub(crate) fn states(
        &self,
        cx: &Context,
        rlocs: &LocalRlocs,
    ) -> BTreeMap<EidPrefix, Vec<RegistrationState>> {
        let mut states: BTreeMap<EidPrefix, Vec<RegistrationState>> = BTreeMap::new();
        for server in &self.servers {
            let address = address_of(cx, &server.config, 0, rlocs);
            for (bundle, prefix) in server.bundles.iter().flat_map(|b| b.prefixes.iter().map(move |p| (b, p)))
            {
                let refused = bundle.refused.contains(prefix);
                states.entry(*prefix).or_default().push(RegistrationState {
                    map_server: server.config.name.clone(),
                    address,
                    last_sent: bundle.last_sent,
                    last_notified: bundle.last_notified.filter(|_| !refused),
                    unanswered: bundle.unanswered,
                    want_notify: server.config.want_notify,
                    confirmed: bundle.confirmed && !refused,
                    sent: bundle.sent,
                    notified: if refused { 0 } else { bundle.notified },
                    refused,
                    contradicted: server.contradicted.contains(prefix),
                    key: bundle.key,
                });
            }
        }
        states
    }

    /// Compares what a Map-Server tells of our prefixes with what we registered there.
    fn compare(&mut self, cx: &mut Context, map_server: &str, told: &[EidRecord]) {
        let Some(server) = self.servers.iter_mut().find(|s| s.config.name == map_server) else { return };
        for record in told {
            let Ok(prefix) = record.eid.to_prefix() else { continue };
            // That what may move is now registered by somebody else is no contradiction.
            let mut ours = server.bundles.iter().filter(|b| !b.mobile).flat_map(|b| &b.records);
            let Some(own) = ours.find(|own| own.eid == record.eid) else { continue };
            if agree(own, record, server.config.merge) {
                server.contradicted.remove(&prefix);
            } else if server.contradicted.insert(prefix) {
                let map_server = server.config.name.clone();
                cx.event(Event::RegistrationContradicted { map_server, prefix });
            }
        }
    }

    fn confirmed(
        &mut self,
        cx: &mut Context,
        now: Instant,
        server: usize,
        bundle: usize,
        notify: &MapNotify,
    ) {
        let period = cx.timers.register_interval;
        // What was not merged comes back as it was sent, whatever others registered.
        if let Some(config) = self.servers.get(server).map(|s| &s.config).filter(|config| config.merge) {
            let name = config.name.clone();
            self.compare(cx, &name, &notify.records);
        }
        let Some(server) = self.servers.get_mut(server) else { return };
        let Some(bundle) = server.bundles.get_mut(bundle) else { return };
        let accepted: Vec<EidPrefix> = notify.records.iter().filter_map(|r| r.eid.to_prefix().ok()).collect();
        if bundle.may_be_lost() {
            self.trusted.extend(accepted.iter().map(|prefix| (*prefix, now + trusted_for(cx))));
        }
        let refused: Vec<EidPrefix> =
            bundle.prefixes.iter().copied().filter(|prefix| !accepted.contains(prefix)).collect();
        for prefix in refused.iter().filter(|prefix| !bundle.refused.contains(prefix)) {
            cx.event(Event::RegistrationRefused { map_server: server.config.name.clone(), prefix: *prefix });
        }
        if !bundle.confirmed || server.unreachable {
            cx.event(Event::RegistrationConfirmed {
                map_server: server.config.name.clone(),
                prefixes: bundle.prefixes.len() - refused.len(),
                took: bundle.last_sent.map_or(Duration::ZERO, |sent| now.saturating_since(sent)),
            });
        }
        server.unreachable = false;
        bundle.refused = refused;
        bundle.confirmed = true;
        bundle.unanswered = 0;
        bundle.attempts = 0;
        bundle.outstanding.clear();
        bundle.last_notified = Some(now);
        bundle.notified += 1;
        let sent = bundle.last_sent.unwrap_or(now);
        bundle.wake = sent + cx.between(period - period / 10, period);
    }

    fn answered(&self, nonce: Nonce) -> Option<Answered> {
        for (s, server) in self.servers.iter().enumerate() {
            if let Some(b) = server.bundles.iter().position(|b| b.outstanding.contains(&nonce)) {
                return Some(Answered::Bundle(s, b));
            }
        }
        self.withdrawals.iter().position(|w| w.outstanding.contains(&nonce)).map(Answered::Withdrawal)
    }

    /// Distributes what is to be registered with a server over Map-Registers. Those that say the same as before stay.
    fn rebundle(&mut self, cx: &mut Context, now: Instant, server: &mut Server, database: &Database) {
        let mut bundles: Vec<Bundle> = Vec::new();
        let mut records: Vec<EidRecord> = Vec::new();
        let mut size = 0;
        let mut old: Vec<Bundle> = std::mem::take(&mut server.bundles);
        let before: Vec<EidRecord> = old.iter().flat_map(|b| b.records.iter().cloned()).collect();
        let (low, high) = if self.hurry { (Duration::ZERO, Duration::ZERO) } else { CHANGE_DELAY };
        let mut close = |cx: &mut Context, records: Vec<EidRecord>, (mobile, merge): (bool, bool)| {
            if records.is_empty() {
                return;
            }
            if let Some(same) = old.iter().position(|b| b.records == records && b.merge == merge) {
                bundles.push(old.swap_remove(same));
                return;
            }
            let prefixes = records.iter().filter_map(|r| r.eid.to_prefix().ok()).collect();
            bundles.push(Bundle {
                records,
                mobile,
                merge,
                prefixes,
                refused: Vec::new(),
                wake: now + cx.between(low, high),
                quick_until: now + cx.timers.quick_register_time,
                attempts: 0,
                unanswered: 0,
                outstanding: Vec::new(),
                last_sent: None,
                last_notified: None,
                sent: 0,
                notified: 0,
                confirmed: false,
                sent_to: None,
                key: None,
            });
        };
        let default = server.config.merge;
        // What moves has messages of its own, so that those that stay are not said again with every move.
        for kind in [(false, default), (true, false), (true, true)] {
            for (_, entry) in database.iter() {
                let chosen =
                    entry.config.map_servers.as_ref().is_none_or(|names| names.contains(&server.config.name));
                if (entry.is_mobile(), entry.merge().unwrap_or(default)) != kind
                    || !entry.config.register
                    || entry.is_held()
                    || !chosen
                {
                    continue;
                }
                if entry.locators.is_empty() || entry.is_unheard() {
                    continue;
                }
                let record = EidRecord { authoritative: false, ..entry.record() };
                let len = encoded_len(&record);
                if records.len() >= MAX_RECORDS || (!records.is_empty() && size + len > MAX_RECORD_BYTES) {
                    close(cx, std::mem::take(&mut records), kind);
                    size = 0;
                }
                size += len;
                records.push(record);
            }
            close(cx, std::mem::take(&mut records), kind);
            size = 0;
        }
        server.bundles = bundles;

        let registered: BTreeSet<EidPrefix> =
            server.bundles.iter().flat_map(|b| b.prefixes.iter().copied()).collect();
        server.contradicted.retain(|prefix| registered.contains(prefix));
        let is_held = |prefix: &EidPrefix| database.get(prefix).is_some_and(Entry::is_held);
        let is_registered =
            |r: &EidRecord| r.eid.to_prefix().is_ok_and(|p| registered.contains(&p) || is_held(&p));
        let name = &server.config.name;
        for withdrawal in self.withdrawals.iter_mut().filter(|w| w.server.name == *name) {
            withdrawal.records.retain(|r| !is_registered(r));
        }
        self.withdrawals.retain(|w| !w.records.is_empty());
        self.withdraw(now, server, before.iter().filter(|r| !is_registered(r)));
    }

    fn withdraw<'a>(&mut self, now: Instant, server: &Server, records: impl Iterator<Item = &'a EidRecord>) {
        let records: Vec<EidRecord> =
            records.map(|r| EidRecord { ttl: Ttl::WITHDRAWN, ..r.clone() }).collect();
        for chunk in records.chunks(MAX_RECORDS) {
            self.withdrawals.push(Withdrawal {
                server: server.config.clone(),
                xtr_site: server.xtr_site,
                records: chunk.to_vec(),
                attempts: 0,
                outstanding: Vec::new(),
                wake: now,
            });
        }
    }

    fn register(
        &mut self,
        cx: &mut Context,
        now: Instant,
        to: Recipient<'_>,
        bundle: &mut Bundle,
        rlocs: &LocalRlocs,
    ) {
        let server = to.server;
        let sent = self.send(cx, to, bundle.attempts, bundle.records.clone(), rlocs);
        remember(&mut bundle.outstanding, sent.as_ref().map(|sent| sent.nonce));
        if let Some(sent) = &sent {
            bundle.last_sent = Some(now);
            bundle.sent += 1;
            bundle.sent_to = Some(sent.address);
            if bundle.last_notified.is_none() {
                bundle.key = Some(sent.key);
            }
        }
        let (period, quick) = (cx.timers.register_interval, cx.timers.quick_register_interval);
        let in_quick = now < bundle.quick_until;
        bundle.wake = now
            + if server.want_notify {
                // Doubling from one second to a minute (RFC 9301 §5.7), not slower than the quick period.
                let retry = cx.timers.register_retry.saturating_mul(1 << bundle.attempts.min(16));
                let retry = retry.min(cx.timers.register_retry_max);
                let retry = if in_quick { retry.min(quick) } else { retry };
                bundle.unanswered = bundle.unanswered.saturating_add(1);
                cx.between(retry, retry + retry / 20)
            } else {
                bundle.confirmed = sent.is_some();
                let period = if in_quick { quick } else { period };
                cx.between(period - period / 10, period)
            };
        bundle.attempts = bundle.attempts.saturating_add(1);
    }

    /// Sends a Map-Register, if it can be sent. A retransmission has a new nonce, since the Map-Server would take the old
    /// one for a replay if only the Map-Notify was lost; and the next key, if there are several, since the Map-Server may
    /// not know this one yet, or no longer.
    fn send(
        &mut self,
        cx: &mut Context,
        to: Recipient<'_>,
        attempt: u32,
        records: Vec<EidRecord>,
        rlocs: &LocalRlocs,
    ) -> Option<Sent> {
        let Recipient { server, xtr_site, merge } = to;
        let keys = server.keys();
        // Without confirmation there is no telling which key is the right one.
        let turn = if server.want_notify { attempt as usize } else { 0 };
        let key = keys.get(turn.checked_rem(keys.len())?)?;
        // An address has its turn with every key.
        let address = address_of(cx, server, attempt as usize / keys.len().max(1), rlocs)?;
        let nonce = Nonce(self.next_nonce);
        let register = MapRegister {
            proxy_reply: server.proxy_reply,
            want_notify: server.want_notify,
            use_ttl: server.use_ttl,
            merge,
            nonce,
            auth: AuthData::default(),
            records,
            xtr_site,
            ..MapRegister::default()
        };
        let to = SocketAddr::new(address, CONTROL_PORT);
        match auth::seal(Message::MapRegister(register), key) {
            Ok(bytes) => {
                self.next_nonce = self.next_nonce.wrapping_add(1);
                let source = rlocs.control_source(&address, attempt as usize);
                cx.send_encoded(MessageKind::MapRegister, source, to, bytes);
                Some(Sent { nonce, address, key: (key.id, key.algorithm) })
            }
            Err(error) => {
                cx.drop_with(DropReason::Encode, Some(to), error.to_string());
                None
            }
        }
    }
}

impl Bundle {
    /// Whether others may register the same in its place.
    const fn may_be_lost(&self) -> bool {
        self.mobile && !self.merge
    }
}

/// For how long a Map-Server's word that a prefix is ours holds.
fn trusted_for(cx: &Context) -> Duration {
    cx.timers.register_interval.saturating_mul(DOUBTED_AFTER.0) / DOUBTED_AFTER.1
}

/// The address to register at: of a family that we have a locator of, the next one with every attempt.
fn address_of(cx: &Context, server: &EtrMapServer, attempt: usize, rlocs: &LocalRlocs) -> Option<IpAddr> {
    let all = cx.names.addresses(&server.host);
    let reachable: Vec<IpAddr> = all.iter().copied().filter(|addr| rlocs.reaches(addr)).collect();
    let candidates = if reachable.is_empty() { all } else { &reachable };
    candidates.get(attempt.checked_rem(candidates.len())?).copied()
}

/// Whether a Map-Server tells what we registered: our locators as they are and, unless it merges, no others.
fn agree(own: &EidRecord, told: &EidRecord, merge: bool) -> bool {
    let says = |l: &LocatorRecord| (l.priority, l.weight, l.mpriority, l.mweight);
    let same = |l: &LocatorRecord| {
        told.locators.iter().find(|t| t.address == l.address).is_some_and(|t| says(t) == says(l))
    };
    own.locators.iter().all(same) && (merge || told.locators.len() <= own.locators.len())
}

fn remember(outstanding: &mut Vec<Nonce>, nonce: Option<Nonce>) {
    if outstanding.len() >= MAX_OUTSTANDING {
        outstanding.remove(0);
    }
    outstanding.extend(nonce);
}

/// Bytes of a record (RFC 9301 §5.4).
pub(super) fn encoded_len(record: &EidRecord) -> usize {
    let address = |address: &Address| match address.to_ip().map(|ip| Family::of(&ip)) {
        Some(Family::Ipv4) => 6,
        _ => 18,
    };
    // With an instance ID: the LCAF's header and the instance ID before the address (RFC 8060 §4.1).
    let eid = match &record.eid.address {
        Address::Ip(_) => address(&record.eid.address),
        _ => 12 + 18,
    };
    10 + eid + record.locators.iter().map(|l| 6 + address(&l.address)).sum::<usize>()
}

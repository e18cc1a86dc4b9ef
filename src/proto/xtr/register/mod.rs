//! The ETR's registrations: keeps every Map-Server informed of the database (RFC 9301 §5.6, §5.7, §8.2).
//!
//! Owns: the Map-Servers, and when a message to one is due. What the messages say is made in [`bundle`] and
//! sent by [`send`], Map-Notifies come in by [`notify`]. Answers to Map-Requests are in [`super::etr`].

mod bundle;
mod nonces;
mod notify;
mod send;
mod state;
mod trust;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::proto::config::{EtrConfig, EtrMapServer};
use crate::proto::context::Context;
use crate::proto::event::Event;
use crate::types::{EidPrefix, Instant, Nonce};
use crate::wire::{EidRecord, XtrSite};

use super::database::{Database, Entry, LocalRlocs};
use bundle::{Bundle, Withdrawal};
use nonces::Nonces;
use send::{Recipient, address_of, remember};
use trust::Trust;

pub(super) use bundle::{MAX_RECORD_BYTES, encoded_len};
pub use state::RegistrationState;

/// Unconfirmed Map-Registers after which a Map-Server counts as unreachable.
const UNREACHABLE_AFTER: u32 = 4;
/// Unconfirmed Map-Registers after which a Map-Server's name is resolved again.
const DOUBT_AFTER: u32 = 2;
/// Withdrawals are sent this often at most; the registration times out in any case.
const WITHDRAW_ATTEMPTS: u32 = 5;
/// How long a prefix may lack a locator that is up before that is said: interfaces come up one after the
/// other.
const LACKING_DELAY: Duration = Duration::from_secs(3);

/// The machine.
#[derive(Debug)]
pub(crate) struct Registrar {
    servers: Vec<Server>,
    withdrawals: Vec<Withdrawal>,
    /// Prefixes none of whose locators is up, each when to say so; `None` = said.
    lacking: BTreeMap<EidPrefix, Option<Instant>>,
    nonces: Nonces,
    /// The next change is registered at once.
    hurry: bool,
    /// Prefixes that may move and were confirmed once.
    trusted: BTreeMap<EidPrefix, Trust>,
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

impl Registrar {
    /// `nonce_base` must be greater than every nonce used before by this xTR.
    pub(crate) fn new(nonce_base: u64) -> Self {
        Self {
            servers: Vec::new(),
            withdrawals: Vec::new(),
            lacking: BTreeMap::new(),
            nonces: Nonces::new(nonce_base),
            hurry: false,
            trusted: BTreeMap::new(),
        }
    }

    /// An earlier life had reserved the nonces below `below`, if any; from now on, reservations are
    /// remembered.
    pub(crate) fn restored(&mut self, below: Option<u64>) {
        self.nonces.restored(below);
    }

    /// The nonces below `below` may be used.
    pub(crate) fn reserved(&mut self, below: u64) {
        self.nonces.reserved(below);
    }

    /// The next [`Self::update`] is about something that packets wait for.
    pub(crate) const fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Has a prefix registered again at once, though nothing of it changed.
    pub(crate) fn renew(&mut self, now: Instant, prefix: &EidPrefix) {
        let bundles = self.servers.iter_mut().flat_map(|s| &mut s.bundles);
        for bundle in bundles.filter(|b| b.prefixes.contains(prefix)) {
            bundle.say_again();
            bundle.attempts = 0;
            bundle.wake = now;
        }
    }

    /// Brings the registrations in line with configuration and database: what is new or changed is registered
    /// soon, what is gone is withdrawn, the rest goes on as before.
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
                known.bundles.iter_mut().for_each(Bundle::say_again);
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

    /// Whether the Map-Servers know how `prefix` is registered now, or that it is no more, as far as we can
    /// tell.
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

    /// Names were resolved: what could not be sent can be now, and a Map-Server that has moved hears of us at
    /// once.
    pub(crate) fn kick(&mut self, cx: &Context, now: Instant) {
        for server in &mut self.servers {
            let addresses = cx.names.addresses(&server.config.host);
            for bundle in &mut server.bundles {
                let moved = bundle.sent_to.is_some_and(|address| !addresses.contains(&address));
                if moved {
                    bundle.forget_earlier();
                }
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
                if !self.nonces.may_send() {
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
                        prefixes: bundle.prefixes.clone(),
                    });
                }
                if bundle.mobile
                    && bundle.unanswered == UNREACHABLE_AFTER
                    && let Some((first, others)) = bundle.prefixes.split_first()
                {
                    let (map_server, others) = (server.config.name.clone(), others.len());
                    cx.event(Event::MoveUnconfirmed { map_server, prefix: *first, others });
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
            if !self.nonces.may_send() {
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
        let registers = bundles.chain(withdrawals).filter(|_| self.nonces.may_send());
        registers.chain(self.lacking.values().copied().flatten()).min()
    }

    fn reserve(&mut self, cx: &mut Context) {
        let idle = self.servers.iter().all(|s| s.bundles.is_empty()) && self.withdrawals.is_empty();
        if !idle {
            self.nonces.reserve(cx);
        }
    }
}

//! The ITR: finds the mapping of every destination that the data plane misses, and keeps those in use fresh.
//!
//! Owns: the parts of that, and when each has its turn: what is asked for is in [`requests`], what is answered in
//! [`answers`], what people and mobility ask in [`lig`], what the underlay says in [`path_mtu`]. Must not answer requests:
//! that is the ETR's.

mod answers;
mod lig;
mod message;
mod path_mtu;
mod requests;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fib::{FibUpdate, Punt};
use crate::proto::config::ItrConfig;
use crate::proto::context::Context;
use crate::proto::control::LigError;
use crate::proto::rate::TokenBucket;
use crate::proto::stats::DropReason;
use crate::types::{Eid, EidPrefix, Instant, Nonce, Rloc};
use crate::wire::MapRequest;

use super::database::{Database, LocalRlocs};
use super::map_cache::{Keeping, MapCache, Wake};
use super::pending::{Pending, PendingTable};
use super::proxy::ProxyEtrs;
use super::reachability::Cause;
use super::resolvers::Resolvers;
use super::restored::Unconfirmed;
use lig::{LIG_REQUESTS, Lig};
use message::send_request;
use requests::{EXPECTING_RATE, SOLICITED_RATE, STRANGERS_RATE};

pub(crate) use lig::Located;
pub(super) use message::itr_rlocs;

/// After so long, an entry that there was no room to ask for is tried again.
const REFRESH_AGAIN: Duration = Duration::from_secs(1);

/// The machine.
#[derive(Debug)]
pub(crate) struct Itr {
    config: ItrConfig,
    pub(super) cache: MapCache,
    pub(super) pending: PendingTable,
    ligs: BTreeMap<Nonce, Lig>,
    /// Where EID-prefixes are, that was asked by [`Itr::locate`].
    located: Vec<Located>,
    resolvers: Resolvers,
    /// Path MTUs that the underlay told, each until when it is believed.
    path_mtus: BTreeMap<Rloc, (u16, Instant)>,
    pub(super) proxy_etrs: ProxyEtrs,
    /// What SMRs may still have asked for.
    solicited: TokenBucket,
    strangers: TokenBucket,
    /// What may still be asked for without a packet that waits for it.
    expecting: TokenBucket,
    /// What a snapshot said and nobody has confirmed yet.
    pub(super) unconfirmed: Unconfirmed,
}

impl Itr {
    pub(crate) fn new(cx: &mut Context, now: Instant, config: ItrConfig, database: &Database) -> Self {
        let keeping = keeping(&config);
        let mut cache = MapCache::new(keeping.clone());
        cache.configure(cx, now, keeping, &config.static_entries, database);
        let resolvers = Resolvers::new(&config);
        Self {
            config,
            cache,
            solicited: TokenBucket::new(SOLICITED_RATE, now),
            strangers: TokenBucket::new(STRANGERS_RATE, now),
            expecting: TokenBucket::new(EXPECTING_RATE, now),
            pending: PendingTable::default(),
            ligs: BTreeMap::new(),
            located: Vec::new(),
            resolvers,
            path_mtus: BTreeMap::new(),
            proxy_etrs: ProxyEtrs::default(),
            unconfirmed: Unconfirmed::default(),
        }
    }

    /// The configured proxy-ETRs, or the addresses of their names, may be others now: what goes to them follows.
    pub(crate) fn update_proxy_etrs(&mut self, cx: &mut Context, database: &Database) {
        self.proxy_etrs.update(&self.config.proxy_etrs, &cx.names);
        let stale = self.cache.iter().filter_map(|(prefix, entry)| {
            self.proxy_etrs.changed(&entry.mapping).map(|locators| (prefix, locators))
        });
        let stale: Vec<_> = stale.collect();
        for (prefix, locators) in stale {
            self.cache.set_locators(cx, &prefix, locators, database);
        }
    }

    /// Our own EID-prefixes, or those that this router is a proxy for, are others than before: locators that are among
    /// them are not used, and others are again.
    pub(crate) fn eids_changed(&mut self, cx: &mut Context, database: &Database) {
        for prefix in self.cache.recheck_circular(cx, database) {
            self.complain(cx, &prefix, None, database.rlocs());
        }
    }

    pub(crate) fn cache(&self) -> &MapCache {
        &self.cache
    }

    pub(crate) fn cache_mut(&mut self) -> &mut MapCache {
        &mut self.cache
    }

    pub(crate) fn resolvers(&self) -> &Resolvers {
        &self.resolvers
    }

    pub(crate) fn path_mtu_of(&self, rloc: &Rloc) -> Option<u16> {
        self.path_mtus.get(rloc).map(|(mtu, _)| *mtu)
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = (&Eid, &Pending)> {
        self.pending.iter()
    }

    /// Takes in a new configuration; what the map-cache has learnt stays.
    pub(crate) fn reconfigure(
        &mut self,
        cx: &mut Context,
        now: Instant,
        config: ItrConfig,
        database: &Database,
    ) {
        self.cache.configure(cx, now, keeping(&config), &config.static_entries, database);
        self.resolvers.configure(&config);
        self.config = config;
    }

    /// `prefix` is about to become one of our own: what the map-cache has inside it goes.
    pub(crate) fn becomes_local(&mut self, cx: &mut Context, prefix: &EidPrefix) {
        self.cache.remove_within(cx, prefix);
        for eid in self.pending.within(prefix) {
            self.finish(cx, &eid);
        }
    }

    /// The role ends: nothing of it stays.
    pub(crate) fn stop(&mut self, cx: &mut Context) {
        self.unconfirmed = Unconfirmed::default();
        self.cache.stop(cx);
        for eid in self.pending.eids() {
            self.finish(cx, &eid);
        }
        for (_, lig) in std::mem::take(&mut self.ligs) {
            self.lig_failed(cx, lig.asker, LigError::NoItr);
        }
        for (rloc, _) in std::mem::take(&mut self.path_mtus) {
            cx.fib(FibUpdate::PathMtu { rloc, mtu: None });
        }
    }

    /// Our own locators changed: paths get other sources, and what could not be asked now can.
    pub(crate) fn locators_changed(&mut self, cx: &mut Context, now: Instant, database: &Database) {
        self.probing_locators_changed(cx, now, database.rlocs());
        self.cache.republish(cx, database.rlocs());
        self.kick(now);
    }

    pub(crate) fn punt(&mut self, cx: &mut Context, now: Instant, punt: Punt, database: &Database) {
        match punt {
            Punt::Miss { source, destination } => self.miss(cx, now, source, destination, database),
            Punt::PathMtu { rloc, mtu } => self.path_mtu(cx, now, rloc, mtu),
            Punt::Unreachable { rloc } => {
                if !self.unreachable(cx, now, rloc, Cause::Underlay, database.rlocs()) {
                    cx.drop(DropReason::UnreachableUnknown, None);
                }
            }
            // What headers say comes by `super::signals`.
            Punt::NewSource { .. }
            | Punt::Redirected { .. }
            | Punt::Unverified { .. }
            | Punt::LocatorStatus { .. }
            | Punt::StaleVersion { .. }
            | Punt::NewVersion { .. }
            | Punt::EchoDue { .. }
            | Punt::Echoed { .. } => {}
        }
    }

    /// Whether what other sites send is gleaned from.
    pub(crate) fn gleans(&self) -> bool {
        self.config.glean
    }

    /// Packets to a locator arrive: one of them was answered.
    pub(crate) fn arrived(&mut self, cx: &mut Context, now: Instant, rloc: Rloc, database: &Database) {
        self.proven(cx, now, rloc, database.rlocs());
    }

    /// Packets to a locator of the site of `eid` were not answered, although they should have been; `dark` where packets
    /// do come from the site, so that it is those to it that are lost (RFC 9300 §10.1).
    pub(crate) fn silent(
        &mut self,
        cx: &mut Context,
        now: Instant,
        rloc: Rloc,
        eid: &Eid,
        dark: bool,
        database: &Database,
    ) {
        let _ = eid;
        if dark {
            self.unreachable(cx, now, rloc, Cause::Echo, database.rlocs());
        } else {
            self.probe_soon(now, rloc, database.rlocs());
        }
    }

    pub(crate) fn clear(&mut self, cx: &mut Context, prefix: Option<EidPrefix>) {
        match prefix {
            Some(prefix) => {
                if self.cache.get(&prefix).is_some_and(|entry| !entry.is_static()) {
                    self.cache.remove(cx, &prefix);
                }
            }
            None => self.cache.clear(cx),
        }
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, now: Instant, database: &Database) {
        while let Some((eid, pending)) = self.pending.pop_due(now) {
            if pending.resting {
                if pending.punted {
                    cx.fib(FibUpdate::Unpend { eid });
                }
            } else {
                self.request(cx, now, eid, pending, database.rlocs());
            }
        }
        self.probe(cx, now, database);
        while let Some(wake) = self.cache.wake(cx, now) {
            if let Wake::Refresh(prefix) = wake
                && !self.refresh(cx, now, prefix, false, database.rlocs())
            {
                self.cache.wake_at(&prefix, now + REFRESH_AGAIN);
            }
        }
        self.cache.sweep(cx, now);
        self.confirm(cx, now, database.rlocs());
        let due: Vec<Nonce> =
            self.ligs.iter().filter(|(_, lig)| lig.wake <= now).map(|(nonce, _)| *nonce).collect();
        for nonce in due {
            let Some(lig) = self.ligs.remove(&nonce) else { continue };
            if lig.requests >= LIG_REQUESTS {
                self.lig_failed(cx, lig.asker, LigError::TimedOut);
            } else {
                self.send_lig(cx, now, nonce, lig, database.rlocs());
            }
        }
        if let Some((nonce, exploration)) = self.resolvers.explore(cx, now) {
            let request = MapRequest {
                nonce,
                itr_rlocs: itr_rlocs(database.rlocs()),
                records: vec![exploration.prefix.into()],
                ..MapRequest::default()
            };
            let eid = exploration.prefix.first();
            let local = database.rlocs();
            let to = (local.control_source(&exploration.resolver, 0), exploration.resolver);
            send_request(cx, &request, eid, None, to, local);
        }
        let forgotten: Vec<Rloc> =
            self.path_mtus.iter().filter(|(_, (_, until))| *until <= now).map(|(rloc, _)| *rloc).collect();
        for rloc in forgotten {
            self.path_mtus.remove(&rloc);
            cx.fib(FibUpdate::PathMtu { rloc, mtu: None });
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let ligs = self.ligs.values().map(|lig| lig.wake).min();
        let path_mtus = self.path_mtus.values().map(|(_, until)| *until).min();
        let unconfirmed = self.unconfirmed.next();
        [self.pending.next(), self.cache.next(), self.resolvers.next(), unconfirmed, ligs, path_mtus]
            .into_iter()
            .flatten()
            .min()
    }
}

fn keeping(config: &ItrConfig) -> Keeping {
    Keeping { limit: config.map_cache_limit, idle_timeout: config.idle_timeout }
}

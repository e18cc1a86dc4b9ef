//! The ITR: finds the mapping of every destination that the data plane misses, and keeps those in use fresh.
//!
//! Owns: the parts of that, and when each has its turn: what is asked for is in [`requests`], what is
//! answered in [`answers`], what people and mobility ask in [`lig`], what the underlay says in [`path_mtu`].
//! Must not answer requests: that is the ETR's.

mod answers;
mod lig;
mod message;
mod path_mtu;
mod requests;

use std::time::Duration;

use crate::fib::Punt;
use crate::proto::config::ItrConfig;
use crate::proto::context::Context;
use crate::proto::stats::DropReason;
use crate::types::{Eid, EidPrefix, Instant, Rloc};

use super::database::Database;
use super::map_cache::{Keeping, MapCache, Wake};
use super::pending::{Pending, PendingTable};
use super::proxy::ProxyEtrs;
use super::reachability::Cause;
use super::resolvers::Resolvers;
use super::restored::Unconfirmed;
use lig::Ligs;
use path_mtu::PathMtus;
use requests::Rates;

pub(crate) use lig::{Located, Locating};
pub(super) use message::itr_rlocs;

/// After so long, an entry that there was no room to ask for is tried again.
const REFRESH_AGAIN: Duration = Duration::from_secs(1);

/// The machine.
#[derive(Debug)]
pub(crate) struct Itr {
    config: ItrConfig,
    pub(super) cache: MapCache,
    pub(super) pending: PendingTable,
    rates: Rates,
    ligs: Ligs,
    resolvers: Resolvers,
    path_mtus: PathMtus,
    pub(super) proxy_etrs: ProxyEtrs,
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
            pending: PendingTable::default(),
            rates: Rates::new(now),
            ligs: Ligs::default(),
            resolvers,
            path_mtus: PathMtus::default(),
            proxy_etrs: ProxyEtrs::default(),
            unconfirmed: Unconfirmed::default(),
        }
    }

    /// The configured proxy-ETRs, or the addresses of their names, may be others now: what goes to them
    /// follows.
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

    /// Our own EID-prefixes, or those that this router is a proxy for, are others than before: locators that
    /// are among them are not used, and others are again.
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
        self.path_mtus.of(rloc)
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
        self.stop_ligs(cx);
        self.path_mtus.stop(cx);
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
            Punt::PathMtu { rloc, mtu } => {
                let used = self.cache.uses(&rloc);
                self.path_mtus.told(cx, now, rloc, mtu, used);
            }
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

    /// Packets to a locator were not answered, although they should have been; `dark` where packets do come
    /// from its site, so that it is those to it that are lost (RFC 9300 §10.1).
    pub(crate) fn silent(
        &mut self,
        cx: &mut Context,
        now: Instant,
        rloc: Rloc,
        dark: bool,
        database: &Database,
    ) {
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
        let local = database.rlocs();
        self.retry(cx, now, local);
        self.probe(cx, now, database);
        while let Some(wake) = self.cache.wake(cx, now) {
            if let Wake::Refresh(prefix) = wake
                && !self.refresh(cx, now, prefix, false, local)
            {
                self.cache.wake_at(&prefix, now + REFRESH_AGAIN);
            }
        }
        self.cache.sweep(cx, now);
        self.confirm(cx, now, local);
        self.retry_ligs(cx, now, local);
        self.explore(cx, now, local);
        self.path_mtus.handle_timeout(cx, now);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let questions = [self.pending.next(), self.resolvers.next(), self.ligs.next()];
        let known = [self.cache.next(), self.unconfirmed.next(), self.path_mtus.next()];
        questions.into_iter().chain(known).flatten().min()
    }
}

fn keeping(config: &ItrConfig) -> Keeping {
    Keeping { limit: config.map_cache_limit, idle_timeout: config.idle_timeout }
}

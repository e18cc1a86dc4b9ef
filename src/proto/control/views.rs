//! What `show` shows: the state of every machine, read-only.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::proto::config::{DdtConfig, Host, LocatorConfig, LocatorSource, ResolverSelection, SiteConfig};
use crate::proto::mapping_system::map_server::MapServer;
use crate::proto::mapping_system::{CachedReferral, ReferralCounts, Registration};
use crate::proto::redundancy::sync::CacheSync;
pub use crate::proto::redundancy::sync::Member as SyncMember;
use crate::proto::stats::Statistics;
use crate::proto::xtr::itr::Itr;
use crate::proto::xtr::mobility::{Mobility, best};
use crate::proto::xtr::{
    Away, DatabaseEntry, Here, MapCacheEntry, Pending, RegistrationState, RemoteRloc, ResolverHealth, Verdict,
};
use crate::types::{Eid, EidPrefix, Instant, LocatorChange, Rloc};

use super::MoveState;
use super::plane::ControlPlane;

/// One of the site's own EID-prefixes and how its registrations stand.
#[derive(Clone, Debug)]
pub struct DatabaseView<'a> {
    /// The prefix.
    pub prefix: EidPrefix,
    /// Its configuration, and its locators with the addresses of now.
    pub entry: &'a DatabaseEntry,
    /// A state per Map-Server that it is registered with.
    pub registrations: Vec<RegistrationState>,
}

/// A site of our Map-Server.
#[derive(Clone, Debug)]
pub struct SiteView<'a> {
    /// Its configuration. The keys in it don't print.
    pub config: &'a SiteConfig,
    /// Its registrations, in order of prefix.
    pub registrations: Vec<(EidPrefix, &'a Registration)>,
}

/// EID-prefixes that may move.
#[derive(Clone, Copy, Debug)]
pub struct MobilityView<'a> {
    mobility: &'a Mobility,
}

impl<'a> MobilityView<'a> {
    /// Those that are at this site, in order.
    pub fn here(self) -> impl Iterator<Item = (EidPrefix, &'a Here)> {
        self.mobility.here()
    }

    /// Those that moved to another site, in order.
    pub fn away(self) -> impl Iterator<Item = (EidPrefix, &'a Away)> {
        self.mobility.away()
    }
}

/// What this router has to do with a DDT (RFC 8111).
#[derive(Clone, Debug)]
pub struct DdtView<'a> {
    /// Its configuration.
    pub config: &'a DdtConfig,
    /// As DDT node or Map-Server: Map-Referrals sent; `None` = it is neither.
    pub sent: Option<ReferralCounts>,
    /// As Map-Resolver that searches; `None` = it is none.
    pub search: Option<DdtSearch<'a>>,
}

/// A Map-Resolver's search in the DDT.
#[derive(Clone, Debug)]
pub struct DdtSearch<'a> {
    /// Where it begins, each with its addresses.
    pub roots: Vec<(&'a Host, &'a [IpAddr])>,
    /// Map-Requests under way.
    pub pending: usize,
    /// Map-Referrals that came to those.
    pub received: ReferralCounts,
    /// Referrals that are remembered, in order of prefix.
    pub cache: Vec<(EidPrefix, &'a CachedReferral)>,
}

impl ControlPlane {
    /// Every counter.
    pub fn statistics(&self) -> &Statistics {
        &self.cx.statistics
    }

    /// The map-cache, in order of instance, family and prefix. Empty without the ITR role.
    pub fn map_cache(&self) -> impl Iterator<Item = (EidPrefix, &MapCacheEntry)> {
        self.itr.iter().flat_map(|itr| itr.cache().iter())
    }

    /// The map-cache from the first entry after `prefix` on, for who looks at it in parts; `None`: from the start.
    pub fn map_cache_after(
        &self,
        prefix: Option<EidPrefix>,
    ) -> impl Iterator<Item = (EidPrefix, &MapCacheEntry)> {
        self.itr.iter().flat_map(move |itr| itr.cache().after(prefix))
    }

    /// Counts the changes of the map-cache: where it stays the same, so does the cache, but for what expires.
    pub fn map_cache_changes(&self) -> u64 {
        self.itr.as_ref().map_or(0, |itr| itr.cache().changes())
    }

    /// Entries in the map-cache.
    pub fn map_cache_len(&self) -> usize {
        self.itr.as_ref().map_or(0, |itr| itr.cache().len())
    }

    /// Of the search in the DDT: Map-Requests that wait, and referrals that are remembered.
    pub fn ddt_len(&self) -> (usize, usize) {
        self.mapping_system.ddt_len()
    }

    /// What this router has to do with a DDT.
    pub fn ddt(&self) -> DdtView<'_> {
        let config = &self.config.ddt;
        let system = &self.mapping_system;
        let search = system.ddt_client().map(|client| DdtSearch {
            roots: config.roots.iter().map(|host| (host, self.cx.names.addresses(host))).collect(),
            pending: client.len().0,
            received: *client.received(),
            cache: client.cache().collect(),
        });
        DdtView { config, sent: system.refers().then_some(*system.referred()), search }
    }

    /// Entries that the map-cache may have.
    pub fn map_cache_limit(&self) -> usize {
        self.itr.as_ref().map_or(0, |itr| itr.cache().limit())
    }

    /// The path MTU that the underlay told for a remote locator, in bytes with outer headers.
    pub fn path_mtu(&self, rloc: &Rloc) -> Option<u16> {
        self.itr.as_ref()?.path_mtu_of(rloc)
    }

    /// Whether a remote locator is known to be down: no way to it is known to be up, and one to be down.
    pub fn is_down(&self, rloc: &Rloc) -> bool {
        self.itr.as_ref().is_some_and(|itr| itr.cache().is_down(rloc, self.database.rlocs()))
    }

    /// The source of packets to a remote locator, and whether that is up as far as is known; `None` where we have none
    /// of its family.
    pub fn verdict(&self, rloc: &Rloc) -> Option<Verdict> {
        self.itr.as_ref()?.cache().reach.verdict(rloc, self.database.rlocs())
    }

    /// What probes and the underlay said of a remote locator.
    pub fn remote_rloc(&self, rloc: &Rloc) -> Option<&RemoteRloc> {
        self.itr.as_ref()?.cache().reach.get(rloc)
    }

    /// The locators of the map-cache's entries by address, each with the number of entries that have it.
    pub fn used_rlocs(&self) -> impl Iterator<Item = (&Rloc, usize)> {
        self.itr.iter().flat_map(|itr| itr.cache().used_rlocs())
    }

    /// The remote locators that are probed or known to be down, by address.
    pub fn remote_rlocs(&self) -> impl Iterator<Item = (&Rloc, &RemoteRloc)> {
        self.itr.iter().flat_map(|itr| itr.cache().reach.iter())
    }

    /// Our own locators that have an address, best first: sources of packets, and where Map-Replies may come.
    pub fn local_rlocs(&self) -> &[Rloc] {
        self.database.rlocs().all()
    }

    /// Locators of ours that none of the site's EID-prefixes has, each with its address if it is up.
    pub fn more_locators(&self) -> impl Iterator<Item = (&LocatorConfig, Option<Rloc>)> {
        self.database.more_locators()
    }

    /// What commands changed of the locators, until the next reload.
    pub fn locator_changes(&self) -> &[(LocatorSource, LocatorChange)] {
        self.database.overrides()
    }

    /// The entry of exactly `prefix`.
    pub fn map_cache_entry(&self, prefix: &EidPrefix) -> Option<&MapCacheEntry> {
        self.itr.as_ref()?.cache().get(prefix)
    }

    /// The Map-Resolvers in the order of the configuration: the EID space that each is for (`None`: all others), the host,
    /// and how each of its addresses does.
    pub fn resolvers(
        &self,
    ) -> impl Iterator<Item = (Option<EidPrefix>, &Host, Vec<(IpAddr, ResolverHealth)>)> {
        self.itr.iter().flat_map(|itr| itr.resolvers().states(&self.cx))
    }

    /// Which of several Map-Resolvers is asked.
    pub fn resolver_selection(&self) -> ResolverSelection {
        self.config.itr.as_ref().map(|itr| itr.resolver_selection).unwrap_or_default()
    }

    /// The other xTRs of the site that the map-cache is synchronised with, by address; empty without synchronisation.
    pub fn sync_members(&self) -> impl Iterator<Item = &SyncMember> {
        self.sync.iter().flat_map(CacheSync::members)
    }

    /// Destinations that are being resolved or rest after that failed, in order.
    pub fn pending(&self) -> impl Iterator<Item = (&Eid, &Pending)> {
        self.itr.iter().flat_map(Itr::pending)
    }

    /// The site's own EID-prefixes.
    pub fn database(&self) -> impl Iterator<Item = DatabaseView<'_>> {
        let mut states = self.registrar.states(&self.cx, &self.database);
        self.database.iter().map(move |(prefix, entry)| DatabaseView {
            prefix,
            entry,
            registrations: states.remove(&prefix).unwrap_or_default(),
        })
    }

    /// The EID-prefixes that may move: which are here, and which are elsewhere.
    pub fn mobility(&self) -> MobilityView<'_> {
        MobilityView { mobility: &self.mobility }
    }

    /// How the move of an EID-prefix to this site stands.
    pub fn move_state(&self, prefix: &EidPrefix) -> MoveState {
        if let Some(away) = self.mobility.away_to(prefix) {
            return MoveState::Elsewhere(best(&away.locators));
        }
        let Some(entry) = self.database.get(prefix) else { return MoveState::Left };
        if !entry.reachable() {
            return MoveState::NoLocators;
        }
        let standing: Vec<(&str, bool, bool)> = self.registrar.standing(prefix).collect();
        let names = |which: fn(&(&str, bool, bool)) -> bool| -> Vec<String> {
            standing.iter().filter(|s| which(s)).map(|(name, ..)| (*name).to_owned()).collect()
        };
        let refused = names(|(_, _, refused)| *refused);
        let silent = names(|(_, confirmed, refused)| !confirmed && !refused);
        match (refused.is_empty(), silent.is_empty()) {
            (_, false) => MoveState::Unconfirmed(silent),
            (false, true) => MoveState::Refused(refused),
            (true, true) => MoveState::Registered,
        }
    }

    /// When our Map-Server accepted a Map-Register for exactly `prefix` last, where it knows the prefix still.
    pub fn last_register(&self, prefix: &EidPrefix) -> Option<Instant> {
        self.mapping_system.server.as_ref()?.last_register(prefix)
    }

    /// The sites of our Map-Server in order of name, with their registrations. Empty without that role.
    pub fn sites(&self) -> impl Iterator<Item = SiteView<'_>> {
        let server = self.mapping_system.server.as_ref();
        let mut by_site: BTreeMap<&str, Vec<(EidPrefix, &Registration)>> = BTreeMap::new();
        for (prefix, registration) in server.into_iter().flat_map(MapServer::registrations) {
            by_site.entry(&registration.site).or_default().push((prefix, registration));
        }
        server.into_iter().flat_map(MapServer::sites).map(move |config| SiteView {
            config,
            registrations: by_site.remove(config.name.as_str()).unwrap_or_default(),
        })
    }
}

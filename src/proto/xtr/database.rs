//! The site's own EID-prefixes and their locators, with the addresses that interfaces have at the moment.
//!
//! Owns: the local entries of the FIB, and which of our addresses can be a source. Must not send messages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::fib::{FibAction, FibUpdate, Stats};
use crate::proto::config::{DatabaseEntry, LocatorConfig, LocatorSource};
use crate::proto::context::Context;
use crate::proto::eid_table::EidTable;
use crate::types::{Action, Eid, EidPrefix, Family, Locator, MapVersion, Mapping};
use crate::wire::EidRecord;

/// Addresses of an interface that are looked at.
const MAX_ADDRESSES: usize = 64;

/// The usable addresses of each interface that the runtime told of.
pub(crate) type Interfaces = BTreeMap<String, Vec<IpAddr>>;

/// One of the site's own EID-prefixes.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As configured.
    pub config: DatabaseEntry,
    /// The locators that have an address now, in ascending order of address, as they are registered and answered
    /// with (RFC 9301 §5.5).
    pub locators: Vec<Locator>,
    /// The address that each locator of `config` has now, in its order.
    pub addresses: Vec<Option<IpAddr>>,
    /// Version of the mapping (RFC 9302); the null version where versions are not used.
    pub version: MapVersion,
    /// Counters of the FIB entry: decapsulated packets to it.
    pub stats: Arc<Stats>,
}

impl Entry {
    /// The mapping as an ETR tells it.
    pub fn mapping(&self) -> Mapping {
        Mapping {
            eid: self.config.eid,
            ttl: self.config.ttl,
            action: Action::NoAction,
            authoritative: true,
            version: self.version,
            locators: self.locators.clone(),
        }
    }

    /// The same as a record of a Map-Register or Map-Reply.
    pub(crate) fn record(&self) -> EidRecord {
        EidRecord::from(&self.mapping())
    }
}

/// Our own locators, best first: the sources of everything that we send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalRlocs(Vec<IpAddr>);

impl LocalRlocs {
    /// Best priority first.
    pub(crate) fn all(&self) -> &[IpAddr] {
        &self.0
    }

    /// The best one of a family.
    pub(crate) fn of_family(&self, family: Family) -> Option<IpAddr> {
        self.0.iter().copied().find(|addr| Family::of(addr) == family)
    }

    /// Whether there is one of the same family as `addr`, so that it can be talked to.
    pub(crate) fn reaches(&self, addr: &IpAddr) -> bool {
        self.of_family(Family::of(addr)).is_some()
    }

    pub(crate) fn contains(&self, addr: &IpAddr) -> bool {
        self.0.contains(addr)
    }
}

/// The table of [`Entry`] by prefix.
#[derive(Debug, Default)]
pub(crate) struct Database {
    entries: EidTable<Entry>,
    /// Locators that no entry has: a proxy tunnel router's.
    more_locators: Vec<LocatorConfig>,
    interfaces: Interfaces,
    rlocs: LocalRlocs,
}

impl Database {
    /// Replaces the entries by those of the configuration, the FIB's local entries following, and the locators of a
    /// proxy tunnel router.
    pub(crate) fn configure(
        &mut self,
        cx: &mut Context,
        entries: &[DatabaseEntry],
        more_locators: &[LocatorConfig],
    ) {
        self.more_locators = more_locators.to_vec();
        let kept: BTreeSet<EidPrefix> = entries.iter().map(|entry| entry.eid).collect();
        let gone: Vec<EidPrefix> =
            self.entries.iter().map(|(prefix, _)| prefix).filter(|prefix| !kept.contains(prefix)).collect();
        for prefix in gone {
            self.entries.remove(&prefix);
            cx.fib(FibUpdate::Remove { prefix });
        }
        for config in entries {
            let prefix = config.eid;
            if let Some(known) = self.entries.get_mut(&prefix) {
                known.config.clone_from(config);
                continue;
            }
            let stats = Arc::new(Stats::default());
            cx.fib(FibUpdate::Set { prefix, action: FibAction::Local, stats: Arc::clone(&stats) });
            let config = config.clone();
            let (locators, addresses, version) = (Vec::new(), Vec::new(), MapVersion::NONE);
            self.entries.insert(prefix, Entry { config, locators, addresses, version, stats });
        }
        self.resolve_locators();
    }

    /// Takes in an interface's addresses. Whether any of our locators changed by it.
    pub(crate) fn interface(&mut self, name: &str, addresses: &[IpAddr]) -> bool {
        let addresses: Vec<IpAddr> = addresses.iter().copied().take(MAX_ADDRESSES).collect();
        if addresses.is_empty() {
            self.interfaces.remove(name);
        } else {
            self.interfaces.insert(name.to_owned(), addresses);
        }
        self.resolve_locators()
    }

    pub(crate) fn rlocs(&self) -> &LocalRlocs {
        &self.rlocs
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EidPrefix, &Entry)> {
        self.entries.iter()
    }

    pub(crate) fn get(&self, prefix: &EidPrefix) -> Option<&Entry> {
        self.entries.get(prefix)
    }

    /// Every entry, to be given its version.
    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut()
    }

    pub(crate) fn longest(&self, eid: &Eid) -> Option<(EidPrefix, &Entry)> {
        self.entries.longest(eid)
    }

    /// The entry that answers for `prefix`: the longest one that covers it.
    pub(crate) fn longest_covering(&self, prefix: &EidPrefix) -> Option<(EidPrefix, &Entry)> {
        self.entries.longest_covering(prefix)
    }

    pub(crate) fn strictly_within(&self, prefix: &EidPrefix) -> impl Iterator<Item = (EidPrefix, &Entry)> {
        self.entries.strictly_within(prefix)
    }

    pub(crate) fn table(&self) -> &EidTable<Entry> {
        &self.entries
    }

    /// Gives every locator its address of now. Whether anything changed.
    fn resolve_locators(&mut self) -> bool {
        let mut changed = false;
        let mut local: Vec<(u8, IpAddr)> = Vec::new();
        for entry in self.entries.values_mut() {
            let mut locators: Vec<Locator> = Vec::with_capacity(entry.config.locators.len());
            entry.addresses.clear();
            for config in &entry.config.locators {
                let found = address(&config.source, &self.interfaces);
                entry.addresses.push(found);
                let Some(rloc) = found else { continue };
                if config.local {
                    local.push((config.priority, rloc));
                }
                if locators.iter().any(|l| l.rloc == rloc) {
                    continue;
                }
                locators.push(Locator {
                    rloc,
                    priority: config.priority,
                    weight: config.weight,
                    mpriority: config.mpriority,
                    mweight: config.mweight,
                    local: config.local,
                    probe: false,
                    reachable: true,
                });
            }
            locators.sort_by_key(|l| l.rloc);
            if entry.locators != locators {
                entry.locators = locators;
                changed = true;
            }
        }
        for config in self.more_locators.iter().filter(|config| config.local) {
            local.extend(address(&config.source, &self.interfaces).map(|rloc| (config.priority, rloc)));
        }
        // Equal priorities keep the order of the configuration.
        local.sort_by_key(|(priority, _)| *priority);
        let mut rlocs: Vec<IpAddr> = Vec::new();
        for (_, addr) in local {
            if !rlocs.contains(&addr) {
                rlocs.push(addr);
            }
        }
        if self.rlocs.0 != rlocs {
            self.rlocs = LocalRlocs(rlocs);
            changed = true;
        }
        changed
    }
}

fn address(source: &LocatorSource, interfaces: &Interfaces) -> Option<IpAddr> {
    match source {
        LocatorSource::Address(addr) => Some(*addr),
        LocatorSource::Interface { name, family } => {
            interfaces.get(name)?.iter().copied().find(|addr| Family::of(addr) == *family)
        }
    }
}

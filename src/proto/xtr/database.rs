//! The site's own EID-prefixes and their locators, with the addresses that interfaces have at the moment.
//!
//! Owns: the local entries of the FIB, which of our locators are up, and so which can be a source, and the note of
//! whose mapping changed. Must not send messages.
//!
//! A locator of ours is up while its address is on an interface that runs. One that is down stays in the mapping, with
//! its R bit cleared (RFC 9301 §5.4), rather than being left out: the others keep their places, and so their
//! locator-status-bits (RFC 9300 §10); ITRs see that it is down rather than gone; and when the last one goes down the
//! mapping stays registered, where a withdrawal would have the site's packets forwarded natively. Left out is only
//! what never had an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::fib::{FibAction, FibUpdate, Stats};
use crate::proto::config::{DatabaseEntry, LocatorConfig, LocatorSource};
use crate::proto::context::Context;
use crate::proto::eid_table::EidTable;
use crate::types::{Action, Eid, EidPrefix, Family, InstanceId, Locator, LocatorChange, MapVersion, Mapping};
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
    /// The locators whose address is known, in ascending order of address, as they are registered and answered with
    /// (RFC 9301 §5.5).
    pub locators: Vec<Locator>,
    /// The address that each locator of `config` has or had last, in its order.
    pub addresses: Vec<Option<IpAddr>>,
    /// Whether each locator of `config` is up, in its order.
    pub up: Vec<bool>,
    /// Version of the mapping (RFC 9302); the null version where versions are not used.
    pub version: MapVersion,
    /// Counters of the FIB entry: decapsulated packets to it.
    pub stats: Arc<Stats>,
    /// No locator of it was up since the router started, so that nobody can know how it was before.
    unheard: bool,
    kind: Kind,
    /// Locators of the site that it came from, for as long as that sends on.
    former: Vec<IpAddr>,
}

/// Why an entry is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The configuration has it.
    Fixed,
    /// It came here and may go again. `shared`: other sites may have it too, so that the Map-Server is to merge. `held`:
    /// it may have gone already, so that it is neither registered nor withdrawn before that is known.
    Mobile { shared: bool, held: bool },
    /// It is at another site, with this mapping, though others may take it for ours.
    Away(Box<Mapping>),
}

impl Entry {
    /// The mapping as an ETR tells it.
    pub fn mapping(&self) -> Mapping {
        if let Kind::Away(mapping) = &self.kind {
            return Mapping { authoritative: false, ..(**mapping).clone() };
        }
        Mapping {
            eid: self.config.eid,
            ttl: self.config.ttl,
            action: Action::NoAction,
            authoritative: true,
            version: self.version,
            locators: self.locators.clone(),
        }
    }

    /// Whether it came here and may go again.
    pub fn is_mobile(&self) -> bool {
        matches!(self.kind, Kind::Mobile { .. })
    }

    /// Whether it is at another site.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.kind, Kind::Away(_))
    }

    /// Whether the Map-Server is to merge it with what others register, where the prefix has a say in that.
    pub(crate) fn merge(&self) -> Option<bool> {
        match self.kind {
            Kind::Mobile { shared, .. } => Some(shared),
            Kind::Fixed | Kind::Away(_) => None,
        }
    }

    /// Whether it is neither registered nor withdrawn for now.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.kind, Kind::Mobile { held: true, .. })
    }

    /// Whether nothing is known of our interfaces yet, so that it is too soon to say that all locators are down: whoever
    /// is told so remembers it.
    pub(crate) fn is_unheard(&self) -> bool {
        self.unheard
    }

    /// Locators of the site that it came from, which sends on packets of any source to it for a while.
    pub(crate) fn former(&self) -> &[IpAddr] {
        &self.former
    }

    /// Whether any locator is up, so that the site can be reached.
    pub fn reachable(&self) -> bool {
        self.up.contains(&true)
    }

    /// Takes in a configuration of the same prefix, keeping the last addresses of the locators that it has in common
    /// with the old one. Whether anything changed that the locators don't show.
    fn reconfigure(&mut self, config: &DatabaseEntry) -> bool {
        let old = std::mem::replace(&mut self.config, config.clone());
        let known = |source: &LocatorSource| {
            let at = old.locators.iter().position(|l| l.source == *source)?;
            self.addresses.get(at).copied().flatten()
        };
        self.addresses = config.locators.iter().map(|l| known(&l.source)).collect();
        old.ttl != config.ttl
    }

    /// The same as a record of a Map-Register or Map-Reply.
    pub(crate) fn record(&self) -> EidRecord {
        EidRecord::from(&self.mapping())
    }
}

/// Our own locators that are up, best first: the sources of everything that we send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalRlocs {
    up: Vec<IpAddr>,
    /// Those that are down, which only tell that there are several.
    down: BTreeSet<IpAddr>,
}

impl LocalRlocs {
    /// Best priority first.
    pub(crate) fn all(&self) -> &[IpAddr] {
        &self.up
    }

    /// The best one of a family.
    pub(crate) fn of_family(&self, family: Family) -> Option<IpAddr> {
        self.up.iter().copied().find(|addr| Family::of(addr) == family)
    }

    /// Whether there is one of the same family as `addr`, so that it can be talked to.
    pub(crate) fn reaches(&self, addr: &IpAddr) -> bool {
        self.of_family(Family::of(addr)).is_some()
    }

    /// The source of a message to the mapping system that was sent `attempt` times before; `None` is the kernel's choice.
    ///
    /// Where there are several of the family, the best one comes first, as its uplink is known to have a carrier, which
    /// the one of the kernel's route need not have; then the kernel's choice, as the routes may not look at the source,
    /// and an uplink's provider may not forward what has another one's address; then the others.
    pub(crate) fn control_source(&self, to: &IpAddr, attempt: usize) -> Option<IpAddr> {
        let mut all = self.up.iter().copied().filter(|addr| Family::of(addr) == Family::of(to));
        let count = all.clone().count();
        let others = self.down.iter().filter(|addr| Family::of(addr) == Family::of(to)).count();
        if count + others < 2 {
            return None;
        }
        match attempt % (count + 1) {
            0 => all.next(),
            at => at.checked_sub(2).and_then(|at| all.nth(at + 1)),
        }
    }

    pub(crate) fn contains(&self, addr: &IpAddr) -> bool {
        self.up.contains(addr)
    }

    /// Whether it is one of ours, up or down.
    pub(crate) fn is_ours(&self, addr: &IpAddr) -> bool {
        self.contains(addr) || self.down.contains(addr)
    }
}

/// The table of [`Entry`] by prefix.
#[derive(Debug, Default)]
pub(crate) struct Database {
    entries: EidTable<Entry>,
    /// Locators that no entry has: a proxy tunnel router's.
    more_locators: Vec<LocatorConfig>,
    /// EID-prefixes of other sites whose packets come here, as this is their proxy-ITR.
    proxied: Vec<EidPrefix>,
    interfaces: Interfaces,
    /// Locators of the site's other xTRs that don't answer.
    dead: BTreeSet<IpAddr>,
    rlocs: LocalRlocs,
    /// What an operator's commands changed, by the locator's source as configured.
    overrides: Vec<(LocatorSource, LocatorChange)>,
    /// EID-prefixes whose mapping is another than others may know, or that are gone.
    outdated: BTreeSet<EidPrefix>,
    /// Prefixes whose mapping changed since it was asked last.
    changed: BTreeSet<EidPrefix>,
}

impl Database {
    /// Replaces the entries by those of the configuration, the FIB's local entries following, and the locators of a
    /// proxy tunnel router. What commands changed is as configured again.
    pub(crate) fn configure(
        &mut self,
        cx: &mut Context,
        entries: &[DatabaseEntry],
        more_locators: &[LocatorConfig],
    ) {
        self.more_locators = more_locators.to_vec();
        let first = self.entries.len() == 0;
        self.overrides.clear();
        let kept: BTreeSet<EidPrefix> = entries.iter().map(|entry| entry.eid).collect();
        let fixed = self.entries.iter().filter(|(_, entry)| entry.kind == Kind::Fixed);
        let gone: Vec<EidPrefix> =
            fixed.map(|(prefix, _)| prefix).filter(|prefix| !kept.contains(prefix)).collect();
        for prefix in gone {
            self.entries.remove(&prefix);
            self.changed.insert(prefix);
            self.outdated.insert(prefix);
            cx.fib(FibUpdate::Remove { prefix });
        }
        for config in entries {
            let prefix = config.eid;
            if let Some(known) = self.entries.get_mut(&prefix) {
                if known.kind == Kind::Fixed && known.reconfigure(config) {
                    self.changed.insert(prefix);
                    self.outdated.insert(prefix);
                }
                continue;
            }
            let stats = Arc::new(Stats::default());
            cx.fib(FibUpdate::Set { prefix, action: FibAction::Local, stats: Arc::clone(&stats) });
            let entry = Entry {
                config: config.clone(),
                locators: Vec::new(),
                addresses: Vec::new(),
                up: Vec::new(),
                version: MapVersion::NONE,
                stats,
                unheard: first,
                kind: Kind::Fixed,
                former: Vec::new(),
            };
            self.entries.insert(prefix, entry);
            self.changed.insert(prefix);
        }
        let others: BTreeSet<IpAddr> = self.others().map(|(rloc, _)| rloc).collect();
        self.dead.retain(|rloc| others.contains(rloc));
        self.resolve_locators();
    }

    /// Adds an entry, or has another one take its place. Packets to one that is away are the map-cache's.
    pub(crate) fn put(&mut self, cx: &mut Context, config: DatabaseEntry, kind: Kind) {
        let prefix = config.eid;
        let away = matches!(kind, Kind::Away(_));
        let old = self.entries.remove(&prefix);
        let stats = old.as_ref().map(|old| Arc::clone(&old.stats)).unwrap_or_default();
        if !away {
            cx.fib(FibUpdate::Set { prefix, action: FibAction::Local, stats: Arc::clone(&stats) });
        } else if old.is_some_and(|old| !old.is_away()) {
            cx.fib(FibUpdate::Remove { prefix });
        }
        let entry = Entry {
            config,
            locators: Vec::new(),
            addresses: Vec::new(),
            up: Vec::new(),
            version: MapVersion::NONE,
            stats,
            unheard: self.interfaces.is_empty(),
            kind,
            former: Vec::new(),
        };
        self.entries.insert(prefix, entry);
        self.changed.insert(prefix);
        self.outdated.insert(prefix);
        self.resolve_locators();
    }

    /// Holds back the registration of what came here and may have gone, or lets go of it.
    pub(crate) fn hold(&mut self, prefix: &EidPrefix, hold: bool) {
        if let Some(Entry { kind: Kind::Mobile { held, .. }, .. }) = self.entries.get_mut(prefix) {
            *held = hold;
        }
    }

    /// Where a prefix came from, whose locators may send it packets of any source. Whether that was not known.
    pub(crate) fn came_from(&mut self, prefix: &EidPrefix, former: Vec<IpAddr>) -> bool {
        let entry = self.entries.get_mut(prefix).filter(|entry| !entry.is_away() && entry.former != former);
        entry.map(|entry| entry.former = former).is_some()
    }

    /// What the mapping system tells of a prefix has changed by what another site registered.
    pub(crate) fn tell(&mut self, prefix: EidPrefix) {
        self.outdated.insert(prefix);
    }

    /// Removes an entry that [`Self::put`] added. Who knows it hears of that if `tell`.
    pub(crate) fn discard(&mut self, cx: &mut Context, prefix: &EidPrefix, tell: bool) {
        let Some(old) = self.entries.remove(prefix) else { return };
        self.changed.insert(*prefix);
        if tell {
            self.outdated.insert(*prefix);
        }
        if !old.is_away() {
            cx.fib(FibUpdate::Remove { prefix: *prefix });
        }
        self.resolve_locators();
    }

    /// Takes in which EID-prefixes this router is a proxy-ITR for. Whether they are others than before.
    pub(crate) fn set_proxied(&mut self, prefixes: &[EidPrefix]) -> bool {
        let changed = self.proxied != prefixes;
        self.proxied = prefixes.to_vec();
        changed
    }

    /// Whether packets to an EID would come here to be encapsulated or delivered.
    pub(crate) fn attracts(&self, eid: &Eid) -> bool {
        self.longest(eid).is_some() || self.proxied.iter().any(|prefix| prefix.contains(eid))
    }

    /// Whether this router has anything to do with an instance.
    pub(crate) fn has_instance(&self, iid: InstanceId) -> bool {
        iid.is_default()
            || self.entries.has_instance(iid)
            || self.proxied.iter().any(|prefix| prefix.iid == iid)
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

    /// Locators of the site's other xTRs, each with a prefix that it is for.
    pub(crate) fn others(&self) -> impl Iterator<Item = (IpAddr, EidPrefix)> {
        self.entries.iter().flat_map(|(prefix, entry)| {
            entry.config.locators.iter().filter(|l| !l.local).filter_map(move |l| match l.source {
                LocatorSource::Address(rloc) => Some((rloc, prefix)),
                LocatorSource::Interface { .. } => None,
            })
        })
    }

    /// Notes whether a locator of one of the site's other xTRs answers. Whether any of our mappings changed by it.
    pub(crate) fn other_is_up(&mut self, rloc: IpAddr, up: bool) -> bool {
        let news = if up { self.dead.remove(&rloc) } else { self.dead.insert(rloc) };
        news && self.resolve_locators()
    }

    /// The site's other xTRs are no longer watched. Takes effect with the next [`Self::configure`].
    pub(crate) fn nobody_is_dead(&mut self) {
        self.dead.clear();
    }

    /// Has an operator's change hold for the locators with this source, or (`None`) the configuration again. How many
    /// locators there are with it.
    pub(crate) fn set_locator(&mut self, source: &LocatorSource, change: Option<LocatorChange>) -> usize {
        let count = self.locators_with(source);
        let at = self.overrides.iter().position(|(s, _)| s == source);
        let before = at.map(|at| self.overrides.swap_remove(at).1).unwrap_or_default();
        if let Some(change) = change
            && count > 0
        {
            self.overrides.push((source.clone(), before.then(change)));
        }
        self.resolve_locators();
        count
    }

    /// What an operator's commands changed.
    pub(crate) fn overrides(&self) -> &[(LocatorSource, LocatorChange)] {
        &self.overrides
    }

    fn locators_with(&self, source: &LocatorSource) -> usize {
        let locators = self.entries.iter().flat_map(|(_, entry)| &entry.config.locators);
        locators.filter(|locator| locator.source == *source).count()
    }

    /// The prefixes whose mapping others may know as it was before, since this was asked last: those that are gone, and
    /// the others but for the first state after the start.
    pub(crate) fn take_outdated(&mut self) -> BTreeSet<EidPrefix> {
        std::mem::take(&mut self.outdated)
    }

    /// The prefixes whose mapping changed since this was asked last: new, other locators, other state of them, gone.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<EidPrefix> {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn rlocs(&self) -> &LocalRlocs {
        &self.rlocs
    }

    /// The entries that are at this site.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EidPrefix, &Entry)> {
        self.entries.iter().filter(|(_, entry)| !entry.is_away())
    }

    /// The entry of exactly this prefix, wherever it is.
    pub(crate) fn get(&self, prefix: &EidPrefix) -> Option<&Entry> {
        self.entries.get(prefix)
    }

    /// Every entry that is at this site, to be given its version.
    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut().filter(|entry| !entry.is_away())
    }

    /// The entry of an EID that is at this site.
    pub(crate) fn longest(&self, eid: &Eid) -> Option<(EidPrefix, &Entry)> {
        self.longest_covering(&eid.to_prefix())
    }

    /// The entry that answers for `prefix`: the longest one that covers it. None where it is at another site.
    pub(crate) fn longest_covering(&self, prefix: &EidPrefix) -> Option<(EidPrefix, &Entry)> {
        self.entries.longest_covering(prefix).filter(|(_, entry)| !entry.is_away())
    }

    /// The entry at this site that covers `prefix`, whether that itself is at another one or not.
    pub(crate) fn home_of(&self, prefix: &EidPrefix) -> Option<(EidPrefix, &Entry)> {
        self.entries.covering(prefix).filter(|(_, entry)| !entry.is_away()).last()
    }

    /// The entry that a Map-Request for `prefix` is answered with, if any is.
    pub(crate) fn answering(&self, prefix: &EidPrefix) -> Option<(EidPrefix, &Entry)> {
        self.home_of(prefix).or_else(|| self.home_of(&prefix.first().to_prefix()))
    }

    /// Entries inside another one, wherever they are.
    pub(crate) fn strictly_within(&self, prefix: &EidPrefix) -> impl Iterator<Item = (EidPrefix, &Entry)> {
        self.entries.strictly_within(prefix)
    }

    pub(crate) fn table(&self) -> &EidTable<Entry> {
        &self.entries
    }

    /// Locators of ours that no entry has, each with its address if it is up.
    pub(crate) fn more_locators(&self) -> impl Iterator<Item = (&LocatorConfig, Option<IpAddr>)> {
        let of_entry = |l: &LocatorConfig| self.locators_with(&l.source) > 0;
        let more = self.more_locators.iter().filter(move |config| !of_entry(config));
        more.map(|config| (config, self.address_of(&config.source)))
    }

    /// Where our own locators come from, each once.
    pub(crate) fn own_sources(&self) -> Vec<LocatorSource> {
        let of_entries = self.entries.iter().flat_map(|(_, entry)| &entry.config.locators);
        let mut sources: Vec<LocatorSource> = Vec::new();
        for locator in of_entries.chain(&self.more_locators).filter(|locator| locator.local) {
            if !sources.contains(&locator.source) {
                sources.push(locator.source.clone());
            }
        }
        sources
    }

    /// The address of a locator of ours that is up.
    pub(crate) fn address_of(&self, source: &LocatorSource) -> Option<IpAddr> {
        match source {
            LocatorSource::Address(addr) => {
                self.interfaces.values().any(|all| all.contains(addr)).then_some(*addr)
            }
            LocatorSource::Interface { name, family } => of_family(self.interfaces.get(name), *family),
        }
    }

    /// Gives every locator its address and state of now. Whether anything changed.
    fn resolve_locators(&mut self) -> bool {
        let mut changed = false;
        let mut local: Vec<(u8, IpAddr)> = Vec::new();
        let mut down = BTreeSet::new();
        let present: BTreeSet<IpAddr> = self.interfaces.values().flatten().copied().collect();
        for entry in self.entries.values_mut() {
            let mut locators: Vec<Locator> = Vec::with_capacity(entry.config.locators.len());
            let before = std::mem::take(&mut entry.addresses);
            entry.up.clear();
            for (at, config) in entry.config.locators.iter().enumerate() {
                let (address, up) = match &config.source {
                    LocatorSource::Address(addr) if config.local => (Some(*addr), present.contains(addr)),
                    LocatorSource::Address(addr) => (Some(*addr), !self.dead.contains(addr)),
                    LocatorSource::Interface { name, family } => {
                        match of_family(self.interfaces.get(name), *family) {
                            Some(addr) => (Some(addr), true),
                            None => (before.get(at).copied().flatten(), false),
                        }
                    }
                };
                entry.addresses.push(address);
                entry.up.push(up);
                let Some(rloc) = address else { continue };
                let change = self.overrides.iter().find(|(source, _)| *source == config.source);
                let change = change.map(|(_, change)| *change).unwrap_or_default();
                let wanted = change.up.unwrap_or(true);
                let priority = if wanted { change.priority.unwrap_or(config.priority) } else { 255 };
                // One that an operator set down is still better than none.
                if config.local && up {
                    local.push((priority, rloc));
                } else if config.local {
                    down.insert(rloc);
                }
                let locator = Locator {
                    rloc,
                    priority,
                    weight: change.weight.unwrap_or(config.weight),
                    mpriority: config.mpriority,
                    mweight: config.mweight,
                    local: config.local,
                    probe: false,
                    reachable: up && wanted,
                };
                match locators.iter_mut().find(|l| l.rloc == rloc) {
                    // An address that moved from one interface to another counts where it is.
                    Some(same) if up && !same.reachable => *same = locator,
                    Some(_) => {}
                    None => locators.push(locator),
                }
            }
            locators.sort_by_key(|l| l.rloc);
            if entry.locators != locators {
                entry.locators = locators;
                self.changed.insert(entry.config.eid);
                changed = true;
                let up = entry.locators.iter().any(|locator| locator.reachable);
                if !entry.unheard {
                    self.outdated.insert(entry.config.eid);
                } else if up {
                    entry.unheard = false;
                }
            }
        }
        for config in self.more_locators.iter().filter(|config| config.local) {
            local.extend(self.address_of(&config.source).map(|rloc| (config.priority, rloc)));
        }
        // Equal priorities keep the order of the configuration.
        local.sort_by_key(|(priority, _)| *priority);
        let mut seen = BTreeSet::new();
        let rlocs: Vec<IpAddr> =
            local.into_iter().map(|(_, addr)| addr).filter(|addr| seen.insert(*addr)).collect();
        down.retain(|addr| !rlocs.contains(addr));
        let rlocs = LocalRlocs { up: rlocs, down };
        if self.rlocs != rlocs {
            self.rlocs = rlocs;
            changed = true;
        }
        changed
    }
}

fn of_family(addresses: Option<&Vec<IpAddr>>, family: Family) -> Option<IpAddr> {
    addresses?.iter().copied().find(|addr| Family::of(addr) == family)
}

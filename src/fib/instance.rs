//! The tables of one instance: what the longest match, and the checks of sources and destinations, look into.
//!
//! An entry has a place in a list, and the trie holds places. So the place that an address maps to changes
//! only where a prefix comes or goes, not where an entry is replaced, and what it once was can be remembered:
//! see [`LookupCache`](super::LookupCache).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use prefix_trie::map::Entry as Place;
use prefix_trie::{Prefix, PrefixMap};

use super::{Dynamic, Entry, EntryAction, Proxy, Site};

/// The tables of one instance.
#[derive(Clone, Debug, Default)]
pub struct InstanceFib {
    v4: PrefixMap<Key<u32>, u32>,
    v6: PrefixMap<Key<u128>, u32>,
    entries: Entries,
    /// Names the present set of prefixes: no other instance, and no other time, has the same.
    generation: u64,
    local: Prefixes,
    /// Destinations that packets of any source are taken to (proxy-ITR).
    ingress: Prefixes,
    /// Sources whose packets are taken to any destination (proxy-ETR).
    egress: Prefixes,
    /// Destinations that moved elsewhere, and how long their prefixes are.
    away: Prefixes,
    away_v4: PrefixMap<Key<u32>, ()>,
    away_v6: PrefixMap<Key<u128>, ()>,
    /// Sources that the control plane wants to hear of.
    watched: Prefixes,
    /// Empty unless an option needs them.
    sites_v4: PrefixMap<Key<u32>, Arc<Site>>,
    sites_v6: PrefixMap<Key<u128>, Arc<Site>>,
}

impl InstanceFib {
    /// The entry of the longest prefix that covers `address`.
    #[inline]
    pub fn lookup(&self, address: &IpAddr) -> Option<&Entry> {
        match address {
            IpAddr::V4(a) => self.entry(self.place_v4(a.to_bits())?),
            IpAddr::V6(a) => self.entry(self.place_v6(a.to_bits())?),
        }
    }

    /// The place of the entry that [`Self::lookup`] finds.
    pub(super) fn place_v4(&self, address: u32) -> Option<u32> {
        self.v4.get_lpm(&Key(address, 32)).map(|(_, place)| *place)
    }

    /// The same for IPv6.
    pub(super) fn place_v6(&self, address: u128) -> Option<u32> {
        self.v6.get_lpm(&Key(address, 128)).map(|(_, place)| *place)
    }

    /// The entry at a place.
    #[inline]
    pub(super) fn entry(&self, place: u32) -> Option<&Entry> {
        self.entries.places.get(place as usize)?.as_ref()
    }

    /// While this stays the same, every address keeps its place.
    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// What is known of the site of `address`: of the same prefix as [`Self::lookup`] finds, while options
    /// are on.
    pub fn site(&self, address: &IpAddr) -> Option<&Site> {
        match address {
            IpAddr::V4(a) => self.sites_v4.get_lpm(&Key(a.to_bits(), 32)).map(|(_, s)| &**s),
            IpAddr::V6(a) => self.sites_v6.get_lpm(&Key(a.to_bits(), 128)).map(|(_, s)| &**s),
        }
    }

    /// Whether `address` lies in one of the site's own prefixes, and has not moved elsewhere.
    #[inline]
    pub fn is_local(&self, address: &IpAddr) -> bool {
        self.local.contains(address) && !self.is_away(address)
    }

    /// Whether `address` has moved elsewhere: packets to it are sent on.
    #[inline]
    pub fn is_away(&self, address: &IpAddr) -> bool {
        self.away.contains(address) && !self.is_here_in_away(address)
    }

    /// Whether an address that is in a prefix that has moved is in a part of it that has not.
    #[cold]
    fn is_here_in_away(&self, address: &IpAddr) -> bool {
        let is_local =
            |place: u32| self.entry(place).is_some_and(|entry| matches!(entry.action, EntryAction::Local));
        match address {
            IpAddr::V4(a) => {
                let key = Key(a.to_bits(), 32);
                let local =
                    self.v4.get_lpm(&key).filter(|(_, place)| is_local(**place)).map(|(key, _)| key.1);
                local > self.away_v4.get_lpm(&key).map(|(key, ())| key.1)
            }
            IpAddr::V6(a) => {
                let key = Key(a.to_bits(), 128);
                let local =
                    self.v6.get_lpm(&key).filter(|(_, place)| is_local(**place)).map(|(key, _)| key.1);
                local > self.away_v6.get_lpm(&key).map(|(key, ())| key.1)
            }
        }
    }

    /// Whether the control plane wants to hear of packets from `address`.
    pub fn is_watched(&self, address: &IpAddr) -> bool {
        self.watched.contains(address)
    }

    /// Whether packets to `address` are taken from sources that are not the site's (proxy-ITR, RFC 6832 §5;
    /// and what moved elsewhere).
    #[inline]
    pub fn proxies_to(&self, address: &IpAddr) -> bool {
        self.ingress.contains(address) || self.is_away(address)
    }

    /// Whether decapsulated packets from `address` are taken to destinations that are not the site's
    /// (proxy-ETR, RFC 6832 §6).
    #[inline]
    pub fn proxies_from(&self, address: &IpAddr) -> bool {
        self.egress.contains(address)
    }

    /// Whether there is any source that [`Self::proxies_from`] holds for.
    pub fn is_proxy_etr(&self) -> bool {
        !self.egress.prefixes.is_empty()
    }

    /// How many entries there are, of both families.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn set_proxy(&mut self, net: IpNet, proxy: Proxy, present: bool) {
        match proxy {
            Proxy::Ingress => self.ingress.set(net, present),
            Proxy::Egress => self.egress.set(net, present),
        }
    }

    pub(super) fn set_dynamic(&mut self, net: IpNet, what: Dynamic, present: bool) {
        match what {
            Dynamic::Away => {
                self.away.set(net, present);
                match (net, present) {
                    (IpNet::V4(n), true) => {
                        let _ = self.away_v4.insert(Key(n.network().to_bits(), n.prefix_len()), ());
                    }
                    (IpNet::V6(n), true) => {
                        let _ = self.away_v6.insert(Key(n.network().to_bits(), n.prefix_len()), ());
                    }
                    (IpNet::V4(n), false) => {
                        let _ = self.away_v4.remove(&Key(n.network().to_bits(), n.prefix_len()));
                    }
                    (IpNet::V6(n), false) => {
                        let _ = self.away_v6.remove(&Key(n.network().to_bits(), n.prefix_len()));
                    }
                }
            }
            Dynamic::Watched => self.watched.set(net, present),
        }
    }

    /// Adds, replaces or removes the entry of a prefix. `generations` counts what becomes of all instances.
    pub(super) fn set(&mut self, net: IpNet, entry: Option<Entry>, generations: &mut u64) {
        let is_local = |e: &Entry| matches!(e.action, EntryAction::Local);
        let now_local = entry.as_ref().is_some_and(is_local);
        let before = self.len();
        let old = match (net, entry) {
            (IpNet::V4(n), Some(e)) => {
                self.entries.set(&mut self.v4, Key(n.network().to_bits(), n.prefix_len()), e)
            }
            (IpNet::V6(n), Some(e)) => {
                self.entries.set(&mut self.v6, Key(n.network().to_bits(), n.prefix_len()), e)
            }
            (_, None) => {
                self.set_site(net, None);
                let place = match net {
                    IpNet::V4(n) => self.v4.remove(&Key(n.network().to_bits(), n.prefix_len())),
                    IpNet::V6(n) => self.v6.remove(&Key(n.network().to_bits(), n.prefix_len())),
                };
                place.and_then(|place| self.entries.free(place))
            }
        };
        if self.len() != before {
            *generations += 1;
            self.generation = *generations;
        }
        if now_local != old.as_ref().is_some_and(is_local) {
            self.local.set(net, now_local);
        }
    }

    pub(super) fn set_site(&mut self, net: IpNet, site: Option<Arc<Site>>) {
        match (net, site) {
            (IpNet::V4(n), Some(s)) => {
                drop(self.sites_v4.insert(Key(n.network().to_bits(), n.prefix_len()), s))
            }
            (IpNet::V6(n), Some(s)) => {
                drop(self.sites_v6.insert(Key(n.network().to_bits(), n.prefix_len()), s))
            }
            (IpNet::V4(n), None) => drop(self.sites_v4.remove(&Key(n.network().to_bits(), n.prefix_len()))),
            (IpNet::V6(n), None) => drop(self.sites_v6.remove(&Key(n.network().to_bits(), n.prefix_len()))),
        }
    }

    pub(super) fn clear_sites(&mut self) {
        self.sites_v4 = PrefixMap::new();
        self.sites_v6 = PrefixMap::new();
    }
}

/// The entries of both families by place. Both copies of the tables go through the same changes in the same
/// order, and so have each entry at the same place: in the list itself, so that who knows the place has one
/// cache line less to wait for.
#[derive(Clone, Debug, Default)]
struct Entries {
    places: Vec<Option<Entry>>,
    /// Places that are empty.
    free: Vec<u32>,
}

impl Entries {
    /// Gives `prefix` an entry, and gives back the one that it had, whose place the new one takes.
    fn set<P: Prefix>(&mut self, map: &mut PrefixMap<P, u32>, prefix: P, entry: Entry) -> Option<Entry> {
        match map.entry(prefix) {
            Place::Occupied(place) => self.places.get_mut(*place.get() as usize)?.replace(entry),
            Place::Vacant(vacant) => {
                let place = self.free.pop().unwrap_or_else(|| {
                    self.places.push(None);
                    // Four billion entries would need a thousand times the memory that there is.
                    (self.places.len() - 1) as u32
                });
                vacant.insert(place);
                self.places.get_mut(place as usize)?.replace(entry)
            }
        }
    }

    fn free(&mut self, place: u32) -> Option<Entry> {
        self.free.push(place);
        self.places.get_mut(place as usize)?.take()
    }
}

/// A few prefixes as disjoint ranges: every packet is checked against the site's own.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    prefixes: BTreeSet<IpNet>,
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Prefixes {
    #[inline]
    fn contains(&self, address: &IpAddr) -> bool {
        #[inline]
        fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
            // Most sites have one prefix, and most routers are no proxies.
            match ranges {
                [] => false,
                [(first, last)] => *first <= address && address <= *last,
                several => search(several, address),
            }
        }
        fn search<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
            let after = ranges.partition_point(|&(first, _)| first <= address);
            after.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|&(_, last)| address <= last)
        }
        match address {
            IpAddr::V4(a) => within(&self.v4, a.to_bits()),
            IpAddr::V6(a) => within(&self.v6, a.to_bits()),
        }
    }

    fn set(&mut self, net: IpNet, present: bool) {
        if present {
            self.prefixes.insert(net);
        } else {
            self.prefixes.remove(&net);
        }
        self.v4.clear();
        self.v6.clear();
        // In order, a prefix comes before those that it covers, and those before anything else.
        for net in &self.prefixes {
            match net {
                IpNet::V4(n) => {
                    let (first, last) = (n.network().to_bits(), n.broadcast().to_bits());
                    if self.v4.last().is_none_or(|r| r.1 < first) {
                        self.v4.push((first, last));
                    }
                }
                IpNet::V6(n) => {
                    let (first, last) = (n.network().to_bits(), n.broadcast().to_bits());
                    if self.v6.last().is_none_or(|r| r.1 < first) {
                        self.v6.push((first, last));
                    }
                }
            }
        }
    }
}

/// A prefix as the trie wants it: address bits and length.
#[derive(Clone, Copy, Debug)]
struct Key<R>(R, u8);

impl Prefix for Key<u32> {
    type R = u32;
    fn repr(&self) -> u32 {
        self.0
    }
    fn prefix_len(&self) -> u8 {
        self.1
    }
    fn from_repr_len(repr: u32, len: u8) -> Self {
        Self(repr, len)
    }
}

impl Prefix for Key<u128> {
    type R = u128;
    fn repr(&self) -> u128 {
        self.0
    }
    fn prefix_len(&self) -> u8 {
        self.1
    }
    fn from_repr_len(repr: u128, len: u8) -> Self {
        Self(repr, len)
    }
}

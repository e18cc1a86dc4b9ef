//! Where destinations were found when they were last looked up: one data thread's own memory in front of the
//! longest match, which costs ten times as much.
//!
//! A line says at which place an address has its entry, and of which generation of the tables that is true.
//! Thereby nothing has to be told to forget anything: where a prefix comes or goes, the generation is another
//! one, and no line fits any more; where an entry is replaced, as when a locator is no longer reachable, the
//! place has the new one. What has no entry is not remembered.

use std::net::IpAddr;

use super::{Entry, InstanceFib};

/// A bounded memory of lookups. It begins with 8 KiB and grows with the number of destinations in use, up to
/// [`Self::MAX_BYTES`].
///
/// Lines are in sets of four (IPv6: two), of which a new line takes one that is out of date or, where all are
/// in use, always the first; a line that is found there changes places with another one. So a scan of many
/// addresses, each of them once, drives out other scans, and not what is in steady use.
#[derive(Clone, Debug)]
pub struct LookupCache {
    v4: Sets<u32, 4>,
    v6: Sets<u128, 2>,
}

/// Sets of each family at first, and at most: powers of two.
const FIRST_SETS: usize = 64;
const MAX_SETS: usize = 1 << 15;

impl LookupCache {
    /// Most bytes of memory that one takes: 4 MiB, half of it for each family.
    pub const MAX_BYTES: usize = MAX_SETS * (size_of::<Set<u32, 4>>() + size_of::<Set<u128, 2>>());

    /// One that knows nothing.
    pub fn new() -> Self {
        Self { v4: Sets::new(FIRST_SETS), v6: Sets::new(FIRST_SETS) }
    }

    /// What [`InstanceFib::lookup`] gives. `fib` may be any instance's, of any time.
    #[inline]
    pub fn lookup<'a>(&mut self, fib: &'a InstanceFib, address: &IpAddr) -> Option<&'a Entry> {
        let generation = fib.generation();
        let place = match address {
            IpAddr::V4(a) => {
                let (bits, hash) = (a.to_bits(), hash_v4(a.to_bits()));
                match self.v4.find(bits, hash, generation) {
                    Some(place) => place,
                    None => self.v4.keep(bits, hash, generation, fib.place_v4(bits)?),
                }
            }
            IpAddr::V6(a) => {
                let (bits, hash) = (a.to_bits(), hash_v6(a.to_bits()));
                match self.v6.find(bits, hash, generation) {
                    Some(place) => place,
                    None => self.v6.keep(bits, hash, generation, fib.place_v6(bits)?),
                }
            }
        };
        fib.entry(place)
    }

    /// The same for the bits of an IPv4 address, if [`lookup`](Self::lookup) found it before and it is
    /// remembered.
    #[inline(always)]
    pub fn known_v4<'a>(&mut self, fib: &'a InstanceFib, address: u32) -> Option<&'a Entry> {
        fib.entry(self.v4.find(address, hash_v4(address), fib.generation())?)
    }

    /// The same for the bits of an IPv6 address.
    #[inline]
    pub fn known_v6<'a>(&mut self, fib: &'a InstanceFib, address: u128) -> Option<&'a Entry> {
        fib.entry(self.v6.find(address, hash_v6(address), fib.generation())?)
    }

    /// Bytes of memory that it takes now.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.v4.sets) + size_of_val(&*self.v6.sets)
    }
}

impl Default for LookupCache {
    fn default() -> Self {
        Self::new()
    }
}

/// Odd, and without pattern: the upper bits of a product with it depend on all bits of the other factor.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
const fn hash_v4(address: u32) -> u64 {
    (address as u64).wrapping_mul(FACTOR)
}

#[inline]
const fn hash_v6(address: u128) -> u64 {
    let high = (address >> 64) as u64;
    (high.wrapping_mul(FACTOR).rotate_left(32) ^ address as u64).wrapping_mul(FACTOR)
}

#[derive(Clone, Debug)]
struct Sets<K, const N: usize> {
    sets: Box<[Set<K, N>]>,
    /// The upper bits of a hash that say which set.
    shift: u32,
    /// Lines that were driven out though not out of date, since the last growth.
    driven_out: usize,
    /// Which line the next one that is found in the first place changes places with.
    next: usize,
}

/// One cache line of the processor. Generation 0 is never a FIB's: an empty line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Set<K, const N: usize> {
    generation: [u64; N],
    key: [K; N],
    place: [u32; N],
}

impl<K: Copy + Default, const N: usize> Set<K, N> {
    fn empty() -> Self {
        Self { generation: [0; N], key: [K::default(); N], place: [0; N] }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.generation.swap(a, b);
        self.key.swap(a, b);
        self.place.swap(a, b);
    }
}

impl<K: Copy + Default + Eq, const N: usize> Sets<K, N> {
    fn new(count: usize) -> Self {
        Self {
            sets: vec![Set::empty(); count].into_boxed_slice(),
            shift: 64 - count.trailing_zeros(),
            driven_out: 0,
            next: 0,
        }
    }

    #[inline]
    fn set(&mut self, hash: u64) -> Option<&mut Set<K, N>> {
        self.sets.get_mut((hash >> self.shift) as usize)
    }

    #[inline(always)]
    fn find(&mut self, key: K, hash: u64, generation: u64) -> Option<u32> {
        let set = self.set(hash)?;
        // All lines are looked at, without a branch for each: which one it is can't be foretold.
        let mut found = 0;
        for i in 0..N {
            found |= u32::from((set.generation[i] == generation) & (set.key[i] == key)) << i;
        }
        let place = *set.place.get(found.trailing_zeros() as usize)?;
        if found & 1 != 0 {
            self.promote(hash, generation);
        }
        Some(place)
    }

    /// The first line of a set was found: it changes places with one that is out of date, else with any.
    #[inline(never)]
    fn promote(&mut self, hash: u64, generation: u64) {
        self.next = self.next % (N - 1) + 1;
        let next = self.next;
        let Some(set) = self.set(hash) else { return };
        let old = (1..N).find(|&i| set.generation[i] != generation);
        set.swap(0, old.unwrap_or(next));
    }

    /// Remembers a place, and gives it back.
    fn keep(&mut self, key: K, hash: u64, generation: u64, place: u32) -> u32 {
        if self.driven_out > self.sets.len() && self.sets.len() < MAX_SETS {
            *self = Self::new((self.sets.len() * 4).min(MAX_SETS));
        }
        let Some(set) = self.set(hash) else { return place };
        let old = (0..N).find(|&i| set.generation[i] != generation);
        let at = old.unwrap_or(0);
        (set.generation[at], set.key[at], set.place[at]) = (generation, key, place);
        self.driven_out += usize::from(old.is_none());
        place
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::Arc;

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;
    use crate::fib::{EntryAction, FibAction, FibReader, FibUpdate, FibWriter, Path, Proxy, Stats};
    use crate::types::{Action, EidPrefix, InstanceId};

    fn iid(n: u32) -> InstanceId {
        InstanceId::new(n).unwrap()
    }

    fn prefix(n: u32, s: &str) -> EidPrefix {
        EidPrefix::new(iid(n), s.parse::<IpNet>().unwrap())
    }

    fn forward(rloc: &str) -> FibAction {
        let path = Path {
            rloc: rloc.parse().unwrap(),
            source: "192.0.2.1".parse().unwrap(),
            priority: 1,
            weight: 100,
            stats: Arc::default(),
        };
        FibAction::Forward(vec![path])
    }

    fn set(fib: &mut FibWriter, prefix: EidPrefix, action: FibAction) -> Arc<Stats> {
        let stats = Arc::new(Stats::default());
        fib.apply(FibUpdate::Set { prefix, action, stats: Arc::clone(&stats) });
        fib.publish();
        stats
    }

    /// What the cache says, having seen that the tables say the same: the first locator, or the action.
    fn ask(cache: &mut LookupCache, reader: &FibReader, n: u32, address: IpAddr) -> Option<String> {
        let guard = reader.enter().unwrap();
        let fib = guard.instance(iid(n))?;
        let want = fib.lookup(&address).map(std::ptr::from_ref);
        let entry = cache.lookup(fib, &address);
        assert_eq!(entry.map(std::ptr::from_ref), want, "{address} in {n}");
        Some(match &entry?.action {
            EntryAction::Forward(choice) => choice.path(0)?.way.rloc.to_string(),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn every_kind_of_change_shows_at_once() {
        let mut fib = crate::fib::new(16);
        let reader = fib.reader();
        let mut cache = LookupCache::new();
        let address: IpAddr = "10.1.2.3".parse().unwrap();
        // Twice: what was found is then remembered.
        let mut now = || [(); 2].map(|()| ask(&mut cache, &reader, 0, address))[1].clone();
        assert_eq!(now(), None);
        set(&mut fib, prefix(0, "10.0.0.0/8"), forward("203.0.113.1"));
        assert_eq!(now().unwrap(), "203.0.113.1");
        set(&mut fib, prefix(0, "10.1.0.0/16"), forward("203.0.113.2"));
        assert_eq!(now().unwrap(), "203.0.113.2", "a longer prefix");
        set(&mut fib, prefix(0, "10.1.0.0/16"), forward("203.0.113.3"));
        assert_eq!(now().unwrap(), "203.0.113.3", "another locator");
        set(&mut fib, prefix(0, "10.1.0.0/16"), FibAction::Negative(Action::Drop));
        assert_eq!(now().unwrap(), "Negative(Drop)");
        set(&mut fib, prefix(0, "10.1.0.0/16"), FibAction::Local);
        assert_eq!(now().unwrap(), "Local");
        fib.apply(FibUpdate::Remove { prefix: prefix(0, "10.1.0.0/16") });
        assert_eq!(now().unwrap(), "Local", "not published yet");
        fib.publish();
        assert_eq!(now().unwrap(), "203.0.113.1", "the shorter one again");
        // Its place goes to another prefix.
        set(&mut fib, prefix(0, "192.168.0.0/16"), forward("203.0.113.4"));
        assert_eq!(now().unwrap(), "203.0.113.1");
        // Changes of one batch that leave as many prefixes as before.
        fib.apply(FibUpdate::Remove { prefix: prefix(0, "10.0.0.0/8") });
        set(&mut fib, prefix(0, "10.1.2.0/24"), forward("203.0.113.5"));
        assert_eq!(now().unwrap(), "203.0.113.5");
        fib.apply(FibUpdate::Proxy { prefix: prefix(0, "10.0.0.0/8"), proxy: Proxy::Ingress, present: true });
        fib.apply(FibUpdate::Remove { prefix: prefix(0, "10.1.2.0/24") });
        fib.publish();
        assert_eq!(now(), None);
    }

    #[test]
    fn instances_families_and_fibs_are_kept_apart() {
        let mut cache = LookupCache::new();
        for round in 0..3 {
            let mut fib = crate::fib::new(16);
            let reader = fib.reader();
            for n in 0..3 {
                set(&mut fib, prefix(n, "10.0.0.0/8"), forward(&format!("203.0.113.{}", n + 10 * round)));
            }
            set(&mut fib, prefix(0, "::/0"), FibAction::Negative(Action::Drop));
            for _ in 0..4 {
                for n in 0..3 {
                    let found = ask(&mut cache, &reader, n, Ipv4Addr::from_bits(0x0a00_0001).into());
                    assert_eq!(found.unwrap(), format!("203.0.113.{}", n + 10 * round));
                }
                let found = ask(&mut cache, &reader, 0, Ipv6Addr::from_bits(0x0a00_0001).into());
                assert_eq!(found.unwrap(), "Negative(Drop)");
            }
        }
    }

    /// How many of the addresses it remembers.
    fn kept(cache: &LookupCache, reader: &FibReader, addresses: impl Iterator<Item = u32>) -> usize {
        let guard = reader.enter().unwrap();
        let generation = guard.instance(iid(0)).unwrap().generation();
        let mut cache = cache.clone();
        addresses.filter(|&a| cache.v4.find(a, hash_v4(a), generation).is_some()).count()
    }

    #[test]
    fn a_scan_drives_out_itself_and_memory_is_bounded() {
        let mut fib = crate::fib::new(16);
        let reader = fib.reader();
        set(&mut fib, prefix(0, "0.0.0.0/0"), forward("203.0.113.1"));
        set(&mut fib, prefix(0, "::/0"), forward("203.0.113.1"));
        let mut cache = LookupCache::new();
        let guard = reader.enter().unwrap();
        let table = guard.instance(iid(0)).unwrap();
        assert_eq!(cache.bytes(), 8 << 10);
        let use_all = |cache: &mut LookupCache, addresses: std::ops::Range<u32>| {
            for a in addresses {
                assert!(cache.lookup(table, &Ipv4Addr::from_bits(a).into()).is_some());
                assert!(cache.lookup(table, &Ipv6Addr::from_bits(a.into()).into()).is_some());
            }
        };
        let steady = 0x0a00_0000..0x0a00_0800;
        // Grown to its full size by a scan first, which then is what is driven out.
        use_all(&mut cache, 0x1000_0000..0x1008_0000);
        assert_eq!(cache.bytes(), LookupCache::MAX_BYTES);
        (0..4).for_each(|_| use_all(&mut cache, steady.clone()));
        assert!(kept(&cache, &reader, steady.clone()) > 1900);
        use_all(&mut cache, 0x2000_0000..0x2010_0000);
        let left = kept(&cache, &reader, steady);
        assert!(left > 1900, "{left}");
        assert_eq!(cache.bytes(), LookupCache::MAX_BYTES);
    }

    #[test]
    fn what_is_in_use_all_fits_in_the_end() {
        let mut fib = crate::fib::new(16);
        let reader = fib.reader();
        set(&mut fib, prefix(0, "0.0.0.0/0"), forward("203.0.113.1"));
        let mut cache = LookupCache::new();
        let guard = reader.enter().unwrap();
        let table = guard.instance(iid(0)).unwrap();
        for _ in 0..8 {
            for n in 0..20_000u32 {
                cache.lookup(table, &Ipv4Addr::from_bits(n.wrapping_mul(0x0101_6b2f)).into());
            }
        }
        let found = kept(&cache, &reader, (0..20_000u32).map(|n| n.wrapping_mul(0x0101_6b2f)));
        assert!(found > 19_000, "{found}");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u32, u8, bool),
        Remove(u32, u32, u8, bool),
        Publish,
        Ask(u32, u32, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u32..2, 0u32..16, 0u8..5, any::<bool>())
                .prop_map(|(n, a, l, six)| Step::Set(n, a, l, six)),
            2 => (0u32..2, 0u32..16, 0u8..5, any::<bool>())
                .prop_map(|(n, a, l, six)| Step::Remove(n, a, l, six)),
            2 => Just(Step::Publish),
            8 => (0u32..2, 0u32..16, any::<bool>()).prop_map(|(n, a, six)| Step::Ask(n, a, six)),
        ]
    }

    fn address(a: u32, six: bool) -> IpAddr {
        if six { Ipv6Addr::from_bits(a.into()).into() } else { Ipv4Addr::from_bits(a).into() }
    }

    proptest! {
        /// Whatever changes, in whatever portions it is published, the cache says what the tables say.
        #[test]
        fn it_says_what_the_tables_say(steps in proptest::collection::vec(step(), 0..200)) {
            let mut fib = crate::fib::new(16);
            let reader = fib.reader();
            let mut cache = LookupCache::new();
            let within = |n, a, len: u8, six| {
                let len = if six { 124 + len } else { 28 + len };
                EidPrefix::new(iid(n), IpNet::new(address(a, six), len).unwrap().trunc())
            };
            for (i, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Set(n, a, len, six) => {
                        let action = forward(&Ipv4Addr::from_bits(0xcb00_7100 + i as u32).to_string());
                        let prefix = within(n, a, len, six);
                        fib.apply(FibUpdate::Set { prefix, action, stats: Arc::default() });
                    }
                    Step::Remove(n, a, len, six) => {
                        fib.apply(FibUpdate::Remove { prefix: within(n, a, len, six) });
                    }
                    Step::Publish => fib.publish(),
                    Step::Ask(n, a, six) => drop(ask(&mut cache, &reader, n, address(a, six))),
                }
            }
        }
    }
}

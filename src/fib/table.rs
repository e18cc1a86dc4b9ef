//! The tables, and how they are changed under the readers' eyes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use left_right::{Absorb, ReadGuard, ReadHandle, WriteHandle};
use smallvec::SmallVec;

use super::choice::seed;
use super::pending::Pending;
use super::site::EchoRequest;
use super::{Choice, Dynamic, FibAction, FibUpdate, HeaderOptions, InstanceFib, Miss, Proxy, Site, Stats};
use crate::types::{Action, Eid, EidPrefix, InstanceId, Instant, Rloc};

/// An entry of the FIB. Both copies of the tables have it, so it is small, and what it counts is shared. Two of
/// them are in a cache line, and none across two.
#[derive(Clone, Debug)]
#[repr(align(32))]
pub struct Entry {
    /// What happens to packets.
    pub action: EntryAction,
    /// Counters.
    pub stats: Arc<Stats>,
}

const _: () = assert!(size_of::<Option<Entry>>() == 32);

/// [`FibAction`], prepared for the data plane.
#[derive(Clone, Debug)]
pub enum EntryAction {
    /// Encapsulate.
    Forward(Choice),
    /// There are no locators.
    Negative(Action),
    /// One of the site's own prefixes.
    Local,
}

/// The way to a remote locator from one of ours, shared by all entries that take it. A cache line of its own:
/// every packet reads it, and the count of who shares it, which the writer changes, is beside it.
#[derive(Debug)]
#[repr(align(64))]
pub struct Way {
    /// Outer destination.
    pub rloc: Rloc,
    /// Outer source.
    pub source: Rloc,
    /// What makes the draws of different locators differ for one flow.
    pub(super) seed: u64,
    mtu: AtomicU16,
    echo: EchoRequest,
}

impl Way {
    /// Without a known limit.
    pub fn new(rloc: Rloc, source: Rloc) -> Self {
        Self { rloc, source, seed: seed(&rloc), mtu: AtomicU16::new(0), echo: EchoRequest::default() }
    }

    /// The nonce whose echo packets ask for at the moment, if any.
    #[inline]
    pub fn ask_echo(&self) -> Option<u32> {
        self.echo.ask()
    }

    /// Whether it is time to tell the control plane that no echo was asked for in `interval`. It then counts
    /// as told.
    #[inline]
    pub fn echo_due(&self, now: Instant, interval: Duration) -> bool {
        self.echo.due(now, interval)
    }

    /// The largest datagram in bytes, outer headers included, if a limit is known.
    #[inline]
    pub fn mtu(&self) -> Option<u16> {
        Some(self.mtu.load(Ordering::Relaxed)).filter(|&mtu| mtu != 0)
    }
}

/// The smallest path MTU that is believed: no IPv4 link of today has less, and IPv6 guarantees 1280 (RFC 8200
/// §5). A forged ICMP error must not be able to cut traffic to crumbs.
const MIN_MTU_V4: u16 = 576;
const MIN_MTU_V6: u16 = 1280;

/// All ways, by remote locator.
type Ways = Arc<DashMap<Rloc, Remote>>;

/// The nonces that are to be echoed, each with the locator that it was sent to.
type Echoes = Arc<DashMap<u32, Rloc>>;

/// Sources that were punted and may be again once they have aged: few, so that forged ones don't keep the
/// control plane busy.
const UNVERIFIED: usize = 256;

/// What is known of a remote locator.
#[derive(Debug, Default)]
struct Remote {
    /// As in [`Way`], 0 = no limit is known.
    mtu: u16,
    /// The nonce that it is to echo.
    nonce: Option<u32>,
    /// One for each of our locators that it is reached from.
    ways: SmallVec<[Arc<Way>; 1]>,
}

impl Remote {
    fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.ways.iter().for_each(|way| way.mtu.store(mtu, Ordering::Relaxed));
    }
}

/// The FIB with nothing in it: its writing side, from which reading sides are had. `pending_limit` is how
/// many destinations may be waiting for the control plane.
pub fn new(pending_limit: usize) -> FibWriter {
    // The tables of several FIBs in one process have no generation in common either.
    static FIBS: AtomicU64 = AtomicU64::new(0);
    let generations = FIBS.fetch_add(1 << 48, Ordering::Relaxed);
    let (handle, reader) =
        left_right::new_from_empty::<Tables, Op>(Tables { generations, ..Tables::default() });
    FibWriter {
        handle,
        reader: FibReader {
            handle: reader,
            pending: Arc::new(Pending::new(pending_limit)),
            unverified: Arc::new(Pending::new(UNVERIFIED)),
            moving: Arc::new(Pending::new(UNVERIFIED)),
            ways: Ways::default(),
            echoes: Echoes::default(),
        },
        remotes_kept: 64,
        changed: false,
    }
}

/// The control plane's side. Updates become visible at [`FibWriter::publish`], except a path MTU, which takes
/// effect at once.
pub struct FibWriter {
    handle: WriteHandle<Tables, Op>,
    reader: FibReader,
    /// When so many remote locators are known, those that no entry uses are forgotten.
    remotes_kept: usize,
    changed: bool,
}

impl FibWriter {
    /// Adds an update to those that the next [`FibWriter::publish`] makes visible.
    pub fn apply(&mut self, update: FibUpdate) {
        match update {
            FibUpdate::Set { prefix, action, stats } => {
                let action = match action {
                    FibAction::Forward(paths) => {
                        EntryAction::Forward(Choice::new(paths, |rloc, source| self.way(rloc, source)))
                    }
                    FibAction::Negative(action) => EntryAction::Negative(action),
                    FibAction::Local => EntryAction::Local,
                };
                self.append(Op::Entry(prefix, Some(Entry { action, stats })));
                self.reader.pending.clear_covered(&prefix);
            }
            FibUpdate::Remove { prefix } => {
                self.append(Op::Entry(prefix, None));
            }
            FibUpdate::Proxy { prefix, proxy, present } => {
                self.append(Op::Proxy(prefix, proxy, present));
            }
            FibUpdate::Dynamic { prefix, what, present } => {
                self.append(Op::Dynamic(prefix, what, present));
            }
            FibUpdate::PathMtu { rloc, mtu } => {
                let mtu = mtu.map_or(0, |mtu| mtu.max(min_mtu(&rloc)));
                self.forget_unused();
                self.reader.ways.entry(rloc).or_default().set_mtu(mtu);
            }
            FibUpdate::Unpend { eid } => self.reader.pending.clear(&eid),
            FibUpdate::Options(options) => self.append(Op::Options(options)),
            FibUpdate::Site { prefix, site } => self.append(Op::Site(prefix, site)),
            FibUpdate::EchoRequest { rloc, nonce } => self.request_echo(rloc, nonce),
        }
    }

    fn append(&mut self, op: Op) {
        self.handle.append(op);
        self.changed = true;
    }

    fn request_echo(&self, rloc: Rloc, nonce: Option<u32>) {
        let Some(mut remote) = self.reader.ways.get_mut(&rloc) else { return };
        let old = std::mem::replace(&mut remote.nonce, nonce);
        remote.ways.iter().for_each(|way| way.echo.set(nonce));
        drop(remote);
        if let Some(old) = old {
            self.reader.echoes.remove(&old);
        }
        if let Some(nonce) = nonce {
            self.reader.echoes.insert(nonce, rloc);
        }
    }

    /// Makes all updates so far visible. Waits until no reader is in the middle of a batch that began before
    /// the previous call: call it once per turn of the control loop, not once per update. Costs nothing if
    /// nothing changed.
    pub fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.handle.publish();
        }
    }

    /// A reading side, for one thread; it can be cloned for others.
    pub fn reader(&self) -> FibReader {
        self.reader.clone()
    }

    fn way(&mut self, rloc: Rloc, source: Rloc) -> Arc<Way> {
        let known = |remote: &Remote| remote.ways.iter().find(|w| w.source == source).cloned();
        if let Some(way) = self.reader.ways.get(&rloc).and_then(|remote| known(&remote)) {
            return way;
        }
        self.forget_unused();
        let way = Arc::new(Way::new(rloc, source));
        let mut remote = self.reader.ways.entry(rloc).or_default();
        way.mtu.store(remote.mtu, Ordering::Relaxed);
        way.echo.set(remote.nonce);
        remote.ways.push(Arc::clone(&way));
        way
    }

    fn forget_unused(&mut self) {
        let ways = &self.reader.ways;
        if ways.len() < self.remotes_kept {
            return;
        }
        ways.retain(|_, remote| {
            remote.ways.retain(|way| Arc::strong_count(way) > 1);
            !remote.ways.is_empty() || remote.mtu != 0 || remote.nonce.is_some()
        });
        // Twice what is in use, so that forgetting costs each new one a constant only.
        self.remotes_kept = (ways.len() * 2).max(64);
    }
}

impl std::fmt::Debug for FibWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FibWriter").finish_non_exhaustive()
    }
}

fn min_mtu(rloc: &Rloc) -> u16 {
    if rloc.is_ipv4() { MIN_MTU_V4 } else { MIN_MTU_V6 }
}

/// A data thread's side of the FIB. Entering it is wait-free.
#[derive(Clone, Debug)]
pub struct FibReader {
    handle: ReadHandle<Tables>,
    pending: Arc<Pending>,
    unverified: Arc<Pending>,
    /// New sources, and who was redirected.
    moving: Arc<Pending>,
    ways: Ways,
    echoes: Echoes,
}

impl FibReader {
    /// The tables as they are, for the length of one batch: the writer waits for the guard to go. `None` once
    /// the writer is gone.
    #[inline]
    pub fn enter(&self) -> Option<FibGuard<'_>> {
        self.handle.enter().map(|tables| FibGuard { tables, reader: self })
    }

    /// What to do about a packet to `eid`, which has no entry. After [`Miss::Punt`] the destination counts as
    /// punted; if the punt could not be delivered, take it back by [`FibReader::unpend`].
    pub fn miss(&self, eid: Eid, now: Instant) -> Miss {
        self.pending.miss(eid, now)
    }

    /// Whether the control plane is to be told that `source`, which is watched, sends. It then counts as
    /// told, for some seconds.
    pub fn is_new_source(&self, source: Eid, now: Instant) -> bool {
        self.moving.miss(source, now) == Miss::Punt
    }

    /// Forgets that `eid` was punted.
    pub fn unpend(&self, eid: &Eid) {
        self.pending.clear(eid);
    }

    /// Whether `rloc` is a locator that packets are sent to.
    pub fn knows(&self, rloc: &Rloc) -> bool {
        self.ways.get(rloc).is_some_and(|remote| !remote.ways.is_empty())
    }

    /// The largest datagram to a locator in bytes, outer headers included, if a limit is known.
    pub fn path_mtu(&self, rloc: &Rloc) -> Option<u16> {
        Some(self.ways.get(rloc)?.mtu).filter(|&mtu| mtu != 0)
    }

    /// Lowers the path MTU of a locator that packets are sent to, at once, and gives what it is now; `None`
    /// if the locator is unknown or its MTU is no higher already. Only the control plane raises it again.
    pub fn lower_mtu(&self, rloc: &Rloc, mtu: u16) -> Option<u16> {
        let mut remote = self.ways.get_mut(rloc)?;
        let mtu = mtu.max(min_mtu(rloc));
        let lower = !remote.ways.is_empty() && (remote.mtu == 0 || mtu < remote.mtu);
        lower.then(|| {
            remote.set_mtu(mtu);
            mtu
        })
    }
}

/// The tables for the length of a batch.
#[derive(Debug)]
pub struct FibGuard<'a> {
    tables: ReadGuard<'a, Tables>,
    reader: &'a FibReader,
}

impl FibGuard<'_> {
    /// The table of an instance; `None` if it has no entry at all.
    #[inline]
    pub fn instance(&self, iid: InstanceId) -> Option<&InstanceFib> {
        self.tables.instances.iter().find(|(id, _)| *id == iid).map(|(_, fib)| fib)
    }

    /// What LISP headers say, where they say anything but the instance.
    #[inline]
    pub fn header_options(&self) -> Option<&HeaderOptions> {
        self.tables.sends.then_some(&self.tables.options)
    }

    /// Which checks received packets have to pass, where there are any.
    #[inline]
    pub fn checks(&self) -> Option<&HeaderOptions> {
        self.tables.checks.then_some(&self.tables.options)
    }

    /// Whether the control plane is to be told of a source that no entry covers. It then counts as told, for
    /// some seconds.
    pub fn is_unverified(&self, source: Eid, now: Instant) -> bool {
        self.reader.unverified.miss(source, now) == Miss::Punt
    }

    /// Whether the control plane is to be told that `rloc` sends to an EID of this instance that is away. It
    /// then counts as told, for some seconds.
    pub fn is_redirected(&self, iid: InstanceId, rloc: Rloc, now: Instant) -> bool {
        self.reader.moving.miss(Eid::new(iid, rloc), now) == Miss::Punt
    }

    /// The locator that was asked for an echo of `nonce`, if it was and has not answered before.
    pub fn echoed(&self, nonce: u32) -> Option<Rloc> {
        self.reader.echoes.remove(&nonce).map(|(_, rloc)| rloc)
    }
}

/// One of the two copies that readers and writer exchange.
#[derive(Clone, Debug, Default)]
struct Tables {
    options: HeaderOptions,
    /// [`HeaderOptions::sends`] and [`HeaderOptions::any`] of these, which every packet asks for.
    sends: bool,
    checks: bool,
    instances: Vec<(InstanceId, InstanceFib)>,
    /// The last generation that any instance had.
    generations: u64,
}

/// A change, applied to each copy.
#[derive(Clone)]
enum Op {
    /// Set (with an entry) or remove (without) the entry of a prefix.
    Entry(EidPrefix, Option<Entry>),
    /// Be a proxy for a prefix, or no longer.
    Proxy(EidPrefix, Proxy, bool),
    /// Treat a prefix as one that may move, or no longer.
    Dynamic(EidPrefix, Dynamic, bool),
    /// Say what is known of the site of a prefix.
    Site(EidPrefix, Arc<Site>),
    Options(HeaderOptions),
}

impl Tables {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Entry(prefix, None) => {
                if let Some((_, fib)) = self.instances.iter_mut().find(|(iid, _)| *iid == prefix.iid) {
                    fib.set(prefix.net, None, &mut self.generations);
                }
            }
            Op::Entry(prefix, entry) => {
                let mut generations = self.generations;
                self.instance(prefix.iid).set(prefix.net, entry, &mut generations);
                self.generations = generations;
            }
            Op::Proxy(prefix, proxy, present) => {
                self.instance(prefix.iid).set_proxy(prefix.net, proxy, present);
            }
            Op::Dynamic(prefix, what, present) => {
                self.instance(prefix.iid).set_dynamic(prefix.net, what, present);
            }
            Op::Site(prefix, site) => self.instance(prefix.iid).set_site(prefix.net, Some(site)),
            Op::Options(options) => {
                self.options = options;
                (self.sends, self.checks) = (options.sends(), options.any());
                if !options.any() {
                    for (_, fib) in &mut self.instances {
                        fib.clear_sites();
                    }
                }
            }
        }
    }

    fn instance(&mut self, iid: InstanceId) -> &mut InstanceFib {
        let at = self.instances.iter().position(|(id, _)| *id == iid).unwrap_or_else(|| {
            self.instances.push((iid, InstanceFib::default()));
            self.instances.len() - 1
        });
        &mut self.instances[at].1
    }
}

impl Absorb<Op> for Tables {
    fn absorb_first(&mut self, op: &mut Op, _: &Self) {
        self.apply(op.clone());
    }

    fn absorb_second(&mut self, op: Op, _: &Self) {
        self.apply(op);
    }

    fn sync_with(&mut self, first: &Self) {
        self.clone_from(first);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;
    use crate::fib::Path;

    fn prefix(s: &str) -> EidPrefix {
        EidPrefix::from(s.parse::<IpNet>().unwrap())
    }

    fn set(s: &str, action: FibAction) -> FibUpdate {
        FibUpdate::Set { prefix: prefix(s), action, stats: Arc::default() }
    }

    fn forward(rloc: &str) -> FibAction {
        FibAction::Forward(vec![Path {
            rloc: rloc.parse().unwrap(),
            source: if rloc.contains(':') { "2001:db8::1" } else { "192.0.2.1" }.parse().unwrap(),
            priority: 1,
            weight: 100,
            stats: Arc::default(),
        }])
    }

    fn rloc_of(reader: &FibReader, address: &str) -> Option<String> {
        let guard = reader.enter().unwrap();
        match &guard.instance(InstanceId::DEFAULT)?.lookup(&address.parse().unwrap())?.action {
            EntryAction::Forward(choice) => Some(choice.path(0)?.way.rloc.to_string()),
            other => Some(format!("{other:?}")),
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_updates_show_when_published() {
        let mut fib = new(16);
        let reader = fib.reader();
        fib.apply(set("10.0.0.0/8", forward("203.0.113.1")));
        fib.apply(set("10.1.0.0/16", forward("203.0.113.2")));
        fib.apply(set("2001:db8::/32", forward("2001:db8:f::1")));
        assert_eq!(rloc_of(&reader, "10.1.2.3"), None);
        fib.publish();
        assert_eq!(rloc_of(&reader, "10.1.2.3").unwrap(), "203.0.113.2");
        assert_eq!(rloc_of(&reader, "10.2.2.3").unwrap(), "203.0.113.1");
        assert_eq!(rloc_of(&reader, "2001:db8::5").unwrap(), "2001:db8:f::1");
        assert_eq!(rloc_of(&reader, "11.0.0.1"), None);
        for round in 0..3 {
            fib.apply(FibUpdate::Remove { prefix: prefix("10.1.0.0/16") });
            fib.apply(set("10.0.0.0/8", FibAction::Negative(Action::Drop)));
            fib.publish();
            assert_eq!(rloc_of(&reader, "10.1.2.3").unwrap(), "Negative(Drop)", "{round}");
            fib.apply(set("10.1.0.0/16", forward("203.0.113.3")));
            fib.publish();
            assert_eq!(rloc_of(&reader, "10.1.2.3").unwrap(), "203.0.113.3", "{round}");
        }
        drop(fib);
        assert!(reader.enter().is_none());
    }

    #[test]
    fn local_prefixes_are_known_whatever_lies_within_them() {
        let mut fib = new(16);
        let reader = fib.reader();
        let is_local = |s: &str| {
            reader
                .enter()
                .unwrap()
                .instance(InstanceId::DEFAULT)
                .is_some_and(|f| f.is_local(&s.parse().unwrap()))
        };
        for p in ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/24", "192.168.1.0/24", "2001:db8::/32"] {
            fib.apply(set(p, FibAction::Local));
        }
        fib.apply(set("10.2.0.0/16", forward("203.0.113.2")));
        fib.publish();
        for a in ["10.0.0.0", "10.255.255.255", "10.1.2.3", "10.2.0.1", "192.168.1.255", "2001:db8:ffff::"] {
            assert!(is_local(a), "{a}");
        }
        for a in ["9.255.255.255", "11.0.0.0", "192.168.2.0", "2001:db9::", "::"] {
            assert!(!is_local(a), "{a}");
        }
        fib.apply(FibUpdate::Remove { prefix: prefix("10.0.0.0/8") });
        fib.apply(set("2001:db8::/32", forward("2001:db8:f::1")));
        fib.publish();
        assert!(is_local("10.1.2.3") && !is_local("10.2.0.1") && !is_local("2001:db8::1"));
    }

    #[test]
    fn proxies_are_told_apart_by_direction_and_from_the_entries() {
        let mut fib = new(16);
        let reader = fib.reader();
        let with = |f: &dyn Fn(&InstanceFib) -> bool| {
            reader.enter().unwrap().instance(InstanceId::DEFAULT).is_some_and(f)
        };
        let proxy = |p: &str, proxy, present| FibUpdate::Proxy { prefix: prefix(p), proxy, present };
        let address: IpAddr = "10.1.2.3".parse().unwrap();
        fib.apply(proxy("10.0.0.0/8", Proxy::Egress, false));
        fib.publish();
        assert!(!with(&|f| f.proxies_from(&address)) && !with(&InstanceFib::is_proxy_etr));
        fib.apply(proxy("10.0.0.0/8", Proxy::Ingress, true));
        fib.publish();
        assert!(with(&|f| f.proxies_to(&address) && !f.proxies_from(&address) && !f.is_proxy_etr()));
        fib.apply(proxy("10.0.0.0/8", Proxy::Egress, true));
        fib.apply(set("10.0.0.0/8", FibAction::Local));
        fib.apply(FibUpdate::Remove { prefix: prefix("10.0.0.0/8") });
        fib.publish();
        assert!(with(&|f| f.proxies_to(&address) && f.proxies_from(&address) && !f.is_local(&address)));
        fib.apply(proxy("10.0.0.0/8", Proxy::Ingress, false));
        fib.publish();
        assert!(with(&|f| !f.proxies_to(&address) && f.proxies_from(&address)));
        assert!(!with(&|f| f.proxies_from(&"11.0.0.1".parse().unwrap())));
    }

    #[test]
    fn a_path_mtu_takes_effect_at_once_for_every_entry_and_is_never_believed_too_small() {
        let mut fib = new(16);
        let reader = fib.reader();
        fib.apply(set("10.0.0.0/8", forward("203.0.113.1")));
        fib.apply(set("11.0.0.0/8", forward("203.0.113.1")));
        fib.publish();
        let rloc = "203.0.113.1".parse().unwrap();
        let mtu = |a: &str| {
            let guard = reader.enter().unwrap();
            match &guard.instance(InstanceId::DEFAULT).unwrap().lookup(&a.parse().unwrap()).unwrap().action {
                EntryAction::Forward(choice) => choice.path(0).unwrap().way.mtu(),
                _ => None,
            }
        };
        assert_eq!((mtu("10.0.0.1"), mtu("11.0.0.1")), (None, None));
        fib.apply(FibUpdate::PathMtu { rloc, mtu: Some(1400) });
        assert_eq!((mtu("10.0.0.1"), mtu("11.0.0.1")), (Some(1400), Some(1400)));
        assert_eq!(reader.lower_mtu(&rloc, 1450), None);
        assert_eq!(reader.lower_mtu(&rloc, 1300), Some(1300));
        assert_eq!(reader.lower_mtu(&rloc, 68), Some(576));
        assert_eq!(reader.lower_mtu(&"203.0.113.9".parse().unwrap(), 1300), None, "never sent there");
        fib.apply(FibUpdate::PathMtu { rloc, mtu: None });
        assert_eq!(mtu("10.0.0.1"), None);
    }

    #[test]
    fn a_covering_entry_or_an_unpend_allows_the_next_punt() {
        let mut fib = new(16);
        let reader = fib.reader();
        let eid = prefix("10.1.1.1/32").first();
        let now = Instant::from_secs(1);
        assert_eq!(reader.miss(eid, now), Miss::Punt);
        assert_eq!(reader.miss(eid, now), Miss::Pending);
        fib.apply(FibUpdate::Unpend { eid });
        assert_eq!(reader.miss(eid, now), Miss::Punt);
        fib.apply(set("10.0.0.0/8", FibAction::Negative(Action::SendMapRequest)));
        assert_eq!(reader.miss(eid, now), Miss::Punt);
    }

    #[test]
    fn locators_out_of_use_are_forgotten() {
        let mut fib = new(16);
        for i in 0..10_000u32 {
            fib.apply(set(
                "10.0.0.0/8",
                forward(&std::net::Ipv4Addr::from_bits(0x0a00_0000 + i).to_string()),
            ));
            if i % 10 == 0 {
                fib.publish();
            }
        }
        assert!(fib.reader.ways.len() < 300, "{}", fib.reader.ways.len());
    }

    proptest! {
        /// Both copies see every update, in whatever portions they are published.
        #[test]
        fn the_tables_equal_a_simple_model(
            ops in proptest::collection::vec((0u32..8, 0u8..4, any::<bool>(), any::<bool>()), 0..60)
        ) {
            let address_of = |bits: u32| std::net::Ipv4Addr::from_bits(bits).to_string();
            let mut fib = new(16);
            let reader = fib.reader();
            let mut model: std::collections::BTreeMap<(u32, u8), usize> = Default::default();
            for (i, (address, len, add, publish)) in ops.into_iter().enumerate() {
                let (len, bits) = (29 + len, address & !((1u32 << (3 - len)) - 1));
                let net = IpNet::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + bits).into(), len).unwrap();
                if add {
                    let (prefix, action) = (net.into(), FibAction::Local);
                    fib.apply(FibUpdate::Set { prefix, action, stats: Arc::default() });
                    fib.apply(set(&net.to_string(), forward(&address_of(i as u32))));
                    model.insert((bits, len), i);
                } else {
                    fib.apply(FibUpdate::Remove { prefix: net.into() });
                    model.remove(&(bits, len));
                }
                if publish {
                    fib.publish();
                    for a in 0..8u32 {
                        let of_len = |l: u8| model.get(&(a & !((1u32 << (32 - l)) - 1), l));
                        let want = (29..=32).rev().find_map(of_len).map(|&i| address_of(i as u32));
                        prop_assert_eq!(rloc_of(&reader, &address_of(0x0a00_0000 + a)), want);
                    }
                }
            }
        }
    }
}

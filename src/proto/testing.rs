//! A network of control planes in virtual time, for tests: seeded loss, delay, reordering and duplication.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::auth::{Algorithm, Key, Secret};
use crate::fib::{Dynamic, FibAction, FibUpdate, HeaderOptions, Proxy, Punt, Sender, Site, Stats};
use crate::types::{Action, Eid, EidPrefix, InstanceId, Instant, Locator, MapVersion, Mapping, Nonce, Ttl};
use crate::wire::{
    Ecm, EidRecord, MapNotify, MapRegister, MapReply, MapRequest, Message, SyncMapping, SyncRecord,
};

use super::config::*;
use super::context::CONTROL_PORT;
use super::control::{Command, ControlPlane, Input, LigAnswer, LigError, Output, Place, Transmit};
use super::eid_table::EidTable;
use super::event::Event;
use super::persist::{Change, Key as DiskKey, Record};
use super::stats::DropReason;

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    pub(crate) delay: (Duration, Duration),
}

impl Default for Faults {
    fn default() -> Self {
        Self { loss: 0.0, duplication: 0.0, delay: (Duration::from_millis(1), Duration::from_millis(1)) }
    }
}

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) faults: Faults,
    /// Larger datagrams, in bytes without headers, are lost.
    pub(crate) mtu: usize,
    /// Addresses that nothing is delivered to.
    pub(crate) dark: BTreeSet<IpAddr>,
    pub(crate) dns: BTreeMap<String, Vec<IpAddr>>,
    /// Every datagram that was sent, with its time, sender and decoded content.
    pub(crate) sent: Vec<(Instant, usize, Transmit, Message)>,
    flying: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sequence: u64,
    rng: StdRng,
}

pub(crate) struct Node {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) control: ControlPlane,
    pub(crate) fib: EidTable<(FibAction, Arc<Stats>)>,
    pub(crate) punted: BTreeSet<Eid>,
    pub(crate) natives: BTreeSet<EidPrefix>,
    /// Inside those, what is not.
    pub(crate) exceptions: BTreeSet<EidPrefix>,
    pub(crate) proxied: BTreeSet<(EidPrefix, bool)>,
    /// What may move: away, or else watched.
    pub(crate) dynamic: BTreeSet<(EidPrefix, bool)>,
    pub(crate) places: BTreeMap<EidPrefix, Place>,
    /// Hosts that were asked for their link-layer address.
    pub(crate) probes: Vec<(String, IpAddr)>,
    pub(crate) path_mtus: BTreeMap<IpAddr, u16>,
    pub(crate) options: HeaderOptions,
    pub(crate) sites: EidTable<Arc<Site>>,
    /// The nonces that packets to each locator ask for.
    pub(crate) nonces: BTreeMap<IpAddr, u32>,
    pub(crate) ligs: Vec<(u64, Result<LigAnswer, LigError>)>,
    pub(crate) events: Vec<Event>,
    /// What it has written down; `None` where it was not given a disk.
    pub(crate) disk: Option<BTreeMap<DiskKey, Record>>,
    /// Whether what it waits for reaches the disk.
    pub(crate) disk_works: bool,
    /// Who sent data packets to it lately.
    pub(crate) senders: Vec<Sender>,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_secs(1),
            nodes: Vec::new(),
            faults: Faults::default(),
            mtu: usize::MAX,
            dark: BTreeSet::new(),
            dns: BTreeMap::new(),
            sent: Vec::new(),
            flying: BTreeMap::new(),
            sequence: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Starts a router that has these underlay addresses, all on the interface `eth0`.
    pub(crate) fn add(&mut self, addresses: &[&str], config: ControlConfig) -> usize {
        let id = self.nodes.len();
        let rng = StdRng::seed_from_u64(self.rng.random());
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| ip(a)).collect();
        self.nodes.push(Node::new(ControlPlane::new(config, rng, nonce_base(self.now), self.now), addresses));
        self.announce(id);
        id
    }

    /// Kills a router and starts it again, empty.
    pub(crate) fn restart(&mut self, id: usize, config: ControlConfig) {
        self.power_cut_without_disk(id, config, nonce_base(self.now));
    }

    /// Gives a router that was just started a disk.
    pub(crate) fn give_disk(&mut self, id: usize) {
        self.nodes[id].disk = Some(BTreeMap::new());
        self.handle(id, Input::Restored(&[]));
    }

    /// Cuts a router's power and starts it again with what was on its disk, and with a wall clock that says
    /// `clock` to its nonces.
    pub(crate) fn power_cut(&mut self, id: usize, config: ControlConfig, clock: u64) {
        let disk = self.nodes[id].disk.clone().expect("a disk");
        let rng = StdRng::seed_from_u64(self.rng.random());
        let control = ControlPlane::new(config, rng, clock, self.now);
        self.nodes[id] = Node::new(control, self.nodes[id].addresses.clone());
        let records: Vec<Record> = disk.values().cloned().collect();
        self.nodes[id].disk = Some(disk);
        self.handle(id, Input::Restored(&records));
        self.announce(id);
    }

    /// The same without a disk.
    pub(crate) fn power_cut_without_disk(&mut self, id: usize, config: ControlConfig, clock: u64) {
        let rng = StdRng::seed_from_u64(self.rng.random());
        let control = ControlPlane::new(config, rng, clock, self.now);
        self.nodes[id] = Node::new(control, self.nodes[id].addresses.clone());
        self.announce(id);
    }

    /// Gives a router other underlay addresses.
    pub(crate) fn readdress(&mut self, id: usize, addresses: &[&str]) {
        self.nodes[id].addresses = addresses.iter().map(|a| ip(a)).collect();
        self.announce(id);
    }

    fn announce(&mut self, id: usize) {
        let addresses = self.nodes[id].addresses.clone();
        self.handle(id, Input::Interface { name: "eth0", addresses: &addresses });
    }

    pub(crate) fn handle(&mut self, id: usize, input: Input<'_>) {
        let now = self.now;
        self.nodes[id].control.handle(now, input);
        self.drain(id);
    }

    pub(crate) fn reload(&mut self, id: usize, config: ControlConfig) {
        let now = self.now;
        self.nodes[id].control.reload(config, now);
        self.drain(id);
    }

    pub(crate) fn lig(&mut self, id: usize, number: u64, eid: Eid, via: Option<IpAddr>) {
        self.handle(id, Input::Command(Command::Lig { id: number, eid, via }));
    }

    /// A packet from a host of the router's site: forwarded, dropped, or punted once, as a data plane does.
    pub(crate) fn packet(&mut self, id: usize, source: &str, destination: Eid) -> Option<FibAction> {
        let now = self.now;
        let node = &mut self.nodes[id];
        let found = node.fib.longest(&destination).map(|(_, (action, stats))| {
            stats.record(1, 100, now);
            action.clone()
        });
        let miss = matches!(&found, None | Some(FibAction::Negative(Action::SendMapRequest)));
        if miss && node.punted.insert(destination) {
            self.handle(id, Input::Punt(Punt::Miss { source: ip(source), destination }));
        }
        found
    }

    /// Hands a datagram to a router at once.
    pub(crate) fn deliver(&mut self, id: usize, source: &str, payload: &[u8]) {
        let destination = SocketAddr::new(self.nodes[id].addresses[0], CONTROL_PORT);
        let source = source.parse().unwrap();
        self.handle(id, Input::Datagram { source, destination, payload });
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done` holds, at most for `limit`; how long it took.
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + limit);
        loop {
            if done(self) {
                return Some(self.now.saturating_since(start));
            }
            if !self.step(end) {
                return None;
            }
        }
    }

    /// Does what happens next, if that is not after `end`.
    fn step(&mut self, end: Instant) -> bool {
        let datagram = self.flying.first_key_value().map(|((at, _), _)| *at);
        let timer = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(id, node)| Some((node.control.poll_timeout()?, id)))
            .min();
        let next = datagram.into_iter().chain(timer.map(|(at, _)| at)).min();
        let Some(next) = next.filter(|at| *at <= end) else { return false };
        assert!(next >= self.now || timer.is_some(), "time goes backwards");
        self.now = self.now.max(next);
        if let Some((at, id)) = timer
            && datagram.is_none_or(|d| at <= d)
        {
            let now = self.now;
            self.nodes[id].control.handle_timeout(now);
            let after = self.nodes[id].control.poll_timeout();
            assert!(after.is_none_or(|after| after > now), "a timer that is due stays due: {after:?}");
            self.drain(id);
        } else if let Some((_, (source, destination, payload))) = self.flying.pop_first() {
            let to = self.nodes.iter().position(|n| n.addresses.contains(&destination.ip()));
            if let Some(id) = to.filter(|_| destination.port() == CONTROL_PORT) {
                self.handle(id, Input::Datagram { source, destination, payload: &payload });
            }
        }
        true
    }

    fn drain(&mut self, id: usize) {
        while let Some(output) = self.nodes[id].control.poll_output() {
            let node = &mut self.nodes[id];
            match output {
                Output::Send(transmit) => {
                    let message = Message::decode(&transmit.payload).expect("sent a malformed message");
                    self.sent.push((self.now, id, transmit.clone(), message));
                    let to = transmit.destination;
                    let from = transmit
                        .source
                        .or_else(|| node.addresses.iter().copied().find(|a| a.is_ipv4() == to.is_ipv4()));
                    if let Some(from) = from {
                        assert!(node.addresses.contains(&from), "{from} is not an address of router {id}");
                        self.fly(SocketAddr::new(from, CONTROL_PORT), to, transmit.payload);
                    }
                }
                Output::Fib(FibUpdate::Set { prefix, action, stats }) => {
                    if let FibAction::Forward(paths) = &action {
                        assert!(!paths.is_empty() && paths.iter().all(|p| p.priority != 255));
                    }
                    node.punted.retain(|eid| !prefix.contains(eid));
                    node.fib.insert(prefix, (action, stats));
                }
                Output::Fib(FibUpdate::Remove { prefix }) => {
                    node.fib.remove(&prefix);
                    node.sites.remove(&prefix);
                }
                Output::Fib(FibUpdate::Options(options)) => {
                    assert_ne!(node.options, options, "said twice");
                    node.options = options;
                    if !options.any() {
                        node.sites = EidTable::default();
                    }
                }
                Output::Fib(FibUpdate::Site { prefix, site }) => {
                    assert!(node.options.any() && node.fib.get(&prefix).is_some());
                    node.sites.insert(prefix, site);
                }
                Output::Fib(FibUpdate::EchoRequest { rloc, nonce: Some(nonce) }) => {
                    assert!(nonce < 1 << 24 && node.nonces.values().all(|other| *other != nonce));
                    node.nonces.insert(rloc, nonce);
                }
                Output::Fib(FibUpdate::EchoRequest { rloc, nonce: None }) => {
                    assert!(node.nonces.remove(&rloc).is_some());
                }
                Output::Fib(FibUpdate::Proxy { prefix, proxy, present }) => {
                    let key = (prefix, proxy == Proxy::Egress);
                    let changed = if present { node.proxied.insert(key) } else { node.proxied.remove(&key) };
                    assert!(changed, "proxy for {prefix} said twice to be {present}");
                }
                Output::Fib(FibUpdate::Unpend { eid }) => drop(node.punted.remove(&eid)),
                Output::Fib(FibUpdate::PathMtu { rloc, mtu: Some(mtu) }) => {
                    node.path_mtus.insert(rloc, mtu);
                }
                Output::Fib(FibUpdate::PathMtu { rloc, mtu: None }) => drop(node.path_mtus.remove(&rloc)),
                Output::Native { prefix, present } => {
                    let changed =
                        if present { node.natives.insert(prefix) } else { node.natives.remove(&prefix) };
                    assert!(changed, "native {prefix} said twice to be {present}");
                }
                Output::NativeException { prefix, present } => {
                    let exceptions = &mut node.exceptions;
                    let changed =
                        if present { exceptions.insert(prefix) } else { exceptions.remove(&prefix) };
                    assert!(changed, "exception {prefix} said twice to be {present}");
                }
                Output::Fib(FibUpdate::Dynamic { prefix, what, present }) => {
                    let key = (prefix, what == Dynamic::Away);
                    let changed = if present { node.dynamic.insert(key) } else { node.dynamic.remove(&key) };
                    assert!(changed, "{prefix} said twice to be {what:?}: {present}");
                }
                Output::DynamicEid { prefix, place: Some(place) } => drop(node.places.insert(prefix, place)),
                Output::DynamicEid { prefix, place: None } => drop(node.places.remove(&prefix)),
                Output::Probe { interface, address } => node.probes.push((interface, address)),
                Output::Resolve { name } => {
                    let addresses = self.dns.get(&name).cloned().unwrap_or_default();
                    self.handle(id, Input::Resolved { name: &name, addresses: &addresses });
                }
                Output::Persist(change) => {
                    let disk = node.disk.as_mut().expect("nothing is remembered without being asked for");
                    if node.disk_works {
                        match &change {
                            Change::Put(record) => drop(disk.insert(change.key(), record.clone())),
                            Change::Remove(key) => drop(disk.remove(key)),
                        }
                        if let Some(record) = change.awaited() {
                            self.handle(id, Input::Persisted(record));
                        }
                    }
                }
                Output::ListSenders => {
                    let senders = node.senders.clone();
                    self.handle(id, Input::Senders(&senders));
                }
                Output::LigReply { id, result } => node.ligs.push((id, result)),
                Output::Event(event) => {
                    assert!(!event.to_string().is_empty());
                    node.events.push(event);
                }
            }
        }
    }

    fn fly(&mut self, source: SocketAddr, destination: SocketAddr, payload: Vec<u8>) {
        let copies = 1 + usize::from(self.rng.random_bool(self.faults.duplication));
        for _ in 0..copies {
            if self.rng.random_bool(self.faults.loss)
                || payload.len() > self.mtu
                || self.dark.contains(&source.ip())
                || self.dark.contains(&destination.ip())
            {
                continue;
            }
            let (low, high) = self.faults.delay;
            let nanos = self.rng.random_range(low.as_nanos() as u64..=high.as_nanos() as u64);
            self.sequence += 1;
            let at = self.now + Duration::from_nanos(nanos);
            self.flying.insert((at, self.sequence), (source, destination, payload.clone()));
        }
    }

    /// Messages that a router sent, in order.
    pub(crate) fn sent_by(&self, id: usize) -> impl Iterator<Item = (Instant, &Transmit, &Message)> {
        self.sent.iter().filter(move |(_, by, ..)| *by == id).map(|(at, _, t, m)| (*at, t, m))
    }
}

impl Node {
    fn new(control: ControlPlane, addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            control,
            fib: EidTable::default(),
            punted: BTreeSet::new(),
            natives: BTreeSet::new(),
            exceptions: BTreeSet::new(),
            proxied: BTreeSet::new(),
            dynamic: BTreeSet::new(),
            places: BTreeMap::new(),
            probes: Vec::new(),
            path_mtus: BTreeMap::new(),
            options: HeaderOptions::default(),
            sites: EidTable::default(),
            nonces: BTreeMap::new(),
            ligs: Vec::new(),
            events: Vec::new(),
            disk: None,
            disk_works: true,
            senders: Vec::new(),
        }
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.control.statistics().dropped(reason)
    }

    /// The locators that packets to `eid` may take, as (locator, source, priority, weight).
    pub(crate) fn paths(&self, eid: Eid) -> Vec<(IpAddr, IpAddr, u8, u8)> {
        match self.fib.longest(&eid) {
            Some((_, (FibAction::Forward(paths), _))) => {
                paths.iter().map(|p| (p.rloc, p.source, p.priority, p.weight)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// As the runtime does it: grows with the time of the start.
fn nonce_base(now: Instant) -> u64 {
    now.as_nanos() / 1000
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `10.0.0.0/8`, or `[7]10.0.0.0/8` in instance 7.
pub(crate) fn prefix(text: &str) -> EidPrefix {
    let (iid, net) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((iid, net)) => (InstanceId::new(iid.parse().unwrap()).unwrap(), net),
        None => (InstanceId::DEFAULT, text),
    };
    let net: IpNet = net.parse().unwrap();
    EidPrefix::new(iid, net)
}

pub(crate) fn eid(text: &str) -> Eid {
    Eid::new(InstanceId::DEFAULT, ip(text))
}

pub(crate) fn key(secret: &str) -> Key {
    Key { id: 1, algorithm: Algorithm::HmacSha256, secret: Secret::new(secret), truncate: false }
}

pub(crate) fn locator(addr: &str, priority: u8, weight: u8) -> LocatorConfig {
    LocatorConfig {
        source: LocatorSource::Address(ip(addr)),
        priority,
        weight,
        mpriority: 255,
        mweight: 0,
        local: true,
    }
}

pub(crate) fn database(eid: &str, locators: Vec<LocatorConfig>) -> DatabaseEntry {
    DatabaseEntry { eid: prefix(eid), ttl: Ttl(1440), register: true, map_servers: None, locators }
}

pub(crate) fn site(name: &str, secret: &str, prefixes: &[&str]) -> SiteConfig {
    SiteConfig {
        name: name.into(),
        keys: vec![key(secret)],
        prefixes: prefixes
            .iter()
            .map(|p| SitePrefix { eid: prefix(p), accept_more_specifics: false })
            .collect(),
        allow_repeated_nonce: false,
    }
}

/// An xTR with one locator per address that registers `eids` with the mapping system at `ms`.
pub(crate) fn xtr(eids: &[&str], rlocs: &[&str], ms: &str, secret: &str) -> ControlConfig {
    let locators = || rlocs.iter().map(|r| locator(r, 1, 100)).collect::<Vec<_>>();
    ControlConfig {
        database: eids.iter().map(|e| database(e, locators())).collect(),
        itr: Some(ItrConfig {
            map_resolvers: vec![Host::Address(ip(ms))],
            map_cache_limit: 1000,
            ..ItrConfig::default()
        }),
        etr: Some(EtrConfig {
            map_servers: vec![EtrMapServer::new(ms.into(), Host::Address(ip(ms)), key(secret))],
            xtr_site: None,
            ..EtrConfig::default()
        }),
        ..ControlConfig::default()
    }
}

/// A Map-Server and Map-Resolver in one.
pub(crate) fn mapping_system(sites: Vec<SiteConfig>) -> ControlConfig {
    ControlConfig {
        map_server: Some(MapServerConfig { sites }),
        map_resolver: Some(MapResolverConfig::default()),
        ..ControlConfig::default()
    }
}

/// The inner Map-Request and the encapsulation of a message, which must be such.
pub(crate) fn inner(message: &Message) -> (&Ecm, MapRequest) {
    let Message::Ecm(ecm) = message else { panic!("not encapsulated: {message:?}") };
    match Message::decode(&ecm.payload) {
        Ok(Message::MapRequest(request)) => (ecm, request),
        other => panic!("not a Map-Request: {other:?}"),
    }
}

/// A record as an ETR answers with: usable locators of priority 1 and weight 100.
pub(crate) fn record(eid: &str, rlocs: &[&str]) -> EidRecord {
    EidRecord::from(&Mapping {
        eid: prefix(eid),
        ttl: Ttl(1440),
        action: Action::NoAction,
        authoritative: true,
        version: MapVersion::NONE,
        locators: rlocs.iter().map(|r| Locator::new(ip(r), 1, 100)).collect(),
    })
}

pub(crate) fn negative(eid: &str, ttl: u32, action: Action) -> EidRecord {
    EidRecord::from(&Mapping::negative(prefix(eid), Ttl(ttl), action))
}

/// A mapping as another xTR of the site tells of it, that holds for ten minutes.
pub(crate) fn sync_mapping(record: EidRecord) -> SyncMapping {
    SyncMapping { copy: false, echoes: false, seconds: 600, millis: 0, inside: 0, age: 0, record }
}

/// The same, as a record of its message.
pub(crate) fn tells(record: EidRecord) -> SyncRecord {
    SyncRecord::Mapping(sync_mapping(record))
}

/// A Map-Request as an ITR at `rloc` sends it.
pub(crate) fn map_request(eid: &str, rloc: &str, nonce: u64) -> MapRequest {
    MapRequest {
        nonce: Nonce(nonce),
        itr_rlocs: vec![ip(rloc).into()],
        records: vec![prefix(eid).into()],
        ..MapRequest::default()
    }
}

pub(crate) fn encode(message: impl Into<Message>) -> Vec<u8> {
    message.into().encode().unwrap()
}

/// The same, in an encapsulated control message; replies go to port 4342.
pub(crate) fn ecm(request: MapRequest) -> Vec<u8> {
    let destination = request.records.first().and_then(|r| r.to_prefix().ok()).map(|p| p.first().addr);
    let destination = destination.unwrap_or(ip("10.0.0.0"));
    let source = if destination.is_ipv4() { ip("192.0.2.200") } else { ip("2001:db8::200") };
    encode(Ecm {
        ddt: false,
        security: None,
        source: SocketAddr::new(source, CONTROL_PORT),
        destination: SocketAddr::new(destination, CONTROL_PORT),
        payload: encode(request),
    })
}

/// A Map-Register sealed with a key.
pub(crate) fn register(nonce: u64, key: &Key, records: Vec<EidRecord>) -> Vec<u8> {
    seal(MapRegister { nonce: Nonce(nonce), want_notify: true, records, ..MapRegister::default() }, key)
}

pub(crate) fn seal(message: impl Into<Message>, key: &Key) -> Vec<u8> {
    crate::auth::seal(message.into(), key).unwrap()
}

macro_rules! into_message {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Message {
            fn from(message: $kind) -> Self {
                Self::$kind(message)
            }
        })*
    };
}
into_message!(MapRequest, MapReply, MapRegister, MapNotify, Ecm);

impl Network {
    /// What a router has sent since this was asked last.
    pub(crate) fn take_sent(&mut self, id: usize) -> Vec<(Transmit, Message)> {
        let (taken, kept) = std::mem::take(&mut self.sent).into_iter().partition(|(_, by, ..)| *by == id);
        self.sent = kept;
        let taken: Vec<(Instant, usize, Transmit, Message)> = taken;
        taken.into_iter().map(|(_, _, transmit, message)| (transmit, message)).collect()
    }

    /// The only message that a router has sent since.
    pub(crate) fn take_one(&mut self, id: usize) -> (Transmit, Message) {
        let mut sent = self.take_sent(id);
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent.remove(0)
    }

    /// Answers the last Map-Request of an ITR.
    pub(crate) fn reply(&mut self, id: usize, records: Vec<EidRecord>) {
        let nonce = self.sent_by(id).filter(|(_, _, m)| matches!(m, Message::Ecm(_))).last();
        let nonce = inner(nonce.expect("no Map-Request").2).1.nonce;
        self.reply_nonce(id, nonce, records);
    }

    pub(crate) fn reply_nonce(&mut self, id: usize, nonce: Nonce, records: Vec<EidRecord>) {
        let reply = encode(MapReply { nonce, records, ..MapReply::default() });
        self.deliver(id, "203.0.113.1:4342", &reply);
    }

    /// Has an ITR learn a mapping for an EID.
    pub(crate) fn learn(&mut self, id: usize, destination: &str, records: Vec<EidRecord>) {
        self.packet(id, "10.1.0.9", eid(destination));
        self.reply(id, records);
    }
}

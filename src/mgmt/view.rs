//! What `show` shows: snapshots of a router's state as plain values, the same as tables and as JSON.
//!
//! All times are whole seconds relative to the moment of the snapshot, all byte counts are of inner packets.

pub use super::ddt::{Ddt, DdtDelegation, DdtKind, DdtNode, DdtReferral, DdtResolver, DdtRoot};
pub use super::dynamic::{DynamicAway, DynamicEids, DynamicHere, DynamicPrefix, MoveOutcome, Moved};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::types::{
    Action, Eid, EidPrefix, Family, InstanceId, Locator, LocatorChange, Mapping, Nonce, SiteId, Ttl, XtrId,
};

/// Which EID-prefixes are wanted: those that cover an address or prefix, and those within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// In one instance only.
    pub iid: Option<InstanceId>,
    /// The address (as a prefix of full length) or prefix; `None` = any.
    pub net: Option<IpNet>,
}

impl Filter {
    /// Every EID-prefix.
    pub const ALL: Self = Self { iid: None, net: None };

    /// Whether an EID-prefix is wanted.
    pub fn matches(&self, eid: &EidPrefix) -> bool {
        self.iid.is_none_or(|iid| iid == eid.iid)
            && self.net.is_none_or(|net| eid.net.contains(&net) || net.contains(&eid.net))
    }
}

/// `show map-cache`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapCache {
    /// Most entries that it may have.
    pub limit: u64,
    /// Entries that it has, whether they are among `entries` or were not asked for.
    pub total: u64,
    /// The entries that were asked for, sorted by EID-prefix.
    pub entries: Vec<MapCacheEntry>,
}

/// A map-cache entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapCacheEntry {
    /// The EID-prefix.
    #[serde(flatten)]
    pub eid: EidPrefix,
    /// Since it was learned.
    pub uptime: u64,
    /// Until it expires; `None` = never.
    pub expires: Option<u64>,
    /// How it was learned.
    pub source: MapCacheSource,
    /// Who sent the Map-Reply, where one did.
    pub responder: Option<IpAddr>,
    /// Since it was learned last, as it is now.
    #[serde(default)]
    pub refreshed: u64,
    /// Whether the kernel forwards its packets natively, without our seeing them.
    #[serde(default)]
    pub native: bool,
    /// Version of the mapping, 1 to 4095, where versions are used.
    #[serde(default)]
    pub map_version: Option<u16>,
    /// What is done with packets when there are no locators.
    pub action: Action,
    /// Whether it was answered by an ETR rather than a proxy-replying Map-Server.
    pub authoritative: bool,
    /// Since it last carried a packet; `None` = it never did.
    pub idle: Option<u64>,
    /// Packets that it carried or dropped.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Its locators, in the order of the Map-Reply.
    pub locators: Vec<MapCacheLocator>,
}

/// How a map-cache entry was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapCacheSource {
    /// From a solicited Map-Reply.
    MapReply,
    /// From the reply to an RLOC-probe.
    Probe,
    /// From a packet or message of the other side, to be confirmed.
    Gleaned,
    /// From a snapshot that an earlier life of the router left, to be confirmed.
    Snapshot,
    /// From another router of the site.
    Synchronised,
    /// From the configuration.
    Static,
}

/// A locator of a map-cache entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapCacheLocator {
    /// The remote locator.
    pub rloc: IpAddr,
    /// Since its state last changed.
    pub uptime: u64,
    /// Whether packets may go there.
    pub state: LocatorState,
    /// 0 to 255, lowest wins.
    pub priority: u8,
    /// 0 to 100.
    pub weight: u8,
    /// Packets sent there.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Largest datagram on the way there, if one was learned, in bytes with outer headers.
    pub path_mtu: Option<u16>,
    /// What is known of the way that packets to it take; `None` where nothing is.
    #[serde(default)]
    pub way: Option<RlocWay>,
    /// Since a packet was sent there last; `None` = none was.
    #[serde(default)]
    pub idle: Option<u64>,
    /// Whether it belongs to who sent the mapping.
    #[serde(default)]
    pub local: bool,
    /// Multicast priority.
    #[serde(default)]
    pub mpriority: u8,
    /// Multicast weight.
    #[serde(default)]
    pub mweight: u8,
}

/// The way from one of our locators to a remote one, and what probes and the underlay said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RlocWay {
    /// Our locator.
    pub source: IpAddr,
    /// What is known.
    pub state: WayState,
    /// A probe waits for its answer.
    pub pending: bool,
    /// Since the state changed.
    pub since: u64,
    /// Smoothed round trip time of probes, in microseconds.
    pub rtt_us: Option<u64>,
    /// Probes sent.
    pub sent: u64,
    /// Probes answered.
    pub answered: u64,
    /// Since the last probe was sent.
    pub last_sent: Option<u64>,
    /// Since the last one was answered.
    pub last_answered: Option<u64>,
}

/// What is known of a way, and who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayState {
    /// Nothing yet.
    Unprobed,
    /// Up: the last probe was answered.
    Up,
    /// Down: probes were not answered.
    NoAnswer,
    /// Down: the underlay said so.
    Unreachable,
    /// Down: packets were not echoed.
    NoEcho,
    /// Down: another router of the site said so.
    Told,
}

/// Whether packets may go to a locator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocatorState {
    /// Yes.
    Up,
    /// No: it, or the way there, is known to be down.
    Down,
    /// No: its site does not want that (priority 255).
    Unused,
    /// No: none of our locators is of its family.
    NoSource,
    /// No: it is one of our own locators, or an EID.
    Loop,
}

/// `show locators`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locators {
    /// The site's locators, in the order of the configuration.
    pub own: Vec<OwnLocator>,
    /// From one probe of a remote locator to the next, in milliseconds; `None` = they are not probed.
    pub probing_ms: Option<u64>,
    /// The locators of the map-cache, and of the site's other xTRs where those are probed, by address.
    pub remote: Vec<RemoteLocator>,
}

/// A locator of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnLocator {
    /// Its address, or the one that it had last.
    pub rloc: Option<IpAddr>,
    /// The interface that the address comes from, if it isn't fixed.
    pub interface: Option<String>,
    /// Ours, or another router's of the site.
    pub local: bool,
    /// Whether it is up: ours while its address is on an interface that runs, another's unless its probes say otherwise,
    /// and neither where a command has it down.
    pub up: bool,
    /// What commands changed of it, until the next reload or restart.
    #[serde(default, rename = "override")]
    pub changed: Option<LocatorChange>,
}

/// A remote locator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteLocator {
    /// The locator.
    pub rloc: IpAddr,
    /// Whether packets go there, as far as there is a choice.
    pub up: bool,
    /// Our locator that packets to it leave from; `None` where we have none of its family.
    pub source: Option<IpAddr>,
    /// It is another xTR's of our own site.
    pub site: bool,
    /// Map-cache entries that have it.
    pub entries: u64,
    /// What is known of the ways there, by our locators' addresses.
    pub ways: Vec<RlocWay>,
}

/// `show database`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The site's EID-prefixes, sorted.
    pub entries: Vec<DatabaseEntry>,
}

/// One of the site's EID-prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseEntry {
    /// The EID-prefix.
    #[serde(flatten)]
    pub eid: EidPrefix,
    /// TTL in registrations and replies, in minutes.
    pub ttl: Ttl,
    /// Whether it is to be registered.
    pub register: bool,
    /// Version of its mapping, 1 to 4095, where versions are used.
    pub map_version: Option<u16>,
    /// Its locators, in the order of the configuration.
    pub locators: Vec<DatabaseLocator>,
    /// Its registrations, one per Map-Server.
    pub registrations: Vec<Registration>,
}

/// A locator of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseLocator {
    /// Its address, or the one that it had last; `None` while it never had any.
    pub rloc: Option<IpAddr>,
    /// The interface that the address comes from, if it isn't fixed.
    pub interface: Option<String>,
    /// 0 to 255, lowest wins.
    pub priority: u8,
    /// 0 to 100.
    pub weight: u8,
    /// Ours, or another router's of the site.
    pub local: bool,
    /// Whether it is up, and so announced as reachable.
    pub reachable: bool,
    /// What commands changed of it, until the next reload or restart; priority and weight above are as changed.
    #[serde(default, rename = "override")]
    pub changed: Option<LocatorChange>,
}

/// Where an EID-prefix stands with a Map-Server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The Map-Server's name.
    pub map_server: String,
    /// Its address, if known.
    pub address: Option<IpAddr>,
    /// How it stands.
    pub state: RegistrationState,
    /// Since the last Map-Register.
    pub last_sent: Option<u64>,
    /// Since the last Map-Notify that confirmed it.
    pub last_notified: Option<u64>,
    /// Map-Registers sent.
    pub sent: u64,
    /// Map-Notifies that confirmed it.
    pub notified: u64,
    /// Key ID and algorithm of the last Map-Register that was confirmed, or else sent.
    #[serde(default)]
    pub key: Option<KeyInUse>,
    /// The Map-Server tells others other locators: another router of the site contradicts this one.
    #[serde(default)]
    pub contradicted: bool,
}

/// A key that authenticates registrations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInUse {
    /// Key ID.
    pub id: u8,
    /// Name of the algorithm, as in RFC 9301 §12.5.
    pub algorithm: String,
}

/// How a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistrationState {
    /// The Map-Server's name is not resolved: nothing was sent.
    Unresolved,
    /// Nothing was sent so far, as when no locator is up.
    Waiting,
    /// Sent, and no Map-Notify was asked for.
    Sent,
    /// Sent, and not confirmed yet.
    Unconfirmed,
    /// Confirmed by Map-Notify.
    Registered,
    /// Confirmed as it was before a change, which the Map-Server is being told of.
    UpdatePending,
    /// The Map-Server answered, but left this EID-prefix out.
    Refused,
}

/// `show sites`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sites {
    /// EID-prefixes of all sites, whether they are among `sites` or were not asked for.
    #[serde(default)]
    pub total: u64,
    /// Those of them that are registered.
    #[serde(default)]
    pub registered: u64,
    /// The sites, in the order of the configuration.
    pub sites: Vec<Site>,
}

/// A site that may register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Its EID-prefixes, configured or registered as more specific ones, sorted.
    pub prefixes: Vec<SitePrefix>,
}

/// An EID-prefix of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePrefix {
    /// The EID-prefix.
    #[serde(flatten)]
    pub eid: EidPrefix,
    /// Configured, or registered within a configured one.
    pub configured: bool,
    /// Since it was registered last, be it by one that is gone; `None` = never since the Map-Server started.
    #[serde(default)]
    pub last_register: Option<u64>,
    /// Who registered it, each ETR for itself; none where nobody does.
    pub registrations: Vec<SiteRegistration>,
}

/// A registration by one ETR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRegistration {
    /// Source of its last Map-Register.
    pub registered_by: IpAddr,
    /// Its xTR-ID, if it sends one.
    pub xtr_id: Option<XtrId>,
    /// Its Site-ID, if it sends one.
    pub site_id: Option<SiteId>,
    /// Since it registered first.
    pub since: u64,
    /// Since its last Map-Register.
    pub last: u64,
    /// Until the registration lapses.
    pub expires: u64,
    /// Whether the Map-Server answers in its place.
    pub proxy_reply: bool,
    /// The key of its last Map-Register.
    #[serde(default)]
    pub key: Option<KeyInUse>,
    /// Whether its locators are merged with those of the site's other ETRs.
    #[serde(default)]
    pub merge: bool,
    /// Whether it times out by its TTL.
    #[serde(default)]
    pub use_ttl: bool,
    /// TTL that it gave, in minutes.
    pub ttl: Ttl,
    /// Its locators.
    pub locators: Vec<Locator>,
}

/// `show statistics`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Since the router started.
    pub uptime: u64,
    /// The control plane.
    pub control: ControlStatistics,
    /// The data plane, per thread.
    pub data: Vec<DataStatistics>,
    /// What is kept over a restart.
    #[serde(default)]
    pub store: Store,
}

/// What is kept over a restart: nonces, versions, and what else a router must not forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// The file, or the directory where it should be.
    pub place: String,
    /// How it stands.
    pub state: StoreState,
    /// What is wrong, where something is.
    pub problem: Option<String>,
    /// What was said at start: earlier state was set aside, or is not used.
    pub notice: Option<String>,
    /// Records read at start.
    pub restored: u64,
    /// Records written, and removed, since.
    pub written: u64,
    /// Transactions that took.
    pub commits: u64,
    /// Transactions that failed.
    pub failures: u64,
    /// Records that wait to be written.
    pub waiting: u64,
    /// The map-cache's snapshots, where they are taken.
    pub snapshot: Option<Box<Snapshot>>,
}

/// Snapshots of the map-cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The file.
    pub place: String,
    /// Entries that were taken up at start.
    pub restored: u64,
    /// Entries that had expired by then.
    pub expired: u64,
    /// Entries that did not fit: of other instances or own EID-prefixes, or without room.
    pub unfit: u64,
    /// Entries that are still to be taken up.
    pub waiting: u64,
    /// Snapshots written since.
    pub written: u64,
    /// Seconds since the last one; none was written yet.
    pub last: Option<u64>,
    /// Entries of the last one.
    pub entries: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Snapshots that could not be written.
    pub failures: u64,
    /// Why not, where the last one could not be.
    pub problem: Option<String>,
    /// What was said at start: why there was nothing to take up.
    pub notice: Option<String>,
}

/// How the store stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreState {
    /// Nothing is kept.
    #[default]
    Off,
    /// Everything is kept.
    Working,
    /// The last write failed; it will be tried again.
    Failing,
}

/// Counters of the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlStatistics {
    /// Messages received, by type.
    pub received: BTreeMap<String, u64>,
    /// Messages sent, by type.
    pub sent: BTreeMap<String, u64>,
    /// Messages, records and punts dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Those of these reasons that are part of normal work, as answers may come late or twice.
    #[serde(default)]
    pub ordinary: BTreeSet<String>,
    /// Anything else, by name.
    pub counters: BTreeMap<String, u64>,
}

/// Counters of one data plane thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataStatistics {
    /// The thread.
    pub thread: String,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Packets dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Anything else, by name.
    pub counters: BTreeMap<String, u64>,
}

/// `show interfaces`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interfaces {
    /// The TUN interfaces.
    pub tuns: Vec<Tun>,
    /// The interfaces that carry the locators.
    pub locators: Vec<LocatorInterface>,
    /// EID-prefixes to which packets of any source are taken, as a proxy-ITR.
    #[serde(default)]
    pub proxy_itr: Vec<EidPrefix>,
    /// EID-prefixes from which packets are taken to any destination, as a proxy-ETR.
    #[serde(default)]
    pub proxy_etr: Vec<EidPrefix>,
    /// The data plane, where it is another program.
    #[serde(default)]
    pub external: Option<ExternalDataPlane>,
}

/// A data plane that is another program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalDataPlane {
    /// Path of its socket.
    pub socket: String,
    /// Entries that it is told of.
    pub entries: u64,
    /// The programs that are connected.
    pub clients: Vec<ExternalClient>,
}

/// A program that is connected as the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalClient {
    /// Whose process it is.
    pub uid: u32,
    /// Its process id.
    pub pid: Option<i32>,
    /// Since it connected.
    pub connected: u64,
    /// Whether it was told everything once.
    pub synced: bool,
    /// Changes that it has not been told yet.
    pub waiting: u64,
    /// Lines that it was told.
    pub sent: u64,
    /// Lines that it said.
    pub received: u64,
    /// Lines among them that were not understood.
    pub errors: u64,
    /// Misses and other events that found no room.
    pub punts_lost: u64,
}

/// A TUN interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tun {
    /// Its name.
    pub name: String,
    /// Its instance.
    pub iid: InstanceId,
    /// Whether it is up.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its queues.
    pub queues: u16,
    /// Whether it passes super-packets.
    pub offload: bool,
    /// Why, where it does not.
    pub offload_reason: Option<String>,
    /// Whether the underlay's sockets cut and join datagrams.
    #[serde(default)]
    pub underlay_offload: bool,
    /// The site's interfaces of the same instance; none = all.
    pub site_interfaces: Vec<String>,
}

/// An interface that carries locators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatorInterface {
    /// Its name, if a configured address is on any.
    pub name: Option<String>,
    /// Whether it is up.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Locators on it.
    pub addresses: Vec<IpAddr>,
}

/// `show resolvers`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resolvers {
    /// Which of several is asked: `order` or `fastest`.
    pub selection: String,
    /// Map-Resolvers, in order of the configuration.
    pub resolvers: Vec<Resolver>,
}

/// A Map-Resolver, for one EID space, by one of its addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolver {
    /// As it is configured: an address or a DNS name.
    pub host: String,
    /// The EID space that it is asked for; `None` = all that are nobody's.
    pub space: Option<EidPrefix>,
    /// Its address; `None` = the name is not resolved.
    pub address: Option<IpAddr>,
    /// How it does.
    pub state: ResolverState,
    /// Smoothed milliseconds from a Map-Request to its Map-Reply.
    pub response_ms: Option<f64>,
    /// Map-Requests sent.
    pub requests: u64,
    /// Map-Replies to them.
    pub answers: u64,
    /// Map-Requests that were not answered in time.
    pub timeouts: u64,
    /// Since the last answer.
    pub last_answer: Option<u64>,
}

/// How a Map-Resolver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolverState {
    /// Its name is not resolved.
    Unresolved,
    /// It was not asked yet.
    Untried,
    /// It answers.
    Up,
    /// It does not answer, and is passed over where there is another one.
    Silent,
}

/// `show pending`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Outstanding Map-Requests and resting destinations, sorted by EID.
    pub requests: Vec<PendingRequest>,
}

/// An outstanding Map-Request, or a destination that rests after several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRequest {
    /// What was asked for.
    #[serde(flatten)]
    pub eid: Eid,
    /// Who was asked last.
    pub map_resolver: Option<IpAddr>,
    /// Nonce of the last Map-Request.
    pub nonce: Nonce,
    /// Map-Requests sent.
    pub sent: u32,
    /// Since the first of them.
    pub age: u64,
    /// It is given up for now.
    pub resting: bool,
    /// Until the next Map-Request, or the end of the rest.
    pub next: u64,
}

/// The answer to `lig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lig {
    /// What was asked for.
    pub eid: Eid,
    /// Who was asked.
    pub map_resolver: IpAddr,
    /// Who answered.
    pub responder: IpAddr,
    /// Milliseconds from the last Map-Request to the answer.
    pub rtt_ms: f64,
    /// Map-Requests that it took.
    pub requests: u32,
    /// The records of the Map-Reply.
    pub mappings: Vec<Mapping>,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What changed, a line each; empty where nothing did.
    pub changes: Vec<String>,
    /// Warnings of the new configuration.
    pub warnings: Vec<String>,
}

/// What `show sync` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// `smart` or `naive`; `None` = the map-cache is not synchronised.
    pub mode: Option<String>,
    /// Whether messages are acknowledged.
    pub ack: bool,
    /// Entries of the map-cache that came from a member.
    pub copies: u64,
    /// The other xTRs of the site, by address.
    pub members: Vec<SyncMember>,
}

/// Another xTR of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncMember {
    /// Its address.
    pub address: IpAddr,
    /// `unheard`, `up`, `silent`, `deaf` where it answers but does not acknowledge what it is told, or `this router`.
    pub state: String,
    /// Seconds in this state.
    pub since: u64,
    /// Its whole map-cache was asked for, and has not come in full.
    pub awaited: bool,
    /// Messages that it has not acknowledged yet.
    pub outstanding: u64,
    /// The last whole map-cache that came from it.
    pub received_whole: Option<SyncTransfer>,
    /// The last whole map-cache that it was sent.
    pub sent_whole: Option<SyncTransfer>,
    /// CacheSyncs sent, Hellos not included.
    pub sent: u64,
    /// Bytes of these.
    pub bytes_sent: u64,
    /// Records in these.
    pub records_sent: u64,
    /// Of these CacheSyncs, those sent again.
    pub repeated: u64,
    /// CacheSyncs received and believed.
    pub received: u64,
    /// Records that were used.
    pub records_used: u64,
    /// Hellos sent.
    pub hellos: u64,
    /// Messages and records that were not used, by reason.
    pub ignored: BTreeMap<String, u64>,
}

/// A whole map-cache that went from one xTR to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncTransfer {
    /// Seconds since it was complete.
    pub ago: u64,
    /// Records.
    pub records: u64,
    /// Milliseconds from its beginning to its end.
    pub took_ms: u64,
}

/// What `show vrrp` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vrrp {
    /// The virtual routers, by interface, family and VRID.
    pub routers: Vec<VirtualRouter>,
    /// Packets dropped before it was known which virtual router they are for, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// A virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualRouter {
    /// The interface that it is on.
    pub interface: String,
    /// Its address family.
    pub family: Family,
    /// Virtual router identifier.
    pub vrid: u8,
    /// `initialize`, `backup` or `master`.
    pub state: String,
    /// Seconds in this state.
    pub since: u64,
    /// The priority of now.
    pub priority: u8,
    /// The priority while nothing that is tracked is lost.
    pub configured_priority: u8,
    /// Whether a master of lower priority is replaced.
    pub preempt: bool,
    /// Milliseconds between advertisements of ours.
    pub interval_ms: u64,
    /// How long a master may be silent, in milliseconds.
    pub master_down_ms: u64,
    /// Where advertisements of ours come from.
    pub address: Option<IpAddr>,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// The master that is followed.
    pub master: Option<IpAddr>,
    /// Its priority.
    pub master_priority: Option<u8>,
    /// Advertisements sent.
    pub sent: u64,
    /// Advertisements received and taken into account.
    pub received: u64,
    /// Sent with priority 0.
    pub resignations_sent: u64,
    /// Received with priority 0.
    pub resignations_received: u64,
    /// How often it became master.
    pub became_master: u64,
    /// Received with other addresses than are configured.
    pub other_addresses: u64,
    /// Advertisements dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

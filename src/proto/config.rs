//! What the machines are told to do: validated by `config`, or built by tests and simulations.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::auth::Key;
use crate::fib::HeaderOptions;
pub use crate::fib::SourceCheck;
use crate::types::{EidPrefix, Family, MapVersion, Mapping, SiteId, Ttl, XtrId};

/// Everything that one router's control plane is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlConfig {
    /// The site's own EID-prefixes (ETR: registered and answered for; ITR: never asked for).
    pub database: Vec<DatabaseEntry>,
    /// Locators of a proxy tunnel router: sources of what it sends, beside the database's. Never registered.
    pub locators: Vec<LocatorConfig>,
    /// The ITR role, that of a proxy-ITR, or both.
    pub itr: Option<ItrConfig>,
    /// The ETR role, that of a proxy-ETR, or both.
    pub etr: Option<EtrConfig>,
    /// The Map-Server role.
    pub map_server: Option<MapServerConfig>,
    /// The Map-Resolver role.
    pub map_resolver: Option<MapResolverConfig>,
    /// Delegated Database Tree.
    pub ddt: DdtConfig,
    /// EID-prefixes parts of which may come to this site or leave it while the router runs.
    pub dynamic_eids: Vec<DynamicEid>,
    /// What data packets say beside the instance ID, and what is believed of that.
    pub header: HeaderConfig,
    /// RLOC-probing, by the ITR role; `None` = none.
    pub probing: Option<ProbingConfig>,
    /// Map-cache synchronisation with the site's other xTRs, by the ITR role; `None` = none.
    pub sync: Option<SyncConfig>,
    /// Every period and limit.
    pub timers: Timers,
}

/// What the LISP header of data packets says beside the instance ID, and how received ones are checked. All
/// of it is off by default, and but for the source check is for closed networks only (RFC 9300 §16).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderConfig {
    /// Whether the outer source of received packets has to be a locator of the inner source's mapping.
    pub source_check: SourceCheck,
    /// Send and believe locator-status-bits (RFC 9300 §10).
    pub locator_status: bool,
    /// Ask for echoes of nonces, and echo them (RFC 9300 §10.1).
    pub echo_nonce: bool,
    /// Send and check versions of mappings (RFC 9302).
    pub map_version: bool,
    /// Take packets that were sent after an old version of ours in any case, even of somebody who was told of
    /// the new one ten times in vain (RFC 9302 §7.1: these SHOULD be dropped).
    pub accept_stale: bool,
    /// Versions of own mappings that the operator counts, as where several xTRs of a site have to say the
    /// same; those of others are counted by the router.
    pub versions: BTreeMap<EidPrefix, MapVersion>,
}

impl ControlConfig {
    /// The data plane's part of what is said of headers.
    pub fn header_options(&self) -> HeaderOptions {
        HeaderOptions {
            source_check: self.header.source_check,
            locator_status: self.header.locator_status,
            map_version: self.header.map_version,
            // Who is told nothing can't know better.
            drop_stale: self.header.map_version && !self.header.accept_stale && self.timers.smr_attempts > 0,
            // Only who both sends and receives can tell anything by it (RFC 9300 §10.1).
            echo_nonce: (self.header.echo_nonce && self.itr.is_some() && self.etr.is_some())
                .then_some(self.timers.echo_nonce_interval),
            glean: self.itr.as_ref().is_some_and(|itr| itr.glean),
        }
    }
}

/// One of the site's own EID-prefixes.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseEntry {
    /// The EID-prefix.
    pub eid: EidPrefix,
    /// TTL given in registrations and replies.
    pub ttl: Ttl,
    /// Whether it is registered at all.
    pub register: bool,
    /// Which of [`EtrConfig::map_servers`] it is registered with, by name; `None` = all.
    pub map_servers: Option<Vec<String>>,
    /// Its locators.
    pub locators: Vec<LocatorConfig>,
}

/// An EID-prefix any part of which may be at this site: which ones are is told by command, or found out.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicEid {
    /// The EID-prefix that they lie in. It is not registered itself.
    pub prefix: EidPrefix,
    /// TTL given in registrations and replies.
    pub ttl: Ttl,
    /// Which of [`EtrConfig::map_servers`] they are registered with, by name; `None` = all.
    pub map_servers: Option<Vec<String>>,
    /// The locators that they have here.
    pub locators: Vec<LocatorConfig>,
    /// The site's interface that they are at; `None` = as the kernel's own routes say.
    pub interface: Option<String>,
    /// Most EID-prefixes that may be here at once.
    pub limit: usize,
    /// For how long packets that still come for one that has left are sent on.
    pub redirect_time: Duration,
    /// Whether hosts are found by what they send on the interface; `None` = by command only.
    pub detect: Option<DetectConfig>,
}

/// How hosts are found that nobody told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetectConfig {
    /// Hosts per second that are taken in, at most (bucket of twice as many).
    pub rate: u32,
    /// One that has not answered for so long is gone.
    pub timeout: Duration,
}

/// A locator of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatorConfig {
    /// Where its address comes from.
    pub source: LocatorSource,
    /// 0 to 255, lowest wins, 255 = never.
    pub priority: u8,
    /// 0 to 100.
    pub weight: u8,
    /// Multicast priority.
    pub mpriority: u8,
    /// Multicast weight.
    pub mweight: u8,
    /// Ours; otherwise it belongs to another xTR of the site: registered, never a source address.
    pub local: bool,
}

/// Where a locator's address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocatorSource {
    /// Fixed; up while an interface has it.
    Address(IpAddr),
    /// The first global address of a family on an interface, followed as it changes.
    Interface {
        /// Interface name.
        name: String,
        /// Which family.
        family: Family,
    },
}

impl fmt::Display for LocatorSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) => addr.fmt(f),
            Self::Interface { name, family } => write!(f, "{name} ({family})"),
        }
    }
}

/// A host by address or by DNS name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A DNS name, resolved by the runtime: [`super::control::Output::Resolve`].
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) => addr.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The ITR role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItrConfig {
    /// Map-Resolvers of every EID that is in none of `resolver_spaces`, in order of preference.
    pub map_resolvers: Vec<Host>,
    /// Map-Resolvers of single EID spaces, in order of preference; the longest that contains the EID counts.
    pub resolver_spaces: Vec<(EidPrefix, Vec<Host>)>,
    /// Which of several is asked.
    pub resolver_selection: ResolverSelection,
    /// Most entries in the map-cache; 0 = 100,000.
    pub map_cache_limit: usize,
    /// A map-cache entry that no packet has used for so long is forgotten; zero = never.
    pub idle_timeout: Duration,
    /// Mappings that the map-cache always has, whatever the mapping system says. Their time to live doesn't
    /// count.
    pub static_entries: Vec<Mapping>,
    /// When another ITR asks for one of our EIDs, ask the mapping system at once for the EID that it asks on
    /// behalf of (the Map-Request's source EID): packets to there are about to follow, and would be lost to a
    /// miss.
    pub expect_return: bool,
    /// Use what packets and Map-Requests from an unknown EID say of its locator, for the seconds that it
    /// takes to verify it (RFC 9300 §9). For closed networks only.
    pub glean: bool,
    /// Proxy-ETRs to which packets go that would be forwarded natively otherwise (RFC 6832 §6).
    pub proxy_etrs: Vec<ProxyEtr>,
    /// Proxy-ITR: the EID-prefixes to which packets of any source are taken (RFC 6832 §5).
    pub proxy_for: Vec<EidPrefix>,
}

/// A proxy-ETR as an ITR sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyEtr {
    /// Where it is.
    pub host: Host,
    /// 0 to 255, lowest wins, 255 = never.
    pub priority: u8,
    /// Share among those of equal priority.
    pub weight: u8,
    /// The family of EIDs that it is used for; `None` = both.
    pub eid_family: Option<Family>,
}

/// RLOC-probing (RFC 9301 §7.1).
///
/// The RFC gives no numbers. These find a dead locator within some 13 seconds, at the cost of a packet each
/// way per locator in use every ten seconds; a peer that doesn't answer probes at all goes on being used, as
/// long as none of its site's locators answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbingConfig {
    /// From one answered probe to the next.
    pub interval: Duration,
    /// By how many percent the interval is shortened at most, at random.
    pub jitter: u8,
    /// A probe without an answer is repeated after this time …
    pub timeout: Duration,
    /// … so often, before the way counts as down.
    pub retries: u32,
    /// The longest interval that probing of a way which is down comes down to; it doubles from `interval`.
    pub back_off: Duration,
    /// Probes per second, all in all.
    pub rate: u32,
    /// Whether the site's other xTRs are probed too, so that those that are dead are announced as
    /// unreachable.
    pub site: bool,
}

impl Default for ProbingConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            jitter: 10,
            timeout: Duration::from_secs(1),
            retries: 2,
            back_off: Duration::from_secs(60),
            rate: 200,
            site: true,
        }
    }
}

/// Map-cache synchronisation with the other xTRs of the site ([`super::redundancy::sync`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// The other xTRs, by the address that their messages come from. At least one.
    pub members: Vec<IpAddr>,
    /// How much is told when something was learnt.
    pub mode: SyncMode,
    /// Whether what is told is acknowledged, and told again if it is not. What a member is told that
    /// (re)appeared always is.
    pub ack: bool,
    /// Keys that are accepted; the first one is sent with. At least one.
    pub keys: Vec<Key>,
    /// The address that messages leave from, which the others know this xTR by; to members of the other
    /// family, or where it is `None`, they leave from the kernel's choice.
    pub source: Option<IpAddr>,
    /// How often a member is asked whether it is there.
    pub hello_interval: Duration,
}

/// How much the other xTRs are told when something was learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// The whole map-cache.
    Naive,
    /// What was learnt.
    #[default]
    Smart,
}

impl SyncConfig {
    /// How often a member is asked whether it is there, where nothing else is said.
    pub const HELLO_INTERVAL: Duration = Duration::from_secs(10);

    /// In smart mode with acknowledgements.
    pub const fn new(members: Vec<IpAddr>, key: Vec<Key>) -> Self {
        Self {
            members,
            mode: SyncMode::Smart,
            ack: true,
            keys: key,
            source: None,
            hello_interval: Self::HELLO_INTERVAL,
        }
    }
}

/// Which of several Map-Resolvers is asked, among those that answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResolverSelection {
    /// The first one.
    #[default]
    Order,
    /// The one with the shortest measured response time.
    Fastest,
}

/// The ETR role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EtrConfig {
    /// Where the database is registered.
    pub map_servers: Vec<EtrMapServer>,
    /// Sent with the I bit in registrations, when set.
    pub xtr_site: Option<(XtrId, SiteId)>,
    /// Proxy-ETR: the EID-prefixes from which packets are taken to any destination (RFC 6832 §6).
    pub proxy_for: Vec<EidPrefix>,
}

/// A Map-Server as an ETR sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct EtrMapServer {
    /// Its name in the configuration; the host's text by default.
    pub name: String,
    /// Where it is.
    pub host: Host,
    /// How registrations are authenticated.
    pub key: Key,
    /// Further keys: tried in turn where the Map-Server does not confirm, as while a key is changed.
    pub more_keys: Vec<Key>,
    /// P: it is to answer Map-Requests itself.
    pub proxy_reply: bool,
    /// M: it is to confirm registrations by Map-Notify.
    pub want_notify: bool,
    /// T: it is to time registrations out by the TTL of the records, not after its own time (RFC 9301 §5.6).
    pub use_ttl: bool,
    /// a: it is to merge the locators with those that other xTRs register for the same EID-prefix (RFC 9301
    /// §5.6).
    pub merge: bool,
}

impl EtrMapServer {
    /// A Map-Server with what is usual: no proxy replies, confirmation wanted.
    pub const fn new(name: String, host: Host, key: Key) -> Self {
        Self {
            name,
            host,
            key,
            more_keys: Vec::new(),
            proxy_reply: false,
            want_notify: true,
            use_ttl: false,
            merge: false,
        }
    }

    /// All keys, the preferred one first.
    pub fn keys(&self) -> Vec<Key> {
        std::iter::once(&self.key).chain(&self.more_keys).cloned().collect()
    }
}

/// The Map-Server role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapServerConfig {
    /// Sites that may register.
    pub sites: Vec<SiteConfig>,
}

/// A site that may register with our Map-Server.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteConfig {
    /// Name, for people.
    pub name: String,
    /// Keys, by key id; several during a key change.
    pub keys: Vec<Key>,
    /// EID-prefixes it owns.
    pub prefixes: Vec<SitePrefix>,
    /// Accept a Map-Register that repeats its nonce (some routers never change it), giving up replay
    /// protection.
    pub allow_repeated_nonce: bool,
}

/// An EID-prefix that a site owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePrefix {
    /// The prefix.
    pub eid: EidPrefix,
    /// Whether more specific prefixes of it may be registered too.
    pub accept_more_specifics: bool,
}

/// The Map-Resolver role. With a Map-Server in the same process, its registrations are used directly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapResolverConfig {
    /// Map-Servers of other machines and the EID-prefixes that they serve; longest match, first host that
    /// resolves.
    pub forward: Vec<(EidPrefix, Vec<Host>)>,
}

/// What a router has to do with DDT (RFC 8111), beyond its roles of Map-Server and Map-Resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DdtConfig {
    /// The role of DDT node.
    pub node: Option<DdtNodeConfig>,
    /// Map-Server: every Map-Server of the same EID-prefixes, so that referrals may be remembered (RFC 8111
    /// §6.3). Empty = it is not known which those are.
    pub map_server_peers: Vec<IpAddr>,
    /// Map-Resolver: the DDT nodes that a search begins at. Empty = none is made.
    pub roots: Vec<Host>,
}

/// The role of DDT node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DdtNodeConfig {
    /// What it is authoritative for.
    pub authoritative: Vec<EidPrefix>,
    /// What it delegated, and hints of what others have.
    pub delegations: Vec<DdtDelegation>,
}

/// Who knows more about an EID-prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DdtDelegation {
    /// The EID-prefix.
    pub prefix: EidPrefix,
    /// Who.
    pub to: Vec<IpAddr>,
    /// Whether these are Map-Servers rather than DDT nodes.
    pub map_servers: bool,
}

/// Periods and limits. Defaults are the RFCs' (see each field), shortened in tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Timers {
    /// Map-Register period (RFC 9301 §8.2: 1 minute).
    pub register_interval: Duration,
    /// Map-Register period at start, until a Map-Notify came.
    pub quick_register_interval: Duration,
    /// For how long after start the quick period holds.
    pub quick_register_time: Duration,
    /// First retransmission of an unanswered Map-Register with the M bit; doubles (RFC 9301 §5.7).
    pub register_retry: Duration,
    /// Longest retransmission interval of the same.
    pub register_retry_max: Duration,
    /// Map-Server: first retransmission of a Map-Notify that nobody asked for and that is not acknowledged
    /// (RFC 9301 §5.7: 3 seconds).
    pub notify_retry: Duration,
    /// Map-Server: registration time-out (RFC 9301 §8.3: 3 minutes).
    pub registration_timeout: Duration,
    /// First retransmission of a Map-Request; at most one per EID-prefix in this time (RFC 9301 §5.3: 1 s).
    pub request_retry: Duration,
    /// Retransmissions of a Map-Request before it rests.
    pub request_retries: u32,
    /// How long a destination rests after that.
    pub request_rest: Duration,
    /// SMRs to one RLOC, and Map-Requests for one EID-prefix that SMRs invoke, are at least so far apart (RFC
    /// 9301 §6.1: 3 s).
    pub smr_interval: Duration,
    /// How often an SMR is sent to an RLOC that does not react by a Map-Request, in all; 0 = none is sent.
    pub smr_attempts: u32,
    /// TTL of a negative reply where no site is configured.
    pub negative_ttl_unconfigured: Ttl,
    /// TTL of a negative reply where a site is configured but not registered.
    pub negative_ttl_unregistered: Ttl,
    /// Map-Replies with the same record that one requesting RLOC may draw, per second (bucket of twice as
    /// many).
    pub replies_per_record: u32,
    /// Map-Replies that one requesting RLOC may draw, per second (bucket of twice as many).
    pub replies_per_rloc: u32,
    /// Map-Replies and forwarded Map-Requests of the whole router, per second (bucket of twice as many).
    pub replies_total: u32,
    /// Map-Requests per second that one sender may have worked on (bucket of twice as many). A Map-Server
    /// forwards those of many ITRs.
    pub requests_per_source: u32,
    /// Bytes of Map-Replies per second to one RLOC that is not known to have asked, as the Map-Request only
    /// names it (bucket of twice as many).
    pub unverified_bytes_per_rloc: u32,
    /// ITR: destinations that may be unresolved at once; further misses are dropped and counted. The last
    /// quarter is not for a source of packets that has half of them already.
    pub pending_requests: usize,
    /// DNS names are resolved again after this time. Their records' own time to live is not known.
    pub name_refresh: Duration,
    /// Map-Server: registrations (an EID-prefix by an xTR each) that one site may have.
    pub registrations_per_site: usize,
    /// Map-Server: registrations of all sites.
    pub registrations_total: usize,
    /// How long a locator that carries traffic both ways goes without a nonce's echo being asked of it.
    pub echo_nonce_interval: Duration,
    /// How long an echo is waited for: a round trip, and the time until the other side has a packet to send.
    pub echo_nonce_timeout: Duration,
    /// How long a locator that locator-status-bits said is down stays so at least.
    pub locator_status_damping: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            register_interval: Duration::from_secs(60),
            quick_register_interval: Duration::from_secs(20),
            quick_register_time: Duration::from_secs(300),
            register_retry: Duration::from_secs(1),
            register_retry_max: Duration::from_secs(60),
            notify_retry: Duration::from_secs(3),
            registration_timeout: Duration::from_secs(180),
            request_retry: Duration::from_secs(1),
            request_retries: 10,
            request_rest: Duration::from_secs(30),
            smr_interval: Duration::from_secs(3),
            smr_attempts: 3,
            negative_ttl_unconfigured: Ttl(15),
            negative_ttl_unregistered: Ttl(1),
            replies_per_record: 5,
            replies_per_rloc: 100,
            replies_total: 10_000,
            requests_per_source: 2000,
            unverified_bytes_per_rloc: 65_536,
            pending_requests: 4096,
            name_refresh: Duration::from_secs(300),
            registrations_per_site: 100_000,
            registrations_total: 2_000_000,
            echo_nonce_interval: Duration::from_secs(5),
            echo_nonce_timeout: Duration::from_secs(1),
            locator_status_damping: Duration::from_secs(300),
        }
    }
}

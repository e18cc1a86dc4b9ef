//! Scenarios: what a simulation is told, and how it is read from a file.
//!
//! Owns: the plain structs, and the TOML format of `configs/sim`. Must not run anything.

mod fleet;
mod read;
mod redundancy;
#[cfg(test)]
mod tests;
mod values;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

pub(super) use redundancy::LAN;

use super::link::LinkProfile;
use super::topology::{LinkId, NodeId};
use crate::config::Report;
use crate::proto::config::SyncMode;
use crate::proto::redundancy::vrrp::{Versions, VirtualRouterConfig};
use crate::types::{EidPrefix, Ttl};

/// A network, and what happens in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scenario {
    /// For people.
    pub title: String,
    /// How long it runs.
    pub duration: Duration,
    /// Seed of the first run; each further one has the next.
    pub seed: u64,
    /// Runs of each case.
    pub runs: u32,
    /// Everything that has links.
    pub nodes: Vec<NodeSpec>,
    /// What they are linked by.
    pub links: Vec<LinkSpec>,
    /// Who owns which EIDs.
    pub sites: Vec<SiteSpec>,
    /// What hosts send.
    pub traffic: Vec<TrafficSpec>,
    /// What breaks, and when.
    pub faults: Vec<FaultSpec>,
    /// What breaks at random.
    pub churn: Vec<ChurnSpec>,
    /// The variants that are compared; never empty.
    pub cases: Vec<CaseSpec>,
    /// What is plotted.
    pub plot: PlotSpec,
}

/// Something that has links.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSpec {
    /// Unique.
    pub name: String,
    /// Under which name its figures are shown; those of one group are added up.
    pub group: String,
    /// What it is.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// A core router: passes packets of the underlay on.
    Core,
    /// Passes packets within a site on.
    Switch,
    /// Map-Server and Map-Resolver.
    MappingSystem {
        /// Where it is reached.
        addresses: Vec<IpAddr>,
        /// What is delegated to it: sites with prefixes in there are its own where they don't name another.
        prefixes: Vec<EidPrefix>,
        /// The DDT nodes at which it begins to search for what is not its own; none = it does not.
        roots: Vec<NodeId>,
    },
    /// DDT node.
    DdtNode {
        /// Where it is reached.
        addresses: Vec<IpAddr>,
        /// What it is authoritative for, and what is delegated to it.
        prefixes: Vec<EidPrefix>,
        /// The nodes and mapping systems that it delegated their prefixes to.
        delegates: Vec<NodeId>,
    },
    /// A tunnel router.
    Xtr {
        /// Its site, by its place.
        site: usize,
        /// Its locators.
        rlocs: Vec<IpAddr>,
        /// Their priority.
        priority: u8,
        /// Their weight.
        weight: u8,
        /// Most entries of its map-cache.
        map_cache_limit: usize,
        /// Whether it probes locators.
        probing: bool,
        /// Its own addresses on the site's LAN.
        lan: Vec<IpAddr>,
        /// Its priority as a virtual router.
        vrrp_priority: u8,
    },
    /// Hosts that send and answer.
    Host {
        /// Their site, by its place.
        site: usize,
        /// All addresses that answer; the first ones are sources.
        addresses: Vec<IpNet>,
    },
}

/// A link between two nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkSpec {
    /// Its ends.
    pub between: (NodeId, NodeId),
    /// What it is like.
    pub profile: LinkProfile,
}

/// A site.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteSpec {
    /// Its name.
    pub name: String,
    /// What its registrations are authenticated by.
    pub key: String,
    /// Its EID-prefixes.
    pub prefixes: Vec<EidPrefix>,
    /// TTL of their mappings.
    pub ttl: Ttl,
    /// Whether the Map-Server answers for it.
    pub proxy_reply: bool,
    /// The mapping system that it registers with and asks.
    pub mapping_system: NodeId,
    /// Its tunnel routers. Without virtual routers, hosts send to the first one.
    pub gateways: Vec<NodeId>,
    /// The virtual routers that hosts send to, at most one for each family; what differs between the tunnel
    /// routers is that of none of them.
    pub vrrp: Vec<VirtualRouterConfig>,
}

/// What a kind of application sends.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficSpec {
    /// Whether it is answered.
    pub kind: TrafficKind,
    /// The hosts that it runs on.
    pub from: Vec<NodeId>,
    /// How many run on each.
    pub count: u32,
    /// When the first packet is sent …
    pub start: Duration,
    /// … or up to so much later.
    pub start_spread: Duration,
    /// When it ends.
    pub stop: Option<Duration>,
    /// The time between two packets: at least, and at most.
    pub interval: (Duration, Duration),
    /// Where to, the most popular first.
    pub to: Vec<IpAddr>,
    /// The exponent of their popularity (Zipf) in thousandths; 0 = all alike.
    pub zipf: u32,
    /// After so many packets another destination is chosen; 0 = never.
    pub packets_each: u32,
    /// Bytes of payload.
    pub size: usize,
}

/// Kinds of applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficKind {
    /// Echo requests, which are answered.
    Ping,
    /// UDP one way.
    Udp,
}

/// Something that breaks.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSpec {
    /// What.
    pub what: Broken,
    /// From when.
    pub from: Duration,
    /// Until when; `None` = for good.
    pub until: Option<Duration>,
    /// Both are later by up to so much, at random.
    pub spread: Duration,
    /// The cases in which it does; empty = all.
    pub cases: Vec<usize>,
}

/// What can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A link is cut.
    Link(LinkId),
    /// All links of a node are cut. Whether its map-cache is emptied when they are back.
    Links(NodeId, bool),
    /// A node crashes; later it starts anew, empty.
    Node(NodeId),
    /// The same, but it is shut down in order, so that it can resign first.
    Stop(NodeId),
}

/// Tunnel routers that crash at random.
#[derive(Clone, Debug, PartialEq)]
pub struct ChurnSpec {
    /// From when on.
    pub start: Duration,
    /// Time from one crash to the next.
    pub interval: Duration,
    /// How long one is down.
    pub down: Duration,
    /// Which.
    pub nodes: Vec<NodeId>,
}

/// A variant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaseSpec {
    /// Its name.
    pub name: String,
    /// Most entries of all map-caches, instead of what the nodes say.
    pub map_cache_limit: Option<usize>,
    /// TTL of all mappings, instead of what the sites say.
    pub ttl: Option<Ttl>,
    /// How the tunnel routers of a site that has several synchronise their map-caches; `None` = not at all.
    pub sync: Option<SyncMode>,
    /// Whether they acknowledge it.
    pub sync_ack: bool,
    /// What all virtual routers are like, instead of what they say.
    pub vrrp: VrrpChange,
}

/// What a case changes of virtual routers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VrrpChange {
    /// Time between advertisements.
    pub interval: Option<Duration>,
    /// The versions that are spoken.
    pub versions: Option<Versions>,
    /// Whether a master of lower priority is replaced.
    pub preempt: Option<bool>,
    /// How long it is left in peace first.
    pub preempt_delay: Option<Duration>,
    /// The priority of all tunnel routers of a site but the first.
    pub backup_priority: Option<u8>,
}

/// A bar chart.
#[derive(Clone, Debug, PartialEq)]
pub struct PlotSpec {
    /// The figure.
    pub metric: String,
    /// The groups that have it; empty = all.
    pub groups: Vec<String>,
}

impl Default for PlotSpec {
    fn default() -> Self {
        Self { metric: "itr-dropped".into(), groups: Vec::new() }
    }
}

impl Scenario {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn load(path: &Path) -> Result<Self, Report> {
        Self::parse(path, &crate::config::read(path, "scenario")?)
    }

    /// Reads `text`, the content of the file at `path`.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Report> {
        read::scenario(path, text)
    }
}

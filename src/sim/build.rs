//! From a scenario, a case and a seed to a network in its first moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::host::{Application, Host};
use super::lan::{Lan, Switch};
use super::link::Direction;
use super::log::Fingerprint;
use super::network::{Event, Link, Network, Node, Role};
use super::queue::EventQueue;
use super::random::{Popularity, Seed, uniform};
use super::router::{Out, Router, Virtual, Workshop};
use super::scenario::{CaseSpec, NodeKind, NodeSpec, Scenario, SiteSpec};
use super::study::Observer;
use super::tally::Tally;
use super::topology::{NodeId, Topology, Transit};
use crate::auth::{Algorithm, Key, Secret};
use crate::proto::config::{
    ControlConfig, DatabaseEntry, DdtConfig, DdtDelegation, DdtNodeConfig, EtrConfig, EtrMapServer,
    Host as Address, ItrConfig, LocatorConfig, LocatorSource, MapResolverConfig, MapServerConfig,
    ProbingConfig, SiteConfig, SitePrefix, SyncConfig,
};
use crate::proto::redundancy::vrrp::{InterfaceState, VirtualRouterConfig};
use crate::types::Instant;
use crate::wire::vrrp::virtual_mac;

impl Network {
    /// The network, with everything scheduled that is known beforehand, and its routers started.
    pub(super) fn new(scenario: &Scenario, case: usize, seed: u64, observer: &mut dyn Observer) -> Self {
        let seed = Seed(seed);
        let default = CaseSpec::default();
        let variant = scenario.cases.get(case).unwrap_or(&default);
        let mut queue = EventQueue::new();
        for (number, fault) in scenario.faults.iter().enumerate() {
            if fault.cases.is_empty() || fault.cases.contains(&case) {
                let late = uniform(&mut seed.rng(&format!("fault {number}")), Duration::ZERO, fault.spread);
                queue.push(Instant::ZERO + fault.from + late, Event::Fault(number, true));
                if let Some(until) = fault.until {
                    queue.push(Instant::ZERO + until + late, Event::Fault(number, false));
                }
            }
        }
        let churn = scenario.churn.iter().enumerate().map(|(number, spec)| {
            queue.push(Instant::ZERO + spec.start + spec.interval, Event::Churn(number));
            (spec.clone(), seed.rng(&format!("churn {number}")))
        });
        let churn = churn.collect();
        let lan = lan_links(scenario);
        let links = scenario.links.iter().enumerate().map(|(number, spec)| Link {
            directions: [0, 1].map(|way: u8| Direction::new(seed.rng(&format!("link {number}, way {way}")))),
            spec: spec.clone(),
            down: 0,
            cuts: 0,
            lan: lan.get(number).is_some_and(|lan| *lan),
        });
        let links = links.collect();
        let traffic: Vec<_> =
            scenario.traffic.iter().map(|t| (t.clone(), Popularity::new(t.to.len(), t.zipf))).collect();
        let mut applications = Vec::new();
        for (number, spec) in scenario.traffic.iter().enumerate() {
            for &host in &spec.from {
                for copy in 0..spec.count {
                    let id = applications.len() as u32;
                    let rng = seed.rng(&format!("traffic {number}, host {host}, copy {copy}"));
                    let mut application = Application::new(id, host, number, rng);
                    queue.push(application.start(spec), Event::Send(id));
                    applications.push(application);
                }
            }
        }
        let mut network = Self {
            now: Instant::ZERO,
            end: Instant::ZERO + scenario.duration,
            seed,
            queue,
            nodes: Vec::new(),
            links,
            topology: topology(scenario),
            owners: owners(scenario),
            sites: lans(scenario),
            traffic,
            applications,
            faults: scenario.faults.clone(),
            churn,
            workshop: Workshop::new(),
            fingerprint: Fingerprint::new(),
            events: 0,
            counts: BTreeMap::new(),
        };
        network.start(scenario, variant, observer);
        network
    }

    fn start(&mut self, scenario: &Scenario, case: &CaseSpec, observer: &mut dyn Observer) {
        let mut started = Vec::new();
        for (id, spec) in (0..).zip(&scenario.nodes) {
            let rng = self.seed.rng(&format!("node {}, start 1", spec.name));
            let mut out = Out::default();
            let router = |config, addresses: &[IpAddr], virtual_| {
                Box::new(Router::start(config, addresses.to_vec(), virtual_, rng, Instant::ZERO, &mut out))
            };
            let kind = match &spec.kind {
                NodeKind::Core => Role::Core,
                NodeKind::Switch => Role::Switch(Switch::default()),
                NodeKind::MappingSystem { addresses, .. } => {
                    Role::Router(router(mapping_system(scenario, id), addresses, Virtual::default()), None)
                }
                NodeKind::DdtNode { addresses, .. } => {
                    Role::Router(router(ddt_node(scenario, spec), addresses, Virtual::default()), None)
                }
                NodeKind::Xtr { site, rlocs, .. } => {
                    let virtual_ = virtual_routers(scenario, case, id, spec);
                    Role::Router(
                        router(tunnel_router(scenario, case, id, spec), rlocs, virtual_),
                        Some(*site),
                    )
                }
                NodeKind::Host { site, addresses } => {
                    Role::Host(Host { site: *site, addresses: addresses.clone() })
                }
            };
            self.nodes.push(Node {
                name: spec.name.clone(),
                group: spec.group.clone(),
                kind,
                up: true,
                timer: None,
                starts: 1,
                tally: Tally::default(),
            });
            started.push((id, out));
        }
        for (id, out) in started {
            self.act(id, out, observer);
        }
    }
}

fn topology(scenario: &Scenario) -> Topology {
    let transit = |node: &NodeSpec| match node.kind {
        NodeKind::Core => Transit::Underlay,
        NodeKind::Switch => Transit::Lan,
        _ => Transit::None,
    };
    let links = scenario.links.iter().map(|l| (l.between.0, l.between.1, l.profile.delay));
    Topology::new(scenario.nodes.iter().map(transit).collect(), links)
}

fn owners(scenario: &Scenario) -> BTreeMap<IpAddr, (NodeId, bool)> {
    let nodes = (0..).zip(&scenario.nodes);
    nodes
        .flat_map(|(id, node)| {
            let lan: &[IpAddr] = match &node.kind {
                NodeKind::Xtr { lan, .. } => lan,
                _ => &[],
            };
            let addresses = match &node.kind {
                NodeKind::MappingSystem { addresses, .. } | NodeKind::DdtNode { addresses, .. } => {
                    addresses.as_slice()
                }
                NodeKind::Xtr { rlocs, .. } => rlocs,
                _ => &[],
            };
            let underlay = addresses.iter().map(move |address| (*address, (id, false)));
            underlay.chain(lan.iter().map(move |address| (*address, (id, true))))
        })
        .collect()
}

fn lans(scenario: &Scenario) -> Vec<Lan> {
    let mut lans: Vec<Lan> = scenario
        .sites
        .iter()
        .map(|site| Lan {
            prefixes: site.prefixes.iter().map(|p| p.net).collect(),
            hosts: Vec::new(),
            gateways: site.gateways.clone(),
            reached: BTreeSet::new(),
            virtual_routers: site.vrrp.iter().map(|c| virtual_mac(c.key.family, c.key.vrid)).collect(),
        })
        .collect();
    for (id, node) in (0..).zip(&scenario.nodes) {
        if let NodeKind::Host { site, .. } = &node.kind
            && let Some(lan) = lans.get_mut(*site)
        {
            lan.hosts.push(id);
        }
    }
    lans
}

/// How a tunnel router synchronises its map-cache with the others of its site: by their addresses on the LAN,
/// if all have one of the same family, else by their locators.
fn sync(scenario: &Scenario, case: &CaseSpec, id: NodeId, site: &SiteSpec) -> Option<SyncConfig> {
    let mode = case.sync.filter(|_| site.gateways.len() > 1 && site.gateways.contains(&id))?;
    let address = |id: NodeId, wanted: &dyn Fn(&IpAddr, bool) -> bool| {
        let Some(NodeKind::Xtr { lan, rlocs, .. }) = scenario.nodes.get(id as usize).map(|n| &n.kind) else {
            return None;
        };
        let mut all = lan.iter().map(|a| (a, true)).chain(rlocs.iter().map(|a| (a, false)));
        all.find(|(a, is_lan)| wanted(a, *is_lan)).map(|(a, _)| *a)
    };
    let all = |wanted: &dyn Fn(&IpAddr, bool) -> bool| {
        let each = site.gateways.iter().map(|id| Some((*id, address(*id, wanted)?)));
        each.collect::<Option<Vec<_>>>()
    };
    let found = all(&|a, lan| lan && a.is_ipv4())
        .or_else(|| all(&|a, lan| !lan && a.is_ipv4()))
        .or_else(|| all(&|a, lan| !lan && a.is_ipv6()))?;
    let others = found.iter().filter(|(other, _)| *other != id).map(|(_, a)| *a).collect();
    let own = found.iter().find(|(other, _)| *other == id).map(|(_, a)| *a);
    Some(SyncConfig { mode, ack: case.sync_ack, source: own, ..SyncConfig::new(others, vec![key(site)]) })
}

/// Which links frames of LANs go by: those of switches and hosts, but none that would close a circle of
/// switches.
fn lan_links(scenario: &Scenario) -> Vec<bool> {
    let kind = |id: NodeId| scenario.nodes.get(id as usize).map(|node| &node.kind);
    // Switches that are joined have the same number.
    let mut joined: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let links = scenario.links.iter().map(|link| {
        let (a, b) = link.between;
        match (kind(a), kind(b)) {
            (Some(NodeKind::Switch), Some(NodeKind::Switch)) => {
                let of = |id| joined.get(&id).copied().unwrap_or(id);
                let (first, second) = (of(a), of(b));
                joined.insert(a, first);
                joined.insert(b, second);
                joined.values_mut().filter(|group| **group == second).for_each(|group| *group = first);
                first != second
            }
            (Some(NodeKind::Switch | NodeKind::Host { .. }), _)
            | (_, Some(NodeKind::Switch | NodeKind::Host { .. })) => true,
            _ => false,
        }
    });
    links.collect()
}

/// The virtual routers of a tunnel router.
fn virtual_routers(scenario: &Scenario, case: &CaseSpec, id: NodeId, spec: &NodeSpec) -> Virtual {
    let NodeKind::Xtr { site, lan, vrrp_priority, .. } = &spec.kind else { return Virtual::default() };
    let Some(site) = scenario.sites.get(*site).filter(|site| site.gateways.contains(&id)) else {
        return Virtual::default();
    };
    let first = site.gateways.first() == Some(&id);
    let routers = site.vrrp.iter().map(|config| {
        let config = VirtualRouterConfig { priority: *vrrp_priority, ..config.clone() };
        case.vrrp.applied(config, first)
    });
    let v4 = lan.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None });
    let v6 = lan.iter().find_map(|a| match a {
        IpAddr::V6(a) if a.is_unicast_link_local() => Some(*a),
        _ => None,
    });
    // Every interface has one, whether the scenario says so or not.
    let v6 = v6.unwrap_or_else(|| Ipv6Addr::from_bits((0xfe80 << 112) + u128::from(id) + 1));
    Virtual { routers: routers.collect(), lan: InterfaceState { running: true, ipv4: v4, ipv6: Some(v6) } }
}

fn key(site: &SiteSpec) -> Key {
    Key { id: 0, algorithm: Algorithm::HmacSha256, secret: Secret::new(site.key.as_bytes()), truncate: false }
}

/// Map-Server of all sites that register there, and Map-Resolver.
fn mapping_system(scenario: &Scenario, id: NodeId) -> ControlConfig {
    let sites = scenario.sites.iter().filter(|site| site.mapping_system == id).map(|site| SiteConfig {
        name: site.name.clone(),
        keys: vec![key(site)],
        prefixes: site.prefixes.iter().map(|&eid| SitePrefix { eid, accept_more_specifics: false }).collect(),
        allow_repeated_nonce: false,
    });
    ControlConfig {
        map_server: Some(MapServerConfig { sites: sites.collect() }),
        map_resolver: Some(MapResolverConfig::default()),
        ddt: match scenario.nodes.get(id as usize).map(|node| &node.kind) {
            Some(NodeKind::MappingSystem { addresses: own, roots, .. }) if !roots.is_empty() => DdtConfig {
                node: None,
                // Nobody else has its sites.
                map_server_peers: own.clone(),
                roots: roots
                    .iter()
                    .flat_map(|root| addresses(scenario, *root))
                    .map(|a| Address::Address(*a))
                    .collect(),
            },
            _ => DdtConfig::default(),
        },
        ..ControlConfig::default()
    }
}

/// Refers to those that it delegated to.
fn ddt_node(scenario: &Scenario, spec: &NodeSpec) -> ControlConfig {
    let NodeKind::DdtNode { prefixes, delegates, .. } = &spec.kind else { return ControlConfig::default() };
    let mut node = DdtNodeConfig { authoritative: prefixes.clone(), delegations: Vec::new() };
    for &to in delegates {
        let Some(delegate) = scenario.nodes.get(to as usize) else { continue };
        let (NodeKind::MappingSystem { prefixes, .. } | NodeKind::DdtNode { prefixes, .. }) = &delegate.kind
        else {
            continue;
        };
        node.delegations.extend(prefixes.iter().map(|prefix| DdtDelegation {
            prefix: *prefix,
            to: addresses(scenario, to).to_vec(),
            map_servers: matches!(delegate.kind, NodeKind::MappingSystem { .. }),
        }));
    }
    ControlConfig { ddt: DdtConfig { node: Some(node), ..DdtConfig::default() }, ..ControlConfig::default() }
}

/// Where a part of the mapping system is reached.
fn addresses(scenario: &Scenario, id: NodeId) -> &[IpAddr] {
    match scenario.nodes.get(id as usize).map(|node| &node.kind) {
        Some(NodeKind::MappingSystem { addresses, .. } | NodeKind::DdtNode { addresses, .. }) => addresses,
        _ => &[],
    }
}

/// Registers the locators of all tunnel routers of its site, as each of those does.
fn tunnel_router(scenario: &Scenario, case: &CaseSpec, id: NodeId, spec: &NodeSpec) -> ControlConfig {
    let NodeKind::Xtr { site: at, map_cache_limit, probing, .. } = &spec.kind else {
        return ControlConfig::default();
    };
    let Some(site) = scenario.sites.get(*at) else { return ControlConfig::default() };
    let mut locators = Vec::new();
    for &member in &site.gateways {
        let kind = scenario.nodes.get(member as usize).map(|n| &n.kind);
        if let Some(NodeKind::Xtr { rlocs, priority, weight, .. }) = kind {
            locators.extend(rlocs.iter().map(|&rloc| LocatorConfig {
                source: LocatorSource::Address(rloc),
                priority: *priority,
                weight: *weight,
                mpriority: 255,
                mweight: 0,
                local: member == id,
            }));
        }
    }
    let addresses = addresses(scenario, site.mapping_system);
    let database = site.prefixes.iter().map(|&eid| DatabaseEntry {
        eid,
        ttl: case.ttl.unwrap_or(site.ttl),
        register: true,
        map_servers: None,
        locators: locators.clone(),
    });
    let map_servers = addresses.iter().take(1).map(|&address| EtrMapServer {
        proxy_reply: site.proxy_reply,
        ..EtrMapServer::new(address.to_string(), Address::Address(address), key(site))
    });
    ControlConfig {
        database: database.collect(),
        itr: Some(ItrConfig {
            map_resolvers: addresses.iter().map(|&address| Address::Address(address)).collect(),
            map_cache_limit: case.map_cache_limit.unwrap_or(*map_cache_limit),
            ..ItrConfig::default()
        }),
        etr: Some(EtrConfig { map_servers: map_servers.collect(), ..EtrConfig::default() }),
        probing: probing.then(ProbingConfig::default),
        sync: sync(scenario, case, id, site),
        ..ControlConfig::default()
    }
}

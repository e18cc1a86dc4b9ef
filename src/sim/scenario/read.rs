//! TOML → [`Scenario`]. Goes on after a problem, so that a report names all of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeTable;

use super::values::{Bandwidth, Exponent};
use super::*;
use crate::config::{At, Place, Problems, Section};
use crate::sim::packet::LEAST_PAYLOAD;

/// Reads a whole scenario.
pub(super) fn scenario(path: &Path, text: &str) -> Result<Scenario, Report> {
    let problems = Problems::new(text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = Place { span: error.span().unwrap_or(text.len()..text.len()), key: String::new() };
        problems.error(&place, error.message(), "correct the TOML syntax");
    }
    let scenario =
        if errors.is_empty() { Reader::new(&problems).read(tree.get_ref()) } else { Scenario::default() };
    let report = problems.report(path);
    if report.has_errors() { Err(report) } else { Ok(scenario) }
}

/// What is known while a file is read.
pub(super) struct Reader<'a> {
    pub(super) problems: &'a Problems<'a>,
    pub(super) scenario: Scenario,
    pub(super) nodes: BTreeMap<String, NodeId>,
    pub(super) sites: BTreeMap<String, usize>,
    /// Who has an underlay address.
    pub(super) addresses: BTreeMap<IpAddr, NodeId>,
    /// Hosts and tunnel routers of each fleet.
    pub(super) fleets: BTreeMap<String, (Vec<NodeId>, Vec<NodeId>)>,
}

/// Text that names something else of the file.
type Name = At<String>;

const LONGEST: RangeInclusive<u64> = 0..=u32::MAX as u64;

impl<'a> Reader<'a> {
    fn new(problems: &'a Problems<'a>) -> Self {
        Self {
            problems,
            scenario: Scenario::default(),
            nodes: BTreeMap::new(),
            sites: BTreeMap::new(),
            addresses: BTreeMap::new(),
            fleets: BTreeMap::new(),
        }
    }

    fn read(mut self, tree: &'a DeTable<'a>) -> Scenario {
        let root = Section::root(tree, self.problems);
        self.simulation(&root);
        self.cases(&root);
        let mut referrals: Vec<(NodeId, Vec<Name>)> = Vec::new();
        for section in root.sections("core") {
            self.named_node(&section, NodeKind::Core);
            section.finish();
        }
        for section in root.sections("switch") {
            self.named_node(&section, NodeKind::Switch);
            section.finish();
        }
        for section in root.sections("mapping-system") {
            section.require("addresses", "give the addresses at which it is reached");
            let addresses = section.texts("addresses").unwrap_or_default().value;
            let kind = NodeKind::MappingSystem {
                addresses: addresses.iter().map(|a| a.value).collect(),
                prefixes: prefixes(&section),
                roots: Vec::new(),
            };
            if let Some(id) = self.named_node(&section, kind) {
                self.claim(&addresses, id);
                referrals.extend(section.texts("ddt-roots").map(|names| (id, names.value)));
            }
            section.finish();
        }
        for section in root.sections("ddt-node") {
            section.require("addresses", "give the addresses at which it is reached");
            section.require("eid-prefixes", "give what it is authoritative for, as 0.0.0.0/0 for a root");
            let addresses = section.texts("addresses").unwrap_or_default().value;
            let kind = NodeKind::DdtNode {
                addresses: addresses.iter().map(|a| a.value).collect(),
                prefixes: prefixes(&section),
                delegates: Vec::new(),
            };
            if let Some(id) = self.named_node(&section, kind) {
                self.claim(&addresses, id);
                referrals.extend(section.texts("delegates").map(|names| (id, names.value)));
            }
            section.finish();
        }
        for (id, names) in referrals {
            self.refer(id, &names);
        }
        let sites = root.sections("site");
        sites.iter().for_each(|section| self.site(section));
        root.sections("xtr").into_iter().for_each(|section| self.xtr(section));
        root.sections("host").into_iter().for_each(|section| self.host(section));
        for (at, section) in sites.into_iter().enumerate() {
            self.gateways(at, section);
        }
        self.virtual_routers(&root);
        root.sections("fleet").into_iter().for_each(|section| self.fleet(section));
        root.sections("link").into_iter().for_each(|section| self.link(section));
        root.sections("traffic").into_iter().for_each(|section| self.traffic(section));
        root.sections("fault").into_iter().for_each(|section| self.fault(section));
        root.sections("churn").into_iter().for_each(|section| self.churn(section));
        let plot = root.section("plot");
        if let Some(metric) = plot.text::<String>("metric") {
            self.scenario.plot.metric = metric.value;
        }
        let groups = plot.texts::<String>("groups").unwrap_or_default().value;
        self.scenario.plot.groups = groups.into_iter().map(|g| g.value).collect();
        plot.finish();
        root.finish();
        self.scenario
    }

    fn simulation(&mut self, root: &Section<'a>) {
        let section = root.section("simulation");
        section.require("duration", "say how long it runs, as 300s or 1h");
        self.scenario.title = section.text("title").map_or_else(String::new, |t| t.value);
        self.scenario.duration = section.text("duration").unwrap_or_default().value;
        self.scenario.seed = section.integer("seed", LONGEST).map_or(1, |n| n.value);
        self.scenario.runs = section.integer("runs", 1..=10_000).map_or(1, |n| n.value as u32);
        section.finish();
    }

    fn cases(&mut self, root: &Section<'a>) {
        for section in root.sections("case") {
            section.require("name", "give each case a name");
            let case = CaseSpec {
                name: section.text("name").unwrap_or_default().value,
                map_cache_limit: section.integer("map-cache-limit", 1..=10_000_000).map(|n| n.value as usize),
                ttl: self.ttl(&section),
                sync: section.text("sync").map(|mode| mode.value),
                sync_ack: section.bool("sync-ack").is_none_or(|ack| ack.value),
                vrrp: super::redundancy::change(&section),
            };
            if self.scenario.cases.iter().any(|other| other.name == case.name) {
                section.error("name", "is the name of another case too", "give each case a name of its own");
            }
            section.finish();
            self.scenario.cases.push(case);
        }
        if self.scenario.cases.is_empty() {
            self.scenario.cases.push(CaseSpec { name: "all".into(), ..CaseSpec::default() });
        }
    }

    pub(super) fn ttl(&self, section: &Section<'_>) -> Option<Ttl> {
        section.integer_or_text("ttl", 1..=525_600, |minutes| Ttl(minutes as u32)).map(|ttl| ttl.value)
    }

    /// Adds a node whose name the section gives; it is its own group.
    fn named_node(&mut self, section: &Section<'_>, kind: NodeKind) -> Option<NodeId> {
        section.require("name", "give it a name");
        let name = section.text::<String>("name")?;
        let added = self.node(name.value.clone(), name.value, kind);
        if added.is_none() {
            section.error("name", "is the name of another node too", "give each node a name of its own");
        }
        added
    }

    /// Adds a node, unless there is one of this name.
    pub(super) fn node(&mut self, name: String, group: String, kind: NodeKind) -> Option<NodeId> {
        let id = self.scenario.nodes.len() as NodeId;
        if self.nodes.contains_key(&name) {
            return None;
        }
        self.nodes.insert(name.clone(), id);
        self.scenario.nodes.push(NodeSpec { name, group, kind });
        Some(id)
    }

    /// Notes whose the addresses are.
    fn claim(&mut self, addresses: &[At<IpAddr>], id: NodeId) {
        for address in addresses {
            if self.addresses.insert(address.value, id).is_some() {
                self.problems.error(
                    &address.place,
                    "is the address of another node too",
                    "give each node addresses of its own",
                );
            }
        }
    }

    /// Notes whom a DDT node delegated to, or where a Map-Resolver begins.
    fn refer(&mut self, id: NodeId, names: &[Name]) {
        let mut found = Vec::new();
        for name in names {
            let to = self.find(name);
            let kind = to.and_then(|to| self.scenario.nodes.get(to as usize)).map(|node| &node.kind);
            let from = self.scenario.nodes.get(id as usize).map(|node| &node.kind);
            match (from, kind) {
                (_, None) => {}
                (_, Some(NodeKind::DdtNode { .. }))
                | (Some(NodeKind::DdtNode { .. }), Some(NodeKind::MappingSystem { .. })) => found.extend(to),
                _ => self.problems.error(
                    &name.place,
                    "is no DDT node",
                    "name a [[ddt-node]] or, to delegate to, a [[mapping-system]]",
                ),
            }
        }
        let kind = self.scenario.nodes.get_mut(id as usize).map(|node| &mut node.kind);
        if let Some(NodeKind::DdtNode { delegates: list, .. } | NodeKind::MappingSystem { roots: list, .. }) =
            kind
        {
            *list = found;
        }
    }

    /// The mapping system that an EID-prefix was delegated to.
    pub(super) fn serving(&self, prefix: &EidPrefix) -> Option<NodeId> {
        let nodes = (0..).zip(&self.scenario.nodes);
        let serves = |node: &NodeSpec| match &node.kind {
            NodeKind::MappingSystem { prefixes, .. } => prefixes.iter().any(|p| p.covers(prefix)),
            _ => false,
        };
        nodes.filter(|(_, node)| serves(node)).map(|(id, _)| id).next()
    }

    fn site(&mut self, section: &Section<'a>) {
        section.require("name", "give the site a name");
        section.require("key", "give the key of its registrations");
        section.require("eid-prefixes", "give the EID-prefixes that it owns");
        let name = section.text::<String>("name").unwrap_or_default().value;
        let site = SiteSpec {
            key: section.text::<String>("key").unwrap_or_default().value,
            prefixes: section
                .texts("eid-prefixes")
                .map_or_else(Vec::new, |list| list.value.into_iter().map(|p| p.value).collect()),
            ttl: self.ttl(section).unwrap_or(Ttl(1440)),
            proxy_reply: section.bool("proxy-reply").is_some_and(|flag| flag.value),
            mapping_system: self.mapping_system(section),
            gateways: Vec::new(),
            vrrp: Vec::new(),
            name: name.clone(),
        };
        if self.sites.insert(name, self.scenario.sites.len()).is_some() {
            section.error("name", "is the name of another site too", "give each site a name of its own");
        }
        self.scenario.sites.push(site);
    }

    /// The mapping system that a section names, or the first one.
    pub(super) fn mapping_system(&self, section: &Section<'_>) -> NodeId {
        let is = |id: &NodeId| {
            let node = self.scenario.nodes.get(*id as usize);
            node.is_some_and(|n| matches!(n.kind, NodeKind::MappingSystem { .. }))
        };
        match section.text::<String>("mapping-system") {
            Some(name) => {
                let found = self.nodes.get(&name.value).copied().filter(is);
                found.unwrap_or_else(|| {
                    self.unknown(&name, "mapping system", "a [[mapping-system]]");
                    0
                })
            }
            None => (0..self.scenario.nodes.len() as NodeId).find(is).unwrap_or_else(|| {
                section.error(
                    "mapping-system",
                    "there is none",
                    "add a [[mapping-system]] with name and addresses",
                );
                0
            }),
        }
    }

    /// The tunnel routers that a site's hosts send to: known only after the routers are.
    fn gateways(&mut self, at: usize, section: Section<'a>) {
        let all: Vec<NodeId> = (0..)
            .zip(&self.scenario.nodes)
            .filter(|(_, n)| matches!(n.kind, NodeKind::Xtr { site, .. } if site == at))
            .map(|(id, _)| id)
            .collect();
        let named = section.texts::<String>("gateways").map(|names| names.value);
        let members: Vec<NodeId> = match named {
            None => all.clone(),
            Some(names) => {
                let find = |name: &Name| {
                    let found = self.nodes.get(&name.value).copied().filter(|id| all.contains(id));
                    if found.is_none() {
                        self.unknown(name, "tunnel router of this site", "an [[xtr]] with this site");
                    }
                    found
                };
                names.iter().filter_map(find).collect()
            }
        };
        if all.is_empty() {
            section.error("name", "no tunnel router is of this site", "add an [[xtr]] with this site");
        }
        if let Some(site) = self.scenario.sites.get_mut(at) {
            site.gateways = members;
        }
        section.finish();
    }

    pub(super) fn site_of(&self, section: &Section<'_>) -> Option<usize> {
        section.require("site", "name the site that it belongs to");
        let name = section.text::<String>("site")?;
        let site = self.sites.get(&name.value).copied();
        if site.is_none() {
            self.unknown(&name, "site", "a [[site]]");
        }
        site
    }

    fn xtr(&mut self, section: Section<'a>) {
        section.require("rlocs", "give its locators");
        let rlocs = section.texts::<IpAddr>("rlocs").unwrap_or_default().value;
        let site = self.site_of(&section);
        let lan = section.texts::<IpAddr>("lan-addresses").unwrap_or_default().value;
        let kind = NodeKind::Xtr {
            site: site.unwrap_or_default(),
            rlocs: rlocs.iter().map(|a| a.value).collect(),
            priority: section.integer("priority", 0..=255).map_or(1, |n| n.value as u8),
            weight: section.integer("weight", 0..=100).map_or(50, |n| n.value as u8),
            map_cache_limit: cache_limit(&section),
            probing: section.bool("probing").is_some_and(|flag| flag.value),
            lan: lan.iter().map(|a| a.value).collect(),
            // The owner of the addresses, 255, would have no use for being virtual.
            vrrp_priority: section.integer("vrrp-priority", 1..=254).map_or(100, |n| n.value as u8),
        };
        if let (Some(id), Some(_)) = (self.named_node(&section, kind), site) {
            self.claim(&rlocs, id);
            // Link-local addresses may be the same everywhere.
            let global = |a: &At<IpAddr>| !matches!(a.value, IpAddr::V6(a) if a.is_unicast_link_local());
            self.claim(&lan.into_iter().filter(global).collect::<Vec<_>>(), id);
        }
        section.finish();
    }

    fn host(&mut self, section: Section<'a>) {
        section.require("addresses", "give the addresses that it answers, as 10.1.0.1/32 or 10.1.0.0/24");
        let addresses = section.texts::<IpNet>("addresses").unwrap_or_default().value;
        let site = self.site_of(&section);
        if let Some(site) = site.and_then(|at| self.scenario.sites.get(at)) {
            for address in &addresses {
                if !site.prefixes.iter().any(|p| p.net.contains(&address.value)) {
                    let remedy = format!("give addresses of {}'s EID-prefixes", site.name);
                    self.problems.error(&address.place, "is not in the site", remedy);
                }
            }
        }
        let kind = NodeKind::Host {
            site: site.unwrap_or_default(),
            addresses: addresses.into_iter().map(|a| a.value).collect(),
        };
        self.named_node(&section, kind);
        section.finish();
    }

    fn link(&mut self, section: Section<'a>) {
        section.require("between", "name the two nodes that it joins");
        let profile = profile(&section);
        if let Some(names) = section.texts::<String>("between")
            && let Some(between) = self.pair(&names)
        {
            self.scenario.links.push(LinkSpec { between, profile });
        }
        section.finish();
    }

    /// The two nodes that a key names.
    fn pair(&self, names: &At<Vec<Name>>) -> Option<(NodeId, NodeId)> {
        let [a, b] = names.value.as_slice() else {
            self.problems.error(&names.place, "does not name two nodes", "name exactly two");
            return None;
        };
        let (first, second) = (self.find(a), self.find(b));
        if a.value == b.value {
            self.problems.error(&names.place, "names one node twice", "name two different nodes");
            return None;
        }
        first.zip(second)
    }

    fn find(&self, name: &Name) -> Option<NodeId> {
        let found = self.nodes.get(&name.value).copied();
        if found.is_none() {
            self.unknown(name, "node", "it, or correct the name");
        }
        found
    }

    pub(super) fn unknown(&self, name: &Name, what: &str, add: &str) {
        let message = format!("there is no {what} of the name \"{}\"", crate::config::shorten(&name.value));
        self.problems.error(&name.place, message, format!("add {add}"));
    }

    fn traffic(&mut self, section: Section<'a>) {
        section.require("kind", "give \"ping\" or \"udp\"");
        section.require("from", "name the hosts, or the fleets, that send");
        section.require("interval", "give the time between two packets, as 1s");
        let kind = match section.text::<String>("kind").map(|k| k.value).as_deref() {
            Some("udp") => TrafficKind::Udp,
            Some("ping") | None => TrafficKind::Ping,
            Some(_) => {
                section.error("kind", "is no kind of traffic", "give \"ping\" or \"udp\"");
                TrafficKind::Ping
            }
        };
        let mut from = Vec::new();
        for name in section.texts::<String>("from").unwrap_or_default().value {
            let host = self.nodes.get(&name.value).copied().filter(|id| self.is_host(*id));
            match (self.fleets.get(&name.value), host) {
                (Some((hosts, _)), _) => from.extend(hosts),
                (None, Some(host)) => from.push(host),
                (None, None) => self.unknown(&name, "host", "a [[host]] or a [[fleet]]"),
            }
        }
        let mut to: Vec<IpAddr> =
            section.texts("to").map_or_else(Vec::new, |l| l.value.into_iter().map(|a| a.value).collect());
        if let Some(name) = section.text::<String>("to-fleet") {
            match self.fleets.get(&name.value) {
                Some((hosts, _)) => to.extend(hosts.iter().filter_map(|id| self.host_address(*id))),
                None => self.unknown(&name, "fleet", "a [[fleet]]"),
            }
        }
        if to.is_empty() && !section.has("to-fleet") {
            section.error("to", "there is no destination", "give addresses, or name a fleet in `to-fleet`");
        }
        let low = section.text("interval").unwrap_or_default().value;
        let high = section.text("interval-max").map_or(low, |d| d.value);
        if high < low {
            section.error("interval-max", "is less than `interval`", "give at least as much");
        }
        let spec = TrafficSpec {
            kind,
            from,
            count: section.integer("count", 1..=10_000).map_or(1, |n| n.value as u32),
            start: duration(&section, "start"),
            start_spread: duration(&section, "start-spread"),
            stop: section.text("stop").map(|d| d.value),
            interval: (low, high),
            to,
            zipf: section.text::<Exponent>("zipf").map_or(0, |e| e.value.0),
            packets_each: section.integer("packets-each", LONGEST).map_or(0, |n| n.value as u32),
            size: section.integer("size", LEAST_PAYLOAD as u64..=1400).map_or(56, |n| n.value as usize),
        };
        section.finish();
        self.scenario.traffic.push(spec);
    }

    fn is_host(&self, id: NodeId) -> bool {
        self.scenario.nodes.get(id as usize).is_some_and(|n| matches!(n.kind, NodeKind::Host { .. }))
    }

    fn host_address(&self, id: NodeId) -> Option<IpAddr> {
        match &self.scenario.nodes.get(id as usize)?.kind {
            NodeKind::Host { addresses, .. } => addresses.first().map(crate::sim::host_address),
            _ => None,
        }
    }

    fn fault(&mut self, section: Section<'a>) {
        section.require("from", "say when it begins");
        let forget = section.bool("forget-map-cache").is_some_and(|flag| flag.value);
        let mut found = Vec::new();
        if let Some(names) = section.texts::<String>("cut")
            && let Some((a, b)) = self.pair(&names)
        {
            let joins = |l: &LinkSpec| l.between == (a, b) || l.between == (b, a);
            match self.scenario.links.iter().position(joins) {
                Some(link) => found.push(Broken::Link(link as LinkId)),
                None => {
                    self.problems.error(&names.place, "are not linked", "name the two ends of a [[link]]")
                }
            }
        }
        if let Some(node) = section.text("isolate").and_then(|name| self.find(&name)) {
            found.push(Broken::Links(node, forget));
        }
        if let Some(node) = section.text("crash").and_then(|name| self.find(&name)) {
            found.push(Broken::Node(node));
        }
        if let Some(node) = section.text("stop").and_then(|name| self.find(&name)) {
            found.push(Broken::Stop(node));
        }
        let kinds = ["cut", "isolate", "crash", "stop"].map(|key| section.has(key));
        if kinds.iter().filter(|has| **has).count() != 1 {
            let remedy = "give exactly one of `cut`, `isolate`, `crash` and `stop`";
            self.problems.error(section.place(), "it is not clear what breaks", remedy);
        }
        let mut cases = Vec::new();
        for name in section.texts::<String>("cases").unwrap_or_default().value {
            match self.scenario.cases.iter().position(|case| case.name == name.value) {
                Some(case) => cases.push(case),
                None => self.unknown(&name, "case", "a [[case]]"),
            }
        }
        let from = duration(&section, "from");
        let until = section.text("until").map(|d| d.value);
        if until.is_some_and(|until| until <= from) {
            section.error("until", "is not after `from`", "give a later time, or leave it out");
        }
        let spread = duration(&section, "spread");
        if section.finish() {
            self.scenario.faults.extend(found.into_iter().map(|what| FaultSpec {
                what,
                from,
                until,
                spread,
                cases: cases.clone(),
            }));
        }
    }

    fn churn(&mut self, section: Section<'a>) {
        section.require("fleet", "name the fleet whose tunnel routers crash");
        section.require("interval", "give the time from one crash to the next");
        section.require("down", "say how long a router is down");
        let nodes = section.text::<String>("fleet").and_then(|name| {
            let fleet = self.fleets.get(&name.value).map(|(_, routers)| routers.clone());
            if fleet.is_none() {
                self.unknown(&name, "fleet", "a [[fleet]]");
            }
            fleet
        });
        let spec = ChurnSpec {
            start: duration(&section, "start"),
            interval: duration(&section, "interval"),
            down: duration(&section, "down"),
            nodes: nodes.unwrap_or_default(),
        };
        if section.finish() {
            self.scenario.churn.push(spec);
        }
    }
}

fn prefixes(section: &Section<'_>) -> Vec<EidPrefix> {
    section
        .texts("eid-prefixes")
        .map_or_else(Vec::new, |list| list.value.into_iter().map(|p| p.value).collect())
}

/// What a link is like.
pub(super) fn profile(section: &Section<'_>) -> LinkProfile {
    let default = LinkProfile::default();
    LinkProfile {
        delay: section.text("delay").map_or(default.delay, |d| d.value),
        bandwidth: section.text::<Bandwidth>("bandwidth").map_or(default.bandwidth, |b| b.value.0),
        queue: section.integer("queue", 1..=1 << 40).map_or(default.queue, |n| n.value),
        loss: section.text("loss").map_or(default.loss, |s| s.value),
        duplicate: section.text("duplicate").map_or(default.duplicate, |s| s.value),
        reorder: section.text("reorder").map_or(default.reorder, |s| s.value),
        reorder_delay: section.text("reorder-delay").map_or(default.reorder_delay, |d| d.value),
    }
}

pub(super) fn cache_limit(section: &Section<'_>) -> usize {
    section.integer("map-cache-limit", 1..=10_000_000).map_or(100_000, |n| n.value as usize)
}

/// A duration, or none.
fn duration(section: &Section<'_>, key: &'static str) -> Duration {
    section.text(key).map_or(Duration::ZERO, |d| d.value)
}

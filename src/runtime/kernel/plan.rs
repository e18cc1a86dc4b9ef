//! What the kernel is to be told, worked out from the configuration without touching the kernel.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::config::{Config, RoutingMode};
use crate::io::netlink::{Interface, Route, RouteTarget, Rule, TABLE_MAIN};
use crate::proto::config::LocatorSource;
use crate::types::{EidPrefix, Family, InstanceId};

/// The protocol number (`RTPROT_*`) of our rules and routes, by which they are recognised as ours.
pub const PROTOCOL: u8 = 153;
/// How many priorities our rules take, from [`KernelPlan::rule_priority`] on.
pub const PRIORITIES: u32 = 4;
/// Priority of the rule by which the kernel looks in the tables of VRFs.
const PRIORITY_VRF: u32 = 1000;
/// Metric of routes to the TUN.
const METRIC_TUN: u32 = 1024;
/// Metric of routes to what came here.
pub(super) const METRIC_HERE: u32 = 256;
/// Metric of routes that leave packets to the kernel: preferred where both are for the same prefix.
const METRIC_NATIVE: u32 = 512;
/// IPv4 or IPv6, UDP and LISP header: what encapsulation adds to a packet, in bytes.
const OVERHEAD_IPV4: u32 = 20 + 8 + 8;
const OVERHEAD_IPV6: u32 = 40 + 8 + 8;
/// The smallest MTU of a link that carries IPv6 (RFC 8200 §5), and of any TUN.
const MIN_MTU_IPV6: u32 = 1280;
const MIN_MTU: u32 = 68;
/// The largest MTU of a TUN.
const MAX_MTU: u32 = 65_535;

/// How packets are to reach the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPlan {
    /// Which packets of the site go to the TUN.
    pub routing: RoutingMode,
    /// Priority of the first rule; the next [`PRIORITIES`] − 1 are taken too.
    pub rule_priority: u32,
    /// Whether sysctls that stand in the way are changed.
    pub set_sysctls: bool,
    /// Where it is noted what they were.
    pub state_dir: PathBuf,
    /// MTU of the TUN interfaces in bytes; `None` = the underlay's less the encapsulation.
    pub tun_mtu: Option<u32>,
    /// This router's own locators.
    pub locators: Vec<LocatorSource>,
    /// The EID spaces.
    pub instances: Vec<InstancePlan>,
}

/// How packets of one EID space are to reach the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstancePlan {
    /// The instance ID.
    pub iid: InstanceId,
    /// Name of its TUN interface.
    pub tun: String,
    /// The site's own EID-prefixes.
    pub eid_prefixes: Vec<IpNet>,
    /// EID-prefixes parts of which may be at the site.
    pub dynamic: Vec<IpNet>,
    /// Destinations that go to the TUN in [`RoutingMode::Prefixes`].
    pub destinations: Vec<IpNet>,
    /// EID-prefixes to which packets of any source go to the TUN (proxy-ITR).
    pub proxied: Vec<IpNet>,
    /// EID-prefixes from which packets come out of the TUN to anywhere (proxy-ETR).
    pub egress: Vec<IpNet>,
    /// The site's interfaces; empty = any. Of a VRF, the name of the VRF device.
    pub interfaces: Vec<String>,
    /// Interfaces by which packets to virtual gateways on `interfaces` come in. They come and go with the
    /// gateways.
    pub gateways: Vec<String>,
    /// The table for our routes.
    pub table: u32,
    /// The table that holds the site's own routes.
    pub site_table: u32,
}

impl KernelPlan {
    /// What a configuration asks for.
    pub fn new(config: &Config) -> Self {
        let database = &config.control.database;
        let mut locators: Vec<LocatorSource> = Vec::new();
        let dynamic = config.control.dynamic_eids.iter().flat_map(|dynamic| &dynamic.locators);
        let all = database.iter().flat_map(|entry| &entry.locators).chain(&config.control.locators);
        let all = all.chain(dynamic);
        for locator in all.filter(|locator| locator.local) {
            if !locators.contains(&locator.source) {
                locators.push(locator.source.clone());
            }
        }
        let of = |prefixes: &[EidPrefix], iid| {
            prefixes.iter().filter(|prefix| prefix.iid == iid).map(|prefix| prefix.net).collect()
        };
        let ingress = config.control.itr.as_ref().map(|itr| &itr.proxy_for[..]).unwrap_or_default();
        let egress = config.control.etr.as_ref().map(|etr| &etr.proxy_for[..]).unwrap_or_default();
        let instances = config.instances.iter().map(|instance| InstancePlan {
            iid: instance.iid,
            tun: instance.tun.clone(),
            eid_prefixes: database
                .iter()
                .filter(|entry| entry.eid.iid == instance.iid)
                .map(|entry| entry.eid.net)
                .collect(),
            dynamic: config
                .control
                .dynamic_eids
                .iter()
                .filter(|dynamic| dynamic.prefix.iid == instance.iid)
                .map(|dynamic| dynamic.prefix.net)
                .collect(),
            destinations: of(&config.kernel.prefixes, instance.iid),
            proxied: of(ingress, instance.iid),
            egress: of(egress, instance.iid),
            interfaces: instance.interfaces.clone(),
            gateways: config
                .vrrp
                .iter()
                .filter(|gateway| gateway.virtual_mac && instance.interfaces.contains(&gateway.key.interface))
                .map(|gateway| crate::runtime::vrrp::link_name(&gateway.key))
                .collect(),
            table: instance.lisp_table,
            site_table: instance.site_table.unwrap_or(TABLE_MAIN),
        });
        Self {
            routing: config.kernel.routing,
            rule_priority: config.kernel.rule_priority,
            set_sysctls: config.kernel.set_sysctls,
            state_dir: config.router.state_dir.clone(),
            tun_mtu: config.kernel.tun_mtu.map(u32::from),
            locators,
            instances: instances.collect(),
        }
    }

    /// The priorities that our rules take.
    pub(super) fn priorities(&self) -> std::ops::Range<u32> {
        self.rule_priority..self.rule_priority.saturating_add(PRIORITIES)
    }

    /// The tables that we fill.
    pub(super) fn tables(&self) -> BTreeSet<u32> {
        match self.routing {
            RoutingMode::None => BTreeSet::new(),
            _ => self.instances.iter().map(|instance| instance.table).collect(),
        }
    }

    /// The rules that there are to be.
    ///
    /// | priority | packets | looked up in |
    /// | --- | --- | --- |
    /// | before all, if anything may move | to what may move | our table, what is more specific there |
    /// | first | out of the TUN, where the site's routes aren't in the main table | the site's table |
    /// | second | of the site | the site's table, its default route aside |
    /// | second | to the site, made here, where its routes aren't in the main table | the site's table |
    /// | second | to a proxied EID-prefix | the site's table, what is more specific there |
    /// | third | of the site, or to a proxied EID-prefix | our table |
    ///
    /// Packets of the site come from one of its EID-prefixes, by one of its interfaces where those are
    /// listed; those that this machine makes itself come from `lo`. Nothing else is touched. A lookup that
    /// finds nothing goes on to the rules behind, so that with empty tables everything is as if we weren't
    /// there.
    pub(super) fn rules(&self) -> BTreeSet<Rule> {
        let mut rules = BTreeSet::new();
        if self.routing == RoutingMode::None {
            return rules;
        }
        let first = u32::from(self.instances.iter().any(|instance| !instance.dynamic.is_empty()));
        let [moving, from_tun, site, lisp] =
            [0, first, first + 1, first + 2].map(|i| self.rule_priority.saturating_add(i));
        for (position, instance) in self.instances.iter().enumerate() {
            let earlier = self.instances.get(..position).unwrap_or_default();
            let from_tun = |family| Rule {
                family,
                priority: from_tun,
                source: None,
                destination: None,
                input_interface: Some(instance.tun.clone()),
                table: instance.site_table,
                suppress_prefix_length: None,
                protocol: PROTOCOL,
            };
            if instance.site_table != TABLE_MAIN {
                let families =
                    [Family::Ipv4, Family::Ipv6].into_iter().filter(|family| instance.has(*family));
                rules.extend(families.map(from_tun));
            }
            for net in without_covered(&instance.dynamic) {
                let mut inputs: Vec<Option<String>> = vec![None];
                if !instance.interfaces.is_empty() {
                    inputs = instance.inputs().map(Some).collect();
                    inputs.push(Some(instance.tun.clone()));
                    let others = || self.instances.iter().filter(|other| other.iid != instance.iid);
                    if !others().any(|other| other.overlaps(net)) {
                        inputs.push(Some("lo".to_owned()));
                    }
                }
                // A route to the whole prefix is for what has moved too: all of it, that is.
                let length = u32::from(net.prefix_len()).saturating_sub(1);
                rules.extend(inputs.into_iter().map(|input_interface| Rule {
                    priority: moving,
                    destination: Some(net),
                    input_interface,
                    table: instance.table,
                    suppress_prefix_length: Some(length),
                    ..from_tun(Family::of(&net.addr()))
                }));
            }
            for net in without_covered(&instance.proxied) {
                let rule = Rule { destination: Some(net), ..from_tun(Family::of(&net.addr())) };
                let inputs = instance.inputs().map(Some);
                let any = instance.interfaces.is_empty().then_some(None);
                for input_interface in inputs.chain(any) {
                    let rule = Rule { input_interface, ..rule.clone() };
                    let length = Some(u32::from(net.prefix_len()));
                    rules.insert(Rule { priority: site, suppress_prefix_length: length, ..rule.clone() });
                    rules.insert(Rule { priority: lisp, table: instance.table, ..rule });
                }
            }
            for net in without_covered(&instance.own()) {
                let rule = from_tun(Family::of(&net.addr()));
                // ICMP errors above all, of which the kernel first knows the destination alone. Where that is
                // in several instances there is no telling which, and the wrong one must not get it.
                let others = || self.instances.iter().filter(|other| other.iid != instance.iid);
                if instance.site_table != TABLE_MAIN && !others().any(|other| other.overlaps(net)) {
                    let (priority, input_interface) = (site, Some("lo".to_owned()));
                    let suppress_prefix_length = Some(0);
                    let destination = Some(net);
                    let rule = Rule { priority, destination, input_interface, ..rule.clone() };
                    rules.insert(Rule { suppress_prefix_length, ..rule });
                }
                let mut inputs: Vec<Option<String>> = instance.inputs().map(Some).collect();
                if inputs.is_empty() {
                    inputs.push(None);
                } else if !earlier.iter().any(|other| other.overlaps(net)) {
                    // Of the packets that this machine makes, nothing but the source tells the instance.
                    inputs.push(Some("lo".to_owned()));
                }
                for input_interface in inputs {
                    let rule = Rule { source: Some(net), input_interface, ..rule.clone() };
                    rules.insert(Rule { priority: site, suppress_prefix_length: Some(0), ..rule.clone() });
                    rules.insert(Rule { priority: lisp, table: instance.table, ..rule });
                }
            }
        }
        rules
    }

    /// The local locators' interfaces, those that exist. Where a locator is on the loopback interface, or
    /// none is known, every interface that may be an uplink: with a usable address, and neither a TUN of ours
    /// nor the site's.
    pub(super) fn uplinks<'a>(&self, interfaces: &'a [Interface]) -> Vec<&'a Interface> {
        let named: Vec<&Interface> = interfaces
            .iter()
            .filter(|interface| {
                self.locators.iter().any(|locator| match locator {
                    LocatorSource::Address(address) => {
                        interface.addresses.iter().any(|a| a.address == *address)
                    }
                    LocatorSource::Interface { name, .. } => interface.name == *name,
                })
            })
            .collect();
        if !named.is_empty() && named.iter().all(|interface| !interface.loopback) {
            return named;
        }
        interfaces
            .iter()
            .filter(|i| {
                !i.loopback
                    && !i.usable_addresses().is_empty()
                    && !self
                        .instances
                        .iter()
                        .any(|x| x.tun == i.name || x.inputs().any(|name| name == i.name))
            })
            .collect()
    }

    /// Interfaces that the plan names and that aren't there, in order.
    pub(super) fn missing_interfaces(&self, interfaces: &[Interface]) -> BTreeSet<&str> {
        let locators = self.locators.iter().filter_map(|locator| match locator {
            LocatorSource::Interface { name, .. } => Some(name.as_str()),
            LocatorSource::Address(_) => None,
        });
        let site = self.instances.iter().flat_map(|instance| &instance.interfaces).map(String::as_str);
        locators.chain(site).filter(|name| !interfaces.iter().any(|i| i.name == *name)).collect()
    }

    /// VRFs of the site whose tables the kernel looks in before our rules.
    pub(super) fn hidden_by_vrf<'a>(&self, interfaces: &'a [Interface]) -> Vec<&'a str> {
        let site = |name: &String| self.instances.iter().any(|instance| instance.interfaces.contains(name));
        let vrfs = interfaces.iter().filter(|i| i.kind.as_deref() == Some("vrf") && site(&i.name));
        let behind = self.routing != RoutingMode::None && self.rule_priority >= PRIORITY_VRF;
        vrfs.filter(|_| behind).map(|interface| interface.name.as_str()).collect()
    }

    /// MTU for an instance's TUN, in bytes: such that the largest packet fits the smallest uplink when
    /// encapsulated. `None` where no uplink is known.
    pub(super) fn mtu(&self, instance: &InstancePlan, interfaces: &[Interface]) -> Option<u32> {
        let least = if instance.has(Family::Ipv6) { MIN_MTU_IPV6 } else { MIN_MTU };
        if let Some(mtu) = self.tun_mtu {
            return Some(mtu.clamp(least, MAX_MTU));
        }
        let uplinks = self.uplinks(interfaces);
        let underlay = uplinks.iter().map(|interface| interface.mtu).min()?;
        let ipv6 = if self.locators.is_empty() {
            uplinks.iter().flat_map(|uplink| uplink.usable_addresses()).any(|address| address.is_ipv6())
        } else {
            self.locators.iter().any(|locator| match locator {
                LocatorSource::Address(address) => address.is_ipv6(),
                LocatorSource::Interface { family, .. } => *family == Family::Ipv6,
            })
        };
        let overhead = if ipv6 { OVERHEAD_IPV6 } else { OVERHEAD_IPV4 };
        Some(underlay.saturating_sub(overhead).clamp(least, MAX_MTU))
    }
}

impl InstancePlan {
    /// The interfaces by which the site's packets come in.
    fn inputs(&self) -> impl Iterator<Item = String> {
        self.interfaces.iter().chain(&self.gateways).cloned()
    }

    /// Whether packets of this family pass the TUN.
    pub(super) fn has(&self, family: Family) -> bool {
        let all = self.eid_prefixes.iter().chain(&self.dynamic).chain(&self.proxied).chain(&self.egress);
        all.into_iter().any(|net| Family::of(&net.addr()) == family)
    }

    /// EID-prefixes that sources of the site may be in.
    fn own(&self) -> Vec<IpNet> {
        self.eid_prefixes.iter().chain(&self.dynamic).copied().collect()
    }

    /// Whether the site has EIDs of this family.
    fn has_eids(&self, family: Family) -> bool {
        self.eid_prefixes.iter().chain(&self.dynamic).any(|net| Family::of(&net.addr()) == family)
    }

    /// Whether the site's packets to a prefix can be left to the kernel. Those to a proxied EID-prefix can't:
    /// they would come back, for it is this router that attracts them.
    pub(super) fn may_forward_natively(&self, native: IpNet) -> bool {
        self.has_eids(Family::of(&native.addr())) && !self.proxied.iter().any(|net| net.contains(&native))
    }

    /// Whether packets to both would be for the proxy-ITRs of two instances.
    pub(super) fn proxies_overlap(&self, other: &Self) -> bool {
        let overlap = |net: &IpNet| other.proxied.iter().any(|o| o.contains(net) || net.contains(o));
        self.proxied.iter().any(overlap)
    }

    /// Whether a prefix shares addresses with the site's.
    pub(super) fn overlaps(&self, net: IpNet) -> bool {
        self.eid_prefixes.iter().chain(&self.dynamic).any(|own| own.contains(&net) || net.contains(own))
    }

    /// Destinations whose packets go to the TUN: the site's, and anybody's to proxied EID-prefixes.
    pub(super) fn tun_destinations(&self, routing: RoutingMode) -> BTreeSet<IpNet> {
        let mut destinations = self.site_destinations(routing);
        if routing != RoutingMode::None {
            destinations.extend(&self.proxied);
        }
        destinations
    }

    /// Destinations to which the site's packets go to the TUN.
    fn site_destinations(&self, routing: RoutingMode) -> BTreeSet<IpNet> {
        let all = || [IpNet::from(ipnet::Ipv4Net::default()), IpNet::from(ipnet::Ipv6Net::default())];
        let destinations: BTreeSet<IpNet> = match routing {
            RoutingMode::Default => all().into(),
            RoutingMode::Prefixes => self.destinations.iter().copied().collect(),
            RoutingMode::None => BTreeSet::new(),
        };
        destinations.into_iter().filter(|net| self.has_eids(Family::of(&net.addr()))).collect()
    }

    /// The route of a destination to the TUN.
    pub(super) fn tun_route(&self, destination: IpNet, tun_index: u32) -> Route {
        let target = RouteTarget::Device(tun_index);
        Route { table: self.table, destination, metric: METRIC_TUN, target, protocol: PROTOCOL }
    }

    /// The route that leaves a destination to the kernel.
    pub(super) fn native_route(&self, destination: IpNet) -> Route {
        let target = RouteTarget::Throw;
        Route { table: self.table, destination, metric: METRIC_NATIVE, target, protocol: PROTOCOL }
    }

    /// The routes that leave `native` prefixes to the kernel, but for the `exceptions` inside them. Our own
    /// destinations would be preferred where they are more specific, so that they are left to the kernel as
    /// well. With `about`, those routes alone that depend on whether that prefix is native or an exception.
    pub(super) fn native_routes(
        &self,
        routing: RoutingMode,
        native: &BTreeSet<IpNet>,
        exceptions: &BTreeSet<IpNet>,
        tun_index: Option<u32>,
        about: Option<IpNet>,
    ) -> BTreeSet<Route> {
        let destinations = self.site_destinations(routing);
        let concerned = |nets: &BTreeSet<IpNet>| -> Vec<IpNet> {
            match about {
                Some(net) => nets.get(&net).copied().into_iter().collect(),
                None => nets.iter().copied().collect(),
            }
        };
        let is_left = |net: &IpNet| {
            let longest = |nets: &BTreeSet<IpNet>| {
                covering(*net).find(|net| nets.contains(net)).map(|net| net.prefix_len())
            };
            longest(native) > longest(exceptions)
        };
        let inside = |net: &&IpNet| about.is_none_or(|about| about.contains(*net));
        let left = destinations.iter().filter(inside).filter(|net| is_left(net)).copied();
        let mut routes: BTreeSet<Route> = left
            .chain(concerned(native))
            .filter(|net| self.may_forward_natively(*net))
            .map(|net| self.native_route(net))
            .collect();
        if let Some(index) = tun_index {
            let ours = concerned(exceptions).into_iter();
            let ours = ours.filter(|net| covering(*net).any(|net| destinations.contains(&net)));
            routes.extend(ours.map(|net| self.tun_route(net, index)));
        }
        routes
    }
}

/// A prefix and those that cover it, longest first.
fn covering(net: IpNet) -> impl Iterator<Item = IpNet> {
    std::iter::successors(Some(net), IpNet::supernet)
}

/// Prefixes without those that another one covers.
fn without_covered(nets: &[IpNet]) -> BTreeSet<IpNet> {
    let covered = |net: &IpNet| nets.iter().any(|other| other != net && other.contains(net));
    nets.iter().filter(|net| !covered(net)).copied().collect()
}

#[cfg(test)]
mod tests;

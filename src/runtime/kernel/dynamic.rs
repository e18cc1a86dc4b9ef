//! EID-prefixes that came here or moved elsewhere: their routes, and answering for them on the link that they
//! left.
//!
//! Those here get a route to the interface that they are at, those elsewhere one to the TUN, both in our own
//! table. A rule before all others has packets to a prefix that may move look there first (see
//! `KernelPlan::rules`), whoever sent them: the site's own routes know nothing of moves.
//!
//! What is answered for is marked with our protocol number, so that the next start finds what a crash left;
//! and looked after whenever an interface changes, as the kernel forgets it when the link goes down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tracing::{debug, warn};

use super::plan::{InstancePlan, PROTOCOL};
use super::sysctls::Sysctls;
use super::{KernelError, KernelIntegration, METRIC_HERE};
use crate::config::RoutingMode;
use crate::io::link::announce;
use crate::io::netlink::{Interface, Netlink, NetlinkError, Proxied, Route, RouteTarget};
use crate::proto::control::Place;
use crate::types::EidPrefix;
use crate::wire::vrrp::announcement_frame;

/// What has moved, and the site's interfaces.
#[derive(Debug, Default)]
pub(super) struct Moved {
    places: BTreeMap<EidPrefix, Place>,
    /// Index of every interface that is up.
    links: BTreeMap<String, u32>,
}

impl Moved {
    /// Takes in which interfaces there are. Whether routes may be missing now.
    pub(super) fn note_links(&mut self, interfaces: &[Interface]) -> bool {
        let up = interfaces.iter().filter(|interface| interface.up);
        let links: BTreeMap<String, u32> = up.map(|i| (i.name.clone(), i.index)).collect();
        let concerned = |place: &Place| {
            let (Place::Here { interface } | Place::Away { interface }) = place;
            interface.as_ref().is_some_and(|name| links.get(name) != self.links.get(name))
        };
        let concerned = self.places.values().any(concerned);
        self.links = links;
        concerned
    }

    /// The route of what has moved, if it needs one and can have it.
    fn route(&self, instance: &InstancePlan, tun: Option<u32>, prefix: &EidPrefix) -> Option<Route> {
        match self.places.get(prefix)? {
            Place::Here { interface: Some(name) } => {
                let index = *self.links.get(name)?;
                let target = RouteTarget::Device(index);
                Some(Route { metric: METRIC_HERE, target, ..instance.tun_route(prefix.net, index) })
            }
            Place::Here { interface: None } => None,
            Place::Away { .. } => tun.map(|index| instance.tun_route(prefix.net, index)),
        }
    }

    /// What is to be answered for, each with the name of the interface.
    fn proxied(&self) -> BTreeMap<Proxied, &str> {
        let mut all = BTreeMap::new();
        for (prefix, place) in &self.places {
            if let Place::Away { interface: Some(name) } = place
                && let Some(index) = self.links.get(name)
                && let Some(proxied) = proxied(*index, prefix.net)
            {
                all.insert(proxied, name.as_str());
            }
        }
        all
    }

    /// All of an instance.
    pub(super) fn routes(&self, instance: &InstancePlan, tun: Option<u32>) -> Vec<Route> {
        let of_instance = self.places.keys().filter(|prefix| prefix.iid == instance.iid);
        of_instance.filter_map(|prefix| self.route(instance, tun, prefix)).collect()
    }
}

impl KernelIntegration {
    /// Has packets to an EID-prefix leave by another way than the site's own routes say; `None` = no longer.
    pub async fn place(&mut self, prefix: EidPrefix, place: Option<Place>) -> Result<(), KernelError> {
        if self.plan.routing == RoutingMode::None {
            return Ok(());
        }
        let Some(instance) = self.instance(prefix.iid) else { return Ok(()) };
        let tun = self.tuns.get(&instance.tun).map(|tun| tun.index);
        let before = self.moved.route(&instance, tun, &prefix);
        let old = match &place {
            Some(place) => self.moved.places.insert(prefix, place.clone()),
            None => self.moved.places.remove(&prefix),
        };
        let after = self.moved.route(&instance, tun, &prefix);
        let changed = before != after;
        let mut result = Ok(());
        if let Some(route) = after.filter(|_| changed) {
            result = self.netlink.replace_route(&route).await;
        }
        if let Some(route) = before.filter(|_| changed) {
            let deleted = self.netlink.delete_route(&route).await;
            result = result.and(deleted);
        }
        if let (Some(Place::Away { interface: Some(name) }), true) = (&old, old != place) {
            self.answer_for(name, prefix.net, false).await;
        }
        if let (Some(Place::Away { interface: Some(name) }), true) = (&place, old != place) {
            self.answer_for(name, prefix.net, true).await;
        }
        Ok(result?)
    }

    /// Asks a host on one of the site's interfaces for its link-layer address; the neighbour table shows what
    /// came of it.
    pub async fn probe(&self, interface: &str, address: IpAddr) -> Result<(), KernelError> {
        match self.moved.links.get(interface) {
            Some(index) => Ok(self.netlink.probe_neighbour(*index, address).await?),
            None => Ok(()),
        }
    }

    /// Answers the hosts of a link for one that has left it, so that their packets to it come here; and tells
    /// them.
    async fn answer_for(&mut self, interface: &str, net: IpNet, present: bool) {
        let index = self.moved.links.get(interface).copied();
        let Some(proxied) = index.and_then(|index| proxied(index, net)) else { return };
        if net.addr().is_ipv6() && present {
            self.proxy_neighbour_discovery(interface);
        }
        if let Err(error) = self.netlink.answer_for(&proxied, present).await {
            warn!(%error, "hosts of the link that it was on may not reach {net}");
        }
        if present && let Err(error) = announce(proxied.index, |mac| announcement_frame(mac, net.addr())) {
            debug!(%error, "hosts of the link were not told that {net} has left it");
        }
    }

    /// Neighbour solicitations are answered only where this is set; ARP requests anyway.
    fn proxy_neighbour_discovery(&mut self, interface: &str) {
        let parameter = format!("net/ipv6/conf/{interface}/proxy_ndp");
        if self.sysctls.is_none() {
            match Sysctls::new(&self.plan.state_dir, self.plan.rule_priority) {
                Ok(sysctls) => self.sysctls = Some(sysctls),
                Err(error) => return warn!("{parameter} is not set, as the namespace is not known: {error}"),
            }
        }
        if let Some(Err(error)) = self.sysctls.as_mut().map(|sysctls| sysctls.set(&parameter, "1")) {
            warn!("can't set {parameter} to 1: {error}");
        }
    }

    /// Answers again for what has left a link where the kernel has forgotten that.
    pub(super) async fn keep_answering(&mut self) -> Result<(), KernelError> {
        let wanted: Vec<(Proxied, String)> =
            self.moved.proxied().into_iter().map(|(proxied, name)| (proxied, name.to_owned())).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let there: BTreeSet<(u32, IpAddr)> =
            self.netlink.proxied().await?.iter().map(|p| (p.index, p.address)).collect();
        for (proxied, name) in wanted {
            if !there.contains(&(proxied.index, proxied.address)) {
                self.answer_for(&name, IpNet::from(proxied.address), true).await;
            } else if proxied.address.is_ipv6() {
                self.proxy_neighbour_discovery(&name);
            }
        }
        Ok(())
    }

    /// Takes back what was done beside routes.
    pub(super) async fn forget_moved(&mut self) {
        for (prefix, place) in std::mem::take(&mut self.moved.places) {
            if let Place::Away { interface: Some(name) } = &place {
                self.answer_for(name, prefix.net, false).await;
            }
        }
    }
}

/// What is to be answered for on an interface: single hosts, as of larger prefixes it is not known which
/// there are.
fn proxied(index: u32, net: IpNet) -> Option<Proxied> {
    let single = net.prefix_len() == net.max_prefix_len();
    single.then_some(Proxied { index, address: net.addr(), protocol: PROTOCOL })
}

/// Answers no longer for what routers answered for that no longer run. Running ones have routes to what they
/// answer for: `routed` are all destinations that routes of ours lead to. How many there were.
pub(super) async fn clean_proxied(
    netlink: &Netlink,
    routed: &BTreeSet<IpNet>,
) -> Result<usize, NetlinkError> {
    let ours = |p: &Proxied| p.protocol == PROTOCOL && !routed.contains(&IpNet::from(p.address));
    let stale: Vec<Proxied> = netlink.proxied().await?.into_iter().filter(ours).collect();
    for proxied in &stale {
        netlink.answer_for(proxied, false).await?;
    }
    Ok(stale.len())
}

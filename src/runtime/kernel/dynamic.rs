//! EID-prefixes that came here or moved elsewhere: their routes, and answering for them on the link that they left.
//!
//! Those here get a route to the interface that they are at, those elsewhere one to the TUN, both in our own table. A rule
//! before all others has packets to a prefix that may move look there first (see `KernelPlan::rules`), whoever sent them:
//! the site's own routes know nothing of moves.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tracing::{debug, warn};

use super::plan::InstancePlan;
use super::{KernelError, KernelIntegration, METRIC_HERE};
use crate::config::RoutingMode;
use crate::io::link::announce;
use crate::io::netlink::{Interface, Route, RouteTarget};
use crate::io::sysctl;
use crate::proto::control::Place;
use crate::types::EidPrefix;
use crate::wire::vrrp::announcement_frame;

/// What has moved, and the site's interfaces.
#[derive(Debug, Default)]
pub(super) struct Moved {
    places: BTreeMap<EidPrefix, Place>,
    /// Index of every interface that is up.
    links: BTreeMap<String, u32>,
    /// `proxy_ndp` of interfaces that we answer on, as it was.
    proxying: BTreeMap<String, String>,
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

    /// Asks a host on one of the site's interfaces for its link-layer address; the neighbour table shows what came of it.
    pub async fn probe(&self, interface: &str, address: IpAddr) -> Result<(), KernelError> {
        match self.moved.links.get(interface) {
            Some(index) => Ok(self.netlink.probe_neighbour(*index, address).await?),
            None => Ok(()),
        }
    }

    /// Answers the hosts of a link for one that has left it, so that their packets to it come here; and tells them.
    async fn answer_for(&mut self, interface: &str, net: IpNet, present: bool) {
        // Of larger prefixes it is not known which hosts there are.
        if net.prefix_len() != net.max_prefix_len() {
            return;
        }
        let Some(index) = self.moved.links.get(interface).copied() else { return };
        if net.addr().is_ipv6() && present && !self.moved.proxying.contains_key(interface) {
            let parameter = format!("net/ipv6/conf/{interface}/proxy_ndp");
            match sysctl::read(&parameter).and_then(|old| sysctl::write(&parameter, "1").map(|()| old)) {
                Ok(old) => drop(self.moved.proxying.insert(interface.to_owned(), old)),
                Err(error) => warn!("can't set {parameter} to 1: {error}"),
            }
        }
        if let Err(error) = self.netlink.answer_for(index, net.addr(), present).await {
            warn!(%error, "hosts of the link that it was on may not reach {net}");
        }
        if present && let Err(error) = announce(index, |mac| announcement_frame(mac, net.addr())) {
            debug!(%error, "hosts of the link were not told that {net} has left it");
        }
    }

    /// Takes back what was done beside routes.
    pub(super) async fn forget_moved(&mut self) {
        for (prefix, place) in std::mem::take(&mut self.moved.places) {
            if let Place::Away { interface: Some(name) } = &place {
                self.answer_for(name, prefix.net, false).await;
            }
        }
        for (interface, old) in std::mem::take(&mut self.moved.proxying) {
            // The interface may have gone.
            let _ = sysctl::write(&format!("net/ipv6/conf/{interface}/proxy_ndp"), &old);
        }
    }
}

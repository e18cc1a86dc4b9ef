//! Routes (`ip route`).

use std::fmt;
use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::rules::address_family;
use super::{Netlink, NetlinkError};
use crate::types::Family;

/// A route in a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The table.
    pub table: u32,
    /// Destination prefix.
    pub destination: IpNet,
    /// Preference among routes to the same prefix, lowest first.
    pub metric: u32,
    /// Where packets go.
    pub target: RouteTarget,
    /// Who installed it (`RTPROT_*`).
    pub protocol: u8,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTarget {
    /// Straight into the interface with this index.
    Device(u32),
    /// Out of this table: the next rule decides.
    Throw,
    /// Anything else; can be listed, not added.
    Other,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            RouteTarget::Device(index) => write!(f, "route {} dev #{index}", self.destination)?,
            RouteTarget::Throw => write!(f, "throw route {}", self.destination)?,
            RouteTarget::Other => write!(f, "route {}", self.destination)?,
        }
        write!(f, " in table {}", self.table)
    }
}

impl Route {
    fn to_message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = address_family(Family::of(&self.destination.addr()));
        message.header.destination_prefix_length = self.destination.prefix_len();
        message.header.protocol = RouteProtocol::from(self.protocol);
        message.attributes.push(RouteAttribute::Table(self.table));
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(self.destination.network())));
        message.attributes.push(RouteAttribute::Priority(self.metric));
        match self.target {
            RouteTarget::Device(index) => {
                message.header.kind = RouteType::Unicast;
                message.header.scope = RouteScope::Link;
                message.attributes.push(RouteAttribute::Oif(index));
            }
            RouteTarget::Throw => message.header.kind = RouteType::Throw,
            RouteTarget::Other => {}
        }
        message
    }

    fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let mut destination = match header.address_family {
            rtnetlink::packet_route::AddressFamily::Inet => IpAddr::from([0u8; 4]),
            rtnetlink::packet_route::AddressFamily::Inet6 => IpAddr::from([0u8; 16]),
            _ => return None,
        };
        let (mut table, mut metric, mut device, mut plain) = (u32::from(header.table), 0, None, true);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(t) => table = *t,
                RouteAttribute::Destination(RouteAddress::Inet(a)) => destination = IpAddr::V4(*a),
                RouteAttribute::Destination(RouteAddress::Inet6(a)) => destination = IpAddr::V6(*a),
                RouteAttribute::Priority(m) => metric = *m,
                RouteAttribute::Oif(index) => device = Some(*index),
                RouteAttribute::CacheInfo(_) | RouteAttribute::Preference(_) | RouteAttribute::Metrics(_) => {
                }
                _ => plain = false,
            }
        }
        let target = match (header.kind, device) {
            (RouteType::Unicast, Some(index)) if plain => RouteTarget::Device(index),
            // IPv6 lists its throw routes with `lo`.
            (RouteType::Throw, _) => RouteTarget::Throw,
            _ => RouteTarget::Other,
        };
        Some(Self {
            table,
            destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
            metric,
            target,
            protocol: u8::from(header.protocol),
        })
    }
}

impl Netlink {
    /// The routes of a family: all, or those of a table, or those that a protocol installed.
    pub async fn routes(
        &self,
        family: Family,
        table: Option<u32>,
        protocol: Option<u8>,
    ) -> Result<Vec<Route>, NetlinkError> {
        let mut filter = RouteMessage::default();
        filter.header.address_family = address_family(family);
        filter.header.protocol = RouteProtocol::from(protocol.unwrap_or(0));
        filter.attributes.extend(table.map(RouteAttribute::Table));
        let mut messages = self.handle.route().get(filter).execute();
        let failed = |e| NetlinkError::new(format!("list {family} routes"), e);
        let mut routes = Vec::new();
        loop {
            match messages.try_next().await.map_err(failed) {
                Ok(Some(message)) => routes.extend(Route::from_message(&message).filter(|route| {
                    table.is_none_or(|t| t == route.table) && protocol.is_none_or(|p| p == route.protocol)
                })),
                Ok(None) => return Ok(routes),
                // A table that was never filled.
                Err(e) if e.is(libc::ENOENT) => return Ok(routes),
                Err(e) => return Err(e),
            }
        }
    }

    /// Adds a route; fine if it is there already.
    pub async fn add_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let request = self.handle.route().add(route.to_message());
        match request.execute().await.map_err(|e| NetlinkError::new(format!("add {route}"), e)) {
            Err(e) if e.is(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    /// Puts a route in the place of one with the same table, destination and metric, or adds it.
    pub async fn replace_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let request = self.handle.route().add(route.to_message()).replace();
        request.execute().await.map_err(|e| NetlinkError::new(format!("replace {route}"), e))
    }

    /// Deletes a route; fine if it is gone already.
    pub async fn delete_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let request = self.handle.route().del(route.to_message());
        match request.execute().await.map_err(|e| NetlinkError::new(format!("delete {route}"), e)) {
            Err(e) if e.is(libc::ESRCH) || e.is(libc::ENODEV) => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_survives_its_message() {
        for destination in ["0.0.0.0/0", "10.2.0.0/16", "::/0", "2001:db8::/32"] {
            for target in [RouteTarget::Device(7), RouteTarget::Throw] {
                let destination = destination.parse().unwrap();
                let route = Route { table: 4341, destination, metric: 1024, target, protocol: 153 };
                assert_eq!(Route::from_message(&route.to_message()), Some(route));
            }
        }
    }

    #[test]
    fn a_route_by_a_gateway_is_not_taken_for_one_of_ours() {
        let destination = "10.0.0.0/8".parse().unwrap();
        let target = RouteTarget::Device(7);
        let route = Route { table: 4341, destination, metric: 0, target, protocol: 153 };
        let mut message = route.to_message();
        message
            .attributes
            .push(RouteAttribute::Gateway("192.0.2.1".parse::<std::net::Ipv4Addr>().unwrap().into()));
        assert_eq!(Route::from_message(&message).unwrap().target, RouteTarget::Other);
    }
}

//! Many sites alike: each with a tunnel router, and a host behind it that answers for the whole EID-prefix.

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::read::{Reader, cache_limit, profile};
use super::*;
use crate::config::Section;
use crate::types::Family;

impl<'a> Reader<'a> {
    /// Adds the sites of a `[[fleet]]`.
    pub(super) fn fleet(&mut self, section: Section<'a>) {
        for (key, remedy) in [
            ("name", "give the fleet a name"),
            ("sites", "say how many sites it has"),
            ("attach", "name the core router that they are linked to"),
            ("eid-prefixes", "give the prefix that their EID-prefixes are taken from"),
            ("prefix-length", "give the length of each site's EID-prefix"),
            ("rlocs", "give the prefix that their locators are taken from"),
        ] {
            section.require(key, remedy);
        }
        let name = section.text::<String>("name").unwrap_or_default().value;
        let count = section.integer("sites", 1..=100_000).map_or(0, |n| n.value);
        let core = section.text::<String>("attach").and_then(|name| {
            let id = self.nodes.get(&name.value).copied();
            let is_core =
                |id: &NodeId| self.scenario.nodes.get(*id as usize).is_some_and(|n| n.kind == NodeKind::Core);
            let found = id.filter(is_core);
            if found.is_none() {
                self.unknown(&name, "core router", "a [[core]]");
            }
            found
        });
        let eids = section.text::<IpNet>("eid-prefixes");
        let length = section.integer("prefix-length", 1..=126).map_or(0, |n| n.value as u8);
        let rlocs = section.text::<IpNet>("rlocs");
        let slow = section.text::<Duration>("delay-max").map(|d| d.value);
        let mapping_system = self.mapping_system(&section);
        let named = section.has("mapping-system");
        let ttl = self.ttl(&section).unwrap_or(Ttl(1440));
        let proxy_reply = section.bool("proxy-reply").is_some_and(|flag| flag.value);
        let map_cache_limit = cache_limit(&section);
        let probing = section.bool("probing").is_some_and(|flag| flag.value);
        let profile = profile(&section);
        if let (Some(eids), Some(rlocs)) = (&eids, &rlocs) {
            if subnet(&eids.value, length, count.saturating_sub(1)).is_none() {
                section.error(
                    "prefix-length",
                    "so many do not fit into `eid-prefixes`",
                    "give a longer one, or fewer sites",
                );
            }
            if subnet(&rlocs.value, Family::of(&rlocs.value.addr()).bits(), count + 1).is_none() {
                section.error("rlocs", "has too few addresses", "give a shorter prefix, or fewer sites");
            }
        }
        if name.is_empty() || self.fleets.contains_key(&name) || self.nodes.contains_key(&name) {
            section.error("name", "is the name of something else too", "give the fleet a name of its own");
        }
        let (true, Some(core), Some(eids), Some(rlocs)) = (section.finish(), core, eids, rlocs) else {
            return;
        };
        let (mut hosts, mut routers) = (Vec::new(), Vec::new());
        for i in 0..count {
            let full = Family::of(&rlocs.value.addr()).bits();
            let (Some(eid), Some(rloc)) = (subnet(&eids.value, length, i), subnet(&rlocs.value, full, i + 1))
            else {
                break;
            };
            let site = self.scenario.sites.len();
            let xtr = NodeKind::Xtr {
                site,
                rlocs: vec![rloc.addr()],
                priority: 1,
                weight: 100,
                map_cache_limit,
                probing,
                lan: Vec::new(),
                vrrp_priority: 100,
            };
            let number = i + 1;
            let host = NodeKind::Host { site, addresses: vec![eid] };
            let xtr = self.node(format!("{name}-{number}"), format!("{name} xTRs"), xtr);
            let host = self.node(format!("{name}-{number}-host"), format!("{name} hosts"), host);
            let (Some(xtr), Some(host)) = (xtr, host) else { break };
            if self.addresses.insert(rloc.addr(), xtr).is_some() {
                let place = &rlocs.place;
                self.problems.error(
                    place,
                    format!("{} is another node's", rloc.addr()),
                    "give another prefix",
                );
                break;
            }
            self.scenario.sites.push(SiteSpec {
                name: format!("{name}-{number}"),
                key: format!("key of {name}-{number}"),
                prefixes: vec![EidPrefix::from(eid)],
                ttl,
                proxy_reply,
                mapping_system: self
                    .serving(&EidPrefix::from(eid))
                    .filter(|_| !named)
                    .unwrap_or(mapping_system),
                gateways: vec![xtr],
                vrrp: Vec::new(),
            });
            // Delays are spread evenly, so that no two sites are alike.
            let more = slow.map_or(Duration::ZERO, |slow| slow.saturating_sub(profile.delay));
            let delay = profile.delay + more * (i as u32) / (count as u32);
            let uplink = LinkProfile { delay, ..profile.clone() };
            self.scenario.links.push(LinkSpec { between: (xtr, core), profile: uplink });
            self.scenario.links.push(LinkSpec { between: (xtr, host), profile: LinkProfile::default() });
            hosts.push(host);
            routers.push(xtr);
        }
        self.fleets.insert(name, (hosts, routers));
    }
}

/// The `n`-th prefix of `length` within `pool`.
fn subnet(pool: &IpNet, length: u8, n: u64) -> Option<IpNet> {
    let bits = length.checked_sub(pool.prefix_len())?;
    if bits < 64 && n >> bits != 0 {
        return None;
    }
    match pool {
        IpNet::V4(net) => {
            let address = net
                .network()
                .to_bits()
                .checked_add((n as u32).checked_shl(u32::from(32_u8.checked_sub(length)?)).unwrap_or(0))?;
            Ipv4Net::new(address.into(), length).ok().map(IpNet::V4)
        }
        IpNet::V6(net) => {
            let address = net.network().to_bits().checked_add(
                u128::from(n).checked_shl(u32::from(128_u8.checked_sub(length)?)).unwrap_or(0),
            )?;
            Ipv6Net::new(address.into(), length).ok().map(IpNet::V6)
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn prefixes_are_numbered_within_their_pool() {
        let sub =
            |pool: &str, length, n| subnet(&pool.parse().unwrap(), length, n).map(|net| net.to_string());
        assert_eq!(sub("10.0.0.0/8", 24, 0).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(sub("10.0.0.0/8", 24, 65_535).as_deref(), Some("10.255.255.0/24"));
        assert_eq!(sub("10.0.0.0/8", 24, 65_536), None);
        assert_eq!(sub("100.64.0.0/16", 32, 258).as_deref(), Some("100.64.1.2/32"));
        assert_eq!(sub("2001:db8::/32", 48, 3).as_deref(), Some("2001:db8:3::/48"));
        assert_eq!((sub("10.0.0.0/8", 7, 0), sub("10.0.0.0/8", 33, 0)), (None, None));
    }
}

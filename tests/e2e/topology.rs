//! Sites around a core, in namespaces.
//!
//! ```text
//!   host 1 ── xTR 1 ══ core ══ xTR 2 ── host 2        ── LAN, EIDs        ══ underlay, RLOCs, one link per locator
//!                       ║
//!                  mapping system
//! ```
//!
//! | what | IPv4 | IPv6 |
//! | --- | --- | --- |
//! | EIDs of site n (xTR .1, host .2) | 172.16.n.0/24 | 2001:db8:ee:n::/64 |
//! | uplink k of site n (core .1, xTR .2) | 10.n.k.0/24 | 2001:db8:n:k::/64 |
//! | mapping system (core .1, itself .2) | 10.0.0.0/24 | 2001:db8:0:0::/64 |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::netns::Netns;

/// An address family, of EIDs or of locators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Bytes that encapsulation over this family costs (outer IP, UDP and LISP headers).
    pub fn overhead(self) -> usize {
        match self {
            Self::V4 => 36,
            Self::V6 => 56,
        }
    }

    /// Length of the IP header.
    pub fn header(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of uplinks of each site, which also counts the sites.
    pub uplinks: Vec<usize>,
    /// MTU of the LANs.
    pub lan_mtu: usize,
    /// MTU of the underlay's links.
    pub underlay_mtu: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { uplinks: vec![1, 1], lan_mtu: 1500, underlay_mtu: 1500 }
    }
}

/// The network, without routers' programs.
pub struct Network {
    pub core: Netns,
    /// Map-Server and Map-Resolver.
    pub mapping: Netns,
    pub sites: Vec<Site>,
    dir: TempDir,
}

/// A site: one host behind one xTR.
pub struct Site {
    /// Its number, from 1.
    pub number: usize,
    pub host: Netns,
    pub xtr: Netns,
    /// Number of uplinks: `wan0`, `wan1`, …
    pub uplinks: usize,
}

impl Network {
    pub fn build(plan: &Plan) -> Self {
        let core = Netns::new("core");
        let mapping = Netns::new("mapping");
        link(&core, "ms", &mapping, "wan0", plan.underlay_mtu);
        address(&core, "ms", "10.0.0.1/24", "2001:db8:0:0::1/64");
        address(&mapping, "wan0", "10.0.0.2/24", "2001:db8:0:0::2/64");
        default_route(&mapping, "10.0.0.1", "2001:db8:0:0::1");

        let mut sites = Vec::new();
        for (index, &uplinks) in plan.uplinks.iter().enumerate() {
            let n = index + 1;
            let host = Netns::new(&format!("host{n}"));
            let xtr = Netns::new(&format!("xtr{n}"));
            link(&host, "lan0", &xtr, "lan0", plan.lan_mtu);
            address(&host, "lan0", &format!("172.16.{n}.2/24"), &format!("2001:db8:ee:{n}::2/64"));
            address(&xtr, "lan0", &format!("172.16.{n}.1/24"), &format!("2001:db8:ee:{n}::1/64"));
            default_route(&host, &format!("172.16.{n}.1"), &format!("2001:db8:ee:{n}::1"));
            for k in 0..uplinks {
                link(&core, &format!("s{n}u{k}"), &xtr, &format!("wan{k}"), plan.underlay_mtu);
                address(
                    &core,
                    &format!("s{n}u{k}"),
                    &format!("10.{n}.{k}.1/24"),
                    &format!("2001:db8:{n}:{k}::1/64"),
                );
                address(
                    &xtr,
                    &format!("wan{k}"),
                    &format!("10.{n}.{k}.2/24"),
                    &format!("2001:db8:{n}:{k}::2/64"),
                );
            }
            default_route(&xtr, &format!("10.{n}.0.1"), &format!("2001:db8:{n}:0::1"));
            // What leaves with the address of another uplink leaves by that uplink.
            for k in 1..uplinks {
                let table = 100 + k;
                for (ip, from, via) in [
                    ("ip -4", format!("10.{n}.{k}.2"), format!("10.{n}.{k}.1")),
                    ("ip -6", format!("2001:db8:{n}:{k}::2"), format!("2001:db8:{n}:{k}::1")),
                ] {
                    xtr.sh(&format!(
                        "{ip} route add default via {via} table {table} && {ip} rule add from {from} lookup \
                         {table}"
                    ));
                }
            }
            sites.push(Site { number: n, host, xtr, uplinks });
        }
        Self { core, mapping, sites, dir: tempfile::tempdir().expect("temporary directory") }
    }

    /// A directory that goes with the network.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in that directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The site with this number, from 1.
    pub fn site(&self, number: usize) -> &Site {
        &self.sites[number - 1]
    }

    /// Every super-packet is cut into real packets before it reaches the underlay: what a capture shows then
    /// is what a wire would carry.
    pub fn real_packets(&self) {
        for site in &self.sites {
            for k in 0..site.uplinks {
                site.xtr.sh(&format!("ethtool -K wan{k} tso off gso off gro off tx-udp-segmentation off"));
                self.core.sh(&format!("ethtool -K s{}u{k} tso off gso off gro off", site.number));
            }
        }
    }

    /// Kernel routes for the EIDs in core and xTRs: the network without LISP.
    pub fn route_without_lisp(&self) {
        for site in &self.sites {
            let n = site.number;
            self.core.sh(&format!("ip route add 172.16.{n}.0/24 via 10.{n}.0.2"));
            self.core.sh(&format!("ip route add 2001:db8:ee:{n}::/64 via 2001:db8:{n}:0::2"));
        }
    }
}

impl Site {
    /// The host's address.
    pub fn host_eid(&self, family: Family) -> IpAddr {
        self.eid(family, 2)
    }

    /// Address number `last` of the site's LAN.
    pub fn eid(&self, family: Family, last: u8) -> IpAddr {
        let n = u8::try_from(self.number).expect("few sites");
        match family {
            Family::V4 => Ipv4Addr::new(172, 16, n, last).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xee, n.into(), 0, 0, 0, last.into()).into(),
        }
    }

    /// The site's EID-prefix.
    pub fn prefix(&self, family: Family) -> String {
        match family {
            Family::V4 => format!("172.16.{}.0/24", self.number),
            Family::V6 => format!("2001:db8:ee:{}::/64", self.number),
        }
    }

    /// The xTR's address on uplink `k`.
    pub fn rloc(&self, family: Family, k: usize) -> IpAddr {
        let (n, k) = (u8::try_from(self.number).expect("few sites"), u8::try_from(k).expect("few uplinks"));
        match family {
            Family::V4 => Ipv4Addr::new(10, n, k, 2).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, n.into(), k.into(), 0, 0, 0, 2).into(),
        }
    }
}

/// Address of the mapping system.
pub fn mapping_system(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, 2).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).into(),
    }
}

pub fn link(a: &Netns, a_dev: &str, b: &Netns, b_dev: &str, mtu: usize) {
    let b_name = b.name();
    a.sh(&format!(
        "ip link add {a_dev} mtu {mtu} type veth peer name {b_dev} mtu {mtu} netns {b_name} && ip link set \
         {a_dev} up"
    ));
    b.sh(&format!("ip link set {b_dev} up"));
}

pub fn address(ns: &Netns, dev: &str, v4: &str, v6: &str) {
    ns.sh(&format!("ip addr add {v4} dev {dev} && ip addr add {v6} dev {dev} nodad"));
}

pub fn default_route(ns: &Netns, v4: &str, v6: &str) {
    ns.sh(&format!("ip route add default via {v4} && ip -6 route add default via {v6}"));
}

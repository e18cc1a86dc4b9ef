//! Two customers with the same addresses, kept apart by instance IDs.

use std::fmt::Write as _;

use crate::capture::{Capture, decode};
use crate::netns::Netns;
use crate::router::{Router, XtrOptions, registered_prefixes, xtr_config};
use crate::topology::{Family, Network, Plan, Site, address, default_route, link};
use crate::traffic::{ping, reaches};
use crate::wait::{Machine, PATIENCE, until};

/// A second host at a site, with the very addresses of the first. The xTR has its routes in table 1007: what
/// a VRF does, but for kernels without VRF devices too.
fn second_host(site: &Site) -> Netns {
    let n = site.number;
    let host = Netns::new(&format!("host{n}-7"));
    link(&host, "lan0", &site.xtr, "lan7", 1500);
    address(&host, "lan0", &format!("172.16.{n}.2/24"), &format!("2001:db8:ee:{n}::2/64"));
    site.xtr.sh(&format!(
        "ip addr add 172.16.{n}.1/24 dev lan7 noprefixroute && ip route add 172.16.{n}.0/24 dev lan7 table \
         1007 && ip addr add 2001:db8:ee:{n}::1/64 dev lan7 nodad noprefixroute && \
         ip route add 2001:db8:ee:{n}::/64 dev lan7 table 1007"
    ));
    default_route(&host, &format!("172.16.{n}.1"), &format!("2001:db8:ee:{n}::1"));
    host
}

#[test]
fn equal_addresses_in_two_instances_stay_apart() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    net.real_packets();
    let seconds: Vec<Netns> = net.sites.iter().map(second_host).collect();

    let mapping = crate::router::mapping_config(&net, "");
    let mut sections: Vec<String> = mapping.split_inclusive("[[site]]\n").map(str::to_owned).collect();
    let mut xtrs = Vec::new();
    for site in &net.sites {
        let mut options = XtrOptions::over(site, Family::V4);
        for family in Family::BOTH {
            let prefix = site.prefix(family);
            let _ = write!(options.more, "[[eid-prefix]]\nprefix = \"{prefix}\"\ninstance-id = 7\n");
        }
        options.more.push_str(
            "[[instance]]\ninstance-id = 0\ninterfaces = [\"lan0\"]\n\
             [[instance]]\ninstance-id = 7\ninterfaces = [\"lan7\"]\ntable = 1007\n",
        );
        // The site's section ends where the next one begins.
        let section = &mut sections[site.number];
        let next = if section.ends_with("[[site]]\n") { "[[site]]\n" } else { "" };
        section.truncate(section.len() - next.len());
        for family in Family::BOTH {
            let prefix = site.prefix(family);
            let _ = write!(section, "[[site.eid-prefix]]\nprefix = \"{prefix}\"\ninstance-id = 7\n");
        }
        section.push_str(next);
        xtrs.push(xtr_config(site, &options));
    }
    let mapping = Router::start(&net, &net.mapping, "mapping", &sections.concat());
    let before: Vec<_> = net.sites.iter().map(|s| s.xtr.kernel_state()).collect();
    let mut routers: Vec<_> = net
        .sites
        .iter()
        .zip(&xtrs)
        .map(|(site, config)| Router::start(&net, &site.xtr, &format!("xtr{}", site.number), config))
        .collect();
    until("registrations in both instances", PATIENCE, || {
        registered_prefixes(&mapping.show("sites")).len() == 8
    });

    let (a, b) = (net.site(1), net.site(2));
    let capture = Capture::lisp(&net.core, "s1u0", net.file("instances.pcap"));
    for eids in Family::BOTH {
        let target = b.host_eid(eids);
        assert!(reaches(&a.host, target, PATIENCE), "{eids}, default instance");
        assert!(reaches(&seconds[0], target, PATIENCE), "{eids}, instance 7");
        // With one of the two hosts at the other end gone, only its own peer notices.
        b.host.sh("ip link set lan0 down");
        assert_eq!(ping(&seconds[0], target, 20, 0.01, "").lost(), 0, "{eids}, instance 7 alone");
        assert_eq!(
            ping(&a.host, target, 3, 0.01, "-t 1000").received,
            0,
            "{eids}, default instance without host"
        );
        b.host.sh("ip link set lan0 up");
        default_route_again(b);
    }
    let packets = decode(&capture.stop(), &[]);
    let instance = |p: &serde_json::Value| p["lisp_header"]["instance_id"].as_u64();
    let data: Vec<_> = packets.iter().filter(|p| p["plane"] == "data").map(instance).collect();
    assert!(data.contains(&None) && data.contains(&Some(7)), "{data:?}");
    assert!(data.iter().all(|i| matches!(i, None | Some(7))), "{data:?}");

    for (router, (site, before)) in routers.iter_mut().zip(net.sites.iter().zip(&before)) {
        router.stop();
        site.xtr.expect_state(before, &format!("what xTR {} left behind", site.number));
    }
}

/// A link that goes down takes its routes and IPv6 addresses along.
fn default_route_again(site: &Site) {
    let n = site.number;
    site.host.sh(&format!("ip -6 addr replace 2001:db8:ee:{n}::2/64 dev lan0 nodad"));
    default_route(&site.host, &format!("172.16.{n}.1"), &format!("2001:db8:ee:{n}::1"));
}

//! Hosts reach each other.

use std::time::Duration;

use crate::router::{Routers, unoptimised};
use crate::topology::{Family, Network, Plan};
use crate::traffic::{ping, ping_every_millisecond, reaches, tcp_transfer};
use crate::wait::Machine;

/// The network that all other tests stand on, with plain routes in place of LISP: when this fails, look at the
/// machine first.
#[test]
fn the_network_carries_traffic_without_lisp() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() });
    net.route_without_lisp();
    net.real_packets();
    for family in Family::BOTH {
        let (a, b) = (net.site(1), net.site(2));
        let seen = ping(&a.host, b.host_eid(family), 5, 0.01, "");
        assert_eq!((seen.sent, seen.received), (5, 5), "{}", seen.output);
        let (sent, received) = tcp_transfer(&a.host, &b.host, b.host_eid(family), 10_000_000);
        assert_eq!(sent, received);
        let other_uplink = ping(&a.xtr, b.rloc(family, 1), 2, 0.01, "");
        assert_eq!(other_uplink.received, 2, "{}", other_uplink.output);
    }
}

/// All four combinations of EID and locator family, both ways, and a file of 200 MB in each.
fn hosts_reach_each_other_over(locators: Family) {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let _routers = Routers::start(&net, locators);
    let (a, b) = (net.site(1), net.site(2));
    for eids in Family::BOTH {
        for (from, to) in [(a, b), (b, a)] {
            assert!(reaches(&from.host, to.host_eid(eids), Duration::from_secs(5)), "{eids} over {locators}");
            let seen = ping(&from.host, to.host_eid(eids), 50, 0.02, "");
            assert_eq!(seen.lost(), 0, "{eids} over {locators}:\n{}", seen.output);
        }
        let (sent, received) = tcp_transfer(&a.host, &b.host, b.host_eid(eids), 200_000_000);
        assert_eq!(sent, received, "SHA-256 of 200 MB, {eids} over {locators}");
        // The xTR is a neighbour of its hosts: what is for itself or local never enters the tunnel.
        let near = ping(&a.host, a.eid(eids, 1), 3, 0.01, "");
        assert_eq!(near.lost(), 0, "{}", near.output);
    }
}

#[test]
fn hosts_reach_each_other_over_ipv4_locators() {
    hosts_reach_each_other_over(Family::V4);
}

#[test]
fn hosts_reach_each_other_over_ipv6_locators() {
    hosts_reach_each_other_over(Family::V6);
}

/// Cold caches on both sides and a ping every millisecond: at most two are lost, in each of five rounds.
#[test]
fn a_cold_start_loses_at_most_two_pings() {
    let _machine = Machine::alone();
    let net = Network::build(&Plan::default());
    let routers = Routers::start(&net, Family::V4);
    let (a, b) = (net.site(1), net.site(2));
    let limit = if unoptimised() { 6 } else { 2 };
    for (round, eids) in [Family::V4, Family::V6, Family::V4, Family::V6, Family::V4].into_iter().enumerate()
    {
        routers.clear_map_caches();
        let seen = ping_every_millisecond(&a.host, b.host_eid(eids), 200);
        assert_eq!(seen.sent, 200);
        assert!(seen.lost() <= limit, "round {round}, {eids}: lost {}:\n{}", seen.lost(), seen.output);
        assert!(seen.first_sequence.is_some_and(|s| s <= limit + 1), "{}", seen.output);
    }
}

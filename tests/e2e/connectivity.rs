//! Hosts reach each other.

use serde_json::Value;

use crate::router::{Routers, XtrOptions};
use crate::topology::{Family, Network, Plan, Site};
use crate::traffic::{Ping, ping, reaches, tcp_transfer};
use crate::wait::{Machine, PATIENCE, full_measure, measured};

/// The network that all other tests stand on, with plain routes in place of LISP: when this fails, look at
/// the machine first.
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

/// All four combinations of EID and locator family, both ways, and a file in each: 1 GB where the full
/// measure is asked for, else 200 MB, of which a router without all offloads, at a fraction of the speed, gets
/// a tenth.
fn hosts_reach_each_other_over(locators: Family, offload: &str) {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let options = |site: &Site| XtrOptions {
        more: format!("[data-plane]\noffload = \"{offload}\"\n"),
        ..XtrOptions::over(site, locators)
    };
    let routers = Routers::start_with(&net, options, "");
    for xtr in &routers.xtrs {
        let offloads = xtr.show("interfaces")["tuns"][0]["offload"].as_bool();
        assert_eq!(offloads, Some(offload == "on"), "{}", xtr.operator(&["show", "interfaces"]));
    }
    let bytes = match (full_measure(), offload) {
        (true, _) => 1_000_000_000,
        (false, "on") => 200_000_000,
        (false, _) => 20_000_000,
    };
    let (a, b) = (net.site(1), net.site(2));
    for eids in Family::BOTH {
        for (from, to) in [(a, b), (b, a)] {
            assert!(reaches(&from.host, to.host_eid(eids), PATIENCE), "{eids} over {locators}");
            let seen = ping(&from.host, to.host_eid(eids), 50, 0.005, "");
            assert_eq!(seen.lost(), 0, "{eids} over {locators}:\n{}", seen.output);
        }
        let (sent, received) = tcp_transfer(&a.host, &b.host, b.host_eid(eids), bytes);
        assert_eq!(sent, received, "SHA-256 of {bytes} bytes, {eids} over {locators}");
        // The xTR is a neighbour of its hosts: what is for itself or local never enters the tunnel.
        let near = ping(&a.host, a.eid(eids, 1), 3, 0.01, "");
        assert_eq!(near.lost(), 0, "{}", near.output);
    }
}

#[test]
fn hosts_reach_each_other_over_ipv4_locators() {
    hosts_reach_each_other_over(Family::V4, "on");
}

#[test]
fn hosts_reach_each_other_over_ipv6_locators() {
    hosts_reach_each_other_over(Family::V6, "on");
}

#[test]
fn hosts_reach_each_other_over_ipv4_locators_without_offloads() {
    hosts_reach_each_other_over(Family::V4, "off");
}

#[test]
fn hosts_reach_each_other_over_ipv6_locators_without_offloads() {
    hosts_reach_each_other_over(Family::V6, "off");
}

#[test]
fn hosts_reach_each_other_over_ipv4_locators_with_the_offloads_of_the_underlay_alone() {
    hosts_reach_each_other_over(Family::V4, "underlay");
}

/// Cold caches on both sides and a ping every millisecond: at most two are lost. What is lost is what is sent
/// until the answer to one Map-Request is there, which on a slow machine takes longer than two pings do;
/// never is anything lost until a timer.
#[test]
fn a_cold_start_loses_at_most_two_pings() {
    const PINGS: usize = 500;
    const ROUNDS: usize = 5;
    let _machine = Machine::alone();
    let net = Network::build(&Plan::default());
    let routers = Routers::start(&net, Family::V4);
    let (a, b, xtr) = (net.site(1), net.site(2), &routers.xtrs[0]);
    let requests =
        || xtr.show("statistics")["control"]["sent"]["encapsulated-control-message"].as_u64().unwrap_or(0);
    for eids in Family::BOTH {
        let target = b.host_eid(eids);
        measured(
            &format!("cold start, {eids}"),
            // Of several rounds the one in the middle: hiccups of the machine are in others.
            |(rounds, round_trips): &(Vec<Ping>, Vec<f64>)| {
                let allowed = median(round_trips.iter().map(|ms| ms.round() as usize + 1)).max(2);
                median(rounds.iter().map(Ping::lost)) <= allowed
            },
            |(rounds, round_trips)| {
                let lost: Vec<usize> = rounds.iter().map(Ping::lost).collect();
                format!("lost {lost:?} of {PINGS}, Map-Requests were answered in {round_trips:.2?} ms")
            },
            || {
                let round = |_| {
                    let answer = xtr.operator(&["lig", &target.to_string(), "--json"]);
                    let answer: Value = serde_json::from_str(&answer).expect("JSON");
                    routers.clear_map_caches();
                    let asked = requests();
                    let seen = ping(&a.host, target, PINGS, 0.001, "-t 500");
                    assert_eq!(seen.sent, PINGS);
                    // A Map-Request is repeated after a second, by when all of these are lost.
                    assert!(seen.lost() < PINGS * 4 / 5, "lost {}:\n{}", seen.lost(), seen.output);
                    assert_eq!(requests() - asked, 1, "Map-Requests for one destination");
                    (seen, answer["rtt_ms"].as_f64().expect("a time"))
                };
                (0..ROUNDS).map(round).unzip()
            },
        );
    }
}

fn median(figures: impl Iterator<Item = usize>) -> usize {
    let mut all: Vec<usize> = figures.collect();
    all.sort_unstable();
    all[all.len() / 2]
}

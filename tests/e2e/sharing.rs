//! Priorities and weights decide which locators carry how much.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::judge::Judge;
use crate::netns::Netns;
use crate::router::{Locator, Routers, XtrOptions, visit, xtr_config};
use crate::topology::{Family, Network, Plan, Site};
use crate::traffic::{deep_queue, ping, reaches};
use crate::wait::{Machine, PATIENCE, until, within};

const FLOWS: u64 = 10_000;

/// Site 1 with one locator, site 2 with two of these priorities and weights, all IPv4.
fn options(site: &Site, priorities: [u8; 2], weights: [u8; 2]) -> XtrOptions {
    let mut options = XtrOptions::over(site, Family::V4);
    if site.number == 2 {
        options.locators = (0..2)
            .map(|k| Locator {
                address: site.rloc(Family::V4, k),
                priority: priorities[k],
                weight: weights[k],
            })
            .collect();
    }
    options
}

/// One packet of each of [`FLOWS`] flows, paced so that no queue on the way overflows.
fn send_flows(from: &Netns, to: IpAddr, payload: usize) {
    from.run(|| {
        let sockets: Vec<_> = (0..100)
            .map(|_| UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("bind"))
            .collect();
        for port in 0..u16::try_from(FLOWS / 100).expect("few ports") {
            for socket in &sockets {
                let _ = socket.send_to(&vec![0x5a; payload], SocketAddr::new(to, 20_000 + port));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

/// Packets to each locator until no more come.
fn counted(judge: &Judge<'_>) -> [u64; 2] {
    let mut sum = [0; 2];
    within(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(300));
        let more = judge.packets();
        sum = [sum[0] + more[0], sum[1] + more[1]];
        more == [0; 2]
    });
    sum
}

/// Whether these are about [`FLOWS`] packets: a few pings more, or a few lost where the machine was busy
/// elsewhere.
fn most(packets: u64) -> bool {
    (FLOWS * 98 / 100..=FLOWS * 101 / 100).contains(&packets)
}

#[test]
fn flows_split_by_weight() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() });
    net.real_packets();
    let routers = Routers::start_with(&net, |site| options(site, [1, 1], [75, 25]), "");
    let judge = Judge::new(&net);
    let (a, b) = (net.site(1), net.site(2));
    // Room for all flows where the machine is busy elsewhere.
    deep_queue(&a.xtr);
    for eids in Family::BOTH {
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE));
        judge.packets();
        send_flows(&a.host, b.host_eid(eids), 100);
        let seen = counted(&judge);
        let all = seen[0] + seen[1];
        assert!(most(all), "{FLOWS} flows of one packet, seen by the core: {seen:?}");
        let share = 100.0 * seen[0] as f64 / all as f64;
        assert!((72.0..=78.0).contains(&share), "{eids}: weights 75/25 came out as {share:.1} %, {seen:?}");
    }

    // The router's own counters agree with the core's.
    let cache = routers.xtrs[0].show("map-cache");
    let mut counted = Vec::new();
    visit(&cache, &mut |object| {
        if let (Some(rloc), Some(packets)) = (
            object.get("rloc").and_then(|r| r.as_str()),
            object.get("packets").and_then(serde_json::Value::as_u64),
        ) {
            counted.push((rloc.to_owned(), packets));
        }
    });
    let total: u64 = counted.iter().map(|(_, packets)| packets).sum();
    assert!(most(total / 2), "show map-cache counts {counted:?}");
    let first = b.rloc(Family::V4, 0).to_string();
    let to_first: u64 = counted.iter().filter(|(rloc, _)| *rloc == first).map(|(_, packets)| packets).sum();
    let share = 100.0 * to_first as f64 / total as f64;
    assert!((72.0..=78.0).contains(&share), "show map-cache counts {share:.1} %: {counted:?}");
}

#[test]
fn only_the_best_priority_carries_traffic() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() });
    net.real_packets();
    let routers = Routers::start_with(&net, |site| options(site, [1, 2], [100, 100]), "");
    let judge = Judge::new(&net);
    let (a, b) = (net.site(1), net.site(2));
    // Room for all flows where the machine is busy elsewhere.
    deep_queue(&a.xtr);
    let to = b.host_eid(Family::V4);
    assert!(reaches(&a.host, to, PATIENCE));
    judge.packets();
    send_flows(&a.host, to, 64);
    let seen = counted(&judge);
    assert!(most(seen[0]) && seen[1] == 0, "priority 1 and 2: {seen:?}");

    // The same with the priorities exchanged by a reload at the site: others hear of it once they ask again.
    routers.xtrs[1].write_config(net.dir(), &xtr_config(b, &options(b, [2, 1], [100, 100])));
    routers.xtrs[1].reload();
    until("the exchanged priorities at site 1", PATIENCE, || {
        routers.xtrs[0].clear_map_cache();
        reaches(&a.host, to, PATIENCE);
        judge.packets();
        ping(&a.host, to, 3, 0.01, "-t 500");
        judge.packets()[1] > 0
    });
    judge.packets();
    send_flows(&a.host, to, 64);
    let seen = counted(&judge);
    assert!(most(seen[1]) && seen[0] == 0, "priority 2 and 1: {seen:?}");
}

//! The whole path: two sites and a mapping system find each other, whatever the network does.

use std::time::Duration;

use crate::fib::FibAction;
use crate::proto::config::*;
use crate::proto::stats::{DropReason, MessageKind};
use crate::proto::testing::*;
use crate::types::Action;

const SECOND: Duration = Duration::from_secs(1);

/// Mapping system, site A, site B; dual-stack.
fn two_sites(seed: u64, faults: Faults) -> (Network, usize, usize, usize) {
    let mut net = Network::new(seed);
    net.faults = faults;
    let ms = net.add(
        &["192.0.2.1", "2001:db8:ffff::1"],
        mapping_system(vec![
            site("a", "secret-a", &["10.1.0.0/16", "2001:db8:a::/48"]),
            site("b", "secret-b", &["10.2.0.0/16", "2001:db8:b::/48"]),
        ]),
    );
    let a = net.add(
        &["198.51.100.1", "2001:db8:ffff::a"],
        xtr(
            &["10.1.0.0/16", "2001:db8:a::/48"],
            &["198.51.100.1", "2001:db8:ffff::a"],
            "192.0.2.1",
            "secret-a",
        ),
    );
    let b = net.add(
        &["203.0.113.1", "2001:db8:ffff::b"],
        xtr(
            &["10.2.0.0/16", "2001:db8:b::/48"],
            &["203.0.113.1", "2001:db8:ffff::b"],
            "192.0.2.1",
            "secret-b",
        ),
    );
    (net, ms, a, b)
}

#[test]
fn two_sites_find_each_other_and_strangers_are_native() {
    let (mut net, ms, a, b) = two_sites(1, Faults::default());
    net.run_for(SECOND);
    assert_eq!(net.nodes[ms].control.sites().map(|s| s.registrations.len()).sum::<usize>(), 4);
    let state = net.nodes[a].control.database().next().unwrap().registrations;
    assert!(state[0].last_notified.is_some() && state[0].unanswered == 0, "{state:?}");

    assert!(net.packet(a, "10.1.0.9", eid("10.2.0.9")).is_none());
    let took = net.run_until(SECOND, |net| !net.nodes[a].paths(eid("10.2.0.9")).is_empty()).unwrap();
    // Map-Request to the Map-Resolver, on to the ETR, Map-Reply back: three times the network's delay.
    assert_eq!(took, Duration::from_millis(3));
    assert_eq!(
        net.nodes[a].paths(eid("10.2.0.9")),
        [
            (ip("203.0.113.1"), ip("198.51.100.1"), 1, 100),
            (ip("2001:db8:ffff::b"), ip("2001:db8:ffff::a"), 1, 100)
        ]
    );
    assert!(net.nodes[a].natives.is_empty() && net.nodes[a].punted.is_empty());
    net.packet(b, "2001:db8:b::9", eid("2001:db8:a::9"));
    net.run_for(SECOND);
    assert_eq!(net.nodes[b].paths(eid("2001:db8:a::9")).len(), 2);

    // An EID that no site owns: forwarded natively, for as much as is free.
    net.packet(a, "10.1.0.9", eid("172.16.0.1"));
    net.run_for(SECOND);
    let found = net.packet(a, "10.1.0.9", eid("172.16.0.1"));
    assert!(matches!(found, Some(FibAction::Negative(Action::NativelyForward))), "{found:?}");
    assert_eq!(net.nodes[a].natives.iter().copied().collect::<Vec<_>>(), [prefix("128.0.0.0/1")]);
    // The kernel counts none of its packets, so that it is asked for twice again.
    net.run_for(Duration::from_secs(43 * 60));
    assert_eq!(net.nodes[a].natives.len(), 1);
    net.run_for(Duration::from_secs(60));
    assert!(net.nodes[a].natives.is_empty(), "natively-forward ends with its entry");
    assert_eq!(net.nodes[a].control.map_cache().count(), 1);
    for id in [ms, a, b] {
        let drops: Vec<_> = net.nodes[id].control.statistics().drops().filter(|(_, n)| *n > 0).collect();
        assert_eq!(drops, [], "router {id}");
    }
    assert_eq!(net.nodes[ms].control.statistics().received(MessageKind::Ecm), 3 + 2);
}

#[test]
fn the_return_path_is_resolved_before_the_first_packet_comes_back() {
    let (mut net, _, a, b) = two_sites(1, Faults::default());
    for id in [a, b] {
        let mut config = net.nodes[id].control.config.clone();
        config.itr = config.itr.map(|itr| ItrConfig { expect_return: true, ..itr });
        net.reload(id, config);
    }
    net.run_for(SECOND);
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    // b's Map-Request leaves together with its Map-Reply, and takes the same three hops as a's did.
    let took = net.run_until(SECOND, |net| !net.nodes[b].paths(eid("10.1.0.9")).is_empty()).unwrap();
    assert_eq!(took, Duration::from_millis(5));
    assert!(!net.nodes[a].paths(eid("10.2.0.9")).is_empty());
    net.run_for(SECOND);
    let requests = |id: usize| net.nodes[id].control.statistics().sent(MessageKind::Ecm);
    assert_eq!((requests(a), requests(b)), (1, 1), "nobody asks twice, or back and forth");

    // Who is known, ours, or asks for nobody, draws no Map-Request.
    net.packet(b, "10.2.0.7", eid("10.1.0.9"));
    net.run_for(SECOND);
    let requests = |id: usize| net.nodes[id].control.statistics().sent(MessageKind::Ecm);
    assert_eq!((requests(a), requests(b)), (1, 1));
}

#[test]
fn a_map_resolver_and_a_map_server_of_their_own_do_the_same() {
    // ITR site, Map-Resolver, Map-Server, ETR site; the last two over IPv6 only.
    let mut net = Network::new(1);
    let forward = vec![(prefix("10.2.0.0/16"), vec![Host::Name("ms.example".into())])];
    net.dns.insert("ms.example".into(), vec![ip("2001:db8:ffff::2")]);
    let mr = net.add(
        &["192.0.2.1", "2001:db8:ffff::1"],
        ControlConfig { map_resolver: Some(MapResolverConfig { forward }), ..ControlConfig::default() },
    );
    let sites = vec![site("b", "secret-b", &["10.2.0.0/16"])];
    let ms = net.add(
        &["2001:db8:ffff::2"],
        ControlConfig { map_server: Some(MapServerConfig { sites }), ..ControlConfig::default() },
    );
    let a = net.add(
        &["198.51.100.1", "2001:db8:ffff::a"],
        ControlConfig {
            etr: None,
            ..xtr(&["10.1.0.0/16"], &["198.51.100.1", "2001:db8:ffff::a"], "192.0.2.1", "")
        },
    );
    let b = net.add(
        &["2001:db8:ffff::b"],
        xtr(&["10.2.0.0/16"], &["2001:db8:ffff::b"], "2001:db8:ffff::2", "secret-b"),
    );
    net.run_for(SECOND);
    assert!(net.nodes[b].control.database().all(|d| d.registrations[0].confirmed));
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    let took = net.run_until(SECOND, |net| !net.nodes[a].paths(eid("10.2.0.9")).is_empty()).unwrap();
    assert_eq!(took, Duration::from_millis(4), "ITR, Map-Resolver, Map-Server, ETR, ITR");
    assert_eq!(
        net.nodes[a].paths(eid("10.2.0.9")),
        [(ip("2001:db8:ffff::b"), ip("2001:db8:ffff::a"), 1, 100)]
    );
    let of = |id: usize| {
        let statistics = net.nodes[id].control.statistics();
        (statistics.received(MessageKind::Ecm), statistics.sent(MessageKind::Ecm))
    };
    assert_eq!([of(a), of(mr), of(ms), of(b)], [(0, 1), (1, 1), (1, 1), (1, 0)]);
    net.packet(a, "10.1.0.9", eid("10.3.0.9"));
    net.run_for(SECOND);
    assert_eq!(net.nodes[a].natives.iter().copied().collect::<Vec<_>>(), [prefix("10.3.0.0/16")]);
}

#[test]
fn whoever_is_restarted_is_back_within_the_registration_cadence() {
    let (mut net, ms, a, b) = two_sites(1, Faults::default());
    let registered =
        |net: &Network| net.nodes[ms].control.sites().map(|s| s.registrations.len()).sum::<usize>();
    let resolved = |net: &Network| !net.nodes[a].paths(eid("10.2.0.9")).is_empty();
    net.run_for(100 * SECOND);
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(SECOND);
    assert!(resolved(&net));

    // The ETR: its nonces go on from where the clock is, so that nothing looks replayed.
    let config = |secret, eids: &[&str], rlocs: &[&str]| xtr(eids, rlocs, "192.0.2.1", secret);
    let b_config =
        config("secret-b", &["10.2.0.0/16", "2001:db8:b::/48"], &["203.0.113.1", "2001:db8:ffff::b"]);
    net.restart(b, b_config);
    let took = net.run_until(5 * SECOND, |net| {
        net.nodes[b].control.database().all(|d| d.registrations.first().is_some_and(|r| r.confirmed))
    });
    assert!(took.unwrap() < SECOND, "{took:?}");
    assert_eq!(net.nodes[ms].dropped(DropReason::RegisterReplayed), 0);

    // The ITR: asks again.
    let a_config =
        config("secret-a", &["10.1.0.0/16", "2001:db8:a::/48"], &["198.51.100.1", "2001:db8:ffff::a"]);
    net.restart(a, a_config);
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    assert!(net.run_until(SECOND, resolved).is_some());

    // The Map-Server: everybody is registered again a minute later, and what was resolved stays so.
    let sites = vec![
        site("a", "secret-a", &["10.1.0.0/16", "2001:db8:a::/48"]),
        site("b", "secret-b", &["10.2.0.0/16", "2001:db8:b::/48"]),
    ];
    net.restart(ms, mapping_system(sites));
    assert!(resolved(&net));
    let took = net.run_until(70 * SECOND, |net| registered(net) == 4);
    assert!(took.unwrap() <= 60 * SECOND, "{took:?}");
}

#[test]
fn a_map_server_that_was_cut_off_is_found_again() {
    let (mut net, ms, a, b) = two_sites(1, Faults::default());
    net.dark = [ip("192.0.2.1"), ip("2001:db8:ffff::1")].into();
    net.run_for(600 * SECOND);
    let confirmed = |net: &Network| {
        [a, b].iter().all(|id| net.nodes[*id].control.database().all(|d| d.registrations[0].confirmed))
    };
    assert!(!confirmed(&net));
    net.dark.clear();
    let took = net.run_until(120 * SECOND, confirmed).unwrap();
    assert!(took <= 64 * SECOND, "{took:?}: the longest pause is a minute");
    assert_eq!(net.nodes[ms].control.sites().map(|s| s.registrations.len()).sum::<usize>(), 4);
}

/// 20 % of all datagrams lost, others delayed at random and so reordered, some doubled. Three datagrams have
/// to get through, so an attempt fails with 1 − 0.8³, all eleven with less than 0.04 %, and whoever goes
/// on sending gets another round after the rest.
#[test]
fn sites_find_each_other_in_spite_of_loss() {
    let mut late = 0;
    for seed in 0..200 {
        let faults = Faults {
            loss: 0.2,
            duplication: 0.1,
            delay: (Duration::from_millis(1), Duration::from_millis(80)),
        };
        let (mut net, ms, a, b) = two_sites(seed, faults);
        let registered = net.run_until(120 * SECOND, |net| {
            net.nodes[ms].control.sites().map(|s| s.registrations.len()).sum::<usize>() == 4
        });
        assert!(registered.is_some(), "seed {seed}");
        let resolved = |net: &Network| {
            !net.nodes[a].paths(eid("10.2.0.9")).is_empty()
                && !net.nodes[b].paths(eid("2001:db8:a::9")).is_empty()
        };
        net.packet(a, "10.1.0.9", eid("10.2.0.9"));
        net.packet(b, "2001:db8:b::9", eid("2001:db8:a::9"));
        // Ten retransmissions: 3 × 1 s, 3 × 2 s, 3 × 4 s, 1 × 8 s, and a tenth for jitter.
        if net.run_until(32 * SECOND, resolved).is_none() {
            late += 1;
            let again = (0..80).any(|_| {
                net.packet(a, "10.1.0.9", eid("10.2.0.9"));
                net.packet(b, "2001:db8:b::9", eid("2001:db8:a::9"));
                net.run_until(SECOND, resolved).is_some() || {
                    net.run_for(SECOND);
                    false
                }
            });
            assert!(again, "seed {seed}");
        }
        assert_eq!(net.nodes[a].dropped(DropReason::AuthMac), 0);
    }
    assert!(late <= 1, "{late} of 200");
}

#[test]
fn the_mapping_system_is_reached_by_the_uplink_that_is_up() {
    let mut net = Network::new(5);
    let ms = net.add(&["192.0.2.1"], mapping_system(vec![site("a", "secret-a", &["10.1.0.0/16"])]));
    // The network, in place of a kernel, sends from the first address where the router leaves it the choice.
    let mut config = xtr(&[], &[], "192.0.2.1", "secret-a");
    config.database =
        vec![database("10.1.0.0/16", vec![locator("198.51.100.1", 1, 100), locator("198.51.100.9", 2, 100)])];
    let a = net.add(&["198.51.100.1", "198.51.100.9"], config);
    net.run_for(SECOND);
    let registered = |net: &Network| {
        let sites: Vec<_> = net.nodes[ms].control.sites().collect();
        // Without an xTR-ID, who registers from another address is another one (RFC 9301 §5.6).
        let registrations = sites.iter().flat_map(|site| &site.registrations);
        let (_, registration) = registrations.max_by_key(|(_, r)| r.refreshed).expect("registered");
        let states: Vec<_> = registration.record.locators.iter().map(|l| l.reachable).collect();
        (registration.source.ip(), states)
    };
    assert_eq!(registered(&net), (ip("198.51.100.1"), vec![true, true]));
    // The link of the first one goes down.
    net.dark.insert(ip("198.51.100.1"));
    net.readdress(a, &["198.51.100.9"]);
    net.run_for(SECOND);
    assert_eq!(registered(&net), (ip("198.51.100.9"), vec![false, true]));
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(SECOND);
    assert!(net.nodes[a].control.map_cache_len() > 0, "asked and answered");
    // The first one is dark without any sign of that: found by trying.
    net.readdress(a, &["198.51.100.1", "198.51.100.9"]);
    net.run_for(5 * SECOND);
    assert_eq!(registered(&net), (ip("198.51.100.9"), vec![true, true]));
}

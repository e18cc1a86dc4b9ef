//! The whole path: two sites and a mapping system find each other, whatever the network does.

use std::time::Duration;

use proptest::prelude::*;

use crate::fib::FibAction;
use crate::proto::config::ItrConfig;
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
    net.run_for(Duration::from_secs(15 * 60));
    assert!(net.nodes[a].natives.is_empty(), "natively-forward ends with its entry");
    assert_eq!(net.nodes[a].control.map_cache().count(), 1);
    for id in [ms, a, b] {
        let drops: Vec<_> = net.nodes[id].control.statistics().drops().filter(|(_, n)| *n > 0).collect();
        assert_eq!(drops, [], "router {id}");
    }
    assert_eq!(net.nodes[ms].control.statistics().received(MessageKind::Ecm), 3);
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// 20 % of all datagrams lost, others delayed at random and so reordered, some doubled. Three datagrams have to get
    /// through, so an attempt succeeds with 0.8³; eleven fail with (1 − 0.8³)¹¹ < 0.04 %. Registrations have the first
    /// two minutes.
    #[test]
    fn sites_find_each_other_in_spite_of_loss(seed in any::<u64>()) {
        let faults = Faults {
            loss: 0.2,
            duplication: 0.1,
            delay: (Duration::from_millis(1), Duration::from_millis(80)),
        };
        let (mut net, ms, a, b) = two_sites(seed, faults);
        let registered = net.run_until(Duration::from_secs(120), |net| {
            net.nodes[ms].control.sites().map(|s| s.registrations.len()).sum::<usize>() == 4
        });
        prop_assert!(registered.is_some());
        net.packet(a, "10.1.0.9", eid("10.2.0.9"));
        net.packet(b, "2001:db8:b::9", eid("2001:db8:a::9"));
        // Ten retransmissions: 3 × 1 s, 3 × 2 s, 3 × 4 s, 1 × 8 s, and a tenth for jitter.
        let resolved = net.run_until(Duration::from_secs(32), |net| {
            !net.nodes[a].paths(eid("10.2.0.9")).is_empty() && !net.nodes[b].paths(eid("2001:db8:a::9")).is_empty()
        });
        prop_assert!(resolved.is_some());
        prop_assert_eq!(net.nodes[a].dropped(DropReason::AuthMac), 0);
    }
}

//! RLOC-probing and what the underlay says, against RFC 9301 §5.2, §5.4, §7 and §7.1.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::fib::Punt;
use crate::proto::config::*;
use crate::proto::control::{Input, Transmit};
use crate::proto::event::Event;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::proto::xtr::{Cause, WayState};
use crate::types::{Instant, Ttl};
use crate::wire::{Address, MapReply, MapRequest, Message};

const SECOND: Duration = Duration::from_secs(1);
const A1: &str = "198.51.100.1";
const A2: &str = "198.51.100.129";
const B1: &str = "203.0.113.1";
const B2: &str = "203.0.113.129";

fn probing() -> ProbingConfig {
    ProbingConfig {
        interval: Duration::from_millis(500),
        timeout: Duration::from_millis(250),
        ..ProbingConfig::default()
    }
}

fn site_config(prefixes: &[&str], locators: Vec<LocatorConfig>, secret: &str) -> ControlConfig {
    ControlConfig {
        database: prefixes.iter().map(|p| database(p, locators.clone())).collect(),
        probing: Some(probing()),
        ..xtr(&[], &[], "192.0.2.1", secret)
    }
}

fn config_a() -> ControlConfig {
    site_config(&["10.1.0.0/16"], vec![locator(A1, 1, 100), locator(A2, 2, 100)], "secret-a")
}

fn config_b() -> ControlConfig {
    site_config(&["10.2.0.0/16"], vec![locator(B1, 1, 100), locator(B2, 2, 100)], "secret-b")
}

/// Mapping system, site A and site B, each with a preferred uplink and another; A knows how to reach B.
fn two_homes(config_a: ControlConfig, config_b: ControlConfig) -> (Network, usize, usize) {
    let mut net = Network::new(7);
    let sites = vec![
        site("a", "secret-a", &["10.1.0.0/16"]),
        site("b", "secret-b", &["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"]),
    ];
    net.add(&["192.0.2.1"], mapping_system(sites));
    let a = net.add(&[A1, A2], config_a);
    let b = net.add(&[B1, B2], config_b);
    net.run_for(SECOND);
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(SECOND);
    net.packet(a, "10.1.0.9", eid("10.2.0.9")).expect("resolved");
    (net, a, b)
}

/// Locators and sources of the best priority on the way from A to B.
fn way(net: &Network, a: usize) -> Vec<(IpAddr, IpAddr)> {
    let paths = net.nodes[a].paths(eid("10.2.0.9"));
    let best = paths.iter().map(|p| p.2).min();
    paths.iter().filter(|p| Some(p.2) == best).map(|p| (p.0, p.1)).collect()
}

/// The probes that a router sent, in order.
fn probes(net: &Network, id: usize) -> Vec<(Instant, Transmit, MapRequest)> {
    let sent = net.sent_by(id).filter_map(|(at, transmit, message)| match message {
        Message::MapRequest(request) if request.probe => Some((at, transmit.clone(), request.clone())),
        _ => None,
    });
    sent.collect()
}

/// Lets the clock run while packets go on from A to B.
fn run_in_use(net: &mut Network, a: usize, time: Duration) {
    let end = net.now + time;
    while net.now < end {
        net.packet(a, "10.1.0.9", eid("10.2.0.9"));
        net.run_for((end.saturating_since(net.now)).min(20 * SECOND));
    }
}

fn unreachable(rloc: &str) -> Input<'static> {
    Input::Punt(Punt::Unreachable { rloc: ip(rloc) })
}

#[test]
fn a_probe_asks_the_locator_itself_for_the_entry_from_the_source_of_the_packets() {
    let (mut net, a, b) = two_homes(config_a(), config_b());
    net.take_sent(a);
    let answered = |net: &Network| net.sent_by(b).filter(|(.., m)| matches!(m, Message::MapReply(_))).count();
    let before = answered(&net);
    run_in_use(&mut net, a, SECOND);
    let probes = probes(&net, a);
    // Two locators, every 450 to 500 ms.
    assert!((4..=6).contains(&probes.len()), "{probes:?}");
    assert!(answered(&net) - before >= probes.len() - 1);
    for (_, transmit, request) in &probes {
        // RFC 9301 §7.1: not encapsulated, from a locator of ours, for the EID-prefix that is cached. §5.2:
        // no source EID.
        assert_eq!(transmit.source, Some(ip(A1)));
        assert!([B1, B2].map(ip).contains(&transmit.destination.ip()));
        assert_eq!(transmit.destination.port(), 4342);
        let expected = MapRequest {
            probe: true,
            nonce: request.nonce,
            source_eid: Address::None,
            itr_rlocs: vec![ip(A1).into()],
            records: vec![prefix("10.2.0.0/16").into()],
            ..MapRequest::default()
        };
        assert_eq!(*request, expected);
    }
    // The network takes a millisecond each way.
    let remote = net.nodes[a].control.remote_rloc(&ip(B1)).unwrap();
    let known = remote.way(&ip(A1)).unwrap();
    assert_eq!((known.state, known.rtt), (WayState::Up, Some(Duration::from_millis(2))));
    assert!(known.answered >= 2 && known.sent - known.answered <= 1);
    assert!(remote.way(&ip(A2)).is_none(), "there is no need to try another way");
    let drops: Vec<_> = net.nodes[a].control.statistics().drops().filter(|(_, n)| *n > 0).collect();
    assert_eq!(drops, []);
}

#[test]
fn a_locator_that_goes_dark_is_left_within_1250_ms_and_taken_again_when_it_answers() {
    for seed in 0..20 {
        let (mut net, a, _) = two_homes(config_a(), config_b());
        run_in_use(&mut net, a, Duration::from_millis(700 + 37 * seed));
        assert_eq!(way(&net, a), [(ip(B1), ip(A1))]);
        net.dark.insert(ip(B1));
        let took = net.run_until(5 * SECOND, |net| way(net, a) == [(ip(B2), ip(A1))]).unwrap();
        // At most an interval until the next probe, and three that are not answered.
        assert!(took <= Duration::from_millis(1250), "{took:?}");
        assert!(net.nodes[a].events.contains(&Event::RemoteLocator { rloc: ip(B1), up: false }));
        // Another source of ours doesn't lead there either, and the verdict stays.
        run_in_use(&mut net, a, 20 * SECOND);
        assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
        let remote = net.nodes[a].control.remote_rloc(&ip(B1)).unwrap();
        assert!(remote.ways.iter().all(|way| way.state == WayState::Down(Cause::Probes)), "{remote:?}");
        net.dark.clear();
        let took = net.run_until(61 * SECOND, |net| way(net, a) == [(ip(B1), ip(A1))]);
        assert!(took.is_some(), "back at the latest after the longest back-off");
        assert!(net.nodes[a].events.contains(&Event::RemoteLocator { rloc: ip(B1), up: true }));
    }
}

#[test]
fn a_short_outage_ends_within_an_interval() {
    let (mut net, a, _) = two_homes(config_a(), config_b());
    run_in_use(&mut net, a, SECOND);
    net.dark.insert(ip(B1));
    net.run_for(2 * SECOND);
    assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
    net.dark.clear();
    let took = net.run_until(5 * SECOND, |net| way(net, a) == [(ip(B1), ip(A1))]).unwrap();
    assert!(took <= Duration::from_millis(1010), "{took:?}");
}

#[test]
fn packets_leave_from_another_locator_of_ours_when_the_first_leads_nowhere() {
    // The preferred uplink of A is dark, without any sign of it at the router.
    let (mut net, a, _) = two_homes(config_a(), config_b());
    run_in_use(&mut net, a, SECOND);
    net.dark.insert(ip(A1));
    let took = net.run_until(5 * SECOND, |net| way(net, a) == [(ip(B1), ip(A2))]).unwrap();
    assert!(
        took <= Duration::from_millis(1260),
        "{took:?}: what finds it dead, and a round trip by the other way"
    );
    run_in_use(&mut net, a, 10 * SECOND);
    assert_eq!(way(&net, a), [(ip(B1), ip(A2))]);
    net.dark.clear();
    assert!(net.run_until(61 * SECOND, |net| way(net, a) == [(ip(B1), ip(A1))]).is_some());
    // What is not needed any more is no longer probed.
    run_in_use(&mut net, a, 3 * SECOND);
    net.take_sent(a);
    run_in_use(&mut net, a, 3 * SECOND);
    assert!(probes(&net, a).iter().all(|(_, t, _)| t.source == Some(ip(A1))));
}

#[test]
fn an_uplink_whose_link_is_down_is_left_at_once() {
    let (mut net, a, _) = two_homes(config_a(), config_b());
    run_in_use(&mut net, a, SECOND);
    net.readdress(a, &[A2]);
    assert_eq!(way(&net, a), [(ip(B1), ip(A2))]);
    // And once it is up again, a round trip later.
    run_in_use(&mut net, a, SECOND);
    net.readdress(a, &[A1, A2]);
    assert_eq!(way(&net, a), [(ip(B1), ip(A2))], "not before it is known to lead there");
    let took = net.run_until(SECOND, |net| way(net, a) == [(ip(B1), ip(A1))]).unwrap();
    assert!(took <= Duration::from_millis(2), "{took:?}");
}

#[test]
fn a_locator_without_alternative_is_used_though_it_never_answers() {
    let mut alone = config_b();
    alone.database[0].locators.truncate(1);
    let mut config = config_a();
    config.database[0].locators.truncate(1);
    let (mut net, a, _) = two_homes(config, alone);
    net.dark.insert(ip(B1));
    run_in_use(&mut net, a, 60 * SECOND);
    assert!(net.nodes[a].control.is_down(&ip(B1)));
    assert_eq!(way(&net, a), [(ip(B1), ip(A1))]);
}

#[test]
fn only_locators_that_carry_packets_are_probed_and_each_once() {
    let mut many = config_b();
    for more in ["10.3.0.0/16", "10.4.0.0/16"] {
        many.database.push(DatabaseEntry { eid: prefix(more), ..many.database[0].clone() });
    }
    let (mut net, a, _) = two_homes(config_a(), many);
    for destination in ["10.3.0.9", "10.4.0.9"] {
        net.packet(a, "10.1.0.9", eid(destination));
        net.run_for(SECOND);
        net.packet(a, "10.1.0.9", eid(destination));
    }
    assert_eq!(net.nodes[a].control.map_cache().count(), 3);
    net.take_sent(a);
    net.run_for(10 * SECOND);
    let sent = probes(&net, a);
    // Twenty intervals up to a tenth shorter, two locators.
    assert!((40..=46).contains(&sent.len()), "{}", sent.len());
    // Each probe asks for another of the entries, so that all are kept fresh.
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for (_, _, request) in &sent {
        *asked.entry(request.records[0].to_prefix().unwrap().to_string()).or_default() += 1;
    }
    assert_eq!(asked.len(), 3);
    assert!(asked.values().all(|n| *n >= 12), "{asked:?}");
    // Nobody sends: after a minute, nobody asks.
    net.run_for(60 * SECOND);
    net.take_sent(a);
    net.run_for(60 * SECOND);
    assert_eq!(probes(&net, a), []);
    // And again.
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(SECOND);
    assert!(!probes(&net, a).is_empty());
}

#[test]
fn a_locator_that_is_long_dead_is_probed_rarely() {
    let (mut net, a, _) = two_homes(config_a(), config_b());
    net.dark.insert(ip(B1));
    run_in_use(&mut net, a, 300 * SECOND);
    net.take_sent(a);
    run_in_use(&mut net, a, 600 * SECOND);
    let dead = probes(&net, a).iter().filter(|(_, t, _)| t.destination.ip() == ip(B1)).count();
    // Two ways, each once a minute.
    assert!((18..=24).contains(&dead), "{dead}");
}

#[test]
fn thousands_of_locators_are_probed_at_a_bounded_rate() {
    let mut config = config_a();
    config.database[0].locators.truncate(1);
    let rate = 50;
    config.probing = Some(ProbingConfig { rate, ..probing() });
    let mut net = Network::new(3);
    let a = net.add(&[A1, A2], config);
    for n in 0..900u32 {
        let destination = format!("10.{}.{}.9", 16 + n / 250, n % 250);
        let rlocs: Vec<String> = (0..3).map(|k| format!("203.{k}.{}.{}", n / 250, 1 + n % 250)).collect();
        let rlocs: Vec<&str> = rlocs.iter().map(String::as_str).collect();
        let entry = format!("10.{}.{}.0/24", 16 + n / 250, n % 250);
        net.learn(a, &destination, vec![record(&entry, &rlocs)]);
        net.packet(a, "10.1.0.9", eid(&destination));
    }
    net.take_sent(a);
    net.run_for(20 * SECOND);
    let sent = probes(&net, a);
    let mut by_second: BTreeMap<u64, u32> = BTreeMap::new();
    for (at, ..) in &sent {
        *by_second.entry(at.as_nanos() / 1_000_000_000).or_default() += 1;
    }
    assert!(by_second.values().all(|n| *n <= rate + 17), "{by_second:?}");
    assert!(sent.len() >= 900, "the rate is used: {}", sent.len());
    let mut each: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for (_, transmit, _) in &sent {
        *each.entry(transmit.destination.ip()).or_default() += 1;
    }
    assert!(each.len() >= 900, "and all get their share: {}", each.len());
    assert!(each.values().all(|n| *n <= 2), "one of them as much as another");
}

#[test]
fn what_the_underlay_says_holds_until_a_probe_says_otherwise() {
    let (mut net, a, _) = two_homes(config_a(), config_b());
    run_in_use(&mut net, a, SECOND);
    net.take_sent(a);
    // RFC 9301 §7: unreachable, so not used; a probe leaves at the same time.
    net.handle(a, unreachable(B1));
    assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
    let sent = probes(&net, a);
    let towards: Vec<_> = sent.iter().map(|(_, t, _)| (t.destination.ip(), t.source)).collect();
    assert_eq!(towards, [(ip(B1), Some(ip(A1))), (ip(B1), Some(ip(A2)))]);
    // It was forged: a round trip later the locator is back, and such messages count for nothing for a while.
    let took = net.run_until(SECOND, |net| way(net, a) == [(ip(B1), ip(A1))]).unwrap();
    assert_eq!(took, Duration::from_millis(2));
    for _ in 0..10 {
        net.handle(a, unreachable(B1));
        assert_eq!(way(&net, a), [(ip(B1), ip(A1))]);
    }
    assert_eq!(net.nodes[a].dropped(DropReason::UnreachableContradicted), 10);
    // It was not: nothing changes until the locator answers.
    run_in_use(&mut net, a, 31 * SECOND);
    net.dark.insert(ip(B1));
    net.handle(a, unreachable(B1));
    assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
    run_in_use(&mut net, a, 60 * SECOND);
    assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
    net.dark.clear();
    assert!(net.run_until(61 * SECOND, |net| way(net, a) == [(ip(B1), ip(A1))]).is_some());
    // Of a locator that nobody uses it says nothing.
    net.handle(a, unreachable("203.0.113.77"));
    assert_eq!(net.nodes[a].dropped(DropReason::UnreachableUnknown), 1);
}

#[test]
fn an_answer_refreshes_the_mapping() {
    let (mut net, a, b) = two_homes(config_a(), config_b());
    run_in_use(&mut net, a, SECOND);
    let first = net.nodes[a].control.map_cache_entry(&prefix("10.2.0.0/16")).unwrap().clone();
    run_in_use(&mut net, a, 10 * SECOND);
    let later = net.nodes[a].control.map_cache_entry(&prefix("10.2.0.0/16")).unwrap().clone();
    assert!(later.expires > first.expires + 9 * SECOND);
    assert_eq!((later.installed, &later.mapping.locators), (first.installed, &first.mapping.locators));
    assert!(later.mapping.locators.iter().all(|l| !l.probe), "p is about the answer, not the locator");
    // Other weights and priorities come with it, without anything else having been said.
    let mut config = config_b();
    config.database[0].locators = vec![locator(B1, 2, 100), locator(B2, 1, 100)];
    net.reload(b, config);
    let took = net.run_until(2 * SECOND, |net| way(net, a) == [(ip(B2), ip(A1))]);
    assert!(took.unwrap() <= Duration::from_millis(502), "{took:?}");
}

#[test]
fn an_answer_counts_only_with_its_nonce_and_bits_and_for_what_was_asked() {
    let (mut net, a, _) = two_homes(config_a(), config_b());
    net.dark = [ip(B1), ip(B2)].into();
    net.run_for(SECOND);
    let asked = |net: &mut Network| {
        net.run_for(Duration::from_millis(600));
        net.packet(a, "10.1.0.9", eid("10.2.0.9"));
        probes(net, a).last().unwrap().2.nonce
    };
    let locators = |net: &Network| {
        let entry = net.nodes[a].control.map_cache_entry(&prefix("10.2.0.0/16")).unwrap();
        entry.mapping.locators.iter().map(|l| l.rloc).collect::<Vec<_>>()
    };
    let other = || record("10.2.0.0/16", &["203.0.113.66"]);
    let nonce = asked(&mut net);
    let reply = |nonce, probe, records| encode(MapReply { nonce, probe, records, ..MapReply::default() });
    // RFC 9301 §5.4: without A in a record, discarded; so are those without P.
    let mut not_authoritative = other();
    not_authoritative.authoritative = false;
    net.deliver(a, "203.0.113.1:4342", &reply(nonce, true, vec![other(), not_authoritative]));
    net.deliver(a, "203.0.113.1:4342", &reply(nonce, false, vec![other()]));
    assert_eq!(net.nodes[a].dropped(DropReason::ProbeReply), 2);
    net.deliver(a, "203.0.113.1:4342", &reply(crate::types::Nonce(nonce.0 ^ 1), true, vec![other()]));
    assert_eq!(net.nodes[a].dropped(DropReason::ReplyNonce), 1);
    assert_eq!(locators(&net), [ip(B1), ip(B2)]);
    // What lies outside of what was asked is not taken, be it wider or beside it.
    let wide = vec![record("10.0.0.0/8", &["203.0.113.66"]), record("10.9.0.0/16", &["203.0.113.66"])];
    net.deliver(a, "203.0.113.1:4342", &reply(nonce, true, wide));
    assert_eq!(net.nodes[a].dropped(DropReason::ReplyUnasked), 2);
    assert_eq!((net.nodes[a].control.map_cache().count(), locators(&net).len()), (1, 2));
    // The same answer again is nothing.
    net.deliver(a, "203.0.113.1:4342", &reply(nonce, true, vec![other()]));
    assert_eq!(net.nodes[a].dropped(DropReason::ReplyNonce), 2);
    // A withdrawal is taken.
    let nonce = asked(&mut net);
    let mut gone = other();
    gone.ttl = Ttl::WITHDRAWN;
    net.deliver(a, "203.0.113.1:4342", &reply(nonce, true, vec![gone]));
    assert_eq!(net.nodes[a].control.map_cache().count(), 0);
    // What is gone is not probed any more.
    net.run_for(2 * SECOND);
    assert_eq!(net.nodes[a].control.remote_rlocs().count(), 0);
}

#[test]
fn an_xtr_that_no_longer_has_the_prefix_answers_and_the_mapping_system_is_asked() {
    let (mut net, a, b) = two_homes(config_a(), config_b());
    run_in_use(&mut net, a, SECOND);
    net.take_sent(a);
    // The prefix is now reached by the second uplink alone; the xTR that is probed has another one.
    let mut config = config_b();
    config.database[0].eid = prefix("10.3.0.0/16");
    // It would tell by an SMR.
    config.timers.smr_attempts = 0;
    net.reload(b, config);
    net.take_sent(b);
    run_in_use(&mut net, a, SECOND);
    let replies: Vec<MapReply> = net
        .sent_by(b)
        .filter_map(|(.., message)| match message {
            Message::MapReply(reply) => Some(reply.clone()),
            _ => None,
        })
        .collect();
    assert!(!replies.is_empty() && replies.iter().all(|r| r.probe && r.records.is_empty()));
    assert!(!net.nodes[a].control.is_down(&ip(B1)), "there is an xTR");
    assert!(net.sent_by(a).any(|(.., m)| matches!(m, Message::Ecm(_))), "the mapping system knows more");
}

#[test]
fn a_dead_xtr_of_the_same_site_is_announced_as_unreachable() {
    // B2 belongs to a second xTR of site B, which has the same prefix.
    let mut first = config_b();
    first.database[0].locators =
        vec![locator(B1, 1, 100), LocatorConfig { local: false, ..locator(B2, 1, 0) }];
    let mut second = config_b();
    second.database[0].locators =
        vec![LocatorConfig { local: false, ..locator(B1, 1, 100) }, locator(B2, 1, 0)];
    let mut net = Network::new(7);
    net.add(&["192.0.2.1"], mapping_system(vec![site("b", "secret-b", &["10.2.0.0/16"])]));
    let one = net.add(&[B1], first.clone());
    let two = net.add(&[B2], second);
    net.run_for(5 * SECOND);
    assert!(probes(&net, one).iter().all(|(_, t, r)| {
        t.destination.ip() == ip(B2)
            && t.source == Some(ip(B1))
            && r.records[0] == prefix("10.2.0.0/16").into()
    }));
    assert!(probes(&net, one).len() >= 8 && probes(&net, two).len() >= 8);
    let states = |net: &Network| {
        let entry = net.nodes[one].control.database().next().unwrap().entry;
        entry.locators.iter().map(|l| (l.rloc, l.local, l.reachable)).collect::<Vec<_>>()
    };
    assert_eq!(states(&net), [(ip(B1), true, true), (ip(B2), false, true)]);
    assert_eq!(net.nodes[one].control.local_rlocs(), [ip(B1)], "never a source");
    net.dark.insert(ip(B2));
    net.take_sent(one);
    net.run_for(Duration::from_millis(1400));
    assert_eq!(states(&net), [(ip(B1), true, true), (ip(B2), false, false)]);
    // Said to the Map-Server at once.
    let registered = |net: &Network| {
        let last = net.sent_by(one).filter_map(|(.., message)| match message {
            Message::MapRegister(register) => Some(register.records[0].clone()),
            _ => None,
        });
        let record = last.last().expect("a Map-Register");
        record.locators.iter().map(|l| l.reachable).collect::<Vec<_>>()
    };
    assert_eq!(registered(&net), [true, false]);
    // It comes back, or is no longer watched.
    net.dark.clear();
    net.run_for(10 * SECOND);
    assert_eq!(registered(&net), [true, true]);
    net.dark.insert(ip(B2));
    net.run_for(2 * SECOND);
    assert_eq!(registered(&net), [true, false]);
    first.probing = None;
    net.reload(one, first);
    net.run_for(SECOND);
    assert_eq!(registered(&net), [true, true]);
}

#[test]
fn probing_can_be_switched_off_and_on() {
    let (mut net, a, _) = two_homes(config_a(), config_b());
    net.dark.insert(ip(B1));
    run_in_use(&mut net, a, 3 * SECOND);
    assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
    let off = ControlConfig { probing: None, ..config_a() };
    net.reload(a, off);
    assert_eq!(way(&net, a), [(ip(B1), ip(A1))], "nothing says that it is down");
    net.take_sent(a);
    run_in_use(&mut net, a, 10 * SECOND);
    assert_eq!((probes(&net, a).len(), net.nodes[a].control.remote_rlocs().count()), (0, 0));
    net.reload(a, config_a());
    run_in_use(&mut net, a, 3 * SECOND);
    assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
}

#[test]
fn a_site_none_of_whose_locators_answers_is_looked_up_again() {
    let (mut net, a, b) = two_homes(config_a(), config_b());
    run_in_use(&mut net, a, SECOND);
    net.take_sent(a);
    // The site is renumbered, and what it says of that to A is lost.
    let mut config = config_b();
    config.database[0].locators = vec![locator("203.0.113.77", 1, 100)];
    net.readdress(b, &["203.0.113.77"]);
    net.reload(b, config);
    net.sent.retain(|_| false);
    let moved = |net: &Network| way(net, a) == [(ip("203.0.113.77"), ip(A1))];
    let took = net.run_until(3 * SECOND, moved).unwrap();
    assert!(took <= Duration::from_millis(1260), "{took:?}");
    // As long as nothing comes of it, that is not done too often.
    net.dark.insert(ip("203.0.113.77"));
    run_in_use(&mut net, a, 5 * SECOND);
    net.take_sent(a);
    run_in_use(&mut net, a, 60 * SECOND);
    let asked = net.sent_by(a).filter(|(.., m)| matches!(m, Message::Ecm(_))).count();
    assert!((1..=20).contains(&asked), "{asked}");
}

#[test]
fn the_locators_of_a_static_entry_are_probed_and_nothing_else_of_it_changes() {
    let fixed = |rlocs: [&str; 2]| crate::types::Mapping {
        locators: vec![
            crate::types::Locator::new(ip(rlocs[0]), 1, 100),
            crate::types::Locator::new(ip(rlocs[1]), 2, 100),
        ],
        ..crate::types::Mapping::negative(prefix("10.2.0.0/16"), Ttl(1), crate::types::Action::NoAction)
    };
    // The other way round than the site says.
    let mut config = config_a();
    config.itr.as_mut().unwrap().static_entries = vec![fixed([B2, B1])];
    let (mut net, a, _) = two_homes(config, config_b());
    run_in_use(&mut net, a, 3 * SECOND);
    let best = |net: &Network| net.nodes[a].paths(eid("10.2.0.9")).iter().min_by_key(|p| p.2).map(|p| p.0);
    assert_eq!(best(&net), Some(ip(B2)));
    assert_eq!(net.nodes[a].dropped(DropReason::ReplyStatic), 0, "answers to probes are no news");
    net.dark.insert(ip(B2));
    run_in_use(&mut net, a, 3 * SECOND);
    assert_eq!(best(&net), Some(ip(B1)), "a dead locator of it is not used");
    net.dark.clear();
    run_in_use(&mut net, a, 10 * SECOND);
    assert_eq!(best(&net), Some(ip(B2)));
}

/// An entry of this number, with 200 IPv6 locators of its own and one of IPv4.
fn many_locators(n: u32) -> crate::wire::EidRecord {
    let mut rlocs: Vec<String> = (0..200).map(|k| format!("2001:db8:{n:x}::{k:x}")).collect();
    rlocs.push(format!("203.0.113.{n}"));
    let rlocs: Vec<&str> = rlocs.iter().map(String::as_str).collect();
    record(&format!("10.{}.0.0/16", 100 + n), &rlocs)
}

#[test]
fn locators_that_no_source_leads_to_take_no_place_of_those_that_can_be_probed() {
    const A6: &str = "2001:db8:ffff::a";
    let config = |locators| site_config(&["10.1.0.0/16"], locators, "secret-a");
    let mut net = Network::new(3);
    let both = vec![locator(A1, 1, 100), locator(A6, 1, 100)];
    let a = net.add(&[A1], config(both));
    let remotes = |net: &Network| net.nodes[a].control.remote_rlocs().count();
    let probed = |net: &Network, rloc: &str| net.nodes[a].control.remote_rloc(&ip(rloc)).is_some();
    for n in 1..=90 {
        net.learn(a, &format!("10.{}.0.9", 100 + n), vec![many_locators(n)]);
    }
    net.run_for(SECOND);
    assert_eq!(remotes(&net), 90, "those of IPv4");
    // Now there is a way to the others, of which there are more than are remembered.
    net.readdress(a, &[A1, A6]);
    net.run_for(SECOND);
    assert_eq!(remotes(&net), 16_384);
    assert!(probed(&net, "2001:db8:1::1") && !probed(&net, "2001:db8:5a::c7"));
    // Room appears as entries go: the others get their turn, and nothing stays of what is gone.
    for n in 1..=20 {
        let gone = Some(prefix(&format!("10.{}.0.0/16", 100 + n)));
        net.handle(a, Input::Command(crate::proto::control::Command::ClearMapCache(gone)));
    }
    assert_eq!(remotes(&net), 70 * 201);
    assert!(
        !probed(&net, "2001:db8:1::1") && probed(&net, "2001:db8:5a::c7") && probed(&net, "203.0.113.90")
    );
    // And without a way again, as before.
    net.readdress(a, &[A1]);
    assert_eq!(remotes(&net), 70);
    net.handle(a, Input::Command(crate::proto::control::Command::ClearMapCache(None)));
    assert_eq!(remotes(&net), 0);
}

#[test]
fn other_intervals_have_a_dead_locator_looked_at_anew() {
    let (mut net, a, _) = two_homes(config_a(), config_b());
    net.dark.insert(ip(B1));
    run_in_use(&mut net, a, 3 * SECOND);
    assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
    let slower = ProbingConfig { interval: 20 * SECOND, timeout: SECOND, ..probing() };
    net.reload(a, ControlConfig { probing: Some(slower), ..config_a() });
    assert_eq!(net.nodes[a].control.is_down(&ip(B1)), way(&net, a) != [(ip(B1), ip(A1))]);
    run_in_use(&mut net, a, 10 * SECOND);
    assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
}

#[test]
fn an_xtr_that_does_not_know_its_prefix_has_the_mapping_system_asked_rarely() {
    let (mut net, a, _) = two_homes(config_a(), config_b());
    run_in_use(&mut net, a, SECOND);
    // Only the fake answers from now on, to probes and to nothing else, and says nothing of what it is asked
    // for.
    net.dark.extend([ip(B1), ip(B2), ip("192.0.2.1")]);
    net.take_sent(a);
    let mut asked = 0;
    for _ in 0..600 {
        net.packet(a, "10.1.0.9", eid("10.2.0.9"));
        net.run_for(Duration::from_millis(100));
        for (transmit, message) in net.take_sent(a) {
            match message {
                Message::MapRequest(request) if request.probe => {
                    let reply = MapReply { probe: true, nonce: request.nonce, ..MapReply::default() };
                    net.deliver(a, &transmit.destination.to_string(), &encode(reply));
                }
                Message::Ecm(_) => {
                    asked += 1;
                    net.reply_nonce(a, inner(&message).1.nonce, vec![record("10.2.0.0/16", &[B1, B2])]);
                }
                _ => {}
            }
        }
    }
    // A minute: once at first, and then every half.
    assert!((2..=3).contains(&asked), "{asked}");
}

#[test]
fn without_probing_the_return_of_a_locator_is_said() {
    let off = ControlConfig { probing: None, ..config_a() };
    let (mut net, a, _) = two_homes(off, config_b());
    net.handle(a, unreachable(B1));
    assert_eq!(way(&net, a), [(ip(B2), ip(A1))]);
    assert!(net.nodes[a].events.contains(&Event::RemoteLocator { rloc: ip(B1), up: false }));
    let said = |net: &Network| {
        let events = net.nodes[a].events.iter();
        events.filter(|event| **event == Event::RemoteLocatorRetried { rloc: ip(B1) }).count()
    };
    net.run_for(29 * SECOND);
    assert_eq!(said(&net), 0);
    net.run_for(2 * SECOND);
    assert_eq!(said(&net), 1);
    assert_eq!(way(&net, a), [(ip(B1), ip(A1))]);
}

#[test]
fn another_source_address_has_every_entry_published_once() {
    // However many locators an entry has, and whatever is known of them: the data plane takes each change in.
    let mut config = config_a();
    config.itr.as_mut().unwrap().map_cache_limit = 10_000;
    let mut net = Network::new(3);
    let a = net.add(&[A1, A2], config);
    for n in 0..1000u32 {
        let entry = format!("10.{}.{}", 16 + n / 250, n % 250);
        let own = format!("203.0.{}.{}", n / 250, 1 + n % 250);
        let answer = record(&format!("{entry}.0/24"), &["203.0.113.200", "203.0.113.201", &own]);
        net.learn(a, &format!("{entry}.9"), vec![answer]);
    }
    net.run_for(SECOND);
    assert_eq!(net.nodes[a].control.remote_rlocs().count(), 1002);
    let now = net.now;
    let control = &mut net.nodes[a].control;
    control.handle(now, Input::Interface { name: "eth0", addresses: &[ip(A2)] });
    let outputs: Vec<_> = std::iter::from_fn(|| control.poll_output()).collect();
    let sets = outputs.iter().filter(|output| {
        let crate::proto::control::Output::Fib(crate::fib::FibUpdate::Set { action, .. }) = output else {
            return false;
        };
        let crate::fib::FibAction::Forward(paths) = action else { return false };
        assert!(paths.iter().all(|path| path.source == ip(A2)));
        true
    });
    assert_eq!(sets.count(), 1000);
}

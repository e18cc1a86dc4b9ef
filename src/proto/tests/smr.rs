//! Changes of mappings that spread: SMRs against RFC 9301 §6.1, from the site whose mapping changes and at
//! those who use it.

use std::net::IpAddr;
use std::time::Duration;

use crate::fib::Sender;
use crate::proto::config::*;
use crate::proto::control::Input;
use crate::proto::event::Event;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Eid, InstanceId, Instant, LocatorChange, Ttl};
use crate::wire::{Address, EidRecord, MapRequest, Message};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Mapping system, site A with one locator, site B with two of priority 1 and 2.
fn sites() -> (Network, usize, usize, usize) {
    let mut net = Network::new(11);
    let ms = net.add(
        &["192.0.2.1"],
        mapping_system(vec![
            site("a", "secret-a", &["10.1.0.0/16"]),
            site("b", "secret-b", &["10.2.0.0/16"]),
        ]),
    );
    let a = net.add(&["198.51.100.1"], xtr(&["10.1.0.0/16"], &["198.51.100.1"], "192.0.2.1", "secret-a"));
    let b = net.add(&["203.0.113.1", "203.0.113.2"], b_config([1, 2]));
    net.run_for(SECOND);
    (net, ms, a, b)
}

fn b_config(priorities: [u8; 2]) -> ControlConfig {
    let mut config = xtr(&["10.2.0.0/16"], &["203.0.113.1", "203.0.113.2"], "192.0.2.1", "secret-b");
    for (locator, priority) in config.database[0].locators.iter_mut().zip(priorities) {
        locator.priority = priority;
    }
    config
}

/// The SMRs that a router sent: when, to whom, and for which EID-prefix.
fn smrs(net: &Network, id: usize) -> Vec<(Instant, IpAddr, MapRequest)> {
    net.sent_by(id)
        .filter_map(|(at, transmit, message)| match message {
            Message::MapRequest(request) if request.smr => {
                Some((at, transmit.destination.ip(), request.clone()))
            }
            _ => None,
        })
        .collect()
}

fn told(net: &Network, id: usize) -> Vec<(IpAddr, String)> {
    let prefix = |r: &MapRequest| r.records[0].to_prefix().unwrap().to_string();
    smrs(net, id).into_iter().map(|(_, to, request)| (to, prefix(&request))).collect()
}

/// A router of 10.2.0.0/16 and 2001:db8:b::/48, here and in instance 7, whose Map-Server confirms nothing.
fn alone() -> (Network, usize) {
    let mut net = Network::new(5);
    let id = net.add(&["203.0.113.1", "2001:db8:ffff::b"], alone_config(1));
    net.run_for(SECOND);
    net.take_sent(id);
    (net, id)
}

fn alone_config(priority: u8) -> ControlConfig {
    let eids = ["10.2.0.0/16", "2001:db8:b::/48", "[7]10.2.0.0/16"];
    let mut config = xtr(&eids, &["203.0.113.1", "2001:db8:ffff::b"], "192.0.2.1", "k");
    config.etr.as_mut().unwrap().map_servers.clear();
    for locator in config.database.iter_mut().flat_map(|entry| &mut entry.locators) {
        locator.priority = priority;
    }
    config
}

fn sender(net: &Network, rloc: &str, destination: Eid, ago: Duration) -> Sender {
    Sender { rloc: ip(rloc), destination, last: net.now - ago }
}

#[test]
fn a_changed_mapping_reaches_those_who_use_it_through_the_mapping_system() {
    let (mut net, ms, a, b) = sites();
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(SECOND);
    let used = |net: &Network| net.nodes[a].paths(eid("10.2.0.9")).iter().min_by_key(|p| p.2).map(|p| p.0);
    assert_eq!(used(&net), Some(ip("203.0.113.1")));
    for id in [ms, a, b] {
        net.take_sent(id);
    }
    let start = net.now;
    net.reload(b, b_config([2, 1]));
    let took = net.run_until(SECOND, |net| used(net) == Some(ip("203.0.113.2"))).expect("a hears of it");
    assert!(took < Duration::from_millis(150), "{took:?}");
    // First the Map-Server is told and has confirmed, then whoever asked, then that one asks the mapping
    // system.
    let order: Vec<(usize, &str)> = net
        .sent
        .iter()
        .map(|(_, by, _, message)| (*by, crate::proto::stats::MessageKind::from(message).name()))
        .collect();
    assert_eq!(
        order,
        [
            (b, "map-register"),
            (ms, "map-notify"),
            (b, "map-request"),
            (a, "encapsulated-control-message"),
            (ms, "encapsulated-control-message"),
            (b, "map-reply")
        ]
    );
    let (at, to, smr) = smrs(&net, b).remove(0);
    assert!(at > start);
    assert_eq!(to, ip("198.51.100.1"));
    assert_eq!(smr.source_eid, Address::Ip(ip("10.2.0.0")), "an EID of ours");
    assert_eq!(smr.records, [prefix("10.2.0.0/16").into()]);
    assert_eq!(smr.itr_rlocs, [ip("203.0.113.2").into(), ip("203.0.113.1").into()]);
    let (_, _, request) = net.sent_by(a).next().map(|(at, t, m)| (at, t.clone(), inner(m).1)).unwrap();
    assert!(request.smr_invoked && !request.smr && !request.probe);
    // It asked, so that it need not be told again.
    net.run_for(MINUTE);
    assert_eq!(smrs(&net, b).len(), 1);
    assert!(net.nodes[b].events.iter().any(|e| matches!(e, Event::Solicited { .. })));
}

#[test]
fn whoever_does_not_ask_is_told_three_times_three_seconds_apart() {
    let (mut net, id) = alone();
    net.nodes[id].senders = vec![sender(&net, "198.51.100.9", eid("10.2.0.5"), SECOND)];
    net.reload(id, alone_config(7));
    net.run_for(MINUTE);
    let mine: Vec<Instant> = smrs(&net, id)
        .iter()
        .filter(|(_, _, r)| r.records == [prefix("10.2.0.0/16").into()])
        .map(|s| s.0)
        .collect();
    assert_eq!(mine.len(), 3);
    assert!(mine.windows(2).all(|w| w[1].saturating_since(w[0]) == 3 * SECOND), "{mine:?}");
    assert_eq!(smrs(&net, id).len(), 3, "and of nothing that its packets have nothing to do with");
    // Or nobody is told of anything.
    let mut config = alone_config(8);
    config.timers.smr_attempts = 0;
    net.reload(id, config);
    net.run_for(MINUTE);
    assert_eq!(smrs(&net, id).len(), 3);
}

#[test]
fn those_are_told_who_exchanged_packets_with_the_same_eid_space_in_the_last_minute() {
    let (mut net, id) = alone();
    let seven = |a: &str| Eid::new(InstanceId::new(7).unwrap(), ip(a));
    // Sites that we send to, in use and not.
    net.learn(id, "10.3.0.9", vec![record("10.3.0.0/16", &["198.51.100.3", "198.51.100.4"])]);
    net.run_for(2 * MINUTE);
    net.learn(id, "10.5.0.9", vec![record("10.5.0.0/16", &["198.51.100.5", "2001:db8:ffff::5"])]);
    net.packet(id, "10.2.0.9", eid("10.5.0.9"));
    net.packet(id, "2001:db8:b::9", eid("2001:db8:c::9"));
    // One who asked, and one who asked long ago.
    net.deliver(id, "198.51.100.6:4342", &encode(map_request("2001:db8:b::1/128", "198.51.100.6", 1)));
    // Senders.
    net.nodes[id].senders = vec![
        sender(&net, "198.51.100.10", eid("10.2.0.5"), SECOND),
        sender(&net, "198.51.100.11", eid("10.2.0.5"), MINUTE),
        sender(&net, "198.51.100.12", seven("10.2.0.5"), SECOND),
        sender(&net, "2001:db8:ffff::d", eid("2001:db8:b::5"), SECOND),
        // Ourselves, and what nobody can be reached at.
        sender(&net, "203.0.113.1", eid("10.2.0.5"), SECOND),
        sender(&net, "255.255.255.255", eid("10.2.0.5"), SECOND),
    ];
    net.take_sent(id);
    net.reload(id, alone_config(7));
    net.run_for(SECOND);
    let mut seen = told(&net, id);
    seen.sort();
    let mut expected = [
        ("198.51.100.5", "10.2.0.0/16"),
        ("2001:db8:ffff::5", "10.2.0.0/16"),
        ("198.51.100.6", "2001:db8:b::/48"),
        ("198.51.100.10", "10.2.0.0/16"),
        ("198.51.100.12", "[7]10.2.0.0/16"),
        ("2001:db8:ffff::d", "2001:db8:b::/48"),
    ]
    .map(|(to, of)| (ip(to), of.to_owned()));
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn one_rloc_hears_of_one_change_every_three_seconds_the_one_that_it_sends_to_first() {
    let mut net = Network::new(5);
    let config = |priority| {
        let eids: Vec<String> = (0..8).map(|n| format!("10.2.{n}.0/24")).collect();
        let eids: Vec<&str> = eids.iter().map(String::as_str).collect();
        let mut config = xtr(&eids, &["203.0.113.1"], "192.0.2.1", "k");
        config.etr.as_mut().unwrap().map_servers.clear();
        config.database.iter_mut().for_each(|entry| entry.locators[0].priority = priority);
        config
    };
    let id = net.add(&["203.0.113.1"], config(1));
    net.run_for(SECOND);
    net.nodes[id].senders = vec![sender(&net, "198.51.100.9", eid("10.2.5.5"), SECOND)];
    net.reload(id, config(2));
    net.run_for(5 * MINUTE);
    let sent = smrs(&net, id);
    assert_eq!(sent.len(), 8 * 3);
    assert!(sent.windows(2).all(|w| w[1].0.saturating_since(w[0].0) >= 3 * SECOND));
    assert_eq!(sent[0].2.records, [prefix("10.2.5.0/24").into()]);
    let first_round: std::collections::BTreeSet<_> = told(&net, id)[..8].iter().cloned().collect();
    assert_eq!(first_round.len(), 8, "each is told before any is told again");
    // Changed again meanwhile: told anew, but not faster.
    net.take_sent(id);
    net.reload(id, config(3));
    net.run_for(SECOND);
    net.reload(id, config(4));
    net.run_for(MINUTE);
    assert!(smrs(&net, id).windows(2).all(|w| w[1].0.saturating_since(w[0].0) >= 3 * SECOND));
}

#[test]
fn a_flood_of_correspondents_is_told_at_a_bounded_rate() {
    let (mut net, id) = alone();
    let senders: Vec<Sender> = (0..3000u32)
        .map(|n| Sender {
            rloc: std::net::Ipv4Addr::from_bits(0x0a63_0000 + n).into(),
            destination: eid("10.2.0.5"),
            last: net.now,
        })
        .collect();
    net.nodes[id].senders = senders;
    net.reload(id, alone_config(7));
    assert_eq!(smrs(&net, id).len(), 1000);
    net.run_for(SECOND);
    assert!((1400..=1510).contains(&smrs(&net, id).len()), "{}", smrs(&net, id).len());
    net.run_for(MINUTE);
    assert_eq!(smrs(&net, id).len(), 9000);
}

#[test]
fn without_a_confirmation_it_is_told_all_the_same() {
    // A Map-Server that is not asked to confirm: told once the registration has surely arrived.
    let (mut net, _, a, b) = sites();
    let config = |priorities| {
        let mut config = b_config(priorities);
        config.etr.as_mut().unwrap().map_servers[0].want_notify = false;
        config
    };
    net.reload(b, config([1, 2]));
    net.run_for(SECOND);
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(SECOND);
    net.take_sent(b);
    net.reload(b, config([2, 1]));
    net.run_for(SECOND);
    let registered = net.sent_by(b).find(|(_, _, m)| matches!(m, Message::MapRegister(_))).unwrap().0;
    let first = smrs(&net, b)[0].0;
    assert!(first.saturating_since(registered) >= Duration::from_millis(100), "{first:?} {registered:?}");
    // One that is out of reach: after a second.
    let (mut net, _, a, b) = sites();
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(SECOND);
    net.dark = [ip("192.0.2.1")].into();
    net.take_sent(b);
    let start = net.now;
    net.reload(b, b_config([2, 1]));
    net.run_for(2 * SECOND);
    assert_eq!(smrs(&net, b)[0].0.saturating_since(start), SECOND);
}

#[test]
fn prefixes_that_come_and_go_are_told_of_and_a_start_is_not() {
    let (mut net, _, a, b) = sites();
    assert_eq!(told(&net, b), [], "nobody can know how it was before");
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(SECOND);
    net.take_sent(b);
    // Nothing changes for others.
    net.reload(
        b,
        ControlConfig { timers: Timers { request_retries: 3, ..Timers::default() }, ..b_config([1, 2]) },
    );
    net.run_for(SECOND);
    assert_eq!(told(&net, b), []);
    // A part of the prefix gets a locator of its own.
    let mut config = b_config([1, 2]);
    config.database.push(database("10.2.7.0/24", vec![locator("203.0.113.2", 1, 100)]));
    net.reload(b, config);
    net.run_for(2 * SECOND);
    assert_eq!(told(&net, b), [(ip("198.51.100.1"), "10.2.7.0/24".to_owned())]);
    assert_eq!(net.nodes[a].paths(eid("10.2.7.1"))[0].0, ip("203.0.113.2"));
    // And loses it again.
    net.run_for(4 * SECOND);
    net.packet(a, "10.1.0.9", eid("10.2.7.1"));
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.take_sent(b);
    net.reload(b, b_config([1, 2]));
    net.run_for(12 * SECOND);
    assert!(told(&net, b).contains(&(ip("198.51.100.1"), "10.2.7.0/24".to_owned())));
    assert!(net.nodes[a].paths(eid("10.2.7.1")).iter().any(|p| p.0 == ip("203.0.113.1")));
}

#[test]
fn a_command_changes_a_locator_until_the_next_reload() {
    let (mut net, ms, a, b) = sites();
    net.packet(a, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(SECOND);
    let set = |net: &mut Network, rloc: &str, change| {
        let (source, now) = (LocatorSource::Address(ip(rloc)), net.now);
        let count = net.nodes[b].control.set_locator(&source, change, now);
        net.handle(b, Input::Interface { name: "nothing", addresses: &[] });
        net.run_for(4 * SECOND);
        count
    };
    let seen = |net: &Network| {
        net.nodes[a].paths(eid("10.2.0.9")).iter().map(|p| (p.0, p.2, p.3)).collect::<Vec<_>>()
    };
    let one = ip("203.0.113.1");
    let two = ip("203.0.113.2");
    assert_eq!(seen(&net), [(one, 1, 100), (two, 2, 100)]);
    let change = |priority, weight, up| Some(LocatorChange { priority, weight, up });
    assert_eq!(set(&mut net, "203.0.113.1", change(Some(9), None, None)), 1);
    assert_eq!(seen(&net), [(one, 9, 100), (two, 2, 100)]);
    assert_eq!(set(&mut net, "203.0.113.1", change(None, Some(40), None)), 1);
    assert_eq!(seen(&net), [(one, 9, 40), (two, 2, 100)], "what was set before still holds");
    // Down: nobody uses it, and we send from the other.
    assert_eq!(set(&mut net, "203.0.113.2", change(None, None, Some(false))), 1);
    assert_eq!(seen(&net), [(one, 9, 40)]);
    assert_eq!(net.nodes[b].control.local_rlocs(), [one, two]);
    let registered = net.nodes[ms].control.sites().last().unwrap().registrations[0].1.record.clone();
    assert_eq!((registered.locators[1].priority, registered.locators[1].reachable), (255, false));
    assert_eq!(set(&mut net, "203.0.113.2", change(None, None, Some(true))), 1);
    assert_eq!(seen(&net), [(one, 9, 40), (two, 2, 100)]);
    // As configured again: by command, and by a reload.
    assert_eq!(set(&mut net, "203.0.113.1", None), 1);
    assert_eq!(seen(&net), [(one, 1, 100), (two, 2, 100)]);
    set(&mut net, "203.0.113.1", change(Some(200), None, None));
    assert_eq!(net.nodes[b].control.locator_changes().len(), 2);
    net.reload(b, b_config([1, 2]));
    net.run_for(4 * SECOND);
    assert_eq!(seen(&net), [(one, 1, 100), (two, 2, 100)]);
    assert_eq!(net.nodes[b].control.locator_changes(), []);
    assert_eq!(set(&mut net, "203.0.113.77", change(Some(1), None, None)), 0);
}

/// An ITR of 10.1.0.0/16 that nobody answers by itself.
fn itr() -> (Network, usize) {
    let mut net = Network::new(7);
    let mut config = xtr(&["10.1.0.0/16"], &["198.51.100.1"], "192.0.2.1", "k");
    config.etr = None;
    let id = net.add(&["198.51.100.1"], config);
    (net, id)
}

fn smr(eid: &str) -> Vec<u8> {
    encode(MapRequest { smr: true, ..map_request(eid, "203.0.113.1", 1) })
}

#[test]
fn an_smr_has_everything_asked_for_that_it_is_about() {
    let (mut net, id) = itr();
    net.learn(id, "10.2.1.9", vec![record("10.2.1.0/24", &["203.0.113.1"])]);
    net.learn(id, "10.2.2.9", vec![record("10.2.2.0/24", &["203.0.113.1"])]);
    net.learn(id, "10.3.0.9", vec![record("10.3.0.0/16", &["203.0.113.1"])]);
    net.take_sent(id);
    // The site now has one mapping where it had two.
    net.deliver(id, "203.0.113.1:4342", &smr("10.2.0.0/16"));
    let asked = |net: &mut Network| {
        let sent = net.take_sent(id);
        sent.iter().map(|(_, m)| inner(m).1.records[0].to_prefix().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut net), ["10.2.1.0/24", "10.2.2.0/24"]);
    // Or one of its own for a part of what is cached.
    net.deliver(id, "203.0.113.1:4342", &smr("10.3.7.0/24"));
    assert_eq!(asked(&mut net), ["10.3.0.0/16"]);
}

#[test]
fn smrs_from_anybody_can_not_make_an_itr_flood_the_mapping_system() {
    let (mut net, id) = itr();
    for n in 0..200 {
        net.learn(id, &format!("10.2.{n}.9"), vec![record(&format!("10.2.{n}.0/24"), &["203.0.113.1"])]);
    }
    net.take_sent(id);
    let flood = |net: &mut Network, source: &str| {
        for n in 0..200 {
            net.deliver(id, source, &smr(&format!("10.2.{n}.0/24")));
        }
        let sent = net.take_sent(id);
        assert!(sent.iter().all(|(t, _)| t.destination.ip() == ip("192.0.2.1")), "never to the sender");
        sent.len()
    };
    // From somewhere else than the site: 20 per second, and twice as many at once.
    assert_eq!(flood(&mut net, "192.0.2.66:4342"), 40);
    assert_eq!(net.nodes[id].dropped(DropReason::SmrStranger), 160);
    // From the site itself, each EID-prefix once in three seconds.
    assert_eq!(flood(&mut net, "203.0.113.1:4342"), 160);
    assert_eq!(flood(&mut net, "203.0.113.1:4342"), 0);
    // A flood of SMRs leaves room for what packets wait for.
    let (mut net, id) = itr();
    for n in 0..1000 {
        let (a, b) = (n / 250 + 2, n % 250);
        net.learn(id, &format!("10.{a}.{b}.9"), vec![record(&format!("10.{a}.{b}.0/24"), &["203.0.113.1"])]);
    }
    let mut config = net.nodes[id].control.config.clone();
    config.timers.pending_requests = 100;
    net.reload(id, config);
    for n in 0..1000 {
        net.deliver(id, "203.0.113.1:4342", &smr(&format!("10.{}.{}.0/24", n / 250 + 2, n % 250)));
    }
    assert_eq!(net.nodes[id].control.pending().count(), 75);
    net.packet(id, "10.1.0.9", eid("10.99.0.1"));
    assert!(net.nodes[id].control.pending().any(|(e, _)| *e == eid("10.99.0.1")));
}

#[test]
fn a_refresh_by_smr_keeps_the_old_mapping_until_the_new_one_is_there() {
    let (mut net, id) = itr();
    net.learn(id, "10.2.0.9", vec![EidRecord { ttl: Ttl(60), ..record("10.2.0.0/16", &["203.0.113.1"]) }]);
    net.take_sent(id);
    net.deliver(id, "203.0.113.1:4342", &smr("10.2.0.0/16"));
    net.run_for(20 * SECOND);
    assert!(net.sent_by(id).count() > 5, "it goes on asking");
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.1"));
    net.reply(id, vec![record("10.2.0.0/16", &["203.0.113.2"])]);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.2"));
    assert!(net.nodes[id].punted.is_empty());
}

//! Interworking with the non-LISP Internet against RFC 6832.

use std::time::Duration;

use crate::fib::{FibAction, Punt};
use crate::proto::config::{ControlConfig, EtrConfig, Host, ItrConfig, ProxyEtr};
use crate::proto::control::{Command, Input};
use crate::proto::testing::*;
use crate::types::{Action, Family};
use crate::wire::{Address, MapRequest, Message};

fn proxy_etr(host: Host, priority: u8, eid_family: Option<Family>) -> ProxyEtr {
    ProxyEtr { host, priority, weight: 100, eid_family }
}

/// An ITR of an IPv4 and an IPv6 EID-prefix with locators of both families that uses these proxy-ETRs.
fn config(proxy_etrs: Vec<ProxyEtr>) -> ControlConfig {
    let eids = ["10.1.0.0/16", "2001:db8:1::/48"];
    let mut config = xtr(&eids, &["198.51.100.1", "2001:db8:ffff::a"], "192.0.2.1", "k");
    config.etr = None;
    config.itr = config.itr.map(|itr| ItrConfig { proxy_etrs, ..itr });
    config
}

fn itr(proxy_etrs: Vec<ProxyEtr>) -> (Network, usize) {
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1", "2001:db8:ffff::a"], config(proxy_etrs));
    (net, id)
}

fn paths(net: &Network, id: usize, destination: &str) -> Vec<(String, u8)> {
    net.nodes[id]
        .paths(eid(destination))
        .iter()
        .map(|(rloc, _, priority, _)| (rloc.to_string(), *priority))
        .collect()
}

#[test]
fn what_is_to_be_forwarded_natively_goes_to_the_proxy_etrs() {
    // RFC 6832 §6: an ITR sends to a proxy-ETR what has no mapping.
    let address = |a: &str| Host::Address(ip(a));
    let (mut net, id) = itr(vec![
        proxy_etr(address("203.0.113.7"), 1, None),
        proxy_etr(address("2001:db8:ffff::7"), 2, Some(Family::Ipv6)),
    ]);
    net.learn(id, "192.0.2.9", vec![negative("192.0.0.0/8", 15, Action::NativelyForward)]);
    net.learn(id, "2001:db9::9", vec![negative("2001:db9::/32", 15, Action::NativelyForward)]);
    assert_eq!(paths(&net, id, "192.0.2.9"), [("203.0.113.7".into(), 1)]);
    assert_eq!(paths(&net, id, "2001:db9::9"), [("203.0.113.7".into(), 1), ("2001:db8:ffff::7".into(), 2)]);
    assert!(net.nodes[id].natives.is_empty());
    let (_, entry) = net.nodes[id].control.map_cache().next().unwrap();
    assert!(entry.mapping.is_by_proxy());
    // Anything else that is negative stays so, and sites are reached as ever, whatever action their record
    // bears.
    net.learn(id, "10.9.0.9", vec![negative("10.9.0.0/16", 15, Action::Drop)]);
    assert!(paths(&net, id, "10.9.0.9").is_empty());
    let odd =
        crate::wire::EidRecord { action: Action::NativelyForward, ..record("10.2.0.0/16", &["203.0.113.1"]) };
    net.learn(id, "10.2.0.9", vec![odd]);
    assert_eq!(paths(&net, id, "10.2.0.9"), [("203.0.113.1".into(), 1)]);
    assert!(!net.nodes[id].control.map_cache_entry(&prefix("10.2.0.0/16")).unwrap().mapping.is_by_proxy());

    // A proxy-ETR that the underlay can't reach is spared like any locator.
    net.handle(id, Input::Punt(Punt::Unreachable { rloc: ip("203.0.113.7") }));
    assert_eq!(paths(&net, id, "2001:db9::9"), [("2001:db8:ffff::7".into(), 2)]);

    // Without them, the kernel forwards; with others, those are used, without asking again.
    let before = net.sent_by(id).count();
    net.reload(id, config(Vec::new()));
    assert_eq!(
        net.nodes[id].natives.iter().copied().collect::<Vec<_>>(),
        [prefix("192.0.0.0/8"), prefix("2001:db9::/32")]
    );
    assert!(paths(&net, id, "192.0.2.9").is_empty());
    net.reload(id, config(vec![proxy_etr(address("203.0.113.8"), 1, Some(Family::Ipv4))]));
    assert_eq!(paths(&net, id, "192.0.2.9"), [("203.0.113.8".into(), 1)]);
    assert_eq!(net.nodes[id].natives.iter().copied().collect::<Vec<_>>(), [prefix("2001:db9::/32")]);
    assert_eq!(paths(&net, id, "10.2.0.9"), [("203.0.113.1".into(), 1)], "sites are not concerned");
    assert_eq!(net.sent_by(id).count(), before);
    net.handle(id, Input::Command(Command::ClearMapCache(None)));
    assert!(net.nodes[id].natives.is_empty());
}

#[test]
fn a_proxy_etr_may_have_a_name_that_is_resolved_later_and_changes() {
    let (mut net, id) = itr(vec![proxy_etr(Host::Name("petr.example".into()), 1, None)]);
    net.learn(id, "192.0.2.9", vec![negative("192.0.0.0/8", 15, Action::NativelyForward)]);
    assert_eq!(net.nodes[id].natives.len(), 1, "as long as there is none");
    net.dns.insert("petr.example".into(), vec![ip("203.0.113.7")]);
    net.run_until(Duration::from_secs(30), |net| net.nodes[id].natives.is_empty()).expect("resolved");
    assert_eq!(paths(&net, id, "192.0.2.9"), [("203.0.113.7".into(), 1)]);
    net.handle(id, Input::Resolved { name: "petr.example", addresses: &[ip("203.0.113.8")] });
    assert_eq!(paths(&net, id, "192.0.2.9"), [("203.0.113.8".into(), 1)]);
}

/// A proxy tunnel router in both directions.
fn proxy() -> ControlConfig {
    let prefixes = vec![prefix("10.2.0.0/16"), prefix("2001:db8:2::/48")];
    ControlConfig {
        locators: vec![locator("198.51.100.1", 1, 100)],
        itr: Some(ItrConfig {
            map_resolvers: vec![Host::Address(ip("192.0.2.1"))],
            proxy_for: prefixes.clone(),
            ..ItrConfig::default()
        }),
        etr: Some(EtrConfig { proxy_for: prefixes, ..EtrConfig::default() }),
        ..ControlConfig::default()
    }
}

#[test]
fn a_proxy_itr_asks_on_behalf_of_no_eid_and_encapsulates_from_its_own_locator() {
    // RFC 6832 §5, RFC 9301 §5.2.
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1"], proxy());
    net.packet(id, "192.0.2.200", eid("10.2.0.9"));
    let (_, message) = net.take_one(id);
    let (_, request) = inner(&message);
    let expected = MapRequest {
        nonce: request.nonce,
        source_eid: Address::None,
        itr_rlocs: vec![ip("198.51.100.1").into()],
        records: vec![prefix("10.2.0.9/32").into()],
        ..MapRequest::default()
    };
    assert_eq!(request, expected);
    net.reply_nonce(id, request.nonce, vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9")), [(ip("203.0.113.1"), ip("198.51.100.1"), 1, 100)]);
    // What has no mapping is dropped here: left to the kernel, it would come back.
    net.learn(id, "2001:db8:2:9::1", vec![negative("2001:db8:2:9::/64", 15, Action::NativelyForward)]);
    let (_, (action, _)) = net.nodes[id].fib.longest(&eid("2001:db8:2:9::1")).unwrap();
    assert!(matches!(action, FibAction::Negative(Action::NativelyForward)));
}

#[test]
fn locators_that_are_proxied_eids_are_not_used() {
    // Packets to them would come back to be encapsulated, without end.
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1"], proxy());
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/24", &["10.2.200.1", "203.0.113.1"])]);
    assert_eq!(paths(&net, id, "10.2.0.9"), [("203.0.113.1".into(), 1)]);
    net.learn(id, "10.2.1.9", vec![record("10.2.1.0/24", &["10.2.200.1"])]);
    assert!(paths(&net, id, "10.2.1.9").is_empty());
    // Not so any more where it is no proxy for them.
    let mut other = proxy();
    other.itr = other.itr.map(|itr| ItrConfig { proxy_for: vec![prefix("10.2.0.0/20")], ..itr });
    net.reload(id, other);
    assert_eq!(paths(&net, id, "10.2.0.9"), [("10.2.200.1".into(), 1), ("203.0.113.1".into(), 1)]);
    assert_eq!(paths(&net, id, "10.2.1.9"), [("10.2.200.1".into(), 1)]);
}

#[test]
fn the_data_plane_hears_which_prefixes_it_is_a_proxy_for() {
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1"], proxy());
    let (two, six) = (prefix("10.2.0.0/16"), prefix("2001:db8:2::/48"));
    assert_eq!(net.nodes[id].proxied, [(two, false), (two, true), (six, false), (six, true)].into());
    let mut other = proxy();
    other.etr = None;
    other.itr = other.itr.map(|itr| ItrConfig { proxy_for: vec![two, prefix("10.3.0.0/16")], ..itr });
    net.reload(id, other);
    assert_eq!(net.nodes[id].proxied, [(two, false), (prefix("10.3.0.0/16"), false)].into());
}

#[test]
fn a_proxy_etr_answers_probes_for_what_it_reaches_and_nothing_else() {
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1"], proxy());
    let ask = |probe| MapRequest { probe, ..map_request("192.0.0.0/8", "203.0.113.5", 77) };
    net.deliver(id, "203.0.113.5:4342", &encode(ask(true)));
    let (transmit, message) = net.take_one(id);
    assert_eq!(
        (transmit.source, transmit.destination.to_string()),
        (Some(ip("198.51.100.1")), "203.0.113.5:4342".into())
    );
    let Message::MapReply(reply) = message else { panic!("{message:?}") };
    assert!(reply.probe && reply.nonce.0 == 77);
    let expected = crate::wire::EidRecord {
        authoritative: true,
        ..negative("192.0.0.0/8", 15, Action::NativelyForward)
    };
    assert_eq!(reply.records, [expected]);
    net.deliver(id, "203.0.113.5:4342", &encode(ask(false)));
    assert!(net.take_sent(id).is_empty(), "it is not the one to ask for mappings");
    // Without the role, no answer.
    let mut itr_only = proxy();
    itr_only.etr = None;
    net.reload(id, itr_only);
    net.deliver(id, "203.0.113.5:4342", &encode(ask(true)));
    assert!(net.take_sent(id).is_empty());
}

#[test]
fn a_proxy_hears_of_changes_as_an_itr_does() {
    // RFC 6832 §5: a proxy-ITR is an ITR; RFC 9301 §6.1: who sent to the site in the last minute is told.
    let mut net = Network::new(7);
    net.add(&["192.0.2.1"], mapping_system(vec![site("b", "secret-b", &["10.2.0.0/16"])]));
    let proxy_itr = net.add(&["198.51.100.1"], proxy());
    let config = xtr(&["10.2.0.0/16"], &["203.0.113.1", "203.0.113.2"], "192.0.2.1", "secret-b");
    let b = net.add(&["203.0.113.1", "203.0.113.2"], config.clone());
    net.run_for(Duration::from_secs(2));
    let host = eid("10.2.0.9");
    net.packet(proxy_itr, "192.0.2.200", host);
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.nodes[proxy_itr].paths(host).len(), 2);
    // Its Map-Request is long ago; its packets are not.
    net.run_for(Duration::from_secs(90));
    net.packet(proxy_itr, "192.0.2.200", host);
    let last = net.now;
    net.nodes[b].senders = vec![crate::fib::Sender { rloc: ip("198.51.100.1"), destination: host, last }];
    let mut other = config;
    other.database[0].locators.truncate(1);
    net.reload(b, other);
    let told = |net: &Network| net.nodes[proxy_itr].paths(host).len() == 1;
    assert!(net.run_until(Duration::from_secs(2), told).is_some());
    // Its entries are no different from others': one SMR, from a locator of the site, and one Map-Request.
    let smrs = net.sent_by(b).filter(|(.., m)| matches!(m, Message::MapRequest(request) if request.smr));
    assert_eq!(smrs.count(), 1);
    assert_eq!(net.nodes[proxy_itr].dropped(crate::proto::stats::DropReason::SmrNotCached), 0);
}

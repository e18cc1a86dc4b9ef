//! The Map-Resolver against RFC 9301 §5.2, §5.8 and §8.4.

use std::time::Duration;

use crate::proto::config::*;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::Ttl;
use crate::wire::{MapRequest, Message};

const SECOND: Duration = Duration::from_secs(1);
const ITR: &str = "203.0.113.9:4342";

fn resolver(forward: &[(&str, &[&str])]) -> ControlConfig {
    let host = |h: &&str| h.parse().map_or_else(|_| Host::Name((*h).into()), Host::Address);
    let forward = forward.iter().map(|(p, hosts)| (prefix(p), hosts.iter().map(host).collect())).collect();
    ControlConfig { map_resolver: Some(MapResolverConfig { forward }), ..ControlConfig::default() }
}

fn hole(net: &mut Network, id: usize, eid: &str, nonce: u64) -> (String, u32) {
    net.deliver(id, ITR, &ecm(map_request(eid, "203.0.113.9", nonce)));
    match net.take_one(id).1 {
        Message::MapReply(reply) => {
            (reply.records[0].eid.to_prefix().unwrap().to_string(), reply.records[0].ttl.0)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_go_to_the_map_server_that_serves_the_longest_match() {
    let mut net = Network::new(1);
    let config = resolver(&[("10.0.0.0/8", &["192.0.2.2"]), ("10.7.0.0/16", &["ms.example", "192.0.2.3"])]);
    let id = net.add(&["192.0.2.1"], config);
    let request = map_request("10.1.2.3/32", "203.0.113.9", 1);
    net.deliver(id, ITR, &ecm(request.clone()));
    let (transmit, _) = net.take_one(id);
    assert_eq!((transmit.destination, transmit.payload), ("192.0.2.2:4342".parse().unwrap(), ecm(request)));
    // The first host that is resolved.
    net.deliver(id, ITR, &ecm(map_request("10.7.2.3/32", "203.0.113.9", 2)));
    assert_eq!(net.take_one(id).0.destination.ip(), ip("192.0.2.3"));
    net.dns.insert("ms.example".into(), vec![ip("192.0.2.4")]);
    net.run_for(2 * SECOND);
    net.deliver(id, ITR, &ecm(map_request("10.7.2.3/32", "203.0.113.9", 3)));
    assert_eq!(net.take_one(id).0.destination.ip(), ip("192.0.2.4"));
    // What nobody serves is native, without touching what somebody does.
    assert_eq!(hole(&mut net, id, "11.0.0.1/32", 4), ("11.0.0.0/8".into(), 15));
    assert_eq!(hole(&mut net, id, "2001:db8::1/128", 5), ("::/0".into(), 15));
}

#[test]
fn an_unresolved_map_server_is_a_reason_and_not_an_answer() {
    let mut net = Network::new(1);
    let id = net.add(&["192.0.2.1"], resolver(&[("10.0.0.0/8", &["ms.example"])]));
    net.deliver(id, ITR, &ecm(map_request("10.1.2.3/32", "203.0.113.9", 1)));
    assert!(net.take_sent(id).is_empty());
    assert_eq!(net.nodes[id].dropped(DropReason::ForwardUnresolved), 1);
}

#[test]
fn requests_do_not_go_round_in_circles() {
    // Each of two Map-Resolvers takes the other for the Map-Server.
    let mut net = Network::new(1);
    let a = net.add(&["192.0.2.1"], resolver(&[("10.0.0.0/8", &["192.0.2.2"])]));
    let b = net.add(&["192.0.2.2"], resolver(&[("10.0.0.0/8", &["192.0.2.1"])]));
    net.deliver(a, ITR, &ecm(map_request("10.1.2.3/32", "203.0.113.9", 1)));
    net.run_for(10 * SECOND);
    assert_eq!(net.sent.len(), 2);
    assert_eq!(net.nodes[a].dropped(DropReason::RequestLoop), 1);
    assert_eq!(net.nodes[b].dropped(DropReason::RequestLoop), 0);
    // An ITR's own retransmission is not taken for one.
    net.deliver(a, ITR, &ecm(map_request("10.1.2.3/32", "203.0.113.9", 1)));
    assert_eq!(net.sent.len(), 3);
    // A Map-Resolver that is told to ask itself does not.
    let c = net.add(&["192.0.2.3"], resolver(&[("10.0.0.0/8", &["192.0.2.3"])]));
    net.deliver(c, ITR, &ecm(map_request("10.1.2.3/32", "203.0.113.9", 1)));
    assert_eq!(net.nodes[c].dropped(DropReason::ForwardUnresolved), 1);
}

#[test]
fn what_is_served_elsewhere_and_here_goes_by_the_longest_match() {
    let mut net = Network::new(1);
    let mut config = mapping_system(vec![site("a", "a", &["10.1.0.0/16"])]);
    config.map_resolver =
        resolver(&[("10.0.0.0/8", &["192.0.2.2"]), ("10.1.128.0/17", &["192.0.2.3"])]).map_resolver;
    let id = net.add(&["192.0.2.1"], config);
    let to = |net: &mut Network, eid, nonce| {
        net.deliver(id, ITR, &ecm(map_request(eid, "203.0.113.9", nonce)));
        net.take_one(id).0.destination.ip()
    };
    assert_eq!(to(&mut net, "10.2.0.1/32", 1), ip("192.0.2.2"));
    assert_eq!(to(&mut net, "10.1.128.1/32", 2), ip("192.0.2.3"));
    // Ours, but not registered: for as much as is not served elsewhere.
    assert_eq!(hole(&mut net, id, "10.1.0.1/32", 3), ("10.1.0.0/17".into(), 1));
    net.deliver(
        id,
        "198.51.100.1:4342",
        &register(1, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]),
    );
    net.take_sent(id);
    assert_eq!(to(&mut net, "10.1.0.1/32", 4), ip("198.51.100.1"));
    assert_eq!(to(&mut net, "10.1.128.1/32", 5), ip("192.0.2.3"));
}

#[test]
fn probes_and_referrals_are_none_of_its_business() {
    let mut net = Network::new(1);
    let id = net.add(&["192.0.2.1"], resolver(&[]));
    // RFC 9301 §5.2: MUST drop, encapsulated or not.
    let probe = MapRequest { probe: true, ..map_request("10.1.2.3/32", "203.0.113.9", 1) };
    net.deliver(id, ITR, &ecm(probe.clone()));
    net.deliver(id, ITR, &encode(probe));
    assert_eq!(net.nodes[id].dropped(DropReason::ProbeMisdirected), 2);
    // RFC 8111: no DDT node.
    let mut ddt = match Message::decode(&ecm(map_request("10.1.2.3/32", "203.0.113.9", 1))) {
        Ok(Message::Ecm(ecm)) => ecm,
        other => panic!("{other:?}"),
    };
    ddt.ddt = true;
    net.deliver(id, ITR, &encode(ddt.clone()));
    assert_eq!(net.nodes[id].dropped(DropReason::EcmDdt), 1);
    ddt.ddt = false;
    ddt.payload = encode(crate::wire::MapReply::default());
    net.deliver(id, ITR, &encode(ddt));
    assert_eq!(net.nodes[id].dropped(DropReason::EcmContent), 1);
    assert!(net.take_sent(id).is_empty());
}

#[test]
fn a_router_with_every_role_answers_for_its_own_site_first() {
    let mut net = Network::new(1);
    let mut config = xtr(&["10.1.0.0/16"], &["192.0.2.1"], "192.0.2.1", "a");
    let system = mapping_system(vec![site("a", "a", &["10.1.0.0/16"]), site("b", "b", &["10.1.7.0/24"])]);
    config.map_server = system.map_server;
    config.map_resolver = system.map_resolver;
    let id = net.add(&["192.0.2.1"], config);
    net.run_for(SECOND);
    assert!(
        net.nodes[id].control.database().all(|d| d.registrations[0].confirmed),
        "it registers with itself"
    );
    net.take_sent(id);
    net.deliver(id, ITR, &ecm(map_request("10.1.2.3/32", "203.0.113.9", 1)));
    let Message::MapReply(reply) = net.take_one(id).1 else { panic!() };
    assert!(reply.records[0].authoritative);
    // A more specific part of it is another site's, which has not registered.
    assert_eq!(hole(&mut net, id, "10.1.7.1/32", 2), ("10.1.7.0/24".into(), 1));
    // Holes leave the own site out, even if the mapping system did not know it.
    net.reload(
        id,
        ControlConfig {
            map_resolver: Some(MapResolverConfig::default()),
            ..xtr(&["10.1.0.0/16"], &["192.0.2.1"], "192.0.2.1", "a")
        },
    );
    net.take_sent(id);
    assert_eq!(hole(&mut net, id, "10.0.0.1/32", 3), ("10.0.0.0/16".into(), 15));
    assert_eq!(Ttl(15), crate::proto::config::Timers::default().negative_ttl_unconfigured);
}

#[test]
fn replies_go_out_in_the_family_that_the_request_came_in() {
    let mut net = Network::new(1);
    let id = net.add(&["192.0.2.1", "2001:db8:ffff::1"], resolver(&[]));
    let mut request = map_request("10.1.2.3/32", "203.0.113.9", 1);
    request.itr_rlocs.push(ip("2001:db8:ffff::9").into());
    for (from, to) in [(ITR, "203.0.113.9"), ("[2001:db8:ffff::77]:4342", "2001:db8:ffff::9")] {
        net.deliver(id, from, &ecm(request.clone()));
        assert_eq!(net.take_one(id).0.destination, std::net::SocketAddr::new(ip(to), 4342));
    }
}

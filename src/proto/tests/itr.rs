//! The ITR against RFC 9301 §5.2–§5.5, §6.1 and §8.1.

use std::sync::Arc;
use std::time::Duration;

use crate::fib::{FibAction, Punt};
use crate::proto::config::{ControlConfig, Host, ItrConfig};
use crate::proto::control::{Command, Input, LigError};
use crate::proto::event::Event;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Action, Eid, InstanceId, Nonce, Ttl};
use crate::wire::{Address, EidRecord, LocatorRecord, MapRequest};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// An ITR of 10.1.0.0/16 with an IPv4 and an IPv6 locator, whose Map-Resolver never answers by itself.
fn config() -> ControlConfig {
    let mut config = xtr(&["10.1.0.0/16"], &["198.51.100.1", "2001:db8:ffff::a"], "192.0.2.1", "k");
    config.etr = None;
    config
}

fn itr() -> (Network, usize) {
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1", "2001:db8:ffff::a"], config());
    (net, id)
}

fn action(net: &Network, id: usize, destination: &str) -> Option<FibAction> {
    net.nodes[id].fib.longest(&eid(destination)).map(|(_, (action, _))| action.clone())
}

#[test]
fn a_miss_asks_the_map_resolver_once() {
    // Input: a packet from 10.1.0.9 to 10.2.0.9 that no entry covers, a hundred times.
    let (mut net, id) = itr();
    for _ in 0..100 {
        net.packet(id, "10.1.0.9", eid("10.2.0.9"));
        net.handle(id, Input::Punt(Punt::Miss { source: ip("10.1.0.8"), destination: eid("10.2.0.9") }));
    }
    // Output: one Map-Request in an ECM to the Map-Resolver (RFC 9301 §5.8), inner destination the EID,
    // inner source a locator of its family; in it one record with the full mask length (§5.2), the source
    // EID of the packet, and a locator of each family as ITR-RLOC.
    let (transmit, message) = net.take_one(id);
    assert_eq!(transmit.destination, "192.0.2.1:4342".parse().unwrap());
    let (ecm, request) = inner(&message);
    assert_eq!(ecm.source, "198.51.100.1:4342".parse().unwrap());
    assert_eq!(ecm.destination, "10.2.0.9:4342".parse().unwrap());
    let expected = MapRequest {
        nonce: request.nonce,
        source_eid: Address::Ip(ip("10.1.0.9")),
        itr_rlocs: vec![ip("198.51.100.1").into(), ip("2001:db8:ffff::a").into()],
        records: vec![prefix("10.2.0.9/32").into()],
        ..MapRequest::default()
    };
    assert_eq!(request, expected);
    // Another EID: another nonce.
    net.packet(id, "10.1.0.9", eid("10.2.0.10"));
    assert_ne!(inner(&net.take_one(id).1).1.nonce, request.nonce);
}

#[test]
fn an_instance_travels_in_an_lcaf() {
    let (mut net, id) = itr();
    let seven = InstanceId::new(7).unwrap();
    let destination = Eid::new(seven, ip("10.1.0.9"));
    // The same address is local in the default instance, but not in this one.
    net.packet(id, "10.9.0.1", destination);
    let (_, request) = inner(&net.take_one(id).1);
    assert_eq!(request.records[0].to_prefix().unwrap(), prefix("[7]10.1.0.9/32"));
    assert_eq!(request.source_eid.to_eid().unwrap(), Eid::new(seven, ip("10.9.0.1")));
    net.reply_nonce(id, request.nonce, vec![record("[7]10.1.0.0/16", &["203.0.113.1"])]);
    assert_eq!(net.nodes[id].paths(destination).len(), 1);
    assert!(net.nodes[id].paths(eid("10.1.0.9")).is_empty());
}

#[test]
fn ipv6_eids_are_asked_for_over_ipv4_alone() {
    let mut config = config();
    config.database = vec![database("2001:db8:a::/48", vec![locator("198.51.100.1", 1, 100)])];
    let mut net = Network::new(1);
    let id = net.add(&["198.51.100.1"], config);
    net.packet(id, "2001:db8:a::9", eid("2001:db8:b::9"));
    // No locator of the EID's family can be the inner source, so the EID that asks is.
    let (transmit, message) = net.take_one(id);
    assert_eq!(transmit.destination.ip(), ip("192.0.2.1"));
    let (ecm, request) = inner(&message);
    assert_eq!(ecm.source.ip(), ip("2001:db8:a::9"));
    assert_eq!(request.itr_rlocs, [Address::Ip(ip("198.51.100.1"))]);
    // Of the site's locators, only the one of our family can be used.
    net.reply_nonce(id, request.nonce, vec![record("2001:db8:b::/48", &["203.0.113.1", "2001:db8:ffff::b"])]);
    assert_eq!(net.nodes[id].paths(eid("2001:db8:b::9")), [(ip("203.0.113.1"), ip("198.51.100.1"), 1, 100)]);
}

#[test]
fn an_unanswered_request_is_repeated_ten_times_and_rests_for_30_seconds() {
    // RFC 9301 §5.3: at most one per second and EID-prefix; after 10 retransmits, wait 30 seconds.
    let (mut net, id) = itr();
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    // 3 × 1 s, 3 × 2 s, 3 × 4 s, 2 × 8 s, each up to a tenth longer.
    net.run_for(Duration::from_millis(40_700));
    let times: Vec<_> = net.sent_by(id).map(|(at, ..)| at).collect();
    assert_eq!(times.len(), 11);
    assert!(times.windows(2).all(|w| w[1].saturating_since(w[0]) >= SECOND));
    assert!(net.nodes[id].events.contains(&Event::Unanswered { eid: eid("10.2.0.9"), requests: 11 }));
    let nonces: std::collections::BTreeSet<_> = net.sent_by(id).map(|(_, _, m)| inner(m).1.nonce).collect();
    assert_eq!(nonces.len(), 1, "a late answer to any of them counts");
    assert!(net.nodes[id].control.pending().next().unwrap().1.resting);
    // During the rest, punts are absorbed.
    net.take_sent(id);
    net.handle(id, Input::Punt(Punt::Miss { source: ip("10.1.0.9"), destination: eid("10.2.0.9") }));
    net.run_for(Duration::from_secs(25));
    assert!(net.take_sent(id).is_empty());
    assert!(net.nodes[id].punted.contains(&eid("10.2.0.9")));
    // After it, the data plane may punt again.
    net.run_for(Duration::from_secs(5));
    assert!(net.nodes[id].punted.is_empty());
    assert_eq!(net.nodes[id].control.pending().count(), 0);
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    assert_eq!(net.take_sent(id).len(), 1);
}

#[test]
fn every_map_resolver_is_asked_in_turn_and_the_one_that_helped_stays_first() {
    let mut config = config();
    let resolvers = ["192.0.2.1", "192.0.2.2", "2001:db8:ffff::3"];
    config.itr.as_mut().unwrap().map_resolvers = resolvers.iter().map(|r| Host::Address(ip(r))).collect();
    let mut net = Network::new(1);
    let id = net.add(&["198.51.100.1", "2001:db8:ffff::a"], config);
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(Duration::from_millis(2500));
    let asked: Vec<_> = net.take_sent(id).into_iter().map(|(t, _)| t.destination.ip()).collect();
    assert_eq!(asked, resolvers.map(ip));
    // Two have left something unanswered: others are not made to wait for them.
    net.packet(id, "10.1.0.9", eid("10.3.0.9"));
    net.reply(id, vec![record("10.3.0.0/16", &["203.0.113.1"])]);
    net.packet(id, "10.1.0.9", eid("10.4.0.9"));
    let asked: Vec<_> = net.take_sent(id).into_iter().map(|(t, _)| t.destination.ip()).collect();
    assert_eq!(asked, [ip(resolvers[2]), ip(resolvers[2])]);
}

#[test]
fn a_name_is_resolved_first_and_asked_as_soon_as_it_is() {
    let mut config = config();
    config.itr.as_mut().unwrap().map_resolvers = vec![Host::Name("mr.example".into())];
    let mut net = Network::new(1);
    let id = net.add(&["198.51.100.1"], config);
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    assert!(net.take_sent(id).is_empty());
    assert_eq!(net.nodes[id].dropped(DropReason::NoMapResolver), 1);
    net.dns.insert("mr.example".into(), vec![ip("192.0.2.7")]);
    // The first failure was at the start, the next try is a second later.
    let took = net.run_until(2 * SECOND, |net| net.sent_by(id).next().is_some()).unwrap();
    assert!(took <= Duration::from_millis(1000), "{took:?}");
    assert_eq!(net.take_one(id).0.destination.ip(), ip("192.0.2.7"));
}

#[test]
fn without_a_locator_nothing_is_asked_until_there_is_one() {
    let mut config = config();
    for locator in &mut config.database[0].locators {
        locator.source = crate::proto::config::LocatorSource::Interface {
            name: "eth0".into(),
            family: crate::types::Family::Ipv4,
        };
    }
    let mut net = Network::new(1);
    let id = net.add(&[], config);
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    assert_eq!(net.nodes[id].dropped(DropReason::NoLocalRloc), 1);
    assert!(net.take_sent(id).is_empty());
    net.readdress(id, &["198.51.100.77"]);
    let (_, request) = inner(&net.take_one(id).1);
    assert_eq!(request.itr_rlocs, [Address::Ip(ip("198.51.100.77"))]);
    net.reply_nonce(id, request.nonce, vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    // The interface gets another address: packets leave from it at once.
    net.readdress(id, &["198.51.100.78"]);
    let paths = net.nodes[id].paths(eid("10.2.0.9"));
    assert_eq!(paths, [(ip("203.0.113.1"), ip("198.51.100.78"), 1, 100)]);
    // It goes down: there is no way to send.
    net.readdress(id, &[]);
    assert!(matches!(action(&net, id, "10.2.0.9"), Some(FibAction::Negative(Action::Drop))));
}

#[test]
fn only_the_right_nonce_is_believed() {
    // Input: Map-Replies that nobody asked for, or with another nonce (RFC 9301 §5.2). Output: nothing
    // learnt.
    let (mut net, id) = itr();
    net.reply_nonce(id, Nonce(0), vec![record("10.2.0.0/16", &["203.0.113.66"])]);
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    let right = inner(&net.take_one(id).1).1.nonce;
    net.reply_nonce(id, Nonce(right.0 ^ 1), vec![record("10.2.0.0/16", &["203.0.113.66"])]);
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyNonce), 2);
    assert_eq!(net.nodes[id].control.map_cache_len(), 0);
    net.reply_nonce(id, right, vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.1"));
    // And once only.
    net.reply_nonce(id, right, vec![record("10.2.0.0/16", &["203.0.113.66"])]);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.1"));
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyNonce), 3);
}

#[test]
fn a_reply_must_cover_what_was_asked_and_may_cover_more_or_less() {
    let (mut net, id) = itr();
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    net.reply(id, vec![record("10.3.0.0/16", &["203.0.113.1"])]);
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyNotCovering), 1);
    assert_eq!(net.nodes[id].control.map_cache_len(), 0);
    // Still pending: the right answer counts. What is neither the answer nor inside it does not.
    net.reply(
        id,
        vec![
            record("10.2.0.0/16", &["203.0.113.1"]),
            record("10.2.128.0/24", &["203.0.113.2"]),
            record("10.9.0.0/16", &["203.0.113.3"]),
            record("10.0.0.0/8", &["203.0.113.4"]),
        ],
    );
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyUnasked), 2);
    let cached: Vec<_> = net.nodes[id].control.map_cache().map(|(p, _)| p).collect();
    assert_eq!(cached, [prefix("10.2.0.0/16"), prefix("10.2.128.0/24")]);
    // A less specific answer for an EID in a more specific entry replaces that one (RFC 9301 §5.5).
    net.handle(id, Input::Command(Command::ClearMapCache(None)));
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/24", &["203.0.113.1"])]);
    net.learn(id, "10.2.1.9", vec![record("10.2.1.0/24", &["203.0.113.2"])]);
    let request = encode(MapRequest { smr: true, ..map_request("10.2.0.0/24", "203.0.113.1", 1) });
    net.deliver(id, "203.0.113.1:4342", &request);
    net.reply(id, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    let cached: Vec<_> = net.nodes[id].control.map_cache().map(|(p, _)| p).collect();
    assert_eq!(cached, [prefix("10.2.0.0/16"), prefix("10.2.1.0/24")]);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.9"));
}

#[test]
fn a_less_specific_entry_ends_no_later_than_those_inside_it() {
    let (mut net, id) = itr();
    net.learn(id, "10.2.1.9", vec![EidRecord { ttl: Ttl(2), ..record("10.2.1.0/24", &["203.0.113.2"]) }]);
    net.run_for(MINUTE);
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    let ends: Vec<_> = net.nodes[id].control.map_cache().map(|(_, e)| e.expires).collect();
    assert_eq!(ends[0], ends[1]);
    net.run_for(MINUTE);
    assert_eq!((net.nodes[id].control.map_cache_len(), net.nodes[id].fib.len()), (0, 1));
}

#[test]
fn our_own_prefixes_are_never_learnt() {
    let (mut net, id) = itr();
    net.learn(
        id,
        "10.2.0.9",
        vec![
            record("10.0.0.0/8", &["203.0.113.1"]),
            record("10.1.0.0/16", &["203.0.113.66"]),
            record("10.1.2.0/24", &["203.0.113.66"]),
        ],
    );
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyLocal), 2);
    assert!(matches!(action(&net, id, "10.1.2.3"), Some(FibAction::Local)));
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9")).len(), 1);
}

#[test]
fn locators_that_must_not_be_used_are_not() {
    let (mut net, id) = itr();
    let mut answer = record(
        "10.2.0.0/16",
        &[
            "127.0.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "203.0.113.2",
            "203.0.113.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "2001:db8:ffff::b",
        ],
    );
    answer.locators[3].priority = 255;
    answer.locators[4].reachable = false;
    answer.locators[8].priority = 9;
    answer.locators.push(LocatorRecord { address: Address::Mac([1; 6]), ..answer.locators[2].clone() });
    net.learn(id, "10.2.0.9", vec![answer]);
    assert_eq!(
        net.nodes[id].paths(eid("10.2.0.9")),
        [
            (ip("203.0.113.1"), ip("198.51.100.1"), 1, 100),
            (ip("2001:db8:ffff::b"), ip("2001:db8:ffff::a"), 9, 100)
        ]
    );
    // Nothing usable at all: dropped, without asking again for every packet.
    let mut answer = record("10.3.0.0/16", &["203.0.113.1"]);
    answer.locators[0].priority = 255;
    net.learn(id, "10.3.0.9", vec![answer]);
    assert!(matches!(action(&net, id, "10.3.0.9"), Some(FibAction::Negative(Action::Drop))));
    // Locators of a kind that we can't use are not the same as none.
    let mut answer = record("10.4.0.0/16", &["203.0.113.1"]);
    answer.locators[0].address = Address::Mac([1; 6]);
    answer.action = Action::NativelyForward;
    net.learn(id, "10.4.0.9", vec![answer]);
    assert!(matches!(action(&net, id, "10.4.0.9"), Some(FibAction::Negative(Action::Drop))));
    assert!(net.nodes[id].natives.is_empty());
}

#[test]
fn every_negative_action_reaches_the_fib() {
    // RFC 9301 §5.4, ACT.
    let (mut net, id) = itr();
    let expected = [
        (Action::NoAction, Action::Drop),
        (Action::NativelyForward, Action::NativelyForward),
        (Action::SendMapRequest, Action::SendMapRequest),
        (Action::Drop, Action::Drop),
        (Action::DropPolicyDenied, Action::DropPolicyDenied),
        (Action::DropAuthFailure, Action::DropAuthFailure),
        (Action::Unassigned(6), Action::Unassigned(6)),
    ];
    for (n, (said, done)) in expected.into_iter().enumerate() {
        let destination = format!("10.{}.0.9", n + 2);
        net.learn(id, &destination, vec![negative(&format!("10.{}.0.0/16", n + 2), 5, said)]);
        let found = action(&net, id, &destination);
        assert!(matches!(found, Some(FibAction::Negative(a)) if a == done), "{said}: {found:?}");
    }
    assert_eq!(net.nodes[id].natives.iter().copied().collect::<Vec<_>>(), [prefix("10.3.0.0/16")]);
    net.handle(id, Input::Command(Command::ClearMapCache(None)));
    assert!(net.nodes[id].natives.is_empty());
    assert_eq!(net.nodes[id].fib.len(), 1);
}

#[test]
fn what_is_encapsulated_inside_a_native_prefix_is_an_exception_to_it() {
    let (mut net, id) = itr();
    let natives = |net: &Network| net.nodes[id].natives.iter().map(ToString::to_string).collect::<Vec<_>>();
    let exceptions =
        |net: &Network| net.nodes[id].exceptions.iter().map(ToString::to_string).collect::<Vec<_>>();
    let clear =
        |net: &mut Network, p| net.handle(id, Input::Command(Command::ClearMapCache(Some(prefix(p)))));
    // Native, and a drop inside it is an exception as well.
    net.learn(id, "10.2.5.9", vec![negative("10.2.5.0/24", 15, Action::Drop)]);
    assert!(exceptions(&net).is_empty(), "to nothing");
    net.learn(id, "10.2.4.9", vec![negative("10.2.4.0/22", 15, Action::NativelyForward)]);
    net.learn(id, "10.2.1.9", vec![record("10.2.1.0/24", &["203.0.113.1"])]);
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    assert_eq!((natives(&net), exceptions(&net)), (vec!["10.2.4.0/22".into()], vec!["10.2.5.0/24".into()]));
    // All of that inside an exception to what is native around it.
    net.learn(id, "10.3.0.9", vec![negative("10.0.0.0/8", 15, Action::NativelyForward)]);
    assert_eq!(natives(&net), ["10.0.0.0/8", "10.2.4.0/22"]);
    assert_eq!(exceptions(&net), ["10.2.0.0/16", "10.2.5.0/24"]);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9")).len(), 1);
    // What is removed leaves its inside to what is around it.
    clear(&mut net, "10.2.0.0/16");
    assert_eq!(exceptions(&net), ["10.2.1.0/24", "10.2.5.0/24"]);
    clear(&mut net, "10.2.4.0/22");
    assert_eq!((natives(&net), exceptions(&net).len()), (vec!["10.0.0.0/8".into()], 2));
    net.learn(id, "11.0.0.1", vec![record("10.0.0.0/7", &["203.0.113.1"])]);
    assert_eq!(exceptions(&net), ["10.2.1.0/24", "10.2.5.0/24"], "a less specific entry is no exception");
    clear(&mut net, "10.0.0.0/8");
    assert_eq!((natives(&net).len(), exceptions(&net).len()), (0, 0));
}

#[test]
fn entries_end_with_their_time_to_live() {
    let (mut net, id) = itr();
    net.learn(id, "10.2.0.9", vec![EidRecord { ttl: Ttl(3), ..record("10.2.0.0/16", &["203.0.113.1"]) }]);
    let forever = EidRecord { ttl: Ttl::RECEIVER_DECIDES, ..record("10.3.0.0/16", &["203.0.113.1"]) };
    net.learn(id, "10.3.0.9", vec![forever]);
    net.run_for(3 * MINUTE - SECOND);
    assert_eq!(net.nodes[id].fib.len(), 3);
    net.run_for(SECOND);
    assert_eq!(net.nodes[id].fib.len(), 2);
    assert!(action(&net, id, "10.2.0.9").is_none());
    // RFC 9301 §5.4: 0xffffffff leaves it to the receiver.
    net.run_for(Duration::from_secs(24 * 3600));
    assert_eq!(net.nodes[id].fib.len(), 1);
}

#[test]
fn a_time_to_live_of_zero_removes_and_is_not_asked_about_at_once() {
    let (mut net, id) = itr();
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    net.run_for(MINUTE);
    let request = encode(MapRequest { smr: true, ..map_request("10.2.0.0/16", "203.0.113.1", 1) });
    net.deliver(id, "203.0.113.1:4342", &request);
    net.reply(id, vec![EidRecord { ttl: Ttl(0), ..record("10.2.0.0/16", &["203.0.113.1"]) }]);
    assert_eq!(net.nodes[id].control.map_cache_len(), 0);
    // RFC 9301 §5.3: at most one Map-Request per second, even if each is answered by a withdrawal.
    net.take_sent(id);
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    for _ in 0..50 {
        net.run_for(Duration::from_millis(100));
        if !net.take_sent(id).is_empty() {
            // Already taken: answer by the pending nonce.
            let nonce = net.nodes[id].control.pending().next().unwrap().1.nonce;
            net.reply_nonce(id, nonce, vec![EidRecord { ttl: Ttl(0), ..record("10.2.0.0/16", &[]) }]);
        }
        net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    }
    let requests = net.nodes[id].control.statistics().sent(crate::proto::stats::MessageKind::Ecm);
    assert!((6..=8).contains(&requests), "{requests}");
}

#[test]
fn send_map_request_asks_once_a_second() {
    let (mut net, id) = itr();
    net.learn(id, "10.2.0.9", vec![negative("10.2.0.0/16", 5, Action::SendMapRequest)]);
    net.take_sent(id);
    let mut asked = 0;
    for n in 0..100 {
        // Many destinations in the same prefix.
        net.packet(id, "10.1.0.9", eid(&format!("10.2.1.{n}")));
        net.run_for(Duration::from_millis(50));
        for (_, message) in net.take_sent(id) {
            asked += 1;
            let nonce = inner(&message).1.nonce;
            net.reply_nonce(id, nonce, vec![negative("10.2.0.0/16", 5, Action::SendMapRequest)]);
        }
    }
    assert!((4..=6).contains(&asked), "{asked} in 5 s");
    // Once there is an answer, it is taken.
    net.run_for(2 * SECOND);
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9")).len(), 1);
    net.run_for(2 * SECOND);
    assert!(net.nodes[id].punted.is_empty());
}

#[test]
fn entries_in_use_are_refreshed_without_a_gap_and_keep_their_counters() {
    let (mut net, id) = itr();
    let answer = || vec![EidRecord { ttl: Ttl(2), ..record("10.2.0.0/16", &["203.0.113.1"]) }];
    net.learn(id, "10.2.0.9", answer());
    let first = net.nodes[id].control.map_cache().next().unwrap().1.clone();
    net.take_sent(id);
    for _ in 0..60 {
        net.run_for(5 * SECOND);
        assert!(matches!(net.packet(id, "10.1.0.9", eid("10.2.0.9")), Some(FibAction::Forward(_))));
        for (_, message) in net.take_sent(id) {
            let (_, request) = inner(&message);
            // RFC 9301 §5.2: no source EID, and the mask length of the entry.
            assert_eq!(request.source_eid, Address::None);
            assert_eq!(request.records[0].to_prefix().unwrap(), prefix("10.2.0.0/16"));
            net.reply_nonce(id, request.nonce, answer());
        }
    }
    let entry = net.nodes[id].control.map_cache().next().unwrap().1.clone();
    assert!(Arc::ptr_eq(&entry.stats, &first.stats));
    assert!(Arc::ptr_eq(&entry.locator_stats[0], &first.locator_stats[0]));
    assert_eq!(entry.installed, first.installed);
    assert_eq!(entry.stats.packets(), 60);
    // Unused, it ends without another question.
    net.run_for(3 * MINUTE);
    assert_eq!(net.nodes[id].control.map_cache_len(), 0);
    assert!(net.take_sent(id).is_empty());
}

#[test]
fn a_full_map_cache_forgets_what_is_used_least() {
    let mut config = config();
    config.itr = Some(ItrConfig { map_cache_limit: 100, ..config.itr.unwrap() });
    let mut net = Network::new(1);
    let id = net.add(&["198.51.100.1"], config);
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/24", &["203.0.113.1"])]);
    for n in 0..1000 {
        net.run_for(Duration::from_millis(10));
        net.packet(id, "10.1.0.9", eid("10.2.0.9"));
        let (a, b) = (n / 250 + 3, n % 250);
        net.learn(id, &format!("10.{a}.{b}.9"), vec![record(&format!("10.{a}.{b}.0/24"), &["203.0.113.1"])]);
        assert!(net.nodes[id].control.map_cache_len() <= 100);
        assert!(net.nodes[id].fib.len() <= 101);
    }
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9")).len(), 1, "the one in use is still there");
    assert_eq!(net.nodes[id].dropped(DropReason::CacheEvicted), 901);
}

#[test]
fn pending_requests_are_bounded_and_those_at_rest_make_room() {
    let mut config = config();
    config.timers.pending_requests = 50;
    let mut net = Network::new(1);
    let id = net.add(&["198.51.100.1"], config);
    for n in 0..200 {
        net.packet(id, &format!("10.1.0.{n}"), eid(&format!("10.2.0.{n}")));
    }
    assert_eq!(net.nodes[id].control.pending().count(), 50);
    assert_eq!(net.nodes[id].dropped(DropReason::PendingFull), 150);
    assert_eq!(net.nodes[id].punted.len(), 50, "those without a place may be punted again");
    net.run_for(Duration::from_secs(41));
    net.packet(id, "10.1.0.9", eid("10.3.0.1"));
    assert!(net.nodes[id].control.pending().any(|(e, p)| *e == eid("10.3.0.1") && !p.resting));
    assert_eq!(net.nodes[id].control.pending().count(), 50);
}

#[test]
fn one_answer_serves_all_that_wait_for_it() {
    let (mut net, id) = itr();
    for n in 0..20 {
        net.packet(id, "10.1.0.9", eid(&format!("10.2.0.{n}")));
    }
    net.reply(id, vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    assert_eq!(net.nodes[id].control.pending().count(), 0);
    assert!(net.nodes[id].punted.is_empty());
    net.take_sent(id);
    net.run_for(MINUTE);
    assert!(net.take_sent(id).is_empty());
}

#[test]
fn an_smr_is_followed_through_the_mapping_system_at_most_every_3_seconds() {
    // RFC 9301 §6.1.
    let (mut net, id) = itr();
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    net.take_sent(id);
    let smr = |eid, nonce| MapRequest { smr: true, ..map_request(eid, "203.0.113.1", nonce) };
    for n in 0..10 {
        net.deliver(id, "203.0.113.1:4342", &encode(smr("10.2.0.0/16", n)));
    }
    let (transmit, message) = net.take_one(id);
    assert_eq!(transmit.destination.ip(), ip("192.0.2.1"), "not to the sender");
    let (_, request) = inner(&message);
    assert!(request.smr_invoked && !request.smr);
    assert_eq!(request.records[0].to_prefix().unwrap(), prefix("10.2.0.0/16"));
    assert_eq!(net.nodes[id].dropped(DropReason::SmrRate), 9);
    net.reply_nonce(id, request.nonce, vec![record("10.2.0.0/16", &["203.0.113.2"])]);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.2"));
    // The changed prefix may also be the source EID, beside the EID here that the sender talks to.
    net.run_for(3 * SECOND);
    let other = MapRequest { source_eid: ip("10.2.3.4").into(), ..smr("10.1.0.9/32", 99) };
    net.deliver(id, "203.0.113.1:4342", &encode(other));
    assert_eq!(net.take_sent(id).len(), 1);
    // What isn't cached is not worth a Map-Request.
    net.deliver(id, "203.0.113.1:4342", &encode(smr("10.77.0.0/16", 100)));
    assert!(net.take_sent(id).is_empty());
    assert_eq!(net.nodes[id].dropped(DropReason::SmrNotCached), 1);
}

#[test]
fn lig_reports_the_answer_or_why_there_is_none() {
    let (mut net, id) = itr();
    net.lig(id, 1, eid("10.2.0.9"), None);
    net.run_for(Duration::from_millis(1500));
    net.reply(id, vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    let (number, result) = net.nodes[id].ligs.remove(0);
    let answer = result.unwrap();
    assert_eq!((number, answer.requests, answer.map_resolver), (1, 2, ip("192.0.2.1")));
    assert!(answer.rtt > Duration::ZERO && answer.rtt <= Duration::from_millis(500), "{:?}", answer.rtt);
    assert_eq!(answer.records, [record("10.2.0.0/16", &["203.0.113.1"])]);
    assert_eq!(net.nodes[id].control.map_cache_len(), 0, "looking is not learning");
    net.take_sent(id);
    net.lig(id, 2, eid("10.2.0.9"), Some(ip("192.0.2.99")));
    assert_eq!(net.take_one(id).0.destination.ip(), ip("192.0.2.99"));
    net.run_for(4 * SECOND);
    assert_eq!(net.nodes[id].ligs.remove(0), (2, Err(LigError::TimedOut)));
    for n in 0..100 {
        net.lig(id, n, eid("10.2.0.9"), None);
    }
    assert_eq!(net.nodes[id].ligs.len(), 36, "as many as are under way at once are not answered yet");
    assert!(net.nodes[id].ligs.iter().all(|(_, r)| *r == Err(LigError::Busy)));
    let without = ControlConfig { itr: None, ..config() };
    net.reload(id, without);
    assert_eq!(net.nodes[id].ligs.len(), 100, "no command stays without an answer");
    net.lig(id, 7, eid("10.2.0.9"), None);
    assert_eq!(net.nodes[id].ligs.pop(), Some((7, Err(LigError::NoItr))));
}

#[test]
fn what_the_underlay_says_of_a_locator_is_heeded_within_reason() {
    let (mut net, id) = itr();
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1", "203.0.113.2"])]);
    let mtu = |rloc, mtu| Input::Punt(Punt::PathMtu { rloc: ip(rloc), mtu });
    net.handle(id, mtu("203.0.113.1", 1400));
    net.handle(id, mtu("203.0.113.2", 3));
    net.handle(id, mtu("203.0.113.3", 1400));
    assert_eq!(net.nodes[id].path_mtus, [(ip("203.0.113.1"), 1400), (ip("203.0.113.2"), 552)].into());
    assert_eq!(net.nodes[id].control.path_mtu(&ip("203.0.113.1")), Some(1400));
    assert_eq!(net.nodes[id].dropped(DropReason::PathMtuUnknown), 1);
    net.run_for(10 * MINUTE);
    assert!(net.nodes[id].path_mtus.is_empty());

    // RFC 9301 §7: not used, as if its priority were 255; but forged messages must not take all of them.
    let unreachable = |rloc| Input::Punt(Punt::Unreachable { rloc: ip(rloc) });
    let rlocs = |net: &Network| net.nodes[id].paths(eid("10.2.0.9")).iter().map(|p| p.0).collect::<Vec<_>>();
    net.handle(id, unreachable("203.0.113.1"));
    assert_eq!(rlocs(&net), [ip("203.0.113.2")]);
    net.handle(id, unreachable("203.0.113.2"));
    assert_eq!(rlocs(&net), [ip("203.0.113.1"), ip("203.0.113.2")]);
    net.handle(id, unreachable("203.0.113.77"));
    assert_eq!(net.nodes[id].dropped(DropReason::UnreachableUnknown), 1);
    net.run_for(31 * SECOND);
    assert!(!net.nodes[id].control.is_down(&ip("203.0.113.1")));
    net.handle(id, unreachable("203.0.113.2"));
    assert_eq!(rlocs(&net), [ip("203.0.113.1")]);
}

//! DDT against RFC 8111: nodes, Map-Servers and a Map-Resolver that searches, in virtual time.

use std::time::Duration;

use crate::proto::config::*;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Action, Nonce, Ttl};
use crate::wire::{MapReferral, Message, ReferralRecord};

const SECOND: Duration = Duration::from_secs(1);
const ROOT: &str = "192.0.2.70";
const NODE: &str = "192.0.2.71";
const RESOLVER: &str = "192.0.2.72";
const SERVER_A: &str = "192.0.2.73";
const SERVER_B: &str = "192.0.2.74";
const ITR: &str = "198.51.100.9";
const ETR: &str = "198.51.100.1";

fn delegation(of: &str, to: &[&str], map_servers: bool) -> DdtDelegation {
    DdtDelegation { prefix: prefix(of), to: to.iter().map(|a| ip(a)).collect(), map_servers }
}

fn node(authoritative: &[&str], delegations: Vec<DdtDelegation>) -> ControlConfig {
    let authoritative = authoritative.iter().map(|p| prefix(p)).collect();
    let node = Some(DdtNodeConfig { authoritative, delegations });
    ControlConfig { ddt: DdtConfig { node, ..DdtConfig::default() }, ..ControlConfig::default() }
}

fn server(sites: Vec<SiteConfig>) -> ControlConfig {
    ControlConfig { map_server: Some(MapServerConfig { sites }), ..ControlConfig::default() }
}

fn resolver(roots: &[&str]) -> ControlConfig {
    let roots = roots.iter().map(|a| Host::Address(ip(a))).collect();
    ControlConfig {
        map_resolver: Some(MapResolverConfig::default()),
        ddt: DdtConfig { roots, ..DdtConfig::default() },
        ..ControlConfig::default()
    }
}

/// A root that delegated 10.0.0.0/8 to a node, which delegated parts of it to two Map-Servers. At the first
/// one a site has registered 10.1.0.0/16; at the second one nobody 10.2.0.0/16.
struct Tree {
    net: Network,
    node: usize,
    resolver: usize,
    a: usize,
    b: usize,
    itr: usize,
}

impl Tree {
    fn new(roots: &[&str]) -> Self {
        let mut net = Network::new(1);
        net.add(&[ROOT], node(&["0.0.0.0/0"], vec![delegation("10.0.0.0/8", &[NODE], false)]));
        let node = net.add(&[NODE], Self::node());
        let resolver = net.add(&[RESOLVER], resolver(roots));
        let a = net.add(&[SERVER_A], server(vec![site("a", "a", &["10.1.0.0/16"])]));
        let b = net.add(&[SERVER_B], server(vec![site("b", "b", &["10.2.0.0/16"])]));
        net.add(&[ETR], xtr(&["10.1.0.0/16"], &[ETR], SERVER_A, "a"));
        let mut config = xtr(&["10.3.0.0/16"], &[ITR], RESOLVER, "x");
        config.etr = None;
        let itr = net.add(&[ITR], config);
        net.run_for(5 * SECOND);
        net.sent.clear();
        Self { net, node, resolver, a, b, itr }
    }

    fn node() -> ControlConfig {
        let delegations = vec![
            delegation("10.1.0.0/16", &[SERVER_A], true),
            delegation("10.2.0.0/16", &[SERVER_B], true),
            // Back to the root: a mistake.
            delegation("10.9.0.0/16", &[ROOT], false),
        ];
        node(&["10.0.0.0/8"], delegations)
    }

    /// The ITR wants to reach this; how many DDT Map-Requests the Map-Resolver sent until it could, or knew
    /// that it can't.
    fn searched(&mut self, to: &str) -> usize {
        let before = self.asked();
        self.net.packet(self.itr, "10.3.0.1", eid(to));
        let known = |net: &Network| net.nodes[self.itr].fib.longest(&eid(to)).is_some();
        assert!(self.net.run_until(5 * SECOND, known).is_some(), "{to}");
        // The acknowledgement may be on its way still.
        self.net.run_for(SECOND);
        self.asked() - before
    }

    fn asked(&self) -> usize {
        let ddt = |message: &Message| matches!(message, Message::Ecm(ecm) if ecm.ddt);
        self.net.sent_by(self.resolver).filter(|(_, _, message)| ddt(message)).count()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.net.nodes[self.resolver].dropped(reason)
    }

    fn remembered(&self) -> (usize, usize) {
        self.net.nodes[self.resolver].control.ddt_len()
    }
}

/// Input: Map-Requests for a registered site, one after the other. Output: referrals from the root to the
/// Map-Server, then from what is remembered (RFC 8111 §7.3.1, §7.3.2).
#[test]
fn a_search_goes_from_the_root_to_the_map_server_once() {
    let mut tree = Tree::new(&[ROOT]);
    assert_eq!(tree.searched("10.1.2.3"), 3);
    let paths = tree.net.nodes[tree.itr].paths(eid("10.1.2.3"));
    assert_eq!(paths, [(ip(ETR), ip(ITR), 1, 100)]);
    assert_eq!(
        tree.remembered(),
        (0, 2),
        "the node and the Map-Server; an incomplete acknowledgement is not kept"
    );
    let clear = crate::proto::control::Command::ClearMapCache(None);
    tree.net.handle(tree.itr, crate::proto::control::Input::Command(clear));
    assert_eq!(tree.searched("10.1.7.7"), 1, "the Map-Server is asked at once");
    // After a day it is forgotten (§6.4).
    tree.net.run_for(86_500 * SECOND);
    assert_eq!(tree.remembered(), (0, 0));
}

/// Input: Map-Requests for what nobody has, and for what is not registered. Output: negative Map-Replies with
/// the prefixes and times to live of the referrals, the second time from memory (RFC 8111 §7.1.2, §7.2,
/// §7.3.2).
#[test]
fn holes_and_silent_sites_are_answered_negatively_and_remembered() {
    let mut tree = Tree::new(&[ROOT]);
    for (to, expected, ttl, times) in [
        ("10.200.0.1", "10.128.0.0/9", 15, [2, 0]),
        ("10.2.0.1", "10.2.0.0/16", 1, [2, 1]),
        ("11.0.0.1", "11.0.0.0/8", 15, [1, 0]),
    ] {
        assert_eq!(tree.searched(to), times[0], "{to}");
        let (found, entry) = tree.net.nodes[tree.itr]
            .control
            .map_cache()
            .find(|(p, _)| p.contains(&eid(to)))
            .map(|(p, e)| (p, e.mapping.clone()))
            .unwrap();
        assert_eq!((found, entry.ttl, entry.action), (prefix(expected), Ttl(ttl), Action::NativelyForward));
        let clear = crate::proto::control::Command::ClearMapCache(None);
        tree.net.handle(tree.itr, crate::proto::control::Input::Command(clear));
        assert_eq!(tree.searched(to), times[1], "{to} again");
    }
}

/// Input: a referral that leads back. Output: the search ends without an answer (RFC 8111 §7.3.4).
#[test]
fn referrals_in_a_circle_end_the_search() {
    let mut tree = Tree::new(&[ROOT]);
    tree.net.packet(tree.itr, "10.3.0.1", eid("10.9.0.1"));
    tree.net.run_for(SECOND / 2);
    // Root, node, and the root again, which says less than the node did.
    assert_eq!((tree.asked(), tree.dropped(DropReason::ReferralLoop)), (3, 1));
    assert_eq!(tree.remembered().0, 0);
    assert!(tree.net.nodes[tree.itr].fib.longest(&eid("10.9.0.1")).is_none());
}

/// Input: a root that doesn't answer, and one that does. Output: the other one is asked (RFC 8111 §7.3.2).
#[test]
fn a_root_that_is_silent_is_passed_by() {
    let mut tree = Tree::new(&["192.0.2.99", ROOT]);
    assert_eq!(tree.searched("10.1.2.3"), 4);
    // If none answers, three times each, with more and more patience.
    let mut tree = Tree::new(&["192.0.2.98", "192.0.2.99"]);
    tree.net.deliver(tree.resolver, "198.51.100.9:4342", &ecm(map_request("10.1.2.3/32", ITR, 1)));
    tree.net.run_for(10 * SECOND);
    assert_eq!((tree.asked(), tree.dropped(DropReason::ReferralTimeout)), (6, 1));
    assert_eq!(tree.remembered().0, 0);
}

/// Input: the site has moved to another Map-Server. Output: NOT-AUTHORITATIVE by the old one, and a new
/// search from the root (RFC 8111 §7.3.2).
#[test]
fn what_is_remembered_wrongly_is_searched_anew() {
    let mut tree = Tree::new(&[ROOT]);
    assert_eq!(tree.searched("10.1.2.3"), 3);
    tree.net.reload(tree.a, server(vec![site("c", "c", &["10.7.0.0/16"])]));
    tree.net.reload(tree.b, server(vec![site("a", "a", &["10.1.0.0/16"])]));
    let moved = vec![delegation("10.1.0.0/16", &[SERVER_B], true)];
    tree.net.reload(tree.node, node(&["10.0.0.0/8"], moved));
    tree.net.add(&["198.51.100.2"], xtr(&["10.1.0.0/16"], &["198.51.100.2"], SERVER_B, "a"));
    tree.net.run_for(5 * SECOND);
    let clear = crate::proto::control::Command::ClearMapCache(None);
    tree.net.handle(tree.itr, crate::proto::control::Input::Command(clear));
    assert_eq!(tree.searched("10.1.2.3"), 4, "the old Map-Server, root, node, the new Map-Server");
    assert_eq!(tree.net.nodes[tree.itr].paths(eid("10.1.2.3"))[0].0, ip("198.51.100.2"));
}

/// Input: Map-Servers that know of each other. Output: MS-ACK without the incomplete flag, which is
/// remembered (RFC 8111 §6.3), and with the whole referral set (§6.2).
#[test]
fn map_servers_with_peers_acknowledge_for_all_of_them() {
    let mut tree = Tree::new(&[ROOT]);
    let mut config = server(vec![site("a", "a", &["10.1.0.0/16"])]);
    config.ddt.map_server_peers = vec![ip(SERVER_A), ip(SERVER_B)];
    tree.net.reload(tree.a, config);
    assert_eq!(tree.searched("10.1.2.3"), 3);
    let referral = tree.net.sent_by(tree.a).find_map(|(_, _, message)| match message {
        Message::MapReferral(referral) => Some(referral.records[0].clone()),
        _ => None,
    });
    let referral = referral.unwrap();
    assert_eq!(
        (referral.incomplete, referral.record.action.bits(), referral.record.ttl),
        (false, 2, Ttl(1440))
    );
    let to: Vec<_> = referral.record.locators.iter().filter_map(|l| l.address.to_ip()).collect();
    assert_eq!(to, [ip(SERVER_A), ip(SERVER_B)]);
}

/// Input: a Map-Referral with the right nonce from somebody who was not asked. Output: none.
#[test]
fn only_who_was_asked_is_believed() {
    let mut tree = Tree::new(&["192.0.2.99"]);
    tree.net.deliver(tree.resolver, "198.51.100.9:4342", &ecm(map_request("10.1.2.3/32", ITR, 77)));
    let mut record = record("10.0.0.0/8", &["203.0.113.66"]);
    record.action = Action::from_bits(0);
    let record = ReferralRecord { incomplete: false, record, signatures: Vec::new() };
    let forged = encode(Message::MapReferral(MapReferral { nonce: Nonce(77), records: vec![record] }));
    tree.net.deliver(tree.resolver, "203.0.113.66:4342", &forged);
    assert_eq!((tree.dropped(DropReason::ReferralUnsolicited), tree.remembered()), (1, (1, 0)));
}

/// Input: a Map-Referral that seems to be of the root, by somebody who knows the nonce of the ITR. Output:
/// none; the root's own one counts, and the Map-Request reaches the Map-Server, and the ETR, with the nonce
/// of the ITR.
#[test]
fn who_may_ask_can_not_answer_for_the_root() {
    let mut tree = Tree::new(&[ROOT]);
    tree.net.deliver(tree.resolver, "198.51.100.9:4342", &ecm(map_request("10.1.2.3/32", ITR, 77)));
    let mut record = record("0.0.0.0/1", &["203.0.113.66"]);
    record.action = Action::from_bits(0);
    let record = ReferralRecord { incomplete: false, record, signatures: Vec::new() };
    let forged = encode(Message::MapReferral(MapReferral { nonce: Nonce(77), records: vec![record] }));
    tree.net.deliver(tree.resolver, &format!("{ROOT}:4342"), &forged);
    assert_eq!((tree.dropped(DropReason::ReferralUnsolicited), tree.remembered()), (1, (1, 0)));
    tree.net.run_for(SECOND);
    let asked = tree.net.sent_by(tree.resolver).filter_map(|(_, to, message)| match message {
        Message::Ecm(ecm) => match Message::decode(&ecm.payload) {
            Ok(Message::MapRequest(request)) => Some((to.destination.ip(), request.nonce == Nonce(77))),
            _ => None,
        },
        _ => None,
    });
    let asked: Vec<_> = asked.collect();
    assert_eq!(asked, [(ip(ROOT), false), (ip(NODE), false), (ip(SERVER_A), true)]);
    assert_eq!(tree.remembered(), (0, 2));
}

/// Input: a root that is the Map-Server itself. Output: the ITR gets an answer with its own nonce.
#[test]
fn a_map_server_may_be_the_root() {
    let mut tree = Tree::new(&[SERVER_A]);
    assert_eq!(tree.searched("10.1.2.3"), 2);
    assert_eq!(tree.net.nodes[tree.itr].paths(eid("10.1.2.3")), [(ip(ETR), ip(ITR), 1, 100)]);
    assert_eq!(tree.remembered().0, 0);
}

/// Input: a remembered Map-Server that is silent, and an ITR that repeats its Map-Request before each
/// timeout. Output: after three tries the search begins at the root again.
#[test]
fn a_silent_map_server_is_given_up_however_often_the_itr_repeats() {
    let mut tree = Tree::new(&[ROOT]);
    let through = |to: &str| node(&["10.0.0.0/8"], vec![delegation("10.1.0.0/16", &[to], true)]);
    tree.net.reload(tree.node, through("192.0.2.99"));
    let repeat = |tree: &mut Tree, nonce| {
        tree.net.deliver(tree.resolver, "198.51.100.9:4342", &ecm(map_request("10.1.9.9/32", ITR, nonce)));
        tree.net.run_for(SECOND / 10);
    };
    repeat(&mut tree, 1);
    assert_eq!((tree.asked(), tree.remembered()), (3, (1, 2)), "the silent Map-Server is remembered");
    // That search ends, as it began at the root; and the referral is learnt anew.
    tree.net.run_for(10 * SECOND);
    assert_eq!(tree.dropped(DropReason::ReferralTimeout), 1);
    repeat(&mut tree, 2);
    tree.net.deliver(tree.resolver, "198.51.100.9:4342", &ecm(map_request("10.1.9.8/32", ITR, 100)));
    tree.net.reload(tree.node, through(SERVER_A));
    let before = tree.asked();
    for nonce in 101..104 {
        tree.net.deliver(tree.resolver, "198.51.100.9:4342", &ecm(map_request("10.1.9.8/32", ITR, nonce)));
        tree.net.run_for(SECOND / 10);
    }
    // Twice the silent one, then the root, the node, and the Map-Server that it names now.
    assert_eq!(tree.asked() - before, 5);
    assert_eq!(tree.remembered().0, 1, "only the other search is under way");
}

/// Input: two hosts that ask for the same EID with the same inner source. Output: both wait, and neither in
/// the other one's place; nor does one displace the other by its nonce.
#[test]
fn nobody_takes_the_place_of_another_one() {
    let mut tree = Tree::new(&["192.0.2.99"]);
    let request = |nonce| ecm(map_request("10.1.2.3/32", ITR, nonce));
    tree.net.deliver(tree.resolver, "198.51.100.9:4342", &request(1));
    tree.net.deliver(tree.resolver, "203.0.113.66:4342", &request(2));
    assert_eq!(tree.remembered().0, 2);
    tree.net.deliver(tree.resolver, "203.0.113.66:4342", &request(1));
    assert_eq!((tree.remembered().0, tree.dropped(DropReason::RequestLoop)), (2, 1));
    tree.net.deliver(tree.resolver, "198.51.100.9:4342", &request(3));
    assert_eq!(tree.remembered().0, 2, "a repetition");
}

/// Input: DDT Map-Requests of one sender that name a different ITR each time. Output: no more Map-Referrals,
/// and no more Map-Requests to the ETR, than one RLOC may draw.
#[test]
fn who_sends_the_requests_is_limited_whatever_they_name() {
    let mut tree = Tree::new(&[ROOT]);
    let mut config = server(vec![site("a", "a", &["10.1.0.0/16"])]);
    config.timers.replies_per_rloc = 10;
    config.timers.requests_per_source = 100_000;
    tree.net.reload(tree.a, config);
    tree.net.sent.clear();
    for n in 0..200_u64 {
        let request = map_request("10.1.2.3/32", &format!("198.51.100.{n}"), n);
        let Ok(Message::Ecm(mut wrapped)) = Message::decode(&ecm(request)) else { unreachable!() };
        wrapped.ddt = true;
        tree.net.deliver(tree.a, "203.0.113.66:4342", &encode(wrapped));
    }
    let sent = |what: fn(&Message) -> bool| tree.net.sent_by(tree.a).filter(|(_, _, m)| what(m)).count();
    assert_eq!(sent(|message| matches!(message, Message::MapReferral(_))), 20, "two seconds' worth");
    assert_eq!(sent(|message| matches!(message, Message::Ecm(_))), 20);
    assert_eq!(tree.net.nodes[tree.a].dropped(DropReason::RateRloc), 180);
}

/// Input: more Map-Requests than can wait, of one sender and of many. Output: as many as can are searched
/// for, and one sender leaves room to others.
#[test]
fn what_waits_is_bounded() {
    let mut tree = Tree::new(&["192.0.2.99"]);
    let mut config = resolver(&["192.0.2.99"]);
    config.timers.requests_per_source = 100_000;
    tree.net.reload(tree.resolver, config);
    let ask = |tree: &mut Tree, peer: &str, n: u32| {
        let eid = format!("10.1.{}.{}/32", n >> 8, n & 255);
        tree.net.deliver(tree.resolver, peer, &ecm(map_request(&eid, ITR, u64::from(n))));
    };
    for n in 0..1000 {
        ask(&mut tree, "198.51.100.9:4342", n);
    }
    assert_eq!((tree.remembered().0, tree.dropped(DropReason::DdtPendingFull)), (256, 744));
    for n in 1000..5000 {
        ask(&mut tree, &format!("203.0.113.{}:4342", n % 40), n);
    }
    assert_eq!((tree.remembered().0, tree.dropped(DropReason::DdtPendingFull)), (4096, 904));
    tree.net.run_for(20 * SECOND);
    assert_eq!(tree.remembered().0, 0);
}

/// Input: a network that loses every fifth message. Output: everything is found all the same.
#[test]
fn losses_only_delay_a_search() {
    let mut tree = Tree::new(&[ROOT]);
    tree.net.faults.loss = 0.2;
    for host in 1..20 {
        let to = eid(&format!("10.1.0.{host}"));
        let clear = crate::proto::control::Command::ClearMapCache(None);
        tree.net.handle(tree.itr, crate::proto::control::Input::Command(clear));
        tree.net.packet(tree.itr, "10.3.0.1", to);
        let known = |net: &Network| net.nodes[tree.itr].fib.longest(&to).is_some();
        assert!(tree.net.run_until(120 * SECOND, known).is_some(), "{to:?}");
    }
}

/// Input: a hole around something that the Map-Resolver knows otherwise. Output: a negative Map-Reply for the
/// part without it.
#[test]
fn a_hole_ends_at_what_is_known_here() {
    let mut tree = Tree::new(&[ROOT]);
    let mut config = resolver(&[ROOT]);
    let forward = vec![(prefix("10.160.0.0/16"), vec![Host::Address(ip("192.0.2.90"))])];
    config.map_resolver = Some(MapResolverConfig { forward });
    tree.net.reload(tree.resolver, config);
    for times in [2, 0] {
        assert_eq!(tree.searched("10.200.0.1"), times);
        let itr = &tree.net.nodes[tree.itr];
        assert!(itr.control.map_cache_entry(&prefix("10.192.0.0/10")).is_some(), "not 10.128.0.0/9");
        let clear = crate::proto::control::Command::ClearMapCache(None);
        tree.net.handle(tree.itr, crate::proto::control::Input::Command(clear));
    }
}

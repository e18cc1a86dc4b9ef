//! EID-prefixes that move between sites: the mapping system, the sites they come to and leave, and one that
//! talks to them.

mod cut_off;
mod detection;

use std::time::Duration;

use crate::auth::Key;
use crate::fib::{FibAction, Punt, Sender};
use crate::proto::config::*;
use crate::proto::control::{Input, Move, MoveError, MoveState, NeighbourState, Place};
use crate::proto::event::Event;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{EidPrefix, Nonce, Ttl};
use crate::wire::{EidRecord, MapNotify, MapRegister, Message};

const SECOND: Duration = Duration::from_secs(1);
const MS: &str = "192.0.2.1";
const A: &str = "198.51.100.1";
const B: &str = "203.0.113.1";
const C: &str = "203.0.113.9";
const HOST: &str = "10.9.0.5";
const HERE: Move = Move::Here { priority: None };

const fn shared(priority: u8) -> Move {
    Move::Here { priority: Some(priority) }
}

fn dynamic(prefix_: &str, rloc: &str) -> DynamicEid {
    DynamicEid {
        prefix: prefix(prefix_),
        ttl: Ttl(60),
        map_servers: Some(vec!["mobile".into()]),
        locators: vec![locator(rloc, 1, 100)],
        interface: Some("lan0".into()),
        limit: 3,
        redirect_time: SECOND * 20,
        detect: None,
    }
}

/// An xTR with an EID-prefix of its own, at which any part of `moving` may be.
fn site_config(own: &str, rloc: &str, secret: &str, moving: &str) -> ControlConfig {
    let mut config = xtr(&[own], &[rloc], MS, secret);
    let mobile = EtrMapServer::new("mobile".into(), Host::Address(ip(MS)), mobile_key());
    config.etr.as_mut().unwrap().map_servers.push(mobile);
    config.database[0].map_servers = Some(vec![MS.into()]);
    config.dynamic_eids = vec![dynamic(moving, rloc)];
    config.timers.smr_interval = Duration::from_millis(200);
    config
}

fn mobile_key() -> Key {
    Key { id: 2, ..key("secret-m") }
}

struct World {
    net: Network,
    ms: usize,
    a: usize,
    b: usize,
    c: usize,
}

fn system() -> ControlConfig {
    let mut all = vec![
        site("a", "secret-a", &["10.1.0.0/16"]),
        site("b", "secret-b", &["10.2.0.0/16"]),
        site("c", "secret-c", &["10.3.0.0/16"]),
        site("m", "secret-m", &["10.9.0.0/16"]),
    ];
    all[3].prefixes[0].accept_more_specifics = true;
    all[3].keys = vec![mobile_key()];
    mapping_system(all)
}

impl World {
    /// Sites A and B, where 10.9.0.0/16 may be, and site C, which talks to it.
    fn new(seed: u64) -> Self {
        let mut net = Network::new(seed);
        let ms = net.add(&[MS], system());
        let a = net.add(&[A], site_config("10.1.0.0/16", A, "secret-a", "10.9.0.0/16"));
        let b = net.add(&[B], site_config("10.2.0.0/16", B, "secret-b", "10.9.0.0/16"));
        let mut config = xtr(&["10.3.0.0/16"], &[C], MS, "secret-c");
        config.timers.smr_interval = Duration::from_millis(200);
        let c = net.add(&[C], config);
        net.run_for(SECOND);
        Self { net, ms, a, b, c }
    }

    fn go(&mut self, id: usize, eid: &str, what: Move) -> Result<(), MoveError> {
        let now = self.net.now;
        let result = self.net.nodes[id].control.move_eid(to_prefix(eid), what, now);
        self.net.handle(id, Input::Senders(&[]));
        result
    }

    /// C sends to the host, whose site knows of that, and has a way to it after `time`.
    fn talk(&mut self, id: usize) {
        self.net.packet(self.c, "10.3.0.9", eid(HOST));
        self.net.run_for(SECOND / 10);
        let last = self.net.now;
        self.net.nodes[id].senders = vec![Sender { rloc: ip(C), destination: eid(HOST), last }];
    }

    /// Where C's packets to an EID go.
    fn way(&self, id: usize, to: &str) -> Vec<String> {
        self.net.nodes[id].paths(eid(to)).iter().map(|(rloc, ..)| rloc.to_string()).collect()
    }

    fn is_here(&self, id: usize) -> bool {
        self.net.nodes[id].control.mobility().here().any(|(p, _)| p == to_prefix(HOST))
    }

    fn is_away(&self, id: usize) -> bool {
        let node = &self.net.nodes[id];
        let away = node.control.mobility().away().any(|(p, _)| p == to_prefix(HOST));
        assert_eq!(node.dynamic.contains(&(to_prefix(HOST), true)), away);
        let place = matches!(node.places.get(&to_prefix(HOST)), Some(Place::Away { .. }));
        assert_eq!(place, away);
        away
    }

    /// Runs until C sends to `rloc`, and gives how long that took.
    fn converge(&mut self, rloc: &str) -> Duration {
        let c = self.c;
        let limit = SECOND * 5;
        let there = |net: &Network| net.nodes[c].paths(eid(HOST)).first().is_some_and(|p| p.0 == ip(rloc));
        self.net.run_until(limit, there).unwrap_or_else(|| panic!("C never sends to {rloc}"))
    }
}

fn to_prefix(text: &str) -> EidPrefix {
    match text.contains('/') {
        true => prefix(text),
        false => eid(text).to_prefix(),
    }
}

#[test]
fn a_host_moves_and_who_talks_to_it_follows() {
    let mut w = World::new(1);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    assert_eq!(w.net.nodes[w.a].places[&to_prefix(HOST)], Place::Here { interface: Some("lan0".into()) });
    w.talk(w.a);
    assert_eq!(w.way(w.c, HOST), [A]);

    let start = w.net.now;
    w.go(w.b, HOST, HERE).unwrap();
    // What still comes to A is sent on before C knows.
    let a = w.a;
    let redirected = |net: &Network| net.nodes[a].paths(eid(HOST)).first().is_some_and(|p| p.0 == ip(B));
    let took = w.net.run_until(SECOND, redirected).expect("A sends on");
    assert!(took < Duration::from_millis(100), "{took:?}");
    w.converge(B);
    let took = w.net.now.saturating_since(start);
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert!(w.is_here(w.b) && !w.is_here(w.a) && w.is_away(w.a));
    w.net.run_for(SECOND);
    let registered: Vec<String> = w.net.nodes[w.ms]
        .control
        .sites()
        .flat_map(|s| s.registrations.into_iter().map(|(p, r)| format!("{p} {}", r.source.ip())))
        .filter(|r| r.starts_with(HOST))
        .collect();
    assert_eq!(registered, [format!("{HOST}/32 {B}")], "A has withdrawn");
    // After a while nothing of it is left at A.
    w.net.run_for(SECOND * 21);
    assert!(!w.is_away(w.a));
    assert!(w.net.nodes[w.a].fib.longest(&eid(HOST)).is_none());
    assert_eq!(w.way(w.c, HOST), [B]);
}

#[test]
fn a_part_of_a_site_leaves_and_comes_home() {
    let mut w = World::new(2);
    let mut config = system();
    let sites = &mut config.map_server.as_mut().unwrap().sites;
    sites[0].prefixes[0].accept_more_specifics = true;
    sites[0].keys.push(mobile_key());
    w.net.reload(w.ms, config);
    let mut checking = site_config("10.1.0.0/16", A, "secret-a", "10.1.0.0/16");
    checking.header.source_check = SourceCheck::Strict;
    w.net.restart(w.a, checking);
    w.net.give_disk(w.a);
    w.net.reload(w.b, site_config("10.2.0.0/16", B, "secret-b", "10.1.0.0/16"));
    w.net.run_for(SECOND);
    let host = "10.1.0.5";
    w.net.packet(w.c, "10.3.0.9", eid(host));
    w.net.run_for(SECOND);
    assert_eq!(w.way(w.c, host), [A]);
    w.net.nodes[w.a].senders = vec![Sender { rloc: ip(C), destination: eid(host), last: w.net.now }];

    w.go(w.b, host, HERE).unwrap();
    w.net.run_for(SECOND / 2);
    assert_eq!(w.way(w.c, host), [B]);
    assert_eq!(w.way(w.c, "10.1.0.6"), [A], "the rest stayed");
    assert_eq!(w.way(w.a, host), [B], "and hosts of A reach it");
    let site = w.net.nodes[w.a].sites.get(&to_prefix(host)).expect("a site");
    assert!(!site.local && *site.rlocs == [ip(B)], "nor is what it sends to them taken for forged: {site:?}");
    // For as long as B has it: longer than the time for which packets are sent on.
    w.net.run_for(SECOND * 120);
    assert_eq!(w.way(w.a, host), [B]);
    w.net.power_cut(w.a, site_config("10.1.0.0/16", A, "secret-a", "10.1.0.0/16"), 0);
    w.net.run_for(SECOND * 2);
    assert_eq!(w.way(w.a, host), [B], "remembered over a restart");
    // So does the Map-Server tell a router that it had forgotten.
    w.net.dark.insert(ip(A));
    w.net.run_for(SECOND * 200);
    w.net.dark.clear();
    w.net.restart(w.a, site_config("10.1.0.0/16", A, "secret-a", "10.1.0.0/16"));
    w.net.run_for(SECOND * 2);
    assert_eq!(w.way(w.a, host), [B], "told by the Map-Server");

    w.net.nodes[w.b].senders = vec![Sender { rloc: ip(C), destination: eid(host), last: w.net.now }];
    w.go(w.b, host, Move::Away).unwrap();
    w.net.run_for(SECOND * 2);
    assert!(matches!(w.net.nodes[w.a].fib.longest(&eid(host)), Some((_, (FibAction::Local, _)))));
    assert!(w.net.nodes[w.a].dynamic.is_empty() && w.net.nodes[w.a].places.is_empty());
    assert_eq!(w.way(w.c, host), [A]);
}

#[test]
fn a_whole_site_moves_and_its_router_gives_way() {
    let mut w = World::new(3);
    let mut config = system();
    config.map_server.as_mut().unwrap().sites[0].keys.push(mobile_key());
    w.net.reload(w.ms, config);
    w.net.reload(w.a, site_config("10.1.0.0/16", A, "secret-a", "10.1.0.0/16"));
    w.net.reload(w.b, site_config("10.2.0.0/16", B, "secret-b", "10.1.0.0/16"));
    w.net.run_for(SECOND);
    assert_eq!(w.go(w.a, "10.1.0.0/16", HERE), Err(MoveError::Fixed));
    w.go(w.b, "10.1.0.0/16", HERE).unwrap();
    w.net.run_for(SECOND);
    assert_eq!(w.way(w.a, "10.1.0.5"), [B]);
    w.net.run_for(SECOND * 200);
    w.net.packet(w.c, "10.3.0.9", eid("10.1.0.5"));
    w.net.run_for(SECOND);
    assert_eq!(w.way(w.c, "10.1.0.5"), [B], "A does not register it meanwhile");
    w.go(w.a, "10.1.0.0/16", HERE).unwrap();
    w.net.run_for(SECOND * 5);
    assert_eq!(w.way(w.b, "10.1.0.5"), [A]);
}

#[test]
fn notifies_that_are_forged_or_sent_again_change_nothing() {
    let mut w = World::new(4);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.go(w.b, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    assert!(w.is_away(w.a));
    let at_b = |r: &EidRecord| r.locators.iter().all(|l| l.address.to_ip() == Some(ip(B)));
    let is_it = |r: &EidRecord| r.eid.to_prefix() == Ok(to_prefix(HOST)) && at_b(r);
    let to_a = |m: &Message| matches!(m, Message::MapNotify(n) if n.records.iter().any(is_it));
    let told: Vec<Vec<u8>> = w
        .net
        .sent_by(w.ms)
        .filter(|(_, t, m)| t.destination.ip() == ip(A) && to_a(m))
        .map(|(_, t, _)| t.payload.clone())
        .collect();
    assert!(!told.is_empty());
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    assert!(w.is_here(w.a) && w.is_away(w.b));

    let from = "192.0.2.1:4342";
    for message in &told {
        w.net.deliver(w.a, from, message);
    }
    w.net.run_for(SECOND);
    assert!(w.is_here(w.a), "known by its nonce");
    // After a restart, which forgot the nonces, and came back by command.
    w.net.restart(w.a, site_config("10.1.0.0/16", A, "secret-a", "10.9.0.0/16"));
    w.net.run_for(SECOND);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    for message in &told {
        w.net.deliver(w.a, from, message);
    }
    w.net.run_for(SECOND);
    assert!(w.is_here(w.a), "the mapping system says otherwise");

    let records = vec![record("10.9.0.5/32", &[B])];
    let forged = MapNotify { nonce: Nonce(77), records, ..MapNotify::default() };
    let before = w.net.nodes[w.a].dropped(DropReason::AuthMac);
    w.net.take_sent(w.a);
    w.net.deliver(w.a, from, &seal(forged, &key("guessed")));
    assert_eq!(w.net.nodes[w.a].dropped(DropReason::AuthMac), before + 1);
    assert!(w.net.take_sent(w.a).is_empty(), "nobody is asked");
    assert!(w.is_here(w.a));
}

#[test]
fn to_and_fro_as_often_as_one_likes() {
    let mut w = World::new(5);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.talk(w.a);
    for round in 0..6 {
        let (to, from, rloc) = if round % 2 == 0 { (w.b, w.a, B) } else { (w.a, w.b, A) };
        w.go(to, HOST, HERE).unwrap();
        let took = w.converge(rloc);
        assert!(took < Duration::from_millis(300), "{round}: {took:?}");
        w.net.run_for(SECOND / 2);
        assert!(w.is_here(to) && w.is_away(from) && !w.is_away(to), "{round}");
        assert_eq!(w.way(from, HOST), [rloc.to_owned()]);
        w.talk(to);
    }
}

#[test]
fn when_both_claim_it_at_once_one_has_it() {
    for seed in 0..20 {
        let mut w = World::new(100 + seed);
        w.net.faults.delay = (Duration::from_millis(1), Duration::from_millis(30));
        w.go(w.a, HOST, HERE).unwrap();
        w.net.run_for(Duration::from_millis(3 * seed));
        w.go(w.b, HOST, HERE).unwrap();
        w.net.run_for(SECOND * 20);
        assert!(w.is_here(w.a) != w.is_here(w.b), "{seed}: {} {}", w.is_here(w.a), w.is_here(w.b));
        w.net.packet(w.c, "10.3.0.9", eid(HOST));
        w.net.run_for(SECOND);
        let rloc = if w.is_here(w.a) { A } else { B };
        assert_eq!(w.way(w.c, HOST), [rloc], "{seed}");
    }
}

#[test]
fn a_move_survives_a_lossy_network() {
    for seed in 0..10 {
        let mut w = World::new(200 + seed);
        w.go(w.a, HOST, HERE).unwrap();
        w.net.run_for(SECOND);
        w.talk(w.a);
        w.net.faults = Faults { loss: 0.2, duplication: 0.2, delay: (SECOND / 1000, SECOND / 20) };
        w.go(w.b, HOST, HERE).unwrap();
        w.net.run_for(SECOND * 60);
        assert!(w.is_here(w.b) && !w.is_here(w.a), "{seed}");
        w.net.packet(w.c, "10.3.0.9", eid(HOST));
        w.net.run_for(SECOND * 20);
        assert_eq!(w.way(w.c, HOST), [B], "{seed}");
    }
}

#[test]
fn a_gentle_move_leaves_nobody_without_a_way() {
    let mut w = World::new(8);
    w.go(w.a, HOST, shared(1)).unwrap();
    w.net.run_for(SECOND);
    w.talk(w.a);
    let steps = [(w.b, shared(10), A), (w.b, shared(0), B), (w.a, Move::Away, B)];
    for (id, what, best) in steps {
        // Only the site that C sends to knows of C.
        let sender = Sender { rloc: ip(C), destination: eid(HOST), last: w.net.now };
        let first = w.way(w.c, HOST)[0].clone();
        w.net.nodes[w.a].senders = Vec::from_iter((first == A).then_some(sender));
        w.net.nodes[w.b].senders = Vec::from_iter((first == B).then_some(sender));
        w.go(id, HOST, what).unwrap();
        for _ in 0..200 {
            w.net.run_for(Duration::from_millis(10));
            assert!(!w.way(w.c, HOST).is_empty(), "{what:?}");
            let local = |id: usize| {
                matches!(w.net.nodes[id].fib.longest(&eid(HOST)), Some((_, (FibAction::Local, _))))
            };
            // Where C sends to takes it, or knows where to send it on.
            let at = if w.way(w.c, HOST)[0] == A { w.a } else { w.b };
            assert!(local(at) || w.way(at, HOST) == [B], "{what:?}");
        }
        let mut paths = w.net.nodes[w.c].paths(eid(HOST));
        paths.sort_by_key(|p| p.2);
        assert_eq!(paths[0].0, ip(best), "{what:?}: {paths:?}");
    }
    assert!(w.is_here(w.b) && w.is_away(w.a));
    assert_eq!(w.way(w.c, HOST), [B]);
}

#[test]
fn only_what_is_configured_moves_and_only_with_the_right_key() {
    let mut w = World::new(9);
    assert_eq!(w.go(w.a, "10.8.0.1", HERE), Err(MoveError::NotDynamic));
    assert_eq!(w.go(w.a, "10.0.0.0/8", HERE), Err(MoveError::NotDynamic));
    assert_eq!(w.go(w.c, HOST, HERE), Err(MoveError::NotDynamic));
    assert_eq!(w.go(w.a, HOST, Move::Away), Err(MoveError::NotHere));
    for last in 1..=3 {
        w.go(w.a, &format!("10.9.1.{last}"), HERE).unwrap();
    }
    assert_eq!(w.go(w.a, HOST, HERE), Err(MoveError::Full(3)));
    w.go(w.a, "10.9.1.1", Move::Away).unwrap();
    w.net.run_for(SECOND);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.talk(w.a);

    let mut config = site_config("10.2.0.0/16", B, "secret-b", "10.9.0.0/16");
    config.etr.as_mut().unwrap().map_servers[1].key.secret = key("guessed").secret;
    w.net.reload(w.b, config);
    w.go(w.b, HOST, HERE).unwrap();
    w.net.run_for(SECOND * 5);
    assert!(w.net.nodes[w.ms].dropped(DropReason::AuthMac) > 0);
    assert!(w.is_here(w.a), "nobody told A");
    assert_eq!(w.way(w.c, HOST), [A]);
    assert_eq!(state(&w, w.b), MoveState::Unconfirmed(vec!["mobile".into()]));
    w.net.run_for(SECOND * 20);
    let said = Event::MoveUnconfirmed { map_server: "mobile".into(), prefix: to_prefix(HOST), others: 0 };
    assert_eq!(w.net.nodes[w.b].events.iter().filter(|e| **e == said).count(), 1);
    assert_eq!(state(&w, w.a), MoveState::Registered);
}

fn state(w: &World, id: usize) -> MoveState {
    w.net.nodes[id].control.move_state(&to_prefix(HOST))
}

#[test]
fn how_a_move_goes_is_known() {
    let mut w = World::new(25);
    let mut config = site_config("10.2.0.0/16", B, "secret-b", "10.9.0.0/16");
    config.dynamic_eids.push(dynamic("10.8.0.0/16", B));
    w.net.reload(w.b, config);
    assert_eq!(state(&w, w.b), MoveState::Left);
    w.go(w.b, HOST, HERE).unwrap();
    assert_eq!(state(&w, w.b), MoveState::Unconfirmed(vec!["mobile".into()]));
    w.net.run_for(SECOND);
    assert_eq!(state(&w, w.b), MoveState::Registered);
    // Told again, it is to be confirmed again.
    w.go(w.b, HOST, HERE).unwrap();
    assert_eq!(state(&w, w.b), MoveState::Unconfirmed(vec!["mobile".into()]));
    w.net.run_for(SECOND);
    assert_eq!(state(&w, w.b), MoveState::Registered);
    // The site there does not own this.
    w.go(w.b, "10.8.0.5", HERE).unwrap();
    w.net.run_for(SECOND);
    let refused = w.net.nodes[w.b].control.move_state(&to_prefix("10.8.0.5"));
    assert_eq!(refused, MoveState::Refused(vec!["mobile".into()]));
    assert_eq!(state(&w, w.b), MoveState::Registered);
    w.net.handle(w.b, Input::Interface { name: "eth0", addresses: &[] });
    assert_eq!(state(&w, w.b), MoveState::NoLocators);
    w.net.handle(w.b, Input::Interface { name: "eth0", addresses: &[ip(B)] });
    w.net.run_for(SECOND);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    assert_eq!(state(&w, w.b), MoveState::Elsewhere(Some(ip(A))));
    assert_eq!(state(&w, w.a), MoveState::Registered);
}

#[test]
fn one_who_never_lets_go_is_named() {
    let mut w = World::new(26);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.go(w.b, HOST, HERE).unwrap();
    for _ in 0..8 {
        w.net.run_for(SECOND / 10);
        w.go(w.a, HOST, HERE).unwrap();
    }
    w.net.run_for(SECOND * 5);
    assert!(w.is_here(w.a) && !w.is_here(w.b));
    let said = Event::Contested { prefix: to_prefix(HOST), rloc: Some(ip(A)) };
    assert!(w.net.nodes[w.b].events.contains(&said), "{:?}", w.net.nodes[w.b].events);
}

#[test]
fn what_the_old_site_sends_on_passes_the_check_of_the_source() {
    let mut w = World::new(27);
    for (id, own, rloc, secret) in [(w.a, "10.1.0.0/16", A, "secret-a"), (w.b, "10.2.0.0/16", B, "secret-b")]
    {
        let mut config = site_config(own, rloc, secret, "10.9.0.0/16");
        config.header.source_check = SourceCheck::Strict;
        w.net.reload(id, config);
    }
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    let site = |w: &World, id: usize| w.net.nodes[id].sites.get(&to_prefix(HOST)).cloned();
    assert!(site(&w, w.a).is_some_and(|site| site.local && site.former.is_empty()), "from nowhere");
    w.go(w.b, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    let there = site(&w, w.b).expect("a site");
    assert!(there.local && *there.former == [ip(A)], "{there:?}");
    // The host itself sends to those who stayed at A, from B.
    let gone = site(&w, w.a).expect("a site");
    assert!(!gone.local && *gone.rlocs == [ip(B)], "{gone:?}");
    w.net.run_for(SECOND * 20);
    assert!(site(&w, w.b).is_some_and(|site| site.former.is_empty()), "as long as A sends on");
    // Back again, at once.
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    assert!(site(&w, w.a).is_some_and(|site| site.local && *site.former == [ip(B)]));
}

#[test]
fn what_packets_say_of_a_host_is_said_again_when_it_is_back() {
    let mut w = World::new(29);
    let mut config = site_config("10.1.0.0/16", A, "secret-a", "10.9.0.0/16");
    config.header.locator_status = true;
    w.net.reload(w.a, config);
    for to in [w.a, w.b, w.a] {
        w.go(to, HOST, HERE).unwrap();
        w.net.run_for(SECOND);
        let site = w.net.nodes[w.a].sites.get(&to_prefix(HOST)).expect("a site");
        assert_eq!((site.local, site.status), (to == w.a, (to == w.a).then_some(1)), "{site:?}");
    }
}

#[test]
fn what_came_by_command_is_still_here_after_a_restart() {
    let mut w = World::new(10);
    let config = || site_config("10.1.0.0/16", A, "secret-a", "10.9.0.0/16");
    w.net.restart(w.a, config());
    w.net.give_disk(w.a);
    w.net.run_for(SECOND);
    w.go(w.a, HOST, shared(7)).unwrap();
    w.go(w.a, "10.9.0.6", HERE).unwrap();
    w.net.run_for(SECOND);
    w.go(w.a, "10.9.0.6", Move::Away).unwrap();
    w.net.run_for(SECOND);
    w.net.power_cut(w.a, config(), 0);
    w.net.run_for(SECOND * 2);
    let here: Vec<_> =
        w.net.nodes[w.a].control.mobility().here().map(|(p, h)| (p.to_string(), h.priority)).collect();
    assert_eq!(here, [("10.9.0.5/32".to_owned(), Some(7))]);
    w.net.packet(w.c, "10.3.0.9", eid(HOST));
    w.net.run_for(SECOND);
    assert_eq!(w.way(w.c, HOST), [A]);
}

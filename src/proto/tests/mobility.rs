//! EID-prefixes that move between sites: the mapping system, the sites they come to and leave, and one that
//! talks to them.

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
fn a_site_that_died_keeps_nothing() {
    let mut w = World::new(6);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.net.dark.insert(ip(A));
    w.go(w.b, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.net.packet(w.c, "10.3.0.9", eid(HOST));
    w.net.run_for(SECOND);
    assert_eq!(w.way(w.c, HOST), [B]);
    w.net.run_for(SECOND * 240);
    // Back again, it hears that it lost it, whatever it thought until then.
    w.net.dark.clear();
    w.stays_at_b();
}

impl World {
    /// The host stays at B, whatever A, which was cut off, thinks for a while.
    fn stays_at_b(&mut self) {
        for _ in 0..130 {
            self.net.run_for(SECOND);
            assert!(self.is_here(self.b));
            let sites = self.net.nodes[self.ms].control.sites();
            let all = sites.flat_map(|s| s.registrations).filter(|(p, _)| *p == to_prefix(HOST));
            assert!(all.into_iter().all(|(_, r)| r.source.ip() == ip(B)), "A registers it");
        }
        assert!(!self.is_here(self.a));
        self.net.handle(self.c, Input::Command(crate::proto::control::Command::ClearMapCache(None)));
        self.net.packet(self.c, "10.3.0.9", eid(HOST));
        self.net.run_for(SECOND * 2);
        assert_eq!(self.way(self.c, HOST), [B]);
    }
}

#[test]
fn a_site_whose_power_was_cut_keeps_nothing() {
    for (dark, uplink_too) in [(2, 0), (240, 0), (240, 100), (240, 400)] {
        let mut w = World::new(16);
        let config = || site_config("10.1.0.0/16", A, "secret-a", "10.9.0.0/16");
        w.net.restart(w.a, config());
        w.net.give_disk(w.a);
        w.net.run_for(SECOND);
        w.go(w.a, HOST, HERE).unwrap();
        w.net.run_for(SECOND);
        w.net.dark.insert(ip(A));
        w.go(w.b, HOST, HERE).unwrap();
        w.net.run_for(SECOND * dark);
        if uplink_too == 0 {
            w.net.dark.clear();
        }
        w.net.power_cut(w.a, config(), 0);
        assert!(w.is_here(w.a), "in use at its site until it knows better");
        if uplink_too > 0 {
            // Its uplink comes back later than the router.
            w.net.run_for(SECOND * uplink_too);
            w.net.dark.clear();
        }
        if dark > 180 {
            w.stays_at_b();
        } else {
            // The Map-Server has A's registration as well, but B's is the last word.
            w.net.run_for(SECOND * 10);
            assert!(w.is_here(w.b) && !w.is_here(w.a));
        }
    }
}

#[test]
fn a_host_stays_where_it_went_while_its_old_site_was_cut_off() {
    // However long that is, and whenever it begins, from the last Map-Notify on.
    for (begin, dark) in (0..6).flat_map(|begin| [8, 20, 35, 50, 65, 80].map(move |dark| (begin * 11, dark)))
    {
        for links_down in [false, true] {
            let mut w = World::new(1000 + begin * 100 + dark);
            w.go(w.a, HOST, HERE).unwrap();
            w.net.run_for(SECOND * 2);
            w.net.run_for(SECOND * begin as u32);
            w.net.dark.insert(ip(A));
            if links_down {
                w.net.handle(w.a, Input::Interface { name: "eth0", addresses: &[] });
            }
            w.net.run_for(SECOND);
            w.go(w.b, HOST, HERE).unwrap();
            w.net.run_for(SECOND * dark as u32);
            w.net.dark.clear();
            if links_down {
                w.net.handle(w.a, Input::Interface { name: "eth0", addresses: &[ip(A)] });
            }
            for second in 0..100 {
                w.net.run_for(SECOND);
                assert!(w.is_here(w.b), "begin {begin}, dark {dark}, {second} s later");
            }
            assert!(!w.is_here(w.a), "begin {begin}, dark {dark}");
            w.net.packet(w.c, "10.3.0.9", eid(HOST));
            w.net.run_for(SECOND * 2);
            assert_eq!(w.way(w.c, HOST), [B], "begin {begin}, dark {dark}");
        }
    }
}

#[test]
fn a_site_whose_links_were_down_asks_before_it_registers() {
    let mut w = World::new(28);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND * 5);
    w.net.handle(w.a, Input::Interface { name: "eth0", addresses: &[] });
    w.net.run_for(SECOND * 5);
    w.net.take_sent(w.a);
    w.net.handle(w.a, Input::Interface { name: "eth0", addresses: &[ip(A)] });
    w.net.run_for(SECOND * 10);
    let sent = w.net.take_sent(w.a);
    let is_it = |r: &EidRecord| r.eid.to_prefix() == Ok(to_prefix(HOST));
    let registered = |m: &Message| matches!(m, Message::MapRegister(r) if r.records.iter().any(is_it));
    let asked = sent.iter().position(|(_, m)| matches!(m, Message::Ecm(_))).expect("a question");
    let registered = sent.iter().position(|(_, m)| registered(m)).expect("a registration");
    assert!(asked < registered, "{sent:#?}");
    assert!(w.is_here(w.a) && state(&w, w.a) == MoveState::Registered);
}

#[test]
fn one_that_never_acknowledges_has_the_last_word_with_its_second() {
    let mut w = World::new(24);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.net.dark.insert(ip(A));
    w.go(w.b, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    let told = |w: &World| -> Vec<String> {
        let sites = w.net.nodes[w.ms].control.sites();
        let all = sites.flat_map(|s| s.registrations).filter(|(p, _)| *p == to_prefix(HOST));
        let latest = all.max_by_key(|(_, r)| r.refreshed).map(|(_, r)| r.source.ip().to_string());
        latest.into_iter().collect()
    };
    assert_eq!(told(&w), [B]);
    // As another make of router would, that takes no notice of what it is told.
    for (nonce, latest) in [(1 << 60, B), ((1 << 60) + 1, A)] {
        let records = vec![record("10.9.0.5/32", &[A])];
        let register =
            MapRegister { nonce: Nonce(nonce), want_notify: true, records, ..MapRegister::default() };
        w.net.deliver(w.ms, &format!("{A}:4342"), &seal(register, &mobile_key()));
        assert_eq!(told(&w), [latest]);
        w.net.run_for(SECOND);
    }
}

#[test]
fn a_site_that_was_cut_off_registers_again_what_nobody_took() {
    for (seed, dark) in [(17, 70), (18, 240), (19, 600)] {
        let mut w = World::new(seed);
        w.go(w.a, HOST, HERE).unwrap();
        w.net.run_for(SECOND);
        w.net.dark.insert(ip(A));
        w.net.run_for(SECOND * dark);
        assert!(w.is_here(w.a));
        w.net.dark.clear();
        w.net.run_for(SECOND * 70);
        assert!(w.is_here(w.a) && !w.is_away(w.a));
        w.net.packet(w.c, "10.3.0.9", eid(HOST));
        w.net.run_for(SECOND * 2);
        assert_eq!(w.way(w.c, HOST), [A], "after {dark} s");
    }
}

#[test]
fn a_command_without_an_uplink_is_the_last_word_when_it_is_back() {
    let mut w = World::new(20);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.net.dark.insert(ip(B));
    w.net.run_for(SECOND);
    w.go(w.b, HOST, HERE).unwrap();
    w.net.run_for(SECOND * 300);
    w.net.dark.clear();
    w.net.run_for(SECOND * 70);
    assert!(w.is_here(w.b) && !w.is_here(w.a));
}

#[test]
fn a_home_that_could_not_ask_goes_on_asking() {
    let mut w = World::new(21);
    let mut config = system();
    let sites = &mut config.map_server.as_mut().unwrap().sites;
    sites[0].prefixes[0].accept_more_specifics = true;
    sites[0].keys.push(mobile_key());
    w.net.reload(w.ms, config);
    let config = || site_config("10.1.0.0/16", A, "secret-a", "10.1.0.0/16");
    w.net.restart(w.a, config());
    w.net.give_disk(w.a);
    w.net.reload(w.b, site_config("10.2.0.0/16", B, "secret-b", "10.1.0.0/16"));
    w.net.run_for(SECOND);
    let host = "10.1.0.5";
    w.go(w.b, host, HERE).unwrap();
    w.net.run_for(SECOND);
    assert_eq!(w.way(w.a, host), [B]);
    w.net.dark.insert(ip(A));
    w.net.power_cut(w.a, config(), 0);
    // Its registration does not end meanwhile, so that the Map-Server has nothing to tell: only asking helps.
    w.net.run_for(SECOND * 130);
    let said = Event::Unlocated { prefix: to_prefix(host) };
    assert_eq!(w.net.nodes[w.a].events.iter().filter(|e| **e == said).count(), 1);
    let asked = w.net.sent_by(w.a).filter(|(_, _, m)| matches!(m, Message::Ecm(_))).count();
    assert!(asked < 60, "{asked}");
    w.net.dark.clear();
    w.net.run_for(SECOND * 30);
    assert_eq!(w.way(w.a, host), [B]);
}

#[test]
fn a_map_server_that_starts_anew_moves_nothing() {
    let mut w = World::new(7);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.go(w.b, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.net.restart(w.ms, system());
    w.net.run_for(SECOND * 120);
    assert!(w.is_here(w.b) && !w.is_here(w.a));
    w.net.packet(w.c, "10.3.0.9", eid(HOST));
    w.net.run_for(SECOND);
    assert_eq!(w.way(w.c, HOST), [B]);
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

fn detecting() -> ControlConfig {
    let mut config = site_config("10.1.0.0/16", A, "secret-a", "10.9.0.0/16");
    config.dynamic_eids[0].detect = Some(DetectConfig { rate: 10, timeout: SECOND * 8 });
    config
}

impl World {
    fn neighbour(&mut self, id: usize, address: &str, state: NeighbourState) {
        self.net.handle(id, Input::Neighbour { interface: "lan0", address: ip(address), state });
    }

    fn probes(&mut self, id: usize) -> usize {
        std::mem::take(&mut self.net.nodes[id].probes).len()
    }
}

#[test]
fn a_host_is_taken_in_once_it_has_answered() {
    let mut w = World::new(11);
    w.net.reload(w.a, detecting());
    w.net.reload(w.b, {
        let mut config = site_config("10.2.0.0/16", B, "secret-b", "10.9.0.0/16");
        config.dynamic_eids[0].detect = Some(DetectConfig { rate: 10, timeout: SECOND * 8 });
        config
    });
    assert!(w.net.nodes[w.a].dynamic.contains(&(prefix("10.9.0.0/16"), false)), "watched");
    // What the table knew already proves nothing; nor does what comes from another interface or prefix.
    w.neighbour(w.a, HOST, NeighbourState::Reachable);
    assert!(!w.is_here(w.a));
    assert_eq!(w.net.nodes[w.a].probes, [("lan0".to_owned(), ip(HOST))]);
    w.net.handle(
        w.a,
        Input::Neighbour { interface: "lan1", address: ip("10.9.0.7"), state: NeighbourState::Known },
    );
    w.neighbour(w.a, "10.8.0.1", NeighbourState::Known);
    assert_eq!(w.probes(w.a), 1);
    w.neighbour(w.a, HOST, NeighbourState::Reachable);
    assert!(w.is_here(w.a));
    w.net.run_for(SECOND);
    w.talk(w.a);
    assert_eq!(w.way(w.c, HOST), [A]);

    // It turns up at B with a packet; the first one is lost.
    w.net.handle(w.b, Input::Punt(Punt::NewSource { source: eid(HOST) }));
    assert_eq!(w.probes(w.b), 1);
    w.neighbour(w.b, HOST, NeighbourState::Reachable);
    w.converge(B);
    assert!(w.is_here(w.b) && w.is_away(w.a));
    // A's old entry is not believed without asking.
    w.neighbour(w.a, HOST, NeighbourState::Known);
    w.neighbour(w.a, HOST, NeighbourState::Gone);
    assert!(!w.is_here(w.a));

    // It answers for a while, then no more.
    for _ in 0..4 {
        w.net.run_for(SECOND * 4);
        assert!(w.probes(w.b) > 0);
        w.neighbour(w.b, HOST, NeighbourState::Reachable);
    }
    assert!(w.is_here(w.b));
    w.net.run_for(SECOND * 11);
    assert!(!w.is_here(w.b));
    assert!(w.net.nodes[w.b].events.contains(&Event::Vanished { prefix: to_prefix(HOST) }));
    w.net.run_for(SECOND);
    assert!(
        !w.net.nodes[w.ms]
            .control
            .sites()
            .any(|s| s.registrations.iter().any(|(p, _)| *p == to_prefix(HOST)))
    );
}

#[test]
fn hosts_come_no_faster_and_no_more_often_than_allowed() {
    let mut w = World::new(12);
    let mut config = detecting();
    config.dynamic_eids[0].limit = 1000;
    w.net.reload(w.a, config);
    let hosts: Vec<String> = (0..100).map(|n| format!("10.9.7.{n}")).collect();
    for host in &hosts {
        w.neighbour(w.a, host, NeighbourState::Known);
        w.neighbour(w.a, host, NeighbourState::Reachable);
    }
    let here = w.net.nodes[w.a].control.mobility().here().count();
    assert!((1..=21).contains(&here), "{here}");
    // One that is claimed here and there all the time rests after a few rounds.
    w.net.run_for(SECOND * 5);
    for _ in 0..10 {
        w.neighbour(w.a, HOST, NeighbourState::Known);
        w.neighbour(w.a, HOST, NeighbourState::Reachable);
        w.net.run_for(SECOND);
        w.go(w.b, HOST, HERE).unwrap();
        w.net.run_for(SECOND * 4);
    }
    assert!(w.is_here(w.b) && !w.is_here(w.a));
    let refused = |e: &Event| match e {
        Event::NotTakenIn { prefix, again_in: Some(again_in) } => {
            *prefix == to_prefix(HOST) && *again_in > SECOND * 10 && *again_in < SECOND * 60
        }
        _ => false,
    };
    assert_eq!(w.net.nodes[w.a].events.iter().filter(|e| refused(e)).count(), 1);
}

#[test]
fn who_goes_on_sending_to_where_it_was_is_told() {
    let mut w = World::new(13);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.go(w.b, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.net.take_sent(w.a);
    w.net.handle(w.a, Input::Punt(Punt::Redirected { destination: eid(HOST), rloc: ip(C) }));
    w.net.run_for(SECOND / 100);
    let sent = w.net.take_sent(w.a);
    let smr =
        |m: &Message| matches!(m, Message::MapRequest(r) if r.smr && r.records == [to_prefix(HOST).into()]);
    assert!(sent.iter().any(|(t, m)| t.destination.ip() == ip(C) && smr(m)), "{sent:#?}");
    w.net.handle(w.a, Input::Punt(Punt::Redirected { destination: eid("10.9.0.6"), rloc: ip(C) }));
    w.net.run_for(SECOND / 100);
    assert!(
        w.net
            .take_sent(w.a)
            .iter()
            .all(|(_, m)| !matches!(m, Message::MapRequest(r) if r.records != [to_prefix(HOST).into()]))
    );
}

#[test]
fn a_reload_gives_up_what_may_no_longer_move() {
    let mut w = World::new(14);
    w.go(w.a, HOST, HERE).unwrap();
    w.go(w.b, "10.9.0.6", HERE).unwrap();
    w.net.run_for(SECOND);
    w.go(w.b, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    assert!(w.is_away(w.a) && w.is_here(w.b));
    for (id, own, rloc, secret) in [(w.a, "10.1.0.0/16", A, "secret-a"), (w.b, "10.2.0.0/16", B, "secret-b")]
    {
        let mut config = site_config(own, rloc, secret, "10.9.0.0/16");
        config.dynamic_eids.clear();
        w.net.reload(id, config);
    }
    w.net.run_for(SECOND);
    assert!(!w.is_away(w.a) && !w.is_here(w.b));
    for id in [w.a, w.b] {
        assert!(w.net.nodes[id].places.is_empty() && w.net.nodes[id].dynamic.is_empty());
        assert!(w.net.nodes[id].fib.longest(&eid(HOST)).is_none());
    }
    let left = w.net.nodes[w.ms]
        .control
        .sites()
        .flat_map(|s| s.registrations)
        .filter(|(p, _)| p.len() == 32)
        .count();
    assert_eq!(left, 0, "withdrawn");
}

#[test]
fn a_reload_without_detection_keeps_no_host_that_nobody_watches() {
    let mut w = World::new(22);
    let registered = |w: &World| {
        let all = w.net.nodes[w.ms].control.sites().flat_map(|s| s.registrations);
        all.into_iter().any(|(p, _)| p == to_prefix(HOST))
    };
    w.net.reload(w.a, detecting());
    let find = |w: &mut World| {
        w.neighbour(w.a, HOST, NeighbourState::Known);
        w.neighbour(w.a, HOST, NeighbourState::Reachable);
        w.net.run_for(SECOND);
    };
    find(&mut w);
    assert!(w.is_here(w.a) && registered(&w));
    // With another configuration it is still watched.
    let mut config = detecting();
    config.dynamic_eids[0].detect = Some(DetectConfig { rate: 10, timeout: SECOND * 40 });
    config.dynamic_eids[0].limit = 7;
    w.net.reload(w.a, config);
    w.probes(w.a);
    w.net.run_for(SECOND * 30);
    assert!(w.is_here(w.a));
    assert!(w.probes(w.a) > 0);
    w.net.run_for(SECOND * 21);
    assert!(!w.is_here(w.a) && !registered(&w));

    w.net.run_for(SECOND * 60);
    w.net.reload(w.a, detecting());
    find(&mut w);
    w.go(w.a, "10.9.0.6", HERE).unwrap();
    assert!(w.is_here(w.a) && registered(&w));
    let mut config = detecting();
    config.dynamic_eids[0].detect = None;
    w.net.reload(w.a, config);
    w.net.run_for(SECOND);
    assert!(!w.is_here(w.a) && !registered(&w));
    assert_eq!(w.net.nodes[w.a].control.mobility().here().count(), 1, "what came by command stays");
    // Nor is it lost by going back and forth.
    w.net.reload(w.a, detecting());
    find(&mut w);
    w.net.run_for(SECOND * 11);
    assert!(!w.is_here(w.a));
}

#[test]
fn a_record_of_ours_is_no_reason_to_ask() {
    let mut w = World::new(15);
    w.go(w.a, HOST, HERE).unwrap();
    w.net.run_for(SECOND);
    w.net.take_sent(w.a);
    let tell = |w: &mut World, nonce, records: Vec<EidRecord>| {
        let notify = MapNotify { nonce: Nonce(nonce), records, ..MapNotify::default() };
        w.net.deliver(w.a, "192.0.2.1:4342", &seal(notify, &mobile_key()));
        w.net.take_sent(w.a).iter().filter(|(_, m)| matches!(m, Message::Ecm(_))).count()
    };
    assert_eq!(tell(&mut w, 900, vec![record("10.9.0.5/32", &[A])]), 0);
    assert_eq!(tell(&mut w, 901, vec![record("10.9.0.9/32", &[B])]), 0, "nothing to us");
    assert_eq!(tell(&mut w, 902, vec![record("10.8.0.9/32", &[B])]), 0);
    assert_eq!(tell(&mut w, 903, vec![record("10.9.0.5/32", &[B])]), 1);
    w.net.run_for(SECOND);
    assert!(w.is_here(w.a), "the mapping system knows better");
}

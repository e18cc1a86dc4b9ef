//! Hosts that are found on the LAN, and what a reload does to them.

use super::*;

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

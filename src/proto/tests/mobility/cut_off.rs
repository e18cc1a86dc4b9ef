//! Sites that were cut off, died or lost power, and what they think is theirs when they are back.

use super::*;

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

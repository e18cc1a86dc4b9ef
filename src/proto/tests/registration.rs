//! ETR and Map-Server together: keys that change, several xTRs of a site, and several Map-Servers
//! (RFC 9301 §5.6–§5.7, §8.2).

use std::time::Duration;

use crate::auth::{self, Algorithm, Key, Secret};
use crate::proto::config::*;
use crate::proto::event::Event;
use crate::proto::stats::{DropReason, MessageKind};
use crate::proto::testing::*;
use crate::types::{Instant, SiteId, Ttl, XtrId};
use crate::wire::{EidRecord, MapNotify, MapRegister, Message, XtrSite};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MS: &str = "192.0.2.1";

fn numbered(id: u8, algorithm: Algorithm, secret: &str) -> Key {
    Key { id, algorithm, secret: Secret::new(secret), truncate: false }
}

fn old() -> Key {
    numbered(1, Algorithm::HmacSha1, "old")
}

fn new() -> Key {
    numbered(2, Algorithm::HmacSha256Hkdf, "new")
}

fn server_with(keys: Vec<Key>) -> ControlConfig {
    let mut site = site("a", "", &["10.1.0.0/16"]);
    site.keys = keys;
    mapping_system(vec![site])
}

fn etr_with(keys: Vec<Key>) -> ControlConfig {
    let mut config = xtr(&["10.1.0.0/16"], &["198.51.100.1"], MS, "");
    let server = &mut config.etr.as_mut().unwrap().map_servers[0];
    let mut keys = keys.into_iter();
    server.key = keys.next().unwrap();
    server.more_keys = keys.collect();
    config
}

/// The registrations of 10.1.0.0/16, each with its key and its locators.
fn registered(net: &Network, id: usize) -> Vec<(u8, Vec<String>)> {
    let mut found = Vec::new();
    for (_, r) in net.nodes[id].control.sites().flat_map(|site| site.registrations) {
        let locators = r.record.locators.iter().map(|l| l.address.to_ip().unwrap().to_string());
        found.push((r.key_id, locators.collect()));
    }
    found
}

/// Runs for a time in small steps, and fails if the registration is ever missing.
fn run_registered(net: &mut Network, ms: usize, time: Duration) {
    let end = net.now + time;
    while net.now < end {
        net.run_for(Duration::from_millis(250));
        assert!(!registered(net, ms).is_empty(), "no registration at {:?}", net.now);
    }
}

fn key_shown(net: &Network, etr: usize) -> (u8, Algorithm) {
    let mut database = net.nodes[etr].control.database();
    database.next().unwrap().registrations[0].key.unwrap()
}

/// Old key → both at the Map-Server → new key at the ETR → old key gone at the Map-Server.
#[test]
fn a_key_is_changed_without_a_gap_by_way_of_both_at_the_map_server() {
    let mut net = Network::new(1);
    let ms = net.add(&[MS], server_with(vec![old()]));
    let etr = net.add(&["198.51.100.1"], etr_with(vec![old()]));
    net.run_for(SECOND);
    run_registered(&mut net, ms, 5 * MINUTE);
    net.reload(ms, server_with(vec![old(), new()]));
    run_registered(&mut net, ms, 5 * MINUTE);
    assert_eq!(key_shown(&net, etr), (1, Algorithm::HmacSha1));
    net.reload(etr, etr_with(vec![new()]));
    net.run_for(SECOND);
    assert_eq!(registered(&net, ms), [(2, vec!["198.51.100.1".to_owned()])], "at once");
    assert_eq!(key_shown(&net, etr), (2, Algorithm::HmacSha256Hkdf));
    run_registered(&mut net, ms, 5 * MINUTE);
    net.reload(ms, server_with(vec![new()]));
    run_registered(&mut net, ms, 5 * MINUTE);
    for id in [ms, etr] {
        for reason in [DropReason::AuthKeyId, DropReason::AuthMac, DropReason::AuthAlgorithm] {
            assert_eq!(net.nodes[id].dropped(reason), 0, "{reason} at {id}");
        }
    }
}

/// The Map-Server changes its key from one moment to the next; the ETR has both.
#[test]
fn a_key_is_changed_without_a_gap_by_way_of_both_at_the_etr() {
    let mut net = Network::new(1);
    let ms = net.add(&[MS], server_with(vec![old()]));
    let etr = net.add(&["198.51.100.1"], etr_with(vec![new(), old()]));
    net.run_for(3 * SECOND);
    run_registered(&mut net, ms, 5 * MINUTE);
    assert_eq!(
        (registered(&net, ms)[0].0, key_shown(&net, etr).0),
        (1, 1),
        "the one that the Map-Server has"
    );
    net.reload(ms, server_with(vec![new()]));
    run_registered(&mut net, ms, 5 * MINUTE);
    assert_eq!((registered(&net, ms)[0].0, key_shown(&net, etr).0), (2, 2));
    let unreachable = |event: &Event| matches!(event, Event::MapServerUnreachable { .. });
    assert!(!net.nodes[etr].events.iter().any(unreachable), "{:?}", net.nodes[etr].events);
}

/// RFC 9301 §5.7: "the fields of the Map-Notify are copied from the corresponding Map-Register".
#[test]
fn a_map_notify_has_the_key_of_the_map_register() {
    let mut net = Network::new(1);
    let ms = net.add(&[MS], server_with(vec![old(), new()]));
    for (nonce, key) in [(1, old()), (2, new()), (3, old())] {
        net.deliver(
            ms,
            "198.51.100.1:4342",
            &register(nonce, &key, vec![record("10.1.0.0/16", &["198.51.100.1"])]),
        );
        let (transmit, _) = net.take_one(ms);
        assert_eq!(auth::verify(&transmit.payload, &[key]), Ok(0), "{nonce}");
    }
}

/// Sites are told apart by their prefixes: a Map-Register may hold several sites' prefixes, and is authentic
/// for all that have its key.
#[test]
fn sites_with_the_same_key_may_share_a_map_register_and_others_may_not() {
    let mut net = Network::new(1);
    let sites = vec![
        site("a", "shared", &["10.1.0.0/16"]),
        site("b", "shared", &["10.2.0.0/16"]),
        site("c", "other", &["10.3.0.0/16"]),
        site("d", "shared", &["10.4.0.0/16"]),
    ];
    let ms = net.add(&[MS], mapping_system(sites));
    let all = ["10.3.0.0/16", "10.1.0.0/16", "10.2.0.0/16", "10.4.0.0/16"];
    let records: Vec<_> = all.iter().map(|prefix| record(prefix, &["198.51.100.1"])).collect();
    let bytes = register(1, &key("shared"), records);
    net.deliver(ms, "198.51.100.1:4342", &bytes);
    let (transmit, message) = net.take_one(ms);
    assert_eq!(auth::verify(&transmit.payload, &[key("shared")]), Ok(0));
    let Message::MapNotify(notify) = message else { panic!("{message:?}") };
    let told: Vec<_> = notify.records.iter().map(|r| r.eid.to_prefix().unwrap().to_string()).collect();
    assert_eq!(told, all[1..]);
    let by_site: Vec<(String, usize)> =
        net.nodes[ms].control.sites().map(|s| (s.config.name.clone(), s.registrations.len())).collect();
    assert_eq!(by_site, [("a", 1), ("b", 1), ("c", 0), ("d", 1)].map(|(name, n)| (name.to_owned(), n)));
    assert_eq!(net.nodes[ms].dropped(DropReason::RegisterNotOwned), 1);
    // For all of them at once it is a replay now.
    net.deliver(ms, "198.51.100.1:4342", &bytes);
    assert!(net.take_sent(ms).is_empty());
    assert_eq!(net.nodes[ms].dropped(DropReason::RegisterReplayed), 3);
}

fn xtr_of_site(rloc: &str, id: u8, merge: bool) -> ControlConfig {
    let mut config = xtr(&["10.1.0.0/16"], &[rloc], MS, "k");
    config.itr = None;
    let etr = config.etr.as_mut().unwrap();
    etr.xtr_site = Some((XtrId([id; 16]), SiteId(1)));
    etr.map_servers[0].merge = merge;
    config
}

/// Two xTRs of a site with one locator each, merged; the second one's start, change and end reach the first.
#[test]
fn an_xtr_hears_when_another_changes_what_is_told_of_its_prefix() {
    let mut net = Network::new(1);
    let ms = net.add(&[MS], mapping_system(vec![site("a", "k", &["10.1.0.0/16"])]));
    let first = net.add(&["198.51.100.1"], xtr_of_site("198.51.100.1", 1, true));
    net.run_for(5 * SECOND);
    net.sent.clear();
    let second = net.add(&["198.51.100.2"], xtr_of_site("198.51.100.2", 2, true));
    net.run_for(SECOND);

    let unsolicited = |net: &Network, to: &str| -> Vec<MapNotify> {
        let to = ip(to);
        net.sent_by(ms)
            .filter(|(_, transmit, _)| transmit.destination.ip() == to)
            .filter_map(|(_, _, message)| match message {
                Message::MapNotify(notify) => Some(notify.clone()),
                _ => None,
            })
            .collect()
    };
    let locators = |record: &EidRecord| -> Vec<String> {
        record.locators.iter().map(|l| l.address.to_ip().unwrap().to_string()).collect()
    };
    let told = unsolicited(&net, "198.51.100.1");
    assert_eq!(told.len(), 1, "once, as it was acknowledged: {told:?}");
    assert_eq!(locators(&told[0].records[0]), ["198.51.100.1", "198.51.100.2"]);
    assert_eq!(net.nodes[first].control.statistics().sent(MessageKind::MapNotifyAck), 1);
    // The Map-Notify that the second asked for has what came of the merge.
    let answer = unsolicited(&net, "198.51.100.2");
    assert_eq!(locators(&answer[0].records[0]), ["198.51.100.1", "198.51.100.2"]);

    // It goes on without a word, and nobody is told of nothing.
    net.sent.clear();
    net.run_for(30 * SECOND);
    assert_eq!(net.nodes[first].control.statistics().sent(MessageKind::MapNotifyAck), 1);

    // It withdraws.
    net.sent.clear();
    let mut without = xtr_of_site("198.51.100.2", 2, true);
    without.database[0].register = false;
    net.reload(second, without);
    net.run_for(SECOND);
    let told = unsolicited(&net, "198.51.100.1");
    assert_eq!(told.len(), 1);
    assert_eq!(locators(&told[0].records[0]), ["198.51.100.1"]);
    let contradicted = |event: &Event| matches!(event, Event::RegistrationContradicted { .. });
    assert!(!net.nodes[first].events.iter().any(contradicted), "{:?}", net.nodes[first].events);
    let contradiction = |event: &Event| matches!(event, Event::Contradiction { .. });
    assert!(!net.nodes[ms].events.iter().any(contradiction), "{:?}", net.nodes[ms].events);
}

/// A registration by hand, of an xTR that never acknowledges anything.
fn by_hand(nonce: u64, id: u8, merge: bool, record: EidRecord) -> Vec<u8> {
    let register = MapRegister {
        nonce: crate::types::Nonce(nonce),
        want_notify: true,
        merge,
        records: vec![record],
        xtr_site: Some(XtrSite { xtr_id: XtrId([id; 16]), site_id: SiteId(1) }),
        ..MapRegister::default()
    };
    seal(register, &key("k"))
}

/// RFC 9301 §5.7: 3 retransmissions at 3-second intervals, then 3 more with the interval doubling.
#[test]
fn an_unacknowledged_map_notify_is_sent_again_and_given_up() {
    let mut net = Network::new(1);
    let ms = net.add(&[MS], mapping_system(vec![site("a", "k", &["10.1.0.0/16"])]));
    let (a, b) = ("198.51.100.1:4342", "198.51.100.2:4342");
    let mut long = record("10.1.0.0/16", &["198.51.100.1"]);
    long.ttl = Ttl(1440);
    net.deliver(ms, a, &by_hand(1, 1, true, long.clone()));
    net.take_sent(ms);
    let start = net.now;
    net.deliver(ms, b, &by_hand(1, 2, true, record("10.1.0.0/16", &["198.51.100.2"])));
    // Both refresh, so that neither times out.
    for nonce in 2..5 {
        net.run_for(MINUTE);
        net.deliver(ms, a, &by_hand(nonce, 1, true, long.clone()));
        net.deliver(ms, b, &by_hand(nonce, 2, true, record("10.1.0.0/16", &["198.51.100.2"])));
    }
    let solicited = |m: &Message| matches!(m, Message::MapNotify(n) if n.nonce.0 < 10);
    let times: Vec<u64> = net
        .sent_by(ms)
        .filter(|(_, _, m)| !solicited(m))
        .map(|(at, _, _)| at.saturating_since(start).as_secs())
        .collect();
    assert_eq!(times, [0, 3, 6, 9, 15, 27, 51]);

    // One that is acknowledged at last is not sent again; an acknowledgement with a wrong key counts for
    // nothing.
    net.sent.clear();
    net.deliver(ms, b, &by_hand(9, 2, true, record("10.1.0.0/16", &["198.51.100.3"])));
    net.run_for(SECOND);
    let notify = net.sent_by(ms).find_map(|(_, _, m)| match m {
        Message::MapNotify(n) if !solicited(m) => Some(n.clone()),
        _ => None,
    });
    let notify = notify.expect("an unsolicited Map-Notify");
    let forged = seal(Message::MapNotifyAck(notify.clone()), &key("wrong"));
    net.deliver(ms, a, &forged);
    assert_eq!(net.nodes[ms].dropped(DropReason::AuthMac), 1);
    net.run_for(3 * SECOND);
    net.deliver(ms, a, &seal(Message::MapNotifyAck(notify.clone()), &key("k")));
    net.sent.clear();
    net.run_for(20 * SECOND);
    assert_eq!(net.sent_by(ms).count(), 0);
    net.deliver(ms, a, &seal(Message::MapNotifyAck(notify), &key("k")));
    assert_eq!(net.nodes[ms].dropped(DropReason::AckUnsolicited), 1);
}

/// Without merging, two xTRs that list different locators take the prefix from each other: both sides say so.
#[test]
fn contradictory_registrations_are_told_at_both_ends() {
    let mut net = Network::new(1);
    let ms = net.add(&[MS], mapping_system(vec![site("a", "k", &["10.1.0.0/16"])]));
    let first = net.add(&["198.51.100.1"], xtr_of_site("198.51.100.1", 1, false));
    net.run_for(5 * SECOND);
    let second = net.add(&["198.51.100.2"], xtr_of_site("198.51.100.2", 2, false));
    net.run_for(3 * MINUTE);
    let said = |net: &Network, id: usize| {
        let events = net.nodes[id].events.iter();
        events
            .filter(|e| matches!(e, Event::Contradiction { .. } | Event::RegistrationContradicted { .. }))
            .count()
    };
    assert_eq!((said(&net, ms), said(&net, first)), (1, 1), "once each");
    let state = |net: &Network, id: usize| {
        net.nodes[id].control.database().next().unwrap().registrations[0].contradicted
    };
    assert!(state(&net, first));

    // The operator has both list both: all is well.
    for (id, number) in [(first, 1), (second, 2)] {
        let mut config = xtr_of_site("198.51.100.1", number, false);
        let own = if number == 1 { "198.51.100.1" } else { "198.51.100.2" };
        config.database[0].locators = ["198.51.100.1", "198.51.100.2"]
            .map(|rloc| LocatorConfig { local: rloc == own, ..locator(rloc, 1, 50) })
            .to_vec();
        net.reload(id, config);
    }
    net.run_for(5 * SECOND);
    assert!(!state(&net, first) && !state(&net, second));
    let before = said(&net, ms);
    net.run_for(5 * MINUTE);
    assert_eq!(said(&net, ms), before);
}

/// RFC 9301 §5.6, T: with it the registration lives as long as the record, without it three minutes.
#[test]
fn the_t_bit_makes_a_registration_live_as_long_as_its_record() {
    for (use_ttl, left_after) in [(false, 180), (true, 600)] {
        let mut net = Network::new(1);
        let ms = net.add(&[MS], mapping_system(vec![site("a", "k", &["10.1.0.0/16"])]));
        let mut config = xtr_of_site("198.51.100.1", 1, false);
        config.etr.as_mut().unwrap().map_servers[0].use_ttl = use_ttl;
        config.database[0].ttl = Ttl(10);
        let etr = net.add(&["198.51.100.1"], config);
        net.run_for(SECOND);
        let sent = net.sent_by(etr).find_map(|(_, _, m)| match m {
            Message::MapRegister(register) => Some(register.use_ttl),
            _ => None,
        });
        assert_eq!(sent, Some(use_ttl));
        // The ETR dies.
        net.dark.insert(ip("198.51.100.1"));
        let last: Instant = net.nodes[ms].control.sites().next().unwrap().registrations[0].1.refreshed;
        net.run_for(Duration::from_secs(left_after - 10));
        assert_eq!(registered(&net, ms).len(), 1, "T = {use_ttl}");
        net.run_for(20 * SECOND);
        assert_eq!(registered(&net, ms).len(), 0, "T = {use_ttl}, refreshed at {last:?}");
    }
}

/// Each mapping system has its own key and its own EIDs, and the loss of one is nothing to the other.
#[test]
fn two_map_servers_with_different_keys_get_what_is_theirs() {
    let mut net = Network::new(1);
    let one = net.add(&[MS], mapping_system(vec![site("a", "one", &["10.1.0.0/16"])]));
    let two = net.add(&["192.0.2.2"], mapping_system(vec![site("a", "two", &["10.2.0.0/16"])]));
    let mut config = xtr(&["10.1.0.0/16", "10.2.0.0/16"], &["198.51.100.1"], MS, "one");
    config.itr = None;
    config.database[0].map_servers = Some(vec!["one".into()]);
    config.database[1].map_servers = Some(vec!["two".into()]);
    let servers = &mut config.etr.as_mut().unwrap().map_servers;
    servers[0].name = "one".into();
    servers.push(EtrMapServer::new("two".into(), Host::Address(ip("192.0.2.2")), key("two")));
    let etr = net.add(&["198.51.100.1"], config);
    net.run_for(SECOND);
    let prefixes = |net: &Network, id: usize| -> Vec<String> {
        net.nodes[id].control.sites().flat_map(|s| s.registrations).map(|(p, _)| p.to_string()).collect()
    };
    assert_eq!(prefixes(&net, one), ["10.1.0.0/16"]);
    assert_eq!(prefixes(&net, two), ["10.2.0.0/16"]);
    for id in [one, two] {
        assert_eq!(net.nodes[id].control.statistics().drops().map(|(_, n)| n).sum::<u64>(), 0);
    }
    net.dark.insert(ip(MS));
    let end = net.now + 10 * MINUTE;
    while net.now < end {
        net.run_for(SECOND);
        assert_eq!(prefixes(&net, two), ["10.2.0.0/16"]);
    }
    assert!(prefixes(&net, one).is_empty());
    let states: Vec<bool> = net.nodes[etr]
        .control
        .database()
        .flat_map(|view| view.registrations)
        .map(|state| state.confirmed)
        .collect();
    assert_eq!(states.len(), 2);
    assert!(states[1]);
}

//! The ETR against RFC 9301 §5.5–§5.7, §7.1 and §8.2.

use std::net::IpAddr;
use std::time::Duration;

use crate::auth;
use crate::proto::config::*;
use crate::proto::control::Input;
use crate::proto::event::Event;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Family, LocatorChange, Nonce, SiteId, Ttl, XtrId};
use crate::wire::{Address, EidRecord, MapNotify, MapRegister, MapRequest, Message};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MS: &str = "192.0.2.1:4342";

fn config() -> ControlConfig {
    let mut config =
        xtr(&["10.1.0.0/16", "2001:db8:a::/48"], &["198.51.100.1", "2001:db8:ffff::a"], "192.0.2.1", "k");
    config.itr = None;
    config
}

fn etr(config: ControlConfig) -> (Network, usize) {
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1", "2001:db8:ffff::a"], config);
    (net, id)
}

fn registers(net: &mut Network, id: usize) -> Vec<MapRegister> {
    net.take_sent(id)
        .into_iter()
        .filter_map(|(transmit, message)| match message {
            Message::MapRegister(register) => {
                assert_eq!(auth::verify(&transmit.payload, &[key("k")]), Ok(0));
                Some(register)
            }
            _ => None,
        })
        .collect()
}

fn notify(register: &MapRegister) -> MapNotify {
    MapNotify {
        nonce: register.nonce,
        records: register.records.clone(),
        xtr_site: register.xtr_site,
        ..MapNotify::default()
    }
}

/// Runs for a time, confirming every Map-Register at once; their times.
fn confirm_all(net: &mut Network, id: usize, time: Duration) -> Vec<Duration> {
    let (start, end) = (net.now, net.now + time);
    let mut times = Vec::new();
    while net
        .run_until(end.saturating_since(net.now), |net| {
            net.sent_by(id).any(|(_, _, m)| matches!(m, Message::MapRegister(_)))
        })
        .is_some()
    {
        for register in registers(net, id) {
            times.push(net.now.saturating_since(start));
            net.deliver(id, MS, &seal(notify(&register), &key("k")));
        }
    }
    net.run_for(end.saturating_since(net.now));
    times
}

#[test]
fn registrations_carry_the_database_and_are_kept_up_every_minute() {
    let (mut net, id) = etr(config());
    net.run_for(SECOND);
    let register = registers(&mut net, id).remove(0);
    // RFC 9301 §5.6; §5.4: locators in ascending order, L set for our own, p never in a Map-Register.
    assert!(register.want_notify && !register.proxy_reply && !register.use_ttl && !register.merge);
    let prefixes: Vec<_> = register.records.iter().map(|r| r.eid.to_prefix().unwrap()).collect();
    assert_eq!(prefixes, [prefix("10.1.0.0/16"), prefix("2001:db8:a::/48")]);
    let locators = &register.records[0].locators;
    assert_eq!(
        locators.iter().map(|l| l.address.to_ip().unwrap()).collect::<Vec<_>>(),
        [ip("198.51.100.1"), ip("2001:db8:ffff::a")]
    );
    assert!(locators.iter().all(|l| l.local
        && l.reachable
        && !l.probe
        && l.priority == 1
        && l.weight == 100));
    net.deliver(id, MS, &seal(notify(&register), &key("k")));
    let times = confirm_all(&mut net, id, 10 * MINUTE);
    assert!((10..=12).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|w| w[1] - w[0] <= MINUTE), "{times:?}");
    let state = net.nodes[id].control.database().next().unwrap().registrations.remove(0);
    assert!(state.confirmed && state.unanswered == 0 && state.sent == state.notified, "{state:?}");
    let confirmations =
        net.nodes[id].events.iter().filter(|e| matches!(e, Event::RegistrationConfirmed { .. })).count();
    assert_eq!(confirmations, 1, "said once");
}

#[test]
fn an_unconfirmed_registration_is_repeated_with_doubling_pauses() {
    // RFC 9301 §5.7: after 1 second, doubling, at most 1 minute; §8.2: in the first five minutes every 20 s
    // at least.
    let (mut net, id) = etr(config());
    net.run_for(12 * MINUTE);
    let sent: Vec<_> = net
        .sent_by(id)
        .filter_map(|(at, _, m)| match m {
            Message::MapRegister(r) => Some((at, r.nonce)),
            _ => None,
        })
        .collect();
    let pauses: Vec<u64> =
        sent.windows(2).map(|w| w[1].0.saturating_since(w[0].0).as_millis() as u64).collect();
    for (pause, expected) in pauses.iter().zip([1000, 2000, 4000, 8000, 16000, 20000, 20000]) {
        assert!((expected..=expected * 21 / 20).contains(pause), "{pauses:?}");
    }
    assert!(pauses.iter().rev().take(4).all(|p| (60_000..=63_000).contains(p)), "{pauses:?}");
    assert!(
        sent.windows(2).all(|w| w[1].1 > w[0].1),
        "nonces grow, or the Map-Server takes them for replays"
    );
    let unreachable =
        net.nodes[id].events.iter().filter(|e| matches!(e, Event::MapServerUnreachable { .. })).count();
    assert_eq!(unreachable, 1);
    // It comes back: a late Map-Notify for an earlier attempt counts.
    let late = registers(&mut net, id).into_iter().rev().nth(2).unwrap();
    net.deliver(id, MS, &seal(notify(&late), &key("k")));
    assert!(net.nodes[id].control.database().all(|d| d.registrations[0].confirmed));
}

#[test]
fn without_notifies_registrations_are_quick_for_five_minutes() {
    let mut config = config();
    config.etr.as_mut().unwrap().map_servers[0].want_notify = false;
    let (mut net, id) = etr(config);
    net.run_for(5 * MINUTE);
    let quick = registers(&mut net, id).len();
    assert!((15..=18).contains(&quick), "{quick}");
    net.run_for(10 * MINUTE);
    let steady = registers(&mut net, id).len();
    assert!((10..=12).contains(&steady), "{steady}");
    assert!(net.nodes[id].control.database().all(|d| d.registrations[0].confirmed));
}

#[test]
fn many_prefixes_are_spread_over_several_registers_that_fit_a_datagram() {
    let mut config = config();
    let locators = || vec![locator("198.51.100.1", 1, 100), locator("2001:db8:ffff::a", 2, 100)];
    config.database = (0..50)
        .map(|n| database(&format!("10.{n}.0.0/16"), locators()))
        .chain((0..50).map(|n| database(&format!("2001:db8:{n:x}::/48"), locators())))
        .chain((1..50).map(|n| database(&format!("[{n}]2001:db8:1::/48"), locators())))
        .collect();
    let (mut net, id) = etr(config);
    net.run_for(SECOND / 2);
    assert!(net.sent_by(id).all(|(_, t, _)| t.payload.len() <= 1200));
    let registers = registers(&mut net, id);
    assert!(registers.iter().all(|r| r.records.len() <= 20));
    assert_eq!(registers.iter().map(|r| r.records.len()).sum::<usize>(), 149);
    assert!(registers.len() <= 12, "{}", registers.len());
    // One of them is confirmed: only its prefixes are.
    net.deliver(id, MS, &seal(notify(&registers[0]), &key("k")));
    let confirmed = net.nodes[id].control.database().filter(|d| d.registrations[0].confirmed).count();
    assert_eq!(confirmed, registers[0].records.len());
}

#[test]
fn each_map_server_gets_what_was_chosen_for_it() {
    let mut config = config();
    let etr_config = config.etr.as_mut().unwrap();
    etr_config.xtr_site = Some((XtrId([7; 16]), SiteId(9)));
    etr_config.map_servers.push(EtrMapServer {
        proxy_reply: true,
        want_notify: false,
        ..EtrMapServer::new("second".into(), Host::Address(ip("2001:db8:ffff::1")), key("k"))
    });
    config.database[0].map_servers = Some(vec!["second".into()]);
    config.database.push(DatabaseEntry { register: false, ..database("10.9.0.0/16", Vec::new()) });
    let (mut net, id) = etr(config);
    net.run_for(SECOND / 2);
    let sent = net.take_sent(id);
    let find = |to: &str| {
        let (_, message) = sent.iter().find(|(t, _)| t.destination.ip() == ip(to)).unwrap();
        match message {
            Message::MapRegister(r) => r.clone(),
            other => panic!("{other:?}"),
        }
    };
    let (first, second) = (find("192.0.2.1"), find("2001:db8:ffff::1"));
    assert_eq!(first.records.len(), 1);
    assert_eq!(second.records.len(), 2);
    assert!(second.proxy_reply && !first.proxy_reply && !second.want_notify);
    let ids = first.xtr_site.unwrap();
    assert_eq!((ids.xtr_id, ids.site_id), (XtrId([7; 16]), SiteId(9)));
}

#[test]
fn notifies_must_be_authentic_and_expected() {
    let (mut net, id) = etr(config());
    net.run_for(SECOND / 2);
    let register = registers(&mut net, id).remove(0);
    let confirmed = |net: &Network| net.nodes[id].control.database().all(|d| d.registrations[0].confirmed);
    net.deliver(id, MS, &seal(notify(&register), &key("wrong")));
    assert_eq!(net.nodes[id].dropped(DropReason::AuthMac), 1);
    let other = crate::auth::Key { id: 9, ..key("k") };
    net.deliver(id, MS, &seal(notify(&register), &other));
    assert_eq!(net.nodes[id].dropped(DropReason::AuthKeyId), 1);
    assert!(!confirmed(&net));
    // A Map-Notify may come from another address of the Map-Server: its nonce and MAC say whose it is.
    net.deliver(id, "192.0.2.99:4342", &seal(notify(&register), &key("k")));
    assert!(confirmed(&net));
    net.deliver(id, MS, &seal(notify(&register), &key("k")));
    assert_eq!(net.nodes[id].dropped(DropReason::NotifyStale), 1);
    // RFC 9301 §5.7: an unsolicited one is acknowledged with its own content, if it is authentic.
    let unsolicited = MapNotify { nonce: Nonce(1), ..notify(&register) };
    net.deliver(id, "203.0.113.66:4342", &seal(unsolicited.clone(), &key("k")));
    assert_eq!(net.nodes[id].dropped(DropReason::NotifyUnknown), 1);
    net.deliver(id, MS, &seal(unsolicited.clone(), &key("wrong")));
    assert!(net.take_sent(id).is_empty());
    net.deliver(id, MS, &seal(unsolicited.clone(), &key("k")));
    let (transmit, message) = net.take_one(id);
    let Message::MapNotifyAck(ack) = message else { panic!("{message:?}") };
    assert_eq!((ack.nonce, &ack.records), (Nonce(1), &unsolicited.records));
    assert_eq!(transmit.destination, MS.parse().unwrap());
    assert_eq!(auth::verify(&transmit.payload, &[key("k")]), Ok(0));
    // Its repetition too, as the Map-Notify-Ack may be what got lost; but replays draw no more than anything
    // else.
    for _ in 0..1000 {
        net.deliver(id, MS, &seal(unsolicited.clone(), &key("k")));
    }
    let acks = net.take_sent(id).len();
    assert!((1..=200).contains(&acks), "{acks}");
    assert!(net.nodes[id].dropped(DropReason::RateRloc) >= 800);
}

#[test]
fn a_prefix_that_the_map_server_leaves_out_is_refused() {
    let (mut net, id) = etr(config());
    net.run_for(SECOND / 2);
    let register = registers(&mut net, id).remove(0);
    let partial = MapNotify { records: register.records[..1].to_vec(), ..notify(&register) };
    net.deliver(id, MS, &seal(partial, &key("k")));
    let states: Vec<_> = net.nodes[id].control.database().map(|mut d| d.registrations.remove(0)).collect();
    assert!(states[0].confirmed && !states[0].refused);
    assert!(!states[1].confirmed && states[1].refused && states[1].last_notified.is_none());
    let refused =
        Event::RegistrationRefused { map_server: "192.0.2.1".into(), prefix: prefix("2001:db8:a::/48") };
    assert!(net.nodes[id].events.contains(&refused));
}

#[test]
fn a_changed_address_is_registered_within_a_second() {
    let mut config = config();
    for entry in &mut config.database {
        entry.locators = vec![LocatorConfig {
            source: LocatorSource::Interface { name: "eth0".into(), family: Family::Ipv4 },
            ..locator("0.0.0.0", 1, 100)
        }];
    }
    let (mut net, id) = etr(config);
    confirm_all(&mut net, id, 10 * SECOND);
    net.readdress(id, &["198.51.100.99"]);
    net.run_for(SECOND);
    let register = registers(&mut net, id).remove(0);
    assert_eq!(register.records[0].locators[0].address, Address::Ip(ip("198.51.100.99")));
    net.deliver(id, MS, &seal(notify(&register), &key("k")));
    // No address at all: the last one is said to be unreachable (R), as far as that can still be said. Not
    // withdrawn, since others would then forward the site's packets natively.
    net.readdress(id, &[]);
    net.run_for(SECOND);
    let register = registers(&mut net, id).remove(0);
    for record in &register.records {
        let said: Vec<_> = record.locators.iter().map(|l| (l.address.to_ip(), l.reachable)).collect();
        assert_eq!((record.ttl, said), (Ttl(1440), vec![(Some(ip("198.51.100.99")), false)]));
    }
    let lacking = Event::NoLocators { prefix: prefix("10.1.0.0/16") };
    assert!(!net.nodes[id].events.contains(&lacking), "it may be back in a moment");
    net.run_for(5 * SECOND);
    registers(&mut net, id);
    assert_eq!(net.nodes[id].events.iter().filter(|e| **e == lacking).count(), 1);
    // And back with another one.
    net.readdress(id, &["198.51.100.98"]);
    net.run_for(SECOND);
    let register = registers(&mut net, id).remove(0);
    let said: Vec<_> =
        register.records[0].locators.iter().map(|l| (l.address.to_ip(), l.reachable)).collect();
    assert_eq!(said, [(Some(ip("198.51.100.98")), true)]);
}

#[test]
fn a_locator_by_address_is_down_while_no_interface_has_it() {
    let (mut net, id) = etr(config());
    confirm_all(&mut net, id, 10 * SECOND);
    let states = |net: &Network| -> Vec<(IpAddr, bool)> {
        let entry = net.nodes[id].control.database().next().unwrap().entry;
        entry.locators.iter().map(|l| (l.rloc, l.reachable)).collect()
    };
    let (v4, v6) = (ip("198.51.100.1"), ip("2001:db8:ffff::a"));
    assert_eq!(states(&net), [(v4, true), (v6, true)]);
    net.handle(id, Input::Interface { name: "eth1", addresses: &[ip("192.0.2.33")] });
    assert!(registers(&mut net, id).is_empty(), "an address that is no locator changes nothing");
    // The link goes down: registered within a second, in the same place (RFC 9301 §5.4, R).
    net.readdress(id, &["198.51.100.1"]);
    assert_eq!(states(&net), [(v4, true), (v6, false)]);
    assert_eq!(net.nodes[id].control.local_rlocs(), [v4]);
    net.run_for(SECOND);
    let register = registers(&mut net, id).remove(0);
    let said: Vec<_> =
        register.records[0].locators.iter().map(|l| (l.address.to_ip(), l.reachable)).collect();
    assert_eq!(said, [(Some(v4), true), (Some(v6), false)]);
    assert!(net.nodes[id].events.contains(&Event::OwnLocator { rloc: v6, up: false }));
    // The address moves to another interface.
    net.handle(id, Input::Interface { name: "eth1", addresses: &[v6] });
    assert_eq!(states(&net), [(v4, true), (v6, true)]);
    assert_eq!(net.nodes[id].control.local_rlocs(), [v4, v6]);
    assert!(net.nodes[id].events.contains(&Event::OwnLocator { rloc: v6, up: true }));
}

#[test]
fn a_reload_withdraws_what_is_gone_registers_what_is_new_and_leaves_the_rest_alone() {
    let many = |range: std::ops::Range<u8>| {
        let mut config = config();
        config.database = range
            .map(|n| database(&format!("10.{n}.0.0/16"), vec![locator("198.51.100.1", 1, 100)]))
            .collect();
        config
    };
    let (mut net, id) = etr(many(0..40));
    confirm_all(&mut net, id, 10 * SECOND);
    net.reload(id, many(0..40));
    net.run_for(SECOND);
    assert!(registers(&mut net, id).is_empty(), "the same again changes nothing");
    net.reload(id, many(0..39));
    net.run_for(SECOND / 2);
    let sent = registers(&mut net, id);
    let withdrawn: Vec<_> =
        sent.iter().flat_map(|r| &r.records).filter(|r| r.ttl == Ttl::WITHDRAWN).cloned().collect();
    assert_eq!(withdrawn.len(), 1);
    assert_eq!(withdrawn[0].eid.to_prefix().unwrap(), prefix("10.39.0.0/16"));
    let again = sent.iter().flat_map(|r| &r.records).filter(|r| r.ttl != Ttl::WITHDRAWN).count();
    assert_eq!(again, 19, "the first twenty are as they were");
    assert_eq!(net.nodes[id].fib.len(), 39);
    // A withdrawal is repeated until it is confirmed, not for ever.
    net.run_for(5 * MINUTE);
    let repeats =
        registers(&mut net, id).iter().filter(|r| r.records.iter().any(|r| r.ttl == Ttl::WITHDRAWN)).count();
    assert_eq!(repeats, 4);
    // A Map-Server that is gone is told so.
    let mut elsewhere = many(0..1);
    elsewhere.etr.as_mut().unwrap().map_servers[0].host = Host::Address(ip("192.0.2.2"));
    net.reload(id, elsewhere);
    net.run_for(SECOND / 2);
    let to: std::collections::BTreeSet<_> = net.sent_by(id).map(|(_, t, _)| t.destination.ip()).collect();
    assert_eq!(to, [ip("192.0.2.1"), ip("192.0.2.2")].into());
    net.take_sent(id);
    net.reload(id, ControlConfig { etr: None, ..many(0..1) });
    net.run_for(SECOND / 2);
    let last = registers(&mut net, id);
    assert!(last.iter().flat_map(|r| &r.records).all(|r| r.ttl == Ttl::WITHDRAWN));
}

#[test]
fn a_withdrawal_speaks_in_the_name_that_registered() {
    // RFC 9301 §5.6: the Map-Server tells xTRs apart by their ids.
    let mut named = config();
    named.etr.as_mut().unwrap().xtr_site = Some((XtrId([7; 16]), SiteId(9)));
    let (mut net, id) = etr(named.clone());
    confirm_all(&mut net, id, 10 * SECOND);
    net.reload(id, ControlConfig { etr: None, ..named });
    let withdrawal = registers(&mut net, id).remove(0);
    assert_eq!(withdrawal.xtr_site.map(|ids| ids.xtr_id), Some(XtrId([7; 16])));
    assert!(withdrawal.records.iter().all(|r| r.ttl == Ttl::WITHDRAWN));
}

#[test]
fn another_key_is_used_at_once() {
    let (mut net, id) = etr(config());
    confirm_all(&mut net, id, 10 * SECOND);
    let mut other = config();
    other.etr.as_mut().unwrap().map_servers[0].key = key("new");
    net.reload(id, other);
    let (transmit, message) = net.take_sent(id).remove(0);
    assert!(matches!(message, Message::MapRegister(_)));
    assert_eq!(auth::verify(&transmit.payload, &[key("new")]), Ok(0));
}

#[test]
fn a_map_servers_name_is_followed() {
    let mut config = config();
    config.etr.as_mut().unwrap().map_servers[0].host = Host::Name("ms.example".into());
    let (mut net, id) = etr(config);
    net.run_for(SECOND / 2);
    assert!(net.take_sent(id).is_empty());
    // Its IPv6 address can't be reached from an IPv4 locator alone, so the other one is used.
    net.dns.insert("ms.example".into(), vec![ip("192.0.2.5")]);
    net.run_for(SECOND);
    assert_eq!(net.take_sent(id)[0].0.destination.ip(), ip("192.0.2.5"));
    assert!(net.nodes[id].events.iter().any(|e| matches!(e, Event::NameResolved { .. })));
}

fn reply(net: &mut Network, id: usize) -> (crate::proto::control::Transmit, Vec<EidRecord>, Nonce, bool) {
    let mut replies: Vec<_> = net
        .take_sent(id)
        .into_iter()
        .filter_map(|(transmit, message)| match message {
            Message::MapReply(reply) => Some((transmit, reply.records, reply.nonce, reply.probe)),
            _ => None,
        })
        .collect();
    assert_eq!(replies.len(), 1);
    replies.remove(0)
}

#[test]
fn map_requests_are_answered_to_an_itr_rloc_of_a_family_that_we_have() {
    let (mut net, id) = etr(config());
    // Encapsulated, as a Map-Server forwards it (RFC 9301 §5.5, §5.8): to the inner source port.
    net.deliver(id, MS, &ecm(map_request("10.1.2.3/32", "203.0.113.9", 5)));
    let (transmit, records, nonce, probe) = reply(&mut net, id);
    assert_eq!(transmit.destination, "203.0.113.9:4342".parse().unwrap());
    assert_eq!((transmit.source, nonce, probe), (None, Nonce(5), false));
    assert_eq!(records.len(), 1);
    assert!(records[0].authoritative && records[0].ttl == Ttl(1440));
    assert_eq!(records[0].eid.to_prefix().unwrap(), prefix("10.1.0.0/16"));
    assert!(records[0].locators.iter().all(|l| l.local && l.reachable && !l.probe));
    // Bare: to the outer source port, from the address that was asked.
    net.deliver(id, "203.0.113.9:5555", &encode(map_request("2001:db8:a::1/128", "203.0.113.9", 6)));
    let (transmit, ..) = reply(&mut net, id);
    assert_eq!(transmit.destination, "203.0.113.9:5555".parse().unwrap());
    assert_eq!(transmit.source, Some(ip("198.51.100.1")));
    // Only an IPv4 locator is left: the IPv6 ITR-RLOC is no use.
    let mut v4 = config();
    v4.database.iter_mut().for_each(|e| e.locators.truncate(1));
    net.reload(id, v4);
    let mut request = map_request("10.1.2.3/32", "2001:db8:ffff::9", 7);
    request.itr_rlocs.insert(0, Address::Mac([1; 6]));
    request.itr_rlocs.push(ip("203.0.113.9").into());
    net.deliver(id, MS, &ecm(request));
    assert_eq!(reply(&mut net, id).0.destination.ip(), ip("203.0.113.9"));
}

#[test]
fn more_specific_prefixes_come_along() {
    // RFC 9301 §5.5, its own example.
    let mut config = config();
    let entry = |eid: &str, ttl| DatabaseEntry {
        ttl: Ttl(ttl),
        ..database(eid, vec![locator("198.51.100.1", 1, 100)])
    };
    config.database = vec![
        entry("2001:db8::/32", 60),
        entry("2001:db8:1::/48", 50),
        entry("2001:db8:1:1::/64", 40),
        entry("2001:db8:1:2::/64", 30),
    ];
    let (mut net, id) = etr(config.clone());
    let ask = |net: &mut Network, eid: &str| {
        net.deliver(id, MS, &ecm(map_request(eid, "203.0.113.9", 5)));
        let records = reply(net, id).1;
        records.iter().map(|r| (r.eid.to_prefix().unwrap().to_string(), r.ttl.0)).collect::<Vec<_>>()
    };
    assert_eq!(ask(&mut net, "2001:db8:1:1::1/128"), [("2001:db8:1:1::/64".into(), 40)]);
    // All with the same time to live, so that they end together.
    let expected = ["2001:db8:1::/48", "2001:db8:1:1::/64", "2001:db8:1:2::/64"];
    assert_eq!(ask(&mut net, "2001:db8:1:5::5/128"), expected.map(|p| (p.to_string(), 30)));
    // Too many to list: the answer is for the part around the EID that has none of them.
    config.database.extend((16..64).map(|n| entry(&format!("2001:db8:1:{n:x}::/64"), 60)));
    net.reload(id, config);
    assert_eq!(ask(&mut net, "2001:db8:1:5::5/128"), [("2001:db8:1:4::/62".into(), 50)]);
}

#[test]
fn probes_are_answered_where_they_came_from() {
    // RFC 9301 §7.1; §5.4: P echoed, A set, p on the locator that was probed.
    let (mut net, id) = etr(config());
    let probe = MapRequest { probe: true, ..map_request("10.1.0.0/16", "203.0.113.9", 5) };
    net.deliver(id, "203.0.113.77:4444", &encode(probe.clone()));
    let (transmit, records, nonce, echoed) = reply(&mut net, id);
    assert_eq!(transmit.destination, "203.0.113.77:4444".parse().unwrap());
    assert_eq!((transmit.source, nonce, echoed), (Some(ip("198.51.100.1")), Nonce(5), true));
    assert!(records[0].authoritative);
    assert_eq!(records[0].locators.iter().map(|l| l.probe).collect::<Vec<_>>(), [true, false]);
    // §5.8: never encapsulated.
    net.deliver(id, MS, &ecm(probe));
    assert!(net.take_sent(id).iter().all(|(_, m)| !matches!(m, Message::MapReply(_))));
    assert_eq!(net.nodes[id].dropped(DropReason::ProbeMisdirected), 1);
}

#[test]
fn requests_that_want_or_deserve_no_answer_get_none() {
    let (mut net, id) = etr(config());
    net.run_for(SECOND);
    net.take_sent(id);
    let request = |nonce| map_request("10.1.2.3/32", "203.0.113.9", nonce);
    let cases: Vec<(Vec<u8>, &str, DropReason)> = vec![
        (ecm(MapRequest { dont_map_reply: true, ..request(1) }), MS, DropReason::RequestNoReply),
        (ecm(map_request("10.2.0.1/32", "203.0.113.9", 2)), MS, DropReason::RequestNotOurs),
        (ecm(map_request("10.1.2.3/32", "127.0.0.1", 3)), MS, DropReason::RequestNoRloc),
        (ecm(MapRequest { itr_rlocs: vec![Address::None], ..request(4) }), MS, DropReason::RequestNoRloc),
        (encode(request(5)), "203.0.113.9:4341", DropReason::RequestPort),
        (encode(request(6)), "203.0.113.9:0", DropReason::RequestPort),
        (encode(MapRequest { records: Vec::new(), ..request(7) }), MS, DropReason::RequestEmpty),
    ];
    for (bytes, from, reason) in cases {
        let before = net.nodes[id].dropped(reason);
        net.deliver(id, from, &bytes);
        assert_eq!(net.nodes[id].dropped(reason), before + 1, "{reason}");
        assert!(net.take_sent(id).is_empty(), "{reason}");
    }
}

#[test]
fn one_message_may_ask_for_several_prefixes() {
    let (mut net, id) = etr(config());
    let mut request = map_request("10.1.2.3/32", "203.0.113.9", 1);
    request.records.push(prefix("2001:db8:a::1/128").into());
    request.records.extend(std::iter::repeat_n(prefix("10.1.2.4/32").into(), 200));
    net.deliver(id, "203.0.113.9:4342", &encode(request));
    let records = reply(&mut net, id).1;
    assert_eq!(records.len(), 2, "each mapping once");
    assert_eq!(net.nodes[id].dropped(DropReason::RequestRecords), 1);
}

#[test]
fn many_prefixes_asked_for_at_once_are_answered_as_far_as_one_message_goes() {
    // RFC 9301 §9: neither fragments nor an answer of many times the question's size.
    let mut config = config();
    let locators = || (1..=20).map(|n| locator(&format!("203.0.113.{n}"), 1, 5)).collect::<Vec<_>>();
    config.database = (0..20).map(|n| database(&format!("10.{n}.0.0/16"), locators())).collect();
    let (mut net, id) = etr(config);
    let mut request = map_request("10.0.0.1/32", "203.0.113.9", 1);
    request.records.extend((1..20).map(|n| prefix(&format!("10.{n}.0.1/32")).into()));
    net.deliver(id, "203.0.113.9:4342", &encode(request.clone()));
    let (transmit, records, ..) = reply(&mut net, id);
    assert!(transmit.payload.len() <= 1200, "{}", transmit.payload.len());
    assert!((3..=5).contains(&records.len()), "{}", records.len());
    assert!(records.iter().all(|record| record.locators.len() == 20), "each of them whole");
    assert!(net.nodes[id].dropped(DropReason::RequestRecords) > 0);
    // A probe asks after a locator: one prefix says it all.
    net.deliver(id, "203.0.113.9:4342", &encode(MapRequest { probe: true, ..request }));
    assert_eq!(reply(&mut net, id).1.len(), 1);
}

#[test]
fn replies_are_limited_per_requester_and_in_all() {
    // RFC 9301 §5.4, §9.
    let mut config = config();
    config.timers.replies_per_record = 1000;
    config.timers.replies_per_rloc = 10;
    config.timers.replies_total = 50;
    let (mut net, id) = etr(config);
    net.run_for(SECOND);
    net.take_sent(id);
    for n in 0..100 {
        net.deliver(id, "203.0.113.9:4342", &encode(map_request("10.1.2.3/32", "203.0.113.9", n)));
    }
    assert_eq!(net.take_sent(id).len(), 20, "a bucket of twice the rate");
    assert_eq!(net.nodes[id].dropped(DropReason::RateRloc), 80);
    for n in 0..=255 {
        let rloc = format!("203.0.112.{n}");
        net.deliver(id, "203.0.113.9:4342", &encode(map_request("10.1.2.3/32", &rloc, n)));
    }
    assert_eq!(net.take_sent(id).iter().filter(|(_, m)| matches!(m, Message::MapReply(_))).count(), 80);
    assert!(net.nodes[id].dropped(DropReason::RateTotal) > 0);
    net.run_for(SECOND);
    net.take_sent(id);
    net.deliver(id, "203.0.113.9:4342", &encode(map_request("10.1.2.3/32", "203.0.113.9", 1000)));
    assert_eq!(net.take_sent(id).len(), 1, "and later again");
}

/// The locators that are said to be missing, each once.
fn missing(net: &Network, id: usize) -> Vec<String> {
    let said = net.nodes[id].events.iter().filter_map(|event| match event {
        Event::OwnLocatorMissing { source } => Some(source.to_string()),
        _ => None,
    });
    said.collect()
}

#[test]
fn a_locator_that_the_machine_does_not_have_is_told_once() {
    let mut net = Network::new(7);
    let mut config = config();
    config.itr =
        Some(ItrConfig { map_resolvers: vec![Host::Address(ip("192.0.2.1"))], ..ItrConfig::default() });
    let id = net.add(&["2001:db8:ffff::a"], config.clone());
    net.run_for(2 * SECOND);
    assert!(missing(&net, id).is_empty(), "interfaces come up one after the other");
    net.run_for(10 * SECOND);
    assert_eq!(missing(&net, id), ["198.51.100.1"]);
    // A reload that leaves it as it is says nothing new; one that brings another does.
    net.reload(id, config.clone());
    net.run_for(10 * SECOND);
    assert_eq!(missing(&net, id).len(), 1);
    let uplink = LocatorSource::Interface { name: "ppp0".into(), family: Family::Ipv4 };
    config.database[0].locators.push(LocatorConfig { source: uplink, ..locator("192.0.2.9", 1, 0) });
    net.reload(id, config);
    net.run_for(10 * SECOND);
    assert_eq!(missing(&net, id)[1..], ["ppp0 (IPv4)"]);
    // What comes and goes later is told as such.
    net.readdress(id, &["198.51.100.1", "2001:db8:ffff::a"]);
    net.readdress(id, &["2001:db8:ffff::a"]);
    net.run_for(10 * SECOND);
    assert_eq!(missing(&net, id).len(), 2);
    assert!(net.nodes[id].events.contains(&Event::OwnLocator { rloc: ip("198.51.100.1"), up: false }));
}

#[test]
fn a_locator_that_comes_up_in_time_is_not_said_to_be_missing() {
    let mut net = Network::new(7);
    let id = net.add(&[], config());
    net.run_for(SECOND);
    net.readdress(id, &["198.51.100.1", "2001:db8:ffff::a"]);
    net.run_for(MINUTE);
    assert!(missing(&net, id).is_empty(), "{:?}", missing(&net, id));
}

#[test]
fn a_map_server_without_an_address_is_shown_all_the_same() {
    let mut config = config();
    let unresolved = EtrMapServer::new("two".into(), Host::Name("ms.invalid".into()), key("k"));
    config.etr.as_mut().unwrap().map_servers.push(unresolved);
    config.database[1].register = false;
    // Nor does it depend on there being a locator.
    for addresses in [vec![], vec!["198.51.100.1", "2001:db8:ffff::a"]] {
        let mut net = Network::new(7);
        let id = net.add(&addresses, config.clone());
        net.run_for(SECOND);
        let shown: Vec<_> = net.nodes[id].control.database().map(|view| view.registrations).collect();
        let servers: Vec<_> = shown[0].iter().map(|r| (r.map_server.as_str(), r.address)).collect();
        assert_eq!(servers, [("192.0.2.1", Some(ip("192.0.2.1"))), ("two", None)]);
        assert_eq!(shown[0].iter().map(|r| r.sent > 0).collect::<Vec<_>>(), [!addresses.is_empty(), false]);
        assert!(shown[1].is_empty(), "not to be registered");
    }
}

#[test]
fn a_change_keeps_what_is_known_of_a_registration() {
    let (mut net, id) = etr(config());
    confirm_all(&mut net, id, 3 * MINUTE);
    let shown = |net: &Network| net.nodes[id].control.database().next().unwrap().registrations.remove(0);
    let before = shown(&net);
    assert!(before.confirmed && !before.updating && before.notified > 2, "{before:?}");
    let change = LocatorChange { weight: Some(50), ..LocatorChange::default() };
    let set = |net: &mut Network, change| {
        let now = net.now;
        let source = LocatorSource::Address(ip("198.51.100.1"));
        assert_eq!(net.nodes[id].control.set_locator(&source, change, now), 2);
    };
    set(&mut net, Some(change));
    let pending = shown(&net);
    assert!(pending.updating && !pending.confirmed, "{pending:?}");
    assert_eq!(
        (pending.sent, pending.notified, pending.last_sent, pending.last_notified, pending.key),
        (before.sent, before.notified, before.last_sent, before.last_notified, before.key)
    );
    confirm_all(&mut net, id, SECOND);
    let after = shown(&net);
    assert!(after.confirmed && !after.updating, "{after:?}");
    assert_eq!((after.sent, after.notified), (before.sent + 1, before.notified + 1));

    // A Map-Server that says nothing for long may have forgotten it.
    set(&mut net, None);
    net.run_for(MINUTE);
    let silent = shown(&net);
    assert!(!silent.updating && !silent.confirmed && silent.unanswered >= 4, "{silent:?}");
    assert_eq!(silent.last_notified, after.last_notified);

    // Another host of that name has never had it.
    let mut moved = config();
    moved.etr.as_mut().unwrap().map_servers[0].host = Host::Address(ip("192.0.2.77"));
    net.reload(id, moved);
    let fresh = shown(&net);
    assert!(!fresh.updating && !fresh.confirmed && fresh.last_notified.is_none(), "{fresh:?}");
}

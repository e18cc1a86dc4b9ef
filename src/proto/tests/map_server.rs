//! The Map-Server against RFC 9301 §5.6–§5.7 and §8.2–§8.3.

use std::time::Duration;

use crate::auth::{self, Key};
use crate::proto::config::*;
use crate::proto::event::{Event, Registrant, Unregistered};
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Action, Nonce, SiteId, Ttl, XtrId};
use crate::wire::{Address, EidRecord, MapNotify, MapRegister, MapReply, MapRequest, Message, XtrSite};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const ETR: &str = "198.51.100.1:4342";
const ETR2: &str = "198.51.100.2:4342";
const ITR: &str = "203.0.113.9:4342";

fn config() -> ControlConfig {
    let mut config = mapping_system(vec![
        site("a", "a", &["10.1.0.0/16", "2001:db8:a::/48"]),
        site("b", "b", &["10.2.0.0/16"]),
    ]);
    if let Some(server) = &mut config.map_server {
        server.sites[1].prefixes[0].accept_more_specifics = true;
    }
    config
}

fn server() -> (Network, usize) {
    start(config())
}

fn start(config: ControlConfig) -> (Network, usize) {
    let mut net = Network::new(7);
    let id = net.add(&["192.0.2.1", "2001:db8:ffff::1"], config);
    (net, id)
}

fn registered(net: &Network, id: usize) -> Vec<String> {
    net.nodes[id]
        .control
        .sites()
        .flat_map(|s| s.registrations)
        .map(|(prefix, r)| format!("{prefix} {}", r.registrant))
        .collect()
}

fn notifies(net: &mut Network, id: usize, key: &Key) -> Vec<MapNotify> {
    net.take_sent(id)
        .into_iter()
        .map(|(transmit, message)| {
            assert_eq!(auth::verify(&transmit.payload, std::slice::from_ref(key)), Ok(0));
            // RFC 9301 §8.2: to the control port, whatever port the Map-Register came from.
            assert_eq!(transmit.destination.port(), 4342);
            match message {
                Message::MapNotify(notify) => notify,
                other => panic!("{other:?}"),
            }
        })
        .collect()
}

/// Asks for an EID; what the mapping system sends because of it.
fn ask(net: &mut Network, id: usize, request: MapRequest) -> (crate::proto::control::Transmit, Message) {
    net.take_sent(id);
    net.deliver(id, ITR, &ecm(request));
    net.take_one(id)
}

fn ask_reply(net: &mut Network, id: usize, eid: &str) -> MapReply {
    let nonce = net.now.as_nanos() ^ u64::from(eid.len() as u32);
    match ask(net, id, map_request(eid, "203.0.113.9", nonce)) {
        (transmit, Message::MapReply(reply)) => {
            assert_eq!(transmit.destination, ITR.parse().unwrap());
            assert_eq!(reply.nonce, Nonce(nonce));
            reply
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_registration_is_confirmed_with_its_own_content() {
    let (mut net, id) = server();
    let records =
        vec![record("10.1.0.0/16", &["198.51.100.1"]), record("2001:db8:a::/48", &["198.51.100.1"])];
    net.deliver(id, "198.51.100.1:61000", &register(1, &key("a"), records.clone()));
    let notify = notifies(&mut net, id, &key("a")).remove(0);
    assert_eq!((notify.nonce, notify.records), (Nonce(1), records.clone()));
    assert_eq!(registered(&net, id), ["10.1.0.0/16 198.51.100.1", "2001:db8:a::/48 198.51.100.1"]);
    // Without the M bit: taken in, not confirmed (RFC 9301 §5.6).
    let silent = MapRegister { nonce: Nonce(2), records, ..MapRegister::default() };
    net.deliver(id, ETR, &seal(silent, &key("a")));
    assert!(net.take_sent(id).is_empty());
    let news = net.nodes[id].events.iter().filter(|e| matches!(e, Event::SiteRegistered { .. })).count();
    assert_eq!(news, 2, "said when new, not at every refresh");
}

#[test]
fn wrong_keys_change_nothing_and_have_their_reasons() {
    let (mut net, id) = server();
    let records = || vec![record("10.1.0.0/16", &["198.51.100.1"])];
    let sha1 = Key { algorithm: auth::Algorithm::HmacSha1, ..key("a") };
    let mut short = register(4, &key("a"), records());
    short[15] = 0;
    short.drain(16..48);
    let cases = [
        (register(1, &key("not-a"), records()), DropReason::AuthMac),
        // Another site's key is no better than any other.
        (register(1, &key("b"), records()), DropReason::AuthMac),
        (register(2, &Key { id: 7, ..key("a") }, records()), DropReason::AuthKeyId),
        (register(3, &sha1, records()), DropReason::AuthAlgorithm),
        (short, DropReason::AuthLength),
        (register(5, &key("a"), Vec::new()), DropReason::RegisterEmpty),
        (
            register(6, &key("a"), vec![record("10.99.0.0/16", &["198.51.100.1"])]),
            DropReason::RegisterNotOwned,
        ),
    ];
    for (bytes, reason) in cases {
        let before = net.nodes[id].dropped(reason);
        net.deliver(id, ETR, &bytes);
        assert_eq!(net.nodes[id].dropped(reason), before + 1, "{reason}");
    }
    assert!(registered(&net, id).is_empty() && net.take_sent(id).is_empty());
    let said = net.nodes[id].events.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(
        said.iter().any(|s| s.contains("auth-wrong-key") && s.contains(ETR) && s.contains("site a")),
        "{said:?}"
    );
}

#[test]
fn keys_can_be_changed_without_a_break() {
    let mut config = config();
    let site = &mut config.map_server.as_mut().unwrap().sites[0];
    site.keys = vec![key("old"), Key { id: 2, algorithm: auth::Algorithm::HmacSha256Hkdf, ..key("new") }];
    let new = site.keys[1].clone();
    let (mut net, id) = start(config);
    net.deliver(id, ETR, &register(1, &key("old"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    assert_eq!(notifies(&mut net, id, &key("old")).len(), 1);
    net.deliver(id, ETR, &register(2, &new, vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    assert_eq!(notifies(&mut net, id, &new).len(), 1, "confirmed with the key that it came with");
}

/// What is said of records that are not their sender's.
fn not_owned(net: &Network, id: usize) -> Vec<String> {
    let said = net.nodes[id].events.iter().filter_map(|event| match event {
        Event::Dropped { reason: DropReason::RegisterNotOwned, detail, .. } => detail.clone(),
        _ => None,
    });
    said.collect()
}

#[test]
fn a_refused_part_of_a_sites_prefix_is_told_with_the_key_that_would_admit_it() {
    let (mut net, id) = server();
    net.deliver(id, ETR, &register(1, &key("a"), vec![record("10.1.2.0/24", &["198.51.100.1"])]));
    assert_eq!(
        not_owned(&net, id),
        ["10.1.2.0/24 is part of 10.1.0.0/16 of site a, which does not accept more specific EID-prefixes \
          (accept-more-specifics)"]
    );
}

#[test]
fn a_site_registers_what_it_owns_and_nothing_else() {
    // RFC 9301 §8.2: only EID-prefixes that are configured.
    let (mut net, id) = server();
    let own = record("10.1.0.0/16", &["198.51.100.1"]);
    let records = vec![
        own.clone(),
        record("10.2.0.0/16", &["198.51.100.1"]),
        record("10.1.2.0/24", &["198.51.100.1"]),
        record("10.0.0.0/8", &["198.51.100.1"]),
        record("[7]10.1.0.0/16", &["198.51.100.1"]),
        EidRecord {
            eid: crate::wire::EidAddress { mask_len: 0, address: Address::Mac([1; 6]) },
            ..own.clone()
        },
    ];
    net.deliver(id, ETR, &register(1, &key("a"), records));
    assert_eq!(registered(&net, id), ["10.1.0.0/16 198.51.100.1"]);
    assert_eq!(net.nodes[id].dropped(DropReason::RegisterNotOwned), 4);
    assert_eq!(net.nodes[id].dropped(DropReason::RegisterEid), 1);
    let part = "10.1.2.0/24 is part of 10.1.0.0/16 of site a, which does not accept more specific \
                EID-prefixes (accept-more-specifics)";
    assert_eq!(
        not_owned(&net, id),
        [
            "site a does not own 10.2.0.0/16",
            part,
            "10.0.0.0/8 belongs to no site",
            "[7]10.1.0.0/16 belongs to no site"
        ]
    );
    assert_eq!(notifies(&mut net, id, &key("a")).remove(0).records, [own]);
    // More specific ones where that is allowed, but not what is another site's.
    net.deliver(id, ETR2, &register(1, &key("b"), vec![record("10.2.3.0/24", &["198.51.100.2"])]));
    assert_eq!(registered(&net, id).len(), 2);
}

#[test]
fn replayed_registers_are_refused() {
    // RFC 9301 §5.6: a nonce that is not greater than the last one of the xTR and key.
    let (mut net, id) = server();
    let withdraw = || vec![EidRecord { ttl: Ttl(0), ..record("10.1.0.0/16", &[]) }];
    let first = register(10, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]);
    net.deliver(id, ETR, &first);
    net.deliver(id, ETR, &register(11, &key("a"), withdraw()));
    assert!(registered(&net, id).is_empty());
    for from in [ETR, "203.0.113.66:4342"] {
        net.deliver(id, from, &first);
        assert!(registered(&net, id).is_empty(), "replayed from {from}");
    }
    net.deliver(id, ETR, &register(11, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    net.deliver(id, ETR, &register(9, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    assert_eq!(net.nodes[id].dropped(DropReason::RegisterReplayed), 4);
    let hints = net.nodes[id].events.iter().filter(|e| matches!(e, Event::NonceRepeated { .. })).count();
    assert_eq!(hints, 1, "which site may need allow-repeated-nonce is said once a minute");
    // Another xTR of the site counts for itself.
    net.deliver(id, ETR2, &register(5, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.2"])]));
    assert_eq!(registered(&net, id), ["10.1.0.0/16 198.51.100.2"]);
}

#[test]
fn a_router_that_never_changes_its_nonce_can_be_let_in() {
    let mut config = config();
    config.map_server.as_mut().unwrap().sites[0].allow_repeated_nonce = true;
    let (mut net, id) = start(config);
    for _ in 0..5 {
        net.run_for(MINUTE);
        net.deliver(id, ETR, &register(0, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
        assert_eq!(registered(&net, id).len(), 1);
    }
    assert_eq!(net.nodes[id].dropped(DropReason::RegisterReplayed), 0);
}

#[test]
fn registrations_time_out_and_can_be_withdrawn() {
    // RFC 9301 §8.2: three minutes; §5.6: T bit, the record's own time to live; §5.4: 0 withdraws.
    let (mut net, id) = server();
    net.deliver(id, ETR, &register(1, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    let with_ttl = MapRegister {
        use_ttl: true,
        nonce: Nonce(1),
        records: vec![EidRecord { ttl: Ttl(10), ..record("10.2.0.0/16", &["198.51.100.2"]) }],
        ..MapRegister::default()
    };
    net.deliver(id, ETR2, &seal(with_ttl, &key("b")));
    net.run_for(2 * MINUTE);
    net.deliver(id, ETR, &register(2, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    net.run_for(3 * MINUTE - SECOND);
    assert_eq!(registered(&net, id).len(), 2);
    net.run_for(SECOND);
    assert_eq!(registered(&net, id), ["10.2.0.0/16 198.51.100.2"]);
    let timed_out = Event::SiteUnregistered {
        site: "a".into(),
        prefix: prefix("10.1.0.0/16"),
        registrant: Registrant::Address(ip("198.51.100.1")),
        cause: Unregistered::TimedOut,
    };
    assert!(net.nodes[id].events.contains(&timed_out));
    net.run_for(5 * MINUTE);
    assert!(registered(&net, id).is_empty());
    net.deliver(id, ETR, &register(3, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    net.take_sent(id);
    let withdrawal = vec![EidRecord { ttl: Ttl(0), ..record("10.1.0.0/16", &[]) }];
    net.deliver(id, ETR, &register(4, &key("a"), withdrawal.clone()));
    assert!(registered(&net, id).is_empty());
    assert_eq!(notifies(&mut net, id, &key("a")).remove(0).records, withdrawal);
}

#[test]
fn requests_are_passed_on_to_an_etr_unchanged() {
    // RFC 9301 §8.3.
    let (mut net, id) = server();
    let mut mapping = record("10.1.0.0/16", &["198.51.100.1", "198.51.100.3", "2001:db8:ffff::a"]);
    mapping.locators[0].priority = 255;
    mapping.locators[2].priority = 0;
    net.deliver(id, ETR, &register(1, &key("a"), vec![mapping.clone()]));
    let request = map_request("10.1.2.3/32", "203.0.113.9", 77);
    let original = ecm(request.clone());
    let (transmit, message) = ask(&mut net, id, request.clone());
    // The best locator of a family that the ETR is known to be reachable in.
    assert_eq!(transmit.destination, "198.51.100.3:4342".parse().unwrap());
    assert_eq!(transmit.payload, original);
    assert_eq!(inner(&message).1, request);
    // Bare Map-Requests are passed on just so; the reply still goes to the ITR's port.
    net.deliver(id, "203.0.113.9:7777", &encode(map_request("10.1.2.3/32", "203.0.113.9", 78)));
    let (_, message) = net.take_one(id);
    assert_eq!(inner(&message).0.source, "203.0.113.9:7777".parse().unwrap());
    // No usable locator: where the registration came from.
    mapping.locators.iter_mut().for_each(|l| l.reachable = false);
    net.deliver(id, ETR, &register(2, &key("a"), vec![mapping]));
    let (transmit, _) = ask(&mut net, id, map_request("10.1.2.3/32", "203.0.113.9", 79));
    assert_eq!(transmit.destination, ETR.parse().unwrap());
}

#[test]
fn requests_go_where_the_latest_registration_says() {
    // An xTR without xTR-ID registers from another address, since its uplink went down: the former
    // registration stays for a while (RFC 9301 §5.6, §8.3), but must not draw Map-Requests to what is dead.
    let (mut net, id) = server();
    let mut mapping = record("10.1.0.0/16", &["198.51.100.1", "198.51.100.3"]);
    mapping.locators[1].priority = 2;
    mapping.locators.iter_mut().for_each(|l| l.local = true);
    net.deliver(id, ETR, &register(1, &key("a"), vec![mapping.clone()]));
    net.run_for(Duration::from_secs(1));
    mapping.locators[0].reachable = false;
    net.deliver(id, "198.51.100.3:4342", &register(2, &key("a"), vec![mapping]));
    for nonce in 0..20 {
        let (transmit, _) = ask(&mut net, id, map_request("10.1.2.3/32", "203.0.113.9", 100 + nonce));
        assert_eq!(transmit.destination, "198.51.100.3:4342".parse().unwrap());
    }
}

#[test]
fn the_map_server_answers_for_those_who_ask_it_to() {
    // RFC 9301 §8.3, §5.4: neither A nor L.
    let (mut net, id) = server();
    let proxied = |nonce, key: &Key, records| {
        seal(MapRegister { proxy_reply: true, nonce: Nonce(nonce), records, ..MapRegister::default() }, key)
    };
    let mut mapping = record("10.2.0.0/16", &["198.51.100.2"]);
    mapping.locators[0].local = true;
    mapping.locators[0].mpriority = 3;
    net.deliver(id, ETR2, &proxied(1, &key("b"), vec![mapping.clone()]));
    let reply = ask_reply(&mut net, id, "10.2.3.4/32");
    let mut expected = EidRecord { authoritative: false, ..mapping.clone() };
    expected.locators[0].local = false;
    assert_eq!(reply.records, [expected]);
    // The ITR insists on the site itself (§5.2, A).
    let insisting = MapRequest { authoritative: true, ..map_request("10.2.3.4/32", "203.0.113.9", 1) };
    assert!(matches!(ask(&mut net, id, insisting), (_, Message::Ecm(_))));
    // What is more specific is somebody else's: it is left out of the answer.
    net.deliver(id, ETR2, &proxied(2, &key("b"), vec![record("10.2.3.0/24", &["198.51.100.2"])]));
    let reply = ask_reply(&mut net, id, "10.2.128.1/32");
    assert_eq!(reply.records[0].eid.to_prefix().unwrap(), prefix("10.2.128.0/17"));
}

#[test]
fn the_xtrs_of_a_site_are_merged_when_they_ask_for_it() {
    let (mut net, id) = server();
    let send = |net: &mut Network, from: &str, nonce, merge, locators: &[&str]| {
        let register = MapRegister {
            proxy_reply: true,
            merge,
            nonce: Nonce(nonce),
            records: vec![record("10.1.0.0/16", locators)],
            ..MapRegister::default()
        };
        net.run_for(SECOND);
        net.deliver(id, from, &seal(register, &key("a")));
    };
    let locators = |net: &mut Network| {
        let reply = ask_reply(net, id, "10.1.2.3/32");
        reply.records[0].locators.iter().map(|l| l.address.to_ip().unwrap()).collect::<Vec<_>>()
    };
    send(&mut net, ETR2, 1, true, &["198.51.100.2"]);
    send(&mut net, ETR, 1, true, &["198.51.100.1"]);
    assert_eq!(locators(&mut net), [ip("198.51.100.1"), ip("198.51.100.2")]);
    assert_eq!(registered(&net, id).len(), 2);
    // One falls silent: what it said goes with it.
    net.run_for(2 * MINUTE);
    send(&mut net, ETR, 2, true, &["198.51.100.1"]);
    net.run_for(MINUTE);
    assert_eq!(locators(&mut net), [ip("198.51.100.1")]);
    // Without the bit, the last word counts, whole.
    send(&mut net, ETR2, 2, false, &["198.51.100.2", "198.51.100.7"]);
    assert_eq!(locators(&mut net), [ip("198.51.100.2"), ip("198.51.100.7")]);
    send(&mut net, ETR, 3, false, &["198.51.100.1"]);
    assert_eq!(locators(&mut net), [ip("198.51.100.1")]);
}

#[test]
fn xtrs_behind_one_address_are_told_apart_by_their_ids() {
    let (mut net, id) = server();
    let send = |net: &mut Network, nonce, xtr: u8, rloc: &str| {
        let register = MapRegister {
            nonce: Nonce(nonce),
            records: vec![record("10.1.0.0/16", &[rloc])],
            xtr_site: Some(XtrSite { xtr_id: XtrId([xtr; 16]), site_id: SiteId(1) }),
            want_notify: true,
            ..MapRegister::default()
        };
        net.deliver(id, ETR, &seal(register, &key("a")));
        let notify = notifies(net, id, &key("a")).pop();
        assert!(notify.is_none_or(|n| n.xtr_site.unwrap().xtr_id == XtrId([xtr; 16])));
    };
    send(&mut net, 100, 1, "198.51.100.1");
    send(&mut net, 50, 2, "198.51.100.2");
    assert_eq!(registered(&net, id).len(), 2);
    assert_eq!(net.nodes[id].dropped(DropReason::RegisterReplayed), 0);
    send(&mut net, 100, 1, "198.51.100.1");
    assert_eq!(net.nodes[id].dropped(DropReason::RegisterReplayed), 1);
}

#[test]
fn unknown_and_unregistered_eids_are_native_for_as_much_as_is_free() {
    // RFC 9301 §8.1, §8.3, §8.4.
    let (mut net, id) = server();
    net.deliver(id, ETR2, &register(1, &key("b"), vec![record("10.2.3.0/24", &["198.51.100.2"])]));
    let cases = [
        // No site: 15 minutes, the largest hole around it.
        ("172.16.0.1/32", "128.0.0.0/1", 15),
        ("10.3.0.1/32", "10.3.0.0/16", 15),
        ("2001:db8:b::1/128", "2001:db8:b::/48", 15),
        // A site that has not registered: 1 minute.
        ("10.1.2.3/32", "10.1.0.0/16", 1),
        // The part of a site that is not registered.
        ("10.2.128.1/32", "10.2.128.0/17", 1),
        ("10.2.2.1/32", "10.2.2.0/24", 1),
        // Another instance knows nothing of all that.
        ("[7]10.1.2.3/32", "[7]0.0.0.0/0", 15),
    ];
    for (asked, hole, ttl) in cases {
        let reply = ask_reply(&mut net, id, asked);
        let record = &reply.records[0];
        assert_eq!(record.eid.to_prefix().unwrap(), prefix(hole), "{asked}");
        assert_eq!((record.ttl, record.action), (Ttl(ttl), Action::NativelyForward), "{asked}");
        assert!(record.locators.is_empty() && !record.authoritative);
    }
}

#[test]
fn a_map_server_alone_claims_no_more_than_it_knows() {
    let mut config = config();
    config.map_resolver = None;
    let (mut net, id) = start(config);
    let reply = ask_reply(&mut net, id, "172.16.0.1/32");
    assert_eq!(reply.records[0].eid.to_prefix().unwrap(), prefix("172.16.0.1/32"));
    assert_eq!(
        ask_reply(&mut net, id, "10.1.2.3/32").records[0].eid.to_prefix().unwrap(),
        prefix("10.1.0.0/16")
    );
}

#[test]
fn registrations_are_bounded() {
    let mut config = config();
    config.timers.registrations_per_site = 30;
    config.timers.registrations_total = 40;
    config.map_server.as_mut().unwrap().sites[0].prefixes[0].accept_more_specifics = true;
    let (mut net, id) = start(config);
    for (site, net_number, from) in [("a", 1, ETR), ("b", 2, ETR2)] {
        for n in 0..50u64 {
            let records = vec![record(&format!("10.{net_number}.{n}.0/24"), &["198.51.100.1"])];
            net.deliver(id, from, &register(n + 1, &key(site), records));
        }
    }
    assert_eq!(registered(&net, id).len(), 40);
    assert_eq!(net.nodes[id].dropped(DropReason::RegisterFull), 60);
    // Many xTRs for one prefix.
    for n in 0..100 {
        let from = format!("198.51.101.{n}:4342");
        net.deliver(id, &from, &register(1000, &key("a"), vec![record("10.1.0.0/24", &["198.51.100.1"])]));
    }
    assert_eq!(registered(&net, id).len(), 40);
    net.run_for(4 * MINUTE);
    assert!(registered(&net, id).is_empty());
    net.deliver(id, ETR, &register(2000, &key("a"), vec![record("10.1.0.0/24", &["198.51.100.1"])]));
    assert_eq!(registered(&net, id).len(), 1, "what timed out makes room");
}

#[test]
fn a_reload_keeps_what_is_still_owned() {
    let (mut net, id) = server();
    net.deliver(id, ETR, &register(1, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    net.deliver(id, ETR2, &register(1, &key("b"), vec![record("10.2.3.0/24", &["198.51.100.2"])]));
    net.reload(id, config());
    assert_eq!(registered(&net, id).len(), 2);
    // Site a gives its prefix to c: what a registered is not c's.
    let mut changed = config();
    let sites = &mut changed.map_server.as_mut().unwrap().sites;
    sites[0] = site("a", "a", &["2001:db8:a::/48"]);
    sites.push(site("c", "c", &["10.1.0.0/16"]));
    net.reload(id, changed);
    assert_eq!(registered(&net, id), ["10.2.3.0/24 198.51.100.2"]);
    assert!(
        net.nodes[id]
            .events
            .iter()
            .any(|e| { matches!(e, Event::SiteUnregistered { cause: Unregistered::Reconfigured, .. }) })
    );
    // Old nonces are still known.
    let before = net.nodes[id].dropped(DropReason::RegisterReplayed);
    net.deliver(id, ETR2, &register(1, &key("b"), vec![record("10.2.3.0/24", &["198.51.100.2"])]));
    assert_eq!(net.nodes[id].dropped(DropReason::RegisterReplayed), before + 1);
    net.reload(id, ControlConfig { map_server: None, ..config() });
    net.deliver(id, ETR, &register(9, &key("a"), vec![record("10.1.0.0/16", &["198.51.100.1"])]));
    assert_eq!(net.nodes[id].dropped(DropReason::NoRole), 1);
    assert_eq!(net.nodes[id].control.sites().count(), 0);
}

#[test]
fn a_register_with_an_older_version_is_dropped_whole() {
    // RFC 9302 §5: silently, but for a log.
    let (mut net, id) = server();
    let version = |version: u16, rloc: &str, eid: &str| EidRecord {
        version: crate::types::MapVersion::new(version),
        ..record(eid, &[rloc])
    };
    let says = |net: &mut Network, nonce, from: &str, records| {
        let before = net.nodes[id].dropped(DropReason::RegisterVersion);
        net.take_sent(id);
        net.deliver(id, from, &register(nonce, &key("a"), records));
        let confirmed = net.take_sent(id).len();
        let dropped = net.nodes[id].dropped(DropReason::RegisterVersion) - before;
        assert_eq!(confirmed as u64, 1 - dropped, "what is dropped is not confirmed");
        dropped == 0
    };
    let (v4, v6) = ("10.1.0.0/16", "2001:db8:a::/48");
    assert!(says(&mut net, 1, ETR, vec![version(100, "198.51.100.1", v4)]));
    assert!(says(&mut net, 2, ETR, vec![version(101, "198.51.100.1", v4)]));
    let both = vec![version(7, "198.51.100.77", v6), version(100, "198.51.100.77", v4)];
    assert!(!says(&mut net, 3, ETR, both));
    assert_eq!(registered(&net, id), ["10.1.0.0/16 198.51.100.1"]);
    // The same again, none at all, and newer ones around the circle.
    assert!(says(&mut net, 4, ETR, vec![version(101, "198.51.100.1", v4)]));
    assert!(says(&mut net, 5, ETR, vec![version(101 + 2048, "198.51.100.1", v4)]));
    assert!(says(&mut net, 6, ETR, vec![version(50, "198.51.100.1", v4)]));
    assert!(says(&mut net, 7, ETR, vec![version(0, "198.51.100.1", v4)]));
    assert!(says(&mut net, 8, ETR, vec![version(20, "198.51.100.1", v4)]));
    // Another xTR of the site counts its own.
    assert!(says(&mut net, 1, ETR2, vec![version(3, "198.51.100.2", v4)]));
    // One that has lost its version is heard again once its registration has timed out.
    assert!(!says(&mut net, 9, ETR, vec![version(19, "198.51.100.1", v4)]));
    net.run_for(3 * MINUTE + SECOND);
    assert!(says(&mut net, 10, ETR, vec![version(19, "198.51.100.1", v4)]));
}

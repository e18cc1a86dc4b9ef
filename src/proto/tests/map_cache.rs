//! The map-cache: what stays, what goes, and what of a mapping is never used (RFC 9301 §5.4, §5.5).

use std::time::Duration;

use crate::fib::FibAction;
use crate::proto::config::{ControlConfig, ItrConfig, Timers};
use crate::proto::control::{Command, Input};
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::proto::xtr::MapCacheSource;
use crate::types::{Action, Locator, Mapping, Ttl};
use crate::wire::{EidRecord, MapReply, MapRequest, Message};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn config(itr: ItrConfig) -> ControlConfig {
    let mut config = xtr(&["10.1.0.0/16"], &["198.51.100.1", "2001:db8:ffff::a"], "192.0.2.1", "k");
    config.etr = None;
    let resolvers = config.itr.take().unwrap().map_resolvers;
    config.itr = Some(ItrConfig { map_resolvers: resolvers, ..itr });
    config
}

fn start(itr: ItrConfig) -> (Network, usize) {
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1", "2001:db8:ffff::a"], config(itr));
    (net, id)
}

fn fixed(eid: &str, rlocs: &[&str]) -> Mapping {
    let locators = rlocs.iter().map(|r| Locator::new(ip(r), 1, 100)).collect();
    Mapping { locators, ..Mapping::negative(prefix(eid), Ttl::RECEIVER_DECIDES, Action::NoAction) }
}

fn cached(net: &Network, id: usize) -> Vec<String> {
    net.nodes[id].control.map_cache().map(|(p, _)| p.to_string()).collect()
}

#[test]
fn entries_that_nobody_uses_go_after_a_while() {
    let (mut net, id) = start(ItrConfig { idle_timeout: 5 * MINUTE, ..ItrConfig::default() });
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    net.learn(id, "10.3.0.9", vec![record("10.3.0.0/16", &["203.0.113.1"])]);
    net.learn(id, "10.4.0.9", vec![negative("10.4.0.0/16", 60, Action::Drop)]);
    // What the kernel forwards is in use without our seeing it.
    net.learn(id, "10.5.0.9", vec![negative("10.5.0.0/16", 60, Action::NativelyForward)]);
    for _ in 0..9 {
        net.run_for(MINUTE / 2);
        net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    }
    assert_eq!(cached(&net, id).len(), 4);
    net.run_for(MINUTE / 2);
    assert_eq!(cached(&net, id), ["10.2.0.0/16", "10.5.0.0/16"]);
    assert_eq!(net.nodes[id].dropped(DropReason::CacheIdle), 2);
    assert_eq!(net.nodes[id].fib.len(), 3);
    net.run_for(5 * MINUTE);
    assert_eq!(cached(&net, id), ["10.5.0.0/16"]);
    // By a reload: for ever.
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    net.reload(id, config(ItrConfig::default()));
    net.run_for(20 * 60 * MINUTE / 60);
    assert!(cached(&net, id).contains(&"10.2.0.0/16".to_owned()));
}

#[test]
fn a_set_of_overlapping_entries_stays_or_goes_as_a_whole() {
    // RFC 9301 §5.5: no more-specific entry may go while the less specific one stays and takes over its
    // packets.
    let (mut net, id) =
        start(ItrConfig { idle_timeout: 5 * MINUTE, map_cache_limit: 10, ..ItrConfig::default() });
    let both = || vec![record("10.2.0.0/16", &["203.0.113.1"]), record("10.2.7.0/24", &["203.0.113.7"])];
    net.learn(id, "10.2.0.9", both());
    for _ in 0..20 {
        net.run_for(MINUTE);
        net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    }
    assert_eq!(net.nodes[id].paths(eid("10.2.7.9"))[0].0, ip("203.0.113.7"));
    net.run_for(6 * MINUTE);
    assert_eq!(cached(&net, id).len(), 0);
    // The same where room is needed.
    net.learn(id, "10.2.0.9", both());
    for n in 0..30 {
        net.run_for(SECOND);
        net.learn(id, &format!("10.3.{n}.9"), vec![record(&format!("10.3.{n}.0/24"), &["203.0.113.1"])]);
        net.packet(id, "10.1.0.9", eid(&format!("10.3.{n}.9")));
        let cached = cached(&net, id);
        assert!(
            !cached.contains(&"10.2.0.0/16".to_owned()) || cached.contains(&"10.2.7.0/24".to_owned()),
            "{cached:?}"
        );
    }
    assert!(!cached(&net, id).contains(&"10.2.0.0/16".to_owned()));
}

#[test]
fn a_scan_never_displaces_what_carries_packets() {
    let (mut net, id) = start(ItrConfig { map_cache_limit: 400, ..ItrConfig::default() });
    // 300 destinations in use, each every 10 seconds.
    let good = |n: u32| format!("10.2.{n}.9");
    for n in 0..250 {
        net.learn(id, &good(n), vec![record(&format!("10.2.{n}.0/24"), &["203.0.113.1"])]);
        net.packet(id, "10.1.0.9", eid(&good(n)));
    }
    for n in 0..20_000u32 {
        net.run_for(Duration::from_millis(5));
        net.packet(id, "10.1.0.9", eid(&good(n % 250)));
        let scanned = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n);
        net.packet(id, "10.1.0.66", crate::types::Eid::new(Default::default(), scanned.into()));
        let scan = format!("{scanned}/32");
        // One in three has a mapping, the others don't.
        let answer = match n % 3 {
            0 => record(&scan, &["203.0.113.9"]),
            _ => negative(&scan, 15, [Action::Drop, Action::NativelyForward][n as usize % 2]),
        };
        net.reply(id, vec![answer]);
        net.take_sent(id);
        assert!(net.nodes[id].control.map_cache_len() <= 400);
        assert!(net.nodes[id].fib.len() <= 401);
    }
    for n in 0..250 {
        assert_eq!(net.nodes[id].paths(eid(&good(n))).len(), 1, "{}", good(n));
    }
    assert_eq!(net.nodes[id].dropped(DropReason::CacheEvicted), 20_000 + 250 - 400);
}

#[test]
fn new_destinations_find_room_beside_a_scan_in_a_cache_full_of_busy_entries() {
    let (mut net, id) = start(ItrConfig { map_cache_limit: 80, ..ItrConfig::default() });
    for n in 0..80 {
        net.learn(id, &format!("10.2.{n}.9"), vec![record(&format!("10.2.{n}.0/24"), &["203.0.113.1"])]);
        net.packet(id, "10.1.0.9", eid(&format!("10.2.{n}.9")));
    }
    net.run_for(SECOND);
    let scan = |net: &mut Network, n: u32| {
        net.run_for(Duration::from_millis(1));
        net.learn(id, &format!("11.0.0.{n}"), vec![negative(&format!("11.0.0.{n}/32"), 15, Action::Drop)]);
    };
    (0..5).for_each(|n| scan(&mut net, n));
    net.run_for(Duration::from_millis(1));
    net.learn(id, "10.3.0.9", vec![record("10.3.0.0/24", &["203.0.113.1"])]);
    // An eighth of the room is for what has not shown yet whether it is used.
    (5..12).for_each(|n| scan(&mut net, n));
    assert_eq!(net.nodes[id].paths(eid("10.3.0.9")).len(), 1, "until its first packet comes");
    net.packet(id, "10.1.0.9", eid("10.3.0.9"));
    (12..200).for_each(|n| scan(&mut net, n));
    assert_eq!(net.nodes[id].paths(eid("10.3.0.9")).len(), 1, "and from then on it is as good as any");
    let busy = net.nodes[id].control.map_cache().filter(|(_, e)| !e.mapping.is_negative()).count();
    assert_eq!(busy, 70);
}

#[test]
fn static_entries_hold_whatever_is_learnt() {
    let statics = vec![
        fixed("10.9.0.0/16", &["203.0.113.9", "2001:db8:ffff::9"]),
        Mapping::negative(prefix("10.8.0.0/16"), Ttl::RECEIVER_DECIDES, Action::NativelyForward),
        Mapping::negative(prefix("[7]10.7.0.0/16"), Ttl::RECEIVER_DECIDES, Action::DropPolicyDenied),
    ];
    let itr = ItrConfig {
        static_entries: statics.clone(),
        idle_timeout: MINUTE,
        map_cache_limit: 5,
        ..ItrConfig::default()
    };
    let (mut net, id) = start(itr.clone());
    net.take_sent(id);
    assert!(matches!(net.packet(id, "10.1.0.9", eid("10.9.0.9")), Some(FibAction::Forward(_))));
    assert!(net.take_sent(id).is_empty(), "nothing to ask for");
    assert_eq!(net.nodes[id].paths(eid("10.9.0.9")).len(), 2);
    assert_eq!(net.nodes[id].natives.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.8.0.0/16"]);
    // Neither time, nor room, nor commands, nor Map-Replies, nor SMRs move them.
    net.run_for(48 * 60 * MINUTE / 60);
    for n in 0..20 {
        net.learn(id, &format!("10.3.{n}.9"), vec![record(&format!("10.3.{n}.0/24"), &["203.0.113.1"])]);
    }
    net.handle(id, Input::Command(Command::ClearMapCache(None)));
    net.handle(id, Input::Command(Command::ClearMapCache(Some(prefix("10.9.0.0/16")))));
    net.packet(id, "10.1.0.9", eid("10.10.0.9"));
    net.reply(
        id,
        vec![
            record("10.0.0.0/8", &["203.0.113.1"]),
            record("10.9.0.0/16", &["203.0.113.66"]),
            EidRecord { ttl: Ttl(0), ..record("10.8.0.0/16", &[]) },
        ],
    );
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyStatic), 1);
    assert_eq!(cached(&net, id), ["10.0.0.0/8", "10.8.0.0/16", "10.9.0.0/16", "[7]10.7.0.0/16"]);
    assert_eq!(net.nodes[id].paths(eid("10.9.0.9"))[0].0, ip("203.0.113.9"));
    let entry = net.nodes[id].control.map_cache_entry(&prefix("10.9.0.0/16")).unwrap();
    assert_eq!((entry.source, entry.responder), (MapCacheSource::Static, None));
    // The configuration does.
    let changed = vec![statics[0].clone(), fixed("10.8.0.0/16", &["203.0.113.8"])];
    net.reload(id, config(ItrConfig { static_entries: changed, ..itr.clone() }));
    assert_eq!(net.nodes[id].paths(eid("10.8.0.9"))[0].0, ip("203.0.113.8"));
    assert!(net.nodes[id].natives.is_empty());
    assert!(net.nodes[id].control.map_cache_entry(&prefix("[7]10.7.0.0/16")).is_none());
    net.reload(id, config(ItrConfig::default()));
    assert_eq!(cached(&net, id), ["10.0.0.0/8"]);
}

#[test]
fn a_cache_full_of_static_entries_takes_nothing_else() {
    let statics = (0..4).map(|n| fixed(&format!("10.9.{n}.0/24"), &["203.0.113.9"])).collect();
    let (mut net, id) =
        start(ItrConfig { static_entries: statics, map_cache_limit: 4, ..ItrConfig::default() });
    net.learn(id, "10.3.0.9", vec![record("10.3.0.0/16", &["203.0.113.1"])]);
    assert_eq!(cached(&net, id).len(), 4);
    assert_eq!(net.nodes[id].dropped(DropReason::CacheFull), 1);
}

#[test]
fn locators_that_lead_back_here_are_not_used() {
    let (mut net, id) = start(ItrConfig::default());
    // Our own locator among others, and alone.
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["198.51.100.1", "203.0.113.1"])]);
    assert_eq!(
        net.nodes[id].paths(eid("10.2.0.9")).iter().map(|p| p.0).collect::<Vec<_>>(),
        [ip("203.0.113.1")]
    );
    net.learn(id, "10.3.0.9", vec![record("10.3.0.0/16", &["2001:db8:ffff::a"])]);
    assert!(matches!(net.packet(id, "10.1.0.9", eid("10.3.0.9")), Some(FibAction::Negative(Action::Drop))));
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyLocatorOwn), 2);
    // Locators that are EIDs: of this site, and of the mapping itself.
    net.learn(id, "10.4.0.9", vec![record("10.4.0.0/16", &["10.1.0.77", "10.4.0.1", "203.0.113.1"])]);
    assert_eq!(
        net.nodes[id].paths(eid("10.4.0.9")).iter().map(|p| p.0).collect::<Vec<_>>(),
        [ip("203.0.113.1")]
    );
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyLocatorEid), 1);
    // Other instances' EIDs are other addresses, but for ours, and a default mapping covers every locator.
    let destination = crate::types::Eid::new(crate::types::InstanceId::new(7).unwrap(), ip("203.0.0.9"));
    net.packet(id, "10.1.0.9", destination);
    net.reply(id, vec![record("[7]203.0.0.0/16", &["203.0.0.1", "10.1.0.77"])]);
    assert_eq!(net.nodes[id].paths(destination).iter().map(|p| p.0).collect::<Vec<_>>(), [ip("203.0.0.1")]);
    net.learn(id, "192.0.2.200", vec![record("0.0.0.0/0", &["203.0.113.1"])]);
    assert_eq!(net.nodes[id].paths(eid("192.0.2.200")).len(), 1);
}

#[test]
fn a_record_with_as_many_locators_as_fit_costs_the_data_plane_no_more_than_32() {
    let (mut net, id) = start(ItrConfig::default());
    let mut answer = record("10.2.0.0/16", &[]);
    for n in 0..=254u8 {
        let rloc = format!("203.0.113.{n}");
        let mut one = record("10.2.0.0/16", &[&rloc]).locators.remove(0);
        // The best ones stand last.
        one.priority = 254 - n;
        answer.locators.push(one);
    }
    net.learn(id, "10.2.0.9", vec![answer]);
    let paths = net.nodes[id].paths(eid("10.2.0.9"));
    assert_eq!(paths.len(), 32);
    assert!(paths.iter().all(|p| p.2 < 32) && paths.iter().any(|p| p.2 == 0), "{paths:?}");
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyLocators), 1);
    let entry = net.nodes[id].control.map_cache_entry(&prefix("10.2.0.0/16")).unwrap();
    assert_eq!(entry.mapping.locators.len(), 255, "their positions are the locator-status-bits'");
    // The same locator again has no second share.
    net.learn(id, "10.3.0.9", vec![record("10.3.0.0/16", &["203.0.113.1", "203.0.113.2", "203.0.113.1"])]);
    assert_eq!(net.nodes[id].paths(eid("10.3.0.9")).len(), 2);
}

#[test]
fn records_of_both_families_in_one_reply_are_told_apart() {
    let (mut net, id) = start(ItrConfig::default());
    net.learn(
        id,
        "10.2.0.9",
        vec![
            record("10.2.0.0/16", &["2001:db8:ffff::2", "203.0.113.2"]),
            record("2001:db8:2::/48", &["203.0.113.66"]),
            record("::/0", &["203.0.113.66"]),
        ],
    );
    assert_eq!(cached(&net, id), ["10.2.0.0/16"]);
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyUnasked), 2);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9")).len(), 2);
}

#[test]
fn one_host_that_tries_everything_leaves_others_a_chance() {
    let mut config = config(ItrConfig::default());
    config.timers = Timers { pending_requests: 100, ..Timers::default() };
    let mut net = Network::new(7);
    let id = net.add(&["198.51.100.1"], config);
    for n in 0..250 {
        net.packet(id, "10.1.0.66", eid(&format!("10.2.0.{n}")));
    }
    assert_eq!(net.nodes[id].control.pending().count(), 75);
    assert_eq!(net.nodes[id].dropped(DropReason::PendingSource), 175);
    for n in 0..25 {
        net.packet(id, &format!("10.1.0.{n}"), eid(&format!("10.3.0.{n}")));
    }
    assert_eq!(net.nodes[id].control.pending().count(), 100);
    assert_eq!(net.nodes[id].dropped(DropReason::PendingFull), 0);
}

#[test]
fn a_request_that_names_somebody_else_draws_few_bytes_for_many() {
    // RFC 9301 §9: amplification. A site with many more specific prefixes of many locators, and a
    // Map-Request with the address of a third party as ITR-RLOC.
    let rlocs: Vec<String> = (0..20).map(|n| format!("203.0.113.{n}")).collect();
    let rlocs: Vec<&str> = rlocs.iter().map(String::as_str).collect();
    let mut eids: Vec<String> = (0..12).map(|n| format!("10.1.{n}.0/24")).collect();
    eids.push("10.1.0.0/16".into());
    let eids: Vec<&str> = eids.iter().map(String::as_str).collect();
    let mut config = xtr(&eids, &rlocs, "192.0.2.1", "k");
    config.timers.unverified_bytes_per_rloc = 2000;
    config.etr.as_mut().unwrap().map_servers.clear();
    let mut net = Network::new(7);
    let id = net.add(&["203.0.113.1"], config);
    net.run_for(SECOND);
    net.take_sent(id);
    let bytes = |net: &mut Network| -> usize {
        let sent = net.take_sent(id);
        assert!(sent.iter().all(|(t, m)| t.payload.len() <= 1200 && matches!(m, Message::MapReply(_))));
        sent.iter().map(|(t, _)| t.payload.len()).sum()
    };
    for n in 0..500u64 {
        net.run_for(Duration::from_millis(2));
        let request = map_request(&format!("10.1.{}.1/32", n % 250), "198.51.100.77", n);
        net.deliver(id, "192.0.2.66:4342", &if n % 2 == 0 { ecm(request) } else { encode(request) });
    }
    let towards_victim = bytes(&mut net);
    assert!((3000..=6000).contains(&towards_victim), "{towards_victim} bytes in a second");
    assert!(net.nodes[id].dropped(DropReason::RateUnverified) > 50);
    // Nor does a forged source that is the ITR-RLOC, too, draw more, be it with probes or by many records at
    // once.
    for probe in [false, true] {
        net.run_for(2 * SECOND);
        net.take_sent(id);
        for n in 0..500u64 {
            net.run_for(Duration::from_millis(2));
            let mut request = map_request(&format!("10.1.{}.1/32", n % 12), "192.0.2.67", n);
            if !probe {
                request.records.extend((0..8).map(|n| prefix(&format!("10.1.{n}.0/24")).into()));
            }
            net.deliver(id, "192.0.2.67:4342", &encode(MapRequest { probe, ..request }));
        }
        let drawn = bytes(&mut net);
        assert!((3000..=6000).contains(&drawn), "{drawn} bytes in a second");
    }
}

#[test]
fn who_asks_for_itself_and_draws_little_is_limited_in_messages_alone() {
    let mut config = xtr(&["10.1.0.0/16"], &["203.0.113.1"], "192.0.2.1", "k");
    config.timers.unverified_bytes_per_rloc = 100;
    config.timers.replies_per_record = 1000;
    config.etr.as_mut().unwrap().map_servers.clear();
    let mut net = Network::new(7);
    let id = net.add(&["203.0.113.1"], config);
    net.run_for(SECOND);
    net.take_sent(id);
    for probe in [false, true] {
        for n in 0..50u64 {
            let request = MapRequest { probe, ..map_request("10.1.0.1/32", "192.0.2.67", n) };
            net.deliver(id, "192.0.2.67:4342", &encode(request));
        }
        let sent = net.take_sent(id);
        assert_eq!(sent.iter().filter(|(_, m)| matches!(m, Message::MapReply(_))).count(), 50);
    }
}

#[test]
fn a_reply_is_good_once() {
    // The nonce is the protection against replayed Map-Replies: once it has been answered, nothing with it
    // counts.
    let (mut net, id) = start(ItrConfig::default());
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    let nonce = inner(&net.take_one(id).1).1.nonce;
    let reply = |rloc| {
        encode(MapReply { nonce, records: vec![record("10.2.0.0/16", &[rloc])], ..MapReply::default() })
    };
    net.deliver(id, "203.0.113.1:4342", &reply("203.0.113.1"));
    for _ in 0..10 {
        net.deliver(id, "203.0.113.66:4342", &reply("203.0.113.66"));
    }
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.1"));
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyNonce), 10);
}

#[test]
fn what_is_inside_a_static_entry_is_the_operators_alone() {
    // RFC 9301 §5.5 lists more specific prefixes beside the one asked for; what the configuration says of
    // them wins.
    let statics = vec![
        fixed("10.2.7.0/24", &["203.0.113.9"]),
        Mapping::negative(prefix("10.2.8.0/24"), Ttl::RECEIVER_DECIDES, Action::SendMapRequest),
    ];
    let itr = ItrConfig { static_entries: statics, map_cache_limit: 10, ..ItrConfig::default() };
    let (mut net, id) = start(itr.clone());
    let answer = || {
        let specifics = ["10.2.0.0/16", "10.2.7.128/25", "10.2.8.128/25", "10.2.9.0/24"];
        specifics.iter().map(|p| record(p, &["203.0.113.66"])).collect::<Vec<_>>()
    };
    net.learn(id, "10.2.0.9", answer());
    assert_eq!(
        cached(&net, id),
        ["10.2.0.0/16", "10.2.7.0/24", "10.2.8.0/24", "10.2.8.128/25", "10.2.9.0/24"],
        "but where it says that the mapping system is to be asked"
    );
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyStatic), 1);
    assert_eq!(net.nodes[id].paths(eid("10.2.7.200"))[0].0, ip("203.0.113.9"));
    // What was learnt before gives way when such an entry is configured.
    net.reload(id, config(ItrConfig::default()));
    net.handle(id, Input::Command(Command::ClearMapCache(None)));
    net.learn(id, "10.2.0.9", answer());
    assert_eq!(net.nodes[id].paths(eid("10.2.7.200"))[0].0, ip("203.0.113.66"));
    net.reload(id, config(itr));
    assert_eq!(net.nodes[id].paths(eid("10.2.7.200"))[0].0, ip("203.0.113.9"));
    assert!(!cached(&net, id).contains(&"10.2.7.128/25".to_owned()));
}

/// Answers every Map-Request that is waiting: natively-forward for the /24 around what is asked for.
fn answer_natively(net: &mut Network, id: usize, minutes: u32) -> usize {
    let sent = net.take_sent(id);
    let asked = sent.iter().filter(|(_, m)| matches!(m, Message::Ecm(_)));
    let asked: std::collections::BTreeMap<_, MapRequest> =
        asked.map(|(_, message)| inner(message).1).map(|request| (request.nonce, request)).collect();
    for request in asked.values() {
        let prefix = request.records[0].to_prefix().unwrap();
        let around = ipnet::IpNet::new(prefix.first().addr, 24).unwrap().trunc();
        let answer = negative(&around.to_string(), minutes, Action::NativelyForward);
        net.reply_nonce(id, request.nonce, vec![answer]);
    }
    asked.len()
}

/// A packet to a host of a non-LISP site: the kernel forwards it without our seeing it, or it is a miss and
/// lost.
fn natively(net: &mut Network, id: usize, destination: &str) -> bool {
    let kernel = net.nodes[id].natives.iter().any(|prefix| prefix.contains(&eid(destination)));
    if !kernel {
        net.packet(id, "10.1.0.9", eid(destination));
    }
    kernel
}

#[test]
fn a_non_lisp_destination_in_use_is_kept_beyond_its_time_and_let_go_when_nobody_comes_back() {
    let (mut net, id) = start(ItrConfig { map_cache_limit: 80, ..ItrConfig::default() });
    let mut lost = Vec::new();
    // Used all the time for four hours, with a time to live of fifteen minutes; asked for again before that
    // is over.
    for second in 0..4 * 3600 {
        if !natively(&mut net, id, "192.0.2.9") {
            lost.push(second);
        }
        answer_natively(&mut net, id, 15);
        net.run_for(SECOND);
    }
    // Three lives, then five, then nine, each a little shorter than its time to live …
    let hours: Vec<u64> = lost.iter().map(|second| second / 60).collect();
    assert_eq!(hours.len(), 3, "{hours:?}");
    assert!(hours[1] >= 40 && hours[2] - hours[1] >= 70, "{hours:?}");
    // … and not used any more: let go in the end, and not asked for again.
    net.run_for(Duration::from_secs(5 * 3600));
    net.take_sent(id);
    assert!(net.nodes[id].natives.is_empty());
}

#[test]
fn non_lisp_destinations_in_use_lose_nothing_beside_a_scan() {
    let (mut net, id) = start(ItrConfig { map_cache_limit: 400, ..ItrConfig::default() });
    // 20 of them were there before the scan, 10 come while it goes on; each has a packet every 0.6 seconds.
    let good = |n: u32| format!("192.0.{n}.9");
    for n in 0..20 {
        assert!(!natively(&mut net, id, &good(n)));
        answer_natively(&mut net, id, 60);
    }
    let mut lost = std::collections::BTreeMap::<u32, u32>::new();
    for n in 0..8000u32 {
        net.run_for(Duration::from_millis(20));
        let one = if n < 2000 { n % 20 } else { n % 30 };
        if !natively(&mut net, id, &good(one)) {
            *lost.entry(one).or_default() += 1;
        }
        let scanned = std::net::Ipv4Addr::from_bits(0x0b00_0000 + (n << 8));
        net.packet(id, "10.1.0.66", eid(&scanned.to_string()));
        answer_natively(&mut net, id, 60);
        assert!(net.nodes[id].control.map_cache_len() <= 400);
    }
    // Those that were there lose nothing, the others one packet at first and perhaps one until they are
    // known.
    assert!(lost.keys().all(|n| *n >= 20), "{lost:?}");
    assert!(lost.len() == 10 && lost.values().all(|n| *n <= 2), "{lost:?}");
    // The scan's leftovers are asked for again by the share that is kept alone, and twice at most.
    net.take_sent(id);
    let mut asked = 0;
    for _ in 0..5 * 360 {
        net.run_for(10 * SECOND);
        asked += answer_natively(&mut net, id, 60);
    }
    assert!(asked <= 400 / 8 * 4, "{asked}");
}

#[test]
fn which_locators_are_eids_follows_our_own_prefixes() {
    let (mut net, id) = start(ItrConfig::default());
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1", "10.9.0.1"])]);
    let rlocs = |net: &Network| net.nodes[id].paths(eid("10.2.0.9")).iter().map(|p| p.0).collect::<Vec<_>>();
    let both = [ip("203.0.113.1"), ip("10.9.0.1")];
    assert_eq!(rlocs(&net), both);
    // A prefix of ours around a locator, by a reload: packets to that would come back to be encapsulated
    // again.
    let mut ours = config(ItrConfig::default());
    ours.database.push(database("10.9.0.0/16", vec![locator("198.51.100.1", 1, 100)]));
    net.reload(id, ours.clone());
    assert_eq!(rlocs(&net), [ip("203.0.113.1")]);
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyLocatorEid), 1);
    net.reload(id, config(ItrConfig::default()));
    assert_eq!(rlocs(&net), both);
    // The same of what this router is a proxy for, and what was learnt stays.
    ours.database.pop();
    ours.itr.as_mut().unwrap().proxy_for = vec![prefix("10.9.0.0/16")];
    net.reload(id, ours);
    assert_eq!(rlocs(&net), [ip("203.0.113.1")]);
}

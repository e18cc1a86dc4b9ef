//! What data packets say in their headers, and what follows from it.

use std::net::IpAddr;
use std::time::Duration;

use crate::fib::{HeaderNonce, Punt, SourceCheck};
use crate::proto::config::*;
use crate::proto::event::Event;
use crate::proto::testing::*;
use crate::proto::xtr::MapCacheSource;
use crate::types::{Action, MapVersion};
use crate::wire::{EidRecord, MapRequest, Message};

const SECOND: Duration = Duration::from_secs(1);
const MS: &str = "203.0.113.1";

/// An xTR of the site 10.1.0.0/16 with this of its header's fields on.
fn one(header: HeaderConfig) -> (Network, usize) {
    let mut net = Network::new(1);
    let config = ControlConfig { header, ..xtr(&["10.1.0.0/16"], &["198.51.100.1"], MS, "s") };
    let a = net.add(&["198.51.100.1"], config);
    net.take_sent(a);
    (net, a)
}

fn versioned(version: u16, eid: &str, rlocs: &[&str]) -> EidRecord {
    EidRecord { version: MapVersion::new(version), ..record(eid, rlocs) }
}

fn requests(net: &mut Network, id: usize) -> Vec<MapRequest> {
    let sent = net.take_sent(id);
    sent.iter()
        .filter_map(|(_, message)| match message {
            Message::Ecm(_) => Some(inner(message).1),
            Message::MapRequest(request) => Some(request.clone()),
            _ => None,
        })
        .collect()
}

fn rlocs(net: &Network, id: usize, destination: &str) -> Vec<IpAddr> {
    net.nodes[id].paths(eid(destination)).into_iter().map(|(rloc, ..)| rloc).collect()
}

#[test]
fn nothing_is_said_of_sites_unless_an_option_needs_it() {
    let (mut net, a) = one(HeaderConfig::default());
    net.learn(a, "10.2.0.1", vec![versioned(5, "10.2.0.0/16", &["192.0.2.1", "192.0.2.2"])]);
    assert_eq!(net.nodes[a].sites.len(), 0);
    // Switched on by a reload, what is known already is told.
    let mut config = net.nodes[a].control.config.clone();
    config.header.source_check = SourceCheck::Strict;
    net.reload(a, config.clone());
    let site = net.nodes[a].sites.get(&prefix("10.2.0.0/16")).unwrap();
    assert_eq!(
        (&site.rlocs[..], site.version),
        (&[ip("192.0.2.1"), ip("192.0.2.2")][..], MapVersion::new(5))
    );
    assert!(net.nodes[a].sites.get(&prefix("10.1.0.0/16")).unwrap().local);
    // A negative mapping too, as it says that nobody has the EIDs.
    net.learn(a, "10.3.0.1", vec![negative("10.3.0.0/16", 15, Action::Drop)]);
    assert!(net.nodes[a].sites.get(&prefix("10.3.0.0/16")).unwrap().rlocs.is_empty());
    config.header = HeaderConfig::default();
    net.reload(a, config);
    assert_eq!(net.nodes[a].sites.len(), 0);
}

#[test]
fn an_unverified_source_is_asked_for_within_bounds() {
    let (mut net, a) = one(HeaderConfig { source_check: SourceCheck::Known, ..HeaderConfig::default() });
    let punt = |source: &str| Punt::Unverified {
        source: eid(source),
        destination: ip("10.1.0.9"),
        rloc: ip("192.0.2.1"),
    };
    net.handle(a, crate::proto::control::Input::Punt(punt("10.2.0.1")));
    let asked = requests(&mut net, a);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].records, [eid("10.2.0.1").to_prefix().into()]);
    net.reply_nonce(a, asked[0].nonce, vec![record("10.2.0.0/16", &["192.0.2.1"])]);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), [ip("192.0.2.1")]);
    // Known now, our own, or nobody's.
    for source in ["10.2.0.2", "10.1.0.1", "224.0.0.1"] {
        net.handle(a, crate::proto::control::Input::Punt(punt(source)));
    }
    assert_eq!(requests(&mut net, a).len(), 0);
    // A flood of forged sources draws a bounded number of requests, and leaves room for real misses.
    for n in 0..2000u32 {
        if n == 1000 {
            assert!(requests(&mut net, a).len() < 200);
            net.run_for(Duration::from_secs(2));
        }
        let source = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 256).to_string();
        net.handle(a, crate::proto::control::Input::Punt(punt(&source)));
    }
    assert_eq!(net.nodes[a].control.pending().count(), 256);
    net.packet(a, "10.1.0.9", eid("10.4.0.1"));
    assert_eq!(net.nodes[a].control.pending().count(), 257);
}

#[test]
fn locator_status_bits_take_a_locator_out_and_damping_holds_it_back() {
    let (mut net, a) = one(HeaderConfig { locator_status: true, ..HeaderConfig::default() });
    net.learn(a, "10.2.0.1", vec![record("10.2.0.0/16", &["192.0.2.1", "192.0.2.2"])]);
    net.learn(a, "10.3.0.1", vec![record("10.3.0.0/16", &["192.0.2.1", "192.0.2.2"])]);
    let both = [ip("192.0.2.1"), ip("192.0.2.2")];
    let say = |net: &mut Network, rloc: &str, status: u32| {
        let punt = Punt::LocatorStatus { source: eid("10.2.0.7"), rloc: ip(rloc), status };
        net.handle(a, crate::proto::control::Input::Punt(punt));
    };
    say(&mut net, "192.0.2.9", !1);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both, "not one of its locators says so");
    say(&mut net, "192.0.2.2", !1);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both[1..]);
    assert_eq!(rlocs(&net, a, "10.3.0.1"), both, "another site's locators are its own business");
    assert!(
        net.nodes[a]
            .events
            .iter()
            .any(|e| matches!(e, Event::LocatorStatus { down, .. } if *down == both[..1]))
    );

    // It says that it is back, which counts after five minutes.
    net.run_for(SECOND);
    say(&mut net, "192.0.2.2", !0);
    net.run_for(SECOND * 298);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both[1..]);
    net.run_for(SECOND * 2);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both);

    // Where nothing would be left, what the bits say does not count: they may be forged.
    say(&mut net, "192.0.2.2", !3);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both);
    say(&mut net, "192.0.2.2", !2);
    net.run_for(SECOND * 300);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both[..1]);
    // Nor does a fresh mapping wipe it out: where the entry was gone meanwhile, the same bits count for the
    // new one.
    net.packet(a, "10.1.0.9", eid("10.2.0.1"));
    let clear = crate::proto::control::Command::ClearMapCache(None);
    net.handle(a, crate::proto::control::Input::Command(clear));
    assert!(rlocs(&net, a, "10.2.0.1").is_empty());
    net.learn(a, "10.2.0.1", vec![record("10.2.0.0/16", &["192.0.2.1", "192.0.2.2"])]);
    say(&mut net, "192.0.2.1", !2);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both[..1]);
    // Switching it off does.
    let mut config = net.nodes[a].control.config.clone();
    config.header.locator_status = false;
    net.reload(a, config);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both);
}

#[test]
fn our_own_locators_have_their_bits_in_the_record_s_order() {
    let (mut net, a) = one(HeaderConfig { locator_status: true, ..HeaderConfig::default() });
    let status = |net: &Network| net.nodes[a].sites.get(&prefix("10.1.0.0/16")).unwrap().status;
    assert_eq!(status(&net), Some(0b1));
    let mut config = net.nodes[a].control.config.clone();
    let other = LocatorConfig { local: false, ..locator("192.0.2.77", 1, 100) };
    config.database[0].locators.push(other);
    net.reload(a, config.clone());
    assert_eq!(status(&net), Some(0b11));
    config.header.locator_status = false;
    config.header.source_check = SourceCheck::Known;
    net.reload(a, config);
    assert_eq!(status(&net), None);
}

#[test]
fn the_version_changes_with_the_mapping_and_with_nothing_else() {
    let (mut net, a) = one(HeaderConfig { map_version: true, ..HeaderConfig::default() });
    let version = |net: &Network| net.nodes[a].control.database().next().unwrap().entry.mapping().version;
    let first = version(&net);
    assert!(!first.is_none());
    assert_eq!(net.nodes[a].sites.get(&prefix("10.1.0.0/16")).unwrap().version, first);
    net.run_for(SECOND * 600);
    let mut config = net.nodes[a].control.config.clone();
    net.reload(a, config.clone());
    assert_eq!(version(&net), first);

    config.database[0].locators[0].weight = 50;
    net.reload(a, config.clone());
    assert_eq!(version(&net), first.next());
    net.take_sent(a);
    net.run_for(SECOND);
    // It is what Map-Registers and Map-Replies say, and what the data plane compares with.
    let sent = net.take_sent(a);
    let registered = sent.iter().find_map(|(_, message)| match message {
        Message::MapRegister(register) => Some(register.records[0].version),
        _ => None,
    });
    assert_eq!(registered, Some(first.next()));
    net.deliver(a, "192.0.2.9:4342", &encode(map_request("10.1.0.1/32", "192.0.2.9", 3)));
    let Message::MapReply(reply) = net.take_one(a).1 else { panic!("no reply") };
    assert_eq!((reply.records[0].version, reply.echo_nonce), (first.next(), false));
    assert_eq!(net.nodes[a].sites.get(&prefix("10.1.0.0/16")).unwrap().version, first.next());

    // Counted by the operator, it is what he says.
    config.header.versions = [(prefix("10.1.0.0/16"), MapVersion::new(77))].into();
    net.reload(a, config.clone());
    assert_eq!(version(&net), MapVersion::new(77));
    config.header.map_version = false;
    net.reload(a, config);
    assert_eq!(version(&net), MapVersion::NONE);
}

#[test]
fn the_version_goes_on_over_a_restart() {
    let mut net = Network::new(1);
    let header = HeaderConfig { map_version: true, ..HeaderConfig::default() };
    let mut config = ControlConfig { header, ..xtr(&["10.1.0.0/16"], &["198.51.100.1"], MS, "s") };
    let a = net.add(&["198.51.100.1"], config.clone());
    net.give_disk(a);
    let version = |net: &Network| net.nodes[a].control.database().next().unwrap().entry.mapping().version;
    let first = version(&net);
    for weight in 1..=5 {
        config.database[0].locators[0].weight = weight;
        net.reload(a, config.clone());
    }
    let last = (0..5).fold(first, |version, _| version.next());
    assert_eq!(version(&net), last);
    // Even where the clock stands still, or has gone back.
    net.power_cut(a, config.clone(), 1 << 20);
    assert_eq!(version(&net), last, "the same mapping has the same version");
    config.database[0].locators[0].weight = 77;
    net.power_cut(a, config, 1 << 20);
    assert_eq!(version(&net), last.next(), "and another one the next");
}

#[test]
fn a_stale_version_is_not_answered_where_smrs_are_switched_off() {
    let (mut net, a) = one(HeaderConfig { map_version: true, ..HeaderConfig::default() });
    let mut config = net.nodes[a].control.config.clone();
    config.timers.smr_attempts = 0;
    net.reload(a, config);
    net.run_for(SECOND * 2);
    net.take_sent(a);
    let rloc = ip("192.0.2.1");
    let punt = Punt::StaleVersion { source: eid("10.2.0.1"), destination: ip("10.1.0.5"), rloc };
    net.handle(a, crate::proto::control::Input::Punt(punt));
    net.run_for(SECOND * 10);
    assert!(!requests(&mut net, a).iter().any(|request| request.smr));
}

#[test]
fn a_stale_version_is_answered_by_one_smr_per_rloc_and_interval() {
    let (mut net, a) = one(HeaderConfig { map_version: true, ..HeaderConfig::default() });
    net.run_for(SECOND * 2);
    net.take_sent(a);
    let stale = |net: &mut Network, rloc: &str| {
        let punt =
            Punt::StaleVersion { source: eid("10.2.0.1"), destination: ip("10.1.0.5"), rloc: ip(rloc) };
        net.handle(a, crate::proto::control::Input::Punt(punt));
        let sent = net.take_sent(a);
        sent.into_iter().filter(|(_, m)| matches!(m, Message::MapRequest(_))).collect::<Vec<_>>()
    };
    let sent = stale(&mut net, "192.0.2.1");
    let [(transmit, Message::MapRequest(smr))] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(transmit.destination, "192.0.2.1:4342".parse().unwrap());
    assert!(smr.smr && !smr.probe);
    assert_eq!(smr.records, [prefix("10.1.0.0/16").into()]);
    assert_eq!(stale(&mut net, "192.0.2.1").len(), 0);
    assert_eq!(stale(&mut net, "192.0.2.2").len(), 1, "another RLOC has its own limit");
    // Said again while it goes on, until the other side asks.
    net.run_for(SECOND * 3);
    assert_eq!(requests(&mut net, a).len(), 2);
    for rloc in ["192.0.2.1", "192.0.2.2"] {
        let asks = MapRequest { smr_invoked: true, ..map_request("10.1.0.0/16", rloc, 7) };
        net.deliver(a, "203.0.113.1:4342", &ecm(asks));
    }
    net.run_for(SECOND * 30);
    assert_eq!(requests(&mut net, a).len(), 0);
    assert_eq!(stale(&mut net, "192.0.2.1").len(), 1);
    assert_eq!(stale(&mut net, "198.51.100.1").len(), 0, "not to ourselves");
    assert_eq!(stale(&mut net, "2001:db8::1").len(), 0, "nor where no reply could come from");
}

#[test]
fn a_newer_version_has_the_mapping_asked_for_again_at_a_limited_rate() {
    let (mut net, a) = one(HeaderConfig { map_version: true, ..HeaderConfig::default() });
    net.learn(a, "10.2.0.1", vec![versioned(5, "10.2.0.0/16", &["192.0.2.1"])]);
    net.run_for(SECOND);
    net.take_sent(a);
    let newer = |net: &mut Network| {
        net.handle(a, crate::proto::control::Input::Punt(Punt::NewVersion { source: eid("10.2.0.9") }));
        requests(net, a)
    };
    let asked = newer(&mut net);
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].smr_invoked, &asked[0].records[..]), (false, &[prefix("10.2.0.0/16").into()][..]));
    let nonce = asked[0].nonce;
    assert_eq!(newer(&mut net).len(), 0);
    net.reply_nonce(a, nonce, vec![versioned(6, "10.2.0.0/16", &["192.0.2.2"])]);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), [ip("192.0.2.2")]);
    assert_eq!(net.nodes[a].sites.get(&prefix("10.2.0.0/16")).unwrap().version, MapVersion::new(6));
    assert_eq!(newer(&mut net).len(), 0, "once a second");
    net.run_for(SECOND);
    assert_eq!(newer(&mut net).len(), 1);
}

/// A site that echoes, with two locators.
fn echoing() -> (Network, usize) {
    let (mut net, a) = one(HeaderConfig { echo_nonce: true, ..HeaderConfig::default() });
    net.packet(a, "10.1.0.9", eid("10.2.0.1"));
    let nonce = requests(&mut net, a)[0].nonce;
    let records = vec![record("10.2.0.0/16", &["192.0.2.1", "192.0.2.2"])];
    let reply = crate::wire::MapReply { echo_nonce: true, nonce, records, ..Default::default() };
    net.deliver(a, "192.0.2.1:4342", &encode(reply));
    assert!(net.nodes[a].sites.get(&prefix("10.2.0.0/16")).unwrap().echoes);
    (net, a)
}

fn due(net: &mut Network, a: usize) {
    let punt = Punt::EchoDue { rloc: ip("192.0.2.1"), eid: eid("10.2.0.1") };
    net.handle(a, crate::proto::control::Input::Punt(punt));
}

/// A packet leaves by the locator that is asked.
fn leaves(net: &Network, a: usize) {
    let nonce = net.nodes[a].nonces.get(&ip("192.0.2.1")).copied();
    let state = &net.nodes[a].sites.get(&prefix("10.2.0.0/16")).unwrap().state;
    assert_eq!(state.nonce(nonce, net.now), nonce.map(HeaderNonce::Ask));
}

#[test]
fn who_echoes_says_so_in_its_replies() {
    let (mut net, a) = echoing();
    net.take_sent(a);
    net.deliver(a, "192.0.2.9:4342", &encode(map_request("10.1.0.1/32", "192.0.2.9", 3)));
    let Message::MapReply(reply) = net.take_one(a).1 else { panic!("no reply") };
    assert!(reply.echo_nonce);
    // A proxy-reply of a Map-Server says nothing of the site.
    net.learn(a, "10.3.0.1", vec![record("10.3.0.0/16", &["192.0.2.3"])]);
    assert!(!net.nodes[a].sites.get(&prefix("10.3.0.0/16")).unwrap().echoes);
}

#[test]
fn an_echo_ends_the_request_and_its_lack_counts_only_if_packets_come() {
    let (mut net, a) = echoing();
    let both = [ip("192.0.2.1"), ip("192.0.2.2")];
    due(&mut net, a);
    due(&mut net, a);
    assert_eq!(net.nodes[a].nonces.len(), 1);
    leaves(&net, a);
    net.handle(a, crate::proto::control::Input::Punt(Punt::Echoed { rloc: ip("192.0.2.1") }));
    assert_eq!(net.nodes[a].nonces.len(), 0);
    net.run_for(SECOND * 2);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both);

    // Nothing was sent: nothing is known.
    due(&mut net, a);
    net.run_for(SECOND * 2);
    assert_eq!((net.nodes[a].nonces.len(), rlocs(&net, a, "10.2.0.1")), (0, both.to_vec()));

    // Nothing comes back at all, as where packets go one way (RFC 9300 §10.1: must not be taken for a
    // failure).
    due(&mut net, a);
    leaves(&net, a);
    net.run_for(SECOND * 2);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both);
    assert!(net.nodes[a].events.iter().any(|e| matches!(e, Event::EchoMissing { dark: false, .. })));

    // What came may have been on its way before the nonce was.
    let heard = |net: &Network| net.nodes[a].sites.get(&prefix("10.2.0.0/16")).unwrap().state.hear(net.now);
    due(&mut net, a);
    net.run_for(SECOND * 8 / 10);
    leaves(&net, a);
    net.run_for(SECOND / 10);
    heard(&net);
    net.run_for(SECOND);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both);

    // Packets come back, but none with the nonce.
    due(&mut net, a);
    leaves(&net, a);
    net.run_for(SECOND * 9 / 10);
    heard(&net);
    net.run_for(SECOND);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both[1..]);
    assert!(net.nodes[a].events.iter().any(|e| matches!(e, Event::EchoMissing { dark: true, .. })));
    // It is tried again after a while, as nothing else would find out.
    net.run_for(SECOND * 60);
    assert_eq!(rlocs(&net, a, "10.2.0.1"), both);
}

#[test]
fn switched_off_nothing_is_asked_any_more() {
    let (mut net, a) = echoing();
    due(&mut net, a);
    let mut config = net.nodes[a].control.config.clone();
    config.header.echo_nonce = false;
    net.reload(a, config);
    assert_eq!((net.nodes[a].nonces.len(), net.nodes[a].options.any()), (0, false));
    due(&mut net, a);
    assert_eq!(net.nodes[a].nonces.len(), 0);
}

/// An xTR that gleans.
fn gleaning() -> (Network, usize) {
    let mut net = Network::new(1);
    let mut config = xtr(&["10.1.0.0/16"], &["198.51.100.1"], MS, "s");
    config.itr.as_mut().unwrap().glean = true;
    let a = net.add(&["198.51.100.1"], config);
    net.take_sent(a);
    (net, a)
}

fn unverified(net: &mut Network, a: usize, source: &str, rloc: &str) {
    let punt = Punt::Unverified { source: eid(source), destination: ip("10.1.0.9"), rloc: ip(rloc) };
    net.handle(a, crate::proto::control::Input::Punt(punt));
}

#[test]
fn what_is_gleaned_is_used_at_once_and_replaced_by_what_is_verified() {
    let (mut net, a) = gleaning();
    assert!(net.nodes[a].options.glean);
    unverified(&mut net, a, "10.2.0.1", "192.0.2.1");
    unverified(&mut net, a, "10.2.0.2", "192.0.2.1");
    assert_eq!(net.nodes[a].paths(eid("10.2.0.1")), [(ip("192.0.2.1"), ip("198.51.100.1"), 0, 0)]);
    let entry = net.nodes[a].control.map_cache_entry(&prefix("10.2.0.1/32")).unwrap();
    assert_eq!((entry.source, entry.responder), (MapCacheSource::Gleaned, None));
    let asked = requests(&mut net, a);
    assert_eq!(asked.len(), 2, "both are verified");
    net.run_for(SECOND / 2);
    net.reply_nonce(a, asked[0].nonce, vec![record("10.2.0.0/16", &["192.0.2.7"])]);
    // The answer covers both, and outlives what was gleaned.
    for destination in ["10.2.0.1", "10.2.0.2"] {
        assert_eq!(rlocs(&net, a, destination), [ip("192.0.2.7")]);
    }
    net.run_for(SECOND * 60);
    assert_eq!(rlocs(&net, a, "10.2.0.2"), [ip("192.0.2.7")]);
    // What is known is never gleaned, nor is what is our own.
    unverified(&mut net, a, "10.2.0.9", "192.0.2.66");
    unverified(&mut net, a, "10.1.0.77", "192.0.2.66");
    assert_eq!(net.nodes[a].control.map_cache().count(), 1);
}

#[test]
fn what_is_not_verified_is_used_for_three_seconds_and_no_longer() {
    let (mut net, a) = gleaning();
    unverified(&mut net, a, "10.2.0.1", "192.0.2.1");
    net.run_for(SECOND * 29 / 10);
    assert_eq!(rlocs(&net, a, "10.2.0.1").len(), 1);
    net.run_for(SECOND / 5);
    assert_eq!(rlocs(&net, a, "10.2.0.1").len(), 0);
    unverified(&mut net, a, "10.2.0.1", "192.0.2.1");
    assert_eq!(rlocs(&net, a, "10.2.0.1").len(), 0, "not again while nobody answers");
    // A negative answer ends it at once.
    unverified(&mut net, a, "10.3.0.1", "192.0.2.1");
    assert_eq!(rlocs(&net, a, "10.3.0.1").len(), 1);
    let nonce = requests(&mut net, a).last().unwrap().nonce;
    net.reply_nonce(a, nonce, vec![negative("10.3.0.0/16", 15, Action::Drop)]);
    assert_eq!(rlocs(&net, a, "10.3.0.1").len(), 0);
}

#[test]
fn gleaning_is_bounded_and_believes_no_impossible_locator() {
    let (mut net, a) = gleaning();
    for rloc in ["198.51.100.1", "224.0.0.1", "127.0.0.1", "2001:db8::1"] {
        unverified(&mut net, a, "10.2.0.1", rloc);
        assert_eq!(rlocs(&net, a, "10.2.0.1").len(), 0, "{rloc}");
    }
    for n in 0..3000u32 {
        let source = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 256).to_string();
        unverified(&mut net, a, &source, "192.0.2.1");
    }
    let gleaned = net.nodes[a].control.map_cache().count();
    assert!(gleaned <= 256, "{gleaned} are no more than may be verified at once");
    net.run_for(SECOND * 4);
    assert_eq!(net.nodes[a].control.map_cache().count(), 0);
}

#[test]
fn a_map_request_is_gleaned_from_too() {
    let (mut net, a) = gleaning();
    let request =
        MapRequest { source_eid: eid("10.2.0.1").into(), ..map_request("10.1.0.5/32", "192.0.2.1", 9) };
    net.deliver(a, "203.0.113.1:4342", &ecm(request.clone()));
    assert_eq!(rlocs(&net, a, "10.2.0.1"), [ip("192.0.2.1")]);
    let mut config = net.nodes[a].control.config.clone();
    config.itr.as_mut().unwrap().glean = false;
    net.reload(a, config);
    net.run_for(SECOND * 4);
    net.deliver(a, "203.0.113.1:4342", &ecm(request));
    assert_eq!(rlocs(&net, a, "10.2.0.1").len(), 0);
}

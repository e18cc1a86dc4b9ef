//! Two and three xTRs of a site in virtual time: what the others know, what it takes, and what nobody may believe.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;

use crate::fib::{FibAction, Punt};
use crate::proto::config::{ControlConfig, SyncConfig, SyncMode};
use crate::proto::control::Input;
use crate::proto::event::Event;
use crate::proto::redundancy::sync::{Member, MemberState, outgoing};
use crate::proto::stats::{DropReason, MessageKind};
use crate::proto::testing::*;
use crate::proto::xtr::MapCacheSource;
use crate::types::{Action, Nonce};
use crate::wire::{self, EidRecord, MapRequest, Message, SyncMapping, SyncRecord};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
const ADDRESSES: [&str; 3] = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];

/// The `n`-th of `count` xTRs of the site.
fn config(n: usize, count: usize) -> ControlConfig {
    let mut config = xtr(&["10.1.0.0/16"], &[ADDRESSES[n]], "192.0.2.1", "k");
    config.etr = None;
    if let Some(itr) = &mut config.itr {
        itr.map_cache_limit = 50_000;
    }
    let others = ADDRESSES[..count].iter().filter(|a| **a != ADDRESSES[n]).map(|a| ip(a)).collect();
    config.sync = Some(SyncConfig::new(others, vec![key("site")]));
    config
}

fn with(n: usize, count: usize, change: impl Fn(&mut SyncConfig)) -> ControlConfig {
    let mut config = config(n, count);
    config.sync.iter_mut().for_each(change);
    config
}

/// Two xTRs that know of each other.
fn pair(change: impl Fn(&mut SyncConfig)) -> Network {
    let mut net = Network::new(3);
    for (n, address) in ADDRESSES.iter().take(2).enumerate() {
        net.add(&[address], with(n, 2, &change));
    }
    net.run_for(SECOND);
    for n in 0..2 {
        assert_eq!(member(&net, n, 1 - n).state, MemberState::Up);
        assert!(!member(&net, n, 1 - n).is_awaited());
    }
    net.sent.clear();
    net
}

fn member(net: &Network, of: usize, which: usize) -> &Member {
    net.nodes[of].control.sync_members().find(|m| m.address == ip(ADDRESSES[which])).expect("a member")
}

fn ignored(net: &Network, of: usize, which: usize, reason: DropReason) -> u64 {
    member(net, of, which).counters.ignored.get(&reason).copied().unwrap_or(0)
}

/// EID-prefix, source, and when it ends in milliseconds, of all entries.
fn cache(net: &Network, id: usize) -> Vec<(String, MapCacheSource, u64)> {
    let entries = net.nodes[id].control.map_cache();
    entries.map(|(p, e)| (p.to_string(), e.source, e.expires.as_nanos() / 1_000_000)).collect()
}

fn names(net: &Network, id: usize) -> Vec<String> {
    cache(net, id).into_iter().map(|(name, ..)| name).collect()
}

fn assert_same(net: &Network, a: usize, b: usize) {
    let (of_a, of_b) = (cache(net, a), cache(net, b));
    assert_eq!(names(net, a), names(net, b));
    for (a, b) in of_a.iter().zip(&of_b) {
        assert!(a.2.abs_diff(b.2) <= 50, "{a:?} {b:?}");
    }
}

fn source(net: &Network, id: usize, eid_prefix: &str) -> Option<MapCacheSource> {
    net.nodes[id].control.map_cache_entry(&prefix(eid_prefix)).map(|entry| entry.source)
}

/// The CacheSyncs with records other than Hellos that a router has sent, with their destination.
fn told(net: &Network, id: usize) -> Vec<(SocketAddr, wire::CacheSync)> {
    let syncs = net.sent_by(id).filter_map(|(_, transmit, message)| match message {
        Message::CacheSync(sync) => Some((transmit.destination, sync.clone())),
        _ => None,
    });
    syncs.filter(|(_, s)| !s.records.iter().all(|r| matches!(r, SyncRecord::Hello { .. }))).collect()
}

fn requests(net: &Network, id: usize) -> usize {
    net.sent_by(id).filter(|(_, _, message)| matches!(message, Message::Ecm(_))).count()
}

fn far(n: usize) -> (String, String) {
    (format!("10.{}.{}.9", 2 + n / 250, n % 250), format!("10.{}.{}.0/24", 2 + n / 250, n % 250))
}

/// Has an ITR learn `count` mappings, of different sites.
fn learn(net: &mut Network, id: usize, count: usize, pause: Duration) {
    learn_some(net, id, 0..count, pause);
}

fn learn_some(net: &mut Network, id: usize, which: Range<usize>, pause: Duration) {
    for n in which {
        let (destination, eid_prefix) = far(n);
        net.learn(id, &destination, vec![record(&eid_prefix, &["203.0.113.9", "203.0.113.10"])]);
        net.run_for(pause);
    }
}

/// Has an ITR ask again for an entry, as a locator of it sends an SMR.
fn solicit(net: &mut Network, id: usize, eid_prefix: &str, rloc: &str) {
    let smr = MapRequest { smr: true, ..map_request(eid_prefix, rloc, 1) };
    net.deliver(id, &format!("{rloc}:4342"), &encode(smr));
}

#[test]
fn what_one_learns_the_other_knows_until_the_same_moment() {
    let mut net = pair(|_| ());
    net.learn(0, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.learn(0, "10.99.0.9", vec![negative("10.96.0.0/11", 15, Action::NativelyForward)]);
    net.run_for(SECOND);
    assert_same(&net, 0, 1);
    assert_eq!(source(&net, 1, "10.2.0.0/16"), Some(MapCacheSource::Synchronised));
    assert_eq!(net.nodes[1].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.9"), "packets find their way at once");
    assert!(net.nodes[1].natives.contains(&prefix("10.96.0.0/11")), "negative ones too");
    let entry = net.nodes[1].control.map_cache_entry(&prefix("10.2.0.0/16")).unwrap();
    assert_eq!(entry.responder, Some(ip(ADDRESSES[0])));
    assert!(told(&net, 1).is_empty(), "nothing echoes");
    assert_eq!(requests(&net, 1), 0);
    // Half an hour later the negative one is gone at both, at the same time.
    net.run_for(14 * 60 * SECOND);
    assert_eq!((names(&net, 0).len(), names(&net, 1).len()), (2, 2));
    net.run_for(60 * SECOND);
    assert_eq!((names(&net, 0).len(), names(&net, 1).len()), (1, 1));
}

#[test]
fn a_packet_that_waits_for_a_mapping_does_so_no_more() {
    let mut net = pair(|_| ());
    net.packet(1, "10.1.0.9", eid("10.2.0.9"));
    assert_eq!(net.nodes[1].control.pending().count(), 1);
    net.learn(0, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(10 * MILLI);
    assert_eq!(net.nodes[1].control.pending().count(), 0);
    assert!(matches!(net.packet(1, "10.1.0.9", eid("10.2.0.9")), Some(FibAction::Forward(_))));
}

#[test]
fn smart_tells_what_changed_and_naive_everything() {
    for (mode, ack) in
        [(SyncMode::Smart, true), (SyncMode::Smart, false), (SyncMode::Naive, true), (SyncMode::Naive, false)]
    {
        let mut net = pair(|sync| (sync.mode, sync.ack) = (mode, ack));
        learn(&mut net, 0, 20, 100 * MILLI);
        assert_same(&net, 0, 1);
        let told = told(&net, 0);
        let records = told.iter().flat_map(|(_, sync)| &sync.records);
        let records = records.filter(|r| matches!(r, SyncRecord::Mapping(_))).count();
        let acks = net.sent_by(1).filter(|(_, _, m)| matches!(m, Message::CacheSyncAck(_))).count();
        let naive = mode == SyncMode::Naive;
        assert_eq!(told.len(), 20, "{mode:?}: one message each while all fits into one");
        assert_eq!(records, if naive { (1..=20).sum() } else { 20 }, "{mode:?}");
        assert!(told.iter().all(|(_, s)| (s.naive, s.smart, s.want_ack) == (naive, !naive, ack)), "{mode:?}");
        assert!(if ack { acks >= 20 } else { acks < 3 }, "{mode:?} {ack}: {acks}");
    }
}

#[test]
fn loss_duplication_and_reordering_are_made_good() {
    for seed in 0..5 {
        let mut net = Network::new(seed);
        net.faults = Faults { loss: 0.3, duplication: 0.3, delay: (MILLI, 300 * MILLI) };
        for (n, address) in ADDRESSES.iter().take(2).enumerate() {
            net.add(&[address], config(n, 2));
        }
        learn(&mut net, 0, 60, 50 * MILLI);
        learn_some(&mut net, 1, 60..80, 50 * MILLI);
        // A member that does not answer for long is given up, and gets everything later.
        net.faults.loss = 0.0;
        net.run_for(30 * SECOND);
        assert_eq!(names(&net, 0).len(), 80, "seed {seed}");
        assert_eq!(names(&net, 1), names(&net, 0), "seed {seed}");
        assert!(member(&net, 0, 1).counters.repeated > 0);
        assert!(member(&net, 0, 1).outstanding() == 0 && !member(&net, 0, 1).is_awaited());
    }
}

#[test]
fn a_member_that_restarts_has_it_all_again() {
    for ack in [true, false] {
        let mut net = pair(|sync| sync.ack = ack);
        learn(&mut net, 0, 300, MILLI);
        net.run_for(60 * SECOND);
        let change = |sync: &mut SyncConfig| sync.ack = ack;
        // The one that only had copies; then the one that had asked itself.
        for (id, other) in [(1, 0), (0, 1)] {
            net.restart(id, with(id, 2, change));
            assert!(names(&net, id).is_empty());
            let took = net.run_until(2 * SECOND, |net| !member(net, id, other).is_awaited());
            assert!(took.is_some_and(|took| took < 200 * MILLI), "{took:?}");
            assert_same(&net, 0, 1);
            let received = member(&net, id, other).received.expect("a transfer");
            assert_eq!(received.records, 300);
            assert_eq!(source(&net, id, "10.2.0.0/24"), Some(MapCacheSource::Synchronised));
        }
        // What was lost and came back is no reason to tell it again.
        net.sent.clear();
        net.run_for(60 * SECOND);
        assert!(told(&net, 0).is_empty() && told(&net, 1).is_empty());
    }
}

#[test]
fn a_transfer_survives_loss_and_one_lost_message_does_not_hold_it_up() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 2000, MILLI / 10);
    net.run_for(SECOND);
    net.faults.loss = 0.05;
    net.restart(1, config(1, 2));
    let took = net.run_until(60 * SECOND, |net| !member(net, 1, 0).is_awaited()).expect("it completes");
    assert_same(&net, 0, 1);
    assert!(took < 20 * SECOND, "{took:?}");
    assert!(net.sent_by(0).all(|(_, transmit, _)| transmit.payload.len() <= 1400));
}

#[test]
fn many_entries_reach_a_fresh_member_within_a_moment() {
    let mut net = pair(|_| ());
    let mut n = 0;
    // 40 sites with 250 prefixes each, told in Map-Replies of 250 records.
    for outer in 0..40 {
        let mut records = vec![record(&format!("10.{}.0.0/16", 2 + outer), &["203.0.113.9"])];
        for inner in 0..249 {
            records.push(record(&format!("10.{}.{inner}.0/24", 2 + outer), &["203.0.113.9"]));
        }
        n += records.len();
        net.learn(0, &format!("10.{}.250.9", 2 + outer), records);
    }
    net.run_for(5 * SECOND);
    net.restart(1, config(1, 2));
    let mut most = 0;
    let start = net.now;
    while member(&net, 1, 0).is_awaited() {
        net.run_for(MILLI);
        most = most.max(member(&net, 0, 1).outstanding());
        assert!(net.now.saturating_since(start) < 2 * SECOND);
    }
    assert_eq!(names(&net, 1).len(), n);
    // Tenfold that at a round trip of 2 ms is well below 2 s, and what is under way fits any receive buffer.
    let took = net.now.saturating_since(start);
    assert!(took < 200 * MILLI && most == 32, "{took:?} {most}");
    assert_same(&net, 0, 1);
}

#[test]
fn who_was_cut_off_gets_what_he_missed() {
    let mut net = pair(|sync| sync.ack = false);
    learn(&mut net, 0, 5, MILLI);
    net.dark.insert(ip(ADDRESSES[1]));
    net.run_for(30 * SECOND);
    assert_eq!(member(&net, 0, 1).state, MemberState::Silent);
    learn(&mut net, 0, 50, MILLI);
    for n in 50..60 {
        let (destination, eid_prefix) = far(n);
        net.learn(1, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
    }
    net.sent.clear();
    net.run_for(30 * SECOND);
    assert!(told(&net, 0).is_empty(), "nobody talks to who does not answer");
    net.dark.clear();
    net.run_for(3 * SECOND);
    assert_eq!(names(&net, 0).len(), 60);
    assert_same(&net, 0, 1);
}

#[test]
fn whoever_uses_an_entry_keeps_it_fresh_and_nobody_else_does() {
    // Used by its owner: he alone asks again, and the other follows.
    let mut net = pair(|_| ());
    let mut short = record("10.2.0.0/16", &["203.0.113.9"]);
    short.ttl.0 = 2;
    net.learn(0, "10.2.0.9", vec![short.clone()]);
    let run = |net: &mut Network, user: usize, seconds: u64| {
        for _ in 0..seconds {
            net.packet(user, "10.1.0.9", eid("10.2.0.9"));
            net.run_for(SECOND);
        }
    };
    run(&mut net, 0, 91);
    assert_eq!((requests(&net, 0), requests(&net, 1)), (2, 0), "asked again half a minute before the end");
    net.reply(0, vec![short.clone()]);
    net.run_for(SECOND);
    assert_same(&net, 0, 1);
    // Used by the other one, its owner not any more: that one asks, and becomes the owner.
    net.sent.clear();
    run(&mut net, 1, 110);
    assert_eq!(requests(&net, 0), 0);
    assert!(requests(&net, 1) > 0);
    net.reply(1, vec![short]);
    net.run_for(SECOND);
    assert_eq!(source(&net, 1, "10.2.0.0/16"), Some(MapCacheSource::MapReply));
    assert_eq!(source(&net, 0, "10.2.0.0/16"), Some(MapCacheSource::Synchronised));
    assert_same(&net, 0, 1);
    // Used by nobody: it is gone at both at once.
    net.run_for(121 * SECOND);
    assert!(names(&net, 0).is_empty() && names(&net, 1).is_empty());
}

#[test]
fn two_that_ask_at_once_agree_on_an_owner() {
    let mut net = pair(|_| ());
    for id in 0..2 {
        net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    }
    net.run_for(SECOND);
    assert_eq!(source(&net, 0, "10.2.0.0/16"), Some(MapCacheSource::MapReply), "the lower address");
    assert_eq!(source(&net, 1, "10.2.0.0/16"), Some(MapCacheSource::Synchronised));
    // What somebody asks for later is newer.
    net.run_for(10 * SECOND);
    net.packet(1, "10.1.0.9", eid("10.3.0.9"));
    net.reply(1, vec![record("10.3.0.0/16", &["203.0.113.9"])]);
    net.run_for(10 * SECOND);
    assert_eq!(source(&net, 0, "10.3.0.0/16"), Some(MapCacheSource::Synchronised));
    let changed = vec![record("10.3.0.0/16", &["203.0.113.77"])];
    let known = net.nodes[0].control.map_cache_entry(&prefix("10.3.0.0/16")).map(|e| e.mapping.clone());
    solicit(&mut net, 0, "10.3.0.0/16", "203.0.113.9");
    net.reply(0, changed);
    net.run_for(SECOND);
    let now_known = net.nodes[1].control.map_cache_entry(&prefix("10.3.0.0/16")).map(|e| e.mapping.clone());
    assert_ne!(now_known, known);
    assert_eq!(source(&net, 1, "10.3.0.0/16"), Some(MapCacheSource::Synchronised));
}

#[test]
fn what_the_mapping_system_takes_back_goes_everywhere() {
    let mut net = pair(|_| ());
    let mut both = vec![record("10.2.0.0/16", &["203.0.113.9"])];
    both.push(record("10.2.3.0/24", &["203.0.113.77"]));
    net.learn(0, "10.2.9.9", both);
    net.run_for(SECOND);
    assert_eq!(names(&net, 1).len(), 2);
    // The more specific one is no more, says the answer to a question for it.
    solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.77");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(SECOND);
    assert_eq!(names(&net, 0), ["10.2.0.0/16"]);
    assert_same(&net, 0, 1);
}

#[test]
fn three_members_know_the_same_and_a_dead_one_is_missed_by_nobody() {
    let mut net = Network::new(5);
    for (n, address) in ADDRESSES.iter().enumerate() {
        net.add(&[address], config(n, 3));
    }
    net.run_for(SECOND);
    for n in 0..30 {
        let (destination, eid_prefix) = far(n);
        net.learn(n % 3, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
        net.run_for(10 * MILLI);
    }
    net.run_for(SECOND);
    for other in 1..3 {
        assert_eq!(names(&net, 0).len(), 30);
        assert_same(&net, 0, other);
    }
    // One dies for good, another starts anew: the third has what either knew.
    net.dark.insert(ip(ADDRESSES[2]));
    net.run_for(20 * SECOND);
    net.restart(0, config(0, 3));
    net.run_for(SECOND);
    assert_eq!(names(&net, 0).len(), 30);
    assert_same(&net, 0, 1);
}

#[test]
fn a_locator_that_one_finds_dead_is_spared_by_all() {
    let mut net = pair(|_| ());
    net.learn(0, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9", "203.0.113.10"])]);
    net.run_for(SECOND);
    assert_eq!(net.nodes[1].paths(eid("10.2.0.9")).len(), 2);
    net.handle(0, Input::Punt(Punt::Unreachable { rloc: ip("203.0.113.9") }));
    net.run_for(10 * MILLI);
    for id in 0..2 {
        let paths = net.nodes[id].paths(eid("10.2.0.9"));
        assert_eq!(paths.iter().map(|p| p.0).collect::<Vec<_>>(), [ip("203.0.113.10")], "{id}");
    }
    // Who starts anew hears of it with the rest.
    net.restart(1, config(1, 2));
    net.run_for(SECOND);
    assert_eq!(net.nodes[1].paths(eid("10.2.0.9")).len(), 1);
    // And everybody hears that it is over; without probes, after half a minute.
    net.run_for(30 * SECOND);
    for id in 0..2 {
        assert_eq!(net.nodes[id].paths(eid("10.2.0.9")).len(), 2, "{id}");
    }
}

#[test]
fn both_families_carry_it() {
    let mut net = Network::new(3);
    let addresses = ["2001:db8::1", "2001:db8::2"];
    for n in 0..2 {
        let mut config = config(n, 2);
        config.sync = Some(SyncConfig {
            source: Some(ip(addresses[n])),
            ..SyncConfig::new(vec![ip(addresses[1 - n])], vec![key("site")])
        });
        net.add(&[ADDRESSES[n], addresses[n]], config);
    }
    net.run_for(SECOND);
    learn(&mut net, 0, 3, MILLI);
    net.run_for(SECOND);
    assert_eq!(names(&net, 1).len(), 3);
}

/// Everything that a router holds to be true.
fn belief(net: &Network, id: usize) -> (Vec<(String, MapCacheSource, u64)>, Vec<MemberState>) {
    (cache(net, id), net.nodes[id].control.sync_members().map(|m| m.state).collect())
}

#[test]
fn strangers_wrong_keys_and_damage_change_nothing_and_are_counted() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 3, MILLI);
    let (_, transmit, _) = net
        .sent_by(0)
        .filter(|(_, _, m)| matches!(m, Message::CacheSync(s) if s.smart))
        .last()
        .map(|(at, t, m)| (at, t.clone(), m.clone()))
        .expect("a CacheSync");
    let genuine = transmit.payload;
    net.run_for(SECOND);
    let before = belief(&net, 1);
    let from = "198.51.100.1:4342";
    net.deliver(1, "203.0.113.66:4342", &genuine);
    assert_eq!(net.nodes[1].dropped(DropReason::SyncStranger), 1);
    for at in 0..genuine.len() {
        let mut damaged = genuine.clone();
        damaged[at] ^= 0x40;
        net.deliver(1, from, &damaged);
        net.deliver(1, from, &genuine[..at]);
        net.deliver(1, "203.0.113.66:4342", &damaged);
    }
    let Ok(Message::CacheSync(sync)) = Message::decode(&genuine) else { panic!("it was genuine") };
    let forged = wire::CacheSync { nonce: Nonce(u64::MAX - 1), ..sync };
    net.deliver(1, from, &crate::auth::seal(Message::CacheSync(forged), &key("guessed")).unwrap());
    assert_eq!(belief(&net, 1), before);
    assert!(ignored(&net, 1, 0, DropReason::AuthMac) > 100);
    assert!(ignored(&net, 1, 0, DropReason::Truncated) > 10);
    assert!(ignored(&net, 1, 0, DropReason::AuthKeyId) > 0);
    // The genuine sender goes on being believed.
    let (destination, eid_prefix) = far(7);
    net.learn(0, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
    net.run_for(SECOND);
    assert_eq!(names(&net, 1).len(), 4);
}

#[test]
fn replays_change_nothing_also_after_restarts_of_either_side() {
    let mut net = pair(|_| ());
    net.run_for(15 * SECOND);
    // A mapping that is then withdrawn: who believes the replay sends packets to where nobody is.
    net.learn(0, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(SECOND);
    solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.66");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(SECOND);
    let recorded: Vec<Vec<u8>> = [0, 1]
        .into_iter()
        .flat_map(|id| {
            let of = net
                .sent_by(id)
                .filter(|(_, _, m)| matches!(m, Message::CacheSync(_) | Message::CacheSyncAck(_)));
            of.map(|(_, t, _)| t.payload.clone()).collect::<Vec<_>>()
        })
        .collect();
    assert!(recorded.len() > 5);
    let replay = |net: &mut Network| {
        for payload in &recorded {
            // To whom they were for, and back to whom they came from, under either name.
            for to in 0..2 {
                for from in &ADDRESSES[..2] {
                    net.deliver(to, &format!("{from}:4342"), payload);
                }
            }
        }
        net.run_for(2 * SECOND);
    };
    let check = |net: &Network, when: &str| {
        for id in 0..2 {
            assert_eq!(names(net, id), ["10.2.0.0/16"], "{when}");
        }
        assert_same(net, 0, 1);
    };
    check(&net, "before");
    replay(&mut net);
    check(&net, "simply");
    assert!(ignored(&net, 1, 0, DropReason::SyncReplayed) > 0);
    assert!(ignored(&net, 0, 1, DropReason::SyncSession) > 0, "reflected");
    // The receiver remembers nothing.
    net.restart(1, config(1, 2));
    for _ in 0..2 {
        replay(&mut net);
        check(&net, "after the receiver's restart");
    }
    assert!(ignored(&net, 1, 0, DropReason::SyncReplayed) > 0);
    // The sender has another session; its clock went back.
    net.power_cut_without_disk(0, config(0, 2), 1);
    replay(&mut net);
    check(&net, "after the sender's restart");
    assert!(ignored(&net, 1, 0, DropReason::SyncMisdirected) > 0);
    // Nothing of that has made them deaf for each other: news count, although their nonces are smaller than before.
    solicit(&mut net, 0, "10.2.0.0/16", "203.0.113.9");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.77"])]);
    net.run_for(SECOND);
    assert_eq!(net.nodes[1].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.77"));
    let (destination, eid_prefix) = far(250);
    net.learn(0, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
    net.run_for(SECOND);
    assert_eq!(names(&net, 1).len(), 2);
}

#[test]
fn a_flood_of_recorded_hellos_draws_few_answers() {
    let mut net = pair(|_| ());
    net.run_for(30 * SECOND);
    let hello = net.sent_by(0).find_map(|(_, t, m)| match m {
        Message::CacheSync(sync) if sync.records.len() == 1 => Some(t.payload.clone()),
        _ => None,
    });
    let hello = hello.expect("a Hello");
    net.restart(1, config(1, 2));
    net.run_for(SECOND);
    // 0 has another session from here on, so that 1 can't tell a replay by its nonce.
    net.restart(0, config(0, 2));
    net.run_for(SECOND);
    net.sent.clear();
    for _ in 0..1000 {
        net.deliver(1, "198.51.100.1:4342", &hello);
        net.run_for(MILLI);
    }
    let answers =
        net.sent_by(1).filter(|(_, _, m)| matches!(m, Message::CacheSync(_) | Message::CacheSyncAck(_)));
    assert!(answers.count() < 40);
    assert_eq!(member(&net, 1, 0).state, MemberState::Up);
}

/// Both sessions, and the nonce, of the last CacheSync of member 0 of a pair.
fn last_sent(net: &Network) -> (u64, u64, Nonce) {
    let last = net.sent_by(0).filter_map(|(_, _, m)| match m {
        Message::CacheSync(sync) => Some((sync.session, sync.receiver, sync.nonce)),
        _ => None,
    });
    last.last().expect("a CacheSync")
}

/// A message as member 0 of a pair could send it next.
fn crafted(net: &Network, records: Vec<SyncRecord>) -> Vec<u8> {
    let (session, receiver, nonce) = last_sent(net);
    let message = wire::CacheSync {
        nonce: Nonce(nonce.0 + 1000 + net.nodes[1].control.statistics().received(MessageKind::CacheSync)),
        session,
        receiver,
        smart: true,
        records,
        ..wire::CacheSync::default()
    };
    crate::auth::seal(Message::CacheSync(message), &key("site")).unwrap()
}

fn mapping(record: EidRecord) -> SyncRecord {
    SyncRecord::Mapping(SyncMapping {
        copy: false,
        echoes: false,
        seconds: 600,
        millis: 0,
        inside: 0,
        age: 0,
        record,
    })
}

#[test]
fn records_are_taken_one_by_one_and_none_that_a_map_reply_could_not_bring() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 1, SECOND);
    let mut config = config(1, 2);
    if let Some(itr) = &mut config.itr {
        itr.static_entries = vec![record("10.77.0.0/16", &["203.0.113.5"]).to_mapping().unwrap().0];
    }
    net.reload(1, config);
    let odd = EidRecord {
        eid: wire::EidAddress { mask_len: 8, address: wire::Address::Mac([1; 6]) },
        ..record("10.3.0.0/16", &[])
    };
    let mut withdrawn = record("10.9.0.0/16", &["203.0.113.9"]);
    withdrawn.ttl.0 = 0;
    let mut brief = record("10.5.0.0/16", &["203.0.113.9"]);
    brief.ttl.0 = 1;
    let records = vec![
        mapping(record("10.1.7.0/24", &["203.0.113.66"])),
        mapping(record("[9]10.3.0.0/16", &["203.0.113.66"])),
        mapping(record("10.77.0.0/16", &["203.0.113.66"])),
        mapping(odd),
        mapping(withdrawn),
        SyncRecord::Unknown { kind: 77, flags: 0xff, content: vec![1, 2, 3] },
        SyncRecord::Locator { address: ip("203.0.113.99").into(), up: false },
        mapping(record("10.4.0.0/16", &["203.0.113.9"])),
        mapping(brief),
    ];
    let message = crafted(&net, records);
    net.deliver(1, "198.51.100.1:4342", &message);
    assert_eq!(names(&net, 1), ["10.2.0.0/24", "10.4.0.0/16", "10.5.0.0/16", "10.77.0.0/16"]);
    for reason in [
        DropReason::SyncLocal,
        DropReason::SyncInstance,
        DropReason::SyncStatic,
        DropReason::SyncEid,
        DropReason::SyncOlder,
        DropReason::SyncKind,
        DropReason::SyncLocator,
    ] {
        assert_eq!(ignored(&net, 1, 0, reason), 1, "{reason}");
    }
    assert_eq!(source(&net, 1, "10.77.0.0/16"), Some(MapCacheSource::Static));
    // Nothing lasts longer than the mapping system allowed.
    let ends = |name: &str| net.nodes[1].control.map_cache_entry(&prefix(name)).unwrap().expires;
    assert_eq!(ends("10.4.0.0/16"), net.now + 600 * SECOND);
    assert_eq!(ends("10.5.0.0/16"), net.now + 60 * SECOND);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// With the right key and in the right session, whatever it says: nothing panics, the FIB follows the map-cache, our
    /// own prefix stays ours, and who answers Hellos is still believed afterwards.
    #[test]
    fn a_member_may_say_what_it_likes(
        messages in proptest::collection::vec(wire::arbitrary::cache_sync(), 1..8),
        acks in proptest::collection::vec(wire::arbitrary::cache_sync_ack(), 0..4),
    ) {
        let mut net = pair(|_| ());
        net.run_for(15 * SECOND);
        let (session, receiver, nonce) = last_sent(&net);
        for (n, message) in (1000..).zip(messages) {
            let message = wire::CacheSync { nonce: Nonce(nonce.0 + n), session, receiver, ..message };
            let bytes = crate::auth::seal(Message::CacheSync(message), &key("site")).unwrap();
            net.deliver(1, "198.51.100.1:4342", &bytes);
            net.run_for(10 * MILLI);
        }
        for ack in acks {
            let ack = wire::CacheSyncAck { session, receiver, ..ack };
            let bytes = crate::auth::seal(Message::CacheSyncAck(ack), &key("site")).unwrap();
            net.deliver(1, "198.51.100.1:4342", &bytes);
        }
        let node = &net.nodes[1];
        prop_assert_eq!(node.fib.len(), 1 + node.control.map_cache_len());
        prop_assert!(node.control.map_cache().all(|(p, _)| node.fib.get(&p).is_some()));
        prop_assert!(!node.control.map_cache().any(|(p, _)| prefix("10.1.0.0/16").covers(&p)));
        net.run_for(20 * SECOND);
        prop_assert_eq!(member(&net, 1, 0).state, MemberState::Up);
    }
}

#[test]
fn a_member_displaces_nothing_that_carries_packets() {
    let mut net = Network::new(3);
    let mut small = config(1, 2);
    if let Some(itr) = &mut small.itr {
        itr.map_cache_limit = 16;
    }
    net.add(&[ADDRESSES[0]], config(0, 2));
    net.add(&[ADDRESSES[1]], small);
    net.run_for(SECOND);
    for n in 100..110 {
        let (destination, eid_prefix) = far(n);
        net.learn(1, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
        net.packet(1, "10.1.0.9", eid(&destination));
        net.run_for(2 * SECOND);
    }
    learn(&mut net, 0, 100, MILLI);
    net.run_for(5 * SECOND);
    let kept = names(&net, 1);
    assert!(kept.len() <= 16, "{kept:?}");
    for n in 100..110 {
        assert!(kept.contains(&far(n).1), "{kept:?}");
    }
}

#[test]
fn other_members_and_no_more_synchronisation_by_reload() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 3, MILLI);
    net.run_for(SECOND);
    let mut off = config(1, 2);
    off.sync = None;
    net.reload(1, off);
    assert_eq!(net.nodes[1].control.sync_members().count(), 0);
    assert_eq!(names(&net, 1).len(), 3, "what is known stays");
    net.learn(0, "10.9.0.9", vec![record("10.9.0.0/16", &["203.0.113.9"])]);
    net.run_for(30 * SECOND);
    assert_eq!(names(&net, 1).len(), 3);
    assert!(net.nodes[1].dropped(DropReason::SyncStranger) > 0);
    assert_eq!(member(&net, 0, 1).state, MemberState::Silent);
    net.reload(1, config(1, 2));
    net.run_for(3 * SECOND);
    assert_eq!(names(&net, 1).len(), 4);
}

#[test]
fn a_key_can_be_changed_without_a_gap() {
    let mut net = pair(|_| ());
    let new = || crate::auth::Key { id: 2, ..key("new") };
    for keys in [vec![key("site"), new()], vec![new(), key("site")], vec![new()]] {
        for id in 0..2 {
            net.reload(id, with(id, 2, |sync| sync.keys = keys.clone()));
            net.learn(0, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9"])]);
            net.run_for(15 * SECOND);
            assert_eq!(member(&net, 1, 0).state, MemberState::Up);
        }
    }
    let other = with(1, 2, |sync| sync.keys = vec![key("wrong")]);
    net.reload(1, other);
    net.run_for(30 * SECOND);
    assert_eq!(member(&net, 1, 0).state, MemberState::Silent);
    assert!(ignored(&net, 1, 0, DropReason::AuthKeyId) + ignored(&net, 1, 0, DropReason::AuthMac) > 0);
}

/// Three xTRs that know of each other.
fn three(change: impl Fn(&mut SyncConfig)) -> Network {
    let mut net = Network::new(3);
    for (n, address) in ADDRESSES.iter().enumerate() {
        net.add(&[address], with(n, 3, &change));
    }
    net.run_for(2 * SECOND);
    net.sent.clear();
    net
}

/// The last CacheSync from one to another that tells of this EID-prefix.
fn telling(net: &Network, from: usize, to: usize, eid_prefix: &str) -> Vec<u8> {
    let about = |sync: &wire::CacheSync| {
        let mut mappings = sync.records.iter().filter_map(|r| match r {
            SyncRecord::Mapping(m) => m.record.to_mapping().ok(),
            _ => None,
        });
        mappings.any(|(mapping, _)| mapping.eid == prefix(eid_prefix))
    };
    let of = net.sent_by(from).filter(|(_, t, m)| {
        t.destination.ip() == ip(ADDRESSES[to]) && matches!(m, Message::CacheSync(s) if about(s))
    });
    of.last().map(|(_, t, _)| t.payload.clone()).expect("it was told")
}

#[test]
fn what_was_told_one_member_is_nothing_to_another() {
    let mut net = three(|_| ());
    net.learn(1, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(SECOND);
    let told = telling(&net, 1, 2, "10.2.3.0/24");
    solicit(&mut net, 1, "10.2.3.0/24", "203.0.113.66");
    net.reply(1, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(SECOND);
    for id in 0..3 {
        assert_eq!(names(&net, id), ["10.2.0.0/16"], "{id}");
    }
    // It is withdrawn; but somebody saw it on its way to another member.
    net.deliver(0, "198.51.100.2:4342", &told);
    assert_eq!(names(&net, 0), ["10.2.0.0/16"]);
    assert_eq!(ignored(&net, 0, 1, DropReason::SyncMisdirected), 1);
    // Nor does an acknowledgement that one member got acknowledge what another has told.
    net.dark.insert(ip(ADDRESSES[0]));
    net.learn(1, "10.4.0.9", vec![record("10.4.0.0/16", &["203.0.113.9"])]);
    net.learn(2, "10.5.0.9", vec![record("10.5.0.0/16", &["203.0.113.9"])]);
    net.run_for(10 * MILLI);
    assert_eq!(member(&net, 2, 0).outstanding(), 1);
    let Message::CacheSync(waits) = Message::decode(&telling(&net, 2, 0, "10.5.0.0/16")).unwrap() else {
        panic!("a CacheSync")
    };
    let acks = net.sent_by(0).filter_map(|(_, _, m)| match m {
        Message::CacheSyncAck(ack) => Some(ack.clone()),
        _ => None,
    });
    let to_another = acks.last().expect("an acknowledgement");
    let ack = wire::CacheSyncAck { nonce: waits.nonce, records: Vec::new(), ..to_another };
    for (receiver, left) in [(ack.receiver ^ 1, 1), (waits.session, 0)] {
        let ack = wire::CacheSyncAck { receiver, ..ack.clone() };
        net.deliver(
            2,
            "198.51.100.1:4342",
            &crate::auth::seal(Message::CacheSyncAck(ack), &key("site")).unwrap(),
        );
        assert_eq!(member(&net, 2, 0).outstanding(), left);
    }
}

#[test]
fn a_withdrawal_counts_although_it_overtakes_what_it_withdraws() {
    let mut net = pair(|sync| sync.ack = false);
    net.dark.insert(ip(ADDRESSES[1]));
    net.learn(0, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(10 * MILLI);
    let told = telling(&net, 0, 1, "10.2.3.0/24");
    net.dark.clear();
    solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.66");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(100 * MILLI);
    net.deliver(1, "198.51.100.1:4342", &told);
    assert_eq!(names(&net, 1), ["10.2.0.0/16"]);
    assert_eq!(ignored(&net, 1, 0, DropReason::SyncOlder), 2, "nothing to withdraw, and nothing to learn");
    // Learnt anew, it counts again.
    net.learn(0, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(100 * MILLI);
    assert_eq!(names(&net, 1), names(&net, 0));
}

#[test]
fn one_list_of_members_serves_all_routers_of_a_site() {
    let mut net = Network::new(3);
    for address in &ADDRESSES[..2] {
        let mut config = config(0, 1);
        config.sync = Some(SyncConfig::new(vec![ip(ADDRESSES[0]), ip(ADDRESSES[1])], vec![key("site")]));
        net.add(&[address], config);
    }
    net.run_for(SECOND);
    net.learn(0, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(60 * SECOND);
    assert_eq!(names(&net, 1), ["10.2.0.0/16"]);
    for id in 0..2 {
        assert_eq!(member(&net, id, id).state, MemberState::Ourselves);
        assert!(!member(&net, id, id).is_awaited());
        assert_eq!(member(&net, id, 1 - id).state, MemberState::Up);
        let said = net.nodes[id].events.iter().filter(|e| matches!(e, Event::SyncOurselves { .. })).count();
        assert_eq!(said, 1);
        assert!(!net.nodes[id].events.iter().any(|e| matches!(e, Event::SyncMember { up: false, .. })));
    }
}

#[test]
fn what_waits_for_room_costs_nothing_until_there_is_some() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 5000, Duration::ZERO);
    net.dark.insert(ip(ADDRESSES[1]));
    // None of this is acknowledged: most of it waits.
    for outer in 50..150 {
        let records = (0..250).map(|n| record(&format!("10.{outer}.{n}.0/24"), &["203.0.113.77"]));
        net.learn(0, &format!("10.{outer}.0.9"), records.collect());
    }
    assert_eq!(member(&net, 0, 1).outstanding(), outgoing::WINDOW);
    let looks = |net: &Network| member(net, 0, 1).out.looks;
    let before = looks(&net);
    for n in 0..1000u32 {
        net.packet(0, "10.1.0.9", eid(&format!("10.200.{}.{}", n / 250, n % 250)));
    }
    assert_eq!(looks(&net), before, "packets that have nothing to do with it");
    // What is sent in the end was looked at once or twice.
    net.dark.clear();
    net.run_for(20 * SECOND);
    assert_eq!(names(&net, 1), names(&net, 0));
    assert!(looks(&net) < 60_000, "{}", looks(&net));
}

#[test]
fn without_acknowledgements_nothing_is_so_urgent_that_it_floods() {
    let mut net = pair(|sync| sync.ack = false);
    // Each is told by a message of its own.
    learn(&mut net, 0, 100, Duration::ZERO);
    let at_once = told(&net, 0).len();
    assert!(at_once <= 32, "{at_once}");
    net.run_for(5 * SECOND);
    assert_same(&net, 0, 1);
    assert_eq!(names(&net, 1).len(), 100);
}

#[test]
fn what_was_withdrawn_while_nobody_heard_it_goes_when_all_is_told() {
    // Withdrawn by who had told of it; then by the other one, who only had a copy.
    for owner in 0..2 {
        let mut net = pair(|_| ());
        net.learn(owner, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
        net.learn(1, "10.7.0.9", vec![record("10.7.0.0/16", &["203.0.113.9"])]);
        net.run_for(SECOND);
        net.dark.insert(ip(ADDRESSES[1]));
        net.run_for(30 * SECOND);
        solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.66");
        net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
        assert_eq!(names(&net, 0), ["10.2.0.0/16", "10.7.0.0/16"]);
        net.run_for(30 * SECOND);
        net.dark.clear();
        net.run_for(5 * SECOND);
        for id in 0..2 {
            assert_eq!(names(&net, id), ["10.2.0.0/16", "10.7.0.0/16"], "{owner} {id}");
        }
        // Who starts anew knows nothing, which is no reason for the others to forget it.
        net.restart(0, config(0, 2));
        net.run_for(5 * SECOND);
        for id in 0..2 {
            assert_eq!(names(&net, id), ["10.2.0.0/16", "10.7.0.0/16"], "{owner} {id}");
        }
    }
}

#[test]
fn a_naive_round_replaces_what_was_told_before() {
    for ack in [true, false] {
        let mut net = pair(|sync| (sync.mode, sync.ack) = (SyncMode::Naive, ack));
        // What the other one has found out itself, or has from a third one, is none of its business.
        net.learn(1, "10.7.0.9", vec![record("10.7.0.0/16", &["203.0.113.9"])]);
        learn(&mut net, 0, 100, 10 * MILLI);
        net.learn(0, "10.9.3.9", vec![record("10.9.3.0/24", &["203.0.113.66"])]);
        net.run_for(2 * SECOND);
        assert_eq!(names(&net, 1).len(), 102);
        net.dark.insert(ip(ADDRESSES[1]));
        solicit(&mut net, 0, "10.9.3.0/24", "203.0.113.66");
        net.reply(0, vec![record("10.9.0.0/16", &["203.0.113.9"])]);
        net.run_for(100 * MILLI);
        net.dark.clear();
        assert!(names(&net, 1).contains(&"10.9.3.0/24".to_owned()));
        net.learn(0, "10.11.0.9", vec![record("10.11.0.0/16", &["203.0.113.9"])]);
        net.run_for(5 * SECOND);
        assert_eq!(names(&net, 1), names(&net, 0), "{ack}");
        assert_eq!(names(&net, 1).len(), 103, "{ack}");
    }
}

#[test]
fn a_late_withdrawal_leaves_what_was_learnt_since() {
    let mut net = pair(|_| ());
    net.learn(0, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(SECOND);
    net.dark.insert(ip(ADDRESSES[1]));
    solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.66");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(500 * MILLI);
    // The site has registered it again.
    solicit(&mut net, 1, "10.2.3.0/24", "203.0.113.66");
    net.reply(1, vec![record("10.2.3.0/24", &["203.0.113.67"])]);
    net.run_for(100 * MILLI);
    net.dark.clear();
    net.run_for(10 * SECOND);
    for id in 0..2 {
        assert_eq!(names(&net, id), ["10.2.0.0/16", "10.2.3.0/24"], "{id}");
        assert_eq!(net.nodes[id].paths(eid("10.2.3.9"))[0].0, ip("203.0.113.67"), "{id}");
    }
}

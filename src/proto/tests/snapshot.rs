//! The map-cache over a restart: what is kept, what is trusted of it, and how soon it is confirmed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::fib::FibAction;
use crate::proto::config::*;
use crate::proto::redundancy::snapshot::*;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::proto::xtr::{MapCacheSource, Restored};
use crate::types::{Action, Instant, Locator, Mapping, Ttl};
use crate::wire::Message;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const ITR: &str = "198.51.100.1";
const RESOLVER: &str = "192.0.2.1";

fn config() -> ControlConfig {
    let mut config = xtr(&["10.1.0.0/16", "[7]10.1.0.0/16"], &[ITR], RESOLVER, "k");
    config.etr = None;
    config
}

fn start() -> (Network, usize) {
    let mut net = Network::new(7);
    let id = net.add(&[ITR], config());
    (net, id)
}

/// A clock of the machine that goes with the network's virtual time.
fn moment(net: &Network) -> Moment {
    let since_boot = net.now.saturating_since(Instant::ZERO);
    Moment { wall: Duration::from_secs(1_700_000_000) + since_boot, boot: [7; 16], since_boot }
}

fn take(net: &Network, id: usize, slice: usize) -> Vec<u8> {
    let mut taking = Taking::begin("r1", &moment(net), net.now);
    while taking.step(&net.nodes[id].control, slice) {}
    taking.seal()
}

/// Kills the router, leaves it dead for some time, and starts it with a snapshot.
fn restart(net: &mut Network, id: usize, config: ControlConfig, snapshot: &[u8], away: Duration) -> Restored {
    net.run_for(away);
    net.restart(id, config);
    net.take_sent(id);
    let valid = decode(snapshot).unwrap().valid("r1", &moment(net), 24 * HOUR).unwrap();
    let now = net.now;
    let mut restored = Restored { expired: valid.expired, ..Restored::default() };
    for part in valid.entries.chunks(3) {
        restored += net.nodes[id].control.restore_map_cache(part, now);
    }
    net.run_for(Duration::ZERO);
    // Has what was put out carried away.
    net.handle(id, crate::proto::control::Input::Senders(&[]));
    restored
}

fn sources(net: &Network, id: usize) -> BTreeMap<String, MapCacheSource> {
    net.nodes[id].control.map_cache().map(|(p, e)| (p.to_string(), e.source)).collect()
}

/// What was asked for, in order, since this was asked last.
fn asked(net: &mut Network, id: usize) -> Vec<String> {
    let sent = net.take_sent(id);
    let requests = sent.iter().filter(|(_, message)| matches!(message, Message::Ecm(_)));
    requests.map(|(_, m)| inner(m).1.records[0].to_prefix().unwrap().to_string()).collect()
}

/// An ITR with one entry of each kind.
fn with_everything() -> (Network, usize) {
    let mut net = Network::new(7);
    let mut config = config();
    let fixed = Mapping {
        locators: vec![Locator::new(ip("203.0.113.7"), 1, 100)],
        ..Mapping::negative(prefix("10.7.0.0/16"), Ttl::RECEIVER_DECIDES, Action::NoAction)
    };
    let itr = config.itr.as_mut().unwrap();
    itr.static_entries = vec![fixed];
    itr.glean = true;
    let id = net.add(&[ITR], config);
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1", "2001:db8::1"])]);
    net.learn(id, "10.3.0.9", vec![negative("10.3.0.0/16", 15, Action::NativelyForward)]);
    net.learn(id, "10.4.0.9", vec![negative("10.4.0.0/16", 15, Action::Drop)]);
    net.learn(
        id,
        "10.5.0.9",
        vec![record("10.5.0.0/16", &["203.0.113.5"]), record("10.5.5.0/24", &["203.0.113.6"])],
    );
    let punt = crate::fib::Punt::Unverified {
        source: eid("10.6.0.9"),
        destination: ip("10.1.0.9"),
        rloc: ip("203.0.113.66"),
    };
    net.handle(id, crate::proto::control::Input::Punt(punt));
    assert_eq!(sources(&net, id)["10.6.0.9/32"], MapCacheSource::Gleaned);
    assert_eq!(net.nodes[id].control.map_cache_len(), 7);
    (net, id)
}

#[test]
fn what_was_learnt_comes_back_as_it_was_and_nothing_else() {
    let (mut net, id) = with_everything();
    net.run_for(MINUTE / 60);
    net.packet(id, "10.1.0.9", eid("10.5.0.9"));
    // In parts of any size, it is the same.
    let bytes = take(&net, id, 1000);
    for slice in [1, 2, 3, 7] {
        assert_eq!(take(&net, id, slice), bytes, "in parts of {slice}");
    }
    let read = decode(&bytes).unwrap();
    assert_eq!((&read.identity[..], read.taken, read.entries.len()), ("r1", moment(&net), 5));
    let learnt: Vec<Mapping> = net.nodes[id].control.map_cache().map(|(_, e)| e.mapping.clone()).collect();
    for saved in &read.entries {
        assert!(learnt.contains(&saved.mapping), "{saved:?}");
        assert_eq!(saved.responder, Some(ip("203.0.113.1")));
        let used = saved.mapping.eid == prefix("10.5.0.0/16");
        assert_eq!(saved.idle, used.then_some(Duration::ZERO));
    }

    let restored = restart(&mut net, id, config(), &bytes, 10 * MINUTE);
    assert_eq!(restored, Restored { taken: 5, ..Restored::default() });
    let expected = ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16", "10.5.5.0/24"];
    assert_eq!(sources(&net, id).into_keys().collect::<Vec<_>>(), expected);
    assert!(sources(&net, id).into_values().all(|source| source == MapCacheSource::Snapshot));
    // The first packet finds its way, and what the kernel is to forward it is told.
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.1"));
    assert_eq!(net.nodes[id].paths(eid("10.5.5.9"))[0].0, ip("203.0.113.6"));
    assert!(matches!(net.packet(id, "10.1.0.9", eid("10.4.0.9")), Some(FibAction::Negative(Action::Drop))));
    assert_eq!(net.nodes[id].natives, [prefix("10.3.0.0/16")].into());
    // They end when they would have: 15 minutes after they were learnt, 10 of which went by.
    net.run_for(4 * MINUTE + 50 * SECOND);
    assert!(sources(&net, id).contains_key("10.3.0.0/16"));
    net.run_for(15 * SECOND);
    assert!(!sources(&net, id).contains_key("10.3.0.0/16"), "its time to live is over");
    assert!(sources(&net, id).contains_key("10.2.0.0/16"));
}

#[test]
fn a_second_restart_keeps_what_the_first_one_took_up() {
    let (mut net, id) = with_everything();
    let first = take(&net, id, 1000);
    restart(&mut net, id, config(), &first, MINUTE);
    let second = take(&net, id, 1000);
    let restored = restart(&mut net, id, config(), &second, MINUTE);
    assert_eq!(restored.taken, 5);
    let left = net.nodes[id].control.map_cache_entry(&prefix("10.4.0.0/16")).unwrap().expires;
    assert_eq!(left.saturating_since(net.now), 13 * MINUTE, "time counts over both");
}

#[test]
fn what_expired_or_fits_no_more_is_dropped() {
    let (mut net, id) = with_everything();
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    let seven = crate::types::Eid { iid: prefix("[7]0.0.0.0/0").iid, ..eid("10.8.0.9") };
    net.packet(id, "10.1.0.9", seven);
    net.reply(id, vec![record("[7]10.8.0.0/16", &["203.0.113.8"])]);
    let bytes = take(&net, id, 1000);
    // Without the instance, with an EID-prefix that was another site's, with a static entry for another one.
    let mut other = xtr(&["10.1.0.0/16", "10.5.0.0/16"], &[ITR], RESOLVER, "k");
    let fixed = Mapping::negative(prefix("10.2.0.0/16"), Ttl::RECEIVER_DECIDES, Action::Drop);
    other.itr.as_mut().unwrap().static_entries = vec![fixed];
    let restored = restart(&mut net, id, other, &bytes, 16 * MINUTE);
    let expected = Restored { taken: 0, expired: 2, instance: 1, own: 2, known: 1, full: 0 };
    assert_eq!(restored, expected);
    assert_eq!(sources(&net, id), [("10.2.0.0/16".to_owned(), MapCacheSource::Static)].into());

    // Without room, those that were used last stay.
    let mut small = config();
    small.itr.as_mut().unwrap().map_cache_limit = 1;
    let restored = restart(&mut net, id, small, &bytes, Duration::ZERO);
    assert_eq!((restored.taken, restored.full), (1, 3), "{restored:?}");
    assert_eq!(sources(&net, id).into_keys().collect::<Vec<_>>(), ["10.2.0.0/16"]);
    assert_eq!(net.nodes[id].dropped(DropReason::CacheEvicted), 0);
}

#[test]
fn proxies_are_those_of_now() {
    let (mut net, id) = start();
    let petr = |host: &str| {
        let mut config = config();
        config.itr.as_mut().unwrap().proxy_etrs =
            vec![ProxyEtr { host: Host::Address(ip(host)), priority: 1, weight: 100, eid_family: None }];
        config
    };
    net.reload(id, petr("203.0.113.50"));
    net.learn(id, "10.3.0.9", vec![negative("10.3.0.0/16", 15, Action::NativelyForward)]);
    assert_eq!(net.nodes[id].paths(eid("10.3.0.9"))[0].0, ip("203.0.113.50"));
    let bytes = take(&net, id, 1000);
    assert!(decode(&bytes).unwrap().entries[0].mapping.is_negative());
    restart(&mut net, id, petr("203.0.113.51"), &bytes, SECOND);
    assert_eq!(net.nodes[id].paths(eid("10.3.0.9"))[0].0, ip("203.0.113.51"));
    restart(&mut net, id, config(), &bytes, SECOND);
    assert!(net.nodes[id].natives.contains(&prefix("10.3.0.0/16")));
}

#[test]
fn a_locator_that_was_dead_is_not_used_until_it_answers() {
    let probing = |mut config: ControlConfig| {
        config.probing =
            Some(ProbingConfig { interval: SECOND, timeout: SECOND / 2, ..ProbingConfig::default() });
        config
    };
    let mut net = Network::new(7);
    let both = ["203.0.113.1", "203.0.113.129"];
    net.add(
        &[RESOLVER],
        mapping_system(vec![site("a", "k", &["10.1.0.0/16"]), site("b", "kb", &["10.2.0.0/16"])]),
    );
    let a = net.add(&[ITR], probing(config()));
    let mut config_b = xtr(&[], &[], RESOLVER, "kb");
    config_b.database =
        vec![database("10.2.0.0/16", vec![locator(both[0], 1, 100), locator(both[1], 2, 100)])];
    net.add(&both, config_b);
    net.run_for(SECOND);
    let packets = |net: &mut Network, seconds: u32| {
        for _ in 0..seconds * 4 {
            net.packet(a, "10.1.0.9", eid("10.2.0.9"));
            net.run_for(SECOND / 4);
        }
    };
    let used =
        |net: &Network| -> Vec<IpAddr> { net.nodes[a].paths(eid("10.2.0.9")).iter().map(|p| p.0).collect() };
    packets(&mut net, 2);
    assert_eq!(used(&net), both.map(ip));
    net.dark.insert(ip(both[0]));
    packets(&mut net, 10);
    assert_eq!(used(&net), [ip(both[1])]);

    let bytes = take(&net, a, 1000);
    assert_eq!(decode(&bytes).unwrap().entries[0].down, [ip(both[0])]);
    restart(&mut net, a, probing(config()), &bytes, SECOND);
    assert_eq!(used(&net), [ip(both[1])], "from the first packet on");
    // The site's answer confirms the entry, and the locator is tried again.
    packets(&mut net, 3);
    assert!(matches!(sources(&net, a)["10.2.0.0/16"], MapCacheSource::MapReply | MapCacheSource::Probe));
    assert_eq!(used(&net), [ip(both[1])]);
    net.dark.clear();
    packets(&mut net, 70);
    assert_eq!(used(&net), both.map(ip));
}

#[test]
fn what_was_in_use_is_confirmed_first_and_the_rest_when_it_is_used() {
    let (mut net, id) = start();
    for n in 0..100 {
        net.learn(
            id,
            &format!("10.{}.0.9", n + 100),
            vec![record(&format!("10.{}.0.0/16", n + 100), &["203.0.113.1"])],
        );
    }
    net.run_for(5 * MINUTE);
    for n in 0..50 {
        net.packet(id, "10.1.0.9", eid(&format!("10.{}.0.9", n + 100)));
    }
    let bytes = take(&net, id, 1000);
    assert_eq!(restart(&mut net, id, config(), &bytes, SECOND).taken, 100);
    net.run_for(SECOND * 3 / 10);
    let first = asked(&mut net, id).len();
    assert!((5..=20).contains(&first), "{first} at once");
    net.run_for(2 * SECOND);
    let mut all = asked(&mut net, id);
    all.sort();
    all.dedup();
    assert!(first + all.len() >= 50 && all.len() <= 50, "{first} and {}", all.len());
    assert!(all.iter().all(|p| p.as_str() < "10.150.0.0/16"), "nobody uses them: {all:?}");

    // A packet to one of the others has it asked for within a second or so; the packet itself misses nothing.
    assert!(matches!(net.packet(id, "10.1.0.9", eid("10.170.0.9")), Some(FibAction::Forward(_))));
    assert!(net.nodes[id].punted.is_empty());
    net.run_for(SECOND * 3 / 2);
    assert!(asked(&mut net, id).contains(&"10.170.0.0/16".to_owned()));
    // The answer, which has other news, takes its place. Without one, the entry holds.
    net.packet(id, "10.1.0.9", eid("10.180.0.9"));
    net.run_for(SECOND * 3 / 2);
    let request =
        net.sent_by(id).filter(|(_, _, m)| matches!(m, Message::Ecm(_))).map(|(_, _, m)| inner(m).1);
    let about = |r: &crate::wire::MapRequest| r.records[0].to_prefix().unwrap() == prefix("10.180.0.0/16");
    let nonce = request.filter(about).last().expect("it is asked for").nonce;
    net.reply_nonce(id, nonce, vec![record("10.180.0.0/16", &["203.0.113.99"])]);
    assert_eq!(net.nodes[id].paths(eid("10.180.0.9"))[0].0, ip("203.0.113.99"));
    assert_eq!(sources(&net, id)["10.180.0.0/16"], MapCacheSource::MapReply);
    net.run_for(10 * MINUTE);
    assert_eq!(sources(&net, id)["10.170.0.0/16"], MapCacheSource::Snapshot);
    assert_eq!(net.nodes[id].paths(eid("10.170.0.9"))[0].0, ip("203.0.113.1"));
    // As long as it is used, the mapping system is asked now and then.
    asked(&mut net, id);
    for _ in 0..6 {
        net.packet(id, "10.1.0.9", eid("10.170.0.9"));
        net.run_for(MINUTE / 2);
    }
    let again = asked(&mut net, id);
    assert!(again.contains(&"10.170.0.0/16".to_owned()), "{again:?}");
    assert!(again.len() < 60, "and not without end: {}", again.len());
    // And when nothing is left to confirm, nobody wakes up for it.
    net.handle(
        id,
        crate::proto::control::Input::Command(crate::proto::control::Command::ClearMapCache(None)),
    );
    net.run_for(2 * MINUTE);
    let next = net.nodes[id].control.poll_timeout();
    assert!(next.is_none_or(|at| at.saturating_since(net.now) > 2 * SECOND), "{next:?}");
}

#[test]
fn a_withdrawn_or_negative_answer_ends_a_restored_entry() {
    let (mut net, id) = start();
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.1"])]);
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    let bytes = take(&net, id, 1000);
    restart(&mut net, id, config(), &bytes, SECOND);
    net.run_for(SECOND);
    net.reply(id, vec![negative("10.2.0.0/15", 15, Action::NativelyForward)]);
    assert_eq!(sources(&net, id), [("10.2.0.0/15".to_owned(), MapCacheSource::MapReply)].into());
}

#[test]
fn a_hundred_thousand_entries_are_taken_in_small_parts() {
    let mut net = Network::new(7);
    let mut big = config();
    big.itr.as_mut().unwrap().map_cache_limit = 200_000;
    let id = net.add(&[ITR], big.clone());
    let saved = |n: u32| {
        let net = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::from_bits(0x1400_0000 + (n << 8)), 24);
        let mapping = Mapping {
            ttl: Ttl(1440),
            locators: vec![Locator::new(ip("203.0.113.1"), 1, 100)],
            ..Mapping::negative(net.into(), Ttl(1440), Action::NoAction)
        };
        Saved { mapping, left: 24 * HOUR, idle: None, responder: None, echoes: false, down: Vec::new() }
    };
    let entries: Vec<Saved> = (0..100_000).map(saved).collect();
    let now = net.now;
    for part in entries.chunks(1000) {
        let restored = net.nodes[id].control.restore_map_cache(part, now);
        assert_eq!(restored.taken, 1000);
        let mut updates = 0;
        while net.nodes[id].control.poll_output().is_some() {
            updates += 1;
        }
        assert!(updates <= 1100, "what a part costs has a bound: {updates}");
    }
    let mut taking = Taking::begin("r1", &moment(&net), net.now);
    let mut parts = 1;
    let mut before = 0;
    while taking.step(&net.nodes[id].control, 1000) {
        parts += 1;
        assert!(taking.len() - before <= 1000, "what a part costs has a bound");
        before = taking.len();
    }
    assert!(
        (100..=101).contains(&parts) && taking.len() == 100_000,
        "{parts} parts, {} entries",
        taking.len()
    );
    let bytes = taking.seal();
    assert!(bytes.len() < 6_000_000, "{} bytes", bytes.len());
    assert_eq!(decode(&bytes).unwrap().entries.len(), 100_000);
}

fn small() -> (Moment, Vec<u8>) {
    let (net, id) = with_everything();
    (moment(&net), take(&net, id, 1000))
}

/// The same bytes with a checksum that fits.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let content = &bytes[..bytes.len() - 32];
    [content, Sha256::digest(content).as_slice()].concat()
}

#[test]
fn no_byte_may_change_and_none_may_be_missing_or_added() {
    let (_, bytes) = small();
    assert!(decode(&bytes).is_ok());
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let error = decode(&damaged).expect_err("a changed byte");
            match at {
                0..8 => assert_eq!(error, Unusable::Magic),
                8..10 => assert!(matches!(error, Unusable::Version(_)), "{error}"),
                _ => assert_eq!(error, Unusable::Checksum),
            }
        }
    }
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "cut to {length} bytes");
    }
    assert!(decode(&[&bytes[..], b"x"].concat()).is_err());
    assert!(decode(&[&bytes[..], &bytes[..]].concat()).is_err());
}

/// A checksum is no signature: whatever stands before a right one is read with care.
#[test]
fn what_is_whole_but_wrong_is_refused_without_harm() {
    let (_, bytes) = small();
    for at in 10..bytes.len() - 32 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            // Either it is refused, or it says something else: what matters is that it does no harm.
            if let Ok(read) = decode(&resealed(&wrong)) {
                assert!(read.entries.len() <= 5);
            }
        }
    }
    // More entries than there are, fewer, and a newer version.
    let with = |at: usize, value: &[u8]| {
        let mut wrong = bytes.clone();
        wrong[at..at + value.len()].copy_from_slice(value);
        decode(&resealed(&wrong))
    };
    assert!(matches!(with(42, &u32::MAX.to_be_bytes()), Err(Unusable::Format(_))));
    assert!(matches!(with(42, &1u32.to_be_bytes()), Err(Unusable::Format(_))));
    assert_eq!(with(8, &2u16.to_be_bytes()), Err(Unusable::Version(2)));
}

#[test]
fn only_the_same_router_takes_it_and_only_while_it_is_fresh() {
    let (taken, bytes) = small();
    let read = || decode(&bytes).unwrap();
    let later = |by: Duration| Moment { wall: taken.wall + by, since_boot: taken.since_boot + by, ..taken };
    let valid = |now: &Moment| read().valid("r1", now, HOUR);
    assert!(matches!(read().valid("r2", &taken, HOUR), Err(Unusable::Identity { .. })));
    // A router that was given an xTR-ID meanwhile says so, rather than naming two strangers.
    let said = |theirs: &str| {
        let ours = "0x00000000000000000000000000000001".to_owned();
        Unusable::Identity { theirs: theirs.to_owned(), ours }.to_string()
    };
    let this = "and this is the router with xtr-id 0x00000000000000000000000000000001";
    assert_eq!(said(""), format!("it was written by a router that had neither xtr-id nor name, {this}"));
    assert_eq!(said("r1"), format!("it was written by a router called \"r1\" that had no xtr-id, {this}"));
    assert_eq!(valid(&later(HOUR)).unwrap().age, HOUR);
    assert!(matches!(valid(&later(HOUR + SECOND)), Err(Unusable::TooOld { .. })));
    let expired = valid(&later(16 * MINUTE)).unwrap();
    assert_eq!((expired.expired, expired.entries.len()), (2, 3));

    // The clock was set while the router was away: the system's own clock knows better.
    for wall in [Duration::ZERO, taken.wall - 24 * HOUR, taken.wall + 24 * 365 * HOUR] {
        let now = Moment { wall, ..later(MINUTE) };
        assert_eq!(valid(&now).unwrap().age, MINUTE, "by a clock that says {wall:?}");
    }
    // After a reboot there is the wall clock alone.
    let rebooted = |wall: Duration| Moment { wall, boot: [8; 16], since_boot: 20 * SECOND };
    assert_eq!(valid(&rebooted(taken.wall + MINUTE)).unwrap().age, MINUTE);
    assert_eq!(valid(&rebooted(taken.wall - SECOND)).unwrap().age, Duration::ZERO, "set right by a second");
    let back = valid(&rebooted(taken.wall - HOUR)).unwrap_err();
    assert_eq!(back, Unusable::ClockWentBack(HOUR));
    assert!(back.to_string().contains("3600 s"), "{back}");
    assert!(matches!(valid(&rebooted(Duration::ZERO)), Err(Unusable::ClockWentBack(_))));
    assert!(matches!(valid(&rebooted(taken.wall + 2 * HOUR)), Err(Unusable::TooOld { .. })));
    // Where the kernel doesn't say which boot it is, it is another one.
    let unknown = Moment { boot: [0; 16], ..later(MINUTE) };
    assert_eq!(unknown.wall, taken.wall + MINUTE);
    assert_eq!(valid(&unknown).unwrap().age, MINUTE);
}

#[test]
fn golden_bytes() {
    let (mut net, id) = start();
    net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.5"])]);
    let at = Moment {
        wall: Duration::from_secs(1_700_000_000),
        boot: [7; 16],
        since_boot: Duration::from_secs(5),
    };
    let mut taking = Taking::begin("r1", &at, net.now);
    while taking.step(&net.nodes[id].control, 10) {}
    let bytes = taking.seal();
    let expected = [
        &b"EIDOLONm"[..],
        &[0, 1],
        &[0, 0, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0],
        &[7; 16],
        &[0, 0, 0, 0, 0, 0, 0x13, 0x88],
        &[0, 0, 0, 1],
        &[0, 2, b'r', b'1'],
        // 24 hours; never used; no flags; none down; 203.0.113.1 answered.
        &[0, 0, 0, 0, 0x05, 0x26, 0x5c, 0],
        &[0xff; 4],
        &[0, 0],
        &[0, 1, 203, 0, 113, 1],
        // 1440 minutes, one locator, /16, authoritative, no version, 10.2.0.0; its locator.
        &[0, 0, 0x05, 0xa0, 1, 16, 0x10, 0, 0, 0, 0, 1, 10, 2, 0, 0],
        &[1, 100, 255, 0, 0, 1, 0, 1, 203, 0, 113, 5],
    ]
    .concat();
    assert_eq!(bytes[..bytes.len() - 32], expected);
    assert_eq!(bytes[bytes.len() - 32..], *Sha256::digest(&expected));
    let read = decode(&bytes).unwrap();
    assert_eq!((&read.identity[..], read.taken, read.entries.len()), ("r1", at, 1));
    assert_eq!(read.entries[0].mapping.eid, prefix("10.2.0.0/16"));
    assert_eq!(read.entries[0].left, 24 * HOUR);
}

//! Two and three xTRs of a site in virtual time: what the others know, what it takes, and what nobody may
//! believe.

mod authenticity;
mod delivery;
mod exchange;
mod locators;
mod membership;
mod overlap;
mod transfer;
mod withdrawal;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::fib::{FibAction, Punt};
use crate::proto::config::{ControlConfig, SyncConfig, SyncMode};
use crate::proto::control::{Command, Input};
use crate::proto::event::Event;
use crate::proto::redundancy::sync::{Member, MemberState, outgoing};
use crate::proto::stats::{DropReason, MessageKind};
use crate::proto::testing::*;
use crate::proto::xtr::{MapCacheEntry, MapCacheSource};
use crate::types::{Action, Mapping, Nonce};
use crate::wire::{self, EidRecord, MapRequest, Message, SyncRecord};

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

/// Two members, of which the second one has room for 16 entries.
fn pair_with_room_for_16() -> Network {
    let mut net = Network::new(3);
    let mut small = config(1, 2);
    if let Some(itr) = &mut small.itr {
        itr.map_cache_limit = 16;
    }
    net.add(&[ADDRESSES[0]], config(0, 2));
    net.add(&[ADDRESSES[1]], small);
    net.run_for(SECOND);
    net
}

fn member(net: &Network, of: usize, which: usize) -> &Member {
    net.nodes[of].control.sync_members().find(|m| m.address == ip(ADDRESSES[which])).expect("a member")
}

fn ignored(net: &Network, of: usize, which: usize, reason: DropReason) -> u64 {
    member(net, of, which).counters.ignored.get(&reason).copied().unwrap_or(0)
}

/// EID-prefix, source, when it ends in milliseconds, and the mapping.
type Cached = (String, MapCacheSource, u64, Mapping);

/// All entries.
fn cache(net: &Network, id: usize) -> Vec<Cached> {
    let entries = net.nodes[id].control.map_cache();
    let millis = |e: &MapCacheEntry| e.expires.as_nanos() / 1_000_000;
    entries.map(|(p, e)| (p.to_string(), e.source, millis(e), e.mapping.clone())).collect()
}

fn names(net: &Network, id: usize) -> Vec<String> {
    cache(net, id).into_iter().map(|(name, ..)| name).collect()
}

/// The same mappings, which end at the same time.
fn assert_same(net: &Network, a: usize, b: usize) {
    assert_alike(net, a, b, 50 * MILLI);
}

/// The same mappings, which end at the same time but for `late`, by which some may have come later.
fn assert_alike(net: &Network, a: usize, b: usize, late: Duration) {
    let (of_a, of_b) = (cache(net, a), cache(net, b));
    assert_eq!(names(net, a), names(net, b));
    for (a, b) in of_a.iter().zip(&of_b) {
        assert_eq!(a.3, b.3);
        assert!(u128::from(a.2.abs_diff(b.2)) <= late.as_millis(), "{a:?} {b:?}");
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

/// Has an ITR learn so many mappings in so many sites, each with one that covers the others, in one Map-Reply
/// each.
fn learn_sites(net: &mut Network, id: usize, sites: usize, inside: usize) {
    for outer in 2..2 + sites {
        let mut records = vec![record(&format!("10.{outer}.0.0/16"), &["203.0.113.9"])];
        for inner in 0..inside {
            records.push(record(&format!("10.{outer}.{inner}.0/24"), &["203.0.113.10"]));
        }
        net.learn(id, &format!("10.{outer}.255.9"), records);
    }
}

/// The mapping system takes a mapping back.
fn withdraw(net: &mut Network, id: usize, eid_prefix: &str, rloc: &str) {
    solicit(net, id, eid_prefix, rloc);
    let mut gone = record(eid_prefix, &[rloc]);
    gone.ttl.0 = 0;
    net.reply(id, vec![gone]);
}

/// Has an ITR ask again for an entry, as a locator of it sends an SMR.
fn solicit(net: &mut Network, id: usize, eid_prefix: &str, rloc: &str) {
    let smr = MapRequest { smr: true, ..map_request(eid_prefix, rloc, 1) };
    net.deliver(id, &format!("{rloc}:4342"), &encode(smr));
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

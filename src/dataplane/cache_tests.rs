//! What is remembered of lookups must not show: the same packets, punts and counts as without.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::VnetHeader;
use super::testing::{Router, prefix, udp};
use crate::fib::{FibAction, FibUpdate, LookupCache, Path, Proxy, Stats};
use crate::types::Action;

/// What happens to a router.
#[derive(Clone, Debug)]
enum Event {
    /// The entry of one of a few prefixes within each other is now of this kind, and counts as this one.
    Set {
        prefix: usize,
        kind: u8,
        stats: usize,
    },
    Remove {
        prefix: usize,
    },
    /// Its sources are now anybody, or no longer.
    Proxy {
        prefix: usize,
        present: bool,
    },
    Mtu(Option<u16>),
    /// Packets to these hosts, this long, from a local source or another one, with this TTL.
    Packets(Vec<(u8, u16, bool, u8)>),
}

const PREFIXES: [&str; 6] = [
    "10.2.0.0/24",
    "10.2.0.0/28",
    "10.2.0.4/30",
    "2001:db8:2::/120",
    "2001:db8:2::/124",
    "2001:db8:2::4/126",
];

fn event() -> impl Strategy<Value = Event> {
    let packet = (0u8..20, prop_oneof![4 => 0u16..100, 1 => 1300u16..1500], any::<bool>(), 1u8..4);
    prop_oneof![
        2 => (0..PREFIXES.len(), 0u8..6, 0usize..4)
            .prop_map(|(prefix, kind, stats)| Event::Set { prefix, kind, stats }),
        1 => (0..PREFIXES.len()).prop_map(|prefix| Event::Remove { prefix }),
        1 => (0..PREFIXES.len(), any::<bool>())
            .prop_map(|(prefix, present)| Event::Proxy { prefix, present }),
        1 => prop_oneof![Just(None), Just(Some(1400)), Just(Some(1300))].prop_map(Event::Mtu),
        4 => proptest::collection::vec(packet, 1..50).prop_map(Event::Packets),
    ]
}

fn meet(router: &mut Router, event: &Event, entries: &[Arc<Stats>], paths: &[Arc<Stats>]) -> Vec<u8> {
    let apply = |router: &mut Router, update| {
        router.fib.apply(update);
        router.fib.publish();
    };
    match event {
        Event::Set { prefix: p, kind, stats } => {
            let path = |rloc: &str, at: usize| Path {
                rloc: rloc.parse().unwrap(),
                source: "192.0.2.1".parse().unwrap(),
                priority: 1,
                weight: 50,
                stats: Arc::clone(&paths[at]),
            };
            let action = match kind {
                0 => FibAction::Local,
                1 => FibAction::Negative(Action::Drop),
                2 => FibAction::Negative(Action::SendMapRequest),
                3 => FibAction::Forward(vec![path("203.0.113.1", 0), path("203.0.113.2", 1)]),
                4 => FibAction::Forward(vec![path("203.0.113.3", 2)]),
                _ => FibAction::Forward(vec![path("203.0.113.1", 3)]),
            };
            let stats = Arc::clone(&entries[*stats]);
            apply(router, FibUpdate::Set { prefix: prefix(0, PREFIXES[*p]), action, stats });
        }
        Event::Remove { prefix: p } => {
            apply(router, FibUpdate::Remove { prefix: prefix(0, PREFIXES[*p]) });
        }
        Event::Proxy { prefix: p, present } => {
            let (prefix, present) = (prefix(0, PREFIXES[*p]), *present);
            apply(router, FibUpdate::Proxy { prefix, proxy: Proxy::Ingress, present });
        }
        Event::Mtu(mtu) => {
            let rloc = "203.0.113.1".parse().unwrap();
            apply(router, FibUpdate::PathMtu { rloc, mtu: *mtu });
        }
        Event::Packets(packets) => {
            router.now += Duration::from_secs(2);
            let one = |&(host, len, local, ttl): &(u8, u16, bool, u8)| {
                let (net, own) = match host % 2 {
                    0 => ("10.2.0.", if local { "10.1.0.1" } else { "10.7.0.1" }),
                    _ => ("2001:db8:2::", if local { "2001:db8:1::1" } else { "2001:db8:7::1" }),
                };
                let packet = udp(own, &format!("{net}{}", host / 2), ttl, &vec![host; len.into()]);
                (packet, VnetHeader::default())
            };
            let packets: Vec<_> = packets.iter().map(one).collect();
            let (sent, icmp) = router.encap_all(0, &packets);
            return format!("{sent:?} {icmp:?}").into_bytes();
        }
    }
    Vec::new()
}

proptest! {
    /// With and without a memory of where destinations were found: the same packets, punts and counts,
    /// whatever changes between two batches.
    #[test]
    fn what_is_remembered_changes_nothing(events in proptest::collection::vec(event(), 1..40)) {
        let stats = || [(); 4].map(|()| Arc::new(Stats::default()));
        let shown = |all: &[Arc<Stats>]| -> Vec<_> {
            all.iter().map(|s| (s.packets(), s.bytes(), s.last_used())).collect()
        };
        let (mut one, mut other) = (Router::new(), Router::new());
        let (one_entries, one_paths, other_entries, other_paths) = (stats(), stats(), stats(), stats());
        for event in &events {
            other.encapsulator.cache = LookupCache::new();
            let sent = meet(&mut one, event, &one_entries, &one_paths);
            let expected = meet(&mut other, event, &other_entries, &other_paths);
            prop_assert!(sent == expected, "{}", String::from_utf8_lossy(&sent));
            prop_assert_eq!(&one.punts, &other.punts);
            prop_assert_eq!(one.counters.totals(), other.counters.totals());
            prop_assert_eq!(shown(&one_entries), shown(&other_entries));
            prop_assert_eq!(shown(&one_paths), shown(&other_paths));
        }
    }
}

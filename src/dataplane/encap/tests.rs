//! Encapsulation: what becomes of packets from the site.

use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::{Router, forward, prefix, udp, with_tos};
use super::*;
use crate::dataplane::glance::Glance;
use crate::fib::{Dynamic, FibAction, FibUpdate, Proxy, Stats};
use crate::types::{Action, Eid};

fn router() -> Router {
    let mut router = Router::new();
    router.set(0, "10.2.0.0/16", forward("203.0.113.1"));
    router.set(0, "10.3.0.0/16", forward("2001:db8:f::2"));
    router.set(0, "2001:db8:2::/48", forward("203.0.113.1"));
    router.set(7, "10.2.0.0/16", forward("203.0.113.7"));
    router
}

#[test]
fn a_packet_gets_a_lisp_header_and_its_own_ttl_and_tos_outside() {
    let mut router = router();
    let packet = with_tos(udp("10.1.0.1", "10.2.0.1", 17, b"hello"), 0xb9);
    let (sent, _) = router.encap(0, &packet);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].remote.as_str(), sent[0].ttl, sent[0].tos), ("203.0.113.1", 17, 0xb9));
    assert_eq!(sent[0].payload, [&[0; 8][..], &packet].concat());
    let (sent, _) = router.encap(7, &packet);
    assert_eq!(sent[0].remote, "203.0.113.7");
    assert_eq!(sent[0].payload, [&[8, 0, 0, 0, 0, 0, 7, 0][..], &packet].concat());
    let packet = with_tos(udp("2001:db8:1::1", "2001:db8:2::1", 3, b"six"), 0x2e);
    let (sent, _) = router.encap(0, &packet);
    assert_eq!((sent[0].ttl, sent[0].tos), (3, 0x2e));
    assert_eq!(sent[0].payload[8..], packet);
    assert_eq!(router.counters.totals().counted(Count::EncapsulatedPackets), 3);
    assert_eq!(router.dropped(), None);
}

#[test]
fn bytes_behind_the_packet_are_not_sent() {
    let mut router = router();
    let packet = udp("10.1.0.1", "10.2.0.1", 17, b"hello");
    let (sent, _) = router.encap(0, &[&packet[..], &[9; 20]].concat());
    assert_eq!(sent[0].payload[8..], packet);
}

#[test]
fn packets_that_must_not_leave_are_counted_by_reason() {
    let cases = [
        (udp("10.9.0.1", "10.2.0.1", 9, b""), DropReason::SourceNotLocal),
        (udp("2001:db8:9::1", "2001:db8:2::1", 9, b""), DropReason::SourceNotLocal),
        (udp("10.1.0.1", "10.1.0.2", 9, b""), DropReason::DestinationLocal),
        (udp("10.1.0.1", "239.0.0.1", 9, b""), DropReason::NotUnicast),
        (udp("fe80::1", "ff02::2", 9, b""), DropReason::NotUnicast),
        (udp("10.1.0.1", "10.2.0.1", 9, b"")[..27].to_vec(), DropReason::Malformed),
        (vec![0x50; 40], DropReason::Malformed),
        (vec![], DropReason::Malformed),
        (udp("10.1.0.1", "10.2.0.1", 1, b""), DropReason::TtlExpired),
        (udp("10.1.0.1", "10.4.0.1", 9, b""), DropReason::NoMapping),
    ];
    for (packet, reason) in cases {
        let mut router = router();
        assert_eq!(router.encap(0, &packet).0, [], "{reason}");
        assert_eq!(router.dropped(), Some((reason, 1)));
    }
    let negative = [
        (Action::NoAction, DropReason::NegativeNoAction),
        (Action::NativelyForward, DropReason::NegativeNativelyForward),
        (Action::SendMapRequest, DropReason::NoMapping),
        (Action::Drop, DropReason::NegativeDrop),
        (Action::DropPolicyDenied, DropReason::NegativePolicyDenied),
        (Action::DropAuthFailure, DropReason::NegativeAuthFailure),
        (Action::Unassigned(6), DropReason::NegativeDrop),
    ];
    for (action, reason) in negative {
        let mut router = router();
        router.set(0, "10.4.0.0/16", FibAction::Negative(action));
        assert_eq!(router.encap(0, &udp("10.1.0.1", "10.4.0.1", 9, b"")).0, []);
        assert_eq!(router.dropped(), Some((reason, 1)));
        assert_eq!(router.punts.len(), usize::from(action == Action::SendMapRequest));
    }
}

#[test]
fn an_entry_for_everything_takes_unicast_alone_however_often_it_is_asked() {
    let mut router = router();
    router.set(0, "0.0.0.0/0", forward("203.0.113.9"));
    router.set(0, "::/0", forward("203.0.113.9"));
    for _ in 0..3 {
        for packet in [
            udp("10.1.0.1", "239.0.0.1", 9, b""),
            udp("192.0.2.9", "127.0.0.1", 9, b""),
            udp("2001:db8:1::1", "ff0e::2", 9, b""),
        ] {
            assert_eq!(router.encap(0, &packet).0, []);
        }
        assert_eq!(router.encap(0, &udp("10.1.0.1", "198.51.100.1", 9, b"")).0.len(), 1);
        assert_eq!(router.encap(0, &udp("2001:db8:1::1", "2001:db8:9::1", 9, b"")).0.len(), 1);
    }
    assert_eq!(router.dropped(), Some((DropReason::NotUnicast, 9)));
}

#[test]
fn a_proxy_itr_takes_packets_of_any_source_to_its_prefixes_alone() {
    let mut router = router();
    for p in ["10.2.0.0/16", "10.5.0.0/16", "2001:db8:2::/48"] {
        let proxy = Proxy::Ingress;
        router.fib.apply(FibUpdate::Proxy { prefix: prefix(0, p), proxy, present: true });
    }
    router.fib.publish();
    for packet in [udp("192.0.2.9", "10.2.0.1", 9, b"4"), udp("2001:db8:9::1", "2001:db8:2::1", 9, b"6")] {
        let (sent, _) = router.encap(0, &packet);
        assert_eq!((sent[0].remote.as_str(), &sent[0].payload[8..]), ("203.0.113.1", &packet[..]));
        assert_eq!(router.encap(7, &packet).0, [], "in this instance alone");
    }
    assert_eq!(router.encap(0, &udp("192.0.2.9", "10.3.0.1", 9, b"")).0, [], "not one of its prefixes");
    assert_eq!(router.dropped(), Some((DropReason::SourceNotLocal, 3)));
    router.encap(0, &udp("192.0.2.9", "10.5.0.1", 9, b""));
    let destination = prefix(0, "10.5.0.1/32").first();
    assert_eq!(router.punts, [Punt::Miss { source: "192.0.2.9".parse().unwrap(), destination }]);
}

#[test]
fn packets_for_what_moved_away_are_taken_from_anybody() {
    let mut router = router();
    let packet = udp("198.51.100.9", "10.1.0.5", 9, b"4");
    assert!(router.encap(0, &packet).0.is_empty(), "no source of ours");
    let change = |router: &mut Router, p: &str, what, present| {
        router.fib.apply(FibUpdate::Dynamic { prefix: prefix(0, p), what, present });
        router.fib.publish();
    };
    change(&mut router, "10.1.0.5/32", Dynamic::Away, true);
    assert!(router.encap(0, &packet).0.is_empty(), "where to is to be found out");
    assert!(matches!(router.punts.pop(), Some(Punt::Miss { .. })));
    router.set(0, "10.1.0.5/32", forward("203.0.113.7"));
    assert_eq!(router.encap(0, &packet).0[0].remote, "203.0.113.7");
    assert_eq!(router.encap(0, &udp("10.1.0.9", "10.1.0.5", 9, b"4")).0.len(), 1, "neighbours reach it too");
    assert!(router.encap(0, &udp("198.51.100.9", "10.1.0.6", 9, b"4")).0.is_empty());
    change(&mut router, "10.1.0.5/32", Dynamic::Away, false);
    assert!(router.encap(0, &packet).0.is_empty());
}

#[test]
fn a_new_source_that_is_watched_is_told_once() {
    let mut router = router();
    let packet = udp("10.9.0.5", "10.2.0.1", 9, b"4");
    assert!(router.encap(0, &packet).0.is_empty() && router.punts.is_empty());
    let (prefix, what) = (prefix(0, "10.9.0.0/16"), Dynamic::Watched);
    router.fib.apply(FibUpdate::Dynamic { prefix, what, present: true });
    router.fib.publish();
    for _ in 0..3 {
        router.encap(0, &packet);
    }
    let source = Eid::new(InstanceId::DEFAULT, "10.9.0.5".parse().unwrap());
    assert_eq!(router.punts, [Punt::NewSource { source }]);
    router.encap(0, &udp("10.8.0.5", "10.2.0.1", 9, b"4"));
    assert_eq!(router.punts.len(), 1);
    assert_eq!(router.dropped().map(|(reason, _)| reason), Some(DropReason::SourceNotLocal));
}

#[test]
fn a_burst_to_an_unknown_destination_is_punted_once() {
    let mut router = router();
    let packet = udp("10.1.0.1", "10.4.0.1", 9, b"");
    (0..50).for_each(|_| drop(router.encap(7, &packet)));
    let destination = prefix(7, "10.4.0.1/32").first();
    let punt = Punt::Miss { source: "10.1.0.1".parse().unwrap(), destination };
    assert_eq!(router.punts, std::slice::from_ref(&punt));
    router.fib.apply(FibUpdate::Unpend { eid: destination });
    (0..50).for_each(|_| drop(router.encap(7, &packet)));
    assert_eq!(router.punts, [punt.clone(), punt]);
    assert_eq!(router.dropped(), Some((DropReason::NoMapping, 100)));
}

#[test]
fn a_punt_that_found_no_room_is_tried_again_with_the_next_packet() {
    let mut router = router();
    let mut packet = Glance::NONE;
    packet.read(&udp("10.1.0.1", "10.4.0.1", 9, b"")).unwrap();
    let guard = router.reader.enter().unwrap();
    let turn = Turn::new(InstanceId::DEFAULT, &guard, &router.reader, router.now);
    let mut asked = 0;
    for delivered in [false, false, true, true] {
        router.encapsulator.miss(&turn, &packet, &mut |_| {
            asked += 1;
            delivered
        });
    }
    assert_eq!(asked, 3);
    assert_eq!(router.counters.totals().counted(Count::PuntsLost), 2);
}

#[test]
fn a_host_that_tries_everything_leaves_others_a_share_of_the_punts() {
    let mut router = Router::with(DataPlaneConfig { punt_rate: 400, ..DataPlaneConfig::default() });
    let mut fib = crate::fib::new(100_000);
    for p in ["10.1.0.0/16", "2001:db8:1::/48"] {
        let prefix = prefix(0, p);
        fib.apply(FibUpdate::Set { prefix, action: FibAction::Local, stats: Arc::default() });
    }
    fib.publish();
    (router.reader, router.fib) = (fib.reader(), fib);
    for n in 0..2000u32 {
        let to = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).to_string();
        router.encap(0, &udp("10.1.0.66", &to, 9, b""));
    }
    assert_eq!(router.punts.len(), 100, "a quarter for one source");
    // A steady stream to one of these, which is pending, uses nothing up.
    (0..2000).for_each(|_| drop(router.encap(0, &udp("10.1.0.7", "11.0.0.1", 9, b""))));
    for n in 0..100u32 {
        let to = std::net::Ipv4Addr::from_bits(0x0c00_0000 + n).to_string();
        router.encap(0, &udp("10.1.0.7", &to, 9, b""));
    }
    assert_eq!(router.punts.len(), 200);
    assert_eq!(router.counters.totals().counted(Count::PuntsLimited), 1900);
    // All of them together get no more than the whole.
    for n in 0..2000u32 {
        let (host, to) = (n % 100, std::net::Ipv4Addr::from_bits(0x0d00_0000 + n));
        router.encap(0, &udp(&format!("10.1.1.{host}"), &to.to_string(), 9, b""));
    }
    assert_eq!(router.punts.len(), 400);
}

#[test]
fn the_lists_of_a_batch_are_bounded() {
    let mut router = router();
    // The most that a packet can become: super-packets of the smallest segments, each sent on its own, and
    // behind them the longest packet that has to be cut into fragments; and more small packets than a batch
    // may have.
    let datagrams = udp("10.1.0.1", "10.2.0.1", 9, &[1; 2048]);
    let mut longest = udp("10.1.0.1", "10.2.0.1", 9, &[1; 65_507]);
    longest[6] = 0; // may be fragmented
    let small = udp("10.1.0.1", "10.2.0.1", 9, b"");
    let single = VnetHeader { gso: Some(super::super::Gso::Udp), gso_size: 1, ..VnetHeader::default() };
    let mut out = SendBatch::new(64, 1);
    for packets in [
        vec![(&datagrams, single); 100],
        vec![(&longest, VnetHeader::default()); 7],
        vec![(&small, VnetHeader::default()); 1024],
    ] {
        let mut arena = Arena::new(512 << 10);
        let mut read = Vec::new();
        for (bytes, vnet) in packets {
            arena.slot(0).unwrap()[..bytes.len()].copy_from_slice(bytes);
            read.push(TunPacket { piece: arena.commit(bytes.len()), vnet });
        }
        out.clear();
        let guard = router.reader.enter().unwrap();
        let turn = Turn::new(InstanceId::DEFAULT, &guard, &router.reader, router.now);
        assert!(router.encapsulator.encapsulate(&turn, &read, &mut arena, &mut out, |_| true) > 0);
        assert!(out.groups().len() > 300);
        assert!(out.memory() <= SendBatch::MAX_BYTES, "{}", out.memory());
    }
}

#[test]
fn a_dropping_entry_counts_what_it_drops() {
    let mut router = router();
    let stats = Arc::new(Stats::default());
    router.fib.apply(FibUpdate::Set {
        prefix: prefix(0, "10.9.0.0/16"),
        action: FibAction::Negative(Action::Drop),
        stats: Arc::clone(&stats),
    });
    router.fib.publish();
    router.encap(0, &udp("10.1.0.1", "10.9.0.1", 9, b"x"));
    assert_eq!((stats.packets(), stats.last_used()), (1, Some(router.now)));
    assert_eq!(router.dropped(), Some((DropReason::NegativeDrop, 1)));
}

#[test]
fn packets_beyond_the_path_mtu_are_answered_or_fragmented() {
    let mut router = router();
    // 1500 − 36 fits exactly over IPv4, 1500 − 56 over IPv6.
    for (destination, fits) in [("10.2.0.1", 1464), ("10.3.0.1", 1444)] {
        let mut packet = udp("10.1.0.1", destination, 9, &vec![1; fits - 28]);
        assert_eq!(router.encap(0, &packet).0.len(), 1);
        packet = udp("10.1.0.1", destination, 9, &vec![1; fits - 27]);
        packet[6] = 0x40;
        ip::write_ipv4_checksum(&mut packet);
        let (sent, icmp) = router.encap(0, &packet);
        assert_eq!((sent.len(), icmp.len(), icmp[0].0.as_str()), (0, 1, "10.1.0.1"));
        assert_eq!((&icmp[0].1[..2], &icmp[0].1[6..8]), (&[3, 4][..], &(fits as u16).to_be_bytes()[..]));
        packet[6] = 0;
        ip::write_ipv4_checksum(&mut packet);
        let (sent, icmp) = router.encap(0, &packet);
        assert_eq!((sent.len(), icmp.len()), (2, 0));
        for s in &sent {
            let inner = Inner::parse(&s.payload[8..]).unwrap();
            assert!(inner.fragment && inner.len == s.payload.len() - 8 && s.payload.len() <= fits + 8);
            assert!(ip::ipv4_header_is_valid(&s.payload[8..]));
            assert_eq!(s.payload[..8], [0; 8]);
            assert_eq!(s.port, sent[0].port, "fragments of a packet go one way");
        }
    }
    let packet = udp("2001:db8:1::1", "2001:db8:2::1", 9, &[1; 1500]);
    let (sent, icmp) = router.encap(0, &packet);
    assert_eq!((sent.len(), icmp[0].1[0], &icmp[0].1[4..8]), (0, 2, &1464u32.to_be_bytes()[..]));
    // A smaller MTU takes effect with the next packet.
    router.fib.apply(FibUpdate::PathMtu { rloc: "203.0.113.1".parse().unwrap(), mtu: Some(1400) });
    let (sent, icmp) = router.encap(0, &udp("2001:db8:1::1", "2001:db8:2::1", 9, &[1; 1330]));
    assert_eq!((sent.len(), &icmp[0].1[4..8]), (0, &1364u32.to_be_bytes()[..]));
}

#[test]
fn icmp_errors_are_limited_in_rate() {
    let mut router = router();
    let packet = udp("10.1.0.1", "10.2.0.1", 1, b"");
    let answered = |router: &mut Router| (0..500).filter(|_| !router.encap(0, &packet).1.is_empty()).count();
    assert_eq!(answered(&mut router), 100);
    router.now += Duration::from_millis(500);
    assert_eq!(answered(&mut router), 50);
    assert_eq!(router.counters.totals().counted(Count::IcmpNotSent), 850);
}

#[test]
fn a_checksum_left_to_us_is_completed() {
    let mut router = router();
    for (source, destination, header) in
        [("10.1.0.1", "10.2.0.1", 20usize), ("2001:db8:1::1", "2001:db8:2::1", 40)]
    {
        let good = udp(source, destination, 9, b"odd");
        let mut partial = good.clone();
        let pseudo = Inner::parse(&good).unwrap().pseudo_sum(11);
        partial[header + 6..header + 8].copy_from_slice(&pseudo.to_be_bytes());
        let vnet = VnetHeader {
            needs_csum: true,
            csum_start: header as u16,
            csum_offset: 6,
            ..VnetHeader::default()
        };
        assert_eq!(router.encap_all(0, &[(partial.clone(), vnet)]).0[0].payload[8..], good);
        let bad = VnetHeader { csum_start: 9000, ..vnet };
        assert_eq!(router.encap_all(0, &[(partial, bad)]).0, []);
    }
    assert_eq!(router.dropped(), Some((DropReason::Malformed, 2)));
}

#[test]
fn counters_of_path_and_entry_count_inner_packets_and_bytes() {
    let mut router = Router::new();
    let FibAction::Forward(paths) = forward("203.0.113.1") else { unreachable!() };
    let (path, entry) = (paths[0].stats.clone(), Arc::default());
    let action = FibAction::Forward(paths);
    router.fib.apply(FibUpdate::Set { prefix: prefix(0, "10.2.0.0/16"), action, stats: Arc::clone(&entry) });
    router.fib.publish();
    let packet = udp("10.1.0.1", "10.2.0.1", 9, &[0; 72]);
    (0..3).for_each(|_| drop(router.encap(0, &packet)));
    router.encap_all(0, &vec![(packet, VnetHeader::default()); 20]);
    for stats in [path, entry] {
        assert_eq!((stats.packets(), stats.bytes(), stats.last_used()), (23, 2300, Some(router.now)));
    }
}

proptest! {
    #[test]
    fn hostile_packets_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        v6: bool, local: bool, needs_csum: bool, csum_start: u16, csum_offset: u16
    ) {
        let mut router = router();
        if let Some(b) = bytes.first_mut() { *b = if v6 { 0x60 } else { 0x40 | *b & 0xf } }
        let len = (bytes.len() as u16).to_be_bytes();
        if local && !v6 && bytes.len() >= 20 {
            bytes[2..4].copy_from_slice(&len);
            bytes[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
        }
        if local && v6 && bytes.len() >= 40 {
            let payload = (bytes.len() - 40) as u16;
            bytes[4..6].copy_from_slice(&payload.to_be_bytes());
            let address = |s: &str| s.parse::<std::net::Ipv6Addr>().unwrap().octets();
            bytes[8..24].copy_from_slice(&address("2001:db8:1::1"));
            bytes[24..40].copy_from_slice(&address("2001:db8:2::1"));
        }
        let vnet = VnetHeader { needs_csum, csum_start, csum_offset, ..VnetHeader::default() };
        let (sent, _) = router.encap_all(0, &[(bytes, vnet)]);
        prop_assert_eq!(sent.len() as u64 + router.counters.totals().dropped_in_all(), 1);
    }
}

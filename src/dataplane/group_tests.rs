//! Packets that came together. Of one that looks like the one before it only little is looked at; it must be
//! treated as if it had come alone all the same.

use std::time::Duration;

use proptest::prelude::*;

use super::header_tests;
use super::testing::{Router, prefix};
use super::*;
use crate::fib::{Dynamic, FibUpdate, HeaderOptions, Punt, SourceCheck};
use crate::wire::ip;

/// What packets have a group of.
#[derive(Clone, Copy, Debug)]
struct Kind {
    v6: bool,
    udp: bool,
}

const KINDS: [Kind; 4] = [
    Kind { v6: false, udp: false },
    Kind { v6: false, udp: true },
    Kind { v6: true, udp: false },
    Kind { v6: true, udp: true },
];

impl Kind {
    /// Length of LISP header, IP header and transport header.
    fn headers(self) -> usize {
        8 + if self.v6 { 40 } else { 20 } + if self.udp { 8 } else { 20 }
    }

    /// Five data packets that follow each other in a stream, sent after the versions of both mappings that
    /// are known.
    fn stream(self) -> Vec<Vec<u8>> {
        const PAYLOAD: usize = 30;
        let packet = |n: usize| {
            let builder = match self.v6 {
                false => etherparse::PacketBuilder::ipv4([10, 2, 0, 1], [10, 1, 0, 1], 64),
                true => {
                    let host = |site| std::net::Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, 1).octets();
                    etherparse::PacketBuilder::ipv6(host(2), host(1), 64)
                }
            };
            let mut packet = vec![0x10, 0x01, 0x40, 0x0a, 0, 0, 0, 0];
            let payload = [n as u8; PAYLOAD];
            match self.udp {
                false => builder
                    .tcp(1000, 80, (n * PAYLOAD) as u32, 500)
                    .ack(1)
                    .write(&mut packet, &payload)
                    .unwrap(),
                true => builder.udp(1000, 80).write(&mut packet, &payload).unwrap(),
            }
            // Able to tell of congestion, which outer headers mark.
            ip::set_tos_ttl(&mut packet[8..], 2, 64);
            packet
        };
        (0..5).map(packet).collect()
    }
}

/// A router that checks all that can be checked, with a prefix that has moved elsewhere.
fn router(coalescing: Coalescing, checks: bool) -> Router {
    let options = HeaderOptions {
        source_check: SourceCheck::Known,
        locator_status: true,
        map_version: true,
        echo_nonce: Some(Duration::from_secs(5)),
        ..HeaderOptions::default()
    };
    let (mut router, _) = header_tests::router(if checks { options } else { HeaderOptions::default() });
    let away = prefix(0, "10.1.0.4/30");
    router.fib.apply(FibUpdate::Dynamic { prefix: away, what: Dynamic::Away, present: true });
    router.fib.publish();
    router.coalesce(coalescing);
    router
}

/// What is written, told and, so far, counted.
type Outcome = (Vec<(u16, VnetHeader, Vec<u8>)>, Vec<Punt>, Totals);

fn outcome(router: &mut Router, datagrams: &[(Vec<u8>, u16)]) -> Outcome {
    let outer = Outer { remote: "203.0.113.1".parse().unwrap(), ttl: Some(60), tos: ecn::CE };
    let datagrams: Vec<_> = datagrams.iter().map(|(bytes, step)| (outer, bytes.clone(), *step)).collect();
    (router.decap_all(&datagrams), router.punts.drain(..).collect(), router.counters.totals())
}

/// What becomes of a group of packets of `step` bytes, and of the same packets one at a time.
fn together_and_alone(routers: &mut [Router; 2], group: Vec<u8>, step: usize) -> [Outcome; 2] {
    let alone: Vec<_> = group.chunks(step).map(|packet| (packet.to_vec(), 0)).collect();
    let [one, other] = routers;
    [outcome(one, &[(group, step as u16)]), outcome(other, &alone)]
}

#[test]
fn packets_that_differ_in_any_bit_of_a_header_are_treated_as_if_alone() {
    for kind in KINDS {
        for coalescing in [Coalescing::Off, Coalescing::TcpAndUdp] {
            let mut routers = [router(coalescing, true), router(coalescing, true)];
            let stream = kind.stream();
            let step = stream[0].len();
            let [together, alone] = together_and_alone(&mut routers, stream.concat(), step);
            assert_eq!(together, alone);
            assert_eq!(together.0.len(), if coalescing == Coalescing::Off { 5 } else { 1 }, "{kind:?}");
            for at in 0..kind.headers() {
                for (bit, right) in (0..8).flat_map(|bit| [(bit, false), (bit, true)]) {
                    let mut stream = stream.clone();
                    for changed in [1, 2, 4] {
                        stream[changed][at] ^= 1 << bit;
                        if right && !kind.v6 {
                            ip::write_ipv4_checksum(&mut stream[changed][8..]);
                        }
                    }
                    let [together, alone] = together_and_alone(&mut routers, stream.concat(), step);
                    assert_eq!(together, alone, "{kind:?}, {coalescing:?}: bit {bit} of byte {at}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_a_group_is_made_of_its_packets_are_treated_as_if_alone(
        kind in prop::sample::select(&KINDS[..]),
        coalescing in prop::sample::select(&[Coalescing::Off, Coalescing::Tcp, Coalescing::TcpAndUdp][..]),
        changes in proptest::collection::vec((0..5usize, 0..70usize, any::<u8>()), 0..6),
        others in proptest::collection::vec((0..5usize, prop::sample::select(&KINDS[..])), 0..3),
        right: bool, checks: bool, shorter in prop_oneof![4 => Just(0usize), 1 => 0..60usize],
    ) {
        let mut stream = kind.stream();
        for (which, kind) in others {
            let other = kind.stream().swap_remove(which);
            let len = stream[which].len();
            stream[which][..len.min(other.len())].copy_from_slice(&other[..len.min(other.len())]);
        }
        for (which, at, change) in changes {
            if let Some(byte) = stream[which].get_mut(at) {
                *byte ^= change;
            }
            if right {
                ip::write_ipv4_checksum(&mut stream[which][8..]);
            }
        }
        let mut group = stream.concat();
        group.truncate(group.len() - shorter);
        let mut routers = [router(coalescing, checks), router(coalescing, checks)];
        // Twice, since what is found out may change what holds.
        for _ in 0..2 {
            let [together, alone] = together_and_alone(&mut routers, group.clone(), stream[0].len());
            prop_assert_eq!(together, alone);
        }
    }
}

//! Super-packets there and back: cut → wire → coalesce must be as if every packet had gone on its own.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::{Router, forward, with_tos};
use super::*;
use crate::wire::ip::{self, Inner, protocol};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// A packet or super-packet, and what precedes it.
type Handed = (Vec<u8>, VnetHeader);

/// A packet or super-packet as a site's kernel hands it over.
#[derive(Clone, Debug)]
struct Spec {
    /// Which host, and so which flow.
    host: u8,
    v6: bool,
    udp: bool,
    payload: usize,
    gso_size: u16,
    flags: u8,
    tos: u8,
    ttl: u8,
    id: u16,
    dont_fragment: bool,
    options: usize,
    window: u16,
}

impl Spec {
    /// Headers and payload, with every checksum right or, for what has `needs_csum`, left to us.
    fn build(&self, sequence: u32) -> (Vec<u8>, VnetHeader) {
        let transport = if self.v6 { 40 } else { 20 };
        let own = if self.udp { 8 } else { 20 + self.options };
        let len = transport + own + self.payload;
        let mut packet = vec![0; len];
        let protocol = if self.udp { protocol::UDP } else { protocol::TCP };
        if self.v6 {
            packet[..8].copy_from_slice(&[
                0x60 | self.tos >> 4,
                self.tos << 4,
                1,
                2,
                0,
                0,
                protocol,
                self.ttl,
            ]);
            packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            let address =
                |site: u16, host| std::net::Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, host).octets();
            packet[8..24].copy_from_slice(&address(1, self.host.into()));
            packet[24..40].copy_from_slice(&address(2, 1));
        } else {
            let df = if self.dont_fragment { 0x40 } else { 0 };
            packet[..12].copy_from_slice(&[0x45, self.tos, 0, 0, 0, 0, df, 0, self.ttl, protocol, 0, 0]);
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            packet[4..6].copy_from_slice(&self.id.to_be_bytes());
            packet[12..20].copy_from_slice(&[10, 1, 0, self.host, 10, 2, 0, 1]);
            ip::write_ipv4_checksum(&mut packet);
        }
        let h = &mut packet[transport..];
        h[..4].copy_from_slice(&[0x30, self.host, 0, 80]);
        if self.udp {
            h[4..6].copy_from_slice(&((8 + self.payload) as u16).to_be_bytes());
        } else {
            h[4..8].copy_from_slice(&sequence.to_be_bytes());
            h[8..12].copy_from_slice(&[1, 2, 3, 4]);
            (h[12], h[13]) = ((own as u8 / 4) << 4, self.flags);
            h[14..16].copy_from_slice(&self.window.to_be_bytes());
            h[20..own].fill(1);
        }
        for (i, byte) in h[own..].iter_mut().enumerate() {
            *byte = (i as u32 ^ sequence).wrapping_mul(0x9e37_79b9).to_be_bytes()[0];
        }
        let many = self.payload > usize::from(self.gso_size);
        let offset = if self.udp { 6 } else { 16 };
        if !many {
            let checksum = checksum(&packet, transport);
            packet[transport + offset..transport + offset + 2].copy_from_slice(&checksum.to_be_bytes());
            return (packet, VnetHeader::default());
        }
        let pseudo = Inner::parse(&packet).unwrap().pseudo_sum(len - transport);
        packet[transport + offset..transport + offset + 2].copy_from_slice(&pseudo.to_be_bytes());
        let gso = match (self.udp, self.v6) {
            (true, _) => Gso::Udp,
            (false, false) => Gso::TcpV4,
            (false, true) => Gso::TcpV6,
        };
        let vnet = VnetHeader {
            needs_csum: true,
            gso: Some(gso),
            ecn: self.flags & CWR != 0,
            hdr_len: (transport + own) as u16,
            gso_size: self.gso_size,
            csum_start: transport as u16,
            csum_offset: offset as u16,
        };
        (packet, vnet)
    }
}

/// The transport checksum, by the definition: over the pseudo header and the segment with a zero field.
fn checksum(packet: &[u8], transport: usize) -> u16 {
    let inner = Inner::parse(packet).unwrap();
    let mut segment = packet[transport..].to_vec();
    let at = if inner.protocol == protocol::UDP { 6 } else { 16 };
    segment[at..at + 2].fill(0);
    match !ip::add(ip::sum(&segment), inner.pseudo_sum(segment.len())) {
        0 if inner.protocol == protocol::UDP => 0xffff,
        sum => sum,
    }
}

/// What a kernel makes of a packet with this vnet header when it has to send it on a wire: the packets one at
/// a time.
fn one_at_a_time(packet: &[u8], vnet: &VnetHeader) -> Vec<Vec<u8>> {
    if vnet.gso.is_none() {
        assert!(!vnet.needs_csum);
        return vec![packet.to_vec()];
    }
    let inner = Inner::parse(packet).unwrap();
    assert_eq!(inner.len, packet.len());
    let (v4, transport, udp) = (inner.source.is_ipv4(), inner.transport, inner.protocol == protocol::UDP);
    assert_eq!((vnet.needs_csum, usize::from(vnet.csum_start)), (true, transport));
    let own = if udp { 8 } else { usize::from(packet[transport + 12] >> 4) * 4 };
    assert_eq!(usize::from(vnet.hdr_len), transport + own);
    let at = if udp { 6 } else { 16 };
    assert_eq!(
        packet[transport + at..transport + at + 2],
        inner.pseudo_sum(packet.len() - transport).to_be_bytes()
    );
    if v4 {
        assert!(ip::ipv4_header_is_valid(packet));
    }
    let pieces: Vec<_> = packet[transport + own..].chunks(usize::from(vnet.gso_size)).collect();
    let mut sequence = u32::from_be_bytes(packet[transport + 4..transport + 8].try_into().unwrap());
    let mut out = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        let mut p = [&packet[..transport + own], piece].concat();
        let len = p.len();
        if v4 {
            p[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            let id = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(i as u16);
            p[4..6].copy_from_slice(&id.to_be_bytes());
            ip::write_ipv4_checksum(&mut p);
        } else {
            p[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        }
        if udp {
            p[transport + 4..transport + 6].copy_from_slice(&((len - transport) as u16).to_be_bytes());
        } else {
            p[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
            sequence = sequence.wrapping_add(piece.len() as u32);
            if i > 0 {
                p[transport + 13] &= !CWR;
            }
            if i + 1 < pieces.len() {
                p[transport + 13] &= !(FIN | PSH);
            }
        }
        let sum = checksum(&p, transport);
        p[transport + at..transport + at + 2].copy_from_slice(&sum.to_be_bytes());
        out.push(p);
    }
    out
}

/// Packets by flow, in order. The identification of packets with DF means nothing (RFC 6864 §4.1), and is
/// left out.
fn by_flow(packets: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for mut packet in packets {
        let inner = Inner::parse(&packet).unwrap();
        if inner.source.is_ipv4() && inner.dont_fragment {
            let right = ip::ipv4_header_is_valid(&packet);
            packet[4..6].fill(0);
            packet[10..12].fill(right.into());
        }
        flows.entry(format!("{} {}", inner.source, inner.protocol)).or_default().push(packet);
    }
    flows
}

fn router(coalescing: Coalescing) -> (Router, Router) {
    let mut near = Router::new();
    near.set(0, "10.2.0.0/16", forward("203.0.113.1"));
    near.set(0, "2001:db8:2::/48", forward("2001:db8:f::2"));
    // The far router's own prefixes are the near one's destinations.
    let mut far = Router::new();
    for prefix in ["10.1.0.0/16", "2001:db8:1::/48"] {
        far.fib.apply(crate::fib::FibUpdate::Remove { prefix: super::testing::prefix(0, prefix) });
    }
    for prefix in ["10.2.0.0/16", "2001:db8:2::/48"] {
        far.set(0, prefix, crate::fib::FibAction::Local);
    }
    far.coalesce(coalescing);
    (near, far)
}

fn spec() -> impl Strategy<Value = Spec> {
    let sizes = prop_oneof![Just(0usize), 1..200usize, 1000..3000usize, 20_000..60_000usize];
    let flags = prop_oneof![
        4 => Just(ACK), 1 => Just(ACK | PSH), 1 => Just(ACK | FIN), 1 => Just(ACK | CWR | PSH),
        1 => Just(SYN), 1 => Just(RST | ACK),
    ];
    let tos = prop_oneof![4 => Just(0x02u8), 1 => Just(0xb8), 1 => Just(0x03)];
    let options = prop_oneof![3 => Just(12usize), 1 => Just(0)];
    let window = prop_oneof![5 => Just(500u16), 1 => any::<u16>()];
    (
        (0u8..3, any::<bool>(), any::<bool>(), sizes, 1u16..1372, flags),
        (tos, 2u8..255, any::<u16>(), any::<bool>()),
        (options, window),
    )
        .prop_map(
            |(
                (host, v6, udp, payload, gso_size, flags),
                (tos, ttl, id, dont_fragment),
                (options, window),
            )| {
                let small = flags & (SYN | RST) != 0;
                // Real senders' segments are not tiny: keep the number of packets in bounds.
                let gso_size = gso_size.max((payload / 64) as u16 + 1);
                Spec {
                    host,
                    v6,
                    udp,
                    payload: if small && !udp { 0 } else { payload.min(usize::from(gso_size) * 64) },
                    gso_size,
                    flags,
                    tos,
                    ttl: if ttl % 2 == 0 { 64 } else { ttl },
                    id,
                    dont_fragment,
                    options,
                    window,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn cut_wire_coalesce_is_as_one_packet_at_a_time(
        specs in proptest::collection::vec(spec(), 1..12),
        damage in proptest::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..3),
        ce in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        outer_ttl in 1u8..255,
        udp: bool, runs in 1usize..6,
    ) {
        let (mut near, mut far) = router(if udp { Coalescing::TcpAndUdp } else { Coalescing::Tcp });
        // Each flow's stream goes on where it was; some specs are repeated, as a bulk sender does.
        let mut sequences = BTreeMap::new();
        let mut packets = Vec::new();
        for spec in specs {
            for run in 0..runs {
                let spec = Spec { id: spec.id.wrapping_add(run as u16), ..spec.clone() };
                let sequence = sequences.entry((spec.host, spec.v6, spec.udp)).or_insert(0xffff_0000u32);
                packets.push(spec.build(*sequence));
                *sequence = sequence.wrapping_add(spec.payload as u32);
            }
        }
        let (sent, icmp) = near.encap_all(0, &packets);
        prop_assert_eq!(icmp.len(), 0);

        // What went over the wire is what the kernel itself would have cut.
        let alone: Vec<_> = packets.iter().flat_map(|(p, vnet)| one_at_a_time(p, vnet)).collect();
        prop_assert_eq!(sent.len(), alone.len());
        prop_assert_eq!(by_flow(sent.iter().map(|s| s.payload[8..].to_vec())), by_flow(alone));
        prop_assert!(sent.iter().all(|s| s.payload[..8] == [0; 8] && s.payload.len() <= 1472));
        for s in &sent {
            let inner = Inner::parse(&s.payload[8..]).unwrap();
            prop_assert_eq!((s.ttl, s.tos), (inner.ttl, inner.tos));
        }

        // On the way some payloads are damaged, and some packets' outer headers marked.
        let mut wire = sent;
        for (which, byte) in damage {
            let packet = &mut wire[which.index(sizes(&packets).max(1)) .. ][0].payload;
            let inner = Inner::parse(&packet[8..]).unwrap();
            let start = 8 + inner.transport + if inner.protocol == protocol::UDP { 8 } else { 20 };
            if start < packet.len() {
                let at = start + byte.index(packet.len() - start);
                packet[at] ^= 0x55;
            }
        }
        for which in ce {
            let at = which.index(wire.len());
            if wire[at].tos & 3 != 0 {
                wire[at].tos |= 3;
            }
        }

        // What leaves the tunnel is what one packet at a time would be.
        let expected: Vec<_> = wire.iter().map(|s| {
            let mut inner = s.payload[8..].to_vec();
            let ttl = Inner::parse(&inner).unwrap().ttl.min(outer_ttl);
            ip::set_tos_ttl(&mut inner, s.tos, ttl);
            inner
        }).collect();
        // The kernel joins neighbours with the same outer headers and length, the last of which may be
        // shorter.
        let mut groups: Vec<(Outer, Vec<u8>, u16)> = Vec::new();
        let mut before = None;
        for s in &wire {
            let outer = Outer { remote: "203.0.113.9".parse().unwrap(), ttl: Some(outer_ttl), tos: s.tos };
            let key = (s.tos, s.port);
            match groups.last_mut() {
                Some((_, bytes, segment))
                    if before == Some(key)
                        && s.payload.len() <= usize::from(*segment)
                        && bytes.len() % usize::from(*segment) == 0
                        && bytes.len() + s.payload.len() < 65_000 =>
                {
                    bytes.extend(&s.payload);
                }
                _ => groups.push((outer, s.payload.clone(), s.payload.len() as u16)),
            }
            before = Some(key);
        }
        let written = far.decap_all(&groups);
        let alone: Vec<_> = written.iter().flat_map(|(_, vnet, p)| one_at_a_time(p, vnet)).collect();
        prop_assert_eq!(by_flow(alone), by_flow(expected));
        prop_assert_eq!(far.dropped(), None);
    }
}

/// How many packets these stand for.
fn sizes(packets: &[(Vec<u8>, VnetHeader)]) -> usize {
    packets.iter().map(|(p, vnet)| one_at_a_time(p, vnet).len()).sum()
}

fn bulk() -> Spec {
    Spec {
        host: 1,
        v6: false,
        udp: false,
        payload: 60_000,
        gso_size: 1388,
        flags: ACK,
        tos: 0x02,
        ttl: 60,
        id: 7,
        dont_fragment: true,
        options: 12,
        window: 500,
    }
}

#[test]
fn a_bulk_stream_stays_in_super_packets() {
    for v6 in [false, true] {
        for udp in [false, true] {
            let (mut near, mut far) = router(Coalescing::TcpAndUdp);
            let gso_size = if v6 { 1360 } else { 1388 };
            let packet = Spec { v6, udp, gso_size, payload: usize::from(gso_size) * 44, ..bulk() }.build(1);
            let (sent, _) = near.encap_all(0, std::slice::from_ref(&packet));
            assert_eq!(sent.len(), 44);
            let outer = Outer { remote: "203.0.113.9".parse().unwrap(), ttl: Some(60), tos: 2 };
            let len = sent[0].payload.len();
            let bytes: Vec<u8> = sent.iter().flat_map(|s| s.payload.clone()).collect();
            assert_eq!(
                far.decap_all(&[(outer, bytes, len as u16)]),
                [(0, VnetHeader { ecn: false, ..packet.1 }, packet.0)]
            );
        }
    }
}

#[test]
fn super_packets_beyond_the_path_mtu_are_answered_cut_smaller_or_fragmented() {
    let rloc = "203.0.113.1".parse().unwrap();
    let lower = crate::fib::FibUpdate::PathMtu { rloc, mtu: Some(1000) };
    let (mut near, _) = router(Coalescing::Off);
    near.fib.apply(lower);
    let (sent, icmp) = near.encap_all(0, &[bulk().build(1)]);
    assert_eq!(
        (sent.len(), icmp.len(), &icmp[0].1[..2], &icmp[0].1[6..8]),
        (0, 1, &[3, 4][..], &964u16.to_be_bytes()[..])
    );

    // TCP without DF: the same stream in smaller segments.
    let (packet, vnet) = Spec { dont_fragment: false, ..bulk() }.build(1);
    let (sent, icmp) = near.encap_all(0, &[(packet.clone(), vnet)]);
    assert_eq!((sent.len(), icmp.len()), (60_000usize.div_ceil(964 - 52), 0));
    let alone = one_at_a_time(&packet, &VnetHeader { gso_size: 964 - 52, ..vnet });
    assert!(sent.iter().map(|s| &s.payload[8..]).eq(alone.iter().map(|p| &p[..])));

    // UDP without DF: each datagram in fragments, which another implementation puts together again.
    let (packet, vnet) = Spec { dont_fragment: false, udp: true, payload: 5000, ..bulk() }.build(1);
    let (sent, icmp) = near.encap_all(0, &[(packet.clone(), vnet)]);
    assert_eq!((sent.len(), icmp.len()), (7, 0));
    assert!(sent.iter().all(|s| s.payload.len() <= 972 && ip::ipv4_header_is_valid(&s.payload[8..])));
    let mut pool = etherparse::defrag::IpDefragPool::<(), ()>::new();
    let mut whole = Vec::new();
    for s in &sent {
        let slice = etherparse::SlicedPacket::from_ip(&s.payload[8..]).unwrap();
        whole.extend(pool.process_sliced_packet(&slice, (), ()).unwrap().map(|p| p.payload));
    }
    let mut datagrams: Vec<_> = one_at_a_time(&packet, &vnet).iter().map(|p| p[20..].to_vec()).collect();
    // The last one fits, and is no fragment.
    let last = datagrams.pop().unwrap();
    assert_eq!(sent.last().unwrap().payload[28..], last);
    assert_eq!(whole, datagrams);
}

#[test]
fn super_packets_that_contradict_themselves_are_dropped() {
    let good = bulk().build(1);
    let wrong: [fn(&mut Handed); 5] = [
        |p| p.1.gso = Some(Gso::TcpV6),
        |p| p.1.gso = Some(Gso::Udp),
        |p| p.1.gso_size = 0,
        |p| p.0[32] = 0x40,
        |p| p.0[6] = 0x20,
    ];
    for (i, spoil) in wrong.into_iter().enumerate() {
        let (mut near, _) = router(Coalescing::Off);
        let mut packet = good.clone();
        spoil(&mut packet);
        ip::write_ipv4_checksum(&mut packet.0);
        let (sent, _) = near.encap_all(0, &[packet]);
        assert_eq!((near.dropped(), sent.len()), (Some((DropReason::Malformed, 1)), 0), "case {i}");
    }
    let (mut near, _) = router(Coalescing::Off);
    let many = Spec { gso_size: 10, ..bulk() }.build(1);
    assert_eq!(near.encap_all(0, &[many]).0, []);
    assert_eq!(near.dropped(), Some((DropReason::TooManySegments, 1)));
}

#[test]
fn what_must_not_be_joined_is_not() {
    let tcp = |change: fn(&mut Spec)| {
        let mut spec = Spec { payload: 1000, ..bulk() };
        change(&mut spec);
        spec
    };
    let changes: [fn(&mut Spec); 6] = [
        |s| s.tos = 0x03,
        |s| s.ttl = 61,
        |s| s.window = 501,
        |s| s.flags = ACK | FIN,
        |s| s.options = 8,
        |s| s.host = 2,
    ];
    let outer = |tos| Outer { remote: "203.0.113.9".parse().unwrap(), ttl: Some(99), tos };
    let data = |packet: Vec<u8>| [vec![0; 8], packet].concat();
    let first = tcp(|_| {}).build(1).0;
    let joined = |second: Vec<u8>, tos| {
        let (_, mut far) = router(Coalescing::TcpAndUdp);
        far.decap_all(&[(outer(2), data(first.clone()), 0), (outer(tos), data(second), 0)]).len() == 1
    };
    let next = tcp(|s| s.id = 8).build(1001).0;
    assert!(joined(next.clone(), 2));
    for (i, change) in changes.into_iter().enumerate() {
        let mut spec = tcp(change);
        spec.id = 8;
        let tos = if spec.tos == 3 { 3 } else { 2 };
        assert!(!joined(spec.build(1001).0, tos), "change {i}");
    }
    assert!(!joined(next.clone(), 3), "congestion marked on one of two must be seen on that one");
    assert!(!joined(tcp(|s| s.id = 8).build(1002).0, 2), "a gap in the stream");
    assert!(!joined(tcp(|s| s.id = 9).build(1001).0, 2), "a gap in the identifications");
    assert!(!joined(with_tos(tcp(|s| s.payload = 1001).build(1001).0, 2), 2), "longer than the first");
    let mut damaged = next.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(!joined(damaged, 2), "a wrong checksum");
    let (_, mut far) = router(Coalescing::TcpAndUdp);
    let mut wrong = first.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let out = far.decap_all(&[(outer(2), data(wrong.clone()), 0), (outer(2), data(next.clone()), 0)]);
    assert_eq!(out.iter().map(|w| &w.2).collect::<Vec<_>>(), [&wrong, &next], "the first one's too");
}

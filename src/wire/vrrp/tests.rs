//! Bytes by hand, cut at every length, damaged bit by bit, and any advertisement there and back.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v4() -> Envelope {
    Envelope::multicast(ip("192.168.1.1"))
}

fn v6() -> Envelope {
    Envelope::multicast(ip("fe80::1"))
}

/// Version 2, VRID 10, priority 150, one second, 192.168.1.254. The sum of the words is
/// 210a + 9601 + 1 + c0a8 + 1fe = 0x1_79b2, folded 79b3, inverted 864c.
const GOLDEN_V2: [u8; 20] = [0x21, 10, 150, 1, 0, 1, 0x86, 0x4c, 192, 168, 1, 254, 0, 0, 0, 0, 0, 0, 0, 0];

fn advertisement_v2() -> Advertisement {
    Advertisement {
        vrid: 10,
        priority: 150,
        body: Body::V2 { interval: 1, auth_type: 0, auth_data: [0; 8] },
        addresses: vec![ip("192.168.1.254")],
    }
}

#[test]
fn golden_bytes_of_version_2() {
    assert_eq!(advertisement_v2().encode(&v4(), Checksum::PseudoHeader).unwrap(), GOLDEN_V2);
    assert_eq!(Advertisement::decode(&GOLDEN_V2, &v4()), Ok((advertisement_v2(), Checksum::MessageOnly)));
}

#[test]
fn golden_bytes_of_version_3_with_both_checksums() {
    let advertisement = Advertisement {
        vrid: 10,
        priority: 100,
        body: Body::V3 { interval: 100 },
        addresses: vec![ip("192.168.1.254")],
    };
    // 310a + 6401 + 64 + c0a8 + 01fe = 0x1_5815, folded 5816, inverted a7e9.
    let plain = [0x31, 10, 100, 1, 0, 100, 0xa7, 0xe9, 192, 168, 1, 254];
    assert_eq!(advertisement.encode(&v4(), Checksum::MessageOnly).unwrap(), plain);
    // c0a8 + 101 + e000 + 12 + 70 + c more: 5816 + 1_a237 = 1_fa4d, folded fa4e, inverted 05b1.
    let pseudo = [0x31, 10, 100, 1, 0, 100, 0x05, 0xb1, 192, 168, 1, 254];
    assert_eq!(advertisement.encode(&v4(), Checksum::PseudoHeader).unwrap(), pseudo);
    for (bytes, checksum) in [(plain, Checksum::MessageOnly), (pseudo, Checksum::PseudoHeader)] {
        assert_eq!(Advertisement::decode(&bytes, &v4()), Ok((advertisement.clone(), checksum)));
    }
    // The pseudo-header is that of this packet, not of any.
    let other = Envelope::multicast(ip("192.168.1.2"));
    assert_eq!(Advertisement::decode(&pseudo, &other), Err(AdvertisementError::Checksum));
}

#[test]
fn reserved_bits_are_ignored_and_the_interval_has_twelve() {
    let mut bytes = vec![0x31, 1, 1, 1, 0xff, 0xff, 0, 0, 10, 0, 0, 1];
    let sum = !crate::wire::ip::sum(&bytes);
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    let (advertisement, _) = Advertisement::decode(&bytes, &v4()).unwrap();
    assert_eq!(advertisement.body, Body::V3 { interval: 4095 });
    assert_eq!(advertisement.interval(), Duration::from_millis(40_950));
    let long = Advertisement { body: Body::V3 { interval: 4096 }, ..advertisement };
    assert!(long.encode(&v4(), Checksum::default()).is_err());
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let v2 = advertisement_v2();
    assert!(v2.encode(&v6(), Checksum::default()).is_err(), "version 2 has no IPv6");
    let none = Advertisement { addresses: Vec::new(), ..v2.clone() };
    assert_eq!(none.encode(&v4(), Checksum::default()), Err(EncodeError::TooFew("VRRP address")));
    let many = Advertisement { addresses: vec![ip("10.0.0.1"); 256], ..v2.clone() };
    assert!(matches!(many.encode(&v4(), Checksum::default()), Err(EncodeError::TooMany { .. })));
    let mixed = Advertisement { addresses: vec![ip("fe80::1")], ..v2 };
    assert!(mixed.encode(&v4(), Checksum::default()).is_err());

    let decode = |bytes: &[u8]| Advertisement::decode(bytes, &v4()).unwrap_err();
    let with = |at: usize, value: u8| {
        let mut bytes = GOLDEN_V2;
        bytes[at] = value;
        bytes
    };
    assert_eq!(decode(&with(0, 0x41)), AdvertisementError::Version(4));
    assert_eq!(decode(&with(0, 0x22)), AdvertisementError::Type(2));
    assert_eq!(decode(&with(3, 0)), AdvertisementError::NoAddress);
    assert!(matches!(decode(&with(3, 2)), AdvertisementError::Length(DecodeError::Missing(_))));
    assert!(matches!(decode(&with(3, 255)), AdvertisementError::Length(DecodeError::Missing(_))));
    let longer = [&GOLDEN_V2[..], &[0]].concat();
    assert_eq!(decode(&longer), AdvertisementError::Length(DecodeError::TrailingData(1)));
    assert_eq!(Advertisement::decode(&GOLDEN_V2, &v6()), Err(AdvertisementError::Version(2)));
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    for len in 0..GOLDEN_V2.len() {
        assert!(Advertisement::decode(&GOLDEN_V2[..len], &v4()).is_err(), "{len}");
    }
    for bit in 0..GOLDEN_V2.len() * 8 {
        let mut bytes = GOLDEN_V2;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Advertisement::decode(&bytes, &v4()).is_err(), "bit {bit}");
    }
}

#[test]
fn it_reads_well() {
    assert_eq!(
        advertisement_v2().to_string(),
        "VRRPv2 advertisement vrid 10 priority 150 interval 1000 ms for 192.168.1.254"
    );
    let many = Advertisement { addresses: vec![ip("10.0.0.1"); 255], ..advertisement_v2() };
    assert!(many.to_string().ends_with("10.0.0.1 and 247 more"));
    let tree = advertisement_v2().tree();
    assert_eq!(tree.get("priority"), Some(&Value::Number(150)));
    assert_eq!(tree.get("auth_data"), Some(&Value::Text("0000000000000000".into())));
    assert_eq!(tree.get("addresses"), Some(&Value::List(vec![Value::Text("192.168.1.254".into())])));
}

#[test]
fn frames_carry_what_they_are_given() {
    let mac = virtual_mac(Family::Ipv4, 10);
    assert_eq!(mac, [0, 0, 0x5e, 0, 1, 10]);
    let frame = advertisement_frame(mac, v4().source, &GOLDEN_V2).unwrap();
    assert_eq!(frame[..14], [1, 0, 0x5e, 0, 0, 0x12, 0, 0, 0x5e, 0, 1, 10, 8, 0]);
    let padded = [&frame[14..], &[0; 6]].concat();
    let packet = Packet::parse(&padded).unwrap();
    assert_eq!(packet, Packet { envelope: v4(), ttl: 255, payload: &GOLDEN_V2 });
    for bit in 0..20 * 8 {
        let mut damaged = padded.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Packet::parse(&damaged).is_err(), "bit {bit}");
    }

    let mac = virtual_mac(Family::Ipv6, 7);
    let v3 = Advertisement {
        body: Body::V3 { interval: 10 },
        addresses: vec![ip("fe80::fe"), ip("2001:db8::fe")],
        ..advertisement_v2()
    };
    let message = v3.encode(&v6(), Checksum::MessageOnly).unwrap();
    let frame = advertisement_frame(mac, v6().source, &message).unwrap();
    assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 0x12, 0, 0, 0x5e, 0, 2, 7, 0x86, 0xdd]);
    let packet = Packet::parse(&frame[14..]).unwrap();
    assert_eq!((packet.envelope, packet.ttl), (v6(), 255));
    assert_eq!(Advertisement::decode(packet.payload, &packet.envelope), Ok((v3, Checksum::PseudoHeader)));
    assert!(advertisement_frame(mac, v6().source, &vec![0; 70_000]).is_err());
}

#[test]
fn ip_options_are_stepped_over_and_fragments_refused() {
    let frame = advertisement_frame([2; 6], v4().source, &GOLDEN_V2).unwrap();
    let mut packet = frame[14..].to_vec();
    packet.splice(20..20, [148, 4, 0, 0]); // router alert
    packet[0] = 0x46;
    packet[3] += 4;
    crate::wire::ip::write_ipv4_checksum(&mut packet);
    assert_eq!(Packet::parse(&packet).unwrap().payload, GOLDEN_V2);
    packet[6] = 0x20;
    crate::wire::ip::write_ipv4_checksum(&mut packet);
    assert_eq!(Packet::parse(&packet), Err(PacketError::Fragment));
    packet[6] = 0;
    packet[9] = 17;
    crate::wire::ip::write_ipv4_checksum(&mut packet);
    assert_eq!(Packet::parse(&packet), Err(PacketError::Protocol(17)));
}

#[test]
fn announcements_are_understood_by_others() {
    use etherparse::{NetSlice, SlicedPacket};
    let frame = announcement_frame([2; 6], ip("192.168.1.254"));
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(NetSlice::Arp(arp)) = packet.net else { panic!("ARP") };
    assert_eq!((arp.sender_hw_addr(), arp.sender_protocol_addr()), (&[2; 6][..], &[192, 168, 1, 254][..]));
    assert_eq!(arp.sender_protocol_addr(), arp.target_protocol_addr());

    let frame = announcement_frame([2; 6], ip("2001:db8::fe"));
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(NetSlice::Ipv6(header)) = packet.net else { panic!("IPv6") };
    assert_eq!(header.header().hop_limit(), 255, "RFC 4861 §7.1.2");
    let (source, destination) = (header.header().source(), header.header().destination());
    let message = &frame[54..];
    let recomputed = etherparse::Icmpv6Slice::from_slice(message).unwrap();
    assert!(recomputed.is_checksum_valid(source, destination));
    assert_eq!((message[0], message[4]), (136, 0xa0));
}

fn any_advertisement() -> impl Strategy<Value = (Advertisement, Envelope, Checksum)> {
    let ipv4 = proptest::collection::vec(any::<[u8; 4]>().prop_map(IpAddr::from), 1..=255);
    let ipv6 = proptest::collection::vec(any::<[u8; 16]>().prop_map(IpAddr::from), 1..=255);
    let v2 = (any::<u8>(), any::<u8>(), any::<[u8; 8]>())
        .prop_map(|(interval, auth_type, auth_data)| Body::V2 { interval, auth_type, auth_data });
    let v3 = || (0..=4095u16).prop_map(|interval| Body::V3 { interval });
    let bodies = prop_oneof![(v2, ipv4.clone()), (v3(), ipv4), (v3(), ipv6)];
    (any::<u8>(), any::<u8>(), bodies, any::<u128>(), any::<bool>()).prop_map(
        |(vrid, priority, (body, addresses), source, plain)| {
            let source = match addresses[0] {
                IpAddr::V4(_) => IpAddr::from((source as u32).to_be_bytes()),
                IpAddr::V6(_) => IpAddr::from(source.to_be_bytes()),
            };
            let checksum = if plain { Checksum::MessageOnly } else { Checksum::PseudoHeader };
            (Advertisement { vrid, priority, body, addresses }, Envelope::multicast(source), checksum)
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded((advertisement, envelope, checksum) in any_advertisement()) {
        let bytes = advertisement.encode(&envelope, checksum).unwrap();
        let (decoded, _) = Advertisement::decode(&bytes, &envelope).unwrap();
        prop_assert_eq!(&decoded, &advertisement);
        for len in 0..bytes.len() {
            prop_assert!(Advertisement::decode(&bytes[..len], &envelope).is_err());
        }
        let frame = advertisement_frame([1; 6], envelope.source, &bytes).unwrap();
        let packet = Packet::parse(&frame[14..]).unwrap();
        prop_assert_eq!(packet.envelope, envelope);
        prop_assert_eq!(packet.payload, &bytes[..]);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Advertisement::decode(&bytes, &v4());
        let _ = Advertisement::decode(&bytes, &v6());
        if let Ok(packet) = Packet::parse(&bytes) {
            let _ = Advertisement::decode(packet.payload, &packet.envelope);
        }
    }
}

//! Golden bytes, written down by hand from the layouts in the RFCs, both ways.

use std::net::IpAddr;

use crate::types::{Action, EidPrefix, InstanceId, Nonce, Ttl};

use super::*;

/// Hex digits, with anything else between them for the eye.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn both_ways(message: &Message, bytes: &[u8]) {
    assert_eq!(message.encode().unwrap(), bytes);
    assert_eq!(&Message::decode(bytes).unwrap(), message);
}

/// RFC 9301 §5.2 within §5.8: an IPv6 request in an ECM whose inner family is IPv6.
#[test]
fn encapsulated_map_request() {
    let request = Message::MapRequest(MapRequest {
        smr_invoked: true,
        nonce: Nonce(0x0102_0304_0506_0708),
        source_eid: ip("2001:db8:1::1").into(),
        itr_rlocs: vec![ip("192.0.2.1").into(), ip("2001:db8::1").into()],
        records: vec![ip("2001:db8:2::1").into()],
        ..MapRequest::default()
    });
    let bytes = hex("10 40 01 01  01020304 05060708
        0002 20010db8000100000000000000000001
        0001 c0000201  0002 20010db8000000000000000000000001
        00 80 0002 20010db8000200000000000000000001");
    both_ways(&request, &bytes);
    let ecm = Message::Ecm(Ecm {
        ddt: false,
        security: None,
        source: (ip("2001:db8::1"), 61000).into(),
        destination: (ip("2001:db8:2::1"), 4342).into(),
        payload: bytes.clone(),
    });
    let encoded = ecm.encode().unwrap();
    assert_eq!(encoded[..12], hex("80000000 60000000 0052 11 40"));
    assert_eq!(Message::decode(&encoded).unwrap(), ecm);
}

/// RFC 9301 §5.4.
#[test]
fn negative_map_reply_in_an_instance() {
    let eid = EidPrefix::new(InstanceId::new(7).unwrap(), "10.1.0.0/16".parse().unwrap());
    let record = EidRecord {
        ttl: Ttl(15),
        action: Action::NativelyForward,
        authoritative: true,
        version: crate::types::MapVersion::new(3),
        eid: eid.into(),
        locators: Vec::new(),
    };
    let reply = Message::MapReply(MapReply { nonce: Nonce(1), records: vec![record], ..MapReply::default() });
    both_ways(
        &reply,
        &hex("20 00 00 01 00000000 00000001
              0000000f 00 10 30 00 0003 4003 00 00 02 00 000a 00000007 0001 0a010000"),
    );
    let Message::MapReply(reply) = reply else { unreachable!() };
    assert_eq!(reply.records[0].to_mapping().unwrap().0.eid, eid);
}

/// RFC 9301 §5.8 with checksums computed by another program: 192.0.2.1:4342 to 10.1.1.1:4342, a Shared Extension inside.
#[test]
fn ecm_over_ipv4() {
    let ecm = Message::Ecm(Ecm {
        ddt: true,
        security: None,
        source: (ip("192.0.2.1"), 4342).into(),
        destination: (ip("10.1.1.1"), 4342).into(),
        payload: hex("f4240000"),
    });
    let bytes = hex("84000000 4500 0020 0000 4000 4011 6d ca c0000201 0a010101
        10f6 10f6 000c 1cc2 f4240000");
    assert_eq!(ecm.encode().unwrap(), bytes);
    both_ways(&ecm, &bytes);
}

//! Golden bytes, written down by hand from the layouts in the RFCs, both ways; and what is refused.

use std::net::IpAddr;

use crate::types::{Action, EidPrefix, InstanceId, MapVersion, Nonce, SiteId, Ttl, XtrId};

use super::*;

/// Hex digits, with blanks between them for the eye.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(iid: u32, text: &str) -> EidPrefix {
    EidPrefix::new(InstanceId::new(iid).unwrap(), text.parse().unwrap())
}

fn both_ways(message: Message, golden: &str) {
    let bytes = hex(golden);
    assert_eq!(message.encode().unwrap(), bytes);
    assert_eq!(Message::decode(&bytes).unwrap(), message);
}

/// The bits that a receiver ignores, set: the message is the same.
fn ignores(golden: &str, with_reserved: &str) {
    assert_eq!(Message::decode(&hex(with_reserved)), Message::decode(&hex(golden)));
    assert_ne!(hex(with_reserved), hex(golden));
}

fn ids() -> XtrSite {
    XtrSite { xtr_id: XtrId([0xee; 16]), site_id: SiteId(0x0102_0304_0506_0708) }
}

/// RFC 9301 §5.4: 10.1.0.0/16, 24 hours, one IPv4 and one IPv6 locator.
fn record() -> EidRecord {
    EidRecord {
        ttl: Ttl(1440),
        action: Action::NoAction,
        authoritative: true,
        version: MapVersion::new(0x123),
        eid: prefix(0, "10.1.0.0/16").into(),
        locators: vec![
            LocatorRecord {
                priority: 1,
                weight: 75,
                mpriority: 255,
                mweight: 0,
                local: true,
                probe: false,
                reachable: true,
                address: ip("192.0.2.1").into(),
            },
            LocatorRecord {
                priority: 2,
                weight: 25,
                mpriority: 254,
                mweight: 9,
                local: false,
                probe: true,
                reachable: false,
                address: ip("2001:db8::1").into(),
            },
        ],
    }
}

const RECORD: &str = "000005a0 02 10 10 00 0123 0001 0a010000
    01 4b ff 00 0005 0001 c0000201
    02 19 fe 09 0002 0002 20010db8000000000000000000000001";

/// RFC 9301 §5.2: every flag, two ITR-RLOCs, records of three kinds, the sender's own mapping, the
/// identifiers.
#[test]
fn map_request() {
    let request = MapRequest {
        authoritative: true,
        probe: true,
        smr: true,
        pitr: true,
        smr_invoked: true,
        local_xtr: true,
        dont_map_reply: true,
        nonce: Nonce(0x0102_0304_0506_0708),
        source_eid: ip("10.0.0.1").into(),
        itr_rlocs: vec![ip("192.0.2.1").into(), ip("2001:db8::1").into()],
        records: vec![
            ip("10.1.1.1").into(),
            prefix(0, "2001:db8:2::/48").into(),
            prefix(7, "10.2.0.0/16").into(),
        ],
        map_reply_record: Some(record()),
        xtr_site: Some(ids()),
    };
    let rest = format!(
        "01020304 05060708  0001 0a000001
         0001 c0000201  0002 20010db8000000000000000000000001
         00 20 0001 0a010101
         00 30 0002 20010db8000200000000000000000000
         00 10 4003 00 00 02 00 000a 00000007 0001 0a020000
         {RECORD} {} 0102030405060708",
        "ee".repeat(16)
    );
    both_ways(Message::MapRequest(request), &format!("1f d0 61 03 {rest}"));
    ignores(&format!("1f d0 61 03 {rest}"), &format!("1f ff e1 03 {rest}"));
    let plain = MapRequest {
        nonce: Nonce(1),
        itr_rlocs: vec![ip("192.0.2.1").into()],
        records: vec![ip("10.1.1.1").into()],
        ..MapRequest::default()
    };
    both_ways(
        Message::MapRequest(plain),
        "10 00 00 01 00000000 00000001 0000 0001 c0000201 00 20 0001 0a010101",
    );
}

/// RFC 9301 §5.4.
#[test]
fn map_reply() {
    let reply = MapReply { nonce: Nonce(1), records: vec![record()], ..MapReply::default() };
    both_ways(Message::MapReply(reply.clone()), &format!("20 00 00 01 00000000 00000001 {RECORD}"));
    let probe = MapReply { probe: true, echo_nonce: true, ..reply };
    both_ways(Message::MapReply(probe), &format!("2c 00 00 01 00000000 00000001 {RECORD}"));
    let negative = EidRecord {
        action: Action::NativelyForward,
        authoritative: false,
        locators: Vec::new(),
        version: MapVersion::NONE,
        ttl: Ttl(15),
        eid: prefix(7, "2001:db8::/32").into(),
    };
    let secured = MapReply {
        security: true,
        records: vec![negative],
        security_data: vec![1, 0, 0, 0, 0xaa],
        ..MapReply::default()
    };
    let bytes =
        "0000000f 00 20 20 00 0000 4003 00 00 02 00 0016 00000007 0002 20010db8000000000000000000000000
                 01000000 aa";
    both_ways(Message::MapReply(secured), &format!("22 00 00 01 00000000 00000000 {bytes}"));
    ignores(
        &format!("20 00 00 01 00000000 00000001 {RECORD}"),
        &format!("21 ff ff 01 00000000 00000001 {}", RECORD.replacen("10 00 0123", "1f ff f123", 1)),
    );
}

/// RFC 9301 §5.6.
#[test]
fn map_register() {
    let register = MapRegister {
        proxy_reply: true,
        lisp_sec: true,
        eid_notify: true,
        use_ttl: true,
        merge: true,
        rtr: true,
        want_notify: true,
        nonce: Nonce(0xfeed_beef_0000_0001),
        auth: AuthData { key_id: 5, algorithm: 2, data: vec![0xcc; 16] },
        records: vec![record(), record()],
        xtr_site: Some(ids()),
    };
    let rest = format!(
        "feedbeef 00000001 05 02 0010 {} {RECORD} {RECORD} {} 0102030405060708",
        "cc".repeat(16),
        "ee".repeat(16)
    );
    both_ways(Message::MapRegister(register), &format!("3f 00 1d 02 {rest}"));
    ignores(&format!("3f 00 1d 02 {rest}"), &format!("3f ff ff 02 {rest}"));
    both_ways(Message::MapRegister(MapRegister::default()), "30 00 00 00 00000000 00000000 00 00 0000");
}

/// RFC 9301 §5.7.
#[test]
fn map_notify_and_its_ack() {
    let notify = MapNotify {
        rtr: true,
        nonce: Nonce(2),
        auth: AuthData { key_id: 0, algorithm: 1, data: vec![0xcc; 20] },
        records: vec![record()],
        xtr_site: Some(ids()),
        rtr_auth: vec![0, 1, 0, 0],
    };
    let (mac, id) = ("cc".repeat(20), "ee".repeat(16));
    let rest = format!("00000000 00000002 00 01 0014 {mac} {RECORD}");
    both_ways(
        Message::MapNotify(notify.clone()),
        &format!("4c 00 00 01 {rest} {id} 0102030405060708 00010000"),
    );
    let plain = MapNotify { rtr: false, xtr_site: None, rtr_auth: Vec::new(), ..notify.clone() };
    both_ways(Message::MapNotify(plain.clone()), &format!("40 00 00 01 {rest}"));
    both_ways(Message::MapNotifyAck(plain.clone()), &format!("50 00 00 01 {rest}"));
    // The I bit where a Map-Register has it, copied by the Map-Server along with the identifiers.
    let copied = Message::decode(&hex(&format!("42 00 1d 01 {rest} {id} 0102030405060708"))).unwrap();
    assert_eq!(copied, Message::MapNotify(MapNotify { xtr_site: Some(ids()), ..plain.clone() }));
    // The bit alone means nothing.
    assert_eq!(Message::decode(&hex(&format!("42 00 1d 01 {rest}"))), Ok(Message::MapNotify(plain)));
}

/// RFC 8111 §6.4, with a signature of three bytes.
#[test]
fn map_referral() {
    let signature = "00000001 00000002 00000003 0004 0003 05 000000 aabbcc";
    let referral = MapReferral {
        nonce: Nonce(3),
        records: vec![ReferralRecord {
            incomplete: true,
            record: EidRecord { action: Action::from_bits(4), ..record() },
            signatures: vec![hex(signature), hex(signature)],
        }],
    };
    let record = RECORD.replacen("10 00 0123", "98 00 2123", 1);
    both_ways(
        Message::MapReferral(referral),
        &format!("60 00 00 01 00000000 00000003 {record} {signature} {signature}"),
    );
}

/// The NAT traversal draft's layout; RFC 8060 §4.4.
#[test]
fn info_request_and_reply() {
    let request = Info {
        reply: false,
        nonce: Nonce(4),
        auth: AuthData { key_id: 0, algorithm: 2, data: vec![0xcc; 4] },
        ttl: Ttl(1440),
        eid: prefix(0, "10.1.0.0/16").into(),
        nat: Address::None,
    };
    let start = "000000 00000000 00000004 00 02 0004 cccccccc 000005a0 00 10 0001 0a010000";
    both_ways(Message::Info(request.clone()), &format!("70 {start} 0000"));
    let nat = NatTraversal {
        ms_port: 4342,
        etr_port: 61000,
        global_etr: ip("198.51.100.1").into(),
        ms: ip("192.0.2.7").into(),
        private_etr: ip("10.9.9.9").into(),
        rtrs: vec![ip("2001:db8::1").into()],
    };
    let reply = Info { reply: true, nat: Address::Lcaf(Lcaf::NatTraversal(Box::new(nat))), ..request };
    both_ways(
        Message::Info(reply),
        &format!(
            "78 {start} 4003 00 00 07 00 0028 10f6 ee48
             0001 c6336401 0001 c0000207 0001 0a090909 0002 20010db8000000000000000000000001"
        ),
    );
}

/// RFC 9304 §3.
#[test]
fn shared_extension() {
    let message = SharedExtension { sub_type: 0xfff, flags: 0x8001, payload: vec![1, 2, 3] };
    both_ways(Message::SharedExtension(message), "ff ff 80 01 01 02 03");
}

/// The layout in [`cache_sync`].
#[test]
fn cache_syncs() {
    let mut record = record();
    record.locators.truncate(1);
    let mapping =
        SyncMapping { copy: true, echoes: true, seconds: 86_399, millis: 250, inside: 2, age: 1, record };
    let message = CacheSync {
        want_ack: true,
        smart: true,
        request: true,
        nonce: Nonce(0x1122_3344_5566_7788),
        auth: AuthData { key_id: 3, algorithm: 2, data: vec![0xaa; 4] },
        session: 9,
        receiver: 10,
        records: vec![
            SyncRecord::Mapping(mapping),
            SyncRecord::Locator { address: ip("2001:db8::1").into(), up: true },
            SyncRecord::Unknown { kind: 0xf0, flags: 0x81, content: vec![7, 8, 9] },
            SyncRecord::Hello { challenge: 0x0102, to: ip("192.0.2.2").into() },
            SyncRecord::Whole { first: Nonce(3), messages: 4 },
        ],
        ..CacheSync::default()
    };
    let records = "01 c0 0028 0001517f 00fa 0002 00000001 000005a0 01 10 10 00 0123 0001 0a010000
         01 4b ff 00 0005 0001 c0000201
         02 80 0012 0002 20010db8000000000000000000000001
         f0 81 0003 070809
         03 00 000e 0000000000000102 0001 c0000202
         05 00 000c 0000000000000003 00000004";
    let head = "1122334455667788 03 02 0004 aaaaaaaa 0000000000000009 000000000000000a";
    both_ways(Message::CacheSync(message.clone()), &format!("f424 b0 05 {head} {records}"));
    ignores(&format!("f424 b0 05 {head} {records}"), &format!("f424 b3 05 {head} {records}"));
    for (bits, flags) in [
        (0x40, CacheSync { naive: true, ..CacheSync::default() }),
        (0x08, CacheSync { transfer: true, ..CacheSync::default() }),
        (0x0c, CacheSync { transfer: true, end: true, ..CacheSync::default() }),
    ] {
        let bytes = Message::CacheSync(flags).encode().unwrap();
        assert_eq!(bytes.get(2), Some(&bits));
    }
    let reply = SyncRecord::HelloReply { challenge: 0x0102, last: Nonce(5), to: ip("192.0.2.3").into() };
    let ack = CacheSyncAck {
        nonce: message.nonce,
        auth: message.auth,
        session: 9,
        receiver: 10,
        records: vec![reply],
    };
    let reply = "04 00 0016 0000000000000102 0000000000000005 0001 c0000203";
    both_ways(Message::CacheSyncAck(ack), &format!("f425 00 01 {head} {reply}"));
    ignores(&format!("f425 00 01 {head} {reply}"), &format!("f425 ff 01 {head} {reply}"));
    // A record that makes no sense is stepped over; one that is longer than the message is an error.
    for (wrong, kind) in
        [("02 80 0007 0001 c0000201 00", 2), ("02 80 0005 0001 c00002", 2), ("04 00 0000", 4)]
    {
        let bytes = hex(&format!("f424 00 02 {head} {wrong} 02 80 0006 0001 c0000201"));
        let Ok(Message::CacheSync(sync)) = Message::decode(&bytes) else { panic!("{wrong}") };
        assert!(matches!(sync.records[0], SyncRecord::Unknown { kind: k, .. } if k == kind), "{wrong}");
        assert_eq!(sync.records[1], SyncRecord::Locator { address: ip("192.0.2.1").into(), up: true });
    }
    let error = Message::decode(&hex(&format!("f424 00 01 {head} 02 80 0007 0001 c0000201"))).unwrap_err();
    assert!(matches!(error, DecodeError::BadLength(_) | DecodeError::Missing(_)), "{error}");
}

/// 192.0.2.1:4342 to 10.1.1.1:4342, a Shared Extension inside; the checksums were computed elsewhere.
const ECM_IPV4: &str =
    "84000000 4500 0020 0000 4000 4011 6dca c0000201 0a010101  10f6 10f6 000c 1cc2 f4240000";
/// The same over IPv6.
const ECM_IPV6: &str = "80000000 60000000 000c 11 40 20010db8000000000000000000000001
     20010db8000200000000000000000001  ee48 10f6 000c b0fc f4240000";

/// RFC 9301 §5.8.
#[test]
fn ecm_of_both_families() {
    let ecm = |source: &str, destination: &str| Ecm {
        ddt: false,
        security: None,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        payload: hex("f4240000"),
    };
    both_ways(Message::Ecm(Ecm { ddt: true, ..ecm("192.0.2.1:4342", "10.1.1.1:4342") }), ECM_IPV4);
    both_ways(Message::Ecm(ecm("[2001:db8::1]:61000", "[2001:db8:2::1]:4342")), ECM_IPV6);
    // RFC 9303 §6.1: a one-time key of 24 bytes with its preamble, and an EID-AD that is its KDF ID only.
    let security = format!("01 00 0001 0018 05 01 {} 0004 0001", "ab".repeat(24));
    let secured = Ecm { security: Some(hex(&security)), ..ecm("192.0.2.1:4342", "10.1.1.1:4342") };
    both_ways(Message::Ecm(secured), &ECM_IPV4.replacen("84000000", &format!("88000000 {security}"), 1));
}

fn changed(golden: &str, at: usize, value: u8) -> Result<Message, DecodeError> {
    let mut bytes = hex(golden);
    bytes[at] = value;
    Message::decode(&bytes)
}

#[test]
fn ecm_errors_have_names() {
    use DecodeError::*;
    assert_eq!(changed(ECM_IPV4, 4, 0x55), Err(InnerVersion(5)));
    assert_eq!(changed(ECM_IPV4, 4, 0x44), Err(BadLength("inner IPv4 header length")));
    assert_eq!(changed(ECM_IPV4, 7, 0x1f), Err(InnerHeaderChecksum));
    assert_eq!(changed(ECM_IPV4, 12, 63), Err(InnerHeaderChecksum));
    assert_eq!(changed(ECM_IPV4, 29, 0x0b), Err(BadLength("inner UDP length")));
    assert_eq!(changed(ECM_IPV4, 35, 1), Err(InnerUdpChecksum));
    assert_eq!(changed(ECM_IPV6, 10, 58), Err(InnerProtocol(58)));
    assert_eq!(changed(ECM_IPV6, 12, 0x21), Err(InnerUdpChecksum));
    // A payload length that leaves bytes over is seen by the UDP length; one that asks for more by the end.
    assert_eq!(changed(ECM_IPV6, 9, 0x0b), Err(BadLength("inner UDP length")));
    assert_eq!(changed(ECM_IPV6, 9, 0x0d), Err(Missing("inner packet")));
    // AD type 2 has an unknown length (RFC 9303 §8.1).
    assert_eq!(Message::decode(&hex("88000000 02000000")), Err(UnknownSecurityType(2)));
    let short = "88000000 01000000 0000 0000 0003 0000";
    assert_eq!(Message::decode(&hex(short)), Err(BadLength("EID-AD length")));
    // Header checksums made right again, the packet is a fragment, then TCP.
    let fragment = ECM_IPV4.replace("4000 4011 6dca", "2001 4011 8dc9");
    assert_eq!(Message::decode(&hex(&fragment)), Err(InnerFragment));
    let tcp = ECM_IPV4.replace("4011 6dca", "4006 6dd5");
    assert_eq!(Message::decode(&hex(&tcp)), Err(InnerProtocol(6)));
}

/// RFC 768 allows a missing checksum over IPv4, RFC 8200 §8.1 does not over IPv6.
#[test]
fn ecm_without_udp_checksum() {
    let none = ECM_IPV4.replace("1cc2", "0000");
    assert_eq!(Message::decode(&hex(&none)), Message::decode(&hex(ECM_IPV4)));
    let none = ECM_IPV6.replace("b0fc", "0000");
    assert_eq!(Message::decode(&hex(&none)), Err(DecodeError::InnerUdpChecksum));
}

/// An inner IPv4 header with options (IHL 6) is as good as one without.
#[test]
fn ecm_with_inner_ipv4_options() {
    let with_options = "84000000 4600 0024 0000 4000 4011 6ac4 c0000201 0a010101 01010101
        10f6 10f6 000c 1cc2 f4240000";
    assert_eq!(Message::decode(&hex(with_options)), Message::decode(&hex(ECM_IPV4)));
}

fn address_of(golden: &str) -> Address {
    let bytes = hex(golden);
    let mut r = Reader::new(&bytes);
    let address = Address::decode(&mut r, "test").unwrap();
    r.finish().unwrap();
    let mut w = Writer::default();
    address.encode(&mut w).unwrap();
    assert_eq!(w.into_bytes(), bytes);
    address
}

/// RFC 8060 §4.
#[test]
fn structured_lcafs() {
    let v4 = || Box::new(Address::Ip(ip("192.0.2.1")));
    assert_eq!(
        address_of("4003 00 00 01 00 000c 0001 c0000201 0001 c0000201"),
        Address::Lcaf(Lcaf::List(vec![*v4(), *v4()]))
    );
    assert_eq!(
        address_of("4003 00 00 02 20 000a ff000007 0001 c0000201"),
        Address::Lcaf(Lcaf::InstanceId { iid_mask_len: 32, iid: 0xff00_0007, address: v4() })
    );
    assert_eq!(
        address_of("4003 00 03 09 00 0014 00000007 0000 18 20 0001 c0000201 0001 c0000201"),
        Address::Lcaf(Lcaf::Multicast {
            flags: 3,
            iid: 7,
            source_mask_len: 24,
            group_mask_len: 32,
            source: v4(),
            group: v4(),
        })
    );
    assert_eq!(
        address_of("4003 00 00 0a 00 0010 0005 0001 c0000201 0002 0001 c0000201"),
        Address::Lcaf(Lcaf::ExplicitLocatorPath(vec![
            ElpHop { lookup: true, probe: false, strict: true, address: *v4() },
            ElpHop { lookup: false, probe: true, strict: false, address: *v4() },
        ]))
    );
    assert_eq!(
        address_of("4003 00 00 0b 00 000f 02 00 05 01 0000 0001 aa 0001 c0000201"),
        Address::Lcaf(Lcaf::SecurityKey {
            algorithm: 5,
            revoked: true,
            keys: vec![vec![], vec![0xaa]],
            address: v4(),
        })
    );
    assert_eq!(
        address_of("4003 00 00 0c 00 0010 0000 18 20 0001 c0000201 0001 c0000201"),
        Address::Lcaf(Lcaf::SourceDest { source_mask_len: 24, dest_mask_len: 32, source: v4(), dest: v4() })
    );
    assert_eq!(
        address_of("4003 00 00 0d 00 000a 0000 00 03 0001 c0000201"),
        Address::Lcaf(Lcaf::ReplicationList(vec![RleEntry { level: 3, address: *v4() }]))
    );
    assert_eq!(address_of("0006 0102 0304 0506"), Address::Mac([1, 2, 3, 4, 5, 6]));
    assert_eq!(address_of("0011 61 62 00"), Address::DistinguishedName(b"ab".to_vec()));
}

/// Unknown types, and known ones whose content is not what RFC 8060 says, come out as they went in, reserved
/// fields included.
#[test]
fn other_lcafs_are_opaque() {
    for golden in [
        "4003 11 22 ff 33 0003 aabbcc",
        "4003 00 00 00 00 0000",
        // JSON.
        "4003 00 00 0e 40 0006 0004 7b7d2020",
        // A list whose second address has an unknown AFI.
        "4003 11 22 01 33 000a 0001 c0000201 7777 0000",
        // An instance ID LCAF with bytes after its address, and one without address.
        "4003 00 00 02 00 000b 00000007 0001 c0000201 00",
        "4003 00 00 02 00 0004 00000007",
        // A security key LCAF whose key is longer than the LCAF.
        "4003 00 00 0b 00 0008 01 00 05 00 0009 aabb",
    ] {
        let address = address_of(golden);
        assert!(matches!(address, Address::Lcaf(Lcaf::Opaque { .. })), "{golden}: {address:?}");
        assert_eq!(address.to_ip(), None);
    }
}

/// Nesting that no sender needs is not followed on decoding, and refused on encoding.
#[test]
fn lcafs_are_followed_to_a_limited_depth() {
    let mut bytes = hex("0001 c0000201");
    let mut address = Address::Ip(ip("192.0.2.1"));
    for _ in 0..10 {
        bytes = [&hex("4003 00 00 01 00"), (bytes.len() as u16).to_be_bytes().as_slice(), &bytes].concat();
        address = Address::Lcaf(Lcaf::List(vec![address]));
    }
    let mut decoded = &address_of(&super::display::Hex(&bytes).to_string());
    let mut depth = 0;
    while let Address::Lcaf(Lcaf::List(list)) = decoded {
        decoded = &list[0];
        depth += 1;
    }
    assert_eq!(depth, lcaf::MAX_DEPTH);
    assert!(matches!(decoded, Address::Lcaf(Lcaf::Opaque { kind: 1, .. })));
    let too_deep = address.encode(&mut Writer::default());
    assert_eq!(too_deep, Err(EncodeError::TooDeep { max: lcaf::MAX_DEPTH }));
}

#[test]
fn decode_errors_name_the_field() {
    use DecodeError::*;
    let decode = |text: &str| Message::decode(&hex(text)).unwrap_err();
    assert_eq!(decode(""), Missing("LISP message type"));
    assert_eq!(decode("00 00 00 00"), UnknownType(0));
    assert_eq!(decode("90"), UnknownType(9));
    assert_eq!(decode("20 00 00 01 00000000 00000001 0000"), Missing("EID-record TTL"));
    assert_eq!(
        decode("20 00 00 01 00000000 00000001 00000001 01 20 00 00 0000 0001 0a000001"),
        Missing("locator priorities and weights")
    );
    let unknown = "20 00 00 01 00000000 00000001 00000001 01 20 00 00 0000 0303 0a000001";
    assert_eq!(decode(unknown), UnknownAfi { field: "EID-record EID-prefix", afi: 0x0303 });
    assert_eq!(decode("20 00 00 00 00000000 00000001 00"), TrailingData(1));
    assert_eq!(decode("30 00 00 00 00000000 00000001 0001 0014 aa"), Missing("authentication data"));
    // A name without its NUL.
    let name = "10 00 00 00 00000000 00000001 0000 0011 6162";
    assert_eq!(decode(name), Missing("ITR-RLOC"));
}

#[test]
fn encode_refuses_what_does_not_fit() {
    let encode = |message| Message::encode(&message).unwrap_err();
    let request = |n| MapRequest { itr_rlocs: vec![Address::None; n], ..MapRequest::default() };
    assert_eq!(encode(Message::MapRequest(request(0))), EncodeError::TooFew("ITR-RLOC"));
    assert!(Message::MapRequest(request(32)).encode().is_ok());
    assert_eq!(
        encode(Message::MapRequest(request(33))),
        EncodeError::TooMany { field: "ITR-RLOC", count: 33, max: 32 }
    );
    let reply = |n| MapReply { records: vec![record(); n], ..MapReply::default() };
    assert!(Message::MapReply(reply(255)).encode().is_ok());
    assert_eq!(
        encode(Message::MapReply(reply(256))),
        EncodeError::TooMany { field: "record of a Map-Reply", count: 256, max: 255 }
    );
    let mut crowded = record();
    crowded.locators = vec![crowded.locators[0].clone(); 256];
    assert_eq!(
        encode(Message::MapReply(MapReply { records: vec![crowded], ..MapReply::default() })),
        EncodeError::TooMany { field: "locator of an EID-record", count: 256, max: 255 }
    );
    let auth = AuthData { data: vec![0; 65_536], ..AuthData::default() };
    assert_eq!(
        encode(Message::MapRegister(MapRegister { auth, ..MapRegister::default() })),
        EncodeError::TooLong { field: "authentication data", len: 65_536, max: 65_535 }
    );
    let name = Address::DistinguishedName(b"a\0b".to_vec());
    assert_eq!(
        encode(Message::MapRequest(MapRequest { source_eid: name, ..request(1) })),
        EncodeError::InvalidValue("distinguished name")
    );
    let ecm = |source: &str, payload| Ecm {
        ddt: false,
        security: None,
        source: source.parse().unwrap(),
        destination: "192.0.2.1:4342".parse().unwrap(),
        payload,
    };
    assert_eq!(encode(Message::Ecm(ecm("[::1]:1", vec![]))), EncodeError::FamilyMismatch);
    assert!(Message::Ecm(ecm("192.0.2.9:1", vec![0; 65_507])).encode().is_ok());
    assert_eq!(
        encode(Message::Ecm(ecm("192.0.2.9:1", vec![0; 65_508]))),
        EncodeError::TooLong { field: "ECM payload", len: 65_508, max: 65_507 }
    );
    let extension = SharedExtension { sub_type: 0x1000, flags: 0, payload: vec![] };
    assert_eq!(
        encode(Message::SharedExtension(extension)),
        EncodeError::InvalidValue("Shared Extension sub-type")
    );
}

/// The mask length is that of the inner prefix, host bits do not count, and what is no EID-prefix says why.
#[test]
fn eid_addresses_and_prefixes() {
    let eid = |mask_len, golden| EidAddress { mask_len, address: address_of(golden) };
    let instance = "4003 00 00 02 00 000a 00000007 0001 0a010203";
    assert_eq!(eid(16, instance).to_prefix(), Ok(prefix(7, "10.1.0.0/16")));
    assert_eq!(eid(16, "0001 0a010203").to_prefix(), Ok(prefix(0, "10.1.0.0/16")));
    assert_eq!(eid(33, "0001 0a010203").to_prefix(), Err(EidError::MaskLength(33)));
    assert_eq!(eid(0, "0000").to_prefix(), Err(EidError::NotIp));
    let too_large = "4003 00 00 02 00 000a 01000000 0001 0a010203";
    assert_eq!(eid(16, too_large).to_prefix(), Err(EidError::InstanceId(0x0100_0000)));
    let twice = "4003 00 00 02 00 0016 00000007 4003 00 00 02 00 000a 00000007 0001 0a010203";
    assert_eq!(eid(16, twice).to_prefix(), Err(EidError::NotIp));
    let default = EidAddress::from(prefix(0, "10.0.0.0/8"));
    assert_eq!(default.address, Address::Ip(ip("10.0.0.0")));
}

/// RLOCs are found inside a list (the first), an instance ID LCAF and a security key LCAF (RFC 8111 §6.4).
#[test]
fn locators_inside_lcafs() {
    let list = address_of("4003 00 00 01 00 000a 0000 0000 0001 c0000201");
    assert_eq!(list.to_ip(), Some(ip("192.0.2.1")));
    let instance = address_of("4003 00 00 02 00 000a 00000007 0001 c0000201");
    assert_eq!(instance.to_ip(), Some(ip("192.0.2.1")));
    let key = address_of("4003 00 00 0b 00 000a 00 00 05 00 0001 c0000201");
    assert_eq!(key.to_ip(), Some(ip("192.0.2.1")));
    assert_eq!(address_of("4003 00 00 0a 00 0008 0001 0001 c0000201").to_ip(), None);
}

/// A count promises 255 locators, the bytes end: nothing is allocated for what is not there.
#[test]
fn counts_do_not_allocate() {
    let mut r = Reader::new(&[]);
    assert_eq!(record::decode_records(&mut r, 255).unwrap_err(), DecodeError::Missing("EID-record TTL"));
}

#[test]
fn types_are_peeked_at() {
    for number in 0..16u8 {
        let peeked = peek_type(&[number << 4 | 0x0f]);
        match MessageType::from_number(number) {
            Some(kind) => assert_eq!((peeked, kind.number()), (Ok(kind), number)),
            None => assert_eq!(peeked, Err(DecodeError::UnknownType(number))),
        }
    }
}

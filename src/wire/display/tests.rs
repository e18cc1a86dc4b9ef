//! What people and programs get to see.

use super::*;
use crate::types::{Action, EidPrefix, InstanceId, MapVersion, Nonce, SiteId, Ttl, XtrId};

fn record() -> EidRecord {
    let locator = |priority, address: &str| LocatorRecord {
        priority,
        weight: 100,
        mpriority: 255,
        mweight: 0,
        local: true,
        probe: false,
        reachable: priority == 1,
        address: address.parse::<std::net::IpAddr>().unwrap().into(),
    };
    EidRecord {
        ttl: Ttl(60),
        action: Action::NoAction,
        authoritative: true,
        version: MapVersion::new(4),
        eid: EidPrefix::new(InstanceId::new(7).unwrap(), "10.1.0.0/16".parse().unwrap()).into(),
        locators: vec![locator(1, "192.0.2.1"), locator(2, "2001:db8::1")],
    }
}

fn register() -> Message {
    Message::MapRegister(MapRegister {
        proxy_reply: true,
        want_notify: true,
        nonce: Nonce(0x0102_0304_0506_0708),
        auth: AuthData { key_id: 3, algorithm: 2, data: vec![0xab, 0xcd] },
        records: vec![record()],
        xtr_site: Some(XtrSite { xtr_id: XtrId([0x11; 16]), site_id: SiteId(1) }),
        ..MapRegister::default()
    })
}

#[test]
fn a_map_register_shows_every_field() {
    let expected = "\
type_name: Map-Register
lisp_type: 3
flags: proxy_reply 1, lisp_sec 0, xtr_id_present 1, rtr 0, eid_notify 0, use_ttl 0, merge 0, want_map_notify 1
record_count: 1
nonce: 0x01020304-0x05060708
key_id: 3
algorithm: 2
algorithm_name: HMAC-SHA-256-128
auth_length: 2
auth_data: abcd
records:
  1:
    ttl: 60
    locator_count: 2
    action: no-action
    authoritative: 1
    map_version: 4
    eid_mask_len: 16
    eid_afi: 16387
    eid_instance_id: 7
    eid_prefix: [7]10.1.0.0/16
    locators:
      1: priority 1, weight 100, multicast_priority 255, multicast_weight 0, local 1, probe 0, reachable 1, \
         afi 1, address 192.0.2.1
      2: priority 2, weight 100, multicast_priority 255, multicast_weight 0, local 1, probe 0, reachable 0, \
         afi 2, address 2001:db8::1
xtr_id: 0x11111111111111111111111111111111
site_id: 0x0000000000000001
";
    assert_eq!(register().tree().to_string(), expected);
}

#[test]
fn an_ecm_shows_its_outer_bits_its_inner_header_and_its_message() {
    let ecm = Ecm {
        ddt: true,
        security: None,
        source: "192.0.2.1:61000".parse().unwrap(),
        destination: "10.1.1.1:4342".parse().unwrap(),
        payload: register().encode().unwrap(),
    };
    let tree = Message::Ecm(ecm.clone()).tree();
    assert_eq!(tree.get("flags").unwrap().get("ddt"), Some(&Value::Bool(true)));
    let header = tree.get("inner_header").unwrap();
    assert_eq!(header.get("source"), Some(&Value::Text("192.0.2.1".to_owned())));
    assert_eq!(header.get("destination_port"), Some(&Value::Number(4342)));
    assert_eq!(tree.get("inner_message"), Some(&register().tree()));
    let broken = Message::Ecm(Ecm { payload: vec![0x90], ..ecm }).tree();
    assert_eq!(broken.get("inner_error"), Some(&Value::Text("LISP message type 9 is unknown".to_owned())));
}

#[test]
fn summaries_are_one_line() {
    assert_eq!(
        register().summary().to_string(),
        "Map-Register nonce 0x01020304-0x05060708 key 3 HMAC-SHA-256-128 proxy-reply want-map-notify \
         xtr 0x11111111111111111111111111111111 site 0x0000000000000001 \
         ([7]10.1.0.0/16 ttl 60 min (192.0.2.1 1/100, !2001:db8::1 2/100))"
    );
    let negative = EidRecord { action: Action::NativelyForward, locators: Vec::new(), ..record() };
    let reply = MapReply { nonce: Nonce(1), records: vec![negative], ..MapReply::default() };
    assert_eq!(
        Message::MapReply(reply).summary().to_string(),
        "Map-Reply nonce 0x00000000-0x00000001 ([7]10.1.0.0/16 ttl 60 min natively-forward)"
    );
}

#[test]
fn hostile_messages_do_not_fill_the_log() {
    let name = Address::DistinguishedName(vec![b'\n'; 60_000]);
    let record = EidRecord { eid: EidAddress { mask_len: 0, address: name }, ..record() };
    let reply = Message::MapReply(MapReply { records: vec![record; 255], ..MapReply::default() });
    let summary = reply.summary().to_string();
    assert!(summary.len() < 1100 && !summary.contains('\n'), "{summary}");
}

#[test]
#[cfg(feature = "router")]
fn trees_serialise_as_they_are() {
    let inner = Object::new().text("d", "é\"");
    let object = Object::new()
        .field("a", 1u8)
        .field("b", true)
        .list("c", &["x"], |text| (*text).into())
        .optional("none", None::<bool>)
        .field("inner", inner);
    let json = serde_json::to_string(&Value::from(object)).unwrap();
    assert_eq!(json, r#"{"a":1,"b":true,"c":["x"],"inner":{"d":"é\""}}"#);
}

#[test]
fn hex_dumps_line_up() {
    let dump = HexDump(b"0123456789abcdef\x00").to_string();
    assert_eq!(
        dump,
        "0000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n\
         0010  00                                               .\n"
    );
}

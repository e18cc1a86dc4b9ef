//! What every fuzz target checks, shared with the test that replays the seeds.

use eidolon::auth::{self, Algorithm, Key, Secret};
use eidolon::wire::Message;
use eidolon::wire::display::Value;
use eidolon::wire::vrrp::{Advertisement, Packet};

/// A control message as it arrives: what decodes must encode to something that decodes to the same, be
/// readable, and not verify under a key that nobody knows.
pub(crate) fn control_decode(bytes: &[u8]) {
    let keys = Algorithm::ALL.map(|algorithm| Key {
        id: bytes.get(12).copied().unwrap_or(0),
        algorithm,
        secret: Secret::new(*b"known to nobody who writes seeds"),
        truncate: false,
    });
    assert!(auth::verify(bytes, &keys).is_err());
    let Ok(message) = Message::decode(bytes) else { return };
    stable(&message);
}

/// The content of an ECM, whose inner checksums are made right first, so that the fuzzer gets past them.
pub(crate) fn ecm(bytes: &[u8]) {
    let mut ecm = [&[0x80, 0, 0, 0], bytes].concat();
    repair(&mut ecm[4..]);
    let Ok(message) = Message::decode(&ecm) else { return };
    stable(&message);
    let Message::Ecm(ecm) = message else { panic!("type 8 is an ECM") };
    control_decode(&ecm.payload);
}

/// An IP packet as it comes from the link: an advertisement that decodes must encode to one that decodes to
/// the same. Returns whether it was one.
pub(crate) fn vrrp(bytes: &[u8]) -> bool {
    let Ok(packet) = Packet::parse(bytes) else { return false };
    let Ok((advertisement, checksum)) = Advertisement::decode(packet.payload, &packet.envelope) else {
        return false;
    };
    let again = advertisement.encode(&packet.envelope, checksum).expect("what was decoded can be encoded");
    assert_eq!(Advertisement::decode(&again, &packet.envelope), Ok((advertisement.clone(), checksum)));
    assert!(matches!(advertisement.tree(), Value::Object(_)));
    let line = advertisement.to_string();
    assert!(line.len() < 1100 && !line.contains('\n'));
    true
}

fn stable(message: &Message) {
    let bytes = message.encode().expect("what was decoded can be encoded");
    let again = Message::decode(&bytes).expect("what was encoded can be decoded");
    assert_eq!(&again, message);
    assert!(matches!(message.tree(), Value::Object(_)));
    let summary = message.summary().to_string();
    assert!(summary.len() < 1100 && !summary.contains('\n'));
}

/// Fills in the checksums of the IP and UDP headers that `packet` begins with, as far as they are there.
fn repair(packet: &mut [u8]) -> Option<()> {
    let (header_len, addresses) = match packet.first()? >> 4 {
        4 => (usize::from(packet[0] & 0x0f) * 4, 12..20),
        6 => (40, 8..40),
        _ => return None,
    };
    if packet[0] >> 4 == 4 && header_len >= 20 {
        packet.get_mut(10..12)?.fill(0);
        let sum = !fold(sum(packet.get(..header_len)?));
        packet.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    }
    let len = packet.get(header_len..)?.len();
    packet.get_mut(header_len + 6..header_len + 8)?.fill(0);
    let total = sum(packet.get(addresses)?) + 17 + len as u32 + sum(packet.get(header_len..)?);
    let sum = match !fold(total) {
        0 => 0xffff,
        sum => sum,
    };
    packet.get_mut(header_len + 6..header_len + 8)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0))).sum()
}

fn fold(mut total: u32) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

//! Vectors of the RFCs, messages sealed by another implementation, and what must not verify.

use super::*;
use crate::types::{SiteId, XtrId};
use crate::wire::{Address, EidAddress, Info, MapNotify, MapRegister, MapRequest};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn key(algorithm: Algorithm, secret: &[u8]) -> Key {
    Key { id: 0, algorithm, secret: Secret::new(secret), truncate: false }
}

fn register() -> MapRegister {
    MapRegister { nonce: Nonce(0x0102_0304_0506_0708), ..MapRegister::default() }
}

fn ids() -> XtrSite {
    XtrSite { xtr_id: XtrId(std::array::from_fn(|i| i as u8)), site_id: SiteId(0x1011_1213_1415_1617) }
}

#[test]
fn hmac_vectors() {
    let digest = |algorithm, secret: &[u8], data: &[u8]| {
        let mut mac = Mac::new(&key(algorithm, secret), Nonce(0), b"").unwrap();
        mac.update(data);
        mac.finish()
    };
    let jefe: &[u8] = b"what do ya want for nothing?";
    // RFC 2202 §3, which RFC 2404 §4 refers to: cases 1 and 2.
    let sha1 = Algorithm::HmacSha1;
    assert_eq!(digest(sha1, &[0x0b; 20], b"Hi There"), hex("b617318655057264e28bc0b6fb378c8ef146be00"));
    assert_eq!(digest(sha1, b"Jefe", jefe), hex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"));
    // RFC 4231 §4.2, §4.3, §4.7.
    let sha256 = Algorithm::HmacSha256;
    let long_key: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
    let rfc4231: [(&[u8], &[u8], &str); 3] = [
        (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (b"Jefe", jefe, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (&[0xaa; 131], long_key, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
    ];
    // RFC 4868 §2.7.2.1, AUTH256-1 to AUTH256-4.
    let counting: Vec<u8> = (1..=32).collect();
    let rfc4868: [(&[u8], &[u8], &str); 4] = [
        (&[0x0b; 32], b"Hi There", "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7"),
        (
            b"JefeJefeJefeJefeJefeJefeJefeJefe",
            jefe,
            "167f928588c5cc2eef8e3093caa0e87c9ff566a14794aa61648d81621a2a40c6",
        ),
        (&[0xaa; 32], &[0xdd; 50], "cdcb1220d1ecccea91e53aba3092f962e549fe6ce9ed7fdc43191fbde45c30b0"),
        (&counting, &[0xcd; 50], "372efcf9b40b35c2115b1346903d2ef42fced46f0846e7257bb156d3d7b30d3f"),
    ];
    for (secret, data, expected) in rfc4231.into_iter().chain(rfc4868) {
        assert_eq!(digest(sha256, secret, data), hex(expected));
    }
}

/// RFC 5869 §A.3, whose input key material is nonce and secret together here.
#[test]
fn hkdf_vector() {
    let derived = mac::message_key(&[0x0b; 14], Nonce(0x0b0b_0b0b_0b0b_0b0b), b"").unwrap();
    assert_eq!(derived[..], hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"));
}

/// Computed by an independent implementation of RFC 9301 §5.6 (Python's hmac module).
#[test]
fn sealed_messages_are_those_of_another_implementation() {
    let sealed = |algorithm| seal(Message::MapRegister(register()), &key(algorithm, b"secret")).unwrap();
    assert_eq!(
        sealed(Algorithm::HmacSha1),
        hex("30000000 0102030405060708 00010014 117e20b9f9afc7510c1c1287d8e373f1acca548b")
    );
    assert_eq!(
        sealed(Algorithm::HmacSha256),
        hex("30000000 0102030405060708 00020020
             7b1c7c776a2777a440c3d6653db3adffa1794164740599356793a838b935a2ff")
    );
    assert_eq!(
        sealed(Algorithm::HmacSha256Hkdf),
        hex("30000000 0102030405060708 00030020
             183ce8aaef665ae20d88bb34fde1a5eee77ecc2c3c1864a19690fba75beef262")
    );
    let ack = Message::MapNotifyAck(MapNotify { nonce: register().nonce, ..MapNotify::default() });
    let truncating = Key { truncate: true, ..key(Algorithm::HmacSha256Hkdf, b"secret") };
    assert_eq!(
        seal(ack, &truncating).unwrap(),
        hex("50000000 0102030405060708 00030010 e63653aa230cedac3f09564ad99aa607")
    );
    let with_ids = Message::MapRegister(MapRegister { xtr_site: Some(ids()), ..register() });
    let truncating = Key { id: 7, truncate: true, ..key(Algorithm::HmacSha256, b"secret") };
    assert_eq!(
        seal(with_ids, &truncating).unwrap(),
        hex("32000000 0102030405060708 07020010 44e2527cde41e5910de0a69a78da6c48
             000102030405060708090a0b0c0d0e0f1011121314151617")
    );
}

/// RFC 9301 §5.6 step 5 against deployed practice: with and without xTR-ID and Site-ID.
#[test]
fn both_coverages_verify() {
    let keys = [Key { id: 7, ..key(Algorithm::HmacSha256, b"secret") }];
    let tail = "000102030405060708090a0b0c0d0e0f1011121314151617";
    let head = "32000000 0102030405060708 07020010";
    assert_eq!(verify(&hex(&format!("{head} 44e2527cde41e5910de0a69a78da6c48 {tail}")), &keys), Ok(0));
    assert_eq!(verify(&hex(&format!("{head} 750de9ba80d55b625ac67d3706b6bc7e {tail}")), &keys), Ok(0));
    // Without the I bit, no byte may go uncovered.
    let head = "30000000 0102030405060708 07020010";
    assert_eq!(
        verify(&hex(&format!("{head} 750de9ba80d55b625ac67d3706b6bc7e {tail}")), &keys),
        Err(AuthError::Mismatch)
    );
}

fn every_kind() -> Vec<Message> {
    let notify = || MapNotify { nonce: Nonce(9), xtr_site: Some(ids()), ..MapNotify::default() };
    vec![
        Message::MapRegister(register()),
        Message::MapRegister(MapRegister { xtr_site: Some(ids()), ..register() }),
        Message::MapNotify(notify()),
        Message::MapNotifyAck(notify()),
        Message::Info(Info {
            reply: false,
            nonce: Nonce(9),
            auth: Default::default(),
            ttl: crate::types::Ttl(1),
            eid: EidAddress { mask_len: 0, address: Address::None },
            nat: Address::None,
        }),
    ]
}

#[test]
fn any_changed_byte_is_noticed_and_messages_of_one_kind_are_not_taken_for_another() {
    for algorithm in Algorithm::ALL {
        for truncate in [false, true] {
            let key = Key { truncate, ..key(algorithm, b"secret") };
            let keys = std::slice::from_ref(&key);
            for message in every_kind() {
                let bytes = seal(message.clone(), &key).unwrap();
                assert_eq!(verify(&bytes, keys), Ok(0));
                assert_eq!(Message::decode(&bytes).unwrap().auth().unwrap().algorithm, algorithm.id());
                for i in 0..bytes.len() {
                    let mut changed = bytes.clone();
                    changed[i] ^= 0x01;
                    assert!(verify(&changed, keys).is_err(), "{message:?} byte {i}");
                    assert!(verify(&bytes[..i], keys).is_err(), "{message:?} cut at {i}");
                }
            }
        }
    }
}

#[test]
fn the_right_key_is_found_and_errors_say_what_is_wrong() {
    let bytes = seal(Message::MapRegister(register()), &key(Algorithm::HmacSha256, b"new")).unwrap();
    let old = key(Algorithm::HmacSha256, b"old");
    let new = key(Algorithm::HmacSha256, b"new");
    let other_id = Key { id: 1, ..new.clone() };
    let sha1 = key(Algorithm::HmacSha1, b"new");
    let hkdf = key(Algorithm::HmacSha256Hkdf, b"new");
    assert_eq!(verify(&bytes, &[other_id.clone(), sha1.clone(), old.clone(), new]), Ok(3));
    assert_eq!(verify(&bytes, &[]), Err(AuthError::UnknownKeyId(0)));
    assert_eq!(verify(&bytes, &[other_id]), Err(AuthError::UnknownKeyId(0)));
    assert_eq!(verify(&bytes, &[sha1, hkdf]), Err(AuthError::WrongAlgorithm { key_id: 0, algorithm: 2 }));
    assert_eq!(verify(&bytes, std::slice::from_ref(&old)), Err(AuthError::Mismatch));
    // Cut to a digest of 8 bytes: neither form.
    let mut short = bytes[..24].to_vec();
    short[15] = 8;
    assert_eq!(
        verify(&short, &[old]),
        Err(AuthError::BadLength { algorithm: Algorithm::HmacSha256, len: 8 })
    );
}

/// Algorithm 0, "none" (RFC 9301 §12.5), must never pass, nor may an absent digest.
#[test]
fn unauthenticated_messages_never_verify() {
    let keys = Algorithm::ALL.map(|algorithm| key(algorithm, b"secret"));
    let plain = Message::MapRegister(register()).encode().unwrap();
    assert_eq!(verify(&plain, &keys), Err(AuthError::WrongAlgorithm { key_id: 0, algorithm: 0 }));
    let mut empty = plain;
    empty[13] = 2;
    assert_eq!(verify(&empty, &keys), Err(AuthError::BadLength { algorithm: Algorithm::HmacSha256, len: 0 }));
    let request = MapRequest { itr_rlocs: vec![Address::None], ..MapRequest::default() };
    let request = Message::MapRequest(request);
    assert_eq!(
        verify(&request.encode().unwrap(), &keys),
        Err(AuthError::Unauthenticated(MessageType::MapRequest))
    );
    assert_eq!(seal(request, &keys[0]), Err(SealError::Unauthenticated(MessageType::MapRequest)));
    assert_eq!(verify(&[], &keys), Err(AuthError::Decode(DecodeError::Missing("LISP message type"))));
}

/// Older equipment: one 16-bit Key ID, 0x0001 for SHA-1 and 0x0002 for SHA-256.
#[test]
fn a_16_bit_key_id_reads_as_key_0_and_its_algorithm() {
    let keys = [key(Algorithm::HmacSha1, b"secret"), key(Algorithm::HmacSha256, b"secret")];
    for (index, key) in keys.iter().enumerate() {
        let bytes = seal(Message::MapRegister(register()), key).unwrap();
        assert_eq!(u16::from_be_bytes([bytes[12], bytes[13]]), index as u16 + 1);
        assert_eq!(verify(&bytes, &keys), Ok(index));
    }
}

#[test]
fn secrets_are_not_printed() {
    let key = key(Algorithm::HmacSha1, b"hunter2");
    assert!(!format!("{key:?}").contains("hunter2"));
}

#[test]
fn algorithm_ids_are_those_of_the_registry() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::from_id(algorithm.id()), Some(algorithm));
        assert_eq!(crate::wire::display::algorithm_name(algorithm.id()), algorithm.name());
    }
    assert_eq!(Algorithm::from_id(0), None);
    assert_eq!(Algorithm::from_id(4), None);
}

//! What holds for every message: it survives encoding, every shorter form of it is an error, and whatever
//! bytes arrive, decoding neither panics nor yields something that cannot be sent on.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::types::Locator;

/// How much of the message's end is opaque, so that cutting it there goes unnoticed.
fn opaque_tail(message: &Message) -> usize {
    match message {
        Message::SharedExtension(m) => m.payload.len(),
        Message::MapReply(m) => m.security_data.len().saturating_sub(4),
        Message::MapNotify(m) | Message::MapNotifyAck(m) => m.rtr_auth.len(),
        _ => 0,
    }
}

fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(message) = Message::decode(bytes) else { return Ok(()) };
    let again = message.encode().expect("what was decoded can be encoded");
    prop_assert_eq!(&Message::decode(&again).expect("what was encoded can be decoded"), &message);
    // The readable forms must cope with anything, too.
    prop_assert!(!message.tree().to_string().is_empty());
    prop_assert!(message.summary().to_string().len() <= 1010);
    Ok(())
}

proptest! {
    #[test]
    fn messages_survive_encoding(message in arbitrary::message()) {
        let bytes = message.encode().unwrap();
        prop_assert_eq!(&Message::decode(&bytes).unwrap(), &message);
        survives(&bytes)?;
        // Into a buffer with stale content, and after something else.
        let mut dirty = vec![0xa5; 4096];
        dirty.clear();
        prop_assert_eq!(&message.encode_to(dirty).unwrap(), &bytes);
        let appended = message.encode_to(vec![0xa5; 3]).unwrap();
        prop_assert_eq!(appended.split_at(3), ([0xa5; 3].as_slice(), bytes.as_slice()));
    }

    #[test]
    fn every_shorter_form_is_an_error(message in arbitrary::message()) {
        let bytes = message.encode().unwrap();
        for len in 0..bytes.len() - opaque_tail(&message) {
            let result = Message::decode(&bytes[..len]);
            prop_assert!(result.is_err(), "cut to {} of {}: {:?}", len, bytes.len(), result);
        }
    }

    #[test]
    fn a_longer_form_is_an_error(message in arbitrary::message(), extra in vec(any::<u8>(), 1..30)) {
        // These end wherever the datagram does.
        let open = matches!(message, Message::SharedExtension(_))
            || matches!(&message, Message::MapReply(m) if m.security)
            || matches!(&message, Message::MapNotify(m) | Message::MapNotifyAck(m) if m.rtr);
        prop_assume!(!open);
        let mut bytes = message.encode().unwrap();
        bytes.extend_from_slice(&extra);
        prop_assert_eq!(Message::decode(&bytes), Err(DecodeError::TrailingData(extra.len())));
    }

    #[test]
    fn nearly_valid_bytes_never_hurt(
        message in arbitrary::message(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = message.encode().unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        survives(&bytes)?;
    }

    #[test]
    fn random_bytes_never_hurt(bytes in vec(any::<u8>(), 0..200)) {
        survives(&bytes)?;
    }

    #[test]
    fn mappings_survive_records(mapping in arbitrary::mapping()) {
        let record = EidRecord::from(&mapping);
        prop_assert_eq!(record.to_mapping(), Ok((mapping, 0)));
    }

    #[test]
    fn locators_without_an_ip_address_are_left_out_and_counted(record in arbitrary::eid_record()) {
        let usable: Vec<Locator> = record.locators.iter().filter_map(LocatorRecord::to_locator).collect();
        match record.to_mapping() {
            Ok((mapping, skipped)) => {
                prop_assert_eq!(skipped, record.locators.len() - usable.len());
                prop_assert_eq!(mapping.locators, usable);
                prop_assert_eq!(mapping.eid, record.eid.to_prefix().unwrap());
            }
            Err(error) => prop_assert_eq!(record.eid.to_prefix(), Err(error)),
        }
    }
}

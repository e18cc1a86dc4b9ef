//! Map-Referral (RFC 8111 §6.4).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+---------------------------------------+---------------+
//! |Type=6 |               Reserved                | Record Count  |
//! +-------+---------------------------------------+---------------+
//! |                             Nonce                             |
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                      Record TTL (minutes)                     |  Record Count times
//! +---------------+---------------+-----+-+-+---------------------+
//! |Referral Count | EID mask-len  | ACT |A|I|      Reserved       |
//! +-------+-------+---------------+-----+-+-+---------------------+
//! |SigCnt |  Map-Version Number   |            EID-AFI            |
//! +-------+-----------------------+-------------------------------+
//! |      EID-prefix and referral set as in an EID-record ...      |
//! +---------------------------------------------------------------+
//! |     original TTL, expiration, inception (32 bits each)        |  SigCnt times
//! +-------------------------------+-------------------------------+
//! |            Key Tag            |          Sig Length           |
//! +---------------+---------------+-------------------------------+
//! | Sig-Algorithm |                   Reserved                    |
//! +---------------+-----------------------------------------------+
//! |                         Signature ...                         |
//! +---------------------------------------------------------------+
//! ```

use crate::types::Nonce;

use super::codec::{Reader, Writer};
use super::record::ReferralBits;
use super::{DecodeError, EidRecord, EncodeError, MessageType};

/// Map-Referral, type 6 (RFC 8111 §6.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapReferral {
    /// The nonce of the Map-Request.
    pub nonce: Nonce,
    /// The referrals.
    pub records: Vec<ReferralRecord>,
}

/// One referral record; `record.action` holds the 3-bit referral action code (RFC 8111 §6.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferralRecord {
    /// I: the referral set is incomplete.
    pub incomplete: bool,
    /// TTL, EID, action bits and the referral set.
    pub record: EidRecord,
    /// Signature sections, at most 15, each with its fixed part of 20 bytes; opaque.
    pub signatures: Vec<Vec<u8>>,
}

/// Signature section up to the signature: TTL, expiration, inception, key tag, length, algorithm, reserved.
const SIGNATURE_FIXED: usize = 20;
const MAX_SIGNATURES: usize = 15;

impl MapReferral {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [_, _, _, count] = r.array("Map-Referral header")?;
        let nonce = Nonce(r.u64("Map-Referral nonce")?);
        let mut records = Vec::new();
        for _ in 0..count {
            records.push(ReferralRecord::decode(r)?);
        }
        Ok(Self { nonce, records })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.u8(MessageType::MapReferral.first_byte());
        w.u16(0);
        w.count8(self.records.len(), "record of a Map-Referral")?;
        w.u64(self.nonce.0);
        self.records.iter().try_for_each(|record| record.encode(w))
    }
}

impl ReferralRecord {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (record, bits) = EidRecord::decode_parts(r)?;
        let mut signatures = Vec::new();
        for _ in 0..bits.signatures {
            let len = signature_len(*r)?;
            signatures.push(r.take(len, "signature")?.to_vec());
        }
        Ok(Self { incomplete: bits.incomplete, record, signatures })
    }

    fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        let (field, count, max) = ("signature of a referral record", self.signatures.len(), MAX_SIGNATURES);
        if count > max {
            return Err(EncodeError::TooMany { field, count, max });
        }
        self.record
            .encode_parts(w, ReferralBits { incomplete: self.incomplete, signatures: count as u16 })?;
        for signature in &self.signatures {
            if signature_len(Reader::new(signature)) != Ok(signature.len()) {
                return Err(EncodeError::InvalidValue("signature length"));
            }
            w.slice(signature);
        }
        Ok(())
    }
}

/// Length of the signature section that `r` begins with, by what its length field says.
fn signature_len(mut r: Reader<'_>) -> Result<usize, DecodeError> {
    r.take(14, "signature section")?;
    let len = r.u16("signature length")?;
    Ok(SIGNATURE_FIXED + usize::from(len))
}

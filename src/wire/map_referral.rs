use crate::types::Nonce;

use super::EidRecord;

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
    /// Signatures, opaque.
    pub signatures: Vec<Vec<u8>>,
}

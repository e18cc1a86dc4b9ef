use crate::types::{Action, MapVersion, Ttl};

use super::Address;

/// An EID-prefix as messages carry it: a mask length and an address (RFC 9301 §5.2, §5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EidAddress {
    /// Mask length in bits.
    pub mask_len: u8,
    /// The address; with an instance ID other than 0 an instance ID LCAF around it.
    pub address: Address,
}

/// An EID-record: a mapping as messages carry it (RFC 9301 §5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EidRecord {
    /// Time to live in minutes.
    pub ttl: Ttl,
    /// ACT.
    pub action: Action,
    /// A.
    pub authoritative: bool,
    /// Map-Version Number.
    pub version: MapVersion,
    /// EID mask-len and EID-Prefix.
    pub eid: EidAddress,
    /// RLOC-records, at most 255.
    pub locators: Vec<LocatorRecord>,
}

/// An RLOC-record (RFC 9301 §5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatorRecord {
    /// Unicast priority.
    pub priority: u8,
    /// Unicast weight.
    pub weight: u8,
    /// Multicast priority.
    pub mpriority: u8,
    /// Multicast weight.
    pub mweight: u8,
    /// L.
    pub local: bool,
    /// p.
    pub probe: bool,
    /// R.
    pub reachable: bool,
    /// The address.
    pub address: Address,
}

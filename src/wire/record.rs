//! EID-records and RLOC-records (RFC 9301 §5.4), shared by most messages.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------------------------------------------------------+
//! |                      Record TTL (minutes)                     |
//! +---------------+---------------+-----+-+-----------------------+
//! | Locator Count | EID mask-len  | ACT |A|       Reserved        |
//! +-------+-------+---------------+-----+-+-----------------------+
//! | Rsvd  |  Map-Version Number   |        EID-Prefix-AFI         |
//! +-------+-----------------------+-------------------------------+
//! |                          EID-Prefix ...                       |
//! +---------------+---------------+---------------+---------------+
//! |   Priority    |    Weight     |  M Priority   |   M Weight    |  once per
//! +---------------+---------+-+-+-+---------------+---------------+  locator
//! |      Unused flags       |L|p|R|            Loc-AFI            |
//! +-------------------------+-+-+-+-------------------------------+
//! |                          Locator ...                          |
//! +---------------------------------------------------------------+
//! ```

use std::net::IpAddr;

use ipnet::IpNet;

use crate::types::{Action, EidPrefix, Locator, MapVersion, Mapping, Ttl};

use super::codec::{Reader, Writer, flag};
use super::{Address, DecodeError, EidError, EncodeError};

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

impl EidAddress {
    /// The EID-prefix that this is. The mask length is that of the address within an instance ID LCAF, not of
    /// the LCAF. Host bits are cleared: the mask alone says how much of the address counts (RFC 9301 §5.2),
    /// and a Map-Request for a host within a cached prefix may well carry them.
    pub fn to_prefix(&self) -> Result<EidPrefix, EidError> {
        let eid = self.address.to_eid()?;
        let net = IpNet::new(eid.addr, self.mask_len).map_err(|_| EidError::MaskLength(self.mask_len))?;
        Ok(EidPrefix::new(eid.iid, net))
    }
}

impl From<EidPrefix> for EidAddress {
    fn from(prefix: EidPrefix) -> Self {
        Self { mask_len: prefix.len(), address: prefix.first().into() }
    }
}

impl EidRecord {
    /// The mapping, and how many locators were left out because they are no IP address ([`Address::to_ip`]).
    /// Where some were, locator-status-bits no longer match the positions of the others; where all were, the
    /// mapping looks negative although the record is not.
    pub fn to_mapping(&self) -> Result<(Mapping, usize), EidError> {
        let eid = self.eid.to_prefix()?;
        let locators: Vec<Locator> = self.locators.iter().filter_map(LocatorRecord::to_locator).collect();
        let skipped = self.locators.len().saturating_sub(locators.len());
        let Self { ttl, action, authoritative, version, .. } = *self;
        Ok((Mapping { eid, ttl, action, authoritative, version, locators }, skipped))
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_parts(r).map(|(record, _)| record)
    }

    /// The record, and the bits that a Map-Referral uses and others reserve (RFC 8111 §6.4).
    pub(super) fn decode_parts(r: &mut Reader<'_>) -> Result<(Self, ReferralBits), DecodeError> {
        let ttl = Ttl(r.u32("EID-record TTL")?);
        let count = r.u8("EID-record locator count")?;
        let mask_len = r.u8("EID-record mask length")?;
        let [bits, _] = r.array("EID-record action")?;
        let version = r.u16("EID-record map-version")?;
        let address = Address::decode(r, "EID-record EID-prefix")?;
        // One after the other, so that a count that promises more than there is costs nothing.
        let mut locators = Vec::new();
        for _ in 0..count {
            locators.push(LocatorRecord::decode(r)?);
        }
        let record = Self {
            ttl,
            action: Action::from_bits(bits >> 5),
            authoritative: bits & 0x10 != 0,
            version: MapVersion::new(version),
            eid: EidAddress { mask_len, address },
            locators,
        };
        Ok((record, ReferralBits { incomplete: bits & 0x08 != 0, signatures: version >> 12 }))
    }

    pub(crate) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        self.encode_parts(w, ReferralBits::default())
    }

    pub(super) fn encode_parts(&self, w: &mut Writer, extra: ReferralBits) -> Result<(), EncodeError> {
        w.u32(self.ttl.0);
        w.count8(self.locators.len(), "locator of an EID-record")?;
        w.u8(self.eid.mask_len);
        w.u8(self.action.bits() << 5 | flag(self.authoritative, 0x10) | flag(extra.incomplete, 0x08));
        w.u8(0);
        w.u16(extra.signatures << 12 | self.version.get());
        self.eid.address.encode(w)?;
        self.locators.iter().try_for_each(|locator| locator.encode(w))
    }
}

impl From<&Mapping> for EidRecord {
    fn from(mapping: &Mapping) -> Self {
        Self {
            ttl: mapping.ttl,
            action: mapping.action,
            authoritative: mapping.authoritative,
            version: mapping.version,
            eid: mapping.eid.into(),
            locators: mapping.locators.iter().map(LocatorRecord::from).collect(),
        }
    }
}

/// Bits of an EID-record that only a Map-Referral uses (RFC 8111 §6.4).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReferralBits {
    /// I.
    pub(super) incomplete: bool,
    /// SigCnt, 0 to 15.
    pub(super) signatures: u16,
}

impl LocatorRecord {
    /// The locator, where its address is an IP address ([`Address::to_ip`]).
    pub fn to_locator(&self) -> Option<Locator> {
        let rloc = self.address.to_ip()?;
        let Self { priority, weight, mpriority, mweight, local, probe, reachable, .. } = *self;
        Some(Locator { rloc, priority, weight, mpriority, mweight, local, probe, reachable })
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [priority, weight, mpriority, mweight] = r.array("locator priorities and weights")?;
        let [_, bits] = r.array("locator flags")?;
        Ok(Self {
            priority,
            weight,
            mpriority,
            mweight,
            local: bits & 4 != 0,
            probe: bits & 2 != 0,
            reachable: bits & 1 != 0,
            address: Address::decode(r, "locator address")?,
        })
    }

    fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.slice(&[self.priority, self.weight, self.mpriority, self.mweight, 0]);
        w.u8(flag(self.local, 4) | flag(self.probe, 2) | flag(self.reachable, 1));
        self.address.encode(w)
    }
}

impl From<&Locator> for LocatorRecord {
    fn from(locator: &Locator) -> Self {
        let Locator { rloc, priority, weight, mpriority, mweight, local, probe, reachable } = *locator;
        Self { priority, weight, mpriority, mweight, local, probe, reachable, address: rloc.into() }
    }
}

impl From<IpAddr> for EidAddress {
    /// A host in the default instance.
    fn from(ip: IpAddr) -> Self {
        EidPrefix::from(IpNet::from(ip)).into()
    }
}

/// As many EID-records as the message's record count says.
pub(super) fn decode_records(r: &mut Reader<'_>, count: u8) -> Result<Vec<EidRecord>, DecodeError> {
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(EidRecord::decode(r)?);
    }
    Ok(records)
}

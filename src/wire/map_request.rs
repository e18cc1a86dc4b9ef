//! Map-Request (RFC 9301 §5.2; the I bit, xTR-ID and Site-ID: LISP publish/subscribe).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-+-+-+-+-+-+-+-+---------+-+-+---------+---------------+
//! |Type=1 |A|M|P|S|p|s|R|I|  Rsvd   |L|D|   IRC   | Record Count  |
//! +-------+-+-+-+-+-+-+-+-+---------+-+-+---------+---------------+
//! |                             Nonce                             |
//! |                                                               |
//! +-------------------------------+-------------------------------+
//! |        Source-EID-AFI         |    Source EID Address ...     |
//! +-------------------------------+-------------------------------+
//! |         ITR-RLOC-AFI          |     ITR-RLOC Address ...      |  IRC + 1 times
//! +---------------+---------------+-------------------------------+
//! |   Reserved    | EID mask-len  |        EID-Prefix-AFI         |  Record Count times
//! +---------------+---------------+-------------------------------+
//! |                        EID-Prefix ...                         |
//! +---------------------------------------------------------------+
//! |          M: the sender's mapping, an EID-record ...           |
//! +---------------------------------------------------------------+
//! |           I: xTR-ID (128 bits) and Site-ID (64 bits)          |
//! +---------------------------------------------------------------+
//! ```

use crate::types::Nonce;

use super::codec::{Reader, Writer, flag};
use super::{Address, DecodeError, EidAddress, EidRecord, EncodeError, MessageType, XtrSite};

/// Map-Request, type 1 (RFC 9301 §5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapRequest {
    /// A: an authoritative answer is wanted (from the ETR, not a cache).
    pub authoritative: bool,
    /// P: this is an RLOC-probe.
    pub probe: bool,
    /// S: this is a Solicit-Map-Request.
    pub smr: bool,
    /// p: sent by a proxy ITR.
    pub pitr: bool,
    /// s: invoked by an SMR.
    pub smr_invoked: bool,
    /// L: the xTR that sent this is in the site (local-xtr bit).
    pub local_xtr: bool,
    /// D: do not answer with a Map-Reply (dont-map-reply bit).
    pub dont_map_reply: bool,
    /// The nonce, to be echoed in the Map-Reply.
    pub nonce: Nonce,
    /// Source-EID, [`Address::None`] where there is none.
    pub source_eid: Address,
    /// ITR-RLOCs, 1 to 32: where the reply may go.
    pub itr_rlocs: Vec<Address>,
    /// What is asked for.
    pub records: Vec<EidAddress>,
    /// M: the sender's own mapping.
    pub map_reply_record: Option<EidRecord>,
    /// xTR-ID and Site-ID at the end (I bit, publish/subscribe).
    pub xtr_site: Option<XtrSite>,
}

impl MapRequest {
    /// The most ITR-RLOCs that the 5-bit IRC can count.
    pub const MAX_ITR_RLOCS: usize = 32;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [a, b, c, count] = r.array("Map-Request header")?;
        let nonce = Nonce(r.u64("Map-Request nonce")?);
        let source_eid = Address::decode(r, "source EID")?;
        let mut itr_rlocs = Vec::new();
        for _ in 0..=(c & 0x1f) {
            itr_rlocs.push(Address::decode(r, "ITR-RLOC")?);
        }
        let mut records = Vec::new();
        for _ in 0..count {
            let [_, mask_len] = r.array("Map-Request record mask length")?;
            records
                .push(EidAddress { mask_len, address: Address::decode(r, "Map-Request record EID-prefix")? });
        }
        Ok(Self {
            authoritative: a & 0x08 != 0,
            probe: a & 0x02 != 0,
            smr: a & 0x01 != 0,
            pitr: b & 0x80 != 0,
            smr_invoked: b & 0x40 != 0,
            local_xtr: c & 0x40 != 0,
            dont_map_reply: c & 0x20 != 0,
            nonce,
            source_eid,
            itr_rlocs,
            records,
            map_reply_record: if a & 0x04 != 0 { Some(EidRecord::decode(r)?) } else { None },
            xtr_site: if b & 0x10 != 0 { Some(XtrSite::decode(r)?) } else { None },
        })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        let (field, max) = ("ITR-RLOC", Self::MAX_ITR_RLOCS);
        let count = self.itr_rlocs.len();
        let irc = match count.checked_sub(1).ok_or(EncodeError::TooFew(field))? {
            irc @ 0..Self::MAX_ITR_RLOCS => irc as u8,
            _ => return Err(EncodeError::TooMany { field, count, max }),
        };
        w.u8(MessageType::MapRequest.first_byte()
            | flag(self.authoritative, 0x08)
            | flag(self.map_reply_record.is_some(), 0x04)
            | flag(self.probe, 0x02)
            | flag(self.smr, 0x01));
        w.u8(flag(self.pitr, 0x80) | flag(self.smr_invoked, 0x40) | flag(self.xtr_site.is_some(), 0x10));
        w.u8(flag(self.local_xtr, 0x40) | flag(self.dont_map_reply, 0x20) | irc);
        w.count8(self.records.len(), "record of a Map-Request")?;
        w.u64(self.nonce.0);
        self.source_eid.encode(w)?;
        self.itr_rlocs.iter().try_for_each(|rloc| rloc.encode(w))?;
        for record in &self.records {
            w.slice(&[0, record.mask_len]);
            record.address.encode(w)?;
        }
        if let Some(record) = &self.map_reply_record {
            record.encode(w)?;
        }
        if let Some(ids) = &self.xtr_site {
            ids.encode(w);
        }
        Ok(())
    }
}

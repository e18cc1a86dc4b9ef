//! Map-Notify and Map-Notify-Ack (RFC 9301 §5.7; the I and R bits: NAT traversal for LISP).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-+-+-+---------------------------------+---------------+
//! |Type4/5|I|R|i|            Reserved             | Record Count  |
//! +-------+-+-+-+---------------------------------+---------------+
//! |                             Nonce                             |
//! |                                                               |
//! +---------------+---------------+-------------------------------+
//! |    Key ID     | Algorithm ID  |  Authentication Data Length   |
//! +---------------+---------------+-------------------------------+
//! |                    Authentication Data ...                    |
//! +---------------------------------------------------------------+
//! |                         EID-record ...                        |  Record Count times
//! +---------------------------------------------------------------+
//! |           I: xTR-ID (128 bits) and Site-ID (64 bits)          |
//! +---------------------------------------------------------------+
//! |           R: the RTR's authentication data ...                |
//! +---------------------------------------------------------------+
//! ```
//!
//! RFC 9301 has all flags reserved, and says that fields are copied from the Map-Register. A receiver
//! therefore also takes `i`, where a Map-Register has its I bit, provided that exactly the two identifiers
//! follow the records.

use crate::types::Nonce;

use super::codec::{Reader, Writer, flag};
use super::record::decode_records;
use super::{AuthData, DecodeError, EidRecord, EncodeError, MessageType, XtrSite};

/// Map-Notify, type 4, and Map-Notify-Ack, type 5 (RFC 9301 §5.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapNotify {
    /// R: from an RTR.
    pub rtr: bool,
    /// The nonce of the Map-Register, or the sender's own when unsolicited.
    pub nonce: Nonce,
    /// Authentication.
    pub auth: AuthData,
    /// The mappings, at most 255.
    pub records: Vec<EidRecord>,
    /// I: xTR-ID and Site-ID.
    pub xtr_site: Option<XtrSite>,
    /// What follows all else when R is set: authentication between Map-Server and RTR, opaque.
    pub rtr_auth: Vec<u8>,
}

impl MapNotify {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [a, _, _, count] = r.array("Map-Notify header")?;
        let nonce = Nonce(r.u64("Map-Notify nonce")?);
        let auth = AuthData::decode(r)?;
        let records = decode_records(r, count)?;
        let has_ids = a & 0x08 != 0 || (a & 0x02 != 0 && r.len() == XtrSite::LEN);
        let xtr_site = if has_ids { Some(XtrSite::decode(r)?) } else { None };
        let rtr = a & 0x04 != 0;
        let rtr_auth = if rtr { r.take_rest().to_vec() } else { Vec::new() };
        Ok(Self { rtr, nonce, auth, records, xtr_site, rtr_auth })
    }

    pub(super) fn encode(&self, w: &mut Writer, kind: MessageType) -> Result<(), EncodeError> {
        if !self.rtr && !self.rtr_auth.is_empty() {
            return Err(EncodeError::InvalidValue("RTR authentication data"));
        }
        w.u8(kind.first_byte() | flag(self.xtr_site.is_some(), 0x08) | flag(self.rtr, 0x04));
        w.u16(0);
        w.count8(self.records.len(), "record of a Map-Notify")?;
        w.u64(self.nonce.0);
        self.auth.encode(w)?;
        self.records.iter().try_for_each(|record| record.encode(w))?;
        if let Some(ids) = &self.xtr_site {
            ids.encode(w);
        }
        w.slice(&self.rtr_auth);
        Ok(())
    }
}

//! Map-Register (RFC 9301 §5.6; the R bit: NAT traversal for LISP), and what it shares with the other
//! authenticated messages.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-+-+-+-+---------------------+-+-+-+-+-+---------------+
//! |Type=3 |P|S|I|R|      Reserved       |E|T|a|r|M| Record Count  |
//! +-------+-+-+-+-+---------------------+-+-+-+-+-+---------------+
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
//! ```
//!
//! `r` is reserved. Older equipment has a 16-bit Key ID that holds 1 for HMAC-SHA-1 and 2 for HMAC-SHA-256:
//! read as above, that is key 0 and algorithm 1 or 2, which is what it means.

use crate::types::{Nonce, SiteId, XtrId};

use super::codec::{Reader, Writer, flag};
use super::record::decode_records;
use super::{DecodeError, EidRecord, EncodeError, MessageType};

/// Key ID, Algorithm ID and Authentication Data as they are in the message (RFC 9301 §5.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthData {
    /// Key ID.
    pub key_id: u8,
    /// Algorithm ID, see `auth::Algorithm`.
    pub algorithm: u8,
    /// The MAC, at most 65,535 bytes; filled in by `auth`.
    pub data: Vec<u8>,
}

/// xTR-ID and Site-ID, at the end of a Map-Register or Map-Notify whose I bit is set (RFC 9301 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XtrSite {
    /// xTR-ID.
    pub xtr_id: XtrId,
    /// Site-ID.
    pub site_id: SiteId,
}

/// Map-Register, type 3 (RFC 9301 §5.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapRegister {
    /// P: the Map-Server is to answer Map-Requests itself.
    pub proxy_reply: bool,
    /// S: the sender supports LISP-SEC.
    pub lisp_sec: bool,
    /// E: a first-hop router registers an EID that it discovered (EID-notify bit).
    pub eid_notify: bool,
    /// T: the Map-Server times the registration out by the record's TTL.
    pub use_ttl: bool,
    /// a: the registrations of several xTRs of a site are merged.
    pub merge: bool,
    /// R: the sender wants an RTR's help behind a NAT.
    pub rtr: bool,
    /// M: a Map-Notify is wanted.
    pub want_notify: bool,
    /// The nonce.
    pub nonce: Nonce,
    /// Authentication.
    pub auth: AuthData,
    /// The mappings, at most 255.
    pub records: Vec<EidRecord>,
    /// I: xTR-ID and Site-ID.
    pub xtr_site: Option<XtrSite>,
}

impl AuthData {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [key_id, algorithm] = r.array("key ID")?;
        let len = r.u16("authentication data length")?;
        let data = r.take(usize::from(len), "authentication data")?.to_vec();
        Ok(Self { key_id, algorithm, data })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.slice(&[self.key_id, self.algorithm]);
        w.with_len16("authentication data", |w| {
            w.slice(&self.data);
            Ok(())
        })
    }
}

impl XtrSite {
    /// Bytes on the wire.
    pub(crate) const LEN: usize = 24;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { xtr_id: XtrId(r.array("xTR-ID")?), site_id: SiteId(r.u64("Site-ID")?) })
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        w.slice(&self.xtr_id.0);
        w.u64(self.site_id.0);
    }
}

impl MapRegister {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [a, _, c, count] = r.array("Map-Register header")?;
        Ok(Self {
            proxy_reply: a & 0x08 != 0,
            lisp_sec: a & 0x04 != 0,
            eid_notify: c & 0x10 != 0,
            use_ttl: c & 0x08 != 0,
            merge: c & 0x04 != 0,
            rtr: a & 0x01 != 0,
            want_notify: c & 0x01 != 0,
            nonce: Nonce(r.u64("Map-Register nonce")?),
            auth: AuthData::decode(r)?,
            records: decode_records(r, count)?,
            xtr_site: if a & 0x02 != 0 { Some(XtrSite::decode(r)?) } else { None },
        })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.u8(MessageType::MapRegister.first_byte()
            | flag(self.proxy_reply, 0x08)
            | flag(self.lisp_sec, 0x04)
            | flag(self.xtr_site.is_some(), 0x02)
            | flag(self.rtr, 0x01));
        w.u8(0);
        w.u8(flag(self.eid_notify, 0x10)
            | flag(self.use_ttl, 0x08)
            | flag(self.merge, 0x04)
            | flag(self.want_notify, 0x01));
        w.count8(self.records.len(), "record of a Map-Register")?;
        w.u64(self.nonce.0);
        self.auth.encode(w)?;
        self.records.iter().try_for_each(|record| record.encode(w))?;
        if let Some(ids) = &self.xtr_site {
            ids.encode(w);
        }
        Ok(())
    }
}

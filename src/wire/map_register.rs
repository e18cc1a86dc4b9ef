use crate::types::{Nonce, SiteId, XtrId};

use super::EidRecord;

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

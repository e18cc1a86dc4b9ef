use crate::types::Nonce;

use super::{AuthData, EidRecord, XtrSite};

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
}

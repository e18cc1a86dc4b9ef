use crate::types::Nonce;

use super::EidRecord;

/// Map-Reply, type 2 (RFC 9301 §5.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapReply {
    /// P: answers an RLOC-probe.
    pub probe: bool,
    /// E: the sender has echo-nonce enabled.
    pub echo_nonce: bool,
    /// S: LISP-SEC data follows the records (kept in `security`).
    pub security: bool,
    /// The nonce of the Map-Request.
    pub nonce: Nonce,
    /// The mappings.
    pub records: Vec<EidRecord>,
    /// LISP-SEC authentication data, when `security`; re-encoded as it came.
    pub security_data: Vec<u8>,
}

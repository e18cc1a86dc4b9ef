use crate::types::Nonce;

use super::{Address, EidAddress, EidRecord, XtrSite};

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

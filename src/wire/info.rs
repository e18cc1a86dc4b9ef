use crate::types::{Nonce, Ttl};

use super::{Address, AuthData, EidAddress};

/// Info-Request and Info-Reply, type 7 (NAT traversal).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// R: this is a reply.
    pub reply: bool,
    /// The nonce.
    pub nonce: Nonce,
    /// Authentication.
    pub auth: AuthData,
    /// TTL.
    pub ttl: Ttl,
    /// The EID-prefix.
    pub eid: EidAddress,
    /// AFI 0 in a request, a NAT traversal LCAF in a reply.
    pub nat: Address,
}

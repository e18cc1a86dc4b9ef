use std::net::SocketAddr;

/// Encapsulated Control Message, type 8 (RFC 9301 §5.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ecm {
    /// D: sent by a Map-Resolver that follows DDT.
    pub ddt: bool,
    /// S: LISP-SEC authentication data, opaque, without the S bit itself.
    pub security: Option<Vec<u8>>,
    /// Inner source address and port. For a Map-Request, the port is where the Map-Reply goes.
    pub source: SocketAddr,
    /// Inner destination address and port. For a Map-Request, the address is the EID. Same family as `source`.
    pub destination: SocketAddr,
    /// The inner control message, still encoded.
    pub payload: Vec<u8>,
}

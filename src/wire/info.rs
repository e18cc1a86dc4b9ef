//! Info-Request and Info-Reply (NAT traversal for LISP; the LCAF: RFC 8060 §4.4).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-+-----------------------------------------------------+
//! |Type=7 |R|                      Reserved                       |
//! +-------+-+-----------------------------------------------------+
//! |                             Nonce                             |
//! |                                                               |
//! +---------------+---------------+-------------------------------+
//! |    Key ID     | Algorithm ID  |  Authentication Data Length   |
//! +---------------+---------------+-------------------------------+
//! |                    Authentication Data ...                    |
//! +---------------------------------------------------------------+
//! |                         TTL (minutes)                         |
//! +---------------+---------------+-------------------------------+
//! |   Reserved    | EID mask-len  |        EID-prefix-AFI         |
//! +---------------+---------------+-------------------------------+
//! |                        EID-prefix ...                         |
//! +-------------------------------+-------------------------------+
//! | AFI: 0, or 16387 in a reply   |  NAT traversal LCAF ...       |
//! +-------------------------------+-------------------------------+
//! ```

use crate::types::{Nonce, Ttl};

use super::codec::{Reader, Writer, flag};
use super::{Address, AuthData, DecodeError, EidAddress, EncodeError, MessageType};

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

impl Info {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [a, _, _, _] = r.array("Info header")?;
        let nonce = Nonce(r.u64("Info nonce")?);
        let auth = AuthData::decode(r)?;
        let ttl = Ttl(r.u32("Info TTL")?);
        let [_, mask_len] = r.array("Info mask length")?;
        let eid = EidAddress { mask_len, address: Address::decode(r, "Info EID-prefix")? };
        let nat = Address::decode(r, "Info NAT traversal address")?;
        Ok(Self { reply: a & 0x08 != 0, nonce, auth, ttl, eid, nat })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.u8(MessageType::Info.first_byte() | flag(self.reply, 0x08));
        w.slice(&[0; 3]);
        w.u64(self.nonce.0);
        self.auth.encode(w)?;
        w.u32(self.ttl.0);
        w.slice(&[0, self.eid.mask_len]);
        self.eid.address.encode(w)?;
        self.nat.encode(w)
    }
}

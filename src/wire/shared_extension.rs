//! LISP Shared Extension (RFC 9304 §3), of sub-types that have no file of their own; [`super::cache_sync`]
//! has.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-----------------------+-------------------------------+
//! |Type=15|       Sub-type        |    16 bits of the extension   |
//! +-------+-----------------------+-------------------------------+
//! |                       the extension's own ...                 |
//! +---------------------------------------------------------------+
//! ```

use super::cache_sync::{CACHE_SYNC, CACHE_SYNC_ACK};
use super::codec::{Reader, Writer};
use super::{DecodeError, EncodeError, MessageType};

/// LISP Shared Extension, type 15 (RFC 9304).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedExtension {
    /// 12-bit sub-type, none of those that [`Message`](super::Message) has a variant for.
    pub sub_type: u16,
    /// The 16 bits that follow the sub-type in the first word.
    pub flags: u16,
    /// What follows the first word.
    pub payload: Vec<u8>,
}

/// The sub-type of the Shared Extension that begins with these bytes.
pub(crate) fn sub_type(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|first| u16::from_be_bytes(*first) & 0x0fff)
}

impl SharedExtension {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sub_type = r.u16("Shared Extension sub-type")? & 0x0fff;
        let flags = r.u16("Shared Extension header")?;
        Ok(Self { sub_type, flags, payload: r.take_rest().to_vec() })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        if self.sub_type > 0x0fff || matches!(self.sub_type, CACHE_SYNC | CACHE_SYNC_ACK) {
            return Err(EncodeError::InvalidValue("Shared Extension sub-type"));
        }
        w.u16(u16::from(MessageType::SharedExtension.first_byte()) << 8 | self.sub_type);
        w.u16(self.flags);
        w.slice(&self.payload);
        Ok(())
    }
}

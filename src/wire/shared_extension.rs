//! LISP Shared Extension (RFC 9304 §3).
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

use super::codec::{Reader, Writer};
use super::{DecodeError, EncodeError, MessageType};

/// LISP Shared Extension, type 15 (RFC 9304).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedExtension {
    /// 12-bit sub-type.
    pub sub_type: u16,
    /// The 16 bits that follow the sub-type in the first word.
    pub flags: u16,
    /// What follows the first word.
    pub payload: Vec<u8>,
}

impl SharedExtension {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sub_type = r.u16("Shared Extension sub-type")? & 0x0fff;
        let flags = r.u16("Shared Extension header")?;
        Ok(Self { sub_type, flags, payload: r.take_rest().to_vec() })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        if self.sub_type > 0x0fff {
            return Err(EncodeError::InvalidValue("Shared Extension sub-type"));
        }
        w.u16(u16::from(MessageType::SharedExtension.first_byte()) << 8 | self.sub_type);
        w.u16(self.flags);
        w.slice(&self.payload);
        Ok(())
    }
}

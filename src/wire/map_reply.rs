//! Map-Reply (RFC 9301 §5.4; the authentication data: RFC 9303 §6.2).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-+-+-+---------------------------------+---------------+
//! |Type=2 |P|E|S|            Reserved             | Record Count  |
//! +-------+-+-+-+---------------------------------+---------------+
//! |                             Nonce                             |
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                       EID-record ...                          |  Record Count times
//! +---------------+-----------------------------------------------+
//! |  S: AD type   |         authentication data ...               |
//! +---------------+-----------------------------------------------+
//! ```

use crate::types::Nonce;

use super::codec::{Reader, Writer, flag};
use super::record::decode_records;
use super::{DecodeError, EidRecord, EncodeError, MessageType};

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

impl MapReply {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [a, _, _, count] = r.array("Map-Reply header")?;
        let nonce = Nonce(r.u64("Map-Reply nonce")?);
        let records = decode_records(r, count)?;
        let security = a & 0x02 != 0;
        let mut security_data = Vec::new();
        if security {
            // It runs to the end of the message whatever its type is; its fixed part must be there at least.
            let mut fixed = *r;
            fixed.take(4, "LISP-SEC authentication data")?;
            security_data = r.take_rest().to_vec();
        }
        Ok(Self { probe: a & 0x08 != 0, echo_nonce: a & 0x04 != 0, security, nonce, records, security_data })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        if self.security != (self.security_data.len() >= 4) {
            return Err(EncodeError::InvalidValue("LISP-SEC authentication data"));
        }
        w.u8(MessageType::MapReply.first_byte()
            | flag(self.probe, 0x08)
            | flag(self.echo_nonce, 0x04)
            | flag(self.security, 0x02));
        w.u16(0);
        w.count8(self.records.len(), "record of a Map-Reply")?;
        w.u64(self.nonce.0);
        self.records.iter().try_for_each(|record| record.encode(w))?;
        if self.security {
            w.slice(&self.security_data);
        }
        Ok(())
    }
}

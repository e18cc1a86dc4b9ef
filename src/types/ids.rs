use std::fmt;

use serde::{Deserialize, Serialize};

/// The 64-bit nonce that ties a reply to its request (RFC 9301 §5.2), shown as `0x%08x-0x%08x`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub u64);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}-0x{:08x}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Identifies one xTR within its site (RFC 9301 §5.6); 128 opaque bits, shown in hex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct XtrId(pub [u8; 16]);

impl fmt::Display for XtrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Identifies a site (RFC 9301 §5.6); 64 opaque bits, shown in hex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SiteId(pub u64);

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_show_as_routers_print_them() {
        assert_eq!(Nonce(0x0123_4567_89ab_cdef).to_string(), "0x01234567-0x89abcdef");
        assert_eq!(XtrId([0xab; 16]).to_string(), format!("0x{}", "ab".repeat(16)));
        assert_eq!(SiteId(7).to_string(), "0x0000000000000007");
    }
}

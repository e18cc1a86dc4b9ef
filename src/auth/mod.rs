//! Message authentication (RFC 9301 §5.6, §5.7).
//!
//! Owns: keyed MACs over encoded messages, per-message key derivation, key ids, replay windows. Must not touch
//! sockets or policy.

use std::fmt;

use zeroize::Zeroizing;

/// A pre-shared secret. Never printed: `Debug` shows only that there is one; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes that are used as HMAC key or as input of the key derivation.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Algorithm ID (RFC 9301 §12.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// 1: HMAC-SHA-1-96.
    HmacSha1,
    /// 2: HMAC-SHA-256-128.
    HmacSha256,
    /// 3: HMAC-SHA-256-128 with a per-message key from HKDF-SHA256.
    HmacSha256Hkdf,
}

/// How a message is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Key ID, which of several secrets this is.
    pub id: u8,
    /// MAC and key derivation.
    pub algorithm: Algorithm,
    /// The secret.
    pub secret: Secret,
    /// Send the digest truncated to 96/128 bits, as the algorithm's name says, instead of in full as deployed
    /// routers do. Both are always accepted.
    pub truncate: bool,
}

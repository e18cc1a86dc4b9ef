//! HMAC (RFC 2104) with the hash and the key that an algorithm asks for.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac as _};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::types::Nonce;

use super::{Algorithm, Key};

/// A MAC that is being computed.
#[derive(Clone)]
pub(super) enum Mac {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
}

impl Mac {
    /// `None` where the libraries refuse the key, which they do for none.
    pub(super) fn new(key: &Key, nonce: Nonce, salt: &[u8]) -> Option<Self> {
        let secret = key.secret.bytes();
        Some(match key.algorithm {
            Algorithm::HmacSha1 => Self::Sha1(Hmac::new_from_slice(secret).ok()?),
            Algorithm::HmacSha256 => Self::Sha256(Hmac::new_from_slice(secret).ok()?),
            Algorithm::HmacSha256Hkdf => {
                let key = message_key(secret, nonce, salt)?;
                Self::Sha256(Hmac::new_from_slice(key.as_slice()).ok()?)
            }
        })
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(mac) => mac.update(bytes),
            Self::Sha256(mac) => mac.update(bytes),
        }
    }

    /// As [`Mac::update`] with `count` bytes of 0.
    pub(super) fn update_zeros(&mut self, count: usize) {
        const ZEROS: [u8; 32] = [0; 32];
        let mut left = count;
        while let Some(part) = ZEROS.get(..left.min(ZEROS.len())).filter(|part| !part.is_empty()) {
            self.update(part);
            left -= part.len();
        }
    }

    /// The whole digest.
    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(mac) => mac.finalize().into_bytes().to_vec(),
            Self::Sha256(mac) => mac.finalize().into_bytes().to_vec(),
        }
    }
}

/// The key of one message: HKDF-SHA256 (RFC 5869) of nonce and secret, salted by the message's type (RFC 9301
/// §5.6 step 4).
pub(super) fn message_key(secret: &[u8], nonce: Nonce, salt: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut input = Zeroizing::new(Vec::with_capacity(8 + secret.len()));
    input.extend_from_slice(&nonce.0.to_be_bytes());
    input.extend_from_slice(secret);
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), &input).expand(&[], key.as_mut_slice()).ok()?;
    Some(key)
}

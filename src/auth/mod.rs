//! Message authentication (RFC 9301 §5.6, §5.7).
//!
//! Owns: keyed MACs over encoded messages, per-message key derivation, key ids, replay windows. Must not
//! touch sockets or policy.
//!
//! The MAC of a Map-Register, Map-Notify, Map-Notify-Ack, Info or CacheSync message lies in the message and
//! covers it with its own field preset to 0. [`seal`] computes it while encoding; [`verify`] checks it in the
//! bytes as they were received, so that nothing that decoding ignores goes unauthenticated.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod mac;
pub mod replay;

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::types::Nonce;
use crate::wire::{
    CACHE_SYNC, CACHE_SYNC_ACK, DecodeError, EncodeError, Message, MessageType, XtrSite, peek_type, sub_type,
};

use mac::Mac;

/// A pre-shared secret. Never printed: `Debug` shows only that there is one; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes that are used as HMAC key or as input of the key derivation.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// Whether there is nothing secret: an empty key authenticates nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&self) -> &[u8] {
        &self.0
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

impl Algorithm {
    /// All that exist, in the order of their ids.
    pub const ALL: [Self; 3] = [Self::HmacSha1, Self::HmacSha256, Self::HmacSha256Hkdf];

    /// Its number in messages.
    pub const fn id(self) -> u8 {
        match self {
            Self::HmacSha1 => 1,
            Self::HmacSha256 => 2,
            Self::HmacSha256Hkdf => 3,
        }
    }

    /// The algorithm of that number; 0 ("none") is no algorithm.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::HmacSha1),
            2 => Some(Self::HmacSha256),
            3 => Some(Self::HmacSha256Hkdf),
            _ => None,
        }
    }

    /// Its name, as in RFC 9301 §12.5.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "HMAC-SHA-1-96",
            Self::HmacSha256 => "HMAC-SHA-256-128",
            Self::HmacSha256Hkdf => "HMAC-SHA-256-128+HKDF-SHA256",
        }
    }

    /// Bytes of the whole digest, as deployed routers send it.
    pub const fn full_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 | Self::HmacSha256Hkdf => 32,
        }
    }

    /// Bytes of the truncated digest, as the algorithm's name says (RFC 2404 §2.1, RFC 4868 §2.6).
    pub const fn truncated_len(self) -> usize {
        match self {
            Self::HmacSha1 => 12,
            Self::HmacSha256 | Self::HmacSha256Hkdf => 16,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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

/// Why a message was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// This type of message carries no authentication.
    #[error("a {0} carries no authentication data")]
    Unauthenticated(MessageType),
    /// The message itself cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The key cannot be used.
    #[error("the key cannot be used")]
    Key,
}

/// Why a message is not authentic. The message is dropped in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Too short or of no known type.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// This type of message carries no authentication.
    #[error("a {0} carries no authentication data")]
    Unauthenticated(MessageType),
    /// There is no key of that id.
    #[error("there is no key with id {0}")]
    UnknownKeyId(u8),
    /// There are keys of that id, but none is for that algorithm.
    #[error("key {key_id} is not for algorithm {algorithm}")]
    WrongAlgorithm {
        /// Key ID of the message.
        key_id: u8,
        /// Algorithm ID of the message.
        algorithm: u8,
    },
    /// The authentication data is neither a whole nor a truncated digest.
    #[error("{len} bytes of authentication data do not fit {algorithm}")]
    BadLength {
        /// Algorithm of the message.
        algorithm: Algorithm,
        /// Bytes of authentication data in the message.
        len: usize,
    },
    /// The MAC is wrong: another secret, or a changed message.
    #[error("the authentication data does not match")]
    Mismatch,
}

impl AuthError {
    /// A short name of the kind of error, fit for a counter.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Decode(error) => error.reason(),
            Self::Unauthenticated(_) => "auth-none",
            Self::UnknownKeyId(_) => "auth-unknown-key-id",
            Self::WrongAlgorithm { .. } => "auth-wrong-algorithm",
            Self::BadLength { .. } => "auth-bad-length",
            Self::Mismatch => "auth-mismatch",
        }
    }
}

/// Offset of the nonce in all authenticated messages.
const NONCE: usize = 4;
/// Offset of the authentication data in all authenticated messages; its key id, algorithm id and length
/// precede it.
const AUTH_DATA: usize = 16;

/// Fills in key id, algorithm and authentication data of `message` and encodes it.
///
/// The MAC covers the whole message. RFC 9301 §5.6 ends it at the last RLOC-record, before xTR-ID and
/// Site-ID; deployed routers do not, and there is no reason to leave the identifiers open to change.
pub fn seal(mut message: Message, key: &Key) -> Result<Vec<u8>, SealError> {
    let kind = message.kind();
    let auth = message.auth_mut().ok_or(SealError::Unauthenticated(kind))?;
    let len = if key.truncate { key.algorithm.truncated_len() } else { key.algorithm.full_len() };
    auth.key_id = key.id;
    auth.algorithm = key.algorithm.id();
    auth.data = vec![0; len];
    let mut bytes = message.encode()?;
    let parts = Parts::of(&bytes).map_err(|_| SealError::Key)?;
    let mac = parts.mac(key).ok_or(SealError::Key)?;
    if let Some(field) = bytes.get_mut(AUTH_DATA..AUTH_DATA + len) {
        field.copy_from_slice(mac.finish().get(..len).ok_or(SealError::Key)?);
    }
    Ok(bytes)
}

/// Which of `keys`, by position, `bytes` was authenticated with. `bytes` is the whole UDP payload as it was
/// received, of a Map-Register, Map-Notify, Map-Notify-Ack, Info, CacheSync or CacheSync-Ack message.
///
/// Accepts whole and truncated digests, and both coverages: the whole message, or up to the last RLOC-record
/// where xTR-ID and Site-ID follow (RFC 9301 §5.6 step 5). Under the second, whoever recorded the message
/// can change the two identifiers and send it again: they must not be the only thing that a replay window is
/// kept by.
///
/// Takes the same time wherever a digest differs.
pub fn verify(bytes: &[u8], keys: &[Key]) -> Result<usize, AuthError> {
    let parts = Parts::of(bytes)?;
    let algorithm = Algorithm::from_id(parts.algorithm);
    if !keys.iter().any(|key| key.id == parts.key_id) {
        return Err(AuthError::UnknownKeyId(parts.key_id));
    }
    let candidates = || {
        let suits = |key: &Key| key.id == parts.key_id && Some(key.algorithm) == algorithm;
        keys.iter().enumerate().filter(move |(_, key)| suits(key))
    };
    let Some(algorithm) = algorithm.filter(|_| candidates().next().is_some()) else {
        return Err(AuthError::WrongAlgorithm { key_id: parts.key_id, algorithm: parts.algorithm });
    };
    let len = parts.digest.len();
    if len != algorithm.full_len() && len != algorithm.truncated_len() {
        return Err(AuthError::BadLength { algorithm, len });
    }
    candidates().find_map(|(index, key)| parts.matches(key).then_some(index)).ok_or(AuthError::Mismatch)
}

/// An authenticated message, cut at its authentication data.
struct Parts<'a> {
    salt: &'static [u8],
    nonce: Nonce,
    key_id: u8,
    algorithm: u8,
    /// Up to the authentication data.
    head: &'a [u8],
    digest: &'a [u8],
    /// After the authentication data, without `ids`.
    body: &'a [u8],
    /// xTR-ID and Site-ID where the message's flags say that there are.
    ids: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, AuthError> {
        let kind = peek_type(bytes)?;
        let id_bits = match kind {
            MessageType::MapRegister => 0x02,
            // As in a Map-Notify, or as copied from the Map-Register.
            MessageType::MapNotify | MessageType::MapNotifyAck => 0x08 | 0x02,
            MessageType::Info => 0,
            MessageType::SharedExtension if matches!(sub_type(bytes), Some(CACHE_SYNC | CACHE_SYNC_ACK)) => 0,
            _ => return Err(AuthError::Unauthenticated(kind)),
        };
        let missing = DecodeError::Missing("authentication data");
        let (head, rest) = bytes.split_at_checked(AUTH_DATA).ok_or(missing)?;
        let (&[first, ..], Some(&[key_id, algorithm, len_hi, len_lo]), Some(nonce)) = (
            head.first_chunk::<NONCE>().ok_or(missing)?,
            head.last_chunk::<4>(),
            head.get(NONCE..).and_then(<[u8]>::first_chunk::<8>),
        ) else {
            return Err(missing.into());
        };
        let len = usize::from(u16::from_be_bytes([len_hi, len_lo]));
        let (digest, rest) = rest.split_at_checked(len).ok_or(missing)?;
        let body_len = match first & id_bits {
            0 => rest.len(),
            _ => rest.len().saturating_sub(XtrSite::LEN),
        };
        let (body, ids) = rest.split_at_checked(body_len).ok_or(missing)?;
        Ok(Self {
            salt: salt(kind, sub_type(bytes)),
            nonce: Nonce(u64::from_be_bytes(*nonce)),
            key_id,
            algorithm,
            head,
            digest,
            body,
            ids,
        })
    }

    /// Whether the digest is that of `key`, over either coverage.
    fn matches(&self, key: &Key) -> bool {
        let Some(mut mac) = self.mac_to_last_record(key) else { return false };
        let equal = |mac: Mac| {
            let digest = mac.finish();
            digest.get(..self.digest.len()).is_some_and(|digest| digest.ct_eq(self.digest).into())
        };
        if self.ids.is_empty() {
            return equal(mac);
        }
        let without_ids = equal(mac.clone());
        mac.update(self.ids);
        equal(mac) || without_ids
    }

    /// The MAC over the whole message.
    fn mac(&self, key: &Key) -> Option<Mac> {
        let mut mac = self.mac_to_last_record(key)?;
        mac.update(self.ids);
        Some(mac)
    }

    fn mac_to_last_record(&self, key: &Key) -> Option<Mac> {
        let mut mac = Mac::new(key, self.nonce, self.salt)?;
        mac.update(self.head);
        mac.update_zeros(self.digest.len());
        mac.update(self.body);
        Some(mac)
    }
}

/// The salt of the key derivation (RFC 9301 §5.6 step 4). None is defined for Info messages and extensions;
/// theirs follow the pattern.
const fn salt(kind: MessageType, sub_type: Option<u16>) -> &'static [u8] {
    match kind {
        MessageType::MapNotify => b"Map-Notify Authentication",
        MessageType::MapNotifyAck => b"Map-Notify-Ack Authentication",
        MessageType::Info => b"Info Authentication",
        MessageType::SharedExtension => match sub_type {
            Some(CACHE_SYNC_ACK) => b"CacheSync-Ack Authentication",
            _ => b"CacheSync Authentication",
        },
        _ => b"Map-Register Authentication",
    }
}

#[cfg(test)]
mod tests;

//! Bytes ⇄ messages.
//!
//! Owns: the encoding of every control message (one file each, with its layout drawn at the top), zero-copy
//! views of data packets, and the readable form of any message. Must not touch keys, clocks or policy: a
//! message that decodes is well-formed, nothing more.
//!
//! Decoding never panics, allocates in proportion to the input only, and errors name the field. Code points
//! that are unknown survive decode → encode.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod address;
#[cfg(test)]
pub(crate) mod arbitrary;
pub mod cache_sync;
pub(crate) mod codec;
pub mod data;
pub mod display;
mod ecm;
mod error;
pub mod icmp;
mod info;
pub mod ip;
mod lcaf;
mod map_notify;
mod map_referral;
mod map_register;
mod map_reply;
mod map_request;
mod record;
mod shared_extension;
pub mod udp;
pub mod vrrp;

pub use address::Address;
pub use cache_sync::{CACHE_SYNC, CACHE_SYNC_ACK, CacheSync, CacheSyncAck, SyncMapping, SyncRecord};
pub use ecm::Ecm;
pub use error::{DecodeError, EidError, EncodeError};
pub use info::Info;
pub use lcaf::{ElpHop, Lcaf, NatTraversal, RleEntry};
pub use map_notify::MapNotify;
pub use map_referral::{MapReferral, ReferralRecord};
pub use map_register::{AuthData, MapRegister, XtrSite};
pub use map_reply::MapReply;
pub use map_request::MapRequest;
pub use record::{EidAddress, EidRecord, LocatorRecord};
pub use shared_extension::SharedExtension;
pub(crate) use shared_extension::sub_type;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use codec::{Reader, Writer};

/// Any LISP control message (RFC 9301 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Type 1.
    MapRequest(MapRequest),
    /// Type 2.
    MapReply(MapReply),
    /// Type 3.
    MapRegister(MapRegister),
    /// Type 4.
    MapNotify(MapNotify),
    /// Type 5, laid out as a Map-Notify.
    MapNotifyAck(MapNotify),
    /// Type 6 (RFC 8111).
    MapReferral(MapReferral),
    /// Type 7, Info-Request and Info-Reply (NAT traversal).
    Info(Info),
    /// Type 8.
    Ecm(Ecm),
    /// Type 15 (RFC 9304), of another sub-type than the following.
    SharedExtension(SharedExtension),
    /// Type 15, sub-type 1060.
    CacheSync(CacheSync),
    /// Type 15, sub-type 1061.
    CacheSyncAck(CacheSyncAck),
}

/// The type in the first four bits of every control message (RFC 9301 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MessageType {
    /// 1.
    MapRequest = 1,
    /// 2.
    MapReply = 2,
    /// 3.
    MapRegister = 3,
    /// 4.
    MapNotify = 4,
    /// 5.
    MapNotifyAck = 5,
    /// 6.
    MapReferral = 6,
    /// 7.
    Info = 7,
    /// 8.
    Ecm = 8,
    /// 15.
    SharedExtension = 15,
}

/// The type of the control message that begins with these bytes.
pub fn peek_type(bytes: &[u8]) -> Result<MessageType, DecodeError> {
    let first = bytes.first().ok_or(DecodeError::Missing("LISP message type"))?;
    MessageType::from_number(first >> 4).ok_or(DecodeError::UnknownType(first >> 4))
}

impl Message {
    /// The message that `bytes`, a whole UDP payload, hold. Nothing may be left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let message = match peek_type(bytes)? {
            MessageType::MapRequest => Self::MapRequest(MapRequest::decode(&mut r)?),
            MessageType::MapReply => Self::MapReply(MapReply::decode(&mut r)?),
            MessageType::MapRegister => Self::MapRegister(MapRegister::decode(&mut r)?),
            MessageType::MapNotify => Self::MapNotify(MapNotify::decode(&mut r)?),
            MessageType::MapNotifyAck => Self::MapNotifyAck(MapNotify::decode(&mut r)?),
            MessageType::MapReferral => Self::MapReferral(MapReferral::decode(&mut r)?),
            MessageType::Info => Self::Info(Info::decode(&mut r)?),
            MessageType::Ecm => Self::Ecm(Ecm::decode(&mut r)?),
            MessageType::SharedExtension => match sub_type(bytes) {
                Some(CACHE_SYNC) => Self::CacheSync(CacheSync::decode(&mut r)?),
                Some(CACHE_SYNC_ACK) => Self::CacheSyncAck(CacheSyncAck::decode(&mut r)?),
                _ => Self::SharedExtension(SharedExtension::decode(&mut r)?),
            },
        };
        r.finish()?;
        Ok(message)
    }

    /// The bytes of the message, a whole UDP payload.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        self.encode_to(Vec::new())
    }

    /// As [`Message::encode`], appended to `buffer`, which is given back; on error it is lost.
    pub fn encode_to(&self, buffer: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::new(buffer);
        match self {
            Self::MapRequest(message) => message.encode(&mut w)?,
            Self::MapReply(message) => message.encode(&mut w)?,
            Self::MapRegister(message) => message.encode(&mut w)?,
            Self::MapNotify(message) | Self::MapNotifyAck(message) => message.encode(&mut w, self.kind())?,
            Self::MapReferral(message) => message.encode(&mut w)?,
            Self::Info(message) => message.encode(&mut w)?,
            Self::Ecm(message) => message.encode(&mut w)?,
            Self::SharedExtension(message) => message.encode(&mut w)?,
            Self::CacheSync(message) => message.encode(&mut w)?,
            Self::CacheSyncAck(message) => message.encode(&mut w)?,
        }
        Ok(w.into_bytes())
    }

    /// Its type.
    pub const fn kind(&self) -> MessageType {
        match self {
            Self::MapRequest(_) => MessageType::MapRequest,
            Self::MapReply(_) => MessageType::MapReply,
            Self::MapRegister(_) => MessageType::MapRegister,
            Self::MapNotify(_) => MessageType::MapNotify,
            Self::MapNotifyAck(_) => MessageType::MapNotifyAck,
            Self::MapReferral(_) => MessageType::MapReferral,
            Self::Info(_) => MessageType::Info,
            Self::Ecm(_) => MessageType::Ecm,
            Self::SharedExtension(_) | Self::CacheSync(_) | Self::CacheSyncAck(_) => {
                MessageType::SharedExtension
            }
        }
    }

    /// Its name: its type's, or that of the extension.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CacheSync(_) => "CacheSync",
            Self::CacheSyncAck(_) => "CacheSync-Ack",
            _ => self.kind().name(),
        }
    }

    /// Its authentication, in the messages that have one.
    pub const fn auth(&self) -> Option<&AuthData> {
        match self {
            Self::MapRegister(message) => Some(&message.auth),
            Self::MapNotify(message) | Self::MapNotifyAck(message) => Some(&message.auth),
            Self::Info(message) => Some(&message.auth),
            Self::CacheSync(message) => Some(&message.auth),
            Self::CacheSyncAck(message) => Some(&message.auth),
            _ => None,
        }
    }

    /// As [`Message::auth`], to be filled in.
    pub const fn auth_mut(&mut self) -> Option<&mut AuthData> {
        match self {
            Self::MapRegister(message) => Some(&mut message.auth),
            Self::MapNotify(message) | Self::MapNotifyAck(message) => Some(&mut message.auth),
            Self::Info(message) => Some(&mut message.auth),
            Self::CacheSync(message) => Some(&mut message.auth),
            Self::CacheSyncAck(message) => Some(&mut message.auth),
            _ => None,
        }
    }
}

impl MessageType {
    /// The type of that number, 0 to 15.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::MapRequest,
            2 => Self::MapReply,
            3 => Self::MapRegister,
            4 => Self::MapNotify,
            5 => Self::MapNotifyAck,
            6 => Self::MapReferral,
            7 => Self::Info,
            8 => Self::Ecm,
            15 => Self::SharedExtension,
            _ => return None,
        })
    }

    /// Its number, 1 to 15.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The message's name in RFC 9301 §5.1.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MapRequest => "Map-Request",
            Self::MapReply => "Map-Reply",
            Self::MapRegister => "Map-Register",
            Self::MapNotify => "Map-Notify",
            Self::MapNotifyAck => "Map-Notify-Ack",
            Self::MapReferral => "Map-Referral",
            Self::Info => "Info",
            Self::Ecm => "Encapsulated Control Message",
            Self::SharedExtension => "Shared Extension",
        }
    }

    /// The first byte of a message without flags.
    const fn first_byte(self) -> u8 {
        self.number() << 4
    }
}

impl std::fmt::Display for MessageType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

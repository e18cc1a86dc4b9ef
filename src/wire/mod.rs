//! Bytes ⇄ messages.
//!
//! Owns: the encoding of every control message (one file each, with its layout drawn at the top), zero-copy views of
//! data packets ([`data`], [`ip`], [`udp`], [`icmp`]), and the readable form of any message. Must not touch keys,
//! clocks or policy: a message that decodes is well-formed, nothing more.
//!
//! Decoding never panics, allocates in proportion to the input only, and errors name the field. Code points that are
//! unknown survive decode → encode.

mod address;
mod ecm;
mod info;
mod map_notify;
mod map_referral;
mod map_register;
mod map_reply;
mod map_request;
mod record;
mod shared_extension;

pub use address::{Address, Lcaf};
pub use ecm::Ecm;
pub use info::Info;
pub use map_notify::MapNotify;
pub use map_referral::{MapReferral, ReferralRecord};
pub use map_register::{AuthData, MapRegister, XtrSite};
pub use map_reply::MapReply;
pub use map_request::MapRequest;
pub use record::{EidAddress, EidRecord, LocatorRecord};
pub use shared_extension::SharedExtension;

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
    /// Type 15 (RFC 9304).
    SharedExtension(SharedExtension),
}

//! CacheSync and CacheSync-Ack: map-cache synchronisation between the xTRs of one site, as extensions of LISP
//! (RFC 9304 §3) with the sub-types 1060 and 1061. They go over UDP port 4342 as every control message does.
//!
//! This is the whole of the format, for whoever wants to speak it; how the messages are used is said in
//! [`proto::redundancy::sync`](crate::proto::redundancy::sync). All numbers are in network byte order.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-----------------------+-+-+-+-+-+-+---+---------------+
//! |Type=15| Sub-type = 1060, 1061 |A|N|S|Q|T|E|Rsv| Record Count  |
//! +-------+-----------------------+-+-+-+-+-+-+---+---------------+
//! |                             Nonce                             |
//! |                                                               |
//! +---------------+---------------+-------------------------------+
//! |    Key ID     | Algorithm ID  |  Authentication Data Length   |
//! +---------------+---------------+-------------------------------+
//! |                    Authentication Data ...                    |
//! +---------------------------------------------------------------+
//! |                       Sender's Session                        |
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                      Receiver's Session                       |
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                        Sync-record ...                        |  Record Count times
//! +---------------------------------------------------------------+
//! ```
//!
//! * **A**: an acknowledgement is wanted. **N**: a part of the whole cache, sent because something was learnt
//!   (naive). **S**: only what changed (smart). **Q**: the sender has (re)appeared and asks for the whole
//!   cache. **T**: a part of the whole cache, for a member that (re)appeared. **E**: the last part of it, of
//!   either kind. In a CacheSync-Ack all are reserved. Reserved bits are sent as 0 and ignored.
//! * **Nonce**: greater than in every CacheSync that the sender sent before in this session. A CacheSync-Ack
//!   has that of the CacheSync that it acknowledges.
//! * **Key ID** to **Authentication Data**: as in a Map-Register (RFC 9301 §5.6), computed over the whole
//!   message with Authentication Data preset to 0. The salts of algorithm 3 are `CacheSync Authentication`
//!   and `CacheSync-Ack Authentication`.
//! * **Sender's Session**: drawn at random when the sender started.
//! * **Receiver's Session**: that of who the message is for, 0 if it isn't known yet. Nobody else believes
//!   it: only a Hello needn't have the right one, as its *To* says whom it is for. That of a CacheSync-Ack is
//!   the Sender's Session of the CacheSync.
//!
//! A sync-record tells its length, so that a receiver steps over a kind that it does not know, and over one
//! whose content makes no sense to it:
//!
//! ```text
//! +---------------+---------------+-------------------------------+
//! |     Kind      |     Flags     |            Length             |  in bytes, of what follows
//! +---------------+---------------+-------------------------------+
//!
//! Kind 1, a mapping. Flags: 0x80 the sender has it from another member;
//! 0x40 its site echoes nonces (RFC 9300 §10.1)
//! +---------------------------------------------------------------+
//! |                Remaining time to live (seconds)               |  0 = the mapping is gone
//! +-------------------------------+-------------------------------+
//! |   and milliseconds (0 – 999)  |         More specific         |
//! +-------------------------------+-------------------------------+
//! |                      Age (milliseconds)                       |
//! +---------------------------------------------------------------+
//! |                   EID-record (RFC 9301 §5.4)                  |
//! +---------------------------------------------------------------+
//!
//! Kind 2, a locator. Flags: 0x80 it can be reached
//! +-------------------------------+-------------------------------+
//! |            Loc-AFI            |          Locator ...          |
//! +-------------------------------+-------------------------------+
//!
//! Kind 3, Hello, and kind 4, Hello-Reply
//! +---------------------------------------------------------------+
//! |                           Challenge                           |
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                   Last nonce (Hello-Reply)                    |
//! |                                                               |
//! +-------------------------------+-------------------------------+
//! |             To-AFI            |             To ...            |
//! +-------------------------------+-------------------------------+
//!
//! Kind 5, with the E bit: what was told
//! +---------------------------------------------------------------+
//! |                          First nonce                          |
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                           Messages                            |
//! +---------------------------------------------------------------+
//! ```
//!
//! The remaining time to live is what makes all members forget a mapping at the same moment; the TTL of the
//! EID-record is the one that the mapping system gave. *Age* is the time since then, 2^32 − 1 for longer
//! ones; of a mapping that is gone, since the mapping system said that. *More specific* is how many mappings
//! of EID-prefixes inside this one the sender tells of, or has been told of, up to 4,096: who has fewer would
//! send the packets of some of these to the locators of this one, and does not take it. *To* is the address
//! that the message is sent to. *Last nonce* is the greatest that the sender of the Hello-Reply has used so
//! far.
//!
//! *First nonce* is that of the first message of this whole cache; *Messages* is how many it consists of,
//! this one included, or 0 if all others have been acknowledged. What the sender told before and not among
//! these, it has no longer.

use std::time::Duration;

use crate::types::{Nonce, Ttl};

use super::codec::{Reader, Writer, flag};
use super::{Address, AuthData, DecodeError, EidRecord, EncodeError, MessageType};

/// Sub-type of CacheSync.
pub const CACHE_SYNC: u16 = 1060;
/// Sub-type of CacheSync-Ack.
pub const CACHE_SYNC_ACK: u16 = 1061;

const MAPPING: u8 = 1;
const LOCATOR: u8 = 2;
const HELLO: u8 = 3;
const HELLO_REPLY: u8 = 4;
const WHOLE: u8 = 5;

/// CacheSync, type 15, sub-type 1060; its layout is that of [the module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheSync {
    /// A: a CacheSync-Ack is wanted.
    pub want_ack: bool,
    /// N: a part of the whole cache, since something was learnt.
    pub naive: bool,
    /// S: only what changed.
    pub smart: bool,
    /// Q: the sender asks for the whole cache.
    pub request: bool,
    /// T: a part of the whole cache, for a member that (re)appeared.
    pub transfer: bool,
    /// E: the last part of it.
    pub end: bool,
    /// Grows from message to message.
    pub nonce: Nonce,
    /// Authentication.
    pub auth: AuthData,
    /// The sender's session.
    pub session: u64,
    /// The receiver's, 0 if it isn't known.
    pub receiver: u64,
    /// What it tells, at most 255.
    pub records: Vec<SyncRecord>,
}

/// CacheSync-Ack, type 15, sub-type 1061; its layout is that of [the module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheSyncAck {
    /// That of the CacheSync.
    pub nonce: Nonce,
    /// Authentication.
    pub auth: AuthData,
    /// The session of who acknowledges.
    pub session: u64,
    /// That of who is told so.
    pub receiver: u64,
    /// At most 255.
    pub records: Vec<SyncRecord>,
}

/// What a CacheSync tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncRecord {
    /// Kind 1.
    Mapping(SyncMapping),
    /// Kind 2: whether a locator can be reached, as far as the sender has found out itself.
    Locator {
        /// The locator.
        address: Address,
        /// Whether it can.
        up: bool,
    },
    /// Kind 3: proves nothing by itself; whoever answers it proves to be alive, and which session is his.
    Hello {
        /// Drawn at random.
        challenge: u64,
        /// Where it is sent to.
        to: Address,
    },
    /// Kind 4, the answer, in a CacheSync-Ack.
    HelloReply {
        /// That of the Hello.
        challenge: u64,
        /// The greatest nonce that the sender has used.
        last: Nonce,
        /// Where it is sent to.
        to: Address,
    },
    /// Kind 5: what the whole cache consisted of.
    Whole {
        /// Nonce of its first message.
        first: Nonce,
        /// How many messages; 0 where all others have been acknowledged.
        messages: u32,
    },
    /// Any other kind, or one whose content is malformed.
    Unknown {
        /// Its number.
        kind: u8,
        /// Its flags.
        flags: u8,
        /// What it holds, at most 65,535 bytes.
        content: Vec<u8>,
    },
}

/// A mapping as members tell each other of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncMapping {
    /// The sender has it from another member.
    pub copy: bool,
    /// Its site echoes nonces.
    pub echoes: bool,
    /// Until it ends: whole seconds …
    pub seconds: u32,
    /// … and milliseconds.
    pub millis: u16,
    /// How many mappings of EID-prefixes inside this one the sender knows, up to 4,096.
    pub inside: u16,
    /// Milliseconds since the mapping system said it; the greatest number for longer.
    pub age: u32,
    /// The mapping.
    pub record: EidRecord,
}

impl SyncMapping {
    /// Until it ends.
    pub fn remaining(&self) -> Duration {
        Duration::from_secs(self.seconds.into()) + Duration::from_millis(self.millis.into())
    }

    /// Whether it says that there is no mapping any more.
    pub fn is_gone(&self) -> bool {
        self.remaining().is_zero() || self.record.ttl == Ttl::WITHDRAWN
    }

    /// The same so much later; `None` where it has ended by then.
    pub fn later(&self, elapsed: Duration) -> Option<Self> {
        let left = self.remaining().checked_sub(elapsed).filter(|left| !left.is_zero())?;
        let (seconds, millis) = Self::time_left(left);
        let age = self.age.saturating_add(Self::millis(elapsed));
        Some(Self { seconds, millis, age, ..self.clone() })
    }

    /// The field of an age.
    pub fn millis(age: Duration) -> u32 {
        u32::try_from(age.as_millis()).unwrap_or(u32::MAX)
    }

    /// The fields of a remaining time to live; what is longer than 32 bits of seconds is cut to that.
    pub fn time_left(left: Duration) -> (u32, u16) {
        match u32::try_from(left.as_secs()) {
            Ok(seconds) => (seconds, u16::try_from(left.subsec_millis()).unwrap_or(999)),
            Err(_) => (u32::MAX, 999),
        }
    }
}

impl CacheSync {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [_, _, flags, count] = r.array("CacheSync header")?;
        let (nonce, auth, [session, receiver], records) = decode_body(r, count)?;
        Ok(Self {
            want_ack: flags & 0x80 != 0,
            naive: flags & 0x40 != 0,
            smart: flags & 0x20 != 0,
            request: flags & 0x10 != 0,
            transfer: flags & 0x08 != 0,
            end: flags & 0x04 != 0,
            nonce,
            auth,
            session,
            receiver,
            records,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        let flags = flag(self.want_ack, 0x80)
            | flag(self.naive, 0x40)
            | flag(self.smart, 0x20)
            | flag(self.request, 0x10)
            | flag(self.transfer, 0x08)
            | flag(self.end, 0x04);
        encode(w, CACHE_SYNC, flags, (self.nonce, &self.auth, [self.session, self.receiver]), &self.records)
    }
}

impl CacheSyncAck {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [_, _, _, count] = r.array("CacheSync-Ack header")?;
        let (nonce, auth, [session, receiver], records) = decode_body(r, count)?;
        Ok(Self { nonce, auth, session, receiver, records })
    }

    pub(super) fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        encode(w, CACHE_SYNC_ACK, 0, (self.nonce, &self.auth, [self.session, self.receiver]), &self.records)
    }
}

impl SyncRecord {
    /// Bytes that it takes in a message.
    ///
    /// # Errors
    /// Where it cannot be encoded.
    pub fn encoded_len(&self) -> Result<usize, EncodeError> {
        let mut w = Writer::default();
        self.encode(&mut w)?;
        Ok(w.into_bytes().len())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [kind, flags] = r.array("sync-record header")?;
        let len = r.u16("sync-record length")?;
        let content = r.sub(usize::from(len), "sync-record")?.take_rest();
        // One that is malformed is none of the others' fault.
        Ok(Self::decode_content(kind, flags, content).unwrap_or_else(|_| Self::Unknown {
            kind,
            flags,
            content: content.to_vec(),
        }))
    }

    fn decode_content(kind: u8, flags: u8, content: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(content);
        let record = match kind {
            MAPPING => Self::Mapping(SyncMapping {
                copy: flags & 0x80 != 0,
                echoes: flags & 0x40 != 0,
                seconds: r.u32("remaining time to live")?,
                millis: r.u16("remaining milliseconds to live")?,
                inside: r.u16("more specific mappings")?,
                age: r.u32("age of a mapping")?,
                record: EidRecord::decode(&mut r)?,
            }),
            LOCATOR => Self::Locator {
                address: Address::decode(&mut r, "sync-record locator")?,
                up: flags & 0x80 != 0,
            },
            HELLO => Self::Hello {
                challenge: r.u64("challenge")?,
                to: Address::decode(&mut r, "Hello destination")?,
            },
            HELLO_REPLY => Self::HelloReply {
                challenge: r.u64("challenge")?,
                last: Nonce(r.u64("last nonce")?),
                to: Address::decode(&mut r, "Hello-Reply destination")?,
            },
            WHOLE => Self::Whole { first: Nonce(r.u64("first nonce")?), messages: r.u32("messages")? },
            kind => Self::Unknown { kind, flags, content: r.take_rest().to_vec() },
        };
        r.finish().map_err(|_| DecodeError::BadLength("sync-record length"))?;
        Ok(record)
    }

    fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        let (kind, flags) = match self {
            Self::Mapping(mapping) => (MAPPING, flag(mapping.copy, 0x80) | flag(mapping.echoes, 0x40)),
            Self::Locator { up, .. } => (LOCATOR, flag(*up, 0x80)),
            Self::Hello { .. } => (HELLO, 0),
            Self::HelloReply { .. } => (HELLO_REPLY, 0),
            Self::Whole { .. } => (WHOLE, 0),
            Self::Unknown { kind, flags, .. } => (*kind, *flags),
        };
        w.slice(&[kind, flags]);
        w.with_len16("sync-record", |w| match self {
            Self::Mapping(mapping) => {
                w.u32(mapping.seconds);
                w.u16(mapping.millis);
                w.u16(mapping.inside);
                w.u32(mapping.age);
                mapping.record.encode(w)
            }
            Self::Locator { address, .. } => address.encode(w),
            Self::Hello { challenge, to } => {
                w.u64(*challenge);
                to.encode(w)
            }
            Self::HelloReply { challenge, last, to } => {
                w.u64(*challenge);
                w.u64(last.0);
                to.encode(w)
            }
            Self::Whole { first, messages } => {
                w.u64(first.0);
                w.u32(*messages);
                Ok(())
            }
            Self::Unknown { content, .. } => {
                w.slice(content);
                Ok(())
            }
        })
    }
}

type Body = (Nonce, AuthData, [u64; 2], Vec<SyncRecord>);

fn decode_body(r: &mut Reader<'_>, count: u8) -> Result<Body, DecodeError> {
    let nonce = Nonce(r.u64("CacheSync nonce")?);
    let auth = AuthData::decode(r)?;
    let sessions = [r.u64("CacheSync sender's session")?, r.u64("CacheSync receiver's session")?];
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(SyncRecord::decode(r)?);
    }
    Ok((nonce, auth, sessions, records))
}

fn encode(
    w: &mut Writer,
    sub_type: u16,
    flags: u8,
    (nonce, auth, sessions): (Nonce, &AuthData, [u64; 2]),
    records: &[SyncRecord],
) -> Result<(), EncodeError> {
    w.u16(u16::from(MessageType::SharedExtension.first_byte()) << 8 | sub_type);
    w.u8(flags);
    w.count8(records.len(), "record of a CacheSync")?;
    w.u64(nonce.0);
    auth.encode(w)?;
    sessions.iter().for_each(|session| w.u64(*session));
    records.iter().try_for_each(|record| record.encode(w))
}

//! The LISP Canonical Address Format (RFC 8060), what follows the AFI 16387 (see [`super::Address`]).
//!
//! ```text
//! List (1)          AFI, address ...
//! Instance ID (2)   [Rsvd2 = IID mask length] instance ID (32), AFI, address
//! NAT (7)           MS port (16), ETR port (16), then AFI and address of each: global ETR, MS, private ETR,
//!                   RTRs ...
//! Multicast (9)     instance ID (32), reserved (16), source mask (8), group mask (8), AFI, source, AFI,
//!                   group
//! ELP (10)          { reserved (13), L, P, S, AFI, hop } ...
//! Security key (11) key count (8), Rsvd3 (8), algorithm (8), Rsvd4 (7), R, { length (16), key } ..., AFI,
//!                   locator
//! Source/Dest (12)  reserved (16), source mask (8), destination mask (8), AFI, source, AFI, destination
//! RLE (13)          { Rsvd3 (16), Rsvd4 (8), level (8), AFI, address } ...
//! ```
//!
//! Reserved fields of these are ignored and sent as 0. The length field delimits every LCAF, so that one
//! whose type is unknown, or whose content does not follow RFC 8060, is carried as it is.

use super::codec::{Reader, Writer, flag};
use super::{Address, DecodeError, EncodeError};

/// How deep LCAFs may be nested. RFC 8060 §4.10.4 uses two levels; more than a handful is an attack.
pub(super) const MAX_DEPTH: usize = 6;

pub(super) const LIST: u8 = 1;
pub(super) const INSTANCE_ID: u8 = 2;
pub(super) const NAT_TRAVERSAL: u8 = 7;
pub(super) const MULTICAST: u8 = 9;
pub(super) const EXPLICIT_LOCATOR_PATH: u8 = 10;
pub(super) const SECURITY_KEY: u8 = 11;
pub(super) const SOURCE_DEST: u8 = 12;
pub(super) const REPLICATION_LIST: u8 = 13;

/// A LISP Canonical Address (RFC 8060). Types that a router acts on are structured, all others opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lcaf {
    /// Type 1: any number of addresses.
    List(Vec<Address>),
    /// Type 2: an address within an instance. `iid` is 32 bits on the wire, `mask_len` that of the instance
    /// ID range.
    InstanceId {
        /// Mask length of the instance ID itself, 0 or 32 for a single one.
        iid_mask_len: u8,
        /// The instance ID.
        iid: u32,
        /// The address within it.
        address: Box<Address>,
    },
    /// Type 7: what a NAT did to an Info-Request (RFC 8060 §4.4).
    NatTraversal(Box<NatTraversal>),
    /// Type 9: a multicast group, or one source's (RFC 8060 §4.5).
    Multicast {
        /// The flags of the LCAF header: R, L and J of signal-free multicast and PIM use of this type.
        flags: u8,
        /// The instance ID.
        iid: u32,
        /// Mask length of `source`.
        source_mask_len: u8,
        /// Mask length of `group`.
        group_mask_len: u8,
        /// The source.
        source: Box<Address>,
        /// The group.
        group: Box<Address>,
    },
    /// Type 10: the re-encapsulating routers to pass, in order (RFC 8060 §4.6).
    ExplicitLocatorPath(Vec<ElpHop>),
    /// Type 11: keys that belong to a locator (RFC 8060 §4.7, RFC 8061, RFC 8111 §6.4).
    SecurityKey {
        /// Key algorithm.
        algorithm: u8,
        /// R: the keys are revoked.
        revoked: bool,
        /// Key material, at most 255 keys of at most 65,535 bytes.
        keys: Vec<Vec<u8>>,
        /// Whose keys they are.
        address: Box<Address>,
    },
    /// Type 12: a source and a destination prefix as one key (RFC 8060 §4.8).
    SourceDest {
        /// Mask length of `source`.
        source_mask_len: u8,
        /// Mask length of `dest`.
        dest_mask_len: u8,
        /// The source prefix.
        source: Box<Address>,
        /// The destination prefix.
        dest: Box<Address>,
    },
    /// Type 13: where to replicate multicast to (RFC 8060 §4.9).
    ReplicationList(Vec<RleEntry>),
    /// A type without structure here, or one whose content does not follow RFC 8060: re-encoded byte for
    /// byte.
    Opaque {
        /// Rsvd1.
        rsvd1: u8,
        /// Flags.
        flags: u8,
        /// LCAF type.
        kind: u8,
        /// Rsvd2.
        rsvd2: u8,
        /// What follows the length field.
        payload: Vec<u8>,
    },
}

/// The content of a NAT traversal LCAF (RFC 8060 §4.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatTraversal {
    /// The Map-Server's UDP port, 4342.
    pub ms_port: u16,
    /// The source port that the Map-Server or RTR saw.
    pub etr_port: u16,
    /// The source address that the Map-Server or RTR saw.
    pub global_etr: Address,
    /// The address of the Map-Server that the Info-Request was sent to.
    pub ms: Address,
    /// The address that the ETR has behind the NAT.
    pub private_etr: Address,
    /// RTRs that the ETR can use. A single [`Address::None`] also means "none".
    pub rtrs: Vec<Address>,
}

/// One hop of an explicit locator path (RFC 8060 §4.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElpHop {
    /// L: look the address up instead of sending to it.
    pub lookup: bool,
    /// P: the hop may be probed.
    pub probe: bool,
    /// S: the hop must not be skipped.
    pub strict: bool,
    /// The hop.
    pub address: Address,
}

/// One entry of a replication list (RFC 8060 §4.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RleEntry {
    /// Level in the distribution tree, 0 next to the ITR.
    pub level: u8,
    /// The RTR or ETR.
    pub address: Address,
}

impl Lcaf {
    /// Its LCAF type.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::List(_) => LIST,
            Self::InstanceId { .. } => INSTANCE_ID,
            Self::NatTraversal(_) => NAT_TRAVERSAL,
            Self::Multicast { .. } => MULTICAST,
            Self::ExplicitLocatorPath(_) => EXPLICIT_LOCATOR_PATH,
            Self::SecurityKey { .. } => SECURITY_KEY,
            Self::SourceDest { .. } => SOURCE_DEST,
            Self::ReplicationList(_) => REPLICATION_LIST,
            Self::Opaque { kind, .. } => *kind,
        }
    }

    /// From the byte after the AFI; `depth` counts the LCAFs around this one.
    pub(super) fn decode(r: &mut Reader<'_>, field: &'static str, depth: usize) -> Result<Self, DecodeError> {
        let [rsvd1, flags, kind, rsvd2] = r.array(field)?;
        let len = r.u16(field)?;
        let content = r.sub(usize::from(len), field)?;
        if depth < MAX_DEPTH
            && let Some(lcaf) = Self::structured(kind, flags, rsvd2, content, depth + 1)
        {
            return Ok(lcaf);
        }
        Ok(Self::Opaque { rsvd1, flags, kind, rsvd2, payload: content.peek().to_vec() })
    }

    /// `None` where the type has no structure here or the content is not what the type asks for.
    fn structured(kind: u8, flags: u8, rsvd2: u8, mut r: Reader<'_>, depth: usize) -> Option<Self> {
        let field = "LCAF";
        let next = |r: &mut Reader<'_>| Address::decode_nested(r, field, depth).ok();
        let lcaf = match kind {
            LIST => {
                let mut list = Vec::new();
                while !r.is_empty() {
                    list.push(next(&mut r)?);
                }
                Self::List(list)
            }
            INSTANCE_ID => {
                let iid = r.u32(field).ok()?;
                Self::InstanceId { iid_mask_len: rsvd2, iid, address: Box::new(next(&mut r)?) }
            }
            NAT_TRAVERSAL => {
                let mut nat = NatTraversal {
                    ms_port: r.u16(field).ok()?,
                    etr_port: r.u16(field).ok()?,
                    global_etr: next(&mut r)?,
                    ms: next(&mut r)?,
                    private_etr: next(&mut r)?,
                    rtrs: Vec::new(),
                };
                while !r.is_empty() {
                    nat.rtrs.push(next(&mut r)?);
                }
                Self::NatTraversal(Box::new(nat))
            }
            MULTICAST => {
                let iid = r.u32(field).ok()?;
                let [_, _, source_mask_len, group_mask_len] = r.array(field).ok()?;
                let source = Box::new(next(&mut r)?);
                let group = Box::new(next(&mut r)?);
                Self::Multicast { flags, iid, source_mask_len, group_mask_len, source, group }
            }
            EXPLICIT_LOCATOR_PATH => {
                let mut hops = Vec::new();
                while !r.is_empty() {
                    let [_, bits] = r.array(field).ok()?;
                    let (lookup, probe, strict) = (bits & 4 != 0, bits & 2 != 0, bits & 1 != 0);
                    hops.push(ElpHop { lookup, probe, strict, address: next(&mut r)? });
                }
                Self::ExplicitLocatorPath(hops)
            }
            SECURITY_KEY => {
                let [count, _, algorithm, bits] = r.array(field).ok()?;
                let mut keys = Vec::new();
                for _ in 0..count {
                    let len = r.u16(field).ok()?;
                    keys.push(r.take(usize::from(len), field).ok()?.to_vec());
                }
                let address = Box::new(next(&mut r)?);
                Self::SecurityKey { algorithm, revoked: bits & 1 != 0, keys, address }
            }
            SOURCE_DEST => {
                let [_, _, source_mask_len, dest_mask_len] = r.array(field).ok()?;
                let source = Box::new(next(&mut r)?);
                let dest = Box::new(next(&mut r)?);
                Self::SourceDest { source_mask_len, dest_mask_len, source, dest }
            }
            REPLICATION_LIST => {
                let mut entries = Vec::new();
                while !r.is_empty() {
                    let [_, _, _, level] = r.array(field).ok()?;
                    entries.push(RleEntry { level, address: next(&mut r)? });
                }
                Self::ReplicationList(entries)
            }
            _ => return None,
        };
        r.is_empty().then_some(lcaf)
    }

    /// What follows the AFI; `depth` counts the LCAFs around this one.
    pub(super) fn encode(&self, w: &mut Writer, depth: usize) -> Result<(), EncodeError> {
        if depth >= MAX_DEPTH && !matches!(self, Self::Opaque { .. }) {
            return Err(EncodeError::TooDeep { max: MAX_DEPTH });
        }
        let (rsvd1, flags, rsvd2) = match self {
            Self::Opaque { rsvd1, flags, rsvd2, .. } => (*rsvd1, *flags, *rsvd2),
            Self::InstanceId { iid_mask_len, .. } => (0, 0, *iid_mask_len),
            Self::Multicast { flags, .. } => (0, *flags, 0),
            _ => (0, 0, 0),
        };
        w.slice(&[rsvd1, flags, self.kind(), rsvd2]);
        w.with_len16("LCAF", |w| self.encode_content(w, depth + 1))
    }

    fn encode_content(&self, w: &mut Writer, depth: usize) -> Result<(), EncodeError> {
        match self {
            Self::List(list) => list.iter().try_for_each(|a| a.encode_nested(w, depth)),
            Self::InstanceId { iid, address, .. } => {
                w.u32(*iid);
                address.encode_nested(w, depth)
            }
            Self::NatTraversal(nat) => {
                w.u16(nat.ms_port);
                w.u16(nat.etr_port);
                nat.global_etr.encode_nested(w, depth)?;
                nat.ms.encode_nested(w, depth)?;
                nat.private_etr.encode_nested(w, depth)?;
                nat.rtrs.iter().try_for_each(|a| a.encode_nested(w, depth))
            }
            Self::Multicast { iid, source_mask_len, group_mask_len, source, group, .. } => {
                w.u32(*iid);
                w.slice(&[0, 0, *source_mask_len, *group_mask_len]);
                source.encode_nested(w, depth)?;
                group.encode_nested(w, depth)
            }
            Self::ExplicitLocatorPath(hops) => hops.iter().try_for_each(|hop| {
                w.u8(0);
                w.u8(flag(hop.lookup, 4) | flag(hop.probe, 2) | flag(hop.strict, 1));
                hop.address.encode_nested(w, depth)
            }),
            Self::SecurityKey { algorithm, revoked, keys, address } => {
                w.count8(keys.len(), "key of a security key LCAF")?;
                w.slice(&[0, *algorithm, flag(*revoked, 1)]);
                for key in keys {
                    w.with_len16("key of a security key LCAF", |w| {
                        w.slice(key);
                        Ok(())
                    })?;
                }
                address.encode_nested(w, depth)
            }
            Self::SourceDest { source_mask_len, dest_mask_len, source, dest } => {
                w.slice(&[0, 0, *source_mask_len, *dest_mask_len]);
                source.encode_nested(w, depth)?;
                dest.encode_nested(w, depth)
            }
            Self::ReplicationList(entries) => entries.iter().try_for_each(|entry| {
                w.slice(&[0, 0, 0, entry.level]);
                entry.address.encode_nested(w, depth)
            }),
            Self::Opaque { payload, .. } => {
                w.slice(payload);
                Ok(())
            }
        }
    }
}

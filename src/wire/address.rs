use std::net::IpAddr;

/// An address in AFI encoding, as EID or as locator (RFC 9301 §5.4, RFC 8060).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Address {
    /// AFI 0: no address.
    #[default]
    None,
    /// AFI 1 or 2.
    Ip(IpAddr),
    /// AFI 6.
    Mac([u8; 6]),
    /// AFI 17: a NUL-terminated name, kept without its NUL.
    DistinguishedName(Vec<u8>),
    /// AFI 16387.
    Lcaf(Lcaf),
}

/// A LISP Canonical Address (RFC 8060). Types that a router acts on are structured, all others opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lcaf {
    /// Type 1: any number of addresses.
    List(Vec<Address>),
    /// Type 2: an address within an instance. `iid` is 32 bits on the wire, `mask_len` that of the instance ID range.
    InstanceId {
        /// Mask length of the instance ID itself, 0 or 32 for a single one.
        iid_mask_len: u8,
        /// The instance ID.
        iid: u32,
        /// The address within it.
        address: Box<Address>,
    },
    /// A type without structure here, or one whose content does not follow RFC 8060: re-encoded byte for byte.
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

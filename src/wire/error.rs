//! Why bytes are not a message, and why a message cannot become bytes.

/// Why a message was not decoded. The whole message is dropped in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before or within a field.
    #[error("the message ends before the end of {0}")]
    Missing(&'static str),
    /// This many bytes are left after the last field.
    #[error("{0} bytes follow the last field")]
    TrailingData(usize),
    /// The type in the first four bits is none that exists (RFC 9301 §5.1).
    #[error("LISP message type {0} is unknown")]
    UnknownType(u8),
    /// An address family that is unknown, so that the address's length is unknown too (RFC 9301 §5.1: drop
    /// and log).
    #[error("{field} has the unknown address family {afi}")]
    UnknownAfi {
        /// Which address.
        field: &'static str,
        /// The AFI.
        afi: u16,
    },
    /// A length field contradicts the bytes that are there.
    #[error("{0} does not agree with the length of the message")]
    BadLength(&'static str),
    /// LISP-SEC authentication data of an unknown type, so that its end is unknown (RFC 9303 §8.1).
    #[error("ECM authentication data type {0} is unknown")]
    UnknownSecurityType(u8),
    /// What follows the ECM header is neither IPv4 nor IPv6.
    #[error("the inner header of the ECM has IP version {0}")]
    InnerVersion(u8),
    /// The inner packet of the ECM is not UDP.
    #[error("the inner packet of the ECM has protocol {0} instead of UDP")]
    InnerProtocol(u8),
    /// The inner packet of the ECM is a fragment.
    #[error("the inner packet of the ECM is a fragment")]
    InnerFragment,
    /// The inner IPv4 header of the ECM has a wrong checksum.
    #[error("wrong checksum in the inner IPv4 header of the ECM")]
    InnerHeaderChecksum,
    /// The inner UDP header of the ECM has a wrong checksum, or none over IPv6.
    #[error("wrong checksum in the inner UDP header of the ECM")]
    InnerUdpChecksum,
}

impl DecodeError {
    /// A short name of the kind of error, fit for a counter.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "truncated",
            Self::TrailingData(_) => "trailing-data",
            Self::UnknownType(_) => "unknown-type",
            Self::UnknownAfi { .. } => "unknown-afi",
            Self::BadLength(_) => "bad-length",
            Self::UnknownSecurityType(_) => "unknown-security-type",
            Self::InnerVersion(_) => "inner-version",
            Self::InnerProtocol(_) => "inner-protocol",
            Self::InnerFragment => "inner-fragment",
            Self::InnerHeaderChecksum => "inner-header-checksum",
            Self::InnerUdpChecksum => "inner-udp-checksum",
        }
    }
}

/// Why a message cannot be encoded: it says something that its format has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EncodeError {
    /// More of something than its count field can tell.
    #[error("{count} × {field}, at most {max} fit")]
    TooMany {
        /// What.
        field: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// None of something that must be there.
    #[error("at least one {0} is needed")]
    TooFew(&'static str),
    /// Something is longer than its length field can tell.
    #[error("{field} has {len} bytes, at most {max} fit")]
    TooLong {
        /// What.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The largest length in bytes.
        max: usize,
    },
    /// A value that does not fit its field, or contradicts another.
    #[error("the value of {0} cannot be encoded")]
    InvalidValue(&'static str),
    /// Inner source and destination of an ECM are of different families.
    #[error("inner source and destination of an ECM must be of the same address family")]
    FamilyMismatch,
    /// Addresses are nested deeper than any receiver should follow.
    #[error("addresses are nested deeper than {max} levels")]
    TooDeep {
        /// The limit.
        max: usize,
    },
}

/// Why a decoded address is not an EID-prefix that this router can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EidError {
    /// Neither an IP address nor one within an instance ID LCAF.
    #[error("the EID is not an IP address")]
    NotIp,
    /// The instance ID does not fit the 24 bits of the data header.
    #[error("instance ID {0} does not fit 24 bits")]
    InstanceId(u32),
    /// The mask is longer than the address.
    #[error("mask length {0} is longer than the address")]
    MaskLength(u8),
}

impl EidError {
    /// A short name of the kind of error, fit for a counter.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotIp => "eid-not-ip",
            Self::InstanceId(_) => "eid-instance-id",
            Self::MaskLength(_) => "eid-mask-length",
        }
    }
}

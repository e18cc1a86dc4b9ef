//! VRRP advertisements: version 2 (RFC 3768 §5.3, RFC 2338 for its authentication) and version 3 (RFC 9568
//! §5, RFC 5798).
//!
//! Owns their bytes, the checksum with and without pseudo-header, and the envelope that they travel in.
//! Whether an advertisement is for us and what follows from it is `proto::redundancy`'s business.
//!
//! ```text
//!  version 2                                            version 3
//!  0       1       2       3                            0       1       2       3
//! +---+---+-------+-------+-------+                    +---+---+-------+-------+-------+
//! |ver|typ| VRID  | prio  | count |                    |ver|typ| VRID  | prio  | count |
//! +---+---+-------+-------+-------+                    +---+---+-------+-------+-------+
//! | auth  | adver |    checksum   |                    |rsv| max adver |    checksum   |
//! +-------+-------+---------------+                    +---+-----------+---------------+
//! |  count × IPv4 address         |                    |  count × IPv4 or IPv6 address |
//! +-------------------------------+                    +-------------------------------+
//! |  authentication data, 8 bytes |
//! +-------------------------------+
//! ```

mod frame;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::codec::{Reader, Writer};
use super::display::{Hex, Object, Value};
use super::{DecodeError, EncodeError, ip};
use crate::types::Family;

pub use frame::{FrameError, Packet, PacketError, advertisement_frame, announcement_frame, virtual_mac};

/// IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// The group that IPv4 advertisements are sent to (RFC 9568 §5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The group that IPv6 advertisements are sent to (RFC 9568 §5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// TTL and hop limit of every advertisement; others have been forwarded by somebody (RFC 9568 §5.1.1.3).
pub const TTL: u8 = 255;

/// Length of the fixed part.
const HEADER: usize = 8;
/// Length of version 2's authentication data.
const AUTH_DATA: usize = 8;
/// The only type there is (RFC 9568 §5.2.2).
const ADVERTISEMENT: u8 = 1;

/// The group that advertisements of a family are sent to.
pub const fn group(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(GROUP_V4),
        Family::Ipv6 => IpAddr::V6(GROUP_V6),
    }
}

/// An advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Virtual router identifier. 0 is for nobody, but can be said.
    pub vrid: u8,
    /// Priority: 0 = the master resigns, 255 = the owner of the addresses.
    pub priority: u8,
    /// What the versions have apart from each other.
    pub body: Body,
    /// The virtual router's addresses: of the family that the packet is of, at most 255.
    pub addresses: Vec<IpAddr>,
}

/// What the versions have apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Version 2, over IPv4 only.
    V2 {
        /// Seconds between advertisements.
        interval: u8,
        /// Authentication type: 0 none, 1 simple password, 2 IP authentication header (RFC 2338 §5.3.6).
        auth_type: u8,
        /// Authentication data as they are.
        auth_data: [u8; AUTH_DATA],
    },
    /// Version 3.
    V3 {
        /// Centiseconds between advertisements, 12 bits.
        interval: u16,
    },
}

/// The protocol's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// RFC 3768.
    V2,
    /// RFC 9568.
    V3,
}

/// What the checksum covers. Version 3 over IPv6 always covers a pseudo-header, version 2 never; of version 3
/// over IPv4 there are both kinds of implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Checksum {
    /// The message behind a pseudo-header (RFC 9568 §5.2.8, RFC 8200 §8.1).
    #[default]
    PseudoHeader,
    /// The message alone.
    MessageOnly,
}

/// Why bytes are not an advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdvertisementError {
    /// Neither 2 nor 3, or 2 over IPv6.
    #[error("VRRP version {0} is unknown, or not for this address family")]
    Version(u8),
    /// Not an advertisement.
    #[error("VRRP message type {0} is unknown")]
    Type(u8),
    /// No address at all.
    #[error("the advertisement has no addresses")]
    NoAddress,
    /// Neither the message alone nor with a pseudo-header sums up.
    #[error("wrong checksum")]
    Checksum,
    /// It is too short, or too long.
    #[error(transparent)]
    Length(#[from] DecodeError),
}

/// The addresses of the IP header, which the checksum may cover. Both are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Source: the sender's primary address.
    pub source: IpAddr,
    /// Destination: the family's group.
    pub destination: IpAddr,
}

impl Envelope {
    /// From `source` to the group of its family.
    pub const fn multicast(source: IpAddr) -> Self {
        Self { source, destination: group(family(source)) }
    }

    const fn family(&self) -> Family {
        family(self.source)
    }

    /// The one's complement sum of the pseudo-header for a message of `len` bytes. That of IPv4 (RFC 793
    /// §3.1) and that of IPv6 (RFC 8200 §8.1) add up alike.
    fn sum(&self, len: usize) -> u16 {
        let addresses = sum_address(self.source, sum_address(self.destination, 0));
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        add(add(addresses, u16::from(PROTOCOL)), len)
    }
}

const fn family(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    }
}

fn sum_address(address: IpAddr, sum: u16) -> u16 {
    match address {
        IpAddr::V4(a) => add(sum, ip::sum(&a.octets())),
        IpAddr::V6(a) => add(sum, ip::sum(&a.octets())),
    }
}

const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

impl Advertisement {
    /// The advertisement that `bytes`, the whole payload of an IP packet with these addresses, hold, and
    /// which kind of checksum it has.
    ///
    /// # Errors
    /// If it is none. Addresses and authentication are not judged.
    pub fn decode(bytes: &[u8], envelope: &Envelope) -> Result<(Self, Checksum), AdvertisementError> {
        let mut r = Reader::new(bytes);
        let first = r.u8("VRRP version and type")?;
        let family = envelope.family();
        let version = match (first >> 4, family) {
            (2, Family::Ipv4) => Version::V2,
            (3, _) => Version::V3,
            (other, _) => return Err(AdvertisementError::Version(other)),
        };
        if first & 0x0f != ADVERTISEMENT {
            return Err(AdvertisementError::Type(first & 0x0f));
        }
        let vrid = r.u8("VRID")?;
        let priority = r.u8("VRRP priority")?;
        let count = r.u8("VRRP address count")?;
        let [high, low] = r.array::<2>("VRRP advertisement interval")?;
        r.u16("VRRP checksum")?;
        if count == 0 {
            return Err(AdvertisementError::NoAddress);
        }
        let mut addresses = Vec::with_capacity(usize::from(count).min(r.len()));
        for _ in 0..count {
            addresses.push(match family {
                Family::Ipv4 => IpAddr::from(r.array::<4>("VRRP address")?),
                Family::Ipv6 => IpAddr::from(r.array::<16>("VRRP address")?),
            });
        }
        let body = match version {
            Version::V2 => {
                let auth_data = r.array("VRRP authentication data")?;
                Body::V2 { auth_type: high, interval: low, auth_data }
            }
            // The upper four bits are reserved, and ignored (RFC 9568 §5.2.6).
            Version::V3 => Body::V3 { interval: u16::from_be_bytes([high & 0x0f, low]) },
        };
        r.finish()?;
        let sum = ip::sum(bytes);
        let checksum = match version {
            Version::V3 if add(sum, envelope.sum(bytes.len())) == 0xffff => Checksum::PseudoHeader,
            _ if sum == 0xffff && family == Family::Ipv4 => Checksum::MessageOnly,
            _ => return Err(AdvertisementError::Checksum),
        };
        Ok((Self { vrid, priority, body, addresses }, checksum))
    }

    /// The bytes, the whole payload of an IP packet with these addresses. `checksum` counts for version 3
    /// over IPv4 only.
    ///
    /// # Errors
    /// If there are no addresses or more than 255, if they are not of the envelope's family, if version 2 is
    /// to go over IPv6, or if the interval takes more than 12 bits.
    pub fn encode(&self, envelope: &Envelope, checksum: Checksum) -> Result<Vec<u8>, EncodeError> {
        let family = envelope.family();
        let mut w = Writer::new(Vec::with_capacity(HEADER + self.addresses.len() * 16 + AUTH_DATA));
        if self.addresses.is_empty() {
            return Err(EncodeError::TooFew("VRRP address"));
        }
        let version = self.version();
        w.u8(version.number() << 4 | ADVERTISEMENT);
        w.u8(self.vrid);
        w.u8(self.priority);
        w.count8(self.addresses.len(), "VRRP address")?;
        match self.body {
            Body::V2 { .. } if family == Family::Ipv6 => {
                return Err(EncodeError::InvalidValue("VRRP version over IPv6"));
            }
            Body::V2 { interval, auth_type, .. } => {
                w.u8(auth_type);
                w.u8(interval);
            }
            Body::V3 { interval } if interval > 0x0fff => {
                return Err(EncodeError::InvalidValue("VRRP advertisement interval"));
            }
            Body::V3 { interval } => w.u16(interval),
        }
        w.u16(0);
        for address in &self.addresses {
            match (address, family) {
                (IpAddr::V4(a), Family::Ipv4) => w.slice(&a.octets()),
                (IpAddr::V6(a), Family::Ipv6) => w.slice(&a.octets()),
                _ => return Err(EncodeError::InvalidValue("family of a VRRP address")),
            }
        }
        if let Body::V2 { auth_data, .. } = &self.body {
            w.slice(auth_data);
        }
        let mut bytes = w.into_bytes();
        let mut sum = ip::sum(&bytes);
        let covers_header = match (version, family) {
            (Version::V2, _) => false,
            (Version::V3, Family::Ipv6) => true,
            (Version::V3, Family::Ipv4) => checksum == Checksum::PseudoHeader,
        };
        if covers_header {
            sum = add(sum, envelope.sum(bytes.len()));
        }
        if let Some(field) = bytes.get_mut(6..8) {
            field.copy_from_slice(&(!sum).to_be_bytes());
        }
        Ok(bytes)
    }

    /// Its version.
    pub const fn version(&self) -> Version {
        match self.body {
            Body::V2 { .. } => Version::V2,
            Body::V3 { .. } => Version::V3,
        }
    }

    /// Time between advertisements, as it says.
    pub const fn interval(&self) -> Duration {
        match self.body {
            Body::V2 { interval, .. } => Duration::from_secs(interval as u64),
            Body::V3 { interval } => Duration::from_millis(interval as u64 * 10),
        }
    }

    /// Every field, in the order of the layout.
    pub fn tree(&self) -> Value {
        let object = Object::new()
            .field("vrrp_version", self.version().number())
            .field("vrid", self.vrid)
            .field("priority", self.priority)
            .field("address_count", self.addresses.len());
        let object = match &self.body {
            Body::V2 { interval, auth_type, auth_data } => object
                .field("auth_type", *auth_type)
                .field("interval_s", *interval)
                .text("auth_data", Hex(auth_data)),
            Body::V3 { interval } => object.field("interval_cs", *interval),
        };
        object.list("addresses", &self.addresses, |address| address.to_string().into()).into()
    }
}

impl fmt::Display for Advertisement {
    /// One line for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VRRPv{} advertisement vrid {}", self.version().number(), self.vrid)?;
        write!(f, " priority {} interval {} ms for", self.priority, self.interval().as_millis())?;
        // Nobody wants 255 of them in one line.
        self.addresses.iter().take(8).try_for_each(|address| write!(f, " {address}"))?;
        match self.addresses.len().checked_sub(8) {
            Some(more @ 1..) => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}

impl Version {
    /// 2 or 3.
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

impl AdvertisementError {
    /// A short name of the kind of error, fit for a counter.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Type(_) => "type",
            Self::NoAddress => "no-address",
            Self::Checksum => "checksum",
            Self::Length(_) => "length",
        }
    }
}

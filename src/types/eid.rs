use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// A 24-bit instance ID: which of several overlapping EID spaces an EID belongs to (RFC 9300 §8, RFC 8060
/// §4.1). Zero is the default instance, whose EIDs travel without an instance ID LCAF and whose data packets
/// carry no I bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(u32);

impl InstanceId {
    /// The default instance, 0.
    pub const DEFAULT: Self = Self(0);
    /// The largest instance ID that fits the data header's 24 bits.
    pub const MAX: u32 = 0x00ff_ffff;

    /// `None` when `value` does not fit 24 bits.
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// The value, 0 to 2^24 − 1.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether this is the default instance.
    pub const fn is_default(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Address family of an EID or RLOC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4, AFI 1.
    Ipv4,
    /// IPv6, AFI 2.
    Ipv6,
}

impl Family {
    /// The family of an address.
    pub const fn of(addr: &IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// Address length in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// An endpoint identifier: an address within an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Eid {
    /// The EID space.
    pub iid: InstanceId,
    /// The address.
    pub addr: IpAddr,
}

impl Eid {
    /// An EID in an instance.
    pub const fn new(iid: InstanceId, addr: IpAddr) -> Self {
        Self { iid, addr }
    }

    /// This EID as a prefix of full length (/32 or /128).
    pub fn to_prefix(self) -> EidPrefix {
        EidPrefix { iid: self.iid, net: IpNet::from(self.addr) }
    }
}

impl fmt::Display for Eid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.iid.is_default() { self.addr.fmt(f) } else { write!(f, "[{}]{}", self.iid, self.addr) }
    }
}

/// An EID-prefix within an instance. The host bits of `net` are always zero; use [`EidPrefix::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EidPrefix {
    /// The EID space.
    pub iid: InstanceId,
    /// The prefix, without host bits.
    pub net: IpNet,
}

impl EidPrefix {
    /// A prefix in an instance; host bits are cleared.
    pub fn new(iid: InstanceId, net: IpNet) -> Self {
        Self { iid, net: net.trunc() }
    }

    /// Whether `eid` lies in this prefix and instance.
    pub fn contains(&self, eid: &Eid) -> bool {
        self.iid == eid.iid && self.net.contains(&eid.addr)
    }

    /// Whether `other` is this prefix or a more specific one of the same instance and family.
    pub fn covers(&self, other: &Self) -> bool {
        self.iid == other.iid && self.net.contains(&other.net)
    }

    /// The prefix's family.
    pub fn family(&self) -> Family {
        match self.net {
            IpNet::V4(_) => Family::Ipv4,
            IpNet::V6(_) => Family::Ipv6,
        }
    }

    /// Mask length in bits.
    pub fn len(&self) -> u8 {
        self.net.prefix_len()
    }

    /// Whether this is a default route (mask length 0).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first address of the prefix as an EID.
    pub fn first(&self) -> Eid {
        Eid::new(self.iid, self.net.network())
    }
}

impl fmt::Display for EidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.iid.is_default() { self.net.fmt(f) } else { write!(f, "[{}]{}", self.iid, self.net) }
    }
}

impl From<Ipv4Net> for EidPrefix {
    fn from(net: Ipv4Net) -> Self {
        Self::new(InstanceId::DEFAULT, IpNet::V4(net))
    }
}

impl From<Ipv6Net> for EidPrefix {
    fn from(net: Ipv6Net) -> Self {
        Self::new(InstanceId::DEFAULT, IpNet::V6(net))
    }
}

impl From<IpNet> for EidPrefix {
    fn from(net: IpNet) -> Self {
        Self::new(InstanceId::DEFAULT, net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_different_instances_or_families_never_cover_each_other() {
        let p = |s: &str, iid| EidPrefix::new(InstanceId::new(iid).unwrap(), s.parse().unwrap());
        assert!(p("10.0.0.0/8", 0).covers(&p("10.1.0.0/16", 0)));
        assert!(!p("10.0.0.0/8", 0).covers(&p("10.1.0.0/16", 7)));
        assert!(!p("10.1.0.0/16", 0).covers(&p("10.0.0.0/8", 0)));
        assert!(!p("0.0.0.0/0", 0).covers(&p("::/0", 0)));
        assert_eq!(p("10.1.2.3/8", 0), p("10.0.0.0/8", 0));
        assert_eq!(p("10.0.0.0/8", 7).to_string(), "[7]10.0.0.0/8");
        assert_eq!(InstanceId::new(0x0100_0000), None);
    }
}

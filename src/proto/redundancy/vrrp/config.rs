//! What a virtual router is told to do.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::types::Family;
pub use crate::wire::vrrp::Checksum;
use crate::wire::vrrp::Version;

/// The priority of the router that has the virtual addresses as its own (RFC 9568 §5.2.4).
pub(super) const OWNER: u8 = 255;

/// What tells virtual routers of a machine apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Name of the interface that it is on.
    pub interface: String,
    /// Those of IPv4 and of IPv6 are apart from each other, also with the same VRID.
    pub family: Family,
    /// Virtual router identifier, 1 to 255.
    pub vrid: u8,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "virtual router {} of {} on {}", self.vrid, self.family, self.interface)
    }
}

/// A virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualRouterConfig {
    /// Which.
    pub key: Key,
    /// Its addresses: at least one, at most 255, of the key's family; of IPv6, the first is link-local (RFC
    /// 9568 §5.2.9).
    pub addresses: Vec<IpAddr>,
    /// 1 to 254, higher is better; or 255 = the addresses are this machine's own.
    pub priority: u8,
    /// Time between advertisements: 10 ms to 40.95 s, and with version 2 alone, a whole number of seconds.
    pub interval: Duration,
    /// The versions that are spoken. Only version 3 has IPv6.
    pub versions: Versions,
    /// Whether a master of lower priority is replaced.
    pub preempt: bool,
    /// How long a master of lower priority is left in peace first.
    pub preempt_delay: Duration,
    /// What the checksum of version 3 over IPv4 covers in what we send. Both kinds are accepted.
    pub checksum: Checksum,
    /// What lowers the priority while it is lost. Not for the owner.
    pub tracked: Vec<Tracked>,
    /// Whether the virtual addresses have a MAC address of their own (RFC 9568 §7.3), or that of the
    /// interface.
    pub virtual_mac: bool,
}

impl VirtualRouterConfig {
    /// What one has that says no more: priority 100, every second, version 3, with preemption and a virtual
    /// MAC address.
    pub const fn new(key: Key, addresses: Vec<IpAddr>) -> Self {
        Self {
            key,
            addresses,
            priority: 100,
            interval: Duration::from_secs(1),
            versions: Versions::V3,
            preempt: true,
            preempt_delay: Duration::ZERO,
            checksum: Checksum::PseudoHeader,
            tracked: Vec::new(),
            virtual_mac: true,
        }
    }

    /// Whether the addresses are this machine's own.
    pub const fn is_owner(&self) -> bool {
        self.priority == OWNER
    }

    /// Whether it depends on an interface.
    pub fn watches(&self, interface: &str) -> bool {
        self.key.interface == interface
            || self.tracked.iter().any(|t| matches!(t, Tracked::Interface { name, .. } if name == interface))
    }
}

/// Which versions are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Versions {
    /// RFC 3768.
    V2,
    /// RFC 9568.
    #[default]
    V3,
    /// Both at once, for the time of a change from one to the other (RFC 5798 §8.4).
    Both,
}

impl Versions {
    /// Whether this one is among them.
    pub const fn has(self, version: Version) -> bool {
        matches!((self, version), (Self::Both, _) | (Self::V2, Version::V2) | (Self::V3, Version::V3))
    }
}

/// Something whose loss lowers the priority, which never falls below 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// An interface that doesn't run, or is not there.
    Interface {
        /// Its name.
        name: String,
        /// How much lower.
        decrement: u8,
    },
    /// All locators of the site: the underlay can't be reached.
    Locators {
        /// How much lower.
        decrement: u8,
    },
}

impl Tracked {
    /// How much lower the priority is while it is lost.
    pub const fn decrement(&self) -> u16 {
        match self {
            Self::Interface { decrement, .. } | Self::Locators { decrement } => *decrement as u16,
        }
    }
}

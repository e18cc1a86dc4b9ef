use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{EidPrefix, Ttl};

/// A routing locator: an underlay address of a tunnel router.
pub type Rloc = IpAddr;

/// What an ITR does with packets to an EID-prefix that has no locators (RFC 9301 §5.4, ACT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// 0: no action; the packet is dropped, as there is nowhere to send it.
    #[default]
    NoAction,
    /// 1: forward without encapsulation.
    NativelyForward,
    /// 2: drop, and ask the mapping system again.
    SendMapRequest,
    /// 3: drop without a reason.
    Drop,
    /// 4: drop, policy denied.
    DropPolicyDenied,
    /// 5: drop, authentication failure.
    DropAuthFailure,
    /// 6 and 7, unassigned: treated as drop, kept so that the value survives re-encoding.
    Unassigned(u8),
}

impl Action {
    /// From the 3-bit wire value; higher bits are ignored.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::NoAction,
            1 => Self::NativelyForward,
            2 => Self::SendMapRequest,
            3 => Self::Drop,
            4 => Self::DropPolicyDenied,
            5 => Self::DropAuthFailure,
            other => Self::Unassigned(other),
        }
    }

    /// The 3-bit wire value.
    pub const fn bits(self) -> u8 {
        match self {
            Self::NoAction => 0,
            Self::NativelyForward => 1,
            Self::SendMapRequest => 2,
            Self::Drop => 3,
            Self::DropPolicyDenied => 4,
            Self::DropAuthFailure => 5,
            Self::Unassigned(other) => other & 7,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAction => f.write_str("no-action"),
            Self::NativelyForward => f.write_str("natively-forward"),
            Self::SendMapRequest => f.write_str("send-map-request"),
            Self::Drop => f.write_str("drop"),
            Self::DropPolicyDenied => f.write_str("drop/policy-denied"),
            Self::DropAuthFailure => f.write_str("drop/auth-failure"),
            Self::Unassigned(other) => write!(f, "unassigned({other})"),
        }
    }
}

/// A 12-bit map-version number (RFC 9302); 0 means "no version".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MapVersion(u16);

impl MapVersion {
    /// The null version.
    pub const NONE: Self = Self(0);

    /// Higher bits are dropped.
    pub const fn new(value: u16) -> Self {
        Self(value & 0x0fff)
    }

    /// 0 to 4095.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether this is the null version, which compares with nothing.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether this is a newer version than `other`: at most half a circle ahead of it (RFC 9302 §6).
    /// Neither may be the null version.
    pub const fn is_newer_than(self, other: Self) -> bool {
        self.0 > other.0 && self.0 - other.0 <= 2048 || other.0 > self.0 && other.0 - self.0 > 2048
    }

    /// The version after this one, which leaves the null version out (RFC 9302 §6.1).
    pub const fn next(self) -> Self {
        if self.0 == 0x0fff { Self(1) } else { Self(self.0 + 1) }
    }
}

/// One locator of a mapping (RFC 9301 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Locator {
    /// The underlay address.
    pub rloc: Rloc,
    /// Unicast priority: lowest wins, 255 = never use.
    pub priority: u8,
    /// Unicast weight: share among locators of equal priority, in percent or all 0 (the ITR's own choice).
    pub weight: u8,
    /// Multicast priority, as `priority`.
    pub mpriority: u8,
    /// Multicast weight, as `weight`.
    pub mweight: u8,
    /// L: the locator belongs to the sender of the record.
    pub local: bool,
    /// p: the locator that an RLOC-probe reply answers for.
    pub probe: bool,
    /// R: the sender knows a route to the locator.
    pub reachable: bool,
}

impl Locator {
    /// A reachable unicast locator that is not the sender's own, and never used for multicast.
    pub const fn new(rloc: Rloc, priority: u8, weight: u8) -> Self {
        Self {
            rloc,
            priority,
            weight,
            mpriority: 255,
            mweight: 0,
            local: false,
            probe: false,
            reachable: true,
        }
    }

    /// Whether an ITR may send unicast to this locator: reachable and priority below 255.
    pub const fn usable(&self) -> bool {
        self.priority != 255 && self.reachable
    }
}

/// What an operator's command says of one of the site's locators, in place of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatorChange {
    /// Another priority: 0 to 255.
    pub priority: Option<u8>,
    /// Another weight: 0 to 100.
    pub weight: Option<u8>,
    /// Whether it is up: one that is down is announced as unreachable and with priority 255, so that nobody
    /// uses it, while packets that still come to it are taken.
    pub up: Option<bool>,
}

impl LocatorChange {
    /// What holds after another change.
    pub fn then(self, later: Self) -> Self {
        Self {
            priority: later.priority.or(self.priority),
            weight: later.weight.or(self.weight),
            up: later.up.or(self.up),
        }
    }
}

impl fmt::Display for LocatorChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let up = self.up.map(|up| if up { "up" } else { "down" }.to_owned());
        let priority = self.priority.map(|priority| format!("priority {priority}"));
        let weight = self.weight.map(|weight| format!("weight {weight}"));
        let parts: Vec<String> = [priority, weight, up].into_iter().flatten().collect();
        f.write_str(&parts.join(" "))
    }
}

/// An EID-prefix and the locators that reach it, or what to do where there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The EID-prefix that the mapping is for.
    pub eid: EidPrefix,
    /// Time to live.
    pub ttl: Ttl,
    /// What to do where `locators` is empty.
    pub action: Action,
    /// A: the record comes from an ETR (or is sent as if by one), not from a proxy-replying Map-Server.
    pub authoritative: bool,
    /// Map-version (RFC 9302).
    pub version: MapVersion,
    /// The locators, in the sender's order: the order gives each its locator-status-bit.
    pub locators: Vec<Locator>,
}

impl Mapping {
    /// A mapping without locators.
    pub const fn negative(eid: EidPrefix, ttl: Ttl, action: Action) -> Self {
        Self { eid, ttl, action, authoritative: false, version: MapVersion::NONE, locators: Vec::new() }
    }

    /// Whether there are no locators, so that `action` counts.
    pub const fn is_negative(&self) -> bool {
        self.locators.is_empty()
    }

    /// Whether the locators are those of proxy-ETRs, by which an ITR reaches what is to be forwarded natively
    /// (RFC 6832 §6). Mappings as messages carry them are never so.
    pub fn is_by_proxy(&self) -> bool {
        self.action == Action::NativelyForward && !self.locators.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_around_a_circle() {
        // The example of RFC 9302 §6: [70; 69 + 2048] are newer than 69.
        let v = MapVersion::new;
        for newer in 70..=69 + 2048 {
            assert!(v(newer).is_newer_than(v(69)), "{newer}");
        }
        for older in (69 + 2049..=4095).chain(1..=69) {
            assert!(!v(older).is_newer_than(v(69)), "{older}");
        }
        for (a, b) in [(4095, 1), (1, 2), (2049, 2050), (3100, 1000)] {
            assert!(v(b).is_newer_than(v(a)) && !v(a).is_newer_than(v(b)), "{a} {b}");
        }
        assert_eq!((v(1).next(), v(4094).next(), v(4095).next()), (v(2), v(4095), v(1)));
        assert!(v(4095).next().is_newer_than(v(4095)) && v(4096).is_none());
    }

    #[test]
    fn every_action_survives_its_bits() {
        for bits in 0..8 {
            assert_eq!(Action::from_bits(bits).bits(), bits);
        }
    }
}

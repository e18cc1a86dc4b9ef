//! What an operator should see of VRRP, and why packets were dropped.

use std::fmt;
use std::net::IpAddr;

use super::config::Key;
use super::router::State;
use crate::wire::vrrp::AdvertisementError;

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which virtual router.
    pub key: Key,
    /// What about it.
    pub change: Change,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its state.
    State {
        /// From this.
        from: State,
        /// To this.
        to: State,
        /// Why.
        cause: Cause,
    },
    /// Its priority, because something that is tracked was lost or is back.
    Priority {
        /// From this.
        from: u8,
        /// To this.
        to: u8,
    },
    /// A backup follows another master than before.
    Master {
        /// Its address.
        address: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Advertisements of this sender are dropped; told once until the reason changes.
    Dropped {
        /// Why.
        reason: DropReason,
        /// Whose.
        source: IpAddr,
    },
}

/// Why a state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The interface has what it takes.
    Started,
    /// The interface is down, or has no address to send from.
    InterfaceDown,
    /// No advertisement came in time.
    MasterSilent,
    /// Nobody has advertised since it became a backup: an ordinary start.
    NoMaster,
    /// The master resigned.
    MasterResigned,
    /// A better one advertises.
    BetterMaster(IpAddr),
    /// The configuration changed.
    Reconfigured,
    /// The router stops.
    Shutdown,
}

/// Why a packet was dropped. Nothing that is dropped changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The IP header is wrong, the packet cut or fragmented.
    IpHeader,
    /// TTL or hop limit is not 255: it does not come from this link (RFC 9568 §7.1).
    Ttl,
    /// It was not sent to the group.
    Destination,
    /// A version that is unknown, or not for this family.
    Version,
    /// Not an advertisement.
    Type,
    /// Too short or too long for what it says that it contains, or without addresses.
    Length,
    /// The checksum is wrong.
    Checksum,
    /// A virtual router that is not on this interface.
    Vrid,
    /// The version is one that the virtual router does not speak.
    VersionDisabled,
    /// This machine is the owner of the addresses, and listens to nobody.
    Owner,
    /// It is our own, or somebody else uses our address.
    OwnAddress,
    /// Version 2: with authentication, which is not supported, as RFC 3768 took it back.
    Authentication,
    /// The interval is 0, or, with version 2, not that which is configured (RFC 3768 §7.1).
    Interval,
    /// Version 2: other addresses than are configured (RFC 3768 §7.1).
    Addresses,
}

impl DropReason {
    /// The stable name, in kebab-case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IpHeader => "ip-header",
            Self::Ttl => "ttl",
            Self::Destination => "destination",
            Self::Version => "version",
            Self::Type => "type",
            Self::Length => "length",
            Self::Checksum => "checksum",
            Self::Vrid => "vrid",
            Self::VersionDisabled => "version-disabled",
            Self::Owner => "owner",
            Self::OwnAddress => "own-address",
            Self::Authentication => "authentication",
            Self::Interval => "interval",
            Self::Addresses => "addresses",
        }
    }
}

impl From<AdvertisementError> for DropReason {
    fn from(error: AdvertisementError) -> Self {
        match error {
            AdvertisementError::Version(_) => Self::Version,
            AdvertisementError::Type(_) => Self::Type,
            AdvertisementError::NoAddress | AdvertisementError::Length(_) => Self::Length,
            AdvertisementError::Checksum => Self::Checksum,
        }
    }
}

impl Event {
    /// Whether an operator may have to act.
    pub const fn is_warning(&self) -> bool {
        matches!(
            self.change,
            Change::Dropped { .. } | Change::State { cause: Cause::InterfaceDown | Cause::MasterSilent, .. }
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key)?;
        match &self.change {
            Change::State { from, to, cause } => write!(f, "{from} → {to}, {cause}"),
            Change::Priority { from, to } => write!(f, "priority {from} → {to}"),
            Change::Master { address, priority } => write!(f, "master is {address}, priority {priority}"),
            Change::Dropped { reason, source } => {
                let remedy = match reason {
                    DropReason::VersionDisabled => "see that all routers speak the same version",
                    DropReason::Authentication => "switch authentication off there",
                    DropReason::Interval => "see that all routers have the same interval",
                    DropReason::Addresses => "see that all routers have the same virtual addresses",
                    DropReason::OwnAddress => "see that no other router has our address",
                    DropReason::Owner => "only one router can be the owner, and no better one than it",
                    _ => "look there",
                };
                write!(f, "advertisements of {source} are dropped ({}): {remedy}", reason.name())
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::InterfaceDown => f.write_str("the interface is down or has no address to send from"),
            Self::MasterSilent => f.write_str("no advertisement came in time"),
            Self::NoMaster => f.write_str("there is no other master"),
            Self::MasterResigned => f.write_str("the master resigned"),
            Self::BetterMaster(address) => write!(f, "{address} is the better master"),
            Self::Reconfigured => f.write_str("the configuration changed"),
            Self::Shutdown => f.write_str("the router stops"),
        }
    }
}

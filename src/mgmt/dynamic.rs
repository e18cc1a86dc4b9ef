//! What is shown of EID-prefixes that may move.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::EidPrefix;

/// What `move` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The EID-prefix.
    pub prefix: EidPrefix,
    /// It is here from now on; else no longer.
    pub here: bool,
    /// The priority that it has here beside other sites; `None` = it is here alone.
    pub priority: Option<u8>,
    /// What came of it within the time that was to be waited.
    #[serde(default)]
    pub outcome: MoveOutcome,
    /// The Map-Servers that are to blame where it is refused or unconfirmed.
    #[serde(default)]
    pub map_servers: Vec<String>,
    /// A locator of the other site that has it.
    #[serde(default)]
    pub rloc: Option<IpAddr>,
}

/// What has come of a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveOutcome {
    /// It is on its way; nobody waited for more.
    #[default]
    Underway,
    /// Every Map-Server has confirmed it.
    Registered,
    /// A Map-Server has not answered yet; registering goes on.
    Unconfirmed,
    /// A Map-Server does not accept it.
    Refused,
    /// Another site has registered it since, and has it.
    Elsewhere,
    /// None of its locators is up; it is registered once one is.
    NoLocators,
    /// It was told to be elsewhere since, or the configuration no longer has it.
    Left,
}

impl MoveOutcome {
    /// Whether others hear of the move, as far as is known.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Underway | Self::Registered)
    }
}

/// What `show dynamic-eids` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicEids {
    /// The EID-prefixes that what may move lies in.
    pub configured: Vec<DynamicPrefix>,
    /// What is here.
    pub here: Vec<DynamicHere>,
    /// What moved to another site.
    pub away: Vec<DynamicAway>,
}

/// An EID-prefix any part of which may be at the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicPrefix {
    /// The prefix.
    pub prefix: EidPrefix,
    /// The site's interface that hosts are at, if one is named.
    pub interface: Option<String>,
    /// Whether hosts are found by what they send.
    pub detect: bool,
    /// How many parts of it are here.
    pub here: u64,
    /// How many may be.
    pub limit: u64,
}

/// One that is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicHere {
    /// The prefix.
    pub prefix: EidPrefix,
    /// Seconds since it came.
    pub since: u64,
    /// It was found by what it sent, not told by command.
    pub detected: bool,
    /// The priority that was given by command.
    pub priority: Option<u8>,
    /// Of one that was found: seconds since it answered last.
    pub seen: Option<u64>,
    /// Every Map-Server has confirmed it.
    pub registered: bool,
}

/// One that moved to another site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicAway {
    /// The prefix.
    pub prefix: EidPrefix,
    /// Seconds since that is known.
    pub since: u64,
    /// Seconds until packets are no longer sent on, or until the mapping system is asked again, where the
    /// prefix would be taken for this site's.
    pub until: u64,
    /// Its locators there.
    pub rlocs: Vec<IpAddr>,
}

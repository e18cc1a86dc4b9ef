//! What is said over the control socket, a Unix stream socket.
//!
//! The client writes one line, the router answers with one line, any number of times; each line is a JSON
//! object and ends with `\n`. Requests are at most [`LONGEST_REQUEST`] bytes long.
//!
//! ```text
//! → {"version":1,"request":"show-map-cache","filter":{"iid":null,"net":"10.2.0.0/16"}}
//! ← {"version":1,"reply":"map-cache","data":{"limit":100000,"total":1,"entries":[…]}}
//! → {"version":1,"request":"lig","eid":{"iid":0,"addr":"10.2.0.1"},"via":null}
//! ← {"version":1,"reply":"error","data":"no Map-Reply came: …"}
//! → {"version":1,"request":"move","prefix":{"iid":0,"net":"10.9.0.5/32"}}
//! ← {"version":1,"reply":"moved","data":{"prefix":{"iid":0,"net":"10.9.0.5/32"},"here":true,…}}
//! ```
//!
//! [`VERSION`] changes when a request or reply changes its meaning; a router answers a version that it does
//! not speak with an error. New fields and requests may come without a new version: unknown fields are
//! ignored.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::view;
use crate::types::{Eid, EidPrefix, Family, LocatorChange};

/// Version of the protocol.
pub const VERSION: u32 = 1;
/// Longest line that a router reads, in bytes.
pub const LONGEST_REQUEST: usize = 4096;

/// A request or reply with its version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// Version that the sender speaks.
    pub version: u32,
    /// What it says.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Versioned<T> {
    /// In this version.
    pub const fn new(body: T) -> Self {
        Self { version: VERSION, body }
    }
}

/// What can be asked of a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Answered by [`Reply::MapCache`].
    ShowMapCache {
        /// Which entries.
        filter: view::Filter,
    },
    /// Answered by [`Reply::Database`].
    ShowDatabase {
        /// Which EID-prefixes.
        filter: view::Filter,
    },
    /// Answered by [`Reply::Sites`].
    ShowSites {
        /// Which EID-prefixes.
        filter: view::Filter,
    },
    /// Answered by [`Reply::Locators`].
    ShowLocators,
    /// Answered by [`Reply::Statistics`].
    ShowStatistics,
    /// Answered by [`Reply::Interfaces`].
    ShowInterfaces,
    /// Answered by [`Reply::Resolvers`].
    ShowResolvers,
    /// Answered by [`Reply::Pending`].
    ShowPending,
    /// Answered by [`Reply::Vrrp`].
    ShowVrrp,
    /// Answered by [`Reply::Sync`].
    ShowSync,
    /// Answered by [`Reply::Ddt`].
    ShowDdt,
    /// Answered by [`Reply::DynamicEids`].
    ShowDynamicEids,
    /// Say where an EID-prefix is that may move: what a hypervisor or orchestrator says once a machine has
    /// moved, to the router that it moved to. That of the site before hears of it by the mapping system.
    /// Answered by [`Reply::Moved`].
    Move {
        /// The EID, with full length, or EID-prefix.
        prefix: EidPrefix,
        /// It is no longer here; else it is.
        #[serde(default)]
        away: bool,
        /// It may be at several sites, and has this priority here; else it is here alone, as configured.
        #[serde(default)]
        priority: Option<u8>,
        /// So many seconds, 60 at most, the answer may take to tell what the Map-Servers say to it; 0: it
        /// comes as soon as the move is on its way. What leaves is never waited for.
        #[serde(default)]
        wait: u8,
    },
    /// Forget map-cache entries. Answered by [`Reply::Cleared`].
    ClearMapCache {
        /// The entry of exactly this EID-prefix, or all.
        prefix: Option<EidPrefix>,
    },
    /// Ask the mapping system. Answered by [`Reply::Lig`], which can take seconds.
    Lig {
        /// For this EID.
        eid: Eid,
        /// By this Map-Resolver, or the router's own choice.
        via: Option<IpAddr>,
    },
    /// Change a locator of the site until the next reload or restart. Answered by [`Reply::LocatorsSet`].
    SetLocator {
        /// Which.
        locator: LocatorName,
        /// What is to hold beside what was said before; `None` = as configured again.
        change: Option<LocatorChange>,
    },
    /// Read the configuration again. Answered by [`Reply::Reloaded`].
    Reload,
}

/// A locator as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocatorName {
    /// By its configured address.
    Address(IpAddr),
    /// By the interface that its address comes from.
    Interface {
        /// The interface's name.
        name: String,
        /// Its locator of this family, or all of them.
        family: Option<Family>,
    },
}

impl fmt::Display for LocatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) => addr.fmt(f),
            Self::Interface { name, family: None } => f.write_str(name),
            Self::Interface { name, family: Some(family) } => write!(f, "{name} ({family})"),
        }
    }
}

/// What a router answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", content = "data", rename_all = "kebab-case")]
pub enum Reply {
    /// The request could not be fulfilled, and why.
    Error(String),
    /// To [`Request::ShowMapCache`].
    MapCache(view::MapCache),
    /// To [`Request::ShowDatabase`].
    Database(view::Database),
    /// To [`Request::ShowSites`].
    Sites(view::Sites),
    /// To [`Request::ShowLocators`].
    Locators(view::Locators),
    /// To [`Request::ShowStatistics`].
    Statistics(view::Statistics),
    /// To [`Request::ShowInterfaces`].
    Interfaces(view::Interfaces),
    /// To [`Request::ShowResolvers`].
    Resolvers(view::Resolvers),
    /// To [`Request::ShowPending`].
    Pending(view::Pending),
    /// To [`Request::ShowVrrp`].
    Vrrp(view::Vrrp),
    /// To [`Request::ShowSync`].
    Sync(view::Sync),
    /// To [`Request::ShowDdt`].
    Ddt(view::Ddt),
    /// To [`Request::ShowDynamicEids`].
    DynamicEids(view::DynamicEids),
    /// To [`Request::Move`].
    Moved(view::Moved),
    /// To [`Request::ClearMapCache`]: how many entries were forgotten.
    Cleared(u64),
    /// To [`Request::Lig`].
    Lig(view::Lig),
    /// To [`Request::SetLocator`].
    LocatorsSet {
        /// Which locators of the configuration these were.
        locators: Vec<String>,
        /// What is odd about them now.
        #[serde(default)]
        warnings: Vec<String>,
    },
    /// To [`Request::Reload`].
    Reloaded(view::Reloaded),
}

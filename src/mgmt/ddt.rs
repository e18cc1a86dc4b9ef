//! What is shown of a DDT (RFC 8111).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::EidPrefix;

/// What `show ddt` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ddt {
    /// The role of DDT node; `None` = not this router's.
    pub node: Option<DdtNode>,
    /// As Map-Server: every Map-Server of the same EID-prefixes, as configured.
    pub map_server_peers: Vec<IpAddr>,
    /// As DDT node or Map-Server: Map-Referrals sent, by the name of what they say; `None` = it is neither.
    pub sent: Option<BTreeMap<String, u64>>,
    /// As Map-Resolver that searches; `None` = it does not.
    pub resolver: Option<DdtResolver>,
}

/// A DDT node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DdtNode {
    /// What it is authoritative for.
    pub authoritative: Vec<EidPrefix>,
    /// Whom it refers to.
    pub delegations: Vec<DdtDelegation>,
}

/// Whom a DDT node refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DdtDelegation {
    /// For this EID-prefix.
    pub prefix: EidPrefix,
    /// What these are.
    pub kind: DdtKind,
    /// Their addresses.
    pub to: Vec<IpAddr>,
    /// It lies outside of what the node is authoritative for.
    pub hint: bool,
}

/// Whom a referral names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DdtKind {
    /// DDT nodes.
    Nodes,
    /// Map-Servers.
    MapServers,
    /// Nobody: there is nothing, or nothing registered.
    Nobody,
}

/// A Map-Resolver that searches in a DDT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DdtResolver {
    /// Where a search begins.
    pub roots: Vec<DdtRoot>,
    /// Map-Requests under way.
    pub pending: u64,
    /// Map-Referrals received that were waited for, by the name of what they say. Others: `show statistics`.
    pub received: BTreeMap<String, u64>,
    /// The referrals that are remembered, in order of prefix.
    pub cache: Vec<DdtReferral>,
}

/// A DDT node that a search begins at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DdtRoot {
    /// As configured.
    pub host: String,
    /// Its addresses, as far as known.
    pub addresses: Vec<IpAddr>,
}

/// A referral that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DdtReferral {
    /// The EID-prefix.
    pub prefix: EidPrefix,
    /// What those are that it names.
    pub kind: DdtKind,
    /// Their addresses.
    pub to: Vec<IpAddr>,
    /// Seconds until it is forgotten.
    pub ttl: u64,
}

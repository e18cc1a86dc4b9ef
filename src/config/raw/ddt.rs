//! `[ddt]`: the Delegated Database Tree.

use crate::config::problem::{At, Place};
use crate::config::tree::Section;
use crate::config::value::RlocAddress;
use crate::proto::config::Host;
use crate::types::EidPrefix;

use super::read_eid_prefix;

/// `[ddt]`
#[derive(Clone, Debug, Default)]
pub struct RawDdt {
    /// `roots`: addresses or DNS names of the DDT nodes at which a Map-Resolver begins to search.
    pub roots: Option<At<Vec<At<Host>>>>,
    /// `map-server-peers`: the addresses of every Map-Server that serves the same EID-prefixes as ours, ours
    /// included.
    pub map_server_peers: Option<At<Vec<At<RlocAddress>>>>,
    /// `authoritative`: the EID-prefixes that a DDT node is authoritative for, as in `eid-prefixes` of a
    /// site.
    pub authoritative: Option<At<Vec<At<EidPrefix>>>>,
    /// `[[ddt.delegation]]`
    pub delegations: Vec<RawDelegation>,
}

/// `[[ddt.delegation]]`
#[derive(Clone, Debug)]
pub struct RawDelegation {
    /// The section.
    pub place: Place,
    /// `prefix`, required, with `instance-id` (default 0).
    pub prefix: Option<At<EidPrefix>>,
    /// `nodes`: addresses of the DDT nodes that know more. Either this or `map-servers` is required.
    pub nodes: Option<At<Vec<At<RlocAddress>>>>,
    /// `map-servers`: addresses of the Map-Servers that have it.
    pub map_servers: Option<At<Vec<At<RlocAddress>>>>,
}

impl RawDdt {
    pub(super) fn read(s: Section<'_>, ok: &mut bool) -> Self {
        let mut delegations = Vec::new();
        for section in s.sections("delegation") {
            section.require("prefix", "give the EID-prefix that is delegated, as 10.0.0.0/8");
            let delegation = RawDelegation {
                place: section.place().clone(),
                prefix: read_eid_prefix(&section),
                nodes: section.texts("nodes"),
                map_servers: section.texts("map-servers"),
            };
            if section.has("nodes") == section.has("map-servers") {
                section.error(
                    "nodes",
                    "it is not clear to whom",
                    "give the addresses of DDT nodes as `nodes`, or those of Map-Servers as `map-servers`",
                );
            }
            *ok &= section.finish();
            delegations.push(delegation);
        }
        let ddt = Self {
            roots: s.texts("roots"),
            map_server_peers: s.texts("map-server-peers"),
            authoritative: s.texts("authoritative"),
            delegations,
        };
        *ok &= s.finish();
        ddt
    }
}

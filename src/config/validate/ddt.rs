//! The Delegated Database Tree (RFC 8111).

use std::collections::HashMap;
use std::net::IpAddr;

use super::Context;
use crate::config::problem::{At, Place};
use crate::config::value::{RlocAddress, Role};
use crate::proto::config::{DdtConfig, DdtDelegation, DdtNodeConfig};
use crate::types::EidPrefix;

/// Checks `[ddt]`.
pub(super) fn check(cx: &Context<'_>) -> DdtConfig {
    let raw = &cx.raw.ddt;
    if let Some(roots) = raw.roots.as_ref().filter(|_| !cx.is(Role::MapResolver)) {
        cx.unused(&roots.place, "\"map-resolver\"");
    }
    if let Some(peers) = raw.map_server_peers.as_ref().filter(|_| !cx.is(Role::MapServer)) {
        cx.unused(&peers.place, "\"map-server\"");
    }
    let roots = raw.roots.iter().flat_map(|roots| &roots.value).map(|root| root.value.clone());
    DdtConfig {
        node: node(cx),
        map_server_peers: addresses(raw.map_server_peers.as_ref()),
        roots: roots.collect(),
    }
}

fn node(cx: &Context<'_>) -> Option<DdtNodeConfig> {
    let raw = &cx.raw.ddt;
    if !cx.is(Role::DdtNode) {
        let authoritative = raw.authoritative.as_ref().map(|a| &a.place);
        if let Some(place) = authoritative.or_else(|| raw.delegations.first().map(|d| &d.place)) {
            cx.unused(place, "\"ddt-node\"");
        }
        return None;
    }
    if raw.authoritative.is_none() && raw.delegations.is_empty() {
        cx.lacks("ddt-node", "something to say", "add [ddt] with `authoritative`, and [[ddt.delegation]]");
    }
    let mut seen: HashMap<EidPrefix, &Place> = HashMap::new();
    let mut delegations = Vec::new();
    for delegation in &raw.delegations {
        let Some(prefix) = &delegation.prefix else { continue };
        if let Some(first) = seen.insert(prefix.value, &prefix.place) {
            cx.duplicate(&prefix.place, prefix.value, first, "put all addresses into one section");
        }
        let (map_servers, given) = match (&delegation.map_servers, &delegation.nodes) {
            (Some(servers), _) => (true, Some(servers)),
            (None, nodes) => (false, nodes.as_ref()),
        };
        if let Some(given) = given.filter(|given| given.value.is_empty()) {
            cx.problems.error(&given.place, "is empty", "give at least one address");
        }
        delegations.push(DdtDelegation { prefix: prefix.value, to: addresses(given), map_servers });
    }
    let authoritative = raw.authoritative.iter().flat_map(|list| &list.value).map(|prefix| prefix.value);
    Some(DdtNodeConfig { authoritative: authoritative.collect(), delegations })
}

fn addresses(list: Option<&At<Vec<At<RlocAddress>>>>) -> Vec<IpAddr> {
    list.into_iter().flat_map(|list| &list.value).map(|address| address.value.0).collect()
}

//! Map-Servers as an ETR sees them, and our own Map-Server's and Map-Resolver's tables.

use super::secret::key;
use super::{Context, first_with};
use crate::config::problem::At;
use crate::config::raw::{RawKey, RawMapServer, RawSite};
use crate::config::tree::shorten;
use crate::config::value::Role;
use crate::proto::config::{EtrMapServer, Host, SiteConfig, SitePrefix};
use crate::types::EidPrefix;

/// The name that EID-prefixes know a Map-Server by.
pub(super) fn name(server: &RawMapServer) -> Option<String> {
    let host = || server.host.as_ref().map(|h| h.value.to_string());
    server.name.as_ref().map(|n| n.value.clone()).or_else(host)
}

/// Checks `[[map-server]]`.
pub(super) fn map_servers(cx: &Context<'_>) -> Vec<EtrMapServer> {
    let servers = &cx.raw.map_servers;
    if cx.is(Role::Etr) {
        if servers.is_empty() && cx.raw.eid_prefixes.iter().any(|e| e.register) {
            let remedy = "add a [[map-server]] section, or set register = false for every EID-prefix";
            cx.lacks("etr", "a Map-Server to register with", remedy);
        }
    } else if let Some(first) = servers.first() {
        cx.unused(&first.place, "\"etr\"");
    }
    let mut result = Vec::new();
    for (i, server) in servers.iter().enumerate() {
        let earlier = || servers.iter().take(i);
        if let Some(host) = &server.host
            && let Some(first) = earlier().filter_map(|s| s.host.as_ref()).find(|h| h.value == host.value)
        {
            cx.duplicate(&host.place, &host.value, &first.place, "remove one of the two");
        } else if let Some(own) = name(server)
            && let Some(first) = earlier().find(|s| name(s).as_ref() == Some(&own))
        {
            let place = server.name.as_ref().map_or(&server.place, |n| &n.place);
            let first = first.name.as_ref().map_or(&first.place, |n| &n.place);
            cx.duplicate(
                place,
                format!("the name \"{}\"", shorten(&own)),
                first,
                "give each Map-Server its own name",
            );
        }
        let key = key(cx, &server.key);
        let (Some(name), Some(host), Some(key)) = (name(server), &server.host, key) else { continue };
        result.push(EtrMapServer {
            name,
            host: host.value.clone(),
            key,
            proxy_reply: server.proxy_reply,
            want_notify: server.want_notify,
        });
    }
    result
}

/// Checks `[[site]]`.
pub(super) fn sites(cx: &Context<'_>) -> Vec<SiteConfig> {
    let sites = &cx.raw.sites;
    if cx.is(Role::MapServer) {
        if sites.is_empty() {
            cx.lacks("map-server", "a site that may register", "add a [[site]] section");
        }
    } else if let Some(first) = sites.first() {
        cx.unused(&first.place, "\"map-server\"");
    }
    let mut result = Vec::new();
    for (i, site) in sites.iter().enumerate() {
        let earlier = || sites.iter().take(i);
        if let Some(name) = &site.name
            && let Some(first) = earlier().filter_map(|s| s.name.as_ref()).find(|n| n.value == name.value)
        {
            let what = format!("site \"{}\"", shorten(&name.value));
            cx.duplicate(&name.place, what, &first.place, "give each site its own name");
        }
        check_key_ids(cx, &site.keys);
        if site.prefixes.is_empty() && !site.incomplete {
            let remedy = "add eid-prefixes = [\"…\"] or [[site.eid-prefix]]";
            cx.problems.error(&site.place, "has no EID-prefix", remedy);
        }
        for (n, (prefix, more_specifics)) in site.prefixes.iter().enumerate() {
            let own = site.prefixes.iter().take(n).map(|(p, m)| (site, p, *m));
            let others = earlier().flat_map(|s| s.prefixes.iter().map(move |(p, m)| (s, p, *m)));
            check_site_prefix(cx, (site, prefix, *more_specifics), others.chain(own));
        }
        let keys = site.keys.iter().filter_map(|k| key(cx, k)).collect();
        result.push(SiteConfig {
            name: site.name.as_ref().map(|n| n.value.clone()).unwrap_or_default(),
            keys,
            prefixes: site
                .prefixes
                .iter()
                .map(|(p, more)| SitePrefix { eid: p.value, accept_more_specifics: *more })
                .collect(),
            allow_repeated_nonce: site.allow_repeated_nonce,
        });
    }
    result
}

type Claim<'a> = (&'a RawSite, &'a At<EidPrefix>, bool);

/// A prefix belongs to one site only, and what one site may register as a more specific of its own no other site
/// may.
fn check_site_prefix<'a>(cx: &Context<'_>, claim: Claim<'a>, earlier: impl Iterator<Item = Claim<'a>>) {
    let (site, prefix, more_specifics) = claim;
    for (other, first, first_more) in earlier {
        let name = shorten(other.name.as_ref().map_or("", |n| &n.value));
        let foreign = !std::ptr::eq(site, other);
        if prefix.value == first.value {
            let what = if foreign {
                format!("{} of site \"{name}\"", prefix.value)
            } else {
                prefix.value.to_string()
            };
            cx.duplicate(&prefix.place, what, &first.place, "give each EID-prefix to one site only");
            continue;
        }
        let conflict = (first_more && first.value.covers(&prefix.value))
            || (more_specifics && prefix.value.covers(&first.value));
        if foreign && conflict {
            let line = cx.problems.line(&first.place);
            cx.problems.error(
                &prefix.place,
                format!(
                    "{} overlaps {} of site \"{name}\" (line {line}), so that both sites could register it",
                    prefix.value, first.value
                ),
                "set accept-more-specifics = false on the shorter of the two, or separate the prefixes",
            );
        }
    }
}

fn check_key_ids(cx: &Context<'_>, keys: &[RawKey]) {
    let ids: Vec<_> = keys.iter().map(|k| k.id.clone()).collect();
    for (i, id) in ids.iter().enumerate() {
        if let Some(first) = first_with(&ids, i, &id.value) {
            cx.duplicate(
                &id.place,
                format!("key id {}", id.value),
                &first.place,
                "give each key its own key-id",
            );
        }
    }
}

/// Checks `[[forward]]`.
pub(super) fn forwards(cx: &Context<'_>) -> Vec<(EidPrefix, Vec<Host>)> {
    let forwards = &cx.raw.forwards;
    if cx.is(Role::MapResolver) {
        if forwards.is_empty() && !cx.is(Role::MapServer) {
            let remedy = "add the role \"map-server\" or a [[forward]] section";
            cx.lacks("map-resolver", "a Map-Server, here or elsewhere", remedy);
        }
    } else if let Some(first) = forwards.iter().find_map(|f| f.prefix.as_ref()) {
        cx.unused(&first.place, "\"map-resolver\"");
    }
    let mut result = Vec::new();
    for (i, forward) in forwards.iter().enumerate() {
        let (Some(prefix), Some(hosts)) = (&forward.prefix, &forward.hosts) else { continue };
        let earlier = forwards.iter().take(i).filter_map(|f| f.prefix.as_ref());
        if let Some(first) = earlier.into_iter().find(|p| p.value == prefix.value) {
            cx.duplicate(
                &prefix.place,
                prefix.value,
                &first.place,
                "put all its Map-Servers into one section",
            );
        }
        for (n, host) in hosts.value.iter().enumerate() {
            if let Some(first) = first_with(&hosts.value, n, &host.value) {
                cx.duplicate(&host.place, &host.value, &first.place, "remove one of the two");
            }
        }
        result.push((prefix.value, hosts.value.iter().map(|h| h.value.clone()).collect()));
    }
    result
}

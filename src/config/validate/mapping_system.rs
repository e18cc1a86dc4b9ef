//! Map-Servers as an ETR sees them, and our own Map-Server's and Map-Resolver's tables.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::secret::key;
use super::{Context, covering, first_with};
use crate::config::problem::{At, Place};
use crate::config::raw::{RawKey, RawMapResolver, RawMapServer, RawSite};
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
        check_key_ids(cx, &server.keys);
        if let (Some(second), false) = (server.keys.get(1), server.want_notify) {
            cx.problems.warning(
                &second.id.place,
                "never used, as without want-notify nothing tells that the first key does not work",
                "set want-notify = true, or keep one key",
            );
        }
        if server.merge && cx.raw.router.xtr_id.is_none() && cx.is(Role::Etr) && !cx.raw.incomplete {
            cx.problems.warning(
                &server.place,
                "merge without an xtr-id: the Map-Server takes a router whose address changes for one more \
                 router",
                "set xtr-id in [router], another one at each router of the site",
            );
        }
        let mut keys = server.keys.iter().filter_map(|k| key(cx, k));
        let first = keys.next();
        let (Some(name), Some(host), Some(key)) = (name(server), &server.host, first) else { continue };
        result.push(EtrMapServer {
            name,
            host: host.value.clone(),
            key,
            more_keys: keys.collect(),
            proxy_reply: server.proxy_reply,
            want_notify: server.want_notify,
            use_ttl: server.use_ttl,
            merge: server.merge,
        });
    }
    result
}

/// Map-Resolvers by EID space: those for everything else, and those of each space.
pub(super) type Resolvers = (Vec<Host>, Vec<(EidPrefix, Vec<Host>)>);

/// Checks `[[map-resolver]]`.
pub(super) fn map_resolvers(cx: &Context<'_>) -> Resolvers {
    let sections = &cx.raw.map_resolvers;
    if cx.asks() {
        if sections.is_empty() {
            let role = if cx.is(Role::Itr) { "itr" } else { "proxy-itr" };
            cx.lacks(role, "a Map-Resolver", "add a [[map-resolver]] section with its address");
        } else if let Some(first) = sections.first()
            && sections.iter().all(|s| s.iid.is_some() || !s.prefixes.is_empty())
            && !cx.raw.incomplete
        {
            cx.problems.warning(
                &first.place,
                "every Map-Resolver is for an EID space, so that EIDs outside of these can't be resolved",
                "add a [[map-resolver]] without eid-prefixes and instance-id, if that is not meant",
            );
        }
    } else if let Some(first) = sections.first() {
        cx.unused(first.host.as_ref().map_or(&first.place, |host| &host.place), "\"itr\"");
    }
    let (mut default, mut spaces): Resolvers = Default::default();
    // The space (`None` = everything else) and the host, each pair once.
    let mut seen: HashMap<(Option<EidPrefix>, &Host), &Place> = HashMap::new();
    for section in sections {
        let Some(host) = &section.host else { continue };
        for space in spaces_of(section) {
            if let Some(first) = seen.insert((space, &host.value), &host.place) {
                cx.duplicate(&host.place, &host.value, first, "remove one of the two");
                continue;
            }
            match space {
                None => default.push(host.value.clone()),
                Some(space) => match spaces.iter_mut().find(|(known, _)| *known == space) {
                    Some((_, hosts)) => hosts.push(host.value.clone()),
                    None => spaces.push((space, vec![host.value.clone()])),
                },
            }
        }
    }
    (default, spaces)
}

/// The EID spaces that a Map-Resolver is asked for; `None` = everything else.
fn spaces_of(section: &RawMapResolver) -> Vec<Option<EidPrefix>> {
    match (&section.iid, section.prefixes.is_empty()) {
        (_, false) => section.prefixes.iter().map(|prefix| Some(prefix.value)).collect(),
        (None, true) => vec![None],
        (Some(iid), true) => [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
            .map(|all| Some(EidPrefix::new(iid.value, all)))
            .to_vec(),
    }
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
    check_site_prefixes(cx);
    let mut names: HashMap<&str, &Place> = HashMap::new();
    let mut result = Vec::new();
    for site in sites {
        if let Some(name) = &site.name
            && let Some(first) = names.insert(&name.value, &name.place)
        {
            let what = format!("site \"{}\"", shorten(&name.value));
            cx.duplicate(&name.place, what, first, "give each site its own name");
        }
        check_key_ids(cx, &site.keys);
        if site.prefixes.is_empty() && !site.incomplete {
            let remedy = "add eid-prefixes = [\"…\"] or [[site.eid-prefix]]";
            cx.problems.error(&site.place, "has no EID-prefix", remedy);
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

/// What a site says of an EID-prefix.
struct Claim<'a> {
    site: &'a RawSite,
    prefix: &'a At<EidPrefix>,
    more_specifics: bool,
}

/// A prefix belongs to one site only, and what one site may register as a more specific of its own no other
/// site may.
fn check_site_prefixes(cx: &Context<'_>) {
    let mut claims: HashMap<EidPrefix, Claim<'_>> = HashMap::new();
    for site in &cx.raw.sites {
        for (prefix, more_specifics) in &site.prefixes {
            let claim = Claim { site, prefix, more_specifics: *more_specifics };
            match claims.entry(prefix.value) {
                Entry::Vacant(entry) => {
                    entry.insert(claim);
                }
                Entry::Occupied(first) => {
                    let first = first.get();
                    let what = match std::ptr::eq(site, first.site) {
                        true => prefix.value.to_string(),
                        false => format!("{} of site \"{}\"", prefix.value, name_of(first.site)),
                    };
                    cx.duplicate(
                        &prefix.place,
                        what,
                        &first.prefix.place,
                        "give each EID-prefix to one site only",
                    );
                }
            }
        }
    }
    let all =
        cx.raw.sites.iter().flat_map(|site| site.prefixes.iter().map(move |(prefix, _)| (site, prefix)));
    for (site, prefix) in all {
        let conflict = covering(&prefix.value)
            .filter_map(|shorter| claims.get(&shorter))
            .find(|claim| claim.more_specifics && !std::ptr::eq(claim.site, site));
        let Some(claim) = conflict else { continue };
        // Said of the one that stands further down in the file.
        let here = (site, prefix);
        let there = (claim.site, claim.prefix);
        let (later, (other, first)) = match prefix.place.span.start > claim.prefix.place.span.start {
            true => (here.1, there),
            false => (there.1, here),
        };
        let line = cx.problems.line(&first.place);
        let name = name_of(other);
        let (this, that) = (later.value, first.value);
        cx.problems.error(
            &later.place,
            format!(
                "{this} overlaps {that} of site \"{name}\" (line {line}), so that both sites could \
                 register it"
            ),
            "set accept-more-specifics = false on the shorter of the two, or separate the prefixes",
        );
    }
}

fn name_of(site: &RawSite) -> String {
    shorten(site.name.as_ref().map_or("", |n| &n.value))
}

/// Key ids tell the keys of one algorithm apart; the same id with another algorithm is another key.
pub(super) fn check_key_ids(cx: &Context<'_>, keys: &[RawKey]) {
    for (i, key) in keys.iter().enumerate() {
        let mut earlier = keys.iter().take(i);
        if let Some(first) = earlier.find(|k| (k.id.value, k.algorithm) == (key.id.value, key.algorithm)) {
            let what = format!("a key with id {} for this algorithm", key.id.value);
            cx.duplicate(&key.id.place, what, &first.id.place, "give each its own key-id");
        }
    }
}

/// Checks `[[forward]]`.
pub(super) fn forwards(cx: &Context<'_>) -> Vec<(EidPrefix, Vec<Host>)> {
    let forwards = &cx.raw.forwards;
    if cx.is(Role::MapResolver) {
        if forwards.is_empty() && !cx.is(Role::MapServer) && cx.raw.ddt.roots.is_none() {
            let remedy = "add the role \"map-server\", a [[forward]] section, or `roots` of [ddt]";
            cx.lacks("map-resolver", "a Map-Server, here or elsewhere", remedy);
        }
    } else if let Some(first) = forwards.iter().find_map(|f| f.prefix.as_ref()) {
        cx.unused(&first.place, "\"map-resolver\"");
    }
    let mut seen: HashMap<EidPrefix, &Place> = HashMap::new();
    let mut result = Vec::new();
    for forward in forwards {
        let (Some(prefix), Some(hosts)) = (&forward.prefix, &forward.hosts) else { continue };
        if let Some(first) = seen.insert(prefix.value, &prefix.place) {
            cx.duplicate(&prefix.place, prefix.value, first, "put all its Map-Servers into one section");
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

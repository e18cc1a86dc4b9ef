//! Interworking with the non-LISP Internet: proxy-ITR, proxy-ETR, and the proxy-ETRs that an ITR uses.

use super::site::locator;
use super::{Context, first_with};
use crate::config::problem::At;
use crate::config::raw::{RawLocatorSource, RawProxy};
use crate::config::value::Role;
use crate::proto::config::{Host, LocatorConfig, ProxyEtr};
use crate::types::{Eid, EidPrefix, InstanceId};

/// What the sections say.
pub(super) struct Proxies {
    /// Locators of the router itself.
    pub(super) locators: Vec<LocatorConfig>,
    /// Those that an ITR uses.
    pub(super) proxy_etrs: Vec<ProxyEtr>,
    /// EID-prefixes that a proxy-ITR is for.
    pub(super) ingress: Vec<EidPrefix>,
    /// EID-prefixes that a proxy-ETR is for.
    pub(super) egress: Vec<EidPrefix>,
}

/// Checks `[[use-petr]]`, `[proxy-itr]` and `[proxy-etr]`.
pub(super) fn check(cx: &Context<'_>) -> Proxies {
    let raw = cx.raw;
    let is_proxy = cx.is(Role::ProxyItr) || cx.is(Role::ProxyEtr);
    if is_proxy && raw.locators.list.is_empty() && !raw.locators.incomplete {
        let role = if cx.is(Role::ProxyItr) { "proxy-itr" } else { "proxy-etr" };
        cx.lacks(
            role,
            "a locator of the router's own",
            "add a [[locator]] section with its underlay address",
        );
    }
    let ingress = prefixes(cx, &raw.proxy_itr, Role::ProxyItr, "proxy-itr");
    let egress = prefixes(cx, &raw.proxy_etr, Role::ProxyEtr, "proxy-etr");
    for prefix in &ingress {
        check_circular(cx, prefix);
        if let Some(own) = own_prefixes(cx).find(|own| own.covers(&prefix.value)) {
            let message =
                format!("{} is of this site's own {own}, whose packets are not proxied", prefix.value);
            cx.problems.warning(&prefix.place, message, "remove it");
        }
    }
    for prefix in egress.iter().filter(|prefix| prefix.value.is_empty()) {
        let message =
            format!("{} lets everybody send packets of any source through this router", prefix.value);
        cx.problems.warning(&prefix.place, message, "list the EID-prefixes of the sites that may");
    }
    Proxies {
        locators: match is_proxy {
            true => raw.locators.list.iter().map(locator).collect(),
            false => Vec::new(),
        },
        proxy_etrs: proxy_etrs(cx),
        ingress: ingress.iter().map(|prefix| prefix.value).collect(),
        egress: egress.iter().map(|prefix| prefix.value).collect(),
    }
}

/// The EID-prefixes of a proxy section.
fn prefixes(cx: &Context<'_>, raw: &RawProxy, role: Role, name: &str) -> Vec<At<EidPrefix>> {
    let list = raw.prefixes.as_ref().map_or(&[][..], |list| &list.value);
    if !cx.is(role) {
        if let Some(given) = &raw.prefixes {
            cx.unused(&given.place, &format!("\"{name}\""));
        }
        return Vec::new();
    }
    if list.is_empty() && !cx.problems.has_errors() {
        let remedy =
            format!("add [{name}] with eid-prefixes = [\"…\"], the prefixes of the sites that it is for");
        cx.lacks(name, "EID-prefixes", &remedy);
    }
    for (i, prefix) in list.iter().enumerate() {
        if let Some(first) = first_with(list, i, &prefix.value) {
            cx.duplicate(&prefix.place, prefix.value, &first.place, "remove one of the two");
        }
    }
    list.to_vec()
}

fn proxy_etrs(cx: &Context<'_>) -> Vec<ProxyEtr> {
    let list = &cx.raw.proxy_etrs;
    if let Some(first) = list.first()
        && !cx.is(Role::Itr)
    {
        cx.unused(&first.place, "\"itr\"");
        return Vec::new();
    }
    for (i, this) in list.iter().enumerate() {
        let Some(host) = &this.host else { continue };
        let overlaps = |other: &&crate::config::raw::RawProxyEtr| {
            let same_family = other.eid_family.is_none_or(|f| this.eid_family.is_none_or(|own| own == f));
            same_family && other.host.as_ref().is_some_and(|h| h.value == host.value)
        };
        if let Some(first) = list.iter().take(i).find(overlaps) {
            let place = first.host.as_ref().map_or(&first.place, |host| &host.place);
            cx.duplicate(&host.place, &host.value, place, "remove one of the two");
        }
    }
    for host in list.iter().filter_map(|raw| raw.host.as_ref()) {
        let Host::Address(address) = host.value else { continue };
        let eid = Eid::new(InstanceId::DEFAULT, address);
        if let Some(own) = own_prefixes(cx).find(|own| own.contains(&eid)) {
            let message = format!("{address} is an EID of this site's own {own}, not an underlay address");
            cx.problems.error(&host.place, message, "give the proxy-ETR's locator");
        }
    }
    let known = list.iter().filter_map(|raw| {
        Some(ProxyEtr {
            host: raw.host.as_ref()?.value.clone(),
            priority: raw.priority,
            weight: raw.weight,
            eid_family: raw.eid_family,
        })
    });
    known.collect()
}

fn own_prefixes(cx: &Context<'_>) -> impl Iterator<Item = EidPrefix> {
    cx.raw.eid_prefixes.iter().filter_map(|raw| Some(EidPrefix::new(raw.iid, raw.prefix.as_ref()?.value)))
}

/// A locator within a proxied EID-prefix would be reached only through the proxy itself.
fn check_circular(cx: &Context<'_>, prefix: &At<EidPrefix>) {
    if !prefix.value.iid.is_default() {
        return;
    }
    for locator in &cx.raw.locators.list {
        let RawLocatorSource::Address(addr) = &locator.source.value else { continue };
        if prefix.value.net.contains(&addr.0) {
            let line = cx.problems.line(&locator.source.place);
            let message = format!(
                "{} contains the locator {} (line {line}), so that packets to it would come here to be \
                 encapsulated",
                prefix.value, addr.0
            );
            cx.problems.error(&prefix.place, message, "keep locators out of EID-prefixes");
        }
    }
}

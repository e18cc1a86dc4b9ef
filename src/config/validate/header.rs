//! What is said in LISP headers, and how received ones are checked.

use super::Context;
use crate::config::model::DataPlaneMode;
use crate::config::problem::At;
use crate::config::value::Role;
use crate::proto::config::{HeaderConfig, SourceCheck};
use crate::types::EidPrefix;

/// Checks `[data-header]` and the versions of `[[eid-prefix]]`.
pub(super) fn header(cx: &Context<'_>) -> HeaderConfig {
    let raw = &cx.raw.header;
    let is_on = |key: &Option<At<bool>>| key.as_ref().is_some_and(|on| on.value);
    let (itr, etr) = (cx.asks(), cx.is(Role::Etr) || cx.is(Role::ProxyEtr));

    let source_check = raw.source_check.as_ref().map_or(SourceCheck::Off, |check| check.value);
    if let (Some(check), true) = (&raw.source_check, source_check != SourceCheck::Off)
        && cx.roles_known()
        && !cx.raw.incomplete
    {
        if !etr {
            cx.unused(&check.place, "\"etr\"");
        } else if !itr {
            let remedy = "add role \"itr\" and a [[map-resolver]], or set it to \"off\"";
            cx.problems.error(&check.place, "without role \"itr\" no mapping of a source is known", remedy);
        }
    }
    for (key, roles, enough) in [
        (&raw.locator_status, "\"itr\" or \"etr\"", itr || etr),
        (&raw.map_version, "\"itr\" or \"etr\"", itr || etr),
        (&raw.echo_nonce, "\"itr\" and \"etr\"", itr && etr),
    ] {
        if let Some(key) = key.as_ref().filter(|key| key.value && !enough) {
            cx.unused(&key.place, roles);
        }
    }

    if cx.raw.data_plane.mode == DataPlaneMode::External {
        let on = [&raw.locator_status, &raw.map_version, &raw.echo_nonce, &cx.raw.glean];
        let on = on.into_iter().flatten().filter(|key| key.value).map(|key| &key.place);
        let check = raw.source_check.iter().filter(|check| check.value != SourceCheck::Off);
        for place in check.map(|check| &check.place).chain(on) {
            let message = "an external data plane neither says nor hears anything of this";
            let remedy = "switch it off, or set mode = \"internal\" in [data-plane]";
            cx.problems.error(place, message, remedy);
        }
    }

    let map_version = is_on(&raw.map_version);
    if let Some(accept) = raw.accept_stale.as_ref().filter(|accept| accept.value && !map_version)
        && !cx.raw.incomplete
    {
        let remedy = "set map-versioning = true, or remove it";
        cx.problems.warning(&accept.place, "not used without map-versioning", remedy);
    }
    let mut versions = std::collections::BTreeMap::new();
    for entry in &cx.raw.eid_prefixes {
        let Some(version) = &entry.map_version else {
            let locators = entry.locators.as_ref().unwrap_or(&cx.raw.locators);
            if map_version && locators.list.iter().any(|locator| !locator.local) {
                let message = "has locators of other routers of the site, which would count its \
                               versions for themselves";
                let remedy =
                    "set map-version, the same at all of them, or map-versioning = false in [data-header]";
                cx.problems.error(&entry.place, message, remedy);
            }
            continue;
        };
        if !map_version && !cx.raw.incomplete {
            let remedy = "set map-versioning = true in [data-header], or remove it";
            cx.problems.warning(&version.place, "not used without map-versioning", remedy);
        }
        versions.extend(entry.prefix.as_ref().map(|p| (EidPrefix::new(entry.iid, p.value), version.value)));
    }
    HeaderConfig {
        source_check,
        locator_status: is_on(&raw.locator_status),
        echo_nonce: is_on(&raw.echo_nonce),
        map_version,
        accept_stale: is_on(&raw.accept_stale),
        versions,
    }
}

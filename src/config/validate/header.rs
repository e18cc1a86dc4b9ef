//! What is said in LISP headers, and how received ones are checked.

use super::Context;
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

    let map_version = is_on(&raw.map_version);
    let mut versions = std::collections::BTreeMap::new();
    for entry in &cx.raw.eid_prefixes {
        let Some(version) = &entry.map_version else { continue };
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
        versions,
    }
}

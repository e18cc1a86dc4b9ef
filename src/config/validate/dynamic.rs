//! `[[dynamic-eid]]`: EID-prefixes that may move.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Context, site};
use crate::config::DataPlaneMode;
use crate::config::problem::At;
use crate::config::raw::RawDynamicEid;
use crate::config::value::Role;
use crate::proto::config::{DetectConfig, DynamicEid};

const DEFAULT_LIMIT: usize = 1000;
const DEFAULT_RATE: u32 = 20;
const DEFAULT_REDIRECT_TIME: Duration = Duration::from_secs(120);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Checks every `[[dynamic-eid]]`.
pub(super) fn dynamic_eids(cx: &Context<'_>) -> Vec<DynamicEid> {
    let all = &cx.raw.dynamic_eids;
    if let Some(first) = all.first() {
        if !cx.is(Role::Itr) || !cx.is(Role::Etr) {
            cx.unused(&first.place, "\"itr\" and \"etr\", both");
        }
        if cx.raw.data_plane.mode == DataPlaneMode::External {
            let message = "what moves can't be sent on by a data plane of another program";
            cx.problems.error(&first.place, message, "set mode = \"internal\" in [data-plane]");
        }
    }
    let mut checked: Vec<(At<crate::types::EidPrefix>, DynamicEid)> = Vec::new();
    for raw in all {
        if let Some(config) = check(cx, raw)
            && let Some(prefix) = raw.prefix.clone()
        {
            if let Some((first, _)) = checked.iter().find(|(other, _)| other.value == prefix.value) {
                cx.duplicate(&prefix.place, prefix.value, &first.place, "remove one of the two");
            }
            checked.push((prefix, config));
        }
    }
    checked.into_iter().map(|(_, config)| config).collect()
}

fn check(cx: &Context<'_>, raw: &RawDynamicEid) -> Option<DynamicEid> {
    let locators = raw.locators.as_ref().unwrap_or(&cx.raw.locators);
    if raw.locators.is_some() {
        site::check_locators(cx, locators);
    }
    if locators.list.is_empty() && !locators.incomplete {
        let remedy = "add [[locator]] for all EID-prefixes or [[dynamic-eid.locator]] below this one";
        cx.problems.error(&raw.place, "has no locator", remedy);
    }
    if let Some(names) = &raw.map_servers {
        site::check_names(cx, names);
    }
    let detect = raw.detect.as_ref().is_some_and(|detect| detect.value);
    if let (Some(at), true, None) = (&raw.detect, detect, &raw.interface) {
        let remedy = "name the site's interface that hosts are at with `interface`";
        cx.problems.error(&at.place, "hosts can't be found without an interface", remedy);
    }
    let unused = [
        raw.detect_rate.as_ref().map(|rate| &rate.place),
        raw.detect_timeout.as_ref().map(|timeout| &timeout.place),
    ];
    for place in unused.into_iter().flatten().filter(|_| !detect) {
        cx.problems.warning(place, "not used without `detect`", "set detect = true, or remove it");
    }
    within(cx, raw.redirect_time.as_ref(), Duration::from_secs(1)..=DAY, "1s to 1d");
    within(cx, raw.detect_timeout.as_ref(), Duration::from_secs(2)..=DAY, "2s to 1d");
    let prefix = raw.prefix.as_ref()?;
    site::check_circular(cx, prefix);
    if let Some(interface) = &raw.interface {
        let mut instances = cx.raw.instances.iter();
        let instance = instances.find(|i| i.iid.as_ref().is_some_and(|iid| iid.value == prefix.value.iid));
        let listed = instance.map(|i| &i.interfaces).filter(|list| !list.is_empty());
        if listed.is_some_and(|list| list.iter().all(|other| other.value != interface.value)) {
            let message =
                format!("{} is none of the interfaces of instance {}", interface.value.0, prefix.value.iid);
            cx.problems.error(&interface.place, message, "add it to the [[instance]], or name one of those");
        }
    }
    Some(DynamicEid {
        prefix: prefix.value,
        ttl: raw.ttl,
        map_servers: raw
            .map_servers
            .as_ref()
            .map(|list| list.value.iter().map(|name| name.value.clone()).collect()),
        locators: locators.list.iter().map(site::locator).collect(),
        interface: raw.interface.as_ref().map(|interface| interface.value.0.clone()),
        limit: raw
            .limit
            .as_ref()
            .map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit.value).unwrap_or(usize::MAX)),
        redirect_time: raw.redirect_time.as_ref().map_or(DEFAULT_REDIRECT_TIME, |time| time.value),
        detect: detect.then(|| DetectConfig {
            rate: raw
                .detect_rate
                .as_ref()
                .map_or(DEFAULT_RATE, |rate| u32::try_from(rate.value).unwrap_or(u32::MAX)),
            timeout: raw.detect_timeout.as_ref().map_or(DEFAULT_TIMEOUT, |timeout| timeout.value),
        }),
    })
}

fn within(cx: &Context<'_>, given: Option<&At<Duration>>, range: RangeInclusive<Duration>, words: &str) {
    if let Some(given) = given.filter(|given| !range.contains(&given.value)) {
        cx.problems.error(&given.place, format!("{:?} can't be", given.value), format!("give {words}"));
    }
}

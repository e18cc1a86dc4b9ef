//! The static entries of the map-cache, and its snapshots.

use std::time::Duration;

use super::Context;
use crate::config::model::SnapshotConfig;
use crate::config::problem::At;
use crate::config::raw::RawStatic;
use crate::proto::config::DatabaseEntry;
use crate::types::{Action, EidPrefix, Locator, Mapping, Ttl};

/// Most locators that an EID-record can have, and so a mapping (RFC 9301 §5.4).
const MOST_LOCATORS: usize = 255;

/// Snapshots are at least so far apart: each is a write of the whole map-cache.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// How snapshots are taken; `None`: not at all.
pub(super) fn snapshot(cx: &Context<'_>) -> Option<SnapshotConfig> {
    let default = SnapshotConfig::default();
    let interval = cx.raw.snapshot_interval.as_ref().map_or(default.interval, |interval| interval.value.0);
    if let Some(told) = &cx.raw.snapshot_interval
        && !interval.is_zero()
        && interval < SHORTEST_INTERVAL
    {
        let message = "is too short: the whole map-cache is written each time";
        cx.problems.error(&told.place, message, "give at least \"1s\", or \"never\"");
    }
    if let Some(told) = &cx.raw.snapshot_max_age
        && told.value < interval
    {
        let message =
            "is shorter than snapshot-interval, so that a crash may leave a snapshot that is too old";
        cx.problems.warning(&told.place, message, "make it at least as long");
    }
    let max_age = cx.raw.snapshot_max_age.as_ref().map_or(default.max_age, |age| age.value);
    (!interval.is_zero()).then_some(SnapshotConfig { interval, max_age })
}

/// Checks `[[map-cache.static]]`, and makes mappings of it.
pub(super) fn statics(cx: &Context<'_>, database: &[DatabaseEntry], limit: usize) -> Vec<Mapping> {
    let raw = &cx.raw.statics;
    if let Some(first) = raw.first()
        && raw.len() >= limit
    {
        let message = format!("{} static entries leave no room in a map-cache of {limit}", raw.len());
        cx.problems.error(&first.place, message, "raise `limit` in [map-cache]");
    }
    let mut mappings: Vec<Mapping> = Vec::new();
    for (i, entry) in raw.iter().enumerate() {
        let Some(prefix) = &entry.prefix else { continue };
        let earlier = raw.iter().take(i).filter_map(|e| e.prefix.as_ref()).find(|p| p.value == prefix.value);
        if let Some(earlier) = earlier {
            cx.duplicate(&prefix.place, prefix.value, &earlier.place, "remove one of the two");
        }
        check_own(cx, prefix, database);
        check_locators(cx, entry, prefix);
        mappings.push(Mapping {
            eid: prefix.value,
            action: entry.action.as_ref().map_or(Action::NoAction, |action| action.value),
            locators: entry.locators.iter().map(|(a, p, w)| Locator::new(a.value.0, *p, *w)).collect(),
            ..Mapping::negative(prefix.value, Ttl::RECEIVER_DECIDES, Action::NoAction)
        });
    }
    mappings
}

/// The site's own EID-prefixes are none of other sites.
fn check_own(cx: &Context<'_>, prefix: &At<EidPrefix>, database: &[DatabaseEntry]) {
    if let Some(own) = database.iter().find(|own| own.eid.covers(&prefix.value)) {
        let message = format!("{} lies in {}, an EID-prefix of this site", prefix.value, own.eid);
        cx.problems.error(&prefix.place, message, "remove one of the two");
    }
}

fn check_locators(cx: &Context<'_>, entry: &RawStatic, prefix: &At<EidPrefix>) {
    for (i, (address, _, _)) in entry.locators.iter().enumerate() {
        let rloc = address.value.0;
        if let Some((first, _, _)) = entry.locators.iter().take(i).find(|(a, _, _)| a.value.0 == rloc) {
            cx.duplicate(&address.place, rloc, &first.place, "remove one of the two");
        }
        let inside = prefix.value.iid.is_default() && prefix.value.net.contains(&rloc);
        if inside && !prefix.value.is_empty() {
            let message =
                format!("{rloc} lies in {}, and would be reached only through itself", prefix.value);
            cx.problems.error(&address.place, message, "keep locators out of EID-prefixes");
        }
    }
    if entry.locators.len() > MOST_LOCATORS {
        let message = format!("{} locators are more than a mapping can have", entry.locators.len());
        cx.problems.error(&entry.place, message, format!("keep at most {MOST_LOCATORS}"));
    }
    if !entry.locators.is_empty() && entry.locators.iter().all(|(_, priority, _)| *priority == 255) {
        let message = "every locator has priority 255, so that nothing is sent";
        cx.problems.warning(&entry.place, message, "give one a lower priority, or an action instead");
    }
}

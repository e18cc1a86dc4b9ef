//! Synchronisation of the map-cache.

use std::net::IpAddr;
use std::time::Duration;

use super::Context;
use super::mapping_system::check_key_ids;
use super::secret::key;
use crate::config::problem::At;
use crate::proto::config::SyncConfig;
use crate::types::Family;

/// The shortest interval of Hellos, which is that at which a silent member is asked, and the longest.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// More would be no site.
const MOST_MEMBERS: usize = 255;

/// Checks `[sync]`; `None` where it isn't there, or of no use.
pub(super) fn sync(cx: &Context<'_>) -> Option<SyncConfig> {
    let raw = cx.raw.sync.as_ref()?;
    if !cx.asks() {
        cx.unused(&raw.place, "\"itr\"");
    }
    let members = raw.members.as_ref()?;
    if members.value.is_empty() && !raw.incomplete {
        cx.problems.error(&members.place, "is empty", "give the addresses of the site's other xTRs");
    }
    if members.value.len() > MOST_MEMBERS {
        let message = format!("{} members are too many", members.value.len());
        cx.problems.error(&members.place, message, format!("give at most {MOST_MEMBERS}"));
    }
    for (i, member) in members.value.iter().enumerate() {
        if let Some(first) = super::first_with(&members.value, i, &member.value) {
            cx.duplicate(&member.place, member.value, &first.place, "remove one of the two");
        }
        check_address(cx, member, "give the address that the other xTR's messages come from");
    }
    let families =
        [Family::Ipv4, Family::Ipv6].map(|f| members.value.iter().any(|m| Family::of(&m.value) == f));
    if raw.source.is_none() && families == [true, true] {
        cx.problems.warning(
            &members.place,
            "are of both families, and it is the kernel that chooses where our messages to each come from",
            "list all by addresses of one family and give `source`, or make sure that the others list both \
             addresses",
        );
    }
    if let Some(source) = &raw.source {
        check_address(cx, source, "give an address of this router");
        if members.value.iter().any(|member| member.value == source.value) {
            let message = format!("{} is in the list of members", source.value);
            cx.problems.error(&source.place, message, "list only the others there");
        }
        let family = Family::of(&source.value);
        if !members.value.is_empty() && members.value.iter().all(|m| Family::of(&m.value) != family) {
            let message = format!("{} is of another family than every member", source.value);
            cx.problems.error(&source.place, message, "give an address of the members' family");
        }
    }
    if let Some(interval) = raw.hello_interval.as_ref().filter(|i| !INTERVALS.contains(&i.value)) {
        cx.problems.error(&interval.place, format!("{:?} can't be", interval.value), "give 1s to 1h");
    }
    check_key_ids(cx, &raw.keys);
    let keys: Vec<_> = raw.keys.iter().filter_map(|k| key(cx, k)).collect();
    let config = SyncConfig::new(members.value.iter().map(|member| member.value).collect(), keys);
    (cx.asks() && !config.keys.is_empty()).then(|| SyncConfig {
        mode: raw.mode.as_ref().map_or(config.mode, |mode| mode.value),
        ack: raw.ack.as_ref().map_or(config.ack, |ack| ack.value),
        source: raw.source.as_ref().map(|source| source.value),
        hello_interval: raw.hello_interval.as_ref().map_or(config.hello_interval, |i| i.value),
        ..config
    })
}

fn check_address(cx: &Context<'_>, address: &At<IpAddr>, remedy: &str) {
    let a = address.value;
    let link_local = match a {
        IpAddr::V4(a) => a.is_broadcast(),
        // Which link it is on could not be told.
        IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    if link_local || a.is_unspecified() || a.is_loopback() || a.is_multicast() {
        cx.problems.error(&address.place, format!("{a} can't be"), remedy);
    }
}

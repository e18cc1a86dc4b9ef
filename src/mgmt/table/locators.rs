//! Table of locators: our own, and how others can be reached.

use std::fmt::Write as _;

use super::text::{BY_COMMAND, age, append, interval, or_dash, table};
use crate::mgmt::view::{Locators, MapCacheLocator, OwnLocator, RemoteLocator, RlocWay, WayState};
use crate::types::LocatorChange;

/// `show locators`
pub fn locators(view: &Locators) -> String {
    let mut text = format!("Our site's locators: {}\n", view.own.len());
    let mut own = table(["Locator", "Interface", "Source", "State"], &[]);
    for l in &view.own {
        own.add_row([
            name(l),
            or_dash(l.interface.as_ref()),
            if l.local { "own" } else { "site" }.into(),
            own_state(l),
        ]);
    }
    append(&mut text, &own, 2);
    for (locator, change) in view.own.iter().filter_map(|l| Some((l, l.changed?))) {
        let _ = writeln!(text, "  * {}: {change}, {BY_COMMAND}", name(locator));
    }
    let probing = match &view.probing_ms {
        Some(interval_ms) => format!("probed every {}", milliseconds(*interval_ms)),
        None => "not probed".into(),
    };
    let _ = writeln!(text, "\nRemote locators: {}, {probing}", view.remote.len());
    let mut remote = table(
        [
            "Locator",
            "State",
            "Entries",
            "From",
            "Way",
            "Since",
            "RTT",
            "Sent",
            "Answered",
            "Last sent",
            "Last answer",
        ],
        &[2, 6, 7, 8],
    );
    for l in &view.remote {
        let mut first = [l.rloc.to_string(), state(l), l.entries.to_string()];
        if l.ways.is_empty() {
            let [rloc, state, entries] = first;
            let dash = || "-".to_owned();
            let from = or_dash(l.source);
            let rest = [from, way_state(None), dash(), dash(), dash(), dash(), dash(), dash()];
            remote.add_row([rloc, state, entries].into_iter().chain(rest));
            continue;
        }
        for way in &l.ways {
            let used = if l.source == Some(way.source) { "" } else { " (unused)" };
            let from = format!("{}{used}", way.source);
            // Further ways to the same locator stand below without it.
            remote.add_row(std::mem::take(&mut first).into_iter().chain([from]).chain(known(way)));
        }
    }
    append(&mut text, &remote, 2);
    text
}

/// The ways that packets to an entry's locators take, where anything is known of them.
pub(super) fn ways<'a>(locators: impl Iterator<Item = &'a MapCacheLocator>) -> comfy_table::Table {
    let columns = ["Locator", "From", "Way", "Since", "RTT", "Sent", "Answered", "Last sent", "Last answer"];
    let mut table = table(columns, &[4, 5, 6]);
    for (rloc, way) in locators.filter_map(|l| Some((l.rloc, l.way.as_ref()?))) {
        let start = [rloc.to_string(), way.source.to_string()];
        table.add_row(start.into_iter().chain(known(way)));
    }
    table
}

/// What is known of a way: state, since when, RTT, probes sent and answered, and the last ones.
fn known(way: &RlocWay) -> [String; 7] {
    [
        way_state(Some(way)),
        interval(way.since),
        rtt(way.rtt_us),
        way.sent.to_string(),
        way.answered.to_string(),
        age(way.last_sent),
        age(way.last_answered),
    ]
}

fn name(l: &OwnLocator) -> String {
    l.rloc.map_or_else(|| "no address".into(), |rloc| rloc.to_string())
}

fn own_state(l: &OwnLocator) -> String {
    match l.changed {
        Some(LocatorChange { up: Some(false), .. }) => "down (by command) *".into(),
        Some(_) => format!("{} *", up(l.up)),
        None => up(l.up),
    }
}

fn up(up: bool) -> String {
    if up { "up" } else { "down" }.into()
}

fn state(l: &RemoteLocator) -> String {
    match l.up {
        _ if l.source.is_none() => "no-source".into(),
        up if l.site => format!("{}, site", self::up(up)),
        up => self::up(up),
    }
}

/// What is known of a way, in a word or two.
fn way_state(way: Option<&RlocWay>) -> String {
    let Some(way) = way else { return "unprobed".into() };
    let state = match way.state {
        WayState::Unprobed => "unprobed",
        WayState::Up => "up",
        WayState::NoAnswer => "no answer",
        WayState::Unreachable => "unreachable",
        WayState::NoEcho => "no echo",
        WayState::Told => "told down",
    };
    if way.pending { format!("{state}, pending") } else { state.into() }
}

/// A round trip time, given in microseconds.
fn rtt(us: Option<u64>) -> String {
    or_dash(us.map(|us| format!("{}.{:03} ms", us / 1000, us % 1000)))
}

fn milliseconds(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

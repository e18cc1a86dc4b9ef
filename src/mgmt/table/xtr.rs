//! Tables of a tunnel router.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::{BY_COMMAND, age, append, count, interval, key, or_dash, prefix, table, ttl};
use crate::mgmt::view::{
    Database, DatabaseEntry, ExternalDataPlane, Interfaces, Lig, LocatorState, MapCache, MapCacheEntry,
    MapCacheSource, Pending, RegistrationState, Snapshot, Statistics, Store, StoreState,
};
use crate::types::{Action, Locator};

/// `show map-cache`
pub fn map_cache(view: &MapCache) -> String {
    map_cache_with(view, map_cache_entry)
}

/// `show map-cache detail`
pub fn map_cache_detail(view: &MapCache) -> String {
    map_cache_with(view, map_cache_entry_detail)
}

fn map_cache_with(view: &MapCache, show: fn(&mut String, &MapCacheEntry)) -> String {
    let total = usize::try_from(view.total).unwrap_or(usize::MAX);
    let mut text = format!("LISP map-cache: {} of at most {}", count(total, "entry", "entries"), view.limit);
    if view.entries.len() != total {
        let _ = write!(text, ", {} shown", view.entries.len());
    }
    text.push('\n');
    for entry in &view.entries {
        show(&mut text, entry);
    }
    text
}

fn map_cache_entry(text: &mut String, entry: &MapCacheEntry) {
    map_cache_head(text, entry);
    if entry.locators.is_empty() {
        return;
    }
    let mut locators =
        table(["Locator", "Uptime", "State", "Pri/Wgt", "Packets", "Bytes", "Path MTU"], &[3, 4, 5, 6]);
    for l in &entry.locators {
        locators.add_row([
            l.rloc.to_string(),
            interval(l.uptime),
            locator_state(l.state).into(),
            format!("{}/{}", l.priority, l.weight),
            l.packets.to_string(),
            l.bytes.to_string(),
            or_dash(l.path_mtu),
        ]);
    }
    append(text, &locators, 2);
}

fn map_cache_entry_detail(text: &mut String, entry: &MapCacheEntry) {
    map_cache_head(text, entry);
    let version = entry.map_version.map_or_else(|| "none".into(), |version| version.to_string());
    let _ = write!(text, "  last learned {} ago, map-version {version}", interval(entry.refreshed));
    text.push_str(if entry.native { ", forwarded by the kernel\n" } else { "\n" });
    if entry.locators.is_empty() {
        return;
    }
    let columns = [
        "Locator",
        "Uptime",
        "State",
        "Pri/Wgt",
        "MPri/MWgt",
        "Owner",
        "Packets",
        "Bytes",
        "Idle",
        "Path MTU",
    ];
    let mut locators = table(columns, &[3, 4, 6, 7, 9]);
    for l in &entry.locators {
        locators.add_row([
            l.rloc.to_string(),
            interval(l.uptime),
            locator_state(l.state).into(),
            format!("{}/{}", l.priority, l.weight),
            format!("{}/{}", l.mpriority, l.mweight),
            if l.local { "sender" } else { "site" }.into(),
            l.packets.to_string(),
            l.bytes.to_string(),
            age(l.idle),
            or_dash(l.path_mtu),
        ]);
    }
    append(text, &locators, 2);
    append(text, &super::locators::ways(entry.locators.iter()), 2);
}

fn locator_state(state: LocatorState) -> &'static str {
    match state {
        LocatorState::Up => "up",
        LocatorState::Down => "down",
        LocatorState::Unused => "unused",
        LocatorState::NoSource => "no-source",
        LocatorState::Loop => "loop",
    }
}

/// What the short and the long form begin with.
fn map_cache_head(text: &mut String, entry: &MapCacheEntry) {
    let source = match entry.source {
        MapCacheSource::MapReply => "map-reply",
        MapCacheSource::Probe => "probe",
        MapCacheSource::Gleaned => "gleaned",
        MapCacheSource::Snapshot => "snapshot",
        MapCacheSource::Synchronised => "synchronised",
        MapCacheSource::Static => "static",
    };
    let _ = write!(
        text,
        "\n{}, uptime: {}, expires: {}, via {source}",
        prefix(&entry.eid),
        interval(entry.uptime),
        age(entry.expires),
    );
    if let Some(responder) = entry.responder {
        let _ = write!(text, " from {responder}");
    }
    text.push_str(if entry.authoritative { ", authoritative\n" } else { "\n" });
    if entry.locators.is_empty() {
        let _ = writeln!(text, "  Negative cache entry, action: {}", entry.action);
    } else if entry.action == Action::NativelyForward {
        text.push_str("  Negative cache entry, forwarded by proxy-ETR\n");
    }
    let idle = entry.idle.map_or_else(|| "never used".into(), |idle| format!("idle {}", interval(idle)));
    let _ = writeln!(text, "  {} packets, {} bytes, {idle}", entry.packets, entry.bytes);
}

/// `show database`
pub fn database(view: &Database) -> String {
    let mut text = format!("LISP database: {}\n", count(view.entries.len(), "EID-prefix", "EID-prefixes"));
    for entry in &view.entries {
        database_entry(&mut text, entry);
    }
    if view.entries.iter().flat_map(|entry| &entry.locators).any(|l| l.changed.is_some()) {
        let _ = writeln!(text, "\n* {BY_COMMAND}");
    }
    text
}

fn database_entry(text: &mut String, entry: &DatabaseEntry) {
    let _ = write!(text, "\n{}, TTL: {}", prefix(&entry.eid), ttl(entry.ttl));
    if let Some(version) = entry.map_version {
        let _ = write!(text, ", map-version: {version}");
    }
    text.push_str(if entry.register { "\n" } else { ", not registered\n" });
    let mut locators = table(["Locator", "Interface", "Pri/Wgt", "Source", "State"], &[2]);
    for l in &entry.locators {
        let change = l.changed.unwrap_or_default();
        let mark = |changed: bool| if changed { "*" } else { "" };
        let state = if l.reachable { "reachable" } else { "unreachable" };
        let numbers = mark(change.priority.is_some() || change.weight.is_some());
        locators.add_row([
            l.rloc.map_or_else(|| "no address".into(), |rloc| rloc.to_string()),
            or_dash(l.interface.as_ref()),
            format!("{}/{}{numbers}", l.priority, l.weight),
            if l.local { "own" } else { "site" }.into(),
            format!("{state}{}", mark(change.up.is_some())),
        ]);
    }
    append(text, &locators, 2);
    if entry.registrations.is_empty() {
        return;
    }
    let mut servers = table(
        ["Map-Server", "Address", "State", "Key", "Last sent", "Last notified", "Sent", "Notified"],
        &[6, 7],
    );
    for r in &entry.registrations {
        let state = match r.state {
            RegistrationState::Unresolved => "unresolved",
            RegistrationState::Waiting => "waiting",
            RegistrationState::Sent => "sent",
            RegistrationState::Unconfirmed => "unconfirmed",
            RegistrationState::Registered if r.contradicted => "contradicted",
            RegistrationState::Registered => "registered",
            RegistrationState::UpdatePending => "registered, update pending",
            RegistrationState::Refused => "refused",
        };
        servers.add_row([
            r.map_server.clone(),
            or_dash(r.address),
            state.into(),
            key(r.key.as_ref()),
            age(r.last_sent),
            age(r.last_notified),
            r.sent.to_string(),
            r.notified.to_string(),
        ]);
    }
    append(text, &servers, 2);
}

/// `show statistics`. Counters at zero are left out.
pub fn statistics(view: &Statistics) -> String {
    let mut text = format!("Uptime: {}\n\nControl messages\n", interval(view.uptime));
    let control = &view.control;
    let mut messages = table(["Type", "Received", "Sent"], &[1, 2]);
    let both: BTreeMap<&String, (u64, u64)> = control
        .received
        .iter()
        .map(|(name, n)| (name, (*n, 0)))
        .chain(control.sent.iter().map(|(name, n)| (name, (0, *n))))
        .fold(BTreeMap::new(), |mut all, (name, (received, sent))| {
            let sum: &mut (u64, u64) = all.entry(name).or_default();
            *sum = (sum.0 + received, sum.1 + sent);
            all
        });
    for (name, (received, sent)) in both.into_iter().filter(|(_, counts)| *counts != (0, 0)) {
        messages.add_row([name.clone(), received.to_string(), sent.to_string()]);
    }
    append(&mut text, &messages, 2);
    let (ordinary, dropped): (BTreeMap<_, _>, BTreeMap<_, _>) =
        control.dropped.clone().into_iter().partition(|(reason, _)| control.ordinary.contains(reason));
    counters(&mut text, "Control messages dropped", "Reason", &dropped);
    counters(&mut text, "Control messages without effect, as is normal", "Reason", &ordinary);
    counters(&mut text, "Control plane", "Counter", &control.counters);
    store(&mut text, &view.store);
    if view.data.is_empty() {
        return text;
    }
    let mut threads = table(["Thread", "Packets", "Bytes", "Dropped"], &[1, 2, 3]);
    let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
    let mut others: BTreeMap<String, u64> = BTreeMap::new();
    for thread in &view.data {
        let drops: u64 = thread.dropped.values().sum();
        threads.add_row([
            thread.thread.clone(),
            thread.packets.to_string(),
            thread.bytes.to_string(),
            drops.to_string(),
        ]);
        for (all, own) in [(&mut dropped, &thread.dropped), (&mut others, &thread.counters)] {
            for (name, n) in own {
                *all.entry(name.clone()).or_default() += n;
            }
        }
    }
    text.push_str("\nData plane\n");
    append(&mut text, &threads, 2);
    counters(&mut text, "Data packets dropped", "Reason", &dropped);
    counters(&mut text, "Data plane, all threads", "Counter", &others);
    text
}

fn store(text: &mut String, store: &Store) {
    if store.place.is_empty() {
        return;
    }
    let state = match store.state {
        StoreState::Off => "nothing is kept",
        StoreState::Working => "working",
        StoreState::Failing => "failing",
    };
    let _ = writeln!(text, "\nState over a restart\n  {}, {state}", store.place);
    if store.state != StoreState::Off {
        let _ = writeln!(
            text,
            "  {} restored, {} written by {}, {} waiting, {}",
            count(usize::try_from(store.restored).unwrap_or(usize::MAX), "record", "records"),
            store.written,
            count(usize::try_from(store.commits).unwrap_or(usize::MAX), "transaction", "transactions"),
            store.waiting,
            count(usize::try_from(store.failures).unwrap_or(usize::MAX), "failure", "failures"),
        );
    }
    if let Some(snapshot) = &store.snapshot {
        self::snapshot(text, snapshot);
    }
    for line in [&store.problem, &store.notice].into_iter().flatten() {
        let _ = writeln!(text, "  {line}");
    }
}

fn snapshot(text: &mut String, snapshot: &Snapshot) {
    let _ = writeln!(
        text,
        "  {}: {} restored, {} expired, {} unfit, {} waiting",
        snapshot.place,
        count(usize::try_from(snapshot.restored).unwrap_or(usize::MAX), "entry", "entries"),
        snapshot.expired,
        snapshot.unfit,
        snapshot.waiting,
    );
    let last = match snapshot.last {
        Some(secs) => format!(
            "the last one {} ago with {} in {} bytes",
            interval(secs),
            count(usize::try_from(snapshot.entries).unwrap_or(usize::MAX), "entry", "entries"),
            snapshot.bytes
        ),
        None => "none yet".to_owned(),
    };
    let _ = writeln!(
        text,
        "  {} written, {last}, {}",
        count(usize::try_from(snapshot.written).unwrap_or(usize::MAX), "snapshot", "snapshots"),
        count(usize::try_from(snapshot.failures).unwrap_or(usize::MAX), "failure", "failures"),
    );
    for line in [&snapshot.problem, &snapshot.notice].into_iter().flatten() {
        let _ = writeln!(text, "  {line}");
    }
}

fn counters(text: &mut String, title: &str, what: &str, values: &BTreeMap<String, u64>) {
    if values.values().all(|n| *n == 0) {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    let mut counters = table([what, "Count"], &[1]);
    for (name, n) in values.iter().filter(|(_, n)| **n > 0) {
        counters.add_row([name.clone(), n.to_string()]);
    }
    append(text, &counters, 2);
}

/// `show interfaces`
pub fn interfaces(view: &Interfaces) -> String {
    let mut text = String::new();
    let mut tuns =
        table(["TUN", "Instance", "State", "MTU", "Queues", "Offload", "Site interfaces"], &[1, 3, 4]);
    for tun in &view.tuns {
        let offload = match (tun.offload, tun.underlay_offload) {
            (true, _) => "on",
            (false, true) => "underlay only",
            (false, false) => "off",
        };
        let reason = tun.offload_reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        let site = match tun.site_interfaces.join(", ") {
            names if names.is_empty() => "all".into(),
            names => names,
        };
        tuns.add_row([
            tun.name.clone(),
            tun.iid.to_string(),
            up(tun.up),
            tun.mtu.to_string(),
            tun.queues.to_string(),
            format!("{offload}{reason}"),
            site,
        ]);
    }
    match &view.external {
        None => append(&mut text, &tuns, 0),
        Some(external) => append_external(&mut text, external),
    }
    for (role, prefixes) in [("Proxy-ITR", &view.proxy_itr), ("Proxy-ETR", &view.proxy_etr)] {
        if !prefixes.is_empty() {
            let prefixes: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "{role} for {}", prefixes.join(", "));
        }
    }
    text.push('\n');
    let mut locators = table(["Underlay interface", "State", "MTU", "Locators"], &[2]);
    for interface in &view.locators {
        let addresses: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
        locators.add_row([
            or_dash(interface.name.as_ref()),
            up(interface.up),
            or_dash(interface.mtu),
            if addresses.is_empty() { "none".into() } else { addresses.join(", ") },
        ]);
    }
    append(&mut text, &locators, 0);
    text
}

fn append_external(text: &mut String, view: &ExternalDataPlane) {
    let _ = writeln!(text, "External data plane at {}, {} entries", view.socket, view.entries);
    if view.clients.is_empty() {
        text.push_str("  no program is connected: no packets pass\n");
        return;
    }
    let mut clients = table(
        ["PID", "User", "Connected", "State", "Waiting", "Sent", "Received", "Errors", "Lost"],
        &[4, 5, 6, 7, 8],
    );
    for client in &view.clients {
        clients.add_row([
            or_dash(client.pid),
            client.uid.to_string(),
            interval(client.connected),
            if client.synced { "synced".into() } else { "being told".into() },
            client.waiting.to_string(),
            client.sent.to_string(),
            client.received.to_string(),
            client.errors.to_string(),
            client.punts_lost.to_string(),
        ]);
    }
    append(text, &clients, 2);
}

fn up(up: bool) -> String {
    if up { "up" } else { "down" }.into()
}

/// `show pending`
pub fn pending(view: &Pending) -> String {
    let mut text = format!("Map-Requests outstanding: {}\n", view.requests.len());
    if view.requests.is_empty() {
        return text;
    }
    text.push('\n');
    let mut requests =
        table(["EID", "Instance", "Map-Resolver", "Nonce", "Sent", "Age", "State", "Next in"], &[1, 4]);
    for r in &view.requests {
        requests.add_row([
            r.eid.addr.to_string(),
            r.eid.iid.to_string(),
            or_dash(r.map_resolver),
            r.nonce.to_string(),
            r.sent.to_string(),
            interval(r.age),
            if r.resting { "resting" } else { "asking" }.into(),
            interval(r.next),
        ]);
    }
    append(&mut text, &requests, 0);
    text
}

/// `lig`
pub fn lig(view: &Lig) -> String {
    let mut text = format!(
        "Mapping for {} from {}, asked of {}, in {:.2} ms",
        view.eid, view.responder, view.map_resolver, view.rtt_ms
    );
    if view.requests > 1 {
        let _ = write!(text, " after {} Map-Requests", view.requests);
    }
    text.push('\n');
    for mapping in &view.mappings {
        let authoritative = if mapping.authoritative { ", authoritative" } else { "" };
        let _ = writeln!(text, "\n{}, TTL: {}{authoritative}", prefix(&mapping.eid), ttl(mapping.ttl));
        if mapping.is_negative() {
            let _ = writeln!(text, "  Negative: {}", mapping.action);
            continue;
        }
        append(&mut text, &locator_table(&mapping.locators), 2);
    }
    text
}

/// Locators as a record gives them.
fn locator_table(locators: &[Locator]) -> comfy_table::Table {
    let mut table = table(["Locator", "State", "Pri/Wgt", "MPri/MWgt"], &[2, 3]);
    for l in locators {
        table.add_row([
            l.rloc.to_string(),
            if l.reachable { "up" } else { "down" }.into(),
            format!("{}/{}", l.priority, l.weight),
            format!("{}/{}", l.mpriority, l.mweight),
        ]);
    }
    table
}

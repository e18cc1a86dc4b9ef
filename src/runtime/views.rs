//! Snapshots of the machines' state, as `mgmt` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::auth::Algorithm;
use crate::config::Config;
use crate::dataplane::{Count, DropReason, Totals};
use crate::io::netlink::Interface;
use crate::mgmt::view;
use crate::proto::config::{DynamicEid, LocatorSource, ResolverSelection, SyncMode};
use crate::proto::control::{ControlPlane, DatabaseView, DdtView, LigAnswer, SiteView, SyncMember};
use crate::proto::mapping_system::ReferralCounts;
use crate::proto::redundancy::sync::Transferred;
use crate::proto::xtr::{
    Cause, MapCacheEntry, MapCacheSource, Pending, RegistrationState, ResolverHealth, RlocWay, Verdict,
    WayState,
};
use crate::types::{Eid, EidPrefix, Family, Instant, Locator, LocatorChange, Mapping, Rloc};
use crate::wire::EidRecord;

/// `show map-cache`
pub(super) fn map_cache(
    plane: &ControlPlane,
    filter: &view::Filter,
    limit: usize,
    path_mtu: impl Fn(&Rloc) -> Option<u16>,
    now: Instant,
) -> view::MapCache {
    let entries = plane
        .map_cache()
        .filter(|(prefix, _)| filter.matches(prefix))
        .map(|(prefix, entry)| map_cache_entry(prefix, entry, plane, &path_mtu, now))
        .collect();
    view::MapCache { limit: limit as u64, total: plane.map_cache_len() as u64, entries }
}

/// `show dynamic-eids`
pub(super) fn dynamic_eids(plane: &ControlPlane, configs: &[DynamicEid], now: Instant) -> view::DynamicEids {
    let registered: BTreeMap<EidPrefix, bool> = plane
        .database()
        .filter(|entry| entry.entry.is_mobile())
        .map(|entry| (entry.prefix, entry.registrations.iter().all(|r| r.confirmed)))
        .collect();
    let longest = |prefix: &EidPrefix| {
        configs.iter().filter(|c| c.prefix.covers(prefix)).map(|c| c.prefix).max_by_key(EidPrefix::len)
    };
    let mobility = plane.mobility();
    let configured = configs.iter().map(|config| view::DynamicPrefix {
        prefix: config.prefix,
        interface: config.interface.clone(),
        detect: config.detect.is_some(),
        here: mobility.here().filter(|(p, _)| longest(p) == Some(config.prefix)).count() as u64,
        limit: config.limit as u64,
    });
    view::DynamicEids {
        configured: configured.collect(),
        here: mobility
            .here()
            .map(|(prefix, here)| view::DynamicHere {
                prefix,
                since: secs_since(here.since, now),
                detected: here.detected,
                priority: here.priority,
                seen: here.detected.then(|| secs_since(here.seen, now)),
                registered: registered.get(&prefix).copied().unwrap_or(false),
            })
            .collect(),
        away: mobility
            .away()
            .map(|(prefix, away)| view::DynamicAway {
                prefix,
                since: secs_since(away.since, now),
                until: secs_since(now, away.until),
                rlocs: away.locators.iter().map(|l| l.rloc).collect(),
            })
            .collect(),
    }
}

fn map_cache_entry(
    eid: EidPrefix,
    entry: &MapCacheEntry,
    plane: &ControlPlane,
    path_mtu: &impl Fn(&Rloc) -> Option<u16>,
    now: Instant,
) -> view::MapCacheEntry {
    let locators = entry.mapping.locators.iter().zip(&entry.locator_stats).map(|(locator, stats)| {
        let verdict = plane.verdict(&locator.rloc);
        let way = verdict.and_then(|v| plane.remote_rloc(&locator.rloc)?.way(&v.source));
        view::MapCacheLocator {
            rloc: locator.rloc,
            uptime: secs_since(way.map_or(entry.installed, |way| way.since.max(entry.installed)), now),
            state: match (locator, verdict) {
                (Locator { priority: 255, .. }, _) => view::LocatorState::Unused,
                (Locator { reachable: false, .. }, _) => view::LocatorState::Down,
                _ if entry.is_circular(&locator.rloc) || plane.local_rlocs().contains(&locator.rloc) => {
                    view::LocatorState::Loop
                }
                (_, None) => view::LocatorState::NoSource,
                (_, Some(Verdict { up: false, .. })) => view::LocatorState::Down,
                _ if entry.down_by_status.contains(&locator.rloc) => view::LocatorState::Down,
                (_, Some(Verdict { up: true, .. })) => view::LocatorState::Up,
            },
            priority: locator.priority,
            weight: locator.weight,
            packets: stats.packets(),
            bytes: stats.bytes(),
            path_mtu: path_mtu(&locator.rloc),
            way: way.map(|way| rloc_way(way, now)),
            idle: stats.last_used().map(|used| secs_since(used, now)),
            local: locator.local,
            mpriority: locator.mpriority,
            mweight: locator.mweight,
        }
    });
    view::MapCacheEntry {
        eid,
        uptime: secs_since(entry.installed, now),
        expires: (!entry.is_static()).then(|| secs_until(entry.expires, now)),
        source: match entry.source {
            MapCacheSource::MapReply => view::MapCacheSource::MapReply,
            MapCacheSource::Probe => view::MapCacheSource::Probe,
            MapCacheSource::Gleaned => view::MapCacheSource::Gleaned,
            MapCacheSource::Synchronised => view::MapCacheSource::Synchronised,
            MapCacheSource::Snapshot => view::MapCacheSource::Snapshot,
            MapCacheSource::Static => view::MapCacheSource::Static,
        },
        responder: entry.responder,
        refreshed: secs_since(entry.refreshed, now),
        native: entry.is_native(),
        map_version: Some(entry.mapping.version.get()).filter(|version| *version != 0),
        action: entry.mapping.action,
        authoritative: entry.mapping.authoritative,
        idle: entry.stats.last_used().map(|used| secs_since(used, now)),
        packets: entry.stats.packets(),
        bytes: entry.stats.bytes(),
        locators: locators.collect(),
    }
}

fn rloc_way(way: &RlocWay, now: Instant) -> view::RlocWay {
    view::RlocWay {
        source: way.source,
        state: match way.state {
            WayState::Unprobed => view::WayState::Unprobed,
            WayState::Up => view::WayState::Up,
            WayState::Down(Cause::Probes) => view::WayState::NoAnswer,
            WayState::Down(Cause::Underlay) => view::WayState::Unreachable,
            WayState::Down(Cause::Echo) => view::WayState::NoEcho,
            WayState::Down(Cause::Peer) => view::WayState::Told,
        },
        pending: way.pending(),
        since: secs_since(way.since, now),
        rtt_us: way.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        sent: way.sent,
        answered: way.answered,
        last_sent: way.last_sent.map(|at| secs_since(at, now)),
        last_answered: way.last_answered.map(|at| secs_since(at, now)),
    }
}

/// `show locators`
pub(super) fn locators(plane: &ControlPlane, config: &Config, now: Instant) -> view::Locators {
    let changes = plane.locator_changes();
    let mut own: Vec<view::OwnLocator> = Vec::new();
    for database in plane.database() {
        let entry = database.entry;
        let states = entry.addresses.iter().copied().zip(entry.up.iter().copied());
        for (locator, (rloc, up)) in entry.config.locators.iter().zip(states) {
            let interface = match &locator.source {
                LocatorSource::Address(_) => None,
                LocatorSource::Interface { name, .. } => Some(name.clone()),
            };
            let changed = change_of(&locator.source, changes);
            let up = up && changed.is_none_or(|change| change.up != Some(false));
            let shown = view::OwnLocator { rloc, interface, local: locator.local, up, changed };
            if !own.contains(&shown) {
                own.push(shown);
            }
        }
    }
    for (locator, address) in plane.more_locators() {
        let (interface, fixed) = match &locator.source {
            LocatorSource::Address(fixed) => (None, Some(*fixed)),
            LocatorSource::Interface { name, .. } => (Some(name.clone()), None),
        };
        let shown = view::OwnLocator {
            rloc: address.or(fixed),
            interface,
            local: locator.local,
            up: address.is_some(),
            changed: None,
        };
        if !own.contains(&shown) {
            own.push(shown);
        }
    }
    let mut entries: BTreeMap<Rloc, u64> = plane.remote_rlocs().map(|(rloc, _)| (*rloc, 0)).collect();
    for (rloc, count) in plane.used_rlocs() {
        entries.insert(*rloc, count as u64);
    }
    let remote = entries.into_iter().map(|(rloc, entries)| {
        let verdict = plane.verdict(&rloc);
        let known = plane.remote_rloc(&rloc);
        view::RemoteLocator {
            rloc,
            up: verdict.is_some_and(|v| v.up),
            source: verdict.map(|v| v.source),
            site: known.is_some_and(|known| known.site.is_some()),
            entries,
            ways: known.into_iter().flat_map(|k| &k.ways).map(|way| rloc_way(way, now)).collect(),
        }
    });
    let interval = config.control.probing.map(|probing| probing.interval.as_millis());
    view::Locators {
        own,
        probing_ms: interval.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        remote: remote.collect(),
    }
}

/// `show database`
pub(super) fn database(plane: &ControlPlane, filter: &view::Filter, now: Instant) -> view::Database {
    let entries = plane.database().filter(|view| filter.matches(&view.prefix));
    let changes = plane.locator_changes();
    view::Database { entries: entries.map(|entry| database_entry(entry, changes, now)).collect() }
}

fn database_entry(
    database: DatabaseView<'_>,
    changes: &[(LocatorSource, LocatorChange)],
    now: Instant,
) -> view::DatabaseEntry {
    let config = &database.entry.config;
    view::DatabaseEntry {
        eid: database.prefix,
        ttl: config.ttl,
        register: config.register,
        map_version: Some(database.entry.version.get()).filter(|version| *version != 0),
        locators: database
            .entry
            .config
            .locators
            .iter()
            .zip(database.entry.addresses.iter().copied().zip(database.entry.up.iter().copied()))
            .map(|(locator, (rloc, up))| {
                let changed = change_of(&locator.source, changes);
                let change = changed.unwrap_or_default();
                view::DatabaseLocator {
                    rloc,
                    interface: match &locator.source {
                        LocatorSource::Address(_) => None,
                        LocatorSource::Interface { name, .. } => Some(name.clone()),
                    },
                    priority: change.priority.unwrap_or(locator.priority),
                    weight: change.weight.unwrap_or(locator.weight),
                    local: locator.local,
                    reachable: up && change.up != Some(false),
                    changed,
                }
            })
            .collect(),
        registrations: database
            .registrations
            .iter()
            .map(|state| view::Registration {
                map_server: state.map_server.clone(),
                address: state.address,
                state: registration_state(state),
                last_sent: state.last_sent.map(|at| secs_since(at, now)),
                last_notified: state.last_notified.map(|at| secs_since(at, now)),
                sent: state.sent,
                notified: state.notified,
                key: state.key.map(|(id, algorithm)| key_in_use(id, algorithm)),
                contradicted: state.contradicted,
            })
            .collect(),
    }
}

/// What an operator should know of the weights of the locators that a command has just changed: those of equal
/// priority sum to 100, or are all 0 (RFC 9301 §5.4). Others share the traffic in the same proportion all the
/// same.
pub(super) fn weight_warnings(plane: &ControlPlane, changed: &[LocatorSource]) -> Vec<String> {
    let changes = plane.locator_changes();
    let mut warnings: Vec<String> = Vec::new();
    for entry in plane.database() {
        let locators = &entry.entry.config.locators;
        if !locators.iter().any(|locator| changed.contains(&locator.source)) {
            continue;
        }
        let effective: Vec<(u8, u8)> = locators
            .iter()
            .map(|locator| (locator, change_of(&locator.source, changes).unwrap_or_default()))
            .map(|(l, change)| (change.priority.unwrap_or(l.priority), change.weight.unwrap_or(l.weight)))
            .collect();
        for (priority, count, sum) in odd_weights(&effective) {
            let warning = format!(
                "the weights of the {count} locators of priority {priority} sum to {sum}, not to 100; make \
                 them sum to 100, or make every weight 0"
            );
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    warnings
}

/// The priorities whose several locators, each given as (priority, weight), have weights that are neither
/// shares of 100 nor all 0; with their number and sum. Priority 255 is never used.
fn odd_weights(locators: &[(u8, u8)]) -> Vec<(u8, usize, u32)> {
    let mut sums: BTreeMap<u8, (usize, u32)> = BTreeMap::new();
    for (priority, weight) in locators.iter().filter(|(priority, _)| *priority != 255) {
        let (count, sum) = sums.entry(*priority).or_default();
        *count += 1;
        *sum += u32::from(*weight);
    }
    let odd = sums.into_iter().filter(|(_, (count, sum))| *count > 1 && !matches!(sum, 0 | 100));
    odd.map(|(priority, (count, sum))| (priority, count, sum)).collect()
}

/// What commands changed of a locator.
fn change_of(source: &LocatorSource, changes: &[(LocatorSource, LocatorChange)]) -> Option<LocatorChange> {
    changes.iter().find(|(changed, _)| changed == source).map(|(_, change)| *change)
}

fn key_in_use(id: u8, algorithm: Algorithm) -> view::KeyInUse {
    view::KeyInUse { id, algorithm: algorithm.name().into() }
}

fn registration_state(state: &RegistrationState) -> view::RegistrationState {
    match state {
        RegistrationState { last_sent: None, address: None, .. } => view::RegistrationState::Unresolved,
        RegistrationState { last_sent: None, .. } => view::RegistrationState::Waiting,
        RegistrationState { refused: true, .. } => view::RegistrationState::Refused,
        RegistrationState { want_notify: false, .. } => view::RegistrationState::Sent,
        RegistrationState { confirmed: true, .. } => view::RegistrationState::Registered,
        RegistrationState { updating: true, .. } => view::RegistrationState::UpdatePending,
        _ => view::RegistrationState::Unconfirmed,
    }
}

/// `show sites`
pub(super) fn sites(plane: &ControlPlane, filter: &view::Filter, now: Instant) -> view::Sites {
    let (mut total, mut registered) = (0, 0);
    let mut sites = Vec::new();
    for view in plane.sites() {
        let taken: BTreeSet<EidPrefix> = view.registrations.iter().map(|(eid, _)| *eid).collect();
        let free = view.config.prefixes.iter().filter(|owned| !taken.contains(&owned.eid)).count();
        registered += taken.len() as u64;
        total += (taken.len() + free) as u64;
        sites.push(site(&view, plane, filter, now));
    }
    view::Sites { total, registered, sites }
}

fn site(site: &SiteView<'_>, plane: &ControlPlane, filter: &view::Filter, now: Instant) -> view::Site {
    let unregistered = |eid: EidPrefix, configured| view::SitePrefix {
        eid,
        configured,
        last_register: plane.last_register(&eid).map(|at| secs_since(at, now)),
        registrations: Vec::new(),
    };
    let mut prefixes: BTreeMap<EidPrefix, view::SitePrefix> = BTreeMap::new();
    for owned in site.config.prefixes.iter().filter(|owned| filter.matches(&owned.eid)) {
        prefixes.insert(owned.eid, unregistered(owned.eid, true));
    }
    for (eid, registration) in site.registrations.iter().filter(|(eid, _)| filter.matches(eid)) {
        let eid = *eid;
        let prefix = prefixes.entry(eid).or_insert_with(|| unregistered(eid, false));
        prefix.registrations.push(view::SiteRegistration {
            registered_by: registration.source.ip(),
            xtr_id: registration.xtr_site.map(|ids| ids.xtr_id),
            site_id: registration.xtr_site.map(|ids| ids.site_id),
            since: secs_since(registration.registered, now),
            last: secs_since(registration.refreshed, now),
            expires: secs_until(registration.expires, now),
            proxy_reply: registration.proxy_reply,
            key: Some(key_in_use(registration.key_id, registration.algorithm)),
            merge: registration.merge,
            use_ttl: registration.use_ttl,
            ttl: registration.record.ttl,
            locators: mapping(&registration.record).map(|m| m.locators).unwrap_or_default(),
        });
    }
    let prefixes = prefixes.into_values().collect();
    view::Site { name: site.config.name.clone(), prefixes }
}

/// `show resolvers`
pub(super) fn resolvers(plane: &ControlPlane, now: Instant) -> view::Resolvers {
    let mut resolvers = Vec::new();
    for (space, host, addresses) in plane.resolvers() {
        let resolver = |address: Option<IpAddr>, health: &ResolverHealth| view::Resolver {
            host: host.to_string(),
            space,
            address,
            state: match (address, health) {
                (None, _) => view::ResolverState::Unresolved,
                (_, ResolverHealth { suspect: Some(_), .. }) => view::ResolverState::Silent,
                (_, ResolverHealth { last_answer: None, .. }) => view::ResolverState::Untried,
                _ => view::ResolverState::Up,
            },
            response_ms: health.response_time.map(|time| time.as_secs_f64() * 1e3),
            requests: health.requests,
            answers: health.answers,
            timeouts: health.timeouts,
            last_answer: health.last_answer.map(|at| secs_since(at, now)),
        };
        if addresses.is_empty() {
            resolvers.push(resolver(None, &ResolverHealth::default()));
        }
        resolvers.extend(addresses.iter().map(|(address, health)| resolver(Some(*address), health)));
    }
    let selection = match plane.resolver_selection() {
        ResolverSelection::Order => "order",
        ResolverSelection::Fastest => "fastest",
    };
    view::Resolvers { selection: selection.into(), resolvers }
}

/// `show sync`
pub(super) fn sync(plane: &ControlPlane, config: &Config, now: Instant) -> view::Sync {
    let Some(sync) = config.control.sync.as_ref() else { return view::Sync::default() };
    let copies = plane.map_cache().filter(|(_, entry)| entry.source == MapCacheSource::Synchronised).count();
    let mode = match sync.mode {
        SyncMode::Smart => "smart",
        SyncMode::Naive => "naive",
    };
    view::Sync {
        mode: Some(mode.into()),
        ack: sync.ack,
        copies: copies as u64,
        members: plane.sync_members().map(|member| sync_member(member, now)).collect(),
    }
}

fn sync_member(member: &SyncMember, now: Instant) -> view::SyncMember {
    let transfer = |done: Transferred| view::SyncTransfer {
        ago: secs_since(done.at, now),
        records: done.records,
        took_ms: u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX),
    };
    let counters = &member.counters;
    view::SyncMember {
        address: member.address,
        state: member.state.name().into(),
        since: secs_since(member.since, now),
        awaited: member.is_awaited(),
        outstanding: member.outstanding() as u64,
        received_whole: member.received.map(transfer),
        sent_whole: member.sent.map(transfer),
        sent: counters.sent,
        bytes_sent: counters.bytes_sent,
        records_sent: counters.records_sent,
        repeated: counters.repeated,
        received: counters.received,
        records_used: counters.records_used,
        hellos: counters.hellos,
        ignored: counters.ignored.iter().map(|(reason, n)| (reason.name().into(), *n)).collect(),
    }
}

/// `show ddt`
pub(super) fn ddt(plane: &ControlPlane, now: Instant) -> view::Ddt {
    let kind = |map_servers, to: &[IpAddr]| match (map_servers, to) {
        (_, []) => view::DdtKind::Nobody,
        (true, _) => view::DdtKind::MapServers,
        (false, _) => view::DdtKind::Nodes,
    };
    let counts = |counts: ReferralCounts| counts.iter().map(|(r, n)| (r.name().to_owned(), n)).collect();
    let DdtView { config, sent, search } = plane.ddt();
    let node = config.node.as_ref().map(|node| view::DdtNode {
        authoritative: node.authoritative.clone(),
        delegations: node
            .delegations
            .iter()
            .map(|delegation| view::DdtDelegation {
                prefix: delegation.prefix,
                kind: kind(delegation.map_servers, &delegation.to),
                to: delegation.to.clone(),
                hint: !node.authoritative.iter().any(|own| own.covers(&delegation.prefix)),
            })
            .collect(),
    });
    let resolver = search.map(|search| view::DdtResolver {
        roots: search
            .roots
            .iter()
            .map(|(host, addresses)| view::DdtRoot { host: host.to_string(), addresses: addresses.to_vec() })
            .collect(),
        pending: search.pending as u64,
        received: counts(search.received),
        cache: search
            .cache
            .iter()
            .map(|(prefix, referral)| view::DdtReferral {
                prefix: *prefix,
                kind: kind(referral.map_servers, &referral.to),
                to: referral.to.clone(),
                ttl: secs_until(referral.expires, now),
            })
            .collect(),
    });
    view::Ddt { node, map_server_peers: config.map_server_peers.clone(), sent: sent.map(counts), resolver }
}

/// `show pending`
pub(super) fn pending(plane: &ControlPlane, now: Instant) -> view::Pending {
    let request = |(eid, pending): (&Eid, &Pending)| view::PendingRequest {
        eid: *eid,
        map_resolver: pending.map_resolver,
        nonce: pending.nonce,
        sent: pending.requests,
        age: secs_since(pending.started, now),
        resting: pending.resting,
        next: secs_until(pending.wake, now),
    };
    view::Pending { requests: plane.pending().map(request).collect() }
}

/// The control plane's part of `show statistics`.
pub(super) fn control_statistics(plane: &ControlPlane) -> view::ControlStatistics {
    let statistics = plane.statistics();
    let mut shown = view::ControlStatistics::default();
    for (kind, received, sent) in statistics.messages() {
        shown.received.insert(kind.name().into(), received);
        shown.sent.insert(kind.name().into(), sent);
    }
    shown.dropped = statistics.drops().map(|(reason, n)| (reason.name().into(), n)).collect();
    let ordinary = statistics.drops().filter(|(reason, _)| reason.is_ordinary());
    shown.ordinary = ordinary.map(|(reason, _)| reason.name().into()).collect();
    shown
}

/// A data thread's part of `show statistics`.
pub(super) fn data_statistics(thread: &str, totals: &Totals) -> view::DataStatistics {
    let sum = |counts: [Count; 2]| counts.into_iter().map(|count| totals.counted(count)).sum();
    view::DataStatistics {
        thread: thread.into(),
        packets: sum([Count::EncapsulatedPackets, Count::DecapsulatedPackets]),
        bytes: sum([Count::EncapsulatedBytes, Count::DecapsulatedBytes]),
        dropped: DropReason::ALL.iter().map(|&r| (r.name().into(), totals.dropped(r))).collect(),
        counters: Count::ALL.iter().map(|&c| (c.name().into(), totals.counted(c))).collect(),
    }
}

/// The locators' part of `show interfaces`.
pub(super) fn locator_interfaces(config: &Config, interfaces: &[Interface]) -> Vec<view::LocatorInterface> {
    let mut shown: Vec<view::LocatorInterface> = Vec::new();
    let mut add = |name: Option<&str>, interface: Option<&Interface>, address: Option<Rloc>| {
        let place = match shown.iter().position(|s| s.name.as_deref() == name) {
            Some(place) => place,
            None => {
                shown.push(view::LocatorInterface {
                    name: name.map(Into::into),
                    up: interface.is_some_and(|i| i.up && i.running),
                    mtu: interface.map(|i| i.mtu),
                    addresses: Vec::new(),
                });
                shown.len() - 1
            }
        };
        if let (Some(s), Some(address)) = (shown.get_mut(place), address)
            && !s.addresses.contains(&address)
        {
            s.addresses.push(address);
        }
    };
    let database = config.control.database.iter().flat_map(|entry| &entry.locators);
    for locator in database.chain(&config.control.locators).filter(|l| l.local) {
        match &locator.source {
            LocatorSource::Address(address) => {
                let on =
                    interfaces.iter().find(|i| i.addresses.iter().any(|a| a.usable && a.address == *address));
                add(on.map(|i| i.name.as_str()), on, Some(*address));
            }
            LocatorSource::Interface { name, family } => {
                let on = interfaces.iter().find(|i| i.name == *name);
                let address = on.and_then(|i| {
                    i.usable_addresses().into_iter().find(|address| Family::of(address) == *family)
                });
                add(Some(name), on, address);
            }
        }
    }
    shown
}

/// The answer to `lig`.
pub(super) fn lig(eid: Eid, answer: &LigAnswer) -> view::Lig {
    view::Lig {
        eid,
        map_resolver: answer.map_resolver,
        responder: answer.responder.ip(),
        rtt_ms: answer.rtt.as_secs_f64() * 1e3,
        requests: answer.requests,
        mappings: answer.records.iter().filter_map(mapping).collect(),
    }
}

/// A record's mapping, without locators that are no IP address.
fn mapping(record: &EidRecord) -> Option<Mapping> {
    record.to_mapping().ok().map(|(mapping, _)| mapping)
}

fn secs_since(earlier: Instant, now: Instant) -> u64 {
    now.saturating_since(earlier).as_secs()
}

/// Rounded up: what has not ended is not shown as 0.
fn secs_until(later: Instant, now: Instant) -> u64 {
    (later.saturating_since(now) + Duration::from_nanos(999_999_999)).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_are_no_shares_of_100_are_found() {
        assert_eq!(odd_weights(&[(1, 50), (1, 25)]), [(1, 2, 75)]);
        assert_eq!(odd_weights(&[(1, 100), (1, 100), (2, 0), (2, 30)]), [(1, 2, 200), (2, 2, 30)]);
        for fine in [
            &[(1, 50), (1, 50)][..],
            &[(1, 0), (1, 0)],
            // One alone carries everything, whatever its weight; and 255 carries nothing.
            &[(1, 50), (2, 50)],
            &[(255, 50), (255, 20)],
        ] {
            assert_eq!(odd_weights(fine), [], "{fine:?}");
        }
    }
}

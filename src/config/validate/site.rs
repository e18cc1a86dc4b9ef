//! The site's own EID-prefixes and locators.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::{Context, covering};
use crate::config::problem::{At, Place};
use crate::config::raw::{RawEidPrefix, RawLocator, RawLocatorSource, RawLocators};
use crate::config::tree::{nearest, shorten};
use crate::config::value::Role;
use crate::proto::config::{DatabaseEntry, LocatorConfig, LocatorSource};
use crate::types::EidPrefix;

/// Most locators that an EID-record can carry (RFC 9301 §5.4: an 8-bit count).
const MOST_LOCATORS: usize = 255;

/// Checks `[[locator]]` and `[[eid-prefix]]`.
pub(super) fn database(cx: &Context<'_>) -> Vec<DatabaseEntry> {
    let raw = cx.raw;
    check_locators(cx, &raw.locators);
    if raw.eid_prefixes.is_empty() && raw.dynamic_eids.is_empty() {
        let remedy = "add an [[eid-prefix]] section with the site's prefix";
        match (cx.is(Role::Itr), cx.is(Role::Etr)) {
            (_, true) => cx.lacks("etr", "an EID-prefix", remedy),
            (true, false) => cx.lacks("itr", "an EID-prefix", remedy),
            _ => {}
        }
    }
    let first = raw.eid_prefixes.first().map(|p| &p.place);
    let unused = raw.locators.list.first().map(|l| &l.place).filter(|_| !cx.is_tunnel_router());
    if let Some(place) = first.or(unused)
        && !cx.is_xtr()
    {
        cx.unused(place, "\"itr\" or \"etr\"");
    }
    if first.is_some() && raw.locators.list.is_empty() && !raw.locators.incomplete {
        for entry in raw.eid_prefixes.iter().filter(|e| e.locators.is_none()) {
            let remedy = "add [[locator]] for all EID-prefixes or [[eid-prefix.locator]] below this one";
            cx.problems.error(&entry.place, "has no locator", remedy);
        }
    }

    check_overlaps(cx);
    let mut entries = Vec::new();
    for entry in &raw.eid_prefixes {
        if let Some(own) = &entry.locators {
            check_locators(cx, own);
            if own.list.is_empty() && !own.incomplete {
                cx.problems.error(&entry.place, "has no locator", "add [[eid-prefix.locator]] below it");
            }
        }
        check_registration(cx, entry);
        check_others(cx, entry);
        let Some(prefix) = entry.prefix.as_ref().map(|p| eid(entry, p)) else { continue };
        check_circular(cx, &prefix);
        entries.push(DatabaseEntry {
            eid: prefix.value,
            ttl: entry.ttl,
            register: entry.register,
            map_servers: entry
                .map_servers
                .as_ref()
                .map(|l| l.value.iter().map(|n| n.value.clone()).collect()),
            locators: locators_of(cx, entry).list.iter().map(locator).collect(),
        });
    }
    entries
}

/// Where other routers of the site register the same prefix, the Map-Server had better know one from the
/// other.
fn check_others(cx: &Context<'_>, entry: &RawEidPrefix) {
    let locators = &locators_of(cx, entry).list;
    if let Some(other) = locators.iter().find(|locator| !locator.local)
        && locators.iter().any(|locator| locator.local)
        && entry.register
        && cx.is(Role::Etr)
        && cx.raw.router.xtr_id.is_none()
        && !cx.raw.incomplete
        // The keys of the OpenLISP format, which can't say an xTR-ID.
        && !other.source.place.key.starts_with('@')
    {
        cx.problems.warning(
            &other.source.place,
            "another router's locator without an xtr-id: the Map-Server takes a router whose address changes \
             for one more router",
            "set xtr-id in [router], another one at each router of the site",
        );
    }
}

fn eid(entry: &RawEidPrefix, prefix: &At<ipnet::IpNet>) -> At<EidPrefix> {
    prefix.clone().map(|net| EidPrefix::new(entry.iid, net))
}

fn locators_of<'c>(cx: &Context<'c>, entry: &'c RawEidPrefix) -> &'c RawLocators {
    entry.locators.as_ref().unwrap_or(&cx.raw.locators)
}

pub(super) fn locator(raw: &RawLocator) -> LocatorConfig {
    let source = match &raw.source.value {
        RawLocatorSource::Address(addr) => LocatorSource::Address(addr.0),
        RawLocatorSource::Interface(name, family) => {
            LocatorSource::Interface { name: name.0.clone(), family: *family }
        }
    };
    LocatorConfig {
        source,
        priority: raw.priority,
        weight: raw.weight,
        mpriority: raw.mpriority,
        mweight: raw.mweight,
        local: raw.local,
    }
}

/// Checks the locators of one set.
pub(super) fn check_locators(cx: &Context<'_>, locators: &RawLocators) {
    let list = &locators.list;
    for (i, locator) in list.iter().enumerate() {
        if let Some(first) = list.iter().take(i).find(|l| l.source.value == locator.source.value) {
            let what = match &locator.source.value {
                RawLocatorSource::Address(addr) => format!("locator {}", addr.0),
                RawLocatorSource::Interface(name, family) => format!("the {family} locator of {}", name.0),
            };
            cx.duplicate(&locator.source.place, what, &first.source.place, "remove one of the two");
        }
    }
    let Some(first) = list.first() else { return };
    if list.len() > MOST_LOCATORS {
        let message = format!("{} locators don't fit one EID-record", list.len());
        cx.problems.error(&first.place, message, format!("keep at most {MOST_LOCATORS}"));
    }
    if locators.incomplete {
        return;
    }
    check_weights(cx, list, "weight", |l| (l.priority, l.weight));
    check_weights(cx, list, "mweight", |l| (l.mpriority, l.mweight));
    if cx.is_tunnel_router() && list.iter().all(|l| !l.local) {
        let remedy = "add a locator of this router's own, or mark one as local";
        cx.problems.error(&first.place, "no locator of this set is this router's own", remedy);
    }
    if list.iter().all(|l| l.priority == 255) {
        let message = "every locator has priority 255, so that the site can't be reached";
        cx.problems.warning(&first.place, message, "give one a lower priority");
    }
}

/// Weights among equal priorities sum to 100, or are all 0 (RFC 9301 §5.4). Priority 255 is never used.
fn check_weights(cx: &Context<'_>, list: &[RawLocator], key: &str, of: impl Fn(&RawLocator) -> (u8, u8)) {
    let mut sums: BTreeMap<u8, (u32, usize, &Place)> = BTreeMap::new();
    for locator in list {
        let (priority, weight) = of(locator);
        let (sum, count, _) = sums.entry(priority).or_insert((0, 0, &locator.place));
        *sum += u32::from(weight);
        *count += 1;
    }
    let prefix = key.strip_suffix("weight").unwrap_or_default();
    for (priority, (sum, count, first)) in sums {
        if priority == 255 || sum == 0 || sum == 100 {
            continue;
        }
        let message = match count {
            1 => format!("the only locator of {prefix}priority {priority} has {key} {sum}, not 100"),
            n => format!(
                "the {key}s of the {n} locators of {prefix}priority {priority} sum to {sum}, not to 100"
            ),
        };
        cx.problems.error(&first.child(key), message, format!("make them sum to 100, or make every {key} 0"));
    }
}

/// Checks with which Map-Servers an EID-prefix is registered.
fn check_registration(cx: &Context<'_>, entry: &RawEidPrefix) {
    let Some(names) = &entry.map_servers else { return };
    if !entry.register {
        let message = "given for an EID-prefix that is not registered";
        cx.problems.warning(&names.place, message, "remove it, or leave out `register = false`");
        return;
    }
    if names.value.is_empty() && !cx.problems.has_errors() {
        let remedy = "name Map-Servers, leave the key out for all, or set register = false";
        cx.problems.error(&names.place, "is empty", remedy);
    }
    check_names(cx, names);
}

/// Checks a list of Map-Servers' names.
pub(super) fn check_names(cx: &Context<'_>, names: &At<Vec<At<String>>>) {
    let known = || cx.raw.map_servers.iter().filter_map(super::mapping_system::name);
    for (i, name) in names.value.iter().enumerate() {
        if let Some(first) = super::first_with(&names.value, i, &name.value) {
            cx.duplicate(
                &name.place,
                format!("\"{}\"", shorten(&name.value)),
                &first.place,
                "remove one of the two",
            );
        }
        let known: Vec<_> = known().collect();
        if known.contains(&name.value) || (cx.raw.incomplete && known.is_empty()) {
            continue;
        }
        let remedy = match nearest(&name.value, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean \"{}\"?", shorten(near)),
            None if known.is_empty() => "add a [[map-server]] section with this name".into(),
            None => format!("the names are {}", known.join(", ")),
        };
        cx.problems.error(
            &name.place,
            format!("no Map-Server is named \"{}\"", shorten(&name.value)),
            remedy,
        );
    }
}

/// Compares the EID-prefixes with each other. A more specific one is legal where it says something of its own
/// (RFC 9301 §5.5), but not where it contradicts the one that covers it.
fn check_overlaps(cx: &Context<'_>) {
    type Known<'a> = (At<EidPrefix>, &'a RawEidPrefix);
    let all: Vec<Known<'_>> = cx
        .raw
        .eid_prefixes
        .iter()
        .filter_map(|entry| Some((eid(entry, entry.prefix.as_ref()?), entry)))
        .collect();
    let mut known: HashMap<EidPrefix, &Known<'_>> = HashMap::new();
    for this in &all {
        match known.entry(this.0.value) {
            Entry::Vacant(entry) => {
                entry.insert(this);
            }
            Entry::Occupied(first) => {
                cx.duplicate(&this.0.place, this.0.value, &first.get().0.place, "remove one of the two");
            }
        }
    }
    for (specific, inner) in &all {
        for (covering, outer) in covering(&specific.value).filter_map(|shorter| known.get(&shorter).copied())
        {
            // Said of the one that stands further down in the file.
            let (later, first) = match specific.place.span.start > covering.place.span.start {
                true => (specific, covering),
                false => (covering, specific),
            };
            let (inner, outer) = ((&specific.value, *inner), (&covering.value, *outer));
            check_overlap(cx, inner, outer, &later.place, &first.place);
            check_contradiction(cx, inner, outer, &later.place);
        }
    }
}

fn check_overlap(
    cx: &Context<'_>,
    (specific, inner): (&EidPrefix, &RawEidPrefix),
    (covering, outer): (&EidPrefix, &RawEidPrefix),
    place: &Place,
    earlier: &Place,
) {
    let line = cx.problems.line(earlier);
    if outer.register && !inner.register {
        cx.problems.error(
            place,
            format!("{specific} is not to be registered, but lies in {covering}, which is (see line {line})"),
            format!("register {specific} too, or remove it"),
        );
    } else if cx.is_xtr()
        && same_locators(cx, inner, outer)
        && inner.ttl == outer.ttl
        && inner.register == outer.register
    {
        cx.problems.warning(
            place,
            format!("{specific} says the same as {covering} (see line {line}), which covers it"),
            format!("remove {specific}, or give it other locators"),
        );
    }
}

/// Each mapping system answers for what it was told: one that knows only the covering prefix contradicts
/// those that know the more specific one.
fn check_contradiction(
    cx: &Context<'_>,
    (specific, inner): (&EidPrefix, &RawEidPrefix),
    (covering, outer): (&EidPrefix, &RawEidPrefix),
    place: &Place,
) {
    let locators = |entry| locators_of(cx, entry).list.iter().map(locator).collect::<Vec<_>>();
    if !cx.is_xtr() || !inner.register || !outer.register || locators(inner) == locators(outer) {
        return;
    }
    let told = |entry: &RawEidPrefix, name: &String| {
        entry.map_servers.as_ref().is_none_or(|names| names.value.iter().any(|n| n.value == *name))
    };
    let all = cx.raw.map_servers.iter().filter_map(super::mapping_system::name);
    for name in all.filter(|name| told(outer, name) && !told(inner, name)) {
        let name = shorten(&name);
        cx.problems.warning(
            place,
            format!(
                "\"{name}\" is told of {covering}, but not of {specific} inside it, whose locators are \
                 others: it will answer for it with those of {covering}"
            ),
            format!("add \"{name}\" to the map-servers of {specific}"),
        );
    }
}

fn same_locators(cx: &Context<'_>, a: &RawEidPrefix, b: &RawEidPrefix) -> bool {
    let configs = |entry| locators_of(cx, entry).list.iter().map(locator).collect::<Vec<_>>();
    let servers = |entry: &RawEidPrefix| {
        entry.map_servers.as_ref().map(|l| l.value.iter().map(|n| n.value.clone()).collect::<Vec<_>>())
    };
    configs(a) == configs(b) && servers(a) == servers(b)
}

/// A locator within an EID-prefix of the default instance could only be reached through itself.
pub(super) fn check_circular(cx: &Context<'_>, prefix: &At<EidPrefix>) {
    if !prefix.value.iid.is_default() {
        return;
    }
    let own = cx.raw.eid_prefixes.iter().filter_map(|e| e.locators.as_ref());
    let mut seen: Vec<IpAddr> = Vec::new();
    for locator in std::iter::once(&cx.raw.locators).chain(own).flat_map(|l| &l.list) {
        let RawLocatorSource::Address(addr) = &locator.source.value else { continue };
        if !prefix.value.net.contains(&addr.0) || seen.contains(&addr.0) {
            continue;
        }
        seen.push(addr.0);
        let line = cx.problems.line(&locator.source.place);
        cx.problems.error(
            &prefix.place,
            format!(
                "{} contains the locator {} (line {line}), which would be reached only through itself",
                prefix.value, addr.0
            ),
            "keep locators out of EID-prefixes",
        );
    }
}

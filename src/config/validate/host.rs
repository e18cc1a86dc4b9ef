//! What concerns the machine: instances, routing, control socket; and the timers.

use std::collections::BTreeSet;

use super::proxy::Proxies;
use super::{Context, first_with};
use crate::config::model::{InstanceConfig, KernelConfig, RoutingMode};
use crate::config::problem::{At, Place};
use crate::config::raw::{RawDynamicEid, RawInstance};
use crate::types::{EidPrefix, InstanceId};

/// Longest path that a Unix socket's address holds, in bytes (`sun_path` less its final zero).
const LONGEST_SOCKET_PATH: usize = 107;

/// Checks `[[instance]]` and `[kernel]`.
pub(super) fn instances_and_kernel(
    cx: &Context<'_>,
    own: impl Iterator<Item = EidPrefix>,
    proxies: &Proxies,
) -> (Vec<InstanceConfig>, KernelConfig) {
    let raw = &cx.raw.kernel;
    let default = KernelConfig::default();
    let kernel = KernelConfig {
        routing: raw.routing.as_ref().map_or(default.routing, |r| r.value),
        prefixes: raw.prefixes.as_ref().map_or_else(Vec::new, |l| l.value.iter().map(|p| p.value).collect()),
        table: raw.table.as_ref().map_or(default.table, |t| t.value),
        rule_priority: raw.rule_priority.as_ref().map_or(default.rule_priority, |p| p.value),
        set_sysctls: raw.set_sysctls,
        tun_mtu: raw.tun_mtu,
    };
    let configured = || cx.raw.instances.iter().filter_map(|i| Some((i, i.iid.as_ref()?)));
    if !cx.is_tunnel_router() {
        if let Some(first) = cx.raw.instances.first() {
            cx.unused(&first.place, "\"itr\" or \"etr\"");
        }
        return (Vec::new(), kernel);
    }
    let proxied = proxies.ingress.iter().chain(&proxies.egress).map(|prefix| prefix.iid);
    let used: BTreeSet<InstanceId> = own.map(|prefix| prefix.iid).chain(proxied).collect();
    check_sections(cx, &used);

    let iids: BTreeSet<InstanceId> = used.into_iter().chain(configured().map(|(_, iid)| iid.value)).collect();
    let instances = iids.iter().zip(0..).map(|(iid, index)| {
        let section = configured().find(|(_, other)| other.value == *iid).map(|(section, _)| section);
        InstanceConfig {
            iid: *iid,
            tun: section
                .and_then(|s| s.tun.as_ref())
                .map_or_else(|| default_tun(*iid), |tun| tun.value.0.clone()),
            interfaces: section
                .map_or_else(Vec::new, |s| s.interfaces.iter().map(|i| i.value.0.clone()).collect()),
            site_table: section.and_then(|s| s.table.as_ref()).map(|t| t.value),
            lisp_table: kernel.table.saturating_add(index),
        }
    });
    let instances: Vec<_> = instances.collect();
    check_instances(cx, &instances);
    check_tables(cx, &instances);
    check_prefixes(cx, &kernel, &iids);
    (instances, kernel)
}

fn default_tun(iid: InstanceId) -> String {
    format!("lisp{iid}")
}

/// Checks each `[[instance]]` section against the others and the instances that have EID-prefixes.
fn check_sections(cx: &Context<'_>, used: &BTreeSet<InstanceId>) {
    let sections: Vec<&RawInstance> = cx.raw.instances.iter().collect();
    for (i, section) in sections.iter().enumerate() {
        let earlier = || sections.iter().take(i);
        let Some(iid) = &section.iid else { continue };
        if let Some(first) = earlier().filter_map(|s| s.iid.as_ref()).find(|other| other.value == iid.value) {
            cx.duplicate(
                &iid.place,
                format!("instance {}", iid.value),
                &first.place,
                "put everything into one section",
            );
        } else if !used.contains(&iid.value) && !cx.raw.incomplete {
            let message = format!("no EID-prefix is in instance {}", iid.value);
            cx.problems.warning(&iid.place, message, "add an [[eid-prefix]] or remove the section");
        }
        for (n, interface) in section.interfaces.iter().enumerate() {
            let others = earlier().flat_map(|s| &s.interfaces);
            let first =
                others.chain(section.interfaces.iter().take(n)).find(|other| other.value == interface.value);
            if let Some(first) = first {
                let remedy = "give each interface to one instance only";
                cx.duplicate(&interface.place, &interface.value.0, &first.place, remedy);
            }
        }
    }
}

/// Checks what the instances, with their defaults filled in, demand of each other.
fn check_instances(cx: &Context<'_>, instances: &[InstanceConfig]) {
    let place = |iid: InstanceId| {
        let section =
            cx.raw.instances.iter().find(|s| s.iid.as_ref().is_some_and(|other| other.value == iid));
        let dynamic = || {
            let in_it = |d: &&RawDynamicEid| d.prefix.as_ref().is_some_and(|p| p.value.iid == iid);
            cx.raw.dynamic_eids.iter().find(in_it).map(|d| &d.place)
        };
        let prefix = || cx.raw.eid_prefixes.iter().find(|e| e.iid == iid).map(|e| &e.place).or_else(dynamic);
        section.map(|s| &s.place).or_else(prefix).cloned().unwrap_or_default()
    };
    let interfaces: BTreeSet<_> = instances.iter().flat_map(|i| &i.interfaces).collect();
    for (i, instance) in instances.iter().enumerate() {
        let iid = instance.iid;
        if instances.iter().take(i).any(|other| other.tun == instance.tun)
            || interfaces.contains(&instance.tun)
        {
            let message = format!("the name {} of its TUN is taken", instance.tun);
            cx.problems.error(&place(iid).child("tun"), message, "give it another name with `tun`");
        }
        if instances.len() > 1 && instance.interfaces.is_empty() && !cx.raw.incomplete {
            let message = format!("instance {iid} has no site interfaces, and is not the only instance");
            let remedy = format!("add [[instance]] with instance-id = {iid} and interfaces = [\"…\"]");
            cx.problems.error(&place(iid), message, remedy);
        }
    }
}

fn check_tables(cx: &Context<'_>, instances: &[InstanceConfig]) {
    let (Some(first), Some(last)) = (instances.first(), instances.last()) else { return };
    let ours = first.lisp_table..=last.lisp_table;
    let all = match ours.start() == ours.end() {
        true => format!("table {}", ours.start()),
        false => format!("tables {}–{}", ours.start(), ours.end()),
    };
    if (253..=255).any(|reserved| ours.contains(&reserved)) {
        let place = cx.raw.kernel.table.as_ref().map(|t| t.place.clone()).unwrap_or_default();
        let message = format!("{all} include the kernel's own, 253–255");
        cx.problems.error(&place, message, "start at another number, as 4341");
    }
    for table in cx.raw.instances.iter().filter_map(|i| i.table.as_ref()) {
        if ours.contains(&table.value) {
            let message = format!("the router itself fills {all}");
            cx.problems.error(&table.place, message, "choose another number here or in [kernel] table");
        }
    }
}

fn check_prefixes(cx: &Context<'_>, kernel: &KernelConfig, iids: &BTreeSet<InstanceId>) {
    let raw = &cx.raw.kernel;
    let prefixes = raw.prefixes.as_ref().map_or(&[][..], |l| &l.value);
    match (&raw.routing, kernel.routing) {
        (Some(routing), RoutingMode::Prefixes) if prefixes.is_empty() && !cx.problems.has_errors() => {
            let remedy = "list destination EID-prefixes in `prefixes`, or choose routing = \"default\"";
            cx.problems.error(&routing.place, "\"prefixes\" without any prefix", remedy);
        }
        (_, RoutingMode::Default | RoutingMode::None) if !prefixes.is_empty() => {
            let place = raw.prefixes.as_ref().map(|l| l.place.clone()).unwrap_or_default();
            cx.problems.warning(&place, "not used", "set routing = \"prefixes\" or remove them");
        }
        _ => {}
    }
    for (i, prefix) in prefixes.iter().enumerate() {
        if let Some(first) = first_with(prefixes, i, &prefix.value) {
            cx.duplicate(&prefix.place, prefix.value, &first.place, "remove one of the two");
        }
        if !iids.contains(&prefix.value.iid) && !cx.raw.incomplete {
            let message = format!("instance {} has no EID-prefix", prefix.value.iid);
            cx.problems.error(&prefix.place, message, "give a prefix of an instance that the site is in");
        }
    }
}

/// Checks `[management]`.
pub(super) fn check_management(cx: &Context<'_>) {
    let At { value: management, place } = &cx.raw.management;
    let length = management.socket.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        let message =
            format!("the path is {length} bytes long, a socket's has at most {LONGEST_SOCKET_PATH}");
        cx.problems.error(place, message, "give a shorter one");
    }
    if management.mode & 0o002 != 0 {
        let message = format!("mode {:04o} lets everybody control the router", management.mode);
        cx.problems.warning(
            &Place { key: "management.mode".into(), ..place.clone() },
            message,
            "use \"0600\", or \"0660\" and a group",
        );
    }
}

/// Checks `[data-plane.external]`.
pub(super) fn check_external(cx: &Context<'_>) {
    let (external, place) = (&cx.raw.data_plane.external, &cx.raw.external);
    let length = external.socket.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        let message =
            format!("the path is {length} bytes long, a socket's has at most {LONGEST_SOCKET_PATH}");
        cx.problems.error(&place.child("socket"), message, "give a shorter one");
    }
    if external.socket == cx.raw.management.value.socket {
        let message = "is the control socket, too";
        cx.problems.error(&place.child("socket"), message, "give each its own path");
    }
}

/// Checks `[timers]`.
pub(super) fn check_timers(cx: &Context<'_>) {
    let timers = &cx.raw.timers.timers;
    let place = |key| cx.raw.timers.place.child(key);
    if timers.register_interval >= timers.registration_timeout {
        let message = format!(
            "{:?} is not shorter than registration-timeout, {:?}, so that registrations would lapse",
            timers.register_interval, timers.registration_timeout
        );
        cx.problems.warning(&place("register-interval"), message, "make it a third of the time-out or less");
    }
    if timers.register_retry > timers.register_retry_max {
        let message = format!(
            "{:?} is longer than register-retry-max, {:?}",
            timers.register_retry, timers.register_retry_max
        );
        cx.problems.error(&place("register-retry"), message, "make it shorter, or raise register-retry-max");
    }
}

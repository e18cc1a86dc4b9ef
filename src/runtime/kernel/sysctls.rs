//! What stands in the way of forwarding, kernel parameters above all: found, and where the configuration says
//! so changed, noted in a file, and restored at exit or, after a crash, at the next start.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::KernelPlan;
use super::lock::{Lock, Resource};
use crate::io::netlink::{Interface, NetlinkError};
use crate::io::netns;
use crate::io::sysctl;
use crate::types::Family;

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What is wrong, and what follows.
    problem: String,
    /// Parameters and the values that they should have, in the order in which to set them.
    remedy: Vec<(String, String)>,
}

impl Finding {
    fn new(problem: String, remedy: &[(&str, &str)]) -> Self {
        let remedy = remedy.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { problem, remedy }
    }

    /// The sentence for the operator.
    pub(super) fn sentence(&self) -> String {
        if self.remedy.is_empty() {
            return self.problem.clone();
        }
        let settings: Vec<_> = self.remedy.iter().map(|(name, value)| setting(name, value)).collect();
        format!(
            "{}: run `sysctl -w {}`, or set `set-sysctls = true` in [kernel]",
            self.problem,
            settings.join(" ")
        )
    }
}

/// `net/ipv4/conf/eth0.7/rp_filter` as sysctl(8) wants it: `net.ipv4.conf.eth0/7.rp_filter=2`.
fn setting(name: &str, value: &str) -> String {
    let dotted: Vec<_> = name.split('/').map(|part| part.replace('.', "/")).collect();
    format!("{}={value}", dotted.join("."))
}

/// Looks for what stands in the way of `plan`.
pub(super) fn check(plan: &KernelPlan, interfaces: &[Interface]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if plan.instances.is_empty() {
        return findings;
    }
    for name in plan.missing_interfaces(interfaces) {
        let problem = format!(
            "there is no interface {name}, which the configuration names: correct the name, or plug it in; \
             it is used as soon as it appears"
        );
        findings.push(Finding::new(problem, &[]));
    }
    for name in plan.hidden_by_vrf(interfaces) {
        let problem = format!(
            "the kernel looks in the table of the VRF {name} before it comes to our rules: set \
             `rule-priority` below 1000 in [kernel]"
        );
        findings.push(Finding::new(problem, &[]));
    }
    let has = |family| plan.instances.iter().any(|instance| instance.has(family));
    let uplinks: BTreeSet<&str> =
        plan.uplinks(interfaces).iter().map(|uplink| uplink.name.as_str()).collect();
    let site: BTreeSet<&str> = plan
        .instances
        .iter()
        .flat_map(|instance| &instance.interfaces)
        .map(String::as_str)
        .filter(|name| interfaces.iter().any(|interface| interface.name == *name))
        .collect();
    if has(Family::Ipv4) {
        findings.extend(check_ipv4_forwarding(&site));
        findings.extend(check_reverse_path(uplinks.union(&site)));
    }
    if has(Family::Ipv6) {
        findings.extend(check_ipv6_forwarding(&uplinks, interfaces));
    }
    findings
}

fn check_ipv4_forwarding(site: &BTreeSet<&str>) -> Option<Finding> {
    let forwards = |name: &str| is(&format!("net/ipv4/conf/{name}/forwarding"), "1");
    let off: Vec<_> = site.iter().filter(|name| !forwards(name)).copied().collect();
    if (site.is_empty() && !is("net/ipv4/ip_forward", "1")) || (!off.is_empty() && off.len() == site.len()) {
        let problem =
            "IPv4 forwarding is off, so packets between the site and the tunnel are dropped".to_owned();
        return Some(Finding::new(problem, &[("net/ipv4/ip_forward", "1")]));
    }
    (!off.is_empty()).then(|| {
        let problem =
            format!("IPv4 forwarding is off on {}, so the site's packets are dropped there", off.join(", "));
        let names: Vec<_> = off.iter().map(|name| format!("net/ipv4/conf/{name}/forwarding")).collect();
        Finding::new(problem, &names.iter().map(|name| (name.as_str(), "1")).collect::<Vec<_>>())
    })
}

fn check_reverse_path<'a>(names: impl Iterator<Item = &'a &'a str>) -> Option<Finding> {
    let strict: Vec<_> = names.filter(|name| reverse_path_filter(name) == 1).copied().collect();
    (!strict.is_empty()).then(|| {
        let problem = format!(
            "rp_filter is strict on {}, so packets are dropped there whose answers go another way",
            strict.join(", ")
        );
        // "Loose" wins over "strict": the larger of the interface's value and that of "all" is in force.
        let names: Vec<_> = strict.iter().map(|name| format!("net/ipv4/conf/{name}/rp_filter")).collect();
        Finding::new(problem, &names.iter().map(|name| (name.as_str(), "2")).collect::<Vec<_>>())
    })
}

fn check_ipv6_forwarding(uplinks: &BTreeSet<&str>, interfaces: &[Interface]) -> Vec<Finding> {
    const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
    let Ok(forwarding) = sysctl::read(FORWARDING) else {
        let problem = "the site has IPv6 EID-prefixes, but this kernel has no IPv6: load it (`modprobe \
                       ipv6`, or boot without ipv6.disable=1) or remove them";
        return vec![Finding::new(problem.to_owned(), &[])];
    };
    let mut findings = Vec::new();
    for uplink in interfaces.iter().filter(|interface| uplinks.contains(interface.name.as_str())) {
        let accept = format!("net/ipv6/conf/{}/accept_ra", uplink.name);
        if uplink.addresses.iter().any(|address| address.autoconfigured) && is(&accept, "1") {
            let problem = format!(
                "{}'s IPv6 address comes from Router Advertisements, which the kernel ignores there once it \
                 forwards IPv6 packets, so that address and default route expire",
                uplink.name
            );
            findings.push(Finding::new(problem, &[(&accept, "2")]));
        }
    }
    if forwarding == "0" {
        let problem =
            "IPv6 forwarding is off, so packets between the site and the tunnel are dropped".to_owned();
        findings.push(Finding::new(problem, &[(FORWARDING, "1")]));
    }
    findings
}

/// The reverse path filter in force on an interface: 0 off, 1 strict, 2 loose (RFC 3704).
fn reverse_path_filter(interface: &str) -> u8 {
    let value = |name: &str| {
        sysctl::read(&format!("net/ipv4/conf/{name}/rp_filter"))
            .ok()
            .and_then(|v| v.parse().ok())
            .unwrap_or(0)
    };
    value("all").max(value(interface))
}

fn is(name: &str, value: &str) -> bool {
    sysctl::read(name).is_ok_and(|v| v == value)
}

/// Readies a TUN, which is ours to set as it suits, without noting anything, for it vanishes with us. To be
/// called before the TUN is set up; `no_multicast` is to take it out of multicast.
pub(super) async fn prepare_tun(
    name: &str,
    site_interfaces: &[String],
    ipv6: bool,
    no_multicast: impl Future<Output = Result<(), NetlinkError>>,
) {
    let set = |family: &str, parameter: &str, value: &str| {
        let parameter = format!("net/{family}/conf/{name}/{parameter}");
        if !is(&parameter, value)
            && let Err(error) = sysctl::write(&parameter, value)
        {
            debug!(parameter, value, %error, "sysctl of the TUN could not be set");
        }
    };
    // Decapsulated packets may come from anywhere.
    if reverse_path_filter(name) == 1 {
        set("ipv4", "rp_filter", "2");
    }
    // Where the site's interfaces forward, the TUN does, whatever the default for new interfaces is.
    let forwards = |name: &String| is(&format!("net/ipv4/conf/{name}/forwarding"), "1");
    let site_forwards = match site_interfaces {
        [] => is("net/ipv4/ip_forward", "1"),
        names => names.iter().all(forwards),
    };
    if site_forwards {
        set("ipv4", "forwarding", "1");
    }
    // What is sent on to where something has moved comes out of the TUN and goes into it again: no shorter
    // way is known.
    set("ipv4", "send_redirects", "0");
    if ipv6 {
        set("ipv6", "disable_ipv6", "0");
    }
    // What the kernel sends of itself has no business in the tunnel: no link-local address, thus no Router
    // Solicitations; no multicast, thus no membership reports, after leaving the group of all routers, which
    // is not left any more once multicast is off. MLD version 1 keeps silent about leaving what it never
    // reported.
    set("ipv6", "addr_gen_mode", "1");
    set("ipv6", "accept_ra", "0");
    set("ipv6", "force_mld_version", "1");
    let forwarding = sysctl::read(&format!("net/ipv6/conf/{name}/forwarding"));
    set("ipv6", "forwarding", "0");
    if let Err(error) = no_multicast.await {
        debug!(%error, "multicast reports will come to the TUN");
    }
    if let Ok(forwarding) = forwarding {
        set("ipv6", "forwarding", &forwarding);
    }
}

/// A parameter that we changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    name: String,
    before: String,
    after: String,
}

/// The parameters that we changed, and the file that says so for the case of a crash.
#[derive(Debug)]
pub(super) struct Sysctls {
    path: PathBuf,
    journal: Journal,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    /// Parameters do not outlive the boot …
    boot_id: String,
    /// … nor the network namespace.
    namespace: u64,
    /// Those changed, in this order.
    changes: Vec<Change>,
}

impl Sysctls {
    /// Nothing is changed yet. `priority` tells the routers of one namespace apart.
    pub(super) fn new(state_dir: &Path, priority: u32) -> io::Result<Self> {
        let journal = Journal { boot_id: boot_id()?, namespace: netns::current_id()?, changes: vec![] };
        Ok(Self { path: state_dir.join(file_name(journal.namespace, priority)), journal })
    }

    /// Sets what the findings ask for, each parameter once: where somebody sets it back, or it could not be
    /// set, there is no point in insisting. The findings that could not be dealt with are returned.
    pub(super) fn apply(&mut self, findings: Vec<Finding>) -> Vec<Finding> {
        let known = self.journal.changes.len();
        let tried = |changes: &[Change], name: &str| changes.iter().any(|change| change.name == name);
        let mut settings = Vec::new();
        for (name, after) in findings.iter().flat_map(|finding| &finding.remedy) {
            if tried(&self.journal.changes, name) {
                continue;
            }
            if let Ok(before) = sysctl::read(name) {
                self.journal.changes.extend(side_effects(name, after));
                self.journal.changes.push(Change { name: name.clone(), before, after: after.clone() });
                settings.push((name.clone(), after.clone()));
            }
        }
        if settings.is_empty() {
            return findings;
        }
        // First the note, then the deed.
        if let Err(error) = self.save() {
            self.journal.changes.truncate(known);
            let path = self.path.display();
            warn!(%path, %error, "sysctls stay as they are, because it cannot be noted what they were");
            return findings;
        }
        for (name, value) in settings {
            match sysctl::write(&name, &value) {
                Ok(()) => info!("set {}", setting(&name, &value)),
                Err(error) => warn!(%error, "{} could not be set", setting(&name, &value)),
            }
        }
        let open = |finding: &Finding| {
            finding.remedy.is_empty() || finding.remedy.iter().any(|(name, value)| !is(name, value))
        };
        findings.into_iter().filter(open).collect()
    }

    /// Sets one parameter that something needs to work at all. It is set even where that can't be noted, and
    /// is then restored at exit alone.
    pub(super) fn set(&mut self, name: &str, value: &str) -> io::Result<()> {
        let before = sysctl::read(name)?;
        if before == value {
            return Ok(());
        }
        if !self.journal.changes.iter().any(|change| change.name == name) {
            self.journal.changes.push(Change { name: name.to_owned(), before, after: value.to_owned() });
            if let Err(error) = self.save() {
                debug!(path = %self.path.display(), %error, "{name} is set, but it is not noted what it was");
            }
        }
        sysctl::write(name, value)
    }

    /// Puts everything back that nobody changed meanwhile.
    pub(super) fn restore(self) {
        self.journal.restore();
        remove(&self.path);
    }

    fn save(&self) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(&self.journal)?;
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let temporary = self.path.with_extension("tmp");
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        };
        let result = write();
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }
}

impl Journal {
    fn restore(&self) {
        // Some parameters set others, so what is still ours must be known before the first is touched.
        let ours: Vec<_> = self.changes.iter().filter(|change| is(&change.name, &change.after)).collect();
        for change in ours.into_iter().rev() {
            match sysctl::write(&change.name, &change.before) {
                Ok(()) if change.before != change.after => {
                    info!("restored {}", setting(&change.name, &change.before));
                }
                Ok(()) => {}
                Err(error) => {
                    warn!(%error, "{} could not be restored", setting(&change.name, &change.before))
                }
            }
        }
    }
}

/// What changes along when a parameter is set, so that it is restored behind it.
fn side_effects(name: &str, value: &str) -> Vec<Change> {
    let unchanged = |name: String, only: &str| {
        let before = sysctl::read(&name).ok().filter(|before| before == only)?;
        Some(Change { name, after: before.clone(), before })
    };
    match name {
        // Switching it off again switches it off everywhere, and redirects on.
        "net/ipv4/ip_forward" => {
            let interfaces = sysctl::list("net/ipv4/conf").unwrap_or_default();
            let mut changes: Vec<_> = interfaces
                .iter()
                .filter(|name| *name != "all")
                .filter_map(|name| unchanged(format!("net/ipv4/conf/{name}/forwarding"), "1"))
                .collect();
            const REDIRECTS: &str = "net/ipv4/conf/all/accept_redirects";
            if let Ok(before) = sysctl::read(REDIRECTS) {
                let after = if value == "1" { "0" } else { "1" };
                changes.push(Change { name: REDIRECTS.to_owned(), before, after: after.to_owned() });
            }
            changes
        }
        "net/ipv6/conf/all/forwarding" => {
            let interfaces = sysctl::list("net/ipv6/conf").unwrap_or_default();
            let others = interfaces.iter().filter(|name| *name != "all");
            others.filter_map(|name| unchanged(format!("net/ipv6/conf/{name}/forwarding"), "1")).collect()
        }
        _ => Vec::new(),
    }
}

/// Restores what routers of this namespace left changed that no longer run. `others_run` says whether a
/// router runs here that may rely on it; then it stays for that one's successor to clean.
pub(super) fn restore_stale(state_dir: &Path, others_run: bool) {
    let Ok(entries) = fs::read_dir(state_dir) else { return };
    let Ok(boot_id) = boot_id() else { return };
    let Ok(namespace) = netns::current_id() else { return };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let (namespace, priority) = parse_file_name(entry.file_name().to_str()?)?;
            Some((namespace, priority, entry.path()))
        })
        .collect();
    files.sort();
    for (file_namespace, priority, path) in files {
        let journal = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Journal>(&bytes).ok());
        if journal.as_ref().is_none_or(|journal| journal.boot_id != boot_id) {
            // Unreadable, or of another boot: says nothing of what is now.
            remove(&path);
            continue;
        }
        if file_namespace != namespace || others_run {
            continue;
        }
        if let (Some(journal), Ok(Some(_lock))) = (journal, Lock::take(Resource::Priority(priority))) {
            info!("a router that ended without cleaning up left sysctls changed");
            journal.restore();
            remove(&path);
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "could not be removed");
        }
        _ => {}
    }
}

fn boot_id() -> io::Result<String> {
    sysctl::read("kernel/random/boot_id")
}

fn file_name(namespace: u64, priority: u32) -> String {
    format!("sysctls-{namespace}-{priority}.json")
}

fn parse_file_name(name: &str) -> Option<(u64, u32)> {
    let (namespace, priority) = name.strip_prefix("sysctls-")?.strip_suffix(".json")?.split_once('-')?;
    Some((namespace.parse().ok()?, priority.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_the_command() {
        let finding =
            Finding::new("all is lost".into(), &[("net/ipv4/conf/eth0.7/rp_filter", "2"), ("net/x", "1")]);
        assert_eq!(
            finding.sentence(),
            "all is lost: run `sysctl -w net.ipv4.conf.eth0/7.rp_filter=2 net.x=1`, or set `set-sysctls = \
             true` in [kernel]"
        );
    }

    #[test]
    fn file_names_tell_namespace_and_priority() {
        assert_eq!(parse_file_name(&file_name(17, 4341)), Some((17, 4341)));
        assert_eq!(parse_file_name("sysctls-x-1.json"), None);
        assert_eq!(parse_file_name("sysctls-1-1.tmp"), None);
    }

    #[test]
    fn files_of_another_boot_and_broken_ones_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let namespace = netns::current_id().unwrap();
        let write = |priority, text: &str| {
            let path = directory.path().join(file_name(namespace, priority));
            fs::write(&path, text).unwrap();
            path
        };
        let broken = write(1, "{");
        let change = r#"{"name": "kernel/ostype", "before": "x", "after": "y"}"#;
        let old =
            write(2, &format!(r#"{{"boot_id": "x", "namespace": {namespace}, "changes": [{change}]}}"#));
        let other = directory.path().join("map-cache.json");
        fs::write(&other, "").unwrap();
        restore_stale(directory.path(), false);
        assert!(!broken.exists() && !old.exists() && other.exists());
    }

    #[test]
    fn where_nothing_can_be_noted_nothing_is_changed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut sysctls = Sysctls::new(&file.path().join("no-directory"), 1).unwrap();
        let finding = Finding::new("x".into(), &[("kernel/ostype", "Plan 9")]);
        assert_eq!(sysctls.apply(vec![finding.clone()]), vec![finding]);
        assert!(sysctls.journal.changes.is_empty());
    }
}

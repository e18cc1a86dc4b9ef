//! What a reload changes, in words.

use std::collections::BTreeMap;

use super::control_loop::forwards;
use crate::config::Config;
use crate::proto::config::{ControlConfig, ItrConfig, ProxyEtr};
use crate::types::{EidPrefix, InstanceId};

/// What differs and can't be changed while the router runs, all of it, as part of a sentence. `more_directions`: roles
/// of the new configuration want packets to pass in a direction for which there are no threads.
pub(super) fn unchangeable(old: &Config, new: &Config, more_directions: bool) -> Option<String> {
    let fixed = [
        ("[data-plane]", new.data_plane != old.data_plane),
        ("[management]", new.management != old.management),
        ("[router] state-dir", new.router.state_dir != old.router.state_dir),
        ("[log] format", new.log.format != old.log.format),
        ("[[instance]]", tuns(new) != tuns(old)),
        ("roles", forwards(new) != forwards(old) || more_directions),
    ];
    let mut what: Vec<&str> = fixed.iter().filter(|(_, changed)| *changed).map(|(what, _)| *what).collect();
    let last = what.pop()?;
    Some(if what.is_empty() { last.to_owned() } else { format!("{} and {last}", what.join(", ")) })
}

fn tuns(config: &Config) -> Vec<(InstanceId, &str)> {
    config.instances.iter().map(|instance| (instance.iid, instance.tun.as_str())).collect()
}

/// A line for every part of the control plane's configuration that differs. Keys are compared, but never
/// shown.
pub(super) fn differences(old: &ControlConfig, new: &ControlConfig) -> Vec<String> {
    let mut lines = Vec::new();
    compare(
        &mut lines,
        "EID-prefix",
        old.database.iter().map(|entry| (entry.eid.to_string(), entry)),
        new.database.iter().map(|entry| (entry.eid.to_string(), entry)),
    );
    compare(
        &mut lines,
        "dynamic EID-prefix",
        old.dynamic_eids.iter().map(|entry| (entry.prefix.to_string(), entry)),
        new.dynamic_eids.iter().map(|entry| (entry.prefix.to_string(), entry)),
    );
    let servers =
        |config: &'_ ControlConfig| config.etr.clone().map(|etr| etr.map_servers).unwrap_or_default();
    compare(
        &mut lines,
        "Map-Server",
        servers(old).into_iter().map(|server| (server.name.clone(), server)),
        servers(new).into_iter().map(|server| (server.name.clone(), server)),
    );
    let sites =
        |config: &'_ ControlConfig| config.map_server.clone().map(|server| server.sites).unwrap_or_default();
    compare(
        &mut lines,
        "site",
        sites(old).into_iter().map(|site| (site.name.clone(), site)),
        sites(new).into_iter().map(|site| (site.name.clone(), site)),
    );
    compare(
        &mut lines,
        "proxy-ETR",
        proxy_etrs(old).map(|proxy| (proxy.host.to_string(), proxy)),
        proxy_etrs(new).map(|proxy| (proxy.host.to_string(), proxy)),
    );
    let rest = [
        ("Map-Resolvers or map-cache limit", asking(old) != asking(new)),
        ("EID-prefixes of the proxy-ITR", proxied(old).0 != proxied(new).0),
        ("EID-prefixes of the proxy-ETR", proxied(old).1 != proxied(new).1),
        ("locators of the proxy", old.locators != new.locators),
        ("xTR-ID or Site-ID", old.etr.as_ref().map(|e| e.xtr_site) != new.etr.as_ref().map(|e| e.xtr_site)),
        ("forwarding to other Map-Servers", old.map_resolver != new.map_resolver),
        ("probing", old.probing != new.probing),
        ("synchronisation", old.sync != new.sync),
        ("timers", old.timers != new.timers),
    ];
    lines.extend(rest.iter().filter(|(_, differs)| *differs).map(|(what, _)| format!("{what} changed")));
    lines
}

fn proxy_etrs(config: &ControlConfig) -> impl Iterator<Item = &ProxyEtr> {
    config.itr.iter().flat_map(|itr| &itr.proxy_etrs)
}

/// The ITR's configuration without what is compared by itself.
fn asking(config: &ControlConfig) -> Option<ItrConfig> {
    let itr = config.itr.clone()?;
    Some(ItrConfig { proxy_etrs: Vec::new(), proxy_for: Vec::new(), ..itr })
}

fn proxied(config: &ControlConfig) -> (Option<&[EidPrefix]>, Option<&[EidPrefix]>) {
    let ingress = config.itr.as_ref().map(|itr| &itr.proxy_for[..]);
    (ingress, config.etr.as_ref().map(|etr| &etr.proxy_for[..]))
}

fn compare<T: PartialEq>(
    lines: &mut Vec<String>,
    what: &str,
    old: impl Iterator<Item = (String, T)>,
    new: impl Iterator<Item = (String, T)>,
) {
    let mut old: BTreeMap<String, T> = old.collect();
    for (name, item) in new {
        match old.remove(&name) {
            None => lines.push(format!("{what} {name} added")),
            Some(before) if before != item => lines.push(format!("{what} {name} changed")),
            Some(_) => {}
        }
    }
    lines.extend(old.into_keys().map(|name| format!("{what} {name} removed")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::config::DatabaseEntry;
    use crate::types::Ttl;

    #[test]
    fn all_that_cannot_be_changed_is_named() {
        let text = "roles = [\"itr\"]\n[[map-resolver]]\naddress = \"203.0.113.10\"\n\
                    [[eid-prefix]]\nprefix = \"10.1.0.0/16\"\n[[eid-prefix.locator]]\naddress = \"192.0.2.1\"\n";
        let parse = |text: &str| {
            crate::config::parse(std::path::Path::new("x.toml"), text, &crate::config::System).unwrap().config
        };
        let old = parse(text);
        assert_eq!(unchangeable(&old, &old, false), None);
        let mut new = old.clone();
        new.router.state_dir = "/elsewhere".into();
        assert_eq!(unchangeable(&old, &new, false).as_deref(), Some("[router] state-dir"));
        new.management.socket = "/elsewhere/control.sock".into();
        new.instances.clear();
        let all = "[management], [router] state-dir, [[instance]] and roles";
        assert_eq!(unchangeable(&old, &new, true).as_deref(), Some(all));
    }

    #[test]
    fn what_differs_is_named_and_what_does_not_is_not() {
        let entry = |prefix: &str, ttl| DatabaseEntry {
            eid: prefix.parse::<ipnet::IpNet>().unwrap().into(),
            ttl: Ttl(ttl),
            register: true,
            map_servers: None,
            locators: Vec::new(),
        };
        let with = |database| ControlConfig {
            database,
            itr: Some(ItrConfig::default()),
            ..ControlConfig::default()
        };
        let old = with(vec![entry("10.1.0.0/16", 60), entry("10.2.0.0/16", 60), entry("10.3.0.0/16", 60)]);
        let mut new = with(vec![entry("10.1.0.0/16", 60), entry("10.3.0.0/16", 5), entry("10.4.0.0/16", 60)]);
        assert!(differences(&old, &old).is_empty());
        new.timers.request_retries += 1;
        assert_eq!(
            differences(&old, &new),
            [
                "EID-prefix 10.3.0.0/16 changed",
                "EID-prefix 10.4.0.0/16 added",
                "EID-prefix 10.2.0.0/16 removed",
                "timers changed"
            ]
        );
    }
}

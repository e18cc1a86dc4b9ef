//! Table of what this router has to do with a DDT.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::text::{append, count, interval, prefix, table};
use crate::mgmt::view::{Ddt, DdtKind};

/// `show ddt`
pub fn ddt(view: &Ddt) -> String {
    let mut text = String::new();
    if let Some(node) = &view.node {
        let authoritative: Vec<String> = node.authoritative.iter().map(prefix).collect();
        let of = if authoritative.is_empty() { "nothing".into() } else { authoritative.join(", ") };
        let _ = writeln!(text, "DDT node, authoritative for {of}");
        let mut lines = table(["Delegated", "To", "Addresses", ""], &[]);
        for d in &node.delegations {
            let hint = if d.hint { "hint" } else { "" };
            lines.add_row([prefix(&d.prefix), kind(d.kind).into(), addresses(&d.to), hint.into()]);
        }
        append(&mut text, &lines, 2);
    }
    if let Some(sent) = &view.sent {
        if !view.map_server_peers.is_empty() {
            let _ =
                writeln!(text, "Map-Servers of the same EID-prefixes: {}", addresses(&view.map_server_peers));
        }
        referrals(&mut text, "sent", sent);
    }
    if let Some(resolver) = &view.resolver {
        if !text.is_empty() {
            text.push('\n');
        }
        let roots = resolver.roots.iter().map(|root| match &root.addresses[..] {
            [] => format!("{} (address unknown)", root.host),
            [only] if only.to_string() == root.host => root.host.clone(),
            all => format!("{} ({})", root.host, addresses(all)),
        });
        let _ = writeln!(text, "Searches begin at {}", roots.collect::<Vec<_>>().join(", "));
        referrals(&mut text, "received", &resolver.received);
        let _ = writeln!(text, "Map-Requests under way: {}", resolver.pending);
        let _ = writeln!(text, "{} remembered", count(resolver.cache.len(), "referral", "referrals"));
        let mut lines = table(["EID-prefix", "TTL", "To", "Addresses"], &[]);
        for r in &resolver.cache {
            lines.add_row([prefix(&r.prefix), interval(r.ttl), kind(r.kind).into(), addresses(&r.to)]);
        }
        append(&mut text, &lines, 2);
    }
    if text.is_empty() {
        text.push_str(
            "No DDT: this is neither DDT node nor Map-Server, nor a Map-Resolver with roots in [ddt]\n",
        );
    }
    text
}

const fn kind(kind: DdtKind) -> &'static str {
    match kind {
        DdtKind::Nodes => "DDT nodes",
        DdtKind::MapServers => "Map-Servers",
        DdtKind::Nobody => "nobody",
    }
}

fn addresses(all: &[IpAddr]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn referrals(text: &mut String, way: &str, counts: &BTreeMap<String, u64>) {
    let _ = writeln!(text, "Map-Referrals {way}: {}", counts.values().sum::<u64>());
    for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
        let _ = writeln!(text, "  {name}: {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mgmt::view::{DdtDelegation, DdtNode, DdtReferral, DdtResolver, DdtRoot};
    use crate::types::EidPrefix;

    fn eid(text: &str) -> EidPrefix {
        text.parse::<ipnet::IpNet>().unwrap().into()
    }

    #[test]
    fn node_and_search_are_shown() {
        let to = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let delegation = |prefix, hint| DdtDelegation {
            prefix: eid(prefix),
            kind: DdtKind::MapServers,
            to: to.clone(),
            hint,
        };
        let delegations = vec![delegation("10.1.0.0/16", false), delegation("2001:db8::/32", true)];
        let node = DdtNode { authoritative: vec![eid("10.0.0.0/8")], delegations };
        let counts =
            |counts: &[(&str, u64)]| counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let cached = |prefix, kind, to: &[IpAddr], ttl| DdtReferral {
            prefix: eid(prefix),
            kind,
            to: to.to_vec(),
            ttl,
        };
        let resolver = DdtResolver {
            roots: vec![
                DdtRoot { host: "192.0.2.9".into(), addresses: vec!["192.0.2.9".parse().unwrap()] },
                DdtRoot { host: "root.example".into(), addresses: vec![] },
            ],
            pending: 3,
            received: counts(&[("ms-ack", 7), ("node-referral", 2)]),
            cache: vec![
                cached("10.0.0.0/8", DdtKind::Nodes, &to, 86_399),
                cached("11.0.0.0/8", DdtKind::Nobody, &[], 61),
            ],
        };
        let view = Ddt {
            node: Some(node),
            map_server_peers: Vec::new(),
            sent: Some(counts(&[("delegation-hole", 4), ("ms-referral", 0)])),
            resolver: Some(resolver),
        };
        let text = ddt(&view);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "DDT node, authoritative for 10.0.0.0/8",
            "10.1.0.0/16 Map-Servers 192.0.2.1 2001:db8::1",
            "2001:db8::/32 Map-Servers 192.0.2.1 2001:db8::1 hint",
            "Map-Referrals sent: 4",
            "delegation-hole: 4",
            "Searches begin at 192.0.2.9, root.example (address unknown)",
            "Map-Referrals received: 9",
            "ms-ack: 7",
            "Map-Requests under way: 3",
            "2 referrals remembered",
            "10.0.0.0/8 23:59:59 DDT nodes 192.0.2.1 2001:db8::1",
            "11.0.0.0/8 00:01:01 nobody",
        ] {
            assert!(lines.contains(&line.to_owned()), "{line}\n{text}");
        }
        assert!(!text.contains("ms-referral"), "{text}");
        assert!(ddt(&Ddt::default()).starts_with("No DDT"));
    }
}

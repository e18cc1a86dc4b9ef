//! The Delegated Database Tree.

use super::*;
use crate::proto::config::Host;

const NODE: &str = "roles = [\"ddt-node\"]\n[ddt]\nauthoritative = [\"10.0.0.0/8\", \"[7]::/0\"]\n";
const RESOLVER: &str = "roles = [\"map-resolver\"]\n[ddt]\nroots = [\"192.0.2.1\", \"root.example\"]\n";

#[test]
fn a_node_delegates_to_nodes_and_to_map_servers() {
    let node = config(&format!(
        "{NODE}[[ddt.delegation]]\nprefix = \"10.1.0.0/16\"\nnodes = [\"192.0.2.1\"]\n\
         [[ddt.delegation]]\nprefix = \"::/1\"\ninstance-id = 7\n\
         map-servers = [\"192.0.2.2\", \"2001:db8::2\"]\n"
    ));
    let node = node.control.ddt.node.expect("the role");
    assert_eq!(
        node.authoritative.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "[7]::/0"]
    );
    let said = node.delegations.iter().map(|d| (d.prefix.to_string(), d.to.len(), d.map_servers));
    assert_eq!(said.collect::<Vec<_>>(), [("10.1.0.0/16".into(), 1, false), ("[7]::/1".into(), 2, true)]);
}

#[test]
fn a_map_resolver_needs_no_map_server_if_it_has_roots() {
    let ddt = config(RESOLVER).control.ddt;
    assert_eq!(ddt.roots, [Host::Address("192.0.2.1".parse().unwrap()), Host::Name("root.example".into())]);
    assert!(ddt.node.is_none() && ddt.map_server_peers.is_empty());
}

#[test]
fn mistakes_are_named() {
    let delegation = "[[ddt.delegation]]\nprefix = \"10.1.0.0/16\"\n";
    for (text, problem) in [
        ("roles = [\"ddt-node\"]\n".to_owned(), "role \"ddt-node\" needs something to say"),
        (format!("{NODE}{delegation}"), "ddt.delegation[1].nodes: it is not clear to whom"),
        (
            format!("{NODE}{delegation}nodes = [\"192.0.2.1\"]\nmap-servers = [\"192.0.2.1\"]\n"),
            "it is not clear to whom",
        ),
        (format!("{NODE}{delegation}nodes = []\n"), "ddt.delegation[1].nodes: is empty"),
        (format!("{NODE}{delegation}nodes = [\"127.0.0.1\"]\n"), "127.0.0.1 is a loopback address"),
        (
            format!("{NODE}{delegation}nodes = [\"192.0.2.1\"]\n{delegation}nodes = [\"192.0.2.2\"]\n"),
            "10.1.0.0/16 is already in line",
        ),
        (format!("{NODE}root = []\n"), "unknown key"),
    ] {
        let report = parse_text(&text).expect_err(problem).to_string();
        assert!(report.contains(problem), "{problem}: {report}");
    }
    assert!(
        said(&format!("{MS}[ddt]\nroots = [\"192.0.2.1\"]\n"))
            .contains("not used without role \"map-resolver\"")
    );
    assert!(
        said(&format!("{XTR}[ddt]\nauthoritative = [\"::/0\"]\n"))
            .contains("not used without role \"ddt-node\"")
    );
}

//! What is planned for which configuration.

use std::net::IpAddr;
use std::path::Path;

use super::*;
use crate::io::netlink::InterfaceAddress;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn instance(iid: u32, prefixes: &[&str]) -> InstancePlan {
    InstancePlan {
        iid: InstanceId::new(iid).unwrap(),
        tun: format!("lisp{iid}"),
        eid_prefixes: prefixes.iter().map(|p| net(p)).collect(),
        dynamic: Vec::new(),
        destinations: Vec::new(),
        proxied: Vec::new(),
        egress: Vec::new(),
        interfaces: Vec::new(),
        gateways: Vec::new(),
        table: 4341 + iid,
        site_table: TABLE_MAIN,
    }
}

fn plan(instances: Vec<InstancePlan>) -> KernelPlan {
    KernelPlan {
        routing: RoutingMode::Default,
        rule_priority: 100,
        set_sysctls: false,
        state_dir: PathBuf::new(),
        tun_mtu: None,
        locators: Vec::new(),
        instances,
    }
}

fn rules(plan: &KernelPlan) -> Vec<String> {
    plan.rules().iter().map(ToString::to_string).collect()
}

fn interface(name: &str, mtu: u32, addresses: &[&str]) -> Interface {
    Interface {
        index: 1,
        name: name.into(),
        kind: None,
        mtu,
        up: true,
        running: true,
        loopback: name == "lo",
        addresses: addresses
            .iter()
            .map(|a| InterfaceAddress {
                address: a.parse().unwrap(),
                prefix_len: 24,
                usable: true,
                deprecated: false,
                temporary: false,
                autoconfigured: false,
            })
            .collect(),
    }
}

#[test]
fn one_instance_needs_two_rules_per_prefix() {
    assert_eq!(
        rules(&plan(vec![instance(0, &["10.1.0.0/16", "10.1.2.0/24", "2001:db8:1::/48"])])),
        [
            "IPv4 rule 101: from 10.1.0.0/16 lookup 254 suppress_prefixlength 0",
            "IPv4 rule 102: from 10.1.0.0/16 lookup 4341",
            "IPv6 rule 101: from 2001:db8:1::/48 lookup 254 suppress_prefixlength 0",
            "IPv6 rule 102: from 2001:db8:1::/48 lookup 4341",
        ]
    );
}

#[test]
fn overlapping_instances_are_told_apart_by_interface() {
    let mut plan = plan(vec![instance(0, &["10.1.0.0/16"]), instance(7, &["10.1.0.0/16"])]);
    plan.instances[0].interfaces = vec!["eth0".into()];
    plan.instances[1].interfaces = vec!["vlan7".into()];
    plan.instances[1].site_table = 1007;
    assert_eq!(
        rules(&plan),
        [
            "IPv4 rule 100: from all iif lisp7 lookup 1007",
            "IPv4 rule 101: from 10.1.0.0/16 iif eth0 lookup 254 suppress_prefixlength 0",
            "IPv4 rule 101: from 10.1.0.0/16 iif lo lookup 254 suppress_prefixlength 0",
            "IPv4 rule 101: from 10.1.0.0/16 iif vlan7 lookup 1007 suppress_prefixlength 0",
            "IPv4 rule 102: from 10.1.0.0/16 iif eth0 lookup 4341",
            "IPv4 rule 102: from 10.1.0.0/16 iif lo lookup 4341",
            "IPv4 rule 102: from 10.1.0.0/16 iif vlan7 lookup 4348",
        ]
    );
}

/// Packets to a virtual gateway come in by an interface of its own, which may not be there yet.
#[test]
fn packets_to_virtual_gateways_belong_to_the_instance_of_the_interface_below() {
    let text = r#"
        roles = ["itr"]
        locator = [{ address = "192.0.2.1" }]
        map-resolver = [{ address = "203.0.113.1" }]
        [[eid-prefix]]
        prefix = "10.1.0.0/16"
        [[eid-prefix]]
        prefix = "10.1.0.0/16"
        instance-id = 7
        [[instance]]
        instance-id = 0
        interfaces = ["eth0"]
        [[instance]]
        instance-id = 7
        interfaces = ["vlan7"]
        [[vrrp]]
        interface = "vlan7"
        vrid = 10
        addresses = ["10.1.0.254"]
        [[vrrp]]
        interface = "eth0"
        vrid = 10
        addresses = ["10.1.0.254"]
        virtual-mac = false
    "#;
    let loaded = crate::config::parse(Path::new("x.toml"), text, &crate::config::System).unwrap();
    let plan = KernelPlan::new(&loaded.config);
    let [first, second] = &plan.instances[..] else { panic!("two instances") };
    assert_eq!(first.gateways, [] as [String; 0]);
    let [name] = &second.gateways[..] else { panic!("one gateway: {:?}", second.gateways) };
    assert!(name.starts_with("vrrp4.10.") && name.len() <= 15, "{name}");
    let expected = format!("IPv4 rule 4343: from 10.1.0.0/16 iif {name} lookup 4342");
    assert!(rules(&plan).contains(&expected), "{expected} is not in {:#?}", rules(&plan));
    assert!(plan.missing_interfaces(&[]).iter().all(|missing| missing != name), "it comes and goes");
}

#[test]
fn the_plan_is_what_the_configuration_says() {
    let text = r#"
        roles = ["itr", "etr"]
        [router]
        state-dir = "/run/x"
        [[locator]]
        address = "192.0.2.1"
        weight = 50
        [[locator]]
        interface = "wan0"
        family = "ipv4"
        weight = 50
        [[locator]]
        address = "198.51.100.2"
        priority = 2
        local = false
        [[eid-prefix]]
        prefix = "10.1.0.0/16"
        [[eid-prefix]]
        prefix = "2001:db8:1::/48"
        [[eid-prefix]]
        prefix = "10.1.0.0/16"
        instance-id = 7
        [[map-server]]
        address = "203.0.113.10"
        key = "0123456789abcdef"
        [[map-resolver]]
        address = "203.0.113.10"
        [[instance]]
        instance-id = 0
        interfaces = ["lan0"]
        [[instance]]
        instance-id = 7
        tun = "seven"
        interfaces = ["vlan7"]
        table = 1007
        [kernel]
        routing = "prefixes"
        prefixes = ["10.2.0.0/16", "[7]10.3.0.0/16"]
        table = 5000
        rule-priority = 500
        set-sysctls = true
        tun-mtu = 1400
    "#;
    let loaded = crate::config::parse(Path::new("x.toml"), text, &crate::config::System).unwrap();
    let instance =
        |iid, tun: &str, eids: &[&str], destination, interface: &str, table, site_table| InstancePlan {
            tun: tun.into(),
            destinations: vec![net(destination)],
            interfaces: vec![interface.into()],
            table,
            site_table,
            ..instance(iid, eids)
        };
    let expected = KernelPlan {
        routing: RoutingMode::Prefixes,
        rule_priority: 500,
        set_sysctls: true,
        state_dir: "/run/x".into(),
        tun_mtu: Some(1400),
        locators: vec![
            LocatorSource::Address("192.0.2.1".parse().unwrap()),
            LocatorSource::Interface { name: "wan0".into(), family: Family::Ipv4 },
        ],
        instances: vec![
            instance(0, "lisp0", &["10.1.0.0/16", "2001:db8:1::/48"], "10.2.0.0/16", "lan0", 5000, 254),
            instance(7, "seven", &["10.1.0.0/16"], "10.3.0.0/16", "vlan7", 5001, 1007),
        ],
    };
    assert_eq!(KernelPlan::new(&loaded.config), expected);
}

#[test]
fn what_is_made_here_finds_a_site_whose_routes_are_elsewhere() {
    let mut plan = plan(vec![instance(7, &["10.1.0.0/16"]), instance(8, &["10.2.0.0/16", "10.3.0.0/16"])]);
    plan.instances[1].interfaces = vec!["vlan8".into()];
    plan.instances[1].site_table = 1008;
    let made_here = |plan: &KernelPlan| {
        let to = rules(plan).into_iter().filter(|rule| rule.contains(" to "));
        to.collect::<Vec<_>>()
    };
    assert_eq!(
        made_here(&plan),
        [
            "IPv4 rule 101: from all to 10.2.0.0/16 iif lo lookup 1008 suppress_prefixlength 0",
            "IPv4 rule 101: from all to 10.3.0.0/16 iif lo lookup 1008 suppress_prefixlength 0",
        ]
    );
    plan.instances[0].eid_prefixes = vec![net("10.2.7.0/24")];
    assert_eq!(made_here(&plan).len(), 1, "10.2.0.0/16 may mean either");
}

#[test]
fn a_proxy_itr_gets_what_goes_to_its_prefixes_unless_a_more_specific_route_is_there() {
    let mut plan = plan(vec![instance(0, &[]), instance(7, &[])]);
    plan.instances[0].proxied = vec![net("10.2.0.0/16"), net("10.2.3.0/24"), net("2001:db8:2::/48")];
    plan.instances[1].proxied = vec![net("10.2.0.0/16")];
    plan.instances[1].interfaces = vec!["vlan7".into()];
    plan.instances[1].site_table = 1007;
    assert_eq!(
        rules(&plan),
        [
            "IPv4 rule 100: from all iif lisp7 lookup 1007",
            "IPv4 rule 101: from all to 10.2.0.0/16 lookup 254 suppress_prefixlength 16",
            "IPv4 rule 101: from all to 10.2.0.0/16 iif vlan7 lookup 1007 suppress_prefixlength 16",
            "IPv4 rule 102: from all to 10.2.0.0/16 lookup 4341",
            "IPv4 rule 102: from all to 10.2.0.0/16 iif vlan7 lookup 4348",
            "IPv6 rule 101: from all to 2001:db8:2::/48 lookup 254 suppress_prefixlength 48",
            "IPv6 rule 102: from all to 2001:db8:2::/48 lookup 4341",
        ]
    );
    let proxy = &plan.instances[0];
    assert_eq!(
        proxy.tun_destinations(RoutingMode::Default),
        [net("10.2.0.0/16"), net("10.2.3.0/24"), net("2001:db8:2::/48")].into()
    );
    assert!(proxy.has(Family::Ipv6) && proxy.proxies_overlap(&plan.instances[1]));
    // Left to the kernel, they would come back.
    let both = InstancePlan { eid_prefixes: vec![net("10.1.0.0/16")], ..proxy.clone() };
    assert!(both.may_forward_natively(net("10.0.0.0/8")) && both.may_forward_natively(net("10.3.0.0/16")));
    assert!(!both.may_forward_natively(net("10.2.9.0/24")));
}

#[test]
fn a_proxy_etr_needs_a_tun_and_no_rules() {
    let mut plan = plan(vec![instance(0, &[])]);
    plan.instances[0].egress = vec![net("2001:db8:2::/48")];
    assert!(rules(&plan).is_empty() && plan.instances[0].tun_destinations(RoutingMode::Default).is_empty());
    assert!(plan.instances[0].has(Family::Ipv6) && !plan.instances[0].has(Family::Ipv4));
    assert!(!plan.instances[0].may_forward_natively(net("2001:db8::/32")));
}

#[test]
fn vrfs_that_come_first_are_noticed() {
    let mut plan = plan(vec![instance(0, &["10.1.0.0/16"])]);
    plan.instances[0].interfaces = vec!["blue".into()];
    let mut interfaces = [interface("blue", 65_535, &[]), interface("red", 65_535, &[])];
    for interface in &mut interfaces {
        interface.kind = Some("vrf".into());
    }
    assert!(plan.hidden_by_vrf(&interfaces).is_empty());
    plan.rule_priority = 4341;
    assert_eq!(plan.hidden_by_vrf(&interfaces), ["blue"]);
    plan.routing = RoutingMode::None;
    assert!(plan.hidden_by_vrf(&interfaces).is_empty());
}

#[test]
fn routing_by_hand_means_no_rules_no_tables_no_routes() {
    let mut plan = plan(vec![instance(0, &["10.1.0.0/16"])]);
    plan.routing = RoutingMode::None;
    assert!(plan.rules().is_empty());
    assert!(plan.tables().is_empty());
    assert!(plan.instances[0].tun_destinations(RoutingMode::None).is_empty());
}

#[test]
fn only_families_that_the_site_has_are_routed() {
    let mut instance = instance(0, &["10.1.0.0/16"]);
    assert_eq!(instance.tun_destinations(RoutingMode::Default), [net("0.0.0.0/0")].into());
    instance.destinations = vec![net("10.2.0.0/16"), net("2001:db8:2::/48")];
    assert_eq!(instance.tun_destinations(RoutingMode::Prefixes), [net("10.2.0.0/16")].into());
}

#[test]
fn a_native_prefix_takes_the_more_specific_destinations_along_but_not_the_exceptions() {
    let mut instance = instance(0, &["10.1.0.0/16"]);
    instance.destinations = vec![net("10.2.0.0/16"), net("10.3.0.0/16"), net("192.0.2.0/24")];
    let routes = |routing, native: &[&str], exceptions: &[&str]| {
        let nets = |texts: &[&str]| texts.iter().map(|n| net(n)).collect();
        let routes = instance.native_routes(routing, &nets(native), &nets(exceptions), Some(1), None);
        let name = |r: Route| {
            let target = if r.target == RouteTarget::Throw { "kernel" } else { "tun" };
            format!("{} {target}", r.destination)
        };
        let mut names: Vec<_> = routes.into_iter().map(name).collect();
        names.sort();
        names
    };
    let (default, prefixes) = (RoutingMode::Default, RoutingMode::Prefixes);
    assert_eq!(
        routes(prefixes, &["10.0.0.0/8"], &[]),
        ["10.0.0.0/8 kernel", "10.2.0.0/16 kernel", "10.3.0.0/16 kernel"]
    );
    assert_eq!(routes(default, &["10.0.0.0/8"], &[]), ["10.0.0.0/8 kernel"]);
    assert_eq!(routes(default, &["2001:db8::/32"], &[]), [] as [&str; 0], "the site has no such EIDs");
    assert_eq!(
        routes(default, &["10.0.0.0/8", "10.2.1.0/24"], &["10.2.0.0/16"]),
        ["10.0.0.0/8 kernel", "10.2.0.0/16 tun", "10.2.1.0/24 kernel"]
    );
    // What is no destination of ours stays none, and what an exception covers is not left to the kernel.
    assert_eq!(
        routes(prefixes, &["10.0.0.0/8"], &["10.4.0.0/16", "10.2.0.0/15", "10.2.7.0/24"]),
        ["10.0.0.0/8 kernel", "10.2.7.0/24 tun"]
    );
}

#[test]
fn the_mtu_leaves_room_for_the_encapsulation() {
    let eids = instance(0, &["10.1.0.0/16"]);
    let mut plan = plan(vec![eids.clone()]);
    let interfaces = [
        interface("lo", 65_536, &["127.0.0.1", "192.0.2.99"]),
        interface("eth0", 1500, &["192.0.2.1"]),
        interface("eth1", 1400, &["192.0.2.2", "2001:db8::2"]),
        interface("eth2", 9000, &["192.0.2.3"]),
    ];
    let address = |a: &str| LocatorSource::Address(a.parse::<IpAddr>().unwrap());
    plan.locators = vec![address("192.0.2.1")];
    assert_eq!(plan.mtu(&eids, &interfaces), Some(1500 - 36));
    plan.locators = vec![address("192.0.2.1"), address("2001:db8::2")];
    assert_eq!(plan.mtu(&eids, &interfaces), Some(1400 - 56));
    plan.locators = vec![LocatorSource::Interface { name: "eth2".into(), family: Family::Ipv4 }];
    assert_eq!(plan.mtu(&eids, &interfaces), Some(9000 - 36));
    // On the loopback interface, or on an interface that isn't there: the smallest possible uplink counts.
    plan.locators = vec![address("192.0.2.99")];
    assert_eq!(plan.mtu(&eids, &interfaces), Some(1400 - 36));
    plan.locators = Vec::new();
    assert_eq!(plan.mtu(&eids, &interfaces), Some(1400 - 56));
    plan.tun_mtu = Some(1300);
    assert_eq!(plan.mtu(&eids, &interfaces), Some(1300));
    plan.tun_mtu = Some(1000);
    assert_eq!(plan.mtu(&instance(0, &["2001:db8:1::/48"]), &interfaces), Some(1280));
    plan.tun_mtu = None;
    assert_eq!(plan.mtu(&eids, &[]), None);
}

#[test]
fn what_may_move_is_looked_up_in_our_table_before_anything_else() {
    let mut plan = plan(vec![instance(0, &["10.1.0.0/16"]), instance(7, &[])]);
    plan.instances[0].dynamic = vec![net("10.1.0.0/16"), net("2001:db8:9::/48")];
    plan.instances[1].dynamic = vec![net("10.9.0.0/16")];
    plan.instances[1].interfaces = vec!["vlan7".into()];
    plan.instances[1].site_table = 1007;
    let rules = rules(&plan);
    let first: Vec<&String> = rules.iter().filter(|rule| rule.contains("rule 100:")).collect();
    assert_eq!(
        first,
        [
            "IPv4 rule 100: from all to 10.1.0.0/16 lookup 4341 suppress_prefixlength 15",
            "IPv4 rule 100: from all to 10.9.0.0/16 iif lisp7 lookup 4348 suppress_prefixlength 15",
            "IPv4 rule 100: from all to 10.9.0.0/16 iif lo lookup 4348 suppress_prefixlength 15",
            "IPv4 rule 100: from all to 10.9.0.0/16 iif vlan7 lookup 4348 suppress_prefixlength 15",
            "IPv6 rule 100: from all to 2001:db8:9::/48 lookup 4341 suppress_prefixlength 47",
        ]
    );
    assert!(rules.contains(&"IPv4 rule 101: from all iif lisp7 lookup 1007".to_owned()));
    assert!(rules.contains(&"IPv4 rule 102: from 10.1.0.0/16 lookup 254 suppress_prefixlength 0".to_owned()));
    assert!(rules.contains(&"IPv6 rule 103: from 2001:db8:9::/48 lookup 4341".to_owned()));
    assert!(rules.contains(&"IPv4 rule 103: from 10.9.0.0/16 iif vlan7 lookup 4348".to_owned()));
    assert!(plan.priorities().contains(&103) && plan.instances[1].has(Family::Ipv4));
}

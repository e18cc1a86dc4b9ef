//! Kernel integration, against this machine's kernel: every test in network namespaces of its own, which vanish with
//! the threads that made them. Needs root.
#![cfg(feature = "router")]

use std::fmt::Write as _;
use std::future::Future;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use eidolon::config::RoutingMode;
use eidolon::io::netlink::{Interface, InterfaceMonitor, Netlink, NetworkEvent, TABLE_MAIN};
use eidolon::io::netns;
use eidolon::proto::config::LocatorSource;
use eidolon::runtime::kernel::{
    InstancePlan, KernelError, KernelIntegration, KernelPlan, PROTOCOL, StartupError,
};
use eidolon::types::{EidPrefix, Family, InstanceId};
use tempfile::TempDir;
use tokio::time::timeout;
use tun_tap::{Iface, Mode};

/// How long something that must happen may take, on a machine however slow.
const PATIENCE: Duration = Duration::from_secs(20);

// --- rules and routes ----------------------------------------------------------------------------------------------

#[test]
fn mode_default_sends_what_the_site_does_not_know_to_the_tun() {
    in_namespace(async || {
        let site = Site::new();
        let before = routing_state();
        let kernel = KernelIntegration::install(site.plan()).await.unwrap();
        assert_eq!(
            our_rules(),
            "4342: from 10.1.0.0/16 lookup main suppress_prefixlength 0 proto 153\n\
             4343: from 10.1.0.0/16 lookup 4341 proto 153\n\
             4342: from 2001:db8:1::/48 lookup main suppress_prefixlength 0 proto 153\n\
             4343: from 2001:db8:1::/48 lookup 4341 proto 153\n"
        );
        assert_eq!(
            table(4341),
            "default dev lisp0 proto 153 scope link metric 1024\n\
             default dev lisp0 proto 153 metric 1024 pref medium\n"
        );
        for (family, destination, source) in
            [("-4", "203.0.113.9", "10.1.0.5"), ("-6", "2001:db8:ffff::9", "2001:db8:1::5")]
        {
            assert_eq!(forwarded(family, destination, source, "lan0"), "lisp0");
            assert_eq!(forwarded(family, destination, source, "lan1"), "lisp0");
        }
        // Between the site's own networks, and of others than the site: as ever.
        assert_eq!(forwarded("-4", "10.1.1.5", "10.1.0.5", "lan0"), "lan1");
        assert_eq!(forwarded("-6", "2001:db8:1:1::5", "2001:db8:1::5", "lan0"), "lan1");
        assert_eq!(forwarded("-4", "203.0.113.9", "172.16.0.5", "lan0"), "wan0");
        // The router itself: by its locators as ever, by its EIDs through the tunnel.
        assert_eq!(sent("-4", "203.0.113.9", None), "wan0");
        assert_eq!(sent("-4", "203.0.113.9", Some("192.0.2.1")), "wan0");
        assert_eq!(sent("-4", "203.0.113.9", Some("10.1.0.1")), "lisp0");
        assert_eq!(sent("-6", "2001:db8:ffff::9", Some("2001:db8:1::1")), "lisp0");
        assert_eq!(sent("-4", "10.1.1.5", Some("10.1.0.1")), "lan1");

        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn mode_prefixes_sends_only_those_listed_to_the_tun() {
    in_namespace(async || {
        let site = Site::new();
        let before = routing_state();
        let mut plan = site.plan();
        plan.routing = RoutingMode::Prefixes;
        plan.instances[0].destinations = nets(&["10.0.0.0/8", "2001:db8:2::/48"]);
        let kernel = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(
            table(4341),
            "10.0.0.0/8 dev lisp0 proto 153 scope link metric 1024\n\
             2001:db8:2::/48 dev lisp0 proto 153 metric 1024 pref medium\n"
        );
        assert_eq!(forwarded("-4", "10.2.0.9", "10.1.0.5", "lan0"), "lisp0");
        assert_eq!(forwarded("-4", "10.1.1.5", "10.1.0.5", "lan0"), "lan1");
        assert_eq!(forwarded("-4", "203.0.113.9", "10.1.0.5", "lan0"), "wan0");
        assert_eq!(forwarded("-6", "2001:db8:2::9", "2001:db8:1::5", "lan0"), "lisp0");
        assert_eq!(forwarded("-6", "2001:db8:3::9", "2001:db8:1::5", "lan0"), "wan0");
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn mode_none_leaves_routing_to_the_operator() {
    in_namespace(async || {
        let site = Site::new();
        let before = routing_state();
        let mut plan = site.plan();
        plan.routing = RoutingMode::None;
        // Routes of the operator's own, even in a table with our number, are no obstacle.
        ip("route add default dev lan0 table 4341");
        let mut kernel = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(our_rules(), "");
        assert!(!kernel.apply_native(prefix("203.0.113.0/24"), true).await.unwrap());
        assert_eq!(table(4341), "default dev lan0 scope link\n");
        assert!(interface("lisp0").await.unwrap().up, "the TUN is set up in any case");
        ip("route del default dev lan0 table 4341");
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn overlapping_instances_are_routed_by_interface_and_each_to_its_own_table() {
    in_namespace(async || {
        let site = Site::new();
        let _tun7 = tun("lisp7");
        ip("link add vlan7 type veth peer name vlan7p");
        up(&["vlan7", "vlan7p"]);
        ip("addr add 10.7.0.1/24 dev vlan7");
        ip("route add 10.1.0.0/24 dev vlan7 table 1007");
        let before = routing_state();
        let mut plan = site.plan();
        plan.instances[0].interfaces = vec!["lan0".into(), "lan1".into()];
        plan.instances.push(InstancePlan {
            iid: InstanceId::new(7).unwrap(),
            tun: "lisp7".into(),
            eid_prefixes: nets(&["10.1.0.0/16"]),
            destinations: vec![],
            interfaces: vec!["vlan7".into()],
            table: 4342,
            site_table: 1007,
        });
        let ambiguous = {
            let mut plan = plan.clone();
            plan.instances[0].interfaces.clear();
            KernelIntegration::install(plan).await.unwrap_err()
        };
        assert!(matches!(ambiguous, KernelError::Ambiguous { .. }), "{ambiguous}");
        assert_eq!(routing_state(), before);

        let kernel = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(forwarded("-4", "203.0.113.9", "10.1.0.5", "lan0"), "lisp0");
        assert_eq!(forwarded("-4", "203.0.113.9", "10.1.0.5", "vlan7"), "lisp7");
        // The same destination lies in the one site and in the other.
        assert_eq!(forwarded("-4", "10.1.0.9", "10.1.1.5", "lan1"), "lan0");
        assert_eq!(forwarded("-4", "10.1.0.9", "10.1.1.5", "vlan7"), "vlan7");
        // Decapsulated packets, from another site's EIDs.
        assert_eq!(forwarded("-4", "10.1.0.9", "10.2.0.5", "lisp0"), "lan0");
        assert_eq!(forwarded("-4", "10.1.0.9", "10.2.0.5", "lisp7"), "vlan7");
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn what_a_crash_left_is_cleaned_at_the_next_start() {
    in_namespace(async || {
        let mut site = Site::new();
        let before = routing_state();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        assert!(kernel.apply_native(prefix("203.0.113.0/24"), true).await.unwrap());
        assert!(kernel.apply_native(prefix("2001:db8:ffff::/48"), true).await.unwrap());
        drop(kernel);
        site.tuns.clear();
        assert_eq!(our_rules().lines().count(), 4, "rules stay when a router is killed");
        assert_eq!(table(4341).lines().count(), 2, "and so do throw routes: {}", table(4341));
        // Meanwhile the site's packets are routed as if there had never been a router.
        assert_eq!(forwarded("-4", "198.51.100.9", "10.1.0.5", "lan0"), "wan0");

        // The next router may even have another configuration.
        site.tuns.push(tun("lisp0"));
        let mut plan = site.plan();
        plan.rule_priority = 500;
        plan.instances[0].table = 5000;
        let kernel = KernelIntegration::install(plan).await.unwrap();
        assert!(our_rules().lines().all(|rule| rule.starts_with("50")), "{}", our_rules());
        assert_eq!(table(4341), "");
        assert_eq!(forwarded("-4", "198.51.100.9", "10.1.0.5", "lan0"), "lisp0");
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn routers_of_one_namespace_do_not_disturb_each_other() {
    in_namespace(async || {
        let site = Site::new();
        let _tun1 = tun("lisp1");
        let before = routing_state();
        let first = KernelIntegration::install(site.plan()).await.unwrap();
        let with_first = routing_state();
        let mut plan = site.plan();
        plan.instances[0].tun = "lisp1".into();
        plan.instances[0].eid_prefixes = nets(&["10.9.0.0/16"]);

        plan.rule_priority = 500;
        let error = KernelIntegration::install(plan.clone()).await.unwrap_err();
        assert!(matches!(error, KernelError::TableTaken(4341)), "{error}");
        plan.rule_priority = 4343;
        plan.instances[0].table = 5000;
        let error = KernelIntegration::install(plan.clone()).await.unwrap_err();
        assert!(matches!(error, KernelError::PriorityTaken(4343)), "{error}");
        assert_eq!(routing_state(), with_first);

        plan.rule_priority = 500;
        let second = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(our_rules().lines().count(), 6);
        first.remove().await.unwrap();
        assert_eq!(our_rules().lines().count(), 2);
        assert_eq!(forwarded("-4", "203.0.113.9", "10.9.0.5", "lan0"), "lisp1");
        second.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn a_table_with_foreign_routes_is_refused_and_left_alone() {
    in_namespace(async || {
        let site = Site::new();
        ip("-6 route add 2001:db8:9::/48 dev lan0 table 4341");
        let before = routing_state();
        let error = KernelIntegration::install(site.plan()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "table 4341 already holds a route 2001:db8:9::/48 dev #{} in table 4341 that is not ours; choose \
                 another `table` in [kernel]",
                interface("lan0").await.unwrap().index
            )
        );
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn a_reload_touches_only_what_changed() {
    in_namespace(async || {
        let site = Site::new();
        let before = routing_state();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        assert!(kernel.apply_native(prefix("203.0.113.0/24"), true).await.unwrap());
        let installed = routing_state();

        let directory = TempDir::new().unwrap();
        let mut monitor = RouteLog::start(&directory.path().join("log"));
        let mut plan = site.plan();
        plan.instances[0].eid_prefixes.push("10.9.0.0/16".parse().unwrap());
        kernel.update(plan.clone()).await.unwrap();
        assert_eq!(our_rules().lines().count(), 6);
        assert_eq!(
            monitor.lines(2),
            [
                "4342: from 10.9.0.0/16 lookup main suppress_prefixlength 0 proto 153",
                "4343: from 10.9.0.0/16 lookup 4341 proto 153",
            ]
        );
        kernel.update(plan).await.unwrap();
        kernel.update(site.plan()).await.unwrap();
        assert_eq!(
            monitor.lines(4)[2..],
            [
                "Deleted 4343: from 10.9.0.0/16 lookup 4341 proto 153",
                "Deleted 4342: from 10.9.0.0/16 lookup main suppress_prefixlength 0 proto 153",
            ]
        );
        assert_eq!(routing_state(), installed, "natively forwarded prefixes survive as well");

        // To another table, other priorities and another mode, and back.
        let mut plan = site.plan();
        plan.rule_priority = 500;
        plan.routing = RoutingMode::Prefixes;
        plan.instances[0].table = 5000;
        plan.instances[0].destinations = nets(&["10.2.0.0/16"]);
        kernel.update(plan.clone()).await.unwrap();
        assert_eq!(table(4341), "");
        assert_eq!(
            table(5000),
            "10.2.0.0/16 dev lisp0 proto 153 scope link metric 1024\n\
             throw 203.0.113.0/24 proto 153 metric 512\n"
        );
        assert_eq!(forwarded("-4", "10.2.0.9", "10.1.0.5", "lan0"), "lisp0");
        assert!(our_rules().lines().all(|rule| rule.starts_with("50")), "{}", our_rules());

        // A plan that can't be: the old one holds.
        let working = routing_state();
        ip("route add 10.77.0.0/16 dev lan0 table 6000");
        let with_obstacle = routing_state();
        plan.instances[0].table = 6000;
        plan.rule_priority = 900;
        let error = kernel.update(plan.clone()).await.unwrap_err();
        assert!(matches!(error, KernelError::TableInUse { table: 6000, .. }), "{error}");
        assert_eq!(routing_state(), with_obstacle);
        ip("route del 10.77.0.0/16 dev lan0 table 6000");
        plan.instances[0].table = 5000;
        plan.instances[0].tun = "nowhere0".into();
        let error = kernel.update(plan).await.unwrap_err();
        assert!(matches!(&error, KernelError::NoTun(name) if name == "nowhere0"), "{error}");
        assert_eq!(routing_state(), working);

        kernel.update(site.plan()).await.unwrap();
        assert_eq!(routing_state(), installed);
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn instances_come_and_go_with_a_reload() {
    in_namespace(async || {
        let mut site = Site::new();
        let before = routing_state();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        let installed = routing_state();
        site.tuns.push(tun("lisp7"));
        let mut plan = site.plan();
        plan.instances.push(InstancePlan {
            iid: InstanceId::new(7).unwrap(),
            tun: "lisp7".into(),
            eid_prefixes: nets(&["10.7.0.0/16"]),
            table: 4342,
            ..plan.instances[0].clone()
        });
        kernel.update(plan).await.unwrap();
        assert_eq!(forwarded("-4", "203.0.113.9", "10.7.0.5", "lan0"), "lisp7");
        assert_eq!(forwarded("-4", "203.0.113.9", "10.1.0.5", "lan0"), "lisp0");
        kernel.update(site.plan()).await.unwrap();
        site.tuns.pop();
        assert_eq!(routing_state(), installed);
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn natively_forwarded_prefixes_are_routed_by_the_kernel() {
    in_namespace(async || {
        let site = Site::new();
        let before = routing_state();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        let installed = routing_state();
        let out = || {
            (
                forwarded("-4", "203.0.113.9", "10.1.0.5", "lan0"),
                forwarded("-6", "2001:db8:ffff::9", "2001:db8:1::5", "lan0"),
            )
        };
        let (tun, wan) = ("lisp0".to_owned(), "wan0".to_owned());
        assert_eq!(out(), (tun.clone(), tun.clone()));
        assert!(kernel.apply_native(prefix("203.0.113.0/24"), true).await.unwrap());
        assert_eq!(out(), (wan.clone(), tun.clone()));
        assert!(kernel.apply_native(prefix("2001:db8:ffff::/48"), true).await.unwrap());
        assert_eq!(out(), (wan.clone(), wan.clone()));
        assert_eq!(forwarded("-4", "203.0.114.9", "10.1.0.5", "lan0"), "lisp0");
        assert!(!kernel.apply_native(prefix("203.0.113.0/24"), false).await.unwrap());
        assert!(!kernel.apply_native(prefix("2001:db8:ffff::/48"), false).await.unwrap());
        assert_eq!(out(), (tun.clone(), tun.clone()));

        // As broad as the route to the TUN itself, as where no site is registered at all.
        for everything in ["0.0.0.0/0", "::/0"] {
            assert!(kernel.apply_native(prefix(everything), true).await.unwrap());
            assert!(kernel.apply_native(prefix(everything), true).await.unwrap());
        }
        assert_eq!(out(), (wan.clone(), wan));
        for everything in ["0.0.0.0/0", "::/0"] {
            assert!(!kernel.apply_native(prefix(everything), false).await.unwrap());
        }
        assert_eq!(out(), (tun.clone(), tun));

        // Of no instance that there is.
        let foreign = EidPrefix::new(InstanceId::new(9).unwrap(), "203.0.113.0/24".parse().unwrap());
        assert!(!kernel.apply_native(foreign, true).await.unwrap());
        assert_eq!(routing_state(), installed);

        // Broader than a listed destination.
        let mut plan = site.plan();
        plan.routing = RoutingMode::Prefixes;
        plan.instances[0].destinations = nets(&["203.0.113.0/24"]);
        kernel.update(plan).await.unwrap();
        assert!(kernel.apply_native(prefix("203.0.0.0/16"), true).await.unwrap());
        assert!(kernel.apply_native(prefix("203.0.113.0/25"), true).await.unwrap());
        assert_eq!(forwarded("-4", "203.0.113.9", "10.1.0.5", "lan0"), "wan0");
        kernel.apply_native(prefix("203.0.0.0/16"), false).await.unwrap();
        assert_eq!(forwarded("-4", "203.0.113.9", "10.1.0.5", "lan0"), "wan0");
        assert_eq!(forwarded("-4", "203.0.113.200", "10.1.0.5", "lan0"), "lisp0");
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
    });
}

#[test]
fn what_others_delete_is_put_back() {
    in_namespace(async || {
        let site = Site::new();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        let installed = routing_state();
        let mut monitor = InterfaceMonitor::open(Netlink::open().unwrap(), PROTOCOL).unwrap();
        ip("rule del priority 4343");
        ip("-6 rule del priority 4342");
        ip("route flush table 4341");
        while timeout(PATIENCE, monitor.next()).await.unwrap() != NetworkEvent::RuleDeleted {}
        kernel.repair().await.unwrap();
        assert_eq!(routing_state(), installed);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn routes_come_back_with_the_tun() {
    in_namespace(async || {
        let site = Site::new();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        let netlink = Netlink::open().unwrap();
        let installed = table(4341);
        ip("link set lisp0 down");
        kernel.interfaces_changed(&netlink.interfaces().await.unwrap()).await.unwrap();
        assert_eq!(table(4341), "");
        kernel.repair().await.unwrap();
        ip("link set lisp0 up");
        kernel.interfaces_changed(&netlink.interfaces().await.unwrap()).await.unwrap();
        assert_eq!(table(4341), installed);
        kernel.remove().await.unwrap();
    });
}

// --- the TUN -------------------------------------------------------------------------------------------------------

#[test]
fn the_tun_mtu_follows_the_uplink() {
    in_namespace(async || {
        let site = Site::new();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        let netlink = Netlink::open().unwrap();
        assert_eq!(interface("lisp0").await.unwrap().mtu, 1500 - 36);
        assert_eq!(kernel.tun_mtu(InstanceId::DEFAULT), Some(1500 - 36));
        ip("link set wan0 mtu 9000");
        kernel.interfaces_changed(&netlink.interfaces().await.unwrap()).await.unwrap();
        assert_eq!(interface("lisp0").await.unwrap().mtu, 9000 - 36);
        assert_eq!(kernel.tun_mtu(InstanceId::DEFAULT), Some(9000 - 36));
        let mut plan = site.plan();
        plan.locators.push(LocatorSource::Interface { name: "wan0".into(), family: Family::Ipv6 });
        kernel.update(plan.clone()).await.unwrap();
        assert_eq!(interface("lisp0").await.unwrap().mtu, 9000 - 56);
        plan.tun_mtu = Some(1400);
        kernel.update(plan).await.unwrap();
        assert_eq!(interface("lisp0").await.unwrap().mtu, 1400);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn only_what_the_site_sends_elsewhere_comes_to_the_tun() {
    in_namespace(async || {
        let mut site = Site::new();
        let mut plan = site.plan();
        plan.set_sysctls = true;
        let kernel = KernelIntegration::install(plan).await.unwrap();
        let (host0, host1) =
            (Host::on("lan0", "10.1.0", "2001:db8:1:0:"), Host::on("lan1", "10.1.1", "2001:db8:1:1:"));
        let wan = Host::on("wan0", "192.0.2", "2001:db8:f:0:");
        let tunnelled = Tunnelled::start(site.tuns.remove(0));

        host1.listen(7001);
        wan.listen(7002);
        host0.send("10.1.1.2", 7001, "to the other network of the site");
        host0.send("2001:db8:1:1::2", 7001, "to the other network of the site, IPv6");
        assert_eq!(host1.received(), "to the other network of the site");
        assert_eq!(host1.received(), "to the other network of the site, IPv6");
        host0.send("192.0.2.2", 7002, "to the underlay that the router is connected to");
        assert_eq!(wan.received(), "to the underlay that the router is connected to");
        host0.send("10.1.0.1", 9, "to the router");
        wan.send("10.1.0.2", 9, "from the underlay");
        let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
        socket.send_to(b"the router's own, by its locator", "203.0.113.9:9").unwrap();

        host0.send("203.0.113.9", 9, "to another site");
        host1.send("2001:db8:ffff::9", 9, "to another site, IPv6");
        let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
        socket.send_to(b"the router's own, by its EID", "203.0.113.9:9").unwrap();
        assert_eq!(
            tunnelled.payloads(3),
            ["the router's own, by its EID", "to another site", "to another site, IPv6"]
        );
        kernel.remove().await.unwrap();
    });
}

// --- sysctls -------------------------------------------------------------------------------------------------------

#[test]
fn sysctls_are_reported_and_left_alone_unless_told_otherwise() {
    in_namespace(async || {
        let site = Site::new();
        set_obstacles();
        let before = sysctls();
        let kernel = KernelIntegration::install(site.plan()).await.unwrap();
        assert_eq!(
            kernel.warnings(),
            [
                "IPv4 forwarding is off, so packets between the site and the tunnel are dropped: run `sysctl -w \
                 net.ipv4.ip_forward=1`, or set `set-sysctls = true` in [kernel]",
                "rp_filter is strict on wan0, so packets are dropped there whose answers go another way: run `sysctl \
                 -w net.ipv4.conf.wan0.rp_filter=2`, or set `set-sysctls = true` in [kernel]",
                "IPv6 forwarding is off, so packets between the site and the tunnel are dropped: run `sysctl -w \
                 net.ipv6.conf.all.forwarding=1`, or set `set-sysctls = true` in [kernel]",
            ]
        );
        assert_eq!(sysctls(), before);
        assert_eq!(sysctl("ipv4/conf/lisp0/rp_filter"), "2", "of our own TUN we dispose");
        kernel.remove().await.unwrap();
        assert_eq!(sysctls(), before);
    });
}

#[test]
fn sysctls_are_set_and_restored() {
    in_namespace(async || {
        let site = Site::new();
        set_obstacles();
        // What setting another one changes along.
        write_sysctl("ipv4/conf/lan1/forwarding", "1");
        write_sysctl("ipv6/conf/lan1/forwarding", "1");
        write_sysctl("ipv4/conf/all/accept_redirects", "0");
        let before = sysctls();
        let mut plan = site.plan();
        plan.set_sysctls = true;
        let kernel = KernelIntegration::install(plan.clone()).await.unwrap();
        assert!(kernel.warnings().is_empty(), "{:?}", kernel.warnings());
        for (name, value) in
            [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"), ("ipv4/conf/wan0/rp_filter", "2")]
        {
            assert_eq!(sysctl(name), value, "{name}");
        }
        assert_eq!(state_files(&site), 1);
        kernel.remove().await.unwrap();
        assert_eq!(sysctls(), before);
        assert_eq!(state_files(&site), 0);

        // What somebody else changed meanwhile is his.
        let kernel = KernelIntegration::install(plan.clone()).await.unwrap();
        write_sysctl("ipv4/conf/wan0/rp_filter", "0");
        kernel.remove().await.unwrap();
        assert_eq!(sysctl("ipv4/conf/wan0/rp_filter"), "0");
        write_sysctl("ipv4/conf/wan0/rp_filter", "1");
        assert_eq!(sysctls(), before);

        // After a crash, at the next start.
        drop(KernelIntegration::install(plan).await.unwrap());
        assert_ne!(sysctls(), before);
        let mut plan = site.plan();
        plan.rule_priority = 500;
        let kernel = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(sysctls(), before);
        assert_eq!(state_files(&site), 0);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn sysctls_stay_while_another_router_needs_them() {
    in_namespace(async || {
        let site = Site::new();
        let _tun1 = tun("lisp1");
        set_obstacles();
        let before = sysctls();
        let mut plan = site.plan();
        plan.set_sysctls = true;
        let first = KernelIntegration::install(plan.clone()).await.unwrap();
        plan.rule_priority = 500;
        plan.instances[0].table = 5000;
        plan.instances[0].tun = "lisp1".into();
        plan.instances[0].eid_prefixes = nets(&["10.9.0.0/16"]);
        let second = KernelIntegration::install(plan.clone()).await.unwrap();
        first.remove().await.unwrap();
        assert_eq!(sysctl("ipv4/ip_forward"), "1");
        second.remove().await.unwrap();
        // The first one's successor cleans up.
        plan.set_sysctls = false;
        let third = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(sysctls(), before);
        third.remove().await.unwrap();
    });
}

#[test]
fn an_uplink_that_lives_on_router_advertisements_is_told_apart() {
    in_namespace(async || {
        let site = Site::new();
        // As if made from an advertisement: it expires.
        write_sysctl("ipv6/conf/wan0/accept_ra", "1");
        ip("-6 addr add 2001:db8:f:0::77/64 dev wan0 valid_lft 3600 preferred_lft 3600 nodad");
        let mut plan = site.plan();
        plan.set_sysctls = true;
        let kernel = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(sysctl("ipv6/conf/wan0/accept_ra"), "2");
        kernel.remove().await.unwrap();
        assert_eq!(sysctl("ipv6/conf/wan0/accept_ra"), "1");
    });
}

// --- interfaces ----------------------------------------------------------------------------------------------------

#[test]
fn every_change_of_an_interface_is_told() {
    in_namespace(async || {
        let mut monitor = InterfaceMonitor::open(Netlink::open().unwrap(), PROTOCOL).unwrap();
        assert_eq!(next(&mut monitor).await, event("lo", &[]));
        ip("link set lo up");
        assert_eq!(last_of(&mut monitor, "lo", 0).await, Vec::<IpAddr>::new(), "host scope");
        ip("link add wan0 type veth peer name wan0p");
        up(&["wan0", "wan0p"]);
        for name in ["wan0", "wan0p"] {
            write_sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0");
        }
        ip("addr add 192.0.2.1/24 dev wan0");
        assert_eq!(last_of(&mut monitor, "wan0", 1).await, addresses(&["192.0.2.1"]));
        ip("addr add 2001:db8::1/64 dev wan0 nodad");
        ip("addr add 192.0.2.7/24 dev wan0");
        assert_eq!(
            last_of(&mut monitor, "wan0", 3).await,
            addresses(&["192.0.2.1", "192.0.2.7", "2001:db8::1"])
        );
        ip("addr change 2001:db8::1/64 dev wan0 preferred_lft 0");
        assert_eq!(last_of(&mut monitor, "wan0", 2).await, addresses(&["192.0.2.1", "192.0.2.7"]));
        ip("addr del 192.0.2.7/24 dev wan0");
        assert_eq!(last_of(&mut monitor, "wan0", 1).await, addresses(&["192.0.2.1"]));
        // The carrier goes, and comes back.
        ip("link set wan0p down");
        assert_eq!(last_of(&mut monitor, "wan0", 0).await, addresses(&[]));
        ip("link set wan0p up");
        assert_eq!(last_of(&mut monitor, "wan0", 1).await, addresses(&["192.0.2.1"]));
        ip("link set wan0 down");
        assert_eq!(last_of(&mut monitor, "wan0", 0).await, addresses(&[]));
        ip("link set wan0 up");
        assert_eq!(last_of(&mut monitor, "wan0", 1).await, addresses(&["192.0.2.1"]));
        ip("link set wan0 down");
        assert_eq!(last_of(&mut monitor, "wan0", 0).await, addresses(&[]));
        ip("link set wan0 name uplink");
        ip("link set uplink up");
        assert_eq!(last_of(&mut monitor, "uplink", 1).await, addresses(&["192.0.2.1"]));
        assert!(!monitor.interfaces().iter().any(|interface| interface.name == "wan0"));
        ip("link set uplink mtu 1400");
        assert_eq!(last_of(&mut monitor, "uplink", 1).await, addresses(&["192.0.2.1"]));
        let uplink = monitor.interfaces().iter().find(|interface| interface.name == "uplink").unwrap();
        assert_eq!((uplink.mtu, uplink.kind.as_deref(), uplink.running), (1400, Some("veth"), true));
        ip("link del uplink");
        assert_eq!(last_of(&mut monitor, "uplink", 0).await, addresses(&[]));
        assert_eq!(monitor.interfaces().len(), 1);
    });
}

#[test]
fn tentative_addresses_are_told_once_they_are_usable() {
    in_namespace(async || {
        let mut monitor = InterfaceMonitor::open(Netlink::open().unwrap(), PROTOCOL).unwrap();
        ip("link add wan0 type veth peer name wan0p");
        up(&["wan0", "wan0p"]);
        ip("addr add 2001:db8::1/64 dev wan0");
        let seen = || ip("-6 addr show dev wan0 tentative");
        assert!(seen().contains("2001:db8::1"), "duplicate address detection is off: {}", seen());
        let first = last_of(&mut monitor, "wan0", 1).await;
        assert_eq!(first, addresses(&["2001:db8::1"]));
        assert!(!seen().contains("2001:db8::1"));
    });
}

#[test]
fn lost_announcements_cost_nothing() {
    in_namespace(async || {
        let mut monitor = InterfaceMonitor::open(Netlink::open().unwrap(), PROTOCOL).unwrap();
        ip("link add wan0 type veth peer name wan0p");
        up(&["wan0", "wan0p"]);
        ip("addr add 192.0.2.1/24 dev wan0");
        assert_eq!(last_of(&mut monitor, "wan0", 1).await, addresses(&["192.0.2.1"]));
        // More than the socket's buffer holds, while nobody reads.
        let mut batch = String::new();
        for _ in 0..3000 {
            batch.push_str("addr add 192.0.2.99/24 dev wan0\naddr del 192.0.2.99/24 dev wan0\n");
        }
        let _ = writeln!(batch, "addr add 192.0.2.2/24 dev wan0");
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("batch");
        std::fs::write(&path, batch).unwrap();
        ip(&format!("-batch {}", path.display()));
        assert_eq!(last_of(&mut monitor, "wan0", 2).await, addresses(&["192.0.2.1", "192.0.2.2"]));
        ip("addr del 192.0.2.1/24 dev wan0");
        assert_eq!(
            last_of(&mut monitor, "wan0", 0).await,
            addresses(&[]),
            "secondaries go with their primary"
        );
    });
}

// --- start-up ------------------------------------------------------------------------------------------------------

#[test]
fn what_prevents_a_start_is_said_in_a_sentence() {
    in_namespace(async || {
        let site = Site::new();
        StartupError::check_privilege().unwrap();
        StartupError::check_tun_device().unwrap();
        let interfaces = Netlink::open().unwrap().interfaces().await.unwrap();
        let mut plan = site.plan();
        assert_eq!(
            StartupError::check_tun_names(&plan, &interfaces).unwrap_err().to_string(),
            "there is already a TUN interface (of another running program, or a persistent one) named lisp0; choose \
             another `tun` name in [[instance]] (instance-id 0), or remove it by `ip link delete lisp0`"
        );
        plan.instances[0].tun = "lan0".into();
        let error = StartupError::check_tun_names(&plan, &interfaces).unwrap_err();
        assert!(error.to_string().starts_with("there is already a veth interface named lan0"), "{error}");
        plan.instances[0].tun = "lisp9".into();
        StartupError::check_tun_names(&plan, &interfaces).unwrap();

        let holder = UdpSocket::bind("0.0.0.0:4341").unwrap();
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(
            StartupError::port_taken(4341).to_string(),
            format!(
                "UDP port 4341 is taken by {} (process {}); stop that program, or run the router in a network \
                 namespace of its own",
                name.trim_end(),
                std::process::id()
            )
        );
        drop(holder);
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(StartupError::tun_device(&error), StartupError::NoTunDevice);

        plan.rule_priority = 32_766;
        plan.instances[0].tun = "lisp0".into();
        let error = KernelIntegration::install(plan.clone()).await.unwrap_err();
        assert!(matches!(error, KernelError::PriorityRange(32_766)), "{error}");
        plan.rule_priority = 4341;
        plan.instances[0].table = TABLE_MAIN;
        let error = KernelIntegration::install(plan).await.unwrap_err();
        assert!(matches!(error, KernelError::TableReserved(TABLE_MAIN)), "{error}");
    });
}

// --- scenery -------------------------------------------------------------------------------------------------------

/// Runs `test` in a network namespace of its own.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let result = thread::spawn(move || {
        netns::enter_new().expect("these tests make network namespaces: run them as root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    })
    .join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// A router with an uplink, two networks of its site, and a TUN.
struct Site {
    tuns: Vec<Iface>,
    state: TempDir,
}

impl Site {
    fn new() -> Self {
        ip("link set lo up");
        for (name, ipv4, ipv6) in [
            ("wan0", "192.0.2.1/24", "2001:db8:f::1/64"),
            ("lan0", "10.1.0.1/24", "2001:db8:1::1/64"),
            ("lan1", "10.1.1.1/24", "2001:db8:1:1::1/64"),
        ] {
            ip(&format!("link add {name} type veth peer name {name}p"));
            up(&[name, &format!("{name}p")]);
            ip(&format!("addr add {ipv4} dev {name}"));
            ip(&format!("addr add {ipv6} dev {name} nodad"));
            // Link-local addresses come when they come; here they only disturb comparisons.
            write_sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0");
        }
        ip("route add default via 192.0.2.254");
        ip("-6 route add default via 2001:db8:f::fe");
        // What depends on the machine, made certain.
        for name in ["all", "wan0", "lan0", "lan1"] {
            write_sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0");
        }
        write_sysctl("ipv4/ip_forward", "1");
        write_sysctl("ipv6/conf/all/forwarding", "1");
        Self { tuns: vec![tun("lisp0")], state: TempDir::new().unwrap() }
    }

    fn plan(&self) -> KernelPlan {
        KernelPlan {
            routing: RoutingMode::Default,
            rule_priority: 4341,
            set_sysctls: false,
            state_dir: self.state.path().to_owned(),
            tun_mtu: None,
            locators: vec![LocatorSource::Address("192.0.2.1".parse().unwrap())],
            instances: vec![InstancePlan {
                iid: InstanceId::DEFAULT,
                tun: "lisp0".into(),
                eid_prefixes: nets(&["10.1.0.0/16", "2001:db8:1::/48"]),
                destinations: vec![],
                interfaces: vec![],
                table: 4341,
                site_table: TABLE_MAIN,
            }],
        }
    }
}

fn tun(name: &str) -> Iface {
    Iface::without_packet_info(name, Mode::Tun).unwrap()
}

fn nets<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    nets(texts)
}

fn prefix(text: &str) -> EidPrefix {
    EidPrefix::new(InstanceId::DEFAULT, text.parse().unwrap())
}

/// Runs `ip` in the calling thread's namespace.
fn ip(arguments: &str) -> String {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("ip (iproute2) is needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn up(names: &[&str]) {
    for name in names {
        ip(&format!("link set {name} up"));
    }
}

/// `ip`'s output with one space between words.
fn words(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| {
        let line: Vec<_> = line.split_whitespace().collect();
        all + &line.join(" ") + "\n"
    })
}

/// Our rules, IPv4 first.
fn our_rules() -> String {
    let all = words(&ip("-N -4 rule show")) + &words(&ip("-N -6 rule show"));
    let ours = all.lines().filter(|line| line.ends_with("proto 153"));
    ours.map(|line| line.replace("lookup 254", "lookup main") + "\n").collect()
}

/// A table's routes, IPv4 first.
fn table(table: u32) -> String {
    let show = |family: &str| {
        let arguments = format!("{family} route show table {table}");
        let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
        // "FIB table does not exist" is an error for `ip`; for us it is an empty table.
        words(&String::from_utf8(output.stdout).unwrap())
    };
    show("-4") + &show("-6")
}

/// All rules and routes there are. Link-local things come and go by themselves.
fn routing_state() -> String {
    let all = words(&ip("-4 rule show"))
        + &words(&ip("-6 rule show"))
        + &words(&ip("-4 route show table all"))
        + &words(&ip("-6 route show table all"));
    // The TUN's multicast route comes with its being up.
    all.lines()
        .filter(|line| !line.contains("fe80:") && !line.contains("ff00::"))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// The interface by which a packet leaves that came in by another.
fn forwarded(family: &str, destination: &str, source: &str, input: &str) -> String {
    output_interface(&ip(&format!("{family} route get {destination} from {source} iif {input}")))
}

/// The interface by which a packet of this machine leaves.
fn sent(family: &str, destination: &str, source: Option<&str>) -> String {
    let from = source.map(|source| format!("from {source}")).unwrap_or_default();
    output_interface(&ip(&format!("{family} route get {destination} {from}")))
}

fn output_interface(text: &str) -> String {
    let mut words = text.split_whitespace().skip_while(|word| *word != "dev");
    words.nth(1).unwrap_or_else(|| panic!("no dev in {text}")).to_owned()
}

async fn interface(name: &str) -> Option<Interface> {
    let interfaces = Netlink::open().unwrap().interfaces().await.unwrap();
    interfaces.into_iter().find(|interface| interface.name == name)
}

fn sysctl(name: &str) -> String {
    eidolon::io::sysctl::read(&format!("net/{name}")).unwrap()
}

fn write_sysctl(name: &str, value: &str) {
    eidolon::io::sysctl::write(&format!("net/{name}"), value)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Every parameter in question, of every interface but TUNs.
fn sysctls() -> String {
    let mut all = format!("ip_forward {}\n", sysctl("ipv4/ip_forward"));
    for (family, names) in [
        ("ipv4", ["forwarding", "rp_filter", "accept_redirects"].as_slice()),
        ("ipv6", ["forwarding", "accept_ra"].as_slice()),
    ] {
        for interface in eidolon::io::sysctl::list(&format!("net/{family}/conf")).unwrap() {
            if interface.starts_with("lisp") {
                continue;
            }
            for name in names {
                let name = format!("{family}/conf/{interface}/{name}");
                let _ = writeln!(all, "{name} {}", sysctl(&name));
            }
        }
    }
    all
}

/// Sets the parameters as a freshly installed machine of the strict kind has them.
fn set_obstacles() {
    write_sysctl("ipv4/ip_forward", "0");
    write_sysctl("ipv6/conf/all/forwarding", "0");
    write_sysctl("ipv4/conf/wan0/rp_filter", "1");
    write_sysctl("ipv4/conf/lisp0/rp_filter", "1");
}

fn state_files(site: &Site) -> usize {
    std::fs::read_dir(site.state.path()).unwrap().count()
}

fn event(name: &str, list: &[&str]) -> NetworkEvent {
    NetworkEvent::Interface { name: name.into(), addresses: addresses(list) }
}

async fn next(monitor: &mut InterfaceMonitor) -> NetworkEvent {
    timeout(PATIENCE, monitor.next()).await.expect("an event")
}

/// Waits until an interface is told with so many addresses; fails on duplicates of what was already told.
async fn last_of(monitor: &mut InterfaceMonitor, interface: &str, count: usize) -> Vec<IpAddr> {
    loop {
        match next(monitor).await {
            NetworkEvent::Interface { name, addresses } if name == interface && addresses.len() == count => {
                // Several events may tell of one command; the last one counts.
                let mut last = addresses;
                while let Ok(event) = timeout(Duration::from_millis(50), monitor.next()).await {
                    match event {
                        NetworkEvent::Interface { name, addresses } if name == interface => last = addresses,
                        _ => {}
                    }
                }
                assert_eq!(last.len(), count, "{last:?}");
                return last;
            }
            _ => {}
        }
    }
}

/// What `ip monitor` says of rules and routes.
struct RouteLog {
    child: std::process::Child,
    path: std::path::PathBuf,
}

impl RouteLog {
    fn start(path: &Path) -> Self {
        let output = std::fs::File::create(path).unwrap();
        let child = Command::new("ip").args(["monitor", "rule", "route"]).stdout(output).spawn().unwrap();
        let log = Self { child, path: path.to_owned() };
        // It listens once it tells of this.
        let started = (0..400).any(|_| {
            ip("rule add priority 1 table 1");
            ip("rule del priority 1 table 1");
            thread::sleep(Duration::from_millis(20));
            !std::fs::read_to_string(&log.path).unwrap().is_empty()
        });
        assert!(started);
        log
    }

    /// All lines so far, of which there must be so many.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..400 {
            let text = std::fs::read_to_string(&self.path).unwrap();
            lines =
                words(&text).lines().filter(|line| !line.ends_with(" lookup 1")).map(str::to_owned).collect();
            if lines.len() >= count {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }
}

impl Drop for RouteLog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A machine behind one of the router's interfaces: address 2 of its networks, the router is 1.
struct Host {
    commands: mpsc::Sender<HostCommand>,
    payloads: mpsc::Receiver<String>,
}

enum HostCommand {
    Send(IpAddr, u16, String),
    Listen(u16, mpsc::Sender<()>),
}

impl Host {
    fn on(interface: &str, ipv4: &str, ipv6: &str) -> Self {
        let (commands, inbox) = mpsc::channel();
        let (outbox, payloads) = mpsc::channel();
        let (ready, wait) = mpsc::channel();
        let peer = format!("{interface}p");
        let (ipv4, ipv6, name) = (ipv4.to_owned(), ipv6.to_owned(), peer.clone());
        thread::spawn(move || {
            netns::enter_new().unwrap();
            let thread_id = std::fs::read_link("/proc/thread-self").unwrap();
            ready.send(thread_id.file_name().unwrap().to_str().unwrap().to_owned()).unwrap();
            // Until the peer has come, there is nothing to set up.
            while !ip("-o link show").contains(&format!("{name}@")) {
                thread::sleep(Duration::from_millis(5));
            }
            ip("link set lo up");
            ip(&format!("link set {name} up"));
            ip(&format!("addr add {ipv4}.2/24 dev {name}"));
            ip(&format!("addr add {ipv6}:2/64 dev {name} nodad"));
            ip(&format!("route add default via {ipv4}.1"));
            ip(&format!("-6 route add default via {ipv6}:1"));
            ready.send(String::new()).unwrap();
            serve(&inbox, &outbox);
        });
        let thread_id = wait.recv().unwrap();
        ip(&format!("link set {peer} netns {thread_id}"));
        wait.recv().unwrap();
        Self { commands, payloads }
    }

    fn send(&self, destination: &str, port: u16, payload: &str) {
        self.commands
            .send(HostCommand::Send(destination.parse().unwrap(), port, payload.to_owned()))
            .unwrap();
    }

    fn listen(&self, port: u16) {
        let (done, wait) = mpsc::channel();
        self.commands.send(HostCommand::Listen(port, done)).unwrap();
        wait.recv().unwrap();
    }

    fn received(&self) -> String {
        self.payloads.recv_timeout(PATIENCE).expect("a packet")
    }
}

/// Does what the test asks, until it is over.
fn serve(inbox: &mpsc::Receiver<HostCommand>, outbox: &mpsc::Sender<String>) {
    let socket = UdpSocket::bind("[::]:0").unwrap();
    for command in inbox {
        match command {
            HostCommand::Send(destination, port, payload) => {
                let destination = match destination {
                    IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
                    IpAddr::V6(_) => destination,
                };
                socket.send_to(payload.as_bytes(), (destination, port)).unwrap();
            }
            HostCommand::Listen(port, done) => {
                let socket = UdpSocket::bind(("::", port)).unwrap();
                let outbox = outbox.clone();
                thread::spawn(move || {
                    let mut buffer = [0; 2000];
                    while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                        if outbox.send(String::from_utf8(buffer[..length].to_vec()).unwrap()).is_err() {
                            break;
                        }
                    }
                });
                done.send(()).unwrap();
            }
        }
    }
}

/// What comes to the TUN.
struct Tunnelled(mpsc::Receiver<String>);

impl Tunnelled {
    fn start(tun: Iface) -> Self {
        let (outbox, payloads) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok(length) = tun.recv(&mut buffer) {
                if outbox.send(udp_payload(&buffer[..length])).is_err() {
                    break;
                }
            }
        });
        Self(payloads)
    }

    /// Every packet so far, its UDP payload or else its bytes, sorted; there must be so many, and no more within a
    /// while.
    fn payloads(&self, count: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        while payloads.len() < count
            && let Ok(payload) = self.0.recv_timeout(PATIENCE)
        {
            payloads.push(payload);
        }
        while let Ok(payload) = self.0.recv_timeout(Duration::from_millis(500)) {
            payloads.push(payload);
        }
        assert_eq!(payloads.len(), count, "{payloads:#?}");
        payloads.sort();
        payloads
    }
}

fn udp_payload(packet: &[u8]) -> String {
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    String::from_utf8(packet[header + 8..].to_vec()).unwrap_or_else(|_| format!("{packet:x?}"))
}

//! Rules and routes: what is installed, cleaned, changed and restored.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use eidolon::config::RoutingMode;
use eidolon::io::netlink::{InterfaceMonitor, Netlink, NetworkEvent};
use eidolon::runtime::kernel::{InstancePlan, KernelError, KernelIntegration, PROTOCOL};
use eidolon::types::{EidPrefix, InstanceId};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::scenery::*;

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
            dynamic: vec![],
            destinations: vec![],
            proxied: vec![],
            egress: vec![],
            interfaces: vec!["vlan7".into()],
            gateways: vec![],
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
            "table 4341 already holds routes that are not ours, to 2001:db8:9::/48 for one; choose another \
             `table` in [kernel]"
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

#[test]
fn a_tun_made_anew_is_set_up_again() {
    in_namespace(async || {
        let mut site = Site::new();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        let netlink = Netlink::open().unwrap();
        let installed = table(4341);
        site.tuns.clear();
        kernel.interfaces_changed(&netlink.interfaces().await.unwrap()).await.unwrap();
        kernel.repair().await.unwrap();
        assert_eq!(table(4341), "");
        assert_eq!(kernel.tun_mtu(InstanceId::DEFAULT), None);
        site.tuns.push(tun("lisp0"));
        kernel.interfaces_changed(&netlink.interfaces().await.unwrap()).await.unwrap();
        assert_eq!(table(4341), installed);
        assert_eq!(kernel.tun_mtu(InstanceId::DEFAULT), Some(1500 - 36));
        kernel.remove().await.unwrap();
    });
}

/// What `ip monitor` says of rules and routes.
struct RouteLog {
    child: Child,
    path: PathBuf,
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

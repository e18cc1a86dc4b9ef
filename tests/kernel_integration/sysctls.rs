//! Kernel parameters: found, set, noted, restored.

use std::fmt::Write as _;

use eidolon::io::netlink::Netlink;
use eidolon::io::sysctl::list;
use eidolon::runtime::kernel::KernelIntegration;

use crate::scenery::*;

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
                "IPv4 forwarding is off, so packets between the site and the tunnel are dropped: run `sysctl \
                 -w net.ipv4.ip_forward=1`, or set `set-sysctls = true` in [kernel]",
                "rp_filter is strict on wan0, so packets are dropped there whose answers go another way: run \
                 `sysctl -w net.ipv4.conf.wan0.rp_filter=2`, or set `set-sysctls = true` in [kernel]",
                "IPv6 forwarding is off, so packets between the site and the tunnel are dropped: run `sysctl \
                 -w net.ipv6.conf.all.forwarding=1`, or set `set-sysctls = true` in [kernel]",
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

#[test]
fn an_interface_that_is_not_there_is_waited_for() {
    in_namespace(async || {
        let site = Site::new();
        let mut plan = site.plan();
        plan.set_sysctls = true;
        plan.instances[0].interfaces = vec!["lan0".into(), "lan7".into()];
        let mut kernel = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(
            kernel.warnings(),
            ["there is no interface lan7, which the configuration names: correct the name, or plug it in; \
              it is used as soon as it appears"]
        );
        assert_eq!(state_files(&site), 0);
        ip("link add lan7 type veth peer name lan7p");
        write_sysctl("ipv4/conf/lan7/forwarding", "0");
        up(&["lan7", "lan7p"]);
        ip("addr add 10.1.7.1/24 dev lan7");
        kernel.interfaces_changed(&Netlink::open().unwrap().interfaces().await.unwrap()).await.unwrap();
        assert!(kernel.warnings().is_empty(), "{:?}", kernel.warnings());
        assert_eq!(sysctl("ipv4/conf/lan7/forwarding"), "1");
        assert_eq!(forwarded("-4", "203.0.113.9", "10.1.7.5", "lan7"), "lisp0");
        assert_eq!(forwarded("-4", "203.0.113.9", "10.1.1.5", "lan1"), "wan0", "not one of those listed");
        kernel.remove().await.unwrap();
        assert_eq!(sysctl("ipv4/conf/lan7/forwarding"), "0");
    });
}

/// Every parameter in question, of every interface but TUNs.
fn sysctls() -> String {
    let mut all = format!("ip_forward {}\n", sysctl("ipv4/ip_forward"));
    for (family, names) in [
        ("ipv4", ["forwarding", "rp_filter", "accept_redirects"].as_slice()),
        ("ipv6", ["forwarding", "accept_ra"].as_slice()),
    ] {
        for interface in list(&format!("net/{family}/conf")).unwrap() {
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

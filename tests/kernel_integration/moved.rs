//! Answering for hosts that have moved elsewhere: over a crash, beside others, and when the link goes down.

use eidolon::io::netlink::{InterfaceMonitor, Netlink, NetworkEvent};
use eidolon::proto::control::Place;
use eidolon::runtime::kernel::{KernelIntegration, PROTOCOL};
use futures::FutureExt;
use tokio::time::timeout;

use crate::scenery::*;

const HOSTS: [&str; 2] = ["10.1.0.9/32", "2001:db8:1::9/128"];
const ANSWERED: &str = "10.1.0.9 dev lan0 proxy proto 153\n2001:db8:1::9 dev lan0 proxy proto 153\n";
const PROXY_NDP: &str = "ipv6/conf/lan0/proxy_ndp";

/// What this machine answers for, IPv4 first.
fn answered() -> String {
    words(&ip("-N -4 neigh show proxy")) + &words(&ip("-N -6 neigh show proxy"))
}

async fn move_away(kernel: &mut KernelIntegration, hosts: &[&str], interface: &str) {
    for host in hosts {
        let place = Place::Away { interface: Some(interface.into()) };
        kernel.place(prefix(host), Some(place)).await.unwrap();
    }
}

#[test]
fn what_a_crash_left_is_not_answered_for_after_the_next_start() {
    in_namespace(async || {
        let mut site = Site::new();
        ip("neigh add proxy 10.1.0.77 dev lan0");
        let foreign = answered();
        let before = routing_state();
        assert_eq!(sysctl(PROXY_NDP), "0");
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        move_away(&mut kernel, &HOSTS, "lan0").await;
        assert_eq!(answered().lines().count(), 3, "{}", answered());
        assert_eq!(sysctl(PROXY_NDP), "1");
        drop(kernel);
        site.tuns.clear();
        assert_eq!(answered().lines().count(), 3, "the kernel knows nothing of who asked for it");

        site.tuns.push(tun("lisp0"));
        let kernel = KernelIntegration::install(site.plan()).await.unwrap();
        assert_eq!(answered(), foreign, "what the operator set stays");
        assert_eq!(sysctl(PROXY_NDP), "0");
        kernel.remove().await.unwrap();
        assert_eq!(routing_state(), before);
        assert_eq!(answered(), foreign);
    });
}

#[test]
fn a_router_that_starts_leaves_what_another_answers_for() {
    in_namespace(async || {
        let site = Site::new();
        let _tun1 = tun("lisp1");
        let mut first = KernelIntegration::install(site.plan()).await.unwrap();
        move_away(&mut first, &HOSTS, "lan0").await;
        let mut plan = site.plan();
        plan.rule_priority = 500;
        plan.instances[0].table = 5000;
        plan.instances[0].tun = "lisp1".into();
        plan.instances[0].eid_prefixes = nets(&["10.9.0.0/16"]);
        let second = KernelIntegration::install(plan).await.unwrap();
        assert_eq!(answered(), ANSWERED);
        assert_eq!(sysctl(PROXY_NDP), "1");
        second.remove().await.unwrap();
        assert_eq!(answered(), ANSWERED);
        first.place(prefix(HOSTS[0]), None).await.unwrap();
        assert_eq!(answered(), ANSWERED.split_inclusive('\n').nth(1).unwrap());
        first.remove().await.unwrap();
        assert_eq!(answered(), "");
        assert_eq!(sysctl(PROXY_NDP), "0");
    });
}

#[test]
fn hosts_are_answered_for_again_after_the_link_was_down() {
    in_namespace(async || {
        let site = Site::new();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        let mut monitor = InterfaceMonitor::open(Netlink::open().unwrap(), PROTOCOL).unwrap();
        move_away(&mut kernel, &HOSTS, "lan0").await;
        let follow = async |kernel: &mut KernelIntegration, monitor: &mut InterfaceMonitor| {
            // What has come up to now, and at least one event of the interface that is meant.
            loop {
                let event = timeout(PATIENCE, monitor.next()).await.expect("an event");
                kernel.interfaces_changed(monitor.interfaces()).await.unwrap();
                if matches!(event, NetworkEvent::Interface { name, .. } if name == "lan0") {
                    break;
                }
            }
            while monitor.next().now_or_never().is_some() {
                kernel.interfaces_changed(monitor.interfaces()).await.unwrap();
            }
        };
        follow(&mut kernel, &mut monitor).await;
        assert_eq!(answered(), ANSWERED);

        // By the administrator, for long …
        ip("link set lan0 down");
        follow(&mut kernel, &mut monitor).await;
        assert_eq!(answered(), "");
        ip("link set lan0 up");
        follow(&mut kernel, &mut monitor).await;
        assert_eq!(answered(), ANSWERED);
        // … or for so short that no listing shows it; and by the cable.
        for peer in ["lan0", "lan0p"] {
            ip(&format!("link set {peer} down"));
            // Without a carrier, newer kernels keep them.
            assert!(peer == "lan0p" || answered().is_empty(), "{}", answered());
            ip(&format!("link set {peer} up"));
            follow(&mut kernel, &mut monitor).await;
            while answered() != ANSWERED {
                follow(&mut kernel, &mut monitor).await;
            }
        }
        // Made anew, it has another index, and parameters like any other.
        ip("link del lan0");
        follow(&mut kernel, &mut monitor).await;
        ip("link add lan0 type veth peer name lan0p");
        up(&["lan0", "lan0p"]);
        while answered() != ANSWERED {
            follow(&mut kernel, &mut monitor).await;
        }
        assert_eq!(sysctl(PROXY_NDP), "1");
        kernel.remove().await.unwrap();
        assert_eq!(answered(), "");
    });
}

//! What is told of interfaces and addresses.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use eidolon::io::netlink::{InterfaceMonitor, Netlink, NetworkEvent};
use eidolon::runtime::kernel::PROTOCOL;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::scenery::*;

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
        ip("addr add 2001:db8::2/64 dev wan0 nodad");
        assert_eq!(
            last_of(&mut monitor, "wan0", 4).await,
            addresses(&["192.0.2.1", "192.0.2.7", "2001:db8::2", "2001:db8::1"]),
            "a deprecated address still works, but any other is better"
        );
        ip("addr del 2001:db8::1/64 dev wan0");
        ip("addr del 2001:db8::2/64 dev wan0");
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

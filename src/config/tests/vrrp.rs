//! Virtual routers.

use std::time::Duration;

use super::*;
use crate::proto::redundancy::vrrp::config::{Tracked, Versions};
use crate::types::Family;

/// A good file, whose line 3 begins the section.
const BASE: &str = r#"roles = ["map-server"]
site = [{ name = "a", key = "secret", eid-prefixes = ["10.1.0.0/16"] }]
[[vrrp]]
interface = "eth0"
vrid = 10
addresses = ["192.168.1.254"]
"#;

fn with(keys: &str) -> String {
    format!("{BASE}{keys}\n")
}

#[test]
fn little_has_to_be_said() {
    let [router] = &config(BASE).vrrp[..] else { panic!("one") };
    assert_eq!((&router.key.interface[..], router.key.family, router.key.vrid), ("eth0", Family::Ipv4, 10));
    assert_eq!(
        (router.priority, router.interval, router.versions),
        (100, Duration::from_secs(1), Versions::V3)
    );
    assert!(router.preempt && router.virtual_mac && router.tracked.is_empty());
    // The owner's addresses are its own already.
    assert!(!config(&with("priority = 255")).vrrp[0].virtual_mac);
}

#[test]
fn tracking_and_both_families() {
    let text = with(
        "track-interfaces = [\"wan0\"]\ntrack-locators = true\ndecrement = 50\n[[vrrp]]\n\
         interface = \"eth0\"\n\
         vrid = 10\naddresses = [\"fe80::1\", \"2001:db8::1\"]",
    );
    let routers = config(&text).vrrp;
    assert_eq!(
        routers[0].tracked,
        [Tracked::Interface { name: "wan0".into(), decrement: 50 }, Tracked::Locators { decrement: 50 }]
    );
    assert_eq!((routers[1].key.family, routers[1].addresses.len()), (Family::Ipv6, 2));
}

#[test]
fn mistakes_are_named() {
    for (keys, problem) in [
        ("vrid2 = 1", "unknown key"),
        ("priority = 0", "0 is not in 1–255"),
        ("interval = \"5ms\"", "5ms can't be"),
        ("interval = \"41s\"", "41s can't be"),
        ("interval = \"15ms\"", "no whole number of centiseconds"),
        ("interval = \"1500ms\"\nversion = \"2\"", "no whole number of seconds"),
        ("version = \"4\"", "\"4\" is not possible here"),
        ("priority = 255\nvirtual-mac = true", "not possible for the owner"),
        ("priority = 255\ntrack-locators = true", "the owner's priority never changes"),
        ("[[vrrp]]\ninterface = \"eth0\"\nvrid = 10\naddresses = [\"192.168.1.253\"]", "is there twice"),
        ("[[vrrp]]\ninterface = \"eth0\"\nvrid = 9\naddresses = [\"2001:db8::1\"]", "is not link-local"),
        (
            "[[vrrp]]\ninterface = \"eth0\"\nvrid = 9\naddresses = [\"10.0.0.1\", \"fe80::1\"]",
            "not of the family",
        ),
        ("[[vrrp]]\ninterface = \"eth0\"\nvrid = 9\naddresses = []", "is empty"),
        (
            "[[vrrp]]\ninterface = \"eth0\"\nvrid = 9\naddresses = [\"224.0.0.1\"]",
            "not the address of one host",
        ),
        (
            "[[vrrp]]\ninterface = \"eth0\"\nvrid = 9\naddresses = [\"10.0.0.1\", \"10.0.0.1\"]",
            "twice in the list",
        ),
        (
            "[[vrrp]]\ninterface = \"eth0\"\nvrid = 9\naddresses = [\"fe80::1\"]\nversion = \"both\"",
            "version 2 has no IPv6",
        ),
        ("[[vrrp]]", "vrrp[2].interface: missing"),
    ] {
        let report = parse_text(&with(keys)).expect_err(keys).to_string();
        assert!(report.contains(problem), "{keys}: {report}");
    }
}

//! EID-prefixes that may move.

use std::time::Duration;

use super::*;
use crate::proto::config::DetectConfig;
use crate::types::Ttl;

/// A good file without EID-prefixes that stay.
const BASE: &str = r#"roles = ["itr", "etr"]
locator = [{ address = "192.0.2.1" }]
map-server = [{ address = "203.0.113.1", key = "secret" }]
map-resolver = [{ address = "203.0.113.1" }]
[[dynamic-eid]]
prefix = "10.9.0.0/16"
"#;

fn with(keys: &str) -> String {
    format!("{BASE}{keys}\n")
}

#[test]
fn little_has_to_be_said() {
    let config = config(BASE);
    assert!(config.control.database.is_empty());
    assert_eq!(config.instances.len(), 1, "it has a TUN");
    let [dynamic] = &config.control.dynamic_eids[..] else { panic!("one") };
    assert_eq!((dynamic.prefix.to_string(), dynamic.ttl), ("10.9.0.0/16".to_owned(), Ttl(60)));
    assert_eq!((dynamic.limit, dynamic.redirect_time), (1000, Duration::from_secs(120)));
    assert_eq!((&dynamic.interface, dynamic.detect, dynamic.locators.len()), (&None, None, 1));
}

#[test]
fn detection_has_its_own_keys() {
    let config = config(&with(
        "instance-id = 7\ninterface = \"lan0\"\ndetect = true\ndetect-rate = 5\ndetect-timeout = \"8s\"\n\
         limit = 3\nredirect-time = \"5s\"\nmap-servers = [\"203.0.113.1\"]\n\
         [[dynamic-eid.locator]]\naddress = \"192.0.2.9\"\npriority = 4",
    ));
    let [dynamic] = &config.control.dynamic_eids[..] else { panic!("one") };
    let timeout = Duration::from_secs(8);
    assert_eq!(dynamic.detect, Some(DetectConfig { rate: 5, timeout }));
    assert_eq!((dynamic.prefix.iid.get(), dynamic.limit, dynamic.locators[0].priority), (7, 3, 4));
    assert_eq!(dynamic.map_servers.as_deref(), Some(&["203.0.113.1".to_owned()][..]));
}

#[test]
fn mistakes_are_named() {
    for (keys, problem) in [
        ("detected = true", "unknown key"),
        ("detect = true", "hosts can't be found without an interface"),
        ("limit = 0", "0 is not in 1–10000"),
        ("redirect-time = \"100ms\"", "100ms can't be"),
        ("interface = \"lan0\"\ndetect = true\ndetect-timeout = \"1s\"", "1s can't be"),
        ("map-servers = [\"203.0.113.2\"]", "no Map-Server is named"),
        ("[[dynamic-eid]]\nprefix = \"10.9.0.0/16\"", "10.9.0.0/16 is already in line 6"),
        ("[[dynamic-eid]]\nprefix = \"192.0.2.0/24\"", "reached only through itself"),
        (
            "interface = \"lan0\"\n[[instance]]\ninstance-id = 0\ninterfaces = [\"lan1\"]",
            "none of the interfaces",
        ),
        ("[data-plane]\nmode = \"external\"", "can't be sent on"),
    ] {
        let report = parse_text(&with(keys)).expect_err(keys).to_string();
        assert!(report.contains(problem), "{keys}: {report}");
    }
    let report = said(&with("detect-rate = 5"));
    assert!(report.contains("not used without `detect`"), "{report}");
}

//! Synchronisation of the map-cache.

use std::time::Duration;

use super::*;
use crate::auth::Algorithm;
use crate::proto::config::{SyncConfig, SyncMode};

/// A good section.
const SYNC: &str = "[sync]\nmembers = [\"192.168.1.2\"]\nkey = \"secret\"\n";

fn with(keys: &str) -> String {
    format!("{XTR}{SYNC}{keys}\n")
}

fn sync(keys: &str) -> SyncConfig {
    config(&with(keys)).control.sync.expect("synchronisation")
}

#[test]
fn little_has_to_be_said() {
    assert_eq!(config(XTR).control.sync, None);
    let sync = sync("");
    assert_eq!(sync.members, ["192.168.1.2".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((sync.mode, sync.ack, sync.source), (SyncMode::Smart, true, None));
    assert_eq!((sync.hello_interval, sync.keys.len()), (Duration::from_secs(10), 1));
    assert_eq!((sync.keys[0].id, sync.keys[0].algorithm), (0, Algorithm::HmacSha256));
}

#[test]
fn all_can_be_said() {
    let all = sync(
        "mode = \"naive\"\nack = false\nsource = \"192.168.1.1\"\nhello-interval = \"2s\"\nkey-id = 3\n\
         algorithm = \"sha256-hkdf\"",
    );
    assert_eq!((all.mode, all.ack), (SyncMode::Naive, false));
    assert_eq!(all.source, Some("192.168.1.1".parse().unwrap()));
    assert_eq!((all.hello_interval, all.keys[0].id), (Duration::from_secs(2), 3));
    assert_eq!(all.keys[0].algorithm, Algorithm::HmacSha256Hkdf);
    let text = format!(
        "{XTR}[sync]\nmembers = [\"2001:db8::2\", \"192.168.1.2\"]\n[[sync.key]]\nkey = \"new\"\nkey-id = 2\n\
         [[sync.key]]\nkey = \"old\"\nkey-id = 1\n"
    );
    let keys = config(&text).control.sync.unwrap().keys;
    assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn mistakes_are_named() {
    for (text, problem) in [
        (with("member = []"), "unknown key"),
        (with("mode = \"clever\""), "\"clever\" is not possible here"),
        (with("hello-interval = \"100ms\""), "100ms can't be"),
        (with("source = \"192.168.1.2\""), "192.168.1.2 is in the list of members"),
        (with("source = \"2001:db8::1\""), "is of another family than every member"),
        (with("source = \"0.0.0.0\""), "0.0.0.0 can't be"),
        (format!("{XTR}[sync]\nkey = \"k\"\n"), "sync.members: missing"),
        (format!("{XTR}[sync]\nmembers = [\"192.168.1.2\"]\n"), "sync.key: missing"),
        (format!("{XTR}[sync]\nmembers = []\nkey = \"k\"\n"), "is empty"),
        (format!("{XTR}[sync]\nmembers = [\"fe80::1\"]\nkey = \"k\"\n"), "fe80::1 can't be"),
        (format!("{XTR}[sync]\nmembers = [\"10.0.0.1\", \"10.0.0.1\"]\nkey = \"k\"\n"), "already in line"),
        (format!("{XTR}[sync]\nmembers = [\"other\"]\nkey = \"k\"\n"), "members"),
    ] {
        let report = parse_text(&text).expect_err(problem).to_string();
        assert!(report.contains(problem), "{problem}: {report}");
        assert!(!report.contains("secret"), "{report}");
    }
    assert!(said(&format!("{MS}{SYNC}")).contains("not used without role \"itr\""));
}

#[test]
fn members_of_both_families_have_no_common_source() {
    let both = |more: &str| {
        let members = "members = [\"192.168.1.2\", \"2001:db8::2\"]";
        said(&format!("{XTR}[sync]\n{members}\nkey = \"k\"\n{more}"))
    };
    assert!(both("").contains("warning: sync.members: are of both families"), "{}", both(""));
    assert_eq!(both("source = \"192.168.1.1\"\n"), "");
}

//! The map-cache: static entries, and snapshots.

use std::time::Duration;

use super::*;

#[rustfmt::skip]
const CASES: &[Case] = &[
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[[map-cache.static]]
prefix = "10.1.7.0/24"
action = "drop"
[[map-cache.static]]
prefix = "10.3.0.0/16"
locator = [{ address = "10.3.0.1" }, { address = "203.0.113.3", priority = 2 }, { address = "203.0.113.3" }]
[[map-cache.static]]
prefix = "10.3.0.0/16"
action = "natively-forward"
[[eid-prefix]]"#,
        r#"9:10: map-cache.static[1].prefix: 10.1.7.0/24 lies in 10.1.0.0/16, an EID-prefix of this site; remove one of the two
13:24: map-cache.static[2].locator[1].address: 10.3.0.1 lies in 10.3.0.0/16, and would be reached only through itself; keep locators out of EID-prefixes
13:93: map-cache.static[2].locator[3].address: 203.0.113.3 is already in line 13; remove one of the two
15:10: map-cache.static[3].prefix: 10.3.0.0/16 is already in line 12; remove one of the two
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[map-cache]
limit = 1
[[map-cache.static]]
prefix = "10.3.0.0/16"
action = "drop"
locator = [{ address = "203.0.113.3" }]
[[map-cache.static]]
action = "go-on"
[[eid-prefix]]"#,
        r#"10:1: map-cache.static[1]: 2 static entries leave no room in a map-cache of 1; raise `limit` in [map-cache]
12:10: map-cache.static[1].action: given beside locators; give either an action, or [[map-cache.static.locator]] sections
14:1: map-cache.static[2].prefix: missing; give the EID-prefix that the mapping is for, as 10.1.0.0/16
15:10: map-cache.static[2].action: "go-on" is not possible here; give "natively-forward", "drop", "drop/policy-denied", "drop/auth-failure" or "send-map-request"
"#,
    ),
    (
        XTR,
        r#"[[eid-prefix]]"#,
        r#"[map-cache]
idle-timeout = "soon"
[[eid-prefix]]"#,
        r#"9:16: map-cache.idle-timeout: "soon" is not a duration; give a whole number and a unit, as 500ms, 20s, 3min, 1h or 1d
"#,
    ),
];

#[test]
fn contradictions_are_found() {
    expect_all(CASES);
}

#[test]
fn snapshots_are_taken_unless_the_file_says_never() {
    let snapshot = |keys: &str| config(&format!("{XTR}\n[map-cache]\n{keys}\n")).snapshot;
    assert_eq!(config(XTR).snapshot, Some(SnapshotConfig::default()));
    let told = snapshot("snapshot-interval = \"5s\"\nsnapshot-max-age = \"10min\"").unwrap();
    assert_eq!((told.interval, told.max_age), (Duration::from_secs(5), Duration::from_secs(600)));
    assert_eq!(snapshot("snapshot-interval = \"never\""), None);
    for (keys, complaint) in
        [("snapshot-interval = \"500ms\"", "too short"), ("snapshot-max-age = \"0s\"", "no time at all")]
    {
        let text = format!("{XTR}\n[map-cache]\n{keys}\n");
        let report = said(&text);
        assert!(report.contains(complaint), "{report}");
    }
}

#[test]
fn static_map_cache_entries_become_mappings() {
    let text = format!(
        "{XTR}\n[map-cache]\nidle-timeout = \"never\"\n[[map-cache.static]]\nprefix = \"10.3.0.0/16\"\n\
         instance-id = 7\n\
         [[map-cache.static.locator]]\naddress = \"203.0.113.3\"\npriority = 2\nweight = 30\n\
         [[map-cache.static]]\nprefix = \"0.0.0.0/0\"\naction = \"natively-forward\"\n"
    );
    let itr = config(&text).control.itr.unwrap();
    assert_eq!(itr.idle_timeout, Duration::ZERO);
    let [with, without] = &itr.static_entries[..] else { panic!("{:?}", itr.static_entries) };
    assert_eq!(with.eid.to_string(), "[7]10.3.0.0/16");
    assert_eq!(with.locators, [crate::types::Locator::new("203.0.113.3".parse().unwrap(), 2, 30)]);
    assert_eq!(
        (without.eid.to_string(), without.action),
        ("0.0.0.0/0".into(), crate::types::Action::NativelyForward)
    );
    assert!(without.is_negative());
    assert_eq!(config(XTR).control.itr.unwrap().idle_timeout, Duration::from_secs(3600));
}

//! Probing of locators.

use std::time::Duration;

use super::*;
use crate::proto::config::ProbingConfig;

#[rustfmt::skip]
const CASES: &[Case] = &[
    (
        XTR,
        r#"[[map-server]]"#,
        r#"[probing]
interval = "50ms"
timeout = "60ms"
back-off = "40ms"
[[map-server]]"#,
        r#"5:12: probing.interval: 50ms is too short; give at least 100ms
6:11: probing.timeout: 60ms is longer than interval, 50ms; make it shorter, half the interval or less
7:12: probing.back-off: 40ms is shorter than interval, 50ms; make it longer, or the interval shorter
"#,
    ),
    (
        MS,
        r#"[[site]]"#,
        r#"[probing]
interval = "1s"
[[site]]"#,
        r#"2:1: warning: probing: not used without role "itr"; add the role or remove the section
"#,
    ),
];

#[test]
fn contradictions_are_found() {
    expect_all(CASES);
}

#[test]
fn probing_is_on_unless_it_is_switched_off_and_its_times_follow_the_interval() {
    let probing = |more: &str| config(&format!("{XTR}[probing]\n{more}")).control.probing;
    assert_eq!(config(XTR).control.probing, Some(ProbingConfig::default()));
    assert_eq!(probing("enabled = false"), None);
    let quick = probing("interval = \"500ms\"").unwrap();
    assert_eq!((quick.timeout, quick.back_off), (Duration::from_millis(250), Duration::from_secs(60)));
    let slow = probing("interval = \"5min\"").unwrap();
    assert_eq!((slow.timeout, slow.back_off), (Duration::from_secs(1), Duration::from_secs(300)));
}

//! A router that starts again goes on with the map-cache that it had: nobody waits for the mapping system,
//! which may be gone.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::router::{Router, Routers, XtrOptions};
use crate::topology::{Family, Network, Plan, Site};
use crate::traffic::{ping, reaches};
use crate::wait::{Machine, PATIENCE, until};

fn options(site: &Site) -> XtrOptions {
    let mut options = XtrOptions::over(site, Family::V4);
    options.more = "[map-cache]\nsnapshot-interval = \"1s\"\n".to_owned();
    options
}

/// Entries of the map-cache by their source.
fn entries(router: &Router<'_>, source: &str) -> usize {
    let shown = router.show("map-cache");
    let entries = shown["entries"].as_array().expect("entries");
    entries.iter().filter(|entry| entry["source"] == source).count()
}

fn snapshot(router: &Router<'_>) -> Value {
    router.show("statistics")["store"]["snapshot"].clone()
}

/// Data packets that a router dropped for lack of a mapping, and those that it asked about.
fn misses(router: &Router<'_>) -> u64 {
    let shown = router.show("statistics");
    let threads = shown["data"].as_array().expect("threads");
    let sum = |part: &str, name: &str| -> u64 {
        threads.iter().map(|thread| thread[part][name].as_u64().unwrap_or(0)).sum()
    };
    sum("dropped", "no-mapping") + sum("counters", "punts")
}

fn file(net: &Network, name: &str) -> PathBuf {
    net.file("xtr1.state").join(name)
}

#[test]
fn cached_destinations_are_reached_after_a_restart_without_the_mapping_system() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let mut routers = Routers::start_with(&net, options, "");
    let (a, b) = (net.site(1), net.site(2));
    for eids in Family::BOTH {
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE));
    }
    assert_eq!(entries(routers.xtr(1), "map-reply") + entries(routers.xtr(1), "probe"), 2);
    routers.mapping.kill();

    // Asked to end: everything is written then.
    routers.xtr(1).stop();
    // Packets that come while the router starts wait for it, and miss nothing.
    let during = thread::scope(|scope| {
        let pinging = scope.spawn(|| ping(&a.host, b.host_eid(Family::V4), 300, 0.01, ""));
        thread::sleep(Duration::from_millis(200));
        routers.xtr(1).launch();
        pinging.join().expect("ping")
    });
    assert!(during.received > 0, "{}", during.output);
    for eids in Family::BOTH {
        let after = ping(&a.host, b.host_eid(eids), 50, 0.01, "");
        assert_eq!(after.lost(), 0, "{eids}: {}", after.output);
    }
    assert_eq!(misses(routers.xtr(1)), 0, "{}", routers.xtr(1).show("statistics"));
    let detail = routers.xtr(1).operator(&["show", "map-cache", "detail"]);
    assert!(detail.contains("via snapshot") || detail.contains("via probe"), "{detail}");
    assert!(
        routers.xtr(1).log().contains("2 entries taken up from the snapshot"),
        "{}",
        routers.xtr(1).log()
    );
    assert_eq!(snapshot(routers.xtr(1))["restored"], 2);

    // Killed: what the last periodic one had.
    until("a snapshot", PATIENCE, || {
        let shown = snapshot(routers.xtr(1));
        shown["written"].as_u64() > Some(0) && shown["entries"] == 2
    });
    routers.xtr(1).kill();
    routers.xtr(1).launch();
    for eids in Family::BOTH {
        let after = ping(&a.host, b.host_eid(eids), 50, 0.01, "");
        assert_eq!(after.lost(), 0, "{eids}: {}", after.output);
    }
    assert_eq!(misses(routers.xtr(1)), 0);

    // The mapping system is back, and is asked about what is in use.
    routers.mapping.launch();
    until("the entries to be confirmed", PATIENCE, || {
        let _ = ping(&a.host, b.host_eid(Family::V4), 2, 0.1, "");
        let _ = ping(&a.host, b.host_eid(Family::V6), 2, 0.1, "");
        entries(routers.xtr(1), "snapshot") == 0 && entries(routers.xtr(1), "map-reply") == 2
            || entries(routers.xtr(1), "probe") == 2
    });
}

#[test]
fn a_snapshot_that_can_not_be_trusted_is_set_aside_and_a_full_disk_stops_nobody() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let mut routers = Routers::start_with(&net, options, "");
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));
    routers.xtr(1).stop();
    let path = file(&net, "map-cache.snapshot");
    let good = fs::read(&path).expect("a snapshot");

    let mut changed = good.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 0x10;
    let mut newer = good.clone();
    newer[9] = 99;
    for (bytes, reason) in [
        (&changed[..], "its checksum is wrong"),
        (&good[..good.len() - 1], "its checksum is wrong"),
        (&newer[..], "its format is version 99"),
        (b"not a snapshot", "not a map-cache snapshot"),
    ] {
        fs::write(&path, bytes).expect("a damaged snapshot");
        let said = routers.xtr(1).log().len();
        routers.xtr(1).launch();
        let log = routers.xtr(1).log()[said..].to_owned();
        assert!(log.contains(reason) && log.contains("set aside"), "{reason}:\n{log}");
        assert_eq!(fs::read(file(&net, "map-cache.snapshot.bad")).expect("what was set aside"), bytes);
        assert_eq!(snapshot(routers.xtr(1))["restored"], 0);
        assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE), "and all goes on");
        routers.xtr(1).stop();
    }

    // Nothing can be written: said once, and the last good one stays.
    fs::write(&path, &good).expect("a snapshot");
    fs::create_dir(file(&net, "map-cache.snapshot.new")).expect("a directory in the way");
    let said = routers.xtr(1).log().len();
    routers.xtr(1).launch();
    until("several tries", PATIENCE, || snapshot(routers.xtr(1))["failures"].as_u64() > Some(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));
    let log = routers.xtr(1).log()[said..].to_owned();
    assert_eq!(log.matches("no map-cache snapshot").count(), 1, "{log}");
    let text = routers.xtr(1).operator(&["show", "statistics"]);
    assert!(text.contains("map-cache.snapshot:"), "{text}");
    routers.xtr(1).stop();
    assert_eq!(fs::read(&path).expect("the snapshot"), good);
    fs::remove_dir(file(&net, "map-cache.snapshot.new")).expect("the directory");

    // What the operator cleared stays cleared, whatever happens a moment later.
    routers.xtr(1).launch();
    assert_eq!(snapshot(routers.xtr(1))["restored"], 1);
    routers.clear_map_caches();
    until("an empty snapshot", PATIENCE, || {
        let shown = snapshot(routers.xtr(1));
        shown["written"].as_u64() > Some(0) && shown["entries"] == 0
    });
    routers.xtr(1).kill();
    routers.xtr(1).launch();
    assert_eq!(snapshot(routers.xtr(1))["restored"], 0);
}

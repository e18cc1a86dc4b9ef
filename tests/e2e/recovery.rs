//! Routers that are killed come back, and none leaves anything behind.

use std::time::{Duration, Instant};

use crate::router::{Routers, XtrOptions};
use crate::topology::{Family, Network, Plan};
use crate::traffic::{ping, reaches};
use crate::wait::{Machine, PATIENCE, until, within};

/// The registration period where a test waits for the next registration; the first minutes' 20 s and the 60 s
/// of later only take longer to wait for.
const PERIOD: Duration = Duration::from_secs(5);

fn options(site: &crate::topology::Site) -> XtrOptions {
    registering_every(PERIOD, site)
}

fn registering_every(period: Duration, site: &crate::topology::Site) -> XtrOptions {
    let (mut options, seconds) = (XtrOptions::over(site, Family::V4), period.as_secs());
    options.more =
        format!("[timers]\nregister-interval = \"{seconds}s\"\nquick-register-interval = \"{seconds}s\"\n");
    options
}

#[test]
fn a_killed_xtr_comes_back() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let before: Vec<_> = net.sites.iter().map(|s| s.xtr.kernel_state()).collect();
    // Nobody waits for the next registration here: whoever starts registers at once.
    let mut routers = Routers::start_with(&net, |site| registering_every(2 * PATIENCE, site), "");
    let (a, b) = (net.site(1), net.site(2));
    for eids in Family::BOTH {
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE));
    }
    // Each in turn, twice: the second finds what the first left behind.
    for number in [1, 2, 1, 2] {
        routers.xtr(number).kill();
        assert!(
            !reaches(&a.host, b.host_eid(Family::V4), Duration::from_secs(1)),
            "through a dead xTR {number}"
        );
        routers.xtr(number).launch();
        let since = Instant::now();
        for eids in Family::BOTH {
            for (from, to) in [(a, b), (b, a)] {
                assert!(
                    reaches(&from.host, to.host_eid(eids), PATIENCE),
                    "{eids} from site {} after xTR {number}'s return, {:?} ago:\n{}",
                    from.number,
                    since.elapsed(),
                    routers.xtr(number).log()
                );
            }
        }
    }
    for (site, before) in net.sites.iter().zip(&before) {
        assert_ne!(site.xtr.kernel_state(), *before, "a running router has routes of its own");
        routers.xtr(site.number).stop();
        site.xtr.expect_state(before, &format!("what xTR {} left behind", site.number));
    }
}

#[test]
fn a_killed_mapping_system_comes_back() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let before = net.mapping.kernel_state();
    let mut routers = Routers::start_with(&net, options, "");
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));

    routers.mapping.kill();
    // Whoever knows the way does not need the mapping system.
    let meanwhile = ping(&a.host, b.host_eid(Family::V4), 100, 0.01, "");
    assert_eq!(meanwhile.lost(), 0, "{}", meanwhile.output);
    routers.mapping.launch();
    // With the next one of each site.
    until("every site's registration after a restart", 4 * PERIOD, || routers.registered().len() == 4);
    routers.clear_map_caches();
    for eids in Family::BOTH {
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE), "{eids}, after the restart");
    }
    routers.mapping.stop();
    net.mapping.expect_state(&before, "what the mapping system left behind");
}

/// A site that is gone is forgotten once its registration times out, and a lookup then says so.
#[test]
fn a_dead_site_is_forgotten() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let mut routers = Routers::start_with(
        &net,
        |site| registering_every(Duration::from_secs(2), site),
        "[timers]\nregistration-timeout = \"6s\"\nnegative-ttl-unregistered = 1\n",
    );
    let gone = net.site(2);
    routers.xtr(2).kill();
    let forgotten = within(PATIENCE, || {
        !routers.registered().iter().any(|p| *p == gone.prefix(Family::V4) || *p == gone.prefix(Family::V6))
    });
    assert!(forgotten, "still registered: {:?}", routers.registered());
    assert_eq!(routers.registered().len(), 2, "site 1 goes on");
}

/// A clean stop gives the kernel back as it was, whatever the router had installed by then.
#[test]
fn a_clean_stop_leaves_nothing_behind() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let before = net.site(1).xtr.kernel_state();
    let mut routers = Routers::start(&net, Family::V6);
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V6), PATIENCE));
    // A negative answer, which becomes a route that leaves such packets to the kernel.
    ping(&a.host, "198.51.100.1".parse().expect("address"), 3, 0.1, "");
    routers.xtr(1).stop();
    a.xtr.expect_state(&before, "what the router left behind");
}

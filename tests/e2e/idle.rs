//! What a router costs when it has nothing to do.

use std::thread;
use std::time::{Duration, Instant};

use crate::router::{Router, Routers};
use crate::topology::{Family, Network, Plan};
use crate::traffic::reaches;
use crate::wait::{Machine, PATIENCE, measured};

/// A router without anything to do uses under 0.3 % of a core: by its own CPU time, which others on the
/// machine don't add to.
#[test]
fn an_idle_router_costs_nothing() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let routers = Routers::start(&net, Family::V4);
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));
    thread::sleep(Duration::from_secs(2));
    measured(
        "CPU time of idle routers",
        |shares: &Vec<f64>| shares.iter().all(|share| *share < 0.3),
        |shares| format!("{shares:.3?} % of a core"),
        || {
            let start = Instant::now();
            let before: Vec<f64> = routers.all().map(Router::cpu_seconds).collect();
            thread::sleep(Duration::from_secs(20));
            let elapsed = start.elapsed().as_secs_f64();
            let used = routers.all().zip(before).map(|(router, before)| router.cpu_seconds() - before);
            used.map(|seconds| 100.0 * seconds / elapsed).collect()
        },
    );
}

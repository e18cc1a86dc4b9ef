//! What a router costs when it has nothing to do.

use std::thread;
use std::time::{Duration, Instant};

use crate::router::{Router, Routers};
use crate::topology::{Family, Network, Plan};
use crate::traffic::reaches;
use crate::wait::Machine;

/// A router without anything to do uses under 0.3 % of a core.
#[test]
fn an_idle_router_costs_nothing() {
    let _machine = Machine::alone();
    let net = Network::build(&Plan::default());
    let routers = Routers::start(&net, Family::V4);
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), Duration::from_secs(5)));
    thread::sleep(Duration::from_secs(2));
    let start = Instant::now();
    let before: Vec<f64> = routers.all().map(Router::cpu_seconds).collect();
    thread::sleep(Duration::from_secs(25));
    let elapsed = start.elapsed().as_secs_f64();
    for (router, before) in routers.all().zip(before) {
        let share = 100.0 * (router.cpu_seconds() - before) / elapsed;
        assert!(share < 0.3, "{} used {share:.2} % of a core, idle", router.name);
    }
}

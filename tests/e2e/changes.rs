//! Changes that an operator makes spread by themselves: to the Map-Server, from there to whoever uses the
//! site's mapping, and no packet is lost on the way (RFC 9301 §6.1).

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::judge::Judge;
use crate::router::{Locator, Router, Routers, XtrOptions, xtr_config};
use crate::topology::{Family, Network, Plan, Site};
use crate::traffic::{Stream, Streamed, deep_queue, reaches};
use crate::wait::{Machine, PATIENCE, tell, until, within};

/// Site 1 with one locator, site 2 with two of these priorities.
fn options(site: &Site, priorities: [u8; 2], more: &str) -> XtrOptions {
    let mut options = XtrOptions::over(site, Family::V4);
    if site.number == 2 {
        let locator =
            |k: usize| Locator { address: site.rloc(Family::V4, k), priority: priorities[k], weight: 100 };
        options.locators = vec![locator(0), locator(1)];
    }
    // Probes, whose answers tell of changes, too, come but once: what spreads is spread by SMRs.
    options.more = format!("{more}[probing]\ninterval = \"1h\"\n[timers]\nsmr-interval = \"1s\"\n");
    options
}

#[test]
fn priorities_changed_by_reload_command_and_signal_lose_no_packet() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() });
    net.real_packets();
    let mut routers = Routers::start_with(&net, |site| options(site, [1, 2], ""), "");
    let judge = Judge::new(&net);
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));
    deep_queue(&a.xtr);
    let stream = Stream::start(&a.host, &b.host, b.host_eid(Family::V4));
    let mut took = vec![("start", judge.wait_for(0))];
    // By a reload, which also writes its line to the log.
    routers.xtrs[1].write_config(net.dir(), &xtr_config(b, &options(b, [2, 1], "")));
    routers.xtrs[1].reload();
    took.push(("reload", judge.wait_for(1)));
    // By command. The second between two SMRs to the same RLOC may not be over.
    let first = b.rloc(Family::V4, 0).to_string();
    let said = routers.xtrs[1].operator(&["set", "locator", &first, "priority", "0"]);
    assert!(said.contains("priority 0") && said.contains("until"), "{said}");
    took.push(("set priority", judge.wait_for(0)));
    routers.xtrs[1].operator(&["set", "locator", &first, "down"]);
    took.push(("set down", judge.wait_for(1)));
    routers.xtrs[1].operator(&["set", "locator", &first, "up"]);
    took.push(("set up", judge.wait_for(0)));
    // By SIGHUP: what was set by command is as configured again, although the file is the same.
    routers.xtrs[1].process().signal(Signal::SIGHUP);
    took.push(("SIGHUP", judge.wait_for(1)));
    let Streamed { sent, received, .. } = stream.finish();
    tell(&format!("priorities changed: {sent} packets sent, {received} arrived; {took:?}"));
    assert_eq!(received as u64, sent, "while the priorities changed: {took:?}");
    assert!(sent > 1000);
    let log = routers.xtrs[1].log();
    assert!(
        log.contains("reloaded: EID-prefix") && log.contains("set by command are as configured again"),
        "{log}"
    );

    let wrong = routers.xtrs[1].control(&["set", "locator", "192.0.2.77", "up"]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(1), "{said}");
    assert!(said.contains("no locator") && said.contains(&b.rloc(Family::V4, 1).to_string()), "{said}");
    assert_eq!(routers.xtrs[1].control(&["set", "locator", "192.0.2.77"]).status.code(), Some(2));
}

/// A mapping that is always there.
const STATIC: &str = "[[map-cache.static]]\nprefix = \"203.0.113.0/24\"\naction = \"drop\"\n";

/// Site 1 sends and never asks or is sent to, as a site does whose answers go another way: it is known by its
/// data packets alone.
#[test]
fn who_only_sends_hears_of_a_change_too() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() });
    let mapping = Router::start(&net, &net.mapping, "mapping", &crate::router::mapping_config(&net, ""));
    let (a, b) = (net.site(1), net.site(2));
    let start = |site: &Site| {
        let site = net.site(site.number);
        Router::start(
            &net,
            &site.xtr,
            &format!("xtr{}", site.number),
            &xtr_config(site, &options(site, [1, 2], STATIC)),
        )
    };
    let (first, mut second) = (start(a), start(b));
    until("both sites' registrations", PATIENCE, || {
        crate::router::registered_prefixes(&mapping.show("sites")).len() == 4
    });
    let judge = Judge::new(&net);
    // Answers are refused, so that nothing is sent back.
    b.host.sh("nft add table inet silent && nft add chain inet silent out '{ type filter hook output \
               priority 0; }' && nft add rule inet silent out ip daddr 172.16.1.0/24 drop");
    let sender = a.host.run(|| UdpSocket::bind("0.0.0.0:0").expect("bind"));
    let to = SocketAddr::new(b.host_eid(Family::V4), 5000);
    let send = || {
        for _ in 0..20 {
            let _ = sender.send_to(b"x", to);
            thread::sleep(Duration::from_millis(5));
        }
        let seen = judge.packets();
        (seen[0] > 10 && seen[1] == 0, seen[1] > 10 && seen[0] == 0)
    };
    until("traffic over the first locator", PATIENCE, || send().0);
    let shown = first.operator(&["show", "map-cache", "detail"]);
    assert!(
        shown.contains("203.0.113.0/24, uptime") && shown.contains("expires: never, via static"),
        "{shown}"
    );
    assert!(shown.contains("RTT") && shown.contains("last learned"), "{shown}");
    let refused = first.control(&["clear", "map-cache", "203.0.113.0/24"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("static"));
    // A restarted ETR has forgotten whom it answered.
    second.kill();
    second.launch();
    until("traffic after the restart", PATIENCE, || send().0);
    second.write_config(net.dir(), &xtr_config(b, &options(b, [2, 1], STATIC)));
    second.reload();
    assert!(within(PATIENCE, || send().1), "{}", second.log());
}

//! Changes that an operator makes spread by themselves: to the Map-Server, from there to whoever uses the site's
//! mapping, and no packet is lost on the way (RFC 9301 §6.1).

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::judge::Judge;
use crate::router::{Locator, Router, Routers, XtrOptions, xtr_config};
use crate::topology::{Family, Network, Plan, Site};
use crate::traffic::reaches;
use crate::wait::{Machine, until, within};

/// Site 1 with one locator, site 2 with two of these priorities.
fn options(site: &Site, priorities: [u8; 2], more: &str) -> XtrOptions {
    let mut options = XtrOptions::over(site, Family::V4);
    if site.number == 2 {
        let locator =
            |k: usize| Locator { address: site.rloc(Family::V4, k), priority: priorities[k], weight: 100 };
        options.locators = vec![locator(0), locator(1)];
    }
    options.more = more.to_owned();
    options
}

/// A thousand packets a second from one host to another while `meanwhile` runs, and how many of them were sent and
/// arrived.
fn stream<T: Send>(from: &Site, to: &Site, meanwhile: impl FnOnce() -> T) -> (u64, u64, T) {
    let port = 5000;
    let address = SocketAddr::new(to.host_eid(Family::V4), port);
    let receiver = to.host.run(|| UdpSocket::bind(address).expect("bind"));
    receiver.set_read_timeout(Some(Duration::from_millis(500))).expect("time-out");
    let sender = from.host.run(|| UdpSocket::bind("0.0.0.0:0").expect("bind"));
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        let sending = scope.spawn(move || {
            let (start, mut sent) = (Instant::now(), 0_u64);
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                sent += u64::from(sender.send_to(&sent.to_be_bytes(), address).is_ok());
                let due = start + Duration::from_millis(sent);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            sent
        });
        let receiving = scope.spawn(move || {
            let (mut seen, mut arrived) = (Vec::new(), 0_u64);
            let mut buffer = [0; 64];
            // Ends when nothing has come for a while.
            while let Ok(len) = receiver.recv(&mut buffer) {
                let number = buffer[..len].try_into().map(u64::from_be_bytes).expect("a number");
                let number = usize::try_from(number).expect("few packets");
                if seen.len() <= number {
                    seen.resize(number + 1, false);
                }
                arrived += u64::from(!std::mem::replace(&mut seen[number], true));
            }
            arrived
        });
        let result = meanwhile();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        (sending.join().expect("sender"), receiving.join().expect("receiver"), result)
    })
}

#[test]
fn priorities_changed_by_reload_command_and_signal_lose_no_packet() {
    let _machine = Machine::alone();
    let net = Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() });
    net.real_packets();
    let mut routers = Routers::start_with(&net, |site| options(site, [1, 2], ""), "");
    let judge = Judge::new(&net);
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), Duration::from_secs(5)));
    let (sent, arrived, took) = stream(a, b, || {
        let mut took = vec![("start", judge.wait_for(0, Duration::from_secs(5)))];
        // By a reload, which also writes its line to the log.
        routers.xtrs[1].write_config(net.dir(), &xtr_config(b, &options(b, [2, 1], "")));
        routers.xtrs[1].reload();
        took.push(("reload", judge.wait_for(1, Duration::from_secs(5))));
        // By command. The three seconds between two SMRs to the same RLOC may not be over.
        let first = b.rloc(Family::V4, 0).to_string();
        let said = routers.xtrs[1].operator(&["set", "locator", &first, "priority", "0"]);
        assert!(said.contains("priority 0") && said.contains("until"), "{said}");
        took.push(("set priority", judge.wait_for(0, Duration::from_secs(8))));
        routers.xtrs[1].operator(&["set", "locator", &first, "down"]);
        took.push(("set down", judge.wait_for(1, Duration::from_secs(8))));
        routers.xtrs[1].operator(&["set", "locator", &first, "up"]);
        took.push(("set up", judge.wait_for(0, Duration::from_secs(8))));
        // By SIGHUP: what was set by command is as configured again, although the file is the same.
        routers.xtrs[1].process().signal(Signal::SIGHUP);
        took.push(("SIGHUP", judge.wait_for(1, Duration::from_secs(8))));
        took
    });
    println!("{sent} packets sent, {arrived} arrived; {took:?}");
    assert_eq!(sent - arrived, 0, "of {sent} packets, while the priorities changed: {took:?}");
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

/// Site 1 sends and never asks or is sent to, as a site does whose answers go another way: it is known by its data
/// packets alone.
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
    until("both sites' registrations", Duration::from_secs(20), || {
        crate::router::registered_prefixes(&mapping.show("sites")).len() == 4
    });
    let judge = Judge::new(&net);
    // Answers are refused, so that nothing is sent back.
    b.host.sh("nft add table inet silent && nft add chain inet silent out '{ type filter hook output priority 0; }' && nft add rule inet silent out ip daddr 172.16.1.0/24 drop");
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
    until("traffic over the first locator", Duration::from_secs(10), || send().0);
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
    until("traffic after the restart", Duration::from_secs(10), || send().0);
    second.write_config(net.dir(), &xtr_config(b, &options(b, [2, 1], STATIC)));
    second.reload();
    assert!(within(Duration::from_secs(5), || send().1), "{}", second.log());
}

//! Sites with several uplinks, and one whose uplink is renumbered: how long traffic pauses.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::router::{Locator, Router, Routers, XtrOptions, visit};
use crate::topology::{Family, Network, Plan, Site};
use crate::traffic::{Stream, Streamed, reaches};
use crate::wait::{Machine, until};

/// Site 1 with one uplink, site 2 with two, of which the first is preferred.
fn network() -> Network {
    Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() })
}

fn options(site: &Site) -> XtrOptions {
    options_over(site, Family::V4)
}

fn options_over(site: &Site, family: Family) -> XtrOptions {
    let mut options = XtrOptions::over(site, family);
    options.locators = (0..site.uplinks)
        .map(|k| Locator {
            address: site.rloc(family, k),
            priority: u8::try_from(k + 1).expect("few uplinks"),
            weight: 100,
        })
        .collect();
    options.more = "[probing]\ninterval = \"500ms\"\n".to_owned();
    options
}

/// `up` of a remote locator, and the source of packets to it, in `show locators`.
fn remote(router: &Router<'_>, rloc: &str) -> Option<(bool, String)> {
    let shown = router.show("locators");
    let all = shown.get("remote")?.as_array()?;
    let found = all.iter().find(|l| l.get("rloc").and_then(Value::as_str) == Some(rloc))?;
    Some((found.get("up")?.as_bool()?, found.get("source")?.as_str()?.to_owned()))
}

/// Whether the way that packets to a locator take has been probed with success.
fn probed(router: &Router<'_>, rloc: &str) -> bool {
    let shown = router.show("locators");
    let none = Vec::new();
    let all = shown.get("remote").and_then(Value::as_array).unwrap_or(&none);
    all.iter().filter(|l| l.get("rloc").and_then(Value::as_str) == Some(rloc)).any(|l| {
        let ways = l.get("ways").and_then(Value::as_array).unwrap_or(&none);
        ways.iter().any(|way| way.get("state").and_then(Value::as_str) == Some("up"))
    })
}

/// Streams both ways between the sites while something happens, after both know the other's locators to be up.
fn streams_during(net: &Network, routers: &mut Routers<'_>, what: impl FnOnce()) -> [Streamed; 2] {
    streams_over(Family::V4, net, routers, what)
}

/// The same with EIDs and RLOCs of a family.
fn streams_over(
    family: Family,
    net: &Network,
    routers: &mut Routers<'_>,
    what: impl FnOnce(),
) -> [Streamed; 2] {
    let (a, b) = (net.site(1), net.site(2));
    for (from, to) in [(a, b), (b, a)] {
        assert!(reaches(&from.host, to.host_eid(family), Duration::from_secs(5)));
    }
    let there = Stream::start(&a.host, &b.host, b.host_eid(family));
    let back = Stream::start(&b.host, &a.host, a.host_eid(family));
    until("answered probes", Duration::from_secs(10), || {
        let towards_b = (0..b.uplinks).all(|k| probed(routers.xtr(1), &b.rloc(family, k).to_string()));
        towards_b && probed(routers.xtr(2), &a.rloc(family, 0).to_string())
    });
    what();
    [there.finish(), back.finish()]
}

fn report(test: &str, [there, back]: &[Streamed; 2]) {
    let one = |s: &Streamed| {
        format!("longest gap {} ms, {} of {} packets arrived", s.longest_gap, s.received, s.sent)
    };
    let _ = writeln!(std::io::stderr(), "{test}: towards the site {}; from it {}", one(there), one(back));
}

/// The core drops everything of the preferred uplink, and says nothing: probes alone find out, for both directions.
#[test]
fn a_silent_uplink_is_left_within_one_and_a_half_seconds() {
    let _machine = Machine::alone();
    let net = network();
    let mut routers = Routers::start_with(&net, options, "");
    let preferred = net.site(2).rloc(Family::V4, 0).to_string();
    let gaps = streams_during(&net, &mut routers, || {
        net.core.sh("nft add table inet dark && nft add chain inet dark forward '{ type filter hook forward priority 0; }'");
        net.core.sh("nft 'add rule inet dark forward iifname s2u0 drop; add rule inet dark forward oifname s2u0 drop'");
        thread::sleep(Duration::from_secs(3));
    });
    report("silent uplink, probed every 500 ms", &gaps);
    for streamed in &gaps {
        assert!(streamed.longest_gap > 100, "the uplink was not dark: {streamed:?}");
        assert!(streamed.longest_gap < 1500, "{streamed:?}");
    }
    assert_eq!(remote(routers.xtr(1), &preferred).map(|(up, _)| up), Some(false));
    let other = net.site(2).rloc(Family::V4, 1).to_string();
    let towards_1 = net.site(1).rloc(Family::V4, 0).to_string();
    assert_eq!(remote(routers.xtr(2), &towards_1), Some((true, other)), "from the other uplink");

    // And back, without a loss.
    let gaps = streams_during_return(&net, &mut routers, &preferred, &towards_1);
    report("return of the uplink", &gaps);
    for streamed in &gaps {
        assert!(streamed.longest_gap < 50, "{streamed:?}");
    }
}

fn streams_during_return(
    net: &Network,
    routers: &mut Routers<'_>,
    preferred: &str,
    towards_1: &str,
) -> [Streamed; 2] {
    let (a, b) = (net.site(1), net.site(2));
    let there = Stream::start(&a.host, &b.host, b.host_eid(Family::V4));
    let back = Stream::start(&b.host, &a.host, a.host_eid(Family::V4));
    thread::sleep(Duration::from_millis(300));
    net.core.sh("nft delete table inet dark");
    until("the return to the preferred uplink", Duration::from_secs(20), || {
        remote(routers.xtr(1), preferred).is_some_and(|(up, _)| up)
            && remote(routers.xtr(2), towards_1) == Some((true, preferred.to_owned()))
    });
    thread::sleep(Duration::from_millis(300));
    [there.finish(), back.finish()]
}

/// The link of the preferred uplink goes down: the site's router sees it itself, the other one is told by the core, which
/// has no route there any more.
#[test]
fn an_uplink_whose_link_is_down_is_left_at_once() {
    let _machine = Machine::alone();
    let net = network();
    let mut routers = Routers::start_with(&net, options, "");
    let gaps = streams_during(&net, &mut routers, || {
        net.core.sh("ip link set s2u0 down");
        thread::sleep(Duration::from_secs(2));
    });
    report("link down, told by carrier and ICMP", &gaps);
    for streamed in &gaps {
        // The aim is 50 ms; the rest is for a machine that does much else.
        assert!(streamed.longest_gap < 250, "{streamed:?}");
    }
    // It is announced as unreachable, within the second.
    let [preferred, other] = [0, 1].map(|k| net.site(2).rloc(Family::V4, k).to_string());
    until("its registration as unreachable", Duration::from_secs(1), || {
        let mut states = Vec::new();
        visit(&routers.mapping.show("sites"), &mut |object| {
            // The former registration, from the other address, is there until it times out.
            if object.get("registered_by").and_then(Value::as_str) == Some(&other) {
                let locators = object["locators"].as_array().expect("locators");
                states.extend(
                    locators.iter().filter(|l| l["rloc"] == *preferred).map(|l| l["reachable"].clone()),
                );
            }
        });
        // Of both EID-prefixes.
        states == [false; 2]
    });
}

/// The same over IPv6 alone, where the kernel takes a link's addresses away with it: first silent, then down.
#[test]
fn an_ipv6_uplink_is_left_when_it_goes_dark_and_when_its_link_goes_down() {
    let _machine = Machine::alone();
    let net = network();
    let mut routers = Routers::start_with(&net, |site| options_over(site, Family::V6), "");
    let [preferred, other] = [0, 1].map(|k| net.site(2).rloc(Family::V6, k).to_string());
    let towards_1 = net.site(1).rloc(Family::V6, 0).to_string();
    let gaps = streams_over(Family::V6, &net, &mut routers, || {
        net.core.sh("nft add table inet dark && nft add chain inet dark forward '{ type filter hook forward priority 0; }'");
        net.core.sh("nft 'add rule inet dark forward iifname s2u0 drop; add rule inet dark forward oifname s2u0 drop'");
        thread::sleep(Duration::from_secs(3));
    });
    report("silent IPv6 uplink, probed every 500 ms", &gaps);
    for streamed in &gaps {
        assert!(streamed.longest_gap > 100, "the uplink was not dark: {streamed:?}");
        assert!(streamed.longest_gap < 1500, "{streamed:?}");
    }
    assert_eq!(remote(routers.xtr(1), &preferred).map(|(up, _)| up), Some(false));
    assert_eq!(remote(routers.xtr(2), &towards_1), Some((true, other.clone())), "from the other uplink");
    net.core.sh("nft delete table inet dark");
    until("the return to the preferred uplink", Duration::from_secs(20), || {
        remote(routers.xtr(1), &preferred).is_some_and(|(up, _)| up)
            && remote(routers.xtr(2), &towards_1) == Some((true, preferred.clone()))
    });

    let gaps = streams_over(Family::V6, &net, &mut routers, || {
        net.core.sh("ip link set s2u0 down");
        thread::sleep(Duration::from_secs(2));
    });
    report("IPv6 link down", &gaps);
    for streamed in &gaps {
        // The aim is 50 ms; the rest is for a machine that does much else.
        assert!(streamed.longest_gap < 250, "{streamed:?}");
    }
    assert_eq!(remote(routers.xtr(2), &towards_1), Some((true, other)));
}

/// The only uplink of a site gets another address, in another subnet.
#[test]
fn a_renumbered_site_is_reached_again_within_two_seconds() {
    let _machine = Machine::alone();
    let net = Network::build(&Plan::default());
    let follow = |site: &Site| {
        let mut options = options(site);
        if site.number == 2 {
            options.locators.clear();
            options.more += "[[locator]]\ninterface = \"wan0\"\nfamily = \"ipv4\"\n";
        }
        options
    };
    let mut routers = Routers::start_with(&net, follow, "");
    let site = net.site(2);
    net.core.sh("ip addr add 10.2.9.1/24 dev s2u0");
    let gaps = streams_during(&net, &mut routers, || {
        site.xtr.sh(
            "ip addr del 10.2.0.2/24 dev wan0 && ip addr add 10.2.9.2/24 dev wan0 && ip route replace default via 10.2.9.1",
        );
        thread::sleep(Duration::from_secs(4));
    });
    report("renumbering of the only uplink", &gaps);
    for streamed in &gaps {
        assert!(streamed.longest_gap < 2000, "{streamed:?}");
    }
    assert_eq!(remote(routers.xtr(1), "10.2.9.2").map(|(up, _)| up), Some(true));
    let own = routers.xtr(2).show("locators");
    assert_eq!(own["own"][0]["rloc"], "10.2.9.2", "{own}");
}

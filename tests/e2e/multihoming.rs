//! Sites with several uplinks, and one whose uplink is renumbered: how long traffic pauses.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::router::{Locator, Router, Routers, XtrOptions, visit};
use crate::topology::{Family, Network, Plan, Site};
use crate::traffic::{Stream, Streamed, deep_queue, go_on, reaches};
use crate::wait::{Machine, PATIENCE, measured, until};

/// Site 1 with one uplink, site 2 with two, of which the first is preferred.
fn network() -> Network {
    Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() })
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

/// Streams both ways between the sites while something happens, after both know the other's locators to be
/// up; what is done returns once it has had its effect, and the streams go on for a while after it.
fn streams_during(
    net: &Network,
    routers: &mut Routers<'_>,
    family: Family,
    what: impl FnOnce(&mut Routers<'_>),
) -> Gaps {
    let (a, b) = (net.site(1), net.site(2));
    for (from, to) in [(a, b), (b, a)] {
        deep_queue(&from.xtr);
        assert!(reaches(&from.host, to.host_eid(family), PATIENCE));
    }
    let there = Stream::start(&a.host, &b.host, b.host_eid(family));
    let back = Stream::start(&b.host, &a.host, a.host_eid(family));
    go_on("streams both ways", &[&there, &back]);
    what(routers);
    go_on("the streams to go on", &[&there, &back]);
    Gaps { there: there.finish(), back: back.finish() }
}

/// Waits until the ways to the locators of both sites have been probed with success.
fn wait_probed(net: &Network, routers: &mut Routers<'_>, family: Family) {
    let (a, b) = (net.site(1), net.site(2));
    until("answered probes", PATIENCE, || {
        for (from, to) in [(a, b), (b, a)] {
            reaches(&from.host, to.host_eid(family), PATIENCE);
        }
        let towards_b = (0..b.uplinks).all(|k| probed(routers.xtr(1), &b.rloc(family, k).to_string()));
        towards_b && probed(routers.xtr(2), &a.rloc(family, 0).to_string())
    });
}

/// What became of streams towards site 2 and from it.
#[derive(Debug)]
struct Gaps {
    there: Streamed,
    back: Streamed,
}

impl Gaps {
    fn under(&self, milliseconds: u64) -> bool {
        self.there.longest_gap < milliseconds && self.back.longest_gap < milliseconds
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "towards the site {}; from it {}", self.there, self.back)
    }
}

/// The preferred uplink of site 2 goes dark: the core drops everything, and says nothing. Then light again.
fn darken(net: &Network) {
    net.core.sh("nft add table inet dark && nft add chain inet dark forward '{ type filter hook forward \
                 priority 0; }'");
    net.core.sh(
        "nft 'add rule inet dark forward iifname s2u0 drop; add rule inet dark forward oifname s2u0 drop'",
    );
}

/// Which of site 2's uplinks is used: both ends know the preferred one to be dead, or alive.
fn uses(net: &Network, routers: &mut Routers<'_>, family: Family, k: usize) -> bool {
    let [preferred, used] = [0, k].map(|k| net.site(2).rloc(family, k).to_string());
    let towards_1 = net.site(1).rloc(family, 0).to_string();
    remote(routers.xtr(1), &preferred).is_some_and(|(up, _)| up == (k == 0))
        && remote(routers.xtr(2), &towards_1) == Some((true, used))
}

/// Silent, and light again: probes alone find out, for both directions, and the return loses nothing.
fn goes_dark_and_returns(net: &Network, routers: &mut Routers<'_>, family: Family) -> (Gaps, Gaps) {
    wait_probed(net, routers, family);
    let dark = streams_during(net, routers, family, |routers| {
        darken(net);
        until("the silent uplink to be left", PATIENCE, || uses(net, routers, family, 1));
    });
    for streamed in [&dark.there, &dark.back] {
        assert!(streamed.longest_gap > 100, "the uplink was not dark: {streamed}");
    }
    let light = streams_during(net, routers, family, |routers| {
        net.core.sh("nft delete table inet dark");
        until("the return to the preferred uplink", PATIENCE, || uses(net, routers, family, 0));
    });
    (dark, light)
}

fn silent_uplink(family: Family) {
    let _machine = Machine::alone();
    let net = network();
    let mut routers = Routers::start_with(&net, |site| options_over(site, family), "");
    measured(
        &format!("silent {family} uplink, probed every 500 ms"),
        |(dark, light): &(Gaps, Gaps)| dark.under(1500) && light.under(50),
        |(dark, light)| format!("{dark}; return of the uplink: {light}"),
        || goes_dark_and_returns(&net, &mut routers, family),
    );
}

/// The core drops everything of the preferred uplink, and says nothing: probes alone find out, for both
/// directions.
#[test]
fn a_silent_uplink_is_left_within_one_and_a_half_seconds() {
    silent_uplink(Family::V4);
}

/// The link of the preferred uplink goes down: the site's router sees it itself, the other one is told by the
/// core, which has no route there any more. Gives what the streams lost, and how long it took until the
/// mapping system knew.
fn link_goes_down(net: &Network, routers: &mut Routers<'_>, family: Family) -> (Gaps, Duration) {
    wait_probed(net, routers, family);
    let mut told = Duration::ZERO;
    let gaps = streams_during(net, routers, family, |routers| {
        net.core.sh("ip link set s2u0 down");
        let down = Instant::now();
        until("the uplink to be left", PATIENCE, || uses(net, routers, family, 1));
        // It is announced as unreachable.
        let [preferred, other] = [0, 1].map(|k| net.site(2).rloc(family, k).to_string());
        until("its registration as unreachable", PATIENCE, || {
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
        told = down.elapsed();
    });
    (gaps, told)
}

fn uplink_down(family: Family) {
    let _machine = Machine::alone();
    let net = network();
    let mut routers = Routers::start_with(&net, |site| options_over(site, family), "");
    let mut again = false;
    measured(
        &format!("{family} link down, told by carrier and ICMP"),
        // The aim is 50 ms and the second; the rest is for a machine that does much else.
        |(gaps, told): &(Gaps, Duration)| gaps.under(250) && *told < Duration::from_secs(3),
        |(gaps, told)| format!("{gaps}; registered as unreachable after {told:.1?}"),
        || {
            if std::mem::replace(&mut again, true) {
                // The kernel took the link's IPv6 address with it.
                net.core.sh("ip link set s2u0 up && ip addr replace 2001:db8:2:0::1/64 dev s2u0 nodad");
                until("the return to the preferred uplink", PATIENCE, || uses(&net, &mut routers, family, 0));
            }
            link_goes_down(&net, &mut routers, family)
        },
    );
}

#[test]
fn an_uplink_whose_link_is_down_is_left_at_once() {
    uplink_down(Family::V4);
}

/// The same over IPv6 alone, where the kernel takes a link's addresses away with it: first silent, then down.
#[test]
fn an_ipv6_uplink_is_left_when_it_goes_dark_and_when_its_link_goes_down() {
    silent_uplink(Family::V6);
    uplink_down(Family::V6);
}

/// The only uplink of a site gets another address, in another subnet.
#[test]
fn a_renumbered_site_is_reached_again_within_two_seconds() {
    let _machine = Machine::alone();
    let net = Network::build(&Plan::default());
    let follow = |site: &Site| {
        let mut options = options_over(site, Family::V4);
        if site.number == 2 {
            options.locators.clear();
            options.more += "[[locator]]\ninterface = \"wan0\"\nfamily = \"ipv4\"\n";
        }
        options
    };
    let mut routers = Routers::start_with(&net, follow, "");
    let site = net.site(2);
    net.core.sh("ip addr add 10.2.9.1/24 dev s2u0");
    let (mut old, mut new) = ("10.2.0", "10.2.9");
    measured(
        "renumbering of the only uplink",
        |gaps: &Gaps| gaps.under(2000),
        Gaps::to_string,
        || {
            let gaps = streams_during(&net, &mut routers, Family::V4, |routers| {
                site.xtr.sh(&format!(
                    "ip addr del {old}.2/24 dev wan0 && ip addr add {new}.2/24 dev wan0 && \
                     ip route replace default via {new}.1"
                ));
                until("the new locator", PATIENCE, || {
                    let known = remote(routers.xtr(1), &format!("{new}.2")).is_some_and(|(up, _)| up);
                    known && routers.xtr(2).show("locators")["own"][0]["rloc"] == format!("{new}.2")
                });
            });
            std::mem::swap(&mut old, &mut new);
            gaps
        },
    );
}

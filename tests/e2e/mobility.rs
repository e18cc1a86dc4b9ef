//! A host's address moves between two sites while a third one sends to it: by command, found by what it sends, and gently;
//! and those who may not move it.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::netns::Netns;
use crate::router::{Router, Routers, XtrOptions, eidolon};
use crate::topology::{Family, Network, Plan, Site};
use crate::traffic::{deep_queue, reaches, roomy_socket};
use crate::wait::{Machine, PATIENCE, measured, until, within};

/// Longest gap that a move may cost, as the median of several.
const GAP: u64 = 300;
/// Where the address may be.
const MOVING: [&str; 2] = ["172.16.50.0/24", "2001:db8:ee:50::/64"];

/// The address that moves.
fn moving(family: Family) -> IpAddr {
    match family {
        Family::V4 => "172.16.50.9".parse().expect("an address"),
        Family::V6 => "2001:db8:ee:50::9".parse().expect("an address"),
    }
}

/// What a Map-Server has to know for both sites to have it.
const OWNED: &str = r#"
[[site]]
name = "moving"
[[site.eid-prefix]]
prefix = "172.16.50.0/24"
accept-more-specifics = true
[[site.eid-prefix]]
prefix = "2001:db8:ee:50::/64"
accept-more-specifics = true
[[site.key]]
key = "key-of-site-1"
algorithm = "sha1"
[[site.key]]
key = "key-of-site-2"
"#;

fn options(site: &Site, over: Family, more: &str) -> XtrOptions {
    let mut options = XtrOptions::over(site, over);
    if site.number < 3 {
        for prefix in MOVING {
            options.more +=
                &format!("[[dynamic-eid]]\nprefix = \"{prefix}\"\ninterface = \"lan0\"\n{more}\n");
        }
    }
    options.more += "[timers]\nsmr-interval = \"200ms\"\n";
    options
}

/// Three sites, at the first two of which the address may be.
fn network() -> Network {
    Network::build(&Plan { uplinks: vec![1, 1, 1], ..Plan::default() })
}

fn routers<'a>(net: &'a Network, over: Family, more: &str) -> Routers<'a> {
    let routers = Routers::start_with(net, |site| options(site, over, more), OWNED);
    net.sites.iter().for_each(|site| deep_queue(&site.xtr));
    routers
}

/// Puts the address on a site's host, or takes it off; for the site's router nothing changes by that.
fn set_address(site: &Site, family: Family, present: bool) {
    let (ip, len) = if family == Family::V4 { ("ip -4", 32) } else { ("ip -6", 128) };
    let (verb, nodad) = match (present, family) {
        (true, Family::V6) => ("add", " nodad"),
        (true, Family::V4) => ("add", ""),
        (false, _) => ("del", ""),
    };
    site.host.sh(&format!("{ip} addr {verb} {}/{len} dev lan0{nodad}", moving(family)));
}

/// Counts packets to the address that a site's router puts on its LAN.
fn count_on_lan(site: &Site) {
    let rule = |what: &str| format!("nft add rule inet judge out oifname lan0 {what} counter name lan");
    site.xtr.sh("nft add table inet judge && nft add chain inet judge out '{ type filter hook postrouting priority 0; }' && nft add counter inet judge lan");
    site.xtr.sh(&rule("ip daddr 172.16.50.9"));
    site.xtr.sh(&rule("ip6 daddr 2001:db8:ee:50::9"));
}

fn on_lan(site: &Site) -> u64 {
    let json: serde_json::Value =
        serde_json::from_str(&site.xtr.sh("nft -j list counters table inet judge")).expect("nft -j");
    let counters = json["nftables"].as_array().expect("a list");
    counters.iter().find_map(|c| c["counter"]["packets"].as_u64()).expect("a counter")
}

/// A thousand datagrams a second to the address, wherever it is, each with its number.
struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receivers: Vec<JoinHandle<Vec<u64>>>,
}

impl Stream {
    fn start(from: &Netns, to: [&Netns; 2], addr: IpAddr) -> Self {
        const PORT: u16 = 7777;
        let any: IpAddr = if addr.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let stop = Arc::new(AtomicBool::new(false));
        let receivers = to.map(|ns| {
            let (socket, stopped) = (roomy_socket(ns, SocketAddr::new(any, PORT)), Arc::clone(&stop));
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("time-out");
            thread::spawn(move || {
                let (mut seen, mut bytes) = (Vec::new(), [0; 16]);
                loop {
                    match socket.recv(&mut bytes) {
                        Ok(8) => seen.push(u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"))),
                        Ok(_) => {}
                        Err(_) if stopped.load(Ordering::Relaxed) => return seen,
                        Err(_) => {}
                    }
                }
            })
        });
        let (socket, stopped) = (roomy_socket(from, SocketAddr::new(any, 0)), Arc::clone(&stop));
        let sender = thread::spawn(move || {
            let start = Instant::now();
            let mut number = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                let _ = socket.send_to(&number.to_be_bytes(), (addr, PORT));
                number += 1;
                let next = start + Duration::from_millis(number);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            number
        });
        Self { stop, sender, receivers: receivers.into() }
    }

    /// Ends it: the longest run of numbers that nobody got, which is milliseconds; how many were lost in all; and how
    /// many each receiver got.
    fn finish(self) -> (u64, u64, Vec<usize>) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("sender");
        let got: Vec<Vec<u64>> = self.receivers.into_iter().map(|r| r.join().expect("receiver")).collect();
        let mut all: Vec<u64> = got.iter().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        let lost = sent - all.len() as u64;
        all.push(sent);
        let (mut expected, mut longest) = (0, 0);
        for number in all {
            longest = longest.max(number.saturating_sub(expected));
            expected = number + 1;
        }
        (longest, lost, got.iter().map(Vec::len).collect())
    }
}

fn dynamic(router: &Router<'_>, list: &str) -> Vec<String> {
    let shown = router.show("dynamic-eids");
    let all = shown[list].as_array().expect("a list");
    all.iter().map(|e| e["prefix"]["net"].as_str().expect("a prefix").to_owned()).collect()
}

fn full(family: Family) -> String {
    format!("{}/{}", moving(family), if family == Family::V4 { 32 } else { 128 })
}

/// The locators that a router has in its map-cache for the address.
fn ways(router: &Router<'_>, family: Family) -> Vec<String> {
    let shown = router.show("map-cache");
    let entries = shown["entries"].as_array().expect("a list");
    let wanted = full(family);
    let entry = entries.iter().find(|e| e["net"] == wanted.as_str());
    entry.map_or_else(Vec::new, |e| {
        let locators = e["locators"].as_array().expect("a list");
        locators.iter().map(|l| l["rloc"].as_str().expect("an address").to_owned()).collect()
    })
}

/// Moves the address to and fro, by `tell` at the site that it comes to, and judges the gaps.
fn to_and_fro(
    net: &Network,
    routers: &mut Routers<'_>,
    family: Family,
    over: Family,
    tell: impl Fn(&Site, &Router<'_>),
) {
    let case = format!("{family} over {over}");
    measured(
        &case,
        // The one in the middle.
        |gaps: &Vec<u64>| gaps[gaps.len() / 2] < GAP,
        |gaps| format!("gaps {gaps:?} ms, median {} ms", gaps[gaps.len() / 2]),
        || {
            let mut gaps: Vec<u64> =
                (0..6).map(|round| moved(round, net, routers, family, over, &tell)).collect();
            gaps.sort_unstable();
            gaps
        },
    );
}

/// Moves the address there, in an odd round back, and gives the gap.
fn moved(
    round: usize,
    net: &Network,
    routers: &mut Routers<'_>,
    family: Family,
    over: Family,
    tell: impl Fn(&Site, &Router<'_>),
) -> u64 {
    let addr = moving(family);
    let (a, b, c) = (net.site(1), net.site(2), net.site(3));
    let (from, to) = if round.is_multiple_of(2) { (a, b) } else { (b, a) };
    assert!(reaches(&c.host, addr, PATIENCE), "round {round}: the host before it moves");
    let stream = Stream::start(&c.host, [&a.host, &b.host], addr);
    thread::sleep(Duration::from_millis(500));
    set_address(from, family, false);
    set_address(to, family, true);
    tell(to, routers.xtr(to.number));
    let rloc = to.rloc(over, 0).to_string();
    until("site 3 to follow", PATIENCE, || ways(&routers.xtrs[2], family) == [rloc.clone()]);
    until("the site before to know", PATIENCE, || {
        dynamic(&routers.xtrs[from.number - 1], "away").contains(&full(family))
    });
    thread::sleep(Duration::from_millis(200));
    // From here on, once the queues on the way are empty, nothing goes to the wrong place.
    until("the end of packets to the LAN that it left", PATIENCE, || {
        let (before, redirected) = (on_lan(from), on_lan(to));
        thread::sleep(Duration::from_millis(700));
        on_lan(from) == before && on_lan(to) > redirected + 200
    });
    let (gap, lost, got) = stream.finish();
    crate::wait::tell(&format!(
        "{family} over {over}, round {round}: gap {gap} ms, lost {lost}, received {got:?}"
    ));
    gap
}

fn by_command(family: Family, over: Family) {
    let _machine = Machine::shared();
    let net = network();
    let mut routers = routers(&net, over, "redirect-time = \"5s\"");
    for n in [1, 2] {
        count_on_lan(net.site(n));
    }
    set_address(net.site(1), family, true);
    let addr = moving(family).to_string();
    routers.xtr(1).operator(&["move", &addr, "--wait", "60"]);
    until("registration", PATIENCE, || routers.xtrs[0].show("dynamic-eids")["here"][0]["registered"] == true);
    to_and_fro(&net, &mut routers, family, over, |_, router| {
        let said = router.operator(&["move", &addr, "--wait", "60", "--json"]);
        assert!(said.contains("\"outcome\": \"registered\""), "{said}");
    });
    // Where it was, nothing is left after a while, and no router leaves anything behind.
    until("the end of redirection", PATIENCE, || dynamic(&routers.xtrs[1], "away").is_empty());
    let table = routers.xtr(2).ns.sh("ip -4 route show table 4341; ip -6 route show table 4341");
    assert!(!table.contains(&addr), "{table}");
    for xtr in &mut routers.xtrs {
        xtr.stop();
        assert!(!xtr.ns.sh("ip rule; ip -6 rule").contains("4341"));
    }
}

#[test]
fn an_ipv4_host_moves_by_command() {
    by_command(Family::V4, Family::V4);
}

#[test]
fn an_ipv6_host_moves_by_command() {
    by_command(Family::V6, Family::V6);
}

#[test]
fn hosts_are_found_where_they_are() {
    let _machine = Machine::shared();
    let net = network();
    let over = Family::V4;
    let mut routers = routers(&net, over, "detect = true\ndetect-timeout = \"4s\"\nredirect-time = \"5s\"");
    for n in [1, 2] {
        count_on_lan(net.site(n));
    }
    let c = net.site(3);
    for family in Family::BOTH {
        // Its first packet tells; further ones pass.
        let speak = |site: &Site| {
            let (addr, to) = (moving(family), c.host_eid(family));
            site.host.try_sh(&format!("ping -n -c 1 -W 1 -I {addr} {to}"));
        };
        set_address(net.site(1), family, true);
        until("it to be found", PATIENCE, || {
            speak(net.site(1));
            within(Duration::from_secs(1), || dynamic(&routers.xtrs[0], "here").contains(&full(family)))
        });
        let shown = routers.xtr(1).show("dynamic-eids");
        assert_eq!(shown["here"][0]["detected"], true, "{shown}");
        to_and_fro(&net, &mut routers, family, over, |site, router| {
            until("it to be found again", PATIENCE, || {
                speak(site);
                within(Duration::from_secs(1), || dynamic(router, "here").contains(&full(family)))
            });
        });
        // Once it is gone, it is withdrawn.
        set_address(net.site(1), family, false);
        until("it to be withdrawn", PATIENCE, || dynamic(&routers.xtrs[0], "here").is_empty());
    }
    // What nobody answers for is not taken in, whatever source a packet has.
    let spoof = "from socket import *; s = socket(AF_INET, SOCK_RAW, IPPROTO_RAW); \
                 s.sendto(bytes.fromhex('4500001c00004000401100000000') [:12] + inet_aton('172.16.50.77') + inet_aton('172.16.3.2') + bytes(8), ('172.16.3.2', 0))";
    net.site(1).host.sh(&format!("python3 -c \"{spoof}\""));
    thread::sleep(Duration::from_millis(1500));
    assert!(dynamic(&routers.xtrs[0], "here").is_empty());
}

#[test]
fn a_gentle_move_loses_nothing() {
    let _machine = Machine::shared();
    let net = network();
    let (over, family) = (Family::V4, Family::V4);
    // The Map-Server answers, as it alone knows what both sites have registered.
    let options = |site: &Site| XtrOptions {
        map_server: "proxy-reply = true".into(),
        ..options(site, over, "redirect-time = \"5s\"")
    };
    let mut routers = Routers::start_with(&net, options, OWNED);
    let addr = moving(family).to_string();
    set_address(net.site(1), family, true);
    routers.xtr(1).operator(&["move", &addr, "--priority", "10", "--wait", "60"]);
    let c = &net.site(3).host;
    assert!(reaches(c, moving(family), PATIENCE));
    // Both machines run for a while, as when one is taken over by the other.
    set_address(net.site(2), family, true);
    let stream = Stream::start(c, [&net.site(1).host, &net.site(2).host], moving(family));
    thread::sleep(Duration::from_millis(300));
    routers.xtr(2).operator(&["move", &addr, "--priority", "20", "--wait", "60"]);
    until("both to be known", PATIENCE, || ways(&routers.xtrs[2], family).len() == 2);
    routers.xtr(2).operator(&["move", &addr, "--priority", "5", "--wait", "60"]);
    until("the better one to be used", PATIENCE, || {
        let shown = routers.xtrs[2].show("map-cache");
        shown.to_string().contains("\"priority\":5")
    });
    thread::sleep(Duration::from_millis(300));
    routers.xtr(1).operator(&["move", &addr, "--away"]);
    let rloc = net.site(2).rloc(over, 0).to_string();
    until("one to be left", PATIENCE, || ways(&routers.xtrs[2], family) == [rloc.clone()]);
    thread::sleep(Duration::from_millis(500));
    let (gap, lost, got) = stream.finish();
    let _ = writeln!(std::io::stderr(), "gentle move: gap {gap} ms, lost {lost}, received {got:?}");
    assert!(got.iter().all(|n| *n > 200), "{got:?}");
    assert_eq!(lost, 0, "gap {gap} ms");
}

/// Who never hears of the move goes on sending to the site that it left, which sends on for a while, from locators of its
/// own: it passes, though every router checks that packets come from their sender's site.
#[test]
fn what_is_sent_on_passes_a_strict_source_check() {
    let _machine = Machine::shared();
    let net = network();
    let (over, family) = (Family::V4, Family::V4);
    // The Map-Server answers for site 3, which hears no questions.
    let options = |site: &Site| {
        let mut options = options(site, over, "redirect-time = \"10min\"");
        options.map_server = "proxy-reply = true".into();
        options.more += "[data-header]\nsource-check = \"strict\"\n";
        options
    };
    let routers = Routers::start_with(&net, options, OWNED);
    let (a, b, c) = (net.site(1), net.site(2), net.site(3));
    let addr = moving(family).to_string();
    count_on_lan(b);
    set_address(a, family, true);
    routers.xtrs[0].operator(&["move", &addr, "--wait", "60"]);
    assert!(reaches(&c.host, moving(family), PATIENCE));
    c.xtr.sh(
        "nft add table inet deaf && nft add chain inet deaf in '{ type filter hook input priority 0; }' && \
         nft add rule inet deaf in udp dport 4342 drop",
    );
    let stream = Stream::start(&c.host, [&a.host, &b.host], moving(family));
    set_address(a, family, false);
    set_address(b, family, true);
    routers.xtrs[1].operator(&["move", &addr, "--wait", "60"]);
    until("what is sent on to arrive", PATIENCE, || on_lan(b) > 500);
    assert_eq!(ways(&routers.xtrs[2], family), [a.rloc(over, 0).to_string()], "site 3 has not heard of it");
    let (_, _, got) = stream.finish();
    assert!(got[1] >= 300, "{got:?}");
    let shown = routers.xtrs[0].show("statistics");
    let threads = shown["data"].as_array().expect("threads").iter();
    let redirected: u64 = threads.filter_map(|t| t["counters"]["redirected-packets"].as_u64()).sum();
    assert!(redirected >= 500, "{shown}");
}

#[test]
fn nobody_moves_what_is_not_his() {
    let _machine = Machine::shared();
    let net = network();
    let (over, family) = (Family::V4, Family::V4);
    // The key of site 2 is good for its own EID-prefixes alone.
    let (owned, _) = OWNED.rsplit_once("[[site.key]]").expect("two keys");
    let routers = Routers::start_with(&net, |site| options(site, over, ""), owned);
    let addr = moving(family).to_string();
    set_address(net.site(1), family, true);
    routers.xtrs[0].operator(&["move", &addr, "--wait", "60"]);
    assert!(reaches(&net.site(3).host, moving(family), PATIENCE));
    let stream = Stream::start(&net.site(3).host, [&net.site(1).host, &net.site(2).host], moving(family));
    // It is told so, and what to look at.
    let output = routers.xtrs[1].control(&["move", &addr, "--wait", "4"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("did not confirm"), "{said}");
    assert!(said.contains("accept-more-specifics") && said.contains("keys"), "{said}");
    let (gap, _, got) = stream.finish();
    assert!(gap < 2000 && got[1] == 0, "gap {gap} ms, {got:?}");
    assert!(dynamic(&routers.xtrs[0], "away").is_empty());
    let counted = routers.mapping.show("statistics");
    let refused = ["auth-wrong-key", "auth-algorithm", "auth-unknown-key-id"];
    let refused = refused.iter().filter_map(|name| counted["control"]["dropped"][*name].as_u64());
    assert!(refused.sum::<u64>() > 0, "{counted}");

    // Other EIDs, other routers, other users.
    for (router, args, why) in [
        (&routers.xtrs[0], &["move", "172.16.51.9"][..], "lies in no [[dynamic-eid]]"),
        (&routers.xtrs[0], &["move", "172.16.1.0/24"], "lies in no [[dynamic-eid]]"),
        (&routers.xtrs[2], &["move", &addr], "lies in no [[dynamic-eid]]"),
        (&routers.xtrs[0], &["move", "172.16.50.8", "--away"], "it is not here"),
    ] {
        let output = router.control(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{args:?}: {said}");
    }
    let socket = net.file("xtr1.sock");
    std::fs::set_permissions(net.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let program = net.file("eidolon");
    std::fs::copy(eidolon(), &program).expect("a copy that everybody may run");
    let stranger = Command::new(&program)
        .args(["move", &addr, "--away", "--socket"])
        .arg(&socket)
        .uid(65_534)
        .gid(65_534)
        .output()
        .expect("eidolon");
    let said = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(!stranger.status.success() && said.contains("not permitted"), "{said}");
    assert_eq!(dynamic(&routers.xtrs[0], "here"), [full(family)]);
}

//! Two xTRs of one site that synchronise their map-caches.
//!
//! ```text
//!   host 1 ── xTR 1 ══ core ══ xTR 2 ── host 2
//!               │        ║
//!             second ════╝          the site's second xTR, with a link to the first
//! ```

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use eidolon::types::{Action, EidPrefix, Locator, Mapping, Ttl};
use eidolon::wire::{EidRecord, MapReply, Message};
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::capture::{Capture, tshark};
use crate::netns::Netns;
use crate::router::{Router, Routers, XtrOptions, xtr_config};
use crate::topology::{Family, Network, Plan, address, default_route, link};
use crate::traffic::{Stream, deep_queue, go_on, reaches};
use crate::wait::{Machine, PATIENCE, Stop, tell, until};

/// On the link between the two.
const ENDS: [&str; 2] = ["192.168.50.1", "192.168.50.2"];

/// The site's second xTR.
fn second(net: &Network) -> Netns {
    let second = Netns::new("xtr1b");
    let first = &net.site(1).xtr;
    link(first, "peer0", &second, "peer0", 1500);
    address(first, "peer0", "192.168.50.1/24", "2001:db8:50::1/64");
    address(&second, "peer0", "192.168.50.2/24", "2001:db8:50::2/64");
    link(&net.core, "s1b", &second, "wan0", 1500);
    address(&net.core, "s1b", "10.1.9.1/24", "2001:db8:1:9::1/64");
    address(&second, "wan0", "10.1.9.2/24", "2001:db8:1:9::2/64");
    default_route(&second, "10.1.9.1", "2001:db8:1:9::1");
    second
}

fn sync_section(ours: usize, more: &str) -> String {
    format!(
        "[sync]\nmembers = [\"{}\"]\nsource = \"{}\"\nkey = \"of the site\"\nhello-interval = \"1s\"\n\
         {more}\n",
        ENDS[1 - ours],
        ENDS[ours]
    )
}

/// Configuration of the second xTR, which registers nothing.
fn second_config(more: &str) -> String {
    let mut text = "roles = [\"itr\", \"etr\"]\n[router]\nname = \"xtr1b\"\nstate-dir = \"STATE-DIR\"\n\
         [[locator]]\naddress = \"10.1.9.2\"\n[[map-resolver]]\naddress = \"10.0.0.2\"\n"
        .to_owned();
    for prefix in ["172.16.1.0/24", "2001:db8:ee:1::/64"] {
        text += &format!("[[eid-prefix]]\nprefix = \"{prefix}\"\nregister = false\n");
    }
    text + more
}

/// EID-prefix, seconds until it ends, and source, of every entry.
fn entries(router: &Router<'_>) -> Vec<(String, i64, String)> {
    let view = router.show("map-cache");
    let entries = view["entries"].as_array().expect("entries").iter();
    entries
        .map(|e| {
            let text = |key: &str| e[key].as_str().unwrap_or_default().to_owned();
            (text("net"), e["expires"].as_i64().unwrap_or(-1), text("source"))
        })
        .collect()
}

fn same(a: &Router<'_>, b: &Router<'_>) -> bool {
    let (of_a, of_b) = (entries(a), entries(b));
    of_a.len() == of_b.len()
        // Asked one after the other, and counted in whole seconds.
        && of_a.iter().zip(&of_b).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 2)
}

fn member(router: &Router<'_>) -> Value {
    router.show("sync")["members"][0].clone()
}

#[test]
fn what_one_xtr_learns_the_other_knows_also_after_a_restart() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let second_ns = second(&net);
    let capture = Capture::start(&second_ns, "peer0", net.file("sync.pcap"), "udp port 4342");
    let routers = Routers::start_with(
        &net,
        |site| {
            let more = if site.number == 1 { sync_section(0, "") } else { String::new() };
            XtrOptions { more, ..XtrOptions::over(site, Family::V4) }
        },
        "",
    );
    let first = &routers.xtrs[0];
    let mut second = Router::start(&net, &second_ns, "xtr1b", &second_config(&sync_section(1, "")));
    until("both to know each other", PATIENCE, || {
        member(first)["state"] == "up" && member(&second)["state"] == "up"
    });
    let (a, b) = (net.site(1), net.site(2));
    for family in Family::BOTH {
        assert!(reaches(&a.host, b.host_eid(family), PATIENCE));
    }
    // A negative entry, too.
    a.host.try_sh("ping -n -c 1 -W 1 203.0.113.77");
    until("the same map-cache at both", PATIENCE, || entries(&second).len() >= 3 && same(first, &second));
    assert!(entries(&second).iter().all(|(_, _, source)| source == "synchronised"), "{:?}", entries(&second));
    assert_eq!(entries(first).iter().filter(|(_, _, source)| source == "synchronised").count(), 0);
    let detail = second.operator(&["show", "map-cache", "detail"]);
    assert!(detail.contains("synchronised") && detail.contains(ENDS[0]), "{detail}");

    second.kill();
    second.launch();
    until("it all again after a restart", PATIENCE, || {
        member(&second)["awaited"] == false && same(first, &second)
    });
    let table = second.operator(&["show", "sync"]);
    assert!(table.contains("smart") && table.contains(ENDS[0]), "{table}");
    assert!(second.log().contains("whole map-cache received from xTR 192.168.50.1"), "{}", second.log());

    // With another key nothing is believed, and that is counted.
    let other = second_config(&sync_section(1, "").replace("of the site", "of another site"));
    second.write_config(net.dir(), &other);
    second.reload();
    until("the wrong key to be counted", PATIENCE, || {
        member(first)["ignored"]["auth-wrong-key"].as_u64().unwrap_or(0) > 0
    });
    second.stop();
    let file = capture.stop();
    let lines = tshark(&file, &["-Y", "udp.port == 4342", "-T", "fields", "-e", "frame.len"]);
    let lengths: Vec<u32> = lines.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert!(lengths.len() > 10 && lengths.iter().all(|len| *len < 1500), "{lengths:?}");
}

/// Sites of 255 EID-prefixes each that are asked for.
const SITES: u8 = 200;

/// Answers Map-Requests: for an EID in 10.n.0.0/15 with that and the 254 first /24s in it, for the two sites
/// with where they are.
fn map_resolver(socket: &UdpSocket, over: &AtomicBool) {
    let mut buffer = vec![0; 2048];
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("time-out");
    while !over.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        let Ok(Message::Ecm(ecm)) = Message::decode(&buffer[..len]) else { continue };
        let Ok(Message::MapRequest(request)) = Message::decode(&ecm.payload) else { continue };
        let Some(Ok(asked)) = request.records.first().map(|r| r.to_prefix()) else { continue };
        let IpAddr::V4(addr) = asked.first().addr else { continue };
        let record = |net: Ipv4Addr, len: u8, rloc: &str| {
            let prefix = EidPrefix::from(Ipv4Net::new_assert(net, len));
            EidRecord::from(&Mapping {
                locators: vec![Locator::new(rloc.parse().expect("address"), 1, 100)],
                ..Mapping::negative(prefix, Ttl(1440), Action::NoAction)
            })
        };
        let [first, n, ..] = addr.octets();
        let records = match (first, n) {
            (172, 16) => {
                let [_, _, site, _] = addr.octets();
                vec![record(Ipv4Addr::new(172, 16, site, 0), 24, &format!("10.{site}.0.2"))]
            }
            (11.., _) => {
                let base = Ipv4Addr::from_bits(addr.to_bits() & 0xfffe_0000);
                let inside = |k: u32| record(Ipv4Addr::from_bits(base.to_bits() | k << 8), 24, "10.2.0.2");
                [record(base, 15, "10.2.0.2")].into_iter().chain((0..254).map(inside)).collect()
            }
            _ => continue,
        };
        let reply = MapReply { nonce: request.nonce, records, ..MapReply::default() };
        let payload = Message::MapReply(reply).encode().expect("a Map-Reply");
        let _ = socket.send_to(&payload, from);
    }
}

/// How many entries there are, without a list of them.
fn total(router: &Router<'_>) -> u64 {
    let text = router.operator(&["show", "map-cache", "192.0.2.1", "--json"]);
    let view: Value = serde_json::from_str(&text).expect("JSON");
    view["total"].as_u64().expect("a number")
}

/// How long 100,000 entries take is printed; that traffic through the sender loses nothing is asserted.
#[test]
fn a_large_map_cache_reaches_a_fresh_member_without_disturbing_traffic() {
    let _machine = Machine::shared();
    let sites = if crate::wait::full_measure() { 400 } else { u32::from(SITES) };
    let net = Network::build(&Plan::default());
    let second_ns = second(&net);
    let over = AtomicBool::new(false);
    let socket = net.mapping.run(|| UdpSocket::bind("10.0.0.2:4342").expect("port 4342"));
    thread::scope(|scope| {
        scope.spawn(|| map_resolver(&socket, &over));
        let _stop = Stop(&over);
        let cache = "[map-cache]\nlimit = 200000\nidle-timeout = \"never\"\n[probing]\nenabled = false\n";
        let config = |number: usize, more: &str| {
            let site = net.site(number);
            let text = xtr_config(site, &XtrOptions::over(site, Family::V4));
            text.replace("prefix = \"", "register = false\nprefix = \"") + cache + more
        };
        let first = Router::start(&net, &net.site(1).xtr, "xtr1", &config(1, &sync_section(0, "")));
        let _other = Router::start(&net, &net.site(2).xtr, "xtr2", &config(2, ""));
        let (host, to) = (&net.site(1).host, net.site(2).host_eid(Family::V4));
        assert!(reaches(host, to, PATIENCE));
        let probe = host.run(|| UdpSocket::bind("0.0.0.0:0").expect("bind"));
        let learnt = || total(&first);
        until("a full map-cache", 2 * PATIENCE, || {
            for n in 0..sites {
                let base = 0x0b00_0000 + (n << 17);
                let _ = probe.send_to(b"x", (Ipv4Addr::from_bits(base | 0xff01), 9));
                thread::sleep(Duration::from_millis(4));
            }
            learnt() >= u64::from(sites) * 255
        });
        let entries = learnt();
        // Meanwhile the two sites talk.
        let (other, from) = (&net.site(2).host, net.site(1).host_eid(Family::V4));
        net.sites.iter().for_each(|site| deep_queue(&site.xtr));
        let streams = [Stream::start(host, other, to), Stream::start(other, host, from)];
        go_on("traffic before anything happens", &streams.each_ref());
        let start = Instant::now();
        let more = cache.to_owned() + &sync_section(1, "");
        let second = Router::start(&net, &second_ns, "xtr1b", &second_config(&more));
        until("the whole map-cache at the second xTR", PATIENCE, || member(&second)["awaited"] == false);
        let took = start.elapsed();
        let streams = streams.map(Stream::finish);
        let transfer = member(&second)["received_whole"].clone();
        tell(&format!(
            "{} entries received in {} ms, {took:?} after the start of the process; {} and {}",
            transfer["records"], transfer["took_ms"], streams[0], streams[1]
        ));
        assert!(streams.iter().all(|s| s.received as u64 == s.sent), "{streams:?}");
        assert_eq!(transfer["records"].as_u64(), Some(entries));
        assert_eq!(total(&second), entries);
        assert_eq!(member(&first)["outstanding"].as_u64(), Some(0));
    });
}

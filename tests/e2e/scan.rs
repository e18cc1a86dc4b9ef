//! A host that tries every destination there is, beside others that work.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use eidolon::types::{Action, Locator, Mapping, Ttl};
use eidolon::wire::{EidRecord, MapReply, Message};
use serde_json::Value;

use crate::router::{Router, Routers, XtrOptions, unoptimised, visit};
use crate::topology::{Family, Network, Plan};
use crate::traffic::{Stream, Streamed, deep_queue, reaches};
use crate::wait::{Machine, PATIENCE, Stop, measured, tell, until};

/// Destinations that are tried; a million where that is asked for.
fn destinations() -> u32 {
    if std::env::var_os("EIDOLON_E2E_FULL").is_some() { 1_000_000 } else { 200_000 }
}

const CACHE_LIMIT: u64 = 2000;
const PENDING_LIMIT: usize = 512;

/// Answers Map-Requests: for one in 16 destinations nothing, for the others a record for that very address,
/// which is the most that a mapping system can do to a map-cache. Gives the number of its answers.
fn hostile_map_resolver(socket: &UdpSocket, over: &AtomicBool) -> u64 {
    let mut buffer = vec![0; 2048];
    let mut answers = 0;
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("time-out");
    while !over.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        let Ok(Message::Ecm(ecm)) = Message::decode(&buffer[..len]) else { continue };
        let Ok(Message::MapRequest(request)) = Message::decode(&ecm.payload) else { continue };
        let Some(Ok(asked)) = request.records.first().map(|r| r.to_prefix()) else { continue };
        let IpAddr::V4(addr) = asked.first().addr else { continue };
        let mapping = match addr.to_bits() % 16 {
            0 => continue,
            1..9 => Mapping::negative(asked, Ttl(15), Action::Drop),
            _ => Mapping {
                locators: vec![Locator::new("10.0.0.9".parse().expect("address"), 1, 100)],
                ..Mapping::negative(asked, Ttl(15), Action::NoAction)
            },
        };
        let reply = MapReply {
            nonce: request.nonce,
            records: vec![EidRecord::from(&mapping)],
            ..MapReply::default()
        };
        let payload = Message::MapReply(reply).encode().expect("a Map-Reply");
        answers += u64::from(socket.send_to(&payload, from).is_ok());
    }
    answers
}

fn counter(statistics: &Value, name: &str) -> u64 {
    let mut sum = 0;
    visit(statistics, &mut |object| sum += object.get(name).and_then(Value::as_u64).unwrap_or(0));
    sum
}

fn entries(router: &Router<'_>) -> (u64, usize) {
    let total = router.show("map-cache")["total"].as_u64().expect("a number");
    let pending = router.show("pending")["requests"].as_array().expect("a list").len();
    (total, pending)
}

/// What came of a scan.
struct Scanned {
    /// A packet a millisecond from another host and to it, for as long as the scan took.
    streams: [Streamed; 2],
    tried: u64,
    took: Duration,
    answers: u64,
    /// The most entries in the map-cache, Map-Requests pending, and KiB resident, meanwhile.
    cached: u64,
    pending: usize,
    resident: u64,
}

/// Tries [`destinations`], others in each scan.
fn scan(number: u32, net: &Network, xtr: &Router<'_>, scanner: &UdpSocket, flooding: &UdpSocket) -> Scanned {
    let (a, b) = (net.site(1), net.site(2));
    let over = AtomicBool::new(false);
    let streams =
        [(a, b), (b, a)].map(|(from, to)| Stream::start(&from.host, &to.host, to.host_eid(Family::V4)));
    let start = Instant::now();
    thread::scope(|scope| {
        let stop = Stop(&over);
        let answering = scope.spawn(|| hostile_map_resolver(flooding, &over));
        let watching = scope.spawn(|| {
            let mut most = (0, 0, 0);
            while !over.load(Ordering::Relaxed) {
                let (cached, pending) = entries(xtr);
                most = (most.0.max(cached), most.1.max(pending), most.2.max(xtr.resident_kib()));
                thread::sleep(Duration::from_millis(200));
            }
            most
        });
        // Far more a second than are answered.
        let pause = if unoptimised() { 80 } else { 40 };
        let first = 0x6440_0000 + (number << 20);
        for n in 0..destinations() {
            let to = SocketAddr::new(Ipv4Addr::from_bits(first + n).into(), 9);
            let _ = scanner.send_to(b"scan", to);
            if n % 100 == 0 {
                let due = start + Duration::from_micros(u64::from(n) * pause);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        let took = start.elapsed();
        let streams = streams.map(Stream::finish);
        drop(stop);
        let (cached, pending, resident) = watching.join().expect("watch");
        let answers = answering.join().expect("answers");
        Scanned { streams, tried: destinations().into(), took, answers, cached, pending, resident }
    })
}

#[test]
fn a_scan_of_a_million_destinations_disturbs_nobody() {
    let _machine = Machine::alone();
    let net = Network::build(&Plan::default());
    let (a, b) = (net.site(1), net.site(2));
    let mut routers = Routers::start_with(
        &net,
        |site| {
            let mut options = XtrOptions::over(site, Family::V4);
            options.more = format!(
                "[map-cache]\nlimit = {CACHE_LIMIT}\n[timers]\npending-requests = {PENDING_LIMIT}\n\
                 request-retries = 2\nrequest-rest = \"2s\"\nregister-interval = \"3s\"\n\
                 quick-register-interval = \"3s\"\nregister-retry-max = \"3s\"\n[data-plane]\n\
                 pending-limit = 1024\n"
            );
            options
        },
        "",
    );
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));
    // In place of the mapping system, one that floods.
    routers.mapping.stop();
    let flooding = net.mapping.run(|| UdpSocket::bind("0.0.0.0:4342").expect("bind"));
    // Room for bursts of the scan where the machine is busy elsewhere.
    deep_queue(&a.xtr);
    // The scanning host has an address of its own.
    a.host.sh("ip addr add 172.16.1.66/24 dev lan0");
    let scanner = a.host.run(|| UdpSocket::bind("172.16.1.66:0").expect("bind"));
    deep_queue(&b.xtr);
    let xtr = &routers.xtrs[0];
    let before = xtr.resident_kib();
    let mut number = 0;
    let scanned = measured(
        "a stream during a scan",
        |scanned: &Scanned| scanned.streams.iter().all(|s| s.received as u64 == s.sent),
        |scanned| {
            let Scanned { streams: [there, back], tried, took, .. } = scanned;
            format!("{there}; {back}; {tried} destinations tried in {took:.1?}")
        },
        || {
            number += 1;
            scan(number, &net, xtr, &scanner, &flooding)
        },
    );
    let after = xtr.resident_kib();
    let statistics = xtr.show("statistics");
    let Scanned { answers, cached, pending, resident, .. } = scanned;
    tell(&format!(
        "{answers} answers; map-cache at most {cached} of {CACHE_LIMIT}, pending at most {pending} of \
         {PENDING_LIMIT}; resident {before} KiB before, {resident} KiB at most, {after} KiB after; \
         evicted {}, punts {}, limited {}, lost {}",
        counter(&statistics, "map-cache-evicted"),
        counter(&statistics, "punts"),
        counter(&statistics, "punts-rate-limited"),
        counter(&statistics, "punts-lost"),
    ));
    assert!(cached <= CACHE_LIMIT, "{cached}");
    assert!(pending <= PENDING_LIMIT, "{pending}");
    assert!(answers > 2 * CACHE_LIMIT, "only {answers} answers: the map-cache never was in danger");
    assert!(counter(&statistics, "map-cache-evicted") > 0);
    assert!(resident < before + 24 * 1024, "resident memory grew from {before} to {resident} KiB");
    // Site 2's prefix never left the map-cache of site 1, which could not have asked for it again.
    let cache = xtr.show("map-cache");
    let known = b.prefix(Family::V4);
    assert!(
        cache["entries"].as_array().expect("a list").iter().any(|e| e["net"] == Value::String(known.clone())),
        "{known} is gone"
    );
    // And with the mapping system back, new destinations are found again.
    drop(flooding);
    routers.mapping.launch();
    until("all registrations after the scan", PATIENCE, || routers.registered().len() == 4);
    routers.xtrs[0].clear_map_cache();
    assert!(reaches(&a.host, b.host_eid(Family::V6), PATIENCE), "after the scan");
}

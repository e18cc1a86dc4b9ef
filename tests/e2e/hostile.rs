//! Bad input from the network is dropped and counted, and disturbs nothing else.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::capture::{Capture, tshark};
use crate::netns::Netns;
use crate::router::{Router, Routers, XtrOptions, xtr_config};
use crate::topology::{Family, Network, Plan, mapping_system};
use crate::traffic::{Noise, ping, reaches};
use crate::wait::{Machine, PATIENCE, Stop, full_measure, measured, until};

/// UDP payloads in a capture that tshark's `filter` lets through, in order.
pub fn payloads(file: &Path, filter: &str) -> Vec<Vec<u8>> {
    tshark(file, &["-Y", filter, "-T", "fields", "-e", "udp.payload", "-E", "occurrence=f"])
        .lines()
        .filter(|l| !l.is_empty())
        .map(|hex| {
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex")).collect()
        })
        .collect()
}

/// A datagram as a fuzzer makes it from a real one: bits flipped, bytes replaced by borderline values, cut,
/// grown, or spliced with another.
fn mutate(noise: &mut Noise, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[noise.below(seeds.len())].clone();
    for _ in 0..=noise.below(4) {
        let at = noise.below(bytes.len().max(1));
        match noise.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << noise.below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][noise.below(5)],
            2 => bytes.truncate(at),
            3 => {
                let mut tail = vec![0; noise.below(64)];
                noise.fill(&mut tail);
                bytes.extend(tail);
            }
            4 => {
                let other = &seeds[noise.below(seeds.len())];
                let from = noise.below(other.len().max(1));
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ if bytes.len() >= 4 => {
                let at = noise.below(bytes.len() - 3);
                noise.fill(&mut bytes[at..at + 4]);
            }
            _ => {}
        }
    }
    bytes.truncate(1400);
    bytes
}

/// For how long the storm lasts at least, and how many datagrams it has; the full length where that is asked
/// for.
fn storm() -> (Duration, u64) {
    if full_measure() { (Duration::from_secs(60), 100_000) } else { (Duration::from_secs(10), 25_000) }
}

/// Random and near-valid datagrams to every port of every router, while hosts talk.
#[test]
fn a_storm_of_bad_datagrams_disturbs_nothing() {
    let _machine = Machine::alone();
    let net = Network::build(&Plan::default());
    let capture = Capture::lisp(&net.core, "s1u0", net.file("seeds.pcap"));
    let mut routers = Routers::start(&net, Family::V4);
    let (a, b) = (net.site(1), net.site(2));
    for eids in Family::BOTH {
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE));
    }
    ping(&a.host, "198.51.100.1".parse().expect("address"), 3, 0.1, "");
    let seeds = capture.stop();
    let control = payloads(&seeds, "udp.port == 4342");
    let data = payloads(&seeds, "udp.dstport == 4341");
    assert!(control.len() >= 6 && data.len() >= 4, "{} and {} packets to mutate", control.len(), data.len());

    let targets: Vec<SocketAddr> = Family::BOTH
        .into_iter()
        .flat_map(|f| [a.rloc(f, 0), b.rloc(f, 0), mapping_system(f)])
        .flat_map(|addr| [SocketAddr::new(addr, 4341), SocketAddr::new(addr, 4342)])
        .collect();
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let stop = Stop(&over);
        scope.spawn(|| {
            net.core.run(|| {
                let v4 = UdpSocket::bind("0.0.0.0:0").expect("bind");
                let v6 = UdpSocket::bind("[::]:0").expect("bind");
                let mut noise = Noise::new(20);
                while !over.load(Ordering::Relaxed) {
                    // About 4,000 datagrams a second: more than any router hears by accident, little enough
                    // to leave two cores time for the rest of the test.
                    for _ in 0..8 {
                        let to = targets[noise.below(targets.len())];
                        let bytes = match noise.below(4) {
                            0 => {
                                let mut bytes = vec![0; noise.below(1200)];
                                noise.fill(&mut bytes);
                                bytes
                            }
                            _ => mutate(&mut noise, if to.port() == 4341 { &data } else { &control }),
                        };
                        let socket = if to.is_ipv4() { &v4 } else { &v6 };
                        // Where nothing listens, the ICMP answer shows up as an error of a later send.
                        let done = socket.send_to(&bytes, to).is_ok();
                        sent.fetch_add(u64::from(done), Ordering::Relaxed);
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            })
        });
        // Buffers reach their working size first; growth is what comes after that.
        thread::sleep(Duration::from_secs(3));
        let early: Vec<u64> = routers.all().map(Router::resident_kib).collect();
        let (length, count) = storm();
        let (start, mut done) = (Instant::now(), 0);
        measured(
            "pings during the storm",
            |(asked, answered): &(usize, usize)| asked - answered <= asked / 100,
            |(asked, answered)| format!("{answered} of {asked} answered"),
            || {
                let (mut asked, mut answered) = (0, 0);
                while asked < 300 || start.elapsed() < length || sent.load(Ordering::Relaxed) < count {
                    let eids = Family::BOTH[done % 2];
                    let seen = ping(&a.host, b.host_eid(eids), 50, 0.02, "");
                    done += 1;
                    asked += seen.sent;
                    answered += seen.received;
                }
                (asked, answered)
            },
        );
        drop(stop);
        let late: Vec<u64> = routers.all().map(Router::resident_kib).collect();
        for (router, (early, late)) in routers.all().zip(early.iter().zip(&late)) {
            assert!(*late < early + 8 * 1024, "{} grew from {early} to {late} KiB", router.name);
        }
    });

    // Everybody lives, has counted what came, and still resolves.
    for router in [&mut routers.mapping].into_iter().chain(&mut routers.xtrs) {
        assert!(router.running(), "{} died:\n{}", router.name, router.log());
        let log = router.log();
        assert!(!log.contains("panicked"), "{} panicked:\n{log}", router.name);
        assert!(log.len() < 2_000_000, "{} wrote {} bytes of log", router.name, log.len());
    }
    routers.clear_map_caches();
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE), "resolution after the storm");
    assert_eq!(routers.registered().len(), 4);
}

/// The counter of drops for this reason in `show statistics --json`; 0 when there is none.
pub fn dropped(statistics: &Value, reason: &str) -> u64 {
    let mut count = None;
    crate::router::visit(statistics, &mut |object| {
        if let Some(n) = object.get(reason).and_then(Value::as_u64) {
            count = Some(count.unwrap_or(0) + n);
        }
    });
    count.unwrap_or(0)
}

/// Sends payloads from a fresh port of `from`.
fn send(from: &Netns, to: SocketAddr, payloads: &[Vec<u8>]) {
    from.run(|| {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("bind");
        for payload in payloads {
            socket.send_to(payload, to).expect("send");
        }
    });
}

#[test]
fn bad_messages_are_counted_by_reason() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1, 1, 1], ..Plan::default() });
    let capture = Capture::lisp(&net.core, "s1u0", net.file("seeds.pcap"));
    let mapping = Router::start(&net, &net.mapping, "mapping", &crate::router::mapping_config(&net, ""));
    let (a, b, c) = (net.site(1), net.site(2), net.site(3));
    let start = |site, options: &XtrOptions| {
        let site: &crate::topology::Site = site;
        let name = format!("xtr{}", site.number);
        let ns = &net.sites[site.number - 1].xtr;
        Router::start(&net, ns, &name, &xtr_config(site, options))
    };
    let xtr1 = start(a, &XtrOptions::over(a, Family::V4));
    // Site 2 has the wrong key; site 3 also registers what belongs to nobody, and what belongs to site 1.
    let _xtr2 = start(b, &XtrOptions { key: "not the key".to_owned(), ..XtrOptions::over(b, Family::V4) });
    let mut stranger = XtrOptions::over(c, Family::V4);
    stranger.more = "[[eid-prefix]]\nprefix = \"203.0.113.0/24\"\n".to_owned();
    let _xtr3 = start(c, &stranger);

    let statistics = |router: &Router<'_>| router.show("statistics");
    until("site 1's registration", PATIENCE, || {
        crate::router::registered_prefixes(&mapping.show("sites")).contains(&a.prefix(Family::V4))
    });
    until("the count of a wrong key", PATIENCE, || dropped(&statistics(&mapping), "auth-wrong-key") > 0);
    until("the count of a prefix that is not the site's", PATIENCE, || {
        dropped(&statistics(&mapping), "register-eid-not-owned") > 0
    });
    let registered = crate::router::registered_prefixes(&mapping.show("sites"));
    assert!(!registered.contains(&b.prefix(Family::V4)), "registered with a wrong key: {registered:?}");
    assert!(!registered.iter().any(|p| p.starts_with("203.0.113")), "{registered:?}");

    // A lookup, so that there is a Map-Reply to replay; then everything once more from a stranger's port.
    xtr1.control(&["lig", &b.host_eid(Family::V4).to_string()]);
    let file = capture.stop();
    let registers = payloads(&file, "lisp.type == 3");
    let replies = payloads(&file, "lisp.type == 2");
    assert!(!registers.is_empty() && !replies.is_empty(), "{} {}", registers.len(), replies.len());
    let map_server = SocketAddr::new(mapping_system(Family::V4), 4342);
    let xtr = SocketAddr::new(a.rloc(Family::V4, 0), 4342);
    let before = (statistics(&mapping), statistics(&xtr1));

    // Data packets: too short, for somebody else's EID, of an instance that nobody has, with nonsense inside.
    let data = SocketAddr::new(a.rloc(Family::V4, 0), 4341);
    let inner = |to: [u8; 4]| {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 172, 16, 2, 2];
        packet.extend(to);
        packet.extend([0x10, 0, 0x20, 0, 0, 8, 0, 0]);
        let sum: u32 = packet[..20].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("two carries at most");
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    let encapsulated = |header: [u8; 8], packet: &[u8]| [header.as_slice(), packet].concat();
    let none = [0; 8];
    let seven = [8, 0, 0, 0, 0, 0, 7, 0];
    send(
        &net.core,
        data,
        &[
            vec![0; 5],
            encapsulated(none, &inner([203, 0, 113, 1])),
            encapsulated(seven, &inner([172, 16, 1, 2])),
            encapsulated(none, &[0xff; 40]),
        ],
    );

    send(&a.xtr, map_server, &registers[..1]);
    send(&net.core, xtr, &replies[..1]);
    // Types 9 and 14 are nobody's; a Map-Register that ends early; a Map-Request that promises 255 records.
    let unknown = [vec![0x90; 24], vec![0xe0; 24]];
    let truncated = [registers[0][..20].to_vec(), vec![0x10, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]];
    for target in [map_server, xtr] {
        send(&net.core, target, &unknown);
        send(&net.core, target, &truncated);
    }
    for (router, reason, before, least) in [
        (&mapping, "register-replayed", &before.0, 1),
        (&xtr1, "reply-unknown-nonce", &before.1, 1),
        (&mapping, "unknown-message-type", &before.0, 2),
        (&xtr1, "unknown-message-type", &before.1, 2),
        (&xtr1, "outer-truncated", &before.1, 1),
        (&xtr1, "inner-destination-not-local", &before.1, 1),
        (&xtr1, "unknown-instance", &before.1, 1),
        (&xtr1, "inner-malformed", &before.1, 1),
        (&mapping, "truncated", &before.0, 2),
        (&xtr1, "truncated", &before.1, 2),
    ] {
        until(&format!("the count of {reason} at {}", router.name), PATIENCE, || {
            dropped(&statistics(router), reason) >= dropped(before, reason) + least
        });
    }
}

//! What data packets say in their LISP headers, and what routers make of it: with everything else that could
//! tell the same taken away.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;

use crate::capture::{Capture, tshark};
use crate::hostile::dropped;
use crate::judge::Judge;
use crate::netns::Netns;
use crate::router::{Locator, Router, Routers, XtrOptions, visit, xtr_config};
use crate::topology::{Family, Network, Plan, Site, mapping_system};
use crate::traffic::{ping, reaches};
use crate::wait::{Machine, PATIENCE, until, within};

/// One locator at site 1; at site 2 two, of which the second one is the better. All IPv4, with this of the
/// headers on.
fn options(site: &Site, header: &str) -> XtrOptions {
    let mut options = XtrOptions::over(site, Family::V4);
    if site.number == 2 {
        options.locators = [(0, 2), (1, 1)]
            .map(|(k, priority)| Locator { address: site.rloc(Family::V4, k), priority, weight: 100 })
            .to_vec();
    }
    options.more = format!(
        "[probing]\nenabled = false\n[data-header]\n{header}\n[timers]\necho-nonce-interval = \"500ms\"\n\
         echo-nonce-timeout = \"1500ms\"\n"
    );
    options
}

/// Two sites with those options, which have talked in both directions.
fn two_sites<'a>(net: &'a Network, header: &str) -> Routers<'a> {
    let routers = Routers::start_with(net, |site| options(site, header), "");
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));
    assert!(reaches(&b.host, a.host_eid(Family::V4), PATIENCE));
    routers
}

fn plan() -> Plan {
    Plan { uplinks: vec![1, 2], ..Plan::default() }
}

/// Has the core drop what a rule of nft(8) matches.
fn drop_at_core(net: &Network, rule: &str) {
    let core = &net.core;
    core.try_sh("nft add table inet dark");
    for hook in ["forward", "output"] {
        core.try_sh(&format!("nft add chain inet dark {hook} '{{ type filter hook {hook} priority 0; }}'"));
        core.sh(&format!("nft add rule inet dark {hook} {rule} counter drop"));
    }
}

/// Nothing but data packets passes between the sites' xTRs.
fn data_only(net: &Network) {
    let (a, b) = (net.site(1), net.site(2));
    for k in 0..2 {
        let (one, two) = (a.rloc(Family::V4, 0), b.rloc(Family::V4, k));
        drop_at_core(net, &format!("ip saddr {one} ip daddr {two} udp dport 4342"));
        drop_at_core(net, &format!("ip saddr {two} ip daddr {one} udp dport 4342"));
    }
    // Nor does the underlay say what it can't deliver.
    drop_at_core(net, "ip protocol icmp icmp type destination-unreachable");
}

/// Keeps packets going from one host to another, until dropped.
fn chatter(from: &Site, to: &Site, log: &Path) -> crate::netns::Process {
    let eid = to.host_eid(Family::V4).to_string();
    from.host.spawn(log, &["ping", "-n", "-q", "-i", "0.05", &eid])
}

/// The last of a capture's data packets between two locators, as (N, L, E, V, I) and the values of the
/// fields.
fn data_headers(file: &Path, from: IpAddr, to: IpAddr) -> Vec<Vec<String>> {
    let filter = format!("udp.dstport == 4341 && ip.src == {from} && ip.dst == {to}");
    let fields = [
        "lisp-data.flags.nonce",
        "lisp-data.flags.lsb",
        "lisp-data.flags.enr",
        "lisp-data.flags.mv",
        "lisp-data.flags.iid",
        "lisp-data.nonce",
        "lisp-data.srcmapver",
        "lisp-data.dstmapver",
        "lisp-data.lsb",
        "_ws.malformed",
    ];
    let mut args = vec!["-Y", &filter, "-T", "fields", "-E", "separator=|", "-E", "occurrence=f"];
    for field in fields {
        args.extend(["-e", field]);
    }
    let text = tshark(file, &args);
    text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

/// A flag as tshark prints it.
fn set(field: &str) -> bool {
    matches!(field, "1" | "True")
}

fn number(field: &str) -> u32 {
    let hex = field.strip_prefix("0x").map(|digits| u32::from_str_radix(digits, 16));
    hex.unwrap_or_else(|| field.parse()).unwrap_or_else(|e| panic!("{field:?}: {e}"))
}

/// A data packet with this LISP header and a small UDP datagram inside.
fn data_packet(header: [u8; 8], from: IpAddr, to: IpAddr) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { panic!("IPv4 only") };
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([0x10, 0, 0x20, 0, 0, 8, 0, 0]);
    let sum: u32 = packet[..20].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("two carries at most");
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    [header.as_slice(), &packet].concat()
}

fn send(from: &Netns, to: IpAddr, payload: &[u8], count: usize) {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        for _ in 0..count {
            socket.send_to(payload, SocketAddr::new(to, 4341)).expect("send");
        }
    });
}

fn count(router: &Router<'_>, reason: &str) -> u64 {
    dropped(&router.show("statistics"), reason)
}

#[test]
fn a_forged_outer_source_is_refused_and_counted() {
    let _machine = Machine::shared();
    let net = Network::build(&plan());
    let routers = two_sites(&net, "source-check = \"known\"");
    let (a, b, xtr) = (net.site(1), net.site(2), &routers.xtrs[0]);
    let rloc = a.rloc(Family::V4, 0);
    let forged = data_packet([0; 8], b.host_eid(Family::V4), a.host_eid(Family::V4));
    send(&net.core, rloc, &forged, 10);
    until("the count of forged packets", PATIENCE, || count(xtr, "source-rloc-not-listed") == 10);
    // From a locator of the site it is not forged, even from the one that nothing is sent to.
    let before = count(xtr, "source-rloc-not-listed");
    b.xtr.run(|| {
        for k in 0..2 {
            let socket = UdpSocket::bind(SocketAddr::new(b.rloc(Family::V4, k), 0)).expect("bind");
            socket.send_to(&forged, SocketAddr::new(rloc, 4341)).expect("send");
        }
    });
    let fine = ping(&a.host, b.host_eid(Family::V4), 20, 0.02, "");
    assert_eq!((fine.lost(), count(xtr, "source-rloc-not-listed")), (0, before), "{}", fine.output);

    // A source of which nothing is known passes, and is asked for.
    let stranger = b.eid(Family::V4, 77);
    xtr.clear_map_cache();
    let unknown = data_packet([0; 8], stranger, a.host_eid(Family::V4));
    send(&net.core, rloc, &unknown, 1);
    until("the mapping of an unknown source", PATIENCE, || {
        xtr.show("map-cache").to_string().contains(&b.prefix(Family::V4))
    });
    assert_eq!((count(xtr, "source-rloc-not-listed"), count(xtr, "source-mapping-unknown")), (before, 0));

    // Strict, by a reload: nothing enters before the mapping is there, and then what it allows.
    xtr.write_config(net.dir(), &xtr_config(a, &options(a, "source-check = \"strict\"")));
    xtr.reload();
    xtr.clear_map_cache();
    send(&net.core, rloc, &unknown, 1);
    until("the count of unknown sources", PATIENCE, || count(xtr, "source-mapping-unknown") == 1);
    assert!(reaches(&b.host, a.host_eid(Family::V4), PATIENCE), "{}", xtr.log());
    let before = count(xtr, "source-rloc-not-listed");
    send(&net.core, rloc, &unknown, 5);
    until("the count of forged packets", PATIENCE, || count(xtr, "source-rloc-not-listed") == before + 5);
}

#[test]
fn the_headers_bits_are_what_tshark_says() {
    let _machine = Machine::shared();
    let net = Network::build(&plan());
    let all =
        "locator-status-bits = true\nmap-versioning = true\necho-nonce = true\nsource-check = \"strict\"";
    let routers = two_sites(&net, all);
    let (a, b) = (net.site(1), net.site(2));
    let capture = Capture::lisp(&net.core, "s1u0", net.file("headers.pcap"));
    let seen = ping(&a.host, b.host_eid(Family::V4), 60, 0.05, "");
    let file = capture.stop();
    assert_eq!(seen.lost(), 0, "{}", seen.output);

    let version = |router: &Router<'_>, prefix: &str| {
        let mut version = None;
        visit(&router.show("database"), &mut |object| {
            if object.get("net").and_then(|n| n.as_str()) == Some(prefix) {
                version = object.get("map_version").and_then(serde_json::Value::as_u64);
            }
        });
        version.unwrap_or_else(|| panic!("no version of {prefix}: {}", router.show("database")))
    };
    let ours = version(&routers.xtrs[0], &a.prefix(Family::V4));
    let theirs = version(&routers.xtrs[1], &b.prefix(Family::V4));
    let one = a.rloc(Family::V4, 0);
    let mut kinds = [0; 3];
    for (from, to, versions, bits) in [
        (one, b.rloc(Family::V4, 1), (ours, theirs), 0b1),
        (b.rloc(Family::V4, 1), one, (theirs, ours), 0b11),
    ] {
        let headers = data_headers(&file, from, to);
        assert!(headers.len() >= 50, "{} packets from {from} to {to}", headers.len());
        for header in headers {
            let [n, l, e, v, i, nonce, source, destination, lsb, malformed] = &header[..] else {
                panic!("{header:?}")
            };
            assert!(set(l) && !set(i) && malformed.is_empty(), "{header:?}");
            assert_eq!(number(lsb), bits, "{header:?}");
            assert!(set(n) != set(v) && (set(n) || !set(e)), "{header:?}");
            if set(v) {
                let said = (u64::from(number(source)), u64::from(number(destination)));
                assert_eq!(said, versions, "{header:?}");
                kinds[0] += 1;
            } else {
                assert!(number(nonce) < 1 << 24);
                kinds[if set(e) { 1 } else { 2 }] += 1;
            }
        }
    }
    let [versions, requests, echoes] = kinds;
    assert!(versions > 0 && requests > 0 && echoes > 0, "{kinds:?}");
    for router in &routers.xtrs {
        let text = router.show("statistics");
        for reason in ["source-version-old", "destination-version-impossible", "source-rloc-not-listed"] {
            assert_eq!(dropped(&text, reason), 0, "{reason} at {}", router.name);
        }
    }
}

/// The remote site hears by data packets alone that the locator that it sends to is down, and moves.
#[test]
fn locator_status_bits_move_the_other_site() {
    let _machine = Machine::shared();
    let net = Network::build(&plan());
    let routers = two_sites(&net, "locator-status-bits = true");
    let (a, b) = (net.site(1), net.site(2));
    data_only(&net);
    let _towards = chatter(b, a, &net.file("chatter.log"));
    let before = ping(&a.host, b.host_eid(Family::V4), 20, 0.02, "");
    assert_eq!(before.lost(), 0, "{}", before.output);
    b.xtr.sh("ip link set wan1 down");
    let moved = within(PATIENCE, || ping(&a.host, b.host_eid(Family::V4), 1, 0.2, "-t 1000").lost() == 0);
    assert!(moved, "still not:\n{}\n{}", routers.xtrs[0].log(), routers.xtrs[1].log());
    let after = ping(&a.host, b.host_eid(Family::V4), 20, 0.02, "");
    assert_eq!(after.lost(), 0, "{}", after.output);
    assert!(routers.xtrs[0].log().contains("can't be used"), "{}", routers.xtrs[0].log());
}

/// Packets to a locator are lost without a word, while those from the site come: the nonces tell.
#[test]
fn echo_nonce_finds_a_dark_forward_path() {
    let _machine = Machine::shared();
    let net = Network::build(&plan());
    let routers = two_sites(&net, "echo-nonce = true");
    let (a, b) = (net.site(1), net.site(2));
    let _towards = chatter(b, a, &net.file("chatter.log"));
    let before = ping(&a.host, b.host_eid(Family::V4), 40, 0.05, "");
    assert_eq!(before.lost(), 0, "{}", before.output);
    assert!(!routers.xtrs[0].log().contains("nonces"), "{}", routers.xtrs[0].log());
    let dark = b.rloc(Family::V4, 1);
    drop_at_core(&net, &format!("ip daddr {dark} udp dport 4341"));
    let moved = within(PATIENCE, || ping(&a.host, b.host_eid(Family::V4), 1, 0.2, "-t 1000").lost() == 0);
    assert!(moved, "still not:\n{}", routers.xtrs[0].log());
    let log = routers.xtrs[0].log();
    assert!(log.contains(&format!("packets to {dark} don't arrive")), "{log}");
    let after = ping(&a.host, b.host_eid(Family::V4), 20, 0.02, "");
    assert_eq!(after.lost(), 0, "{}", after.output);
}

/// A changed mapping reaches the other site without any message between the two but data packets.
#[test]
fn a_changed_mapping_spreads_by_its_version() {
    let _machine = Machine::shared();
    let net = Network::build(&plan());
    let configured = |site: &Site, better: usize| {
        let mut options = options(site, "map-versioning = true");
        options.map_server = "proxy-reply = true".to_owned();
        if site.number == 2 {
            for (k, locator) in options.locators.iter_mut().enumerate() {
                locator.priority = if k == better { 1 } else { 2 };
            }
        }
        options
    };
    let routers = Routers::start_with(&net, |site| configured(site, 1), "");
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));
    data_only(&net);
    // Packets to each locator of site 2.
    let judge = Judge::new(&net);
    let to_each = || {
        judge.packets();
        let seen = ping(&a.host, b.host_eid(Family::V4), 10, 0.02, "");
        assert_eq!(seen.lost(), 0, "{}", seen.output);
        judge.packets()
    };
    let before = to_each();
    assert_eq!(before, [0, 10]);
    let changed = &routers.xtrs[1];
    changed.write_config(net.dir(), &xtr_config(b, &configured(b, 0)));
    changed.reload();
    let mut after = before;
    let spread = within(PATIENCE, || {
        after = to_each();
        after == [10, 0]
    });
    assert!(spread, "{after:?}: {}", routers.xtrs[0].show("map-cache"));
    let text = routers.xtrs[0].show("statistics");
    assert_eq!(dropped(&text, "source-version-old"), 0, "{text}");
}

/// Answers to a site that nobody has resolved yet leave at once where gleaning is on, and only there.
#[test]
fn gleaning_answers_before_the_mapping_is_known() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let configured = |site: &Site, glean: bool| {
        let mut options = XtrOptions::over(site, Family::V4);
        options.more = format!("[map-cache]\nexpect-return = false\nglean = {glean}\n");
        options
    };
    let routers = Routers::start_with(&net, |site| configured(site, site.number == 1), "");
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&b.host, a.host_eid(Family::V4), PATIENCE));
    // Site 1 can't resolve anything any more, site 2 knows what it needs.
    let (rloc, resolver) = (a.rloc(Family::V4, 0), mapping_system(Family::V4));
    drop_at_core(&net, &format!("ip saddr {rloc} ip daddr {resolver} udp dport 4342"));
    let xtr = &routers.xtrs[0];
    xtr.clear_map_cache();
    // An entry that is gleaned soon ends, so it has to be looked for meanwhile.
    let answered = thread::scope(|scope| {
        let pinging = scope.spawn(|| ping(&b.host, a.host_eid(Family::V4), 10, 0.05, ""));
        until("a gleaned entry", PATIENCE, || xtr.show("map-cache").to_string().contains("gleaned"));
        pinging.join().expect("ping")
    });
    assert!(answered.received >= 9, "{}\n{}", answered.output, xtr.log());
    // What can't be verified is not used for longer than three seconds.
    until("the end of the gleaned entry", PATIENCE, || {
        !xtr.show("map-cache").to_string().contains("gleaned")
    });

    xtr.write_config(net.dir(), &xtr_config(a, &configured(a, false)));
    xtr.reload();
    xtr.clear_map_cache();
    let unanswered = ping(&b.host, a.host_eid(Family::V4), 10, 0.05, "");
    assert_eq!(unanswered.received, 0, "{}", unanswered.output);
}

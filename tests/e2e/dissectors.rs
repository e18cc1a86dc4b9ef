//! Every packet on the wire reads the same to tshark and to `eidolon decode`.

use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use crate::capture::{Capture, Dissection, decode, tshark};
use crate::router::{Locator, Routers, XtrOptions};
use crate::topology::{Family, Network, Plan};
use crate::traffic::{ping, reaches, tcp_transfer};
use crate::wait::{Machine, PATIENCE};

/// What a control message says, as lists in the order of the bytes, outermost message first.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    types: Vec<u64>,
    nonces: Vec<u64>,
    record_counts: Vec<u64>,
    /// EID-records: TTL, locator count, mask length, ACT.
    ttls: Vec<u64>,
    locator_counts: Vec<u64>,
    mask_lengths: Vec<u64>,
    actions: Vec<u64>,
    eids: Vec<IpAddr>,
    /// Locators.
    priorities: Vec<u64>,
    weights: Vec<u64>,
    /// Which of them was probed, and which are reachable.
    probed: Vec<bool>,
    reachable: Vec<bool>,
    locators: Vec<IpAddr>,
    /// Whether a Map-Request or Map-Reply is an RLOC-probe or the answer to one.
    probes: Vec<bool>,
    /// Map-Requests: what is asked, who asks, where the answer may go.
    asked_lengths: Vec<u64>,
    asked: Vec<IpAddr>,
    sources: Vec<IpAddr>,
    itr_rlocs: Vec<IpAddr>,
    /// Authenticated messages.
    auth: Vec<String>,
}

/// Two families' fields hold the addresses: whatever order they had between them is lost, so both sides sort.
fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        texts.into_iter().map(|t| t.parse().unwrap_or_else(|_| panic!("not an address: {t}"))).collect();
    addresses.sort();
    addresses
}

/// A number as tshark writes it, decimal or hex.
fn number(text: &String) -> u64 {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|_| panic!("not a number: {text}"))
}

impl Said {
    fn by_tshark(packet: &Dissection) -> Self {
        let numbers = |field: &str| packet.all(field).iter().map(number).collect::<Vec<_>>();
        let flags = |field: &str| {
            packet.all(field).iter().map(|v| matches!(v.as_str(), "1" | "True")).collect::<Vec<_>>()
        };
        let both = |v4: &str, v6: &str| addresses(packet.all(v4).iter().chain(packet.all(v6)));
        Self {
            // The dissector gives the type within the message's first 24 bits.
            types: numbers("lisp.type"),
            nonces: numbers("lisp.nonce"),
            record_counts: numbers("lisp.records"),
            ttls: numbers("lisp.mapping.ttl"),
            locator_counts: numbers("lisp.mapping.loccnt"),
            mask_lengths: numbers("lisp.mapping.eid.masklen"),
            actions: numbers("lisp.mapping.act"),
            eids: both("lisp.mapping.eid.ipv4", "lisp.mapping.eid.ipv6"),
            priorities: numbers("lisp.loc.priority"),
            weights: numbers("lisp.loc.weight"),
            probed: flags("lisp.loc.flags.probe"),
            reachable: flags("lisp.loc.flags.reach"),
            probes: [flags("lisp.mreq.flags.probe"), flags("lisp.mrep.flags.probe")].concat(),
            locators: addresses(packet.all("lisp.loc.locator")),
            asked_lengths: numbers("lisp.mreq.record.prefix.length"),
            asked: both("lisp.mreq.record.prefix.ipv4", "lisp.mreq.record.prefix.ipv6"),
            sources: both("lisp.mreq.srceid.ipv4", "lisp.mreq.srceid_ipv6"),
            itr_rlocs: both("lisp.mreq.itr_rloc_ipv4", "lisp.mreq.itr_rloc_ipv6"),
            auth: packet.all("lisp.auth").iter().map(|a| a.replace(':', "")).collect(),
        }
    }

    fn by_eidolon(message: &Value) -> Self {
        let mut said = Self::default();
        said.add(message);
        for list in
            [&mut said.eids, &mut said.locators, &mut said.asked, &mut said.sources, &mut said.itr_rlocs]
        {
            list.sort();
        }
        said
    }

    fn add(&mut self, message: &Value) {
        let lisp_type = unsigned(message, "lisp_type");
        self.types.push(lisp_type);
        if let 1 | 2 = lisp_type {
            self.probes.push(message["flags"]["probe"].as_bool().expect("a flag"));
        }
        if let Some(nonce) = message.get("nonce").and_then(Value::as_str) {
            self.nonces
                .push(u64::from_str_radix(&nonce.replace("0x", "").replace('-', ""), 16).expect("a nonce"));
        }
        if let Some(count) = message.get("record_count").and_then(Value::as_u64) {
            self.record_counts.push(count);
        }
        if let Some(auth) = message.get("auth_data").and_then(Value::as_str) {
            self.auth.push(auth.to_owned());
        }
        let none = Vec::new();
        let records = message.get("records").and_then(Value::as_array).unwrap_or(&none);
        for record in records {
            if lisp_type == 1 {
                self.asked_lengths.push(unsigned(record, "eid_mask_len"));
                self.asked.push(prefix_address(record));
                continue;
            }
            self.ttls.push(unsigned(record, "ttl"));
            self.locator_counts.push(unsigned(record, "locator_count"));
            self.mask_lengths.push(unsigned(record, "eid_mask_len"));
            self.actions.push(match text(record, "action") {
                "no-action" => 0,
                "natively-forward" => 1,
                "send-map-request" => 2,
                "drop" => 3,
                other => panic!("an action that these tests don't bring about: {other}"),
            });
            self.eids.push(prefix_address(record));
            for locator in record.get("locators").and_then(Value::as_array).unwrap_or(&none) {
                self.priorities.push(unsigned(locator, "priority"));
                self.weights.push(unsigned(locator, "weight"));
                self.probed.push(locator["probe"].as_bool().expect("a flag"));
                self.reachable.push(locator["reachable"].as_bool().expect("a flag"));
                self.locators.push(text(locator, "address").parse().expect("a locator's address"));
            }
        }
        if lisp_type == 1 {
            if let Ok(source) = text(message, "source_eid").parse() {
                self.sources.push(source);
            }
            for rloc in message.get("itr_rlocs").and_then(Value::as_array).unwrap_or(&none) {
                self.itr_rlocs.push(text(rloc, "address").parse().expect("an ITR-RLOC"));
            }
        }
        if let Some(inner) = message.get("inner_message") {
            self.add(inner);
        }
    }
}

fn unsigned(object: &Value, key: &str) -> u64 {
    object.get(key).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {key} in {object}"))
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {key} in {object}"))
}

/// The address of an EID-record's prefix, which is written as ADDRESS/LENGTH.
fn prefix_address(record: &Value) -> IpAddr {
    let prefix = text(record, "eid_prefix");
    prefix.split('/').next().and_then(|a| a.parse().ok()).unwrap_or_else(|| panic!("not a prefix: {prefix}"))
}

/// What a data packet says: flags N, L, I, their values, and the addresses outside and inside.
#[derive(Debug, PartialEq, Eq)]
struct Carried {
    flags: [bool; 3],
    nonce: Option<u64>,
    instance: Option<u64>,
    status_bits: Option<u64>,
    /// Outer source and destination, inner source and destination; IPv4 ones first, as tshark lists them by
    /// family.
    addresses: Vec<IpAddr>,
}

impl Carried {
    fn by_tshark(packet: &Dissection, version: u64) -> Self {
        let flag = |field: &str| packet.all(field).first().is_some_and(|v| v == "1" || v == "True");
        let value = |field: &str| packet.all(field).first().map(number);
        // An ICMP error inside quotes a packet of its own, whose addresses follow: only the first ones count.
        let outer_v4 = usize::from(packet.outer_is_v4());
        let inner_v4 = usize::from(version == 4);
        let first = |field: &str, n: usize| packet.all(field).iter().take(n).cloned().collect::<Vec<_>>();
        let (v4, v6) = (outer_v4 + inner_v4, 2 - outer_v4 - inner_v4);
        let texts =
            [first("ip.src", v4), first("ip.dst", v4), first("ipv6.src", v6), first("ipv6.dst", v6)].concat();
        Self {
            flags: ["lisp-data.flags.nonce", "lisp-data.flags.lsb", "lisp-data.flags.iid"].map(flag),
            nonce: value("lisp-data.nonce").filter(|_| flag("lisp-data.flags.nonce")),
            instance: value("lisp-data.iid"),
            status_bits: value("lisp-data.lsb")
                .or(value("lisp-data.lsb8"))
                .filter(|_| flag("lisp-data.flags.lsb")),
            addresses: addresses(&texts),
        }
    }

    fn by_eidolon(packet: &Value) -> Self {
        let header = &packet["lisp_header"];
        let flag = |name: &str| header["flags"][name].as_bool().expect("a flag");
        let hex = |name: &str| header[name].as_str().map(|s| number(&s.to_owned()));
        let inner = &packet["inner"];
        let texts = [(packet, "source"), (packet, "destination"), (inner, "source"), (inner, "destination")]
            .map(|(object, key)| text(object, key).to_owned());
        Self {
            flags: ["nonce_present", "locator_status_present", "instance_present"].map(flag),
            nonce: hex("nonce"),
            instance: header["instance_id"].as_u64(),
            status_bits: hex("locator_status_bits"),
            addresses: addresses(&texts),
        }
    }
}

/// Compares both views of every packet of a capture, and returns how many packets of each control message
/// type (outer and inner; RLOC-probes and their answers as 101 and 102) and how many data packets (as 0)
/// there were.
fn compare(file: &Path, keys: &[&str]) -> Vec<u64> {
    let more: Vec<&str> = keys.iter().flat_map(|k| ["--key", k]).collect();
    let ours = decode(file, &more);
    let theirs = Dissection::read(file);
    assert_eq!(ours.len(), theirs.len(), "packets in {}", file.display());
    let mut seen = Vec::new();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let context = format!("packet {} of {}: {ours:#}", theirs.number, file.display());
        assert_eq!(ours["frame"].as_u64(), Some(theirs.number as u64), "{context}");
        assert_eq!(theirs.complaints(), None, "{context}");
        assert_eq!(ours.get("error"), None, "{context}");
        if text(ours, "plane") == "control" {
            let said = Said::by_eidolon(&ours["message"]);
            assert_eq!(said, Said::by_tshark(theirs), "ours left, tshark's right, {context}");
            assert!(!said.types.is_empty() && !said.nonces.is_empty(), "{context}");
            let probe = said.probes.contains(&true);
            seen.extend(said.types.iter().map(|t| if probe { t + 100 } else { *t }));
            for mac in ours.get("mac").and_then(Value::as_array).unwrap_or(&Vec::new()) {
                assert_eq!(text(mac, "result"), "right", "{context}");
            }
        } else {
            let version = unsigned(&ours["inner"], "version");
            assert_eq!(Carried::by_eidolon(ours), Carried::by_tshark(theirs, version), "{context}");
            seen.push(0);
        }
    }
    seen
}

#[test]
fn tshark_agrees_about_every_packet() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() });
    net.real_packets();
    let captures: Vec<Capture> = ["ms", "s1u0", "s2u0", "s2u1"]
        .iter()
        .map(|dev| Capture::lisp(&net.core, dev, net.file(&format!("{dev}.pcap"))))
        .collect();

    let (a, b) = (net.site(1), net.site(2));
    // Site 1: SHA-1, IPv4 and IPv6 locators, xTR-ID and Site-ID. Site 2: SHA-256, four locators, IPv6 mapping
    // system.
    let routers = Routers::start_with(
        &net,
        |site| {
            let mut options = XtrOptions::over(site, Family::V4);
            options.more = "[probing]\ninterval = \"500ms\"\n".to_owned();
            let locator = |family, k, weight| Locator { address: site.rloc(family, k), priority: 1, weight };
            if site.number == 1 {
                options.locators = vec![locator(Family::V4, 0, 50), locator(Family::V6, 0, 50)];
                options.router = "xtr-id = \"0x0123456789abcdef0123456789abcdef\"\nsite-id = 7\n".to_owned();
            } else {
                options.locators = vec![
                    locator(Family::V4, 0, 10),
                    locator(Family::V4, 1, 20),
                    locator(Family::V6, 0, 30),
                    locator(Family::V6, 1, 40),
                ];
                options.mapping_over = Family::V6;
            }
            options
        },
        "",
    );
    for eids in Family::BOTH {
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE));
        ping(&a.host, b.host_eid(eids), 50, 0.01, "-b 1300");
        for port in 0..40 {
            // Flows enough that every locator gets its share.
            b.host.try_sh(&format!("echo x | timeout 1 nc -u -w0 {} {}", a.host_eid(eids), 4000 + port));
        }
        let (sent, received) = tcp_transfer(&b.host, &a.host, a.host_eid(eids), 300_000);
        assert_eq!(sent, received);
        // Nobody has these: negative replies.
        let nobody = if eids == Family::V4 { "198.51.100.1" } else { "2001:db8:ffff::1" };
        ping(&a.host, nobody.parse().expect("address"), 2, 0.1, "");
        for router in &routers.xtrs {
            router.operator(&["lig", &a.host_eid(eids).to_string()]);
            router.clear_map_cache();
        }
        assert!(reaches(&b.host, a.host_eid(eids), PATIENCE));
    }

    let mut seen = Vec::new();
    for capture in captures {
        seen.extend(compare(&capture.stop(), &["key-of-site-1", "key-of-site-2"]));
    }
    let count = |lisp_type: u64| seen.iter().filter(|t| **t == lisp_type).count();
    assert!(count(0) > 1000, "{} data packets", count(0));
    // Map-Request, Map-Reply, Map-Register, Map-Notify, ECM, RLOC-probe and its answer.
    for lisp_type in [1, 2, 3, 4, 8, 101, 102] {
        assert!(count(lisp_type) >= 4, "{} messages of type {lisp_type}", count(lisp_type));
    }
}

/// TTL, DSCP and ECN outside and inside, as RFC 9300 §5.3 and RFC 6040 want them, for all four combinations
/// of families.
#[test]
fn ttl_dscp_and_ecn_go_through_the_tunnel() {
    let _machine = Machine::shared();
    for locators in Family::BOTH {
        let net = Network::build(&Plan::default());
        let _routers = Routers::start(&net, locators);
        let (a, b) = (net.site(1), net.site(2));
        for eids in Family::BOTH {
            assert!(reaches(&a.host, b.host_eid(eids), PATIENCE));
            let outer = Capture::lisp(&net.core, "s1u0", net.file(&format!("outer-{eids}.pcap")));
            let far = Capture::start(&b.host, "lan0", net.file(&format!("far-{eids}.pcap")), "icmp or icmp6");
            // DSCP 46 (EF) and ECN 1 (ECT(1)): 0xb9. One router before the tunnel, so 10 becomes 9.
            let seen = ping(&a.host, b.host_eid(eids), 3, 0.05, "-H 10 -O 0xb9");
            assert_eq!(seen.lost(), 0, "{}", seen.output);
            let case = format!("{eids} over {locators}");
            let towards_b = format!(
                "udp.dstport == 4341 && {}",
                match locators {
                    Family::V4 => format!("ip.dst == {}", b.rloc(locators, 0)),
                    Family::V6 => format!("ipv6.dst == {}", b.rloc(locators, 0)),
                }
            );
            let fields: &[&str] = match locators {
                Family::V4 => &["-e", "ip.ttl", "-e", "ip.dsfield.dscp", "-e", "ip.dsfield.ecn"],
                Family::V6 => &["-e", "ipv6.hlim", "-e", "ipv6.tclass.dscp", "-e", "ipv6.tclass.ecn"],
            };
            let args = [&["-Y", &towards_b, "-T", "fields", "-E", "occurrence=f"], fields].concat();
            // The core has not counted it down yet: its interface receives what xTR 1 sent.
            assert_eq!(tshark(&outer.stop(), &args), "9\t46\t1\n".repeat(3), "outer header, {case}");
            let (request, fields): (&str, &[&str]) = match eids {
                Family::V4 => {
                    ("icmp.type == 8", &["-e", "ip.ttl", "-e", "ip.dsfield.dscp", "-e", "ip.dsfield.ecn"])
                }
                Family::V6 => (
                    "icmpv6.type == 128",
                    &["-e", "ipv6.hlim", "-e", "ipv6.tclass.dscp", "-e", "ipv6.tclass.ecn"],
                ),
            };
            let args = [&["-Y", request, "-T", "fields", "-E", "occurrence=f"], fields].concat();
            // The core counts the outer TTL down to 8, which the inner one becomes; xTR 2 forwards that,
            // as 7.
            assert_eq!(tshark(&far.stop(), &args), "7\t46\t1\n".repeat(3), "at the far host, {case}");
        }
    }
}

//! Two customers, instances 7 and 8, who both have 10.101.0.0/24 here and 10.102.0.0/24 there.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use serde_json::Value;

use crate::capture::{Capture, decode};
use crate::netns::Netns;
use crate::router::{Router, registered_prefixes};
use crate::topology::{Family, Network, Plan, Site, address, default_route, link, mapping_system};
use crate::traffic::{ping, reaches, tcp_transfer};
use crate::wait::{Machine, PATIENCE, until};

const INSTANCES: [u32; 2] = [7, 8];

/// Of the customers' LANs: what they send fits the tunnel. Kernels without VRF devices can't tell which of
/// two hosts with one address an ICMP error is for.
const LAN_MTU: usize = 1400;

/// A customer's host at a site, on an interface of its own; the xTR has the customer's routes in a table of
/// its own.
fn host(site: &Site, iid: u32) -> Netns {
    let n = site.number;
    let host = Netns::new(&format!("host{n}-{iid}"));
    link(&host, "lan0", &site.xtr, &format!("lan{iid}"), LAN_MTU);
    address(&host, "lan0", &format!("10.10{n}.0.2/24"), &format!("2001:db8:aa:{n}::2/64"));
    let (dev, table) = (format!("lan{iid}"), 1000 + iid);
    site.xtr.sh(&format!(
        "ip addr add 10.10{n}.0.1/24 dev {dev} noprefixroute && ip route add 10.10{n}.0.0/24 dev {dev} table \
         {table} && ip addr add 2001:db8:aa:{n}::1/64 dev {dev} nodad noprefixroute && \
         ip route add 2001:db8:aa:{n}::/64 dev {dev} table {table}"
    ));
    default_route(&host, &format!("10.10{n}.0.1"), &format!("2001:db8:aa:{n}::1"));
    host
}

fn eid(n: usize, family: Family) -> IpAddr {
    match family {
        Family::V4 => format!("10.10{n}.0.2"),
        Family::V6 => format!("2001:db8:aa:{n}::2"),
    }
    .parse()
    .expect("address")
}

/// The prefixes of site `n` in an instance; 10.103.0.0/24 is at site 2, in instance 8 alone.
fn prefixes(n: usize, iid: u32) -> Vec<String> {
    let mut all = vec![format!("10.10{n}.0.0/24"), format!("2001:db8:aa:{n}::/64")];
    if (n, iid) == (2, 8) {
        all.push("10.103.0.0/24".into());
    }
    all
}

fn xtr_config(site: &Site) -> String {
    let (n, rloc) = (site.number, site.rloc(Family::V4, 0));
    let mapping = mapping_system(Family::V4);
    let mut text = format!(
        "roles = [\"itr\", \"etr\"]\n[router]\nname = \"xtr{n}\"\nstate-dir = \"STATE-DIR\"\n\
         [[locator]]\naddress = \"{rloc}\"\n[[map-resolver]]\naddress = \"{mapping}\"\n\
         [[map-server]]\naddress = \"{mapping}\"\nkey = \"key-{n}\"\n"
    );
    for iid in INSTANCES {
        let _ = write!(
            text,
            "[[instance]]\ninstance-id = {iid}\ninterfaces = [\"lan{iid}\"]\ntable = {}\n",
            1000 + iid
        );
        for prefix in prefixes(n, iid) {
            let _ = write!(text, "[[eid-prefix]]\nprefix = \"{prefix}\"\ninstance-id = {iid}\n");
        }
    }
    text
}

fn mapping_config(net: &Network) -> String {
    let mut text = "roles = [\"map-server\", \"map-resolver\"]\n[router]\nname = \"mapping\"\n\
                    state-dir = \"STATE-DIR\"\n"
        .to_owned();
    for n in net.sites.iter().map(|site| site.number) {
        let all = INSTANCES
            .iter()
            .flat_map(|iid| prefixes(n, *iid).into_iter().map(move |prefix| format!("[{iid}]{prefix}")));
        let all: Vec<String> = all.collect();
        let _ = write!(text, "[[site]]\nname = \"site{n}\"\nkey = \"key-{n}\"\neid-prefixes = {all:?}\n");
    }
    text
}

/// A service that says which instance it is in, for one connection after another.
fn serve(ns: &Netns, at: SocketAddr, says: &'static str) {
    let listener = ns.tcp_listener(at);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(says.as_bytes());
        }
    });
}

fn ask(ns: &Netns, at: SocketAddr) -> String {
    let mut stream: TcpStream = ns.tcp_connect(at);
    let mut text = String::new();
    stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
    stream.read_to_string(&mut text).expect("an answer");
    text
}

fn dropped(router: &Router<'_>, reason: &str) -> u64 {
    let threads = router.show("statistics")["data"].as_array().expect("data threads").clone();
    threads.iter().map(|t| t["dropped"][reason].as_u64().expect(reason)).sum()
}

#[test]
fn two_customers_with_the_same_prefixes_talk_at_once_and_never_to_each_other() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    net.real_packets();
    let hosts: Vec<Vec<Netns>> =
        net.sites.iter().map(|site| INSTANCES.iter().map(|iid| host(site, *iid)).collect()).collect();
    // A service behind the second site's host that customer 8 alone has.
    hosts[1][1].sh("ip addr add 10.103.0.2/32 dev lo");
    net.site(2).xtr.sh("ip route add 10.103.0.0/24 via 10.102.0.2 dev lan8 table 1008");

    let mapping = Router::start(&net, &net.mapping, "mapping", &mapping_config(&net));
    let before: Vec<_> = net.sites.iter().map(|s| s.xtr.kernel_state()).collect();
    let mut routers: Vec<_> = net
        .sites
        .iter()
        .map(|site| Router::start(&net, &site.xtr, &format!("xtr{}", site.number), &xtr_config(site)))
        .collect();
    until("registrations in both instances", PATIENCE, || {
        registered_prefixes(&mapping.show("sites")).len() == 9
    });

    let capture = Capture::lisp(&net.core, "s1u0", net.file("segments.pcap"));
    for family in Family::BOTH {
        for (i, says) in ["seven", "eight"].into_iter().enumerate() {
            serve(&hosts[1][i], SocketAddr::new(eid(2, family), 7000), says);
            assert!(reaches(&hosts[0][i], eid(2, family), PATIENCE), "{family}, {says}");
        }
        // Both at once, each with pings and a transfer of its own, both ways.
        std::thread::scope(|scope| {
            for (i, (here, there)) in hosts[0].iter().zip(&hosts[1]).enumerate() {
                scope.spawn(move || {
                    let seen = ping(here, eid(2, family), 50, 0.01, "");
                    // Besides a transfer: TCP fills every queue until it overflows, and a ping may be what
                    // does not fit.
                    assert!(seen.lost() <= 5, "{family}, customer {i}:\n{}", seen.output);
                });
                scope.spawn(move || {
                    let (sent, received) = tcp_transfer(here, there, eid(2, family), 3_000_000 + i);
                    assert_eq!(sent, received, "{family}, customer {i}");
                    let (sent, received) = tcp_transfer(there, here, eid(1, family), 3_000_000 + i);
                    assert_eq!(sent, received, "{family}, customer {i}, back");
                });
            }
        });
        // The same address is another host for each.
        for (i, says) in ["seven", "eight"].into_iter().enumerate() {
            assert_eq!(ask(&hosts[0][i], SocketAddr::new(eid(2, family), 7000)), says, "{family}");
        }
    }
    // What customer 8 alone has, customer 7 does not reach.
    let only8: IpAddr = "10.103.0.2".parse().expect("address");
    assert!(reaches(&hosts[0][1], only8, PATIENCE));
    assert_eq!(ping(&hosts[0][0], only8, 3, 0.1, "-t 1000").received, 0);

    // The operator's view, instance by instance.
    let cached = |args: &[&str]| -> Vec<(u64, String)> {
        let all = [&["show", "map-cache", "--json"], args].concat();
        let cache: Value = serde_json::from_str(&routers[0].operator(&all)).expect("JSON");
        let entries = cache["entries"].as_array().expect("entries").clone();
        entries
            .iter()
            .map(|e| (e["iid"].as_u64().expect("iid"), e["net"].as_str().expect("net").to_owned()))
            .collect()
    };
    assert_eq!(cached(&["[7]10.102.0.1"]), [(7, "10.102.0.0/24".into())]);
    assert_eq!(cached(&["10.102.0.1"]), [(7, "10.102.0.0/24".into()), (8, "10.102.0.0/24".into())]);
    assert!(cached(&["--iid", "8"]).contains(&(8, "10.103.0.0/24".into())));
    for iid in INSTANCES {
        let lig: Value =
            serde_json::from_str(&routers[0].operator(&["lig", &format!("[{iid}]10.102.0.1"), "--json"]))
                .expect("JSON");
        let mapping = &lig["mappings"][0];
        assert_eq!(
            (&mapping["eid"]["iid"], &mapping["eid"]["net"]),
            (&iid.into(), &"10.102.0.0/24".into()),
            "{lig}"
        );
        assert_eq!(mapping["locators"][0]["rloc"], net.site(2).rloc(Family::V4, 0).to_string(), "{lig}");
    }
    let none: Value =
        serde_json::from_str(&routers[0].operator(&["lig", "[7]10.103.0.1", "--json"])).expect("JSON");
    assert_eq!(none["mappings"][0]["locators"].as_array().map(Vec::len), Some(0), "{none}");

    // What comes in an instance that is not configured, or to an EID of another one, is dropped and counted.
    let inner = |destination: [u8; 4]| {
        let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 9, 17, 0, 0, 10, 101, 0, 2];
        packet.extend(destination);
        let sum: u32 = packet.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
        let checksum = !(u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded"));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet
    };
    let send = |header: [u8; 8], destination| {
        net.site(1).xtr.run(|| {
            let socket = UdpSocket::bind("10.1.0.2:0").expect("bind");
            let data = [&header[..], &inner(destination)].concat();
            socket.send_to(&data, SocketAddr::new(net.site(2).rloc(Family::V4, 0), 4341)).expect("send");
        });
    };
    let packets = capture.stop();
    send([8, 0, 0, 0, 0, 0, 9, 0], [10, 102, 0, 2]);
    send([0; 8], [10, 102, 0, 2]);
    send([8, 0, 0, 0, 0, 0, 7, 0], [10, 103, 0, 2]);
    until("the drops", PATIENCE, || {
        dropped(&routers[1], "unknown-instance") == 2
            && dropped(&routers[1], "inner-destination-not-local") == 1
    });

    // On the wire every data packet bears its instance, and every EID of a control message is in one.
    let packets = decode(&packets, &[]);
    let instance = |p: &Value| p["lisp_header"]["instance_id"].as_u64();
    let data: Vec<_> = packets.iter().filter(|p| p["plane"] == "data").map(instance).collect();
    assert!(INSTANCES.iter().all(|iid| data.iter().filter(|i| **i == Some((*iid).into())).count() > 1000));
    assert!(data.iter().all(|i| matches!(i, Some(7 | 8))), "{data:?}");

    for (router, (site, before)) in routers.iter_mut().zip(net.sites.iter().zip(&before)) {
        router.stop();
        site.xtr.expect_state(before, &format!("what xTR {} left behind", site.number));
    }
}

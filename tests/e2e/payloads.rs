//! Datagrams of every size arrive, or their sender is told the size that fits.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::capture::{Capture, tshark};
use crate::netns::Netns;
use crate::router::Routers;
use crate::topology::{Family, Network, Plan};
use crate::traffic::{Noise, reaches};
use crate::wait::{Machine, PATIENCE, within};

/// UDP payload sizes: small ones, every border between "fits", "fits the LAN only" and "fragmented by the
/// host", for both families of EIDs and locators, and large ones.
const SIZES: &[usize] = &[
    1, 2, 7, 64, 512, 1200, 1395, 1396, 1397, 1415, 1416, 1417, 1435, 1436, 1437, 1451, 1452, 1453, 1472,
    1473, 2000, 2905, 4000, 6001, 8952, 8953, 8972, 8973, 9000,
];

/// What became of one datagram.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Arrived,
    /// The sender's kernel refused it: larger than the path MTU that it knows.
    Refused,
    /// It did not arrive, and the sender's kernel knows why.
    Told,
    Lost,
}

struct Probe {
    sender: UdpSocket,
    receiver: UdpSocket,
    noise: Noise,
}

impl Probe {
    fn new(from: &Netns, to: &Netns, target: std::net::IpAddr) -> Self {
        let receiver = to.run(|| UdpSocket::bind(SocketAddr::new(target, 0)).expect("bind"));
        let target = receiver.local_addr().expect("address");
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        // Not connected: an ICMP error is then the kernel's business alone.
        let sender = from.run(|| UdpSocket::bind(any).expect("bind"));
        Self { sender, receiver, noise: Noise::new(1) }
    }

    /// Sends one datagram and waits for it at the other end, or until something else is known of it, at most
    /// `patience`.
    fn send(&mut self, size: usize, patience: Duration, mut known: impl FnMut() -> bool) -> Fate {
        let mut payload = vec![0; size];
        self.noise.fill(&mut payload);
        if let Err(e) = self.sender.send_to(&payload, self.receiver.local_addr().expect("address")) {
            assert_eq!(e.raw_os_error(), Some(90 /* EMSGSIZE */), "{e}");
            return Fate::Refused;
        }
        self.receiver.set_read_timeout(Some(Duration::from_millis(20))).expect("time-out");
        let mut buffer = vec![0; 65536];
        let (mut arrived, mut told) = (None, false);
        within(patience, || {
            told = known();
            arrived = self.receiver.recv(&mut buffer).ok();
            told || arrived.is_some()
        });
        match arrived {
            Some(n) => {
                assert_eq!(&buffer[..n], payload, "a datagram of {size} bytes arrived changed");
                Fate::Arrived
            }
            None if told => Fate::Told,
            None => Fate::Lost,
        }
    }
}

fn datagrams_of_every_size(locators: Family, lan_mtu: usize) {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { lan_mtu, ..Plan::default() });
    let _routers = Routers::start(&net, locators);
    let (a, b) = (net.site(1), net.site(2));
    let fits = 1500 - locators.overhead();

    // The kernel answers a host once a second only, by default.
    a.xtr.sysctl("net.ipv4.icmp_ratelimit", "0");
    a.xtr.sysctl("net.ipv6.icmp.ratelimit", "0");

    for (eids, discovery) in [(Family::V4, true), (Family::V4, false), (Family::V6, true)] {
        let case = format!("{eids} over {locators}, LAN MTU {lan_mtu}, DF {discovery}");
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE), "{case}");
        a.host.sysctl("net.ipv4.ip_no_pmtu_disc", if discovery { "0" } else { "1" });
        let icmp = Capture::start(
            &a.host,
            "lan0",
            net.file(&format!("icmp-{eids}-{discovery}.pcap")),
            "icmp[0] == 3 or (icmp6 and ip6[40] == 2)",
        );
        let mut probe = Probe::new(&a.host, &b.host, b.host_eid(eids));
        let mut answers = 0;
        for &size in SIZES {
            // The host forgets what it learnt of the path, so that each size stands for itself.
            a.host.sh("ip -4 route flush cache; ip -6 route flush cache");
            let packet = size + 8 + eids.header();
            // Larger than the LAN's MTU: the host fragments by itself, and IPv4 fragments carry no DF.
            let told = match eids {
                Family::V4 => discovery && packet > fits && packet <= lan_mtu,
                Family::V6 => packet > fits,
            };
            if told {
                // The kernel remembers the path's MTU from the answer.
                let route = format!("ip route get {}", b.host_eid(eids));
                let fate = probe.send(size, PATIENCE, || a.host.sh(&route).contains(&format!(" mtu {fits}")));
                assert_eq!(fate, Fate::Told, "{case}: {size} bytes, which don't fit {fits}");
                answers += 1;
            }
            // What fits, or is not forbidden to be fragmented, arrives; told once, the host sends what fits.
            assert_eq!(probe.send(size, PATIENCE, || false), Fate::Arrived, "{case}: {size} bytes");
        }
        let fields: &[&str] = match eids {
            Family::V4 => &["-Tfields", "-Eoccurrence=f", "-eip.src", "-eicmp.code", "-eicmp.mtu"],
            Family::V6 => &["-Tfields", "-Eoccurrence=f", "-eipv6.src", "-eicmpv6.code", "-eicmpv6.mtu"],
        };
        let code = if eids == Family::V4 { 4 } else { 0 };
        let expected = format!("{}\t{code}\t{fits}", a.eid(eids, 1));
        let seen = tshark(&icmp.stop(), fields);
        // A fragment draws an answer just as a whole packet does, so there may be more than one to a
        // datagram.
        assert!(
            seen.lines().count() >= answers,
            "{case}: {answers} sizes need an ICMP answer, seen:\n{seen}"
        );
        assert!(
            seen.lines().all(|l| l == expected),
            "{case}: source, code and MTU are to be {expected}:\n{seen}"
        );
    }
}

#[test]
fn every_size_over_ipv4_locators() {
    datagrams_of_every_size(Family::V4, 1500);
}

#[test]
fn every_size_over_ipv6_locators() {
    datagrams_of_every_size(Family::V6, 1500);
}

#[test]
fn every_size_from_a_jumbo_lan_over_ipv4_locators() {
    datagrams_of_every_size(Family::V4, 9000);
}

#[test]
fn every_size_from_a_jumbo_lan_over_ipv6_locators() {
    datagrams_of_every_size(Family::V6, 9000);
}

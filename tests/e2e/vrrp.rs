//! The virtual gateway of a site with two routers: two of ours, and ours with keepalived in either role.
//!
//! ```text
//!   host ── bridge ──┬── router 1, 192.168.77.1        virtual router 10: 192.168.77.254; fe80::fe, 2001:db8:77::fe
//!                    └── router 2, 192.168.77.2
//! ```

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use eidolon::io::link::LinkSocket;
use eidolon::wire::ip::write_ipv4_checksum;
use eidolon::wire::vrrp::{
    Advertisement, Body, Checksum, Envelope, GROUP_V4, GROUP_V6, PROTOCOL, advertisement_frame,
};

use crate::capture::{Capture, tshark};
use crate::netns::{Netns, Process};
use crate::router::Router;
use crate::topology::{Family, Network, Plan};
use crate::wait::{Machine, PATIENCE, until};

const LONG: Duration = PATIENCE;
/// Of virtual router 10, where only IPv4 matters.
const GATEWAY: &str = "192.168.77.254";

/// Virtual router 10, as all routers of the LAN have to agree on it.
#[derive(Clone, Copy)]
struct Group {
    version: u8,
    family: Family,
}

impl Group {
    const fn addresses(self) -> &'static [&'static str] {
        match self.family {
            Family::V4 => &[GATEWAY],
            Family::V6 => &["fe80::fe", "2001:db8:77::fe"],
        }
    }

    /// The address that hosts ping.
    fn gateway(self) -> &'static str {
        self.addresses().last().expect("an address")
    }

    /// In milliseconds. Version 2 knows whole seconds alone.
    const fn interval(self) -> u32 {
        if self.version == 2 { 1000 } else { 200 }
    }

    /// For a `[[vrrp]]` of ours.
    fn of_ours(self, priority: u8) -> String {
        let keys = keys(self.addresses(), priority, self.interval());
        format!("{keys}version = \"{}\"\n", self.version)
    }

    /// A configuration of keepalived.
    fn of_keepalived(self, priority: u8) -> String {
        let length = if self.family == Family::V4 { 32 } else { 128 };
        let addresses: Vec<String> = self.addresses().iter().map(|a| format!("{a}/{length}")).collect();
        format!(
            "global_defs {{\nvrrp_version {}\n}}\nvrrp_instance V {{\nstate BACKUP\ninterface lan0\n\
             virtual_router_id 10\npriority {priority}\nadvert_int {}\n\
             virtual_ipaddress {{\n{}\n}}\n}}\n",
            self.version,
            f64::from(self.interval()) / 1000.0,
            addresses.join("\n")
        )
    }
}

struct Lan {
    net: Network,
    bridge: Netns,
    host: Netns,
    routers: [Netns; 2],
}

impl Lan {
    fn new() -> Self {
        let lan = Self {
            net: Network::build(&Plan { uplinks: Vec::new(), ..Plan::default() }),
            bridge: Netns::new("lan"),
            host: Netns::new("vhost"),
            routers: [Netns::new("gw1"), Netns::new("gw2")],
        };
        lan.bridge.sh("ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up");
        let ends = [(&lan.host, 9), (&lan.routers[0], 1), (&lan.routers[1], 2)];
        for (ns, n) in ends {
            let (bridge, name) = (lan.bridge.name(), ns.name());
            crate::netns::sh(&format!(
                "ip link add p{n} netns {bridge} type veth peer name lan0 netns {name}"
            ));
            lan.bridge.sh(&format!("ip link set p{n} master br0 up"));
            ns.sh(&format!(
                "ip addr add 192.168.77.{n}/24 dev lan0 && ip addr add 2001:db8:77::{n}/64 dev lan0 && \
                 ip link set lan0 up"
            ));
        }
        lan
    }

    fn ours(&self, which: usize, keys: &str) -> Router<'_> {
        Router::start(&self.net, &self.routers[which], &format!("gw{which}"), &config(keys))
    }

    /// Two of ours, once the first one is master.
    fn pair(&self, keys: impl Fn(u8) -> String) -> [Router<'_>; 2] {
        let pair = [self.ours(0, &keys(150)), self.ours(1, &keys(100))];
        elected(&pair);
        self.answers(GATEWAY);
        pair
    }

    fn keepalived(&self, which: usize, group: Group, priority: u8) -> Process {
        let file = |suffix: &str| self.net.file(&format!("keepalived.{suffix}"));
        let text = group.of_keepalived(priority);
        fs::write(file("conf"), text).unwrap();
        let text = |suffix: &str| file(suffix).to_str().unwrap().to_owned();
        let (conf, pid, vrrp) = (text("conf"), text("pid"), text("vrrp.pid"));
        let log = file("log");
        self.routers[which]
            .spawn(&log, &["keepalived", "-n", "-l", "-D", "-P", "-f", &conf, "-p", &pid, "-r", &vrrp])
    }

    /// Which routers have the virtual address.
    fn holders(&self, address: &str) -> Vec<usize> {
        let has = |ns: &Netns| ns.sh("ip -o addr show").contains(&format!(" {address}/"));
        (0..2).filter(|which| has(&self.routers[*which])).collect()
    }

    fn ping(&self, address: &str) -> bool {
        self.host.try_sh(&format!("ping -c 1 -W 1 {address}")).status.success()
    }

    /// Waits until hosts reach an address.
    fn answers(&self, address: &str) {
        until(&format!("{address} to answer"), LONG, || self.ping(address));
    }

    /// Waits until the LAN works, and gives the first router's state of then.
    fn ready(&self) -> String {
        self.answers("192.168.77.1");
        self.answers("2001:db8:77::1");
        self.routers[0].kernel_state()
    }

    /// Nothing in the capture is malformed, and every VRRP checksum is right.
    fn judge(capture: Capture) {
        let file = capture.stop();
        let fields = [
            "-Y",
            "vrrp",
            "-T",
            "fields",
            "-e",
            "vrrp.checksum.status",
            "-e",
            "_ws.malformed",
            "-e",
            "vrrp.version",
        ];
        let text = tshark(&file, &fields);
        assert!(text.lines().count() > 5, "hardly an advertisement:\n{text}");
        for line in text.lines() {
            assert!(line.starts_with("1\t\t"), "malformed, or with a wrong checksum: {line}");
        }
    }
}

fn config(keys: &str) -> String {
    format!(
        "roles = [\"map-server\", \"map-resolver\"]\n\
         [router]\nstate-dir = \"STATE-DIR\"\n\
         [[site]]\nname = \"a\"\nkey = \"secret\"\neid-prefixes = [\"10.1.0.0/16\"]\n\
         [[vrrp]]\ninterface = \"lan0\"\nvrid = 10\n{keys}\n"
    )
}

/// What a `[[vrrp]]` of ours says of virtual router 10; the interval in milliseconds.
fn keys(addresses: &[&str], priority: u8, interval: u32) -> String {
    format!("addresses = {addresses:?}\npriority = {priority}\ninterval = \"{interval}ms\"\n")
}

fn router(router: &Router<'_>) -> Value {
    router.show("vrrp")["routers"][0].clone()
}

fn state(of: &Router<'_>) -> String {
    router(of)["state"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the first one is master and the second one follows it.
fn elected(pair: &[Router<'_>; 2]) {
    until("the first to be master", LONG, || state(&pair[0]) == "master" && state(&pair[1]) == "backup");
}

fn with_keepalived(version: u8, family: Family) {
    let _machine = Machine::shared();
    let lan = Lan::new();
    let capture = Capture::start(
        &lan.bridge,
        "br0",
        lan.net.file("vrrp.pcap"),
        "ip proto 112 or ip6 proto 112 or arp or icmp6",
    );
    let group = Group { version, family };
    let address = group.gateway();

    // keepalived is the better one: ours follows it.
    let mut other = lan.keepalived(1, group, 150);
    until("keepalived to become master", LONG, || lan.holders(address) == [1]);
    let mut ours = lan.ours(0, &group.of_ours(100));
    until("ours to follow keepalived", LONG, || router(&ours)["master_priority"] == 150);
    assert_eq!((state(&ours), lan.holders(address)), ("backup".into(), vec![1]));

    // It resigns: ours takes over in the skew time, and hosts reach it.
    other.signal(Signal::SIGTERM);
    until("ours to take over", LONG, || state(&ours) == "master");
    assert!(router(&ours)["resignations_received"].as_u64() >= Some(1));
    other.wait(LONG);
    lan.answers(address);
    assert_eq!(lan.holders(address), [0]);

    // It comes back, and preempts.
    let mut other = lan.keepalived(1, group, 150);
    until("keepalived to preempt", LONG, || state(&ours) == "backup" && lan.holders(address) == [1]);

    // Ours is the better one now.
    ours.write_config(lan.net.dir(), &config(&group.of_ours(200)));
    ours.operator(&["reload"]);
    until("ours to preempt", LONG, || state(&ours) == "master" && lan.holders(address) == [0]);
    lan.answers(address);
    // It resigns: keepalived takes over. Nothing of ours stays.
    ours.stop();
    until("keepalived to take over", LONG, || lan.holders(address) == [1]);
    lan.answers(address);
    other.signal(Signal::SIGTERM);
    other.wait(LONG);
    Lan::judge(capture);
}

#[test]
fn elections_with_keepalived_version_2() {
    with_keepalived(2, Family::V4);
}

#[test]
fn elections_with_keepalived_version_3_ipv4() {
    with_keepalived(3, Family::V4);
}

#[test]
fn elections_with_keepalived_version_3_ipv6() {
    with_keepalived(3, Family::V6);
}

/// Two routers of ours: the gateway moves when one is killed, quickly; what the dead one left is removed by
/// its next life; and a router that stops leaves nothing behind.
#[test]
fn the_gateway_moves_when_its_router_is_killed() {
    let _machine = Machine::shared();
    let lan = Lan::new();
    let before = lan.ready();
    let keys = |priority| {
        let (v4, v6) = (keys(&[GATEWAY], priority, 100), keys(&["fe80::fe"], priority, 100));
        format!("{v4}[[vrrp]]\ninterface = \"lan0\"\nvrid = 10\n{v6}")
    };
    let arp_ignore = || lan.routers[0].sh("sysctl -n net.ipv4.conf.lan0.arp_ignore").trim().to_owned();
    assert_eq!(arp_ignore(), "0");
    let mut pair = lan.pair(keys);
    assert_eq!(arp_ignore(), "1", "the MAC address must be the virtual one alone");
    let neighbour = lan.host.sh(&format!("ip neigh show {GATEWAY}"));
    assert!(neighbour.contains("00:00:5e:00:01:0a"), "not the virtual MAC address: {neighbour}");

    pair[0].kill();
    let died = Instant::now();
    until("the second to be master", LONG, || state(&pair[1]) == "master");
    // 100 ms × 3.6 and what a busy machine adds.
    assert!(died.elapsed() < Duration::from_secs(3), "{:?}", died.elapsed());
    lan.answers(GATEWAY);

    assert_eq!(lan.holders(GATEWAY), [0, 1], "kill -9 leaves the address where it was");
    assert_eq!(arp_ignore(), "1", "and the sysctl");
    pair[0].launch();
    assert!(pair[0].log().contains("that was left behind"), "{}", pair[0].log());
    elected(&pair);
    pair[0].stop();
    lan.routers[0].expect_state(&before, "what is left of the router");
    assert_eq!(arp_ignore(), "0", "as it was before the one that crashed");
    until("the second to take over", LONG, || state(&pair[1]) == "master");
    lan.answers(GATEWAY);
}

/// Without a virtual MAC address: the host learns of the move by gratuitous ARP.
#[test]
fn without_a_virtual_mac_address_hosts_are_told() {
    let _machine = Machine::shared();
    let lan = Lan::new();
    let before = lan.ready();
    let mac = |which: usize| lan.routers[which].sh("cat /sys/class/net/lan0/address").trim().to_owned();
    let known = || lan.host.sh(&format!("ip neigh show {GATEWAY}"));
    let mut pair = lan.pair(|priority| format!("{}virtual-mac = false\n", keys(&[GATEWAY], priority, 100)));
    assert!(known().contains(&mac(0)), "{}", known());
    pair[0].stop();
    lan.routers[0].expect_state(&before, "what is left of the router");
    until("the host to learn of the move", LONG, || known().contains(&mac(1)));
    lan.answers(GATEWAY);
    assert!(router(&pair[1])["became_master"].as_u64() >= Some(1));
}

/// A host of the LAN sends what no router of the group would: the master stays, and everything is counted.
#[test]
fn forged_truncated_and_forwarded_advertisements_change_nothing_and_are_counted() {
    let _machine = Machine::shared();
    let lan = Lan::new();
    lan.ready();
    // Where bridges filter by IP, they would keep the malformed ones.
    lan.bridge.try_sh("sysctl -w net.bridge.bridge-nf-call-iptables=0");
    let ours = lan.ours(0, &keys(&[GATEWAY], 100, 100));
    until("it to be master", LONG, || state(&ours) == "master");
    let frame = |source: &str, vrid, body, checksum| {
        let source = source.parse().expect("address");
        let advertisement = Advertisement {
            vrid,
            priority: 254,
            body,
            addresses: vec!["192.168.77.254".parse().expect("address")],
        };
        let message = advertisement.encode(&Envelope::multicast(source), checksum).expect("a message");
        advertisement_frame([2, 0, 0, 0, 0, 9], source, &message).expect("a frame")
    };
    let v3 = Body::V3 { interval: 10 };
    let v2 = Body::V2 { interval: 1, auth_type: 0, auth_data: [0; 8] };
    let good = || frame("192.168.77.9", 10, v3, Checksum::PseudoHeader);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good();
        change(&mut frame);
        write_ipv4_checksum(&mut frame[14..]);
        frame
    };
    let frames = [
        ("ttl", with(&|f| f[14 + 8] = 254)),
        ("checksum", with(&|f| f[14 + 22] ^= 1)),
        ("version", with(&|f| f[14 + 20] = 0x71)),
        ("type", with(&|f| f[14 + 20] = 0x3f)),
        ("length", with(&|f| f[14 + 23] = 9)),
        ("ip-header", good()[..14 + 24].to_vec()),
        ("vrid", frame("192.168.77.9", 11, v3, Checksum::PseudoHeader)),
        ("own-address", frame("192.168.77.1", 10, v3, Checksum::PseudoHeader)),
        ("version-disabled", frame("192.168.77.9", 10, v2, Checksum::PseudoHeader)),
    ];
    let index = lan.host.sh("cat /sys/class/net/lan0/ifindex").trim().parse().expect("a number");
    let socket =
        lan.host.run(|| LinkSocket::open(index, PROTOCOL, GROUP_V4, GROUP_V6).expect("a packet socket"));
    let count = |reason: &str| {
        let shown = ours.show("vrrp");
        let of = |value: &Value| value["dropped"][reason].as_u64().unwrap_or(0);
        of(&shown) + of(&shown["routers"][0])
    };
    let became = router(&ours)["became_master"].clone();
    for (reason, frame) in &frames {
        let before = count(reason);
        for _ in 0..20 {
            socket.send(frame).expect("sent");
        }
        until(&format!("20 more dropped for {reason}"), LONG, || count(reason) == before + 20);
        assert_eq!(state(&ours), "master", "after {reason}");
    }
    assert_eq!(router(&ours)["became_master"], became);
    assert_eq!(lan.holders(GATEWAY), [0]);
    lan.answers(GATEWAY);
    // And the untouched one is what it takes.
    socket.send(&good()).expect("sent");
    until("it to give way", LONG, || state(&ours) == "backup");
}

/// The site can't be reached by a router whose uplink is down: the gateway goes to the other one, and comes
/// back.
#[test]
fn the_gateway_leaves_a_router_whose_locators_are_all_down() {
    let _machine = Machine::shared();
    let lan = Lan::new();
    lan.ready();
    lan.answers("192.168.77.2");
    let start = |which: usize| {
        let (ns, n) = (&lan.routers[which], which + 1);
        ns.sh(&format!(
            "ip link add up0 type veth peer name up1 && ip addr add 10.77.{n}.2/24 dev up0 && \
             ip link set up0 up && ip link set up1 up"
        ));
        let text = format!(
            "roles = [\"itr\", \"etr\"]\n[router]\nstate-dir = \"STATE-DIR\"\n\
             [[locator]]\naddress = \"10.77.{n}.2\"\n[[eid-prefix]]\nprefix = \"192.168.77.0/24\"\n\
             [[map-server]]\naddress = \"10.77.{n}.1\"\nkey = \"secret\"\n\
             [[map-resolver]]\naddress = \"10.77.{n}.1\"\n\
             [[vrrp]]\ninterface = \"lan0\"\nvrid = 10\n{}track-locators = true\n",
            keys(&[GATEWAY], 150 - 10 * which as u8, 100)
        );
        Router::start(&lan.net, ns, &format!("gw{which}"), &text)
    };
    let pair = [start(0), start(1)];
    elected(&pair);
    let [first, second] = &pair;
    lan.routers[0].sh("ip link set up1 down");
    until("the second to take over", LONG, || state(second) == "master" && state(first) == "backup");
    assert_eq!(router(first)["priority"], 90);
    lan.answers(GATEWAY);
    lan.routers[0].sh("ip link set up1 up");
    elected(&pair);
    assert_eq!(router(first)["priority"], 150);
}

//! The TUN, and what comes to it.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use eidolon::config::RoutingMode;
use eidolon::io::netlink::Netlink;
use eidolon::io::netns;
use eidolon::proto::config::LocatorSource;
use eidolon::runtime::kernel::KernelIntegration;
use eidolon::types::{Family, InstanceId};
use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use tun_tap::Iface;

use crate::scenery::*;

#[test]
fn the_tun_mtu_follows_the_uplink() {
    in_namespace(async || {
        let site = Site::new();
        let mut kernel = KernelIntegration::install(site.plan()).await.unwrap();
        let netlink = Netlink::open().unwrap();
        assert_eq!(interface("lisp0").await.unwrap().mtu, 1500 - 36);
        assert_eq!(kernel.tun_mtu(InstanceId::DEFAULT), Some(1500 - 36));
        ip("link set wan0 mtu 9000");
        kernel.interfaces_changed(&netlink.interfaces().await.unwrap()).await.unwrap();
        assert_eq!(interface("lisp0").await.unwrap().mtu, 9000 - 36);
        assert_eq!(kernel.tun_mtu(InstanceId::DEFAULT), Some(9000 - 36));
        let mut plan = site.plan();
        plan.locators.push(LocatorSource::Interface { name: "wan0".into(), family: Family::Ipv6 });
        kernel.update(plan.clone()).await.unwrap();
        assert_eq!(interface("lisp0").await.unwrap().mtu, 9000 - 56);
        plan.tun_mtu = Some(1400);
        kernel.update(plan).await.unwrap();
        assert_eq!(interface("lisp0").await.unwrap().mtu, 1400);
        kernel.remove().await.unwrap();
    });
}

#[test]
fn only_what_the_site_sends_elsewhere_comes_to_the_tun() {
    in_namespace(async || {
        let mut site = Site::new();
        let mut plan = site.plan();
        plan.set_sysctls = true;
        let kernel = KernelIntegration::install(plan).await.unwrap();
        let (host0, host1) =
            (Host::on("lan0", "10.1.0", "2001:db8:1:0:"), Host::on("lan1", "10.1.1", "2001:db8:1:1:"));
        let wan = Host::on("wan0", "192.0.2", "2001:db8:f:0:");
        let tunnelled = Tunnelled::start(site.tuns.remove(0));

        host1.listen(7001);
        wan.listen(7002);
        host0.send("10.1.1.2", 7001, "to the other network of the site");
        host0.send("2001:db8:1:1::2", 7001, "to the other network of the site, IPv6");
        assert_eq!(host1.received(), "to the other network of the site");
        assert_eq!(host1.received(), "to the other network of the site, IPv6");
        host0.send("192.0.2.2", 7002, "to the underlay that the router is connected to");
        assert_eq!(wan.received(), "to the underlay that the router is connected to");
        host0.send("10.1.0.1", 9, "to the router");
        wan.send("10.1.0.2", 9, "from the underlay");
        let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
        socket.send_to(b"the router's own, by its locator", "203.0.113.9:9").unwrap();

        host0.send("203.0.113.9", 9, "to another site");
        host1.send("2001:db8:ffff::9", 9, "to another site, IPv6");
        let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
        socket.send_to(b"the router's own, by its EID", "203.0.113.9:9").unwrap();
        assert_eq!(
            tunnelled.payloads(3),
            ["the router's own, by its EID", "to another site", "to another site, IPv6"]
        );
        kernel.remove().await.unwrap();
    });
}

#[test]
fn what_comes_out_of_the_tun_reaches_the_site() {
    in_namespace(async || {
        let mut site = Site::new();
        // As strict as it gets.
        for name in ["all", "default", "wan0", "lan0", "lan1", "lisp0"] {
            write_sysctl(&format!("ipv4/conf/{name}/rp_filter"), "1");
        }
        // The TUN is new, and new interfaces don't forward here.
        write_sysctl("ipv4/conf/lisp0/forwarding", "0");
        let mut plan = site.plan();
        plan.routing = RoutingMode::Prefixes;
        plan.instances[0].destinations = nets(&["10.2.0.0/16", "2001:db8:2::/48"]);
        let kernel = KernelIntegration::install(plan).await.unwrap();
        let host = Host::on("lan0", "10.1.0", "2001:db8:1:0:");
        host.listen(7001);
        let tun = site.tuns.remove(0);
        let send = |header: PacketBuilderStep<IpHeaders>, payload: &[u8]| {
            let mut packet = Vec::new();
            header.udp(7000, 7001).write(&mut packet, payload).unwrap();
            tun.send(&packet).unwrap();
        };
        let (to, from) = ([10, 1, 0, 2], [10, 2, 0, 9]);
        send(PacketBuilder::ipv4(from, to, 64), b"from a site that packets are sent to");
        assert_eq!(host.received(), "from a site that packets are sent to");
        send(
            PacketBuilder::ipv4([172, 16, 0, 9], to, 64),
            b"from one that answers go to by the default route",
        );
        assert_eq!(host.received(), "from one that answers go to by the default route");
        let (to, from) = ("2001:db8:1::2", "2001:db8:2::9");
        let octets = |address: &str| address.parse::<Ipv6Addr>().unwrap().octets();
        send(PacketBuilder::ipv6(octets(from), octets(to), 64), b"from a site, IPv6");
        assert_eq!(host.received(), "from a site, IPv6");
        kernel.remove().await.unwrap();
    });
}

/// A machine behind one of the router's interfaces: address 2 of its networks, the router is 1.
struct Host {
    commands: mpsc::Sender<HostCommand>,
    payloads: mpsc::Receiver<String>,
}

enum HostCommand {
    Send(IpAddr, u16, String),
    Listen(u16, mpsc::Sender<()>),
}

impl Host {
    fn on(interface: &str, ipv4: &str, ipv6: &str) -> Self {
        let (commands, inbox) = mpsc::channel();
        let (outbox, payloads) = mpsc::channel();
        let (ready, wait) = mpsc::channel();
        let peer = format!("{interface}p");
        let (ipv4, ipv6, name) = (ipv4.to_owned(), ipv6.to_owned(), peer.clone());
        thread::spawn(move || {
            netns::enter_new().unwrap();
            let thread_id = std::fs::read_link("/proc/thread-self").unwrap();
            ready.send(thread_id.file_name().unwrap().to_str().unwrap().to_owned()).unwrap();
            // Until the peer has come, there is nothing to set up.
            while !ip("-o link show").contains(&format!("{name}@")) {
                thread::sleep(Duration::from_millis(5));
            }
            ip("link set lo up");
            ip(&format!("link set {name} up"));
            ip(&format!("addr add {ipv4}.2/24 dev {name}"));
            ip(&format!("addr add {ipv6}:2/64 dev {name} nodad"));
            ip(&format!("route add default via {ipv4}.1"));
            ip(&format!("-6 route add default via {ipv6}:1"));
            ready.send(String::new()).unwrap();
            serve(&inbox, &outbox);
        });
        let thread_id = wait.recv().unwrap();
        ip(&format!("link set {peer} netns {thread_id}"));
        wait.recv().unwrap();
        Self { commands, payloads }
    }

    fn send(&self, destination: &str, port: u16, payload: &str) {
        self.commands
            .send(HostCommand::Send(destination.parse().unwrap(), port, payload.to_owned()))
            .unwrap();
    }

    fn listen(&self, port: u16) {
        let (done, wait) = mpsc::channel();
        self.commands.send(HostCommand::Listen(port, done)).unwrap();
        wait.recv().unwrap();
    }

    fn received(&self) -> String {
        self.payloads.recv_timeout(PATIENCE).expect("a packet")
    }
}

/// Does what the test asks, until it is over.
fn serve(inbox: &mpsc::Receiver<HostCommand>, outbox: &mpsc::Sender<String>) {
    let socket = UdpSocket::bind("[::]:0").unwrap();
    for command in inbox {
        match command {
            HostCommand::Send(destination, port, payload) => {
                let destination = match destination {
                    IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
                    IpAddr::V6(_) => destination,
                };
                socket.send_to(payload.as_bytes(), (destination, port)).unwrap();
            }
            HostCommand::Listen(port, done) => {
                let socket = UdpSocket::bind(("::", port)).unwrap();
                let outbox = outbox.clone();
                thread::spawn(move || {
                    let mut buffer = [0; 2000];
                    while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                        if outbox.send(String::from_utf8(buffer[..length].to_vec()).unwrap()).is_err() {
                            break;
                        }
                    }
                });
                done.send(()).unwrap();
            }
        }
    }
}

/// What comes to the TUN.
struct Tunnelled(mpsc::Receiver<String>);

impl Tunnelled {
    fn start(tun: Iface) -> Self {
        let (outbox, payloads) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok(length) = tun.recv(&mut buffer) {
                if outbox.send(udp_payload(&buffer[..length])).is_err() {
                    break;
                }
            }
        });
        Self(payloads)
    }

    /// Every packet so far, its UDP payload or else its bytes, sorted; there must be so many, and no more
    /// within a while.
    fn payloads(&self, count: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        while payloads.len() < count
            && let Ok(payload) = self.0.recv_timeout(PATIENCE)
        {
            payloads.push(payload);
        }
        while let Ok(payload) = self.0.recv_timeout(Duration::from_millis(500)) {
            payloads.push(payload);
        }
        assert_eq!(payloads.len(), count, "{payloads:#?}");
        payloads.sort();
        payloads
    }
}

fn udp_payload(packet: &[u8]) -> String {
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    String::from_utf8(packet[header + 8..].to_vec()).unwrap_or_else(|_| format!("{packet:x?}"))
}

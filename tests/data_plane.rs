//! Two data planes, each in a network namespace of its own with a veth between them, and sockets on EIDs at
//! both ends: what the kernels and our threads make of real traffic. Needs root; the namespaces vanish with
//! their threads.
#![cfg(feature = "router")]

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use eidolon::dataplane::{Count, DataPlaneConfig, DropReason, Instance, Offload};
use eidolon::fib::{self, FibAction, FibUpdate, FibWriter, Path, Punt, Stats};
use eidolon::io::netns;
use eidolon::io::udp::{ReceiveBatch, ReceiveSocket, SendSocket, SendTo};
use eidolon::runtime::clock::Clock;
use eidolon::runtime::data_loop::DataPlane;
use eidolon::types::{Action, Eid, EidPrefix, Family, InstanceId};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::mpsc;

/// How long something that must happen may take, on a machine however slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace; it lives at least as long as this.
struct NetworkNamespace(File);

impl NetworkNamespace {
    /// The calling thread's.
    fn current() -> Self {
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// Moves the calling thread, and no other, into this namespace.
    fn enter(&self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

/// One router and its hosts, in a namespace.
struct Site {
    namespace: NetworkNamespace,
    fib: FibWriter,
    punts: mpsc::Receiver<Punt>,
    plane: Option<DataPlane>,
    counters: Vec<Arc<Stats>>,
}

/// Which locators the sites use.
#[derive(Clone, Copy, Debug)]
struct Setup {
    rloc: Family,
    offload: Offload,
    queues: u16,
}

impl Site {
    /// In the current namespace: `me` and `peer` are 1 and 2 or the other way round.
    fn start(me: u8, setup: Setup) -> Self {
        let peer = 3 - me;
        for path in ["all", "default"].map(|i| format!("/proc/sys/net/ipv4/conf/{i}/rp_filter")) {
            std::fs::write(path, "0").unwrap();
        }
        ip("link set lo up");
        ip(&format!("addr add 10.{me}.0.1/32 dev lo"));
        ip(&format!("addr add 2001:db8:{me}::1/128 dev lo nodad"));
        ip(&format!("addr add 192.0.2.{me}/24 dev wan"));
        ip(&format!("addr add 2001:db8:f::{me}/64 dev wan nodad"));
        ip("link set wan up");
        let config = DataPlaneConfig {
            instances: vec![Instance { iid: InstanceId::DEFAULT, tun: "lisp0".into() }],
            offload: setup.offload,
            queues: setup.queues,
            ..DataPlaneConfig::default()
        };
        let fib = fib::new(100);
        let (sender, punts) = mpsc::channel(100);
        let plane = DataPlane::start(&config, Clock::new(), &fib.reader(), &sender).unwrap();
        let mtu = if setup.rloc == Family::Ipv4 { 1464 } else { 1444 };
        ip(&format!("link set lisp0 mtu {mtu} up"));
        ip(&format!("route add 10.{peer}.0.0/16 dev lisp0 src 10.{me}.0.1"));
        ip(&format!("route add 2001:db8:{peer}::/48 dev lisp0 src 2001:db8:{me}::1"));
        let mut site = Self {
            namespace: NetworkNamespace::current(),
            fib,
            punts,
            plane: Some(plane),
            counters: Vec::new(),
        };
        for prefix in [format!("10.{me}.0.0/16"), format!("2001:db8:{me}::/48")] {
            site.set(&prefix, FibAction::Local);
        }
        site
    }

    fn set(&mut self, prefix: &str, action: FibAction) {
        let stats = Arc::default();
        self.counters.push(Arc::clone(&stats));
        self.fib.apply(FibUpdate::Set { prefix: self::prefix(prefix), action, stats });
        self.fib.publish();
    }

    /// A mapping of the other site's prefixes.
    fn map(&mut self, me: u8, setup: Setup) {
        let peer = 3 - me;
        let (rloc, source) = match setup.rloc {
            Family::Ipv4 => (format!("192.0.2.{peer}"), format!("192.0.2.{me}")),
            Family::Ipv6 => (format!("2001:db8:f::{peer}"), format!("2001:db8:f::{me}")),
        };
        for prefix in [format!("10.{peer}.0.0/16"), format!("2001:db8:{peer}::/48")] {
            let path = Path {
                rloc: rloc.parse().unwrap(),
                source: source.parse().unwrap(),
                priority: 1,
                weight: 100,
                stats: Arc::default(),
            };
            self.set(&prefix, FibAction::Forward(vec![path]));
        }
    }

    /// Runs `f` in this site's namespace.
    fn within<T>(&self, f: impl FnOnce() -> T) -> T {
        let back = NetworkNamespace::current();
        self.namespace.enter();
        let result = f();
        back.enter();
        result
    }

    /// What was dropped, but for what kernels multicast of their own accord through any interface that is up.
    fn dropped(&self) -> Vec<(DropReason, u64)> {
        let totals = self.plane.as_ref().unwrap().totals();
        let count = |&r: &DropReason| (r, totals.dropped(r));
        DropReason::ALL.iter().map(count).filter(|r| r.1 > 0 && r.0 != DropReason::NotUnicast).collect()
    }

    fn counted(&self, what: Count) -> u64 {
        self.plane.as_ref().unwrap().totals().counted(what)
    }
}

/// Two sites that know each other, in new namespaces; runs in a thread of its own, so that the caller's stays
/// where it is.
fn two_sites(setup: Setup, test: impl FnOnce(&mut Site, &mut Site) + Send + 'static) {
    let run = move || {
        netns::enter_new().unwrap();
        let home = NetworkNamespace::current();
        ip("link add wan type veth peer name wan1");
        let (tid, far_tid) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let far = thread::spawn(move || {
            netns::enter_new().unwrap();
            tid.send(nix::unistd::gettid()).unwrap();
            let _ = wait.recv();
            NetworkNamespace::current()
        });
        ip(&format!("link set wan1 netns {}", far_tid.recv().unwrap()));
        drop(done);
        let far = far.join().unwrap();
        far.enter();
        ip("link set wan1 name wan");
        let mut b = Site::start(2, setup);
        home.enter();
        let mut a = Site::start(1, setup);
        a.map(1, setup);
        b.map(2, setup);
        test(&mut a, &mut b);
    };
    thread::spawn(run).join().unwrap();
}

/// All combinations of EID and locator family; the test runs for each EID family: its name, and both hosts'
/// addresses.
fn everywhere(offload: Offload, test: impl Fn(&mut Site, &mut Site, IpAddr, IpAddr) + Send + Copy + 'static) {
    for rloc in [Family::Ipv4, Family::Ipv6] {
        two_sites(Setup { rloc, offload, queues: 1 }, move |a, b| {
            for (ours, theirs) in [("10.1.0.1", "10.2.0.1"), ("2001:db8:1::1", "2001:db8:2::1")] {
                test(a, b, ours.parse().unwrap(), theirs.parse().unwrap());
            }
        });
    }
}

#[test]
fn udp_of_every_size_arrives_one_packet_at_a_time() {
    everywhere(Offload::Off, udp_of_every_size);
}

fn udp_of_every_size(a: &mut Site, b: &mut Site, ours: IpAddr, theirs: IpAddr) {
    let near = a.within(|| UdpSocket::bind((ours, 0)).unwrap());
    let far = b.within(|| UdpSocket::bind((theirs, 0)).unwrap());
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 10_000];
    let sizes = (0..40).chain(1380..1480).chain([2000, 4000, 8999, 9000]);
    for size in sizes {
        let payload: Vec<u8> = (0..size).map(|i| (i * 7 + size) as u8).collect();
        near.send_to(&payload, far.local_addr().unwrap()).unwrap();
        let (len, from) = far.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&payload[..], near.local_addr().unwrap()), "{size} bytes there");
        far.send_to(&payload, from).unwrap();
        let len = near.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..len], payload, "{size} bytes back");
    }
    assert_eq!([a.dropped(), b.dropped()], [[], []]);
}

#[test]
fn tcp_streams_arrive_intact_one_packet_at_a_time() {
    everywhere(Offload::Off, tcp_streams);
}

fn tcp_streams(a: &mut Site, b: &mut Site, ours: IpAddr, theirs: IpAddr) {
    const LEN: usize = 8 << 20;
    let listener = b.within(|| TcpListener::bind((theirs, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let noise = |seed: u32| (0..LEN as u32).map(move |i| ((i ^ seed).wrapping_mul(0x9e37_79b9) >> 24) as u8);
    let server = thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        let mut got = Vec::new();
        (&mut stream).take(LEN as u64).read_to_end(&mut got).unwrap();
        stream.write_all(&noise(2).collect::<Vec<_>>()).unwrap();
        (got, from)
    });
    let mut stream = a.within(|| TcpStream::connect_timeout(&address, PATIENCE).unwrap());
    assert_eq!(stream.local_addr().unwrap().ip(), ours);
    stream.write_all(&noise(1).collect::<Vec<_>>()).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    let (there, from) = server.join().unwrap();
    assert_eq!(from, stream.local_addr().unwrap());
    assert!(there.len() == LEN && there.iter().copied().eq(noise(1)), "what was sent there");
    assert!(back.len() == LEN && back.iter().copied().eq(noise(2)), "what was sent back");
    assert_eq!([a.dropped(), b.dropped()], [[], []]);
}

#[test]
fn udp_of_every_size_arrives_with_offloads() {
    everywhere(Offload::On, udp_of_every_size);
}

#[test]
fn tcp_streams_arrive_intact_with_offloads() {
    everywhere(Offload::On, |a, b, ours, theirs| {
        tcp_streams(a, b, ours, theirs);
        // Super-packets, not packets, pass the TUNs.
        let (packets, reads) = (a.counted(Count::EncapsulatedPackets), a.counted(Count::TunReads));
        assert!(packets > 3 * reads, "{packets} packets in {reads} reads");
        let (packets, writes) = (b.counted(Count::DecapsulatedPackets), b.counted(Count::TunWrites));
        assert!(packets > 3 * writes, "{packets} packets in {writes} writes");
    });
}

#[test]
fn udp_of_every_size_arrives_with_the_offloads_of_the_underlay_alone() {
    everywhere(Offload::Underlay, udp_of_every_size);
}

#[test]
fn tcp_streams_arrive_intact_with_the_offloads_of_the_underlay_alone() {
    everywhere(Offload::Underlay, |a, b, ours, theirs| {
        tcp_streams(a, b, ours, theirs);
        // One packet at a time passes the TUNs, several at a time the sockets.
        let (packets, reads) = (a.counted(Count::EncapsulatedPackets), a.counted(Count::TunReads));
        assert!(packets <= reads, "{packets} packets in {reads} reads");
        let sends = a.counted(Count::Sends);
        assert!(packets > 2 * sends, "{packets} packets in {sends} sends");
        let (packets, writes) = (b.counted(Count::DecapsulatedPackets), b.counted(Count::TunWrites));
        assert!(packets <= writes, "{packets} packets in {writes} writes");
        let receives = b.counted(Count::Receives);
        assert!(packets > 2 * receives, "{packets} packets in {receives} receives");
    });
}

#[test]
fn several_queues_share_the_flows_and_keep_each_to_one() {
    let setup = Setup { rloc: Family::Ipv4, offload: Offload::On, queues: 3 };
    two_sites(setup, |a, b| {
        let near: Vec<_> = (0..64).map(|_| a.within(|| UdpSocket::bind("10.1.0.1:0").unwrap())).collect();
        let far = b.within(|| UdpSocket::bind("10.2.0.1:0").unwrap());
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        let per_queue = |site: &Site, direction: &str, what| -> Vec<u64> {
            let threads = site.plane.as_ref().unwrap().per_thread();
            let ours = threads.iter().filter(|t| t.0.starts_with(direction));
            ours.map(|t| t.1.counted(what)).collect()
        };
        let sent = |a: &Site| per_queue(a, "itr", Count::EncapsulatedPackets);
        for socket in &near {
            let before = sent(a);
            for _ in 0..5 {
                socket.send_to(b"x", far.local_addr().unwrap()).unwrap();
                far.recv(&mut [0; 10]).unwrap();
            }
            let used: Vec<u64> =
                sent(a).iter().zip(before).map(|(now, then)| now - then).filter(|&n| n > 0).collect();
            assert_eq!(used, [5], "a flow uses one queue");
        }
        assert!(sent(a).len() == 3 && sent(a).iter().all(|&n| n >= 5 * 8), "{:?}", sent(a));
        let received = per_queue(b, "etr", Count::DecapsulatedPackets);
        assert!(received.len() == 3 && received.iter().filter(|&&n| n > 0).count() > 1, "{received:?}");
        assert_eq!(received.iter().sum::<u64>(), 64 * 5);
        for (ours, theirs) in [("10.1.0.1", "10.2.0.1"), ("2001:db8:1::1", "2001:db8:2::1")] {
            tcp_streams(a, b, ours.parse().unwrap(), theirs.parse().unwrap());
        }
        let entry = &a.counters[a.counters.len() - 2];
        let all: u64 = sent(a).iter().sum();
        assert!(entry.packets() >= 64 * 5 && entry.packets() < all, "counted once, whatever the queue");
    });
}

/// The FIB takes some 100,000 updates a second, of entries old and new and of the very ones that the traffic
/// uses: none of 20,000 packets is lost, and the last update holds.
#[test]
fn fib_updates_at_full_speed_lose_no_packet() {
    two_sites(Setup { rloc: Family::Ipv4, offload: Offload::On, queues: 1 }, |a, b| {
        const PACKETS: u32 = 20_000;
        let near = a.within(|| UdpSocket::bind("10.1.0.1:0").unwrap());
        let far = b.within(|| UdpSocket::bind("10.2.0.1:0").unwrap());
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        // Room for what comes while a thread is kept from reading: what is lost is lost by the FIB.
        setsockopt(&far, sockopt::RcvBufForce, &(16 << 20)).unwrap();
        a.within(|| ip("link set lisp0 txqueuelen 20000"));
        let target = far.local_addr().unwrap();
        let path = |stats: &Arc<Stats>| Path {
            rloc: "192.0.2.2".parse().unwrap(),
            source: "192.0.2.1".parse().unwrap(),
            priority: 1,
            weight: 100,
            stats: Arc::clone(stats),
        };
        let stats = Arc::<Stats>::default();
        let sending = AtomicBool::new(true);
        let updates = thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let mut buffer = [0; 64];
                (0..PACKETS).for_each(|i| {
                    assert_eq!(far.recv(&mut buffer).unwrap(), 4);
                    assert_eq!(buffer[..4], i.to_be_bytes(), "in order and complete");
                });
            });
            scope.spawn(|| {
                for i in 0..PACKETS {
                    near.send_to(&i.to_be_bytes(), target).unwrap();
                    // 10,000 a second, in crowds of ten: two seconds.
                    if i % 10 == 9 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                receiver.join().unwrap();
                sending.store(false, Ordering::Release);
            });
            // 200 every two milliseconds.
            let mut updates = 0_u32;
            while sending.load(Ordering::Acquire) {
                for i in 0..200 {
                    let n = updates + i;
                    let other = prefix(&format!("11.{}.{}.0/24", n / 256 % 256, n % 256));
                    let (prefix, remove) = match n % 50 {
                        0 => (prefix("10.2.0.0/16"), false),
                        1 => (prefix("10.2.0.1/32"), n % 100 == 1),
                        _ => (other, n / 65_536 % 2 == 1),
                    };
                    let (action, stats) = (FibAction::Forward(vec![path(&stats)]), Arc::clone(&stats));
                    a.fib.apply(match remove {
                        true => FibUpdate::Remove { prefix },
                        false => FibUpdate::Set { prefix, action, stats },
                    });
                }
                updates += 200;
                a.fib.publish();
                thread::sleep(Duration::from_millis(2));
            }
            updates
        });
        println!("{updates} updates");
        assert!(updates >= 10_000, "{updates} updates");
        assert_eq!([a.dropped(), b.dropped()], [[], []]);
        assert!(a.punts.try_recv().is_err(), "nothing was missed");
        a.set("10.2.0.1/32", FibAction::Negative(Action::Drop));
        near.send_to(b"last", target).unwrap();
        wait_for(|| a.dropped() == [(DropReason::NegativeDrop, 1)]);
    });
}

#[test]
fn ttl_dscp_and_ecn_pass_through() {
    everywhere(Offload::Off, ttl_dscp_and_ecn);
    everywhere(Offload::Underlay, ttl_dscp_and_ecn);
    everywhere(Offload::On, ttl_dscp_and_ecn);
}

fn ttl_dscp_and_ecn(a: &mut Site, b: &mut Site, ours: IpAddr, theirs: IpAddr) {
    let family = Family::of(&ours);
    let sender = a.within(|| SendSocket::open(family, false, None).unwrap());
    let receiver = b.within(|| ReceiveSocket::bind(family, 0, false, false, None).unwrap());
    let port = receiver.port().unwrap();
    for (ttl, tos) in [(64, 0xb8), (9, 0x2a), (2, 0x01), (255, 0x03)] {
        let to = SendTo { remote: theirs, port, source: ours, ttl, tos };
        sender.send(&to, None, &[IoSlice::new(b"x")]).unwrap();
        let (mut batch, mut bytes) = (ReceiveBatch::new(1), vec![0; 2048]);
        wait_for(|| receiver.receive(&mut batch, &mut bytes).is_ok());
        let got = batch.received()[0];
        // The direct link between the routers takes nothing off.
        assert_eq!((got.ttl, got.tos, got.remote.ip()), (Some(ttl), tos, ours));
    }
}

#[test]
fn a_miss_is_punted_once_and_traffic_flows_when_it_is_resolved() {
    let setup = Setup { rloc: Family::Ipv4, offload: Offload::Off, queues: 1 };
    two_sites(setup, move |a, b| {
        a.fib.apply(FibUpdate::Remove { prefix: prefix("10.2.0.0/16") });
        a.fib.publish();
        let near = a.within(|| UdpSocket::bind("10.1.0.1:0").unwrap());
        let far = b.within(|| UdpSocket::bind("10.2.0.1:0").unwrap());
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        let before = a.counted(Count::TunReads);
        (0..20).for_each(|_| assert_eq!(near.send_to(b"lost", far.local_addr().unwrap()).unwrap(), 4));
        wait_for(|| a.counted(Count::TunReads) == before + 20);
        let destination = Eid::new(InstanceId::DEFAULT, "10.2.0.1".parse().unwrap());
        assert_eq!(a.punts.try_recv(), Ok(Punt::Miss { source: "10.1.0.1".parse().unwrap(), destination }));
        wait_for(|| a.dropped() == [(DropReason::NoMapping, 20)]);
        assert!(a.punts.try_recv().is_err());
        a.map(1, setup);
        near.send_to(b"found", far.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 10];
        assert_eq!(far.recv(&mut buffer).unwrap(), 5);
        let entry = &a.counters[a.counters.len() - 2];
        assert_eq!((entry.packets(), entry.bytes()), (1, 33));
        assert!(entry.last_used().is_some());
    });
}

#[test]
fn a_smaller_underlay_mtu_is_learnt_punted_and_told_to_the_source() {
    smaller_underlay_mtu(Offload::Off);
    smaller_underlay_mtu(Offload::Underlay);
    smaller_underlay_mtu(Offload::On);
}

fn smaller_underlay_mtu(offload: Offload) {
    let setup = Setup { rloc: Family::Ipv4, offload, queues: 1 };
    two_sites(setup, move |a, b| {
        let near = a.within(|| UdpSocket::bind("10.1.0.1:0").unwrap());
        let far = b.within(|| UdpSocket::bind("10.2.0.1:0").unwrap());
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        far.set_nonblocking(true).unwrap();
        near.connect(far.local_addr().unwrap()).unwrap();
        a.within(|| ip("link set wan mtu 1300"));
        near.send(&[1; 1400]).unwrap();
        let rloc = "192.0.2.2".parse().unwrap();
        wait_for(|| a.punts.try_recv() == Ok(Punt::PathMtu { rloc, mtu: 1300 }));
        // The kernel sends such packets with DF. The next one is answered by fragmentation needed, 1300 −
        // 36, and so the source's kernel fragments the one after that.
        wait_for(|| {
            // A connected socket is told of the ICMP error, once.
            if let Err(error) = near.send(&[2; 1400]) {
                assert_eq!(error.raw_os_error(), Some(nix::libc::EMSGSIZE));
            }
            thread::sleep(Duration::from_millis(10));
            far.recv(&mut [0; 2000]).is_ok_and(|len| len == 1400)
        });
        assert!(a.counted(Count::IcmpSent) >= 1);
        let routes = a.within(|| ip_output("route get 10.2.0.1"));
        assert!(routes.contains("mtu 1264"), "{routes}");
    });
}

#[test]
fn a_closed_data_port_at_the_other_end_is_punted_as_unreachable() {
    let setup = Setup { rloc: Family::Ipv6, offload: Offload::Off, queues: 1 };
    two_sites(setup, move |a, b| {
        b.plane = None;
        let near = a.within(|| UdpSocket::bind("10.1.0.1:0").unwrap());
        let rloc = "2001:db8:f::2".parse().unwrap();
        wait_for(|| {
            near.send_to(b"x", "10.2.0.1:9").unwrap();
            thread::sleep(Duration::from_millis(10));
            a.punts.try_recv() == Ok(Punt::Unreachable { rloc })
        });
    });
}

#[test]
fn stopping_takes_the_device_away_and_a_new_start_works() {
    let setup = Setup { rloc: Family::Ipv4, offload: Offload::Off, queues: 1 };
    two_sites(setup, move |a, _| {
        assert!(a.within(|| ip_output("link show").contains("lisp0")));
        a.plane = None;
        assert!(!a.within(|| ip_output("link show").contains("lisp0")));
        let config = DataPlaneConfig {
            instances: vec![Instance { iid: InstanceId::DEFAULT, tun: "lisp0".into() }],
            ..DataPlaneConfig::default()
        };
        let (sender, _punts) = mpsc::channel(1);
        let again = || DataPlane::start(&config, Clock::new(), &a.fib.reader(), &sender).unwrap();
        let plane = a.within(again);
        assert_eq!(plane.tuns(), ["lisp0"]);
        let error =
            a.within(|| DataPlane::start(&config, Clock::new(), &a.fib.reader(), &sender)).unwrap_err();
        assert!(
            error.to_string().contains("lisp0") && error.to_string().contains("another process"),
            "{error}"
        );
    });
}

fn prefix(s: &str) -> EidPrefix {
    EidPrefix::from(s.parse::<ipnet::IpNet>().unwrap())
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    #[allow(clippy::disallowed_methods)] // how long a test waits is no part of what it tests
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "nothing came of it");
        thread::sleep(Duration::from_millis(1));
    }
}

fn ip(arguments: &str) {
    ip_output(arguments);
}

fn ip_output(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

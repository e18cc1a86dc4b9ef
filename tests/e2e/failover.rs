//! Two xTRs serve one site: the master dies, and hosts go on. The virtual gateway moves by VRRP at its
//! fastest; packets to the site come by the survivor once the remote ITR has left the dead locator.
//!
//! ```text
//!                        ┌── xTR 1, .11 ══ 10.9.1.2 ══╗
//!   host, .2 ── bridge ──┤                            core ══ xTR ── remote host
//!   gateway .254         └── xTR 2, .12 ══ 10.9.2.2 ══╝   ══ mapping system
//! ```

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::netns::{Netns, Process};
use crate::router::{Router, XtrOptions, mapping_config, registered_prefixes, xtr_config};
use crate::topology::{Family, Network, Plan, mapping_system};
use crate::traffic::{Stream, Streamed, deep_queue, go_on, reaches};
use crate::wait::{Machine, PATIENCE, measured, until};

const PREFIX: &str = "172.16.9.0/24";
const GATEWAY: &str = "172.16.9.254";
const HOST: &str = "172.16.9.2";
/// Failovers that a figure is the median of.
const SERIES: usize = 3;

/// The network with both sites.
struct Sites {
    net: Network,
    bridge: Netns,
    host: Netns,
    xtrs: [Netns; 2],
}

fn rloc(which: usize) -> String {
    format!("10.9.{}.2", which + 1)
}

impl Sites {
    fn new() -> Self {
        let net = Network::build(&Plan { uplinks: vec![1], ..Plan::default() });
        let sites = Self {
            bridge: Netns::new("lan9"),
            host: Netns::new("host9"),
            xtrs: [Netns::new("gw1"), Netns::new("gw2")],
            net,
        };
        sites.bridge.sh("ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up");
        for (ns, n) in [(&sites.host, 2), (&sites.xtrs[0], 11), (&sites.xtrs[1], 12)] {
            let (bridge, name) = (sites.bridge.name(), ns.name());
            crate::netns::sh(&format!(
                "ip link add p{n} netns {bridge} type veth peer name lan0 netns {name}"
            ));
            sites.bridge.sh(&format!("ip link set p{n} master br0 up"));
            ns.sh(&format!("ip addr add 172.16.9.{n}/24 dev lan0 && ip link set lan0 up"));
        }
        sites.host.sh(&format!("ip route add default via {GATEWAY}"));
        for (which, ns) in sites.xtrs.iter().enumerate() {
            let (n, core, name) = (which + 1, sites.net.core.name(), ns.name());
            crate::netns::sh(&format!(
                "ip link add s9u{n} netns {core} type veth peer name wan0 netns {name}"
            ));
            sites.net.core.sh(&format!("ip addr add 10.9.{n}.1/24 dev s9u{n} && ip link set s9u{n} up"));
            ns.sh(&format!(
                "ip addr add {}/24 dev wan0 && ip link set wan0 up && ip route add default via 10.9.{n}.1",
                rloc(which)
            ));
        }
        sites
    }

    /// The mapping system, the remote site's xTR, and the two of this site, the first of which is master.
    fn start(&self, options: &Options) -> Routers<'_> {
        let site = format!("[[site]]\nname = \"nine\"\neid-prefixes = [\"{PREFIX}\"]\nkey = \"key-nine\"\n");
        let mapping =
            Router::start(&self.net, &self.net.mapping, "mapping", &mapping_config(&self.net, &site));
        let mut remote = XtrOptions::over(self.net.site(1), Family::V4);
        remote.more = options.common();
        let remote =
            Router::start(&self.net, &self.net.site(1).xtr, "xtr1", &xtr_config(self.net.site(1), &remote));
        let xtrs = [0, 1].map(|which| {
            Router::start(&self.net, &self.xtrs[which], &format!("gw{which}"), &self.config(which, options))
        });
        let keepalived = options.keepalived.then(|| (&self.xtrs[0], self.keepalived()));
        let routers = Routers { mapping, remote, xtrs, sync: options.sync, keepalived };
        until("both sites' registrations", PATIENCE, || {
            registered_prefixes(&routers.mapping.show("sites")).contains(&PREFIX.to_owned())
                && registered_prefixes(&routers.mapping.show("sites")).len() >= 3
        });
        routers.wait_master(0);
        routers
    }

    fn config(&self, which: usize, options: &Options) -> String {
        let mapping = mapping_system(Family::V4);
        let locator = |n: usize| {
            let local = n == which;
            format!("[[locator]]\naddress = \"{}\"\npriority = 1\nweight = 50\nlocal = {local}\n", rloc(n))
        };
        let gateway = match options.keepalived && which == 0 {
            true => String::new(),
            false => format!(
                "[[instance]]\ninstance-id = 0\ninterfaces = [\"lan0\"]\n[[vrrp]]\ninterface = \"lan0\"\n\
                 vrid = 10\n\
                 addresses = [\"{GATEWAY}\"]\ninterval = \"10ms\"\npriority = {}\n",
                150 - 50 * which
            ),
        };
        let (own, other) = (11 + which, 12 - which);
        let sync = match options.sync {
            false => String::new(),
            true => format!(
                "[sync]\nmembers = [\"172.16.9.{other}\"]\nsource = \"172.16.9.{own}\"\nkey = \"key-sync\"\n\
                 hello-interval = \"1s\"\n"
            ),
        };
        format!(
            "roles = [\"itr\", \"etr\"]\n[router]\nname = \"gw{which}\"\nstate-dir = \"STATE-DIR\"\n{}{}\
             [[eid-prefix]]\nprefix = \"{PREFIX}\"\n\
             [[map-server]]\naddress = \"{mapping}\"\nkey = \"key-nine\"\n\
             [[map-resolver]]\naddress = \"{mapping}\"\n{gateway}{sync}{}",
            locator(0),
            locator(1),
            options.common()
        )
    }

    /// Starts keepalived beside the first xTR, with the same group, priority and interval as ours would have.
    fn keepalived(&self) -> Process {
        let file = |suffix: &str| self.net.file(&format!("keepalived.{suffix}"));
        let text = format!(
            "global_defs {{\nvrrp_version 3\n}}\nvrrp_instance V {{\nstate BACKUP\ninterface lan0\n\
             virtual_router_id 10\npriority 150\nadvert_int 0.01\nuse_vmac\n\
             virtual_ipaddress {{\n{GATEWAY}/32\n}}\n}}\n"
        );
        fs::write(file("conf"), text).expect("a configuration");
        let text = |suffix: &str| file(suffix).to_str().expect("UTF-8").to_owned();
        let (conf, pid, vrrp) = (text("conf"), text("pid"), text("vrrp.pid"));
        self.xtrs[0].spawn(
            &file("log"),
            &["keepalived", "-n", "-l", "-D", "-P", "-f", &conf, "-p", &pid, "-r", &vrrp],
        )
    }
}

/// How the sites find out that a locator is dead.
#[derive(Clone, Copy, Debug)]
struct Options {
    /// Between probes, in milliseconds.
    probing: u32,
    /// Whether packets carry locator-status-bits.
    status_bits: bool,
    /// Whether the first xTR has its gateway from keepalived.
    keepalived: bool,
    /// Whether the two xTRs know what each other has learnt.
    sync: bool,
}

const PROBED: Options = Options { probing: 200, status_bits: false, keepalived: false, sync: false };

impl Options {
    fn common(&self) -> String {
        let Self { probing, status_bits, .. } = self;
        format!(
            "[probing]\ninterval = \"{probing}ms\"\ntimeout = \"{}ms\"\nretries = 1\n\
             [data-header]\nlocator-status-bits = {status_bits}\n[timers]\nlocator-status-damping = \"1s\"\n",
            probing / 2
        )
    }
}

struct Routers<'a> {
    mapping: Router<'a>,
    remote: Router<'a>,
    xtrs: [Router<'a>; 2],
    sync: bool,
    /// The namespace of the first xTR, where it is the speaker.
    keepalived: Option<(&'a Netns, Process)>,
}

impl Routers<'_> {
    fn state(&self, which: usize) -> String {
        if let (0, Some((ns, _))) = (which, &self.keepalived) {
            let holds = ns.sh("ip -o addr show").contains(&format!(" {GATEWAY}/"));
            return if holds { "master" } else { "backup" }.to_owned();
        }
        let shown = self.xtrs[which].show("vrrp");
        shown["routers"][0]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an xTR is master and the other one is not, and both stay so for a moment.
    fn wait_master(&self, which: usize) {
        let stable = || self.state(which) == "master" && self.state(1 - which) == "backup";
        until("the master", PATIENCE, || {
            stable() && {
                thread::sleep(Duration::from_millis(300));
                stable()
            }
        });
    }

    /// Whether the remote site sends to a locator.
    fn remote_uses(&self, which: usize) -> bool {
        let shown = self.remote.show("locators");
        let all = shown["remote"].as_array().cloned().unwrap_or_default();
        all.iter().any(|l| l["rloc"] == *rloc(which) && l["up"] == true)
    }

    /// Packets that the remote site has sent to a locator.
    fn remote_sent(&self, which: usize) -> u64 {
        let mut sum = 0;
        crate::router::visit(&self.remote.show("map-cache"), &mut |object| {
            if object.get("rloc").and_then(Value::as_str) == Some(&rloc(which)) {
                sum += object.get("packets").and_then(Value::as_u64).unwrap_or(0);
            }
        });
        sum
    }

    /// Whether an xTR has the remote site's mapping.
    fn knows_remote(&self, which: usize) -> bool {
        self.xtrs[which].operator(&["show", "map-cache"]).contains("172.16.1.0/24")
    }

    fn dropped(&self, which: usize, reason: &str) -> u64 {
        let shown = self.xtrs[which].show("statistics");
        let threads = shown["data"].as_array().cloned().unwrap_or_default();
        threads.iter().map(|thread| thread["dropped"][reason].as_u64().unwrap_or(0)).sum()
    }
}

/// A TCP connection on which a few bytes go there and come back every 10 ms.
struct Echo {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    client: JoinHandle<Duration>,
}

impl Echo {
    fn start(from: &Netns, to: &Netns, address: IpAddr) -> Self {
        let listener = to.tcp_listener(SocketAddr::new(address, 0));
        let target = listener.local_addr().expect("local address");
        thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut bytes = [0; 8];
            while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
        });
        let mut stream = from.tcp_connect(target);
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::<AtomicUsize>::default();
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&rounds));
        let client = thread::spawn(move || {
            let (mut rounds, mut longest) = (0_usize, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let sent = Instant::now();
                let bytes = rounds.to_be_bytes();
                stream.write_all(&bytes).expect("the connection goes on");
                let mut back = [0; 8];
                stream.read_exact(&mut back).expect("the connection goes on");
                assert_eq!(back, bytes, "another answer");
                longest = longest.max(sent.elapsed());
                rounds += 1;
                done.store(rounds, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(10));
            }
            longest
        });
        Self { stop, rounds, client }
    }

    /// Waits for some more exchanges.
    fn go_on(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        until("exchanges by TCP", PATIENCE, || self.rounds.load(Ordering::Relaxed) >= before + 20);
    }

    /// The longest that an exchange took.
    fn finish(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.client.join().expect("the connection goes on to the end")
    }
}

/// What a failover cost.
#[derive(Clone, Debug)]
struct Cost {
    /// Longest gap of the stream from the site, in milliseconds.
    out: u64,
    /// Of the stream to the site.
    back: u64,
    /// The longest that an exchange by TCP took, in milliseconds.
    tcp: u64,
    /// Packets that the survivor dropped for lack of a mapping.
    misses: u64,
}

/// Has traffic flow while the master dies and the other one takes over.
fn fail_over(
    sites: &Sites,
    routers: &mut Routers<'_>,
    die: &mut dyn FnMut(&Sites, &mut Routers<'_>),
) -> Cost {
    let remote = &sites.net.site(1).host;
    let (there, here) = (sites.net.site(1).host_eid(Family::V4), HOST.parse().expect("address"));
    assert!(reaches(&sites.host, there, PATIENCE), "through the first xTR");
    for router in [&routers.remote].into_iter().chain(&routers.xtrs) {
        deep_queue(router.ns);
    }
    // Both sides know of each other's locators.
    until("the remote site to know both locators", PATIENCE, || {
        routers.remote_uses(0) && routers.remote_uses(1)
    });
    if routers.sync {
        until("the other xTR to know the remote site too", PATIENCE, || routers.knows_remote(1));
    } else {
        routers.xtrs[1].clear_map_cache();
    }
    // A flow whose packets come by the one that is about to die.
    let mut flows = 0;
    let back = loop {
        flows += 1;
        assert!(flows < 40, "no flow goes to {}: {}", rloc(0), routers.remote.show("map-cache"));
        let before = routers.remote_sent(0);
        let stream = Stream::start(remote, &sites.host, here);
        go_on("a stream to the site", &[&stream]);
        if routers.remote_sent(0) > before + 250 {
            break stream;
        }
        stream.finish();
    };
    let out = Stream::start(&sites.host, remote, there);
    let echo = Echo::start(&sites.host, remote, there);
    go_on("all streams", &[&out, &back]);
    echo.go_on();
    let misses = routers.dropped(1, "no-mapping");
    die(sites, routers);
    until("the other xTR to be master", PATIENCE, || routers.state(1) == "master");
    go_on("the streams by the other xTR", &[&out, &back]);
    echo.go_on();
    // And stay with it.
    thread::sleep(Duration::from_secs(1));
    let (out, back): (Streamed, Streamed) = (out.finish(), back.finish());
    let longest = echo.finish();
    assert_eq!(routers.state(1), "master");
    Cost {
        out: out.longest_gap,
        back: back.longest_gap,
        tcp: u64::try_from(longest.as_millis()).expect("not for ever"),
        misses: routers.dropped(1, "no-mapping") - misses,
    }
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> u64) -> u64 {
    let mut all: Vec<u64> = costs.iter().map(of).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// What must hold of any failover, in most of several; `once` is one of them.
fn judge(test: &str, mut once: impl FnMut() -> Cost) -> Vec<Cost> {
    let mut all = Vec::new();
    measured(
        test,
        |costs: &Vec<Cost>| {
            // The stream from the site, the one to it, and the connection.
            let (out, back, tcp) =
                (median(costs, |c| c.out), median(costs, |c| c.back), median(costs, |c| c.tcp));
            out < 400 && back < 1500 && tcp < 5000
        },
        |costs| {
            let one = |Cost { out, back, tcp, misses }: &Cost| {
                format!(
                    "{out} ms from the site, {back} ms to it, {tcp} ms by TCP, {misses} packets without \
                     mapping"
                )
            };
            format!("gaps of {}", costs.iter().map(one).collect::<Vec<_>>().join("; "))
        },
        || {
            let costs: Vec<Cost> = (0..SERIES).map(|_| once()).collect();
            all.extend(costs.iter().cloned());
            costs
        },
    );
    all
}

/// `kill -9`, and the dead one comes back between the tries.
#[test]
fn hosts_go_on_when_the_master_is_killed() {
    let _machine = Machine::alone();
    let sites = Sites::new();
    let mut routers = sites.start(&PROBED);
    judge("the master is killed", || {
        let cost = fail_over(&sites, &mut routers, &mut |_, routers| routers.xtrs[0].kill());
        routers.xtrs[0].launch();
        routers.wait_master(0);
        cost
    });
}

/// With synchronisation, the survivor knows the way: no packet is lost to a miss, in any of the tries.
#[test]
fn a_synchronised_survivor_drops_nothing_for_lack_of_a_mapping() {
    let _machine = Machine::alone();
    let costs = links_are_cut("links cut, synchronised", &Options { sync: true, ..PROBED });
    assert!(costs.iter().all(|cost| cost.misses == 0), "{costs:?}");
}

/// All links of the master go dark and nobody says so: what it sends is lost, it does not know.
fn links_are_cut(test: &str, options: &Options) -> Vec<Cost> {
    let sites = Sites::new();
    let mut routers = sites.start(options);
    judge(test, || {
        let cost = fail_over(&sites, &mut routers, &mut |sites, _| {
            sites.net.core.sh(
                "nft 'add table inet dark; add chain inet dark forward { type filter hook forward priority \
                 0; }; add chain inet dark input { type filter hook input priority 0; }; \
                 add rule inet dark forward iifname s9u1 drop; add rule inet dark forward oifname s9u1 drop; \
                 add rule inet dark input iifname s9u1 drop'",
            );
            sites.bridge.sh("ip link set p11 nomaster");
        });
        sites.bridge.sh("ip link set p11 master br0");
        sites.net.core.sh("nft delete table inet dark");
        routers.wait_master(0);
        cost
    })
}

#[test]
fn hosts_go_on_when_the_links_of_the_master_are_cut() {
    let _machine = Machine::alone();
    links_are_cut("links cut, probing every 200 ms", &PROBED);
}

#[test]
fn locator_status_bits_tell_of_the_dead_one_too() {
    let _machine = Machine::alone();
    links_are_cut("links cut, with locator-status-bits", &Options { status_bits: true, ..PROBED });
}

/// The pair of the study: another vendor's speaker is the master, and ours takes over from it.
#[test]
fn hosts_go_on_when_a_master_by_keepalived_is_cut_off() {
    let _machine = Machine::alone();
    links_are_cut("keepalived cut off", &Options { keepalived: true, ..PROBED });
}

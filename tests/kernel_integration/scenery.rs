//! A router with its site, hosts around it, and ways to look at them.

use std::future::Future;
use std::net::IpAddr;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use eidolon::config::RoutingMode;
use eidolon::io::netlink::{Interface, Netlink, TABLE_MAIN};
use eidolon::io::netns;
use eidolon::proto::config::LocatorSource;
use eidolon::runtime::kernel::{InstancePlan, KernelPlan};
use eidolon::types::{EidPrefix, InstanceId};
use tempfile::TempDir;
use tun_tap::{Iface, Mode};

/// How long something that must happen may take, on a machine however slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One test at a time: a command that another test of this process starts holds, from its fork to its exec, a
/// copy of every descriptor here, and so keeps locks and TUN devices alive that were just dropped.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `test` in a network namespace of its own.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let result = thread::spawn(move || {
        netns::enter_new().expect("these tests make network namespaces: run them as root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    })
    .join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// A router with an uplink, two networks of its site, and a TUN.
pub(crate) struct Site {
    pub(crate) tuns: Vec<Iface>,
    pub(crate) state: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        ip("link set lo up");
        for (name, ipv4, ipv6) in [
            ("wan0", "192.0.2.1/24", "2001:db8:f::1/64"),
            ("lan0", "10.1.0.1/24", "2001:db8:1::1/64"),
            ("lan1", "10.1.1.1/24", "2001:db8:1:1::1/64"),
        ] {
            ip(&format!("link add {name} type veth peer name {name}p"));
            up(&[name, &format!("{name}p")]);
            ip(&format!("addr add {ipv4} dev {name}"));
            ip(&format!("addr add {ipv6} dev {name} nodad"));
            // Link-local addresses come when they come; here they only disturb comparisons.
            write_sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0");
        }
        ip("route add default via 192.0.2.254");
        ip("-6 route add default via 2001:db8:f::fe");
        // What depends on the machine, made certain.
        for name in ["all", "wan0", "lan0", "lan1"] {
            write_sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0");
        }
        write_sysctl("ipv4/ip_forward", "1");
        write_sysctl("ipv6/conf/all/forwarding", "1");
        Self { tuns: vec![tun("lisp0")], state: TempDir::new().unwrap() }
    }

    pub(crate) fn plan(&self) -> KernelPlan {
        KernelPlan {
            routing: RoutingMode::Default,
            rule_priority: 4341,
            set_sysctls: false,
            state_dir: self.state.path().to_owned(),
            tun_mtu: None,
            locators: vec![LocatorSource::Address("192.0.2.1".parse().unwrap())],
            instances: vec![InstancePlan {
                iid: InstanceId::DEFAULT,
                tun: "lisp0".into(),
                eid_prefixes: nets(&["10.1.0.0/16", "2001:db8:1::/48"]),
                dynamic: vec![],
                destinations: vec![],
                proxied: vec![],
                egress: vec![],
                interfaces: vec![],
                gateways: vec![],
                table: 4341,
                site_table: TABLE_MAIN,
            }],
        }
    }
}

pub(crate) fn tun(name: &str) -> Iface {
    Iface::without_packet_info(name, Mode::Tun).unwrap()
}

pub(crate) fn nets<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    nets(texts)
}

pub(crate) fn prefix(text: &str) -> EidPrefix {
    EidPrefix::new(InstanceId::DEFAULT, text.parse().unwrap())
}

/// Runs `ip` in the calling thread's namespace.
pub(crate) fn ip(arguments: &str) -> String {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("ip (iproute2) is needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn up(names: &[&str]) {
    for name in names {
        ip(&format!("link set {name} up"));
    }
}

/// `ip`'s output with one space between words.
pub(crate) fn words(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| {
        let line: Vec<_> = line.split_whitespace().collect();
        all + &line.join(" ") + "\n"
    })
}

/// Our rules, IPv4 first.
pub(crate) fn our_rules() -> String {
    let all = words(&ip("-N -4 rule show")) + &words(&ip("-N -6 rule show"));
    let ours = all.lines().filter(|line| line.ends_with("proto 153"));
    ours.map(|line| line.replace("lookup 254", "lookup main") + "\n").collect()
}

/// A table's routes, IPv4 first.
pub(crate) fn table(table: u32) -> String {
    let show = |family: &str| {
        let arguments = format!("{family} route show table {table}");
        let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
        // "FIB table does not exist" is an error for `ip`; for us it is an empty table.
        words(&String::from_utf8(output.stdout).unwrap())
    };
    show("-4") + &show("-6")
}

/// All rules and routes there are, but for what comes and goes with an interface, some of it when the kernel
/// gets round to it: the table of local addresses, and link-local and multicast routes.
pub(crate) fn routing_state() -> String {
    let all = words(&ip("-4 rule show"))
        + &words(&ip("-6 rule show"))
        + &words(&ip("-4 route show table all"))
        + &words(&ip("-6 route show table all"));
    let passing = ["fe80:", "ff00::", " table local "];
    all.lines()
        .filter(|line| !passing.iter().any(|text| line.contains(text)))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// The interface by which a packet leaves that came in by another.
pub(crate) fn forwarded(family: &str, destination: &str, source: &str, input: &str) -> String {
    output_interface(&ip(&format!("{family} route get {destination} from {source} iif {input}")))
}

/// The interface by which a packet of this machine leaves.
pub(crate) fn sent(family: &str, destination: &str, source: Option<&str>) -> String {
    let from = source.map(|source| format!("from {source}")).unwrap_or_default();
    output_interface(&ip(&format!("{family} route get {destination} {from}")))
}

fn output_interface(text: &str) -> String {
    let mut words = text.split_whitespace().skip_while(|word| *word != "dev");
    words.nth(1).unwrap_or_else(|| panic!("no dev in {text}")).to_owned()
}

pub(crate) async fn interface(name: &str) -> Option<Interface> {
    let interfaces = Netlink::open().unwrap().interfaces().await.unwrap();
    interfaces.into_iter().find(|interface| interface.name == name)
}

pub(crate) fn sysctl(name: &str) -> String {
    eidolon::io::sysctl::read(&format!("net/{name}")).unwrap()
}

pub(crate) fn write_sysctl(name: &str, value: &str) {
    eidolon::io::sysctl::write(&format!("net/{name}"), value)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

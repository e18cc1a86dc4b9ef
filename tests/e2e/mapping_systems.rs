//! Several mapping systems at once, keys that change, and what survives a restart.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use eidolon::proto::persist::{Change, Record};
use eidolon::store::{Embedded, FILE, Store};
use serde_json::Value;

use crate::capture::Capture;
use crate::hostile::payloads;
use crate::netns::Netns;
use crate::router::{Router, Routers, XtrOptions, mapping_config, registered_prefixes, visit, xtr_config};
use crate::topology::{Family, Network, Plan, Site, address, default_route, link};
use crate::traffic::{ping, reaches};
use crate::wait::{Machine, PATIENCE, measured, until, within};

const FIRST: &str = "10.0.0.2";
const SECOND: &str = "10.0.1.2";

/// A second mapping system beside the core, at [`SECOND`].
fn second_mapping_system(net: &Network) -> Netns {
    let ns = Netns::new("mapping2");
    link(&net.core, "ms2", &ns, "wan0", 1500);
    address(&net.core, "ms2", "10.0.1.1/24", "2001:db8:0:1::1/64");
    address(&ns, "wan0", "10.0.1.2/24", "2001:db8:0:1::2/64");
    default_route(&ns, "10.0.1.1", "2001:db8:0:1::1");
    ns
}

/// An xTR whose IPv4 EIDs are in the first mapping system and whose IPv6 EIDs are in the second.
fn xtr_of_both(site: &Site) -> String {
    let n = site.number;
    let mut text = format!(
        "roles = [\"itr\", \"etr\"]\n[router]\nname = \"xtr{n}\"\nstate-dir = \"STATE-DIR\"\n\
         [[locator]]\naddress = \"{}\"\n",
        site.rloc(Family::V4, 0)
    );
    for (family, name) in [(Family::V4, "first"), (Family::V6, "second")] {
        let _ = write!(
            text,
            "[[eid-prefix]]\nprefix = \"{}\"\nmap-servers = [\"{name}\"]\n",
            site.prefix(family)
        );
    }
    let _ = write!(
        text,
        "[[map-server]]\nname = \"first\"\naddress = \"{FIRST}\"\nkey = \"first-{n}\"\nalgorithm = \"sha1\"\n\
         [[map-server]]\nname = \"second\"\naddress = \"{SECOND}\"\nkey = \"second-{n}\"\nkey-id = 9\n\
         algorithm = \"sha256-hkdf\"\n\
         [[map-resolver]]\naddress = \"{FIRST}\"\neid-prefixes = [\"172.16.0.0/12\"]\n\
         [[map-resolver]]\naddress = \"{SECOND}\"\neid-prefixes = [\"2001:db8:ee::/48\"]\n\
         [timers]\nregister-interval = \"2s\"\nquick-register-interval = \"2s\"\n\
         register-retry-max = \"2s\"\n"
    );
    text
}

fn mapping_system_of(net: &Network, name: &str, family: Family, key: &str) -> String {
    let mut text = format!(
        "roles = [\"map-server\", \"map-resolver\"]\n[router]\nname = \"{name}\"\nstate-dir = \"STATE-DIR\"\n\
         [timers]\nregistration-timeout = \"6s\"\n"
    );
    for site in &net.sites {
        let n = site.number;
        let _ = write!(
            text,
            "[[site]]\nname = \"site{n}\"\neid-prefixes = [\"{}\"]\nkey = \"{name}-{n}\"\n{key}\n",
            site.prefix(family)
        );
    }
    text
}

fn dropped(router: &Router<'_>) -> serde_json::Map<String, Value> {
    let statistics = router.show("statistics");
    let drops = statistics["control"]["dropped"].as_object().expect("drops").clone();
    drops.into_iter().filter(|(_, n)| n.as_u64() != Some(0)).collect()
}

#[test]
fn two_mapping_systems_do_not_know_of_each_other() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let second_ns = second_mapping_system(&net);
    let first_text = mapping_system_of(&net, "first", Family::V4, "algorithm = \"sha1\"");
    let second_text =
        mapping_system_of(&net, "second", Family::V6, "key-id = 9\nalgorithm = \"sha256-hkdf\"");
    let mut first = Router::start(&net, &net.mapping, "first", &first_text);
    let second = Router::start(&net, &second_ns, "second", &second_text);
    let xtrs: Vec<_> = net
        .sites
        .iter()
        .map(|site| Router::start(&net, &site.xtr, &format!("xtr{}", site.number), &xtr_of_both(site)))
        .collect();
    let registered = |router: &Router<'_>| registered_prefixes(&router.show("sites"));
    until("the registrations", PATIENCE, || registered(&first).len() == 2 && registered(&second).len() == 2);
    // Each has what is its own, and was never bothered with anything else.
    assert_eq!(registered(&first), [net.site(1).prefix(Family::V4), net.site(2).prefix(Family::V4)]);
    assert_eq!(registered(&second), [net.site(1).prefix(Family::V6), net.site(2).prefix(Family::V6)]);
    let (a, b) = (net.site(1), net.site(2));
    for eids in Family::BOTH {
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE), "{eids}");
    }
    for router in [&first, &second] {
        assert!(dropped(router).is_empty(), "{}: {:?}", router.name, dropped(router));
    }
    let mut keys = Vec::new();
    visit(&xtrs[0].show("database"), &mut |object| {
        if let (Some(server), Some(key)) = (object.get("map_server"), object.get("key")) {
            keys.push(format!("{server} {} {}", key["id"], key["algorithm"]));
        }
    });
    keys.sort();
    assert_eq!(keys, ["\"first\" 0 \"HMAC-SHA-1-96\"", "\"second\" 9 \"HMAC-SHA-256-128+HKDF-SHA256\""]);

    // The first dies: what is in the second can still be found, from cold, and stays registered.
    first.kill();
    let clear = || xtrs.iter().for_each(Router::clear_map_cache);
    clear();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        clear();
        assert!(reaches(&a.host, b.host_eid(Family::V6), PATIENCE), "without the first");
        assert_eq!(registered(&second).len(), 2);
    }
    assert_eq!(ping(&a.host, b.host_eid(Family::V4), 3, 0.1, "-t 1000").received, 0, "nobody else knows");
    let state = |host: &str| {
        let resolvers = xtrs[0].show("resolvers");
        let list = resolvers["resolvers"].as_array().expect("resolvers");
        list.iter().find(|r| r["host"] == host).map(|r| r["state"].clone()).unwrap_or_default()
    };
    until("the first to be known as silent", PATIENCE, || state(FIRST) == "silent" && state(SECOND) == "up");
    let table = xtrs[0].operator(&["show", "resolvers"]);
    assert!(table.contains("silent") && table.contains("172.16.0.0/12"), "{table}");

    first.launch();
    until("the first one's registrations", PATIENCE, || registered(&first).len() == 2);
    clear();
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE), "after its return");
}

/// Two Map-Resolvers of the same mapping system: the second takes over within two seconds, and the first
/// comes back.
#[test]
fn a_map_resolver_that_dies_is_replaced_within_seconds() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let other_ns = second_mapping_system(&net);
    let resolver = "roles = [\"map-resolver\"]\n[router]\nstate-dir = \"STATE-DIR\"\n\
                    [[forward]]\nprefix = \"172.16.0.0/12\"\nmap-servers = [\"10.0.0.2\"]\n";
    let mut other = Router::start(&net, &other_ns, "resolver", resolver);
    let options = |site: &Site| {
        let mut options = XtrOptions::over(site, Family::V4);
        // Before the one that every xTR has.
        options.map_server = format!("[[map-resolver]]\naddress = \"{SECOND}\"\n");
        options
    };
    let routers = Routers::start_with(&net, options, "");
    let (a, b) = (net.site(1), net.site(2));
    let target = b.host_eid(Family::V4);
    assert!(reaches(&a.host, target, PATIENCE));
    measured(
        "a Map-Resolver dies",
        |first: &[usize; 2]| first[0] <= 30 && first[1] <= 6,
        |first| {
            format!("the first reply came to request {} of ten a second, later to {}", first[0], first[1])
        },
        || {
            other.kill();
            routers.clear_map_caches();
            // A tenth of a second apart, so that the first reply tells the gap.
            let at_first = ping(&a.host, target, 40, 0.1, "-t 500");
            // From then on nobody waits for the dead one.
            routers.xtrs[0].clear_map_cache();
            let later = ping(&a.host, target, 10, 0.1, "-t 500");
            other.launch();
            let back = within(PATIENCE, || {
                routers.xtrs[0].clear_map_cache();
                ping(&a.host, target, 2, 0.1, "-t 500");
                routers.xtrs[0].show("resolvers")["resolvers"][0]["state"] == "up"
            });
            assert!(back, "{}", routers.xtrs[0].operator(&["show", "resolvers"]));
            [at_first, later].map(|pings| pings.first_sequence.unwrap_or(usize::MAX))
        },
    );
}

/// Old key → both → new key, while somebody looks ten times a second whether the registration is there.
#[test]
fn a_key_is_changed_without_losing_the_registration() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1], ..Plan::default() });
    let site = net.site(1);
    let (old, new) = ("key = \"old\"\nkey-id = 1\nalgorithm = \"sha1\"\n", "key = \"new\"\nkey-id = 2\n");
    let server = |keys: &[&str]| {
        let mut text = "roles = [\"map-server\", \"map-resolver\"]\n[router]\nstate-dir = \"STATE-DIR\"\n\
                        [timers]\nregistration-timeout = \"3s\"\n[[site]]\nname = \"a\"\n"
            .to_owned();
        let _ = writeln!(text, "eid-prefixes = [\"{}\"]", site.prefix(Family::V4));
        keys.iter().for_each(|key| text.push_str(&format!("[[site.key]]\n{key}")));
        text
    };
    let etr = |key: &str| {
        format!(
            "roles = [\"itr\", \"etr\"]\n[router]\nstate-dir = \"STATE-DIR\"\n[[locator]]\naddress = \"{}\"\n\
             [[eid-prefix]]\nprefix = \"{}\"\n[[map-server]]\naddress = \"{FIRST}\"\n{key}\
             [[map-resolver]]\naddress = \"{FIRST}\"\n\
             [timers]\nregister-interval = \"1s\"\nquick-register-interval = \"1s\"\n",
            site.rloc(Family::V4, 0),
            site.prefix(Family::V4)
        )
    };
    let ms = Router::start(&net, &net.mapping, "mapping", &server(&[old]));
    let xtr = Router::start(&net, &site.xtr, "xtr1", &etr(old));
    until("the registration", PATIENCE, || registered_prefixes(&ms.show("sites")).len() == 1);
    let key_in_use = || {
        let mut id = None;
        visit(&ms.show("sites"), &mut |object| {
            if object.contains_key("registered_by") {
                id = object["key"]["id"].as_u64();
            }
        });
        id
    };
    let first_since = Instant::now();
    // Longer than a registration lives without being refreshed.
    let watch = |what: &str| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            assert!(key_in_use().is_some(), "no registration: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
        key_in_use()
    };
    assert_eq!(watch("old key"), Some(1));
    ms.write_config(net.dir(), &server(&[old, new]));
    ms.reload();
    assert_eq!(watch("both at the Map-Server"), Some(1));
    xtr.write_config(net.dir(), &etr(new));
    xtr.reload();
    assert_eq!(watch("new key at the ETR"), Some(2));
    ms.write_config(net.dir(), &server(&[new]));
    ms.reload();
    assert_eq!(watch("new key alone"), Some(2));
    // The registration is the one from the beginning.
    let mut since = None;
    visit(&ms.show("sites"), &mut |object| since = since.or(object.get("since").and_then(Value::as_u64)));
    assert!(since.is_some_and(|since| since + 3 >= first_since.elapsed().as_secs()), "{since:?}");
    for router in [&ms, &xtr] {
        let drops = dropped(router);
        assert!(!drops.keys().any(|reason| reason.starts_with("auth")), "{}: {drops:?}", router.name);
    }
}

/// Two xTRs that register the same prefix: merged, each hears of the other and acknowledges it, and what is
/// told has the locators of both; not merged, both the Map-Server and the xTR that came first say that they
/// contradict each other.
#[test]
fn two_xtrs_of_a_site_are_merged_or_contradict_each_other() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let shared = "172.30.0.0/24";
    let site = format!(
        "[[site]]\nname = \"shared\"\neid-prefixes = [\"{shared}\"]\nkey = \"shared\"\n[timers]\n\
         notify-retry = \"1s\"\n"
    );
    let mapping = Router::start(&net, &net.mapping, "mapping", &mapping_config(&net, &site));
    let config = |site: &Site, merge: bool| {
        let n = site.number;
        format!(
            "roles = [\"itr\", \"etr\"]\n[router]\nname = \"xtr{n}\"\nstate-dir = \"STATE-DIR\"\n\
             xtr-id = \"{n}\"\n\
             site-id = 5\n[[locator]]\naddress = \"{}\"\n[[eid-prefix]]\nprefix = \"{shared}\"\n\
             [[map-server]]\naddress = \"{FIRST}\"\nkey = \"shared\"\nmerge = {merge}\nuse-ttl = true\n\
             proxy-reply = true\n[[map-resolver]]\naddress = \"{FIRST}\"\n",
            site.rloc(Family::V4, 0)
        )
    };
    let registrations = || {
        let mut found = Vec::new();
        visit(&mapping.show("sites"), &mut |object| {
            if object.contains_key("registered_by") {
                found.push(Value::Object(object.clone()));
            }
        });
        found
    };
    let acknowledged =
        || mapping.show("statistics")["control"]["received"]["map-notify-ack"].as_u64().unwrap_or(0);
    let told = |router: &Router<'_>| {
        let answer = router.operator(&["lig", "172.30.0.9", "--json"]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let locators = answer["mappings"][0]["locators"].as_array().expect("locators").clone();
        locators.iter().map(|l| l["rloc"].as_str().expect("a locator").to_owned()).collect::<Vec<_>>()
    };
    let (a, b) = (net.site(1), net.site(2));
    let first = Router::start(&net, &a.xtr, "xtr1", &config(a, true));
    until("the first one's registration", PATIENCE, || registrations().len() == 1);
    let second = Router::start(&net, &b.xtr, "xtr2", &config(b, true));
    until("both registrations", PATIENCE, || registrations().len() == 2);
    // What waits for long is asked for once more.
    until("the acknowledgement", PATIENCE, || acknowledged() >= 1);
    let both = [a.rloc(Family::V4, 0).to_string(), b.rloc(Family::V4, 0).to_string()];
    assert_eq!(told(&first), both);
    for registration in registrations() {
        // T: as long as the record lives, a day here.
        assert!(registration["expires"].as_u64().is_some_and(|s| s > 80_000), "{registration}");
        assert_eq!((&registration["merge"], &registration["use_ttl"]), (&true.into(), &true.into()));
    }
    assert!(!mapping.log().contains("other locators"), "{}", mapping.log());

    for (router, site) in [(&first, a), (&second, b)] {
        router.write_config(net.dir(), &config(site, false));
        router.reload();
        // Who comes last, and so wins, is the second.
        let rloc = site.rloc(Family::V4, 0).to_string();
        until("a registration that is not to be merged", PATIENCE, || {
            registrations().iter().any(|r| r["registered_by"] == rloc.as_str() && r["merge"] == false)
        });
    }
    let said = |router: &Router<'_>, what: &str| router.log().contains(what);
    until("the Map-Server's warning", PATIENCE, || said(&mapping, "with other locators than"));
    // Whichever of the two did not have the last word.
    let warning = "has other locators for 172.30.0.0/24 than this router registers";
    until("an xTR's warning", PATIENCE, || said(&first, warning) || said(&second, warning));
    assert_eq!(told(&first).len(), 1, "the last one wins");
}

/// Map-Registers that a Map-Server has received.
fn registers_received(router: &Router<'_>) -> u64 {
    router.show("statistics")["control"]["received"]["map-register"].as_u64().expect("a number")
}

/// Nonces of the Map-Registers in a capture, in order.
fn nonces(file: &std::path::Path) -> Vec<u64> {
    payloads(file, "lisp.type == 3")
        .iter()
        .map(|bytes| u64::from_be_bytes(bytes[4..12].try_into().expect("a nonce")))
        .collect()
}

/// The disk remembers nonces that the clock will not reach in this age of the world: as if the clock had been
/// set back by so much since. Then the power fails, again and again.
#[test]
fn nonces_grow_over_power_cuts_with_a_clock_that_was_set_back() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1], ..Plan::default() });
    let site = net.site(1);
    let mapping = Router::start(&net, &net.mapping, "mapping", &mapping_config(&net, ""));
    let mut options = XtrOptions::over(site, Family::V4);
    options.more = "[timers]\nregister-interval = \"1s\"\nquick-register-interval = \"1s\"\n".to_owned();
    let mut xtr = Router::prepare(&net, &site.xtr, "xtr1", &xtr_config(site, &options));
    let before = 1_u64 << 62;
    let mut store = Embedded::open(&net.file("xtr1.state"), 0).expect("a store").store;
    store.commit(&[Change::Put(Record::RegisterNonce { below: before })]).expect("a commit");
    drop(store);

    let capture = Capture::lisp(&net.core, "s1u0", net.file("nonces.pcap"));
    for _ in 0..3 {
        let count = registers_received(&mapping);
        xtr.launch();
        until("some Map-Registers", PATIENCE, || registers_received(&mapping) >= count + 2);
        xtr.kill();
    }
    let nonces = nonces(&capture.stop());
    assert!(nonces.len() >= 6, "{nonces:?}");
    assert!(nonces[0] >= before, "{} is not beyond {before}", nonces[0]);
    assert!(nonces.is_sorted_by(|a, b| a < b), "{nonces:?}");
    assert!(!dropped(&mapping).contains_key("register-replayed"), "{:?}", dropped(&mapping));
}

/// A Map-Register that was recorded is of no use to anybody, even after the Map-Server was killed and started
/// again.
#[test]
fn a_restarted_map_server_knows_a_replay() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1], ..Plan::default() });
    let site = net.site(1);
    let mut routers = Routers::start(&net, Family::V4);
    let capture = Capture::lisp(&net.core, "s1u0", net.file("registers.pcap"));
    let count = registers_received(&routers.mapping);
    routers.xtr(1).kill();
    routers.xtr(1).launch();
    until("a Map-Register", PATIENCE, || registers_received(&routers.mapping) > count);
    routers.xtr(1).kill();
    let recorded = payloads(&capture.stop(), "lisp.type == 3");
    assert!(!recorded.is_empty());
    // The store writes a moment later.
    until("what was recorded to be on the disk", PATIENCE, || {
        let store = routers.mapping.show("statistics")["store"].clone();
        store["waiting"] == 0 && store["written"].as_u64() >= Some(2)
    });
    routers.mapping.kill();
    routers.mapping.launch();
    let restored = routers.mapping.show("statistics")["store"]["restored"].as_u64();
    assert!(restored.is_some_and(|n| n >= 2), "{restored:?}");
    assert!(routers.registered().is_empty(), "nobody has registered since");

    let replay = |from: IpAddr| {
        let socket = site.xtr.run(move || std::net::UdpSocket::bind((from, 0)).expect("a socket"));
        for bytes in &recorded {
            socket.send_to(bytes, (FIRST, 4342)).expect("a datagram");
        }
    };
    replay(site.rloc(Family::V4, 0));
    // And from another address, which would pass for another xTR.
    site.xtr.sh("ip addr add 10.1.0.77/24 dev wan0");
    replay(Ipv4Addr::new(10, 1, 0, 77).into());
    let expected = 2 * recorded.len() as u64;
    until("the replays to be refused", PATIENCE, || {
        dropped(&routers.mapping).get("register-replayed").and_then(Value::as_u64) == Some(expected)
    });
    assert!(routers.registered().is_empty(), "{:?}", routers.registered());
    routers.xtr(1).launch();
    routers.wait_registered(&net);
}

/// A small disk, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, options: &str) -> Self {
        fs::create_dir(&at).expect("mount point");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&at).status();
        assert!(mounted.is_ok_and(|status| status.success()), "mount -t tmpfs");
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Whatever becomes of the state directory, the router runs, registers, and says what it lost.
#[test]
fn without_a_usable_state_directory_the_router_runs_and_says_so() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1], ..Plan::default() });
    let site = net.site(1);
    let mapping = Router::start(&net, &net.mapping, "mapping", &mapping_config(&net, ""));
    let config = |state: &str| {
        xtr_config(site, &XtrOptions::over(site, Family::V4))
            .replace("STATE-DIR", net.file(state).to_str().expect("UTF-8"))
    };
    // A file where the directory should be; a disk without room; one that can't be written; a file that is
    // none.
    fs::write(net.file("a-file"), "").expect("file");
    let full = SmallDisk::mount(net.file("full"), "size=4k");
    let read_only = SmallDisk::mount(net.file("read-only"), "size=64k,ro");
    fs::create_dir(net.file("damaged")).expect("directory");
    fs::write(net.file("damaged").join(FILE), vec![0x5a; 5000]).expect("file");
    for (state, expected, says) in [
        ("a-file", "off", "state is not kept"),
        ("full", "off", "make room on the disk"),
        ("read-only/state", "off", "writable"),
        ("damaged", "working", "set aside as"),
    ] {
        let mut xtr =
            Router::prepare(&net, &site.xtr, &format!("xtr-{}", state.replace('/', "-")), &config(state));
        let count = registers_received(&mapping);
        xtr.launch();
        let shown = xtr.show("statistics")["store"].clone();
        assert_eq!(shown["state"], expected, "{state}: {shown}");
        assert!(xtr.log().contains(says), "{state}:\n{}", xtr.log());
        let table = xtr.operator(&["show", "statistics"]);
        assert!(table.contains("State over a restart"), "{table}");
        until(&format!("a Map-Register with {state}"), PATIENCE, || {
            registers_received(&mapping) > count && registered_prefixes(&mapping.show("sites")).len() == 2
        });
        xtr.stop();
    }
    let set_aside = fs::read_dir(net.file("damaged")).expect("directory");
    let mut names: Vec<_> =
        set_aside.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    // The map-cache's snapshot, which has a file of its own, is written when the router ends.
    assert_eq!(names[..2], ["map-cache.snapshot", FILE]);
    assert!(names.len() == 3 && names[2].contains("unusable"), "{names:?}");
    drop((full, read_only));
}

/// A Map-Resolver that is the root of a DDT, too, and a Map-Server that the root delegated the sites'
/// prefixes to: the routers ask the one and register with the other.
#[test]
fn a_map_resolver_finds_the_map_server_through_the_ddt() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let second_ns = second_mapping_system(&net);
    let root_text = format!(
        "roles = [\"map-resolver\", \"ddt-node\"]\n[router]\nname = \"root\"\nstate-dir = \"STATE-DIR\"\n\
         [ddt]\nroots = [\"{FIRST}\"]\nauthoritative = [\"0.0.0.0/0\", \"::/0\"]\n\
         [[ddt.delegation]]\nprefix = \"172.16.0.0/12\"\nmap-servers = [\"{SECOND}\"]\n\
         [[ddt.delegation]]\nprefix = \"2001:db8:ee::/48\"\nmap-servers = [\"{SECOND}\"]\n"
    );
    let mut server_text =
        "roles = [\"map-server\"]\n[router]\nname = \"server\"\nstate-dir = \"STATE-DIR\"\n".to_owned();
    for site in &net.sites {
        let (n, v4, v6) = (site.number, site.prefix(Family::V4), site.prefix(Family::V6));
        let _ = write!(
            server_text,
            "[[site]]\nname = \"site{n}\"\neid-prefixes = [\"{v4}\", \"{v6}\"]\nkey = \"key-{n}\"\n"
        );
    }
    let root = Router::start(&net, &net.mapping, "root", &root_text);
    let server = Router::start(&net, &second_ns, "server", &server_text);
    let xtrs: Vec<_> = net
        .sites
        .iter()
        .map(|site| {
            let (n, v4, v6) = (site.number, site.prefix(Family::V4), site.prefix(Family::V6));
            let text = format!(
                "roles = [\"itr\", \"etr\"]\n[router]\nname = \"xtr{n}\"\nstate-dir = \"STATE-DIR\"\n\
                 [[locator]]\naddress = \"{}\"\n[[eid-prefix]]\nprefix = \"{v4}\"\n\
                 [[eid-prefix]]\nprefix = \"{v6}\"\n[[map-server]]\naddress = \"{SECOND}\"\n\
                 key = \"key-{n}\"\n\
                 [[map-resolver]]\naddress = \"{FIRST}\"\n",
                site.rloc(Family::V4, 0)
            );
            Router::start(&net, &site.xtr, &format!("xtr{n}"), &text)
        })
        .collect();
    until("the registrations", PATIENCE, || registered_prefixes(&server.show("sites")).len() == 4);
    let (a, b) = (net.site(1), net.site(2));
    for eids in Family::BOTH {
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE), "{eids}");
    }
    // The root told itself whom to ask, and the Map-Server that it had passed the Map-Requests on.
    let count = |router: &Router<'_>, way: &str| {
        router.show("statistics")["control"][way]["map-referral"].as_u64().unwrap_or_default()
    };
    assert!(count(&root, "received") >= 4 && count(&root, "sent") >= 2, "{}", root.show("statistics"));
    assert!(count(&server, "sent") >= 2, "{}", server.show("statistics"));
    // What nobody has is known not to exist, up to what somebody has.
    let nobody = xtrs[0].operator(&["lig", "172.48.0.1"]);
    assert!(nobody.contains("172.32.0.0/11"), "{nobody}");
    for router in [&root, &server] {
        assert!(dropped(router).is_empty(), "{}: {:?}", router.name, dropped(router));
    }
    ddt_is_shown(&root, &server);
}

/// What each of the two has to do with the DDT, after some searches.
fn ddt_is_shown(root: &Router<'_>, server: &Router<'_>) {
    let shown = root.show("ddt");
    assert_eq!(shown["node"]["authoritative"][0]["net"], "0.0.0.0/0", "{shown}");
    let delegation = &shown["node"]["delegations"][0];
    assert_eq!(
        (&delegation["kind"], &delegation["to"][0]),
        (&"map-servers".into(), &SECOND.into()),
        "{shown}"
    );
    let count = |counts: &Value, what: &str| counts[what].as_u64().expect("a count");
    assert!(
        count(&shown["sent"], "ms-referral") >= 2 && count(&shown["sent"], "delegation-hole") >= 1,
        "{shown}"
    );
    let resolver = &shown["resolver"];
    assert_eq!((&resolver["roots"][0]["host"], &resolver["pending"]), (&FIRST.into(), &0.into()), "{shown}");
    assert!(count(&resolver["received"], "ms-ack") >= 2, "{shown}");
    let cache = resolver["cache"].as_array().expect("a list");
    let sites = cache.iter().find(|r| r["prefix"]["net"] == "172.16.0.0/12").expect("what was delegated");
    let ttl = sites["ttl"].as_u64().expect("seconds");
    assert!(sites["kind"] == "map-servers" && (80_000..=86_400).contains(&ttl), "{shown}");
    let hole = cache.iter().find(|r| r["kind"] == "nobody").expect("what nobody has");
    assert!(hole["ttl"].as_u64().is_some_and(|ttl| ttl <= 900), "{shown}");
    let text = root.operator(&["show", "ddt"]);
    assert!(text.contains("DDT node, authoritative for 0.0.0.0/0, ::/0"), "{text}");
    assert!(text.contains("172.16.0.0/12") && text.contains("Searches begin at"), "{text}");

    let shown = server.show("ddt");
    assert!(shown["node"].is_null() && shown["resolver"].is_null(), "{shown}");
    assert!(count(&shown["sent"], "ms-ack") >= 2, "{shown}");
}

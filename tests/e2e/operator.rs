//! What an operator does, and gets wrong.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::router::{Router, Routers, XtrOptions, eidolon, mapping_config, visit, xtr_config};
use crate::topology::{Family, Network, Plan};
use crate::traffic::{ping, reaches};
use crate::wait::{Machine, PATIENCE, until, within};

/// One clear sentence (or a few lines of the form that `check` prints) and exit code 1, not a panic or a
/// debug dump.
fn expect_error(output: &Output, says: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in says {
        assert!(text.to_lowercase().contains(&part.to_lowercase()), "{part:?} is not said:\n{text}");
    }
    assert!(!text.contains("panicked") && !text.contains("Os {"), "{text}");
}

/// Runs a router that is expected to end by itself at once.
fn run_and_fail(router: &Router<'_>, before: &str) -> Output {
    let line = format!("timeout -k 1 60 {before} {} run -c {}", eidolon(), router.config_file().display());
    router.ns.try_sh(&line)
}

#[test]
fn a_bad_configuration_touches_nothing() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let site = net.site(1);
    let before = site.xtr.kernel_state();
    let good = xtr_config(site, &XtrOptions::over(site, Family::V4));
    let bad = good.replace("priority = 1", "priority = 256").replace("weight = 100", "wieght = 100");
    let router = Router::prepare(&net, &site.xtr, "xtr1", &bad);
    let output = run_and_fail(&router, "");
    // Both problems, where they stand, not just the first.
    expect_error(&output, &["xtr1.toml", "priority", "wieght"]);
    site.xtr.expect_state(&before, "what the router left behind");

    let checked = Command::new(eidolon()).arg("check").arg(router.config_file()).output().expect("eidolon");
    let said =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("priority") && said.contains("wieght"), "{said}");

    let missing = Command::new(eidolon()).args(["check", "/nowhere/eidolon.toml"]).output().expect("eidolon");
    expect_error(&missing, &["/nowhere/eidolon.toml"]);
    let usage = Command::new(eidolon()).arg("--no-such-option").output().expect("eidolon");
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn every_example_configuration_is_valid() {
    let _machine = Machine::shared();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut seen = 0;
    for dir in [configs.clone(), configs.join("demo")] {
        for entry in fs::read_dir(&dir).expect("configs") {
            let path = entry.expect("entry").path();
            if path.extension().is_none_or(|e| e != "toml") {
                continue;
            }
            seen += 1;
            // The reference has a key in a file that only a real site would have.
            let text = fs::read_to_string(&path).expect("configuration");
            if text.contains("key-file") {
                continue;
            }
            let output = Command::new(eidolon()).arg("check").arg(&path).output().expect("eidolon");
            assert!(
                output.status.success(),
                "{}: {}",
                path.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    assert!(seen >= 4, "{seen} configurations under configs/");
}

#[test]
fn the_examples_of_the_readme_are_valid() {
    let _machine = Machine::shared();
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    // Those that are whole; others show a section.
    let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let examples: Vec<_> = blocks.filter(|block| block.contains("roles = ")).collect();
    assert!(examples.len() >= 2, "{examples:?}");
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::write(dir.path().join("eidolon.key"), "a secret\n").expect("key");
    for example in examples {
        let file = dir.path().join("eidolon.toml");
        fs::write(&file, example.replace("/etc/eidolon.key", "eidolon.key")).expect("configuration");
        let output = Command::new(eidolon()).arg("check").arg(&file).output().expect("eidolon");
        assert!(output.status.success(), "{example}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_taken_port_is_one_sentence() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let site = net.site(1);
    let before = site.xtr.kernel_state();
    let router =
        Router::prepare(&net, &site.xtr, "xtr1", &xtr_config(site, &XtrOptions::over(site, Family::V4)));
    for port in [4342, 4341] {
        let _taken: Vec<_> = site.xtr.run(|| {
            ["0.0.0.0", "[::]"]
                .iter()
                .filter_map(|any| std::net::UdpSocket::bind(format!("{any}:{port}")).ok())
                .collect()
        });
        let output = run_and_fail(&router, "");
        expect_error(&output, &[&port.to_string()]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("is taken by") || text.contains("another process has the port"), "{text}");
        site.xtr.expect_state(&before, "after the failed start");
    }
}

#[test]
fn a_missing_privilege_is_one_sentence() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let site = net.site(1);
    let router =
        Router::prepare(&net, &site.xtr, "xtr1", &xtr_config(site, &XtrOptions::over(site, Family::V4)));
    // Somebody who may read the configuration and write to the directory, but not change the network.
    let binary = net.file("eidolon");
    fs::copy(eidolon(), &binary).expect("copy of the binary");
    let dir = net.dir().display();
    let output = net.site(1).xtr.try_sh(&format!(
        "chmod 777 {dir} && timeout -k 1 60 setpriv --reuid 65534 --regid 65534 --clear-groups \
         --inh-caps=-all {} run -c {}",
        binary.display(),
        router.config_file().display()
    ));
    expect_error(&output, &["CAP_NET_ADMIN"]);
}

#[test]
fn a_missing_tun_device_is_one_sentence() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let site = net.site(1);
    let router =
        Router::prepare(&net, &site.xtr, "xtr1", &xtr_config(site, &XtrOptions::over(site, Family::V4)));
    let before = site.xtr.kernel_state();
    let output = site.xtr.try_sh(&format!(
        "timeout -k 1 60 unshare -m sh -c 'mount -t tmpfs none /dev/net && exec {} run -c {}'",
        eidolon(),
        router.config_file().display()
    ));
    expect_error(&output, &["/dev/net/tun"]);
    site.xtr.expect_state(&before, "what the router left behind");
}

/// An uplink that disappears is survived, and used again when it is back.
#[test]
fn an_interface_may_go_and_come_back() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1, 2], ..Plan::default() });
    let by_interface = |site: &crate::topology::Site| {
        let mut options = XtrOptions::over(site, Family::V4);
        if site.number == 2 {
            options.locators.clear();
            options.more = "[[locator]]\ninterface = \"wan1\"\nfamily = \"ipv4\"\n".to_owned();
        }
        options
    };
    let mut routers = Routers::start_with(&net, by_interface, "");
    let (a, b) = (net.site(1), net.site(2));
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));

    b.xtr.sh("ip addr del 10.2.1.2/24 dev wan1");
    std::thread::sleep(Duration::from_secs(1));
    assert!(routers.xtr(2).running(), "xTR 2 ended with its address:\n{}", routers.xtr(2).log());
    // Another address on the same interface: registered, and found by a lookup.
    b.xtr.sh("ip addr add 10.2.1.77/24 dev wan1 && ip route replace default via 10.2.1.1 table 101 && \
              ip rule add from 10.2.1.77 lookup 101");
    let found = within(PATIENCE, || {
        routers.xtrs[0].operator(&["lig", &b.host_eid(Family::V4).to_string()]).contains("10.2.1.77")
    });
    assert!(found, "the new address was never registered:\n{}", routers.xtr(2).log());
    routers.clear_map_caches();
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE), "to the new address");

    b.xtr.sh("ip link del wan1");
    std::thread::sleep(Duration::from_secs(1));
    assert!(routers.xtr(2).running(), "xTR 2 ended with its interface:\n{}", routers.xtr(2).log());
}

#[test]
fn a_reload_changes_what_changed() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let mut routers = Routers::start(&net, Family::V4);
    let (a, b) = (net.site(1), net.site(2));
    let target = b.host_eid(Family::V4);
    assert!(reaches(&a.host, target, PATIENCE));
    let pid = routers.xtr(1).pid();

    // A bad file changes nothing, by command or by signal.
    let good = XtrOptions::over(a, Family::V4);
    let broken = xtr_config(a, &good).replace("priority = 1", "priority = 1000");
    routers.xtrs[0].write_config(net.dir(), &broken);
    let refused = routers.xtrs[0].control(&["reload"]);
    expect_error(&refused, &["priority"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.trim_end().ends_with("not reloaded: the old configuration holds"), "{said}");
    routers.xtr(1).process().signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(500));
    assert!(routers.xtr(1).running(), "{}", routers.xtr(1).log());
    assert!(reaches(&a.host, target, PATIENCE));

    // A new EID-prefix is registered, traffic of the others goes on without a loss meanwhile.
    let more = "[[eid-prefix]]\nprefix = \"192.0.2.0/24\"\n";
    let mapping = mapping_config(&net, "");
    let first = format!("\"{}\"", a.prefix(Family::V6));
    assert!(mapping.contains(&first));
    routers
        .mapping
        .write_config(net.dir(), &mapping.replacen(&first, &format!("{first}, \"192.0.2.0/24\""), 1));
    routers.mapping.process().signal(Signal::SIGHUP);
    let mut extended = good.clone();
    extended.more = more.to_owned();
    let seen = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| ping(&a.host, target, 300, 0.01, ""));
        std::thread::sleep(Duration::from_millis(500));
        routers.xtrs[0].write_config(net.dir(), &xtr_config(a, &extended));
        routers.xtrs[0].reload();
        pinging.join().expect("ping")
    });
    assert_eq!(seen.lost(), 0, "during the reload:\n{}", seen.output);
    until("the new prefix's registration", PATIENCE, || {
        routers.registered().contains(&"192.0.2.0/24".to_owned())
    });
    assert_eq!(routers.registered().len(), 5, "the others stay: {:?}", routers.registered());
    assert_eq!(routers.xtr(1).pid(), pid);
}

#[test]
fn an_operator_sees_and_asks() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    let routers = Routers::start(&net, Family::V4);
    let (a, b) = (net.site(1), net.site(2));
    let target = b.host_eid(Family::V4);
    let rloc = b.rloc(Family::V4, 0).to_string();

    // lig asks without leaving anything in the map-cache that traffic did not put there.
    let lig = routers.xtrs[0].operator(&["lig", &target.to_string()]);
    assert!(lig.contains(&b.prefix(Family::V4)) && lig.contains(&rloc), "{lig}");
    let nobody = routers.xtrs[0].operator(&["lig", "198.51.100.1"]);
    assert!(nobody.to_lowercase().contains("natively"), "{nobody}");

    assert!(reaches(&a.host, target, PATIENCE));
    let has = |cache: &Value| {
        let mut found = false;
        visit(cache, &mut |o| found |= o.get("rloc").and_then(Value::as_str) == Some(rloc.as_str()));
        found
    };
    assert!(has(&routers.xtrs[0].show("map-cache")));
    let table = routers.xtrs[0].operator(&["show", "map-cache"]);
    assert!(table.contains(&b.prefix(Family::V4)) && table.contains(&rloc), "{table}");
    routers.clear_map_caches();
    assert!(!has(&routers.xtrs[0].show("map-cache")), "after clear map-cache");

    for what in ["map-cache", "database", "statistics", "interfaces", "pending"] {
        routers.xtrs[0].show(what);
        assert!(!routers.xtrs[0].operator(&["show", what]).trim().is_empty(), "show {what}");
    }
    let sites = routers.mapping.operator(&["show", "sites"]);
    assert!(sites.contains(&b.prefix(Family::V6)), "{sites}");
    // Of a role that it hasn't, a router has nothing to show.
    expect_error(&routers.xtrs[0].control(&["show", "sites"]), &["no Map-Server role"]);
    let refused = routers.mapping.control(&["show", "map-cache", "--json"]);
    let said: Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!(
        (refused.status.code(), said["error"].as_str()),
        (Some(1), Some("this router has no ITR role"))
    );
    // What commands change is told from what is configured.
    let own = a.rloc(Family::V4, 0).to_string();
    routers.xtrs[0].operator(&["set", "locator", &own, "weight", "7"]);
    routers.xtrs[0].operator(&["set", "locator", &own, "down"]);
    let shown = routers.xtrs[0].show("locators");
    let shown = shown["own"].as_array().expect("a list").iter().find(|l| l["rloc"] == own.as_str()).cloned();
    let shown = shown.expect("the locator");
    assert_eq!(
        (&shown["up"], &shown["override"]["weight"]),
        (&Value::Bool(false), &Value::from(7)),
        "{shown}"
    );
    let table = routers.xtrs[0].operator(&["show", "locators"]);
    assert!(table.contains("down (by command) *"), "{table}");
    let table = routers.xtrs[0].operator(&["show", "database"]);
    assert!(table.contains("/7*") && table.contains("unreachable*"), "{table}");
    routers.xtrs[0].operator(&["set", "locator", &own, "default"]);
    assert!(!routers.xtrs[0].operator(&["show", "database"]).contains('*'));
    // Keys are never shown.
    for text in
        [sites, routers.mapping.show("sites").to_string(), routers.mapping.log(), routers.xtrs[0].log()]
    {
        assert!(!text.contains("key-of-site"), "{text}");
    }

    let nobody_there =
        Command::new(eidolon()).args(["show", "map-cache", "--socket", "/nowhere.sock"]).output();
    expect_error(&nobody_there.expect("eidolon"), &["/nowhere.sock"]);
}

//! The control plane on its own, and `scripts/external-dataplane` as the data plane that it tells what to do.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::judge::Judge;
use crate::netns::Process;
use crate::router::{Router, Routers, XtrOptions, mapping_config, xtr_config};
use crate::topology::{Family, Network, Plan, Site};
use crate::traffic::{Stream, ping, reaches, tcp_transfer};
use crate::wait::{Machine, PATIENCE, until};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/external-dataplane")
}

/// Starts the data plane of site 1, and waits until it knows everything.
fn start_data_plane(net: &Network, socket: &Path, log: &str) -> Process {
    let (script, socket) = (script(), socket.to_str().expect("UTF-8"));
    let script = script.to_str().expect("UTF-8");
    let command = ["python3", "-B", script, "--socket", socket, "--report", "0.5"];
    let mut process = net.site(1).xtr.spawn(&net.file(log), &command);
    process.wait_for("synced:", PATIENCE);
    process
}

#[test]
fn another_program_moves_the_packets() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan::default());
    // That data plane takes one packet at a time.
    net.real_packets();
    let socket = net.file("data-plane.sock");
    let more = format!(
        "[data-plane]\nmode = \"external\"\n[data-plane.external]\nsocket = {:?}\nuser-id = 65534\n",
        socket.to_str().expect("UTF-8")
    );
    let (a, b) = (net.site(1), net.site(2));
    let before = a.xtr.kernel_state();
    let mut routers = Routers::start_with(
        &net,
        |site| XtrOptions {
            more: if site.number == 1 { more.clone() } else { String::new() },
            ..XtrOptions::over(site, Family::V4)
        },
        "",
    );

    let made = std::fs::metadata(&socket).expect("the socket");
    assert_eq!((made.uid(), made.mode() & 0o777), (65534, 0o600));
    // The control plane alone registers and answers, and leaves the kernel as it is: no packet passes.
    a.xtr.expect_state(&before, "what the router left behind");
    assert!(routers.xtrs[0].operator(&["show", "interfaces"]).contains("no program is connected"));
    assert_eq!(ping(&a.host, b.host_eid(Family::V4), 2, 0.1, "-t 1000").received, 0);
    assert!(routers.xtrs[0].operator(&["lig", "172.16.2.2"]).contains("172.16.2.0/24"));

    let mut process = start_data_plane(&net, &socket, "data-plane.log");
    for eids in Family::BOTH {
        // Misses, resolution, entries; both ways.
        assert!(reaches(&a.host, b.host_eid(eids), PATIENCE), "{eids}:\n{}", process.log());
        for (from, to) in [(a, b), (b, a)] {
            let seen = ping(&from.host, to.host_eid(eids), 20, 0.01, "");
            assert_eq!(seen.lost(), 0, "{eids}:\n{}\n{}", seen.output, process.log());
        }
        let (sent, received) = tcp_transfer(&a.host, &b.host, b.host_eid(eids), 1_000_000);
        assert_eq!(sent, received, "SHA-256 of 1 MB, {eids}");
    }

    // What it reports of use is counted as if it were our own, at entry and locator.
    let xtr = &routers.xtrs[0];
    until("reports of use", PATIENCE, || {
        let cache = xtr.show("map-cache");
        let entries = cache["entries"].as_array().expect("entries");
        let used = |e: &&serde_json::Value| {
            e["packets"].as_u64() > Some(500) && e["locators"][0]["packets"].as_u64() > Some(500)
        };
        entries.iter().filter(used).count() == 2
    });
    let external = xtr.show("interfaces")["external"].clone();
    assert_eq!(external["clients"][0]["synced"], true, "{external}");
    assert_eq!((&external["clients"][0]["errors"], &external["clients"][0]["uid"]), (&0.into(), &0.into()));
    assert!(external["clients"][0]["received"].as_u64() > Some(2), "{external}");

    // What the control plane forgets, its data plane does: the next packet is a miss again.
    let requests = |xtr: &Router<'_>| {
        xtr.show("statistics")["control"]["sent"]["encapsulated-control-message"].as_u64().expect("a number")
    };
    let asked = requests(xtr);
    xtr.clear_map_cache();
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE));
    assert_eq!(requests(xtr), asked + 1);

    // A data plane that dies takes its traffic along; the next one is told everything, and asks for nothing.
    process.signal(Signal::SIGKILL);
    process.wait(PATIENCE);
    until("the end of the connection", PATIENCE, || {
        xtr.show("interfaces")["external"]["clients"].as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!(ping(&a.host, b.host_eid(Family::V4), 2, 0.1, "-t 1000").received, 0);
    // What it left behind in the kernel is its own affair; here the test cleans up.
    a.xtr.sh("for f in -4 -6; do while ip $f rule del priority 4341 2>&-; do :; done; while ip $f rule del \
              priority 4342 2>&-; do :; done; done");
    let asked = requests(xtr);
    let mut process = start_data_plane(&net, &socket, "data-plane-2.log");
    let seen = ping(&a.host, b.host_eid(Family::V4), 10, 0.01, "");
    assert_eq!(seen.lost(), 0, "{}", seen.output);
    assert_eq!(requests(xtr), asked);

    // A router that starts again finds its data plane by itself.
    routers.xtrs[0].stop();
    assert_eq!(ping(&a.host, b.host_eid(Family::V4), 2, 0.1, "-t 1000").received, 0);
    routers.xtrs[0].launch();
    assert!(reaches(&a.host, b.host_eid(Family::V4), PATIENCE), "{}", process.log());

    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait(PATIENCE), Some(0), "{}", process.log());
    routers.xtrs[0].stop();
    assert!(!socket.exists(), "the socket goes with the router");
    a.xtr.expect_state(&before, "what the router left behind");
}

/// Who only sends to the site is told of its changes too, as the other program says whom it hears.
#[test]
fn who_sends_to_another_programs_site_hears_of_its_changes() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![2, 1], ..Plan::default() });
    net.real_packets();
    let socket = net.file("data-plane.sock");
    let (a, b) = (net.site(1), net.site(2));
    let mode = format!(
        "[data-plane]\nmode = \"external\"\n[data-plane.external]\nsocket = {:?}\n",
        socket.to_str().expect("UTF-8")
    );
    // Nothing but data packets comes from site 2: the Map-Server answers for site 1, and nobody probes.
    let options = |site: &Site, uplink: usize| {
        let mut options = XtrOptions::over(site, Family::V4);
        options.locators[0].address = site.rloc(Family::V4, if site.number == 1 { uplink } else { 0 });
        options.map_server = "proxy-reply = true".to_owned();
        options.more = "[probing]\nenabled = false\n".to_owned();
        if site.number == 1 {
            options.more += &mode;
        }
        options
    };
    let routers = Routers::start_with(&net, |site| options(site, 0), "");
    let process = start_data_plane(&net, &socket, "data-plane.log");
    let stream = Stream::start(&b.host, &a.host, a.host_eid(Family::V4));
    let judge = Judge::of(&net, 1);
    judge.wait_for(0);
    assert!(routers.xtrs[0].show("map-cache")["entries"].as_array().is_some_and(Vec::is_empty));
    // Another locator, by a reload.
    routers.xtrs[0].write_config(net.dir(), &xtr_config(a, &options(a, 1)));
    assert!(routers.xtrs[0].control(&["reload"]).status.success());
    judge.wait_for(1);
    let streamed = stream.finish();
    assert!(streamed.received > 100, "{streamed:?}\n{}", process.log());
}

/// Switched off, there is no socket to connect to.
#[test]
fn a_router_that_forwards_itself_has_no_data_plane_socket() {
    let _machine = Machine::shared();
    let net = Network::build(&Plan { uplinks: vec![1], ..Plan::default() });
    let _mapping = Router::start(&net, &net.mapping, "mapping", &mapping_config(&net, ""));
    let (a, socket) = (net.site(1), net.file("data-plane.sock"));
    let text = socket.to_str().expect("UTF-8").to_owned();
    let options = |mode: &str| {
        let more = format!("[data-plane]\nmode = \"{mode}\"\n[data-plane.external]\nsocket = {text:?}\n");
        xtr_config(a, &XtrOptions { more, ..XtrOptions::over(a, Family::V4) })
    };
    let router = Router::start(&net, &a.xtr, "xtr1", &options("internal"));
    assert!(!socket.exists());
    let script = script();
    let command = ["python3", "-B", script.to_str().expect("UTF-8"), "--socket", &text, "--tun", "other0"];
    // The port of data packets is the router's.
    let mut process = a.xtr.spawn(&net.file("data-plane.log"), &command);
    assert_eq!(process.wait(PATIENCE), Some(1));
    assert!(process.log().contains("Address already in use"), "{}", process.log());
    // And it is not exchanged while the router runs.
    router.write_config(net.dir(), &options("external"));
    let refused = router.control(&["reload"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("[data-plane] can't be changed while the router runs"), "{said}");
}

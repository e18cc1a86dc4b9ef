//! Small networks whose outcome can be computed by hand, faults, and runs that repeat.

use std::path::Path;

use super::*;

/// A core router and a mapping system.
pub(super) const CORE: &str = r#"[[core]]
name = "core"
[[mapping-system]]
name = "ms"
addresses = ["192.0.2.1"]
"#;

/// The site `name`, which has 10.`number`.0.0/16, one router and one host.
pub(super) fn site(name: &str, number: u8) -> String {
    format!(
        r#"[[site]]
name = "{name}"
key = "{name}"
eid-prefixes = ["10.{number}.0.0/16"]
[[xtr]]
name = "x{name}"
site = "{name}"
rlocs = ["192.0.2.1{number}"]
[[host]]
name = "h{name}"
site = "{name}"
addresses = ["10.{number}.0.1/32"]
"#
    )
}

/// Two sites and a mapping system on one core router; `rest` adds traffic and faults.
fn two_sites(duration: &str, rest: &str) -> Scenario {
    let (a, b) = (site("a", 1), site("b", 2));
    let text = format!(
        r#"
        [simulation]
        duration = "{duration}"
        {rest}
        {CORE}{a}{b}
        [[link]]
        between = ["ms", "core"]
        delay = "10ms"
        [[link]]
        between = ["xa", "core"]
        delay = "10ms"
        [[link]]
        between = ["xb", "core"]
        delay = "10ms"
        [[link]]
        between = ["ha", "xa"]
        [[link]]
        between = ["hb", "xb"]
        "#
    );
    Scenario::parse(Path::new("test.toml"), &text).unwrap_or_else(|report| panic!("{report}"))
}

/// A ping a second from `ha` to `hb`, from 10 s on.
const PING: &str = r#"
    [[traffic]]
    kind = "ping"
    from = ["ha"]
    to = ["10.2.0.1"]
    start = "10s"
    interval = "1s"
"#;

/// The same as UDP at 100 packets a second.
const STREAM: &str = r#"
    [[traffic]]
    kind = "udp"
    from = ["ha"]
    to = ["10.2.0.1"]
    start = "10s"
    interval = "10ms"
"#;

#[derive(Default)]
struct Lines(Vec<String>);

impl Observer for Lines {
    fn wants_log(&self) -> bool {
        true
    }

    fn log(&mut self, entry: &Entry<'_>) {
        self.0.push(entry.to_string());
    }
}

fn logged(scenario: &Scenario, seed: u64) -> (Study, Vec<String>) {
    let mut lines = Lines::default();
    (run(scenario, seed, 1, &mut lines), lines.0)
}

fn only(study: &Study) -> &RunResult {
    assert_eq!((study.cases.len(), study.cases[0].runs.len()), (1, 1));
    &study.cases[0].runs[0]
}

fn figure(study: &Study, group: &str, name: &str) -> u64 {
    only(study).groups[group].get(name).copied().unwrap_or_default()
}

#[test]
fn the_first_packet_is_lost_and_the_others_arrive() {
    // Packets at 10, 11 … 19 s.
    let study = run(&two_sites("19500ms", PING), 1, 1, &mut ());
    let get = |group, name| figure(&study, group, name);
    assert_eq!((get("ha", "pings-sent"), get("ha", "pings-answered"), get("ha", "sent")), (10, 8, 10));
    // The first echo request finds no mapping here, the first reply none there.
    assert_eq!(
        (get("xa", "from-site"), get("xa", "itr-dropped/no-mapping"), get("xa", "encapsulated")),
        (10, 1, 9)
    );
    assert_eq!(
        (get("xb", "from-site"), get("xb", "itr-dropped/no-mapping"), get("xb", "encapsulated")),
        (9, 1, 8)
    );
    assert_eq!((get("xa", "itr-dropped"), get("xb", "itr-dropped")), (1, 1));
    assert_eq!((get("xb", "decapsulated"), get("xa", "decapsulated")), (9, 8));
    assert_eq!((get("hb", "received"), get("ha", "received")), (9, 8));
    assert_eq!((get("xa", "map-cache-largest"), get("xa", "miss-rate-ppm")), (1, 100_000));
    // Each asks once; what is asked at the Map-Resolver is forwarded to the ETR, which answers.
    for router in ["xa", "xb"] {
        assert_eq!(get(router, "control-sent/map-request-encapsulated"), 1);
        assert_eq!(
            (get(router, "control-sent/map-reply"), get(router, "control-received/map-reply")),
            (1, 1)
        );
    }
    // Registered at 0 s, and confirmed.
    assert_eq!(get("ms", "control-received/map-register"), 2);
    assert_eq!((get("ms", "control-sent/map-notify"), get("ms", "lost")), (2, 0));
}

#[test]
fn times_are_those_of_links_and_distances() {
    let (_, lines) = logged(&two_sites("12s", PING), 1);
    let find =
        |what: &str| lines.iter().filter(|line| line.contains(what)).map(String::as_str).collect::<Vec<_>>();
    // 84 bytes and 38 of framing at 100 Mbit/s take 9.76 µs, and 1 µs is propagation.
    assert_eq!(find("\txa\titr-dropped\t")[0], "10.000010760\txa\titr-dropped\tdata\t84\t1");
    // The same, then 84 + 36 + 38 bytes take 12.64 µs and 10 ms on each of two links.
    assert_eq!(find("\txb\tdecapsulated\t")[0], "11.020036040\txb\tdecapsulated\tdata\t120\t1");
    assert_eq!(find("\thb\tdelivered\t")[0], "11.020046800\thb\tdelivered\tdata\t84\t1");
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let noise = r#"
        [[fault]]
        crash = "xa"
        from = "12s"
        until = "14s"
    "#;
    let mut scenario = two_sites("20s", &format!("{STREAM}{noise}"));
    for link in &mut scenario.links {
        link.profile.loss = Share(Share::ALL / 20);
        link.profile.duplicate = Share(Share::ALL / 50);
        link.profile.reorder = Share(Share::ALL / 50);
    }
    let (first, lines) = logged(&scenario, 7);
    let (again, repeated) = logged(&scenario, 7);
    assert!(lines.len() > 2000 && lines == repeated);
    assert_eq!(only(&first), only(&again));
    let silent = run(&scenario, 7, 1, &mut ());
    assert_eq!(only(&first), only(&silent), "who looks on changes nothing");
    let (other, different) = logged(&scenario, 8);
    assert!(lines != different && only(&other).fingerprint != only(&first).fingerprint);
}

#[test]
fn links_lose_duplicate_and_hold_up_packets() {
    // 2000 packets over four links, of which only that to the host is bad.
    let mut scenario = two_sites("31s", STREAM);
    scenario.traffic[0].stop = Some(std::time::Duration::from_secs(30));
    let last = scenario.links.len() - 1;
    scenario.links[last].profile.loss = Share(Share::ALL / 10);
    let study = run(&scenario, 1, 1, &mut ());
    let lost = figure(&study, "xb", "lost/link-loss");
    assert!((150..250).contains(&lost), "{lost}");
    let unresolved = figure(&study, "xa", "itr-dropped");
    assert_eq!(figure(&study, "ha", "datagrams-lost"), lost + unresolved);

    scenario.links[last].profile.loss = Share(0);
    scenario.links[last].profile.duplicate = Share(Share::ALL / 10);
    let study = run(&scenario, 1, 1, &mut ());
    let (sent, got) = (figure(&study, "ha", "datagrams-sent"), figure(&study, "hb", "received"));
    assert!((2100..2250).contains(&got) && sent == 2000, "{got} of {sent}");
}

#[test]
fn a_queue_that_is_full_drops() {
    // 1000 bytes of payload every 10 ms are over 800 kbit/s.
    let mut scenario = two_sites("20s", STREAM);
    scenario.traffic[0].size = 1000;
    let last = scenario.links.len() - 1;
    scenario.links[last].profile.bandwidth = Some(430_000);
    scenario.links[last].profile.queue = 5000;
    let study = run(&scenario, 1, 1, &mut ());
    // 1028 bytes and framing 50 times a second are 426 kbit/s: every second packet gets through.
    let (full, got) = (figure(&study, "xb", "lost/queue-full"), figure(&study, "hb", "received"));
    assert!((480..520).contains(&full) && (480..520).contains(&got), "{full} lost, {got} received");
}

#[test]
fn a_cut_link_stops_traffic_until_it_is_back() {
    let fault = r#"
        [[fault]]
        cut = ["xb", "core"]
        from = "14500ms"
        until = "16500ms"
    "#;
    let study = run(&two_sites("19500ms", &format!("{STREAM}{fault}")), 1, 1, &mut ());
    // 200 packets found the link cut; those on it at that moment were lost at its other end, as was a control
    // message.
    let lost = figure(&study, "core", "lost/link-cut") + figure(&study, "xb", "lost/link-cut");
    assert!((200..=204).contains(&lost), "{lost}");
    let gap = figure(&study, "ha", "longest-gap-ms");
    assert!((2000..2050).contains(&gap), "{gap}");
}

#[test]
fn a_router_that_crashed_starts_with_nothing_and_registers_anew() {
    let fault = r#"
        [[fault]]
        crash = "xa"
        from = "14500ms"
        until = "16500ms"
    "#;
    let study = run(&two_sites("19500ms", &format!("{PING}{fault}")), 1, 1, &mut ());
    assert_eq!(figure(&study, "xa", "crashes"), 1);
    // At 15 and 16 s nobody is there; at 10 and 17 s there is no mapping.
    assert_eq!(figure(&study, "xa", "lost/node-down"), 2);
    assert_eq!(figure(&study, "xa", "itr-dropped/no-mapping"), 2);
    assert_eq!(figure(&study, "xa", "encapsulated"), 6, "of both lives");
    assert_eq!(figure(&study, "xa", "control-sent/map-request-encapsulated"), 2);
    assert!(figure(&study, "ms", "control-received/map-register") >= 3);
}

#[test]
fn a_second_gateway_takes_over_as_vrrp_has_it() {
    let text = std::fs::read_to_string("configs/sim/failover.toml").unwrap();
    let scenario = Scenario::parse(Path::new("failover.toml"), &text).unwrap_or_else(|r| panic!("{r}"));
    let mut lines = Lines::default();
    let mut scenario = scenario;
    scenario.cases.truncate(3);
    let study = run(&scenario, 1, 2, &mut lines);
    let names: Vec<_> = study.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["none 1", "none 2", "none 3"]);
    let took: Vec<_> = lines.0.iter().filter(|l| l.contains("became-master")).map(String::as_str).collect();
    // At an interval of 1 s, priority 150 waits 3 + 106 / 256 s for a master, priority 100 3 + 156 / 256 s.
    // The last advertisement before the fault at 119 s comes at 118.414 s.
    let first = [
        "3.414062500\txTR1\tbecame-master\tvrrp\t0",
        "122.023",
        "238.414062500\txTR1\tbecame-master\tvrrp\t0",
    ];
    for (line, expected) in took.iter().zip([first, first].concat()) {
        assert!(line.starts_with(expected), "{line}: {expected}");
    }
    assert_eq!(took.len(), 2 * (3 + 5 + 7));
    for case in &study.cases {
        for run in &case.runs {
            let get = |group: &str, name: &str| run.groups[group].get(name).copied().unwrap_or_default();
            // Each of the twenty applications needs a mapping at every router that comes new to it, and
            // several may share one. That is all that is lost at the ITRs.
            let (one, two) = (get("xTR1", "itr-dropped"), get("xTR2", "itr-dropped"));
            assert_eq!(one, get("xTR1", "itr-dropped/no-mapping"));
            assert_eq!(two, get("xTR2", "itr-dropped/no-mapping"));
            assert!((10..=60).contains(&one) && (5..=60).contains(&two), "{one}, {two}");
            assert!(get("xTR2", "map-cache-largest") <= 20 && get("xTR1", "map-cache-largest") <= 20);
        }
    }
}

#[test]
fn every_scenario_that_comes_with_the_program_can_be_read_and_begun() {
    let mut seen = 0;
    for file in std::fs::read_dir("configs/sim").unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let mut scenario = Scenario::load(&path).unwrap_or_else(|report| panic!("{report}"));
        scenario.duration = scenario.duration.min(std::time::Duration::from_secs(32));
        scenario.cases.truncate(1);
        let study = run(&scenario, 1, 1, &mut ());
        let run = only(&study);
        let mut servers = run.groups.iter().filter(|(name, _)| name.starts_with("MS"));
        let notifies = |figures: &Figures| figures["control-sent/map-notify"] > 0;
        assert!(run.events > 10 && servers.all(|(_, f)| notifies(f)), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn churn_crashes_routers_at_its_pace_and_has_them_back() {
    let text = r#"
        [simulation]
        duration = "65s"
        [[core]]
        name = "core"
        [[mapping-system]]
        name = "ms"
        addresses = ["192.0.2.1"]
        [[link]]
        between = ["ms", "core"]
        [[fleet]]
        name = "f"
        sites = 20
        attach = "core"
        eid-prefixes = "10.0.0.0/8"
        prefix-length = 24
        rlocs = "100.64.0.0/24"
        map-cache-limit = 5
        [[traffic]]
        kind = "ping"
        from = ["f"]
        to-fleet = "f"
        zipf = "1"
        packets-each = 2
        interval = "500ms"
        start = "5s"
        [[churn]]
        fleet = "f"
        interval = "10s"
        down = "5s"
    "#;
    let scenario = Scenario::parse(Path::new("churn.toml"), text).unwrap_or_else(|r| panic!("{r}"));
    let (study, lines) = logged(&scenario, 1);
    assert_eq!(figure(&study, "f xTRs", "crashes"), 6, "at 10, 20 … 60 s");
    assert_eq!(lines.iter().filter(|l| l.contains("\tstarted\t")).count(), 6);
    assert_eq!(figure(&study, "f xTRs", "map-cache-largest"), 5, "the limit holds");
    let (sent, answered) =
        (figure(&study, "f hosts", "pings-sent"), figure(&study, "f hosts", "pings-answered"));
    assert!(sent > 2000 && answered > 300, "{answered} of {sent}");
    assert_eq!(figure(&study, "f hosts", "lost/no-route"), 0);
}

/// The shipped VRRP scenario, with one case of it, as `change` has it.
fn vrrp(case: &str, change: impl FnOnce(&mut Scenario)) -> (RunResult, Vec<String>) {
    let mut scenario = Scenario::load(Path::new("configs/sim/vrrp.toml")).unwrap_or_else(|r| panic!("{r}"));
    let at = scenario.cases.iter().position(|c| c.name == case).unwrap();
    scenario.faults.retain(|fault| fault.cases.contains(&at));
    scenario.faults.iter_mut().for_each(|fault| fault.cases.clear());
    scenario.cases = vec![scenario.cases.remove(at)];
    change(&mut scenario);
    let (study, lines) = logged(&scenario, 1);
    (only(&study).clone(), lines)
}

#[test]
fn the_gap_that_hosts_see_is_what_vrrp_says() {
    // The backup waits 3 intervals and (256 - priority) / 256 of one after the last advertisement, which may
    // have come up to an interval before the fault; then it has to ask for the mapping, over links of 4 ms
    // there and back twice.
    for (case, interval, skew) in
        [("10 ms", 10, 7), ("100 ms", 100, 61), ("1 s, backup 1", 1000, 997), ("1 s, backup 253", 1000, 12)]
    {
        let (run, _) = vrrp(case, |_| {});
        let gap = run.groups["Host"]["longest-gap-ms"];
        let (least, most) = (2 * interval + skew, 3 * interval + skew + 20);
        assert!((least..=most).contains(&gap), "{case}: {gap} ms, not {least} to {most}");
        assert_eq!(
            (run.groups["xTR1"]["vrrp-became-master"], run.groups["xTR2"]["vrrp-became-master"]),
            (2, 1)
        );
    }
}

#[test]
fn a_master_that_resigns_leaves_a_gap_of_the_skew_only() {
    let (run, lines) = vrrp("1 s, resigns", |_| {});
    // 156 / 256 s.
    let gap = run.groups["Host"]["longest-gap-ms"];
    assert!((609..640).contains(&gap), "{gap}");
    assert_eq!(lines.iter().filter(|l| l.contains("was-master")).count(), 2);
}

#[test]
fn who_comes_back_preempts_only_where_it_may_and_after_its_delay() {
    let (run, _) = vrrp("1 s, no preempt", |_| {});
    assert_eq!((run.groups["xTR1"]["vrrp-became-master"], run.groups["xTR2"]["vrrp-became-master"]), (1, 1));
    let back = |case| {
        let (_, lines) = vrrp(case, |scenario| scenario.faults[0].spread = std::time::Duration::ZERO);
        let line = lines.iter().rfind(|l| l.contains("became-master")).unwrap().clone();
        assert!(line.contains("xTR1"), "{line}");
        line.split('.').next().unwrap().parse::<u64>().unwrap()
    };
    // It comes back at 35 s, hears the other one, and waits for 3 intervals and 2 / 256 of one without
    // hearing better.
    assert_eq!(back("1 s"), 38);
    let delayed = back("1 s, delay 5 s");
    assert!((41..=44).contains(&delayed), "{delayed}");
}

#[test]
fn hosts_of_both_families_have_a_gateway_and_switches_may_be_joined_in_a_circle() {
    let (run, _) = vrrp("100 ms", |scenario| {
        // A second family, and two more switches between the host and the first one.
        let text = std::fs::read_to_string("configs/sim/vrrp.toml").unwrap();
        let text = text
            .replace("vrrp-version = \"2\"\n", "")
            .replace("[\"192.168.1.0/24\"]", "[\"192.168.1.0/24\", \"2001:db8:a::/64\"]")
            .replace("[\"172.16.0.0/24\"]", "[\"172.16.0.0/24\", \"2001:db8:b::/64\"]")
            .replace("[\"192.168.1.11/32\"]", "[\"192.168.1.11/32\", \"2001:db8:a::11/128\"]")
            .replace("[\"172.16.0.1/32\"]", "[\"172.16.0.1/32\", \"2001:db8:b::1/128\"]")
            .replace("to = [\"172.16.0.1\"]", "to = [\"2001:db8:b::1\"]")
            .replace("between = [\"Host\", \"lan\"]", "between = [\"Host\", \"lan2\"]")
            + r#"
            [[switch]]
            name = "lan2"
            [[switch]]
            name = "lan3"
            [[link]]
            between = ["lan", "lan2"]
            [[link]]
            between = ["lan2", "lan3"]
            [[link]]
            between = ["lan3", "lan"]
            [[vrrp]]
            site = "A"
            vrid = 10
            addresses = ["fe80::1"]
            "#;
        let case = scenario.cases.clone();
        *scenario = Scenario::parse(Path::new("both.toml"), &text).unwrap_or_else(|r| panic!("{r}"));
        scenario.cases = case;
        scenario.faults.truncate(1);
        scenario.faults[0].cases.clear();
    });
    assert_eq!((run.groups["xTR1"]["vrrp-became-master"], run.groups["xTR2"]["vrrp-became-master"]), (4, 2));
    let gap = run.groups["Host"]["longest-gap-ms"];
    assert!((261..=381).contains(&gap), "{gap}");
    // Nothing came twice, by whichever way.
    assert!(run.groups["Server"]["received"] + gap / 2 <= run.groups["Host"]["sent"] + 5);
}

#[test]
fn mapping_systems_find_each_others_sites_through_the_ddt() {
    let mut scenario =
        Scenario::load(Path::new("configs/sim/thousand-sites.toml")).unwrap_or_else(|r| panic!("{r}"));
    scenario.duration = std::time::Duration::from_secs(45);
    let study = run(&scenario, 1, 1, &mut ());
    let get = |group: &str, name: &str| figure(&study, group, name);
    // Each of the four mapping systems asks the root once, or a little more often before the first referral
    // is there, and the node of 10.0.0.0/8 once for each of the others; then it knows the three others.
    for asked in [get("root", "control-sent/map-referral"), get("ten", "control-sent/map-referral")] {
        assert!((4..2000).contains(&asked), "{asked}");
    }
    let acknowledged: u64 = (1..=4).map(|n| get(&format!("MS{n}"), "control-sent/map-referral")).sum();
    assert!(acknowledged > 1000, "{acknowledged}");
    let (sent, answered) = (get("sites hosts", "pings-sent"), get("sites hosts", "pings-answered"));
    assert!(answered * 3 > sent, "{answered} of {sent}");
    assert_eq!(get("sites xTRs", "itr-dropped"), get("sites xTRs", "itr-dropped/no-mapping"));
}

#[test]
fn with_synchronised_map_caches_a_failover_costs_no_packet_for_lack_of_a_mapping() {
    let scenario = Scenario::load(Path::new("configs/sim/failover.toml")).unwrap_or_else(|r| panic!("{r}"));
    let study = run(&scenario, 1, 3, &mut ());
    let known = |name: &str, router: &str| {
        let case = study.cases.iter().find(|case| case.name == name).unwrap();
        case.runs.iter().map(|run| run.groups[router]["itr-dropped-known"]).collect::<Vec<_>>()
    };
    for outages in 1..=3 {
        let none = known(&format!("none {outages}"), "xTR2");
        assert!(none.iter().all(|n| *n > 0), "{none:?}");
        for mode in ["naive", "naive+ack", "smart", "smart+ack"] {
            for router in ["xTR1", "xTR2"] {
                let name = format!("{mode} {outages}");
                assert!(known(&name, router).iter().all(|n| *n == 0), "{name}: {:?}", known(&name, router));
            }
        }
    }
    let bytes = |name: &str| {
        let case = study.cases.iter().find(|case| case.name == name).unwrap();
        case.summary("xTR1", "control-sent-bytes/cache-sync").unwrap().mean
    };
    assert!(bytes("smart 1") < bytes("naive 1") && bytes("smart+ack 3") < bytes("naive+ack 3"));
}

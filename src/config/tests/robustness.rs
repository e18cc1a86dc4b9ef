//! Examples, arbitrary input, and secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::auth::{Algorithm, Secret};
use crate::proto::config::{
    DetectConfig, Host, LocatorSource, ProbingConfig, ProxyEtr, ResolverSelection, Timers,
};
use crate::proto::redundancy::vrrp::config::VirtualRouterConfig;
use crate::types::{EidPrefix, Family, InstanceId, SiteId, Ttl, XtrId};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

#[test]
fn every_example_loads_without_a_warning() {
    let mut directories = vec![examples()];
    let mut count = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // The simulator's scenarios are no configurations of routers; its own tests read them.
                if !path.ends_with("sim") {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "toml" || e == "conf") {
                let loaded = load(&path).unwrap_or_else(|report| panic!("{report}"));
                assert_eq!(loaded.warnings.to_string(), "");
                count += 1;
            }
        }
    }
    assert!(count >= 2, "the reference and the OpenLISP example at least");
}

fn eid(text: &str, iid: u32) -> EidPrefix {
    EidPrefix::new(InstanceId::new(iid).unwrap(), text.parse().unwrap())
}

#[test]
fn the_reference_means_what_its_comments_say() {
    let text = fs::read_to_string(examples().join("reference.toml")).unwrap();
    let Config { router, control, instances, kernel, snapshot, vrrp, data_plane, management, log } =
        config(&text);
    assert_eq!(
        (router.name.as_deref(), router.state_dir.to_str()),
        (Some("reference"), Some("/var/lib/eidolon"))
    );

    let database: Vec<_> =
        control.database.iter().map(|e| (e.eid, e.ttl, e.register, e.locators.len())).collect();
    assert_eq!(
        database,
        [
            (eid("10.1.0.0/16", 0), Ttl(1440), true, 3),
            (eid("2001:db8:1::/48", 0), Ttl(1440), true, 3),
            (eid("10.1.0.0/16", 7), Ttl(1440), true, 1),
        ]
    );
    assert_eq!(control.database[0].map_servers, Some(vec!["london".to_owned()]));
    assert_eq!(control.database[1].map_servers, None);
    let [first, second, third] = &control.database[0].locators[..] else { panic!("three locators") };
    assert_eq!(first.source, LocatorSource::Address("192.0.2.1".parse().unwrap()));
    assert_eq!(second.source, LocatorSource::Interface { name: "eth1".into(), family: Family::Ipv6 });
    assert_eq!((first.local, second.local, third.local, third.weight), (true, true, false, 100));

    let etr = control.etr.unwrap();
    let mut one = [0; 16];
    one[15] = 1;
    assert_eq!(etr.xtr_site, Some((XtrId(one), SiteId(1))));
    let servers: Vec<_> = etr.map_servers.iter().map(|s| (&s.name[..], &s.host, s.key.algorithm)).collect();
    let london = Host::Address("203.0.113.10".parse().unwrap());
    let other = Host::Name("ms.example.net".into());
    assert_eq!(servers[0], ("london", &london, Algorithm::HmacSha256));
    assert_eq!(servers[1], ("ms.example.net", &other, Algorithm::HmacSha256));
    let keys: Vec<_> = etr.map_servers[1].keys().iter().map(|k| (k.id, k.algorithm)).collect();
    assert_eq!(keys, [(1, Algorithm::HmacSha256), (0, Algorithm::HmacSha1)], "the preferred one first");
    assert_eq!(etr.map_servers[0].key.secret, Secret::new("change-me"));
    let proxied = [eid("10.2.0.0/16", 0), eid("2001:db8:2::/48", 0)];
    assert_eq!((&etr.proxy_for[..], control.locators.len()), (&proxied[..], 3));
    let itr = control.itr.unwrap();
    assert_eq!(itr.proxy_for, proxied);
    let proxy = Host::Address("203.0.113.30".parse().unwrap());
    let used = ProxyEtr { host: proxy, priority: 1, weight: 100, eid_family: Some(Family::Ipv6) };
    assert_eq!(itr.proxy_etrs, [used]);
    assert_eq!((itr.map_resolvers, itr.map_cache_limit), (vec![london], 100_000));
    let spaces: Vec<_> = itr.resolver_spaces.iter().map(|(p, hosts)| (*p, hosts[0].to_string())).collect();
    let (named, addressed) = ("mr.example.org".to_owned(), "203.0.113.77".to_owned());
    assert_eq!(
        spaces,
        [
            (eid("10.64.0.0/10", 0), named.clone()),
            (eid("2001:db8:6400::/40", 0), named),
            (eid("0.0.0.0/0", 7), addressed.clone()),
            (eid("::/0", 7), addressed),
        ]
    );
    assert_eq!(itr.resolver_selection, ResolverSelection::Order);

    let sites = control.map_server.unwrap().sites;
    let prefixes =
        |n: usize| sites[n].prefixes.iter().map(|p| (p.eid, p.accept_more_specifics)).collect::<Vec<_>>();
    assert_eq!(prefixes(0), [(eid("10.2.0.0/16", 0), false), (eid("2001:db8:2::/48", 0), false)]);
    assert_eq!(prefixes(1), [(eid("10.3.0.0/16", 7), true)]);
    let ids: Vec<_> = sites[1].keys.iter().map(|k| (k.id, k.algorithm)).collect();
    assert_eq!(ids, [(0, Algorithm::HmacSha1), (1, Algorithm::HmacSha256Hkdf)]);
    let forward = control.map_resolver.unwrap().forward;
    assert_eq!((forward.len(), forward[0].0, forward[0].1.len()), (1, eid("10.128.0.0/9", 0), 2));

    let spaces: Vec<_> =
        instances.iter().map(|i| (i.iid.get(), &i.tun[..], i.site_table, i.lisp_table)).collect();
    assert_eq!(spaces, [(0, "lisp0", None, 4341), (7, "lisp7", Some(1007), 4342)]);
    assert_eq!((&instances[0].interfaces[0][..], &instances[1].interfaces[0][..]), ("eth0", "vlan7"));

    let [dynamic] = &control.dynamic_eids[..] else { panic!("one that may move") };
    assert_eq!((dynamic.prefix, dynamic.ttl, dynamic.limit), (eid("10.9.0.0/16", 0), Ttl(60), 1000));
    let detect = DetectConfig { rate: 20, timeout: Duration::from_secs(60) };
    assert_eq!((dynamic.detect, dynamic.redirect_time), (Some(detect), Duration::from_secs(120)));
    assert_eq!((dynamic.interface.as_deref(), dynamic.locators.len()), (Some("eth0"), 3));

    let [gateway] = &vrrp[..] else { panic!("one virtual router") };
    assert_eq!((&gateway.key.interface[..], gateway.key.vrid, gateway.priority), ("vlan20", 10, 150));
    assert_eq!(gateway.tracked.len(), 2);
    let plain = VirtualRouterConfig::new(gateway.key.clone(), gateway.addresses.clone());
    assert_eq!(VirtualRouterConfig { priority: 100, tracked: Vec::new(), ..gateway.clone() }, plain);

    // Beyond this point, the reference says what the defaults are.
    assert_eq!(kernel, KernelConfig::default());
    assert_eq!(snapshot, Some(SnapshotConfig::default()));
    let icmp = (data_plane.icmp_source_v4, data_plane.icmp_source_v6);
    assert_eq!(icmp, (Some("10.1.0.1".parse().unwrap()), Some("2001:db8:1::1".parse().unwrap())));
    let rest = DataPlaneConfig { icmp_source_v4: None, icmp_source_v6: None, ..data_plane };
    assert_eq!(rest, DataPlaneConfig::default());
    assert_eq!(management, ManagementConfig::default());
    assert_eq!((log.level, log.format), (Level::Info, LogFormat::Text));
    assert_eq!(log.levels, [(Subsystem::Xtr, Level::Info), (Subsystem::DataPlane, Level::Warn)].into());
    assert_eq!(control.timers, Timers::default());
    assert_eq!(control.probing, Some(ProbingConfig::default()));
}

/// Each key of the reference that has a value is understood: with another value, the configuration is
/// another.
#[test]
fn no_key_is_read_and_forgotten() {
    for (from, to) in [
        ("register-interval = \"60s\"", "register-interval = \"61s\""),
        ("quick-register-interval = \"20s\"", "quick-register-interval = \"21s\""),
        ("quick-register-time = \"5min\"", "quick-register-time = \"6min\""),
        ("register-retry = \"1s\"", "register-retry = \"1500ms\""),
        ("register-retry-max = \"60s\"", "register-retry-max = \"1h\""),
        ("notify-retry = \"3s\"", "notify-retry = \"4s\""),
        ("name-refresh = \"5min\"", "name-refresh = \"1min\""),
        ("resolver-selection = \"order\"", "resolver-selection = \"fastest\""),
        ("use-ttl = false", "use-ttl = true"),
        ("merge = false", "merge = true"),
        ("instance-id = 7             # of these", "instance-id = 8 # of these"),
        ("registration-timeout = \"3min\"", "registration-timeout = \"1d\""),
        ("request-retry = \"1s\"", "request-retry = \"2s\""),
        ("request-retries = 10", "request-retries = 0"),
        ("request-rest = \"30s\"", "request-rest = \"31s\""),
        ("negative-ttl-unconfigured = 15", "negative-ttl-unconfigured = \"1h\""),
        ("negative-ttl-unregistered = 1", "negative-ttl-unregistered = 2"),
        ("replies-per-rloc = 100", "replies-per-rloc = 101"),
        ("replies-total = 10000", "replies-total = 10001"),
        ("pending-requests = 4096", "pending-requests = 1"),
        ("registrations-per-site = 100000", "registrations-per-site = 1"),
        ("registrations-total = 2000000", "registrations-total = 1"),
        ("prefix = \"10.9.0.0/16\"", "prefix = \"10.8.0.0/16\""),
        ("ttl = 60 ", "ttl = \"2h\" "),
        ("limit = 1000 ", "limit = 999 "),
        ("redirect-time = \"2min\"", "redirect-time = \"1s\""),
        ("detect = true", "detect = false"),
        ("detect-rate = 20", "detect-rate = 21"),
        ("detect-timeout = \"1min\"", "detect-timeout = \"2s\""),
        ("enabled = true", "enabled = false"),
        ("interval = \"10s\"", "interval = \"9s\""),
        ("jitter = 10", "jitter = 0"),
        ("timeout = \"1s\"", "timeout = \"2s\""),
        ("retries = 2 ", "retries = 0 "),
        ("back-off = \"60s\"", "back-off = \"5min\""),
        ("rate = 200", "rate = 1"),
        ("site = true", "site = false"),
        ("vrid = 10", "vrid = 11"),
        ("interface = \"vlan20\"", "interface = \"eth9\""),
        ("addresses = [\"10.1.0.254\"]", "addresses = [\"10.1.0.253\"]"),
        ("priority = 150", "priority = 151"),
        ("version = \"3\"", "version = \"both\""),
        ("interval = \"1000ms\"", "interval = \"500ms\""),
        ("preempt = true", "preempt = false"),
        ("# preempt-delay = \"60s\"", "preempt-delay = \"60s\""),
        ("checksum = \"pseudo-header\"", "checksum = \"message-only\""),
        ("virtual-mac = true", "virtual-mac = false"),
        ("track-interfaces = [\"eth1\"]", "track-interfaces = [\"eth2\"]"),
        ("track-locators = true", "track-locators = false"),
        ("decrement = 60", "decrement = 61"),
        ("level = \"info\"", "level = \"debug\""),
        ("format = \"text\"", "format = \"json\""),
        (
            "mode = \"0600\"               # its permissions, octal; default \"0600\"\n\n",
            "mode = \"0660\"\n\n",
        ),
        ("socket = \"/run/eidolon/control", "socket = \"/tmp/control"),
        ("socket = \"/run/eidolon/data", "socket = \"/tmp/data"),
        ("mode = \"0600\"", "mode = \"0666\""),
        ("# user-id = 999", "user-id = 999"),
        ("udp-checksum = \"computed\"", "udp-checksum = \"zero\""),
        ("offload = \"auto\"", "offload = \"off\""),
        ("queues = \"auto\"", "queues = 2"),
        ("dscp = \"uniform\"", "dscp = \"pipe\""),
        ("path-mtu = 1500", "path-mtu = 9000"),
        ("source-ports = 16", "source-ports = 1"),
        ("batch = 64", "batch = 0x20"),
        ("receive-buffer = \"auto\"", "receive-buffer = \"4MiB\""),
        ("send-buffer = \"auto\"", "send-buffer = 65536"),
        ("icmp-rate = 100", "icmp-rate = 0"),
        ("icmp-source-ipv4 = \"10.1.0.1\"", "icmp-source-ipv4 = \"10.1.0.2\""),
        ("icmp-source-ipv6 = \"2001:db8:1::1\"", "icmp-source-ipv6 = \"2001:db8:1::2\""),
        ("pending-limit = 8192", "pending-limit = 16"),
        ("punt-queue = 1024", "punt-queue = 16"),
        ("routing = \"default\"", "routing = \"none\""),
        ("table = 4341", "table = 5000"),
        ("rule-priority = 4341", "rule-priority = 100"),
        ("set-sysctls = false", "set-sysctls = true"),
        ("tun-mtu = \"auto\"", "tun-mtu = 1400"),
        ("tun = \"lisp7\"", "tun = \"lispx\""),
        ("interfaces = [\"vlan7\"]", "interfaces = [\"vlan8\", \"vlan9\"]"),
        ("table = 1007", "table = 1008"),
        ("glean = false", "glean = true"),
        ("source-check = \"known\"", "source-check = \"strict\""),
        ("locator-status-bits = true", "locator-status-bits = false"),
        ("echo-nonce = true", "echo-nonce = false"),
        ("map-versioning = true", "map-versioning = false"),
        ("map-version = 7", "map-version = 4095"),
        ("echo-nonce-interval = \"5s\"", "echo-nonce-interval = \"6s\""),
        ("echo-nonce-timeout = \"1s\"", "echo-nonce-timeout = \"2s\""),
        ("locator-status-damping = \"5min\"", "locator-status-damping = \"1s\""),
        ("eid-family = \"ipv6\"", "eid-family = \"ipv4\""),
        ("limit = 100000", "limit = 7"),
        ("snapshot-interval = \"1min\"", "snapshot-interval = \"never\""),
        ("snapshot-max-age = \"1h\"", "snapshot-max-age = \"2h\""),
        ("idle-timeout = \"1h\"", "idle-timeout = \"never\""),
        ("prefix = \"10.200.0.0/16\"", "prefix = \"10.202.0.0/16\""),
        ("action = \"drop\"", "action = \"send-map-request\""),
        ("address = \"203.0.113.77\"", "address = \"203.0.113.78\""),
        ("smr-interval = \"3s\"", "smr-interval = \"1s\""),
        ("smr-attempts = 3", "smr-attempts = 1"),
        ("requests-per-source = 2000", "requests-per-source = 1"),
        ("unverified-bytes-per-rloc = 65536", "unverified-bytes-per-rloc = 1500"),
        ("punt-rate = 4000", "punt-rate = 1"),
        ("accept-more-specifics = true", "accept-more-specifics = false"),
        ("allow-repeated-nonce = false", "allow-repeated-nonce = true"),
        ("truncate = false", "truncate = true"),
        ("proxy-reply = false", "proxy-reply = true"),
        ("want-notify = true", "want-notify = false"),
        ("mpriority = 255", "mpriority = 0"),
        ("ttl = 1440", "ttl = \"90min\""),
        ("name = \"reference\"", "name = \"other\""),
        ("state-dir = \"/var", "state-dir = \"/srv"),
        ("site-id = \"0x0000000000000001\"", "site-id = 2"),
        ("xtr-id = \"0x00000000000000000000000000000001\"", "xtr-id = \"ff\""),
    ] {
        let text = fs::read_to_string(examples().join("reference.toml")).unwrap();
        let changed = text.replacen(from, to, 1);
        assert_ne!(text, changed, "{from} is not in the reference");
        assert_ne!(config(&text), config(&changed), "{to} changes nothing");
    }
    // Excludes the data header's options, of which the reference shows the most.
    let external = config(&format!("{XTR}[data-plane]\nmode = \"external\"\n"));
    assert_ne!(config(XTR), external);
}

#[test]
fn secrets_come_from_where_the_file_says() {
    let secret = |from: &str| {
        let config = config(&XTR.replace("key = \"top-secret\"", from));
        config.control.etr.unwrap().map_servers[0].key.secret.clone()
    };
    assert_eq!(secret("key = \" top secret\""), Secret::new(" top secret"));
    assert_eq!(secret("key-env = \"KEY\""), Secret::new("from-env"));
    assert_eq!(secret("key-file = \"good.key\""), Secret::new("from-file"));
    assert_eq!(secret("key-file = \"/abs.key\""), Secret::new("absolute"));

    let long = "x".repeat(4097);
    let said = said(&XTR.replace("top-secret", &long));
    assert_eq!(said, "7:7: map-server[1].key: the secret is longer than 4096 bytes; give a shorter one\n");
}

#[test]
fn key_files_are_read_with_their_rights_and_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, "secret\r\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let file = System.file(&path).unwrap();
    assert_eq!((&file.content[..], file.mode), (&b"secret\r\n"[..], 0o640));
    fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
    assert!(System.file(&path).unwrap().content.len() < 5000);
    assert_eq!(System.file(directory.path()).unwrap_err().to_string(), "it is not a regular file");
    assert!(System.file(Path::new("/dev/zero")).is_err());
}

#[test]
fn files_that_are_no_text_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, b"roles = []\n\xff").unwrap();
    let said = load(&path).unwrap_err().to_string();
    assert_eq!(said, format!("{}: is not UTF-8 text (line 2); save it as UTF-8", path.display()));
    let said = load(directory.path()).unwrap_err().to_string();
    assert!(
        said.contains(": can't be read: ") && said.ends_with("; give the path of a configuration file"),
        "{said}"
    );
}

/// Neither what is wrong with a file nor what was understood of it shows a secret.
#[test]
fn secrets_are_never_shown() {
    let secret = "hush-hush-hush";
    let hidden = |text: &str| {
        match parse_text(text) {
            Ok(loaded) => {
                assert!(!format!("{loaded:?}").contains(secret));
                assert!(!loaded.warnings.to_string().contains(secret));
            }
            Err(report) => {
                assert!(!report.to_string().contains(secret), "{report}");
                assert!(!format!("{report:?}").contains(secret));
            }
        }
        let problems = Problems::new(text);
        let raw =
            if openlisp::detect(text) { openlisp::read(text, &problems) } else { read_toml(text, &problems) };
        assert!(!format!("{raw:?}").contains(secret));
    };
    for key in [
        "key = \"hush-hush-hush\"",
        "key = \"hush-hush-hush",
        "key = 'hush-hush-hush",
        "key = hush-hush-hush\"",
        "key = \"\"\"hush-hush-hush",
        "key = \"hush-hush-hush\" x",
        "key = \"\\x hush-hush-hush\"",
        "key = [\"hush-hush-hush\"]",
        "key = { x = \"hush-hush-hush\" }",
        "key = \"hush-hush-hush\"\nkey = \"hush-hush-hush\"",
        "key = \"hush-hush-hush\"\nkey-file = \"x\"",
        "key-env = \"hush-hush-hush=\"",
        "key = \"hush-hush-hush\"\nkey-id = 256",
        "key = \"hush-hush-hush\"\nalgorithm = \"x\"",
    ] {
        hidden(&XTR.replace("key = \"top-secret\"", key));
        hidden(&MS.replace("key = \"top-secret\"", key));
        hidden(&MS.replace("key = \"top-secret\"", &format!("[[site.key]]\n{key}")));
    }
    for line in [
        "203.0.113.10 hush-hush-hush",
        "203.0.113.10 a hush-hush-hush",
        "x! hush-hush-hush",
        "203.0.113.10 hush-hush-hush#",
    ] {
        hidden(&format!("@MAPSERVER\n{line}\n{line}\n"));
    }
}

/// Text that is nearly a configuration.
fn near_text() -> impl Strategy<Value = String> {
    let pieces = proptest::sample::select(vec![
        "[[eid-prefix]]\n",
        "[[locator]]\n",
        "[[map-server]]\n",
        "[[site]]\n",
        "[[site.key]]\n",
        "[[site.eid-prefix]]\n",
        "[[eid-prefix.locator]]\n",
        "[kernel]\n",
        "[timers]\n",
        "[log.levels]\n",
        "[[instance]]\n",
        "[[forward]]\n",
        "roles = ",
        "prefix = ",
        "address = ",
        "key = ",
        "ttl = ",
        "weight = ",
        "instance-id = ",
        "name = ",
        "table = ",
        "map-servers = ",
        "eid-prefixes = ",
        "interfaces = ",
        "locator = ",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        ",",
        "=",
        "\n",
        " ",
        "\"10.0.0.0/8\"",
        "\"::/0\"",
        "\"192.0.2.1\"",
        "[\"itr\", \"etr\", \"map-server\"]",
        "4294967296",
        "-1",
        "0",
        "100",
        "true",
        "1979-05-27",
        "1e9",
        "\"1d\"",
        "@EID\n",
        "@MAPSERVER\n",
        "10.0.0.0 8 60 1\n",
        "192.0.2.1 1 100 1\n",
        "#Eid-Prefix\n",
        "#é",
        "\u{feff}",
        "\r",
        "\0",
    ]);
    proptest::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>(), near in near_text()) {
        let _ = parse_text(&text);
        let _ = parse_text(&near);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c");
        fs::write(&path, &bytes).unwrap();
        let _ = load(&path);
    }

    /// A good file with a piece of it cut out or doubled.
    #[test]
    fn damaged_files_are_reported(start in 0usize..8000, length in 0usize..60, double in any::<bool>()) {
        let text = fs::read_to_string(examples().join("reference.toml")).unwrap();
        let ends = |i: &usize| text.is_char_boundary(*i) || *i > text.len();
        let cut = |i: usize| (i..).find(ends).unwrap().min(text.len());
        let (start, end) = (cut(start), cut(start + length));
        let damaged = if double {
            format!("{}{}", &text[..end], &text[start..])
        } else {
            format!("{}{}", &text[..start], &text[end..])
        };
        match parse_text(&damaged) {
            Ok(_) => {}
            Err(report) => {
                prop_assert!(report.has_errors());
                for problem in &report.problems {
                    let (line, column) = problem.position.unwrap();
                    prop_assert!(line <= damaged.lines().count() + 1 && column >= 1);
                    prop_assert!(!problem.message.is_empty() && !problem.remedy.is_empty());
                }
            }
        }
    }

    #[test]
    fn durations_are_read_as_written(n in 1u64..10_000) {
        let text = |unit: &str| format!("{XTR}[timers]\nrequest-rest = \"{n}{unit}\"\n");
        let read = |unit: &str| config(&text(unit)).control.timers.request_rest;
        prop_assert_eq!(read("ms"), Duration::from_millis(n));
        prop_assert_eq!(read(" s"), Duration::from_secs(n));
        prop_assert_eq!(read("min"), Duration::from_secs(60 * n));
    }
}

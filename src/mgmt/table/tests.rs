//! Each table by its exact text.

use std::net::IpAddr;

use super::*;
use crate::mgmt::view::*;
use crate::types::{
    Action, Eid, EidPrefix, InstanceId, Locator, LocatorChange, MapVersion, Mapping, Nonce, Ttl, XtrId,
};

fn eid(text: &str, iid: u32) -> EidPrefix {
    EidPrefix::new(InstanceId::new(iid).unwrap(), text.parse().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[track_caller]
fn assert_text(actual: &str, expected: &str) {
    assert!(actual == expected, "got:\n{actual}\nexpected:\n{expected}");
}

#[test]
fn intervals_are_printed_as_routers_do() {
    for (seconds, text) in [
        (0, "00:00:00"),
        (62, "00:01:02"),
        (86_399, "23:59:59"),
        (86_400, "1d00h"),
        (93_600, "1d02h"),
        (604_800, "1w0d"),
        (2_160_000, "3w4d"),
        (31_536_000, "1y0w"),
        (u64::MAX, "584942417355y3w"),
    ] {
        assert_eq!(interval(seconds), text);
    }
    assert_eq!(age(None), "never");
}

#[test]
fn map_cache_table() {
    let locator = |rloc, state, priority, weight, packets| MapCacheLocator {
        rloc: ip(rloc),
        uptime: 62,
        state,
        priority,
        weight,
        packets,
        bytes: packets * 100,
        path_mtu: (packets == 0).then_some(1400),
        way: None,
        idle: (packets > 0).then_some(1),
        local: priority == 1,
        mpriority: 255,
        mweight: 0,
    };
    let probed = MapCacheLocator {
        way: Some(RlocWay {
            source: ip("192.0.2.1"),
            state: WayState::Up,
            pending: true,
            since: 60,
            rtt_us: Some(12_034),
            sent: 7,
            answered: 6,
            last_sent: Some(0),
            last_answered: Some(10),
        }),
        ..locator("203.0.113.2", LocatorState::Up, 1, 75, 1234)
    };
    let positive = MapCacheEntry {
        eid: eid("10.2.0.0/16", 0),
        uptime: 62,
        expires: Some(86_338),
        source: MapCacheSource::MapReply,
        responder: Some(ip("203.0.113.2")),
        refreshed: 30,
        native: false,
        map_version: Some(7),
        action: Action::NoAction,
        authoritative: true,
        idle: Some(1),
        packets: 1234,
        bytes: 123_400,
        locators: vec![
            probed,
            locator("2001:db8:ffff::2", LocatorState::NoSource, 1, 25, 0),
            locator("203.0.113.3", LocatorState::Unused, 255, 100, 0),
        ],
    };
    let negative = MapCacheEntry {
        eid: eid("0.0.0.0/5", 7),
        action: Action::NativelyForward,
        native: true,
        map_version: None,
        authoritative: false,
        expires: None,
        responder: None,
        idle: None,
        packets: 0,
        bytes: 0,
        locators: Vec::new(),
        ..positive.clone()
    };
    let view = MapCache { limit: 1000, total: 3, entries: vec![positive, negative] };
    assert_text(
        &map_cache(&view),
        "\
LISP map-cache: 3 entries of at most 1000, 2 shown

10.2.0.0/16, uptime: 00:01:02, expires: 23:58:58, via map-reply from 203.0.113.2, authoritative
  1234 packets, 123400 bytes, idle 00:00:01
  Locator           Uptime    State      Pri/Wgt  Packets   Bytes  Path MTU
  203.0.113.2       00:01:02  up            1/75     1234  123400         -
  2001:db8:ffff::2  00:01:02  no-source     1/25        0       0      1400
  203.0.113.3       00:01:02  unused     255/100        0       0      1400

0.0.0.0/5, instance 7, uptime: 00:01:02, expires: never, via map-reply
  Negative cache entry, action: natively-forward
  0 packets, 0 bytes, never used
",
    );
    assert_text(
        &map_cache_detail(&view),
        "\
LISP map-cache: 3 entries of at most 1000, 2 shown

10.2.0.0/16, uptime: 00:01:02, expires: 23:58:58, via map-reply from 203.0.113.2, authoritative
  1234 packets, 123400 bytes, idle 00:00:01
  last learned 00:00:30 ago, map-version 7
  Locator           Uptime    State      Pri/Wgt  MPri/MWgt  Owner   Packets   Bytes  Idle      Path MTU
  203.0.113.2       00:01:02  up            1/75      255/0  sender     1234  123400  00:00:01         -
  2001:db8:ffff::2  00:01:02  no-source     1/25      255/0  sender        0       0  never         1400
  203.0.113.3       00:01:02  unused     255/100      255/0  site          0       0  never         1400
  Locator      From       Way          Since           RTT  Sent  Answered  Last sent  Last answer
  203.0.113.2  192.0.2.1  up, pending  00:01:00  12.034 ms     7         6  00:00:00   00:00:10

0.0.0.0/5, instance 7, uptime: 00:01:02, expires: never, via map-reply
  Negative cache entry, action: natively-forward
  0 packets, 0 bytes, never used
  last learned 00:00:30 ago, map-version none, forwarded by the kernel
",
    );
    assert_text(
        &map_cache(&MapCache { limit: 5, total: 0, entries: Vec::new() }),
        "LISP map-cache: 0 entries of at most 5\n",
    );
}

#[test]
fn database_table() {
    let view = Database {
        entries: vec![
            DatabaseEntry {
                eid: eid("10.1.0.0/16", 0),
                ttl: Ttl(1440),
                register: true,
                map_version: Some(4095),
                locators: vec![
                    DatabaseLocator {
                        rloc: Some(ip("192.0.2.1")),
                        interface: None,
                        priority: 1,
                        weight: 50,
                        local: true,
                        reachable: true,
                        changed: Some(LocatorChange { weight: Some(50), ..LocatorChange::default() }),
                    },
                    DatabaseLocator {
                        rloc: None,
                        interface: Some("eth1".into()),
                        priority: 1,
                        weight: 50,
                        local: true,
                        reachable: false,
                        changed: None,
                    },
                    DatabaseLocator {
                        rloc: Some(ip("192.0.2.9")),
                        interface: None,
                        priority: 2,
                        weight: 100,
                        local: false,
                        reachable: false,
                        changed: Some(LocatorChange { up: Some(false), ..LocatorChange::default() }),
                    },
                ],
                registrations: vec![
                    Registration {
                        map_server: "london".into(),
                        address: Some(ip("203.0.113.10")),
                        state: RegistrationState::Registered,
                        last_sent: Some(12),
                        last_notified: Some(11),
                        sent: 5,
                        notified: 4,
                        key: Some(KeyInUse { id: 1, algorithm: "HMAC-SHA-256-128".into() }),
                        contradicted: false,
                    },
                    Registration {
                        map_server: "ms.example.net".into(),
                        address: None,
                        state: RegistrationState::Unresolved,
                        last_sent: None,
                        last_notified: None,
                        sent: 0,
                        notified: 0,
                        key: None,
                        contradicted: false,
                    },
                ],
            },
            DatabaseEntry {
                eid: eid("2001:db8:1::/48", 7),
                ttl: Ttl(60),
                register: false,
                map_version: None,
                locators: Vec::new(),
                registrations: Vec::new(),
            },
        ],
    };
    assert_text(
        &database(&view),
        "\
LISP database: 2 EID-prefixes

10.1.0.0/16, TTL: 1d00h, map-version: 4095
  Locator     Interface  Pri/Wgt  Source  State
  192.0.2.1   -            1/50*  own     reachable
  no address  eth1          1/50  own     unreachable
  192.0.2.9   -            2/100  site    unreachable*
  Map-Server      Address       State       Key                 Last sent  Last notified  Sent  Notified
  london          203.0.113.10  registered  1 HMAC-SHA-256-128  00:00:12   00:00:11          5         4
  ms.example.net  -             unresolved  -                   never      never             0         0

2001:db8:1::/48, instance 7, TTL: 01:00:00, not registered

* set by command, until the next reload or restart
",
    );
    let json = serde_json::to_value(&view).unwrap();
    let locators = &json["entries"][0]["locators"];
    assert_eq!(locators[2]["override"], serde_json::json!({"priority": null, "weight": null, "up": false}));
    assert!(locators[1]["override"].is_null());
}

#[test]
fn sites_table() {
    let registration = |by, last| SiteRegistration {
        registered_by: ip(by),
        xtr_id: (by == "192.0.2.3").then_some(XtrId(7u128.to_be_bytes())),
        site_id: None,
        since: 3600,
        last,
        expires: 180 - last,
        proxy_reply: by == "192.0.2.2",
        key: Some(KeyInUse { id: 0, algorithm: "HMAC-SHA-1-96".into() }),
        merge: by == "192.0.2.2",
        use_ttl: false,
        ttl: Ttl(1440),
        locators: vec![
            Locator::new(ip(by), 1, 100),
            Locator { reachable: false, ..Locator::new(ip("2001:db8::1"), 2, 100) },
        ],
    };
    let prefix = |text, iid, configured, registrations: Vec<SiteRegistration>| SitePrefix {
        eid: eid(text, iid),
        configured,
        last_register: registrations.iter().map(|r| r.last).min(),
        registrations,
    };
    let gone = SitePrefix { last_register: Some(75), ..prefix("10.4.0.0/16", 0, true, vec![]) };
    let view = Sites {
        total: 4,
        registered: 2,
        sites: vec![
            Site {
                name: "headquarters".into(),
                prefixes: vec![
                    prefix(
                        "10.2.0.0/16",
                        0,
                        true,
                        vec![registration("192.0.2.1", 12), registration("192.0.2.2", 50)],
                    ),
                    prefix("10.3.0.0/16", 0, true, vec![]),
                    gone,
                ],
            },
            Site {
                name: "branch".into(),
                prefixes: vec![prefix("10.3.4.0/24", 7, false, vec![registration("192.0.2.3", 0)])],
            },
        ],
    };
    assert_text(&sites(&view), "\
LISP sites: 2, 2 of 4 EID-prefixes registered

Site          Last register  Up                  Who last registered  Inst  EID-prefix     Since     Expires   Key              Locators
headquarters  00:00:12       yes                 192.0.2.1               0  10.2.0.0/16    01:00:00  00:02:48  0 HMAC-SHA-1-96  192.0.2.1 1/100, 2001:db8::1 2/100 down
              00:00:50       yes, proxy, merged  192.0.2.2                                 01:00:00  00:02:10  0 HMAC-SHA-1-96  192.0.2.2 1/100, 2001:db8::1 2/100 down
headquarters  never          no                  --                      0  10.3.0.0/16    --        --        --               --
headquarters  00:01:15       no                  --                      0  10.4.0.0/16    --        --        --               --
branch        00:00:00       yes                 192.0.2.3 (xTR 0x7)     7  10.3.4.0/24 *  01:00:00  00:03:00  0 HMAC-SHA-1-96  192.0.2.3 1/100, 2001:db8::1 2/100 down
");
    // What a filter leaves out is counted nevertheless.
    let filtered = Sites { sites: vec![view.sites[1].clone()], ..view };
    let text = sites(&filtered);
    assert!(text.starts_with("LISP sites: 1, 2 of 4 EID-prefixes registered, 1 shown\n"), "{text}");
}

#[test]
fn statistics_table() {
    let counts = |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    let thread = |name: &str, packets| DataStatistics {
        thread: name.into(),
        packets,
        bytes: packets * 1000,
        dropped: counts(&[("no-mapping", 2), ("too-big", 0)]),
        counters: counts(&[("punts", 1)]),
    };
    let view = Statistics {
        uptime: 90_000,
        control: ControlStatistics {
            received: counts(&[("map-notify", 3), ("map-reply", 10), ("map-request", 0)]),
            sent: counts(&[("map-register", 4), ("map-reply", 1)]),
            dropped: counts(&[("reply-unknown-nonce", 1), ("smr-rate-limit", 2), ("truncated", 0)]),
            ordinary: ["smr-rate-limit".to_owned(), "smr-not-cached".to_owned()].into(),
            counters: counts(&[]),
        },
        data: vec![thread("itr-0", 5_000_000), thread("etr-0", 7)],
        store: Store {
            place: "/var/lib/eidolon/state.redb".into(),
            state: StoreState::Failing,
            problem: Some("/var/lib/eidolon/state.redb: no space left".into()),
            notice: None,
            restored: 1,
            written: 12,
            commits: 3,
            failures: 1,
            waiting: 2,
            snapshot: Some(Box::new(Snapshot {
                place: "/var/lib/eidolon/map-cache.snapshot".into(),
                restored: 1,
                expired: 2,
                unfit: 3,
                waiting: 0,
                written: 4,
                last: Some(59),
                entries: 1000,
                bytes: 48_000,
                failures: 1,
                problem: Some("no space left".into()),
                notice: None,
            })),
        },
    };
    assert_text(
        &statistics(&view),
        "\
Uptime: 1d01h

Control messages
  Type          Received  Sent
  map-notify           3     0
  map-register         0     4
  map-reply           10     1

Control messages dropped
  Reason               Count
  reply-unknown-nonce      1

Control messages without effect, as is normal
  Reason          Count
  smr-rate-limit      2

State over a restart
  /var/lib/eidolon/state.redb, failing
  1 record restored, 12 written by 3 transactions, 2 waiting, 1 failure
  /var/lib/eidolon/map-cache.snapshot: 1 entry restored, 2 expired, 3 unfit, 0 waiting
  4 snapshots written, the last one 00:00:59 ago with 1000 entries in 48000 bytes, 1 failure
  no space left
  /var/lib/eidolon/state.redb: no space left

Data plane
  Thread  Packets       Bytes  Dropped
  itr-0   5000000  5000000000        2
  etr-0         7        7000        2

Data packets dropped
  Reason      Count
  no-mapping      4

Data plane, all threads
  Counter  Count
  punts        2
",
    );
}

#[test]
fn interfaces_table() {
    let view = Interfaces {
        tuns: vec![
            Tun {
                name: "lisp0".into(),
                iid: InstanceId::DEFAULT,
                up: true,
                mtu: 1444,
                queues: 1,
                offload: true,
                offload_reason: None,
                underlay_offload: true,
                site_interfaces: vec![],
            },
            Tun {
                name: "lisp7".into(),
                iid: InstanceId::new(7).unwrap(),
                up: false,
                mtu: 1444,
                queues: 1,
                offload: false,
                offload_reason: Some("the kernel refuses it".into()),
                underlay_offload: true,
                site_interfaces: vec!["eth2".into(), "eth3".into()],
            },
        ],
        locators: vec![
            LocatorInterface {
                name: Some("eth0".into()),
                up: true,
                mtu: Some(1500),
                addresses: vec![ip("192.0.2.1"), ip("2001:db8::1")],
            },
            LocatorInterface { name: Some("eth1".into()), up: false, mtu: None, addresses: vec![] },
        ],
        proxy_itr: vec![],
        proxy_etr: vec![],
        external: None,
    };
    assert_text(
        &interfaces(&view),
        "\
TUN    Instance  State   MTU  Queues  Offload                               Site interfaces
lisp0         0  up     1444       1  on                                    all
lisp7         7  down   1444       1  underlay only: the kernel refuses it  eth2, eth3

Underlay interface  State   MTU  Locators
eth0                up     1500  192.0.2.1, 2001:db8::1
eth1                down      -  none
",
    );
}

#[test]
fn proxies_say_whom_they_are_for() {
    let prefix = |iid, text: &str| EidPrefix::new(InstanceId::new(iid).unwrap(), text.parse().unwrap());
    let view = Interfaces {
        proxy_itr: vec![prefix(0, "10.2.0.0/16"), prefix(7, "2001:db8:2::/48")],
        proxy_etr: vec![prefix(0, "10.2.0.0/16")],
        ..Interfaces::default()
    };
    assert_text(
        &interfaces(&view),
        "\
Proxy-ITR for 10.2.0.0/16, [7]2001:db8:2::/48
Proxy-ETR for 10.2.0.0/16

",
    );
}

#[test]
fn an_external_data_plane_takes_the_place_of_the_tuns() {
    let client = ExternalClient {
        uid: 0,
        pid: Some(4711),
        connected: 61,
        synced: true,
        waiting: 2,
        sent: 1234,
        received: 56,
        errors: 1,
        punts_lost: 0,
    };
    let with = |clients| Interfaces {
        external: Some(ExternalDataPlane {
            socket: "/run/eidolon/data-plane.sock".into(),
            entries: 12,
            clients,
        }),
        ..Interfaces::default()
    };
    assert_text(
        &interfaces(&with(vec![client])),
        "\
External data plane at /run/eidolon/data-plane.sock, 12 entries
  PID   User  Connected  State   Waiting  Sent  Received  Errors  Lost
  4711  0     00:01:01   synced        2  1234        56       1     0

",
    );
    assert_text(
        &interfaces(&with(vec![])),
        "\
External data plane at /run/eidolon/data-plane.sock, 12 entries
  no program is connected: no packets pass

",
    );
}

#[test]
fn locators_table() {
    let way = |source, state, answered| RlocWay {
        source: ip(source),
        state,
        pending: answered == 0,
        since: 62,
        rtt_us: (answered > 0).then_some(12_034),
        sent: answered + 3,
        answered,
        last_sent: Some(2),
        last_answered: (answered > 0).then_some(1),
    };
    let remote = |rloc, up, ways: Vec<RlocWay>| RemoteLocator {
        rloc: ip(rloc),
        up,
        source: ways.first().map(|way| way.source),
        site: false,
        entries: 2,
        ways,
    };
    let own = |rloc: Option<&str>, interface: Option<&str>, up, changed| OwnLocator {
        rloc: rloc.map(ip),
        interface: interface.map(Into::into),
        local: true,
        up,
        changed,
    };
    let down = LocatorChange { up: Some(false), ..LocatorChange::default() };
    let heavy = LocatorChange { weight: Some(75), priority: Some(2), up: None };
    let view = Locators {
        own: vec![
            own(Some("192.0.2.1"), None, true, None),
            own(None, Some("ppp0"), false, None),
            OwnLocator { local: false, ..own(Some("192.0.2.9"), None, true, None) },
            own(Some("192.0.2.10"), None, false, Some(down)),
            own(Some("192.0.2.11"), None, true, Some(heavy)),
        ],
        probing_ms: Some(500),
        remote: vec![
            RemoteLocator {
                site: true,
                ..remote("192.0.2.9", true, vec![way("192.0.2.1", WayState::Up, 5)])
            },
            remote(
                "203.0.113.1",
                false,
                vec![way("192.0.2.1", WayState::NoAnswer, 0), way("192.0.2.2", WayState::Unreachable, 7)],
            ),
            remote("2001:db8::1", false, Vec::new()),
        ],
    };
    assert_text(
        &locators(&view),
        "\
Our site's locators: 5
  Locator     Interface  Source  State
  192.0.2.1   -          own     up
  no address  ppp0       own     down
  192.0.2.9   -          site    up
  192.0.2.10  -          own     down (by command) *
  192.0.2.11  -          own     up *
  * 192.0.2.10: down, set by command, until the next reload or restart
  * 192.0.2.11: priority 2 weight 75, set by command, until the next reload or restart

Remote locators: 3, probed every 500 ms
  Locator      State      Entries  From                Way                 Since           RTT  Sent  Answered  Last sent  Last answer
  192.0.2.9    up, site         2  192.0.2.1           up                  00:01:02  12.034 ms     8         5  00:00:02   00:00:01
  203.0.113.1  down             2  192.0.2.1           no answer, pending  00:01:02          -     3         0  00:00:02   never
                                   192.0.2.2 (unused)  unreachable         00:01:02  12.034 ms    10         7  00:00:02   00:00:01
  2001:db8::1  no-source        2  -                   unprobed            -                 -     -         -  -          -
",
    );
}

#[test]
fn pending_table() {
    let request = |addr, resting: bool| PendingRequest {
        eid: Eid::new(InstanceId::DEFAULT, ip(addr)),
        map_resolver: (!resting).then(|| ip("203.0.113.10")),
        nonce: Nonce(0x0123_4567_89ab_cdef),
        sent: 3,
        age: 7,
        resting,
        next: 4,
    };
    let view = Pending { requests: vec![request("10.9.9.9", false), request("2001:db8:9::9", true)] };
    assert_text(
        &pending(&view),
        "\
Map-Requests outstanding: 2

EID            Instance  Map-Resolver  Nonce                  Sent  Age       State    Next in
10.9.9.9              0  203.0.113.10  0x01234567-0x89abcdef     3  00:00:07  asking   00:00:04
2001:db8:9::9         0  -             0x01234567-0x89abcdef     3  00:00:07  resting  00:00:04
",
    );
    assert_text(&pending(&Pending::default()), "Map-Requests outstanding: 0\n");
}

#[test]
fn lig_table() {
    let mapping = |prefix, locators| Mapping {
        eid: eid(prefix, 0),
        ttl: Ttl(15),
        action: Action::NativelyForward,
        authoritative: true,
        version: MapVersion::NONE,
        locators,
    };
    let view = Lig {
        eid: Eid::new(InstanceId::DEFAULT, ip("10.2.0.1")),
        map_resolver: ip("203.0.113.10"),
        responder: ip("203.0.113.2"),
        rtt_ms: 1.256,
        requests: 2,
        mappings: vec![
            mapping("10.2.0.0/16", vec![Locator::new(ip("203.0.113.2"), 1, 100)]),
            mapping("10.2.9.0/24", vec![]),
        ],
    };
    assert_text(
        &lig(&view),
        "\
Mapping for 10.2.0.1 from 203.0.113.2, asked of 203.0.113.10, in 1.26 ms after 2 Map-Requests

10.2.0.0/16, TTL: 00:15:00, authoritative
  Locator      State  Pri/Wgt  MPri/MWgt
  203.0.113.2  up       1/100      255/0

10.2.9.0/24, TTL: 00:15:00, authoritative
  Negative: natively-forward
",
    );
}

#[test]
fn resolvers_table() {
    let resolver = |host: &str, address: Option<&str>, space, state| Resolver {
        host: host.into(),
        space,
        address: address.map(ip),
        state,
        response_ms: None,
        requests: 0,
        answers: 0,
        timeouts: 0,
        last_answer: None,
    };
    let view = Resolvers {
        selection: "fastest".into(),
        resolvers: vec![
            Resolver {
                response_ms: Some(12.34),
                requests: 20,
                answers: 18,
                timeouts: 2,
                last_answer: Some(5),
                ..resolver("203.0.113.10", Some("203.0.113.10"), None, ResolverState::Up)
            },
            resolver("mr.example.org", None, Some(eid("10.64.0.0/10", 0)), ResolverState::Unresolved),
            resolver("203.0.113.7", Some("203.0.113.7"), Some(eid("::/0", 7)), ResolverState::Silent),
        ],
    };
    assert_text(
        &resolvers(&view),
        "\
LISP Map-Resolvers: 3, selection: fastest

Map-Resolver    Address       EID space         State       Response  Requests  Answers  Timeouts  Last answer
203.0.113.10    203.0.113.10  all others        up           12.3 ms        20       18         2  00:00:05
mr.example.org  -             10.64.0.0/10      unresolved         -         0        0         0  never
203.0.113.7     203.0.113.7   ::/0, instance 7  silent             -         0        0         0  never
",
    );
}

//! Elections in virtual time: routers on one link, which can be cut, die and lie.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::vrrp::{Body, Checksum, Envelope, Version, advertisement_frame};

const LAN: &str = "lan0";
const MS: Duration = Duration::from_millis(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(family: Family, vrid: u8) -> Key {
    Key { interface: LAN.into(), family, vrid }
}

fn config(priority: u8) -> VirtualRouterConfig {
    let new = VirtualRouterConfig::new(key(Family::Ipv4, 10), vec![ip("192.168.1.254")]);
    VirtualRouterConfig { priority, ..new }
}

/// Routers on a link without delay. Router `n` has the addresses 192.168.1.n and fe80::n, counted from 1.
struct Link {
    now: Instant,
    routers: Vec<Vrrp>,
    /// Those that neither hear nor are heard.
    cut: Vec<bool>,
    outputs: Vec<(Instant, usize, Output)>,
}

impl Link {
    fn new(configs: Vec<VirtualRouterConfig>) -> Self {
        Self::of(configs.into_iter().map(|config| vec![config]).collect())
    }

    fn of(configs: Vec<Vec<VirtualRouterConfig>>) -> Self {
        let cut = vec![false; configs.len()];
        let routers = configs.into_iter().map(Vrrp::new).collect();
        Self { now: Instant::from_secs(1), routers, cut, outputs: Vec::new() }
    }

    fn address(router: usize, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => IpAddr::from([192, 168, 1, router as u8 + 1]),
            Family::Ipv6 => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, router as u16 + 1]),
        }
    }

    fn interface(&mut self, router: usize, running: bool) {
        let (IpAddr::V4(v4), IpAddr::V6(v6)) =
            (Self::address(router, Family::Ipv4), Self::address(router, Family::Ipv6))
        else {
            unreachable!("of these families")
        };
        let state = InterfaceState { running, ipv4: Some(v4), ipv6: Some(v6) };
        self.routers[router].handle(self.now, Input::Interface { name: LAN, state });
        self.settle();
    }

    fn start(&mut self) {
        (0..self.routers.len()).for_each(|router| self.interface(router, true));
    }

    /// Carries what there is to carry, until nothing is left.
    fn settle(&mut self) {
        while let Some((from, output)) = self
            .routers
            .iter_mut()
            .enumerate()
            .find_map(|(router, vrrp)| vrrp.poll_output().map(|output| (router, output)))
        {
            self.outputs.push((self.now, from, output.clone()));
            let Output::Send { source, message, .. } = output else { continue };
            if self.cut[from] {
                continue;
            }
            let frame = advertisement_frame([2; 6], source, &message).unwrap();
            for to in (0..self.routers.len()).filter(|to| *to != from && !self.cut[*to]) {
                self.routers[to].handle(self.now, Input::Packet { interface: LAN, packet: &frame[14..] });
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((router, at)) = self
            .routers
            .iter()
            .enumerate()
            .filter_map(|(router, vrrp)| vrrp.poll_timeout().map(|at| (router, at)))
            .min_by_key(|(_, at)| *at)
            .filter(|(_, at)| *at <= end)
        {
            assert!(at >= self.now, "a deadline that passed was not met");
            self.now = at;
            self.routers[router].handle_timeout(at);
            self.settle();
        }
        self.now = end;
    }

    fn router(&self, router: usize) -> &VirtualRouter {
        self.routers[router].routers().next().unwrap()
    }

    fn state(&self, router: usize) -> State {
        self.router(router).state().0
    }

    fn states(&self) -> Vec<State> {
        (0..self.routers.len()).map(|router| self.state(router)).collect()
    }

    fn event(&self, router: usize, wanted: impl Fn(&Change) -> bool) -> bool {
        self.outputs
            .iter()
            .filter(|(_, at, _)| *at == router)
            .any(|(_, _, output)| matches!(output, Output::Event(event) if wanted(&event.change)))
    }

    /// An advertisement as anybody could send it, heard by one router.
    fn hear(&mut self, router: usize, source: &str, advertisement: &Advertisement) {
        let source = ip(source);
        let message = advertisement.encode(&Envelope::multicast(source), Checksum::PseudoHeader).unwrap();
        let frame = advertisement_frame([2; 6], source, &message).unwrap();
        self.packet(router, &frame[14..]);
    }

    fn packet(&mut self, router: usize, packet: &[u8]) {
        self.routers[router].handle(self.now, Input::Packet { interface: LAN, packet });
        self.settle();
    }

    fn dropped(&self, router: usize, reason: DropReason) -> u64 {
        let own = self.router(router).counters().dropped.get(&reason).copied().unwrap_or_default();
        own + self.routers[router].strays().get(&reason).copied().unwrap_or_default()
    }
}

fn advertisement(priority: u8, interval: u16) -> Advertisement {
    Advertisement { vrid: 10, priority, body: Body::V3 { interval }, addresses: vec![ip("192.168.1.254")] }
}

use State::{Backup, Initialize, Master};

#[test]
fn the_better_of_two_becomes_master_after_its_master_down_interval() {
    // Input: Startup, priority ≠ 255. Output: Backup, Active_Down_Timer (RFC 9568 §6.4.1).
    let mut link = Link::new(vec![config(150), config(100)]);
    link.start();
    assert_eq!(link.states(), [Backup, Backup]);
    // 3 s + 106/256 s against 3 s + 156/256 s.
    assert_eq!(link.router(0).master_down(), Duration::from_nanos(3_414_062_500));
    assert_eq!(link.router(1).master_down(), Duration::from_nanos(3_609_375_000));
    link.run(3414 * MS);
    assert_eq!(link.states(), [Backup, Backup]);
    link.run(MS);
    assert_eq!(link.states(), [Master, Backup]);
    let kinds: Vec<_> =
        link.outputs.iter().filter(|(_, router, _)| *router == 0).map(|(_, _, o)| o).collect();
    assert!(matches!(
        kinds[1..],
        [Output::Send { .. }, Output::Take(_), Output::Announce(_), Output::Event(_)]
    ));
    link.run(Duration::from_secs(20));
    assert_eq!(link.states(), [Master, Backup]);
    let peer = link.router(1).peer().unwrap();
    assert_eq!((peer.address, peer.priority, peer.version), (ip("192.168.1.1"), 150, Version::V3));
    // One per second, and announcements at once, after 1 s and after 5 s.
    assert_eq!(link.router(0).counters().sent, 21);
    assert_eq!(link.outputs.iter().filter(|(_, _, o)| matches!(o, Output::Announce(_))).count(), 3);
}

#[test]
fn when_the_master_dies_the_best_of_the_others_takes_over_and_gives_back() {
    let mut link = Link::new(vec![config(200), config(150), config(100)]);
    link.start();
    link.run(Duration::from_secs(10));
    assert_eq!(link.states(), [Master, Backup, Backup]);
    link.cut[0] = true;
    link.run(Duration::from_secs(5));
    // The dead one does not know of it.
    assert_eq!(link.states(), [Master, Master, Backup]);
    assert_eq!(link.router(2).peer().unwrap().address, ip("192.168.1.2"));
    // Input: a greater priority is heard by a master. Output: Backup, addresses left (§6.4.3).
    link.cut[0] = false;
    link.run(Duration::from_secs(2));
    assert_eq!(link.states(), [Master, Backup, Backup]);
    assert!(link.outputs.iter().any(|(_, router, o)| *router == 1 && matches!(o, Output::Leave(_))));
    assert!(link.event(1, |c| matches!(c, Change::State { cause: Cause::BetterMaster(_), .. })));
}

#[test]
fn who_starts_alone_becomes_master_without_a_warning_and_who_loses_a_master_with_one() {
    let mut link = Link::new(vec![config(150), config(100)]);
    link.cut[1] = true;
    link.start();
    link.run(Duration::from_secs(10));
    assert_eq!(link.states(), [Master, Master]);
    let took_over = |link: &Link, router: usize| -> Vec<(Cause, bool)> {
        let events = link.outputs.iter().filter(|(_, at, _)| *at == router).filter_map(|(_, _, o)| match o {
            Output::Event(event) => match event.change {
                Change::State { to: Master, cause, .. } => Some((cause, event.is_warning())),
                _ => None,
            },
            _ => None,
        });
        events.collect()
    };
    assert_eq!(took_over(&link, 0), [(Cause::NoMaster, false)]);
    link.cut[1] = false;
    link.run(Duration::from_secs(5));
    link.cut[0] = true;
    link.run(Duration::from_secs(10));
    assert_eq!(took_over(&link, 1), [(Cause::NoMaster, false), (Cause::MasterSilent, true)]);
}

#[test]
fn at_the_fastest_useful_interval_a_failover_takes_less_than_400_ms() {
    let fast = |priority| VirtualRouterConfig { interval: 100 * MS, ..config(priority) };
    let mut link = Link::new(vec![fast(150), fast(100)]);
    link.start();
    link.run(Duration::from_secs(2));
    link.cut[0] = true;
    let died = link.now;
    link.run(400 * MS);
    assert_eq!(link.state(1), Master);
    assert!(link.router(1).state().1.saturating_since(died) < 400 * MS);
}

#[test]
fn a_master_that_resigns_is_replaced_after_the_skew_time() {
    let mut link = Link::new(vec![config(150), config(100), config(50)]);
    link.start();
    link.run(Duration::from_secs(10));
    let resigned = link.now;
    link.routers[0].shutdown();
    link.settle();
    assert_eq!(link.states(), [Initialize, Backup, Backup]);
    assert_eq!(link.router(0).counters().resignations_sent, 1);
    // Input: priority 0 in Backup. Output: Active_Down_Timer = Skew_Time (§6.4.2), here 156/256 s.
    assert_eq!(link.router(1).counters().resignations_received, 1);
    link.run(609 * MS);
    assert_eq!(link.states(), [Initialize, Backup, Backup]);
    link.run(MS);
    assert_eq!(link.states(), [Initialize, Master, Backup]);
    assert!(link.router(1).state().1.saturating_since(resigned) < 610 * MS);
    assert!(link.event(1, |c| matches!(c, Change::State { cause: Cause::MasterResigned, .. })));
    link.run(Duration::from_secs(5));
    assert_eq!(link.states(), [Initialize, Master, Backup]);
}

#[test]
fn of_equals_the_greater_address_wins_among_masters_and_who_is_first_stays() {
    let mut link = Link::new(vec![config(100), config(100)]);
    link.cut = vec![true, true];
    link.start();
    link.run(Duration::from_secs(5));
    assert_eq!(link.states(), [Master, Master]);
    link.cut = vec![false, false];
    link.run(Duration::from_secs(2));
    // Input: equal priority, greater address. Output: Backup (§6.4.3).
    assert_eq!(link.states(), [Backup, Master]);

    let mut link = Link::new(vec![config(100), config(100)]);
    link.interface(0, true);
    link.run(Duration::from_secs(5));
    link.interface(1, true);
    link.run(Duration::from_secs(20));
    // Input: equal priority in Backup. Output: timer restarted (§6.4.2).
    assert_eq!(link.states(), [Master, Backup]);
}

#[test]
fn preemption_happens_at_once_later_or_never_as_configured() {
    let later = VirtualRouterConfig { preempt_delay: Duration::from_secs(30), ..config(200) };
    let never = VirtualRouterConfig { preempt: false, ..config(200) };
    for (better, after_10s, after_40s) in
        [(config(200), Master, Master), (later, Backup, Master), (never.clone(), Backup, Backup)]
    {
        let mut link = Link::new(vec![config(100), better]);
        link.interface(0, true);
        link.run(Duration::from_secs(10));
        assert_eq!(link.state(0), Master);
        link.interface(1, true);
        link.run(Duration::from_secs(10));
        assert_eq!(link.state(1), after_10s);
        link.run(Duration::from_secs(30));
        assert_eq!(link.state(1), after_40s);
        assert_eq!(link.states().iter().filter(|s| **s == Master).count(), 1);
    }
    // Who does not preempt still takes over from a dead one, and then stays.
    let mut link = Link::new(vec![config(100), never]);
    link.interface(0, true);
    link.run(Duration::from_secs(10));
    link.interface(1, true);
    link.run(Duration::from_secs(10));
    link.cut[0] = true;
    link.run(Duration::from_secs(5));
    assert_eq!(link.state(1), Master);
}

#[test]
fn the_owner_is_master_at_once_and_listens_to_nobody() {
    // Input: Startup, priority 255. Output: ADVERTISEMENT, gratuitous ARP, Active (§6.4.1).
    let mut link = Link::new(vec![config(254), config(255)]);
    link.interface(0, true);
    link.run(Duration::from_secs(5));
    link.interface(1, true);
    assert_eq!(link.states(), [Backup, Master]);
    link.hear(1, "192.168.1.9", &advertisement(254, 100));
    assert_eq!(link.dropped(1, DropReason::Owner), 1);
    assert_eq!(link.state(1), Master);
    link.run(Duration::from_secs(10));
    assert_eq!(link.states(), [Backup, Master]);
}

#[test]
fn an_interface_that_goes_down_ends_it_without_a_word_and_begins_anew() {
    let mut link = Link::new(vec![config(150), config(100)]);
    link.start();
    link.run(Duration::from_secs(5));
    let sent = link.router(0).counters().sent;
    link.interface(0, false);
    assert_eq!(link.states(), [Initialize, Backup]);
    assert_eq!(link.router(0).counters().sent, sent);
    assert!(link.outputs.iter().any(|(_, router, o)| *router == 0 && matches!(o, Output::Leave(_))));
    link.run(Duration::from_secs(5));
    assert_eq!(link.states(), [Initialize, Master]);
    link.interface(0, true);
    link.run(Duration::from_secs(5));
    assert_eq!(link.states(), [Master, Backup]);
    assert!(link.routers[0].poll_timeout().is_some());
}

#[test]
fn what_is_tracked_lowers_the_priority_and_gives_it_back() {
    let tracked =
        vec![Tracked::Interface { name: "wan0".into(), decrement: 40 }, Tracked::Locators { decrement: 200 }];
    let mut link = Link::new(vec![VirtualRouterConfig { tracked, ..config(150) }, config(100)]);
    let wan = |link: &mut Link, running| {
        let state = InterfaceState { running, ..InterfaceState::default() };
        link.routers[0].handle(link.now, Input::Interface { name: "wan0", state });
        link.settle();
    };
    wan(&mut link, true);
    link.start();
    link.run(Duration::from_secs(5));
    assert_eq!((link.states(), link.router(0).priority()), (vec![Master, Backup], 150));
    wan(&mut link, false);
    assert_eq!(link.router(0).priority(), 110);
    link.run(Duration::from_secs(10));
    assert_eq!(link.states(), [Master, Backup], "110 is still the better");
    let now = link.now;
    link.routers[0].handle(now, Input::Locators { reachable: false });
    link.settle();
    assert_eq!(link.router(0).priority(), 1, "never 0, which would be a resignation");
    link.run(Duration::from_secs(5));
    assert_eq!(link.states(), [Backup, Master]);
    let now = link.now;
    link.routers[0].handle(now, Input::Locators { reachable: true });
    wan(&mut link, true);
    link.run(Duration::from_secs(5));
    assert_eq!((link.states(), link.router(0).priority()), (vec![Master, Backup], 150));
    assert!(link.event(0, |c| *c == Change::Priority { from: 150, to: 110 }));
}

#[test]
fn version_3_learns_the_masters_interval_and_version_2_insists_on_its_own() {
    let mut link = Link::new(vec![config(100)]);
    link.start();
    link.hear(0, "192.168.1.9", &advertisement(200, 500));
    // 3 × 5 s + 156/256 × 5 s (§6.1).
    assert_eq!(link.router(0).master_down(), Duration::from_nanos(18_046_875_000));
    link.run(18 * Duration::from_secs(1));
    assert_eq!(link.state(0), Backup);
    link.run(47 * MS);
    assert_eq!(link.state(0), Master);
    assert_eq!(link.router(0).master_down(), Duration::from_nanos(3_609_375_000), "its own again");

    let v2 = VirtualRouterConfig { versions: Versions::V2, interval: Duration::from_secs(2), ..config(100) };
    let heard = |interval| Advertisement {
        body: Body::V2 { interval, auth_type: 0, auth_data: [0; 8] },
        ..advertisement(200, 0)
    };
    let mut link = Link::new(vec![v2]);
    link.start();
    // 3 × 2 s + 156/256 s (RFC 3768 §6.1).
    assert_eq!(link.router(0).master_down(), Duration::from_nanos(6_609_375_000));
    link.hear(0, "192.168.1.9", &heard(1));
    assert_eq!((link.router(0).peer(), link.dropped(0, DropReason::Interval)), (None, 1));
    link.hear(0, "192.168.1.9", &heard(2));
    assert_eq!(link.router(0).peer().unwrap().version, Version::V2);
}

#[test]
fn both_versions_at_once_for_routers_of_either() {
    let versions = |versions, priority| VirtualRouterConfig { versions, ..config(priority) };
    let mut link = Link::new(vec![
        versions(Versions::Both, 200),
        versions(Versions::V2, 150),
        versions(Versions::V3, 100),
        versions(Versions::Both, 50),
    ]);
    link.start();
    link.run(Duration::from_secs(10));
    assert_eq!(link.states(), [Master, Backup, Backup, Backup]);
    // Of a master that speaks both, version 3 counts (RFC 5798 §8.4.2).
    assert_eq!(link.router(1).peer().unwrap().version, Version::V2);
    assert_eq!(link.router(3).peer().unwrap().version, Version::V3);
    assert_eq!(link.router(3).counters().dropped.len(), 0);
    link.cut[0] = true;
    link.cut[2] = true;
    link.run(Duration::from_secs(5));
    assert_eq!(link.state(1), Master);
    let peer = link.router(3).peer().unwrap();
    assert_eq!((peer.address, peer.version), (ip("192.168.1.2"), Version::V2));
}

#[test]
fn several_virtual_routers_share_an_interface_and_both_families() {
    let with = |family, vrid, priority, address: &str| VirtualRouterConfig {
        priority,
        ..VirtualRouterConfig::new(key(family, vrid), vec![ip(address)])
    };
    let mut link = Link::of(vec![
        vec![
            with(Family::Ipv4, 1, 200, "192.168.1.254"),
            with(Family::Ipv4, 2, 100, "192.168.1.253"),
            with(Family::Ipv6, 1, 100, "fe80::fe"),
        ],
        vec![
            with(Family::Ipv4, 1, 100, "192.168.1.254"),
            with(Family::Ipv4, 2, 200, "192.168.1.253"),
            with(Family::Ipv6, 1, 200, "fe80::fe"),
        ],
    ]);
    link.start();
    link.run(Duration::from_secs(10));
    let states = |link: &Link, router: usize| -> Vec<State> {
        link.routers[router].routers().map(|r| r.state().0).collect()
    };
    assert_eq!(states(&link, 0), [Master, Backup, Backup]);
    assert_eq!(states(&link, 1), [Backup, Master, Master]);
    let v6 = link.routers[0].router(&key(Family::Ipv6, 1)).unwrap();
    assert_eq!(v6.peer().unwrap().address, ip("fe80::2"));
}

#[test]
fn packets_that_are_forged_or_malformed_change_nothing_and_are_counted() {
    let mut link = Link::new(vec![config(100)]);
    link.start();
    link.run(Duration::from_secs(5));
    let good = || {
        let message = advertisement(254, 100)
            .encode(&Envelope::multicast(ip("192.168.1.9")), Checksum::PseudoHeader)
            .unwrap();
        advertisement_frame([2; 6], ip("192.168.1.9"), &message).unwrap()[14..].to_vec()
    };
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good();
        change(&mut packet);
        crate::wire::ip::write_ipv4_checksum(&mut packet);
        packet
    };
    let cases: [(DropReason, Vec<u8>); 10] = [
        (DropReason::Ttl, with(&|p| p[8] = 254)),
        (DropReason::Destination, with(&|p| p[19] = 19)),
        (DropReason::Version, with(&|p| p[20] = 0x41)),
        (DropReason::Type, with(&|p| p[20] = 0x32)),
        (DropReason::Checksum, with(&|p| p[22] ^= 1)),
        (DropReason::Length, with(&|p| p[23] = 2)),
        (DropReason::Vrid, {
            let other = Advertisement { vrid: 11, ..advertisement(254, 100) };
            let message =
                other.encode(&Envelope::multicast(ip("192.168.1.9")), Checksum::MessageOnly).unwrap();
            advertisement_frame([2; 6], ip("192.168.1.9"), &message).unwrap()[14..].to_vec()
        }),
        (DropReason::IpHeader, {
            let mut packet = good();
            packet[10] ^= 1;
            packet
        }),
        (DropReason::IpHeader, with(&|p| p[6] = 0x20)),
        (DropReason::IpHeader, good()[..24].to_vec()),
    ];
    let mut expected: BTreeMap<DropReason, u64> = BTreeMap::new();
    for (reason, packet) in cases {
        link.packet(0, &packet);
        *expected.entry(reason).or_default() += 1;
        assert_eq!(link.routers[0].strays(), &expected);
        assert_eq!(link.state(0), Master, "{reason:?}");
    }
    // What only the virtual router can judge.
    link.hear(0, "192.168.1.1", &advertisement(254, 100));
    assert_eq!(link.dropped(0, DropReason::OwnAddress), 1);
    link.hear(0, "192.168.1.9", &advertisement(254, 0));
    link.hear(0, "192.168.1.9", &advertisement(254, 0));
    assert_eq!(link.dropped(0, DropReason::Interval), 2);
    let v2 = Body::V2 { interval: 1, auth_type: 0, auth_data: [0; 8] };
    link.hear(0, "192.168.1.9", &Advertisement { body: v2, ..advertisement(254, 0) });
    assert_eq!(link.dropped(0, DropReason::VersionDisabled), 1);
    assert_eq!((link.state(0), link.router(0).counters().received), (Master, 0));
    let told = link
        .outputs
        .iter()
        .filter(|(_, _, o)| matches!(o, Output::Event(Event { change: Change::Dropped { .. }, .. })));
    assert_eq!(told.count(), 3, "the same is told once");
    // And the untouched one is what it takes.
    link.packet(0, &good());
    assert_eq!(link.state(0), Backup);
}

#[test]
fn version_2_checks_authentication_and_addresses() {
    let v2 = VirtualRouterConfig { versions: Versions::V2, ..config(100) };
    let mut link = Link::new(vec![v2]);
    link.start();
    let heard = |auth_type, address: &str, priority| Advertisement {
        body: Body::V2 { interval: 1, auth_type, auth_data: *b"password" },
        addresses: vec![ip(address)],
        ..advertisement(priority, 0)
    };
    link.hear(0, "192.168.1.9", &heard(1, "192.168.1.254", 200));
    assert_eq!(link.dropped(0, DropReason::Authentication), 1);
    link.hear(0, "192.168.1.9", &heard(0, "192.168.1.253", 200));
    assert_eq!(link.dropped(0, DropReason::Addresses), 1);
    assert_eq!(link.router(0).peer(), None);
    // Input: other addresses, priority 255. Output: taken (RFC 3768 §7.1).
    link.hear(0, "192.168.1.9", &heard(0, "192.168.1.253", 255));
    assert_eq!(link.router(0).peer().unwrap().priority, 255);
}

#[test]
fn a_resignation_of_somebody_else_does_not_hurry_a_backup() {
    let mut link = Link::new(vec![config(150), config(100)]);
    link.start();
    link.run(Duration::from_secs(5));
    link.hear(1, "192.168.1.9", &advertisement(0, 100));
    link.run(900 * MS);
    assert_eq!(link.states(), [Master, Backup]);
}

#[test]
fn a_master_contradicts_worse_ones_but_is_no_amplifier() {
    // Input: lower priority in Active. Output: ADVERTISEMENT (RFC 9568 §6.4.3).
    let mut link = Link::new(vec![config(150)]);
    link.start();
    link.run(Duration::from_secs(5));
    let sent = link.router(0).counters().sent;
    link.run(300 * MS);
    for _ in 0..1000 {
        link.hear(0, "192.168.1.9", &advertisement(100, 100));
    }
    assert_eq!((link.state(0), link.router(0).counters().sent), (Master, sent + 1));
}

#[test]
fn a_reload_ends_what_changed_and_leaves_the_rest_alone() {
    let other = VirtualRouterConfig { key: key(Family::Ipv4, 20), ..config(100) };
    let mut link = Link::of(vec![vec![config(150), other.clone()]]);
    link.start();
    link.run(Duration::from_secs(5));
    assert_eq!(link.routers[0].routers().map(|r| r.state().0).collect::<Vec<_>>(), [Master, Master]);
    let since = link.routers[0].router(&other.key).unwrap().state().1;
    let now = link.now;
    link.outputs.clear();
    link.routers[0].reload(now, vec![config(120), other.clone()]);
    link.settle();
    let states: Vec<_> = link.routers[0].routers().map(|r| r.state()).collect();
    assert_eq!(states, [(Backup, now), (Master, since)]);
    // It resigned, and left its addresses.
    assert!(link.outputs.iter().any(|(_, _, o)| *o == Output::Leave(key(Family::Ipv4, 10))));
    assert!(
        link.outputs.iter().any(
            |(_, _, o)| matches!(o, Output::Send { message, .. } if message[1] == 10 && message[2] == 0)
        )
    );
    link.routers[0].reload(now, Vec::new());
    assert_eq!(link.routers[0].routers().count(), 0);
    assert_eq!(link.routers[0].poll_timeout(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is lost or cut: when the link is whole again for a while, there is exactly one master, of the
    /// greatest priority; and no deadline is ever missed or in the past.
    #[test]
    fn in_the_end_there_is_one_master(
        priorities in proptest::collection::vec(1u8..=254, 2..5),
        cuts in proptest::collection::vec((0usize..5, any::<bool>(), 0u64..8000), 0..20),
    ) {
        let best = priorities.iter().copied().max().unwrap();
        let mut link = Link::new(priorities.iter().map(|p| config(*p)).collect());
        link.start();
        for (router, cut, millis) in cuts {
            let router = router % priorities.len();
            link.cut[router] = cut;
            link.run(Duration::from_millis(millis));
        }
        link.cut.fill(false);
        link.run(Duration::from_secs(15));
        let masters: Vec<_> = (0..priorities.len()).filter(|r| link.state(*r) == Master).collect();
        prop_assert_eq!(masters.len(), 1, "{:?}", link.states());
        prop_assert_eq!(priorities[masters[0]], best);
        // Takes and leaves alternate.
        for router in 0..priorities.len() {
            let mut has = false;
            for (_, at, output) in &link.outputs {
                match output {
                    Output::Take(_) if *at == router => { prop_assert!(!has); has = true; }
                    Output::Leave(_) if *at == router => { prop_assert!(has); has = false; }
                    _ => {}
                }
            }
            prop_assert_eq!(has, link.state(router) == Master);
        }
    }

    #[test]
    fn no_packet_panics(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut link = Link::new(vec![config(100)]);
        link.start();
        link.packet(0, &packet);
        prop_assert_eq!(link.state(0), Backup);
    }
}

//! The optional fields of the LISP header, and the checks of received packets.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::testing::{Router, forward, prefix, udp};
use super::*;
use crate::fib::{FibUpdate, HeaderOptions, Punt, Site, SiteState, SourceCheck};
use crate::types::{Eid, InstanceId, MapVersion};
use crate::wire::data::DataHeader;

const THEIRS: &str = "203.0.113.1";
const OTHER: &str = "203.0.113.2";
const STRANGER: &str = "198.51.100.66";
const SECOND: Duration = Duration::from_secs(1);

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn eid(s: &str) -> Eid {
    Eid::new(InstanceId::DEFAULT, ip(s))
}

fn versions(source: u16, destination: u16) -> Option<(MapVersion, MapVersion)> {
    Some((MapVersion::new(source), MapVersion::new(destination)))
}

/// A router with our site 10.1.0.0/16 (version 10, locators 0 and 2 up) and that of 10.2.0.0/16 (version 20,
/// two locators) in instances 0 and 7.
pub(super) fn router(options: HeaderOptions) -> (Router, Arc<SiteState>) {
    let mut router = Router::new();
    router.fib.apply(FibUpdate::Options(options));
    let state = Arc::new(SiteState::default());
    for iid in [0, 7] {
        router.set(iid, "10.2.0.0/16", forward(THEIRS));
        let ours = Site { local: true, version: MapVersion::new(10), status: Some(0b101), ..Site::default() };
        router.fib.apply(FibUpdate::Site { prefix: prefix(iid, "10.1.0.0/16"), site: Arc::new(ours) });
        site(&mut router, iid, 20, &state);
    }
    (router, state)
}

fn site(router: &mut Router, iid: u32, version: u16, state: &Arc<SiteState>) {
    let theirs = Site {
        rlocs: [ip(THEIRS), ip(OTHER)].into(),
        version: MapVersion::new(version),
        echoes: true,
        state: state.clone(),
        ..Site::default()
    };
    router.fib.apply(FibUpdate::Site { prefix: prefix(iid, "10.2.0.0/16"), site: Arc::new(theirs) });
    router.fib.publish();
}

fn sent(router: &mut Router, iid: u32) -> DataHeader {
    let (sent, _) = router.encap(iid, &udp("10.1.0.1", "10.2.0.1", 9, b"x"));
    DataHeader::parse(&sent[0].payload).unwrap()
}

/// How many of `count` packets from 10.2.0.1 enter, that came together from `rloc` with `header`.
fn received(router: &mut Router, rloc: &str, header: DataHeader, count: usize) -> usize {
    let packet = [&header.to_bytes()[..], &udp("10.2.0.1", "10.1.0.1", 9, b"x")].concat();
    let outer = Outer { remote: ip(rloc), ttl: Some(64), tos: 0 };
    router.decap_all(&[(outer, packet.repeat(count), packet.len() as u16)]).len()
}

fn plain() -> DataHeader {
    DataHeader::default()
}

#[test]
fn nothing_is_said_or_checked_unless_it_is_on() {
    let (mut router, state) = router(HeaderOptions::default());
    state.owe(1, router.now);
    assert_eq!(sent(&mut router, 0), plain());
    assert_eq!(sent(&mut router, 7), DataHeader::of_instance(InstanceId::new(7).unwrap()));
    let odd = DataHeader {
        versions: versions(1, 4000),
        locator_status: Some(0),
        ..DataHeader::of_instance(InstanceId::DEFAULT)
    };
    assert_eq!(received(&mut router, STRANGER, odd, 3), 3);
    let nonce = DataHeader { nonce: Some(1), echo_nonce: true, ..plain() };
    assert_eq!(received(&mut router, THEIRS, nonce, 1), 1);
    assert_eq!((router.punts.len(), state.heard()), (0, None));
}

#[test]
fn a_forged_outer_source_is_dropped_and_counted_by_packets() {
    for check in [SourceCheck::Known, SourceCheck::Strict] {
        let (mut router, _) = router(HeaderOptions { source_check: check, ..HeaderOptions::default() });
        assert_eq!(received(&mut router, THEIRS, plain(), 3), 3);
        assert_eq!(received(&mut router, OTHER, plain(), 3), 3, "a locator that packets are not sent to");
        assert_eq!(router.dropped(), None);
        assert_eq!(received(&mut router, STRANGER, plain(), 3), 0);
        assert_eq!(router.dropped(), Some((DropReason::SourceRloc, 3)));
        assert_eq!(router.punts, []);
    }
}

#[test]
fn what_is_sent_on_from_where_the_destination_came_from_enters() {
    for check in [SourceCheck::Known, SourceCheck::Strict] {
        let (mut router, _) = router(HeaderOptions { source_check: check, ..HeaderOptions::default() });
        let former = |router: &mut Router, former: Box<[IpAddr]>| {
            let moved = Site { local: true, former, ..Site::default() };
            router.set(0, "10.1.0.1/32", crate::fib::FibAction::Local);
            router.fib.apply(FibUpdate::Site { prefix: prefix(0, "10.1.0.1/32"), site: Arc::new(moved) });
            router.fib.publish();
        };
        former(&mut router, [ip(STRANGER)].into());
        assert_eq!(received(&mut router, STRANGER, plain(), 3), 3);
        assert_eq!(received(&mut router, "192.0.2.99", plain(), 1), 0);
        let elsewhere = [&[0; 8][..], &udp("10.2.0.1", "10.1.0.2", 9, b"x")].concat();
        let outer = Outer { remote: ip(STRANGER), ttl: Some(64), tos: 0 };
        assert!(router.decap_all(&[(outer, elsewhere, 0)]).is_empty(), "to what came from there alone");
        former(&mut router, [].into());
        assert_eq!(received(&mut router, STRANGER, plain(), 1), 0, "for a while alone");
        assert_eq!(router.dropped(), Some((DropReason::SourceRloc, 3)));
    }
}

#[test]
fn an_unknown_source_is_asked_for_once_and_dropped_only_where_the_check_is_strict() {
    let unknown = [&[0; 8][..], &udp("10.9.0.1", "10.1.0.1", 9, b"x")].concat();
    for (options, enters) in [
        (HeaderOptions { source_check: SourceCheck::Known, ..HeaderOptions::default() }, true),
        (HeaderOptions { glean: true, ..HeaderOptions::default() }, true),
        (HeaderOptions { source_check: SourceCheck::Strict, ..HeaderOptions::default() }, false),
    ] {
        let (mut router, _) = router(options);
        for _ in 0..20 {
            assert_eq!(!router.decap(64, 0, &unknown).is_empty(), enters);
        }
        let punt =
            Punt::Unverified { source: eid("10.9.0.1"), destination: ip("10.1.0.1"), rloc: ip(THEIRS) };
        assert_eq!(router.punts, std::slice::from_ref(&punt));
        let dropped = (!enters).then_some((DropReason::SourceUnknown, 20));
        assert_eq!(router.dropped(), dropped);
        // Nobody answered: after some seconds it may be asked for again.
        router.now += SECOND * 6;
        router.decap(64, 0, &unknown);
        assert_eq!(router.punts, [punt.clone(), punt]);

        // A negative mapping says that nobody has the address.
        router.set(0, "10.9.0.0/16", crate::fib::FibAction::Negative(crate::types::Action::Drop));
        let negative = FibUpdate::Site { prefix: prefix(0, "10.9.0.0/16"), site: Arc::default() };
        router.fib.apply(negative);
        router.fib.publish();
        router.now += SECOND * 60;
        assert_eq!(!router.decap(64, 0, &unknown).is_empty(), enters);
        assert_eq!(router.punts.len(), 2, "that is an answer");
    }
}

#[test]
fn a_flood_of_forged_sources_makes_few_punts() {
    let (mut router, _) =
        router(HeaderOptions { source_check: SourceCheck::Strict, ..HeaderOptions::default() });
    for n in 0..5000u32 {
        let source = IpAddr::from((0x0b00_0000 + n).to_be_bytes());
        let packet = [&[0; 8][..], &udp(&source.to_string(), "10.1.0.1", 9, b"x")].concat();
        router.decap(64, 0, &packet);
    }
    assert_eq!(router.dropped(), Some((DropReason::SourceUnknown, 5000)));
    assert_eq!(router.punts.len(), 100);
}

#[test]
fn locator_status_bits_are_those_of_the_source_s_site() {
    let options = HeaderOptions { locator_status: true, ..HeaderOptions::default() };
    let (mut router, _) = router(options);
    assert_eq!(sent(&mut router, 0), DataHeader { locator_status: Some(0b101), ..plain() });
    let seven = DataHeader::of_instance(InstanceId::new(7).unwrap());
    assert_eq!(sent(&mut router, 7), DataHeader { locator_status: Some(0b101), ..seven });
    // More than eight bits don't fit beside an instance ID.
    let site = Site { local: true, status: Some(0xf_ff05), ..Site::default() };
    for iid in [0, 7] {
        let site = Arc::new(site.clone());
        router.fib.apply(FibUpdate::Site { prefix: prefix(iid, "10.1.0.0/16"), site });
    }
    router.fib.publish();
    assert_eq!(sent(&mut router, 0).locator_status, Some(0xf_ff05));
    assert_eq!(sent(&mut router, 7).locator_status, Some(5));
}

#[test]
fn changed_locator_status_bits_are_told_once_and_only_from_a_listed_locator() {
    let options = HeaderOptions { locator_status: true, ..HeaderOptions::default() };
    let (mut router, _) = router(options);
    let says = |bits| DataHeader { locator_status: Some(bits), ..plain() };
    let told = |rloc: &str, status| Punt::LocatorStatus { source: eid("10.2.0.1"), rloc: ip(rloc), status };
    assert_eq!(received(&mut router, THEIRS, says(0b11), 5), 5);
    assert_eq!(received(&mut router, STRANGER, says(0b00), 5), 5);
    assert_eq!(router.punts, [], "all up is what is assumed; strangers are not heard");
    assert_eq!(received(&mut router, THEIRS, says(0b01), 5), 5);
    assert_eq!(received(&mut router, OTHER, says(0xffff_fff1), 5), 5);
    assert_eq!(router.punts, [told(THEIRS, 0xffff_fffd)], "bits beyond the locators mean nothing");
    received(&mut router, OTHER, says(0b11), 1);
    assert_eq!(router.punts.len(), 1, "not so soon after the last change");
    router.now += SECOND;
    received(&mut router, OTHER, says(0b11), 1);
    assert_eq!(router.punts[1..], [told(OTHER, 0xffff_ffff)]);
}

#[test]
fn beside_an_instance_id_only_eight_locators_have_a_bit() {
    let options = HeaderOptions { locator_status: true, ..HeaderOptions::default() };
    let (mut router, _) = router(options);
    let rlocs: Box<[IpAddr]> = (1..=10).map(|n| IpAddr::from([203, 0, 113, n])).collect();
    for iid in [0, 7] {
        let site = Site { rlocs: rlocs.clone(), ..Site::default() };
        router.fib.apply(FibUpdate::Site { prefix: prefix(iid, "10.2.0.0/16"), site: Arc::new(site) });
    }
    router.fib.publish();
    received(&mut router, THEIRS, DataHeader { locator_status: Some(0x01), ..plain() }, 1);
    let seven = DataHeader::of_instance(InstanceId::new(7).unwrap());
    received(&mut router, THEIRS, DataHeader { locator_status: Some(0x7f), ..seven }, 1);
    let status: Vec<u32> = router
        .punts
        .iter()
        .map(|p| if let Punt::LocatorStatus { status, .. } = p { *status } else { panic!("{p:?}") })
        .collect();
    assert_eq!(status, [0xffff_fc01, 0xffff_ff7f]);
}

#[test]
fn versions_are_sent_where_the_destination_has_one() {
    let options = HeaderOptions { map_version: true, ..HeaderOptions::default() };
    let (mut router, state) = router(options);
    assert_eq!(sent(&mut router, 0), DataHeader { versions: versions(10, 20), ..plain() });
    // RFC 9302 §6.1: the null version is never a destination's.
    site(&mut router, 0, 0, &state);
    assert_eq!(sent(&mut router, 0), plain());
    // But a source may have none.
    site(&mut router, 0, 20, &state);
    let ours = Site { local: true, ..Site::default() };
    router.fib.apply(FibUpdate::Site { prefix: prefix(0, "10.1.0.0/16"), site: Arc::new(ours) });
    router.fib.publish();
    assert_eq!(sent(&mut router, 0).versions, versions(0, 20));
}

#[test]
fn versions_are_checked_as_rfc_9302_says() {
    let source = eid("10.2.0.1");
    let stale = Punt::StaleVersion { source, destination: ip("10.1.0.1"), rloc: ip(THEIRS) };
    let new = Punt::NewVersion { source };
    for (source, destination, verdict, punt) in [
        (20, 10, None, None),
        (0, 10, None, None),                                  // no version of the source
        (20, 9, None, Some(&stale)),                          // §7.1 case 3
        (20, 10 + 2049, None, Some(&stale)),                  // the same around the circle
        (20, 11, Some(DropReason::DestinationVersion), None), // §7.1 case 2
        (20, 10 + 2048, Some(DropReason::DestinationVersion), None),
        (20, 0, Some(DropReason::DestinationVersion), None), // a protocol violation
        (21, 10, None, Some(&new)),                          // §7.2 case 2
        (19, 10, Some(DropReason::SourceVersion), None),     // §7.2 case 3
    ] {
        let options = HeaderOptions { map_version: true, ..HeaderOptions::default() };
        let (mut router, _) = router(options);
        let header = DataHeader { versions: versions(source, destination), ..plain() };
        let entered = received(&mut router, THEIRS, header, 4);
        assert_eq!(entered, if verdict.is_some() { 0 } else { 4 }, "{source} {destination}");
        assert_eq!(router.dropped(), verdict.map(|reason| (reason, 4)));
        assert_eq!(router.punts.iter().collect::<Vec<_>>(), punt.into_iter().collect::<Vec<_>>());
        // Not per packet, but again after a while.
        received(&mut router, THEIRS, header, 4);
        assert_eq!(router.punts.len(), usize::from(punt.is_some()));
        router.now += SECOND * 3;
        received(&mut router, THEIRS, header, 4);
        assert_eq!(router.punts.len(), 2 * usize::from(punt.is_some()));
    }
}

#[test]
fn a_newer_version_counts_only_from_a_locator_of_the_mapping() {
    let (mut router, _) = router(HeaderOptions { map_version: true, ..HeaderOptions::default() });
    let newer = DataHeader { versions: versions(21, 10), ..plain() };
    // Anybody can forge that, and with it Map-Requests; the packet itself is taken as without versions.
    assert_eq!(received(&mut router, STRANGER, newer, 4), 4);
    assert_eq!(router.punts, []);
    assert_eq!(received(&mut router, OTHER, newer, 4), 4);
    assert_eq!(router.punts, [Punt::NewVersion { source: eid("10.2.0.1") }]);
}

#[test]
fn who_was_told_of_the_new_version_ten_times_in_vain_is_no_longer_heard() {
    // RFC 9302 §7.1: after 10 retries the packets SHOULD be dropped, and Map-Requests are sent every 30
    // seconds.
    for drop_stale in [true, false] {
        let options = HeaderOptions { map_version: true, drop_stale, ..HeaderOptions::default() };
        let (mut router, _) = router(options);
        let stale = DataHeader { versions: versions(20, 9), ..plain() };
        let current = DataHeader { versions: versions(20, 10), ..plain() };
        let mut dropped_after = None;
        for tenth in 0..450u32 {
            // The site's other xTR knows the new mapping, which says nothing of this one.
            assert_eq!(received(&mut router, OTHER, current, 1), 1);
            if received(&mut router, THEIRS, stale, 1) == 0 {
                dropped_after.get_or_insert((tenth, router.punts.len()));
            }
            router.now += SECOND / 10;
        }
        assert_eq!(dropped_after, drop_stale.then_some((301, 11)), "once told, and ten times again");
        // From then on it is told rarely, but is.
        assert_eq!(router.punts.len(), 11);
        (0..200).for_each(|_| {
            router.now += SECOND / 10;
            received(&mut router, THEIRS, stale, 1);
        });
        assert_eq!(router.punts.len(), 12);
        assert!(router.punts.iter().all(|punt| matches!(punt, Punt::StaleVersion { .. })));
        // A single packet after the current version, and it has its patience back.
        assert_eq!(received(&mut router, THEIRS, current, 1), 1);
        assert_eq!(received(&mut router, THEIRS, stale, 1), 1);
    }
}

#[test]
fn status_bits_of_another_version_of_the_mapping_mean_nothing() {
    let options = HeaderOptions { map_version: true, locator_status: true, ..HeaderOptions::default() };
    let (mut router, state) = router(options);
    let says = |version| DataHeader { versions: versions(version, 10), locator_status: Some(0), ..plain() };
    received(&mut router, THEIRS, says(21), 1);
    received(&mut router, THEIRS, DataHeader { locator_status: Some(0), ..plain() }, 1);
    assert_eq!(router.punts, [Punt::NewVersion { source: eid("10.2.0.1") }]);
    received(&mut router, THEIRS, says(20), 1);
    assert_eq!(router.punts.len(), 2);
    // A site that has no versions can't say which mapping it means.
    site(&mut router, 0, 0, &state);
    router.now += SECOND;
    received(&mut router, THEIRS, DataHeader { locator_status: Some(3), ..plain() }, 1);
    assert_eq!(router.punts.len(), 3);
}

fn echoing() -> HeaderOptions {
    HeaderOptions { echo_nonce: Some(SECOND * 5), map_version: true, ..HeaderOptions::default() }
}

#[test]
fn a_nonce_that_the_site_wants_back_goes_with_the_packets_to_it() {
    let (mut router, _) = router(echoing());
    let asks = DataHeader { nonce: Some(0x12_3456), echo_nonce: true, ..plain() };
    received(&mut router, STRANGER, asks, 1);
    assert_eq!(sent(&mut router, 0).nonce, None, "strangers get nothing");
    received(&mut router, OTHER, asks, 1);
    assert_eq!(sent(&mut router, 0), DataHeader { nonce: Some(0x12_3456), ..plain() });
    // A nonce of our own takes turns with it (RFC 9300 §10.1), the versions wait (RFC 9302 §4).
    router.fib.apply(FibUpdate::EchoRequest { rloc: ip(THEIRS), nonce: Some(0) });
    let both: Vec<_> = (0..4).map(|_| sent(&mut router, 0)).map(|h| (h.nonce, h.echo_nonce)).collect();
    let (echo, ask) = ((Some(0x12_3456), false), (Some(0), true));
    assert_eq!(both, [ask, echo, ask, echo]);
    router.now += SECOND * 2;
    assert_eq!(sent(&mut router, 0), DataHeader { nonce: Some(0), echo_nonce: true, ..plain() });
    router.fib.apply(FibUpdate::EchoRequest { rloc: ip(THEIRS), nonce: None });
    assert_eq!(sent(&mut router, 0), DataHeader { versions: versions(10, 20), ..plain() });
}

#[test]
fn every_segment_of_a_super_packet_has_the_nonce() {
    let (mut router, _) = router(echoing());
    router.fib.apply(FibUpdate::EchoRequest { rloc: ip(THEIRS), nonce: Some(77) });
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4([10, 1, 0, 1], [10, 2, 0, 1], 64)
        .tcp(1000, 80, 1, 500)
        .ack(1)
        .write(&mut packet, &[1; 2500])
        .unwrap();
    let vnet = VnetHeader {
        needs_csum: true,
        gso: Some(Gso::TcpV4),
        ecn: false,
        hdr_len: 40,
        gso_size: 1000,
        csum_start: 20,
        csum_offset: 16,
    };
    let (sent, _) = router.encap_all(0, &[(packet, vnet)]);
    let headers: Vec<_> = sent.iter().map(|s| DataHeader::parse(&s.payload).unwrap()).collect();
    assert_eq!(headers, [DataHeader { nonce: Some(77), echo_nonce: true, ..plain() }; 3]);
}

#[test]
fn an_echo_counts_once_and_only_for_a_nonce_that_was_asked_for() {
    let (mut router, state) = router(echoing());
    router.fib.apply(FibUpdate::EchoRequest { rloc: ip(THEIRS), nonce: Some(77) });
    let echo = |nonce| DataHeader { nonce: Some(nonce), ..plain() };
    received(&mut router, THEIRS, echo(78), 2);
    received(&mut router, STRANGER, echo(77), 2);
    assert_eq!((router.punts.len(), state.heard()), (0, Some(router.now)));
    // It may come from another locator of the site than it was sent to.
    received(&mut router, OTHER, echo(77), 2);
    received(&mut router, THEIRS, echo(77), 2);
    assert_eq!(router.punts, [Punt::Echoed { rloc: ip(THEIRS) }]);
    // What is not asked for any more is not taken.
    router.fib.apply(FibUpdate::EchoRequest { rloc: ip(THEIRS), nonce: Some(5) });
    router.fib.apply(FibUpdate::EchoRequest { rloc: ip(THEIRS), nonce: None });
    received(&mut router, THEIRS, echo(5), 2);
    assert_eq!(router.punts.len(), 1);
}

#[test]
fn an_echo_is_due_only_where_packets_go_both_ways() {
    let (mut router, state) = router(echoing());
    let due = Punt::EchoDue { rloc: ip(THEIRS), eid: eid("10.2.0.1") };
    sent(&mut router, 0);
    assert_eq!(router.punts, [], "one way only");
    received(&mut router, OTHER, plain(), 1);
    for _ in 0..3 {
        sent(&mut router, 0);
    }
    assert_eq!(router.punts, std::slice::from_ref(&due));
    router.now += SECOND * 5;
    sent(&mut router, 0);
    assert_eq!(router.punts, [due.clone(), due.clone()]);
    router.now += SECOND * 60;
    sent(&mut router, 0);
    assert_eq!(router.punts.len(), 2, "nothing came for a minute");
    // Nor where the site does not echo.
    let deaf = Site { rlocs: [ip(THEIRS)].into(), state, ..Site::default() };
    router.fib.apply(FibUpdate::Site { prefix: prefix(0, "10.2.0.0/16"), site: Arc::new(deaf) });
    router.fib.publish();
    received(&mut router, THEIRS, plain(), 1);
    sent(&mut router, 0);
    assert_eq!(router.punts.len(), 2);
}

#[test]
fn what_is_known_of_a_site_goes_with_its_entry() {
    let options = HeaderOptions { source_check: SourceCheck::Strict, ..HeaderOptions::default() };
    let (mut router, _) = router(options);
    router.fib.apply(FibUpdate::Remove { prefix: prefix(0, "10.2.0.0/16") });
    router.fib.publish();
    assert_eq!(received(&mut router, THEIRS, plain(), 1), 0);
    assert_eq!(router.dropped(), Some((DropReason::SourceUnknown, 1)));
    router.fib.apply(FibUpdate::Options(HeaderOptions::default()));
    router.fib.publish();
    assert_eq!(received(&mut router, STRANGER, plain(), 1), 1);
}

proptest! {
    /// Whatever header comes, with everything on: each packet enters or is counted, and what is punted is
    /// bounded.
    #[test]
    fn any_header_is_taken_or_counted(
        headers in proptest::collection::vec((any::<[u8; 8]>(), 0usize..3, any::<bool>()), 1..60)
    ) {
        let options = HeaderOptions {
            source_check: SourceCheck::Known,
            locator_status: true,
            map_version: true,
            drop_stale: true,
            echo_nonce: Some(SECOND),
            glean: true,
        };
        let (mut router, _) = router(options);
        router.fib.apply(FibUpdate::EchoRequest { rloc: ip(THEIRS), nonce: Some(77) });
        let mut entered = 0;
        for (header, from, known) in &headers {
            let source = if *known { "10.2.0.1" } else { "10.9.0.1" };
            let packet = [&header[..], &udp(source, "10.1.0.1", 9, b"x")].concat();
            let outer = Outer { remote: ip([THEIRS, OTHER, STRANGER][*from]), ttl: Some(9), tos: 0 };
            entered += router.decap_all(&[(outer, packet, 0)]).len() as u64;
            sent(&mut router, 0);
        }
        prop_assert_eq!(entered + router.counters.totals().dropped_in_all(), headers.len() as u64);
        // Within one moment: one of each kind for each instance's site, one source, one due, one echo.
        prop_assert!(router.punts.len() <= 3 * 2 + 2 + 1 + 1 + 2, "{:?}", router.punts);
    }

    /// What is sent with everything on is what a receiver that expects it takes without a word.
    #[test]
    fn the_two_directions_agree(
        version in 1u16..4096, theirs in 1u16..4096, status: u32, nonce in 0u32..1 << 24, ask: bool
    ) {
        let options = HeaderOptions {
            source_check: SourceCheck::Strict,
            locator_status: true,
            map_version: true,
            drop_stale: true,
            echo_nonce: Some(SECOND),
            glean: false,
        };
        let (mut router, state) = router(options);
        site(&mut router, 0, theirs, &state);
        let ours = MapVersion::new(version);
        let ours = Site { local: true, version: ours, status: Some(status), ..Site::default() };
        router.fib.apply(FibUpdate::Site { prefix: prefix(0, "10.1.0.0/16"), site: Arc::new(ours) });
        router.fib.publish();
        if ask {
            router.fib.apply(FibUpdate::EchoRequest { rloc: ip(THEIRS), nonce: Some(nonce) });
        }
        let header = sent(&mut router, 0);
        prop_assert_eq!(header.locator_status, Some(status));
        prop_assert_eq!(header.nonce, ask.then_some(nonce));
        prop_assert_eq!(header.echo_nonce, ask);
        prop_assert_eq!(header.versions, (!ask).then(|| versions(version, theirs).unwrap()));
    }
}

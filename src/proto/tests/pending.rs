//! What is asked for while much is asked for: a scan, forged packets, entries inside others (RFC 9301 §5.3,
//! §5.5, §6.1).

use std::time::Duration;

use crate::fib::{FibAction, Punt};
use crate::proto::control::Input;
use crate::proto::stats::DropReason;
use crate::proto::testing::*;
use crate::types::{Eid, EidPrefix, Ttl};
use crate::wire::{EidRecord, MapRequest, Message};

const SECOND: Duration = Duration::from_secs(1);

/// An ITR of 10.1.0.0/16 that nobody answers by itself, with room for so many Map-Requests.
fn itr(pending_requests: usize) -> (Network, usize) {
    let mut net = Network::new(7);
    let mut config = xtr(&["10.1.0.0/16"], &["198.51.100.1"], "192.0.2.1", "k");
    config.etr = None;
    config.timers.pending_requests = pending_requests;
    let id = net.add(&["198.51.100.1"], config);
    (net, id)
}

fn smr(eid: &str) -> Vec<u8> {
    encode(MapRequest { smr: true, ..map_request(eid, "203.0.113.1", 1) })
}

/// What a router asked Map-Resolvers for, whether because of an SMR, and with which nonce.
fn asked(net: &mut Network, id: usize) -> Vec<(EidPrefix, MapRequest)> {
    let sent = net.take_sent(id);
    let requests = sent.iter().filter(|(_, m)| matches!(m, Message::Ecm(_))).map(|(_, m)| inner(m).1);
    requests.map(|r| (r.records[0].to_prefix().unwrap(), r)).collect()
}

fn minutes(ttl: u32, record: EidRecord) -> EidRecord {
    EidRecord { ttl: Ttl(ttl), ..record }
}

#[test]
fn entries_in_use_are_refreshed_and_smrs_followed_while_a_host_scans() {
    let (mut net, id) = itr(100);
    let good = prefix("10.2.0.0/16");
    let answer = |last: &str| vec![minutes(2, record("10.2.0.0/16", &[last]))];
    net.learn(id, "10.2.0.9", answer("203.0.113.1"));
    let (mut refreshed, mut scanned) = (0, 0u32);
    for second in 0..400u32 {
        for _ in 0..20 {
            scanned += 1;
            let target = std::net::Ipv4Addr::from_bits(0x0b00_0000 + scanned);
            net.packet(id, "10.1.0.66", Eid::new(Default::default(), target.into()));
        }
        let sent = net.packet(id, "10.1.0.9", eid("10.2.0.9"));
        assert!(matches!(sent, Some(FibAction::Forward(_))), "after {second} s");
        if second == 50 {
            net.deliver(id, "203.0.113.1:4342", &smr("10.2.0.0/16"));
        }
        for (what, request) in asked(&mut net, id) {
            if what == good {
                assert_eq!(request.smr_invoked, second == 50);
                net.reply_nonce(id, request.nonce, answer("203.0.113.1"));
                refreshed += 1;
            }
        }
        assert!(net.nodes[id].control.pending().count() <= 100);
        net.run_for(SECOND);
    }
    assert!((4..=6).contains(&refreshed), "{refreshed}");
    assert!(net.nodes[id].dropped(DropReason::PendingSource) > 1000, "the scan went on");
}

#[test]
fn a_refresh_without_room_is_tried_again_before_the_entry_ends() {
    let (mut net, id) = itr(40);
    net.learn(id, "10.2.0.9", vec![minutes(2, record("10.2.0.0/16", &["203.0.113.1"]))]);
    net.run_for(80 * SECOND);
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    // Forty hosts, one destination each: nothing rests that could make room.
    for n in 0..60 {
        net.packet(id, &format!("10.1.1.{n}"), eid(&format!("10.3.0.{n}")));
    }
    net.take_sent(id);
    net.run_for(15 * SECOND);
    assert!(asked(&mut net, id).iter().all(|(what, _)| *what != prefix("10.2.0.0/16")));
    // An SMR that nothing could be done about doesn't count as followed.
    net.deliver(id, "203.0.113.1:4342", &smr("10.2.0.0/16"));
    net.packet(id, "10.1.0.9", eid("10.3.0.1"));
    let waiting = net.nodes[id].control.pending().find(|(e, _)| **e == eid("10.3.0.1")).unwrap().1.nonce;
    net.reply_nonce(id, waiting, vec![record("10.3.0.0/24", &["203.0.113.3"])]);
    net.run_for(SECOND + SECOND / 5);
    let again = asked(&mut net, id);
    assert!(again.iter().any(|(what, _)| *what == prefix("10.2.0.0/16")), "{again:?}");
}

#[test]
fn an_entry_is_refreshed_though_its_first_address_lies_in_another_one() {
    let (mut net, id) = itr(100);
    let wide = |rloc| minutes(2, record("10.2.0.0/16", &[rloc]));
    let narrow = |rloc| minutes(2, record("10.2.0.0/24", &[rloc]));
    net.learn(id, "10.2.7.9", vec![wide("203.0.113.1"), narrow("203.0.113.7")]);
    net.take_sent(id);
    net.run_for(80 * SECOND);
    net.packet(id, "10.1.0.9", eid("10.2.7.9"));
    net.packet(id, "10.1.0.9", eid("10.2.0.9"));
    net.run_for(12 * SECOND);
    // Both are asked for, each of whom has it: the Map-Resolver goes by the EID.
    let requests = net.take_sent(id);
    let find = |what: &str| {
        let of = |m: &&Message| inner(m).1.records[0].to_prefix().unwrap() == prefix(what);
        let message = requests.iter().map(|(_, m)| m).find(of).unwrap_or_else(|| panic!("{what}"));
        let (ecm, request) = inner(message);
        (Eid::new(Default::default(), ecm.destination.ip()), request.nonce)
    };
    let ((of_wide, wide_nonce), (of_narrow, narrow_nonce)) = (find("10.2.0.0/16"), find("10.2.0.0/24"));
    assert!(prefix("10.2.0.0/24").contains(&of_narrow));
    assert!(prefix("10.2.0.0/16").contains(&of_wide) && !prefix("10.2.0.0/24").contains(&of_wide));
    // The answer has both (RFC 9301 §5.5), and the less specific one is the one that answers.
    net.reply_nonce(id, wide_nonce, vec![wide("203.0.113.2"), narrow("203.0.113.8")]);
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyUnasked), 0);
    assert_eq!(net.nodes[id].paths(eid("10.2.7.9"))[0].0, ip("203.0.113.2"));
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.8"));
    assert_eq!(net.nodes[id].control.pending().count(), 0, "it spoke of both");
    net.reply_nonce(id, narrow_nonce, vec![narrow("203.0.113.66")]);
    assert_eq!(net.nodes[id].dropped(DropReason::ReplyNonce), 1);
    // Where it speaks of one of them only, the other is still waited for.
    net.deliver(id, "203.0.113.2:4342", &smr("10.2.0.0/16"));
    net.deliver(id, "203.0.113.8:4342", &smr("10.2.0.0/24"));
    let requests = asked(&mut net, id);
    assert_eq!(requests.len(), 2);
    let nonce = |what: &str| requests.iter().find(|(p, _)| *p == prefix(what)).unwrap().1.nonce;
    net.reply_nonce(id, nonce("10.2.0.0/16"), vec![wide("203.0.113.3")]);
    net.reply_nonce(id, nonce("10.2.0.0/24"), vec![narrow("203.0.113.9")]);
    assert_eq!(net.nodes[id].paths(eid("10.2.7.9"))[0].0, ip("203.0.113.3"));
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.9"));
}

#[test]
fn an_smr_restarts_what_rests_and_marks_what_is_asked_for() {
    let (mut net, id) = itr(100);
    net.learn(id, "10.2.0.9", vec![minutes(60, record("10.2.0.0/16", &["203.0.113.1"]))]);
    net.take_sent(id);
    net.deliver(id, "203.0.113.1:4342", &smr("10.2.0.0/16"));
    net.run_for(42 * SECOND);
    assert!(net.nodes[id].control.pending().next().unwrap().1.resting);
    net.take_sent(id);
    net.deliver(id, "203.0.113.1:4342", &smr("10.2.0.0/16"));
    let again = asked(&mut net, id);
    assert_eq!(again.len(), 1);
    assert!(again[0].1.smr_invoked);
    net.reply_nonce(id, again[0].1.nonce, vec![record("10.2.0.0/16", &["203.0.113.2"])]);
    assert_eq!(net.nodes[id].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.2"));
    // One that is being asked for anyway: from now on because of the SMR.
    net.learn(id, "10.3.0.9", vec![minutes(2, record("10.3.0.0/16", &["203.0.113.1"]))]);
    net.run_for(80 * SECOND);
    net.packet(id, "10.1.0.9", eid("10.3.0.9"));
    net.run_for(11 * SECOND);
    assert!(asked(&mut net, id).iter().all(|(_, request)| !request.smr_invoked));
    net.deliver(id, "203.0.113.1:4342", &smr("10.3.0.0/16"));
    assert!(net.take_sent(id).is_empty(), "once per second");
    net.run_for(3 * SECOND);
    let again = asked(&mut net, id);
    assert!(!again.is_empty() && again.iter().all(|(_, request)| request.smr_invoked));
}

#[test]
fn neither_a_scan_nor_forged_packets_keep_new_sources_from_being_verified() {
    let (mut net, id) = itr(200);
    let unverified = |net: &mut Network, source: Eid| {
        let rloc = ip("203.0.113.66");
        net.handle(id, Input::Punt(Punt::Unverified { source, destination: ip("10.1.0.9"), rloc }));
    };
    let asks = |net: &mut Network, what: &str| {
        asked(net, id).iter().any(|(p, _)| *p == Eid::new(Default::default(), ip(what)).to_prefix())
    };
    // A local scan that fills what one host may have.
    for n in 0..250 {
        net.packet(id, "10.1.0.66", eid(&format!("10.2.0.{n}")));
    }
    unverified(&mut net, eid("10.9.0.1"));
    assert!(asks(&mut net, "10.9.0.1"));
    // Forged packets, twenty a second: never more than a quarter of the table, and the new one still gets its
    // turn.
    for n in 0..400u32 {
        net.run_for(SECOND / 20);
        unverified(
            &mut net,
            Eid::new(Default::default(), std::net::Ipv4Addr::from_bits(0x0c00_0000 + n).into()),
        );
        let forged =
            net.nodes[id].control.pending().filter(|(e, p)| prefix("12.0.0.0/8").contains(e) && !p.resting);
        assert!(forged.count() <= 50);
    }
    unverified(&mut net, eid("10.9.0.2"));
    assert!(asks(&mut net, "10.9.0.2"));
    // What a packet waits for is not let go for such.
    net.packet(id, "10.1.0.9", eid("10.9.0.2"));
    for n in 0..400u32 {
        net.run_for(SECOND / 100);
        unverified(
            &mut net,
            Eid::new(Default::default(), std::net::Ipv4Addr::from_bits(0x0d00_0000 + n).into()),
        );
    }
    assert!(net.nodes[id].control.pending().any(|(e, p)| *e == eid("10.9.0.2") && !p.resting));
    // A flood draws no flood.
    net.run_for(SECOND);
    net.take_sent(id);
    for n in 0..5000u32 {
        unverified(
            &mut net,
            Eid::new(Default::default(), std::net::Ipv4Addr::from_bits(0x0e00_0000 + n).into()),
        );
    }
    assert!(asked(&mut net, id).len() <= 200);
}

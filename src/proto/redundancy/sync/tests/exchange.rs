//! What is told, by which mode, and who asks again.

use super::*;

#[test]
fn what_one_learns_the_other_knows_until_the_same_moment() {
    let mut net = pair(|_| ());
    net.learn(0, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.learn(0, "10.99.0.9", vec![negative("10.96.0.0/11", 15, Action::NativelyForward)]);
    net.run_for(SECOND);
    assert_same(&net, 0, 1);
    assert_eq!(source(&net, 1, "10.2.0.0/16"), Some(MapCacheSource::Synchronised));
    assert_eq!(net.nodes[1].paths(eid("10.2.0.9"))[0].0, ip("203.0.113.9"), "packets find their way at once");
    assert!(net.nodes[1].natives.contains(&prefix("10.96.0.0/11")), "negative ones too");
    let entry = net.nodes[1].control.map_cache_entry(&prefix("10.2.0.0/16")).unwrap();
    assert_eq!(entry.responder, Some(ip(ADDRESSES[0])));
    assert!(told(&net, 1).is_empty(), "nothing echoes");
    assert_eq!(requests(&net, 1), 0);
    // Half an hour later the negative one is gone at both, at the same time.
    net.run_for(14 * 60 * SECOND);
    assert_eq!((names(&net, 0).len(), names(&net, 1).len()), (2, 2));
    net.run_for(60 * SECOND);
    assert_eq!((names(&net, 0).len(), names(&net, 1).len()), (1, 1));
}

#[test]
fn a_packet_that_waits_for_a_mapping_does_so_no_more() {
    let mut net = pair(|_| ());
    net.packet(1, "10.1.0.9", eid("10.2.0.9"));
    assert_eq!(net.nodes[1].control.pending().count(), 1);
    net.learn(0, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(10 * MILLI);
    assert_eq!(net.nodes[1].control.pending().count(), 0);
    assert!(matches!(net.packet(1, "10.1.0.9", eid("10.2.0.9")), Some(FibAction::Forward(_))));
}

#[test]
fn smart_tells_what_changed_and_naive_everything() {
    for (mode, ack) in
        [(SyncMode::Smart, true), (SyncMode::Smart, false), (SyncMode::Naive, true), (SyncMode::Naive, false)]
    {
        let mut net = pair(|sync| (sync.mode, sync.ack) = (mode, ack));
        learn(&mut net, 0, 20, 100 * MILLI);
        assert_same(&net, 0, 1);
        let told = told(&net, 0);
        let records = told.iter().flat_map(|(_, sync)| &sync.records);
        let records = records.filter(|r| matches!(r, SyncRecord::Mapping(_))).count();
        let acks = net.sent_by(1).filter(|(_, _, m)| matches!(m, Message::CacheSyncAck(_))).count();
        let naive = mode == SyncMode::Naive;
        assert_eq!(told.len(), 20, "{mode:?}: one message each while all fits into one");
        assert_eq!(records, if naive { (1..=20).sum() } else { 20 }, "{mode:?}");
        assert!(told.iter().all(|(_, s)| (s.naive, s.smart, s.want_ack) == (naive, !naive, ack)), "{mode:?}");
        assert!(if ack { acks >= 20 } else { acks < 3 }, "{mode:?} {ack}: {acks}");
    }
}

#[test]
fn whoever_uses_an_entry_keeps_it_fresh_and_nobody_else_does() {
    // Used by its owner: he alone asks again, and the other follows.
    let mut net = pair(|_| ());
    let mut short = record("10.2.0.0/16", &["203.0.113.9"]);
    short.ttl.0 = 2;
    net.learn(0, "10.2.0.9", vec![short.clone()]);
    let run = |net: &mut Network, user: usize, seconds: u64| {
        for _ in 0..seconds {
            net.packet(user, "10.1.0.9", eid("10.2.0.9"));
            net.run_for(SECOND);
        }
    };
    run(&mut net, 0, 91);
    assert_eq!((requests(&net, 0), requests(&net, 1)), (2, 0), "asked again half a minute before the end");
    net.reply(0, vec![short.clone()]);
    net.run_for(SECOND);
    assert_same(&net, 0, 1);
    // Used by the other one, its owner not any more: that one asks, and becomes the owner.
    net.sent.clear();
    run(&mut net, 1, 110);
    assert_eq!(requests(&net, 0), 0);
    assert!(requests(&net, 1) > 0);
    net.reply(1, vec![short]);
    net.run_for(SECOND);
    assert_eq!(source(&net, 1, "10.2.0.0/16"), Some(MapCacheSource::MapReply));
    assert_eq!(source(&net, 0, "10.2.0.0/16"), Some(MapCacheSource::Synchronised));
    assert_same(&net, 0, 1);
    // Used by nobody: it is gone at both at once.
    net.run_for(121 * SECOND);
    assert!(names(&net, 0).is_empty() && names(&net, 1).is_empty());
}

#[test]
fn two_that_ask_at_once_agree_on_an_owner() {
    let mut net = pair(|_| ());
    for id in 0..2 {
        net.learn(id, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    }
    net.run_for(SECOND);
    assert_eq!(source(&net, 0, "10.2.0.0/16"), Some(MapCacheSource::MapReply), "the lower address");
    assert_eq!(source(&net, 1, "10.2.0.0/16"), Some(MapCacheSource::Synchronised));
    // What somebody asks for later is newer.
    net.run_for(10 * SECOND);
    net.packet(1, "10.1.0.9", eid("10.3.0.9"));
    net.reply(1, vec![record("10.3.0.0/16", &["203.0.113.9"])]);
    net.run_for(10 * SECOND);
    assert_eq!(source(&net, 0, "10.3.0.0/16"), Some(MapCacheSource::Synchronised));
    let changed = vec![record("10.3.0.0/16", &["203.0.113.77"])];
    let known = net.nodes[0].control.map_cache_entry(&prefix("10.3.0.0/16")).map(|e| e.mapping.clone());
    solicit(&mut net, 0, "10.3.0.0/16", "203.0.113.9");
    net.reply(0, changed);
    net.run_for(SECOND);
    let now_known = net.nodes[1].control.map_cache_entry(&prefix("10.3.0.0/16")).map(|e| e.mapping.clone());
    assert_ne!(now_known, known);
    assert_eq!(source(&net, 1, "10.3.0.0/16"), Some(MapCacheSource::Synchronised));
}

#[test]
fn a_member_displaces_nothing_that_carries_packets() {
    let mut net = pair_with_room_for_16();
    for n in 100..110 {
        let (destination, eid_prefix) = far(n);
        net.learn(1, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
        net.packet(1, "10.1.0.9", eid(&destination));
        net.run_for(2 * SECOND);
    }
    learn(&mut net, 0, 100, MILLI);
    net.run_for(5 * SECOND);
    let kept = names(&net, 1);
    assert!(kept.len() <= 16, "{kept:?}");
    for n in 100..110 {
        assert!(kept.contains(&far(n).1), "{kept:?}");
    }
}

//! The whole cache, for a member that (re)appears, and in naive mode.

use super::*;

#[test]
fn a_member_that_restarts_has_it_all_again() {
    for ack in [true, false] {
        let mut net = pair(|sync| sync.ack = ack);
        learn(&mut net, 0, 300, MILLI);
        net.run_for(60 * SECOND);
        let change = |sync: &mut SyncConfig| sync.ack = ack;
        // The one that only had copies; then the one that had asked itself.
        for (id, other) in [(1, 0), (0, 1)] {
            net.restart(id, with(id, 2, change));
            assert!(names(&net, id).is_empty());
            let took = net.run_until(2 * SECOND, |net| !member(net, id, other).is_awaited());
            assert!(took.is_some_and(|took| took < 200 * MILLI), "{took:?}");
            assert_same(&net, 0, 1);
            let received = member(&net, id, other).received.expect("a transfer");
            assert_eq!(received.records, 300);
            assert_eq!(source(&net, id, "10.2.0.0/24"), Some(MapCacheSource::Synchronised));
        }
        // What was lost and came back is no reason to tell it again.
        net.sent.clear();
        net.run_for(60 * SECOND);
        assert!(told(&net, 0).is_empty() && told(&net, 1).is_empty());
    }
}

#[test]
fn a_transfer_survives_loss_and_one_lost_message_does_not_hold_it_up() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 2000, MILLI / 10);
    net.run_for(SECOND);
    net.faults.loss = 0.05;
    net.restart(1, config(1, 2));
    let took = net.run_until(60 * SECOND, |net| !member(net, 1, 0).is_awaited()).expect("it completes");
    assert_same(&net, 0, 1);
    assert!(took < 20 * SECOND, "{took:?}");
    assert!(net.sent_by(0).all(|(_, transmit, _)| transmit.payload.len() <= 1400));
}

#[test]
fn many_entries_reach_a_fresh_member_within_a_moment() {
    let mut net = pair(|_| ());
    learn_sites(&mut net, 0, 40, 249);
    net.run_for(5 * SECOND);
    net.restart(1, config(1, 2));
    let (mut most, mut listed) = (0, 0);
    let start = net.now;
    while member(&net, 1, 0).is_awaited() {
        net.run_for(MILLI);
        most = most.max(member(&net, 0, 1).outstanding());
        listed = listed.max(member(&net, 0, 1).out.listed());
        assert!(net.now.saturating_since(start) < 2 * SECOND);
    }
    assert_eq!(names(&net, 1).len(), 10_000);
    // Tenfold that at a round trip of 2 ms is well below 2 s, and what is under way fits any receive buffer.
    let took = net.now.saturating_since(start);
    assert!(took < 200 * MILLI && (33..=64).contains(&most), "{took:?} {most}");
    assert!((1000..2000).contains(&listed), "never are all listed at once: {listed}");
    assert_same(&net, 0, 1);
}

#[test]
fn who_was_cut_off_gets_what_he_missed() {
    let mut net = pair(|sync| sync.ack = false);
    learn(&mut net, 0, 5, MILLI);
    net.dark.insert(ip(ADDRESSES[1]));
    net.run_for(30 * SECOND);
    assert_eq!(member(&net, 0, 1).state, MemberState::Silent);
    learn(&mut net, 0, 50, MILLI);
    for n in 50..60 {
        let (destination, eid_prefix) = far(n);
        net.learn(1, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
    }
    net.sent.clear();
    net.run_for(30 * SECOND);
    assert!(told(&net, 0).is_empty(), "nobody talks to who does not answer");
    net.dark.clear();
    net.run_for(3 * SECOND);
    assert_eq!(names(&net, 0).len(), 60);
    assert_same(&net, 0, 1);
}

#[test]
fn three_members_know_the_same_and_a_dead_one_is_missed_by_nobody() {
    let mut net = Network::new(5);
    for (n, address) in ADDRESSES.iter().enumerate() {
        net.add(&[address], config(n, 3));
    }
    net.run_for(SECOND);
    for n in 0..30 {
        let (destination, eid_prefix) = far(n);
        net.learn(n % 3, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
        net.run_for(10 * MILLI);
    }
    net.run_for(SECOND);
    for other in 1..3 {
        assert_eq!(names(&net, 0).len(), 30);
        assert_same(&net, 0, other);
    }
    // One dies for good, another starts anew: the third has what either knew.
    net.dark.insert(ip(ADDRESSES[2]));
    net.run_for(20 * SECOND);
    net.restart(0, config(0, 3));
    net.run_for(SECOND);
    assert_eq!(names(&net, 0).len(), 30);
    assert_same(&net, 0, 1);
}

#[test]
fn a_naive_round_replaces_what_was_told_before() {
    for ack in [true, false] {
        let mut net = pair(|sync| (sync.mode, sync.ack) = (SyncMode::Naive, ack));
        // What the other one has found out itself, or has from a third one, is none of its business.
        net.learn(1, "10.7.0.9", vec![record("10.7.0.0/16", &["203.0.113.9"])]);
        learn(&mut net, 0, 100, 10 * MILLI);
        net.learn(0, "10.9.3.9", vec![record("10.9.3.0/24", &["203.0.113.66"])]);
        net.run_for(2 * SECOND);
        assert_eq!(names(&net, 1).len(), 102);
        net.dark.insert(ip(ADDRESSES[1]));
        solicit(&mut net, 0, "10.9.3.0/24", "203.0.113.66");
        net.reply(0, vec![record("10.9.0.0/16", &["203.0.113.9"])]);
        net.run_for(100 * MILLI);
        net.dark.clear();
        assert!(names(&net, 1).contains(&"10.9.3.0/24".to_owned()));
        net.learn(0, "10.11.0.9", vec![record("10.11.0.0/16", &["203.0.113.9"])]);
        net.run_for(5 * SECOND);
        assert_eq!(names(&net, 1), names(&net, 0), "{ack}");
        assert_eq!(names(&net, 1).len(), 103, "{ack}");
    }
}

#[test]
fn a_member_may_restart_amid_a_transfer() {
    // The one that is told, and then the one that tells.
    for who in [1, 0] {
        let mut net = pair(|_| ());
        learn_sites(&mut net, 0, 20, 249);
        net.run_for(SECOND);
        net.restart(1, config(1, 2));
        net.run_until(SECOND, |net| names(net, 1).len() > 1000).expect("it has begun");
        assert!(member(&net, 1, 0).is_awaited());
        let told = names(&net, 1).len();
        assert!(told < 4000, "{told}");
        net.restart(who, config(who, 2));
        net.run_for(5 * SECOND);
        assert_same(&net, 0, 1);
        let least = if who == 1 { 5000 } else { told };
        assert!(names(&net, 0).len() >= least, "{who}: {} of {least}", names(&net, 0).len());
        for id in 0..2 {
            assert!(!member(&net, id, 1 - id).is_awaited() && member(&net, id, 1 - id).outstanding() == 0);
        }
        // No more is missing than before, and news arrive either way.
        net.learn(0, "10.200.0.9", vec![record("10.200.0.0/16", &["203.0.113.9"])]);
        net.learn(1, "10.201.0.9", vec![record("10.201.0.0/16", &["203.0.113.9"])]);
        net.run_for(SECOND);
        assert_same(&net, 0, 1);
    }
}

#[test]
fn two_that_restart_at_once_have_it_all_from_a_third() {
    let mut net = three(|_| ());
    learn_sites(&mut net, 0, 4, 249);
    learn_some(&mut net, 1, 5000..5100, MILLI);
    net.run_for(SECOND);
    assert_eq!(names(&net, 2).len(), 1100);
    for id in 0..2 {
        net.restart(id, config(id, 3));
    }
    net.run_for(3 * SECOND);
    for id in 0..2 {
        assert_eq!(names(&net, id).len(), 1100);
        assert_same(&net, id, 2);
        assert!((0..3).filter(|other| *other != id).all(|other| !member(&net, id, other).is_awaited()));
    }
    // All at once: nobody knows anything, and nobody waits for it.
    for id in 0..3 {
        net.restart(id, config(id, 3));
    }
    net.run_for(5 * SECOND);
    for id in 0..3 {
        assert!(names(&net, id).is_empty());
        assert!((0..3).filter(|other| *other != id).all(|other| !member(&net, id, other).is_awaited()));
    }
    learn(&mut net, 2, 10, MILLI);
    net.run_for(SECOND);
    assert_same(&net, 0, 2);
    assert_eq!(names(&net, 1).len(), 10);
}

#[test]
fn what_a_member_has_no_longer_goes_step_by_step() {
    let mut net = pair(|_| ());
    learn_sites(&mut net, 0, 40, 249);
    net.learn(1, "10.200.0.9", vec![record("10.200.0.0/16", &["203.0.113.9"])]);
    net.run_for(5 * SECOND);
    assert_eq!(names(&net, 1).len(), 10_001);
    net.dark.insert(ip(ADDRESSES[1]));
    net.run_for(30 * SECOND);
    net.handle(0, Input::Command(Command::ClearMapCache(None)));
    net.learn(0, "10.201.0.9", vec![record("10.201.0.0/16", &["203.0.113.9"])]);
    net.dark.clear();
    let mut seen = Vec::new();
    for _ in 0..3000 {
        net.run_for(MILLI);
        seen.push(net.nodes[1].control.map_cache_len());
    }
    // Some thousand entries at a time, and what it did not tell stays.
    let drops = seen.windows(2).filter(|pair| pair[1] + 1000 < pair[0]).count();
    assert!((2..10).contains(&drops), "{drops}");
    assert_eq!(names(&net, 1), ["10.200.0.0/16", "10.201.0.0/16"]);
}

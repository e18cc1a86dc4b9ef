//! Who the members are, how they change, and their keys.

use super::*;

#[test]
fn both_families_carry_it() {
    let mut net = Network::new(3);
    let addresses = ["2001:db8::1", "2001:db8::2"];
    for n in 0..2 {
        let mut config = config(n, 2);
        config.sync = Some(SyncConfig {
            source: Some(ip(addresses[n])),
            ..SyncConfig::new(vec![ip(addresses[1 - n])], vec![key("site")])
        });
        net.add(&[ADDRESSES[n], addresses[n]], config);
    }
    net.run_for(SECOND);
    learn(&mut net, 0, 3, MILLI);
    net.run_for(SECOND);
    assert_eq!(names(&net, 1).len(), 3);
}

#[test]
fn other_members_and_no_more_synchronisation_by_reload() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 3, MILLI);
    net.run_for(SECOND);
    let mut off = config(1, 2);
    off.sync = None;
    net.reload(1, off);
    assert_eq!(net.nodes[1].control.sync_members().count(), 0);
    assert_eq!(names(&net, 1).len(), 3, "what is known stays");
    net.learn(0, "10.9.0.9", vec![record("10.9.0.0/16", &["203.0.113.9"])]);
    net.run_for(30 * SECOND);
    assert_eq!(names(&net, 1).len(), 3);
    assert!(net.nodes[1].dropped(DropReason::SyncStranger) > 0);
    assert_eq!(member(&net, 0, 1).state, MemberState::Silent);
    net.reload(1, config(1, 2));
    net.run_for(3 * SECOND);
    assert_eq!(names(&net, 1).len(), 4);
}

#[test]
fn a_key_can_be_changed_without_a_gap() {
    let mut net = pair(|_| ());
    let new = || crate::auth::Key { id: 2, ..key("new") };
    let mut known = 0;
    for keys in [vec![key("site"), new()], vec![new(), key("site")], vec![new()]] {
        for id in 0..2 {
            net.reload(id, with(id, 2, |sync| sync.keys = keys.clone()));
            // What is learnt meanwhile arrives at once, also where the next step follows soon.
            for learner in 0..2 {
                learn_some(&mut net, learner, known..known + 3, MILLI);
                known += 3;
            }
            net.run_for(if id == 0 { 5 * MILLI } else { 15 * SECOND });
            assert_eq!(names(&net, 0).len(), known);
            assert_same(&net, 0, 1);
        }
    }
    for id in 0..2 {
        assert_eq!(member(&net, id, 1 - id).state, MemberState::Up);
        assert_eq!(member(&net, id, 1 - id).counters.repeated, 0);
        assert!(!net.nodes[id].events.iter().any(|e| matches!(e, Event::SyncMember { up: false, .. })));
    }
    let other = with(1, 2, |sync| sync.keys = vec![key("wrong")]);
    net.reload(1, other);
    net.run_for(30 * SECOND);
    assert_eq!(member(&net, 1, 0).state, MemberState::Silent);
    assert!(ignored(&net, 1, 0, DropReason::AuthKeyId) + ignored(&net, 1, 0, DropReason::AuthMac) > 0);
}

#[test]
fn one_list_of_members_serves_all_routers_of_a_site() {
    let mut net = Network::new(3);
    for address in &ADDRESSES[..2] {
        let mut config = config(0, 1);
        config.sync = Some(SyncConfig::new(vec![ip(ADDRESSES[0]), ip(ADDRESSES[1])], vec![key("site")]));
        net.add(&[address], config);
    }
    net.run_for(SECOND);
    net.learn(0, "10.2.0.9", vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(60 * SECOND);
    assert_eq!(names(&net, 1), ["10.2.0.0/16"]);
    for id in 0..2 {
        assert_eq!(member(&net, id, id).state, MemberState::Ourselves);
        assert!(!member(&net, id, id).is_awaited());
        assert_eq!(member(&net, id, 1 - id).state, MemberState::Up);
        let said = net.nodes[id].events.iter().filter(|e| matches!(e, Event::SyncOurselves { .. })).count();
        assert_eq!(said, 1);
        assert!(!net.nodes[id].events.iter().any(|e| matches!(e, Event::SyncMember { up: false, .. })));
    }
}

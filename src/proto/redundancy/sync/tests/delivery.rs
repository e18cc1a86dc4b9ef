//! Loss, duplication, reordering, and paths on which messages do not arrive at all.

use super::*;

#[test]
fn loss_duplication_and_reordering_are_made_good() {
    for seed in 0..5 {
        let mut net = Network::new(seed);
        net.faults = Faults { loss: 0.3, duplication: 0.3, delay: (MILLI, 300 * MILLI) };
        for (n, address) in ADDRESSES.iter().take(2).enumerate() {
            net.add(&[address], config(n, 2));
        }
        learn(&mut net, 0, 60, 50 * MILLI);
        learn_some(&mut net, 1, 60..80, 50 * MILLI);
        for n in (0..5).chain(60..65) {
            withdraw(&mut net, n / 60, &far(n).1, "203.0.113.9");
            net.run_for(SECOND);
        }
        // Some move.
        for n in 10..15 {
            solicit(&mut net, 1, &far(n).1, "203.0.113.9");
            net.reply(1, vec![record(&far(n).1, &["203.0.113.44"])]);
            net.run_for(SECOND);
        }
        // A member that does not answer for long is given up, and gets everything later.
        net.faults.loss = 0.0;
        net.run_for(90 * SECOND);
        assert_eq!(names(&net, 0).len(), 70, "seed {seed}");
        assert_alike(&net, 0, 1, 400 * MILLI);
        for n in 10..15 {
            assert_eq!(net.nodes[0].paths(eid(&far(n).0))[0].0, ip("203.0.113.44"));
        }
        assert!(member(&net, 0, 1).counters.repeated > 0);
        assert!(member(&net, 0, 1).outstanding() == 0 && !member(&net, 0, 1).is_awaited());
    }
}

#[test]
fn what_waits_for_room_costs_nothing_until_there_is_some() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 5000, Duration::ZERO);
    net.dark.insert(ip(ADDRESSES[1]));
    // None of this is acknowledged: most of it waits.
    for outer in 50..150 {
        let records = (0..250).map(|n| record(&format!("10.{outer}.{n}.0/24"), &["203.0.113.77"]));
        net.learn(0, &format!("10.{outer}.0.9"), records.collect());
    }
    let under_way = member(&net, 0, 1).outstanding();
    assert!((outgoing::WINDOW..=outgoing::WIDEST).contains(&under_way), "{under_way}");
    let looks = |net: &Network| member(net, 0, 1).out.looks;
    let before = looks(&net);
    for n in 0..1000u32 {
        net.packet(0, "10.1.0.9", eid(&format!("10.200.{}.{}", n / 250, n % 250)));
    }
    assert_eq!(looks(&net), before, "packets that have nothing to do with it");
    // What is sent in the end was looked at once or twice.
    net.dark.clear();
    net.run_for(20 * SECOND);
    assert_eq!(names(&net, 1), names(&net, 0));
    assert!(looks(&net) < 60_000, "{}", looks(&net));
}

#[test]
fn without_acknowledgements_nothing_is_so_urgent_that_it_floods() {
    let mut net = pair(|sync| sync.ack = false);
    // Each is told by a message of its own.
    learn(&mut net, 0, 100, Duration::ZERO);
    let at_once = told(&net, 0).len();
    assert!(at_once <= 32, "{at_once}");
    net.run_for(5 * SECOND);
    assert_same(&net, 0, 1);
    assert_eq!(names(&net, 1).len(), 100);
}

fn unacknowledged(net: &Network, id: usize) -> usize {
    net.nodes[id].events.iter().filter(|e| matches!(e, Event::SyncUnacknowledged { .. })).count()
}

#[test]
fn where_large_messages_do_not_arrive_smaller_ones_do() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 300, MILLI);
    net.mtu = 800;
    net.restart(1, config(1, 2));
    net.run_for(10 * SECOND);
    assert!(names(&net, 1).len() < 100, "the last message is not full");
    net.run_for(5 * SECOND);
    assert_same(&net, 0, 1);
    assert_eq!(names(&net, 1).len(), 300);
    assert_eq!((member(&net, 0, 1).state, unacknowledged(&net, 0)), (MemberState::Up, 1));
    let text = net.nodes[0]
        .events
        .iter()
        .find(|e| matches!(e, Event::SyncUnacknowledged { .. }))
        .unwrap()
        .to_string();
    assert!(text.contains("1400 bytes") && text.contains("MTU"), "{text}");
    assert!(
        !net.nodes[0].events.iter().any(|e| matches!(e, Event::SyncMember { up: false, .. })),
        "it was there"
    );
    // It stays so: what comes next arrives at once.
    let records = (0..250).map(|n| record(&format!("10.9.{n}.0/24"), &["203.0.113.9"]));
    net.learn(0, "10.9.0.9", records.collect());
    net.run_for(SECOND);
    assert_same(&net, 0, 1);
    net.sent.clear();
    net.run_for(60 * SECOND);
    assert!(told(&net, 0).is_empty() && unacknowledged(&net, 0) == 1);
}

#[test]
fn where_only_hellos_arrive_little_else_is_sent() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 300, MILLI);
    net.run_for(SECOND);
    net.mtu = 100;
    net.restart(1, config(1, 2));
    net.sent.clear();
    net.run_for(600 * SECOND);
    assert!(names(&net, 1).is_empty());
    assert_eq!((member(&net, 0, 1).state, member(&net, 1, 0).state), (MemberState::Deaf, MemberState::Up));
    // The first attempt, four times what may be under way; and then ever more rarely one message, four times.
    let (messages, attempts) = (told(&net, 0).len(), unacknowledged(&net, 0));
    assert!((8..14).contains(&attempts), "{attempts}");
    assert!(messages <= 4 * (outgoing::WINDOW + attempts), "{messages}");
    net.mtu = usize::MAX;
    net.run_for(75 * SECOND);
    assert_same(&net, 0, 1);
    assert_eq!(names(&net, 1).len(), 300);
    assert_eq!(member(&net, 0, 1).state, MemberState::Up);
}

#[test]
fn a_mapping_that_never_arrives_holds_up_no_other() {
    let mut net = pair(|_| ());
    learn(&mut net, 0, 100, MILLI);
    let many: Vec<String> = (1..65).map(|n| format!("203.0.113.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    net.learn(0, "10.9.0.9", vec![record("10.9.0.0/16", &many)]);
    net.run_for(SECOND);
    assert_same(&net, 0, 1);
    net.mtu = 800;
    net.restart(1, config(1, 2));
    net.run_for(60 * SECOND);
    assert_eq!(names(&net, 1).len(), 100);
    assert_eq!((member(&net, 0, 1).state, unacknowledged(&net, 0)), (MemberState::Up, 2));
    // With another session, it is tried again.
    net.mtu = usize::MAX;
    net.restart(1, config(1, 2));
    net.run_for(5 * SECOND);
    assert_same(&net, 0, 1);
}

#[test]
fn who_is_not_there_at_all_is_no_riddle() {
    let mut net = pair(|_| ());
    net.dark.insert(ip(ADDRESSES[1]));
    learn(&mut net, 0, 10, MILLI);
    net.run_for(12 * SECOND);
    assert_eq!((member(&net, 0, 1).state, unacknowledged(&net, 0)), (MemberState::Silent, 0));
    // A short break is neither.
    net.dark.clear();
    net.run_for(5 * SECOND);
    net.nodes[0].events.clear();
    net.dark.insert(ip(ADDRESSES[1]));
    learn_some(&mut net, 0, 10..20, MILLI);
    net.run_for(6 * SECOND);
    net.dark.clear();
    net.run_for(5 * SECOND);
    assert_same(&net, 0, 1);
    assert!(
        net.nodes[0].events.iter().all(|e| !matches!(e, Event::SyncMember { .. })),
        "{:?}",
        net.nodes[0].events
    );
    assert_eq!(unacknowledged(&net, 0), 0);
}

//! Mappings inside others: the outer one must not have the packets of an inner one that others know (RFC 9301 §5.5).

use super::*;

const OUTER: &str = "10.2.0.0/16";
const INNER: &str = "10.2.3.0/24";

fn outer() -> EidRecord {
    record(OUTER, &["203.0.113.9"])
}

fn inner() -> EidRecord {
    record(INNER, &["203.0.113.77"])
}

#[test]
fn an_inner_mapping_without_room_takes_those_around_it_along() {
    let mut net = pair_with_room_for_16();
    net.learn(0, "10.2.9.9", vec![outer()]);
    net.run_for(SECOND);
    assert_eq!(names(&net, 1), [OUTER]);
    net.packet(1, "10.1.0.9", eid("10.2.9.9"));
    for n in 1000..1015 {
        let (destination, eid_prefix) = far(n);
        net.learn(1, &destination, vec![record(&eid_prefix, &["203.0.113.9"])]);
        net.packet(1, "10.1.0.9", eid(&destination));
        net.run_for(MILLI);
    }
    assert_eq!(names(&net, 1).len(), 16);
    solicit(&mut net, 0, OUTER, "203.0.113.9");
    net.reply(0, vec![outer(), inner()]);
    net.run_for(10 * MILLI);
    assert_eq!(names(&net, 0)[..2], [OUTER, INNER]);
    assert!(!names(&net, 1).contains(&OUTER.to_owned()), "{:?}", names(&net, 1));
    assert_eq!(ignored(&net, 1, 0, DropReason::SyncFull), 1);
    assert_eq!(ignored(&net, 1, 0, DropReason::SyncInside), 1);
    assert!(net.packet(1, "10.1.0.9", eid("10.2.3.9")).is_none(), "it is asked for");
}

#[test]
fn an_outer_mapping_waits_for_the_inner_ones() {
    for ack in [true, false] {
        let mut net = pair(|sync| sync.ack = ack);
        net.dark.insert(ip(ADDRESSES[1]));
        net.learn(0, "10.2.3.9", vec![inner()]);
        net.run_for(10 * MILLI);
        net.dark.clear();
        net.learn(0, "10.2.9.9", vec![outer()]);
        net.run_for(100 * MILLI);
        assert!(names(&net, 1).is_empty(), "{:?}", names(&net, 1));
        assert_eq!(ignored(&net, 1, 0, DropReason::SyncInside), 1);
        net.run_for(2 * SECOND);
        if ack {
            // The inner one was told again.
            assert_eq!(names(&net, 1), [OUTER, INNER]);
            assert_same(&net, 0, 1);
        } else {
            assert!(net.packet(1, "10.1.0.9", eid("10.2.3.9")).is_none(), "it is asked for");
            net.reply(1, vec![inner()]);
            net.run_for(SECOND);
            assert_eq!(names(&net, 1), [INNER]);
        }
    }
}

#[test]
fn what_waits_does_so_for_some_seconds_and_not_against_what_is_newer() {
    // Withdrawn; learnt anew elsewhere; and the inner one comes only much later.
    for case in 0..3 {
        let mut net = pair(|sync| sync.ack = false);
        net.dark.insert(ip(ADDRESSES[1]));
        net.learn(0, "10.2.3.9", vec![inner()]);
        net.run_for(10 * MILLI);
        net.dark.clear();
        net.learn(0, "10.2.9.9", vec![outer()]);
        net.run_for(100 * MILLI);
        let expected: &[&str] = match case {
            0 => {
                withdraw(&mut net, 0, OUTER, "203.0.113.9");
                &[INNER]
            }
            1 => {
                net.run_for(3 * SECOND);
                net.learn(1, "10.2.9.9", vec![record(OUTER, &["203.0.113.88"])]);
                &[OUTER, INNER]
            }
            _ => {
                net.run_for(15 * SECOND);
                &[INNER]
            }
        };
        net.run_for(100 * MILLI);
        net.learn(1, "10.2.3.9", vec![inner()]);
        solicit(&mut net, 0, INNER, "203.0.113.77");
        net.reply(0, vec![inner()]);
        net.run_for(100 * MILLI);
        assert_eq!(names(&net, 1), expected, "{case}");
        if case == 1 {
            assert_eq!(net.nodes[1].paths(eid("10.2.9.9"))[0].0, ip("203.0.113.88"));
        }
    }
}

#[test]
fn no_outer_mapping_is_ever_there_without_the_inner_ones_during_a_transfer() {
    for (loss, latest) in [(0.1, 10 * MILLI), (0.05, 30 * MILLI)] {
        let mut net = pair(|_| ());
        learn_sites(&mut net, 0, 12, 120);
        net.run_for(2 * SECOND);
        assert_same(&net, 0, 1);
        net.faults = Faults { loss, duplication: 0.0, delay: (10 * MILLI, latest) };
        net.restart(1, config(1, 2));
        let (mut parts, mut before) = (0, 0);
        for _ in 0..2000 {
            net.run_for(2 * MILLI);
            if net.nodes[1].control.map_cache_len() == before {
                continue;
            }
            let there = names(&net, 1);
            before = there.len();
            parts += 1;
            for outer in there.iter().filter_map(|name| name.strip_suffix(".0.0/16")) {
                let inside = there.iter().filter(|name| name.starts_with(&format!("{outer}.")));
                assert_eq!(inside.count(), 121, "{outer}");
            }
        }
        assert!(parts > 3, "{parts}");
        net.faults = Faults::default();
        net.run_for(30 * SECOND);
        assert_alike(&net, 0, 1, 100 * MILLI);
        assert_eq!(names(&net, 1).len(), 12 * 121);
    }
}

#[test]
fn who_has_thrown_the_inner_mappings_out_asks_for_all_but_rarely() {
    let mut net = pair(|_| ());
    net.learn(0, "10.2.3.9", vec![inner()]);
    net.learn(0, "10.2.9.9", vec![outer()]);
    net.run_for(700 * SECOND);
    assert_eq!(names(&net, 1), [OUTER, INNER]);
    let again = |net: &mut Network| {
        net.handle(1, Input::Command(Command::ClearMapCache(None)));
        // The outer one is in use, and prolonged; that is not asked of the inner one alone.
        solicit(net, 0, OUTER, "203.0.113.9");
        let asked = net.sent_by(0).filter(|(_, _, m)| matches!(m, Message::Ecm(_)));
        let asked = asked.map(|(_, _, m)| crate::proto::testing::inner(m).1);
        let about_outer =
            asked.filter(|request| !prefix(INNER).covers(&request.records[0].to_prefix().unwrap()));
        let nonce = about_outer.last().expect("a Map-Request").nonce;
        net.reply_nonce(0, nonce, vec![outer()]);
        net.run_for(5 * SECOND);
        assert!(names(net, 1).is_empty(), "{:?}", names(net, 1));
        net.run_for(15 * SECOND);
    };
    again(&mut net);
    assert_same(&net, 0, 1);
    assert_eq!(names(&net, 1), [OUTER, INNER]);
    assert!(!member(&net, 1, 0).is_awaited());
    // Again so soon, it waits until a packet asks.
    net.sent.clear();
    again(&mut net);
    net.run_for(120 * SECOND);
    assert!(names(&net, 1).is_empty());
    assert!(told(&net, 0).iter().all(|(_, sync)| !sync.transfer));
}
